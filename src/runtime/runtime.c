/* Making, starting and freeing runtimes, and the small questions about them. */
#include "runtime/runtime.h"
#include "config/config.h"
#include "observe/observe.h"
#include <stdio.h>
#include <string.h>

enum { MAX_FIBERS_OF_TABLE = 1 << 24 };

/* ---- create ---- */

static stel__poller *poller_of(stel_runtime *rt) {
    return rt->poller;
}

static void wire_rooms(void) {
    stel__fork_watch();
    stel__overflow_install(stel__sched_describe_overflow);
    stel__poller_set_lookup(poller_of);
    stel__sched_set_default(stel__registry_enter, stel__registry_leave);
}

static int check_backend(const stel_config *c) {
    if (!strcmp(c->backend, "auto") || stel_backend_has(c->backend)) return 0;
    const char *names[16];
    char list[512] = "";
    size_t n = stel_backend_list(names, STEL__COUNT_OF(names)), used = 0;
    for (size_t i = 0; i < n && i < STEL__COUNT_OF(names) && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, ", %s", names[i]);
    stel__warn("error: runtime.backend: \"%s\" is not a backend (auto%s)", c->backend, list);
    return -EINVAL;
}

/* The default: what a slot of 256 KiB holds besides its guard. */
static size_t default_stack_bytes(void) {
    const size_t slot = 256 << 10;
    size_t bytes = slot;
    while (stel__stack_class_bytes(stel__stack_class(bytes)) > slot)
        bytes -= 4096;
    return bytes;
}

static int settle_stack(stel_config *c) {
    if (stel__stack_set_guard_pages(c->stack_guard_pages) < 0) {
        stel__warn("error: runtime.stack.guard_pages: %d, but stacks with other guards exist in this process already",
                   c->stack_guard_pages);
        return -EINVAL;
    }
    if (!c->stack_bytes) c->stack_bytes = default_stack_bytes();
    if (stel__stack_class(c->stack_bytes) < 0) {
        stel__warn("error: runtime.stack.size: %zu bytes are more than any stack has", c->stack_bytes);
        return -EINVAL;
    }
    return 0;
}

/* Everything that depends on the machine or on chance. */
static int settle(stel_config *c) {
    int rc = check_backend(c);
    /* Finding out how many CPUs we may use takes a third of a millisecond of a program's start: only if it matters. */
    int cpus = c->worker_threads && !c->enable_cpu_affinity ? 0 : stel__cpu_count();
    if (!c->worker_threads) c->worker_threads = cpus < 1024 ? cpus : 1024;
    if (!c->auto_shutdown) c->auto_shutdown = -1;
    if (!c->seed) c->seed = (uint64_t)stel__clock_now() ^ ((uint64_t)stel__thread_id() << 40) ^ (uintptr_t)c;
    if (!c->seed) c->seed = 1;
    if (settle_stack(c) < 0) rc = -EINVAL;
    if (c->enable_cpu_affinity && c->worker_threads > cpus)
        stel__warn("warning: runtime.enable_cpu_affinity with %d workers for %d CPUs: some share one",
                   c->worker_threads, cpus);
    return rc;
}

static int build(stel_runtime *rt) {
    const char *backend = strcmp(rt->config.backend, "auto") ? rt->config.backend : "epoll";
    int rc = stel__poller_create(&rt->poller, backend, rt->config.io_batch);
    if (rc < 0) return rc;
    rt->hook = stel__poller_hook(rt->poller);
    stel_config c = rt->config;
    /* The table of fibers has this limit by itself: sched need not count for it at each spawn. */
    if (c.max_fibers == MAX_FIBERS_OF_TABLE) c.max_fibers = 0;
    rc = stel__sched_create(&rt->sched, &c, rt, &rt->hook);
    if (rc < 0) return rc;
    if (rt->config.auto_shutdown > 0) stel__sched_on_empty(rt->sched, stel__runtime_on_empty, rt);
    stel__sched_on_guard_needed(rt->sched, stel__guardian_needed, rt);
    return 0;
}

int stel_runtime_create(stel_runtime **out, const stel_config *c) {
    static pthread_once_t wired = PTHREAD_ONCE_INIT;
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!out) return -EINVAL;
    stel_config config;
    int rc = stel__config_adopt(&config, c);
    if (rc < 0) return rc;
    pthread_once(&wired, wire_rooms);
    rc = settle(&config);
    if (rc < 0) return rc;
    size_t bytes = sizeof(stel_runtime) + (size_t)config.worker_threads * sizeof(int64_t);
    stel_runtime *rt = stel__alloc_aligned(STEL__CACHE_LINE, bytes);
    if (!rt) return -ENOMEM;
    rt->config = config;
    rc = build(rt);
    if (rc < 0) {
        stel__runtime_free(rt);
        return rc;
    }
    *out = rt;
    return 0;
}

/* ---- start, free ---- */

int stel_runtime_start(stel_runtime *rt) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt) return -EINVAL;
    stel__lock_take(&rt->lock);
    bool startable = stel__load_relaxed(&rt->state) == STEL__RUNTIME_CREATED;
    if (startable) stel__runtime_enter(rt, STEL__RUNTIME_CREATED, STEL__RUNTIME_STARTING);
    stel__lock_give(&rt->lock);
    if (!startable) return -EINVAL;

    stel__store_relaxed(&rt->started_realtime, stel__clock_realtime());
    stel__store_relaxed(&rt->started_at, stel__clock_now());
    /* The guardian first, but held at its gate: once workers run nothing may fail any more. */
    int rc = stel__guardian_start(rt);
    if (rc == 0) {
        stel__registry_add(rt); /* before the workers: what their fibers start may spawn from outside at once */
        if ((rc = stel__sched_start(rt->sched)) < 0) {
            stel__registry_remove(rt);
            while (stel__runtime_pinned(rt)) /* a spawn that came in between; a few instructions */
                stel_yield();
            stel__guardian_dismiss(rt);
        }
    }

    stel__lock_take(&rt->lock);
    if (rc < 0) {
        stel__store_relaxed(&rt->started_at, 0);
        stel__store_relaxed(&rt->started_realtime, 0);
        stel__runtime_enter(rt, STEL__RUNTIME_STARTING, STEL__RUNTIME_CREATED);
    } else if (stel__load_relaxed(&rt->state) == STEL__RUNTIME_STARTING) {
        stel__runtime_enter(rt, STEL__RUNTIME_STARTING, STEL__RUNTIME_RUNNING);
    } /* else a fiber has begun the stop already */
    stel__lock_give(&rt->lock);
    if (rc == 0) stel__guardian_admit(rt);
    return rc;
}

void stel__runtime_free(stel_runtime *rt) {
    if (rt->sched) stel__sched_destroy(rt->sched);
    if (rt->poller) stel__poller_destroy(rt->poller);
    stel__free(rt);
}

int stel_runtime_destroy(stel_runtime *rt) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt) return -EINVAL;
    int state = stel__runtime_state(rt);
    if (state == STEL__RUNTIME_CREATED && stel__sched_live(rt->sched) > 0) return -EBUSY;
    if (state != STEL__RUNTIME_CREATED && state != STEL__RUNTIME_HALTED) return -EBUSY;
    if (state == STEL__RUNTIME_HALTED) stel__guardian_join(rt);
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
    if (stel__sched_current() == rt->sched) return stel__sched_spawn(rt->sched, out, o, fn, arg, site);
    stel__runtime_pin(rt);
    int rc = stel__sched_spawn(rt->sched, out, o, fn, arg, site);
    stel__runtime_unpin(rt);
    return rc;
}

bool stel_runtime_is_running(stel_runtime *rt) {
    if (!rt) return false;
    int state = stel__runtime_state(rt);
    return state >= STEL__RUNTIME_RUNNING && state < STEL__RUNTIME_HALTED;
}

size_t stel_runtime_pending(stel_runtime *rt) {
    return rt ? (size_t)stel__sched_live(rt->sched) : 0;
}

int stel_runtime_get_config_sized(stel_runtime *rt, stel_config *out, size_t size) {
    return rt ? stel__config_hand_out(&rt->config, out, size) : -EINVAL;
}

static stel__observed observed(stel_runtime *rt) {
    stel__observed o = { .sched = rt->sched, .poller = rt->poller, .worker_count = rt->config.worker_threads };
    int64_t started = stel__load_relaxed(&rt->started_at), stopped = stel__load_relaxed(&rt->stopped_at);
    o.started_realtime = stel__load_relaxed(&rt->started_realtime);
    if (started) o.uptime_ns = (stopped ? stopped : stel__clock_now()) - started;
    return o;
}

int stel_runtime_stats_sized(stel_runtime *rt, stel_stats *out, size_t size) {
    if (!rt) return -EINVAL;
    stel__observed o = observed(rt);
    return stel__observe_runtime(&o, out, size);
}

int stel_runtime_worker_stats_sized(stel_runtime *rt, int worker, stel_worker_stats *out, size_t size) {
    if (!rt) return -EINVAL;
    if (worker < 0 || worker >= rt->config.worker_threads) return -EINVAL;
    stel__observed o = observed(rt);
    int64_t cpu_ns = 0;
    stel__runtime_pin(rt);                /* a thread's clock may be read as long as the thread has not been joined */
    if (stel__load_relaxed(&rt->halting)) /* pairs with halt() in stop.c, over the fence of pin */
        cpu_ns = stel__load_relaxed(&rt->worker_cpu[worker]);
    else if (stel__guardian_admitted(rt))
        cpu_ns = stel__sched_worker_cpu(rt->sched, worker);
    stel__runtime_unpin(rt);
    return stel__observe_worker(&o, worker, cpu_ns, out, size);
}
