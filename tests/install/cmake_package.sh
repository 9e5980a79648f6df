#!/bin/sh
# cmake_package.sh PREFIX WORK GENERATOR CC: a project that finds the installed CMake package and uses both libraries.
set -eu
prefix=$1 work=$2 generator=$3 cc=$4
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$work"
mkdir -p "$work/source"
cp "$here/use_macros.c" "$work/source/main.c"
cat >"$work/source/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES C)
find_package(stellane-fiber 0.1 REQUIRED)
add_executable(with_shared main.c)
target_link_libraries(with_shared PRIVATE stellane::fiber)
add_executable(with_static main.c)
target_link_libraries(with_static PRIVATE stellane::fiber-static)
END
build() {
    cmake -S "$work/source" -B "$work/build" -G "$generator" -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$prefix"
    cmake --build "$work/build" --verbose
}
build >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
grep -q -- -fstack-clash-protection "$work/log" || {
    echo "user code is not compiled with -fstack-clash-protection"
    exit 1
}
timeout 60 "$work/build/with_shared"
timeout 60 "$work/build/with_static"
