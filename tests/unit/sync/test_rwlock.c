/* stel_rwlock: who gets in with whom, in which order, from fibers and threads; life, misuse. */
#include "players.h"

/* ---- the table: what each try form finds in each state ---- */

static void find(stel_rwlock *l, int read, int write) {
    int rc = stel_rwlock_try_read_lock(l);
    FIBER_ASSERT_EQ(rc, read);
    if (rc == 0) stel_rwlock_read_unlock(l);
    rc = stel_rwlock_try_write_lock(l);
    FIBER_ASSERT_EQ(rc, write);
    if (rc == 0) stel_rwlock_write_unlock(l);
}

static int write_once(void *l) {
    stel_rwlock_write_lock(l);
    stel_rwlock_write_unlock(l);
    return 0;
}

static int read_once(void *l) {
    stel_rwlock_read_lock(l);
    stel_rwlock_read_unlock(l);
    return 0;
}

static void states(game *g) {
    stel_rwlock l = STEL_RWLOCK_INIT;
    player p[2];
    find(&l, 0, 0); /* free */
    stel_rwlock_read_lock(&l);
    find(&l, 0, -EBUSY);
    stel_rwlock_read_lock(&l); /* another reader's, for the lock's part */
    find(&l, 0, -EBUSY);
    stel_rwlock_read_unlock(&l);
    find(&l, 0, -EBUSY);
    player_start_asleep(&p[0], g, STEL__WAIT_WRITE_LOCK, write_once, &l);
    find(&l, -EBUSY, -EBUSY); /* the writer that waits keeps us out */
    stel_rwlock_read_unlock(&l);
    FIBER_OK(player_join(&p[0]));
    find(&l, 0, 0);
    stel_rwlock_write_lock(&l);
    find(&l, -EBUSY, -EBUSY);
    player_start_asleep(&p[0], g, STEL__WAIT_READ_LOCK, read_once, &l);
    player_start_asleep(&p[1], g, STEL__WAIT_WRITE_LOCK, write_once, &l);
    find(&l, -EBUSY, -EBUSY);
    stel_rwlock_write_unlock(&l);
    FIBER_OK(player_join(&p[0]));
    FIBER_OK(player_join(&p[1]));
    find(&l, 0, 0);
}

START_TEST(the_states) {
    mixtures(states, NULL);
}
END_TEST

/* ---- order: who is inside with whom ---- */

enum { PLACES = 6 };

typedef struct hall {
    stel_rwlock l;
    player p[PLACES];
    _Atomic int inside, writers;
    stel_event leave[PLACES]; /* who is inside waits for this */
    _Atomic int entered[PLACES];
} hall;

typedef struct visit {
    hall *h;
    int number;
} visit;

static int read_and_stay(void *arg) {
    visit *v = arg;
    stel_rwlock_read_lock(&v->h->l);
    FIBER_ASSERT_EQ(atomic_load(&v->h->writers), 0);
    atomic_fetch_add(&v->h->inside, 1);
    atomic_store(&v->h->entered[v->number], 1);
    FIBER_OK(stel_event_wait(&v->h->leave[v->number]));
    atomic_fetch_sub(&v->h->inside, 1);
    stel_rwlock_read_unlock(&v->h->l);
    return 0;
}

static int write_and_stay(void *arg) {
    visit *v = arg;
    stel_rwlock_write_lock(&v->h->l);
    FIBER_ASSERT_EQ(atomic_fetch_add(&v->h->inside, 1), 0);
    FIBER_ASSERT_EQ(atomic_fetch_add(&v->h->writers, 1), 0);
    atomic_store(&v->h->entered[v->number], 1);
    FIBER_OK(stel_event_wait(&v->h->leave[v->number]));
    atomic_fetch_sub(&v->h->writers, 1);
    atomic_fetch_sub(&v->h->inside, 1);
    stel_rwlock_write_unlock(&v->h->l);
    return 0;
}

/* Exactly these are inside, and the others that have come still wait. */
static void inside(hall *h, int come, unsigned who) {
    EVENTUALLY(atomic_load(&h->inside) == __builtin_popcount(who));
    for (int i = 0; i < come; i++)
        if (who & 1u << i)
            EVENTUALLY(atomic_load(&h->entered[i]));
        else if (!player_over(&h->p[i]))
            FIBER_ASSERT_EQ(atomic_load(&h->entered[i]), 0);
}

static void leave(hall *h, int i) {
    stel_event_set(&h->leave[i]);
    FIBER_OK(player_join(&h->p[i]));
}

/* First comes the first letter of `who`, and gets in; the others come one after the other and wait. */
static void fill(game *g, hall *h, visit *v, const char *who) {
    memset(h, 0, sizeof *h);
    for (int i = 0; who[i]; i++) {
        bool reads = who[i] == 'r';
        v[i] = (visit){ h, i };
        player_start(&h->p[i], g, reads ? read_and_stay : write_and_stay, &v[i]);
        if (i == 0)
            EVENTUALLY(atomic_load(&h->entered[0]));
        else
            player_asleep(&h->p[i], reads ? STEL__WAIT_READ_LOCK : STEL__WAIT_WRITE_LOCK);
    }
}

static void order(game *g) {
    static hall h;
    static visit v[PLACES];
    /* A writer that waits keeps later readers out; the last reader hands over to it. */
    fill(g, &h, v, "rwr");
    inside(&h, 3, 1 << 0);
    leave(&h, 0);
    inside(&h, 3, 1 << 1);
    leave(&h, 1);
    inside(&h, 3, 1 << 2);
    leave(&h, 2);
    /* Readers that waited for a writer all get in together before the next one; writers come in order. */
    fill(g, &h, v, "wwrrwr");
    inside(&h, 6, 1 << 0);
    leave(&h, 0);
    inside(&h, 6, 1 << 2 | 1 << 3 | 1 << 5);
    leave(&h, 3);
    leave(&h, 2);
    inside(&h, 6, 1 << 5); /* the last of them, not the first, lets the next writer in */
    leave(&h, 5);
    inside(&h, 6, 1 << 1);
    leave(&h, 1);
    inside(&h, 6, 1 << 4);
    leave(&h, 4);
    FIBER_OK(stel_rwlock_try_write_lock(&h.l));
    stel_rwlock_write_unlock(&h.l);
}

START_TEST(readers_and_writers_take_turns) {
    mixtures(order, NULL);
}
END_TEST

enum { CROWD = 100 }; /* more than a waker keeps tickets for */

typedef struct crowd {
    stel_rwlock l;
    stel_event closed;
    stel_barrier all;
    _Atomic int came;
} crowd;

static int read_together(void *arg) {
    crowd *c = arg;
    FIBER_OK(stel_event_wait(&c->closed)); /* a writer that came later would keep some of us out */
    atomic_fetch_add(&c->came, 1);
    stel_rwlock_read_lock(&c->l);
    FIBER_OK(stel_barrier_wait(&c->all)); /* all of them are inside at the same time, or this would not end */
    stel_rwlock_read_unlock(&c->l);
    return 0;
}

static int hold_until_all_have_come(void *arg) {
    crowd *c = arg;
    stel_rwlock_write_lock(&c->l);
    stel_event_set(&c->closed);
    EVENTUALLY(atomic_load(&c->came) == CROWD);
    stel_rwlock_write_unlock(&c->l);
    return 0;
}

START_TEST(readers_share) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        crowd c = { .l = STEL_RWLOCK_INIT };
        crew_job jobs[CROWD + 1] = { { hold_until_all_have_come, &c } };
        FIBER_OK(stel_barrier_init(&c.all, CROWD));
        for (int i = 1; i <= CROWD; i++)
            jobs[i] = (crew_job){ read_together, &c };
        crew_run((enum crew_kind)kind, jobs, CROWD + 1);
    }
}
END_TEST

/* ---- neither deadline nor cancellation cut it short ---- */

static int lock_in_vain(void *arg) {
    stel_rwlock *l = arg;
    STEL_TIMEOUT(0);
    FIBER_ASSERT_EQ(stel_sleep(STEL_SEC(60)), -ETIMEDOUT);
    stel_rwlock_read_lock(l);
    stel_rwlock_read_unlock(l);
    stel_rwlock_write_lock(l);
    stel_rwlock_write_unlock(l);
    return 0;
}

static void stubborn(game *g) {
    stel_rwlock l = STEL_RWLOCK_INIT;
    player p[2];
    stel_rwlock_write_lock(&l);
    player_start_asleep(&p[0], g, STEL__WAIT_READ_LOCK, lock_in_vain, &l);
    player_start_asleep(&p[1], g, STEL__WAIT_WRITE_LOCK, write_once, &l);
    for (int i = 0; i < 2; i++)
        if (p[i].fiber) FIBER_OK(stel_cancel(p[i].fiber));
    for (int i = 0; i < 3; i++)
        check_fiber_nap();
    for (int i = 0; i < 2; i++)
        FIBER_ASSERT(!player_over(&p[i]));
    stel_rwlock_write_unlock(&l);
    for (int i = 0; i < 2; i++)
        FIBER_OK(player_join(&p[i]));
}

START_TEST(nothing_cuts_it_short) {
    mixtures(stubborn, NULL);
}
END_TEST

/* ---- exclusion under load ---- */

typedef struct shared {
    stel_rwlock l;
    uint64_t a, b; /* equal unless a writer is inside; plain, so TSan sees a lock that does not order */
    uint64_t rounds;
    _Atomic uint64_t written;
    _Atomic int readers, most;
    bool with_tries;
} shared;

static void look(shared *s, uint64_t *state) {
    int now = atomic_fetch_add(&s->readers, 1) + 1;
    if (now > atomic_load(&s->most)) atomic_store(&s->most, now);
    uint64_t a = s->a;
    if (test_random(state, 10) == 0) stel_yield();
    FIBER_ASSERT_EQ(a, s->b);
    atomic_fetch_sub(&s->readers, 1);
}

static void change(shared *s, uint64_t *state) {
    FIBER_ASSERT_EQ(atomic_load(&s->readers), 0);
    FIBER_ASSERT_EQ(s->a, s->b);
    s->a++;
    if (test_random(state, 10) == 0) stel_yield();
    s->b++;
    atomic_fetch_add(&s->written, 1);
}

static int use(void *arg) {
    shared *s = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (uint64_t i = 0; i < s->rounds; i++) {
        bool tries = s->with_tries && test_random(&state, 2);
        if (test_random(&state, 4) == 0) {
            if (!tries)
                stel_rwlock_write_lock(&s->l);
            else if (stel_rwlock_try_write_lock(&s->l) < 0)
                continue;
            change(s, &state);
            stel_rwlock_write_unlock(&s->l);
        } else {
            if (!tries)
                stel_rwlock_read_lock(&s->l);
            else if (stel_rwlock_try_read_lock(&s->l) < 0)
                continue;
            look(s, &state);
            stel_rwlock_read_unlock(&s->l);
        }
    }
    return 0;
}

static void exclude(enum crew_kind kind) {
    for (int with_tries = 0; with_tries <= 1; with_tries++) {
        shared s = { .l = STEL_RWLOCK_INIT, .rounds = test_scale(4000), .with_tries = with_tries };
        crew_run_same(kind, use, &s, 8);
        FIBER_ASSERT_EQ(s.a, s.written);
        FIBER_ASSERT_EQ(s.b, s.written);
        find(&s.l, 0, 0); /* it is free in the end */
    }
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

/* ---- life: one of the users finds, inside, that the others have been there, and ends it at once ---- */

typedef struct mortal {
    stel_rwlock l;
    _Atomic int left; /* users that have yet to come; each takes itself off while it is inside */
} mortal;
typedef struct mortals {
    mortal *all;
    size_t n;
    unsigned users;
    _Atomic unsigned number;
} mortals;

static bool visit_mortal(mortal *m, bool writes, int himself) {
    writes ? stel_rwlock_write_lock(&m->l) : stel_rwlock_read_lock(&m->l);
    bool last = atomic_fetch_sub(&m->left, himself) - himself == 0;
    writes ? stel_rwlock_write_unlock(&m->l) : stel_rwlock_read_unlock(&m->l);
    return last;
}

/* A writer may end what readers and writers have used; a reader, what only writers have: it cannot know that another
 * reader has left. */
static int use_and_end(void *arg) {
    mortals *g = arg;
    unsigned me = atomic_fetch_add(&g->number, 1);
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (size_t i = 0; i < g->n; i++) {
        mortal *m = &g->all[i];
        bool writer_ends = i / g->users % 2;
        if (i % g->users == me) {
            while (atomic_load(&m->left) > 0)
                stel_yield();
            FIBER_ASSERT(visit_mortal(m, writer_ends, 0)); /* behind the last of them */
            bury(m, sizeof *m);
        } else {
            visit_mortal(m, !writer_ends || test_random(&state, 2), 1);
        }
        if (test_random(&state, 8) == 0) crew_jitter(&state);
    }
    return 0;
}

static void end_of_locks(enum crew_kind kind, unsigned users, uint64_t n) {
    mortals g = { .n = (size_t)test_scale(n), .users = users };
    g.all = calloc(g.n, sizeof(mortal));
    for (size_t i = 0; i < g.n; i++)
        atomic_store(&g.all[i].left, (int)users - 1);
    crew_run_same(kind, use_and_end, &g, users);
    graves_check(g.all, g.n * sizeof(mortal));
    free(g.all);
}

START_TEST(may_be_freed_by_the_last_user) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        end_of_locks((enum crew_kind)kind, 2, 800);
        end_of_locks((enum crew_kind)kind, 4, 250);
        end_of_locks((enum crew_kind)kind, 40, 40); /* more than a waker keeps tickets for */
    }
}
END_TEST

/* ---- misuse ---- */

static stel_rwlock wrong;

static int unlock_write(void *l) {
    stel_rwlock_write_unlock(l);
    return 0;
}

static void write_twice(void) {
    stel_rwlock_write_lock(&wrong);
    stel_rwlock_write_lock(&wrong);
}
static void read_while_writing(void) {
    stel_rwlock_write_lock(&wrong);
    stel_rwlock_read_lock(&wrong);
}
static void unlock_free_for_reading(void) {
    stel_rwlock_read_unlock(&wrong);
}
static void unlock_free_for_writing(void) {
    stel_rwlock_write_unlock(&wrong);
}
static void unlock_reading_as_writing(void) {
    stel_rwlock_read_lock(&wrong);
    stel_rwlock_write_unlock(&wrong);
}
static void unlock_writing_as_reading(void) {
    stel_rwlock_write_lock(&wrong);
    stel_rwlock_read_unlock(&wrong);
}
static void unlock_anothers(void) {
    stel_rwlock_write_lock(&wrong);
    (void)run_in_runtime(1, unlock_write, &wrong);
}

START_TEST(wrong_use_aborts) {
    must_abort(write_twice, "stel_rwlock_write_lock");
    must_abort(write_twice, "holds this lock for writing already");
    must_abort(read_while_writing, "stel_rwlock_read_lock");
    must_abort(unlock_free_for_reading, "nobody holds this lock for reading");
    must_abort(unlock_free_for_writing, "does not hold this lock for writing");
    must_abort(unlock_reading_as_writing, "does not hold this lock for writing");
    must_abort(unlock_writing_as_reading, "nobody holds this lock for reading");
    must_abort(unlock_anothers, "does not hold this lock for writing");
    must_abort(unlock_anothers, "fiber");
}
END_TEST

TEST_MAIN("sync/rwlock", the_states, readers_and_writers_take_turns, readers_share, nothing_cuts_it_short,
          excludes_fibers_of_one_worker, excludes_fibers_of_several_workers, excludes_threads, excludes_both,
          may_be_freed_by_the_last_user, wrong_use_aborts)
