/* Where fibers run: STEL_WORKER(i) for good, STEL_NO_MIGRATE on the worker of the first run, STEL_NODE(i). */
#include "room.h"

enum { WORKERS = 3 };

/* Wait in every way there is, and look where we are after each. */
static void stay(int worker, uint64_t seed) {
    uint64_t state = test_seed() ^ seed;
    for (uint64_t i = test_scale(40); i > 0; i--) {
        FIBER_ASSERT_EQ(stel_worker_id(), worker);
        switch (test_random(&state, 5)) {
        case 0:
            stel_yield();
            break;
        case 1:
            FIBER_OK(stel_sleep(test_random(&state, 200000)));
            break;
        case 2:
            FIBER_ASSERT_EQ(join(spawn(give, (void *)1)), 1);
            break;
        case 3:
            FIBER_OK(stel_unpark(stel_self()));
            FIBER_OK(stel_park());
            break;
        default: {
            STEL_TIMEOUT(test_random(&state, 50000));
            FIBER_ASSERT_EQ(stel_park(), -ETIMEDOUT);
        }
        }
    }
}

static int stay_at(void *arg) {
    stay((int)(intptr_t)arg, stel_self());
    return 1;
}

static int stay_where_begun(void *arg) {
    (void)arg;
    stay(stel_worker_id(), stel_self());
    return 1;
}

static int placed(void *arg) {
    stel_fiber f[60];
    (void)arg;
    for (int i = 0; i < 60; i++) {
        stel_spawn_options o = { .place = STEL_WORKER(i % WORKERS), .priority = i % 8 - 4 };
        f[i] = spawn_with(o, stay_at, (void *)(intptr_t)(i % WORKERS));
    }
    for (int i = 0; i < 60; i++)
        FIBER_ASSERT_EQ(join(f[i]), 1);
    return 0;
}

START_TEST(on_a_worker) {
    ck_assert_int_eq(run_in_runtime(WORKERS, placed, NULL), 0);
}
END_TEST

START_TEST(on_a_worker_from_outside) {
    stel_runtime *rt = room_open(WORKERS);
    stel_fiber f[30];
    for (int i = 0; i < 30; i++) {
        stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
        o.place = STEL_WORKER(i % WORKERS);
        if (i % 2)
            ck_assert_int_eq(stel_spawn_with(&f[i], &o, stay_at, (void *)(intptr_t)(i % WORKERS)), 0);
        else
            ck_assert_int_eq(stel_runtime_spawn(rt, &f[i], &o, stay_at, (void *)(intptr_t)(i % WORKERS)), 0);
        if (i % 10 == 0) check_fiber_nap(); /* the workers are asleep */
    }
    for (int i = 0; i < 30; i++)
        ck_assert_int_eq(join(f[i]), 1);
    room_close(rt);
}
END_TEST

static int unmoved(void *arg) {
    stel_fiber f[60];
    (void)arg;
    for (int i = 0; i < 60; i++)
        f[i] =
            spawn_with((stel_spawn_options){ .flags = STEL_NO_MIGRATE, .priority = i % 3 - 1 }, stay_where_begun, NULL);
    for (int i = 0; i < 60; i++)
        FIBER_ASSERT_EQ(join(f[i]), 1);
    return 0;
}

START_TEST(where_it_began) {
    ck_assert_int_eq(run_in_runtime(WORKERS, unmoved, NULL), 0);
}
END_TEST

/* Its worker is held by another fiber: nobody else may run it, and it runs when the worker is free again. */
typedef struct queue_behind {
    flag holding, let_go;
    atomic_int ran;
} queue_behind;

static int hold(void *arg) {
    queue_behind *q = arg;
    raise_flag(&q->holding);
    hog_until(&q->let_go);
    FIBER_ASSERT_EQ(atomic_load(&q->ran), 0);
    return stel_worker_id();
}

static int run_behind(void *arg) {
    queue_behind *q = arg;
    FIBER_ASSERT(is_raised(&q->let_go));
    atomic_fetch_add(&q->ran, 1);
    return stel_worker_id();
}

static int behind_a_hog(void *arg) {
    (void)arg;
    int other = stel_worker_id() == 0 ? 1 : 0;
    queue_behind q = { 0 };
    stel_spawn_options there = { .place = STEL_WORKER(other) };
    stel_fiber hog = spawn_with(there, hold, &q);
    for (int64_t give_up = stel_after(STEL_SEC(60)); !is_raised(&q.holding);) {
        FIBER_ASSERT(stel_now() < give_up);
        FIBER_OK(stel_sleep(STEL_US(10)));
    }
    stel_fiber f[10];
    for (int i = 0; i < 10; i++)
        f[i] = spawn_with(there, run_behind, &q);
    for (int i = 0; i < 200; i++) {
        stel_yield();
        if (i % 20 == 0) FIBER_OK(stel_sleep(STEL_US(100)));
    }
    FIBER_ASSERT_EQ(atomic_load(&q.ran), 0);
    raise_flag(&q.let_go);
    for (int i = 0; i < 10; i++)
        FIBER_ASSERT_EQ(join(f[i]), other);
    return join(hog) == other ? 0 : 1;
}

START_TEST(nobody_steals_it) {
    ck_assert_int_eq(run_in_runtime(2, behind_a_hog, NULL), 0);
}
END_TEST

/* One that does not migrate is woken by another worker while its own is held: it waits for its own. */
typedef struct settled {
    flag begun, holding, let_go;
    int worker;
} settled;

static int settle(void *arg) {
    settled *s = arg;
    s->worker = stel_worker_id();
    raise_flag(&s->begun);
    FIBER_OK(stel_park());
    FIBER_ASSERT(is_raised(&s->let_go));
    FIBER_ASSERT_EQ(stel_worker_id(), s->worker);
    return 1;
}

static int hold_it(void *arg) {
    settled *s = arg;
    raise_flag(&s->holding);
    hog_until(&s->let_go);
    return 1;
}

static void sleep_until_raised(flag *f) {
    for (int64_t give_up = stel_after(STEL_SEC(60)); !is_raised(f);) {
        FIBER_ASSERT(stel_now() < give_up);
        FIBER_OK(stel_sleep(STEL_US(10)));
    }
}

static int woken_elsewhere(void *arg) {
    (void)arg;
    for (int i = 0; i < 10; i++) {
        settled s = { 0 };
        stel_fiber f = spawn_with((stel_spawn_options){ .flags = STEL_NO_MIGRATE }, settle, &s);
        sleep_until_raised(&s.begun);
        stel_fiber hog = spawn_with((stel_spawn_options){ .place = STEL_WORKER(s.worker) }, hold_it, &s);
        sleep_until_raised(&s.holding);
        FIBER_ASSERT(stel_worker_id() != s.worker);
        FIBER_OK(stel_unpark(f));
        for (int k = 0; k < 50; k++)
            stel_yield();
        FIBER_OK(stel_sleep(STEL_US(100)));
        raise_flag(&s.let_go);
        FIBER_ASSERT_EQ(join(f), 1);
        FIBER_ASSERT_EQ(join(hog), 1);
    }
    return 0;
}

START_TEST(it_waits_for_its_worker) {
    ck_assert_int_eq(run_in_runtime(2, woken_elsewhere, NULL), 0);
}
END_TEST

static int on_nodes(void *arg) {
    (void)arg;
    int nodes = stel__node_count();
    for (int i = 0; i < nodes; i++)
        FIBER_ASSERT_EQ(join(spawn_with((stel_spawn_options){ .place = STEL_NODE(i) }, give, (void *)1)), 1);
    stel_spawn_options o = { sizeof o, .place = STEL_NODE(nodes) };
    FIBER_ASSERT_EQ(stel_spawn_with(NULL, &o, give, NULL), -EINVAL);
    return 0;
}

START_TEST(on_a_node) {
    ck_assert_int_eq(run_in_runtime(WORKERS, on_nodes, NULL), 0);
}
END_TEST

TEST_MAIN("sched/local_spawn", on_a_worker, on_a_worker_from_outside, where_it_began, nobody_steals_it,
          it_waits_for_its_worker, on_a_node)
