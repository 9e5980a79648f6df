/* The drivers of this library: public API only. */
#ifndef BENCH_STELLANE_DRIVER_H
#define BENCH_STELLANE_DRIVER_H

#include "../../common/bench.h"
#include <stellane/stellane.h>

/* Run fn as the first fiber of a runtime with workers=N (1) workers, wait for it, take the runtime down. */
void run_fibers(stel_fn *fn, void *arg);

/* For calls that cannot fail in a benchmark that works. */
#define MUST(call) bench_must((int)(call), #call)

void run_yield(void);
void run_spawn_join(void);
void run_spawn_all(void);
void run_skynet(void);
void run_fib(void);
void run_channel(void);
void run_mutex(void);
void run_parked(void);
void run_timers(void);
void run_echo(void);

#endif
