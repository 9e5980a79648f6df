/* Making, starting, restarting and freeing runtimes, and the small questions about them. */
#include "runtime/runtime.h"
#include "config/config.h"
#include "observe/observe.h"
#include <string.h>

/* ---- create ---- */

static void wire_rooms(void) {
    stel__fork_watch();
    stel__fork_on_child(stel__sched_in_child);
    stel__fence_init();
    stel__overflow_install(stel__sched_describe_overflow);
    stel__sched_set_default(stel__registry_enter, stel__registry_leave);
}

static void life_free(stel__life *life) {
    if (life->sched) stel__sched_destroy(life->sched);
    if (life->pollers) stel__pollers_destroy(life->pollers);
    stel__free(life);
}

/* Pollers and scheduler, not running. */
static int life_new(stel__life **out, stel_runtime *rt) {
    stel__lock_take(&rt->lock);
    stel_config now = rt->config;
    stel__lock_give(&rt->lock);
    size_t bytes = sizeof(stel__life) + (size_t)now.worker_threads * sizeof(int64_t);
    stel__life *life = stel__alloc_aligned(STEL__CACHE_LINE, bytes);
    if (!life) return -ENOMEM;
    const stel__pollers_options o = {
        .backend = now.backend, .mode = now.poller_mode, .workers = now.worker_threads, .batch = now.io_batch
    };
    int rc = stel__pollers_create(&life->pollers, &o);
    if (rc == 0) {
        life->hook = stel__pollers_hook(life->pollers);
        rc = stel__sched_create(&life->sched, &now, rt, &life->hook);
    }
    if (rc < 0) {
        life_free(life);
        return rc;
    }
    stel__sched_on_guard_needed(life->sched, stel__guardian_needed, rt);
    *out = life;
    return 0;
}

/* Under the lock, while neither guardian nor workers run. Returns the life before, which some may look at still, under
 * a pin. */
static stel__life *install(stel_runtime *rt, stel__life *life) {
    stel__life *before = stel__load_relaxed(&rt->life);
    stel__settings_apply(rt, life);       /* update_config may have been faster than we */
    stel__store_release(&rt->life, life); /* pairs with stel__runtime_life */
    return before;
}

static void wait_for_pins(stel_runtime *rt) {
    while (stel__runtime_pinned(rt)) /* a spawn; a few instructions */
        stel_yield();
}

int stel_runtime_create(stel_runtime **out, const stel_config *c) {
    static pthread_once_t wired = PTHREAD_ONCE_INIT;
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!out) return -EINVAL;
    stel_config config;
    int rc = stel__config_adopt(&config, c);
    if (rc < 0) return rc;
    pthread_once(&wired, wire_rooms);
    rc = stel__settings_settle(&config, false);
    if (rc < 0) return rc;
    stel_runtime *rt = stel__alloc_aligned(STEL__CACHE_LINE, sizeof *rt);
    stel__life *life = NULL;
    if (!rt) return -ENOMEM;
    rt->config = config;
    rc = life_new(&life, rt);
    if (rc < 0) {
        stel__free(rt);
        return rc;
    }
    (void)install(rt, life);
    *out = rt;
    return 0;
}

/* ---- start, restart, free ---- */

/* STARTING, with the life to be started in place; from: the state before. The guardian first, but held at its gate: once
 * workers run nothing may fail any more. */
static int launch(stel_runtime *rt, int from) {
    stel__life *life = stel__runtime_life(rt);
    stel__lock_take(&rt->lock);
    life->started_realtime = stel__clock_realtime();
    life->started_at = stel__clock_now();
    stel__lock_give(&rt->lock);
    int rc = stel__guardian_start(rt);
    if (rc == 0) {
        stel__registry_add(rt); /* before the workers: what their fibers start may spawn from outside at once */
        if ((rc = stel__sched_start(life->sched)) < 0) {
            stel__registry_remove(rt);
            wait_for_pins(rt);
            stel__guardian_dismiss(rt);
        }
    }
    stel__lock_take(&rt->lock);
    if (rc < 0) {
        life->started_at = life->started_realtime = 0;
        if (from == STEL__RUNTIME_CREATED) stel__runtime_not_started(rt, from); /* else it is restart's business */
    } else if (stel__load_relaxed(&rt->state) == STEL__RUNTIME_STARTING) {
        stel__sched_close(life->sched, false);
        stel__runtime_enter(rt, STEL__RUNTIME_STARTING, STEL__RUNTIME_RUNNING);
    } /* else the stop has begun already */
    stel__lock_give(&rt->lock);
    if (rc == 0) stel__guardian_admit(rt);
    return rc;
}

static bool enter_starting(stel_runtime *rt, int from) {
    stel__lock_take(&rt->lock);
    bool startable = stel__load_relaxed(&rt->state) == from;
    if (startable) stel__runtime_enter(rt, from, STEL__RUNTIME_STARTING);
    stel__lock_give(&rt->lock);
    return startable;
}

int stel_runtime_start(stel_runtime *rt) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt) return -EINVAL;
    return enter_starting(rt, STEL__RUNTIME_CREATED) ? launch(rt, STEL__RUNTIME_CREATED) : -EINVAL;
}

/* HALTED, and rt->restarting is ours: a new life, or everything as it was. */
static int start_again(stel_runtime *rt) {
    stel__life *life = NULL, *old = NULL;
    bool started = enter_starting(rt, STEL__RUNTIME_HALTED);
    STEL__ASSERT(started);
    stel__guardian_join(rt); /* it is on its way out */
    int rc = life_new(&life, rt);
    if (rc == 0) {
        stel__sched_close(life->sched, true);
        stel__lock_take(&rt->lock);
        old = install(rt, life);
        stel__lock_give(&rt->lock);
        rc = launch(rt, STEL__RUNTIME_HALTED);
    }
    if (rc < 0) {
        stel__lock_take(&rt->lock);
        if (old) old = install(rt, old);
        stel__runtime_not_started(rt, STEL__RUNTIME_HALTED);
        stel__lock_give(&rt->lock);
    }
    if (old) {
        wait_for_pins(rt);
        life_free(old);
    }
    return rc;
}

/* 0, and the right to the edge out of HALTED; or why not. *grace: what the stop is to be given. */
static int claim_restart(stel_runtime *rt, int64_t *grace) {
    int rc = 0;
    stel__lock_take(&rt->lock);
    if (rt->root.fn || stel__load_relaxed(&rt->state) == STEL__RUNTIME_CREATED)
        rc = -EINVAL;
    else if (rt->restarting)
        rc = -EBUSY;
    else
        rt->restarting = true;
    *grace = rt->config.stop_timeout_ns;
    stel__lock_give(&rt->lock);
    return rc;
}

int stel_runtime_restart(stel_runtime *rt) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt) return -EINVAL;
    if (stel_runtime_current() == rt) return -EDEADLK;
    int64_t grace;
    int rc = claim_restart(rt, &grace);
    if (rc < 0) return rc;
    rc = stel__runtime_stop(rt, grace);
    if (rc == 0) rc = start_again(rt);
    stel__lock_take(&rt->lock);
    rt->restarting = false;
    stel__lock_give(&rt->lock);
    return rc;
}

void stel__runtime_free(stel_runtime *rt) {
    life_free(stel__runtime_life(rt));
    stel__free(rt);
}

int stel_runtime_destroy(stel_runtime *rt) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt) return -EINVAL;
    stel__lock_take(&rt->lock); /* whoever told us of the end holds it until he needs rt no more */
    int state = stel__load_relaxed(&rt->state);
    bool rests = state == STEL__RUNTIME_HALTED ||
                 (state == STEL__RUNTIME_CREATED && stel__sched_live(stel__runtime_life(rt)->sched) == 0);
    bool busy = !rests || rt->restarting;
    stel__lock_give(&rt->lock);
    if (busy) return -EBUSY;
    stel__guardian_join(rt);
    stel__runtime_free(rt);
    return 0;
}

/* ---- questions ---- */

stel_runtime *stel_runtime_current(void) {
    stel__sched *s = stel__sched_current();
    return s ? stel__sched_owner(s) : NULL;
}

int stel_runtime_spawn(stel_runtime *rt, stel_fiber *out, const stel_spawn_options *o, stel_fn *fn, void *arg) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt) return -EINVAL;
    void *site = __builtin_return_address(0);
    if (stel_runtime_current() == rt) return stel__sched_spawn(stel__sched_current(), out, o, fn, arg, site);
    int rc = stel__sched_spawn(stel__runtime_pin(rt)->sched, out, o, fn, arg, site);
    stel__runtime_unpin(rt);
    return rc;
}

bool stel_runtime_is_running(stel_runtime *rt) {
    if (!rt) return false;
    int state = stel__runtime_state(rt);
    return state >= STEL__RUNTIME_RUNNING && state < STEL__RUNTIME_HALTED;
}

size_t stel_runtime_pending(stel_runtime *rt) {
    if (!rt) return 0;
    stel__lock_take(&rt->lock);
    size_t n = (size_t)stel__sched_live(stel__runtime_life(rt)->sched);
    stel__lock_give(&rt->lock);
    return n;
}

/* Under the lock. */
static stel__observed observed(stel_runtime *rt) {
    const stel__life *life = stel__runtime_life(rt);
    stel__observed o = { .sched = life->sched, .pollers = life->pollers, .worker_count = rt->config.worker_threads };
    o.started_realtime = life->started_realtime;
    if (life->started_at) o.uptime_ns = (life->stopped_at ? life->stopped_at : stel__clock_now()) - life->started_at;
    return o;
}

int stel_runtime_stats_sized(stel_runtime *rt, stel_stats *out, size_t size) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt) return -EINVAL;
    stel__lock_take(&rt->lock);
    stel__observed o = observed(rt);
    int rc = stel__observe_runtime(&o, out, size);
    stel__lock_give(&rt->lock);
    return rc;
}

/* Under the lock. A thread's clock may be read as long as the thread has not been joined. */
static int64_t worker_cpu(const stel__life *life, int worker) {
    if (life->halting) return life->worker_cpu[worker];
    return stel__guardian_admitted(life) ? stel__sched_worker_cpu(life->sched, worker) : 0;
}

int stel_runtime_worker_stats_sized(stel_runtime *rt, int worker, stel_worker_stats *out, size_t size) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt || worker < 0 || worker >= rt->config.worker_threads) return -EINVAL;
    stel__lock_take(&rt->lock);
    stel__observed o = observed(rt);
    int rc = stel__observe_worker(&o, worker, worker_cpu(stel__runtime_life(rt), worker), out, size);
    stel__lock_give(&rt->lock);
    return rc;
}
