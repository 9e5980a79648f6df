/* The life of a fiber as its users see it: spawn, join, detach, exit, cancel, shield, yield, sleep, park.
 *
 * Who frees a control block. Two words decide. `life` has the flag CLAIMED: the one join, try_join or detach that takes
 * effect sets it, and from then on nobody else may touch the fiber's end. `joiner` is exchanged with what the claimer
 * knows on one side and with ENDED by the ending fiber on the other:
 *
 *   claimer                                       ending fiber
 *     CAS life: + CLAIMED (names the generation)    store result
 *     CAS joiner: NONE -> its ticket                exchange joiner: -> ENDED   (its last touch of the block)
 *       or NONE -> DETACHED                           found NONE: the block waits for a claimer
 *     found ENDED: takes result, frees block          found a ticket: wake it; the joiner frees the block
 *                                                     found DETACHED: free the block
 * A join that is cut short takes its ticket back (CAS joiner: ticket -> NONE) and then its claim; if the ticket is gone
 * the fiber has ended, and the join succeeds after all.
 *
 * Spawned detached, a fiber begins with CLAIMED and DETACHED. */
#include "sched/worker.h"
#include <sched.h>

/* ---- spawn ---- */

/* The scheduler that a plain thread's stel_spawn goes to; the runtime room knows. pin keeps it alive until unpin. */
static struct {
    stel__sched *(*_Atomic pin)(void); /* NULL until there has been a runtime */
    void (*unpin)(stel__sched *s);
} fallback;

void stel__sched_set_default(stel__sched *(*pin)(void), void (*unpin)(stel__sched *s)) {
    fallback.unpin = unpin;
    stel__store_release(&fallback.pin, pin); /* pairs with spawn_slow: threads may try to spawn before */
}

/* What a fiber is to be, options and defaults resolved. By value: the plain spawn's is all constants to the compiler.
 */
typedef struct request {
    const char *name;
    unsigned flags, level, stack_class, pinned;
} request;

static int request_of(const stel__sched *s, const stel_spawn_options *o, request *r) {
    if (o->size != sizeof *o) return -EINVAL;
    if (o->flags & ~(unsigned)(STEL_NO_MIGRATE | STEL_FP_ENVIRONMENT | STEL_BACKGROUND)) return -EINVAL;
    if (o->priority < STEL_PRIORITY_MOST_URGENT || o->priority > STEL_PRIORITY_LEAST_URGENT) return -EINVAL;
    if (o->stack_bytes) {
        int class = stel__stack_class(o->stack_bytes);
        if (class < 0) return class;
        r->stack_class = (unsigned)class;
    }
    if (o->place > 0) {
        if (o->place > s->worker_count) return -EINVAL;
        r->pinned = (unsigned)o->place;
    } else if (o->place < 0) {
        int node = -1 - o->place;
        if (node >= stel__node_count()) return -EINVAL;
        /* One node is everywhere; else the first worker that runs on it. */
        for (int i = 0; stel__node_count() > 1 && i < s->worker_count && !r->pinned; i++)
            if (stel__node_of_cpu(i) == node) r->pinned = (unsigned)i + 1;
    }
    r->name = o->name && *o->name ? o->name : NULL;
    r->flags = o->flags;
    r->level = (unsigned)(o->priority + STEL__LEVEL_NORMAL);
    return 0;
}

STEL__COLD static int give_extras(stel__fiber *f, request r) {
    stel__extra *extra = stel__fiber_extra(f);
    if (!extra) return -ENOMEM;
    if (r.name) stel__fiber_set_name(f, r.name);
    extra->fp_words = stel__fp_save();
    return 0;
}

/* Everything of a fresh block but what makes it visible. */
static inline void fill(stel__fiber *f, stel__sched *s, int64_t now, request r, stel_fn *fn, void *arg, void *site) {
    f->at.arg = arg;
    f->stack = NULL;
    stel__store_relaxed(&f->fn, fn);
    stel__store_relaxed(&f->home, s);
    stel__store_relaxed(&f->spawn_site, site);
    stel__store_relaxed(&f->created, now);
    f->pinned = r.pinned & 0xfff;
    f->stack_class = r.stack_class & 0xf;
    stel__store_relaxed(&f->waiter.owner_bits, (uint8_t)(r.flags | r.level << STEL__LEVEL_SHIFT));
    stel__waiter_begin(&f->waiter);
    stel__store_relaxed(&f->queue.limit, STEL_FOREVER);
}

/* Counted before the fiber can run, and so before its end can be counted: see stel__sched_live. */
static inline void count_spawn(stel__sched *s, stel__worker *w, bool background) {
    if (STEL__LIKELY(w != NULL)) {
        stel__store_release(&w->counters.spawned, stel__load_relaxed(&w->counters.spawned) + 1);
        if (background)
            stel__store_release(&w->counters.spawned_background,
                                stel__load_relaxed(&w->counters.spawned_background) + 1);
    } else {
        stel__add_acq_rel(&s->spawned_outside, 1);
        if (background) stel__add_acq_rel(&s->spawned_outside_background, 1);
    }
}

/* The fiber comes to life: from here on its handle works, and it may run at once. */
static inline void publish(stel__fiber *f, stel__sched *s, stel__worker *w, stel_fiber *out, bool background) {
    uint64_t life = (stel__load_relaxed(&f->life) & ~STEL__INDEX_MASK) | STEL__LIFE_ALIVE;
    if (out)
        *out = stel__fiber_handle(f, life);
    else
        life |= STEL__LIFE_CLAIMED;
    stel__store_relaxed(&f->joiner, out ? STEL__JOINER_NONE : STEL__JOINER_DETACHED);
    stel__store_release(&f->life, life); /* pairs with lookups by handle */
    count_spawn(s, w, background);
    stel__ready_spawned(w, f);
}

/* Why a spawn cannot be, apart from its arguments. */
STEL__COLD static int refusal(stel__sched *s, bool outside) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (outside && stel__load_acquire(&s->closed)) return -ESHUTDOWN; /* pairs with the release in stel__sched_close */
    if (s->config.max_fibers && stel__sched_live(s) >= s->config.max_fibers) return -EAGAIN;
    return stel__load_relaxed(&s->starved_count) || stel__stack_starved() ? -ENOMEM : 0;
}

static inline bool may_refuse(const stel__sched *s) {
    return s->config.max_fibers || stel__load_relaxed(&s->starved_count) || stel__load_relaxed(&stel__forked);
}

int stel__sched_spawn(stel__sched *s, stel_fiber *out, const stel_spawn_options *o, stel_fn *fn, void *arg,
                      void *spawn_site) {
    request r = { .level = STEL__LEVEL_NORMAL, .stack_class = (unsigned)s->stack_class };
    stel__worker *w = stel__worker_self();
    if (w && w->sched != s) w = NULL;
    if (!fn) return -EINVAL;
    int rc = o ? request_of(s, o, &r) : 0;
    if (rc == 0 && (!w || may_refuse(s))) rc = refusal(s, !w);
    if (rc < 0) return rc;
    stel__free_blocks *blocks = w ? &w->blocks : NULL;
    stel__fiber *f = stel__block_get(blocks, &rc);
    if (!f) return rc;
    fill(f, s, w ? w->now : stel__clock_now(), r, fn, arg, spawn_site);
    if ((r.name || r.flags & STEL_FP_ENVIRONMENT) && (rc = give_extras(f, r)) < 0) {
        stel__block_put(blocks, f);
        return rc;
    }
    publish(f, s, w, out, r.flags & STEL_BACKGROUND);
    return 0;
}

STEL__NOINLINE static int spawn_slow(stel_fiber *out, const stel_spawn_options *o, stel_fn *fn, void *arg, void *site) {
    const stel__worker *w = stel__worker_self();
    if (w) return stel__sched_spawn(w->sched, out, o, fn, arg, site);
    stel__sched *(*pin)(void) = stel__load_acquire(&fallback.pin); /* pairs with set_default */
    stel__sched *s = pin && !stel__load_relaxed(&stel__forked) ? pin() : NULL;
    if (!s) return -EPERM;
    int rc = stel__sched_spawn(s, out, o, fn, arg, site);
    fallback.unpin(s);
    return rc;
}

/* The plain spawn, by a worker that has a block at hand: the same steps without the questions. */
static inline int spawn_fast(stel_fiber *out, stel_fn *fn, void *arg, void *site) {
    stel__worker *w = stel__worker_self();
    if (STEL__UNLIKELY(!w || !fn || !w->blocks.head || may_refuse(w->sched)))
        return spawn_slow(out, NULL, fn, arg, site);
    stel__fiber *f = w->blocks.head;
    w->blocks.head = stel__load_relaxed(&f->queue.run_next);
    w->blocks.count--;
    request r = { .level = STEL__LEVEL_NORMAL, .stack_class = (unsigned)w->sched->stack_class };
    fill(f, w->sched, w->now, r, fn, arg, site);
    publish(f, w->sched, w, out, false);
    return 0;
}

int stel_spawn(stel_fiber *out, stel_fn *fn, void *arg) {
    return out ? spawn_fast(out, fn, arg, __builtin_return_address(0)) : -EINVAL;
}
int stel_spawn_with(stel_fiber *out, const stel_spawn_options *o, stel_fn *fn, void *arg) {
    return spawn_slow(out, o, fn, arg, __builtin_return_address(0));
}
int stel_go(stel_fn *fn, void *arg) {
    return spawn_fast(NULL, fn, arg, __builtin_return_address(0));
}

/* ---- the end, and who learns of it ---- */

void stel__fiber_complete(stel__worker *w, stel__fiber *f, int result) {
    stel__worker_counters *c = &w->counters;
    f->result = result;
    int64_t age = w->now - stel__load_relaxed(&f->created);
    if (age > 0) stel__count(&c->duration_ns, (uint64_t)age);
    if (result < 0) stel__count(&c->failed, 1);
    if (STEL__UNLIKELY(stel__fiber_flags(f) & STEL_BACKGROUND))
        stel__count(&c->executed_background, 1); /* before executed */
    if (STEL__UNLIKELY(f->extra != NULL)) stel__fiber_extra_free(f);
    /* Before the joiner can know; pairs with stel__sched_live. The scheduler is not gone with its last fiber: it ends
     * after its workers' threads. */
    stel__store_release(&c->executed, stel__load_relaxed(&c->executed) + 1);
    uint64_t joiner = stel__xchg_acq_rel(&f->joiner, STEL__JOINER_ENDED);
    if (joiner == STEL__JOINER_DETACHED)
        stel__block_put(&w->blocks, f);
    else if (joiner != STEL__JOINER_NONE)
        stel__wake(joiner, 0);
}

/* Set CLAIMED, if f is a living or ended fiber of this handle that nobody has claimed. */
static int claim(stel_fiber handle, stel__fiber **out) {
    stel__fiber *f = stel__fiber_find(handle);
    if (!f) return -ESRCH;
    uint64_t life = stel__load_acquire(&f->life);
    do {
        if (!stel__same_generation(life, handle) || !(life & STEL__LIFE_ALIVE) || (life & STEL__LIFE_CLAIMED))
            return -ESRCH;
    } while (!stel__cas_acq_rel(&f->life, &life, life | STEL__LIFE_CLAIMED));
    *out = f;
    return 0;
}

static void unclaim(stel__fiber *f) {
    stel__and_acq_rel(&f->life, ~(uint64_t)STEL__LIFE_CLAIMED);
}

/* f has ended and is ours: take its result and free its block. */
static int reap(stel__fiber *f, int *result) {
    if (result) *result = f->result;
    stel__worker *w = stel__worker_self();
    stel__block_put(w ? &w->blocks : NULL, f);
    return 0;
}

int stel_join(stel_fiber handle, int *result) {
    stel__waiter *self = stel__waiter_self();
    if (!self) return -ENOMEM;
    if (STEL__UNLIKELY(handle == stel__waiter_identity(self))) return -EDEADLK;
    int rc = stel__wait_check(self);
    if (rc < 0) return rc;
    stel__fiber *f = NULL;
    if ((rc = claim(handle, &f)) < 0) return rc;
    stel__ticket ticket = stel__wait_begin(self, STEL__WAIT_JOIN);
    uint64_t joiner = STEL__JOINER_NONE;
    if (!stel__cas_acq_rel(&f->joiner, &joiner, ticket)) {
        (void)stel__wait_drop(self);
        return reap(f, result);
    }
    rc = stel__wait_park(self, 0);
    if (rc >= 0) return reap(f, result);
    joiner = ticket;
    if (!stel__cas_acq_rel(&f->joiner, &joiner, STEL__JOINER_NONE)) return reap(f, result); /* it ended meanwhile */
    unclaim(f);
    return rc;
}

int stel_try_join(stel_fiber handle, int *result) {
    if (handle && handle == stel_self()) return -EDEADLK;
    stel__fiber *f = stel__fiber_find(handle);
    if (!f) return -ESRCH;
    uint64_t life = stel__load_acquire(&f->life); /* pairs with the release in spawn: joiner is this fiber's */
    if (!stel__same_generation(life, handle) || !(life & STEL__LIFE_ALIVE) || (life & STEL__LIFE_CLAIMED))
        return -ESRCH;
    /* Claimed only once it has ended: a join or detach that comes at the same moment must not find it taken by a call
     * that then takes nothing. */
    if (stel__load_acquire(&f->joiner) != STEL__JOINER_ENDED) return -EAGAIN;
    int rc = claim(handle, &f);
    return rc < 0 ? rc : reap(f, result);
}

int stel_detach(stel_fiber handle) {
    stel__fiber *f = NULL;
    int rc = claim(handle, &f);
    if (rc < 0) return rc;
    uint64_t joiner = STEL__JOINER_NONE;
    if (!stel__cas_acq_rel(&f->joiner, &joiner, STEL__JOINER_DETACHED)) return reap(f, NULL);
    return 0;
}

void stel_exit(int result) {
    stel__worker *w = stel__worker_self();
    if (!w || !stel__worker_current(w)) stel__die("stel_exit: the caller is no fiber");
    stel__fiber_end(stel__worker_current(w), result);
}

/* ---- cancel, park ---- */

/* Set a flag of a living fiber. 0, or -ESRCH. */
static int life_set(stel_fiber handle, uint64_t flag, stel__fiber **out) {
    stel__fiber *f = *out = stel__fiber_find(handle);
    if (!f) return -ESRCH;
    uint64_t life = stel__load_acquire(&f->life);
    do {
        if (!stel__same_generation(life, handle) || !(life & STEL__LIFE_ALIVE)) return -ESRCH;
    } while (!stel__cas_seq_cst(&f->life, &life, life | flag)); /* against finish_park in worker.c */
    return 0;
}

int stel_cancel(stel_fiber handle) {
    stel__fiber *f = NULL;
    int rc = life_set(handle, STEL__LIFE_CANCELLED, &f);
    if (rc == 0) stel__waiter_interrupt(f, handle, STEL__WORD_INTERRUPTIBLE);
    return rc;
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
    int rc = life_set(handle, STEL__LIFE_TOKEN, &f);
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
