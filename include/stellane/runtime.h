/* stellane/runtime.h: starting, stopping and watching the workers.
 *
 * The simple way is stel_run(): it starts a runtime, runs one fiber and all that it spawns, and stops. A program with a
 * main loop of its own creates a runtime, starts it and spawns into it from any thread; several live side by side.
 *
 * All calls on a runtime may come from any thread and at the same time, but for destroy: it must be the last.
 *
 * fork(2). The child has the calling thread only, no workers, and what others held locked stays locked. It may exec or
 * _exit; every call of this library that returns a code returns -EPERM there (but stel_config_from_env, which only
 * reads), the others do nothing that counts, and none hangs. A fiber that forked goes on as a plain thread, on its own
 * stack; it must not return from its function.
 *
 * Signal masks. The library's threads block every signal that is not synchronous, so that handlers run on threads of the
 * program's own. A child made by fork(2) on such a thread gets back the mask of the thread that started the runtime.
 * posix_spawn(3), vfork(2), and with them system(3) and popen(3), leave no room for that: a program started so inherits
 * the blocked signals. Give posix_spawn a mask (POSIX_SPAWN_SETSIGMASK), or fork.
 *
 * C++. Exceptions may be thrown and caught within a fiber, and the fiber may wait in between; one that leaves its function
 * ends the program. A C++ library that the program loads at run time (dlopen) must be there when the runtime starts. */
#ifndef STELLANE_RUNTIME_H
#define STELLANE_RUNTIME_H

#include <stellane/fiber.h>

STEL_BEGIN_DECLS

typedef struct stel_runtime stel_runtime;

/* Where the library's own memory comes from; stacks are mapped and are not part of it. alloc returns `bytes` bytes aligned
 * to `alignment` (a power of two), or NULL; they need not be zero. release is given what alloc returned, never NULL. Both
 * are called from any thread, also while it ends; they must not call this library. */
typedef struct stel_allocator {
    size_t size;   /* sizeof(stel_allocator) */
    void *context; /* handed to both */
    void *(*alloc)(void *context, size_t alignment, size_t bytes);
    void (*release)(void *context, void *pointer);
} stel_allocator;

/* Use a (copied) from now on; NULL: libc's. Only as long as the library has allocated nothing: call it first thing.
 * Errors: -EINVAL (size, alloc or release missing), -EBUSY (too late), -EPERM (after fork). */
STEL_API STEL_MUST_CHECK int stel_set_allocator(const stel_allocator *a);

/* Settings. stel_config_init fills in the defaults; zero in a field is its default too. The environment variable is
 * read by stel_run and by stel_config_from_env. */
typedef struct stel_config {
    size_t size;         /* sizeof(stel_config): stel_config_init sets it */
    char backend[32];    /* STELLANE_RUNTIME_BACKEND: "auto", "epoll" or a registered name */
    int worker_threads;  /* STELLANE_RUNTIME_WORKERS: 1 ... 1024; 0: one a CPU that we may use */
    unsigned max_fibers; /* STELLANE_RUNTIME_MAX_FIBERS: spawns beyond it are refused with -EAGAIN; 0: 16,777,216 */
    int auto_shutdown;   /* STELLANE_RUNTIME_AUTO_SHUTDOWN: 1: stop when no counted fiber is left, -1: never; 0: on in
                            stel_run, off in stel_runtime_create */
    int64_t stop_timeout_ns; /* STELLANE_RUNTIME_STOP_TIMEOUT: how long a stop waits for cancelled fibers; 0: 30 s */
    int enable_cpu_affinity; /* STELLANE_RUNTIME_ENABLE_CPU_AFFINITY: 1: each worker is bound to a CPU; 0: no */
    size_t stack_bytes;      /* STELLANE_RUNTIME_STACK_SIZE: usable bytes a fiber; 0: 256 KiB less the guard */
    int stack_guard_pages;   /* STELLANE_RUNTIME_STACK_GUARD_PAGES: 1 ... 16; 0: 1 */
    int stack_cache;         /* STELLANE_RUNTIME_STACK_CACHE_PER_WORKER: stacks a worker keeps at hand; 0: 64 */
    int io_batch;            /* STELLANE_RUNTIME_PERFORMANCE_IO_BATCH_SIZE: events taken in one poll; 0: 32 */
    int io_budget;           /* STELLANE_RUNTIME_PERFORMANCE_IO_BUDGET: calls that did not have to wait before a fiber
                                makes room for others; 0: 16 */
    int64_t stall_ns; /* STELLANE_RUNTIME_DEBUG_STALL: report a fiber that holds its worker longer; 0: 20 ms; -1: no */
    uint64_t seed;    /* STELLANE_RUNTIME_SEED: what chance decides (victims, select); 0: a fresh one */
    int max_tasks_per_loop; /* STELLANE_RUNTIME_MAX_TASKS_PER_LOOP: spawned fibers that wait for their first run in one
                               worker's own queue, newest first; what is spawned beyond it goes to the queue that all
                               workers share, oldest first. 1 ... 16,777,216; 0: no bound */
    int poller_mode;        /* STELLANE_RUNTIME_POLLER_MODE: who waits for descriptors, STEL_POLLER_...; 0 ("auto"):
                               dedicated, or per_worker for a backend whose instances belong to one worker each */
    int64_t poller_spin_ns; /* STELLANE_RUNTIME_POLLER_SPIN: how long a worker that has run out of work looks for events
                               before it sleeps until one comes, as long as that pays: it rests from it, for longer each
                               time, when nothing came or when others wanted its CPU. 0 ("adaptive"): 50 us; -1
                               ("none"): it sleeps at once */
} stel_config;

/* dedicated: one instance of the backend; idle workers take turns to wait, and a poller thread sees to it that nothing goes
 * unseen while all are busy. inline: one instance, waited on by the first worker only, and no thread beside: one loop.
 * What a fiber that does not yield then holds up, nobody sees to, and no stall is reported; set worker_threads to 1.
 * per_worker: an instance for each worker, which waits on its own; a descriptor stays with the worker where it was waited
 * for first, until fibers of another one wait for it often. */
enum stel_poller_mode { STEL_POLLER_DEDICATED = 1, STEL_POLLER_INLINE = 2, STEL_POLLER_PER_WORKER = 3 };

/* Fill in the defaults. */
#define stel_config_init(c) stel_config_init_sized((c), sizeof(stel_config))
STEL_API void stel_config_init_sized(stel_config *c, size_t size);

/* Overwrite the fields for which a STELLANE_... variable is set. Sizes take KiB, MiB, GiB; times ns, us, ms, s, m, h.
 * Errors: -EINVAL, after a message on stderr for each variable that cannot be (nothing is changed then). An unknown
 * STELLANE_ variable is a warning with the nearest name. */
STEL_API STEL_MUST_CHECK int stel_config_from_env(stel_config *c);

/* Run fn(arg) as the first fiber of a new runtime, configured by the environment; wait until all counted fibers have
 * ended and return fn's result. Called from a plain thread. A second stel_run at the same time, in another thread, is a
 * second runtime.
 * Errors (negative, as results of fn may be): -EINVAL (fn NULL; a bad variable: exit with 78, EX_CONFIG, if you like),
 * -EDEADLK (called from a fiber), -EPERM (after fork), -ENOMEM, -EAGAIN (no threads), -EMFILE and -ENFILE (no
 * descriptors), -EBUSY (fibers would not end after a stop: they are named on stderr, and the runtime is left alive). */
STEL_API STEL_MUST_CHECK int stel_run(stel_fn *fn, void *arg);

/* From inside: start the stop of the caller's runtime and return at once. What follows is stel_runtime_stop's course.
 * Errors: -EPERM (a plain thread). Calling it again may only shorten the grace. */
STEL_API int stel_shutdown(int64_t grace_ns);
/* Is the caller's runtime stopping? false on a plain thread. */
STEL_API bool stel_stopping(void);

/* A new runtime, not yet started; c NULL: all defaults. Errors: -EINVAL (a field out of range, an unknown backend: a
 * message on stderr says which), -ENOMEM, -EMFILE, -ENFILE, -EPERM (after fork). */
STEL_API STEL_MUST_CHECK int stel_runtime_create(stel_runtime **out, const stel_config *c);

/* Start the workers and return. Spawns made before it wait for it. Errors: -EINVAL (started already, or stopped),
 * -EAGAIN and -ENOMEM (no threads; nothing was started). */
STEL_API STEL_MUST_CHECK int stel_runtime_start(stel_runtime *rt);

/* Wait until the runtime has stopped; with auto_shutdown, also until no counted fiber is left, and stop it. A runtime that
 * was restarted meanwhile did stop: 0. Errors:
 * -EDEADLK (from one of its fibers), -EINVAL (never started), -ETIMEDOUT, -ECANCELED (the caller's own limits), -EBUSY
 * (fibers would not end: they are named on stderr). */
STEL_API STEL_MUST_CHECK int stel_runtime_wait(stel_runtime *rt);

/* Stop: at once accept returns -ESHUTDOWN and spawns from outside are refused with it; fibers run on for grace_ns, then
 * all are cancelled; when the last has ended the workers end. Those that have not ended stop_timeout after the
 * cancellation are named on stderr with age and what they wait for; the call returns -EBUSY, the runtime stays as it
 * is, and stop may be called again. Errors: -EDEADLK (from one of its fibers), -EINVAL, -EBUSY, -ETIMEDOUT and -ECANCELED (the
 * caller's own limits: the stop goes on by itself). */
STEL_API STEL_MUST_CHECK int stel_runtime_stop(stel_runtime *rt, int64_t grace_ns);

/* Free a runtime that was stopped or never started; handles of its fibers are stale from now on. Errors: -EBUSY (it
 * runs, or fibers live, or it is being restarted), -EINVAL. */
STEL_API STEL_MUST_CHECK int stel_runtime_destroy(stel_runtime *rt);

/* Start again. A runtime that stopped: with its settings, fresh workers and counters from zero; one that runs is stopped
 * first, as stel_runtime_stop(rt, stop_timeout) does it. Descriptors stay open, listeners go on listening (accept returned
 * -ESHUTDOWN in the old life, and works in the new one); handles of old fibers are stale. Until it runs, spawns from
 * outside are refused with -ESHUTDOWN.
 * Errors: those of stop (cut short: the stop goes on, and nothing is started) and start (the runtime has stopped, and may
 * be restarted); -EDEADLK (from one of its fibers), -EINVAL (never started, or stel_run's), -EBUSY (fibers would not end;
 * another restart is on), -ENOMEM, -EMFILE, -ENFILE. */
STEL_API STEL_MUST_CHECK int stel_runtime_restart(stel_runtime *rt);

/* The caller's runtime, or NULL on a plain thread. */
STEL_API stel_runtime *stel_runtime_current(void);

/* Spawn into rt from any thread; errors: as stel_spawn_with, and -ESHUTDOWN (from outside, once it stops). */
STEL_API STEL_MUST_CHECK int stel_runtime_spawn(stel_runtime *rt, stel_fiber *out, const stel_spawn_options *o,
                                                stel_fn *fn, void *arg);

/* Started and not yet stopped. */
STEL_API bool stel_runtime_is_running(stel_runtime *rt);
/* Fibers that were spawned and have not ended. */
STEL_API size_t stel_runtime_pending(stel_runtime *rt);

/* The settings in force, every default filled in. Errors: -EINVAL. */
#define stel_runtime_get_config(rt, out) stel_runtime_get_config_sized((rt), (out), sizeof(stel_config))
STEL_API int stel_runtime_get_config_sized(stel_runtime *rt, stel_config *out, size_t size);

/* Change settings of a runtime while it runs; zero in a field is its default, so begin with stel_runtime_get_config. All
 * or nothing. At once: max_fibers, auto_shutdown, stop_timeout_ns, io_batch, io_budget, stall_ns, max_tasks_per_loop,
 * poller_spin_ns; for new fibers: stack_bytes, stack_cache. The others hold until the runtime is made anew: a difference
 * there is -EBUSY, and a message on stderr says in which field. Of a seed 0 means the one in force. A stop that has begun
 * to cancel keeps its stop_timeout. Errors: -EINVAL (NULL, a value out of range), -EBUSY, -EPERM (after fork). Never waits. */
STEL_API STEL_MUST_CHECK int stel_runtime_update_config(stel_runtime *rt, const stel_config *c);

/* Figures of a runtime. Counters are monotone sums over its workers; reading them stops nobody. */
typedef struct stel_stats {
    size_t size;        /* bytes filled in */
    int64_t start_time; /* CLOCK_REALTIME, ns since 1970 */
    int64_t uptime_ns;
    uint64_t total_tasks_executed;   /* fibers that have ended */
    uint64_t total_tasks_failed;     /* of these, with a negative result */
    uint64_t current_active_tasks;   /* spawned and not ended, background ones included */
    uint64_t peak_active_tasks;      /* the most of these seen; sampled at least every 61 dispatches of a worker */
    double average_task_duration_ms; /* spawn to end, by the workers' cached clocks */
    char backend_type[32];
    int worker_count;
    uint64_t spawned, switches, steals, wakes_remote, polls,
        timers_fired;                                          /* wakes_remote: a sleeping worker was woken */
    uint64_t stacks_reserved, stacks_in_use, stacks_unguarded; /* of the process, as the next */
    uint64_t stack_bytes_reserved;
    int poller_mode;          /* STEL_POLLER_..., as it is */
    char backend_reason[256]; /* why backend_type is that, and what does the work on files */
} stel_stats;
typedef struct stel_worker_stats {
    size_t size;
    int worker_id;
    int thread_id; /* gettid(2) */
    uint64_t tasks_executed, tasks_failed;
    uint64_t current_queue_size, peak_queue_size; /* ready fibers; the peak is sampled as above */
    double cpu_usage_percent;                     /* of one CPU, by the thread's clock, since the start */
    uint64_t spawned, switches, steals, polls, parks, timers_fired;
} stel_worker_stats;

/* Errors: -EINVAL (out NULL, no such worker). Never wait; any thread. */
#define stel_runtime_stats(rt, out) stel_runtime_stats_sized((rt), (out), sizeof(stel_stats))
STEL_API int stel_runtime_stats_sized(stel_runtime *rt, stel_stats *out, size_t size);
#define stel_runtime_worker_stats(rt, worker, out)                                                                     \
    stel_runtime_worker_stats_sized((rt), (worker), (out), sizeof(stel_worker_stats))
STEL_API int stel_runtime_worker_stats_sized(stel_runtime *rt, int worker, stel_worker_stats *out, size_t size);

STEL_END_DECLS
#endif
