/* Several runtimes in a process: their fibers join, wake and cancel each other, and none needs the others. */
#include "room.h"

enum { RUNTIMES = 3 };
static stel_runtime *rt[RUNTIMES];

static stel_fiber spawn_in(int i, stel_fn *fn, void *arg) {
    stel_fiber f = 0;
    FIBER_OK(stel_runtime_spawn(rt[i], &f, NULL, fn, arg));
    return f;
}

static void open_all(int workers) {
    for (int i = 0; i < RUNTIMES; i++)
        rt[i] = room_open(workers);
}

static void close_all(void) {
    for (int i = 0; i < RUNTIMES; i++)
        room_close(rt[i]);
}

static int where(void *arg) {
    stel_yield();
    return stel_runtime_current() == rt[(uintptr_t)arg] ? 1 : 0;
}

/* Wherever it is asked for, a fiber runs in the runtime that it was spawned into, and what it spawns too. */
static int spawn_everywhere(void *arg) {
    for (uint64_t n = test_scale(300); n > 0; n--) {
        stel_fiber f[RUNTIMES + 1];
        for (int i = 0; i < RUNTIMES; i++)
            f[i] = spawn_in(i, where, (void *)(intptr_t)i);
        f[RUNTIMES] = spawn(where, arg);
        for (int i = 0; i <= RUNTIMES; i++)
            FIBER_ASSERT_EQ(join(f[i]), 1);
        FIBER_ASSERT(stel_runtime_current() == rt[(uintptr_t)arg]);
    }
    return 0;
}

START_TEST(each_in_its_own) {
    for (int workers = 1; workers <= 2; workers++) {
        stel_fiber f[RUNTIMES];
        open_all(workers);
        for (int i = 0; i < RUNTIMES; i++)
            f[i] = spawn_in(i, spawn_everywhere, (void *)(intptr_t)i);
        for (int i = 0; i < RUNTIMES; i++)
            ck_assert_int_eq(join(f[i]), 0);
        close_all();
    }
}
END_TEST

/* A token goes round through all of them. */
static _Atomic stel_fiber member[RUNTIMES];
static _Atomic uint64_t turn;

static int pass_token_on(void *arg) {
    uintptr_t mine = (uintptr_t)arg;
    uint64_t rounds = test_scale(5000);
    for (int i = 0; i < RUNTIMES; i++)
        while (!atomic_load(&member[i]))
            stel_yield();
    for (uint64_t i = 0; i < rounds; i++) {
        while (atomic_load(&turn) % RUNTIMES != mine)
            FIBER_OK(stel_park());
        atomic_fetch_add(&turn, 1);
        (void)stel_unpark(atomic_load(&member[(mine + 1) % RUNTIMES]));
    }
    return 0;
}

START_TEST(round_and_round) {
    stel_fiber f[RUNTIMES];
    open_all(1);
    for (int i = 0; i < RUNTIMES; i++) {
        f[i] = spawn_in(i, pass_token_on, (void *)(intptr_t)i);
        atomic_store(&member[i], f[i]);
    }
    for (int i = 0; i < RUNTIMES; i++)
        ck_assert_int_eq(join(f[i]), 0);
    ck_assert_uint_eq(atomic_load(&turn), RUNTIMES * test_scale(5000));
    close_all();
}
END_TEST

/* Cancel and join across. */
static int cancel_across(void *arg) {
    uint64_t state = test_seed() ^ (uintptr_t)arg;
    for (uint64_t n = test_scale(1000); n > 0; n--) {
        stel_fiber f = spawn_in((int)test_random(&state, RUNTIMES), until_cancelled, NULL);
        for (uint32_t k = test_random(&state, 5); k > 0; k--)
            stel_yield();
        {
            STEL_TIMEOUT(test_random(&state, 20000));
            int rc = stel_join(f, NULL);
            FIBER_ASSERT_EQ(rc, -ETIMEDOUT);
        }
        FIBER_OK(stel_cancel(f));
        FIBER_ASSERT_EQ(join(f), -ECANCELED);
    }
    return 0;
}

START_TEST(cancelled_across) {
    stel_fiber f[RUNTIMES];
    open_all(2);
    for (int i = 0; i < RUNTIMES; i++)
        f[i] = spawn_in(i, cancel_across, (void *)(intptr_t)i);
    for (int i = 0; i < RUNTIMES; i++)
        ck_assert_int_eq(join(f[i]), 0);
    close_all();
}
END_TEST

/* A plain thread's stel_spawn goes to the oldest that runs. */
START_TEST(the_oldest_one) {
    open_all(1);
    ck_assert_int_eq(join(spawn(where, (void *)0)), 1);
    ck_assert_int_eq(stel_runtime_stop(rt[0], 0), 0);
    ck_assert_int_eq(join(spawn(where, (void *)1)), 1);
    ck_assert_int_eq(stel_runtime_stop(rt[1], 0), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt[1]), 0);
    rt[1] = room_open(1); /* it is the youngest now */
    ck_assert_int_eq(join(spawn(where, (void *)2)), 1);
    ck_assert_int_eq(stel_runtime_destroy(rt[0]), 0);
    room_close(rt[2]);
    ck_assert_int_eq(join(spawn(where, (void *)1)), 1);
    room_close(rt[1]);
    stel_fiber f;
    ck_assert_int_eq(stel_spawn(&f, where, NULL), -EPERM);
}
END_TEST

/* A fiber of one wakes a fiber of another, whose runtime ends at once: the waker must not touch it after that. */
static int park_once(void *arg) {
    raise_flag(arg);
    return stel_park();
}

static int wake_and_forget(void *arg) {
    return stel_unpark(*(stel_fiber *)arg);
}

START_TEST(woken_at_the_end) {
    rt[0] = room_open(2);
    for (uint64_t n = test_scale(300); n > 0; n--) {
        stel_config c = room_config(1);
        stel_runtime *brief = room_open_with(&c);
        flag begun = 0;
        stel_fiber f;
        ck_assert_int_eq(stel_runtime_spawn(brief, &f, NULL, park_once, &begun), 0);
        EVENTUALLY(is_raised(&begun));
        stel_fiber waker = spawn_in(0, wake_and_forget, &f);
        ck_assert_int_eq(join(f), 0);
        room_close(brief);
        ck_assert_int_eq(join(waker), 0);
    }
    room_close(rt[0]);
}
END_TEST

/* They come and go, in several threads at once, while others run on. */
static int busy_for_a_while(void *arg) {
    stel_fiber f[20];
    for (int i = 0; i < 20; i++)
        f[i] = spawn(give, arg);
    FIBER_OK(stel_sleep(STEL_US(200)));
    for (int i = 0; i < 20; i++)
        FIBER_ASSERT_EQ(join(f[i]), 6);
    return 6;
}

static void *come_and_go(void *arg) {
    for (uint64_t n = test_scale(60); n > 0; n--)
        FIBER_ASSERT_EQ(run_in_runtime(1 + (int)(n % 2), busy_for_a_while, arg), 6);
    return NULL;
}

START_TEST(come_and_gone) {
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        t[i] = beside(come_and_go, (void *)6);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
}
END_TEST

TEST_MAIN("sched/several_runtimes", each_in_its_own, round_and_round, cancelled_across, the_oldest_one,
          woken_at_the_end, come_and_gone)
