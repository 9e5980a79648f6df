/* An allocator to put under the library: what it hands out is full of rubbish, and what was released is kept for a while,
 * filled with a pattern that is looked at before the memory goes back to libc. So whoever counts on zeros, or writes to
 * what is gone, is found natively too; under AddressSanitizer, which sees reads as well, memory goes back at once. And it
 * counts what is alive. */
#ifndef GRAVEYARD_H
#define GRAVEYARD_H

#include "check_fiber.h"
#include "host/host.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { GRAVES = 2048, GRAVE_RUBBISH = 0x5B, GRAVE_PATTERN = 0xA5 };

typedef struct grave {
    void *base; /* libc's */
    size_t bytes;
    unsigned char data[];
} grave;

static struct {
    pthread_mutex_t lock;
    grave *kept[GRAVES]; /* under lock */
    size_t next;
    _Atomic int64_t blocks, bytes; /* alive */
} graveyard = { .lock = PTHREAD_MUTEX_INITIALIZER };

static inline void *graveyard_alloc(void *context, size_t alignment, size_t bytes) {
    (void)context;
    if (alignment < _Alignof(max_align_t)) alignment = _Alignof(max_align_t);
    char *base = malloc(bytes + alignment + sizeof(grave));
    if (!base) return NULL;
    uintptr_t data = ((uintptr_t)base + sizeof(grave) + alignment - 1) / alignment * alignment;
    grave *g = (grave *)(void *)(base + (data - (uintptr_t)base) - sizeof(grave));
    g->base = base;
    g->bytes = bytes;
    memset(g->data, GRAVE_RUBBISH, bytes);
    atomic_fetch_add(&graveyard.blocks, 1);
    atomic_fetch_add(&graveyard.bytes, (int64_t)bytes);
    return g->data;
}

static inline void graveyard_inspect(const grave *g) {
    for (size_t i = 0; i < g->bytes; i++)
        if (g->data[i] != GRAVE_PATTERN)
            FIBER_FAIL("byte %zu of %zu was written after the release of its memory", i, g->bytes);
}

static inline void graveyard_release(void *context, void *pointer) {
    (void)context;
    grave *g = STEL__CONTAINER(pointer, grave, data);
    atomic_fetch_sub(&graveyard.blocks, 1);
    atomic_fetch_sub(&graveyard.bytes, (int64_t)g->bytes);
#ifdef STEL__ASAN
    free(g->base);
#else
    memset(g->data, GRAVE_PATTERN, g->bytes);
    pthread_mutex_lock(&graveyard.lock);
    grave **place = &graveyard.kept[graveyard.next++ % GRAVES], *oldest = *place;
    *place = g;
    pthread_mutex_unlock(&graveyard.lock);
    if (!oldest) return;
    graveyard_inspect(oldest);
    free(oldest->base);
#endif
}

/* First thing in a test. */
static inline void graveyard_open(void) {
    static const stel_allocator table = { sizeof table, NULL, graveyard_alloc, graveyard_release };
    int rc = stel_set_allocator(&table);
    FIBER_ASSERT(rc == 0 || rc == -EBUSY); /* without a process for each test it is there already */
}

/* Last thing: nobody uses the library any more. */
static inline void graveyard_close(void) {
    for (size_t i = 0; i < GRAVES; i++) {
        if (!graveyard.kept[i]) continue;
        graveyard_inspect(graveyard.kept[i]);
        free(graveyard.kept[i]->base);
        graveyard.kept[i] = NULL;
    }
}

#endif
