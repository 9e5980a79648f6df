/* Atomics with the ordering in the name. Types are plain C11 _Atomic; every use says which partner it pairs with.
 *
 * ThreadSanitizer does not understand fences: under it the fence is a sequentially consistent read-modify-write on one
 * word, which orders as much (and more). */
#ifndef STEL_BASE_ATOMIC_H
#define STEL_BASE_ATOMIC_H

#include <stdatomic.h>

#if defined(__SANITIZE_THREAD__)
#define STEL__TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STEL__TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define STEL__ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STEL__ASAN 1
#endif
#endif

#define stel__load_relaxed(p)     atomic_load_explicit((p), memory_order_relaxed)
#define stel__load_acquire(p)     atomic_load_explicit((p), memory_order_acquire)
#define stel__load_seq_cst(p)     atomic_load_explicit((p), memory_order_seq_cst)
#define stel__store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define stel__store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
#define stel__store_seq_cst(p, v) atomic_store_explicit((p), (v), memory_order_seq_cst)
#define stel__xchg_acquire(p, v)  atomic_exchange_explicit((p), (v), memory_order_acquire)
#define stel__xchg_release(p, v)  atomic_exchange_explicit((p), (v), memory_order_release)
#define stel__xchg_acq_rel(p, v)  atomic_exchange_explicit((p), (v), memory_order_acq_rel)
#define stel__xchg_seq_cst(p, v)  atomic_exchange_explicit((p), (v), memory_order_seq_cst)
#define stel__add_relaxed(p, v)   atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define stel__add_acq_rel(p, v)   atomic_fetch_add_explicit((p), (v), memory_order_acq_rel)
#define stel__add_seq_cst(p, v)   atomic_fetch_add_explicit((p), (v), memory_order_seq_cst)
#define stel__sub_acq_rel(p, v)   atomic_fetch_sub_explicit((p), (v), memory_order_acq_rel)
#define stel__sub_seq_cst(p, v)   atomic_fetch_sub_explicit((p), (v), memory_order_seq_cst)
#define stel__or_acq_rel(p, v)    atomic_fetch_or_explicit((p), (v), memory_order_acq_rel)
#define stel__or_seq_cst(p, v)    atomic_fetch_or_explicit((p), (v), memory_order_seq_cst)
#define stel__and_acq_rel(p, v)   atomic_fetch_and_explicit((p), (v), memory_order_acq_rel)
/* Compare-and-swap: *expected is updated on failure; a failure orders as an acquire load. */
#define stel__cas_acquire(p, expected, v)                                                                              \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_acquire, memory_order_acquire)
#define stel__cas_release(p, expected, v)                                                                              \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_release, memory_order_relaxed)
#define stel__cas_acq_rel(p, expected, v)                                                                              \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_acq_rel, memory_order_acquire)
#define stel__cas_seq_cst(p, expected, v)                                                                              \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_seq_cst, memory_order_seq_cst)

#ifdef STEL__TSAN
extern _Atomic unsigned stel__tsan_fence_word;
#define stel__fence_seq_cst() ((void)atomic_fetch_add_explicit(&stel__tsan_fence_word, 1u, memory_order_seq_cst))
#else
#define stel__fence_seq_cst() atomic_thread_fence(memory_order_seq_cst)
#endif

/* For the compiler only: what comes before is not moved behind it, nor the other way round. */
#define stel__fence_compiler() atomic_signal_fence(memory_order_seq_cst)

/* Counters with one writer: a load and a store, no locked instruction; read from anywhere with stel__load_relaxed. */
#define stel__count(p, n) stel__store_relaxed((p), stel__load_relaxed(p) + (n))

#endif
