/* The contract of stellane/fiber.h: spawning fibers and living as one. */
#include "contract.h"
#include "host/host.h"
#include <fenv.h>

static stel_fiber spawn_with(stel_spawn_options o, stel_fn *fn, void *arg) {
    stel_fiber f = 0;
    o.size = sizeof o;
    OK(stel_spawn_with(&f, &o, fn, arg));
    return f;
}

static int count(void *arg) {
    return atomic_fetch_add((atomic_int *)arg, 1);
}

/* ---- spawning ---- */

/* A runtime that is stopping, and will be as long as *held lives. */
static int shut_down(void *arg) {
    (void)arg;
    return stel_shutdown(STEL_FOREVER);
}
static stel_runtime *stopping(stel_fiber *held) {
    stel_runtime *rt = runtime(1);
    *held = spawn(until_cancelled, NULL);
    EQ(join(spawn(shut_down, NULL)), 0);
    return rt;
}
static void stopped(stel_runtime *rt, stel_fiber held) {
    OK(stel_cancel(held));
    OK(stel_runtime_wait(rt));
    OK(stel_runtime_destroy(rt));
}

/* What all spawns refuse alike. */
typedef int spawn_way(stel_fiber *out, stel_fn *fn, void *arg);
static spawn_way *way;

static void refuses(void) {
    stel_fiber f;
    EQ(way(&f, NULL, NULL), -EINVAL);
}
static void refuses_after_fork(void) {
    stel_fiber f;
    EQ(way(&f, give, NULL), -EPERM);
}
static void out_of_memory(void) {
    enum { MOST = 20000 }; /* more than the blocks that may be at hand */
    static stel_fiber f[MOST];
    int n = 0, rc = 0;
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    while (n < MOST && (rc = way(&f[n], give, NULL)) == 0)
        n++;
    stel__fault_clear();
    EQ(rc, -ENOMEM);
    for (int i = 0; i < n; i++) /* the others are none the worse for it */
        EQ(stel_join(f[i], NULL), 0);
}
static void out_of_stacks(void) {
    stel__fault_set(STEL__FAULT_MMAP, 1, ENOMEM, true);
    stel_fiber f[2000];
    int n = 0, rc = 0;
    for (int64_t give_up = stel_after(STEL_SEC(30)); rc == 0 && n < 2000 && stel_now() < give_up; stel_yield())
        if ((rc = way(&f[n], until_cancelled, NULL)) == 0) n++;
    stel__fault_clear();
    EQ(rc, -ENOMEM);
    for (int i = 0; i < n; i++)
        OK(stel_cancel(f[i]));
    for (int i = 0; i < n; i++)
        EQ(join(f[i]), -ECANCELED);
}
static void all_refusals(spawn_way *spawn_by) {
    stel_fiber f;
    stel_config c;
    way = spawn_by;
    EQ(way(&f, give, NULL), -EPERM); /* no runtime */
    on_both(refuses);
    stel_config_init(&c);
    c.max_fibers = 2;
    stel_runtime *rt = runtime_with(&c);
    for (int i = 0; i < 2; i++)
        OK(way(&f, until_cancelled, NULL));
    EQ(way(&f, give, NULL), -EAGAIN);
    finish(rt);
    rt = stopping(&f);
    stel_fiber none;
    EQ(way(&none, give, NULL), -ESHUTDOWN);
    stopped(rt, f);
    in_forked_child(refuses_after_fork);
}

static int is_me(void *arg) {
    return *(stel_fiber *)arg == stel_self();
}
static void spawns(void) {
    static stel_fiber f;
    int result = 0;
    OK(stel_spawn(&f, is_me, &f)); /* written before it can run */
    OK(stel_join(f, &result));
    EQ(result, 1);
    EQ(stel_spawn(NULL, give, NULL), -EINVAL);
}

/* stel_spawn: starts a joinable fiber; *out is written before it can run; -EINVAL -EPERM -EAGAIN -ENOMEM -ESHUTDOWN. */
START_TEST(contract_stel_spawn) {
    all_refusals(stel_spawn);
    in_fiber(out_of_memory);
    in_fiber(out_of_stacks);
    on_both(spawns);
}
END_TEST

static int spawn_by_options(stel_fiber *out, stel_fn *fn, void *arg) {
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    return stel_spawn_with(out, &o, fn, arg);
}
static int uses_700_kib(void *arg) {
    volatile char frame[700 << 10];
    (void)arg;
    for (size_t i = 0; i < sizeof frame; i += 512)
        frame[i] = 1;
    return frame[512];
}
static int is_called_tim(void *arg) {
    char name[8];
    (void)arg;
    OK(stel_fiber_name(stel_self(), name, sizeof name));
    return strcmp(name, "tim") == 0;
}
static void spawns_with_options(void) {
    static atomic_int ran;
    stel_fiber f = 0;
    atomic_store(&ran, 0);
    OK(stel_spawn_with(NULL, NULL, count, &ran)); /* detached, all defaults */
    EVENTUALLY(atomic_load(&ran) == 1);
    EQ(join(spawn_with((stel_spawn_options){ .stack_bytes = 1 << 20 }, uses_700_kib, NULL)), 1);
    EQ(join(spawn_with((stel_spawn_options){ .name = "tim" }, is_called_tim, NULL)), 1);
    stel_spawn_options named = STEL_SPAWN_OPTIONS_INIT;
    named.name = "tim";
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    EQ(stel_spawn_with(&f, &named, is_called_tim, NULL), -ENOMEM); /* for the name */
    stel__fault_clear();
    const stel_spawn_options wrong[] = {
        { .size = sizeof wrong[0], .priority = -5 },
        { .size = sizeof wrong[0], .priority = 4 },
        { .size = sizeof wrong[0], .place = STEL_WORKER(1) },
        { .size = sizeof wrong[0], .place = STEL_NODE(100000) },
        { .size = sizeof wrong[0], .flags = 1u << 3 },
        { .size = sizeof wrong[0], .stack_bytes = SIZE_MAX / 2 },
        { .size = 0 },
        { .size = SIZE_MAX },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        EQ(stel_spawn_with(&f, &wrong[i], give, NULL), -EINVAL);
    EQ(f, 0);
}

/* stel_spawn_with: with options (name, priority, place, stack, flags), detached when out is NULL; refuses as stel_spawn,
 * and -EINVAL for each field out of range. */
START_TEST(contract_stel_spawn_with) {
    all_refusals(spawn_by_options);
    on_both(spawns_with_options);
}
END_TEST

/* STEL_SPAWN_OPTIONS_INIT: the struct's size, and zero, the default, in every field. */
START_TEST(contract_STEL_SPAWN_OPTIONS_INIT) {
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    ck_assert_uint_eq(o.size, sizeof o);
    ck_assert(!o.name && !o.priority && !o.place && !o.stack_bytes && !o.flags);
}
END_TEST

static void goes(void) {
    static atomic_int ran;
    atomic_store(&ran, 0);
    OK(stel_go(count, &ran));
    EVENTUALLY(atomic_load(&ran) == 1);
}
static void go_refusals(void) {
    stel_fiber f;
    stel_config c;
    EQ(stel_go(give, NULL), -EPERM);
    stel_config_init(&c);
    c.max_fibers = 1;
    stel_runtime *rt = runtime_with(&c);
    OK(stel_spawn(&f, until_cancelled, NULL));
    EQ(stel_go(give, NULL), -EAGAIN);
    EQ(stel_go(NULL, NULL), -EINVAL);
    finish(rt);
    rt = stopping(&f);
    EQ(stel_go(give, NULL), -ESHUTDOWN);
    stopped(rt, f);
}
static void go_without_memory(void) {
    int rc = 0;
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    for (int i = 0; i < 20000 && rc == 0; i++)
        rc = stel_go(give, NULL);
    stel__fault_clear();
    EQ(rc, -ENOMEM);
}
static void go_after_fork(void) {
    EQ(stel_go(give, NULL), -EPERM);
}

/* stel_go: starts a detached fiber; refuses as stel_spawn. */
START_TEST(contract_stel_go) {
    go_refusals();
    on_both(goes);
    in_fiber(go_without_memory);
    in_forked_child(go_after_fork);
}
END_TEST

static int spawn_late(stel_fiber *out, stel_fn *fn, void *arg) {
    return stel_spawn_after(out, 0, fn, arg);
}
static void spawns_after(void) {
    static atomic_int ran;
    stel_fiber f;
    int64_t before = stel_now();
    atomic_store(&ran, 0);
    OK(stel_spawn_after(&f, STEL_MS(5), count, &ran));
    OK(stel_join(f, NULL));
    IS(stel_now() - before >= STEL_MS(5));
    EQ(atomic_load(&ran), 1);
    OK(stel_spawn_after(&f, STEL_FOREVER, count, &ran)); /* cancelled before its time: it never runs */
    OK(stel_cancel(f));
    EQ(join(f), -ECANCELED);
    EQ(atomic_load(&ran), 1);
    OK(stel_spawn_after(NULL, LONG_PAST, count, &ran)); /* detached, and at once */
    EVENTUALLY(atomic_load(&ran) == 2);
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    EQ(stel_spawn_after(&f, 0, count, &ran), -ENOMEM);
    stel__fault_clear();
}

/* stel_spawn_after: fn begins after the delay; cancelled before, the fiber ends with -ECANCELED and fn is not run;
 * refuses as stel_spawn. */
START_TEST(contract_stel_spawn_after) {
    all_refusals(spawn_late);
    on_both(spawns_after);
}
END_TEST

/* ---- the end, and who learns of it ---- */

static int join_it(void *arg) {
    return stel_join(*(stel_fiber *)arg, NULL);
}
static int join_myself(void *arg) {
    (void)arg;
    return stel_join(stel_self(), NULL);
}

/* stel_join: waits for the end and takes the result; once. -ESRCH -EDEADLK -ETIMEDOUT -ECANCELED; one that was cut short
 * leaves the fiber joinable. */
ON_BOTH(contract_stel_join) {
    EQ(join(spawn(give, THE(7))), 7);
    EQ(join(spawn(give, THE(-EBADMSG))), -EBADMSG);
    stel_fiber f = spawn(give, NULL);
    OK(stel_join(f, NULL)); /* who does not care for the result */
    EQ(stel_join(f, NULL), -ESRCH);
    EQ(stel_join(0, NULL), -ESRCH);
    EQ(join(spawn(join_myself, NULL)), -EDEADLK);
    f = spawn(until_cancelled, NULL);
    OK(stel_detach(f));
    EQ(stel_join(f, NULL), -ESRCH);
    OK(stel_cancel(f));
    f = spawn(until_cancelled, NULL);
    obeys_limits(join_it, &f); /* and is joinable after all of that */
    stel_fiber other = spawn(join_it, &f);
    EVENTUALLY(stel_try_join(f, NULL) == -ESRCH); /* somebody else is joining it */
    EQ(stel_join(f, NULL), -ESRCH);
    OK(stel_cancel(f));
    EQ(join(other), 0);
}

static int try_join_myself(void *arg) {
    (void)arg;
    return stel_try_join(stel_self(), NULL);
}

/* stel_try_join: the result of a fiber that has ended, without waiting; -EAGAIN -ESRCH -EDEADLK. */
ON_BOTH(contract_stel_try_join) {
    int result = 0, rc;
    stel_fiber f = spawn(until_cancelled, NULL);
    EQ(stel_try_join(f, &result), -EAGAIN);
    OK(stel_cancel(f));
    while ((rc = stel_try_join(f, &result)) == -EAGAIN)
        check_fiber_nap();
    EQ(rc, 0);
    EQ(result, -ECANCELED);
    EQ(stel_try_join(f, &result), -ESRCH);
    EQ(stel_try_join(0, &result), -ESRCH);
    f = spawn(give, NULL);
    EVENTUALLY(stel_try_join(f, NULL) == 0);
    EQ(join(spawn(try_join_myself, NULL)), -EDEADLK);
}

/* stel_detach: the fiber runs on and nobody joins it; -ESRCH for one that is stale, detached or being joined. */
ON_BOTH(contract_stel_detach) {
    static atomic_int ran;
    atomic_store(&ran, 0);
    stel_fiber f = spawn(until_cancelled, NULL);
    OK(stel_detach(f));
    EQ(stel_detach(f), -ESRCH);
    EQ(stel_join(f, NULL), -ESRCH);
    OK(stel_cancel(f)); /* it lives */
    EVENTUALLY(stel_cancel(f) == -ESRCH);
    f = spawn(give, NULL);
    EQ(join(f), 0);
    EQ(stel_detach(f), -ESRCH);
    EQ(stel_detach(0), -ESRCH);
    f = spawn(until_cancelled, NULL);
    stel_fiber other = spawn(join_it, &f);
    EVENTUALLY(stel_try_join(f, NULL) == -ESRCH);
    EQ(stel_detach(f), -ESRCH);
    OK(stel_cancel(f));
    EQ(join(other), 0);
}

static stel_key exit_key;
static atomic_int destroyed, child_ended;

static void sees_no_deadline(void *value) {
    (void)value;
    EQ(stel_deadline(), STEL_FOREVER);
    atomic_fetch_add(&destroyed, 1);
}
static int child_of_scope(void *arg) {
    int rc = stel_sleep(STEL_FOREVER);
    atomic_fetch_add((atomic_int *)arg, 1);
    return rc;
}
static void leave_deep(int depth, int result) {
    STEL_TIMEOUT(STEL_SEC(1000));
    if (depth < 0) return;
    if (depth == 0) stel_exit(result);
    leave_deep(depth - 1, result);
}
static int leaves(void *arg) {
    STEL_SCOPE(s);
    OK(stel_scope_spawn(&s, child_of_scope, &child_ended));
    OK(stel_local_set(exit_key, arg));
    stel_yield(); /* the child has begun */
    leave_deep(5, 42);
    return 1;
}
static void exits(void) {
    atomic_store(&destroyed, 0);
    atomic_store(&child_ended, 0);
    EQ(join(spawn(leaves, "x")), 42);
    EQ(atomic_load(&child_ended), 1); /* before the end was told */
    EQ(atomic_load(&destroyed), 1);
}
static void exit_of_a_thread(void) {
    stel_exit(0);
}

/* stel_exit: ends the caller from any depth; scopes are cancelled and joined, deadlines popped, locals destroyed; a
 * plain thread aborts. */
START_TEST(contract_stel_exit) {
    must_abort(exit_of_a_thread, "stel_exit");
    ck_assert_int_eq(stel_local_key(&exit_key, sees_no_deadline), 0);
    in_fiber(exits);
}
END_TEST

/* ---- cancelling ---- */

static int never_waits(void *arg) {
    while (!stel_cancelled())
        stel_yield();
    return (int)(intptr_t)arg;
}

/* stel_cancel: the wait that is on and all later ones fail with -ECANCELED; twice is harmless; who does not wait goes
 * on; -ESRCH. */
ON_BOTH(contract_stel_cancel) {
    stel_fiber f = spawn(until_cancelled, NULL);
    check_fiber_nap();
    OK(stel_cancel(f));
    EQ(join(f), -ECANCELED);
    EQ(stel_cancel(f), -ESRCH);
    EQ(stel_cancel(0), -ESRCH);
    f = spawn(never_waits, THE(5));
    OK(stel_cancel(f));
    OK(stel_cancel(f));
    EQ(join(f), 5);
}

static int asks(void *arg) {
    (void)arg;
    IS(!stel_cancelled());
    OK(stel_cancel(stel_self()));
    IS(stel_cancelled());
    STEL_SHIELD(STEL_SEC(1));
    return stel_cancelled();
}

/* stel_cancelled: has the caller been cancelled, also behind a shield; false on a plain thread. */
START_TEST(contract_stel_cancelled) {
    ck_assert(!stel_cancelled());
    stel_runtime *rt = runtime(1);
    EQ(join(spawn(asks, NULL)), 1);
    finish(rt);
}
END_TEST

static int shielded(void *arg) {
    (void)arg;
    EQ(stel_sleep(1), -ECANCELED);
    {
        STEL_TIMEOUT(LONG_PAST);
        STEL_SHIELD(STEL_SEC(1000));
        EQ(stel_sleep(1), 0); /* hidden: the cancellation and the deadline */
        {
            STEL_TIMEOUT(LONG_PAST);
            EQ(stel_sleep(1), -ETIMEDOUT); /* one opened inside holds as always */
        }
        {
            STEL_SHIELD(LONG_PAST); /* the inner one counts */
            EQ(stel_sleep(1), -ECANCELED);
        }
        EQ(stel_sleep(1), 0);
    }
    EQ(stel_sleep(1), -ECANCELED); /* the block was left */
    int64_t before = stel_now();
    STEL_SHIELD(STEL_MS(3));
    EQ(stel_sleep(STEL_FOREVER), -ECANCELED); /* for its length at the most */
    IS(stel_now() - before >= STEL_MS(3));
    return 1;
}

/* STEL_SHIELD: until the block is left, for a time at the most, earlier cancellation and outer deadlines are hidden;
 * deadlines opened inside hold; shields nest. */
IN_FIBER(contract_STEL_SHIELD) {
    stel_fiber f = spawn(shielded, NULL);
    OK(stel_cancel(f));
    EQ(join(f), 1);
}

static int opens_shield(void *arg) {
    (void)arg;
    OK(stel_cancel(stel_self()));
    stel_shield before = stel_shield_open(STEL_SEC(1000));
    EQ(stel_sleep(1), 0);
    stel_shield_close(before);
    return stel_sleep(1);
}

/* stel_shield_open: what STEL_SHIELD does at its place; on a plain thread it hides the deadline. */
START_TEST(contract_stel_shield_open) {
    STEL_TIMEOUT(LONG_PAST);
    ck_assert_int_eq(stel_sleep(1), -ETIMEDOUT);
    stel_shield before = stel_shield_open(STEL_SEC(1000));
    ck_assert_int_eq(stel_sleep(1), 0);
    stel_shield_close(before);
    stel_runtime *rt = runtime(1);
    {
        STEL_SHIELD(STEL_SEC(1000));
        EQ(join(spawn(opens_shield, NULL)), -ECANCELED);
        finish(rt);
    }
}
END_TEST

/* stel_shield_close: what was hidden shows again; the shield around it counts. */
ON_BOTH(contract_stel_shield_close) {
    STEL_TIMEOUT(LONG_PAST);
    stel_shield outer = stel_shield_open(STEL_SEC(1000));
    stel_shield inner = stel_shield_open(STEL_SEC(2000));
    stel_shield_close(inner);
    EQ(stel_sleep(1), 0);
    stel_shield_close(outer);
    EQ(stel_sleep(1), -ETIMEDOUT);
}

/* ---- giving way, sleeping, parking ---- */

static char order[8];
static int places;
static int says(void *arg) {
    for (int i = 0; i < 3; i++) {
        order[places++] = (char)(intptr_t)arg;
        stel_yield();
    }
    return 0;
}

static void takes_turns(void) {
    STEL_TIMEOUT(LONG_PAST);
    places = 0;
    stel_fiber a = spawn(says, THE('a')), b = spawn(says, THE('b'));
    OK(stel_cancel(a));
    for (int i = 0; i < 10; i++)
        stel_yield();
    EQ(places, 6);
    for (int i = 0; i < 6; i += 2)
        IS(order[i] != order[i + 1]); /* by turns */
    EQ(stel_try_join(a, NULL), 0);
    EQ(stel_try_join(b, NULL), 0);
}

/* stel_yield: the others run before the caller goes on; not cut short; on a plain thread sched_yield. */
START_TEST(contract_stel_yield) {
    stel_yield();
    in_fiber(takes_turns);
}
END_TEST

static int sleep_long(void *arg) {
    return stel_sleep(*(int64_t *)arg);
}

/* stel_sleep: at least the length; a length that has passed is a yield; -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_sleep) {
    int64_t before = stel_now(), hour = STEL_SEC(3600);
    OK(stel_sleep(STEL_MS(2)));
    IS(stel_now() - before >= STEL_MS(2));
    OK(stel_sleep(0));
    OK(stel_sleep(INT64_MIN));
    obeys_limits(sleep_long, &hour);
}

static int sleep_until_long(void *arg) {
    return stel_sleep_until(*(int64_t *)arg);
}

/* stel_sleep_until: until a point in time; one that has passed is a yield; -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_sleep_until) {
    int64_t when = stel_after(STEL_MS(2)), never = STEL_FOREVER;
    OK(stel_sleep_until(when));
    IS(stel_now() >= when);
    OK(stel_sleep_until(when));
    OK(stel_sleep_until(INT64_MIN));
    obeys_limits(sleep_until_long, &never);
}

static int parks(void *arg) {
    (void)arg;
    return stel_park();
}
static void park_body(void) {
    OK(stel_unpark(stel_self())); /* before the park */
    OK(stel_unpark(stel_self())); /* they do not add up */
    OK(stel_park());
    {
        STEL_TIMEOUT(STEL_MS(2));
        EQ(stel_park(), -ETIMEDOUT);
    }
    obeys_limits(parks, NULL);
    {
        STEL_TIMEOUT(LONG_PAST);
        OK(stel_unpark(stel_self()));
        EQ(stel_park(), -ETIMEDOUT);
    }
    OK(stel_park()); /* the token was kept */
}

/* stel_park: waits for the one token and takes it; -EPERM on a plain thread; -ETIMEDOUT -ECANCELED keep the token. */
START_TEST(contract_stel_park) {
    ck_assert_int_eq(stel_park(), -EPERM);
    in_fiber(park_body);
}
END_TEST

/* stel_unpark: gives a fiber its token, from anywhere, before it parks or while it does; -ESRCH. */
ON_BOTH(contract_stel_unpark) {
    stel_fiber f = spawn(parks, NULL);
    check_fiber_nap(); /* parked, most likely */
    OK(stel_unpark(f));
    EQ(join(f), 0);
    EQ(stel_unpark(f), -ESRCH);
    EQ(stel_unpark(0), -ESRCH);
    f = spawn(parks, NULL);
    OK(stel_unpark(f));
    EQ(join(f), 0);
}

/* ---- who am I ---- */

static int tells_self(void *arg) {
    *(stel_fiber *)arg = stel_self();
    return 0;
}

/* stel_self: the caller's handle; 0 on a plain thread. */
START_TEST(contract_stel_self) {
    ck_assert_uint_eq(stel_self(), 0);
    stel_runtime *rt = runtime(1);
    stel_fiber told = 0, f = spawn(tells_self, &told);
    EQ(join(f), 0);
    EQ(told, f);
    finish(rt);
}
END_TEST

static int worker_of(void *arg) {
    (void)arg;
    return stel_worker_id();
}
static void on_worker_1(void) {
    EQ(join(spawn_with((stel_spawn_options){ .place = STEL_WORKER(0) }, worker_of, NULL)), 0);
    EQ(stel_worker_id(), 0);
}

/* stel_worker_id: the worker that runs the caller, 0 and up; -EPERM on a plain thread. */
START_TEST(contract_stel_worker_id) {
    ck_assert_int_eq(stel_worker_id(), -EPERM);
    in_fiber(on_worker_1);
}
END_TEST

/* stel_fiber_name: a copy of the name, cut to the room; empty without one; -ESRCH -EINVAL. */
ON_BOTH(contract_stel_fiber_name) {
    char name[64];
    stel_fiber f =
        spawn_with((stel_spawn_options){ .name = "0123456789012345678901234567890123" }, until_cancelled, NULL);
    OK(stel_fiber_name(f, name, sizeof name));
    EQ(strcmp(name, "0123456789012345678901234567890"), 0); /* 31 bytes */
    OK(stel_fiber_name(f, name, 4));
    EQ(strcmp(name, "012"), 0);
    EQ(stel_fiber_name(f, NULL, 4), -EINVAL);
    EQ(stel_fiber_name(f, name, 0), -EINVAL);
    OK(stel_cancel(f));
    EQ(join(f), -ECANCELED);
    EQ(stel_fiber_name(f, name, 4), -ESRCH);
    f = spawn(until_cancelled, NULL);
    OK(stel_fiber_name(f, name, 4));
    EQ(strcmp(name, ""), 0);
    OK(stel_cancel(f));
    EQ(join(f), -ECANCELED);
}

/* stel_fiber_created: when it was spawned, by the clock of stel_now; -ESRCH. */
ON_BOTH(contract_stel_fiber_created) {
    OK(stel_sleep(1)); /* the cached clock is fresh */
    int64_t before = stel_now() - STEL_MS(1);
    stel_fiber f = spawn(until_cancelled, NULL);
    int64_t created = stel_fiber_created(f);
    IS(created >= before - STEL_SEC(1) && created <= stel_now());
    OK(stel_cancel(f));
    EQ(join(f), -ECANCELED);
    EQ(stel_fiber_created(f), -ESRCH);
    EQ(stel_fiber_created(0), -ESRCH);
}

/* stel_fiber_priority: a fiber's priority; -ESRCH -EINVAL. */
ON_BOTH(contract_stel_fiber_priority) {
    int priority = 99;
    stel_fiber f = spawn_with((stel_spawn_options){ .priority = -3 }, until_cancelled, NULL);
    OK(stel_fiber_priority(f, &priority));
    EQ(priority, -3);
    EQ(stel_fiber_priority(f, NULL), -EINVAL);
    OK(stel_cancel(f));
    EQ(join(f), -ECANCELED);
    EQ(stel_fiber_priority(f, &priority), -ESRCH);
}

static void names(void) {
    char name[64];
    OK(stel_set_name("a name of more than thirty-one bytes"));
    OK(stel_fiber_name(stel_self(), name, sizeof name));
    EQ(strcmp(name, "a name of more than thirty-one "), 0);
    OK(stel_set_name(NULL));
    OK(stel_fiber_name(stel_self(), name, sizeof name));
    EQ(strcmp(name, ""), 0);
}
static int names_without_memory(void *arg) {
    (void)arg;
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    int rc = stel_set_name("x");
    stel__fault_clear();
    return rc;
}
static void no_memory_for_a_name(void) {
    EQ(join(spawn(names_without_memory, NULL)), -ENOMEM);
}

/* stel_set_name: the caller's name, cut at 31 bytes, NULL takes it away; -EPERM on a plain thread, -ENOMEM. */
START_TEST(contract_stel_set_name) {
    ck_assert_int_eq(stel_set_name("x"), -EPERM);
    in_fiber(names);
    in_fiber(no_memory_for_a_name);
}
END_TEST

static void sets_priority(void) {
    int priority = 0;
    OK(stel_set_priority(3));
    OK(stel_fiber_priority(stel_self(), &priority));
    EQ(priority, 3);
    OK(stel_set_priority(-4));
    EQ(stel_set_priority(-5), -EINVAL);
    EQ(stel_set_priority(4), -EINVAL);
    OK(stel_fiber_priority(stel_self(), &priority));
    EQ(priority, -4);
}

/* stel_set_priority: the caller's, from -4 to 3; -EPERM on a plain thread, -EINVAL. */
START_TEST(contract_stel_set_priority) {
    ck_assert_int_eq(stel_set_priority(0), -EPERM);
    in_fiber(sets_priority);
}
END_TEST

/* ---- locals ---- */

static stel_key first_key, second_key;
static char destroyed_in[16];
static int rounds;

static void first_goes(void *value) {
    strcat(destroyed_in, value);
    OK(stel_sleep(1)); /* it may wait */
}
static void second_goes(void *value) {
    strcat(destroyed_in, value);
    if (++rounds < 10) OK(stel_local_set(second_key, value)); /* again: for four rounds */
}
static int sets_both(void *arg) {
    OK(stel_local_set(second_key, "2"));
    OK(stel_local_set(first_key, "1"));
    if (arg) stel_exit(0);
    return 0;
}
static void keys_of_fibers(void) {
    stel_key key;
    for (intptr_t way_out = 0; way_out < 2; way_out++) {
        destroyed_in[0] = 0;
        rounds = 0;
        EQ(join(spawn(sets_both, THE(way_out))), 0);
        EQ(strcmp(destroyed_in, "12222"), 0); /* in key order; four rounds at the most */
    }
    EQ(stel_local_key(NULL, NULL), -EINVAL);
    for (int i = 2; i < 64; i++)
        OK(stel_local_key(&key, NULL));
    EQ(stel_local_key(&key, NULL), -EAGAIN);
}

/* stel_local_key: one of 64 keys; destructors run when the fiber ends, in key order, on every way out, may wait, and run
 * again while values are set, four rounds at the most; -EAGAIN -EINVAL. */
START_TEST(contract_stel_local_key) {
    ck_assert_int_eq(stel_local_key(&first_key, first_goes), 0);
    ck_assert_int_eq(stel_local_key(&second_key, second_goes), 0);
    in_fiber(keys_of_fibers);
}
END_TEST

static int value_is_null(void *arg) {
    (void)arg;
    return stel_local_get(first_key) == NULL;
}
static void gets(void) {
    OK(stel_local_set(first_key, "mine"));
    EQ(join(spawn(value_is_null, NULL)), 1); /* each fiber has its own */
    EQ(strcmp(stel_local_get(first_key), "mine"), 0);
    IS(stel_local_get(63) == NULL);
    IS(stel_local_get(12345) == NULL);
}

/* stel_local_get: the caller's value; NULL when nobody set it, and where set would fail. */
START_TEST(contract_stel_local_get) {
    ck_assert_int_eq(stel_local_key(&first_key, NULL), 0);
    ck_assert_ptr_null(stel_local_get(first_key));
    in_fiber(gets);
}
END_TEST

static void sets(void) {
    OK(stel_local_set(first_key, "a"));
    OK(stel_local_set(first_key, "b"));
    EQ(strcmp(stel_local_get(first_key), "b"), 0);
    EQ(stel_local_set(63, NULL), -EINVAL);
}
static void sets_without_memory(void) {
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    int rc = stel_local_set(first_key, "a");
    stel__fault_clear();
    EQ(rc, -ENOMEM);
    IS(stel_local_get(first_key) == NULL);
}

/* stel_local_set: the caller's value of a key; -EINVAL -ENOMEM, -EPERM on a plain thread. */
START_TEST(contract_stel_local_set) {
    ck_assert_int_eq(stel_local_key(&first_key, NULL), 0);
    ck_assert_int_eq(stel_local_set(first_key, NULL), -EPERM);
    in_fiber(sets);
    in_fiber(sets_without_memory);
}
END_TEST

static int inherited, given_back;
static void *inherit(void *value) {
    inherited++;
    return strcmp(value, "not this") ? value : NULL;
}
static void give_back(void *value) {
    (void)value;
    given_back++;
}
static int has_inherited(void *arg) {
    (void)arg;
    const char *value = stel_local_get(first_key);
    return value && strcmp(value, "ctx") == 0;
}
static void passes_on(void) {
    stel_key key;
    OK(stel_local_set(first_key, "ctx"));
    stel_fiber f = spawn(has_inherited, NULL);
    EQ(inherited, 1); /* by the spawner, before the child runs */
    EQ(join(f), 1);
    EQ(given_back, 1);
    OK(stel_spawn_after(&f, 0, has_inherited, NULL));
    EQ(join(f), 1);
    EQ(join(spawn_with((stel_spawn_options){ .name = "x" }, has_inherited, NULL)), 1);
    stel_scope s;
    OK(stel_scope_open(&s, 0));
    OK(stel_scope_spawn(&s, has_inherited, NULL));
    OK(stel_scope_join(&s));
    EQ(inherited, 4);
    OK(stel_local_set(first_key, "not this"));
    EQ(join(spawn(has_inherited, NULL)), 0);
    EQ(stel_local_key_inherited(NULL, inherit, NULL), -EINVAL);
    EQ(stel_local_key_inherited(&key, NULL, NULL), -EINVAL);
    for (int i = 1; i < 64; i++)
        OK(stel_local_key(&key, NULL));
    EQ(stel_local_key_inherited(&key, inherit, NULL), -EAGAIN);
}

/* stel_local_key_inherited: values go on to the fibers spawned by whatever call, through inherit(), called by the
 * spawner; NULL: none; -EAGAIN -EINVAL. */
START_TEST(contract_stel_local_key_inherited) {
    ck_assert_int_eq(stel_local_key_inherited(&first_key, inherit, give_back), 0);
    in_fiber(passes_on);
}
END_TEST

/* ---- places, flags, priorities ---- */

static stel_runtime *two_workers;
static void with_two_workers(void (*body)(void)) {
    two_workers = runtime(2);
    EQ(join(spawn(body_of, &body)), 0);
    finish(two_workers);
}
#define ON_TWO(test) TEST_BY(with_two_workers, test)

/* Hold the worker for some milliseconds: whoever may move, moves. */
static int hogs(void *arg) {
    (void)arg;
    for (int64_t until = stel_after(STEL_MS(2)); stel_now() < until;)
        stel__cpu_relax();
    return 0;
}
static int stays(void *arg) {
    int home = arg ? (int)(intptr_t)arg - 1 : stel_worker_id();
    for (int i = 0; i < 4; i++) {
        EQ(stel_worker_id(), home);
        OK(stel_go(hogs, NULL));
        stel_yield();
        EQ(stel_worker_id(), home);
        OK(stel_sleep(STEL_US(100)));
    }
    EQ(stel_worker_id(), home);
    return 0;
}

static atomic_int met;
static int meets_another(void *arg) {
    (void)arg;
    atomic_fetch_add(&met, 1);
    for (int64_t give_up = stel_after(STEL_SEC(30)); atomic_load(&met) < 2;)
        IS(stel_now() < give_up); /* never leaves its worker: the other one must have one of its own */
    return 0;
}

/* STEL_ANYWHERE: 0, the default: any worker may run the fiber. */
ON_TWO(contract_STEL_ANYWHERE) {
    stel_spawn_options o = { .place = STEL_ANYWHERE };
    EQ(o.place, 0);
    atomic_store(&met, 0);
    stel_fiber a = spawn_with(o, meets_another, NULL), b = spawn_with(o, meets_another, NULL);
    EQ(join(a), 0);
    EQ(join(b), 0);
}

/* STEL_WORKER: the fiber runs on that worker first, and stays. */
ON_TWO(contract_STEL_WORKER) {
    for (int worker = 0; worker < 2; worker++)
        EQ(join(spawn_with((stel_spawn_options){ .place = STEL_WORKER(worker) }, stays, THE(worker + 1))), 0);
}

/* STEL_NODE: a NUMA node's workers: never the number of a worker, nor anywhere. */
ON_TWO(contract_STEL_NODE) {
    IS(STEL_NODE(0) < 0 && STEL_NODE(1) < STEL_NODE(0));
    EQ(join(spawn_with((stel_spawn_options){ .place = STEL_NODE(0) }, give, THE(3))), 3);
}

/* STEL_NO_MIGRATE: stays on the worker that runs it first. */
ON_TWO(contract_STEL_NO_MIGRATE) {
    EQ(join(spawn_with((stel_spawn_options){ .flags = STEL_NO_MIGRATE }, stays, NULL)), 0);
}

static int rounds_up(void *arg) {
    (void)arg;
    fesetround(FE_UPWARD);
    stel_yield();
    return fegetround() == FE_UPWARD;
}

/* STEL_FP_ENVIRONMENT: a rounding mode of its own, which others do not see. */
IN_FIBER(contract_STEL_FP_ENVIRONMENT) {
    stel_fiber f = spawn_with((stel_spawn_options){ .flags = STEL_FP_ENVIRONMENT }, rounds_up, NULL);
    stel_yield();
    EQ(fegetround(), FE_TONEAREST);
    EQ(join(f), 1);
    EQ(fegetround(), FE_TONEAREST);
}

/* STEL_BACKGROUND: does not keep a runtime with auto_shutdown alive; cancelled when all counted fibers have ended. */
START_TEST(contract_STEL_BACKGROUND) {
    stel_config c;
    stel_fiber first, background;
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    stel_config_init(&c);
    c.auto_shutdown = 1;
    stel_runtime *rt = NULL;
    OK(stel_runtime_create(&rt, &c));
    o.flags = STEL_BACKGROUND;
    OK(stel_runtime_spawn(rt, &background, &o, until_cancelled, NULL));
    OK(stel_runtime_spawn(rt, &first, NULL, give, NULL));
    OK(stel_runtime_start(rt));
    ck_assert_int_eq(stel_runtime_wait(rt), 0);
    EQ(join(background), -ECANCELED);
    EQ(join(first), 0);
    OK(stel_runtime_destroy(rt));
}
END_TEST

/* Spawn the second first: it must run second all the same. */
static void in_order(int first, int second) {
    places = 0;
    stel_fiber b = spawn_with((stel_spawn_options){ .priority = second }, says, THE('b'));
    stel_fiber a = spawn_with((stel_spawn_options){ .priority = first }, says, THE('a'));
    EQ(join(a), 0);
    EQ(join(b), 0);
    EQ(order[0], 'a');
}

/* STEL_PRIORITY_MOST_URGENT: -4; runs before a fiber of normal priority. */
IN_FIBER(contract_STEL_PRIORITY_MOST_URGENT) {
    EQ(STEL_PRIORITY_MOST_URGENT, -4);
    in_order(STEL_PRIORITY_MOST_URGENT, STEL_PRIORITY_NORMAL);
}

/* STEL_PRIORITY_NORMAL: 0, the default. */
IN_FIBER(contract_STEL_PRIORITY_NORMAL) {
    int priority = 99;
    EQ(STEL_PRIORITY_NORMAL, 0);
    OK(stel_fiber_priority(stel_self(), &priority));
    EQ(priority, STEL_PRIORITY_NORMAL);
}

/* STEL_PRIORITY_LEAST_URGENT: 3; runs after a fiber of normal priority. */
IN_FIBER(contract_STEL_PRIORITY_LEAST_URGENT) {
    EQ(STEL_PRIORITY_LEAST_URGENT, 3);
    in_order(STEL_PRIORITY_NORMAL, STEL_PRIORITY_LEAST_URGENT);
}

TEST_MAIN("contract/fiber", contract_stel_spawn, contract_stel_spawn_with, contract_STEL_SPAWN_OPTIONS_INIT,
          contract_stel_go, contract_stel_spawn_after, contract_stel_join, contract_stel_try_join, contract_stel_detach,
          contract_stel_exit, contract_stel_cancel, contract_stel_cancelled, contract_STEL_SHIELD,
          contract_stel_shield_open, contract_stel_shield_close, contract_stel_yield, contract_stel_sleep,
          contract_stel_sleep_until, contract_stel_park, contract_stel_unpark, contract_stel_self,
          contract_stel_worker_id, contract_stel_fiber_name, contract_stel_fiber_created, contract_stel_fiber_priority,
          contract_stel_set_name, contract_stel_set_priority, contract_stel_local_key, contract_stel_local_get,
          contract_stel_local_set, contract_stel_local_key_inherited, contract_STEL_ANYWHERE, contract_STEL_WORKER,
          contract_STEL_NODE, contract_STEL_NO_MIGRATE, contract_STEL_FP_ENVIRONMENT, contract_STEL_BACKGROUND,
          contract_STEL_PRIORITY_MOST_URGENT, contract_STEL_PRIORITY_NORMAL, contract_STEL_PRIORITY_LEAST_URGENT)
