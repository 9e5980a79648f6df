# marl, as installed.
bench_root(MARL marl marl/scheduler.h marl)
if(MARL_FOUND AND STELLANE_BENCH_CXX)
    bench_driver_cxx(bench-marl runtimes/marl/main.cpp)
    target_include_directories(bench-marl SYSTEM PRIVATE ${MARL_INCLUDE})
    target_link_libraries(bench-marl PRIVATE ${MARL_LIBRARIES})
    # Its assembly does not say that it needs no executable stack.
    target_link_options(bench-marl PRIVATE -Wl,-z,noexecstack)
    bench_peer(marl true "marl")
elseif(STELLANE_BENCH_CXX)
    bench_peer(marl false "no -DMARL_ROOT=DIR")
else()
    bench_peer(marl false "no C++ compiler")
endif()
