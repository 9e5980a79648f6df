/* The workloads of many, for runtimes whose interface is that of threads (threads.h, which includes this): those that live
 * beside what is measured, trees with work at their leaves, fairness. */
#ifndef BENCH_CROWD_H
#define BENCH_CROWD_H

/* ---- live=n: as many that wait beside; timed: no longer than an hour ---- */

static channel beside;
static int live_count;
static thread *live;
static _Atomic int64_t beside_waiting, beside_woken;

static inline void *wait_beside(void *timed) {
    uint64_t element;
    atomic_fetch_add(&beside_waiting, 1);
    if (timed ? channel_recv_within(&beside, &element, INT64_C(3600000000000)) : channel_recv(&beside, &element))
        atomic_fetch_add(&beside_woken, 1);
    return NULL;
}

static inline void live_begin(bool timed) {
    live_count = bench_param_int("live", 0);
    live = bench_alloc((size_t)live_count * sizeof *live);
    channel_init(&beside);
    for (int i = 0; i < live_count; i++) {
        thread_spawn(&live[i], wait_beside, timed ? live : NULL);
        if (i % 128 == 127) thread_yield();
    }
    while (atomic_load(&beside_waiting) < live_count)
        thread_yield();
}

static inline void live_end(void) {
    if (atomic_load(&beside_woken) != 0) bench_fail("threads that were to wait beside did not");
    for (int i = 0; i < live_count; i++)
        channel_send(&beside, (uint64_t)i);
    for (int i = 0; i < live_count; i++)
        thread_join(live[i]);
    if (atomic_load(&beside_woken) != live_count) bench_fail("threads that waited beside were not woken");
}

/* ---- tree ---- */

static int64_t tree_steps;

typedef struct branch {
    int64_t first, count; /* its leaves */
    uint64_t sum;
} branch;

static inline void *grow(void *arg) {
    branch *self = arg;
    if (self->count == 1) {
        self->sum = bench_work((uint64_t)self->first, tree_steps);
        return NULL;
    }
    int64_t half = self->count / 2;
    branch left = { self->first, half, 0 }, right = { self->first + half, self->count - half, 0 };
    thread a, b;
    thread_spawn(&a, grow, &left);
    thread_spawn(&b, grow, &right);
    thread_join(b);
    thread_join(a);
    self->sum = left.sum + right.sum;
    return NULL;
}

static inline void run_tree(void) {
    int64_t leaves = bench_param("leaves", 20000);
    branch warm = { 0, leaves / 10 + 1, 0 }, root = { 0, leaves, 0 };
    tree_steps = bench_param("steps", 2000);
    grow(&warm);
    bench_start();
    grow(&root);
    bench_stop();
    bench_result_ns("time", root.sum, leaves);
}

/* ---- fairness ---- */

enum { FAIRNESS_WARM_UP, FAIRNESS_MEASURED, FAIRNESS_OVER };
static _Atomic int fairness_phase;
static bench_histogram lateness;

static inline void *take_turns(void *arg) {
    int64_t spin_ns = *(const int64_t *)arg;
    uintptr_t turns = 0;
    for (int now; (now = atomic_load_explicit(&fairness_phase, memory_order_relaxed)) != FAIRNESS_OVER;) {
        bench_spin(spin_ns);
        turns += now == FAIRNESS_MEASURED;
        thread_yield();
    }
    return (void *)turns;
}

static inline void tick(int64_t length_ns) {
    for (int64_t now = bench_now(), end = now + length_ns; now < end;) {
        int64_t intended = now + 1000000;
        thread_sleep(1000000);
        now = bench_now();
        if (now < intended) bench_fail("a sleep ended early");
        if (fairness_phase == FAIRNESS_MEASURED) bench_histogram_add(&lateness, now - intended);
    }
}

static inline void run_fairness(void) {
    int n = bench_param_int("fibers", 1000);
    int64_t run_ns = bench_param("run_ms", 1000) * 1000000, spin_ns = bench_param("spin_us", 0) * 1000;
    thread *threads = bench_alloc((size_t)n * sizeof *threads);
    uint64_t turns = 0;
    for (int i = 0; i < n; i++)
        thread_spawn(&threads[i], take_turns, &spin_ns);
    tick(run_ns / 10);
    fairness_phase = FAIRNESS_MEASURED;
    bench_start();
    tick(run_ns);
    bench_stop();
    fairness_phase = FAIRNESS_OVER;
    for (int i = 0; i < n; i++)
        turns += (uintptr_t)thread_join(threads[i]);
    bench_fairness_results(&lateness, turns);
}

#endif
