/* bench-libdill: libdill. Coroutines of one thread: a spawned one runs at once, until it waits. What is spawned belongs to a
 * bundle, which is waited for and closed. Its own stacks, of 256 KiB, have guards and a cache of 64; the many that are
 * parked have stacks of 16 KiB without guards, since it stops at some 33,000 with them.
 *
 * It needs no mutex and has none. Its clock counts milliseconds: a sleep is rounded up. skynet and fib end in an error: the
 * one that spawned goes to the end of the queue, so that nearly the whole tree is alive at once. */
#include "../../common/bench.h"
#include <errno.h>
#include <libdill.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(call) must((call), #call)

static int must(int rc, const char *what) {
    if (rc < 0) bench_fail("%s: %s", what, strerror(errno));
    return rc;
}

/* Wait for all that was spawned into it, and be rid of it. */
static void finish(int in) {
    MUST(bundle_wait(in, -1));
    MUST(hclose(in));
}

/* ---- yield ---- */

static coroutine void yield_many(int each, int *done) {
    int i;
    for (i = 0; i < each; i++)
        yield();
    *done = i;
}

static uint64_t yield_round(int *counts, int n, int each) {
    uint64_t done = 0;
    int all = MUST(bundle());
    for (int i = 0; i < n; i++)
        MUST(bundle_go(all, yield_many(each, &counts[i])));
    finish(all);
    for (int i = 0; i < n; i++)
        done += (uint64_t)counts[i];
    return done;
}

static void yield_main(void) {
    int n = bench_param_int("fibers", 2), each = bench_param_int("ops", 1000000) / n;
    int *counts = bench_alloc((size_t)n * sizeof *counts);
    yield_round(counts, n, each / 10 + 1);
    bench_start();
    uint64_t checksum = yield_round(counts, n, each);
    bench_stop();
    bench_result_ns("time", checksum, (int64_t)each * n);
}

/* ---- spawn and join ---- */

static coroutine void give_back(int64_t number, int *result) {
    *result = (int)(number & 1023);
}

static uint64_t spawn_join_round(int64_t n) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        int result = 0;
        finish(MUST(go(give_back(i, &result))));
        sum += (uint64_t)result;
    }
    return sum;
}

static void spawn_join_main(void) {
    int64_t ops = bench_param("ops", 1000000);
    spawn_join_round(ops / 10);
    bench_start();
    uint64_t checksum = spawn_join_round(ops);
    bench_stop();
    bench_result_ns("time", checksum, ops);
}

static uint64_t spawn_all_round(int *results, int n) {
    uint64_t sum = 0;
    int all = MUST(bundle());
    for (int i = 0; i < n; i++)
        MUST(bundle_go(all, give_back(i, &results[i])));
    finish(all);
    for (int i = 0; i < n; i++) {
        sum += (uint64_t)results[i];
        results[i] = 0;
    }
    return sum;
}

static void spawn_all_main(void) {
    int n = bench_param_int("fibers", 10000), rounds = bench_param_int("rounds", 20);
    int *results = bench_alloc((size_t)n * sizeof *results);
    uint64_t checksum = 0;
    spawn_all_round(results, n);
    bench_start();
    for (int r = 0; r < rounds; r++)
        checksum += spawn_all_round(results, n);
    bench_stop();
    bench_result_ns("time", checksum, (int64_t)n * rounds);
}

/* ---- channel ---- */

/* A channel has two ends: what is sent to one is received at the other, so one is enough for both ways. */
static coroutine void partner(int ch) {
    uint64_t ball;
    while (chrecv(ch, &ball, sizeof ball, -1) == 0) {
        ball++;
        MUST(chsend(ch, &ball, sizeof ball, -1));
    }
}

static uint64_t play(int ch, int64_t trips) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < trips; i++) {
        uint64_t ball = (uint64_t)i;
        MUST(chsend(ch, &ball, sizeof ball, -1));
        MUST(chrecv(ch, &ball, sizeof ball, -1));
        sum += ball;
    }
    return sum;
}

static void channel_main(void) {
    int64_t ops = bench_param("ops", 1000000);
    int ch[2];
    MUST(chmake(ch));
    int other = MUST(go(partner(ch[1])));
    play(ch[0], ops / 10);
    bench_start();
    uint64_t checksum = play(ch[0], ops);
    bench_stop();
    MUST(chdone(ch[0]));
    finish(other);
    MUST(hclose(ch[0]));
    MUST(hclose(ch[1]));
    bench_result_ns("time", checksum, ops);
}

/* ---- many parked ---- */

enum { PARKED_STACK_BYTES = 16384 };

static int64_t parked, woken;

static coroutine void park_once(int ch) {
    char element;
    parked++;
    MUST(chrecv(ch, &element, sizeof element, -1));
    woken++;
}

/* The bundle that they are in; each has run up to its wait when bundle_go comes back. */
static int park_all(int ch, char *stacks, int64_t n) {
    int all = MUST(bundle());
    parked = woken = 0;
    for (int64_t i = 0; i < n; i++)
        MUST(bundle_go_mem(all, park_once(ch), stacks + i * PARKED_STACK_BYTES, PARKED_STACK_BYTES));
    if (parked != n) bench_fail("%lld parked instead of %lld", (long long)parked, (long long)n);
    return all;
}

static void wake_all(int ch, int all, int64_t n) {
    char element = 0;
    for (int64_t i = 0; i < n; i++)
        MUST(chsend(ch, &element, sizeof element, -1));
    finish(all);
}

static void parked_main(void) {
    int64_t n = bench_param("fibers", 1000000);
    int ch[2];
    MUST(chmake(ch));
    size_t bytes = (size_t)(n + 1000) * PARKED_STACK_BYTES;
    char *stacks =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (stacks == MAP_FAILED) bench_fail("no memory for stacks");
    wake_all(ch[0], park_all(ch[1], stacks + n * PARKED_STACK_BYTES, 1000), 1000);
    int64_t before = bench_memory();
    bench_start();
    int all = park_all(ch[1], stacks, n);
    int64_t create = bench_stop(), memory = bench_memory() - before, lines = bench_map_lines();
    bench_start();
    wake_all(ch[0], all, n);
    int64_t wake = bench_stop();
    double each = (double)n;
    uint64_t checksum = (uint64_t)woken;
    bench_result("bytes", "B", (double)memory / each, checksum, n);
    bench_result("create", "ns", (double)create / each, checksum, n);
    bench_result("wake", "ns", (double)wake / each, checksum, n);
    bench_result("map_lines", "lines", (double)lines, checksum, n);
    bench_result("unguarded", "stacks", each, checksum, n);
}

/* ---- timers ---- */

static bench_histogram overshoots;
static int64_t window_start = INT64_MAX, window_end = INT64_MAX, sleeps, early;

/* Its own now() is what the kernel's coarse clock said a while ago: too early by some milliseconds. */
static void sleep_until(int64_t when_ns) {
    MUST(msleep((when_ns + 999999) / 1000000));
}

static coroutine void sleeper(int number) {
    for (uint64_t k = 0;; k++) {
        int64_t before = bench_now(), length = bench_sleep_length((uint64_t)number, k);
        if (before >= window_end) return;
        sleep_until(before + length);
        int64_t overshoot = bench_now() - before - length;
        if (overshoot < 0) early++;
        if (before < window_start) continue;
        bench_histogram_add(&overshoots, overshoot);
        sleeps++;
    }
}

static void timers_main(void) {
    int n = bench_param_int("fibers", 5000);
    int all = MUST(bundle());
    for (int i = 0; i < n; i++)
        MUST(bundle_go(all, sleeper(i)));
    window_start = bench_now() + 300000000;
    window_end = window_start + bench_param("run_ms", 1500) * 1000000;
    sleep_until(window_start);
    bench_start();
    int64_t cpu = bench_cpu();
    sleep_until(window_end);
    bench_stop();
    cpu = bench_cpu() - cpu;
    finish(all);
    if (early) bench_fail("%lld sleeps ended early", (long long)early);
    uint64_t count = (uint64_t)sleeps;
    bench_result("p50", "us", (double)bench_histogram_at(&overshoots, 0.50) / 1e3, count, sleeps);
    bench_result("p99", "us", (double)bench_histogram_at(&overshoots, 0.99) / 1e3, count, sleeps);
    bench_result("cpu", "us", (double)cpu / 1e3 / (double)sleeps, count, sleeps);
}

/* ---- echo ---- */

/* Try first, wait only when there is nothing; as its own sockets do. */
static coroutine void serve(int fd) {
    char buffer[4096];
    for (;;) {
        ssize_t n = recv(fd, buffer, sizeof buffer, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (fdin(fd, -1) == 0) continue;
            break;
        }
        if (n <= 0) break;
        for (ssize_t sent = 0; sent < n;) {
            ssize_t m = send(fd, buffer + sent, (size_t)(n - sent), MSG_NOSIGNAL);
            if (m >= 0)
                sent += m;
            else if ((errno != EAGAIN && errno != EINTR) || fdout(fd, -1) != 0)
                goto out;
        }
    }
out:
    fdclean(fd);
    close(fd);
}

static void echo_main(void) {
    int port, listener = bench_listen(&port, SOCK_NONBLOCK), all = MUST(bundle());
    bench_serve(port);
    for (;;) {
        int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            MUST(fdin(listener, -1));
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        MUST(bundle_go(all, serve(fd)));
    }
}

/* ---- start ---- */

static coroutine void nothing(void) {}

static void start_main(void) {
    finish(MUST(go(nothing())));
}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", yield_main },
        { "spawn-join", spawn_join_main },
        { "spawn-all", spawn_all_main },
        { "channel", channel_main },
        { "echo", echo_main },
        { "timers", timers_main },
        { "start", start_main },
        { "parked", parked_main },
        { NULL, NULL },
    };
    return bench_main(argc, argv, "libdill", table);
}
