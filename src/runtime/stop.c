/* The course of a runtime's life, and its end.
 *
 * One thread drives a stop: the guardian (guardian.c), which every started runtime has. Whoever wants the end (a thread
 * in stel_runtime_stop, a fiber in stel_shutdown, the worker that finds the last counted fiber gone) only notes the
 * wish and signals the guardian; whoever wants to see the end parks on rt->waiters like on anything else. So a stop
 * goes on although its caller gave up, was cancelled, or is one of the fibers that must end; and there is one place
 * that joins the workers.
 *
 * States. All edges are taken under rt->lock; the state may be read anywhere.
 *
 *   CREATED     no threads. Fibers may have been spawned; they wait.
 *   STARTING    start() is making threads. Fibers may run already; the guardian is held at its gate.
 *   RUNNING     the ordinary state.
 *   STOPPING    spawns from outside are refused, accept fails; fibers run on until grace_until, or until none is
 *               counted any more (then only background fibers are left, and nobody is served by waiting for them).
 *   CANCELLING  all fibers were cancelled, and are again now and then for those spawned since; until cancel_until.
 *   STUCK       some would not end. They were named, the waiters got -EBUSY, the runtime runs on; spawns from outside
 *               are still refused. A further stop begins again at STOPPING.
 *   HALTED      no fiber lives, the workers have been joined, the guardian returns. Only destroy may follow.
 *
 *   CREATED    -> STARTING    start()
 *   STARTING   -> CREATED     start(): no threads; nothing has run
 *   STARTING   -> RUNNING     start()
 *   STARTING   -> STOPPING    begin_stop(): a fiber was quick
 *   RUNNING    -> STOPPING    begin_stop(): stop(), stel_shutdown(), auto-shutdown
 *   STUCK      -> STOPPING    begin_stop()
 *   STOPPING   -> CANCELLING  guardian: grace over, or no counted fiber left
 *   STOPPING   -> HALTED      guardian: no fiber left
 *   CANCELLING -> HALTED      guardian: no fiber left
 *   CANCELLING -> STUCK       guardian: stop_timeout over
 *
 * Why no fiber can slip in between "none left" and HALTED: stel__sched_close was called before the state left RUNNING,
 * so new spawns come from fibers only, and there are none; one from outside that was quicker than the close holds a pin
 * (registry.c has the sequences); stel__sched_live is exact when it says 0.
 *
 * The guardian looks for the last fiber by probing, from 20 us apart at first to 1 ms: a stop is rare, and a count that
 * every exit would have to look at is not free. What was tried and dropped: letting the thread in stel_runtime_wait
 * drive. It saves a hop of 50 us, and needs a baton that is handed on when that thread's deadline comes, or when it is
 * a fiber that must not block its worker in a join. */
#include "runtime/runtime.h"
#include <sched.h>

enum { PROBE_FIRST_NS = 20000, PROBE_LAST_NS = 1000000 };
enum { CANCEL_AGAIN_FIRST_NS = 1000000, CANCEL_AGAIN_LAST_NS = 100000000 };

/* What a waiter is told; in node.flags as well, for one that gave up at the moment it was chosen. */
enum { TOLD_NOTHING, TOLD_HALTED, TOLD_STUCK };

static int told_code(int told) {
    STEL__ASSERT(told == TOLD_HALTED || told == TOLD_STUCK);
    return told == TOLD_HALTED ? 0 : -EBUSY;
}

int stel__runtime_begin_stop(stel_runtime *rt, int64_t grace_ns) {
    int64_t until = stel__time_add(stel__clock_now(), grace_ns);
    stel__lock_take(&rt->lock);
    int state = stel__load_relaxed(&rt->state);
    if (state == STEL__RUNTIME_CREATED) {
        stel__lock_give(&rt->lock);
        return -EINVAL;
    }
    if (state == STEL__RUNTIME_STARTING || state == STEL__RUNTIME_RUNNING || state == STEL__RUNTIME_STUCK) {
        rt->grace_until = until;
        stel__sched_close(rt->sched); /* before the state: the guardian may look for the last fiber at once */
        stel__runtime_enter(rt, state, STEL__RUNTIME_STOPPING);
    } else if (state == STEL__RUNTIME_STOPPING && until < rt->grace_until) {
        rt->grace_until = until;
    }
    stel__lock_give(&rt->lock);
    stel__poller_wake_acceptors(rt->poller); /* after the state: see slot_wait */
    stel__guardian_signal(rt);
    return 0;
}

void stel__runtime_on_empty(void *context) {
    stel_runtime *rt = context;
    stel_stats figures;
    /* Sched calls again and again while nothing is left. Of interest is the first time after there was something. */
    if (stel__runtime_state(rt) > STEL__RUNTIME_RUNNING) return;
    stel__sched_stats(rt->sched, &figures);
    if (figures.spawned == 0) return;
    /* Counted fibers may still come, from background ones or from a thread that was quicker than the close: they have
     * all the time they want. As soon as there are none the guardian cancels the background ones. */
    (void)stel__runtime_begin_stop(rt, STEL_FOREVER);
}

/* ---- waiting for the end ---- */

int stel__runtime_await(stel_runtime *rt, unsigned flags) {
    stel__waiter *w = stel__waiter_self();
    if (!w) return -ENOMEM;
    int rc = flags & STEL__PARK_UNINTERRUPTIBLE ? 0 : stel__wait_check(w);
    if (rc < 0) return rc;
    stel__lock_take(&rt->lock);
    int state = stel__load_relaxed(&rt->state);
    if (state < STEL__RUNTIME_RUNNING || state >= STEL__RUNTIME_STUCK) {
        stel__lock_give(&rt->lock);
        return state < STEL__RUNTIME_RUNNING ? -EINVAL : state == STEL__RUNTIME_STUCK ? -EBUSY : 0;
    }
    stel__wait_begin(w, STEL__WAIT_RUNTIME);
    w->node.waiter = w->index;
    w->node.flags = TOLD_NOTHING;
    stel__list_push_tail(&rt->waiters, &w->node.link);
    stel__lock_give(&rt->lock);
    rc = stel__wait_park(w, flags);
    if (rc >= 0) return told_code(rc); /* rt may be gone by now */
    stel__lock_take(&rt->lock);
    int told = w->node.flags;
    if (told == TOLD_NOTHING) stel__list_remove(&rt->waiters, &w->node.link);
    stel__lock_give(&rt->lock);
    return told == TOLD_NOTHING ? rc : told_code(told);
}

/* Enter the last state and tell all waiters. After it rt may be gone, but for the guardian's own thread, which destroy
 * joins. */
static void finish(stel_runtime *rt, int from, int to, uint16_t told) {
    stel__lock_take(&rt->lock);
    stel__runtime_enter(rt, from, to);
    /* A ticket is good under the lock only, and there may be any number: so the wakes happen under it too. A woken
     * waiter does not touch rt, and destroy joins this thread before it frees. */
    for (stel__link *n; (n = stel__list_pop_head(&rt->waiters));) {
        stel__node *node = STEL__CONTAINER(n, stel__node, link);
        node->flags = told;
        stel__wake(stel__node_ticket(node), told);
    }
    stel__lock_give(&rt->lock);
}

/* ---- the guardian's part ---- */

/* Exact: see the top. */
static bool nobody_left(stel_runtime *rt) {
    return !stel__runtime_pinned(rt) && stel__sched_live(rt->sched) == 0;
}

static void halt(stel_runtime *rt, int from) {
    stel__registry_remove(rt);
    stel__store_relaxed(&rt->halting, true); /* pairs, over the fences of pin and pinned, with worker_stats */
    while (stel__runtime_pinned(rt))
        sched_yield();
    for (int i = 0; i < rt->config.worker_threads; i++)
        stel__store_relaxed(&rt->worker_cpu[i], stel__sched_worker_cpu(rt->sched, i));
    stel__sched_halt(rt->sched);
    stel__store_relaxed(&rt->stopped_at, stel__clock_now());
    finish(rt, from, STEL__RUNTIME_HALTED, TOLD_HALTED);
}

static void give_up(stel_runtime *rt) {
    uint64_t n = stel__sched_live(rt->sched);
    stel__warn("stop: %llu %s not ended within %lld ms of the cancellation:", (unsigned long long)n,
               n == 1 ? "fiber has" : "fibers have", (long long)(rt->config.stop_timeout_ns / 1000000));
    stel__sched_report_survivors(rt->sched);
    finish(rt, STEL__RUNTIME_CANCELLING, STEL__RUNTIME_STUCK, TOLD_STUCK);
}

static int64_t cancel_all(stel_runtime *rt, int64_t now) {
    stel__guardian *g = &rt->guardian;
    stel__sched_cancel_all(rt->sched, false);
    g->cancel_at = now + g->cancel_every;
    if (g->cancel_every < CANCEL_AGAIN_LAST_NS) g->cancel_every *= 2;
    return g->cancel_at;
}

static int64_t probe_again(stel__guardian *g, int64_t now) {
    int64_t at = now + g->probe;
    if (g->probe < PROBE_LAST_NS) g->probe += g->probe / 2;
    return at;
}

static int64_t drive_stopping(stel_runtime *rt, int64_t now) {
    stel__guardian *g = &rt->guardian;
    stel__lock_take(&rt->lock);
    int64_t until = rt->grace_until; /* may have been shortened: every look is a fresh one */
    bool over = now >= until || stel__sched_live_counted(rt->sched) == 0;
    if (over) {
        rt->cancel_until = stel__time_add(now, rt->config.stop_timeout_ns);
        stel__runtime_enter(rt, STEL__RUNTIME_STOPPING, STEL__RUNTIME_CANCELLING);
    }
    stel__lock_give(&rt->lock);
    if (over) {
        g->cancel_every = CANCEL_AGAIN_FIRST_NS;
        g->probe = PROBE_FIRST_NS;
        cancel_all(rt, now);
    }
    int64_t probe = probe_again(g, now);
    return probe < until || over ? probe : until;
}

int64_t stel__runtime_drive_stop(stel_runtime *rt, int64_t now) {
    stel__guardian *g = &rt->guardian;
    int state = stel__runtime_state(rt);
    if (state != STEL__RUNTIME_STOPPING && state != STEL__RUNTIME_CANCELLING) {
        g->probe = PROBE_FIRST_NS;
        g->acceptors_told = false;
        return STEL_FOREVER;
    }
    if (!g->acceptors_told) { /* here and not in begin_stop, which may run on a worker that is about to sleep */
        stel__poller_wake_acceptors(rt->poller);
        g->acceptors_told = true;
    }
    if (nobody_left(rt)) {
        halt(rt, state); /* nobody but us leaves these two states */
        return now;
    }
    if (state == STEL__RUNTIME_STOPPING) return drive_stopping(rt, now);
    if (now >= rt->cancel_until) { /* written by us, above */
        give_up(rt);
        return now;
    }
    if (now >= g->cancel_at) cancel_all(rt, now);
    return probe_again(g, now);
}

/* ---- the public calls ---- */

int stel_runtime_stop(stel_runtime *rt, int64_t grace_ns) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt) return -EINVAL;
    if (stel_runtime_current() == rt) return -EDEADLK;
    stel__waiter *w = stel__waiter_self();
    if (!w) return -ENOMEM;
    int rc = stel__wait_check(w); /* cut short before it began, a call has done nothing */
    if (rc == 0) rc = stel__runtime_begin_stop(rt, grace_ns);
    return rc < 0 ? rc : stel__runtime_await(rt, 0);
}

int stel_runtime_wait(stel_runtime *rt) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!rt) return -EINVAL;
    return stel_runtime_current() == rt ? -EDEADLK : stel__runtime_await(rt, 0);
}

int stel_shutdown(int64_t grace_ns) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    stel_runtime *rt = stel_runtime_current();
    return rt ? stel__runtime_begin_stop(rt, grace_ns) : -EPERM;
}

bool stel_stopping(void) {
    stel_runtime *rt = stel_runtime_current();
    return rt && stel__runtime_state(rt) >= STEL__RUNTIME_STOPPING;
}
