/* The mutex: one word for those who find it free, a queue for those who do not.
 *
 * Nouns. The owner holds the mutex. A barger takes a free mutex without having queued. A waiter is on the queue. The
 * woken one is a waiter that was taken off the queue to try again; there is at most one at a time.
 *
 * The word: LOCKED, WAITERS, WOKEN, and the owner's index. So one swap takes the mutex and says whose it is, and the
 * swap that gives it back cannot succeed for anybody but the owner.
 *
 *   bits             what is true                 edges out of it
 *   0                free, nobody waits           anybody, lock or try_lock: -> LOCKED
 *   LOCKED           held                         the owner, unlock: -> 0
 *                                                 a waiter, enqueue, under the queue lock: -> LOCKED WAITERS
 *   LOCKED WAITERS   held, the queue is           the owner, unlock_to_waiter, takes the first waiter off and
 *                    not empty                      wakes it to try again: -> [WAITERS] WOKEN, the mutex is free
 *                                                   or hands it over: -> LOCKED [WAITERS] with another owner
 *   LOCKED WOKEN     held, and somebody is        the owner, unlock_slow, without a look at the queue:
 *   [WAITERS]        on the way                     -> [WAITERS] WOKEN
 *                                                 the woken one, enqueue, back to the queue's head: -> LOCKED WAITERS
 *   WOKEN            free, and somebody is        the woken one takes it: -> LOCKED [WAITERS]
 *   [WAITERS]        on the way                   anybody else takes it first: -> LOCKED WOKEN [WAITERS]
 *
 * Invariants.
 *   1. WAITERS is set exactly while the queue is not empty, looked at under the queue lock.
 *   2. A free mutex with a queue has WOKEN set: somebody will come, take it, and wake the next when it gives it back.
 *   3. Under the queue lock, while the owner holds the mutex and WOKEN is clear, only the owner writes the word.
 *   4. Without waiters, the last touch of the mutex in unlock is the swap that makes it free; whoever gets it next may
 *      give it back and free it at once. With waiters it is the giving back of the queue lock: that comes before the
 *      wake, and until then the chosen waiter has yet to come, so nobody can be the last user.
 *
 * Fairness. A barger may overtake the woken one: the owner that gives back usually runs on and locks again before the
 * woken one has a CPU, and a strict hand-over would cost a switch for every lock (a convoy). But a waiter that was
 * woken and came too late goes back to the head of the queue with STEL__NODE_HANDOFF, and the next unlock hands the
 * mutex to it. The idea is that of Go's sync.Mutex (starvation mode, 2016), but decided by losing once instead of
 * by a clock, which costs more to read than the whole fast path. WOKEN is theirs, too: without it an owner that locks
 * and unlocks in a loop would take the whole queue off, one waiter a turn, and all would find the mutex taken.
 *
 * Spinning before queueing pays only when the owner runs on another worker and has a short section; with one worker,
 * or an owner that sleeps, it is all loss. Nobody tells us, so each mutex learns it: a spin that fails makes the next
 * contended calls skip theirs, twice as many each time.
 *
 * Ordering. Taking is an acquire, giving back a release; they pair with each other over the word. The queue lock
 * orders the rest.
 *
 * Tried and dropped. A plain store in unlock (5 ns less): the look for waiters would have to come after it, and touch
 * a mutex that is no longer ours. A lock bit for the queue inside the word: two operations less for each waiter, but a
 * second slow path for a holder that lost its CPU, which the queue's lock has already. Waiting with the deadline in
 * force: lock returns void, see the contract. */
#include "sync/mutex.h"

/* A spin looks three times, after 64, 128 and 256 pauses: 2 to 12 us in all, by the machine. Every look takes the cache
 * line from the owner and slows it down, so few and late ones let it do more: two workers and an empty section cost
 * 14-24 ns a turn, with six looks after 1 ... 32 pauses 27-50, without spinning 14-38. */
enum { SPIN_PAUSES_FIRST = 64, SPIN_PAUSES_LAST = 256 };
/* A spin that fails makes 8, 16, ... 1024 contended calls skip theirs. */
enum { SPIN_SKIP_FIRST = 8, SPIN_FAILED_MAX = 7 };

static stel__mutex *mutex_of(stel_mutex *m) {
    return (stel__mutex *)m;
}

/* Take the mutex if it is free. taken: the word's new LOCKED and owner; clear: WOKEN for the woken one. */
static bool take_if_free(stel__mutex *m, uint32_t taken, uint32_t clear) {
    uint32_t s = stel__load_relaxed(&m->word);
    while (!(s & STEL__MUTEX_LOCKED)) {
        /* acquire: pairs with the release of whoever gave it back */
        if (stel__cas_acquire(&m->word, &s, (s & ~clear) | taken)) return true;
    }
    return false;
}

static bool spin(stel__mutex *m, uint32_t taken) {
    uint32_t skip = stel__load_relaxed(&m->spin_skip);
    if (skip > 0) {
        stel__store_relaxed(&m->spin_skip, skip - 1);
        return false;
    }
    for (unsigned pauses = SPIN_PAUSES_FIRST; pauses <= SPIN_PAUSES_LAST; pauses *= 2) {
        for (unsigned i = 0; i < pauses; i++)
            stel__cpu_relax();
        if (take_if_free(m, taken, 0)) {
            stel__store_relaxed(&m->spin_failed, 0);
            return true;
        }
    }
    uint32_t failed = stel__load_relaxed(&m->spin_failed);
    stel__store_relaxed(&m->spin_skip, (uint32_t)SPIN_SKIP_FIRST << failed);
    if (failed < SPIN_FAILED_MAX) stel__store_relaxed(&m->spin_failed, failed + 1);
    return false;
}

/* Put the caller on the queue, unless the mutex has come free meanwhile: then take it, and false. */
static bool enqueue(stel__mutex *m, stel__waiter *w, bool woken) {
    uint32_t taken = stel__mutex_held_word(w), clear = woken ? STEL__MUTEX_WOKEN : 0;
    stel__spin_take(&m->lock);
    uint32_t s = stel__load_relaxed(&m->word);
    bool queued;
    do {
        queued = (s & STEL__MUTEX_LOCKED) != 0;
        /* acquire: as in take_if_free; the queue lock publishes the queue */
    } while (!stel__cas_acquire(&m->word, &s, queued ? (s & ~clear) | STEL__MUTEX_WAITERS : (s & ~clear) | taken));
    if (queued) {
        stel__wait_begin(w, STEL__WAIT_MUTEX);
        w->node.waiter = w->index;
        w->node.flags = (uint16_t)(STEL__NODE_QUEUED | (woken ? STEL__NODE_HANDOFF : 0u));
        if (woken)
            stel__list_push_head(&m->queue, &w->node.link);
        else
            stel__list_push_tail(&m->queue, &w->node.link);
    }
    stel__spin_give(&m->lock);
    return queued;
}

static STEL__NOINLINE void lock_slow(stel__mutex *m, stel__waiter *w) {
    uint32_t taken = stel__mutex_held_word(w);
    if (stel__load_relaxed(&stel__forked)) return; /* a child of fork does not wait for who is not there */
    if (STEL__UNLIKELY(stel__mutex_held((stel_mutex *)m, w)))
        stel__misuse("stel_mutex_lock", m, "the caller holds this mutex already");
    if (take_if_free(m, taken, 0) || spin(m, taken)) return;
    for (bool woken = false; enqueue(m, w, woken); woken = true) {
        int which = stel__wait_park(w, STEL__PARK_UNINTERRUPTIBLE);
        if (which == STEL__WOKEN_HANDED) {
            STEL__CHECK(stel__mutex_held((stel_mutex *)m, w));
            return;
        }
        STEL__ASSERT(which == STEL__WOKEN);
        if (take_if_free(m, taken, STEL__MUTEX_WOKEN)) return;
    }
}

/* The owner gives the mutex back, there are waiters and none of them is on its way. */
static void unlock_to_waiter(stel__mutex *m) {
    stel__spin_take(&m->lock);
    stel__node *n = stel__queue_pop(&m->queue);
    STEL__ASSERT(n != NULL); /* invariant 1; only the owner takes waiters off */
    bool hand = (n->flags & STEL__NODE_HANDOFF) != 0;
    uint32_t next = hand ? n->waiter << STEL__MUTEX_OWNER_SHIFT | STEL__MUTEX_LOCKED : STEL__MUTEX_WOKEN;
    stel__ticket ticket = stel__node_ticket(n);
    /* A plain store: invariant 3. Release: pairs with the acquire of whoever takes the mutex; for the one that is
     * handed it, stel__wake does that. */
    stel__store_release(&m->word, next | (m->queue.head ? STEL__MUTEX_WAITERS : 0u));
    stel__spin_give(&m->lock);
    bool woken = stel__wake(ticket, hand ? STEL__WOKEN_HANDED : STEL__WOKEN);
    STEL__ASSERT(woken); /* nothing else ends an uninterruptible wait */
}

static STEL__NOINLINE void unlock_slow(stel__mutex *m, const stel__waiter *w) {
    if (stel__load_relaxed(&stel__forked)) return; /* locked before the fork, by what is another caller now */
    if (STEL__UNLIKELY(!stel__mutex_held((stel_mutex *)m, w)))
        stel__misuse("stel_mutex_unlock", m, "the caller does not hold this mutex");
    uint32_t s = stel__load_relaxed(&m->word);
    while (!(s & STEL__MUTEX_WAITERS) || (s & STEL__MUTEX_WOKEN)) {
        /* release: pairs with the acquire of whoever takes it next */
        if (stel__cas_release(&m->word, &s, s & (STEL__MUTEX_WAITERS | STEL__MUTEX_WOKEN))) return;
    }
    unlock_to_waiter(m);
}

void stel_mutex_lock(stel_mutex *mutex) {
    stel__mutex *m = mutex_of(mutex);
    stel__waiter *w = stel__waiter_need("stel_mutex_lock");
    uint32_t s = stel__load_relaxed(&m->word);
    /* acquire: pairs with the release in unlock */
    if (STEL__UNLIKELY((s & STEL__MUTEX_LOCKED) || !stel__cas_acquire(&m->word, &s, s | stel__mutex_held_word(w))))
        lock_slow(m, w);
}

int stel_mutex_try_lock(stel_mutex *mutex) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    stel__mutex *m = mutex_of(mutex);
    stel__waiter *w = stel__waiter_need("stel_mutex_try_lock");
    return take_if_free(m, stel__mutex_held_word(w), 0) ? 0 : -EBUSY;
}

void stel_mutex_unlock(stel_mutex *mutex) {
    stel__mutex *m = mutex_of(mutex);
    stel__waiter *w = stel__waiter_need("stel_mutex_unlock");
    uint32_t s = stel__load_relaxed(&m->word), flags = s & (STEL__MUTEX_WAITERS | STEL__MUTEX_WOKEN);
    bool nobody_to_wake = (s & ~flags) == stel__mutex_held_word(w) && flags != STEL__MUTEX_WAITERS;
    /* release: pairs with the acquire in lock. The last touch: from here on it may be somebody else's, or gone. */
    if (STEL__UNLIKELY(!nobody_to_wake || !stel__cas_release(&m->word, &s, flags))) unlock_slow(m, w);
}
