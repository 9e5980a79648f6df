/* What fibers know of scopes. A scope is sync's; a fiber remembers the scopes that it has open, so that cancelling it
 * cancels what it has spawned into them, and the scope that it was itself spawned into, so that the scope learns of its
 * end. Both lie in the fiber's extra, which strangers look at under the extra lock.
 *
 * Cancelling an opener while it opens a scope:
 *
 *     canceller                                   opener, scope_push
 *       life: + CANCELLED (what was there before?)   extra lock: put the scope on the list, life: + SCOPES
 *       SCOPES was there: scopes_cancel               CANCELLED was there: the scope is cancelled from the start
 *
 * Both flags are in one word, so one of the two sees the other. A scope that goes away waits for the extra lock (pop), and
 * its children for the scope's own.
 *
 * Scopes within scopes are cancelled by recursion, DEPTH_MAX deep, as the canceller's stack has an end; what lies deeper
 * is cancelled by its opener when it finds out that it is cancelled itself, which it does at its next wait. */
#include "sched/worker.h"

enum { BATCH = 8, DEPTH_MAX = 128 };

int stel__scope_push(stel__scope_link *s, bool *cancelled) {
    stel__fiber *f = stel__worker_current(stel__worker_self());
    if (!stel__fiber_extra(f)) return -ENOMEM;
    stel__lock_take(stel__extra_lock(f));
    s->outer = f->extra->scopes;
    f->extra->scopes = s;
    /* seq_cst, acquire: against the swap in life_set (life.c) */
    uint64_t before = stel__or_seq_cst(&f->life, (uint64_t)STEL__LIFE_SCOPES);
    stel__lock_give(stel__extra_lock(f));
    *cancelled = before & STEL__LIFE_CANCELLED;
    return 0;
}

void stel__scope_pop(stel__scope_link *s) {
    stel__fiber *f = stel__worker_current(stel__worker_self());
    stel__lock_take(stel__extra_lock(f));
    stel__scope_link **at = &f->extra->scopes;
    while (*at != s)
        at = &(*at)->outer;
    *at = s->outer;
    if (!f->extra->scopes) stel__and_acq_rel(&f->life, ~(uint64_t)STEL__LIFE_SCOPES);
    stel__lock_give(stel__extra_lock(f));
}

/* Up to BATCH children of the fiber that have not been collected yet. */
static size_t collect(stel__fiber *f, stel_fiber handle, stel_fiber *children) {
    size_t n = 0;
    stel__lock_take(stel__extra_lock(f));
    if (stel__same_generation(stel__load_acquire(&f->life), handle) && f->extra)
        for (stel__scope_link *s = f->extra->scopes; s && n < BATCH; s = s->outer)
            n += s->ops->collect(s, children + n, BATCH - n);
    stel__lock_give(stel__extra_lock(f));
    return n;
}

void stel__scopes_cancel(stel_fiber handle, unsigned depth) {
    stel__fiber *f = stel__fiber_find(handle);
    stel_fiber children[BATCH];
    size_t n;
    if (depth == DEPTH_MAX) return;
    do {
        n = collect(f, handle, children);
        for (size_t i = 0; i < n; i++)
            (void)stel__fiber_cancel(children[i], depth + 1); /* -ESRCH: it ended by itself */
    } while (n == BATCH);
}

stel__scope_link *stel__child_ending(stel__fiber *f, int result) {
    stel__scope_link *scope = f->extra->child.scope;
    if (scope) scope->ops->ending(&f->extra->child, result);
    stel__fiber_extra_free(f);
    return scope;
}

void stel__scope_left_open(const stel__fiber *f) {
    stel__die("fiber %#llx \"%s\" ends with the scope %p open: join it, or use STEL_SCOPE",
              (unsigned long long)stel__fiber_handle(f, stel__load_relaxed(&f->life)), f->extra->name,
              (void *)f->extra->scopes);
}
