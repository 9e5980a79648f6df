/* bench-pthread: plain threads, 32 KiB of stack each, doing what the fibers do. Only where it makes sense: a tree of a
 * million threads or a million parked ones do not exist. */
#include "../../common/bench.h"
#include "driver.h"
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static pthread_attr_t small_stack;

void spawn(pthread_t *out, void *(*fn)(void *), void *arg) {
    int rc = pthread_create(out, &small_stack, fn, arg);
    if (rc != 0) bench_fail("pthread_create failed: %s", strerror(rc));
}

uintptr_t join(pthread_t t) {
    void *result;
    if (pthread_join(t, &result) != 0) bench_fail("pthread_join failed");
    return (uintptr_t)result;
}

/* ---- yield ---- */

static void *yielder(void *arg) {
    int n = *(const int *)arg, i;
    for (i = 0; i < n; i++)
        sched_yield();
    return (void *)(uintptr_t)i;
}

static uint64_t yield_round(pthread_t *threads, int n, int each) {
    uint64_t done = 0;
    for (int i = 0; i < n; i++)
        spawn(&threads[i], yielder, &each);
    for (int i = 0; i < n; i++)
        done += join(threads[i]);
    return done;
}

static void run_yield(void) {
    int n = bench_param_int("fibers", 2), each = bench_param_int("ops", 1000000) / n;
    pthread_t *threads = bench_alloc((size_t)n * sizeof *threads);
    live_begin();
    yield_round(threads, n, each / 10 + 1);
    bench_start();
    uint64_t checksum = yield_round(threads, n, each);
    bench_stop();
    live_end();
    bench_result_ns("time", checksum, (int64_t)each * n);
}

/* ---- spawn and join ---- */

static void *give_back(void *arg) {
    return (void *)((uintptr_t)arg & 1023);
}

static uint64_t spawn_join_round(int64_t n) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        pthread_t t;
        spawn(&t, give_back, (void *)(uintptr_t)i);
        sum += join(t);
    }
    return sum;
}

static void run_spawn_join(void) {
    int64_t ops = bench_param("ops", 10000);
    live_begin();
    spawn_join_round(ops / 10);
    bench_start();
    uint64_t checksum = spawn_join_round(ops);
    bench_stop();
    live_end();
    bench_result_ns("time", checksum, ops);
}

static uint64_t spawn_all_round(pthread_t *threads, int n) {
    uint64_t sum = 0;
    for (int i = 0; i < n; i++)
        spawn(&threads[i], give_back, (void *)(uintptr_t)i);
    for (int i = 0; i < n; i++)
        sum += join(threads[i]);
    return sum;
}

static void run_spawn_all(void) {
    int n = bench_param_int("fibers", 10000), rounds = bench_param_int("rounds", 1);
    pthread_t *threads = bench_alloc((size_t)n * sizeof *threads);
    uint64_t checksum = 0;
    spawn_all_round(threads, n / 10);
    bench_start();
    for (int r = 0; r < rounds; r++)
        checksum += spawn_all_round(threads, n);
    bench_stop();
    bench_result_ns("time", checksum, (int64_t)n * rounds);
}

/* ---- channel: one element, handed over under a mutex with a condition for each side ---- */

typedef struct channel {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t element;
    bool full, closed;
} channel;

/* A rendezvous: returns when the receiver has the element. */
static void channel_send(channel *c, uint64_t element) {
    pthread_mutex_lock(&c->mutex);
    c->element = element;
    c->full = true;
    pthread_cond_broadcast(&c->changed);
    while (c->full)
        pthread_cond_wait(&c->changed, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
}

static bool channel_recv(channel *c, uint64_t *element) {
    pthread_mutex_lock(&c->mutex);
    while (!c->full && !c->closed)
        pthread_cond_wait(&c->changed, &c->mutex);
    bool got = c->full;
    *element = c->element;
    c->full = false;
    if (got) pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    return got;
}

static void channel_close(channel *c) {
    pthread_mutex_lock(&c->mutex);
    c->closed = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
}

static channel there = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false, false };
static channel back = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false, false };

static void *partner(void *arg) {
    uint64_t ball;
    if (bench_param("apart", 0)) bench_pin(1);
    while (channel_recv(&there, &ball))
        channel_send(&back, ball + 1);
    return arg;
}

static uint64_t play(int64_t trips) {
    uint64_t sum = 0, ball;
    for (int64_t i = 0; i < trips; i++) {
        channel_send(&there, (uint64_t)i);
        if (channel_recv(&back, &ball)) sum += ball;
    }
    return sum;
}

static void run_channel(void) {
    int64_t ops = bench_param("ops", 50000);
    pthread_t t;
    spawn(&t, partner, NULL);
    if (bench_param("apart", 0)) bench_pin(0);
    live_begin();
    play(ops / 10);
    bench_start();
    uint64_t checksum = play(ops);
    bench_stop();
    live_end();
    channel_close(&there);
    join(t);
    bench_result_ns("time", checksum, ops);
}

/* ---- mutex ---- */

typedef struct shared {
    pthread_mutex_t mutex;
    uint64_t counter;
    int each, yield_every;
} shared;

static void *contender(void *arg) {
    shared *s = arg;
    int until_yield = s->yield_every;
    for (int i = 0; i < s->each; i++) {
        pthread_mutex_lock(&s->mutex);
        s->counter++;
        if (s->yield_every && --until_yield == 0) {
            until_yield = s->yield_every;
            sched_yield();
        }
        pthread_mutex_unlock(&s->mutex);
    }
    return NULL;
}

static uint64_t mutex_round(pthread_t *threads, int n, int each, int yield_every) {
    shared s = { PTHREAD_MUTEX_INITIALIZER, 0, each, yield_every };
    for (int i = 0; i < n; i++)
        spawn(&threads[i], contender, &s);
    for (int i = 0; i < n; i++)
        join(threads[i]);
    return s.counter;
}

static void run_mutex(void) {
    int n = bench_param_int("fibers", 1000), each = bench_param_int("each", 1000);
    int yield_every = bench_param_int("yield_every", 0);
    pthread_t *threads = bench_alloc((size_t)n * sizeof *threads);
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

static void *sleeper(void *arg) {
    uint64_t number = (uint64_t)(uintptr_t)arg;
    prctl(PR_SET_TIMERSLACK, 1L);
    for (uint64_t k = 0;; k++) {
        int64_t before = bench_now(), length = bench_sleep_length(number, k);
        if (before >= timers_end) return NULL;
        struct timespec t = { length / 1000000000, length % 1000000000 };
        clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
        int64_t overshoot = bench_now() - before - length;
        if (overshoot < 0) atomic_fetch_add_explicit(&early, 1, memory_order_relaxed);
        if (before < timers_start) continue;
        bench_histogram_add(&overshoots, overshoot);
        atomic_fetch_add_explicit(&sleeps, 1, memory_order_relaxed);
    }
}

static void sleep_until(int64_t when) {
    struct timespec t = { when / 1000000000, when % 1000000000 };
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void run_timers(void) {
    int n = bench_param_int("fibers", 5000);
    pthread_t *threads = bench_alloc((size_t)n * sizeof *threads);
    for (int i = 0; i < n; i++)
        spawn(&threads[i], sleeper, (void *)(uintptr_t)i);
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
        join(threads[i]);
    int64_t count = atomic_load(&sleeps);
    if (atomic_load(&early) > 0) bench_fail("%lld sleeps ended early", (long long)atomic_load(&early));
    bench_result("p50", "us", (double)bench_histogram_at(&overshoots, 0.50) / 1e3, (uint64_t)count, count);
    bench_result("p99", "us", (double)bench_histogram_at(&overshoots, 0.99) / 1e3, (uint64_t)count, count);
    bench_result("cpu", "us", (double)cpu / 1e3 / (double)count, (uint64_t)count, count);
}

/* ---- echo: a thread a connection ---- */

static void *serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    char buffer[4096];
    ssize_t n;
    while ((n = recv(fd, buffer, sizeof buffer, 0)) > 0)
        if (send(fd, buffer, (size_t)n, MSG_NOSIGNAL) != n) break;
    close(fd);
    return NULL;
}

static void run_echo(void) {
    int port, listener = bench_listen(&port, 0), one = 1;
    bench_serve(port);
    for (;;) {
        pthread_t t;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        spawn(&t, serve, (void *)(intptr_t)fd);
        pthread_detach(t);
    }
}

/* ---- wake-ups ---- */

static void run_wake(void) {
    int fd = bench_serve_pipe();
    int64_t stamp;
    while (read(fd, &stamp, sizeof stamp) == sizeof stamp)
        bench_woken(stamp);
}

static void *woken_across(void *arg) {
    uint64_t stamp;
    bench_pin(1);
    while (channel_recv(&there, &stamp))
        bench_woken((int64_t)stamp);
    return arg;
}

static void run_wake_across(void) {
    int64_t n = bench_param("ops", 1000), warm = n / 10, gap_ns = bench_param("gap_us", 1000) * 1000;
    struct timespec gap = { gap_ns / 1000000000, gap_ns % 1000000000 };
    pthread_t t;
    spawn(&t, woken_across, NULL);
    bench_pin(0);
    for (int64_t i = -warm; i < n; i++) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &gap, NULL);
        if (i == 0) bench_start();
        int64_t now = bench_now();
        channel_send(&there, (uint64_t)(i < 0 ? -now : now));
    }
    clock_nanosleep(CLOCK_MONOTONIC, 0, &gap, NULL);
    bench_stop();
    channel_close(&there);
    join(t);
    bench_wake_results();
}

static void run_start(void) {
    pthread_t t;
    spawn(&t, give_back, NULL);
    join(t);
}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", run_yield },
        { "spawn-join", run_spawn_join },
        { "spawn-all", run_spawn_all },
        { "mutex", run_mutex },
        { "channel", run_channel },
        { "timers", run_timers },
        { "echo", run_echo },
        { "wake", run_wake },
        { "wake-across", run_wake_across },
        { "start", run_start },
        { "read", run_read },
        { "read-through", run_read_through },
        { "append", run_append },
        { "tree", run_tree },
        { "fairness", run_fairness },
        { NULL, NULL },
    };
    pthread_attr_init(&small_stack);
    size_t stack_bytes = 32768 > PTHREAD_STACK_MIN ? 32768 : (size_t)PTHREAD_STACK_MIN;
    if (pthread_attr_setstacksize(&small_stack, stack_bytes) != 0) bench_fail("no small stacks");
    return bench_main(argc, argv, "pthread", table);
}
