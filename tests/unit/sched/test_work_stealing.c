/* What waits behind a fiber that does not leave its worker is run by another worker, whichever queue it is on; and
 * every fiber is run exactly once, however many steal. */
#include "room.h"

/* ---- behind a hog ---- */

static atomic_int ran;
static flag all_ran;
static int expected;

static void one_ran(void) {
    if (atomic_fetch_add(&ran, 1) + 1 == expected) raise_flag(&all_ran);
}

static void expect(int n) {
    atomic_store(&ran, 0);
    atomic_store(&all_ran, 0);
    expected = n;
}

static int run_once(void *arg) {
    (void)arg;
    one_ran();
    return stel_worker_id();
}

/* They are on our worker's queue of spawns when we begin to hold it. */
static int hold_spawns(void *arg) {
    int n = (int)(intptr_t)arg;
    stel_fiber f[16];
    expect(n);
    for (int i = 0; i < n; i++)
        f[i] = spawn(run_once, NULL);
    int mine = stel_worker_id();
    hog_until(&all_ran);
    for (int i = 0; i < n; i++)
        FIBER_ASSERT(join(f[i]) != mine);
    return 0;
}

START_TEST(spawns) {
    for (intptr_t n = 1; n <= 16; n += 5)
        ck_assert_int_eq(run_in_runtime(2, hold_spawns, (void *)n), 0);
    ck_assert_int_eq(run_in_runtime(4, hold_spawns, (void *)16), 0);
}
END_TEST

static int hold_levels(void *arg) {
    stel_fiber f[8];
    (void)arg;
    expect(8);
    for (int i = 0; i < 8; i++)
        f[i] = spawn_with((stel_spawn_options){ .priority = i - 4 }, run_once, NULL);
    int mine = stel_worker_id();
    hog_until(&all_ran);
    for (int i = 0; i < 8; i++)
        FIBER_ASSERT(join(f[i]) != mine);
    return 0;
}

START_TEST(levels) {
    ck_assert_int_eq(run_in_runtime(2, hold_levels, NULL), 0);
}
END_TEST

/* Parked fibers that the hog wakes before it holds: the last is in the next slot, the others on the ring. */
static int park_and_run(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    FIBER_OK(stel_park());
    one_ran();
    return stel_worker_id();
}

static int hold_woken(void *arg) {
    int n = (int)(intptr_t)arg;
    stel_fiber f[16];
    atomic_int begun = 0;
    expect(n);
    for (int i = 0; i < n; i++)
        f[i] = spawn(park_and_run, &begun);
    while (atomic_load(&begun) < n)
        stel_yield();
    for (int i = 0; i < 100; i++) /* their parks are complete, or nearly: both ways must do */
        stel_yield();
    int mine = stel_worker_id();
    for (int i = 0; i < n; i++)
        FIBER_OK(stel_unpark(f[i]));
    hog_until(&all_ran);
    for (int i = 0; i < n; i++)
        FIBER_ASSERT(join(f[i]) != mine);
    return 0;
}

START_TEST(woken) {
    ck_assert_int_eq(run_in_runtime(2, hold_woken, (void *)1), 0); /* alone in the next slot */
    ck_assert_int_eq(run_in_runtime(2, hold_woken, (void *)2), 0);
    ck_assert_int_eq(run_in_runtime(2, hold_woken, (void *)16), 0);
    ck_assert_int_eq(run_in_runtime(4, hold_woken, (void *)16), 0);
}
END_TEST

/* From a thread, while one of two workers is held. */
static int hold_for_thread(void *arg) {
    raise_flag(arg);
    hog_until(&all_ran);
    return 0;
}

START_TEST(injected) {
    stel_runtime *rt = room_open(2);
    flag holding = 0;
    expect(20);
    stel_fiber hog = spawn(hold_for_thread, &holding), f[20];
    EVENTUALLY(is_raised(&holding));
    for (int i = 0; i < 20; i++) {
        f[i] = spawn(run_once, NULL);
        if (i % 5 == 0) check_fiber_nap();
    }
    for (int i = 0; i < 20; i++)
        ck_assert_int_ge(join(f[i]), 0);
    ck_assert_int_eq(join(hog), 0);
    room_close(rt);
}
END_TEST

/* ---- exactly once ---- */

typedef struct tree {
    uint64_t leaves, sum;
    unsigned first;
} tree;

static int grow(void *arg) {
    tree *t = arg;
    if (t->leaves == 1) {
        t->sum = t->first;
        return 0;
    }
    tree branch[8];
    stel_fiber f[8];
    for (unsigned i = 0; i < 8; i++) {
        branch[i] = (tree){ t->leaves / 8, 0, t->first + i * (unsigned)(t->leaves / 8) };
        f[i] = spawn(grow, &branch[i]);
    }
    t->sum = 0;
    for (int i = 0; i < 8; i++) {
        FIBER_ASSERT_EQ(join(f[i]), 0);
        t->sum += branch[i].sum;
    }
    return 0;
}

static int grow_trees(void *arg) {
    uint64_t leaves = test_scale(2) > 1 ? 32768 : 4096;
    (void)arg;
    for (int i = 0; i < 4; i++) {
        tree t = { leaves, 0, 0 };
        FIBER_ASSERT_EQ(join(spawn(grow, &t)), 0);
        FIBER_ASSERT_EQ(t.sum, leaves * (leaves - 1) / 2);
    }
    return 0;
}

START_TEST(trees) {
    ck_assert_int_eq(run_in_runtime(1, grow_trees, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, grow_trees, NULL), 0);
    ck_assert_int_eq(run_in_runtime(5, grow_trees, NULL), 0);
}
END_TEST

/* Fibers of every kind, going through every queue; each counts its own turns. */
enum { CREW = 300, TURNS = 60 };
static struct {
    atomic_int inside;
    int turns;
} member[CREW];

static int take_turns(void *arg) {
    uintptr_t i = (uintptr_t)arg;
    uint64_t state = test_seed() ^ i;
    for (int k = 0; k < TURNS; k++) {
        FIBER_ASSERT_EQ(atomic_fetch_add(&member[i].inside, 1), 0); /* nobody else runs this fiber now */
        member[i].turns++;
        atomic_fetch_sub(&member[i].inside, 1);
        switch (test_random(&state, 6)) {
        case 0:
            FIBER_OK(stel_sleep(test_random(&state, 30000)));
            break;
        case 1:
            FIBER_ASSERT_EQ(join(spawn(give, (void *)1)), 1);
            break;
        case 2:
            FIBER_OK(stel_set_priority((int)test_random(&state, 8) - 4));
            break;
        default:
            stel_yield();
        }
    }
    return 0;
}

static int crowd(void *arg) {
    static stel_fiber f[CREW];
    uintptr_t n = test_scale(CREW);
    (void)arg;
    memset(member, 0, sizeof member);
    for (uintptr_t i = 0; i < n; i++)
        f[i] = spawn(take_turns, (void *)i);
    for (uintptr_t i = 0; i < n; i++) {
        FIBER_ASSERT_EQ(join(f[i]), 0);
        FIBER_ASSERT_EQ(member[i].turns, TURNS);
    }
    return 0;
}

START_TEST(a_crowd) {
    for (int workers = 1; workers <= 8; workers *= 2)
        ck_assert_int_eq(run_in_runtime(workers, crowd, NULL), 0);
}
END_TEST

static int steals_counted(void *arg) {
    stel_stats before = { 0 }, after = { 0 };
    FIBER_OK(stel_runtime_stats(arg, &before));
    FIBER_ASSERT_EQ(hold_spawns((void *)16), 0);
    FIBER_OK(stel_runtime_stats(arg, &after));
    FIBER_ASSERT(after.steals > before.steals);
    FIBER_ASSERT_EQ(after.spawned - before.spawned, 16);
    FIBER_ASSERT_EQ(after.total_tasks_executed - before.total_tasks_executed, 16);
    return 0;
}

START_TEST(counted) {
    stel_runtime *rt = room_open(2);
    stel_fiber f;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, steals_counted, rt), 0);
    ck_assert_int_eq(join(f), 0);
    room_close(rt);
}
END_TEST

TEST_MAIN("sched/work_stealing", spawns, levels, woken, injected, trees, a_crowd, counted)
