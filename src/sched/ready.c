/* Making a fiber runnable: on which queue it goes, and who is woken for it.
 *
 * Which queue. A fiber with a place of its own goes to that worker's `pinned`; one with a priority to the caller's
 * `levels`; all others, if the caller is a worker of the same scheduler:
 *   spawned                          -> spawns, the newest to run first; beyond max_tasks_per_loop, as from elsewhere
 *   woken by the running fiber       -> next; what was there goes to the ring's end
 *   woken by poll or timer, yielded  -> the ring's end
 * and from anywhere else to the injection queue.
 *
 * Whom to wake. A futex wake costs the waker 7-14 us here, more than most fibers run. So a worker that makes something
 * runnable wakes another only for a backlog (two or more wait behind the running fiber), and nobody does while some
 * worker is searching already: it will find the work or look again before it sleeps. What waits alone behind a fiber
 * that does not leave is found by the poller thread a tick later. The order that makes this safe, against a worker in
 * idle.c that goes to sleep:
 *
 *   here                                     going to sleep
 *     push                                     sleep = ASLEEP, sleeping + 1     (RMW)
 *     fence                                    searching - 1                    (RMW)
 *     load searching, sleeping                 fence; look at all queues again
 * One of the two sees the other. What a poll or timers have found is looked at once, when all of it is on the ring and the
 * worker counts as awake (ready_found); and not at all while that does not pay (judge_rousing in idle.c). Workers push with
 * every fiber and sleep seldom, so theirs is the light fence (host.h), and who goes to sleep has the heavy one; strangers have a full one. With a single worker, its own pushes need none of this:
 * it is awake. A searcher that found something stops without a heavy fence: if it misses a backlog that is being pushed at
 * that moment by one who saw it search, the poller thread finds it.
 *
 * Strangers. A waker that is no worker of the scheduler must not touch it any more once the fiber it woke has ended,
 * the runtime was stopped and destroyed. It counts itself in `visitors` before the fiber is on a queue, and the end of
 * a scheduler waits until there are none. */
#include "sched/worker.h"

bool stel__wake_worker(stel__worker *w, enum stel__sleep_mode to) {
    uint32_t mode = stel__load_seq_cst(&w->sleep);
    if (!stel__is_asleep(mode) || !stel__cas_seq_cst(&w->sleep, &mode, (uint32_t)to)) return false;
    stel__sched *s = w->sched;
    stel__sub_seq_cst(&s->sleeping, 1);
    stel__add_relaxed(&s->wakes_outside, 1);
    if (mode == STEL__ASLEEP_FUTEX)
        stel__futex_wake(&w->sleep, 1);
    else
        s->hook.interrupt(w->point->context);
    return true;
}

/* Wake one to search; it counts as searching already. false: all are awake. */
static bool wake_to_search(stel__sched *s) {
    /* Those on a futex first: the one in the poll is useful where it is. */
    for (uint32_t mode = STEL__ASLEEP_FUTEX; mode <= STEL__ASLEEP_POLL; mode++)
        for (int i = 0; i < s->worker_count; i++) {
            stel__worker *w = s->worker[i];
            if (stel__load_relaxed(&w->sleep) == mode && stel__wake_worker(w, STEL__AWAKE_TO_SEARCH)) return true;
        }
    return false;
}

static bool anybody_asleep(const stel__sched *s) {
    for (int i = 0; i < s->worker_count; i++)
        if (stel__is_asleep(stel__load_relaxed(&s->worker[i]->sleep))) return true;
    return false;
}

/* A waker that finds all awake has counted as a searcher meanwhile, though it searched nothing: a stranger's push may
 * have relied on it and woken nobody, and a worker may have gone to sleep before that push and after we looked at it.
 * So, like every searcher that stops, it looks again. What workers push needs no look: they are awake. */
void stel__wake_searcher(stel__sched *s) {
    do {
        int nobody = 0;
        if (!stel__cas_seq_cst(&s->searching, &nobody, 1) || wake_to_search(s)) return;
        stel__sub_seq_cst(&s->searching, 1);
        stel__fence_seq_cst(); /* the pair with notify_outside: it sees nobody searching, or we see its push */
    } while (stel__inject_size(&s->inject) && anybody_asleep(s));
}

/* After a push by a worker of s. */
static inline void notify(stel__sched *s, const stel__worker *w) {
    if (s->alone) return;
    stel__fence_light();
    if (stel__load_relaxed(&s->sleeping) && !stel__load_relaxed(&s->searching) && stel__worker_backlog(w) > 1)
        stel__wake_searcher(s);
}

void stel__ready_found(stel__worker *w) {
    if (!stel__rousing_rests(w)) notify(w->sched, w);
}

/* After a push by a stranger: there is no running fiber that it could wait for. */
static void notify_outside(stel__sched *s) {
    stel__fence_seq_cst();
    if (stel__load_relaxed(&s->sleeping) && !stel__load_relaxed(&s->searching)) stel__wake_searcher(s);
}

static void push_ring(stel__worker *w, stel__fiber *f) {
    if (STEL__UNLIKELY(!stel__deque_push(&w->ring, f))) stel__inject_push(&w->sched->inject, f);
}

STEL__COLD static void push_pinned(stel__fiber *f) {
    stel__worker *home = stel__fiber_home(f)->worker[f->pinned - 1];
    stel__levels_push(&home->pinned, f);
    stel__fence_seq_cst(); /* as in notify: home, going to sleep, looks at its pinned queue again */
    (void)stel__wake_worker(home, STEL__AWAKE);
}

static bool is_special(const stel__fiber *f) {
    return f->pinned || stel__fiber_level(f) != STEL__LEVEL_NORMAL;
}

bool stel__ready_here(const stel__worker *w, const stel__fiber *f) {
    return w->sched == stel__fiber_home(f) && !is_special(f);
}

STEL__NOINLINE static void ready_special(stel__worker *w, stel__fiber *f) {
    if (f->pinned) {
        push_pinned(f);
    } else {
        stel__levels_push(&w->levels, f);
        notify(stel__fiber_home(f), w);
    }
}

STEL__COLD static void ready_outside(stel__fiber *f) {
    stel__sched *s = stel__fiber_home(f);
    if (stel__load_relaxed(&stel__forked)) return; /* a fiber of the parent, in a copy that nobody runs; no partner */
    stel__add_seq_cst(&s->visitors, 1);
    if (f->pinned) {
        push_pinned(f);
    } else {
        stel__inject_push(&s->inject, f);
        notify_outside(s);
    }
    stel__sub_seq_cst(&s->visitors, 1);
}

void stel__ready(stel__fiber *f) {
    stel__worker *w = stel__worker_self();
    if (STEL__UNLIKELY(!w || w->sched != stel__fiber_home(f))) {
        ready_outside(f);
        return;
    }
    if (STEL__UNLIKELY(is_special(f))) {
        ready_special(w, f);
        return;
    }
    if (!stel__worker_current(w)) {
        stel__fiber_fetch_stack(f); /* it runs when what was found before it has: time enough */
        push_ring(w, f);            /* the others are told of all that was found at once: ready_found */
        return;
    }
    stel__fiber *displaced;
    if (w->sched->alone) {
        displaced = stel__load_relaxed(&w->next);
        stel__store_relaxed(&w->next, f);
    } else {
        displaced = stel__xchg_acq_rel(&w->next, f); /* pairs with thieves' exchange */
    }
    if (displaced) {
        stel__fiber_fetch_stack(displaced);
        push_ring(w, displaced);
    }
    notify(w->sched, w);
}

void stel__ready_yielded(stel__worker *w, stel__fiber *f) {
    if (STEL__UNLIKELY(is_special(f)))
        ready_special(w, f);
    else
        push_ring(w, f);
}

void stel__ready_spawned(stel__worker *w, stel__fiber *f) {
    if (STEL__UNLIKELY(!w)) {
        ready_outside(f);
        return;
    }
    if (STEL__UNLIKELY(is_special(f))) {
        ready_special(w, f);
        return;
    }
    unsigned bound = stel__load_relaxed(&w->sched->settings.max_tasks_per_loop);
    if (STEL__UNLIKELY(bound && stel__deque_size(&w->spawns) >= bound) ||
        STEL__UNLIKELY(!stel__deque_push(&w->spawns, f))) {
        stel__inject_push(&w->sched->inject, f);
        notify_outside(w->sched); /* it is not in the backlog that notify looks at */
        return;
    }
    notify(w->sched, w);
}
