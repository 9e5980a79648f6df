/* Channels, with Go's meaning: a ring of elements, a queue of senders and a queue of receivers, under one lock.
 * The algorithm is that of Go's runtime (runtime/chan.go, after "Go channels on steroids", D. Vyukov, 2014, in its
 * simple form with a lock); the waiting is ours.
 *
 * What a channel can be, looked at under its lock (a selector's node is live until the selector has been woken):
 *
 *   state      ring        senders        receivers      a send                       a receive
 *   empty      0           none live      none live      joins ring, or waits if      waits
 *                                                        capacity is 0
 *   starved    0           none live      some           is copied to the first       waits
 *                                                        receiver, past the ring
 *   partial    1 ...       none live      none live      joins the ring               takes the oldest
 *              capacity-1
 *   full       capacity    none live      none live      waits                        takes the oldest
 *   crowded    capacity    some           none live      waits                        takes the oldest; the first
 *                                                                                     sender's joins the ring
 *   crowded, capacity 0    some           none live      waits                        is copied from the first sender
 *   closed     0 ...       none           none           -EPIPE                       takes the oldest, then -EPIPE
 *              capacity
 *
 * Close takes everybody off both queues; they return -EPIPE. (A receiver waits only while the ring is empty, so there
 * is nothing left for it to drain.)
 *
 * One waiter's place on a queue, its node:
 *
 *   QUEUED            on the list                        -> off by whoever pairs with it or closes, under the lock,
 *                                                           or by its waiter, cut short, under the lock
 *   off, plain        chosen; its element has been copied, or CLOSED is set. Then, the lock given back, its waiter is
 *                     woken by ticket. If the waiter's time ran out before, it takes the lock to see whether it is
 *                     still queued, sees that it is not, and reports the outcome as if it had been woken.
 *   QUEUED, SELECT    on the list, may have lost already -> off by whoever wakes the selector through this node: that
 *                                                           swap is the choice. If it fails the selector has another
 *                                                           outcome: the node is dropped, nothing was copied
 *
 * So an element is copied only after its receiver cannot fail any more, and no element is lost.
 *
 * The selector is woken under the lock before its element is copied. It cannot read it too early, or leave: it takes
 * the lock of each of its channels before it returns. Elements are copied under the lock straight from and to memory of
 * the waiting caller, which for the same reason is still there.
 *
 * Life. Whoever calls holds a reference, so the object outlives each call, and there are no last touches to argue. */
#include "sync/chan.h"

enum { ELEMENT_BYTES_MAX = 65536, WAKE_BATCH = 32 };

int stel_chan_create(stel_chan **out, size_t element_bytes, size_t capacity) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    size_t bytes;
    if (!out || element_bytes > ELEMENT_BYTES_MAX) return -EINVAL;
    if (__builtin_mul_overflow(element_bytes, capacity, &bytes)) return -EINVAL;
    if (__builtin_add_overflow(bytes, sizeof(stel_chan), &bytes)) return -EINVAL;
    stel_chan *c = stel__alloc(bytes);
    if (!c) return -ENOMEM;
    c->element_bytes = element_bytes;
    c->capacity = capacity;
    stel__store_relaxed(&c->references, 1); /* nobody else has it yet */
    *out = c;
    return 0;
}

stel_chan *stel_chan_retain(stel_chan *c) {
    if (c) stel__add_relaxed(&c->references, 1); /* the caller has one already: nothing to order */
    return c;
}

void stel_chan_destroy(stel_chan *c) {
    if (!c) return;
    /* release: what this user did comes before the free; acquire: and all of it is seen by the one who frees */
    size_t before = stel__sub_acq_rel(&c->references, 1);
    if (STEL__UNLIKELY(before == 0)) stel__misuse("stel_chan_destroy", c, "it was destroyed already");
    if (before > 1) return;
    if (STEL__UNLIKELY(c->senders.head || c->receivers.head))
        stel__misuse("stel_chan_destroy", c, "the last reference is given back while somebody waits on it");
    stel__free(c);
}

/* ---- under the lock ---- */

/* Take the first waiter that can still be chosen off the queue. A selector has been woken by that; a plain waiter is to
 * be woken by *wake. NULL: there is none. */
static inline stel__node *claim(stel__list *queue, stel__ticket *wake) {
    stel__node *n;
    while ((n = stel__queue_pop(queue)) != NULL) {
        stel__ticket ticket = stel__node_ticket(n);
        if (STEL__LIKELY(!(n->flags & STEL__NODE_SELECT))) {
            *wake = ticket;
            return n;
        }
        if (stel__wake(ticket, n->which)) return n;
    }
    return NULL;
}

static inline void copy(const stel_chan *c, void *to, const void *from) {
    if (STEL__LIKELY(c->element_bytes == 8))
        memcpy(to, from, 8);
    else if (c->element_bytes != 0)
        memcpy(to, from, c->element_bytes);
}

/* The place in the ring `after` places behind the oldest element; after < capacity. */
static inline void *slot(stel_chan *c, size_t after) {
    size_t i = c->first + after;
    if (i >= c->capacity) i -= c->capacity;
    return c->ring + i * c->element_bytes;
}

static inline int put(stel_chan *c, const void *element, stel__ticket *wake) {
    if (STEL__UNLIKELY(c->closed)) return -EPIPE;
    stel__node *n = c->receivers.head ? claim(&c->receivers, wake) : NULL;
    if (n) {
        copy(c, n->element, element);
        return 0;
    }
    size_t length = stel__load_relaxed(&c->length);
    if (length == c->capacity) return -EAGAIN;
    copy(c, slot(c, length), element);
    stel__store_relaxed(&c->length, length + 1);
    return 0;
}

static inline int take(stel_chan *c, void *element, stel__ticket *wake) {
    size_t length = stel__load_relaxed(&c->length);
    stel__node *n;
    if (length == 0) {
        n = c->senders.head ? claim(&c->senders, wake) : NULL;
        if (!n) return c->closed ? -EPIPE : -EAGAIN;
        STEL__CHECK(c->capacity == 0);
        copy(c, element, n->element);
        return 0;
    }
    copy(c, element, slot(c, 0));
    c->first = c->first + 1 == c->capacity ? 0 : c->first + 1;
    n = c->senders.head ? claim(&c->senders, wake) : NULL;
    if (n) /* the ring was full, and is again */
        copy(c, slot(c, length - 1), n->element);
    else
        stel__store_relaxed(&c->length, length - 1);
    return 0;
}

int stel__chan_put(stel_chan *c, const void *element, stel__ticket *wake) {
    return put(c, element, wake);
}

int stel__chan_take(stel_chan *c, void *element, stel__ticket *wake) {
    return take(c, element, wake);
}

/* ---- the calls ---- */

/* Go's nil channel: nobody ever comes. */
static STEL__COLD int wait_in_vain(stel__waiter *w, enum stel__reason reason) {
    stel__wait_begin(w, reason);
    int rc = stel__wait_park(w, 0);
    STEL__ASSERT(rc < 0);
    return rc;
}

/* With the lock held: queue, give the lock back, sleep; the outcome. */
static int wait_on(stel_chan *c, stel__list *queue, stel__waiter *w, void *element, enum stel__reason reason) {
    stel__wait_begin(w, reason);
    w->node.element = element;
    stel__queue_push(queue, w, 0);
    stel__spin_give(&c->lock);
    int rc = stel__wait_park(w, 0);
    if (STEL__UNLIKELY(rc < 0)) {
        stel__spin_take(&c->lock);
        bool was_queued = stel__queue_remove(queue, &w->node);
        stel__spin_give(&c->lock);
        if (was_queued) return rc;
    }
    return STEL__UNLIKELY(w->node.flags & STEL__NODE_CLOSED) ? -EPIPE : 0;
}

int stel_chan_send(stel_chan *c, const void *element) {
    if (STEL__UNLIKELY(c && !element && c->element_bytes != 0)) return -EINVAL;
    stel__waiter *w = stel__waiter_need("stel_chan_send");
    int rc = stel__wait_check(w);
    if (STEL__UNLIKELY(rc < 0)) return rc;
    if (STEL__UNLIKELY(!c)) return wait_in_vain(w, STEL__WAIT_CHAN_SEND);
    stel__ticket wake = 0;
    stel__spin_take(&c->lock);
    rc = put(c, element, &wake);
    if (rc == -EAGAIN) return wait_on(c, &c->senders, w, (void *)(uintptr_t)element, STEL__WAIT_CHAN_SEND);
    stel__spin_give(&c->lock);
    if (wake) stel__wake(wake, STEL__WOKEN);
    stel__wait_spend(w);
    return rc;
}

int stel_chan_recv(stel_chan *c, void *element) {
    if (STEL__UNLIKELY(c && !element && c->element_bytes != 0)) return -EINVAL;
    stel__waiter *w = stel__waiter_need("stel_chan_recv");
    int rc = stel__wait_check(w);
    if (STEL__UNLIKELY(rc < 0)) return rc;
    if (STEL__UNLIKELY(!c)) return wait_in_vain(w, STEL__WAIT_CHAN_RECV);
    stel__ticket wake = 0;
    stel__spin_take(&c->lock);
    rc = take(c, element, &wake);
    if (rc == -EAGAIN) return wait_on(c, &c->receivers, w, element, STEL__WAIT_CHAN_RECV);
    stel__spin_give(&c->lock);
    if (wake) stel__wake(wake, STEL__WOKEN);
    stel__wait_spend(w);
    return rc;
}

int stel_chan_try_send(stel_chan *c, const void *element) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!c || (!element && c->element_bytes != 0)) return -EINVAL;
    stel__ticket wake = 0;
    stel__spin_take(&c->lock);
    int rc = put(c, element, &wake);
    stel__spin_give(&c->lock);
    if (wake) stel__wake(wake, STEL__WOKEN);
    return rc;
}

int stel_chan_try_recv(stel_chan *c, void *element) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!c || (!element && c->element_bytes != 0)) return -EINVAL;
    stel__ticket wake = 0;
    stel__spin_take(&c->lock);
    int rc = take(c, element, &wake);
    stel__spin_give(&c->lock);
    if (wake) stel__wake(wake, STEL__WOKEN);
    return rc;
}

/* Under the lock: one more waiter chosen because of the close. false: there is none left. */
static bool close_one(stel_chan *c, stel__ticket *wake) {
    *wake = 0;
    stel__node *n = claim(&c->receivers, wake);
    if (!n) n = claim(&c->senders, wake);
    if (!n) return false;
    n->flags |= STEL__NODE_CLOSED;
    return true;
}

int stel_chan_close(stel_chan *c) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!c) return -EINVAL;
    stel__spin_take(&c->lock);
    if (c->closed) {
        stel__spin_give(&c->lock);
        return -EPIPE;
    }
    c->closed = 1;
    /* In batches: nobody queues any more, and the caller's reference keeps the channel. */
    for (bool more = true; more;) {
        stel__ticket tickets[WAKE_BATCH];
        size_t n = 0;
        while (n < WAKE_BATCH && (more = close_one(c, &tickets[n])))
            if (tickets[n]) n++;
        stel__spin_give(&c->lock);
        for (size_t i = 0; i < n; i++)
            stel__wake(tickets[i], STEL__WOKEN);
        if (more) stel__spin_take(&c->lock);
    }
    return 0;
}

size_t stel_chan_len(const stel_chan *c) {
    return c ? stel__load_relaxed(&((stel_chan *)(uintptr_t)c)->length) : 0;
}
