/* bench-load open: an open loop, `rate` requests a second whatever the server does.
 *
 * When each request is intended to be sent is settled before the first one is: exponential gaps, as between requests of
 * many people who do not know of each other; the same ones in every run. They go to the connections in turn. One whose
 * connection still waits for an answer is sent when that has come, but its latency counts from the time that was intended
 * for it: a server that stops for a moment pays for all that would have come meanwhile, not for the one that it held up.
 *
 * Latencies are those of the requests intended inside the window, whenever they are answered; all must be. Throughput and
 * CPU time are those of the window itself.
 *
 * Who was the limit? `behind`: the server was, it had not answered at the end of the window what was intended before.
 * `load`: this process was, it had no time to spare, or more than a tenth of the latencies' sum is what it sent late
 * itself, or it did not get its CPU all the time. Otherwise `latency`: nobody. It looks for answers without ever sleeping, so
 * it needs a CPU of its own; how busy it was is the share of its time in which it found something to do. */
#include "../common/bench.h"
#include "connection.h"
#include "load.h"
#include "window.h"
#include <math.h>
#include <string.h>

enum { LOOK_NS_MAX = 20000 }; /* a look that finds nothing takes longer only when somebody else has the CPU */

/* Requests are numbered as intended; number i goes to connection i % connection_count. */
static int64_t *intended, request_count, first_measured;
static int64_t released;         /* requests whose time has come */
static int64_t answered;         /* requests answered */
static int64_t *free_since;      /* of each connection: its last answer */
static int64_t late_ns, idle_ns; /* in the window */
static uint64_t digest;
static window from, to;
static int64_t answered_from, answered_to; /* at both ends of the window */

static void plan(int64_t rate, int64_t warm_ns, int64_t run_ns) {
    double at = 0, gap_ns = 1e9 / (double)rate, end = (double)(warm_ns + run_ns);
    int64_t room = (int64_t)(end / gap_ns * 1.1) + 1000;
    uint64_t x = 88172645463325252u;
    intended = bench_alloc((size_t)room * sizeof *intended);
    first_measured = -1;
    while (request_count < room) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17; /* xorshift64 */
        at -= log(((double)(x >> 11) + 1) * 0x1p-53) * gap_ns;
        if (at >= end) break;
        if (at >= (double)warm_ns && first_measured < 0) first_measured = request_count;
        intended[request_count++] = (int64_t)at;
    }
    if (first_measured < 0 || request_count - first_measured < 100) bench_fail("too few requests to tell anything");
}

/* The number of a connection's next request. */
static int64_t next_of(const connection *c) {
    return (int64_t)c->count * connection_count + (c - connections);
}

static bool in_window(int64_t request) {
    return request >= first_measured;
}

/* Send c's next request, if its time has come and nothing is under way. */
static void send_due(connection *c, int64_t now) {
    int64_t request = next_of(c), free_at = free_since[c - connections];
    if (c->waiting || request >= released) return;
    if (in_window(request)) late_ns += now - (free_at > intended[request] ? free_at : intended[request]);
    connection_send(c, intended[request]);
}

/* Hand out the requests whose time has come. Returns whether there were any. */
static bool release(int64_t now) {
    bool any = false;
    while (released < request_count && intended[released] <= now) {
        connection *c = &connections[released % connection_count];
        if (released == first_measured) {
            answered_from = answered;
            from = window_begin();
        }
        released++;
        send_due(c, bench_now());
        any = true;
    }
    return any;
}

static bool receive(void) {
    struct epoll_event events[CONNECTION_EVENTS];
    int n = connections_poll(events, 0);
    for (int i = 0; i < n; i++) {
        connection *c = events[i].data.ptr;
        int64_t now = connection_receive(c), request = next_of(c) - connection_count;
        if (!now) continue;
        answered++;
        if (in_window(request)) {
            latencies_add(now - intended[request]);
            digest += 1 + (c->count & 0xff);
        }
        free_since[c - connections] = now;
        send_due(c, now);
    }
    return n > 0;
}

static void drive(int64_t end) {
    bool over = false;
    int64_t last_answer = bench_now(), before = answered;
    for (int64_t now = last_answer; answered < request_count;) {
        bool busy = release(now);
        if (receive()) busy = true;
        int64_t then = now;
        now = bench_now();
        if (!busy && !over && released > first_measured && now - then < LOOK_NS_MAX) idle_ns += now - then;
        if (!over && now >= end) {
            over = true;
            to = window_end();
            answered_to = answered;
        }
        if (answered != before || answered == released) {
            before = answered;
            last_answer = now;
        } else if (now - last_answer > 5000000000) {
            bench_fail("no answer for 5 s: the server has stopped or lost a wake-up");
        }
    }
    if (!over) {
        to = window_end();
        answered_to = answered;
    }
}

static const char *limit_of(double load_share) {
    double had_cpu = (double)(to.load - from.load) / (double)(to.wall - from.wall);
    int64_t measured = request_count - first_measured, unanswered = request_count - answered_to;
    if (had_cpu < 0.95 || load_share >= 0.93 || late_ns * 10 > latencies_sum()) return "load";
    return unanswered > connection_count + measured / 100 ? "behind" : "latency";
}

void run_open(void) {
    int64_t run_ns = bench_param("run_ms", 1000) * 1000000, warm_ns = bench_param("warm_ms", 300) * 1000000;
    int64_t rate = bench_param("rate", 0);
    if (rate < 1) bench_fail("no rate");
    server_open(false);
    connections_open();
    free_since = bench_alloc((size_t)connection_count * sizeof *free_since);
    plan(rate, warm_ns, run_ns);
    int64_t start = bench_now();
    for (int64_t i = 0; i < request_count; i++)
        intended[i] += start;
    bench_start();
    drive(start + warm_ns + run_ns);
    bench_stop();
    double wall = (double)(to.wall - from.wall), load_share = 1 - (double)idle_ns / wall;
    window_report(&from, &to, (uint64_t)(answered_to - answered_from), load_share, digest);
    bench_result("load_late", "us", (double)late_ns / 1e3 / (double)latencies_count(), digest,
                 (int64_t)latencies_count());
    window_report_limit(limit_of(load_share));
}
