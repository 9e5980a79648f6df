/* stellane/fiber.h: spawning fibers and living as one.
 *
 * A fiber is a function with a stack of its own, run by one of the runtime's workers (threads). It runs until it waits,
 * yields or ends; nothing takes the worker from it. After a wait it may run on another worker: do not keep the address
 * of a thread-local (or of errno) across a call that can wait, or spawn the fiber with STEL_NO_MIGRATE.
 *
 * Waiting calls, here and in the other headers, obey the fiber's deadline (-ETIMEDOUT) and its cancellation
 * (-ECANCELED), both level-triggered: once one holds, every later wait fails at once with the same code, until the
 * fiber ends, the deadline's block is left, or a shield is open. See scope.h for deadlines.
 *
 * Every function may be called from fibers and from plain threads unless its text says otherwise. On a plain thread any
 * waiting call may also return -ENOMEM: when there is no memory for the thread's first wait. */
#ifndef STELLANE_FIBER_H
#define STELLANE_FIBER_H

#include <stellane/base.h>

STEL_BEGIN_DECLS

/* A fiber's handle: a number that is unique in the process and never used again. 0 is no fiber. A handle of a fiber
 * that is gone is harmless: calls on it return -ESRCH. */
typedef uint64_t stel_fiber;

/* What a fiber runs. A result >= 0 is a success; a negative code is a failed fiber and counted as one. */
typedef int stel_fn(void *arg);

/* Where a fiber runs first. STEL_WORKER(i) also keeps it there for good; STEL_NODE(i) is a NUMA node's workers. */
#define STEL_ANYWHERE  0
#define STEL_WORKER(i) ((i) + 1)
#define STEL_NODE(i)   (-1 - (i))

enum stel_spawn_flags {
    STEL_NO_MIGRATE = 1u << 0, /* stays on the worker that runs it first: for code that keeps thread-locals */
    STEL_FP_ENVIRONMENT =
        1u << 1,              /* has rounding modes of its own, and SSE exception flags (the x87 unit's are shared) */
    STEL_BACKGROUND = 1u << 2 /* not counted by auto-shutdown; cancelled when all counted fibers have ended */
};

enum { STEL_PRIORITY_MOST_URGENT = -4, STEL_PRIORITY_NORMAL = 0, STEL_PRIORITY_LEAST_URGENT = 3 };

/* Zero in a field is its default. Set size to sizeof(stel_spawn_options): STEL_SPAWN_OPTIONS_INIT does. */
typedef struct stel_spawn_options {
    size_t size;
    const char *name;   /* copied, cut at 31 bytes; NULL: the fiber has no name */
    int priority;       /* -4 (most urgent) ... 3 */
    int place;          /* STEL_ANYWHERE, STEL_WORKER(i), STEL_NODE(i) */
    size_t stack_bytes; /* usable bytes, rounded up to a size class; 0: the runtime's stack size */
    unsigned flags;     /* enum stel_spawn_flags */
} stel_spawn_options;
#define STEL_SPAWN_OPTIONS_INIT                                                                                        \
    { sizeof(stel_spawn_options), NULL, 0, 0, 0, 0 }

/* Start a fiber that runs fn(arg). *out is written before the fiber can run; the fiber must be joined or detached.
 * From a fiber: on its runtime. From a plain thread: on the process's oldest running runtime.
 * Does not wait. The new fiber inherits neither deadline nor cancellation.
 * Errors: -EINVAL (fn NULL; out NULL), -EPERM (no runtime runs; after fork), -EAGAIN (16,777,216 fibers exist, or the
 * configured max_fibers), -ENOMEM (no memory for its control block, or stacks have run out), -ESHUTDOWN (from a plain
 * thread, once the runtime stops). */
STEL_API STEL_MUST_CHECK int stel_spawn(stel_fiber *out, stel_fn *fn, void *arg);

/* The same with options; o NULL: all defaults; out NULL: the fiber is detached.
 * Errors: as stel_spawn, and -EINVAL (a field out of range, an unknown flag, a size that cannot be). */
STEL_API STEL_MUST_CHECK int stel_spawn_with(stel_fiber *out, const stel_spawn_options *o, stel_fn *fn, void *arg);

/* Start a detached fiber: fire and forget. Errors: as stel_spawn. */
STEL_API STEL_MUST_CHECK int stel_go(stel_fn *fn, void *arg);

/* Start fn(arg) after delay_ns; out NULL: detached. Cancelled before its time, it ends with -ECANCELED and fn is not
 * run. Errors: as stel_spawn_with. */
STEL_API STEL_MUST_CHECK int stel_spawn_after(stel_fiber *out, int64_t delay_ns, stel_fn *fn, void *arg);

/* Wait until f has ended and take its result (result may be NULL). One join, try_join or detach takes effect for a
 * fiber; after it the handle is stale. A join that was cut short leaves the fiber joinable.
 * Errors: -ESRCH (stale, detached, or somebody else is joining it), -EDEADLK (f is the caller), -ETIMEDOUT, -ECANCELED.
 */
STEL_API STEL_MUST_CHECK int stel_join(stel_fiber f, int *result);

/* Take the result if f has ended; never waits. Errors: -EAGAIN (it has not), -ESRCH, -EDEADLK. */
STEL_API STEL_MUST_CHECK int stel_try_join(stel_fiber f, int *result);

/* Nobody will join f: it is forgotten when it ends. Never waits. Errors: -ESRCH (stale, detached, being joined). */
STEL_API int stel_detach(stel_fiber f);

/* End the calling fiber from any depth, with this result: its open scopes are cancelled and joined, its deadlines
 * popped, its locals destroyed. The frames
 * between are not unwound: cleanup attributes and C++ destructors in them do not run. Aborts with a message when the
 * caller is no fiber. */
STEL_API STEL_NORETURN void stel_exit(int result);

/* Ask f to end: its waits fail with -ECANCELED from now on, the one it is in as well. Cancelling twice is harmless; a
 * fiber that never waits is not stopped. Never waits. Errors: -ESRCH. */
STEL_API int stel_cancel(stel_fiber f);

/* Has the caller been cancelled? True even behind a shield. false on a plain thread. */
STEL_API bool stel_cancelled(void);

/* A declaration: until the enclosing block is left, cancellation and the deadlines opened outside the block are hidden
 * from the caller's waits, for length_ns at the most; after that they show again. For clean-up that may have to wait.
 * Deadlines opened inside the block hold as always. Shields nest: the inner one counts while it is open, but a deadline
 * that an outer one hides stays hidden. */
#define STEL_SHIELD(length_ns)                                                                                         \
    __attribute__((cleanup(stel__shield_leave), unused)) stel_shield STEL__JOIN(stel__shield_, __LINE__) =             \
        stel_shield_open(length_ns)

/* What stands behind STEL_SHIELD, for other languages: open gives back what close must be handed. */
typedef struct stel_shield {
    int64_t deadline, until;
} stel_shield;
STEL_API stel_shield stel_shield_open(int64_t length_ns);
STEL_API void stel_shield_close(stel_shield previous);
static inline void stel__shield_leave(stel_shield *s) {
    stel_shield_close(*s);
}

/* Let the others run: the caller goes to the end of its worker's queue. Not cut short by deadline or cancellation. On a
 * plain thread: sched_yield(2). */
STEL_API void stel_yield(void);

/* Wait for a length of time, or until a point in time. A time that has passed counts as a yield.
 * Errors: -ETIMEDOUT (the caller's deadline came first), -ECANCELED. */
STEL_API STEL_MUST_CHECK int stel_sleep(int64_t length_ns);
STEL_API STEL_MUST_CHECK int stel_sleep_until(int64_t when);

/* Wait for the caller's token, and take it. stel_unpark gives f its token; more than one do not add up. The token may
 * be given before the park. Errors of park: -EPERM (a plain thread), -ETIMEDOUT, -ECANCELED (the token, if it came, is
 * kept). Errors of unpark: -ESRCH. Unpark never waits. */
STEL_API STEL_MUST_CHECK int stel_park(void);
STEL_API int stel_unpark(stel_fiber f);

/* The calling fiber, or 0 on a plain thread. */
STEL_API stel_fiber stel_self(void);

/* The worker that runs the caller: 0 and up, or -EPERM on a plain thread. Old news after the next wait. */
STEL_API int stel_worker_id(void);

/* Copy f's name, cut to bytes - 1; empty when it has none. Errors: -ESRCH, -EINVAL (name NULL or bytes 0). */
STEL_API int stel_fiber_name(stel_fiber f, char *name, size_t bytes);

/* When f was spawned, by its worker's cached clock (some microseconds old at the most when workers are not hogged).
 * Errors: -ESRCH. */
STEL_API int64_t stel_fiber_created(stel_fiber f);

/* f's priority, -4 ... 3, through *out. Errors: -ESRCH, -EINVAL (out NULL). */
STEL_API int stel_fiber_priority(stel_fiber f, int *out);

/* The caller's name (copied, cut at 31 bytes; NULL or "" takes it away) and priority, the latter from the next time it
 * is made runnable. Errors: -EPERM (a plain thread), -ENOMEM, -EINVAL (priority out of range). */
STEL_API int stel_set_name(const char *name);
STEL_API int stel_set_priority(int priority);

/* Fiber-local storage. At most 64 keys, never given back; the value of a key nobody set is NULL. When a fiber ends the
 * destructors (NULL: none) of its non-NULL values run on it, in key order, again while they set new ones, four rounds
 * at the most. They run on every way out, and may wait.
 * Errors: key: -EAGAIN (64 exist), -EINVAL; set: -EINVAL (no such key), -ENOMEM, -EPERM (a plain thread). get gives
 * NULL where set would fail. */
typedef unsigned stel_key;
STEL_API STEL_MUST_CHECK int stel_local_key(stel_key *out, void (*destructor)(void *));
STEL_API void *stel_local_get(stel_key key);
STEL_API STEL_MUST_CHECK int stel_local_set(stel_key key, void *value);

/* A key whose values go on to the fibers that a fiber spawns, by whatever call: request contexts, trace ids. Where the
 * spawner's value is not NULL, the child's is inherit(value), called by the spawner before the child can run: as a rule
 * it takes a reference and returns value; NULL: the child gets none. The destructor gives the child's back.
 * Errors: -EAGAIN, -EINVAL (out or inherit NULL). */
STEL_API STEL_MUST_CHECK int stel_local_key_inherited(stel_key *out, void *(*inherit)(void *),
                                                      void (*destructor)(void *));

STEL_END_DECLS
#endif
