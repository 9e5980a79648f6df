/* The scheduler's part of the poller thread: the guarantee that nothing goes unseen when every worker is busy.
 *
 * Idle workers poll, expire timers and steal by themselves; a busy one does between two fibers. What is left is a fiber
 * that does not leave its worker: then its timers, the descriptors, and what waits behind it are nobody's. Every
 * millisecond or few (guardian.c in runtime says how often) the tick looks for that: it expires wheels that are late, polls
 * (every point that is not its worker's alone) if nobody has lately, wakes a sleeping worker when somebody has a backlog,
 * and has busy workers look at what it put on the injection queue (hurry). It also reports such a fiber, once a run.
 * When all workers sleep there is nothing to guard and the thread may sleep as well, until a worker leaves its sleep
 * (stel__sched_guard_sleep). */
#include "sched/worker.h"
#include <inttypes.h>

/* Why a fiber does not leave: it computes, or it waits in the kernel. NULL: neither; its thread has no CPU just now, which
 * is the machine's business. */
static const char *stall_cause(const stel__worker *w, int64_t stall_ns) {
    if (stel__clock_thread(w->thread) - w->watched_cpu > stall_ns / 2) return "computing; it should yield now and then";
    char state = stel__thread_state(stel__load_relaxed(&w->thread_id));
    return state == 'S' || state == 'D' ? "in a system call; what blocks belongs in stel_offload" : NULL;
}

/* Its name may be gone by now: then there was no stall. */
static void report_stall(const stel__worker *w, int64_t held_ns, const char *cause) {
    const stel__fiber *f = stel__worker_current(w);
    if (!f) return;
    stel_fiber handle = stel__fiber_handle(f, stel__load_acquire(&f->life));
    char name[32] = "", entry[STEL__SYMBOL_BYTES], site[STEL__SYMBOL_BYTES];
    if (stel_fiber_name(handle, name, sizeof name) < 0) return;
    stel__symbol(entry, (void *)(uintptr_t)stel__load_relaxed(&f->fn));
    stel__symbol(site, stel__load_relaxed(&f->spawn_site));
    stel__warn("fiber %#" PRIx64 " \"%s\" (entry %s, spawned at %s) has held worker %d for %" PRId64 " ms, %s", handle,
               name, entry, site, w->id, held_ns / 1000000, cause);
}

/* true: the worker sleeps, or has switched since the last tick. */
static bool watch(stel__worker *w, int64_t now) {
    int64_t stall_ns = stel__load_relaxed(&w->sched->settings.stall_ns); /* a setting: no partner */
    uint64_t switches = stel__load_relaxed(&w->counters.switches);
    bool asleep = stel__is_asleep(stel__load_relaxed(&w->sleep));
    if (asleep || switches != w->watched_switches || !w->watched_since) {
        w->watched_switches = switches;
        w->watched_since = now;
        w->watched_cpu = -1;
        w->stall_reported = false;
        return true;
    }
    if (stall_ns <= 0 || w->stall_reported) return false;
    if (w->watched_cpu < 0) w->watched_cpu = stel__clock_thread(w->thread); /* a tick late: it costs a system call */
    if (now - w->watched_since <= stall_ns) return false;
    const char *cause = stall_cause(w, stall_ns);
    w->stall_reported = cause != NULL;
    if (cause) report_stall(w, now - w->watched_since, cause);
    return false;
}

/* Poll for the workers if none of them has lately. */
static bool poll_for_them(stel__sched *s, stel__poll_point *p, int64_t now, int64_t tick_ns) {
    if (stel__load_relaxed(&p->last_poll) >= now - tick_ns || !stel__poll_claim(p, -1)) return false;
    s->hook.poll(p->context);
    stel__poll_release(p, now);
    return true;
}

static bool unpolled(const stel__sched *s, stel__poll_point *p) {
    return s->hook.armed(p->context) && stel__load_relaxed(&p->claim) == 0;
}

/* Look at a point that all workers share. */
static bool guard_shared(stel__sched *s, bool all_asleep, int64_t now, int64_t tick_ns) {
    stel__poll_point *p = &s->points[0];
    if (!all_asleep) return !s->hook.owned && s->hook.armed(p->context) && poll_for_them(s, p, now, tick_ns);
    if (!unpolled(s, p)) return false;
    /* The last worker to go to sleep found our own poll in the way, and sleeps on its futex: send it back. */
    stel__wake_searcher(s);
    return true;
}

/* Look at the points of one worker each. */
static bool guard_own(stel__sched *s, int64_t now, int64_t tick_ns) {
    bool needed = false;
    for (int i = 0; i < s->hook.points; i++) {
        stel__worker *w = s->worker[i];
        uint32_t mode = stel__load_relaxed(&w->sleep);
        if (mode == STEL__ASLEEP_FUTEX && unpolled(s, w->point)) /* as above */
            needed |= stel__wake_worker(w, STEL__AWAKE);
        else if (!stel__is_asleep(mode) && !s->hook.owned && s->hook.armed(w->point->context))
            needed |= poll_for_them(s, w->point, now, tick_ns);
    }
    return needed;
}

/* Where fibers hold their workers for long, 61 dispatches are a long time as well: what waits in the injection queue, often
 * because we have put it there, is looked at after the next one. The worker counts without a swap, so a store of ours may
 * be lost; there is another tick. */
static void hurry(stel__sched *s) {
    for (int i = 0; i < s->worker_count; i++) {
        stel__worker *w = s->worker[i];
        if (!stel__worker_current(w))
            continue; /* about to look by itself; or it has not begun, and a seed decides then */
        stel__store_relaxed(&w->look_soon, true);
        stel__store_relaxed(&w->until_check, 1u);
    }
}

enum stel__tick stel__sched_tick(stel__sched *s, int64_t now, int64_t tick_ns) {
    bool all_asleep = true, needed = false, backlog = stel__inject_size(&s->inject) > 0;
    stel__count(&s->ticks, 1);
    for (int i = 0; i < s->worker_count; i++) {
        stel__worker *w = s->worker[i];
        needed |= !watch(w, now);
        if (stel__is_asleep(stel__load_relaxed(&w->sleep))) continue;
        all_asleep = false;
        /* A worker that sleeps will wake for its own timers. */
        if (stel__load_relaxed(&w->wheel.next) <= now - tick_ns) needed |= stel__wheel_expire(&w->wheel, now) > 0;
        backlog |= stel__worker_backlog(w) > stel__load_relaxed(&w->pinned.count);
    }
    bool polled = false;
    if (s->hook.points == 1)
        polled = guard_shared(s, all_asleep, now, tick_ns);
    else if (s->hook.points > 1)
        polled = guard_own(s, now, tick_ns);
    if (all_asleep && polled) return STEL__TICK_NEEDED;
    needed |= polled;
    if (stel__inject_size(&s->inject) > 0) hurry(s);
    if (backlog && stel__load_relaxed(&s->sleeping) && !stel__load_relaxed(&s->searching)) {
        stel__wake_searcher(s);
        needed = true;
    }
    if (all_asleep) return STEL__TICK_ASLEEP;
    stel__sched_check_empty(s);
    return needed ? STEL__TICK_NEEDED : STEL__TICK_MOVING;
}

bool stel__sched_guard_sleep(stel__sched *s) {
    stel__store_seq_cst(&s->guard_asleep, true);
    /* Against go_to_sleep in idle.c: a worker that leaves sleep changes `sleep` first and looks at guard_asleep then.
     */
    for (int i = 0; i < s->worker_count; i++)
        if (!stel__is_asleep(stel__load_seq_cst(&s->worker[i]->sleep))) {
            stel__store_seq_cst(&s->guard_asleep, false);
            return false;
        }
    return true;
}

void stel__sched_guard_awake(stel__sched *s) {
    stel__store_seq_cst(&s->guard_asleep, false);
}
