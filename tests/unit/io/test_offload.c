/* stel_offload and the pool behind it. */
#include "host/fault.h"
#include "io/io.h"
#include "io_sides.h"
#include <errno.h>

/* A gate that an offloaded call blocks at, its thread and all. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int inside;
    bool open;
} gate;
#define GATE_INIT                                                                                                      \
    { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false }

static int pass_gate(void *arg) {
    gate *g = arg;
    pthread_mutex_lock(&g->lock);
    g->inside++;
    pthread_cond_broadcast(&g->changed);
    while (!g->open)
        pthread_cond_wait(&g->changed, &g->lock);
    g->inside--;
    pthread_mutex_unlock(&g->lock);
    return 42;
}

static int inside(gate *g) {
    pthread_mutex_lock(&g->lock);
    int n = g->inside;
    pthread_mutex_unlock(&g->lock);
    return n;
}

static void open_gate(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static int offload_gate(void *arg) {
    int result = -1, rc = stel_offload(&result, pass_gate, arg);
    return rc < 0 ? rc : result;
}

static int add_one(void *arg) {
    return ++*(int *)arg;
}

static int nested(void *arg) {
    int result = 0;
    FIBER_OK(stel_offload(&result, add_one, arg));
    return result;
}

static int thread_of(void *arg) {
    *(pthread_t *)arg = pthread_self();
    return stel_self() == 0 && stel_worker_id() == -EPERM;
}

/* ---- ordinary use ---- */

static int simple(void *arg) {
    (void)arg;
    int n = 4, result = 0;
    pthread_t where;
    FIBER_OK(stel_offload(&result, add_one, &n));
    FIBER_ASSERT_EQ(result, 5);
    FIBER_OK(stel_offload(NULL, add_one, &n));
    FIBER_ASSERT_EQ(n, 6);
    FIBER_OK(stel_offload(&result, thread_of, &where));
    FIBER_ASSERT_EQ(result, 1);
    FIBER_ASSERT(!pthread_equal(where, pthread_self()));
    FIBER_OK(stel_offload(&result, nested, &n));
    FIBER_ASSERT_EQ(result, 7);
    FIBER_ASSERT_EQ(stel_offload(&result, NULL, NULL), -EINVAL);
    return 0;
}

START_TEST(ordinary) {
    on_all_kinds(simple);
}
END_TEST

/* ---- a call that blocks holds up nobody; once it runs it is not cut short ---- */

static int uncut(void *arg) {
    (void)arg;
    gate g = GATE_INIT;
    side caller;
    side_start(&caller, offload_gate, &g);
    EVENTUALLY(inside(&g) == 1);
    if (caller.fiber) {
        FIBER_OK(stel_cancel(caller.fiber));
        int result;
        FIBER_ASSERT_EQ(stel_try_join(caller.fiber, &result), -EAGAIN);
    }
    FIBER_ASSERT_EQ(stel_sleep(STEL_MS(2)), 0);
    FIBER_ASSERT_EQ(inside(&g), 1);
    open_gate(&g);
    FIBER_ASSERT_EQ(side_join(&caller), 42);
    return 0;
}

START_TEST(not_cut_short_once_it_runs) {
    on_all_kinds(uncut);
}
END_TEST

/* On a busy machine the deadline may pass before the pool gets to the call: then it was cut short while it was queued, as
 * it should be, and one with more time is made. */
static int timed(void *arg) {
    int result = -ETIMEDOUT;
    for (int64_t limit_ns = STEL_MS(5); result == -ETIMEDOUT; limit_ns *= 2) {
        STEL_TIMEOUT(limit_ns);
        result = offload_gate(arg);
        FIBER_ASSERT(result == 42 || inside(arg) == 0);
    }
    return result;
}

static int outlives_deadline(void *arg) {
    (void)arg;
    gate g = GATE_INIT;
    side caller;
    side_start(&caller, timed, &g);
    EVENTUALLY(inside(&g) == 1);
    FIBER_ASSERT_EQ(stel_sleep(STEL_MS(20)), 0);
    open_gate(&g);
    FIBER_ASSERT_EQ(side_join(&caller), 42);
    STEL_TIMEOUT(-STEL_SEC(1));
    int n = 0;
    FIBER_ASSERT_EQ(stel_offload(NULL, add_one, &n), -ETIMEDOUT);
    FIBER_ASSERT_EQ(n, 0);
    return 0;
}

START_TEST(deadline_while_it_runs) {
    on_all_kinds(outlives_deadline);
}
END_TEST

/* ---- the pool is bounded; what is queued is cut short, and was not run ---- */

enum { FULL = 64, MORE = 20 };

static int queue_up(void *arg) {
    (void)arg;
    gate g = GATE_INIT;
    side callers[FULL + MORE];
    stel__offload_figures figures;
    for (int i = 0; i < FULL; i++)
        side_start(&callers[i], offload_gate, &g);
    EVENTUALLY(inside(&g) == FULL);
    stel__offload_figures_get(&figures);
    FIBER_ASSERT_EQ(figures.threads, FULL);
    {
        STEL_TIMEOUT(STEL_MS(10));
        int n = 0;
        FIBER_ASSERT_EQ(stel_offload(NULL, add_one, &n), -ETIMEDOUT);
        FIBER_ASSERT_EQ(n, 0);
    }
    for (int i = FULL; i < FULL + MORE; i++)
        side_start(&callers[i], offload_gate, &g);
    int cancelled = 0;
    if (callers[FULL].fiber)
        for (int i = FULL; i < FULL + MORE; i += 2) {
            FIBER_OK(stel_cancel(callers[i].fiber));
            FIBER_ASSERT_EQ(side_join(&callers[i]), -ECANCELED);
            cancelled++;
        }
    FIBER_ASSERT_EQ(inside(&g), FULL);
    open_gate(&g);
    for (int i = 0; i < FULL + MORE; i++)
        if (i < FULL || !cancelled || (i - FULL) % 2) FIBER_ASSERT_EQ(side_join(&callers[i]), 42);
    return 0;
}

START_TEST(bounded) {
    on_all_kinds(queue_up);
}
END_TEST

/* ---- no threads ---- */

static int no_threads(void *arg) {
    (void)arg;
    int n = 0;
    stel__offload_figures figures;
    stel__fault_set(STEL__FAULT_PTHREAD_CREATE, 1, EAGAIN, true);
    FIBER_ASSERT_EQ(stel_offload(NULL, add_one, &n), -EAGAIN);
    FIBER_ASSERT_EQ(n, 0);
    stel__offload_figures_get(&figures);
    FIBER_ASSERT_EQ(figures.threads, 0);
    stel__fault_clear();
    FIBER_OK(stel_offload(NULL, add_one, &n));
    FIBER_ASSERT_EQ(n, 1);
    return 0;
}

START_TEST(refused_as_fiber) {
    ck_assert_int_eq(run_in_runtime(2, no_threads, NULL), 0);
}
END_TEST

START_TEST(refused_as_thread) {
    ck_assert_int_eq(no_threads(NULL), 0);
}
END_TEST

/* ---- many short calls ---- */

static _Atomic int total;
static int count(void *arg) {
    (void)arg;
    return ++total > 0;
}
static int many_calls(void *arg) {
    for (int i = 0; i < 200; i++)
        FIBER_OK(stel_offload(NULL, count, NULL));
    (void)arg;
    return 0;
}
static int crowd(void *arg) {
    enum { CALLERS = 30 };
    side callers[CALLERS];
    int before = total;
    (void)arg;
    for (int i = 0; i < CALLERS; i++)
        side_start(&callers[i], many_calls, NULL);
    for (int i = 0; i < CALLERS; i++)
        FIBER_ASSERT_EQ(side_join(&callers[i]), 0);
    FIBER_ASSERT_EQ(total - before, CALLERS * 200);
    return 0;
}

START_TEST(many) {
    on_all_kinds(crowd);
}
END_TEST

TEST_MAIN("io/offload", ordinary, not_cut_short_once_it_runs, deadline_while_it_runs, bounded, refused_as_fiber,
          refused_as_thread, many)
