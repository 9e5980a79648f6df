/* The workload parked for runtimes whose interface is that of threads (threads.h): those that can have a million. Beside
 * what threads.h asks for, before it is included:
 *
 *   void gate_init(void)
 *   void gate_wait(void)        park at the gate
 *   void gate_open_one(void)    wake whoever has been parked there longest */
#ifndef BENCH_PARKED_H
#define BENCH_PARKED_H

static _Atomic int64_t parked_count, woken_count;

static inline void *park_once(void *arg) {
    atomic_fetch_add_explicit(&parked_count, 1, memory_order_relaxed);
    gate_wait();
    atomic_fetch_add_explicit(&woken_count, 1, memory_order_relaxed);
    return arg;
}

/* Spawn all of them, making room now and then so that each has run up to the gate. */
static inline void park_all(thread *threads, int n) {
    for (int i = 0; i < n; i++) {
        thread_spawn(&threads[i], park_once, NULL);
        if (i % 128 == 127) thread_yield();
    }
    while (atomic_load(&parked_count) < n)
        thread_yield();
}

/* Wake them and see them end, some at a time. */
static inline void wake_all(thread *threads, int n) {
    for (int done = 0; done < n;) {
        int end = n - done < 256 ? n : done + 256;
        for (int i = done; i < end; i++)
            gate_open_one();
        for (; done < end; done++)
            thread_join(threads[done]);
    }
}

static inline void run_parked(void) {
    int n = bench_param_int("fibers", 1000000);
    thread *threads = bench_alloc((size_t)n * sizeof *threads);
    gate_init();
    park_all(threads, 1000 < n ? 1000 : n); /* warm-up */
    wake_all(threads, 1000 < n ? 1000 : n);
    atomic_store(&parked_count, 0);
    atomic_store(&woken_count, 0);
    int64_t before = bench_memory();
    bench_start();
    park_all(threads, n);
    int64_t create_ns = bench_stop(), memory = bench_memory() - before, lines = bench_map_lines();
    bench_start();
    wake_all(threads, n);
    int64_t wake_ns = bench_stop();
    uint64_t checksum = (uint64_t)atomic_load(&woken_count);
    bench_result("bytes", "B", (double)memory / n, checksum, n);
    bench_result("create", "ns", (double)create_ns / n, checksum, n);
    bench_result("wake", "ns", (double)wake_ns / n, checksum, n);
    bench_result("map_lines", "lines", (double)lines, checksum, n);
    bench_result("unguarded", "stacks", (double)n, checksum, n);
}

#endif
