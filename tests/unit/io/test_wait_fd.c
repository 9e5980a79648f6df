/* stel_wait_fd: the bare park, on anything that poll(2) knows. */
#include "io_sides.h"
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

typedef struct question {
    int fd;
    short events;
} question;

static int ask(void *arg) {
    question *q = arg;
    return stel_wait_fd(q->fd, q->events);
}

static int readiness(void *arg) {
    (void)arg;
    int fds[2];
    char byte;
    side waiter;
    tcp_pair(fds);
    question in = { fds[1], POLLIN }, either = { fds[1], POLLIN | POLLOUT };
    FIBER_ASSERT_EQ(ask(&either), POLLOUT);
    side_start(&waiter, ask, &in);
    AWAIT_PARKED(fds[1], 1);
    FIBER_ASSERT_EQ(stel_write(fds[0], "a", 1), 1);
    FIBER_ASSERT_EQ(side_join(&waiter), POLLIN);
    FIBER_ASSERT_EQ(ask(&in), POLLIN); /* a level, not an edge */
    FIBER_ASSERT_EQ(ask(&either), POLLIN | POLLOUT);
    FIBER_ASSERT_EQ(stel_read(fds[1], &byte, 1), 1);
    FIBER_ASSERT_EQ(ask(&either), POLLOUT);
    /* Urgent data. */
    question urgent = { fds[1], POLLPRI };
    side_start(&waiter, ask, &urgent);
    AWAIT_PARKED(fds[1], 1);
    FIBER_ASSERT_EQ(stel_send(fds[0], "!", 1, MSG_OOB), 1);
    FIBER_ASSERT_EQ(side_join(&waiter), POLLPRI);
    FIBER_ASSERT_EQ(stel_recv(fds[1], &byte, 1, MSG_OOB), 1);
    FIBER_ASSERT_EQ(byte, '!');
    /* The end of the stream. */
    side_start(&waiter, ask, &in);
    AWAIT_PARKED(fds[1], 1);
    FIBER_OK(stel_close(fds[0]));
    FIBER_ASSERT(side_join(&waiter) & POLLIN);
    FIBER_ASSERT_EQ(stel_read(fds[1], &byte, 1), 0);
    FIBER_OK(stel_close(fds[1]));
    return 0;
}

START_TEST(ready) {
    on_all_kinds(readiness);
}
END_TEST

static int other_kinds(void *arg) {
    (void)arg;
    uint64_t count = 0;
    side waiter;
    question q = { eventfd(0, 0), POLLIN };
    FIBER_ASSERT(q.fd >= 0);
    side_start(&waiter, ask, &q);
    AWAIT_PARKED(q.fd, 1);
    count = 3;
    FIBER_ASSERT_EQ(stel_write(q.fd, &count, sizeof count), (ssize_t)sizeof count);
    FIBER_ASSERT_EQ(side_join(&waiter), POLLIN);
    FIBER_ASSERT_EQ(stel_read(q.fd, &count, sizeof count), (ssize_t)sizeof count);
    FIBER_ASSERT_EQ(count, 3);
    FIBER_OK(stel_close(q.fd));

    q.fd = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec when = { .it_value.tv_nsec = 3000000 };
    FIBER_ASSERT_EQ(timerfd_settime(q.fd, 0, &when, NULL), 0);
    FIBER_ASSERT_EQ(stel_wait_fd(q.fd, POLLIN), POLLIN);
    FIBER_ASSERT_EQ(stel_read(q.fd, &count, sizeof count), (ssize_t)sizeof count);
    FIBER_ASSERT_EQ(timerfd_settime(q.fd, 0, &when, NULL), 0);
    FIBER_ASSERT_EQ(stel_read(q.fd, &count, sizeof count), (ssize_t)sizeof count);
    FIBER_ASSERT_EQ(count, 1);
    FIBER_OK(stel_close(q.fd));
    return 0;
}

START_TEST(kinds) {
    on_all_kinds(other_kinds);
}
END_TEST

static int wrong(void *arg) {
    (void)arg;
    int fds[2];
    FIBER_ASSERT_EQ(stel_wait_fd(0, 0), -EINVAL);
    FIBER_ASSERT_EQ(stel_wait_fd(0, POLLHUP), -EINVAL);
    FIBER_ASSERT_EQ(stel_wait_fd(-1, POLLIN), -EBADF);
    FIBER_ASSERT_EQ(stel_wait_fd(19999, POLLIN), -EBADF);
    int file = (int)FIBER_OK(stel_open("/proc/self/exe", O_RDONLY, 0));
    FIBER_ASSERT_EQ(stel_wait_fd(file, POLLIN), -EPERM);
    FIBER_OK(stel_close(file));
    tcp_pair(fds);
    {
        STEL_TIMEOUT(STEL_MS(10));
        FIBER_ASSERT_EQ(stel_wait_fd(fds[0], POLLIN), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
        FIBER_ASSERT_EQ(stel_wait_fd(fds[0], POLLOUT), -ETIMEDOUT);
    }
    FIBER_ASSERT_EQ(stel_wait_fd(fds[0], POLLOUT), POLLOUT);
    if (stel_self()) {
        stel_fiber f;
        int result;
        question q = { fds[0], POLLIN };
        FIBER_OK(stel_spawn(&f, ask, &q));
        AWAIT_PARKED(fds[0], 1);
        FIBER_OK(stel_cancel(f));
        FIBER_OK(stel_join(f, &result));
        FIBER_ASSERT_EQ(result, -ECANCELED);
    }
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
    return 0;
}

START_TEST(errors) {
    on_all_kinds(wrong);
}
END_TEST

TEST_MAIN("io/wait_fd", ready, kinds, errors)
