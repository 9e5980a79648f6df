/* One waiter on many slots: what poll is made of.
 *
 * A waiter has one node of its own, so who waits on many slots brings an array of watches, each with a node. All of them
 * belong to one wait, that is to one sequence of the waiter's word: whoever takes a node off its slot's list wakes that
 * wait, the first to come wins, and the others' wakes do nothing. Nodes are touched under their slots' locks only; wakers
 * keep tickets, not nodes. So once every slot was visited and the node is off its list, the array is the caller's again.
 *
 *     look       mark every slot
 *     the system call that says that nothing is ready
 *     prepare    stel__wait_begin, once, before any node can be seen
 *     enlist     each slot under its lock, as slot_wait does it: generation, counters, registering. If something has
 *                moved: leave off, and do not sleep
 *     sleep      until woken, or the time has come
 *     delist     each slot that was enlisted in, under its lock. A node that is off the list was chosen, and its `which`
 *                says why: that is how the one that was closed is known among many
 *
 * The generation of a slot is sampled at the first look only. If it is another one later on, the number was closed in
 * between, and is not waited on any more whatever it may mean by then; unless the waiter was told that the number is its
 * own still (STEL__SLOT_CHANGED).
 *
 * A descriptor that the backend refuses with -EPERM (a regular file) is always ready for data, which the system call has
 * said; asked for nothing but errors it stays silent for ever. It is passed over.
 *
 * Locks: one at a time, so there is no order among slots. */
#include "poller/inside.h"

enum { IN_WORDS = POLLIN | POLLRDNORM | POLLRDBAND | POLLRDHUP, OUT_WORDS = POLLOUT | POLLWRNORM | POLLWRBAND };

int stel__slot_watch_begin(stel__slot_watch *watch, int fd, short events) {
    int error = 0;
    *watch = (stel__slot_watch){ .fd = fd, .events = events };
    if (fd < 0) return 0;
    watch->slot = stel__slot_at(fd, &error);
    if (!watch->slot) return error;
    watch->mark = stel__slot_look(watch->slot);
    return 0;
}

void stel__slots_look(stel__slot_watch *watches, size_t n) {
    for (size_t i = 0; i < n; i++) {
        stel__slot_watch *x = &watches[i];
        if (!x->slot) continue;
        uint32_t generation = x->mark.generation;
        x->mark = stel__slot_look(x->slot);
        x->mark.generation = generation;
    }
}

/* In the words that slots know. Hang-ups and errors wake whoever waits for anything. */
static short events_of(const stel__slot_watch *x) {
    int events = 0;
    if (x->events & IN_WORDS) events |= POLLIN;
    if (x->events & OUT_WORDS) events |= POLLOUT;
    if ((x->events & (POLLPRI | POLLRDBAND)) || !events) events |= POLLPRI;
    return (short)events;
}

/* 0: it is on the list or was passed over; STEL__SLOT_LOOK_AGAIN: do not sleep; or an error. p NULL: a plain thread. */
static int enlist(stel__slot_watch *x, const stel__waiter *w, stel__poller *p, unsigned flags) {
    stel__slot *s = x->slot;
    short events = events_of(x);
    int rc = 0;
    stel__lock_take(&s->lock);
    if (stel__load_relaxed(&s->generation) != x->mark.generation) {
        x->closed = true;
        rc = STEL__SLOT_LOOK_AGAIN;
    } else if (stel__slot_moved(s, x->mark, events)) {
        rc = STEL__SLOT_LOOK_AGAIN;
    } else if (p && !(flags & STEL__NODE_OPERATION)) {
        rc = stel__slot_watched(s, x->fd, p, events);
        if (rc == -EBADF) rc = STEL__SLOT_LOOK_AGAIN; /* the system call will say so */
    }
    if (rc == 0) {
        stel__slot_enlist(s, &x->node, w, stel__pollers_of(p), events, flags);
        x->listed = true;
    }
    stel__lock_give(&s->lock);
    return rc == -EPERM ? 0 : rc;
}

int stel__slots_enlist(stel__slot_watch *watches, size_t n, const stel__waiter *w, stel__poller *p, unsigned flags) {
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        if (watches[i].slot && !watches[i].closed) rc = enlist(&watches[i], w, p, flags);
    return rc;
}

void stel__slots_delist(stel__slot_watch *watches, size_t n) {
    for (size_t i = 0; i < n; i++) {
        stel__slot_watch *x = &watches[i];
        if (!x->listed) continue;
        x->listed = false;
        stel__lock_take(&x->slot->lock);
        if (!stel__slot_delist(x->slot, &x->node)) {
            if (x->node.which == STEL__SLOT_CLOSED) x->closed = true;
            /* under the lock that it changes under */
            if (x->node.which == STEL__SLOT_CHANGED) x->mark.generation = stel__load_relaxed(&x->slot->generation);
        }
        stel__lock_give(&x->slot->lock);
    }
}

/* Enlisted nowhere near completely: the wait is called off. */
static int call_off(stel__slot_watch *watches, size_t n, stel__waiter *w, int rc) {
    stel__slots_delist(watches, n);
    (void)stel__wait_drop(w);
    return rc < 0 ? rc : 0;
}

static int wait_fiber(stel__slot_watch *watches, size_t n, stel__waiter *w, int64_t until) {
    stel__poller *p = stel__poller_self();
    if (!stel__poller_can(p, STEL_BACKEND_READINESS)) return stel__slots_operate(watches, n, w, until);
    stel__wait_begin(w, STEL__WAIT_POLL);
    int rc = stel__slots_enlist(watches, n, w, p, 0);
    if (rc != 0) return call_off(watches, n, w, rc);
    rc = stel__wait_park_until(w, 0, until);
    stel__slots_delist(watches, n);
    return rc < 0 ? rc : 0;
}

static int wait_thread(stel__slot_watch *watches, size_t n, stel__waiter *w, int64_t until, struct pollfd *room) {
    int wake_fd = stel__thread_eventfd();
    if (wake_fd < 0) return wake_fd;
    stel__wait_begin(w, STEL__WAIT_POLL);
    stel__waiter_thread_eventfd(w, wake_fd);
    int rc = stel__slots_enlist(watches, n, w, NULL, 0);
    for (size_t i = 0; i < n; i++)
        room[i] = (struct pollfd){ .fd = watches[i].slot && !watches[i].closed ? watches[i].fd : -1,
                                   .events = watches[i].events };
    room[n] = (struct pollfd){ .fd = wake_fd, .events = POLLIN };
    int slept = rc == 0 ? stel__thread_sleep(w, room, n + 1, until) : rc < 0 ? rc : 0;
    stel__slots_delist(watches, n);
    (void)stel__thread_awake(w, wake_fd, slept);
    return slept;
}

int stel__slots_wait(stel__slot_watch *watches, size_t n, stel__waiter *w, int64_t until, struct pollfd *room) {
    return stel__waiter_is_thread(w) ? wait_thread(watches, n, w, until, room) : wait_fiber(watches, n, w, until);
}
