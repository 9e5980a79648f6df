/* stellane/base.h: what every other header stands on: export and warning macros, times, error codes.
 *
 * Errors. Every function returns 0 or a count on success and a negative errno value on failure; what is in errno after
 * a call means nothing. A resolver failure is STEL_EAI(code). stel_strerror() names every value that a function can
 * return.
 *
 * Times. int64_t nanoseconds of CLOCK_MONOTONIC. A length of time may be negative (it has passed already); sums
 * saturate at STEL_FOREVER, which never comes. */
#ifndef STELLANE_BASE_H
#define STELLANE_BASE_H

#include <errno.h> /* the codes that are returned, negated */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STEL_VERSION_MAJOR 0
#define STEL_VERSION_MINOR 1
#define STEL_VERSION_PATCH 0
#define STEL_VERSION       "0.1.0"

#ifdef __cplusplus
#define STEL_BEGIN_DECLS extern "C" {
#define STEL_END_DECLS   }
#else
#define STEL_BEGIN_DECLS
#define STEL_END_DECLS
#endif

#define STEL_API        __attribute__((visibility("default")))
#define STEL_MUST_CHECK __attribute__((warn_unused_result))
#define STEL_NORETURN   __attribute__((noreturn))
/* In C, arguments that must not be NULL are checked at run time (-EINVAL): no nonnull attribute, which would let the
 * compiler drop those checks. */

#define STEL_FOREVER INT64_MAX
#define STEL_US(n)   ((int64_t)(n)*1000)
#define STEL_MS(n)   ((int64_t)(n)*1000000)
#define STEL_SEC(n)  ((int64_t)(n)*1000000000)

/* A resolver failure as a code of ours: STEL_EAI(EAI_NONAME) and so on, EAI_x as in <netdb.h> (they are negative). */
#define STEL_EAI(x) (-20000 + (x))

#define STEL__JOIN2(a, b) a##b
#define STEL__JOIN(a, b)  STEL__JOIN2(a, b)

STEL_BEGIN_DECLS

/* The time now: CLOCK_MONOTONIC, read afresh. Does not wait; any thread. */
STEL_API int64_t stel_now(void);

/* The words for a code: a negative errno value, STEL_EAI(x), or 0. Never NULL; the text lives for ever and is the same
 * for every caller. Codes that no function of ours returns give "unknown error". Does not wait; any thread. */
STEL_API const char *stel_strerror(int code);

/* The version of the library that is loaded, as in "0.1.0". Compare with STEL_VERSION, the version compiled against. */
STEL_API const char *stel_version(void);

/* when = now + length, saturating: what STEL_TIMEOUT and friends are made of. */
static inline int64_t stel_after(int64_t length_ns) {
    int64_t when;
    return __builtin_add_overflow(stel_now(), length_ns, &when) ? (length_ns < 0 ? INT64_MIN : STEL_FOREVER) : when;
}

STEL_END_DECLS
#endif
