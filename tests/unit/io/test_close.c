/* Closing under a wait, by the library and behind its back; numbers that are used again. */
#include "io_sides.h"
#include <errno.h>
#include <sys/syscall.h>

static int read_one(void *arg) {
    char byte;
    return (int)stel_read(*(int *)arg, &byte, 1);
}

static int write_until_error(void *arg) {
    static char block[1 << 20];
    ssize_t n;
    while ((n = stel_write(*(int *)arg, block, sizeof block)) > 0)
        ;
    return (int)n;
}

static int wait_for_it(void *arg) {
    return stel_wait_fd(*(int *)arg, POLLIN);
}

static int accept_one(void *arg) {
    return stel_accept(*(int *)arg, NULL, NULL);
}

/* ---- stel_close wakes everybody ---- */

static int close_under(void *arg) {
    (void)arg;
    int pair[2];
    side readers[3], writer, acceptor;
    /* Local: a TCP writer that waits is let go on now and then, as its buffers grow, and might be about to wait again at
     * the moment of the close. */
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    side_start(&readers[0], read_one, &pair[1]);
    side_start(&readers[1], read_one, &pair[1]);
    side_start(&readers[2], wait_for_it, &pair[1]);
    side_start(&writer, write_until_error, &pair[1]);
    AWAIT_PARKED(pair[1], 4);
    FIBER_OK(stel_close(pair[1]));
    for (int i = 0; i < 3; i++)
        FIBER_ASSERT_EQ(side_join(&readers[i]), -EBADF);
    FIBER_ASSERT_EQ(side_join(&writer), -EBADF);
    FIBER_ASSERT_EQ(parked_on(pair[1]), 0);
    FIBER_OK(stel_close(pair[0]));

    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 4));
    side_start(&acceptor, accept_one, &listener);
    AWAIT_PARKED(listener, 1);
    FIBER_OK(stel_close(listener));
    FIBER_ASSERT_EQ(side_join(&acceptor), -EBADF);

    int fds[2];
    FIBER_ASSERT_EQ(pipe(fds), 0);
    side_start(&readers[0], read_one, &fds[0]);
    AWAIT_PARKED(fds[0], 1);
    FIBER_OK(stel_close(fds[0]));
    FIBER_ASSERT_EQ(side_join(&readers[0]), -EBADF);
    FIBER_OK(stel_close(fds[1]));
    return 0;
}

START_TEST(closed_under_a_wait) {
    on_all_kinds(close_under);
}
END_TEST

/* ---- a number that is used again does not wake, or feed, an old waiter ---- */

static int reuse(void *arg) {
    (void)arg;
    char address[64];
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 16));
    snprintf(address, sizeof address, "127.0.0.1:%d", tcp_port_of(listener));
    for (int round = 0; round < 50; round++) {
        int old[2];
        char byte = 0;
        side reader;
        tcp_pair(old);
        int client = (int)FIBER_OK(stel_dial(address));
        side_start(&reader, read_one, &old[0]);
        AWAIT_PARKED(old[0], 1);
        int number = old[0];
        FIBER_OK(stel_close(old[0]));
        /* The same number, made by the library, and something to read on it at once. */
        FIBER_ASSERT_EQ(stel_write(client, "n", 1), 1);
        FIBER_ASSERT_EQ(stel_accept(listener, NULL, NULL), number);
        FIBER_ASSERT_EQ(stel_write(old[1], "m", 1), 1); /* somewhere in the old peer's queue */
        FIBER_ASSERT_EQ(side_join(&reader), -EBADF);
        FIBER_ASSERT_EQ(stel_read(number, &byte, 1), 1);
        FIBER_ASSERT_EQ(byte, 'n');
        FIBER_OK(stel_close(old[1]));
        FIBER_OK(stel_close(client));
        FIBER_OK(stel_close(number));
    }
    FIBER_OK(stel_close(listener));
    return 0;
}

START_TEST(reused_number) {
    on_all_kinds(reuse);
}
END_TEST

/* An event of an earlier life, delivered late, is dropped. */
static int late_event(void *arg) {
    (void)arg;
    int fds[2], error;
    char byte;
    side reader;
    tcp_pair(fds);
    stel__slot *s = stel__slot_at(fds[1], &error);
    uint32_t before = stel__load_relaxed(&s->generation);
    FIBER_OK(stel_close(fds[1]));
    FIBER_OK(stel_close(fds[0]));
    tcp_pair(fds);
    FIBER_ASSERT(stel__slot_at(fds[1], &error) == s || stel__slot_at(fds[0], &error) == s);
    FIBER_ASSERT(stel__load_relaxed(&s->generation) != before);
    (void)byte;
    side_start(&reader, read_one, &fds[1]);
    AWAIT_PARKED(fds[1], 1);
    uint32_t edges = stel__load_relaxed(&s->ready_in);
    extern void stel__slot_event(uint64_t token, int32_t events);
    stel__slot_event((uint64_t)before << 32 | (uint32_t)fds[1], POLLIN);
    FIBER_ASSERT_EQ(stel__load_relaxed(&s->ready_in), edges);
    FIBER_ASSERT_EQ(parked_on(fds[1]), 1);
    FIBER_ASSERT_EQ(stel_write(fds[0], "x", 1), 1);
    FIBER_ASSERT_EQ(side_join(&reader), 1);
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
    return 0;
}

START_TEST(late_events) {
    on_all_kinds(late_event);
}
END_TEST

/* ---- close(2) and dup2(2) behind the library's back: it heals ---- */

/* Past libc, so that ThreadSanitizer does not see what it would call a race, and rightly. */
static int close_unseen(int fd) {
    return (int)syscall(SYS_close, fd);
}
static int dup2_unseen(int from, int to) {
    return (int)syscall(SYS_dup3, from, to, 0);
}

static int behind_the_back(void *arg) {
    (void)arg;
    int fds[2], other[2];
    side reader;
    /* Closed, and the number is nobody's. */
    tcp_pair(fds);
    side_start(&reader, read_one, &fds[1]);
    AWAIT_PARKED(fds[1], 1);
    FIBER_ASSERT_EQ(close_unseen(fds[1]), 0);
    FIBER_ASSERT_EQ(side_join(&reader), -EBADF);
    FIBER_OK(stel_close(fds[0]));
    /* Another file under the same number: the waiter is its reader from now on. */
    tcp_pair(fds);
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
    side_start(&reader, read_one, &fds[1]);
    AWAIT_PARKED(fds[1], 1);
    FIBER_ASSERT_EQ(dup2_unseen(other[1], fds[1]), fds[1]);
    FIBER_ASSERT_EQ(write(other[0], "h", 1), 1);
    FIBER_ASSERT_EQ(side_join(&reader), 1);
    /* A pipe this time: what we knew of the number is wrong, too. */
    int p[2];
    FIBER_ASSERT_EQ(pipe(p), 0);
    side_start(&reader, read_one, &fds[1]);
    AWAIT_PARKED(fds[1], 1);
    FIBER_ASSERT_EQ(dup2_unseen(p[0], fds[1]), fds[1]);
    FIBER_ASSERT_EQ(write(p[1], "p", 1), 1);
    FIBER_ASSERT_EQ(side_join(&reader), 1);
    for (int i = 0; i < 2; i++) {
        FIBER_OK(stel_close(fds[i]));
        FIBER_OK(stel_close(other[i]));
        FIBER_OK(stel_close(p[i]));
    }
    return 0;
}

START_TEST(heals) {
    on_all_kinds(behind_the_back);
}
END_TEST

/* A file that lives on under another number and comes back to the first: its registration is out of date. */
static int there_and_back(void *arg) {
    (void)arg;
    int p[2];
    side reader;
    FIBER_ASSERT_EQ(pipe(p), 0);
    side_start(&reader, read_one, &p[0]);
    AWAIT_PARKED(p[0], 1);
    FIBER_ASSERT_EQ(stel_write(p[1], "1", 1), 1);
    FIBER_ASSERT_EQ(side_join(&reader), 1);
    int spare = dup(p[0]);
    FIBER_ASSERT(spare >= 0);
    FIBER_OK(stel_close(p[0]));
    FIBER_ASSERT_EQ(dup2(spare, p[0]), p[0]);
    side_start(&reader, read_one, &p[0]);
    AWAIT_PARKED(p[0], 1);
    FIBER_ASSERT_EQ(stel_write(p[1], "2", 1), 1);
    FIBER_ASSERT_EQ(side_join(&reader), 1);
    FIBER_OK(stel_close(spare));
    FIBER_OK(stel_close(p[0]));
    FIBER_OK(stel_close(p[1]));
    return 0;
}

START_TEST(saved_and_restored) {
    on_all_kinds(there_and_back);
}
END_TEST

/* Numbers change kind between two calls. */
static int change_kind(void *arg) {
    char byte;
    int fds[2], p[2];
    (void)arg;
    tcp_pair(fds);
    FIBER_ASSERT_EQ(stel_write(fds[0], "a", 1), 1);
    FIBER_ASSERT_EQ(stel_read(fds[1], &byte, 1), 1);
    FIBER_ASSERT_EQ(pipe(p), 0);
    FIBER_ASSERT_EQ(dup2(p[0], fds[1]), fds[1]);
    FIBER_ASSERT_EQ(dup2(p[1], fds[0]), fds[0]);
    FIBER_ASSERT_EQ(stel_write(fds[0], "b", 1), 1);
    FIBER_ASSERT_EQ(stel_read(fds[1], &byte, 1), 1);
    FIBER_ASSERT_EQ(byte, 'b');
    for (int i = 0; i < 2; i++) {
        FIBER_OK(stel_close(fds[i]));
        FIBER_OK(stel_close(p[i]));
    }
    return 0;
}

START_TEST(changed_kind) {
    on_all_kinds(change_kind);
}
END_TEST

/* ---- two runtimes and a plain thread on one descriptor ---- */

static int echo_pairs(void *arg) {
    int *fds = arg; /* reads from [0], writes to [1] */
    char byte;
    ssize_t n;
    while ((n = stel_read(fds[0], &byte, 1)) > 0)
        FIBER_ASSERT_EQ(stel_write(fds[1], &byte, 1), 1);
    FIBER_OK(stel_close(fds[1]));
    return (int)n;
}

START_TEST(two_runtimes) {
    /* thread -> runtime 1 -> runtime 2 -> thread; and both runtimes read the last pair's other end. */
    int a[2], b[2], c[2];
    tcp_pair(a);
    tcp_pair(b);
    tcp_pair(c);
    int first[2] = { a[1], b[0] }, second[2] = { b[1], c[0] };
    stel_runtime *rt[2];
    stel_fiber f[2], stray[2];
    for (int i = 0; i < 2; i++) {
        FIBER_OK(stel_runtime_create(&rt[i], NULL));
        FIBER_OK(stel_runtime_start(rt[i]));
    }
    FIBER_OK(stel_runtime_spawn(rt[0], &f[0], NULL, echo_pairs, first));
    FIBER_OK(stel_runtime_spawn(rt[1], &f[1], NULL, echo_pairs, second));
    for (int i = 0; i < 200; i++) {
        char byte = (char)i;
        FIBER_ASSERT_EQ(stel_write(a[0], &byte, 1), 1);
        FIBER_ASSERT_EQ(stel_read(c[1], &byte, 1), 1);
        FIBER_ASSERT_EQ(byte, (char)i);
    }
    /* Readers of both runtimes on one number; then one runtime goes away. */
    FIBER_OK(stel_runtime_spawn(rt[0], &stray[0], NULL, read_one, &a[0]));
    AWAIT_PARKED(a[0], 1);
    FIBER_OK(stel_runtime_spawn(rt[1], &stray[1], NULL, read_one, &a[0]));
    AWAIT_PARKED(a[0], 2);
    int result;
    FIBER_OK(stel_cancel(stray[1]));
    FIBER_OK(stel_join(stray[1], &result));
    FIBER_ASSERT_EQ(result, -ECANCELED);
    FIBER_ASSERT_EQ(shutdown(a[0], SHUT_WR), 0);
    FIBER_OK(stel_join(f[0], &result));
    FIBER_OK(stel_join(f[1], &result));
    FIBER_OK(stel_runtime_stop(rt[1], 0));
    FIBER_OK(stel_runtime_destroy(rt[1]));
    FIBER_ASSERT_EQ(stel_write(a[1], "z", 1), 1);
    FIBER_OK(stel_join(stray[0], &result));
    FIBER_ASSERT_EQ(result, 1);
    FIBER_OK(stel_runtime_stop(rt[0], 0));
    FIBER_OK(stel_runtime_destroy(rt[0]));
}
END_TEST

TEST_MAIN("io/close", closed_under_a_wait, reused_number, late_events, heals, saved_and_restored, changed_kind,
          two_runtimes)
