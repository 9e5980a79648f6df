/* stel_fd_release; and numbers that are closed, replaced or given to other files behind the library's back: while
 * somebody waits on them and while nobody does, announced by stel_fd_release and not. */
#include "io_sides.h"
#include <sys/eventfd.h>
#include <sys/syscall.h>

/* Past libc, so that ThreadSanitizer does not see what it would call a race, and rightly. */
static int close_unseen(int fd) {
    return (int)syscall(SYS_close, fd);
}
static int dup2_unseen(int from, int to) {
    return (int)syscall(SYS_dup3, from, to, 0);
}

static int read_one(void *arg) {
    char byte = 0;
    ssize_t n = stel_read(*(int *)arg, &byte, 1);
    return n == 1 ? byte : (int)n;
}

/* A pair of something, [0] to read, [1] to write. */
enum kind { TCP, UDP, LOCAL, PIPE, FILE_KIND, KINDS };

static void make(enum kind kind, int fds[2]) {
    char name[] = "/tmp/stel-release-XXXXXX";
    switch (kind) {
    case TCP:
        tcp_pair(fds);
        break;
    case UDP:
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
        break;
    case LOCAL:
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        break;
    case PIPE:
        FIBER_ASSERT_EQ(pipe(fds), 0);
        break;
    default:
        fds[1] = mkstemp(name);
        fds[0] = open(name, O_RDONLY);
        FIBER_ASSERT(fds[1] >= 0 && fds[0] >= 0);
        FIBER_ASSERT_EQ(unlink(name), 0);
    }
}

/* Reading a part and being told that nothing is left: all that is known of a number gets known. */
static void use(enum kind kind, const int fds[2]) {
    char buffer[8];
    side reader;
    FIBER_ASSERT_EQ(stel_write(fds[1], "a", 1), 1);
    FIBER_ASSERT_EQ(stel_read(fds[0], buffer, 8), 1);
    if (kind == FILE_KIND) return;
    side_start(&reader, read_one, (void *)(uintptr_t)&fds[0]);
    AWAIT_PARKED(fds[0], 1);
    FIBER_ASSERT_EQ(stel_write(fds[1], "b", 1), 1);
    FIBER_ASSERT_EQ(side_join(&reader), 'b');
}

/* The number is that other thing now: reading waits for it, is woken by it, and can be cut short. */
static void works_as(enum kind kind, int in, int out) {
    char buffer[8];
    side reader;
    if (kind == FILE_KIND) {
        FIBER_ASSERT_EQ(stel_write(out, "xy", 2), 2);
        FIBER_ASSERT_EQ(stel_read(in, buffer, 8), 2);
        FIBER_ASSERT_EQ(stel_read(in, buffer, 8), 0);
        int rc = stel_wait_fd(in, POLLIN);
        FIBER_ASSERT(rc == -EPERM || rc == POLLIN); /* always ready: what it says if nobody has noticed yet */
        return;
    }
    {
        STEL_TIMEOUT(STEL_MS(2));
        FIBER_ASSERT_EQ(stel_read(in, buffer, 8), -ETIMEDOUT);
    }
    side_start(&reader, read_one, &in);
    AWAIT_PARKED(in, 1);
    FIBER_ASSERT_EQ(stel_write(out, "x", 1), 1);
    FIBER_ASSERT_EQ(side_join(&reader), 'x');
    FIBER_ASSERT_EQ(stel_write(out, "yz", 2), 2);
    FIBER_ASSERT_EQ(stel_wait_fd(in, POLLIN), POLLIN);
    FIBER_ASSERT_EQ(stel_read(in, buffer, 8), 2);
    FIBER_ASSERT_EQ(stel_write(out, "1", 1), 1);
    FIBER_ASSERT_EQ(stel_write(out, "2", 1), 1);
    FIBER_ASSERT_EQ(stel_read(in, buffer, 1), 1);
    FIBER_ASSERT_EQ(stel_read(in, buffer, 1), 1);
}

static int every_change(void *arg) {
    (void)arg;
    for (enum kind was = 0; was < KINDS; was++)
        for (enum kind is = 0; is < KINDS; is++)
            for (int how = 0; how < 3; how++) {
                int a[2], b[2];
                if (how > 0 && is != (was + (unsigned)how) % KINDS)
                    continue; /* some: healing takes a tenth of a second */
                make(was, a);
                make(is, b);
                use(was, a);
                if (how == 0) { /* said before */
                    FIBER_OK(stel_fd_release(a[0]));
                    FIBER_OK(stel_fd_release(a[1]));
                }
                if (how == 2) { /* closed, and made anew by somebody else */
                    FIBER_ASSERT_EQ(close(a[0]), 0);
                    FIBER_ASSERT_EQ(close(a[1]), 0);
                    FIBER_ASSERT_EQ(fcntl(b[0], F_DUPFD, a[0]), a[0]);
                    FIBER_ASSERT_EQ(fcntl(b[1], F_DUPFD, a[1]), a[1]);
                } else {
                    FIBER_ASSERT_EQ(dup2(b[0], a[0]), a[0]);
                    FIBER_ASSERT_EQ(dup2(b[1], a[1]), a[1]);
                }
                works_as(is, a[0], a[1]);
                for (int i = 0; i < 2; i++) {
                    FIBER_OK(stel_close(a[i]));
                    FIBER_OK(stel_close(b[i]));
                }
            }
    return 0;
}

START_TEST(any_to_any) {
    on_all_kinds(every_change);
}
END_TEST

/* Much is written to what was a message socket when it was looked at, and is a stream now. */
static int drain(void *arg) {
    static char sink[1 << 16];
    int total = 0;
    ssize_t n;
    while ((n = stel_read(*(int *)arg, sink, sizeof sink)) > 0)
        total += (int)n;
    return total;
}

static int messages_to_stream(void *arg) {
    enum { BYTES = 1 << 20 };
    (void)arg;
    int a[2], b[2];
    side reader;
    char *data = calloc(1, BYTES);
    make(UDP, a);
    make(LOCAL, b);
    use(UDP, a);
    FIBER_ASSERT_EQ(dup2(b[1], a[1]), a[1]);
    side_start(&reader, drain, &b[0]);
    FIBER_ASSERT_EQ(stel_write(a[1], data, BYTES), BYTES);
    FIBER_ASSERT_EQ(stel_sendto(a[1], data, BYTES, 0, NULL, 0), BYTES);
    FIBER_ASSERT_EQ(shutdown(a[1], SHUT_WR), 0);
    FIBER_ASSERT_EQ(side_join(&reader), 2 * BYTES);
    free(data);
    for (int i = 0; i < 2; i++) {
        FIBER_OK(stel_close(a[i]));
        FIBER_OK(stel_close(b[i]));
    }
    return 0;
}

START_TEST(stream_again) {
    on_all_kinds(messages_to_stream);
}
END_TEST

/* O_NONBLOCK was ours when we looked, and is not any more: nobody may be blocked by that. */
static int accept_one(void *arg) {
    return stel_accept(*(int *)arg, NULL, NULL);
}

static int flag_is_gone(void *arg) {
    (void)arg;
    side other;
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 4));
    FIBER_ASSERT_EQ(fcntl(listener, F_SETFL, 0), 0);
    check_limits(accept_one, &listener);
    side_start(&other, accept_one, &listener);
    AWAIT_PARKED(listener, 1);
    FIBER_OK(stel_close(listener));
    FIBER_ASSERT_EQ(side_join(&other), -EBADF);
    /* An eventfd, which knows no RWF_NOWAIT for writing. */
    int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t most = UINT64_MAX - 1, one = 1;
    FIBER_ASSERT_EQ(stel_write(fd, &one, sizeof one), (ssize_t)sizeof one);
    FIBER_ASSERT_EQ(stel_read(fd, &one, sizeof one), (ssize_t)sizeof one);
    FIBER_ASSERT_EQ(stel_write(fd, &most, sizeof most), (ssize_t)sizeof most);
    FIBER_ASSERT_EQ(fcntl(fd, F_SETFL, 0), 0);
    {
        STEL_TIMEOUT(STEL_MS(5));
        FIBER_ASSERT_EQ(stel_write(fd, &one, sizeof one), -ETIMEDOUT);
    }
    FIBER_OK(stel_close(fd));
    return 0;
}

START_TEST(not_ours_any_more) {
    on_all_kinds(flag_is_gone);
}
END_TEST

/* ---- under a wait ---- */

static int under_a_wait(void *arg) {
    (void)arg;
    for (int said = 0; said < 2; said++) {
        int a[2], b[2];
        side reader;
        /* Released: it looks again, and waits on. */
        make(TCP, a);
        side_start(&reader, read_one, &a[0]);
        AWAIT_PARKED(a[0], 1);
        FIBER_OK(stel_fd_release(a[0]));
        FIBER_ASSERT_EQ(stel_write(a[1], "r", 1), 1);
        FIBER_ASSERT_EQ(side_join(&reader), 'r');
        /* Replaced. */
        make(PIPE, b);
        side_start(&reader, read_one, &a[0]);
        AWAIT_PARKED(a[0], 1);
        FIBER_ASSERT_EQ(dup2_unseen(b[0], a[0]), a[0]);
        if (said) FIBER_OK(stel_fd_release(a[0]));
        FIBER_ASSERT_EQ(stel_write(b[1], "p", 1), 1);
        FIBER_ASSERT_EQ(side_join(&reader), 'p');
        /* Closed. */
        side_start(&reader, read_one, &a[0]);
        AWAIT_PARKED(a[0], 1);
        FIBER_ASSERT_EQ(close_unseen(a[0]), 0);
        if (said) FIBER_OK(stel_fd_release(a[0]));
        FIBER_ASSERT_EQ(side_join(&reader), -EBADF);
        /* Closed and opened again before anybody looks. */
        make(PIPE, a);
        side_start(&reader, read_one, &a[0]);
        AWAIT_PARKED(a[0], 1);
        FIBER_ASSERT_EQ(close_unseen(a[0]), 0);
        FIBER_ASSERT_EQ(dup2_unseen(b[0], a[0]), a[0]);
        if (said) FIBER_OK(stel_fd_release(a[0]));
        FIBER_ASSERT_EQ(stel_write(b[1], "o", 1), 1);
        int what = side_join(&reader);
        FIBER_ASSERT(what == 'o' || what == -EBADF); /* it has been looked at in between */
        for (int i = 0; i < 2; i++) {
            FIBER_OK(stel_close(a[i]));
            FIBER_OK(stel_close(b[i]));
        }
    }
    return 0;
}

START_TEST(while_parked) {
    on_all_kinds(under_a_wait);
}
END_TEST

/* A stream of libc's: the descriptor is used by both, then closed by fclose, and its number becomes another file. */
static int with_stdio(void *arg) {
    (void)arg;
    for (int said = 0; said < 2; said++) {
        int a[2], b[2];
        char buffer[8];
        make(PIPE, a);
        FILE *f = fdopen(a[1], "w");
        FIBER_ASSERT(f != NULL);
        FIBER_ASSERT(fputs("abc", f) >= 0 && fflush(f) == 0);
        FIBER_ASSERT_EQ(stel_read(a[0], buffer, 8), 3);
        FIBER_ASSERT_EQ(stel_write(a[1], "d", 1), 1);
        FIBER_ASSERT_EQ(stel_read(a[0], buffer, 8), 1);
        if (said) FIBER_OK(stel_fd_release(a[1]));
        FIBER_ASSERT_EQ(fclose(f), 0);
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
        FIBER_ASSERT_EQ(b[0], a[1]);
        works_as(LOCAL, b[0], b[1]);
        works_as(LOCAL, b[1], b[0]);
        FIBER_OK(stel_close(b[0]));
        FIBER_OK(stel_close(b[1]));
        FIBER_ASSERT_EQ(stel_read(a[0], buffer, 8), 0);
        FIBER_OK(stel_close(a[0]));
    }
    return 0;
}

START_TEST(by_fclose) {
    on_all_kinds(with_stdio);
}
END_TEST

/* A released file that lives on elsewhere is not reported any more, and works again. */
static int moved_away(void *arg) {
    (void)arg;
    int a[2];
    make(PIPE, a);
    use(PIPE, a);
    int elsewhere = fcntl(a[0], F_DUPFD_CLOEXEC, 200);
    FIBER_ASSERT(elsewhere >= 200);
    FIBER_OK(stel_fd_release(a[0]));
    FIBER_ASSERT_EQ(close(a[0]), 0);
    int error;
    stel__slot *s = stel__slot_at(a[0], &error);
    uint32_t edges = stel__load_relaxed(&s->ready_in);
    works_as(PIPE, elsewhere, a[1]);
    FIBER_ASSERT_EQ(stel__load_relaxed(&s->ready_in), edges);
    FIBER_ASSERT(!s->strayed);
    FIBER_OK(stel_close(elsewhere));
    FIBER_OK(stel_close(a[1]));
    return 0;
}

START_TEST(lives_on_elsewhere) {
    on_all_kinds(moved_away);
}
END_TEST

static int wrong(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(stel_fd_release(-1), -EBADF);
    FIBER_ASSERT_EQ(stel_fd_release(19999), 0); /* nothing is known of it, whether it is open or not */
    FIBER_ASSERT_EQ(stel_fd_release(1 << 30), 0);
    return 0;
}

START_TEST(errors) {
    on_all_kinds(wrong);
}
END_TEST

TEST_MAIN("io/release", any_to_any, stream_again, not_ours_any_more, while_parked, by_fclose, lives_on_elsewhere,
          errors)
