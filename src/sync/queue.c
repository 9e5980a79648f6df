/* Queues of waiters; see queue.h. */
#include "sync/queue.h"

enum { WAKE_BATCH = 32 }; /* tickets kept on the stack by a waker of many */

int stel__queue_park(stel__spin *lock, stel__list *queue, stel__waiter *w) {
    int rc = stel__wait_park(w, 0);
    if (STEL__LIKELY(rc == STEL__WOKEN)) return 0;
    if (rc == STEL__WOKEN_UNDER_LOCK) {
        stel__spin_pass(lock);
        return 0;
    }
    stel__spin_take(lock);
    bool was_queued = stel__queue_remove(queue, &w->node);
    stel__spin_give(lock);
    return was_queued ? rc : 0;
}

void stel__queue_wake_all(stel__spin *lock, stel__list *queue) {
    stel__ticket tickets[WAKE_BATCH];
    size_t n = 0;
    stel__node *node;
    while (n < WAKE_BATCH && (node = stel__queue_pop(queue)) != NULL)
        tickets[n++] = stel__node_ticket(node);
    /* More than we can remember: those are woken under the lock, which they pass before they return. A loop that took
     * the lock again for the next batch would touch an object whose last waiters may have timed out meanwhile and
     * gone, and their owner freed it. */
    while ((node = stel__queue_pop(queue)) != NULL)
        stel__wake(stel__node_ticket(node), STEL__WOKEN_UNDER_LOCK);
    stel__spin_give(lock);
    /* A ticket that fails belongs to a waiter whose time ran out: it finds out by itself that it was chosen. */
    for (size_t i = 0; i < n; i++)
        stel__wake(tickets[i], STEL__WOKEN);
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
