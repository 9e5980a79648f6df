/* Threads by the thousand: those that wait beside what others measure, the tree, fairness. */
#include "../../common/bench.h"
#include "driver.h"
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <time.h>

/* ---- live=n ---- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static int live_count, waiting;
static bool gate_open;
static pthread_t *live;

static void *wait_beside(void *arg) {
    pthread_mutex_lock(&gate);
    waiting++;
    pthread_cond_broadcast(&gate_changed);
    while (!gate_open)
        pthread_cond_wait(&gate_changed, &gate);
    waiting--;
    pthread_mutex_unlock(&gate);
    return arg;
}

void live_begin(void) {
    live_count = bench_param_int("live", 0);
    live = bench_alloc((size_t)live_count * sizeof *live);
    for (int i = 0; i < live_count; i++)
        spawn(&live[i], wait_beside, NULL);
    pthread_mutex_lock(&gate);
    while (waiting < live_count)
        pthread_cond_wait(&gate_changed, &gate);
    pthread_mutex_unlock(&gate);
}

void live_end(void) {
    pthread_mutex_lock(&gate);
    if (waiting != live_count) bench_fail("threads that were to wait beside did not");
    gate_open = true;
    pthread_cond_broadcast(&gate_changed);
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < live_count; i++)
        join(live[i]);
}

/* ---- tree ---- */

static int64_t steps;

typedef struct branch {
    int64_t first, count; /* its leaves */
    uint64_t sum;
} branch;

static void *grow(void *arg) {
    branch *self = arg;
    if (self->count == 1) {
        self->sum = bench_work((uint64_t)self->first, steps);
        return NULL;
    }
    int64_t half = self->count / 2;
    branch left = { self->first, half, 0 }, right = { self->first + half, self->count - half, 0 };
    pthread_t a, b;
    spawn(&a, grow, &left);
    spawn(&b, grow, &right);
    join(a);
    join(b);
    self->sum = left.sum + right.sum;
    return NULL;
}

void run_tree(void) {
    int64_t leaves = bench_param("leaves", 1000);
    branch warm = { 0, leaves / 10 + 1, 0 }, root = { 0, leaves, 0 };
    steps = bench_param("steps", 2500);
    grow(&warm);
    bench_start();
    grow(&root);
    bench_stop();
    bench_result_ns("time", root.sum, leaves);
}

/* ---- fairness ---- */

enum { WARM_UP, MEASURED, OVER };
static _Atomic int phase;
static bench_histogram lateness;

static void *take_turns(void *arg) {
    int64_t spin_ns = *(const int64_t *)arg;
    uintptr_t turns = 0;
    for (int now; (now = atomic_load_explicit(&phase, memory_order_relaxed)) != OVER;) {
        bench_spin(spin_ns);
        turns += now == MEASURED;
        sched_yield();
    }
    return (void *)turns;
}

static void tick(int64_t length_ns) {
    static const struct timespec pause = { 0, 1000000 };
    for (int64_t now = bench_now(), end = now + length_ns; now < end;) {
        int64_t intended = now + 1000000;
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        now = bench_now();
        if (now < intended) bench_fail("a sleep ended early");
        if (phase == MEASURED) bench_histogram_add(&lateness, now - intended);
    }
}

void run_fairness(void) {
    int n = bench_param_int("fibers", 1000);
    int64_t run_ns = bench_param("run_ms", 1000) * 1000000, spin_ns = bench_param("spin_us", 0) * 1000;
    pthread_t *threads = bench_alloc((size_t)n * sizeof *threads);
    uint64_t turns = 0;
    prctl(PR_SET_TIMERSLACK, 1L);
    for (int i = 0; i < n; i++)
        spawn(&threads[i], take_turns, &spin_ns);
    tick(run_ns / 10);
    phase = MEASURED;
    bench_start();
    tick(run_ns);
    bench_stop();
    phase = OVER;
    for (int i = 0; i < n; i++)
        turns += join(threads[i]);
    bench_fairness_results(&lateness, turns);
}
