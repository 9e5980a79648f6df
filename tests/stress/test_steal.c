/* Work stealing under churn: fibers that spawn, yield, wake one another and move between eight workers. Each runs
 * exactly once; who is bound to a worker stays there; and nothing waits for ever behind a fiber that does not leave its
 * worker: it is stolen, wherever it stands (spawned, woken, yielded, timed).
 *
 * ctest: labels=slow timeout=300 */
#include "check_fiber.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { WORKERS = 8 };

static stel_config config(void) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = WORKERS;
    c.seed = test_seed();
    c.stall_ns = -1; /* eight workers on few processors: a fiber that is not on one is no stall */
    return c;
}

/* ---- a tree, its branches of random size ---- */

enum { TREE = 100000 }; /* ThreadSanitizer needs some mappings for each fiber that lives */

static _Atomic uint8_t visited[TREE + 1];
static _Atomic int migrations;

typedef struct branch {
    uint32_t first, size; /* the leaves [first, first + size) */
    uint64_t random;
} branch;

static void visit(branch *b) {
    int before = stel_worker_id();
    for (uint32_t i = test_random(&b->random, 3); i > 0; i--)
        stel_yield();
    if (stel_worker_id() != before) atomic_fetch_add_explicit(&migrations, 1, memory_order_relaxed);
    FIBER_ASSERT_EQ(atomic_fetch_add(&visited[b->first], 1), 0);
}

static int walk(void *arg) {
    branch *b = arg;
    if (b->size == 1) {
        visit(b);
        return 1;
    }
    enum { MOST = 6 };
    branch part[MOST];
    stel_fiber f[MOST];
    uint32_t n = 0, at = b->first, left = b->size;
    while (left > 0) {
        uint32_t size = n == MOST - 1 ? left : 1 + test_random(&b->random, left);
        if (size == b->size) size--; /* at least two parts, or it would not end */
        part[n] = (branch){ at, size, b->random + at };
        FIBER_OK(stel_spawn(&f[n], walk, &part[n]));
        at += size;
        left -= size;
        n++;
    }
    int sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        int result = 0;
        FIBER_ASSERT_EQ(stel_join(f[i], &result), 0);
        sum += result;
    }
    return sum;
}

static int plant(void *arg) {
    branch *b = arg;
    FIBER_ASSERT_EQ(walk(b), b->size);
    stel_stats s;
    FIBER_OK(stel_runtime_stats(stel_runtime_current(), &s));
    FIBER_ASSERT(s.steals > 0);
    return 0;
}

START_TEST(every_leaf_once) {
    stel_config c = config();
    branch b = { 0, (uint32_t)test_scale(TREE), test_seed() };
    if (b.size < 100) b.size = 100;
    if (b.size > TREE) b.size = TREE;
    ck_assert_int_eq(run_in_runtime_with(&c, plant, &b), 0);
    for (uint32_t i = 0; i < b.size; i++)
        ck_assert_int_eq(visited[i], 1);
}
END_TEST

/* ---- bound fibers among those that move ---- */

enum { BOUND = 64, MOVING = 64, TURNS = 2000 };
static _Atomic bool bound_over;

typedef struct bound {
    int worker; /* it must run there; -1: wherever it ran first */
    uint32_t turns;
    stel_mutex *lock;
    uint64_t *count; /* under lock */
    uint64_t random;
} bound;

static int stays(void *arg) {
    bound *b = arg;
    int worker = stel_worker_id();
    if (b->worker >= 0) FIBER_ASSERT_EQ(worker, b->worker);
    for (uint32_t i = 0; i < b->turns; i++) {
        switch (test_random(&b->random, 8)) {
        case 0:
            FIBER_OK(stel_sleep((int64_t)test_random(&b->random, 20000)));
            break;
        case 1:
        case 2:
            stel_mutex_lock(b->lock);
            *b->count += 1;
            stel_yield();
            stel_mutex_unlock(b->lock);
            break;
        default:
            stel_yield();
        }
        FIBER_ASSERT_EQ(stel_worker_id(), worker);
    }
    return 0;
}

static int moves(void *arg) {
    bound *b = arg;
    while (!atomic_load_explicit(&bound_over, memory_order_relaxed)) {
        if (test_random(&b->random, 4) == 0) {
            stel_mutex_lock(b->lock);
            *b->count += 1;
            stel_mutex_unlock(b->lock);
        }
        stel_yield();
    }
    return 0;
}

static int mix(void *arg) {
    static bound b[BOUND + MOVING];
    stel_fiber f[BOUND + MOVING];
    stel_mutex lock = STEL_MUTEX_INIT;
    uint64_t count = 0;
    (void)arg;
    for (int i = 0; i < BOUND + MOVING; i++) {
        stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
        b[i] =
            (bound){ i % 2 ? -1 : i % WORKERS, (uint32_t)test_scale(TURNS), &lock, &count, test_seed() + (uint64_t)i };
        if (i < BOUND) {
            if (i % 2)
                o.flags = STEL_NO_MIGRATE;
            else
                o.place = STEL_WORKER(i % WORKERS);
        }
        FIBER_OK(stel_spawn_with(&f[i], &o, i < BOUND ? stays : moves, &b[i]));
    }
    for (int i = 0; i < BOUND; i++)
        FIBER_ASSERT_EQ(stel_join(f[i], NULL), 0);
    atomic_store(&bound_over, true);
    for (int i = BOUND; i < BOUND + MOVING; i++)
        FIBER_ASSERT_EQ(stel_join(f[i], NULL), 0);
    FIBER_ASSERT(count > 0);
    return 0;
}

START_TEST(bound_fibers_stay) {
    stel_config c = config();
    ck_assert_int_eq(run_in_runtime_with(&c, mix, NULL), 0);
}
END_TEST

/* ---- behind a fiber that does not leave ---- */

enum { HOGS = WORKERS - 1, HOG_ROUNDS = 40 };

typedef struct hog {
    stel_event event;
    stel_fiber parked;
    _Atomic bool helped;
    uint32_t kind;
} hog;

static int helps(void *arg) {
    hog *h = arg;
    switch (h->kind) {
    case 1:
        FIBER_OK(stel_event_wait(&h->event));
        break;
    case 2:
        FIBER_OK(stel_park());
        break;
    case 3:
        FIBER_OK(stel_sleep(STEL_US(50)));
        break;
    default:;
    }
    atomic_store(&h->helped, true);
    return 0;
}

/* Keeps its worker until another fiber, whose turn would come on this very worker, has run elsewhere. */
static int keeps_its_worker(void *arg) {
    hog *h = arg;
    stel_fiber f;
    FIBER_OK(stel_spawn(&f, helps, h));
    if (h->kind == 1 || h->kind == 2 || h->kind == 3) /* let it come to its wait, here or elsewhere */
        for (int i = 0; i < 4; i++)
            stel_yield();
    if (h->kind == 1) stel_event_set(&h->event);
    if (h->kind == 2) FIBER_OK(stel_unpark(f));
    int64_t give_up = stel_after(STEL_SEC(100)); /* a hang guard: a tick is a millisecond */
    while (!atomic_load(&h->helped))
        if (stel_now() > give_up) FIBER_FAIL("kind %u: nobody took what waits behind a busy fiber", h->kind);
    return stel_join(f, NULL);
}

static int keep_workers(void *arg) {
    uint64_t random = test_seed();
    (void)arg;
    for (uint64_t round = test_scale(HOG_ROUNDS); round > 0; round--) {
        static hog h[HOGS];
        stel_fiber f[HOGS];
        memset(h, 0, sizeof h);
        uint32_t n = 1 + test_random(&random, HOGS);
        for (uint32_t i = 0; i < n; i++) {
            h[i].kind = test_random(&random, 4);
            FIBER_OK(stel_spawn(&f[i], keeps_its_worker, &h[i]));
        }
        for (uint32_t i = 0; i < n; i++)
            FIBER_ASSERT_EQ(stel_join(f[i], NULL), 0);
    }
    return 0;
}

START_TEST(nothing_waits_behind_a_busy_fiber) {
    stel_config c = config();
    ck_assert_int_eq(run_in_runtime_with(&c, keep_workers, NULL), 0);
}
END_TEST

/* ---- from outside: threads push, workers sleep and wake ---- */

enum { PUSHERS = 3, PUSHES = 30000 };
static _Atomic uint64_t pushed_ran;
static stel_waitgroup pushed;

static int one_push(void *arg) {
    atomic_fetch_add_explicit(&pushed_ran, 1, memory_order_relaxed);
    stel_waitgroup_done(&pushed);
    return arg != NULL;
}

/* Waits for its own fibers now and then, so that the workers go to sleep again and again. */
static void *pusher(void *arg) {
    stel_runtime *rt = arg;
    uint64_t random = test_seed() ^ (uint64_t)(uintptr_t)&random;
    for (uint64_t i = test_scale(PUSHES); i > 0; i--) {
        stel_waitgroup_add(&pushed, 1);
        if (test_random(&random, 4)) {
            FIBER_OK(stel_runtime_spawn(rt, NULL, NULL, one_push, NULL));
        } else {
            stel_fiber f;
            FIBER_OK(stel_runtime_spawn(rt, &f, NULL, one_push, NULL));
            FIBER_ASSERT_EQ(stel_join(f, NULL), 0);
        }
    }
    return NULL;
}

START_TEST(pushed_from_outside) {
    for (int workers = 1; workers <= WORKERS; workers *= 2) {
        stel_config c = config();
        stel_runtime *rt;
        pthread_t threads[PUSHERS];
        c.worker_threads = workers;
        atomic_store(&pushed_ran, 0);
        FIBER_OK(stel_runtime_create(&rt, &c));
        FIBER_OK(stel_runtime_start(rt));
        for (int i = 0; i < PUSHERS; i++)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, pusher, rt), 0);
        for (int i = 0; i < PUSHERS; i++)
            pthread_join(threads[i], NULL);
        FIBER_OK(stel_waitgroup_wait(&pushed));
        ck_assert_uint_eq(pushed_ran, PUSHERS * test_scale(PUSHES));
        ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0);
        ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    }
}
END_TEST

TEST_MAIN("stress/steal", every_leaf_once, bound_fibers_stay, nothing_waits_behind_a_busy_fiber, pushed_from_outside)
