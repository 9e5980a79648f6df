#include "server.h"
#include "../common/bench.h"
#include <dirent.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64 };

static int the_pid;
static bool want_details;
static clockid_t cpu_clock;
static int counters[THREADS_MAX], counter_count;

void server_open(bool details) {
    the_pid = bench_param_int("pid", 0);
    want_details = details;
    if (clock_getcpuclockid(the_pid, &cpu_clock) != 0) bench_fail("no process %d", the_pid);
}

/* The sum of the lines that begin with one of two keys, of a file in /proc. */
static int64_t sum_of_lines(const char *path, const char *one, const char *other) {
    FILE *f = fopen(path, "re");
    char line[256];
    long long sum = 0;
    if (!f) return 0; /* the thread, or the process, has ended */
    while (fgets(line, sizeof line, f)) {
        const char *key = strncmp(line, one, strlen(one)) == 0       ? one
                          : strncmp(line, other, strlen(other)) == 0 ? other
                                                                     : NULL;
        if (key) sum += strtoll(line + strlen(key), NULL, 10);
    }
    fclose(f);
    return sum;
}

/* Call fn with the id of each of its threads. */
static void each_thread(void (*fn)(int tid, int64_t *sum), int64_t *sum) {
    char path[64];
    struct dirent *entry;
    snprintf(path, sizeof path, "/proc/%d/task", the_pid);
    DIR *threads = opendir(path);
    if (!threads) bench_fail("the server is gone");
    while ((entry = readdir(threads)) != NULL)
        if (entry->d_name[0] != '.') fn(atoi(entry->d_name), sum);
    closedir(threads);
}

static void add_switches(int tid, int64_t *sum) {
    char path[96];
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", the_pid, tid);
    *sum += sum_of_lines(path, "voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:");
}

static int64_t calls_so_far(void) {
    int64_t sum = 0;
    for (int i = 0; i < counter_count; i++) {
        uint64_t n;
        if (read(counters[i], &n, sizeof n) == sizeof n) sum += (int64_t)n;
    }
    return sum;
}

server_costs server_read(void) {
    server_costs c = { 0, 0, calls_so_far() };
    struct timespec t;
    if (want_details) each_thread(add_switches, &c.switches);
    if (clock_gettime(cpu_clock, &t) != 0) bench_fail("the server is gone (its CPU clock cannot be read)");
    c.cpu_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    return c;
}

/* ---- system calls ---- */

static int trace_point(void) {
    static const char *const places[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char path[96];
        int id = 0;
        snprintf(path, sizeof path, "%s/events/raw_syscalls/sys_enter/id", places[i]);
        FILE *f = fopen(path, "re");
        if (!f) continue;
        int found = fscanf(f, "%d", &id);
        fclose(f);
        if (found == 1) return id;
    }
    return -1;
}

static void count_thread(int tid, int64_t *id) {
    struct perf_event_attr a;
    memset(&a, 0, sizeof a);
    a.type = PERF_TYPE_TRACEPOINT;
    a.size = sizeof a;
    a.config = (uint64_t)*id;
    a.inherit = 1; /* threads that it may start later */
    if (counter_count == THREADS_MAX) return;
    int fd = (int)syscall(SYS_perf_event_open, &a, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd >= 0)
        counters[counter_count++] = fd;
    else if (errno != ESRCH)
        *id = -errno; /* the next one fails alike */
}

bool server_count_calls(void) {
    int64_t id = trace_point();
    if (id < 0) {
        printf("{\"uncounted\":\"no tracefs that we may read\"}\n");
        return false;
    }
    each_thread(count_thread, &id);
    if (id < 0) printf("{\"uncounted\":\"perf_event_open: %s\"}\n", strerror((int)-id));
    return id >= 0 && counter_count > 0;
}

/* ---- results ---- */

void server_report_switches(const server_costs *from, const server_costs *to, int64_t operations) {
    if (!want_details) return;
    double n = (double)(to->switches - from->switches);
    bench_result("switches", "", n / (double)operations, 0, operations);
}

void server_report_calls(const server_costs *from, const server_costs *to, int64_t operations) {
    bench_result("calls", "", (double)(to->calls - from->calls) / (double)operations, 0, operations);
}

int64_t server_memory(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", the_pid);
    return 1024 * sum_of_lines(path, "VmRSS:", "VmPTE:");
}
