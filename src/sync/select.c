/* Select: wait for one of several channel operations. Go's algorithm (runtime/select.go) on our waiter.
 *
 * Every case has a node, which lives in the caller's stel_case. A selector goes through these states; all locks means
 * those of its channels, taken in the order of their addresses, each once.
 *
 *   state      what is true                              -> next, and who takes the edge
 *   looking    holds all locks, has no node queued        -> done: a case is ready. It is done under the locks
 *                                                         -> -EAGAIN: none is, and NOWAIT
 *                                                         -> waiting: none is. begins its wait, queues all nodes,
 *                                                            gives all locks back
 *   waiting    every live case has a node queued, or      -> chosen i: whoever comes on case i's channel takes the node
 *              the node was dropped by someone who came      off, and its stel__wake on the selector's word wins
 *              too late. Nothing has happened             -> cut short: deadline or cancellation win the word instead
 *   chosen i   case i is done, or CLOSED is set on its    -> done: the selector takes each lock and unlinks what is
 *              node, before the chooser gives the lock       still queued. Only after that it may look at case i
 *              back. No other case will be done
 *   cut short  no case was done, and none will be         -> error: unlinks as above
 *
 * One swap on the selector's word decides, and an element is copied only by the one who has won it: so at most one
 * case is done, and no element is lost. A node whose selector has lost may still be queued somewhere for a moment; who
 * finds it fails at the swap, drops it, and goes on to the next waiter.
 *
 * Looking takes all locks at once, so that "none is ready" was true at one moment; looking at one channel after the
 * other could miss an element that moves between two of them. Unlinking takes one lock at a time: nothing is left to
 * decide. Two selectors on the same channels take the locks in the same order and cannot block each other.
 *
 * Fairness: cases are looked at in a shuffled order (Fisher and Yates, 1938; the oracle is the worker's), so each
 * ready one is equally likely. While it waits, the first to come decides.
 *
 * Both orders are kept in the room that a case has beside its node, so any number of cases needs neither memory nor
 * stack: place k of the order of looking is the index in cases[k]. */
#include "sync/chan.h"

enum { CASES_MAX = 1024 };

/* What is in stel_case.reserved. */
typedef struct room {
    stel__node node;
    uint16_t looking; /* the case at this place of the order of looking */
    uint16_t locking; /* and of the order of locking */
    uint32_t spare;
} __attribute__((may_alias)) room;

_Static_assert(sizeof(stel_case) == 64, "the size of a case is part of the ABI");
_Static_assert(sizeof(room) <= sizeof(((stel_case *)0)->reserved), "a node and the orders find room in a case");
_Static_assert(CASES_MAX <= UINT16_MAX, "an index fits node.which and the orders");

static inline room *room_of(stel_case *c) {
    return (room *)(void *)c->reserved;
}

static int validate(const stel_case *cases, size_t n, unsigned flags) {
    if ((flags & ~(unsigned)STEL_SELECT_NOWAIT) || n > CASES_MAX || (!cases && n > 0)) return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        if (cases[i].op != STEL_CASE_OP_SEND && cases[i].op != STEL_CASE_OP_RECV) return -EINVAL;
        if (cases[i].chan && !cases[i].element && cases[i].chan->element_bytes != 0) return -EINVAL;
    }
    return 0;
}

/* ---- the two orders ---- */

static inline uintptr_t address(stel_case *cases, size_t place) {
    return (uintptr_t)cases[room_of(&cases[place])->locking].chan;
}

static inline void swap_places(stel_case *cases, size_t a, size_t b) {
    uint16_t kept = room_of(&cases[a])->locking;
    room_of(&cases[a])->locking = room_of(&cases[b])->locking;
    room_of(&cases[b])->locking = kept;
}

/* Sink the element at place `root` of the heap of n. */
static void sink(stel_case *cases, size_t root, size_t n) {
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && address(cases, child) < address(cases, child + 1)) child++;
        if (address(cases, root) >= address(cases, child)) return;
        swap_places(cases, root, child);
    }
}

/* Fill in both orders over the cases that have a channel; their number. */
static size_t arrange(stel_case *cases, size_t n) {
    stel__oracle *oracle = stel__oracle_self();
    size_t live = 0;
    for (size_t i = 0; i < n; i++) {
        if (!cases[i].chan) continue;
        /* Shuffling as we go: the new one takes a place at random, who stood there goes to the end. */
        size_t at = live ? stel__oracle_below(oracle, (uint32_t)live + 1) : 0;
        room_of(&cases[live])->looking = room_of(&cases[at])->looking;
        room_of(&cases[at])->looking = (uint16_t)i;
        room_of(&cases[live])->locking = (uint16_t)i;
        live++;
    }
    /* Heapsort: no stack, no bad case (Williams, "Algorithm 232", 1964). */
    for (size_t root = live / 2; root-- > 0;)
        sink(cases, root, live);
    for (size_t end = live; end-- > 1;) {
        swap_places(cases, 0, end);
        sink(cases, 0, end);
    }
    return live;
}

/* ---- all locks ---- */

/* Does the channel at this place of the order of locking stand here for the first time? */
static inline bool first_of_its_channel(stel_case *cases, size_t place) {
    return place == 0 || address(cases, place) != address(cases, place - 1);
}

static void lock_all(stel_case *cases, size_t live) {
    for (size_t k = 0; k < live; k++)
        if (first_of_its_channel(cases, k)) stel__spin_take(&cases[room_of(&cases[k])->locking].chan->lock);
}

static void unlock_all(stel_case *cases, size_t live) {
    for (size_t k = live; k-- > 0;)
        if (first_of_its_channel(cases, k)) stel__spin_give(&cases[room_of(&cases[k])->locking].chan->lock);
}

/* ---- looking and waiting ---- */

static stel__list *queue_of(const stel_case *c) {
    return c->op == STEL_CASE_OP_SEND ? &c->chan->senders : &c->chan->receivers;
}

/* Holding all locks: do the first case that is ready, in the order of looking; its index, or -EAGAIN. */
static int look(stel_case *cases, size_t live, stel__ticket *wake) {
    for (size_t k = 0; k < live; k++) {
        int i = room_of(&cases[k])->looking;
        stel_case *c = &cases[i];
        int rc = c->op == STEL_CASE_OP_SEND ? stel__chan_put(c->chan, c->element, wake)
                                            : stel__chan_take(c->chan, c->element, wake);
        if (rc == -EAGAIN) continue;
        c->result = rc;
        return i;
    }
    return -EAGAIN;
}

/* Holding all locks, after stel__wait_begin. */
static void queue_all(stel_case *cases, size_t live, const stel__waiter *w) {
    for (size_t k = 0; k < live; k++) {
        uint16_t i = room_of(&cases[k])->locking;
        stel__node *node = &room_of(&cases[i])->node;
        node->element = cases[i].element;
        node->waiter = w->index;
        node->which = i;
        node->flags = STEL__NODE_QUEUED | STEL__NODE_SELECT;
        stel__list_push_tail(queue_of(&cases[i]), &node->link);
    }
}

/* Take every channel's lock, one after the other, and unlink what is still queued there. */
static void unlink_all(stel_case *cases, size_t live) {
    for (size_t k = 0; k < live; k++) {
        stel_case *c = &cases[room_of(&cases[k])->locking];
        if (first_of_its_channel(cases, k)) stel__spin_take(&c->chan->lock);
        stel__queue_remove(queue_of(c), &room_of(c)->node);
        if (k + 1 == live || first_of_its_channel(cases, k + 1)) stel__spin_give(&c->chan->lock);
    }
}

/* The only case that has a channel, when waiting for it: an ordinary send or receive. */
static int select_one(stel_case *cases, size_t i) {
    stel_case *c = &cases[i];
    int rc = c->op == STEL_CASE_OP_SEND ? stel_chan_send(c->chan, c->element) : stel_chan_recv(c->chan, c->element);
    if (rc < 0 && rc != -EPIPE) return rc;
    c->result = rc;
    return (int)i;
}

int stel_select(stel_case *cases, size_t n, unsigned flags) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    int rc = validate(cases, n, flags);
    if (rc < 0) return rc;
    bool wait = !(flags & STEL_SELECT_NOWAIT);
    size_t live = arrange(cases, n);
    if (live == 1 && wait) return select_one(cases, room_of(&cases[0])->looking);
    stel__waiter *w = NULL;
    if (wait) {
        w = stel__waiter_need("stel_select");
        rc = stel__wait_check(w);
        if (rc < 0) return rc;
    }

    stel__ticket wake = 0;
    lock_all(cases, live);
    int taken = look(cases, live, &wake);
    if (taken >= 0 || !wait) {
        unlock_all(cases, live);
        if (wake) stel__wake(wake, STEL__WOKEN);
        if (wait) stel__wait_spend(w);
        return taken;
    }

    stel__wait_begin(w, STEL__WAIT_SELECT);
    queue_all(cases, live, w);
    unlock_all(cases, live);
    rc = stel__wait_park(w, 0);
    unlink_all(cases, live);
    if (rc < 0) return rc;
    STEL__CHECK((size_t)rc < n);
    cases[rc].result = room_of(&cases[rc])->node.flags & STEL__NODE_CLOSED ? -EPIPE : 0;
    return rc;
}
