/* bench-load wake: wakes a server that sleeps. Every gap_us the time is written into its pipe (port: the number that the
 * pipe's other end has there); how long it took until the one that waited for it ran is the server's to say. Far enough
 * apart that the machine is idle in between: what is measured is a wake-up, not a queue. */
#include "../common/bench.h"
#include "load.h"
#include "server.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void write_times(int fd, int64_t n, int64_t gap_ns, bool count) {
    for (int64_t i = 0, next = bench_now(); i < n; i++) {
        next += gap_ns;
        struct timespec t = { next / 1000000000, next % 1000000000 };
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        int64_t now = bench_now(), stamp = count ? now : -now;
        if (write(fd, &stamp, sizeof stamp) != sizeof stamp) bench_fail("cannot write to the server's pipe");
        if (now - next > gap_ns) next = now; /* we were late: no burst to make up for it */
    }
}

void run_wake(void) {
    char path[64];
    int64_t n = bench_param("ops", 1000), gap_ns = bench_param("gap_us", 1000) * 1000;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", bench_param_int("pid", 0), bench_param_int("port", 0));
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) bench_fail("cannot open the server's pipe: %s", strerror(errno));
    server_open(true);
    write_times(fd, n / 10, gap_ns, false);
    server_costs from = server_read();
    bench_start();
    write_times(fd, n, gap_ns, true);
    bench_stop();
    server_costs to = server_read();
    bench_result("server_cpu", "us", (double)(to.cpu_ns - from.cpu_ns) / 1e3 / (double)n, (uint64_t)n, n);
    server_report_switches(&from, &to, n);
    if (!server_count_calls()) return;
    from = server_read();
    write_times(fd, n / 4, gap_ns, false);
    to = server_read();
    server_report_calls(&from, &to, n / 4);
}
