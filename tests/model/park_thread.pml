/* A plain thread that waits: thread_park, stel__waiter_thread_finish and thread_wake in src/sched/waiter.c.
 *
 * The thread waits WAITS times, with or without a time limit. Two wakers take its node off the object's queue, under
 * the object's lock, and wake by ticket whenever they like. `woken` is the futex on which it sleeps; a waker that won
 * the word sets it after its swap, so it may do that when the thread is in its next wait already.
 *
 * Properties
 *   T1  no wake is lost: the thread gets to its end (no deadlock)
 *   T2  exactly one party wins a wait; who names an old one never does
 *   T3  a wait without a limit does not time out; a wait that a waker won does not report that it timed out
 * A sleep may end for no reason once, as FUTEX_WAIT's may at any time.
 *
 * scenes: 1
 * bug 1 in 1: the thread stores PARKED instead of swapping it
 * bug 2 in 1: after an old waker's 1 it sleeps again without a look at the word
 * bug 3 in 1: it takes an old waker's 1 for its own
 * bug 4 in 1: a thread whose time is over stores instead of swapping
 * bug 5 in 1: the waker sets `woken` before it has won
 * bug 6 in 1: a waker does not compare the sequence
 * bug 7 in 1: the waker does not set `woken` before the futex wake */

#ifndef BUG
#define BUG 0
#endif
#ifndef WAITS
#define WAITS 3
#endif

/* word: sequence << 4 | cause << 2 | state */
#define IDLE        0
#define PREPARED    1
#define PARKED      2
#define WOKEN       3
#define STATE(x)    ((x) & 3)
#define EVENT       0
#define TIMER       4
#define CAUSE(x)    ((x) & 12)
#define SEQUENCE(x) ((x) & ~15)

int word = 0;
bool woken;
bool asleep;            /* in the kernel's queue of the futex */
bool queued;            /* the node, on the object's queue */
bool ended;
byte spurious = 1;      /* a sleep may still end for no reason so often; for ever would hide lost wakes */
int winner = -1;        /* ghost: the sequence that a waker won last */
bool won;               /* ghost: this wait has been won */

#define win() assert(!won); won = true

proctype thread() {
    byte n;
    int seen;
    bool limited, done, out;
    for (n : 1 .. WAITS) {
        atomic {
            if
            :: limited = true
            :: limited = false
            fi;
            out = false
        };
        woken = false;
        atomic { assert(STATE(word) == IDLE); word = SEQUENCE(word) + 16 + PREPARED; won = false };
        queued = true;                                  /* under the lock */
        /* thread_park */
#if BUG == 1
        atomic { seen = word; done = true };
        word = SEQUENCE(seen) | PARKED;
#else
        atomic {
            done = (STATE(word) == PREPARED);
            if
            :: done -> word = SEQUENCE(word) | PARKED
            :: else
            fi
        };
#endif
        if
        :: !done -> out = true
        :: else
        fi;
        do
        :: out -> break
        :: !out && STATE(word) != PARKED -> break
        :: !out && STATE(word) == PARKED ->
            atomic {                                    /* futex_wait: the kernel looks, and puts us to sleep */
                done = woken;
                asleep = !woken
            };
            if
            :: done ->                                  /* -EAGAIN: an old waker's 1, perhaps */
#if BUG == 2
                woken = false;
                atomic { done = woken; asleep = !woken };
                if
                :: done
                :: else -> asleep == false
                fi
#elif BUG == 3
                woken = false; out = true;
#else
                if
                :: STATE(word) == PARKED -> woken = false
                :: STATE(word) != PARKED
                fi
#endif
            :: !done ->
                if
                :: asleep == false                      /* woken */
                :: spurious > 0 -> asleep = false; spurious--   /* a signal, or nothing */
                :: limited -> asleep = false;           /* -ETIMEDOUT: stel__waiter_thread_finish */
                    out = true;
#if BUG == 4
                    seen = word;
                    atomic { word = SEQUENCE(word) | WOKEN | TIMER; win() }
#else
                    atomic {
                        if
                        :: STATE(word) != WOKEN -> word = SEQUENCE(word) | WOKEN | TIMER; win()
                        :: else
                        fi
                    }
#endif
                fi
            fi
        od;
        atomic {                                        /* wait_outcome */
            seen = word;
            assert(STATE(seen) == WOKEN && won);
            word = SEQUENCE(seen);
            assert(CAUSE(seen) != TIMER || limited);                            /* T3 */
            assert(CAUSE(seen) != EVENT || winner == SEQUENCE(seen));           /* T2 */
            assert(CAUSE(seen) != TIMER || winner != SEQUENCE(seen))            /* T3 */
        };
        if
        :: CAUSE(seen) == TIMER -> queued = false       /* under the lock: off the queue if still on it */
        :: else
        fi;
        seen = 0
    };
    ended = true
}

proctype waker() {
    int ticket, seen;
    bool done;
    do
    :: atomic { queued -> queued = false; ticket = SEQUENCE(word) };
#if BUG == 5
        woken = true; asleep = false;                   /* before the swap */
#endif
        seen = word;
        do
        :: (
#if BUG != 6
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
            :: done ->
                if
                :: STATE(seen) == PARKED ->
#if BUG != 5 && BUG != 7
                    woken = true;
#endif
#if BUG != 5
                    asleep = false                      /* futex_wake */
#else
                    skip
#endif
                :: else
                fi;
                break
            :: else
            fi
        od;
        atomic { ticket = 0; seen = 0; done = false }
    :: atomic { ended && !queued -> break }
    od
}

init {
    atomic { run thread(); run waker(); run waker() }
}
