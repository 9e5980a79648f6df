/* Ten thousand connections, opened, used and closed, a bounded number at a time; then as many descriptors as before.
 * ctest: timeout=300 */
#include "io_sides.h"
#include <errno.h>
#include <sys/resource.h>

enum { CONNECTIONS = 10000, AT_A_TIME = 100 };

typedef struct churn {
    int listener;
    char address[64];
    long rounds;
    _Atomic long next, served;
} churn;

static churn *the_churn;

static int serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    char buffer[256];
    ssize_t n;
    while ((n = stel_read(fd, buffer, sizeof buffer)) > 0)
        FIBER_OK(stel_write_all(fd, buffer, (size_t)n, NULL));
    FIBER_ASSERT(n == 0 || n == -ECONNRESET);
    the_churn->served++;
    return stel_close(fd);
}

static int accept_all(void *arg) {
    const churn *c = arg;
    int fd;
    while ((fd = stel_accept(c->listener, NULL, NULL)) >= 0)
        FIBER_OK(stel_go(serve, (void *)(intptr_t)fd));
    return fd;
}

static int connect_and_talk(void *arg) {
    churn *c = arg;
    for (long i; (i = c->next++) < c->rounds;) {
        char out[64], back[64];
        size_t bytes = 1 + (size_t)i % sizeof out;
        int fd = (int)FIBER_OK(stel_dial(c->address));
        memset(out, (int)i, sizeof out);
        FIBER_OK(stel_write_all(fd, out, bytes, NULL));
        FIBER_OK(stel_read_full(fd, back, bytes, NULL));
        FIBER_ASSERT_EQ(memcmp(out, back, bytes), 0);
        if (i % 3 == 0) { /* no time-wait, and the server sees a reset */
            struct linger now = { 1, 0 };
            FIBER_ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
        }
        FIBER_OK(stel_close(fd));
    }
    return 0;
}

static int churn_all(void *arg) {
    churn *c = arg;
    static side clients[AT_A_TIME];
    side acceptors[2];
    the_churn = c;
    c->listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 1024));
    snprintf(c->address, sizeof c->address, "127.0.0.1:%d", tcp_port_of(c->listener));
    for (int i = 0; i < 2; i++)
        side_start(&acceptors[i], accept_all, c);
    for (int i = 0; i < AT_A_TIME; i++)
        side_start(&clients[i], connect_and_talk, c);
    for (int i = 0; i < AT_A_TIME; i++)
        FIBER_ASSERT_EQ(side_join(&clients[i]), 0);
    EVENTUALLY(c->served == c->rounds);
    FIBER_OK(stel_close(c->listener));
    for (int i = 0; i < 2; i++)
        FIBER_ASSERT_EQ(side_join(&acceptors[i]), -EBADF);
    return 0;
}

START_TEST(churned) {
    int before = test_open_descriptors();
    for (int workers = 1; workers <= 2; workers++) {
        churn c = { .rounds = (long)test_scale(CONNECTIONS / 2) };
        ck_assert_int_eq(run_in_runtime(workers, churn_all, &c), 0);
        ck_assert_int_eq(c.served, c.rounds);
        ck_assert_int_le(test_open_descriptors(), before + 1); /* this thread's eventfd, if it waited */
    }
}
END_TEST

/* ---- many open at once, idle, then all of them used ---- */

static int reader(void *arg) {
    int fd = (int)(intptr_t)arg;
    char byte;
    ssize_t n = stel_read(fd, &byte, 1);
    FIBER_OK(stel_close(fd));
    return (int)n;
}

static int all_open(void *arg) {
    struct rlimit limit;
    (void)arg;
    FIBER_ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    size_t most = limit.rlim_cur > 10000 ? 4000 : limit.rlim_cur / 4, n = test_scale(most);
    int *fds = calloc(n, sizeof *fds);
    stel_fiber *fibers = calloc(n, sizeof *fibers);
    for (size_t i = 0; i < n; i++) {
        int pair[2];
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        fds[i] = pair[0];
        FIBER_OK(stel_spawn(&fibers[i], reader, (void *)(intptr_t)pair[1]));
    }
    FIBER_ASSERT_EQ(stel_sleep(STEL_MS(300)), 0); /* long enough for healing to come by */
    for (size_t i = 0; i < n; i++)
        FIBER_ASSERT_EQ(stel_write(fds[i], "x", 1), 1);
    for (size_t i = 0; i < n; i++) {
        int result;
        FIBER_OK(stel_join(fibers[i], &result));
        FIBER_ASSERT_EQ(result, 1);
        FIBER_OK(stel_close(fds[i]));
    }
    free(fds);
    free(fibers);
    return 0;
}

START_TEST(open_at_once) {
    int before = test_open_descriptors();
    ck_assert_int_eq(run_in_runtime(2, all_open, NULL), 0);
    ck_assert_int_le(test_open_descriptors(), before + 1);
}
END_TEST

TEST_MAIN("net/many_connections", churned, open_at_once)
