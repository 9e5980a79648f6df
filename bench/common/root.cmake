# Runtimes that no distribution has take part where somebody has built them and says where: -DNAME_ROOT=DIR, which has
# include/ and lib/ or is a source tree, whatever its own installation makes of it. peer.cmake calls
#
#   bench_root(NAME peer header [library...])
#
# and finds NAME_INCLUDE, the folder of header, NAME_LIBRARIES, one of each library, static if there is such a one, and
# whether NAME_FOUND. Without a root it is not; a root that has not got all of it is an error.
function(bench_root name peer header)
    set(${name}_ROOT "" CACHE PATH "Where ${peer} is, for the benchmark suite")
    if(NOT ${name}_ROOT)
        set(${name}_FOUND FALSE PARENT_SCOPE)
        return()
    endif()
    set(libraries)
    unset(include)
    find_path(include NAMES ${header} PATHS ${${name}_ROOT} PATH_SUFFIXES include NO_DEFAULT_PATH NO_CACHE)
    if(NOT include)
        message(FATAL_ERROR "${name}_ROOT=${${name}_ROOT}: no ${header} there, nor in its include/")
    endif()
    foreach(library IN LISTS ARGN)
        unset(found)
        find_library(found NAMES lib${library}.a ${library} PATHS ${${name}_ROOT} PATH_SUFFIXES lib lib64
                     lib/${CMAKE_LIBRARY_ARCHITECTURE} NO_DEFAULT_PATH NO_CACHE)
        if(NOT found)
            message(FATAL_ERROR "${name}_ROOT=${${name}_ROOT}: no library ${library} in its lib/")
        endif()
        list(APPEND libraries ${found})
    endforeach()
    set(${name}_INCLUDE ${include} PARENT_SCOPE)
    set(${name}_LIBRARIES ${libraries} PARENT_SCOPE)
    set(${name}_FOUND TRUE PARENT_SCOPE)
endfunction()
