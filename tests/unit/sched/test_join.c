/* Join, try_join, detach: who takes the result, and what becomes of a join that is cut short. */
#include "room.h"

/* Ends with 5 once the flag is up; waits by yields, or parked. */
static int five_when_raised(void *arg) {
    yield_until(arg);
    return 5;
}

static int five_when_unparked(void *arg) {
    (void)arg;
    FIBER_OK(stel_park());
    return 5;
}

static int orders(void *arg) {
    (void)arg;
    /* It ended before the join. */
    stel_fiber f = spawn(give, (void *)1);
    int result = 0;
    while (stel_try_join(f, &result) == -EAGAIN)
        stel_yield();
    FIBER_ASSERT_EQ(result, 1);
    f = spawn(give, (void *)2);
    for (int i = 0; i < 100; i++)
        stel_yield();
    FIBER_ASSERT_EQ(join(f), 2);
    /* It ends while we wait. */
    f = spawn(five_when_unparked, NULL);
    FIBER_ASSERT_EQ(stel_try_join(f, &result), -EAGAIN);
    FIBER_ASSERT_EQ(stel_try_join(f, NULL), -EAGAIN);
    FIBER_OK(stel_unpark(f));
    FIBER_ASSERT_EQ(join(f), 5);
    /* Nobody wants the result. */
    FIBER_OK(stel_join(spawn(give, (void *)-3), NULL));
    f = spawn(give, (void *)4);
    int rc;
    while ((rc = stel_try_join(f, NULL)) == -EAGAIN)
        stel_yield();
    FIBER_OK(rc);
    return 0;
}

START_TEST(before_and_after_the_end) {
    ck_assert_int_eq(run_in_runtime(1, orders, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, orders, NULL), 0);
}
END_TEST

static int once_each(void *arg) {
    (void)arg;
    int result;
    stel_fiber f = spawn(give, NULL);
    join(f);
    FIBER_ASSERT_EQ(stel_join(f, &result), -ESRCH);
    FIBER_ASSERT_EQ(stel_try_join(f, &result), -ESRCH);
    FIBER_ASSERT_EQ(stel_detach(f), -ESRCH);
    f = spawn(give, NULL);
    FIBER_OK(stel_detach(f));
    FIBER_ASSERT_EQ(stel_detach(f), -ESRCH);
    FIBER_ASSERT_EQ(stel_join(f, &result), -ESRCH);
    FIBER_ASSERT_EQ(stel_try_join(f, &result), -ESRCH);
    f = spawn(give, NULL);
    for (int i = 0; i < 100; i++) /* it may have ended: then detach frees it */
        stel_yield();
    FIBER_OK(stel_detach(f));
    FIBER_ASSERT_EQ(stel_join(f, &result), -ESRCH);
    /* No fiber at all. */
    static const stel_fiber nobody[] = { 0, 1, 0xffffff, UINT64_MAX, UINT64_C(5) << 24 | 0xfffffe };
    for (size_t i = 0; i < sizeof nobody / sizeof nobody[0]; i++) {
        FIBER_ASSERT_EQ(stel_join(nobody[i], &result), -ESRCH);
        FIBER_ASSERT_EQ(stel_try_join(nobody[i], &result), -ESRCH);
        FIBER_ASSERT_EQ(stel_detach(nobody[i]), -ESRCH);
    }
    FIBER_ASSERT_EQ(stel_join(stel_self(), &result), -EDEADLK);
    FIBER_ASSERT_EQ(stel_try_join(stel_self(), &result), -EDEADLK);
    return 0;
}

START_TEST(only_once) {
    ck_assert_int_eq(run_in_runtime(1, once_each, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, once_each, NULL), 0);
}
END_TEST

static int detach_self(void *arg) {
    FIBER_OK(stel_detach(stel_self()));
    FIBER_ASSERT_EQ(stel_detach(stel_self()), -ESRCH);
    raise_flag(arg);
    return 0;
}

static int detach_oneself(void *arg) {
    (void)arg;
    flag done = 0;
    stel_fiber f = spawn(detach_self, &done);
    yield_until(&done);
    FIBER_ASSERT_EQ(stel_join(f, NULL), -ESRCH);
    return 0;
}

START_TEST(a_fiber_detaches_itself) {
    ck_assert_int_eq(run_in_runtime(1, detach_oneself, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, detach_oneself, NULL), 0);
}
END_TEST

/* ---- two want it ---- */

static int join_other(void *arg) {
    int result = -1, rc = stel_join(*(stel_fiber *)arg, &result);
    return rc < 0 ? rc : result;
}

static int two_joiners(void *arg) {
    (void)arg;
    flag go_on = 0;
    stel_fiber f = spawn(five_when_raised, &go_on);
    stel_fiber first = spawn(join_other, &f);
    int rc = 0;
    /* The first may not have come to its join yet. */
    while ((rc = stel_try_join(f, NULL)) == -EAGAIN)
        stel_yield();
    FIBER_ASSERT_EQ(rc, -ESRCH);
    FIBER_ASSERT_EQ(stel_join(f, NULL), -ESRCH);
    FIBER_ASSERT_EQ(stel_detach(f), -ESRCH);
    raise_flag(&go_on);
    FIBER_ASSERT_EQ(join(first), 5);
    return 0;
}

START_TEST(two_join_one) {
    ck_assert_int_eq(run_in_runtime(1, two_joiners, NULL), 0);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(run_in_runtime(3, two_joiners, NULL), 0);
}
END_TEST

static int race_for_one(void *arg) {
    (void)arg;
    for (uint64_t i = test_scale(5000); i > 0; i--) {
        stel_fiber f = spawn(give, (void *)5), crew[4];
        int winners = 0;
        for (int k = 0; k < 4; k++)
            crew[k] = spawn(join_other, &f);
        for (int k = 0; k < 4; k++) {
            int rc = join(crew[k]);
            FIBER_ASSERT(rc == 5 || rc == -ESRCH);
            winners += rc == 5;
        }
        FIBER_ASSERT_EQ(winners, 1);
    }
    return 0;
}

START_TEST(four_race_for_one) {
    ck_assert_int_eq(run_in_runtime(3, race_for_one, NULL), 0);
}
END_TEST

/* ---- cut short ---- */

static int join_with_deadline(void *arg) {
    flag *go_on = arg;
    stel_fiber f = spawn(five_when_raised, go_on);
    {
        STEL_TIMEOUT(STEL_MS(2));
        int64_t before = stel_now();
        FIBER_ASSERT_EQ(stel_join(f, NULL), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
        FIBER_ASSERT(stel_now() - before >= STEL_MS(2) || stel_deadline() <= stel_now());
        FIBER_ASSERT_EQ(stel_join(f, NULL), -ETIMEDOUT); /* and again, until the block is left */
        FIBER_ASSERT_EQ(stel_try_join(f, NULL), -EAGAIN);
    }
    raise_flag(go_on);
    {
        STEL_TIMEOUT(LONG_PAST); /* also when it may have ended: checked first */
        FIBER_ASSERT_EQ(stel_join(f, NULL), -ETIMEDOUT);
    }
    FIBER_ASSERT_EQ(join(f), 5); /* still joinable */
    return 0;
}

static void *join_with_deadline_in_thread(void *arg) {
    FIBER_ASSERT_EQ(join_with_deadline(arg), 0);
    return NULL;
}

START_TEST(deadline) {
    for (int workers = 1; workers <= 2; workers++) {
        flag go_on = 0;
        ck_assert_int_eq(run_in_runtime(workers, join_with_deadline, &go_on), 0);
    }
    stel_runtime *rt = room_open(1);
    flag go_on = 0;
    pthread_join(beside(join_with_deadline_in_thread, &go_on), NULL);
    room_close(rt);
}
END_TEST

static int cancel_a_joiner(void *arg) {
    (void)arg;
    flag go_on = 0;
    stel_fiber f = spawn(five_when_raised, &go_on);
    for (int i = 0; i < 10; i++) {
        stel_fiber joiner = spawn(join_other, &f);
        for (int k = 0; k < i; k++) /* it has begun, or not */
            stel_yield();
        FIBER_OK(stel_cancel(joiner));
        FIBER_ASSERT_EQ(join(joiner), -ECANCELED);
    }
    raise_flag(&go_on);
    FIBER_ASSERT_EQ(join(f), 5);
    return 0;
}

START_TEST(cancellation) {
    ck_assert_int_eq(run_in_runtime(1, cancel_a_joiner, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, cancel_a_joiner, NULL), 0);
}
END_TEST

/* A join is cut short at the very moment its fiber ends: either it has the result, or the fiber is still joinable. */
static int end_soon(void *arg) {
    uint64_t n = (uintptr_t)arg;
    for (uint64_t i = 0; i < n; i++)
        stel_yield();
    return 5;
}

static int cut_short_at_the_end(void *arg) {
    uint64_t state = test_seed() + (uintptr_t)arg;
    for (uint64_t i = test_scale(3000); i > 0; i--) {
        stel_fiber f = spawn(end_soon, (void *)(uintptr_t)test_random(&state, 8));
        int result = 0, rc;
        if (i % 2) {
            STEL_TIMEOUT(test_random(&state, 20000));
            rc = stel_join(f, &result);
            FIBER_ASSERT(rc == 0 || rc == -ETIMEDOUT);
        } else {
            stel_fiber joiner = spawn(join_other, &f);
            for (uint32_t k = test_random(&state, 8); k > 0; k--)
                stel_yield();
            stel_cancel(joiner);
            rc = join(joiner);
            FIBER_ASSERT(rc == 5 || rc == -ECANCELED);
            if (rc == 5) rc = 0, result = 5;
        }
        if (rc < 0) result = join(f);
        FIBER_ASSERT_EQ(result, 5);
        FIBER_ASSERT_EQ(stel_try_join(f, NULL), -ESRCH);
    }
    return 0;
}

static int several_cut_short(void *arg) {
    (void)arg;
    stel_fiber f[4];
    for (uintptr_t i = 0; i < 4; i++)
        f[i] = spawn(cut_short_at_the_end, (void *)i);
    for (int i = 0; i < 4; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    return 0;
}

START_TEST(cut_short_while_it_ends) {
    ck_assert_int_eq(run_in_runtime(3, several_cut_short, NULL), 0);
    ck_assert_int_eq(run_in_runtime(1, several_cut_short, NULL), 0);
}
END_TEST

/* ---- threads ---- */

static void *join_in_thread(void *arg) {
    FIBER_ASSERT_EQ(join(*(stel_fiber *)arg), 5);
    return NULL;
}

START_TEST(from_threads) {
    stel_runtime *rt = room_open(2);
    for (uint64_t i = test_scale(500); i > 0; i--) {
        flag go_on = 0;
        stel_fiber f = spawn(i % 2 ? five_when_raised : five_when_unparked, &go_on);
        pthread_t t = beside(join_in_thread, &f);
        if (i % 3) check_fiber_nap();
        raise_flag(&go_on);
        if (i % 2 == 0) ck_assert_int_eq(stel_unpark(f), 0);
        pthread_join(t, NULL);
        ck_assert_int_eq(stel_join(f, NULL), -ESRCH);
    }
    stel_fiber f = spawn(give, (void *)8);
    int result = 0;
    EVENTUALLY(stel_try_join(f, &result) == 0);
    ck_assert_int_eq(result, 8);
    f = spawn(give, NULL);
    ck_assert_int_eq(stel_detach(f), 0);
    ck_assert_int_eq(stel_join(f, NULL), -ESRCH);
    ck_assert_int_eq(stel_join(0, NULL), -ESRCH);
    room_close(rt);
}
END_TEST

TEST_MAIN("sched/join", before_and_after_the_end, only_once, a_fiber_detaches_itself, two_join_one, four_race_for_one,
          deadline, cancellation, cut_short_while_it_ends, from_threads)
