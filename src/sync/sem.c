/* The semaphore: permits in a word, and a queue of those who wait for one.
 *
 *   word          what is true                      edges out of it
 *   n > 0         so many permits, nobody waits     acquire: -> n - 1; release: -> n + 1
 *   0             no permit, nobody waits           release: -> 1
 *                                                   an acquirer, under the lock: queues, -> WAITING
 *   WAITING       no permit, somebody is queued     release, under the lock: the first waiter is chosen, the permit is
 *                                                   its own; the last cut-short waiter, under the lock, leaves
 *                                                   -> 0 when the queue is empty then, else WAITING
 *
 * While somebody waits there are no permits, so nobody can overtake: order of arrival comes by itself. Under WAITING
 * only holders of the lock write the word.
 *
 * Last touches. What a release does is done by one operation on the word, its last touch; or by choosing a waiter under
 * the lock, which it gives back before it wakes (queue.h). A releaser that finds under the lock that nobody waits any
 * more gives the lock back first and begins again: had it raised the word with the lock in hand, an acquirer could take
 * that permit and free the semaphore before the lock is given back.
 *
 * Ordering: the release in release pairs with the acquire in acquire over the word, or stel__wake does it. */
#include "sync/queue.h"
#include <limits.h>

typedef struct semaphore {
    _Atomic uint32_t word;
    stel__spin lock; /* protects the queue */
    stel__list queue;
    uint64_t spare;
} __attribute__((may_alias)) semaphore;

_Static_assert(sizeof(semaphore) == 32 && sizeof(stel_sem) == 32, "the size of a semaphore is part of the ABI");
_Static_assert(_Alignof(semaphore) <= _Alignof(stel_sem), "the public struct is aligned well enough");

#define WAITING (UINT32_C(1) << 31)

int stel_sem_init(stel_sem *object, unsigned n) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!object || n > INT_MAX) return -EINVAL;
    *(semaphore *)object = (semaphore){ 0 };
    stel__store_relaxed(&((semaphore *)object)->word, n); /* nobody else uses it yet */
    return 0;
}

static inline bool take_permit(semaphore *s) {
    uint32_t n = stel__load_relaxed(&s->word);
    while (n != 0 && n != WAITING) {
        if (stel__cas_acquire(&s->word, &n, n - 1)) return true; /* pairs with the release in stel_sem_release */
    }
    return false;
}

/* Queue, unless there is a permit by now: then take it, and false. */
static bool enqueue(semaphore *s, stel__waiter *w) {
    stel__spin_take(&s->lock);
    uint32_t n = stel__load_relaxed(&s->word);
    /* acquire: as in take_permit; the lock publishes the queue */
    while (n != WAITING && !stel__cas_acquire(&s->word, &n, n == 0 ? WAITING : n - 1))
        continue;
    bool queued = n == 0 || n == WAITING;
    if (queued) {
        stel__wait_begin(w, STEL__WAIT_SEM);
        stel__queue_push(&s->queue, w, 0);
    }
    stel__spin_give(&s->lock);
    return queued;
}

/* With the lock held, after a node was taken off. */
static void note_empty(semaphore *s) {
    if (!s->queue.head) stel__store_relaxed(&s->word, 0); /* says nothing but that release need not look */
}

static STEL__NOINLINE int acquire_slow(semaphore *s, stel__waiter *w) {
    if (!enqueue(s, w)) return 0;
    int rc = stel__wait_park(w, 0);
    if (STEL__LIKELY(rc >= 0)) return 0;
    stel__spin_take(&s->lock);
    bool was_queued = stel__queue_remove(&s->queue, &w->node);
    if (was_queued) note_empty(s);
    stel__spin_give(&s->lock);
    return was_queued ? rc : 0; /* off the queue: a permit was given to us */
}

int stel_sem_acquire(stel_sem *object) {
    semaphore *s = (semaphore *)object;
    stel__waiter *w = stel__waiter_need("stel_sem_acquire");
    int rc = stel__wait_check(w);
    if (STEL__UNLIKELY(rc < 0)) return rc;
    return STEL__LIKELY(take_permit(s)) ? 0 : acquire_slow(s, w);
}

int stel_sem_try_acquire(stel_sem *object) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    return take_permit((semaphore *)object) ? 0 : -EAGAIN;
}

/* Give the permit to the first waiter. false: nobody waits any more. */
static STEL__NOINLINE bool hand_over(semaphore *s) {
    stel__spin_take(&s->lock);
    stel__node *n = stel__queue_pop(&s->queue);
    stel__ticket ticket = n ? stel__node_ticket(n) : 0;
    if (n) note_empty(s);
    stel__spin_give(&s->lock);
    if (!n) return false;
    stel__wake(ticket, STEL__WOKEN); /* if that fails its time ran out, and it finds out by itself that it was chosen */
    return true;
}

void stel_sem_release(stel_sem *object) {
    semaphore *s = (semaphore *)object;
    uint32_t n = stel__load_relaxed(&s->word);
    for (;;) {
        if (STEL__UNLIKELY(n == WAITING)) {
            if (hand_over(s)) return;
            n = stel__load_relaxed(&s->word);
            continue;
        }
        if (STEL__UNLIKELY(n == INT_MAX))
            stel__misuse("stel_sem_release", s, "there would be more than 2147483647 permits");
        if (stel__cas_release(&s->word, &n, n + 1)) return; /* pairs with the acquire in take_permit */
    }
}
