#include "window.h"
#include "connection.h"
#include <stdio.h>
#include <string.h>

static bench_histogram latencies;
static int64_t sum_ns;

window window_begin(void) {
    window w;
    w.server = server_read();
    w.load = bench_cpu();
    w.wall = bench_now();
    return w;
}

window window_end(void) {
    window w;
    w.wall = bench_now();
    w.load = bench_cpu();
    w.server = server_read();
    return w;
}

void latencies_clear(void) {
    memset(&latencies, 0, sizeof latencies);
    sum_ns = 0;
}

void latencies_add(int64_t ns) {
    bench_histogram_add(&latencies, ns);
    sum_ns += ns;
}

uint64_t latencies_count(void) {
    return bench_histogram_count(&latencies);
}

int64_t latencies_sum(void) {
    return sum_ns;
}

static void report_latencies(uint64_t checksum) {
    static const struct {
        const char *name;
        double share;
    } points[] = { { "p50", 0.50 },         { "p99", 0.99 },           { "latency_p50", 0.50 }, { "latency_p90", 0.90 },
                   { "latency_p99", 0.99 }, { "latency_p999", 0.999 }, { "latency_max", 1 } };
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        bench_result(points[i].name, "us", (double)bench_histogram_at(&latencies, points[i].share) / 1e3, checksum,
                     (int64_t)latencies_count());
}

double window_report(const window *from, const window *to, uint64_t answered, double load_share, uint64_t checksum) {
    double wall = (double)(to->wall - from->wall), server = (double)(to->server.cpu_ns - from->server.cpu_ns);
    double n = (double)answered, server_share = server / wall / bench_param_int("workers", 1);
    int64_t operations = (int64_t)answered;
    bench_result("throughput", "req/s", n / (wall / 1e9), checksum, operations);
    report_latencies(checksum);
    bench_result("server_cpu", "us", server / 1e3 / n, checksum, operations);
    bench_result("server_share", "", server_share, checksum, operations);
    bench_result("load_share", "", load_share, checksum, operations);
    server_report_switches(&from->server, &to->server, operations);
    return server_share;
}

void window_report_limit(const char *who) {
    printf("{\"limit\":\"%s\",\"requests\":%llu}\n", who, (unsigned long long)connection_requests);
}
