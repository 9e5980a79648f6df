/* stel_run: one call for a whole program. */
#include "check_fiber.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>

static atomic_int count;

static int give(void *arg) {
    return (int)(intptr_t)arg;
}
static int leave(void *arg) {
    stel_exit((int)(intptr_t)arg);
}

START_TEST(result) {
    ck_assert_int_eq(stel_run(give, (void *)5), 5);
    ck_assert_int_eq(stel_run(give, (void *)-5), -5);
    ck_assert_int_eq(stel_run(leave, (void *)6), 6);
    ck_assert_int_eq(stel_run(give, NULL), 0);
}
END_TEST

static int late(void *arg) {
    (void)arg;
    FIBER_OK(stel_sleep(STEL_MS(5)));
    atomic_fetch_add(&count, 1);
    return -1; /* nobody's result but its own */
}
static int leaves_children(void *arg) {
    (void)arg;
    for (int i = 0; i < 10; i++)
        FIBER_OK(stel_go(late, NULL));
    return 8;
}

START_TEST(waits_for_all) {
    ck_assert_int_eq(stel_run(leaves_children, NULL), 8);
    ck_assert_int_eq(atomic_load(&count), 10);
}
END_TEST

/* The result is fn's also when the first fiber gives its handle away, and another one has joined it. */
static int joins(void *arg) {
    return stel_join((stel_fiber)(uintptr_t)arg, NULL);
}
static int is_joined(void *arg) {
    (void)arg;
    FIBER_OK(stel_go(joins, (void *)(uintptr_t)stel_self()));
    FIBER_OK(stel_sleep(STEL_MS(1)));
    return 11;
}
static int is_detached(void *arg) {
    (void)arg;
    FIBER_OK(stel_detach(stel_self()));
    return 12;
}
START_TEST(result_of_one_that_is_taken) {
    ck_assert_int_eq(stel_run(is_joined, NULL), 11);
    ck_assert_int_eq(stel_run(is_detached, NULL), 12);
}
END_TEST

static int sleeps(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}
static int ends_all(void *arg) {
    (void)arg;
    FIBER_OK(stel_go(sleeps, NULL));
    FIBER_OK(stel_shutdown(0));
    int rc = stel_sleep(STEL_FOREVER);
    FIBER_ASSERT_EQ(rc, -ECANCELED);
    return 13;
}
START_TEST(shut_down) {
    ck_assert_int_eq(stel_run(ends_all, NULL), 13);
}
END_TEST

static int nested(void *arg) {
    (void)arg;
    return stel_run(give, NULL);
}
START_TEST(not_from_a_fiber) {
    ck_assert_int_eq(stel_run(nested, NULL), -EDEADLK);
}
END_TEST

static int workers(void *arg) {
    (void)arg;
    stel_config c;
    FIBER_OK(stel_runtime_get_config(stel_runtime_current(), &c));
    return c.worker_threads;
}
START_TEST(environment_counts) {
    setenv("STELLANE_RUNTIME_WORKERS", "3", 1);
    ck_assert_int_eq(stel_run(workers, NULL), 3);
    setenv("STELLANE_RUNTIME_WORKERS", "0", 1);
    ck_assert_int_eq(stel_run(workers, NULL), -EINVAL);
    setenv("STELLANE_RUNTIME_WORKERS", "1", 1);
    setenv("STELLANE_RUNTIME_BACKEND", "nonsense", 1);
    ck_assert_int_eq(stel_run(workers, NULL), -EINVAL);
}
END_TEST

/* Without auto-shutdown it is stel_shutdown that ends it. */
static int last_word(void *arg) {
    (void)arg;
    FIBER_OK(stel_sleep(STEL_MS(20)));
    atomic_fetch_add(&count, 1);
    return stel_shutdown(0);
}
static int goes_first(void *arg) {
    (void)arg;
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    o.flags = STEL_BACKGROUND;
    FIBER_OK(stel_spawn_with(NULL, &o, last_word, NULL));
    return 14;
}
START_TEST(auto_shutdown_by_environment) {
    setenv("STELLANE_RUNTIME_AUTO_SHUTDOWN", "false", 1);
    ck_assert_int_eq(stel_run(goes_first, NULL), 14);
    ck_assert_int_eq(atomic_load(&count), 1);
}
END_TEST

static int deaf(void *arg) {
    (void)arg;
    STEL_SHIELD(STEL_SEC(1000));
    FIBER_OK(stel_shutdown(0));
    FIBER_OK(stel_sleep(STEL_SEC(900)));
    return 0;
}
START_TEST(one_that_will_not_end) {
    setenv("STELLANE_RUNTIME_STOP_TIMEOUT", "20ms", 1);
    ck_assert_int_eq(stel_run(deaf, NULL), -EBUSY);
    ck_assert_int_eq(stel_run(give, (void *)3), 3); /* the next one does not mind */
}
END_TEST

static void *runs(void *arg) {
    for (int i = 0; i < 20; i++)
        FIBER_ASSERT_EQ(stel_run(give, arg), (intptr_t)arg);
    return NULL;
}
START_TEST(in_several_threads) {
    pthread_t t[4];
    for (intptr_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, runs, (void *)i), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
}
END_TEST

/* A deadline of the thread that runs the program is not the program's. */
START_TEST(deadline_outside) {
    STEL_TIMEOUT(STEL_MS(1));
    ck_assert_int_eq(stel_run(leaves_children, NULL), 8);
}
END_TEST

START_TEST(no_descriptors) {
    struct rlimit limit;
    ck_assert_int_eq(stel_run(give, (void *)1), 1);
    int fds = test_open_descriptors();
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)fds; /* the numbers below are all taken, or nearly */
    for (; limit.rlim_cur > 0; limit.rlim_cur--) {
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (stel_run(give, (void *)1) == -EMFILE) break;
    }
    ck_assert_int_eq(stel_run(give, (void *)1), -EMFILE);
    limit.rlim_cur = limit.rlim_max < 1024 ? limit.rlim_max : 1024;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(test_open_descriptors(), fds);
    ck_assert_int_eq(stel_run(give, (void *)1), 1);
}
END_TEST

TEST_MAIN("runtime/run", result, waits_for_all, result_of_one_that_is_taken, shut_down, not_from_a_fiber,
          environment_counts, auto_shutdown_by_environment, one_that_will_not_end, in_several_threads, deadline_outside,
          no_descriptors)
