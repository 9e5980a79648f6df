/* The contract of stellane/sync.h: locks and signals for fibers and plain threads. */
#include "contract.h"
#include <limits.h>

/* Let one fiber after the other come to its wait: fibers of a runtime with one worker, or a thread beside it. */
static void let_them_wait(void) {
    for (int i = 0; i < 3; i++)
        stel_self() ? stel_yield() : check_fiber_nap();
}

/* ---- mutexes ---- */

static stel_mutex mutex;
static int counter;

static int counts_locked(void *arg) {
    (void)arg;
    for (int i = 0; i < 100; i++) {
        stel_mutex_lock(&mutex);
        int now = counter;
        if (i % 10 == 0) stel_yield(); /* it may wait, and still nobody else gets in */
        counter = now + 1;
        stel_mutex_unlock(&mutex);
    }
    return 0;
}
static int lock_cancelled(void *arg) {
    (void)arg;
    STEL_TIMEOUT(LONG_PAST);
    OK(stel_cancel(stel_self()));
    stel_mutex_lock(&mutex);
    counter++;
    stel_mutex_unlock(&mutex);
    return 0;
}
static void locks(void) {
    beside b;
    stel_fiber f[3];
    counter = 0;
    for (int i = 0; i < 3; i++)
        f[i] = spawn(counts_locked, NULL);
    beside_start(&b, counts_locked, NULL);
    for (int i = 0; i < 3; i++)
        EQ(join(f[i]), 0);
    EQ(beside_join(&b), 0);
    EQ(counter, 400);
    stel_mutex_lock(&mutex); /* deadline and cancellation do not cut it short */
    f[0] = spawn(lock_cancelled, NULL);
    let_them_wait();
    EQ(counter, 400);
    stel_mutex_unlock(&mutex);
    EQ(join(f[0]), 0);
    EQ(counter, 401);
}
static void locks_twice(void) {
    stel_mutex_lock(&mutex);
    stel_mutex_lock(&mutex);
}

/* stel_mutex_lock: mutual exclusion; not cut short; who holds it already aborts. */
START_TEST(contract_stel_mutex_lock) {
    must_abort(locks_twice, "stel_mutex_lock");
    on_both(locks);
}
END_TEST

static int try_it(void *arg) {
    return stel_mutex_try_lock(arg);
}

/* stel_mutex_try_lock: 0, or -EBUSY while somebody holds it. */
ON_BOTH(contract_stel_mutex_try_lock) {
    stel_mutex m = STEL_MUTEX_INIT;
    OK(stel_mutex_try_lock(&m));
    EQ(stel_mutex_try_lock(&m), -EBUSY);
    EQ(join(spawn(try_it, &m)), -EBUSY);
    stel_mutex_unlock(&m);
    EQ(join(spawn(try_it, &m)), 0); /* the fiber has it, and is gone */
    EQ(stel_mutex_try_lock(&m), -EBUSY);
}

static void unlocks_nothing(void) {
    stel_mutex_unlock(&mutex);
}
static int unlocks_anothers(void *arg) {
    (void)arg;
    stel_mutex_unlock(&mutex);
    return 0;
}
static void unlocks_of_another(void) {
    beside b;
    stel_mutex_lock(&mutex);
    beside_start(&b, unlocks_anothers, NULL);
    (void)beside_join(&b);
}
static int takes_turn(void *arg) {
    static int turn;
    stel_mutex_lock(&mutex);
    EQ(turn % 3, (int)(intptr_t)arg); /* in order of arrival */
    turn++;
    stel_mutex_unlock(&mutex);
    return 0;
}
static void unlocks(void) {
    stel_fiber f[3];
    stel_mutex_lock(&mutex);
    for (int i = 0; i < 3; i++) {
        f[i] = spawn(takes_turn, THE(i));
        let_them_wait();
    }
    stel_mutex_unlock(&mutex);
    for (int i = 0; i < 3; i++)
        EQ(join(f[i]), 0);
}

/* stel_mutex_unlock: the one that has waited longest gets it; unlocking what one does not hold aborts. */
START_TEST(contract_stel_mutex_unlock) {
    must_abort(unlocks_nothing, "stel_mutex_unlock");
    must_abort(unlocks_of_another, "stel_mutex_unlock");
    in_fiber(unlocks);
}
END_TEST

/* ---- condition variables ---- */

static stel_cond cond;
static atomic_int waiting, woken;

static int waits_for_signal(void *arg) {
    stel_mutex_lock(&mutex);
    atomic_fetch_add(&waiting, 1);
    int rc = stel_cond_wait(&cond, &mutex);
    atomic_fetch_add(&woken, 1);
    if (arg) *(int *)arg = atomic_load(&woken);
    stel_mutex_unlock(&mutex); /* held again, whatever it returned: else this aborts */
    return rc;
}
static void waits_unheld(void) {
    FIBER_FAIL("it returned %d", stel_cond_wait(&cond, &mutex));
}
static void waits(void) {
    atomic_store(&woken, 0);
    obeys_limits(waits_for_signal, NULL);
    EQ(stel_mutex_try_lock(&mutex), 0);
    stel_mutex_unlock(&mutex);
}
static int waits_with_another(void *arg) {
    static stel_mutex other;
    stel_mutex_lock(&other);
    (void)arg;
    return stel_cond_wait(&cond, &other);
}
static int two_mutexes(void *arg) {
    (void)arg;
    spawn(waits_for_signal, NULL);
    stel_yield();
    return join(spawn(waits_with_another, NULL));
}
static void waits_with_two_mutexes(void) {
    (void)run_in_runtime(1, two_mutexes, NULL);
}

/* stel_cond_wait: gives the mutex back, waits, and holds it again whatever it returns; -ETIMEDOUT -ECANCELED; without the
 * mutex, or with another than the others', it aborts. */
START_TEST(contract_stel_cond_wait) {
    must_abort(waits_unheld, "stel_cond_wait");
    must_abort(waits_with_two_mutexes, "stel_cond_wait");
    on_both(waits);
}
END_TEST

static void crowd(stel_fiber *f, int *place, int n) {
    atomic_store(&waiting, 0);
    atomic_store(&woken, 0);
    for (int i = 0; i < n; i++) {
        f[i] = spawn(waits_for_signal, place ? &place[i] : NULL);
        EVENTUALLY(atomic_load(&waiting) == i + 1);
    }
    stel_mutex_lock(&mutex); /* the last one waits, or it would hold it */
    stel_mutex_unlock(&mutex);
}

/* stel_cond_signal: wakes the one that has waited longest, only that one; with or without the mutex held. */
ON_BOTH(contract_stel_cond_signal) {
    stel_fiber f[3];
    int place[3];
    stel_cond_signal(&cond); /* nobody waits: it is lost */
    crowd(f, place, 3);
    stel_cond_signal(&cond);
    EQ(join(f[0]), 0);
    EQ(atomic_load(&woken), 1);
    stel_mutex_lock(&mutex);
    stel_cond_signal(&cond);
    stel_mutex_unlock(&mutex);
    EQ(join(f[1]), 0);
    EQ(stel_try_join(f[2], NULL), -EAGAIN);
    stel_cond_signal(&cond);
    EQ(join(f[2]), 0);
    for (int i = 0; i < 3; i++)
        EQ(place[i], i + 1);
}

/* stel_cond_broadcast: wakes all that wait; with or without the mutex held. */
ON_BOTH(contract_stel_cond_broadcast) {
    stel_fiber f[3];
    stel_cond_broadcast(&cond);
    for (int held = 0; held < 2; held++) {
        crowd(f, NULL, 3);
        if (held) stel_mutex_lock(&mutex);
        stel_cond_broadcast(&cond);
        if (held) stel_mutex_unlock(&mutex);
        for (int i = 0; i < 3; i++)
            EQ(join(f[i]), 0);
    }
}

/* ---- events ---- */

static int wait_event(void *arg) {
    return stel_event_wait(arg);
}

/* stel_event_set: wakes all who wait and lets later waits through. */
ON_BOTH(contract_stel_event_set) {
    stel_event e = STEL_EVENT_INIT;
    stel_fiber a = spawn(wait_event, &e), b = spawn(wait_event, &e);
    let_them_wait();
    EQ(stel_try_join(a, NULL), -EAGAIN);
    stel_event_set(&e);
    stel_event_set(&e);
    EQ(join(a), 0);
    EQ(join(b), 0);
    OK(stel_event_wait(&e));
    OK(stel_event_wait(&e));
}

/* stel_event_reset: closes it again: later waits wait. */
ON_BOTH(contract_stel_event_reset) {
    stel_event e = STEL_EVENT_INIT;
    stel_event_reset(&e);
    stel_event_set(&e);
    stel_event_reset(&e);
    STEL_TIMEOUT(STEL_MS(2));
    EQ(stel_event_wait(&e), -ETIMEDOUT);
}

/* stel_event_is_set: what set and reset left; never waits. */
ON_BOTH(contract_stel_event_is_set) {
    stel_event e = STEL_EVENT_INIT;
    IS(!stel_event_is_set(&e));
    stel_event_set(&e);
    IS(stel_event_is_set(&e));
    stel_event_reset(&e);
    IS(!stel_event_is_set(&e));
}

/* stel_event_wait: until it is set; -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_event_wait) {
    stel_event e = STEL_EVENT_INIT;
    obeys_limits(wait_event, &e);
    stel_event_set(&e);
    OK(stel_event_wait(&e));
    STEL_TIMEOUT(LONG_PAST);
    EQ(stel_event_wait(&e), -ETIMEDOUT); /* the limit comes first */
}

/* ---- wait groups ---- */

static int wait_group(void *arg) {
    return stel_waitgroup_wait(arg);
}
static void group_above(void) {
    stel_waitgroup w = STEL_WAITGROUP_INIT;
    stel_waitgroup_add(&w, INT_MAX);
    stel_waitgroup_add(&w, 1);
}
static void group_below(void) {
    stel_waitgroup w = STEL_WAITGROUP_INIT;
    stel_waitgroup_add(&w, -1);
}
static void group_adds(void) {
    stel_waitgroup w = STEL_WAITGROUP_INIT;
    stel_waitgroup_add(&w, INT_MAX);
    stel_waitgroup_add(&w, -INT_MAX + 1); /* it may be negative */
    stel_fiber f = spawn(wait_group, &w);
    let_them_wait();
    EQ(stel_try_join(f, NULL), -EAGAIN);
    stel_waitgroup_add(&w, -1);
    EQ(join(f), 0);
}

/* stel_waitgroup_add: raises or lowers the count; at 0 the waiters go on; below 0 or above 2^31 - 1 it aborts. */
START_TEST(contract_stel_waitgroup_add) {
    must_abort(group_above, "stel_waitgroup_add");
    must_abort(group_below, "stel_waitgroup_add");
    on_both(group_adds);
}
END_TEST

static void group_done_below(void) {
    stel_waitgroup w = STEL_WAITGROUP_INIT;
    stel_waitgroup_done(&w);
}
static void group_done(void) {
    stel_waitgroup w = STEL_WAITGROUP_INIT;
    stel_waitgroup_add(&w, 2);
    stel_fiber a = spawn(wait_group, &w), b = spawn(wait_group, &w);
    stel_waitgroup_done(&w);
    let_them_wait();
    EQ(stel_try_join(a, NULL), -EAGAIN);
    stel_waitgroup_done(&w);
    EQ(join(a), 0);
    EQ(join(b), 0);
}

/* stel_waitgroup_done: lowers the count by one; below 0 it aborts. */
START_TEST(contract_stel_waitgroup_done) {
    must_abort(group_done_below, "stel_waitgroup_done");
    on_both(group_done);
}
END_TEST

/* stel_waitgroup_wait: returns when the count is 0; -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_waitgroup_wait) {
    stel_waitgroup w = STEL_WAITGROUP_INIT;
    OK(stel_waitgroup_wait(&w));
    stel_waitgroup_add(&w, 1);
    obeys_limits(wait_group, &w);
    stel_waitgroup_done(&w);
    OK(stel_waitgroup_wait(&w));
}

/* ---- read-write locks ---- */

static stel_rwlock rw;
static atomic_int inside, writes_begun;

static int reads(void *arg) {
    stel_rwlock_read_lock(&rw);
    atomic_fetch_add(&inside, 1);
    if (arg) OK(stel_event_wait(arg));
    atomic_fetch_sub(&inside, 1);
    stel_rwlock_read_unlock(&rw);
    return 0;
}
static int writes(void *arg) {
    stel_rwlock_write_lock(&rw);
    EQ(atomic_load(&inside), 0);
    atomic_fetch_add(&inside, 1);
    atomic_fetch_add(&writes_begun, 1);
    if (arg) OK(stel_event_wait(arg));
    atomic_fetch_sub(&inside, 1);
    stel_rwlock_write_unlock(&rw);
    return 0;
}
static int reads_cancelled(void *arg) {
    STEL_TIMEOUT(LONG_PAST);
    OK(stel_cancel(stel_self()));
    return reads(arg);
}
static int writes_cancelled(void *arg) {
    STEL_TIMEOUT(LONG_PAST);
    OK(stel_cancel(stel_self()));
    return writes(arg);
}

/* stel_rwlock_read_lock: many at once, none beside a writer, nor past one that waits; not cut short. */
ON_BOTH(contract_stel_rwlock_read_lock) {
    stel_event leave = STEL_EVENT_INIT;
    stel_fiber a = spawn(reads, &leave), b = spawn(reads, &leave);
    EVENTUALLY(atomic_load(&inside) == 2);
    stel_fiber w = spawn(writes, NULL);
    EVENTUALLY(stel_rwlock_try_read_lock(&rw) == -EBUSY || (stel_rwlock_read_unlock(&rw), false)); /* it waits */
    stel_fiber late = spawn(reads_cancelled, NULL);
    let_them_wait();
    EQ(atomic_load(&inside), 2); /* kept out by the writer that waits */
    EQ(stel_try_join(late, NULL), -EAGAIN);
    stel_event_set(&leave);
    EQ(join(a), 0);
    EQ(join(b), 0);
    EQ(join(w), 0);
    EQ(join(late), 0);
}

static void read_unlocks_nothing(void) {
    stel_rwlock_read_unlock(&rw);
}
static void read_unlocks_a_writers(void) {
    stel_rwlock_write_lock(&rw);
    stel_rwlock_read_unlock(&rw);
}
static void read_unlocks(void) {
    stel_rwlock_read_lock(&rw);
    stel_rwlock_read_lock(&rw); /* nobody waits: as a second reader */
    stel_fiber w = spawn(writes, NULL);
    let_them_wait();
    stel_rwlock_read_unlock(&rw);
    let_them_wait();
    EQ(stel_try_join(w, NULL), -EAGAIN);
    stel_rwlock_read_unlock(&rw);
    EQ(join(w), 0);
}

/* stel_rwlock_read_unlock: the last reader lets the writer in; without a lock of the kind it aborts. */
START_TEST(contract_stel_rwlock_read_unlock) {
    must_abort(read_unlocks_nothing, "stel_rwlock_read_unlock");
    must_abort(read_unlocks_a_writers, "stel_rwlock_read_unlock");
    on_both(read_unlocks);
}
END_TEST

static void write_locks_twice(void) {
    stel_rwlock_write_lock(&rw);
    stel_rwlock_write_lock(&rw);
}
static void write_locks(void) {
    stel_event leave = STEL_EVENT_INIT;
    stel_fiber w = spawn(writes, &leave);
    EVENTUALLY(atomic_load(&inside) == 1);
    stel_fiber r = spawn(reads, NULL), other = spawn(writes_cancelled, NULL); /* not cut short */
    let_them_wait();
    EQ(atomic_load(&inside), 1);
    EQ(stel_try_join(other, NULL), -EAGAIN);
    stel_event_set(&leave);
    EQ(join(w), 0);
    EQ(join(r), 0);
    EQ(join(other), 0);
}

/* stel_rwlock_write_lock: one alone; not cut short; a writer that locks again aborts. */
START_TEST(contract_stel_rwlock_write_lock) {
    must_abort(write_locks_twice, "stel_rwlock_write_lock");
    on_both(write_locks);
}
END_TEST

static void write_unlocks_nothing(void) {
    stel_rwlock_write_unlock(&rw);
}
static void write_unlocks_a_readers(void) {
    stel_rwlock_read_lock(&rw);
    stel_rwlock_write_unlock(&rw);
}
static void write_unlocks(void) {
    stel_event leave = STEL_EVENT_INIT;
    stel_rwlock_write_lock(&rw);
    stel_fiber a = spawn(reads, &leave), b = spawn(reads, &leave), w;
    let_them_wait();
    w = spawn(writes, NULL);
    let_them_wait();
    EQ(atomic_load(&inside), 0);
    atomic_store(&writes_begun, 0);
    stel_rwlock_write_unlock(&rw);
    EVENTUALLY(atomic_load(&inside) == 2);
    if (stel_self()) EQ(atomic_load(&writes_begun), 0); /* all readers that waited got in before the next writer */
    stel_event_set(&leave);
    EQ(join(a), 0);
    EQ(join(b), 0);
    EQ(join(w), 0);
}

/* stel_rwlock_write_unlock: all readers that waited get in before the next writer; without a lock of the kind it
 * aborts. */
START_TEST(contract_stel_rwlock_write_unlock) {
    must_abort(write_unlocks_nothing, "stel_rwlock_write_unlock");
    must_abort(write_unlocks_a_readers, "stel_rwlock_write_unlock");
    on_both(write_unlocks);
}
END_TEST

/* stel_rwlock_try_read_lock: 0, or -EBUSY where it would have to wait. */
ON_BOTH(contract_stel_rwlock_try_read_lock) {
    OK(stel_rwlock_try_read_lock(&rw));
    OK(stel_rwlock_try_read_lock(&rw));
    stel_rwlock_read_unlock(&rw);
    stel_rwlock_read_unlock(&rw);
    stel_rwlock_write_lock(&rw);
    EQ(stel_rwlock_try_read_lock(&rw), -EBUSY);
    stel_rwlock_write_unlock(&rw);
}

/* stel_rwlock_try_write_lock: 0, or -EBUSY where it would have to wait. */
ON_BOTH(contract_stel_rwlock_try_write_lock) {
    OK(stel_rwlock_try_write_lock(&rw));
    EQ(stel_rwlock_try_write_lock(&rw), -EBUSY);
    stel_rwlock_write_unlock(&rw);
    stel_rwlock_read_lock(&rw);
    EQ(stel_rwlock_try_write_lock(&rw), -EBUSY);
    stel_rwlock_read_unlock(&rw);
}

/* ---- semaphores ---- */

static int acquires(void *arg) {
    return stel_sem_acquire(arg);
}

/* stel_sem_init: n permits at first; a zeroed one has none; -EINVAL. */
ON_BOTH(contract_stel_sem_init) {
    stel_sem s, zeroed;
    memset(&zeroed, 0, sizeof zeroed);
    EQ(stel_sem_try_acquire(&zeroed), -EAGAIN);
    OK(stel_sem_init(&s, 2));
    OK(stel_sem_try_acquire(&s));
    OK(stel_sem_try_acquire(&s));
    EQ(stel_sem_try_acquire(&s), -EAGAIN);
    EQ(stel_sem_init(NULL, 1), -EINVAL);
    EQ(stel_sem_init(&s, (unsigned)INT_MAX + 1), -EINVAL);
    OK(stel_sem_init(&s, INT_MAX));
}

/* stel_sem_acquire: takes a permit, waits in order of arrival while there is none; -ETIMEDOUT -ECANCELED take none. */
ON_BOTH(contract_stel_sem_acquire) {
    stel_sem s;
    stel_fiber f[2];
    OK(stel_sem_init(&s, 1));
    OK(stel_sem_acquire(&s));
    obeys_limits(acquires, &s);
    stel_sem_release(&s);
    OK(stel_sem_acquire(&s)); /* none was lost by those that were cut short */
    if (!stel_self()) return; /* here nobody tells who comes first */
    for (int i = 0; i < 2; i++) {
        f[i] = spawn(acquires, &s);
        stel_yield();
    }
    stel_sem_release(&s);
    EQ(join(f[0]), 0);
    EQ(stel_try_join(f[1], NULL), -EAGAIN);
    stel_sem_release(&s);
    EQ(join(f[1]), 0);
}

/* stel_sem_try_acquire: a permit, or -EAGAIN when there is none. */
ON_BOTH(contract_stel_sem_try_acquire) {
    stel_sem s;
    OK(stel_sem_init(&s, 1));
    OK(stel_sem_try_acquire(&s));
    EQ(stel_sem_try_acquire(&s), -EAGAIN);
    stel_sem_release(&s);
    OK(stel_sem_try_acquire(&s));
}

static void too_many_permits(void) {
    stel_sem s;
    (void)stel_sem_init(&s, INT_MAX);
    stel_sem_release(&s);
}
static int releases(void *arg) {
    stel_sem_release(arg);
    return 0;
}
static void sem_releases(void) {
    stel_sem s;
    OK(stel_sem_init(&s, 0));
    stel_fiber f = spawn(acquires, &s);
    let_them_wait();
    EQ(join(spawn(releases, &s)), 0); /* whoever took it, or nobody */
    EQ(join(f), 0);
    stel_sem_release(&s);
    OK(stel_sem_try_acquire(&s));
}

/* stel_sem_release: gives a permit, whoever took it; beyond 2^31 - 1 it aborts. */
START_TEST(contract_stel_sem_release) {
    must_abort(too_many_permits, "stel_sem_release");
    on_both(sem_releases);
}
END_TEST

/* ---- barriers ---- */

static int meets(void *arg) {
    return stel_barrier_wait(arg);
}

/* stel_barrier_init: the number that must come; -EINVAL. */
ON_BOTH(contract_stel_barrier_init) {
    stel_barrier b;
    EQ(stel_barrier_init(NULL, 1), -EINVAL);
    EQ(stel_barrier_init(&b, 0), -EINVAL);
    EQ(stel_barrier_init(&b, UINT_MAX), -EINVAL);
    OK(stel_barrier_init(&b, 1));
    EQ(stel_barrier_wait(&b), 1);
}

static void meets_without_number(void) {
    stel_barrier b;
    memset(&b, 0, sizeof b);
    FIBER_FAIL("it returned %d", stel_barrier_wait(&b));
}
static void barrier_waits(void) {
    stel_barrier b;
    OK(stel_barrier_init(&b, 3));
    for (int round = 0; round < 2; round++) { /* ready for the next n */
        stel_fiber x = spawn(meets, &b), y = spawn(meets, &b);
        let_them_wait();
        EQ(stel_try_join(x, NULL), -EAGAIN);
        int ones = stel_barrier_wait(&b);
        IS(ones == 0 || ones == 1);
        EQ(ones + join(x) + join(y), 1); /* 1 for one of them, 0 for the others */
    }
    obeys_limits(meets, &b); /* each withdraws its arrival */
    stel_fiber x = spawn(meets, &b);
    let_them_wait();
    check_fiber_nap();
    EQ(stel_try_join(x, NULL), -EAGAIN);
    stel_fiber y = spawn(meets, &b);
    OK(stel_barrier_wait(&b));
    IS(join(x) >= 0 && join(y) >= 0);
}

/* stel_barrier_wait: returns when the n-th has come, 1 for one and 0 for the others; cut short, the arrival is withdrawn:
 * -ETIMEDOUT -ECANCELED; without a number it aborts. */
START_TEST(contract_stel_barrier_wait) {
    must_abort(meets_without_number, "stel_barrier_wait");
    on_both(barrier_waits);
}
END_TEST

/* ---- once ---- */

static stel_once once;
static atomic_int ran;
static stel_event may_go_on;

static int runs_long(void *arg) {
    atomic_fetch_add(&ran, 1);
    OK(stel_event_wait(&may_go_on));
    return (int)(intptr_t)arg;
}
static int runs_itself(void *arg) {
    (void)arg;
    return stel_once_call(&once, give, NULL);
}
static int leaves(void *arg) {
    stel_exit((int)(intptr_t)arg);
}
static int calls_without_memory(void *arg) {
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    int rc = stel_once_call(&once, runs_long, arg);
    stel__fault_clear();
    return rc;
}
static int calls(void *arg) {
    return stel_once_call(&once, runs_long, arg);
}
static int calls_leaver(void *arg) {
    return stel_once_call(&once, leaves, arg);
}

/* stel_once_call: fn runs once, who comes meanwhile waits; a failure is returned to who ran it, and the next tries again;
 * -EINVAL -EDEADLK -ETIMEDOUT -ECANCELED -ENOMEM. */
ON_BOTH(contract_stel_once_call) {
    memset(&once, 0, sizeof once);
    stel_event_reset(&may_go_on);
    atomic_store(&ran, 0);
    EQ(stel_once_call(&once, NULL, NULL), -EINVAL);
    EQ(stel_once_call(&once, give, THE(-EBADMSG)), -EBADMSG);
    EQ(stel_once_call(&once, runs_itself, NULL), -EDEADLK);
    EQ(join(spawn(calls_leaver, THE(4))), 4);             /* does not return: it has failed */
    EQ(join(spawn(calls_without_memory, NULL)), -ENOMEM); /* a fiber's first; fn was not run */
    EQ(atomic_load(&ran), 0);
    stel_fiber failing = spawn(calls, THE(-EBADMSG));
    EVENTUALLY(atomic_load(&ran) == 1);
    obeys_limits(calls, NULL);
    stel_fiber next = spawn(calls, THE(7));
    let_them_wait();
    EQ(atomic_load(&ran), 1);
    stel_event_set(&may_go_on);
    EQ(join(failing), -EBADMSG);
    EQ(join(next), 0);
    EQ(atomic_load(&ran), 2);
    EQ(stel_once_call(&once, give, THE(-1)), 0); /* from then on */
}

/* ---- initialisers: the same as all zero, and ready ---- */

#define IS_ZERO(object)                                                                                                \
    do {                                                                                                               \
        char zero_[sizeof(object)] = { 0 };                                                                            \
        EQ(memcmp(&(object), zero_, sizeof zero_), 0);                                                                 \
    } while (0)

/* STEL_MUTEX_INIT: all zero: nobody holds it. */
ON_BOTH(contract_STEL_MUTEX_INIT) {
    stel_mutex m = STEL_MUTEX_INIT;
    IS_ZERO(m);
    OK(stel_mutex_try_lock(&m));
}

/* STEL_COND_INIT: all zero: nobody waits. */
ON_BOTH(contract_STEL_COND_INIT) {
    stel_cond c = STEL_COND_INIT;
    IS_ZERO(c);
    stel_cond_signal(&c);
}

/* STEL_EVENT_INIT: all zero: not set. */
ON_BOTH(contract_STEL_EVENT_INIT) {
    stel_event e = STEL_EVENT_INIT;
    IS_ZERO(e);
    IS(!stel_event_is_set(&e));
}

/* STEL_WAITGROUP_INIT: all zero: the count is 0. */
ON_BOTH(contract_STEL_WAITGROUP_INIT) {
    stel_waitgroup w = STEL_WAITGROUP_INIT;
    IS_ZERO(w);
    OK(stel_waitgroup_wait(&w));
}

/* STEL_RWLOCK_INIT: all zero: nobody is inside. */
ON_BOTH(contract_STEL_RWLOCK_INIT) {
    stel_rwlock l = STEL_RWLOCK_INIT;
    IS_ZERO(l);
    OK(stel_rwlock_try_write_lock(&l));
}

/* STEL_ONCE_INIT: all zero: it has not run. */
ON_BOTH(contract_STEL_ONCE_INIT) {
    stel_once o = STEL_ONCE_INIT;
    IS_ZERO(o);
    EQ(stel_once_call(&o, give, THE(-3)), -3);
}

TEST_MAIN("contract/sync", contract_stel_mutex_lock, contract_stel_mutex_try_lock, contract_stel_mutex_unlock,
          contract_stel_cond_wait, contract_stel_cond_signal, contract_stel_cond_broadcast, contract_stel_event_set,
          contract_stel_event_reset, contract_stel_event_is_set, contract_stel_event_wait, contract_stel_waitgroup_add,
          contract_stel_waitgroup_done, contract_stel_waitgroup_wait, contract_stel_rwlock_read_lock,
          contract_stel_rwlock_read_unlock, contract_stel_rwlock_write_lock, contract_stel_rwlock_write_unlock,
          contract_stel_rwlock_try_read_lock, contract_stel_rwlock_try_write_lock, contract_stel_sem_init,
          contract_stel_sem_acquire, contract_stel_sem_try_acquire, contract_stel_sem_release,
          contract_stel_barrier_init, contract_stel_barrier_wait, contract_stel_once_call, contract_STEL_MUTEX_INIT,
          contract_STEL_COND_INIT, contract_STEL_EVENT_INIT, contract_STEL_WAITGROUP_INIT, contract_STEL_RWLOCK_INIT,
          contract_STEL_ONCE_INIT)
