/* waitpid: waiting for children.
 *
 * The child is always taken by waitpid(2) with WNOHANG, by the caller itself; all that is waited for is the right moment
 * to ask. So a wait that is cut short has taken nothing, and a child that somebody else was faster to take is noticed by
 * asking again. There are two ways to learn of the moment:
 *
 *   pidfd      one child by its number, its end only: the pidfd becomes readable, and is waited on like any descriptor
 *   watch      everything else: any child, a process group, stops and continuations (which pidfds do not tell), or no
 *              pidfd to be had. A thread blocks in waitid(2) with WNOWAIT, which leaves the child where it is
 *
 * Watches. One for each question (which children, which changes) that is being asked, however many ask it: a caller whose
 * question is being watched joins. When waitid returns, the watch is over, all its waiters are woken and ask for
 * themselves; who has to wait on joins or starts the next. Nothing is missed: waitid tells of what is so, not of what
 * happens; so what changed after a caller's look and before it joined is seen by the watch that it joins.
 *
 *   on the list  its thread is in waitid, or on the way there or back; waiters may join
 *              off the list: over; the thread wakes those that it found, and is gone
 *
 * A waiter that is cut short leaves; the thread stays in waitid, as nothing gets it out of there, and serves whoever asks
 * the same next. That is why these are not jobs of the offload pool: left behind there they would eat up its threads,
 * one for each wait that was cut short. Here it is one thread a question at the most; programs ask few.
 *
 * Wrong pidfds. Between our look and pidfd_open somebody else may have taken the child, and its number may be another
 * process's already. So the look is repeated after opening: what is then still our child is what the pidfd means. If it
 * is readable although there is nothing to take (a debugger has the child), asking again would only turn in circles: the
 * watch takes over.
 *
 * Dropped: SIGCHLD, which belongs to the program. */
#include "io/call.h"

enum { CHANGES = WUNTRACED | WCONTINUED, ALLOWED = WNOHANG | CHANGES | (int)__WALL | (int)__WCLONE };

typedef struct watch {
    /* fixed */
    stel__link link;
    idtype_t kind;
    id_t id;
    int options;
    /* under the lock */
    stel__list waiters;
} watch;

static struct {
    stel__lock lock;
    stel__list watches;
} watching;

enum { NODE_QUEUED = 1 }; /* a node's flag, under the lock */

/* ---- the threads ---- */

/* Under the lock: everybody who waits by it has to look. It stays on the list until it is freed, so that a child that is
 * forked just now does not take it for lost memory. */
static void end_watch(watch *x) {
    for (stel__link *l; (l = stel__list_pop_head(&x->waiters));) {
        stel__node *n = STEL__CONTAINER(l, stel__node, link);
        n->flags = 0;
        stel__wake(stel__node_ticket(n), 0);
    }
    stel__list_remove(&watching.watches, &x->link);
    stel__free(x);
}

static void *watch_main(void *argument) {
    watch *x = argument;
    siginfo_t info;
    /* Whatever it says, there is something to look at: a child, or that there is none (any more). */
    (void)stel__sys_waitid(x->kind, x->id, &info, x->options | WNOWAIT);
    stel__lock_take(&watching.lock);
    end_watch(x);
    stel__lock_give(&watching.lock);
    return NULL;
}

/* Under the lock; the watch for this question, a new one if there is none, or NULL with *error set. */
static watch *watch_for(idtype_t kind, id_t id, int options, int *error) {
    for (stel__link *l = watching.watches.head; l; l = l->next) {
        watch *x = STEL__CONTAINER(l, watch, link);
        if (x->kind == kind && x->id == id && x->options == options) return x;
    }
    watch *x = stel__alloc(sizeof *x);
    *error = -ENOMEM;
    if (!x) return NULL;
    x->kind = kind;
    x->id = id;
    x->options = options;
    pthread_t thread;
    stel__fork_watch(); /* there may be no runtime that has done so */
    stel__list_push_tail(&watching.watches, &x->link);
    *error = stel__thread_start(&thread, "stel-child", watch_main, x); /* it needs the lock to end the watch */
    if (*error < 0) {
        stel__list_remove(&watching.watches, &x->link);
        stel__free(x);
        return NULL;
    }
    (void)pthread_detach(thread);
    return x;
}

/* Wait until it makes sense to ask again: 0. */
static int wait_for_watch(stel__waiter *w, pid_t pid, int options) {
    idtype_t kind = pid > 0 ? P_PID : pid == -1 ? P_ALL : P_PGID;
    id_t id = pid > 0 ? (id_t)pid : pid == -1 ? 0 : pid == 0 ? (id_t)stel__sys_getpgrp() : (id_t)-pid;
    /* waitpid's WUNTRACED is waitid's WSTOPPED. */
    _Static_assert(WUNTRACED == WSTOPPED, "one bit under two names");
    int rc = 0;
    stel__lock_take(&watching.lock);
    watch *x = watch_for(kind, id, (options & ~WNOHANG) | WEXITED, &rc);
    if (x) {
        stel__wait_begin(w, STEL__WAIT_CHILD);
        w->node.waiter = w->index;
        w->node.flags = NODE_QUEUED;
        stel__list_push_tail(&x->waiters, &w->node.link);
    }
    stel__lock_give(&watching.lock);
    if (!x) return rc;
    rc = stel__wait_park(w, 0);
    if (rc >= 0) return 0;
    stel__lock_take(&watching.lock);
    if (w->node.flags & NODE_QUEUED) stel__list_remove(&x->waiters, &w->node.link); /* then x still lives */
    w->node.flags = 0;
    stel__lock_give(&watching.lock);
    return rc;
}

/* ---- one child ---- */

/* waitpid's answer; 0: the pidfd is of no use here. */
static pid_t wait_on_pidfd(stel__waiter *w, int pidfd, pid_t pid, int *status, int options) {
    stel__call c = { .waiter = w, .fd = pidfd };
    int rc = 0;
    c.slot = stel__slot_at(pidfd, &rc);
    for (bool readable = false; c.slot;) {
        stel__slot_mark mark = stel__slot_look(c.slot);
        pid_t taken = stel__sys_waitpid(pid, status, options | WNOHANG);
        if (taken != 0) return taken;
        if (readable) return 0;
        rc = stel__ready_now(pidfd, POLLIN);
        readable = rc > 0;
        if (rc == 0) rc = stel__slot_wait(c.slot, pidfd, w, mark, POLLIN, STEL__SLOT_CHILD);
        if (rc < 0) return rc == -ECANCELED || rc == -ETIMEDOUT ? rc : 0;
    }
    return 0;
}

static pid_t wait_for_end(stel__waiter *w, pid_t pid, int *status, int options) {
    int pidfd = stel__sys_pidfd_open(pid, 0);
    if (pidfd < 0) return 0; /* out of descriptors, or just taken by somebody else: the other way finds out */
    pid_t taken = 0;
    if (stel__slot_made_by_us(pidfd, STEL__SLOT_OTHER) == 0) {
        taken = wait_on_pidfd(w, pidfd, pid, status, options);
        (void)stel__slot_close(pidfd);
    } else {
        (void)stel__sys_close(pidfd);
    }
    return taken;
}

pid_t stel_waitpid(pid_t pid, int *status, int options) {
    if (options & ~ALLOWED) return -EINVAL;
    if (stel__io_forked()) return -EPERM;
    stel__waiter *w = stel__waiter_self();
    if (!w) return -ENOMEM;
    int rc = stel__wait_check(w);
    if (rc < 0) return rc;
    if (pid == INT_MIN) return -ESRCH; /* as waitpid(2) has it: there is no such group */
    for (bool waited = false;; waited = true) {
        pid_t taken = stel__sys_waitpid(pid, status, options | WNOHANG);
        if (taken != 0 || (options & WNOHANG)) {
            if (!waited) stel__wait_spend(w);
            return taken;
        }
        if (pid > 0 && !(options & CHANGES) && !waited) {
            taken = wait_for_end(w, pid, status, options);
            if (taken != 0) return taken;
        }
        rc = wait_for_watch(w, pid, options);
        if (rc < 0) return rc;
    }
}
