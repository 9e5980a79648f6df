/* What the tests of fibers and their workers share: runtimes that stay open while a thread works with them, small
 * fibers, and children whose end is looked at. */
#ifndef ROOM_H
#define ROOM_H

#include "check_fiber.h"
#include "host/host.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

/* ---- runtimes ---- */

static UNUSED stel_config room_config(int workers) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = workers;
    return c;
}

static UNUSED stel_runtime *room_open_with(const stel_config *c) {
    stel_runtime *rt = NULL;
    FIBER_OK(stel_runtime_create(&rt, c));
    FIBER_OK(stel_runtime_start(rt));
    return rt;
}

static UNUSED stel_runtime *room_open(int workers) {
    stel_config c = room_config(workers);
    return room_open_with(&c);
}

static UNUSED void room_close(stel_runtime *rt) {
    FIBER_OK(stel_runtime_stop(rt, 0));
    FIBER_OK(stel_runtime_destroy(rt));
}

/* ---- fibers ---- */

/* A length of time that has passed by every clock. (-1 has not yet by a worker's cached clock, which is what calls look
 * at that do not have to wait.) */
#define LONG_PAST (-STEL_SEC(86400))

static UNUSED stel_fiber spawn(stel_fn *fn, void *arg) {
    stel_fiber f = 0;
    FIBER_OK(stel_spawn(&f, fn, arg));
    FIBER_ASSERT(f != 0);
    return f;
}

static UNUSED stel_fiber spawn_with(stel_spawn_options o, stel_fn *fn, void *arg) {
    stel_fiber f = 0;
    o.size = sizeof o;
    FIBER_OK(stel_spawn_with(&f, &o, fn, arg));
    return f;
}

/* Wait for f, which must be possible; its result. */
static UNUSED int join(stel_fiber f) {
    int result = INT32_MIN;
    FIBER_OK(stel_join(f, &result));
    return result;
}

static UNUSED int give(void *arg) {
    return (int)(intptr_t)arg;
}

static UNUSED int until_cancelled(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}

/* A flag that one side raises and others wait for without the library's own means (which are what is tested). */
typedef atomic_int flag;
static UNUSED void raise_flag(flag *f) {
    atomic_store(f, 1);
}
static UNUSED bool is_raised(flag *f) {
    return atomic_load(f) != 0;
}
/* Hold the worker, never leaving it, until the flag is up. Ends the process when that takes a minute. */
static UNUSED void hog_until(flag *f) {
    int64_t give_up = stel_after(STEL_SEC(60));
    while (!is_raised(f)) {
        FIBER_ASSERT(stel_now() < give_up);
        stel__cpu_relax();
    }
}
static UNUSED void yield_until(flag *f) {
    int64_t give_up = stel_after(STEL_SEC(60));
    while (!is_raised(f)) {
        FIBER_ASSERT(stel_now() < give_up);
        stel_yield();
    }
}

/* Run fn on a plain thread beside the caller, which does not need a fiber's stack for it. */
static UNUSED pthread_t beside(void *(*fn)(void *), void *arg) {
    pthread_t t;
    FIBER_ASSERT_EQ(pthread_create(&t, NULL, fn, arg), 0);
    return t;
}

/* ---- children ---- */

/* Run fn in a child process; its wait status. What it wrote on stderr is put into text. The caller must not have used
 * the library yet: after fork it works no more. */
static UNUSED int in_child(void (*fn)(void), char *text, size_t bytes) {
    int ends[2];
    FIBER_ASSERT_EQ(pipe(ends), 0);
    pid_t child = fork();
    FIBER_ASSERT(child >= 0);
    if (child == 0) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        dup2(ends[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(ends[1]);
    size_t have = 0;
    for (ssize_t n; have < bytes - 1 && (n = read(ends[0], text + have, bytes - 1 - have)) > 0;)
        have += (size_t)n;
    text[have] = 0;
    close(ends[0]);
    int status = 0;
    FIBER_ASSERT_EQ(waitpid(child, &status, 0), child);
    return status;
}

#endif
