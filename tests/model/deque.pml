/* The work-stealing deque: src/sched/deque.h, deque.c. Sequentially consistent: the fences are taken for granted.
 *
 * The owner pushes ITEMS numbers and takes some, from the bottom or from the top as it likes; thieves steal. The array
 * begins with 2 slots and grows to 8; an outgrown array stays readable, as a thief may still look at it. At the end the
 * owner empties the deque.
 *
 * Properties
 *   D1  every item is taken exactly once
 *   D2  nothing but an item is ever taken
 *   D3  the owner, when alone in the end, finds all that is left
 *
 * scenes: 1 2
 * bug 1 in 1: the owner takes the last item without a swap of top
 * bug 2 in 1: a thief reads the slot after its swap
 * bug 3 in 2: the grown array is not filled
 * bug 4 in 2: the array grows one item too late
 * bug 5 in 1: the owner does not put bottom back when it found nothing
 * bug 6 in 1: the owner reads top before it lowers bottom
 * bug 7 in 1: take_oldest stores top instead of swapping
 * bug 8 in 1: push raises bottom before it writes the slot
 * bug 9 in 2: the owner takes the last item and leaves top */

#ifndef BUG
#define BUG 0
#endif
#ifndef SCENE
#define SCENE 1
#endif
#if SCENE == 1 /* thieves against each other */
#define ITEMS   3
#define THIEVES 2
#define STEALS  2
#else          /* the array grows under a thief */
#define ITEMS   5
#define THIEVES 1
#define STEALS  3
#endif

short bottom, top;
/* array 0 is slots 0 and 1, array 1 is slots 2 ... 9 */
byte slot[10];
byte array;
#define mask(a)    ((a) == 0 -> 1 : 7)
#define at(a, i)   slot[((a) == 0 -> ((i) & 1) : 2 + ((i) & 7))]

byte taken[ITEMS + 1];
byte thieves_done;

inline got(item) {
    atomic {
        assert(item >= 1 && item <= ITEMS);         /* D2 */
        taken[item]++;
        assert(taken[item] == 1)                    /* D1 */
    }
}

inline cas_top(seen, done) {
    atomic {
        done = (top == seen);
        if
        :: done -> top = seen + 1
        :: else
        fi
    }
}

inline push(item) {
    b = bottom; t = top;
    if
#if BUG == 4
    :: b - t > mask(array) + 1 && array == 0 ->
#else
    :: b - t > mask(array) ->
#endif
        assert(array == 0);
        i = top;
        do
        :: i < b ->
#if BUG != 3
            at(1, i) = at(0, i);
#endif
            i++
        :: else -> break
        od;
        array = 1
    :: else
    fi;
#if BUG == 8
    bottom = b + 1;
    at(array, b) = item
#else
    at(array, b) = item;
    atomic { bottom = b + 1; b = 0; t = 0; i = 0 }
#endif
}

/* the newest */
inline take() {
    item = 0;
    b = bottom - 1;
    if
    :: b < top
    :: else ->
#if BUG == 6
        t = top;                                    /* before bottom is lowered */
        bottom = b;
#else
        bottom = b;
        t = top;
#endif
        if
        :: t <= b ->
            item = at(array, b);
            if
            :: t < b
            :: else ->
#if BUG == 1
                top = t + 1;
#elif BUG == 9
                skip;
#else
                cas_top(t, done);
                if
                :: !done -> item = 0
                :: else
                fi;
#endif
                bottom = b + 1
            fi
        :: else ->
#if BUG != 5
            bottom = b + 1
#else
            skip
#endif
        fi
    fi
}

/* the oldest */
inline take_oldest() {
    item = 0;
    b = bottom; t = top;
    do
    :: t < b ->
        item = at(array, t);
#if BUG == 7
        top = t + 1; done = true;
#else
        cas_top(t, done);
#endif
        if
        :: done -> break
        :: else -> item = 0; t = top
        fi
    :: else -> break
    od
}

proctype owner() {
    short b, t, i;
    byte item, n;
    bool done;
    for (n : 1 .. ITEMS) {
        push(n);
        if
        :: take();
            if
            :: item -> got(item)
            :: else
            fi
        :: take_oldest();
            if
            :: item -> got(item)
            :: else
            fi
        :: skip
        fi;
        d_step { b = 0; t = 0; item = 0; done = false }
    };
    do
    :: take();
        if
        :: item -> got(item)
        :: else -> break
        fi
    od;
    thieves_done == THIEVES;
    atomic {
        assert(bottom == top);                      /* D3 */
        for (n : 1 .. ITEMS) {
            assert(taken[n] == 1)
        }
    }
}

proctype thief() {
    short b, t;
    byte item, a, n;
    bool done;
    for (n : 1 .. STEALS) {
        t = top;
        b = bottom;
        if
        :: t >= b
        :: else ->
#if BUG == 2
            cas_top(t, done);
            a = array;
            item = at(a, t);
#else
            a = array;
            item = at(a, t);
            cas_top(t, done);
#endif
            if
            :: done -> got(item)
            :: else
            fi
        fi;
        d_step { b = 0; t = 0; item = 0; a = 0; done = false }
    };
    thieves_done++
}

init {
    atomic {
        run owner(); run thief();
#if THIEVES > 1
        run thief()
#endif
    }
}
