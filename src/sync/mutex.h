/* What stands behind a stel_mutex. Private to sync: mutex.c has the essay, cond.c asks who holds one. */
#ifndef STEL_SYNC_MUTEX_H
#define STEL_SYNC_MUTEX_H

#include "sync/queue.h"

enum stel__mutex_bits {
    STEL__MUTEX_LOCKED = 1u << 0,
    STEL__MUTEX_WAITERS = 1u << 1, /* the queue is not empty; changes under the queue lock only */
    STEL__MUTEX_WOKEN = 1u << 2,   /* a waiter was taken off the queue and is on its way to try again */
    STEL__MUTEX_FLAGS = 7u,
    STEL__MUTEX_OWNER_SHIFT = 7 /* while LOCKED: the index of the waiter that holds it */
};

typedef struct stel__mutex {
    _Atomic uint32_t word;
    stel__spin lock; /* protects the queue */
    stel__list queue;
    /* Hints, relaxed, changed by whoever is about to wait: see spin() in mutex.c. */
    _Atomic uint32_t spin_skip;   /* so many contended calls will not spin */
    _Atomic uint32_t spin_failed; /* spins that failed in a row */
} __attribute__((may_alias)) stel__mutex;

_Static_assert(sizeof(stel__mutex) == 32 && sizeof(stel_mutex) == 32, "the size of a mutex is part of the ABI");
_Static_assert(_Alignof(stel__mutex) <= _Alignof(stel_mutex), "the public struct is aligned well enough");

/* The word of a mutex that this waiter holds and nobody waits for. An index has 25 bits. */
static inline uint32_t stel__mutex_held_word(const stel__waiter *w) {
    return w->index << STEL__MUTEX_OWNER_SHIFT | STEL__MUTEX_LOCKED;
}

/* Does the waiter, which is the caller's own, hold m? Relaxed: the answer can only change by the caller's own doing. */
static inline bool stel__mutex_held(const stel_mutex *m, const stel__waiter *w) {
    uint32_t s = stel__load_relaxed(&((const stel__mutex *)m)->word);
    return (s & ~(uint32_t)(STEL__MUTEX_WAITERS | STEL__MUTEX_WOKEN)) == stel__mutex_held_word(w);
}

#endif
