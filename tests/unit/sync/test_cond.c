/* stel_cond: signals, broadcasts, and what is left when a wait is cut short. */
#include "crew.h"

/* ---- a bounded buffer ---- */

typedef struct buffer {
    stel_mutex m;
    stel_cond not_full, not_empty;
    uint64_t items[4];
    unsigned length;
    uint64_t each; /* items a producer makes */
    uint64_t producers_left;
    uint64_t sum, taken;
} buffer;

static int produce(void *arg) {
    buffer *b = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (uint64_t i = 1; i <= b->each; i++) {
        stel_mutex_lock(&b->m);
        while (b->length == 4)
            FIBER_OK(stel_cond_wait(&b->not_full, &b->m));
        b->items[b->length++] = i;
        bool inside = test_random(&state, 2);
        if (inside) stel_cond_signal(&b->not_empty);
        stel_mutex_unlock(&b->m);
        if (!inside) stel_cond_signal(&b->not_empty);
        crew_jitter(&state);
    }
    stel_mutex_lock(&b->m);
    if (--b->producers_left == 0) stel_cond_broadcast(&b->not_empty);
    stel_mutex_unlock(&b->m);
    return 0;
}

static int consume(void *arg) {
    buffer *b = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (;;) {
        stel_mutex_lock(&b->m);
        while (b->length == 0 && b->producers_left > 0)
            FIBER_OK(stel_cond_wait(&b->not_empty, &b->m));
        if (b->length == 0) break;
        b->sum += b->items[--b->length];
        b->taken++;
        stel_mutex_unlock(&b->m);
        stel_cond_signal(&b->not_full);
        crew_jitter(&state);
    }
    stel_mutex_unlock(&b->m);
    return 0;
}

START_TEST(bounded_buffer_loses_nothing) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        buffer b = { .each = test_scale(4000), .producers_left = 4 };
        crew_job jobs[8];
        for (int i = 0; i < 8; i++)
            jobs[i] = (crew_job){ i % 4 < 2 ? produce : consume, &b };
        crew_run((enum crew_kind)kind, jobs, 8);
        FIBER_ASSERT_EQ(b.taken, 4 * b.each);
        FIBER_ASSERT_EQ(b.sum, 4 * (b.each * (b.each + 1) / 2));
    }
}
END_TEST

/* ---- who is woken ---- */

enum { CROWD = 100 }; /* more than a waker keeps tickets for */

typedef struct crowd {
    stel_mutex m;
    stel_cond c;
    int waiting, woken;
    int order[CROWD];
} crowd;

static int wait_once(void *arg) {
    crowd *g = arg;
    stel_mutex_lock(&g->m);
    int me = g->waiting++;
    FIBER_OK(stel_cond_wait(&g->c, &g->m));
    FIBER_ASSERT_EQ(stel_mutex_try_lock(&g->m), -EBUSY);
    g->order[g->woken++] = me;
    stel_mutex_unlock(&g->m);
    return 0;
}

static int look(crowd *g, const int *what) {
    stel_mutex_lock(&g->m);
    int value = *what;
    stel_mutex_unlock(&g->m);
    return value;
}

static int gather(crowd *g, stel_fiber *f, int n) {
    for (int i = 0; i < n; i++)
        FIBER_OK(stel_spawn(&f[i], wait_once, g));
    EVENTUALLY(look(g, &g->waiting) == n);
    return 0;
}

static int signal_one_by_one(void *arg) {
    (void)arg;
    crowd g = { 0 };
    stel_fiber f[10];
    stel_cond_signal(&g.c); /* nobody waits: lost, as it must be */
    gather(&g, f, 10);
    for (int i = 0; i < 10; i++) {
        FIBER_ASSERT_EQ(look(&g, &g.woken), i);
        stel_cond_signal(&g.c);
        EVENTUALLY(look(&g, &g.woken) > i);
    }
    for (int i = 0; i < 10; i++) {
        FIBER_OK(stel_join(f[i], NULL));
        FIBER_ASSERT_EQ(g.order[i], i);
    }
    return 0;
}

START_TEST(signal_wakes_the_one_that_waited_longest) {
    ck_assert_int_eq(run_in_runtime(1, signal_one_by_one, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, signal_one_by_one, NULL), 0);
}
END_TEST

static int broadcast_to_all(void *arg) {
    int n = *(int *)arg;
    crowd g = { 0 };
    stel_fiber f[CROWD];
    stel_cond_broadcast(&g.c);
    gather(&g, f, n);
    FIBER_ASSERT_EQ(look(&g, &g.woken), 0);
    stel_cond_broadcast(&g.c);
    for (int i = 0; i < n; i++)
        FIBER_OK(stel_join(f[i], NULL));
    FIBER_ASSERT_EQ(g.woken, n);
    return 0;
}

START_TEST(broadcast_wakes_all) {
    int sizes[] = { 1, 5, 32, 33, CROWD };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ck_assert_int_eq(run_in_runtime(1, broadcast_to_all, &sizes[i]), 0);
        ck_assert_int_eq(run_in_runtime(3, broadcast_to_all, &sizes[i]), 0);
    }
}
END_TEST

/* ---- a signal to a waiter that is cut short goes on to the next ---- */

typedef struct relay {
    stel_mutex m;
    stel_cond c;
    uint64_t rounds, tokens, taken;
    bool over;
    stel_event ready, done;
    _Atomic uint64_t cut_short;
} relay;

/* Waits with a short limit; when that ends the wait it leaves without a look at the tokens. */
static int impatient(void *arg) {
    relay *r = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    bool over = false;
    while (!over) {
        stel_mutex_lock(&r->m);
        int rc = 0;
        if (r->tokens == 0 && !r->over) {
            STEL_TIMEOUT((int64_t)test_random(&state, 60000));
            rc = stel_cond_wait(&r->c, &r->m);
        }
        if (rc == -ETIMEDOUT) {
            atomic_fetch_add(&r->cut_short, 1);
        } else {
            FIBER_OK(rc);
            if (r->tokens > 0) {
                r->tokens--;
                r->taken++;
                stel_event_set(&r->done);
            }
        }
        over = r->over;
        stel_mutex_unlock(&r->m);
        stel_yield();
    }
    return 0;
}

static int patient(void *arg) {
    relay *r = arg;
    stel_mutex_lock(&r->m);
    while (!r->over) {
        while (r->tokens == 0 && !r->over)
            FIBER_OK(stel_cond_wait(&r->c, &r->m));
        if (r->tokens == 0) break;
        r->tokens--;
        r->taken++;
        stel_event_set(&r->done);
    }
    stel_mutex_unlock(&r->m);
    return 0;
}

static int give_tokens(void *arg) {
    relay *r = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (uint64_t i = 0; i < r->rounds; i++) {
        stel_mutex_lock(&r->m);
        stel_event_reset(&r->done);
        r->tokens++;
        stel_mutex_unlock(&r->m);
        stel_cond_signal(&r->c);
        FIBER_OK(stel_event_wait(&r->done)); /* for ever, if the signal is lost */
        for (uint32_t n = test_random(&state, 2000); n > 0; n--)
            stel__cpu_relax();
    }
    stel_mutex_lock(&r->m);
    r->over = true;
    stel_mutex_unlock(&r->m);
    stel_cond_broadcast(&r->c);
    return 0;
}

START_TEST(no_signal_is_lost_to_a_timeout) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        relay r = { .rounds = test_scale(1000) };
        crew_job jobs[] = {
            { impatient, &r }, { impatient, &r }, { give_tokens, &r }, { patient, &r }, { impatient, &r }
        };
        crew_run((enum crew_kind)kind, jobs, 5);
        FIBER_ASSERT_EQ(r.taken, r.rounds);
    }
}
END_TEST

/* ---- cut short: the mutex is held again ---- */

typedef struct pair {
    stel_mutex m;
    stel_cond c;
    _Atomic int waiting;
} pair;

static int wait_until_cut(void *arg) {
    pair *p = arg;
    stel_mutex_lock(&p->m);
    atomic_store(&p->waiting, 1);
    int rc = stel_cond_wait(&p->c, &p->m);
    FIBER_ASSERT_EQ(stel_mutex_try_lock(&p->m), -EBUSY);
    FIBER_ASSERT_EQ(stel_cond_wait(&p->c, &p->m), rc); /* level-triggered */
    stel_mutex_unlock(&p->m);
    return rc;
}

static int wait_with_limit(void *arg) {
    STEL_TIMEOUT(STEL_MS(2));
    return wait_until_cut(arg);
}

static int cut_short(void *arg) {
    (void)arg;
    pair p = { 0 };
    stel_fiber f;
    int result;
    FIBER_OK(stel_spawn(&f, wait_until_cut, &p));
    EVENTUALLY(atomic_load(&p.waiting));
    stel_mutex_lock(&p.m); /* until it has given it back: it waits */
    FIBER_OK(stel_cancel(f));
    FIBER_OK(stel_sleep(STEL_MS(1)));
    FIBER_ASSERT_EQ(stel_try_join(f, &result), -EAGAIN); /* it needs the mutex to return */
    stel_mutex_unlock(&p.m);
    FIBER_OK(stel_join(f, &result));
    FIBER_ASSERT_EQ(result, -ECANCELED);
    FIBER_ASSERT_EQ(wait_with_limit(&p), -ETIMEDOUT);
    return 0;
}

START_TEST(cut_short_it_holds_the_mutex) {
    ck_assert_int_eq(run_in_runtime(1, cut_short, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, cut_short, NULL), 0);
    pair p = { 0 };
    ck_assert_int_eq(wait_with_limit(&p), -ETIMEDOUT); /* a thread */
}
END_TEST

/* ---- life ---- */

typedef struct mortal {
    stel_mutex m;
    stel_cond c;
    int left;
    bool go;
} mortal;
typedef struct mortals {
    mortal *all;
    size_t n;
    int waiters;
    _Atomic size_t ready; /* waiters that have gone past */
} mortals;

/* The last one to leave ends the object, also while the broadcast is on its way. */
static int leave_in_turn(void *arg) {
    mortals *g = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (size_t i = 0; i < g->n; i++) {
        mortal *o = &g->all[i];
        stel_mutex_lock(&o->m);
        while (!o->go) {
            STEL_TIMEOUT(test_random(&state, 2) ? STEL_FOREVER : (int64_t)test_random(&state, 30000));
            if (stel_cond_wait(&o->c, &o->m) < 0) break;
        }
        while (!o->go)
            FIBER_OK(stel_cond_wait(&o->c, &o->m));
        bool last = --o->left == 0;
        stel_mutex_unlock(&o->m);
        if (last) bury(o, sizeof *o);
    }
    return 0;
}

static int let_go(void *arg) {
    mortals *g = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (size_t i = 0; i < g->n; i++) {
        mortal *o = &g->all[i];
        stel_mutex_lock(&o->m);
        o->go = true;
        stel_cond_broadcast(&o->c);
        stel_mutex_unlock(&o->m);
        crew_jitter(&state);
    }
    return 0;
}

START_TEST(may_be_freed_by_the_last_waiter) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        mortals g = { .n = (size_t)test_scale(300), .waiters = 40 };
        crew_job jobs[41] = { { let_go, &g } };
        g.all = calloc(g.n, sizeof(mortal));
        for (size_t i = 0; i < g.n; i++)
            g.all[i].left = g.waiters;
        for (int i = 1; i <= g.waiters; i++)
            jobs[i] = (crew_job){ leave_in_turn, &g };
        crew_run((enum crew_kind)kind, jobs, 41);
        graves_check(g.all, g.n * sizeof(mortal));
        free(g.all);
    }
}
END_TEST

/* ---- misuse ---- */

static void wait_without_the_mutex(void) {
    pair p = { 0 };
    (void)!stel_cond_wait(&p.c, &p.m);
}

static int wait_with_another(void *arg) {
    pair *p = arg;
    stel_fiber f;
    stel_mutex other = STEL_MUTEX_INIT;
    FIBER_OK(stel_spawn(&f, wait_until_cut, p));
    EVENTUALLY(atomic_load(&p->waiting));
    stel_mutex_lock(&p->m);
    stel_mutex_unlock(&p->m);
    stel_mutex_lock(&other);
    return stel_cond_wait(&p->c, &other);
}

static void mix_mutexes(void) {
    pair p = { 0 };
    (void)!run_in_runtime(1, wait_with_another, &p);
}

START_TEST(wrong_use_aborts) {
    must_abort(wait_without_the_mutex, "stel_cond_wait");
    must_abort(wait_without_the_mutex, "does not hold this mutex");
    must_abort(mix_mutexes, "with another mutex");
}
END_TEST

TEST_MAIN("sync/cond", bounded_buffer_loses_nothing, signal_wakes_the_one_that_waited_longest, broadcast_wakes_all,
          no_signal_is_lost_to_a_timeout, cut_short_it_holds_the_mutex, may_be_freed_by_the_last_waiter,
          wrong_use_aborts)
