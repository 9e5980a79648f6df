/* The contract of stellane/runtime.h: starting, stopping and watching the workers. */
#include "contract.h"
#include <time.h>

static stel_config config(int workers) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = workers;
    c.stall_ns = -1;
    return c;
}

static stel_fiber spawn_in(stel_runtime *rt, stel_fn *fn, void *arg) {
    stel_fiber f = 0;
    OK(stel_runtime_spawn(rt, &f, NULL, fn, arg));
    return f;
}

/* One that does not end when it is cancelled. */
static atomic_int stubborn_runs, let_go;
static int stubborn(void *arg) {
    (void)arg;
    atomic_store(&stubborn_runs, 1);
    while (!atomic_load(&let_go))
        stel_yield();
    return 5;
}

/* A stop is to name who does not end almost at once. */
static void be_impatient(stel_runtime *rt, stel_config c) {
    c.stop_timeout_ns = STEL_MS(2);
    OK(stel_runtime_update_config(rt, &c));
}

/* Each means that a runtime needs and cannot have. */
static const struct {
    enum stel__fault_kind kind;
    int error;
} means[] = { { STEL__FAULT_ALLOC, ENOMEM },
              { STEL__FAULT_EPOLL_CREATE1, EMFILE },
              { STEL__FAULT_EPOLL_CREATE1, ENFILE },
              { STEL__FAULT_PTHREAD_CREATE, EAGAIN } };
enum { MEANS = sizeof means / sizeof means[0] };

/* ---- memory, settings ---- */

static atomic_long pieces;
static void *own_alloc(void *context, size_t alignment, size_t bytes) {
    IS(context == &pieces);
    void *p = NULL;
    if (posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, bytes)) return NULL;
    atomic_fetch_add(&pieces, 1);
    return p;
}
static void own_release(void *context, void *p) {
    IS(context == &pieces && p);
    atomic_fetch_sub(&pieces, 1);
    free(p);
}
static void allocator_after_fork(void) {
    EQ(stel_set_allocator(NULL), -EPERM);
}

/* stel_set_allocator: the library's memory comes from it and goes back to it; -EINVAL, -EBUSY once something was
 * allocated, -EPERM. */
START_TEST(contract_stel_set_allocator) {
    stel_allocator a = { sizeof a, &pieces, own_alloc, own_release }, wrong = a;
    wrong.alloc = NULL;
    EQ(stel_set_allocator(&wrong), -EINVAL);
    wrong = a;
    wrong.release = NULL;
    EQ(stel_set_allocator(&wrong), -EINVAL);
    wrong = a;
    wrong.size = 0;
    EQ(stel_set_allocator(&wrong), -EINVAL);
    OK(stel_set_allocator(NULL)); /* libc's, and another choice is still open */
    OK(stel_set_allocator(&a));
    stel_chan *c = NULL;
    OK(stel_chan_create(&c, 1, 1));
    EQ(atomic_load(&pieces), 1);
    stel_chan_destroy(c);
    EQ(atomic_load(&pieces), 0);
    EQ(run_in_runtime(2, give, THE(3)), 3);
    EQ(stel_set_allocator(&a), -EBUSY);
    EQ(stel_set_allocator(NULL), -EBUSY);
    in_forked_child(allocator_after_fork);
}
END_TEST

/* stel_config_init: fills in the size and the defaults. */
START_TEST(contract_stel_config_init) {
    stel_config c;
    memset(&c, 0xa5, sizeof c);
    stel_config_init(&c);
    ck_assert_uint_eq(c.size, sizeof c);
    ck_assert_str_eq(c.backend, "auto");
    ck_assert_int_eq(c.stop_timeout_ns, STEL_SEC(30));
    ck_assert_int_eq(c.io_batch, 32);
    ck_assert_int_eq(c.io_budget, 16);
    ck_assert_int_eq(c.stack_cache, 64);
    ck_assert_int_eq(c.stack_guard_pages, 1);
    ck_assert_int_eq(c.stall_ns, STEL_MS(20));
    ck_assert_int_eq(c.worker_threads, 0);
    ck_assert_uint_eq(c.seed, 0);
}
END_TEST

/* stel_config_init_sized: no more than the caller's struct has room for is written. */
START_TEST(contract_stel_config_init_sized) {
    stel_config c;
    memset(&c, 0xa5, sizeof c);
    stel_config_init_sized(&c, offsetof(stel_config, worker_threads));
    ck_assert_uint_eq(c.size, offsetof(stel_config, worker_threads));
    ck_assert_str_eq(c.backend, "auto");
    ck_assert_int_eq(c.worker_threads, (int)0xa5a5a5a5u);
}
END_TEST

/* stel_config_from_env: overwrites the fields whose variable is set; -EINVAL and nothing changed for one that cannot
 * be. */
START_TEST(contract_stel_config_from_env) {
    stel_config c = config(3);
    setenv("STELLANE_RUNTIME_MAX_FIBERS", "77", 1);
    setenv("STELLANE_RUNTIME_STACK_SIZE", "64KiB", 1);
    setenv("STELLANE_RUNTIME_STOP_TIMEOUT", "5ms", 1);
    OK(stel_config_from_env(&c));
    ck_assert_uint_eq(c.max_fibers, 77);
    ck_assert_uint_eq(c.stack_bytes, 65536);
    ck_assert_int_eq(c.stop_timeout_ns, STEL_MS(5));
    ck_assert_int_eq(c.worker_threads, 3);
    setenv("STELLANE_RUNTIME_MAX_FIBERS", "78", 1);
    setenv("STELLANE_RUNTIME_WORKERS", "many", 1);
    ck_assert_int_eq(stel_config_from_env(&c), -EINVAL);
    ck_assert_uint_eq(c.max_fibers, 77);
    setenv("STELLANE_RUNTIME_WORKERS", "5", 1);
    setenv("STELLANE_RUNTIME_UNHEARD_OF", "x", 1); /* a warning */
    OK(stel_config_from_env(&c));
    ck_assert_int_eq(c.worker_threads, 5);
    ck_assert_int_eq(stel_config_from_env(NULL), -EINVAL);
}
END_TEST

/* ---- the simple way ---- */

static atomic_int children_ended;
static int ends_later(void *arg) {
    (void)arg;
    OK(stel_sleep(STEL_MS(3)));
    atomic_fetch_add(&children_ended, 1);
    return 0;
}
static int main_fiber(void *arg) {
    for (int i = 0; i < 3; i++)
        OK(stel_go(ends_later, NULL));
    EQ(stel_run(give, NULL), -EDEADLK);
    return (int)(intptr_t)arg;
}
static void run_after_fork(void) {
    EQ(stel_run(give, NULL), -EPERM);
}
static int shuts_down_beside_stubborn(void *arg) {
    OK(stel_go(stubborn, arg));
    return stel_shutdown(0);
}

/* stel_run: fn is the first fiber of a runtime configured by the environment; returns its result when all counted fibers
 * have ended; -EINVAL -EDEADLK -EPERM -ENOMEM -EAGAIN -EMFILE -ENFILE -EBUSY. */
START_TEST(contract_stel_run) {
    ck_assert_int_eq(stel_run(NULL, NULL), -EINVAL);
    ck_assert_int_eq(stel_run(main_fiber, THE(9)), 9);
    ck_assert_int_eq(atomic_load(&children_ended), 3);
    ck_assert_int_eq(stel_run(give, THE(-EBADMSG)), -EBADMSG);
    for (int i = 0; i < MEANS; i++) {
        stel__fault_set(means[i].kind, 1, means[i].error, true);
        ck_assert_int_eq(stel_run(give, NULL), -means[i].error);
        stel__fault_clear();
    }
    setenv("STELLANE_RUNTIME_WORKERS", "0", 1);
    ck_assert_int_eq(stel_run(give, NULL), -EINVAL);
    setenv("STELLANE_RUNTIME_WORKERS", "2", 1);
    in_forked_child(run_after_fork);
    setenv("STELLANE_RUNTIME_STOP_TIMEOUT", "2ms", 1);
    ck_assert_int_eq(stel_run(shuts_down_beside_stubborn, NULL), -EBUSY); /* it names stubborn, and lives on */
}
END_TEST

static int shuts_down(void *arg) {
    IS(!stel_stopping());
    OK(stel_shutdown(*(int64_t *)arg)); /* returns at once, and the caller goes on */
    IS(stel_stopping());
    return 0;
}

/* stel_shutdown: from inside: starts the stop and returns at once; again it may only shorten the grace; -EPERM. */
START_TEST(contract_stel_shutdown) {
    int64_t forever = STEL_FOREVER, now = 0;
    ck_assert_int_eq(stel_shutdown(0), -EPERM);
    stel_runtime *rt = runtime(1);
    stel_fiber f = spawn_in(rt, until_cancelled, NULL);
    EQ(join(spawn_in(rt, shuts_down, &forever)), 0);
    EQ(stel_try_join(f, NULL), -EAGAIN); /* the grace: it runs on */
    EQ(stel_runtime_spawn(rt, NULL, NULL, give, NULL), -ESHUTDOWN);
    EQ(stel_runtime_stop(rt, now), 0);
    EQ(join(f), -ECANCELED);
    OK(stel_runtime_restart(rt));
    f = spawn_in(rt, until_cancelled, NULL);
    EQ(join(spawn_in(rt, shuts_down, &now)), 0);
    EQ(join(f), -ECANCELED);
    OK(stel_runtime_wait(rt));
    OK(stel_runtime_destroy(rt));
}
END_TEST

/* stel_stopping: does the caller's runtime stop? false on a plain thread. */
START_TEST(contract_stel_stopping) {
    int64_t now = 0;
    ck_assert(!stel_stopping());
    stel_runtime *rt = runtime(1);
    EQ(join(spawn_in(rt, shuts_down, &now)), 0);
    ck_assert(!stel_stopping());
    OK(stel_runtime_wait(rt));
    OK(stel_runtime_destroy(rt));
}
END_TEST

/* ---- a runtime's life ---- */

static void create_after_fork(void) {
    stel_runtime *rt = NULL;
    EQ(stel_runtime_create(&rt, NULL), -EPERM);
}

/* stel_runtime_create: a runtime, not started; NULL: all defaults; -EINVAL -ENOMEM -EMFILE -ENFILE -EPERM. */
START_TEST(contract_stel_runtime_create) {
    stel_runtime *rt = NULL;
    OK(stel_runtime_create(&rt, NULL));
    ck_assert(!stel_runtime_is_running(rt));
    EQ(test_library_threads(), 0);
    OK(stel_runtime_destroy(rt));
    rt = NULL;
    EQ(stel_runtime_create(NULL, NULL), -EINVAL);
    stel_config c = config(1025);
    EQ(stel_runtime_create(&rt, &c), -EINVAL);
    c = config(1);
    strcpy(c.backend, "unheard of");
    EQ(stel_runtime_create(&rt, &c), -EINVAL);
    for (int i = 0; i < MEANS; i++) {
        if (means[i].kind == STEL__FAULT_PTHREAD_CREATE) continue;
        stel__fault_set(means[i].kind, 1, means[i].error, true);
        EQ(stel_runtime_create(&rt, NULL), -means[i].error);
        stel__fault_clear();
    }
    ck_assert_ptr_null(rt);
    in_forked_child(create_after_fork);
}
END_TEST

/* stel_runtime_start: the workers run, and what was spawned before; -EINVAL, -EAGAIN -ENOMEM start nothing. */
START_TEST(contract_stel_runtime_start) {
    stel_runtime *rt = NULL;
    EQ(stel_runtime_start(NULL), -EINVAL);
    OK(stel_runtime_create(&rt, NULL));
    stel_fiber f = spawn_in(rt, give, THE(6));
    for (int i = 0; i < 2; i++) {
        stel__fault_set(STEL__FAULT_PTHREAD_CREATE, 2, i ? EAGAIN : ENOMEM, true);
        EQ(stel_runtime_start(rt), i ? -EAGAIN : -ENOMEM);
        stel__fault_clear();
        ck_assert(!stel_runtime_is_running(rt));
        EQ(stel_try_join(f, NULL), -EAGAIN);
    }
    OK(stel_runtime_start(rt));
    EQ(join(f), 6);
    EQ(stel_runtime_start(rt), -EINVAL);
    OK(stel_runtime_stop(rt, 0));
    EQ(stel_runtime_start(rt), -EINVAL);
    OK(stel_runtime_destroy(rt));
}
END_TEST

static int waits_for_own(void *arg) {
    (void)arg;
    return stel_runtime_wait(stel_runtime_current());
}
static int waits_for(void *rt) {
    return stel_runtime_wait(rt);
}

/* stel_runtime_wait: until it has stopped; with auto_shutdown, until no counted fiber is left; -EDEADLK -EINVAL -ETIMEDOUT
 * -ECANCELED -EBUSY. */
START_TEST(contract_stel_runtime_wait) {
    stel_config c = config(1);
    stel_runtime *rt = NULL, *other = runtime(1);
    EQ(stel_runtime_wait(NULL), -EINVAL);
    OK(stel_runtime_create(&rt, &c));
    EQ(stel_runtime_wait(rt), -EINVAL); /* never started */
    OK(stel_runtime_start(rt));
    EQ(join(spawn_in(rt, waits_for_own, NULL)), -EDEADLK);
    {
        STEL_TIMEOUT(STEL_MS(3));
        EQ(stel_runtime_wait(rt), -ETIMEDOUT);
    }
    stel_fiber f = spawn_in(other, waits_for, rt);
    OK(stel_cancel(f));
    EQ(join(f), -ECANCELED);
    f = spawn_in(rt, stubborn, NULL);
    EVENTUALLY(atomic_load(&stubborn_runs));
    be_impatient(rt, c);
    EQ(stel_runtime_stop(rt, 0), -EBUSY);
    EQ(stel_runtime_wait(rt), -EBUSY);
    atomic_store(&let_go, 1);
    EQ(join(f), 5);
    OK(stel_runtime_update_config(rt, &c)); /* patient again */
    OK(stel_runtime_stop(rt, STEL_FOREVER));
    OK(stel_runtime_wait(rt)); /* stopped already */
    OK(stel_runtime_destroy(rt));
    finish(other);
    c.auto_shutdown = 1;
    OK(stel_runtime_create(&rt, &c));
    f = spawn_in(rt, ends_later, NULL);
    OK(stel_runtime_start(rt));
    OK(stel_runtime_wait(rt));
    EQ(join(f), 0);
    OK(stel_runtime_destroy(rt));
}
END_TEST

static int stops_own(void *arg) {
    (void)arg;
    return stel_runtime_stop(stel_runtime_current(), 0);
}
static int accepts(void *arg) {
    return stel_accept(*(int *)arg, NULL, NULL);
}
static int stops_with_grace(void *arg) {
    return stel_runtime_stop(arg, STEL_SEC(1000));
}

/* stel_runtime_stop: accept returns -ESHUTDOWN and spawns from outside are refused at once; fibers run on for the grace,
 * then are cancelled; -EBUSY names who does not end; -EDEADLK -EINVAL -ETIMEDOUT -ECANCELED. */
START_TEST(contract_stel_runtime_stop) {
    stel_config c = config(1);
    stel_runtime *rt = NULL;
    int listener = stel_listen("127.0.0.1:0", 1);
    beside stopper;
    EQ(stel_runtime_stop(NULL, 0), -EINVAL);
    OK(stel_runtime_create(&rt, &c));
    EQ(stel_runtime_stop(rt, 0), -EINVAL); /* never started */
    OK(stel_runtime_start(rt));
    EQ(join(spawn_in(rt, stops_own, NULL)), -EDEADLK);
    stel_fiber acceptor = spawn_in(rt, accepts, &listener), long_one = spawn_in(rt, until_cancelled, NULL);
    stel_fiber late = spawn_in(rt, ends_later, NULL);
    beside_start(&stopper, stops_with_grace, rt);
    EQ(join(acceptor), -ESHUTDOWN);
    EQ(stel_runtime_spawn(rt, NULL, NULL, give, NULL), -ESHUTDOWN);
    EQ(join(late), 0); /* it had the grace */
    EQ(stel_try_join(long_one, NULL), -EAGAIN);
    {
        STEL_TIMEOUT(STEL_MS(2));
        EQ(stel_runtime_stop(rt, STEL_FOREVER), -ETIMEDOUT); /* the caller's wait; the stop goes on */
    }
    stel_runtime *third = runtime(1);
    stel_fiber caller = spawn_in(third, stops_with_grace, rt);
    OK(stel_cancel(caller));
    EQ(join(caller), -ECANCELED);
    finish(third);
    EQ(stel_runtime_stop(rt, 0), 0); /* a shorter one */
    EQ(join(long_one), -ECANCELED);
    EQ(beside_join(&stopper), 0);
    OK(stel_runtime_restart(rt));
    long_one = spawn_in(rt, stubborn, NULL);
    EVENTUALLY(atomic_load(&stubborn_runs));
    be_impatient(rt, c);
    EQ(stel_runtime_stop(rt, 0), -EBUSY);
    IS(stel_runtime_is_running(rt));
    atomic_store(&let_go, 1);
    EQ(join(long_one), 5);
    OK(stel_runtime_update_config(rt, &c));
    OK(stel_runtime_stop(rt, 0));
    OK(stel_runtime_destroy(rt));
    OK(stel_close(listener));
}
END_TEST

/* stel_runtime_destroy: frees one that was stopped or never started; handles are stale; -EBUSY -EINVAL. */
START_TEST(contract_stel_runtime_destroy) {
    stel_runtime *rt = NULL;
    EQ(stel_runtime_destroy(NULL), -EINVAL);
    OK(stel_runtime_create(&rt, NULL));
    OK(stel_runtime_destroy(rt));
    rt = runtime(1);
    EQ(stel_runtime_destroy(rt), -EBUSY);
    stel_fiber f = spawn_in(rt, give, NULL);
    OK(stel_runtime_stop(rt, STEL_FOREVER));
    OK(stel_runtime_destroy(rt));
    EQ(stel_join(f, NULL), -ESRCH);
    OK(stel_runtime_create(&rt, NULL));
    f = spawn_in(rt, give, NULL);
    EQ(stel_runtime_destroy(rt), -EBUSY); /* a fiber lives in it */
    OK(stel_runtime_start(rt));
    finish(rt);
}
END_TEST

static int restarts_own(void *arg) {
    (void)arg;
    return stel_runtime_restart(stel_runtime_current());
}
static int restarts(void *rt) {
    return stel_runtime_restart(rt);
}
static void restart_without_means(stel_runtime *rt) {
    for (int i = 0; i < MEANS; i++) {
        OK(stel_runtime_stop(rt, 0));
        stel__fault_set(means[i].kind, 1, means[i].error, true);
        EQ(stel_runtime_restart(rt), -means[i].error);
        stel__fault_clear();
        IS(!stel_runtime_is_running(rt));
        OK(stel_runtime_restart(rt)); /* it may be restarted all the same */
    }
}

/* stel_runtime_restart: a new life with the old settings, counters from zero, old handles stale, listeners listen on;
 * spawns meanwhile: -ESHUTDOWN; -EDEADLK -EINVAL -EBUSY -ETIMEDOUT -ENOMEM -EMFILE -ENFILE -EAGAIN. */
START_TEST(contract_stel_runtime_restart) {
    stel_config c = config(2);
    stel_stats s;
    stel_runtime *rt = NULL;
    beside other;
    EQ(stel_runtime_restart(NULL), -EINVAL);
    OK(stel_runtime_create(&rt, &c));
    EQ(stel_runtime_restart(rt), -EINVAL); /* never started */
    OK(stel_runtime_start(rt));
    EQ(join(spawn_in(rt, restarts_own, NULL)), -EDEADLK);
    stel_fiber f = spawn_in(rt, ends_later, NULL);
    OK(stel_runtime_restart(rt)); /* of one that runs: stopped first, with a grace */
    EQ(stel_join(f, NULL), -ESRCH);
    OK(stel_runtime_stats(rt, &s));
    EQ(s.spawned, 0);
    EQ(s.worker_count, 2);
    restart_without_means(rt);
    f = spawn_in(rt, stubborn, NULL);
    EVENTUALLY(atomic_load(&stubborn_runs));
    be_impatient(rt, c);
    EQ(stel_runtime_restart(rt), -EBUSY);
    c.stop_timeout_ns = STEL_SEC(1000);
    OK(stel_runtime_update_config(rt, &c));
    {
        STEL_TIMEOUT(STEL_MS(2));
        EQ(stel_runtime_restart(rt), -ETIMEDOUT);
    }
    beside_start(&other, restarts, rt);
    EVENTUALLY(stel_runtime_destroy(rt) == -EBUSY);
    EQ(stel_runtime_spawn(rt, NULL, NULL, give, NULL), -ESHUTDOWN);
    atomic_store(&let_go, 1);
    EQ(beside_join(&other), 0);
    EQ(join(spawn_in(rt, give, THE(8))), 8);
    finish(rt);
}
END_TEST

static int is_current(void *rt) {
    return stel_runtime_current() == rt;
}

/* stel_runtime_current: the caller's runtime; NULL on a plain thread. */
START_TEST(contract_stel_runtime_current) {
    stel_runtime *a = runtime(1), *b = runtime(1);
    ck_assert_ptr_null(stel_runtime_current());
    EQ(join(spawn_in(a, is_current, a)), 1);
    EQ(join(spawn_in(b, is_current, b)), 1);
    EQ(join(spawn_in(b, is_current, a)), 0);
    finish(a);
    finish(b);
}
END_TEST

static int spawns_across(void *rt) {
    return join(spawn_in(rt, is_current, rt));
}

/* stel_runtime_spawn: into this runtime, from any thread, also before it runs; as stel_spawn_with, and -ESHUTDOWN. */
START_TEST(contract_stel_runtime_spawn) {
    stel_config c = config(1);
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    stel_fiber f;
    c.max_fibers = 2;
    stel_runtime *a = runtime(1), *b = NULL;
    OK(stel_runtime_create(&b, &c));
    f = spawn_in(b, is_current, b);
    OK(stel_runtime_start(b));
    EQ(join(f), 1);
    EQ(join(spawn_in(a, spawns_across, b)), 1); /* from a fiber of another */
    EQ(stel_runtime_spawn(NULL, &f, NULL, give, NULL), -EINVAL);
    EQ(stel_runtime_spawn(b, &f, NULL, NULL, NULL), -EINVAL);
    o.priority = 9;
    EQ(stel_runtime_spawn(b, &f, &o, give, NULL), -EINVAL);
    OK(stel_runtime_spawn(b, NULL, NULL, until_cancelled, NULL)); /* detached */
    f = spawn_in(b, until_cancelled, NULL);
    EQ(stel_runtime_spawn(b, NULL, NULL, give, NULL), -EAGAIN);
    finish(a);
    OK(stel_runtime_stop(b, 0));
    EQ(stel_runtime_spawn(b, NULL, NULL, give, NULL), -ESHUTDOWN);
    OK(stel_runtime_destroy(b));
}
END_TEST

/* stel_runtime_is_running: started and not yet stopped. */
START_TEST(contract_stel_runtime_is_running) {
    stel_runtime *rt = NULL;
    IS(!stel_runtime_is_running(NULL));
    OK(stel_runtime_create(&rt, NULL));
    IS(!stel_runtime_is_running(rt));
    OK(stel_runtime_start(rt));
    IS(stel_runtime_is_running(rt));
    OK(stel_runtime_stop(rt, 0));
    IS(!stel_runtime_is_running(rt));
    OK(stel_runtime_destroy(rt));
}
END_TEST

/* stel_runtime_pending: fibers that were spawned and have not ended. */
START_TEST(contract_stel_runtime_pending) {
    stel_runtime *rt = runtime(1);
    EQ(stel_runtime_pending(rt), 0);
    EQ(stel_runtime_pending(NULL), 0);
    stel_fiber a = spawn_in(rt, until_cancelled, NULL), b = spawn_in(rt, until_cancelled, NULL);
    EQ(stel_runtime_pending(rt), 2);
    OK(stel_cancel(a));
    EQ(join(a), -ECANCELED);
    EQ(stel_runtime_pending(rt), 1);
    OK(stel_cancel(b));
    EQ(join(b), -ECANCELED);
    EQ(stel_runtime_pending(rt), 0);
    finish(rt);
}
END_TEST

/* ---- settings in force, figures ---- */

/* stel_runtime_get_config: the settings in force, every default filled in; -EINVAL. */
START_TEST(contract_stel_runtime_get_config) {
    stel_config c = config(0), got;
    stel_runtime *rt = NULL;
    c.io_budget = 5;
    OK(stel_runtime_create(&rt, &c));
    memset(&got, 0xa5, sizeof got);
    OK(stel_runtime_get_config(rt, &got));
    EQ(got.size, sizeof got);
    EQ(got.io_budget, 5);
    IS(got.worker_threads >= 1 && got.stack_bytes > 0 && got.seed != 0 && got.io_batch == 32);
    EQ(stel_runtime_get_config(rt, NULL), -EINVAL);
    EQ(stel_runtime_get_config(NULL, &got), -EINVAL);
    OK(stel_runtime_destroy(rt));
}
END_TEST

/* stel_runtime_get_config_sized: no more than there is room for; -EINVAL for a size that cannot be. */
START_TEST(contract_stel_runtime_get_config_sized) {
    stel_config got;
    stel_runtime *rt = NULL;
    OK(stel_runtime_create(&rt, NULL));
    memset(&got, 0xa5, sizeof got);
    OK(stel_runtime_get_config_sized(rt, &got, offsetof(stel_config, worker_threads)));
    EQ(got.size, offsetof(stel_config, worker_threads));
    EQ(got.worker_threads, (int)0xa5a5a5a5u);
    EQ(stel_runtime_get_config_sized(rt, &got, 1), -EINVAL);
    OK(stel_runtime_destroy(rt));
}
END_TEST

static stel_runtime *updated;
static void update_after_fork(void) {
    stel_config c = config(1);
    EQ(stel_runtime_update_config(updated, &c), -EPERM);
}

/* stel_runtime_update_config: changes a running runtime, all or nothing; -EINVAL, -EBUSY for what holds until it is made
 * anew, -EPERM. */
START_TEST(contract_stel_runtime_update_config) {
    stel_config c = config(1), got;
    stel_runtime *rt = updated = runtime_with(&c);
    c.max_fibers = 1;
    OK(stel_runtime_update_config(rt, &c));
    stel_fiber f = spawn_in(rt, until_cancelled, NULL);
    EQ(stel_runtime_spawn(rt, NULL, NULL, give, NULL), -EAGAIN); /* at once */
    c.max_fibers = 50;
    c.worker_threads = 2;
    EQ(stel_runtime_update_config(rt, &c), -EBUSY);
    c.worker_threads = 1;
    c.io_batch = 100000;
    EQ(stel_runtime_update_config(rt, &c), -EINVAL);
    OK(stel_runtime_get_config(rt, &got));
    EQ(got.max_fibers, 1); /* nothing was changed */
    EQ(stel_runtime_update_config(rt, NULL), -EINVAL);
    EQ(stel_runtime_update_config(NULL, &c), -EINVAL);
    in_forked_child(update_after_fork);
    OK(stel_cancel(f));
    finish(rt);
}
END_TEST

/* stel_runtime_stats: counters and facts of the whole runtime; -EINVAL. */
START_TEST(contract_stel_runtime_stats) {
    stel_stats s;
    stel_runtime *rt = runtime(2);
    EQ(join(spawn_in(rt, give, NULL)), 0);
    EQ(join(spawn_in(rt, give, THE(-1))), -1);
    stel_fiber f = spawn_in(rt, until_cancelled, NULL);
    memset(&s, 0xa5, sizeof s);
    OK(stel_runtime_stats(rt, &s));
    EQ(s.size, sizeof s);
    EQ(s.total_tasks_executed, 2);
    EQ(s.total_tasks_failed, 1);
    EQ(s.current_active_tasks, 1);
    EQ(s.spawned, 3);
    EQ(s.worker_count, 2);
    EQ(strcmp(s.backend_type, "epoll"), 0);
    IS(s.uptime_ns > 0);
    /* The wall clock may be set meanwhile: nearly now is near enough. */
    IS(s.start_time > STEL_SEC(time(NULL) - 600) && s.start_time < STEL_SEC(time(NULL) + 600));
    IS(s.peak_active_tasks >= 1 && s.stacks_reserved >= 1);
    EQ(stel_runtime_stats(rt, NULL), -EINVAL);
    EQ(stel_runtime_stats(NULL, &s), -EINVAL);
    OK(stel_cancel(f));
    finish(rt);
}
END_TEST

/* stel_runtime_stats_sized: as much as there is room for, and size says how much; -EINVAL. */
START_TEST(contract_stel_runtime_stats_sized) {
    stel_stats s;
    stel_runtime *rt = runtime(1);
    memset(&s, 0xa5, sizeof s);
    OK(stel_runtime_stats_sized(rt, &s, offsetof(stel_stats, spawned)));
    EQ(s.size, offsetof(stel_stats, spawned));
    EQ(s.worker_count, 1);
    EQ(s.spawned, UINT64_C(0xa5a5a5a5a5a5a5a5));
    EQ(stel_runtime_stats_sized(rt, &s, 1), -EINVAL);
    finish(rt);
}
END_TEST

/* stel_runtime_worker_stats: counters and facts of one worker; -EINVAL. */
START_TEST(contract_stel_runtime_worker_stats) {
    stel_worker_stats s;
    stel_runtime *rt = runtime(1);
    EQ(join(spawn_in(rt, give, NULL)), 0);
    EQ(join(spawn_in(rt, give, THE(-1))), -1);
    OK(stel_runtime_worker_stats(rt, 0, &s));
    EQ(s.size, sizeof s);
    EQ(s.worker_id, 0);
    EQ(s.tasks_executed, 2);
    EQ(s.tasks_failed, 1);
    IS(s.thread_id > 0 && s.thread_id != getpid());
    IS(s.switches >= 2 && s.cpu_usage_percent >= 0);
    EQ(stel_runtime_worker_stats(rt, 1, &s), -EINVAL);
    EQ(stel_runtime_worker_stats(rt, -1, &s), -EINVAL);
    EQ(stel_runtime_worker_stats(rt, 0, NULL), -EINVAL);
    EQ(stel_runtime_worker_stats(NULL, 0, &s), -EINVAL);
    finish(rt);
}
END_TEST

/* stel_runtime_worker_stats_sized: as much as there is room for, and size says how much; -EINVAL. */
START_TEST(contract_stel_runtime_worker_stats_sized) {
    stel_worker_stats s;
    stel_runtime *rt = runtime(1);
    memset(&s, 0xa5, sizeof s);
    OK(stel_runtime_worker_stats_sized(rt, 0, &s, offsetof(stel_worker_stats, spawned)));
    EQ(s.size, offsetof(stel_worker_stats, spawned));
    EQ(s.worker_id, 0);
    EQ(s.spawned, UINT64_C(0xa5a5a5a5a5a5a5a5));
    EQ(stel_runtime_worker_stats_sized(rt, 0, &s, 1), -EINVAL);
    finish(rt);
}
END_TEST

TEST_MAIN("contract/runtime", contract_stel_set_allocator, contract_stel_config_init, contract_stel_config_init_sized,
          contract_stel_config_from_env, contract_stel_run, contract_stel_shutdown, contract_stel_stopping,
          contract_stel_runtime_create, contract_stel_runtime_start, contract_stel_runtime_wait,
          contract_stel_runtime_stop, contract_stel_runtime_destroy, contract_stel_runtime_restart,
          contract_stel_runtime_current, contract_stel_runtime_spawn, contract_stel_runtime_is_running,
          contract_stel_runtime_pending, contract_stel_runtime_get_config, contract_stel_runtime_get_config_sized,
          contract_stel_runtime_update_config, contract_stel_runtime_stats, contract_stel_runtime_stats_sized,
          contract_stel_runtime_worker_stats, contract_stel_runtime_worker_stats_sized)
