/* fork(2), from a fiber and from a plain thread, while others use everything: in the child every public call that returns
 * a code returns -EPERM, none hangs, whatever was locked at that moment; exec works, and finds the signal mask that the
 * program has. */
#include "base/atomic.h"
#include "check_fiber.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stellane/backend.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined STEL__TSAN || defined STEL__ASAN
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* Objects that others are busy with when the fork comes. */
static struct {
    stel_runtime *rt;
    stel_mutex mutex, held;
    stel_cond cond;
    stel_event event;
    stel_waitgroup group;
    stel_sem sem;
    stel_rwlock lock;
    stel_barrier barrier;
    stel_once once, done;
    stel_chan *chan;
    stel_cancel_token *token;
    stel_fiber sleeper;
    stel_key key;
    int pair[2], file;
    atomic_bool over;
} shared;

static int nothing(void *arg) {
    (void)arg;
    return 0;
}
static int until_cancelled(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}
static void *inherit(void *value) {
    return value;
}

#define REFUSED(call) FIBER_ASSERT_EQ((call), -EPERM)

static void fibers_are_refused(void) {
    stel_fiber f = 0;
    char name[8];
    int n;
    stel_key key;
    REFUSED(stel_spawn(&f, nothing, NULL));
    REFUSED(stel_spawn_with(&f, NULL, nothing, NULL));
    REFUSED(stel_go(nothing, NULL));
    REFUSED(stel_spawn_after(&f, 0, nothing, NULL));
    REFUSED(stel_join(shared.sleeper, NULL));
    REFUSED(stel_try_join(shared.sleeper, NULL));
    REFUSED(stel_detach(shared.sleeper));
    REFUSED(stel_cancel(shared.sleeper));
    REFUSED(stel_sleep(STEL_FOREVER));
    REFUSED(stel_sleep(0));
    REFUSED(stel_sleep_until(STEL_FOREVER));
    REFUSED(stel_park());
    REFUSED(stel_unpark(shared.sleeper));
    REFUSED(stel_worker_id());
    REFUSED(stel_fiber_name(shared.sleeper, name, sizeof name));
    REFUSED(stel_fiber_created(shared.sleeper));
    REFUSED(stel_fiber_priority(shared.sleeper, &n));
    REFUSED(stel_set_name("child"));
    REFUSED(stel_set_priority(1));
    REFUSED(stel_local_key(&key, NULL));
    REFUSED(stel_local_key_inherited(&key, inherit, NULL));
    REFUSED(stel_local_set(shared.key, &key));
    FIBER_ASSERT(stel_local_get(shared.key) == NULL);
    FIBER_ASSERT_EQ(stel_self(), 0);
    FIBER_ASSERT(!stel_cancelled());
    stel_yield();
}

static void scopes_are_refused(void) {
    stel_scope s = { { 0 } };
    stel_cancel_token *t;
    REFUSED(stel_scope_open(&s, 0));
    REFUSED(stel_cancel_token_create(&t));
    REFUSED(stel_cancel_token_cancel(shared.token));
    REFUSED(stel_cancel_token_attach(shared.token, shared.sleeper));
    FIBER_ASSERT(stel_cancel_token_retain(shared.token) == shared.token);
    stel_cancel_token_release(shared.token);
    FIBER_ASSERT(!stel_cancel_token_cancelled(shared.token));
    stel_scope_cancel(&s);
    stel_scope_close(&s);
    { /* limits open and close, and make no wait possible */
        STEL_TIMEOUT(STEL_MS(1));
        STEL_SHIELD(STEL_MS(1));
        REFUSED(stel_sleep(STEL_FOREVER));
    }
    REFUSED(stel_sleep(STEL_FOREVER));
    FIBER_ASSERT(!stel_timed_out());
    (void)stel_deadline();
}

static void locks_are_refused(void) {
    stel_sem sem;
    stel_barrier barrier;
    REFUSED(stel_mutex_try_lock(&shared.mutex));
    REFUSED(stel_rwlock_try_read_lock(&shared.lock));
    REFUSED(stel_rwlock_try_write_lock(&shared.lock));
    REFUSED(stel_event_wait(&shared.event));
    REFUSED(stel_waitgroup_wait(&shared.group));
    REFUSED(stel_sem_init(&sem, 1));
    REFUSED(stel_sem_acquire(&shared.sem));
    REFUSED(stel_sem_try_acquire(&shared.sem));
    REFUSED(stel_barrier_init(&barrier, 1));
    REFUSED(stel_barrier_wait(&shared.barrier));
    REFUSED(stel_once_call(&shared.once, nothing, NULL));
    REFUSED(stel_once_call(&shared.done, nothing, NULL));
    stel_mutex mine = STEL_MUTEX_INIT;
    stel_cond cond = STEL_COND_INIT;
    stel_mutex_lock(&mine);
    REFUSED(stel_cond_wait(&cond, &mine));
    stel_mutex_unlock(&mine);
    /* Those without a code: whatever they do, they return. */
    stel_mutex_lock(&shared.mutex);
    stel_mutex_unlock(&shared.mutex);
    stel_mutex_unlock(&shared.held); /* by who held it before it forked */
    stel_rwlock_read_lock(&shared.lock);
    stel_rwlock_read_unlock(&shared.lock);
    stel_rwlock_write_lock(&shared.lock);
    stel_rwlock_write_unlock(&shared.lock);
    stel_cond_signal(&shared.cond);
    stel_cond_broadcast(&shared.cond);
    stel_event_set(&shared.event);
    stel_event_reset(&shared.event);
    (void)stel_event_is_set(&shared.event);
    stel_waitgroup_add(&shared.group, 1);
    stel_waitgroup_done(&shared.group);
    stel_sem_release(&shared.sem);
}

static void channels_are_refused(void) {
    stel_chan *c;
    uint64_t element = 0;
    stel_case cases[] = { STEL_CASE_RECV(shared.chan, &element), STEL_CASE_SEND(shared.chan, &element) };
    REFUSED(stel_chan_create(&c, 8, 1));
    REFUSED(stel_chan_send(shared.chan, &element));
    REFUSED(stel_chan_recv(shared.chan, &element));
    REFUSED(stel_chan_send(NULL, &element));
    REFUSED(stel_chan_try_send(shared.chan, &element));
    REFUSED(stel_chan_try_recv(shared.chan, &element));
    REFUSED(stel_chan_close(shared.chan));
    REFUSED(stel_select(cases, 2, 0));
    REFUSED(stel_select(cases, 1, 0));
    REFUSED(stel_select(cases, 2, STEL_SELECT_NOWAIT));
    REFUSED(stel_select(NULL, 0, 0));
    (void)stel_chan_len(shared.chan);
    FIBER_ASSERT(stel_chan_retain(shared.chan) == shared.chan);
    stel_chan_destroy(shared.chan);
}

static void descriptors_are_refused(void) {
    char byte = 0;
    struct iovec v = { &byte, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
    struct sockaddr_in to = { .sin_family = AF_INET };
    struct pollfd p = { .fd = shared.pair[0], .events = POLLIN };
    int fd = shared.pair[0], file = shared.file;
    size_t done;
    off_t at = 0;
    REFUSED(stel_read(fd, &byte, 1));
    REFUSED(stel_write(fd, &byte, 1));
    REFUSED(stel_readv(fd, &v, 1));
    REFUSED(stel_writev(fd, &v, 1));
    REFUSED(stel_pread(file, &byte, 1, 0));
    REFUSED(stel_pwrite(file, &byte, 1, 0));
    REFUSED(stel_recv(fd, &byte, 1, 0));
    REFUSED(stel_send(fd, &byte, 1, 0));
    REFUSED(stel_recvfrom(fd, &byte, 1, 0, NULL, NULL));
    REFUSED(stel_sendto(fd, &byte, 1, 0, (struct sockaddr *)&to, sizeof to));
    REFUSED(stel_recvmsg(fd, &m, 0));
    REFUSED(stel_sendmsg(fd, &m, 0));
    REFUSED(stel_sendfile(fd, file, &at, 1));
    REFUSED(stel_splice(file, &at, fd, NULL, 1, 0));
    REFUSED(stel_accept(fd, NULL, NULL));
    REFUSED(stel_accept4(fd, NULL, NULL, 0));
    REFUSED(stel_connect(fd, (struct sockaddr *)&to, sizeof to));
    REFUSED(stel_socket(AF_INET, SOCK_STREAM, 0));
    REFUSED(stel_open("/dev/null", O_RDONLY, 0));
    REFUSED(stel_fsync(file));
    REFUSED(stel_fdatasync(file));
    REFUSED(stel_close(fd));
    REFUSED(stel_wait_fd(fd, POLLIN));
    REFUSED(stel_poll(&p, 1, -1));
    REFUSED(stel_poll(&p, 1, 0));
    REFUSED(stel_fd_release(fd));
    REFUSED(stel_write_all(fd, &byte, 1, &done));
    REFUSED(stel_read_full(fd, &byte, 1, &done));
    REFUSED(stel_listen("127.0.0.1:0", 1));
    REFUSED(stel_dial("127.0.0.1:1"));
}

static void services_are_refused(void) {
    struct addrinfo *found;
    sigset_t set;
    siginfo_t info;
    int result;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    REFUSED(stel_getaddrinfo("127.0.0.1", "1", NULL, &found));
    REFUSED(stel_waitpid(-1, &result, 0));
    REFUSED(stel_sigcatch(&set));
    REFUSED(stel_sigwaitinfo(&set, &info));
    REFUSED(stel_offload(&result, nothing, NULL));
}

static void runtimes_are_refused(void) {
    stel_runtime *rt;
    stel_config c;
    stel_stats s;
    stel_worker_stats w;
    stel_fiber f;
    stel_config_init(&c);
    REFUSED(stel_run(nothing, NULL));
    REFUSED(stel_shutdown(0));
    REFUSED(stel_runtime_create(&rt, NULL));
    REFUSED(stel_runtime_start(shared.rt));
    REFUSED(stel_runtime_wait(shared.rt));
    REFUSED(stel_runtime_stop(shared.rt, 0));
    REFUSED(stel_runtime_restart(shared.rt));
    REFUSED(stel_runtime_destroy(shared.rt));
    REFUSED(stel_runtime_spawn(shared.rt, &f, NULL, nothing, NULL));
    REFUSED(stel_runtime_get_config(shared.rt, &c));
    REFUSED(stel_runtime_update_config(shared.rt, &c));
    REFUSED(stel_runtime_stats(shared.rt, &s));
    REFUSED(stel_runtime_worker_stats(shared.rt, 0, &w));
    REFUSED(stel_set_allocator(NULL));
    REFUSED(stel_backend_register("child", NULL));
    FIBER_ASSERT(stel_runtime_current() == NULL);
    FIBER_ASSERT(!stel_stopping());
    (void)stel_runtime_is_running(shared.rt);
    (void)stel_runtime_pending(shared.rt);
    FIBER_ASSERT(stel_backend_has("epoll"));
    FIBER_ASSERT(stel_backend_list(NULL, 0) >= 1);
    FIBER_ASSERT(stel_now() > 0 && stel_strerror(-EPERM) && stel_version());
}

static void *a_thread_of_the_child(void *arg) {
    REFUSED(stel_sleep(STEL_FOREVER));
    REFUSED(stel_chan_recv(shared.chan, &(uint64_t){ 0 }));
    return arg;
}

static void live_as_child(void) {
    pthread_t thread;
    alarm(60); /* "nothing hangs" */
    fibers_are_refused();
    scopes_are_refused();
    locks_are_refused();
    channels_are_refused();
    descriptors_are_refused();
    services_are_refused();
    runtimes_are_refused();
    /* Left out because ThreadSanitizer starts no threads in such a child, and AddressSanitizer's new thread may wait for
     * a lock of its own that some thread of the parent held at the fork. */
    if (!SANITIZED) {
        FIBER_ASSERT_EQ(pthread_create(&thread, NULL, a_thread_of_the_child, NULL), 0);
        pthread_join(thread, NULL);
    }
    _exit(7);
}

static void fork_once(void) {
    int status = 0;
    pid_t child = fork();
    FIBER_ASSERT(child >= 0);
    if (child == 0) live_as_child();
    FIBER_ASSERT_EQ(waitpid(child, &status, 0), child);
    FIBER_ASSERT_EQ(status, 7 << 8);
}

/* ---- those who keep everything busy ---- */

static void use_everything(uint64_t *state) {
    uint64_t element = 1;
    char name[8];
    stel_fiber f;
    stel_mutex_lock(&shared.mutex);
    stel_cond_broadcast(&shared.cond);
    stel_mutex_unlock(&shared.mutex);
    stel_rwlock_read_lock(&shared.lock);
    stel_rwlock_read_unlock(&shared.lock);
    stel_rwlock_write_lock(&shared.lock);
    stel_rwlock_write_unlock(&shared.lock);
    stel_sem_release(&shared.sem);
    FIBER_OK(stel_sem_acquire(&shared.sem));
    stel_event_set(&shared.event);
    stel_event_reset(&shared.event);
    (void)!stel_chan_try_send(shared.chan, &element);
    (void)!stel_chan_try_recv(shared.chan, &element);
    (void)!stel_fiber_name(shared.sleeper, name, sizeof name);
    (void)stel_runtime_pending(shared.rt);
    FIBER_OK(stel_runtime_spawn(shared.rt, &f, NULL, nothing, NULL));
    FIBER_OK(stel_cancel(f));
    FIBER_OK(stel_join(f, NULL));
    if (test_random(state, 4) == 0) stel_yield();
}
static int busy_fiber(void *arg) {
    uint64_t state = (uintptr_t)arg;
    while (!atomic_load(&shared.over))
        use_everything(&state);
    return 0;
}
static void *busy_thread(void *arg) {
    busy_fiber(arg);
    return NULL;
}

static void share(int workers) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = workers;
    c.stall_ns = -1;
    FIBER_OK(stel_runtime_create(&shared.rt, &c));
    FIBER_OK(stel_runtime_start(shared.rt));
    FIBER_OK(stel_sem_init(&shared.sem, 1));
    FIBER_OK(stel_barrier_init(&shared.barrier, 2));
    FIBER_OK(stel_chan_create(&shared.chan, 8, 2));
    FIBER_OK(stel_cancel_token_create(&shared.token));
    FIBER_OK(stel_local_key(&shared.key, NULL));
    FIBER_OK(stel_once_call(&shared.done, nothing, NULL));
    FIBER_OK(stel_runtime_spawn(shared.rt, &shared.sleeper, NULL, until_cancelled, NULL));
    FIBER_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, shared.pair));
    FIBER_OK(shared.file = open("/proc/self/exe", O_RDONLY));
    stel_waitgroup_add(&shared.group, 1);
}
static void end_sharing(void) {
    atomic_store(&shared.over, true);
    FIBER_OK(stel_runtime_stop(shared.rt, 0));
    FIBER_OK(stel_runtime_destroy(shared.rt));
}

static int forks_from_a_fiber(void *arg) {
    int n = (int)(intptr_t)arg;
    stel_mutex_lock(&shared.held);
    for (int i = 0; i < n; i++) {
        STEL_TIMEOUT(STEL_SEC(3600)); /* the child leaves it as well */
        fork_once();
        FIBER_OK(stel_sleep(1)); /* and the parent goes on as before */
        FIBER_ASSERT(stel_self() != 0 && stel_worker_id() >= 0);
    }
    stel_mutex_unlock(&shared.held);
    return 0;
}

START_TEST(from_a_fiber) {
    stel_fiber f;
    share(2);
    ck_assert_int_eq(stel_runtime_spawn(shared.rt, &f, NULL, forks_from_a_fiber, (void *)3), 0);
    ck_assert_int_eq(stel_join(f, NULL), 0);
    end_sharing();
}
END_TEST

START_TEST(from_a_thread) {
    share(2);
    for (int i = 0; i < 3; i++)
        fork_once();
    /* And from one that has waited before, and one that never has. */
    ck_assert_int_eq(stel_sleep(1), 0);
    fork_once();
    end_sharing();
}
END_TEST

/* Whatever is locked at the moment of the fork: the child waits for nobody. */
START_TEST(while_all_is_busy) {
    pthread_t threads[2];
    stel_fiber f, busy[2];
    share(3);
    for (uintptr_t i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, busy_thread, (void *)(i + 1)), 0);
        ck_assert_int_eq(stel_runtime_spawn(shared.rt, &busy[i], NULL, busy_fiber, (void *)(i + 77)), 0);
    }
    int n = (int)test_scale(20);
    for (int i = 0; i < n; i++)
        fork_once();
    ck_assert_int_eq(stel_runtime_spawn(shared.rt, &f, NULL, forks_from_a_fiber, (void *)(intptr_t)n), 0);
    ck_assert_int_eq(stel_join(f, NULL), 0);
    atomic_store(&shared.over, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(stel_join(busy[i], NULL), 0); /* before the stop, which would cancel what it waits for */
    }
    end_sharing();
}
END_TEST

/* ---- what is exec'ed ---- */

/* The line SigBlk of a program that this forks and execs. */
static void blocked_in_exec(char *line, size_t bytes) {
    int ends[2], status;
    FIBER_ASSERT_EQ(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execlp("grep", "grep", "SigBlk", "/proc/self/status", (char *)NULL);
        _exit(1);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], line, bytes - 1); /* one line, written at once */
    line[n > 0 ? n : 0] = 0;
    close(ends[0]);
    FIBER_ASSERT_EQ(waitpid(child, &status, 0), child);
    FIBER_ASSERT_EQ(status, 0);
}
static int execs(void *line) {
    sigset_t mine;
    blocked_in_exec(line, 80);
    pthread_sigmask(SIG_SETMASK, NULL, &mine); /* the worker's is what it was */
    FIBER_ASSERT(sigismember(&mine, SIGTERM) == 1);
    return 0;
}
static int execs_offloaded(void *line) {
    FIBER_OK(stel_offload(NULL, execs, line)); /* a thread that was started by a worker */
    return 0;
}

START_TEST(signal_mask) {
    char here[80], there[80];
    stel_fn *const ways[] = { execs, execs_offloaded };
    for (int round = 0; round < 2; round++) {
        sigset_t set;
        sigemptyset(&set);
        if (round) sigaddset(&set, SIGUSR1);
        ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, &set, NULL), 0);
        blocked_in_exec(here, sizeof here);
        ck_assert_ptr_nonnull(strstr(here, round ? "0000000000000200" : "0000000000000000"));
        ck_assert_int_eq(run_in_runtime(2, ways[0], there), 0);
        ck_assert_str_eq(here, there);
        if (round) continue; /* the pool's threads were started in the first round */
        ck_assert_int_eq(run_in_runtime(2, ways[1], there), 0);
        ck_assert_str_eq(here, there);
    }
}
END_TEST

/* ---- the fiber must not return ---- */

static int returns_in_the_child(void *arg) {
    int status = 0;
    (void)arg;
    pid_t child = fork();
    if (child == 0) return 0;
    FIBER_ASSERT_EQ(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}
START_TEST(no_way_back) {
    ck_assert_int_eq(run_in_runtime(1, returns_in_the_child, NULL), SIGABRT);
}
END_TEST

TEST_MAIN("runtime/fork", from_a_fiber, from_a_thread, while_all_is_busy, signal_mask, no_way_back)
