/* What the tests of the contract share.
 *
 * They are the executable reference of the public headers: a test for each function and macro, named contract_<name>, and
 * in test_rules.c one for each rule that belongs to no single function, rule_<words>. Each is short, needs no other to be
 * understood, and goes red when what its comment says does not hold any more. tools/contract prints the table and sees to
 * it that nothing is missing. Races, load and corners are looked at in tests/unit and tests/stress. */
#ifndef CONTRACT_H
#define CONTRACT_H

#include "check_fiber.h"
#include "host/fault.h"
#include "must_abort.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

/* EQ(have, want): also inside fibers. */
#define EQ     FIBER_ASSERT_EQ
#define IS     FIBER_ASSERT
#define OK(rc) FIBER_OK(rc)

/* A length of time that has passed by every clock. */
#define LONG_PAST (-STEL_SEC(86400))

/* ---- where a body runs ---- */

static UNUSED int body_of(void *arg) {
    (*(void (**)(void))arg)();
    return 0;
}

/* As a fiber, with one worker: what the body started has not run before the body waits or yields. */
static UNUSED void in_fiber(void (*body)(void)) {
    ck_assert_int_eq(run_in_runtime(1, body_of, &body), 0);
}

static UNUSED stel_runtime *runtime_with(const stel_config *c) {
    stel_runtime *rt = NULL;
    OK(stel_runtime_create(&rt, c));
    OK(stel_runtime_start(rt));
    return rt;
}

static UNUSED stel_runtime *runtime(int workers) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = workers;
    c.stall_ns = -1;
    return runtime_with(&c);
}

static UNUSED void finish(stel_runtime *rt) {
    OK(stel_runtime_stop(rt, 0));
    OK(stel_runtime_destroy(rt));
}

/* As a fiber, and on a plain thread with a runtime beside it. */
static UNUSED void on_both(void (*body)(void)) {
    in_fiber(body);
    stel_runtime *rt = runtime(1);
    body();
    finish(rt);
}

/* A test all of whose body runs so. */
#define IN_FIBER(test) TEST_BY(in_fiber, test)
#define ON_BOTH(test)  TEST_BY(on_both, test)
#define TEST_BY(how, test)                                                                                             \
    static void test##_body(void);                                                                                     \
    START_TEST(test) {                                                                                                 \
        how(test##_body);                                                                                              \
    }                                                                                                                  \
    END_TEST                                                                                                           \
    static void test##_body(void)

/* On a thread of its own. */
typedef struct beside {
    pthread_t thread;
    stel_fn *fn;
    void *arg;
    int result;
} beside;

static UNUSED void *beside_main(void *p) {
    beside *b = p;
    b->result = b->fn(b->arg);
    return NULL;
}

static UNUSED void beside_start(beside *b, stel_fn *fn, void *arg) {
    *b = (beside){ .fn = fn, .arg = arg };
    EQ(pthread_create(&b->thread, NULL, beside_main, b), 0);
}

static UNUSED int beside_join(beside *b) {
    EQ(pthread_join(b->thread, NULL), 0);
    return b->result;
}

/* In the child of a fork; must come to its end. */
static UNUSED void in_forked_child(void (*body)(void)) {
    int status = 0;
    pid_t child = fork();
    IS(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    EQ(waitpid(child, &status, 0), child);
    EQ(status, 0);
}

/* ---- fibers ---- */

static UNUSED int give(void *arg) {
    return (int)(intptr_t)arg;
}
#define THE(n) ((void *)(intptr_t)(n))

static UNUSED int until_cancelled(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}

static UNUSED stel_fiber spawn(stel_fn *fn, void *arg) {
    stel_fiber f = 0;
    OK(stel_spawn(&f, fn, arg));
    return f;
}

static UNUSED int join(stel_fiber f) {
    int result = INT32_MIN;
    OK(stel_join(f, &result));
    return result;
}

/* call(arg), which would wait for ever, obeys the deadline and the cancellation of who calls it: before it waits and
 * while it does. */
static UNUSED void obeys_limits(stel_fn *call, void *arg) {
    {
        STEL_TIMEOUT(STEL_MS(3));
        EQ(call(arg), -ETIMEDOUT);
        EQ(call(arg), -ETIMEDOUT);
    }
    stel_fiber early = spawn(call, arg);
    OK(stel_cancel(early));
    EQ(join(early), -ECANCELED);
    stel_fiber late = spawn(call, arg);
    for (int i = 0; i < 3; i++)
        stel_yield(); /* beside one worker: it waits by now */
    OK(stel_cancel(late));
    EQ(join(late), -ECANCELED);
}

#endif
