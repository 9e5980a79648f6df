/* sync: the waiting rules. Locks, signals, channels and select, for fibers and plain threads in any mixture; every one
 * of them a thin user of the waiter (sched/waiter.h). What they do is written in the public headers:
 *
 *   stellane/sync.h   mutex.c, cond.c, event.c, waitgroup.c, rwlock.c, sem.c, barrier.c, once.c
 *   stellane/chan.h   chan.c, select.c
 *   stellane/scope.h  scope.c, token.c
 *
 * All of them are public, so this door has nothing of its own: the rooms above use the same calls as everybody. */
#ifndef STEL_SYNC_H
#define STEL_SYNC_H

#include "sched/sched.h"
#include <stellane/chan.h>
#include <stellane/sync.h>

#endif
