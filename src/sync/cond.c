/* The condition variable: a queue of waiters, each of which gives the mutex back while it is on it.
 *
 *   waiter                                   signaller
 *   holds the mutex, finds nothing           changes the state under the mutex
 *   goes on the queue            (1)
 *   gives the mutex back                     sees nobody waiting (3), or takes the first off the queue (4)
 *   sleeps                       (2)
 *
 * No signal is lost between (1) and (2): the waiter is PREPARED before it is visible, and a wake that comes before it
 * sleeps is kept (waiter.h). Nor at (3), where the queue is not locked: a waiter that looked at the state before it
 * was changed went on the queue under the same mutex, before the signaller took it.
 *
 * A signal to a waiter that is cut short at the same moment: (4) decides. If the waiter still finds itself queued it
 * leaves, and a later signal goes to the next; if it does not, the signal was for it and it returns 0.
 *
 * Tried and dropped: moving the waiters of a broadcast to the mutex's queue instead of waking them (the requeue of
 * FUTEX_CMP_REQUEUE). A moved waiter can time out while it stands in a queue that it cannot leave, because the mutex
 * is taken without a time limit; it would need a second wait on the same node. A waiter that wakes in vain costs one
 * switch, and the mutex's WOKEN rule keeps it to one. */
#include "sync/mutex.h"

typedef struct cond {
    stel__spin lock;
    _Atomic uint32_t waiters; /* nodes on the queue; changes under the lock */
    stel__list queue;
    stel_mutex *mutex; /* of the waiters, while there are any; under the lock */
} __attribute__((may_alias)) cond;

_Static_assert(sizeof(cond) == 32 && sizeof(stel_cond) == 32, "the size of a condition variable is part of the ABI");
_Static_assert(_Alignof(cond) <= _Alignof(stel_cond), "the public struct is aligned well enough");

/* Under the lock. */
static void count(cond *c, uint32_t n) {
    stel__store_relaxed(&c->waiters, n);
    if (n == 0) c->mutex = NULL;
}

int stel_cond_wait(stel_cond *object, stel_mutex *m) {
    cond *c = (cond *)object;
    stel__waiter *w = stel__waiter_need("stel_cond_wait");
    if (STEL__UNLIKELY(!stel__mutex_held(m, w)))
        stel__misuse("stel_cond_wait", m, "the caller does not hold this mutex");
    int rc = stel__wait_check(w);
    if (rc < 0) return rc;
    stel__spin_take(&c->lock);
    if (STEL__UNLIKELY(c->mutex != NULL && c->mutex != m))
        stel__misuse("stel_cond_wait", object, "others wait on it with another mutex");
    c->mutex = m;
    stel__wait_begin(w, STEL__WAIT_COND);
    stel__queue_push(&c->queue, w, 0);
    count(c, stel__load_relaxed(&c->waiters) + 1);
    stel__spin_give(&c->lock);
    stel_mutex_unlock(m);

    rc = stel__wait_park(w, 0);
    if (rc < 0) {
        stel__spin_take(&c->lock);
        if (stel__queue_remove(&c->queue, &w->node))
            count(c, stel__load_relaxed(&c->waiters) - 1);
        else
            rc = 0;
        stel__spin_give(&c->lock);
    }
    stel_mutex_lock(m);
    return rc < 0 ? rc : 0;
}

void stel_cond_signal(stel_cond *object) {
    cond *c = (cond *)object;
    /* Relaxed: see (3) above; the mutex orders it where order matters. */
    if (stel__load_relaxed(&c->waiters) == 0) return;
    stel__spin_take(&c->lock);
    stel__node *n = stel__queue_pop(&c->queue);
    stel__ticket ticket = 0;
    if (n) {
        ticket = stel__node_ticket(n);
        count(c, stel__load_relaxed(&c->waiters) - 1);
    }
    stel__spin_give(&c->lock);
    /* If this fails the waiter's time ran out after it was chosen: it takes the signal all the same. */
    if (n) stel__wake(ticket, STEL__WOKEN);
}

void stel_cond_broadcast(stel_cond *object) {
    cond *c = (cond *)object;
    if (stel__load_relaxed(&c->waiters) == 0) return; /* as in signal */
    stel__spin_take(&c->lock);
    count(c, 0);
    stel__queue_wake_all(&c->lock, &c->queue);
}
