/* For test_stress.c: scopes, tokens, read-write locks, semaphores, barriers, once, and fibers that begin later. */
#ifndef ACTS_OF_SYNC_H
#define ACTS_OF_SYNC_H

#include "random_world.h"

/* ---- scopes ---- */

enum { FAILURE = -EBADMSG, DEPTH_MOST = 3 };

typedef struct household {
    uint64_t random;
    int depth;
    _Atomic int alive; /* children that have begun and not ended */
} household;

static int child_of_household(void *arg);

/* Open, fill, and close a scope in some way; what the join said, or 0. Nobody is left when it returns. */
static inline int keep_house(actor *a, int depth) {
    household h = { .depth = depth, .random = (uint64_t)below(a, UINT32_MAX) << 16 | 1 };
    int rc = 0;
    {
        STEL_SCOPE_WITH(s, below(a, 2));
        for (uint32_t i = below(a, 5); i > 0; i--) {
            rc = stel_scope_spawn(&s, child_of_household, &h);
            FIBER_ASSERT(rc == 0 || rc == FAILURE || rc == -ETIMEDOUT || rc == -ECANCELED);
        }
        rc = 0;
        if (below(a, 4) == 0) stel_scope_cancel(&s);
        if (below(a, 3)) {
            STEL_TIMEOUT((int64_t)below(a, 200000));
            rc = stel_scope_join(&s);
            FIBER_ASSERT(rc == 0 || rc == FAILURE || rc == -ETIMEDOUT || rc == -ECANCELED);
        }
    }
    FIBER_ASSERT_EQ(atomic_load(&h.alive), 0);
    return rc;
}

static int child_of_household(void *arg) {
    household *h = arg;
    actor a = { .random = h->random ^ stel_self() * UINT64_C(0x9e3779b97f4a7c15) };
    atomic_fetch_add(&h->alive, 1);
    int rc = 0;
    switch (below(&a, 6)) {
    case 0:
        rc = FAILURE;
        break;
    case 1:
        rc = stel_sleep(STEL_SEC(3600));
        break; /* until a sibling fails or the parent loses patience */
    case 2:
        rc = stel_sleep((int64_t)below(&a, 50000));
        break;
    case 3:
        rc = h->depth > 0 ? keep_house(&a, h->depth - 1) : 0;
        break;
    default:
        stel_yield();
    }
    atomic_fetch_sub(&h->alive, 1);
    if (below(&a, 8) == 0) stel_exit(rc);
    return rc;
}

static inline void act_scope(actor *a) {
    if (below(a, 4)) return; /* it is many fibers each time */
    int rc;
    {
        STEL_TIMEOUT(STEL_MS(1)); /* else whoever sleeps for an hour would be waited for */
        rc = keep_house(a, (int)below(a, DEPTH_MOST));
    }
    if (rc == -ECANCELED) (void)went_well(a, stel_sleep(0), 0); /* ours? then it stays so */
}

/* ---- tokens ---- */

static inline int child_sleeps(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}

static inline void act_token(actor *a) {
    enum { MOST = 6 };
    stel_cancel_token *t = NULL;
    stel_fiber f[MOST];
    uint32_t n = 1 + below(a, MOST), before = below(a, MOST);
    FIBER_OK(stel_cancel_token_create(&t));
    for (uint32_t i = 0; i < n; i++) {
        if (i == before) FIBER_OK(stel_cancel_token_cancel(t));
        f[i] = spawn_somehow(a, child_sleeps, NULL);
        FIBER_OK(stel_cancel_token_attach(t, f[i]));
        if (below(a, 4) == 0) maybe_yield(a);
    }
    FIBER_OK(stel_cancel_token_cancel(t));
    stel_cancel_token_release(t);
    for (uint32_t i = 0; i < n; i++)
        FIBER_ASSERT_EQ(join_somehow(a, f[i]), -ECANCELED);
}

/* ---- later ---- */

static inline int child_gives_seven(void *arg) {
    (void)arg;
    return 7;
}

static inline void act_later(actor *a) {
    stel_fiber f = 0;
    bool cancel = below(a, 2);
    FIBER_OK(stel_spawn_after(&f, (int64_t)below(a, 100000), child_gives_seven, NULL));
    if (cancel) FIBER_ASSERT_EQ(stel_cancel(f), 0);
    int result = join_somehow(a, f);
    FIBER_ASSERT(result == 7 || (cancel && result == -ECANCELED));
}

/* ---- read-write locks and semaphores ---- */

static inline void act_shelf(actor *a) {
    shelf *s = &a->world->shelves[below(a, LOCKS)];
    bool write = below(a, 3) == 0;
    if (below(a, 4) == 0) {
        if ((write ? stel_rwlock_try_write_lock(&s->lock) : stel_rwlock_try_read_lock(&s->lock)) < 0) return;
    } else if (write) {
        stel_rwlock_write_lock(&s->lock);
    } else {
        stel_rwlock_read_lock(&s->lock);
    }
    FIBER_ASSERT_EQ(s->left, s->right);
    if (write) {
        s->left++;
        if (below(a, 16) == 0) maybe_yield(a);
        s->right++;
        stel_rwlock_write_unlock(&s->lock);
        add(&s->expected, 1);
        return;
    }
    if (below(a, 16) == 0) maybe_yield(a);
    FIBER_ASSERT_EQ(s->left, s->right);
    stel_rwlock_read_unlock(&s->lock);
}

static inline void act_permit(actor *a) {
    permits *p = &a->world->permits;
    int rc;
    if (below(a, 3) == 0) {
        rc = stel_sem_try_acquire(&p->sem);
        FIBER_ASSERT(rc == 0 || rc == -EAGAIN);
    } else {
        STEL_TIMEOUT((int64_t)below(a, 200000));
        rc = stel_sem_acquire(&p->sem);
        if (rc != -ETIMEDOUT) (void)went_well(a, rc, 0);
    }
    if (rc < 0) return;
    FIBER_ASSERT(atomic_fetch_add(&p->taken, 1) < PERMITS);
    if (below(a, 8) == 0) maybe_yield(a);
    atomic_fetch_sub(&p->taken, 1);
    stel_sem_release(&p->sem);
}

/* ---- meeting, and once ---- */

typedef struct meeting {
    stel_barrier barrier;
    uint32_t rounds;
    _Atomic int arrived, leaders;
} meeting;

static inline int child_meets(void *arg) {
    meeting *m = arg;
    for (uint32_t i = 0; i < m->rounds; i++) {
        atomic_fetch_add(&m->arrived, 1);
        int rc = (int)FIBER_OK(stel_barrier_wait(&m->barrier));
        if (rc == 1) atomic_fetch_add(&m->leaders, 1);
    }
    return 0;
}

static inline void act_meet(actor *a) {
    enum { MOST = 5 };
    stel_fiber f[MOST];
    uint32_t n = 1 + below(a, MOST);
    meeting m = { .rounds = 1 + below(a, 4) };
    FIBER_OK(stel_barrier_init(&m.barrier, n + 1));
    if (below(a, 2)) { /* an arrival that is withdrawn */
        STEL_TIMEOUT((int64_t)below(a, 20000));
        FIBER_ASSERT_EQ(stel_barrier_wait(&m.barrier), -ETIMEDOUT);
    }
    for (uint32_t i = 0; i < n; i++)
        f[i] = spawn_somehow(a, child_meets, &m);
    FIBER_OK(child_meets(&m));
    for (uint32_t i = 0; i < n; i++)
        FIBER_ASSERT_EQ(join_somehow(a, f[i]), 0);
    FIBER_ASSERT_EQ(m.leaders, (int)m.rounds);
    FIBER_ASSERT_EQ(m.arrived, (int)((n + 1) * m.rounds));
}

typedef struct attempt {
    stel_once once;
    _Atomic int failures_left, done;
} attempt;

static inline int try_to_do(void *arg) {
    attempt *t = arg;
    stel_yield();
    if (atomic_fetch_sub(&t->failures_left, 1) > 0) {
        if (atomic_load(&t->failures_left) % 2 && stel_self()) stel_exit(FAILURE);
        return FAILURE;
    }
    FIBER_ASSERT_EQ(atomic_fetch_add(&t->done, 1), 0);
    return 0;
}

static inline int child_tries(void *arg) {
    attempt *t = arg;
    int rc = stel_once_call(&t->once, try_to_do, t);
    if (rc == 0) FIBER_ASSERT_EQ(atomic_load(&t->done), 1);
    return rc;
}

static inline void act_once(actor *a) {
    enum { MOST = 6 };
    stel_fiber f[MOST];
    uint32_t n = 1 + below(a, MOST);
    attempt t = { .failures_left = (int)below(a, n + 1) };
    int failures = t.failures_left, failed = 0;
    for (uint32_t i = 0; i < n; i++)
        f[i] = spawn_somehow(a, child_tries, &t);
    for (uint32_t i = 0; i < n; i++) {
        int result = join_somehow(a, f[i]);
        FIBER_ASSERT(result == 0 || result == FAILURE);
        failed += result < 0;
    }
    FIBER_ASSERT_EQ(failed, failures); /* each failure was told to the one who ran it, and to nobody else */
    FIBER_ASSERT_EQ(t.done, failures < (int)n);
}

#endif
