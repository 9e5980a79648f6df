/* tcp_proxy: passes connections on to another server, under three time limits.
 *
 * The idea: a time limit is a declaration. STEL_TIMEOUT holds for whatever waits until its block ends, the tighter of two
 * counts, and nothing that is called has to be told: one around the dial, one around each read and write, one around
 * the whole visit. The two directions are two fibers in a scope: the end of one side's speech (a half-close) is passed
 * on and the other side may go on talking; when a direction fails, the scope cancels the other.
 *
 *     cc tcp_proxy.c $(pkg-config --cflags --libs stellane-fiber) -o tcp_proxy
 *     ./tcp_proxy 127.0.0.1:7001 127.0.0.1:7000                     in front of tcp_echo_server
 *     ./tcp_proxy 127.0.0.1:7001 127.0.0.1:7000 1000 5000 60000     connect, idle, total: milliseconds
 *
 * It prints its port, and a line for each visit that has ended:
 *
 *     listening on 127.0.0.1:7001
 *     visit 1: 22 bytes there, 22 back, 3 ms: done
 *     visit 2: 5 bytes there, 0 back, 5004 ms: idle for too long */
#define _DEFAULT_SOURCE
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>

struct proxy {
    const char *address, *target;
    int64_t connect_ns, idle_ns, total_ns;
};

struct visit {
    const struct proxy *proxy;
    int number, client, server;
    int64_t started;
    _Atomic int64_t last_moved; /* when a byte moved, in either direction */
    uint64_t there, back;       /* bytes; each is counted by one fiber and read when both have ended */
};

struct direction {
    struct visit *visit;
    int from, to;
    uint64_t *moved;
};

/* A read or a write, given up only when neither direction has moved a byte for the idle time: a long download is not
 * idle although the client says nothing. */
static ssize_t move(const struct direction *d, bool out, char *buffer, size_t bytes) {
    struct visit *v = d->visit;
    for (;;) {
        ssize_t n;
        {
            STEL_TIMEOUT(atomic_load(&v->last_moved) + v->proxy->idle_ns - stel_now());
            n = out ? stel_write(d->to, buffer, bytes) : stel_read(d->from, buffer, bytes);
        }
        int64_t now = stel_now();
        if (n > 0) atomic_store(&v->last_moved, now);
        if (n != -ETIMEDOUT || !stel_timed_out()) return n; /* the second: TCP's own, of a peer that is gone */
        /* Which of the limits was it? Out here the deadline is the total one again. */
        if (now >= stel_deadline() || now >= atomic_load(&v->last_moved) + v->proxy->idle_ns) return n;
    }
}

static int pass_on(void *arg) {
    const struct direction *d = arg;
    char buffer[16384]; /* on the fiber's stack: no more than a stack of 256 KiB easily carries */
    for (;;) {
        ssize_t n = move(d, false, buffer, sizeof buffer);
        if (n < 0) return (int)n;
        if (n == 0) break;
        for (ssize_t done = 0, m; done < n; done += m)
            if ((m = move(d, true, buffer + done, (size_t)(n - done))) < 0) return (int)m;
        *d->moved += (uint64_t)n;
    }
    shutdown(d->to, SHUT_WR); /* has nothing more to say; it may already be gone, which the other direction finds out */
    return 0;
}

/* Both directions, until both have ended or one has failed. */
static int pass_both(struct visit *v) {
    struct direction there = { v, v->client, v->server, &v->there }, back = { v, v->server, v->client, &v->back };
    STEL_SCOPE(both);
    int rc = stel_scope_spawn(&both, pass_on, &there);
    if (rc == 0) rc = stel_scope_spawn(&both, pass_on, &back);
    if (rc < 0) stel_scope_cancel(&both);
    int joined = stel_scope_join(&both); /* the first failure: it may be why the second spawn was refused */
    return joined < 0 ? joined : rc;
}

static int serve(void *arg) {
    struct visit *v = arg;
    const char *outcome;
    int rc;
    {
        STEL_TIMEOUT(v->proxy->total_ns);
        {
            STEL_TIMEOUT(v->proxy->connect_ns);
            v->server = stel_dial(v->proxy->target);
        }
        atomic_store(&v->last_moved, stel_now());
        rc = v->server < 0 ? v->server : pass_both(v);
    }
    int64_t took = stel_now() - v->started;
    if (rc != -ETIMEDOUT)
        outcome = rc < 0 ? stel_strerror(rc) : "done";
    else if (took >= v->proxy->total_ns)
        outcome = "took too long";
    else
        outcome = v->server < 0 ? "no connection in time" : "idle for too long";
    printf("visit %d: %" PRIu64 " bytes there, %" PRIu64 " back, %.0f ms: %s\n", v->number, v->there, v->back,
           (double)took / 1e6, outcome);
    if (v->server >= 0) stel_close(v->server);
    stel_close(v->client);
    free(v);
    return rc;
}

static int listen_and_say(const char *address) {
    char where[STEL_ADDRESS_BYTES];
    int listener = stel_listen(address, 1024);
    if (listener >= 0 && stel_local_address(listener, where, sizeof where) == 0) printf("listening on %s\n", where);
    return listener;
}

static int app(void *arg) {
    const struct proxy *proxy = arg;
    int listener = listen_and_say(proxy->address), client;
    if (listener < 0) return listener;
    for (int number = 1; (client = stel_accept(listener, NULL, NULL)) >= 0; number++) {
        struct visit *v = calloc(1, sizeof *v);
        if (v) {
            v->proxy = proxy;
            v->number = number;
            v->client = client;
            v->started = stel_now();
        }
        if (!v || stel_go(serve, v) < 0) { /* no room: this one visitor is sent away */
            free(v);
            stel_close(client);
        }
    }
    stel_close(listener);
    return client; /* why accept ended */
}

/* The argument as a time, or the default without one; -1: not a number of milliseconds. */
static int64_t milliseconds(int argc, char **argv, int i, long otherwise) {
    char *end;
    if (i >= argc) return STEL_MS(otherwise);
    long ms = strtol(argv[i], &end, 10);
    return *end || end == argv[i] || ms <= 0 || ms > 86400000 ? -1 : STEL_MS(ms);
}

int main(int argc, char **argv) {
    struct proxy proxy = { argc > 1 ? argv[1] : NULL, argc > 2 ? argv[2] : NULL, milliseconds(argc, argv, 3, 3000),
                           milliseconds(argc, argv, 4, 60000), milliseconds(argc, argv, 5, 3600000) };
    if (!proxy.target || argc > 6 || proxy.connect_ns < 0 || proxy.idle_ns < 0 || proxy.total_ns < 0) {
        fprintf(stderr, "usage: tcp_proxy address target [connect-ms [idle-ms [total-ms]]]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* a line is seen when it is written, into a file too */
    int rc = stel_run(app, &proxy);
    if (rc < 0) fprintf(stderr, "tcp_proxy: %s\n", stel_strerror(rc));
    return rc < 0;
}
