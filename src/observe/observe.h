/* observe: snapshots for users. Adds up what the rooms below count; nobody is stopped for it, and nothing below knows
 * that it is looked at. */
#ifndef STEL_OBSERVE_H
#define STEL_OBSERVE_H

#include "base/base.h"
#include "poller/poller.h"
#include "sched/sched.h"
#include <stellane/runtime.h>

/* Where the figures of one runtime come from. */
typedef struct stel__observed {
    stel__sched *sched;
    const stel__pollers *pollers;
    int worker_count;
    int64_t started_realtime; /* 0: not yet started */
    int64_t uptime_ns;
} stel__observed;

/* Fill in the first `size` bytes of *out, as much of it as there is; out->size says how much. 0 or -EINVAL. */
int stel__observe_runtime(const stel__observed *o, stel_stats *out, size_t size);
/* cpu_ns: what the worker's thread has used so far. */
int stel__observe_worker(const stel__observed *o, int worker, int64_t cpu_ns, stel_worker_stats *out, size_t size);

#endif
