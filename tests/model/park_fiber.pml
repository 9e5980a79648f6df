/* One fiber that waits, and everybody who may end its wait: src/sched/waiter.c, finish_park in src/sched/worker.c.
 *
 * The fiber F lives through GENERATIONS lives in one control block and waits WAITS times in each; what kind each wait
 * is (interruptible, for a token, shielded, with a time limit) is chosen at random. Two workers run it, so that it may
 * be running on one while the other is still busy with what it left. Around it:
 *   wakers     the object's: each takes F's node off a queue (under the lock, so in one step), and wakes by ticket
 *              whenever it likes: perhaps when that wait has long been over
 *   timer      stel__waiter_timer_fired, at any moment, again and again; a wait's limit is always due
 *   canceller  stel_cancel with the handle of the first life
 *   unparker   stel_unpark with the handle of the first life
 *
 * The word is sequence, state, flags and cause in one integer, as in the library; each access to it is one step.
 * `link` is the union of `limit` and `run_next`: while F is runnable and in a linked queue it belongs to the queue.
 *
 * Properties
 *   P1  F is run by one worker at a time, and never before its context was saved
 *   P2  F is made runnable exactly once a wait
 *   P3  exactly one party wins a wait; a party that names an old wait, or an old life, never does
 *   P4  no wake, cancellation or token is lost: F gets to its end (no deadlock), if somebody is there to end each wait
 *   P5  a wait without a limit does not time out; one behind a shield is not cancelled before the shield's time is over
 *   P6  nobody but its queue writes `link` of a runnable fiber
 *
 * scenes: 1 2 3 4 5
 * bug 1 in 1: finish_park stores PARKED instead of swapping it
 * bug 2 in 2: finish_park does not look at life again (cancellation)
 * bug 2 in 4: finish_park does not look at life again (token)
 * bug 3 in 1: a waker that finds PREPARED makes the fiber runnable itself
 * bug 4 in 1: a waker does not compare the sequence
 * bug 5 in 1: the owner leaves the limit of its last wait behind
 * bug 6 in 5: a canceller does not compare the generation
 * bug 7 in 2: a canceller looks at the word before it sets the flag
 * bug 8 in 1: PARKED is set before the context is saved
 * bug 9 in 1: finish_park forgets a fiber that was woken on its way
 * bug 10 in 3: nobody looks at life again when a shield's time is over
 * bug 11 in 3: the timer writes the limit of a fiber that may run again
 * bug 12 in 1: the node is queued before the wait has begun */

#ifndef BUG
#define BUG 0
#endif
#ifndef SCENE
#define SCENE 1
#endif
#if SCENE == 1 /* events and time limits */
#define WAITS 3
#define TIMES
#elif SCENE == 2 /* events and cancellation */
#define WAITS 2
#define CANCELS
#elif SCENE == 3 /* cancellation behind shields */
#define WAITS 2
#define TIMES
#define CANCELS
#define SHIELDS
#elif SCENE == 4 /* tokens */
#define WAITS 3
#define TOKENS
#elif SCENE == 5 /* a second fiber in the block */
#define WAITS 1
#define GENERATIONS 2
#define CANCELS
#define TOKENS
#endif
#ifndef GENERATIONS
#define GENERATIONS 1
#endif

/* word: sequence << 8 | cause << 6 | flags << 2 | state */
#define IDLE          0
#define PREPARED      1
#define PARKED        2
#define WOKEN         3
#define STATE(x)      ((x) & 3)
#define INTERRUPTIBLE 4
#define SHIELDED      8
#define TOKEN         16
#define EVENT         0
#define TIMER         64
#define CANCEL        128
#define CAUSE(x)      ((x) & 192)
#define SEQUENCE(x)   ((x) & ~255)

/* link */
#define FOREVER  0 /* no limit */
#define DUE      1 /* a limit that has passed */
#define RUN_NEXT 2 /* somebody's pointer */

int word = 0;
byte link = FOREVER;
bool cancelled, token;          /* life's flags ... */
byte generation = 1;            /* ... and its generation: one word in the library, so always read together */
bool armed, wheel_locked;       /* F's timer is on the wheel; the wheel's lock */

byte runnable;                  /* how often F is on a run queue */
bool running, saved = true;     /* is it on a worker; is its context saved */
bool leaving;                   /* it has left its worker with AFTER_PARK */
int park_flags;
bool ended;

/* the object that F waits on: its queue has room for F's node */
bool queued;
byte due;                       /* waits that a waker is still to end */

/* ghosts */
int winner = -1;                /* sequence of the wait that was last won, and by an event whose ticket named it */
bool won;
bool shield_over;               /* the shield of this wait: seen by the timer to be over */
byte made_runnable;             /* in this wait */

#define win() assert(!won); won = true

inline ready() {
    atomic {
        assert(runnable == 0 && !running);
        assert(made_runnable == 0);
        made_runnable++;
        runnable++;
        link = RUN_NEXT
    }
}

/* PARKED -> WOKEN for cause c if the word is still `seen`. */
inline end_parked(seen, c, done) {
    atomic {
        if
        :: word == seen -> word = SEQUENCE(seen) | WOKEN | c; win(); done = true
        :: else -> done = false
        fi
    };
    if
    :: done -> ready()
    :: else
    fi
}

inline recheck(parked, done) {
    bool is_cancelled, has_token;
    atomic { is_cancelled = cancelled; has_token = token };
    if
    :: is_cancelled && (parked & INTERRUPTIBLE) -> end_parked(parked, CANCEL, done)
    :: else ->
        if
        :: has_token && (parked & TOKEN) -> end_parked(parked, EVENT, done)
        :: else
        fi
    fi
}

proctype worker() {
    int seen, parked;
    bool done;
    do
    :: atomic { runnable > 0 ->
        runnable--;
        assert(link == RUN_NEXT);       /* P6 */
        link = FOREVER;
        assert(saved && !running);      /* P1 */
        saved = false; running = true }
#if BUG == 8
        leaving; leaving = false;
        goto finish_before_saving;
#endif
        atomic { leaving -> leaving = false; running = false; saved = true; parked = park_flags };
finish_park:
        if
        :: ended -> skip
        :: else ->
            seen = word;
#if BUG == 1
            word = SEQUENCE(seen) | PARKED | parked; done = true; parked = SEQUENCE(seen) | PARKED | parked;
#else
            parked = SEQUENCE(seen) | PARKED | parked;
            atomic {
                done = (STATE(seen) == PREPARED && word == seen);
                if
                :: done -> word = parked
                :: else
                fi
            };
#endif
            if
            :: !done ->
#if BUG != 9
                ready()
#endif
            :: else ->
#if BUG != 2
                recheck(parked, done)
#endif
            fi
        fi;
        seen = 0; parked = 0; done = false
#if BUG == 8
        goto past;
finish_before_saving:
        seen = word; parked = SEQUENCE(seen) | PARKED | park_flags;
        atomic {
            done = (STATE(seen) == PREPARED && word == seen);
            if
            :: done -> word = parked; running = false
            :: else
            fi
        };
        atomic { saved = true; running = false };
        if
        :: !done -> ready()
        :: else -> recheck(parked, done)
        fi;
past:   seen = 0; parked = 0; done = false
#endif
    :: atomic { ended && runnable == 0 && !running -> break }
    od
}

/* Leave the worker, come back when somebody runs us. */
inline leave(flags) {
    atomic { park_flags = flags; leaving = true };
    atomic { running && !leaving && !saved }
}

proctype fiber() {
    byte n, life;
    int flags, seen;
    bool limited, shielded, by_event, was_queued, failing;
    for (life : 1 .. GENERATIONS) {
        for (n : 1 .. WAITS) {
            atomic {                                        /* what kind of wait */
                flags = 0; limited = false; shielded = false; by_event = false; failing = false;
                if
                :: flags = INTERRUPTIBLE; by_event = true
#ifndef SHIELDS
                :: by_event = true                                                  /* uninterruptible */
#endif
#if defined(TIMES) && !defined(SHIELDS)
                :: flags = INTERRUPTIBLE; by_event = true; limited = true
                :: limited = true                                                   /* only the timer ends it */
#endif
#ifdef CANCELS
                :: life == 1 -> flags = INTERRUPTIBLE                               /* only the canceller */
#endif
#ifdef SHIELDS
                :: flags = SHIELDED; shielded = true; limited = true                /* the canceller, later */
                :: flags = SHIELDED; shielded = true; limited = true; by_event = true
#endif
#ifdef TOKENS
                :: life == 1 -> flags = TOKEN                                       /* only the unparker */
                :: life == 1 -> flags = TOKEN | INTERRUPTIBLE
#endif
                fi
            };
once_more:
            if
            :: (flags & TOKEN) && token -> token = false; goto next                 /* take_token */
            :: else
            fi;
#if BUG == 12
            /* the node is visible before the wait has begun */
            if
            :: by_event -> atomic { queued = true; due++ }
            :: else
            fi;
#endif
            atomic {                                        /* wait_begin */
                assert(STATE(word) == IDLE);
                word = SEQUENCE(word) + 256 + PREPARED;
                won = false; made_runnable = 0; shield_over = false
            };
#if BUG != 12
            if
            :: by_event -> atomic { queued = true; due++ }
            :: else
            fi;
#endif
            if
            :: limited -> link = DUE; atomic { !wheel_locked -> armed = true }      /* wheel_arm */
            :: else
            fi;
            if
            :: STATE(word) == PREPARED -> leave(flags)
            :: else
            fi;
#if BUG != 5
            if
            :: limited -> link = FOREVER
            :: else
            fi;
#endif
            atomic {                                        /* wait_outcome */
                seen = word;
                assert(STATE(seen) == WOKEN);
                word = SEQUENCE(seen);
                assert(won && runnable == 0 && running);
                assert(CAUSE(seen) != TIMER || (limited && !shielded));                                 /* P5 */
                assert(CAUSE(seen) != CANCEL || (life == 1 && cancelled));                              /* P3 */
                assert(CAUSE(seen) != CANCEL || (flags & INTERRUPTIBLE) || (shielded && shield_over));  /* P5 */
                assert(CAUSE(seen) != EVENT || by_event || (flags & TOKEN));                            /* P3 */
                assert(CAUSE(seen) != EVENT || (flags & TOKEN) || winner == SEQUENCE(seen));            /* P3 */
                failing = CAUSE(seen) != EVENT
            };
            /* cut short: take the lock; if the node is off the queue by now, somebody chose us after all */
            if
            :: failing && by_event ->
                atomic {
                    was_queued = queued; queued = false;
                    if
                    :: was_queued -> due--
                    :: else
                    fi
                }
            :: else
            fi;
            if
            :: (flags & TOKEN) && CAUSE(seen) == EVENT -> goto once_more
            :: else
            fi;
next:       skip
        };
        atomic {
            if
            :: life < GENERATIONS -> generation++; cancelled = false; token = false
            :: else
            fi
        }
    };
    atomic { ended = true; leaving = true }
}

/* Takes F's node, then wakes it by the ticket, sooner or later. */
proctype waker() {
    int ticket, seen;
    bool done;
    do
    :: atomic { queued -> queued = false; due--; ticket = SEQUENCE(word) };
        seen = word;
        do
        :: (
#if BUG != 4
            SEQUENCE(seen) != ticket ||
#endif
            STATE(seen) == IDLE || STATE(seen) == WOKEN) -> break
        :: else ->
            atomic {
                done = (word == seen);
                if
                :: done -> word = SEQUENCE(seen) | WOKEN | EVENT; win(); winner = ticket
                :: else -> seen = word
                fi
            };
            if
            :: done && STATE(seen) == PARKED -> ready(); break
#if BUG == 3
            :: done && STATE(seen) == PREPARED -> ready(); break
#else
            :: done && STATE(seen) == PREPARED -> break
#endif
            :: else
            fi
        od;
        ticket = 0; seen = 0; done = false
    :: atomic { ended -> break }
    od
}

/* stel__wheel_expire: the fiber's timer fires when it is on the wheel, be it for this wait or left from the one before. */
proctype timer() {
    int seen, bare;
    byte limit;
    bool done, again;
    do
    :: atomic { armed && !wheel_locked -> wheel_locked = true };
        seen = word;
        if
        :: STATE(seen) == PREPARED -> again = (link == DUE)
        :: STATE(seen) == PARKED ->
            limit = link;
            if
            :: limit == RUN_NEXT -> limit = DUE         /* F was woken meanwhile; what we read means nothing */
            :: limit == RUN_NEXT -> limit = FOREVER
            :: else
            fi;
            if
            :: limit == FOREVER
            :: limit == DUE && (seen & SHIELDED) ->
                bare = (seen & ~SHIELDED) | INTERRUPTIBLE;
                atomic {
                    done = (word == seen);
                    if
                    :: done -> word = bare; shield_over = true
                    :: else
                    fi
                };
                if
                :: done ->
#if BUG == 11
                    link = FOREVER;                     /* "from now on the limit is the deadline" */
#endif
#if BUG == 10
                    skip
#else
                    recheck(bare, done)
#endif
                :: else
                fi
            :: else -> end_parked(seen, TIMER, done)
            fi
        :: else
        fi;
        atomic { armed = again; wheel_locked = false; again = false; seen = 0; bare = 0; limit = 0; done = false }
    :: atomic { ended -> break }
    od
}

/* stel__waiter_interrupt with a handle of the first life; the flag is set already. */
inline interrupt(kind, c) {
    do
    :: seen = word;
        if
        :: STATE(seen) != PARKED || !(seen & kind) -> break
        :: else
        fi;
#if BUG != 6
        if
        :: generation != 1 -> break
        :: else
        fi;
#endif
        end_parked(seen, c, done);
        if
        :: done -> break
        :: else
        fi
    od
}

proctype canceller() {
    int seen;
    bool done;
#if BUG == 7
    seen = word;
    atomic { generation == 1 -> cancelled = true };
    if
    :: STATE(seen) == PARKED && (seen & INTERRUPTIBLE) -> end_parked(seen, CANCEL, done)
    :: else
    fi
#else
    if
    :: atomic { generation == 1 -> cancelled = true }; interrupt(INTERRUPTIBLE, CANCEL)
    :: atomic { generation != 1 -> skip }
    fi
#endif
}

proctype unparker() {
    int seen;
    bool done;
    byte n;
    /* one token for each wait that may need one */
    for (n : 1 .. WAITS) {
        if
        :: atomic { generation == 1 && !token -> token = true }; interrupt(TOKEN, EVENT)
        :: atomic { generation != 1 || ended -> skip }
        fi
    }
}

init {
    atomic {
        runnable = 1; link = RUN_NEXT;      /* spawned */
        run worker(); run worker();
        run waker();
#if SCENE == 1 || SCENE == 2
        run waker();                        /* one may be late while the other is in time */
#endif
#ifdef TIMES
        run timer();
#endif
#ifdef CANCELS
        run canceller();
#endif
#ifdef TOKENS
        run unparker();
#endif
    };
    atomic { running -> run fiber() }
}
