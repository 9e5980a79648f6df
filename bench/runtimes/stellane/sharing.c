/* channel, mutex, timers: workloads/README.md says what they count. */
#include "driver.h"
#include <errno.h>
#include <stdatomic.h>

/* ---- channel: a rendezvous there and one back ---- */

typedef struct court {
    stel_chan *there, *back;
} court;

static int partner(void *arg) {
    court *c = arg;
    uint64_t ball;
    int rc;
    while ((rc = stel_chan_recv(c->there, &ball)) == 0) {
        ball++;
        MUST(stel_chan_send(c->back, &ball));
    }
    return rc == -EPIPE ? 0 : rc;
}

static uint64_t play(court *c, int64_t trips) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < trips; i++) {
        uint64_t ball = (uint64_t)i;
        MUST(stel_chan_send(c->there, &ball));
        MUST(stel_chan_recv(c->back, &ball));
        sum += ball;
    }
    return sum;
}

static int channel_main(void *arg) {
    int64_t ops = bench_param("ops", 1000000);
    court c;
    stel_fiber f;
    stel_spawn_options options = STEL_SPAWN_OPTIONS_INIT;
    int result;
    (void)arg;
    MUST(stel_chan_create(&c.there, sizeof(uint64_t), 0));
    MUST(stel_chan_create(&c.back, sizeof(uint64_t), 0));
    if (bench_param("apart", 0)) options.place = STEL_WORKER(1);
    MUST(stel_spawn_with(&f, &options, partner, &c));
    live_begin(false);
    play(&c, ops / 10);
    bench_start();
    uint64_t checksum = play(&c, ops);
    bench_stop();
    live_end();
    MUST(stel_chan_close(c.there));
    MUST(stel_join(f, &result));
    MUST(result);
    stel_chan_destroy(c.there);
    stel_chan_destroy(c.back);
    bench_result_ns("time", checksum, ops);
    return 0;
}

/* The two on workers of their own, when that is asked for. */
static int channel_apart(void *arg) {
    stel_fiber f;
    int result;
    stel_spawn_options options = STEL_SPAWN_OPTIONS_INIT;
    options.place = STEL_WORKER(0);
    MUST(stel_spawn_with(&f, &options, channel_main, arg));
    MUST(stel_join(f, &result));
    return result;
}

void run_channel(void) {
    run_fibers(bench_param("apart", 0) ? channel_apart : channel_main, NULL);
}

/* ---- mutex ---- */

typedef struct shared {
    stel_mutex mutex;
    uint64_t counter;
    int64_t each;
    int yield_every;
} shared;

static int contender(void *arg) {
    shared *s = arg;
    int until_yield = s->yield_every;
    for (int64_t i = 0; i < s->each; i++) {
        stel_mutex_lock(&s->mutex);
        s->counter++;
        if (s->yield_every && --until_yield == 0) {
            until_yield = s->yield_every;
            stel_yield();
        }
        stel_mutex_unlock(&s->mutex);
    }
    return 0;
}

static uint64_t mutex_round(stel_fiber *fibers, int n, int64_t each, int yield_every) {
    shared s = { STEL_MUTEX_INIT, 0, each, yield_every };
    for (int i = 0; i < n; i++)
        MUST(stel_spawn(&fibers[i], contender, &s));
    for (int i = 0; i < n; i++)
        MUST(stel_join(fibers[i], NULL));
    return s.counter;
}

static int mutex_main(void *arg) {
    int n = bench_param_int("fibers", 1000), yield_every = bench_param_int("yield_every", 0);
    int64_t each = bench_param("each", 1000);
    stel_fiber *fibers = bench_alloc((size_t)n * sizeof *fibers);
    (void)arg;
    mutex_round(fibers, n, each / 10 + 1, yield_every);
    bench_start();
    uint64_t checksum = mutex_round(fibers, n, each, yield_every);
    bench_stop();
    bench_result_ns("time", checksum, each * n);
    return 0;
}

void run_mutex(void) {
    run_fibers(mutex_main, NULL);
}

/* ---- timers ---- */

static bench_histogram overshoots;
/* The window: set when all have been spawned. */
static _Atomic int64_t timers_start = STEL_FOREVER, timers_end = STEL_FOREVER;
static _Atomic int64_t sleeps, early;

static int sleeper(void *arg) {
    uint64_t number = (uint64_t)(uintptr_t)arg;
    for (uint64_t k = 0;; k++) {
        int64_t before = stel_now(), length = bench_sleep_length(number, k);
        if (before >= timers_end) return 0;
        MUST(stel_sleep(length));
        int64_t overshoot = stel_now() - before - length;
        if (overshoot < 0) atomic_fetch_add_explicit(&early, 1, memory_order_relaxed);
        if (before < timers_start) continue;
        bench_histogram_add(&overshoots, overshoot);
        atomic_fetch_add_explicit(&sleeps, 1, memory_order_relaxed);
    }
}

static int timers_main(void *arg) {
    int n = bench_param_int("fibers", 5000);
    stel_fiber *fibers = bench_alloc((size_t)n * sizeof *fibers);
    (void)arg;
    live_begin(true);
    for (int i = 0; i < n; i++)
        MUST(stel_spawn(&fibers[i], sleeper, (void *)(uintptr_t)i));
    int64_t from = stel_now() + STEL_MS(300), to = from + STEL_MS(bench_param("run_ms", 1500));
    atomic_store(&timers_end, to);
    atomic_store(&timers_start, from);
    MUST(stel_sleep_until(from));
    bench_start();
    int64_t cpu = bench_cpu();
    MUST(stel_sleep_until(to));
    bench_stop();
    cpu = bench_cpu() - cpu;
    for (int i = 0; i < n; i++)
        MUST(stel_join(fibers[i], NULL));
    live_end();
    int64_t count = atomic_load(&sleeps);
    if (atomic_load(&early) > 0) bench_fail("%lld sleeps ended early", (long long)atomic_load(&early));
    bench_result("p50", "us", (double)bench_histogram_at(&overshoots, 0.50) / 1e3, (uint64_t)count, count);
    bench_result("p99", "us", (double)bench_histogram_at(&overshoots, 0.99) / 1e3, (uint64_t)count, count);
    bench_result("cpu", "us", (double)cpu / 1e3 / (double)count, (uint64_t)count, count);
    return 0;
}

void run_timers(void) {
    run_fibers(timers_main, NULL);
}
