/* How a plain thread waits on descriptors: asleep in ppoll(2) on the descriptors themselves and on an eventfd of the
 * thread's own, through which whoever closes the number wakes it. Nothing is registered with a backend: the thread may
 * have no runtime.
 *
 * The eventfd is exact. A waker writes to it if and only if it won the wait, so a thread that learns that it was woken
 * reads it, waiting for the write if that is still on its way; afterwards nobody is about to write, and the eventfd may
 * be closed when the thread ends.
 *
 * Healing: ppoll holds on to the file that the number meant when it was called. So it is called afresh, after 100 ms,
 * 200 ms and so on up to 12.8 s, and then sees what the number means now. */
#include "poller/inside.h"
#include <sys/eventfd.h>

enum { FIRST_NS = 100000000, STEPS_MAX = 7 };

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key; /* holds the eventfd plus one */
static int key_error;

static void close_eventfd(void *value) {
    stel__sys_close((int)(intptr_t)value - 1);
}

static void make_key(void) {
    key_error = pthread_key_create(&key, close_eventfd);
}

int stel__thread_eventfd(void) {
    pthread_once(&key_once, make_key);
    if (key_error) return -key_error;
    intptr_t value = (intptr_t)pthread_getspecific(key);
    if (value) return (int)value - 1;
    int fd = stel__sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return fd;
    int rc = pthread_setspecific(key, (void *)(intptr_t)(fd + 1));
    if (rc) {
        stel__sys_close(fd);
        return -rc;
    }
    return fd;
}

/* When the caller's limits may cut it short: a point in time after now, at which stel__wait_check is asked again. */
static int64_t next_limit(const stel__waiter *w, int64_t now) {
    int64_t deadline = stel__load_relaxed(&w->deadline), shield = stel__load_relaxed(&w->shield_until); /* our own */
    int64_t until = STEL_FOREVER;
    if (deadline > now) until = deadline;
    if (shield > now && shield < until) until = shield;
    return until;
}

int stel__thread_sleep(stel__waiter *w, struct pollfd *fds, nfds_t n, int64_t until) {
    for (int step = 0;; step += step < STEPS_MAX) {
        int64_t now = stel__clock_now(), again = now + ((int64_t)FIRST_NS << step), limit = next_limit(w, now);
        if (until < limit) limit = until;
        if (again < limit) limit = again;
        int64_t ns = limit > now ? limit - now : 0;
        struct timespec length = { ns / 1000000000, ns % 1000000000 };
        int rc = stel__sys_ppoll(fds, n, &length, NULL);
        if (rc < 0 && rc != -EINTR) return rc;
        if (rc > 0) return 0;
        if (stel__clock_now() >= until) return -ETIMEDOUT;
        rc = stel__wait_check(w);
        if (rc < 0) return rc;
    }
}

static void drain(int wake_fd) {
    uint64_t count;
    while (stel__sys_read(wake_fd, &count, sizeof count) == -EAGAIN) {
        struct pollfd p = { .fd = wake_fd, .events = POLLIN };
        (void)!stel__sys_ppoll(&p, 1, NULL, NULL);
    }
}

int stel__thread_awake(stel__waiter *w, int wake_fd, int code) {
    int rc = stel__waiter_thread_finish(w, code < 0 ? code : -EAGAIN);
    if (rc >= 0) drain(wake_fd);
    stel__waiter_thread_eventfd(w, -1);
    return rc;
}

int stel__slot_wait_thread(stel__slot *s, int fd, stel__waiter *w, stel__slot_mark mark, short events,
                           enum stel__reason reason) {
    int wake_fd = stel__thread_eventfd();
    if (wake_fd < 0) return wake_fd;
    int rc = stel__wait_check(w);
    if (rc < 0) return rc;

    stel__lock_take(&s->lock);
    if (stel__load_relaxed(&s->generation) != mark.generation)
        rc = -EBADF;
    else if (stel__slot_moved(s, mark, events))
        rc = STEL__SLOT_LOOK_AGAIN;
    if (rc == 0) {
        stel__wait_begin(w, reason);
        stel__waiter_thread_eventfd(w, wake_fd);
        stel__slot_enlist(s, &w->node, w, NULL, events, 0);
    }
    stel__lock_give(&s->lock);
    if (rc != 0) return rc;

    struct pollfd fds[2] = { { .fd = fd, .events = events }, { .fd = wake_fd, .events = POLLIN } };
    int slept = stel__thread_sleep(w, fds, 2, STEL_FOREVER);
    if (slept == 0 && !fds[1].revents && (fds[0].revents & POLLNVAL)) slept = -EBADF;
    /* Off the list first: after that nobody can choose us any more, and the end tells whether somebody has. */
    stel__lock_take(&s->lock);
    (void)stel__slot_delist(s, &w->node);
    stel__lock_give(&s->lock);
    rc = stel__thread_awake(w, wake_fd, slept);
    if (rc >= 0) return stel__slot_outcome(s, mark, rc);
    if (slept < 0) return slept;
    return stel__slot_outcome(s, mark, fds[0].revents ? fds[0].revents & 0x3fff : STEL__SLOT_LOOK_AGAIN);
}
