/* Modes: the runtime's life: which backend it has, its idleness, workers that are held up, stop, restart, several. */
#include "conformance.h"
#include <sys/resource.h>

static stel_fiber spawn(stel_fn *fn, void *arg) {
    stel_fiber f;
    FIBER_OK(stel_spawn(&f, fn, arg));
    return f;
}

static void *number(int fd) {
    return (void *)(intptr_t)fd;
}

static int echo(void *arg) {
    int fd = (int)(intptr_t)arg;
    char buffer[64];
    for (ssize_t n;;) {
        n = stel_read(fd, buffer, sizeof buffer);
        if (n <= 0) return (int)n;
        int rc = stel_write_all(fd, buffer, (size_t)n, NULL);
        if (rc < 0) return rc;
    }
}

static int talk(int fd, int rounds) {
    char out[32] = "a line of thirty-two characters", in[32];
    for (int i = 0; i < rounds; i++) {
        int rc = stel_write_all(fd, out, sizeof out, NULL);
        if (rc == 0) rc = stel_read_full(fd, in, sizeof in, NULL);
        if (rc < 0) return rc;
        FIBER_ASSERT(memcmp(in, out, sizeof in) == 0);
    }
    return 0;
}

static int say_what_is_used(void *arg) {
    stel_stats *s = arg;
    return stel_runtime_stats(stel_runtime_current(), s);
}

RULE(said, "The statistics name the backend and the mode that were asked for, and the reason.") {
    stel_stats s = { 0 };
    run(1, say_what_is_used, &s);
    FIBER_ASSERT(strcmp(s.backend_type, it.backend) == 0);
    FIBER_ASSERT_EQ(s.poller_mode, it.mode);
    FIBER_ASSERT(strncmp(s.backend_reason, "asked for", 9) == 0);
}

/* ---- idle ---- */

static int wait_idly(void *arg) {
    int *fds = arg;
    FIBER_OK(talk(fds[0], 5));
    struct rusage before, after;
    stel_fiber f[2] = { spawn(echo, number(fds[2])), spawn(echo, number(fds[4])) };
    AWAIT_PARKED(fds[2], 1);
    AWAIT_PARKED(fds[4], 1);
    FIBER_ASSERT_EQ(getrusage(RUSAGE_SELF, &before), 0);
    FIBER_OK(stel_sleep(STEL_MS(250)));
    FIBER_ASSERT_EQ(getrusage(RUSAGE_SELF, &after), 0);
    int64_t us = (after.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_utime.tv_sec - before.ru_stime.tv_sec) *
                     INT64_C(1000000) +
                 after.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_utime.tv_usec - before.ru_stime.tv_usec;
    FIBER_ASSERT(us < 125000); /* a worker that goes round in circles would have used twice that */
    for (int i = 0; i < 2; i++) {
        FIBER_OK(stel_cancel(f[i]));
        FIBER_ASSERT_EQ(join(f[i]), -ECANCELED);
    }
    return stel_close(fds[0]);
}

static int idle(void *arg) {
    int fds[6];
    (void)arg;
    for (int i = 0; i < 6; i += 2)
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds + i), 0);
    stel_fiber peer = spawn(echo, number(fds[1]));
    FIBER_ASSERT_EQ(wait_idly(fds), 0);
    FIBER_ASSERT_EQ(join(peer), 0);
    for (int i = 1; i < 6; i++)
        FIBER_OK(stel_close(fds[i]));
    return 0;
}

RULE(idle_is_asleep, "Workers whose fibers all wait use no CPU.") {
    run(2, idle, NULL);
}

static int at_once(void *arg) {
    return ++*(int *)arg;
}

RULE(woken_from_outside, "An idle runtime runs at once what a plain thread spawns.") {
    stel_config c = configured(2);
    stel_runtime *rt;
    int count = 0;
    FIBER_OK(stel_runtime_create(&rt, &c));
    FIBER_OK(stel_runtime_start(rt));
    int rounds = (int)test_scale(300);
    for (int i = 0; i < rounds; i++) {
        stel_fiber f;
        FIBER_OK(stel_runtime_spawn(rt, &f, NULL, at_once, &count));
        FIBER_ASSERT_EQ(join(f), i + 1);
        if (i % 10 == 0) check_fiber_nap(); /* they are asleep again */
    }
    FIBER_OK(stel_runtime_stop(rt, 0));
    FIBER_OK(stel_runtime_destroy(rt));
}

/* ---- workers that are held up ---- */

typedef struct hog {
    _Atomic bool held, enough;
    int fds[2];
    int worker; /* which is held */
} hog;

static int hold_the_worker(void *arg) {
    hog *h = arg;
    FIBER_ASSERT_EQ(stel_worker_id(), h->worker);
    atomic_store(&h->held, true);
    while (!atomic_load(&h->enough)) {
        /* it does not yield */
    }
    return 0;
}

static int talk_beside(void *arg) {
    hog *h = arg;
    while (!atomic_load(&h->held))
        stel_yield();
    FIBER_ASSERT_EQ(talk(h->fds[0], 100), 0);
    atomic_store(&h->enough, true);
    return stel_close(h->fds[0]);
}

/* Two fibers talk on one worker while the other one is held up. */
static int one_is_held(void *arg) {
    hog *h = arg;
    int free_one = 1 - h->worker;
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, h->fds), 0);
    stel_fiber peer = spawn_at(free_one, echo, number(h->fds[1])), talker = spawn_at(free_one, talk_beside, h);
    stel_fiber held = spawn_at(h->worker, hold_the_worker, h);
    FIBER_ASSERT_EQ(join(talker), 0);
    FIBER_ASSERT_EQ(join(held), 0);
    FIBER_ASSERT_EQ(join(peer), 0);
    return stel_close(h->fds[1]);
}

static int from_the_free_one(void *arg) {
    hog *h = arg;
    return join(spawn_at(1 - h->worker, one_is_held, h));
}

RULE(a_worker_is_held_up,
     "A fiber that does not yield holds up its own worker; descriptors of another one are served.") {
    NOT_FOR(!has_two_workers(), "one worker");
    for (int worker = 0; worker < 2; worker++) {
        hog h = { .worker = worker };
        run(2, from_the_free_one, &h);
    }
}

/* What was waited for on the worker that is held up is waited for on. */
static int any_is_held(void *arg) {
    hog *h = arg;
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, h->fds), 0);
    stel_fiber peer = spawn(echo, number(h->fds[1])), talker = spawn(talk_beside, h);
    AWAIT_PARKED(h->fds[1], 1);
    stel_fiber held = spawn_at(h->worker, hold_the_worker, h);
    FIBER_ASSERT_EQ(join(talker), 0);
    FIBER_ASSERT_EQ(join(held), 0);
    FIBER_ASSERT_EQ(join(peer), 0);
    return stel_close(h->fds[1]);
}

RULE(any_worker_is_held_up,
     "Whichever worker is held up, all descriptors are served by the others or by the poller thread.") {
    NOT_FOR(it.mode == STEL_POLLER_INLINE, "one worker");
    NOT_FOR(it.mode == STEL_POLLER_PER_WORKER, "each worker waits for its own");
    for (int worker = 0; worker < 2; worker++) {
        hog h = { .worker = worker };
        run(2, any_is_held, &h);
    }
}

/* ---- the end ---- */

static int accept_until_the_end(void *arg) {
    int rc = stel_accept((int)(intptr_t)arg, NULL, NULL);
    FIBER_ASSERT_EQ(rc, -ESHUTDOWN);
    return 7;
}

static int read_until_the_end(void *arg) {
    char byte;
    ssize_t rc = stel_read((int)(intptr_t)arg, &byte, 1);
    FIBER_ASSERT_EQ(rc, -ECANCELED);
    return 8;
}

/* A runtime with one fiber, which is waiting on fd or about to; it is stopped. */
static void stop_one(stel_fn *fn, int fd, bool parked, int64_t grace, int result) {
    stel_config c = configured(2);
    stel_runtime *rt;
    stel_fiber f;
    FIBER_OK(stel_runtime_create(&rt, &c));
    FIBER_OK(stel_runtime_start(rt));
    FIBER_OK(stel_runtime_spawn(rt, &f, NULL, fn, number(fd)));
    if (parked) AWAIT_PARKED(fd, 1);
    FIBER_OK(stel_runtime_stop(rt, grace));
    FIBER_ASSERT_EQ(join(f), result);
    FIBER_OK(stel_runtime_destroy(rt));
}

RULE(stop_ends_waits,
     "A stop ends accept with -ESHUTDOWN at once, other waits with -ECANCELED when the grace is over.") {
    int fds[2], listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 4));
    FIBER_ASSERT_EQ(pipe(fds), 0);
    for (int i = 0; i < 6; i++) {
        stop_one(accept_until_the_end, listener, i % 2, STEL_SEC(600), 7); /* nobody lives that long */
        stop_one(read_until_the_end, fds[0], i % 2, STEL_MS(1), 8);
    }
    close(fds[0]), close(fds[1]), close(listener);
}

enum { TALKERS = 10 };
static int ends[TALKERS][2];

static int talk_to_the_end(void *arg) {
    int rc = talk((int)(intptr_t)arg, 1 << 30);
    FIBER_ASSERT(rc == -ECANCELED);
    return 0;
}

/* A runtime whose fibers talk; it is started. */
static stel_runtime *talking(void) {
    stel_config c = configured(2);
    stel_runtime *rt;
    FIBER_OK(stel_runtime_create(&rt, &c));
    FIBER_OK(stel_runtime_start(rt));
    return rt;
}

static void make_them_talk(stel_runtime *rt) {
    for (int i = 0; i < TALKERS; i++) {
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends[i]), 0);
        FIBER_OK(stel_runtime_spawn(rt, NULL, NULL, talk_to_the_end, number(ends[i][0])));
        FIBER_OK(stel_runtime_spawn(rt, NULL, NULL, echo, number(ends[i][1])));
    }
}

static void close_them(void) {
    for (int i = 0; i < TALKERS; i++) {
        FIBER_OK(stel_close(ends[i][0]));
        FIBER_OK(stel_close(ends[i][1]));
    }
}

static void pause_us(uint64_t *chance, uint32_t most) {
    FIBER_OK(stel_sleep(STEL_US(test_random(chance, most))));
}

RULE(stopped_at_random, "A stop at a random moment of traffic ends all, and gives descriptors back.") {
    uint64_t chance = test_seed();
    int rounds = (int)test_scale(25), descriptors = 0;
    for (int i = 0; i < rounds; i++) {
        stel_runtime *rt = talking();
        make_them_talk(rt);
        pause_us(&chance, 3000);
        FIBER_OK(stel_runtime_stop(rt, 0));
        FIBER_OK(stel_runtime_destroy(rt));
        close_them();
        if (i == 0) descriptors = test_open_descriptors();
        FIBER_ASSERT_EQ(test_open_descriptors(), descriptors);
    }
}

static int talk_in_short(void *arg) {
    int *fds = arg;
    stel_fiber peer = spawn(echo, number(fds[1]));
    FIBER_ASSERT_EQ(talk(fds[0], 20), 0);
    FIBER_OK(stel_cancel(peer));
    FIBER_ASSERT_EQ(join(peer), -ECANCELED);
    return 0;
}

RULE(restarted, "A restarted runtime goes on with the same descriptors.") {
    stel_runtime *rt = talking();
    int fds[2];
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (int i = 0; i < 8; i++) {
        stel_fiber f;
        FIBER_OK(stel_runtime_spawn(rt, &f, NULL, talk_in_short, fds));
        FIBER_ASSERT_EQ(join(f), 0);
        if (i % 2) make_them_talk(rt);
        if (i % 2) FIBER_OK(stel_runtime_stop(rt, 0)); /* they would talk on */
        FIBER_OK(stel_runtime_restart(rt));
        if (i % 2) close_them();
    }
    FIBER_OK(stel_runtime_stop(rt, 0));
    FIBER_OK(stel_runtime_destroy(rt));
    close(fds[0]), close(fds[1]);
}

static void *talk_in_own_runtime(void *arg) {
    stel_config *c = arg;
    int fds[2];
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    FIBER_ASSERT_EQ(run_in_runtime_with(c, talk_in_short, fds), 0);
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
    return NULL;
}

RULE(several_runtimes, "Several runtimes, of this backend and of epoll, come and go beside each other.") {
    stel_config configs[4] = { configured(1), configured(2), configured(2), configured(1) };
    for (int i = 2; i < 4; i++) {
        strcpy(configs[i].backend, "epoll");
        configs[i].poller_mode = i == 2 ? STEL_POLLER_PER_WORKER : 0;
        if (i == 2) configs[i].worker_threads = 2;
    }
    int rounds = (int)test_scale(10);
    for (int round = 0; round < rounds; round++) {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            FIBER_ASSERT_EQ(pthread_create(&threads[i], NULL, talk_in_own_runtime, &configs[i]), 0);
        for (int i = 0; i < 4; i++)
            FIBER_ASSERT_EQ(pthread_join(threads[i], NULL), 0);
    }
}

/* ---- settings ---- */

RULE(events_one_by_one, "With a batch of one event all is served all the same; and of the largest one.") {
    static const int batches[] = { 1, 4096 };
    for (int i = 0; i < 2; i++) {
        stel_config c = configured(2);
        int fds[2];
        c.io_batch = batches[i];
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        FIBER_ASSERT_EQ(run_in_runtime_with(&c, talk_in_short, fds), 0);
        close(fds[0]), close(fds[1]);
    }
}

const check *const run_life_checks[] = {
    &check_of_said,
    &check_of_idle_is_asleep,
    &check_of_woken_from_outside,
    &check_of_a_worker_is_held_up,
    &check_of_any_worker_is_held_up,
    &check_of_stop_ends_waits,
    &check_of_stopped_at_random,
    &check_of_restarted,
    &check_of_several_runtimes,
    &check_of_events_one_by_one,
    NULL,
};
