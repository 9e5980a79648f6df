/* Workers that go to sleep, and everybody who wakes them: src/sched/ready.c, idle.c, guard.c.
 *
 * Fibers are counted, not told apart. `inject` is the injection queue, `own` a worker's deques and ring (its backlog).
 * Strangers push to inject; a fiber that runs may push to its worker's own queue, or park on the descriptor; a hog is a
 * fiber that does not leave its worker before another one, which it has spawned, has run. The kernel makes the
 * descriptor ready once; the poll, blocking or not, then finds it.
 *
 * Scenes (-DSCENE=n)
 *   1  one worker, three strangers, a sleep that ends by its timer           the injection queue
 *   2  two workers, a stranger, fibers that spawn                           stealing, searching
 *   3  one worker, the guard, a fiber that parks on a descriptor             who polls
 *   4  two workers, a stranger and the descriptor                            futex wake and poll wake
 *   5  two workers, the guard, a hog                                         the guard must not sleep
 *   6  two workers, a stranger, and the halt                                 the end
 *
 * Properties
 *   S1  when nothing moves any more (timeout) no fiber is runnable, nor parked on a descriptor that is ready; with the
 *       halt, all workers have ended
 *   S2  `sleeping` and `searching` are never negative, and in the end `sleeping` is the number of workers
 *   S3  one at a time polls
 *   S4  a worker that counts as searching comes to an end of it: searching is 0 when nothing moves
 *   S5  when the last fiber has ended, a worker that goes to sleep sees it
 *
 * scenes: 1 2 3 4 5 6
 * bug 1 in 1: no second look after the announcement
 * bug 2 in 6: the second look comes before the announcement
 * bug 3 in 4: a worker in the poll is woken as one on a futex
 * bug 4 in 2: a worker that was woken to search does not know that it is counted
 * bug 5 in 1: a stranger looks for sleepers before it pushes
 * bug 6 in 1: a waker that counted as a searcher, and found nobody asleep, does not look again
 * bug 7 in 3: nobody mends it when the guard's poll was in the way of the last worker's
 * bug 8 in 2: a worker leaves its sleep by a store, not by a swap
 * bug 9 in 5: a worker that leaves its sleep does not look whether the guard sleeps
 * bug 10 in 6: a worker is asleep before it is counted
 * bug 11 in 1: the end of the last fiber is missed when the count of sleepers is too high for a moment
 * bug 12 in 5: the guard wakes nobody for a backlog */

#ifndef BUG
#define BUG 0
#endif
#ifndef SCENE
#define SCENE 1
#endif

#if SCENE == 1
#define WORKERS 1
#define STRANGERS 3
#define TIMERS 1
#elif SCENE == 2
#define WORKERS 2
#define STRANGERS 1
#define SPAWNS 2
#elif SCENE == 3
#define WORKERS 1
#define STRANGERS 1
#define DESCRIPTOR
#define GUARD
#elif SCENE == 4
#define WORKERS 2
#define STRANGERS 1
#define DESCRIPTOR
#elif SCENE == 5
#define WORKERS 2
#define STRANGERS 1
#define HOG
#define GUARD
#elif SCENE == 6
#define WORKERS 2
#define STRANGERS 1
#define HALT
#endif
#ifndef TIMERS
#define TIMERS 0
#endif
#ifndef SPAWNS
#define SPAWNS 0
#endif

#define AWAKE     0
#define FUTEX     1
#define POLL      2
#define TO_SEARCH 3

byte sleep[WORKERS];
short sleeping, searching;
byte claim;                     /* of the poll: 1 + the worker, 100 the guard, 0 nobody */
byte inject, own[WORKERS];
byte runnable;                  /* ghost: pushed and not yet run */
bool interrupted;               /* the eventfd has an edge that no wait has seen */
bool in_futex[WORKERS];
byte spawns = SPAWNS, timers = TIMERS;
bool halt;
byte ended;
byte pollers;                   /* ghost */

/* the descriptor: a fiber parks on it once */
bool armed, parked, ready, was_ready;
bool hog_spawned, hog_helped;

bool guard_asleep, guard_signal;

#define check() assert(sleeping >= 0 && searching >= 0)

byte live;                      /* ghosts: fibers that have not ended; was it seen since that there is none */
bool empty_seen;

/* stel__wake_worker: done says whether this call woke it */
inline wake_worker(v, to, done) {
    done = false;
    mode = sleep[v];
    if
    :: mode == FUTEX || mode == POLL ->
        atomic {
            if
            :: sleep[v] == mode -> sleep[v] = to; done = true
            :: else
            fi
        };
        if
        :: done ->
            atomic { sleeping--; check() };
#if BUG == 3
            in_futex[v] = false                         /* whatever the mode */
#else
            if
            :: mode == FUTEX -> in_futex[v] = false     /* futex_wake: whoever is in there */
            :: mode == POLL -> interrupted = true
            fi
#endif
        :: else
        fi
    :: else
    fi;
    mode = 0
}

inline wake_searcher() {
    do
    :: atomic {
            if
            :: searching == 0 -> searching = 1; done = true
            :: else -> done = false
            fi
        };
        if
        :: !done -> break
        :: else
        fi;
        done = false;
        pass = FUTEX;
        do
        :: pass > POLL || done -> break
        :: pass <= POLL && !done ->
            v = 0;
            do
            :: v == WORKERS || done -> break
            :: v < WORKERS && !done ->
                if
#if BUG == 4
                :: sleep[v] == pass -> wake_worker(v, AWAKE, done)      /* it does not learn that it is counted */
#else
                :: sleep[v] == pass -> wake_worker(v, TO_SEARCH, done)
#endif
                :: else
                fi;
                v++
            od;
            pass++
        od;
        if
        :: done -> break
        :: else
        fi;
        atomic { searching--; check() };
#if BUG == 6
        break;
#endif
        /* look again: what was pushed while we counted as a searcher */
        if
        :: inject == 0 -> break
        :: else
        fi;
        atomic {
            v = 0;
            do
            :: v < WORKERS && sleep[v] != FUTEX && sleep[v] != POLL -> v++
            :: else -> break
            od
        };
        if
        :: v == WORKERS -> break
        :: else
        fi
    od;
    atomic { v = 0; pass = 0; done = false }
}

inline push_inject() {
    atomic { inject++; runnable++; live++; empty_seen = false }
}

inline notify_outside() {
    if
    :: sleeping != 0 ->
        if
        :: searching == 0 -> wake_searcher()
        :: else
        fi
    :: else
    fi
}

/* After a push by worker me: only for a backlog. */
inline notify_own() {
#if WORKERS > 1
    if
    :: sleeping != 0 ->
        if
        :: searching == 0 ->
            if
            :: own[me] > 1 -> wake_searcher()
            :: else
            fi
        :: else
        fi
    :: else
    fi
#else
    skip
#endif
}

proctype stranger() {
    byte v, pass, mode;
    bool done;
#if BUG == 5
    if
    :: sleeping != 0 && searching == 0 -> push_inject(); wake_searcher()
    :: else -> push_inject()
    fi
#else
    push_inject();
    notify_outside()
#endif
}

#ifdef DESCRIPTOR
/* The kernel, once: after the fiber has registered its descriptor. */
proctype kernel() {
    atomic { armed && parked -> ready = true; was_ready = true }
}

/* An event is found: the slot wakes its fiber; me is on its own context, so the ring's end. */
#define event_of_worker() atomic { \
        if \
        :: ready && parked -> ready = false; parked = false; own[me]++; runnable++ \
        :: else \
        fi }
#endif

inline stop_searching(found) {
    if
    :: is_searching ->
        is_searching = false;
        atomic { last = (searching == 1); searching--; check() };
        if
        :: found && last && sleeping != 0 ->
            atomic {
                backlog = inject; v = 0;
                do
                :: v < WORKERS -> backlog = backlog + own[v]; v++
                :: else -> break
                od
            };
            if
            :: backlog > 1 -> wake_searcher()
            :: else
            fi
        :: else
        fi;
        atomic { backlog = 0; v = 0; last = false }
    :: else
    fi
}

/* What a fiber does on worker me. */
inline run_fiber() {
    if
#ifndef HOG
    :: skip
#endif
#if SPAWNS
    :: atomic { spawns > 0 -> spawns--; own[me]++; runnable++; live++ }; notify_own()
    :: atomic { spawns > 1 -> spawns = spawns - 2; own[me] = own[me] + 2; runnable = runnable + 2; live = live + 2 };
        notify_own()
#endif
#ifdef DESCRIPTOR
    :: atomic { !armed -> armed = true }; atomic { parked = true; live++ }          /* lives on */
#endif
#ifdef HOG
    :: atomic { !hog_spawned -> hog_spawned = true; own[me]++; runnable++; live++ };
        notify_own();
        hog_helped                                      /* does not leave its worker before */
    :: atomic { hog_spawned && !hog_helped -> hog_helped = true }                       /* the other one */
#endif
    fi
}

proctype worker(byte me) {
    byte v, pass, mode, backlog, how;
    bool done, is_searching, found, last, polls;
#ifdef HOG
    how = FUTEX;
    goto in_futex_wait;
#endif
    do
    :: halt -> break
    :: !halt ->
        /* find_work */
        found = false;
        atomic {
            if
            :: own[me] > 0 -> own[me]--; found = true
            :: else
            fi
        };
        if
        :: !found ->
            atomic {
                if
                :: inject > 0 -> inject--; found = true
                :: else
                fi
            }
        :: else
        fi;
#if WORKERS > 1
        if
        :: !found ->
            if
            :: !is_searching -> is_searching = true; atomic { searching++; check() }
            :: else
            fi;
            atomic {
                if
                :: own[1 - me] > 0 -> own[1 - me]--; found = true
                :: else
                fi
            }
        :: else
        fi;
#endif
        if
        :: found ->
            stop_searching(true);
#ifdef DESCRIPTOR
            /* now and then it looks around: a poll that does not block */
            if
            :: atomic { armed && claim == 0 -> claim = 1 + me };
                atomic { pollers++; assert(pollers == 1) };
                event_of_worker();
                atomic { pollers--; claim = 0 }
            :: skip
            fi;
#endif
            atomic { runnable--; found = false };
            run_fiber();
            live--
        :: else ->
            /* go_to_sleep */
            how = FUTEX; polls = false;
#ifdef DESCRIPTOR
            if
            :: armed ->
                atomic {
                    if
                    :: claim == 0 -> claim = 1 + me; how = POLL; polls = true
                    :: else
                    fi
                }
            :: else
            fi;
#endif
#if BUG == 2
            /* looks, and announces after it */
            done = (halt || inject > 0 || own[0] > 0 || own[WORKERS - 1] > 0);
            atomic { sleeping++; check() };
            sleep[me] = how;
            stop_searching(false);
#elif BUG == 10
            sleep[me] = how;
            atomic { sleeping++; check() };
            stop_searching(false);
#else
            atomic { sleeping++; check() };
            sleep[me] = how;
            stop_searching(false);
#endif
            /* fence; anything_to_do: one look after the other */
#if BUG == 1
            done = false;
#elif BUG != 2
            done = halt;
            if
            :: !done -> done = (inject > 0)
            :: else
            fi;
            atomic {
                v = 0;
                do
                :: v == WORKERS || done -> break
                :: v < WORKERS && !done -> done = (own[v] > 0); v++
                od;
                v = 0
            }
#endif
            if                                          /* check_empty */
#if BUG == 11
            :: !done && sleeping == WORKERS && live == 0 -> empty_seen = true
#else
            :: !done && sleeping >= WORKERS && live == 0 -> empty_seen = true
#endif
            :: else
            fi;
            if
            :: done
            :: !done && how == FUTEX ->
                atomic {                                /* the kernel looks, and puts us to sleep */
                    if
                    :: sleep[me] == FUTEX -> in_futex[me] = true
                    :: else
                    fi
                };
in_futex_wait:  if
                :: !in_futex[me]
                :: timers > 0 -> atomic { timers--; in_futex[me] = false }
                fi
#ifdef DESCRIPTOR
            :: !done && how == POLL ->
                atomic { pollers++; assert(pollers == 1) };         /* S3 */
                if
                :: atomic { interrupted -> interrupted = false }
                :: ready && parked -> event_of_worker()
                fi;
                atomic { pollers--; skip }
#endif
            fi;
            done = false;
#if BUG == 8
            if
            :: sleep[me] == TO_SEARCH -> is_searching = true; sleep[me] = AWAKE
            :: else -> sleep[me] = AWAKE; atomic { sleeping--; check() }
            fi;
#else
            atomic {
                if
                :: sleep[me] == how -> sleep[me] = AWAKE; done = true
                :: else
                fi
            };
            if
            :: done -> atomic { sleeping--; check() }
            :: else -> is_searching = (sleep[me] == TO_SEARCH); sleep[me] = AWAKE
            fi;
#endif
            done = false;
#ifdef DESCRIPTOR
            if
            :: polls -> claim = 0; polls = false
            :: else
            fi;
#endif
            how = 0;
#if defined(GUARD) && BUG != 9
            if
            :: guard_asleep -> guard_signal = true
            :: else
            fi
#else
            skip
#endif
        fi
    od;
    stop_searching(false);
    ended++
}

#ifdef GUARD
/* The poller thread. A tick that finds all asleep may be the last before it sleeps for good. Ticks that would come to
 * nothing are so many only, or the guard alone would keep things moving and hide that all else is stuck. */
#define everybody_asleep (sleep[0] != AWAKE && sleep[0] != TO_SEARCH && \
                          sleep[WORKERS - 1] != AWAKE && sleep[WORKERS - 1] != TO_SEARCH)
#ifdef DESCRIPTOR
#define would_find (armed && claim == 0 && ready && parked)
#else
#define would_find false
#endif
#if BUG == 12
#define would_wake false
#else
#define would_wake (sleeping != 0 && searching == 0 && (inject > 0 || own[0] > 0 || own[WORKERS - 1] > 0))
#endif
#define would_act (everybody_asleep || would_find || would_wake)
proctype guard() {
    byte v, pass, mode;
    byte ticks = 2;
    bool done, all_asleep, backlog;
#ifdef HOG
    goto asleep_for_good;
#endif
    do
    :: atomic {
            if
            :: would_act
            :: !would_act && ticks > 0 -> ticks--
            fi
        };
        /* stel__sched_tick */
        backlog = (inject > 0);
        all_asleep = true;
        atomic {                                        /* what it sees is a guess in any case */
            v = 0;
            do
            :: v == WORKERS -> break
            :: v < WORKERS ->
                if
                :: sleep[v] == FUTEX || sleep[v] == POLL
                :: else -> all_asleep = false; backlog = backlog || (own[v] > 0)
                fi;
                v++
            od;
            v = 0
        };
#ifdef DESCRIPTOR
        if
        :: !all_asleep && armed ->
            atomic {
                if
                :: claim == 0 -> claim = 100; done = true
                :: else -> done = false
                fi
            };
            if
            :: done ->
                atomic { pollers++; assert(pollers == 1) };
                atomic {
                    if
                    :: ready && parked -> ready = false; parked = false; inject++; runnable++
                    :: else -> done = false
                    fi
                };
                if
                :: done -> notify_outside()
                :: else
                fi;
                atomic { pollers--; claim = 0 }
            :: else
            fi
        :: else
        fi;
#if BUG != 7
        if
        :: all_asleep && armed && claim == 0 ->
            wake_searcher();                            /* the last one found our poll in its way */
            all_asleep = false
        :: else
        fi;
#endif
#endif
        if
#if BUG == 12
        :: false
#else
        :: backlog && sleeping != 0 && searching == 0 -> wake_searcher()
#endif
        :: else
        fi;
        done = false; backlog = false;
        /* stel__sched_guard_sleep */
        if
        :: all_asleep ->
            guard_asleep = true;
            v = 0; done = true;
            do
            :: v == WORKERS || !done -> break
            :: v < WORKERS && done -> done = (sleep[v] == FUTEX || sleep[v] == POLL); v++
            od;
            v = 0;
            if
            :: done ->
                done = false;
asleep_for_good: atomic { guard_signal -> guard_signal = false };
                guard_asleep = false
            :: else -> guard_asleep = false
            fi
        :: else
        fi;
        all_asleep = false
    od
}
#endif

#ifdef HALT
proctype halter() {
    byte v, mode;
    bool done;
    halt = true;
    for (v : 0 .. WORKERS - 1) {
        wake_worker(v, AWAKE, done)
    }
}
#endif

init {
    byte i;
    atomic {
        for (i : 0 .. WORKERS - 1) {
            run worker(i)
        };
#if STRANGERS > 0
        for (i : 1 .. STRANGERS) {
            run stranger()
        };
#endif
#ifdef HOG
        for (i : 0 .. WORKERS - 1) {
            sleep[i] = FUTEX; in_futex[i] = true        /* it begins with everybody asleep */
        };
        sleeping = WORKERS; guard_asleep = true;
#endif
#ifdef DESCRIPTOR
        run kernel();
#endif
#ifdef GUARD
        run guard();
#endif
#ifdef HALT
        run halter();
#endif
        i = 0
    };
end:
    timeout ->
#ifdef HALT
    assert(ended == WORKERS && searching == 0);                         /* S1, S4 */
#else
    assert(runnable == 0);                                              /* S1 */
    assert(!(ready && parked));
    assert(searching == 0 && sleeping == WORKERS);                      /* S4, S2 */
    assert(empty_seen || live > 0);                                     /* S5 */
#ifdef HOG
    assert(!hog_spawned || hog_helped);
#endif
#endif
stop:
    false
}
