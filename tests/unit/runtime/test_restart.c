/* stel_runtime_restart: a new life in the same runtime, what goes over into it and what does not, every code, starts that
 * fail, many restarts under load, and calls of all kinds at the same time. */
#include "check_fiber.h"
#include "host/fault.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static atomic_bool release, arrived, over;

static stel_config config(int workers) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = workers;
    c.stop_timeout_ns = STEL_SEC(60);
    c.stall_ns = -1;
    return c;
}

static stel_runtime *made(const stel_config *c) {
    stel_runtime *rt = NULL;
    FIBER_OK(stel_runtime_create(&rt, c));
    return rt;
}

static stel_runtime *started(int workers) {
    stel_config c = config(workers);
    stel_runtime *rt = made(&c);
    FIBER_OK(stel_runtime_start(rt));
    return rt;
}

static void finish(stel_runtime *rt) {
    FIBER_OK(stel_runtime_stop(rt, 0));
    FIBER_OK(stel_runtime_destroy(rt));
}

static int answer(void *arg) {
    return (int)(intptr_t)arg;
}
static int until_cancelled(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}

/* With a short stop_timeout, which is the grace, fibers that were cancelled may need longer on a busy machine. */
static void restart_patiently(stel_runtime *rt) {
    int rc;
    while ((rc = stel_runtime_restart(rt)) == -EBUSY)
        check_fiber_nap();
    FIBER_OK(rc);
}

/* It runs: a fiber goes in, and its result comes out. */
static void expect_alive(stel_runtime *rt) {
    stel_fiber f = 0;
    int result = 0;
    FIBER_ASSERT(stel_runtime_is_running(rt));
    FIBER_OK(stel_runtime_spawn(rt, &f, NULL, answer, (void *)42));
    FIBER_OK(stel_join(f, &result));
    FIBER_ASSERT_EQ(result, 42);
}

static stel_stats stats(stel_runtime *rt) {
    stel_stats s;
    FIBER_OK(stel_runtime_stats(rt, &s));
    return s;
}

START_TEST(after_a_stop) {
    stel_runtime *rt = started(2);
    stel_config before, after;
    stel_worker_stats w;
    stel_fiber ended = 0;
    ck_assert_int_eq(stel_runtime_get_config(rt, &before), 0);
    for (int i = 0; i < 10; i++)
        expect_alive(rt);
    ck_assert_int_eq(stel_runtime_spawn(rt, &ended, NULL, answer, NULL), 0);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0);
    stel_stats old = stats(rt);
    ck_assert_uint_eq(old.total_tasks_executed, 11);
    ck_assert_int_eq(stel_runtime_restart(rt), 0);
    ck_assert_int_eq(stel_try_join(ended, NULL), -ESRCH); /* a handle of the old life */
    stel_stats fresh = stats(rt);
    ck_assert_uint_eq(fresh.total_tasks_executed, 0);
    ck_assert_uint_eq(fresh.spawned, 0);
    ck_assert_int_ge(fresh.start_time, old.start_time);
    ck_assert_int_eq(fresh.worker_count, 2);
    expect_alive(rt);
    ck_assert_uint_eq(stats(rt).total_tasks_executed, 1);
    ck_assert_int_eq(stel_runtime_worker_stats(rt, 1, &w), 0);
    ck_assert_int_eq(stel_runtime_get_config(rt, &after), 0);
    ck_assert_uint_eq(before.seed, after.seed);
    ck_assert_uint_eq(before.stack_bytes, after.stack_bytes);
    ck_assert_int_eq(before.worker_threads, after.worker_threads);
    ck_assert_int_eq(stel_runtime_start(rt), -EINVAL);
    finish(rt);
}
END_TEST

START_TEST(of_a_running_one) {
    stel_config c = config(2);
    c.stop_timeout_ns = STEL_MS(20);
    stel_runtime *rt = made(&c);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    for (int i = 0; i < 3; i++) {
        stel_fiber f[8];
        for (int k = 0; k < 8; k++)
            ck_assert_int_eq(stel_runtime_spawn(rt, &f[k], NULL, until_cancelled, NULL), 0);
        int64_t before = stel_now();
        restart_patiently(rt);
        ck_assert_int_ge(stel_now() - before, STEL_MS(20)); /* the grace */
        for (int k = 0; k < 8; k++)
            ck_assert_int_eq(stel_cancel(f[k]), -ESRCH);
        ck_assert_uint_eq(stel_runtime_pending(rt), 0);
        expect_alive(rt);
    }
    finish(rt);
}
END_TEST

/* With auto_shutdown: each life ends by itself. */
START_TEST(of_one_that_ends_by_itself) {
    stel_config c = config(2);
    c.auto_shutdown = 1;
    stel_runtime *rt = made(&c);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    for (int i = 0; i < 5; i++) {
        stel_fiber f = 0;
        ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, answer, NULL), 0);
        ck_assert_int_eq(stel_runtime_wait(rt), 0);
        ck_assert(!stel_runtime_is_running(rt));
        ck_assert_int_eq(stel_runtime_restart(rt), 0);
    }
    finish(rt);
}
END_TEST

/* ---- codes ---- */

static int restarts_itself(void *arg) {
    (void)arg;
    return stel_runtime_restart(stel_runtime_current());
}
static int restarts_another(void *arg) {
    int rc = stel_runtime_restart(arg);
    return rc < 0 ? rc : stel_worker_id() >= 0;
}
static int stubborn(void *arg) {
    (void)arg;
    atomic_store(&arrived, true);
    while (!atomic_load(&release))
        stel_yield();
    return 3;
}

START_TEST(codes) {
    stel_config c = config(2);
    c.stop_timeout_ns = STEL_MS(10);
    stel_runtime *rt = made(&c);
    ck_assert_int_eq(stel_runtime_restart(NULL), -EINVAL);
    ck_assert_int_eq(stel_runtime_restart(rt), -EINVAL);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    stel_fiber f;
    int result = 0;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, restarts_itself, NULL), 0);
    ck_assert_int_eq(stel_join(f, &result), 0);
    ck_assert_int_eq(result, -EDEADLK);
    /* Fibers that would not end: it is left as it is, and may be restarted when they have. */
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, stubborn, NULL), 0);
    EVENTUALLY(atomic_load(&arrived));
    ck_assert_int_eq(stel_runtime_restart(rt), -EBUSY);
    ck_assert(stel_runtime_is_running(rt));
    ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, answer, NULL), -ESHUTDOWN);
    {
        STEL_TIMEOUT(0);
        ck_assert_int_eq(stel_runtime_restart(rt), -ETIMEDOUT);
    }
    c.stop_timeout_ns = STEL_SEC(60);
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    {
        STEL_TIMEOUT(STEL_MS(2));
        ck_assert_int_eq(stel_runtime_restart(rt), -ETIMEDOUT);
    }
    atomic_store(&release, true);
    ck_assert_int_eq(stel_join(f, &result), 0);
    ck_assert_int_eq(result, 3);
    ck_assert_int_eq(stel_runtime_restart(rt), 0);
    expect_alive(rt);
    /* From a fiber of another runtime. */
    ck_assert_int_eq(run_in_runtime(2, restarts_another, rt), 1);
    expect_alive(rt);
    finish(rt);
}
END_TEST

static void *restart_it(void *rt) {
    FIBER_ASSERT_EQ(stel_runtime_restart(rt), -EINVAL);
    return NULL;
}
static int lets_it_be_restarted(void *arg) {
    pthread_t thread;
    (void)arg;
    FIBER_ASSERT_EQ(pthread_create(&thread, NULL, restart_it, stel_runtime_current()), 0);
    pthread_join(thread, NULL);
    return 5;
}
START_TEST(the_runtime_of_stel_run) {
    ck_assert_int_eq(stel_run(lets_it_be_restarted, NULL), 5);
}
END_TEST

static int waits_for_it(void *rt) {
    return stel_runtime_wait(rt);
}
static void *wait_for_it(void *rt) {
    return (void *)(intptr_t)stel_runtime_wait(rt);
}
START_TEST(who_waits_learns_of_the_end) {
    stel_runtime *rt = started(2), *other = started(1);
    pthread_t thread;
    void *result = NULL;
    stel_fiber f;
    int code = 1;
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_it, rt), 0);
    ck_assert_int_eq(stel_runtime_spawn(other, &f, NULL, waits_for_it, rt), 0);
    /* Whether they wait already or not yet: to wait for a runtime that runs on would take for ever. */
    for (int i = 0; i < 3 || stel_runtime_pending(other) > 0; i++) {
        ck_assert_int_eq(stel_runtime_restart(rt), 0);
        check_fiber_nap();
    }
    ck_assert_int_eq(stel_join(f, &code), 0);
    ck_assert_int_eq(code, 0);
    for (;;) { /* as above */
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_nsec = (soon.tv_nsec + 1000000) % 1000000000;
        if (pthread_timedjoin_np(thread, &result, &soon) == 0) break;
        ck_assert_int_eq(stel_runtime_restart(rt), 0);
    }
    ck_assert_ptr_null(result);
    finish(rt);
    finish(other);
}
END_TEST

/* ---- descriptors ---- */

static atomic_int accepted[2];
static int listener;

static int accepts(void *arg) {
    atomic_int *code = arg;
    int fd = stel_accept(listener, NULL, NULL);
    atomic_store(code, fd);
    return fd < 0 ? fd : stel_close(fd);
}

static int client_of(int server) {
    struct sockaddr_in at;
    socklen_t bytes = sizeof at;
    FIBER_ASSERT_EQ(getsockname(server, (struct sockaddr *)&at, &bytes), 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    FIBER_ASSERT(fd >= 0);
    FIBER_ASSERT_EQ(connect(fd, (struct sockaddr *)&at, bytes), 0);
    return fd;
}

START_TEST(listeners_listen_on) {
    stel_runtime *rt = started(2);
    stel_fiber f;
    listener = stel_listen("127.0.0.1:0", 16);
    ck_assert_int_ge(listener, 0);
    for (int i = 0; i < 5; i++) {
        atomic_store(&accepted[0], 0);
        ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, accepts, &accepted[0]), 0);
        if (i % 2) check_fiber_nap(); /* parked by then, or not */
        ck_assert_int_eq(stel_runtime_restart(rt), 0);
        ck_assert_int_eq(atomic_load(&accepted[0]), -ESHUTDOWN);
        ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
        int early = client_of(listener); /* while nobody accepts */
        ck_assert_int_eq(stel_runtime_restart(rt), 0);
        for (int k = 0; k < 2; k++) {
            int result = -1;
            ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, accepts, &accepted[1]), 0);
            int late = k ? client_of(listener) : -1;
            ck_assert_int_eq(stel_join(f, &result), 0);
            ck_assert_int_eq(result, 0);
            if (late >= 0) close(late);
        }
        close(early);
    }
    ck_assert_int_eq(stel_close(listener), 0);
    finish(rt);
}
END_TEST

static int ends[2];
static int reads_one(void *arg) {
    char c = 0;
    (void)arg;
    atomic_store(&arrived, true);
    ssize_t n = stel_read(ends[0], &c, 1);
    return n == 1 ? c : (int)n;
}

/* A number that the old poller knew is registered with the new one; a fiber of another runtime that waits on it, or on the
 * poller that goes away, is not forgotten. */
START_TEST(descriptors_go_over) {
    stel_config c = config(2);
    c.stop_timeout_ns = STEL_MS(5);
    stel_runtime *rt = made(&c), *other = started(1);
    stel_fiber mine, theirs;
    int result = 0;
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    ck_assert_int_eq(pipe(ends), 0);
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(stel_runtime_spawn(rt, &mine, NULL, reads_one, NULL), 0);
        if (i % 2) {
            EVENTUALLY(atomic_load(&arrived));
            ck_assert_int_eq(stel_runtime_spawn(other, &theirs, NULL, reads_one, NULL), 0);
            check_fiber_nap();
        }
        restart_patiently(rt); /* mine was cancelled */
        if (i % 2) {
            ck_assert_int_eq(write(ends[1], "b", 1), 1);
            ck_assert_int_eq(stel_join(theirs, &result), 0);
            ck_assert_int_eq(result, 'b');
        }
        atomic_store(&arrived, false);
        ck_assert_int_eq(stel_runtime_spawn(rt, &mine, NULL, reads_one, NULL), 0);
        EVENTUALLY(atomic_load(&arrived));
        if (i % 3) check_fiber_nap();
        ck_assert_int_eq(write(ends[1], "a", 1), 1);
        ck_assert_int_eq(stel_join(mine, &result), 0);
        ck_assert_int_eq(result, 'a');
        atomic_store(&arrived, false);
    }
    finish(rt);
    finish(other);
}
END_TEST

/* ---- starts that fail ---- */

START_TEST(no_means_to_start_again) {
    static const struct {
        enum stel__fault_kind kind;
        int error;
    } sites[] = {
        { STEL__FAULT_ALLOC, ENOMEM },     { STEL__FAULT_EPOLL_CREATE1, EMFILE },  { STEL__FAULT_EVENTFD, ENFILE },
        { STEL__FAULT_EPOLL_CTL, ENOMEM }, { STEL__FAULT_PTHREAD_CREATE, EAGAIN },
    };
    stel_runtime *rt = started(3);
    for (int i = 0; i < 20; i++)
        expect_alive(rt);
    ck_assert_int_eq(stel_runtime_restart(rt), 0);
    int fds = test_open_descriptors();
    for (size_t i = 0; i < sizeof sites / sizeof sites[0]; i++)
        for (uint64_t nth = 1, calls = nth; calls >= nth; nth++) {
            ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
            uint64_t executed = stats(rt).total_tasks_executed;
            stel__fault_set(sites[i].kind, nth, sites[i].error, nth % 2);
            int rc = stel_runtime_restart(rt);
            calls = stel__fault_calls(sites[i].kind);
            stel__fault_clear();
            if (rc == 0) continue;
            ck_assert_int_eq(rc, -sites[i].error);
            ck_assert(!stel_runtime_is_running(rt));
            ck_assert_int_eq(stel_runtime_wait(rt), 0);
            ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, answer, NULL), -ESHUTDOWN);
            ck_assert_uint_eq(stats(rt).total_tasks_executed, executed); /* the old life is still there */
            EVENTUALLY(test_library_threads() == 0);
            ck_assert_int_eq(stel_runtime_restart(rt), 0);
            ck_assert_int_eq(test_open_descriptors(), fds);
            expect_alive(rt);
        }
    /* And destroyed after one that failed. */
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    stel__fault_set(STEL__FAULT_PTHREAD_CREATE, 2, EAGAIN, false);
    ck_assert_int_eq(stel_runtime_restart(rt), -EAGAIN);
    stel__fault_clear();
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* ---- many, under load ---- */

static int busy(void *arg) {
    uint64_t state = (uintptr_t)arg;
    for (;;) {
        int rc = stel_sleep(STEL_US(test_random(&state, 200)));
        if (rc < 0) return rc;
        if (test_random(&state, 3) == 0 && stel_go(answer, NULL) < 0) return -1;
        stel_yield();
    }
}

static int lines_of_maps(void) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    int n = 0;
    FIBER_ASSERT(f);
    while (fgets(line, sizeof line, f))
        n++;
    fclose(f);
    return n;
}

START_TEST(a_hundred_times) {
    stel_config c = config(3);
    c.stop_timeout_ns = STEL_SEC(60);
    stel_runtime *rt = made(&c);
    uint64_t state = test_seed();
    int fds = 0, maps = 0;
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    for (uint64_t i = 0, n = 10 + test_scale(100); i < n; i++) {
        for (int k = 0; k < 12; k++)
            ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, busy, (void *)(uintptr_t)(state + (unsigned)k)), 0);
        if (test_random(&state, 2)) {
            struct timespec t = { 0, (long)test_random(&state, 2000000) };
            nanosleep(&t, NULL);
        }
        ck_assert_int_eq(stel_runtime_stop(rt, STEL_US(test_random(&state, 500))), 0);
        ck_assert_int_eq(stel_runtime_restart(rt), 0);
        EVENTUALLY(test_library_threads() == 4);
        if (i == 9) {
            fds = test_open_descriptors();
            maps = lines_of_maps();
        }
    }
    ck_assert_int_eq(test_open_descriptors(), fds);
    ck_assert_int_le(lines_of_maps(), maps + 30); /* libc's arenas come and go; a leak is a line a restart */
    finish(rt);
}
END_TEST

/* ---- at the same time ---- */

typedef struct crowd {
    stel_runtime *rt;
    int restarts; /* how often, by each who restarts */
    atomic_int done, restarted;
} crowd;

static void *restarting(void *arg) {
    crowd *c = arg;
    for (int i = 0; i < c->restarts; i++) {
        int rc = stel_runtime_restart(c->rt);
        FIBER_ASSERT(rc == 0 || rc == -EBUSY); /* another one was on */
        if (rc == 0) atomic_fetch_add(&c->restarted, 1);
        if (rc == -EBUSY) sched_yield();
    }
    atomic_fetch_add(&c->done, 1);
    return NULL;
}
static void *stopping(void *arg) {
    crowd *c = arg;
    for (unsigned i = 0; !atomic_load(&over); i++) {
        FIBER_OK(i % 2 ? stel_runtime_stop(c->rt, 0) : stel_runtime_wait(c->rt));
        check_fiber_nap();
    }
    return NULL;
}
static void *spawning(void *arg) {
    crowd *c = arg;
    while (!atomic_load(&over)) {
        stel_fiber f = 0;
        int result = 1, rc = stel_runtime_spawn(c->rt, &f, NULL, answer, NULL);
        FIBER_ASSERT(rc == 0 || rc == -ESHUTDOWN);
        if (rc < 0) continue;
        rc = stel_join(f, &result);
        FIBER_ASSERT(rc == 0 || rc == -ESRCH); /* its life was over by then */
        FIBER_ASSERT(rc < 0 || result == 0);
    }
    return NULL;
}
static void *looking(void *arg) {
    crowd *c = arg;
    while (!atomic_load(&over)) {
        stel_stats s;
        stel_worker_stats w;
        stel_config config_now;
        FIBER_OK(stel_runtime_stats(c->rt, &s));
        FIBER_OK(stel_runtime_worker_stats(c->rt, 1, &w));
        FIBER_OK(stel_runtime_get_config(c->rt, &config_now));
        FIBER_OK(stel_runtime_update_config(c->rt, &config_now));
        FIBER_ASSERT(stel_runtime_pending(c->rt) < 100);
        FIBER_ASSERT(s.peak_active_tasks < 100);
        (void)stel_runtime_is_running(c->rt);
    }
    return NULL;
}
static void *destroying(void *arg) {
    crowd *c = arg;
    while (!atomic_load(&over))
        FIBER_ASSERT_EQ(stel_runtime_destroy(c->rt), -EBUSY);
    return NULL;
}

static void all_at_once(void *(*const *who)(void *), int n, crowd *c, int restarters) {
    pthread_t threads[8];
    c->rt = started(2);
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, who[i], c), 0);
    EVENTUALLY(atomic_load(&c->done) == restarters);
    atomic_store(&over, true);
    while (stel_runtime_stop(c->rt, 0) != 0) /* those who still wait for the end */
        check_fiber_nap();
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_gt(atomic_load(&c->restarted), 0);
    ck_assert_int_eq(stel_runtime_restart(c->rt), 0);
    expect_alive(c->rt);
    finish(c->rt);
}

START_TEST(everybody_at_once) {
    static void *(*const who[])(void *) = { restarting, restarting, stopping, stopping, spawning, looking };
    crowd c = { .restarts = (int)test_scale(150) };
    all_at_once(who, 6, &c, 2);
}
END_TEST

/* While it runs, or is being restarted, it cannot be destroyed. */
START_TEST(destroy_is_refused) {
    static void *(*const who[])(void *) = { restarting, spawning, destroying };
    crowd c = { .restarts = (int)test_scale(100) };
    pthread_t threads[3];
    c.rt = started(2);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, who[i], &c), 0);
    EVENTUALLY(atomic_load(&c.done) == 1);
    atomic_store(&over, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    finish(c.rt);
}
END_TEST

/* Who learns of the end may destroy at once, while the one who asked for it has not yet returned. */
static void *stop_it(void *rt) {
    return (void *)(intptr_t)stel_runtime_stop(rt, 0);
}
START_TEST(who_waits_may_destroy) {
    for (uint64_t i = 0, n = test_scale(200); i < n; i++) {
        stel_runtime *rt = started(1);
        pthread_t thread;
        void *result = NULL;
        ck_assert_int_eq(pthread_create(&thread, NULL, stop_it, rt), 0);
        ck_assert_int_eq(stel_runtime_wait(rt), 0); /* so the stop has begun */
        ck_assert_int_eq(stel_runtime_destroy(rt), 0);
        pthread_join(thread, &result);
        ck_assert_ptr_null(result);
    }
}
END_TEST

TEST_MAIN("runtime/restart", after_a_stop, of_a_running_one, of_one_that_ends_by_itself, codes, the_runtime_of_stel_run,
          who_waits_learns_of_the_end, listeners_listen_on, descriptors_go_over, no_means_to_start_again,
          a_hundred_times, everybody_at_once, destroy_is_refused, who_waits_may_destroy)
