/* The first program of the documentation, more or less: an echo server and its clients, fibers and threads. */
#include "io_sides.h"
#include <errno.h>

typedef struct server {
    int listener;
    char address[128];
    side acceptors[3];
    _Atomic long served, open;
} server;

static server *the_server; /* a served fiber gets its descriptor as argument */

static int serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    char buffer[4096];
    ssize_t n;
    STEL_TIMEOUT(STEL_SEC(60));
    while ((n = stel_read(fd, buffer, sizeof buffer)) > 0)
        if (stel_write_all(fd, buffer, (size_t)n, NULL) < 0) break;
    the_server->served++;
    the_server->open--;
    return stel_close(fd);
}

static int accept_all(void *arg) {
    server *s = arg;
    int fd;
    while ((fd = stel_accept(s->listener, NULL, NULL)) >= 0) {
        s->open++;
        FIBER_OK(stel_go(serve, (void *)(intptr_t)fd));
    }
    return fd;
}

static void server_start(server *s, const char *at) {
    memset(s, 0, sizeof *s);
    the_server = s;
    s->listener = (int)FIBER_OK(stel_listen(at, 1024));
    if (strncmp(at, "unix:", 5) == 0)
        snprintf(s->address, sizeof s->address, "%s", at);
    else
        snprintf(s->address, sizeof s->address, "127.0.0.1:%d", tcp_port_of(s->listener));
    for (int i = 0; i < 3; i++)
        side_start(&s->acceptors[i], accept_all, s); /* several on one listener */
}

static void server_stop(server *s) {
    FIBER_OK(stel_close(s->listener));
    for (int i = 0; i < 3; i++)
        FIBER_ASSERT_EQ(side_join(&s->acceptors[i]), -EBADF);
    EVENTUALLY(s->open == 0);
}

/* ---- clients ---- */

static int client(void *arg) {
    const server *s = arg;
    int fd = (int)FIBER_OK(stel_dial(s->address));
    char out[1000], back[1000];
    for (int i = 1; i <= 1000; i = i * 2 + 1) {
        memset(out, i, sizeof out);
        FIBER_OK(stel_write_all(fd, out, (size_t)i, NULL));
        FIBER_OK(stel_read_full(fd, back, (size_t)i, NULL));
        FIBER_ASSERT_EQ(memcmp(out, back, (size_t)i), 0);
    }
    return (int)FIBER_OK(stel_close(fd));
}

static void *client_thread(void *s) {
    return (void *)(intptr_t)client(s);
}

static int echo_with(void *arg) {
    enum { FIBERS = 40, THREADS = 4 };
    server s;
    side fibers[FIBERS];
    pthread_t threads[THREADS];
    server_start(&s, arg);
    for (int i = 0; i < THREADS; i++)
        FIBER_ASSERT_EQ(pthread_create(&threads[i], NULL, client_thread, &s), 0);
    for (int i = 0; i < FIBERS; i++)
        side_start(&fibers[i], client, &s);
    for (int i = 0; i < FIBERS; i++)
        FIBER_ASSERT_EQ(side_join(&fibers[i]), 0);
    EVENTUALLY(s.served == FIBERS + THREADS);
    for (int i = 0; i < THREADS; i++)
        FIBER_ASSERT_EQ(pthread_join(threads[i], NULL), 0);
    server_stop(&s);
    return 0;
}

START_TEST(test_real_io_socket) {
    int before = test_open_descriptors();
    for (int workers = 1; workers <= 2; workers++)
        ck_assert_int_eq(run_in_runtime(workers, echo_with, (void *)(uintptr_t) "127.0.0.1:0"), 0);
    ck_assert_int_le(test_open_descriptors(), before + 1); /* this thread's eventfd, if it waited */
}
END_TEST

START_TEST(local_socket) {
    char address[64];
    snprintf(address, sizeof address, "unix:/tmp/stel-echo-%d.sock", (int)getpid());
    unlink(address + 5);
    ck_assert_int_eq(run_in_runtime(2, echo_with, address), 0);
    ck_assert_int_eq(unlink(address + 5), 0);
}
END_TEST

/* ---- the server runs in one runtime, threads of the process are its clients ---- */

static int serve_until_stopped(void *arg) {
    server *s = arg;
    server_start(s, "127.0.0.1:0");
    return 0;
}

START_TEST(threads_as_clients) {
    server s;
    stel_runtime *rt;
    stel_fiber first;
    int result;
    FIBER_OK(stel_runtime_create(&rt, NULL));
    FIBER_OK(stel_runtime_start(rt));
    FIBER_OK(stel_runtime_spawn(rt, &first, NULL, serve_until_stopped, &s));
    FIBER_OK(stel_join(first, &result));
    for (int i = 0; i < 20; i++)
        FIBER_ASSERT_EQ(client(&s), 0);
    /* The stop ends accept at once; those served end when their clients have gone. */
    FIBER_OK(stel_runtime_stop(rt, STEL_SEC(60)));
    for (int i = 0; i < 3; i++) {
        FIBER_OK(stel_join(s.acceptors[i].fiber, &result));
        FIBER_ASSERT_EQ(result, -ESHUTDOWN);
    }
    FIBER_OK(stel_runtime_destroy(rt));
    FIBER_OK(stel_close(s.listener));
}
END_TEST

/* ---- the kernel is not asked what is known: two system calls a request, see io/socket.c ---- */

static int ping(void *arg) {
    int fd = *(int *)arg;
    char byte;
    while (stel_read(fd, &byte, 1) > 0) /* full reads: no hint */
        FIBER_ASSERT_EQ(stel_write(fd, &byte, 1), 1);
    return 0;
}

static int short_reads(void *arg) {
    (void)arg;
    int fds[2];
    side other;
    tcp_pair(fds);
    side_start(&other, ping, &fds[1]);
    for (int i = 0; i < 500; i++) {
        char buffer[64]; /* a short read each: with the hint */
        FIBER_ASSERT_EQ(stel_write(fds[0], "p", 1), 1);
        FIBER_ASSERT_EQ(stel_read(fds[0], buffer, sizeof buffer), 1);
    }
    /* What comes together with the end of the stream is not lost to the hint. */
    FIBER_ASSERT_EQ(stel_write(fds[0], "p", 1), 1);
    FIBER_ASSERT_EQ(shutdown(fds[0], SHUT_WR), 0);
    FIBER_ASSERT_EQ(side_join(&other), 0);
    FIBER_OK(stel_close(fds[1]));
    char buffer[64];
    FIBER_ASSERT_EQ(stel_read(fds[0], buffer, sizeof buffer), 1);
    FIBER_ASSERT_EQ(stel_read(fds[0], buffer, sizeof buffer), 0);
    FIBER_OK(stel_close(fds[0]));
    return 0;
}

START_TEST(hints) {
    on_all_kinds(short_reads);
}
END_TEST

TEST_MAIN("net/real_io_socket", test_real_io_socket, local_socket, threads_as_clients, hints)
