/* read, write and their relatives on any descriptor: which kind is it, and then to the file for that kind. */
#include "io/call.h"

static ssize_t in(int fd, const struct iovec *iov, int count) {
    stel__call c;
    stel__cursor to;
    int rc = stel__call_begin(&c, fd);
    if (rc == 0) rc = stel__cursor_begin(&to, iov, count);
    while (rc == 0) {
        if (STEL__LIKELY(stel__call_on_socket(&c))) {
            if (!to.total) return stel__call_end(&c, 0); /* as read(2): recv(2) would wait */
            ssize_t n = stel__socket_in(&c, &to, 0);
            if (STEL__LIKELY(n != -ENOTSOCK)) return n;
            rc = stel__call_look_afresh(&c); /* the number was given to another file behind our back */
            continue;
        }
        if (stel__call_kind(&c) != STEL__SLOT_FILE) return stel__other_in(&c, &to);
        ssize_t n = stel__file_in(&c, &to, -1);
        if (n != STEL__FILE_NO_MORE) return n;
    }
    return rc;
}

static ssize_t out(int fd, const struct iovec *iov, int count) {
    stel__call c;
    stel__cursor from;
    int rc = stel__call_begin(&c, fd);
    if (rc == 0) rc = stel__cursor_begin(&from, iov, count);
    while (rc == 0) {
        if (STEL__LIKELY(stel__call_on_socket(&c))) {
            ssize_t n = stel__socket_out(&c, &from, 0);
            if (STEL__LIKELY(n != -ENOTSOCK)) return n;
            rc = stel__call_look_afresh(&c);
            continue;
        }
        if (stel__call_kind(&c) != STEL__SLOT_FILE) return stel__other_out(&c, &from);
        ssize_t n = stel__file_out(&c, &from, -1);
        if (n != STEL__FILE_NO_MORE) return n;
    }
    return rc;
}

ssize_t stel_read(int fd, void *buffer, size_t bytes) {
    struct iovec piece = { buffer, bytes };
    return in(fd, &piece, 1);
}

ssize_t stel_readv(int fd, const struct iovec *iov, int count) {
    return in(fd, iov, count);
}

ssize_t stel_write(int fd, const void *buffer, size_t bytes) {
    struct iovec piece = { (void *)(uintptr_t)buffer, bytes };
    return out(fd, &piece, 1);
}

ssize_t stel_writev(int fd, const struct iovec *iov, int count) {
    return out(fd, iov, count);
}

int stel_write_all(int fd, const void *buffer, size_t bytes, size_t *done) {
    size_t written = 0;
    ssize_t n;
    do { /* once even for nothing: the descriptor and the caller's limits are looked at */
        n = stel_write(fd, (const char *)buffer + written, bytes - written);
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
