/* Making, starting, stopping and freeing runtimes: the ordinary course, every code, several at once, and the fork. */
#include "check_fiber.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static stel_config config(int workers) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = workers;
    return c;
}

static stel_runtime *started(int workers) {
    stel_config c = config(workers);
    stel_runtime *rt = NULL;
    FIBER_OK(stel_runtime_create(&rt, &c));
    FIBER_OK(stel_runtime_start(rt));
    return rt;
}

static void finish(stel_runtime *rt) {
    FIBER_OK(stel_runtime_stop(rt, 0));
    FIBER_OK(stel_runtime_destroy(rt));
}

static int answer(void *arg) {
    return (int)(intptr_t)arg;
}

static int until_cancelled(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}

START_TEST(ordinary_course) {
    stel_config c = config(2);
    stel_runtime *rt = NULL;
    ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
    ck_assert(!stel_runtime_is_running(rt));
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    ck_assert(stel_runtime_is_running(rt));
    stel_fiber f = 0;
    int result = 0;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, answer, (void *)42), 0);
    ck_assert_uint_ne(f, 0);
    ck_assert_int_eq(stel_join(f, &result), 0);
    ck_assert_int_eq(result, 42);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_SEC(1)), 0);
    ck_assert(!stel_runtime_is_running(rt));
    ck_assert_uint_eq(stel_runtime_pending(rt), 0);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0); /* it is stopped: so what */
    ck_assert_int_eq(stel_runtime_wait(rt), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

START_TEST(wrong_order) {
    stel_runtime *rt = NULL;
    stel_config c = config(1);
    ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
    ck_assert_int_eq(stel_runtime_wait(rt), -EINVAL);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), -EINVAL);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    ck_assert_int_eq(stel_runtime_start(rt), -EINVAL);
    ck_assert_int_eq(stel_runtime_destroy(rt), -EBUSY);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(stel_runtime_start(rt), -EINVAL);
    stel_fiber f;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, answer, NULL), -ESHUTDOWN);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

START_TEST(nothing_given) {
    stel_stats s;
    stel_worker_stats ws;
    stel_config c = config(1), out;
    stel_fiber f;
    ck_assert_int_eq(stel_runtime_create(NULL, &c), -EINVAL);
    ck_assert_int_eq(stel_runtime_start(NULL), -EINVAL);
    ck_assert_int_eq(stel_runtime_wait(NULL), -EINVAL);
    ck_assert_int_eq(stel_runtime_stop(NULL, 0), -EINVAL);
    ck_assert_int_eq(stel_runtime_destroy(NULL), -EINVAL);
    ck_assert_int_eq(stel_runtime_spawn(NULL, &f, NULL, answer, NULL), -EINVAL);
    ck_assert_int_eq(stel_runtime_get_config(NULL, &out), -EINVAL);
    ck_assert_int_eq(stel_runtime_stats(NULL, &s), -EINVAL);
    ck_assert_int_eq(stel_runtime_worker_stats(NULL, 0, &ws), -EINVAL);
    ck_assert(!stel_runtime_is_running(NULL));
    ck_assert_uint_eq(stel_runtime_pending(NULL), 0);
    ck_assert_ptr_null(stel_runtime_current());
    ck_assert(!stel_stopping());
    ck_assert_int_eq(stel_shutdown(0), -EPERM);
    ck_assert_int_eq(stel_run(NULL, NULL), -EINVAL);
}
END_TEST

START_TEST(bad_settings) {
    stel_runtime *rt = NULL;
    stel_config c = config(1);
    strcpy(c.backend, "iouring");
    ck_assert_int_eq(stel_runtime_create(&rt, &c), -EINVAL);
    c = config(1025);
    ck_assert_int_eq(stel_runtime_create(&rt, &c), -EINVAL);
    c = config(1);
    c.stack_bytes = (size_t)1 << 30;
    ck_assert_int_eq(stel_runtime_create(&rt, &c), -EINVAL);
    c = config(1);
    c.size = 0;
    ck_assert_int_eq(stel_runtime_create(&rt, &c), -EINVAL);
    ck_assert_ptr_null(rt);
    ck_assert_int_eq(stel_runtime_create(&rt, NULL), 0); /* all defaults */
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

START_TEST(settings_in_force) {
    stel_runtime *rt = NULL;
    stel_config c;
    ck_assert_int_eq(stel_runtime_create(&rt, NULL), 0);
    ck_assert_int_eq(stel_runtime_get_config(rt, &c), 0);
    ck_assert_uint_eq(c.size, sizeof c);
    ck_assert_int_ge(c.worker_threads, 1);
    ck_assert_int_le(c.worker_threads, (int)sysconf(_SC_NPROCESSORS_ONLN));
    ck_assert_int_eq(c.auto_shutdown, -1);
    ck_assert_uint_ne(c.seed, 0);
    ck_assert_uint_gt(c.stack_bytes, 128 << 10);
    ck_assert_uint_lt(c.stack_bytes, 256 << 10);
    ck_assert_uint_eq(c.max_fibers, 16777216);
    ck_assert_int_eq(stel_runtime_get_config(rt, NULL), -EINVAL);
    ck_assert_int_eq(stel_runtime_get_config_sized(rt, &c, 3), -EINVAL);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);

    c = config(3);
    c.auto_shutdown = 1;
    c.seed = 77;
    c.io_budget = 5;
    ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
    memset(&c, 0, sizeof c);
    ck_assert_int_eq(stel_runtime_get_config(rt, &c), 0);
    ck_assert_int_eq(c.worker_threads, 3);
    ck_assert_int_eq(c.auto_shutdown, 1);
    ck_assert_uint_eq(c.seed, 77);
    ck_assert_int_eq(c.io_budget, 5);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* Spawns made before the start wait for it; destroy is refused while they do. */
START_TEST(spawn_before_start) {
    stel_runtime *rt = NULL;
    stel_config c = config(2);
    stel_fiber f[10];
    ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
    for (intptr_t i = 0; i < 10; i++)
        ck_assert_int_eq(stel_runtime_spawn(rt, &f[i], NULL, answer, (void *)i), 0);
    ck_assert_uint_eq(stel_runtime_pending(rt), 10);
    ck_assert_int_eq(stel_runtime_destroy(rt), -EBUSY);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    for (int i = 0; i < 10; i++) {
        int result = -1;
        ck_assert_int_eq(stel_join(f[i], &result), 0);
        ck_assert_int_eq(result, i);
    }
    finish(rt);
}
END_TEST

START_TEST(handles_are_stale_afterwards) {
    stel_runtime *rt = started(1);
    stel_fiber ended, joined;
    ck_assert_int_eq(stel_runtime_spawn(rt, &ended, NULL, answer, NULL), 0);
    ck_assert_int_eq(stel_runtime_spawn(rt, &joined, NULL, answer, NULL), 0);
    ck_assert_int_eq(stel_join(joined, NULL), 0);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0);
    int result = 1;
    ck_assert_int_eq(stel_try_join(joined, &result), -ESRCH);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    ck_assert_int_eq(stel_try_join(ended, &result), -ESRCH);
    ck_assert_int_eq(stel_cancel(ended), -ESRCH);
}
END_TEST

START_TEST(again_and_again) {
    finish(started(2)); /* what is made once a process is made now */
    int fds = test_open_descriptors();
    for (uint64_t i = 0, n = test_scale(200); i < n; i++) {
        stel_runtime *rt = started(1 + (int)(i % 3));
        if (i % 2) {
            stel_fiber f;
            ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, answer, NULL), 0);
            ck_assert_int_eq(stel_join(f, NULL), 0);
        }
        finish(rt);
    }
    ck_assert_int_eq(test_open_descriptors(), fds);
    EVENTUALLY(test_library_threads() == 0);
}
END_TEST

/* ---- from inside ---- */

static int from_inside(void *arg) {
    stel_runtime *rt = arg;
    FIBER_ASSERT(stel_runtime_current() == rt);
    FIBER_ASSERT_EQ(stel_runtime_wait(rt), -EDEADLK);
    FIBER_ASSERT_EQ(stel_runtime_stop(rt, 0), -EDEADLK);
    FIBER_ASSERT_EQ(stel_runtime_destroy(rt), -EBUSY);
    FIBER_ASSERT_EQ(stel_run(answer, NULL), -EDEADLK);
    FIBER_ASSERT(stel_runtime_is_running(rt));
    FIBER_ASSERT_EQ(stel_runtime_pending(rt), 1);
    FIBER_ASSERT(!stel_stopping());
    return 0;
}

START_TEST(inside) {
    stel_runtime *rt = started(2);
    stel_fiber f;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, from_inside, rt), 0);
    ck_assert_int_eq(stel_join(f, NULL), 0);
    finish(rt);
}
END_TEST

/* ---- several ---- */

static int current_is(void *arg) {
    return stel_runtime_current() == arg;
}

static int spawn_current_is(void *arg) {
    stel_fiber f;
    int result = -1;
    FIBER_OK(stel_spawn(&f, current_is, arg));
    FIBER_OK(stel_join(f, &result));
    return result;
}

static void expect_default(stel_runtime *rt) {
    stel_fiber f;
    int result = -1;
    FIBER_OK(stel_spawn(&f, current_is, rt));
    FIBER_OK(stel_join(f, &result));
    FIBER_ASSERT_EQ(result, 1);
}

/* A plain thread's stel_spawn goes to the oldest runtime that runs; a fiber's to its own. */
START_TEST(several) {
    stel_fiber f;
    ck_assert_int_eq(stel_spawn(&f, answer, NULL), -EPERM);
    stel_config c = config(1);
    stel_runtime *a = NULL, *b = started(2), *d = started(1);
    ck_assert_int_eq(stel_runtime_create(&a, &c), 0); /* the youngest to start, though */
    expect_default(b);
    ck_assert_int_eq(stel_runtime_start(a), 0);
    expect_default(b);
    stel_runtime *all[] = { a, b, d };
    for (int i = 0; i < 3; i++) {
        int result = -1;
        ck_assert_int_eq(stel_runtime_spawn(all[i], &f, NULL, spawn_current_is, all[i]), 0);
        ck_assert_int_eq(stel_join(f, &result), 0);
        ck_assert_int_eq(result, 1);
    }
    finish(b);
    expect_default(d);
    finish(d);
    expect_default(a);
    finish(a);
    ck_assert_int_eq(stel_spawn(&f, answer, NULL), -EPERM);
    ck_assert_int_eq(stel_go(answer, NULL), -EPERM);
}
END_TEST

/* A fiber of one runtime makes, uses, stops and destroys another. */
static int nested(void *arg) {
    (void)arg;
    for (int i = 0; i < 10; i++) {
        stel_runtime *rt = started(1);
        stel_fiber f;
        int result = -1;
        FIBER_OK(stel_runtime_spawn(rt, &f, NULL, current_is, rt));
        FIBER_OK(stel_join(f, &result));
        FIBER_ASSERT_EQ(result, 1);
        finish(rt);
    }
    return 9;
}

START_TEST(one_from_another) {
    ck_assert_int_eq(run_in_runtime(1, nested, NULL), 9);
}
END_TEST

/* Threads spawn into whatever runs while runtimes come and go under their hands. */
static atomic_bool over;
static atomic_ulong spawned, ran;
static int tick(void *arg) {
    (void)arg;
    atomic_fetch_add(&ran, 1);
    return 0;
}
static void *spawner(void *arg) {
    (void)arg;
    while (!atomic_load(&over)) {
        int rc = stel_go(tick, NULL);
        FIBER_ASSERT(rc == 0 || rc == -EPERM || rc == -ESHUTDOWN);
        if (rc == 0)
            atomic_fetch_add(&spawned, 1);
        else
            sched_yield();
    }
    return NULL;
}

START_TEST(spawns_and_destruction) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, spawner, NULL), 0);
    for (uint64_t i = 0, n = test_scale(100); i < n; i++) {
        stel_runtime *rt = started(2);
        unsigned long before = atomic_load(&spawned);
        EVENTUALLY(atomic_load(&spawned) > before + 10);
        ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0);
        ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    }
    atomic_store(&over, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(atomic_load(&spawned), atomic_load(&ran));
}
END_TEST

/* ---- waiting ---- */

static int wait_for(void *arg) {
    return stel_runtime_wait(arg);
}
static void *thread_waits(void *arg) {
    return (void *)(intptr_t)stel_runtime_wait(arg);
}

START_TEST(everybody_waits) {
    stel_runtime *rt = started(1), *other = started(1);
    pthread_t threads[4];
    stel_fiber fibers[4], sleeper;
    ck_assert_int_eq(stel_runtime_spawn(rt, &sleeper, NULL, until_cancelled, NULL), 0);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, thread_waits, rt), 0);
        ck_assert_int_eq(stel_runtime_spawn(other, &fibers[i], NULL, wait_for, rt), 0);
    }
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_MS(1)), 0);
    for (int i = 0; i < 4; i++) {
        void *thread_rc;
        int result = -1;
        pthread_join(threads[i], &thread_rc);
        ck_assert_int_eq((int)(intptr_t)thread_rc, 0);
        ck_assert_int_eq(stel_join(fibers[i], &result), 0);
        ck_assert_int_eq(result, 0);
    }
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    finish(other);
}
END_TEST

static int wait_limited(void *arg) {
    STEL_TIMEOUT(STEL_MS(5));
    FIBER_ASSERT_EQ(stel_runtime_wait(arg), -ETIMEDOUT);
    FIBER_ASSERT(stel_timed_out());
    FIBER_ASSERT_EQ(stel_runtime_stop(arg, 0), -ETIMEDOUT); /* cut short before it began: nothing is stopped */
    FIBER_ASSERT(stel_runtime_is_running(arg));
    return 0;
}

START_TEST(waits_obey_limits) {
    stel_runtime *rt = started(1), *other = started(1);
    stel_fiber f;
    int result = -1;
    wait_limited(rt); /* a plain thread */
    ck_assert_int_eq(stel_runtime_spawn(other, &f, NULL, wait_limited, rt), 0);
    ck_assert_int_eq(stel_join(f, &result), 0);
    ck_assert_int_eq(stel_runtime_spawn(other, &f, NULL, wait_for, rt), 0);
    ck_assert_int_eq(stel_cancel(f), 0);
    ck_assert_int_eq(stel_join(f, &result), 0);
    ck_assert_int_eq(result, -ECANCELED);
    finish(rt);
    finish(other);
}
END_TEST

/* A stop whose caller gave up goes on without it. */
static atomic_bool enough;
static int until_enough(void *arg) {
    (void)arg;
    while (!atomic_load(&enough))
        FIBER_OK(stel_sleep(STEL_MS(1)));
    return 0;
}
static int stop_for(void *arg) {
    return stel_runtime_stop(arg, STEL_FOREVER);
}
START_TEST(stop_without_its_caller) {
    stel_runtime *rt = started(1), *other = started(1);
    stel_fiber stopper;
    int result = 0;
    ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, until_enough, NULL), 0);
    ck_assert_int_eq(stel_runtime_spawn(other, &stopper, NULL, stop_for, rt), 0);
    EVENTUALLY(stel_runtime_spawn(rt, NULL, NULL, answer, NULL) == -ESHUTDOWN); /* it has begun */
    ck_assert_int_eq(stel_cancel(stopper), 0);
    ck_assert_int_eq(stel_join(stopper, &result), 0);
    ck_assert_int_eq(result, -ECANCELED);
    ck_assert(stel_runtime_is_running(rt));
    atomic_store(&enough, true);
    EVENTUALLY(!stel_runtime_is_running(rt));
    ck_assert_int_eq(stel_runtime_wait(rt), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    finish(other);
}
END_TEST

/* ---- fork ---- */

START_TEST(forked_child) {
    stel_runtime *rt = started(1);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        stel_fiber f;
        stel_runtime *mine;
        FIBER_ASSERT_EQ(stel_run(answer, NULL), -EPERM);
        FIBER_ASSERT_EQ(stel_runtime_create(&mine, NULL), -EPERM);
        FIBER_ASSERT_EQ(stel_runtime_start(rt), -EPERM);
        FIBER_ASSERT_EQ(stel_runtime_wait(rt), -EPERM);
        FIBER_ASSERT_EQ(stel_runtime_stop(rt, 0), -EPERM);
        FIBER_ASSERT_EQ(stel_runtime_destroy(rt), -EPERM);
        FIBER_ASSERT_EQ(stel_runtime_spawn(rt, &f, NULL, answer, NULL), -EPERM);
        FIBER_ASSERT_EQ(stel_spawn(&f, answer, NULL), -EPERM);
        FIBER_ASSERT_EQ(stel_shutdown(0), -EPERM);
        _exit(7);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 7);
    finish(rt);
}
END_TEST

TEST_MAIN("runtime/lifecycle", ordinary_course, wrong_order, nothing_given, bad_settings, settings_in_force,
          spawn_before_start, handles_are_stale_afterwards, again_and_again, inside, several, one_from_another,
          spawns_and_destruction, everybody_waits, waits_obey_limits, stop_without_its_caller, forked_child)
