/* base: the ground floor. Atomics, lists, clock, random numbers, log and the way to die with a message. Knows nothing.
 */
#ifndef STEL_BASE_H
#define STEL_BASE_H

#include "base/atomic.h"
#include "base/list.h"
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stellane/base.h>

#define STEL__CACHE_LINE    64
#define STEL__ALIGNED(n)    __attribute__((aligned(n)))
#define STEL__NOINLINE      __attribute__((noinline))
#define STEL__ALWAYS_INLINE __attribute__((always_inline)) static inline
/* Not inlined, and nothing concluded from its body: for the function that switches, whose asm changes everything. */
#if __has_attribute(noipa)
#define STEL__NOIPA __attribute__((noipa))
#else
#define STEL__NOIPA __attribute__((noinline))
#endif
#define STEL__COLD        __attribute__((cold, noinline))
#define STEL__LIKELY(x)   __builtin_expect(!!(x), 1)
#define STEL__UNLIKELY(x) __builtin_expect(!!(x), 0)
#define STEL__PREFETCH(p) __builtin_prefetch((p), 1) /* a line that will be written to soon */
#define STEL__COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* Abort with "stellane: file:line: text". ASSERT stays in release builds (cheap checks at doors); CHECK is for debug
 * builds only (STELLANE_CHECKS). */
STEL_NORETURN STEL__COLD void stel__die(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define STEL__ASSERT(x) (STEL__LIKELY(x) ? (void)0 : stel__die("%s:%d: %s does not hold", __FILE__, __LINE__, #x))
#ifdef STELLANE_CHECKS
#define STEL__CHECK(x) STEL__ASSERT(x)
#else
#define STEL__CHECK(x) ((void)0)
#endif

/* Lines on stderr, each one write(2): "stellane: text". once: remembers in *said that it was said. */
void stel__warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void stel__warn_once(_Atomic unsigned *said, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Can a struct of the caller's, which says that it has `size` bytes, be read as ours of `known`? A caller with a newer
 * header has a larger one: what we do not know must be zero. */
static inline bool stel__struct_fits(const void *given, size_t size, size_t known) {
    enum { SIZE_SANE = 4096 }; /* beyond it, it is no size */
    if (size < known || size > SIZE_SANE) return false;
    for (size_t i = known; i < size; i++)
        if (((const char *)given)[i]) return false;
    return true;
}

/* Saturating when = now + length for lengths that may be anything. */
static inline int64_t stel__time_add(int64_t now, int64_t length_ns) {
    int64_t when;
    return __builtin_add_overflow(now, length_ns, &when) ? (length_ns < 0 ? INT64_MIN : STEL_FOREVER) : when;
}

/* The oracle: whatever chance decides (victims, select order) is drawn from one of these, seeded from the runtime's
 * seed, so that a seeded run can be repeated. xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift
 * generators, scrambled", 2016). Not for secrets. */
typedef struct stel__oracle {
    uint64_t state;
} stel__oracle;
void stel__oracle_seed(stel__oracle *o, uint64_t seed);
static inline uint64_t stel__oracle_next(stel__oracle *o) {
    uint64_t x = o->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    o->state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}
/* A number in 0 ... n-1; n > 0. */
static inline uint32_t stel__oracle_below(stel__oracle *o, uint32_t n) {
    return (uint32_t)(((stel__oracle_next(o) >> 32) * n) >> 32);
}

#endif
