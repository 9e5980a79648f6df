/* Modes: deadlines and cancellation on every kind of wait, and what a wait that was cut short leaves. */
#include "conformance.h"
#include <sys/un.h>

static stel_fiber spawn(stel_fn *fn, void *arg) {
    stel_fiber f;
    FIBER_OK(stel_spawn(&f, fn, arg));
    return f;
}

/* Calls that would wait for ever, each on a descriptor of its own. */
typedef struct endless {
    const char *name;
    int (*make)(int fds[2]); /* which of them is used; the other one is kept open */
    int (*call)(int fd);
} endless;

static int quiet_pipe(int fds[2]) {
    FIBER_ASSERT_EQ(pipe(fds), 0);
    return fds[0];
}

static int full_pipe(int fds[2]) {
    char zeros[4096] = { 0 };
    FIBER_ASSERT_EQ(pipe2(fds, O_NONBLOCK), 0);
    while (write(fds[1], zeros, sizeof zeros) > 0)
        ;
    return fds[1];
}

static int quiet_socket(int fds[2]) {
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    return fds[0];
}

static int full_socket(int fds[2]) {
    char zeros[4096] = { 0 };
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    while (send(fds[0], zeros, sizeof zeros, MSG_DONTWAIT) > 0)
        ;
    return fds[0];
}

static int quiet_listener(int fds[2]) {
    fds[1] = -1;
    return fds[0] = (int)FIBER_OK(stel_listen("127.0.0.1:0", 4));
}

static int deaf_peer(int fds[2]) {
    /* Its queue is full: what connects waits. Unix sockets say so by blocking, which no clock decides. */
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "conformance-deaf-%d", (int)getpid());
    fds[1] = socket(AF_UNIX, SOCK_STREAM, 0);
    int rc = bind(fds[1], (struct sockaddr *)&a, sizeof a);
    FIBER_ASSERT(rc == 0 && listen(fds[1], 0) == 0);
    fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    FIBER_ASSERT_EQ(connect(fds[0], (struct sockaddr *)&a, sizeof a), 0);
    return fds[0];
}

static int call_read(int fd) {
    char buffer[8];
    return (int)stel_read(fd, buffer, sizeof buffer);
}

static int call_readv(int fd) {
    char buffer[8];
    struct iovec iov[2] = { { buffer, 4 }, { buffer + 4, 4 } };
    return (int)stel_readv(fd, iov, 2);
}

static int call_write(int fd) {
    return (int)stel_write(fd, "12345678", 8);
}

static int call_recv(int fd) {
    char buffer[8];
    return (int)stel_recv(fd, buffer, sizeof buffer, 0);
}

static int call_recvmsg(int fd) {
    char buffer[8];
    struct iovec iov = { buffer, sizeof buffer };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    return (int)stel_recvmsg(fd, &message, 0);
}

static int call_send(int fd) {
    return (int)stel_send(fd, "12345678", 8, 0);
}

static int call_accept(int fd) {
    return stel_accept(fd, NULL, NULL);
}

static int call_wait_in(int fd) {
    return stel_wait_fd(fd, POLLIN);
}

static int call_wait_out(int fd) {
    return stel_wait_fd(fd, POLLOUT);
}

static int call_poll(int fd) {
    struct pollfd watched[2] = { { .fd = fd, .events = POLLIN }, { .fd = -1 } };
    return stel_poll(watched, 2, -1);
}

static int call_connect(int fd) {
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "conformance-deaf-%d", (int)getpid());
    (void)fd; /* the one that fills the queue */
    int mine = (int)FIBER_OK(stel_socket(AF_UNIX, SOCK_STREAM, 0)), rc;
    do {
        rc = stel_connect(mine, (struct sockaddr *)&a, sizeof a);
        if (rc == 0) { /* there was room for one more */
            stel_close(mine);
            mine = (int)FIBER_OK(stel_socket(AF_UNIX, SOCK_STREAM, 0));
        }
    } while (rc == 0);
    stel_close(mine);
    return rc;
}

static const endless calls[] = {
    { "read", quiet_pipe, call_read },          { "read a socket", quiet_socket, call_read },
    { "readv", quiet_socket, call_readv },      { "write", full_pipe, call_write },
    { "recv", quiet_socket, call_recv },        { "recvmsg", quiet_socket, call_recvmsg },
    { "send", full_socket, call_send },         { "accept", quiet_listener, call_accept },
    { "wait_fd in", quiet_pipe, call_wait_in }, { "wait_fd out", full_pipe, call_wait_out },
    { "poll", quiet_pipe, call_poll },
};
enum { CALLS = sizeof calls / sizeof calls[0] };

typedef struct attempt {
    const endless *what;
    int fds[2], fd;
    _Atomic int begun;
} attempt;

static void prepare(attempt *a, const endless *what) {
    *a = (attempt){ .what = what };
    a->fd = what->make(a->fds);
}

static void clean_up(attempt *a) {
    for (int i = 0; i < 2; i++)
        if (a->fds[i] >= 0) FIBER_OK(stel_close(a->fds[i]));
}

static int limited(void *arg) {
    attempt *a = arg;
    for (int i = 0; i < 3; i++) {
        STEL_TIMEOUT(STEL_MS(i));
        int rc = a->what->call(a->fd);
        if (rc != -ETIMEDOUT) FIBER_FAIL("%s under a deadline: %s", a->what->name, stel_strerror(rc));
        FIBER_ASSERT(stel_timed_out());
        FIBER_ASSERT_EQ(a->what->call(a->fd), -ETIMEDOUT);
    }
    return 0;
}

static int call_it(void *arg) {
    attempt *a = arg;
    atomic_store(&a->begun, 1);
    return a->what->call(a->fd);
}

static int all_limited(void *arg) {
    attempt all[CALLS];
    stel_fiber f[CALLS];
    (void)arg;
    for (int i = 0; i < CALLS; i++) {
        prepare(&all[i], &calls[i]);
        f[i] = spawn(limited, &all[i]);
    }
    for (int i = 0; i < CALLS; i++) {
        FIBER_ASSERT_EQ(join(f[i]), 0);
        clean_up(&all[i]);
    }
    return 0;
}

RULE(deadlines, "A deadline ends every kind of wait with -ETIMEDOUT.") {
    run(2, all_limited, NULL);
}

static int all_cancelled(void *arg) {
    attempt all[CALLS];
    stel_fiber f[CALLS];
    (void)arg;
    for (int round = 0; round < 3; round++) { /* cancelled before it began; while it waits; at some moment */
        for (int i = 0; i < CALLS; i++) {
            prepare(&all[i], &calls[i]);
            f[i] = spawn(call_it, &all[i]);
        }
        for (int i = 0; i < CALLS; i++) {
            if (round == 1) AWAIT_PARKED(all[i].fd, 1);
            if (round == 2) stel_yield();
            FIBER_OK(stel_cancel(f[i]));
        }
        for (int i = 0; i < CALLS; i++) {
            int rc = join(f[i]);
            if (rc != -ECANCELED) FIBER_FAIL("%s, cancelled: %s", calls[i].name, stel_strerror(rc));
            clean_up(&all[i]);
        }
    }
    return 0;
}

RULE(cancellation, "Cancelling ends every kind of wait with -ECANCELED, whenever it comes.") {
    run(2, all_cancelled, NULL);
}

static int connects(void *arg) {
    static const endless connecting = { "connect", deaf_peer, call_connect };
    attempt a;
    (void)arg;
    prepare(&a, &connecting);
    {
        STEL_TIMEOUT(STEL_MS(5));
        FIBER_ASSERT_EQ(call_connect(a.fd), -ETIMEDOUT);
    }
    stel_fiber f = spawn(call_it, &a);
    FIBER_OK(stel_sleep(STEL_MS(2)));
    FIBER_OK(stel_cancel(f));
    FIBER_ASSERT_EQ(join(f), -ECANCELED);
    clean_up(&a);
    return 0;
}

RULE(connect_cut_short, "connect to a peer that does not answer: a deadline and cancelling end it.") {
    run(2, connects, NULL);
}

/* ---- what is left ---- */

/* Returns the code, and has looked that nothing was written where the buffer is or was. */
static int read_and_look(void *arg) {
    unsigned char buffer[256];
    memset(buffer, 0xa5, sizeof buffer);
    int rc;
    {
        STEL_TIMEOUT(STEL_US(300));
        rc = (int)stel_read((int)(intptr_t)arg, buffer, sizeof buffer);
    }
    for (int i = 0; i < 20; i++)
        stel_yield(); /* a late completion would have come by now, on some worker */
    int written = 0;
    for (unsigned i = 0; i < sizeof buffer; i++)
        written += buffer[i] != 0xa5;
    FIBER_ASSERT_EQ(written, rc > 0 ? rc : 0);
    return rc;
}

static int nothing_lost(void *arg) {
    int fds[2];
    (void)arg;
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    int rounds = (int)test_scale(150), received = 0;
    for (int i = 0; i < rounds; i++) {
        stel_fiber f = spawn(read_and_look, (void *)(intptr_t)fds[0]);
        FIBER_OK(stel_sleep(STEL_US(100 + 600 * i / rounds))); /* before the deadline, at it, after it */
        FIBER_ASSERT_EQ(stel_write(fds[1], "x", 1), 1);
        int rc = join(f);
        FIBER_ASSERT(rc > 0 || rc == -ETIMEDOUT);
        received += rc > 0 ? rc : 0;
    }
    FIBER_OK(stel_close(fds[1]));
    char byte;
    while (stel_read(fds[0], &byte, 1) == 1)
        received++;
    FIBER_ASSERT_EQ(received, rounds);
    return stel_close(fds[0]);
}

RULE(nothing_lost,
     "What comes as a read is cut short stays for the next one; the buffer is not touched after its return.") {
    run(2, nothing_lost, NULL);
}

static int accept_for_a_while(void *arg) {
    STEL_TIMEOUT(STEL_US(300));
    return stel_accept((int)(intptr_t)arg, NULL, NULL);
}

static int no_connection_lost(void *arg) {
    char address[64];
    (void)arg;
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 200)), rounds = (int)test_scale(60), accepted = 0;
    int *dialled = calloc((size_t)rounds, sizeof *dialled);
    FIBER_OK(stel_local_address(listener, address, sizeof address));
    for (int i = 0; i < rounds; i++) {
        stel_fiber f = spawn(accept_for_a_while, (void *)(intptr_t)listener);
        FIBER_OK(stel_sleep(STEL_US(100 + 600 * i / rounds)));
        dialled[i] = (int)FIBER_OK(stel_dial(address));
        int fd = join(f);
        FIBER_ASSERT(fd >= 0 || fd == -ETIMEDOUT);
        if (fd >= 0) FIBER_OK(stel_close(fd));
        accepted += fd >= 0;
    }
    for (; accepted < rounds; accepted++)
        FIBER_OK(stel_close((int)FIBER_OK(stel_accept(listener, NULL, NULL))));
    for (int i = 0; i < rounds; i++)
        FIBER_OK(stel_close(dialled[i]));
    free(dialled);
    return stel_close(listener);
}

RULE(no_connection_lost, "What connects as an accept is cut short is had by the next one.") {
    run(2, no_connection_lost, NULL);
}

static int deadline_and_data(void *arg) {
    int fds[2];
    (void)arg;
    FIBER_ASSERT_EQ(pipe(fds), 0);
    for (int i = 0; i < 200; i++) {
        STEL_TIMEOUT(STEL_SEC(60)); /* armed each time, and never reached */
        char byte = 0;
        FIBER_ASSERT_EQ(stel_write(fds[1], "x", 1), 1);
        FIBER_ASSERT_EQ(stel_read(fds[0], &byte, 1), 1);
    }
    FIBER_OK(stel_close(fds[0]));
    return stel_close(fds[1]);
}

RULE(deadlines_that_do_not_come, "A deadline that is not reached costs nothing but itself.") {
    run(1, deadline_and_data, NULL);
}

/* ---- cancelling at any moment ---- */

static int echo_until_cancelled(void *arg) {
    int fd = (int)(intptr_t)arg;
    char buffer[64];
    for (ssize_t n;;) {
        n = stel_read(fd, buffer, sizeof buffer);
        if (n <= 0) return (int)n;
        int rc = stel_write_all(fd, buffer, (size_t)n, NULL);
        if (rc < 0) return rc;
    }
}

static int talk_until_cancelled(void *arg) {
    int fd = (int)(intptr_t)arg;
    char buffer[64] = { 0 };
    for (;;) {
        int rc = stel_write_all(fd, buffer, sizeof buffer, NULL);
        if (rc == 0) rc = stel_read_full(fd, buffer, sizeof buffer, NULL);
        if (rc < 0) return rc;
    }
}

static int cancel_at_random(void *arg) {
    enum { PAIRS = 8 };
    uint64_t chance = test_seed();
    (void)arg;
    int rounds = (int)test_scale(30);
    for (int round = 0; round < rounds; round++) {
        int fds[PAIRS][2];
        stel_fiber f[PAIRS][2];
        for (int i = 0; i < PAIRS; i++) {
            FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]), 0);
            f[i][0] = spawn(talk_until_cancelled, (void *)(intptr_t)fds[i][0]);
            f[i][1] = spawn(echo_until_cancelled, (void *)(intptr_t)fds[i][1]);
        }
        FIBER_OK(stel_sleep(STEL_US(test_random(&chance, 1500))));
        for (int i = 0; i < PAIRS * 2; i++) {
            FIBER_OK(stel_cancel(f[i / 2][i % 2]));
            if (test_random(&chance, 3) == 0) stel_yield();
        }
        for (int i = 0; i < PAIRS * 2; i++)
            FIBER_ASSERT_EQ(join(f[i / 2][i % 2]), -ECANCELED);
        for (int i = 0; i < PAIRS * 2; i++)
            FIBER_OK(stel_close(fds[i / 2][i % 2]));
    }
    return 0;
}

RULE(cancelled_at_random, "Fibers in the middle of traffic are cancelled at random moments, and all end so.") {
    run(2, cancel_at_random, NULL);
}

const check *const run_limits_checks[] = {
    &check_of_deadlines,           &check_of_cancellation,
    &check_of_connect_cut_short,   &check_of_nothing_lost,
    &check_of_no_connection_lost,  &check_of_deadlines_that_do_not_come,
    &check_of_cancelled_at_random, NULL,
};
