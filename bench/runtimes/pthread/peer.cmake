# Plain threads.
bench_driver(bench-pthread runtimes/pthread/main.c runtimes/pthread/files.c runtimes/pthread/crowd.c)
bench_peer(pthread true "threads of the C library")
