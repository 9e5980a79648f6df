/* threads: the workloads for runtimes whose interface is that of threads: spawn, join, yield, mutex, and a condition of some
 * kind. What they say in such a runtime is the same in each, so it is written once. A driver defines these before it
 * includes this file, as functions that the compiler can put in place:
 *
 *   thread                                            type: of its handle
 *   void thread_spawn(thread *, void *(*)(void *), void *)
 *   void *thread_join(thread)
 *   void thread_yield(void)
 *   void thread_sleep(int64_t ns)                     at least
 *   mutex                                             type
 *   void mutex_init(mutex *), mutex_lock(mutex *), mutex_unlock(mutex *)
 *   channel                                           type: of one element without room
 *   void channel_init(channel *), channel_close(channel *)
 *   void channel_send(channel *, uint64_t)            returns when the element has been received
 *   bool channel_recv(channel *, uint64_t *)          false: closed
 *   bool channel_recv_within(channel *, uint64_t *, int64_t ns)   false: closed, or nothing came
 *
 * and takes into its table of workloads what it can do. workloads/README.md says what they count. */
#ifndef BENCH_THREADS_H
#define BENCH_THREADS_H

#include "crowd.h"

/* ---- yield ---- */

static inline void *yielder(void *arg) {
    int n = *(const int *)arg, i;
    for (i = 0; i < n; i++)
        thread_yield();
    return (void *)(uintptr_t)i;
}

static inline uint64_t yield_round(thread *threads, int n, int each) {
    uint64_t done = 0;
    for (int i = 0; i < n; i++)
        thread_spawn(&threads[i], yielder, &each);
    for (int i = 0; i < n; i++)
        done += (uintptr_t)thread_join(threads[i]);
    return done;
}

static inline void run_yield(void) {
    int n = bench_param_int("fibers", 2), each = bench_param_int("ops", 1000000) / n;
    thread *threads = bench_alloc((size_t)n * sizeof *threads);
    live_begin(false);
    yield_round(threads, n, each / 10 + 1);
    bench_start();
    uint64_t checksum = yield_round(threads, n, each);
    bench_stop();
    live_end();
    bench_result_ns("time", checksum, (int64_t)each * n);
}

/* ---- spawn and join ---- */

static inline void *give_back(void *arg) {
    return (void *)((uintptr_t)arg & 1023);
}

static inline uint64_t spawn_join_round(int64_t n) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        thread t;
        thread_spawn(&t, give_back, (void *)(uintptr_t)i);
        sum += (uintptr_t)thread_join(t);
    }
    return sum;
}

static inline void run_spawn_join(void) {
    int64_t ops = bench_param("ops", 10000);
    live_begin(false);
    spawn_join_round(ops / 10);
    bench_start();
    uint64_t checksum = spawn_join_round(ops);
    bench_stop();
    live_end();
    bench_result_ns("time", checksum, ops);
}

static inline uint64_t spawn_all_round(thread *threads, int n) {
    uint64_t sum = 0;
    for (int i = 0; i < n; i++)
        thread_spawn(&threads[i], give_back, (void *)(uintptr_t)i);
    for (int i = 0; i < n; i++)
        sum += (uintptr_t)thread_join(threads[i]);
    return sum;
}

static inline void run_spawn_all(void) {
    int n = bench_param_int("fibers", 10000), rounds = bench_param_int("rounds", 1);
    thread *threads = bench_alloc((size_t)n * sizeof *threads);
    uint64_t checksum = 0;
    spawn_all_round(threads, n);
    bench_start();
    for (int r = 0; r < rounds; r++)
        checksum += spawn_all_round(threads, n);
    bench_stop();
    bench_result_ns("time", checksum, (int64_t)n * rounds);
}

/* ---- skynet ---- */

typedef struct node {
    uint64_t number, leaves, sum;
} node;

static inline void *skynet(void *arg) {
    node *self = arg, child[10];
    thread threads[10];
    self->sum = self->number;
    if (self->leaves == 1) return NULL;
    uint64_t leaves = self->leaves / 10;
    for (unsigned i = 0; i < 10; i++) {
        child[i] = (node){ self->number + i * leaves, leaves, 0 };
        thread_spawn(&threads[i], skynet, &child[i]);
    }
    self->sum = 0;
    for (unsigned i = 0; i < 10; i++) {
        thread_join(threads[i]);
        self->sum += child[i].sum;
    }
    return NULL;
}

static inline void run_skynet(void) {
    node warm = { 0, 1000, 0 }, root = { 0, (uint64_t)bench_param("leaves", 1000000), 0 };
    skynet(&warm);
    bench_start();
    skynet(&root);
    int64_t wall = bench_stop();
    bench_result("time", "ms", (double)wall / 1e6, root.sum, (int64_t)root.leaves);
}

/* ---- fib: every call a thread ---- */

static inline void *fib(void *arg) {
    uintptr_t n = (uintptr_t)arg, sum;
    thread left, right;
    if (n < 2) return arg;
    thread_spawn(&left, fib, (void *)(n - 1));
    thread_spawn(&right, fib, (void *)(n - 2));
    sum = (uintptr_t)thread_join(right);
    return (void *)(sum + (uintptr_t)thread_join(left));
}

static inline void run_fib(void) {
    uintptr_t n = (uintptr_t)bench_param("n", 30);
    fib((void *)(n / 2));
    bench_start();
    uintptr_t result = (uintptr_t)fib((void *)n);
    int64_t wall = bench_stop();
    bench_result("time", "ms", (double)wall / 1e6, result, (int64_t)n);
}

/* ---- channel ---- */

static channel there, back;

/* apart=1: each on a CPU of its own; only for those that are threads of the kernel. */
static inline void *partner(void *arg) {
    uint64_t ball;
    if (bench_param("apart", 0)) bench_pin(1);
    while (channel_recv(&there, &ball))
        channel_send(&back, ball + 1);
    return arg;
}

static inline uint64_t play(int64_t trips) {
    uint64_t sum = 0, ball;
    for (int64_t i = 0; i < trips; i++) {
        channel_send(&there, (uint64_t)i);
        if (channel_recv(&back, &ball)) sum += ball;
    }
    return sum;
}

static inline void run_channel(void) {
    int64_t ops = bench_param("ops", 50000);
    thread t;
    channel_init(&there);
    channel_init(&back);
    thread_spawn(&t, partner, NULL);
    if (bench_param("apart", 0)) bench_pin(0);
    live_begin(false);
    play(ops / 10);
    bench_start();
    uint64_t checksum = play(ops);
    bench_stop();
    live_end();
    channel_close(&there);
    thread_join(t);
    bench_result_ns("time", checksum, ops);
}

/* ---- mutex ---- */

typedef struct shared {
    mutex lock;
    uint64_t counter;
    int each, yield_every;
} shared;

static inline void *contender(void *arg) {
    shared *s = arg;
    int until_yield = s->yield_every;
    for (int i = 0; i < s->each; i++) {
        mutex_lock(&s->lock);
        s->counter++;
        if (s->yield_every && --until_yield == 0) {
            until_yield = s->yield_every;
            thread_yield();
        }
        mutex_unlock(&s->lock);
    }
    return NULL;
}

static inline uint64_t mutex_round(thread *threads, int n, int each, int yield_every) {
    shared s = { .each = each, .yield_every = yield_every };
    mutex_init(&s.lock);
    for (int i = 0; i < n; i++)
        thread_spawn(&threads[i], contender, &s);
    for (int i = 0; i < n; i++)
        thread_join(threads[i]);
    return s.counter;
}

static inline void run_mutex(void) {
    int n = bench_param_int("fibers", 1000), each = bench_param_int("each", 1000);
    int yield_every = bench_param_int("yield_every", 0);
    thread *threads = bench_alloc((size_t)n * sizeof *threads);
    mutex_round(threads, n, each / 10 + 1, yield_every);
    bench_start();
    uint64_t checksum = mutex_round(threads, n, each, yield_every);
    bench_stop();
    bench_result_ns("time", checksum, (int64_t)each * n);
}

/* ---- timers ---- */

static bench_histogram overshoots;
/* The window: set when all have been started. */
static _Atomic int64_t timers_start = INT64_MAX, timers_end = INT64_MAX;
static _Atomic int64_t sleeps, early;

static inline void *sleeper(void *arg) {
    uint64_t number = (uint64_t)(uintptr_t)arg;
    for (uint64_t k = 0;; k++) {
        int64_t before = bench_now(), length = bench_sleep_length(number, k);
        if (before >= timers_end) return NULL;
        thread_sleep(length);
        int64_t overshoot = bench_now() - before - length;
        if (overshoot < 0) atomic_fetch_add_explicit(&early, 1, memory_order_relaxed);
        if (before < timers_start) continue;
        bench_histogram_add(&overshoots, overshoot);
        atomic_fetch_add_explicit(&sleeps, 1, memory_order_relaxed);
    }
}

static inline void sleep_until(int64_t when) {
    int64_t left = when - bench_now();
    if (left > 0) thread_sleep(left);
}

static inline void run_timers(void) {
    int n = bench_param_int("fibers", 5000);
    thread *threads = bench_alloc((size_t)n * sizeof *threads);
    live_begin(true);
    for (int i = 0; i < n; i++)
        thread_spawn(&threads[i], sleeper, (void *)(uintptr_t)i);
    int64_t from = bench_now() + 300000000, to = from + bench_param("run_ms", 1500) * 1000000;
    atomic_store(&timers_end, to);
    atomic_store(&timers_start, from);
    sleep_until(from);
    bench_start();
    int64_t cpu = bench_cpu();
    sleep_until(to);
    bench_stop();
    cpu = bench_cpu() - cpu;
    for (int i = 0; i < n; i++)
        thread_join(threads[i]);
    live_end();
    int64_t count = atomic_load(&sleeps);
    if (atomic_load(&early) > 0) bench_fail("%lld sleeps ended early", (long long)atomic_load(&early));
    bench_result("p50", "us", (double)bench_histogram_at(&overshoots, 0.50) / 1e3, (uint64_t)count, count);
    bench_result("p99", "us", (double)bench_histogram_at(&overshoots, 0.99) / 1e3, (uint64_t)count, count);
    bench_result("cpu", "us", (double)cpu / 1e3 / (double)count, (uint64_t)count, count);
}

#endif
