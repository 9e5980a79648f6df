/* fork: the child keeps the calling thread only. Our workers, the poller and whoever held a lock are gone there, so the
 * child may exec or _exit; every public call asks stel__forked first and returns -EPERM. */
#include "host/host.h"

_Atomic bool stel__forked;

static void in_child(void) {
    stel__store_relaxed(&stel__forked, true); /* one thread is all there is */
}

static void watch(void) {
    /* Without memory for it we could not tell the child; nothing else would break, so go on. */
    (void)pthread_atfork(NULL, NULL, in_child);
}

void stel__fork_watch(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch);
}
