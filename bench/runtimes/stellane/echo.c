/* The echo server: a fiber a connection, reading and writing as if it had a thread of its own. */
#include "driver.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
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

static int accept_loop(void *arg) {
    struct sockaddr_in a;
    socklen_t length = sizeof a;
    int listener = MUST(stel_listen("127.0.0.1:0", 4096)), fd;
    (void)arg;
    MUST(getsockname(listener, (struct sockaddr *)&a, &length));
    bench_serve(ntohs(a.sin_port));
    while ((fd = stel_accept(listener, NULL, NULL)) >= 0) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (stel_go(serve, (void *)(intptr_t)fd) < 0) stel_close(fd);
    }
    return fd;
}

void run_echo(void) {
    run_fibers(accept_loop, NULL);
}
