/* Regular files, directories and block devices: never waited for by readiness, and never allowed to hold a worker.
 *
 * Four ways to read or write a piece, the cheapest that will do:
 *
 *   inline     RWF_NOWAIT: what is in memory is copied at once, else the kernel says EAGAIN. 0.5 us for 4 KiB
 *   operation  the kernel does it and tells the end (stel__operate: io_uring). A cold read needs no thread of anybody
 *   pool       a thread of the offload pool makes the plain call
 *   itself     a plain thread makes the plain call
 *
 * What stands in the way of the inline one:
 *   - Files that do not know RWF_NOWAIT (tmpfs, /proc, FUSE, NFS; ext4 when writing): learnt, once a life of the number.
 *     Reads of such files go to the pool: io_uring would hand them to a thread as well, of which it has few, and one
 *     network file system that hangs must not stop everybody's files.
 *   - O_DIRECT: the kernel starts the transfer and then waits for it, flag or not (9,000 reads a second instead of
 *     60,000, the worker asleep all the while); O_SYNC and O_DSYNC when writing, likewise. The descriptor's flags are
 *     looked at once a life (hints): O_DIRECT that is set later, behind our back, costs that wait.
 *   - Large pieces: copying is work too. PIECE_BYTES at a time, then whoever is ready gets a turn.
 *   - Cold files: the try costs 2 us, of the 5 that a read by operation costs. After STREAK misses in a row that an
 *     operation made good only one read in STREAK_AGAIN tries.
 *
 * The file's own position (offset -1). The kernel keeps it under a lock (f_pos_lock) that a read or write holds while it
 * waits for the disk, so a second one, however little it would wait for the file, would put its worker to sleep. io_uring
 * in turn takes no lock at all for it, and two readers get the same bytes. Hence
 *   - fibers take turns, by a mutex for each descriptor number, and keep it until the call is over. So do plain threads.
 *     That also keeps a call together that is made in two parts, the second when the first has found memory to end;
 *   - no operation ever moves the position. A small cold read first has the bytes brought into memory by an operation at
 *     an explicit offset, and then reads them as if they had been there; a large one goes to the pool;
 *   - O_APPEND writes are one call of the kernel, never two parts: records of several processes do not tear. As the
 *     kernel finds the end under the file's lock, an operation may do it.
 * What remains: numbers made by dup, and processes, that share one position. A worker may sleep while the other one is
 * read cold, and a read that is partly in memory may have a gap where the other one took its share.
 *
 * Not cut short: limits are looked at before a call begins; once a byte was moved, or a thread or the kernel is at it, the
 * rest is done whatever they say. So a read is short at the end of the file, or before an error, which the next one tells.
 *
 * A number that was given to another file behind our back (still_a_file): an operation or a thread would wait on a socket,
 * and nothing could cut it short. So its kind is asked for before either; 0.2 us, of 5 and of 20.
 *
 * Tried and dropped: everything by operation (cached reads of one fiber 3 x as slow); a lock for each position instead of
 * each number (the kernel tells nobody which numbers share one, but for kcmp(2), which containers forbid). */
#include "io/file.h"
#include <stellane/sync.h>

enum { PIECE_BYTES = 1 << 20, WARM_BYTES = 64 << 10 };
enum { CALL_BYTES_MAX = 0x7ffff000 }; /* no call of the kernel moves more */

/* ---- ways to have a call made ---- */

static void run_call(stel__job *job) {
    stel__file_job *f = STEL__CONTAINER(job, stel__file_job, job);
    f->result = f->call(f);
}

/* Nothing was done, and another way may do it. EAGAIN, ECANCELED and EINTR: the thread that submitted it has ended, or the
 * kernel had no room. */
static bool undone(ssize_t n) {
    return n == -EOPNOTSUPP || n == -ENOSYS || n == -EAGAIN || n == -ECANCELED || n == -EINTR;
}

ssize_t stel__file_do(stel__waiter *w, stel_operation *operation, stel__file_job *f, bool begun) {
    ssize_t n = operation ? stel__operate(operation, w, STEL__WAIT_FILE) : -EOPNOTSUPP;
    if (!undone(n)) return n;
    f->job = (stel__job){ .run = run_call };
    if (begun)
        stel__job_run_to_end(&f->job, w);
    else if ((n = stel__job_run_somehow(&f->job, w)) < 0)
        return n;
    return f->result;
}

typedef struct transfer {
    stel__file_job f;
    int fd;
    const struct iovec *iov;
    int count;
    off_t offset;
} transfer;

static ssize_t call_read(stel__file_job *f) {
    transfer *t = STEL__CONTAINER(f, transfer, f);
    if (t->offset < 0) return stel__sys_readv(t->fd, t->iov, t->count);
    if (t->count == 1) return stel__sys_pread(t->fd, t->iov->iov_base, t->iov->iov_len, t->offset);
    return stel__sys_preadv2(t->fd, t->iov, t->count, t->offset, 0);
}

static ssize_t call_write(stel__file_job *f) {
    transfer *t = STEL__CONTAINER(f, transfer, f);
    return stel__write_quietly(t->fd, t->iov, t->count, t->offset, 0);
}

/* ---- what is remembered of a number ---- */

enum { STREAK = 4, STREAK_AGAIN = 16 };
enum hint { STREAK_BITS = 0x1f, WAITS_IN = 0x20, WAITS_OUT = 0x40, LOOKED = 0x80, HINT_BITS = 0xff };

/* By number, with the life that it is about; one that is overwritten is found out again. relaxed: nothing else hangs on
 * them. */
static _Atomic uint32_t hints[1024];

static _Atomic uint32_t *hint_of(const stel__call *c, uint32_t *now) {
    _Atomic uint32_t *h = &hints[(unsigned)c->fd % STEL__COUNT_OF(hints)];
    uint32_t whose = ((uint32_t)c->fd * UINT32_C(0x9E3779B1) + stel__load_relaxed(&c->slot->generation)) << 8;
    *now = stel__load_relaxed(h);
    if (STEL__LIKELY((*now & ~(uint32_t)HINT_BITS) == whose && (*now & LOOKED))) return h;
    int flags = stel__sys_fcntl_getfl(c->fd);
    *now = whose | LOOKED;
    if (flags < 0 || (flags & O_DIRECT)) *now |= WAITS_IN | WAITS_OUT;
    if (flags & (O_DSYNC | O_SYNC)) *now |= WAITS_OUT;
    stel__store_relaxed(h, *now);
    return h;
}

static void streak_is(_Atomic uint32_t *h, uint32_t now, unsigned streak) {
    if ((now & STREAK_BITS) != streak) stel__store_relaxed(h, (now & ~(uint32_t)STREAK_BITS) | streak);
}

/* Is it worth trying whether the bytes are in memory? */
static bool streak_says_try(_Atomic uint32_t *h, uint32_t now) {
    unsigned streak = now & STREAK_BITS;
    if (STEL__LIKELY(streak < STREAK)) return true;
    bool again = streak + 1 == STREAK_AGAIN;
    streak_is(h, now, again ? STREAK - 1 : streak + 1);
    return again;
}

/* A miss that an operation made good; where the pool has to, the try is always worth it. */
static void streak_goes_on(_Atomic uint32_t *h, uint32_t now) {
    unsigned streak = now & STREAK_BITS;
    if (streak < STREAK) streak_is(h, now, streak + 1);
}

/* ---- pieces ---- */

static off_t moved(off_t offset, const stel__cursor *by) {
    return offset < 0 ? offset : offset + (off_t)by->done;
}

static size_t left(const stel__cursor *c) {
    return c->total - c->done;
}

/* At most `most` bytes of what is left. */
static const struct iovec *piece_of(stel__cursor *c, size_t most, int *count) {
    const struct iovec *iov = stel__cursor_next(c, count);
    if (STEL__LIKELY(left(c) <= most)) return iov;
    while (*count > 1 && iov->iov_len == 0) { /* or it would look like the end of the file */
        iov++;
        --*count;
    }
    c->piece = (struct iovec){ iov->iov_base, iov->iov_len < most ? iov->iov_len : most };
    *count = 1;
    return &c->piece;
}

/* What we know of the number may be out of date: is it still one that leaves nobody waiting for ever? */
static bool still_a_file(const stel__call *c) {
    mode_t kind;
    if (stel__sys_kind(c->fd, &kind) < 0) return true; /* the call itself will say so */
    return S_ISREG(kind) || S_ISDIR(kind) || S_ISBLK(kind);
}

static ssize_t operate_on(const stel__call *c, const transfer *t, uint16_t code) {
    stel_operation op = { .code = code,
                          .fd = t->fd,
                          .address = (void *)(uintptr_t)t->iov,
                          .length = (uint64_t)t->count,
                          .offset = t->offset };
    return stel__operate(&op, c->waiter, STEL__WAIT_FILE);
}

/* The kernel does not know RWF_NOWAIT for this number. */
static bool lacks_nowait(stel__call *c, ssize_t n, unsigned fact) {
    if (n != -EOPNOTSUPP && n != -ENOSYS) return false;
    stel__call_learn(c, fact);
    return true;
}

/* After a part has been copied on this worker: others' turn. */
static void copied_inline(const stel__cursor *by) {
    if (left(by)) stel_yield();
}

/* ---- reading ---- */

enum { NOW_WARM = -100002 }; /* it is in memory by now */

typedef struct reading {
    stel__call *c;
    stel__cursor *to;
    off_t offset;
    bool missed; /* the latest try found that it is not in memory */
    bool warmed;
    bool last; /* what came is all that there is */
} reading;

/* -EAGAIN: not so. */
static ssize_t read_inline(reading *r) {
    stel__call *c = r->c;
    uint32_t now;
    int count;
    r->missed = false;
    if ((c->facts & STEL__SLOT_NO_NOWAIT_IN) || stel__waiter_is_thread(c->waiter)) return -EAGAIN;
    _Atomic uint32_t *h = hint_of(c, &now);
    if (STEL__UNLIKELY(now & WAITS_IN)) return -EAGAIN;
    if (r->offset >= 0 && !streak_says_try(h, now)) return -EAGAIN;
    const struct iovec *iov = piece_of(r->to, PIECE_BYTES, &count);
    ssize_t n = stel__sys_preadv2(c->fd, iov, count, moved(r->offset, r->to), RWF_NOWAIT);
    if (STEL__LIKELY(n >= 0)) {
        streak_is(h, now, 0);
        stel__cursor_advance(r->to, (size_t)n);
        copied_inline(r->to);
        return n;
    }
    r->missed = n == -EAGAIN;
    return lacks_nowait(c, n, STEL__SLOT_NO_NOWAIT_IN) ? -EAGAIN : n;
}

/* A piece at an offset of its own; or, for the file's position, what lies there is brought into memory: NOW_WARM. */
static ssize_t read_by_operation(reading *r) {
    stel__call *c = r->c;
    transfer t = { .fd = c->fd, .offset = moved(r->offset, r->to) };
    uint32_t now;
    if (r->offset < 0) {
        if (!r->missed || r->warmed || left(r->to) > WARM_BYTES) return -EOPNOTSUPP;
        t.offset = stel__sys_lseek(c->fd, 0, SEEK_CUR);
        if (t.offset < 0) return -EOPNOTSUPP;
        r->warmed = true;
    }
    t.iov = piece_of(r->to, PIECE_BYTES, &t.count);
    ssize_t n = operate_on(c, &t, STEL_OPERATION_READV);
    if (n != -EOPNOTSUPP) c->waited = true;
    if (r->offset < 0) return n > 0 ? NOW_WARM : -EOPNOTSUPP;
    _Atomic uint32_t *h = hint_of(c, &now);
    if (n > 0 && r->missed) streak_goes_on(h, now);
    /* What follows a short read past the memory would be at an offset that O_DIRECT does not take. */
    r->last = (now & WAITS_IN) && n >= 0 && n < PIECE_BYTES;
    return n;
}

static ssize_t read_waiting(reading *r) {
    stel__call *c = r->c;
    bool file = still_a_file(c);
    if (!file && r->offset < 0) {
        (void)stel__call_look_afresh(c);
        r->last = true; /* the first part of what a socket or pipe had: nobody waits for more */
        return r->to->done ? (ssize_t)r->to->done : STEL__FILE_NO_MORE;
    }
    ssize_t n = file && !(c->facts & STEL__SLOT_NO_NOWAIT_IN) ? read_by_operation(r) : -EOPNOTSUPP;
    if (undone(n)) {
        transfer t = { .f.call = call_read, .fd = c->fd, .offset = moved(r->offset, r->to) };
        t.iov = stel__cursor_next(r->to, &t.count);
        c->waited = true;
        n = stel__file_do(c->waiter, NULL, &t.f, r->to->done > 0);
        r->last = n < CALL_BYTES_MAX;
    }
    if (n > 0) stel__cursor_advance(r->to, (size_t)n);
    return n;
}

static ssize_t read_all(stel__call *c, stel__cursor *to, off_t offset) {
    reading r = { .c = c, .to = to, .offset = offset };
    for (;;) {
        ssize_t n = read_inline(&r);
        if (n == -EAGAIN) n = read_waiting(&r);
        if (n == NOW_WARM) continue;
        if (n == STEL__FILE_NO_MORE) return n;
        if (n < 0) return to->done ? (ssize_t)to->done : stel__call_end(c, n);
        if (n == 0 || to->done == to->total || r.last) return stel__call_end(c, (ssize_t)to->done);
    }
}

/* ---- writing ---- */

static bool appends(const stel__call *c) {
    int flags = stel__sys_fcntl_getfl(c->fd); /* as they are now: they decide what may be done */
    return flags >= 0 && (flags & O_APPEND);
}

/* -EAGAIN: not so. */
static ssize_t write_inline(stel__call *c, stel__cursor *from, off_t offset) {
    uint32_t now;
    int count;
    if ((c->facts & STEL__SLOT_NO_NOWAIT_OUT) || stel__waiter_is_thread(c->waiter)) return -EAGAIN;
    (void)hint_of(c, &now);
    if ((now & WAITS_OUT) || (offset < 0 && appends(c))) return -EAGAIN;
    const struct iovec *iov = piece_of(from, PIECE_BYTES, &count);
    ssize_t n = stel__write_quietly(c->fd, iov, count, moved(offset, from), RWF_NOWAIT);
    if (n < 0) return lacks_nowait(c, n, STEL__SLOT_NO_NOWAIT_OUT) ? -EAGAIN : n;
    stel__cursor_advance(from, (size_t)n);
    copied_inline(from);
    return n;
}

static ssize_t write_by_operation(stel__call *c, stel__cursor *from, off_t offset) {
    transfer t = { .fd = c->fd, .offset = moved(offset, from) };
    t.iov = stel__cursor_next(from, &t.count);
    ssize_t n = operate_on(c, &t, STEL_OPERATION_WRITEV);
    if (n != -EOPNOTSUPP) c->waited = true;
    if (n > 0) stel__cursor_advance(from, (size_t)n);
    return n;
}

static ssize_t write_waiting(stel__call *c, stel__cursor *from, off_t offset) {
    bool file = still_a_file(c);
    if (!file && offset < 0) { /* the cursor knows what has been written */
        (void)stel__call_look_afresh(c);
        return STEL__FILE_NO_MORE;
    }
    ssize_t n = file && offset >= 0 ? write_by_operation(c, from, offset) : -EOPNOTSUPP;
    if (!undone(n)) return n;
    transfer t = { .f.call = call_write, .fd = c->fd, .offset = moved(offset, from) };
    t.iov = stel__cursor_next(from, &t.count);
    c->waited = true;
    n = stel__file_do(c->waiter, NULL, &t.f, from->done > 0);
    if (n > 0) stel__cursor_advance(from, (size_t)n);
    return n;
}

/* Nobody's turn: the kernel finds the end, and the position is afterwards that of some appender, if several are at it. */
static ssize_t append_by_operation(stel__call *c, stel__cursor *from) {
    if (stel__waiter_is_thread(c->waiter) || !appends(c) || !still_a_file(c)) return -EOPNOTSUPP;
    ssize_t n = write_by_operation(c, from, -1);
    return undone(n) ? n : stel__call_end(c, n);
}

static ssize_t write_all(stel__call *c, stel__cursor *from, off_t offset) {
    ssize_t n;
    do {
        n = write_inline(c, from, offset);
        if (n == -EAGAIN) n = write_waiting(c, from, offset);
        if (n == STEL__FILE_NO_MORE) return n;
    } while (n > 0 && from->done < from->total);
    return n < 0 && !from->done ? stel__call_end(c, n) : stel__call_end(c, (ssize_t)from->done);
}

/* ---- turns: one call at a time moves the position of a number ---- */

static _Atomic(stel_mutex *) turn_segments[STEL__SLOT_SEGMENTS];

static stel_mutex *turn_of(int fd) {
    _Atomic(stel_mutex *) *place = &turn_segments[fd / STEL__SLOT_SEGMENT];
    stel_mutex *segment = stel__load_acquire(place); /* pairs with the swap below */
    if (STEL__UNLIKELY(!segment)) {
        stel_mutex *mine = stel__alloc(STEL__SLOT_SEGMENT * sizeof *mine);
        if (!mine) return NULL;
        if (stel__cas_acq_rel(place, &segment, mine))
            segment = mine;
        else
            stel__free(mine);
    }
    return &segment[fd % STEL__SLOT_SEGMENT];
}

static ssize_t in_turn(stel__call *c, stel__cursor *cursor, ssize_t (*all)(stel__call *, stel__cursor *, off_t)) {
    stel_mutex *turn = turn_of(c->fd);
    if (!turn) return -ENOMEM;
    stel_mutex_lock(turn);
    ssize_t n = all(c, cursor, -1);
    stel_mutex_unlock(turn);
    return n;
}

ssize_t stel__file_in(stel__call *c, stel__cursor *to, off_t offset) {
    return offset < 0 ? in_turn(c, to, read_all) : read_all(c, to, offset);
}

ssize_t stel__file_out(stel__call *c, stel__cursor *from, off_t offset) {
    if (offset >= 0) return write_all(c, from, offset);
    ssize_t n = append_by_operation(c, from);
    if (!undone(n) && (n <= 0 || from->done == from->total)) return n;
    return in_turn(c, from, write_all);
}

/* ---- the calls ---- */

ssize_t stel_pread(int fd, void *buffer, size_t bytes, off_t offset) {
    stel__call c;
    stel__cursor to;
    struct iovec piece = { buffer, bytes };
    int rc = stel__call_begin(&c, fd);
    if (rc == 0) rc = offset < 0 ? -EINVAL : stel__cursor_begin(&to, &piece, 1);
    return rc < 0 ? rc : stel__file_in(&c, &to, offset);
}

ssize_t stel_pwrite(int fd, const void *buffer, size_t bytes, off_t offset) {
    stel__call c;
    stel__cursor from;
    struct iovec piece = { (void *)(uintptr_t)buffer, bytes };
    int rc = stel__call_begin(&c, fd);
    if (rc == 0) rc = offset < 0 ? -EINVAL : stel__cursor_begin(&from, &piece, 1);
    return rc < 0 ? rc : stel__file_out(&c, &from, offset);
}

typedef struct sync_job {
    stel__file_job f;
    int fd;
} sync_job;

static ssize_t call_fsync(stel__file_job *f) {
    return stel__sys_fsync(STEL__CONTAINER(f, sync_job, f)->fd);
}

static ssize_t call_fdatasync(stel__file_job *f) {
    return stel__sys_fdatasync(STEL__CONTAINER(f, sync_job, f)->fd);
}

static int sync_with(int fd, ssize_t (*call)(stel__file_job *), uint16_t code) {
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    if (rc < 0) return rc;
    sync_job s = { .f.call = call, .fd = fd };
    stel_operation op = { .code = code, .fd = fd };
    ssize_t n = stel__file_do(c.waiter, &op, &s.f, false);
    c.waited = true;
    return (int)n;
}

int stel_fsync(int fd) {
    return sync_with(fd, call_fsync, STEL_OPERATION_FSYNC);
}

int stel_fdatasync(int fd) {
    return sync_with(fd, call_fdatasync, STEL_OPERATION_FDATASYNC);
}
