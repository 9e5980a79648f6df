/* STEL_FP_ENVIRONMENT: rounding mode and exception flags of a fiber's own, on whatever worker it runs; and nobody else
 * sees anything of it. Valgrind computes with one rounding mode and without exception flags.
 *
 *     ctest: skip=valgrind
 *     left out because Valgrind emulates neither rounding modes nor exception flags */
#include "room.h"
#include <fenv.h>
#include <float.h>

static volatile double one = 1, three = 3, zero;

/* 1/3 tells the rounding mode: it cannot be represented. */
static bool rounds_as(int mode) {
    double nearest = 0x1.5555555555555p-2, above = 0x1.5555555555556p-2;
    double have = one / three;
    return fegetround() == mode && have == (mode == FE_UPWARD ? above : nearest);
}

static const int modes[] = { FE_UPWARD, FE_DOWNWARD, FE_TONEAREST, FE_TOWARDZERO };

static int keep_mode(void *arg) {
    int mode = modes[(uintptr_t)arg % 4];
    uint64_t state = test_seed() ^ stel_self();
    FIBER_ASSERT_EQ(fesetround(mode), 0);
    for (uint64_t i = test_scale(200); i > 0; i--) {
        FIBER_ASSERT(rounds_as(mode));
        if (test_random(&state, 8) == 0)
            FIBER_OK(stel_sleep(test_random(&state, 30000)));
        else
            stel_yield();
    }
    return 0;
}

static int expect_default(void *arg) {
    (void)arg;
    for (uint64_t i = test_scale(200); i > 0; i--) {
        FIBER_ASSERT(rounds_as(FE_TONEAREST));
        stel_yield();
    }
    return 0;
}

static int mixed_modes(void *arg) {
    stel_fiber f[24];
    (void)arg;
    for (uintptr_t i = 0; i < 24; i++)
        f[i] = i % 3 == 2 ? spawn(expect_default, NULL)
                          : spawn_with((stel_spawn_options){ .flags = STEL_FP_ENVIRONMENT }, keep_mode, (void *)i);
    for (int i = 0; i < 24; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    /* All of them have ended, each with its mode set. */
    FIBER_ASSERT(rounds_as(FE_TONEAREST));
    return 0;
}

START_TEST(rounding_modes) {
    ck_assert_int_eq(run_in_runtime(1, mixed_modes, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, mixed_modes, NULL), 0);
}
END_TEST

/* It begins with its spawner's mode. */
static int mode_now(void *arg) {
    (void)arg;
    return fegetround();
}

static int inherit(void *arg) {
    stel_spawn_options own = { .flags = STEL_FP_ENVIRONMENT };
    (void)arg;
    for (int i = 0; i < 4; i++) {
        fesetround(modes[i]);
        stel_fiber f = spawn_with(own, mode_now, NULL);
        FIBER_ASSERT_EQ(join(f), modes[i]);
        FIBER_ASSERT_EQ(fegetround(), modes[i]);
    }
    return 0;
}

static int inherit_in_fiber(void *arg) {
    FIBER_ASSERT_EQ(join(spawn_with((stel_spawn_options){ .flags = STEL_FP_ENVIRONMENT }, inherit, arg)), 0);
    FIBER_ASSERT(rounds_as(FE_TONEAREST));
    return 0;
}

START_TEST(begins_with_its_spawners) {
    ck_assert_int_eq(run_in_runtime(1, inherit_in_fiber, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, inherit_in_fiber, NULL), 0);
}
END_TEST

/* Exception flags, as SSE arithmetic raises them. */
static int raise_exceptions(void *arg) {
    feclearexcept(FE_ALL_EXCEPT);
    for (int i = 0; i < 50; i++) {
        if (arg) {
            volatile double infinite = one / zero;
            (void)infinite;
        }
        stel_yield();
        FIBER_ASSERT_EQ(fetestexcept(FE_DIVBYZERO), arg ? FE_DIVBYZERO : 0);
    }
    return 0;
}

static int exceptions(void *arg) {
    stel_fiber f[8];
    (void)arg;
    feclearexcept(FE_ALL_EXCEPT);
    for (uintptr_t i = 0; i < 8; i++)
        f[i] = spawn_with((stel_spawn_options){ .flags = STEL_FP_ENVIRONMENT }, raise_exceptions, i % 2 ? "" : NULL);
    for (int i = 0; i < 8; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    FIBER_ASSERT_EQ(fetestexcept(FE_DIVBYZERO), 0);
    return 0;
}

START_TEST(exception_flags) {
    ck_assert_int_eq(run_in_runtime(1, exceptions, NULL), 0);
}
END_TEST

/* Left by stel_exit, with the mode still set. */
static int exit_with_mode(void *arg) {
    (void)arg;
    fesetround(FE_UPWARD);
    stel_exit(1);
}

static int exits_with_modes(void *arg) {
    (void)arg;
    for (int i = 0; i < 100; i++) {
        stel_spawn_options o = { .flags = STEL_FP_ENVIRONMENT | (i % 2 ? STEL_NO_MIGRATE : 0u), .name = "f" };
        FIBER_ASSERT_EQ(join(spawn_with(o, exit_with_mode, NULL)), 1);
        FIBER_ASSERT(rounds_as(FE_TONEAREST));
    }
    return 0;
}

START_TEST(left_by_exit) {
    ck_assert_int_eq(run_in_runtime(1, exits_with_modes, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, exits_with_modes, NULL), 0);
}
END_TEST

TEST_MAIN("sched/fp_environment", rounding_modes, begins_with_its_spawners, exception_flags, left_by_exit)
