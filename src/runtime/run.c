/* stel_run: a runtime from the environment, one fiber in it, and the end. */
#include "config/config.h"
#include "runtime/runtime.h"

/* The first fiber. Its result is kept here and not only in its handle, which it may give away and others may join. */
static int root_main(void *arg) {
    stel_runtime *rt = arg;
    rt->root.result = rt->root.fn(rt->root.arg);
    return rt->root.result;
}

static int run_in(stel_runtime *rt, stel_fiber *root, void *spawn_site) {
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    o.name = "main";
    /* Before the start: a runtime that starts empty would stop at once. */
    int rc = stel__sched_spawn(stel__runtime_life(rt)->sched, root, &o, root_main, rt, spawn_site);
    if (rc == 0) rc = stel_runtime_start(rt);
    if (rc < 0) return rc;
    /* A deadline that the calling thread has open is not for the program it runs. */
    return stel__runtime_await(rt, STEL__PARK_UNINTERRUPTIBLE);
}

int stel_run(stel_fn *fn, void *arg) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!fn) return -EINVAL;
    if (stel_self()) return -EDEADLK;
    stel_config c;
    stel_config_init(&c);
    int rc = stel_config_from_env(&c);
    if (rc < 0) return rc;
    if (!c.auto_shutdown) c.auto_shutdown = 1;
    stel_runtime *rt;
    rc = stel_runtime_create(&rt, &c);
    if (rc < 0) return rc;
    rt->root.fn = fn;
    rt->root.arg = arg;
    stel_fiber root = 0;
    rc = run_in(rt, &root, __builtin_return_address(0));
    if (rc == -EBUSY) return rc; /* fibers live on: the runtime must stay */
    if (rc == 0) {
        /* A fiber that left by stel_exit never came back to root_main. */
        if (stel_try_join(root, &rc) < 0) rc = rt->root.result;
        stel__guardian_join(rt);
    }
    stel__runtime_free(rt);
    return rc;
}
