/* Spawning: results, options and their limits, names and other things that can be asked about a fiber, from fibers and
 * from plain threads. */
#include "room.h"

/* ---- ordinary use ---- */

static int spawn_and_join(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(join(spawn(give, (void *)7)), 7);
    FIBER_ASSERT_EQ(join(spawn(give, (void *)-EIO)), -EIO);
    FIBER_ASSERT_EQ(join(spawn(give, (void *)INT32_MAX)), INT32_MAX);
    FIBER_ASSERT_EQ(join(spawn(give, (void *)(intptr_t)INT32_MIN)), INT32_MIN);
    return 0;
}

START_TEST(results) {
    ck_assert_int_eq(run_in_runtime(1, spawn_and_join, NULL), 0);
    ck_assert_int_eq(run_in_runtime(4, spawn_and_join, NULL), 0);
}
END_TEST

/* The argument is passed on as it is, and *out is written before the fiber can see it. */
typedef struct own_handle {
    stel_fiber self;
    void *arg;
} own_handle;

static int check_own_handle(void *arg) {
    own_handle *h = arg;
    FIBER_ASSERT_EQ(h->self, stel_self());
    FIBER_ASSERT(h->arg == arg);
    return 1;
}

static int spawn_own_handles(void *arg) {
    (void)arg;
    for (uint64_t i = test_scale(20000); i > 0; i--) {
        own_handle h = { 0 };
        h.arg = &h;
        FIBER_OK(stel_spawn(&h.self, check_own_handle, &h));
        if (i % 3 == 0) stel_yield();
        FIBER_ASSERT_EQ(join(h.self), 1);
    }
    return 0;
}

START_TEST(handle_is_known_before_the_run) {
    ck_assert_int_eq(run_in_runtime(4, spawn_own_handles, NULL), 0);
    stel_runtime *rt = room_open(2);
    for (uint64_t i = test_scale(2000); i > 0; i--) {
        own_handle h = { 0 };
        h.arg = &h;
        ck_assert_int_eq(stel_runtime_spawn(rt, &h.self, NULL, check_own_handle, &h), 0);
        ck_assert_int_eq(join(h.self), 1);
    }
    room_close(rt);
}
END_TEST

static atomic_uint_fast64_t ended;

static int count_end(void *arg) {
    if (arg) stel_yield();
    atomic_fetch_add(&ended, 1);
    return 0;
}

static int go_many(void *arg) {
    uint64_t n = *(uint64_t *)arg;
    for (uint64_t i = 0; i < n; i++) {
        if (i % 2)
            FIBER_OK(stel_go(count_end, i % 3 ? arg : NULL));
        else
            FIBER_OK(stel_spawn_with(NULL, NULL, count_end, arg));
    }
    return 0;
}

START_TEST(detached) {
    uint64_t n = test_scale(50000);
    for (int workers = 1; workers <= 4; workers += 3) {
        atomic_store(&ended, 0);
        ck_assert_int_eq(run_in_runtime(workers, go_many, &n), 0); /* returns when all have ended */
        ck_assert_uint_eq(atomic_load(&ended), n);
    }
}
END_TEST

static int many_at_once(void *arg) {
    size_t n = (size_t)test_scale(30000);
    stel_fiber *f = malloc(n * sizeof *f);
    (void)arg;
    FIBER_ASSERT(f);
    for (size_t i = 0; i < n; i++)
        f[i] = spawn(give, (void *)(uintptr_t)i);
    for (size_t i = n; i-- > 0;)
        FIBER_ASSERT_EQ(join(f[i]), i);
    free(f);
    return 0;
}

START_TEST(thousands) {
    ck_assert_int_eq(run_in_runtime(1, many_at_once, NULL), 0);
    ck_assert_int_eq(run_in_runtime(4, many_at_once, NULL), 0);
}
END_TEST

/* ---- errors ---- */

static void refuse(stel_spawn_options o, int code) {
    stel_fiber f = 99;
    FIBER_ASSERT_EQ(stel_spawn_with(&f, &o, give, NULL), code);
    FIBER_ASSERT_EQ(f, 99);
    FIBER_ASSERT_EQ(stel_spawn_with(NULL, &o, give, NULL), code);
}

static void refusals(void) {
    const size_t size = sizeof(stel_spawn_options);
    stel_fiber f;
    FIBER_ASSERT_EQ(stel_spawn(NULL, give, NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_spawn(&f, NULL, NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_spawn_with(&f, NULL, NULL, NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_go(NULL, NULL), -EINVAL);
    refuse((stel_spawn_options){ 0 }, -EINVAL);
    refuse((stel_spawn_options){ .size = 8 }, -EINVAL);
    refuse((stel_spawn_options){ .size = size, .flags = 1u << 3 }, -EINVAL);
    refuse((stel_spawn_options){ .size = size, .flags = 1u << 31 }, -EINVAL);
    refuse((stel_spawn_options){ .size = size, .priority = -5 }, -EINVAL);
    refuse((stel_spawn_options){ .size = size, .priority = 4 }, -EINVAL);
    refuse((stel_spawn_options){ .size = size, .place = STEL_WORKER(2) }, -EINVAL);
    refuse((stel_spawn_options){ .size = size, .place = INT32_MAX }, -EINVAL);
    refuse((stel_spawn_options){ .size = size, .place = STEL_NODE(100000) }, -EINVAL);
    refuse((stel_spawn_options){ .size = size, .place = INT32_MIN }, -EINVAL);
    refuse((stel_spawn_options){ .size = size, .stack_bytes = SIZE_MAX }, -EINVAL);
    refuse((stel_spawn_options){ .size = size, .stack_bytes = (size_t)1 << 30 }, -EINVAL);
}

static int refusals_in_fiber(void *arg) {
    refusals();
    FIBER_ASSERT_EQ(stel_runtime_pending(arg), 1); /* nothing of it was left behind */
    FIBER_ASSERT_EQ(join(spawn_with((stel_spawn_options){ .place = STEL_WORKER(1) }, give, (void *)3)), 3);
    FIBER_ASSERT_EQ(join(spawn_with((stel_spawn_options){ .place = STEL_NODE(0) }, give, (void *)4)), 4);
    FIBER_ASSERT_EQ(join(spawn_with((stel_spawn_options){ .stack_bytes = 1 }, give, (void *)5)), 5);
    return 0;
}

START_TEST(arguments_that_cannot_be) {
    stel_runtime *rt = room_open(2);
    stel_fiber f;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, refusals_in_fiber, rt), 0);
    ck_assert_int_eq(join(f), 0);
    refusals(); /* the same from a plain thread */
    ck_assert_int_eq(stel_runtime_spawn(NULL, &f, NULL, give, NULL), -EINVAL);
    room_close(rt);
}
END_TEST

START_TEST(plain_thread) {
    stel_fiber f = 0;
    ck_assert_int_eq(stel_spawn(&f, give, (void *)1), -EPERM); /* nothing runs */
    ck_assert_int_eq(stel_go(give, NULL), -EPERM);
    ck_assert_uint_eq(stel_self(), 0);
    ck_assert_int_eq(stel_worker_id(), -EPERM);
    ck_assert_int_eq(stel_set_name("x"), -EPERM);
    ck_assert_int_eq(stel_set_priority(0), -EPERM);
    ck_assert(!stel_cancelled());
    stel_yield();

    stel_runtime *rt = room_open(2);
    ck_assert_int_eq(join(spawn(give, (void *)2)), 2);
    atomic_store(&ended, 0);
    ck_assert_int_eq(stel_go(count_end, NULL), 0);
    EVENTUALLY(atomic_load(&ended) == 1);
    room_close(rt);
    ck_assert_int_eq(stel_spawn(&f, give, (void *)1), -EPERM);
}
END_TEST

static void *spawn_from_thread(void *arg) {
    for (uint64_t i = test_scale(3000); i > 0; i--) {
        stel_fiber f;
        int result = 0;
        FIBER_OK(stel_runtime_spawn(arg, &f, NULL, give, (void *)(uintptr_t)i));
        FIBER_OK(stel_join(f, &result));
        FIBER_ASSERT_EQ(result, i);
    }
    return NULL;
}

START_TEST(many_threads) {
    stel_runtime *rt = room_open(2);
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        t[i] = beside(spawn_from_thread, rt);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    ck_assert_uint_eq(stel_runtime_pending(rt), 0);
    room_close(rt);
}
END_TEST

static int up_to_the_limit(void *arg) {
    stel_fiber f[15], refused = 0;
    (void)arg;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 15; i++)
            f[i] = spawn(until_cancelled, NULL);
        FIBER_ASSERT_EQ(stel_spawn(&refused, give, NULL), -EAGAIN);
        FIBER_ASSERT_EQ(stel_go(give, NULL), -EAGAIN);
        FIBER_ASSERT_EQ(refused, 0);
        for (int i = 0; i < 15; i++) {
            FIBER_OK(stel_cancel(f[i]));
            FIBER_ASSERT_EQ(join(f[i]), -ECANCELED);
        }
    }
    return 0;
}

START_TEST(max_fibers) {
    stel_config c = room_config(2);
    c.max_fibers = 16;
    ck_assert_int_eq(run_in_runtime_with(&c, up_to_the_limit, NULL), 0);
}
END_TEST

static int report_limits(void *arg) {
    FIBER_ASSERT_EQ(stel_deadline(), STEL_FOREVER);
    FIBER_ASSERT(!stel_cancelled());
    FIBER_OK(stel_sleep(1));
    return arg != NULL;
}

/* A cancelled fiber whose time is up spawns as any other does, and what it spawns knows nothing of that. */
static int spawn_at_the_end(void *arg) {
    (void)arg;
    stel_cancel(stel_self());
    STEL_TIMEOUT(LONG_PAST);
    FIBER_ASSERT(stel_sleep(1) < 0);
    stel_fiber f = spawn(report_limits, "");
    STEL_SHIELD(STEL_SEC(60));
    FIBER_ASSERT_EQ(join(f), 1);
    return 0;
}

START_TEST(limits_are_not_inherited) {
    ck_assert_int_eq(run_in_runtime(1, spawn_at_the_end, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, spawn_at_the_end, NULL), 0);
}
END_TEST

/* Background fibers do not keep a runtime alive: they are cancelled when the counted ones have ended. */
static atomic_int background_cancelled;

static int background(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(stel_sleep(STEL_FOREVER), -ECANCELED);
    FIBER_ASSERT(stel_cancelled());
    atomic_fetch_add(&background_cancelled, 1);
    return 0;
}

static int spawn_background(void *arg) {
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    o.flags = STEL_BACKGROUND;
    for (int i = 0; i < 10; i++)
        FIBER_OK(stel_spawn_with(NULL, &o, background, NULL));
    FIBER_ASSERT_EQ(join(spawn(give, (void *)1)), 1);
    if (arg) FIBER_OK(stel_sleep(STEL_MS(2)));
    FIBER_ASSERT_EQ(atomic_load(&background_cancelled), 0);
    return 5;
}

START_TEST(in_the_background) {
    for (int workers = 1; workers <= 3; workers++) {
        ck_assert_int_eq(run_in_runtime(workers, spawn_background, NULL), 5);
        ck_assert_int_eq(atomic_exchange(&background_cancelled, 0), 10);
        ck_assert_int_eq(run_in_runtime(workers, spawn_background, ""), 5);
        ck_assert_int_eq(atomic_exchange(&background_cancelled, 0), 10);
    }
}
END_TEST

static int fork_in_fiber(void *arg) {
    (void)arg;
    pid_t child = fork();
    FIBER_ASSERT(child >= 0);
    if (child == 0) {
        stel_fiber f;
        bool right = stel_spawn(&f, give, NULL) == -EPERM && stel_go(give, NULL) == -EPERM;
        _exit(right ? 0 : 1);
    }
    int status = -1;
    FIBER_ASSERT_EQ(waitpid(child, &status, 0), child);
    return status;
}

START_TEST(after_fork) {
    ck_assert_int_eq(run_in_runtime(1, fork_in_fiber, NULL), 0);
    stel_runtime *rt = room_open(1);
    pid_t child = fork();
    if (child == 0) {
        stel_fiber f;
        _exit(stel_spawn(&f, give, NULL) == -EPERM && stel_runtime_spawn(rt, &f, NULL, give, NULL) == -EPERM ? 0 : 1);
    }
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    room_close(rt);
}
END_TEST

TEST_MAIN("sched/basic_spawn", results, handle_is_known_before_the_run, detached, thousands, arguments_that_cannot_be,
          plain_thread, many_threads, max_fibers, limits_are_not_inherited, in_the_background, after_fork)
