/* For test_stress.c: streams, datagrams, poll, reads that somebody ends, and signals. */
#ifndef ACTS_OF_IO_H
#define ACTS_OF_IO_H

#include "base/atomic.h"
#include "random_world.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct line {
    actor child;
    int fd[2];
    uint32_t n;
} line;

static inline void line_open(line *l, actor *a, int type) {
    memset(l, 0, sizeof *l);
    l->child = (actor){ .world = a->world, .random = (uint64_t)below(a, UINT32_MAX) << 16 | 1 };
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, l->fd), 0);
}

/* ---- a stream of numbers ---- */

static inline int child_writes(void *arg) {
    line *l = arg;
    for (uint32_t i = 1; i <= l->n; i++) {
        FIBER_ASSERT_EQ(stel_write(l->fd[1], &i, sizeof i), (ssize_t)sizeof i);
        if (below(&l->child, 4) == 0) maybe_yield(&l->child);
    }
    return stel_close(l->fd[1]);
}

static inline void act_pipe(actor *a) {
    line l;
    uint32_t sum = 0, i;
    line_open(&l, a, SOCK_STREAM);
    l.n = below(a, 20);
    stel_fiber f = spawn_somehow(a, child_writes, &l);
    for (;;) {
        STEL_TIMEOUT(below(a, 4) ? STEL_FOREVER : (int64_t)below(a, 50000));
        ssize_t n = stel_read(l.fd[0], &i, sizeof i); /* numbers are written whole, so they are read whole */
        if (n == -ETIMEDOUT) continue;
        FIBER_ASSERT(n == 0 || n == (ssize_t)sizeof i);
        if (n == 0) break;
        sum += i;
    }
    FIBER_ASSERT_EQ(sum, l.n * (l.n + 1) / 2);
    FIBER_ASSERT_EQ(join_somehow(a, f), 0);
    FIBER_OK(stel_close(l.fd[0]));
}

/* ---- datagrams ---- */

static inline int child_posts(void *arg) {
    line *l = arg;
    char text[64];
    memset(text, 'x', sizeof text);
    for (uint32_t i = 1; i <= l->n; i++) {
        struct iovec piece = { text, i };
        struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
        ssize_t n = below(&l->child, 2) ? stel_sendmsg(l->fd[1], &message, 0) : stel_send(l->fd[1], text, i, 0);
        FIBER_ASSERT_EQ(n, i);
    }
    return 0;
}

static inline void act_datagrams(actor *a) {
    line l;
    char text[64];
    line_open(&l, a, below(a, 2) ? SOCK_DGRAM : SOCK_SEQPACKET);
    l.n = below(a, 30);
    stel_fiber f = spawn_somehow(a, child_posts, &l);
    for (uint32_t i = 1; i <= l.n; i++) /* whole, and in order */
        FIBER_ASSERT_EQ(stel_recvfrom(l.fd[0], text, sizeof text, 0, NULL, NULL), i);
    FIBER_ASSERT_EQ(stel_recvfrom(l.fd[0], text, sizeof text, MSG_DONTWAIT, NULL, NULL), -EAGAIN);
    FIBER_ASSERT_EQ(join_somehow(a, f), 0);
    FIBER_OK(stel_close(l.fd[0]));
    FIBER_OK(stel_close(l.fd[1]));
}

/* ---- poll ---- */

enum { POLLED = 3 };
typedef struct board {
    actor child;
    int fd[POLLED];
} board;

static inline int child_rings(void *arg) {
    board *b = arg;
    uint64_t one = 1;
    maybe_yield(&b->child);
    uint32_t which = below(&b->child, POLLED);
    FIBER_ASSERT_EQ(stel_write(b->fd[which], &one, sizeof one), (ssize_t)sizeof one);
    return (int)which;
}

static inline void act_poll(actor *a) {
    board b = { .child = { .world = a->world, .random = (uint64_t)below(a, UINT32_MAX) << 16 | 1 } };
    struct pollfd set[POLLED];
    for (int i = 0; i < POLLED; i++) {
        FIBER_ASSERT((b.fd[i] = eventfd(0, EFD_CLOEXEC)) >= 0);
        set[i] = (struct pollfd){ .fd = b.fd[i], .events = POLLIN };
    }
    stel_fiber f = spawn_somehow(a, child_rings, &b);
    int n;
    while ((n = stel_poll(set, POLLED, below(a, 2) ? -1 : (int)below(a, 2))) == 0)
        ;
    FIBER_ASSERT_EQ(n, 1);
    int which = join_somehow(a, f);
    for (int i = 0; i < POLLED; i++) {
        FIBER_ASSERT_EQ(set[i].revents, i == which ? POLLIN : 0);
        FIBER_OK(stel_close(b.fd[i]));
    }
}

/* ---- a read that somebody ends ---- */

static inline int child_reads_for_ever(void *arg) {
    line *l = arg;
    char byte;
    return (int)stel_read(l->fd[0], &byte, 1);
}

/* Not its own descriptor is closed: the number could be somebody else's before the child has begun to read. */
static inline void act_end_a_read(actor *a) {
    line l;
    line_open(&l, a, SOCK_STREAM);
    stel_fiber f = spawn_somehow(a, child_reads_for_ever, &l);
    bool cancel = below(a, 2);
    maybe_yield(a);
    FIBER_OK(cancel ? stel_cancel(f) : stel_close(l.fd[1]));
    FIBER_ASSERT_EQ(join_somehow(a, f), cancel ? -ECANCELED : 0);
    FIBER_OK(stel_close(l.fd[0]));
    if (cancel) FIBER_OK(stel_close(l.fd[1]));
}

/* ---- signals ---- */

static inline sigset_t the_signal(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    return set;
}

/* To be called before there are other threads. */
static inline void signals_begin(void) {
    sigset_t set = the_signal();
#ifdef STEL__TSAN
    /* ThreadSanitizer runs a handler only when its thread calls some function that it knows; a thread that sleeps on a
     * futex would keep the signal for ever. So no thread of ours gets it. */
    FIBER_ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
#endif
    FIBER_OK(stel_sigcatch(&set));
}

/* As many are sent as are waited for, so nobody waits in vain; whose value one gets is chance. */
static inline void act_signal(actor *a) {
    sigset_t set = the_signal();
    siginfo_t info;
    union sigval value = { .sival_int = (int)below(a, 1000) };
    if (sigqueue(getpid(), SIGRTMIN, value) != 0) return; /* too many are pending */
    add(&a->world->signals_sent, (uint64_t)value.sival_int);
    FIBER_ASSERT_EQ(stel_sigwaitinfo(&set, &info), SIGRTMIN);
    add(&a->world->signals_taken, (uint64_t)info.si_value.sival_int);
}

#endif
