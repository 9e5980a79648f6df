/* Fibers for which there is no stack.
 *
 * A stack is bound at the first run. When none can be had then, the fiber is set aside: starved. It is tried again
 * until there is one, or until there is no hope that there will be; then it ends with -ENOMEM without having run.
 *
 * Where they wait: one queue for those that anybody may run, and one of each worker for those that only it may run,
 * first in, first out, so that one whose class of stacks is exhausted does not stand before others for ever.
 * `starved_count` has all that wait and those that are just being tried; it changes under starved_lock only.
 *
 * Who tries: a worker that has no other work, before it sleeps and every STARVED_RETRY_NS while it sleeps (idle.c), and
 * every worker now and then (pick_periodic in worker.c). One try is one fiber.
 *
 * Where stacks are. A worker's cache is its own: what lies there is out of reach for everybody else, and a fiber that
 * must run on one worker gains nothing from another's. So while anybody starves all free stacks belong on the shared
 * lists of host:
 *   - what is put back goes there, and nobody takes more than one (stel__stack_wanted)
 *   - who tries gives up its cache first, and wakes a worker whose own fibers starve for each stack that it gave
 *   - a worker that sleeps on its cache is woken by who sets a fiber aside (wake_hoarders). Of these two one sees the
 *     other:
 *       here                                  going to sleep (idle.c)
 *         count the starved fiber               sleep = ASLEEP (the stacks are in its cache)
 *         fence                                 fence
 *         load sleep, then its cache's count    load starved_count: not for longer than STARVED_RETRY_NS
 * Beyond reach are the cache of a worker whose fiber does not let go of it, and those of other runtimes' workers until
 * they next put a stack back: as many as their setting stack_cache at most.
 *
 * When to give up. Either nobody is left who could leave a stack behind: all that live starve, and all other workers
 * sleep, with no such stack in their caches. Two looks say so, one before the try and one after it, and nobody has
 * ended in between; else a stack could have been on its way from one to the other, or have been taken, used and put
 * back. (A stack is put back after its fiber's end was counted, but before the worker sleeps.) Or others live but none
 * of them has ended for PATIENCE_NS: those that have stacks may be waiting for those that have none. Only time in
 * which somebody looked counts (STEP_NS a look): a process that was stopped for a minute has not waited a minute. Ends
 * for want of a stack are no sign of hope.
 *
 * Tried and dropped: one list for all, last in first out, from which a worker handed on what was not its own to run: a
 * fiber bound to a worker without stacks came back to the head each time, and hundreds behind it ended with -ENOMEM
 * while another worker slept on sixty free stacks. */
#include "sched/worker.h"

enum { PATIENCE_NS = 1000000000, STEP_NS = 20000000 };

/* ---- under starved_lock ---- */

static void queue_push(stel__sched *s, stel__fiber *f) {
    if (!f->pinned) {
        stel__fifo_push(&s->starved, f);
        return;
    }
    stel__worker *home = s->worker[f->pinned - 1];
    stel__fifo_push(&home->starved, f);
    stel__count(&home->starved_here, 1u);
}

static stel__fiber *queue_pop(stel__worker *w) {
    bool own_first = w->starved_turn = !w->starved_turn;
    stel__fiber *f = own_first ? NULL : stel__fifo_pop(&w->sched->starved);
    if (!f && (f = stel__fifo_pop(&w->starved))) stel__count(&w->starved_here, -1u);
    return f || !own_first ? f : stel__fifo_pop(&w->sched->starved);
}

/* How many have ended that had run: whose stacks were of use to others. May lag behind, never ahead. */
static uint64_t ends(stel__sched *s) {
    return stel__sched_executed(s) - s->starved_ended;
}

static void count_one_more(stel__sched *s) {
    if (stel__load_relaxed(&s->starved_count) == 0) {
        s->starved_ends = ends(s);
        s->starved_looked = stel__clock_now();
        s->starved_waited = 0;
        stel__stack_wanted(true);
    }
    stel__count(&s->starved_count, 1u);
}

static void count_one_less(stel__sched *s) {
    stel__count(&s->starved_count, -1u);
    if (stel__load_relaxed(&s->starved_count) == 0) stel__stack_wanted(false);
}

/* A look that found no stack. */
static bool patience_left(stel__sched *s) {
    uint64_t ended = ends(s);
    int64_t now = stel__clock_now(), passed = now - s->starved_looked;
    s->starved_looked = now;
    if ((int64_t)(ended - s->starved_ends) > 0) {
        s->starved_ends = ended;
        s->starved_waited = 0;
    } else {
        s->starved_waited += passed < STEP_NS ? passed : STEP_NS;
    }
    return s->starved_waited < PATIENCE_NS;
}

/* ---- fetching stacks ---- */

static void wake_hoarders(const stel__worker *w, unsigned class) {
    stel__sched *s = w->sched;
    for (int i = 0; i < s->worker_count; i++) {
        stel__worker *other = s->worker[i];
        if (other != w && stel__is_asleep(stel__load_seq_cst(&other->sleep)) &&
            stel__load_relaxed(&other->stacks.count[class]))
            (void)stel__wake_worker(other, STEL__AWAKE);
    }
}

static void wake_starving(const stel__worker *w, uint32_t stacks) {
    stel__sched *s = w->sched;
    for (int i = 0; i < s->worker_count && stacks > 0; i++) {
        stel__worker *other = s->worker[i];
        if (other != w && stel__load_relaxed(&other->starved_here) && stel__wake_worker(other, STEL__AWAKE)) stacks--;
    }
}

/* Is nobody left who could leave a stack behind? Exact about fibers: while nobody can be set aside or be given a stack,
 * all that live starve if they are not more. */
static bool nobody_else(const stel__worker *w, unsigned class, uint64_t *executed) {
    stel__sched *s = w->sched;
    stel__lock_take(&s->starved_lock);
    *executed = stel__sched_executed(s);
    bool nobody = stel__sched_live(s) <= stel__load_relaxed(&s->starved_count);
    stel__lock_give(&s->starved_lock);
    for (int i = 0; i < s->worker_count && nobody; i++) {
        stel__worker *other = s->worker[i];
        /* Asleep: what it put back before is seen, in its cache or on the lists. Pairs with go_to_sleep. */
        if (other != w)
            nobody =
                stel__is_asleep(stel__load_seq_cst(&other->sleep)) && !stel__load_relaxed(&other->stacks.count[class]);
    }
    return nobody;
}

/* ---- the door ---- */

void stel__starve(stel__worker *w, stel__fiber *f) {
    static _Atomic unsigned said;
    stel__sched *s = w->sched;
    unsigned class = f->stack_class;
    stel__warn_once(&said, "no memory for a fiber's stack; fibers wait until one is free");
    stel__lock_take(&s->starved_lock);
    count_one_more(s);
    queue_push(s, f);
    stel__lock_give(&s->starved_lock);
    stel__fence_seq_cst(); /* as drawn above */
    wake_hoarders(w, class);
}

/* f ends without having run. What it has inherited is destroyed in nobody's name: we may be between two fibers. */
static void stillborn(stel__worker *w, stel__fiber *f) {
    if (f->extra && f->extra->locals) {
        stel__fiber *running = stel__worker_current(w);
        stel__store_relaxed(&w->running, NULL);
        stel__locals_destroy(f);
        stel__store_relaxed(&w->running, running);
    }
    stel__fiber_complete(w, f, -ENOMEM);
}

stel__fiber *stel__starved_try(stel__worker *w, bool *ended) {
    stel__sched *s = w->sched;
    uint32_t shared = stel__stack_cache_share(&w->stacks);
    stel__lock_take(&s->starved_lock);
    stel__fiber *f = queue_pop(w);
    stel__lock_give(&s->starved_lock);
    *ended = false;
    if (f && shared > 0) shared--; /* most likely for this one */
    if (shared > 0) wake_starving(w, shared);
    if (!f) return NULL;

    uint64_t executed, executed_then;
    bool hopeless = nobody_else(w, f->stack_class, &executed);
    bool bound = stel__worker_bind(w, f);
    hopeless = hopeless && !bound && nobody_else(w, f->stack_class, &executed_then) && executed == executed_then;

    stel__lock_take(&s->starved_lock);
    bool waits = !bound && !hopeless && patience_left(s);
    if (waits) {
        queue_push(s, f);
    } else {
        s->starved_ended += !bound; /* before its end is counted: see ends */
        count_one_less(s);
    }
    stel__lock_give(&s->starved_lock);
    if (bound) return f;
    *ended = !waits;
    if (!waits) stillborn(w, f);
    return NULL;
}

void stel__starved_forget(stel__sched *s) {
    if (stel__load_relaxed(&s->starved_count)) stel__stack_wanted(false);
}
