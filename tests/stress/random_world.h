/* What test_stress.c plays with: the shared objects, the sums that must come out right, and chance. */
#ifndef RANDOM_WORLD_H
#define RANDOM_WORLD_H

#include "check_fiber.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

enum { WORKERS = 8, SLOTS = 6, LOCKS = 4, SELECT_MOST = 4 };

/* A channel in public use, until somebody replaces it: takes it out, closes it, drains it. */
typedef struct slot {
    stel_mutex lock;
    stel_chan *chan; /* under lock */
} slot;

/* A plain counter under a lock, and beside it how often it was raised. */
typedef struct guarded {
    stel_mutex lock;
    uint64_t count; /* under lock */
    _Atomic uint64_t expected;
} guarded;

/* Two counters that are the same whenever nobody writes, and how often they were raised. */
typedef struct shelf {
    stel_rwlock lock;
    uint64_t left, right; /* under lock */
    _Atomic uint64_t expected;
} shelf;

enum { PERMITS = 3 };
typedef struct permits {
    stel_sem sem;
    _Atomic int taken;
} permits;

typedef struct world {
    slot slots[SLOTS];
    guarded locks[LOCKS];
    shelf shelves[LOCKS];
    permits permits;
    _Atomic uint64_t signals_sent, signals_taken; /* sums of their values */
    stel_chan *sink;                              /* its consumers live until the end, so a send needs no time limit */
    stel_waitgroup detached;                      /* fibers nobody joins */
    _Atomic uint64_t sent, received, sunk, swallowed; /* sums of elements: slots' and the sink's */
    _Atomic uint64_t operations;
} world;

/* Who acts: a fiber or a plain thread, with chance of its own. */
typedef struct actor {
    world *world;
    uint64_t random;
    bool may_be_cancelled; /* then -ECANCELED is a good answer */
    bool cancelled;        /* it was one */
} actor;

static inline uint32_t below(actor *a, uint32_t n) {
    return test_random(&a->random, n);
}

/* Did the wait go well? What else it may say: -ECANCELED when the actor may be cancelled, and `also`. */
static inline bool went_well(actor *a, int rc, int also) {
    if (rc == -ECANCELED && a->may_be_cancelled) {
        a->cancelled = true;
        return false;
    }
    if (rc < 0 && rc != also) FIBER_FAIL("a wait ended with %s", stel_strerror(rc));
    return rc >= 0;
}

static inline void add(_Atomic uint64_t *sum, uint64_t n) {
    atomic_fetch_add_explicit(sum, n, memory_order_relaxed);
}

/* ---- two parties: a parent with a child that it joins ---- */

enum { ENDLESS_KINDS = 8 };

/* What a parent and its child share; on the parent's stack, but for what is freed early. */
typedef struct pair {
    actor child;
    stel_mutex *lock;
    stel_cond *cond;
    bool flag; /* under lock */
    stel_event *event;
    stel_waitgroup *group;
    stel_chan *chan;
    stel_fiber parent;
    uint32_t kind, n;
} pair;

static inline void pair_init(pair *p, actor *a) {
    memset(p, 0, sizeof *p);
    p->child.world = a->world;
    p->child.random = (uint64_t)below(a, UINT32_MAX) << 16 | 1;
    p->parent = stel_self();
}

static inline void *zeroed(size_t bytes) {
    void *object = calloc(1, bytes);
    FIBER_ASSERT(object != NULL);
    return object;
}

static inline void maybe_yield(actor *a) {
    uint32_t n = below(a, 8);
    if (n < 3)
        stel_yield();
    else if (n == 3)
        went_well(a, stel_sleep((int64_t)below(a, 50) * 1000), 0);
}

static inline void join_in_pieces(actor *a, stel_fiber f, int *result) {
    for (int rc = -ETIMEDOUT; rc == -ETIMEDOUT;) {
        STEL_TIMEOUT((int64_t)below(a, 100000));
        rc = stel_join(f, result);
        FIBER_ASSERT(rc == 0 || (rc == -ETIMEDOUT && stel_timed_out()));
    }
}

static inline void try_join_until(actor *a, stel_fiber f, int *result) {
    for (int rc; (rc = stel_try_join(f, result)) != 0;) {
        FIBER_ASSERT_EQ(rc, -EAGAIN);
        maybe_yield(a);
    }
}

static inline int join_somehow(actor *a, stel_fiber f) {
    int result = INT32_MIN;
    switch (below(a, 4)) {
    case 0:
        join_in_pieces(a, f, &result);
        break;
    case 1:
        try_join_until(a, f, &result);
        break;
    default:
        FIBER_ASSERT_EQ(stel_join(f, &result), 0);
    }
    FIBER_ASSERT_EQ(stel_detach(f), -ESRCH);
    return result;
}

static inline stel_fiber spawn_somehow(actor *a, stel_fn *fn, void *arg) {
    stel_fiber f = 0;
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    uint32_t kind = below(a, 16);
    if (kind == 0) o.priority = (int)below(a, 8) - 4;
    if (kind == 1) o.place = STEL_WORKER((int)below(a, WORKERS));
    if (kind == 2) o.flags = STEL_NO_MIGRATE;
    if (kind == 3) o.flags = STEL_FP_ENVIRONMENT;
    if (kind < 4)
        FIBER_OK(stel_spawn_with(&f, &o, fn, arg));
    else
        FIBER_OK(stel_spawn(&f, fn, arg));
    FIBER_ASSERT(f != 0);
    return f;
}

#endif
