/* A double-ended queue of fibers with one owner and any number of thieves: David Chase and Yossi Lev, "Dynamic circular
 * work-stealing deque" (SPAA 2005), with the orderings of Nhat Minh Le, Antoniu Pop, Albert Cohen and Francesco Zappa
 * Nardelli, "Correct and efficient work-stealing for weak memory models" (PPoPP 2013).
 *
 * The owner pushes at the bottom. It takes either from the bottom (newest first: spawned fibers, so that a tree of them
 * is walked depth first) or, as thieves do, from the top (oldest first: yields and wakes, which want turns). The array
 * grows and never shrinks; an outgrown array is kept until the deque is destroyed, as a thief may be reading it.
 *
 * Ordering pairs
 *   push: store bottom, release             steal: load bottom, acquire: the slot and what it points at are seen
 *   take: store bottom; fence; load top     steal: load top; fence; load bottom: one of the two sees the other, so the
 *                                           last element is not taken twice: both then swap top
 *   grow: store array, release              steal: load array, acquire
 *
 * The owner's fence. It takes an element with every fiber, and mostly nobody steals. So a worker that begins to steal
 * counts itself in `thieves` and passes a heavy fence (host.h), once, before its first theft; it stays counted as long as
 * it goes on stealing. An owner that finds nobody counted passes a light fence, else a full one:
 *
 *     take                                    a thief's beginning
 *       store bottom                            add to thieves
 *       load thieves; none: light fence         heavy fence
 *       load top                                steal ...
 *
 * Either the owner's look comes after the heavy fence, and sees the thief; or it comes before, and then all thefts see its
 * bottom. Where nobody can steal (one worker) there is no `thieves`, and no fence. */
#ifndef STEL_SCHED_DEQUE_H
#define STEL_SCHED_DEQUE_H

#include "host/host.h"

struct stel__fiber;

typedef struct stel__deque_array {
    struct stel__deque_array *outgrown; /* the one before */
    int64_t mask;
    _Atomic(struct stel__fiber *) slot[];
} stel__deque_array;

typedef struct stel__deque {
    STEL__ALIGNED(STEL__CACHE_LINE) _Atomic int64_t bottom; /* owner writes */
    _Atomic(stel__deque_array *) array;                     /* owner writes */
    STEL__ALIGNED(STEL__CACHE_LINE) _Atomic int64_t top;    /* everybody swaps */
} stel__deque;

int stel__deque_init(stel__deque *d, int64_t capacity); /* a power of two */
void stel__deque_destroy(stel__deque *d);
bool stel__deque_grow(stel__deque *d);

/* How many are in it: exact for the owner when nobody steals, else a guess. */
static inline int64_t stel__deque_size(const stel__deque *d) {
    int64_t n = stel__load_relaxed(&d->bottom) - stel__load_relaxed(&d->top);
    return n > 0 ? n : 0;
}

/* Owner. false: no memory to grow. */
static inline bool stel__deque_push(stel__deque *d, struct stel__fiber *f) {
    int64_t bottom = stel__load_relaxed(&d->bottom);
    stel__deque_array *a = stel__load_relaxed(&d->array);
    if (STEL__UNLIKELY(bottom - stel__load_acquire(&d->top) > a->mask)) {
        if (!stel__deque_grow(d)) return false;
        a = stel__load_relaxed(&d->array);
    }
    stel__store_relaxed(&a->slot[bottom & a->mask], f);
    stel__store_release(&d->bottom, bottom + 1);
    return true;
}

/* Owner: the newest, left where it is; NULL when there is none. A thief may take it meanwhile. */
static inline struct stel__fiber *stel__deque_newest(const stel__deque *d) {
    int64_t bottom = stel__load_relaxed(&d->bottom) - 1;
    if (bottom < stel__load_relaxed(&d->top)) return NULL;
    stel__deque_array *a = stel__load_relaxed(&d->array);
    return stel__load_relaxed(&a->slot[bottom & a->mask]);
}

/* Between the owner's store of bottom and its load of top. thieves NULL: nobody can steal. */
static inline void stel__deque_fence(const _Atomic int *thieves) {
    if (!thieves) return;
    stel__fence_compiler(); /* the look comes after the store */
    if (STEL__UNLIKELY(stel__load_relaxed(thieves)))
        stel__fence_seq_cst();
    else
        stel__fence_light();
}

/* Owner: the newest. */
static inline struct stel__fiber *stel__deque_take(stel__deque *d, const _Atomic int *thieves) {
    int64_t bottom = stel__load_relaxed(&d->bottom) - 1;
    /* Nobody but the owner adds, so what looks empty to it is. */
    if (bottom < stel__load_relaxed(&d->top)) return NULL;
    stel__deque_array *a = stel__load_relaxed(&d->array);
    stel__store_relaxed(&d->bottom, bottom);
    stel__deque_fence(thieves);
    int64_t top = stel__load_relaxed(&d->top);
    struct stel__fiber *f = NULL;
    if (top <= bottom) {
        f = stel__load_relaxed(&a->slot[bottom & a->mask]);
        if (top < bottom) return f;
        if (thieves) {
            if (!stel__cas_seq_cst(&d->top, &top, top + 1)) f = NULL;
        } else {
            stel__store_relaxed(&d->top, top + 1);
        }
    }
    stel__store_relaxed(&d->bottom, bottom + 1);
    return f;
}

/* Owner: the oldest. It knows its own bottom, so it needs no fence, only the swap. */
static inline struct stel__fiber *stel__deque_take_oldest(stel__deque *d, bool alone) {
    int64_t bottom = stel__load_relaxed(&d->bottom);
    stel__deque_array *a = stel__load_relaxed(&d->array);
    int64_t top = stel__load_relaxed(&d->top);
    while (top < bottom) {
        struct stel__fiber *f = stel__load_relaxed(&a->slot[top & a->mask]);
        if (alone) {
            stel__store_relaxed(&d->top, top + 1);
            return f;
        }
        if (stel__cas_seq_cst(&d->top, &top, top + 1)) return f;
    }
    return NULL;
}

/* Anybody: the oldest, or NULL when there is none or somebody else was faster (*again is set then). */
struct stel__fiber *stel__deque_steal(stel__deque *d, bool *again);

#endif
