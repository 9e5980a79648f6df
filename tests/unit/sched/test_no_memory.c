/* Without memory: for control blocks, queues, extras, stacks and threads' waiters. Each call says so, nothing that was
 * promised is lost, nothing hangs, and when memory is there again all is well. */
#include "host/fault.h"
#include "room.h"

static int rest(void *arg) {
    FIBER_OK(stel_sleep(STEL_US(100)));
    return (int)(intptr_t)arg;
}

/* Also where it belongs. */
static int rest_at(void *arg) {
    FIBER_ASSERT_EQ(stel_worker_id(), (int)(intptr_t)arg);
    FIBER_OK(stel_sleep(STEL_US(100)));
    return 1;
}

/* Like run_in_runtime, but with all threads there, and this one's waiter too, before fn takes the memory away: what it
 * plans to fail is to be its own. */
static int run_started(int workers, stel_fn *fn, void *arg) {
    stel_runtime *rt = room_open(workers);
    stel_fiber f = 0;
    FIBER_OK(stel_sleep(1));
    FIBER_OK(stel_runtime_spawn(rt, &f, NULL, fn, arg));
    int result = join(f);
    room_close(rt);
    return result;
}

/* ---- control blocks ---- */

static int until_blocks_run_out(void *arg) {
    enum { MOST = 20000 };
    static stel_fiber f[MOST];
    (void)arg;
    for (int round = 0; round < 3; round++) {
        int n = 0, rc = 0;
        stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
        while (n < MOST && (rc = stel_spawn(&f[n], give, (void *)7)) == 0)
            n++;
        FIBER_ASSERT_EQ(rc, -ENOMEM);
        FIBER_ASSERT_EQ(stel_go(give, NULL), -ENOMEM);
        stel__fault_clear();
        if (round == 1) FIBER_OK(stel_spawn(&f[n++], give, (void *)7));
        FIBER_ASSERT(n > 0 || round == 0);
        for (int i = 0; i < n; i++)
            FIBER_ASSERT_EQ(join(f[i]), 7);
    }
    FIBER_ASSERT_EQ(stel_runtime_pending(stel_runtime_current()), 1);
    return 0;
}

START_TEST(control_blocks) {
    ck_assert_int_eq(run_started(1, until_blocks_run_out, NULL), 0);
    ck_assert_int_eq(run_started(2, until_blocks_run_out, NULL), 0);
}
END_TEST

/* The queues cannot grow: what does not fit goes elsewhere, and runs. */
static int spawn_more_than_fits(void *arg) {
    enum { N = 6000 };
    static stel_fiber f[N];
    if (!arg) { /* the blocks for it */
        for (int i = 0; i < N; i++)
            f[i] = spawn(give, NULL);
        for (int i = 0; i < N; i++)
            join(f[i]);
        return 0;
    }
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    int n = 0;
    for (; n < N && stel_spawn(&f[n], give, (void *)(intptr_t)n) == 0; n++) {
    }
    FIBER_ASSERT(n > 1000);
    for (int i = 0; i < n; i++)
        FIBER_ASSERT_EQ(join(f[i]), i);
    stel__fault_clear();
    return 0;
}

START_TEST(queues) {
    for (int workers = 1; workers <= 2; workers++) {
        ck_assert_int_eq(run_started(workers, spawn_more_than_fits, NULL), 0);
        ck_assert_int_eq(run_started(workers, spawn_more_than_fits, ""), 0);
    }
}
END_TEST

/* ---- extras ---- */

static int no_extras(void *arg) {
    (void)arg;
    stel_key key;
    stel_fiber f = 0;
    stel_spawn_options named = { sizeof named, .name = "named" };
    stel_spawn_options fp = { sizeof fp, .flags = STEL_FP_ENVIRONMENT };
    FIBER_OK(stel_local_key(&key, NULL));
    join(spawn(give, NULL)); /* there are blocks */
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    FIBER_ASSERT_EQ(stel_spawn_with(&f, &named, give, NULL), -ENOMEM);
    FIBER_ASSERT_EQ(stel_spawn_with(&f, &fp, give, NULL), -ENOMEM);
    FIBER_ASSERT_EQ(stel_set_name("me"), -ENOMEM);
    FIBER_OK(stel_set_name(""));
    FIBER_ASSERT_EQ(stel_local_set(key, "x"), -ENOMEM);
    FIBER_ASSERT(stel_local_get(key) == NULL);
    stel__fault_clear();
    stel__fault_set(STEL__FAULT_ALLOC, 2, ENOMEM, true); /* the extra can be had, the values cannot */
    FIBER_ASSERT_EQ(stel_local_set(key, "x"), -ENOMEM);
    stel__fault_clear();
    FIBER_OK(stel_local_set(key, "x"));
    FIBER_ASSERT_EQ(stel_runtime_pending(stel_runtime_current()), 1);
    FIBER_ASSERT_EQ(join(spawn_with(named, give, (void *)2)), 2);
    return 0;
}

START_TEST(extras) {
    ck_assert_int_eq(run_started(1, no_extras, NULL), 0);
}
END_TEST

/* ---- stacks ---- */

/* Stacks come in batches, so some are there before the memory is gone. */
static void no_more_stacks(void) {
    stel__fault_set(STEL__FAULT_MMAP, 1, ENOMEM, true);
}

/* There is memory again; fibers that still wait for their stacks may have to have theirs first. */
static int recovered(void) {
    stel_fiber f;
    stel__fault_clear();
    for (int64_t give_up = stel_after(STEL_SEC(60)); stel_spawn(&f, rest, (void *)1) < 0; check_fiber_nap())
        FIBER_ASSERT(stel_now() < give_up);
    return join(f);
}

enum { MANY = 900 };
static stel_fiber crowd[MANY];

/* Those that have a stack end, and the others get theirs. */
static int wait_for_stacks(void *arg) {
    int n = 0, none = 0, rc = 0, workers = (int)(intptr_t)arg;
    for (int i = 0; i < MANY; i++) { /* blocks, but no stacks: those are bound at the first run */
        int worker = i / 3 % workers;
        crowd[i] =
            i % 3 ? spawn(rest, (void *)1)
                  : spawn_with((stel_spawn_options){ .place = STEL_WORKER(worker) }, rest_at, (void *)(intptr_t)worker);
    }
    no_more_stacks();
    stel_yield();
    for (n = 0; n < 10; n++) { /* refused, or taken: nothing in between */
        stel_fiber f;
        rc = stel_spawn(&f, rest, (void *)1);
        FIBER_ASSERT(rc == 0 || rc == -ENOMEM);
        if (rc == 0) FIBER_OK(stel_detach(f));
    }
    for (int i = 0; i < MANY; i++) {
        rc = join(crowd[i]);
        FIBER_ASSERT(rc == 1 || rc == -ENOMEM);
        none += rc == -ENOMEM;
    }
    FIBER_ASSERT_EQ(none, 0); /* there was always somebody who left a stack behind */
    FIBER_ASSERT_EQ(recovered(), 1);
    return 0;
}

START_TEST(stacks_come_free) {
    ck_assert_int_eq(run_started(1, wait_for_stacks, (void *)1), 0);
    ck_assert_int_eq(run_started(3, wait_for_stacks, (void *)3), 0);
}
END_TEST

/* Stacks that were left behind on one worker, which sleeps on them by now, are as good for fibers of the other. */
enum { BATCH = 64 }; /* all of the first region, and what a worker keeps */
static _Atomic int begun;

static int wait_to_go_on(void *arg) {
    atomic_fetch_add(&begun, 1);
    FIBER_ASSERT_EQ(stel_worker_id(), (int)(intptr_t)arg);
    FIBER_OK(stel_park());
    return 1;
}

/* Each has a stack before the first gives one back. While some wait for theirs no more can be spawned. */
static void all_on(int worker) {
    stel_spawn_options o = { sizeof o, .place = STEL_WORKER(worker), .stack_bytes = 100 << 10 };
    atomic_store(&begun, 0);
    for (int i = 0; i < BATCH; i++)
        EVENTUALLY(stel_spawn_with(&crowd[i], &o, wait_to_go_on, (void *)(intptr_t)worker) == 0);
    EVENTUALLY(atomic_load(&begun) == BATCH);
    for (int i = 0; i < BATCH; i++)
        FIBER_OK(stel_unpark(crowd[i]));
    for (int i = 0; i < BATCH; i++)
        FIBER_ASSERT_EQ(join(crowd[i]), 1);
}

static int move_stacks_around(void *arg) {
    all_on(1);
    no_more_stacks();
    for (int round = 0; round < 20; round++) {
        check_fiber_nap();
        all_on(round % 2);
    }
    stel__fault_clear();
    return (int)(intptr_t)arg;
}

START_TEST(stacks_lie_elsewhere) {
    ck_assert_int_eq(run_started(2, move_stacks_around, NULL), 0);
    ck_assert_int_eq(run_started(4, move_stacks_around, NULL), 0);
}
END_TEST

/* Those that have a stack wait for those that have none: that must end, too. */
static _Atomic int sleeping_ones;

static int wait_for_the_last(void *arg) {
    (void)arg;
    atomic_fetch_add(&sleeping_ones, 1);
    return stel_park();
}

static int hold_all_stacks(void *arg) {
    (void)arg;
    int ran = 0;
    for (int i = 0; i < MANY; i++)
        crowd[i] = spawn(wait_for_the_last, NULL);
    stel_fiber last = spawn_with((stel_spawn_options){ .priority = 3, .name = "last" }, rest, (void *)1);
    no_more_stacks();
    int result = join(last); /* all others are parked, or have no stack */
    FIBER_ASSERT(result == 1 || result == -ENOMEM);
    for (int i = 0; i < MANY; i++)
        (void)stel_unpark(crowd[i]);
    for (int i = 0; i < MANY; i++) {
        result = join(crowd[i]);
        FIBER_ASSERT(result == 0 || result == -ENOMEM);
        ran += result == 0;
    }
    FIBER_ASSERT_EQ(ran, atomic_load(&sleeping_ones));
    FIBER_ASSERT_EQ(recovered(), 1);
    atomic_store(&sleeping_ones, 0);
    return 0;
}

START_TEST(stacks_never_come_free) {
    ck_assert_int_eq(run_started(1, hold_all_stacks, NULL), 0);
    ck_assert_int_eq(run_started(3, hold_all_stacks, NULL), 0);
}
END_TEST

/* Not even one: a fiber that is alone. */
START_TEST(not_even_one_stack) {
    stel_runtime *rt = room_open(2);
    stel_fiber f[20];
    int spawned = 0;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f[0], NULL, give, (void *)1), 0); /* control blocks, there are */
    ck_assert_int_eq(join(f[0]), 1);
    for (int i = 0; i < 20; i++) {
        stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
        o.stack_bytes = 3 << 20; /* nobody has had one of this size before */
        no_more_stacks();
        int rc = stel_runtime_spawn(rt, &f[spawned], &o, give, (void *)1);
        ck_assert(rc == 0 || rc == -ENOMEM);
        spawned += rc == 0;
    }
    ck_assert_int_gt(spawned, 0);
    for (int i = 0; i < spawned; i++)
        ck_assert_int_eq(join(f[i]), -ENOMEM);
    stel__fault_clear();
    EVENTUALLY(stel_runtime_spawn(rt, &f[0], NULL, give, (void *)1) == 0);
    ck_assert_int_eq(join(f[0]), 1);
    room_close(rt);
}
END_TEST

/* ---- plain threads ---- */

static stel_fiber of_thread;

static void *no_waiter(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(stel_sleep(1), -ENOMEM);
    FIBER_ASSERT_EQ(stel_sleep_until(0), -ENOMEM);
    FIBER_ASSERT_EQ(stel_join(of_thread, NULL), -ENOMEM);
    FIBER_ASSERT_EQ(stel_deadline(), STEL_FOREVER);
    {
        STEL_TIMEOUT(-1);
        STEL_SHIELD(1);
        FIBER_ASSERT_EQ(stel_sleep(1), -ENOMEM);
    }
    FIBER_ASSERT(!stel_timed_out() && !stel_cancelled());
    stel_yield();
    return NULL;
}

START_TEST(threads) {
    stel_runtime *rt = room_open(1);
    of_thread = spawn(give, (void *)4);
    EVENTUALLY(stel_runtime_pending(rt) == 0); /* it has ended, with a stack */
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    pthread_join(beside(no_waiter, NULL), NULL);
    stel__fault_clear();
    ck_assert_int_eq(join(of_thread), 4);
    room_close(rt);
}
END_TEST

TEST_MAIN("sched/no_memory", control_blocks, queues, extras, stacks_come_free, stacks_lie_elsewhere,
          stacks_never_come_free, not_even_one_stack, threads)
