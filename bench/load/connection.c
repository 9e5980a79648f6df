#include "connection.h"
#include "../common/bench.h"
#include "load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BYTES_MAX = 4096 };

connection *connections;
int connection_count;
uint64_t connection_requests;
static size_t message_bytes;
static int epoll;

/* What request number `count` of a connection looks like: 8-byte words that depend on both. */
static uint64_t word_of(const connection *c, size_t i) {
    return ((uint64_t)(c - connections) << 40 ^ c->count) * UINT64_C(0x9E3779B97F4A7C15) + i;
}

void connection_send(connection *c, int64_t since) {
    uint64_t message[BYTES_MAX / 8];
    c->count++;
    connection_requests++;
    c->got = 0;
    c->waiting = true;
    c->since = since;
    for (size_t i = 0; i < message_bytes / 8; i++)
        message[i] = word_of(c, i);
    ssize_t n = send(c->fd, message, message_bytes, MSG_NOSIGNAL);
    if (n != (ssize_t)message_bytes) bench_fail("send gave %zd: %s", n, n < 0 ? strerror(errno) : "short");
}

/* A part of an answer: is it what was sent? */
static void check_bytes(const connection *c, const unsigned char *data, size_t n) {
    for (size_t at = c->got; n > 0;) {
        uint64_t word = word_of(c, at / 8);
        size_t offset = at % 8, part = 8 - offset < n ? 8 - offset : n;
        if (memcmp((const unsigned char *)&word + offset, data, part) != 0)
            bench_fail("the server changed a message (byte %zu of request %llu)", at, (unsigned long long)c->count);
        at += part;
        data += part;
        n -= part;
    }
}

int64_t connection_receive(connection *c) {
    unsigned char buffer[BYTES_MAX];
    ssize_t n = recv(c->fd, buffer, message_bytes - c->got, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n <= 0) bench_fail("the server closed a connection: %s", n < 0 ? strerror(errno) : "end of file");
    if (!c->waiting) bench_fail("the server sent more than it was sent");
    check_bytes(c, buffer, (size_t)n);
    c->got += (size_t)n;
    if (c->got < message_bytes) return 0;
    c->waiting = false;
    return bench_now();
}

int load_connect(int port) {
    struct sockaddr_in a;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)port);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) bench_fail("cannot connect: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

void connections_open(void) {
    int port = bench_param_int("port", 0);
    connection_count = bench_param_int("connections", 64);
    message_bytes = (size_t)bench_param("bytes", 64);
    if (connection_count < 1 || message_bytes < 8 || message_bytes > BYTES_MAX || message_bytes % 8)
        bench_fail("bad parameters");
    connections = bench_alloc((size_t)connection_count * sizeof *connections);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) bench_fail("epoll_create1: %s", strerror(errno));
    for (int i = 0; i < connection_count; i++) {
        connection *c = &connections[i];
        struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
        c->fd = load_connect(port);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) != 0) bench_fail("epoll_ctl: %s", strerror(errno));
    }
}

int connections_poll(struct epoll_event events[CONNECTION_EVENTS], int timeout_ms) {
    int n = epoll_wait(epoll, events, CONNECTION_EVENTS, timeout_ms);
    if (n < 0 && errno != EINTR) bench_fail("epoll_wait: %s", strerror(errno));
    return n < 0 ? 0 : n;
}
