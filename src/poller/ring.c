/* One io_uring: setting it up and entering it. See ring.h; the interface is the kernel's (io_uring_setup(2),
 * io_uring_enter(2), io_uring_register(2); J. Axboe, "Efficient IO with io_uring", 2019).
 *
 * What must be there is asked for by feature, never by the kernel's version:
 *   SINGLE_MMAP   both queues in one mapping (we know no other way)
 *   NODROP        completions that have no room are kept, not dropped
 *   SUBMIT_STABLE what an entry points to directly (vectors, names) is read before io_uring_enter returns
 *   FAST_POLL     a socket that would wait is polled, it does not occupy a thread of the kernel
 *   EXT_ARG       io_uring_enter takes a time limit
 *
 * Valgrind (3.19) knows the three calls, but takes io_uring_enter for one that does not sleep: while a thread is in it all
 * others stand still, also the one that would wake it. So there the ring's descriptor is slept on instead, in ppoll, and
 * looked after every millisecond (a ring with deferred work does not always say there that it has some). Nor does Valgrind
 * know that the kernel writes where entries tell it to: stel__ring_written.
 *
 * Memory: kernels before 5.12 count rings against RLIMIT_MEMLOCK, which may be 64 KiB for all of a user's processes. So
 * -ENOMEM means that a smaller ring is tried. */
#include "poller/ring.h"
#include "host/host.h"
#include <fcntl.h>
#include <linux/time_types.h>
#include <poll.h>
#include <sys/mman.h>

enum { ENTRIES_MIN = 8, PROBED = 256 };

static const unsigned features_needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |
                                        IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG;

_Static_assert(sizeof(stel__ring_word) == 4 && ATOMIC_INT_LOCK_FREE == 2, "the kernel's words are of 32 bits");

/* Bit op of what the probe said. */
static bool knows(const stel__ring *r, unsigned op) {
    return (r->operations[op / 64] >> op % 64 & 1) != 0;
}

static int set_up(stel__ring *r, unsigned sq_entries, unsigned cq_entries, unsigned flags, struct io_uring_params *p) {
    for (;;) {
        *p = (struct io_uring_params){ .flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
                                       .cq_entries = cq_entries > sq_entries ? cq_entries : sq_entries };
        int rc = stel__sys_io_uring_setup(sq_entries, p);
        if (rc != -ENOMEM || sq_entries <= ENTRIES_MIN) {
            if (rc >= 0) r->fd = rc;
            return rc;
        }
        sq_entries /= 4;
        cq_entries /= 4;
        if (sq_entries < ENTRIES_MIN) sq_entries = ENTRIES_MIN;
    }
}

static int set_up_any(stel__ring *r, unsigned sq_entries, unsigned cq_entries, const unsigned *flag_sets, size_t n,
                      struct io_uring_params *p) {
    int rc = -EINVAL;
    for (size_t i = 0; i < n && rc == -EINVAL; i++)
        rc = set_up(r, sq_entries, cq_entries, flag_sets[i], p);
    return rc == -EINVAL ? -EOPNOTSUPP : rc;
}

static int map_queues(stel__ring *r, const struct io_uring_params *p) {
    size_t sq = p->sq_off.array + p->sq_entries * sizeof(unsigned);
    size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    void *map, *sqes;
    r->map_bytes = sq > cq ? sq : cq;
    r->sqes_bytes = p->sq_entries * sizeof(struct io_uring_sqe);
    const int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
    int rc = stel__sys_mmap(&map, NULL, r->map_bytes, protection, flags, r->fd, (off_t)IORING_OFF_SQ_RING);
    if (rc < 0) return rc;
    r->map = map;
    rc = stel__sys_mmap(&sqes, NULL, r->sqes_bytes, protection, flags, r->fd, (off_t)IORING_OFF_SQES);
    if (rc < 0) return rc;
    r->sqes = sqes;
    char *base = map;
    r->sq_head = (stel__ring_word *)(void *)(base + p->sq_off.head);
    r->sq_tail = (stel__ring_word *)(void *)(base + p->sq_off.tail);
    r->sq_flags = (stel__ring_word *)(void *)(base + p->sq_off.flags);
    r->cq_head = (stel__ring_word *)(void *)(base + p->cq_off.head);
    r->cq_tail = (stel__ring_word *)(void *)(base + p->cq_off.tail);
    r->cqes = (struct io_uring_cqe *)(void *)(base + p->cq_off.cqes);
    r->sq_entries = p->sq_entries;
    r->sq_mask = *(unsigned *)(void *)(base + p->sq_off.ring_mask);
    r->cq_mask = *(unsigned *)(void *)(base + p->cq_off.ring_mask);
    unsigned *array = (unsigned *)(void *)(base + p->sq_off.array);
    for (unsigned i = 0; i < p->sq_entries; i++)
        array[i] = i; /* the queue of indices goes unused: each names its own entry */
    return 0;
}

static int probe_operations(stel__ring *r) {
    union {
        struct io_uring_probe head;
        char room[sizeof(struct io_uring_probe) + PROBED * sizeof(struct io_uring_probe_op)];
    } probe = { .room = { 0 } };
    int rc = stel__sys_io_uring_register(r->fd, IORING_REGISTER_PROBE, &probe, PROBED);
    if (rc < 0) return rc == -EINVAL ? -EOPNOTSUPP : rc;
    for (unsigned i = 0; i < probe.head.ops_len; i++)
        if (probe.head.ops[i].flags & IO_URING_OP_SUPPORTED)
            r->operations[probe.head.ops[i].op / 64] |= UINT64_C(1) << probe.head.ops[i].op % 64;
    return 0;
}

int stel__ring_open(stel__ring *r, unsigned sq_entries, unsigned cq_entries, const unsigned *flag_sets, size_t n) {
    struct io_uring_params p;
    *r = (stel__ring){ .fd = -1 };
    int rc = set_up_any(r, sq_entries, cq_entries, flag_sets, n, &p);
    if (rc < 0) return rc;
    r->setup_flags = p.flags;
    r->features = p.features;
    rc = (p.features & features_needed) == features_needed ? map_queues(r, &p) : -EOPNOTSUPP;
    if (rc == 0) rc = probe_operations(r);
    if (rc < 0) stel__ring_close(r);
    return rc;
}

void stel__ring_close(stel__ring *r) {
    if (r->sqes) (void)stel__sys_munmap(r->sqes, r->sqes_bytes);
    if (r->map) (void)stel__sys_munmap(r->map, r->map_bytes);
    if (r->fd >= 0) (void)stel__sys_close(r->fd);
    *r = (stel__ring){ .fd = -1 };
}

int stel__ring_enable(stel__ring *r) {
    if (!(r->setup_flags & IORING_SETUP_R_DISABLED)) return 0;
    return stel__sys_io_uring_register(r->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

int stel__ring_submit(stel__ring *r, unsigned submit) {
    return stel__sys_io_uring_enter(r->fd, submit, 0, 0, NULL, 0);
}

/* The same under Valgrind, a millisecond at a time. */
STEL__COLD static int enter_in_slices(stel__ring *r, unsigned submit, int64_t until) {
    struct pollfd ready = { .fd = r->fd, .events = POLLIN };
    const struct timespec slice = { .tv_nsec = 1000000 };
    for (;;) {
        int rc = stel__ring_enter(r, submit, 0);
        if (rc < 0 || submit || stel__ring_cqe(r)) return rc;
        if (until != STEL_FOREVER && stel__clock_now() >= until) return -ETIME;
        rc = stel__sys_ppoll(&ready, 1, &slice, NULL);
        if (rc < 0) return rc;
    }
}

int stel__ring_enter(stel__ring *r, unsigned submit, int64_t until) {
    if (until == 0) return stel__sys_io_uring_enter(r->fd, submit, 0, IORING_ENTER_GETEVENTS, NULL, 0);
    if (STEL__UNLIKELY(stel__sanitize_valgrind())) return enter_in_slices(r, submit, until);
    if (until == STEL_FOREVER) return stel__sys_io_uring_enter(r->fd, submit, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    int64_t ns = until - stel__clock_now();
    if (ns < 0) ns = 0; /* it has passed: the kernel looks once */
    struct __kernel_timespec length = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    struct io_uring_getevents_arg limit = { .ts = (uint64_t)(uintptr_t)&length };
    const unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    return stel__sys_io_uring_enter(r->fd, submit, 1, flags, &limit, sizeof limit);
}

bool stel__ring_can_cancel(const stel__ring *r) {
    return knows(r, IORING_OP_ASYNC_CANCEL);
}

/* ---- operations as entries ---- */

static const struct {
    uint8_t op;
    bool lasting; /* may wait for ever: see "A cancel that does not find" */
} kinds[STEL_OPERATIONS] = {
    [STEL_OPERATION_POLL] = { IORING_OP_POLL_ADD, true },    [STEL_OPERATION_READV] = { IORING_OP_READV, false },
    [STEL_OPERATION_WRITEV] = { IORING_OP_WRITEV, false },   [STEL_OPERATION_RECV] = { IORING_OP_RECV, true },
    [STEL_OPERATION_SEND] = { IORING_OP_SEND, true },        [STEL_OPERATION_RECVMSG] = { IORING_OP_RECVMSG, true },
    [STEL_OPERATION_SENDMSG] = { IORING_OP_SENDMSG, true },  [STEL_OPERATION_ACCEPT] = { IORING_OP_ACCEPT, true },
    [STEL_OPERATION_CONNECT] = { IORING_OP_CONNECT, true },  [STEL_OPERATION_OPEN] = { IORING_OP_OPENAT, false },
    [STEL_OPERATION_FSYNC] = { IORING_OP_FSYNC, false },     [STEL_OPERATION_FDATASYNC] = { IORING_OP_FSYNC, false },
    [STEL_OPERATION_STATX] = { IORING_OP_STATX, false },     [STEL_OPERATION_UNLINK] = { IORING_OP_UNLINKAT, false },
    [STEL_OPERATION_RENAME] = { IORING_OP_RENAMEAT, false }, [STEL_OPERATION_MKDIR] = { IORING_OP_MKDIRAT, false },
};

bool stel__ring_does(const stel__ring *r, unsigned code) {
    /* op 0 is NOP: codes that are none */
    return code < STEL_OPERATIONS && kinds[code].op && knows(r, kinds[code].op);
}

static uint32_t length_of(const stel_operation *op) {
    return op->length < INT32_MAX ? (uint32_t)op->length : INT32_MAX; /* read(2) transfers no more either */
}

void stel__ring_fill(struct io_uring_sqe *sqe, const stel_operation *op) {
    sqe->opcode = kinds[op->code].op;
    sqe->fd = op->fd;
    sqe->addr = (uintptr_t)op->address;
    sqe->msg_flags = op->flags; /* rw_flags, open_flags, ...: one word, whose other names differ in type */
    sqe->user_data = (uintptr_t)op;
    switch ((enum stel_operation_code)op->code) {
    case STEL_OPERATION_POLL:
        sqe->addr = 0;
        sqe->poll32_events = op->flags; /* the upper half is 0, and the machines are little-endian */
        /* The kernel takes POLLPRI for a mark of its own when it is woken, and sleeps on: unless woken for something else,
         * too. Sockets name POLLRDBAND then, and hardly ever mean it. */
        if (op->flags & POLLPRI) sqe->poll32_events |= POLLRDBAND;
        break;
    case STEL_OPERATION_READV:
    case STEL_OPERATION_WRITEV:
        sqe->rw_flags = 0;
        sqe->off = (uint64_t)op->offset;
        sqe->len = length_of(op);
        break;
    case STEL_OPERATION_RECV:
    case STEL_OPERATION_SEND:
        sqe->len = length_of(op);
        break;
    case STEL_OPERATION_RECVMSG:
    case STEL_OPERATION_SENDMSG:
        sqe->len = 1;
        break;
    case STEL_OPERATION_ACCEPT:
        sqe->addr2 = (uintptr_t)op->address2;
        break;
    case STEL_OPERATION_CONNECT:
        sqe->rw_flags = 0;
        sqe->off = op->length;
        break;
    case STEL_OPERATION_FSYNC:
    case STEL_OPERATION_FDATASYNC:
        sqe->addr = 0;
        sqe->fsync_flags = op->code == STEL_OPERATION_FDATASYNC ? IORING_FSYNC_DATASYNC : 0;
        break;
    case STEL_OPERATION_STATX:
        sqe->len = op->mode;
        sqe->addr2 = (uintptr_t)op->address2;
        break;
    case STEL_OPERATION_OPEN:
    case STEL_OPERATION_MKDIR:
        if (op->code == STEL_OPERATION_MKDIR) sqe->rw_flags = 0;
        sqe->fd = AT_FDCWD;
        sqe->len = op->mode;
        break;
    case STEL_OPERATION_UNLINK:
        sqe->fd = AT_FDCWD;
        break;
    case STEL_OPERATION_RENAME:
        sqe->fd = AT_FDCWD;
        sqe->len = (uint32_t)AT_FDCWD;
        sqe->addr2 = (uintptr_t)op->address2;
        break;
    case STEL_OPERATIONS:
        break;
    }
}

bool stel__ring_lasting(const stel_operation *op) {
    return kinds[op->code].lasting;
}

void stel__ring_fill_cancel(struct io_uring_sqe *sqe, uint64_t of, uint64_t user_data) {
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = of;
    sqe->user_data = user_data;
}

STEL__COLD static void written_vectors(const struct iovec *v, size_t n, size_t bytes) {
    for (size_t i = 0; i < n && bytes > 0; i++) {
        size_t part = v[i].iov_len < bytes ? v[i].iov_len : bytes;
        stel__sanitize_written(v[i].iov_base, part);
        bytes -= part;
    }
}

void stel__ring_written(const stel_operation *op, int32_t result) {
    if (result < 0) return;
    if (op->code == STEL_OPERATION_RECV) stel__sanitize_written(op->address, (size_t)result);
    if (op->code == STEL_OPERATION_READV) written_vectors(op->address, op->length, (size_t)result);
    if (op->code == STEL_OPERATION_STATX) stel__sanitize_written(op->address2, sizeof(struct statx));
    if (op->code == STEL_OPERATION_RECVMSG) {
        const struct msghdr *m = op->address;
        stel__sanitize_written(m, sizeof *m);
        written_vectors(m->msg_iov, m->msg_iovlen, (size_t)result);
        if (m->msg_name) stel__sanitize_written(m->msg_name, m->msg_namelen);
        if (m->msg_control) stel__sanitize_written(m->msg_control, m->msg_controllen);
    }
    if (op->code == STEL_OPERATION_ACCEPT && op->address2) {
        stel__sanitize_written(op->address2, sizeof(socklen_t));
        if (op->address) stel__sanitize_written(op->address, *(const socklen_t *)op->address2);
    }
}
