# AArch64, from another machine: Debian's cross compiler, tests under qemu-user (packages gcc-aarch64-linux-gnu,
# libc6-dev-arm64-cross and qemu-user; preset aarch64). For clang: -DCMAKE_C_COMPILER=clang.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
include(${CMAKE_CURRENT_LIST_DIR}/cross.cmake)
