/* A worker's hot path: choose the next fiber, switch to it, and finish with the one that was left.
 *
 * Fibers switch straight to one another. The fiber that leaves picks its successor on its own stack; only when there is
 * none does it switch to the worker's own context, where the idle loop steals, polls and sleeps (idle.c). All switches
 * of the library go through the one in switch_to.
 *
 * What is left undone. A fiber that leaves cannot be handed on before its context is saved, or another worker could run
 * it on a stack that is still in use. So it notes in its worker what is to be done with it (enum stel__after), and
 * whoever runs next on this worker does that first of all: `finish`.
 *
 *   YIELD  put it on the ring
 *   PARK   PREPARED -> PARKED in its word; or, when somebody woke it meanwhile, make it runnable (table in waiter.c)
 *          PARK_UNSEEN: the same of a wait that nobody could have ended yet, so without a swap
 *   END    give its stack back. Its block is not touched: the joiner may have freed it already
 *
 * Where fibers wait for their turn, in the order in which pick looks:
 *   next    one slot: the fiber woken last by the running one. A pair that talks to each other stays in it
 *   spawns  new fibers, newest first: a tree of them is walked depth first, so it needs few stacks
 *   ring    first in, first out: yields, what next displaced, what polling and timers woke
 * next and spawns together run at most STREAK_MAX in a row before the ring has a turn. Every CHECK_INTERVAL dispatches
 * the worker looks at what could starve otherwise: injection queue, descriptors, timers, its oldest spawn (seldom), low
 * priorities. Levels (inject.h) hold the few fibers with a priority or a place of their own: urgent ones go before all
 * others.
 *
 * A stack is bound at the first run, not at the spawn: fibers that wait for their turn cost a block only. When no stack
 * can be had the fiber is set aside: starve.c. */
#include "sched/worker.h"

enum {
    LEVELS_URGENT = (1 << STEL__LEVEL_NORMAL) - 1,
    LEVELS_NORMAL = 1 << STEL__LEVEL_NORMAL,
    LEVELS_LOW = 0xff & ~(LEVELS_URGENT | LEVELS_NORMAL)
};

enum { NEGLECTED_QUEUES = 5 };
#define THREAD_TICKET (UINT64_C(1) << STEL__INDEX_BITS) /* a ticket's waiter is a thread */

/* The oldest spawn is the root of the largest part of a tree that is still to come: each one that is run before its time
 * adds its own depth of stacks. So its turns are rare, one in so many of the periodic ones. (By dispatches, not by the clock:
 * a seeded run is to be the same whatever the time.) */
enum { OLDEST_SPAWN_TURNS = 32 };

enum { BLOCK_AHEAD = 4, STACK_AHEAD = 1 }; /* turns: fetch_ahead */

__thread stel__worker *stel__worker_tls;

stel__worker *stel__worker_self(void) {
    __asm__ volatile("");
    return stel__worker_tls;
}
void stel__worker_self_set(stel__worker *w) {
    stel__worker_tls = w;
}

/* PREPARED -> PARKED, or straight on if the fiber was woken between its last look and the switch.
 *
 *   parking side                               cancel, unpark
 *     swap word: PREPARED -> PARKED              swap life: set CANCELLED or TOKEN
 *     load life                                  load word
 * Both swaps are sequentially consistent, so at least one side sees the other, and a word that is PARKED is then
 * swapped to WOKEN by one of them. f may run and end on another worker as soon as it is PARKED: after that only its
 * word is touched, and only by a swap that names this wait. */
static void finish_park(stel__worker *w, stel__fiber *f) {
    uint64_t word = stel__load_relaxed(&f->waiter.word);
    uint64_t parked = (word & ~(uint64_t)STEL__WORD_STATE) | STEL__WORD_PARKED | w->park_flags;
    if ((word & STEL__WORD_STATE) != STEL__WORD_PREPARED || !stel__cas_seq_cst(&f->waiter.word, &word, parked)) {
        stel__ready(f);
        return;
    }
    if (w->park_flags & (STEL__WORD_INTERRUPTIBLE | STEL__WORD_TOKEN)) stel__waiter_recheck(f, parked);
}

/* A joiner that runs the fiber it waits for itself: that fiber alone will have the ticket, and it has not begun. Timers and
 * cancellations leave PREPARED alone. So a store is enough; and a fence against the canceller, as above, whose side is the heavy one. */
static void finish_park_unseen(stel__worker *w, stel__fiber *f) {
    uint64_t word = stel__load_relaxed(&f->waiter.word);
    STEL__CHECK((word & STEL__WORD_STATE) == STEL__WORD_PREPARED);
    uint64_t parked = (word & ~(uint64_t)STEL__WORD_STATE) | STEL__WORD_PARKED | w->park_flags;
    stel__store_release(&f->waiter.word, parked); /* pairs with the acquire of whoever ends the wait */
    if (!(w->park_flags & STEL__WORD_INTERRUPTIBLE)) return;
    stel__fence_light();
    stel__waiter_recheck(f, parked);
}

/* Floating point control words: most fibers share their worker's. A fiber that has its own saves them as it leaves; who
 * runs next puts right what it finds. After the switch, not before: fcontext's carries words of its own along. */
STEL__COLD static void leave_fp(stel__worker *w, stel__fiber *from) {
    if (from && (stel__fiber_flags(from) & STEL_FP_ENVIRONMENT)) from->extra->fp_words = stel__fp_save();
    w->fp_unsettled = true;
}

STEL__COLD static void settle_fp(stel__worker *w) {
    const stel__fiber *f = stel__worker_current(w);
    bool own = f && (stel__fiber_flags(f) & STEL_FP_ENVIRONMENT);
    stel__fp_load(own ? f->extra->fp_words : w->fp_words);
    w->fp_unsettled = false;
}

/* First thing on every context that comes to run. */
static inline void finish(stel__worker *w) {
    enum stel__after after = w->after;
    w->after = STEL__AFTER_NOTHING;
    if (STEL__UNLIKELY(w->fp_unsettled)) settle_fp(w);
    if (after == STEL__AFTER_PARK) {
        finish_park(w, w->previous);
    } else if (after == STEL__AFTER_PARK_UNSEEN) {
        finish_park_unseen(w, w->previous);
    } else if (after == STEL__AFTER_YIELD) {
        stel__ready_yielded(w, w->previous);
    } else if (after == STEL__AFTER_END) {
        stel__sanitize_fiber_free(&w->dying_sanitizer);
        stel__stack_put(&w->stacks, w->dying_stack);
    }
}

/* Before every switch. from and to: fibers, or NULL for the worker's own context. The context that goes on. Always inline,
 * as ThreadSanitizer keeps each fiber's calls and returns: nothing may return between telling it of the switch and that. */
STEL__ALWAYS_INLINE stel__context *set_out(stel__worker *w, stel__fiber *from, stel__fiber *to) {
    unsigned flags = (from ? stel__fiber_flags(from) : 0u) | (to ? stel__fiber_flags(to) : 0u);
    if (STEL__UNLIKELY(flags & STEL_FP_ENVIRONMENT)) leave_fp(w, from);
    stel__store_relaxed(&w->running, to);
    stel__count(&w->counters.switches, 1);
#ifdef STEL__SANITIZED
    bool ends = w->after == STEL__AFTER_END;
    stel__sanitizer_fiber *leaving = from ? &from->sanitizer : ends ? &w->dying_sanitizer : &w->sanitizer;
    stel__sanitize_before_switch(leaving, to ? &to->sanitizer : &w->sanitizer, ends);
#endif
    return to ? &to->at.context : &w->context;
}

/* The one switch. Not inlined: the asm in the switch has a label, the site should be shared, and gcc 12 otherwise
 * concludes from the body that statics of this file survive it unchanged. Returns on whatever worker resumes the caller.
 */
STEL__NOIPA static void switch_to(stel__worker *w, stel__fiber *from, stel__fiber *to) {
    stel__context *on = set_out(w, from, to);
    w = stel__context_switch(from ? &from->at.context : &w->context, on, w);
#ifdef STEL__SANITIZED
    stel__sanitize_after_switch(stel__worker_current(w) ? &stel__worker_current(w)->sanitizer : &w->sanitizer, NULL);
#endif
    finish(w);
}

/* The same for a fiber that is in the middle of a catch block, or of unwinding: its exceptions come along, on its stack,
 * and whoever runs next finds the thread without any. */
STEL__NOINLINE static void switch_with_exceptions(stel__worker *w, stel__fiber *from, stel__fiber *to) {
    stel__exceptions mine = *w->exceptions;
    *w->exceptions = (stel__exceptions){ NULL, 0 };
    switch_to(w, from, to);
    *stel__worker_self()->exceptions = mine;
}

void stel__worker_look_around(stel__worker *w) {
    stel__sched *s = w->sched;
    w->now = stel__clock_now();
    if (stel__load_relaxed(&w->wheel.next) <= w->now)
        stel__count(&w->counters.timers_fired, stel__wheel_expire(&w->wheel, w->now));
    if (w->point && s->hook.armed(w->point->context) && stel__poll_claim(w->point, w->id + 1)) {
        stel__count(&w->counters.polls, 1);
        s->hook.poll(w->point->context);
        stel__poll_release(w->point, w->now);
    }
    stel__ready_found(w);
    uint64_t backlog = stel__worker_backlog(w);
    if (backlog > stel__load_relaxed(&w->counters.queue_peak)) stel__store_relaxed(&w->counters.queue_peak, backlog);
    stel__sched_sample_peak(s);
}

/* One of a priority level, a different level each time: so the less urgent of the low ones have turns, too. */
static stel__fiber *take_neglected_level(stel__worker *w) {
    for (int i = 0; i < 2 * STEL__LEVELS; i++) {
        uint32_t at = w->neglected_level++ % (2 * STEL__LEVELS), wanted = 1u << at / 2;
        stel__levels *l = at % 2 ? &w->pinned : &w->levels;
        stel__fiber *f = stel__load_relaxed(&l->bitmap) & wanted ? stel__levels_pop(l, wanted) : NULL;
        if (f) return f;
    }
    return NULL;
}

/* Every CHECK_INTERVAL dispatches: give a turn to what the usual order could starve. Whichever of them had the last
 * one is asked last, as each alone could starve the others. */
STEL__NOINLINE static stel__fiber *pick_periodic(stel__worker *w) {
    stel__sched *s = w->sched;
    stel__store_relaxed(&w->until_check, STEL__CHECK_INTERVAL);
    stel__fiber *running = stel__worker_current(w), *f = NULL;
    bool ended;
    stel__store_relaxed(&w->running,
                        NULL); /* what wakes now is woken by the poll, not by the fiber that happens to call */
    stel__worker_look_around(w);
    stel__store_relaxed(&w->running, running);
    if (STEL__UNLIKELY(w->thief) && !w->stole) stel__worker_stop_stealing(w);
    w->stole = false;
    if (STEL__UNLIKELY(stel__load_relaxed(&w->look_soon))) {
        stel__store_relaxed(&w->look_soon, false);
        f = stel__inject_pop(&s->inject);
    }
    for (int i = 0; i < NEGLECTED_QUEUES && !f; i++) {
        switch (w->neglected++ % NEGLECTED_QUEUES) {
        case 0:
            f = stel__inject_pop(&s->inject);
            break;
        case 1:
            if (w->oldest_turn++ % OLDEST_SPAWN_TURNS == 0) f = stel__deque_take_oldest(&w->spawns, s->alone);
            break;
        case 2:
            f = stel__deque_take_oldest(&w->ring, s->alone);
            break;
        case 3:
            f = take_neglected_level(w);
            break;
        default:
            if (stel__load_relaxed(&s->starved_count)) f = stel__starved_try(w, &ended);
        }
    }
    return f;
}

static inline stel__fiber *take_next(stel__worker *w) {
    stel__fiber *f = stel__load_relaxed(&w->next);
    if (!f) return NULL;
    if (w->sched->alone) {
        stel__store_relaxed(&w->next, NULL);
        return f;
    }
    return stel__xchg_acq_rel(&w->next, NULL); /* a thief may have been faster */
}

static stel__fiber *take_levels(stel__worker *w, uint32_t wanted) {
    stel__fiber *f = NULL;
    if (stel__load_relaxed(&w->pinned.bitmap) & wanted) f = stel__levels_pop(&w->pinned, wanted);
    if (!f && (stel__load_relaxed(&w->levels.bitmap) & wanted)) f = stel__levels_pop(&w->levels, wanted);
    return f;
}

/* With many fibers on the ring each one's block and the top of its stack have left the cache by the time that it has its
 * turn. So they are asked for ahead: first the block, and some turns later, when that is there, the stack that it points
 * at. Only a hint: thieves may take the fibers meanwhile. */
static inline void fetch_ahead(const stel__deque *ring) {
#ifndef STEL__SANITIZED
    int64_t top = stel__load_relaxed(&ring->top);
    if (stel__load_relaxed(&ring->bottom) - top <= BLOCK_AHEAD) return;
    const stel__deque_array *a = stel__load_relaxed(&ring->array);
    const char *block = (const char *)stel__load_relaxed(&a->slot[(top + BLOCK_AHEAD) & a->mask]);
    STEL__PREFETCH(block);
    STEL__PREFETCH(block + STEL__CACHE_LINE);
    const stel__fiber *soon = stel__load_relaxed(&a->slot[(top + STACK_AHEAD) & a->mask]);
    STEL__PREFETCH(stel__context_stack_pointer(&soon->at.context));
#else
    (void)ring; /* it would see a read beside a thief's write */
#endif
}

static stel__fiber *pick_any(stel__worker *w) {
    stel__fiber *f;
    bool alone = w->sched->alone;
    uint32_t left = stel__load_relaxed(&w->until_check) - 1;
    stel__store_relaxed(&w->until_check, left);
    if (STEL__UNLIKELY(left == 0) && (f = pick_periodic(w))) return f;
    uint32_t levels = stel__load_relaxed(&w->levels.bitmap) | stel__load_relaxed(&w->pinned.bitmap);
    if (STEL__UNLIKELY(levels & LEVELS_URGENT) && (f = take_levels(w, LEVELS_URGENT))) return f;
    if (STEL__LIKELY(w->streak < STEL__STREAK_MAX)) {
        w->streak++;
        if ((f = take_next(w)) || (f = stel__worker_take_newest(w))) return f;
    }
    w->streak = 0;
    /* Those that must run here and the ring take turns. */
    if (STEL__UNLIKELY(levels & LEVELS_NORMAL) && (w->pinned_turn = !w->pinned_turn) &&
        (f = take_levels(w, LEVELS_NORMAL)))
        return f;
    if ((f = stel__deque_take_oldest(&w->ring, alone))) {
        fetch_ahead(&w->ring);
        return f;
    }
    if ((f = take_next(w)) || (f = stel__worker_take_newest(w))) return f;
    if (levels && (f = take_levels(w, ~0u))) return f;
    if (stel__inject_size(&w->sched->inject) && (f = stel__inject_pop(&w->sched->inject))) return f;
    return NULL;
}

bool stel__worker_can_run(stel__worker *w, stel__fiber *f) {
    if (STEL__LIKELY(stel__worker_bind(w, f))) return true;
    stel__starve(w, f);
    return false;
}

stel__fiber *stel__worker_pick(stel__worker *w) {
    for (;;) {
        stel__fiber *f = pick_any(w);
        if (STEL__LIKELY(f && (f->stack || stel__worker_can_run(w, f)))) return f;
        if (f) continue;
        if (STEL__LIKELY(!stel__load_relaxed(&w->sched->starved_count))) return NULL;
        bool ended; /* then its joiner may be ready to run */
        f = stel__starved_try(w, &ended);
        if (!ended) return f; /* NULL: sleep on it, see STARVED_RETRY_NS in idle.c */
    }
}

void stel__worker_leave(stel__worker *w, enum stel__after after) {
    stel__fiber *to = stel__worker_pick(w);
    if (after == STEL__AFTER_YIELD && !to) {   /* nobody else wants to run */
        stel__count(&w->counters.switches, 1); /* it did let go: no stall */
        return;
    }
    stel__worker_leave_to(w, after, to);
}

void stel__worker_leave_to(stel__worker *w, enum stel__after after, stel__fiber *to) {
    stel__fiber *from = stel__worker_current(w);
    w->after = after;
    w->previous = from;
    if (STEL__UNLIKELY(w->exceptions != NULL) && stel__exceptions_any(w->exceptions))
        switch_with_exceptions(w, from, to);
    else
        switch_to(w, from, to);
}

void stel__worker_run(stel__worker *w, stel__fiber *f) {
    switch_to(w, NULL, f);
}

/* The wait of this ticket is over, by the end of what it waits for. false: it was over before. A fiber that slept and may
 * be run here at once is handed back in *next instead of being queued. */
static inline bool wake_joiner(stel__worker *w, stel__ticket t, stel__fiber **next) {
    if (STEL__UNLIKELY(t & THREAD_TICKET)) return stel__wake(t, 0);
    stel__fiber *f = stel__fiber_at((uint32_t)(t & STEL__INDEX_MASK));
    uint64_t state = stel__waiter_win(&f->waiter, t, 0);
    if (STEL__LIKELY(state == STEL__WORD_PARKED)) {
        if (STEL__LIKELY(stel__ready_here(w, f) && stel__worker_may_hand_over(w)))
            *next = f;
        else
            stel__ready(f);
    }
    return state != STEL__WORD_IDLE;
}

/* Nobody waits yet, or does no longer. */
STEL__NOINLINE static stel__fiber *leave_ended(stel__worker *w, stel__fiber *f) {
    stel__fiber *next = NULL;
    uint64_t joiner = stel__xchg_acq_rel(&f->joiner, STEL__JOINER_ENDED);
    if (joiner == STEL__JOINER_DETACHED)
        stel__block_put(&w->blocks, f);
    else if (joiner != STEL__JOINER_NONE)
        (void)wake_joiner(w, joiner, &next);
    return next;
}

/* Who learns of the end: the two sequences are drawn in life.c. The joiner, if it is to be run next, or NULL. */
STEL__ALWAYS_INLINE stel__fiber *complete(stel__worker *w, stel__fiber *f, int result) {
    stel__worker_counters *c = &w->counters;
    f->result = result;
    int64_t age = w->now - stel__load_relaxed(&f->created);
    if (age > 0) stel__count(&c->duration_ns, (uint64_t)age);
    if (STEL__UNLIKELY(result < 0)) stel__count(&c->failed, 1);
    if (STEL__UNLIKELY(stel__fiber_flags(f) & STEL_BACKGROUND))
        stel__count(&c->executed_background, 1); /* before executed */
    stel__scope_link *scope = STEL__UNLIKELY(f->extra != NULL) ? stel__child_ending(f, result) : NULL;
    /* Before the joiner can know; pairs with stel__sched_live. The scheduler is not gone with its last fiber: it ends
     * after its workers' threads. */
    stel__store_release(&c->executed, stel__load_relaxed(&c->executed) + 1);
    stel__fiber *next = NULL;
    uint64_t joiner = stel__load_acquire(&f->joiner);
    if (joiner == STEL__JOINER_DETACHED)
        stel__block_put(&w->blocks, f); /* nobody changes that any more */
    else if (joiner == STEL__JOINER_NONE || !wake_joiner(w, joiner, &next))
        next = leave_ended(w, f);
    if (STEL__UNLIKELY(scope != NULL)) scope->ops->ended(scope);
    return next;
}

void stel__fiber_complete(stel__worker *w, stel__fiber *f, int result) {
    stel__fiber *joiner = complete(w, f, result);
    if (joiner) stel__ready(joiner);
}

/* What may wait, and so end on another worker, comes first. The worker that f ends on. */
static inline stel__worker *wind_up(stel__fiber *f) {
    if (STEL__UNLIKELY(f->extra != NULL)) {
        if (f->extra->scopes) stel__scope_left_open(f);
        stel__waiter_end(&f->waiter);
        stel__locals_destroy(f); /* may wait */
    }
    if (STEL__UNLIKELY(stel__load_relaxed(&f->wheel))) stel__wheel_disarm(stel__wheel_of, f);
    stel__worker *w = stel__worker_self();
    if (STEL__UNLIKELY(!w)) stel__die("a fiber returns in the child of a fork: it must exec or _exit there");
    return w;
}

/* The end of a fiber, but for the switch: the context that goes on. The block is given up before that, so that a joiner
 * that becomes runnable is the next to run; what is still in use, the stack, is remembered in the worker. */
STEL__ALWAYS_INLINE stel__context *end_on(stel__worker *w, stel__fiber *f, int result) {
    /* By stel_exit out of a catch block: what it held is lost, as its frames are, and nobody else's. */
    if (STEL__UNLIKELY(w->exceptions != NULL)) *w->exceptions = (stel__exceptions){ NULL, 0 };
    w->dying_stack = f->stack;
#ifdef STEL__SANITIZED
    w->dying_sanitizer = f->sanitizer;
#endif
    if (STEL__UNLIKELY(stel__fiber_flags(f) & STEL_FP_ENVIRONMENT)) leave_fp(w, NULL); /* its words die with it */
    stel__fiber *to = complete(w, f, result);
    if (!to) to = stel__worker_pick(w);
    w->after = STEL__AFTER_END;
    return set_out(w, NULL, to);
}

/* From any depth. */
STEL__NOIPA void stel__fiber_end(stel__fiber *f, int result) {
    stel__worker *w = wind_up(f);
    stel__context_switch(&w->nowhere, end_on(w, f, result), w);
    __builtin_unreachable();
}

/* From where it began: by returning. Not with sanitizers, to which this stack is left behind by then. */
STEL__ALWAYS_INLINE stel__context_exit fiber_end(stel__fiber *f, int result) {
#ifdef STEL__SANITIZED
    stel__fiber_end(f, result);
#else
    stel__worker *w = wind_up(f);
    return (stel__context_exit){ end_on(w, f, result), w };
#endif
}

/* Where every fiber begins and, unless by stel_exit, ends. */
static stel__context_exit fiber_main(void *word) {
    stel__worker *w = word;
    stel__fiber *f = stel__worker_current(w);
    void *arg = w->first_arg;
#ifdef STEL__SANITIZED
    stel__sanitize_after_switch(&f->sanitizer, NULL);
#endif
    finish(w);
    int rc = STEL__UNLIKELY(f->extra != NULL) && f->extra->start ? stel_sleep_until(f->extra->start) : 0;
    return fiber_end(f, rc < 0 ? rc : stel__load_relaxed(&f->fn)(arg));
}

STEL__NOINLINE bool stel__worker_bind(stel__worker *w, stel__fiber *f) {
    stel__stack *s = stel__stack_get(&w->stacks, f->stack_class);
    if (STEL__UNLIKELY(!s)) return false;
    f->stack = s;
    w->first_arg = f->at.arg;
    stel__context_make(&f->at.context, stel__stack_top(s), fiber_main);
    if (stel__fiber_flags(f) & STEL_NO_MIGRATE) f->pinned = ((unsigned)w->id + 1) & 0xfff;
#ifdef STEL__SANITIZED
    char *low = stel__stack_low(s);
    stel__sanitize_fiber_new(&f->sanitizer, low, (size_t)((char *)stel__stack_top(s) - low));
#endif
    return true;
}
