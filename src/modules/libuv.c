/* The libuv backend, a module: readiness by a libuv loop, edge-triggered, one uv_loop_t an instance.
 *
 * Who wants it: programs that have libuv in them anyway and want one kind of loop below everything; and it shows that a
 * backend can come from outside the library. It is never chosen by "auto": it asks the kernel the same questions as epoll
 * does, and one more.
 *
 * Why no uv_poll_t for each descriptor, which is the way libuv shows. Three of its rules are not ours:
 *   - it ends the process when a descriptor that it watches was closed without its knowledge, or turns out to be another
 *     file: here any code may close a number at any time (stellane/io.h), and that must heal;
 *   - uv_poll_init makes the descriptor non-blocking: we never do that to descriptors that others made;
 *   - its handles may be touched by the loop's thread alone, so that arming one while another thread waits would need a
 *     queue, a wake-up, and an answer that comes too late for -EEXIST and -EPERM.
 * So an instance has an epoll descriptor of its own that holds all that is armed, edge-triggered, and the loop watches that
 * one: it is readable while events are there to be taken. Arming is epoll_ctl, from any thread. What the loop does is what
 * it is good at, waiting: for that descriptor and for the uv_async_t that interrupts it.
 *
 * A wait
 *   until 0     one round of the loop that does not block
 *   a time      libuv counts in milliseconds, so the loop's own descriptor (uv_backend_fd) is waited for by ppoll, which
 *               counts in nanoseconds, and then one round that does not block
 *   for ever    one round that blocks
 * and if the round reported our descriptor, a batch is taken from it. What does not fit into the batch leaves it readable.
 *
 * States of an instance, all touched by whoever waits (one thread at a time; the library hands the instance over with the
 * order that this needs): `ready`, set by the loop's callback, cleared when a batch is taken. The interrupt needs none:
 * uv_async_send makes the running round return, or else the next one, which is what is asked of it.
 *
 * Nothing of Stellane is linked: what is needed comes by pointer (stel_module_host). errno is read here, as nothing in a
 * backend changes fibers. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stellane/backend.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <uv.h>

_Static_assert(EPOLLIN == POLLIN && EPOLLPRI == POLLPRI && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
                   EPOLLHUP == POLLHUP && EPOLLRDHUP == POLLRDHUP,
               "epoll's bits are poll's");

struct loop {
    /* fixed after creation */
    uv_loop_t uv;
    uv_poll_t watch; /* of epoll_fd */
    uv_async_t wake;
    int epoll_fd;
    /* whoever waits */
    bool ready;
    int room; /* for so many events */
    struct epoll_event *events;
};

static const stel_module_host *host;

static int error_of(int result) {
    return result < 0 ? -errno : result;
}

static void on_ready(uv_poll_t *watch, int status, int events) {
    (void)status, (void)events; /* an error of an epoll descriptor is found when it is asked */
    struct loop *l = watch->data;
    l->ready = true;
}

static void on_wake(uv_async_t *wake) {
    (void)wake;
}

/* ---- life ---- */

/* When the process's first loop is made, libuv makes a pipe for signals and ends the process if there are no descriptors
 * for it. So see first whether there are as many as a loop takes: then it is an error like any other. */
static int see_that_there_is_room(void) {
    enum { WANTED = 8 }; /* a loop takes four, libuv two, our epoll descriptor is one */
    int fds[WANTED], n = 0, rc = 0;
    while (n < WANTED && rc == 0) {
        fds[n] = epoll_create1(EPOLL_CLOEXEC);
        rc = fds[n] < 0 ? -errno : 0;
        n += rc == 0;
    }
    while (n > 0)
        close(fds[--n]);
    return rc;
}

/* Take down the first `handles` of what create set up, in its order, and the loop. */
static void take_down(struct loop *l, int handles) {
    if (handles > 1) uv_close((uv_handle_t *)&l->watch, NULL);
    if (handles > 0) uv_close((uv_handle_t *)&l->wake, NULL);
    while (uv_loop_close(&l->uv) == UV_EBUSY)
        uv_run(&l->uv, UV_RUN_NOWAIT); /* a closing handle is done in the next round */
}

static void release(struct loop *l) {
    if (l->epoll_fd >= 0) close(l->epoll_fd);
    host->release(l->events);
    host->release(l);
}

static int set_up(struct loop *l) {
    int rc = l->epoll_fd = error_of(epoll_create1(EPOLL_CLOEXEC));
    if (rc >= 0) rc = uv_loop_init(&l->uv); /* libuv's codes are negative errno values, too */
    if (rc < 0) return rc;
    rc = uv_async_init(&l->uv, &l->wake, on_wake);
    if (rc < 0) {
        take_down(l, 0);
        return rc;
    }
    rc = uv_poll_init(&l->uv, &l->watch, l->epoll_fd);
    if (rc < 0) {
        take_down(l, 1);
        return rc;
    }
    l->watch.data = l;
    rc = uv_poll_start(&l->watch, UV_READABLE, on_ready);
    if (rc < 0) {
        take_down(l, 2);
        return rc;
    }
    uv_run(&l->uv, UV_RUN_NOWAIT); /* from now on the loop's descriptor knows ours */
    return 0;
}

static int libuv_create(void **instance, int batch) {
    if (batch < 1) return -EINVAL;
    struct loop *l = host->alloc(sizeof *l);
    if (!l) return -ENOMEM;
    l->epoll_fd = -1;
    l->room = batch;
    l->events = host->alloc((size_t)batch * sizeof l->events[0]);
    int rc = l->events ? see_that_there_is_room() : -ENOMEM;
    if (rc >= 0) rc = set_up(l);
    if (rc < 0) {
        release(l);
        return rc;
    }
    *instance = l;
    return 0;
}

static void libuv_destroy(void *instance) {
    struct loop *l = instance;
    take_down(l, 2);
    release(l);
}

/* ---- descriptors ---- */

static int libuv_arm(void *instance, int fd, int events, uint64_t token) {
    struct loop *l = instance;
    (void)events; /* all of them, once */
    struct epoll_event interest = { .events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET, .data.u64 = token };
    return error_of(epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &interest));
}

static int libuv_disarm(void *instance, int fd) {
    struct loop *l = instance;
    struct epoll_event none = { 0 };
    return error_of(epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, &none));
}

/* ---- waiting ---- */

/* More events than ever before are wanted. Without memory for it, those that there is room for. */
static int room_for(struct loop *l, int n) {
    if (n <= l->room) return n;
    struct epoll_event *events = host->alloc((size_t)n * sizeof *events);
    if (!events) return l->room;
    host->release(l->events);
    l->events = events;
    return l->room = n;
}

/* Until the loop has something to do, or the time has come. */
static void sleep_until(struct loop *l, int64_t until) {
    int64_t ns = until - host->now();
    if (ns <= 0 || uv_backend_timeout(&l->uv) == 0) return; /* 0: it has something to do already */
    struct timespec length = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    struct pollfd watched = { .fd = uv_backend_fd(&l->uv), .events = POLLIN };
    (void)!ppoll(&watched, 1, &length, NULL); /* failed or not, the round looks for itself */
}

static int libuv_wait(void *instance, stel_backend_event *events, int n, int64_t until) {
    struct loop *l = instance;
    if (until != 0 && until != STEL_FOREVER) sleep_until(l, until);
    uv_run(&l->uv, until == STEL_FOREVER ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    if (!l->ready) return 0;
    l->ready = false;
    int most = room_for(l, n); /* first: it may change where the events go */
    int got = epoll_wait(l->epoll_fd, l->events, most, 0);
    if (got < 0) return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < got; i++)
        events[i] = (stel_backend_event){ .token = l->events[i].data.u64,
                                          .result = (int32_t)l->events[i].events,
                                          .kind = STEL_EVENT_READY };
    return got;
}

static void libuv_interrupt(void *instance) {
    struct loop *l = instance;
    (void)uv_async_send(&l->wake);
}

/* ---- the module ---- */

static int libuv_probe(char *why, size_t bytes) {
    (void)snprintf(why, bytes, "libuv %s", uv_version_string());
    return 0;
}

static const stel_backend_ops ops = {
    .size = sizeof ops,
    .abi = STEL_BACKEND_ABI,
    .capabilities = STEL_BACKEND_READINESS,
    .probe = libuv_probe,
    .create = libuv_create,
    .destroy = libuv_destroy,
    .arm = libuv_arm,
    .disarm = libuv_disarm,
    .wait = libuv_wait,
    .interrupt = libuv_interrupt,
};

STEL_API const stel_backend_ops *stel_backend_module(const stel_module_host *given);
const stel_backend_ops *stel_backend_module(const stel_module_host *given) {
    if (given->size < sizeof *given || given->abi != STEL_BACKEND_ABI) return NULL;
    host = given;
    return &ops;
}
