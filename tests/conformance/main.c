/* conformance BACKEND ops|dedicated|inline|per_worker [--only CHECK] [--jobs N] [--report FILE]
 *
 * Runs the checks, each in a process of its own and some at a time, and says how each went: yes, no, or n/a with a
 * reason. Exit code 1 if any was no; 77 if the pair does not exist here. The report, for tools/conformance, has a line for
 * the pair and one for each check, fields separated by tabs. */
#include "conformance.h"
#include <sys/mman.h>
#include <sys/prctl.h>

extern const stel_backend_ops poll_backend; /* examples/custom_backend.c */

enum { REASON_BYTES = 300, CHECKS_MAX = 128, NOT_APPLICABLE = 77, TIMEOUT_SECONDS = 60 };

subject it;
static int reason_pipe = -1; /* of a child */

_Noreturn void not_applicable(const char *reason) {
    if (write(reason_pipe, reason, strlen(reason)) < 0) abort();
    _exit(NOT_APPLICABLE);
}

/* libuv closes descriptors by the bare system call, which ThreadSanitizer does not see: to it the next one who gets the
 * number races with libuv. So it is not to look at what libuv calls. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) {
    return "called_from_lib:libuv.so.1\n";
}

/* ---- one check, in a child ---- */

typedef struct outcome {
    const check *check;
    pid_t process;
    int reason_fd, stderr_fd;
    int status; /* exit code; -1: by a signal */
    char reason[REASON_BYTES];
} outcome;

static int seconds(int n) {
    const char *patience = getenv("CK_TIMEOUT_MULTIPLIER");
    return n * (patience ? atoi(patience) : 1);
}

/* The library is first used in the children: it knows a fork, and the child of one that used it could not. */
static void set_up(void) {
    char why[256];
    const char *name;
    FIBER_OK(stel_backend_register("poll", &poll_backend));
    int rc = stel_backend_probe(it.backend, why, sizeof why);
    if (rc < 0) not_applicable(*why ? why : stel_strerror(rc));
    it.ops = stel__backend_find(it.backend, &name);
    FIBER_ASSERT(it.ops != NULL);
    NOT_FOR(has(STEL_BACKEND_OWNED) && it.mode == STEL_POLLER_DEDICATED, "an instance belongs to one worker");
}

static void begin(outcome *o) {
    int fds[2];
    FIBER_ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
    o->stderr_fd = memfd_create("stderr", MFD_CLOEXEC); /* shown if the rule is not kept */
    fflush(NULL);
    o->process = fork();
    FIBER_ASSERT(o->process >= 0 && o->stderr_fd >= 0);
    if (o->process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm((unsigned)seconds(TIMEOUT_SECONDS));
        close(fds[0]);
        FIBER_ASSERT_EQ(dup2(o->stderr_fd, STDERR_FILENO), STDERR_FILENO);
        reason_pipe = fds[1];
        set_up();
        if (o->check) o->check->fn();
        exit(0);
    }
    close(fds[1]);
    o->reason_fd = fds[0];
}

static void show(const outcome *o) {
    char text[4096];
    ssize_t n;
    if (lseek(o->stderr_fd, 0, SEEK_SET) < 0) return;
    while ((n = read(o->stderr_fd, text, sizeof text)) > 0)
        (void)fwrite(text, 1, (size_t)n, stderr);
    fprintf(stderr, "conformance: %s, %s: %s is not kept (%s)\n", it.backend, it.part,
            o->check ? o->check->name : "being there", *o->reason ? o->reason : "see above");
}

static void end(outcome *o, int status) {
    ssize_t n = read(o->reason_fd, o->reason, sizeof o->reason - 1);
    o->reason[n > 0 ? n : 0] = 0;
    close(o->reason_fd);
    o->process = 0;
    o->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (WIFSIGNALED(status)) snprintf(o->reason, sizeof o->reason, "signal %d", WTERMSIG(status));
}

static void run_all(outcome *all, int n, int jobs) {
    int begun = 0, ended = 0;
    while (ended < n) {
        for (; begun < n && begun - ended < jobs; begun++)
            begin(&all[begun]);
        int status;
        pid_t process = wait(&status);
        for (int i = 0; i < begun; i++) {
            if (all[i].process != process) continue;
            end(&all[i], status);
            ended++;
            if (all[i].status != 0 && all[i].status != NOT_APPLICABLE) show(&all[i]);
            close(all[i].stderr_fd);
        }
    }
}

/* ---- all of them ---- */

static int collect(outcome *all, const char *only) {
    static const check *const *const ops[] = { ops_readiness_checks, ops_wait_checks, ops_completion_checks, NULL };
    static const check *const *const runtime[] = { run_io_checks, run_limits_checks, run_numbers_checks,
                                                   run_life_checks, NULL };
    int n = 0;
    for (const check *const *const *list = it.mode ? runtime : ops; *list; list++)
        for (const check *const *c = *list; *c; c++) {
            FIBER_ASSERT(n < CHECKS_MAX);
            if (!only || !strcmp(only, (*c)->name)) all[n++].check = *c;
        }
    return n;
}

static const char *word(int status) {
    return status == 0 ? "yes" : status == NOT_APPLICABLE ? "n/a" : "no";
}

static void write_report(const char *path, const outcome *pair, const outcome *all, int n) {
    FILE *file = fopen(path, "w");
    FIBER_ASSERT(file != NULL);
    fprintf(file, "pair\t%s\t%s\t%s\t%s\n", it.backend, it.part, pair->status == 0 ? "here" : "n/a", pair->reason);
    for (int i = 0; i < n; i++)
        fprintf(file, "%s\t%s\t%s\t%s\n", word(all[i].status), all[i].check->name, all[i].check->rule, all[i].reason);
    FIBER_ASSERT_EQ(fclose(file), 0);
}

static int parse_part(const char *part) {
    static const char *const parts[] = { "ops", "dedicated", "inline", "per_worker" };
    for (int i = 0; i < 4; i++)
        if (!strcmp(part, parts[i])) return i; /* as STEL_POLLER_... has them */
    return -1;
}

int main(int count, char **words) {
    static outcome all[CHECKS_MAX], pair;
    const char *only = NULL, *report = NULL;
    int jobs = 4, no = 0;
    for (int i = 3; i + 1 < count; i += 2) {
        if (!strcmp(words[i], "--only")) only = words[i + 1];
        if (!strcmp(words[i], "--report")) report = words[i + 1];
        if (!strcmp(words[i], "--jobs")) jobs = atoi(words[i + 1]);
    }
    if (count < 3 || count % 2 == 0 || parse_part(words[2]) < 0 || jobs < 1) {
        fprintf(stderr, "usage: conformance BACKEND ops|dedicated|inline|per_worker "
                        "[--only CHECK] [--jobs N] [--report FILE]\n");
        return 2;
    }
    it = (subject){ .backend = words[1], .part = words[2], .mode = parse_part(words[2]) };
    run_all(&pair, 1, 1); /* is the pair there at all? */
    int n = pair.status == 0 ? collect(all, only) : 0;
    run_all(all, n, jobs);
    for (int i = 0; i < n; i++) {
        printf("%-4s %s%s%s\n", word(all[i].status), all[i].check->name, *all[i].reason ? ": " : "", all[i].reason);
        no += all[i].status != 0 && all[i].status != NOT_APPLICABLE;
    }
    if (report) write_report(report, &pair, all, n);
    if (pair.status != 0) {
        printf("%s, %s: %s: %s\n", it.backend, it.part, word(pair.status), pair.reason);
        return pair.status == NOT_APPLICABLE ? NOT_APPLICABLE : 1;
    }
    return no || n == 0 ? 1 : 0;
}
