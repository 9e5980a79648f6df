/* poll: many descriptors at once.
 *
 * Looking is poll(2)'s own business, with no time to wait: it knows what an event is and what is no descriptor. Only
 * when it finds nothing, the caller waits on the slots of all of them (poller/slot_many.c), and looks again when one has
 * seen an edge. The edges of slots are only a reason to look: they may be for somebody else's bytes.
 *
 * The watches, one a descriptor, lie on the heap. They are linked into the lists of slots that others walk; a small
 * array on the stack would do for that, but stacks are what a runtime may one day move out of the way of a fiber that
 * sleeps for long, and a poll that sleeps is just that. An allocation is nothing beside parking and three system calls,
 * and a poll that finds something at once makes none. */
#include "io/call.h"

static int look(struct pollfd *fds, nfds_t count) {
    struct timespec no_time = { 0, 0 };
    int rc;
    do
        rc = stel__sys_ppoll(fds, count, &no_time, NULL);
    while (rc == -EINTR);
    return rc;
}

/* The same, but what was closed under the wait is no descriptor, whatever its number means by now. */
static int look_past_the_closed(struct pollfd *fds, nfds_t count, const stel__slot_watch *watches) {
    int rc = look(fds, count);
    for (nfds_t i = 0; rc >= 0 && i < count; i++) {
        if (!watches[i].closed) continue;
        if (!fds[i].revents) rc++;
        fds[i].revents = POLLNVAL;
    }
    return rc;
}

/* The wait ended at some limit: 1 the call's own, 0 none that counts (the end of a shield), or the caller's code. */
static int whose_limit(stel__waiter *w, int64_t until) {
    int64_t now = stel__clock_now();
    w->timed_out = 0;
    /* The one that came first, not the one that we happen to see first. relaxed: our own */
    if (until <= now && until <= stel__load_relaxed(&w->deadline)) return 1;
    return stel__wait_check(w);
}

static int wait_and_look(struct pollfd *fds, nfds_t count, stel__slot_watch *watches, stel__waiter *w, int64_t until) {
    struct pollfd *room = (struct pollfd *)(void *)(watches + count);
    for (bool over = false;;) {
        stel__slots_look(watches, count);
        int rc = look_past_the_closed(fds, count, watches);
        if (rc != 0 || over) return rc;
        rc = stel__slots_wait(watches, count, w, until, room);
        if (rc == -ETIMEDOUT) {
            rc = whose_limit(w, until);
            over = rc == 1;
        }
        if (rc < 0) return rc;
    }
}

int stel_poll(struct pollfd *fds, nfds_t count, int timeout_ms) {
    if (STEL__UNLIKELY(stel__io_forked())) return -EPERM;
    stel__waiter *w = stel__waiter_self();
    if (!w) return -ENOMEM;
    int rc = stel__wait_check(w);
    if (rc < 0) return rc;
    rc = look(fds, count);
    if (rc != 0 || timeout_ms == 0) {
        stel__wait_spend(w);
        return rc;
    }
    int64_t until = timeout_ms < 0 ? STEL_FOREVER : stel__time_add(stel__clock_now(), STEL_MS(timeout_ms));
    size_t room = count * sizeof(stel__slot_watch) + (count + 1) * sizeof(struct pollfd);
    stel__slot_watch *watches = stel__alloc(room); /* poll(2) has said that count is not too large */
    if (!watches) return -ENOMEM;
    for (nfds_t i = 0; i < count && rc == 0; i++)
        rc = stel__slot_watch_begin(&watches[i], fds[i].fd, fds[i].events);
    if (rc == 0) rc = wait_and_look(fds, count, watches, w, until);
    stel__free(watches);
    return rc;
}
