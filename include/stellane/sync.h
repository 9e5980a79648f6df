/* stellane/sync.h: locks and signals for fibers and plain threads, in any mixture.
 *
 * Every object is ready when zeroed (or STEL_..._INIT; a semaphore's and a barrier's number come from their init), needs
 * no destroying, and must not be copied or moved while in use. It may be freed as soon as nobody waits on it or holds it, even while the call that released it has not
 * returned: unlock, set and done touch nothing after the hand-over.
 *
 * Wrong use that is seen (unlocking somebody else's mutex, a waitgroup below zero) aborts with a message. */
#ifndef STELLANE_SYNC_H
#define STELLANE_SYNC_H

#include <stellane/fiber.h>

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
typedef struct stel_sem {
    uint64_t opaque[4];
} stel_sem;
typedef struct stel_rwlock {
    uint64_t opaque[8];
} stel_rwlock;
typedef struct stel_barrier {
    uint64_t opaque[8];
} stel_barrier;
typedef struct stel_once {
    uint64_t opaque[1];
} stel_once;

#define STEL__SYNC_INIT                                                                                                \
    {                                                                                                                  \
        { 0 }                                                                                                          \
    }
#define STEL_MUTEX_INIT     STEL__SYNC_INIT
#define STEL_COND_INIT      STEL__SYNC_INIT
#define STEL_EVENT_INIT     STEL__SYNC_INIT
#define STEL_WAITGROUP_INIT STEL__SYNC_INIT
#define STEL_RWLOCK_INIT    STEL__SYNC_INIT
#define STEL_ONCE_INIT      STEL__SYNC_INIT

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

/* Many readers or one writer. The lock calls wait until they have it; deadline and cancellation do not cut them short.
 * A writer that waits keeps later readers out, and the readers that waited for a writer all get in before the next one:
 * neither side starves. Not recursive: a reader that locks again can wait for a writer that waits for it. A writer that
 * locks again aborts with a message, and so does an unlock without a lock of the kind.
 * The try forms: 0, or -EBUSY where the caller would have to wait; they never wait. */
STEL_API void stel_rwlock_read_lock(stel_rwlock *l);
STEL_API void stel_rwlock_read_unlock(stel_rwlock *l);
STEL_API void stel_rwlock_write_lock(stel_rwlock *l);
STEL_API void stel_rwlock_write_unlock(stel_rwlock *l);
STEL_API STEL_MUST_CHECK int stel_rwlock_try_read_lock(stel_rwlock *l);
STEL_API STEL_MUST_CHECK int stel_rwlock_try_write_lock(stel_rwlock *l);

/* A number of permits, n at first (a zeroed semaphore has none). acquire takes one, and waits in order of arrival while
 * there is none; release gives one back, whoever took it. try_acquire: -EAGAIN when there is none. More than 2^31 - 1
 * permits abort with a message. init must come before any other use.
 * Errors: init: -EINVAL (s NULL, n too large); acquire: -ETIMEDOUT, -ECANCELED (no permit was taken). Only acquire waits.
 */
STEL_API int stel_sem_init(stel_sem *s, unsigned n);
STEL_API STEL_MUST_CHECK int stel_sem_acquire(stel_sem *s);
STEL_API STEL_MUST_CHECK int stel_sem_try_acquire(stel_sem *s);
STEL_API void stel_sem_release(stel_sem *s);

/* A meeting of n: wait returns when the n-th has come, 1 for one of them and 0 for the others, and the barrier is ready
 * for the next n. A wait that is cut short withdraws its arrival. init must come before any other use; waiting on a
 * barrier without a number aborts with a message.
 * Errors: init: -EINVAL (b NULL, n 0 or too large); wait: -ETIMEDOUT, -ECANCELED. */
STEL_API int stel_barrier_init(stel_barrier *b, unsigned n);
STEL_API STEL_MUST_CHECK int stel_barrier_wait(stel_barrier *b);

/* Run fn(arg) once, whoever comes first; who comes meanwhile waits until it has returned. 0 from then on. A negative
 * result is returned to the caller that ran it, nothing is remembered, and the next caller (of those that wait, or a
 * later one) tries again. An fn that leaves by stel_exit counts as a failed one; no C++ exception and no pthread_exit
 * may leave it.
 * Errors: fn's; -EINVAL (fn NULL); -EDEADLK (from within fn); -ETIMEDOUT, -ECANCELED (while somebody else ran it);
 * -ENOMEM (in a fiber: fn was not run). */
STEL_API STEL_MUST_CHECK int stel_once_call(stel_once *o, stel_fn *fn, void *arg);

STEL_END_DECLS
#endif
