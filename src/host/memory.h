/* Part of host.h. Allocation: memory.c. */
#ifndef STEL_HOST_MEMORY_H
#define STEL_HOST_MEMORY_H

#include <stddef.h>

/* Zeroed memory or NULL, libc's or that of stel_set_allocator; the fault seam counts it. */
void *stel__alloc(size_t bytes);
void *stel__alloc_aligned(size_t alignment, size_t bytes);
void stel__free(void *p);

/* The same for what is never given back: of whole pages, of which only those that are touched cost memory; huge pages,
 * where there are any, if it is a multiple of STEL__HUGE_PAGE. */
#define STEL__HUGE_PAGE ((size_t)2 << 20)
void *stel__alloc_lasting(size_t bytes);

#endif
