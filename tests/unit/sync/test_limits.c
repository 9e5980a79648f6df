/* Every waiting call of this room under deadlines and cancellation: before it waits, while it waits, from fibers and
 * from threads; and that a call which was cut short has done nothing. */
#include "crew.h"

typedef struct things {
    stel_event event;
    stel_waitgroup group;
    stel_mutex mutex;
    stel_cond cond;
    stel_sem sem;
    stel_barrier barrier;
    stel_once once; /* somebody runs it: a waiter with an index that nobody has */
    stel_chan *empty, *full, *meeting;
} things;

typedef struct call {
    const char *name;
    int (*fn)(things *t);
} call;

static int wait_event(things *t) {
    return stel_event_wait(&t->event);
}
static int wait_group(things *t) {
    return stel_waitgroup_wait(&t->group);
}
static int wait_cond(things *t) {
    stel_mutex_lock(&t->mutex);
    int rc = stel_cond_wait(&t->cond, &t->mutex);
    stel_mutex_unlock(&t->mutex); /* aborts if it is not held */
    return rc;
}
static int acquire(things *t) {
    return stel_sem_acquire(&t->sem);
}
static int meet(things *t) {
    return stel_barrier_wait(&t->barrier);
}
static int not_to_be_run(void *arg) {
    (void)arg;
    FIBER_FAIL("somebody else runs it");
}
static int wait_once(things *t) {
    return stel_once_call(&t->once, not_to_be_run, t);
}
static int receive_empty(things *t) {
    uint64_t v = 7;
    int rc = stel_chan_recv(t->empty, &v);
    FIBER_ASSERT_EQ(v, 7);
    return rc;
}
static int send_full(things *t) {
    uint64_t v = 7;
    return stel_chan_send(t->full, &v);
}
static int receive_meeting(things *t) {
    uint64_t v = 7;
    return stel_chan_recv(t->meeting, &v);
}
static int send_meeting(things *t) {
    uint64_t v = 7;
    return stel_chan_send(t->meeting, &v);
}
static int receive_nil(things *t) {
    return stel_chan_recv(NULL, t);
}
static int send_nil(things *t) {
    return stel_chan_send(NULL, t);
}
static int select_nothing(things *t) {
    (void)t;
    return stel_select(NULL, 0, 0);
}
static int select_nil(things *t) {
    stel_case cases[] = { STEL_CASE_RECV(NULL, t), STEL_CASE_SEND(NULL, t) };
    return stel_select(cases, 2, 0);
}
static int select_one(things *t) {
    uint64_t v = 7;
    stel_case cases[] = { STEL_CASE_RECV(NULL, t), STEL_CASE_RECV(t->empty, &v) };
    return stel_select(cases, 2, 0);
}
static int select_some(things *t) {
    uint64_t v = 7;
    stel_case cases[] = { STEL_CASE_RECV(t->empty, &v), STEL_CASE_SEND(t->full, &v), STEL_CASE_RECV(t->meeting, &v),
                          STEL_CASE_SEND(t->meeting, &v) };
    int rc = stel_select(cases, 4, 0);
    FIBER_ASSERT_EQ(v, 7);
    return rc;
}

static const call calls[] = {
    { "event", wait_event },
    { "waitgroup", wait_group },
    { "cond", wait_cond },
    { "semaphore", acquire },
    { "barrier", meet },
    { "once", wait_once },
    { "receive from an empty channel", receive_empty },
    { "send to a full channel", send_full },
    { "receive, rendezvous", receive_meeting },
    { "send, rendezvous", send_meeting },
    { "receive from nil", receive_nil },
    { "send to nil", send_nil },
    { "select among nothing", select_nothing },
    { "select among nils", select_nil },
    { "select of one", select_one },
    { "select of some", select_some },
};
enum { CALLS = sizeof calls / sizeof *calls };

static void things_make(things *t) {
    uint64_t v = 1;
    *t = (things){ 0 };
    stel_waitgroup_add(&t->group, 1);
    FIBER_OK(stel_barrier_init(&t->barrier, 2));
    t->once.opaque[0] = UINT64_C(0xFFFFFF) << 32 | 1;
    FIBER_OK(stel_chan_create(&t->empty, 8, 2));
    FIBER_OK(stel_chan_create(&t->full, 8, 1));
    FIBER_OK(stel_chan_create(&t->meeting, 8, 0));
    FIBER_OK(stel_chan_send(t->full, &v));
}

/* Nobody is queued any more, nothing came, nothing went. */
static void things_end(things *t) {
    uint64_t v = 0;
    FIBER_ASSERT_EQ(stel_chan_try_send(t->meeting, &v), -EAGAIN);
    FIBER_ASSERT_EQ(stel_chan_try_recv(t->meeting, &v), -EAGAIN);
    FIBER_ASSERT_EQ(stel_chan_len(t->empty), 0);
    FIBER_ASSERT_EQ(stel_chan_try_recv(t->full, &v), 0);
    FIBER_ASSERT_EQ(v, 1);
    FIBER_ASSERT_EQ(stel_chan_try_recv(t->full, &v), -EAGAIN);
    stel_barrier fresh;
    stel_sem none = { { 0 } };
    FIBER_OK(stel_barrier_init(&fresh, 2));
    FIBER_ASSERT_EQ(memcmp(&fresh, &t->barrier, sizeof fresh), 0);
    FIBER_ASSERT_EQ(memcmp(&none, &t->sem, sizeof none), 0);
    stel_cond_broadcast(&t->cond);
    stel_event_set(&t->event);
    stel_waitgroup_done(&t->group);
    stel_chan_destroy(t->empty); /* these abort when somebody is queued */
    stel_chan_destroy(t->full);
    stel_chan_destroy(t->meeting);
    memset(t, 0xA5, sizeof *t);
}

static void expect(const call *c, int have, int want) {
    if (have != want)
        FIBER_FAIL("%s: %d (%s), not %d (%s)", c->name, have, stel_strerror(have), want, stel_strerror(want));
}

/* ---- deadlines ---- */

static int all_with_deadlines(void *arg) {
    (void)arg;
    for (size_t i = 0; i < CALLS; i++) {
        things t;
        things_make(&t);
        {
            STEL_TIMEOUT(STEL_MS(2));
            int64_t when = stel_deadline();
            expect(&calls[i], calls[i].fn(&t), -ETIMEDOUT);
            FIBER_ASSERT(stel_now() >= when);
            FIBER_ASSERT(stel_timed_out());
            expect(&calls[i], calls[i].fn(&t), -ETIMEDOUT); /* before it waits */
        }
        {
            STEL_TIMEOUT(-1);
            expect(&calls[i], calls[i].fn(&t), -ETIMEDOUT);
        }
        things_end(&t);
    }
    return 0;
}

START_TEST(deadlines_end_waits) {
    ck_assert_int_eq(run_in_runtime(1, all_with_deadlines, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, all_with_deadlines, NULL), 0);
    ck_assert_int_eq(all_with_deadlines(NULL), 0);
}
END_TEST

/* ---- cancellation ---- */

typedef struct victim {
    const call *call;
    things t;
    _Atomic int started;
} victim;

static int be_cancelled(void *arg) {
    victim *v = arg;
    atomic_store(&v->started, 1);
    expect(v->call, v->call->fn(&v->t), -ECANCELED);
    expect(v->call, v->call->fn(&v->t), -ECANCELED); /* before it waits */
    {
        STEL_SHIELD(STEL_SEC(60));
        STEL_TIMEOUT(STEL_MS(1));
        expect(v->call, v->call->fn(&v->t), -ETIMEDOUT); /* the shield lets it wait again */
    }
    return 0;
}

static int cancel_all(void *arg) {
    int yields = *(int *)arg;
    for (size_t i = 0; i < CALLS; i++) {
        victim v = { .call = &calls[i] };
        stel_fiber f;
        int result;
        things_make(&v.t);
        FIBER_OK(stel_spawn(&f, be_cancelled, &v));
        if (yields > 0)
            while (!atomic_load(&v.started))
                stel_yield();
        for (int k = 1; k < yields; k++)
            stel_yield();
        FIBER_OK(stel_cancel(f));
        FIBER_OK(stel_join(f, &result));
        FIBER_OK(result);
        things_end(&v.t);
    }
    return 0;
}

START_TEST(cancellation_ends_waits) {
    for (int yields = 0; yields < 8; yields += 3) {
        ck_assert_int_eq(run_in_runtime(1, cancel_all, &yields), 0);
        ck_assert_int_eq(run_in_runtime(3, cancel_all, &yields), 0);
    }
}
END_TEST

/* ---- calls that need not wait are not made to fail late, and obey what is over already ---- */

static int need_not_wait(void *arg) {
    (void)arg;
    things t;
    uint64_t v = 3;
    things_make(&t);
    STEL_TIMEOUT(-1);
    FIBER_ASSERT_EQ(stel_sleep(STEL_SEC(60)), -ETIMEDOUT); /* now the worker's cached clock has seen it, too */
    FIBER_ASSERT_EQ(stel_chan_send(t.empty, &v), -ETIMEDOUT);
    FIBER_ASSERT_EQ(stel_chan_recv(t.full, &v), -ETIMEDOUT);
    FIBER_ASSERT_EQ(stel_chan_len(t.empty), 0);
    FIBER_ASSERT_EQ(stel_chan_len(t.full), 1);
    FIBER_ASSERT_EQ(stel_chan_try_send(t.empty, &v), 0); /* the try forms do not ask */
    FIBER_ASSERT_EQ(stel_chan_try_recv(t.empty, &v), 0);
    stel_case cases[] = { STEL_CASE_SEND(t.empty, &v), STEL_CASE_RECV(t.empty, &v) };
    FIBER_ASSERT_EQ(stel_select(cases, 2, 0), -ETIMEDOUT);
    FIBER_ASSERT_EQ(stel_select(cases, 2, STEL_SELECT_NOWAIT), 0);
    FIBER_ASSERT_EQ(stel_select(cases, 2, STEL_SELECT_NOWAIT) >= 0, 1);
    while (stel_chan_try_recv(t.empty, &v) == 0)
        continue;
    things_end(&t);
    return 0;
}

START_TEST(limits_come_first) {
    ck_assert_int_eq(run_in_runtime(1, need_not_wait, NULL), 0);
    ck_assert_int_eq(need_not_wait(NULL), 0);
}
END_TEST

TEST_MAIN("sync/limits", deadlines_end_waits, cancellation_ends_waits, limits_come_first)
