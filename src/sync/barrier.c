/* The barrier: how many have come, and a queue of them. The one that makes it n takes everybody off the queue, under
 * the lock; that is the meeting, and it makes the barrier ready for the next one at the same moment. So there is no
 * number of the generation: who is queued belongs to the meeting to come, who is not has had its own. A wait that is
 * cut short takes itself off, and with it its arrival; if it is off by then the meeting has taken place.
 *
 * All of it under the lock: those who come wait anyway, but for one. */
#include "sync/queue.h"
#include <limits.h>

typedef struct barrier {
    stel__spin lock;
    uint32_t needed;  /* for a meeting; fixed by init */
    uint32_t arrived; /* for the next one: the length of the queue; under the lock */
    uint32_t spare;
    stel__list queue;
    uint64_t more_spare[4];
} __attribute__((may_alias)) barrier;

_Static_assert(sizeof(barrier) == 64 && sizeof(stel_barrier) == 64, "the size of a barrier is part of the ABI");
_Static_assert(_Alignof(barrier) <= _Alignof(stel_barrier), "the public struct is aligned well enough");

int stel_barrier_init(stel_barrier *object, unsigned n) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!object || n == 0 || n > INT_MAX) return -EINVAL;
    *(barrier *)object = (barrier){ .needed = n };
    return 0;
}

int stel_barrier_wait(stel_barrier *object) {
    barrier *b = (barrier *)object;
    if (STEL__UNLIKELY(b->needed == 0)) stel__misuse("stel_barrier_wait", b, "the barrier was not initialised");
    stel__waiter *w = stel__waiter_need("stel_barrier_wait");
    int rc = stel__wait_check(w);
    if (rc < 0) return rc;
    stel__spin_take(&b->lock);
    if (b->arrived + 1 == b->needed) {
        b->arrived = 0;
        stel__queue_wake_all(&b->lock, &b->queue);
        return 1;
    }
    b->arrived++;
    stel__wait_begin(w, STEL__WAIT_BARRIER);
    stel__queue_push(&b->queue, w, 0);
    stel__spin_give(&b->lock);
    rc = stel__wait_park(w, 0);
    if (STEL__LIKELY(rc >= 0)) return 0;
    stel__spin_take(&b->lock);
    bool was_queued = stel__queue_remove(&b->queue, &w->node);
    b->arrived -= was_queued;
    stel__spin_give(&b->lock);
    return was_queued ? rc : 0;
}
