/* stellane/scope.h: time limits, cancellation of many, structured concurrency.
 *
 * A deadline is a property of the caller (fiber or plain thread), not an argument: every call that can wait obeys the
 * tightest one that is open and returns -ETIMEDOUT when it has passed, again and again until the block is left.
 *
 * A scope is a block that its fibers do not outlive: who opened it waits for all of them before going on, and when one
 * of them fails, or the opener is cancelled, the others are cancelled. A token cancels any fibers, related or not. */
#ifndef STELLANE_SCOPE_H
#define STELLANE_SCOPE_H

#include <stellane/fiber.h>

STEL_BEGIN_DECLS

/* ---- time limits ---- */

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

/* ---- scopes ---- */

/* Opened by one fiber or plain thread, the opener, in memory of its own (as a rule on its stack), which must stay where
 * it is until the scope is closed. Scopes of one opener nest. */
typedef struct stel_scope {
    uint64_t opaque[16];
} stel_scope;

enum stel_scope_flags {
    STEL_SCOPE_COLLECT = 1u << 0 /* a child's failure does not cancel its siblings */
};

/* A declaration: `name` is an open scope; leaving the enclosing block, however (return, break, goto, a C++ exception,
 * stel_exit), cancels the children that still run and waits until they have ended. Join it to wait for them without
 * cancelling. When it could not be opened for want of memory, every spawn into it says so. */
#define STEL_SCOPE(name) STEL_SCOPE_WITH(name, 0)
/* The same with flags. */
#define STEL_SCOPE_WITH(name, flags)                                                                                   \
    __attribute__((cleanup(stel__scope_leave))) stel_scope name;                                                       \
    __attribute__((unused)) const int STEL__JOIN(stel__scope_opened_, __LINE__) = stel_scope_open(&(name), (flags))

/* Open s by hand; the opener must join it before it ends. A fiber that returns from its function with an open scope
 * aborts with a message; stel_exit closes what is open. Opened by a cancelled fiber (that is not shielded), the scope
 * is cancelled from the start. Never waits.
 * Errors: -EINVAL (s NULL, unknown flags), -ENOMEM, -EPERM (after fork). */
STEL_API STEL_MUST_CHECK int stel_scope_open(stel_scope *s, unsigned flags);

/* Start fn(arg) as a child of the scope: a fiber of the opener's runtime (of a plain thread: where its stel_spawn goes)
 * with the opener's deadline, which is cancelled when the opener or the scope is. A child of a background fiber is a
 * background fiber. The caller may be the opener, a child, or whoever knows that the scope is still open. Never waits.
 * Errors: -EINVAL (fn NULL; s NULL or not open); when the scope is cancelled and nothing was started: the failure of the
 * child that did it, else -ECANCELED; and those of stel_spawn. So who stops at the first error and returns it tells the
 * cause, too. */
STEL_API STEL_MUST_CHECK int stel_scope_spawn(stel_scope *s, stel_fn *fn, void *arg);

/* Wait until every child has ended, whatever happens, and close the scope. Only for the opener.
 * The first child that failed (a negative result) cancels its siblings, unless STEL_SCOPE_COLLECT, and its result is
 * returned, however late the opener comes. When the join is cut short, the children are cancelled, waited for all the
 * same, and -ETIMEDOUT or -ECANCELED is returned. -ECANCELED of a child that the scope cancelled is no failure.
 * Errors: those, and -EINVAL (s NULL or not open), -EPERM (the caller has not opened it; after fork). */
STEL_API STEL_MUST_CHECK int stel_scope_join(stel_scope *s);

/* Cancel all children, and those that would still be spawned. The scope stays open: join it. Whoever knows that it is
 * open may call it; on a scope that is not open it does nothing. Never waits. */
STEL_API void stel_scope_cancel(stel_scope *s);

/* What STEL_SCOPE does at the end of its block: cancel, and join unless that was done. */
STEL_API void stel_scope_close(stel_scope *s);
static inline void stel__scope_leave(stel_scope *s) {
    stel_scope_close(s);
}

/* ---- cancel tokens ---- */

/* One handle that cancels any number of fibers. Counted references: create gives one, retain one more, release gives
 * one back; a token without references is freed, and its fibers go on uncancelled. All calls may come from anywhere and
 * never wait. */
typedef struct stel_cancel_token stel_cancel_token;

/* Errors: -EINVAL (out NULL), -ENOMEM. */
STEL_API STEL_MUST_CHECK int stel_cancel_token_create(stel_cancel_token **out);
STEL_API stel_cancel_token *stel_cancel_token_retain(stel_cancel_token *t);
STEL_API void stel_cancel_token_release(stel_cancel_token *t); /* NULL is allowed */

/* Cancel every attached fiber, and each that will be attached. Twice is harmless. Errors: -EINVAL (t NULL). */
STEL_API int stel_cancel_token_cancel(stel_cancel_token *t);
/* Has it been? For code that computes and never waits; any thread. false for NULL. */
STEL_API bool stel_cancel_token_cancelled(const stel_cancel_token *t);

/* f is cancelled with t; at once, if t is. A fiber may have many tokens, and attaching twice does no harm; one that has
 * ended is forgotten. Errors: -EINVAL (t NULL), -ESRCH (no such fiber), -ENOMEM. */
STEL_API STEL_MUST_CHECK int stel_cancel_token_attach(stel_cancel_token *t, stel_fiber f);

STEL_END_DECLS
#endif
