/* Sleeping: never too short, in order, on every kind of length, and timers of workers that are held by somebody. */
#include "host/fault.h"
#include "room.h"

static int lengths(void *arg) {
    (void)arg;
    static const int64_t some[] = { 1, 999, STEL_US(1), 16383, 16384, 16385, STEL_US(100), STEL_MS(1), STEL_MS(5) };
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        int64_t before = stel_now();
        FIBER_OK(stel_sleep(some[i]));
        FIBER_ASSERT(stel_now() - before >= some[i]);
        int64_t until = stel_now() + some[i];
        FIBER_OK(stel_sleep_until(until));
        FIBER_ASSERT(stel_now() >= until);
    }
    /* What has passed already is a yield, not an error. */
    FIBER_OK(stel_sleep(0));
    FIBER_OK(stel_sleep(-1));
    FIBER_OK(stel_sleep(INT64_MIN));
    FIBER_OK(stel_sleep_until(0));
    FIBER_OK(stel_sleep_until(INT64_MIN));
    FIBER_OK(stel_sleep_until(stel_now()));
    return 0;
}

static void *lengths_in_thread(void *arg) {
    FIBER_ASSERT_EQ(lengths(arg), 0);
    return NULL;
}

START_TEST(never_too_short) {
    ck_assert_int_eq(run_in_runtime(1, lengths, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, lengths, NULL), 0);
    pthread_join(beside(lengths_in_thread, NULL), NULL); /* no runtime needed */
}
END_TEST

static int raise_it(void *arg) {
    raise_flag(arg);
    return 0;
}

static int zero_lets_others_run(void *arg) {
    (void)arg;
    flag ran = 0;
    stel_fiber f = spawn(raise_it, &ran);
    for (int64_t give_up = stel_after(STEL_SEC(60)); !is_raised(&ran);) {
        FIBER_ASSERT(stel_now() < give_up);
        FIBER_OK(stel_sleep(0));
    }
    return join(f);
}

START_TEST(zero_is_a_yield) {
    ck_assert_int_eq(run_in_runtime(1, zero_lets_others_run, NULL), 0);
}
END_TEST

/* Many at a time, of random lengths; each is woken after its time, and on one worker in the order of their times. */
enum { SLEEPERS = 2000 };
static struct {
    int64_t until;
    int64_t woke;
} sleepers[SLEEPERS];

static int sleep_once(void *arg) {
    uintptr_t i = (uintptr_t)arg;
    FIBER_OK(stel_sleep_until(sleepers[i].until));
    sleepers[i].woke = stel_now();
    FIBER_ASSERT(sleepers[i].woke >= sleepers[i].until);
    return 0;
}

static int many_sleep(void *arg) {
    static stel_fiber f[SLEEPERS];
    uint64_t state = test_seed(), n = test_scale(SLEEPERS);
    (void)arg;
    int64_t base = stel_now();
    for (uintptr_t i = 0; i < n; i++) {
        sleepers[i].until = base + test_random(&state, i % 2 ? 1000000 : 80000000);
        f[i] = spawn(sleep_once, (void *)i);
    }
    for (uint64_t i = 0; i < n; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    return 0;
}

START_TEST(two_thousand) {
    ck_assert_int_eq(run_in_runtime(1, many_sleep, NULL), 0);
    ck_assert_int_eq(run_in_runtime(4, many_sleep, NULL), 0);
}
END_TEST

static int order_of_waking[20], woken_so_far;

static int sleep_in_order(void *arg) {
    int i = (int)(intptr_t)arg;
    FIBER_OK(stel_sleep_until(sleepers[i].until));
    order_of_waking[woken_so_far++] = i;
    return 0;
}

/* All are asleep when the first time comes, or the test says nothing: then again with more time. */
static int earliest_first(void *arg) {
    (void)arg;
    for (int64_t step = STEL_MS(1);; step *= 2) {
        stel_fiber f[20];
        int64_t base = stel_after(5 * step);
        woken_so_far = 0;
        for (int i = 0; i < 20; i++) {
            sleepers[i].until = base + (i * 7 % 20) * step;
            f[i] = spawn(sleep_in_order, (void *)(intptr_t)i);
        }
        stel_yield();
        bool in_time = stel_now() < base;
        for (int i = 0; i < 20; i++)
            join(f[i]);
        for (int i = 1; i < 20; i++)
            if (in_time && sleepers[order_of_waking[i - 1]].until > sleepers[order_of_waking[i]].until) in_time = false;
        /* Two whose times have both passed at one look may come in either order: then the machine was late. */
        if (in_time) return 0;
        FIBER_ASSERT(step < STEL_SEC(1));
    }
}

START_TEST(in_order) {
    ck_assert_int_eq(run_in_runtime(1, earliest_first, NULL), 0);
}
END_TEST

/* ---- limits ---- */

static int limits(void *arg) {
    (void)arg;
    {
        STEL_TIMEOUT(STEL_MS(1));
        int64_t deadline = stel_deadline();
        FIBER_ASSERT_EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
        FIBER_ASSERT(stel_now() >= deadline);
        FIBER_ASSERT_EQ(stel_sleep(1), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_sleep(-1), -ETIMEDOUT);
    }
    {
        STEL_TIMEOUT(STEL_SEC(600));
        FIBER_OK(stel_sleep(STEL_US(200))); /* the sleep comes first */
    }
    FIBER_OK(stel_sleep(1));
    return 0;
}

static void *limits_in_thread(void *arg) {
    FIBER_ASSERT_EQ(limits(arg), 0);
    return NULL;
}

START_TEST(by_deadline) {
    ck_assert_int_eq(run_in_runtime(1, limits, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, limits, NULL), 0);
    pthread_join(beside(limits_in_thread, NULL), NULL);
}
END_TEST

static int cancel_sleepers(void *arg) {
    (void)arg;
    for (int i = 0; i < 30; i++) {
        stel_fiber f = spawn(until_cancelled, NULL);
        for (int k = 0; k < i; k++)
            stel_yield();
        if (i % 5 == 0) FIBER_OK(stel_sleep(STEL_US(100)));
        FIBER_OK(stel_cancel(f));
        FIBER_ASSERT_EQ(join(f), -ECANCELED);
    }
    return 0;
}

START_TEST(cancellation) {
    ck_assert_int_eq(run_in_runtime(1, cancel_sleepers, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, cancel_sleepers, NULL), 0);
}
END_TEST

/* ---- a worker that is held ---- */

typedef struct held {
    flag holding, woken;
} held;

static int hold_worker(void *arg) {
    held *h = arg;
    raise_flag(&h->holding);
    hog_until(&h->woken);
    return 0;
}

/* The timer is on this worker's wheel, and a fiber that must run here holds the worker: the poller thread fires it, and
 * another worker runs us. */
static int sleep_under_a_hog(void *arg) {
    (void)arg;
    for (int i = 0; i < 5; i++) {
        held h = { 0 };
        int worker = stel_worker_id();
        stel_fiber hog = spawn_with((stel_spawn_options){ .place = STEL_WORKER(worker) }, hold_worker, &h);
        FIBER_OK(stel_sleep(STEL_MS(3)));
        if (is_raised(&h.holding)) FIBER_ASSERT(stel_worker_id() != worker); /* it holds it still */
        raise_flag(&h.woken);
        FIBER_ASSERT_EQ(join(hog), 0);
    }
    return 0;
}

START_TEST(under_a_hog) {
    ck_assert_int_eq(run_in_runtime(2, sleep_under_a_hog, NULL), 0);
}
END_TEST

/* Busy workers look at their timers, too. */
static int wake_and_raise(void *arg) {
    FIBER_OK(stel_sleep(STEL_MS(2)));
    raise_flag(arg);
    return 0;
}

static int sleep_among_yielders(void *arg) {
    (void)arg;
    flag woken = 0;
    stel_fiber f = spawn(wake_and_raise, &woken);
    yield_until(&woken);
    return join(f);
}

START_TEST(among_yielders) {
    ck_assert_int_eq(run_in_runtime(1, sleep_among_yielders, NULL), 0);
}
END_TEST

/* The timer stays on a wheel from wait to wait, while its fiber moves from worker to worker. */
static int wait_and_wander(void *arg) {
    uint64_t state = test_seed() ^ (uintptr_t)arg;
    for (uint64_t i = test_scale(300); i > 0; i--) {
        STEL_TIMEOUT(test_random(&state, 400000));
        int64_t deadline = stel_deadline();
        for (;;) {
            int64_t length = test_random(&state, 150000), until = stel_after(length);
            int rc = stel_sleep_until(until);
            int64_t now = stel_now();
            FIBER_ASSERT(rc == 0 ? now >= until : rc == -ETIMEDOUT && now >= deadline);
            if (rc) break;
            stel_yield();
        }
    }
    return 0;
}

static int wanderers(void *arg) {
    stel_fiber f[30];
    (void)arg;
    for (uintptr_t i = 0; i < 30; i++)
        f[i] = spawn(wait_and_wander, (void *)i);
    for (int i = 0; i < 30; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    return 0;
}

/* With pilots before their sleeps (host/pilot.c) and without: not one more descriptor afterwards. */
START_TEST(across_workers) {
    int number = stel__sys_eventfd(0, 0); /* the lowest that is free */
    ck_assert_int_eq(stel__sys_close(number), 0);
    ck_assert_int_eq(run_in_runtime(3, wanderers, NULL), 0);
    stel__fault_set(STEL__FAULT_TIMERFD_CREATE, 1, EMFILE, true);
    ck_assert_int_eq(run_in_runtime(3, wanderers, NULL), 0);
    stel__fault_clear();
    ck_assert_int_eq(stel__sys_eventfd(0, 0), number);
    ck_assert_int_eq(stel__sys_close(number), 0);
}
END_TEST

TEST_MAIN("sched/timer_await", never_too_short, zero_is_a_yield, two_thousand, in_order, by_deadline, cancellation,
          under_a_hog, among_yielders, across_workers)
