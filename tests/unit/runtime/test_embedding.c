/* Runtimes inside programs of other kinds: beside a main loop of the program's own, several at once, with background
 * fibers, as a daemon that ends on a signal, and stopped while fibers sit in every kind of wait. */
#include "check_fiber.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static stel_config config(int workers) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = workers;
    c.stall_ns = -1;
    c.stop_timeout_ns = STEL_SEC(60);
    return c;
}

static stel_runtime *started(int workers) {
    stel_config c = config(workers);
    stel_runtime *rt = NULL;
    FIBER_OK(stel_runtime_create(&rt, &c));
    FIBER_OK(stel_runtime_start(rt));
    return rt;
}

static stel_fiber spawn(stel_runtime *rt, stel_fn *fn, void *arg) {
    stel_fiber f = 0;
    FIBER_OK(stel_runtime_spawn(rt, &f, NULL, fn, arg));
    return f;
}

static int answer(void *arg) {
    return (int)(intptr_t)arg;
}
static int until_cancelled(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}

/* ---- a main loop in poll(2): results come through a channel, an eventfd says that there are some ---- */

enum { JOBS = 200 };
static struct {
    stel_chan *results;
    int ready;
} loop;

static int job(void *arg) {
    uint64_t one = 1, n = (uintptr_t)arg;
    FIBER_OK(stel_sleep(STEL_US(n % 50)));
    n = n * n;
    FIBER_OK(stel_chan_send(loop.results, &n));
    FIBER_ASSERT_EQ(stel_write(loop.ready, &one, sizeof one), (ssize_t)sizeof one);
    return 0;
}

START_TEST(main_loop) {
    stel_runtime *rt = started(2);
    uint64_t sum = 0, want = 0, spawned = 0, count, n;
    int ticks[2], got = 0;
    ck_assert_int_eq(stel_chan_create(&loop.results, sizeof n, JOBS), 0);
    ck_assert_int_ge(loop.ready = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), 0);
    ck_assert_int_eq(pipe(ticks), 0); /* the loop has other things to do */
    while (got < JOBS) {
        if (spawned < JOBS) {
            spawned++;
            want += spawned * spawned;
            ck_assert_int_eq(stel_runtime_spawn(rt, NULL, NULL, job, (void *)(uintptr_t)spawned), 0);
            ck_assert_int_eq(write(ticks[1], "t", 1), 1);
        }
        struct pollfd fds[2] = { { .fd = loop.ready, .events = POLLIN }, { .fd = ticks[0], .events = POLLIN } };
        ck_assert_int_gt(poll(fds, 2, 60000), 0);
        char tick;
        if (fds[1].revents) ck_assert_int_eq(read(ticks[0], &tick, 1), 1);
        if (!fds[0].revents) continue;
        ck_assert_int_eq(read(loop.ready, &count, sizeof count), sizeof count);
        /* Never waits: what was announced is there. */
        for (; stel_chan_try_recv(loop.results, &n) == 0; got++)
            sum += n;
    }
    ck_assert_uint_eq(sum, want);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_SEC(60)), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    stel_chan_destroy(loop.results);
}
END_TEST

/* ---- several side by side ---- */

typedef struct relay {
    stel_runtime *home;
    stel_chan *in, *out;
} relay;

static int passes_on(void *arg) {
    relay *r = arg;
    uint64_t n;
    int rc;
    while ((rc = stel_chan_recv(r->in, &n)) == 0) {
        FIBER_ASSERT(stel_runtime_current() == r->home);
        n++;
        FIBER_OK(stel_chan_send(r->out, &n));
    }
    FIBER_ASSERT_EQ(rc, -EPIPE);
    return stel_chan_close(r->out);
}

/* A ring of four runtimes; numbers go round it. One is stopped and destroyed while the others go on. */
START_TEST(side_by_side) {
    enum { RUNTIMES = 4 };
    stel_runtime *rt[RUNTIMES];
    stel_chan *chan[RUNTIMES + 1];
    relay r[RUNTIMES];
    stel_fiber f[RUNTIMES];
    for (int i = 0; i <= RUNTIMES; i++)
        ck_assert_int_eq(stel_chan_create(&chan[i], sizeof(uint64_t), (size_t)i), 0);
    for (int i = 0; i < RUNTIMES; i++) {
        rt[i] = started(1 + i % 2);
        r[i] = (relay){ rt[i], chan[i], chan[i + 1] };
        f[i] = spawn(rt[i], passes_on, &r[i]);
    }
    for (uint64_t i = 0, n = test_scale(500); i < n; i++) {
        uint64_t back = 0, there = i;
        ck_assert_int_eq(stel_chan_send(chan[0], &there), 0);
        ck_assert_int_eq(stel_chan_recv(chan[RUNTIMES], &back), 0);
        ck_assert_uint_eq(back, i + RUNTIMES);
    }
    ck_assert_int_eq(stel_chan_close(chan[0]), 0);
    for (int i = 0; i < RUNTIMES; i++) { /* the first one goes while the last still runs */
        ck_assert_int_eq(stel_join(f[i], NULL), 0);
        ck_assert_int_eq(stel_runtime_stop(rt[i], 0), 0);
        ck_assert_int_eq(stel_runtime_destroy(rt[i]), 0);
    }
    for (int i = 0; i <= RUNTIMES; i++)
        stel_chan_destroy(chan[i]);
}
END_TEST

START_TEST(destroy_with_fibers_alive) {
    stel_config c = config(2);
    stel_runtime *rt = NULL;
    ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
    stel_fiber f = spawn(rt, until_cancelled, NULL);
    ck_assert_int_eq(stel_runtime_destroy(rt), -EBUSY); /* not even started */
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), -EBUSY);
    ck_assert_int_eq(stel_cancel(f), 0);
    ck_assert_int_eq(stel_join(f, NULL), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), -EBUSY); /* none lives, but it runs */
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* ---- background fibers ---- */

static atomic_int beats;

static int heart(void *arg) {
    int rc;
    (void)arg;
    do
        atomic_fetch_add(&beats, 1);
    while ((rc = stel_sleep(STEL_US(100))) == 0);
    atomic_store(&beats, -1);
    return rc;
}
static int body(void *arg) {
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    o.flags = STEL_BACKGROUND;
    (void)arg;
    FIBER_OK(stel_spawn_with(NULL, &o, heart, NULL));
    while (atomic_load(&beats) < 3)
        FIBER_OK(stel_sleep(STEL_US(50)));
    return 6;
}
/* It runs beside the others, keeps nothing alive, and is cancelled, not abandoned, when they have ended. */
START_TEST(background) {
    ck_assert_int_eq(stel_run(body, NULL), 6);
    ck_assert_int_eq(atomic_load(&beats), -1);
}
END_TEST

/* ---- a daemon that ends on a signal: handler, self-pipe, stop with a grace ---- */

static int self_pipe[2];
static void on_term(int number) {
    char c = (char)number;
    (void)!write(self_pipe[1], &c, 1);
}

static int serve(void *arg) {
    int fd = (int)(intptr_t)arg, rc;
    char request[4];
    FIBER_OK(stel_read_full(fd, request, sizeof request, NULL));
    FIBER_OK(stel_write_all(fd, "!", 1, NULL)); /* it is being worked at */
    FIBER_OK(stel_sleep(STEL_MS(30)));          /* and finished in the grace */
    rc = stel_write_all(fd, "done", 4, NULL);
    FIBER_OK(stel_close(fd));
    return rc;
}
static int accept_all(void *arg) {
    int listener = (int)(intptr_t)arg, fd;
    while ((fd = stel_accept(listener, NULL, NULL)) >= 0)
        FIBER_OK(stel_go(serve, (void *)(intptr_t)fd));
    FIBER_ASSERT_EQ(fd, -ESHUTDOWN);
    FIBER_OK(stel_close(listener));
    return 0;
}

/* In a process of its own. Tells its port, and its exit status how it went. */
static void daemon_main(int tell) {
    struct sockaddr_storage at = { 0 };
    socklen_t bytes = sizeof at;
    char number;
    FIBER_ASSERT_EQ(pipe(self_pipe), 0);
    signal(SIGTERM, on_term);
    stel_runtime *rt = started(2);
    int listener = stel_listen("127.0.0.1:0", 16);
    FIBER_ASSERT(listener >= 0);
    stel_fiber f = spawn(rt, accept_all, (void *)(intptr_t)listener);
    FIBER_ASSERT_EQ(getsockname(listener, (struct sockaddr *)&at, &bytes), 0);
    FIBER_ASSERT_EQ(write(tell, &at, sizeof at), (ssize_t)sizeof at);
    while (read(self_pipe[0], &number, 1) < 0) /* the main loop */
        FIBER_ASSERT_EQ(errno, EINTR);
    FIBER_ASSERT_EQ(number, SIGTERM);
    FIBER_OK(stel_runtime_stop(rt, STEL_SEC(60)));
    FIBER_ASSERT_EQ(stel_try_join(f, NULL), 0);
    FIBER_OK(stel_runtime_destroy(rt));
    exit(9);
}

START_TEST(graceful_daemon) {
    int tell[2], status = 0;
    struct sockaddr_storage at;
    char reply[4];
    ck_assert_int_eq(pipe(tell), 0);
    pid_t child = fork();
    if (child == 0) daemon_main(tell[1]);
    ck_assert_int_eq(read(tell[0], &at, sizeof at), sizeof at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, sizeof(struct sockaddr_in)), 0);
    ck_assert_int_eq(write(fd, "requ", 4), 4);
    ck_assert_int_eq(read(fd, reply, 1), 1);
    ck_assert_int_eq(kill(child, SIGTERM), 0);
    ck_assert_int_eq(recv(fd, reply, sizeof reply, MSG_WAITALL), 4);
    ck_assert_mem_eq(reply, "done", 4);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 9 << 8);
}
END_TEST

/* ---- a stop while fibers sit in every kind of wait ---- */

static struct {
    stel_mutex mutex, cond_mutex;
    stel_cond cond;
    stel_event event;
    stel_waitgroup group;
    stel_sem sem;
    stel_barrier barrier;
    stel_once once;
    stel_chan *empty, *full, *rendezvous;
    stel_fiber sleeper;
    stel_runtime *other;
    int quiet[2], listener, stuffed[2], packets[2];
    atomic_int sitting;
} every;

static char much[1 << 20];

#define SITS(name, call)                                                                                               \
    static int sits_in_##name(void *arg) {                                                                             \
        (void)arg;                                                                                                     \
        atomic_fetch_add(&every.sitting, 1);                                                                           \
        return (int)(call);                                                                                            \
    }
static uint64_t unused;
static char byte;
static int slow_once(void *arg) {
    return until_cancelled(arg);
}
static int selects(void) {
    stel_case cases[] = { STEL_CASE_RECV(every.empty, &unused), STEL_CASE_SEND(every.full, &unused) };
    return stel_select(cases, 2, 0);
}
static int waits_for_cond(void) {
    stel_mutex_lock(&every.cond_mutex);
    int rc = stel_cond_wait(&every.cond, &every.cond_mutex);
    stel_mutex_unlock(&every.cond_mutex);
    return rc;
}
static int joins_scope(void) {
    stel_scope s;
    FIBER_OK(stel_scope_open(&s, 0));
    int spawned = stel_scope_spawn(&s, until_cancelled, NULL), rc = stel_scope_join(&s);
    FIBER_ASSERT(spawned == 0 || spawned == -ECANCELED); /* it may have been cancelled before it came so far */
    return spawned < 0 ? spawned : rc;
}
static int polls(void) {
    struct pollfd p[2] = { { .fd = every.quiet[0], .events = POLLIN }, { .fd = every.packets[0], .events = POLLIN } };
    return stel_poll(p, 2, -1);
}
SITS(sleep, stel_sleep(STEL_FOREVER))
SITS(park, stel_park())
SITS(join, stel_join(every.sleeper, NULL))
SITS(event, stel_event_wait(&every.event))
SITS(waitgroup, stel_waitgroup_wait(&every.group))
SITS(sem, stel_sem_acquire(&every.sem))
SITS(barrier, stel_barrier_wait(&every.barrier))
SITS(once, stel_once_call(&every.once, slow_once, NULL))
SITS(cond, waits_for_cond())
SITS(recv, stel_chan_recv(every.empty, &unused))
SITS(send, stel_chan_send(every.full, &unused))
SITS(rendezvous, stel_chan_send(every.rendezvous, &unused))
SITS(nil, stel_chan_recv(NULL, &unused))
SITS(select, selects())
SITS(scope, joins_scope())
SITS(read, stel_read(every.quiet[0], &byte, 1))
SITS(write, stel_write_all(every.stuffed[1], much, sizeof much, NULL))
SITS(recvfrom, stel_recvfrom(every.packets[0], &byte, 1, 0, NULL, NULL))
SITS(accept, stel_accept(every.listener, NULL, NULL))
SITS(wait_fd, stel_wait_fd(every.quiet[0], POLLIN))
SITS(poll, polls())
SITS(runtime, stel_runtime_wait(every.other))

static const struct {
    stel_fn *fn;
    int code;
} kinds[] = {
    { sits_in_sleep, -ECANCELED },
    { sits_in_park, -ECANCELED },
    { sits_in_join, 0 /* it ended first */ },
    { sits_in_event, -ECANCELED },
    { sits_in_cond, -ECANCELED },
    { sits_in_waitgroup, -ECANCELED },
    { sits_in_sem, -ECANCELED },
    { sits_in_once, -ECANCELED },
    { sits_in_barrier, -ECANCELED },
    { sits_in_once, -ECANCELED },
    { sits_in_recv, -ECANCELED },
    { sits_in_send, -ECANCELED },
    { sits_in_rendezvous, -ECANCELED },
    { sits_in_nil, -ECANCELED },
    { sits_in_select, -ECANCELED },
    { sits_in_scope, 0 /* or its child did */ },
    { sits_in_read, -ECANCELED },
    { sits_in_write, -ECANCELED },
    { sits_in_recvfrom, -ECANCELED },
    { sits_in_wait_fd, -ECANCELED },
    { sits_in_poll, -ECANCELED },
    { sits_in_runtime, -ECANCELED },
    { sits_in_accept, -ESHUTDOWN },
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* A lock does not obey the cancellation; its holder does, and gives it back. */
static int holds(void *arg) {
    stel_mutex_lock(&every.mutex);
    int rc = until_cancelled(arg);
    stel_mutex_unlock(&every.mutex);
    return rc;
}
static int locks(void *arg) {
    (void)arg;
    atomic_fetch_add(&every.sitting, 1);
    stel_mutex_lock(&every.mutex);
    stel_mutex_unlock(&every.mutex);
    return stel_sleep(0);
}

static void furnish(void) {
    FIBER_OK(stel_sem_init(&every.sem, 0));
    FIBER_OK(stel_barrier_init(&every.barrier, 2));
    FIBER_OK(stel_chan_create(&every.empty, 8, 1));
    FIBER_OK(stel_chan_create(&every.full, 8, 1));
    FIBER_OK(stel_chan_create(&every.rendezvous, 8, 0));
    FIBER_OK(stel_chan_send(every.full, &unused));
    stel_waitgroup_add(&every.group, 1);
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, every.quiet), 0);
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, every.stuffed), 0);
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, every.packets), 0);
    FIBER_ASSERT((every.listener = stel_listen("127.0.0.1:0", 4)) >= 0);
    every.other = started(1);
}

static void one_stop(stel_runtime *rt, bool settled) {
    stel_fiber f[KINDS];
    atomic_store(&every.sitting, 0);
    every.sleeper = spawn(rt, until_cancelled, NULL);
    stel_fiber holder = spawn(rt, holds, NULL), locker = spawn(rt, locks, NULL);
    for (int i = 0; i < KINDS; i++)
        f[i] = spawn(rt, kinds[i].fn, NULL);
    if (settled) {
        EVENTUALLY(atomic_load(&every.sitting) == KINDS + 1);
        check_fiber_nap();
    }
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_uint_eq(stel_runtime_pending(rt), 0);
    for (int i = 0; i < KINDS; i++) {
        int result = 1;
        ck_assert_int_eq(stel_join(f[i], &result), 0);
        ck_assert_msg(result == kinds[i].code || result == -ECANCELED, "kind %d: %s", i, stel_strerror(result));
    }
    ck_assert_int_eq(stel_join(holder, NULL), 0);
    ck_assert_int_eq(stel_join(locker, NULL), 0);
    (void)!stel_try_join(every.sleeper, NULL); /* the one that was joined stays joinable */
}

START_TEST(every_kind_of_wait) {
    stel_runtime *rt = started(2);
    furnish();
    int fds = 0;
    for (uint64_t i = 0, n = 2 + test_scale(30); i < n; i++) {
        one_stop(rt, i % 2 == 0);
        ck_assert_int_eq(stel_runtime_restart(rt), 0);
        if (i == 0) fds = test_open_descriptors();
    }
    ck_assert_int_eq(test_open_descriptors(), fds);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    ck_assert_int_eq(stel_runtime_stop(every.other, 0), 0);
    ck_assert_int_eq(stel_runtime_destroy(every.other), 0);
    stel_chan_destroy(every.empty);
    stel_chan_destroy(every.full);
    stel_chan_destroy(every.rendezvous);
}
END_TEST

/* Offloaded calls are not cut short once they run: the stop waits for them. */
static atomic_bool offloaded, let_go;
static int blocks(void *arg) {
    atomic_store(&offloaded, true);
    while (!atomic_load(&let_go))
        nanosleep(&(struct timespec){ 0, 100000 }, NULL);
    return (int)(intptr_t)arg;
}
static int offloads(void *arg) {
    int result = 0;
    int rc = stel_offload(&result, blocks, arg);
    return rc < 0 ? rc : result;
}
static void *stops(void *rt) {
    FIBER_OK(stel_runtime_stop(rt, 0));
    return NULL;
}
START_TEST(an_offloaded_call) {
    stel_runtime *rt = started(2);
    pthread_t thread;
    int result = 0;
    stel_fiber f = spawn(rt, offloads, (void *)8);
    EVENTUALLY(atomic_load(&offloaded));
    ck_assert_int_eq(pthread_create(&thread, NULL, stops, rt), 0);
    EVENTUALLY(stel_runtime_spawn(rt, NULL, NULL, answer, NULL) == -ESHUTDOWN);
    ck_assert_uint_ge(stel_runtime_pending(rt), 1);
    atomic_store(&let_go, true);
    pthread_join(thread, NULL);
    ck_assert_int_eq(stel_join(f, &result), 0);
    ck_assert_int_eq(result, 8);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

TEST_MAIN("runtime/embedding", main_loop, side_by_side, destroy_with_fibers_alive, background, graceful_daemon,
          every_kind_of_wait, an_offloaded_call)
