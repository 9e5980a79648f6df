/* Statistics: the structs of stellane/runtime.h. The caller's struct may be of another age than ours: a smaller one
 * gets the fields it has, in a larger one the rest is zero, and its size says what was filled in. */
#include "observe/observe.h"
#include <string.h>

/* Sizes beyond this are a mistake, not a newer header. */
enum { SIZE_MAX_SANE = 4096 };

static int hand_out(void *out, size_t size, const void *full, size_t full_size) {
    if (!out || size < sizeof(size_t) || size > SIZE_MAX_SANE) return -EINVAL;
    size_t filled = size < full_size ? size : full_size;
    memset(out, 0, size);
    memcpy(out, full, filled);
    memcpy(out, &filled, sizeof filled); /* size is the first member of both */
    return 0;
}

_Static_assert(offsetof(stel_stats, size) == 0 && offsetof(stel_worker_stats, size) == 0, "hand_out writes size first");

int stel__observe_runtime(const stel__observed *o, stel_stats *out, size_t size) {
    stel_stats full;
    stel__stack_figures stacks;
    memset(&full, 0, sizeof full);
    stel__sched_stats(o->sched, &full);
    stel__stack_figures_get(&stacks);
    full.start_time = o->started_realtime;
    full.uptime_ns = o->uptime_ns;
    full.worker_count = o->worker_count;
    full.polls = stel__pollers_polls(o->pollers); /* the guardian's as well, which no worker counts */
    strncpy(full.backend_type, stel__pollers_backend(o->pollers), sizeof full.backend_type - 1);
    full.poller_mode = stel__pollers_mode(o->pollers);
    stel__pollers_reason(o->pollers, full.backend_reason, sizeof full.backend_reason);
    full.stacks_reserved = stacks.reserved;
    full.stacks_in_use = stacks.in_use;
    full.stacks_unguarded = stacks.unguarded;
    full.stack_bytes_reserved = stacks.bytes_reserved;
    return hand_out(out, size, &full, sizeof full);
}

int stel__observe_worker(const stel__observed *o, int worker, int64_t cpu_ns, stel_worker_stats *out, size_t size) {
    stel_worker_stats full;
    memset(&full, 0, sizeof full);
    if (worker < 0 || worker >= o->worker_count) return -EINVAL;
    int rc = stel__sched_worker_stats(o->sched, worker, &full);
    if (rc < 0) return rc;
    full.worker_id = worker;
    if (o->uptime_ns > 0) full.cpu_usage_percent = 100.0 * (double)cpu_ns / (double)o->uptime_ns;
    return hand_out(out, size, &full, sizeof full);
}
