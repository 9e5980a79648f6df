/* stel_waitpid: one child, any, a group; limits; others who take children too. Tests fork, so each runs in a process of
 * its own that has no other children.
 *
 * ctest: timeout=180 */
#include "host/fault.h"
#include "io_sides.h"
#include <limits.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* A child that waits for a byte on its pipe (the end of it will do), then exits with that byte's value. */
typedef struct child {
    pid_t pid;
    int pipe;
} child;

static child start(pid_t group) {
    int p[2];
    FIBER_ASSERT_EQ(pipe2(p, O_CLOEXEC), 0);
    pid_t pid = fork();
    FIBER_ASSERT(pid >= 0);
    if (pid == 0) {
        unsigned char code = 0;
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL); /* workers block what this is to be killed by */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(p[1]);
        _exit(read(p[0], &code, 1) == 1 ? code : 99);
    }
    close(p[0]);
    if (group >= 0) FIBER_ASSERT_EQ(setpgid(pid, group), 0);
    return (child){ pid, p[1] };
}

static void finish(child *c, int code) {
    unsigned char byte = (unsigned char)code;
    FIBER_ASSERT_EQ(write(c->pipe, &byte, 1), 1);
    FIBER_ASSERT_EQ(close(c->pipe), 0);
}

typedef struct question {
    pid_t pid, answer;
    int options, status;
} question;

static int ask(void *arg) {
    question *q = arg;
    return q->answer = stel_waitpid(q->pid, &q->status, q->options);
}

/* That many wait for a child; seen from outside by what they say they wait for would be more than is needed: what is
 * tested holds in any order, so a moment is enough. */
static void moment(void) {
    check_fiber_nap();
    check_fiber_nap();
}

static int one_child(void *arg) {
    (void)arg;
    side other;
    question q = { 0 };
    for (int i = 0; i < 5; i++) {
        child c = start(-1);
        q = (question){ .pid = c.pid };
        FIBER_ASSERT_EQ(stel_waitpid(c.pid, &q.status, WNOHANG), 0);
        side_start(&other, ask, &q);
        if (i & 1) moment();
        finish(&c, 40 + i);
        FIBER_ASSERT_EQ(side_join(&other), c.pid);
        FIBER_ASSERT(WIFEXITED(q.status));
        FIBER_ASSERT_EQ(WEXITSTATUS(q.status), 40 + i);
        FIBER_ASSERT_EQ(ask(&q), -ECHILD); /* taken */
    }
    /* Ended before anybody asks; by a signal (libcheck handles the usual ones). */
    child c = start(-1);
    q.pid = c.pid;
    FIBER_ASSERT_EQ(kill(c.pid, SIGUSR2), 0);
    siginfo_t info;
    FIBER_ASSERT_EQ(waitid(P_PID, (id_t)c.pid, &info, WEXITED | WNOWAIT), 0);
    FIBER_ASSERT_EQ(ask(&q), c.pid);
    FIBER_ASSERT(WIFSIGNALED(q.status) && WTERMSIG(q.status) == SIGUSR2);
    close(c.pipe);
    /* Cut short, nothing is taken. */
    c = start(-1);
    q.pid = c.pid;
    check_limits(ask, &q);
    finish(&c, 7);
    FIBER_ASSERT_EQ(ask(&q), c.pid);
    FIBER_ASSERT_EQ(WEXITSTATUS(q.status), 7);
    FIBER_ASSERT_EQ(stel_waitpid(c.pid, NULL, 0), -ECHILD);
    return 0;
}

START_TEST(one) {
    int before = test_open_descriptors();
    on_all_kinds(one_child);
    ck_assert_int_le(test_open_descriptors(), before + 1); /* this thread's eventfd */
}
END_TEST

static int any_child(void *arg) {
    enum { N = 6 };
    (void)arg;
    child c[N];
    side others[N];
    question q[N] = { { .pid = -1 } };
    FIBER_ASSERT_EQ(stel_waitpid(-1, NULL, 0), -ECHILD);
    FIBER_ASSERT_EQ(stel_waitpid(0, NULL, 0), -ECHILD);
    /* As many waiters as children: each gets one. */
    for (int i = 0; i < N; i++)
        c[i] = start(-1);
    check_limits(ask, &q[0]); /* what is left of these waits does not take a child either */
    FIBER_ASSERT_EQ(stel_waitpid(-1, NULL, WNOHANG), 0);
    for (int i = 0; i < N; i++) {
        q[i] = (question){ .pid = i % 2 ? -1 : 0 };
        side_start(&others[i], ask, &q[i]);
    }
    moment();
    for (int i = 0; i < N; i++)
        finish(&c[i], i);
    unsigned seen = 0;
    for (int i = 0; i < N; i++) {
        pid_t pid = side_join(&others[i]);
        FIBER_ASSERT(pid > 0);
        FIBER_ASSERT_EQ(c[WEXITSTATUS(q[i].status)].pid, pid);
        seen |= 1u << WEXITSTATUS(q[i].status);
    }
    FIBER_ASSERT_EQ(seen, (1u << N) - 1);
    /* More waiters than children. */
    child last = start(-1);
    for (int i = 0; i < 3; i++) {
        q[i] = (question){ .pid = -1 };
        side_start(&others[i], ask, &q[i]);
    }
    moment();
    finish(&last, 1);
    int got = 0;
    for (int i = 0; i < 3; i++) {
        pid_t pid = side_join(&others[i]);
        FIBER_ASSERT(pid == last.pid || pid == -ECHILD);
        got += pid > 0;
    }
    FIBER_ASSERT_EQ(got, 1);
    EVENTUALLY(test_library_threads() <= 3); /* the watch is over: workers and guardian at the most */
    return 0;
}

START_TEST(any) {
    on_all_kinds(any_child);
}
END_TEST

static int groups(void *arg) {
    (void)arg;
    side other;
    child a = start(0), b = start(a.pid), c = start(-1);
    question q = { .pid = -a.pid };
    check_limits(ask, &q);
    side_start(&other, ask, &q);
    moment();
    finish(&c, 3); /* not of the group */
    moment();
    finish(&b, 2);
    FIBER_ASSERT_EQ(side_join(&other), b.pid);
    finish(&a, 1);
    FIBER_ASSERT_EQ(ask(&q), a.pid);
    FIBER_ASSERT_EQ(ask(&q), -ECHILD);
    q.pid = 0;
    FIBER_ASSERT_EQ(ask(&q), c.pid);
    return 0;
}

START_TEST(group) {
    on_all_kinds(groups);
}
END_TEST

/* Stops and continuations, which a pidfd does not tell. */
static int changes(void *arg) {
    (void)arg;
    side other;
    child c = start(-1);
    question q = { .pid = c.pid, .options = WUNTRACED | WCONTINUED };
    check_limits(ask, &q);
    side_start(&other, ask, &q);
    moment();
    FIBER_ASSERT_EQ(kill(c.pid, SIGSTOP), 0);
    FIBER_ASSERT_EQ(side_join(&other), c.pid);
    FIBER_ASSERT(WIFSTOPPED(q.status));
    side_start(&other, ask, &q);
    FIBER_ASSERT_EQ(kill(c.pid, SIGCONT), 0);
    FIBER_ASSERT_EQ(side_join(&other), c.pid);
    FIBER_ASSERT(WIFCONTINUED(q.status));
    side_start(&other, ask, &q);
    finish(&c, 5);
    FIBER_ASSERT_EQ(side_join(&other), c.pid);
    FIBER_ASSERT(WIFEXITED(q.status));
    return 0;
}

START_TEST(stopped_and_continued) {
    on_all_kinds(changes);
}
END_TEST

/* Somebody else is faster; children that nobody has to take. */
static int taken_by_others(void *arg) {
    (void)arg;
    side other;
    for (int i = 0; i < 2; i++) {
        child c = start(-1);
        question q = { .pid = i ? -1 : c.pid };
        side_start(&other, ask, &q);
        moment();
        FIBER_ASSERT_EQ(kill(c.pid, SIGKILL), 0);
        int status;
        pid_t pid = waitpid(c.pid, &status, 0);
        int asked = side_join(&other);
        FIBER_ASSERT((pid == c.pid && asked == -ECHILD) || (pid < 0 && asked == c.pid));
        close(c.pipe);
    }
    signal(SIGCHLD, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        child c = start(-1);
        question q = { .pid = i ? -1 : c.pid };
        side_start(&other, ask, &q);
        moment();
        finish(&c, 1);
        FIBER_ASSERT_EQ(side_join(&other), -ECHILD);
    }
    signal(SIGCHLD, SIG_DFL);
    return 0;
}

START_TEST(taken) {
    on_all_kinds(taken_by_others);
}
END_TEST

static int wrong(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(stel_waitpid(-1, NULL, 0x123456), -EINVAL);
    FIBER_ASSERT_EQ(stel_waitpid(-1, NULL, __WNOTHREAD), -EINVAL); /* there is no "this thread" */
    FIBER_ASSERT_EQ(stel_waitpid(INT_MIN, NULL, 0), -ESRCH);
    FIBER_ASSERT_EQ(stel_waitpid(1, NULL, 0), -ECHILD); /* not ours */
    return 0;
}

START_TEST(errors) {
    on_all_kinds(wrong);
}
END_TEST

/* No pidfd to be had, or none that can be waited on: the other way. No thread either: -EAGAIN. */
static int shortages(void *arg) {
    (void)arg;
    side other;
    static const int codes[] = { EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        child c = start(-1);
        question q = { .pid = c.pid }, limited = q;
        stel__fault_set(STEL__FAULT_PIDFD_OPEN, 1, codes[i], true);
        side_start(&other, ask, &q);
        moment();
        check_limits(ask, &limited);
        finish(&c, 5);
        FIBER_ASSERT_EQ(side_join(&other), c.pid);
        stel__fault_clear();
        FIBER_ASSERT_EQ(WEXITSTATUS(q.status), 5);
    }
    /* A watch that ends for no reason: asked again, and watched again. */
    child c = start(-1);
    question q = { .pid = -1 };
    stel__fault_set(STEL__FAULT_WAITID, 1, EFAULT, false);
    side_start(&other, ask, &q);
    EVENTUALLY(stel__fault_calls(STEL__FAULT_WAITID) >= 2);
    stel__fault_clear();
    finish(&c, 5);
    FIBER_ASSERT_EQ(side_join(&other), c.pid);
    c = start(-1);
    q = (question){ .pid = c.pid };
    if (stel_self()) {
        stel__fault_set(STEL__FAULT_EPOLL_CTL, 1, ENOSPC, false);
        check_limits(ask, &q);
        stel__fault_clear();
    }
    q.pid = -1;
    q.options = __WALL; /* a question that no thread left over from above watches */
    stel__fault_set(STEL__FAULT_PTHREAD_CREATE, 1, EAGAIN, false);
    FIBER_ASSERT_EQ(ask(&q), -EAGAIN);
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, false);
    FIBER_ASSERT_EQ(ask(&q), -ENOMEM);
    stel__fault_set(STEL__FAULT_WAITPID, 1, EFAULT, false);
    FIBER_ASSERT_EQ(ask(&q), -EFAULT);
    stel__fault_clear();
    finish(&c, 6);
    FIBER_ASSERT_EQ(ask(&q), c.pid);
    return 0;
}

START_TEST(faults) {
    on_all_kinds(shortages);
}
END_TEST

/* However many waits are cut short, they leave one thread behind. */
static int abandoned(void *arg) {
    (void)arg;
    child c = start(-1);
    int before = test_library_threads();
    for (int i = 0; i < 100; i++) {
        STEL_TIMEOUT(STEL_US(100));
        FIBER_ASSERT_EQ(stel_waitpid(-1, NULL, 0), -ETIMEDOUT);
    }
    FIBER_ASSERT(test_library_threads() <= before + 1);
    finish(&c, 0);
    FIBER_ASSERT_EQ(stel_waitpid(-1, NULL, 0), c.pid);
    EVENTUALLY(test_library_threads() <= before);
    return 0;
}

START_TEST(left_behind) {
    on_all_kinds(abandoned);
}
END_TEST

TEST_MAIN("io/child", one, any, group, stopped_and_continued, taken, errors, faults, left_behind)
