/* Channels and select: put, take, claim, close and the waits in src/sync/chan.c and select.c.
 *
 * Users send or receive once, on one channel or by a select of two cases, with or without a time limit; a closer closes
 * a channel. A user's word is reduced to what matters here: it waits (WAITING), or somebody has won its wait (WOKEN);
 * what lies between them is the subject of park_fiber and park_thread. A plain waiter is chosen by taking its node off
 * the queue under the channel's lock, and woken by ticket afterwards; a selector is chosen by the swap on its word,
 * under the lock, before its element is copied. Each step on memory that others see is a step of its own.
 *
 * Scenes (-DSCENE=n)
 *   1  rendezvous: two senders, two receivers, some with limits             plain waiters
 *   2  a selector that receives from two channels, a sender on each, and a receiver beside it
 *   3  two selectors that meet on two channels, named in opposite orders, and a plain sender
 *   4  a ring of one: two senders, a receiver, a selector, and a close
 *   5  a close, a selector that sends, one that receives, and plain waiters
 *   6  two selectors that both send and receive on one channel
 *
 * Properties
 *   C1  an element whose send has succeeded is received once or still in the ring; one whose send failed is never
 *       received; what is received is what was sent
 *   C2  a selector does one case, the one that it reports, or none when it is cut short
 *   C3  nobody touches a user's element, or its node, after its call has returned, nor reads a case's outcome before it
 *       is there
 *   C4  nobody waits while a partner, an element or room is there, or the channel is closed; no lock stays taken
 *
 * scenes: 1 2 3 4 5 6
 * bug 1 in 1: a plain waiter that is cut short does not look whether it was chosen
 * bug 2 in 2: an element is copied to a selector before its word is won
 * bug 3 in 2: a selector returns without taking its channels' locks
 * bug 4 in 3: a selector looks at one channel after the other, then queues
 * bug 5 in 3: a selector takes the locks in the order of its cases
 * bug 6 in 2: who finds a selector that has lost takes nobody, instead of going on to the next
 * bug 7 in 4: a receive from a full ring forgets the sender that waits
 * bug 8 in 5: a close wakes the receivers only
 * bug 9 in 5: a selector reads its outcome before it has taken the locks
 * bug 10 in 3: a selector that was chosen leaves its other node queued
 * bug 11 in 3: a selector queues its nodes one by one, and gives the lock back in between
 * bug 12 in 4: a send to a ring with room does not look for receivers first */

#ifndef BUG
#define BUG 0
#endif
#ifndef SCENE
#define SCENE 1
#endif
#if SCENE == 4
#define CAPACITY 1
#else
#define CAPACITY 0
#endif

#define USERS    5
#define CHANNELS 2
#define NONE     255

#define SEND    1
#define RECEIVE 2

/* outcomes */
#define DONE  0
#define PIPE  1
#define TIMED 2
#define AGAIN 3

/* a user's word */
#define IDLE    0
#define WAITING 1
#define WOKEN   2

#define NODE(me, k) (2 * (me) + (k))
#define USER(n)     ((n) / 2)

/* A channel: under its lock, but for `length`, which only reports read. */
bool locked[CHANNELS], closed[CHANNELS];
byte length[CHANNELS], ring[CHANNELS];
chan senders[CHANNELS] = [2 * USERS] of { byte };
chan receivers[CHANNELS] = [2 * USERS] of { byte };

/* A node, and the element of its call: 0 is nothing received yet. */
bool queued[2 * USERS], by_close[2 * USERS], open[2 * USERS];
byte element[2 * USERS];
bool settled[2 * USERS];       /* ghost: the outcome is there: whoever chose it is through with it */

byte word[USERS], which[USERS];
bool selects[USERS];

/* ghosts; the element of user u is u + 1 */
bool ended[USERS];
byte sent[USERS + 1];           /* 0: not yet; 1 + outcome */
byte received[USERS + 1];       /* how often */

inline lock(on) {
    atomic { !locked[on] -> locked[on] = true }
}

inline unlock(on) {
    locked[on] = false
}

/* ---- under the lock of channel c ---- */

/* n: the first waiter on q that can still be chosen, or NONE; wake: to be woken by ticket. */
inline claim(q, n, wake) {
    n = NONE;
    do
    :: atomic { empty(q) -> n = NONE; break }
    :: atomic { nempty(q) -> q?n; assert(open[n] && queued[n]); queued[n] = false };    /* C3 */
        if
        :: !selects[USER(n)] -> wake = USER(n); break
        :: else ->
#if BUG == 2
            if
            :: element[n] == 0 -> assert(open[n]); element[n] = v
            :: else
            fi;
#endif
            atomic {
                if
                :: word[USER(n)] == WAITING -> word[USER(n)] = WOKEN; which[USER(n)] = n % 2; won = true
                :: else -> won = false
                fi
            };
            if
            :: won -> break
            :: else ->
#if BUG == 6
                n = NONE; break
#else
                n = NONE
#endif
            fi
        fi
    od;
    won = false
}

inline put(c, from, rc) {
    v = element[from];
    if
    :: closed[c] -> rc = PIPE
    :: else ->
#if BUG == 12
        if
        :: length[c] < CAPACITY -> n = NONE
        :: else -> claim(receivers[c], n, wake)
        fi;
#else
        claim(receivers[c], n, wake);
#endif
        if
        :: n != NONE -> atomic { assert(open[n]); element[n] = v; settled[n] = true }; rc = DONE
        :: else ->
            if
            :: length[c] < CAPACITY -> ring[c] = v; length[c]++; rc = DONE
            :: else -> rc = AGAIN
            fi
        fi
    fi;
    n = 0; v = 0
}

inline take(c, to, rc) {
    if
    :: length[c] == 0 ->
        claim(senders[c], n, wake);
        if
        :: n != NONE -> atomic { assert(open[n]); element[to] = element[n]; settled[n] = true }; rc = DONE
        :: n == NONE && closed[c] -> rc = PIPE
        :: else -> rc = AGAIN
        fi
    :: else ->
        element[to] = ring[c];
        claim(senders[c], n, wake);
        if
#if BUG == 7
        :: n != NONE -> length[c]--; settled[n] = true
#else
        :: n != NONE -> atomic { assert(open[n]); ring[c] = element[n]; settled[n] = true }
#endif
        :: else -> length[c]--
        fi;
        rc = DONE
    fi;
    n = 0
}

inline try_case(k, rc) {
    if
    :: ops[k] == SEND -> put(chans[k], NODE(me, k), rc)
    :: else -> take(chans[k], NODE(me, k), rc)
    fi
}

inline push(k) {
    atomic {
        queued[NODE(me, k)] = true;
        if
        :: ops[k] == SEND -> senders[chans[k]]!NODE(me, k)
        :: else -> receivers[chans[k]]!NODE(me, k)
        fi
    }
}

inline unlink(k) {
    atomic {
        if
        :: queued[NODE(me, k)] ->
            queued[NODE(me, k)] = false; still_queued = true;
            if
            :: ops[k] == SEND -> senders[chans[k]]??eval(NODE(me, k))
            :: else -> receivers[chans[k]]??eval(NODE(me, k))
            fi
        :: else -> still_queued = false
        fi
    }
}

/* stel__wake of a plain waiter, after the lock has been given back. A user waits once: a late wake finds it woken. */
inline wake_ticket() {
    if
    :: wake != NONE ->
        atomic {
            if
            :: word[wake] == WAITING -> word[wake] = WOKEN; which[wake] = 0
            :: else
            fi
        };
        wake = NONE
    :: else
    fi
}

/* ---- the calls ---- */

inline park() {
    if
    :: atomic { word[me] == WOKEN -> skip }
    :: atomic { limited && word[me] == WAITING -> word[me] = WOKEN; which[me] = TIMED + 10 }
    fi
}

inline outcome(k, rc) {
    atomic {
        assert(settled[NODE(me, k)]);                      /* C3 */
        rc = (by_close[NODE(me, k)] -> PIPE : DONE)
    }
}

inline plain_call() {
    lock(chans[0]);
    try_case(0, rc);
    if
    :: rc != AGAIN -> unlock(chans[0]); wake_ticket()
    :: else ->
        word[me] = WAITING;
        push(0);
        unlock(chans[0]);
        park();
        if
        :: which[me] == TIMED + 10 ->
#if BUG == 1
            rc = TIMED; lock(chans[0]); unlink(0); unlock(chans[0])
#else
            lock(chans[0]);
            unlink(0);
            unlock(chans[0]);
            if
            :: still_queued -> rc = TIMED
            :: else -> outcome(0, rc)
            fi
#endif
        :: else -> outcome(0, rc)
        fi
    fi
}

inline lock_all() {
#if BUG == 5
    lock(chans[0]);
    if
    :: chans[0] != chans[1] -> lock(chans[1])
    :: else
    fi
#else
    if
    :: chans[0] < chans[1] -> lock(chans[0]); lock(chans[1])
    :: chans[0] > chans[1] -> lock(chans[1]); lock(chans[0])
    :: else -> lock(chans[0])
    fi
#endif
}

inline unlock_all() {
    unlock(chans[0]);
    if
    :: chans[0] != chans[1] -> unlock(chans[1])
    :: else
    fi
}

inline select_call() {
    if                                          /* the order of looking */
    :: k = 0
    :: k = 1
    fi;
#if BUG == 4
    lock(chans[k]); try_case(k, rc); unlock(chans[k]);
    if
    :: rc == AGAIN -> k = 1 - k; lock(chans[k]); try_case(k, rc); unlock(chans[k])
    :: else
    fi;
    lock_all();
#else
    lock_all();
    try_case(k, rc);
    if
    :: rc == AGAIN -> k = 1 - k; try_case(k, rc)
    :: else
    fi;
#endif
    if
    :: rc != AGAIN -> unlock_all(); wake_ticket()
    :: else ->
        word[me] = WAITING;
#if BUG == 11
        push(0);
        unlock_all();
        lock_all();
        push(1);
#else
        push(0);
        push(1);
#endif
        unlock_all();
        park();
        k = which[me];
#if BUG == 9
        if
        :: k != TIMED + 10 -> outcome(k, rc)
        :: else
        fi;
#endif
#if BUG != 3
        lock(chans[0]); unlink(0); unlock(chans[0]);
#if BUG == 10
        if
        :: k == TIMED + 10 -> lock(chans[1]); unlink(1); unlock(chans[1])
        :: else
        fi;
#else
        lock(chans[1]); unlink(1); unlock(chans[1]);
#endif
#endif
        if
        :: k == TIMED + 10 -> rc = TIMED
#if BUG == 9
        :: else
#else
        :: else -> outcome(k, rc)
#endif
        fi
    fi
}

proctype user(byte me; byte cases; byte op0; byte chan0; byte op1; byte chan1; bool limited) {
    byte ops[2], chans[2];
    byte k, n, v, rc, wake = NONE;
    bool won, still_queued;
    atomic {
        ops[0] = op0; ops[1] = op1; chans[0] = chan0; chans[1] = chan1;
        selects[me] = (cases == 2);
        for (k : 0 .. cases - 1) {
            open[NODE(me, k)] = true;
            element[NODE(me, k)] = (ops[k] == SEND -> me + 1 : 0)
        };
        k = 0
    };
    if
    :: cases == 1 -> plain_call()
    :: else -> select_call()
    fi;
    atomic {                                    /* the call has returned */
        assert(!queued[NODE(me, 0)] && !queued[NODE(me, 1)]);                           /* C3 */
        open[NODE(me, 0)] = false; open[NODE(me, 1)] = false;
        if
        :: rc != TIMED && ops[k] == SEND -> sent[me + 1] = 1 + rc
        :: rc == DONE && ops[k] == RECEIVE ->
            assert(element[NODE(me, k)] != 0 && element[NODE(me, k)] != me + 1);        /* C1, C2 */
            received[element[NODE(me, k)]]++
        :: else -> sent[me + 1] = 1 + rc        /* cut short, or nothing received: it has sent nothing */
        fi;
        if                                      /* the case that was not taken has received nothing */
        :: cases == 2 && rc != TIMED && ops[1 - k] == RECEIVE -> assert(element[NODE(me, 1 - k)] == 0)  /* C2 */
        :: cases == 2 && rc == TIMED ->
            assert(ops[0] == SEND || element[NODE(me, 0)] == 0);                        /* C2 */
            assert(ops[1] == SEND || element[NODE(me, 1)] == 0)
        :: else
        fi;
        ended[me] = true
    }
}

proctype closer(byte c) {
    byte n, v, wake = NONE;
    bool won;
    lock(c);
    closed[c] = true;
    do
    :: claim(receivers[c], n, wake);
        assert(n == NONE || length[c] == 0);                                            /* C4 */
#if BUG != 8
        if
        :: n == NONE -> claim(senders[c], n, wake)
        :: else
        fi;
#endif
        if
        :: n == NONE -> break
        :: else -> atomic { assert(open[n]); by_close[n] = true; settled[n] = true }
        fi;
        if
        :: wake != NONE -> unlock(c); wake_ticket(); lock(c)    /* a batch of one */
        :: else
        fi
    od;
    unlock(c)
}

init {
    byte i, c;
    atomic {
#if SCENE == 1
        run user(0, 1, SEND, 0, 0, 0, true);
        run user(1, 1, SEND, 0, 0, 0, false);
        run user(2, 1, RECEIVE, 0, 0, 0, true);
        run user(3, 1, RECEIVE, 0, 0, 0, false);
#elif SCENE == 2
        run user(0, 2, RECEIVE, 0, RECEIVE, 1, true);
        run user(1, 1, SEND, 0, 0, 0, false);
        run user(2, 1, SEND, 1, 0, 0, true);
        run user(3, 1, RECEIVE, 0, 0, 0, false);
#elif SCENE == 3
        run user(0, 2, RECEIVE, 1, RECEIVE, 0, false);
        run user(1, 2, SEND, 0, SEND, 1, true);
        run user(2, 1, SEND, 0, 0, 0, false);
#elif SCENE == 4
        run user(0, 1, SEND, 0, 0, 0, true);
        run user(1, 1, SEND, 0, 0, 0, false);
        run user(2, 1, RECEIVE, 0, 0, 0, false);
        run user(3, 2, RECEIVE, 0, RECEIVE, 1, true);
        run closer(0);
#elif SCENE == 5
        run user(0, 2, RECEIVE, 0, RECEIVE, 1, false);
        run user(1, 2, SEND, 0, SEND, 1, true);
        run user(2, 1, SEND, 0, 0, 0, false);
        run closer(0);
#elif SCENE == 6
        run user(0, 2, SEND, 0, RECEIVE, 0, false);
        run user(1, 2, RECEIVE, 0, SEND, 0, false);
        run user(2, 1, RECEIVE, 0, 0, 0, true);
#endif
        i = 0
    };
end:
    timeout ->
    atomic {
        for (c : 0 .. CHANNELS - 1) {
            assert(!locked[c]);                                                         /* C4 */
#if SCENE == 6
            assert(ended[0] || ended[1]);
#else
            assert(empty(senders[c]) || empty(receivers[c]));
#endif
            assert(empty(receivers[c]) || (length[c] == 0 && !closed[c]));
            assert(empty(senders[c]) || (length[c] == CAPACITY && !closed[c]))
        };
        for (i : 1 .. USERS) {                                                          /* C1 */
            c = received[i] + (length[0] > 0 && ring[0] == i -> 1 : 0) + (length[1] > 0 && ring[1] == i -> 1 : 0);
            assert(c == (sent[i] == 1 + DONE -> 1 : 0))
        }
    };
stop:
    false
}
