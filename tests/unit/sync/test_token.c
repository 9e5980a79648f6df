/* Cancel tokens: many fibers by one handle, in any order of attaching, cancelling and ending. */
#include "crew.h"
#include <malloc.h>

static int sleep_long(void *arg) {
    (void)arg;
    return stel_sleep(STEL_SEC(1000));
}

static int end_at_once(void *arg) {
    (void)arg;
    return 0;
}

static int one_for_all(void *arg) {
    (void)arg;
    enum { MANY = 100 };
    stel_cancel_token *t;
    stel_fiber fibers[MANY];
    FIBER_OK(stel_cancel_token_create(&t));
    FIBER_ASSERT(!stel_cancel_token_cancelled(t));
    for (int i = 0; i < MANY; i++) {
        FIBER_OK(stel_spawn(&fibers[i], sleep_long, NULL));
        FIBER_OK(stel_cancel_token_attach(t, fibers[i]));
        if (i % 10 == 0) FIBER_OK(stel_cancel_token_attach(t, fibers[i])); /* twice */
    }
    stel_yield();
    FIBER_OK(stel_cancel_token_cancel(t));
    FIBER_ASSERT(stel_cancel_token_cancelled(t));
    for (int i = 0; i < MANY; i++) {
        int result = 0;
        FIBER_OK(stel_join(fibers[i], &result));
        FIBER_ASSERT_EQ(result, -ECANCELED);
    }
    FIBER_OK(stel_cancel_token_cancel(t)); /* again */
    stel_cancel_token_release(t);
    return 0;
}

START_TEST(a_token_cancels_all_that_are_attached) {
    ck_assert_int_eq(run_in_runtime(1, one_for_all, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, one_for_all, NULL), 0);
}
END_TEST

static int late(void *arg) {
    (void)arg;
    stel_cancel_token *t;
    stel_fiber f;
    int result = 0;
    FIBER_OK(stel_cancel_token_create(&t));
    FIBER_OK(stel_cancel_token_cancel(t));
    FIBER_OK(stel_spawn(&f, sleep_long, NULL));
    FIBER_OK(stel_cancel_token_attach(t, f));
    FIBER_OK(stel_join(f, &result));
    FIBER_ASSERT_EQ(result, -ECANCELED);
    FIBER_ASSERT_EQ(stel_cancel_token_attach(t, f), -ESRCH);
    stel_cancel_token_release(t);
    return 0;
}

START_TEST(attaching_to_a_cancelled_token_cancels) {
    ck_assert_int_eq(run_in_runtime(2, late, NULL), 0);
}
END_TEST

START_TEST(wrong_use_is_told) {
    stel_cancel_token *t = NULL;
    ck_assert_int_eq(stel_cancel_token_create(NULL), -EINVAL);
    ck_assert_int_eq(stel_cancel_token_cancel(NULL), -EINVAL);
    ck_assert_int_eq(stel_cancel_token_attach(NULL, 1), -EINVAL);
    ck_assert(!stel_cancel_token_cancelled(NULL));
    ck_assert_ptr_null(stel_cancel_token_retain(NULL));
    stel_cancel_token_release(NULL);
    ck_assert_int_eq(stel_cancel_token_create(&t), 0);
    ck_assert_int_eq(stel_cancel_token_attach(t, 0), -ESRCH);
    ck_assert_int_eq(stel_cancel_token_attach(t, UINT64_MAX), -ESRCH);
    stel_cancel_token_release(t);
}
END_TEST

static int forget(void *arg) {
    stel_cancel_token *t = arg;
    stel_fiber f;
    FIBER_OK(stel_spawn(&f, end_at_once, NULL));
    FIBER_OK(stel_cancel_token_attach(t, f));
    stel_cancel_token_release(t); /* the last: f goes on uncancelled */
    int result = -1;
    FIBER_OK(stel_join(f, &result));
    return result;
}

START_TEST(references_are_counted) {
    stel_cancel_token *t = NULL;
    ck_assert_int_eq(stel_cancel_token_create(&t), 0);
    ck_assert_ptr_eq(stel_cancel_token_retain(t), t);
    stel_cancel_token_release(t);
    ck_assert(!stel_cancel_token_cancelled(t)); /* still there */
    ck_assert_int_eq(run_in_runtime(1, forget, t), 0);
}
END_TEST

/* A token as old as the program, and fibers that come and go: what it remembers must not grow with their number. */
static size_t heap_bytes_with_the_bag;
static int come_and_go(void *arg) {
    stel_cancel_token *t = arg;
    stel_fiber keep;
    int result = 0;
    FIBER_OK(stel_spawn(&keep, sleep_long, NULL));
    FIBER_OK(stel_cancel_token_attach(t, keep));
    for (uint64_t i = test_scale(200000); i > 0; i--) {
        stel_fiber f;
        FIBER_OK(stel_spawn(&f, end_at_once, NULL));
        FIBER_OK(stel_cancel_token_attach(t, f));
        FIBER_OK(stel_join(f, NULL));
    }
    heap_bytes_with_the_bag = mallinfo2().uordblks + mallinfo2().hblkhd; /* the sanitizers' malloc says 0 */
    FIBER_OK(stel_cancel_token_cancel(t));
    FIBER_OK(stel_join(keep, &result)); /* it was not swept out with the others */
    FIBER_ASSERT_EQ(result, -ECANCELED);
    return 0;
}

START_TEST(the_ended_are_forgotten) {
    stel_cancel_token *t = NULL;
    ck_assert_int_eq(stel_cancel_token_create(&t), 0);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    ck_assert_int_eq(run_in_runtime(1, come_and_go, t), 0);
    ck_assert_uint_lt(heap_bytes_with_the_bag, before + (512 << 10)); /* 200,000 handles would be 1.6 MB */
    stel_cancel_token_release(t);
}
END_TEST

/* Attaching, ending and cancelling at the same time, from several threads. */
typedef struct race {
    stel_cancel_token *t;
    stel_event gate;
    stel_fiber fibers[64];
} race;

static int attach_all(void *arg) {
    race *r = arg;
    FIBER_OK(stel_event_wait(&r->gate));
    for (int i = 0; i < 64; i++)
        FIBER_OK(stel_cancel_token_attach(r->t, r->fibers[i]));
    return 0;
}

static int cancel_it(void *arg) {
    race *r = arg;
    FIBER_OK(stel_event_wait(&r->gate));
    return stel_cancel_token_cancel(r->t);
}

static int race_once(void *arg) {
    (void)arg;
    for (uint64_t round = test_scale(200); round > 0; round--) {
        race r = { 0 };
        stel_fiber attach, cancel;
        FIBER_OK(stel_cancel_token_create(&r.t));
        for (int i = 0; i < 64; i++)
            FIBER_OK(stel_spawn(&r.fibers[i], sleep_long, NULL));
        FIBER_OK(stel_spawn(&attach, attach_all, &r));
        FIBER_OK(stel_spawn(&cancel, cancel_it, &r));
        stel_event_set(&r.gate);
        for (int i = 0; i < 64; i++)
            FIBER_OK(stel_join(r.fibers[i], NULL)); /* whichever came first: all are cancelled */
        FIBER_OK(stel_join(attach, NULL));
        FIBER_OK(stel_join(cancel, NULL));
        stel_cancel_token_release(r.t);
    }
    return 0;
}

START_TEST(attach_and_cancel_miss_nobody) {
    ck_assert_int_eq(run_in_runtime(4, race_once, NULL), 0);
}
END_TEST

TEST_MAIN("sync/token", a_token_cancels_all_that_are_attached, attaching_to_a_cancelled_token_cancels,
          wrong_use_is_told, references_are_counted, the_ended_are_forgotten, attach_and_cancel_miss_nobody)
