/* The queues that are shared: see inject.h. */
#include "sched/inject.h"

void stel__inject_init(stel__inject *q) {
    for (uint64_t i = 0; i < STEL__INJECT_CELLS; i++)
        stel__store_relaxed(&q->cell[i].turn, i);
}

static bool ring_push(stel__inject *q, stel__fiber *f) {
    uint64_t at = stel__load_relaxed(&q->push_at);
    for (;;) {
        stel__inject_cell *c = &q->cell[at % STEL__INJECT_CELLS];
        int64_t turn = (int64_t)(stel__load_acquire(&c->turn) - at); /* pairs with the release in ring_pop */
        if (turn < 0) return false;
        if (turn > 0) {
            at = stel__load_relaxed(&q->push_at);
        } else if (stel__cas_seq_cst(&q->push_at, &at, at + 1)) {
            c->fiber = f;
            stel__store_release(&c->turn, at + 1);
            return true;
        }
    }
}

static stel__fiber *ring_pop(stel__inject *q) {
    uint64_t at = stel__load_relaxed(&q->pop_at);
    for (;;) {
        stel__inject_cell *c = &q->cell[at % STEL__INJECT_CELLS];
        int64_t turn = (int64_t)(stel__load_acquire(&c->turn) - (at + 1)); /* pairs with the release in ring_push */
        if (turn < 0) return NULL;
        if (turn > 0) {
            at = stel__load_relaxed(&q->pop_at);
        } else if (stel__cas_seq_cst(&q->pop_at, &at, at + 1)) {
            stel__fiber *f = c->fiber;
            stel__store_release(&c->turn, at + STEL__INJECT_CELLS);
            return f;
        }
    }
}

void stel__inject_push(stel__inject *q, stel__fiber *f) {
    /* While some are on the list newcomers go behind them, or they would wait for ever. */
    if (!stel__load_relaxed(&q->spilled) && ring_push(q, f)) return;
    stel__lock_take(&q->lock);
    stel__fifo_push(&q->list, f);
    stel__add_seq_cst(&q->spilled, 1);
    stel__lock_give(&q->lock);
}

stel__fiber *stel__inject_pop(stel__inject *q) {
    stel__fiber *f = ring_pop(q);
    if (f || !stel__load_relaxed(&q->spilled)) return f;
    stel__lock_take(&q->lock);
    f = stel__fifo_pop(&q->list);
    if (f) stel__sub_seq_cst(&q->spilled, 1);
    stel__lock_give(&q->lock);
    return f;
}

void stel__levels_push(stel__levels *l, stel__fiber *f) {
    unsigned level = stel__fiber_level(f);
    stel__lock_take(&l->lock);
    stel__fifo_push(&l->level[level], f);
    stel__store_relaxed(&l->bitmap, stel__load_relaxed(&l->bitmap) | 1u << level);
    stel__count(&l->count, 1);
    stel__lock_give(&l->lock);
}

stel__fiber *stel__levels_pop(stel__levels *l, uint32_t wanted) {
    stel__fiber *f = NULL;
    stel__lock_take(&l->lock);
    uint32_t bitmap = stel__load_relaxed(&l->bitmap);
    if (bitmap & wanted) {
        int level = __builtin_ctz(bitmap & wanted);
        f = stel__fifo_pop(&l->level[level]);
        if (!l->level[level].head) stel__store_relaxed(&l->bitmap, bitmap & ~(1u << level));
        stel__store_relaxed(&l->count, stel__load_relaxed(&l->count) - 1);
    }
    stel__lock_give(&l->lock);
    return f;
}
