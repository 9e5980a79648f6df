/* The internal lock and the futex under it. */
#include "check_fiber.h"
#include "host/fault.h"
#include "host/host.h"
#include <pthread.h>

enum { THREADS = 4 };
static stel__lock lock;
static volatile uint64_t counter;
static uint64_t rounds;

static void *count(void *unused) {
    (void)unused;
    for (uint64_t i = 0; i < rounds; i++) {
        if (i % 8 != 0 || !stel__lock_try(&lock)) stel__lock_take(&lock);
        uint64_t seen = counter;
        if (i % 100 == 0) sched_yield(); /* held for long: the others go to sleep, or come in if they can */
        counter = seen + 1;
        stel__lock_give(&lock);
    }
    return NULL;
}

static void count_in_threads(void) {
    pthread_t threads[THREADS];
    rounds = test_scale(20000);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(stel__thread_start(&threads[i], "lock", count, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(counter, THREADS * rounds);
    ck_assert_uint_eq(stel__load_relaxed(&lock.word), 0);
}

START_TEST(excludes) {
    count_in_threads();
}
END_TEST

/* A futex that does not let one sleep costs time, not correctness. */
START_TEST(excludes_without_sleep) {
    stel__fault_set(STEL__FAULT_FUTEX, 1, EINTR, true);
    count_in_threads();
}
END_TEST

START_TEST(try_does_not_wait) {
    ck_assert(stel__lock_try(&lock));
    ck_assert(!stel__lock_try(&lock));
    stel__lock_give(&lock);
    ck_assert(stel__lock_try(&lock));
    stel__lock_give(&lock);
}
END_TEST

/* What lives behind a lock is freed by whoever holds it last: the giver touches nothing after. */
typedef struct object {
    stel__lock lock;
    int holders;
} object;

static void *let_go(void *arg) {
    object *o = arg;
    stel__lock_take(&o->lock);
    bool last = --o->holders == 0;
    stel__lock_give(&o->lock);
    if (last) stel__free(o);
    return NULL;
}

START_TEST(freed_by_the_last_holder) {
    for (uint64_t i = test_scale(500); i > 0; i--) {
        object *o = stel__alloc(sizeof *o);
        o->holders = 2;
        pthread_t other;
        ck_assert_int_eq(stel__thread_start(&other, "holder", let_go, o), 0);
        let_go(o);
        pthread_join(other, NULL);
    }
}
END_TEST

static stel__futex word;

static void *wake_me(void *unused) {
    (void)unused;
    while (stel__load_acquire(&word) == 0) { /* pairs with the store below */
        int rc = stel__futex_wait(&word, 0, STEL_FOREVER);
        FIBER_ASSERT(rc == 0 || rc == -EAGAIN || rc == -EINTR);
    }
    return NULL;
}

START_TEST(futex) {
    ck_assert_int_eq(stel__futex_wait(&word, 1, STEL_FOREVER), -EAGAIN);
    ck_assert_int_eq(stel__futex_wait(&word, 0, stel_now()), -ETIMEDOUT);
    ck_assert_int_eq(stel__futex_wait(&word, 0, 0), -ETIMEDOUT);
    ck_assert_int_eq(stel__futex_wait(&word, 0, INT64_MIN), -ETIMEDOUT);
    int64_t until = stel_after(STEL_MS(5));
    ck_assert_int_eq(stel__futex_wait(&word, 0, until), -ETIMEDOUT);
    ck_assert_int_ge(stel_now(), until);
    pthread_t thread;
    ck_assert_int_eq(stel__thread_start(&thread, "sleeper", wake_me, NULL), 0);
    stel__store_release(&word, 1u);
    stel__futex_wake(&word, 1);
    pthread_join(thread, NULL);
}
END_TEST

TEST_MAIN("host/lock", excludes, excludes_without_sleep, try_does_not_wait, freed_by_the_last_holder, futex)
