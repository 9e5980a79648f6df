/* The timing wheel of a worker: see wheel.c. */
#ifndef STEL_SCHED_WHEEL_H
#define STEL_SCHED_WHEEL_H

#include "sched/fiber.h"

enum { STEL__WHEEL_SHIFT = 14, STEL__WHEEL_BITS = 6, STEL__WHEEL_SLOTS = 64, STEL__WHEEL_LEVELS = 9 };
_Static_assert(STEL__WHEEL_SHIFT + STEL__WHEEL_BITS * STEL__WHEEL_LEVELS >= 63, "every int64_t time has a slot");

typedef struct stel__wheel {
    stel__lock lock;
    uint16_t name;        /* 1 + the worker's number: what a fiber's `wheel` says while its timer is here; fixed */
    _Atomic int64_t next; /* nothing fires before this; STEL_FOREVER when empty. Written under lock */
    /* under lock */
    int64_t tick; /* time up to which slots have been emptied, in ticks of 2^STEL__WHEEL_SHIFT ns */
    uint64_t bitmap[STEL__WHEEL_LEVELS];                    /* slots that may have timers */
    stel__link slot[STEL__WHEEL_LEVELS][STEL__WHEEL_SLOTS]; /* circular, the slot itself is the sentinel */
} stel__wheel;

void stel__wheel_init(stel__wheel *w, uint16_t name, int64_t now);
/* Make sure that f's timer fires at `limit` or before; mine is the calling worker's wheel, where the timer goes if it
 * has to move. of finds a wheel by its name. By the fiber itself, for the wait that it has begun. */
void stel__wheel_arm(stel__wheel *mine, stel__wheel *(*of)(stel__sched *s, uint16_t name), stel__fiber *f,
                     int64_t limit);
/* Take f's timer off the wheel it is on, if any. By the fiber itself. */
void stel__wheel_disarm(stel__wheel *(*of)(stel__sched *s, uint16_t name), stel__fiber *f);
/* Fire what is due. Returns how many waits were ended. Any thread. */
unsigned stel__wheel_expire(stel__wheel *w, int64_t now);
/* Take everything off: the worker is going away. */
void stel__wheel_clear(stel__wheel *w);

/* In waiter.c: the timer of f has fired. Ends the wait if its limit has passed; otherwise says when to fire again, or
 * STEL_FOREVER when f has no use for its timer now. */
int64_t stel__waiter_timer_fired(stel__fiber *f, int64_t now, unsigned *ended);

#endif
