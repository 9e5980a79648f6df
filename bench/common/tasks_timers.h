/* The workload timers for runtimes that have tasks.h, which is included before. In addition a driver defines
 *
 *   void task_sleep_until(int64_t ns)            at least; by bench_now() */
#ifndef BENCH_TASKS_TIMERS_H
#define BENCH_TASKS_TIMERS_H

static bench_histogram overshoots;
/* The window: set when all have been spawned. */
static int64_t window_start = INT64_MAX, window_end = INT64_MAX, sleeps, early;

static TASK_RETURNS sleeper(void *arg) {
    uint64_t number = (uint64_t)(uintptr_t)arg;
    for (uint64_t k = 0;; k++) {
        int64_t before = bench_now(), length = bench_sleep_length(number, k);
        if (before >= __atomic_load_n(&window_end, __ATOMIC_RELAXED)) break;
        task_sleep_until(before + length);
        int64_t overshoot = bench_now() - before - length;
        if (overshoot < 0) __atomic_fetch_add(&early, 1, __ATOMIC_RELAXED);
        if (before < __atomic_load_n(&window_start, __ATOMIC_RELAXED)) continue;
        bench_histogram_add(&overshoots, overshoot);
        __atomic_fetch_add(&sleeps, 1, __ATOMIC_RELAXED);
    }
    return TASK_END;
}

static inline void timers_main(void) {
    int n = bench_param_int("fibers", 5000);
    task *tasks = tasks_alloc(n);
    for (int i = 0; i < n; i++)
        tasks[i] = task_spawn(sleeper, (void *)(uintptr_t)i);
    int64_t from = bench_now() + 300000000, to = from + bench_param("run_ms", 1500) * 1000000;
    __atomic_store_n(&window_end, to, __ATOMIC_RELAXED);
    __atomic_store_n(&window_start, from, __ATOMIC_RELAXED);
    task_sleep_until(from);
    bench_start();
    int64_t cpu = bench_cpu();
    task_sleep_until(to);
    bench_stop();
    cpu = bench_cpu() - cpu;
    for (int i = 0; i < n; i++)
        task_join(tasks[i]);
    if (early) bench_fail("%lld sleeps ended early", (long long)early);
    uint64_t count = (uint64_t)sleeps;
    bench_result("p50", "us", (double)bench_histogram_at(&overshoots, 0.50) / 1e3, count, sleeps);
    bench_result("p99", "us", (double)bench_histogram_at(&overshoots, 0.99) / 1e3, count, sleeps);
    bench_result("cpu", "us", (double)cpu / 1e3 / (double)sleeps, count, sleeps);
}

#endif
