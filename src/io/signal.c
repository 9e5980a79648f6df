/* sigcatch and sigwaitinfo: signals for the whole process, waited for by fibers and threads.
 *
 * Nouns. The *collector* is one thread of the process; it sits in sigwaitinfo on all that is caught. An *arrival* is one
 * signal with what its sender said. Arrivals that nobody waits for are kept: one for each standard signal (as the kernel
 * keeps them), a queue for each real-time signal.
 *
 * The way of an arrival. The kernel gives a signal for the process to any thread that does not block it.
 *
 *     all threads block it                       the collector takes it itself
 *     some thread does not (or it was sent to    our handler runs there, and sends it on to the collector, with all that
 *     that very thread)                          came with it, by rt_tgsigqueueinfo
 *
 * A signal sent to one thread which blocks it stays there until that thread lets it in; nobody else can get at it.
 *
 * Sending on. The handler may do hardly anything: no locks, no memory. It need not: the kernel's own queue of the
 * collector is the hand-over. The kernel refuses codes that only it may use (SI_USER, SI_TKILL, those above zero) when
 * they come from another thread, so such a code travels shifted far below zero (ALIAS) and is shifted back. When the
 * kernel has no room for one more queued signal (RLIMIT_SIGPENDING), the handler gives the collector time and tries
 * again, often, but not for ever.
 *
 *   step            who                  what
 *   kept            collector            no waiter wants it: stored
 *   handed over     collector            a waiter wants it: written where the waiter said, its node taken off the list,
 *                                        all under the lock; then the waiter is woken
 *   taken           caller               of what is stored, the lowest number that it wants
 *
 * Invariants, under the lock: a waiter is on the list only if nothing that it wants is stored; an arrival is stored or was
 * handed to exactly one waiter. So a waiter that was cut short and finds its node off the list has an arrival, and
 * returns it: nothing is lost at the last moment.
 *
 * Order. Real-time signals of one number keep their order when all threads block them, as a program that waits for its
 * signals would have it. If some thread lets them in, two may be on their way at once, one of them by the handler.
 *
 * New signals. A second sigcatch changes the set and wakes the collector by a message: SIGABRT, which nobody may catch
 * here, sent to that thread, which blocks it. It must be a number of its own: as standard signals do not add up, a
 * message under another's number could take the place of an arrival. (abort() raises it in the thread that calls it, and
 * one for the process ends it as long as any thread lets it in. If all block it, it would have been pending for ever; so
 * nobody misses it here.)
 *
 * fork. The child has the handler but not the collector: a signal that comes there goes back to what it did before, and
 * is raised again. Told apart by the process's number, as a signal may be faster than what fork calls in the child.
 *
 * The collector is detached and never ends. It waits in the kernel and owns nothing, so the end of the process needs
 * nothing from it.
 *
 * Pairs: `collector` is stored (release) once it is known, before the first handler is installed, and loaded (acquire) by
 * the handler.
 *
 * Dropped: signalfd (reads only what every thread blocks); a pipe written by the handler (when it is full the handler
 * blocks in a thread that may hold a lock which the reader needs); blocking the signals in the threads that the handler
 * finds (programs that they exec would inherit it). */
#include "io/call.h"
#include <string.h>

enum { SIGNALS = 64, STANDARD = 31 }; /* numbers 1 ... 64; up to 31 they do not queue */
enum { ALIAS = INT_MIN / 2, ALIAS_END = INT_MIN / 4, MESSAGE = SIGABRT };
enum { PATIENCE = 10000 }; /* tries of a handler that finds no room */
enum { NODE_QUEUED = 1 };

typedef struct arrival {
    stel__link link;
    siginfo_t info;
} arrival;

/* What a waiter wants, and what it gets. On its stack; under the lock while its node is on the list. */
typedef struct want {
    uint64_t set; /* bit n - 1: signal n */
    siginfo_t info;
} want;

static struct {
    stel__futex collector; /* its thread id; 0: none yet */
    stel__lock starting;   /* one sigcatch at a time; outside of `lock` */
    stel__lock lock;
    /* under starting */
    struct sigaction previous[SIGNALS];
    pid_t process; /* fixed before the first handler */
    /* under lock */
    uint64_t caught;
    uint64_t stored;            /* signals that have arrivals */
    siginfo_t single[STANDARD]; /* of standard signals that are stored */
    stel__list queues[SIGNALS]; /* of real-time signals */
    stel__list waiters;
} signals;

static const int not_for_us[] = { SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };

static uint64_t bit(int signal) {
    return UINT64_C(1) << (signal - 1);
}

static uint64_t bits_of(const sigset_t *set) {
    uint64_t bits = 0;
    for (int n = 1; n <= SIGNALS; n++)
        if (sigismember(set, n) > 0) bits |= bit(n);
    return bits;
}

static void set_of(uint64_t bits, sigset_t *set) {
    sigemptyset(set);
    for (int n = 1; n <= SIGNALS; n++)
        if (bits & bit(n)) sigaddset(set, n);
}

/* ---- sending on ---- */

enum {
    KERNEL_BYTES = 48
}; /* the kernel's part of a siginfo_t; it wants nothing in the rest of one that it does not know */

static void to_travel(siginfo_t *info) {
    memset((char *)info + KERNEL_BYTES, 0, sizeof *info - KERNEL_BYTES);
    if (info->si_code >= 0 || info->si_code == SI_TKILL) info->si_code += ALIAS;
}

static void has_travelled(siginfo_t *info) {
    if (info->si_code < ALIAS_END) info->si_code -= ALIAS;
}

static int send_on(int signal, const siginfo_t *info) {
    int rc, tries = 0;
    int collector = (int)stel__load_acquire(&signals.collector); /* pairs with collect */
    while ((rc = stel__sys_rt_tgsigqueueinfo(collector, signal, info)) == -EAGAIN && ++tries < PATIENCE)
        stel__sys_sched_yield();
    return rc;
}

/* On whatever thread has let it in. Async-signal-safe. */
static void handle(int signal, siginfo_t *info, void *context) {
    (void)context;
    if (stel__sys_getpid() != signals.process) { /* the child of a fork */
        (void)stel__sys_sigaction(signal, &signals.previous[signal - 1], NULL);
        (void)stel__sys_rt_tgsigqueueinfo(stel__thread_id(), signal, info);
        return;
    }
    siginfo_t copy = *info;
    to_travel(&copy);
    (void)send_on(signal, &copy);
}

/* ---- the collector ---- */

/* Under the lock. false: there is no memory for one more. */
static bool store(int signal, const siginfo_t *info) {
    if (signal <= STANDARD) {
        if (signals.stored & bit(signal)) return true; /* they do not add up: the first one counts */
        signals.single[signal - 1] = *info;
    } else {
        arrival *a = stel__alloc(sizeof *a);
        if (!a) return false;
        a->info = *info;
        stel__list_push_tail(&signals.queues[signal - 1], &a->link);
    }
    signals.stored |= bit(signal);
    return true;
}

/* Under the lock: the first who waits for it, off the list, and written to; NULL when nobody does. */
static stel__node *hand_over(int signal, const siginfo_t *info) {
    for (stel__link *l = signals.waiters.head; l; l = l->next) {
        stel__node *n = STEL__CONTAINER(l, stel__node, link);
        want *who = n->element;
        if (!(who->set & bit(signal))) continue;
        stel__list_remove(&signals.waiters, &n->link);
        n->flags = 0;
        who->info = *info;
        return n;
    }
    return NULL;
}

static void arrived(int signal, const siginfo_t *info) {
    static _Atomic unsigned said;
    for (;;) {
        stel__ticket ticket = 0;
        stel__lock_take(&signals.lock);
        stel__node *n = hand_over(signal, info);
        if (n) ticket = stel__node_ticket(n);
        bool kept = n || store(signal, info);
        stel__lock_give(&signals.lock);
        if (ticket) (void)stel__wake(ticket, 0);
        if (kept) return;
        stel__warn_once(&said,
                        "no memory to keep a signal: it stays with the thread that collects them until there is");
        stel__futex nobody = 0; /* to sleep on; not stel_sleep, which needs memory */
        (void)stel__futex_wait(&nobody, 0, stel__time_add(stel__clock_now(), STEL_MS(1)));
    }
}

static void *collect(void *argument) {
    (void)argument;
    sigset_t message;
    sigemptyset(&message);
    sigaddset(&message, MESSAGE);
    (void)stel__sys_sigmask(SIG_BLOCK, &message, NULL); /* threads of ours let it in, as a synchronous one */
    stel__store_release(&signals.collector, (uint32_t)stel__thread_id()); /* pairs with send_on */
    stel__futex_wake(&signals.collector, INT_MAX);
    for (;;) {
        sigset_t set;
        siginfo_t info;
        stel__lock_take(&signals.lock);
        uint64_t caught = signals.caught;
        stel__lock_give(&signals.lock);
        set_of(caught | bit(MESSAGE), &set);
        memset(&info, 0, sizeof info);
        int signal = stel__sys_sigtimedwait(&set, &info, NULL);
        if (signal <= 0 || signal == MESSAGE) continue;
        has_travelled(&info);
        arrived(signal, &info);
    }
    return NULL;
}

/* Under starting. */
static int start_collector(void) {
    pthread_t thread;
    if (stel__load_acquire(&signals.collector)) return 0;
    stel__fork_watch();
    signals.process = stel__sys_getpid();
    int rc = stel__thread_start(&thread, "stel-signals", collect, NULL);
    if (rc < 0) return rc;
    (void)pthread_detach(thread);
    while (!stel__load_acquire(&signals.collector)) /* pairs with collect */
        (void)stel__futex_wait(&signals.collector, 0, STEL_FOREVER);
    return 0;
}

/* ---- catching ---- */

/* Under starting. */
static int install(int signal) {
    struct sigaction ours = { .sa_sigaction = handle }, now;
    int rc = stel__sys_sigaction(signal, NULL, &now);
    if (rc < 0) return rc;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == handle) return 0;
    signals.previous[signal - 1] = now;
    sigfillset(&ours.sa_mask);
    ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | (now.sa_flags & (SA_NOCLDSTOP | SA_NOCLDWAIT));
    return stel__sys_sigaction(signal, &ours, NULL);
}

/* Under starting. The set that is caught from now on; what was. */
static uint64_t set_caught(uint64_t caught) {
    stel__lock_take(&signals.lock);
    uint64_t before = signals.caught;
    signals.caught = caught;
    stel__lock_give(&signals.lock);
    return before;
}

/* Make the collector look at the set again. */
static int wake_collector(void) {
    siginfo_t message = { .si_code = SI_QUEUE };
    message.si_signo = MESSAGE;
    return send_on(MESSAGE, &message);
}

/* Under starting. All of them or none. */
static int catch_signals(uint64_t wanted) {
    uint64_t before = set_caught(signals.caught | wanted), handled = 0; /* written under starting: read without lock */
    int rc = start_collector();
    if (rc == 0 && (wanted & ~before)) rc = wake_collector();
    for (int n = 1; n <= SIGNALS && rc == 0; n++) {
        if (!(wanted & bit(n))) continue;
        rc = install(n);
        if (rc == 0) handled |= bit(n);
    }
    if (rc == 0) return 0;
    for (int n = 1; n <= SIGNALS; n++)
        if (handled & ~before & bit(n)) (void)stel__sys_sigaction(n, &signals.previous[n - 1], NULL);
    (void)set_caught(before);
    (void)wake_collector(); /* not to take what is not ours */
    return rc;
}

int stel_sigcatch(const sigset_t *set) {
    uint64_t wanted = set ? bits_of(set) : 0;
    if (!wanted) return -EINVAL;
    for (size_t i = 0; i < STEL__COUNT_OF(not_for_us); i++)
        if (wanted & bit(not_for_us[i])) return -EINVAL;
    if (stel__io_forked()) return -EPERM;
    stel__lock_take(&signals.starting);
    int rc = catch_signals(wanted);
    stel__lock_give(&signals.starting);
    return rc;
}

/* ---- waiting ---- */

/* Under the lock: the first arrival of the lowest number of the set, if there is one; *gone is to be freed. */
static int take(uint64_t set, siginfo_t *info, arrival **gone) {
    if (!(signals.stored & set)) return 0;
    int signal = __builtin_ctzll(signals.stored & set) + 1;
    if (signal <= STANDARD) {
        *info = signals.single[signal - 1];
        signals.stored &= ~bit(signal);
        return signal;
    }
    stel__list *queue = &signals.queues[signal - 1];
    *gone = STEL__CONTAINER(stel__list_pop_head(queue), arrival, link);
    *info = (*gone)->info;
    if (!queue->head) signals.stored &= ~bit(signal);
    return signal;
}

/* On the list with x, the lock was given back. The signal, or what cut it short. */
static int wait_for_arrival(stel__waiter *w, want *x) {
    int rc = stel__wait_park(w, 0);
    if (rc >= 0) return x->info.si_signo;
    stel__lock_take(&signals.lock);
    bool chosen = !(w->node.flags & NODE_QUEUED);
    if (!chosen) stel__list_remove(&signals.waiters, &w->node.link);
    stel__lock_give(&signals.lock);
    return chosen ? x->info.si_signo : rc;
}

int stel_sigwaitinfo(const sigset_t *set, siginfo_t *info) {
    want x = { .set = set ? bits_of(set) : 0 };
    arrival *gone = NULL;
    if (!x.set) return -EINVAL;
    if (stel__io_forked()) return -EPERM;
    stel__waiter *w = stel__waiter_self();
    if (!w) return -ENOMEM;
    int rc = stel__wait_check(w);
    if (rc < 0) return rc;
    stel__lock_take(&signals.lock);
    if (x.set & ~signals.caught) {
        rc = -EINVAL;
    } else if ((rc = take(x.set, &x.info, &gone)) == 0) {
        stel__wait_begin(w, STEL__WAIT_SIGNAL);
        w->node.waiter = w->index;
        w->node.element = &x;
        w->node.flags = NODE_QUEUED;
        stel__list_push_tail(&signals.waiters, &w->node.link);
    }
    stel__lock_give(&signals.lock);
    stel__free(gone);
    if (rc == 0)
        rc = wait_for_arrival(w, &x);
    else
        stel__wait_spend(w);
    if (rc > 0 && info) *info = x.info;
    return rc;
}
