/* sched: fibers and their life, the workers that run them, their queues, and the timing wheels. Knows that fibers sleep
 * but not why. The runtime room starts and stops the workers and plugs in the idle hook, through which workers poll for
 * I/O without knowing what I/O is.
 *
 *   waiter.h  how everything waits and is woken
 *   here      what the other rooms may ask of schedulers and fibers */
#ifndef STEL_SCHED_H
#define STEL_SCHED_H

#include "base/base.h"
#include "host/host.h"
#include "sched/waiter.h"
#include <stellane/fiber.h>
#include <stellane/runtime.h>
#include <stellane/scope.h>

typedef struct stel__sched stel__sched; /* one scheduler: the workers of one runtime */

/* What an idle worker does instead of sleeping: it waits at a point, which is one for all workers or its own. What is done
 * at a point may be done from any worker; wait and poll only by one at a time (sched sees to it). */
typedef struct stel__idle_hook {
    void *context;
    int points;                               /* 1: for all workers; or as many as workers */
    bool first_only;                          /* of all workers the first one waits and polls, and nobody else ever */
    bool owned;                               /* at a point its own worker polls, and nobody else ever */
    void *(*point)(void *context, int i);     /* what to call the others with */
    void (*wait)(void *point, int64_t until); /* block until an event, interrupt or until; wakes whom it finds */
    void (*poll)(void *point);                /* the same without blocking */
    void (*interrupt)(void *point);           /* end a wait from another thread */
    bool (*armed)(void *point);               /* is anything waited for there? if not, poll is skipped */
} stel__idle_hook;

/* ---- life of a scheduler: runtime only ---- */
int stel__sched_create(stel__sched **out, const stel_config *c, stel_runtime *owner, const stel__idle_hook *hook);
int stel__sched_start(stel__sched *s);               /* start the worker threads */
void stel__sched_close(stel__sched *s, bool closed); /* refuse spawns from outside from now on, or no longer */
/* Put those settings in force that may change while it runs; checked ones. */
void stel__sched_apply(stel__sched *s, const stel_config *c);
void stel__sched_halt(stel__sched *s);    /* stop and join the workers; no fiber may be left */
void stel__sched_destroy(stel__sched *s); /* stale-ify every handle, free everything */
stel_runtime *stel__sched_owner(stel__sched *s);
stel__sched *stel__sched_current(void); /* the caller's, or NULL on a plain thread */
void *stel__sched_point(void);          /* the point where the calling fiber's worker waits (stel__idle_hook) */
/* In the child of a fork: the fiber that forked goes on as a plain thread, as its worker and all other fibers are the
 * parent's. So nothing that it does can switch to them. */
void stel__sched_in_child(void);

int stel__sched_spawn(stel__sched *s, stel_fiber *out, const stel_spawn_options *o, stel_fn *fn, void *arg,
                      void *spawn_site);

/* Where stel_spawn of a plain thread goes: pin gives the oldest running scheduler and keeps it from being destroyed
 * until unpin; NULL: none runs. Installed by the runtime room before the first scheduler is created. */
void stel__sched_set_default(stel__sched *(*pin)(void), void (*unpin)(stel__sched *));

/* ---- scopes: sync makes them (sync/scope.c), sched knows who has which open and who was spawned into which ---- */
typedef struct stel__scope_link stel__scope_link;
/* A fiber's place in the scope that it was spawned into. The scope's, from born to ending. */
typedef struct stel__child {
    stel__link link;
    stel__scope_link *scope;
    stel_fiber fiber;
    bool cancelled; /* the scope's own use */
} stel__child;
typedef struct stel__scope_ops {
    void (*born)(stel__scope_link *s, stel__child *child); /* before it can run; its handle works a little later */
    void (*ending)(stel__child *child, int result);        /* by the child, which is not yet counted as ended */
    void (*ended)(stel__scope_link *s);                    /* by what was the child; the last it does */
    size_t (*collect)(stel__scope_link *s, stel_fiber *children, size_t n); /* up to n that are to be cancelled with the
                                                              opener, each once. Under the opener's extra lock */
    void (*close)(stel__scope_link *s); /* stel_exit: cancel, wait, stel__scope_pop */
} stel__scope_ops;
/* What a fiber has open: a scope, or anything else that stel_exit must close (then only collect and close count). */
struct stel__scope_link {
    const stel__scope_ops *ops;
    stel__scope_link *outer; /* opened by the same fiber before */
};
/* The calling fiber has opened s, and closes it. push: 0, or -ENOMEM; *cancelled: it has been. */
int stel__scope_push(stel__scope_link *s, bool *cancelled);
void stel__scope_pop(stel__scope_link *s);
typedef struct stel__child_request {
    stel__scope_link *scope;
    stel__sched *home; /* NULL: where stel_spawn of the calling plain thread goes */
    int64_t deadline;
    bool background;
} stel__child_request;
/* Detached: its scope waits for it. *out: the handle, for cancelling. */
int stel__sched_spawn_child(stel_fiber *out, const stel__child_request *c, stel_fn *fn, void *arg, void *spawn_site);
bool stel__sched_self_is_background(void); /* is the caller a background fiber? */

/* Live fibers: all, and counted ones (without background). Exact when it returns 0 for counted: see sched.c. */
uint64_t stel__sched_live(stel__sched *s);
uint64_t stel__sched_live_counted(stel__sched *s);
/* fn is called by workers (on their own stack) and by the tick that find no counted fiber, again and again while there is
 * none; a worker that calls may be about to sleep: fn must not make fibers runnable. NULL: not any more; a call may be
 * on its way still. Always the same context. */
void stel__sched_on_empty(stel__sched *s, void (*fn)(void *context), void *context);
void stel__sched_cancel_all(stel__sched *s, bool background_only);
void stel__sched_report_survivors(stel__sched *s); /* lines on stderr: name, age, what it waits for */
/* For stel__overflow_install: writes a line about the fiber that the stack belongs to. In a signal handler. */
void stel__sched_describe_overflow(int fd, const stel__stack *s, const void *address);
/* Called every one to four milliseconds by the poller thread: polls for descriptors if no worker did, expires wheels of
 * stuck workers, wakes a worker for a backlog, reports stalls. */
enum stel__tick {
    STEL__TICK_ASLEEP, /* every worker sleeps */
    STEL__TICK_MOVING, /* those that do not have all switched since the last tick, and nothing was to be done for them */
    STEL__TICK_NEEDED
};
enum stel__tick stel__sched_tick(stel__sched *s, int64_t now, int64_t tick_ns);
/* The poller thread is going to sleep for good / is awake. on_guard_needed is called by a worker that leaves sleep
 * meanwhile. */
bool stel__sched_guard_sleep(stel__sched *s); /* false: somebody is awake after all */
void stel__sched_guard_awake(stel__sched *s);
void stel__sched_on_guard_needed(stel__sched *s, void (*fn)(void *context), void *context);

/* ---- figures: observe only ---- */
void stel__sched_stats(stel__sched *s, stel_stats *out);
int stel__sched_worker_stats(stel__sched *s, int worker, stel_worker_stats *out);
int64_t stel__sched_worker_cpu(stel__sched *s, int worker); /* ns on a CPU; only between start and halt */

/* The seeded oracle of the calling worker (fibers), or a thread-local one. */
stel__oracle *stel__oracle_self(void);

#endif
