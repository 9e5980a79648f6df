/* What the calls of the io room have in common: how they begin, wait and end. Only for the files of this room. */
#ifndef STEL_IO_CALL_H
#define STEL_IO_CALL_H

#include "io/io.h"
#include "poller/poller.h"
#include <fcntl.h>
#include <limits.h>
#include <stellane/io.h>

typedef struct stel__call {
    stel__waiter *waiter;
    stel__slot *slot;
    int fd;
    unsigned facts; /* enum stel__slot_facts, as of the last look */
    bool waited;
} stel__call;

/* Look at the facts, finding them out if nobody has. 0 or an error. */
static inline int stel__call_facts(stel__call *c) {
    c->facts = stel__load_acquire(&c->slot->facts); /* slot.c: made_by_us, probe */
    if (STEL__LIKELY((c->facts & STEL__SLOT_KIND) != STEL__SLOT_UNKNOWN)) return 0;
    return stel__slot_probe(c->slot, c->fd, &c->facts);
}

/* The child of a fork may not do anything here: locks may be held by threads that it does not have, and the backend's
 * registrations are the parent's too. */
static inline bool stel__io_forked(void) {
    return stel__load_relaxed(&stel__forked); /* no partner: set before the child runs anything */
}

static inline int stel__call_begin(stel__call *c, int fd) {
    int rc = 0;
    c->waiter = stel__wait_enter(&rc);
    if (STEL__UNLIKELY(!c->waiter)) return rc;
    c->slot = stel__slot_at(fd, &rc);
    if (STEL__UNLIKELY(!c->slot)) return rc;
    c->fd = fd;
    c->waited = false;
    return stel__call_facts(c);
}

/* Wait as slot_wait does; the facts are looked at afresh afterwards. */
static inline int stel__call_wait(stel__call *c, stel__slot_mark mark, short events, unsigned flags) {
    c->waited = true;
    int events_now = stel__slot_wait(c->slot, c->fd, c->waiter, mark, events, flags);
    if (events_now < 0) return events_now;
    int rc = stel__call_facts(c);
    return rc < 0 ? rc : events_now;
}

/* Have an operation done as slot_operate does, if there is anybody who can. */
static inline ssize_t stel__call_operate(stel__call *c, stel_operation *op, stel__slot_mark mark, unsigned flags) {
    if (STEL__LIKELY(!stel__operates_on_slots(c->waiter))) return -EOPNOTSUPP;
    ssize_t rc = stel__slot_operate(c->slot, c->fd, op, c->waiter, mark, flags);
    if (rc == -EOPNOTSUPP) return rc;
    c->waited = true;
    if (rc != STEL__LOOK_AFRESH) return rc;
    int facts = stel__call_facts(c);
    return facts < 0 ? facts : rc;
}

/* The end of a call by what the kernel said. */
static inline ssize_t stel__call_end(stel__call *c, ssize_t result) {
    if (!c->waited) stel__wait_spend(c->waiter);
    if (STEL__UNLIKELY(result == -ETIMEDOUT)) c->waiter->timed_out = 0; /* the peer's, not our deadline */
    return result;
}

static inline unsigned stel__call_kind(const stel__call *c) {
    return c->facts & STEL__SLOT_KIND;
}
static inline bool stel__call_on_socket(const stel__call *c) {
    return stel__call_kind(c) <= STEL__SLOT_PACKET;
}
/* Remember that the kernel does not understand something for this number. */
static inline void stel__call_learn(stel__call *c, unsigned fact) {
    stel__or_acq_rel(&c->slot->facts, fact);
    c->facts |= fact;
}

/* The number is another file than we thought: forget what we knew, and find out afresh. 0 or an error. */
static inline int stel__call_look_afresh(stel__call *c) {
    stel__slot_forget(c->slot);
    return stel__call_facts(c);
}
/* May a plain system call be made without the thread being blocked by it? That O_NONBLOCK was set when we looked is not
 * enough where nothing else keeps the call from blocking: the number may have been given to another file since, or
 * another process that shares this one may have taken the flag away. A new mark is taken if it turns out so. */
static inline bool stel__call_nonblocking(stel__call *c, stel__slot_mark *mark) {
    if (!(c->facts & STEL__SLOT_NONBLOCK)) return false;
    int flags = stel__sys_fcntl_getfl(c->fd);
    if (STEL__LIKELY(flags < 0 || (flags & O_NONBLOCK))) return true; /* < 0: the call will say so as well */
    (void)stel__call_look_afresh(c);
    *mark = stel__slot_look(c->slot);
    return false;
}

/* ---- buffers: an array of pieces, and how far one has come ---- */

typedef struct stel__cursor {
    const struct iovec *iov;
    int count;
    size_t offset; /* into iov[0] */
    size_t done, total;
    struct iovec piece; /* what is left of iov[0], when offset > 0 */
} stel__cursor;

/* 0, -EINVAL or -EFAULT. */
static inline int stel__cursor_begin(stel__cursor *c, const struct iovec *iov, int count) {
    if (count < 0 || count > IOV_MAX) return -EINVAL;
    if (count > 0 && !iov) return -EFAULT;
    size_t total = 0;
    for (int i = 0; i < count; i++)
        if (__builtin_add_overflow(total, iov[i].iov_len, &total) || total > SSIZE_MAX) return -EINVAL;
    *c = (stel__cursor){ .iov = iov, .count = count, .total = total };
    return 0;
}

static inline void stel__cursor_advance(stel__cursor *c, size_t bytes) {
    c->done += bytes;
    bytes += c->offset;
    while (c->count > 1 && bytes >= c->iov[0].iov_len) {
        bytes -= c->iov[0].iov_len;
        c->iov++;
        c->count--;
    }
    c->offset = bytes;
}

/* What the next system call is to be given. */
static inline const struct iovec *stel__cursor_next(stel__cursor *c, int *count) {
    *count = c->count;
    if (!c->offset) return c->iov;
    *count = 1;
    c->piece.iov_base = (char *)c->iov[0].iov_base + c->offset;
    c->piece.iov_len = c->iov[0].iov_len - c->offset;
    return &c->piece;
}

/* ---- one kind of descriptor each; results as those of read(2) and write(2) ---- */

/* Flags with which the kernel does not wait on any socket; so neither do we. */
enum { STEL__MSG_NEVER_WAITS = MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB };
/* pieces: several, of `bytes` in all, instead of the one buffer. -ENOTSOCK: the number has changed behind our back. */
ssize_t stel__socket_in(stel__call *c, void *buffer, size_t bytes, const stel__cursor *pieces, int flags);
ssize_t stel__socket_out(stel__call *c, stel__cursor *from, int flags);
ssize_t stel__socket_send(stel__call *c, const void *buffer, size_t bytes, int flags); /* the same for one buffer */
/* MSG_WAITALL: the kernel does not wait for us, so it is done here: the rest of a buffer of which done bytes are there.
 * Until it is full, the stream ends or fails: the bytes in it, or, if that is none, an error. */
bool stel__socket_waits_for_all(const stel__call *c, int flags);
ssize_t stel__socket_fill(stel__call *c, char *buffer, size_t done, size_t bytes, int flags);
/* Has all that has to be sent been sent? A message goes as a whole. */
bool stel__socket_sent_all(stel__call *c, const stel__cursor *from);
ssize_t stel__other_in(stel__call *c, const stel__cursor *to);
ssize_t stel__other_out(stel__call *c, stel__cursor *from);
/* offset -1: the file's own position. STEL__FILE_NO_MORE: the number is none of a file any more; the facts are fresh. */
enum { STEL__FILE_NO_MORE = -100000 };
ssize_t stel__file_in(stel__call *c, stel__cursor *to, off_t offset);
ssize_t stel__file_out(stel__call *c, stel__cursor *from, off_t offset);

/* write(2) and friends without SIGPIPE: see sigpipe.c. offset -1: the file's own position. */
ssize_t stel__write_quietly(int fd, const struct iovec *iov, int count, off_t offset, int rwf_flags);

/* Around any other call that may raise it. maybe_raised: it failed, or did less than it was asked for. */
typedef struct stel__sigpipe {
    sigset_t before;
    bool was_pending;
} stel__sigpipe;
void stel__sigpipe_hold(stel__sigpipe *s);
void stel__sigpipe_release(const stel__sigpipe *s, bool maybe_raised);

/* Is fd ready for one of events, now? poll(2) events, 0, or an error. */
static inline int stel__ready_now(int fd, short events) {
    struct pollfd p = { .fd = fd, .events = events };
    struct timespec no_time = { 0, 0 };
    int rc = stel__sys_ppoll(&p, 1, &no_time, NULL);
    if (rc == -EINTR) return 0;
    if (rc <= 0) return rc;
    return p.revents & POLLNVAL ? -EBADF : p.revents;
}

#endif
