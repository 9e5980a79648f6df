/* Peers that are slow, silent or gone cost one fiber each, ended by its deadline; descriptors that run out at accept come
 * back; a program that is given its standard input and output by others. */
#include "host/fault.h"
#include "io_sides.h"
#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>

static _Atomic long ended, in_time;
static int listener;

/* Reads lines of four bytes; whoever does not deliver one within 100 ms is dropped. */
static int serve(void *arg) {
    int fd = (int)(intptr_t)arg, rc;
    char line[4];
    do {
        STEL_TIMEOUT(STEL_MS(100));
        rc = stel_read_full(fd, line, sizeof line, NULL);
        if (rc == 0) rc = stel_write_all(fd, line, sizeof line, NULL);
    } while (rc == 0);
    if (rc == -ETIMEDOUT && stel_timed_out()) in_time++;
    FIBER_OK(stel_close(fd)); /* whatever the deadline says */
    ended++;
    return 0;
}

/* So that a peer which does not read is noticed after kilobytes. */
static void small_buffers(int fd) {
    int bytes = 4096;
    FIBER_ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    FIBER_ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
}

static int accept_all(void *arg) {
    int fd;
    (void)arg;
    while ((fd = stel_accept(listener, NULL, NULL)) >= 0) {
        small_buffers(fd);
        FIBER_OK(stel_go(serve, (void *)(intptr_t)fd));
    }
    return fd;
}

static int trickle(void *arg) {
    int fd = (int)FIBER_OK(stel_dial(arg));
    while (stel_write(fd, "s", 1) == 1)
        FIBER_ASSERT_EQ(stel_sleep(STEL_MS(60)), 0);
    return (int)FIBER_OK(stel_close(fd));
}

static int silence(void *arg) {
    char byte;
    int fd = (int)FIBER_OK(stel_dial(arg));
    ssize_t n = stel_read(fd, &byte, 1); /* until the server gives up */
    FIBER_ASSERT(n == 0 || n == -ECONNRESET);
    return (int)FIBER_OK(stel_close(fd));
}

/* Asks for much and reads nothing: the server's writes stop. */
static int deafness(void *arg) {
    static char block[1 << 16];
    int fd = (int)FIBER_OK(stel_dial(arg));
    ssize_t n;
    small_buffers(fd);
    STEL_TIMEOUT(STEL_SEC(60));
    while ((n = stel_write(fd, block, sizeof block)) > 0)
        ;
    FIBER_ASSERT(n == -EPIPE || n == -ECONNRESET);
    return (int)FIBER_OK(stel_close(fd));
}

static int honest(void *arg) {
    int fd = (int)FIBER_OK(stel_dial(arg));
    char back[4];
    for (int i = 0; i < 50; i++) {
        int rc = stel_write_all(fd, "abcd", 4, NULL);
        if (rc == 0) rc = stel_read_full(fd, back, 4, NULL);
        if (rc < 0) break; /* a machine so busy that we were taken for slow: not this test's subject */
    }
    return (int)FIBER_OK(stel_close(fd));
}

static int bad_company(void *arg) {
    static stel_fn *const kinds[] = { trickle, silence, deafness, honest };
    enum { EACH = 8, KINDS = sizeof kinds / sizeof kinds[0] };
    char address[64];
    side acceptor, peers[EACH * KINDS];
    (void)arg;
    ended = in_time = 0;
    listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 128));
    snprintf(address, sizeof address, "127.0.0.1:%d", tcp_port_of(listener));
    side_start(&acceptor, accept_all, NULL);
    for (int i = 0; i < EACH * KINDS; i++)
        side_start(&peers[i], kinds[i % KINDS], address);
    for (int i = 0; i < EACH * KINDS; i++)
        FIBER_ASSERT_EQ(side_join(&peers[i]), 0);
    EVENTUALLY(ended == EACH * KINDS);
    FIBER_ASSERT(in_time >= EACH * 3);
    FIBER_OK(stel_close(listener));
    FIBER_ASSERT_EQ(side_join(&acceptor), -EBADF);
    return 0;
}

START_TEST(slow_and_dead) {
    int before = test_open_descriptors();
    ck_assert_int_eq(run_in_runtime(1, bad_company, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, bad_company, NULL), 0);
    ck_assert_int_le(test_open_descriptors(), before + 1);
}
END_TEST

/* ---- descriptors run out ---- */

static int accept_some(void *arg) {
    int *fds = arg;
    for (int i = 0; i < 8; i++)
        fds[i] = (int)FIBER_OK(stel_accept(listener, NULL, NULL));
    return 0;
}

static bool no_descriptor_left(void) {
    int fd = stel_socket(AF_INET, SOCK_STREAM, 0);
    if (fd >= 0) FIBER_OK(stel_close(fd));
    return fd == -EMFILE;
}

static int run_out(void *arg) {
    struct rlimit limit, tight;
    char address[64];
    int clients[8], taken[8], highest = 0;
    side acceptor;
    (void)arg;
    FIBER_ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 128));
    snprintf(address, sizeof address, "127.0.0.1:%d", tcp_port_of(listener));
    for (int i = 0; i < 8; i++) {
        clients[i] = (int)FIBER_OK(stel_dial(address));
        if (clients[i] > highest) highest = clients[i];
    }
    /* Room for two more. Nothing is lost: the others wait in the queue. */
    tight = limit;
    tight.rlim_cur = (rlim_t)highest + 1;
    int spare[2] = { dup(0), dup(0) };
    FIBER_ASSERT(spare[0] > highest && spare[1] > highest);
    tight.rlim_cur += 2;
    FIBER_ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
    close(spare[0]);
    close(spare[1]);
    side_start(&acceptor, accept_some, taken);
    EVENTUALLY(no_descriptor_left());
    FIBER_ASSERT_EQ(stel_sleep(STEL_MS(10)), 0);
    FIBER_ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    FIBER_ASSERT_EQ(side_join(&acceptor), 0);
    for (int i = 0; i < 8; i++) {
        FIBER_OK(stel_close(clients[i]));
        FIBER_OK(stel_close(taken[i]));
    }
    FIBER_OK(stel_close(listener));
    return 0;
}

START_TEST(out_of_descriptors) {
    ck_assert_int_eq(run_in_runtime(2, run_out, NULL), 0);
}
END_TEST

/* ---- standard input and output are pipes that others share, and block ---- */

static int filter(void *arg) {
    char buffer[300];
    ssize_t n;
    (void)arg;
    while ((n = stel_read(STDIN_FILENO, buffer, sizeof buffer)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            buffer[i] ^= 1;
        if (stel_write_all(STDOUT_FILENO, buffer, (size_t)n, NULL) < 0) return 1;
    }
    return n == 0 && !(fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK) && !(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK) ? 0
                                                                                                                   : 2;
}

static void filter_through_pipes(bool old_kernel) {
    enum { BYTES = 200000 };
    int to[2], from[2], status;
    FIBER_ASSERT(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        close(to[1]);
        close(from[0]);
        if (old_kernel) {
            stel__fault_set(STEL__FAULT_PWRITEV2, 1, EOPNOTSUPP, true);
            stel__fault_set(STEL__FAULT_PREADV2, 1, EOPNOTSUPP, true);
        }
        _exit(run_in_runtime(2, filter, NULL));
    }
    FIBER_ASSERT(child > 0);
    close(to[0]);
    close(from[1]);
    for (int sent = 0, got = 0; got < BYTES;) {
        char buffer[1000];
        if (sent < BYTES) {
            memset(buffer, 'a', sizeof buffer);
            FIBER_ASSERT_EQ(write(to[1], buffer, sizeof buffer), (ssize_t)sizeof buffer);
            if ((sent += (int)sizeof buffer) == BYTES) close(to[1]);
        }
        ssize_t n = read(from[0], buffer, sizeof buffer);
        FIBER_ASSERT(n > 0);
        for (ssize_t i = 0; i < n; i++)
            FIBER_ASSERT(buffer[i] == ('a' ^ 1));
        got += (int)n;
    }
    FIBER_ASSERT_EQ(waitpid(child, &status, 0), child);
    FIBER_ASSERT_EQ(status, 0);
    close(from[0]);
}

START_TEST(standard_streams) {
    filter_through_pipes(false);
    filter_through_pipes(true);
}
END_TEST

TEST_MAIN("net/bad_peers", slow_and_dead, out_of_descriptors, standard_streams)
