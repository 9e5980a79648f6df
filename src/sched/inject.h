/* The injection queue of a scheduler: fibers made runnable by those who have no queue of their own there (plain
 * threads, the poller thread, other runtimes' workers). A bounded multi-producer multi-consumer ring (Dmitry Vyukov,
 * "Bounded MPMC queue", 2010: every cell carries the turn it is ready for; no locks, though a producer that stalls
 * between its two steps holds up the cells behind it), and a linked list under a lock for what does not fit. Nothing is
 * ever refused. */
#ifndef STEL_SCHED_INJECT_H
#define STEL_SCHED_INJECT_H

#include "sched/fiber.h"

/* Fibers in a row, through queue.run_next. Whoever owns the queue has the lock that it needs. */
typedef struct stel__fifo {
    stel__fiber *head, *tail;
} stel__fifo;

static inline void stel__fifo_push(stel__fifo *q, stel__fiber *f) {
    stel__store_relaxed(&f->queue.run_next, NULL);
    if (q->tail)
        stel__store_relaxed(&q->tail->queue.run_next, f);
    else
        q->head = f;
    q->tail = f;
}

static inline stel__fiber *stel__fifo_pop(stel__fifo *q) {
    stel__fiber *f = q->head;
    if (!f) return NULL;
    q->head = stel__load_relaxed(&f->queue.run_next);
    if (!q->head) q->tail = NULL;
    /* The word shares its place with the wait's limit, of which a fiber that runs has none. */
    stel__store_relaxed(&f->queue.limit, STEL_FOREVER);
    return f;
}

enum { STEL__INJECT_CELLS = 1024 };

typedef struct stel__inject_cell {
    _Atomic uint64_t turn; /* position: free for that push; position + 1: ready for that pop */
    stel__fiber *fiber;
} stel__inject_cell;

typedef struct stel__inject {
    STEL__ALIGNED(STEL__CACHE_LINE) _Atomic uint64_t push_at;
    STEL__ALIGNED(STEL__CACHE_LINE) _Atomic uint64_t pop_at;
    STEL__ALIGNED(STEL__CACHE_LINE) stel__lock lock;
    _Atomic uint32_t spilled; /* on the list; changed under lock */
    stel__fifo list;          /* under lock */
    stel__inject_cell cell[STEL__INJECT_CELLS];
} stel__inject;

void stel__inject_init(stel__inject *q);
void stel__inject_push(stel__inject *q, stel__fiber *f);
stel__fiber *stel__inject_pop(stel__inject *q);
/* A guess, unless ordered by a fence: see the idle protocol in worker.c. */
static inline uint64_t stel__inject_size(const stel__inject *q) {
    uint64_t pop = stel__load_relaxed(&q->pop_at), push = stel__load_relaxed(&q->push_at);
    return (push > pop ? push - pop : 0) + stel__load_relaxed(&q->spilled);
}

/* Runnable fibers by priority level, each level first in first out, under a lock: those with a priority of their own,
 * and those that must run on one worker. Level 0 is the most urgent. */
typedef struct stel__levels {
    stel__lock lock;
    _Atomic uint32_t bitmap; /* which levels have fibers; changed under lock */
    _Atomic uint32_t count;  /* changed under lock */
    stel__fifo level[STEL__LEVELS];
} stel__levels;

void stel__levels_push(stel__levels *l, stel__fiber *f);
/* The first of the most urgent level among `wanted` (a bitmap). */
stel__fiber *stel__levels_pop(stel__levels *l, uint32_t wanted);

#endif
