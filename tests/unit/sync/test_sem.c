/* stel_sem: counting, order of arrival, waits that are cut short, life, misuse. */
#include "players.h"
#include <limits.h>

/* ---- counting ---- */

static int count(void *arg) {
    (void)arg;
    stel_sem s;
    memset(&s, 0xA5, sizeof s);
    FIBER_ASSERT_EQ(stel_sem_init(NULL, 1), -EINVAL);
    FIBER_ASSERT_EQ(stel_sem_init(&s, (unsigned)INT_MAX + 1), -EINVAL);
    FIBER_ASSERT_EQ(stel_sem_init(&s, UINT_MAX), -EINVAL);
    FIBER_OK(stel_sem_init(&s, 2));
    FIBER_ASSERT_EQ(stel_sem_acquire(&s), 0);
    FIBER_ASSERT_EQ(stel_sem_try_acquire(&s), 0);
    FIBER_ASSERT_EQ(stel_sem_try_acquire(&s), -EAGAIN);
    stel_sem_release(&s);
    stel_sem_release(&s);
    stel_sem_release(&s); /* one more than at first: whoever took them */
    for (int i = 0; i < 3; i++)
        FIBER_ASSERT_EQ(stel_sem_try_acquire(&s), 0);
    FIBER_ASSERT_EQ(stel_sem_try_acquire(&s), -EAGAIN);
    FIBER_OK(stel_sem_init(&s, INT_MAX));
    FIBER_OK(stel_sem_acquire(&s));
    stel_sem_release(&s);
    stel_sem zeroed = { { 0 } };
    FIBER_ASSERT_EQ(stel_sem_try_acquire(&zeroed), -EAGAIN);
    stel_sem_release(&zeroed);
    FIBER_ASSERT_EQ(stel_sem_acquire(&zeroed), 0);
    return 0;
}

START_TEST(a_semaphore_counts) {
    ck_assert_int_eq(run_in_runtime(1, count, NULL), 0);
    ck_assert_int_eq(count(NULL), 0);
}
END_TEST

/* ---- order of arrival, and cut-short waits among it ---- */

enum { LINE = 5 };

typedef struct line {
    stel_sem s;
    _Atomic int served[LINE], next;
} line;

typedef struct place {
    line *l;
    int number;
    int64_t limit;
} place;

static int stand(void *arg) {
    place *p = arg;
    STEL_TIMEOUT(p->limit);
    int rc = stel_sem_acquire(&p->l->s);
    if (rc < 0) return rc;
    atomic_store(&p->l->served[atomic_fetch_add(&p->l->next, 1)], p->number);
    return 0;
}

static void in_order(game *g) {
    line l = { .next = 0 };
    player p[LINE];
    place at[LINE];
    FIBER_OK(stel_sem_init(&l.s, 0));
    for (int i = 0; i < LINE; i++) {
        at[i] = (place){ &l, i, i == 1 ? STEL_MS(20) : STEL_FOREVER };
        player_start(&p[i], g, stand, &at[i]);
        if (i != 1) player_asleep(&p[i], STEL__WAIT_SEM);
    }
    FIBER_ASSERT_EQ(player_join(&p[1]), -ETIMEDOUT); /* from the middle of the line */
    for (int served = 0; served < LINE - 1; served++) {
        FIBER_ASSERT_EQ(atomic_load(&l.next), served);
        stel_sem_release(&l.s);
        /* It went to the first in the line, not to who asks next, whoever runs first. */
        FIBER_ASSERT_EQ(stel_sem_try_acquire(&l.s), -EAGAIN);
        int who = served == 0 ? 0 : served + 1;
        FIBER_OK(player_join(&p[who]));
        FIBER_ASSERT_EQ(atomic_load(&l.served[served]), who);
    }
    stel_sem_release(&l.s); /* nobody waits: it is kept */
    FIBER_OK(stel_sem_try_acquire(&l.s));
}

START_TEST(permits_go_to_who_waits_longest) {
    mixtures(in_order, NULL);
}
END_TEST

/* All who waited have gone: what is released then is there for anybody. */
static void none_left(game *g) {
    line l = { .next = 0 };
    player p[2];
    place at = { &l, 0, STEL_MS(2) };
    FIBER_OK(stel_sem_init(&l.s, 0));
    for (int i = 0; i < 2; i++)
        player_start(&p[i], g, stand, &at);
    for (int i = 0; i < 2; i++)
        FIBER_ASSERT_EQ(player_join(&p[i]), -ETIMEDOUT);
    FIBER_ASSERT_EQ(stel_sem_try_acquire(&l.s), -EAGAIN);
    stel_sem_release(&l.s);
    stel_sem_release(&l.s);
    FIBER_OK(stel_sem_try_acquire(&l.s));
    FIBER_OK(stel_sem_acquire(&l.s));
    FIBER_ASSERT_EQ(stel_sem_try_acquire(&l.s), -EAGAIN);
}

START_TEST(who_was_cut_short_takes_no_permit) {
    mixtures(none_left, NULL);
}
END_TEST

/* ---- never more inside than permits, none lost, what was done before is seen ---- */

enum { PERMITS = 3 };

typedef struct pool {
    stel_sem s;
    _Atomic int inside;
    _Atomic uint64_t cut_short;
    uint64_t rounds;
    bool limits;
} pool;

static int visit(void *arg) {
    pool *p = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (uint64_t i = 0; i < p->rounds;) {
        int rc;
        if (test_random(&state, 4) == 0) {
            rc = stel_sem_try_acquire(&p->s);
        } else {
            STEL_TIMEOUT(p->limits ? (int64_t)test_random(&state, 30000) : STEL_FOREVER);
            rc = stel_sem_acquire(&p->s);
        }
        FIBER_ASSERT(rc == 0 || rc == -EAGAIN || (p->limits && rc == -ETIMEDOUT));
        if (rc == -EAGAIN) stel_yield();
        if (rc == -ETIMEDOUT) atomic_fetch_add(&p->cut_short, 1);
        if (rc < 0) continue;
        FIBER_ASSERT(atomic_fetch_add(&p->inside, 1) < PERMITS);
        if (test_random(&state, 16) == 0) crew_jitter(&state);
        atomic_fetch_sub(&p->inside, 1);
        stel_sem_release(&p->s);
        i++;
    }
    return 0;
}

static void run_pool(enum crew_kind kind) {
    for (int limits = 0; limits <= 1; limits++) {
        pool p = { .rounds = test_scale(4000), .limits = limits };
        FIBER_OK(stel_sem_init(&p.s, PERMITS));
        crew_run_same(kind, visit, &p, 8);
        for (int i = 0; i < PERMITS; i++)
            FIBER_OK(stel_sem_try_acquire(&p.s));
        FIBER_ASSERT_EQ(stel_sem_try_acquire(&p.s), -EAGAIN);
    }
}

START_TEST(a_pool_of_fibers_of_one_worker) {
    run_pool(CREW_ONE_WORKER);
}
END_TEST
START_TEST(a_pool_of_fibers) {
    run_pool(CREW_WORKERS);
}
END_TEST
START_TEST(a_pool_of_threads) {
    run_pool(CREW_THREADS);
}
END_TEST
START_TEST(a_pool_of_both) {
    run_pool(CREW_MIXED);
}
END_TEST

/* Items that pass from hand to hand: plain memory, which the semaphore must order. */
typedef struct belt {
    stel_sem full, empty;
    uint64_t item, rounds;
} belt;

static int put_on(void *arg) {
    belt *b = arg;
    for (uint64_t i = 1; i <= b->rounds; i++) {
        FIBER_OK(stel_sem_acquire(&b->empty));
        b->item = i;
        stel_sem_release(&b->full);
    }
    return 0;
}

static int take_off(void *arg) {
    belt *b = arg;
    for (uint64_t i = 1; i <= b->rounds; i++) {
        FIBER_OK(stel_sem_acquire(&b->full));
        FIBER_ASSERT_EQ(b->item, i);
        stel_sem_release(&b->empty);
    }
    return 0;
}

START_TEST(release_orders_what_came_before) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        belt b = { .rounds = test_scale(5000) };
        FIBER_OK(stel_sem_init(&b.full, 0));
        FIBER_OK(stel_sem_init(&b.empty, 1));
        crew_job jobs[] = { { put_on, &b }, { take_off, &b } };
        crew_run((enum crew_kind)kind, jobs, 2);
    }
}
END_TEST

/* ---- life: whoever has got all that is to come ends it ---- */

typedef struct mortals {
    stel_sem *all;
    size_t n;
    unsigned releasers;
} mortals;

static int acquire_and_end(void *arg) {
    mortals *g = arg;
    for (size_t i = 0; i < g->n; i++) {
        for (unsigned k = 0; k < g->releasers; k++)
            FIBER_OK(stel_sem_acquire(&g->all[i]));
        bury(&g->all[i], sizeof(stel_sem));
    }
    return 0;
}

static int release_each(void *arg) {
    mortals *g = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (size_t i = 0; i < g->n; i++) {
        stel_sem_release(&g->all[i]);
        if (test_random(&state, 4) == 0) crew_jitter(&state);
    }
    return 0;
}

START_TEST(may_be_freed_by_who_acquired) {
    for (int kind = 0; kind < CREW_KINDS; kind++)
        for (unsigned releasers = 1; releasers <= 4; releasers++) {
            mortals g = { .n = (size_t)test_scale(8000), .releasers = releasers };
            crew_job jobs[5] = { { acquire_and_end, &g } };
            g.all = calloc(g.n, sizeof(stel_sem));
            for (unsigned k = 1; k <= releasers; k++)
                jobs[k] = (crew_job){ release_each, &g };
            crew_run((enum crew_kind)kind, jobs, releasers + 1);
            graves_check(g.all, g.n * sizeof(stel_sem));
            free(g.all);
        }
}
END_TEST

/* ---- misuse ---- */

static void too_many(void) {
    stel_sem s;
    FIBER_OK(stel_sem_init(&s, INT_MAX));
    stel_sem_release(&s);
}

START_TEST(wrong_use_aborts) {
    must_abort(too_many, "stel_sem_release");
    must_abort(too_many, "more than 2147483647 permits");
}
END_TEST

TEST_MAIN("sync/sem", a_semaphore_counts, permits_go_to_who_waits_longest, who_was_cut_short_takes_no_permit,
          a_pool_of_fibers_of_one_worker, a_pool_of_fibers, a_pool_of_threads, a_pool_of_both,
          release_orders_what_came_before, may_be_freed_by_who_acquired, wrong_use_aborts)
