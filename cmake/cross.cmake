# What the toolchain files share: compiler, root and emulator from CMAKE_SYSTEM_PROCESSOR, as Debian's cross packages
# have them.
set(triplet ${CMAKE_SYSTEM_PROCESSOR}-linux-gnu)
set(root /usr/${triplet})
if(NOT CMAKE_C_COMPILER)
    set(CMAKE_C_COMPILER ${triplet}-gcc)
endif()
set(CMAKE_CXX_COMPILER ${triplet}-g++) # if anybody asks; never the building machine's own
# Understood by clang, not used with gcc. Without the architecture clang 14 takes RISC-V's smallest.
set(CMAKE_C_COMPILER_TARGET ${triplet})
set(CMAKE_ASM_COMPILER_TARGET ${triplet})
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "riscv64")
    set(CMAKE_C_FLAGS_INIT -march=rv64gc)
    set(CMAKE_ASM_FLAGS_INIT -march=rv64gc)
endif()

set(CMAKE_FIND_ROOT_PATH ${root})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# The libraries of the machine that builds are not this one's: pkg-config is not to find them.
set(ENV{PKG_CONFIG_LIBDIR} ${root}/lib/pkgconfig)

find_program(STELLANE_QEMU qemu-${CMAKE_SYSTEM_PROCESSOR})
if(STELLANE_QEMU)
    set(CMAKE_CROSSCOMPILING_EMULATOR ${STELLANE_QEMU} -L ${root})
endif()
