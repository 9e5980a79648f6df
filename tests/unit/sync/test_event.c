/* stel_event and stel_waitgroup: opening, counting, and the end of the object. */
#include "crew.h"

/* ---- events ---- */

static int open_and_shut(void *arg) {
    (void)arg;
    stel_event e = STEL_EVENT_INIT;
    FIBER_ASSERT(!stel_event_is_set(&e));
    stel_event_set(&e);
    stel_event_set(&e);
    FIBER_ASSERT(stel_event_is_set(&e));
    FIBER_ASSERT_EQ(stel_event_wait(&e), 0);
    FIBER_ASSERT_EQ(stel_event_wait(&e), 0); /* it stays open */
    stel_event_reset(&e);
    FIBER_ASSERT(!stel_event_is_set(&e));
    {
        STEL_TIMEOUT(STEL_MS(1));
        FIBER_ASSERT_EQ(stel_event_wait(&e), -ETIMEDOUT);
        stel_event_set(&e);
        FIBER_ASSERT_EQ(stel_event_wait(&e), -ETIMEDOUT); /* the limit comes first */
    }
    FIBER_ASSERT_EQ(stel_event_wait(&e), 0);
    return 0;
}

START_TEST(an_event_is_a_door) {
    ck_assert_int_eq(run_in_runtime(1, open_and_shut, NULL), 0);
    ck_assert_int_eq(open_and_shut(NULL), 0);
}
END_TEST

enum { CROWD = 100 }; /* more than a waker keeps tickets for */

typedef struct gate {
    stel_event e;
    stel_waitgroup passed;
    _Atomic int waiting;
} gate;

static int pass(void *arg) {
    gate *g = arg;
    atomic_fetch_add(&g->waiting, 1);
    FIBER_OK(stel_event_wait(&g->e));
    FIBER_ASSERT(stel_event_is_set(&g->e));
    stel_waitgroup_done(&g->passed);
    return 0;
}

static int open_for_all(void *arg) {
    gate *g = arg;
    EVENTUALLY(atomic_load(&g->waiting) == CROWD);
    {
        STEL_TIMEOUT(STEL_MS(2));
        FIBER_ASSERT_EQ(stel_waitgroup_wait(&g->passed), -ETIMEDOUT); /* nobody is through */
    }
    stel_event_set(&g->e);
    return stel_waitgroup_wait(&g->passed);
}

START_TEST(set_lets_all_through) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        gate g = { .e = STEL_EVENT_INIT };
        crew_job jobs[CROWD + 1] = { { open_for_all, &g } };
        stel_waitgroup_add(&g.passed, CROWD);
        for (int i = 1; i <= CROWD; i++)
            jobs[i] = (crew_job){ pass, &g };
        crew_run((enum crew_kind)kind, jobs, CROWD + 1);
    }
}
END_TEST

/* Wait, reset, look for work: work that was put down before a set is never overlooked. */
typedef struct tray {
    stel_event e;
    _Atomic uint64_t work;
    uint64_t each, total;
} tray;

static int put_down(void *arg) {
    tray *t = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (uint64_t i = 0; i < t->each; i++) {
        atomic_fetch_add_explicit(&t->work, 1, memory_order_relaxed);
        stel_event_set(&t->e);
        if (test_random(&state, 16) == 0) crew_jitter(&state);
    }
    return 0;
}

static int pick_up(void *arg) {
    tray *t = arg;
    for (uint64_t done = 0; done < t->total;) {
        FIBER_OK(stel_event_wait(&t->e));
        stel_event_reset(&t->e);
        done += atomic_exchange_explicit(&t->work, 0, memory_order_relaxed);
    }
    return 0;
}

START_TEST(wait_reset_look_loses_no_work) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        tray t = { .each = test_scale(5000) };
        t.total = 4 * t.each;
        crew_job jobs[] = { { pick_up, &t }, { put_down, &t }, { put_down, &t }, { put_down, &t }, { put_down, &t } };
        crew_run((enum crew_kind)kind, jobs, 5);
    }
}
END_TEST

/* ---- wait groups ---- */

static int count(void *arg) {
    (void)arg;
    stel_waitgroup w = STEL_WAITGROUP_INIT;
    FIBER_ASSERT_EQ(stel_waitgroup_wait(&w), 0);
    stel_waitgroup_add(&w, 0);
    stel_waitgroup_add(&w, 5);
    stel_waitgroup_done(&w);
    stel_waitgroup_add(&w, -3);
    {
        STEL_TIMEOUT(STEL_MS(1));
        FIBER_ASSERT_EQ(stel_waitgroup_wait(&w), -ETIMEDOUT);
    }
    stel_waitgroup_add(&w, -1);
    FIBER_ASSERT_EQ(stel_waitgroup_wait(&w), 0);
    stel_waitgroup_add(&w, INT32_MAX);
    stel_waitgroup_add(&w, -INT32_MAX);
    return stel_waitgroup_wait(&w);
}

START_TEST(a_wait_group_counts) {
    ck_assert_int_eq(run_in_runtime(1, count, NULL), 0);
    ck_assert_int_eq(count(NULL), 0);
}
END_TEST

enum { WORKERS = 64, CHECKERS = 10 };

typedef struct works {
    stel_waitgroup w;
    uint64_t done[WORKERS]; /* plain: wait must order what the workers wrote before what the waiters read */
    _Atomic int started;
} works;

static int work(void *arg) {
    works *s = arg;
    s->done[atomic_fetch_add_explicit(&s->started, 1, memory_order_relaxed)] = 1;
    stel_waitgroup_done(&s->w);
    return 0;
}

static int check_work(void *arg) {
    works *s = arg;
    FIBER_OK(stel_waitgroup_wait(&s->w));
    for (int i = 0; i < WORKERS; i++)
        FIBER_ASSERT_EQ(s->done[i], 1);
    return 0;
}

START_TEST(wait_sees_what_was_done) {
    for (int kind = 0; kind < CREW_KINDS; kind++)
        for (uint64_t round = test_scale(5); round > 0; round--) {
            works s = { .w = STEL_WAITGROUP_INIT };
            crew_job jobs[WORKERS + CHECKERS];
            stel_waitgroup_add(&s.w, WORKERS);
            for (int i = 0; i < WORKERS + CHECKERS; i++)
                jobs[i] = (crew_job){ i % 7 == 3 && i / 7 < CHECKERS ? check_work : work, &s };
            crew_run((enum crew_kind)kind, jobs, WORKERS + CHECKERS);
        }
}
END_TEST

/* ---- life: the one that waits ends the object as soon as it returns ---- */

typedef struct mortal {
    stel_event e;
    stel_waitgroup w;
    _Atomic int left;
} mortal;
typedef struct mortals {
    mortal *all;
    size_t n;
} mortals;

static int wait_and_end(void *arg) {
    mortals *g = arg;
    for (size_t i = 0; i < g->n; i++) {
        FIBER_OK(i % 2 ? stel_event_wait(&g->all[i].e) : stel_waitgroup_wait(&g->all[i].w));
        if (atomic_fetch_sub(&g->all[i].left, 1) == 1) bury(&g->all[i], sizeof(mortal));
    }
    return 0;
}

static int release_each(void *arg) {
    mortals *g = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (size_t i = 0; i < g->n; i++) {
        if (i % 2)
            stel_event_set(&g->all[i].e);
        else
            stel_waitgroup_done(&g->all[i].w);
        crew_jitter(&state);
    }
    return 0;
}

static void end_of_objects(enum crew_kind kind, int waiters, uint64_t n) {
    mortals g = { .n = (size_t)test_scale(n) };
    crew_job jobs[64];
    g.all = calloc(g.n, sizeof(mortal));
    for (size_t i = 0; i < g.n; i++) {
        atomic_store(&g.all[i].left, waiters);
        stel_waitgroup_add(&g.all[i].w, 1);
    }
    for (int i = 0; i < waiters; i++)
        jobs[i] = (crew_job){ wait_and_end, &g };
    jobs[waiters] = (crew_job){ release_each, &g };
    crew_run(kind, jobs, (size_t)waiters + 1);
    graves_check(g.all, g.n * sizeof(mortal));
    free(g.all);
}

START_TEST(may_be_freed_by_who_waited) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        end_of_objects((enum crew_kind)kind, 1, 10000);
        end_of_objects((enum crew_kind)kind, 3, 5000);
        end_of_objects((enum crew_kind)kind, 50, 200);
    }
}
END_TEST

/* ---- misuse ---- */

static void below_zero(void) {
    stel_waitgroup w = STEL_WAITGROUP_INIT;
    stel_waitgroup_add(&w, 1);
    stel_waitgroup_done(&w);
    stel_waitgroup_done(&w);
}

static void far_below_zero(void) {
    stel_waitgroup w = STEL_WAITGROUP_INIT;
    stel_waitgroup_add(&w, 1);
    stel_waitgroup_add(&w, -2);
}

static void above_all(void) {
    stel_waitgroup w = STEL_WAITGROUP_INIT;
    stel_waitgroup_add(&w, INT32_MAX);
    stel_waitgroup_add(&w, 1);
}

START_TEST(wrong_use_aborts) {
    must_abort(below_zero, "stel_waitgroup_done");
    must_abort(below_zero, "below 0");
    must_abort(far_below_zero, "stel_waitgroup_add");
    must_abort(above_all, "above 2147483647");
}
END_TEST

TEST_MAIN("sync/event", an_event_is_a_door, set_lets_all_through, wait_reset_look_loses_no_work, a_wait_group_counts,
          wait_sees_what_was_done, may_be_freed_by_who_waited, wrong_use_aborts)
