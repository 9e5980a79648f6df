/* The rules that belong to no single call: waiting, memory, threads, time, handles, wrong use. Those of descriptors are
 * in test_rules_io.c, those of sizes, structs and processes in test_rules_abi.c.
 *
 * Rules that are kept elsewhere:
 *
 *   elsewhere: rule_cxx_exceptions_work_inside_a_fiber: tests/install/use_cxx.cc
 *   elsewhere: rule_an_exception_that_escapes_ends_with_a_message: tests/install/use_cxx.cc
 *   elsewhere: rule_headers_compile_alone_as_c11_and_cxx17: tests/install/headers.sh
 *   elsewhere: rule_only_what_the_headers_declare_is_exported: tools/symbols
 *   elsewhere: rule_names_have_our_prefixes: tools/symbols
 *   elsewhere: rule_the_first_program_works: tests/install/build_and_run.sh
 *   elsewhere: rule_calls_whose_code_must_be_seen_warn: tests/contract/must_check.py */
#include "contract.h"
#include "ends.h"
#include <stellane/io.h>

/* ---- every wait that there is ---- */

static struct {
    stel_mutex mutex;
    stel_cond cond;
    stel_event event;
    stel_waitgroup group;
    stel_sem sem;
    stel_barrier barrier;
    stel_once once;
    stel_chan *chan;
    stel_fiber sleeper;
    stel_runtime *other;
    ends e;
    int listener, full;
} w;

static int w_sleep(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}
static int w_sleep_until(void *arg) {
    (void)arg;
    return stel_sleep_until(STEL_FOREVER);
}
static int w_join(void *arg) {
    (void)arg;
    return stel_join(w.sleeper, NULL);
}
static int w_cond(void *arg) {
    (void)arg;
    stel_mutex_lock(&w.mutex);
    int rc = stel_cond_wait(&w.cond, &w.mutex);
    stel_mutex_unlock(&w.mutex);
    return rc;
}
static int w_event(void *arg) {
    (void)arg;
    return stel_event_wait(&w.event);
}
static int w_group(void *arg) {
    (void)arg;
    return stel_waitgroup_wait(&w.group);
}
static int w_sem(void *arg) {
    (void)arg;
    return stel_sem_acquire(&w.sem);
}
static int w_barrier(void *arg) {
    (void)arg;
    return stel_barrier_wait(&w.barrier);
}
static int w_once(void *arg) {
    (void)arg;
    return stel_once_call(&w.once, w_event, NULL); /* the one that runs it waits in it */
}
static int w_send(void *arg) {
    return stel_chan_send(w.chan, arg);
}
static int w_recv(void *arg) {
    int value;
    (void)arg;
    return stel_chan_recv(NULL, &value);
}
static int w_select(void *arg) {
    (void)arg;
    return stel_select(NULL, 0, 0);
}
static int w_scope(void *arg) {
    stel_scope s;
    OK(stel_scope_open(&s, 0));
    int rc = stel_scope_spawn(&s, w_sleep, arg), joined = stel_scope_join(&s);
    IS(rc == 0 || rc == -ECANCELED || rc == -ESHUTDOWN);
    return joined;
}
static int w_runtime(void *arg) {
    (void)arg;
    return stel_runtime_wait(w.other);
}
static int w_read(void *arg) {
    char byte;
    (void)arg;
    return (int)stel_read(w.e.fd[0], &byte, 1);
}
static int w_write(void *arg) {
    (void)arg;
    return (int)stel_write(w.full, "x", 1);
}
static int w_recvfrom(void *arg) {
    char byte;
    (void)arg;
    return (int)stel_recvfrom(w.e.fd[0], &byte, 1, 0, NULL, NULL);
}
static int w_accept(void *arg) {
    (void)arg;
    return stel_accept(w.listener, NULL, NULL);
}
static int w_wait_fd(void *arg) {
    (void)arg;
    return stel_wait_fd(w.e.fd[0], POLLIN);
}
static int w_poll(void *arg) {
    struct pollfd p = { .fd = w.e.fd[0], .events = POLLIN };
    (void)arg;
    return stel_poll(&p, 1, -1);
}
static int w_read_full(void *arg) {
    char byte;
    (void)arg;
    return stel_read_full(w.e.fd[0], &byte, 1, NULL);
}
static int w_splice(void *arg) {
    ends p = of_pipe();
    (void)arg;
    int rc = (int)stel_splice(w.e.fd[0], NULL, p.fd[1], NULL, 1, 0);
    close_ends(p);
    return rc;
}

static stel_fn *const waits[] = { w_sleep,   w_sleep_until, w_join,      w_cond,  w_event,    w_group,
                                  w_sem,     w_barrier,     w_once,      w_send,  w_recv,     w_select,
                                  w_scope,   w_runtime,     w_read,      w_write, w_recvfrom, w_accept,
                                  w_wait_fd, w_poll,        w_read_full, w_splice };
enum { WAITS = sizeof waits / sizeof waits[0] };

/* Make all of them wait; `body` runs on both kinds of callers. */
static void with_waits(void (*body)(void)) {
    ends full = of_stream();
    stel_runtime *host = runtime(1); /* the oldest: where a plain thread's spawns go */
    memset(&w, 0, sizeof w);
    stel_waitgroup_add(&w.group, 1);
    OK(stel_sem_init(&w.sem, 0));
    OK(stel_barrier_init(&w.barrier, 1000));
    OK(stel_chan_create(&w.chan, 0, 0));
    w.e = of_stream();
    w.full = full.fd[1];
    fill(w.full);
    w.listener = (int)OK(stel_listen("127.0.0.1:0", 1));
    w.other = runtime(1);
    OK(stel_runtime_spawn(w.other, &w.sleeper, NULL, until_cancelled, NULL));
    in_fiber(body);
    body();
    finish(w.other);
    finish(host);
    stel_chan_destroy(w.chan);
    close_ends(w.e);
    close_ends(full);
    OK(stel_close(w.listener));
}
#define EVERY_WAIT(test) TEST_BY(with_waits, test)

/* Rule: every call that can wait obeys the caller's innermost deadline: -ETIMEDOUT. */
EVERY_WAIT(rule_every_wait_obeys_the_deadline) {
    for (int i = 0; i < WAITS; i++) {
        STEL_TIMEOUT(STEL_MS(1));
        EQ(waits[i](NULL), -ETIMEDOUT);
        IS(stel_timed_out());
    }
}

/* Rule: every call that can wait obeys the cancellation of its fiber while it waits: -ECANCELED. */
EVERY_WAIT(rule_every_wait_obeys_cancellation) {
    stel_fiber f[WAITS];
    for (int i = 0; i < WAITS; i++)
        f[i] = spawn(waits[i], NULL);
    check_fiber_nap();
    for (int i = 0; i < WAITS; i++)
        OK(stel_cancel(f[i]));
    for (int i = 0; i < WAITS; i++)
        EQ(join(f[i]), -ECANCELED);
}

/* Rule: the runtime's shutdown is a cancellation for every call that waits. */
EVERY_WAIT(rule_every_wait_obeys_shutdown) {
    stel_runtime *rt = runtime(1);
    stel_fiber f[WAITS];
    for (int i = 0; i < WAITS; i++)
        OK(stel_runtime_spawn(rt, &f[i], NULL, waits[i], NULL));
    check_fiber_nap();
    OK(stel_runtime_stop(rt, 0));
    for (int i = 0; i < WAITS; i++) {
        int rc = join(f[i]);
        IS(rc == -ECANCELED || (waits[i] == w_accept && rc == -ESHUTDOWN));
    }
    OK(stel_runtime_destroy(rt));
}

static int fails_all(void *arg) {
    OK(stel_cancel(stel_self()));
    for (int i = 0; i < WAITS; i++)
        EQ(waits[i](arg), -ECANCELED);
    return 1;
}

/* Rule: both limits are level-triggered: every later wait, of whatever kind, fails as well. */
EVERY_WAIT(rule_limits_are_level_triggered) {
    EQ(join(spawn(fails_all, NULL)), 1);
    STEL_TIMEOUT(STEL_MS(1));
    EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
    for (int i = 0; i < WAITS; i++)
        EQ(waits[i](NULL), -ETIMEDOUT);
}

/* Rule: the limits show again until the block is left, or hide while a shield is open. */
ON_BOTH(rule_limits_end_with_the_block_or_hide_behind_a_shield) {
    {
        STEL_TIMEOUT(LONG_PAST);
        EQ(stel_sleep(1), -ETIMEDOUT);
        {
            STEL_SHIELD(STEL_SEC(1000));
            EQ(stel_sleep(1), 0);
        }
        EQ(stel_sleep(1), -ETIMEDOUT);
    }
    EQ(stel_sleep(1), 0);
}

/* Rule: the limits are checked first: a call that could go on at once fails, and has done nothing. */
ON_BOTH(rule_limits_are_checked_first_and_nothing_is_done) {
    ends e = of_pipe();
    stel_sem s;
    stel_chan *c = NULL;
    int value = 5;
    char byte = 0;
    OK(stel_sem_init(&s, 1));
    OK(stel_chan_create(&c, sizeof value, 2));
    OK(stel_chan_send(c, &value));
    EQ(write(e.fd[1], "x", 1), 1);
    {
        STEL_TIMEOUT(LONG_PAST);
        EQ(stel_read(e.fd[0], &byte, 1), -ETIMEDOUT);
        EQ(stel_write(e.fd[1], "y", 1), -ETIMEDOUT);
        EQ(stel_sem_acquire(&s), -ETIMEDOUT);
        EQ(stel_chan_recv(c, &value), -ETIMEDOUT);
        EQ(stel_chan_send(c, &value), -ETIMEDOUT);
        stel_fiber f = spawn(give, NULL);
        check_fiber_nap();
        EQ(stel_join(f, NULL), -ETIMEDOUT);
        OK(stel_detach(f));
    }
    EQ(byte, 0);
    OK(stel_sem_try_acquire(&s));
    EQ(stel_chan_len(c), 1);
    EQ(stel_read(e.fd[0], &byte, 1), 1);
    EQ(byte, 'x');
    STEL_TIMEOUT(STEL_MS(1));
    EQ(stel_read(e.fd[0], &byte, 1), -ETIMEDOUT); /* no 'y' was written */
    stel_chan_destroy(c);
    close_ends(e);
}

static atomic_int flag;
static int raises_flag(void *arg) {
    (void)arg;
    atomic_store(&flag, 1);
    return 0;
}

/* Rule: a wait that fails at once counts as a yield: a careless loop starves nobody. */
IN_FIBER(rule_a_wait_that_fails_at_once_is_a_yield) {
    STEL_TIMEOUT(LONG_PAST);
    for (int i = 0; i < 3; i++) {
        int rounds = 0;
        atomic_store(&flag, 0);
        OK(stel_go(raises_flag, NULL));
        while (!atomic_load(&flag) && rounds++ < 100000)
            EQ(stel_event_wait(&w.event), -ETIMEDOUT);
        EQ(atomic_load(&flag), 1);
    }
}

/* Rule: the tightest of the open deadlines counts. */
ON_BOTH(rule_the_tighter_deadline_counts) {
    STEL_TIMEOUT(STEL_SEC(1000));
    int64_t outer = stel_deadline();
    {
        STEL_TIMEOUT(STEL_MS(1));
        EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
    }
    {
        STEL_TIMEOUT(STEL_SEC(2000));
        EQ(stel_deadline(), outer);
    }
    EQ(stel_sleep(1), 0);
}

/* ---- what is not cut short ---- */

static stel_mutex held;
static stel_rwlock held_rw;
static atomic_int got;
static int locks_all(void *arg) {
    (void)arg;
    OK(stel_cancel(stel_self()));
    STEL_TIMEOUT(LONG_PAST);
    stel_mutex_lock(&held);
    stel_mutex_unlock(&held);
    stel_rwlock_read_lock(&held_rw);
    stel_rwlock_read_unlock(&held_rw);
    stel_rwlock_write_lock(&held_rw);
    stel_rwlock_write_unlock(&held_rw);
    atomic_store(&got, 1);
    return 0;
}
static void never_waits(void) {
    STEL_TIMEOUT(LONG_PAST);
    ends e = of_pipe();
    stel_sem s;
    stel_chan *c = NULL;
    int value = 1;
    OK(stel_sem_init(&s, 1));
    OK(stel_sem_try_acquire(&s));
    stel_sem_release(&s);
    OK(stel_chan_create(&c, sizeof value, 1));
    OK(stel_chan_try_send(c, &value));
    OK(stel_chan_try_recv(c, &value));
    OK(stel_chan_close(c));
    stel_chan_destroy(c);
    stel_event_set(&w.event);
    stel_event_reset(&w.event);
    stel_cond_broadcast(&w.cond);
    stel_waitgroup_add(&w.group, 1);
    stel_waitgroup_done(&w.group);
    stel_yield();
    OK(stel_close((int)OK(stel_listen("127.0.0.1:0", 1))));
    OK(stel_close((int)OK(stel_socket(AF_INET, SOCK_STREAM, 0))));
    close_ends(e);
    stel_fiber f = spawn(until_cancelled, NULL);
    EQ(stel_try_join(f, NULL), -EAGAIN);
    OK(stel_unpark(f));
    OK(stel_cancel(f));
    OK(stel_detach(f));
}
static int never_waits_cancelled(void *arg) {
    (void)arg;
    OK(stel_cancel(stel_self()));
    never_waits();
    return 1;
}

/* Rule: not cut short: locks, yield, try forms, close, unlock, signal, set, done, release, spawning and cancelling. */
ON_BOTH(rule_what_never_waits_is_not_cut_short) {
    atomic_store(&got, 0);
    stel_mutex_lock(&held);
    stel_rwlock_write_lock(&held_rw);
    stel_fiber f = spawn(locks_all, NULL);
    check_fiber_nap();
    EQ(atomic_load(&got), 0);
    stel_mutex_unlock(&held);
    check_fiber_nap();
    EQ(atomic_load(&got), 0);
    stel_rwlock_write_unlock(&held_rw);
    EQ(join(f), 0);
    EQ(join(spawn(never_waits_cancelled, NULL)), 1);
    never_waits();
}

static atomic_int begun, may_end;
static int blocks(void *arg) {
    (void)arg;
    atomic_store(&begun, 1);
    while (!atomic_load(&may_end))
        check_fiber_nap();
    return 3;
}
static int offloads(void *arg) {
    int result = -1;
    (void)arg;
    OK(stel_offload(&result, blocks, NULL));
    return result;
}

/* Rule: an offloaded function (and a file's call, which is one) is not cut short once it runs. */
ON_BOTH(rule_an_offloaded_call_is_not_cut_short_once_it_runs) {
    atomic_store(&begun, 0);
    atomic_store(&may_end, 0);
    stel_fiber f = spawn(offloads, NULL);
    EVENTUALLY(atomic_load(&begun));
    OK(stel_cancel(f));
    check_fiber_nap();
    EQ(stel_try_join(f, NULL), -EAGAIN);
    atomic_store(&may_end, 1);
    EQ(join(f), 3);
}

/* Rule: stel_cond_wait always holds the mutex again when it returns. */
ON_BOTH(rule_a_cond_wait_returns_with_the_mutex) {
    memset(&w, 0, sizeof w);
    stel_mutex_lock(&w.mutex);
    for (int64_t length = STEL_MS(1); length > -STEL_SEC(100000); length -= STEL_SEC(50000)) {
        STEL_TIMEOUT(length);
        EQ(stel_cond_wait(&w.cond, &w.mutex), -ETIMEDOUT);
        EQ(stel_mutex_try_lock(&w.mutex), -EBUSY);
    }
    stel_mutex_unlock(&w.mutex); /* aborts, were it not ours */
}

/* Rule: stel_timed_out tells one's own deadline from a peer's ETIMEDOUT. */
ON_BOTH(rule_own_timeouts_are_told_from_a_peers) {
    struct sockaddr_in at = loopback(9);
    int fd = (int)OK(stel_socket(AF_INET, SOCK_STREAM, 0));
    STEL_TIMEOUT(STEL_SEC(1000));
    stel__fault_set(STEL__FAULT_CONNECT, 1, ETIMEDOUT, false); /* as the kernel says it of a host that is silent */
    EQ(stel_connect(fd, (struct sockaddr *)&at, sizeof at), -ETIMEDOUT);
    stel__fault_clear();
    IS(!stel_timed_out());
    STEL_TIMEOUT(STEL_MS(1));
    EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
    IS(stel_timed_out());
    OK(stel_close(fd));
}

/* ---- memory ---- */

/* Rule: no memory given to a call is touched after it returns, whatever comes later. */
ON_BOTH(rule_no_memory_is_touched_after_the_call) {
    ends e = of_stream();
    stel_chan *c = NULL;
    char room[64], clean[64];
    memset(clean, 0x5a, sizeof clean);
    memcpy(room, clean, sizeof room);
    OK(stel_chan_create(&c, 16, 0));
    stel_case one = STEL_CASE_RECV(c, room);
    {
        STEL_TIMEOUT(STEL_MS(1));
        EQ(stel_read(e.fd[0], room, sizeof room), -ETIMEDOUT);
        EQ(stel_recv(e.fd[0], room, sizeof room, 0), -ETIMEDOUT);
        EQ(stel_chan_recv(c, room), -ETIMEDOUT);
        EQ(stel_select(&one, 1, 0), -ETIMEDOUT);
    }
    char element[16] = "later";
    EQ(write(e.fd[1], "later", 5), 5);
    EQ(stel_chan_try_send(c, element), -EAGAIN); /* nobody waits there any more */
    check_fiber_nap();
    EQ(memcmp(room, clean, sizeof room), 0);
    stel_chan_destroy(c);
    close_ends(e);
}

/* Objects that are overwritten as soon as their user is through; whoever released him must not touch them any more. */
enum { MORTALS = 300 };
static struct mortal {
    stel_event event;
    stel_waitgroup group;
    stel_sem sem;
    stel_mutex mutex;
} mortals[MORTALS];

static int waits_and_buries(void *arg) {
    (void)arg;
    for (int i = 0; i < MORTALS; i++) {
        struct mortal *m = &mortals[i];
        OK(stel_event_wait(&m->event));
        memset(&m->event, 0xa5, sizeof m->event);
        OK(stel_waitgroup_wait(&m->group));
        memset(&m->group, 0xa5, sizeof m->group);
        OK(stel_sem_acquire(&m->sem));
        memset(&m->sem, 0xa5, sizeof m->sem);
        stel_mutex_lock(&m->mutex);
        stel_mutex_unlock(&m->mutex);
        memset(&m->mutex, 0xa5, sizeof m->mutex);
    }
    return 0;
}
static void release_mortals(void) {
    memset(mortals, 0, sizeof mortals);
    for (int i = 0; i < MORTALS; i++) {
        stel_waitgroup_add(&mortals[i].group, 1);
        stel_mutex_lock(&mortals[i].mutex);
    }
    beside b;
    beside_start(&b, waits_and_buries, NULL);
    for (int i = 0; i < MORTALS; i++) {
        struct mortal *m = &mortals[i];
        for (int k = 0; k < i % 50; k++)
            atomic_fetch_add(&flag, 1); /* some time, of different lengths */
        stel_event_set(&m->event);
        stel_waitgroup_done(&m->group);
        stel_sem_release(&m->sem);
        stel_mutex_unlock(&m->mutex);
    }
    EQ(beside_join(&b), 0);
    for (size_t i = 0; i < sizeof mortals; i++)
        EQ(((unsigned char *)mortals)[i], 0xa5);
}

/* Rule: when a wait has returned 0, or a lock was taken and given back, the object may be freed, even if the call that
 * released it has not returned. */
ON_BOTH(rule_objects_may_be_freed_after_the_hand_over) {
    for (int i = 0; i < 5; i++)
        release_mortals();
}

/* ---- from any thread ---- */

static int thread_waits(void *arg) {
    (void)arg;
    for (int i = 0; i < WAITS; i++) {
        if (waits[i] == w_scope) continue; /* it would need a runtime for its children */
        STEL_TIMEOUT(STEL_MS(1));
        EQ(waits[i](NULL), -ETIMEDOUT);
    }
    return 0;
}
static int plays(void *arg) { /* one side of a conversation by everything that two may share */
    int me = (int)(intptr_t)arg, value = me;
    for (int i = 0; i < 20; i++) {
        if (me) {
            OK(stel_chan_send(w.chan, NULL));
            EQ(stel_write(w.e.fd[1], &value, sizeof value), (ssize_t)sizeof value);
            OK(stel_event_wait(&w.event));
        } else {
            OK(stel_chan_recv(w.chan, NULL));
            OK(stel_read_full(w.e.fd[0], &value, sizeof value, NULL));
            EQ(value, 1);
            stel_event_set(&w.event);
        }
        IS(stel_barrier_wait(&w.barrier) >= 0);
        if (!me) stel_event_reset(&w.event);
        IS(stel_barrier_wait(&w.barrier) >= 0);
    }
    return 0;
}

/* Rule: waiting calls work between fibers and plain threads in every combination, deadlines too; stel_park: -EPERM. */
START_TEST(rule_everything_works_from_any_thread) {
    beside t[2];
    EQ(stel_park(), -EPERM);
    for (int kinds = 0; kinds < 4; kinds++) {
        memset(&w, 0, sizeof w);
        OK(stel_barrier_init(&w.barrier, 2));
        OK(stel_chan_create(&w.chan, 0, 0));
        w.e = of_stream();
        stel_runtime *rt = runtime(2);
        stel_fiber f[2] = { 0, 0 };
        for (int i = 0; i < 2; i++) {
            if (kinds >> i & 1)
                f[i] = spawn(plays, THE(i));
            else
                beside_start(&t[i], plays, THE(i));
        }
        for (int i = 0; i < 2; i++)
            EQ(f[i] ? join(f[i]) : beside_join(&t[i]), 0);
        finish(rt);
        stel_chan_destroy(w.chan);
        close_ends(w.e);
    }
}
END_TEST

static void thread_body(void) {
    beside t;
    beside_start(&t, thread_waits, NULL);
    EQ(beside_join(&t), 0);
}

/* Rule: a waiting call blocks a plain thread correctly: with a deadline of the thread's own. */
EVERY_WAIT(rule_a_plain_thread_has_deadlines_of_its_own) {
    EQ(stel_deadline(), STEL_FOREVER);
    thread_body();
    EQ(stel_deadline(), STEL_FOREVER);
}

/* ---- time ---- */

/* Rule: sums of times saturate: no length is too long, none too far in the past. */
ON_BOTH(rule_sums_of_times_saturate) {
    stel_fiber f;
    {
        STEL_TIMEOUT(STEL_FOREVER);
        EQ(stel_deadline(), STEL_FOREVER);
        EQ(stel_sleep(1), 0);
    }
    {
        STEL_TIMEOUT(INT64_MIN);
        EQ(stel_sleep(1), -ETIMEDOUT);
        STEL_SHIELD(STEL_FOREVER);
        EQ(stel_sleep(INT64_MIN), 0);
    }
    OK(stel_spawn_after(&f, STEL_FOREVER, give, NULL));
    check_fiber_nap();
    EQ(stel_try_join(f, NULL), -EAGAIN);
    OK(stel_cancel(f));
    EQ(join(f), -ECANCELED);
}

/* ---- fibers ---- */

/* Rule: handles are unique in the process, never 0, and never used again; a stale one is harmless. */
ON_BOTH(rule_handles_are_unique_for_ever) {
    enum { N = 2000 };
    static stel_fiber seen[N];
    char name[8];
    for (int i = 0; i < N; i++) {
        seen[i] = spawn(give, NULL); /* in a block that was another's before */
        IS(seen[i] != 0);
        EQ(join(seen[i]), 0);
        if (i > 0) IS(seen[i] != seen[i - 1] && seen[i] != seen[i / 2]);
    }
    for (int i = 0; i < N; i++) {
        EQ(stel_cancel(seen[i]), -ESRCH);
        for (int k = 0; k < i; k += 97)
            IS(seen[i] != seen[k]);
    }
    EQ(stel_join(seen[0], NULL), -ESRCH);
    EQ(stel_try_join(seen[0], NULL), -ESRCH);
    EQ(stel_detach(seen[0]), -ESRCH);
    EQ(stel_unpark(seen[0]), -ESRCH);
    EQ(stel_fiber_name(seen[0], name, sizeof name), -ESRCH);
    EQ(stel_cancel(UINT64_MAX), -ESRCH);
}

static int ends_joins(void *arg) {
    int rc = stel_join(*(stel_fiber *)arg, NULL);
    IS(rc == 0 || rc == -ESRCH);
    return rc == 0;
}

/* Rule: one join, try_join or detach takes effect for a fiber; the others get -ESRCH. */
ON_BOTH(rule_one_of_join_and_detach_takes_effect) {
    for (int round = 0; round < 20; round++) {
        stel_fiber f = spawn(give, NULL), a = spawn(ends_joins, &f), b = spawn(ends_joins, &f);
        int detached = stel_detach(f) == 0;
        EQ(join(a) + join(b) + detached, 1);
    }
}

/* Rule: a negative result is a failed fiber, and counted as one. */
START_TEST(rule_a_negative_result_is_a_failure) {
    stel_stats s;
    stel_runtime *rt = runtime(2);
    EQ(join(spawn(give, THE(-1))), -1);
    EQ(join(spawn(give, THE(0))), 0);
    EQ(join(spawn(give, THE(1))), 1);
    OK(stel_runtime_stats(rt, &s));
    EQ(s.total_tasks_failed, 1);
    EQ(s.total_tasks_executed, 3);
    finish(rt);
}
END_TEST

static int is_free(void *arg) {
    (void)arg;
    EQ(stel_deadline(), STEL_FOREVER);
    IS(!stel_cancelled());
    return stel_sleep(1);
}
static int goes_free(void *arg) {
    (void)arg;
    atomic_store(&got, is_free(NULL) == 0 ? 1 : -1);
    return 0;
}
static int spawns_cancelled(void *arg) {
    stel_fiber f;
    (void)arg;
    OK(stel_cancel(stel_self()));
    STEL_TIMEOUT(STEL_SEC(1000));
    OK(stel_spawn(&f, is_free, NULL));
    STEL_SHIELD(STEL_SEC(1000));
    EQ(join(f), 0);
    OK(stel_go(goes_free, NULL));
    return 0;
}

/* Rule: stel_spawn and stel_go inherit neither deadline nor cancellation. */
IN_FIBER(rule_plain_spawns_inherit_nothing) {
    atomic_store(&got, 0);
    EQ(join(spawn(spawns_cancelled, NULL)), 0);
    EVENTUALLY(atomic_load(&got) == 1);
}

static int child_without_shield(void *arg) {
    (void)arg;
    OK(stel_cancel(stel_self()));
    return stel_sleep(1);
}

/* Rule: shields are never inherited. */
ON_BOTH(rule_shields_are_not_inherited) {
    STEL_SHIELD(STEL_SEC(1000));
    EQ(join(spawn(child_without_shield, NULL)), -ECANCELED);
    stel_scope s;
    OK(stel_scope_open(&s, 0));
    OK(stel_scope_spawn(&s, child_without_shield, NULL));
    EQ(stel_scope_join(&s), -ECANCELED); /* of its own accord: a failure */
}

/* Rule: a fiber that was cancelled or timed out in a scope's join has left no child behind. */
ON_BOTH(rule_no_child_outlives_its_scope) {
    static atomic_int alive;
    stel_runtime *rt = stel_runtime_current();
    atomic_store(&alive, 0);
    for (int i = 0; i < 3; i++) {
        STEL_SCOPE(s);
        for (int k = 0; k < 5; k++)
            OK(stel_scope_spawn(&s, until_cancelled, &alive));
        if (i == 1) {
            STEL_TIMEOUT(STEL_MS(1));
            EQ(stel_scope_join(&s), -ETIMEDOUT);
        }
        if (i == 2) stel_scope_cancel(&s);
    }
    if (rt) EQ(stel_runtime_pending(rt), 1); /* the caller */
}

/* ---- wrong use ---- */

static int unlocks_unheld(void *arg) {
    OK(stel_set_name("culprit"));
    stel_mutex_unlock(arg);
    return 0;
}
static stel_mutex nobodys;
static void misuse_in_a_fiber(void) {
    (void)run_in_runtime(1, unlocks_unheld, &nobodys);
}

/* Rule: wrong use that no code can tell aborts with a message that names the fiber, the object and the call. */
START_TEST(rule_wrong_use_aborts_naming_fiber_object_and_call) {
    char object[32];
    snprintf(object, sizeof object, "(%p)", (void *)&nobodys);
    must_abort(misuse_in_a_fiber, "stel_mutex_unlock");
    must_abort(misuse_in_a_fiber, "culprit");
    must_abort(misuse_in_a_fiber, object);
}
END_TEST

static int misuses(void *arg) {
    EQ(stel_join(stel_self(), NULL), -EDEADLK);
    EQ(stel_runtime_wait(stel_runtime_current()), -EDEADLK);
    EQ(stel_run(give, arg), -EDEADLK);
    return 0;
}

/* Rule: wrong use that can be seen is told by a code: -ESRCH, -EDEADLK, -EPERM, -EINVAL. */
START_TEST(rule_wrong_use_that_is_seen_has_a_code) {
    EQ(stel_park(), -EPERM);
    EQ(stel_shutdown(0), -EPERM);
    EQ(stel_join(1, NULL), -ESRCH);
    EQ(stel_go(NULL, NULL), -EPERM);
    EQ(stel_run(NULL, NULL), -EINVAL);
    EQ(run_in_runtime(1, misuses, NULL), 0);
}
END_TEST

TEST_MAIN("contract/rules", rule_every_wait_obeys_the_deadline, rule_every_wait_obeys_cancellation,
          rule_every_wait_obeys_shutdown, rule_limits_are_level_triggered,
          rule_limits_end_with_the_block_or_hide_behind_a_shield, rule_limits_are_checked_first_and_nothing_is_done,
          rule_a_wait_that_fails_at_once_is_a_yield, rule_the_tighter_deadline_counts,
          rule_what_never_waits_is_not_cut_short, rule_an_offloaded_call_is_not_cut_short_once_it_runs,
          rule_a_cond_wait_returns_with_the_mutex, rule_own_timeouts_are_told_from_a_peers,
          rule_no_memory_is_touched_after_the_call, rule_objects_may_be_freed_after_the_hand_over,
          rule_everything_works_from_any_thread, rule_a_plain_thread_has_deadlines_of_its_own,
          rule_sums_of_times_saturate, rule_handles_are_unique_for_ever, rule_one_of_join_and_detach_takes_effect,
          rule_a_negative_result_is_a_failure, rule_plain_spawns_inherit_nothing, rule_shields_are_not_inherited,
          rule_no_child_outlives_its_scope, rule_wrong_use_aborts_naming_fiber_object_and_call,
          rule_wrong_use_that_is_seen_has_a_code)
