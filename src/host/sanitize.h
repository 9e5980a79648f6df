/* Annotations for the tools that follow stacks: AddressSanitizer, ThreadSanitizer, Valgrind. In ordinary builds the
 * fiber annotations are macros that do not even evaluate their arguments, so that the fields they name need not exist;
 * with ASan or TSan STEL__SANITIZED is 1 and each flow of control (a fiber, and a worker's own context) has a
 * stel__sanitizer_fiber. How the scheduler uses them:
 *
 *     worker starts      stel__sanitize_thread_self(&worker->sanitizer)
 *     stack bound        stel__sanitize_fiber_new(&fiber->sanitizer, lowest usable byte, usable bytes)
 *     around a switch    stel__sanitize_before_switch(&from, &to, from_ends); the switch;
 *                        stel__sanitize_after_switch(&self, &came_from)     first thing in an entry function, too
 *     fiber has ended    stel__sanitize_fiber_free(&fiber->sanitizer)       from another context, never its own
 *
 * A switch orders what came before it before what comes after it (flag 0 for TSan): both run on the same thread, so
 * that is the truth and hides nothing.
 *
 * Valgrind learns of a stack once, when its slot is first handed out (stack.c), and keeps knowing it: slots are never
 * unmapped. Whether we run under it is asked once a process. */
#ifndef STEL_HOST_SANITIZE_H
#define STEL_HOST_SANITIZE_H

#include "base/base.h"

#if defined(STEL__TSAN) || defined(STEL__ASAN)
#define STEL__SANITIZED 1
#endif

typedef struct stel__sanitizer_fiber {
    void *tsan;
    void *fake_stack; /* ASan's, while this flow of control does not run */
    const void *low;  /* lowest byte of the stack it runs on */
    size_t bytes;
} stel__sanitizer_fiber;

/* Around code that reads memory which a tool has marked as not to be read: the canary of an unguarded stack. */
#if defined(__clang__)
#define STEL__UNSANITIZED __attribute__((noinline, no_sanitize("address", "thread", "undefined")))
#else
#define STEL__UNSANITIZED __attribute__((noinline, no_sanitize_address, no_sanitize_thread, no_sanitize_undefined))
#endif

#ifdef STEL__SANITIZED

#define STEL__SANITIZE_INLINE __attribute__((always_inline)) static inline

#ifdef STEL__ASAN
extern void __sanitizer_start_switch_fiber(void **fake_stack_save, const void *bottom, size_t size);
extern void __sanitizer_finish_switch_fiber(void *fake_stack_save, const void **bottom_old, size_t *size_old);
extern void __asan_unpoison_memory_region(void const volatile *addr, size_t size);
#endif
#ifdef STEL__TSAN
extern void *__tsan_get_current_fiber(void);
extern void *__tsan_create_fiber(unsigned flags);
extern void __tsan_destroy_fiber(void *fiber);
extern void __tsan_switch_to_fiber(void *fiber, unsigned flags);
extern void AnnotateIgnoreWritesBegin(const char *file, int line);
extern void AnnotateIgnoreWritesEnd(const char *file, int line);
#endif

/* What the calling thread writes in between races with nobody. */
STEL__SANITIZE_INLINE void stel__sanitize_ignore_begin(void) {
#ifdef STEL__TSAN
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
}
STEL__SANITIZE_INLINE void stel__sanitize_ignore_end(void) {
#ifdef STEL__TSAN
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
#endif
}

/* The stack of the calling thread, from pthread_getattr_np. */
void stel__sanitize_thread_bounds(const void **low, size_t *bytes);

/* For a worker's own context; call it on the thread that it describes. */
STEL__SANITIZE_INLINE void stel__sanitize_thread_self(stel__sanitizer_fiber *f) {
    *f = (stel__sanitizer_fiber){ 0 };
    stel__sanitize_thread_bounds(&f->low, &f->bytes);
#ifdef STEL__TSAN
    f->tsan = __tsan_get_current_fiber();
#endif
}

/* A fiber that is about to run for the first time on this stack. What the last fiber left poisoned there, because it
 * ended without returning through its frames, is forgotten. */
STEL__SANITIZE_INLINE void stel__sanitize_fiber_new(stel__sanitizer_fiber *f, const void *low, size_t bytes) {
    *f = (stel__sanitizer_fiber){ .low = low, .bytes = bytes };
#ifdef STEL__ASAN
    __asan_unpoison_memory_region(low, bytes);
#endif
#ifdef STEL__TSAN
    f->tsan = __tsan_create_fiber(0);
#endif
}

STEL__SANITIZE_INLINE void stel__sanitize_fiber_free(stel__sanitizer_fiber *f) {
#ifdef STEL__TSAN
    if (f->tsan) __tsan_destroy_fiber(f->tsan);
#endif
    *f = (stel__sanitizer_fiber){ 0 };
}

STEL__SANITIZE_INLINE void stel__sanitize_before_switch(stel__sanitizer_fiber *from, stel__sanitizer_fiber *to,
                                                        bool from_ends) {
    (void)from, (void)to, (void)from_ends;
#ifdef STEL__ASAN
    __sanitizer_start_switch_fiber(from_ends ? NULL : &from->fake_stack, to->low, to->bytes);
#endif
#ifdef STEL__TSAN
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
}

/* came_from may be NULL and is not touched: its bounds are known from the start, and it may be gone. */
STEL__SANITIZE_INLINE void stel__sanitize_after_switch(stel__sanitizer_fiber *to_self,
                                                       stel__sanitizer_fiber *came_from) {
    (void)to_self, (void)came_from;
#ifdef STEL__ASAN
    __sanitizer_finish_switch_fiber(to_self->fake_stack, NULL, NULL);
#endif
}

#else /* ordinary builds */

#define stel__sanitize_ignore_begin()                   ((void)0)
#define stel__sanitize_ignore_end()                     ((void)0)
#define stel__sanitize_thread_self(f)                   ((void)0)
#define stel__sanitize_fiber_new(f, low, bytes)         ((void)0)
#define stel__sanitize_fiber_free(f)                    ((void)0)
#define stel__sanitize_before_switch(from, to, ends)    ((void)0)
#define stel__sanitize_after_switch(to_self, came_from) ((void)0)

#endif

/* True under Valgrind; a load and a predicted branch. */
bool stel__sanitize_valgrind(void);
/* Tell Valgrind that [low, low + bytes) is a stack; nothing in any other process. */
void stel__sanitize_register_stack(const void *low, size_t bytes);
/* Tell Valgrind that the kernel wrote there, by a way that it cannot see. */
void stel__sanitize_written(const void *low, size_t bytes);

#endif
