/* read, write and their relatives on any descriptor: which kind is it, and then to the file for that kind. */
#include "io/call.h"

/* The rest of a call that has begun. */
STEL__NOINLINE static ssize_t in(stel__call *c, const struct iovec *iov, int count) {
    stel__cursor to;
    int rc = stel__cursor_begin(&to, iov, count);
    while (rc == 0) {
        if (stel__call_on_socket(c)) {
            if (!to.total) return stel__call_end(c, 0); /* as read(2): recv(2) would wait */
            ssize_t n = stel__socket_in(c, NULL, to.total, &to, 0);
            if (n != -ENOTSOCK) return n;
            rc = stel__call_look_afresh(c); /* the number was given to another file behind our back */
            continue;
        }
        if (stel__call_kind(c) != STEL__SLOT_FILE) return stel__other_in(c, &to);
        ssize_t n = stel__file_in(c, &to, -1);
        if (n != STEL__FILE_NO_MORE) return n;
    }
    return rc;
}

STEL__NOINLINE static ssize_t out(stel__call *c, const struct iovec *iov, int count) {
    stel__cursor from;
    int rc = stel__cursor_begin(&from, iov, count);
    while (rc == 0) {
        if (stel__call_on_socket(c)) {
            ssize_t n = stel__socket_out(c, &from, 0);
            if (n != -ENOTSOCK) return n;
            rc = stel__call_look_afresh(c);
            continue;
        }
        if (stel__call_kind(c) != STEL__SLOT_FILE) return stel__other_out(c, &from);
        ssize_t n = stel__file_out(c, &from, -1);
        if (n != STEL__FILE_NO_MORE) return n;
    }
    return rc;
}

/* What the number is, is looked at anew once: then whatever it is goes the way of all pieces. */
STEL__NOINLINE static ssize_t in_one(stel__call *c, void *buffer, size_t bytes, bool afresh) {
    struct iovec piece = { buffer, bytes };
    int rc = afresh ? stel__call_look_afresh(c) : 0;
    return rc < 0 ? rc : in(c, &piece, 1);
}

STEL__NOINLINE static ssize_t out_one(stel__call *c, const void *buffer, size_t bytes, bool afresh) {
    struct iovec piece = { (void *)(uintptr_t)buffer, bytes };
    int rc = afresh ? stel__call_look_afresh(c) : 0;
    return rc < 0 ? rc : out(c, &piece, 1);
}

/* One buffer and a socket: what servers live on. */
static inline bool is_plain(const stel__call *c, size_t bytes) {
    return STEL__LIKELY(stel__call_on_socket(c) && (ssize_t)bytes > 0);
}

ssize_t stel_read(int fd, void *buffer, size_t bytes) {
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    if (STEL__UNLIKELY(rc < 0)) return rc;
    bool plain = is_plain(&c, bytes);
    ssize_t n = plain ? stel__socket_in(&c, buffer, bytes, NULL, 0) : -ENOTSOCK;
    return STEL__UNLIKELY(n == -ENOTSOCK) ? in_one(&c, buffer, bytes, plain) : n;
}

ssize_t stel_readv(int fd, const struct iovec *iov, int count) {
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    return rc < 0 ? rc : in(&c, iov, count);
}

static ssize_t write_once(int fd, const void *buffer, size_t bytes) {
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    if (STEL__UNLIKELY(rc < 0)) return rc;
    bool plain = is_plain(&c, bytes);
    ssize_t n = plain ? stel__socket_send(&c, buffer, bytes, 0) : -ENOTSOCK;
    return STEL__UNLIKELY(n == -ENOTSOCK) ? out_one(&c, buffer, bytes, plain) : n;
}

ssize_t stel_write(int fd, const void *buffer, size_t bytes) {
    return write_once(fd, buffer, bytes);
}

ssize_t stel_writev(int fd, const struct iovec *iov, int count) {
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    return rc < 0 ? rc : out(&c, iov, count);
}

int stel_write_all(int fd, const void *buffer, size_t bytes, size_t *done) {
    size_t written = 0;
    ssize_t n;
    do { /* once even for nothing: the descriptor and the caller's limits are looked at */
        n = write_once(fd, (const char *)buffer + written, bytes - written);
        if (n < 0) break;
        written += (size_t)n;
    } while (written < bytes);
    if (done) *done = written;
    return n < 0 ? (int)n : 0;
}

int stel_read_full(int fd, void *buffer, size_t bytes, size_t *done) {
    size_t got = 0;
    ssize_t n;
    do { /* as above */
        n = stel_read(fd, (char *)buffer + got, bytes - got);
        if (n <= 0) break;
        got += (size_t)n;
    } while (got < bytes);
    if (done) *done = got;
    return n < 0 ? (int)n : got < bytes ? -ENODATA : 0;
}

int stel_wait_fd(int fd, short events) {
    const short askable = POLLIN | POLLOUT | POLLPRI;
    short wanted = (short)(events | POLLERR | POLLHUP);
    events = (short)(events & askable);
    stel__call c;
    int rc = events ? stel__call_begin(&c, fd) : -EINVAL;
    /* It may have been one when we looked, long ago. */
    if (rc == 0 && stel__call_kind(&c) == STEL__SLOT_FILE) rc = stel__call_look_afresh(&c);
    if (rc == 0 && stel__call_kind(&c) == STEL__SLOT_FILE) rc = -EPERM;
    for (bool first = true; rc == 0; first = false) {
        stel__slot_mark mark = stel__slot_look(c.slot);
        /* After a read that left nothing, poll(2) would only say so once more. relaxed: as in socket.c */
        bool known_empty = first && events == POLLIN && stel__call_kind(&c) == STEL__SLOT_TCP &&
                           !(c.facts & STEL__SLOT_NO_HINT) && stel__load_relaxed(&c.slot->drained) == mark.ready_in;
        rc = known_empty ? 0 : stel__ready_now(fd, events);
        if (rc != 0) return (int)stel__call_end(&c, rc < 0 ? rc : rc & wanted);
        rc = stel__call_wait(&c, mark, events, 0);
        if (rc < 0) return rc;
        rc = rc == STEL__SLOT_LOOK_AGAIN ? 0 : rc & wanted;
    }
    return rc;
}

int stel_close(int fd) {
    return STEL__UNLIKELY(stel__io_forked()) ? -EPERM : stel__slot_close(fd);
}

int stel_fd_release(int fd) {
    return STEL__UNLIKELY(stel__io_forked()) ? -EPERM : stel__slot_release(fd);
}
