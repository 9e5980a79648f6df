/* Channels: the table of what each call does in each state, order, hand-over, and that nothing is lost. */
#include "crew.h"

/* ---- creation and arguments ---- */

START_TEST(creation) {
    stel_chan *c = (stel_chan *)&c;
    ck_assert_int_eq(stel_chan_create(NULL, 8, 1), -EINVAL);
    ck_assert_int_eq(stel_chan_create(&c, 65537, 1), -EINVAL);
    ck_assert_int_eq(stel_chan_create(&c, 16, SIZE_MAX / 8), -EINVAL);
    ck_assert_int_eq(stel_chan_create(&c, 1, SIZE_MAX - 3), -EINVAL);
    ck_assert_int_eq(stel_chan_create(&c, 65536, 2), 0);
    ck_assert_uint_eq(stel_chan_len(c), 0);
    ck_assert_ptr_eq(stel_chan_retain(c), c);
    stel_chan_destroy(c);
    ck_assert_int_eq(stel_chan_close(c), 0); /* one reference is left */
    ck_assert_int_eq(stel_chan_close(c), -EPIPE);
    stel_chan_destroy(c);
    stel_chan_destroy(NULL);
    ck_assert_ptr_null(stel_chan_retain(NULL));
    ck_assert_int_eq(stel_chan_close(NULL), -EINVAL);
    ck_assert_uint_eq(stel_chan_len(NULL), 0);
}
END_TEST

START_TEST(elements_may_be_missing_only_without_size) {
    stel_chan *c;
    ck_assert_int_eq(stel_chan_create(&c, 4, 1), 0);
    ck_assert_int_eq(stel_chan_send(c, NULL), -EINVAL);
    ck_assert_int_eq(stel_chan_recv(c, NULL), -EINVAL);
    ck_assert_int_eq(stel_chan_try_send(c, NULL), -EINVAL);
    ck_assert_int_eq(stel_chan_try_recv(c, NULL), -EINVAL);
    ck_assert_int_eq(stel_chan_try_send(NULL, c), -EINVAL);
    ck_assert_int_eq(stel_chan_try_recv(NULL, c), -EINVAL);
    stel_chan_destroy(c);
    ck_assert_int_eq(stel_chan_create(&c, 0, 2), 0);
    ck_assert_int_eq(stel_chan_send(c, NULL), 0);
    ck_assert_int_eq(stel_chan_try_send(c, NULL), 0);
    ck_assert_int_eq(stel_chan_try_send(c, NULL), -EAGAIN);
    ck_assert_uint_eq(stel_chan_len(c), 2);
    ck_assert_int_eq(stel_chan_recv(c, NULL), 0);
    ck_assert_int_eq(stel_chan_try_recv(c, NULL), 0);
    ck_assert_int_eq(stel_chan_try_recv(c, NULL), -EAGAIN);
    stel_chan_destroy(c);
}
END_TEST

/* ---- the ring, without anybody waiting: capacity, elements in it, closed; what comes of each call ---- */

static void check_row(stel_chan *c, size_t capacity, size_t length, bool closed) {
    uint64_t out;
    for (uint64_t i = 0; i < length; i++)
        FIBER_OK(stel_chan_send(c, &i));
    if (closed) FIBER_OK(stel_chan_close(c));
    FIBER_ASSERT_EQ(stel_chan_len(c), length);
    uint64_t in = length;
    FIBER_ASSERT_EQ(stel_chan_try_send(c, &in), closed ? -EPIPE : length < capacity ? 0 : -EAGAIN);
    if (closed) FIBER_ASSERT_EQ(stel_chan_send(c, &in), -EPIPE);
    if (!closed && length < capacity) length++;
    FIBER_ASSERT_EQ(stel_chan_len(c), length);
    for (uint64_t i = 0; i < length; i++) {
        FIBER_OK(i % 2 ? stel_chan_recv(c, &out) : stel_chan_try_recv(c, &out));
        FIBER_ASSERT_EQ(out, i);
    }
    out = 77;
    FIBER_ASSERT_EQ(stel_chan_try_recv(c, &out), closed ? -EPIPE : -EAGAIN);
    if (closed) FIBER_ASSERT_EQ(stel_chan_recv(c, &out), -EPIPE);
    FIBER_ASSERT_EQ(out, 77); /* untouched */
    FIBER_ASSERT_EQ(stel_chan_len(c), 0);
}

static int check_rows(void *arg) {
    (void)arg;
    for (size_t capacity = 0; capacity <= 3; capacity++)
        for (size_t length = 0; length <= capacity; length++)
            for (int closed = 0; closed <= 1; closed++) {
                stel_chan *c;
                FIBER_OK(stel_chan_create(&c, sizeof(uint64_t), capacity));
                check_row(c, capacity, length, closed);
                stel_chan_destroy(c);
            }
    return 0;
}

START_TEST(the_ring) {
    ck_assert_int_eq(run_in_runtime(1, check_rows, NULL), 0);
    ck_assert_int_eq(check_rows(NULL), 0);
}
END_TEST

START_TEST(elements_of_any_size) {
    size_t sizes[] = { 1, 2, 3, 4, 7, 8, 9, 16, 100, 65536 };
    static unsigned char in[65536], out[65536 + 1];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        stel_chan *c;
        ck_assert_int_eq(stel_chan_create(&c, sizes[s], 3), 0);
        for (int i = 0; i < 10; i++) { /* around the ring */
            for (int k = 0; k < 3; k++) {
                memset(in, 3 * i + k, sizeof in);
                ck_assert_int_eq(stel_chan_send(c, in), 0);
            }
            for (int k = 0; k < 3; k++) {
                memset(out, 0xEE, sizeof out);
                memset(in, 3 * i + k, sizeof in);
                ck_assert_int_eq(stel_chan_recv(c, out), 0);
                ck_assert_int_eq(memcmp(in, out, sizes[s]), 0);
                ck_assert_int_eq(out[sizes[s]], 0xEE);
            }
        }
        stel_chan_destroy(c);
    }
}
END_TEST

/* ---- those who wait ---- */

typedef struct party {
    stel_chan *c;
    uint64_t value; /* to send, or what was received */
    int result;
    _Atomic int waiting;
} party;

static int send_one(void *arg) {
    party *p = arg;
    atomic_fetch_add(&p->waiting, 1);
    return p->result = stel_chan_send(p->c, &p->value);
}

static int receive_one(void *arg) {
    party *p = arg;
    atomic_fetch_add(&p->waiting, 1);
    return p->result = stel_chan_recv(p->c, &p->value);
}

/* Start n of them on this worker, each waiting before the next is started. */
static void start(stel_fiber *f, stel_fn *fn, party *p, int n) {
    for (int i = 0; i < n; i++) {
        FIBER_OK(stel_spawn(&f[i], fn, &p[i]));
        while (!atomic_load(&p[i].waiting))
            stel_yield();
    }
}

static void join_all(stel_fiber *f, int n) {
    for (int i = 0; i < n; i++)
        FIBER_OK(stel_join(f[i], NULL));
}

/* Receivers that wait get the elements in the order in which they came, past the ring. */
static int starved(void *arg) {
    size_t capacity = *(size_t *)arg;
    stel_chan *c;
    stel_fiber f[5];
    party p[5] = { 0 };
    FIBER_OK(stel_chan_create(&c, 8, capacity));
    for (int i = 0; i < 5; i++)
        p[i] = (party){ .c = c, .value = 1000 };
    start(f, receive_one, p, 5);
    for (uint64_t i = 0; i < 5; i++) {
        FIBER_OK(i % 2 ? stel_chan_try_send(c, &i) : stel_chan_send(c, &i));
        FIBER_ASSERT_EQ(stel_chan_len(c), 0);
    }
    join_all(f, 5);
    for (uint64_t i = 0; i < 5; i++) {
        FIBER_ASSERT_EQ(p[i].value, i);
        FIBER_ASSERT_EQ(p[i].result, 0);
    }
    stel_chan_destroy(c);
    return 0;
}

/* Senders that wait keep their order, behind what is in the ring. */
static int crowded(void *arg) {
    size_t capacity = *(size_t *)arg;
    stel_chan *c;
    stel_fiber f[5];
    party p[5] = { 0 };
    uint64_t value;
    FIBER_OK(stel_chan_create(&c, 8, capacity));
    for (uint64_t i = 0; i < capacity; i++)
        FIBER_OK(stel_chan_send(c, &i));
    for (uint64_t i = 0; i < 5; i++)
        p[i] = (party){ .c = c, .value = capacity + i };
    start(f, send_one, p, 5);
    for (uint64_t i = 0; i < capacity + 5; i++) {
        FIBER_ASSERT_EQ(stel_chan_len(c), capacity < capacity + 5 - i ? capacity : capacity + 5 - i);
        FIBER_OK(i % 2 ? stel_chan_try_recv(c, &value) : stel_chan_recv(c, &value));
        FIBER_ASSERT_EQ(value, i);
    }
    FIBER_ASSERT_EQ(stel_chan_try_recv(c, &value), -EAGAIN);
    join_all(f, 5);
    stel_chan_destroy(c);
    return 0;
}

START_TEST(waiters_are_served_in_order) {
    for (size_t capacity = 0; capacity <= 3; capacity++) {
        ck_assert_int_eq(run_in_runtime(1, starved, &capacity), 0);
        ck_assert_int_eq(run_in_runtime(1, crowded, &capacity), 0);
    }
}
END_TEST

enum { CROWD = 100 }; /* more than close wakes in one go */

static int close_on(void *arg) {
    stel_fn *fn = *(stel_fn **)arg;
    size_t capacity = fn == send_one ? 2 : 0;
    stel_chan *c;
    static stel_fiber f[CROWD];
    static party p[CROWD];
    uint64_t value = 5;
    int result;
    FIBER_OK(stel_chan_create(&c, 8, capacity));
    for (size_t i = 0; i < capacity; i++)
        FIBER_OK(stel_chan_send(c, &value));
    for (int i = 0; i < CROWD; i++)
        p[i] = (party){ .c = c, .value = 1000 };
    start(f, fn, p, CROWD);
    FIBER_OK(stel_chan_close(c));
    FIBER_ASSERT_EQ(stel_chan_len(c), capacity);
    for (int i = 0; i < CROWD; i++) {
        FIBER_OK(stel_join(f[i], &result));
        FIBER_ASSERT_EQ(result, -EPIPE);
        FIBER_ASSERT_EQ(p[i].value, 1000);
    }
    for (size_t i = 0; i < capacity; i++)
        FIBER_OK(stel_chan_recv(c, &value));
    FIBER_ASSERT_EQ(stel_chan_recv(c, &value), -EPIPE);
    stel_chan_destroy(c);
    return 0;
}

START_TEST(close_wakes_all) {
    stel_fn *fns[] = { send_one, receive_one };
    ck_assert_int_eq(run_in_runtime(1, close_on, &fns[0]), 0);
    ck_assert_int_eq(run_in_runtime(1, close_on, &fns[1]), 0);
}
END_TEST

/* A rendezvous: the sender returns when a receiver has the element, not before. */
static int meet(void *arg) {
    (void)arg;
    stel_chan *c;
    stel_fiber f;
    uint64_t value = 0;
    int result;
    FIBER_OK(stel_chan_create(&c, 8, 0));
    party p = { .c = c, .value = 42 };
    start(&f, send_one, &p, 1);
    for (int i = 0; i < 5; i++)
        stel_yield();
    FIBER_ASSERT_EQ(stel_try_join(f, &result), -EAGAIN);
    FIBER_OK(stel_chan_recv(c, &value));
    FIBER_ASSERT_EQ(value, 42);
    FIBER_OK(stel_join(f, &result));
    FIBER_OK(result);
    stel_chan_destroy(c);
    return 0;
}

START_TEST(rendezvous) {
    ck_assert_int_eq(run_in_runtime(1, meet, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, meet, NULL), 0);
}
END_TEST

/* ---- nothing is lost and nothing comes twice ---- */

typedef struct traffic {
    stel_chan *c;
    uint64_t each;
    _Atomic uint64_t senders_left, number, received, sum, cut_short;
    bool limits;     /* senders and receivers with short limits, that try again */
    bool with_tries; /* try forms among the others */
} traffic;

static int send_some(void *arg) {
    traffic *t = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state, me = atomic_fetch_add(&t->number, 1);
    for (uint64_t i = 0; i < t->each;) {
        uint64_t value[2] = { me * t->each + i, ~(me * t->each + i) };
        int rc;
        if (t->with_tries && test_random(&state, 3) == 0) {
            rc = stel_chan_try_send(t->c, value);
            if (rc == -EAGAIN) stel_yield();
        } else {
            STEL_TIMEOUT(t->limits ? (int64_t)test_random(&state, 50000) : STEL_FOREVER);
            rc = stel_chan_send(t->c, value);
        }
        if (rc == 0) i++;
        FIBER_ASSERT(rc == 0 || rc == -EAGAIN || rc == -ETIMEDOUT);
        if (rc == -ETIMEDOUT) atomic_fetch_add(&t->cut_short, 1);
        if (i % 64 == 0) crew_jitter(&state);
    }
    if (atomic_fetch_sub(&t->senders_left, 1) == 1) FIBER_OK(stel_chan_close(t->c));
    return 0;
}

static int receive_all(void *arg) {
    traffic *t = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    for (;;) {
        uint64_t value[2] = { 0, 0 };
        int rc;
        if (t->with_tries && test_random(&state, 3) == 0) {
            rc = stel_chan_try_recv(t->c, value);
            if (rc == -EAGAIN) stel_yield();
        } else {
            STEL_TIMEOUT(t->limits ? (int64_t)test_random(&state, 50000) : STEL_FOREVER);
            rc = stel_chan_recv(t->c, value);
        }
        if (rc == -EPIPE) return 0;
        FIBER_ASSERT(rc == 0 || rc == -EAGAIN || rc == -ETIMEDOUT);
        if (rc == -ETIMEDOUT) atomic_fetch_add(&t->cut_short, 1);
        if (rc < 0) continue;
        FIBER_ASSERT_EQ(value[0], ~value[1]); /* whole */
        atomic_fetch_add(&t->sum, value[0]);
        atomic_fetch_add(&t->received, 1);
    }
}

static void run_traffic(enum crew_kind kind, size_t capacity, bool limits, bool with_tries) {
    enum { SENDERS = 4, RECEIVERS = 4 };
    traffic t = { .each = test_scale(3000), .limits = limits, .with_tries = with_tries };
    crew_job jobs[SENDERS + RECEIVERS];
    atomic_store(&t.senders_left, SENDERS);
    FIBER_OK(stel_chan_create(&t.c, 16, capacity));
    for (int i = 0; i < SENDERS + RECEIVERS; i++)
        jobs[i] = (crew_job){ i % 4 < 2 ? send_some : receive_all, &t };
    crew_run(kind, jobs, SENDERS + RECEIVERS);
    uint64_t n = SENDERS * t.each;
    FIBER_ASSERT_EQ(t.received, n);
    FIBER_ASSERT_EQ(t.sum, n * (n - 1) / 2);
    stel_chan_destroy(t.c);
}

START_TEST(traffic_between_fibers_of_one_worker) {
    for (size_t capacity = 0; capacity <= 4; capacity += 2)
        for (int way = 0; way < 4; way++)
            run_traffic(CREW_ONE_WORKER, capacity, way & 1, way & 2);
}
END_TEST
START_TEST(traffic_between_workers) {
    for (size_t capacity = 0; capacity <= 4; capacity += 2)
        for (int way = 0; way < 4; way++)
            run_traffic(CREW_WORKERS, capacity, way & 1, way & 2);
}
END_TEST
START_TEST(traffic_between_threads) {
    for (size_t capacity = 0; capacity <= 4; capacity += 2)
        for (int way = 0; way < 4; way++)
            run_traffic(CREW_THREADS, capacity, way & 1, way & 2);
}
END_TEST
START_TEST(traffic_between_both) {
    for (size_t capacity = 0; capacity <= 4; capacity += 2)
        for (int way = 0; way < 4; way++)
            run_traffic(CREW_MIXED, capacity, way & 1, way & 2);
}
END_TEST

/* One sender, one receiver: in order. */
static int send_in_order(void *arg) {
    traffic *t = arg;
    for (uint64_t i = 0; i < t->each; i++)
        FIBER_OK(stel_chan_send(t->c, &i));
    return stel_chan_close(t->c);
}

static int receive_in_order(void *arg) {
    traffic *t = arg;
    uint64_t value, i = 0;
    for (int rc; (rc = stel_chan_recv(t->c, &value)) != -EPIPE; i++) {
        FIBER_OK(rc);
        FIBER_ASSERT_EQ(value, i);
    }
    FIBER_ASSERT_EQ(i, t->each);
    return 0;
}

START_TEST(elements_keep_their_order) {
    for (int kind = 0; kind < CREW_KINDS; kind++)
        for (size_t capacity = 0; capacity <= 3; capacity++) {
            traffic t = { .each = test_scale(5000) };
            FIBER_OK(stel_chan_create(&t.c, 8, capacity));
            crew_job jobs[] = { { send_in_order, &t }, { receive_in_order, &t } };
            crew_run((enum crew_kind)kind, jobs, 2);
            stel_chan_destroy(t.c);
        }
}
END_TEST

/* ---- life ---- */

/* Each party has a reference and gives it back at once when its call has returned. */
static int use_and_drop(void *arg) {
    stel_chan **all = arg;
    uint64_t value = 1;
    for (stel_chan **c = all; *c; c++) {
        int rc = (uintptr_t)c / sizeof *c % 2 ? stel_chan_try_send(*c, &value) : stel_chan_try_recv(*c, &value);
        FIBER_ASSERT(rc == 0 || rc == -EAGAIN || rc == -EPIPE);
        rc = stel_chan_close(*c);
        FIBER_ASSERT(rc == 0 || rc == -EPIPE);
        stel_chan_destroy(*c);
    }
    return 0;
}

START_TEST(the_last_reference_frees) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        size_t n = (size_t)test_scale(2000);
        stel_chan **all = calloc(n + 1, sizeof *all);
        for (size_t i = 0; i < n; i++) {
            FIBER_OK(stel_chan_create(&all[i], 8, 4));
            for (int k = 1; k < 4; k++)
                stel_chan_retain(all[i]);
        }
        crew_run_same((enum crew_kind)kind, use_and_drop, all, 4);
        free(all);
    }
}
END_TEST

static int drop_while_waiting(void *arg) {
    (void)arg;
    stel_chan *c;
    stel_fiber f;
    FIBER_OK(stel_chan_create(&c, 8, 0));
    party p = { .c = c };
    start(&f, receive_one, &p, 1);
    for (int i = 0; i < 3; i++)
        stel_yield();
    stel_chan_destroy(c);
    return 0;
}

static void destroy_under_a_waiter(void) {
    (void)!run_in_runtime(1, drop_while_waiting, NULL);
}

START_TEST(wrong_use_aborts) {
    must_abort(destroy_under_a_waiter, "stel_chan_destroy");
}
END_TEST

TEST_MAIN("sync/chan", creation, elements_may_be_missing_only_without_size, the_ring, elements_of_any_size,
          waiters_are_served_in_order, close_wakes_all, rendezvous, traffic_between_fibers_of_one_worker,
          traffic_between_workers, traffic_between_threads, traffic_between_both, elements_keep_their_order,
          the_last_reference_frees, wrong_use_aborts)
