/* Pins, and the list of runtimes that run, oldest first: where stel_spawn of a plain thread goes.
 *
 * A pin is held by a spawn from outside, which must not see the workers end, or the life replaced by a restart, under
 * its hands. Such a call never waits, so neither does the guardian for long. A spawn from outside and a stop:
 *
 *     spawn                                     stop
 *       pins + 1                                  sched: closed = true
 *       fence                                     fence (stel__runtime_pinned)
 *       load closed: refuse, or count it          load pins: 0?
 *       pins - 1                                  load the count of live fibers: 0?
 *
 * By the fences one sees the other: either the spawn is refused, or the stop finds the pin; and if it found the pin
 * gone again (release here, acquire there) the fiber has been counted. A restart, which puts a new life in place, looks
 * at the pins and frees the old one, has the same pair: a pin that it did not see is one that sees the new life. */
#include "runtime/runtime.h"

static struct {
    stel__lock lock;
    stel__list running; /* under lock */
} registry;

stel__life *stel__runtime_pin(stel_runtime *rt) {
    stel__add_relaxed(&rt->pins, 1);
    stel__fence_seq_cst(); /* the pair of the one in pinned */
    return stel__runtime_life(rt);
}

void stel__runtime_unpin(stel_runtime *rt) {
    stel__sub_acq_rel(&rt->pins, 1); /* release: pairs with the acquire in pinned. The last touch */
}

bool stel__runtime_pinned(stel_runtime *rt) {
    stel__fence_seq_cst();
    return stel__load_acquire(&rt->pins) != 0;
}

void stel__registry_add(stel_runtime *rt) {
    stel__lock_take(&registry.lock);
    stel__list_push_tail(&registry.running, &rt->link);
    rt->registered = true;
    stel__lock_give(&registry.lock);
}

void stel__registry_remove(stel_runtime *rt) {
    stel__lock_take(&registry.lock);
    if (rt->registered) stel__list_remove(&registry.running, &rt->link);
    rt->registered = false;
    stel__lock_give(&registry.lock);
}

stel__sched *stel__registry_enter(void) {
    stel__sched *s = NULL;
    stel__lock_take(&registry.lock);
    if (registry.running.head) {
        stel_runtime *rt = STEL__CONTAINER(registry.running.head, stel_runtime, link);
        s = stel__runtime_pin(rt)
                ->sched; /* under the lock: remove, which comes before the last look at pins, has not been */
    }
    stel__lock_give(&registry.lock);
    return s;
}

void stel__registry_leave(stel__sched *s) {
    stel__runtime_unpin(stel__sched_owner(s));
}
