/* stel_sigcatch and stel_sigwaitinfo, by real signals. Nothing gives them back, so each test has a process of its own.
 *
 * ctest: timeout=180 */
#include "host/fault.h"
#include "io_sides.h"
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

static sigset_t set_of(int a, int b, int c) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, a);
    if (b) sigaddset(&set, b);
    if (c) sigaddset(&set, c);
    return set;
}

static void catch_these(int a, int b, int c) {
    sigset_t set = set_of(a, b, c);
    FIBER_OK(stel_sigcatch(&set));
}

/* Wait for one of up to three. */
static int await_one(siginfo_t *info, int a, int b, int c) {
    sigset_t set = set_of(a, b, c);
    return stel_sigwaitinfo(&set, info);
}

/* The highest number that Valgrind leaves to programs. */
#define LAST (SIGRTMAX - 1)

/* Where every thread blocks the signals: what was sent before has been collected. The kernel gives the lowest number
 * first, so the highest one comes last. */
static void settle(void) {
    siginfo_t info;
    FIBER_ASSERT_EQ(kill(getpid(), LAST), 0);
    FIBER_ASSERT_EQ(await_one(&info, LAST, 0, 0), LAST);
}

/* May threads let signals in? Left out under ThreadSanitizer because it keeps them from handlers until the thread makes
 * a call that the tool knows, and then knows of one only; there every thread of a test blocks them. */
#if defined(STEL__TSAN)
enum { HANDLERS = 0 };
#else
enum { HANDLERS = 1 };
#endif

static void block(int how, int a, int b, int c) {
    sigset_t set = set_of(a, b, c);
    FIBER_ASSERT_EQ(pthread_sigmask(how, &set, NULL), 0);
}

/* First of all in a test. */
static void begin(void) {
    sigset_t all;
    sigfillset(&all);
    if (!HANDLERS) FIBER_ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &all, NULL), 0);
}

/* ---- what came with it ---- */

static int kinds(void *arg) {
    (void)arg;
    siginfo_t info;
    catch_these(SIGUSR1, SIGUSR2, SIGRTMIN);
    /* With the masks as they are, blocked here, and let in here. */
    for (int mask = 0; mask < (HANDLERS ? 3 : 2); mask++) {
        if (mask) block(mask == 1 ? SIG_BLOCK : SIG_UNBLOCK, SIGUSR1, SIGUSR2, SIGRTMIN);
        FIBER_ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
        FIBER_ASSERT_EQ(await_one(&info, SIGUSR1, SIGUSR2, 0), SIGUSR1);
        FIBER_ASSERT_EQ(info.si_signo, SIGUSR1);
        FIBER_ASSERT_EQ(info.si_code, SI_USER);
        FIBER_ASSERT_EQ(info.si_pid, getpid());
        FIBER_ASSERT_EQ(info.si_uid, getuid());
        FIBER_ASSERT_EQ(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_ptr = &info }), 0);
        FIBER_ASSERT_EQ(await_one(&info, SIGRTMIN, 0, 0), SIGRTMIN);
        FIBER_ASSERT_EQ(info.si_code, SI_QUEUE);
        FIBER_ASSERT(info.si_value.sival_ptr == &info);
        FIBER_ASSERT_EQ(info.si_pid, getpid());
        FIBER_ASSERT_EQ(kill(getpid(), SIGUSR2), 0);
        FIBER_ASSERT_EQ(await_one(NULL, SIGUSR2, 0, 0), SIGUSR2);
        if (mask == 1 || !HANDLERS) continue; /* one that is sent to this thread would stay here */
        if (mask == 0) block(SIG_UNBLOCK, SIGUSR1, SIGUSR2, SIGRTMIN);
        FIBER_ASSERT_EQ(pthread_kill(pthread_self(), SIGUSR2), 0);
        FIBER_ASSERT_EQ(await_one(&info, SIGUSR2, 0, 0), SIGUSR2);
        FIBER_ASSERT_EQ(info.si_code, SI_TKILL);
        FIBER_ASSERT_EQ(raise(SIGUSR1), 0);
        FIBER_ASSERT_EQ(await_one(&info, SIGUSR1, 0, 0), SIGUSR1);
    }
    return 0;
}

START_TEST(told_who_and_why) {
    begin();
    on_all_kinds(kinds);
}
END_TEST

/* The end of a child, a timer, and a descriptor: signals that the kernel sends, with what it says. */
static int kernels(void *arg) {
    (void)arg;
    siginfo_t info;
    catch_these(SIGCHLD, SIGALRM, SIGIO);
    for (int mask = 0; mask < (HANDLERS ? 2 : 1); mask++) {
        block(mask ? SIG_UNBLOCK : SIG_BLOCK, SIGCHLD, SIGALRM, SIGIO);
        pid_t pid = fork();
        FIBER_ASSERT(pid >= 0);
        if (pid == 0) _exit(7);
        FIBER_ASSERT_EQ(await_one(&info, SIGCHLD, 0, 0), SIGCHLD);
        FIBER_ASSERT_EQ(info.si_code, CLD_EXITED);
        FIBER_ASSERT_EQ(info.si_pid, pid);
        FIBER_ASSERT_EQ(info.si_uid, getuid());
        FIBER_ASSERT_EQ(info.si_status, 7);
        FIBER_ASSERT_EQ(stel_waitpid(pid, NULL, WNOHANG), pid);
        struct itimerval soon = { .it_value.tv_usec = 2000 };
        FIBER_ASSERT_EQ(setitimer(ITIMER_REAL, &soon, NULL), 0);
        FIBER_ASSERT_EQ(await_one(&info, SIGALRM, 0, 0), SIGALRM);
        FIBER_ASSERT_EQ(info.si_code, SI_KERNEL);
        int fds[2];
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        FIBER_ASSERT_EQ(fcntl(fds[0], F_SETOWN, getpid()), 0);
        FIBER_ASSERT_EQ(fcntl(fds[0], F_SETSIG, SIGIO), 0);
        FIBER_ASSERT_EQ(fcntl(fds[0], F_SETFL, O_ASYNC), 0);
        FIBER_ASSERT_EQ(write(fds[1], "x", 1), 1);
        FIBER_ASSERT_EQ(await_one(&info, SIGIO, 0, 0), SIGIO);
        FIBER_ASSERT_EQ(info.si_code, POLL_IN);
        FIBER_ASSERT_EQ(info.si_band & POLLIN, POLLIN);
        FIBER_ASSERT_EQ(info.si_fd, fds[0]);
        FIBER_OK(stel_close(fds[0]));
        FIBER_OK(stel_close(fds[1]));
    }
    return 0;
}

START_TEST(from_the_kernel) {
    begin();
    on_all_kinds(kernels);
}
END_TEST

/* ---- kept before the first wait ---- */

static int kept(void *arg) {
    (void)arg;
    siginfo_t info;
    int first = SIGRTMIN, second = SIGRTMIN + 1;
    catch_these(SIGHUP, SIGUSR1, 0);
    catch_these(first, second, LAST); /* more of them later */
    int n = (int)test_scale(2000);
    for (int i = 0; i < n; i++) {
        FIBER_ASSERT_EQ(sigqueue(getpid(), second, (union sigval){ .sival_int = i }), 0);
        if (i < 5) FIBER_ASSERT_EQ(sigqueue(getpid(), first, (union sigval){ .sival_int = -i }), 0);
        if (i < 5) FIBER_ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
        if (i < 5) settle();
    }
    settle();
    {
        STEL_TIMEOUT(STEL_MS(5));
        FIBER_ASSERT_EQ(await_one(&info, SIGHUP, 0, 0), -ETIMEDOUT); /* that one did not come */
    }
    /* The lowest number first; one of a standard signal, all of a real-time signal, in their order. */
    sigset_t all = set_of(SIGUSR1, first, second);
    sigaddset(&all, SIGHUP);
    FIBER_ASSERT_EQ(stel_sigwaitinfo(&all, &info), SIGUSR1);
    for (int i = 0; i < 5; i++) {
        FIBER_ASSERT_EQ(stel_sigwaitinfo(&all, &info), first);
        FIBER_ASSERT_EQ(info.si_value.sival_int, -i);
    }
    for (int i = 0; i < n; i++) {
        FIBER_ASSERT_EQ(stel_sigwaitinfo(&all, &info), second);
        FIBER_ASSERT_EQ(info.si_value.sival_int, i);
    }
    STEL_TIMEOUT(STEL_MS(5));
    FIBER_ASSERT_EQ(stel_sigwaitinfo(&all, &info), -ETIMEDOUT);
    return 0;
}

START_TEST(kept_from_the_first) {
    begin();
    /* Order is promised where no thread lets them in: the library's threads do not, nor may this one. */
    block(SIG_BLOCK, SIGUSR1, SIGRTMIN, SIGRTMIN + 1);
    block(SIG_BLOCK, SIGHUP, LAST, 0);
    on_all_kinds(kept);
}
END_TEST

/* ---- waiting ---- */

static int wait_usr1(void *arg) {
    (void)arg;
    return await_one(NULL, SIGUSR1, 0, 0);
}

static int wait_any(void *arg) {
    siginfo_t *info = arg;
    return await_one(info, SIGUSR1, SIGRTMIN, SIGRTMIN + 1);
}

static int waiters(void *arg) {
    enum { N = 8 };
    (void)arg;
    side sides[N], one;
    siginfo_t infos[N];
    catch_these(SIGUSR1, SIGRTMIN, SIGRTMIN + 1);
    check_limits(wait_usr1, NULL);
    /* Each arrival to one waiter. */
    for (int i = 0; i < N; i++)
        side_start(&sides[i], wait_any, &infos[i]);
    check_fiber_nap();
    for (int i = 0; i < N; i++)
        FIBER_ASSERT_EQ(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = i }), 0);
    unsigned seen = 0;
    for (int i = 0; i < N; i++) {
        FIBER_ASSERT_EQ(side_join(&sides[i]), SIGRTMIN);
        seen |= 1u << infos[i].si_value.sival_int;
    }
    FIBER_ASSERT_EQ(seen, (1u << N) - 1);
    /* Who waits for another one is passed over. */
    side_start(&one, wait_usr1, NULL);
    side_start(&sides[0], wait_any, &infos[0]);
    check_fiber_nap();
    FIBER_ASSERT_EQ(kill(getpid(), SIGRTMIN + 1), 0);
    FIBER_ASSERT_EQ(side_join(&sides[0]), SIGRTMIN + 1);
    FIBER_ASSERT_EQ(kill(getpid(), SIGUSR1), 0);
    FIBER_ASSERT_EQ(side_join(&one), SIGUSR1);
    check_limits(wait_usr1, NULL);
    return 0;
}

START_TEST(waiting) {
    begin();
    on_all_kinds(waiters);
}
END_TEST

/* Arrivals, deadlines and cancellations race; nothing is lost and nothing comes twice. */
enum { HUNTERS = 4 };
static _Atomic int caught, hunters_left;
static _Atomic bool hunt_over;
static _Atomic unsigned char times_seen[20000];

static int hunt(void *arg) {
    uint64_t random = (uintptr_t)arg;
    while (!hunt_over) {
        siginfo_t info;
        STEL_TIMEOUT(STEL_US(test_random(&random, 300)));
        int rc = await_one(&info, SIGRTMIN, SIGRTMIN + 1, 0);
        if (rc < 0) {
            FIBER_ASSERT_EQ(rc, -ETIMEDOUT);
            continue;
        }
        FIBER_ASSERT(rc == SIGRTMIN || rc == SIGRTMIN + 1);
        times_seen[info.si_value.sival_int]++;
        caught++;
    }
    hunters_left--;
    return 0;
}

static int races(void *arg) {
    (void)arg;
    side hunters[HUNTERS];
    int n = (int)test_scale(4000);
    if (n > 20000) n = 20000;
    catch_these(SIGRTMIN, SIGRTMIN + 1, 0);
    caught = 0;
    hunt_over = false;
    memset((void *)times_seen, 0, sizeof times_seen);
    for (int i = 0; i < HUNTERS; i++)
        side_start(&hunters[i], hunt, (void *)(uintptr_t)(test_seed() + (uint64_t)i));
    for (int i = 0; i < n; i++) {
        FIBER_ASSERT_EQ(sigqueue(getpid(), SIGRTMIN + i % 2, (union sigval){ .sival_int = i }), 0);
        if (i % 64 == 0) stel_yield();
    }
    EVENTUALLY(caught == n);
    hunt_over = true;
    for (int i = 0; i < HUNTERS; i++)
        FIBER_ASSERT_EQ(side_join(&hunters[i]), 0);
    for (int i = 0; i < n; i++)
        FIBER_ASSERT_EQ(times_seen[i], 1);
    return 0;
}

START_TEST(racing_limits) {
    begin();
    on_all_kinds(races);
}
END_TEST

/* Two runtimes and a thread, senders in threads that let the signals in. Valgrind keeps a few signals for a thread that
 * lets them in, and loses the others: there all threads block them. */
static bool floods(void) {
    return HANDLERS && !stel__sanitize_valgrind();
}

static void *send_many(void *arg) {
    int n = (int)(intptr_t)arg;
    for (int i = 0; i < n; i++) {
        union sigval value = { .sival_int = i };
        int rc = i % 2 || !floods() ? sigqueue(getpid(), SIGRTMIN, value)
                                    : pthread_sigqueue(pthread_self(), SIGRTMIN, value);
        FIBER_ASSERT_EQ(rc, 0);
    }
    return NULL;
}

static int receive_many(void *arg) {
    (void)arg;
    for (;;) {
        siginfo_t info;
        int rc = await_one(&info, SIGRTMIN, SIGUSR1, 0);
        if (rc < 0) return rc;
        if (rc == SIGUSR1) return 0;
        caught++;
    }
}

START_TEST(everywhere) {
    begin();
    int n = (int)test_scale(1000);
    stel_runtime *rt[2];
    stel_fiber f[2];
    pthread_t senders[2];
    side thread;
    if (!floods()) block(SIG_BLOCK, SIGRTMIN, SIGUSR1, 0);
    catch_these(SIGRTMIN, SIGUSR1, 0);
    for (int i = 0; i < 2; i++) {
        FIBER_OK(stel_runtime_create(&rt[i], NULL));
        FIBER_OK(stel_runtime_start(rt[i]));
        FIBER_OK(stel_runtime_spawn(rt[i], &f[i], NULL, receive_many, NULL));
    }
    side_start(&thread, receive_many, NULL);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&senders[i], NULL, send_many, (void *)(intptr_t)n), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_join(senders[i], NULL), 0);
    EVENTUALLY(caught == 2 * n);
    int result, over = 0;
    while (over < 3) { /* one for each, when the one before was taken */
        ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
        check_fiber_nap();
        for (int i = 0; i < 2; i++)
            if (f[i] && stel_try_join(f[i], &result) == 0) {
                ck_assert_int_eq(result, 0);
                f[i] = 0;
                over++;
            }
        if (!f[0] && !f[1]) break;
    }
    /* The thread may have had one, too. */
    (void)kill(getpid(), SIGUSR1);
    ck_assert_int_eq(side_join(&thread), 0);
    for (int i = 0; i < 2; i++) {
        FIBER_OK(stel_runtime_stop(rt[i], 0));
        FIBER_OK(stel_runtime_destroy(rt[i]));
    }
    ck_assert_int_eq(caught, 2 * n);
}
END_TEST

/* ---- catching ---- */

START_TEST(wrong) {
    begin();
    sigset_t set;
    siginfo_t info;
    static const int refused[] = { SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };
    sigemptyset(&set);
    ck_assert_int_eq(stel_sigcatch(NULL), -EINVAL);
    ck_assert_int_eq(stel_sigcatch(&set), -EINVAL);
    ck_assert_int_eq(stel_sigwaitinfo(NULL, &info), -EINVAL);
    ck_assert_int_eq(stel_sigwaitinfo(&set, &info), -EINVAL);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        set = set_of(SIGUSR1, refused[i], 0);
        ck_assert_int_eq(stel_sigcatch(&set), -EINVAL);
    }
    ck_assert_int_eq(await_one(&info, SIGUSR1, 0, 0), -EINVAL); /* not caught: all or none */
    catch_these(SIGUSR1, 0, 0);
    ck_assert_int_eq(await_one(&info, SIGUSR1, SIGUSR2, 0), -EINVAL);
    ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
    ck_assert_int_eq(await_one(&info, SIGUSR1, 0, 0), SIGUSR1);
}
END_TEST

/* Each step of catching fails once: a code, and nothing has changed. */
START_TEST(faults) {
    begin();
    static const struct {
        enum stel__fault_kind kind;
        uint64_t nth;
        int error;
        bool for_good;
    } steps[] = { { STEL__FAULT_PTHREAD_CREATE, 1, EAGAIN, false }, { STEL__FAULT_TGSIGQUEUEINFO, 1, EAGAIN, true },
                  { STEL__FAULT_TGSIGQUEUEINFO, 1, EPERM, false },  { STEL__FAULT_SIGACTION, 1, EINVAL, false },
                  { STEL__FAULT_SIGACTION, 3, EINVAL, false },      { STEL__FAULT_SIGACTION, 4, EINVAL, false } };
    siginfo_t info;
    sigset_t set = set_of(SIGUSR1, SIGUSR2, 0);
    struct sigaction now;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        stel__fault_set(steps[i].kind, steps[i].nth, steps[i].error, steps[i].for_good);
        ck_assert_int_eq(stel_sigcatch(&set), -steps[i].error);
        stel__fault_clear();
        ck_assert_int_eq(stel_sigwaitinfo(&set, &info), -EINVAL);
        ck_assert_int_eq(sigaction(SIGUSR1, NULL, &now), 0);
        ck_assert(!(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL);
    }
    ck_assert_int_eq(stel_sigcatch(&set), 0);
    ck_assert_int_eq(stel_sigcatch(&set), 0);
    ck_assert_int_eq(kill(getpid(), SIGUSR2), 0);
    ck_assert_int_eq(stel_sigwaitinfo(&set, &info), SIGUSR2);
    /* No room in the kernel's queue for a while: the handler, if it is asked, tries again. No memory to keep it: so does the thread. */
    stel__fault_set(STEL__FAULT_TGSIGQUEUEINFO, 1, EAGAIN, false);
    ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
    ck_assert_int_eq(stel_sigwaitinfo(&set, &info), SIGUSR1);
    stel__fault_clear();
    set = set_of(SIGRTMIN, 0, 0);
    ck_assert_int_eq(stel_sigcatch(&set), 0);
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    ck_assert_int_eq(kill(getpid(), SIGRTMIN), 0);
    EVENTUALLY(stel__fault_calls(STEL__FAULT_ALLOC) > 2);
    stel__fault_clear();
    ck_assert_int_eq(stel_sigwaitinfo(&set, &info), SIGRTMIN);
}
END_TEST

static _Atomic int old_handler_ran;
static void old_handler(int number) {
    old_handler_ran = number;
}

/* What a signal did before, it does no more; in the child of a fork it does it again. */
START_TEST(child_of_a_fork) {
    begin();
    int status;
    if (!HANDLERS) return;
    signal(SIGUSR1, old_handler);
    catch_these(SIGUSR1, SIGUSR2, 0);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert_int_eq(await_one(NULL, SIGUSR1, 0, 0), SIGUSR1);
    ck_assert_int_eq(old_handler_ran, 0);
    for (int twice = 0; twice < 2; twice++) {
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            sigset_t set = set_of(SIGUSR1, SIGUSR2, 0);
            if (stel_sigcatch(&set) != -EPERM || stel_sigwaitinfo(&set, NULL) != -EPERM) _exit(1);
            raise(SIGUSR1);
            if (old_handler_ran != SIGUSR1) _exit(2);
            raise(SIGUSR2);
            _exit(3);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR2, "status %x", (unsigned)status);
        ck_assert_int_eq(old_handler_ran, 0);
    }
    /* And nothing of it came here. */
    STEL_TIMEOUT(STEL_MS(5));
    ck_assert_int_eq(await_one(NULL, SIGUSR1, SIGUSR2, 0), -ETIMEDOUT);
}
END_TEST

/* Signals that are ignored by nature are kept as well; system calls go on where the handler runs. */
static int interrupted_read(void *arg) {
    char byte;
    return (int)read(*(int *)arg, &byte, 1);
}

START_TEST(no_disturbance) {
    begin();
    int p[2];
    side reader;
    siginfo_t info;
    if (!HANDLERS) return;
    catch_these(SIGWINCH, SIGURG, 0);
    ck_assert_int_eq(pipe(p), 0);
    side_start(&reader, interrupted_read, &p[0]);
    for (int i = 0; i < 20; i++) {
        errno = 4711;
        ck_assert_int_eq(pthread_kill(reader.thread, SIGWINCH), 0);
        ck_assert_int_eq(await_one(&info, SIGWINCH, SIGURG, 0), SIGWINCH);
        ck_assert_int_eq(raise(SIGURG), 0);
        ck_assert_int_eq(errno, 4711);
        ck_assert_int_eq(await_one(&info, SIGURG, 0, 0), SIGURG);
    }
    ck_assert_int_eq(write(p[1], "x", 1), 1);
    ck_assert_int_eq(side_join(&reader), 1);
}
END_TEST

TEST_MAIN("io/signal", told_who_and_why, from_the_kernel, kept_from_the_first, waiting, racing_limits, everywhere,
          wrong, faults, child_of_a_fork, no_disturbance)
