/* The epoll backend: one epoll instance, every descriptor in it once, edge-triggered, for everything.
 *
 * Interrupting: an eventfd of its own, edge-triggered too, so that it never needs to be read: each write is an edge of
 * its own, and one that comes while nobody waits makes the next wait return at once. The counter would be full after
 * 2^64 - 2 interrupts.
 *
 * Timeouts are given as lengths, so a wait starts with a look at the clock. Kernels before 5.11 know milliseconds only:
 * the seam rounds up there. */
#include "poller/inside.h"
#include <sys/eventfd.h>

_Static_assert(EPOLLIN == POLLIN && EPOLLPRI == POLLPRI && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
                   EPOLLHUP == POLLHUP && EPOLLRDHUP == POLLRDHUP,
               "epoll's bits are poll's");

struct epoll {
    int epoll_fd, wake_fd;
    int room; /* for so many events */
    struct epoll_event *events;
};

static const uint64_t wake_token = UINT64_MAX;

static void epoll_destroy(void *instance) {
    struct epoll *e = instance;
    if (e->wake_fd >= 0) stel__sys_close(e->wake_fd);
    if (e->epoll_fd >= 0) stel__sys_close(e->epoll_fd);
    stel__free(e->events);
    stel__free(e);
}

static int epoll_create_instance(void **instance, int batch) {
    if (batch < 1) return -EINVAL;
    struct epoll *e = stel__alloc(sizeof *e);
    if (!e) return -ENOMEM;
    e->epoll_fd = e->wake_fd = -1;
    e->room = batch;
    e->events = stel__alloc((size_t)batch * sizeof e->events[0]);
    if (!e->events) {
        epoll_destroy(e);
        return -ENOMEM;
    }
    int rc = e->epoll_fd = stel__sys_epoll_create1(EPOLL_CLOEXEC);
    if (rc >= 0) rc = e->wake_fd = stel__sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (rc >= 0) {
        struct epoll_event interest = { .events = EPOLLIN | EPOLLET, .data.u64 = wake_token };
        rc = stel__sys_epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, e->wake_fd, &interest);
    }
    if (rc < 0) {
        epoll_destroy(e);
        return rc;
    }
    *instance = e;
    return 0;
}

static int epoll_arm(void *instance, int fd, int events, uint64_t token) {
    struct epoll *e = instance;
    (void)events; /* all of them, once */
    struct epoll_event interest = { .events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET, .data.u64 = token };
    return stel__sys_epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, fd, &interest);
}

static int epoll_disarm(void *instance, int fd) {
    struct epoll *e = instance;
    struct epoll_event none = { 0 };
    return stel__sys_epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, fd, &none);
}

/* More events than ever before are wanted. Without memory for it, those that there is room for. */
STEL__COLD static int epoll_grow(struct epoll *e, int n) {
    struct epoll_event *events = stel__alloc((size_t)n * sizeof *events);
    if (!events) return e->room;
    stel__free(e->events);
    e->events = events;
    return e->room = n;
}

static int epoll_wait_for(void *instance, stel_backend_event *events, int n, int64_t until) {
    struct epoll *e = instance;
    struct timespec length = { 0, 0 };
    if (until != 0 && until != STEL_FOREVER) {
        int64_t ns = until - stel__clock_now();
        if (ns > 0) {
            length.tv_sec = ns / 1000000000;
            length.tv_nsec = ns % 1000000000;
        }
    }
    int most = STEL__UNLIKELY(n > e->room) ? epoll_grow(e, n) : n;
    int got = stel__sys_epoll_pwait2(e->epoll_fd, e->events, most, until == STEL_FOREVER ? NULL : &length, NULL);
    if (got < 0) return got == -EINTR ? 0 : got;
    int filled = 0;
    for (int i = 0; i < got; i++) {
        if (e->events[i].data.u64 == wake_token) continue;
        events[filled++] = (stel_backend_event){ .token = e->events[i].data.u64,
                                                 .result = (int32_t)e->events[i].events,
                                                 .kind = STEL_EVENT_READY };
    }
    return filled;
}

static void epoll_interrupt(void *instance) {
    struct epoll *e = instance;
    uint64_t one = 1;
    /* It cannot fail but for a descriptor that somebody closed; the wait itself says so then. */
    (void)!stel__sys_write(e->wake_fd, &one, sizeof one);
}

const stel_backend_ops stel__epoll_ops = {
    .size = sizeof(stel_backend_ops),
    .abi = STEL_BACKEND_ABI,
    .capabilities = STEL_BACKEND_READINESS,
    .create = epoll_create_instance,
    .destroy = epoll_destroy,
    .arm = epoll_arm,
    .disarm = epoll_disarm,
    .wait = epoll_wait_for,
    .interrupt = epoll_interrupt,
};
