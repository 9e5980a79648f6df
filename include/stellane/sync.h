/* stellane/sync.h: locks and signals for fibers and plain threads, in any mixture.
 *
 * Every object is ready when zeroed (or STEL_..._INIT), needs no destroying, and must not be copied or moved while in
 * use. It may be freed as soon as nobody waits on it or holds it, even while the call that released it has not
 * returned: unlock, set and done touch nothing after the hand-over.
 *
 * Wrong use that is seen (unlocking somebody else's mutex, a waitgroup below zero) aborts with a message. */
#ifndef STELLANE_SYNC_H
#define STELLANE_SYNC_H

#include <stellane/base.h>

STEL_BEGIN_DECLS

typedef struct stel_mutex {
    uint64_t opaque[4];
} stel_mutex;
typedef struct stel_cond {
    uint64_t opaque[4];
} stel_cond;
typedef struct stel_event {
    uint64_t opaque[4];
} stel_event;
typedef struct stel_waitgroup {
    uint64_t opaque[4];
} stel_waitgroup;

#define STEL_MUTEX_INIT                                                                                                \
    {                                                                                                                  \
        { 0 }                                                                                                          \
    }
#define STEL_COND_INIT                                                                                                 \
    {                                                                                                                  \
        { 0 }                                                                                                          \
    }
#define STEL_EVENT_INIT                                                                                                \
    {                                                                                                                  \
        { 0 }                                                                                                          \
    }
#define STEL_WAITGROUP_INIT                                                                                            \
    {                                                                                                                  \
        { 0 }                                                                                                          \
    }

/* Mutual exclusion. lock waits until the caller holds m; deadline and cancellation do not cut it short. It is not
 * recursive: locking what one holds aborts with a message, and so does unlocking what one does not hold. Waiters get
 * the mutex in order of arrival, but a running caller may overtake them for a short while.
 * try_lock: 0, or -EBUSY when somebody holds it; never waits. */
STEL_API void stel_mutex_lock(stel_mutex *m);
STEL_API STEL_MUST_CHECK int stel_mutex_try_lock(stel_mutex *m);
STEL_API void stel_mutex_unlock(stel_mutex *m);

/* Condition variable. wait gives m back, waits for a signal and takes m again before it returns, whatever it returns.
 * It may return 0 without a signal: check the condition in a loop. Everybody who waits on c must use the same m.
 * signal wakes the waiter that has waited longest, broadcast all; both may be called with or without m held, and a
 * signal that was given to a waiter which is cut short goes on to the next.
 * Errors of wait: -ETIMEDOUT, -ECANCELED (m is held again). Aborts when the caller does not hold m. */
STEL_API STEL_MUST_CHECK int stel_cond_wait(stel_cond *c, stel_mutex *m);
STEL_API void stel_cond_signal(stel_cond *c);
STEL_API void stel_cond_broadcast(stel_cond *c);

/* A flag to wait for. set wakes all who wait and lets later waits through; reset closes it again.
 * Errors of wait: -ETIMEDOUT, -ECANCELED. Only wait waits. */
STEL_API void stel_event_set(stel_event *e);
STEL_API void stel_event_reset(stel_event *e);
STEL_API bool stel_event_is_set(const stel_event *e);
STEL_API STEL_MUST_CHECK int stel_event_wait(stel_event *e);

/* A count to wait for. add raises it (n may be negative), done lowers it by one, wait returns when it is 0. Raise it
 * before the work is started, not from inside. A count below 0 or above 2^31 - 1 aborts with a message.
 * Errors of wait: -ETIMEDOUT, -ECANCELED. Only wait waits. */
STEL_API void stel_waitgroup_add(stel_waitgroup *w, int n);
STEL_API void stel_waitgroup_done(stel_waitgroup *w);
STEL_API STEL_MUST_CHECK int stel_waitgroup_wait(stel_waitgroup *w);

STEL_END_DECLS
#endif
