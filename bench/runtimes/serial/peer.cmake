# A serial program: what the work itself costs.
bench_driver(bench-serial runtimes/serial/main.c)
bench_peer(serial true "plain calls")
