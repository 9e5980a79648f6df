/* The ways out of a fiber, and fiber-local values: their keys, who sees what, and destructors on every way out. */
#include "room.h"
#include <signal.h>

/* ---- stel_exit ---- */

__attribute__((noinline)) static int deep(int levels, int result) {
    volatile char frame[200];
    frame[0] = (char)levels;
    if (levels == 0) stel_exit(result);
    return levels < 0 ? 0 : deep(levels - 1, result) + frame[0];
}

static int exit_from_depth(void *arg) {
    deep(100, (int)(intptr_t)arg);
    FIBER_FAIL("stel_exit returned");
}

static int exits(void *arg) {
    (void)arg;
    for (uint64_t i = test_scale(3000); i > 0; i--)
        FIBER_ASSERT_EQ(join(spawn(exit_from_depth, (void *)(uintptr_t)i)), i);
    FIBER_ASSERT_EQ(join(spawn(exit_from_depth, (void *)-EIO)), -EIO);
    FIBER_OK(stel_go(exit_from_depth, NULL));
    stel_exit(77);
}

START_TEST(exit_from_any_depth) {
    ck_assert_int_eq(run_in_runtime(1, exits, NULL), 77);
    ck_assert_int_eq(run_in_runtime(3, exits, NULL), 77);
}
END_TEST

static void exit_on_thread(void) {
    stel_exit(0);
}

START_TEST(no_fiber) {
    char text[4096];
    int status = in_child(exit_on_thread, text, sizeof text);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGABRT);
    ck_assert_ptr_nonnull(strstr(text, "stel_exit"));
}
END_TEST

/* ---- values ---- */

static stel_key key_a, key_b, key_plain;
static char order[64];
static size_t order_length;
static int a_rounds; /* how often a's destructor sets it anew */

static void note(char c) {
    FIBER_ASSERT(order_length < sizeof order - 1);
    order[order_length++] = c;
    order[order_length] = 0;
}

static void destroy_a(void *value) {
    note('a');
    FIBER_ASSERT(stel_self() != 0);
    FIBER_ASSERT(value != NULL && stel_local_get(key_a) == NULL);
    /* Deadlines are popped, and it may wait: however the fiber came here. */
    FIBER_ASSERT_EQ(stel_deadline(), STEL_FOREVER);
    stel_yield();
    if (!stel_cancelled()) FIBER_OK(stel_sleep(STEL_US(10)));
    if (a_rounds > 0) {
        a_rounds--;
        FIBER_OK(stel_local_set(key_a, value));
    }
}

static void destroy_b(void *value) {
    note('b');
    FIBER_ASSERT(strcmp(value, "b") == 0);
}

static void make_keys(void) {
    FIBER_OK(stel_local_key(&key_a, destroy_a));
    FIBER_OK(stel_local_key(&key_b, destroy_b));
    FIBER_OK(stel_local_key(&key_plain, NULL));
}

enum way { BY_RETURN, BY_EXIT, BY_EXIT_PAST_DEADLINE, CANCELLED_WAY, WAYS };

static int leave(void *arg) {
    FIBER_OK(stel_local_set(key_b, "b"));
    FIBER_OK(stel_local_set(key_a, "a"));
    FIBER_OK(stel_local_set(key_plain, "plain"));
    switch ((enum way)(intptr_t)arg) {
    case BY_RETURN:
        return 1;
    case BY_EXIT:
        deep(10, 1);
        break;
    case BY_EXIT_PAST_DEADLINE: {
        STEL_TIMEOUT(LONG_PAST);
        FIBER_ASSERT_EQ(stel_sleep(1), -ETIMEDOUT);
        deep(10, 1);
        break;
    }
    default:
        FIBER_ASSERT_EQ(stel_sleep(STEL_FOREVER), -ECANCELED);
        return 1;
    }
    return 0;
}

static void leave_by(enum way way, int rounds, const char *wanted) {
    order_length = 0;
    order[0] = 0;
    a_rounds = rounds;
    stel_fiber f = spawn(leave, (void *)(intptr_t)way);
    if (way == CANCELLED_WAY) FIBER_OK(stel_cancel(f));
    FIBER_ASSERT_EQ(join(f), 1);
    if (strcmp(order, wanted) != 0) FIBER_FAIL("way %d: \"%s\", not \"%s\"", way, order, wanted);
}

static int ways_out(void *arg) {
    (void)arg;
    make_keys();
    for (enum way way = BY_RETURN; way < WAYS; way++) {
        leave_by(way, 0, "ab");
        leave_by(way, 1, "aba");
        leave_by(way, 3, "abaaa");
        leave_by(way, 9, "abaaa"); /* four rounds, then it is left alone */
        FIBER_ASSERT_EQ(a_rounds, 5);
    }
    /* A value that was taken away is not destroyed. */
    order_length = 0;
    order[0] = 0;
    FIBER_OK(stel_local_set(key_a, "a"));
    FIBER_OK(stel_local_set(key_a, NULL));
    return 0;
}

START_TEST(destructors) {
    ck_assert_int_eq(run_in_runtime(1, ways_out, NULL), 0);
    ck_assert_str_eq(order, "");
}
END_TEST

START_TEST(destructors_on_several_workers) {
    ck_assert_int_eq(run_in_runtime(3, ways_out, NULL), 0);
    ck_assert_str_eq(order, "");
}
END_TEST

/* A destructor that ends the fiber once more: the last result counts, the others' values are still destroyed. */
static void exit_again(void *value) {
    (void)value;
    note('x');
    stel_exit(9);
}

static int set_and_return(void *arg) {
    stel_key *key = arg;
    FIBER_OK(stel_local_set(key[0], "x"));
    FIBER_OK(stel_local_set(key[1], "b"));
    return 1;
}

static int exit_in_destructor(void *arg) {
    (void)arg;
    stel_key key[2];
    FIBER_OK(stel_local_key(&key[0], exit_again));
    FIBER_OK(stel_local_key(&key[1], destroy_b));
    FIBER_ASSERT_EQ(join(spawn(set_and_return, key)), 9);
    FIBER_ASSERT(strcmp(order, "xb") == 0);
    return 0;
}

START_TEST(exit_from_a_destructor) {
    ck_assert_int_eq(run_in_runtime(1, exit_in_destructor, NULL), 0);
}
END_TEST

static atomic_int alive_values;

static void free_value(void *value) {
    free(value);
    atomic_fetch_sub(&alive_values, 1);
}

/* Each fiber has values of its own, wherever it runs. */
static int own_values(void *arg) {
    stel_key *key = arg;
    uint64_t *mine = malloc(sizeof *mine), state = stel_self();
    FIBER_ASSERT(mine);
    atomic_fetch_add(&alive_values, 1);
    *mine = stel_self();
    FIBER_ASSERT(stel_local_get(*key) == NULL);
    FIBER_OK(stel_local_set(*key, mine));
    for (int i = 0; i < 20; i++) {
        if (test_random(&state, 4) == 0)
            FIBER_OK(stel_sleep(test_random(&state, 50000)));
        else
            stel_yield();
        FIBER_ASSERT(stel_local_get(*key) == mine);
        FIBER_ASSERT_EQ(*mine, stel_self());
    }
    return 0;
}

static int many_values(void *arg) {
    stel_key key;
    (void)arg;
    FIBER_OK(stel_local_key(&key, free_value));
    for (uint64_t round = test_scale(40); round > 0; round--) {
        stel_fiber f[50];
        for (int i = 0; i < 50; i++)
            f[i] = spawn(own_values, &key);
        for (int i = 0; i < 50; i++)
            join(f[i]);
    }
    return 0;
}

START_TEST(each_fiber_has_its_own) {
    ck_assert_int_eq(run_in_runtime(3, many_values, NULL), 0);
    ck_assert_int_eq(atomic_load(&alive_values), 0);
}
END_TEST

static int all_keys(void *arg) {
    (void)arg;
    stel_key key = 99;
    FIBER_ASSERT_EQ(stel_local_key(NULL, NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_local_set(0, "x"), -EINVAL); /* no key yet */
    FIBER_ASSERT(stel_local_get(0) == NULL);
    for (unsigned i = 0; i < 64; i++) {
        FIBER_OK(stel_local_key(&key, NULL));
        FIBER_ASSERT_EQ(stel_local_set(key + 1, "x"), -EINVAL);
        FIBER_OK(stel_local_set(key, (void *)(uintptr_t)(i + 1)));
    }
    key = 99;
    FIBER_ASSERT_EQ(stel_local_key(&key, NULL), -EAGAIN);
    FIBER_ASSERT_EQ(key, 99);
    for (stel_key k = 0; k < 64; k++)
        FIBER_ASSERT_EQ((uintptr_t)stel_local_get(k), k + 1);
    FIBER_ASSERT_EQ(stel_local_set(64, "x"), -EINVAL);
    FIBER_ASSERT_EQ(stel_local_set(UINT32_MAX, "x"), -EINVAL);
    FIBER_ASSERT(stel_local_get(64) == NULL);
    FIBER_ASSERT(stel_local_get(UINT32_MAX) == NULL);
    return 0;
}

START_TEST(limits_of_keys) {
    ck_assert_int_eq(run_in_runtime(1, all_keys, NULL), 0);
    /* A plain thread has keys, but no values. */
    ck_assert_int_eq(stel_local_set(0, "x"), -EPERM);
    ck_assert_ptr_null(stel_local_get(0));
    ck_assert_int_eq(stel_local_set(64, "x"), -EINVAL);
}
END_TEST

TEST_MAIN("sched/exit", exit_from_any_depth, no_fiber, destructors, destructors_on_several_workers,
          exit_from_a_destructor, each_fiber_has_its_own, limits_of_keys)
