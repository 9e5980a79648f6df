# What the library is made of: the rooms' sources, the context switch that was chosen, and the libraries behind it.
#   stellane_sources            files to compile
#   stellane_foreign_objects    objects that come from elsewhere (Boost.Context's assembly)
#   stellane_definitions        what the sources are told
#   stellane_pc_libraries       what users of the static library link besides, as pkg-config hands it on
set(stellane_sources)
foreach(room base host config sched poller sync io observe runtime)
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${room}/*.c)
    list(APPEND stellane_sources ${sources})
endforeach()
set(stellane_foreign_objects)
set(stellane_definitions)
set(stellane_pc_libraries -pthread -ldl)
if(STELLANE_CHECKS)
    list(APPEND stellane_definitions STELLANE_CHECKS)
endif()

# Where modules lie, for programs that this library is linked into (src/poller/module.c).
set_source_files_properties(${PROJECT_SOURCE_DIR}/src/poller/module.c PROPERTIES
                            COMPILE_DEFINITIONS "STELLANE_MODULE_DIRECTORY=\"${CMAKE_INSTALL_FULL_LIBDIR}/stellane\"")

# The context switch.
if(STELLANE_CONTEXT STREQUAL "native")
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
        set(stellane_machine x86_64)
    elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
        set(stellane_machine aarch64)
    else()
        set(stellane_machine ${CMAKE_SYSTEM_PROCESSOR})
    endif()
    set(source ${PROJECT_SOURCE_DIR}/src/arch/context_${stellane_machine}.S)
    if(NOT EXISTS ${source})
        message(FATAL_ERROR "No native context switch for ${stellane_machine} yet: use -DSTELLANE_CONTEXT=fcontext")
    endif()
    list(APPEND stellane_sources ${source})
elseif(STELLANE_CONTEXT STREQUAL "fcontext")
    # make_fcontext and jump_fcontext are assembly, two members of Boost.Context's static library. They are taken out
    # and put into ours, so that no C++ comes with them and users of either library need no Boost.
    find_library(STELLANE_BOOST_CONTEXT libboost_context.a)
    if(NOT STELLANE_BOOST_CONTEXT)
        message(FATAL_ERROR "STELLANE_CONTEXT=fcontext needs libboost_context.a (Debian: libboost-context-dev)")
    endif()
    execute_process(COMMAND ${CMAKE_AR} t ${STELLANE_BOOST_CONTEXT} OUTPUT_VARIABLE members COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "(make|jump)_[^\n]*\\.o" members "${members}")
    list(LENGTH members count)
    if(NOT count EQUAL 2)
        message(FATAL_ERROR "${STELLANE_BOOST_CONTEXT}: expected one make_*.o and one jump_*.o, found: ${members}")
    endif()
    set(directory ${CMAKE_BINARY_DIR}/fcontext)
    file(MAKE_DIRECTORY ${directory})
    execute_process(COMMAND ${CMAKE_AR} x ${STELLANE_BOOST_CONTEXT} ${members} WORKING_DIRECTORY ${directory}
                    COMMAND_ERROR_IS_FATAL ANY)
    foreach(member ${members})
        list(APPEND stellane_foreign_objects ${directory}/${member})
    endforeach()
    set_source_files_properties(${stellane_foreign_objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
    list(APPEND stellane_sources ${PROJECT_SOURCE_DIR}/src/arch/context_fcontext.c)
    list(APPEND stellane_definitions STELLANE_CONTEXT_FCONTEXT)
else()
    message(FATAL_ERROR "STELLANE_CONTEXT=${STELLANE_CONTEXT}: must be native or fcontext")
endif()

# hwloc, for the order of CPUs and nodes: the one file that includes it is left out where its headers are missing. It is
# loaded when it is needed, and not linked.
set(hwloc_sources ${stellane_sources})
list(FILTER hwloc_sources INCLUDE REGEX "/[a-z_]*hwloc[a-z_]*\\.c$")
if(hwloc_sources)
    find_package(PkgConfig REQUIRED)
    pkg_check_modules(HWLOC hwloc>=2 hwloc<3)
    if(HWLOC_FOUND)
        list(APPEND stellane_definitions STELLANE_HAVE_HWLOC)
        set_source_files_properties(${hwloc_sources} PROPERTIES COMPILE_OPTIONS "${HWLOC_CFLAGS}")
    else()
        list(REMOVE_ITEM stellane_sources ${hwloc_sources})
    endif()
endif()
