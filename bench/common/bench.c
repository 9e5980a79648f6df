#include "bench.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char *the_workload = "none", *the_runtime = "none";
static int parameter_count;
static char **parameters;
static int64_t wall_start, cpu_start, wall_ns, cpu_ns;

/* ---- the command line ---- */

int64_t bench_param(const char *name, int64_t otherwise) {
    size_t length = strlen(name);
    for (int i = 0; i < parameter_count; i++) {
        const char *p = parameters[i];
        if (strncmp(p, name, length) != 0 || p[length] != '=') continue;
        char *end;
        errno = 0;
        long long value = strtoll(p + length + 1, &end, 10);
        if (errno || end == p + length + 1 || *end) bench_fail("parameter '%s' is not a number", p);
        return value;
    }
    return otherwise;
}

int bench_param_int(const char *name, int otherwise) {
    int64_t value = bench_param(name, otherwise);
    if (value < INT32_MIN || value > INT32_MAX) bench_fail("parameter '%s' is too large", name);
    return (int)value;
}

int bench_main(int argc, char **argv, const char *runtime, const bench_workload *table) {
    the_runtime = runtime;
    if (argc < 2) {
        fprintf(stderr, "usage: %s workload [name=value ...]\nworkloads:", argv[0]);
        for (const bench_workload *w = table; w->name; w++)
            fprintf(stderr, " %s", w->name);
        fprintf(stderr, "\n");
        return 64;
    }
    parameter_count = argc - 2;
    parameters = argv + 2;
    for (const bench_workload *w = table; w->name; w++) {
        if (strcmp(w->name, argv[1]) != 0) continue;
        the_workload = w->name;
        w->run();
        return 0;
    }
    bench_fail("%s has no workload '%s'", runtime, argv[1]);
}

/* ---- clocks ---- */

static int64_t read_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t bench_now(void) {
    return read_clock(CLOCK_MONOTONIC);
}

int64_t bench_cpu(void) {
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

void bench_start(void) {
    cpu_start = bench_cpu();
    wall_start = bench_now();
}

int64_t bench_stop(void) {
    wall_ns = bench_now() - wall_start;
    cpu_ns = bench_cpu() - cpu_start;
    return wall_ns;
}

/* ---- results ---- */

void bench_result(const char *metric, const char *unit, double value, uint64_t checksum, int64_t operations) {
    printf("{\"workload\":\"%s\",\"runtime\":\"%s\",\"metric\":\"%s\",\"value\":%.4f,\"unit\":\"%s\",\"checksum\":%llu,"
           "\"operations\":%lld,\"wall_ns\":%lld,\"cpu_ns\":%lld,\"peak_rss_bytes\":%lld}\n",
           the_workload, the_runtime, metric, value, unit, (unsigned long long)checksum, (long long)operations,
           (long long)wall_ns, (long long)cpu_ns, (long long)bench_peak_rss());
    fflush(stdout);
}

void bench_result_ns(const char *metric, uint64_t checksum, int64_t operations) {
    bench_result(metric, "ns", (double)wall_ns / (double)operations, checksum, operations);
}

/* An object with one member, whatever is in its text. */
static void print_text(const char *name, char *text) {
    for (char *p = text; *p; p++)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ') *p = '\'';
    printf("{\"%s\":\"%s\"}\n", name, text);
    fflush(stdout);
}

void bench_fail(const char *format, ...) {
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    print_text("error", text);
    _exit(1);
}

void bench_unavailable(const char *format, ...) {
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    print_text("unavailable", text);
    _exit(0);
}

int bench_must(int code, const char *what) {
    if (code < 0) bench_fail("%s failed: %d (%s)", what, code, strerror(-code));
    return code;
}

/* ---- memory ---- */

/* A line of /proc/self/status that counts kB, in bytes. */
static int64_t status_bytes(const char *key) {
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    long long kilobytes = 0;
    size_t length = strlen(key);
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, length) == 0 && line[length] == ':') {
            kilobytes = strtoll(line + length + 1, NULL, 10);
            break;
        }
    fclose(f);
    return kilobytes * 1024;
}

int64_t bench_memory(void) {
    return status_bytes("VmRSS") + status_bytes("VmPTE");
}

/* Not getrusage's: that one remembers the process which we were before exec. */
int64_t bench_peak_rss(void) {
    return status_bytes("VmHWM");
}

int64_t bench_map_lines(void) {
    FILE *f = fopen("/proc/self/maps", "re");
    int64_t lines = 0;
    int c;
    if (!f) return 0;
    while ((c = getc(f)) != EOF)
        lines += c == '\n';
    fclose(f);
    return lines;
}

void *bench_alloc(size_t bytes) {
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (p == MAP_FAILED) bench_fail("no memory for %zu bytes", bytes);
    return p;
}

void bench_pin(int i) {
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof all, &all) != 0) bench_fail("sched_getaffinity: %s", strerror(errno));
    i %= CPU_COUNT(&all);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all) || i-- > 0) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (pthread_setaffinity_np(pthread_self(), sizeof one, &one) != 0) bench_fail("cannot bind to CPU %zu", cpu);
        return;
    }
}

/* ---- servers ---- */

static bench_histogram wakes;

void bench_woken(int64_t stamp) {
    if (stamp > 0) bench_histogram_add(&wakes, bench_now() - stamp);
}

void bench_wake_results(void) {
    uint64_t count = bench_histogram_count(&wakes);
    if (count == 0) return;
    bench_result("p50", "us", (double)bench_histogram_at(&wakes, 0.50) / 1e3, count, (int64_t)count);
    bench_result("p99", "us", (double)bench_histogram_at(&wakes, 0.99) / 1e3, count, (int64_t)count);
}

static void *watch_stdin(void *arg) {
    char sink[64];
    (void)arg;
    for (;;) {
        ssize_t n = read(STDIN_FILENO, sink, sizeof sink);
        if (n == 0 || (n < 0 && errno != EINTR)) break;
    }
    wall_ns = bench_now() - wall_start;
    cpu_ns = bench_cpu() - cpu_start;
    bench_wake_results();
    bench_result("server", "s", (double)wall_ns / 1e9, 0, 0);
    _exit(0);
}

void bench_serve(int port) {
    pthread_t watcher;
    bench_start();
    if (pthread_create(&watcher, NULL, watch_stdin, NULL) != 0) bench_fail("no thread to watch stdin");
    pthread_detach(watcher);
    printf("{\"port\":%d}\n", port);
    fflush(stdout);
}

int bench_serve_pipe(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) bench_fail("no pipe: %s", strerror(errno));
    bench_serve(ends[0]);
    return ends[0];
}

int bench_listen(int *port, int flags) {
    struct sockaddr_in a;
    socklen_t length = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &length) != 0)
        bench_fail("cannot listen on the loopback: %s", strerror(errno));
    *port = ntohs(a.sin_port);
    return fd;
}

/* ---- percentiles ---- */

/* Values below 128 have a bucket each; from there on 64 buckets a power of two. */
static unsigned bucket_of(uint64_t v) {
    if (v < 128) return (unsigned)v;
    unsigned shift = 57u - (unsigned)__builtin_clzll(v); /* v >> shift is 64 ... 127 */
    unsigned b = shift * 64u + (unsigned)(v >> shift);
    return b < BENCH_HISTOGRAM_BUCKETS ? b : BENCH_HISTOGRAM_BUCKETS - 1u;
}

static int64_t bucket_value(unsigned b) {
    if (b < 128) return b;
    unsigned shift = b / 64u - 1u;
    return (int64_t)((uint64_t)(64u + b % 64u) << shift) + (int64_t)((UINT64_C(1) << shift) / 2);
}

void bench_histogram_add(bench_histogram *h, int64_t ns) {
    __atomic_fetch_add(&h->bucket[bucket_of(ns < 0 ? 0 : (uint64_t)ns)], 1, __ATOMIC_RELAXED);
}

uint64_t bench_histogram_count(const bench_histogram *h) {
    uint64_t n = 0;
    for (unsigned b = 0; b < BENCH_HISTOGRAM_BUCKETS; b++)
        n += h->bucket[b];
    return n;
}

int64_t bench_histogram_at(const bench_histogram *h, double share) {
    uint64_t count = bench_histogram_count(h), wanted = (uint64_t)(share * (double)count), seen = 0;
    if (wanted >= count) wanted = count - 1;
    for (unsigned b = 0; b < BENCH_HISTOGRAM_BUCKETS && count > 0; b++) {
        seen += h->bucket[b];
        if (seen > wanted) return bucket_value(b);
    }
    return 0;
}

static double micros_at(const bench_histogram *h, double share) {
    return (double)bench_histogram_at(h, share) / 1e3;
}

void bench_fairness_results(const bench_histogram *lateness, uint64_t turns) {
    uint64_t ticks = bench_histogram_count(lateness);
    int64_t operations = (int64_t)ticks;
    bench_result("p50", "us", micros_at(lateness, 0.50), ticks, operations);
    bench_result("p99", "us", micros_at(lateness, 0.99), ticks, operations);
    bench_result("max", "us", micros_at(lateness, 1), ticks, operations);
    bench_result("turns", "/s", (double)turns * 1e9 / (double)wall_ns, ticks, operations);
}
