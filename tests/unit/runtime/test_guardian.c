/* The guardian thread: it rests when the runtime rests, comes back when it is needed, and mends what was closed behind
 * the library's back even while everybody is asleep. */
#include "check_fiber.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static stel_runtime *started(int workers) {
    stel_config c;
    stel_runtime *rt = NULL;
    stel_config_init(&c);
    c.worker_threads = workers;
    c.stall_ns = -1;
    FIBER_OK(stel_runtime_create(&rt, &c));
    FIBER_OK(stel_runtime_start(rt));
    return rt;
}

static void finish(stel_runtime *rt) {
    FIBER_OK(stel_runtime_stop(rt, 0));
    FIBER_OK(stel_runtime_destroy(rt));
}

/* After this long a resting runtime has nothing left to do: it has scavenged twice, a second apart. */
#define CHORES_NS STEL_MS(3500)

static void nap(int64_t ns) {
    struct timespec t = { ns / 1000000000, ns % 1000000000 };
    nanosleep(&t, NULL);
}

/* How often the process's threads of this name have gone to sleep so far; -1: there is none. */
static long sleeps_of(const char *wanted) {
    DIR *tasks = opendir("/proc/self/task");
    FIBER_ASSERT(tasks != NULL);
    long sum = -1;
    for (const struct dirent *e; (e = readdir(tasks));) {
        char path[300], line[256], name[64] = "";
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
        FILE *f = fopen(path, "r");
        long n = 0;
        while (f && fgets(line, sizeof line, f)) {
            sscanf(line, "Name: %63s", name);
            sscanf(line, "voluntary_ctxt_switches: %ld", &n);
        }
        if (f) fclose(f);
        if (!strcmp(name, wanted)) sum = (sum < 0 ? 0 : sum) + n;
    }
    closedir(tasks);
    return sum;
}

static int nothing(void *arg) {
    (void)arg;
    return 0;
}
static int until_cancelled(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}

/* Asleep: hardly any wake-ups in half a second, where ticks would be 500. What is left: scavenging after work. */
static bool rests(void) {
    long before = sleeps_of("stel-guardian");
    FIBER_ASSERT(before >= 0);
    nap(STEL_MS(500));
    return sleeps_of("stel-guardian") - before <= 10;
}

START_TEST(rests_with_the_runtime) {
    stel_runtime *rt = started(2);
    EVENTUALLY(rests());
    stel_fiber f; /* a fiber that sleeps for ever changes nothing */
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, until_cancelled, NULL), 0);
    EVENTUALLY(rests());
    for (int i = 0; i < 20; i++) { /* it can be woken from its rest, and goes back to it */
        ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, nothing, NULL), 0);
        ck_assert_int_eq(stel_join(f, NULL), 0);
        nap(STEL_MS(1 + i % 5 * 10));
    }
    EVENTUALLY(rests());
    finish(rt);
}
END_TEST

/* A worker that is held by a fiber: the timers on its wheel are seen by the guardian, which had been asleep. */
static atomic_bool fired;
static int timer_of_the_stuck(void *arg) {
    (void)arg;
    FIBER_OK(stel_sleep(STEL_MS(20)));
    atomic_store(&fired, true);
    return 0;
}
static int holds_its_worker(void *arg) {
    (void)arg;
    FIBER_OK(stel_go(timer_of_the_stuck, NULL));
    stel_yield(); /* it runs here and goes to sleep on this worker's wheel, unless it was stolen */
    int64_t give_up = stel_after(STEL_SEC(50));
    while (!atomic_load(&fired) && stel_now() < give_up)
        continue;
    return atomic_load(&fired);
}
START_TEST(stuck_worker) {
    stel_runtime *rt = started(2);
    for (int i = 0; i < 3; i++) {
        nap(STEL_MS(150)); /* the guardian has gone to sleep by now, or not: both must do */
        stel_fiber f;
        int result = -1;
        atomic_store(&fired, false);
        ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, holds_its_worker, NULL), 0);
        ck_assert_int_eq(stel_join(f, &result), 0);
        ck_assert_int_eq(result, 1);
    }
    finish(rt);
}
END_TEST

/* A descriptor that is replaced under a parked fiber while all workers sleep. */
static int waits_for(void *arg) {
    return stel_wait_fd(*(int *)arg, POLLIN);
}
START_TEST(heals_in_its_sleep) {
    stel_runtime *rt = started(2);
    int a[2], b[2];
    ck_assert_int_eq(pipe(a), 0);
    ck_assert_int_eq(pipe(b), 0);
    stel_fiber f;
    int result = -1;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, waits_for, &a[0]), 0);
    nap(STEL_MS(400));
    ck_assert_int_eq(dup2(b[0], a[0]), a[0]); /* nobody tells the library */
    ck_assert_int_eq((int)write(b[1], "x", 1), 1);
    ck_assert_int_eq(stel_join(f, &result), 0);
    ck_assert(result > 0 && (result & POLLIN));
    finish(rt);
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
}
END_TEST

/* The same when all chores are done and only healing could wake the guardian. */
START_TEST(heals_in_its_deep_sleep) {
    stel_runtime *rt = started(1);
    int a[2], b[2];
    ck_assert_int_eq(pipe(a), 0);
    ck_assert_int_eq(pipe(b), 0);
    stel_fiber f;
    int result = -1;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, waits_for, &a[0]), 0);
    nap(CHORES_NS);
    ck_assert_int_eq(dup2(b[0], a[0]), a[0]);
    ck_assert_int_eq((int)write(b[1], "x", 1), 1);
    ck_assert_int_eq(stel_join(f, &result), 0);
    ck_assert(result > 0 && (result & POLLIN));
    finish(rt);
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
}
END_TEST

/* Nothing but the wish itself can wake it for a stop. */
START_TEST(stop_of_a_deep_sleeper) {
    stel_runtime *rt = started(2);
    nap(CHORES_NS);
    finish(rt);
}
END_TEST

/* Two runtimes that rest and wake each other up: each wake has to reach a guardian that may be asleep. */
static int echo_over(void *arg) {
    stel_chan **c = arg;
    int n = 0, rc;
    while ((rc = stel_chan_recv(c[0], &n)) == 0) {
        if (n % 50 == 0) nap(STEL_MS(3)); /* hold the worker for a while */
        if ((rc = stel_chan_send(c[1], &n)) < 0) break;
    }
    return rc;
}
START_TEST(two_runtimes) {
    stel_runtime *a = started(1), *b = started(2);
    stel_chan *c[3];
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(stel_chan_create(&c[i], sizeof(int), 1), 0);
    stel_fiber f[2];
    ck_assert_int_eq(stel_runtime_spawn(a, &f[0], NULL, echo_over, &c[0]), 0);
    ck_assert_int_eq(stel_runtime_spawn(b, &f[1], NULL, echo_over, &c[1]), 0);
    for (int i = 1, n = (int)test_scale(2000), got; i <= n; i++) {
        if (i % 400 == 0) nap(STEL_MS(60)); /* time enough to fall asleep for good */
        ck_assert_int_eq(stel_chan_send(c[0], &i), 0);
        ck_assert_int_eq(stel_chan_recv(c[2], &got), 0);
        ck_assert_int_eq(got, i);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(stel_chan_close(c[i]), 0);
    for (int i = 0; i < 2; i++) {
        int result = 0;
        ck_assert_int_eq(stel_join(f[i], &result), 0);
        ck_assert_int_eq(result, -EPIPE);
    }
    finish(a);
    finish(b);
    for (int i = 0; i < 3; i++)
        stel_chan_destroy(c[i]);
}
END_TEST

TEST_MAIN("runtime/guardian", rests_with_the_runtime, stuck_worker, heals_in_its_sleep, heals_in_its_deep_sleep,
          stop_of_a_deep_sleeper, two_runtimes)
