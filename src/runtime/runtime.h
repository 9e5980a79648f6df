/* runtime: wiring. Puts a poller, a scheduler and a guardian thread together, starts them, stops them. Nobody includes
 * this but the room itself. The course of a runtime's life is in stop.c, the guardian thread in guardian.c, what may be
 * set and when in settings.c. */
#ifndef STEL_RUNTIME_H
#define STEL_RUNTIME_H

#include "base/base.h"
#include "host/host.h"
#include "poller/poller.h"
#include "sched/sched.h"
#include <stellane/runtime.h>

/* Where a runtime stands; what is true in each, and who takes each edge, is in stop.c. The order counts: is it stopping
 * is state >= STOPPING. */
enum stel__runtime_state {
    STEL__RUNTIME_CREATED,
    STEL__RUNTIME_STARTING,
    STEL__RUNTIME_RUNNING,
    STEL__RUNTIME_STOPPING,
    STEL__RUNTIME_CANCELLING,
    STEL__RUNTIME_STUCK,
    STEL__RUNTIME_HALTED
};

/* The guardian's own notes. Touched by its thread only. */
typedef struct stel__guardian {
    int64_t interval; /* between two ticks */
    int64_t tick_at;  /* the next of each */
    int64_t heal_at, heal_every;
    int64_t scavenge_at;
    int scavenges_due;               /* scavenges that a rested runtime still has before it */
    bool asleep;                     /* announced as asleep for good: guard_awake is owed */
    bool over;                       /* HALTED was entered: nothing of the runtime may be touched any more */
    bool acceptors_told;             /* of the stop that is on */
    int64_t probe;                   /* during a stop: how long until the next look for fibers */
    int64_t cancel_at, cancel_every; /* the next repetition of the cancellation */
    int64_t patience;                /* how long cancelled fibers have */
} stel__guardian;

/* What is made afresh by each start: a restart puts a new one in place and frees the old. */
typedef struct stel__life {
    /* fixed */
    stel__pollers *pollers;
    stel__idle_hook hook;
    stel__sched *sched;

    /* atomic */
    stel__futex gate; /* the guardian waits here until start knows how it went: enum in guardian.c */

    /* under the runtime's lock */
    int64_t started_at, started_realtime, stopped_at;
    bool halting;         /* the workers' threads may be gone */
    int64_t worker_cpu[]; /* CPU time of each worker at its end */
} stel__life;

struct stel_runtime {
    /* under lock */
    stel__lock lock;
    stel_config config;   /* every default filled in. worker_threads and backend are fixed */
    bool restarting;      /* somebody is in stel_runtime_restart: the runtime must stay, and HALTED is not the end */
    int64_t grace_until;  /* STOPPING: when all fibers are cancelled */
    int64_t cancel_until; /* CANCELLING: when we give up. Written by the guardian */
    stel__list waiters;   /* stel__node: those who wait for the end. Under stop.c's lock of waiters, too */

    /* atomic */
    _Atomic int state;          /* written under lock; release, pairs with the acquire of state() */
    _Atomic(stel__life *) life; /* written under lock, while no guardian and no worker run */
    stel__futex signal;         /* counts what the guardian should look at; it sleeps on it */

    /* start, restart and destroy, one after the other */
    pthread_t guardian_thread;
    bool has_guardian; /* it is to be joined */

    /* calls in progress that the end of a life has to wait for: see registry.c */
    _Atomic unsigned pins;

    /* under the registry's lock */
    stel__link link;
    bool registered;

    stel__guardian guardian;

    /* stel_run: the first fiber. Not on stel_run's stack, as the fiber may outlive the call (see run.c). */
    struct {
        stel_fn *fn;
        void *arg;
        int result;
    } root;
};

static inline int stel__runtime_state(const stel_runtime *rt) {
    /* pairs with the release in stel__runtime_enter */
    return stel__load_acquire(&rt->state);
}
static inline void stel__runtime_enter(stel_runtime *rt, int from, int to) {
    STEL__ASSERT(stel__load_relaxed(&rt->state) == from);
    stel__store_release(&rt->state, to);
}

/* The life that is on: for its own fibers and guardian, and under the lock; everybody else must hold a pin. */
static inline stel__life *stel__runtime_life(const stel_runtime *rt) {
    return stel__load_acquire(&rt->life); /* pairs with the release in install, runtime.c */
}

/* ---- settings.c ---- */
/* Fill in what depends on the machine or on chance, and check what the table of settings cannot. 0 or -EINVAL. */
int stel__settings_settle(stel_config *c, bool in_stel_run);
/* Have the life that is on follow rt->config. Under the lock, or before anybody knows the life. */
void stel__settings_apply(stel_runtime *rt, stel__life *life);

/* ---- runtime.c ---- */
/* Stale-ify and free, whatever was spawned and never ran with it. Neither guardian nor workers run. */
void stel__runtime_free(stel_runtime *rt);

/* ---- stop.c ---- */
/* Ask for the stop; a second call may only shorten the grace. Any thread, any fiber; never waits. -EINVAL: it was never
 * started. */
int stel__runtime_begin_stop(stel_runtime *rt, int64_t grace_ns);
/* Wait until the runtime has halted: 0, or -EBUSY when it got stuck, -EINVAL when it was never started; cut short by
 * the caller's limits unless flags says STEL__PARK_UNINTERRUPTIBLE. The runtime may be gone when it returns. */
int stel__runtime_await(stel_runtime *rt, unsigned flags);
/* begin_stop and await in one. */
int stel__runtime_stop(stel_runtime *rt, int64_t grace_ns);
/* A start has failed: back to the state that it came from, CREATED or HALTED. Under the lock. */
void stel__runtime_not_started(stel_runtime *rt, int from);
/* What the guardian does about a stop at this time: returns when it wants to look again. In state HALTED it has ended.
 */
int64_t stel__runtime_drive_stop(stel_runtime *rt, int64_t now);
/* stel__sched_on_empty's callback: auto-shutdown, if it is on and no counted fiber is left. */
void stel__runtime_on_empty(void *rt);

/* ---- guardian.c ---- */
/* Start the thread, at its gate; then let it in, or send it home and join it. */
int stel__guardian_start(stel_runtime *rt);
void stel__guardian_admit(stel_runtime *rt);
void stel__guardian_dismiss(stel_runtime *rt);
bool stel__guardian_admitted(const stel__life *life); /* its start is over, and it went well */
void stel__guardian_join(stel_runtime *rt);           /* after HALTED; again: nothing */
void stel__guardian_signal(stel_runtime *rt);         /* look at the state again */
void stel__guardian_needed(void *rt);                 /* stel__sched_on_guard_needed's callback */

/* ---- registry.c ---- */
stel__life *stel__runtime_pin(stel_runtime *rt); /* the life that stays until unpin */
void stel__runtime_unpin(stel_runtime *rt);
bool stel__runtime_pinned(stel_runtime *rt);  /* ordered after everything the caller did before */
void stel__registry_add(stel_runtime *rt);    /* it runs */
void stel__registry_remove(stel_runtime *rt); /* it does not run any more: it is found no more */
/* The scheduler of the oldest running runtime, pinned; NULL: none runs. */
stel__sched *stel__registry_enter(void);
void stel__registry_leave(stel__sched *s);

#endif
