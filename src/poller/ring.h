/* ring: one io_uring, by raw system calls. Setting it up, its two queues, entering the kernel. What is put on it and what
 * threads may do is io_uring.c's.
 *
 * The kernel reads what is between sq_head and sq_tail, when it is entered and at no other time (no SQPOLL): until then
 * an entry is ours. It writes what is between cq_head and cq_tail. Pairs, all with the kernel:
 *
 *   stel__ring_publish       release store of sq_tail; the kernel's acquire load
 *   stel__ring_sqe           acquire load of sq_head, so that an entry is not written while it is read; its release store
 *   stel__ring_cqe           acquire load of cq_tail, so that the entry is there; its release store
 *   stel__ring_seen          release store of cq_head, so that it was read before it is written again; its acquire load */
#ifndef STEL_POLLER_RING_H
#define STEL_POLLER_RING_H

#include "base/base.h"
#include <linux/io_uring.h>
#include <stellane/backend.h>

typedef _Atomic unsigned stel__ring_word; /* shared with the kernel, where it is a plain one of 32 bits */

typedef struct stel__ring {
    /* fixed after opening */
    int fd;
    unsigned setup_flags, features;
    stel__ring_word *sq_head, *sq_tail, *sq_flags, *cq_head, *cq_tail;
    unsigned sq_entries, sq_mask, cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    void *map;
    size_t map_bytes, sqes_bytes;
    uint64_t operations[4]; /* bits: what IORING_REGISTER_PROBE said of each IORING_OP_ */
    /* whoever submits */
    unsigned sq_next; /* the tail, with what was not published yet */
} stel__ring;

/* A ring with the first of the n sets of setup flags that this kernel knows; of fewer entries than asked for, 8 at least,
 * where memory is short. Errors: -ENOSYS and -EPERM (there is none to be had), -EOPNOTSUPP (the kernel's is too old: it
 * lacks what stel__ring_features names), -EMFILE, -ENFILE, -ENOMEM. */
int stel__ring_open(stel__ring *r, unsigned sq_entries, unsigned cq_entries, const unsigned *flag_sets, size_t n);
void stel__ring_close(stel__ring *r);
/* One that was set up with IORING_SETUP_R_DISABLED: the calling thread is its owner from now on. */
int stel__ring_enable(stel__ring *r);

/* ---- operations as entries ---- */

bool stel__ring_does(const stel__ring *r, unsigned code); /* STEL_OPERATION_... */
bool stel__ring_can_cancel(const stel__ring *r);
bool stel__ring_lasting(const stel_operation *op);                        /* may it wait for ever? */
void stel__ring_fill(struct io_uring_sqe *sqe, const stel_operation *op); /* user_data: its address */
void stel__ring_fill_cancel(struct io_uring_sqe *sqe, uint64_t of, uint64_t user_data);
void stel__ring_written(const stel_operation *op, int32_t result); /* tell Valgrind what the kernel wrote */

/* ---- the queues ---- */

/* Entries that the kernel has not taken yet. */
static inline unsigned stel__ring_unsubmitted(const stel__ring *r) {
    return r->sq_next - stel__load_acquire(r->sq_head);
}
/* A zeroed entry, or NULL: the queue is full. */
static inline struct io_uring_sqe *stel__ring_sqe(stel__ring *r) {
    if (STEL__UNLIKELY(stel__ring_unsubmitted(r) == r->sq_entries)) return NULL;
    struct io_uring_sqe *sqe = &r->sqes[r->sq_next++ & r->sq_mask];
    *sqe = (struct io_uring_sqe){ 0 };
    return sqe;
}
static inline void stel__ring_publish(stel__ring *r) {
    stel__store_release(r->sq_tail, r->sq_next);
}

/* The oldest completion, or NULL. The kernel's until then, ours until seen. */
static inline const struct io_uring_cqe *stel__ring_cqe(const stel__ring *r) {
    unsigned head = stel__load_relaxed(r->cq_head); /* ours */
    return head == stel__load_acquire(r->cq_tail) ? NULL : &r->cqes[head & r->cq_mask];
}
static inline void stel__ring_seen(stel__ring *r) {
    stel__store_release(r->cq_head, stel__load_relaxed(r->cq_head) + 1);
}
/* Has the kernel something that it puts on the queue only when it is entered for it: deferred work, or completions that
 * had no room? Relaxed: what is missed now is seen next time, and a wait looks for it itself. */
static inline bool stel__ring_holds_back(const stel__ring *r) {
    return (stel__load_relaxed(r->sq_flags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

/* Submit so many published entries; then have the kernel put on the queue what it holds back, and wait until there is a
 * completion or `until` has come (0: do not wait). Entries submitted, or an error: -ETIME, -EINTR (whoever waits looks
 * again); -EAGAIN, -EBUSY, -ENOMEM (nothing was submitted for want of memory: later, perhaps); others are for good. */
int stel__ring_enter(stel__ring *r, unsigned submit, int64_t until);
/* The same without a look at completions: from any thread, if the ring is not owned. */
int stel__ring_submit(stel__ring *r, unsigned submit);

#endif
