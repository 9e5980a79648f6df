/* The rules of descriptors that belong to no single call. */
#include "ends.h"
#include <dirent.h>
#include <signal.h>
#include <stellane/io.h>
#include <sys/eventfd.h>

enum { MUCH = 1 << 20 };
static char much[MUCH];

static int drains(void *arg) {
    static char sink[1 << 16];
    int total = 0;
    ssize_t n;
    while ((n = stel_read(*(int *)arg, sink, sizeof sink)) > 0)
        total += (int)n;
    return n < 0 ? (int)n : total;
}

/* Rule: write and send return when everything is written, on every kind of stream. */
ON_BOTH(rule_write_means_everything) {
    for (int kind = 0; kind < 3; kind++) {
        ends e;
        if (kind == 2) {
            int listener = (int)OK(stel_listen("127.0.0.1:0", 1));
            char address[32];
            snprintf(address, sizeof address, "127.0.0.1:%d", port_of(listener));
            e.fd[1] = (int)OK(stel_dial(address));
            e.fd[0] = (int)OK(stel_accept(listener, NULL, NULL));
            OK(stel_close(listener));
        } else {
            e = kind ? of_stream() : of_pipe();
        }
        struct iovec iov[2] = { { much, MUCH / 2 }, { much, MUCH / 2 } };
        stel_fiber reader = spawn(drains, &e.fd[0]);
        EQ(stel_write(e.fd[1], much, MUCH), MUCH);
        EQ(stel_writev(e.fd[1], iov, 2), MUCH);
        if (kind) EQ(stel_send(e.fd[1], much, MUCH, 0), MUCH);
        OK(stel_close(e.fd[1]));
        EQ(join(reader), kind ? 3 * MUCH : 2 * MUCH);
        OK(stel_close(e.fd[0]));
    }
}

/* Rule: a call that is cut short says how much it did; the next one tells why. */
ON_BOTH(rule_a_call_cut_short_says_how_much_it_did) {
    ends e = of_pipe();
    ssize_t part;
    {
        STEL_TIMEOUT(STEL_MS(2));
        part = stel_write(e.fd[1], much, MUCH);
        IS(part > 0 && part < MUCH);
        EQ(stel_write(e.fd[1], much, 1), -ETIMEDOUT);
    }
    OK(stel_close(e.fd[1]));
    EQ(drains(&e.fd[0]), part);
    OK(stel_close(e.fd[0]));
}

/* Rule: no call raises SIGPIPE: -EPIPE, whatever the signal would do, and none is left pending. */
ON_BOTH(rule_no_call_raises_sigpipe) {
    ends s = of_stream(), p = of_pipe(), from = of_pipe();
    struct iovec iov = { much, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    off_t at = 0;
    int file = file_with("x");
    sigset_t pending;
    IS(signal(SIGPIPE, SIG_DFL) == SIG_DFL); /* it would end us */
    OK(stel_close(s.fd[0]));
    OK(stel_close(p.fd[0]));
    EQ(write(from.fd[1], "xx", 2), 2);
    for (int i = 0; i < 2; i++) {
        int fd = i ? s.fd[1] : p.fd[1];
        EQ(stel_write(fd, "x", 1), -EPIPE);
        EQ(stel_writev(fd, &iov, 1), -EPIPE);
        EQ(stel_write_all(fd, "x", 1, NULL), -EPIPE);
        EQ(stel_sendfile(fd, file, &at, 1), -EPIPE);
        EQ(stel_splice(from.fd[0], NULL, fd, NULL, 1, 0), -EPIPE);
    }
    EQ(stel_send(s.fd[1], "x", 1, 0), -EPIPE);
    EQ(stel_sendto(s.fd[1], "x", 1, 0, NULL, 0), -EPIPE);
    EQ(stel_sendmsg(s.fd[1], &m, 0), -EPIPE);
    EQ(sigpending(&pending), 0);
    IS(!sigismember(&pending, SIGPIPE));
    OK(stel_close(s.fd[1]));
    OK(stel_close(p.fd[1]));
    close_ends(from);
    OK(stel_close(file));
}

/* How many descriptors are not close-on-exec; they are from now on. */
static int not_close_on_exec(void) {
    DIR *directory = opendir("/proc/self/fd");
    int n = 0;
    for (const struct dirent *entry; (entry = readdir(directory));) {
        int fd = atoi(entry->d_name), flags = fd > 2 ? fcntl(fd, F_GETFD) : -1;
        if (flags < 0 || (flags & FD_CLOEXEC)) continue;
        EQ(fcntl(fd, F_SETFD, FD_CLOEXEC), 0);
        n++;
    }
    closedir(directory);
    return n;
}
static int makes_all_kinds(void *arg) {
    ends e;
    char address[32];
    int listener = (int)OK(stel_listen("127.0.0.1:0", 4));
    (void)arg;
    snprintf(address, sizeof address, "127.0.0.1:%d", port_of(listener));
    e.fd[0] = (int)OK(stel_dial(address));
    e.fd[1] = (int)OK(stel_accept(listener, NULL, NULL));
    int file = (int)OK(stel_open("/dev/null", O_RDONLY, 0)), s = (int)OK(stel_socket(AF_INET, SOCK_DGRAM, 0));
    EQ(not_close_on_exec(), 0); /* the poller's and the workers' too */
    OK(stel_close(file));
    OK(stel_close(s));
    OK(stel_close(listener));
    close_ends(e);
    return 0;
}

/* Rule: descriptors that the library makes, for its callers or for itself, are close-on-exec. */
START_TEST(rule_what_the_library_makes_is_close_on_exec) {
    (void)not_close_on_exec(); /* what the surroundings have left open */
    EQ(run_in_runtime(2, makes_all_kinds, NULL), 0);
}
END_TEST

/* Rule: O_NONBLOCK is never set on descriptors that the library did not create. */
ON_BOTH(rule_foreign_descriptors_keep_their_flags) {
    ends s = of_stream(), p = of_pipe();
    int event = eventfd(0, 0), listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = loopback(0);
    uint64_t one = 1;
    char byte;
    EQ(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    EQ(listen(listener, 1), 0);
    {
        STEL_TIMEOUT(STEL_MS(1)); /* each waits */
        EQ(stel_read(s.fd[0], &byte, 1), -ETIMEDOUT);
    }
    {
        STEL_TIMEOUT(STEL_MS(1));
        EQ(stel_read(p.fd[0], &byte, 1), -ETIMEDOUT);
    }
    {
        STEL_TIMEOUT(STEL_MS(1));
        EQ(stel_accept(listener, NULL, NULL), -ETIMEDOUT);
    }
    EQ(stel_write(s.fd[1], "x", 1), 1);
    EQ(stel_write(p.fd[1], "x", 1), 1);
    EQ(stel_write(event, &one, sizeof one), 8);
    EQ(stel_read(event, &one, sizeof one), 8);
    const int all[] = { s.fd[0], s.fd[1], p.fd[0], p.fd[1], event, listener };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        IS(!has_flag(all[i], F_GETFL, O_NONBLOCK));
        OK(stel_close(all[i]));
    }
}

static atomic_int bytes_read;
static int reads_bytes(void *arg) {
    char byte;
    ssize_t n;
    int mine = 0;
    while ((n = stel_read(((ends *)arg)->fd[0], &byte, 1)) == 1) {
        atomic_fetch_add(&bytes_read, byte);
        mine++;
    }
    return n < 0 ? (int)n : mine;
}
static int writes_bytes(void *arg) {
    for (char i = 1; i <= 100; i++)
        EQ(stel_write(((ends *)arg)->fd[1], &i, 1), 1);
    return 0;
}

/* Rule: one may read and another write the same descriptor; several may read it, each byte going to one. */
ON_BOTH(rule_many_may_use_one_descriptor) {
    ends e = of_stream(), back = { { e.fd[1], e.fd[0] } };
    stel_fiber f[4];
    atomic_store(&bytes_read, 0);
    for (int i = 0; i < 3; i++)
        f[i] = spawn(reads_bytes, &e);
    f[3] = spawn(reads_bytes, &back);
    stel_fiber writer = spawn(writes_bytes, &back); /* on what the first three read from */
    EQ(writes_bytes(&e), 0);
    EQ(join(writer), 0);
    EQ(shutdown(e.fd[0], SHUT_WR), 0);
    EQ(shutdown(e.fd[1], SHUT_WR), 0);
    int n = 0;
    for (int i = 0; i < 4; i++)
        n += join(f[i]);
    EQ(n, 200);
    EQ(atomic_load(&bytes_read), 2 * 5050);
    close_ends(e);
}

static int reads_one(void *arg) {
    char byte = 0;
    ssize_t n = stel_read(*(int *)arg, &byte, 1);
    return n == 1 ? byte : (int)n;
}
static int writes_one(void *arg) {
    return (int)stel_write(*(int *)arg, "x", 1);
}
static int polls_one(void *arg) {
    struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };
    int rc = stel_poll(&p, 1, -1);
    return rc == 1 ? p.revents : rc;
}

/* Rule: stel_close wakes whoever is parked on the descriptor, all of them. */
ON_BOTH(rule_close_wakes_all_who_wait) {
    ends e = of_stream();
    int fd = e.fd[0];
    fill(fd);
    stel_fiber a = spawn(reads_one, &fd), b = spawn(reads_one, &fd), c = spawn(writes_one, &fd),
               d = spawn(polls_one, &fd);
    AWAIT_PARKED(fd, 4);
    OK(stel_close(fd));
    EQ(join(a), -EBADF);
    EQ(join(b), -EBADF);
    EQ(join(c), -EBADF);
    EQ(join(d), POLLNVAL);
    OK(stel_close(e.fd[1]));
}

/* Rule: a reused number never wakes an old waiter, nor gives him its bytes. */
ON_BOTH(rule_a_reused_number_wakes_no_old_waiter) {
    for (int i = 0; i < 10; i++) {
        ends old = of_pipe(), new = of_pipe();
        int fd = old.fd[0];
        stel_fiber f = spawn(reads_one, &fd);
        AWAIT_PARKED(fd, 1);
        EQ(write(new.fd[1], "n", 1), 1); /* ready, before the old reader could run */
        OK(stel_close(fd));
        EQ(dup2_unseen(new.fd[0], fd), fd);
        EQ(join(f), -EBADF);
        EQ(reads_one(&fd), 'n');
        OK(stel_close(fd));
        OK(stel_close(old.fd[1]));
        close_ends(new);
    }
}

/* Rule: numbers that were closed or replaced behind the library's back heal, whether somebody waits on them or not. */
ON_BOTH(rule_numbers_closed_behind_our_back_heal) {
    ends a = of_pipe(), b = of_stream();
    int fd = a.fd[0];
    EQ(write(a.fd[1], "a", 1), 1);
    EQ(reads_one(&fd), 'a'); /* known as a pipe */
    EQ(dup2_unseen(b.fd[0], fd), fd);
    EQ(stel_write(b.fd[1], "b", 1), 1);
    EQ(reads_one(&fd), 'b'); /* a socket by now */
    stel_fiber f = spawn(reads_one, &fd);
    AWAIT_PARKED(fd, 1);
    ends c = of_pipe();
    EQ(dup2_unseen(c.fd[0], fd), fd); /* under a wait */
    EQ(write(c.fd[1], "c", 1), 1);
    EQ(join(f), 'c');
    f = spawn(reads_one, &fd);
    AWAIT_PARKED(fd, 1);
    EQ(close_unseen(fd), 0);
    EQ(join(f), -EBADF);
    OK(stel_close(a.fd[1]));
    close_ends(b);
    close_ends(c);
}

static int accept_of(void *arg) {
    return stel_accept(*(int *)arg, NULL, NULL);
}

/* Rule: what a system call says at once is said at once, also of descriptors that block. */
ON_BOTH(rule_a_call_that_can_never_succeed_does_not_wait) {
    ends s = of_stream(), p = of_pipe();
    STEL_TIMEOUT(STEL_SEC(20)); /* else it would be that */
    EQ(accept_of(&s.fd[0]), -EINVAL);
    EQ(accept_of(&p.fd[0]), -ENOTSOCK);
    EQ(reads_one(&p.fd[1]), -EBADF);
    EQ(writes_one(&p.fd[0]), -EBADF);
    close_ends(s);
    close_ends(p);
}

/* Rule: a connect that was cut short leaves a descriptor to be closed, and no other trace. */
ON_BOTH(rule_a_connect_cut_short_leaves_a_descriptor_to_close) {
    int listener = (int)OK(stel_listen("127.0.0.1:0", 4)), fd = (int)OK(stel_socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in at = loopback(port_of(listener));
    int before = test_open_descriptors();
    {
        STEL_TIMEOUT(LONG_PAST);
        EQ(stel_connect(fd, (struct sockaddr *)&at, sizeof at), -ETIMEDOUT);
    }
    EQ(test_open_descriptors(), before);
    OK(stel_close(fd));
    OK(stel_close(listener));
}

TEST_MAIN("contract/rules_io", rule_write_means_everything, rule_a_call_cut_short_says_how_much_it_did,
          rule_no_call_raises_sigpipe, rule_what_the_library_makes_is_close_on_exec,
          rule_foreign_descriptors_keep_their_flags, rule_many_may_use_one_descriptor, rule_close_wakes_all_who_wait,
          rule_a_reused_number_wakes_no_old_waiter, rule_numbers_closed_behind_our_back_heal,
          rule_a_call_that_can_never_succeed_does_not_wait, rule_a_connect_cut_short_leaves_a_descriptor_to_close)
