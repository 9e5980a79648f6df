/* stellane/scope.h: time limits.
 *
 * A deadline is a property of the caller (fiber or plain thread), not an argument: every call that can wait obeys the
 * tightest one that is open and returns -ETIMEDOUT when it has passed, again and again until the block is left. */
#ifndef STELLANE_SCOPE_H
#define STELLANE_SCOPE_H

#include <stellane/base.h>

STEL_BEGIN_DECLS

/* A declaration: from here to the end of the enclosing block, however it is left (return, break, goto), the caller's
 * waits end after length_ns. Inside a tighter one it changes nothing. */
#define STEL_TIMEOUT(length_ns)                                                                                        \
    __attribute__((cleanup(stel__deadline_leave), unused)) int64_t STEL__JOIN(stel__deadline_, __LINE__) =             \
        stel_deadline_push(stel_after(length_ns))

/* The caller's deadline as a point in time; STEL_FOREVER when there is none. One that a wait has reported is given as
 * INT64_MIN, until its block is left. */
STEL_API int64_t stel_deadline(void);

/* By hand: push makes the deadline min(deadline, when) and returns what it was; pop puts that back. Never wait. */
STEL_API int64_t stel_deadline_push(int64_t when);
STEL_API void stel_deadline_pop(int64_t previous);
static inline void stel__deadline_leave(int64_t *previous) {
    stel_deadline_pop(*previous);
}

/* Was the caller's latest -ETIMEDOUT its own deadline? false: it came from elsewhere, as from a peer that does not
 * answer a connect. */
STEL_API bool stel_timed_out(void);

STEL_END_DECLS
#endif
