/* Timing wheels: hierarchical, after George Varghese and Tony Lauck, "Hashed and hierarchical timing wheels" (SOSP
 * 1987), scheme 7, with a bitmap a level so that empty time is skipped.
 *
 * A tick is 2^14 ns (16 us). Level 0 has the 64 slots of single ticks, level 1 slots of 64 ticks, and so on, nine
 * levels in all: the whole of int64_t. A timer is kept on the level of the highest group of six bits in which its tick
 * differs from the wheel's; when the wheel reaches the start of a slot of a higher level, the slot's timers are sorted
 * into lower levels. The resolution is not the tick: timers in the slot of the running tick fire only when their exact
 * time has come, and `next` is the exact time of the earliest one.
 *
 * A fiber has one timer. It stays on the wheel when a wait ends before it fires, as the next wait will often have the
 * same deadline or a later one; a timer that fires early is armed again (stel__waiter_timer_fired tells for when). So
 * most waits with a deadline find their timer armed already.
 *
 * Invariants (all under the wheel's lock)
 *   1. A fiber's timer is on wheel k exactly when f->wheel == k; only then are f->timer and f->timer_when meaningful.
 *   2. f->wheel goes from 0 to k by the fiber itself and from k to 0 by whoever holds k's lock. So a fiber that reads k
 *      takes k's lock and looks again; a fiber that reads 0 knows that nobody else touches its timer.
 *   3. Every timer on the wheel has its slot's bit set; a set bit may belong to a slot that has become empty.
 *   4. next <= the time of every timer. It may be too early (a timer was taken off): that costs a look.
 *
 * Locks: a wheel's lock is taken with no other held but for an object's; while it is held, waits are ended, which takes
 * the locks of run queues. */
#include "sched/wheel.h"

static void slot_init(stel__link *s) {
    s->next = s->prev = s;
}
static bool slot_empty(const stel__link *s) {
    return s->next == s;
}
static void slot_add(stel__link *s, stel__link *n) {
    n->prev = s->prev;
    n->next = s;
    s->prev->next = n;
    s->prev = n;
}
static void slot_remove(stel__link *n) {
    n->prev->next = n->next;
    n->next->prev = n->prev;
}

static int64_t tick_of(int64_t when) {
    return when < 0 ? 0 : when >> STEL__WHEEL_SHIFT;
}
static unsigned index_at(int64_t tick, int level) {
    return (unsigned)(tick >> (level * STEL__WHEEL_BITS)) & (STEL__WHEEL_SLOTS - 1);
}

void stel__wheel_init(stel__wheel *w, uint16_t name, int64_t now) {
    w->name = name;
    w->tick = tick_of(now);
    stel__store_relaxed(&w->next, STEL_FOREVER);
    for (int level = 0; level < STEL__WHEEL_LEVELS; level++)
        for (int i = 0; i < STEL__WHEEL_SLOTS; i++)
            slot_init(&w->slot[level][i]);
}

static void insert(stel__wheel *w, stel__fiber *f, int64_t when) {
    int64_t tick = tick_of(when);
    if (tick < w->tick) tick = w->tick;
    uint64_t differs = (uint64_t)(tick ^ w->tick);
    int level = differs ? (63 - __builtin_clzll(differs)) / STEL__WHEEL_BITS : 0;
    unsigned i = index_at(tick, level);
    f->timer_when = when;
    slot_add(&w->slot[level][i], &f->timer);
    w->bitmap[level] |= UINT64_C(1) << i;
}

/* The first slot of a level that has timers, from index `from` on; -1 when there is none. Mends invariant 3's slack. */
static int first_slot(stel__wheel *w, int level, unsigned from) {
    uint64_t candidates = from < STEL__WHEEL_SLOTS ? w->bitmap[level] & (~UINT64_C(0) << from) : 0;
    while (candidates) {
        int i = __builtin_ctzll(candidates);
        if (!slot_empty(&w->slot[level][i])) return i;
        candidates &= candidates - 1;
        w->bitmap[level] &= ~(UINT64_C(1) << i);
    }
    return -1;
}

/* The tick at which slot i of a level begins, i being ahead of the wheel's own index on that level. */
static int64_t slot_start(const stel__wheel *w, int level, int i) {
    int64_t span = INT64_C(1) << (level * STEL__WHEEL_BITS);
    int64_t round = w->tick & ~((span << STEL__WHEEL_BITS) - 1);
    return round + i * span;
}

/* The earliest slot with timers: its level, or -1 when the wheel is empty; *slot and *start say which and when. */
static int earliest(stel__wheel *w, int *slot, int64_t *start) {
    for (int level = 0; level < STEL__WHEEL_LEVELS; level++) {
        /* A timer's tick differs from the wheel's on its level, so its slot lies ahead; on level 0 it may be the same.
         */
        *slot = first_slot(w, level, index_at(w->tick, level) + (level > 0));
        if (*slot < 0) continue;
        *start = slot_start(w, level, *slot);
        return level;
    }
    return -1;
}

static int64_t next_time(stel__wheel *w) {
    int slot;
    int64_t start;
    int level = earliest(w, &slot, &start);
    if (level < 0) return STEL_FOREVER;
    if (level > 0) return start << STEL__WHEEL_SHIFT; /* to be sorted into lower levels then */
    int64_t when = STEL_FOREVER;
    stel__link *s = &w->slot[0][slot];
    for (stel__link *n = s->next; n != s; n = n->next) {
        const stel__fiber *f = STEL__CONTAINER(n, stel__fiber, timer);
        if (f->timer_when < when) when = f->timer_when;
    }
    return when;
}

/* One timer is due: off the wheel with it, and back on if it fired early. */
static void fire(stel__wheel *w, stel__fiber *f, int64_t now, unsigned *ended) {
    slot_remove(&f->timer);
    int64_t again = stel__waiter_timer_fired(f, now, ended);
    if (again != STEL_FOREVER)
        insert(w, f, again);
    else
        stel__store_release(&f->wheel,
                            0); /* pairs with the acquire in arm and disarm: the timer is the fiber's again */
}

/* Fire or re-sort the timers of one slot. The list is taken aside first: those that come back may land in the same
 * slot. */
static void empty_slot(stel__wheel *w, int level, int i, int64_t now, unsigned *ended) {
    stel__link *s = &w->slot[level][i];
    stel__link aside;
    aside.next = s->next;
    aside.prev = s->prev;
    aside.next->prev = aside.prev->next = &aside;
    slot_init(s);
    w->bitmap[level] &= ~(UINT64_C(1) << i);
    while (!slot_empty(&aside)) {
        stel__fiber *f = STEL__CONTAINER(aside.next, stel__fiber, timer);
        if (f->timer.next != &aside) stel__fiber_fetch(STEL__CONTAINER(f->timer.next, stel__fiber, timer));
        if (f->timer_when <= now) {
            fire(w, f, now, ended);
        } else {
            slot_remove(&f->timer);
            insert(w, f, f->timer_when);
        }
    }
}

unsigned stel__wheel_expire(stel__wheel *w, int64_t now) {
    unsigned ended = 0;
    int64_t target = tick_of(now), start;
    int level, slot;
    stel__lock_take(&w->lock);
    while ((level = earliest(w, &slot, &start)) >= 0 && start <= target) {
        if (start > w->tick) w->tick = start;
        empty_slot(w, level, slot, now, &ended);
        if (start == target && level == 0) break; /* what is left in it is not due yet */
    }
    if (target > w->tick) w->tick = target;
    stel__store_relaxed(&w->next, next_time(w));
    stel__lock_give(&w->lock);
    return ended;
}

void stel__wheel_arm(stel__wheel *mine, stel__wheel *(*of)(stel__sched *s, uint16_t name), stel__fiber *f,
                     int64_t limit) {
    stel__store_relaxed(&f->queue.limit, limit);
    uint16_t name = stel__load_acquire(&f->wheel);
    if (name) {
        stel__wheel *w = of(stel__fiber_home(f), name);
        stel__lock_take(&w->lock);
        if (stel__load_relaxed(&f->wheel) == name) {
            /* Armed early enough? Whoever fires it takes this lock after us and so sees the new limit. */
            if (f->timer_when <= limit) {
                stel__lock_give(&w->lock);
                return;
            }
            slot_remove(&f->timer);
            stel__store_relaxed(&f->wheel, 0);
        }
        stel__lock_give(&w->lock);
    }
    stel__lock_take(&mine->lock);
    insert(mine, f, limit);
    stel__store_relaxed(&f->wheel, mine->name);
    if (limit < stel__load_relaxed(&mine->next)) stel__store_relaxed(&mine->next, limit);
    stel__lock_give(&mine->lock);
}

void stel__wheel_disarm(stel__wheel *(*of)(stel__sched *s, uint16_t name), stel__fiber *f) {
    uint16_t name = stel__load_acquire(&f->wheel);
    if (!name) return;
    stel__wheel *w = of(stel__fiber_home(f), name);
    stel__lock_take(&w->lock);
    if (stel__load_relaxed(&f->wheel) == name) {
        slot_remove(&f->timer);
        stel__store_relaxed(&f->wheel, 0);
    }
    stel__lock_give(&w->lock);
}

void stel__wheel_clear(stel__wheel *w) {
    stel__lock_take(&w->lock);
    for (int level = 0; level < STEL__WHEEL_LEVELS; level++)
        for (int i = 0; i < STEL__WHEEL_SLOTS; i++) {
            stel__link *s = &w->slot[level][i];
            while (!slot_empty(s)) {
                stel__fiber *f = STEL__CONTAINER(s->next, stel__fiber, timer);
                slot_remove(&f->timer);
                stel__store_release(&f->wheel, 0);
            }
        }
    stel__store_relaxed(&w->next, STEL_FOREVER);
    stel__lock_give(&w->lock);
}
