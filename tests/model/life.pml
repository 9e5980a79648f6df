/* Who frees a control block: the two words `life` and `joiner` of src/sched/life.c.
 *
 * A block holds one fiber after the other (LIVES of them). Several claimers, each with the handle of the first life,
 * come at any time: joins, of which some are cut short, a try_join, a detach; and a canceller, who sets a flag in life.
 * With SCENE 2 the first fiber is spawned detached; with SCENE 3 it has not begun, and one of the joins may take it off its
 * queue and run it, if no worker does before.
 *
 * Properties
 *   L1  a block is freed at most once a life, and by the one who may
 *   L2  exactly one claimer takes effect for a fiber, and then the block is freed; if none does, it is not
 *   L3  nobody reads the result before it was written, nor touches joiner or result of a block that was freed
 *   L4  a join that is not cut short returns: the ending fiber wakes it
 *   L5  nothing done with a handle of the first life reaches the second
 *   L6  a claimer is refused only while another's claim stands, or after it took effect: not by a try_join in vain
 *
 * scenes: 1 2 3
 * bug 1 in 1: the ending fiber reads joiner and stores ENDED in two steps
 * bug 2 in 1: the result is written after ENDED
 * bug 3 in 1: a join that is cut short gives its claim back before its ticket
 * bug 4 in 1: a claim does not compare the generation
 * bug 5 in 1: a join that is cut short leaves its ticket behind
 * bug 6 in 1: detach stores instead of swapping
 * bug 7 in 1: the claim is not one step
 * bug 8 in 1: the ending fiber frees the block of one that is joined
 * bug 9 in 1: try_join claims before it knows whether the fiber has ended
 * bug 10 in 1: the ending fiber does not ask whether its wake won the wait
 * bug 11 in 3: a join stores its ticket, though a worker took the fiber off the queue
 * bug 12 in 1: a join that is cut short does not end its wait first */

#ifndef BUG
#define BUG 0
#endif
#ifndef SCENE
#define SCENE 1
#endif
#define LIVES 2

/* life: one word, so it is always read and written in one step */
byte generation = 1;
bool alive, claimed, cancelled;
/* joiner */
#define NONE     0
#define ENDED    1
#define DETACHED 2
#define TICKET   3      /* + the claimer's number */
byte joiner;
bool result;            /* written */

/* claimers' waits: each is won once, by the wake or by what cuts it short */
#define WAITS 1
#define WOKEN 2
#define CUT   3
byte wait[2];
bool taken, begun;      /* off its queue; runs */
byte freed;             /* ghosts: of this life */
byte effects;           /* claimers that took effect in the first life */
byte standing;          /* claims of joins and detaches that stand, and those that took effect */
bool second_begun;
byte finished;

/* Reading or writing what belongs to the fiber of the first life, by one who holds its claim. */
#define mine() assert(generation == 1 && freed == 0)

inline block_put() {
    atomic {
        assert(alive && freed == 0);
        freed++;
        generation++; alive = false; claimed = false; cancelled = false
    }
}

inline wake(who) {
    atomic {
        won = (wait[who] == WAITS);
        if
        :: won -> wait[who] = WOKEN
        :: else
        fi
    }
}

/* A worker takes the fiber off its queue, if nobody was faster. */
proctype worker() {
    bool mine_to_run;
    atomic { mine_to_run = !taken; taken = true };
    if
    :: mine_to_run -> begun = true
    :: else
    fi
}

proctype fiber() {
    byte found, life;
    bool won;
    for (life : 1 .. LIVES) {
        if
        :: life == 2 ->                 /* the block comes into use again, if it was freed */
            if
            :: freed == 1 && generation == 2 -> atomic {
                    freed = 0; result = false; second_begun = true;
                    joiner = NONE; alive = true }
            :: finished == 4 && freed == 0 -> break
            fi
        :: else -> begun
        fi;
#if BUG == 1
        found = joiner; joiner = ENDED; result = true;
#elif BUG == 2
        atomic { found = joiner; joiner = ENDED };
        atomic { assert(freed == 0); result = true };
#else
        result = true;
        atomic { assert(freed == 0); found = joiner };
        if
        :: found >= TICKET ->
            assert(life == 1);          /* L5 */
            wake(found - TICKET);
#if BUG == 10
            won = true;
#endif
            if
            :: won -> goto told         /* the block is the joiner's */
            :: else
            fi
        :: else
        fi;
        atomic { assert(freed == 0); found = joiner; joiner = ENDED };
#endif
        if
        :: found == DETACHED -> assert(life == 1); block_put()
        :: found >= TICKET ->
            assert(life == 1);          /* L5 */
            wake(found - TICKET)
        :: else
        fi;
told:
#if BUG == 8
        if
        :: found >= TICKET -> block_put()   /* the joiner does that */
        :: else
        fi;
#endif
        skip
    }
}

/* counts: it will take effect, or is a join's; a try_join that takes nothing must not be in anybody's way */
inline claim(got, counts) {
    atomic {
        got = alive && !claimed;
#if BUG != 4
        got = got && generation == 1;
#endif
#if BUG != 7
        if
        :: got -> claimed = true; standing = standing + (counts -> 1 : 0)
        :: !got -> assert(standing > 0 || generation > 1 || SCENE == 2)     /* L6 */
        fi
#endif
    };
#if BUG == 7
    if
    :: got -> claimed = true; standing++
    :: else
    fi
#endif
}

inline unclaim() {
    atomic { claimed = false; standing-- }
}

inline reap() {
    atomic { mine(); assert(result); effects++ };       /* L3 */
    block_put()
}

proctype join(byte me) {
    bool got, cut, runs;
    if
    :: cut = true
    :: cut = false
    fi;
    claim(got, true);
    if
    :: !got
    :: got ->
        wait[me] = WAITS;
        atomic { runs = (me == 0 && !taken); taken = taken || runs };
#if BUG == 11
        runs = (me == 0);
#endif
        if
        :: runs -> joiner = TICKET + me; begun = true
        :: else ->
            atomic {
                mine();
                got = (joiner == NONE);
                if
                :: got -> joiner = TICKET + me
                :: else
                fi
            }
        fi;
        if
        :: !got -> reap()
        :: got ->
            if
            :: wait[me] == WOKEN -> reap()
#if BUG == 12
            :: cut ->
#else
            :: atomic { cut && wait[me] == WAITS -> wait[me] = CUT };
#endif
#if BUG == 3
                unclaim();              /* before the ticket is taken back */
                atomic {
                    got = (joiner == TICKET + me);
                    if
                    :: got -> joiner = NONE
                    :: else
                    fi
                };
#elif BUG == 5
                unclaim();              /* and the ticket stays */
                got = true;
#else
                atomic {
                    mine();
                    got = (joiner == TICKET + me);
                    if
                    :: got -> joiner = NONE
                    :: else
                    fi
                };
                if
                :: got -> unclaim()
                :: else -> reap()
                fi
#endif
            fi
        fi
    fi;
    finished++
}

proctype try_join() {
    bool got;
#if BUG == 9
    claim(got, joiner == ENDED);
    if
    :: !got
    :: got ->
        if
        :: joiner == ENDED -> reap()
        :: joiner != ENDED -> claimed = false
        fi
    fi;
#else
    if
    :: atomic { !alive || claimed || generation != 1 -> skip }
    :: atomic { alive && !claimed && generation == 1 -> skip };
        if
        :: joiner != ENDED
        :: joiner == ENDED ->
            claim(got, joiner == ENDED);
            if
            :: got -> reap()
            :: !got
            fi
        fi
    fi;
#endif
    finished++
}

proctype detach() {
    bool got;
    claim(got, true);
    if
    :: !got
    :: got ->
#if BUG == 6
        atomic { mine(); joiner = DETACHED; effects++ };
#else
        atomic {
            mine();
            got = (joiner == NONE);
            if
            :: got -> joiner = DETACHED; effects++
            :: else
            fi
        };
        if
        :: got
        :: !got -> reap()
        fi;
#endif
    fi;
    finished++
}

proctype canceller() {
    atomic {
        if
        :: alive && generation == 1 -> cancelled = true
        :: else
        fi
    };
    atomic { assert(!second_begun || !cancelled) }      /* L5 */
}

init {
    atomic {
        alive = true; joiner = NONE;
#if SCENE == 2
        claimed = true; joiner = DETACHED;
#endif
#if SCENE == 3
        run worker();
#else
        taken = true; begun = true;
#endif
        run fiber(); run join(0); run join(1); run try_join(); run detach(); run canceller()
    };
    atomic {
        _nr_pr == 1;
        assert(effects <= 1);                                                   /* L2 */
        assert(SCENE == 2 || effects == 1 || generation == 1);
        assert(SCENE == 2 || effects == 0 || generation == 2);
        assert(SCENE != 2 || (effects == 0 && generation == 2));
        assert(!second_begun || (joiner == ENDED && alive && !claimed))         /* L5 */
    }
}
