/* stel_runtime_update_config: each setting that can change live does, each that cannot is refused by name, and a refused
 * call changes nothing. Also max_tasks_per_loop, which decides the order in which fibers run first. */
#include "check_fiber.h"
#include "poller/inside.h"
#include "sched/worker.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_bool release, arrived;

static stel_config config(int workers) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = workers;
    c.stall_ns = -1;
    return c;
}

static stel_runtime *started(const stel_config *c) {
    stel_runtime *rt = NULL;
    FIBER_OK(stel_runtime_create(&rt, c));
    FIBER_OK(stel_runtime_start(rt));
    return rt;
}

static void finish(stel_runtime *rt) {
    FIBER_OK(stel_runtime_stop(rt, 0));
    FIBER_OK(stel_runtime_destroy(rt));
}

static stel_config in_force(stel_runtime *rt) {
    stel_config c;
    FIBER_OK(stel_runtime_get_config(rt, &c));
    return c;
}

static int answer(void *arg) {
    return (int)(intptr_t)arg;
}
static int until_cancelled(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}

static int run_one(stel_runtime *rt, stel_fn *fn, void *arg) {
    stel_fiber f;
    int result = 0;
    FIBER_OK(stel_runtime_spawn(rt, &f, NULL, fn, arg));
    FIBER_OK(stel_join(f, &result));
    return result;
}

/* ---- what was said on stderr ---- */

static FILE *said;
static int saved_stderr;

static void listen_to_stderr(void) {
    ck_assert_ptr_nonnull(said = tmpfile());
    saved_stderr = dup(STDERR_FILENO);
    ck_assert_int_ge(dup2(fileno(said), STDERR_FILENO), 0);
}
static const char *heard(void) {
    static char text[4096];
    ssize_t n = pread(fileno(said), text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return text;
}
static void stop_listening(void) {
    ck_assert_int_ge(dup2(saved_stderr, STDERR_FILENO), 0);
    close(saved_stderr);
    fclose(said);
}

/* ---- refusals ---- */

START_TEST(what_cannot_change) {
    stel_config base = config(2);
    base.seed = 77;
    stel_runtime *rt = started(&base);
    stel_config before = in_force(rt), c;
    static const char *const members[] = { "backend", "worker_threads", "enable_cpu_affinity", "stack_guard_pages",
                                           "seed" };
    ck_assert_int_eq(stel_backend_register("another", &stel__epoll_ops), 0);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        c = before;
        c.io_budget = 99; /* would be fine alone */
        if (i == 0) memcpy(c.backend, "another", sizeof "another");
        if (i == 1) c.worker_threads = 3;
        if (i == 2) c.enable_cpu_affinity = 1;
        if (i == 3) c.stack_guard_pages = 2;
        if (i == 4) c.seed = 78;
        listen_to_stderr();
        int rc = stel_runtime_update_config(rt, &c);
        bool named = strstr(heard(), members[i]);
        stop_listening();
        ck_assert_int_eq(rc, -EBUSY);
        ck_assert(named);
        ck_assert_int_eq(in_force(rt).io_budget, before.io_budget);
    }
    listen_to_stderr(); /* each of them */
    c = before;
    c.worker_threads = 3;
    c.seed = 78;
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), -EBUSY);
    bool both = strstr(heard(), "worker_threads") && strstr(heard(), "seed");
    stop_listening();
    ck_assert(both);
    finish(rt);
}
END_TEST

START_TEST(codes) {
    stel_config base = config(2);
    stel_runtime *rt = started(&base);
    stel_config before = in_force(rt), c = before;
    ck_assert_int_eq(stel_runtime_update_config(rt, NULL), -EINVAL);
    ck_assert_int_eq(stel_runtime_update_config(NULL, &c), -EINVAL);
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0); /* nothing differs */
    c.max_fibers = 10;
    c.io_batch = 4097;
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), -EINVAL);
    ck_assert_uint_eq(in_force(rt).max_fibers, before.max_fibers);
    c.io_batch = 8;
    c.size = 0;
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), -EINVAL);
    c.size = sizeof c;
    memcpy(c.backend, "epoll", sizeof "epoll"); /* which is what "auto" has become */
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    ck_assert_uint_eq(in_force(rt).max_fibers, 10);
    ck_assert_int_eq(in_force(rt).io_batch, 8);
    /* Zeros are defaults, and whatever chance has chosen stays. */
    memset(&c, 0, sizeof c);
    c.size = sizeof c;
    c.worker_threads = 2;
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    ck_assert_int_eq(in_force(rt).io_batch, 32);
    ck_assert_uint_eq(in_force(rt).stack_bytes, before.stack_bytes);
    ck_assert_uint_eq(in_force(rt).seed, before.seed);
    ck_assert_int_eq(in_force(rt).auto_shutdown, -1);
    finish(rt);
}
END_TEST

/* They hold in the next life as well, and may be changed between two. */
START_TEST(over_a_restart) {
    stel_config c = config(2);
    stel_runtime *rt = started(&c);
    c.max_fibers = 3;
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
        ck_assert_int_eq(stel_runtime_restart(rt), 0);
        for (unsigned k = 0; k < c.max_fibers; k++)
            ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, until_cancelled, NULL), 0);
        ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, until_cancelled, NULL), -EAGAIN);
        ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
        c.max_fibers = 5;
        ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
        ck_assert_int_eq(stel_runtime_restart(rt), 0);
    }
    finish(rt);
}
END_TEST

/* ---- one by one ---- */

START_TEST(max_fibers) {
    stel_config c = config(2);
    stel_runtime *rt = started(&c);
    for (unsigned most = 4; most <= 8; most += 4) {
        c.max_fibers = most;
        ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
        while (stel_runtime_pending(rt) < most)
            ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, until_cancelled, NULL), 0);
        ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, until_cancelled, NULL), -EAGAIN);
    }
    finish(rt);
}
END_TEST

START_TEST(auto_shutdown) {
    stel_config c = config(2);
    stel_runtime *rt = started(&c);
    c.auto_shutdown = 1;
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    c.auto_shutdown = -1; /* and off again: no fiber was there to end */
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    ck_assert_int_eq(run_one(rt, answer, (void *)1), 1);
    {
        STEL_TIMEOUT(STEL_MS(30));
        ck_assert_int_eq(stel_runtime_wait(rt), -ETIMEDOUT);
    }
    c.auto_shutdown = 1; /* everybody is asleep, and nobody left: at once */
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    ck_assert_int_eq(stel_runtime_wait(rt), 0);
    ck_assert_int_eq(stel_runtime_restart(rt), 0);
    stel_fiber f;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, until_cancelled, NULL), 0);
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    ck_assert_int_eq(stel_cancel(f), 0); /* the last one ends */
    ck_assert_int_eq(stel_runtime_wait(rt), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

static int stubborn(void *arg) {
    (void)arg;
    atomic_store(&arrived, true);
    while (!atomic_load(&release))
        stel_yield();
    return 3;
}
START_TEST(stop_timeout) {
    stel_config c = config(1);
    c.stop_timeout_ns = STEL_FOREVER;
    stel_runtime *rt = started(&c);
    ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, stubborn, NULL), 0);
    EVENTUALLY(atomic_load(&arrived));
    c.stop_timeout_ns = STEL_MS(5);
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), -EBUSY);
    atomic_store(&release, true);
    finish(rt);
}
END_TEST

static atomic_int asked_for;
static int counting_wait(void *instance, stel_backend_event *events, int n, int64_t until) {
    atomic_store(&asked_for, n);
    return stel__epoll_ops.wait(instance, events, n, until);
}
static int polls(void *arg) {
    int want = (int)(intptr_t)arg, pair[2];
    char byte;
    FIBER_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    do { /* a poll that was on already asks for what it was told then */
        STEL_TIMEOUT(STEL_MS(1));
        FIBER_ASSERT_EQ(stel_recv(pair[0], &byte, 1, 0), -ETIMEDOUT);
    } while (atomic_load(&asked_for) != want);
    FIBER_OK(stel_close(pair[0]));
    return stel_close(pair[1]);
}
START_TEST(io_batch) {
    static stel_backend_ops counting;
    counting = stel__epoll_ops;
    counting.wait = counting_wait;
    ck_assert_int_eq(stel_backend_register("counting", &counting), 0);
    stel_config c = config(2);
    memcpy(c.backend, "counting", sizeof "counting");
    stel_runtime *rt = started(&c);
    static const int sizes[] = { 32, 1, 100, 4096, 2 };
    for (int i = 0; i < 5; i++) {
        c.io_batch = sizes[i];
        ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
        ck_assert_int_eq(run_one(rt, polls, (void *)(intptr_t)sizes[i]), 0);
    }
    finish(rt);
}
END_TEST

static atomic_bool other_ran;
static int other(void *arg) {
    (void)arg;
    atomic_store(&other_ran, true);
    return 0;
}
/* How many calls in a row that need not wait go by before another fiber has its turn. */
static int calls_in_a_row(void *arg) {
    int pair[2], n = 0;
    char byte = 0;
    (void)arg;
    FIBER_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    FIBER_OK(stel_sleep(1)); /* nothing spent yet */
    atomic_store(&other_ran, false);
    FIBER_OK(stel_go(other, NULL));
    for (; !atomic_load(&other_ran); n++)
        FIBER_ASSERT_EQ(stel_send(pair[0], &byte, 1, 0), 1);
    FIBER_OK(stel_close(pair[0]));
    FIBER_OK(stel_close(pair[1]));
    return n;
}
START_TEST(io_budget) {
    stel_config c = config(1);
    c.io_budget = 3;
    stel_runtime *rt = started(&c);
    int few = run_one(rt, calls_in_a_row, NULL);
    c.io_budget = 50;
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    int many = run_one(rt, calls_in_a_row, NULL);
    ck_assert_int_le(few, 4);
    ck_assert_int_ge(many, 40);
    finish(rt);
}
END_TEST

static int hog(void *arg) {
    (void)arg;
    FIBER_OK(stel_set_name("hog"));
    int64_t give_up = stel_after(STEL_SEC(60));
    while (!strstr(heard(), "\"hog\""))
        for (int64_t until = stel_after(STEL_MS(1)); stel_now() < until;)
            if (stel_now() > give_up) return 1;
    return 0;
}
START_TEST(stall_reports) {
    stel_config c = config(1);
    stel_runtime *rt = started(&c); /* off */
    c.stall_ns = STEL_MS(3);
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    listen_to_stderr();
    int result = run_one(rt, hog, NULL);
    stop_listening();
    ck_assert_int_eq(result, 0);
    finish(rt);
}
END_TEST

static int uses_much_stack(void *arg) {
    volatile char frame[700 << 10];
    (void)arg;
    for (size_t i = 0; i < sizeof frame; i += 512)
        frame[i] = (char)i;
    return frame[512];
}
static int tells_cache_limit(void *arg) {
    (void)arg;
    return (int)stel__load_relaxed(&stel__worker_self()->stacks.limit); /* no partner: a setting */
}
START_TEST(stacks) {
    stel_config c = config(2);
    stel_runtime *rt = started(&c);
    ck_assert_int_eq(run_one(rt, tells_cache_limit, NULL), 64);
    c.stack_bytes = 1 << 20;
    c.stack_cache = 7;
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    ck_assert_int_eq(run_one(rt, uses_much_stack, NULL), 0);
    ck_assert_int_eq(run_one(rt, tells_cache_limit, NULL), 7);
    finish(rt);
}
END_TEST

/* ---- max_tasks_per_loop ---- */

static int order[16];
static int places;
static int notes_its_turn(void *arg) {
    order[places++] = (int)(intptr_t)arg;
    return 0;
}
static int spawns_ten(void *arg) {
    (void)arg;
    places = 0;
    for (intptr_t i = 1; i <= 10; i++)
        FIBER_OK(stel_go(notes_its_turn, (void *)i));
    while (places < 10)
        stel_yield();
    return 0;
}
START_TEST(max_tasks_per_loop) {
    static const int newest_first[] = { 10, 9, 8, 7, 6, 5, 4, 3, 2, 1 },
                     three_kept[] = { 3, 2, 1, 4, 5, 6, 7, 8, 9, 10 };
    stel_config c = config(1);
    stel_runtime *rt = started(&c);
    for (int round = 0; round < 4; round++) {
        c.max_tasks_per_loop = round % 2 ? 3 : 0;
        ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
        ck_assert_int_eq(stel_runtime_restart(rt), 0); /* the look around comes at the same places */
        ck_assert_int_eq(run_one(rt, spawns_ten, NULL), 0);
        ck_assert_int_eq(memcmp(order, round % 2 ? three_kept : newest_first, sizeof newest_first), 0);
    }
    finish(rt);
}
END_TEST

static atomic_int met;
/* All are there at once: each needs a worker of its own. */
static int meets(void *arg) {
    atomic_fetch_add(&met, 1);
    int64_t give_up = stel_after(STEL_SEC(60));
    while (atomic_load(&met) < (int)(intptr_t)arg)
        if (stel_now() > give_up) return 1;
    return 0;
}
/* What goes beyond one worker's bound is picked up by the others. */
static int spawns_for_others(void *arg) {
    stel_fiber f[3];
    int result = 0, sum = 0;
    for (int i = 0; i < 3; i++)
        FIBER_OK(stel_spawn(&f[i], meets, arg));
    sum = meets(arg);
    for (int i = 0; i < 3; i++) {
        FIBER_OK(stel_join(f[i], &result));
        sum += result;
    }
    return sum;
}
START_TEST(beyond_the_bound) {
    stel_config c = config(4);
    c.max_tasks_per_loop = 1;
    for (uint64_t i = 0, n = test_scale(50); i < n; i++) {
        stel_runtime *rt = started(&c);
        atomic_store(&met, 0);
        ck_assert_int_eq(run_one(rt, spawns_for_others, (void *)4), 0);
        finish(rt);
    }
}
END_TEST

/* ---- while others read ---- */

static int tree(void *arg) {
    intptr_t depth = (intptr_t)arg;
    stel_fiber f[2];
    if (depth == 0) return 0;
    for (int i = 0; i < 2; i++)
        FIBER_OK(stel_spawn(&f[i], tree, (void *)(depth - 1)));
    for (int i = 0; i < 2; i++)
        FIBER_OK(stel_join(f[i], NULL));
    return stel_sleep(1);
}
static void *runs_trees(void *rt) {
    for (uint64_t i = 0, n = test_scale(60); i < n; i++)
        FIBER_ASSERT_EQ(run_one(rt, tree, (void *)6), 0);
    atomic_store(&release, true);
    return NULL;
}
START_TEST(under_load) {
    stel_config c = config(3);
    stel_runtime *rt = started(&c);
    uint64_t state = test_seed();
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, runs_trees, rt), 0);
    do {
        c.max_tasks_per_loop = (int)test_random(&state, 4);
        c.io_budget = 1 + (int)test_random(&state, 20);
        c.io_batch = 1 + (int)test_random(&state, 100);
        c.stack_cache = 1 + (int)test_random(&state, 10);
        c.stack_bytes = (size_t)(64 << 10) << test_random(&state, 3);
        c.max_fibers = 1000 + test_random(&state, 1000);
        c.stall_ns = STEL_SEC(1 + test_random(&state, 10));
        ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    } while (!atomic_load(&release));
    pthread_join(thread, NULL);
    finish(rt);
}
END_TEST

TEST_MAIN("runtime/update_config", what_cannot_change, codes, over_a_restart, max_fibers, auto_shutdown, stop_timeout,
          io_batch, io_budget, stall_reports, stacks, max_tasks_per_loop, beyond_the_bound, under_load)
