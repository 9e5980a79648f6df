# Documentation that is true: pages and guides against the headers, their C compiled and run, the pages' form.
find_program(PYTHON3 python3 REQUIRED)
set(man ${PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/man.py --cc ${CMAKE_C_COMPILER})
product_test(install/man ${man})
product_test(install/man_lint ${CMAKE_CURRENT_SOURCE_DIR}/man_lint.sh ${PROJECT_SOURCE_DIR}/docs/man)
product_test(install/man_installed ${man} --installed ${prefix})
set_tests_properties(install/man_installed PROPERTIES FIXTURES_REQUIRED installed)

# What a user of the static library links besides: as the .pc file says it.
set(link)
list(JOIN stellane_pc_private " " libraries)
separate_arguments(libraries UNIX_COMMAND "${libraries}")
foreach(library ${libraries})
    list(APPEND link --link=${library})
endforeach()
product_test(install/man_examples ${man} --run $<TARGET_FILE:stellane-static> ${link}
             --work ${CMAKE_CURRENT_BINARY_DIR}/man_examples)
