/* The control block of a fiber, and the process-wide table of them. Private to sched.
 *
 * Blocks are type-stable: a slot of the table is a fiber's block for ever, one fiber after the other, told apart by the
 * generation in `life`. So any thread may look at a stale handle's slot; whatever it then wants to change it changes by
 * a compare-and-swap of a word that holds the generation (life) or the wait's sequence (waiter.word), and loses.
 *
 * A handle is generation (40 bits) << 24 | index (24 bits), and `life` is the same generation over 24 bits of flags. */
#ifndef STEL_SCHED_FIBER_H
#define STEL_SCHED_FIBER_H

#include "arch/arch.h"
#include "sched/sched.h"

enum stel__life_flags {
    STEL__LIFE_ALIVE = 1u << 0,   /* the slot holds a fiber: spawned, and not yet reaped */
    STEL__LIFE_CLAIMED = 1u << 1, /* a join or detach has taken it: the one who will free the slot */
    STEL__LIFE_CANCELLED = 1u << 2,
    STEL__LIFE_TOKEN = 1u << 3, /* stel_unpark's token */
    STEL__LIFE_SCOPES = 1u << 4 /* it has scopes open; changes under its extra lock, with extra->scopes */
};
enum { STEL__INDEX_BITS = 24 };
#define STEL__INDEX_MASK     ((UINT64_C(1) << STEL__INDEX_BITS) - 1)
#define STEL__GENERATION_MAX ((UINT64_C(1) << 40) - 1)

/* The joiner word: who learns that the fiber has ended. The fiber's last touch of its block is the exchange that puts
 * ENDED here; what it finds decides who frees the slot. Anything else in it is the ticket of the fiber that joins. */
enum { STEL__JOINER_NONE = 0, STEL__JOINER_ENDED = 1, STEL__JOINER_DETACHED = 2 };

/* What few fibers have: made when first needed. */
typedef struct stel__extra {
    /* under the fiber's extra lock, as its making and its end */
    char name[32];
    stel__scope_link *scopes; /* those that the fiber has open, the newest first; only it changes them */
    /* its own */
    uint64_t fp_words; /* STEL_FP_ENVIRONMENT: the control words while it does not run */
    void **locals;     /* 64 values */
    int64_t start;     /* stel_spawn_after: when; 0: at once */
    /* its scope's; scope NULL: it was not spawned into one */
    stel__child child;
} stel__extra;

typedef struct stel__fiber stel__fiber;
struct stel__fiber {
    _Atomic uint64_t life;
    union {
        stel__context context; /* while it is neither running nor new */
        void *arg;             /* until its first run */
    } at;
    stel__waiter waiter;
    _Atomic uint64_t joiner;
    stel__stack *stack; /* bound at the first run */
    int32_t result;     /* written by the fiber before ENDED, read by the joiner after it */
    _Atomic uint16_t
        wheel;            /* 1 + the worker on whose wheel the timer is, 0: on none; changed under that wheel's lock */
    uint16_t pinned : 12; /* 1 + the worker it must run on, 0: any; fixed after the first run */
    uint16_t stack_class : 4;
    stel__extra *extra;
    /* seldom used from here on */
    /* the four that strangers look at (reports, cancel_all) are atomic: relaxed, as the look is checked by generation
     */
    _Atomic(stel_fn *) fn;
    _Atomic(stel__sched *) home; /* the scheduler it belongs to */
    _Atomic(void *) spawn_site;
    _Atomic int64_t created;
    stel__link timer;   /* under the wheel's lock, as is timer_when */
    int64_t timer_when; /* when the timer fires: at `limit` or earlier, and then it is armed again */
    union {
        _Atomic int64_t limit; /* waiting: when this wait times out. Owner resets it before the next wait */
        /* Runnable and in a linked queue, or a free block. The wheel reads limit only of a word that is PARKED, and acts
         * only if the word has not changed since, so a look that comes too late and finds a pointer does no harm: it
         * is atomic (relaxed) for that look's sake. */
        _Atomic(stel__fiber *) run_next;
    } queue;
#ifdef STEL__SANITIZED
    stel__sanitizer_fiber sanitizer;
#endif
};
#ifndef STEL__SANITIZED
_Static_assert(sizeof(stel__fiber) == 192, "a control block is three cache lines");
#endif

enum { STEL__STACK_LINES = 8 }; /* what a wait's way out touches of the stack, up to who called a read */

/* f is about to be looked at: fetch its block. It has lain for long, as a rule, and each of its lines is a miss. */
static inline void stel__fiber_fetch(const stel__fiber *f) {
    for (size_t at = 0; at < sizeof *f; at += STEL__CACHE_LINE)
        STEL__PREFETCH((const char *)f + at);
}
/* f, whose block is at hand, is about to run: fetch the end of its stack. A hint: the context may be changing, or none. */
static inline void stel__fiber_fetch_stack(const stel__fiber *f) {
#ifndef STEL__SANITIZED
    const char *end = stel__context_stack_pointer(&f->at.context);
    for (size_t line = 0; line < STEL__STACK_LINES; line++)
        STEL__PREFETCH(end + line * STEL__CACHE_LINE);
#else
    (void)f;
#endif
}

/* waiter.owner_bits of a fiber: spawn flags in the low three bits, priority level (0 ... 7, 4 is normal) above. */
enum { STEL__LEVEL_SHIFT = 4, STEL__LEVEL_NORMAL = 4, STEL__LEVELS = 8 };
static inline unsigned stel__fiber_flags(const stel__fiber *f) {
    return stel__load_relaxed(&f->waiter.owner_bits) & 7u;
}
static inline unsigned stel__fiber_level(const stel__fiber *f) {
    return (unsigned)stel__load_relaxed(&f->waiter.owner_bits) >> STEL__LEVEL_SHIFT;
}
static inline stel__sched *stel__fiber_home(const stel__fiber *f) {
    return stel__load_relaxed(&f->home);
}

static inline stel_fiber stel__fiber_handle(const stel__fiber *f, uint64_t life) {
    return (life & ~STEL__INDEX_MASK) | f->waiter.index;
}
static inline bool stel__same_generation(uint64_t life, stel_fiber handle) {
    return (life >> STEL__INDEX_BITS) == (handle >> STEL__INDEX_BITS);
}
static inline stel__fiber *stel__fiber_of_waiter(stel__waiter *w) {
    return STEL__CONTAINER(w, stel__fiber, waiter);
}

/* ---- a waiter's word (waiter.c has the table of edges) ----
 * sequence (39 bits) | unused (1) | which (16) | cause (2) | flags (4) | state (2) */
enum {
    STEL__WORD_IDLE = 0,
    STEL__WORD_PREPARED = 1,
    STEL__WORD_PARKED = 2,
    STEL__WORD_WOKEN = 3,
    STEL__WORD_STATE = 3,
    STEL__WORD_INTERRUPTIBLE = 1 << 2, /* PARKED: a cancellation may end it */
    STEL__WORD_SHIELDED = 1 << 3,      /* PARKED: will become interruptible when the shield's time is over */
    STEL__WORD_TOKEN = 1 << 4,         /* PARKED: stel_unpark ends it */
    STEL__WORD_CAUSE_EVENT = 0 << 6,   /* WOKEN: by whom */
    STEL__WORD_CAUSE_TIMER = 1 << 6,
    STEL__WORD_CAUSE_CANCEL = 2 << 6,
    STEL__WORD_CAUSE = 3 << 6,
    STEL__WORD_WHICH_SHIFT = 8,
    STEL__WORD_SEQUENCE_SHIFT = 25
};
#define STEL__WORD_SEQUENCE     (~UINT64_C(0) << STEL__WORD_SEQUENCE_SHIFT)
#define STEL__WAITER_INDEX_MASK ((UINT64_C(1) << STEL__WORD_SEQUENCE_SHIFT) - 1)

/* IDLE -> PREPARED: the wait has a ticket. */
static inline stel__ticket stel__waiter_prepare(stel__waiter *w, enum stel__reason reason) {
    uint64_t word = stel__load_relaxed(&w->word);
    STEL__CHECK((word & STEL__WORD_STATE) == STEL__WORD_IDLE);
    uint64_t sequence = (word & STEL__WORD_SEQUENCE) + (UINT64_C(1) << STEL__WORD_SEQUENCE_SHIFT);
    if (STEL__UNLIKELY(!sequence)) sequence = UINT64_C(1) << STEL__WORD_SEQUENCE_SHIFT; /* a ticket is never 0 */
    stel__store_relaxed(&w->reason, (uint8_t)reason);
    stel__store_release(&w->word, sequence | STEL__WORD_PREPARED);
    return sequence | w->index;
}
/* PREPARED or PARKED -> WOKEN, by an event. The state that the swap ended; IDLE: the wait of this ticket is over. */
static inline uint64_t stel__waiter_win(stel__waiter *w, stel__ticket t, uint16_t which) {
    uint64_t word = stel__load_relaxed(&w->word), state, woken;
    do {
        state = word & STEL__WORD_STATE;
        if ((word ^ t) & STEL__WORD_SEQUENCE || state == STEL__WORD_IDLE || state == STEL__WORD_WOKEN)
            return STEL__WORD_IDLE;
        woken = (word & STEL__WORD_SEQUENCE) | STEL__WORD_WOKEN | STEL__WORD_CAUSE_EVENT |
                (uint64_t)which << STEL__WORD_WHICH_SHIFT;
    } while (!stel__cas_acq_rel(&w->word, &word, woken));
    return state;
}
/* WOKEN -> IDLE: what came of the wait. */
static inline int stel__waiter_outcome(stel__waiter *w) {
    uint64_t word = stel__load_acquire(&w->word); /* pairs with the winner's swap */
    STEL__CHECK((word & STEL__WORD_STATE) == STEL__WORD_WOKEN);
    stel__store_relaxed(&w->word, word & STEL__WORD_SEQUENCE);
    stel__store_relaxed(&w->reason, STEL__WAIT_NONE);
    w->streak = 0;
    uint64_t cause = word & STEL__WORD_CAUSE;
    if (STEL__LIKELY(cause == STEL__WORD_CAUSE_EVENT)) return (int)(uint16_t)(word >> STEL__WORD_WHICH_SHIFT);
    w->timed_out = cause == STEL__WORD_CAUSE_TIMER;
    return cause == STEL__WORD_CAUSE_TIMER ? -ETIMEDOUT : -ECANCELED;
}
/* Neither deadline, shield nor cancellation: most fibers, most of the time. */
static inline bool stel__fiber_unlimited(const stel__fiber *f) {
    return stel__load_relaxed(&f->waiter.deadline) == STEL_FOREVER &&
           stel__load_relaxed(&f->waiter.shield_until) == INT64_MIN &&
           !(stel__load_relaxed(&f->life) & STEL__LIFE_CANCELLED);
}

/* f has just been PARKED with this word: was it cancelled, or given its token, on the way? */
void stel__waiter_recheck(stel__fiber *f, uint64_t parked);
/* stel_cancel, stel_unpark: `life` has the flag now; end f's wait if it is one of the kind (INTERRUPTIBLE or TOKEN). */
void stel__waiter_interrupt(stel__fiber *f, stel_fiber handle, uint64_t kind);
/* stel_park: a wait that also ends when the token is given. */
int stel__waiter_park_for_token(stel__waiter *w);
/* The waiter's own deadline ended its wait: remember it. -ETIMEDOUT. */
int stel__waiter_deadline_passed(stel__waiter *w);
/* A fiber begins, or ends: no deadline, no shield. */
static inline void stel__waiter_begin(stel__waiter *w) {
    stel__store_relaxed(&w->deadline, STEL_FOREVER);
    stel__store_relaxed(&w->shield_until, INT64_MIN);
    stel__store_relaxed(&w->reason, STEL__WAIT_NONE);
    w->timed_out = 0;
    w->streak = 0;
}
static inline void stel__waiter_end(stel__waiter *w) {
    stel__waiter_begin(w);
}

/* ---- the table (table.c) ---- */
enum { STEL__SEGMENT_SHIFT = 10, STEL__SEGMENT_SLOTS = 1 << STEL__SEGMENT_SHIFT };
extern _Atomic(stel__fiber *) stel__segments[1 << (STEL__INDEX_BITS - STEL__SEGMENT_SHIFT)];

/* The block at an index that was handed out once. */
static inline stel__fiber *stel__fiber_at(uint32_t index) {
    /* acquire: pairs with the release in table.c that publishes a segment */
    stel__fiber *segment = stel__load_acquire(&stel__segments[index >> STEL__SEGMENT_SHIFT]);
    return segment + (index & (STEL__SEGMENT_SLOTS - 1));
}
/* The block a handle points at, whatever lives there now; NULL when no fiber ever had that index. */
static inline stel__fiber *stel__fiber_find(stel_fiber handle) {
    uint32_t index = (uint32_t)(handle & STEL__INDEX_MASK);
    stel__fiber *segment = stel__load_acquire(&stel__segments[index >> STEL__SEGMENT_SHIFT]);
    if (!segment) return NULL;
    stel__fiber *f = segment + (index & (STEL__SEGMENT_SLOTS - 1));
    return stel__load_acquire(&f->life) ? f : NULL; /* pairs with table.c, where the block begins */
}

/* Free blocks: one list a worker (owner only), filled from and spilled to the table's list. */
typedef struct stel__free_blocks {
    stel__fiber *head;
    uint32_t count;
} stel__free_blocks;
/* A free block, its life one that no handle has had; NULL with *error = -ENOMEM or -EAGAIN. list NULL: from the table.
 */
stel__fiber *stel__block_get_slow(stel__free_blocks *list, int *error);
void stel__block_spill(stel__free_blocks *list, uint32_t keep);
void stel__block_put_shared(stel__fiber *f);
uint32_t stel__table_size(void); /* indexes handed out so far */

static inline stel__fiber *stel__block_get(stel__free_blocks *list, int *error) {
    stel__fiber *f = list ? list->head : NULL;
    if (STEL__UNLIKELY(!f)) return stel__block_get_slow(list, error);
    list->head = stel__load_relaxed(&f->queue.run_next);
    list->count--;
    return f;
}
/* The slot is nobody's: its generation is over and the next may begin. list NULL: to the table. */
static inline void stel__block_put(stel__free_blocks *list, stel__fiber *f) {
    uint64_t generation = (stel__load_relaxed(&f->life) >> STEL__INDEX_BITS) + 1;
    /* release: pairs with the acquire of whoever looks a stale handle up */
    stel__store_release(&f->life, generation << STEL__INDEX_BITS);
    if (STEL__UNLIKELY(generation == STEL__GENERATION_MAX)) return; /* used up: the slot is retired */
    if (STEL__UNLIKELY(!list)) {
        stel__block_put_shared(f);
        return;
    }
    stel__store_relaxed(&f->queue.run_next, list->head);
    list->head = f;
    if (STEL__UNLIKELY(++list->count > 512)) stel__block_spill(list, 256);
}

/* Names and scopes are read by strangers: under this lock, which f shares with some others. Nothing but a scope's own
 * lock may be taken while it is held. */
stel__lock *stel__extra_lock(const stel__fiber *f);

#endif
