# Plain threads.
bench_driver(bench-pthread runtimes/pthread/main.c runtimes/pthread/files.c)
bench_peer(pthread true "threads of the C library")
