/* Slots: where waiters park until a descriptor is ready.
 *
 * Nouns
 *   slot        one for each descriptor number of the process, at a fixed place for ever (type-stable: a late event or
 *               waker finds a slot, never freed memory), in segments made when a number of theirs is first used
 *   generation  which life of the number. A new life begins when the number is made by a call of ours and when it is
 *               closed by one. A registration with a backend carries number and generation as its token; events of an
 *               earlier life are dropped. So a reused number never wakes an old waiter
 *   edge        a backend's event. Each bumps ready_in or ready_out or both, whether or not anybody waits
 *   mark        generation and counters, sampled before a system call that may say EAGAIN
 *   hint        drained == ready_in: the last read left nothing and no edge came since, so a read need not be tried
 *
 * Life of a registration: none -> armed, by the first fiber that has to wait (arm). armed -> none: close, a new life,
 * the poller's end (forget_poller). It is for everything (in, out, urgent, hang-up), edge-triggered, and stays while
 * the number lives: one system call a descriptor. A fiber of another runtime registers the number with its own poller
 * too; then both report, and either wakes everybody. Backends that are ONESHOT are armed for each wait with what all
 * waiters want, and again for those whom an event leaves waiting. Where each worker has a poller, the one where the
 * number is registered is its home, and wakes its fibers there; when MOVES_AFTER waits in a row came from elsewhere the
 * registration moves there (registering reports what is ready, so nothing is missed in between). Backends that only carry
 * out operations know no registrations: operation.c.
 *
 * "Would wait", then parked. Nothing may slip between a system call that says EAGAIN and the waiter on the list:
 *
 *     waiter                                     event
 *     1 mark = look(slot)                        a take the lock
 *     2 system call: EAGAIN                      b bump the counter
 *     3 take the lock                            c take the matching waiters off the list
 *     4 counter moved? give it back, go to 1     d give the lock back, wake them
 *     5 register if it is not; enlist
 *     6 give the lock back, park
 *
 * The kernel reports an edge after the data is there. Data that came before 2 is seen by 2. Data that comes after 2
 * makes an edge, and b comes either before 4 (then 4 sees it, for 1 was before 2) or after 6 (then c finds the waiter).
 * If the number is not registered there is no edge, but registering in 5 reports what is ready by then.
 *
 * Close, and numbers that change hands. stel_close visits the slot twice. Before close(2): new generation, all waiters
 * are told -EBADF. A waiter that took its mark before sees at 4 that the generation moved. One that comes in the middle
 * (wrong use, a race with the close in any case) may park on a number that is about to go away: the visit after
 * close(2) makes everybody look again. If by then a call of ours has made the number anew, that call has already done
 * so.
 *
 * Numbers closed, or replaced by dup2, behind our back: heal.c. A number that we believe unregistered but the backend
 * knows (its file lives on under another number, and came back to this one) is taken out and put in again, as its token
 * is old.
 *
 * Locks: one a slot, held for the list and for registering (a system call, but once a descriptor); stel__wake is called
 * after it is given back as a rule. Pairs: generation, ready_in and ready_out are stored (release) under the lock and
 * loaded (acquire) by stel__slot_look; a segment is published by slot_make's swap and loaded by slot_at.
 *
 * Dropped: a list for each direction (one list with masks is shorter, and nearly always has at most one waiter);
 * closing under the lock (close may linger); taking closed numbers out of the epoll instance first (a system call for
 * each, needed only for files that live on). */
#include "poller/inside.h"
#include <fcntl.h>
#include <netinet/in.h>

_Static_assert(sizeof(stel__slot) == STEL__CACHE_LINE, "a slot is a cache line");

enum { READABLE = POLLIN | POLLPRI | POLLRDHUP | POLLHUP | POLLERR, WRITABLE = POLLOUT | POLLHUP | POLLERR };
enum { ASKABLE = POLLIN | POLLOUT | POLLPRI };
enum { MOVES_AFTER = 8 };

_Atomic(stel__slot *) stel__slot_segments[STEL__SLOT_SEGMENTS];
_Atomic int stel__slot_segments_end;

/* ---- the table ---- */

STEL__COLD stel__slot *stel__slot_make(int fd, int *error) {
    if (fd < 0) {
        *error = -EBADF;
        return NULL;
    }
    if (fd >= STEL__SLOT_SEGMENT * STEL__SLOT_SEGMENTS) {
        *error = stel__sys_fcntl_getfl(fd) < 0 ? -EBADF : -EMFILE; /* as a rule it is no descriptor */
        return NULL;
    }
    stel__fork_watch(); /* there may be no runtime that has done so */
    _Atomic(stel__slot *) *place = &stel__slot_segments[fd / STEL__SLOT_SEGMENT];
    stel__slot *mine = stel__alloc_aligned(STEL__CACHE_LINE, STEL__SLOT_SEGMENT * sizeof *mine);
    if (!mine) {
        *error = -ENOMEM;
        return NULL;
    }
    for (int i = 0; i < STEL__SLOT_SEGMENT; i++)
        stel__store_relaxed(&mine[i].ready_in, 1); /* not equal to drained */
    stel__slot *segment = NULL;
    if (stel__cas_acq_rel(place, &segment, mine)) /* slot_at */
        segment = mine;
    else
        stel__free(mine);
    int end = stel__load_relaxed(&stel__slot_segments_end), need = fd / STEL__SLOT_SEGMENT + 1;
    while (end < need && !stel__cas_acq_rel(&stel__slot_segments_end, &end, need)) /* for the walks of heal.c */
        ;
    return &segment[fd % STEL__SLOT_SEGMENT];
}

/* ---- the list; all under the lock ---- */

static void take_off(stel__slot *s, stel__node *n) {
    stel__list_remove(&s->waiters, &n->link);
    n->flags &= (uint16_t)~STEL__NODE_QUEUED;
    if (!s->waiters.head) stel__store_relaxed(&s->newest, 0);
}

bool stel__slot_delist(stel__slot *s, stel__node *n) {
    if (!(n->flags & STEL__NODE_QUEUED)) return false;
    take_off(s, n);
    return true;
}

void stel__slot_choose(stel__slot *s, stel__wakes *wakes, bool (*chosen)(const stel__node *, const void *),
                       const void *argument) {
    stel__link *next;
    for (stel__link *l = s->waiters.head; l; l = next) {
        next = l->next;
        stel__node *n = STEL__CONTAINER(l, stel__node, link);
        if (chosen && !chosen(n, argument)) continue;
        stel__ticket ticket = stel__node_ticket(n);
        take_off(s, n);
        n->which = wakes->which; /* for who has many nodes: each may be taken off for a reason of its own */
        if (wakes->n < STEL__WAKES_ROOM)
            wakes->tickets[wakes->n++] = ticket;
        else
            stel__wake(ticket, wakes->which);
    }
}

void stel__wakes_pay(stel__wakes *wakes) {
    for (unsigned i = 0; i < wakes->n; i++)
        stel__wake(wakes->tickets[i], wakes->which);
}

void stel__slot_new_life(stel__slot *s, stel__wakes *wakes) {
    /* release: pair with stel__slot_look. The counters move too, so that no hint survives. */
    stel__store_release(&s->generation, stel__load_relaxed(&s->generation) + 1);
    stel__store_release(&s->ready_in, stel__load_relaxed(&s->ready_in) + 1);
    stel__store_release(&s->ready_out, stel__load_relaxed(&s->ready_out) + 1);
    stel__store_relaxed(&s->facts, STEL__SLOT_UNKNOWN);
    if (s->armed) stel__poller_watch(s->armed, -1);
    s->armed = NULL;
    stel__slot_choose(s, wakes, NULL, NULL);
}

bool stel__slot_moved(const stel__slot *s, stel__slot_mark mark, short events) {
    /* relaxed: under the lock that they are written under */
    return ((events & (POLLIN | POLLPRI)) && stel__load_relaxed(&s->ready_in) != mark.ready_in) ||
           ((events & POLLOUT) && stel__load_relaxed(&s->ready_out) != mark.ready_out);
}

/* ---- events ---- */

static bool waits_for(const stel__node *n, const void *events) {
    return (n->flags & *(const uint16_t *)events & STEL__NODE_EVENTS) != 0;
}

/* A registration for one event is used up; some wait for others. Under the lock. */
static void arm_for_the_rest(stel__slot *s, int fd, stel__wakes *wakes) {
    short events = stel__slot_wanted(s);
    if (!events || stel__poller_arm(s->armed, fd, events, stel__slot_token(s, fd)) == 0) return;
    wakes->which = STEL__SLOT_LOOK_AGAIN; /* their own calls will say why */
    stel__slot_choose(s, wakes, NULL, NULL);
}

/* NULL: a token that no slot has given. */
static stel__slot *slot_of(uint64_t token) {
    unsigned n = (uint32_t)token;
    if (STEL__UNLIKELY(n >= (unsigned)STEL__SLOT_SEGMENT * STEL__SLOT_SEGMENTS)) return NULL;
    stel__slot *segment = stel__load_acquire(&stel__slot_segments[n / STEL__SLOT_SEGMENT]); /* slot_make */
    return segment ? &segment[n % STEL__SLOT_SEGMENT] : NULL;
}

void stel__slot_expect(uint64_t token) {
    const stel__slot *s = slot_of(token);
    if (s) STEL__PREFETCH(s);
}

void stel__slot_expect_waiter(uint64_t token) {
    stel__slot *s = slot_of(token);
    uint32_t newest = s ? stel__load_relaxed(&s->newest) : 0; /* a hint */
    if (newest) stel__waiter_expect(newest - 1);
}

void stel__slot_event(uint64_t token, int32_t events) {
    int fd = (int)(uint32_t)token;
    uint32_t generation = (uint32_t)(token >> 32);
    stel__slot *s = slot_of(token);
    if (!s) return;
    stel__wakes wakes;
    wakes.n = 0; /* the rest of it is not to be cleared each time */
    wakes.which = (uint16_t)(events & 0x3fff);
    stel__lock_take(&s->lock);
    if (stel__load_relaxed(&s->generation) == generation) {
        /* A waiter for urgent data is woken by any hang-up as well. */
        uint16_t for_whom = (uint16_t)(events & ASKABLE);
        if (events & (POLLHUP | POLLERR)) for_whom |= ASKABLE;
        if (events & POLLRDHUP) for_whom |= POLLIN;
        /* release: pair with stel__slot_look */
        if (events & READABLE) stel__store_release(&s->ready_in, stel__load_relaxed(&s->ready_in) + 1);
        if (events & WRITABLE) stel__store_release(&s->ready_out, stel__load_relaxed(&s->ready_out) + 1);
        if (events & (POLLRDHUP | POLLHUP | POLLERR | POLLPRI)) stel__or_acq_rel(&s->facts, STEL__SLOT_NO_HINT);
        stel__slot_choose(s, &wakes, waits_for, &for_whom);
        if (s->armed && stel__poller_can(s->armed, STEL_BACKEND_ONESHOT)) arm_for_the_rest(s, fd, &wakes);
    } else {
        s->strayed = true; /* for heal.c */
    }
    stel__lock_give(&s->lock);
    stel__wakes_pay(&wakes);
}

/* ---- waiting ---- */

/* Under the lock. */
static int arm(stel__slot *s, int fd, stel__poller *p, short events) {
    uint64_t token = stel__slot_token(s, fd);
    int rc = stel__poller_arm(p, fd, events, token);
    if (rc == -EEXIST) {
        /* Left over from an earlier life, with an old token; or from before a fiber of another runtime waited. */
        (void)stel__poller_disarm(p, fd);
        rc = stel__poller_arm(p, fd, events, token);
    }
    if (rc < 0) return rc;
    if (s->armed != p) {
        if (s->armed && s->armed->group == p->group) stel__poller_watch(s->armed, -1);
        stel__poller_watch(p, 1);
    }
    s->armed = p;
    s->away = 0;
    s->strayed = false;
    return 0;
}

short stel__slot_wanted(const stel__slot *s) {
    unsigned events = 0;
    for (const stel__link *l = s->waiters.head; l; l = l->next)
        events |= STEL__CONTAINER(l, const stel__node, link)->flags;
    return (short)(events & STEL__NODE_EVENTS);
}

int stel__slot_watched(stel__slot *s, int fd, stel__poller *p, short events) {
    stel__poller *home = s->armed;
    bool elsewhere = home && home != p && home->group == p->group, oneshot = stel__poller_can(p, STEL_BACKEND_ONESHOT);
    if (STEL__LIKELY(home == p)) {
        s->away = 0;
        if (!oneshot) return 0;
    } else if (elsewhere && ++s->away < MOVES_AFTER) {
        if (!oneshot) return 0;
        p = home;
    }
    int rc = arm(s, fd, p, (short)(events | stel__slot_wanted(s)));
    if (rc == 0 && elsewhere && p != home)
        (void)stel__poller_disarm(home, fd); /* it has moved; both report until here */
    return rc;
}

enum stel__reason stel__slot_reason(short events, unsigned flags) {
    if (flags & STEL__SLOT_CHILD) return STEL__WAIT_CHILD;
    if ((events & POLLOUT) == 0) return STEL__WAIT_FD_IN;
    return events & (POLLIN | POLLPRI) ? STEL__WAIT_FD_ANY : STEL__WAIT_FD_OUT;
}

/* The fiber's own part of a wait, under the lock: 0 when w is on the list, else what slot_wait is to return. */
static int enter(stel__slot *s, int fd, stel__waiter *w, stel__poller *p, stel__slot_mark mark, short events,
                 unsigned flags) {
    if (stel__load_relaxed(&s->generation) != mark.generation) return -EBADF;
    if (stel__slot_moved(s, mark, events)) return STEL__SLOT_LOOK_AGAIN;
    /* Under the lock: wake_acceptors visits this slot after the runtime has begun to stop, so either it finds us on
     * the list or we see it here. */
    if ((flags & STEL__SLOT_ACCEPTOR) && stel_stopping()) return -ESHUTDOWN;
    if (STEL__LIKELY(s->armed == p && !stel__poller_can(p, STEL_BACKEND_ONESHOT))) {
        s->away = 0;
    } else {
        int rc = stel__slot_watched(s, fd, p, events);
        if (rc < 0) return rc;
    }
    stel__wait_begin(w, stel__slot_reason(events, flags));
    stel__slot_enlist(s, &w->node, w, p->group, events, flags);
    return 0;
}

int stel__slot_outcome(stel__slot *s, stel__slot_mark mark, int which) {
    if (which == STEL__SLOT_CHANGED) return STEL__SLOT_LOOK_AGAIN;
    if (which == STEL__SLOT_CLOSED) return -EBADF;
    /* Woken in the number's life, but not running before its end: what it is now is none of our business. acquire:
     * new_life */
    return stel__load_acquire(&s->generation) == mark.generation ? which : -EBADF;
}

STEL__NOINLINE static int wait_by_operation(stel__slot *s, int fd, stel__waiter *w, stel__slot_mark mark, short events,
                                            unsigned flags) {
    stel_operation op = { .code = STEL_OPERATION_POLL, .flags = (uint32_t)(uint16_t)events };
    ssize_t rc = stel__slot_operate(s, fd, &op, w, mark, flags);
    if (rc == STEL__LOOK_AFRESH) return STEL__SLOT_LOOK_AGAIN;
    return rc == -EINVAL ? -EPERM : (int)rc; /* the kernel's word for what is never waited for */
}

/* By a limit of the waiter's own. Chosen at the last moment or not, nothing was taken that would be lost with us. */
STEL__COLD static int cut_short(stel__slot *s, stel__waiter *w, int code) {
    stel__lock_take(&s->lock);
    (void)stel__slot_delist(s, &w->node);
    stel__lock_give(&s->lock);
    return code;
}

/* A fiber sleeps below this frame, so what it does not need is done elsewhere. */
int stel__slot_wait(stel__slot *s, int fd, stel__waiter *w, stel__slot_mark mark, short events, unsigned flags) {
    STEL__CHECK((events & ASKABLE) != 0 && (events & ~ASKABLE) == 0);
    if (STEL__UNLIKELY(stel__load_relaxed(&stel__forked))) return -EPERM; /* no partner: set before the child runs */
    if (STEL__UNLIKELY(stel__waiter_is_thread(w)))
        return stel__slot_wait_thread(s, fd, w, mark, events, stel__slot_reason(events, flags));
    stel__poller *p = stel__poller_self();
    if (STEL__UNLIKELY(!stel__poller_can(p, STEL_BACKEND_READINESS)))
        return wait_by_operation(s, fd, w, mark, events, flags);
    stel__lock_take(&s->lock);
    int rc = enter(s, fd, w, p, mark, events, flags);
    stel__lock_give(&s->lock);
    if (STEL__UNLIKELY(rc != 0)) return rc;
    rc = stel__wait_park(w, 0);
    return STEL__LIKELY(rc >= 0) ? stel__slot_outcome(s, mark, rc) : cut_short(s, w, rc);
}

/* ---- a number's life ---- */

int stel__slot_made_by_us(int fd, unsigned facts) {
    int error;
    stel__slot *s = stel__slot_at(fd, &error);
    if (!s) return error;
    stel__wakes wakes = { .n = 0, .which = STEL__SLOT_CLOSED };
    stel__lock_take(&s->lock);
    stel__slot_new_life(s, &wakes);
    stel__store_relaxed(&s->facts, facts); /* a hint to whoever has got the number since */
    stel__lock_give(&s->lock);
    stel__wakes_pay(&wakes);
    return 0;
}

int stel__slot_close(int fd) {
    int error;
    stel__slot *s = stel__slot_at(fd, &error);
    if (!s) return error == -EBADF ? error : stel__sys_close(fd);
    stel__wakes closed = { .n = 0, .which = STEL__SLOT_CLOSED };
    stel__lock_take(&s->lock);
    stel__slot_new_life(s, &closed);
    uint32_t generation = stel__load_relaxed(&s->generation);
    stel__lock_give(&s->lock);
    stel__wakes_pay(&closed);

    int rc = stel__sys_close(fd);

    stel__wakes strayed = { .n = 0, .which = STEL__SLOT_CHANGED };
    stel__lock_take(&s->lock);
    if (stel__load_relaxed(&s->generation) == generation) {
        if (s->armed) stel__poller_watch(s->armed, -1);
        s->armed = NULL;
        stel__slot_choose(s, &strayed, NULL, NULL);
    }
    stel__lock_give(&s->lock);
    stel__wakes_pay(&strayed);
    return rc;
}

static int find_out(int fd, unsigned *facts) {
    mode_t kind;
    int rc = stel__sys_kind(fd, &kind);
    if (rc < 0) return rc;
    int flags = stel__sys_fcntl_getfl(fd);
    if (flags < 0) return flags;
    unsigned found = STEL__SLOT_OTHER;
    if (S_ISREG(kind) || S_ISDIR(kind) || S_ISBLK(kind)) {
        found = STEL__SLOT_FILE;
    } else if (S_ISSOCK(kind)) {
        int type = 0, protocol = 0;
        socklen_t bytes = sizeof type;
        rc = stel__sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes);
        if (rc < 0) return rc;
        bytes = sizeof protocol;
        rc = stel__sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &bytes);
        if (rc < 0) return rc;
        found = type != SOCK_STREAM ? STEL__SLOT_PACKET : protocol == IPPROTO_TCP ? STEL__SLOT_TCP : STEL__SLOT_STREAM;
    }
    *facts = found | (flags & O_NONBLOCK ? STEL__SLOT_NONBLOCK : 0u);
    return 0;
}

int stel__slot_probe(stel__slot *s, int fd, unsigned *facts) {
    uint32_t generation = stel__load_acquire(&s->generation); /* new_life */
    int rc = find_out(fd, facts);
    if (rc < 0) return rc;
    stel__lock_take(&s->lock);
    if (stel__load_relaxed(&s->generation) == generation) {
        /* Somebody may have been faster; two who looked at different files behind one number must not mix them. */
        unsigned known = stel__load_relaxed(&s->facts);
        if ((known & STEL__SLOT_KIND) != STEL__SLOT_UNKNOWN)
            *facts = known;
        else
            stel__or_acq_rel(&s->facts, *facts);
    }
    stel__lock_give(&s->lock);
    return 0;
}

void stel__slot_forget(stel__slot *s) {
    stel__wakes wakes = { .n = 0, .which = STEL__SLOT_CHANGED };
    stel__lock_take(&s->lock);
    stel__slot_new_life(s, &wakes);
    stel__lock_give(&s->lock);
    stel__wakes_pay(&wakes);
}

int stel__slot_release(int fd) {
    int error;
    stel__slot *s = stel__slot_at(fd, &error);
    if (!s) return fd < 0 ? error : 0; /* nothing is known of it */
    stel__wakes wakes = { .n = 0, .which = STEL__SLOT_CHANGED };
    stel__lock_take(&s->lock);
    /* Taken out of the backend as well: the file may live on under another number, and report for ever. Under the lock,
     * as a poller that goes away visits the slot first. If the number means another file by now there is nothing to
     * take out, and no harm. */
    if (s->armed) (void)stel__poller_disarm(s->armed, fd);
    stel__slot_new_life(s, &wakes);
    stel__lock_give(&s->lock);
    stel__wakes_pay(&wakes);
    return 0;
}
