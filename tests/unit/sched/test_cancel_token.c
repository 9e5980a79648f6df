/* Cancellation: which waits it ends and when, shields, and who is not touched by it. */
#include "room.h"
#include "sched/waiter.h"

/* ---- every kind of wait ---- */

static int in_park(void *arg) {
    (void)arg;
    return stel_park();
}

static int in_join(void *arg) {
    stel_fiber f = spawn(until_cancelled, arg);
    int rc = stel_join(f, NULL);
    FIBER_OK(stel_cancel(f));
    FIBER_OK(stel_detach(f));
    return rc;
}

static int in_try_waits(void *arg) {
    (void)arg;
    for (;;) { /* never asleep: each wait has something to give already */
        FIBER_OK(stel_unpark(stel_self()));
        int rc = stel_park();
        if (rc < 0) return rc;
        stel_yield();
    }
}

static stel_fn *const kinds[] = { until_cancelled, in_park, in_join, in_try_waits };

static int cancel_each(void *arg) {
    (void)arg;
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++)
        for (int patience = 0; patience < 20; patience++) {
            stel_fiber f = spawn(kinds[kind], NULL);
            for (int i = 0; i < patience; i++)
                stel_yield();
            FIBER_OK(stel_cancel(f));
            FIBER_OK(stel_cancel(f)); /* twice is harmless */
            FIBER_ASSERT_EQ(join(f), -ECANCELED);
            FIBER_ASSERT_EQ(stel_cancel(f), -ESRCH);
        }
    FIBER_ASSERT_EQ(stel_cancel(0), -ESRCH);
    FIBER_ASSERT_EQ(stel_cancel(UINT64_MAX), -ESRCH);
    return 0;
}

START_TEST(every_wait) {
    ck_assert_int_eq(run_in_runtime(1, cancel_each, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, cancel_each, NULL), 0);
    ck_assert_int_eq(stel_cancel(0), -ESRCH);
}
END_TEST

START_TEST(from_a_thread) {
    stel_runtime *rt = room_open(2);
    for (uint64_t i = test_scale(400); i > 0; i--) {
        stel_fiber f = spawn(kinds[i % 4], NULL);
        if (i % 5 == 0) check_fiber_nap();
        ck_assert_int_eq(stel_cancel(f), 0);
        ck_assert_int_eq(join(f), -ECANCELED);
    }
    room_close(rt);
}
END_TEST

/* ---- what it means for the fiber ---- */

typedef struct meeting {
    flag begun, ready;
} meeting;

static int level_triggered(void *arg) {
    meeting *m = arg;
    FIBER_ASSERT(!stel_cancelled());
    raise_flag(&m->begun);
    yield_until(&m->ready); /* a yield is not cut short */
    FIBER_ASSERT(stel_cancelled());
    for (int i = 0; i < 5; i++) {
        FIBER_ASSERT_EQ(stel_sleep(1), -ECANCELED);
        FIBER_ASSERT_EQ(stel_sleep(0), -ECANCELED);
        FIBER_ASSERT_EQ(stel_sleep_until(0), -ECANCELED);
        FIBER_ASSERT_EQ(stel_park(), -ECANCELED);
        FIBER_ASSERT(!stel_timed_out());
    }
    STEL_TIMEOUT(LONG_PAST); /* cancelled and late: cancelled */
    FIBER_ASSERT_EQ(stel_sleep(1), -ECANCELED);
    stel_yield();
    return 4;
}

static int until_the_end(void *arg) {
    (void)arg;
    meeting m = { 0 };
    stel_fiber f = spawn(level_triggered, &m);
    yield_until(&m.begun);
    FIBER_OK(stel_cancel(f));
    raise_flag(&m.ready);
    FIBER_ASSERT_EQ(join(f), 4); /* a cancelled fiber may still succeed */
    FIBER_ASSERT(!stel_cancelled());
    /* One that has ended, but was not joined, can be cancelled to no effect. */
    f = spawn(give, (void *)6);
    for (int i = 0; i < 50; i++)
        stel_yield();
    FIBER_OK(stel_cancel(f));
    FIBER_ASSERT_EQ(join(f), 6);
    /* The block's next fiber is not cancelled. */
    for (int i = 0; i < 50; i++) {
        f = spawn(give, (void *)1);
        FIBER_OK(stel_cancel(f));
        FIBER_ASSERT_EQ(join(f), 1);
    }
    return 0;
}

START_TEST(stays_until_the_end) {
    ck_assert_int_eq(run_in_runtime(1, until_the_end, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, until_the_end, NULL), 0);
}
END_TEST

/* A loop that does not care for codes must not keep the others from running. */
static int careless(void *arg) {
    while (!is_raised(arg))
        (void)!stel_sleep(STEL_SEC(1));
    return 0;
}

static int raise_after_turns(void *arg) {
    for (int i = 0; i < 100; i++)
        stel_yield();
    raise_flag(arg);
    return 0;
}

static int careless_loops(void *arg) {
    (void)arg;
    flag done = 0;
    stel_fiber f = spawn(careless, &done), g = spawn(raise_after_turns, &done);
    FIBER_OK(stel_cancel(f));
    FIBER_ASSERT_EQ(join(f), 0);
    FIBER_ASSERT_EQ(join(g), 0);
    return 0;
}

START_TEST(failed_waits_are_yields) {
    ck_assert_int_eq(run_in_runtime(1, careless_loops, NULL), 0);
}
END_TEST

/* White box: it comes when the fiber has begun the wait but is not yet parked. */
static int cancelled_on_the_way(void *arg) {
    stel__waiter *w = stel__waiter_self();
    FIBER_OK(stel__wait_check(w));
    (void)stel__wait_begin(w, STEL__WAIT_EVENT);
    FIBER_OK(stel_cancel(stel_self()));
    FIBER_ASSERT_EQ(stel__wait_park(w, 0), -ECANCELED);
    (void)stel__wait_begin(w, STEL__WAIT_EVENT);
    FIBER_ASSERT_EQ(stel__wait_drop(w), -1); /* not going to sleep after all */
    /* What is not to be interrupted is not. */
    stel__ticket t = stel__wait_begin(w, STEL__WAIT_EVENT);
    FIBER_ASSERT(stel__wake(t, 7));
    FIBER_ASSERT(!stel__wake(t, 8));
    FIBER_ASSERT_EQ(stel__wait_park(w, STEL__PARK_UNINTERRUPTIBLE), 7);
    FIBER_ASSERT(!stel__wake(t, 9)); /* a late waker */
    (void)arg;
    return 1;
}

static int on_the_way(void *arg) {
    for (int i = 0; i < 10; i++)
        FIBER_ASSERT_EQ(join(spawn(cancelled_on_the_way, arg)), 1);
    return 0;
}

START_TEST(on_the_way_to_sleep) {
    ck_assert_int_eq(run_in_runtime(1, on_the_way, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, on_the_way, NULL), 0);
}
END_TEST

/* ---- races ---- */

static int sleep_a_little(void *arg) {
    uint64_t state = (uintptr_t)arg;
    int rc = stel_sleep(test_random(&state, 30000));
    FIBER_ASSERT(rc == 0 || rc == -ECANCELED);
    return rc == 0 ? 1 : 2;
}

/* Cancelled around the moment when its sleep, or the fiber, ends. */
static int cancel_at_the_end(void *arg) {
    uint64_t state = test_seed() + (uintptr_t)arg;
    for (uint64_t i = test_scale(3000); i > 0; i--) {
        stel_fiber f = spawn(sleep_a_little, (void *)(uintptr_t)test_random(&state, 1u << 30));
        for (uint32_t k = test_random(&state, 20); k > 0; k--)
            stel_yield();
        FIBER_OK(stel_cancel(f));
        int result = join(f);
        FIBER_ASSERT(result == 1 || result == 2);
        FIBER_ASSERT_EQ(stel_cancel(f), -ESRCH);
    }
    return 0;
}

static int several_cancel(void *arg) {
    stel_fiber f[4];
    (void)arg;
    for (uintptr_t i = 0; i < 4; i++)
        f[i] = spawn(cancel_at_the_end, (void *)i);
    for (int i = 0; i < 4; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    return 0;
}

START_TEST(at_the_end) {
    ck_assert_int_eq(run_in_runtime(1, several_cancel, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, several_cancel, NULL), 0);
}
END_TEST

/* ---- shields ---- */

static int shielded(void *arg) {
    (void)arg;
    FIBER_OK(stel_cancel(stel_self()));
    FIBER_ASSERT_EQ(stel_sleep(1), -ECANCELED);
    {
        STEL_SHIELD(STEL_SEC(60));
        FIBER_ASSERT(stel_cancelled()); /* it can be seen, but is not felt */
        FIBER_OK(stel_sleep(STEL_US(100)));
        FIBER_OK(stel_sleep(0));
        FIBER_ASSERT_EQ(join(spawn(give, (void *)3)), 3);
        FIBER_OK(stel_unpark(stel_self()));
        FIBER_OK(stel_park());
        {
            STEL_TIMEOUT(STEL_US(200)); /* opened inside: it holds */
            FIBER_ASSERT_EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
            FIBER_ASSERT(stel_timed_out());
        }
        FIBER_OK(stel_sleep(1));
    }
    FIBER_ASSERT_EQ(stel_sleep(1), -ECANCELED);
    return 1;
}

static int shields_hide(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(join(spawn(shielded, NULL)), 1);
    return 0;
}

START_TEST(behind_a_shield) {
    ck_assert_int_eq(run_in_runtime(1, shields_hide, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, shields_hide, NULL), 0);
}
END_TEST

/* The shield's time ends in the middle of a wait, of each kind; the cancellation came before, or comes after that. */
static int shield_runs_out(void *arg) {
    stel_fn *wait = arg;
    int64_t until = stel_after(STEL_MS(2));
    STEL_SHIELD(STEL_MS(2));
    int rc = wait(NULL);
    FIBER_ASSERT(stel_now() >= until);
    FIBER_ASSERT(stel_cancelled());
    return rc;
}

static int shields_run_out(void *arg) {
    (void)arg;
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
        stel_fiber f = spawn(shield_runs_out, (void *)(uintptr_t)kinds[kind]);
        FIBER_OK(stel_cancel(f)); /* before it begins */
        FIBER_ASSERT_EQ(join(f), -ECANCELED);
        f = spawn(shield_runs_out, (void *)(uintptr_t)kinds[kind]);
        FIBER_OK(stel_sleep(STEL_US(500))); /* in the middle, as a rule */
        FIBER_OK(stel_cancel(f));
        FIBER_ASSERT_EQ(join(f), -ECANCELED);
        f = spawn(shield_runs_out, (void *)(uintptr_t)kinds[kind]);
        FIBER_OK(stel_sleep(STEL_MS(4))); /* when the shield's time is over */
        FIBER_OK(stel_cancel(f));
        FIBER_ASSERT_EQ(join(f), -ECANCELED);
    }
    return 0;
}

START_TEST(for_its_time_only) {
    ck_assert_int_eq(run_in_runtime(1, shields_run_out, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, shields_run_out, NULL), 0);
}
END_TEST

/* A sleep that goes on after its shield's time costs no CPU: the timer does not fire again and again. */
static int sleep_past_a_shield(void *arg) {
    stel_stats before = { 0 }, after = { 0 };
    STEL_SHIELD(STEL_US(100));
    FIBER_OK(stel_runtime_stats(arg, &before));
    for (int i = 0; i < 10; i++) {
        int64_t until = stel_after(STEL_MS(1));
        FIBER_OK(stel_sleep(STEL_MS(1)));
        FIBER_ASSERT(stel_now() >= until);
    }
    FIBER_OK(stel_runtime_stats(arg, &after));
    FIBER_ASSERT(after.timers_fired - before.timers_fired <= 30);
    return 0;
}

START_TEST(sleep_goes_on_after_it) {
    stel_runtime *rt = room_open(1);
    stel_fiber f;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, sleep_past_a_shield, rt), 0);
    ck_assert_int_eq(join(f), 0);
    room_close(rt);
}
END_TEST

/* Shields nest: the inner one counts while it is open; and each is left however its block is. */
static int leave_shield_by_return(void) {
    STEL_SHIELD(STEL_SEC(60));
    return stel_sleep(1);
}

static int nested(void *arg) {
    (void)arg;
    FIBER_OK(stel_cancel(stel_self()));
    {
        STEL_SHIELD(STEL_SEC(60));
        FIBER_OK(stel_sleep(1));
        {
            STEL_SHIELD(-1);
            FIBER_ASSERT_EQ(stel_sleep(1), -ECANCELED);
            {
                STEL_SHIELD(STEL_FOREVER);
                FIBER_OK(stel_sleep(1));
            }
            FIBER_ASSERT_EQ(stel_sleep(1), -ECANCELED);
        }
        FIBER_OK(stel_sleep(1));
    }
    FIBER_ASSERT_EQ(stel_sleep(1), -ECANCELED);
    FIBER_OK(leave_shield_by_return());
    FIBER_ASSERT_EQ(stel_sleep(1), -ECANCELED);
    for (int i = 0; i < 3; i++) {
        STEL_SHIELD(STEL_SEC(60));
        FIBER_OK(stel_sleep(1));
        if (i == 1) break;
    }
    FIBER_ASSERT_EQ(stel_sleep(1), -ECANCELED);
    stel_shield by_hand = stel_shield_open(STEL_SEC(60));
    FIBER_OK(stel_sleep(1));
    stel_shield_close(by_hand);
    FIBER_ASSERT_EQ(stel_sleep(1), -ECANCELED);
    return 1;
}

static int nested_in_fiber(void *arg) {
    FIBER_ASSERT_EQ(join(spawn(nested, arg)), 1);
    return 0;
}

START_TEST(nested_shields) {
    ck_assert_int_eq(run_in_runtime(1, nested_in_fiber, NULL), 0);
}
END_TEST

/* Deadlines from outside are hidden as well. The same on plain threads, which know no cancellation. */
static int hide_deadline(void *arg) {
    (void)arg;
    STEL_TIMEOUT(LONG_PAST);
    FIBER_ASSERT_EQ(stel_sleep(1), -ETIMEDOUT);
    int64_t outside = stel_deadline();
    {
        STEL_SHIELD(STEL_SEC(60));
        FIBER_OK(stel_sleep(STEL_US(100)));
        {
            STEL_TIMEOUT(STEL_US(100));
            FIBER_ASSERT_EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
        }
        FIBER_OK(stel_sleep(1));
    }
    FIBER_ASSERT_EQ(stel_deadline(), outside);
    FIBER_ASSERT_EQ(stel_sleep(1), -ETIMEDOUT);
    {
        STEL_SHIELD(STEL_MS(1)); /* after that it shows again, in the middle of a wait */
        int64_t until = stel_after(STEL_US(900));
        FIBER_ASSERT_EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
        FIBER_ASSERT(stel_now() >= until && stel_timed_out());
    }
    return 0;
}

/* Nothing is hidden here: so nothing shows when the shield's time is over. */
static int nothing_to_hide(void *arg) {
    stel_fiber f = spawn(arg, (void *)1);
    STEL_SHIELD(STEL_US(100));
    FIBER_OK(stel_sleep(STEL_MS(1)));
    FIBER_ASSERT_EQ(join(f), 1);
    f = spawn(arg, (void *)2);
    FIBER_ASSERT_EQ(join(f), 2);
    return 0;
}

static int give_later(void *arg) {
    FIBER_OK(stel_sleep(STEL_MS(3)));
    return (int)(intptr_t)arg;
}

static void *shields_of_a_thread(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(hide_deadline(NULL), 0);
    FIBER_ASSERT_EQ(nothing_to_hide((void *)(uintptr_t)give_later), 0);
    FIBER_ASSERT(!stel_cancelled());
    return NULL;
}

START_TEST(deadlines_behind_shields) {
    ck_assert_int_eq(run_in_runtime(1, hide_deadline, NULL), 0);
    ck_assert_int_eq(run_in_runtime(1, nothing_to_hide, (void *)(uintptr_t)give_later), 0);
    stel_runtime *rt = room_open(2);
    pthread_join(beside(shields_of_a_thread, NULL), NULL);
    room_close(rt);
}
END_TEST

TEST_MAIN("sched/cancel_token", every_wait, from_a_thread, stays_until_the_end, failed_waits_are_yields,
          on_the_way_to_sleep, at_the_end, behind_a_shield, for_its_time_only, sleep_goes_on_after_it, nested_shields,
          deadlines_behind_shields)
