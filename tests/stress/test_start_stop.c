/* Runtimes that are stopped at a random moment of their life (row R7): made, filled with fibers from inside and from
 * outside, started, and stopped, from a thread, by a fiber, or by running out of fibers, while threads still spawn.
 * Two threads do so side by side. Each round must end, and leave nothing behind: every fiber that began has ended, all
 * handles are stale, no descriptor and (AddressSanitizer's leak check) no memory is lost.
 *
 * ctest: labels=slow timeout=300 */
#include "check_fiber.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 1000, DRIVERS = 2, FIRST_FIBERS = 12, HANDLES = 4, WORKERS_MOST = 4 };

typedef struct lifetime {
    stel_runtime *rt;
    uint64_t random;
    stel_chan *chan; /* fibers play on it, until they are cancelled */
    stel_event never;
    int listener;
    _Atomic uint64_t began, ended, spawned_outside;
    _Atomic bool go;
} lifetime;

static int played(lifetime *r, int rc) {
    atomic_fetch_add(&r->ended, 1);
    return rc;
}

/* ---- fibers: each goes on until the stop ends its wait ---- */

static int sleeps(void *arg) {
    lifetime *r = arg;
    atomic_fetch_add(&r->began, 1);
    int rc;
    while ((rc = stel_sleep(STEL_US(20))) == 0) {
    }
    FIBER_ASSERT_EQ(rc, -ECANCELED);
    return played(r, rc);
}

static int waits(void *arg) {
    lifetime *r = arg;
    atomic_fetch_add(&r->began, 1);
    FIBER_ASSERT_EQ(stel_event_wait(&r->never), -ECANCELED);
    return played(r, 0);
}

static int parks(void *arg) {
    lifetime *r = arg;
    atomic_fetch_add(&r->began, 1);
    FIBER_ASSERT_EQ(stel_park(), -ECANCELED);
    return played(r, 0);
}

static int sends(void *arg) {
    lifetime *r = arg;
    int rc, element = 1;
    atomic_fetch_add(&r->began, 1);
    while ((rc = stel_chan_send(r->chan, &element)) == 0) {
    }
    FIBER_ASSERT_EQ(rc, -ECANCELED);
    return played(r, rc);
}

static int receives(void *arg) {
    lifetime *r = arg;
    int rc, element;
    atomic_fetch_add(&r->began, 1);
    while ((rc = stel_chan_recv(r->chan, &element)) == 0) {
    }
    FIBER_ASSERT_EQ(rc, -ECANCELED);
    return played(r, rc);
}

static int is_brief(void *arg) {
    lifetime *r = arg;
    atomic_fetch_add(&r->began, 1);
    stel_yield();
    return played(r, 0);
}

/* Spawns until it is told to end, and then once more: cleaning up may take fibers, too. */
static int spawns(void *arg) {
    lifetime *r = arg;
    stel_fiber f;
    int rc;
    atomic_fetch_add(&r->began, 1);
    do {
        FIBER_OK(stel_spawn(&f, is_brief, r));
        rc = stel_join(f, NULL);
    } while (rc == 0);
    FIBER_ASSERT_EQ(rc, -ECANCELED);
    FIBER_ASSERT(stel_cancelled());
    STEL_SHIELD(STEL_SEC(3600));
    FIBER_ASSERT_EQ(stel_join(f, NULL), 0);
    FIBER_OK(stel_go(is_brief, r));
    return played(r, 0);
}

static int accepts(void *arg) {
    lifetime *r = arg;
    atomic_fetch_add(&r->began, 1);
    int rc = stel_accept(r->listener, NULL, NULL);
    FIBER_ASSERT(rc == -ESHUTDOWN || rc == -ECANCELED);
    return played(r, rc);
}

/* Runs for as long as it likes, and looks whether it should end. */
static int computes(void *arg) {
    lifetime *r = arg;
    atomic_fetch_add(&r->began, 1);
    while (!stel_cancelled())
        stel_yield();
    return played(r, 0);
}

static int shuts_down(void *arg) {
    lifetime *r = arg;
    atomic_fetch_add(&r->began, 1);
    FIBER_OK(stel_shutdown((int64_t)test_random(&r->random, 200000)));
    FIBER_ASSERT(stel_stopping());
    return played(r, 0);
}

static stel_fn *const kinds[] = { sleeps, waits, parks, sends, receives, spawns, computes, is_brief };
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* ---- a round ---- */

/* A thread that spawns until it is refused. */
static void *spawner(void *arg) {
    lifetime *r = arg;
    uint64_t random = (uint64_t)(uintptr_t)r ^ test_seed();
    while (!atomic_load(&r->go))
        check_fiber_nap();
    for (;;) {
        int rc = stel_runtime_spawn(r->rt, NULL, NULL, test_random(&random, 8) ? is_brief : waits, r);
        if (rc == -ESHUTDOWN) break;
        FIBER_OK(rc);
        atomic_fetch_add(&r->spawned_outside, 1);
        if (test_random(&random, 4) == 0) check_fiber_nap();
    }
    return NULL;
}

static void round_end(lifetime *r, uint32_t way) {
    int64_t grace = (int64_t)test_random(&r->random, 300000), began = stel_now();
    if (way == 0) { /* one of its fibers stops it */
        FIBER_OK(stel_runtime_spawn(r->rt, NULL, NULL, shuts_down, r));
        FIBER_ASSERT_EQ(stel_runtime_wait(r->rt), 0);
    } else {
        FIBER_ASSERT_EQ(stel_runtime_stop(r->rt, test_random(&r->random, 2) ? grace : 0), 0);
    }
    FIBER_ASSERT(stel_now() - began < STEL_SEC(60)); /* a hang guard; it takes a millisecond */
    FIBER_ASSERT(!stel_runtime_is_running(r->rt));
    FIBER_ASSERT_EQ(stel_runtime_pending(r->rt), 0);
}

static void round_check(lifetime *r, const stel_fiber *handles) {
    stel_stats s;
    FIBER_OK(stel_runtime_stats(r->rt, &s));
    FIBER_ASSERT_EQ(s.spawned, s.total_tasks_executed);
    FIBER_ASSERT_EQ(s.total_tasks_executed, r->began);
    FIBER_ASSERT_EQ(r->began, r->ended);
    FIBER_ASSERT_EQ(stel_runtime_spawn(r->rt, NULL, NULL, is_brief, r), -ESHUTDOWN);
    int result;
    FIBER_ASSERT_EQ(stel_join(handles[0], &result), 0); /* ended, and still to be joined */
    FIBER_ASSERT_EQ(stel_runtime_destroy(r->rt), 0);
    for (int i = 0; i < HANDLES; i++)
        FIBER_ASSERT_EQ(stel_join(handles[i], &result), -ESRCH);
}

static void play_round(uint64_t *random) {
    lifetime *r = calloc(1, sizeof *r);
    stel_fiber handles[HANDLES];
    pthread_t thread;
    stel_config c;
    FIBER_ASSERT(r != NULL);
    r->random = *random;
    (void)test_random(random, 2);
    stel_config_init(&c);
    c.worker_threads = 1 + (int)test_random(&r->random, WORKERS_MOST);
    c.stall_ns = -1;
    FIBER_OK(stel_runtime_create(&r->rt, &c));
    FIBER_OK(stel_chan_create(&r->chan, sizeof(int), test_random(&r->random, 3)));
    bool early = test_random(&r->random, 2); /* some are spawned before the start, some after */
    bool with_thread = test_random(&r->random, 3) == 0, with_listener = test_random(&r->random, 8) == 0;
    r->listener = -1;
    if (with_listener) FIBER_OK(r->listener = stel_listen("127.0.0.1:0", 8));
    if (with_thread) FIBER_ASSERT_EQ(pthread_create(&thread, NULL, spawner, r), 0);
    if (!early) FIBER_OK(stel_runtime_start(r->rt));
    for (int i = 0; i < HANDLES; i++)
        FIBER_OK(stel_runtime_spawn(r->rt, &handles[i], NULL, kinds[test_random(&r->random, KINDS)], r));
    for (int i = 0; i < FIRST_FIBERS; i++)
        FIBER_OK(stel_runtime_spawn(r->rt, NULL, NULL, kinds[test_random(&r->random, KINDS)], r));
    if (with_listener) FIBER_OK(stel_runtime_spawn(r->rt, NULL, NULL, accepts, r));
    if (early) FIBER_OK(stel_runtime_start(r->rt));
    atomic_store(&r->go, true);
    for (uint32_t i = test_random(&r->random, 4); i > 0; i--)
        usleep(test_random(&r->random, 300)); /* the random moment */
    round_end(r, test_random(&r->random, 3));
    if (with_thread) pthread_join(thread, NULL);
    round_check(r, handles);
    if (with_listener) FIBER_OK(stel_close(r->listener));
    stel_chan_destroy(r->chan);
    free(r);
}

static void *driver(void *arg) {
    uint64_t *random = arg;
    for (uint64_t i = test_scale(ROUNDS / DRIVERS); i > 0; i--)
        play_round(random);
    return NULL;
}

START_TEST(stopped_at_a_random_moment) {
    pthread_t threads[DRIVERS];
    uint64_t random[DRIVERS];
    { /* what the first use of the library opens stays open */
        uint64_t once = 1;
        play_round(&once);
    }
    int descriptors = test_open_descriptors();
    for (int i = 0; i < DRIVERS; i++) {
        random[i] = test_seed() + (uint64_t)i * UINT64_C(0x100000001b3);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, driver, &random[i]), 0);
    }
    for (int i = 0; i < DRIVERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(test_open_descriptors(), descriptors);
    stel_stats s;
    stel_runtime *rt;
    ck_assert_int_eq(stel_runtime_create(&rt, NULL), 0);
    ck_assert_int_eq(stel_runtime_stats(rt, &s), 0);
    ck_assert_uint_eq(s.stacks_in_use, 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* ---- a runtime that ends by itself ---- */

static int root(void *arg) {
    lifetime *r = arg;
    atomic_fetch_add(&r->began, 1);
    for (uint32_t i = test_random(&r->random, 6); i > 0; i--) {
        FIBER_OK(stel_go(is_brief, r));
        if (test_random(&r->random, 2)) (void)!stel_sleep((int64_t)test_random(&r->random, 30000));
    }
    return played(r, 7);
}

static int background(void *arg) {
    lifetime *r = arg;
    atomic_fetch_add(&r->began, 1);
    FIBER_ASSERT_EQ(stel_event_wait(&r->never), -ECANCELED);
    return played(r, 0);
}

/* Auto-shutdown: nobody asks for the stop; the last worker that goes to sleep sees that nobody is left. */
START_TEST(ends_with_its_last_fiber) {
    uint64_t random = test_seed();
    stel_config c;
    stel_config_init(&c);
    c.auto_shutdown = 1;
    c.stall_ns = -1;
    for (uint64_t i = test_scale(ROUNDS); i > 0; i--) {
        lifetime r = { .random = random };
        stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
        stel_fiber f;
        int result;
        o.flags = STEL_BACKGROUND;
        c.worker_threads = 1 + (int)test_random(&random, WORKERS_MOST);
        FIBER_OK(stel_runtime_create(&r.rt, &c));
        FIBER_OK(stel_runtime_spawn(r.rt, &f, NULL, root, &r));
        if (test_random(&random, 2)) FIBER_OK(stel_runtime_spawn(r.rt, NULL, &o, background, &r));
        FIBER_OK(stel_runtime_start(r.rt));
        if (test_random(&random, 2)) FIBER_ASSERT_EQ(stel_join(f, NULL), 0);
        FIBER_ASSERT_EQ(stel_runtime_wait(r.rt), 0);
        FIBER_ASSERT_EQ(r.began, r.ended);
        if (stel_join(f, &result) == 0) FIBER_ASSERT_EQ(result, 7);
        FIBER_ASSERT_EQ(stel_runtime_destroy(r.rt), 0);
    }
}
END_TEST

TEST_MAIN("stress/start_stop", stopped_at_a_random_moment, ends_with_its_last_fiber)
