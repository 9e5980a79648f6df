/* Workers and the scheduler they belong to: the structures, and what the files of this room call in one another.
 *
 *   worker.c  the one switch, what follows it, and the choice of the next fiber
 *   ready.c   making a fiber runnable: which queue, and whom to wake for it
 *   starve.c  fibers for which there is no stack
 *   idle.c    a worker without work: stealing, polling, sleeping
 *   waiter.c  one wait of one fiber or thread
 *   spawn.c   making fibers; life.c  join, cancel, sleep, park; local.c  names, priorities, fiber-local values
 *   child.c   what fibers know of scopes: those they have open, and the one they were spawned into
 *   sched.c   start, stop, counting; guard.c  the poller thread's tick; table.c  the control blocks */
#ifndef STEL_SCHED_WORKER_H
#define STEL_SCHED_WORKER_H

#include "sched/deque.h"
#include "sched/fiber.h"
#include "sched/inject.h"
#include "sched/wheel.h"

typedef struct stel__worker stel__worker;

/* How a worker sleeps; its waker must use the matching wake. */
enum stel__sleep_mode {
    STEL__AWAKE = 0,
    STEL__ASLEEP_FUTEX = 1,
    STEL__ASLEEP_POLL = 2,
    STEL__AWAKE_TO_SEARCH = 3 /* woken, and counted in sched->searching by the waker */
};
static inline bool stel__is_asleep(uint32_t mode) {
    return mode == STEL__ASLEEP_FUTEX || mode == STEL__ASLEEP_POLL;
}

/* What is to be done with the fiber that was left, once its context is saved: by whoever runs next on the worker. */
enum stel__after {
    STEL__AFTER_NOTHING,
    STEL__AFTER_YIELD,
    STEL__AFTER_PARK,
    STEL__AFTER_PARK_UNSEEN, /* AFTER_PARK of a wait that nobody but its successor can end by an event */
    STEL__AFTER_END
};

enum {
    STEL__CHECK_INTERVAL = 61, /* dispatches between looks at clock, timers, injection queue, poll, oldest spawn */
    STEL__STREAK_MAX = 31      /* fibers from next slot and deque in a row before the FIFO ring has its turn */
};

/* Where workers poll: stel__idle_hook. */
typedef struct stel__poll_point {
    STEL__ALIGNED(STEL__CACHE_LINE) void *context;
    _Atomic int claim; /* 1 + the worker that polls, -1 the poller thread, 0 nobody */
    _Atomic int64_t last_poll;
} stel__poll_point;

/* Single writer (the worker), read by anybody: stel__count. */
typedef struct stel__worker_counters {
    _Atomic uint64_t spawned, spawned_background, executed, executed_background, failed;
    _Atomic uint64_t switches, steals, parks, polls, timers_fired, wakes_remote, duration_ns, queue_peak;
} stel__worker_counters;

struct stel__worker {
    /* fixed */
    stel__sched *sched;
    int id;
    stel__poll_point *point; /* NULL: it does not poll */
    void *waits_at;          /* the point that polls for its fibers, whoever does that: its context */
    pthread_t thread;
    _Atomic int thread_id;

    /* the worker's thread only */
    _Atomic(stel__fiber *) running; /* stel__worker_current; the poller thread looks, too */
    _Atomic uint32_t until_check;   /* dispatches left before the next look around; the tick may make it the next one */
    uint32_t streak;
    uint32_t neglected, neglected_level; /* whose turn it is in pick_periodic */
    bool pinned_turn;                    /* pinned fibers and the ring take turns */
    int64_t now;                         /* the cached clock */
    uint32_t oldest_turn;                /* when the oldest spawn has its turn again: pick_periodic */
    int64_t timer_woke;                  /* what a sleep that a timer ended was meant to last until */
    uint32_t crowded;                    /* how often of late timers had to wait for the beat: see wake_time */
    stel__pilots pilots;
    int64_t spin_at, spin_rest; /* not to spin before; how long it rested from it last */
    int spin_trust;             /* see spin in idle.c */
    enum stel__after after;
    unsigned park_flags;          /* AFTER_PARK: to be set in the word with PARKED */
    stel__fiber *previous;        /* AFTER_YIELD, AFTER_PARK */
    stel__stack *dying_stack;     /* AFTER_END: the stack that was left for good */
    void *first_arg;              /* for the fiber whose first run this is */
    stel__context context;        /* the idle loop's, while a fiber runs */
    stel__context nowhere;        /* where the context of a fiber that ends is written to */
    uint64_t fp_words;            /* the control words of every fiber without words of its own */
    bool fp_unsettled;            /* those in the CPU may not be the running fiber's */
    stel__exceptions *exceptions; /* of the thread; only a fiber that runs has any. NULL: there is no C++ here */
    bool searching;               /* counted in sched->searching */
    bool thief, stole;            /* counted in sched->thieves; since the last look around */
    bool halted;
    int64_t roused; /* when it was woken to search, if that is still to be judged; 0: it is not */
    stel__stack_cache stacks;
    stel__free_blocks blocks;
    stel__oracle oracle;
    void *signal_stack;
    bool starved_turn;      /* its own starved fibers and everybody's take turns */
    uint64_t seen_switches; /* of the victim looked at last: see steal_next */
    int seen_victim;
#ifdef STEL__SANITIZED
    stel__sanitizer_fiber sanitizer, dying_sanitizer;
#endif

    /* owner pushes and takes, others steal */
    STEL__ALIGNED(STEL__CACHE_LINE) _Atomic(stel__fiber *) next; /* woken by the running fiber: its successor */
    stel__deque spawns;
    stel__deque ring;
    stel__levels levels; /* with a priority of their own; may be stolen */
    stel__levels pinned; /* must run here; filled from anywhere */

    /* under the scheduler's starved_lock */
    stel__fifo starved;            /* those that must run here */
    _Atomic uint32_t starved_here; /* how many; read by anybody */

    _Atomic bool look_soon; /* set by the tick: something waits in the injection queue that came late already */

    /* others wake */
    STEL__ALIGNED(STEL__CACHE_LINE) stel__futex sleep; /* enum stel__sleep_mode */

    STEL__ALIGNED(STEL__CACHE_LINE) stel__worker_counters counters;

    /* the poller thread only */
    STEL__ALIGNED(STEL__CACHE_LINE) uint64_t watched_switches;
    int64_t watched_since, watched_cpu;
    bool stall_reported;

    STEL__ALIGNED(STEL__CACHE_LINE) stel__wheel wheel;
};

struct stel__sched {
    /* fixed after create */
    stel_config config;
    stel_runtime *owner;
    stel__idle_hook hook;
    stel__poll_point *points; /* hook.points of them */
    int worker_count;
    bool alone; /* one worker: nobody steals */
    void *on_empty_context;
    void (*on_guard_needed)(void *context);
    void *on_guard_needed_context;

    /* settings that may change while it runs: each is obeyed sooner or later, so relaxed and without partners */
    struct {
        _Atomic unsigned max_fibers;         /* 0: the table's own limit */
        _Atomic unsigned stack_class;        /* of fibers to come */
        _Atomic unsigned max_tasks_per_loop; /* 0: no bound */
        _Atomic int io_budget;
        _Atomic int64_t stall_ns;
        _Atomic int64_t spin_ns; /* -1: never */
    } settings;

    /* atomic */
    STEL__ALIGNED(STEL__CACHE_LINE) _Atomic int sleeping; /* workers whose sleep is not AWAKE */
    _Atomic int thieves;                                  /* workers that steal: deque.h */
    _Atomic int searching; /* workers that look for something to steal, or have been woken to do so */
    _Atomic bool halt, closed, guard_asleep;
    _Atomic int64_t rouse_at, rouse_rest; /* not to rouse before; for how long that is. See judge_rousing in idle.c */
    _Atomic uint64_t ticks;               /* of the poller thread, which counts them */
    void (*_Atomic on_empty)(void *context);                      /* NULL: nobody asks */
    _Atomic uint64_t spawned_outside, spawned_outside_background; /* by plain threads */
    _Atomic uint64_t wakes_outside;
    _Atomic int visitors; /* strangers in the middle of a wake: see ready.c */
    _Atomic uint64_t peak_active;

    /* under lock: fibers that could not be given a stack, see starve.c */
    STEL__ALIGNED(STEL__CACHE_LINE) stel__lock starved_lock;
    stel__fifo starved;             /* those that anybody may run */
    _Atomic uint32_t starved_count; /* with those that must run on one worker; read by anybody */
    uint64_t starved_ended;         /* how many have ended for want of a stack, ever */
    uint64_t starved_ends;          /* other ends, seen by the latest look for a stack */
    int64_t starved_looked;         /* when that was */
    int64_t starved_waited;         /* for how long none has ended */

    stel__lock starting; /* held by start until all workers are there: if one cannot be, none has run a fiber */
    stel__inject inject;
    stel__worker *worker[];
};

/* The worker of the calling thread, or NULL. A function, not inlined: compilers may keep a thread-local's address
 * across a switch, after which it is another thread's. */
STEL__NOINLINE stel__worker *stel__worker_self(void);
/* What it reads; by name only in functions that are themselves not inlined and switch nowhere before. */
extern __thread stel__worker *stel__worker_tls __attribute__((tls_model("initial-exec"), visibility("hidden")));
void stel__worker_self_set(stel__worker *w);

/* The fiber that w runs; NULL: w is on its own context. */
static inline stel__fiber *stel__worker_current(const stel__worker *w) {
    return stel__load_relaxed(&w->running);
}

/* worker.c */
void stel__worker_leave(stel__worker *w, enum stel__after after); /* run another fiber; returns when resumed */
/* The same, with a successor that may be run at once. */
void stel__worker_leave_to(stel__worker *w, enum stel__after after, stel__fiber *to);
void stel__worker_run(stel__worker *w, stel__fiber *f); /* from the idle loop */
stel__fiber *stel__worker_pick(stel__worker *w);        /* the next fiber, its stack bound; NULL: nothing here */
STEL_NORETURN void stel__fiber_end(stel__fiber *f, int result);
void stel__fiber_complete(stel__worker *w, stel__fiber *f,
                          int result);                      /* tell the joiner; the block is gone after it */
bool stel__worker_bind(stel__worker *w, stel__fiber *f);    /* the first run: a stack, and a context on it */
bool stel__worker_can_run(stel__worker *w, stel__fiber *f); /* the same; false: it starves */
void stel__worker_look_around(stel__worker *w);             /* clock and timers, and a poll that does not block */

/* May the worker run what is at hand without asking its queues? Then it counts as a dispatch. */
static inline bool stel__worker_may_hand_over(stel__worker *w) {
    uint32_t levels = stel__load_relaxed(&w->levels.bitmap) | stel__load_relaxed(&w->pinned.bitmap);
    uint32_t left = stel__load_relaxed(&w->until_check);
    if (left <= 1 || w->streak >= STEL__STREAK_MAX || levels || stel__load_relaxed(&w->next)) return false;
    stel__store_relaxed(&w->until_check, left - 1);
    w->streak++;
    return true;
}
static inline stel__fiber *stel__worker_take_newest(stel__worker *w) {
    return stel__deque_take(&w->spawns, w->sched->alone ? NULL : &w->sched->thieves);
}
/* f is the worker's newest spawn, and it may be run at once: it is taken, with a stack. */
static inline bool stel__worker_take_unborn(stel__worker *w, stel__fiber *f) {
    if (stel__deque_newest(&w->spawns) != f || !stel__worker_may_hand_over(w)) return false;
    if (stel__worker_take_newest(w) != f) return false; /* a thief was faster: then it was the last */
    return stel__worker_can_run(w, f);
}

/* starve.c */
STEL__COLD void stel__starve(stel__worker *w, stel__fiber *f); /* there is no stack for f */
/* Try one of those that starve: it, with a stack, or NULL. *ended: it was given up, and its joiner woken. */
STEL__COLD stel__fiber *stel__starved_try(stel__worker *w, bool *ended);
void stel__starved_forget(stel__sched *s); /* with the scheduler */

/* ready.c */
void stel__ready(stel__fiber *f);                                   /* a fiber that was woken, from anywhere */
bool stel__ready_here(const stel__worker *w, const stel__fiber *f); /* may w run it, as any other? */
void stel__ready_spawned(stel__worker *w, stel__fiber *f);          /* w NULL: from outside */
void stel__ready_found(stel__worker *w); /* after a poll or timers on its own context: they may have made some */
void stel__ready_yielded(stel__worker *w, stel__fiber *f);
bool stel__wake_worker(stel__worker *w, enum stel__sleep_mode to);
void stel__wake_searcher(stel__sched *s); /* one sleeping worker, if none is searching */
static inline uint64_t stel__worker_backlog(const stel__worker *w) {
    return (uint64_t)(stel__deque_size(&w->spawns) + stel__deque_size(&w->ring)) +
           stel__load_relaxed(&w->levels.count) + stel__load_relaxed(&w->pinned.count) +
           (stel__load_relaxed(&w->next) != NULL);
}

/* idle.c */
void stel__worker_stop_stealing(stel__worker *w);
static inline bool stel__rousing_rests(const stel__worker *w) {
    return w->now < stel__load_relaxed(&w->sched->rouse_at); /* a hint: no partner */
}
void *stel__worker_main(void *worker);
bool stel__poll_claim(stel__poll_point *p, int who);
void stel__poll_release(stel__poll_point *p, int64_t now);

/* sched.c */
stel__wheel *stel__wheel_of(stel__sched *s, uint16_t name);
void stel__sched_sample_peak(stel__sched *s);
void stel__sched_check_empty(stel__sched *s); /* tell who asked if no counted fiber is left */
uint64_t stel__sched_executed(stel__sched *s);

/* life.c, local.c, child.c */
stel__scope_link *stel__child_ending(stel__fiber *f, int result); /* frees f's extra. Its scope, or NULL */
int stel__fiber_cancel(stel_fiber handle, unsigned depth);        /* stel_cancel; depth: of scopes within scopes */
void stel__scopes_cancel(stel_fiber handle, unsigned depth);      /* the children in all its scopes */
STEL_NORETURN STEL__COLD void stel__scope_left_open(const stel__fiber *f);
extern _Atomic unsigned stel__inherited_keys;                            /* how many there are; only grows */
int stel__locals_inherit(stel__fiber *child, const stel__fiber *parent); /* child has an extra. 0 or -ENOMEM */
void stel__locals_destroy(stel__fiber *f);
stel__extra *stel__fiber_extra(stel__fiber *f); /* made if need be; NULL: no memory */
void stel__fiber_extra_free(stel__fiber *f);
void stel__fiber_set_name(stel__fiber *f, const char *name); /* f has an extra */

#endif
