/* Scopes: fibers that do not outlive a block.
 *
 * Nouns. The opener opened the scope and will join it; the scope lies in its memory. A child was spawned into it. A
 * child is listed from before it can run until it is about to end, in `running`, or in `doomed` once the scope has begun to
 * cancel it. `alive` counts a little longer, until nothing of the child is left but its stack: so when it is 0,
 * the children's ends are counted everywhere, and nobody but the opener touches the scope any more.
 *
 *   state       what is true                          edges out of it
 *   open        children may be spawned               spawner, born: alive + 1
 *                                                     a child, ending: keeps the first failure; a failure (without
 *                                                       COLLECT): -> cancelled
 *                                                     the opener cancelled, collect; stel_scope_cancel: -> cancelled
 *   cancelled   spawns fail; the children move from   whoever cancels, take_running: each child once
 *               `running` to `doomed`
 *   closed      no child is alive                     the opener only, when alive == 0: join, close
 *
 * A child may be collected between its birth and the moment from which its handle works; the cancellation is lost then.
 * So the spawner looks again, under the lock, after the handle works: either it sees the scope cancelled, or the
 * canceller, which comes later, finds a handle that works.
 *
 *     spawner                             canceller
 *       lock: born, listed                  lock: cancelled = true, takes the child off `running`
 *       publish: the handle works           cancel by handle: perhaps -ESRCH
 *       lock: cancelled? cancel it
 *
 * The last touch. The last child takes the opener's ticket and gives the lock back, then wakes it. An opener that looks
 * for itself sees alive == 0 under the lock: the child has given it back.
 *
 * A scope that was opened behind a shield is hidden from the cancellation of its opener as the opener itself is; when the
 * shield's time is over the opener's own join is cut short, and that cancels the children.
 *
 * After "Notes on structured concurrency" (N. J. Smith, 2018) and its nursery, with the differences that the contract
 * makes: a join that is cut short returns its own code, and so does one that finds a failed child. */
#include "sync/queue.h"
#include <stellane/scope.h>

typedef struct scope {
    /* fixed while it is open */
    stel__scope_link link; /* outer: the opener's extra lock */
    uintptr_t seal;        /* tells an open scope from any other memory, and from a copy */
    uint64_t opener;       /* a waiter's identity */
    stel__sched *home;     /* the opener's; NULL: a plain thread */
    int64_t deadline;      /* the opener's, when it opened */
    uint8_t collect, shielded, background;
    /* under lock */
    _Atomic bool cancelled; /* set under it; read without it by who looks again under it */
    stel__spin lock;
    uint32_t alive;
    int32_t failure;     /* the first, or 0 */
    stel__ticket joiner; /* the opener's wait, or 0 */
    stel__list running, doomed;
} __attribute__((may_alias)) scope;

_Static_assert(sizeof(scope) <= 128 && sizeof(stel_scope) == 128, "the size of a scope is part of the ABI");
_Static_assert(_Alignof(scope) <= _Alignof(stel_scope), "the public struct is aligned well enough");

/* What makes the seal, together with the address. */
#define SEAL_OPEN   UINT64_C(0x5ca1ab1e0b57ac1e)
#define SEAL_FAILED UINT64_C(0x5ca1ab1e0badf00d) /* it could not be opened: no memory */

static uintptr_t seal(const scope *s, uint64_t kind) {
    return (uintptr_t)s ^ (uintptr_t)kind;
}
static bool is_open(const scope *s) {
    return s && s->seal == seal(s, SEAL_OPEN);
}
static int not_open(const scope *s) {
    return s && s->seal == seal(s, SEAL_FAILED) ? -ENOMEM : -EINVAL;
}
static scope *scope_of(stel__scope_link *link) {
    return STEL__CONTAINER(link, scope, link);
}

/* ---- what sched tells ---- */

static void born(stel__scope_link *link, stel__child *child) {
    scope *s = scope_of(link);
    stel__spin_take(&s->lock);
    child->cancelled = false;
    stel__list_push_tail(&s->running, &child->link);
    s->alive++;
    stel__spin_give(&s->lock);
}

/* Under the lock: up to n children that have not been cancelled, to be cancelled by the caller. */
static size_t take_running(scope *s, stel_fiber *children, size_t n) {
    size_t taken = 0;
    stel__store_relaxed(&s->cancelled, true);
    for (stel__link *l; taken < n && (l = stel__list_pop_head(&s->running)) != NULL; taken++) {
        stel__child *child = STEL__CONTAINER(l, stel__child, link);
        child->cancelled = true;
        stel__list_push_tail(&s->doomed, l);
        children[taken] = child->fiber;
    }
    return taken;
}

static size_t collect(stel__scope_link *link, stel_fiber *children, size_t n) {
    scope *s = scope_of(link);
    if (s->shielded) return 0;
    stel__spin_take(&s->lock);
    n = take_running(s, children, n);
    stel__spin_give(&s->lock);
    return n;
}

static void cancel(scope *s) {
    enum { BATCH = 8 };
    stel_fiber children[BATCH];
    size_t n;
    do {
        stel__spin_take(&s->lock);
        n = take_running(s, children, BATCH);
        stel__spin_give(&s->lock);
        for (size_t i = 0; i < n; i++)
            (void)stel_cancel(children[i]); /* -ESRCH: it ended by itself, or its spawner sees to it */
    } while (n == BATCH);
}

static void ending(stel__child *child, int result) {
    scope *s = scope_of(child->scope);
    stel__spin_take(&s->lock);
    stel__list_remove(child->cancelled ? &s->doomed : &s->running, &child->link);
    bool failed = result < 0 && !(result == -ECANCELED && stel__load_relaxed(&s->cancelled));
    if (failed && s->failure == 0) s->failure = result;
    bool spread = failed && !s->collect && !stel__load_relaxed(&s->cancelled);
    stel__spin_give(&s->lock);
    if (spread) cancel(s); /* still counted in alive: the scope stays */
}

static void ended(stel__scope_link *link) {
    scope *s = scope_of(link);
    stel__ticket joiner = 0;
    stel__spin_take(&s->lock);
    if (--s->alive == 0) {
        joiner = s->joiner;
        s->joiner = 0;
    }
    stel__spin_give(&s->lock);
    if (joiner) stel__wake(joiner, STEL__WOKEN);
}

/* ---- waiting for the children ---- */

static int await_children(scope *s, stel__waiter *w, unsigned flags) {
    stel__spin_take(&s->lock);
    if (s->alive == 0) {
        stel__spin_give(&s->lock);
        return 0;
    }
    s->joiner = stel__wait_begin(w, STEL__WAIT_SCOPE);
    stel__spin_give(&s->lock);
    int rc = stel__wait_park(w, flags);
    if (rc >= 0) return 0;
    stel__spin_take(&s->lock);
    if (s->joiner == 0) rc = 0; /* the last child has chosen us */
    s->joiner = 0;
    stel__spin_give(&s->lock);
    return rc;
}

static void cancel_and_wait(scope *s, stel__waiter *w) {
    cancel(s);
    (void)await_children(s, w, STEL__PARK_UNINTERRUPTIBLE);
}

static void closed(scope *s) {
    s->seal = 0;
    if (s->home) stel__scope_pop(&s->link);
}

static void close_link(stel__scope_link *link) {
    scope *s = scope_of(link);
    cancel_and_wait(s, stel__waiter_need("stel_exit"));
    closed(s);
}

/* ---- the calls ---- */

static const stel__scope_ops ops = {
    .born = born, .ending = ending, .ended = ended, .collect = collect, .close = close_link
};

int stel_scope_open(stel_scope *object, unsigned flags) {
    scope *s = (scope *)object;
    if (!s || (flags & ~(unsigned)STEL_SCOPE_COLLECT)) return -EINVAL;
    *s = (scope){ .seal = seal(s, SEAL_FAILED) };
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    stel__waiter *w = stel__waiter_self();
    if (!w) return -ENOMEM;
    s->link.ops = &ops;
    s->opener = stel__waiter_identity(w);
    s->deadline = stel__load_relaxed(&w->deadline);
    s->collect = flags & STEL_SCOPE_COLLECT;
    if (!stel__waiter_is_thread(w)) {
        int64_t shield = stel__load_relaxed(&w->shield_until);
        bool cancelled;
        s->home = stel__sched_current();
        s->background = stel__sched_self_is_background();
        s->shielded = shield != INT64_MIN && shield > stel__clock_now();
        int rc = stel__scope_push(&s->link, &cancelled);
        if (rc < 0) return rc;
        if (cancelled && !s->shielded) cancel(s);
    }
    s->seal = seal(s, SEAL_OPEN);
    return 0;
}

/* The scope's deadline; for the opener also one that it has got since. */
static int64_t deadline_for_child(const scope *s) {
    const stel__waiter *w = stel__waiter_self();
    if (!w || stel__waiter_identity(w) != s->opener) return s->deadline;
    int64_t now = stel__load_relaxed(&w->deadline);
    return now < s->deadline ? now : s->deadline;
}

/* 0, or why the scope takes no children: the failure that cancelled it, or -ECANCELED. For good: ordered after everything
 * that a canceller does under the lock. */
static int refusal(scope *s) {
    stel__spin_take(&s->lock);
    int why = !stel__load_relaxed(&s->cancelled) ? 0 : s->failure ? s->failure : -ECANCELED;
    stel__spin_give(&s->lock);
    return why;
}

int stel_scope_spawn(stel_scope *object, stel_fn *fn, void *arg) {
    scope *s = (scope *)object;
    if (!is_open(s)) return not_open(s);
    if (!fn) return -EINVAL;
    if (stel__load_relaxed(&s->cancelled)) return refusal(s); /* a cancellation that comes now is seen below */
    stel__child_request request = {
        .scope = &s->link, .home = s->home, .deadline = deadline_for_child(s), .background = s->background
    };
    stel_fiber child;
    int rc = stel__sched_spawn_child(&child, &request, fn, arg, __builtin_return_address(0));
    if (rc < 0) return rc;
    if (refusal(s) < 0) (void)stel_cancel(child);
    return 0;
}

int stel_scope_join(stel_scope *object) {
    scope *s = (scope *)object;
    if (!is_open(s)) return not_open(s);
    stel__waiter *w = stel__waiter_need("stel_scope_join");
    if (stel__waiter_identity(w) != s->opener || stel__load_relaxed(&stel__forked)) return -EPERM;
    int rc = stel__wait_check(w);
    if (rc == 0) rc = await_children(s, w, 0);
    /* Our cancellation was theirs as well, and they may have been faster in ending than we in hearing of it. */
    if (rc == 0 && stel__load_relaxed(&s->cancelled)) rc = stel__wait_check(w);
    if (rc < 0) cancel_and_wait(s, w);
    closed(s);
    if (rc < 0 || s->failure == 0) return rc;
    /* A child that ran into the deadline it has from us was only faster than we. */
    if (s->failure == -ETIMEDOUT) w->timed_out = stel__load_relaxed(&w->deadline) <= stel__clock_now();
    return s->failure;
}

void stel_scope_cancel(stel_scope *object) {
    scope *s = (scope *)object;
    if (is_open(s)) cancel(s);
}

void stel_scope_close(stel_scope *object) {
    scope *s = (scope *)object;
    if (!is_open(s) || stel__load_relaxed(&stel__forked)) return; /* forked: the children are not here */
    stel__waiter *w = stel__waiter_need("stel_scope_close");
    if (stel__waiter_identity(w) != s->opener) stel__misuse("stel_scope_close", s, "somebody else has opened it");
    cancel_and_wait(s, w);
    closed(s);
}
