/* tcp_echo_server: one fiber a connection, written as if each had the machine to itself.
 *
 * The idea: blocking calls on fibers. stel_accept, stel_read and stel_write_all look and behave like the calls you
 * know, but only the fiber waits; a worker thread serves thousands of them. STEL_TIMEOUT puts a limit on everything
 * that waits in its block, so a peer that falls silent costs one fiber, for a minute.
 *
 *     cc tcp_echo_server.c $(pkg-config --cflags --libs stellane-fiber) -o tcp_echo_server
 *     ./tcp_echo_server 127.0.0.1:7000
 *
 * It prints: listening on 127.0.0.1:7000 */
#include <stdio.h>
#include <stellane/stellane.h>

static int serve(void *arg) {
    int fd = (int)(intptr_t)arg; /* a small number needs no memory of its own */
    char buffer[4096];
    for (;;) {
        STEL_TIMEOUT(STEL_SEC(60)); /* anew for each round: this is the longest silence, not the longest visit */
        ssize_t n = stel_read(fd, buffer, sizeof buffer);
        if (n <= 0) break; /* 0: the peer is done; less: it is gone, or silent for too long */
        if (stel_write_all(fd, buffer, (size_t)n, NULL) < 0) break;
    }
    return stel_close(fd);
}

static int listen_and_say(const char *address) {
    int listener = stel_listen(address, 1024);
    if (listener < 0) {
        fprintf(stderr, "%s: %s\n", address, stel_strerror(listener));
        return listener;
    }
    char where[STEL_ADDRESS_BYTES];
    if (stel_local_address(listener, where, sizeof where) == 0) printf("listening on %s\n", where); /* the port, too */
    fflush(stdout);
    return listener;
}

static int app(void *arg) {
    int listener = listen_and_say(arg), fd;
    if (listener < 0) return listener;
    while ((fd = stel_accept(listener, NULL, NULL)) >= 0)
        if (stel_go(serve, (void *)(intptr_t)fd) < 0)
            stel_close(fd); /* too many fibers: this one visitor is sent away */
    stel_close(listener);
    return fd; /* why accept ended */
}

int main(int argc, char **argv) {
    int rc = stel_run(app, argc > 1 ? argv[1] : "127.0.0.1:7000");
    if (rc < 0) fprintf(stderr, "tcp_echo_server: %s\n", stel_strerror(rc));
    return rc < 0;
}
