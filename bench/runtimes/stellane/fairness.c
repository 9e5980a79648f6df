/* fairness: how late a fiber that sleeps is woken beside others that only yield. */
#include "driver.h"
#include <stdatomic.h>

enum { WARM_UP, MEASURED, OVER };
static _Atomic int phase;
static bench_histogram lateness;

static int take_turns(void *arg) {
    int64_t spin_ns = *(const int64_t *)arg;
    int turns = 0, now;
    while ((now = atomic_load_explicit(&phase, memory_order_relaxed)) != OVER) {
        bench_spin(spin_ns);
        turns += now == MEASURED;
        stel_yield();
    }
    return turns;
}

static void tick(int64_t length_ns) {
    for (int64_t now = stel_now(), end = now + length_ns; now < end;) {
        int64_t intended = now + STEL_MS(1);
        MUST(stel_sleep(STEL_MS(1)));
        now = stel_now();
        if (now < intended) bench_fail("a sleep ended early");
        if (phase == MEASURED) bench_histogram_add(&lateness, now - intended);
    }
}

static int fairness_main(void *arg) {
    int n = bench_param_int("fibers", 1000);
    int64_t run_ns = STEL_MS(bench_param("run_ms", 1000)), spin_ns = bench_param("spin_us", 0) * 1000;
    stel_fiber *fibers = bench_alloc((size_t)n * sizeof *fibers);
    uint64_t turns = 0;
    (void)arg;
    for (int i = 0; i < n; i++)
        MUST(stel_spawn(&fibers[i], take_turns, &spin_ns));
    tick(run_ns / 10);
    phase = MEASURED;
    bench_start();
    tick(run_ns);
    bench_stop();
    phase = OVER;
    for (int i = 0; i < n; i++) {
        int result;
        MUST(stel_join(fibers[i], &result));
        turns += (uint64_t)result;
    }
    bench_fairness_results(&lateness, turns);
    return 0;
}

void run_fairness(void) {
    run_fibers(fairness_main, NULL);
}
