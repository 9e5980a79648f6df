/* stel_barrier: one meeting after the other, arrivals that are withdrawn, life, misuse. */
#include "players.h"
#include <limits.h>

/* ---- alone ---- */

static int alone(void *arg) {
    (void)arg;
    stel_barrier b;
    memset(&b, 0xA5, sizeof b);
    FIBER_ASSERT_EQ(stel_barrier_init(NULL, 1), -EINVAL);
    FIBER_ASSERT_EQ(stel_barrier_init(&b, 0), -EINVAL);
    FIBER_ASSERT_EQ(stel_barrier_init(&b, (unsigned)INT_MAX + 1), -EINVAL);
    FIBER_OK(stel_barrier_init(&b, 1));
    for (int i = 0; i < 3; i++)
        FIBER_ASSERT_EQ(stel_barrier_wait(&b), 1);
    FIBER_OK(stel_barrier_init(&b, 2));
    for (int i = 0; i < 3; i++) { /* each time the arrival is withdrawn: there are never two */
        STEL_TIMEOUT(STEL_MS(1));
        FIBER_ASSERT_EQ(stel_barrier_wait(&b), -ETIMEDOUT);
    }
    return 0;
}

START_TEST(a_meeting_of_one) {
    ck_assert_int_eq(run_in_runtime(1, alone, NULL), 0);
    ck_assert_int_eq(alone(NULL), 0);
}
END_TEST

/* ---- nobody leaves before the last has come ---- */

enum { PARTY = 4 };

static int arrive(void *b) {
    return stel_barrier_wait(b);
}

static void step_by_step(game *g) {
    stel_barrier b;
    player p[PARTY];
    FIBER_OK(stel_barrier_init(&b, PARTY));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < PARTY - 1; i++)
            player_start_asleep(&p[i], g, STEL__WAIT_BARRIER, arrive, &b);
        for (int i = 0; i < PARTY - 1; i++)
            FIBER_ASSERT(!player_over(&p[i]));
        int ones = stel_barrier_wait(&b);
        for (int i = 0; i < PARTY - 1; i++) {
            int rc = player_join(&p[i]);
            FIBER_ASSERT(rc == 0 || rc == 1);
            ones += rc;
        }
        FIBER_ASSERT_EQ(ones, 1);
    }
}

START_TEST(nobody_leaves_before_the_last_has_come) {
    mixtures(step_by_step, NULL);
}
END_TEST

static int arrive_shortly(void *b) {
    STEL_TIMEOUT(STEL_MS(2));
    return stel_barrier_wait(b);
}

/* Of four that are needed two are there; two more come and go; two come, and that is the meeting. */
static void come_and_go(game *g) {
    stel_barrier b;
    player p[2], q[2];
    FIBER_OK(stel_barrier_init(&b, PARTY));
    player_start_asleep(&p[0], g, STEL__WAIT_BARRIER, arrive, &b);
    player_start(&q[0], g, arrive_shortly, &b);
    FIBER_ASSERT_EQ(player_join(&q[0]), -ETIMEDOUT);
    player_start_asleep(&p[1], g, STEL__WAIT_BARRIER, arrive, &b);
    player_start(&q[0], g, arrive_shortly, &b);
    FIBER_ASSERT_EQ(player_join(&q[0]), -ETIMEDOUT);
    player_start_asleep(&q[0], g, STEL__WAIT_BARRIER, arrive, &b);
    if (q[0].fiber) {
        FIBER_OK(stel_cancel(q[0].fiber));
        FIBER_ASSERT_EQ(player_join(&q[0]), -ECANCELED);
        player_start_asleep(&q[0], g, STEL__WAIT_BARRIER, arrive, &b);
    }
    for (int i = 0; i < 2; i++)
        FIBER_ASSERT(!player_over(&p[i]));
    int ones = stel_barrier_wait(&b);
    FIBER_ASSERT(ones == 0 || ones == 1);
    ones += player_join(&p[0]);
    ones += player_join(&p[1]);
    ones += player_join(&q[0]);
    FIBER_ASSERT_EQ(ones, 1);
}

START_TEST(who_is_cut_short_has_not_come) {
    mixtures(come_and_go, NULL);
}
END_TEST

/* ---- rounds ---- */

enum { CROWD = 100 }; /* more than a waker keeps tickets for */

typedef struct rounds {
    stel_barrier b;
    unsigned n;
    uint64_t rounds;
    uint64_t at[CROWD]; /* plain: the barrier orders them */
    _Atomic uint64_t number, ones;
} rounds;

static int go_round(void *arg) {
    rounds *r = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state, me = atomic_fetch_add(&r->number, 1);
    for (uint64_t i = 1; i <= r->rounds; i++) {
        r->at[me] = i;
        int rc = stel_barrier_wait(&r->b);
        FIBER_ASSERT(rc == 0 || rc == 1);
        if (rc == 1) FIBER_ASSERT_EQ(atomic_fetch_add(&r->ones, 1), i - 1);
        for (unsigned k = 0; k < r->n; k++)
            FIBER_ASSERT_EQ(r->at[k], i); /* nobody is behind, and nobody ahead: they come back first */
        FIBER_OK(stel_barrier_wait(&r->b));
        if (test_random(&state, 8) == 0) crew_jitter(&state);
    }
    return 0;
}

static void run_rounds(enum crew_kind kind) {
    static const unsigned sizes[] = { 2, 5, CROWD };
    for (int i = 0; i < 3; i++) {
        rounds r = { .n = sizes[i], .rounds = test_scale(sizes[i] == CROWD ? 20 : 1000) };
        FIBER_OK(stel_barrier_init(&r.b, r.n));
        crew_run_same(kind, go_round, &r, r.n);
        FIBER_ASSERT_EQ(r.ones, r.rounds);
    }
}

START_TEST(rounds_of_fibers_of_one_worker) {
    run_rounds(CREW_ONE_WORKER);
}
END_TEST
START_TEST(rounds_of_fibers) {
    run_rounds(CREW_WORKERS);
}
END_TEST
START_TEST(rounds_of_threads) {
    run_rounds(CREW_THREADS);
}
END_TEST
START_TEST(rounds_of_both) {
    run_rounds(CREW_MIXED);
}
END_TEST

/* ---- meetings of three among five that do not wait long: each is complete ---- */

typedef struct fleeting {
    stel_barrier b;
    _Atomic uint64_t met, meetings, cut_short;
    uint64_t wanted;
} fleeting;

static int meet_if_soon(void *arg) {
    fleeting *m = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    while (atomic_load(&m->meetings) < m->wanted) {
        STEL_TIMEOUT((int64_t)test_random(&state, 100000));
        int rc = stel_barrier_wait(&m->b);
        FIBER_ASSERT(rc == 0 || rc == 1 || rc == -ETIMEDOUT);
        if (rc == -ETIMEDOUT) {
            atomic_fetch_add(&m->cut_short, 1);
            continue;
        }
        atomic_fetch_add(&m->met, 1);
        if (rc == 1) atomic_fetch_add(&m->meetings, 1);
    }
    return 0;
}

START_TEST(meetings_are_complete) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        fleeting m = { .wanted = test_scale(500) };
        FIBER_OK(stel_barrier_init(&m.b, 3));
        crew_run_same((enum crew_kind)kind, meet_if_soon, &m, 5);
        FIBER_ASSERT_EQ(m.met, 3 * m.meetings);
    }
}
END_TEST

/* ---- life: the last to leave ends it ---- */

typedef struct mortal {
    stel_barrier b;
    _Atomic unsigned left;
} mortal;
typedef struct mortals {
    mortal *all;
    size_t n;
} mortals;

static int meet_and_end(void *arg) {
    mortals *g = arg;
    for (size_t i = 0; i < g->n; i++) {
        FIBER_OK(stel_barrier_wait(&g->all[i].b));
        if (atomic_fetch_sub(&g->all[i].left, 1) == 1) bury(&g->all[i], sizeof(mortal));
    }
    return 0;
}

static void end_of_barriers(enum crew_kind kind, unsigned n, uint64_t objects) {
    mortals g = { .n = (size_t)test_scale(objects) };
    g.all = calloc(g.n, sizeof(mortal));
    for (size_t i = 0; i < g.n; i++) {
        FIBER_OK(stel_barrier_init(&g.all[i].b, n));
        atomic_store(&g.all[i].left, n);
    }
    crew_run_same(kind, meet_and_end, &g, n);
    graves_check(g.all, g.n * sizeof(mortal));
    free(g.all);
}

START_TEST(may_be_freed_by_the_last_to_leave) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        end_of_barriers((enum crew_kind)kind, 2, 5000);
        end_of_barriers((enum crew_kind)kind, 4, 2000);
        end_of_barriers((enum crew_kind)kind, 50, 50);
    }
}
END_TEST

/* ---- misuse ---- */

static void without_number(void) {
    stel_barrier b = { { 0 } };
    FIBER_OK(stel_barrier_wait(&b));
}

START_TEST(wrong_use_aborts) {
    must_abort(without_number, "stel_barrier_wait");
    must_abort(without_number, "not initialised");
}
END_TEST

TEST_MAIN("sync/barrier", a_meeting_of_one, nobody_leaves_before_the_last_has_come, who_is_cut_short_has_not_come,
          rounds_of_fibers_of_one_worker, rounds_of_fibers, rounds_of_threads, rounds_of_both, meetings_are_complete,
          may_be_freed_by_the_last_to_leave, wrong_use_aborts)
