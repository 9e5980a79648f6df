/* Pipes, ttys, eventfds, timerfds and whatever else is neither socket nor file. They may or may not have O_NONBLOCK
 * set, and if not we do not set it: other processes may share them. So, in this order:
 *
 *   RWF_NOWAIT, where the kernel understands it for this descriptor (pipes, and eventfds and timerfds for reading)
 *   a plain call, where O_NONBLOCK is set
 *   else: ask poll(2), wait for readiness, and make the call on the offload pool, as somebody else may be faster and
 *   the call then blocks. Writes go there in pieces of PIPE_BUF, for which there is room when poll says so.
 *
 * A plain thread makes the last kind of call itself. */
#include "io/call.h"

typedef struct transfer_job {
    stel__job job;
    int fd;
    const struct iovec *iov;
    int count;
    ssize_t result;
} transfer_job;

static void run_read(stel__job *job) {
    transfer_job *t = STEL__CONTAINER(job, transfer_job, job);
    t->result = stel__sys_readv(t->fd, t->iov, t->count);
}

static void run_write(stel__job *job) {
    transfer_job *t = STEL__CONTAINER(job, transfer_job, job);
    t->result = stel__write_quietly(t->fd, t->iov, t->count, -1, 0);
}

static ssize_t on_the_pool(stel__call *c, void (*run)(stel__job *), const struct iovec *iov, int count) {
    transfer_job t = { .job = { .run = run }, .fd = c->fd, .iov = iov, .count = count };
    int rc = stel__job_run_somehow(&t.job, c->waiter);
    c->waited = true;
    return rc < 0 ? rc : t.result;
}

static bool lacks_nowait(ssize_t n) {
    return n == -EOPNOTSUPP || n == -ENOSYS;
}

/* One try; -EAGAIN: to be waited for. *final: whatever the code, it is the caller's. */
static ssize_t try_in(stel__call *c, stel__slot_mark *mark, const stel__cursor *to, bool *final) {
    *final = false;
    if (!(c->facts & STEL__SLOT_NO_NOWAIT_IN)) {
        ssize_t n = stel__sys_preadv2(c->fd, to->iov, to->count, -1, RWF_NOWAIT);
        if (!lacks_nowait(n)) return n;
        stel__call_learn(c, STEL__SLOT_NO_NOWAIT_IN);
    }
    if (stel__call_nonblocking(c, mark)) return stel__sys_readv(c->fd, to->iov, to->count);
    if (to->total == 0) return stel__sys_readv(c->fd, to->iov, to->count); /* there is nothing to wait for */
    int ready = stel__ready_now(c->fd, POLLIN);
    if (ready <= 0) return ready == 0 ? -EAGAIN : ready;
    *final = true;
    return on_the_pool(c, run_read, to->iov, to->count);
}

ssize_t stel__other_in(stel__call *c, const stel__cursor *to) {
    for (;;) {
        bool final;
        stel__slot_mark mark = stel__slot_look(c->slot);
        ssize_t n = try_in(c, &mark, to, &final);
        if (final) return n;
        if (n != -EAGAIN) return stel__call_end(c, n);
        int rc = stel__call_wait(c, mark, POLLIN, 0);
        if (rc == -EPERM) return on_the_pool(c, run_read, to->iov, to->count); /* it cannot be waited for */
        if (rc < 0) return rc;
    }
}

static ssize_t try_out(stel__call *c, stel__slot_mark *mark, stel__cursor *from, bool *final) {
    int count;
    const struct iovec *iov = stel__cursor_next(from, &count);
    *final = false;
    if (!(c->facts & STEL__SLOT_NO_NOWAIT_OUT)) {
        ssize_t n = stel__write_quietly(c->fd, iov, count, -1, RWF_NOWAIT);
        if (!lacks_nowait(n)) return n;
        stel__call_learn(c, STEL__SLOT_NO_NOWAIT_OUT);
    }
    if (stel__call_nonblocking(c, mark)) return stel__write_quietly(c->fd, iov, count, -1, 0);
    if (from->total == 0) return stel__write_quietly(c->fd, iov, count, -1, 0);
    int ready = stel__ready_now(c->fd, POLLOUT);
    if (ready <= 0) return ready == 0 ? -EAGAIN : ready;
    struct iovec piece = iov[0];
    if (piece.iov_len > PIPE_BUF) piece.iov_len = PIPE_BUF;
    ssize_t n = on_the_pool(c, run_write, &piece, 1);
    *final = n < 0;
    return n;
}

ssize_t stel__other_out(stel__call *c, stel__cursor *from) {
    for (;;) {
        bool final;
        stel__slot_mark mark = stel__slot_look(c->slot);
        ssize_t n = try_out(c, &mark, from, &final);
        if (n >= 0) {
            stel__cursor_advance(from, (size_t)n);
            if (from->done == from->total || n == 0) return stel__call_end(c, (ssize_t)from->done);
            continue;
        }
        if (final || n != -EAGAIN) return from->done ? (ssize_t)from->done : final ? n : stel__call_end(c, n);
        int rc = stel__call_wait(c, mark, POLLOUT, 0);
        if (rc < 0) return from->done ? (ssize_t)from->done : rc;
    }
}
