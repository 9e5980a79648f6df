/* udp_time_server: answers each datagram with the time of day, on IPv4 and IPv6, but nobody more often than allowed.
 *
 * The idea: datagrams need no connection and no fiber a peer. One fiber a socket receives, answers and receives again;
 * what it knows of its peers lives in a table of its own, without a lock, and the table cannot be made to grow. A peer
 * has a bucket of tokens: an answer takes one, time brings them back, and without one the question is passed over in
 * silence (an answer "too many" would be just what a forged sender's victim does not need).
 *
 *     cc udp_time_server.c $(pkg-config --cflags --libs stellane-fiber) -o udp_time_server
 *     ./udp_time_server 7013 10 1 127.0.0.1 ::1      port, burst, answers a second afterwards, addresses
 *
 * It prints a line a socket; `echo | nc -u -W 1 127.0.0.1 7013` is client enough:
 *
 *     listening on 127.0.0.1:7013
 *     listening on [::1]:7013
 *     2025-06-01T12:34:56.123456789Z                 what the client gets */
#define _DEFAULT_SOURCE
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>
#include <string.h>
#include <time.h>

enum { BUCKETS = 1024, HOSTS_MAX = 16 };

/* Tokens are counted in the time that it takes to earn them: `full_at` is when the bucket will be full again. */
struct bucket {
    int64_t full_at;
};

struct limit {
    int64_t token_ns; /* the time that earns one answer */
    int burst;        /* how many may be saved up */
};

struct server {
    const char *host, *port;
    struct limit limit;
    struct bucket buckets[BUCKETS]; /* peers that share a bucket share what is in it */
};

/* FNV-1a of the peer's address without its port: of IPv6 the first 64 bits, as one site has all that begin with them. */
static size_t bucket_of(const struct sockaddr_storage *peer) {
    unsigned char address[8] = { 0 };
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    if (peer->ss_family == AF_INET6)
        memcpy(address, (const char *)peer + offsetof(struct sockaddr_in6, sin6_addr), 8);
    else
        memcpy(address, (const char *)peer + offsetof(struct sockaddr_in, sin_addr), 4);
    for (size_t i = 0; i < sizeof address; i++)
        hash = (hash ^ address[i]) * UINT64_C(0x100000001b3);
    return (size_t)(hash % BUCKETS);
}

static bool may_answer(struct server *s, const struct sockaddr_storage *peer) {
    struct bucket *b = &s->buckets[bucket_of(peer)];
    int64_t now = stel_now();
    int64_t full_at = (b->full_at > now ? b->full_at : now) + s->limit.token_ns;
    if (full_at - now > s->limit.token_ns * s->limit.burst) return false;
    b->full_at = full_at;
    return true;
}

static size_t write_time(char *text, size_t bytes) {
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(text, bytes, "%Y-%m-%dT%H:%M:%S", &utc);
    return n + (size_t)snprintf(text + n, bytes - n, ".%09ldZ\n", now.tv_nsec);
}

static int answer_all(struct server *s, int fd) {
    char text[64];
    for (;;) {
        struct sockaddr_storage peer;
        socklen_t bytes = sizeof peer;
        ssize_t n = stel_recvfrom(fd, text, sizeof text, 0, (struct sockaddr *)&peer, &bytes); /* the rest is cut off */
        if (n < 0) return (int)n;
        if (!may_answer(s, &peer)) continue;
        n = stel_sendto(fd, text, write_time(text, sizeof text), 0, (struct sockaddr *)&peer, bytes);
        if (n == -ECANCELED || n == -ETIMEDOUT) return (int)n; /* ours; other errors concern this peer only */
    }
}

/* bind(2) by our error rule. In a fiber errno is read in a function of its own that waits for nothing: a compiler that
 * kept errno's address across a wait would read another thread's. */
__attribute__((noinline)) static int bind_to(int fd, const struct addrinfo *at) {
    return bind(fd, at->ai_addr, at->ai_addrlen) < 0 ? -errno : 0;
}

/* A bound socket for s, and a line that says where. */
static int open_socket(const struct server *s) {
    struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_DGRAM }, *at;
    char where[STEL_ADDRESS_BYTES];
    int yes = 1, rc = stel_getaddrinfo(s->host, s->port, &hints, &at);
    if (rc < 0) return rc;
    int fd = stel_socket(at->ai_family, at->ai_socktype, at->ai_protocol);
    /* IPv6 alone, so that "::" and "0.0.0.0" are two sockets and may have the same port. */
    if (fd >= 0 && at->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    if (fd >= 0) rc = bind_to(fd, at);
    freeaddrinfo(at);
    if (fd < 0) return fd;
    if (rc < 0) {
        stel_close(fd);
        return rc;
    }
    if (stel_local_address(fd, where, sizeof where) == 0) printf("listening on %s\n", where);
    return fd;
}

static int serve(void *arg) {
    struct server *s = arg;
    int fd = open_socket(s);
    if (fd < 0) {
        if (fd != -ECANCELED) fprintf(stderr, "udp_time_server: %s: %s\n", s->host, stel_strerror(fd));
        return fd;
    }
    int rc = answer_all(s, fd);
    stel_close(fd);
    return rc;
}

struct plan {
    const char *port, **hosts;
    int count;
    struct limit limit;
};

static int app(void *arg) {
    const struct plan *plan = arg;
    struct server *servers = calloc((size_t)plan->count, sizeof *servers); /* too big for a stack */
    if (!servers) return -ENOMEM;
    int rc = 0;
    {
        STEL_SCOPE(all); /* one that fails stops the others, and refuses those that are still to come */
        for (int i = 0; i < plan->count && rc == 0; i++) {
            servers[i].host = plan->hosts[i];
            servers[i].port = plan->port;
            servers[i].limit = plan->limit;
            rc = stel_scope_spawn(&all, serve, &servers[i]);
        }
        if (rc < 0) stel_scope_cancel(&all);
        int joined = stel_scope_join(&all);
        if (joined < 0) rc = joined; /* what has really gone wrong */
    }
    free(servers); /* all have ended: nobody uses them any more */
    return rc;
}

int main(int argc, char **argv) {
    const char *both[] = { "127.0.0.1", "::1" };
    int burst = argc > 2 ? atoi(argv[2]) : 10;
    double a_second = argc > 3 ? atof(argv[3]) : 1;
    if (argc > 4 + HOSTS_MAX || burst < 1 || burst > 1000 || !(a_second >= 0.001 && a_second <= 1e6)) {
        fprintf(stderr, "usage: udp_time_server [port [burst [answers-a-second [address...]]]]\n");
        return 2;
    }
    struct plan plan = { .port = argc > 1 ? argv[1] : "7013",
                         .hosts = argc > 4 ? (const char **)(argv + 4) : both,
                         .count = argc > 4 ? argc - 4 : 2,
                         .limit = { (int64_t)(1e9 / a_second), burst } };
    setvbuf(stdout, NULL, _IOLBF, 0);
    int rc = stel_run(app, &plan);
    if (rc < 0) fprintf(stderr, "udp_time_server: %s\n", stel_strerror(rc));
    return rc < 0;
}
