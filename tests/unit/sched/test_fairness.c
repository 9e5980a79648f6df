/* Nobody waits for ever: on one worker, whatever queue a fiber is on, others that never stop do not keep it from its
 * turn. A victim raises a flag when it has had its turns; the others go on until they see it. If the victim starves,
 * the test does not end, and libcheck ends it. And the order of priorities. */
#include "room.h"
#include "sched/worker.h"

static flag done;
static uint64_t noise; /* turns of those that never stop; one worker, so it needs no care */

/* ---- victims ---- */

static int take_turns(void *arg) {
    for (intptr_t i = (intptr_t)arg; i > 0; i--)
        stel_yield();
    raise_flag(&done);
    return 0;
}

static int sleep_and_raise(void *arg) {
    for (intptr_t i = (intptr_t)arg; i > 0; i--)
        FIBER_OK(stel_sleep(STEL_US(10)));
    raise_flag(&done);
    return 0;
}

/* ---- those that never stop ---- */

static int yield_on(void *arg) {
    (void)arg;
    for (; !is_raised(&done); noise++)
        stel_yield();
    return 0;
}

/* Two that wake each other: each is always in the next slot. */
static int ping_pong(void *arg) {
    _Atomic stel_fiber *other = arg;
    for (; !is_raised(&done); noise++) {
        (void)stel_unpark(atomic_load(other));
        FIBER_OK(stel_park());
    }
    (void)stel_unpark(atomic_load(other)); /* it shall see it, too */
    return 0;
}

/* Each one spawns its successor and ends: there is always a newest spawn. */
static int chain(void *arg) {
    noise++;
    if (!is_raised(&done)) FIBER_OK(stel_go(chain, arg));
    return 0;
}

/* There are always many spawns. */
static atomic_int outstanding;

static int leaf(void *arg) {
    (void)arg;
    noise++;
    atomic_fetch_sub(&outstanding, 1);
    return 0;
}

static int spawn_on(void *arg) {
    (void)arg;
    while (!is_raised(&done)) {
        while (atomic_load(&outstanding) < 200) {
            atomic_fetch_add(&outstanding, 1);
            FIBER_OK(stel_go(leaf, NULL));
        }
        stel_yield();
    }
    return 0;
}

/* A plain thread keeps the injection queue filled. */
static void *inject_on(void *arg) {
    stel_runtime *rt = arg;
    while (!is_raised(&done)) {
        if (atomic_load(&outstanding) > 500) {
            check_fiber_nap();
            continue;
        }
        atomic_fetch_add(&outstanding, 1);
        FIBER_OK(stel_runtime_spawn(rt, NULL, NULL, leaf, NULL));
    }
    return NULL;
}

enum company_kind { YIELDERS, PAIR, CHAIN, SPAWNER, PINNED, URGENT, LOW, THREAD, NOISES };
static const char *const noise_names[] = { "yielders", "a pair", "a chain", "a spawner",
                                           "pinned",   "urgent", "low",     "a thread" };

typedef struct company {
    stel_fiber f[3];
    int n;
    _Atomic stel_fiber side[2];
    pthread_t thread;
    bool has_thread;
} company;

static void begin_noise(company *c, enum company_kind kind) {
    stel_spawn_options o = { 0 };
    c->n = 0;
    switch (kind) {
    case PAIR:
        c->f[0] = spawn(ping_pong, &c->side[1]);
        c->f[1] = spawn(ping_pong, &c->side[0]);
        atomic_store(&c->side[0], c->f[0]);
        atomic_store(&c->side[1], c->f[1]);
        c->n = 2;
        return;
    case CHAIN:
        FIBER_OK(stel_go(chain, NULL));
        return;
    case SPAWNER:
        c->f[c->n++] = spawn(spawn_on, NULL);
        return;
    case THREAD:
        c->thread = beside(inject_on, stel_runtime_current());
        c->has_thread = true;
        return;
    case PINNED:
        o.place = STEL_WORKER(0);
        break;
    case URGENT:
        o.priority = -4;
        break;
    case LOW:
        o.priority = 1;
        break;
    default:
        break;
    }
    while (c->n < 3)
        c->f[c->n++] = spawn_with(o, yield_on, NULL);
}

static void end_noise(company *c) {
    for (int i = 0; i < c->n; i++)
        FIBER_ASSERT_EQ(join(c->f[i]), 0);
    if (c->has_thread) pthread_join(c->thread, NULL);
    c->has_thread = false;
}

static stel_fn *victim_fn;
static stel_spawn_options victim_options;
static int victim_turns;
static uint64_t noise_most; /* 0: any */

/* The victim among company of one kind, and among company of all kinds at once. */
static int suffer(void *arg) {
    static company c[NOISES];
    unsigned kinds = (unsigned)(uintptr_t)arg;
    atomic_store(&done, 0);
    atomic_store(&outstanding, 0);
    noise = 0;
    bool victim_first = kinds & 1u << NOISES;
    stel_fiber victim = 0;
    if (victim_first) victim = spawn_with(victim_options, victim_fn, (void *)(intptr_t)victim_turns);
    for (enum company_kind kind = 0; kind < NOISES; kind++)
        if (kinds & 1u << kind) begin_noise(&c[kind], kind);
    if (!victim_first) victim = spawn_with(victim_options, victim_fn, (void *)(intptr_t)victim_turns);
    FIBER_ASSERT_EQ(join(victim), 0);
    if (noise_most && !(kinds & 1u << URGENT)) FIBER_ASSERT(noise <= noise_most);
    for (enum company_kind kind = 0; kind < NOISES; kind++)
        if (kinds & 1u << kind) end_noise(&c[kind]);
    return 0;
}

static void among(stel_fn *victim, stel_spawn_options o, int turns, unsigned without) {
    victim_fn = victim;
    victim_options = o;
    victim_turns = turns;
    for (unsigned order = 0; order < 2; order++) {
        unsigned all = ((1u << NOISES) - 1) & ~without;
        for (unsigned kind = 0; kind < NOISES; kind++) {
            if (without & 1u << kind) continue;
            fprintf(stderr, "among %s\n", noise_names[kind]);
            ck_assert_int_eq(run_in_runtime(1, suffer, (void *)(uintptr_t)(1u << kind | order << NOISES)), 0);
        }
        fprintf(stderr, "among all of them\n");
        ck_assert_int_eq(run_in_runtime(1, suffer, (void *)(uintptr_t)(all | order << NOISES)), 0);
    }
}

/* On the ring, which has its turn after 31 others at the most, and every second time against pinned ones. Only urgent
 * ones may come before it more often. */
START_TEST(a_yielder) {
    noise_most = 50 * 75 + 250;
    among(take_turns, (stel_spawn_options){ 0 }, 50, 0);
}
END_TEST

/* Woken by its timer, each time. */
START_TEST(a_sleeper) {
    among(sleep_and_raise, (stel_spawn_options){ 0 }, 10, 0);
}
END_TEST

/* Beside fibers whose turns are long it is not dispatches that count: the poller thread sees the timer pass, and has the
 * worker look. Turns are long by the CPU's time, so a busy machine gives the poller thread no less of a chance. Without it
 * the sleeper waits for 61 turns each time. */
enum { LONG_TURN_NS = 2000000, NAPS = 12 };

static int hold_on(void *arg) {
    (void)arg;
    for (; !is_raised(&done); noise++) {
        int64_t end = stel__clock_thread(pthread_self()) + LONG_TURN_NS;
        while (stel__clock_thread(pthread_self()) < end)
            ;
        stel_yield();
    }
    return 0;
}

static int nap_beside_long_turns(void *arg) {
    stel_fiber f[2];
    (void)arg;
    atomic_store(&done, 0);
    noise = 0;
    for (int i = 0; i < 2; i++)
        f[i] = spawn(hold_on, NULL);
    for (int i = 0; i < NAPS; i++)
        FIBER_OK(stel_sleep(STEL_MS(1)));
    FIBER_ASSERT(noise < NAPS * STEL__CHECK_INTERVAL / 2);
    raise_flag(&done);
    for (int i = 0; i < 2; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    return 0;
}

START_TEST(a_sleeper_beside_long_turns) {
    ck_assert_int_eq(run_in_runtime(1, nap_beside_long_turns, NULL), 0);
}
END_TEST

START_TEST(the_least_urgent) {
    among(take_turns, (stel_spawn_options){ .priority = 3 }, 5, 0);
}
END_TEST

START_TEST(the_least_urgent_pinned) {
    among(take_turns, (stel_spawn_options){ .priority = 3, .place = STEL_WORKER(0) }, 5, 0);
}
END_TEST

START_TEST(a_pinned_one) {
    among(take_turns, (stel_spawn_options){ .place = STEL_WORKER(0) }, 50, 0);
}
END_TEST

/* The oldest spawn, behind newer ones without end: it waits for its first turn only. */
static int spawned_first(void *arg) {
    (void)arg;
    atomic_store(&done, 0);
    atomic_store(&outstanding, 0);
    stel_fiber oldest = spawn(take_turns, NULL), newer = spawn(spawn_on, NULL);
    FIBER_OK(stel_go(chain, NULL));
    FIBER_ASSERT_EQ(join(oldest), 0);
    FIBER_ASSERT_EQ(join(newer), 0);
    return 0;
}

START_TEST(the_oldest_spawn) {
    ck_assert_int_eq(run_in_runtime(1, spawned_first, NULL), 0);
}
END_TEST

/* From outside, while the worker is busy. */
static int busy(void *arg) {
    company *c = arg;
    begin_noise(c, YIELDERS);
    return 0;
}

START_TEST(one_from_outside) {
    stel_runtime *rt = room_open(1);
    static company c[1];
    stel_fiber f, victim;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, busy, c), 0);
    ck_assert_int_eq(join(f), 0);
    ck_assert_int_eq(stel_runtime_spawn(rt, &victim, NULL, take_turns, (void *)5), 0);
    ck_assert_int_eq(join(victim), 0);
    end_noise(c);
    room_close(rt);
}
END_TEST

/* ---- order ---- */

static int order[16], order_length;

static int note_priority(void *arg) {
    int priority = 99;
    (void)arg;
    FIBER_OK(stel_fiber_priority(stel_self(), &priority));
    order[order_length++] = priority;
    return 0;
}

static int spawn_in_disorder(void *arg) {
    stel_fiber f[16];
    (void)arg;
    for (int i = 0; i < 16; i++)
        f[i] = spawn_with((stel_spawn_options){ .priority = (i * 5 + 3) % 8 - 4 }, note_priority, NULL);
    for (int i = 0; i < 16; i++)
        join(f[i]);
    for (int i = 1; i < 16; i++)
        FIBER_ASSERT(order[i - 1] <= order[i]);
    return order_length;
}

START_TEST(the_most_urgent_first) {
    /* A fresh worker, so that none of its turns is one in which the last come first. */
    ck_assert_int_eq(run_in_runtime(1, spawn_in_disorder, NULL), 16);
}
END_TEST

/* Of one priority: first in, first out. */
static int note_number(void *arg) {
    order[order_length++] = (int)(intptr_t)arg;
    return 0;
}

static int same_priority(void *arg) {
    stel_fiber f[16];
    for (intptr_t i = 0; i < 16; i++)
        f[i] = spawn_with((stel_spawn_options){ .priority = (int)(intptr_t)arg }, note_number, (void *)i);
    for (int i = 0; i < 16; i++)
        join(f[i]);
    for (int i = 0; i < 16; i++)
        FIBER_ASSERT_EQ(order[i], i);
    order_length = 0;
    return 0;
}

START_TEST(first_come_first_served) {
    ck_assert_int_eq(run_in_runtime(1, same_priority, (void *)-2), 0);
    ck_assert_int_eq(run_in_runtime(1, same_priority, (void *)2), 0);
}
END_TEST

/* A changed priority counts from the next time the fiber is made runnable. */
static int climb(void *arg) {
    FIBER_OK(stel_set_priority((int)(intptr_t)arg));
    stel_yield();
    return note_priority(NULL);
}

static int climbers(void *arg) {
    stel_fiber f[8];
    (void)arg;
    for (intptr_t i = 0; i < 8; i++)
        f[i] = spawn(climb, (void *)(3 - i));
    FIBER_OK(stel_set_priority(3)); /* all of them have had their first turn before we join */
    stel_yield();
    FIBER_ASSERT_EQ(order_length, 7); /* all but the one that is as little urgent as we are, or before us */
    for (int i = 0; i < 8; i++)
        join(f[i]);
    return order_length;
}

START_TEST(changed_on_the_way) {
    ck_assert_int_eq(run_in_runtime(1, climbers, NULL), 8);
}
END_TEST

TEST_MAIN("sched/fairness", a_yielder, a_sleeper, a_sleeper_beside_long_turns, the_least_urgent,
          the_least_urgent_pinned, a_pinned_one, the_oldest_spawn, one_from_outside, the_most_urgent_first,
          first_come_first_served, changed_on_the_way)
