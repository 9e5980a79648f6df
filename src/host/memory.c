/* Allocation: libc's or the program's own (stel_set_allocator), behind the fault seam, always zeroed.
 *
 * Whose memory it is must be settled before the first piece is handed out, or a piece could go back to the wrong owner:
 * the first allocation closes the choice. From then on the table is read without a lock. */
#include "host/fault.h"
#include "host/host.h"
#include <stdlib.h>
#include <stellane/runtime.h>
#include <string.h>
#include <sys/mman.h>

static struct {
    stel__lock lock;      /* held by set, and by the first allocation, while the choice is open */
    _Atomic bool settled; /* release, pairs with the acquire in own: the table is final */
    stel_allocator table; /* alloc NULL: libc */
} choice;

/* The program's allocator, or NULL for libc's. The choice is closed by asking. */
static const stel_allocator *own(void) {
    if (STEL__UNLIKELY(!stel__load_acquire(&choice.settled))) { /* pairs with the release below */
        stel__lock_take(&choice.lock);
        stel__store_release(&choice.settled, true);
        stel__lock_give(&choice.lock);
    }
    return choice.table.alloc ? &choice.table : NULL;
}

int stel_set_allocator(const stel_allocator *a) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    stel_allocator wanted = { .size = sizeof wanted };
    if (a && (!stel__struct_fits(a, a->size, sizeof *a) || !a->alloc || !a->release)) return -EINVAL;
    if (a) wanted = *a;
    stel__lock_take(&choice.lock);
    bool late = stel__load_relaxed(&choice.settled);
    if (!late) choice.table = wanted;
    stel__lock_give(&choice.lock);
    return late ? -EBUSY : 0;
}

void *stel__alloc(size_t bytes) {
    if (stel__fault_hit(STEL__FAULT_ALLOC)) return NULL;
    const stel_allocator *a = own();
    if (!a) return calloc(1, bytes);
    void *p = a->alloc(a->context, _Alignof(max_align_t), bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

void *stel__alloc_aligned(size_t alignment, size_t bytes) {
    STEL__ASSERT(alignment != 0 && (alignment & (alignment - 1)) == 0);
    if (stel__fault_hit(STEL__FAULT_ALLOC) || bytes > SIZE_MAX - alignment) return NULL;
    bytes = (bytes + alignment - 1) & ~(alignment - 1);
    const stel_allocator *a = own();
    void *p = a ? a->alloc(a->context, alignment, bytes) : aligned_alloc(alignment, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

#ifndef STEL__SANITIZED
/* Cut out of a larger piece when it is to be aligned. */
static void *map_aligned(size_t bytes, size_t alignment) {
    void *p = NULL;
    size_t extra = alignment > 1 ? alignment : 0;
    int rc = stel__sys_mmap(&p, NULL, bytes + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (rc < 0 || !extra) return rc < 0 ? NULL : p;
    uintptr_t low = (uintptr_t)p, base = (low + alignment - 1) & ~(alignment - 1), end = low + bytes + extra;
    if (base > low) (void)stel__sys_munmap((void *)low, base - low);
    if (end > base + bytes) (void)stel__sys_munmap((void *)(base + bytes), end - base - bytes);
    (void)stel__sys_madvise((void *)base, bytes, MADV_HUGEPAGE); /* a nicety */
    return (void *)base;
}
#endif

/* Sanitizers look for pointers in memory that they know of, so for them it comes from the heap. */
void *stel__alloc_lasting(size_t bytes) {
#ifdef STEL__SANITIZED
    return stel__alloc_aligned(STEL__CACHE_LINE, bytes);
#else
    if (own()) return stel__alloc_aligned(STEL__CACHE_LINE, bytes);
    if (stel__fault_hit(STEL__FAULT_ALLOC)) return NULL;
    return map_aligned(bytes, bytes % STEL__HUGE_PAGE == 0 ? STEL__HUGE_PAGE : 1);
#endif
}

void stel__free(void *p) {
    const stel_allocator *a = own();
    if (!a)
        free(p);
    else if (p)
        a->release(a->context, p);
}
