/* A worker without work. It looks at everybody else's queues (steals), and when there is nothing it sleeps: the first
 * to ask sleeps in the poll, so that readiness wakes the one who will handle it and no event passes from hand to hand;
 * the others on a futex. Where each has a point of its own to poll (stel__idle_hook), each sleeps there, as long as anything
 * is waited for at it. Each sleeps at most until the earliest timer on its own wheel.
 *
 * Before it sleeps in the poll it looks for events for a few microseconds more, as long as that pays: spin.
 *
 * States of a worker, in `sleep`, and who takes each edge:
 *   AWAKE         it runs, or looks for work            itself, before it sleeps: -> ASLEEP_FUTEX or ASLEEP_POLL
 *   ASLEEP_FUTEX  in futex_wait on `sleep`, or about    a waker: -> AWAKE or AWAKE_TO_SEARCH, then a futex wake
 *                 to be
 *   ASLEEP_POLL   in hook.wait, or about to be; holds   a waker: the same, then hook.interrupt
 *                 the poll                              itself, when the sleep ended for another reason: -> AWAKE
 * Every edge out of ASLEEP is a compare-and-swap; who takes it lowers `sleeping`.
 *
 * Going to sleep without missing a wake: announce (sleep, sleeping), stop searching, fence, look at everything again;
 * ready.c has the other half. It is modelled in tests/model. What a worker looks at: injection queue, its own queues,
 * the others' spawns, rings and levels. It does not look at the others' next slots: those belong to a fiber that is
 * about to leave; if it does not leave, the poller thread wakes a searcher, and steal_next takes what has not moved in
 * between.
 *
 * `searching` counts the workers that look for something to steal, a woken one from the moment of its wake. The last
 * one to find something passes the search on if there is more: so a burst wakes one worker after the other, not all at
 * once. */
#include "sched/worker.h"

enum {
    STARVED_RETRY_NS = 10 * 1000 * 1000,
    TIMER_BEAT_NS = 44 * 1000,
    CROWDED = 8, /* of CROWDED_MOST */
    CROWDED_MOST = 16,
    CROWDED_LONE = 2, /* what a sleep without a crowd takes away */
    ROUSE_PAYS_NS = 300 * 1000,
    ROUSE_REST_NS = 1000 * 1000,
    ROUSE_REST_LAST_NS = 64 * 1000 * 1000,
    SPIN_REST_NS = 1000 * 1000,
    SPIN_REST_LAST_NS = 1000 * 1000 * 1000,
    SPIN_TRUST_MAX = 64,
    SPIN_TRUST_COST = 16 /* one look in so many may fail */
};

bool stel__poll_claim(stel__poll_point *p, int who) {
    int nobody = 0;
    return stel__load_relaxed(&p->claim) == 0 && stel__cas_acquire(&p->claim, &nobody, who);
}
void stel__poll_release(stel__poll_point *p, int64_t now) {
    stel__store_relaxed(&p->last_poll, now); /* for guard.c: a hint */
    stel__store_release(&p->claim, 0);
}

/* ---- stealing ---- */

/* The slot of a worker that has not switched since this thief saw it last: its fiber does not leave. */
static stel__fiber *steal_next(stel__worker *w, stel__worker *victim) {
    if (!stel__load_relaxed(&victim->next)) return NULL;
    uint64_t switches = stel__load_relaxed(&victim->counters.switches);
    if (w->seen_victim == victim->id && w->seen_switches == switches)
        return stel__xchg_acq_rel(&victim->next, NULL); /* pairs with the owner's exchange */
    w->seen_victim = victim->id;
    w->seen_switches = switches;
    return NULL;
}

/* Owners pass a full fence from here on: deque.h. It ends when a while has passed without a theft (pick_periodic), or with
 * the worker's sleep. */
static void begin_stealing(stel__worker *w) {
    w->thief = true;
    stel__add_seq_cst(&w->sched->thieves, 1);
    stel__fence_heavy();
}

void stel__worker_stop_stealing(stel__worker *w) {
    w->thief = false;
    stel__sub_seq_cst(&w->sched->thieves, 1);
}

static stel__fiber *steal_spawned(stel__worker *w, stel__worker *victim, bool *again) {
    if (stel__deque_size(&victim->spawns) == 0) return NULL;
    if (!w->thief) begin_stealing(w);
    return stel__deque_steal(&victim->spawns, again);
}

static stel__fiber *steal_from(stel__worker *w, stel__worker *victim, bool *again) {
    stel__fiber *f = steal_spawned(w, victim, again);
    if (!f) f = stel__deque_steal(&victim->ring, again);
    if (!f && stel__load_relaxed(&victim->levels.bitmap)) f = stel__levels_pop(&victim->levels, ~0u);
    if (!f) f = steal_next(w, victim);
    return f;
}

static stel__fiber *steal(stel__worker *w) {
    stel__sched *s = w->sched;
    for (bool again = true; again;) {
        again = false;
        int start = (int)stel__oracle_below(&w->oracle, (uint32_t)s->worker_count);
        for (int i = 0; i < s->worker_count; i++) {
            stel__worker *victim = s->worker[(start + i) % s->worker_count];
            stel__fiber *f = victim == w ? NULL : steal_from(w, victim, &again);
            if (f) {
                stel__count(&w->counters.steals, 1);
                w->stole = true;
                return f;
            }
        }
    }
    return NULL;
}

/* Stop searching; the last one to stop with something in hand passes the search on. */
static void stop_searching(stel__worker *w, bool found) {
    stel__sched *s = w->sched;
    if (!w->searching) return;
    w->searching = false;
    bool last = stel__sub_seq_cst(&s->searching, 1) == 1;
    if (found && last && stel__load_seq_cst(&s->sleeping)) {
        uint64_t backlog = stel__inject_size(&s->inject);
        for (int i = 0; i < s->worker_count; i++)
            backlog += stel__worker_backlog(s->worker[i]);
        if (backlog > 1) stel__wake_searcher(s);
    }
}

/* ---- looking again ---- */

/* Anything for this worker to run? Asked before it sleeps, and once more after it has announced that. */
static bool anything_to_do(stel__worker *w) {
    stel__sched *s = w->sched;
    if (stel__load_relaxed(&s->halt) || stel__inject_size(&s->inject) || stel__worker_backlog(w)) return true;
    for (int i = 0; i < s->worker_count; i++) {
        const stel__worker *other = s->worker[i];
        if (stel__deque_size(&other->spawns) || stel__deque_size(&other->ring) ||
            stel__load_relaxed(&other->levels.count))
            return true;
    }
    return false;
}

/* One look for events: is there anything to do after it? */
static bool look_for_events(stel__worker *w) {
    stel__count(&w->counters.polls, 1);
    w->sched->hook.poll(w->point->context);
    w->now = stel__clock_now();
    stel__ready_found(w);
    return anything_to_do(w);
}

/* How often others have taken the CPU from this thread. The ticks of our own poller thread, which also do, say nothing
 * about others: each excuses one. */
static int64_t disturbances(const stel__worker *w) {
    return stel__thread_preempted() - (int64_t)stel__load_relaxed(&w->sched->ticks); /* no partner: a hint */
}

/* To sleep until an event and be woken costs more than most of what is done about it: with a CPU to spare, one who looks
 * for a while first answers a lone connection three times as fast. Where others want the CPU it is a disaster, the more so
 * if the event is to come from them. So a spin has paid if it found something and nobody took the CPU away meanwhile;
 * after one that has not, the worker rests from it, twice as long each time, unless many have paid lately (spin_trust).
 * Only while it holds the poll, and as long as no timer is due. true: there is something to do. */
static bool spin(stel__worker *w) {
    stel__sched *s = w->sched;
    int64_t length = stel__load_relaxed(&s->settings.spin_ns); /* a setting: no partner */
    int64_t until = stel__time_add(w->now, length), timer = stel__load_relaxed(&w->wheel.next);
    if (length <= 0 || w->now < w->spin_at || timer < until || !w->point) return false;
    if (!s->hook.armed(w->point->context) || !stel__poll_claim(w->point, w->id + 1)) return false;
    if (look_for_events(w)) { /* it was there already: nothing was waited for */
        stel__poll_release(w->point, w->now);
        return true;
    }
    int64_t disturbed = disturbances(w);
    bool found;
    do
        found = look_for_events(w);
    while (!found && w->now < until);
    stel__poll_release(w->point, w->now);
    if (found && disturbances(w) <= disturbed) {
        w->spin_rest /= 2;
        if (w->spin_trust < SPIN_TRUST_MAX) w->spin_trust++;
    } else if (w->spin_trust >= SPIN_TRUST_COST) {
        w->spin_trust -= SPIN_TRUST_COST;
    } else {
        w->spin_rest = w->spin_rest < SPIN_REST_NS ? SPIN_REST_NS : 2 * w->spin_rest;
        if (w->spin_rest > SPIN_REST_LAST_NS) w->spin_rest = SPIN_REST_LAST_NS;
        w->spin_at = w->now + w->spin_rest;
    }
    return found;
}

/* ---- rousing ---- */

/* A worker that was woken to search has nothing to do any more. To wake it has cost as much as a few requests, and a CPU
 * that may be somebody else's: the very client's that sends them, on a machine that is full. So it has paid if it was busy for
 * a while; after one that has not, nobody is roused for what a poll has found (stel__ready_found), twice as long each
 * time: whoever polled does it alone, and a tick of the poller thread is the limit. Spawned fibers, and those that fibers wake, are
 * another matter. */
static void judge_rousing(stel__worker *w) {
    stel__sched *s = w->sched;
    int64_t now = stel__clock_now(), rest = 2 * stel__load_relaxed(&s->rouse_rest); /* hints: no partners */
    if (now - w->roused >= ROUSE_PAYS_NS) {
        rest = 0;
    } else {
        if (rest < ROUSE_REST_NS) rest = ROUSE_REST_NS;
        if (rest > ROUSE_REST_LAST_NS) rest = ROUSE_REST_LAST_NS;
        stel__store_relaxed(&s->rouse_at, now + rest);
    }
    stel__store_relaxed(&s->rouse_rest, rest);
    w->roused = 0;
}

/* ---- sleeping ---- */

/* Is the last counted fiber gone? Asked by the last worker that goes to sleep. `sleeping` may be too high for a moment,
 * never too low: a waker lowers it after it has taken the worker from its sleep. */
static void check_empty(stel__sched *s) {
    if (stel__load_seq_cst(&s->sleeping) >= s->worker_count) stel__sched_check_empty(s);
}

/* When to wake for a timer. Timers that come thick and fast are taken several at a time: who was woken by one wakes for the
 * next after a beat of TIMER_BEAT_NS and not before, as a wake costs more than what most timers are for. The beat is
 * counted from when the last wake was due, not from when it came. One that comes alone is exact. `crowded` says how many
 * sleeps of late had timers that waited for the beat; where that is the rule, the exception keeps to it as well, and
 * pilots go ahead. */
static int64_t wake_time(stel__worker *w) {
    int64_t until = stel__load_relaxed(&w->wheel.next), beat = w->timer_woke + TIMER_BEAT_NS;
    bool crowded = w->crowded >= CROWDED, held = until < beat;
    if (held) {
        if (w->crowded < CROWDED_MOST) w->crowded++;
    } else {
        w->crowded -= w->crowded < CROWDED_LONE ? w->crowded : CROWDED_LONE;
        beat += TIMER_BEAT_NS;
        held = crowded && until < beat;
    }
    if (held) until = beat;
    if (held && crowded) stel__pilots_ahead(&w->pilots, until, until + TIMER_BEAT_NS);
    if (STEL__UNLIKELY(stel__load_relaxed(&w->sched->starved_count))) {
        int64_t retry = stel__time_add(w->now, STARVED_RETRY_NS);
        if (retry < until) until = retry;
    }
    return until;
}

static void block(stel__worker *w, enum stel__sleep_mode mode) {
    stel__sched *s = w->sched;
    int64_t until = wake_time(w);
    if (mode == STEL__ASLEEP_POLL) {
        stel__count(&w->counters.polls, 1);
        s->hook.wait(w->point->context, until);
    } else {
        (void)stel__futex_wait(&w->sleep, STEL__ASLEEP_FUTEX, until);
    }
    w->now = stel__clock_now();
    if (w->now >= until) w->timer_woke = until;
}

static void go_to_sleep(stel__worker *w) {
    stel__sched *s = w->sched;
    if (w->thief) stel__worker_stop_stealing(w);
    /* One who alone polls for others must be there when they begin to wait. */
    bool poll = w->point && ((s->hook.first_only && !s->alone) || s->hook.armed(w->point->context)) &&
                stel__poll_claim(w->point, w->id + 1);
    uint32_t mode = poll ? STEL__ASLEEP_POLL : STEL__ASLEEP_FUTEX;
    stel__add_seq_cst(&s->sleeping, 1); /* first, as a waker may lower it as soon as it sees us asleep */
    stel__store_seq_cst(&w->sleep, mode);
    stop_searching(w, false);
    if (s->alone)
        stel__fence_seq_cst(); /* the pair with strangers in ready.c */
    else
        stel__fence_heavy(); /* and with workers */
    if (!anything_to_do(w)) {
        check_empty(s);
        block(w, (enum stel__sleep_mode)mode);
    }
    if (stel__cas_seq_cst(&w->sleep, &mode, STEL__AWAKE)) {
        stel__sub_seq_cst(&s->sleeping, 1);
    } else {
        w->searching = mode == STEL__AWAKE_TO_SEARCH;
        if (w->searching) w->roused = stel__clock_now();
        stel__store_relaxed(&w->sleep, STEL__AWAKE);
    }
    w->now = stel__clock_now();
    if (poll) stel__poll_release(w->point, w->now);
    stel__ready_found(w); /* not earlier: it would find itself asleep, and wake itself */
    if (STEL__UNLIKELY(stel__load_seq_cst(&s->guard_asleep)) && s->on_guard_needed)
        s->on_guard_needed(s->on_guard_needed_context);
}

static stel__fiber *find_work(stel__worker *w) {
    stel__fiber *f = stel__worker_pick(w);
    if (f || w->sched->alone) return f;
    if (!w->searching) {
        w->searching = true;
        stel__add_seq_cst(&w->sched->searching, 1);
    }
    for (int round = 0; round < 2 && !f; round++)
        f = steal(w);
    return f;
}

static void idle_loop(stel__worker *w) {
    stel__sched *s = w->sched;
    while (!stel__load_acquire(&s->halt)) {
        if (stel__load_relaxed(&w->wheel.next) <= w->now) stel__worker_look_around(w);
        stel__fiber *f = find_work(w);
        if (!f) {
            if (w->roused) judge_rousing(w);
            if (!spin(w)) go_to_sleep(w);
            continue;
        }
        stop_searching(w, true);
        if (STEL__LIKELY(f->stack) || stel__worker_can_run(w, f)) stel__worker_run(w, f);
    }
    stop_searching(w, false);
}

void *stel__worker_main(void *arg) {
    stel__worker *w = arg;
    stel__worker_self_set(w);
    w->thread_id = stel__thread_id();
    w->fp_words = stel__fp_save();
    w->exceptions = stel__exceptions_of_thread();
    w->now = stel__clock_now();
    stel__thread_timer_slack();
    if (w->sched->config.enable_cpu_affinity > 0) (void)stel__cpu_bind(w->id);
    stel__sanitize_thread_self(&w->sanitizer);
    if (stel__overflow_enter_thread(&w->signal_stack) < 0) w->signal_stack = NULL;
    stel__lock_take(&w->sched->starting);
    stel__lock_give(&w->sched->starting);
    idle_loop(w);
    stel__wheel_clear(&w->wheel);
    stel__stack_cache_flush(&w->stacks);
    stel__block_spill(&w->blocks, 0);
    stel__pilots_close(&w->pilots);
    if (w->signal_stack) stel__overflow_leave_thread(w->signal_stack);
    stel__worker_self_set(NULL);
    return NULL;
}
