#!/bin/bash
# build_and_run.sh PREFIX WORK CC NAME: builds one program with what pkg-config says about the tree installed in PREFIX,
# and nothing else, and runs it as its NAME asks. The examples have a driver of their own, examples.py.
set -eu
prefix=$1 work=$2 cc=$3 name=$4
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "$work"
cd "$work"
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name stellane-fiber.pc)")
export PKG_CONFIG_PATH
LD_LIBRARY_PATH=$(pkg-config --variable=libdir stellane-fiber)
export LD_LIBRARY_PATH

fail() {
    echo "$name: $*"
    exit 1
}

# build OUTPUT SOURCE [--static]: as a user would
build() {
    local flags libs
    flags=$(pkg-config --cflags stellane-fiber)
    if [ "${3:-}" = --static ]; then
        libs="-Wl,-Bstatic $(pkg-config --libs stellane-fiber) -Wl,-Bdynamic $(pkg-config --static --libs stellane-fiber |
            sed 's/-lstellane-fiber//')"
    else
        libs=$(pkg-config --libs stellane-fiber)
    fi
    # shellcheck disable=SC2086
    $cc -O2 -Wall -Wextra -Werror $flags "$2" $libs -o "$1" || fail "does not build"
}

server= # ends with this script
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null || true' EXIT

expect() { # expect FILE PATTERN
    grep -Eq "$2" "$1" || {
        cat "$1"
        fail "expected: $2"
    }
}

# A line to the server and back, without any program of ours.
echo_by_bash() { # echo_by_bash PORT
    local line
    exec 9<>"/dev/tcp/127.0.0.1/$1"
    echo "a line there and back" >&9
    read -r -t 60 line <&9
    exec 9>&-
    [ "$line" = "a line there and back" ] || fail "the echo was: $line"
}

case $name in
module) # a module is found beside the library, without a variable, also in a tree that was moved
    cat >module.c <<'END'
#include <stdio.h>
#include <stellane/backend.h>

int main(void) {
    char why[256];
    int rc = stel_backend_probe("libuv", why, sizeof why);
    puts(why);
    return rc == 0 ? 0 : 1;
}
END
    build module module.c
    libraries=$LD_LIBRARY_PATH
    [ -e "$libraries/stellane/stellane-backend-libuv.so" ] || { echo "libuv's module was not built: skipped"; exit 77; }
    unset STELLANE_MODULE_PATH
    ./module >out || fail "not found beside the library: $(cat out)"
    expect out '^libuv [0-9]+\.'
    rm -rf moved
    mkdir moved
    cp -a "$libraries"/libstellane-fiber.so* "$libraries/stellane" moved/
    LD_LIBRARY_PATH=$PWD/moved ./module >out || fail "not found in a tree that was moved: $(cat out)"
    STELLANE_MODULE_PATH=/nowhere ./module >out && fail "found although the path leads nowhere"
    expect out '^there is no stellane-backend-libuv\.so in /nowhere$'
    ;;
first_program) # the first C block of the README; it listens on port 7000
    awk '/^```c$/ { on = 1; next } /^```/ { if (on) exit } on' "$root/README.md" >first_program.c
    grep -q stel_listen first_program.c || fail "the README's first program is not there"
    build first_program first_program.c
    if (exec 9<>/dev/tcp/127.0.0.1/7000) 2>/dev/null; then
        echo "port 7000 is in use: skipped"
        exit 77
    fi
    ./first_program &
    server=$!
    for _ in $(seq 600); do
        if (exec 9<>/dev/tcp/127.0.0.1/7000) 2>/dev/null; then break; fi
        kill -0 "$server" 2>/dev/null || fail "ended by itself"
        sleep 0.1
    done
    echo_by_bash 7000
    ;;
macros)
    build macros "$here/use_macros.c"
    timeout 60 ./macros || fail "exit code $?"
    ;;
macros_cxx) # CC is a C++ compiler here
    cc="$cc -std=c++17"
    cp "$here/use_macros.c" use_macros.cc
    build macros_cxx use_macros.cc
    timeout 60 ./macros_cxx || fail "exit code $?"
    ;;
cxx) # CC is a C++ compiler here
    cc="$cc -std=c++17"
    build cxx "$here/use_cxx.cc"
    timeout 120 ./cxx >out || fail "exit code $?"
    expect out '^[0-9]+ exceptions handled'
    # Run in a shell of its own, which tells of the abort in a file and not on our stderr.
    if sh -c 'timeout 60 ./cxx escapes' >out 2>&1; then fail "an exception left a fiber without a trace"; fi
    expect out 'terminat'
    expect out 'nobody catches this'
    ;;
static)
    build static "$here/use_macros.c" --static
    timeout 60 ./static || fail "exit code $?"
    readelf -d static >out
    if grep -Eq 'stellane|stdc\+\+|boost' out; then fail "not static: $(cat out)"; fi
    ;;
*)
    fail "what is that?"
    ;;
esac
