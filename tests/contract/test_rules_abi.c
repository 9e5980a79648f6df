/* The rules of sizes, structs and numbers, of the process (errno, fork, signals), and of runtimes side by side. */
#include "ends.h"
#include <netdb.h>
#include <signal.h>
#include <stellane/backend.h>
#include <stellane/io.h>

/* ---- codes ---- */

static void fails_in_many_ways(void) {
    ends e = of_stream();
    char byte;
    struct addrinfo *found;
    errno = 4242; /* no code of anybody's */
    EQ(stel_read(-1, &byte, 1), -EBADF);
    EQ(stel_write(-1, "x", 1), -EBADF);
    EQ(stel_recv(e.fd[0], &byte, 1, MSG_DONTWAIT), -EAGAIN);
    EQ(stel_close(-1), -EBADF);
    EQ(stel_socket(12345, SOCK_STREAM, 0), -EAFNOSUPPORT);
    EQ(stel_listen("255.1.2.3:9", 1), -EADDRNOTAVAIL);
    EQ(stel_accept(e.fd[0], NULL, NULL), -EINVAL);
    EQ(stel_connect(-1, NULL, 0), -EBADF);
    EQ(stel_waitpid(-1, NULL, 0), -ECHILD);
    EQ(stel_join(1, NULL), -ESRCH);
    EQ(stel_sigcatch(NULL), -EINVAL);
    EQ(stel_getaddrinfo("1.2.3.4", "80", NULL, NULL), -EINVAL);
    EQ(stel_fd_release(-1), -EBADF);
    (void)found;
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    stel_cancel_token *t;
    EQ(stel_cancel_token_create(&t), -ENOMEM);
    stel__fault_clear();
    EQ(errno, 4242);
    close_ends(e);
}

/* Rule: errors are returned; errno is not written. */
ON_BOTH(rule_errors_are_returned_and_errno_is_left_alone) {
    fails_in_many_ways();
}

/* Rule: results are 0 or a count, failures negative errno values or STEL_EAI codes, and every one has words. */
ON_BOTH(rule_every_code_has_words) {
    ends e = of_stream();
    EQ(stel_write(e.fd[1], "abc", 3), 3);
    EQ(stel_fsync(e.fd[0]), -EINVAL);
    EQ(strcmp(stel_strerror(STEL_EAI(EAI_NONAME)), stel_strerror(-EINVAL)) != 0, 1);
    for (int code = 1; code < 40; code++)
        IS(strlen(stel_strerror(-code)) > 3 && strcmp(stel_strerror(-code), "unknown error") != 0);
    close_ends(e);
}

static int sees_itself(void *arg) {
    return *(stel_fiber *)arg == stel_self();
}

/* Rule: objects come back through an out parameter, written before anything can use them. */
START_TEST(rule_out_parameters_are_written_first) {
    static stel_fiber f;
    stel_runtime *rt = runtime(2);
    for (int i = 0; i < 200; i++) {
        OK(stel_spawn(&f, sees_itself, &f)); /* other workers may be very quick */
        EQ(join(f), 1);
        OK(stel_runtime_spawn(rt, &f, NULL, sees_itself, &f));
        EQ(join(f), 1);
    }
    finish(rt);
}
END_TEST

/* ---- sizes ---- */

/* Rule: embedded objects have their fixed sizes. */
START_TEST(rule_embedded_objects_have_fixed_sizes) {
    EQ(sizeof(stel_once), 8);
    EQ(sizeof(stel_mutex), 32);
    EQ(sizeof(stel_cond), 32);
    EQ(sizeof(stel_sem), 32);
    EQ(sizeof(stel_event), 32);
    EQ(sizeof(stel_waitgroup), 32);
    EQ(sizeof(stel_rwlock), 64);
    EQ(sizeof(stel_barrier), 64);
    EQ(sizeof(stel_case), 64);
    EQ(sizeof(stel_scope), 128);
    EQ(sizeof(stel_fiber), 8);
}
END_TEST

/* Rule: structs passed in, and structs filled in, begin with their size. */
START_TEST(rule_structs_begin_with_their_size) {
    EQ(offsetof(stel_spawn_options, size), 0);
    EQ(offsetof(stel_config, size), 0);
    EQ(offsetof(stel_allocator, size), 0);
    EQ(offsetof(stel_backend_ops, size), 0);
    EQ(offsetof(stel_stats, size), 0);
    EQ(offsetof(stel_worker_stats, size), 0);
}
END_TEST

/* A struct as a newer header has it: with fields that this library does not know. */
#define NEWER(type)                                                                                                    \
    struct {                                                                                                           \
        type known;                                                                                                    \
        uint64_t unknown[4];                                                                                           \
    }
static void *plain_alloc(void *context, size_t alignment, size_t bytes) {
    (void)context;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}
static void plain_release(void *context, void *p) {
    (void)context;
    free(p);
}

/* Rule: a newer caller's larger struct is taken as long as what we do not know is zero; else -EINVAL. */
START_TEST(rule_larger_structs_of_newer_callers) {
    NEWER(stel_allocator) a = { .known = { sizeof a, NULL, plain_alloc, plain_release }, .unknown = { 0, 1 } };
    NEWER(stel_spawn_options) o = { .known = { .size = sizeof o, .name = "x" } };
    NEWER(stel_config) c;
    stel_runtime *rt = NULL;
    stel_fiber f;
    EQ(stel_set_allocator(&a.known), -EINVAL);
    a.unknown[1] = 0;
    OK(stel_set_allocator(&a.known));
    memset(&c, 0xa5, sizeof c);
    stel_config_init_sized(&c.known, sizeof c);
    EQ(c.unknown[3], 0);
    c.unknown[3] = 1;
    EQ(stel_runtime_create(&rt, &c.known), -EINVAL);
    c.unknown[3] = 0;
    OK(stel_runtime_create(&rt, &c.known));
    OK(stel_runtime_start(rt));
    OK(stel_runtime_spawn(rt, &f, &o.known, give, THE(1)));
    EQ(join(f), 1);
    o.unknown[0] = 1;
    EQ(stel_runtime_spawn(rt, &f, &o.known, give, THE(1)), -EINVAL);
    NEWER(stel_stats) s;
    memset(&s, 0xa5, sizeof s);
    OK(stel_runtime_stats_sized(rt, &s.known, sizeof s)); /* told how much of it was filled in; the rest is zero */
    EQ(s.known.size, sizeof(stel_stats));
    EQ(s.unknown[0] | s.unknown[3], 0);
    finish(rt);
}
END_TEST

/* Rule: an older caller's smaller struct is taken, and what it lacks is default; no more than it has is written. */
START_TEST(rule_smaller_structs_of_older_callers) {
    stel_config c, got;
    stel_runtime *rt = NULL;
    stel_worker_stats s;
    memset(&c, 0xa5, sizeof c); /* beyond the older struct's end lies anything */
    stel_config_init_sized(&c, offsetof(stel_config, stop_timeout_ns) + 4); /* that one is not all there */
    c.worker_threads = 1;
    memset(&c.stop_timeout_ns, 0x77, 4);
    OK(stel_runtime_create(&rt, &c));
    OK(stel_runtime_get_config(rt, &got));
    EQ(got.worker_threads, 1);
    EQ(got.stop_timeout_ns, STEL_SEC(30));
    EQ(got.io_batch, 32);
    OK(stel_runtime_start(rt));
    memset(&s, 0xa5, sizeof s);
    OK(stel_runtime_worker_stats_sized(rt, 0, &s, offsetof(stel_worker_stats, tasks_failed)));
    EQ(s.size, offsetof(stel_worker_stats, tasks_failed));
    EQ(s.tasks_failed, UINT64_C(0xa5a5a5a5a5a5a5a5));
    finish(rt);
}
END_TEST

/* Rule: zero in a field means its default. */
START_TEST(rule_zero_means_the_default) {
    stel_config zero = { .size = sizeof zero }, full, a, b;
    stel_spawn_options o = { .size = sizeof o };
    stel_runtime *rt = NULL;
    stel_fiber f;
    stel_config_init(&full);
    zero.seed = full.seed = 7; /* chance apart */
    OK(stel_runtime_create(&rt, &zero));
    OK(stel_runtime_get_config(rt, &a));
    OK(stel_runtime_destroy(rt));
    OK(stel_runtime_create(&rt, &full));
    OK(stel_runtime_get_config(rt, &b));
    EQ(memcmp(&a, &b, sizeof a), 0);
    OK(stel_runtime_spawn(rt, &f, &o, give, THE(2)));
    OK(stel_runtime_start(rt));
    EQ(join(f), 2);
    finish(rt);
}
END_TEST

/* Rule: objects of sync.h are ready when zeroed; only semaphore and barrier take a number. */
ON_BOTH(rule_objects_are_ready_when_zeroed) {
    struct {
        stel_mutex mutex;
        stel_cond cond;
        stel_event event;
        stel_waitgroup group;
        stel_rwlock lock;
        stel_once once;
        stel_sem sem;
    } z;
    memset(&z, 0, sizeof z);
    stel_mutex_lock(&z.mutex);
    stel_cond_signal(&z.cond);
    stel_mutex_unlock(&z.mutex);
    stel_event_set(&z.event);
    OK(stel_event_wait(&z.event));
    OK(stel_waitgroup_wait(&z.group));
    stel_rwlock_write_lock(&z.lock);
    stel_rwlock_write_unlock(&z.lock);
    OK(stel_once_call(&z.once, give, NULL));
    stel_sem_release(&z.sem);
    OK(stel_sem_acquire(&z.sem));
}

/* Rule: enums only grow: the numbers that are given stay. */
START_TEST(rule_enums_keep_their_numbers) {
    EQ(STEL_NO_MIGRATE, 1);
    EQ(STEL_FP_ENVIRONMENT, 2);
    EQ(STEL_BACKGROUND, 4);
    EQ(STEL_PRIORITY_MOST_URGENT, -4);
    EQ(STEL_PRIORITY_LEAST_URGENT, 3);
    EQ(STEL_ANYWHERE, 0);
    EQ(STEL_WORKER(0), 1);
    EQ(STEL_NODE(0), -1);
    EQ(STEL_SCOPE_COLLECT, 1);
    EQ(STEL_CASE_OP_SEND, 1);
    EQ(STEL_CASE_OP_RECV, 2);
    EQ(STEL_SELECT_NOWAIT, 1);
    EQ(STEL_BACKEND_READINESS, 1);
    EQ(STEL_BACKEND_COMPLETION, 2);
    EQ(STEL_EVENT_READY, 1);
    EQ(STEL_EVENT_COMPLETE, 2);
}
END_TEST

/* Rule: no varargs: open has its mode at its place, and every function a fixed type. */
START_TEST(rule_no_call_is_variadic) {
    int (*opens)(const char *, int, mode_t) = stel_open;
    int fd = (int)OK(opens("/", O_RDONLY, 0));
    OK(stel_close(fd));
}
END_TEST

/* ---- the process ---- */

static stel_mutex lock_of_the_parent;
static stel_runtime *runtime_of_the_parent;
static stel_chan *chan_of_the_parent;
static void in_the_child(void) {
    stel_fiber f;
    char byte;
    stel_chan *c;
    stel_runtime *rt;
    STEL_TIMEOUT(STEL_SEC(20)); /* none hangs */
    EQ(stel_spawn(&f, give, NULL), -EPERM);
    EQ(stel_go(give, NULL), -EPERM);
    EQ(stel_sleep(STEL_FOREVER), -EPERM);
    EQ(stel_cancel(1), -EPERM);
    EQ(stel_run(give, NULL), -EPERM);
    EQ(stel_runtime_create(&rt, NULL), -EPERM);
    EQ(stel_runtime_stop(runtime_of_the_parent, 0), -EPERM);
    EQ(stel_runtime_spawn(runtime_of_the_parent, &f, NULL, give, NULL), -EPERM);
    EQ(stel_read(0, &byte, 1), -EPERM);
    EQ(stel_close(12345), -EPERM);
    EQ(stel_listen("127.0.0.1:0", 1), -EPERM);
    EQ(stel_chan_create(&c, 1, 1), -EPERM);
    EQ(stel_chan_recv(chan_of_the_parent, &byte), -EPERM);
    EQ(stel_mutex_try_lock(&lock_of_the_parent), -EPERM);
    stel_mutex_lock(&lock_of_the_parent); /* no code to return: it does nothing that counts */
    stel_mutex_unlock(&lock_of_the_parent);
    stel_yield();
    execl("/bin/true", "true", (char *)NULL);
}

/* Rule: after fork the child may exec or _exit; other calls return -EPERM there, and none hangs. */
START_TEST(rule_after_fork_every_code_is_eperm) {
    runtime_of_the_parent = runtime(2);
    OK(stel_chan_create(&chan_of_the_parent, 1, 1));
    stel_mutex_lock(&lock_of_the_parent);
    in_forked_child(in_the_child);
    stel_mutex_unlock(&lock_of_the_parent);
    stel_chan_destroy(chan_of_the_parent);
    finish(runtime_of_the_parent);
}
END_TEST

static int forks(void *arg) {
    (void)arg;
    pid_t child = fork();
    IS(child >= 0);
    if (child == 0) {
        EQ(stel_self(), 0); /* a plain thread by now, on its own stack */
        EQ(stel_sleep(STEL_FOREVER), -EPERM);
        _exit(9);
    }
    int status = 0;
    EQ(stel_waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
}

/* Rule: the child of a fiber's fork keeps the calling fiber only, as a plain thread. */
START_TEST(rule_a_fork_keeps_the_calling_fiber_only) {
    EQ(run_in_runtime(2, forks, NULL), 9);
}
END_TEST

static int masks_all(void *arg) {
    sigset_t mask;
    (void)arg;
    EQ(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    return sigismember(&mask, SIGTERM) && sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGSEGV);
}

/* Rule: the library's threads block every signal that is not synchronous: handlers run on threads of the program. */
START_TEST(rule_library_threads_block_signals) {
    int result = 0;
    EQ(run_in_runtime(1, masks_all, NULL), 1);
    OK(stel_offload(&result, masks_all, NULL)); /* of a plain thread: perhaps on itself */
    EQ(masks_all(NULL), 0);
}
END_TEST

/* ---- runtimes ---- */

static int thread_of(void *arg) {
    *(pthread_t *)arg = pthread_self();
    return 0;
}

/* Rule: main is never a worker: a start returns at once, and no fiber runs on the caller's thread. */
START_TEST(rule_main_is_never_a_worker) {
    pthread_t t = pthread_self();
    stel_runtime *rt = runtime(1);
    EQ(join(spawn(thread_of, &t)), 0);
    IS(!pthread_equal(t, pthread_self()));
    EQ(stel_worker_id(), -EPERM);
    finish(rt);
}
END_TEST

static int in_its_own(void *rt) {
    stel_fiber f = spawn(give, THE(4)); /* where the spawner is */
    EQ(join(f), 4);
    return stel_runtime_current() == rt;
}

/* Rule: several runtimes live side by side, and fibers of one work with those of another. */
START_TEST(rule_several_runtimes_live_side_by_side) {
    stel_runtime *rt[3];
    stel_chan *c = NULL;
    OK(stel_chan_create(&c, 0, 0));
    chan_of_the_parent = c;
    for (int i = 0; i < 3; i++)
        rt[i] = runtime(1);
    for (int i = 0; i < 3; i++) {
        stel_fiber f;
        OK(stel_runtime_spawn(rt[i], &f, NULL, in_its_own, rt[i]));
        EQ(join(f), 1);
    }
    finish(rt[0]); /* the others go on */
    EQ(join(spawn(in_its_own, rt[1])), 1);
    finish(rt[1]);
    finish(rt[2]);
    stel_chan_destroy(c);
}
END_TEST

/* Rule: auto-shutdown is off in stel_runtime_create and on in stel_run. */
START_TEST(rule_auto_shutdown_is_off_in_create_and_on_in_run) {
    stel_config c;
    stel_runtime *rt = runtime(1);
    OK(stel_runtime_get_config(rt, &c));
    EQ(c.auto_shutdown, -1);
    EQ(join(spawn(give, NULL)), 0);
    {
        STEL_TIMEOUT(STEL_MS(10));
        EQ(stel_runtime_wait(rt), -ETIMEDOUT);
    }
    finish(rt);
    EQ(stel_run(give, THE(6)), 6); /* it comes back */
}
END_TEST

static int stops_cleanly(void *arg) {
    (void)arg;
    IS(!stel_stopping());
    OK(stel_shutdown(0));
    IS(stel_stopping());
    EQ(stel_sleep(STEL_FOREVER), -ECANCELED);
    STEL_SHIELD(STEL_SEC(1000)); /* clean-up may wait */
    EQ(stel_sleep(STEL_MS(1)), 0);
    return 5;
}

/* Rule: a shutdown cancels, and who cleans up behind a shield is waited for. */
START_TEST(rule_a_shutdown_waits_for_clean_up_behind_shields) {
    EQ(stel_run(stops_cleanly, NULL), 5);
}
END_TEST

TEST_MAIN("contract/rules_abi", rule_errors_are_returned_and_errno_is_left_alone, rule_every_code_has_words,
          rule_out_parameters_are_written_first, rule_embedded_objects_have_fixed_sizes,
          rule_structs_begin_with_their_size, rule_larger_structs_of_newer_callers,
          rule_smaller_structs_of_older_callers, rule_zero_means_the_default, rule_objects_are_ready_when_zeroed,
          rule_enums_keep_their_numbers, rule_no_call_is_variadic, rule_after_fork_every_code_is_eperm,
          rule_a_fork_keeps_the_calling_fiber_only, rule_library_threads_block_signals, rule_main_is_never_a_worker,
          rule_several_runtimes_live_side_by_side, rule_auto_shutdown_is_off_in_create_and_on_in_run,
          rule_a_shutdown_waits_for_clean_up_behind_shields)
