/* stats: what the runtime counts, and how to read it while it works.
 *
 * The idea: figures cost nothing to keep and may be read at any time, from a fiber or from any thread; nobody is
 * stopped for it. Here main, a plain thread, watches a runtime that is busy.
 *
 *     cc stats.c $(pkg-config --cflags --libs stellane-fiber) -o stats && ./stats
 *
 * It prints the figures twice, in the middle of the work and when it is done:
 *
 *     at work: backend epoll, up 11 ms
 *       fibers: 1000 spawned, 1000 alive, 0 ended, of these 0 failed
 *       stacks: 1000 in use, 1024 reserved
 *       worker 0: 0 ended here, 62208 switches, 0 steals, 28 % of a CPU
 *       ... */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>

enum { TASKS = 1000, ROUNDS = 100 };

static int work(void *arg) {
    intptr_t number = (intptr_t)arg;
    for (int i = 0; i < ROUNDS; i++)
        stel_yield();
    int rc = stel_sleep(STEL_MS(20));
    if (rc < 0) return rc;
    return number % 100 == 99 ? -EINVAL : 0; /* one in a hundred fails: a negative result is a failed fiber */
}

static void die(const char *what, int rc) {
    if (rc >= 0) return;
    fprintf(stderr, "stats: %s: %s\n", what, stel_strerror(rc));
    exit(EXIT_FAILURE);
}

static void print(stel_runtime *runtime, const char *when) {
    stel_stats s;
    die("runtime stats", stel_runtime_stats(runtime, &s));
    printf("%s: backend %s, up %.0f ms\n", when, s.backend_type, (double)s.uptime_ns / 1e6);
    printf("  fibers: %" PRIu64 " spawned, %" PRIu64 " alive, %" PRIu64 " ended, of these %" PRIu64 " failed\n",
           s.spawned, s.current_active_tasks, s.total_tasks_executed, s.total_tasks_failed);
    printf("  stacks: %" PRIu64 " in use, %" PRIu64 " reserved\n", s.stacks_in_use, s.stacks_reserved);
    for (int i = 0; i < s.worker_count; i++) {
        stel_worker_stats w;
        die("worker stats", stel_runtime_worker_stats(runtime, i, &w));
        printf("  worker %d: %" PRIu64 " ended here, %" PRIu64 " switches, %" PRIu64 " steals, %.0f %% of a CPU\n",
               w.worker_id, w.tasks_executed, w.switches, w.steals, w.cpu_usage_percent);
    }
}

int main(void) {
    stel_config config;
    stel_config_init(&config);
    config.worker_threads = 2;
    stel_runtime *runtime;
    die("create", stel_runtime_create(&runtime, &config));
    die("start", stel_runtime_start(runtime));

    stel_fiber fibers[TASKS];
    for (intptr_t i = 0; i < TASKS; i++)
        die("spawn", stel_runtime_spawn(runtime, &fibers[i], NULL, work, (void *)i));
    die("sleep", stel_sleep(STEL_MS(10))); /* a plain thread waits as one: in the kernel */
    print(runtime, "at work");
    for (int i = 0; i < TASKS; i++)
        die("join", stel_join(fibers[i], NULL)); /* threads may join fibers */
    print(runtime, "afterwards");

    die("stop", stel_runtime_stop(runtime, STEL_SEC(1)));
    die("destroy", stel_runtime_destroy(runtime));
    return 0;
}
