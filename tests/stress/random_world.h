/* What test_stress.c plays with: the shared objects, the sums that must come out right, and chance. */
#ifndef RANDOM_WORLD_H
#define RANDOM_WORLD_H

#include "check_fiber.h"

#include <errno.h>
#include <stdatomic.h>

enum { SLOTS = 6, LOCKS = 4, SELECT_MOST = 4 };

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

typedef struct world {
    slot slots[SLOTS];
    guarded locks[LOCKS];
    stel_chan *sink;         /* its consumers live until the end, so a send needs no time limit */
    stel_waitgroup detached; /* fibers nobody joins */
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

#endif
