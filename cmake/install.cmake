# Installation: libraries, headers, pkg-config file, CMake package.
include(CMakePackageConfigHelpers)

install(TARGETS stellane-shared stellane-static EXPORT stellane-fiber-targets)
install(DIRECTORY include/stellane TYPE INCLUDE FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE README.md CHANGELOG.md TYPE DOC)

# The prefix is found from where the .pc file lies, so an installed tree may be moved.
file(RELATIVE_PATH stellane_pc_to_prefix /p/${CMAKE_INSTALL_LIBDIR}/pkgconfig /p)
list(JOIN stellane_user_flags " " stellane_pc_cflags)
list(JOIN stellane_pc_libraries " " stellane_pc_private)
configure_file(cmake/stellane-fiber.pc.in stellane-fiber.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/stellane-fiber.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(stellane_package_directory ${CMAKE_INSTALL_LIBDIR}/cmake/stellane-fiber)
configure_package_config_file(cmake/stellane-fiber-config.cmake.in stellane-fiber-config.cmake
                              INSTALL_DESTINATION ${stellane_package_directory})
write_basic_package_version_file(stellane-fiber-config-version.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT stellane-fiber-targets NAMESPACE stellane:: DESTINATION ${stellane_package_directory})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/stellane-fiber-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/stellane-fiber-config-version.cmake DESTINATION ${stellane_package_directory})

# Man pages: those of docs/man, and for every other name in a page's NAME section a page that leads to it.
file(GLOB stellane_pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.3)
file(GLOB stellane_overviews CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.7)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${stellane_pages})
file(REMOVE_RECURSE ${CMAKE_CURRENT_BINARY_DIR}/man3)
foreach(page ${stellane_pages})
    get_filename_component(page_name ${page} NAME_WE)
    file(STRINGS ${page} lines REGEX "^\\.Nm [A-Za-z_]+")
    foreach(line ${lines})
        string(REGEX REPLACE "^\\.Nm ([A-Za-z0-9_]+).*" "\\1" name "${line}")
        if(NOT name STREQUAL page_name)
            file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/man3/${name}.3 ".so man3/${page_name}.3\n")
        endif()
    endforeach()
endforeach()
install(FILES ${stellane_pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
install(DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/man3 DESTINATION ${CMAKE_INSTALL_MANDIR})
install(FILES ${stellane_overviews} DESTINATION ${CMAKE_INSTALL_MANDIR}/man7)
