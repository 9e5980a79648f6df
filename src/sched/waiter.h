/* The waiter: what can wait, a fiber or a plain thread, and the only way to sleep and to be woken.
 *
 * A waiter's word says which of its waits is on (sequence), where that wait stands (state), and in the end who won it
 * (which). It is the one thing that events, timers and cancellations compete for, each by one compare-and-swap that
 * names the sequence: the losers do nothing, and a late waker that still holds an old sequence is harmless, because
 * waiters live in type-stable memory. How to wait, for any object with a queue:
 *
 *     stel__waiter *w = stel__waiter_self();
 *     if ((rc = stel__wait_check(w)) < 0) return rc;             deadline and cancellation first
 *     take the object's lock; if there is nothing to wait for: give it back, return
 *     stel__wait_begin(w, reason);                               IDLE -> PREPARED
 *     put w->node (or nodes of one's own) on the object's queue; give the lock back
 *     rc = stel__wait_park(w, 0);                                sleeps; >= 0: the waker's `which`
 *     if (rc < 0) take the lock: if the node is off the queue by now, somebody chose us after all: the wait succeeded
 * (*) else unlink the node
 *
 * (*) A waker chooses a waiter by taking its node off the queue under the object's lock, then wakes it by ticket. If
 * time ran out in between, that wake fails and nobody minds: what counts is the queue. A selector, which is on many
 * queues, is chosen by the swap on its word instead: see stel__wake. The essay and the edge table are in waiter.c. */
#ifndef STEL_SCHED_WAITER_H
#define STEL_SCHED_WAITER_H

#include "base/base.h"
#include "host/host.h"

/* Why a waiter sleeps: one per call site, shown by tools and in shutdown reports (stel__reason_name). */
enum stel__reason {
    STEL__WAIT_NONE,
    STEL__WAIT_SLEEP,
    STEL__WAIT_PARK,
    STEL__WAIT_JOIN,
    STEL__WAIT_MUTEX,
    STEL__WAIT_COND,
    STEL__WAIT_EVENT,
    STEL__WAIT_WAITGROUP,
    STEL__WAIT_CHAN_SEND,
    STEL__WAIT_CHAN_RECV,
    STEL__WAIT_SELECT,
    STEL__WAIT_FD_IN,
    STEL__WAIT_FD_OUT,
    STEL__WAIT_FD_ANY,
    STEL__WAIT_OFFLOAD,
    STEL__WAIT_RUNTIME,
    STEL__WAIT_SCOPE,
    STEL__WAIT_READ_LOCK,
    STEL__WAIT_WRITE_LOCK,
    STEL__WAIT_SEM,
    STEL__WAIT_BARRIER,
    STEL__WAIT_ONCE,
    STEL__WAIT_POLL,
    STEL__WAIT_SIGNAL,
    STEL__WAIT_CHILD,
    STEL__WAIT_FILE,
    STEL__WAIT_REASONS
};
const char *stel__reason_name(int reason);

typedef struct stel__waiter stel__waiter;

/* One place in one queue. Protected by the lock of the object whose queue it is on. */
typedef struct stel__node {
    stel__link link;
    void *element;   /* the object's own use: where to copy from or to */
    uint32_t waiter; /* index of the waiter: stel__waiter_at */
    uint16_t which;  /* what the waiter learns when it is woken through this node */
    uint16_t flags;  /* the object's own use: on the queue, select, ... */
} stel__node;

/* One wait of one waiter: sequence (39 bits) << 25 | index. Never 0. */
typedef uint64_t stel__ticket;

struct stel__waiter {
    _Atomic uint64_t word;
    _Atomic int64_t deadline;     /* written by the owner; STEL_FOREVER: none */
    _Atomic int64_t shield_until; /* written by the owner; INT64_MIN: no shield */
    uint32_t index;
    _Atomic uint8_t reason;     /* enum stel__reason; owner writes, reports read */
    uint8_t timed_out;          /* the latest -ETIMEDOUT was our own deadline */
    uint8_t streak;             /* calls in a row that did not have to wait: see stel__wait_spend */
    _Atomic uint8_t owner_bits; /* a fiber's flags and priority: see fiber.h */
    stel__node node;
};

/* The caller's waiter: its fiber's or its thread's. NULL only for a plain thread when there is no memory for one. Call
 * it afresh after anything that may switch only if you no longer hold the pointer: a fiber's waiter never changes. */
stel__waiter *stel__waiter_self(void);
stel__waiter *stel__waiter_at(uint32_t index);
void stel__waiter_expect(uint32_t index); /* it will be woken soon: have its block brought into the cache */
static inline bool stel__waiter_is_thread(const stel__waiter *w) {
    return (w->index & (UINT32_C(1) << 24)) != 0;
}
/* Who the waiter is, for owners of locks and for messages: a fiber's handle, or for a thread a number with bit 63 set.
 * Never 0. */
uint64_t stel__waiter_identity(const stel__waiter *w);

/* 0, -ECANCELED or -ETIMEDOUT: the first thing that every waiting call asks. A call that fails here counts as a yield
 * (it does yield, now and then), so that a careless loop cannot starve its worker. */
int stel__wait_check(stel__waiter *w);
/* How a waiting call begins: stel__waiter_self, and stel__wait_check in one. NULL: *error is -ENOMEM, -EPERM in the child of a
 * fork, or what the check said. */
stel__waiter *stel__wait_enter(int *error);
/* Count a call that did not have to wait; every io_budget of them the caller yields (a fiber that always finds data
 * must not keep the others from theirs). Cheap. Call it where no lock is held. */
void stel__wait_spend(stel__waiter *w);

/* IDLE -> PREPARED: from here on the waiter may be woken. Returns the ticket of this wait. */
stel__ticket stel__wait_begin(stel__waiter *w, enum stel__reason reason);
enum { STEL__PARK_UNINTERRUPTIBLE = 1 }; /* neither deadline nor cancellation end it */
/* Sleep until woken. The waker's which (>= 0), -ETIMEDOUT, or -ECANCELED. The waiter is IDLE again. */
int stel__wait_park(stel__waiter *w, unsigned flags);
/* The same, also ending at `until` (-ETIMEDOUT; the caller tells the two apart by the clock): for sleep. */
int stel__wait_park_until(stel__waiter *w, unsigned flags, int64_t until);
/* Not going to sleep after all: PREPARED -> IDLE. Returns the which of a waker that came first, or -1. */
int stel__wait_drop(stel__waiter *w);

/* The ticket of the wait a queued node belongs to. Under the lock of the node's queue only. */
stel__ticket stel__node_ticket(const stel__node *n);
/* Wake that wait. true: this call won it. From any thread; takes no lock of any object, so it may be called under one.
 * The waiter may run, return and free the object at once. */
bool stel__wake(stel__ticket t, uint16_t which);

/* For plain threads: make the thread's wakes arrive on this eventfd instead of its futex (-1: futex again); used by the
 * wait on a descriptor, which sleeps in ppoll. Between wait_begin and the first chance to be woken. */
void stel__waiter_thread_eventfd(stel__waiter *w, int fd);
/* For plain threads that slept elsewhere: end the wait with code (< 0) unless somebody has woken it: the result as of
 * stel__wait_park. */
int stel__waiter_thread_finish(stel__waiter *w, int code);

#endif
