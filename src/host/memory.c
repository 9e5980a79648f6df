/* Allocation: libc's, behind the fault seam, always zeroed. */
#include "host/fault.h"
#include "host/host.h"
#include <stdlib.h>
#include <string.h>

void *stel__alloc(size_t bytes) {
    return stel__fault_hit(STEL__FAULT_ALLOC) ? NULL : calloc(1, bytes);
}

void *stel__alloc_aligned(size_t alignment, size_t bytes) {
    STEL__ASSERT(alignment != 0 && (alignment & (alignment - 1)) == 0);
    if (stel__fault_hit(STEL__FAULT_ALLOC) || bytes > SIZE_MAX - alignment) return NULL;
    bytes = (bytes + alignment - 1) & ~(alignment - 1);
    void *p = aligned_alloc(alignment, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

void stel__free(void *p) {
    free(p);
}
