/* The io_uring backend: operations that the kernel carries out, and tells the end of. Two tables of functions over one
 * machinery:
 *
 *   stel__io_uring_ops         a ring that one thread owns (a worker's): it submits and waits, others cancel and interrupt.
 *                              What is submitted is held back until the owner waits, which then is one system call for all
 *   stel__io_uring_files_ops   a ring that many share: any thread submits and enters the kernel at once; whoever polls
 *                              waits, never for long; an eventfd says when that is worth while
 *
 * Nouns
 *   operation   stel_operation; its address is the user_data of its entry
 *   cancel      an entry of its own, ASYNC_CANCEL of that user_data; its user_data is the address with CANCEL_TAG in it
 *   inbox       list of operations that somebody wants cancelled, and for which no such entry has been made yet
 *   wake        the eventfd. An owned ring polls it, so that a write ends the wait; a shared one signals it (REGISTER_
 *               EVENTFD) at each completion, and so do we when a wait is to come for another reason
 *
 * States of an operation (backend[0]), who takes each edge, and what is owed by the kernel in each
 *
 *   FLYING      on the submission queue or begun: its completion
 *     -> HANDED_OUT   wait: the completion was there                             compare-and-swap, no lock: the usual way
 *     -> ASKED        cancel, any thread                                         compare-and-swap under the lock
 *   ASKED       as FLYING, and on the inbox
 *     -> CANCELLING   whoever may submit: the owner, at its next wait or in cancel itself; in a shared ring who cancels
 *     -> HANDED_OUT   wait: it completed before; it is taken off the inbox
 *   CANCELLING  its completion and its cancel's, in any order
 *     -> ENDED        wait: the completion came first; its result is in backend[1]
 *     -> GIVEN_UP     wait: the cancel's came first
 *     -> ASKED        wait: the cancel's came, and did not find the operation (see below)
 *   ENDED       its cancel's completion     -> HANDED_OUT   wait
 *   GIVEN_UP    its own completion          -> HANDED_OUT   wait
 *   HANDED_OUT  nothing                     the event is in the caller's batch; cancel does nothing
 *
 * All edges but the first are taken under the lock. backend[1] and [2] are the inbox's link in ASKED, and the result in
 * ENDED. The caller may reuse the memory as soon as wait has returned its event, so everything must be over by then:
 *
 *   the list       an operation that is handed out is on no list (ASKED -> HANDED_OUT takes it off)
 *   the canceller  FLYING -> ASKED and FLYING -> HANDED_OUT are exchanges on one word: one of them fails. After giving the
 *                  lock back, a canceller does not touch the operation; wait takes the lock before it hands out one that
 *                  was ever asked for. One that comes after HANDED_OUT only reads the word (stellane/backend.h says that
 *                  the memory is there as long as a cancel is on)
 *   the kernel     a cancel names an address. Were the operation handed out while its cancel is still on the submission
 *                  queue, the cancel might hit the next operation at that address (the next wait of the same fiber has its
 *                  operation in the same frame). So a cancelled operation is handed out after both completions, even if
 *                  its own is there already. The cancel's always comes soon: it is looked for at the time of submission
 *
 * Cancel before the kernel knows of the operation: entries are taken in order, and the cancel's comes after.
 *
 * A cancel that does not find its operation (-ENOENT), or finds that it runs in a thread of the kernel (-EALREADY): it may
 * be about to be polled again, with nobody left to end that. Operations that may last for ever (on sockets, and POLL) are
 * therefore asked for again until they have ended; it takes a moment. Others (files) end by themselves, and may take as
 * long as a disk does: asking again and again would be a busy loop.
 *
 * Threads. Owned: SINGLE_ISSUER and DEFER_TASKRUN make completions run when the owner waits, at no other time, and without
 * interrupts between processors: a ring without them needs 2.3 times the CPU. The kernel takes as owner who enables the
 * ring; it is made disabled, by any thread, and enabled at the first submit or wait. Shared: requests are the submitting
 * thread's; what the kernel must do in its name (a read of a page that has come) it does when that thread is in the kernel
 * or interrupts it for it; with COOP_TASKRUN a fiber that computes would hold up other fibers' reads, so not here. When
 * a thread ends the kernel cancels what it began: threads that submit must live as long as what they wait for.
 *
 * No memory for a submission (io_uring_enter fails for want of it): the entries stay on the queue. Owned: wait enters again,
 * every millisecond; shared: the eventfd is signalled, so that whoever polls comes and enters again. Completions that have
 * no room are kept by the kernel and flushed by a wait (NODROP).
 *
 * Ordering pairs: the release store of FLYING in begin with the exchange in ended (a shared ring's wait is another thread
 * than the one that submitted; in between is the kernel, which tools do not see). The lock for the rest. inbox_any is a
 * hint for the owner: set under the lock and followed by a write to the eventfd; the wait that this ends, or the next, sees
 * it.
 *
 * Tried and dropped. Measured: echo of 64 bytes, server on one CPU of two, raw loops without fibers, 64 / 1000 connections,
 * CPU us a request, medians of 13 / 9 interleaved runs on a machine that did other things too (one and the same loop
 * differs by 10 to 20 % from run to run):
 *   epoll, recv, send 5.9 / 7.8; single-shot RECV into the caller's buffer and a send(2) 5.8 / 7.5
 *   SEND as an operation: 5.7 / 7.7. No win that can be told from nothing, and a wait more for each send
 *   multishot RECV with provided buffers, and SEND: 5.7 / 8.6. It reads ahead, and copies
 *   POLL_FIRST, as the first look is in vain: 6.3 / 7.6; single-shot POLL and a recv(2): 6.1
 *   CQE_SKIP_SUCCESS for cancels: saves an entry, and with it the knowledge that the cancel is over.
 *   READ of the eventfd instead of a multishot POLL: it may write to freed memory when the ring is closed.
 *   The ring's own descriptor in the epoll instead of an eventfd: nothing can make that one readable but a completion. */
#include "poller/inside.h"
#include "poller/ring.h"
#include <stdio.h>
#include <sys/eventfd.h>

enum operation_state { FLYING = 0, ASKED, CANCELLING, ENDED, GIVEN_UP, HANDED_OUT };
enum { CANCEL_TAG = 1, WAKE = 2 /* a user_data; no address */ };
enum { SQ_MIN = 64, SQ_MAX = 1024, CQ_FACTOR = 8, THREADS_MAX = 64, RETRY_NS = 1000000 };

typedef struct uring {
    /* fixed after creation */
    bool shared;
    int wake_fd;
    /* whoever submits: the owner, or under the lock */
    stel__ring ring;
    /* the owner */
    bool wake_armed, wake_once; /* wake_once: this kernel has no multishot POLL */
    int broken;                 /* an error that no wait gets over */
    /* under the lock */
    stel__lock lock;
    stel__list inbox;
    /* atomic */
    _Atomic bool inbox_any;
    _Atomic uintptr_t owner; /* 0: not yet */
    _Atomic size_t pending;
} uring;

/* What is best, and what there is instead: kernels from 6.1, 6.0, 5.19 and before know these sets. */
static const unsigned owned_flags[] = {
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_R_DISABLED | IORING_SETUP_DEFER_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_SUBMIT_ALL,
    0,
};
static const unsigned shared_flags[] = { IORING_SETUP_SUBMIT_ALL, 0 };

/* ---- states ---- */

static _Atomic uint64_t *state_of(stel_operation *op) {
    return (_Atomic uint64_t *)(void *)&op->backend[0];
}
static stel__link *link_of(stel_operation *op) {
    return (stel__link *)(void *)&op->backend[1];
}
static stel_operation *operation_of(stel__link *link) {
    return (stel_operation *)(void *)((char *)link - offsetof(stel_operation, backend[1]));
}
_Static_assert(sizeof(stel__link) <= 2 * sizeof(uint64_t), "the inbox's link has room in an operation");
/* Under the lock, where nobody else changes it. */
static enum operation_state state(stel_operation *op) {
    return (enum operation_state)stel__load_relaxed(state_of(op));
}
static void set_state(stel_operation *op, enum operation_state s) {
    stel__store_relaxed(state_of(op), s);
}

/* Under the lock. The caller's edge from FLYING; or from CANCELLING, again. */
static void enlist(uring *u, stel_operation *op) {
    stel__list_push_tail(&u->inbox, link_of(op));
    stel__store_relaxed(&u->inbox_any, true);
}

/* FLYING -> ASKED; false: it was handed out. */
static bool ask(uring *u, stel_operation *op) {
    uint64_t flying = FLYING;
    if (!stel__cas_acq_rel(state_of(op), &flying, ASKED)) return false; /* partner: ended */
    enlist(u, op);
    return true;
}

/* Under the lock: the oldest of the inbox becomes CANCELLING. NULL: it is empty. */
static stel_operation *take_asked(uring *u) {
    stel__link *link = stel__list_pop_head(&u->inbox);
    if (!u->inbox.head) stel__store_relaxed(&u->inbox_any, false);
    if (!link) return NULL;
    stel_operation *op = operation_of(link);
    STEL__CHECK(state(op) == ASKED);
    set_state(op, CANCELLING);
    return op;
}

static void fill_cancel(struct io_uring_sqe *sqe, const stel_operation *op) {
    stel__ring_fill_cancel(sqe, (uintptr_t)op, (uintptr_t)op | CANCEL_TAG);
}

/* The end of one that somebody wanted cancelled. True: it is to be handed out. */
STEL__COLD static bool ended_late(uring *u, stel_operation *op, int32_t result) {
    bool over = true;
    stel__lock_take(&u->lock);
    switch (state(op)) {
    case ASKED:
        stel__list_remove(&u->inbox, link_of(op));
        if (!u->inbox.head) stel__store_relaxed(&u->inbox_any, false);
        break;
    case CANCELLING:
        op->backend[1] = (uint64_t)(int64_t)result;
        over = false;
        break;
    default:
        STEL__ASSERT(state(op) == GIVEN_UP);
    }
    set_state(op, over ? HANDED_OUT : ENDED);
    stel__lock_give(&u->lock);
    return over;
}

static bool ended(uring *u, stel_operation *op, int32_t result) {
    /* Loaded first for ThreadSanitizer's sake: it looks at what a swap writes to before it sees what the swap acquires. */
    uint64_t flying = stel__load_acquire(state_of(op)); /* partner: begin */
    return STEL__LIKELY(flying == FLYING && stel__cas_acq_rel(state_of(op), &flying, HANDED_OUT)) || /* partner: ask */
           ended_late(u, op, result);
}

/* The end of a cancel. True: the operation is to be handed out, with *result. */
STEL__COLD static bool cancel_ended(uring *u, stel_operation *op, int32_t answer, int32_t *result) {
    stel__lock_take(&u->lock);
    bool over = state(op) == ENDED;
    if (over) {
        *result = (int32_t)(int64_t)op->backend[1];
        set_state(op, HANDED_OUT);
    } else {
        STEL__ASSERT(state(op) == CANCELLING);
        bool again = stel__ring_lasting(op) && (answer == -ENOENT || answer == -EALREADY);
        set_state(op, again ? ASKED : GIVEN_UP);
        if (again) enlist(u, op);
    }
    stel__lock_give(&u->lock);
    return over;
}

/* ---- completions ---- */

/* The wake's own end. */
STEL__COLD static void wake_came(uring *u, int32_t result, unsigned flags) {
    uint64_t count;
    if (flags & IORING_CQE_F_MORE) return;
    u->wake_armed = false;
    if (result == -EINVAL && !u->wake_once)
        u->wake_once = true;
    else if (result == -EBADF || result == -EINVAL)
        u->broken = result;
    else if (u->wake_once) /* that one is level-triggered */
        (void)!stel__sys_read(u->wake_fd, &count, sizeof count);
}

/* Fill at most n events with what is on the completion queue. */
static int reap(uring *u, stel_backend_event *events, int n, bool *woken) {
    int filled = 0;
    for (const struct io_uring_cqe *cqe; filled < n && (cqe = stel__ring_cqe(&u->ring));) {
        uint64_t data = cqe->user_data;
        int32_t result = cqe->res;
        unsigned flags = cqe->flags;
        stel__ring_seen(&u->ring);
        if (STEL__UNLIKELY(data == WAKE)) {
            *woken = true;
            wake_came(u, result, flags);
            continue;
        }
        stel_operation *op = (stel_operation *)(uintptr_t)(data & ~(uint64_t)CANCEL_TAG);
        if (STEL__UNLIKELY(data & CANCEL_TAG) ? !cancel_ended(u, op, result, &result) : !ended(u, op, result)) continue;
        if (STEL__UNLIKELY(stel__sanitize_valgrind())) stel__ring_written(op, result);
        events[filled++] = (stel_backend_event){ .token = op->token, .result = result, .kind = STEL_EVENT_COMPLETE };
    }
    if (u->shared)
        (void)stel__add_relaxed(&u->pending, (size_t)0 - (size_t)filled); /* a count: no partner */
    else
        stel__count(&u->pending, (size_t)0 - (size_t)filled);
    return filled;
}

/* ---- both ---- */

static void uring_destroy(void *instance) {
    uring *u = instance;
    stel__ring_close(&u->ring);
    if (u->wake_fd >= 0) stel__sys_close(u->wake_fd);
    stel__free(u);
}

static int uring_create(void **instance, int batch, bool shared, const unsigned *flag_sets, size_t n) {
    if (batch < 1) return -EINVAL;
    uring *u = stel__alloc(sizeof *u);
    if (!u) return -ENOMEM;
    unsigned entries = SQ_MIN;
    while (entries < SQ_MAX && entries < (unsigned)batch)
        entries *= 2;
    u->shared = shared;
    u->ring.fd = -1;
    int rc = u->wake_fd = stel__sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (rc >= 0) rc = stel__ring_open(&u->ring, entries, entries * CQ_FACTOR, flag_sets, n);
    if (rc == 0 && shared) rc = stel__sys_io_uring_register(u->ring.fd, IORING_REGISTER_EVENTFD, &u->wake_fd, 1);
    if (rc < 0) {
        uring_destroy(u);
        return rc;
    }
    *instance = u;
    return 0;
}

static void uring_interrupt(void *instance) {
    uring *u = instance;
    uint64_t one = 1;
    /* It cannot fail but for a descriptor that somebody closed; the wait itself says so then. */
    (void)!stel__sys_write(u->wake_fd, &one, sizeof one);
}

static size_t uring_pending(void *instance) {
    uring *u = instance;
    return stel__load_relaxed(&u->pending); /* a figure: no partner */
}

/* Make an entry of it. */
static void begin(struct io_uring_sqe *sqe, stel_operation *op) {
    stel__ring_fill(sqe, op);
    stel__store_release(state_of(op), FLYING); /* pairs with ended */
}

/* Nothing was submitted, for now. */
static bool passing(int rc) {
    return rc == -EAGAIN || rc == -EBUSY || rc == -ENOMEM || rc == -EINTR;
}

/* ---- a ring with an owner ---- */

static int owned_create(void **instance, int batch) {
    return uring_create(instance, batch, false, owned_flags, STEL__COUNT_OF(owned_flags));
}

static bool is_owner(uring *u) {
    return stel__load_relaxed(&u->owner) == (uintptr_t)pthread_self(); /* only an owner finds itself: no partner */
}

static int owned_flush(uring *u) {
    stel__ring_publish(&u->ring);
    return stel__ring_submit(&u->ring, stel__ring_unsubmitted(&u->ring));
}

static struct io_uring_sqe *owned_entry(uring *u, int *error) {
    struct io_uring_sqe *sqe = stel__ring_sqe(&u->ring);
    if (STEL__LIKELY(sqe != NULL)) return sqe;
    int rc = owned_flush(u);
    sqe = stel__ring_sqe(&u->ring);
    *error = rc >= 0 || passing(rc) ? -EAGAIN : rc;
    return sqe;
}

/* Have the ring watch the eventfd; each write to it is a completion, as an edge. */
static void arm_wake(uring *u) {
    int error;
    struct io_uring_sqe *sqe = owned_entry(u, &error);
    if (!sqe) return; /* the next round */
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = u->wake_fd;
    sqe->len = u->wake_once ? 0 : IORING_POLL_ADD_MULTI;
    sqe->poll32_events = POLLIN;
    sqe->user_data = WAKE;
    u->wake_armed = true;
}

/* The kernel's own threads, for what it cannot do without one (fsync, opening a FIFO): the default, four for each CPU,
 * would let a few calls that hang hold up all others. Where it cannot be set it stays. */
static void allow_threads(uring *u) {
    unsigned most[2] = { THREADS_MAX, 0 }; /* for files; for what may last for ever: as it is */
    (void)stel__sys_io_uring_register(u->ring.fd, IORING_REGISTER_IOWQ_MAX_WORKERS, most, 2);
}

/* The first submit or wait. */
STEL__COLD static int own(uring *u) {
    int rc = stel__ring_enable(&u->ring);
    if (rc < 0) return rc;
    stel__store_relaxed(&u->owner, (uintptr_t)pthread_self());
    allow_threads(u);
    arm_wake(u);
    return 0;
}

static int owned_submit(void *instance, stel_operation *op) {
    uring *u = instance;
    int rc = 0;
    if (STEL__UNLIKELY(!stel__ring_does(&u->ring, op->code))) return -EOPNOTSUPP;
    if (STEL__UNLIKELY(!stel__load_relaxed(&u->owner)) && (rc = own(u)) < 0) return rc;
    STEL__CHECK(is_owner(u));
    struct io_uring_sqe *sqe = owned_entry(u, &rc);
    if (STEL__UNLIKELY(!sqe)) return rc;
    begin(sqe, op);
    stel__count(&u->pending, 1);
    return 0;
}

/* Entries for what is on the inbox, as far as there is room. */
STEL__COLD static void owned_cancel_asked(uring *u) {
    int error;
    struct io_uring_sqe *sqe;
    while (stel__load_relaxed(&u->inbox_any) && (sqe = owned_entry(u, &error))) {
        stel__lock_take(&u->lock);
        stel_operation *op = take_asked(u);
        stel__lock_give(&u->lock);
        if (op)
            fill_cancel(sqe, op);
        else
            u->ring.sq_next--; /* not published: it was not needed */
    }
}

static void owned_cancel(void *instance, stel_operation *op) {
    uring *u = instance;
    stel__lock_take(&u->lock);
    bool asked = ask(u, op);
    stel__lock_give(&u->lock);
    if (!asked) return;
    if (is_owner(u))
        owned_cancel_asked(u);
    else
        uring_interrupt(u);
}

/* Submit what there is, and wait for a completion unless there is one already. */
static int owned_enter(uring *u, int64_t until) {
    stel__ring *r = &u->ring;
    stel__ring_publish(r);
    unsigned n = stel__ring_unsubmitted(r);
    /* Without the wake, or with cancels that had no room, nobody may sleep; a round is short then. */
    if (stel__ring_cqe(r) || !u->wake_armed || stel__load_relaxed(&u->inbox_any)) until = 0;
    if (until == 0 && n == 0 && !stel__ring_holds_back(r)) return 0;
    int rc = stel__ring_enter(r, n, until);
    if (STEL__LIKELY(rc >= 0) || n == 0 || until == 0 || rc == -EINTR || !passing(rc)) return rc;
    int64_t retry = stel__clock_now() + RETRY_NS; /* nothing was submitted, and nobody waited */
    return stel__ring_enter(r, 0, retry < until ? retry : until);
}

static int owned_wait(void *instance, stel_backend_event *events, int n, int64_t until) {
    uring *u = instance;
    if (STEL__UNLIKELY(!stel__load_relaxed(&u->owner))) {
        int rc = own(u);
        if (rc < 0) return rc;
    }
    STEL__CHECK(is_owner(u));
    for (;;) {
        bool woken = false;
        if (STEL__UNLIKELY(stel__load_relaxed(&u->inbox_any))) owned_cancel_asked(u);
        if (STEL__UNLIKELY(!u->wake_armed)) arm_wake(u);
        int rc = owned_enter(u, until);
        if (STEL__UNLIKELY(rc < 0) && rc != -ETIME && !passing(rc)) return rc;
        int filled = reap(u, events, n, &woken);
        if (filled || woken || until == 0 || rc == -EINTR) return filled ? filled : u->broken;
        if (until != STEL_FOREVER && stel__clock_now() >= until) return 0;
    }
}

/* ---- a ring that is shared ---- */

static int shared_create(void **instance, int batch) {
    int rc = uring_create(instance, batch, true, shared_flags, STEL__COUNT_OF(shared_flags));
    if (rc == 0) allow_threads(*instance);
    return rc;
}

/* Have the kernel take what was published, under the lock, with n entries to be taken. Another thread's call may take
 * ours and ours another's; what no call took is the next wait's. */
static void shared_flush(uring *u, unsigned n) {
    int rc = stel__ring_submit(&u->ring, n);
    if (STEL__LIKELY(rc == (int)n)) return;
    stel__lock_take(&u->lock);
    bool left = stel__ring_unsubmitted(&u->ring) > 0;
    stel__lock_give(&u->lock);
    if (left) uring_interrupt(u);
}

/* Under the lock: entries for what is on the inbox. */
static void shared_cancel_asked(uring *u) {
    struct io_uring_sqe *sqe;
    while (stel__load_relaxed(&u->inbox_any) && (sqe = stel__ring_sqe(&u->ring)))
        fill_cancel(sqe, take_asked(u));
    stel__ring_publish(&u->ring);
}

static int shared_submit(void *instance, stel_operation *op) {
    uring *u = instance;
    struct io_uring_sqe *sqe;
    unsigned n;
    if (STEL__UNLIKELY(!stel__ring_does(&u->ring, op->code))) return -EOPNOTSUPP;
    for (bool flushed = false;; flushed = true) {
        stel__lock_take(&u->lock);
        sqe = stel__ring_sqe(&u->ring);
        if (STEL__LIKELY(sqe != NULL)) break;
        stel__lock_give(&u->lock);
        if (flushed) return -EAGAIN;
        shared_flush(u, u->ring.sq_entries);
    }
    begin(sqe, op);
    (void)stel__add_relaxed(&u->pending, 1); /* a count: no partner */
    stel__ring_publish(&u->ring);
    n = stel__ring_unsubmitted(&u->ring);
    stel__lock_give(&u->lock);
    shared_flush(u, n);
    return 0;
}

static void shared_cancel(void *instance, stel_operation *op) {
    uring *u = instance;
    stel__lock_take(&u->lock);
    bool asked = ask(u, op);
    if (asked) shared_cancel_asked(u);
    unsigned n = stel__ring_unsubmitted(&u->ring);
    bool left = stel__load_relaxed(&u->inbox_any);
    stel__lock_give(&u->lock);
    if (!asked) return;
    shared_flush(u, n);
    if (left) uring_interrupt(u);
}

/* One look: what is there, and what was left over by others. */
static int shared_look(uring *u, stel_backend_event *events, int n, bool *woken) {
    uint64_t count;
    /* First: what comes after it signals again. */
    *woken = stel__sys_read(u->wake_fd, &count, sizeof count) > 0;
    stel__lock_take(&u->lock);
    if (STEL__UNLIKELY(stel__load_relaxed(&u->inbox_any))) shared_cancel_asked(u);
    unsigned left = stel__ring_unsubmitted(&u->ring);
    stel__lock_give(&u->lock);
    if (STEL__UNLIKELY(left || stel__ring_holds_back(&u->ring))) {
        int rc = stel__ring_enter(&u->ring, left, 0);
        if (rc < 0 && !passing(rc)) return rc;
        if (rc < 0) uring_interrupt(u);
    }
    int filled = reap(u, events, n, woken);
    if (STEL__UNLIKELY(stel__ring_cqe(&u->ring) || stel__ring_holds_back(&u->ring) ||
                       stel__load_relaxed(&u->inbox_any)))
        uring_interrupt(u); /* there is more */
    return filled;
}

static int shared_wait(void *instance, stel_backend_event *events, int n, int64_t until) {
    uring *u = instance;
    bool woken;
    int filled = shared_look(u, events, n, &woken);
    if (filled != 0 || until == 0 || woken) return filled;
    struct pollfd wake = { .fd = u->wake_fd, .events = POLLIN };
    int64_t ns = until == STEL_FOREVER ? 0 : until - stel__clock_now();
    if (ns < 0) ns = 0;
    struct timespec length = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    int rc = stel__sys_ppoll(&wake, 1, until == STEL_FOREVER ? NULL : &length, NULL);
    if (rc < 0 && rc != -EINTR) return rc;
    return shared_look(u, events, n, &woken);
}

int stel__io_uring_fd(void *instance) {
    return ((uring *)instance)->wake_fd;
}

/* ---- can it be had? ---- */

static const char *threads_in_words(unsigned flags) {
    if (flags & IORING_SETUP_DEFER_TASKRUN) return "single issuer, deferred task work";
    if (flags & IORING_SETUP_SINGLE_ISSUER) return "single issuer, cooperative task work";
    return flags & IORING_SETUP_COOP_TASKRUN ? "cooperative task work" : "task work by interrupts";
}

static const char *hint(int code) {
    if (code == -EPERM || code == -EACCES) return ", by kernel.io_uring_disabled or a seccomp filter";
    if (code == -ENOSYS) return ", or forbidden by a seccomp filter";
    if (code == -EOPNOTSUPP) return ", as this kernel's is too old";
    return code == -ENOMEM ? ", perhaps by RLIMIT_MEMLOCK" : "";
}

static int probe(char *why, size_t bytes, const unsigned *flag_sets, size_t n, const char *what) {
    uring u = { .wake_fd = -1 };
    const char *call = "io_uring_setup";
    int rc = stel__ring_open(&u.ring, 8, 16, flag_sets, n);
    unsigned flags = u.ring.setup_flags, count = 0;
    if (rc == 0) {
        call = "io_uring_enter";
        rc = stel__ring_enable(&u.ring);
        if (rc >= 0) rc = stel__ring_enter(&u.ring, 0, 0);
        for (unsigned code = 1; code < STEL_OPERATIONS; code++)
            count += stel__ring_does(&u.ring, code);
        if (rc >= 0 && !(stel__ring_does(&u.ring, STEL_OPERATION_POLL) && stel__ring_can_cancel(&u.ring)))
            rc = -EOPNOTSUPP;
        stel__ring_close(&u.ring);
    }
    if (rc < 0)
        (void)snprintf(why, bytes, "%s: %s%s", call, stel_strerror(rc), hint(rc));
    else
        (void)snprintf(why, bytes, "%s (%s), %u of %d operations", what, threads_in_words(flags), count,
                       STEL_OPERATIONS - 1);
    return rc < 0 ? rc : 0;
}

static int owned_probe(char *why, size_t bytes) {
    return probe(why, bytes, owned_flags, STEL__COUNT_OF(owned_flags), "a ring a worker");
}

static int shared_probe(char *why, size_t bytes) {
    return probe(why, bytes, shared_flags, STEL__COUNT_OF(shared_flags), "a ring for files");
}

const stel_backend_ops stel__io_uring_ops = {
    .size = sizeof(stel_backend_ops),
    .abi = STEL_BACKEND_ABI,
    .capabilities = STEL_BACKEND_COMPLETION | STEL_BACKEND_OWNED,
    .probe = owned_probe,
    .create = owned_create,
    .destroy = uring_destroy,
    .submit = owned_submit,
    .cancel = owned_cancel,
    .wait = owned_wait,
    .interrupt = uring_interrupt,
    .pending = uring_pending,
};

const stel_backend_ops stel__io_uring_files_ops = {
    .size = sizeof(stel_backend_ops),
    .abi = STEL_BACKEND_ABI,
    .capabilities = STEL_BACKEND_COMPLETION,
    .probe = shared_probe,
    .create = shared_create,
    .destroy = uring_destroy,
    .submit = shared_submit,
    .cancel = shared_cancel,
    .wait = shared_wait,
    .interrupt = uring_interrupt,
    .pending = uring_pending,
};
