/* bench-startup: how long a whole process takes, from before it is made until it has been reaped.
 *
 *   bench-startup times program [argument ...]
 *
 * Starts the program so many times, one after the other, and writes the median and the least wall time of it as a
 * result, its mean CPU time, and the most memory that one of them had. Its standard output goes to /dev/null; it must exit
 * with 0. */
#include "../common/bench.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t run_once(char **program, const posix_spawn_file_actions_t *actions) {
    pid_t pid;
    int status = 0;
    int64_t start = bench_now();
    int rc = posix_spawn(&pid, program[0], actions, NULL, program, environ);
    if (rc != 0) bench_fail("cannot start %s: %s", program[0], strerror(rc));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) bench_fail("waitpid: %s", strerror(errno));
    int64_t wall = bench_now() - start;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) bench_fail("%s ended with status %#x", program[0], status);
    return wall;
}

/* CPU time of all that were reaped, and the greatest of them. */
static int64_t children(int64_t *rss_bytes) {
    struct rusage u;
    if (getrusage(RUSAGE_CHILDREN, &u) != 0) bench_fail("getrusage: %s", strerror(errno));
    *rss_bytes = (int64_t)u.ru_maxrss * 1024;
    return (int64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 +
           (int64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

int main(int argc, char **argv) {
    int times = argc > 2 ? atoi(argv[1]) : 0;
    if (times < 1) {
        fprintf(stderr, "usage: %s times program [argument ...]\n", argv[0]);
        return 64;
    }
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0 ||
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) != 0)
        bench_fail("no memory");
    int64_t *walls = bench_alloc((size_t)times * sizeof *walls);
    for (int i = 0; i < 3; i++)
        run_once(argv + 2, &actions); /* warms the page cache */
    int64_t rss_bytes, cpu = children(&rss_bytes);
    bench_start();
    for (int i = 0; i < times; i++)
        walls[i] = run_once(argv + 2, &actions);
    bench_stop();
    cpu = children(&rss_bytes) - cpu;
    qsort(walls, (size_t)times, sizeof *walls, by_value);
    bench_result("wall", "ms", (double)walls[times / 2] / 1e6, (uint64_t)times, times);
    bench_result("least", "ms", (double)walls[0] / 1e6, (uint64_t)times, times);
    bench_result("cpu_time", "ms", (double)cpu / 1e6 / times, (uint64_t)times, times);
    bench_result("peak_rss", "bytes", (double)rss_bytes, (uint64_t)times, times);
    return 0;
}
