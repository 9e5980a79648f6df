/* The process-wide table of control blocks: segments of 1,024, made as they are needed and never given back, and the
 * list of blocks that no worker keeps. Everything here is off the hot path: workers fetch and spill blocks by the
 * hundred.
 *
 * Type stability is the point: a ticket, a handle, a timer node may outlive the fiber it was made for, and looking at
 * its slot is always safe. */
#include "sched/fiber.h"

_Atomic(stel__fiber *) stel__segments[1 << (STEL__INDEX_BITS - STEL__SEGMENT_SHIFT)];

enum { BATCH = 128 };

static struct {
    stel__lock lock;
    stel__fiber *free;     /* under lock */
    _Atomic uint32_t size; /* indexes that exist; grows under lock, a segment at a time */
} table;
static stel__lock extra_lock;

stel__lock *stel__extra_lock(void) {
    return &extra_lock;
}
/* acquire: pairs with the release in segment_add, so that every index below the size can be looked up */
uint32_t stel__table_size(void) {
    return stel__load_acquire(&table.size);
}

/* Under table.lock: one more segment, its blocks on the free list, lowest index first. */
static int segment_add(void) {
    uint32_t first = stel__load_relaxed(&table.size);
    if (first >> STEL__INDEX_BITS) return -EAGAIN;
    stel__fiber *segment = stel__alloc_aligned(STEL__CACHE_LINE, sizeof(stel__fiber) * STEL__SEGMENT_SLOTS);
    if (!segment) return -ENOMEM;
    for (uint32_t i = STEL__SEGMENT_SLOTS; i-- > 0;) {
        stel__fiber *f = &segment[i];
        f->waiter.index = first + i;
        /* Index 0 with generation 0 would be handle 0, which means none: generations begin at 1. */
        stel__store_relaxed(&f->life, UINT64_C(1) << STEL__INDEX_BITS);
        stel__store_relaxed(&f->queue.run_next, table.free);
        table.free = f;
    }
    stel__store_release(&stel__segments[first >> STEL__SEGMENT_SHIFT], segment);
    stel__store_release(&table.size, first + STEL__SEGMENT_SLOTS);
    return 0;
}

stel__fiber *stel__block_get_slow(stel__free_blocks *list, int *error) {
    stel__lock_take(&table.lock);
    if (!table.free && (*error = segment_add()) < 0) {
        stel__lock_give(&table.lock);
        return NULL;
    }
    stel__fiber *f = table.free;
    table.free = stel__load_relaxed(&f->queue.run_next);
    for (int n = 0; list && n < BATCH && table.free; n++) {
        stel__fiber *spare = table.free;
        table.free = stel__load_relaxed(&spare->queue.run_next);
        stel__store_relaxed(&spare->queue.run_next, list->head);
        list->head = spare;
        list->count++;
    }
    stel__lock_give(&table.lock);
    return f;
}

void stel__block_put_shared(stel__fiber *f) {
    stel__lock_take(&table.lock);
    stel__store_relaxed(&f->queue.run_next, table.free);
    table.free = f;
    stel__lock_give(&table.lock);
}

void stel__block_spill(stel__free_blocks *list, uint32_t keep) {
    stel__lock_take(&table.lock);
    while (list->count > keep) {
        stel__fiber *f = list->head;
        list->head = stel__load_relaxed(&f->queue.run_next);
        list->count--;
        stel__store_relaxed(&f->queue.run_next, table.free);
        table.free = f;
    }
    stel__lock_give(&table.lock);
}

stel__fiber *stel__fiber_find(stel_fiber handle) {
    uint32_t index = (uint32_t)(handle & STEL__INDEX_MASK);
    return handle && index < stel__table_size() ? stel__fiber_at(index) : NULL;
}
