/* Deadlines: nesting, every way of leaving the block, by hand, and whose time was up. */
#include "room.h"

/* Run the same checks in a fiber, on one worker and several, and on a plain thread. */
static void *run_in_thread(void *arg) {
    FIBER_ASSERT_EQ((*(stel_fn **)arg)(NULL), 0);
    return NULL;
}

static void everywhere(stel_fn *fn) {
    ck_assert_int_eq(run_in_runtime(1, fn, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, fn, NULL), 0);
    stel_runtime *rt = room_open(1);
    pthread_join(beside(run_in_thread, &fn), NULL);
    room_close(rt);
}

static int nesting(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(stel_deadline(), STEL_FOREVER);
    {
        STEL_TIMEOUT(STEL_SEC(600));
        int64_t outer = stel_deadline();
        FIBER_ASSERT(outer < STEL_FOREVER && outer > stel_now());
        {
            STEL_TIMEOUT(STEL_SEC(900)); /* the tighter one counts */
            FIBER_ASSERT_EQ(stel_deadline(), outer);
            STEL_TIMEOUT(STEL_US(100)); /* several in one block */
            FIBER_ASSERT(stel_deadline() < outer);
            FIBER_ASSERT_EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
        }
        FIBER_ASSERT_EQ(stel_deadline(), outer);
        FIBER_OK(stel_sleep(1));
        {
            STEL_TIMEOUT(STEL_FOREVER);
            FIBER_ASSERT_EQ(stel_deadline(), outer);
        }
    }
    FIBER_ASSERT_EQ(stel_deadline(), STEL_FOREVER);
    {
        STEL_TIMEOUT(STEL_FOREVER);
        FIBER_ASSERT_EQ(stel_deadline(), STEL_FOREVER);
        FIBER_OK(stel_sleep(1));
    }
    {
        STEL_TIMEOUT(INT64_MIN);
        FIBER_ASSERT_EQ(stel_sleep(1), -ETIMEDOUT);
    }
    FIBER_OK(stel_sleep(1));
    return 0;
}

START_TEST(nested) {
    everywhere(nesting);
}
END_TEST

/* ---- ways out of the block ---- */

static int by_return(void) {
    STEL_TIMEOUT(-1); /* a sleep looks at the true time */
    {
        STEL_TIMEOUT(-2);
        return stel_sleep(1);
    }
}

static int ways_out(void *arg) {
    (void)arg;
    STEL_TIMEOUT(STEL_SEC(600));
    int64_t outer = stel_deadline();
    FIBER_ASSERT_EQ(by_return(), -ETIMEDOUT);
    FIBER_ASSERT_EQ(stel_deadline(), outer);
    for (int i = 0; i < 3; i++) {
        STEL_TIMEOUT(LONG_PAST);
        if (i == 1) continue;
        if (i == 2) break;
        FIBER_ASSERT_EQ(stel_sleep(1), -ETIMEDOUT);
    }
    FIBER_ASSERT_EQ(stel_deadline(), outer);
    switch (1) {
    case 1: {
        STEL_TIMEOUT(LONG_PAST);
        FIBER_ASSERT_EQ(stel_sleep(1), -ETIMEDOUT);
        break;
    }
    default:
        break;
    }
    FIBER_ASSERT_EQ(stel_deadline(), outer);
    int rounds = 0;
again : {
    STEL_TIMEOUT(LONG_PAST);
    STEL_TIMEOUT(LONG_PAST);
    if (rounds++ < 3) goto again; /* out of the block, and into it anew */
    goto out;
}
out:
    FIBER_ASSERT_EQ(rounds, 4);
    FIBER_ASSERT_EQ(stel_deadline(), outer);
    FIBER_OK(stel_sleep(1));
    return 0;
}

START_TEST(every_way_out) {
    everywhere(ways_out);
}
END_TEST

static int by_hand(void *arg) {
    (void)arg;
    int64_t when = stel_after(STEL_SEC(500));
    int64_t first = stel_deadline_push(when);
    FIBER_ASSERT_EQ(first, STEL_FOREVER);
    FIBER_ASSERT_EQ(stel_deadline(), when);
    int64_t second = stel_deadline_push(when + 1); /* later: changes nothing */
    FIBER_ASSERT_EQ(second, when);
    FIBER_ASSERT_EQ(stel_deadline(), when);
    int64_t third = stel_deadline_push(stel_now());
    FIBER_ASSERT_EQ(stel_sleep(1), -ETIMEDOUT);
    stel_deadline_pop(third);
    FIBER_OK(stel_sleep(1));
    stel_deadline_pop(second);
    stel_deadline_pop(first);
    FIBER_ASSERT_EQ(stel_deadline(), STEL_FOREVER);
    /* Popped in one go. */
    first = stel_deadline_push(1);
    (void)stel_deadline_push(0);
    stel_deadline_pop(first);
    FIBER_ASSERT_EQ(stel_deadline(), STEL_FOREVER);
    FIBER_OK(stel_sleep(1));
    return 0;
}

START_TEST(push_and_pop) {
    everywhere(by_hand);
}
END_TEST

/* A fiber that ends inside the block leaves nothing to the block's next fiber; nor does a thread to the next one. */
static int end_inside(void *arg) {
    (void)arg;
    (void)stel_deadline_push(INT64_MIN);
    return stel_sleep(1) == -ETIMEDOUT && stel_timed_out() ? 1 : 0;
}

static int fresh(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(stel_deadline(), STEL_FOREVER);
    FIBER_ASSERT(!stel_timed_out());
    FIBER_OK(stel_sleep(1));
    return 1;
}

static int one_after_the_other(void *arg) {
    (void)arg;
    for (int i = 0; i < 50; i++) {
        FIBER_ASSERT_EQ(join(spawn(end_inside, NULL)), 1);
        FIBER_ASSERT_EQ(join(spawn(fresh, NULL)), 1);
    }
    return 0;
}

static void *end_inside_thread(void *arg) {
    FIBER_ASSERT_EQ(end_inside(arg), 1);
    return NULL;
}

static void *fresh_thread(void *arg) {
    FIBER_ASSERT_EQ(fresh(arg), 1);
    return NULL;
}

START_TEST(nothing_is_left_behind) {
    ck_assert_int_eq(run_in_runtime(1, one_after_the_other, NULL), 0);
    for (int i = 0; i < 10; i++) {
        pthread_join(beside(end_inside_thread, NULL), NULL);
        pthread_join(beside(fresh_thread, NULL), NULL);
    }
}
END_TEST

/* ---- what is cut short, and what is not ---- */

static int every_wait(void *arg) {
    (void)arg;
    stel_fiber f = spawn(until_cancelled, NULL);
    {
        STEL_TIMEOUT(STEL_US(200));
        FIBER_ASSERT_EQ(stel_sleep(STEL_SEC(100)), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
        int64_t now = stel_now();
        FIBER_ASSERT(stel_deadline() <= now);
        /* From now on each of them, at once. */
        FIBER_ASSERT_EQ(stel_sleep_until(STEL_FOREVER), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_sleep(0), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_join(f, NULL), -ETIMEDOUT);
        if (stel_self()) FIBER_ASSERT_EQ(stel_park(), -ETIMEDOUT);
        /* These do not wait. */
        stel_yield();
        FIBER_ASSERT_EQ(stel_try_join(f, NULL), -EAGAIN);
        stel_fiber g = spawn(give, NULL);
        FIBER_OK(stel_detach(g));
        FIBER_OK(stel_cancel(f));
    }
    FIBER_ASSERT_EQ(join(f), -ECANCELED);
    return 0;
}

START_TEST(each_wait) {
    everywhere(every_wait);
}
END_TEST

/* In the middle of each wait that a fiber can be in. */
static int join_forever(void *arg) {
    return stel_join(*(stel_fiber *)arg, NULL);
}

static int park_forever(void *arg) {
    (void)arg;
    return stel_park();
}

static int sleep_forever(void *arg) {
    (void)arg;
    return stel_sleep_until(STEL_FOREVER);
}

static int with_time_limit(void *arg) {
    struct {
        stel_fn *fn;
        void *arg;
    } *wait = arg;
    STEL_TIMEOUT(STEL_US(300));
    int64_t deadline = stel_deadline();
    int rc = wait->fn(wait->arg);
    FIBER_ASSERT(stel_now() >= deadline && stel_timed_out());
    FIBER_ASSERT_EQ(wait->fn(wait->arg), rc);
    return rc;
}

static int in_the_middle(void *arg) {
    (void)arg;
    stel_fiber never = spawn(until_cancelled, NULL);
    struct {
        stel_fn *fn;
        void *arg;
    } wait[] = { { join_forever, &never }, { park_forever, NULL }, { sleep_forever, NULL } };
    for (int round = 0; round < 20; round++)
        for (size_t i = 0; i < sizeof wait / sizeof wait[0]; i++)
            FIBER_ASSERT_EQ(join(spawn(with_time_limit, &wait[i])), -ETIMEDOUT);
    FIBER_OK(stel_cancel(never));
    join(never);
    return 0;
}

START_TEST(in_the_middle_of_a_wait) {
    ck_assert_int_eq(run_in_runtime(1, in_the_middle, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, in_the_middle, NULL), 0);
}
END_TEST

/* A deadline far away costs nothing and changes nothing; one that is tightened between two waits counts at once. */
static int tighten(void *arg) {
    (void)arg;
    STEL_TIMEOUT(STEL_SEC(600));
    for (int i = 0; i < 100; i++) {
        FIBER_OK(stel_sleep(STEL_US(20)));
        if (i % 10) continue;
        STEL_TIMEOUT(STEL_US(100));
        int64_t deadline = stel_deadline();
        FIBER_ASSERT_EQ(stel_sleep(STEL_SEC(500)), -ETIMEDOUT);
        FIBER_ASSERT(stel_now() >= deadline);
    }
    return 0;
}

START_TEST(tightened) {
    everywhere(tighten);
}
END_TEST

static int whose(void *arg) {
    (void)arg;
    FIBER_ASSERT(!stel_timed_out());
    {
        STEL_TIMEOUT(STEL_US(50));
        FIBER_ASSERT_EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
    }
    FIBER_ASSERT(stel_timed_out()); /* the latest one was; that the block is left does not change it */
    return 0;
}

START_TEST(whose_time_was_up) {
    everywhere(whose);
}
END_TEST

TEST_MAIN("sched/deadline", nested, every_way_out, push_and_pop, nothing_is_left_behind, each_wait,
          in_the_middle_of_a_wait, tightened, whose_time_was_up)
