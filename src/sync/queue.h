/* Queues of waiters: what the objects of this room share. Private to sync.
 *
 * An object is a lock, a list of nodes and some state. A waiter is chosen by taking its node off the list under the
 * lock; STEL__NODE_QUEUED says under the lock whether a node is still on it. A chosen waiter has succeeded, also when
 * its time ran out before the wake reached it: it takes the lock, finds its node gone, and reports success.
 *
 * Who may free the object, and when. A wait that returned 0 may be followed by free(object), while the call that ended
 * the wait is still on its way out. So a waker's last touch comes before any waiter that it chose can return:
 *   - it takes the tickets under the lock, gives the lock back, and wakes by ticket. One of many tickets is enough: who
 *     wakes more waiters than it can keep tickets for wakes the others under the lock. Until a ticket's waiter has been
 *     woken it has not returned (a chosen one whose time runs out takes the lock, to see that it was chosen), so it still
 *     uses the object, and nobody may free that;
 *   - a caller that need not wait because it sees the state it wants, without the lock, waits until the lock is free:
 *     the state is published by a holder of the lock, who may not have given it back yet (stel__spin_pass). */
#ifndef STEL_SYNC_QUEUE_H
#define STEL_SYNC_QUEUE_H

#include "sync/spin.h"
#include "sync/sync.h"

/* A node's flags. Under the lock of the queue it is on; once it is off, its waiter's alone. */
enum stel__node_flags {
    STEL__NODE_QUEUED = 1u << 0,  /* on a list */
    STEL__NODE_HANDOFF = 1u << 1, /* mutex: woken once in vain, now it is handed over */
    STEL__NODE_SELECT = 1u << 2,  /* channel: one of many nodes of a selector, see select.c */
    STEL__NODE_CLOSED = 1u << 3   /* channel: chosen because the channel was closed */
};

/* What plain waiters learn from their waker. A selector learns the index of its case instead. */
enum stel__woken { STEL__WOKEN = 0, STEL__WOKEN_HANDED = 1 /* mutex: it is yours */ };

static inline stel__node *stel__node_of(stel__link *link) {
    return STEL__CONTAINER(link, stel__node, link);
}

/* Under the lock, after stel__wait_begin: put the waiter's own node on the queue. */
static inline void stel__queue_push(stel__list *queue, stel__waiter *w, unsigned flags) {
    w->node.waiter = w->index;
    w->node.flags = (uint16_t)(STEL__NODE_QUEUED | flags);
    stel__list_push_tail(queue, &w->node.link);
}

/* Under the lock: the first node, off the queue; NULL when there is none. */
static inline stel__node *stel__queue_pop(stel__list *queue) {
    stel__link *link = stel__list_pop_head(queue);
    if (!link) return NULL;
    stel__node *n = stel__node_of(link);
    STEL__CHECK(n->flags & STEL__NODE_QUEUED);
    n->flags &= (uint16_t)~STEL__NODE_QUEUED;
    return n;
}

/* Under the lock: take the node off if it is still queued. */
static inline bool stel__queue_remove(stel__list *queue, stel__node *n) {
    if (!(n->flags & STEL__NODE_QUEUED)) return false;
    n->flags &= (uint16_t)~STEL__NODE_QUEUED;
    stel__list_remove(queue, &n->link);
    return true;
}

/* Sleep until chosen; the node is queued, the lock is not held. 0: chosen; else -ETIMEDOUT or -ECANCELED, and the node
 * is off the queue. */
int stel__queue_park(stel__spin *lock, stel__list *queue, stel__waiter *w);

/* With the lock held: choose everybody, give the lock back, wake them in their order. */
void stel__queue_wake_all(stel__spin *lock, stel__list *queue);

/* The caller's waiter. A plain thread for which there is no memory: dies in the name of call, for calls that cannot
 * fail otherwise. */
STEL_NORETURN STEL__COLD void stel__waiter_missing(const char *call);
static inline stel__waiter *stel__waiter_need(const char *call) {
    stel__waiter *w = stel__waiter_self();
    if (STEL__UNLIKELY(!w)) stel__waiter_missing(call);
    return w;
}

/* Wrong use: abort with "call(object): fiber ... name: text". */
STEL_NORETURN STEL__COLD void stel__misuse(const char *call, const void *object, const char *text);

#endif
