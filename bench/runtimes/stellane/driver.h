/* The drivers of this library: public API only. */
#ifndef BENCH_STELLANE_DRIVER_H
#define BENCH_STELLANE_DRIVER_H

#include "../../common/bench.h"
#include <stdbool.h>
#include <stellane/stellane.h>

/* Run fn as the first fiber of a runtime with workers=N (1) workers, wait for it, take the runtime down. The environment
 * says which backend and which polling mode, where it is not the default: a pair that the library refuses is unavailable,
 * and so is a backend for which it uses another. */
void run_fibers(stel_fn *fn, void *arg);

/* For calls that cannot fail in a benchmark that works. */
#define MUST(call) bench_must((int)(call), #call)

/* live=n: as many fibers that are parked beside what is measured; timed: with a deadline, an hour away. */
void live_begin(bool timed);
void live_end(void);

void run_yield(void);
void run_spawn_join(void);
void run_spawn_all(void);
void run_skynet(void);
void run_fib(void);
void run_tree(void);
void run_fairness(void);
void run_channel(void);
void run_mutex(void);
void run_parked(void);
void run_timers(void);
void run_echo(void);
void run_wake(void);
void run_wake_across(void);
void run_read(void);
void run_read_through(void);
void run_append(void);

#endif
