/* Descriptors of every kind through stel_read, stel_write and stel_wait_fd: ttys, eventfds, timerfds, signalfds, pidfds,
 * inotify. Blocking ones and others; what the library did not make keeps its flags. */
#include "io_sides.h"
#include <limits.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <termios.h>

typedef struct question {
    int fd;
    short events;
    char buffer[4096];
} question;

static int read_some(void *arg) {
    question *q = arg;
    return (int)stel_read(q->fd, q->buffer, sizeof q->buffer);
}

static int wait_in(void *arg) {
    question *q = arg;
    return stel_wait_fd(q->fd, POLLIN);
}

/* What every descriptor that has nothing to read does: waits, can be cut short, is woken by its close. The descriptor is
 * gone afterwards. */
static void check_empty(int fd) {
    question q = { .fd = fd };
    side other;
    int flags = fcntl(fd, F_GETFL);
    check_limits(read_some, &q);
    check_limits(wait_in, &q);
    side_start(&other, read_some, &q);
    AWAIT_PARKED(fd, 1);
    FIBER_ASSERT_EQ(fcntl(fd, F_GETFL), flags);
    FIBER_OK(stel_close(fd));
    FIBER_ASSERT_EQ(side_join(&other), -EBADF);
}

/* ---- ttys ---- */

static void open_tty(int *master, int *terminal) {
    char name[64];
    *master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    FIBER_ASSERT(*master >= 0);
    FIBER_ASSERT_EQ(grantpt(*master), 0);
    FIBER_ASSERT_EQ(unlockpt(*master), 0);
    FIBER_ASSERT_EQ(ptsname_r(*master, name, sizeof name), 0);
    *terminal = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    FIBER_ASSERT(*terminal >= 0);
    struct termios t;
    FIBER_ASSERT_EQ(tcgetattr(*terminal, &t), 0);
    t.c_lflag &= ~(tcflag_t)ECHO;
    t.c_oflag &= ~(tcflag_t)OPOST;
    FIBER_ASSERT_EQ(tcsetattr(*terminal, TCSANOW, &t), 0);
}

enum { MUCH = 100000 };

static int write_much(void *arg) {
    char *data = malloc(MUCH);
    memset(data, 'm', MUCH);
    int n = (int)stel_write(*(int *)arg, data, MUCH);
    free(data);
    return n;
}

static int ttys(void *arg) {
    (void)arg;
    for (int nonblock = 0; nonblock < 2; nonblock++) {
        int master, terminal;
        side other;
        open_tty(&master, &terminal);
        if (nonblock) {
            FIBER_ASSERT_EQ(fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK), 0);
            FIBER_ASSERT_EQ(fcntl(terminal, F_SETFL, O_RDWR | O_NONBLOCK), 0);
        }
        /* A line at a time is what a terminal gives. */
        question q = { .fd = terminal };
        side_start(&other, read_some, &q);
        AWAIT_PARKED(terminal, 1);
        FIBER_ASSERT_EQ(stel_write(master, "not yet", 7), 7);
        FIBER_ASSERT_EQ(stel_write(master, " a line\nmore\n", 13), 13);
        FIBER_ASSERT_EQ(side_join(&other), 15);
        FIBER_ASSERT_EQ(memcmp(q.buffer, "not yet a line\n", 15), 0);
        FIBER_ASSERT_EQ(stel_wait_fd(terminal, POLLIN), POLLIN);
        FIBER_ASSERT_EQ(read_some(&q), 5);
        /* write means everything, also to a slow reader. */
        side_start(&other, write_much, &terminal);
        int total = 0;
        question m = { .fd = master };
        while (total < MUCH)
            total += (int)FIBER_OK(read_some(&m));
        FIBER_ASSERT_EQ(total, MUCH);
        FIBER_ASSERT_EQ(side_join(&other), MUCH);
        check_empty(terminal);
        FIBER_ASSERT_EQ(read_some(&m), -EIO); /* nobody has the terminal open any more */
        FIBER_OK(stel_close(master));
    }
    return 0;
}

START_TEST(terminals) {
    on_all_kinds(ttys);
}
END_TEST

/* ---- counters and clocks ---- */

static int write_number(void *arg) {
    const question *q = arg;
    uint64_t number = 2;
    return (int)stel_write(q->fd, &number, sizeof number);
}

static int eventfds(void *arg) {
    (void)arg;
    for (int flags = 0; flags <= EFD_NONBLOCK; flags += EFD_NONBLOCK) {
        side other;
        question q = { .fd = eventfd(0, flags) };
        uint64_t number = 3;
        side_start(&other, read_some, &q);
        AWAIT_PARKED(q.fd, 1);
        FIBER_ASSERT_EQ(stel_write(q.fd, &number, sizeof number), 8);
        FIBER_ASSERT_EQ(side_join(&other), 8);
        memcpy(&number, q.buffer, sizeof number);
        FIBER_ASSERT_EQ(number, 3);
        /* Full: a writer waits for a reader. */
        number = UINT64_MAX - 1;
        FIBER_ASSERT_EQ(stel_write(q.fd, &number, sizeof number), 8);
        check_limits(write_number, &q);
        side_start(&other, write_number, &q);
        AWAIT_PARKED(q.fd, 1);
        FIBER_ASSERT_EQ(read_some(&q), 8);
        FIBER_ASSERT_EQ(side_join(&other), 8);
        FIBER_ASSERT_EQ(read_some(&q), 8);
        FIBER_ASSERT_EQ(stel_read(q.fd, &number, 4), -EINVAL);
        check_empty(q.fd);
    }
    return 0;
}

START_TEST(counters) {
    on_all_kinds(eventfds);
}
END_TEST

static int timerfds(void *arg) {
    (void)arg;
    for (int flags = 0; flags <= TFD_NONBLOCK; flags += TFD_NONBLOCK) {
        question q = { .fd = timerfd_create(CLOCK_MONOTONIC, flags) };
        uint64_t number;
        struct itimerspec twice = { .it_value.tv_nsec = 2000000, .it_interval.tv_nsec = 2000000 };
        struct itimerspec never = { .it_value.tv_sec = 0 };
        int64_t before = stel_now();
        FIBER_ASSERT_EQ(timerfd_settime(q.fd, 0, &twice, NULL), 0);
        FIBER_ASSERT_EQ(stel_wait_fd(q.fd, POLLIN), POLLIN);
        uint64_t ticks = 0;
        while (ticks < 3) {
            FIBER_ASSERT_EQ(stel_read(q.fd, &number, sizeof number), 8);
            ticks += number;
        }
        FIBER_ASSERT(stel_now() - before >= STEL_MS(6));
        FIBER_ASSERT_EQ(timerfd_settime(q.fd, 0, &never, NULL), 0);
        check_empty(q.fd);
    }
    return 0;
}

START_TEST(timers) {
    on_all_kinds(timerfds);
}
END_TEST

/* ---- signals, processes, files that change ---- */

static int signalfds(void *arg) {
    (void)arg;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2); /* which this process blocks everywhere: see below */
    for (int flags = 0; flags <= SFD_NONBLOCK; flags += SFD_NONBLOCK) {
        side other;
        question q = { .fd = signalfd(-1, &set, flags) };
        side_start(&other, read_some, &q);
        AWAIT_PARKED(q.fd, 1);
        FIBER_ASSERT_EQ(kill(getpid(), SIGUSR2), 0);
        FIBER_ASSERT_EQ(side_join(&other), (int)sizeof(struct signalfd_siginfo));
        struct signalfd_siginfo info;
        memcpy(&info, q.buffer, sizeof info);
        FIBER_ASSERT_EQ(info.ssi_signo, SIGUSR2);
        check_empty(q.fd);
    }
    return 0;
}

START_TEST(signal_descriptors) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    on_all_kinds(signalfds);
}
END_TEST

static int pidfds(void *arg) {
    (void)arg;
    int p[2], status;
    side other;
    FIBER_ASSERT_EQ(pipe2(p, O_CLOEXEC), 0);
    pid_t pid = fork();
    FIBER_ASSERT(pid >= 0);
    if (pid == 0) {
        char byte;
        close(p[1]);
        _exit((int)read(p[0], &byte, 1));
    }
    question q = { .fd = (int)syscall(SYS_pidfd_open, pid, 0) };
    if (q.fd < 0) { /* an old kernel, or a tool that does not know it */
        printf("no pidfds here: errno %d\n", errno);
    } else {
        check_limits(wait_in, &q);
        side_start(&other, wait_in, &q);
        AWAIT_PARKED(q.fd, 1);
        FIBER_ASSERT_EQ(close(p[1]), 0);
        FIBER_ASSERT(side_join(&other) & POLLIN);
        FIBER_ASSERT_EQ(stel_read(q.fd, q.buffer, 8), -EINVAL);
        FIBER_OK(stel_close(q.fd));
        p[1] = -1;
    }
    if (p[1] >= 0) FIBER_ASSERT_EQ(close(p[1]), 0);
    FIBER_ASSERT_EQ(close(p[0]), 0);
    FIBER_ASSERT_EQ(stel_waitpid(pid, &status, 0), pid);
    return 0;
}

START_TEST(processes) {
    on_all_kinds(pidfds);
}
END_TEST

static int watches(void *arg) {
    (void)arg;
    for (int flags = 0; flags <= IN_NONBLOCK; flags += IN_NONBLOCK) {
        char folder[] = "/tmp/stel-kinds-XXXXXX", path[64];
        side other;
        FIBER_ASSERT(mkdtemp(folder) != NULL);
        snprintf(path, sizeof path, "%s/new", folder);
        question q = { .fd = inotify_init1(flags) };
        FIBER_ASSERT(q.fd >= 0);
        FIBER_ASSERT(inotify_add_watch(q.fd, folder, IN_CREATE) >= 0);
        side_start(&other, read_some, &q);
        AWAIT_PARKED(q.fd, 1);
        FIBER_OK(stel_close((int)FIBER_OK(stel_open(path, O_CREAT | O_WRONLY, 0600))));
        FIBER_ASSERT(side_join(&other) >= (int)sizeof(struct inotify_event));
        struct inotify_event event;
        memcpy(&event, q.buffer, sizeof event);
        FIBER_ASSERT_EQ(event.mask, IN_CREATE);
        FIBER_ASSERT_EQ(strcmp(q.buffer + sizeof event, "new"), 0);
        check_empty(q.fd);
        FIBER_ASSERT_EQ(unlink(path), 0);
        FIBER_ASSERT_EQ(rmdir(folder), 0);
    }
    return 0;
}

START_TEST(file_watches) {
    on_all_kinds(watches);
}
END_TEST

/* All of them in one poll. */
static int together(void *arg) {
    (void)arg;
    int master, terminal, event = eventfd(0, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    open_tty(&master, &terminal);
    struct pollfd fds[] = { { .fd = terminal, .events = POLLIN },
                            { .fd = event, .events = POLLIN },
                            { .fd = timer, .events = POLLIN } };
    struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
    uint64_t one = 1;
    FIBER_ASSERT_EQ(stel_poll(fds, 3, 0), 0);
    FIBER_ASSERT_EQ(timerfd_settime(timer, 0, &soon, NULL), 0);
    FIBER_ASSERT_EQ(stel_poll(fds, 3, -1), 1);
    FIBER_ASSERT_EQ(fds[2].revents, POLLIN);
    FIBER_ASSERT_EQ(stel_write(event, &one, sizeof one), 8);
    FIBER_ASSERT_EQ(stel_write(master, "x\n", 2), 2);
    EVENTUALLY(stel_poll(fds, 3, -1) == 3); /* a terminal takes its time */
    FIBER_OK(stel_close(terminal));
    FIBER_OK(stel_close(master));
    FIBER_OK(stel_close(event));
    FIBER_OK(stel_close(timer));
    return 0;
}

START_TEST(all_at_once) {
    on_all_kinds(together);
}
END_TEST

TEST_MAIN("io/kinds", terminals, counters, timers, signal_descriptors, processes, file_watches, all_at_once)
