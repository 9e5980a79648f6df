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
 *   CREATED     never started: no threads. Fibers may have been spawned; they wait.
 *   STARTING    start() or restart() is making threads. Fibers may run already; the guardian is held at its gate.
 *   RUNNING     the ordinary state.
 *   STOPPING    spawns from outside are refused, accept fails; fibers run on until grace_until, or until none is
 *               counted any more (then only background fibers are left, and nobody is served by waiting for them).
 *   CANCELLING  all fibers were cancelled, and are again now and then for those spawned since; until cancel_until.
 *   STUCK       some would not end. They were named, the waiters got -EBUSY, the runtime runs on; spawns from outside
 *               are still refused. A further stop begins again at STOPPING.
 *   HALTED      no fiber lives, the workers have been joined, the guardian returns. destroy() may follow, unless
 *               somebody is in restart(), who will go on from here.
 *
 *   CREATED    -> STARTING    start()
 *   HALTED     -> STARTING    restart()
 *   STARTING   -> CREATED     start(): no threads; nothing has run
 *   STARTING   -> HALTED      restart(): the same, or no memory
 *   STARTING   -> RUNNING     start(), restart()
 *   STARTING   -> STOPPING    begin_stop(): a fiber was quick, or another thread was
 *   STOPPING   -> CREATED     start(): no threads after all
 *   STOPPING   -> HALTED      restart(): the same
 *   RUNNING    -> STOPPING    begin_stop(): stop(), stel_shutdown(), auto-shutdown
 *   STUCK      -> STOPPING    begin_stop()
 *   STOPPING   -> CANCELLING  guardian: grace over, or no counted fiber left
 *   STOPPING   -> HALTED      guardian: no fiber left
 *   CANCELLING -> HALTED      guardian: no fiber left
 *   CANCELLING -> STUCK       guardian: stop_timeout over
 *
 * A restart is stop() and then a start with a new life (poller, scheduler, counters; runtime.c). Only one is on at a time
 * (rt->restarting; a second one is -EBUSY), and while it is, destroy() is refused. So the one that is on owns the edge
 * out of HALTED. What others see in between: wait() and stop() return 0, for the runtime did stop; stop() that comes
 * when the new life is being started stops that one. Spawns from outside are refused until it runs: the old scheduler is
 * closed, the new one made closed and opened with the edge to RUNNING, so a start that fails leaves no fiber behind.
 *
 * Who may touch the runtime, and when. A thread that waits for the end may learn of it while another has destroyed the
 * runtime already. So wish and wait are one section under rt->lock (stop), which is the last that touches it; a waiter
 * that was told, or cut short, looks at its own node only, under a lock that is not the runtime's (`waiting`).
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
enum { TOLD_NOTHING, TOLD_HALTED, TOLD_STUCK, TOLD_NOT_STARTED };

/* Over every runtime's list of waiters: see the top. Taken under rt->lock, or alone. */
static stel__lock waiting;

static int told_code(int told) {
    STEL__ASSERT(told >= TOLD_HALTED && told <= TOLD_NOT_STARTED);
    return told == TOLD_HALTED ? 0 : told == TOLD_STUCK ? -EBUSY : -EINVAL;
}

/* Under the lock. */
static int begin(stel_runtime *rt, int64_t until) {
    int state = stel__load_relaxed(&rt->state);
    if (state == STEL__RUNTIME_CREATED) return -EINVAL;
    if (state == STEL__RUNTIME_STARTING || state == STEL__RUNTIME_RUNNING || state == STEL__RUNTIME_STUCK) {
        rt->grace_until = until;
        /* Before the state: the guardian may look for the last fiber at once. */
        stel__sched_close(stel__runtime_life(rt)->sched, true);
        stel__runtime_enter(rt, state, STEL__RUNTIME_STOPPING);
    } else if (state == STEL__RUNTIME_STOPPING && until < rt->grace_until) {
        rt->grace_until = until;
    }
    stel__guardian_signal(rt);
    return 0;
}

int stel__runtime_begin_stop(stel_runtime *rt, int64_t grace_ns) {
    int64_t until = stel__time_add(stel__clock_now(), grace_ns);
    stel__lock_take(&rt->lock);
    int rc = begin(rt, until);
    stel__lock_give(&rt->lock);
    return rc;
}

void stel__runtime_on_empty(void *context) {
    stel_runtime *rt = context;
    stel_stats figures;
    /* Sched calls again and again while nothing is left. Of interest is the first time after there was something. */
    if (stel__runtime_state(rt) > STEL__RUNTIME_RUNNING) return;
    stel__lock_take(&rt->lock);
    stel__sched *s = stel__runtime_life(rt)->sched;
    stel__sched_stats(s, &figures);
    /* Counted fibers may still come, from background ones or from a thread that was quicker than the close: they have
     * all the time they want. As soon as there are none the guardian cancels the background ones. */
    if (rt->config.auto_shutdown > 0 && figures.spawned > 0 && stel__sched_live_counted(s) == 0 &&
        stel__runtime_state(rt) <= STEL__RUNTIME_RUNNING)
        (void)begin(rt, STEL_FOREVER);
    stel__lock_give(&rt->lock);
}

/* ---- waiting for the end ---- */

enum { ENLISTED = 1 };

/* Under the lock: ENLISTED, or what waiting would come to. */
static int enlist(stel_runtime *rt, stel__waiter *w) {
    int state = stel__load_relaxed(&rt->state);
    if (state == STEL__RUNTIME_CREATED) return -EINVAL;
    if (state >= STEL__RUNTIME_STUCK) return state == STEL__RUNTIME_STUCK ? -EBUSY : 0;
    stel__wait_begin(w, STEL__WAIT_RUNTIME);
    w->node.waiter = w->index;
    w->node.flags = TOLD_NOTHING;
    stel__lock_take(&waiting);
    stel__list_push_tail(&rt->waiters, &w->node.link);
    stel__lock_give(&waiting);
    return ENLISTED;
}

/* rt may be gone at any time, unless the waiter finds that it has been told nothing. */
static int park(stel_runtime *rt, stel__waiter *w, unsigned flags) {
    int rc = stel__wait_park(w, flags);
    if (rc >= 0) return told_code(rc);
    stel__lock_take(&waiting);
    int told = w->node.flags;
    if (told == TOLD_NOTHING) stel__list_remove(&rt->waiters, &w->node.link);
    stel__lock_give(&waiting);
    return told == TOLD_NOTHING ? rc : told_code(told);
}

int stel__runtime_await(stel_runtime *rt, unsigned flags) {
    stel__waiter *w = stel__waiter_self();
    if (!w) return -ENOMEM;
    int rc = flags & STEL__PARK_UNINTERRUPTIBLE ? 0 : stel__wait_check(w);
    if (rc < 0) return rc;
    stel__lock_take(&rt->lock);
    rc = enlist(rt, w);
    stel__lock_give(&rt->lock);
    return rc == ENLISTED ? park(rt, w, flags) : rc;
}

int stel__runtime_stop(stel_runtime *rt, int64_t grace_ns) {
    stel__waiter *w = stel__waiter_self();
    if (!w) return -ENOMEM;
    int rc = stel__wait_check(w); /* cut short before it began, a call has done nothing */
    if (rc < 0) return rc;
    int64_t until = stel__time_add(stel__clock_now(), grace_ns);
    stel__lock_take(&rt->lock);
    rc = begin(rt, until);
    if (rc == 0) rc = enlist(rt, w);
    stel__lock_give(&rt->lock);
    return rc == ENLISTED ? park(rt, w, 0) : rc;
}

/* Under rt->lock, which keeps rt from being destroyed by those who learn it here, until it is given back. A ticket is
 * good under the list's lock only, and there may be any number: so the wakes happen under it too. */
static void tell(stel_runtime *rt, uint16_t told) {
    stel__lock_take(&waiting);
    for (stel__link *n; (n = stel__list_pop_head(&rt->waiters));) {
        stel__node *node = STEL__CONTAINER(n, stel__node, link);
        node->flags = told;
        stel__wake(stel__node_ticket(node), told);
    }
    stel__lock_give(&waiting);
}

/* Enter a last state and tell all waiters. After HALTED rt may be gone, but for the guardian's own thread, which destroy
 * and restart join. */
static void finish(stel_runtime *rt, int from, int to, uint16_t told) {
    stel__lock_take(&rt->lock);
    stel__runtime_enter(rt, from, to);
    tell(rt, told);
    stel__lock_give(&rt->lock);
}

void stel__runtime_not_started(stel_runtime *rt, int from) {
    int state = stel__load_relaxed(&rt->state);
    STEL__ASSERT(state == STEL__RUNTIME_STARTING || state == STEL__RUNTIME_STOPPING);
    stel__runtime_enter(rt, state, from);
    if (from == STEL__RUNTIME_CREATED) stel__sched_close(stel__runtime_life(rt)->sched, false); /* as it was */
    tell(rt, from == STEL__RUNTIME_HALTED ? TOLD_HALTED : TOLD_NOT_STARTED);
}

/* ---- the guardian's part ---- */

/* Exact: see the top. */
static bool nobody_left(stel_runtime *rt) {
    return !stel__runtime_pinned(rt) && stel__sched_live(stel__runtime_life(rt)->sched) == 0;
}

static void halt(stel_runtime *rt, int from) {
    stel__life *life = stel__runtime_life(rt);
    stel__registry_remove(rt);
    while (stel__runtime_pinned(rt))
        sched_yield();
    stel__lock_take(&rt->lock); /* worker_stats looks at the threads' clocks under it */
    for (int i = 0; i < rt->config.worker_threads; i++)
        life->worker_cpu[i] = stel__sched_worker_cpu(life->sched, i);
    life->halting = true;
    stel__lock_give(&rt->lock);
    stel__sched_halt(life->sched);
    stel__lock_take(&rt->lock);
    life->stopped_at = stel__clock_now();
    stel__lock_give(&rt->lock);
    rt->guardian.over = true;
    finish(rt, from, STEL__RUNTIME_HALTED, TOLD_HALTED);
}

static void give_up(stel_runtime *rt) {
    stel__sched *s = stel__runtime_life(rt)->sched;
    uint64_t n = stel__sched_live(s);
    stel__warn("stop: %llu %s not ended within %lld ms of the cancellation:", (unsigned long long)n,
               n == 1 ? "fiber has" : "fibers have", (long long)(rt->guardian.patience / 1000000));
    stel__sched_report_survivors(s);
    finish(rt, STEL__RUNTIME_CANCELLING, STEL__RUNTIME_STUCK, TOLD_STUCK);
}

static int64_t cancel_all(stel_runtime *rt, int64_t now) {
    stel__guardian *g = &rt->guardian;
    stel__sched_cancel_all(stel__runtime_life(rt)->sched, false);
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
    bool over = now >= until || stel__sched_live_counted(stel__runtime_life(rt)->sched) == 0;
    if (over) {
        g->patience = rt->config.stop_timeout_ns;
        rt->cancel_until = stel__time_add(now, g->patience);
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
    if (!g->acceptors_told) { /* here and not in begin, which may run on a worker that is about to sleep */
        stel__pollers_wake_acceptors(stel__runtime_life(rt)->pollers);
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
    return stel_runtime_current() == rt ? -EDEADLK : stel__runtime_stop(rt, grace_ns);
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
