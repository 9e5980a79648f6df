/* bench-load echo: a closed loop. Every connection has one request under way; its answer is checked, its latency recorded,
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
#include "../common/bench.h"
#include "connection.h"
#include "load.h"
#include "window.h"

static int64_t window_start;
static uint64_t digest; /* of what was answered in the window */

/* Wait for events: spinning first if that was asked for, then blocking. */
static int wait_events(struct epoll_event *events, int64_t spin_ns) {
    int64_t now = bench_now(), spin_until = now + spin_ns, give_up = now + 5000000000;
    int n = 0;
    while (spin_ns > 0 && (n = connections_poll(events, 0)) == 0 && bench_now() < spin_until)
        ;
    if (n == 0) n = connections_poll(events, 5000);
    if (n == 0 && bench_now() >= give_up) bench_fail("no answer for 5 s: the server has stopped or lost a wake-up");
    return n;
}

static void count_answer(const connection *c, int64_t now) {
    latencies_add(now - c->since);
    digest += 1 + (c->count & 0xff);
}

/* Drive the loop until the window is over and every answer has come; fills in the clocks at both ends. */
static void drive(int64_t spin_ns, int64_t run_ns, window *from, window *to) {
    struct epoll_event events[CONNECTION_EVENTS];
    int under_way = connection_count;
    bool measuring = false, over = false;
    for (int i = 0; i < connection_count; i++)
        connection_send(&connections[i], bench_now());
    while (under_way > 0) {
        int n = wait_events(events, spin_ns);
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            int64_t now = connection_receive(c);
            if (!now) continue;
            if (measuring && !over) {
                count_answer(c, now);
                if (now - from->wall >= run_ns && latencies_count() >= (uint64_t)connection_count) {
                    over = true;
                    *to = window_end();
                }
            } else if (!measuring && now >= window_start) {
                measuring = true;
                *from = window_begin();
            }
            if (over)
                under_way--;
            else
                connection_send(c, now);
        }
    }
}

static const char *limit_of(double server_share, double load_share) {
    if (server_share >= 0.93) return load_share >= 0.93 ? "both" : "server";
    return load_share >= 0.93 ? "load" : "latency";
}

static void open_window(int64_t warm_ns) {
    latencies_clear();
    window_start = bench_now() + warm_ns;
}

void run_closed(void) {
    int64_t run_ns = bench_param("run_ms", 1000) * 1000000, spin_ns = bench_param("spin_us", 0) * 1000;
    int64_t warm_ns = bench_param("warm_ms", 300) * 1000000, count_ns = bench_param("count_ms", 0) * 1000000;
    window from, to;
    server_open(count_ns > 0);
    connections_open();
    open_window(warm_ns);
    bench_start();
    drive(spin_ns, run_ns, &from, &to);
    bench_stop();
    double load_share = (double)(to.load - from.load) / (double)(to.wall - from.wall);
    double server_share = window_report(&from, &to, latencies_count(), load_share, digest);
    window_report_limit(limit_of(server_share, load_share));
    if (count_ns > 0 && server_count_calls()) {
        open_window(count_ns / 4);
        drive(spin_ns, count_ns, &from, &to);
        server_report_calls(&from.server, &to.server, (int64_t)latencies_count());
    }
}
