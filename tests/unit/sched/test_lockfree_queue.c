/* White box: the queues that several threads use at once. The injection queue (ring, and list for what overflows), the
 * work-stealing deque with thieves, and the levels. Nothing is lost, nothing comes twice, order where it is promised. */
#include "room.h"
#include "sched/deque.h"
#include "sched/inject.h"
#include <sched.h>

static stel__fiber *blocks(size_t n) {
    stel__fiber *f = stel__alloc_aligned(STEL__CACHE_LINE, n * sizeof *f);
    FIBER_ASSERT(f);
    for (size_t i = 0; i < n; i++)
        f[i].waiter.index = (uint32_t)i;
    return f;
}

/* For queues that only carry pointers. */
static stel__fiber *token(uintptr_t i) {
    return (stel__fiber *)(i << 6 | 1 << 5);
}
static uintptr_t number(const stel__fiber *f) {
    return (uintptr_t)f >> 6;
}

/* ---- injection queue ---- */

static stel__inject *inject_new(void) {
    stel__inject *q = stel__alloc_aligned(STEL__CACHE_LINE, sizeof *q);
    FIBER_ASSERT(q);
    stel__inject_init(q);
    return q;
}

START_TEST(inject_in_order) {
    enum { N = 3 * STEL__INJECT_CELLS + 17 };
    stel__inject *q = inject_new();
    stel__fiber *f = blocks(N);
    ck_assert_ptr_null(stel__inject_pop(q));
    for (int round = 0; round < 5; round++) { /* the ring goes round several times, and overflows each time */
        size_t n = round % 2 ? N : 100, out = 0;
        for (size_t i = 0; i < n; i++) {
            stel__inject_push(q, &f[i]);
            ck_assert_uint_eq(stel__inject_size(q), i + 1);
        }
        ck_assert_uint_eq(stel__load_relaxed(&q->spilled), n > STEL__INJECT_CELLS ? n - STEL__INJECT_CELLS : 0);
        for (; out < n; out++)
            ck_assert_ptr_eq(stel__inject_pop(q), &f[out]);
        ck_assert_ptr_null(stel__inject_pop(q));
        ck_assert_uint_eq(stel__inject_size(q), 0);
    }
    stel__free(f);
    stel__free(q);
}
END_TEST

/* While some are on the list newcomers go behind them, though the ring has room again. */
START_TEST(inject_list_first) {
    enum { N = STEL__INJECT_CELLS + 10 };
    stel__inject *q = inject_new();
    stel__fiber *f = blocks(N + 10);
    for (size_t i = 0; i < N; i++)
        stel__inject_push(q, &f[i]);
    for (size_t i = 0; i < 100; i++)
        ck_assert_ptr_eq(stel__inject_pop(q), &f[i]);
    for (size_t i = N; i < N + 10; i++)
        stel__inject_push(q, &f[i]);
    ck_assert_uint_eq(stel__load_relaxed(&q->spilled), 20);
    for (size_t i = 100; i < N + 10; i++)
        ck_assert_ptr_eq(stel__inject_pop(q), &f[i]);
    ck_assert_uint_eq(stel__inject_size(q), 0);
    /* The list is empty: the ring is used again. */
    stel__inject_push(q, &f[0]);
    ck_assert_uint_eq(stel__load_relaxed(&q->spilled), 0);
    ck_assert_ptr_eq(stel__inject_pop(q), &f[0]);
    stel__free(f);
    stel__free(q);
}
END_TEST

enum { SIDES = 3 };
static struct {
    stel__inject *queue;
    stel__fiber *fiber;
    size_t each;         /* a producer's share */
    _Atomic size_t left; /* to be popped */
    atomic_int *seen;
    size_t burst;
} mpmc;

static void *produce(void *arg) {
    size_t first = (uintptr_t)arg * mpmc.each;
    for (size_t i = 0; i < mpmc.each; i++) {
        stel__inject_push(mpmc.queue, &mpmc.fiber[first + i]);
        if (i % mpmc.burst == 0) sched_yield();
    }
    return NULL;
}

static void *consume(void *arg) {
    (void)arg;
    while (atomic_load(&mpmc.left)) {
        const stel__fiber *f = stel__inject_pop(mpmc.queue);
        if (!f) {
            sched_yield();
            continue;
        }
        FIBER_ASSERT_EQ(atomic_fetch_add(&mpmc.seen[f->waiter.index], 1), 0);
        atomic_fetch_sub(&mpmc.left, 1);
    }
    return NULL;
}

static void run_mpmc(size_t each, size_t burst) {
    pthread_t producer[SIDES], consumer[SIDES];
    mpmc.queue = inject_new();
    mpmc.each = each;
    mpmc.burst = burst;
    mpmc.fiber = blocks(SIDES * each);
    mpmc.seen = calloc(SIDES * each, sizeof *mpmc.seen);
    atomic_store(&mpmc.left, SIDES * each);
    for (uintptr_t i = 0; i < SIDES; i++) {
        producer[i] = beside(produce, (void *)i);
        consumer[i] = beside(consume, NULL);
    }
    for (int i = 0; i < SIDES; i++) {
        pthread_join(producer[i], NULL);
        pthread_join(consumer[i], NULL);
    }
    for (size_t i = 0; i < SIDES * each; i++)
        ck_assert_int_eq(atomic_load(&mpmc.seen[i]), 1);
    ck_assert_ptr_null(stel__inject_pop(mpmc.queue));
    ck_assert_uint_eq(stel__inject_size(mpmc.queue), 0);
    stel__free(mpmc.queue);
    stel__free(mpmc.fiber);
    free(mpmc.seen);
}

START_TEST(inject_many_threads) {
    run_mpmc((size_t)test_scale(100000), 16);   /* it stays in the ring, as a rule */
    run_mpmc((size_t)test_scale(100000), 5000); /* it overflows, as a rule */
}
END_TEST

/* ---- deque ---- */

static _Atomic int thieves; /* as sched.thieves: who steals is counted, and has passed a heavy fence since */

START_TEST(deque_alone_and_not) {
    for (int alone = 0; alone < 2; alone++) {
        static stel__deque d; /* AddressSanitizer's frames are less aligned than its type */
        bool again = false;
        ck_assert_int_eq(stel__deque_init(&d, 4), 0);
        ck_assert_ptr_null(stel__deque_take(&d, alone ? NULL : &thieves));
        ck_assert_ptr_null(stel__deque_take_oldest(&d, alone));
        ck_assert_ptr_null(stel__deque_steal(&d, &again));
        ck_assert(!again);
        for (uintptr_t i = 1; i <= 1000; i++) { /* it grows from 4 */
            ck_assert(stel__deque_push(&d, token(i)));
            ck_assert_int_eq(stel__deque_size(&d), i);
        }
        for (uintptr_t i = 1; i <= 100; i++) { /* the oldest ones, two ways; and the newest */
            ck_assert_ptr_eq(stel__deque_take_oldest(&d, alone), token(2 * i - 1));
            ck_assert_ptr_eq(stel__deque_steal(&d, &again), token(2 * i));
            ck_assert_ptr_eq(stel__deque_take(&d, alone ? NULL : &thieves), token(1001 - i));
        }
        ck_assert_int_eq(stel__deque_size(&d), 700);
        for (uintptr_t i = 900; i > 200; i--)
            ck_assert_ptr_eq(stel__deque_take(&d, alone ? NULL : &thieves), token(i));
        ck_assert_ptr_null(stel__deque_take(&d, alone ? NULL : &thieves));
        ck_assert_int_eq(stel__deque_size(&d), 0);
        /* Round and round without growing: positions only ever rise. */
        for (uintptr_t i = 1; i < 5000; i++) {
            ck_assert(stel__deque_push(&d, token(i)));
            ck_assert_ptr_eq(i % 2 ? stel__deque_take(&d, alone ? NULL : &thieves) : stel__deque_take_oldest(&d, alone),
                             token(i));
        }
        ck_assert(!again);
        stel__deque_destroy(&d);
    }
}
END_TEST

/* Against a model: random operations of the owner. */
START_TEST(deque_random) {
    enum { MOST = 4096 };
    static uintptr_t model[MOST];
    uint64_t state = test_seed();
    static stel__deque d;
    ck_assert_int_eq(stel__deque_init(&d, 2), 0);
    size_t head = 0, tail = 0; /* model[head..tail) modulo MOST */
    uintptr_t next = 1;
    for (uint64_t i = test_scale(200000); i > 0; i--) {
        bool alone = test_random(&state, 2), again = false;
        const stel__fiber *f;
        switch (test_random(&state, 5)) {
        case 0:
        case 1:
            if (tail - head == MOST) break;
            ck_assert(stel__deque_push(&d, token(next)));
            model[tail++ % MOST] = next++;
            break;
        case 2:
            f = stel__deque_take(&d, alone ? NULL : &thieves);
            ck_assert_ptr_eq(f, tail > head ? token(model[--tail % MOST]) : NULL);
            break;
        case 3:
            f = stel__deque_take_oldest(&d, alone);
            ck_assert_ptr_eq(f, tail > head ? token(model[head++ % MOST]) : NULL);
            break;
        default:
            f = stel__deque_steal(&d, &again);
            ck_assert_ptr_eq(f, tail > head ? token(model[head++ % MOST]) : NULL);
        }
        ck_assert_int_eq(stel__deque_size(&d), tail - head);
    }
    stel__deque_destroy(&d);
}
END_TEST

static struct {
    stel__deque deque;
    size_t n;
    atomic_int *seen;
    flag over;
} chase;

static void note(const stel__fiber *f) {
    FIBER_ASSERT(number(f) < chase.n);
    FIBER_ASSERT_EQ(atomic_fetch_add(&chase.seen[number(f)], 1), 0);
}

static void *thief(void *arg) {
    uintptr_t last = 0;
    unsigned nothing = 0;
    (void)arg;
    enum { EPISODE = 64 }; /* then it stops stealing for a moment: owners are light again */
    for (unsigned n = 0;; n++) {
        bool again = false, over = is_raised(&chase.over);
        if (n % EPISODE == 0) {
            if (n) stel__sub_seq_cst(&thieves, 1);
            stel__add_seq_cst(&thieves, 1);
            stel__fence_heavy();
        }
        const stel__fiber *f = stel__deque_steal(&chase.deque, &again);
        if (f) {
            /* The owner pushes rising numbers, and thieves take from the old end. */
            FIBER_ASSERT(number(f) >= last);
            last = number(f);
            note(f);
        } else if (over && !again) {
            stel__sub_seq_cst(&thieves, 1);
            return NULL;
        } else if (!again && ++nothing % 256 == 0) {
            sched_yield(); /* seldom: the races are where it is almost empty */
        }
    }
}

/* The owner pushes in bursts and takes from either end; the deque is often almost empty, where the races are. */
static void own(uint64_t state, uint32_t burst) {
    for (size_t next = 0; next < chase.n;) {
        for (uint32_t k = 1 + test_random(&state, burst); k > 0 && next < chase.n; k--)
            FIBER_ASSERT(stel__deque_push(&chase.deque, token(next++)));
        for (uint32_t k = test_random(&state, burst + 2) + (burst == 1); k > 0; k--) {
            const stel__fiber *f = test_random(&state, 3) ? stel__deque_take(&chase.deque, &thieves)
                                                          : stel__deque_take_oldest(&chase.deque, false);
            if (f) note(f);
        }
    }
    for (const stel__fiber *f; (f = stel__deque_take(&chase.deque, &thieves));)
        note(f);
}

static void run_chase(int count, uint32_t burst) {
    pthread_t t[4];
    chase.n = (size_t)test_scale(400000);
    chase.seen = calloc(chase.n, sizeof *chase.seen);
    atomic_store(&chase.over, 0);
    ck_assert_int_eq(stel__deque_init(&chase.deque, 2), 0); /* it grows under the thieves' hands */
    for (int i = 0; i < count; i++)
        t[i] = beside(thief, NULL);
    own(test_seed() + burst, burst);
    raise_flag(&chase.over);
    for (int i = 0; i < count; i++)
        pthread_join(t[i], NULL);
    for (size_t i = 0; i < chase.n; i++)
        ck_assert_int_eq(atomic_load(&chase.seen[i]), 1);
    stel__deque_destroy(&chase.deque);
    free(chase.seen);
}

START_TEST(deque_thieves) {
    stel__fence_init();
    run_chase(1, 1);
    run_chase(3, 2);
    run_chase(2, 300);
}
END_TEST

/* ---- levels ---- */

START_TEST(levels_in_order) {
    enum { EACH = 5, N = EACH * STEL__LEVELS };
    stel__levels l = { 0 };
    stel__fiber *f = blocks(N);
    ck_assert_ptr_null(stel__levels_pop(&l, ~0u));
    for (unsigned i = 0; i < N; i++) {
        unsigned level = i * 3 % STEL__LEVELS;
        stel__store_relaxed(&f[i].waiter.owner_bits, (uint8_t)(level << STEL__LEVEL_SHIFT | 5)); /* flags are no part */
        stel__levels_push(&l, &f[i]);
    }
    ck_assert_uint_eq(stel__load_relaxed(&l.bitmap), 0xff);
    ck_assert_uint_eq(stel__load_relaxed(&l.count), N);
    /* Only what is wanted. */
    for (unsigned k = 0, last = 0; k < EACH; k++) {
        const stel__fiber *got = stel__levels_pop(&l, 1u << 5 | 1u << 6);
        ck_assert_uint_eq(stel__fiber_level(got), 5);
        ck_assert(k == 0 || got->waiter.index > last); /* first in, first out */
        last = got->waiter.index;
        ck_assert_int_eq(stel__load_relaxed(&got->queue.limit), STEL_FOREVER); /* its other use, as it must be */
    }
    ck_assert_uint_eq(stel__load_relaxed(&l.bitmap), 0xff & ~(1u << 5));
    ck_assert_ptr_null(stel__levels_pop(&l, 1u << 5));
    /* All the rest, the most urgent first. */
    unsigned level = 0, last = 0;
    for (unsigned i = 0; i < N - EACH; i++) {
        const stel__fiber *got = stel__levels_pop(&l, ~0u);
        ck_assert_uint_ge(stel__fiber_level(got), level);
        ck_assert(stel__fiber_level(got) > level || i == 0 || got->waiter.index > last);
        level = stel__fiber_level(got);
        last = got->waiter.index;
    }
    ck_assert_uint_eq(stel__load_relaxed(&l.bitmap), 0);
    ck_assert_uint_eq(stel__load_relaxed(&l.count), 0);
    ck_assert_ptr_null(stel__levels_pop(&l, ~0u));
    stel__free(f);
}
END_TEST

TEST_MAIN("sched/lockfree_queue", inject_in_order, inject_list_first, inject_many_threads, deque_alone_and_not,
          deque_random, deque_thieves, levels_in_order)
