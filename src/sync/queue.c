/* Queues of waiters; see queue.h. */
#include "sync/queue.h"

enum { WAKE_BATCH = 32 }; /* tickets kept on the stack by a waker of many */

int stel__queue_park(stel__spin *lock, stel__list *queue, stel__waiter *w) {
    int rc = stel__wait_park(w, 0);
    if (STEL__LIKELY(rc >= 0)) return 0;
    stel__spin_take(lock);
    bool was_queued = stel__queue_remove(queue, &w->node);
    stel__spin_give(lock);
    return was_queued ? rc : 0;
}

void stel__queue_wake_all(stel__spin *lock, stel__list *queue) {
    /* The latest tickets; older ones are woken under the lock. A loop that gave the lock back after each batch and took
     * it again would touch an object whose other waiters may have timed out meanwhile, and their owner freed it. */
    stel__ticket tickets[WAKE_BATCH];
    size_t n = 0;
    for (stel__node *node; (node = stel__queue_pop(queue)) != NULL; n++) {
        stel__ticket ticket = stel__node_ticket(node);
        if (n >= WAKE_BATCH) stel__wake(tickets[n % WAKE_BATCH], STEL__WOKEN);
        tickets[n % WAKE_BATCH] = ticket;
    }
    stel__spin_give(lock);
    /* A wake that fails is for a waiter whose time ran out: it finds out by itself that it was chosen. */
    for (size_t i = n > WAKE_BATCH ? n - WAKE_BATCH : 0; i < n; i++)
        stel__wake(tickets[i % WAKE_BATCH], STEL__WOKEN);
}

void stel__waiter_missing(const char *call) {
    stel__die("%s: no memory for this thread's first wait", call);
}

void stel__misuse(const char *call, const void *object, const char *text) {
    stel_fiber self = stel_self();
    char name[32];
    if (self == 0) stel__die("%s(%p): thread %d: %s", call, object, stel__thread_id(), text);
    if (stel_fiber_name(self, name, sizeof name) < 0 || name[0] == '\0')
        stel__die("%s(%p): fiber %#llx: %s", call, object, (unsigned long long)self, text);
    stel__die("%s(%p): fiber %#llx \"%s\": %s", call, object, (unsigned long long)self, name, text);
}
