/* Settings of a runtime: what the defaults come to on this machine, and what may be changed while it lives.
 *
 * rt->config is the whole truth, under the lock. What a running scheduler or poller needs of it is copied to where it is
 * read, into words of its own that may change at any time (stel__sched_apply, stel__pollers_set_batch); so nobody reads
 * rt->config on a hot path. Which settings can change is a column of the table in config (live). */
#include "config/config.h"
#include "runtime/runtime.h"
#include <stdio.h>
#include <string.h>

static int check_backend(const stel_config *c) {
    if (!strcmp(c->backend, "auto") || stel_backend_has(c->backend)) return 0;
    const char *names[16];
    char list[512] = "", why[256] = "";
    (void)!stel_backend_probe(c->backend, why, sizeof why);
    size_t n = stel_backend_list(names, STEL__COUNT_OF(names)), used = 0;
    for (size_t i = 0; i < n && i < STEL__COUNT_OF(names) && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, ", %s", names[i]);
    stel__warn("error: runtime.backend: \"%s\" is not a backend (auto%s): %s", c->backend, list, why);
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

int stel__settings_settle(stel_config *c, bool in_stel_run) {
    int rc = check_backend(c);
    /* Finding out how many CPUs we may use takes a third of a millisecond of a program's start: only if it matters. */
    if (c->poller_mode == STEL_POLLER_INLINE && !c->worker_threads) c->worker_threads = 1;
    int cpus = c->worker_threads && !c->enable_cpu_affinity ? 0 : stel__cpu_count();
    if (!c->worker_threads) c->worker_threads = cpus < 1024 ? cpus : 1024;
    if (!c->auto_shutdown) c->auto_shutdown = in_stel_run ? 1 : -1;
    if (!c->seed) c->seed = (uint64_t)stel__clock_now() ^ ((uint64_t)stel__thread_id() << 40) ^ (uintptr_t)c;
    if (!c->seed) c->seed = 1;
    if (settle_stack(c) < 0) rc = -EINVAL;
    if (c->enable_cpu_affinity && c->worker_threads > cpus)
        stel__warn("warning: runtime.enable_cpu_affinity with %d workers for %d CPUs: some share one",
                   c->worker_threads, cpus);
    if (c->poller_mode == STEL_POLLER_INLINE && c->worker_threads > 1)
        stel__warn(
            "warning: runtime.poller.mode = \"inline\" with %d workers: only the first one waits for descriptors",
            c->worker_threads);
    return rc;
}

void stel__settings_apply(stel_runtime *rt, stel__life *life) {
    const stel_config *c = &rt->config;
    stel__sched_apply(life->sched, c);
    stel__sched_on_empty(life->sched, c->auto_shutdown > 0 ? stel__runtime_on_empty : NULL, rt);
    stel__pollers_set_batch(life->pollers, c->io_batch);
}

int stel_runtime_get_config_sized(stel_runtime *rt, stel_config *out, size_t size) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt) return -EINVAL;
    stel__lock_take(&rt->lock);
    stel_config now = rt->config;
    stel__lock_give(&rt->lock);
    return stel__config_hand_out(&now, out, size);
}

/* ---- changes ---- */

/* What zero means depends on what is in force: a chance of one's own, a backend that was chosen, remain. */
static int resolve(stel_config *wanted, const stel_config *now, bool in_stel_run) {
    if (!wanted->seed) wanted->seed = now->seed;
    int pages = wanted->stack_guard_pages;
    wanted->stack_guard_pages = now->stack_guard_pages; /* another number is refused later, and must not be tried */
    int rc = stel__settings_settle(wanted, in_stel_run);
    wanted->stack_guard_pages = pages;
    return rc;
}

static const char *backend_of(const stel_config *c) {
    return strcmp(c->backend, "auto") ? c->backend : "epoll";
}

/* Does a setting differ that stays what it is? Says so on stderr. */
static bool differs(const stel_config *wanted, const stel_config *now) {
    size_t n;
    bool found = false;
    const stel__key *keys = stel__config_keys(&n);
    for (size_t i = 0; i < n; i++) {
        const stel__key *k = &keys[i];
        if (k->live) continue;
        bool same = k->type == STEL__KEY_NAME ? !strcmp(backend_of(wanted), backend_of(now))
                                              : stel__config_get(wanted, k) == stel__config_get(now, k);
        if (same) continue;
        stel__warn("error: %s: stel_config.%s cannot be changed while the runtime lives", k->key, k->member);
        found = true;
    }
    return found;
}

static void adopt_live(stel_config *now, const stel_config *wanted) {
    size_t n;
    const stel__key *keys = stel__config_keys(&n);
    for (size_t i = 0; i < n; i++)
        if (keys[i].live) stel__config_put(now, &keys[i], stel__config_get(wanted, &keys[i]));
}

int stel_runtime_update_config(stel_runtime *rt, const stel_config *c) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt || !c) return -EINVAL;
    stel_config wanted, now;
    int rc = stel__config_adopt(&wanted, c);
    if (rc < 0) return rc;
    stel__lock_take(&rt->lock);
    now = rt->config;
    stel__lock_give(&rt->lock);
    /* Not under the lock: what stays what it is can be compared with what it was, and the rest is taken over as it is. */
    rc = resolve(&wanted, &now, rt->root.fn != NULL);
    if (rc < 0) return rc;
    if (differs(&wanted, &now)) return -EBUSY;
    stel__lock_take(&rt->lock);
    adopt_live(&rt->config, &wanted);
    stel__settings_apply(rt, stel__runtime_life(rt));
    stel__lock_give(&rt->lock);
    stel__runtime_on_empty(rt); /* everybody may be asleep, with nobody left to find it out */
    return 0;
}
