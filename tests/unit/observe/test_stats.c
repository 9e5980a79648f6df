/* Figures: they add up, they are monotone, and structs of another age are honoured. */
#include "check_fiber.h"
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int ok(void *arg) {
    (void)arg;
    stel_yield();
    return 0;
}
static int fails(void *arg) {
    (void)arg;
    return -EIO;
}
static int waits(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}
static int naps(void *arg) {
    (void)arg;
    return stel_sleep(STEL_MS(2));
}

static stel_runtime *started(int workers) {
    stel_config c;
    stel_runtime *rt = NULL;
    stel_config_init(&c);
    c.worker_threads = workers;
    FIBER_OK(stel_runtime_create(&rt, &c));
    FIBER_OK(stel_runtime_start(rt));
    return rt;
}

static stel_stats stats(stel_runtime *rt) {
    stel_stats s;
    FIBER_OK(stel_runtime_stats(rt, &s));
    FIBER_ASSERT_EQ(s.size, sizeof s);
    return s;
}

static void spawn_all(stel_runtime *rt, stel_fn *fn, int n) {
    stel_fiber f[100];
    for (int i = 0; i < n; i++)
        FIBER_OK(stel_runtime_spawn(rt, &f[i], NULL, fn, NULL));
    for (int i = 0; i < n; i++)
        FIBER_OK(stel_join(f[i], NULL));
}

START_TEST(they_add_up) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    stel_runtime *rt = started(2);
    stel_fiber parked;
    spawn_all(rt, ok, 100);
    spawn_all(rt, fails, 7);
    spawn_all(rt, naps, 50);
    ck_assert_int_eq(stel_runtime_spawn(rt, &parked, NULL, waits, NULL), 0);
    /* A joiner may be back before the end it waited for is counted, and the last one has yet to run. */
    EVENTUALLY(stats(rt).total_tasks_executed == 157 && stats(rt).stacks_in_use >= 1);
    stel_stats s = stats(rt);
    ck_assert_uint_eq(s.spawned, 158);
    ck_assert_uint_eq(s.total_tasks_executed, 157);
    ck_assert_uint_eq(s.total_tasks_failed, 7);
    ck_assert_uint_eq(s.current_active_tasks, 1);
    ck_assert_uint_ge(s.peak_active_tasks, 1);
    ck_assert_uint_le(s.peak_active_tasks, 158);
    ck_assert_int_eq(s.worker_count, 2);
    ck_assert_str_eq(s.backend_type, getenv("STELLANE_TEST_BACKEND") ? getenv("STELLANE_TEST_BACKEND") : "epoll");
    ck_assert_uint_ge(s.switches, 157);
    ck_assert_uint_ge(s.timers_fired, 1);
    ck_assert_int_gt(s.uptime_ns, STEL_MS(2));
    ck_assert(s.average_task_duration_ms > 0);
    ck_assert(s.start_time / 1000000000 >= t.tv_sec && s.start_time / 1000000000 <= t.tv_sec + 60);
    ck_assert_uint_ge(s.stacks_in_use, 1);
    ck_assert_uint_ge(s.stacks_reserved, s.stacks_in_use);
    ck_assert_uint_gt(s.stack_bytes_reserved, 0);

    uint64_t executed = 0, failed = 0, switches = 0;
    for (int i = 0; i < 2; i++) {
        stel_worker_stats w;
        do /* a worker's thread says its id when it comes to run */
            ck_assert_int_eq(stel_runtime_worker_stats(rt, i, &w), 0);
        while (w.thread_id == 0);
        ck_assert_uint_eq(w.size, sizeof w);
        ck_assert_int_eq(w.worker_id, i);
        ck_assert_int_gt(w.thread_id, 0);
        ck_assert_int_ne(w.thread_id, (int)getpid());
        ck_assert(w.cpu_usage_percent >= 0 && w.cpu_usage_percent <= 101);
        executed += w.tasks_executed;
        failed += w.tasks_failed;
        switches += w.switches;
    }
    ck_assert_uint_eq(executed, 157);
    ck_assert_uint_eq(failed, 7);
    ck_assert_uint_ge(switches, 157);

    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    s = stats(rt); /* of one that has stopped as well */
    ck_assert_uint_eq(s.total_tasks_executed, 158);
    ck_assert_uint_eq(s.total_tasks_failed, 8);
    ck_assert_uint_eq(s.current_active_tasks, 0);
    int64_t uptime = s.uptime_ns;
    ck_assert_int_eq(stats(rt).uptime_ns, uptime);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

START_TEST(before_the_start) {
    stel_runtime *rt = NULL;
    ck_assert_int_eq(stel_runtime_create(&rt, NULL), 0);
    ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, ok, NULL), 0);
    stel_stats s = stats(rt);
    ck_assert_int_eq(s.start_time, 0);
    ck_assert_int_eq(s.uptime_ns, 0);
    ck_assert_uint_eq(s.total_tasks_executed, 0);
    ck_assert_uint_eq(s.current_active_tasks, 1);
    ck_assert_int_ge(s.worker_count, 1);
    stel_worker_stats w;
    ck_assert_int_eq(stel_runtime_worker_stats(rt, 0, &w), 0);
    ck_assert_uint_eq(w.tasks_executed, 0);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

START_TEST(wrong_use) {
    stel_runtime *rt = started(1);
    stel_stats s;
    stel_worker_stats w;
    ck_assert_int_eq(stel_runtime_stats(rt, NULL), -EINVAL);
    ck_assert_int_eq(stel_runtime_stats_sized(rt, &s, 0), -EINVAL);
    ck_assert_int_eq(stel_runtime_worker_stats(rt, -1, &w), -EINVAL);
    ck_assert_int_eq(stel_runtime_worker_stats(rt, 1, &w), -EINVAL);
    ck_assert_int_eq(stel_runtime_worker_stats(rt, 0, NULL), -EINVAL);
    ck_assert_int_eq(stel_runtime_worker_stats_sized(rt, 0, &w, 4), -EINVAL);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

START_TEST(other_sizes) {
    stel_runtime *rt = started(1);
    struct {
        stel_stats s;
        unsigned char newer[32];
    } room;
    memset(&room, 0x55, sizeof room);
    const size_t small = offsetof(stel_stats, backend_type);
    ck_assert_int_eq(stel_runtime_stats_sized(rt, &room.s, small), 0);
    ck_assert_uint_eq(room.s.size, small);
    ck_assert_int_gt(room.s.start_time, 0);
    for (size_t i = small; i < sizeof room; i++)
        ck_assert_int_eq(((unsigned char *)&room)[i], 0x55);
    ck_assert_int_eq(stel_runtime_stats_sized(rt, &room.s, sizeof room), 0);
    ck_assert_uint_eq(room.s.size, sizeof room.s);
    for (size_t i = 0; i < sizeof room.newer; i++)
        ck_assert_int_eq(room.newer[i], 0);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* Read while everything moves: never backwards, never more ended than spawned. */
static atomic_bool over;
static int churn(void *arg) {
    (void)arg;
    while (!atomic_load(&over)) {
        stel_fiber f;
        FIBER_OK(stel_spawn(&f, ok, NULL));
        FIBER_OK(stel_join(f, NULL));
    }
    return 0;
}
START_TEST(monotone) {
    stel_runtime *rt = started(2);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, churn, NULL), 0);
    stel_stats before = stats(rt);
    for (uint64_t i = 0, n = test_scale(20000); i < n; i++) {
        stel_stats now = stats(rt);
        ck_assert_uint_ge(now.spawned, before.spawned);
        ck_assert_uint_ge(now.total_tasks_executed, before.total_tasks_executed);
        ck_assert_uint_ge(now.switches, before.switches);
        ck_assert_uint_ge(now.peak_active_tasks, before.peak_active_tasks);
        ck_assert_int_ge(now.uptime_ns, before.uptime_ns);
        ck_assert_uint_le(now.current_active_tasks, now.spawned);
        before = now;
    }
    atomic_store(&over, true);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* The CPU time of a worker is its own. */
static int burns(void *arg) {
    (void)arg;
    int64_t end = stel_after(STEL_MS(200));
    while (stel_now() < end)
        continue;
    return 0;
}
START_TEST(cpu_usage) {
    stel_config c;
    stel_runtime *rt = NULL;
    stel_config_init(&c);
    c.worker_threads = 2;
    c.stall_ns = -1;
    ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    o.place = STEL_WORKER(1);
    stel_fiber f;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, &o, burns, NULL), 0);
    ck_assert_int_eq(stel_join(f, NULL), 0);
    stel_worker_stats w0, w1;
    ck_assert_int_eq(stel_runtime_worker_stats(rt, 0, &w0), 0);
    ck_assert_int_eq(stel_runtime_worker_stats(rt, 1, &w1), 0);
    ck_assert(w1.cpu_usage_percent > w0.cpu_usage_percent);
    EVENTUALLY(stel_runtime_worker_stats(rt, 1, &w1) == 0 && w1.tasks_executed == 1);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

TEST_MAIN("observe/stats", they_add_up, before_the_start, wrong_use, other_sizes, monotone, cpu_usage)
