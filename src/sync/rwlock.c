/* The read-write lock: one word for those who need not wait, two queues for those who do. Readers and writers take
 * turns, a phase-fair lock (after B. Brandenburg and J. Anderson, "Reader-Writer Synchronization for Shared-Memory
 * Multiprocessor Real-Time Systems", 2009, who spin where we sleep).
 *
 * Nouns. A phase is one writer's time, or the time from the first reader's entrance to the last one's exit. Whoever
 * ends a phase hands the lock over: it writes the next phase's word and wakes those who are in it. Nobody overtakes.
 *
 * The word: the number of readers inside, or WRITER and the writer's index; and WAITING, set while anybody is queued.
 *
 *   word               what is true                 edges out of it
 *   0                  free, nobody waits           a reader: -> n = 1; a writer: -> WRITER
 *   n readers          they are inside              a reader: -> n + 1; one leaves: -> n - 1, or 0
 *                                                   a writer, enqueue: -> n, WAITING
 *   n readers,         a writer waits, and maybe    one leaves: -> n - 1, WAITING; the last one: -> WAITING
 *   WAITING            readers behind it
 *   WAITING            nobody is inside             the one who left last, hand_over: the first writer gets it
 *                                                   -> WRITER, or with others still queued WRITER WAITING
 *   WRITER             it is inside                 it leaves: -> 0; anybody, enqueue: -> WRITER WAITING
 *   WRITER, WAITING    it is inside, and readers    it leaves, hand_over: all readers that wait get in -> n, with
 *                      or writers wait              writers queued n WAITING; no reader waits: as for WAITING
 *
 * Invariants.
 *   1. WAITING is set exactly while somebody is queued, looked at under the queue lock. It is set under it.
 *   2. Waits are uninterruptible: who is queued stays until it is handed the lock.
 *   3. While readers are inside and somebody is queued, a writer is. (A reader queues only behind a writer that is
 *      inside, or that waits.) So the last reader finds a writer to hand over to.
 *   4. Under the queue lock, with WAITING set and nobody inside but the caller that leaves, only it writes the word: all
 *      others need a clear WAITING, or the queue lock.
 *   5. A reader waits for one phase of a writer at the most, and a writer for those before it and one phase of readers
 *      for each: neither side starves.
 *
 * Last touches. Without WAITING leaving is one operation on the word. The last reader that finds WAITING goes on to the
 * queues: a writer waits there, cannot leave (invariant 2), and has still to use the lock. hand_over gives the queue
 * lock back before it wakes; readers beyond those it has tickets for are woken under it (queue.h), and the others are
 * inside by the word, though they do not run yet.
 *
 * Ordering. Entering is an acquire, leaving a release (for a reader acq_rel: the last one speaks for all, the
 * decrements form a chain); they pair over the word. With a hand-over stel__wake does it.
 *
 * Tried and dropped. A fetch-and-add to enter (no loop among readers): one that finds a writer must take its reader
 * back, which touches a lock that may be gone. Letting running callers overtake a woken writer, as the mutex does: the
 * readers that come all the time then need a second rule against starving it. */
#include "sync/queue.h"

typedef struct rwlock {
    _Atomic uint64_t word;
    stel__spin lock;         /* protects the rest */
    uint32_t readers_queued; /* the length of readers */
    stel__list readers, writers;
    uint64_t spare[2];
} __attribute__((may_alias)) rwlock;

_Static_assert(sizeof(rwlock) == 64 && sizeof(stel_rwlock) == 64, "the size of a read-write lock is part of the ABI");
_Static_assert(_Alignof(rwlock) <= _Alignof(stel_rwlock), "the public struct is aligned well enough");

enum {
    WRITER = 1u << 0,
    WAITING = 1u << 1,
    OWNER_SHIFT = 7 /* 25 bits: the writer's index */
};
#define READER          (UINT64_C(1) << 32)
#define READERS_OF(s)   ((s) >> 32)
#define WRITER_OF(i)    ((uint64_t)(i) << OWNER_SHIFT | WRITER)
#define WITHOUT_WAIT(s) ((s) & ~(uint64_t)WAITING)

/* ---- entering ---- */

/* The word with one more inside, `mine` being READER or a writer's word; 0: it has to wait. */
static inline uint64_t entered(uint64_t s, uint64_t mine) {
    if (mine == READER) return s & (WRITER | WAITING) ? 0 : s + READER;
    return s == 0 ? mine : 0;
}

static inline bool try_enter(rwlock *l, uint64_t mine) {
    uint64_t s = stel__load_relaxed(&l->word), next;
    while ((next = entered(s, mine)) != 0) {
        /* acquire: pairs with the release of whoever left */
        if (stel__cas_acquire(&l->word, &s, next)) return true;
    }
    return false;
}

/* Queue, unless the lock can be entered by now: then do that, and false. */
static bool enqueue(rwlock *l, stel__waiter *w, uint64_t mine) {
    bool reads = mine == READER;
    stel__spin_take(&l->lock);
    uint64_t s = stel__load_relaxed(&l->word), next;
    do {
        next = entered(s, mine);
        /* acquire: as in try_enter; the queue lock publishes the queues */
    } while (!(s & WAITING) && !stel__cas_acquire(&l->word, &s, next ? next : s | WAITING));
    if (!next) {
        stel__wait_begin(w, reads ? STEL__WAIT_READ_LOCK : STEL__WAIT_WRITE_LOCK);
        stel__queue_push(reads ? &l->readers : &l->writers, w, 0);
        l->readers_queued += reads;
    }
    stel__spin_give(&l->lock);
    return !next;
}

static STEL__NOINLINE void enter_slow(rwlock *l, uint64_t mine, const char *call) {
    stel__waiter *w = stel__waiter_need(call);
    if (stel__load_relaxed(&stel__forked)) return; /* a child of fork does not wait for who is not there */
    if (STEL__UNLIKELY(WITHOUT_WAIT(stel__load_relaxed(&l->word)) == WRITER_OF(w->index)))
        stel__misuse(call, l, "the caller holds this lock for writing already");
    if (!enqueue(l, w, mine)) return;
    int which = stel__wait_park(w, STEL__PARK_UNINTERRUPTIBLE);
    STEL__ASSERT(which == STEL__WOKEN);
    STEL__CHECK(mine == READER ? READERS_OF(stel__load_relaxed(&l->word)) > 0
                               : WITHOUT_WAIT(stel__load_relaxed(&l->word)) == mine);
}

/* ---- leaving ---- */

/* With the queue lock held: the next phase is that of the first writer. */
static void hand_to_writer(rwlock *l) {
    stel__node *n = stel__queue_pop(&l->writers);
    STEL__ASSERT(n != NULL); /* invariants 1 and 3 */
    stel__ticket ticket = stel__node_ticket(n);
    bool more = l->writers.head || l->readers.head;
    stel__store_relaxed(&l->word, WRITER_OF(n->waiter) | (more ? WAITING : 0u)); /* stel__wake orders it */
    stel__spin_give(&l->lock);
    bool woken = stel__wake(ticket, STEL__WOKEN);
    STEL__ASSERT(woken); /* invariant 2 */
}

/* With the queue lock held: the next phase is that of all readers that wait. */
static void hand_to_readers(rwlock *l) {
    uint64_t n = l->readers_queued;
    l->readers_queued = 0;
    /* release: pairs with readers that come later and join them, when no writer waits */
    stel__store_release(&l->word, n * READER | (l->writers.head ? WAITING : 0u));
    stel__queue_wake_all(&l->lock, &l->readers);
}

static STEL__NOINLINE void hand_over(rwlock *l, bool from_writer) {
    if (stel__load_relaxed(&stel__forked)) return;
    stel__spin_take(&l->lock);
    STEL__CHECK(stel__load_relaxed(&l->word) & WAITING);
    if (from_writer && l->readers_queued > 0)
        hand_to_readers(l);
    else
        hand_to_writer(l);
}

/* ---- the calls ---- */

void stel_rwlock_read_lock(stel_rwlock *object) {
    rwlock *l = (rwlock *)object;
    if (STEL__UNLIKELY(!try_enter(l, READER))) enter_slow(l, READER, "stel_rwlock_read_lock");
}

int stel_rwlock_try_read_lock(stel_rwlock *object) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    return try_enter((rwlock *)object, READER) ? 0 : -EBUSY;
}

void stel_rwlock_read_unlock(stel_rwlock *object) {
    rwlock *l = (rwlock *)object;
    /* The last touch, unless somebody waits and we were the last. Release: pairs with entering; acquire: see hand_over */
    uint64_t before = stel__sub_acq_rel(&l->word, READER);
    if (STEL__UNLIKELY(READERS_OF(before) == 0 && !stel__load_relaxed(&stel__forked)))
        stel__misuse("stel_rwlock_read_unlock", l, "nobody holds this lock for reading");
    if (STEL__UNLIKELY(before == (READER | WAITING))) hand_over(l, false);
}

void stel_rwlock_write_lock(stel_rwlock *object) {
    rwlock *l = (rwlock *)object;
    const stel__waiter *w = stel__waiter_need("stel_rwlock_write_lock");
    uint64_t free = 0;
    /* acquire: pairs with the release of whoever left */
    if (STEL__UNLIKELY(!stel__cas_acquire(&l->word, &free, WRITER_OF(w->index))))
        enter_slow(l, WRITER_OF(w->index), "stel_rwlock_write_lock");
}

int stel_rwlock_try_write_lock(stel_rwlock *object) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    const stel__waiter *w = stel__waiter_need("stel_rwlock_try_write_lock");
    return try_enter((rwlock *)object, WRITER_OF(w->index)) ? 0 : -EBUSY;
}

void stel_rwlock_write_unlock(stel_rwlock *object) {
    rwlock *l = (rwlock *)object;
    const stel__waiter *w = stel__waiter_need("stel_rwlock_write_unlock");
    uint64_t mine = WRITER_OF(w->index), s = mine;
    /* release: pairs with whoever enters next. The last touch, when nobody waits. */
    if (STEL__LIKELY(stel__cas_release(&l->word, &s, 0)) || stel__load_relaxed(&stel__forked)) return;
    if (STEL__UNLIKELY(WITHOUT_WAIT(s) != mine))
        stel__misuse("stel_rwlock_write_unlock", l, "the caller does not hold this lock for writing");
    hand_over(l, true);
}
