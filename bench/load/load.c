/* bench-load: the other side of the echo workloads, a process of its own on a CPU of its own.
 *
 *   bench-load echo port=N pid=N [connections=64] [bytes=64] [warm_ms=300] [run_ms=1000] [spin_us=0] [workers=1]
 *                   [count_ms=0]
 *   bench-load idle port=N pid=N [connections=10000]            idle.c
 *   bench-load wake port=N pid=N [ops=1000] [gap_us=1000]       wake.c
 *
 * A closed loop: every connection has one request under way; its answer is checked byte by byte, its latency recorded,
 * and the next request sent at once. Requests are counted when their answer arrives inside the measured window, which
 * begins and ends with an answer: the first after the warm-up, and the first after run_ms more when there have been as
 * many as there are connections (on a machine that is busy with other things that may take longer). The
 * server's CPU time is read from its process's clock at both ends of the window, so it counts what the server did for
 * these requests and nothing else. When the window ends nothing new is sent; each answer that is still under way must
 * arrive, otherwise the run has failed.
 *
 * Who was the limit? A server can only be compared when it, not this process, was busy all the time: `limit` says
 * server, load, both or latency (neither was busy), from the share of its CPUs that each used.
 *
 * count_ms: a second window, that long, in which nothing is timed and the server's system calls are counted (server.h):
 * counting makes each of them slower. Context switches are counted in the first one. */
#include "load.h"
#include "../common/bench.h"
#include "server.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BYTES_MAX = 4096, EVENTS = 256 };

typedef struct connection {
    int fd;
    bool waiting;   /* a request is under way */
    size_t got;     /* bytes of its answer */
    uint64_t count; /* requests sent */
    int64_t sent_at;
} connection;

static int connections, epoll;
static size_t message_bytes;
static connection *table;
static int64_t window_start;
static uint64_t answered, digest, requests; /* in the window; of these, a checksum; sent at all */
static bench_histogram latencies;

/* What request number `count` of a connection looks like: 8-byte words that depend on both. */
static uint64_t word_of(const connection *c, size_t i) {
    return ((uint64_t)(c - table) << 40 ^ c->count) * UINT64_C(0x9E3779B97F4A7C15) + i;
}

static void send_request(connection *c, int64_t now) {
    uint64_t message[BYTES_MAX / 8];
    c->count++;
    requests++;
    c->got = 0;
    c->waiting = true;
    c->sent_at = now;
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

/* Data arrived on c. Returns the time if that completed an answer, otherwise 0. */
static int64_t take_answer(connection *c) {
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

static void connect_all(int port) {
    for (int i = 0; i < connections; i++) {
        connection *c = &table[i];
        struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
        c->fd = load_connect(port);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) != 0) bench_fail("epoll_ctl: %s", strerror(errno));
    }
}

/* Wait for events: spinning first if that was asked for, then blocking. */
static int wait_events(struct epoll_event *events, int64_t spin_ns) {
    int64_t until = spin_ns > 0 ? bench_now() + spin_ns : 0;
    int n = 0;
    while (spin_ns > 0 && (n = epoll_wait(epoll, events, EVENTS, 0)) == 0 && bench_now() < until)
        ;
    if (n == 0) n = epoll_wait(epoll, events, EVENTS, 5000);
    if (n < 0 && errno == EINTR) return 0;
    if (n < 0) bench_fail("epoll_wait: %s", strerror(errno));
    if (n == 0) bench_fail("no answer for 5 s: the server has stopped or lost a wake-up");
    return n;
}

typedef struct window {
    int64_t wall, load;
    server_costs server;
} window;

/* What server_read costs itself must fall outside of the window, at both ends. */
static window begin_window(void) {
    window w;
    w.server = server_read();
    w.load = bench_cpu();
    w.wall = bench_now();
    return w;
}

static window end_window(void) {
    window w;
    w.wall = bench_now();
    w.load = bench_cpu();
    w.server = server_read();
    return w;
}

static void count_answer(const connection *c, int64_t now) {
    bench_histogram_add(&latencies, now - c->sent_at);
    answered++;
    digest += 1 + (c->count & 0xff);
}

/* Drive the loop until the window is over and every answer has come; fills in the clocks at both ends. */
static void drive(int64_t spin_ns, int64_t run_ns, window *from, window *to) {
    struct epoll_event events[EVENTS];
    int under_way = connections;
    bool measuring = false, over = false;
    for (int i = 0; i < connections; i++)
        send_request(&table[i], bench_now());
    while (under_way > 0) {
        int n = wait_events(events, spin_ns);
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            int64_t now = take_answer(c);
            if (!now) continue;
            if (measuring && !over) {
                count_answer(c, now);
                if (now - from->wall >= run_ns && answered >= (uint64_t)connections) {
                    over = true;
                    *to = end_window();
                }
            } else if (!measuring && now >= window_start) {
                measuring = true;
                *from = begin_window();
            }
            if (over)
                under_way--;
            else
                send_request(c, now);
        }
    }
}

static const char *limit_of(double server_share, double load_share) {
    if (server_share >= 0.93) return load_share >= 0.93 ? "both" : "server";
    return load_share >= 0.93 ? "load" : "latency";
}

static void open_window(int64_t warm_ns) {
    answered = 0;
    memset(&latencies, 0, sizeof latencies);
    window_start = bench_now() + warm_ns;
}

static void report(const window *from, const window *to, int workers) {
    double wall = (double)(to->wall - from->wall), server = (double)(to->server.cpu_ns - from->server.cpu_ns);
    double load = (double)(to->load - from->load), n = (double)answered;
    int64_t operations = (int64_t)answered;
    bench_result("throughput", "req/s", n / (wall / 1e9), digest, operations);
    bench_result("p50", "us", (double)bench_histogram_at(&latencies, 0.50) / 1e3, digest, operations);
    bench_result("p99", "us", (double)bench_histogram_at(&latencies, 0.99) / 1e3, digest, operations);
    bench_result("server_cpu", "us", server / 1e3 / n, digest, operations);
    bench_result("server_share", "", server / wall / workers, digest, operations);
    bench_result("load_share", "", load / wall, digest, operations);
    server_report_switches(&from->server, &to->server, operations);
    printf("{\"limit\":\"%s\",\"requests\":%llu}\n", limit_of(server / wall / workers, load / wall),
           (unsigned long long)requests);
}

static void run_echo(void) {
    int workers = bench_param_int("workers", 1);
    int64_t run_ns = bench_param("run_ms", 1000) * 1000000, spin_ns = bench_param("spin_us", 0) * 1000;
    int64_t warm_ns = bench_param("warm_ms", 300) * 1000000, count_ns = bench_param("count_ms", 0) * 1000000;
    window from, to;
    connections = bench_param_int("connections", 64);
    message_bytes = (size_t)bench_param("bytes", 64);
    if (connections < 1 || message_bytes < 8 || message_bytes > BYTES_MAX || message_bytes % 8 || workers < 1)
        bench_fail("bad parameters");
    server_open(count_ns > 0);
    table = bench_alloc((size_t)connections * sizeof *table);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) bench_fail("epoll_create1: %s", strerror(errno));
    connect_all(bench_param_int("port", 0));
    open_window(warm_ns);
    bench_start();
    drive(spin_ns, run_ns, &from, &to);
    bench_stop();
    report(&from, &to, workers);
    if (count_ns > 0 && server_count_calls()) {
        open_window(count_ns / 4);
        drive(spin_ns, count_ns, &from, &to);
        server_report_calls(&from.server, &to.server, (int64_t)answered);
    }
}

int main(int argc, char **argv) {
    static const bench_workload table_of_workloads[] = {
        { "echo", run_echo }, { "idle", run_idle }, { "wake", run_wake }, { NULL, NULL }
    };
    return bench_main(argc, argv, "load", table_of_workloads);
}
