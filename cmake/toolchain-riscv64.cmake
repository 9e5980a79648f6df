# RISC-V with 64 bits, from another machine: Debian's cross compiler, tests under qemu-user (packages
# gcc-riscv64-linux-gnu, libc6-dev-riscv64-cross and qemu-user; preset riscv64). For clang: -DCMAKE_C_COMPILER=clang.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
include(${CMAKE_CURRENT_LIST_DIR}/cross.cmake)
