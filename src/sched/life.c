/* The life of a fiber as its users see it: join, detach, exit, cancel, shield, yield, sleep, park. (Spawn: spawn.c.)
 *
 * Who frees a control block. Two words decide. `life` has the flag CLAIMED: the one join, try_join or detach that takes
 * effect sets it, and from then on nobody else may touch the fiber's end. `joiner` is exchanged with what the claimer
 * knows on one side and with ENDED by the ending fiber on the other:
 *
 *   claimer                                       ending fiber
 *     CAS life: + CLAIMED (names the generation)    store result
 *     CAS joiner: NONE -> its ticket                load joiner; a ticket: wake it; if that won the wait, it was the
 *       or NONE -> DETACHED                           last touch of the block: the joiner frees it
 *     found ENDED: takes result, frees block        else exchange joiner: -> ENDED   (the last touch of the block)
 *     woken: the same                                 found NONE: the block waits for a claimer
 *                                                     found a ticket: wake it; the joiner frees the block
 *                                                     found DETACHED: free the block
 * A join that is cut short, so that no wake can win it any more, takes its ticket back (CAS joiner: ticket -> NONE) and
 * then its claim; if the ticket is gone the fiber has ended, and the join succeeds after all.
 *
 * From a joiner to the joined and back. A join that finds its fiber unborn, as its own worker's newest spawn, takes it off
 * the queue and switches to it: nobody else knows of the wait yet, so neither ticket nor PARKED needs a swap. And an end
 * that finds its joiner parked switches to it. So a spawn and its join cost two locked operations: the claim and the wake.
 *
 * Spawned detached, a fiber begins with CLAIMED and DETACHED. */
#include "sched/worker.h"
#include <sched.h>

/* ---- who learns of the end ---- */

/* Set CLAIMED, if f is a living or ended fiber of this handle that nobody has claimed; NULL: it is none. */
static inline stel__fiber *claim(stel_fiber handle) {
    stel__fiber *f = stel__fiber_find(handle);
    if (STEL__UNLIKELY(!f)) return NULL;
    uint64_t life = stel__load_acquire(&f->life);
    do {
        if (!stel__same_generation(life, handle) || !(life & STEL__LIFE_ALIVE) || (life & STEL__LIFE_CLAIMED))
            return NULL;
    } while (!stel__cas_acq_rel(&f->life, &life, life | STEL__LIFE_CLAIMED));
    return f;
}

static void unclaim(stel__fiber *f) {
    stel__and_acq_rel(&f->life, ~(uint64_t)STEL__LIFE_CLAIMED);
}

/* f has ended and is ours: take its result and free its block. */
static inline int reap(stel__fiber *f, int *result) {
    if (result) *result = f->result;
    stel__worker *w = stel__worker_self();
    stel__block_put(w ? &w->blocks : NULL, f);
    return 0;
}

/* f is claimed, and the caller's wait is over without it: give the claim back, unless f has ended meanwhile. */
static int give_up(stel__fiber *f, stel__ticket ticket, int code, int *result) {
    uint64_t joiner = ticket;
    if (!stel__cas_acq_rel(&f->joiner, &joiner, STEL__JOINER_NONE)) return reap(f, result);
    unclaim(f);
    return code;
}

static int join_claimed(stel__waiter *self, stel__fiber *f, int *result) {
    if (stel__load_acquire(&f->joiner) == STEL__JOINER_ENDED) return reap(f, result);
    stel__ticket ticket = stel__wait_begin(self, STEL__WAIT_JOIN);
    uint64_t joiner = STEL__JOINER_NONE;
    if (!stel__cas_acq_rel(&f->joiner, &joiner, ticket)) {
        (void)stel__wait_drop(self);
        return reap(f, result);
    }
    int rc = stel__wait_park(self, 0);
    return rc >= 0 ? reap(f, result) : give_up(f, ticket, rc, result);
}

/* f is claimed, was the worker's newest spawn and is off its queue: run it, and sleep until it has ended. It has not
 * begun, so until then nobody else writes joiner. me has no limits: only a cancellation can cut this short. */
static inline int join_unborn(stel__worker *w, stel__fiber *me, stel__fiber *f, int *result) {
    stel__ticket ticket = stel__waiter_prepare(&me->waiter, STEL__WAIT_JOIN);
    stel__store_relaxed(&f->joiner, ticket);
    stel__count(&w->counters.parks, 1);
    w->park_flags = STEL__WORD_INTERRUPTIBLE;
    stel__worker_leave_to(w, STEL__AFTER_PARK_UNSEEN, f);
    int rc = stel__waiter_outcome(&me->waiter);
    return STEL__LIKELY(rc >= 0) ? reap(f, result) : give_up(f, ticket, rc, result);
}

STEL__NOINLINE static int join_slow(stel_fiber handle, int *result) {
    stel__waiter *self = stel__waiter_self();
    if (!self) return -ENOMEM;
    if (STEL__UNLIKELY(handle == stel__waiter_identity(self))) return -EDEADLK;
    int rc = stel__wait_check(self);
    if (rc < 0) return rc;
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    stel__fiber *f = claim(handle);
    return f ? join_claimed(self, f, result) : -ESRCH;
}

int stel_join(stel_fiber handle, int *result) {
    stel__worker *w = stel__worker_self();
    stel__fiber *me = w ? stel__worker_current(w) : NULL;
    if (STEL__UNLIKELY(!me || !stel__fiber_unlimited(me) || (handle & STEL__INDEX_MASK) == me->waiter.index))
        return join_slow(handle, result);
    stel__fiber *f = claim(handle);
    if (STEL__UNLIKELY(!f)) return -ESRCH;
    if (STEL__LIKELY(stel__worker_take_unborn(w, f))) return join_unborn(w, me, f, result);
    return join_claimed(&me->waiter, f, result);
}

int stel_try_join(stel_fiber handle, int *result) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (handle && handle == stel_self()) return -EDEADLK;
    stel__fiber *f = stel__fiber_find(handle);
    if (!f) return -ESRCH;
    uint64_t life = stel__load_acquire(&f->life); /* pairs with the release in spawn: joiner is this fiber's */
    if (!stel__same_generation(life, handle) || !(life & STEL__LIFE_ALIVE) || (life & STEL__LIFE_CLAIMED))
        return -ESRCH;
    /* Claimed only once it has ended: a join or detach that comes at the same moment must not find it taken by a call
     * that then takes nothing. */
    if (stel__load_acquire(&f->joiner) != STEL__JOINER_ENDED) return -EAGAIN;
    return claim(handle) ? reap(f, result) : -ESRCH;
}

int stel_detach(stel_fiber handle) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    stel__fiber *f = claim(handle);
    if (!f) return -ESRCH;
    uint64_t joiner = STEL__JOINER_NONE;
    if (!stel__cas_acq_rel(&f->joiner, &joiner, STEL__JOINER_DETACHED)) return reap(f, NULL);
    return 0;
}

void stel_exit(int result) {
    stel__worker *w = stel__worker_self();
    stel__fiber *f = w ? stel__worker_current(w) : NULL;
    if (!f) stel__die("stel_exit: the caller is no fiber");
    if (f->extra)
        while (f->extra->scopes)
            f->extra->scopes->ops->close(f->extra->scopes); /* may wait */
    stel__fiber_end(f, result);
}

/* ---- cancel, park ---- */

/* Set a flag of a living fiber. 0, or -ESRCH; *before: its life without the flag. */
static int life_set(stel_fiber handle, uint64_t flag, stel__fiber **out, uint64_t *before) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    stel__fiber *f = *out = stel__fiber_find(handle);
    if (!f) return -ESRCH;
    uint64_t life = stel__load_acquire(&f->life);
    do {
        if (!stel__same_generation(life, handle) || !(life & STEL__LIFE_ALIVE)) return -ESRCH;
    } while (!stel__cas_seq_cst(&f->life, &life, life | flag)); /* against finish_park in worker.c */
    *before = life;
    return 0;
}

int stel__fiber_cancel(stel_fiber handle, unsigned depth) {
    stel__fiber *f = NULL;
    uint64_t before;
    int rc = life_set(handle, STEL__LIFE_CANCELLED, &f, &before);
    if (rc < 0) return rc;
    stel__waiter_interrupt(f, handle, STEL__WORD_INTERRUPTIBLE);
    if (STEL__UNLIKELY(before & STEL__LIFE_SCOPES)) stel__scopes_cancel(handle, depth);
    return 0;
}

int stel_cancel(stel_fiber handle) {
    return stel__fiber_cancel(handle, 0);
}

bool stel_cancelled(void) {
    stel__worker *w = stel__worker_self();
    return w && stel__worker_current(w) && (stel__load_relaxed(&stel__worker_current(w)->life) & STEL__LIFE_CANCELLED);
}

static bool take_token(stel__fiber *f) {
    if (!(stel__load_relaxed(&f->life) & STEL__LIFE_TOKEN)) return false;
    stel__and_acq_rel(&f->life, ~(uint64_t)STEL__LIFE_TOKEN);
    return true;
}

int stel_park(void) {
    stel__worker *w = stel__worker_self();
    if (!w || !stel__worker_current(w)) return -EPERM;
    stel__fiber *f = stel__worker_current(w);
    int rc = stel__wait_check(&f->waiter);
    if (rc < 0) return rc;
    while (!take_token(f)) {
        stel__wait_begin(&f->waiter, STEL__WAIT_PARK);
        if ((rc = stel__waiter_park_for_token(&f->waiter)) < 0) return rc;
    }
    return 0;
}

int stel_unpark(stel_fiber handle) {
    stel__fiber *f = NULL;
    uint64_t before;
    int rc = life_set(handle, STEL__LIFE_TOKEN, &f, &before);
    if (rc == 0) stel__waiter_interrupt(f, handle, STEL__WORD_TOKEN);
    return rc;
}

/* ---- time ---- */

void stel_yield(void) {
    stel__worker *w = stel__worker_self();
    if (w && stel__worker_current(w))
        stel__worker_leave(w, STEL__AFTER_YIELD);
    else
        sched_yield();
}

int stel_sleep_until(int64_t when) {
    stel__waiter *self = stel__waiter_self();
    if (!self) return -ENOMEM;
    int64_t now = stel__clock_now(), deadline = stel__load_relaxed(&self->deadline);
    stel__worker *w = stel__worker_self();
    if (w) w->now = now; /* it was read anyway: so the limits are looked at by the true time */
    int rc = stel__wait_check(self);
    if (rc < 0) return rc;
    if (when <= now) {
        stel_yield();
        return 0;
    }
    for (;;) {
        stel__wait_begin(self, STEL__WAIT_SLEEP);
        if ((rc = stel__wait_park_until(self, 0, when)) != -ETIMEDOUT) return rc;
        now = stel__clock_now();
        /* Which of the two came first, not which we happen to see first. */
        if (deadline < when && deadline <= now) return stel__waiter_deadline_passed(self);
        self->timed_out = 0;
        if (when <= now) return 0;
        if ((rc = stel__wait_check(self)) < 0) return rc; /* a shield's time is over: cancellation shows again */
    }
}

int stel_sleep(int64_t length_ns) {
    return stel_sleep_until(stel_after(length_ns));
}

/* ---- deadlines and shields ---- */

int64_t stel_deadline(void) {
    stel__waiter *self = stel__waiter_self();
    return self ? stel__load_relaxed(&self->deadline) : STEL_FOREVER;
}

int64_t stel_deadline_push(int64_t when) {
    stel__waiter *self = stel__waiter_self();
    if (!self) return STEL_FOREVER;
    int64_t previous = stel__load_relaxed(&self->deadline);
    if (when < previous) stel__store_relaxed(&self->deadline, when);
    return previous;
}

void stel_deadline_pop(int64_t previous) {
    stel__waiter *self = stel__waiter_self();
    if (self) stel__store_relaxed(&self->deadline, previous);
}

bool stel_timed_out(void) {
    const stel__waiter *self = stel__waiter_self();
    return self && self->timed_out;
}

/* Behind a shield the outer deadline counts only when the shield's time is over: it becomes the later of the two. */
stel_shield stel_shield_open(int64_t length_ns) {
    stel__waiter *self = stel__waiter_self();
    if (!self) return (stel_shield){ STEL_FOREVER, INT64_MIN };
    int64_t until = stel_after(length_ns);
    stel_shield previous = { stel__load_relaxed(&self->deadline), stel__load_relaxed(&self->shield_until) };
    stel__store_relaxed(&self->shield_until, until);
    if (previous.deadline < until) stel__store_relaxed(&self->deadline, until);
    return previous;
}

void stel_shield_close(stel_shield previous) {
    stel__waiter *self = stel__waiter_self();
    if (!self) return;
    stel__store_relaxed(&self->deadline, previous.deadline);
    stel__store_relaxed(&self->shield_until, previous.until);
}

/* ---- who am I ---- */

stel_fiber stel_self(void) {
    stel__worker *w = stel__worker_self();
    return w && stel__worker_current(w)
               ? stel__fiber_handle(stel__worker_current(w), stel__load_relaxed(&stel__worker_current(w)->life))
               : 0;
}

int stel_worker_id(void) {
    stel__worker *w = stel__worker_self();
    return w ? w->id : -EPERM;
}
