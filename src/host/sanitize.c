/* The parts of host/sanitize.h that are not inline: the bounds of a thread's stack, and Valgrind's client requests (a
 * few instructions that do nothing in any other process). */
#include "host/host.h"
#include <pthread.h>

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define HAVE_VALGRIND 1
#endif
#endif

#ifdef STEL__SANITIZED
void stel__sanitize_thread_bounds(const void **low, size_t *bytes) {
    pthread_attr_t attributes;
    void *address = NULL;
    *low = NULL;
    *bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
    if (pthread_attr_getstack(&attributes, &address, bytes) == 0) *low = address;
    pthread_attr_destroy(&attributes);
}
#endif

bool stel__sanitize_valgrind(void) {
#ifdef HAVE_VALGRIND
    static _Atomic int answer; /* 0: not asked yet; the same, whoever asks */
    int known = stel__load_relaxed(&answer);
    if (STEL__UNLIKELY(known == 0)) {
        known = RUNNING_ON_VALGRIND ? 2 : 1;
        stel__store_relaxed(&answer, known);
    }
    return known == 2;
#else
    return false;
#endif
}

void stel__sanitize_register_stack(const void *low, size_t bytes) {
    if (STEL__LIKELY(!stel__sanitize_valgrind())) return;
#ifdef HAVE_VALGRIND
    (void)VALGRIND_STACK_REGISTER(low, (const char *)low + bytes - 1);
#endif
    (void)low, (void)bytes; /* on machines that Valgrind does not know, its macros drop them */
}

void stel__sanitize_written(const void *low, size_t bytes) {
    if (STEL__LIKELY(!stel__sanitize_valgrind())) return;
#ifdef HAVE_VALGRIND
    (void)VALGRIND_MAKE_MEM_DEFINED(low, bytes);
#endif
    (void)low, (void)bytes;
}
