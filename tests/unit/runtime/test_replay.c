/* Seeded runs: on one worker the same seed gives the same schedule, event for event, and another seed another one. The
 * program mixes what chance decides (select among ready cases) with spawns, yields, locks, channels and joins; nothing in
 * it depends on the clock or on descriptors, which is what docs/debugging.md asks for. */
#include "check_fiber.h"
#include <stdlib.h>
#include <string.h>

enum { PLAYERS = 6, STEPS = 60, EVENTS_MAX = 20000 };

static struct {
    uint16_t event[EVENTS_MAX]; /* who did what, in order: one worker, so no locks */
    int count;
} record;

static void note(unsigned who, unsigned what) {
    FIBER_ASSERT(record.count < EVENTS_MAX);
    record.event[record.count++] = (uint16_t)(who << 8 | what);
}

static stel_chan *chan[3];
static stel_mutex mutex;
static int left;

static int visitor(void *arg) {
    unsigned who = (unsigned)(uintptr_t)arg;
    note(who, 100);
    stel_mutex_lock(&mutex);
    note(who, 101);
    stel_yield();
    stel_mutex_unlock(&mutex);
    return (int)who;
}

static int player(void *arg) {
    unsigned who = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < STEPS; i++) {
        uint64_t in[3] = { who, who, who }, out[3];
        stel_case cases[6];
        for (int k = 0; k < 3; k++) {
            cases[2 * k] = STEL_CASE_SEND(chan[k], &in[k]);
            cases[2 * k + 1] = STEL_CASE_RECV(chan[k], &out[k]);
        }
        int taken = stel_select(cases, 6, STEL_SELECT_NOWAIT);
        note(who, (unsigned)(taken < 0 ? 50 : taken)); /* what chance chose */
        if (taken % 2 == 1) note(who, 10 + (unsigned)out[taken / 2]);
        if (taken == 0) {
            stel_fiber f;
            int result = -1;
            FIBER_OK(stel_spawn(&f, visitor, (void *)(uintptr_t)(who + 20)));
            FIBER_OK(stel_join(f, &result));
            note(who, (unsigned)result);
        } else if (taken == 2) {
            FIBER_OK(stel_go(visitor, (void *)(uintptr_t)(who + 40)));
        }
        stel_yield();
    }
    left--;
    return 0;
}

static int play(void *arg) {
    (void)arg;
    left = PLAYERS;
    for (int k = 0; k < 3; k++)
        FIBER_OK(stel_chan_create(&chan[k], sizeof(uint64_t), 2));
    for (uintptr_t who = 1; who <= PLAYERS; who++)
        FIBER_OK(stel_go(player, (void *)who));
    while (left > 0)
        stel_yield();
    for (int k = 0; k < 3; k++)
        stel_chan_destroy(chan[k]);
    return 0;
}

/* The hash of what was noted (FNV-1a: Fowler, Noll, Vo). */
static uint64_t hash_of_record(void) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < record.count; i++)
        hash = (hash ^ record.event[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* The fiber is there before the worker starts: one that a thread spawns later comes at a moment of its own. */
static uint64_t schedule_of(uint64_t seed) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = 1;
    c.stall_ns = -1;
    c.seed = seed;
    record.count = 0;
    ck_assert_int_eq(run_in_runtime_with(&c, play, NULL), 0);
    return hash_of_record();
}

START_TEST(the_same_seed) {
    uint64_t state = test_seed();
    for (uint64_t i = 0, n = test_scale(20); i < n; i++) {
        uint64_t seed = 1 + test_random(&state, UINT32_MAX), first = schedule_of(seed);
        int events = record.count;
        ck_assert_int_gt(events, PLAYERS * STEPS);
        for (int k = 0; k < 3; k++) {
            ck_assert_uint_eq(schedule_of(seed), first);
            ck_assert_int_eq(record.count, events);
        }
    }
}
END_TEST

START_TEST(another_seed) {
    int same = 0;
    uint64_t first = schedule_of(1);
    for (uint64_t seed = 2; seed < 12; seed++)
        same += schedule_of(seed) == first;
    ck_assert_int_eq(same, 0);
}
END_TEST

/* As a user has it: by the environment. */
START_TEST(from_the_environment) {
    uint64_t hash[2];
    ck_assert_int_eq(setenv("STELLANE_RUNTIME_WORKERS", "1", 1), 0);
    ck_assert_int_eq(setenv("STELLANE_RUNTIME_SEED", "0x5eed", 1), 0);
    for (int i = 0; i < 2; i++) {
        record.count = 0;
        ck_assert_int_eq(stel_run(play, NULL), 0);
        hash[i] = hash_of_record();
    }
    ck_assert_uint_eq(hash[0], hash[1]);
    ck_assert_uint_eq(hash[0], schedule_of(0x5eed));
}
END_TEST

TEST_MAIN("runtime/replay", the_same_seed, another_seed, from_the_environment)
