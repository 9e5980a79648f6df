/* The process-wide table of control blocks: segments of 1,024, made as they are needed and never given back, and the list
 * of blocks that no worker keeps. Everything here is off the hot path: workers fetch and spill blocks by the hundred.
 * A segment's blocks are touched only when they are handed out for the first time, lowest index first, so that a program
 * with a few fibers pays for a few pages. Those of a program with many come in huge pages, 32 segments in three of them:
 * fewer faults to make them, and fewer misses of the TLB when a fiber that has lain for long is woken.
 *
 * Type stability is the point: a ticket, a handle, a timer node may outlive the fiber it was made for, and looking at its
 * slot is always safe. */
#include "sched/fiber.h"

_Atomic(stel__fiber *) stel__segments[1 << (STEL__INDEX_BITS - STEL__SEGMENT_SHIFT)];

enum { BATCH = 128, GROUP = 32 /* segments */ };
#define SEGMENT_BYTES (sizeof(stel__fiber) * STEL__SEGMENT_SLOTS)
#ifndef STEL__SANITIZED
_Static_assert(GROUP *SEGMENT_BYTES % STEL__HUGE_PAGE == 0, "a group of segments is made of whole huge pages");
#endif

static struct {
    stel__lock lock;
    stel__fiber *free;     /* under lock: given back by workers */
    uint32_t capacity;     /* under lock: indexes that have memory */
    _Atomic uint32_t size; /* indexes that have been handed out; grows under lock */
} table;

enum { EXTRA_LOCKS = 64 };
static struct { STEL__ALIGNED(STEL__CACHE_LINE) stel__lock lock; } extra_locks[EXTRA_LOCKS];

stel__lock *stel__extra_lock(const stel__fiber *f) {
    return &extra_locks[f->waiter.index % EXTRA_LOCKS].lock;
}

/* acquire: pairs with the release in block_first, so that every index below the size can be looked up */
uint32_t stel__table_size(void) {
    return stel__load_acquire(&table.size);
}

/* Under table.lock: memory for more segments, one by one at first. */
static int segments_add(void) {
    uint32_t first = table.capacity >> STEL__SEGMENT_SHIFT, n = first < GROUP ? 1 : GROUP;
    if (table.capacity >> STEL__INDEX_BITS) return -EAGAIN;
    stel__fiber *blocks = stel__alloc_lasting(SEGMENT_BYTES * n);
    if (!blocks && n > 1) blocks = stel__alloc_lasting(SEGMENT_BYTES * (n = 1));
    if (!blocks) return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        stel__store_release(&stel__segments[first + i], blocks + i * STEL__SEGMENT_SLOTS);
    table.capacity += n * STEL__SEGMENT_SLOTS;
    return 0;
}

/* Under table.lock: a block that no fiber has had yet. */
static stel__fiber *block_first(int *error) {
    uint32_t index = stel__load_relaxed(&table.size);
    if (index == table.capacity && (*error = segments_add()) < 0) return NULL;
    stel__fiber *f = stel__fiber_at(index);
    f->waiter.index = index;
    /* Index 0 with generation 0 would be handle 0, which means none: generations begin at 1. */
    stel__store_release(&f->life, UINT64_C(1)
                                      << STEL__INDEX_BITS); /* pairs with stel__fiber_find: the index is there */
    stel__store_release(&table.size, index + 1);
    return f;
}

/* Under table.lock. */
static stel__fiber *block_take(int *error) {
    stel__fiber *f = table.free;
    if (!f) return block_first(error);
    table.free = f->queue.run_next;
    return f;
}

stel__fiber *stel__block_get_slow(stel__free_blocks *list, int *error) {
    stel__lock_take(&table.lock);
    stel__fiber *f = block_take(error);
    int unimportant;
    for (int n = 0; f && list && n < BATCH; n++) {
        stel__fiber *spare = block_take(&unimportant);
        if (!spare) break;
        spare->queue.run_next = list->head;
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
