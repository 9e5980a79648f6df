/* What can be asked about a fiber, and what it can say of itself: handle, name, priority, age, worker. */
#include "room.h"

static const char long_name[] = "abcdefghijklmnopqrstuvwxyz0123456789"; /* 36: cut to 31 */

static void check_name(stel_fiber f, const char *wanted) {
    char name[64];
    memset(name, '#', sizeof name);
    FIBER_OK(stel_fiber_name(f, name, sizeof name));
    if (strcmp(name, wanted) != 0) FIBER_FAIL("name is \"%s\", not \"%s\"", name, wanted);
}

static int names_in_fiber(void *arg) {
    (void)arg;
    stel_fiber self = stel_self();
    check_name(self, "");
    FIBER_OK(stel_set_name(NULL));
    check_name(self, "");
    char given[] = "first";
    FIBER_OK(stel_set_name(given));
    given[0] = '?'; /* it was copied */
    check_name(self, "first");
    FIBER_OK(stel_set_name(long_name));
    check_name(self, "abcdefghijklmnopqrstuvwxyz01234");
    FIBER_OK(stel_set_name("s"));
    check_name(self, "s");
    char small[4] = "###";
    FIBER_OK(stel_set_name("second"));
    FIBER_OK(stel_fiber_name(self, small, sizeof small));
    FIBER_ASSERT(strcmp(small, "sec") == 0);
    FIBER_OK(stel_fiber_name(self, small, 1));
    FIBER_ASSERT(small[0] == 0);
    FIBER_ASSERT_EQ(stel_fiber_name(self, NULL, 8), -EINVAL);
    FIBER_ASSERT_EQ(stel_fiber_name(self, small, 0), -EINVAL);
    FIBER_OK(stel_set_name(""));
    check_name(self, "");

    char name[] = "worker of mine";
    stel_fiber f = spawn_with((stel_spawn_options){ .name = name }, until_cancelled, NULL);
    memset(name, 'x', sizeof name - 1);
    check_name(f, "worker of mine");
    FIBER_OK(stel_cancel(f));
    join(f);
    FIBER_ASSERT_EQ(stel_fiber_name(f, small, sizeof small), -ESRCH);
    f = spawn_with((stel_spawn_options){ .name = long_name }, give, NULL);
    check_name(f, "abcdefghijklmnopqrstuvwxyz01234");
    join(f);
    f = spawn_with((stel_spawn_options){ .name = "" }, give, NULL);
    check_name(f, "");
    join(f);
    /* A block's next fiber does not inherit the name. */
    for (int i = 0; i < 100; i++) {
        join(spawn_with((stel_spawn_options){ .name = "gone" }, give, NULL));
        f = spawn(give, NULL);
        check_name(f, "");
        join(f);
    }
    return 0;
}

START_TEST(names) {
    ck_assert_int_eq(run_in_runtime(1, names_in_fiber, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, names_in_fiber, NULL), 0);
    stel_runtime *rt = room_open(1);
    stel_fiber f = spawn_with((stel_spawn_options){ .name = "seen by a thread" }, until_cancelled, NULL);
    check_name(f, "seen by a thread");
    stel_cancel(f);
    join(f);
    room_close(rt);
}
END_TEST

/* Strangers read names while they change and while their fibers end. */
static atomic_uint_fast64_t watched;
static flag watching_over;

static void *watch_names(void *arg) {
    (void)arg;
    while (!is_raised(&watching_over)) {
        char name[32];
        if (stel_fiber_name(atomic_load(&watched), name, sizeof name) < 0) continue;
        for (size_t i = 0; name[i]; i++)
            FIBER_ASSERT_EQ(name[i], name[0]); /* never half of one and half of another */
    }
    return NULL;
}

static int change_names(void *arg) {
    (void)arg;
    char name[32] = "";
    for (int c = 'a'; c <= 'z'; c++) {
        memset(name, c, 31 - (size_t)(c - 'a'));
        name[31 - (c - 'a')] = 0;
        FIBER_OK(stel_set_name(name));
        stel_yield();
    }
    return 0;
}

static int names_come_and_go(void *arg) {
    (void)arg;
    for (uint64_t i = test_scale(2000); i > 0; i--) {
        stel_fiber f = spawn(change_names, NULL);
        atomic_store(&watched, f);
        join(f);
    }
    raise_flag(&watching_over);
    return 0;
}

START_TEST(names_read_by_strangers) {
    pthread_t t = beside(watch_names, NULL);
    ck_assert_int_eq(run_in_runtime(2, names_come_and_go, NULL), 0);
    pthread_join(t, NULL);
}
END_TEST

static void check_priority(stel_fiber f, int wanted) {
    int have = 99;
    FIBER_OK(stel_fiber_priority(f, &have));
    FIBER_ASSERT_EQ(have, wanted);
}

static int priorities_in_fiber(void *arg) {
    (void)arg;
    check_priority(stel_self(), 0);
    for (int p = STEL_PRIORITY_MOST_URGENT; p <= STEL_PRIORITY_LEAST_URGENT; p++) {
        FIBER_OK(stel_set_priority(p));
        check_priority(stel_self(), p);
        stel_yield();
        check_priority(stel_self(), p);
        stel_fiber f = spawn_with((stel_spawn_options){ .priority = p, .flags = STEL_BACKGROUND | STEL_NO_MIGRATE },
                                  give, (void *)1);
        check_priority(f, p);
        FIBER_ASSERT_EQ(join(f), 1);
        int out = 0;
        FIBER_ASSERT_EQ(stel_fiber_priority(f, &out), -ESRCH);
    }
    FIBER_ASSERT_EQ(stel_set_priority(-5), -EINVAL);
    FIBER_ASSERT_EQ(stel_set_priority(4), -EINVAL);
    check_priority(stel_self(), STEL_PRIORITY_LEAST_URGENT);
    FIBER_ASSERT_EQ(stel_fiber_priority(stel_self(), NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_fiber_priority(0, &(int){ 0 }), -ESRCH);
    return 0;
}

START_TEST(priorities) {
    ck_assert_int_eq(run_in_runtime(1, priorities_in_fiber, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, priorities_in_fiber, NULL), 0);
}
END_TEST

static int ages_in_fiber(void *arg) {
    int64_t before = *(int64_t *)arg, last = before;
    for (int i = 0; i < 200; i++) {
        stel_fiber f = spawn(give, NULL);
        int64_t created = stel_fiber_created(f);
        FIBER_ASSERT(created >= last && created <= stel_now());
        last = created;
        if (i % 20 == 0) FIBER_OK(stel_sleep(STEL_US(100)));
        FIBER_ASSERT_EQ(stel_fiber_created(f), created);
        join(f);
        FIBER_ASSERT_EQ(stel_fiber_created(f), -ESRCH);
    }
    FIBER_ASSERT(last > before + STEL_US(900)); /* the clock moves on with the sleeps */
    FIBER_ASSERT_EQ(stel_fiber_created(0), -ESRCH);
    return 0;
}

START_TEST(ages) {
    int64_t before = stel_now();
    ck_assert_int_eq(run_in_runtime(1, ages_in_fiber, &before), 0);
}
END_TEST

static atomic_uint seen_workers;

static int who_am_i(void *arg) {
    for (uint64_t i = test_scale(200); i > 0; i--) {
        int id = stel_worker_id();
        FIBER_ASSERT(id >= 0 && id < 3);
        atomic_fetch_or(&seen_workers, 1u << id);
        FIBER_ASSERT_EQ(stel_self(), *(stel_fiber *)arg);
        if (i % 7 == 0)
            FIBER_OK(stel_sleep(STEL_US(50)));
        else
            stel_yield();
    }
    return 0;
}

static int who_are_we(void *arg) {
    static stel_fiber f[64];
    (void)arg;
    for (int i = 0; i < 64; i++)
        FIBER_OK(stel_spawn(&f[i], who_am_i, &f[i]));
    for (int i = 0; i < 64; i++)
        for (int k = 0; k < i; k++)
            FIBER_ASSERT(f[i] != f[k]);
    for (int i = 0; i < 64; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    return 0;
}

START_TEST(self_and_worker) {
    ck_assert_int_eq(run_in_runtime(3, who_are_we, NULL), 0);
    ck_assert_uint_ne(atomic_load(&seen_workers), 0);
}
END_TEST

TEST_MAIN("sched/metadata", names, names_read_by_strangers, priorities, ages, self_and_worker)
