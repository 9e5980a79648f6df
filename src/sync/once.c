/* Once: a word of 8 bytes that says how far it has come, and queues that belong to the process, as there is no room for
 * one in the object: those who wait are in one of 64 buckets, chosen by the object's address, each with its node saying
 * for which object it waits (node.element). Few wait for an fn, and not for long: a bucket seldom holds two objects.
 *
 *   word              what is true                     edges out of it
 *   0                 nobody runs it, nobody waits     a caller: -> RUNNING, and it is the runner
 *   RUNNING           the runner runs fn               the runner, fn succeeded: -> DONE; it failed: -> 0
 *                                                      a caller, under the bucket's lock: -> RUNNING WAITED
 *   RUNNING WAITED    and some are, or were, in the    the runner, under the lock, succeeded: -> DONE, all are chosen
 *                     bucket                           it failed: the first is chosen to be the runner -> RUNNING
 *                                                      [WAITED] with its index; nobody is left -> 0
 *   DONE              fn has succeeded                 none
 *
 * A waiter that was chosen reads on its node what for: STEL__NODE_HANDOFF makes it the runner. One that was chosen as
 * its time ran out is the runner all the same, and runs its fn, which may fail at its first wait; then the next has it.
 *
 * The runner's index is in the word, so that a call from within fn is seen.
 *
 * fn may never return. Left by stel_exit, fn has failed: while it runs, the fiber has the run on its list of what
 * stel_exit must close, as it has its open scopes. C++ exceptions and pthread_exit must not leave it: seeing to that
 * takes the compiler's unwinding, and with it libgcc_s, which the library otherwise does without.
 *
 * Last touches. Without WAITED the runner's last touch of the object is the swap; else the store, under the lock of the
 * bucket, which outlives all. A caller that reads DONE may free the object at once, and so may a chosen waiter: that
 * touches only its node.
 *
 * Ordering. Whoever finds DONE by an acquire load sees what fn did (pairs with the release that stores it); chosen
 * waiters see it by their waking or by the bucket's lock; a runner sees what failed runs before it did the same way. */
#include "sync/queue.h"

typedef struct once {
    _Atomic uint64_t word;
} __attribute__((may_alias)) once;

_Static_assert(sizeof(once) == 8 && sizeof(stel_once) == 8, "the size of a once is part of the ABI");
_Static_assert(_Alignof(once) <= _Alignof(stel_once), "the public struct is aligned well enough");

enum { RUNNING = 1, DONE = 2, WAITED = 4 };
#define RUNNING_OF(i) ((uint64_t)(i) << 32 | RUNNING) /* by the waiter of this index */

/* ---- the buckets ---- */

enum { BUCKET_BITS = 6 };
typedef struct bucket {
    STEL__ALIGNED(STEL__CACHE_LINE) stel__spin lock;
    stel__list queue; /* of several objects, each one's in order of arrival */
} bucket;
static bucket buckets[1 << BUCKET_BITS];

static bucket *bucket_of(const once *o) {
    /* Fibonacci hashing (D. Knuth, The Art of Computer Programming 3, 6.4, 1973) */
    return &buckets[((uintptr_t)o >> 3) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - BUCKET_BITS)];
}

/* Under the bucket's lock: the first waiter for o at or behind `link`; NULL: there is none. */
static stel__node *find(stel__link *link, const once *o) {
    while (link && stel__node_of(link)->element != o)
        link = link->next;
    return link ? stel__node_of(link) : NULL;
}

/* ---- the end of a run ---- */

/* With the bucket's lock held: all who wait for o return. Their nodes go to a list of our own, still queued; nobody
 * looks at them before the lock is given back. */
static void choose_all(bucket *b, const once *o) {
    stel__list chosen = { NULL, NULL };
    for (stel__node *n = find(b->queue.head, o), *next; n; n = next) {
        next = find(n->link.next, o);
        stel__list_remove(&b->queue, &n->link);
        stel__list_push_tail(&chosen, &n->link);
    }
    stel__queue_wake_all(&b->lock, &chosen);
}

/* With the bucket's lock held: the first who waits for o is the next runner. */
static void choose_runner(bucket *b, once *o) {
    stel__node *n = find(b->queue.head, o);
    if (!n) { /* they were cut short; release: pairs with the acquire of the next runner */
        stel__store_release(&o->word, 0);
        stel__spin_give(&b->lock);
        return;
    }
    bool more = find(n->link.next, o) != NULL;
    stel__ticket ticket = stel__node_ticket(n);
    stel__queue_remove(&b->queue, n);
    n->flags |= STEL__NODE_HANDOFF;
    /* relaxed: stel__wake, or the lock, orders it */
    stel__store_relaxed(&o->word, RUNNING_OF(n->waiter) | (more ? WAITED : 0u));
    stel__spin_give(&b->lock);
    stel__wake(ticket, STEL__WOKEN); /* if that fails its time ran out, and it finds out by itself that it was chosen */
}

static void end(once *o, uint64_t running, bool succeeded) {
    /* release: pairs with the acquire of whoever finds it done, or runs it next */
    if (STEL__LIKELY(stel__cas_release(&o->word, &running, succeeded ? DONE : 0))) return;
    bucket *b = bucket_of(o);
    stel__spin_take(&b->lock);
    if (succeeded) {
        stel__store_release(&o->word, DONE); /* as above */
        choose_all(b, o);
    } else {
        choose_runner(b, o);
    }
}

/* ---- a run, and how it ends in any case ---- */

typedef struct run {
    stel__scope_link link; /* what stel_exit closes; on a plain thread unused */
    once *o;
    uint64_t running; /* the word */
    bool linked, succeeded;
} run;

static void run_end(run *r) {
    if (r->linked) stel__scope_pop(&r->link);
    end(r->o, r->running, r->succeeded);
}

/* The fiber ends by stel_exit from within fn. */
static void left_by_exit(stel__scope_link *link) {
    run_end(STEL__CONTAINER(link, run, link));
}

static size_t no_children(stel__scope_link *link, stel_fiber *children, size_t n) {
    (void)link, (void)children, (void)n;
    return 0;
}

static const stel__scope_ops run_ops = { .collect = no_children, .close = left_by_exit };

/* The caller is the runner. */
static STEL__NOINLINE int run_it(once *o, const stel__waiter *w, stel_fn *fn, void *arg) {
    run r = { .link.ops = &run_ops, .o = o, .running = RUNNING_OF(w->index) };
    bool cancelled;
    if (!stel__waiter_is_thread(w)) {
        if (stel__scope_push(&r.link, &cancelled) < 0) {
            run_end(&r); /* as a failed run: the next one may try */
            return -ENOMEM;
        }
        r.linked = true;
    }
    int rc = fn(arg);
    r.succeeded = rc >= 0;
    run_end(&r);
    return rc < 0 ? rc : 0;
}

/* ---- the call ---- */

/* Under the bucket's lock: let the runner know that somebody waits. false: there is no runner any more. */
static bool ask_to_be_woken(once *o) {
    uint64_t s = stel__load_relaxed(&o->word);
    do {
        if (!(s & RUNNING)) return false;
        if (s & WAITED) return true;
        /* acquire, for nothing but the wrapper's sake: the outcome comes by the waking */
    } while (!stel__cas_acquire(&o->word, &s, s | WAITED));
    return true;
}

enum outcome { RUN_OVER, CHOSEN_IT_IS_DONE, CHOSEN_TO_RUN };

/* Wait until the run is over. An outcome, or why the wait was cut short. */
static int wait_for_runner(once *o, stel__waiter *w) {
    bucket *b = bucket_of(o);
    stel__spin_take(&b->lock);
    if (!ask_to_be_woken(o)) {
        stel__spin_give(&b->lock);
        return RUN_OVER;
    }
    stel__wait_begin(w, STEL__WAIT_ONCE);
    w->node.element = o;
    stel__queue_push(&b->queue, w, 0);
    stel__spin_give(&b->lock);
    int rc = stel__queue_park(&b->lock, &b->queue, w);
    if (rc < 0) return rc;
    return w->node.flags & STEL__NODE_HANDOFF ? CHOSEN_TO_RUN : CHOSEN_IT_IS_DONE;
}

static STEL__NOINLINE int call_slow(once *o, stel_fn *fn, void *arg) {
    stel__waiter *w = stel__waiter_need("stel_once_call");
    for (;;) {
        uint64_t s = stel__load_acquire(&o->word); /* pairs with the release in end */
        if (s == DONE) return 0;
        if (s == 0) {
            if (stel__cas_acquire(&o->word, &s, RUNNING_OF(w->index))) return run_it(o, w, fn, arg);
            continue;
        }
        if ((s & ~(uint64_t)WAITED) == RUNNING_OF(w->index)) return -EDEADLK;
        int rc = stel__wait_check(w);
        if (rc == 0) rc = wait_for_runner(o, w);
        if (rc < 0) return rc;
        if (rc == CHOSEN_TO_RUN) return run_it(o, w, fn, arg);
        if (rc == CHOSEN_IT_IS_DONE) return 0;
    }
}

int stel_once_call(stel_once *object, stel_fn *fn, void *arg) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    once *o = (once *)object;
    if (STEL__UNLIKELY(!fn)) return -EINVAL;
    /* acquire: pairs with the release in end */
    return STEL__LIKELY(stel__load_acquire(&o->word) == DONE) ? 0 : call_slow(o, fn, arg);
}
