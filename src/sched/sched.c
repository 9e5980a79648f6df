/* A scheduler's own life: made, started, closed, halted, freed; and counting who lives.
 *
 * Counting. No counter is shared by workers: each has `spawned` and `executed` of its own, and the sums tell who lives.
 * stel__sched_live reads every `executed` first and every `spawned` after: both only grow, so spawned(later) -
 * executed(earlier) is never less than the number that lived at the moment in between, and when the difference is 0
 * nobody did. A spawn is counted before its fiber can run, an end after everything the fiber does (release; the sums
 * acquire): so a fiber that is counted as ended has had its own spawns counted before. */
#include "sched/worker.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { RING_CAPACITY = 256 };

stel__wheel *stel__wheel_of(stel__sched *s, uint16_t name) {
    return &s->worker[name - 1]->wheel;
}
stel_runtime *stel__sched_owner(stel__sched *s) {
    return s->owner;
}
stel__sched *stel__sched_current(void) {
    stel__worker *w = stel__worker_self();
    return w ? w->sched : NULL;
}
STEL__NOINLINE void *stel__sched_point(void) {
    __asm__ volatile(""); /* as in stel__worker_self */
    return stel__worker_tls->waits_at;
}
void stel__sched_in_child(void) {
    stel__worker_self_set(NULL);
}
bool stel__sched_self_is_background(void) {
    stel__worker *w = stel__worker_self();
    return w && stel__worker_current(w) && (stel__fiber_flags(stel__worker_current(w)) & STEL_BACKGROUND);
}

/* ---- made and freed ---- */

static void worker_free(stel__worker *w) {
    if (!w) return;
    stel__deque_destroy(&w->spawns);
    stel__deque_destroy(&w->ring);
    stel__free(w);
}

static stel__worker *worker_new(stel__sched *s, int id, uint64_t seed) {
    stel__worker *w = stel__alloc_aligned(STEL__CACHE_LINE, sizeof *w);
    if (!w) return NULL;
    w->sched = s;
    w->id = id;
    stel__store_relaxed(&w->until_check, STEL__CHECK_INTERVAL);
    w->now = stel__clock_now();
    w->seen_victim = -1;
    stel__oracle_seed(&w->oracle, seed + (uint64_t)id);
    if (id == 0 && s->hook.points)
        w->point = &s->points[0];
    else if (s->hook.points && !s->hook.first_only)
        w->point = &s->points[s->hook.points > 1 ? id : 0];
    if (s->hook.points) w->waits_at = s->points[s->hook.points > 1 ? id : 0].context;
    stel__wheel_init(&w->wheel, (uint16_t)(id + 1), w->now);
    if (stel__deque_init(&w->spawns, RING_CAPACITY) < 0 || stel__deque_init(&w->ring, RING_CAPACITY) < 0) {
        worker_free(w);
        return NULL;
    }
    return w;
}

static void sched_free(stel__sched *s) {
    for (int i = 0; i < s->worker_count; i++)
        worker_free(s->worker[i]);
    stel__free(s->points);
    stel__free(s);
}

static int points_new(stel__sched *s) {
    if (!s->hook.points) return 0;
    s->points = stel__alloc_aligned(STEL__CACHE_LINE, sizeof s->points[0] * (size_t)s->hook.points);
    if (!s->points) return -ENOMEM;
    for (int i = 0; i < s->hook.points; i++)
        s->points[i].context = s->hook.point(s->hook.context, i);
    return 0;
}

int stel__sched_create(stel__sched **out, const stel_config *c, stel_runtime *owner, const stel__idle_hook *hook) {
    int n = c->worker_threads;
    if (n < 1 || stel__stack_class(c->stack_bytes) < 0) return -EINVAL;
    stel__sched *s = stel__alloc_aligned(STEL__CACHE_LINE, sizeof *s + sizeof s->worker[0] * (size_t)n);
    if (!s) return -ENOMEM;
    s->config = *c;
    s->owner = owner;
    if (hook) s->hook = *hook;
    s->worker_count = n;
    s->alone = n == 1;
    stel__inject_init(&s->inject);
    int rc = points_new(s);
    for (int i = 0; i < n && rc == 0; i++)
        if (!(s->worker[i] = worker_new(s, i, c->seed))) rc = -ENOMEM;
    if (rc < 0) {
        sched_free(s);
        return rc;
    }
    stel__sched_apply(s, c);
    *out = s;
    return 0;
}

void stel__sched_apply(stel__sched *s, const stel_config *c) {
    int class = stel__stack_class(c->stack_bytes);
    STEL__ASSERT(class >= 0);
    stel__store_relaxed(&s->settings.stack_class, (unsigned)class);
    /* The table of fibers has a limit by itself: then there is no need to count at each spawn. */
    stel__store_relaxed(&s->settings.max_fibers, c->max_fibers > STEL__INDEX_MASK ? 0 : c->max_fibers);
    stel__store_relaxed(&s->settings.max_tasks_per_loop, (unsigned)c->max_tasks_per_loop);
    stel__store_relaxed(&s->settings.io_budget, c->io_budget);
    stel__store_relaxed(&s->settings.stall_ns, c->stall_ns);
    stel__store_relaxed(&s->settings.spin_ns, c->poller_spin_ns);
    for (int i = 0; i < s->worker_count; i++)
        stel__store_relaxed(&s->worker[i]->stacks.limit, (uint32_t)c->stack_cache);
}

static void wake_all(stel__sched *s) {
    for (int i = 0; i < s->worker_count; i++)
        (void)stel__wake_worker(s->worker[i], STEL__AWAKE);
}

static void join_workers(stel__sched *s, int n) {
    stel__store_release(&s->halt, true); /* pairs with the acquire in idle_loop */
    stel__fence_seq_cst();               /* as in ready.c: who goes to sleep looks at halt again */
    wake_all(s);
    for (int i = 0; i < n; i++)
        (void)pthread_join(s->worker[i]->thread, NULL);
}

int stel__sched_start(stel__sched *s) {
    int rc = 0, i = 0;
    stel__lock_take(&s->starting);
    for (; i < s->worker_count && rc == 0; i++) {
        char name[32]; /* the kernel keeps 15 */
        (void)snprintf(name, sizeof name, "stel-worker-%d", i);
        rc = stel__thread_start(&s->worker[i]->thread, name, stel__worker_main, s->worker[i]);
    }
    if (rc < 0) stel__store_relaxed(&s->halt, true); /* seen by whoever takes the lock after us */
    stel__lock_give(&s->starting);
    if (rc < 0) {
        join_workers(s, i - 1);
        stel__store_relaxed(&s->halt, false);
    }
    return rc;
}

void stel__sched_close(stel__sched *s, bool closed) {
    stel__store_release(&s->closed, closed); /* pairs with refusal in spawn.c */
}

void stel__sched_halt(stel__sched *s) {
    join_workers(s, s->worker_count);
    while (stel__load_acquire(&s->visitors)) /* pairs with the subtraction in ready.c; a few instructions */
        stel_yield();
}

/* Those of s that still have a handle lose it: fibers that ended and were never joined, and ones that never ran. */
static void forget_fibers(stel__sched *s) {
    for (uint32_t i = 0, n = stel__table_size(); i < n; i++) {
        stel__fiber *f = stel__fiber_at(i);
        uint64_t life = stel__load_acquire(&f->life);
        if (!(life & STEL__LIFE_ALIVE) || stel__fiber_home(f) != s) continue;
        /* Claimed, but not detached: a join that is on its way out with it frees it. */
        bool detached = stel__load_acquire(&f->joiner) == STEL__JOINER_DETACHED;
        if (!detached &&
            ((life & STEL__LIFE_CLAIMED) || !stel__cas_acq_rel(&f->life, &life, life | STEL__LIFE_CLAIMED)))
            continue;
        if (f->extra) {
            stel__locals_destroy(f); /* inherited */
            stel__fiber_extra_free(f);
        }
        stel__store_relaxed(&f->wheel, 0);
        stel__block_put(NULL, f);
    }
}

void stel__sched_destroy(stel__sched *s) {
    forget_fibers(s);
    stel__starved_forget(s);
    sched_free(s);
}

void stel__sched_on_empty(stel__sched *s, void (*fn)(void *context), void *context) {
    s->on_empty_context = context;
    stel__store_release(&s->on_empty, fn); /* pairs with check_empty */
}

void stel__sched_check_empty(stel__sched *s) {
    void (*fn)(void *) = stel__load_acquire(&s->on_empty); /* pairs with on_empty */
    if (fn && stel__sched_live_counted(s) == 0) fn(s->on_empty_context);
}

void stel__sched_on_guard_needed(stel__sched *s, void (*fn)(void *context), void *context) {
    s->on_guard_needed = fn;
    s->on_guard_needed_context = context;
}

/* ---- counting ---- */

static uint64_t sum(stel__sched *s, size_t offset) {
    uint64_t total = 0;
    for (int i = 0; i < s->worker_count; i++)
        total += stel__load_acquire((_Atomic uint64_t *)(void *)((char *)&s->worker[i]->counters + offset));
    return total;
}
#define SUM(s, field) sum((s), offsetof(stel__worker_counters, field))

uint64_t stel__sched_executed(stel__sched *s) {
    return SUM(s, executed);
}

uint64_t stel__sched_live(stel__sched *s) {
    uint64_t executed = SUM(s, executed);
    uint64_t spawned = SUM(s, spawned) + stel__load_acquire(&s->spawned_outside);
    return spawned - executed;
}

uint64_t stel__sched_live_counted(stel__sched *s) {
    /* Counted ends, then counted spawns; background ones are taken out so that every error is on the side of "lives".
     */
    uint64_t executed = SUM(s, executed);
    uint64_t background_executed = SUM(s, executed_background);
    uint64_t background_spawned = SUM(s, spawned_background) + stel__load_acquire(&s->spawned_outside_background);
    uint64_t spawned = SUM(s, spawned) + stel__load_acquire(&s->spawned_outside);
    return spawned - background_spawned + background_executed - executed;
}

/* Never more than there were: here the spawns are read first, so that a reader that loses its CPU in between errs downwards. */
static uint64_t live_at_most(stel__sched *s) {
    uint64_t spawned = SUM(s, spawned) + stel__load_acquire(&s->spawned_outside);
    uint64_t executed = SUM(s, executed);
    return spawned > executed ? spawned - executed : 0;
}

void stel__sched_sample_peak(stel__sched *s) {
    uint64_t live = live_at_most(s);
    uint64_t peak = stel__load_relaxed(&s->peak_active);
    while (live > peak && !stel__cas_acq_rel(&s->peak_active, &peak, live)) {
    }
}

void stel__sched_stats(stel__sched *s, stel_stats *out) {
    stel__sched_sample_peak(s);
    uint64_t executed = SUM(s, executed);
    out->total_tasks_executed = executed;
    out->total_tasks_failed = SUM(s, failed);
    out->spawned = SUM(s, spawned) + stel__load_acquire(&s->spawned_outside);
    out->current_active_tasks = live_at_most(s);
    out->peak_active_tasks = stel__load_relaxed(&s->peak_active);
    out->average_task_duration_ms = executed ? (double)SUM(s, duration_ns) / (double)executed / 1e6 : 0;
    out->worker_count = s->worker_count;
    out->switches = SUM(s, switches);
    out->steals = SUM(s, steals);
    out->wakes_remote = stel__load_relaxed(&s->wakes_outside);
    out->polls = SUM(s, polls);
    out->timers_fired = SUM(s, timers_fired);
}

int stel__sched_worker_stats(stel__sched *s, int worker, stel_worker_stats *out) {
    if (worker < 0 || worker >= s->worker_count) return -EINVAL;
    const stel__worker *w = s->worker[worker];
    const stel__worker_counters *c = &w->counters;
    out->worker_id = worker;
    out->thread_id = stel__load_relaxed(&w->thread_id);
    out->tasks_executed = stel__load_relaxed(&c->executed);
    out->tasks_failed = stel__load_relaxed(&c->failed);
    out->current_queue_size = stel__worker_backlog(w);
    out->peak_queue_size = stel__load_relaxed(&c->queue_peak);
    if (out->current_queue_size > out->peak_queue_size) out->peak_queue_size = out->current_queue_size;
    out->spawned = stel__load_relaxed(&c->spawned);
    out->switches = stel__load_relaxed(&c->switches);
    out->steals = stel__load_relaxed(&c->steals);
    out->polls = stel__load_relaxed(&c->polls);
    out->parks = stel__load_relaxed(&c->parks);
    out->timers_fired = stel__load_relaxed(&c->timers_fired);
    return 0;
}

int64_t stel__sched_worker_cpu(stel__sched *s, int worker) {
    return stel__load_relaxed(&s->worker[worker]->thread_id) ? stel__clock_thread(s->worker[worker]->thread) : 0;
}

/* ---- all of them ---- */

/* A fiber of s that has not ended; its handle, or 0. */
static stel_fiber living(stel__sched *s, stel__fiber *f) {
    uint64_t life = stel__load_acquire(&f->life);
    bool alive = (life & STEL__LIFE_ALIVE) && stel__fiber_home(f) == s;
    return alive && stel__load_acquire(&f->joiner) != STEL__JOINER_ENDED ? stel__fiber_handle(f, life) : 0;
}

void stel__sched_cancel_all(stel__sched *s, bool background_only) {
    for (uint32_t i = 0, n = stel__table_size(); i < n; i++) {
        stel__fiber *f = stel__fiber_at(i);
        stel_fiber handle = living(s, f);
        if (handle && (!background_only || (stel__fiber_flags(f) & STEL_BACKGROUND))) (void)stel_cancel(handle);
    }
}

void stel__sched_report_survivors(stel__sched *s) {
    enum { MOST = 50 };
    int64_t now = stel__clock_now();
    unsigned found = 0;
    for (uint32_t i = 0, n = stel__table_size(); i < n; i++) {
        stel__fiber *f = stel__fiber_at(i);
        stel_fiber handle = living(s, f);
        char name[32] = "", entry[STEL__SYMBOL_BYTES], site[STEL__SYMBOL_BYTES];
        if (!handle || ++found > MOST || stel_fiber_name(handle, name, sizeof name) < 0) continue;
        int reason = stel__load_relaxed(&f->waiter.reason);
        int64_t age_ms = (now - stel__load_relaxed(&f->created)) / 1000000;
        stel__symbol(entry, (void *)(uintptr_t)stel__load_relaxed(&f->fn));
        stel__symbol(site, stel__load_relaxed(&f->spawn_site));
        stel__warn("fiber %#" PRIx64 " \"%s\" has not ended: entry %s, spawned at %s, %" PRId64 ".%03d s old, %s%s",
                   handle, name, entry, site, age_ms / 1000, (int)(age_ms % 1000),
                   reason ? "waits for: " : "runs, or is ready to run", reason ? stel__reason_name(reason) : "");
    }
    if (found > MOST) stel__warn("and %u more", found - MOST);
}
