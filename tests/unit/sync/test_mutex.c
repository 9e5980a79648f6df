/* stel_mutex: exclusion, order, hand-over, life, misuse. */
#include "crew.h"

/* ---- exclusion ---- */

typedef struct shared {
    stel_mutex m;
    uint64_t a, b; /* equal whenever the mutex is free */
    uint64_t rounds;
} shared;

static int add_in_turn(void *arg) {
    shared *s = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (uint64_t i = 0; i < s->rounds; i++) {
        stel_mutex_lock(&s->m);
        FIBER_ASSERT_EQ(s->a, s->b);
        s->a++;
        if (test_random(&state, 10) == 0) stel_yield();
        s->b++;
        stel_mutex_unlock(&s->m);
    }
    return 0;
}

static void exclude(enum crew_kind kind) {
    shared s = { .m = STEL_MUTEX_INIT, .rounds = test_scale(20000) };
    crew_run_same(kind, add_in_turn, &s, 8);
    FIBER_ASSERT_EQ(s.a, 8 * s.rounds);
    FIBER_ASSERT_EQ(s.b, 8 * s.rounds);
    FIBER_ASSERT_EQ(stel_mutex_try_lock(&s.m), 0); /* it is free in the end */
    stel_mutex_unlock(&s.m);
}

START_TEST(excludes_fibers_of_one_worker) {
    exclude(CREW_ONE_WORKER);
}
END_TEST
START_TEST(excludes_fibers_of_several_workers) {
    exclude(CREW_WORKERS);
}
END_TEST
START_TEST(excludes_threads) {
    exclude(CREW_THREADS);
}
END_TEST
START_TEST(excludes_both) {
    exclude(CREW_MIXED);
}
END_TEST

static int try_all(void *arg) {
    shared *s = arg;
    for (uint64_t done = 0; done < s->rounds;) {
        if (stel_mutex_try_lock(&s->m) < 0) {
            stel_yield();
            continue;
        }
        FIBER_ASSERT_EQ(s->a, s->b);
        s->a++;
        s->b++;
        stel_mutex_unlock(&s->m);
        done++;
    }
    return 0;
}

START_TEST(try_lock_excludes_too) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        shared s = { .m = STEL_MUTEX_INIT, .rounds = test_scale(5000) };
        crew_job jobs[] = { { try_all, &s }, { add_in_turn, &s }, { try_all, &s }, { add_in_turn, &s } };
        crew_run((enum crew_kind)kind, jobs, 4);
        FIBER_ASSERT_EQ(s.a, 4 * s.rounds);
    }
}
END_TEST

/* ---- try_lock ---- */

static int find_it_held(void *arg) {
    return stel_mutex_try_lock(arg) == -EBUSY ? 0 : -EBADMSG;
}

static int hold_and_try(void *arg) {
    stel_mutex *m = arg;
    stel_fiber f;
    int result;
    FIBER_ASSERT_EQ(stel_mutex_try_lock(m), 0);
    FIBER_ASSERT_EQ(stel_mutex_try_lock(m), -EBUSY); /* not recursive either */
    FIBER_OK(stel_spawn(&f, find_it_held, m));
    FIBER_OK(stel_join(f, &result));
    FIBER_OK(result);
    stel_mutex_unlock(m);
    FIBER_ASSERT_EQ(stel_mutex_try_lock(m), 0);
    stel_mutex_unlock(m);
    return 0;
}

START_TEST(try_lock_never_waits) {
    stel_mutex m = STEL_MUTEX_INIT;
    ck_assert_int_eq(run_in_runtime(1, hold_and_try, &m), 0);
    ck_assert_int_eq(stel_mutex_try_lock(&m), 0); /* from a thread */
    ck_assert_int_eq(stel_mutex_try_lock(&m), -EBUSY);
    stel_mutex_unlock(&m);
}
END_TEST

/* ---- order ---- */

typedef struct line {
    stel_mutex m;
    int came[8], arrived;
} line;

typedef struct place {
    line *l;
    int number;
} place;

static int stand_in_line(void *arg) {
    place *p = arg;
    stel_mutex_lock(&p->l->m);
    p->l->came[p->l->arrived++] = p->number;
    stel_mutex_unlock(&p->l->m);
    return 0;
}

static int first_come(void *arg) {
    (void)arg;
    line l = { .m = STEL_MUTEX_INIT };
    stel_fiber f[8];
    place p[8];
    stel_mutex_lock(&l.m);
    for (int i = 0; i < 8; i++) {
        p[i] = (place){ &l, i };
        FIBER_OK(stel_spawn(&f[i], stand_in_line, &p[i]));
        stel_yield(); /* until it waits */
    }
    stel_mutex_unlock(&l.m);
    for (int i = 0; i < 8; i++)
        FIBER_OK(stel_join(f[i], NULL));
    for (int i = 0; i < 8; i++)
        FIBER_ASSERT_EQ(l.came[i], i);
    return 0;
}

START_TEST(waiters_get_it_in_order_of_arrival) {
    ck_assert_int_eq(run_in_runtime(1, first_come, NULL), 0);
}
END_TEST

typedef struct greedy {
    stel_mutex m;
    bool got_it;
} greedy;

static int want_it_once(void *arg) {
    greedy *g = arg;
    stel_mutex_lock(&g->m);
    g->got_it = true;
    stel_mutex_unlock(&g->m);
    return 0;
}

/* One fiber takes the mutex again as soon as it has given it back, and sleeps with it: whoever else wants it is always
 * too late, unless it is handed over. */
static int never_let_go(void *arg) {
    (void)arg;
    greedy g = { .m = STEL_MUTEX_INIT };
    stel_fiber f;
    int turns = 0;
    stel_mutex_lock(&g.m);
    FIBER_OK(stel_spawn(&f, want_it_once, &g));
    for (int i = 0; i < 3; i++)
        stel_yield();
    while (!g.got_it) {
        FIBER_ASSERT(++turns <= 3);
        stel_mutex_unlock(&g.m);
        stel_mutex_lock(&g.m);
        for (int i = 0; i < 3; i++)
            stel_yield();
    }
    stel_mutex_unlock(&g.m);
    return stel_join(f, NULL);
}

START_TEST(a_waiter_that_loses_is_handed_the_mutex) {
    ck_assert_int_eq(run_in_runtime(1, never_let_go, NULL), 0);
}
END_TEST

/* ---- deadlines and cancellation do not cut it short ---- */

typedef struct stubborn {
    stel_mutex m;
    _Atomic int held;
    bool by_deadline;
} stubborn;

static int lock_anyway(void *arg) {
    stubborn *s = arg;
    STEL_TIMEOUT(s->by_deadline ? STEL_MS(1) : STEL_FOREVER);
    if (s->by_deadline) FIBER_ASSERT_EQ(stel_sleep(STEL_SEC(60)), -ETIMEDOUT); /* already over when it locks */
    stel_mutex_lock(&s->m);
    FIBER_ASSERT_EQ(atomic_load(&s->held), 0);
    stel_mutex_unlock(&s->m);
    return stel_sleep(STEL_SEC(60));
}

static int hold_for_a_while(void *arg) {
    stubborn *s = arg;
    stel_fiber f;
    int result;
    stel_mutex_lock(&s->m);
    atomic_store(&s->held, 1);
    FIBER_OK(stel_spawn(&f, lock_anyway, s));
    FIBER_OK(stel_sleep(STEL_MS(1)));
    if (!s->by_deadline) FIBER_OK(stel_cancel(f));
    FIBER_OK(stel_sleep(STEL_MS(5)));
    FIBER_ASSERT_EQ(stel_try_join(f, &result), -EAGAIN);
    atomic_store(&s->held, 0);
    stel_mutex_unlock(&s->m);
    FIBER_OK(stel_join(f, &result));
    return result;
}

START_TEST(lock_is_not_cut_short) {
    for (int workers = 1; workers <= 2; workers++) {
        stubborn s = { .m = STEL_MUTEX_INIT, .by_deadline = true };
        ck_assert_int_eq(run_in_runtime(workers, hold_for_a_while, &s), -ETIMEDOUT);
        s.by_deadline = false;
        ck_assert_int_eq(run_in_runtime(workers, hold_for_a_while, &s), -ECANCELED);
    }
}
END_TEST

/* ---- life ---- */

/* Objects counted down under their own mutex: whoever comes last owns the object, and its end. */
typedef struct mortal {
    stel_mutex m;
    uint64_t left;
} mortal;
typedef struct mortals {
    mortal *all;
    size_t n;
    uint64_t users;
} mortals;

static int use_each(void *arg) {
    mortals *g = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (size_t i = 0; i < g->n; i++) {
        stel_mutex_lock(&g->all[i].m);
        if (test_random(&state, 4) == 0) stel_yield();
        bool last = --g->all[i].left == 0;
        stel_mutex_unlock(&g->all[i].m);
        if (last) bury(&g->all[i], sizeof(mortal));
        crew_jitter(&state);
    }
    return 0;
}

START_TEST(may_be_freed_by_the_next_owner) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        mortals g = { .n = (size_t)test_scale(5000), .users = 4 };
        g.all = calloc(g.n, sizeof(mortal));
        for (size_t i = 0; i < g.n; i++)
            g.all[i].left = g.users;
        crew_run_same((enum crew_kind)kind, use_each, &g, (size_t)g.users);
        graves_check(g.all, g.n * sizeof(mortal));
        free(g.all);
    }
}
END_TEST

/* ---- misuse ---- */

static void unlock_a_free_one(void) {
    stel_mutex m = STEL_MUTEX_INIT;
    stel_mutex_unlock(&m);
}

static void lock_twice(void) {
    stel_mutex m = STEL_MUTEX_INIT;
    stel_mutex_lock(&m);
    stel_mutex_lock(&m);
}

static int unlock_it(void *arg) {
    FIBER_OK(stel_set_name("stranger"));
    stel_mutex_unlock(arg);
    return 0;
}

static int let_another_unlock(void *arg) {
    stel_fiber f;
    stel_mutex_lock(arg);
    FIBER_OK(stel_spawn(&f, unlock_it, arg));
    return stel_join(f, NULL);
}

static void unlock_anothers(void) {
    stel_mutex m = STEL_MUTEX_INIT;
    (void)!run_in_runtime(1, let_another_unlock, &m);
}

START_TEST(wrong_use_aborts) {
    must_abort(unlock_a_free_one, "stel_mutex_unlock");
    must_abort(unlock_a_free_one, "does not hold");
    must_abort(lock_twice, "stel_mutex_lock");
    must_abort(lock_twice, "holds this mutex already");
    must_abort(unlock_anothers, "stel_mutex_unlock");
    must_abort(unlock_anothers, "\"stranger\": the caller does not hold");
}
END_TEST

TEST_MAIN("sync/mutex", excludes_fibers_of_one_worker, excludes_fibers_of_several_workers, excludes_threads,
          excludes_both, try_lock_excludes_too, try_lock_never_waits, waiters_get_it_in_order_of_arrival,
          a_waiter_that_loses_is_handed_the_mutex, lock_is_not_cut_short, may_be_freed_by_the_next_owner,
          wrong_use_aborts)
