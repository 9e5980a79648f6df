/* Park and unpark: one token, as Java's LockSupport has it. */
#include "room.h"
#include "sched/fiber.h"

static int parker(void *arg) {
    int rc = stel_park();
    return rc < 0 ? rc : (int)(intptr_t)arg;
}

static int tokens(void *arg) {
    (void)arg;
    /* Before the park, and only one. */
    FIBER_OK(stel_unpark(stel_self()));
    FIBER_OK(stel_unpark(stel_self()));
    FIBER_OK(stel_park());
    {
        STEL_TIMEOUT(STEL_MS(1));
        FIBER_ASSERT_EQ(stel_park(), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
        FIBER_ASSERT(stel_now() >= stel_deadline());
    }
    /* To a fiber that has not begun, that is parked, that has ended. */
    stel_fiber f = spawn(parker, (void *)1);
    FIBER_OK(stel_unpark(f));
    FIBER_ASSERT_EQ(join(f), 1);
    f = spawn(parker, (void *)2);
    for (int i = 0; i < 100; i++)
        stel_yield();
    FIBER_ASSERT_EQ(stel_try_join(f, NULL), -EAGAIN);
    FIBER_OK(stel_unpark(f));
    FIBER_ASSERT_EQ(join(f), 2);
    FIBER_ASSERT_EQ(stel_unpark(f), -ESRCH);
    FIBER_ASSERT_EQ(stel_unpark(0), -ESRCH);
    return 0;
}

START_TEST(one_token) {
    ck_assert_int_eq(run_in_runtime(1, tokens, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, tokens, NULL), 0);
    ck_assert_int_eq(stel_park(), -EPERM);
    ck_assert_int_eq(stel_unpark(0), -ESRCH);
}
END_TEST

/* A block's next fiber does not find the token of the one before. */
static int no_token(void *arg) {
    (void)arg;
    STEL_TIMEOUT(1);
    FIBER_ASSERT_EQ(stel_park(), -ETIMEDOUT);
    return 0;
}

static int leftover_tokens(void *arg) {
    (void)arg;
    for (int i = 0; i < 100; i++) {
        stel_fiber f = spawn(give, NULL);
        FIBER_OK(stel_unpark(f));
        FIBER_ASSERT_EQ(join(f), 0);
        FIBER_ASSERT_EQ(join(spawn(no_token, NULL)), 0);
    }
    return 0;
}

START_TEST(a_token_ends_with_its_fiber) {
    ck_assert_int_eq(run_in_runtime(1, leftover_tokens, NULL), 0);
}
END_TEST

/* ---- cut short ---- */

static int keep_token(void *arg) {
    (void)arg;
    stel_fiber self = stel_self();
    {
        STEL_TIMEOUT(LONG_PAST);
        FIBER_OK(stel_unpark(self));
        FIBER_ASSERT_EQ(stel_park(), -ETIMEDOUT); /* the limit is looked at first; the token is kept */
    }
    FIBER_OK(stel_park());
    FIBER_OK(stel_unpark(self));
    FIBER_OK(stel_cancel(self));
    FIBER_ASSERT_EQ(stel_park(), -ECANCELED);
    FIBER_ASSERT_EQ(stel_park(), -ECANCELED);
    STEL_SHIELD(STEL_SEC(60));
    FIBER_OK(stel_park());
    return 0;
}

static int cancelled_parkers(void *arg) {
    (void)arg;
    for (int i = 0; i < 20; i++) {
        stel_fiber f = spawn(parker, NULL);
        for (int k = 0; k < i; k++)
            stel_yield();
        FIBER_OK(stel_cancel(f));
        FIBER_ASSERT_EQ(join(f), -ECANCELED);
    }
    FIBER_ASSERT_EQ(join(spawn(keep_token, NULL)), 0);
    return 0;
}

START_TEST(cut_short) {
    ck_assert_int_eq(run_in_runtime(1, cancelled_parkers, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, cancelled_parkers, NULL), 0);
}
END_TEST

/* A token that meets the deadline: it is either taken or kept, never lost. */
static int park_until_token(void *arg) {
    uint64_t state = test_seed() ^ stel_self();
    atomic_int *taken = arg;
    for (uint64_t i = test_scale(2000); i > 0; i--) {
        for (int rc = -1; rc != 0;) {
            STEL_TIMEOUT(test_random(&state, 3000));
            rc = stel_park();
            FIBER_ASSERT(rc == 0 || rc == -ETIMEDOUT);
        }
        atomic_fetch_add(taken, 1);
    }
    return 0;
}

static int token_meets_deadline(void *arg) {
    static atomic_int taken;
    (void)arg;
    atomic_store(&taken, 0);
    stel_fiber f = spawn(park_until_token, &taken);
    for (int i = 0, n = (int)test_scale(2000); i < n; i++) {
        FIBER_OK(stel_unpark(f));
        while (atomic_load(&taken) == i)
            stel_yield();
        FIBER_ASSERT_EQ(atomic_load(&taken), i + 1);
    }
    FIBER_ASSERT_EQ(join(f), 0);
    return 0;
}

START_TEST(never_lost) {
    ck_assert_int_eq(run_in_runtime(1, token_meets_deadline, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, token_meets_deadline, NULL), 0);
}
END_TEST

/* White box: the token comes when the fiber has begun the wait but is not yet parked. */
static int token_on_the_way(void *arg) {
    stel__waiter *w = stel__waiter_self();
    (void)arg;
    for (int i = 0; i < 10; i++) {
        (void)stel__wait_begin(w, STEL__WAIT_PARK);
        FIBER_OK(stel_unpark(stel_self()));
        FIBER_OK(stel__waiter_park_for_token(w));
        FIBER_OK(stel_park()); /* the token itself is still there to be taken */
    }
    return 0;
}

START_TEST(on_the_way_to_sleep) {
    ck_assert_int_eq(run_in_runtime(1, token_on_the_way, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, token_on_the_way, NULL), 0);
}
END_TEST

/* ---- pairs ---- */

typedef struct pair {
    _Atomic stel_fiber side[2];
    _Atomic uint64_t turn; /* even: side 0's */
    uint64_t rounds;
} pair;

static void play(pair *p, unsigned mine) {
    while (!atomic_load(&p->side[0]) || !atomic_load(&p->side[1]))
        stel_yield();
    for (uint64_t i = 0; i < p->rounds; i++) {
        while (atomic_load(&p->turn) % 2 != mine)
            FIBER_OK(stel_park());
        atomic_fetch_add(&p->turn, 1);
        (void)stel_unpark(atomic_load(&p->side[!mine])); /* after its last round the other may be gone */
    }
}

static int play_even(void *arg) {
    atomic_store(&((pair *)arg)->side[0], stel_self());
    play(arg, 0);
    return 0;
}

static int play_odd(void *arg) {
    atomic_store(&((pair *)arg)->side[1], stel_self());
    play(arg, 1);
    return 0;
}

static int ping_pong(void *arg) {
    enum { PAIRS = 3 };
    static pair pairs[PAIRS];
    stel_fiber f[2 * PAIRS];
    (void)arg;
    for (int i = 0; i < PAIRS; i++) {
        pairs[i].rounds = test_scale(20000);
        atomic_store(&pairs[i].side[0], 0);
        atomic_store(&pairs[i].side[1], 0);
        atomic_store(&pairs[i].turn, 0);
        f[2 * i] = spawn(play_even, &pairs[i]);
        f[2 * i + 1] = spawn(play_odd, &pairs[i]);
    }
    for (int i = 0; i < 2 * PAIRS; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    for (int i = 0; i < PAIRS; i++)
        FIBER_ASSERT_EQ(atomic_load(&pairs[i].turn), 2 * pairs[i].rounds);
    return 0;
}

START_TEST(pairs) {
    ck_assert_int_eq(run_in_runtime(1, ping_pong, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, ping_pong, NULL), 0);
    ck_assert_int_eq(run_in_runtime(4, ping_pong, NULL), 0);
}
END_TEST

/* From a plain thread, which spins for its turn. */
typedef struct volley {
    _Atomic uint64_t served, returned;
    uint64_t rounds;
} volley;

static int return_volleys(void *arg) {
    volley *v = arg;
    for (uint64_t i = 0; i < v->rounds; i++) {
        while (atomic_load(&v->served) == i)
            FIBER_OK(stel_park());
        atomic_store(&v->returned, i + 1);
    }
    return 3;
}

START_TEST(from_a_thread) {
    for (int workers = 1; workers <= 2; workers++) {
        stel_runtime *rt = room_open(workers);
        volley v = { .rounds = test_scale(2000) };
        stel_fiber f = spawn(return_volleys, &v);
        for (uint64_t i = 0; i < v.rounds; i++) {
            atomic_store(&v.served, i + 1);
            ck_assert_int_eq(stel_unpark(f), 0);
            EVENTUALLY(atomic_load(&v.returned) == i + 1 || i % 50);
            if (i % 50 == 0) check_fiber_nap(); /* now and then the workers are asleep */
        }
        ck_assert_int_eq(join(f), 3);
        room_close(rt);
    }
}
END_TEST

TEST_MAIN("sched/park", one_token, a_token_ends_with_its_fiber, cut_short, never_lost, on_the_way_to_sleep, pairs,
          from_a_thread)
