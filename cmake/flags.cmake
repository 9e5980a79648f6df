# Compiler and linker flags: what every part of the build shares.
#   stellane-hardening  hardening, frame pointers and sanitizers; for everything that is compiled here
#   stellane-warnings   the warnings
#   stellane_user_flags what programs that use the library should be compiled with too
include(CheckCCompilerFlag)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Release (-O2 -g), Debug (-Og -g)" FORCE)
endif()
# Set unless somebody gave flags of their own: CMake's defaults are -O3 -DNDEBUG and -O0.
foreach(language C ASM)
    if("${CMAKE_${language}_FLAGS_RELEASE}" MATCHES "^(-O3 -DNDEBUG)?$")
        set(CMAKE_${language}_FLAGS_RELEASE "-O2 -g")
    endif()
    if("${CMAKE_${language}_FLAGS_DEBUG}" MATCHES "^(-g)?$")
        set(CMAKE_${language}_FLAGS_DEBUG "-Og -g")
    endif()
endforeach()

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# Hardened programs are position-independent executables.
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# Assigns to `out` the flags that the compiler knows; one that it only warns of for this machine it does not know.
function(stellane_known_flags out)
    set(CMAKE_REQUIRED_FLAGS -Werror)
    set(known)
    foreach(flag ${ARGN})
        string(MAKE_C_IDENTIFIER "STELLANE_HAS${flag}" variable)
        check_c_compiler_flag(${flag} ${variable})
        if(${variable})
            list(APPEND known ${flag})
        endif()
    endforeach()
    set(${out} ${known} PARENT_SCOPE)
endfunction()

add_library(stellane-hardening INTERFACE)
# Unwinding works everywhere: compilers make tables of their own accord on x86-64 and AArch64, but not on RISC-V.
set(hardening -fstack-protector-strong -fasynchronous-unwind-tables)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    # Landing pads only: shadow stacks would need one of each fiber's own.
    list(APPEND hardening -fcf-protection=branch)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    # Landing pads and signed return addresses; the keys are the process's, so a fiber may return on another thread.
    list(APPEND hardening -mbranch-protection=standard)
endif()
stellane_known_flags(hardening ${hardening})
set(stellane_user_flags -fstack-clash-protection)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    # Here gcc takes guards to be of 64 KiB and probes no smaller frame; ours are of one page. The number is the log2.
    list(APPEND stellane_user_flags --param=stack-clash-protection-guard-size=12)
endif()
stellane_known_flags(stellane_user_flags ${stellane_user_flags})
# Frame pointers cost nothing that the bench can see (the switch keeps that register anyway) and let perf walk fibers.
target_compile_options(stellane-hardening INTERFACE $<$<COMPILE_LANGUAGE:C>:${hardening};${stellane_user_flags};-fno-omit-frame-pointer>)
target_link_options(stellane-hardening INTERFACE LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack)
target_compile_definitions(stellane-hardening INTERFACE $<$<COMPILE_LANGUAGE:C>:_GNU_SOURCE>)

if(STELLANE_SANITIZE STREQUAL "none" AND NOT STELLANE_TEST_VALGRIND)
    # The sanitizers intercept the plain names, not the fortified ones; Valgrind takes __memmove_chk for __memcpy_chk.
    target_compile_options(stellane-hardening INTERFACE
        $<$<COMPILE_LANGUAGE:C>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>)
elseif(STELLANE_SANITIZE STREQUAL "none")
    target_compile_options(stellane-hardening INTERFACE $<$<COMPILE_LANGUAGE:C>:-U_FORTIFY_SOURCE>)
elseif(STELLANE_SANITIZE STREQUAL "address")
    set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(STELLANE_SANITIZE STREQUAL "thread")
    set(sanitizers -fsanitize=thread)
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_C_COMPILER_VERSION VERSION_LESS 14)
        message(WARNING "gcc's ThreadSanitizer gives up at 8,128 fibers: use clang (preset tsan)")
    endif()
else()
    message(FATAL_ERROR "STELLANE_SANITIZE=${STELLANE_SANITIZE}: must be none, address or thread")
endif()
target_compile_options(stellane-hardening INTERFACE $<$<COMPILE_LANGUAGE:C>:${sanitizers}>)
target_link_options(stellane-hardening INTERFACE ${sanitizers})

add_library(stellane-warnings INTERFACE)
set(warnings -Wall -Wextra -Wshadow -Wconversion)
if(STELLANE_WERROR)
    list(APPEND warnings -Werror)
endif()
target_compile_options(stellane-warnings INTERFACE $<$<COMPILE_LANGUAGE:C>:${warnings}>)
