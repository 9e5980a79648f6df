/* For tests of descriptors: one body for fibers and for plain threads, and a second party that is what the first is. */
#ifndef IO_SIDES_H
#define IO_SIDES_H

#include "check_fiber.h"
#include "poller/poller.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The other side of a conversation: a fiber if its starter is one, else a thread. */
typedef struct side {
    stel_fn *fn;
    void *arg;
    int result;
    stel_fiber fiber; /* 0: a thread */
    pthread_t thread;
} side;

static inline void *side_thread(void *p) {
    side *s = p;
    s->result = s->fn(s->arg);
    return NULL;
}

static inline void side_start(side *s, stel_fn *fn, void *arg) {
    *s = (side){ .fn = fn, .arg = arg };
    if (stel_self())
        FIBER_OK(stel_spawn(&s->fiber, fn, arg));
    else
        FIBER_ASSERT_EQ(pthread_create(&s->thread, NULL, side_thread, s), 0);
}

static inline int side_join(side *s) {
    if (s->fiber)
        FIBER_OK(stel_join(s->fiber, &s->result));
    else
        FIBER_ASSERT_EQ(pthread_join(s->thread, NULL), 0);
    return s->result;
}

static inline unsigned parked_on(int fd) {
    int error;
    stel__slot *s = stel__slot_at(fd, &error);
    FIBER_ASSERT(s != NULL);
    unsigned n = 0;
    stel__lock_take(&s->lock);
    for (const stel__link *l = s->waiters.head; l; l = l->next)
        n++;
    stel__lock_give(&s->lock);
    return n;
}
/* Until n callers wait on fd. */
#define AWAIT_PARKED(fd, n) EVENTUALLY(parked_on(fd) >= (n))

/* Run body as a fiber with one worker, with two, and on a plain thread. */
static inline void on_all_kinds(stel_fn *body) {
    ck_assert_int_eq(run_in_runtime(1, body, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, body, NULL), 0);
    ck_assert_int_eq(body(NULL), 0);
}

/* A call that would wait for ever is cut short by the deadline, by cancellation (before, and while it waits), and leaves
 * nothing behind. */
static inline void check_limits(stel_fn *call, void *arg) {
    {
        STEL_TIMEOUT(STEL_MS(10));
        FIBER_ASSERT_EQ(call(arg), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
        FIBER_ASSERT_EQ(call(arg), -ETIMEDOUT); /* as every later one in the block */
    }
    if (!stel_self()) return;
    for (int i = 0; i < 2; i++) {
        stel_fiber f;
        int result;
        FIBER_OK(stel_spawn(&f, call, arg));
        if (i) FIBER_OK(stel_sleep(STEL_MS(3))); /* it waits by then, most likely; if not, that is tested once more */
        FIBER_OK(stel_cancel(f));
        FIBER_OK(stel_join(f, &result));
        FIBER_ASSERT_EQ(result, -ECANCELED);
    }
}

/* A pair of connected TCP sockets: [0] made by stel_dial, [1] by stel_accept. */
static inline int tcp_port_of(int fd) {
    struct sockaddr_storage a = { 0 };
    socklen_t bytes = sizeof a;
    FIBER_ASSERT_EQ(getsockname(fd, (struct sockaddr *)&a, &bytes), 0);
    /* The port lies at the same place in both families. */
    uint16_t port;
    memcpy(&port, (char *)&a + 2, sizeof port);
    return (port >> 8 | port << 8) & 0xffff;
}

static inline void tcp_pair(int fds[2]) {
    char address[64];
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 16));
    snprintf(address, sizeof address, "127.0.0.1:%d", tcp_port_of(listener));
    fds[0] = (int)FIBER_OK(stel_dial(address));
    fds[1] = (int)FIBER_OK(stel_accept(listener, NULL, NULL));
    FIBER_OK(stel_close(listener));
}

#endif
