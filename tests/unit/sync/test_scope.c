/* Scopes: who is waited for, who is cancelled by whom, what join returns, and every way out of the block. */
#include "crew.h"
#include "sched/fiber.h"

static int end_with(void *result) {
    return (int)(intptr_t)result;
}

static int sleep_long(void *arg) {
    _Atomic int *cancelled = arg;
    int rc = stel_sleep(STEL_SEC(1000));
    if (cancelled && rc == -ECANCELED) atomic_fetch_add(cancelled, 1);
    return rc;
}

static int count_late(void *arg) {
    for (int i = 0; i < 20; i++)
        stel_yield();
    atomic_fetch_add((_Atomic int *)arg, 1);
    return 0;
}

/* Run in a fiber and on a plain thread beside a runtime. */
static void on_both(int (*body)(void *), void *arg) {
    ck_assert_int_eq(run_in_runtime(1, body, arg), 0);
    ck_assert_int_eq(run_in_runtime(3, body, arg), 0);
    stel_runtime *rt = NULL;
    ck_assert_int_eq(stel_runtime_create(&rt, NULL), 0);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    ck_assert_int_eq(body(arg), 0);
    ck_assert_uint_eq(stel_runtime_pending(rt), 0); /* an end that a join has seen is an end everywhere */
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_SEC(10)), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}

/* ---- joining ---- */

static int join_all(void *arg) {
    (void)arg;
    for (unsigned flags = 0; flags <= STEL_SCOPE_COLLECT; flags++) {
        stel_scope s;
        _Atomic int ended = 0;
        FIBER_OK(stel_scope_open(&s, flags));
        for (int i = 0; i < 200; i++)
            FIBER_OK(stel_scope_spawn(&s, count_late, &ended));
        FIBER_OK(stel_scope_join(&s));
        FIBER_ASSERT_EQ(atomic_load(&ended), 200);
    }
    return 0;
}

START_TEST(join_waits_for_every_child) {
    on_both(join_all, NULL);
}
END_TEST

static int misuse(void *arg) {
    (void)arg;
    stel_scope s, copy;
    memset(&s, 0, sizeof s);
    FIBER_ASSERT_EQ(stel_scope_spawn(&s, end_with, NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_scope_join(&s), -EINVAL);
    stel_scope_cancel(&s);
    stel_scope_close(&s);
    FIBER_ASSERT_EQ(stel_scope_join(NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_scope_spawn(NULL, end_with, NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_scope_open(NULL, 0), -EINVAL);
    FIBER_ASSERT_EQ(stel_scope_open(&s, 2), -EINVAL);
    FIBER_OK(stel_scope_open(&s, 0));
    copy = s;
    FIBER_ASSERT_EQ(stel_scope_spawn(&copy, end_with, NULL), -EINVAL); /* it must stay where it was opened */
    FIBER_ASSERT_EQ(stel_scope_spawn(&s, NULL, NULL), -EINVAL);
    FIBER_OK(stel_scope_join(&s));
    FIBER_ASSERT_EQ(stel_scope_join(&s), -EINVAL); /* closed */
    FIBER_ASSERT_EQ(stel_scope_spawn(&s, end_with, NULL), -EINVAL);
    FIBER_OK(stel_scope_open(&s, 0)); /* and open again */
    FIBER_OK(stel_scope_join(&s));
    return 0;
}

START_TEST(wrong_use_is_told) {
    on_both(misuse, NULL);
}
END_TEST

static int join_of_another(void *arg) {
    FIBER_ASSERT_EQ(stel_scope_join(arg), -EPERM);
    return 0;
}

static int only_the_opener(void *arg) {
    (void)arg;
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, 0));
    FIBER_OK(stel_scope_spawn(&s, join_of_another, &s));
    return stel_scope_join(&s);
}

START_TEST(only_the_opener_joins) {
    on_both(only_the_opener, NULL);
}
END_TEST

static int many_children(void *arg) {
    uint32_t *blocks = arg;
    for (uint64_t round = test_scale(500); round > 0; round--) {
        stel_scope s;
        FIBER_OK(stel_scope_open(&s, 0));
        for (int i = 0; i < 100; i++)
            FIBER_OK(stel_scope_spawn(&s, end_with, NULL));
        FIBER_OK(stel_scope_join(&s));
    }
    *blocks = stel__table_size();
    return 0;
}

START_TEST(children_leave_nothing_behind) {
    uint32_t blocks = 0;
    ck_assert_int_eq(run_in_runtime(1, many_children, &blocks), 0);
    ck_assert_uint_lt(blocks, 2048); /* control blocks ever made: not one a child */
}
END_TEST

/* ---- failures ---- */

static int first_failure(void *arg) {
    (void)arg;
    _Atomic int cancelled = 0;
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, 0));
    for (int i = 0; i < 50; i++)
        FIBER_OK(stel_scope_spawn(&s, sleep_long, &cancelled));
    FIBER_OK(stel_scope_spawn(&s, end_with, (void *)(intptr_t)-EBADMSG));
    FIBER_ASSERT_EQ(stel_scope_join(&s), -EBADMSG); /* and not the -ECANCELED of the others */
    FIBER_ASSERT(atomic_load(&cancelled) <= 50);    /* some may have been cancelled before they ran */
    return 0;
}

START_TEST(a_failure_cancels_the_siblings) {
    on_both(first_failure, NULL);
}
END_TEST

static int too_late(void *arg) {
    (void)arg;
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, 0));
    FIBER_OK(stel_scope_spawn(&s, end_with, (void *)(intptr_t)-EBADMSG));
    int rc;
    while ((rc = stel_scope_spawn(&s, sleep_long, NULL)) == 0) /* until the failure is known */
        stel_yield();
    FIBER_ASSERT_EQ(rc, -EBADMSG); /* the cause */
    FIBER_ASSERT_EQ(stel_scope_join(&s), -EBADMSG);
    return 0;
}

START_TEST(no_child_is_born_into_a_cancelled_scope) {
    on_both(too_late, NULL);
}
END_TEST

static int collecting(void *arg) {
    (void)arg;
    _Atomic int ended = 0;
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, STEL_SCOPE_COLLECT));
    FIBER_OK(stel_scope_spawn(&s, end_with, (void *)(intptr_t)-EBADMSG));
    for (int i = 0; i < 50; i++)
        FIBER_OK(stel_scope_spawn(&s, count_late, &ended));
    FIBER_ASSERT_EQ(stel_scope_join(&s), -EBADMSG);
    FIBER_ASSERT_EQ(atomic_load(&ended), 50);
    return 0;
}

START_TEST(collect_lets_the_siblings_finish) {
    on_both(collecting, NULL);
}
END_TEST

static int cancel_is_no_failure(void *arg) {
    (void)arg;
    _Atomic int cancelled = 0;
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, 0));
    for (int i = 0; i < 20; i++)
        FIBER_OK(stel_scope_spawn(&s, sleep_long, &cancelled));
    stel_scope_cancel(&s);
    FIBER_ASSERT_EQ(stel_scope_spawn(&s, end_with, NULL), -ECANCELED);
    FIBER_ASSERT_EQ(stel_scope_join(&s), 0);
    FIBER_ASSERT_EQ(atomic_load(&cancelled), 20);
    /* A child that says so by itself has failed. */
    FIBER_OK(stel_scope_open(&s, 0));
    FIBER_OK(stel_scope_spawn(&s, end_with, (void *)(intptr_t)-ECANCELED));
    FIBER_ASSERT_EQ(stel_scope_join(&s), -ECANCELED);
    return 0;
}

START_TEST(the_cancelled_have_not_failed) {
    on_both(cancel_is_no_failure, NULL);
}
END_TEST

static int exit_deep(void *arg) {
    (void)arg;
    stel_exit(-EBADMSG);
}

static int child_exits(void *arg) {
    (void)arg;
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, 0));
    FIBER_OK(stel_scope_spawn(&s, exit_deep, NULL));
    FIBER_ASSERT_EQ(stel_scope_join(&s), -EBADMSG);
    return 0;
}

START_TEST(a_child_may_leave_by_exit) {
    on_both(child_exits, NULL);
}
END_TEST

/* ---- limits ---- */

static int own_deadline(void *arg) {
    int64_t *seen = arg;
    *seen = stel_deadline();
    return 0;
}

static int inherits(void *arg) {
    (void)arg;
    int64_t at_open = 0, tighter = 0, by_sibling = 0, detached = 0;
    STEL_TIMEOUT(STEL_SEC(1000));
    int64_t mine = stel_deadline();
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, 0));
    FIBER_OK(stel_scope_spawn(&s, own_deadline, &at_open));
    {
        STEL_TIMEOUT(STEL_SEC(500));
        FIBER_OK(stel_scope_spawn(&s, own_deadline, &tighter));
    }
    stel_fiber f;
    FIBER_OK(stel_spawn(&f, own_deadline, &detached));
    FIBER_OK(stel_join(f, NULL));
    FIBER_OK(stel_scope_spawn(&s, own_deadline, &by_sibling));
    FIBER_OK(stel_scope_join(&s));
    FIBER_ASSERT_EQ(at_open, mine);
    FIBER_ASSERT_EQ(by_sibling, mine);
    FIBER_ASSERT(tighter < mine);
    FIBER_ASSERT_EQ(detached, STEL_FOREVER); /* a plain spawn inherits nothing */
    return 0;
}

START_TEST(children_inherit_the_deadline) {
    on_both(inherits, NULL);
}
END_TEST

static int forever_uncancelled(void *arg) {
    stel_event *gate = arg;
    STEL_SHIELD(STEL_SEC(1000));
    return stel_event_wait(gate);
}

static int open_the_gate(void *arg) {
    FIBER_ASSERT_EQ(stel_sleep(STEL_SEC(1000)), -ECANCELED); /* the scope is cancelled: that is our sign */
    stel_event_set(arg);
    return 0;
}

static int cut_short(void *arg) {
    (void)arg;
    stel_event gate = STEL_EVENT_INIT;
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, 0)); /* the children have no deadline */
    FIBER_OK(stel_scope_spawn(&s, forever_uncancelled, &gate));
    FIBER_OK(stel_scope_spawn(&s, open_the_gate, &gate));
    STEL_TIMEOUT(STEL_MS(5));
    FIBER_ASSERT_EQ(stel_scope_join(&s), -ETIMEDOUT);
    FIBER_ASSERT(stel_timed_out());
    FIBER_ASSERT(stel_event_is_set(&gate)); /* it has waited for the one that would not be cancelled, too */
    return 0;
}

START_TEST(a_join_cut_short_cancels_and_still_waits) {
    on_both(cut_short, NULL);
}
END_TEST

static int child_times_out(void *arg) {
    (void)arg;
    STEL_TIMEOUT(STEL_MS(5));
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, 0));
    FIBER_OK(stel_scope_spawn(&s, sleep_long, NULL));
    FIBER_ASSERT_EQ(stel_scope_join(&s), -ETIMEDOUT); /* whoever of the two is faster */
    FIBER_ASSERT(stel_timed_out());
    return 0;
}

START_TEST(the_common_deadline_ends_both) {
    on_both(child_times_out, NULL);
}
END_TEST

static int foreign_timeout(void *arg) {
    (void)arg;
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, 0));
    FIBER_OK(stel_scope_spawn(&s, end_with, (void *)(intptr_t)-ETIMEDOUT));
    FIBER_ASSERT_EQ(stel_scope_join(&s), -ETIMEDOUT);
    FIBER_ASSERT(!stel_timed_out()); /* its, not ours */
    return 0;
}

START_TEST(a_childs_timeout_is_not_ours) {
    on_both(foreign_timeout, NULL);
}
END_TEST

/* ---- cancelling the opener ---- */

typedef struct family {
    stel_event ready, done;
    _Atomic int cancelled;
    int depth;
} family;

/* Opens a scope at each level; the opener itself never waits for anything that a cancellation could end. */
static int generation(void *arg) {
    family *f = arg;
    if (f->depth == 0) {
        stel_event_set(&f->ready);
        return sleep_long(&f->cancelled);
    }
    f->depth--;
    STEL_SCOPE(s);
    FIBER_OK(stel_scope_spawn(&s, generation, f));
    {
        STEL_SHIELD(STEL_SEC(1000)); /* deaf: what reaches the youngest does not come through here */
        FIBER_OK(stel_event_wait(&f->done));
    }
    return stel_scope_join(&s);
}

static int cancel_the_oldest(void *arg) {
    family f = { .depth = *(int *)arg };
    stel_fiber oldest;
    int result;
    FIBER_OK(stel_spawn(&oldest, generation, &f));
    FIBER_OK(stel_event_wait(&f.ready));
    FIBER_ASSERT_EQ(atomic_load(&f.cancelled), 0);
    FIBER_OK(stel_cancel(oldest));
    EVENTUALLY(atomic_load(&f.cancelled) == 1);
    stel_event_set(&f.done);
    FIBER_OK(stel_join(oldest, &result));
    FIBER_ASSERT_EQ(result, -ECANCELED);
    return 0;
}

START_TEST(cancelling_the_opener_cancels_at_once) {
    for (int depth = 1; depth <= 100; depth += 33) {
        ck_assert_int_eq(run_in_runtime(1, cancel_the_oldest, &depth), 0);
        ck_assert_int_eq(run_in_runtime(3, cancel_the_oldest, &depth), 0);
    }
}
END_TEST

/* However fast the children end: who was cancelled is told so, and does not take them for successful. */
static int join_one_sleeper(void *arg) {
    stel_scope s;
    int rc = stel_scope_open(&s, 0);
    FIBER_OK(rc);
    rc = stel_scope_spawn(&s, sleep_long, NULL);
    FIBER_ASSERT(rc == 0 || rc == -ECANCELED);
    atomic_fetch_add((_Atomic int *)arg, 1);
    return stel_scope_join(&s);
}

static int cancel_the_joiner(void *arg) {
    (void)arg;
    for (uint64_t round = test_scale(3000); round > 0; round--) {
        _Atomic int begun = 0;
        stel_fiber f;
        int result = 0;
        FIBER_OK(stel_spawn(&f, join_one_sleeper, &begun));
        while (round % 4 && !atomic_load(&begun))
            stel_yield();
        FIBER_OK(stel_cancel(f));
        FIBER_OK(stel_join(f, &result));
        FIBER_ASSERT_EQ(result, -ECANCELED);
    }
    return 0;
}

START_TEST(the_cancelled_opener_is_told) {
    ck_assert_int_eq(run_in_runtime(1, cancel_the_joiner, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, cancel_the_joiner, NULL), 0);
}
END_TEST

/* Deeper than a canceller goes by itself: the rest follows from opener to opener. */
static int deep_generation(void *arg) {
    family *f = arg;
    if (f->depth == 0) {
        stel_event_set(&f->ready);
        return sleep_long(&f->cancelled);
    }
    f->depth--;
    STEL_SCOPE(s);
    FIBER_OK(stel_scope_spawn(&s, deep_generation, f));
    return stel_scope_join(&s);
}

static int cancel_deep(void *arg) {
    family f = { .depth = 1000 };
    stel_fiber oldest;
    (void)arg;
    FIBER_OK(stel_spawn(&oldest, deep_generation, &f));
    FIBER_OK(stel_event_wait(&f.ready));
    FIBER_OK(stel_cancel(oldest));
    FIBER_OK(stel_join(oldest, NULL));
    FIBER_ASSERT_EQ(atomic_load(&f.cancelled), 1);
    return 0;
}

START_TEST(a_thousand_generations) {
    ck_assert_int_eq(run_in_runtime(2, cancel_deep, NULL), 0);
}
END_TEST

static int born_cancelled(void *arg) {
    _Atomic int *ran = arg;
    FIBER_OK(stel_cancel(stel_self()));
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, 0));
    FIBER_ASSERT_EQ(stel_scope_spawn(&s, count_late, ran), -ECANCELED);
    FIBER_ASSERT_EQ(stel_scope_join(&s), -ECANCELED);
    STEL_SHIELD(STEL_SEC(1000)); /* cleaning up may use scopes as well */
    FIBER_OK(stel_scope_open(&s, 0));
    FIBER_OK(stel_scope_spawn(&s, count_late, ran));
    FIBER_OK(stel_cancel(stel_self())); /* again: hidden as the first */
    FIBER_OK(stel_scope_spawn(&s, count_late, ran));
    FIBER_OK(stel_scope_join(&s));
    return 0;
}

START_TEST(a_shield_covers_the_scopes_opened_behind_it) {
    _Atomic int ran = 0;
    ck_assert_int_eq(run_in_runtime(2, born_cancelled, &ran), 0);
    ck_assert_int_eq(atomic_load(&ran), 2);
}
END_TEST

/* ---- the ways out ---- */

static int leave(int how, _Atomic int *cancelled) {
    for (int i = 0; i < 2; i++) {
        STEL_SCOPE(s);
        FIBER_OK(stel_scope_spawn(&s, sleep_long, cancelled));
        stel_yield();
        if (how == 0) return 0;
        if (how == 1) break;
        if (how == 2) continue;
        if (how == 3) goto out;
    }
    return 0;
out:
    return 0;
}

static int every_way(void *arg) {
    (void)arg;
    const int scopes[] = { 1, 1, 2, 1, 2 };
    for (int how = 0; how < 5; how++) {
        _Atomic int cancelled = 0;
        FIBER_OK(leave(how, &cancelled));
        FIBER_ASSERT(atomic_load(&cancelled) <= scopes[how]);
    }
    STEL_SCOPE(joined);
    _Atomic int ended = 0;
    FIBER_OK(stel_scope_spawn(&joined, count_late, &ended));
    FIBER_OK(stel_scope_join(&joined)); /* the end of the block has nothing left to do */
    FIBER_ASSERT_EQ(atomic_load(&ended), 1);
    return 0;
}

START_TEST(leaving_the_block_cancels_and_joins) {
    on_both(every_way, NULL);
}
END_TEST

typedef struct deep {
    _Atomic int cancelled;
    stel_key key;
    bool destroyed_after;
    void (*leave)(int result); /* stel_exit, without the compiler's knowing that it does not return */
} deep;

static deep *the_deep; /* for the destructor */
static void destroyed(void *value) {
    (void)value;
    the_deep->destroyed_after = atomic_load(&the_deep->cancelled) == 4;
}

static void descend(deep *d, int depth) {
    STEL_SCOPE(s);
    FIBER_OK(stel_scope_spawn(&s, sleep_long, &d->cancelled));
    while (stel_runtime_pending(stel_runtime_current()) < 3) /* the child's own, too: it is waiting */
        stel_yield();
    for (int i = 0; i < 10; i++)
        stel_yield();
    if (depth > 0)
        descend(d, depth - 1);
    else
        d->leave(7);
}

static int exit_from_the_depth(void *arg) {
    deep *d = arg;
    FIBER_OK(stel_local_set(d->key, d));
    STEL_TIMEOUT(STEL_SEC(1000));
    descend(d, 3);
    return 0;
}

static int exits(void *arg) {
    deep *d = arg;
    stel_fiber f;
    int result;
    FIBER_OK(stel_spawn(&f, exit_from_the_depth, d));
    FIBER_OK(stel_join(f, &result));
    FIBER_ASSERT_EQ(result, 7);
    FIBER_ASSERT_EQ(atomic_load(&d->cancelled), 4);
    FIBER_ASSERT(d->destroyed_after);
    return 0;
}

START_TEST(exit_cancels_and_joins_open_scopes) {
    deep d = { .leave = stel_exit };
    the_deep = &d;
    ck_assert_int_eq(stel_local_key(&d.key, destroyed), 0);
    ck_assert_int_eq(run_in_runtime(1, exits, &d), 0);
}
END_TEST

static stel_scope forgotten;
static int forgets(void *arg) {
    (void)arg;
    (void)stel_set_name("forgetful");
    return stel_scope_open(&forgotten, 0);
}
static void return_with_an_open_scope(void) {
    run_in_runtime(1, forgets, NULL);
}

START_TEST(returning_with_an_open_scope_aborts) {
    must_abort(return_with_an_open_scope, "\"forgetful\" ends with the scope");
}
END_TEST

/* ---- background ---- */

static int service(void *arg) {
    STEL_SCOPE(s);
    int rc = stel_scope_spawn(&s, sleep_long, arg);
    FIBER_ASSERT(rc == 0 || rc == -ECANCELED); /* it may all be over by now */
    return stel_scope_join(&s);
}

static int start_service(void *arg) {
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    o.flags = STEL_BACKGROUND;
    return stel_spawn_with(NULL, &o, service, arg);
}

START_TEST(children_of_the_background_are_background) {
    _Atomic int cancelled = 0;
    ck_assert_int_eq(run_in_runtime(2, start_service, &cancelled), 0); /* else it would never end */
    ck_assert_int_le(atomic_load(&cancelled), 1);
}
END_TEST

/* ---- many at once ---- */

/* A cancellation that comes while a child is being spawned must reach it, or the join would never return. */
typedef struct race {
    stel_scope s;
    _Atomic int begun;
} race;

static int cancel_soon(void *arg) {
    race *r = arg;
    uint64_t state = (uint64_t)stel_now();
    atomic_store(&r->begun, 1);
    for (uint32_t spins = test_random(&state, 3000); spins > 0; spins--)
        atomic_thread_fence(memory_order_seq_cst);
    stel_scope_cancel(&r->s);
    return 0;
}

static int spawn_against_cancel(void *arg) {
    (void)arg;
    for (uint64_t round = test_scale(20000); round > 0; round--) {
        race r = { .begun = 0 };
        stel_fiber canceller;
        int rc;
        FIBER_OK(stel_scope_open(&r.s, 0));
        FIBER_OK(stel_spawn(&canceller, cancel_soon, &r));
        for (int spins = 0; spins < 10000 && !atomic_load(&r.begun);)
            spins++;
        while (!atomic_load(&r.begun))
            stel_yield();
        while ((rc = stel_scope_spawn(&r.s, sleep_long, NULL)) == 0)
            if (stel_runtime_pending(stel_runtime_current()) > 1000) stel_yield();
        FIBER_ASSERT_EQ(rc, -ECANCELED);
        FIBER_OK(stel_scope_join(&r.s));
        FIBER_OK(stel_join(canceller, NULL));
    }
    return 0;
}

START_TEST(a_cancellation_reaches_who_is_being_spawned) {
    ck_assert_int_eq(run_in_runtime(2, spawn_against_cancel, NULL), 0);
}
END_TEST

static int random_child(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    for (uint32_t n = test_random(&state, 4); n > 0; n--) {
        STEL_SCOPE(s);
        for (uint32_t i = test_random(&state, 3); i > 0; i--)
            if (stel_scope_spawn(&s, random_child, (void *)(uintptr_t)(state >> 8 | test_random(&state, 1 << 20))) < 0)
                break;
        switch (test_random(&state, 5)) {
        case 0:
            stel_scope_cancel(&s);
            break;
        case 1:
            break;
        case 2:
            stel_yield();
            break;
        default:
            if (stel_scope_join(&s) == -EBADMSG && test_random(&state, 2)) return -EBADMSG;
        }
        if (test_random(&state, 40) == 0) stel_exit(-EBADMSG);
    }
    return test_random(&state, 20) == 0 ? -EBADMSG : 0;
}

static int random_families(void *arg) {
    (void)arg;
    uint64_t state = test_seed();
    for (uint64_t i = test_scale(400); i > 0; i--) {
        stel_scope s;
        FIBER_OK(stel_scope_open(&s, test_random(&state, 2)));
        for (int k = 0; k < 4; k++)
            (void)!stel_scope_spawn(&s, random_child, (void *)(uintptr_t)(i << 20 | test_random(&state, 1 << 20)));
        int rc = stel_scope_join(&s);
        FIBER_ASSERT(rc == 0 || rc == -EBADMSG);
        FIBER_ASSERT_EQ(stel_runtime_pending(stel_runtime_current()), 1); /* nobody outlives the scope */
    }
    return 0;
}

START_TEST(nobody_outlives_a_scope) {
    (void)test_seed();
    ck_assert_int_eq(run_in_runtime(4, random_families, NULL), 0);
}
END_TEST

TEST_MAIN("sync/scope", join_waits_for_every_child, wrong_use_is_told, children_leave_nothing_behind,
          only_the_opener_joins, a_failure_cancels_the_siblings, no_child_is_born_into_a_cancelled_scope,
          collect_lets_the_siblings_finish, the_cancelled_have_not_failed, a_child_may_leave_by_exit,
          children_inherit_the_deadline, a_join_cut_short_cancels_and_still_waits, the_common_deadline_ends_both,
          a_childs_timeout_is_not_ours, cancelling_the_opener_cancels_at_once, the_cancelled_opener_is_told,
          a_thousand_generations, a_shield_covers_the_scopes_opened_behind_it, leaving_the_block_cancels_and_joins,
          exit_cancels_and_joins_open_scopes, returning_with_an_open_scope_aborts,
          children_of_the_background_are_background, a_cancellation_reaches_who_is_being_spawned,
          nobody_outlives_a_scope)
