#!/bin/bash
# build_and_run.sh PREFIX WORK CC NAME: builds one program with what pkg-config says about the tree installed in PREFIX,
# and nothing else, and runs it as its NAME asks.
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

# serve PROGRAM [ARGUMENT...]: starts a server; its port goes into $port, it ends with this script.
server=
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null || true' EXIT
serve() {
    "$@" >server.out &
    server=$!
    for _ in $(seq 600); do
        port=$(sed -n 's/^listening on port //p' server.out)
        [ -z "$port" ] || return 0
        kill -0 "$server" 2>/dev/null || fail "the server ended by itself"
        sleep 0.1
    done
    fail "the server does not say its port"
}

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
tcp_echo_server) # and tcp_client: they test each other
    build tcp_echo_server "$root/examples/tcp_echo_server.c"
    build tcp_client "$root/examples/tcp_client.c"
    serve ./tcp_echo_server 127.0.0.1:0
    echo_by_bash "$port"
    timeout 60 ./tcp_client "127.0.0.1:$port" 200 >out || fail "the client failed: $(cat out)"
    expect out '^200 answered, 0 failed'
    kill -9 "$server"
    wait "$server" 2>/dev/null || true # and take the shell's word that it was killed
    server=
    if timeout 60 ./tcp_client "127.0.0.1:$port" 3 >out 2>err; then fail "success without a server"; fi
    expect out '^0 answered, 3 failed'
    expect err 'refused'
    ;;
countdown)
    build countdown "$root/examples/countdown.c"
    timeout 60 ./countdown >out || fail "exit code $?"
    [ "$(grep -c ': done on worker' out)" = 10 ] || fail "not ten tasks: $(cat out)"
    [ "$(grep -Ec '^task [0-9]: [1-5]$' out)" = 50 ] || fail "not fifty ticks: $(cat out)"
    # At least what the sleeps take; how much longer is the machine's affair.
    expect out '^10 tasks in ([5-9][0-9][0-9]|[0-9]{4,}) ms$'
    ;;
stats)
    build stats "$root/examples/stats.c"
    timeout 60 ./stats >out || fail "exit code $?"
    expect out '^afterwards: backend epoll'
    expect out ' 0 alive, 1000 ended, of these 10 failed'
    ;;
pipeline)
    build pipeline "$root/examples/pipeline.c"
    timeout 60 ./pipeline >out || fail "exit code $?"
    expect out '^the sum of the first 1000 squares is 333833500$'
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
