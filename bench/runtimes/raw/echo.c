/* bench-raw: no runtime at all. The echo server that the others are measured against: one epoll loop a thread, level
 * triggered, one recv and one send a request, no probe for EAGAIN. spin_us=N: look without blocking that long before
 * blocking in the wait. */
#include "../../common/bench.h"
#include "accept.h"
#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, LOOPS_MAX = 64 };

static int64_t spin_ns;
static int epolls[LOOPS_MAX];

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

static int add_to(int epoll, int fd) {
    struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
}

static void give(int number, int fd) {
    if (add_to(epolls[number], fd) != 0) close(fd);
}

static void make_epoll(int i) {
    if ((epolls[i] = epoll_create1(EPOLL_CLOEXEC)) < 0) bench_fail("epoll_create1: %d", errno);
}

static void run_echo(void) {
    pthread_t thread;
    int loops = bench_param_int("workers", 1);
    spin_ns = bench_param("spin_us", 0) * 1000;
    if (loops < 1 || loops > LOOPS_MAX) bench_fail("workers out of range");
    for (int i = 0; i < loops; i++)
        make_epoll(i);
    for (int i = 1; i < loops; i++)
        if (pthread_create(&thread, NULL, loop, &epolls[i]) != 0) bench_fail("no thread");
    bench_serve(accept_for(loops, give));
    loop(&epolls[0]);
}

/* Woken by a pipe: the wait, and the read that it was for. */
static void run_wake(void) {
    struct epoll_event event;
    int64_t stamp;
    int fd = bench_serve_pipe();
    make_epoll(0);
    if (add_to(epolls[0], fd) != 0) bench_fail("epoll_ctl: %d", errno);
    while (epoll_wait(epolls[0], &event, 1, -1) >= 0)
        if (read(fd, &stamp, sizeof stamp) == sizeof stamp) bench_woken(stamp);
}

/* The least that a process costs. */
static void run_start(void) {}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "echo", run_echo }, { "wake", run_wake }, { "start", run_start }, { NULL, NULL }
    };
    return bench_main(argc, argv, "raw", table);
}
