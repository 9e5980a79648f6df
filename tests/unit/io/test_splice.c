/* sendfile and splice: from files, pipes and sockets to each other, blocking descriptors and others. */
#include "host/fault.h"
#include "io_sides.h"
#include <sys/eventfd.h>
#include <sys/stat.h>

enum { BYTES = 1500000 };

static char pattern(size_t i) {
    return (char)(i % 251 ^ i >> 16);
}

/* A file of BYTES bytes that has no name any more. cold: thrown out of memory, as far as the kernel does it. */
static int new_file(bool cold) {
    char name[] = "/tmp/stel-splice-XXXXXX";
    int fd = mkstemp(name);
    FIBER_ASSERT(fd >= 0);
    FIBER_ASSERT_EQ(unlink(name), 0);
    char *data = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++)
        data[i] = pattern(i);
    FIBER_ASSERT_EQ(write(fd, data, BYTES), BYTES);
    free(data);
    FIBER_ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
    if (cold) {
        FIBER_ASSERT_EQ(fdatasync(fd), 0);
        FIBER_ASSERT_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    }
    return fd;
}

typedef struct sink {
    int fd;
    size_t from, bytes; /* of the pattern; bytes 0: until the end */
    bool slow;
} sink;

/* Reads and compares; how much it was. */
static int drain(void *arg) {
    const sink *s = arg;
    size_t total = 0;
    char buffer[20000];
    ssize_t n = 1;
    while (n > 0 && (!s->bytes || total < s->bytes)) {
        size_t room = sizeof buffer;
        if (s->bytes && s->bytes - total < room) room = s->bytes - total;
        n = stel_read(s->fd, buffer, room);
        for (ssize_t i = 0; i < n; i++)
            FIBER_ASSERT_EQ(buffer[i], pattern(s->from + total + (size_t)i));
        if (n > 0) total += (size_t)n;
        if (s->slow && total % 7 == 0) check_fiber_nap();
    }
    return n < 0 ? (int)n : (int)total;
}

/* A way for bytes: [1] in, [0] out. */
enum way { TCP, LOCAL_BLOCKING, LOCAL_NONBLOCK, PIPE_BLOCKING, PIPE_NONBLOCK, WAYS };

static void make_way(enum way way, int fds[2]) {
    switch (way) {
    case TCP:
        tcp_pair(fds);
        break;
    case LOCAL_BLOCKING:
    case LOCAL_NONBLOCK:
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | (way == LOCAL_NONBLOCK ? SOCK_NONBLOCK : 0), 0, fds), 0);
        break;
    default:
        FIBER_ASSERT_EQ(pipe2(fds, way == PIPE_NONBLOCK ? O_NONBLOCK : 0), 0);
    }
}

static bool never_set(enum way way, const int fds[2]) {
    bool blocking = way == LOCAL_BLOCKING || way == PIPE_BLOCKING;
    return !blocking || !((fcntl(fds[0], F_GETFL) | fcntl(fds[1], F_GETFL)) & O_NONBLOCK);
}

/* ---- sendfile ---- */

static int send_files(void *arg) {
    (void)arg;
    for (enum way way = 0; way < WAYS; way++)
        for (int cold = 0; cold < 2; cold++) {
            int fds[2], file = new_file(cold);
            side reader;
            make_way(way, fds);
            /* All of it, from the file's own position, to a slow peer. */
            sink s = { .fd = fds[0], .bytes = BYTES, .slow = cold };
            side_start(&reader, drain, &s);
            FIBER_ASSERT_EQ(stel_sendfile(fds[1], file, NULL, BYTES), BYTES);
            FIBER_ASSERT_EQ(side_join(&reader), BYTES);
            FIBER_ASSERT_EQ(lseek(file, 0, SEEK_CUR), BYTES);
            FIBER_ASSERT_EQ(stel_sendfile(fds[1], file, NULL, BYTES), 0); /* the end of the file */
            /* From an offset; the position stays where it was. More than there is. */
            off_t at = 1000003;
            s = (sink){ .fd = fds[0], .from = 1000003, .bytes = BYTES - 1000003 };
            side_start(&reader, drain, &s);
            FIBER_ASSERT_EQ(stel_sendfile(fds[1], file, &at, 10 * BYTES), BYTES - 1000003);
            FIBER_ASSERT_EQ(side_join(&reader), BYTES - 1000003);
            FIBER_ASSERT_EQ(at, BYTES);
            FIBER_ASSERT_EQ(lseek(file, 0, SEEK_CUR), BYTES);
            FIBER_ASSERT_EQ(stel_sendfile(fds[1], file, &at, 0), 0);
            FIBER_ASSERT(never_set(way, fds));
            FIBER_OK(stel_close(fds[0]));
            FIBER_OK(stel_close(fds[1]));
            FIBER_OK(stel_close(file));
        }
    return 0;
}

START_TEST(sendfile_everywhere) {
    on_all_kinds(send_files);
}
END_TEST

static int file_to_file(void *arg) {
    (void)arg;
    int from = new_file(true), to = new_file(false);
    FIBER_ASSERT_EQ(ftruncate(to, 0), 0);
    FIBER_ASSERT_EQ(stel_sendfile(to, from, NULL, BYTES), BYTES);
    FIBER_ASSERT_EQ(lseek(to, 0, SEEK_SET), 0);
    sink s = { .fd = to };
    FIBER_ASSERT_EQ(drain(&s), BYTES);
    FIBER_OK(stel_close(from));
    FIBER_OK(stel_close(to));
    return 0;
}

START_TEST(sendfile_to_a_file) {
    on_all_kinds(file_to_file);
}
END_TEST

typedef struct sending {
    int out, in;
} sending;

static int send_for_ever(void *arg) {
    const sending *s = arg;
    for (;;) {
        off_t at = 0;
        ssize_t n = stel_sendfile(s->out, s->in, &at, BYTES);
        if (n < 0) return (int)n;
        FIBER_ASSERT_EQ(at, n); /* less when it is cut short, and the offset says how much */
    }
}

static int cut_short(void *arg) {
    (void)arg;
    for (enum way way = 0; way < WAYS; way++) {
        int fds[2], file = new_file(false);
        side sender;
        make_way(way, fds);
        sending s = { fds[1], file };
        check_limits(send_for_ever, &s);
        side_start(&sender, send_for_ever, &s);
        AWAIT_PARKED(fds[1], 1);
        FIBER_OK(stel_close(fds[1]));
        FIBER_ASSERT_EQ(side_join(&sender), -EBADF);
        FIBER_OK(stel_close(fds[0]));
        /* Nobody reads: an error, not a signal. */
        make_way(way, fds);
        FIBER_OK(stel_close(fds[0]));
        s.out = fds[1];
        int rc = send_for_ever(&s);
        FIBER_ASSERT(rc == -EPIPE || rc == -ECONNRESET);
        FIBER_OK(stel_close(fds[1]));
        FIBER_OK(stel_close(file));
    }
    return 0;
}

START_TEST(sendfile_cut_short) {
    on_all_kinds(cut_short);
}
END_TEST

static int wrong(void *arg) {
    (void)arg;
    int p[2], file = new_file(false), device = open("/dev/zero", O_RDONLY);
    off_t before = -1;
    FIBER_ASSERT_EQ(pipe(p), 0);
    FIBER_ASSERT_EQ(stel_sendfile(-1, file, NULL, 1), -EBADF);
    FIBER_ASSERT_EQ(stel_sendfile(p[1], -1, NULL, 1), -EBADF);
    FIBER_ASSERT_EQ(stel_sendfile(file, p[0], NULL, 1), -EINVAL); /* no positions there */
    FIBER_ASSERT_EQ(stel_sendfile(p[1], file, &before, 1), -EINVAL);
    FIBER_ASSERT_EQ(stel_sendfile(p[1], file, NULL, SIZE_MAX), -EINVAL);
    FIBER_ASSERT_EQ(stel_splice(file, NULL, device, NULL, 1, 0), -EINVAL); /* no pipe */
    FIBER_ASSERT_EQ(stel_splice(-1, NULL, p[1], NULL, 1, 0), -EBADF);
    FIBER_ASSERT_EQ(stel_splice(p[0], NULL, -1, NULL, 1, 0), -EBADF);
    before = 0;
    FIBER_ASSERT_EQ(stel_splice(p[0], &before, file, NULL, 1, 0), -ESPIPE);
    FIBER_ASSERT_EQ(stel_sendfile(p[1], device, NULL, 1000), 1000); /* neither file nor socket, but with positions */
    char buffer[1000];
    FIBER_ASSERT_EQ(stel_read(p[0], buffer, 1000), 1000);
    stel__fault_set(STEL__FAULT_SPLICE, 1, ENOMEM, false);
    FIBER_ASSERT_EQ(stel_sendfile(p[1], file, NULL, 1), -ENOMEM);
    stel__fault_set(STEL__FAULT_SPLICE, 2, ENOMEM, false); /* in the middle: what was moved counts */
    FIBER_ASSERT_EQ(stel_sendfile(p[1], file, NULL, 1 << 17), 1 << 16);
    FIBER_ASSERT_EQ(lseek(file, 0, SEEK_CUR), 1 << 16);
    stel__fault_set(STEL__FAULT_SPLICE, 1, ENOMEM, false);
    FIBER_ASSERT_EQ(stel_splice(p[0], NULL, file, NULL, 1, 0), -ENOMEM);
    int fds[2];
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, false);
    FIBER_ASSERT_EQ(stel_sendfile(fds[0], file, NULL, 1), -ENOMEM);
    stel__fault_set(STEL__FAULT_LSEEK, 1, ESPIPE, false);
    FIBER_ASSERT_EQ(stel_sendfile(fds[0], file, NULL, 1), -EINVAL);
    tcp_pair(&fds[0]);
    stel__fault_set(STEL__FAULT_SENDFILE, 1, EIO, false);
    FIBER_ASSERT_EQ(stel_sendfile(fds[0], file, NULL, 1), -EIO);
    stel__fault_clear();
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
    FIBER_OK(stel_close(p[0]));
    FIBER_OK(stel_close(p[1]));
    FIBER_OK(stel_close(file));
    FIBER_OK(stel_close(device));
    return 0;
}

START_TEST(errors) {
    on_all_kinds(wrong);
}
END_TEST

/* ---- splice ---- */

typedef struct hop {
    int from, to;
    size_t bytes;
} hop;

/* As much as there is to have, from one to the other. */
static int splice_all(void *arg) {
    const hop *h = arg;
    size_t total = 0;
    ssize_t n;
    while ((n = stel_splice(h->from, NULL, h->to, NULL, 1 << 16, 0)) > 0)
        total += (size_t)n;
    return n < 0 ? (int)n : (int)total;
}

/* file -> pipe -> socket -> pipe -> file, every part blocking or not, one fiber a hop. */
static int chain(void *arg) {
    (void)arg;
    for (int blocking = 0; blocking < 2; blocking++)
        for (int tcp = 0; tcp < 2; tcp++) {
            int a[2], b[2], s[2], from = new_file(blocking), to = new_file(false);
            side sides[4];
            FIBER_ASSERT_EQ(ftruncate(to, 0), 0);
            make_way(blocking ? PIPE_BLOCKING : PIPE_NONBLOCK, a);
            make_way(blocking ? PIPE_BLOCKING : PIPE_NONBLOCK, b);
            make_way(tcp ? TCP : blocking ? LOCAL_BLOCKING : LOCAL_NONBLOCK, s);
            if (tcp && blocking) /* as if the library had not made them */
                for (int i = 0; i < 2; i++) {
                    FIBER_ASSERT_EQ(fcntl(s[i], F_SETFL, 0), 0);
                    FIBER_OK(stel_fd_release(s[i]));
                }
            hop hops[4] = { { .from = from, .to = a[1] },
                            { .from = a[0], .to = s[1] },
                            { .from = s[0], .to = b[1] },
                            { .from = b[0], .to = to } };
            for (int i = 3; i >= 0; i--)
                side_start(&sides[i], splice_all, &hops[i]);
            FIBER_ASSERT_EQ(side_join(&sides[0]), BYTES);
            FIBER_OK(stel_close(a[1]));
            FIBER_ASSERT_EQ(side_join(&sides[1]), BYTES);
            FIBER_ASSERT_EQ(shutdown(s[1], SHUT_WR), 0);
            FIBER_ASSERT_EQ(side_join(&sides[2]), BYTES);
            FIBER_OK(stel_close(b[1]));
            FIBER_ASSERT_EQ(side_join(&sides[3]), BYTES);
            FIBER_ASSERT_EQ(lseek(to, 0, SEEK_SET), 0);
            sink end = { .fd = to };
            FIBER_ASSERT_EQ(drain(&end), BYTES);
            FIBER_ASSERT(!blocking || !(fcntl(s[0], F_GETFL) & O_NONBLOCK));
            const int rest[] = { a[0], b[0], s[0], s[1], from, to };
            for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
                FIBER_OK(stel_close(rest[i]));
        }
    return 0;
}

START_TEST(splice_chain) {
    on_all_kinds(chain);
}
END_TEST

static int splice_some(void *arg) {
    const hop *h = arg;
    return (int)stel_splice(h->from, NULL, h->to, NULL, h->bytes, 0);
}

static int splice_waits(void *arg) {
    (void)arg;
    for (int blocking = 0; blocking < 2; blocking++) {
        int a[2], b[2], s[2];
        side other;
        static char block[1 << 20];
        make_way(blocking ? PIPE_BLOCKING : PIPE_NONBLOCK, a);
        make_way(blocking ? PIPE_BLOCKING : PIPE_NONBLOCK, b);
        make_way(blocking ? LOCAL_BLOCKING : LOCAL_NONBLOCK, s);
        /* On the empty side, then on the full one; it returns as soon as it has moved something. */
        hop h = { .from = a[0], .to = b[1], .bytes = 1000 };
        FIBER_ASSERT_EQ(stel_splice(a[0], NULL, b[1], NULL, 1, SPLICE_F_NONBLOCK), -EAGAIN);
        check_limits(splice_some, &h);
        side_start(&other, splice_some, &h);
        AWAIT_PARKED(a[0], 1);
        FIBER_ASSERT_EQ(stel_write(a[1], "abc", 3), 3);
        FIBER_ASSERT_EQ(side_join(&other), 3);
        FIBER_ASSERT_EQ(fcntl(b[1], F_SETFL, O_NONBLOCK), 0);
        while (write(b[1], block, sizeof block) > 0)
            ;
        FIBER_ASSERT_EQ(fcntl(b[1], F_SETFL, blocking ? 0 : O_NONBLOCK), 0);
        FIBER_ASSERT_EQ(stel_write(a[1], "abc", 3), 3);
        check_limits(splice_some, &h);
        side_start(&other, splice_some, &h);
        AWAIT_PARKED(b[1], 1);
        FIBER_ASSERT(stel_read(b[0], block, sizeof block) > 0);
        FIBER_ASSERT_EQ(side_join(&other), 3);
        /* A socket as either side. */
        hop from_socket = { .from = s[0], .to = a[1], .bytes = 1000 };
        check_limits(splice_some, &from_socket);
        side_start(&other, splice_some, &from_socket);
        AWAIT_PARKED(s[0], 1);
        FIBER_ASSERT_EQ(stel_write(s[1], "abc", 3), 3);
        FIBER_ASSERT_EQ(side_join(&other), 3);
        while (stel_send(s[1], block, sizeof block, MSG_DONTWAIT) > 0)
            ;
        hop to_socket = { .from = a[0], .to = s[1], .bytes = 1000 };
        check_limits(splice_some, &to_socket);
        side_start(&other, splice_some, &to_socket);
        AWAIT_PARKED(s[1], 1);
        FIBER_OK(stel_close(s[1]));
        FIBER_ASSERT_EQ(side_join(&other), -EBADF);
        /* Closed under it; the end; nobody reads. */
        FIBER_ASSERT_EQ(stel_read(a[0], block, 8), 3);
        side_start(&other, splice_some, &h);
        AWAIT_PARKED(a[0], 1);
        FIBER_OK(stel_close(a[0]));
        FIBER_ASSERT_EQ(side_join(&other), -EBADF);
        FIBER_OK(stel_close(a[1]));
        make_way(PIPE_BLOCKING, a);
        h.from = a[0];
        FIBER_ASSERT_EQ(stel_write(a[1], "abc", 3), 3);
        FIBER_OK(stel_close(b[0]));
        FIBER_ASSERT_EQ(splice_some(&h), -EPIPE);
        FIBER_OK(stel_close(a[1]));
        FIBER_ASSERT_EQ(stel_read(a[0], block, 8), 3);
        FIBER_ASSERT_EQ(stel_splice(a[0], NULL, s[0], NULL, 8, 0), 0);
        FIBER_OK(stel_close(a[0]));
        FIBER_OK(stel_close(b[1]));
        FIBER_OK(stel_close(s[0]));
    }
    return 0;
}

START_TEST(splice_waiting) {
    on_all_kinds(splice_waits);
}
END_TEST

/* A blocked destination does not keep the worker from its other fibers. */
static int worker_is_free(void *arg) {
    (void)arg;
    for (enum way way = 0; way < WAYS; way++) {
        int fds[2], file = new_file(true);
        side sender;
        make_way(way, fds);
        sending s = { fds[1], file };
        side_start(&sender, send_for_ever, &s);
        for (int i = 0; i < 20; i++) /* one worker: were it blocked, this would never come to its end */
            FIBER_OK(stel_sleep(STEL_MS(1)));
        FIBER_OK(stel_cancel(sender.fiber));
        FIBER_ASSERT_EQ(side_join(&sender), -ECANCELED);
        FIBER_OK(stel_close(fds[0]));
        FIBER_OK(stel_close(fds[1]));
        FIBER_OK(stel_close(file));
    }
    return 0;
}

START_TEST(worker_goes_on) {
    ck_assert_int_eq(run_in_runtime(1, worker_is_free, NULL), 0);
}
END_TEST

TEST_MAIN("io/splice", sendfile_everywhere, sendfile_to_a_file, sendfile_cut_short, errors, splice_chain,
          splice_waiting, worker_goes_on)
