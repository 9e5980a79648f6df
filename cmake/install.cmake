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
