/* tcp_client: many requests at once, each with a time limit, and one place where the results meet.
 *
 * The idea: spawn, then join. Each fiber dials, talks and returns a code; stel_join hands that code to whoever waits
 * for it. No callbacks, no shared state, no locks: what a request needs lives on its own stack.
 *
 *     cc tcp_client.c $(pkg-config --cflags --libs stellane-fiber) -o tcp_client
 *     ./tcp_client 127.0.0.1:7000 100            against tcp_echo_server
 *
 * It prints: 100 answered, 0 failed, 5.2 ms */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>
#include <string.h>

struct plan {
    const char *address;
    int connections;
};

/* One conversation: 0, or the code of what went wrong. */
static int talk(void *arg) {
    const char *address = arg;
    char question[64], answer[64];
    STEL_TIMEOUT(STEL_SEC(10)); /* for all of it: resolving the name, connecting, every read and write */

    int fd = stel_dial(address);
    if (fd < 0) return fd;
    int n = snprintf(question, sizeof question, "hello from fiber %llx\n", (unsigned long long)stel_self());
    int rc = stel_write_all(fd, question, (size_t)n, NULL);
    if (rc == 0) rc = stel_read_full(fd, answer, (size_t)n, NULL);
    if (rc == 0 && memcmp(question, answer, (size_t)n) != 0) rc = -EBADMSG;
    stel_close(fd); /* also when the time is up: close never waits */
    return rc;
}

static int app(void *arg) {
    const struct plan *plan = arg;
    stel_fiber *fibers = calloc((size_t)plan->connections, sizeof *fibers);
    if (!fibers) return -ENOMEM;
    int64_t start = stel_now();
    int answered = 0, failed = 0;

    for (int i = 0; i < plan->connections; i++)
        if (stel_spawn(&fibers[i], talk, (void *)(uintptr_t)plan->address) < 0) fibers[i] = 0;
    for (int i = 0; i < plan->connections; i++) {
        int rc, result;
        if (!fibers[i])
            result = -EAGAIN;
        else if ((rc = stel_join(fibers[i], &result)) < 0)
            result = rc;
        if (result == 0) {
            answered++;
        } else if (failed++ == 0) {
            fprintf(stderr, "%s: %s\n", plan->address, stel_strerror(result));
        }
    }
    printf("%d answered, %d failed, %.1f ms\n", answered, failed, (double)(stel_now() - start) / 1e6);
    free(fibers);
    return failed ? -EIO : 0;
}

int main(int argc, char **argv) {
    struct plan plan = { argc > 1 ? argv[1] : "127.0.0.1:7000", argc > 2 ? atoi(argv[2]) : 10 };
    if (plan.connections < 1) {
        fprintf(stderr, "usage: tcp_client [address [connections]]\n");
        return 2;
    }
    return stel_run(app, &plan) < 0;
}
