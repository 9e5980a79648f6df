/* read, write, readv, writev, read_full, write_all: on pipes, local sockets and TCP, from fibers and threads. */
#include "host/fault.h"
#include "io_sides.h"
#include <errno.h>

enum { PIPE, LOCAL, TCP, KINDS };

/* fds[0] reads what is written to fds[1]. The pipe and the local sockets are "inherited": they block. */
static void open_pair(int kind, int fds[2]) {
    if (kind == PIPE)
        FIBER_ASSERT_EQ(pipe(fds), 0);
    else if (kind == LOCAL)
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    else
        tcp_pair(fds);
}

static void close_pair(const int fds[2]) {
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
}

/* ---- what goes in comes out, in order, whether or not somebody has to wait ---- */

enum { BULK = 3 * 1024 * 1024 };

static unsigned char bulk_byte(size_t i) {
    return (unsigned char)(i * 31 + i / 4096);
}

static int write_bulk(void *arg) {
    int fd = *(int *)arg;
    unsigned char *data = malloc(BULK);
    FIBER_ASSERT(data != NULL);
    for (size_t i = 0; i < BULK; i++)
        data[i] = bulk_byte(i);
    struct iovec iov[4] = { { data, 1 }, { data + 1, 0 }, { data + 1, BULK / 2 }, { data + 1 + BULK / 2, 100000 } };
    size_t first = 1 + BULK / 2 + 100000, done = 7;
    FIBER_ASSERT_EQ(stel_writev(fd, iov, 4), (ssize_t)first);
    FIBER_ASSERT_EQ(stel_write(fd, data + first, 500000), 500000);
    first += 500000;
    FIBER_OK(stel_write_all(fd, data + first, BULK - first, &done));
    FIBER_ASSERT_EQ(done, BULK - first);
    free(data);
    return 0;
}

static void pass_bulk(int kind) {
    int fds[2];
    side writer;
    open_pair(kind, fds);
    int flags[2] = { fcntl(fds[0], F_GETFL), fcntl(fds[1], F_GETFL) };
    side_start(&writer, write_bulk, &fds[1]);
    unsigned char *data = malloc(BULK);
    FIBER_ASSERT(data != NULL);
    size_t done = 0;
    struct iovec iov[2] = { { data, 1000 }, { data + 1000, 9000 } };
    ssize_t n = FIBER_OK(stel_readv(fds[0], iov, 2));
    FIBER_ASSERT(n > 0 && n <= 10000);
    FIBER_OK(stel_read_full(fds[0], data + n, BULK - (size_t)n, &done));
    FIBER_ASSERT_EQ(done, BULK - (size_t)n);
    for (size_t i = 0; i < BULK; i++)
        if (data[i] != bulk_byte(i)) FIBER_FAIL("byte %zu is wrong", i);
    FIBER_ASSERT_EQ(side_join(&writer), 0);
    FIBER_ASSERT_EQ(fcntl(fds[0], F_GETFL), flags[0]);
    FIBER_ASSERT_EQ(fcntl(fds[1], F_GETFL), flags[1]);
    free(data);
    close_pair(fds);
}

static int pass_bulk_everywhere(void *arg) {
    (void)arg;
    for (int kind = 0; kind < KINDS; kind++)
        pass_bulk(kind);
    return 0;
}

START_TEST(bulk) {
    on_all_kinds(pass_bulk_everywhere);
}
END_TEST

/* Older kernels: no RWF_NOSIGNAL, no RWF_NOWAIT on pipes. */
START_TEST(bulk_on_an_old_kernel) {
    stel__fault_set(STEL__FAULT_PWRITEV2, 1, EOPNOTSUPP, true);
    stel__fault_set(STEL__FAULT_PREADV2, 1, EOPNOTSUPP, true);
    on_all_kinds(pass_bulk_everywhere);
    stel__fault_clear();
}
END_TEST

/* ---- end of file, zero bytes, bad arguments ---- */

static int ends_and_errors(void *arg) {
    char buffer[16];
    size_t done;
    int fds[2];
    (void)arg;
    for (int kind = 0; kind < KINDS; kind++) {
        open_pair(kind, fds);
        FIBER_ASSERT_EQ(stel_read(fds[0], buffer, 0), 0);
        FIBER_ASSERT_EQ(stel_write(fds[1], buffer, 0), 0);
        FIBER_ASSERT_EQ(stel_write(fds[1], "abc", 3), 3);
        FIBER_OK(stel_close(fds[1]));
        FIBER_ASSERT_EQ(stel_read_full(fds[0], buffer, 8, &done), -ENODATA);
        FIBER_ASSERT_EQ(done, 3);
        FIBER_ASSERT_EQ(stel_read(fds[0], buffer, 8), 0);
        FIBER_ASSERT_EQ(stel_readv(fds[0], NULL, 1), -EFAULT);
        FIBER_ASSERT_EQ(stel_readv(fds[0], NULL, -1), -EINVAL);
        FIBER_OK(stel_close(fds[0]));
        FIBER_ASSERT_EQ(stel_read(fds[0], buffer, 8), -EBADF);
        FIBER_ASSERT_EQ(stel_write(fds[0], buffer, 8), -EBADF);
        FIBER_ASSERT_EQ(stel_close(fds[0]), -EBADF);
    }
    FIBER_ASSERT_EQ(stel_read(-1, buffer, 8), -EBADF);
    FIBER_ASSERT_EQ(stel_write(-5, buffer, 8), -EBADF);
    FIBER_ASSERT_EQ(stel_close(-1), -EBADF);
    return 0;
}

START_TEST(errors) {
    on_all_kinds(ends_and_errors);
}
END_TEST

START_TEST(errors_on_an_old_kernel) {
    stel__fault_set(STEL__FAULT_PWRITEV2, 1, EOPNOTSUPP, true);
    stel__fault_set(STEL__FAULT_PREADV2, 1, EOPNOTSUPP, true);
    on_all_kinds(ends_and_errors);
    stel__fault_clear();
}
END_TEST

/* ---- a peer that is gone: -EPIPE, and nobody hears SIGPIPE ---- */

static _Atomic int signals;
static void count_signal(int number) {
    (void)number;
    signals++;
}

static int write_to_nobody(void *arg) {
    char block[65536] = { 0 };
    int fds[2];
    (void)arg;
    for (int kind = 0; kind < KINDS; kind++) {
        open_pair(kind, fds);
        FIBER_OK(stel_close(fds[0]));
        ssize_t n;
        do /* TCP notices with the peer's answer to the first bytes */
            n = stel_write(fds[1], block, sizeof block);
        while (n > 0);
        FIBER_ASSERT(n == -EPIPE || (kind == TCP && n == -ECONNRESET));
        FIBER_ASSERT_EQ(stel_write(fds[1], block, 1), -EPIPE);
        FIBER_OK(stel_close(fds[1]));
    }
    return 0;
}

START_TEST(no_sigpipe) {
    signal(SIGPIPE, count_signal);
    on_all_kinds(write_to_nobody);
    stel__fault_set(STEL__FAULT_PWRITEV2, 1, EOPNOTSUPP, true);
    on_all_kinds(write_to_nobody);
    stel__fault_clear();
    ck_assert_int_eq(signals, 0);
    /* Nor is it left pending, to go off later. */
    sigset_t pending;
    sigpending(&pending);
    ck_assert(!sigismember(&pending, SIGPIPE));
    raise(SIGPIPE);
    ck_assert_int_eq(signals, 1);
}
END_TEST

/* ---- deadlines ---- */

static int time_limits(void *arg) {
    static char block[8 * 1024 * 1024];
    char buffer[16];
    int fds[2];
    (void)arg;
    for (int kind = 0; kind < KINDS; kind++) {
        open_pair(kind, fds);
        {
            STEL_TIMEOUT(STEL_MS(20));
            int64_t before = stel_now();
            FIBER_ASSERT_EQ(stel_read(fds[0], buffer, sizeof buffer), -ETIMEDOUT);
            FIBER_ASSERT(stel_timed_out());
            FIBER_ASSERT(stel_now() - before >= STEL_MS(15));
            FIBER_ASSERT_EQ(stel_read(fds[0], buffer, sizeof buffer), -ETIMEDOUT);
            FIBER_ASSERT_EQ(stel_write(fds[1], "x", 1), -ETIMEDOUT);
        }
        {
            /* Nobody reads: what fitted is counted, and the next call tells. */
            STEL_TIMEOUT(STEL_MS(20));
            size_t done = 0;
            FIBER_ASSERT_EQ(stel_write_all(fds[1], block, sizeof block, &done), -ETIMEDOUT);
            FIBER_ASSERT(done > 0 && done < sizeof block);
        }
        FIBER_ASSERT_EQ(parked_on(fds[0]), 0);
        FIBER_ASSERT_EQ(parked_on(fds[1]), 0);
        close_pair(fds);
    }
    return 0;
}

START_TEST(deadline) {
    on_all_kinds(time_limits);
}
END_TEST

/* ---- cancellation: fibers only ---- */

static int read_one(void *arg) {
    char byte;
    ssize_t n = stel_read(*(int *)arg, &byte, 1);
    FIBER_ASSERT(n != -ECANCELED || stel_cancelled());
    return (int)n;
}

static int cancel_readers(void *arg) {
    (void)arg;
    for (int kind = 0; kind < KINDS; kind++) {
        int fds[2];
        stel_fiber reader;
        int result;
        char byte;
        open_pair(kind, fds);
        FIBER_OK(stel_spawn(&reader, read_one, &fds[0]));
        AWAIT_PARKED(fds[0], 1);
        FIBER_OK(stel_cancel(reader));
        FIBER_OK(stel_join(reader, &result));
        FIBER_ASSERT_EQ(result, -ECANCELED);
        FIBER_ASSERT_EQ(parked_on(fds[0]), 0);
        /* It has taken nothing. */
        FIBER_ASSERT_EQ(stel_write(fds[1], "y", 1), 1);
        FIBER_ASSERT_EQ(stel_read(fds[0], &byte, 1), 1);
        FIBER_ASSERT_EQ(byte, 'y');
        close_pair(fds);
    }
    return 0;
}

START_TEST(cancellation) {
    ck_assert_int_eq(run_in_runtime(1, cancel_readers, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, cancel_readers, NULL), 0);
}
END_TEST

/* ---- several readers on one descriptor: each byte goes to one of them ---- */

typedef struct share {
    int fd;
    _Atomic long sum, count;
} share;

static int take_bytes(void *arg) {
    share *s = arg;
    unsigned char buffer[7];
    ssize_t n;
    while ((n = stel_read(s->fd, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < n; i++) {
            s->sum += buffer[i];
            s->count++;
        }
    return (int)n;
}

static int many_readers(void *arg) {
    enum { READERS = 5, BYTES = 20000 };
    (void)arg;
    for (int kind = 0; kind < KINDS; kind++) {
        int fds[2];
        side readers[READERS];
        long sum = 0;
        open_pair(kind, fds);
        share s = { .fd = fds[0] };
        for (int i = 0; i < READERS; i++)
            side_start(&readers[i], take_bytes, &s);
        for (int i = 0; i < BYTES; i++) {
            unsigned char byte = (unsigned char)(i * 7);
            sum += byte;
            FIBER_ASSERT_EQ(stel_write(fds[1], &byte, 1), 1);
            if (i % 1000 == 0) AWAIT_PARKED(fds[0], 1);
        }
        FIBER_OK(stel_close(fds[1]));
        for (int i = 0; i < READERS; i++)
            FIBER_ASSERT_EQ(side_join(&readers[i]), 0);
        FIBER_ASSERT_EQ(s.count, BYTES);
        FIBER_ASSERT_EQ(s.sum, sum);
        FIBER_OK(stel_close(fds[0]));
    }
    return 0;
}

START_TEST(several_readers) {
    on_all_kinds(many_readers);
}
END_TEST

/* ---- one reads and another writes the same descriptor ---- */

static int echo_until_end(void *arg) {
    char buffer[512];
    ssize_t n;
    while ((n = stel_read(*(int *)arg, buffer, sizeof buffer)) > 0)
        FIBER_OK(stel_write_all(*(int *)arg, buffer, (size_t)n, NULL));
    return (int)n;
}

static int talk(void *arg) {
    enum { BYTES = 1 << 20 };
    int *fd = arg;
    char *block = calloc(1, BYTES);
    FIBER_ASSERT_EQ(stel_write(*fd, block, BYTES), BYTES);
    free(block);
    return 0;
}

static int both_ways(void *arg) {
    (void)arg;
    for (int kind = LOCAL; kind < KINDS; kind++) {
        int fds[2];
        side echo, talker;
        open_pair(kind, fds);
        side_start(&echo, echo_until_end, &fds[1]);
        side_start(&talker, talk, &fds[0]);
        char *back = malloc(1 << 20);
        FIBER_OK(stel_read_full(fds[0], back, 1 << 20, NULL));
        free(back);
        FIBER_ASSERT_EQ(side_join(&talker), 0);
        FIBER_ASSERT_EQ(shutdown(fds[0], SHUT_WR), 0);
        FIBER_ASSERT_EQ(side_join(&echo), 0);
        close_pair(fds);
    }
    return 0;
}

START_TEST(reader_and_writer) {
    on_all_kinds(both_ways);
}
END_TEST

TEST_MAIN("io/stream", bulk, bulk_on_an_old_kernel, errors, errors_on_an_old_kernel, no_sigpipe, deadline, cancellation,
          several_readers, reader_and_writer)
