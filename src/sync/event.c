/* The event: a flag under a lock, and a queue of those who wait for it.
 *
 * set and reset always take the lock, also when the flag already has the value. So of a set and a reset at the same
 * time one comes first, and what the setter did before a set that came first is seen after the reset: the usual loop
 * "wait, reset, then look for work" loses nothing.
 *
 * A waiter that sees the flag without the lock returns without queueing; whoever set it may still hold the lock, so it
 * passes the lock first (queue.h says why). */
#include "sync/queue.h"

typedef struct event {
    stel__spin lock;
    _Atomic uint32_t set; /* changes under the lock, is read without */
    stel__list queue;     /* empty while set */
    uint64_t spare;
} __attribute__((may_alias)) event;

_Static_assert(sizeof(event) == 32 && sizeof(stel_event) == 32, "the size of an event is part of the ABI");
_Static_assert(_Alignof(event) <= _Alignof(stel_event), "the public struct is aligned well enough");

void stel_event_set(stel_event *object) {
    event *e = (event *)object;
    stel__spin_take(&e->lock);
    stel__store_release(&e->set, 1); /* pairs with the acquire in seen */
    stel__queue_wake_all(&e->lock, &e->queue);
}

void stel_event_reset(stel_event *object) {
    event *e = (event *)object;
    stel__spin_take(&e->lock);
    stel__store_relaxed(&e->set, 0); /* tells nobody anything but to wait */
    stel__spin_give(&e->lock);
}

/* Is it set, and is the call that set it done with the object? */
static bool seen(event *e) {
    if (stel__load_acquire(&e->set) == 0) return false; /* pairs with the release in stel_event_set */
    stel__spin_pass(&e->lock);
    return true;
}

bool stel_event_is_set(const stel_event *object) {
    return seen((event *)(uintptr_t)object); /* the lock is not part of the value */
}

int stel_event_wait(stel_event *object) {
    event *e = (event *)object;
    stel__waiter *w = stel__waiter_need("stel_event_wait");
    int rc = stel__wait_check(w);
    if (rc < 0) return rc;
    if (seen(e)) return 0;
    stel__spin_take(&e->lock);
    if (stel__load_relaxed(&e->set) != 0) { /* under the lock that it changes under */
        stel__spin_give(&e->lock);
        return 0;
    }
    stel__wait_begin(w, STEL__WAIT_EVENT);
    stel__queue_push(&e->queue, w, 0);
    stel__spin_give(&e->lock);
    return stel__queue_park(&e->lock, &e->queue, w);
}
