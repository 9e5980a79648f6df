/* See check.h. A suite is a list of cases, a case is one test with its time limit. */
#include "check.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct TCase {
    const char *name;
    const TTest *test;
    double seconds;
    TCase *next;
};
struct Suite {
    const char *name;
    TCase *first, **last;
};
struct SRunner {
    Suite *suite;
    int run, failed;
};

static bool forking = true;

static void *make(size_t bytes) {
    void *p = calloc(1, bytes);
    if (!p) abort();
    return p;
}

TCase *tcase_create(const char *name) {
    TCase *c = make(sizeof *c);
    c->name = name;
    c->seconds = 4;
    return c;
}

void tcase_set_timeout(TCase *c, double seconds) {
    c->seconds = seconds;
}

void tcase_add_test(TCase *c, const TTest *test) {
    if (c->test) abort();
    c->test = test;
}

Suite *suite_create(const char *name) {
    Suite *s = make(sizeof *s);
    s->name = name;
    s->last = &s->first;
    return s;
}

void suite_add_tcase(Suite *s, TCase *c) {
    *s->last = c;
    s->last = &c->next;
}

SRunner *srunner_create(Suite *suite) {
    SRunner *r = make(sizeof *r);
    r->suite = suite;
    return r;
}

void srunner_free(SRunner *r) {
    for (TCase *c = r->suite->first, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(r->suite);
    free(r);
}

int srunner_ntests_failed(SRunner *r) {
    return r->failed;
}

int srunner_ntests_run(SRunner *r) {
    return r->run;
}

/* ---- one test ---- */

/* Waits until the child has ended or the time is up; SIGCHLD is blocked. Returns whether it has ended by itself. */
static bool ends_in_time(pid_t child, double seconds, int *status) {
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (time_t)seconds + 1;
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    for (;;) {
        if (waitpid(child, status, WNOHANG) == child) return true;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec >= end.tv_sec) return false;
        struct timespec left = { end.tv_sec - now.tv_sec, 0 };
        sigtimedwait(&ended, NULL, &left);
    }
}

static bool run_forked(const TCase *c, double seconds) {
    sigset_t ended, before;
    int status = 0;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    fflush(NULL);
    sigprocmask(SIG_BLOCK, &ended, &before);
    pid_t child = fork();
    if (child < 0) abort();
    if (child == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing outlives a runner that is killed, say for being late */
        sigprocmask(SIG_SETMASK, &before, NULL);
        c->test->fn(0);
        exit(0);
    }
    setpgid(child, child); /* whoever comes first */
    bool in_time = ends_in_time(child, seconds, &status);
    kill(-child, SIGKILL); /* what it has left behind, or it itself */
    if (!in_time) waitpid(child, &status, 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (!in_time)
        printf("%s: not done after %.0f seconds\n", c->name, seconds);
    else if (WIFSIGNALED(status))
        printf("%s: ended by signal %d (%s)\n", c->name, WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0)
        printf("%s: failed with exit code %d\n", c->name, WEXITSTATUS(status));
    return in_time && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void srunner_run_all(SRunner *r, enum print_output output) {
    (void)output;
    const char *only = getenv("CK_RUN_CASE"), *fork_wanted = getenv("CK_FORK");
    const char *text = getenv("CK_TIMEOUT_MULTIPLIER");
    double multiplier = text && strtod(text, NULL) > 0 ? strtod(text, NULL) : 1;
    forking = !fork_wanted || strcmp(fork_wanted, "no") != 0;
    for (const TCase *c = r->suite->first; c; c = c->next) {
        if (only && strcmp(only, c->name) != 0) continue;
        r->run++;
        if (!forking)
            c->test->fn(0); /* what fails ends the process */
        else if (!run_forked(c, c->seconds * multiplier))
            r->failed++;
    }
    printf("%s: %d tests, %d failed\n", r->suite->name, r->run, r->failed);
}

/* ---- assertions ---- */

void plain_check_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    fflush(NULL);
    if (!forking) abort();
    _exit(1);
}

void plain_check_int(const char *file, int line, const char *text, intmax_t have, intmax_t want, bool good) {
    if (!good) plain_check_fail(file, line, "%s does not hold: %" PRIdMAX ", %" PRIdMAX, text, have, want);
}

void plain_check_uint(const char *file, int line, const char *text, uintmax_t have, uintmax_t want, bool good) {
    if (!good) plain_check_fail(file, line, "%s does not hold: %#" PRIxMAX ", %#" PRIxMAX, text, have, want);
}

void plain_check_ptr(const char *file, int line, const char *text, const void *have, const void *want, bool good) {
    if (!good) plain_check_fail(file, line, "%s does not hold: %p, %p", text, have, want);
}

void plain_check_str(const char *file, int line, const char *text, const char *have, const char *want, bool equal) {
    bool same = have && want ? strcmp(have, want) == 0 : have == want;
    if (same != equal)
        plain_check_fail(file, line, "%s does not hold: \"%s\", \"%s\"", text, have ? have : "(null)",
                         want ? want : "(null)");
}
