/* Many fibers that are parked: the workload parked, and those that live beside what other workloads measure. */
#include "driver.h"
#include <stdatomic.h>

static _Atomic int64_t parked_count, woken_count;

static int park_once(void *arg) {
    (void)arg;
    atomic_fetch_add_explicit(&parked_count, 1, memory_order_relaxed);
    MUST(stel_park());
    atomic_fetch_add_explicit(&woken_count, 1, memory_order_relaxed);
    return 0;
}

static int park_timed(void *arg) {
    STEL_TIMEOUT(STEL_SEC(3600));
    return park_once(arg);
}

/* Spawn all of them, making room now and then so that each has run up to its park. */
static void park_all(stel_fiber *fibers, int n, stel_fn *fn, size_t stack_bytes) {
    stel_spawn_options options = STEL_SPAWN_OPTIONS_INIT;
    options.stack_bytes = stack_bytes;
    for (int i = 0; i < n; i++) {
        MUST(stel_spawn_with(&fibers[i], &options, fn, NULL));
        if (i % 128 == 127) stel_yield();
    }
    while (atomic_load(&parked_count) < n)
        stel_yield();
}

/* Wake each by its handle and see it end, some at a time. */
static void wake_all(stel_fiber *fibers, int n) {
    for (int done = 0; done < n;) {
        int end = n - done < 256 ? n : done + 256;
        for (int i = done; i < end; i++)
            MUST(stel_unpark(fibers[i]));
        for (; done < end; done++)
            MUST(stel_join(fibers[done], NULL));
    }
}

static int parked_main(void *arg) {
    int n = bench_param_int("fibers", 1000000);
    size_t stack_bytes = (size_t)bench_param("stack_bytes", 0);
    stel_fiber *fibers = bench_alloc((size_t)n * sizeof *fibers);
    stel_stats stats;
    (void)arg;
    park_all(fibers, 1000 < n ? 1000 : n, park_once, stack_bytes); /* warm-up */
    wake_all(fibers, 1000 < n ? 1000 : n);
    atomic_store(&parked_count, 0);
    atomic_store(&woken_count, 0);
    int64_t before = bench_memory();
    bench_start();
    park_all(fibers, n, park_once, stack_bytes);
    int64_t create_ns = bench_stop(), memory = bench_memory() - before, lines = bench_map_lines();
    MUST(stel_runtime_stats(stel_runtime_current(), &stats));
    bench_start();
    wake_all(fibers, n);
    int64_t wake_ns = bench_stop();
    uint64_t checksum = (uint64_t)atomic_load(&woken_count);
    bench_result("bytes", "B", (double)memory / n, checksum, n);
    bench_result("create", "ns", (double)create_ns / n, checksum, n);
    bench_result("wake", "ns", (double)wake_ns / n, checksum, n);
    bench_result("map_lines", "lines", (double)lines, checksum, n);
    bench_result("unguarded", "stacks", (double)stats.stacks_unguarded, checksum, n);
    return 0;
}

void run_parked(void) {
    run_fibers(parked_main, NULL);
}

/* ---- live=n ---- */

static int live_count;
static stel_fiber *live;

void live_begin(bool timed) {
    live_count = bench_param_int("live", 0);
    live = bench_alloc((size_t)live_count * sizeof *live);
    park_all(live, live_count, timed ? park_timed : park_once, 0);
}

void live_end(void) {
    if (atomic_load(&woken_count) != 0) bench_fail("fibers that were to wait beside did not");
    wake_all(live, live_count);
    if (atomic_load(&woken_count) != live_count) bench_fail("fibers that waited beside were not woken");
}
