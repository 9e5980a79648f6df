/* Handles: unique for good, stale once the fiber is gone, whatever has become of its block since. */
#include "room.h"
#include "sched/fiber.h"

static void check_stale(stel_fiber f) {
    char name[8];
    int priority;
    FIBER_ASSERT_EQ(stel_join(f, NULL), -ESRCH);
    FIBER_ASSERT_EQ(stel_try_join(f, NULL), -ESRCH);
    FIBER_ASSERT_EQ(stel_detach(f), -ESRCH);
    FIBER_ASSERT_EQ(stel_cancel(f), -ESRCH);
    FIBER_ASSERT_EQ(stel_unpark(f), -ESRCH);
    FIBER_ASSERT_EQ(stel_fiber_name(f, name, sizeof name), -ESRCH);
    FIBER_ASSERT_EQ(stel_fiber_priority(f, &priority), -ESRCH);
    FIBER_ASSERT_EQ(stel_fiber_created(f), -ESRCH);
}

static int park_once(void *arg) {
    return stel_park() == 0 && !stel_cancelled() ? (int)(intptr_t)arg : -1;
}

/* A block goes from fiber to fiber: the old handles do nothing to the new one. */
static int reuse(void *arg) {
    enum { KEPT = 64 };
    static stel_fiber old[KEPT];
    uint64_t same_block = 0;
    (void)arg;
    for (uint64_t i = 0, n = test_scale(20000); i < n; i++) {
        stel_fiber f = spawn(park_once, (void *)3);
        stel_fiber before = old[i % KEPT];
        if (before && (before & STEL__INDEX_MASK) == (f & STEL__INDEX_MASK)) {
            same_block++;
            FIBER_ASSERT(f >> STEL__INDEX_BITS > before >> STEL__INDEX_BITS);
        }
        if (before) {
            FIBER_ASSERT(f != before);
            check_stale(before);
        }
        FIBER_OK(stel_unpark(f));
        FIBER_ASSERT_EQ(join(f), 3);
        old[i % KEPT] = f;
    }
    FIBER_ASSERT(same_block > 0);
    return 0;
}

START_TEST(blocks_are_reused) {
    ck_assert_int_eq(run_in_runtime(1, reuse, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, reuse, NULL), 0);
}
END_TEST

static int compare(const void *a, const void *b) {
    const stel_fiber x = *(const stel_fiber *)a, y = *(const stel_fiber *)b;
    return (x > y) - (x < y);
}

static int collect(void *arg) {
    stel_fiber *f = arg;
    size_t n = (size_t)test_scale(60000);
    for (size_t i = 0; i < n; i++) {
        f[i] = spawn(give, NULL);
        if (i % 2) join(f[i]);
    }
    for (size_t i = 0; i < n; i += 2)
        join(f[i]);
    return 0;
}

START_TEST(unique) {
    size_t n = (size_t)test_scale(60000);
    stel_fiber *f = malloc(2 * n * sizeof *f);
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(run_in_runtime(1, collect, f), 0); /* two runtimes, one after the other */
    ck_assert_int_eq(run_in_runtime(3, collect, f + n), 0);
    qsort(f, 2 * n, sizeof *f, compare);
    ck_assert_uint_ne(f[0], 0);
    for (size_t i = 1; i < 2 * n; i++)
        ck_assert_uint_ne(f[i - 1], f[i]);
    free(f);
}
END_TEST

START_TEST(never_was_one) {
    stel_runtime *rt = room_open(1);
    stel_fiber alive = spawn(until_cancelled, NULL);
    check_stale(0);
    check_stale(UINT64_MAX);
    check_stale(STEL__INDEX_MASK);
    check_stale(alive + (UINT64_C(1) << STEL__INDEX_BITS)); /* the next of its block, not yet born */
    check_stale(alive - (UINT64_C(1) << STEL__INDEX_BITS));
    for (uint64_t state = test_seed(), i = 0; i < 10000; i++) {
        stel_fiber f = (uint64_t)test_random(&state, UINT32_MAX) << 32 | test_random(&state, UINT32_MAX);
        if (f != alive) check_stale(f);
    }
    ck_assert_int_eq(stel_cancel(alive), 0);
    ck_assert_int_eq(join(alive), -ECANCELED);
    room_close(rt);
}
END_TEST

/* Fibers that nobody joined lose their handles with the runtime. */
START_TEST(after_the_runtime) {
    stel_runtime *rt = room_open(2);
    stel_fiber f[100];
    for (int i = 0; i < 100; i++) {
        stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
        if (i % 3 == 0) o.name = "never joined"; /* it has an extra to be freed */
        ck_assert_int_eq(stel_spawn_with(&f[i], &o, i % 2 ? give : until_cancelled, NULL), 0);
    }
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    char name[16] = "";
    ck_assert_int_eq(stel_fiber_name(f[1], name, sizeof name), 0); /* not yet */
    int result = 0;
    ck_assert_int_eq(stel_join(f[0], &result), 0);
    ck_assert_int_eq(result, -ECANCELED);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    for (int i = 0; i < 100; i++)
        check_stale(f[i]);
    ck_assert_int_eq(run_in_runtime(2, reuse, NULL), 0);
    for (int i = 0; i < 100; i++)
        check_stale(f[i]);
}
END_TEST

/* However a fiber goes, its block comes back: the table does not grow. */
static int go_every_way(void *arg) {
    uint32_t size = 0;
    (void)arg;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 3 * STEL__SEGMENT_SLOTS; i++) {
            stel_fiber f = i % 5 == 4 ? 0 : spawn(give, NULL);
            if (i % 5 >= 2) stel_yield(); /* on one worker it has ended after that */
            int rc = 0;
            switch (i % 5) {
            case 0:
                rc = stel_join(f, NULL);
                break;
            case 1:
            case 2:
                rc = stel_detach(f);
                break;
            case 3:
                rc = stel_try_join(f, NULL);
                break;
            default:
                rc = stel_go(give, NULL);
            }
            FIBER_OK(rc);
        }
        if (round == 0) size = stel__table_size();
        FIBER_ASSERT_EQ(stel__table_size(), size);
    }
    return 0;
}

START_TEST(no_block_is_lost) {
    ck_assert_int_eq(run_in_runtime(1, go_every_way, NULL), 0);
}
END_TEST

/* ---- the table ---- */

START_TEST(table_grows) {
    enum { N = 3 * STEL__SEGMENT_SLOTS };
    static stel__fiber *f[N];
    int error = 0;
    for (int i = 0; i < N; i++) {
        f[i] = stel__block_get(NULL, &error);
        ck_assert_ptr_nonnull(f[i]);
        ck_assert_ptr_eq(stel__fiber_at(f[i]->waiter.index), f[i]);
        ck_assert_uint_eq(stel__load_relaxed(&f[i]->life) & STEL__INDEX_MASK, 0);
        ck_assert_uint_ne(stel__load_relaxed(&f[i]->life) >> STEL__INDEX_BITS, 0);
    }
    uint32_t size = stel__table_size();
    ck_assert_uint_ge(size, N);
    for (int i = 0; i < N; i++)
        stel__block_put(NULL, f[i]);
    for (int i = 0; i < N; i++) /* given back: no more are made */
        f[i] = stel__block_get(NULL, &error);
    ck_assert_uint_eq(stel__table_size(), size);
    for (int i = 0; i < N; i++)
        stel__block_put(NULL, f[i]);
}
END_TEST

START_TEST(free_lists) {
    stel__free_blocks list = { 0 };
    static stel__fiber *f[2000];
    int error = 0;
    f[0] = stel__block_get(&list, &error); /* fetches more than one at a time */
    ck_assert_ptr_nonnull(f[0]);
    ck_assert_uint_gt(list.count, 0);
    for (int i = 1; i < 2000; i++) {
        f[i] = stel__block_get(&list, &error);
        ck_assert_ptr_nonnull(f[i]);
        uint64_t life = stel__load_relaxed(&f[i]->life);
        stel__store_relaxed(&f[i]->life, life | STEL__LIFE_ALIVE); /* so that nobody has it twice */
    }
    for (int i = 1; i < 2000; i++)
        ck_assert(stel__load_relaxed(&f[i]->life) & STEL__LIFE_ALIVE);
    for (int i = 0; i < 2000; i++) {
        stel__block_put(&list, f[i]);
        ck_assert_uint_le(list.count, 512); /* a worker keeps so many, the rest is for all */
    }
    stel__block_spill(&list, 10);
    ck_assert_uint_eq(list.count, 10);
    stel__block_spill(&list, 0);
    ck_assert_uint_eq(list.count, 0);
    ck_assert_ptr_null(list.head);
}
END_TEST

/* A block whose generations are used up is not used again: no handle comes twice. */
START_TEST(retired) {
    static stel__fiber *f[5000];
    int error = 0;
    stel__fiber *worn = stel__block_get(NULL, &error);
    stel__store_relaxed(&worn->life, (STEL__GENERATION_MAX - 1) << STEL__INDEX_BITS);
    stel__block_put(NULL, worn);
    for (int i = 0; i < 5000; i++) {
        f[i] = stel__block_get(NULL, &error);
        ck_assert_ptr_ne(f[i], worn);
    }
    for (int i = 0; i < 5000; i++)
        stel__block_put(NULL, f[i]);
    stel__free_blocks list = { 0 };
    stel__store_relaxed(&f[0]->life, (STEL__GENERATION_MAX - 1) << STEL__INDEX_BITS);
    stel__block_put(&list, f[0]); /* it is on the table's list as well, which is over with this test */
    ck_assert_uint_eq(list.count, 0);
    check_stale(STEL__GENERATION_MAX << STEL__INDEX_BITS | worn->waiter.index);
    check_stale((STEL__GENERATION_MAX - 1) << STEL__INDEX_BITS | worn->waiter.index);
}
END_TEST

TEST_MAIN("sched/handles", blocks_are_reused, unique, never_was_one, after_the_runtime, no_block_is_lost, table_grows,
          free_lists, retired)
