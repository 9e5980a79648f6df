/* Threads: starting them with the right signal mask and a name. */
#include "host/host.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Signals that the kernel sends to the thread that caused them: blocking these would kill without a handler. */
static const int synchronous[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };

/* What a new thread needs. It gives it back to a list of spare ones and does not free it: the first call of malloc or free
 * by a thread makes an arena of its own, a tenth of what starting it costs. Until then it is on a list, too: a child that
 * is forked in between has no such thread, and would take it for lost memory. */
typedef struct start {
    stel__link link;
    void *(*fn)(void *);
    void *arg;
    sigset_t outer;
} start;
static struct {
    stel__lock lock;
    stel__list list, spare;
} starting;

static start *begin_start(void) {
    stel__lock_take(&starting.lock);
    stel__link *spare = stel__list_pop_head(&starting.spare);
    stel__lock_give(&starting.lock);
    start *s = spare ? STEL__CONTAINER(spare, start, link) : stel__alloc(sizeof *s);
    if (!s) return NULL;
    stel__lock_take(&starting.lock);
    stel__list_push_tail(&starting.list, &s->link);
    stel__lock_give(&starting.lock);
    return s;
}

static void end_start(start *s) {
    stel__lock_take(&starting.lock);
    stel__list_remove(&starting.list, &s->link);
    stel__list_push_tail(&starting.spare, &s->link);
    stel__lock_give(&starting.lock);
}

/* A thread of ours, and the mask that the thread had which started it; or, if that was one of ours, its outer one. */
static __thread struct {
    bool yes;
    sigset_t outer;
} ours __attribute__((tls_model("initial-exec")));

static void *thread_main(void *arg) {
    start s = *(start *)arg;
    end_start(arg);
    ours.outer = s.outer;
    ours.yes = true;
    return s.fn(s.arg);
}

int stel__thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *arg) {
    start *s = begin_start();
    if (!s) return -ENOMEM;
    s->fn = fn;
    s->arg = arg;
    sigset_t blocked, previous;
    sigfillset(&blocked);
    for (size_t i = 0; i < STEL__COUNT_OF(synchronous); i++)
        sigdelset(&blocked, synchronous[i]);
    /* The new thread inherits the mask: set it here, so that there is no moment at which it has another one. */
    int rc = -pthread_sigmask(SIG_SETMASK, &blocked, &previous);
    pthread_t thread;
    if (rc == 0) {
        s->outer = ours.yes ? ours.outer : previous;
        rc = stel__sys_pthread_create(&thread, NULL, thread_main, s);
        pthread_sigmask(SIG_SETMASK, &previous, NULL);
    }
    if (rc < 0) {
        end_start(s);
        return rc;
    }
    /* Not by the thread itself, though that is one call instead of three: who looks for it finds it from the start. */
    char short_name[16] = { 0 };
    strncpy(short_name, name, sizeof short_name - 1);
    (void)pthread_setname_np(thread, short_name); /* cosmetic; the thread is joinable, so it still exists */
    *out = thread;
    return 0;
}

void stel__thread_restore_mask(void) {
    if (ours.yes) pthread_sigmask(SIG_SETMASK, &ours.outer, NULL);
}

int stel__thread_id(void) {
    return (int)syscall(SYS_gettid);
}

void stel__thread_timer_slack(void) {
    (void)stel__sys_prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

int64_t stel__thread_preempted(void) {
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

char stel__thread_state(int thread_id) {
    char text[256];
    (void)snprintf(text, sizeof text, "/proc/self/task/%d/stat", thread_id);
    int fd = stel__sys_open(text, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return '?';
    ssize_t n = stel__sys_read(fd, text, sizeof text - 1);
    (void)stel__sys_close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *name_ends = strrchr(text, ')'); /* the thread's name may hold anything */
    return name_ends && name_ends[1] == ' ' ? name_ends[2] : '?';
}
