/* host: the kernel and the machine. Every system call and allocation of the library goes through here, so that tests
 * can make the n-th one fail (host/fault.h); also stacks with guards, threads, the internal lock, CPU count and
 * topology, signal stacks and overflow reports, sanitizer annotations. The only room besides arch that may ask which
 * platform it is on. Results are 0, a count or a negative errno value; errno is read nowhere else. */
#ifndef STEL_HOST_H
#define STEL_HOST_H

#include "base/base.h"
#include "host/memory.h"
#include "host/pilot.h"
#include "host/sanitize.h" /* annotations: empty inlines in ordinary builds */
#include "host/sys.h"      /* the seam: stel__sys_read and its like */
#include <pthread.h>
#include <signal.h>

/* ---- small things ---- */

static inline void stel__cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#elif defined(__riscv)
    __asm__ volatile(".insn i 0x0f, 0, x0, x0, 0x010" ::: "memory"); /* pause: a hint, ignored by older machines */
#else
    __asm__ volatile("" ::: "memory");
#endif
}

/* Is this the child of a fork of a process in which the library was in use? (pthread_atfork; see API.md) */
extern _Atomic bool stel__forked;
void stel__fork_watch(void); /* idempotent */
/* Called in the child of a fork, once stel__forked is set. */
void stel__fork_on_child(void (*fn)(void));

/* ---- clocks ---- */
int64_t stel__clock_now(void); /* CLOCK_MONOTONIC */
int64_t stel__clock_realtime(void);
int64_t stel__clock_thread(pthread_t thread); /* CPU time of a thread; 0 when it is gone */

/* ---- futex, and the internal lock made of it ----
 * The lock is for short sections of a few dozen instructions. After the store that frees it, unlock touches its memory
 * no more but for a FUTEX_WAKE on the address, which is harmless if the memory is gone. So what lives behind a lock may
 * be freed by whoever held it last. */
typedef _Atomic uint32_t stel__futex;
/* Sleep while *f == expected, until a wake, a signal, or the point in time until. 0, -EAGAIN, -EINTR, -ETIMEDOUT. */
int stel__futex_wait(stel__futex *f, uint32_t expected, int64_t until);
void stel__futex_wake(stel__futex *f, int n);

typedef struct stel__lock {
    stel__futex word; /* 0 free, 1 held, 2 held and somebody sleeps */
} stel__lock;
void stel__lock_slow(stel__lock *l);
void stel__unlock_slow(stel__lock *l);
static inline bool stel__lock_try(stel__lock *l) {
    uint32_t free = 0;
    return stel__cas_acquire(&l->word, &free, 1);
}
static inline void stel__lock_take(stel__lock *l) {
    if (STEL__UNLIKELY(!stel__lock_try(l))) stel__lock_slow(l);
}
static inline void stel__lock_give(stel__lock *l) {
    if (STEL__UNLIKELY(stel__xchg_release(&l->word, 0) == 2)) stel__unlock_slow(l);
}

/* ---- a fence whose one side costs nothing (fence.c has the essay) ---- */
extern _Atomic bool stel__fence_is_light __attribute__((visibility("hidden")));
void stel__fence_init(void); /* before the first worker starts */
/* Of two threads that write a word each and then read the other's: between the two for the one that does it often, */
static inline void stel__fence_light(void) {
    if (STEL__LIKELY(stel__load_relaxed(&stel__fence_is_light)))
        stel__fence_compiler();
    else
        stel__fence_seq_cst();
}
/* and for the one that seldom does: a system call, some 2 us. */
void stel__fence_heavy(void);

/* ---- stacks (stack.c has the essay) ----
 * A stack is a slot of a region, with guard pages below; its top is coloured. Stacks come in size classes and from a
 * cache, one a worker (owner only), filled from and spilled to process-wide lists under a lock. */
typedef struct stel__stack {
    struct stel__stack *next;
    uintptr_t top_and_class; /* coloured top, 64-byte aligned; class in the low four bits; bit 5: it has no guard */
} stel__stack;

enum { STEL__STACK_CLASSES = 16, STEL__STACK_CLASS_MASK = 15, STEL__STACK_UNGUARDED = 32 };
/* Zeroed, but for limit. Flush it before its memory goes. */
typedef struct stel__stack_cache {
    stel__stack *head[STEL__STACK_CLASSES];
    _Atomic uint32_t count[STEL__STACK_CLASSES]; /* the owner counts, figures read */
    _Atomic uint32_t limit; /* above it half of a class is spilled; less for classes over 256 KiB */
    bool known;             /* on the list of caches that figures are made from */
    stel__link link;
} stel__stack_cache;

/* The class that has at least this many usable bytes, or -EINVAL when there is none. guard_pages as configured. Up to
 * 2,112 of the bytes are spent on the colour of the top. */
int stel__stack_class(size_t usable_bytes);
size_t stel__stack_class_bytes(int class); /* slot size, guard included */
int stel__stack_set_guard_pages(
    int pages); /* process-wide, before the first stack; later only the same value: -EBUSY */

static inline void *stel__stack_top(const stel__stack *s) {
    return (void *)(s->top_and_class & ~(uintptr_t)63);
}
static inline int stel__stack_class_of(const stel__stack *s) {
    return (int)(s->top_and_class & STEL__STACK_CLASS_MASK);
}
void *stel__stack_low(const stel__stack *s); /* lowest usable byte, just above the guard */

/* Not 0: somebody wants to see every stack that is put back: there are some without guards, or we ran out and somebody
 * waits for them. */
extern _Atomic unsigned stel__stack_watch;
stel__stack *stel__stack_get_slow(stel__stack_cache *c, int class);
void stel__stack_put_watched(stel__stack_cache *c, stel__stack *s);
void stel__stack_spill(stel__stack_cache *c, int class);
/* NULL: out of memory or address space. */
static inline stel__stack *stel__stack_get(stel__stack_cache *c, int class) {
    stel__stack *s = c->head[class];
    if (STEL__UNLIKELY(!s)) return stel__stack_get_slow(c, class);
    c->head[class] = s->next;
    stel__count(&c->count[class], -1u);
    return s;
}
static inline void stel__stack_put(stel__stack_cache *c, stel__stack *s) {
    int class = stel__stack_class_of(s);
    if (STEL__UNLIKELY(stel__load_relaxed(&stel__stack_watch) != 0)) {
        stel__stack_put_watched(c, s);
        return;
    }
    s->next = c->head[class];
    c->head[class] = s;
    stel__count(&c->count[class], 1u);
    if (STEL__UNLIKELY(stel__load_relaxed(&c->count[class]) > stel__load_relaxed(&c->limit) || class > 4))
        stel__stack_spill(c, class);
}
uint32_t stel__stack_cache_share(stel__stack_cache *c); /* everything to the process-wide lists; how many that were */
void stel__stack_cache_flush(stel__stack_cache *c);     /* the same, and the cache may go */
/* Somebody waits for a stack, or does no longer: meanwhile caches keep none. They are counted. */
void stel__stack_wanted(bool wanted);

/* Did the last attempt to get address space or memory for a stack fail, and has none come free since? */
bool stel__stack_starved(void);
/* Give the memory of stacks that nobody has needed since the last call back to the kernel; called now and then (about
 * once a second) by the poller thread. Returns stacks cleaned, STEL__STACK_SCAVENGE_MAX at most (a fraction of a
 * millisecond): when it is that many, there are more, and the caller may come back at its next tick. */
enum { STEL__STACK_SCAVENGE_MAX = 512 };
size_t stel__stack_scavenge(void);

typedef struct stel__stack_figures {
    uint64_t reserved, in_use, unguarded; /* stacks */
    uint64_t bytes_reserved;              /* address space */
} stel__stack_figures;
void stel__stack_figures_get(stel__stack_figures *out);

/* Overflow reports. install puts the SIGSEGV and SIGBUS handlers in place (once a process, the previous ones are
 * chained to); enter and leave give the calling thread its signal stack. When a guard is hit, describe
 * (async-signal-safe: it only writes to fd) is called with the stack so that it can name the fiber, and the process
 * ends with SIGSEGV's default action. */
void stel__overflow_install(void (*describe)(int fd, const stel__stack *s, const void *address));
int stel__overflow_enter_thread(void **memory);
void stel__overflow_leave_thread(void *memory);
/* The stack whose guard holds this address, or NULL (also for "a system call returned EFAULT: was it a guard?"). */
const stel__stack *stel__stack_of_guard(const void *address);

/* ---- C++ exceptions (exceptions.c) ---- */
/* What the C++ library keeps for the calling thread, in its layout; NULL: there is no such library in the process. */
typedef struct stel__exceptions {
    void *caught; /* those whose catch blocks are open */
    unsigned uncaught;
} stel__exceptions;
stel__exceptions *stel__exceptions_of_thread(void);
static inline bool stel__exceptions_any(const stel__exceptions *e) {
    return e->caught || e->uncaught;
}

/* ---- threads and the machine ---- */
/* Start a thread with all signals blocked that are not synchronous; name (at most 15 bytes) is shown by top and gdb. */
int stel__thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *arg);
void stel__thread_restore_mask(void);   /* a thread of ours: the mask that its starter had, for what will be exec'ed */
int stel__thread_id(void);              /* gettid */
int64_t stel__thread_preempted(void);   /* how often somebody else was given the calling thread's CPU */
char stel__thread_state(int thread_id); /* as in /proc: R has or wants a CPU, S and D wait in the kernel; ? unknown */
/* An address of code in words: "function+0x12 (program)", or "program+0x1234" when the program exports no name for it. */
enum { STEL__SYMBOL_BYTES = 128 };
const char *stel__symbol(char text[STEL__SYMBOL_BYTES], const void *address);
void stel__thread_timer_slack(void); /* the calling thread's timer slack to 1 ns */
int stel__cpu_count(void);           /* min(affinity mask, cgroup cpu.max rounded up), at least 1 */
/* Bind the calling thread to the i-th CPU (modulo their number) of the process's mask, in the machine's order. */
int stel__cpu_bind(int i);
int stel__node_count(void);   /* NUMA nodes, at least 1 */
int stel__node_of_cpu(int i); /* the node of the i-th CPU of the mask */

#endif
