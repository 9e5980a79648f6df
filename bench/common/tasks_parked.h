/* The workload parked for runtimes that have tasks.h, which is included before. In addition a driver defines
 *
 *   void task_park(void)
 *   void task_unpark(task)             of a fiber that is parked
 *
 * Their stacks have no guards: none of these runtimes can have a million that do. */
#ifndef BENCH_TASKS_PARKED_H
#define BENCH_TASKS_PARKED_H

static int64_t parked_count, woken_count;

static TASK_RETURNS park_once(void *arg) {
    (void)arg;
    __atomic_fetch_add(&parked_count, 1, __ATOMIC_RELAXED);
    task_park();
    __atomic_fetch_add(&woken_count, 1, __ATOMIC_RELAXED);
    return TASK_END;
}

/* Spawn all of them, making room now and then so that each has run up to its park. */
static inline void park_all(task *tasks, int n) {
    parked_count = woken_count = 0;
    for (int i = 0; i < n; i++) {
        tasks[i] = task_spawn(park_once, NULL);
        if (i % 128 == 127) task_yield();
    }
    while (__atomic_load_n(&parked_count, __ATOMIC_ACQUIRE) < n)
        task_yield();
}

/* Wake them and see them end, some at a time. */
static inline void wake_all(task *tasks, int n) {
    for (int done = 0; done < n;) {
        int end = n - done < 256 ? n : done + 256;
        for (int i = done; i < end; i++)
            task_unpark(tasks[i]);
        for (; done < end; done++)
            task_join(tasks[done]);
    }
}

static inline void parked_main(void) {
    int n = bench_param_int("fibers", 1000000);
    task *tasks = tasks_alloc(n);
    park_all(tasks, 1000 < n ? 1000 : n); /* warm-up */
    wake_all(tasks, 1000 < n ? 1000 : n);
    int64_t before = bench_memory();
    bench_start();
    park_all(tasks, n);
    int64_t create_ns = bench_stop(), memory = bench_memory() - before, lines = bench_map_lines();
    bench_start();
    wake_all(tasks, n);
    int64_t wake_ns = bench_stop();
    uint64_t checksum = (uint64_t)woken_count;
    bench_result("bytes", "B", (double)memory / n, checksum, n);
    bench_result("create", "ns", (double)create_ns / n, checksum, n);
    bench_result("wake", "ns", (double)wake_ns / n, checksum, n);
    bench_result("map_lines", "lines", (double)lines, checksum, n);
    bench_result("unguarded", "stacks", (double)n, checksum, n);
}

#endif
