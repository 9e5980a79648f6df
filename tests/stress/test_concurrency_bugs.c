/* One test for each race that has been a bug of this library, or of a draft of it that a model (tests/model) or a stress
 * test refuted (row E23). Above each is the race, what goes on at the same time side by side, the older step higher, and
 * what went wrong. Each is provoked as well as a test can: many short rounds in which a thread acts at a moment near the
 * one that matters, chosen by a printed seed. A lost wake-up is a test that does not end.
 *
 * ctest: labels=slow timeout=300 serial */
#include "duel.h"
#include "graveyard.h"
#include "sched/fiber.h"
#include "sched/sched.h"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stellane/stellane.h>
#include <unistd.h>

#define EQ(have, want) FIBER_ASSERT_EQ(have, want)
#define OK(call)       FIBER_OK(call)
#define IS(condition)  FIBER_ASSERT(condition)

static int until_cut_short(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}

static stel_runtime *started(int workers) {
    stel_config c;
    stel_runtime *rt = NULL;
    stel_config_init(&c);
    c.worker_threads = workers;
    c.stall_ns = -1;
    OK(stel_runtime_create(&rt, &c));
    OK(stel_runtime_start(rt));
    return rt;
}

/* ---- the end of a shield ----
 *
 *     timer                                       waker
 *       word: SHIELDED -> INTERRUPTIBLE
 *                                                   word: PARKED -> WOKEN; the fiber goes on a run queue
 *       limit = the deadline
 *
 * limit and the run queue's link (of fibers that are bound, as here) are one word of the fiber: the queue broke. The timer
 * itself knows when to fire again. */

static _Atomic uint64_t released;

static void release_it(void *sem) {
    atomic_fetch_add(&released, 1);
    stel_sem_release(sem);
}

static int woken_as_the_shield_ends(void *arg) {
    duel d;
    stel_sem s;
    OK(stel_sem_init(&s, 0));
    duel_begin(&d, release_it, arg != NULL);
    for (budget b = rounds(6000); go_on(&b);) {
        STEL_SHIELD(STEL_US(25));
        duel_challenge(&d, &s, STEL_US(25), 3000);
        OK(stel_sem_acquire(&s));
        duel_await(&d);
    }
    duel_end(&d);
    return 0;
}

START_TEST(a_timer_leaves_the_run_queue_alone) {
    ck_assert_int_eq(run_bound(1, woken_as_the_shield_ends), 0);
}
END_TEST

/*     timer                                       canceller
 *       the shield's time is over                   life: + CANCELLED
 *                                                   word: SHIELDED, so leave it
 *       word: SHIELDED -> INTERRUPTIBLE
 *
 * Nobody looked at life again: the fiber slept on, cancelled. */

static void cancel_it(void *f) {
    (void)stel_cancel(*(stel_fiber *)f);
}

static int waits_shielded(void *arg) {
    stel_event never = STEL_EVENT_INIT;
    STEL_SHIELD(STEL_US(25));
    atomic_store((_Atomic bool *)arg, true);
    return stel_event_wait(&never);
}

static int cancelled_as_the_shield_ends(void *arg) {
    duel d;
    duel_begin(&d, cancel_it, arg != NULL);
    for (budget b = rounds(3000); go_on(&b);) {
        _Atomic bool waits = false;
        stel_fiber f;
        int result;
        OK(stel_spawn(&f, waits_shielded, (void *)&waits));
        while (!atomic_load(&waits))
            stel_yield();
        duel_challenge(&d, &f, STEL_US(24), 4000);
        OK(stel_join(f, &result));
        EQ(result, -ECANCELED);
        duel_await(&d);
    }
    duel_end(&d);
    return 0;
}

START_TEST(the_end_of_a_shield_shows_the_cancellation) {
    ck_assert_int_eq(run_bound(1, cancelled_as_the_shield_ends), 0);
    ck_assert_int_eq(run_in_runtime(2, cancelled_as_the_shield_ends, NULL), 0);
}
END_TEST

/* ---- on the way to sleep ----
 *
 *     fiber                                       canceller, unparker
 *       wait_check: nothing
 *                                                   life: + CANCELLED, or TOKEN
 *       word: -> PREPARED                           word: not PARKED, so leave it
 *       word: PREPARED -> PARKED
 *
 * It slept for ever: finish_park looks at life once more. */

static void unpark_it(void *f) {
    OK(stel_unpark(*(stel_fiber *)f));
}

static int parks_as_it_is_unparked(void *arg) {
    duel d;
    stel_fiber self = stel_self();
    uint64_t random = test_seed() + 1;
    duel_begin(&d, unpark_it, arg != NULL);
    for (budget b = rounds(30000); go_on(&b);) {
        duel_challenge(&d, &self, STEL_US(20), 0);
        until_about(atomic_load(&d.at), &random, 400);
        OK(stel_park());
        duel_await(&d);
    }
    duel_end(&d);
    return 0;
}

static int waits_about_then(void *arg) {
    duel *d = arg;
    stel_event never = STEL_EVENT_INIT;
    uint64_t random = test_seed() ^ stel_self();
    stel_fiber self = stel_self();
    duel_challenge(d, &self, STEL_US(20), 0);
    until_about(atomic_load(&d->at), &random, 400);
    int rc = stel_event_wait(&never);
    duel_await(d); /* it has `self` in hand */
    return rc;
}

static int waits_as_it_is_cancelled(void *arg) {
    duel d;
    duel_begin(&d, cancel_it, arg != NULL);
    for (budget b = rounds(10000); go_on(&b);) {
        stel_fiber f;
        int result;
        OK(stel_spawn(&f, waits_about_then, &d));
        OK(stel_join(f, &result));
        EQ(result, -ECANCELED);
    }
    duel_end(&d);
    return 0;
}

START_TEST(nobody_is_missed_on_the_way_to_sleep) {
    ck_assert_int_eq(run_bound(1, parks_as_it_is_unparked), 0);
    ck_assert_int_eq(run_bound(1, waits_as_it_is_cancelled), 0);
}
END_TEST

/*     fiber, on worker 0                          waker, on worker 1
 *       word: -> PREPARED, node queued
 *                                                   word: PREPARED -> WOKEN, and made it runnable
 *       picks who is next, switches                 runs it: on a stack that is still in use
 *
 * Who finds PREPARED only marks it; and the code after the switch, which must not forget a fiber that was marked, makes
 * it runnable. Pairs hand a turn to and fro, more of them than workers, with something on their stacks. */

typedef struct rally {
    stel_sem turn[2];
    uint64_t rounds;
} rally;

__attribute__((noinline)) static void wait_deep(stel_sem *s, unsigned depth, uint64_t with) {
    volatile uint64_t frame[8];
    for (int i = 0; i < 8; i++)
        frame[i] = with + (unsigned)i;
    if (depth)
        wait_deep(s, depth - 1, with * 3);
    else
        OK(stel_sem_acquire(s));
    for (int i = 0; i < 8; i++)
        EQ(frame[i], with + (unsigned)i);
}

static int plays(rally *r, int side) {
    for (uint64_t i = 0; i < r->rounds; i++) {
        wait_deep(&r->turn[side], i % 4, i);
        stel_sem_release(&r->turn[!side]);
    }
    return 0;
}
static int plays_first(void *arg) {
    return plays(arg, 0);
}
static int plays_second(void *arg) {
    return plays(arg, 1);
}

static int rallies(void *arg) {
    enum { PAIRS = 6 };
    rally r[PAIRS];
    stel_fiber f[2 * PAIRS];
    (void)arg;
    for (int i = 0; i < PAIRS; i++) {
        r[i].rounds = test_scale(30000);
        OK(stel_sem_init(&r[i].turn[0], 1));
        OK(stel_sem_init(&r[i].turn[1], 0));
        OK(stel_spawn(&f[2 * i], plays_first, &r[i]));
        OK(stel_spawn(&f[2 * i + 1], plays_second, &r[i]));
    }
    for (int i = 0; i < 2 * PAIRS; i++)
        OK(stel_join(f[i], NULL));
    return 0;
}

/* The waker a plain thread, which need not take anything from its own queue first. */
static int woken_on_the_way(void *arg) {
    duel d;
    stel_sem s;
    uint64_t random = test_seed() + 3;
    OK(stel_sem_init(&s, 0));
    duel_begin(&d, release_it, arg != NULL);
    for (budget b = rounds(10000); go_on(&b);) {
        uint64_t before = atomic_load(&released);
        duel_challenge(&d, &s, STEL_US(20), 0);
        until_about(atomic_load(&d.at), &random, 400);
        wait_deep(&s, b.left % 4, b.left);
        EQ(atomic_load(&released), before + 1); /* not run by anything else */
        duel_await(&d);
    }
    duel_end(&d);
    return 0;
}

START_TEST(a_fiber_runs_on_one_worker_at_a_time) {
    ck_assert_int_eq(run_bound(1, woken_on_the_way), 0);
    ck_assert_int_eq(run_in_runtime(2, woken_on_the_way, NULL), 0);
    for (int workers = 2; workers <= 4; workers++)
        ck_assert_int_eq(run_in_runtime(workers, rallies, NULL), 0);
}
END_TEST

/* ---- late wakers ----
 *
 *     waiter                                      waker
 *       waits, PARKED, sequence 7                   takes its node off the queue: it is chosen
 *       its time is over: sees that it was chosen
 *       waits for something else, sequence 8
 *                                                   wakes it
 *
 * A wake that does not name its sequence ends the wrong wait; and of who was chosen and looks at the clock only, the
 * permit was lost. For threads the same: there the late waker also leaves its mark on the futex. */

static int late_wakes(void *arg) {
    duel d;
    stel_sem s;
    stel_event never = STEL_EVENT_INIT;
    OK(stel_sem_init(&s, 0));
    duel_begin(&d, release_it, arg != NULL);
    for (budget b = rounds(2500); go_on(&b);) {
        int64_t at = stel_after(STEL_US(40));
        int64_t before = stel_deadline_push(at);
        duel_challenge(&d, &s, at - stel_now(), b.left % 2 ? 1500 : 12000);
        int rc = stel_sem_acquire(&s);
        stel_deadline_pop(before);
        {
            STEL_TIMEOUT(STEL_US(40));
            EQ(stel_event_wait(&never), -ETIMEDOUT); /* nobody has set it */
        }
        duel_await(&d);
        IS(rc == 0 || rc == -ETIMEDOUT);
        EQ(stel_sem_try_acquire(&s), rc == 0 ? -EAGAIN : 0); /* one permit was given, and one was taken */
    }
    duel_end(&d);
    return 0;
}

START_TEST(a_late_waker_ends_no_other_wait) {
    ck_assert_int_eq(run_bound(1, late_wakes), 0);
    ck_assert_int_eq(run_in_runtime(2, late_wakes, NULL), 0);
    ck_assert_int_eq(late_wakes(NULL), 0);
}
END_TEST

/*     selector                                    sender
 *       queued on two channels                      finds its node, copies the element
 *       its time is over
 *       leaves with -ETIMEDOUT                      wakes it: too late
 *
 * The element was lost. Its word is swapped before anything is copied. */

typedef struct offer {
    stel_chan *chan;
    _Atomic int outcome;
} offer;

static void offer_it(void *arg) {
    offer *o = arg;
    int value = 5;
    atomic_store(&o->outcome, stel_chan_try_send(o->chan, &value));
}

static int selects_as_time_ends(void *arg) {
    duel d;
    offer o = { .outcome = 1 };
    stel_chan *other;
    OK(stel_chan_create(&o.chan, sizeof(int), 0));
    OK(stel_chan_create(&other, sizeof(int), 0));
    duel_begin(&d, offer_it, arg != NULL);
    for (budget b = rounds(2500); go_on(&b);) {
        int got = 0;
        stel_case cases[2] = { STEL_CASE_RECV(other, &got), STEL_CASE_RECV(o.chan, &got) };
        int64_t at = stel_after(STEL_US(40)), before = stel_deadline_push(at);
        duel_challenge(&d, &o, at - stel_now(), b.left % 2 ? 1500 : 12000);
        int rc = b.left % 3 ? stel_select(cases, 2, 0) : stel_chan_recv(o.chan, &got) + 1;
        stel_deadline_pop(before);
        duel_await(&d);
        EQ(rc == 1, got == 5);
        EQ(atomic_load(&o.outcome), got == 5 ? 0 : -EAGAIN);
    }
    duel_end(&d);
    stel_chan_destroy(o.chan);
    stel_chan_destroy(other);
    return 0;
}

START_TEST(what_was_sent_was_received) {
    ck_assert_int_eq(run_bound(1, selects_as_time_ends), 0);
    ck_assert_int_eq(run_in_runtime(2, selects_as_time_ends, NULL), 0);
    ck_assert_int_eq(selects_as_time_ends(NULL), 0);
}
END_TEST

/* ---- the end of a fiber, and who learns of it ----
 *
 *     joiner, its time over                       ending fiber
 *       gives its claim back                        exchanges joiner for ENDED: finds the ticket, wakes it
 *       takes its ticket back: gone
 *
 * The fiber had ended for nobody: its result and its block were lost, or were somebody else's, who had claimed it in
 * between. Ticket first; and when it is gone, the join has succeeded after all. */

static void set_it(void *event) {
    stel_event_set(event);
}

typedef struct mortal {
    stel_event end;
    int result;
} mortal;

static int ends_when_told(void *arg) {
    mortal *m = arg;
    OK(stel_event_wait(&m->end));
    return m->result;
}

/* By its own clock. */
static int ends_in_time(void *arg) {
    OK(stel_sleep_until(*(int64_t *)arg));
    return 12345;
}

/* Both wait for the same moment: both timers fire, and the one that ends runs first. */
static void joins_one_that_ends_in_time(void) {
    int64_t at = stel_after(STEL_US(30));
    stel_fiber f;
    int got = -1;
    OK(stel_spawn(&f, ends_in_time, &at));
    stel_yield();
    int64_t before = stel_deadline_push(at);
    int rc = stel_join(f, &got);
    stel_deadline_pop(before);
    IS(rc == 0 || rc == -ETIMEDOUT);
    if (rc < 0) OK(stel_join(f, &got));
    EQ(got, 12345);
}

static int joins_as_time_ends(void *arg) {
    duel d;
    duel_begin(&d, set_it, arg != NULL);
    for (budget b = rounds(2500); go_on(&b);) {
        int i = (int)b.left;
        mortal m = { .result = i };
        stel_fiber f, stranger;
        int got = -1;
        joins_one_that_ends_in_time();
        OK(stel_spawn(&f, ends_when_told, &m));
        int64_t at = stel_after(STEL_US(40)), before = stel_deadline_push(at);
        duel_challenge(&d, &m.end, at - stel_now(), i % 2 ? 2000 : 12000);
        int rc = stel_join(f, &got);
        stel_deadline_pop(before);
        IS(rc == 0 || rc == -ETIMEDOUT);
        if (i % 8 == 0) OK(stel_spawn(&stranger, until_cut_short, NULL)); /* takes the block, if it is free */
        EQ(stel_join(f, &got), rc == 0 ? -ESRCH : 0);
        EQ(got, i);
        if (i % 8 == 0) {
            OK(stel_cancel(stranger));
            OK(stel_join(stranger, &got));
            EQ(got, -ECANCELED);
        }
        duel_await(&d);
    }
    duel_end(&d);
    return 0;
}

START_TEST(a_join_cut_short_leaves_the_fiber_to_the_next) {
    ck_assert_int_eq(run_bound(1, joins_as_time_ends), 0);
    ck_assert_int_eq(run_in_runtime(1, joins_as_time_ends, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, joins_as_time_ends, NULL), 0);
}
END_TEST

/*     try_join                                    join, detach
 *       claims it
 *       has it ended? no                            claimed already: -ESRCH
 *       gives its claim back: -EAGAIN
 *
 * The other was told that somebody else joins, and nobody did. Of all who want it exactly one gets it, whatever the
 * order. */

typedef struct prize {
    mortal m;
    stel_fiber f;
    _Atomic int taken, refused;
} prize;

static int tries_to_join(void *arg) {
    prize *p = arg;
    int rc, result = 0;
    while ((rc = stel_try_join(p->f, &result)) == -EAGAIN)
        stel_yield();
    if (rc == 0) EQ(result, p->m.result);
    atomic_fetch_add(rc == 0 ? &p->taken : &p->refused, 1);
    return 0;
}
static int joins_it(void *arg) {
    prize *p = arg;
    int result = 0, rc = stel_join(p->f, &result);
    if (rc == 0) EQ(result, p->m.result);
    atomic_fetch_add(rc == 0 ? &p->taken : &p->refused, 1);
    return 0;
}
static int detaches_it(void *arg) {
    prize *p = arg;
    atomic_fetch_add(stel_detach(p->f) == 0 ? &p->taken : &p->refused, 1);
    return 0;
}

static int who_gets_it(void *arg) {
    static stel_fn *const parties[] = { tries_to_join, joins_it, tries_to_join, detaches_it };
    enum { RESTLESS = 2 };
    uint64_t random = test_seed();
    stel_fiber restless[RESTLESS];
    _Atomic bool stop = false;
    (void)arg;
    for (int k = 0; k < RESTLESS; k++)
        OK(stel_spawn(&restless[k], is_restless, (void *)&stop));
    for (budget b = rounds(20000); go_on(&b);) {
        int i = (int)b.left;
        prize p = { .m.result = i };
        stel_fiber f[3];
        OK(stel_spawn(&p.f, ends_when_told, &p.m));
        for (int k = 0; k < 3; k++)
            OK(stel_spawn(&f[k], parties[test_random(&random, 4)], &p));
        for (uint32_t k = test_random(&random, 3); k > 0; k--)
            stel_yield();
        stel_event_set(&p.m.end);
        for (int k = 0; k < 3; k++)
            OK(stel_join(f[k], NULL));
        EQ(atomic_load(&p.taken), 1);
        EQ(atomic_load(&p.refused), 2);
        while (stel_runtime_pending(stel_runtime_current()) > 1 + RESTLESS) /* a detached one: it looks at p */
            stel_yield();
    }
    atomic_store(&stop, true);
    for (int k = 0; k < RESTLESS; k++)
        OK(stel_join(restless[k], NULL));
    return 0;
}

static void try_to_join_it(void *f) {
    int rc = stel_try_join(*(stel_fiber *)f, NULL);
    IS(rc == -EAGAIN || rc == -ESRCH); /* before the detach, or after it */
}

/* A try that takes nothing is in nobody's way. */
static int detaches_what_is_tried(void *arg) {
    duel d;
    uint64_t random = test_seed() + 5;
    duel_begin(&d, try_to_join_it, arg != NULL);
    for (budget b = rounds(5000); go_on(&b);) {
        mortal m = { .result = 1 };
        stel_fiber f;
        OK(stel_spawn(&f, ends_when_told, &m));
        duel_challenge(&d, &f, STEL_US(20), 0);
        until_about(atomic_load(&d.at), &random, 400);
        OK(stel_detach(f));
        duel_await(&d);
        stel_event_set(&m.end);
        while (stel_runtime_pending(stel_runtime_current()) > 3) /* we and the restless: it looks at m */
            stel_yield();
    }
    duel_end(&d);
    return 0;
}

START_TEST(one_of_all_who_want_it_gets_it) {
    ck_assert_int_eq(run_bound(1, detaches_what_is_tried), 0);
    ck_assert_int_eq(run_in_runtime(3, who_gets_it, NULL), 0);
}
END_TEST

/* ---- a deadline on the next worker ----
 *
 *     worker 0                                    worker 1
 *       its clock: 1,000 us                         its clock, cached: 950 us
 *       a wait ends at 990 us: -ETIMEDOUT
 *                                                   steals the fiber; its next wait: 990 us is not over
 *
 * A deadline that was reported is over for good: it is moved to the beginning of time. */

static int times_out_and_moves(void *arg) {
    stel_event never = STEL_EVENT_INIT;
    (void)arg;
    for (budget b = rounds(1500); go_on(&b);) {
        STEL_TIMEOUT(STEL_US(20));
        EQ(stel_event_wait(&never), -ETIMEDOUT);
        for (int k = 0; k < 4; k++) {
            stel_yield();
            EQ(stel_event_wait(&never), -ETIMEDOUT);
        }
        EQ(stel_deadline(), INT64_MIN);
    }
    return 0;
}

static int many_time_out(void *arg) {
    enum { FIBERS = 12 };
    stel_fiber f[FIBERS];
    (void)arg;
    for (int i = 0; i < FIBERS; i++)
        OK(stel_spawn(&f[i], times_out_and_moves, NULL));
    for (int i = 0; i < FIBERS; i++)
        OK(stel_join(f[i], NULL));
    return 0;
}

START_TEST(a_reported_deadline_stays_passed) {
    ck_assert_int_eq(run_in_runtime(3, many_time_out, NULL), 0);
}
END_TEST

/* ---- scopes ----
 *
 *     canceller of the opener                     opener, in its join
 *       opener: + CANCELLED; word: not PARKED yet
 *       cancels the children: they end              alive is 0: returns 0
 *
 * The children's end was no success: they were cancelled with their opener, who had not yet heard of it. */

typedef struct opener {
    _Atomic bool opened;
    _Atomic int64_t join_at; /* 0: not known yet; 1: at once */
    uint64_t random;
} opener;

static int opens_and_joins(void *arg) {
    opener *o = arg;
    stel_scope s;
    OK(stel_scope_open(&s, 0));
    for (int i = 0; i < 3; i++) {
        int rc = stel_scope_spawn(&s, until_cut_short, NULL);
        IS(rc == 0 || rc == -ECANCELED);
    }
    atomic_store(&o->opened, true);
    while (!atomic_load(&o->join_at))
        stel_yield(); /* the children go to sleep */
    until_about(atomic_load(&o->join_at), &o->random, 600);
    return stel_scope_join(&s);
}

static int cancels_openers(void *arg) {
    stel_spawn_options options = STEL_SPAWN_OPTIONS_INIT;
    duel d;
    if (arg) options.place = STEL_WORKER(0);
    duel_begin(&d, cancel_it, arg != NULL);
    for (budget b = rounds(5000); go_on(&b);) {
        opener o = { .random = b.left };
        stel_fiber f;
        int result;
        OK(stel_spawn_with(&f, &options, opens_and_joins, &o));
        while (!atomic_load(&o.opened))
            stel_yield();
        duel_challenge(&d, &f, STEL_US(22), 0);
        int64_t at = atomic_load(&d.at);
        atomic_store(&o.join_at, at && b.left % 4 ? at : 1);
        OK(stel_join(f, &result));
        EQ(result, -ECANCELED);
        duel_await(&d);
    }
    duel_end(&d);
    return 0;
}

START_TEST(a_cancelled_opener_is_told) {
    ck_assert_int_eq(run_in_runtime(1, cancels_openers, NULL), 0);
    ck_assert_int_eq(run_bound(3, cancels_openers), 0);
}
END_TEST

/*     child                                       whoever could join it
 *       ends; nobody has claimed it: its block
 *       waits for a join or detach                  the scope: joins by counting, needs no handle
 *
 * A block was lost with every child. They are detached; so the numbers of blocks stay small, however many live. */

static _Atomic uint64_t highest_block;

static int notes_its_block(void *arg) {
    uint64_t block = stel_self() & ((UINT64_C(1) << STEL__INDEX_BITS) - 1), seen = atomic_load(&highest_block);
    while (block > seen && !atomic_compare_exchange_weak(&highest_block, &seen, block)) {
    }
    return arg ? -EBADMSG : 0;
}

static int very_many_children(void *arg) {
    uint64_t families = test_scale(2000);
    enum { CHILDREN = 20 };
    (void)arg;
    for (uint64_t i = 0; i < families; i++) {
        stel_scope s;
        OK(stel_scope_open(&s, 0));
        for (int k = 0; k < CHILDREN; k++) {
            int rc = stel_scope_spawn(&s, notes_its_block, i % 3 == 0 && k == 7 ? &s : NULL);
            IS(rc == 0 || rc == -EBADMSG);
        }
        int rc = stel_scope_join(&s);
        EQ(rc, i % 3 == 0 ? -EBADMSG : 0);
    }
    IS(atomic_load(&highest_block) < 2000); /* workers keep some at hand */
    return 0;
}

START_TEST(no_block_is_lost_with_a_child) {
    ck_assert_int_eq(run_in_runtime(2, very_many_children, NULL), 0);
}
END_TEST

/* ---- workers that go to sleep ----
 *
 *     worker                                      stranger
 *       looks at all queues: nothing
 *                                                   pushes a fiber; is anybody asleep? no
 *       asleep
 *
 * So it announces its sleep and then looks again. And: one that sleeps in the poll is woken as such, not by the futex; a
 * waker that counted as a searcher and found nobody asleep looks again, as somebody may have relied on it. Wanted: a
 * push at every stage of falling asleep; from two threads, as they get into each other's way. */

typedef struct pusher {
    stel_runtime *rt;
    uint64_t random;
    _Atomic uint64_t ran;
} pusher;

static int one_push(void *arg) {
    atomic_fetch_add((_Atomic uint64_t *)arg, 1);
    return 0;
}

static void *pushes(void *arg) {
    pusher *p = arg;
    budget b = rounds(8000);
    for (uint64_t i = 1; go_on(&b); i++) {
        OK(stel_runtime_spawn(p->rt, NULL, NULL, one_push, (void *)&p->ran));
        while (atomic_load(&p->ran) < i) /* for ever, when it was missed */
            sched_yield();
        int64_t until = stel_now() + test_random(&p->random, i % 64 ? 6000 : 400000);
        while (stel_now() < until)
            stel__cpu_relax();
    }
    return NULL;
}

static int keeps_the_poll_armed(void *fd) {
    char byte;
    EQ(stel_read(*(int *)fd, &byte, 1), 1);
    return 0;
}

static int sleeps_a_little(void *stop) {
    uint64_t random = test_seed();
    while (!atomic_load((_Atomic bool *)stop))
        OK(stel_sleep(STEL_US(20) + test_random(&random, 60000)));
    return 0;
}

START_TEST(no_push_is_missed_by_who_falls_asleep) {
    for (int variant = 0; variant < 4; variant++) {
        stel_runtime *rt = started(1 + variant % 2 * 2);
        pusher p[2] = { { .rt = rt, .random = test_seed() }, { .rt = rt, .random = test_seed() + 1 } };
        pthread_t t[2];
        stel_fiber reader = 0, sleeper;
        _Atomic bool stop = false;
        int ends[2];
        ck_assert_int_eq(pipe(ends), 0);
        if (variant >= 2) ck_assert_int_eq(stel_runtime_spawn(rt, &reader, NULL, keeps_the_poll_armed, &ends[0]), 0);
        ck_assert_int_eq(stel_runtime_spawn(rt, &sleeper, NULL, sleeps_a_little, (void *)&stop), 0);
        for (int i = 0; i < 2; i++)
            ck_assert_int_eq(pthread_create(&t[i], NULL, pushes, &p[i]), 0);
        for (int i = 0; i < 2; i++)
            pthread_join(t[i], NULL);
        atomic_store(&stop, true);
        ck_assert_int_eq(write(ends[1], "x", 1), 1);
        if (reader) ck_assert_int_eq(stel_join(reader, NULL), 0);
        ck_assert_int_eq(stel_join(sleeper, NULL), 0);
        ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
        ck_assert_int_eq(stel_runtime_destroy(rt), 0);
        close(ends[0]);
        close(ends[1]);
    }
}
END_TEST

/*     worker 1, asleep                            waker of a fiber that is bound to worker 1
 *                                                   puts it on worker 1's own queue
 *                                                   wakes a worker to search: any, perhaps number 0
 *
 * Number 0 may not take it, and number 1 slept on. Its own worker is woken. */

typedef struct bound {
    stel_sem go, gone;
    _Atomic bool over;
} bound;

static int is_bound(void *arg) {
    bound *b = arg;
    int worker = stel_worker_id();
    for (bool over = false; !over;) {
        OK(stel_sem_acquire(&b->go));
        EQ(stel_worker_id(), worker);
        over = atomic_load(&b->over);
        stel_sem_release(&b->gone);
    }
    return 0;
}

START_TEST(a_bound_fiber_wakes_its_own_worker) {
    enum { WORKERS = 3 };
    stel_runtime *rt = started(WORKERS);
    uint64_t random = test_seed();
    bound all[WORKERS] = { 0 };
    stel_fiber f[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
        o.place = STEL_WORKER(i);
        OK(stel_runtime_spawn(rt, &f[i], &o, is_bound, &all[i]));
    }
    for (budget b = rounds(3000); b.left;) {
        int64_t until = stel_now() + test_random(&random, 15000);
        bool last = !go_on(&b) || !b.left;
        if (last) b.left = 0; /* no round is the last twice */
        for (int i = 0; i < WORKERS; i++) {
            atomic_store(&all[i].over, last);
            stel_sem_release(&all[i].go);
        }
        for (int i = 0; i < WORKERS; i++)
            OK(stel_sem_acquire(&all[i].gone));
        while (stel_now() < until)
            stel__cpu_relax();
    }
    for (int i = 0; i < WORKERS; i++)
        OK(stel_join(f[i], NULL));
    OK(stel_runtime_stop(rt, 0));
    OK(stel_runtime_destroy(rt));
}
END_TEST

/*     guardian                                    worker
 *       all are asleep: sleeps for good
 *                                                   leaves sleep; its fiber does not leave, and another waits behind it
 *
 * Nobody was there who could have noticed. A worker that leaves sleep wakes the guardian. */

static int raises(void *flag) {
    atomic_store((_Atomic bool *)flag, true);
    return 0;
}

static int keeps_its_worker(void *arg) {
    (void)arg;
    for (budget b = rounds(8); go_on(&b);) {
        _Atomic bool helped = false;
        stel_fiber f;
        OK(stel_sleep(STEL_MS(60))); /* it sleeps for good after 31 ms */
        OK(stel_spawn(&f, raises, (void *)&helped));
        while (!atomic_load(&helped)) /* for ever, unless the other worker is told */
            stel__cpu_relax();
        OK(stel_join(f, NULL));
    }
    return 0;
}

START_TEST(the_guardian_wakes_with_the_workers) {
    ck_assert_int_eq(run_in_runtime(2, keeps_its_worker, NULL), 0);
}
END_TEST

/* ---- the end of a runtime ----
 *
 *     worker 0                                    worker 1
 *       its last fiber ends
 *       asleep; sleeping is 1, not 2                its last fiber ends
 *       (a waker takes it from its sleep, and       asleep: sleeping is 3 for a moment, not 2
 *        has not lowered sleeping yet)
 *
 * Nobody saw that nobody was left, and the runtime waited for ever. `sleeping` may be too high, never too low. */

static int short_life(void *arg) {
    for (uintptr_t i = (uintptr_t)arg; i > 0; i--)
        stel_yield();
    return 0;
}

static int last_ones(void *arg) {
    uint64_t *random = arg;
    for (int i = 0; i < 3; i++)
        OK(stel_go(short_life, (void *)(uintptr_t)test_random(random, 4)));
    return (int)test_random(random, 2) ? stel_sleep(test_random(random, 3000)) : 0;
}

START_TEST(the_end_of_the_last_fiber_is_seen) {
    uint64_t random = test_seed();
    graveyard_open();
    for (budget b = rounds(1500); go_on(&b);)
        ck_assert_int_eq(run_in_runtime(2 + (int)(b.left % 3), last_ones, &random), 0);
    graveyard_close();
}
END_TEST

/*     waiter                                      guardian                        who was told first
 *       waits for the end                           HALTED; tells all
 *                                                                                   destroys the runtime
 *       was told: takes the runtime's lock
 *
 * It was gone. Who was told looks at its own node only. Nor may the guardian touch the runtime after it has told them. */

typedef struct end_waiter {
    stel_runtime *rt;
    _Atomic(stel__waiter *) waiter;
    _Atomic int *told;
    int patience_us;
} end_waiter;

static void *waits_for_the_end(void *arg) {
    end_waiter *w = arg;
    int64_t before = w->patience_us ? stel_deadline_push(stel_after(STEL_US(w->patience_us))) : STEL_FOREVER;
    atomic_store(&w->waiter, stel__waiter_self());
    int rc = stel_runtime_wait(w->rt);
    stel_deadline_pop(before);
    IS(rc == 0 || (rc == -ETIMEDOUT && w->patience_us));
    if (rc == 0 && atomic_fetch_add(w->told, 1) == 0)
        OK(stel_runtime_destroy(w->rt)); /* all others have begun to wait */
    return NULL;
}

static bool is_parked(end_waiter *w) {
    stel__waiter *me = atomic_load(&w->waiter);
    return me && stel__load_relaxed(&me->reason) == STEL__WAIT_RUNTIME;
}

static int ends_all(void *arg) {
    (void)arg;
    return stel_shutdown(0);
}

START_TEST(who_is_told_of_the_end_may_destroy) {
    enum { WAITERS = 4 };
    uint64_t random = test_seed();
    graveyard_open();
    for (budget b = rounds(500); go_on(&b);) {
        stel_runtime *rt = started(1 + (int)(b.left % 2));
        end_waiter w[WAITERS];
        pthread_t t[WAITERS];
        _Atomic int told = 0;
        for (int k = 0; k < WAITERS; k++) {
            w[k] = (end_waiter){ .rt = rt, .told = &told };
            if (k == 0) w[k].patience_us = 60 + (int)test_random(&random, 250); /* cut short at about that time */
            ck_assert_int_eq(pthread_create(&t[k], NULL, waits_for_the_end, &w[k]), 0);
        }
        for (int k = 1; k < WAITERS; k++)
            while (!is_parked(&w[k]))
                sched_yield();
        while (!is_parked(&w[0]) && !atomic_load(&w[0].waiter))
            sched_yield();
        bool first_waits = is_parked(&w[0]);
        if (!first_waits) pthread_join(t[0], NULL); /* its call must have begun, or be over */
        OK(stel_runtime_spawn(rt, NULL, NULL, ends_all, NULL));
        for (int k = !first_waits; k < WAITERS; k++)
            pthread_join(t[k], NULL);
    }
    graveyard_close();
}
END_TEST

/*     thread, sets an event                       the fiber it wakes                  main
 *       word: PARKED -> WOKEN
 *       pushes it to the scheduler's queue
 *                                                   runs, ends: the last one            it stopped: destroys it
 *       looks whether a worker sleeps
 *
 * In a scheduler that was gone. Strangers are counted before the fiber is on a queue, and its end waits for them. */

START_TEST(a_stranger_is_waited_for) {
    duel d;
    graveyard_open();
    duel_begin(&d, set_it, false);
    for (budget b = rounds(2000); go_on(&b);) {
        mortal m = { .result = 3 };
        m.end = (stel_event)STEL_EVENT_INIT;
        duel_challenge(&d, &m.end, STEL_US(150), 60000);
        ck_assert_int_eq(run_in_runtime(1 + (int)(b.left % 2), ends_when_told, &m), 3);
        duel_await(&d);
    }
    duel_end(&d);
    graveyard_close();
}
END_TEST

/*     first fiber                                 start
 *       starts a thread, which spawns: -EPERM       workers run
 *                                                   puts the runtime on the list of those that run
 *
 * It is on the list before its workers run. */

static void *spawns_at_once(void *arg) {
    int rc = stel_go(short_life, NULL);
    *(int *)arg = rc;
    return NULL;
}

static int starts_a_thread(void *arg) {
    pthread_t t;
    int rc = -1;
    (void)arg;
    EQ(pthread_create(&t, NULL, spawns_at_once, &rc), 0);
    pthread_join(t, NULL);
    return rc;
}

START_TEST(a_runtime_is_found_by_what_its_fibers_start) {
    for (budget b = rounds(500); go_on(&b);)
        ck_assert_int_eq(run_in_runtime(1, starts_a_thread, NULL), 0);
}
END_TEST

TEST_MAIN("stress/concurrency_bugs", a_timer_leaves_the_run_queue_alone, the_end_of_a_shield_shows_the_cancellation,
          nobody_is_missed_on_the_way_to_sleep, a_fiber_runs_on_one_worker_at_a_time, a_late_waker_ends_no_other_wait,
          what_was_sent_was_received, a_join_cut_short_leaves_the_fiber_to_the_next, one_of_all_who_want_it_gets_it,
          a_reported_deadline_stays_passed, a_cancelled_opener_is_told, no_block_is_lost_with_a_child,
          no_push_is_missed_by_who_falls_asleep, a_bound_fiber_wakes_its_own_worker,
          the_guardian_wakes_with_the_workers, the_end_of_the_last_fiber_is_seen, who_is_told_of_the_end_may_destroy,
          a_stranger_is_waited_for, a_runtime_is_found_by_what_its_fibers_start)
