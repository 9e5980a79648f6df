/* The echo server: a fiber a connection, reading and writing as if it had a thread of its own. lean=1: it waits for
 * something to read before it has a buffer, a small one then; for servers that are idle most of the time. And wake-ups. */
#include "driver.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

static int serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    char buffer[4096];
    ssize_t n;
    STEL_TIMEOUT(STEL_SEC(600));
    while ((n = stel_read(fd, buffer, sizeof buffer)) > 0)
        if (stel_write_all(fd, buffer, (size_t)n, NULL) < 0) break;
    return stel_close(fd);
}

static int serve_lean(void *arg) {
    int fd = (int)(intptr_t)arg;
    ssize_t n = 1;
    STEL_TIMEOUT(STEL_SEC(600));
    while (n > 0 && stel_wait_fd(fd, POLLIN) > 0) {
        char buffer[1024];
        if ((n = stel_read(fd, buffer, sizeof buffer)) > 0) n = stel_write_all(fd, buffer, (size_t)n, NULL) < 0 ? 0 : n;
    }
    return stel_close(fd);
}

static int accept_loop(void *arg) {
    struct sockaddr_in a;
    socklen_t length = sizeof a;
    int listener = MUST(stel_listen("127.0.0.1:0", 4096)), fd;
    stel_fn *fn = bench_param("lean", 0) ? serve_lean : serve;
    (void)arg;
    MUST(getsockname(listener, (struct sockaddr *)&a, &length));
    bench_serve(ntohs(a.sin_port));
    while ((fd = stel_accept(listener, NULL, NULL)) >= 0) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (stel_go(fn, (void *)(intptr_t)fd) < 0) stel_close(fd);
    }
    return fd;
}

void run_echo(void) {
    run_fibers(accept_loop, NULL);
}

/* ---- wake-ups ---- */

static int woken_by_pipe(void *arg) {
    int fd = bench_serve_pipe();
    int64_t stamp;
    (void)arg;
    while (stel_read(fd, &stamp, sizeof stamp) == sizeof stamp)
        bench_woken(stamp);
    return -EPIPE;
}

void run_wake(void) {
    run_fibers(woken_by_pipe, NULL);
}

static int woken_by_channel(void *arg) {
    int64_t stamp;
    while (stel_chan_recv(arg, &stamp) == 0)
        bench_woken(stamp);
    return 0;
}

static int send_times(void *arg) {
    int64_t n = bench_param("ops", 1000), warm = n / 10, gap_ns = bench_param("gap_us", 1000) * 1000;
    for (int64_t i = -warm; i < n; i++) {
        MUST(stel_sleep(gap_ns));
        if (i == 0) bench_start();
        int64_t now = bench_now(), stamp = i < 0 ? -now : now;
        MUST(stel_chan_send(arg, &stamp));
    }
    MUST(stel_sleep(gap_ns));
    bench_stop();
    return stel_chan_close(arg);
}

/* A fiber on the second worker waits, one on the first sends now and then. */
static int wake_across(void *arg) {
    stel_chan *c;
    stel_fiber sender, receiver;
    int result;
    stel_spawn_options options = STEL_SPAWN_OPTIONS_INIT;
    (void)arg;
    MUST(stel_chan_create(&c, sizeof(int64_t), 1));
    options.place = STEL_WORKER(1);
    MUST(stel_spawn_with(&receiver, &options, woken_by_channel, c));
    options.place = STEL_WORKER(0);
    MUST(stel_spawn_with(&sender, &options, send_times, c));
    MUST(stel_join(sender, &result));
    MUST(result);
    MUST(stel_join(receiver, &result));
    stel_chan_destroy(c);
    bench_wake_results();
    return result;
}

void run_wake_across(void) {
    run_fibers(wake_across, NULL);
}
