/* What the tests of locks and channels share: a crew of fibers, of plain threads, or of both, that run jobs and are
 * joined; memory that tells when somebody writes to it after its end; and calls that must end the process. */
#ifndef CREW_H
#define CREW_H

#include "check_fiber.h"
#include "host/host.h"
#include "must_abort.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef STEL__ASAN
#include <sanitizer/asan_interface.h>
#endif

#define UNUSED __attribute__((unused))

/* ---- crews ---- */

enum crew_kind { CREW_ONE_WORKER, CREW_WORKERS, CREW_THREADS, CREW_MIXED, CREW_KINDS };

typedef struct crew_job {
    stel_fn *fn;
    void *arg;
} crew_job;

static UNUSED void *crew_thread(void *p) {
    const crew_job *job = p;
    FIBER_OK(job->fn(job->arg));
    return NULL;
}

/* Run all jobs at the same time and wait for them; none may return a failure. */
static UNUSED void crew_run(enum crew_kind kind, crew_job *jobs, size_t n) {
    enum { MEMBERS_MAX = 256 };
    stel_fiber fibers[MEMBERS_MAX] = { 0 };
    pthread_t threads[MEMBERS_MAX];
    stel_runtime *rt = NULL;
    stel_config c;
    FIBER_ASSERT(n <= MEMBERS_MAX);
    (void)test_seed(); /* chosen and printed before several ask */
    if (kind != CREW_THREADS) {
        stel_config_init(&c);
        c.worker_threads = kind == CREW_ONE_WORKER ? 1 : 3;
        FIBER_OK(stel_runtime_create(&rt, &c));
        FIBER_OK(stel_runtime_start(rt));
    }
    for (size_t i = 0; i < n; i++) {
        if (kind == CREW_THREADS || (kind == CREW_MIXED && i % 2))
            FIBER_ASSERT_EQ(pthread_create(&threads[i], NULL, crew_thread, &jobs[i]), 0);
        else
            FIBER_OK(stel_runtime_spawn(rt, &fibers[i], NULL, jobs[i].fn, jobs[i].arg));
    }
    for (size_t i = 0; i < n; i++) {
        int result = 0;
        if (fibers[i]) {
            FIBER_OK(stel_join(fibers[i], &result));
            FIBER_OK(result);
        } else {
            FIBER_ASSERT_EQ(pthread_join(threads[i], NULL), 0);
        }
    }
    if (rt) {
        FIBER_OK(stel_runtime_stop(rt, 0));
        FIBER_OK(stel_runtime_destroy(rt));
    }
}

/* The same job n times. */
static UNUSED void crew_run_same(enum crew_kind kind, stel_fn *fn, void *arg, size_t n) {
    crew_job jobs[256];
    FIBER_ASSERT(n <= 256);
    for (size_t i = 0; i < n; i++)
        jobs[i] = (crew_job){ fn, arg };
    crew_run(kind, jobs, n);
}

/* Let others run, in a way that fits fibers and threads: nothing, a yield, or a moment's work. */
static UNUSED void crew_jitter(uint64_t *state) {
    uint32_t r = test_random(state, 8);
    if (r == 0) stel_yield();
    for (uint32_t i = 0; i < r * 8; i++)
        stel__cpu_relax();
}

/* ---- memory after its end ---- */

/* The object's owner is done with it: from here on nobody may touch it. AddressSanitizer sees reads as well; without it
 * graves_check finds writes. */
static UNUSED void bury(void *object, size_t bytes) {
    memset(object, 0xA5, bytes);
#ifdef STEL__ASAN
    ASAN_POISON_MEMORY_REGION(object, bytes);
#endif
}

static UNUSED void graves_check(void *objects, size_t bytes) {
#ifdef STEL__ASAN
    ASAN_UNPOISON_MEMORY_REGION(objects, bytes);
#endif
    for (size_t i = 0; i < bytes; i++)
        if (((unsigned char *)objects)[i] != 0xA5) FIBER_FAIL("byte %zu was written after its end", i);
}

#endif
