/* stel_once: once, whoever comes; failures, ways out of the function, waits that are cut short, life. */
#include "players.h"

/* ---- what a call returns ---- */

static int calls;

static int return_arg(void *arg) {
    calls++;
    return *(int *)arg;
}

static int results(void *arg) {
    (void)arg;
    stel_once o = STEL_ONCE_INIT;
    int failure = -ENOENT, success = 7;
    calls = 0;
    FIBER_ASSERT_EQ(stel_once_call(&o, NULL, &success), -EINVAL);
    FIBER_ASSERT_EQ(stel_once_call(&o, return_arg, &failure), -ENOENT);
    FIBER_ASSERT_EQ(stel_once_call(&o, return_arg, &failure), -ENOENT); /* nothing was remembered */
    FIBER_ASSERT_EQ(calls, 2);
    FIBER_ASSERT_EQ(stel_once_call(&o, return_arg, &success), 0);
    FIBER_ASSERT_EQ(calls, 3);
    FIBER_ASSERT_EQ(stel_once_call(&o, return_arg, &failure), 0);
    FIBER_ASSERT_EQ(calls, 3);
    FIBER_ASSERT_EQ(stel_once_call(&o, NULL, NULL), -EINVAL);
    {
        STEL_TIMEOUT(-1); /* who need not wait has no limit */
        stel_once another = STEL_ONCE_INIT;
        FIBER_ASSERT_EQ(stel_sleep(STEL_SEC(60)), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_once_call(&o, return_arg, &failure), 0);
        FIBER_ASSERT_EQ(stel_once_call(&another, return_arg, &success), 0);
    }
    return 0;
}

START_TEST(what_a_call_returns) {
    ck_assert_int_eq(run_in_runtime(1, results, NULL), 0);
    ck_assert_int_eq(results(NULL), 0);
}
END_TEST

/* ---- from within fn ---- */

typedef struct nest {
    stel_once outer, inner;
    int runs;
} nest;

static int count_run(void *arg) {
    ((nest *)arg)->runs++;
    return 0;
}

static int call_both(void *arg) {
    nest *n = arg;
    FIBER_ASSERT_EQ(stel_once_call(&n->outer, count_run, n), -EDEADLK);
    FIBER_ASSERT_EQ(stel_once_call(&n->inner, count_run, n), 0);
    FIBER_ASSERT_EQ(stel_once_call(&n->inner, count_run, n), 0);
    stel_yield();
    FIBER_ASSERT_EQ(stel_once_call(&n->outer, count_run, n), -EDEADLK);
    return 0;
}

static int nested(void *arg) {
    (void)arg;
    nest n = { .runs = 0 };
    FIBER_ASSERT_EQ(stel_once_call(&n.outer, call_both, &n), 0);
    FIBER_ASSERT_EQ(stel_once_call(&n.outer, call_both, &n), 0);
    FIBER_ASSERT_EQ(n.runs, 1);
    return 0;
}

START_TEST(from_within) {
    ck_assert_int_eq(run_in_runtime(1, nested, NULL), 0);
    ck_assert_int_eq(nested(NULL), 0);
}
END_TEST

/* ---- those who come meanwhile ---- */

typedef struct work {
    stel_once *o;
    stel_event go_on; /* fn waits for it */
    int outcome, result;
    bool ran;
    int64_t limit;
} work;

static int work_fn(void *arg) {
    work *w = arg;
    w->ran = true;
    STEL_SHIELD(STEL_SEC(60)); /* whoever runs it may be out of time, or cancelled */
    FIBER_OK(stel_event_wait(&w->go_on));
    return w->outcome;
}

static int do_work(void *arg) {
    work *w = arg;
    STEL_TIMEOUT(w->limit);
    return w->result = stel_once_call(w->o, work_fn, w);
}

static void start(player *p, game *g, work *w, stel_once *o, int outcome, int64_t limit) {
    *w = (work){ .o = o, .outcome = outcome, .limit = limit };
    player_start(p, g, do_work, w);
}

static void one_after_the_other(game *g) {
    stel_once o = STEL_ONCE_INIT;
    player p[5];
    work w[5];
    /* The first is to fail, the third to succeed; the second is cut short. */
    static const int outcomes[] = { -ENOENT, 0, -EIO, 3, 0 };
    for (int i = 0; i < 5; i++) {
        start(&p[i], g, &w[i], &o, outcomes[i], i == 1 ? STEL_MS(2) : STEL_FOREVER);
        if (i == 1)
            FIBER_ASSERT_EQ(player_join(&p[1]), -ETIMEDOUT);
        else
            player_asleep(&p[i], i == 0 ? STEL__WAIT_EVENT : STEL__WAIT_ONCE);
    }
    FIBER_ASSERT(!w[1].ran && !w[2].ran && !w[3].ran && !w[4].ran);
    stel_event_set(&w[0].go_on);
    FIBER_ASSERT_EQ(player_join(&p[0]), -ENOENT);
    player_asleep(&p[2], STEL__WAIT_EVENT); /* the next in the line, and no other, tries again */
    FIBER_ASSERT(w[2].ran && !w[3].ran && !w[4].ran);
    stel_event_set(&w[2].go_on);
    FIBER_ASSERT_EQ(player_join(&p[2]), -EIO);
    player_asleep(&p[3], STEL__WAIT_EVENT);
    FIBER_ASSERT(!player_over(&p[4]));
    stel_event_set(&w[3].go_on);
    FIBER_ASSERT_EQ(player_join(&p[3]), 0);
    FIBER_ASSERT_EQ(player_join(&p[4]), 0);
    FIBER_ASSERT(!w[4].ran);
}

START_TEST(who_comes_meanwhile_waits) {
    mixtures(one_after_the_other, NULL);
}
END_TEST

/* All who waited have gone when it fails: the next that comes is the first again. */
static void nobody_left(game *g) {
    stel_once o = STEL_ONCE_INIT;
    player p[2];
    work w[2];
    start(&p[0], g, &w[0], &o, -ENOENT, STEL_FOREVER);
    player_asleep(&p[0], STEL__WAIT_EVENT);
    start(&p[1], g, &w[1], &o, 0, STEL_MS(2));
    FIBER_ASSERT_EQ(player_join(&p[1]), -ETIMEDOUT);
    stel_event_set(&w[0].go_on);
    FIBER_ASSERT_EQ(player_join(&p[0]), -ENOENT);
    int zero = 0;
    calls = 0;
    FIBER_ASSERT_EQ(stel_once_call(&o, return_arg, &zero), 0);
    FIBER_ASSERT_EQ(calls, 1);
}

START_TEST(who_was_cut_short_is_passed_by) {
    mixtures(nobody_left, NULL);
}
END_TEST

/* ---- fn that does not return ---- */

static int leave_inner(void *arg) {
    (void)arg;
    stel_exit(5);
}

typedef struct leaving {
    stel_once *outer, *inner;
    stel_event go;
    _Atomic(stel__waiter *) waiter;
} leaving;

static int leave_outer(void *arg) {
    leaving *l = arg;
    FIBER_OK(stel_event_wait(&l->go));
    return stel_once_call(l->inner, leave_inner, NULL);
}

static int leave(void *arg) {
    leaving *l = arg;
    atomic_store(&l->waiter, stel__waiter_self());
    (void)!stel_once_call(l->outer, leave_outer, l);
    FIBER_FAIL("it came back");
}

static void left(game *g) {
    stel_once outer = STEL_ONCE_INIT, inner = STEL_ONCE_INIT;
    leaving l = { .outer = &outer, .inner = &inner };
    player p;
    work w;
    stel_fiber f = 0;
    int result, zero = 0;
    FIBER_OK(stel_runtime_spawn(g->rt, &f, NULL, leave, &l));
    EVENTUALLY(atomic_load(&l.waiter) && stel__load_relaxed(&atomic_load(&l.waiter)->reason) == STEL__WAIT_EVENT);
    start(&p, g, &w, &outer, 0, STEL_FOREVER);
    player_asleep(&p, STEL__WAIT_ONCE);
    stel_event_set(&l.go);
    FIBER_OK(stel_join(f, &result));
    FIBER_ASSERT_EQ(result, 5);
    player_asleep(&p, STEL__WAIT_EVENT); /* it runs now */
    stel_event_set(&w.go_on);
    FIBER_ASSERT_EQ(player_join(&p), 0);
    calls = 0;
    FIBER_ASSERT_EQ(stel_once_call(&inner, return_arg, &zero), 0);
    FIBER_ASSERT_EQ(calls, 1);
}

START_TEST(a_function_that_is_left_has_failed) {
    mixtures(left, NULL);
}
END_TEST

/* After an fn that returned, the fiber's end has nothing to say about it any more. */
static int once_and_exit(void *o) {
    int zero = 0;
    FIBER_OK(stel_once_call(o, return_arg, &zero));
    stel_exit(0);
}

static int exit_later(void *arg) {
    stel_fiber f;
    stel_once o = STEL_ONCE_INIT;
    int zero = 0;
    (void)arg;
    calls = 0;
    FIBER_OK(stel_spawn(&f, once_and_exit, &o));
    FIBER_OK(stel_join(f, NULL));
    FIBER_OK(stel_once_call(&o, return_arg, &zero));
    FIBER_ASSERT_EQ(calls, 1);
    return 0;
}

START_TEST(what_was_done_stays_done) {
    ck_assert_int_eq(run_in_runtime(1, exit_later, NULL), 0);
}
END_TEST

/* ---- many at once: exactly one run succeeds, and all see what it did ---- */

enum { CROWD = 64 };

typedef struct thing {
    stel_once o;
    uint64_t made; /* plain: the call orders it */
    uint64_t runs;
    _Atomic int left;
} thing;

typedef struct things {
    thing *all;
    size_t n;
    int fail; /* so many runs of each are to fail */
    bool limits;
    _Atomic uint64_t failures;
} things;

static int make(void *arg) {
    thing *t = arg;
    if (t->runs % 2 == 0) stel_yield();
    t->runs++;
    return (int64_t)t->runs <= (int64_t)t->made ? -EAGAIN : (t->made = 1000, 0);
}

static int make_and_end(void *arg) {
    things *g = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (size_t i = 0; i < g->n; i++) {
        thing *t = &g->all[i];
        for (int rc = -1; rc < 0;) {
            STEL_TIMEOUT(g->limits ? (int64_t)test_random(&state, 30000) : STEL_FOREVER);
            rc = stel_once_call(&t->o, make, t);
            FIBER_ASSERT(rc == 0 || rc == -EAGAIN || (g->limits && rc == -ETIMEDOUT));
            if (rc == -EAGAIN) atomic_fetch_add(&g->failures, 1);
        }
        FIBER_ASSERT_EQ(t->made, 1000);
        FIBER_ASSERT_EQ(t->runs, g->fail + 1);
        if (atomic_fetch_sub(&t->left, 1) == 1) bury(t, sizeof *t);
        if (test_random(&state, 16) == 0) crew_jitter(&state);
    }
    return 0;
}

static void many(enum crew_kind kind, int crew, uint64_t n, int fail, bool limits) {
    things g = { .n = (size_t)test_scale(n), .fail = fail, .limits = limits };
    g.all = calloc(g.n, sizeof(thing));
    for (size_t i = 0; i < g.n; i++) {
        atomic_store(&g.all[i].left, crew);
        g.all[i].made = (uint64_t)fail;
    }
    crew_run_same(kind, make_and_end, &g, (size_t)crew);
    FIBER_ASSERT_EQ(g.failures, g.n * (uint64_t)fail);
    graves_check(g.all, g.n * sizeof(thing));
    free(g.all);
}

static void many_ways(enum crew_kind kind) {
    many(kind, 2, 5000, 0, false);
    many(kind, 4, 2000, 1, false);
    many(kind, 4, 1000, 2, true);
    many(kind, CROWD, 50, 3, false); /* more than a waker keeps tickets for */
}

START_TEST(once_among_fibers_of_one_worker) {
    many_ways(CREW_ONE_WORKER);
}
END_TEST
START_TEST(once_among_fibers) {
    many_ways(CREW_WORKERS);
}
END_TEST
START_TEST(once_among_threads) {
    many_ways(CREW_THREADS);
}
END_TEST
START_TEST(once_among_both) {
    many_ways(CREW_MIXED);
}
END_TEST

/* Objects that share a bucket, there being more than buckets: each runner wakes its own waiters only. */
enum { OBJECTS = 100 };

static void neighbours(game *g) {
    static stel_once o[OBJECTS];
    static work runs[OBJECTS], waits[OBJECTS];
    static player runners[OBJECTS], waiters[OBJECTS];
    memset(o, 0, sizeof o);
    for (int i = 0; i < OBJECTS; i++) {
        start(&runners[i], g, &runs[i], &o[i], i % 3 == 0 ? -ENOENT : 0, STEL_FOREVER);
        player_asleep(&runners[i], STEL__WAIT_EVENT);
        start(&waiters[i], g, &waits[i], &o[i], 0, STEL_FOREVER);
        stel_event_set(&waits[i].go_on);
    }
    for (int i = 0; i < OBJECTS; i++)
        player_asleep(&waiters[i], STEL__WAIT_ONCE);
    for (int k = 0; k < OBJECTS; k++) {
        int i = k * 37 % OBJECTS;
        stel_event_set(&runs[i].go_on);
        FIBER_ASSERT_EQ(player_join(&runners[i]), i % 3 == 0 ? -ENOENT : 0);
        FIBER_ASSERT_EQ(player_join(&waiters[i]), 0);
        FIBER_ASSERT_EQ(waits[i].ran, i % 3 == 0);
        if (k + 1 < OBJECTS) FIBER_ASSERT(!player_over(&waiters[(k + 1) * 37 % OBJECTS]));
    }
}

START_TEST(neighbours_are_left_alone) {
    mixtures(neighbours, NULL);
}
END_TEST

TEST_MAIN("sync/once", what_a_call_returns, from_within, who_comes_meanwhile_waits, who_was_cut_short_is_passed_by,
          a_function_that_is_left_has_failed, what_was_done_stays_done, once_among_fibers_of_one_worker,
          once_among_fibers, once_among_threads, once_among_both, neighbours_are_left_alone)
