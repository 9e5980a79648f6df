# Backends that are modules: each is built when the library that it is about is found, needs nothing of ours, and lies in
# the directory "stellane" beside the shared library, in the build tree as in an installed one (src/poller/module.c).
set(stellane_modules)
function(stellane_module name library)
    set(target stellane-backend-${name})
    add_library(${target} MODULE src/modules/${name}.c)
    target_include_directories(${target} PRIVATE include)
    target_link_libraries(${target} PRIVATE stellane-hardening stellane-warnings ${library})
    target_link_options(${target} PRIVATE LINKER:--as-needed)
    set_target_properties(${target} PROPERTIES PREFIX "" C_VISIBILITY_PRESET hidden
                          LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/stellane)
    install(TARGETS ${target} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/stellane)
    set(stellane_modules ${stellane_modules} ${target} PARENT_SCOPE)
endfunction()

find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBUV IMPORTED_TARGET libuv)
if(LIBUV_FOUND)
    stellane_module(libuv PkgConfig::LIBUV)
else()
    message(STATUS "No libuv (Debian: libuv1-dev): its backend is left out")
endif()
