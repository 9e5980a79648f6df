/* fork: the child keeps the calling thread only. Our workers, the poller and whoever held a lock are gone there, so the
 * child may exec or _exit; every public call that returns a code asks stel__forked first and returns -EPERM.
 *
 * What the child gets to see is settled here, before it runs any of its own code:
 *   - stel__forked is set;
 *   - the rooms above let go of the thread (stel__fork_on_child): a fiber that forked goes on as what it now is, a plain
 *     thread without a worker, so that no wait or yield of its can switch to fibers that are the parent's;
 *   - a thread of ours gets back the signal mask that the thread had which started it (thread.c): ours block
 *     everything, and a program that is exec'ed would inherit that. */
#include "host/host.h"

_Atomic bool stel__forked;

static void (*_Atomic let_go)(void);

static void in_child(void) {
    stel__store_relaxed(&stel__forked, true);       /* one thread is all there is */
    void (*fn)(void) = stel__load_acquire(&let_go); /* pairs with on_child */
    if (fn) fn();
    stel__thread_restore_mask();
}

static void watch(void) {
    /* Without memory for it we could not tell the child; nothing else would break, so go on. */
    (void)pthread_atfork(NULL, NULL, in_child);
}

void stel__fork_watch(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch);
}

void stel__fork_on_child(void (*fn)(void)) {
    stel__store_release(&let_go, fn); /* pairs with in_child, where the thread that stored may not exist */
}
