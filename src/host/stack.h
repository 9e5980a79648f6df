/* Inside host only: what stack.c, stack_guard.c and overflow.c share. The essay is in stack.c. */
#ifndef STEL_HOST_STACK_H
#define STEL_HOST_STACK_H

#include "host/host.h"

enum {
    STEL__PAGE = 4096,             /* guards are counted in these, whatever the machine's pages are: see guard_bytes */
    STEL__STACK_SLOT_MIN = 16384,  /* class 0 */
    STEL__STACK_CLASSES_USED = 13, /* 16 KiB ... 64 MiB */
    STEL__STACK_BATCH = 64,        /* slots made ready, or cleaned, at a time */
    STEL__STACK_REGIONS_MAX = 16384,
};

/* One reserved chunk of address space, cut into slots of one class. Fixed after it was published, and never freed:
 * a signal handler may be reading it. */
typedef struct stel__region {
    uintptr_t base; /* of slot 0; aligned to the slot's size */
    size_t slot_bytes;
    uint32_t slots;
    int class;
    uint32_t handed;     /* slots made ready so far; under the class's lock */
    stel__stack *stacks; /* one a slot */
} stel__region;

/* Slots are aligned to their size: the lowest byte of the slot that the stack is in. */
static inline uintptr_t stel__stack_slot(const stel__stack *s) {
    uintptr_t bytes = (uintptr_t)STEL__STACK_SLOT_MIN << stel__stack_class_of(s);
    return ((uintptr_t)stel__stack_top(s) - 1) & ~(bytes - 1);
}
size_t stel__stack_guard_bytes(void);
/* The region and the slot's index that this address is in, or NULL. Async-signal-safe. */
const stel__region *stel__stack_region_of(uintptr_t address, uint32_t *slot);

/* ---- stack_guard.c ---- */

/* How guards are made, best first; a rung that turns out not to work here is left for good. */
enum stel__guard_rung {
    STEL__GUARD_UNKNOWN,
    STEL__GUARD_BATCH,   /* MADV_GUARD_INSTALL through process_madvise on ourselves */
    STEL__GUARD_SINGLE,  /* the same, one madvise each */
    STEL__GUARD_PROTECT, /* mprotect, while the map count lasts */
    STEL__GUARD_NONE     /* a canary */
};
enum stel__guard_rung stel__guard_rung_now(void);
/* Guard the lowest bytes of n slots (at most STEL__STACK_BATCH). Bit i of the result: slot i has a canary instead. guards: room
 * for n; not here, as whoever binds a stack may itself be at the end of one. */
uint64_t stel__guard_make(uintptr_t first_slot, size_t slot_bytes, uint32_t n, size_t guard_bytes,
                          struct iovec *guards);
bool stel__guard_canary_whole(uintptr_t slot, size_t guard_bytes);
/* Give the memory of n ranges back, in one call where the kernel allows it. What it refuses (locked memory) stays. */
void stel__discard_many(const struct iovec *ranges, size_t n);

#endif
