/* A deadline that was reported stays passed, also on a worker whose cached clock lags behind: the fiber times out on one
 * worker, waits for a mutex there, and goes on on another that has been held all the time. */
#include "check_fiber.h"

static stel_mutex mutex;
static _Atomic int locked, waiting;

static int hog(void *arg) {
    (void)arg;
    stel_mutex_lock(&mutex);
    locked = 1;
    /* No wait in here: this worker's clock stays as old as it is. */
    int64_t give_up = stel_after(STEL_SEC(60));
    while (!waiting)
        if (stel_now() > give_up) FIBER_FAIL("the other fiber did not come");
    int64_t later = stel_after(STEL_MS(20));
    while (stel_now() < later)
        ;
    stel_mutex_unlock(&mutex);
    return 0;
}

static int patient(void *arg) {
    (void)arg;
    while (!locked)
        stel_yield();
    STEL_TIMEOUT(STEL_MS(5));
    FIBER_ASSERT_EQ(stel_park(), -ETIMEDOUT);
    FIBER_ASSERT(stel_timed_out());
    FIBER_ASSERT_EQ(stel_deadline(), INT64_MIN);
    waiting = 1;
    stel_mutex_lock(&mutex); /* not cut short; often handed over by the hog, on its worker */
    FIBER_OK(stel_unpark(stel_self()));
    FIBER_ASSERT_EQ(stel_park(), -ETIMEDOUT);
    FIBER_ASSERT_EQ(stel_sleep(0), -ETIMEDOUT);
    stel_mutex_unlock(&mutex);
    return 0;
}

static int root(void *arg) {
    stel_fiber a, b;
    (void)arg;
    FIBER_OK(stel_spawn(&a, hog, NULL));
    FIBER_OK(stel_spawn(&b, patient, NULL));
    FIBER_OK(stel_join(a, NULL));
    FIBER_OK(stel_join(b, NULL));
    FIBER_ASSERT_EQ(stel_deadline(), STEL_FOREVER);
    return 0;
}

START_TEST(stays_passed) {
    for (int i = 0; i < 10; i++) {
        locked = waiting = 0;
        ck_assert_int_eq(run_in_runtime(2, root, NULL), 0);
    }
}
END_TEST

TEST_MAIN("sched/deadline_across", stays_passed)
