/* bench-raw: no runtime at all. The echo server that the others are measured against: one epoll loop a thread, level
 * triggered, one recv and one send a request, no probe for EAGAIN. spin_us=N: look without blocking that long before
 * blocking in the wait. */
#include "../../common/bench.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, LOOPS_MAX = 64 };

static int64_t spin_ns;
static int loop_count, epolls[LOOPS_MAX];

static void echo_once(int fd) {
    char buffer[4096];
    ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0 || send(fd, buffer, (size_t)n, MSG_NOSIGNAL) != n) close(fd);
}

static int wait_events(int epoll, struct epoll_event *events) {
    if (spin_ns > 0) {
        int64_t until = bench_now() + spin_ns;
        do {
            int n = epoll_wait(epoll, events, EVENTS, 0);
            if (n != 0) return n;
        } while (bench_now() < until);
    }
    return epoll_wait(epoll, events, EVENTS, -1);
}

static void *loop(void *arg) {
    int epoll = *(int *)arg;
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = wait_events(epoll, events);
        for (int i = 0; i < n; i++)
            echo_once(events[i].data.fd);
    }
    return NULL;
}

/* Accepts on a thread of its own that sleeps once all have connected; connections go to the loops in turn. */
static void *accept_all(void *arg) {
    int listener = *(int *)arg;
    for (unsigned next = 0;; next++) {
        int one = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (epoll_ctl(epolls[next % (unsigned)loop_count], EPOLL_CTL_ADD, fd, &e) != 0) close(fd);
    }
    return NULL;
}

static void run_echo(void) {
    int port, listener = bench_listen(&port, 0);
    pthread_t thread;
    spin_ns = bench_param("spin_us", 0) * 1000;
    loop_count = bench_param_int("workers", 1);
    if (loop_count < 1 || loop_count > LOOPS_MAX) bench_fail("workers out of range");
    for (int i = 0; i < loop_count; i++)
        if ((epolls[i] = epoll_create1(EPOLL_CLOEXEC)) < 0) bench_fail("epoll_create1: %s", strerror(errno));
    for (int i = 1; i < loop_count; i++)
        if (pthread_create(&thread, NULL, loop, &epolls[i]) != 0) bench_fail("no thread");
    if (pthread_create(&thread, NULL, accept_all, &listener) != 0) bench_fail("no thread");
    bench_serve(port);
    loop(&epolls[0]);
}

/* The least that a process costs. */
static void run_start(void) {}

int main(int argc, char **argv) {
    static const bench_workload table[] = { { "echo", run_echo }, { "start", run_start }, { NULL, NULL } };
    return bench_main(argc, argv, "raw", table);
}
