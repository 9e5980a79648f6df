/* stel_poll: many descriptors at once. */
#include "host/fault.h"
#include "io_sides.h"
#include <stdlib.h>
#include <sys/eventfd.h>

typedef struct question {
    struct pollfd *fds;
    nfds_t n;
    int timeout_ms;
} question;

static int ask(void *arg) {
    question *q = arg;
    return stel_poll(q->fds, q->n, q->timeout_ms);
}

static void pipes(int n, int (*p)[2]) {
    for (int i = 0; i < n; i++)
        FIBER_ASSERT_EQ(pipe(p[i]), 0);
}

static void close_pipes(int n, int (*p)[2]) {
    for (int i = 0; i < n; i++) {
        FIBER_OK(stel_close(p[i][0]));
        FIBER_OK(stel_close(p[i][1]));
    }
}

/* ---- as poll(2) ---- */

static int looks(void *arg) {
    (void)arg;
    int p[2][2], file = (int)FIBER_OK(stel_open("/proc/self/exe", O_RDONLY, 0));
    pipes(2, p);
    struct pollfd fds[] = { { .fd = p[0][0], .events = POLLIN },
                            { .fd = p[0][1], .events = POLLOUT },
                            { .fd = -1, .events = POLLIN },
                            { .fd = p[1][0], .events = POLLIN },
                            { .fd = file, .events = POLLIN | POLLOUT } };
    fds[2].revents = 77;
    FIBER_ASSERT_EQ(stel_poll(fds, 5, 0), 2);
    FIBER_ASSERT_EQ(fds[0].revents, 0);
    FIBER_ASSERT_EQ(fds[1].revents, POLLOUT);
    FIBER_ASSERT_EQ(fds[2].revents, 0); /* passed over */
    FIBER_ASSERT_EQ(fds[3].revents, 0);
    FIBER_ASSERT_EQ(fds[4].revents, POLLIN | POLLOUT); /* always ready */
    FIBER_ASSERT_EQ(stel_poll(fds, 5, -1), 2);
    FIBER_ASSERT_EQ(stel_poll(fds, 1, 0), 0);
    /* No descriptor: said at once. */
    struct pollfd bad[] = { { .fd = 19999, .events = POLLIN }, { .fd = p[0][0], .events = POLLIN } };
    FIBER_ASSERT_EQ(stel_poll(bad, 2, -1), 1);
    FIBER_ASSERT_EQ(bad[0].revents, POLLNVAL);
    FIBER_ASSERT_EQ(bad[1].revents, 0);
    /* A hang-up is told whatever was asked for; even when nothing was. */
    FIBER_OK(stel_close(p[1][1]));
    fds[3].events = 0;
    FIBER_ASSERT_EQ(stel_poll(&fds[3], 1, -1), 1);
    FIBER_ASSERT_EQ(fds[3].revents, POLLHUP);
    if (!stel__sanitize_valgrind()) { /* it looks at all of them, as far as it comes */
        FIBER_ASSERT_EQ(stel_poll(NULL, 1, 0), -EFAULT);
        FIBER_ASSERT_EQ(stel_poll(NULL, 1u << 30, 0), -EINVAL);
    }
    FIBER_OK(stel_close(p[1][0]));
    FIBER_OK(stel_close(file));
    close_pipes(1, p);
    return 0;
}

START_TEST(as_poll) {
    on_all_kinds(looks);
}
END_TEST

/* ---- waiting ---- */

static int waits(void *arg) {
    enum { N = 40 };
    (void)arg;
    int p[N][2];
    struct pollfd fds[N + 1];
    side other;
    pipes(N, p);
    for (int i = 0; i < N; i++)
        fds[i] = (struct pollfd){ .fd = p[i][0], .events = POLLIN };
    fds[N] = fds[7]; /* one of them twice */
    question q = { fds, N + 1, -1 };
    for (int i = 0; i < N; i += 3) {
        int want = i == 7 ? 2 : 1;
        char byte;
        side_start(&other, ask, &q);
        AWAIT_PARKED(p[N - 1][0], 1);
        FIBER_ASSERT_EQ(stel_write(p[i][1], "x", 1), 1);
        FIBER_ASSERT_EQ(side_join(&other), want);
        for (int k = 0; k < N; k++)
            FIBER_ASSERT_EQ(fds[k].revents, k == i ? POLLIN : 0);
        FIBER_ASSERT_EQ(stel_read(p[i][0], &byte, 1), 1);
        for (int k = 0; k < N; k++)
            FIBER_ASSERT_EQ(parked_on(p[k][0]), 0); /* off every list */
    }
    /* Two at the same time, one of them hung up. */
    side_start(&other, ask, &q);
    AWAIT_PARKED(p[N - 1][0], 1);
    FIBER_OK(stel_close(p[7][1]));
    FIBER_ASSERT_EQ(side_join(&other), 2);
    FIBER_ASSERT_EQ(fds[7].revents, POLLHUP);
    FIBER_ASSERT_EQ(fds[N].revents, POLLHUP);
    FIBER_ASSERT_EQ(pipe(p[7]), 0); /* the numbers: [0] is the lowest that is free, and so on; all are closed below */
    for (int i = 0; i < N; i++)
        if (i != 7) {
            FIBER_OK(stel_close(p[i][0]));
            FIBER_OK(stel_close(p[i][1]));
        }
    FIBER_OK(stel_close(fds[7].fd));
    FIBER_OK(stel_close(p[7][0]));
    FIBER_OK(stel_close(p[7][1]));
    return 0;
}

START_TEST(waiting) {
    on_all_kinds(waits);
}
END_TEST

/* Events of other names; and a wake-up that is for somebody else is not the end of it. */
static int names(void *arg) {
    (void)arg;
    int fds[2];
    char buffer[8];
    side other;
    tcp_pair(fds);
    struct pollfd one = { .fd = fds[1], .events = POLLRDHUP };
    question q = { &one, 1, -1 };
    side_start(&other, ask, &q);
    AWAIT_PARKED(fds[1], 1);
    for (int i = 0; i < 3; i++) {
        FIBER_ASSERT_EQ(stel_write(fds[0], "abc", 3), 3);
        FIBER_ASSERT_EQ(stel_read(fds[1], buffer, 8), 3);
        AWAIT_PARKED(fds[1], 1); /* still there */
    }
    FIBER_ASSERT_EQ(shutdown(fds[0], SHUT_WR), 0);
    FIBER_ASSERT_EQ(side_join(&other), 1);
    FIBER_ASSERT_EQ(one.revents, POLLRDHUP);
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
    tcp_pair(fds);
    one = (struct pollfd){ .fd = fds[1], .events = POLLRDNORM };
    side_start(&other, ask, &q);
    AWAIT_PARKED(fds[1], 1);
    FIBER_ASSERT_EQ(stel_write(fds[0], "abc", 3), 3);
    FIBER_ASSERT_EQ(side_join(&other), 1);
    FIBER_ASSERT_EQ(one.revents, POLLRDNORM);
    FIBER_ASSERT_EQ(stel_read(fds[1], buffer, 8), 3);
    one.events = POLLPRI;
    side_start(&other, ask, &q);
    AWAIT_PARKED(fds[1], 1);
    FIBER_ASSERT_EQ(stel_send(fds[0], "!", 1, MSG_OOB), 1);
    FIBER_ASSERT_EQ(side_join(&other), 1);
    FIBER_ASSERT_EQ(one.revents, POLLPRI);
    /* A full pipe. */
    int p[2];
    static char block[1 << 17];
    FIBER_ASSERT_EQ(pipe2(p, O_NONBLOCK), 0);
    while (write(p[1], block, sizeof block) > 0)
        ;
    struct pollfd full[2] = { { .fd = fds[0], .events = POLLIN }, { .fd = p[1], .events = POLLWRNORM } };
    q = (question){ full, 2, -1 };
    side_start(&other, ask, &q);
    AWAIT_PARKED(p[1], 1);
    FIBER_ASSERT(stel_read(p[0], block, sizeof block) > 0);
    FIBER_ASSERT_EQ(side_join(&other), 1);
    FIBER_ASSERT_EQ(full[1].revents, POLLWRNORM);
    for (int i = 0; i < 2; i++) {
        FIBER_OK(stel_close(p[i]));
        FIBER_OK(stel_close(fds[i]));
    }
    return 0;
}

START_TEST(other_names) {
    on_all_kinds(names);
}
END_TEST

/* ---- time ---- */

static int times(void *arg) {
    (void)arg;
    int p[1][2];
    pipes(1, p);
    struct pollfd one = { .fd = p[0][0], .events = POLLIN, .revents = 5 };
    question q = { &one, 1, -1 };
    int64_t before = stel_now();
    FIBER_ASSERT_EQ(stel_poll(&one, 1, 20), 0);
    FIBER_ASSERT(stel_now() - before >= STEL_MS(20));
    FIBER_ASSERT_EQ(one.revents, 0);
    FIBER_ASSERT(!stel_timed_out());
    before = stel_now();
    FIBER_ASSERT_EQ(stel_poll(NULL, 0, 5), 0);
    FIBER_ASSERT(stel_now() - before >= STEL_MS(5));
    /* The caller's own deadline: sooner, and later. */
    check_limits(ask, &q);
    q.timeout_ms = 60000;
    check_limits(ask, &q);
    q.n = 0;
    check_limits(ask, &q);
    {
        STEL_TIMEOUT(STEL_SEC(60));
        FIBER_ASSERT_EQ(stel_poll(&one, 1, 5), 0);
        FIBER_ASSERT(!stel_timed_out());
        /* Behind a shield the outer limits do not count, and the call's own does. */
        STEL_SHIELD(STEL_SEC(60));
        FIBER_ASSERT_EQ(stel_poll(&one, 1, 5), 0);
    }
    FIBER_ASSERT_EQ(parked_on(p[0][0]), 0);
    close_pipes(1, p);
    return 0;
}

START_TEST(limits) {
    on_all_kinds(times);
}
END_TEST

/* The end of a shield lets a cancellation through, and it is not taken for the call's own time. */
static int shielded(void *arg) {
    question *q = arg;
    STEL_SHIELD(STEL_MS(20));
    return stel_poll(q->fds, q->n, q->timeout_ms);
}

static int shields(void *arg) {
    (void)arg;
    int p[1][2], result;
    stel_fiber f;
    pipes(1, p);
    struct pollfd one = { .fd = p[0][0], .events = POLLIN };
    question q = { &one, 1, 60000 };
    FIBER_OK(stel_spawn(&f, shielded, &q));
    AWAIT_PARKED(p[0][0], 1);
    FIBER_OK(stel_cancel(f));
    FIBER_OK(stel_join(f, &result));
    FIBER_ASSERT_EQ(result, -ECANCELED);
    q.timeout_ms = 2;
    FIBER_OK(stel_spawn(&f, shielded, &q));
    FIBER_OK(stel_cancel(f));
    FIBER_OK(stel_join(f, &result));
    FIBER_ASSERT(result == 0 ||
                 result == -ECANCELED); /* cancelled before the shield was open: it waited all the same */
    close_pipes(1, p);
    return 0;
}

/* Both limits have passed when it gets to run again: the one that came first counts. */
static int hog(void *arg) {
    int64_t until = stel_after(STEL_MS(20));
    (void)arg;
    while (stel_now() < until)
        ;
    return 0;
}

static int both_passed(void *arg) {
    (void)arg;
    stel_fiber f;
    int result;
    FIBER_OK(stel_spawn(&f, hog, NULL));
    {
        STEL_TIMEOUT(STEL_MS(2));
        FIBER_ASSERT_EQ(stel_poll(NULL, 0, 4), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
    }
    FIBER_OK(stel_join(f, &result));
    return 0;
}

START_TEST(first_limit) {
    ck_assert_int_eq(run_in_runtime(1, both_passed, NULL), 0);
}
END_TEST

/* An edge between the look and the wait: it does not sleep. */
static int edge_in_between(void *arg) {
    (void)arg;
    int p[1][2];
    struct pollfd room[2];
    stel__slot_watch watch;
    extern void stel__slot_event(uint64_t token, int32_t events);
    pipes(1, p);
    FIBER_OK(stel__slot_watch_begin(&watch, p[0][0], POLLIN));
    stel__slots_look(&watch, 1);
    stel__slot_event((uint64_t)watch.mark.generation << 32 | (uint32_t)p[0][0], POLLIN);
    FIBER_ASSERT_EQ(stel__slots_wait(&watch, 1, stel__waiter_self(), STEL_FOREVER, room), 0);
    FIBER_ASSERT(!watch.closed);
    FIBER_ASSERT_EQ(parked_on(p[0][0]), 0);
    stel__slots_look(&watch, 1);
    FIBER_OK(stel_close(p[0][0]));
    FIBER_ASSERT_EQ(stel__slots_wait(&watch, 1, stel__waiter_self(), STEL_FOREVER, room), 0);
    FIBER_ASSERT(watch.closed);
    FIBER_OK(stel_close(p[0][1]));
    return 0;
}

START_TEST(nothing_slips_through) {
    on_all_kinds(edge_in_between);
}
END_TEST

START_TEST(behind_a_shield) {
    ck_assert_int_eq(run_in_runtime(1, shields, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, shields, NULL), 0);
}
END_TEST

/* ---- closed under the wait, released, replaced ---- */

static int closes(void *arg) {
    (void)arg;
    int p[3][2];
    side other;
    for (int round = 0; round < 20; round++) {
        pipes(3, p);
        struct pollfd fds[3];
        for (int i = 0; i < 3; i++)
            fds[i] = (struct pollfd){ .fd = p[i][0], .events = POLLIN };
        question q = { fds, 3, -1 };
        side_start(&other, ask, &q);
        AWAIT_PARKED(p[2][0], 1);
        /* Closed, and the number another file at once, which is ready: none of the old waiter's business. */
        FIBER_OK(stel_close(p[1][0]));
        int again = eventfd(1, 0);
        FIBER_ASSERT_EQ(again, p[1][0]);
        FIBER_ASSERT_EQ(side_join(&other), 1);
        FIBER_ASSERT_EQ(fds[1].revents, POLLNVAL);
        FIBER_ASSERT_EQ(fds[0].revents, 0);
        FIBER_OK(stel_close(again));
        /* Forgotten while it waits: it looks again, and waits on. */
        fds[1].fd = -1;
        side_start(&other, ask, &q);
        AWAIT_PARKED(p[2][0], 1);
        FIBER_OK(stel_fd_release(p[2][0]));
        AWAIT_PARKED(p[2][0], 1);
        FIBER_ASSERT_EQ(stel_write(p[2][1], "x", 1), 1);
        FIBER_ASSERT_EQ(side_join(&other), 1);
        FIBER_ASSERT_EQ(fds[2].revents, POLLIN);
        FIBER_OK(stel_close(p[1][1]));
        p[1][0] = p[0][0], p[1][1] = p[0][1];
        close_pipes(2, &p[1]);
    }
    return 0;
}

START_TEST(closed_under_it) {
    on_all_kinds(closes);
}
END_TEST

/* dup2 over a number that is waited on, without a word: noticed by and by. */
static int replaced(void *arg) {
    (void)arg;
    int p[2][2];
    side other;
    pipes(2, p);
    struct pollfd one = { .fd = p[0][0], .events = POLLIN };
    question q = { &one, 1, -1 };
    side_start(&other, ask, &q);
    AWAIT_PARKED(p[0][0], 1);
    FIBER_ASSERT_EQ(dup2(p[1][0], p[0][0]), p[0][0]);
    FIBER_ASSERT_EQ(stel_write(p[1][1], "x", 1), 1);
    FIBER_ASSERT_EQ(side_join(&other), 1);
    FIBER_ASSERT_EQ(one.revents, POLLIN);
    close_pipes(2, p);
    return 0;
}

START_TEST(heals) {
    on_all_kinds(replaced);
}
END_TEST

/* ---- many pollers, readers and closers at once ---- */

enum { CROWD = 6, SHARED = 4 };
static int crowd_pipes[SHARED][2];
static _Atomic bool crowd_ends;
static _Atomic int crowd_left;

static int poller(void *arg) {
    (void)arg;
    int found = 0;
    while (!crowd_ends) {
        struct pollfd fds[SHARED];
        for (int i = 0; i < SHARED; i++)
            fds[i] = (struct pollfd){ .fd = crowd_pipes[i][0], .events = POLLIN };
        int n = stel_poll(fds, SHARED, -1);
        FIBER_ASSERT(n > 0);
        for (int i = 0; i < SHARED; i++) {
            char byte;
            if (fds[i].revents & POLLIN) found += read(fds[i].fd, &byte, 1) == 1; /* O_NONBLOCK: others are faster */
        }
    }
    crowd_left--;
    return found;
}

static int crowd(void *arg) {
    (void)arg;
    int bytes = (int)test_scale(2000), got = 0;
    side pollers[CROWD];
    crowd_ends = false;
    crowd_left = CROWD;
    for (int i = 0; i < SHARED; i++)
        FIBER_ASSERT_EQ(pipe2(crowd_pipes[i], O_NONBLOCK), 0);
    for (int i = 0; i < CROWD; i++)
        side_start(&pollers[i], poller, NULL);
    for (int i = 0; i < bytes; i++)
        FIBER_ASSERT_EQ(stel_write(crowd_pipes[i % SHARED][1], "x", 1), 1);
    /* Until all is read; then let them go one by one. */
    for (int i = 0; i < SHARED; i++) {
        struct pollfd one = { .fd = crowd_pipes[i][0], .events = POLLIN };
        EVENTUALLY(poll(&one, 1, 0) == 0);
    }
    crowd_ends = true;
    int more = 0;
    for (; crowd_left > 0; more++) {
        FIBER_ASSERT_EQ(stel_write(crowd_pipes[0][1], "x", 1), 1);
        check_fiber_nap();
    }
    for (int i = 0; i < CROWD; i++)
        got += side_join(&pollers[i]);
    char byte;
    while (read(crowd_pipes[0][0], &byte, 1) == 1)
        got++;
    FIBER_ASSERT_EQ(got, bytes + more);
    close_pipes(SHARED, crowd_pipes);
    return 0;
}

START_TEST(a_crowd) {
    on_all_kinds(crowd);
}
END_TEST

static int told_to_fail(void *arg) {
    (void)arg;
    int p[1][2];
    pipes(1, p);
    struct pollfd one = { .fd = p[0][0], .events = POLLIN };
    stel__fault_set(STEL__FAULT_PPOLL, 1, ENOMEM, false);
    FIBER_ASSERT_EQ(stel_poll(&one, 1, -1), -ENOMEM);
    stel__fault_set(STEL__FAULT_PPOLL, 1, EINTR, false); /* looked at again */
    FIBER_ASSERT_EQ(stel_poll(&one, 1, 0), 0);
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, false);
    FIBER_ASSERT_EQ(stel_poll(&one, 1, -1), -ENOMEM);
    if (stel_self() && !getenv("STELLANE_TEST_BACKEND")) {
        stel__fault_set(STEL__FAULT_EPOLL_CTL, 1, ENOSPC, false);
        FIBER_ASSERT_EQ(stel_poll(&one, 1, -1), -ENOSPC);
    }
    stel__fault_clear();
    FIBER_ASSERT_EQ(parked_on(p[0][0]), 0);
    FIBER_ASSERT_EQ(stel_poll(&one, 1, 1), 0);
    close_pipes(1, p);
    return 0;
}

START_TEST(faults) {
    on_all_kinds(told_to_fail);
}
END_TEST

TEST_MAIN("io/poll", as_poll, waiting, other_names, limits, behind_a_shield, first_limit, nothing_slips_through,
          closed_under_it, heals, a_crowd, faults)
