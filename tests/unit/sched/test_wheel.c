/* White box: the timing wheel against a model that only knows a list of limits. Time is a number here, not a clock: so
 * everything is exact, and centuries pass in a moment. */
#include "room.h"
#include "sched/inject.h"
#include "sched/wheel.h"
#include "sched/worker.h"

enum { FIBERS = 400, WHEELS = 2 };

/* Fibers that nobody runs: their waits end by falling into the injection queue of a scheduler that was not started. */
static stel__sched *home;
static stel__fiber *fiber;
static stel__wheel *wheels;
static int64_t limit_of[FIBERS]; /* the model; STEL_FOREVER: does not wait, or without limit */
static int64_t now;

static stel__wheel *find_wheel(stel__sched *s, uint16_t name) {
    FIBER_ASSERT(s == home && name >= 1 && name <= WHEELS);
    return &wheels[name - 1];
}

static void set_up(int64_t start) {
    stel_config c = room_config(1);
    c.stack_bytes = 65536;
    c.stack_cache = 1;
    FIBER_OK(stel__sched_create(&home, &c, NULL, NULL));
    fiber = stel__alloc_aligned(STEL__CACHE_LINE, FIBERS * sizeof *fiber);
    wheels = stel__alloc_aligned(STEL__CACHE_LINE, WHEELS * sizeof *wheels);
    FIBER_ASSERT(fiber && wheels);
    now = start;
    for (uint16_t i = 0; i < WHEELS; i++)
        stel__wheel_init(&wheels[i], i + 1, now);
    for (uint32_t i = 0; i < FIBERS; i++) {
        fiber[i].waiter.index = i;
        stel__store_relaxed(&fiber[i].home, home);
        stel__store_relaxed(&fiber[i].queue.limit, STEL_FOREVER);
        stel__store_relaxed(&fiber[i].waiter.deadline, STEL_FOREVER);
        stel__store_relaxed(&fiber[i].waiter.owner_bits, STEL__LEVEL_NORMAL << STEL__LEVEL_SHIFT);
        limit_of[i] = STEL_FOREVER;
    }
}

static void tear_down(void) {
    for (int i = 0; i < WHEELS; i++)
        stel__wheel_clear(&wheels[i]);
    for (int i = 0; i < FIBERS; i++)
        FIBER_ASSERT_EQ(stel__load_relaxed(&fiber[i].wheel), 0);
    for (int i = 0; i < WHEELS; i++)
        FIBER_ASSERT_EQ(stel__load_relaxed(&wheels[i].next), STEL_FOREVER);
    stel__sched_destroy(home);
    stel__free(fiber);
    stel__free(wheels);
}

static uint64_t state_of(int i) {
    return stel__load_relaxed(&fiber[i].waiter.word) & STEL__WORD_STATE;
}

/* Fiber i begins a wait that ends at limit, on this worker; it is parked at once. */
static void begin_wait(int i, stel__wheel *mine, int64_t limit) {
    stel__fiber *f = &fiber[i];
    uint64_t word = (stel__load_relaxed(&f->waiter.word) & STEL__WORD_SEQUENCE) + (1 << STEL__WORD_SEQUENCE_SHIFT);
    stel__store_relaxed(&f->waiter.word, word | STEL__WORD_PREPARED);
    if (limit != STEL_FOREVER) stel__wheel_arm(mine, find_wheel, f, limit);
    stel__store_relaxed(&f->waiter.word, word | STEL__WORD_PARKED);
    limit_of[i] = limit;
}

/* An event ended it; the timer stays where it is. */
static void end_wait(int i) {
    uint64_t word = stel__load_relaxed(&fiber[i].waiter.word) & STEL__WORD_SEQUENCE;
    stel__store_relaxed(&fiber[i].waiter.word, word | STEL__WORD_IDLE);
    stel__store_relaxed(&fiber[i].queue.limit, STEL_FOREVER);
    limit_of[i] = STEL_FOREVER;
}

/* Both wheels reach `to`: exactly those end whose limit is not later. Returns how many. */
static unsigned advance(int64_t to) {
    unsigned ended = 0, popped = 0;
    now = to;
    for (int i = 0; i < WHEELS; i++)
        ended += stel__wheel_expire(&wheels[i], now);
    for (const stel__fiber *f; (f = stel__inject_pop(&home->inject)); popped++) {
        int i = (int)f->waiter.index;
        uint64_t word = stel__load_relaxed(&f->waiter.word);
        FIBER_ASSERT(limit_of[i] <= now); /* not early */
        FIBER_ASSERT_EQ(word & STEL__WORD_STATE, STEL__WORD_WOKEN);
        FIBER_ASSERT_EQ(word & STEL__WORD_CAUSE, STEL__WORD_CAUSE_TIMER);
        FIBER_ASSERT_EQ(stel__load_relaxed(&f->wheel), 0);
        end_wait(i);
    }
    FIBER_ASSERT_EQ(popped, ended);
    int64_t earliest[WHEELS + 1];
    for (int i = 0; i <= WHEELS; i++)
        earliest[i] = STEL_FOREVER;
    for (int i = 0; i < FIBERS; i++) {
        FIBER_ASSERT(limit_of[i] > now); /* not late */
        uint16_t on = stel__load_relaxed(&fiber[i].wheel);
        FIBER_ASSERT(limit_of[i] == STEL_FOREVER || on != 0);
        if (on && limit_of[i] < earliest[on]) earliest[on] = limit_of[i];
    }
    for (int i = 0; i < WHEELS; i++) {
        int64_t next = stel__load_relaxed(&wheels[i].next);
        FIBER_ASSERT(next <= earliest[i + 1]); /* a worker that sleeps until then misses nothing */
        FIBER_ASSERT(next > now);              /* and does not spin */
    }
    return ended;
}

/* A length of any magnitude. */
static int64_t any_length(uint64_t *state) {
    uint64_t bits = test_random(state, 61), value = (uint64_t)test_random(state, UINT32_MAX) << 32;
    value |= test_random(state, UINT32_MAX);
    return (int64_t)(value & ((UINT64_C(1) << bits) - 1));
}

static int64_t earliest_limit(void) {
    int64_t earliest = STEL_FOREVER;
    for (int i = 0; i < FIBERS; i++)
        if (limit_of[i] < earliest) earliest = limit_of[i];
    return earliest;
}

static void step(uint64_t *state) {
    int i = (int)test_random(state, FIBERS);
    stel__wheel *mine = &wheels[test_random(state, WHEELS)];
    switch (test_random(state, 16)) {
    case 0: /* any time from now, but for ages to come only now and then, or nothing would be left to test */
        if (test_random(state, 50) == 0) advance(stel__time_add(now, any_length(state)) - 1);
        break;
    case 1:
        advance(now + (any_length(state) & 0xffffff));
        break;
    case 2:
    case 3: { /* just before a limit nobody ends; at it, somebody does */
        int64_t limit = earliest_limit();
        if (limit == STEL_FOREVER || limit > INT64_MAX / 2) break;
        if (limit - 1 > now) FIBER_ASSERT_EQ(advance(limit - 1), 0);
        FIBER_ASSERT(advance(limit) > 0);
        break;
    }
    case 4:
        if (limit_of[i] == STEL_FOREVER) stel__wheel_disarm(find_wheel, &fiber[i]);
        break;
    case 5:
    case 6:
        end_wait(i);
        break;
    case 7:
        end_wait(i);
        begin_wait(i, mine, STEL_FOREVER); /* a wait without limit, the old timer still armed */
        break;
    default:
        if (limit_of[i] != STEL_FOREVER) break;
        end_wait(i);
        begin_wait(i, mine, stel__time_add(now, any_length(state) >> test_random(state, 20)));
    }
}

START_TEST(against_a_model) {
    uint64_t state = test_seed();
    static const int64_t starts[] = { 0, 1, INT64_C(1) << 20, INT64_C(123456789012345), INT64_C(1) << 60 };
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++) {
        set_up(starts[s]);
        for (uint64_t n = test_scale(100000); n > 0 && now < INT64_MAX / 4 * 3; n--)
            step(&state);
        tear_down();
    }
}
END_TEST

/* The wheel is driven as a worker does it: it sleeps until `next`, no more often than levels need, and each wait ends at
 * its very nanosecond. */
START_TEST(driven_by_next) {
    uint64_t state = test_seed();
    for (int round = 0; round < 20; round++) {
        set_up(any_length(&state) >> 1);
        unsigned waiting = 0, looks = 0;
        for (int i = 0; i < FIBERS; i++, waiting++)
            begin_wait(i, &wheels[0], now + 1 + (any_length(&state) >> 3));
        while (waiting > 0) {
            int64_t due = earliest_limit(), next = stel__load_relaxed(&wheels[0].next);
            ck_assert_int_le(next, due);
            unsigned ended = advance(next);
            ck_assert(ended == 0 || now == due);
            waiting -= ended;
            ck_assert_uint_le(++looks, FIBERS * (STEL__WHEEL_LEVELS + 1)); /* a timer sinks a level at a time */
        }
        ck_assert_int_eq(stel__load_relaxed(&wheels[0].next), STEL_FOREVER);
        tear_down();
    }
}
END_TEST

/* Every boundary of every level, from places just before and after boundaries. */
START_TEST(boundaries) {
    for (int from = 0; from < 60; from += 3) {
        for (int64_t shift = -1; shift <= 1; shift++) {
            int64_t start = (INT64_C(1) << from) + shift;
            set_up(start);
            for (int i = 0; i < 60; i++)
                for (int k = 0; k < 3; k++)
                    begin_wait(i * 3 + k, &wheels[i % 2], start + (INT64_C(1) << i) + k - 1);
            for (int64_t limit; (limit = earliest_limit()) != STEL_FOREVER;) {
                if (limit - 1 > now) ck_assert_uint_eq(advance(limit - 1), 0);
                ck_assert_uint_gt(advance(limit), 0);
            }
            tear_down();
        }
    }
}
END_TEST

START_TEST(strange_times) {
    set_up(1000000);
    begin_wait(0, &wheels[0], 0);
    begin_wait(1, &wheels[0], -1);
    begin_wait(2, &wheels[0], INT64_MIN);
    begin_wait(3, &wheels[0], 1000000); /* now */
    begin_wait(4, &wheels[0], STEL_FOREVER - 1);
    ck_assert_int_eq(stel__load_relaxed(&wheels[0].next), INT64_MIN);
    ck_assert_uint_eq(advance(1000000), 4);
    ck_assert_uint_eq(advance(INT64_C(1) << 62), 0);
    ck_assert_uint_eq(advance(STEL_FOREVER - 2), 0);
    ck_assert_uint_eq(advance(STEL_FOREVER - 1), 1);
    tear_down();
}
END_TEST

/* A wait that has a later limit than the timer, an earlier one, and one on another worker. */
START_TEST(armed_again) {
    set_up(0);
    begin_wait(0, &wheels[0], 5000000);
    end_wait(0);
    begin_wait(0, &wheels[1], 9000000); /* early enough: it stays on the first wheel */
    ck_assert_uint_eq(stel__load_relaxed(&fiber[0].wheel), 1);
    ck_assert_int_eq(fiber[0].timer_when, 5000000);
    ck_assert_uint_eq(advance(5000000), 0); /* fires early, for nobody, and is armed again */
    ck_assert_uint_eq(stel__load_relaxed(&fiber[0].wheel), 1);
    ck_assert_int_eq(fiber[0].timer_when, 9000000);
    end_wait(0);
    begin_wait(0, &wheels[1], 6000000); /* earlier: it moves */
    ck_assert_uint_eq(stel__load_relaxed(&fiber[0].wheel), 2);
    ck_assert_uint_eq(advance(5999999), 0);
    ck_assert_uint_eq(advance(6000000), 1);
    /* Nobody waits any more when it fires: it comes off. */
    begin_wait(1, &wheels[0], 7000000);
    end_wait(1);
    ck_assert_uint_eq(advance(8000000), 0);
    ck_assert_uint_eq(stel__load_relaxed(&fiber[1].wheel), 0);
    stel__wheel_disarm(find_wheel, &fiber[1]);
    /* Its fiber is still on the way to sleep when it fires: a moment later again. */
    begin_wait(2, &wheels[0], 9000000);
    uint64_t parked = stel__load_relaxed(&fiber[2].waiter.word);
    stel__store_relaxed(&fiber[2].waiter.word, (parked & STEL__WORD_SEQUENCE) | STEL__WORD_PREPARED);
    ck_assert_uint_eq(stel__wheel_expire(&wheels[0], 9000000), 0);
    ck_assert_uint_eq(stel__load_relaxed(&fiber[2].wheel), 1);
    ck_assert_int_gt(fiber[2].timer_when, 9000000);
    stel__store_relaxed(&fiber[2].waiter.word, parked);
    ck_assert_uint_eq(advance(fiber[2].timer_when), 1);
    ck_assert_uint_eq(state_of(2), STEL__WORD_IDLE);
    tear_down();
}
END_TEST

/* One thread arms and disarms fibers of its own on a wheel that another one expires. */
static flag over;
static _Atomic int64_t shared_now;

static void *expire_on(void *arg) {
    while (!is_raised(&over))
        stel__wheel_expire(arg, atomic_load(&shared_now));
    return NULL;
}

START_TEST(expired_by_another_thread) {
    uint64_t state = test_seed();
    set_up(0);
    pthread_t t = beside(expire_on, &wheels[0]);
    uint64_t ended = 0, begun = 0;
    for (uint64_t n = test_scale(200000); n > 0; n--) {
        int i = (int)test_random(&state, FIBERS);
        int64_t time = atomic_load(&shared_now);
        if (state_of(i) == STEL__WORD_IDLE) {
            begin_wait(i, &wheels[test_random(&state, 2)], time + test_random(&state, 400000));
            begun++;
        }
        for (const stel__fiber *f; (f = stel__inject_pop(&home->inject)); ended++) {
            FIBER_ASSERT(limit_of[f->waiter.index] <= atomic_load(&shared_now));
            end_wait((int)f->waiter.index);
            if (test_random(&state, 2)) stel__wheel_disarm(find_wheel, &fiber[f->waiter.index]);
        }
        if (test_random(&state, 4) == 0) atomic_store(&shared_now, time + test_random(&state, 100000));
        if (test_random(&state, 100) == 0) stel__wheel_expire(&wheels[1], atomic_load(&shared_now));
    }
    raise_flag(&over);
    pthread_join(t, NULL);
    now = atomic_load(&shared_now);
    stel__inject *q = &home->inject;
    for (int round = 0; round < 2; round++) {
        now += 1000000;
        for (int i = 0; i < WHEELS; i++)
            stel__wheel_expire(&wheels[i], now);
        for (const stel__fiber *f; (f = stel__inject_pop(q)); ended++)
            end_wait((int)f->waiter.index);
    }
    ck_assert_uint_eq(ended, begun); /* each wait has ended once */
    tear_down();
}
END_TEST

TEST_MAIN("sched/wheel", against_a_model, driven_by_next, boundaries, strange_times, armed_again,
          expired_by_another_thread)
