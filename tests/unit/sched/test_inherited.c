/* Values that go on to the fibers that a fiber spawns, and fibers that begin later. */
#include "check_fiber.h"
#include "host/fault.h"
#include <stdatomic.h>

/* ---- inherited values: a counted context ---- */

typedef struct context {
    _Atomic int references, inherited;
} context;

static void *take(void *value) {
    context *c = value;
    atomic_fetch_add(&c->inherited, 1);
    atomic_fetch_add(&c->references, 1);
    return c;
}

static void give(void *value) {
    atomic_fetch_sub(&((context *)value)->references, 1);
}

static void *refuse(void *value) {
    (void)value;
    return NULL;
}

static stel_key counted, private_key, refused;

static void make_keys(void) {
    if (counted || private_key) return;
    ck_assert_int_eq(stel_local_key(&private_key, NULL), 0);
    ck_assert_int_eq(stel_local_key_inherited(&counted, take, give), 0);
    ck_assert_int_eq(stel_local_key_inherited(&refused, refuse, NULL), 0);
}

static int has_it(void *arg) {
    FIBER_ASSERT(stel_local_get(counted) == arg);
    FIBER_ASSERT(stel_local_get(private_key) == NULL);
    FIBER_ASSERT(stel_local_get(refused) == NULL);
    stel_yield(); /* and on whatever worker it goes on */
    FIBER_ASSERT(stel_local_get(counted) == arg);
    return 0;
}

static int grandchild(void *arg) {
    FIBER_ASSERT(stel_local_get(counted) == arg);
    stel_fiber f;
    FIBER_OK(stel_spawn(&f, has_it, arg));
    return stel_join(f, NULL);
}

static int every_spawn(void *arg) {
    context *c = arg;
    stel_fiber f;
    FIBER_OK(stel_spawn(&f, has_it, NULL)); /* nothing is set: nothing to inherit */
    FIBER_OK(stel_join(f, NULL));
    atomic_store(&c->references, 1);
    FIBER_OK(stel_local_set(counted, c));
    FIBER_OK(stel_local_set(private_key, c));
    FIBER_OK(stel_local_set(refused, c));
    for (uint64_t i = test_scale(100); i > 0; i--) {
        stel_scope s;
        stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
        o.name = "heir";
        FIBER_OK(stel_spawn_with(&f, &o, has_it, c));
        FIBER_OK(stel_join(f, NULL));
        FIBER_OK(stel_go(has_it, c));
        FIBER_OK(stel_scope_open(&s, 0));
        FIBER_OK(stel_scope_spawn(&s, grandchild, c));
        FIBER_OK(stel_spawn_after(&f, 0, has_it, c));
        FIBER_OK(stel_join(f, NULL));
        FIBER_OK(stel_scope_join(&s));
    }
    return 0;
}

START_TEST(every_spawn_inherits) {
    context c = { 0 };
    make_keys();
    ck_assert_int_eq(run_in_runtime(3, every_spawn, &c), 0);
    ck_assert_int_eq(atomic_load(&c.references), 0); /* each has given back its own */
    ck_assert_int_eq(atomic_load(&c.inherited), (int)test_scale(100) * 5);
}
END_TEST

static int spawn_without_memory(void *arg) {
    context *c = arg;
    stel_fiber f;
    atomic_store(&c->references, 1);
    FIBER_OK(stel_local_set(counted, c));
    FIBER_OK(stel_spawn(&f, has_it, c)); /* warm: blocks are at hand */
    FIBER_OK(stel_join(f, NULL));
    for (unsigned nth = 1; nth <= 2; nth++) { /* the extra, the values */
        stel__fault_set(STEL__FAULT_ALLOC, nth, ENOMEM, false);
        FIBER_ASSERT_EQ(stel_spawn(&f, has_it, c), -ENOMEM);
        stel__fault_clear();
        FIBER_ASSERT_EQ(atomic_load(&c->references), 1);
    }
    FIBER_OK(stel_spawn(&f, has_it, c));
    return stel_join(f, NULL);
}

START_TEST(a_failed_spawn_inherits_nothing) {
    context c = { 0 };
    make_keys();
    ck_assert_int_eq(run_in_runtime(1, spawn_without_memory, &c), 0);
    ck_assert_int_eq(atomic_load(&c.references), 0);
}
END_TEST

START_TEST(keys_ask_for_what_they_need) {
    stel_key key;
    ck_assert_int_eq(stel_local_key_inherited(NULL, take, give), -EINVAL);
    ck_assert_int_eq(stel_local_key_inherited(&key, NULL, give), -EINVAL);
    int rc;
    while ((rc = stel_local_key_inherited(&key, take, NULL)) == 0)
        ;
    ck_assert_int_eq(rc, -EAGAIN);
}
END_TEST

/* ---- later ---- */

static int note_time(void *arg) {
    *(int64_t *)arg = stel_now();
    return 3;
}

static int later(void *arg) {
    (void)arg;
    const int64_t delays[] = { 0, STEL_MS(3), STEL_MS(1), -STEL_SEC(1) };
    int64_t ran[4] = { 0 }, before = stel_now();
    stel_fiber f[4];
    for (int i = 0; i < 4; i++)
        FIBER_OK(stel_spawn_after(&f[i], delays[i], note_time, &ran[i]));
    for (int i = 0; i < 4; i++) {
        int result = 0;
        FIBER_OK(stel_join(f[i], &result));
        FIBER_ASSERT_EQ(result, 3);
        FIBER_ASSERT(ran[i] >= before + delays[i]);
    }
    return 0;
}

START_TEST(not_before_its_time) {
    ck_assert_int_eq(run_in_runtime(2, later, NULL), 0);
}
END_TEST

static int cancelled_before(void *arg) {
    (void)arg;
    int64_t ran = 0;
    int result = 0;
    stel_fiber f;
    FIBER_OK(stel_spawn_after(&f, STEL_SEC(1000), note_time, &ran));
    stel_yield();
    FIBER_OK(stel_cancel(f));
    FIBER_OK(stel_join(f, &result));
    FIBER_ASSERT_EQ(result, -ECANCELED);
    FIBER_ASSERT_EQ(ran, 0); /* fn was not run */
    FIBER_ASSERT_EQ(stel_spawn_after(&f, 0, NULL, NULL), -EINVAL);
    FIBER_OK(stel_spawn_after(NULL, STEL_MS(1), note_time, &ran)); /* detached; it is waited for at the end */
    stel_fiber g;
    FIBER_OK(stel_spawn_after(&g, STEL_MS(20), note_time, &ran));
    return stel_join(g, NULL);
}

START_TEST(cancelled_before_its_time) {
    ck_assert_int_eq(run_in_runtime(1, cancelled_before, NULL), 0);
    int64_t ran;
    ck_assert_int_eq(stel_spawn_after(NULL, 0, note_time, &ran), -EPERM); /* no runtime runs */
}
END_TEST

TEST_MAIN("sched/inherited", every_spawn_inherits, a_failed_spawn_inherits_nothing, keys_ask_for_what_they_need,
          not_before_its_time, cancelled_before_its_time)
