/* Every allocation and system call on the way to a running runtime fails once, and then for good: a clear code, and
 * nothing is left behind. */
#include "check_fiber.h"
#include "host/fault.h"
#include <errno.h>
#include <string.h>

static int give(void *arg) {
    return (int)(intptr_t)arg;
}

/* What may be asked for while a runtime is made and used; the code that each failure must show as. */
static const struct {
    enum stel__fault_kind kind;
    int error;
} sites[] = {
    { STEL__FAULT_ALLOC, ENOMEM },          { STEL__FAULT_MMAP, ENOMEM },    { STEL__FAULT_EPOLL_CREATE1, EMFILE },
    { STEL__FAULT_EPOLL_CREATE1, ENFILE },  { STEL__FAULT_EVENTFD, EMFILE }, { STEL__FAULT_EPOLL_CTL, ENOMEM },
    { STEL__FAULT_PTHREAD_CREATE, EAGAIN },
};

static int whole_life(void) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = 2;
    stel_runtime *rt = NULL;
    int rc = stel_runtime_create(&rt, &c);
    if (rc < 0) return rc;
    rc = stel_runtime_start(rt);
    if (rc < 0) {
        FIBER_ASSERT(!stel_runtime_is_running(rt));
        FIBER_ASSERT_EQ(stel_runtime_wait(rt), -EINVAL);
        FIBER_OK(stel_runtime_destroy(rt));
        return rc;
    }
    int result = 0;
    stel_fiber f;
    rc = stel_runtime_spawn(rt, &f, NULL, give, (void *)7);
    if (rc == 0) {
        rc = stel_join(f, &result);
        if (rc == 0) rc = result == 7 ? 0 : result; /* -ENOMEM: no stack could be had */
    }
    int stopped = stel_runtime_stop(rt, 0);
    if (stopped < 0) { /* the caller's own waiter could not be made */
        FIBER_ASSERT_EQ(stopped, -ENOMEM);
        stel__fault_clear();
        FIBER_OK(stel_runtime_stop(rt, 0));
        rc = stopped;
    }
    FIBER_OK(stel_runtime_destroy(rt));
    return rc;
}

static void every_site(bool for_good) {
    ck_assert_int_eq(whole_life(), 0); /* what is made once a process is made now */
    int fds = test_open_descriptors();
    for (size_t i = 0; i < sizeof sites / sizeof sites[0]; i++) {
        for (uint64_t nth = 1;; nth++) {
            stel__fault_set(sites[i].kind, nth, sites[i].error, for_good);
            int rc = whole_life();
            uint64_t calls = stel__fault_calls(sites[i].kind);
            stel__fault_clear();
            ck_assert_msg(rc == 0 || rc == -sites[i].error, "site %zu, call %d: %s", i, (int)nth, stel_strerror(rc));
            ck_assert_int_eq(test_open_descriptors(), fds);
            EVENTUALLY(test_library_threads() == 0);
            if (calls < nth) break; /* there are no more of them */
        }
        ck_assert_int_eq(whole_life(), 0);
    }
}

START_TEST(each_once) {
    every_site(false);
}
END_TEST

START_TEST(each_for_good) {
    every_site(true);
}
END_TEST

/* The very first runtime of a process: what is made once is made under failure, and made again later. */
START_TEST(from_the_first_on) {
    for (uint64_t nth = 1; nth < 40; nth++) {
        stel__fault_set(STEL__FAULT_ALLOC, nth, ENOMEM, false);
        int rc = stel_run(give, (void *)3);
        stel__fault_clear();
        ck_assert_msg(rc == 3 || rc == -ENOMEM, "allocation %d: %s", (int)nth, stel_strerror(rc));
        EVENTUALLY(test_library_threads() == 0);
    }
    ck_assert_int_eq(stel_run(give, (void *)3), 3);
}
END_TEST

/* A start that found no threads may be tried again, and what was spawned before is still there. */
START_TEST(start_again) {
    for (uint64_t nth = 1; nth <= 4; nth++) {
        stel_config c;
        stel_runtime *rt = NULL;
        stel_fiber f;
        int result = 0;
        stel_config_init(&c);
        c.worker_threads = 3;
        ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
        ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, give, (void *)9), 0);
        stel__fault_set(STEL__FAULT_PTHREAD_CREATE, nth, EAGAIN, true);
        ck_assert_int_eq(stel_runtime_start(rt), -EAGAIN);
        stel__fault_clear();
        EVENTUALLY(test_library_threads() == 0);
        ck_assert_int_eq(stel_try_join(f, &result), -EAGAIN); /* it did not run */
        ck_assert_uint_eq(stel_runtime_pending(rt), 1);
        ck_assert_int_eq(stel_runtime_start(rt), 0);
        ck_assert_int_eq(stel_join(f, &result), 0);
        ck_assert_int_eq(result, 9);
        ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
        ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    }
}
END_TEST

/* stel_run without threads: the fiber that never ran goes with it. */
START_TEST(run_without_threads) {
    int fds = test_open_descriptors();
    for (uint64_t nth = 1; nth <= 2; nth++) {
        setenv("STELLANE_RUNTIME_WORKERS", "1", 1);
        stel__fault_set(STEL__FAULT_PTHREAD_CREATE, nth, EAGAIN, true);
        ck_assert_int_eq(stel_run(give, NULL), -EAGAIN);
        stel__fault_clear();
        EVENTUALLY(test_library_threads() == 0);
        ck_assert_int_eq(test_open_descriptors(), fds);
    }
    ck_assert_int_eq(stel_run(give, (void *)2), 2);
}
END_TEST

TEST_MAIN("runtime/faults", each_once, each_for_good, from_the_first_on, start_again, run_without_threads)
