/* What the checks of the modes share. */
#include "conformance.h"

bool has_two_workers(void) {
    return it.mode != STEL_POLLER_INLINE; /* one loop; see more_workers_than_loops */
}

stel_config configured(int workers) {
    stel_config c;
    stel_config_init(&c);
    FIBER_ASSERT(strlen(it.backend) < sizeof c.backend);
    strcpy(c.backend, it.backend);
    c.poller_mode = it.mode;
    c.worker_threads = has_two_workers() ? workers : 1;
    return c;
}

void run(int workers, stel_fn *fn, void *arg) {
    stel_config c = configured(workers);
    FIBER_ASSERT_EQ(run_in_runtime_with(&c, fn, arg), 0);
}

stel_fiber spawn_at(int worker, stel_fn *fn, void *arg) {
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    stel_fiber f;
    o.place = STEL_WORKER(worker);
    FIBER_OK(stel_spawn_with(&f, &o, fn, arg));
    return f;
}

int join(stel_fiber f) {
    int result;
    FIBER_OK(stel_join(f, &result));
    return result;
}
