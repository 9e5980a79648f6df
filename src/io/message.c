/* Datagrams, addresses and ancillary data: recvfrom, recvmsg, sendto, sendmsg. As in socket.c the kernel is never asked
 * to wait (MSG_DONTWAIT) and never raises SIGPIPE (MSG_NOSIGNAL).
 *
 * Descriptors that come with a message are numbers made behind the library's back: the slot of each begins a new life,
 * so that nothing that was known of an earlier file under that number is believed of this one. They are close-on-exec.
 *
 * Room in somebody else's queue. A socket that sends where it is not connected to may be told EAGAIN because the
 * receiver's queue is full (local datagrams do that), while poll says that the socket can be written: it can, but not
 * there, and nothing tells when. (Worse: giving back the memory of the failed attempt looks like room that was made, so
 * waiting for that would be turning in circles.) After one more try at once the sender sleeps, from one millisecond up
 * to sixteen.
 *
 * Ancillary data on streams. It goes with the first part that is sent and comes with the bytes that it was sent with;
 * so a receive with MSG_WAITALL on a local socket ends where some came, as the kernel's does. TCP has none that belongs
 * to certain bytes (time stamps); there what came with the first part is kept. */
#include "io/call.h"
#include <string.h>

enum { PAUSE_FIRST_NS = 1000000, PAUSE_MAX_NS = 16000000 };
enum { SCM_PIDFD_TYPE = 4 }; /* newer than libc's headers: a pidfd of the sender */

/* ---- receiving ---- */

ssize_t stel_recvfrom(int fd, void *buffer, size_t bytes, int flags, struct sockaddr *from, socklen_t *length) {
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    if (rc < 0) return rc;
    for (;;) {
        stel__slot_mark mark = stel__slot_look(c.slot);
        ssize_t n = stel__sys_recvfrom(fd, buffer, bytes, flags | MSG_DONTWAIT, from, length);
        if (n > 0 && (size_t)n < bytes && stel__socket_waits_for_all(&c, flags))
            return stel__socket_fill(&c, buffer, (size_t)n, bytes, flags);
        if (n != -EAGAIN || (flags & STEL__MSG_NEVER_WAITS)) return stel__call_end(&c, n);
        rc = stel__call_wait(&c, mark, POLLIN, 0);
        if (rc < 0) return rc;
    }
}

/* New lives for the descriptors in a message. */
static void greet_descriptors(struct msghdr *m) {
    if (!m->msg_control || !m->msg_controllen) return;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || (c->cmsg_type != SCM_RIGHTS && c->cmsg_type != SCM_PIDFD_TYPE)) continue;
        if (c->cmsg_len < CMSG_LEN(0)) return;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            /* It fails when there is no slot yet and no memory for one: then nothing wrong is known of the number. */
            if (fd >= 0) (void)stel__slot_made_by_us(fd, STEL__SLOT_UNKNOWN);
        }
    }
}

static ssize_t receive_message(stel__call *c, struct msghdr *m, int flags) {
    for (;;) {
        stel__slot_mark mark = stel__slot_look(c->slot);
        ssize_t n = stel__sys_recvmsg(c->fd, m, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n >= 0) {
            greet_descriptors(m);
            m->msg_flags &= ~MSG_CMSG_CLOEXEC | flags; /* the kernel tells what it was asked; the caller did not */
        }
        if (n != -EAGAIN || (flags & STEL__MSG_NEVER_WAITS)) return stel__call_end(c, n);
        int rc = stel__call_wait(c, mark, POLLIN, 0);
        if (rc < 0) return rc;
    }
}

/* MSG_WAITALL after the first part, which brought no ancillary data that ends it. */
static ssize_t receive_the_rest(stel__call *c, struct msghdr *m, stel__cursor *to, size_t control_room, int flags) {
    bool keep = m->msg_controllen > 0;
    while (to->done < to->total) {
        struct msghdr part = { .msg_control = keep ? NULL : m->msg_control, .msg_controllen = keep ? 0 : control_room };
        int count;
        part.msg_iov = (struct iovec *)(uintptr_t)stel__cursor_next(to, &count);
        part.msg_iovlen = (size_t)count;
        ssize_t n = receive_message(c, &part, flags & ~MSG_WAITALL);
        if (n <= 0) break; /* the next call tells the error */
        stel__cursor_advance(to, (size_t)n);
        m->msg_flags |= part.msg_flags;
        if (keep || !part.msg_controllen) continue;
        m->msg_controllen = part.msg_controllen;
        break;
    }
    return (ssize_t)to->done;
}

ssize_t stel_recvmsg(int fd, struct msghdr *message, int flags) {
    stel__call c;
    stel__cursor to;
    if (!message) return -EFAULT;
    int rc = stel__call_begin(&c, fd);
    if (rc < 0) return rc;
    if (message->msg_iovlen > IOV_MAX) return -EMSGSIZE;
    rc = stel__cursor_begin(&to, message->msg_iov, (int)message->msg_iovlen);
    if (rc < 0) return rc;
    size_t control_room = message->msg_controllen;
    ssize_t n = receive_message(&c, message, flags);
    if (n <= 0 || (size_t)n == to.total || !stel__socket_waits_for_all(&c, flags)) return n;
    if (message->msg_controllen > 0 && stel__call_kind(&c) != STEL__SLOT_TCP) return n;
    stel__cursor_advance(&to, (size_t)n);
    return receive_the_rest(&c, message, &to, control_room, flags);
}

/* ---- sending ---- */

/* After EAGAIN: 0 to try again, or what cut it short. */
static int wait_for_room(stel__call *c, stel__slot_mark mark, bool addressed, int64_t *pause_ns) {
    int ready = addressed && stel__call_kind(c) == STEL__SLOT_PACKET ? stel__ready_now(c->fd, POLLOUT) : 0;
    if (ready < 0) return ready;
    if (ready == 0) {
        int rc = stel__call_wait(c, mark, POLLOUT, 0);
        return rc < 0 ? rc : 0;
    }
    int64_t pause = *pause_ns;
    *pause_ns = pause ? pause * 2 : PAUSE_FIRST_NS;
    if (*pause_ns > PAUSE_MAX_NS) *pause_ns = PAUSE_MAX_NS;
    if (!pause) return 0; /* it may just have become ready */
    c->waited = true;
    return stel_sleep(pause);
}

static ssize_t send_message(stel__call *c, const struct msghdr *message, int flags) {
    stel__cursor from;
    struct msghdr m = *message;
    int64_t pause_ns = 0;
    if (m.msg_iovlen > IOV_MAX) return -EMSGSIZE;
    int rc = stel__cursor_begin(&from, m.msg_iov, (int)m.msg_iovlen);
    if (rc < 0) return rc;
    for (;;) {
        stel__slot_mark mark = stel__slot_look(c->slot);
        ssize_t n = stel__sys_sendmsg(c->fd, &m, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            stel__cursor_advance(&from, (size_t)n);
            break;
        }
        bool connecting = n == -EINPROGRESS && (flags & MSG_FASTOPEN);
        if ((n != -EAGAIN && !connecting) || (flags & MSG_DONTWAIT)) return stel__call_end(c, n);
        if (connecting) { /* without data, for want of a cookie; the address has done its work */
            flags &= ~MSG_FASTOPEN;
            m.msg_name = NULL;
            m.msg_namelen = 0;
        }
        rc = wait_for_room(c, mark, m.msg_name != NULL, &pause_ns);
        if (rc < 0) return rc;
    }
    if (stel__socket_sent_all(c, &from)) return stel__call_end(c, (ssize_t)from.done);
    return stel__socket_out(c, &from, flags & ~MSG_FASTOPEN);
}

ssize_t stel_sendto(int fd, const void *buffer, size_t bytes, int flags, const struct sockaddr *to, socklen_t length) {
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    if (rc < 0) return rc;
    struct iovec piece = { (void *)(uintptr_t)buffer, bytes };
    struct msghdr m = { .msg_name = (void *)(uintptr_t)to, .msg_namelen = length, .msg_iov = &piece, .msg_iovlen = 1 };
    return send_message(&c, &m, flags);
}

ssize_t stel_sendmsg(int fd, const struct msghdr *message, int flags) {
    stel__call c;
    if (!message) return -EFAULT;
    int rc = stel__call_begin(&c, fd);
    return rc < 0 ? rc : send_message(&c, message, flags);
}
