/* stel_select: what is ready, what is chosen, what is left alone. */
#include "crew.h"

static stel_chan *make(size_t bytes, size_t capacity) {
    stel_chan *c;
    FIBER_OK(stel_chan_create(&c, bytes, capacity));
    return c;
}

/* ---- arguments ---- */

static int check_arguments(void *arg) {
    (void)arg;
    stel_chan *c = make(8, 1);
    uint64_t v = 0;
    static stel_case many[1025];
    stel_case one[] = { STEL_CASE_RECV(c, &v) };
    FIBER_ASSERT_EQ(stel_select(NULL, 1, 0), -EINVAL);
    FIBER_ASSERT_EQ(stel_select(one, 1, 2), -EINVAL);
    for (int i = 0; i < 1025; i++)
        many[i] = STEL_CASE_RECV(c, &v);
    FIBER_ASSERT_EQ(stel_select(many, 1025, STEL_SELECT_NOWAIT), -EINVAL);
    FIBER_ASSERT_EQ(stel_select(many, 1024, STEL_SELECT_NOWAIT), -EAGAIN);
    one[0] = STEL_CASE_RECV(c, NULL);
    FIBER_ASSERT_EQ(stel_select(one, 1, STEL_SELECT_NOWAIT), -EINVAL);
    one[0] = STEL_CASE_SEND(c, NULL);
    FIBER_ASSERT_EQ(stel_select(one, 1, STEL_SELECT_NOWAIT), -EINVAL);
    one[0].op = 3;
    FIBER_ASSERT_EQ(stel_select(one, 1, STEL_SELECT_NOWAIT), -EINVAL);
    one[0] = (stel_case){ .op = 0 };
    FIBER_ASSERT_EQ(stel_select(one, 1, STEL_SELECT_NOWAIT), -EINVAL);
    one[0] = STEL_CASE_RECV(NULL, NULL);
    FIBER_ASSERT_EQ(stel_select(one, 1, STEL_SELECT_NOWAIT), -EAGAIN);
    FIBER_ASSERT_EQ(stel_select(NULL, 0, STEL_SELECT_NOWAIT), -EAGAIN);
    stel_chan_destroy(c);
    return 0;
}

START_TEST(arguments) {
    ck_assert_int_eq(run_in_runtime(1, check_arguments, NULL), 0);
    ck_assert_int_eq(check_arguments(NULL), 0);
}
END_TEST

/* ---- one case that is ready, among others that are not: with every state of its channel ---- */

typedef struct row {
    const char *name;
    size_t capacity, length;
    bool closed;
    int op;   /* of the case looked at */
    int want; /* its result, or -EAGAIN: it is not ready */
} row;

static const row rows[] = {
    { "receive, empty", 2, 0, false, STEL_CASE_OP_RECV, -EAGAIN },
    { "receive, partial", 2, 1, false, STEL_CASE_OP_RECV, 0 },
    { "receive, full", 2, 2, false, STEL_CASE_OP_RECV, 0 },
    { "receive, rendezvous, nobody there", 0, 0, false, STEL_CASE_OP_RECV, -EAGAIN },
    { "receive, closed and empty", 2, 0, true, STEL_CASE_OP_RECV, -EPIPE },
    { "receive, closed and not drained", 2, 1, true, STEL_CASE_OP_RECV, 0 },
    { "send, empty", 2, 0, false, STEL_CASE_OP_SEND, 0 },
    { "send, partial", 2, 1, false, STEL_CASE_OP_SEND, 0 },
    { "send, full", 2, 2, false, STEL_CASE_OP_SEND, -EAGAIN },
    { "send, rendezvous, nobody there", 0, 0, false, STEL_CASE_OP_SEND, -EAGAIN },
    { "send, closed", 2, 0, true, STEL_CASE_OP_SEND, -EPIPE },
    { "send, closed and full", 2, 2, true, STEL_CASE_OP_SEND, -EPIPE },
};

static void check_one(const row *r, unsigned flags, int at, int n) {
    stel_chan *c = make(8, r->capacity), *empty = make(8, 0), *full = make(8, 1);
    uint64_t v = 7, other = 8, got;
    stel_case cases[5];
    FIBER_OK(stel_chan_send(full, &other));
    for (size_t i = 0; i < r->length; i++)
        FIBER_OK(stel_chan_send(c, &v));
    if (r->closed) FIBER_OK(stel_chan_close(c));
    for (int i = 0; i < n; i++)
        cases[i] = i % 3 == 0   ? STEL_CASE_RECV(empty, &other)
                   : i % 3 == 1 ? STEL_CASE_SEND(full, &other)
                                : STEL_CASE_RECV(NULL, NULL);
    uint64_t mine = r->op == STEL_CASE_OP_SEND ? 9 : 0;
    cases[at] = stel_case_of(r->op, c, &mine);
    int want = r->want == -EAGAIN ? -EAGAIN : at;
    if (want >= 0 || flags) {
        int rc = stel_select(cases, (size_t)n, flags);
        if (rc != want) FIBER_FAIL("%s, case %d of %d: %d, not %d", r->name, at, n, rc, want);
    }
    if (want >= 0) {
        FIBER_ASSERT_EQ(cases[at].result, r->want);
        if (r->want == 0) FIBER_ASSERT_EQ(mine, r->op == STEL_CASE_OP_SEND ? 9 : 7);
    }
    size_t length = r->length;
    if (r->want == 0) length = r->op == STEL_CASE_OP_SEND ? length + 1 : length - 1;
    FIBER_ASSERT_EQ(stel_chan_len(c), length);
    FIBER_ASSERT_EQ(stel_chan_len(full), 1);
    FIBER_OK(stel_chan_try_recv(full, &got));
    FIBER_ASSERT_EQ(stel_chan_try_send(full, &got), 0);
    stel_chan_destroy(c), stel_chan_destroy(empty), stel_chan_destroy(full);
}

static int check_all(void *arg) {
    (void)arg;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int n = 1; n <= 5; n++)
            for (int at = 0; at < n; at++) {
                check_one(&rows[i], 0, at, n);
                check_one(&rows[i], STEL_SELECT_NOWAIT, at, n);
            }
    return 0;
}

START_TEST(what_is_ready_is_done) {
    ck_assert_int_eq(run_in_runtime(1, check_all, NULL), 0);
    ck_assert_int_eq(check_all(NULL), 0);
}
END_TEST

/* ---- fairness: 16 cases always ready, 16,000 turns ---- */

static int count_choices(void *arg) {
    (void)arg;
    enum { N = 16, TURNS = 16000 };
    stel_chan *c[N];
    stel_case cases[N];
    uint64_t v = 1;
    int counts[N] = { 0 }, pairs[2] = { 0 };
    for (int i = 0; i < N; i++) {
        c[i] = make(8, 1);
        FIBER_OK(stel_chan_send(c[i], &v));
        cases[i] = STEL_CASE_RECV(c[i], &v);
    }
    for (int i = 0; i < TURNS; i++) {
        int rc = stel_select(cases, N, i % 2 ? STEL_SELECT_NOWAIT : 0);
        FIBER_OK(rc);
        counts[rc]++;
        FIBER_OK(stel_chan_send(c[rc], &v));
    }
    /* Binomial, 1000 +- 31: 500 to 1500 is sixteen deviations. */
    for (int i = 0; i < N; i++)
        FIBER_ASSERT(counts[i] > 500 && counts[i] < 1500);
    /* Two cases on one channel. */
    stel_case both[] = { STEL_CASE_RECV(c[0], &v), STEL_CASE_RECV(c[0], &v) };
    for (int i = 0; i < 2000; i++) {
        int rc = stel_select(both, 2, 0);
        FIBER_OK(rc);
        pairs[rc]++;
        FIBER_OK(stel_chan_send(c[0], &v));
    }
    FIBER_ASSERT(pairs[0] > 600 && pairs[1] > 600); /* 1000 +- 22 */
    for (int i = 0; i < N; i++)
        stel_chan_destroy(c[i]);
    return 0;
}

START_TEST(the_ready_are_equally_likely) {
    ck_assert_int_eq(run_in_runtime(1, count_choices, NULL), 0);
    ck_assert_int_eq(count_choices(NULL), 0);
}
END_TEST

/* ---- a selector that waits ---- */

enum { CASES_MAX = 1024 };

typedef struct chooser {
    stel_case *cases;
    size_t n;
    int chosen;
    _Atomic int waiting;
} chooser;

static int choose(void *arg) {
    chooser *s = arg;
    atomic_store(&s->waiting, 1);
    s->chosen = stel_select(s->cases, s->n, 0);
    return 0;
}

static stel_fiber start(chooser *s) {
    stel_fiber f;
    atomic_store(&s->waiting, 0);
    FIBER_OK(stel_spawn(&f, choose, s));
    while (!atomic_load(&s->waiting))
        stel_yield();
    return f;
}

/* Cases 2i receive from, 2i+1 send to channel i; whichever is served, the others stay as they were. */
static void serve(size_t n, size_t which, bool by_close) {
    static stel_case cases[CASES_MAX];
    static stel_chan *c[CASES_MAX / 2];
    static uint64_t v[CASES_MAX];
    uint64_t out = 5, in = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % 2 == 0) c[i / 2] = make(8, 0);
        v[i] = 100 + i;
        cases[i] = stel_case_of(i % 2 ? STEL_CASE_OP_SEND : STEL_CASE_OP_RECV, c[i / 2], &v[i]);
    }
    chooser s = { cases, n, -1, 0 };
    stel_fiber f = start(&s);
    if (by_close)
        FIBER_OK(stel_chan_close(c[which / 2]));
    else if (which % 2)
        FIBER_ASSERT_EQ(stel_chan_recv(c[which / 2], &in), 0);
    else
        FIBER_ASSERT_EQ(stel_chan_send(c[which / 2], &out), 0);
    FIBER_OK(stel_join(f, NULL));
    if (by_close) {
        FIBER_ASSERT_EQ(s.chosen / 2, which / 2);
        FIBER_ASSERT_EQ(cases[s.chosen].result, -EPIPE);
    } else {
        FIBER_ASSERT_EQ(s.chosen, which);
        FIBER_ASSERT_EQ(cases[which].result, 0);
        if (which % 2) FIBER_ASSERT_EQ(in, 100 + which);
    }
    for (size_t i = 0; i < n; i++) {
        bool received = !by_close && i == which && i % 2 == 0;
        FIBER_ASSERT_EQ(v[i], received ? 5 : 100 + i);
        if (i % 2 == 0 && !(by_close && i / 2 == which / 2)) { /* its queues are empty again */
            FIBER_ASSERT_EQ(stel_chan_try_recv(c[i / 2], &in), -EAGAIN);
            FIBER_ASSERT_EQ(stel_chan_try_send(c[i / 2], &in), -EAGAIN);
        }
    }
    for (size_t i = 0; i < n; i += 2)
        stel_chan_destroy(c[i / 2]);
}

static int serve_each(void *arg) {
    (void)arg;
    for (size_t n = 2; n <= 8; n += 2)
        for (size_t which = 0; which < n; which++) {
            serve(n, which, false);
            serve(n, which, true);
        }
    serve(CASES_MAX, 0, false);
    serve(CASES_MAX, 777, false);
    serve(CASES_MAX, CASES_MAX - 2, true);
    return 0;
}

START_TEST(a_waiting_selector_is_served_once) {
    ck_assert_int_eq(run_in_runtime(1, serve_each, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, serve_each, NULL), 0);
}
END_TEST

/* Two selectors meet on the same two channels: one sends where the other receives. */
static int selectors_meet(void *arg) {
    (void)arg;
    for (int turn = 0; turn < 200; turn++) {
        stel_chan *a = make(8, 0), *b = make(8, 0);
        uint64_t in_a = 0, in_b = 0, out_a = 1, out_b = 2;
        stel_case receive[] = { STEL_CASE_RECV(a, &in_a), STEL_CASE_RECV(b, &in_b) };
        stel_case send[] = { STEL_CASE_SEND(b, &out_b), STEL_CASE_SEND(a, &out_a) };
        chooser s = { receive, 2, -1, 0 };
        stel_fiber f = start(&s);
        int sent = stel_select(send, 2, 0);
        FIBER_OK(sent);
        FIBER_OK(stel_join(f, NULL));
        FIBER_ASSERT_EQ(s.chosen, 1 - sent);
        FIBER_ASSERT_EQ(in_a, s.chosen == 0 ? 1 : 0);
        FIBER_ASSERT_EQ(in_b, s.chosen == 1 ? 2 : 0);
        stel_chan_destroy(a), stel_chan_destroy(b);
    }
    return 0;
}

/* Both ends of one channel in one select: it never meets itself. */
static int not_oneself(void *arg) {
    (void)arg;
    stel_chan *c = make(8, 0);
    uint64_t in = 0, out = 1;
    stel_case both[] = { STEL_CASE_SEND(c, &out), STEL_CASE_RECV(c, &in), STEL_CASE_SEND(c, &out) };
    STEL_TIMEOUT(STEL_MS(2));
    FIBER_ASSERT_EQ(stel_select(both, 3, STEL_SELECT_NOWAIT), -EAGAIN);
    FIBER_ASSERT_EQ(stel_select(both, 3, 0), -ETIMEDOUT);
    FIBER_ASSERT_EQ(in, 0);
    stel_chan_destroy(c); /* aborts if a node is still queued */
    return 0;
}

START_TEST(selectors_meet_each_other_but_not_themselves) {
    ck_assert_int_eq(run_in_runtime(1, selectors_meet, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, selectors_meet, NULL), 0);
    ck_assert_int_eq(run_in_runtime(1, not_oneself, NULL), 0);
    ck_assert_int_eq(not_oneself(NULL), 0);
}
END_TEST

/* ---- nothing is lost: selectors on both sides of several channels, some with short limits ---- */

enum { CHANNELS = 3 };

typedef struct traffic {
    stel_chan *c[CHANNELS];
    uint64_t each;
    bool limits;
    _Atomic uint64_t number, senders_left, received, sum;
} traffic;

static int send_some(void *arg) {
    traffic *t = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state, me = atomic_fetch_add(&t->number, 1);
    for (uint64_t i = 0; i < t->each;) {
        uint64_t v[CHANNELS];
        stel_case cases[CHANNELS];
        uint32_t first = test_random(&state, CHANNELS); /* whoever names them in another order must not block */
        for (uint32_t k = 0; k < CHANNELS; k++) {
            v[k] = me * t->each + i;
            cases[k] = STEL_CASE_SEND(t->c[(first + k) % CHANNELS], &v[k]);
        }
        STEL_TIMEOUT(t->limits ? (int64_t)test_random(&state, 50000) : STEL_FOREVER);
        size_t n = 1 + test_random(&state, CHANNELS);
        unsigned flags = test_random(&state, 4) ? 0 : STEL_SELECT_NOWAIT;
        int rc = stel_select(cases, n, flags);
        if (rc >= 0) {
            FIBER_ASSERT_EQ(cases[rc].result, 0);
            i++;
        } else {
            FIBER_ASSERT(rc == (flags ? -EAGAIN : -ETIMEDOUT));
            if (flags) stel_yield();
        }
    }
    if (atomic_fetch_sub(&t->senders_left, 1) == 1)
        for (int k = 0; k < CHANNELS; k++)
            FIBER_OK(stel_chan_close(t->c[k]));
    return 0;
}

static int receive_all(void *arg) {
    traffic *t = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    stel_chan *c[CHANNELS];
    memcpy(c, t->c, sizeof c);
    for (int open = CHANNELS; open > 0;) {
        uint64_t v[CHANNELS];
        stel_case cases[CHANNELS];
        uint32_t first = test_random(&state, CHANNELS);
        for (uint32_t k = 0; k < CHANNELS; k++) {
            v[k] = UINT64_MAX;
            cases[k] = STEL_CASE_RECV(c[(first + k) % CHANNELS], &v[k]);
        }
        STEL_TIMEOUT(t->limits ? (int64_t)test_random(&state, 50000) : STEL_FOREVER);
        int rc = stel_select(cases, CHANNELS, 0);
        if (rc == -ETIMEDOUT) continue;
        FIBER_OK(rc);
        if (cases[rc].result == -EPIPE) {
            c[(first + (uint32_t)rc) % CHANNELS] = NULL; /* Go's way to be done with one of them */
            open--;
            continue;
        }
        for (int k = 0; k < CHANNELS; k++)
            FIBER_ASSERT((v[k] == UINT64_MAX) == (k != rc));
        atomic_fetch_add(&t->sum, v[rc]);
        atomic_fetch_add(&t->received, 1);
    }
    return 0;
}

/* A plain receiver of the first channel, among the selectors. */
static int receive_plainly(void *arg) {
    traffic *t = arg;
    uint64_t v;
    for (int rc; (rc = stel_chan_recv(t->c[0], &v)) != -EPIPE;) {
        FIBER_OK(rc);
        atomic_fetch_add(&t->sum, v);
        atomic_fetch_add(&t->received, 1);
    }
    return 0;
}

static void run_traffic(enum crew_kind kind, size_t capacity, bool limits) {
    enum { SENDERS = 4 };
    traffic t = { .each = test_scale(2000), .limits = limits };
    crew_job jobs[] = { { send_some, &t },   { receive_all, &t }, { receive_all, &t }, { send_some, &t },
                        { receive_all, &t }, { send_some, &t },   { send_some, &t },   { receive_plainly, &t } };
    atomic_store(&t.senders_left, SENDERS);
    for (int k = 0; k < CHANNELS; k++)
        t.c[k] = make(8, capacity);
    crew_run(kind, jobs, sizeof jobs / sizeof *jobs);
    uint64_t n = SENDERS * t.each;
    FIBER_ASSERT_EQ(t.received, n);
    FIBER_ASSERT_EQ(t.sum, n * (n - 1) / 2);
    for (int k = 0; k < CHANNELS; k++)
        stel_chan_destroy(t.c[k]);
}

START_TEST(traffic_between_fibers_of_one_worker) {
    for (size_t capacity = 0; capacity <= 2; capacity += 2)
        for (int limits = 0; limits <= 1; limits++)
            run_traffic(CREW_ONE_WORKER, capacity, limits);
}
END_TEST
START_TEST(traffic_between_workers) {
    for (size_t capacity = 0; capacity <= 2; capacity += 2)
        for (int limits = 0; limits <= 1; limits++)
            run_traffic(CREW_WORKERS, capacity, limits);
}
END_TEST
START_TEST(traffic_between_threads) {
    for (size_t capacity = 0; capacity <= 2; capacity += 2)
        for (int limits = 0; limits <= 1; limits++)
            run_traffic(CREW_THREADS, capacity, limits);
}
END_TEST
START_TEST(traffic_between_both) {
    for (size_t capacity = 0; capacity <= 2; capacity += 2)
        for (int limits = 0; limits <= 1; limits++)
            run_traffic(CREW_MIXED, capacity, limits);
}
END_TEST

TEST_MAIN("sync/select", arguments, what_is_ready_is_done, the_ready_are_equally_likely,
          a_waiting_selector_is_served_once, selectors_meet_each_other_but_not_themselves,
          traffic_between_fibers_of_one_worker, traffic_between_workers, traffic_between_threads, traffic_between_both)
