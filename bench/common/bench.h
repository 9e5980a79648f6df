/* bench: what every C and C++ driver of the suite shares: parameters, clocks, memory figures, percentiles, and the one
 * form in which results leave a driver.
 *
 * A driver is called as `bench-<runtime> <workload> [name=value ...]` and writes JSON objects to stdout, one a line and
 * one a metric:
 *
 *   {"workload":..., "runtime":..., "metric":..., "value":..., "unit":..., "checksum":..., "operations":...,
 *    "wall_ns":..., "cpu_ns":..., "peak_rss_bytes":...}
 *
 * The checksum is computed from the work itself and compared by the harness with what the workload's description says
 * (workloads/README.md). A driver that cannot do its work writes {"error": "..."} and exits with 1; one that is not meant to
 * on this machine writes {"unavailable": "..."} and exits with 0. */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bench_workload {
    const char *name;
    void (*run)(void);
} bench_workload;

/* Parse the command line, run the workload that it names, return main's result. The table ends with a NULL name. */
int bench_main(int argc, char **argv, const char *runtime, const bench_workload *table);

/* A parameter of the command line, or what it is when it was not given. */
int64_t bench_param(const char *name, int64_t otherwise);
int bench_param_int(const char *name, int otherwise);

int64_t bench_now(void); /* CLOCK_MONOTONIC, ns */
int64_t bench_cpu(void); /* CPU time of the process, all threads, ns */

/* The measured part: wall and CPU time between the two. stop returns the wall time. */
void bench_start(void);
int64_t bench_stop(void);

/* Write one result line; operations is what value was divided by, for the reader. */
void bench_result(const char *metric, const char *unit, double value, uint64_t checksum, int64_t operations);
/* The usual case: ns of wall time an operation. */
void bench_result_ns(const char *metric, uint64_t checksum, int64_t operations);
/* Give up with a reason. */
void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* End without a figure, and without having failed: this cannot be had on this machine, or was never promised. */
void bench_unavailable(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Fail unless code >= 0 (a call of the runtime that must not fail); returns it. */
int bench_must(int code, const char *what);

/* Memory that the process occupies now, page tables included (VmRSS + VmPTE), and its mappings. */
int64_t bench_memory(void);
int64_t bench_peak_rss(void);
int64_t bench_map_lines(void);
/* Zeroed memory whose pages are there already, so that it does not show up in later figures. */
void *bench_alloc(size_t bytes);

/* Bind the calling thread to the i-th CPU that the process may use (modulo their number). */
void bench_pin(int i);

/* Tell the harness that a server listens on port, and end the process as soon as stdin is closed. */
void bench_serve(int port);
/* The same for the workload wake: a pipe into which the load generator writes times, 8 bytes each. Returns the end that is
 * read; the other stays open. bench_woken is given each time as soon as whoever waited for it runs, and the process writes
 * what it found when stdin is closed; a driver that is its own load generator calls bench_wake_results. */
int bench_serve_pipe(void);
void bench_woken(int64_t stamp); /* negative: a warm-up, not counted */
void bench_wake_results(void);
/* An IPv4 listening socket on the loopback, kernel's choice of port (stored in *port). */
int bench_listen(int *port, int flags);

/* Latencies in buckets whose width is 1/64 of their value; adding is thread-safe. */
enum { BENCH_HISTOGRAM_BUCKETS = 64 * 40 };
typedef struct bench_histogram {
    uint64_t bucket[BENCH_HISTOGRAM_BUCKETS];
} bench_histogram;
void bench_histogram_add(bench_histogram *h, int64_t ns);
int64_t bench_histogram_at(const bench_histogram *h, double share); /* 0.5: the median; 1: the greatest */
uint64_t bench_histogram_count(const bench_histogram *h);

/* The workload timers: how long fiber number i sleeps the k-th time, 1 ... 99 ms, 50 ms on average. */
static inline int64_t bench_sleep_length(uint64_t i, uint64_t k) {
    uint64_t x = (i << 32 | k) * UINT64_C(0x9E3779B97F4A7C15);
    x ^= x >> 29;
    x *= UINT64_C(0xBF58476D1CE4E5B9);
    x ^= x >> 32;
    return (int64_t)(1000000 + x % 98000001);
}

/* The workload fairness: what the ticker found, and the turns of the others, between bench_start and bench_stop. */
void bench_fairness_results(const bench_histogram *lateness, uint64_t turns);
/* Keep the CPU busy. */
static inline void bench_spin(int64_t ns) {
    if (ns <= 0) return;
    for (int64_t until = bench_now() + ns; bench_now() < until;)
        ;
}

/* The workload tree: what leaf number `leaf` does. The shift is what no compiler can see through: multiplications and
 * additions alone it would combine, many steps into one. */
static inline uint64_t bench_work(uint64_t leaf, int64_t steps) {
    uint64_t x = leaf % 64;
    for (int64_t i = 0; i < steps; i++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        x ^= x >> 29;
    }
    return x;
}

/* The compiler may not know what x is from here on, nor drop how it came about. */
#define bench_keep(x) __asm__ volatile("" : "+r"(x) : : "memory")

#ifdef __cplusplus
}
#endif
#endif
