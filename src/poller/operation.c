/* Operations: what a backend does for a fiber that waits for its end (stel_operation, stellane/backend.h).
 *
 * Nouns
 *   completion  one operation that was submitted, on the stack of the fiber that waits; the operation's token is its address
 *   effort      the completions that one fiber waits for at the same time: one, or as many as stel_poll has descriptors
 *
 * A completion's life: pending -> done, by whoever takes the event from the backend (complete). A fiber leaves its effort
 * only when every completion is done: the kernel may write to the buffers until then, and the backend to the operation. So
 * what cuts a wait short (a limit of the caller's, a close, healing) makes the fiber cancel what is still pending and wait
 * again, uninterruptibly, for the ends that follow; an operation that was faster than its cancellation has happened, and
 * its result counts.
 *
 * The effort's lock orders all that. complete() sets the result, takes one from `pending` and reads the ticket under it, and
 * touches nothing of the fiber's stack after giving it back; the wake that follows names a ticket, and a late one is
 * harmless. The fiber changes the ticket under it, if anything is pending at all. cancel() is called under it for what is
 * not done, so the operation is there while the backend looks at it (the backend's event may be on its way, see cancel in
 * stellane/backend.h).
 *
 * On a slot. The waiter is on the slot's list meanwhile, marked as waiting for an operation: a close, a release, the stop of
 * acceptors and healing choose it as any other. Readiness events do not. It is enlisted before the operation begins, and a
 * slot that has moved on since the caller's mark is noticed then, under the slot's lock. No edge is counted and nothing is
 * registered: an operation looks at what is there when it begins.
 *
 * Healing: an operation keeps the file that it began with, also when the number comes to mean another. So heal.c wakes who
 * waits for long (HEAL), who cancels and begins anew; that is no new wait, so the intervals grow.
 *
 * Tried and dropped: a swap on the ticket instead of the lock (a second wait of the same effort needs ticket and count to
 * change together); a node of its own a completion in stel_poll (the watches have one). */
#include "poller/inside.h"
#include <string.h>

typedef struct effort {
    stel__lock lock;
    uint32_t pending;
    stel__ticket ticket;
} effort;

typedef struct completion {
    effort *of;
    stel_operation *operation;
    int32_t result;
    bool done;
} completion;

/* Who carries it out: a poller's backend, or the ring for files beside it. */
typedef struct agent {
    stel__poller *poller;
    struct stel__files *files; /* NULL: the backend */
} agent;

void stel__operation_complete(uint64_t token, int32_t result) {
    completion *c = (completion *)(uintptr_t)token;
    effort *e = c->of;
    stel__lock_take(&e->lock);
    c->result = result;
    c->done = true;
    e->pending--;
    stel__ticket ticket = e->ticket;
    stel__lock_give(&e->lock); /* the last touch */
    stel__wake(ticket, STEL__SLOT_COMPLETE);
}

static int begin(completion *c, effort *e, agent a, stel_operation *op) {
    *c = (completion){ .of = e, .operation = op };
    op->token = (uint64_t)(uintptr_t)c;
    op->backend[0] = op->backend[1] = op->backend[2] = 0;
    stel__lock_take(&e->lock);
    e->pending++;
    stel__lock_give(&e->lock);
    stel__poller_watch(a.poller, 1);
    int rc = a.files ? stel__files_submit(a.files, op) : a.poller->ops->submit(a.poller->instance, op);
    if (STEL__LIKELY(rc == 0)) return 0;
    stel__poller_watch(a.poller, -1);
    stel__lock_take(&e->lock);
    e->pending--;
    stel__lock_give(&e->lock);
    c->done = true;
    return rc;
}

/* Begin to wait for the next completion: false if there is none to come. */
static bool wait_again(effort *e, stel__waiter *w, enum stel__reason reason) {
    stel__ticket ticket = stel__wait_begin(w, reason);
    stel__lock_take(&e->lock);
    bool pending = e->pending > 0;
    e->ticket = ticket;
    stel__lock_give(&e->lock);
    if (!pending) (void)stel__wait_drop(w);
    return pending;
}

static void finish(effort *e, stel__waiter *w, enum stel__reason reason) {
    while (wait_again(e, w, reason))
        (void)stel__wait_park(w, STEL__PARK_UNINTERRUPTIBLE);
}

static void cancel(completion *c, const stel__poller *p) {
    if (!c->of) return; /* it never began */
    stel__lock_take(&c->of->lock);
    if (!c->done) p->ops->cancel(p->instance, c->operation);
    stel__lock_give(&c->of->lock);
}

/* ---- files: whatever can, to the end ---- */

ssize_t stel__operate(stel_operation *op, stel__waiter *w, enum stel__reason reason) {
    if (stel__waiter_is_thread(w)) return -EOPNOTSUPP;
    agent a = { .poller = stel__poller_self() };
    if (!stel__poller_can(a.poller, STEL_BACKEND_COMPLETION) && !(a.files = stel__files_of(a.poller)))
        return -EOPNOTSUPP;
    effort e = { .pending = 0 };
    completion c;
    e.ticket = stel__wait_begin(w, reason);
    int rc = begin(&c, &e, a, op);
    if (rc < 0) {
        (void)stel__wait_drop(w);
        return rc == -EAGAIN || rc == -ENOMEM ? -EOPNOTSUPP : rc; /* no room: another way is better than none */
    }
    (void)stel__wait_park(w, STEL__PARK_UNINTERRUPTIBLE);
    return c.result;
}

/* ---- descriptors ---- */

_Atomic bool stel__any_operates;

bool stel__this_one_operates(const stel__waiter *w) {
    return !stel__waiter_is_thread(w) && stel__poller_can(stel__poller_self(), STEL_BACKEND_COMPLETION);
}

/* Under the lock: 0, and w is on the list; or what slot_operate is to return. */
static ssize_t enter(stel__slot *s, stel__waiter *w, effort *e, const stel__poller *p, stel__slot_mark mark,
                     short events, unsigned flags) {
    if (stel__load_relaxed(&s->generation) != mark.generation) return -EBADF;
    if (stel__slot_moved(s, mark, events)) return STEL__LOOK_AFRESH;
    if ((flags & STEL__SLOT_ACCEPTOR) && stel_stopping()) return -ESHUTDOWN; /* as in slot.c */
    e->ticket = stel__wait_begin(w, stel__slot_reason(events, flags));
    stel__slot_enlist(s, &w->node, w, p->group, 0, flags | STEL__NODE_OPERATION);
    return 0;
}

/* How an operation that was on ended, from what ended the wait. */
static ssize_t outcome(stel__slot *s, const completion *c, stel__waiter *w, stel__slot_mark mark, int woken) {
    bool undone = c->result == -ECANCELED || c->result == -EINTR;
    if (woken == STEL__SLOT_CLOSED) {
        /* What it came to is of a file that nobody has any more. */
        if (c->operation->code == STEL_OPERATION_ACCEPT && c->result >= 0) stel__sys_close(c->result);
        return -EBADF;
    }
    if (c->result == -ETIMEDOUT) w->timed_out = 0; /* the peer's, not our deadline */
    if (!undone) return c->result;
    if (woken < 0) return woken;
    int which = stel__slot_outcome(s, mark, woken);
    return which < 0 ? which : STEL__LOOK_AFRESH;
}

static void leave(stel__slot *s, stel__waiter *w) {
    stel__lock_take(&s->lock);
    (void)stel__slot_delist(s, &w->node);
    stel__lock_give(&s->lock);
}

/* One life of it, until it is done or must begin anew (STEL__SLOT_HEAL in *woken). */
static ssize_t operate_once(stel__slot *s, stel_operation *op, stel__waiter *w, stel__slot_mark mark, unsigned flags,
                            int *woken) {
    short events = op->code == STEL_OPERATION_POLL   ? (short)op->flags
                   : op->code == STEL_OPERATION_SEND ? POLLOUT
                                                     : POLLIN;
    agent a = { .poller = stel__poller_self() };
    effort e = { .pending = 0 };
    completion c;
    stel__lock_take(&s->lock);
    ssize_t rc = enter(s, w, &e, a.poller, mark, events, flags);
    stel__lock_give(&s->lock);
    if (rc != 0) return rc;
    rc = begin(&c, &e, a, op);
    if (rc < 0) {
        leave(s, w);
        (void)stel__wait_drop(w);
        return rc;
    }
    *woken = stel__wait_park(w, 0);
    leave(s, w);
    if (STEL__UNLIKELY(*woken != STEL__SLOT_COMPLETE)) {
        cancel(&c, a.poller);
        finish(&e, w, stel__slot_reason(events, flags));
    }
    return outcome(s, &c, w, mark, *woken);
}

ssize_t stel__slot_operate(stel__slot *s, int fd, stel_operation *op, stel__waiter *w, stel__slot_mark mark,
                           unsigned flags) {
    op->fd = fd;
    for (;;) {
        int woken = 0;
        ssize_t rc = operate_once(s, op, w, mark, flags, &woken);
        if (STEL__LIKELY(rc != STEL__LOOK_AFRESH || woken != STEL__SLOT_HEAL)) return rc;
        flags |= STEL__SLOT_SAME_WAIT;
    }
}

/* ---- stel_poll ---- */

/* Begin one POLL for each watch that is listed. 0 or an error. */
static int begin_polls(const stel__slot_watch *watches, size_t n, effort *e, agent a, completion *cs,
                       stel_operation *ops) {
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        if (!watches[i].listed || rc < 0) continue;
        ops[i] = (stel_operation){ .code = STEL_OPERATION_POLL,
                                   .fd = watches[i].fd,
                                   .flags = (uint32_t)(uint16_t)watches[i].events };
        rc = begin(&cs[i], e, a, &ops[i]);
    }
    return rc;
}

/* What cannot be waited for has said so: it is passed over from now on, as its state does not change. */
static void pass_over(stel__slot_watch *watches, size_t n, const completion *cs) {
    for (size_t i = 0; i < n; i++)
        if (cs[i].operation && cs[i].result == -EINVAL) watches[i].slot = NULL;
}

int stel__slots_operate(stel__slot_watch *watches, size_t n, stel__waiter *w, int64_t until) {
    agent a = { .poller = stel__poller_self() };
    effort e = { .pending = 0 };
    completion *cs = stel__alloc(n * (sizeof *cs + sizeof(stel_operation)) + 1);
    if (!cs) return -ENOMEM;
    stel_operation *ops = (stel_operation *)(void *)(cs + n);
    memset(cs, 0, n * sizeof *cs);
    e.ticket = stel__wait_begin(w, STEL__WAIT_POLL);
    int rc = stel__slots_enlist(watches, n, w, a.poller, STEL__NODE_OPERATION);
    if (rc == 0) rc = begin_polls(watches, n, &e, a, cs, ops);
    if (rc == 0)
        rc = stel__wait_park_until(w, 0, until);
    else
        (void)stel__wait_drop(w);
    stel__slots_delist(watches, n);
    for (size_t i = 0; i < n; i++)
        cancel(&cs[i], a.poller);
    finish(&e, w, STEL__WAIT_POLL);
    pass_over(watches, n, cs);
    stel__free(cs);
    return rc < 0 ? rc : 0;
}
