/* The end of a runtime: grace, cancellation, fibers that will not end, shutdown from inside, auto-shutdown. */
#include "check_fiber.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_int results[8];
static atomic_bool release, arrived;

static stel_runtime *started_with(const stel_config *c) {
    stel_runtime *rt = NULL;
    FIBER_OK(stel_runtime_create(&rt, c));
    FIBER_OK(stel_runtime_start(rt));
    return rt;
}

static stel_config config(int workers) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = workers;
    c.stall_ns = -1; /* some of these hold their worker on purpose */
    return c;
}

static stel_fiber spawn(stel_runtime *rt, stel_fn *fn, void *arg, const char *name, unsigned flags) {
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    stel_fiber f = 0;
    o.name = name;
    o.flags = flags;
    FIBER_OK(stel_runtime_spawn(rt, &f, &o, fn, arg));
    return f;
}

static int result_of(stel_fiber f) {
    int result = 12345;
    FIBER_OK(stel_join(f, &result));
    return result;
}

static int until_cancelled(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}
static int short_sleep(void *arg) {
    (void)arg;
    return stel_sleep(STEL_MS(20));
}
/* Ends when it is told to and not when it is cancelled. */
static int stubborn(void *arg) {
    (void)arg;
    atomic_store(&arrived, true);
    while (!atomic_load(&release))
        stel_yield();
    return 3;
}

START_TEST(grace_is_given) {
    stel_config c = config(2);
    stel_runtime *rt = started_with(&c);
    stel_fiber quick = spawn(rt, short_sleep, NULL, "quick", 0);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_SEC(100)), 0); /* ends with the fiber, not with the grace */
    ck_assert_int_eq(result_of(quick), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

START_TEST(grace_ends) {
    stel_config c = config(2);
    stel_runtime *rt = started_with(&c);
    stel_fiber quick = spawn(rt, short_sleep, NULL, "quick", 0), slow = spawn(rt, until_cancelled, NULL, "slow", 0);
    int64_t before = stel_now();
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_MS(500)), 0);
    ck_assert_int_ge(stel_now() - before, STEL_MS(500));
    ck_assert_int_eq(result_of(quick), 0);
    ck_assert_int_eq(result_of(slow), -ECANCELED);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

START_TEST(many_are_cancelled) {
    stel_config c = config(2);
    stel_runtime *rt = started_with(&c);
    int n = (int)test_scale(20000);
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, until_cancelled, NULL), 0);
    ck_assert_uint_eq(stel_runtime_pending(rt), (size_t)n);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* Whoever is cancelled may still spawn: its children are cancelled as well, although they come late. */
static int child_of_cancelled(void *arg) {
    (void)arg;
    int rc = stel_sleep(STEL_FOREVER);
    atomic_fetch_add(&results[0], 1);
    return rc;
}
static int spawns_when_cancelled(void *arg) {
    (void)arg;
    int rc = stel_sleep(STEL_FOREVER);
    FIBER_ASSERT(stel_stopping());
    FIBER_OK(stel_go(child_of_cancelled, NULL)); /* from inside it is not refused */
    return rc;
}
START_TEST(late_children) {
    stel_config c = config(2);
    stel_runtime *rt = started_with(&c);
    stel_fiber f = spawn(rt, spawns_when_cancelled, NULL, "parent", 0);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(result_of(f), -ECANCELED);
    ck_assert_int_eq(atomic_load(&results[0]), 1);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

static int cleans_up(void *arg) {
    (void)arg;
    int rc = stel_sleep(STEL_FOREVER);
    STEL_SHIELD(STEL_SEC(10));
    FIBER_OK(stel_sleep(STEL_MS(20)));
    atomic_store(&results[1], 1);
    return rc;
}
START_TEST(clean_up_is_waited_for) {
    stel_config c = config(1);
    stel_runtime *rt = started_with(&c);
    stel_fiber f = spawn(rt, cleans_up, NULL, "cleans", 0);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(result_of(f), -ECANCELED);
    ck_assert_int_eq(atomic_load(&results[1]), 1);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

static void *spawns_outside(void *arg) {
    EVENTUALLY(stel_runtime_spawn(arg, NULL, NULL, short_sleep, NULL) == -ESHUTDOWN);
    FIBER_ASSERT_EQ(stel_go(short_sleep, NULL), -ESHUTDOWN);
    atomic_store(&release, true);
    return NULL;
}
START_TEST(spawns_are_refused) {
    stel_config c = config(2);
    stel_runtime *rt = started_with(&c);
    pthread_t t;
    spawn(rt, stubborn, NULL, "stubborn", 0);
    ck_assert_int_eq(pthread_create(&t, NULL, spawns_outside, rt), 0);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0);
    pthread_join(t, NULL);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* Whoever waits in accept learns of the stop at once, and whoever comes to it later; the grace is for other work. */
static int accepts(void *arg) {
    int fd = *(int *)arg;
    FIBER_ASSERT_EQ(stel_accept(fd, NULL, NULL), -ESHUTDOWN);
    FIBER_ASSERT(stel_stopping());
    FIBER_ASSERT_EQ(stel_accept(fd, NULL, NULL), -ESHUTDOWN);
    return stel_sleep(STEL_MS(1));
}
static uint64_t parks(stel_runtime *rt) {
    uint64_t sum = 0;
    for (int i = 0; i < 2; i++) {
        stel_worker_stats w;
        FIBER_OK(stel_runtime_worker_stats(rt, i, &w));
        sum += w.parks;
    }
    return sum;
}
START_TEST(accept_ends) {
    stel_config c = config(2);
    stel_runtime *rt = started_with(&c);
    int fd = stel_listen("127.0.0.1:0", 5);
    ck_assert_int_ge(fd, 0);
    stel_fiber a = spawn(rt, accepts, &fd, "acceptor", 0), b = spawn(rt, accepts, &fd, "acceptor", STEL_BACKGROUND);
    EVENTUALLY(parks(rt) == 2);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0);
    ck_assert_int_eq(result_of(a), 0);
    int last = result_of(b);
    ck_assert(last == 0 || last == -ECANCELED); /* nobody counted may be left by then */
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    ck_assert_int_eq(stel_close(fd), 0);
}
END_TEST

/* ---- who will not end ---- */

static char said[4096];
static int saved_stderr, captured;
static void capture_begin(void) {
    FILE *f = tmpfile();
    captured = dup(fileno(f));
    fclose(f);
    saved_stderr = dup(2);
    dup2(captured, 2);
}
static void capture_end(void) {
    dup2(saved_stderr, 2);
    close(saved_stderr);
    ssize_t n = pread(captured, said, sizeof said - 1, 0);
    said[n > 0 ? n : 0] = 0;
    close(captured);
}

static int waits_elsewhere(void *arg) {
    /* Deaf: cancellation is hidden for longer than the stop waits. */
    STEL_SHIELD(STEL_SEC(1000));
    while (!atomic_load(&release))
        FIBER_OK(stel_sleep(STEL_MS(2)));
    return *(int *)arg;
}

START_TEST(survivors_are_named) {
    stel_config c = config(2);
    c.stop_timeout_ns = STEL_MS(50);
    stel_runtime *rt = started_with(&c);
    int four = 4;
    stel_fiber a = spawn(rt, stubborn, NULL, "mule", 0), b = spawn(rt, waits_elsewhere, &four, "snail", 0);
    stel_fiber obedient = spawn(rt, until_cancelled, NULL, "lamb", 0);
    EVENTUALLY(atomic_load(&arrived));
    for (int round = 0; round < 2; round++) {
        capture_begin();
        int rc = stel_runtime_stop(rt, 0);
        capture_end();
        ck_assert_int_eq(rc, -EBUSY);
        ck_assert_ptr_nonnull(strstr(said, "2 fibers have not ended"));
        ck_assert_ptr_nonnull(strstr(said, "mule"));
        ck_assert_ptr_nonnull(strstr(said, "snail"));
        ck_assert_ptr_nonnull(strstr(said, "sleep"));
        ck_assert_ptr_null(strstr(said, "lamb"));
        ck_assert(stel_runtime_is_running(rt));
        ck_assert_uint_eq(stel_runtime_pending(rt), 2);
        ck_assert_int_eq(stel_runtime_wait(rt), -EBUSY);
        ck_assert_int_eq(stel_runtime_destroy(rt), -EBUSY);
    }
    ck_assert_int_eq(result_of(obedient), -ECANCELED);
    atomic_store(&release, true);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0); /* the third try */
    ck_assert_int_eq(result_of(a), 3);
    ck_assert_int_eq(result_of(b), 4);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* Not even a yield: the worker itself is lost until it ends. */
static int hog(void *arg) {
    (void)arg;
    atomic_store(&arrived, true);
    while (!atomic_load(&release))
        continue;
    return 0;
}
START_TEST(hog_is_named) {
    stel_config c = config(1);
    c.stop_timeout_ns = STEL_MS(50);
    stel_runtime *rt = started_with(&c);
    spawn(rt, hog, NULL, "hog", 0);
    spawn(rt, until_cancelled, NULL, "victim", 0); /* has no worker to end on */
    EVENTUALLY(atomic_load(&arrived));
    capture_begin();
    int rc = stel_runtime_stop(rt, STEL_MS(1));
    capture_end();
    ck_assert_int_eq(rc, -EBUSY);
    ck_assert_ptr_nonnull(strstr(said, "hog"));
    ck_assert_ptr_nonnull(strstr(said, "victim"));
    atomic_store(&release, true);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* ---- from inside ---- */

static int shuts_down(void *arg) {
    FIBER_ASSERT(!stel_stopping());
    FIBER_OK(stel_shutdown(*(int64_t *)arg));
    FIBER_ASSERT(stel_stopping());
    return stel_sleep(STEL_FOREVER);
}

START_TEST(shutdown_from_inside) {
    stel_config c = config(2);
    stel_runtime *rt = started_with(&c);
    int64_t grace = STEL_MS(5);
    stel_fiber f = spawn(rt, shuts_down, &grace, "inside", 0);
    ck_assert_int_eq(stel_runtime_wait(rt), 0);
    ck_assert_int_eq(result_of(f), -ECANCELED);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* It needs nobody who waits. */
START_TEST(shutdown_progresses_alone) {
    stel_config c = config(1);
    stel_runtime *rt = started_with(&c);
    int64_t grace = 0;
    spawn(rt, shuts_down, &grace, "inside", 0);
    EVENTUALLY(!stel_runtime_is_running(rt));
    ck_assert_int_eq(stel_runtime_wait(rt), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

static int shortens(void *arg) {
    (void)arg;
    FIBER_OK(stel_shutdown(STEL_FOREVER));
    FIBER_OK(stel_shutdown(STEL_MS(1)));
    FIBER_OK(stel_shutdown(STEL_FOREVER)); /* does not lengthen it again */
    return stel_sleep(STEL_FOREVER);
}
START_TEST(grace_only_shrinks) {
    stel_config c = config(2);
    stel_runtime *rt = started_with(&c);
    stel_fiber f = spawn(rt, shortens, NULL, "inside", 0);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0);
    ck_assert_int_eq(result_of(f), -ECANCELED);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* Before start() has even returned. */
static int shuts_down_at_once(void *arg) {
    (void)arg;
    return stel_shutdown(0);
}
START_TEST(shutdown_during_start) {
    for (uint64_t i = 0, n = test_scale(100); i < n; i++) {
        stel_config c = config(2);
        stel_runtime *rt = NULL;
        ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
        spawn(rt, shuts_down_at_once, NULL, "hasty", 0);
        ck_assert_int_eq(stel_runtime_start(rt), 0);
        ck_assert_int_eq(stel_runtime_wait(rt), 0);
        ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    }
}
END_TEST

/* ---- auto-shutdown ---- */

static int tree(void *arg) {
    intptr_t depth = (intptr_t)arg;
    atomic_fetch_add(&results[2], 1);
    if (depth > 0) {
        FIBER_OK(stel_go(tree, (void *)(depth - 1)));
        FIBER_OK(stel_sleep(STEL_MS(1)));
        FIBER_OK(stel_go(tree, (void *)(depth - 1)));
    }
    return 0;
}

START_TEST(auto_shutdown_waits_for_all) {
    stel_config c = config(2);
    c.auto_shutdown = 1;
    stel_runtime *rt = NULL;
    ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
    spawn(rt, tree, (void *)6, "tree", 0);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    ck_assert_int_eq(stel_runtime_wait(rt), 0);
    ck_assert_int_eq(atomic_load(&results[2]), 127);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

START_TEST(auto_shutdown_off) {
    stel_config c = config(2);
    stel_runtime *rt = started_with(&c);
    ck_assert_int_eq(result_of(spawn(rt, short_sleep, NULL, "only", 0)), 0);
    {
        STEL_TIMEOUT(STEL_MS(50));
        ck_assert_int_eq(stel_runtime_wait(rt), -ETIMEDOUT);
    }
    ck_assert(stel_runtime_is_running(rt));
    ck_assert_int_eq(result_of(spawn(rt, short_sleep, NULL, "another", 0)), 0);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* Background fibers keep nothing alive, and are cancelled when the counted ones have ended; not before. */
static int background(void *arg) {
    int rc = stel_sleep(STEL_FOREVER);
    FIBER_ASSERT(atomic_load((atomic_bool *)arg));
    return rc;
}
static int counted(void *arg) {
    FIBER_OK(stel_sleep(STEL_MS(30)));
    atomic_store((atomic_bool *)arg, true);
    return 0;
}
START_TEST(background_fibers) {
    stel_config c = config(2);
    c.auto_shutdown = 1;
    stel_runtime *rt = NULL;
    ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
    stel_fiber b = spawn(rt, background, &release, "background", STEL_BACKGROUND);
    spawn(rt, counted, &release, "counted", 0);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    ck_assert_int_eq(stel_runtime_wait(rt), 0);
    ck_assert_int_eq(result_of(b), -ECANCELED);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* Also in the grace of an ordinary stop. */
START_TEST(background_fibers_in_the_grace) {
    stel_config c = config(2);
    stel_runtime *rt = started_with(&c);
    stel_fiber b = spawn(rt, background, &release, "background", STEL_BACKGROUND);
    spawn(rt, counted, &release, "counted", 0);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0);
    ck_assert_int_eq(result_of(b), -ECANCELED);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* A runtime that waits for its first fiber does not stop for want of one. */
START_TEST(auto_shutdown_needs_a_first_fiber) {
    stel_config c = config(2);
    c.auto_shutdown = 1;
    stel_runtime *rt = started_with(&c);
    {
        STEL_TIMEOUT(STEL_MS(50));
        ck_assert_int_eq(stel_runtime_wait(rt), -ETIMEDOUT);
    }
    stel_fiber f = spawn(rt, short_sleep, NULL, "first", 0);
    ck_assert_int_eq(stel_runtime_wait(rt), 0);
    ck_assert_int_eq(result_of(f), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* R7: a stop at any moment of a busy life. */
static int busy(void *arg) {
    uint64_t state = (uintptr_t)arg;
    for (;;) {
        int rc = stel_sleep(STEL_US(test_random(&state, 200)));
        if (rc < 0) return rc;
        if (test_random(&state, 3) == 0 && stel_go(short_sleep, NULL) < 0) return -1;
        stel_yield();
    }
}
START_TEST(at_random_moments) {
    uint64_t state = test_seed();
    int fds = 0;
    for (uint64_t i = 0, n = test_scale(150); i < n; i++) {
        stel_config c = config(1 + (int)test_random(&state, 4));
        stel_runtime *rt = started_with(&c);
        for (int k = 0; k < 8; k++)
            ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, busy, (void *)(uintptr_t)(state + (unsigned)k)), 0);
        struct timespec t = { 0, (long)test_random(&state, 3000000) };
        nanosleep(&t, NULL);
        ck_assert_int_eq(stel_runtime_stop(rt, STEL_US(test_random(&state, 2000))), 0);
        ck_assert_uint_eq(stel_runtime_pending(rt), 0);
        ck_assert_int_eq(stel_runtime_destroy(rt), 0);
        if (i == 0) fds = test_open_descriptors();
    }
    ck_assert_int_eq(test_open_descriptors(), fds);
}
END_TEST

TEST_MAIN("runtime/stop", grace_is_given, grace_ends, many_are_cancelled, late_children, clean_up_is_waited_for,
          spawns_are_refused, accept_ends, survivors_are_named, hog_is_named, shutdown_from_inside,
          shutdown_progresses_alone, grace_only_shrinks, shutdown_during_start, auto_shutdown_waits_for_all,
          auto_shutdown_off, background_fibers, background_fibers_in_the_grace, auto_shutdown_needs_a_first_fiber,
          at_random_moments)
