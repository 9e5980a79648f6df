/* The wait group: a count, and a queue of those who wait for it to become 0.
 *
 * The count goes up, and down to anything but 0, by a swap without the lock, and the swap is the caller's last touch.
 * The step to 0 is made under the lock, because it is followed by waking: a waiter that sees 0 without the lock passes
 * the lock before it returns (queue.h says why), one that looks under the lock either sees 0 or is on the queue before
 * the step. */
#include "sync/queue.h"
#include <limits.h>

typedef struct waitgroup {
    stel__spin lock;
    _Atomic int32_t count; /* becomes 0 under the lock only */
    stel__list queue;
    uint64_t spare;
} __attribute__((may_alias)) waitgroup;

_Static_assert(sizeof(waitgroup) == 32 && sizeof(stel_waitgroup) == 32, "the size of a wait group is part of the ABI");
_Static_assert(_Alignof(waitgroup) <= _Alignof(stel_waitgroup), "the public struct is aligned well enough");

/* The count after adding n; dies of what cannot be. */
static int32_t sum(const waitgroup *g, int32_t count, int n, const char *call) {
    int32_t result;
    if (STEL__UNLIKELY(__builtin_add_overflow(count, n, &result)))
        stel__misuse(call, g, "the count would be above 2147483647");
    if (STEL__UNLIKELY(result < 0)) stel__misuse(call, g, "the count would be below 0");
    return result;
}

/* The last step down: from n to 0, unless the count has changed meanwhile. */
static bool finish(waitgroup *g, int32_t from) {
    stel__spin_take(&g->lock);
    /* acq_rel: what every done did before is seen by the waiters, for the swaps form one chain */
    if (!stel__cas_acq_rel(&g->count, &from, 0)) {
        stel__spin_give(&g->lock);
        return false;
    }
    stel__queue_wake_all(&g->lock, &g->queue);
    return true;
}

static void change(waitgroup *g, int n, const char *call) {
    int32_t count = stel__load_relaxed(&g->count);
    for (;;) {
        int32_t result = sum(g, count, n, call);
        if (result == 0) {
            if (finish(g, count)) return;
            count = stel__load_relaxed(&g->count);
        } else if (stel__cas_acq_rel(&g->count, &count, result)) { /* release: pairs with seen; a link of the chain */
            return;
        }
    }
}

void stel_waitgroup_add(stel_waitgroup *object, int n) {
    if (n != 0) change((waitgroup *)object, n, "stel_waitgroup_add");
}

void stel_waitgroup_done(stel_waitgroup *object) {
    change((waitgroup *)object, -1, "stel_waitgroup_done");
}

/* Is it 0, and is the call that made it so done with the object? */
static bool seen(waitgroup *g) {
    if (stel__load_acquire(&g->count) != 0) return false; /* pairs with the swap in finish */
    stel__spin_pass(&g->lock);
    return true;
}

int stel_waitgroup_wait(stel_waitgroup *object) {
    waitgroup *g = (waitgroup *)object;
    stel__waiter *w = stel__waiter_need("stel_waitgroup_wait");
    int rc = stel__wait_check(w);
    if (rc < 0) return rc;
    if (seen(g)) return 0;
    stel__spin_take(&g->lock);
    if (stel__load_acquire(&g->count) == 0) { /* acquire: with finish by a holder before us, or the chain of swaps */
        stel__spin_give(&g->lock);
        return 0;
    }
    stel__wait_begin(w, STEL__WAIT_WAITGROUP);
    stel__queue_push(&g->queue, w, 0);
    stel__spin_give(&g->lock);
    return stel__queue_park(&g->lock, &g->queue, w);
}
