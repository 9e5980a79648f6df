# This library, as built.
bench_driver(bench-stellane runtimes/stellane/main.c runtimes/stellane/fibers.c runtimes/stellane/sharing.c
             runtimes/stellane/parked.c runtimes/stellane/fairness.c
             runtimes/stellane/echo.c runtimes/stellane/files.c)
target_link_libraries(bench-stellane PRIVATE stellane::fiber)
bench_peer(stellane true "${PROJECT_VERSION}, ${STELLANE_CONTEXT} switch, ${CMAKE_BUILD_TYPE}")
