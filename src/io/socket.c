/* Sockets. Data always moves with MSG_DONTWAIT, so it does not matter whether O_NONBLOCK is set, and with MSG_NOSIGNAL.
 *
 * The hint. A read from a TCP socket that got less than it asked for has left nothing behind: the counter of edges that
 * was sampled before it is noted in the slot, and as long as that has not moved the next read parks at once, without
 * asking the kernel to be told EAGAIN. Two system calls a request instead of three. It holds for TCP only (a local
 * stream socket also stops where ancillary data begins), and no longer once a hang-up, an error or urgent data was
 * seen: those end reads early, too.
 *
 * Where the backend carries out operations, a read that would have to wait becomes one: the data is there when the fiber
 * wakes, and a system call is saved. Nothing is read ahead of a caller, as the descriptor may be somebody else's next. */
#include "io/call.h"
#include <netinet/in.h>

/* ---- data ---- */

STEL__NOINLINE static ssize_t receive_pieces(stel__call *c, const stel__cursor *to, int flags) {
    struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)to->iov, .msg_iovlen = (size_t)to->count };
    return stel__sys_recvmsg(c->fd, &m, flags);
}

/* There is nothing now, and the backend carries out operations: what the call comes to, or 0 with *again set, to look
 * again. Not inlined: its frame is large, and who waits by readiness sleeps without it. */
STEL__NOINLINE static ssize_t receive_by_operation(stel__call *c, void *buffer, size_t bytes,
                                                   const stel__cursor *pieces, int flags, stel__slot_mark mark,
                                                   bool *again) {
    struct msghdr m = { .msg_iov = pieces ? (struct iovec *)(uintptr_t)pieces->iov : NULL,
                        .msg_iovlen = pieces ? (size_t)pieces->count : 0 };
    stel_operation op = { .code = pieces ? STEL_OPERATION_RECVMSG : STEL_OPERATION_RECV,
                          .address = pieces ? &m : buffer,
                          .length = pieces ? 0 : bytes,
                          .flags = (uint32_t)flags };
    ssize_t n = stel__call_operate(c, &op, mark, 0);
    *again = n == STEL__LOOK_AFRESH;
    if (n != -EOPNOTSUPP && n != -EAGAIN) return *again ? 0 : n;
    int rc = stel__call_wait(c, mark, POLLIN, 0);
    *again = rc >= 0;
    return rc < 0 ? rc : 0;
}

ssize_t stel__socket_in(stel__call *c, void *buffer, size_t bytes, const stel__cursor *pieces, int flags) {
    for (bool first = true;; first = false) {
        stel__slot_mark mark = stel__slot_look(c->slot);
        bool hints = stel__call_kind(c) == STEL__SLOT_TCP && !(c->facts & STEL__SLOT_NO_HINT) && flags == 0;
        /* relaxed: see slot.c, a stale hint names a counter that has moved. After a wait it is not asked: a plain
         * thread's wait moves no counter. */
        if (!first || !hints || stel__load_relaxed(&c->slot->drained) != mark.ready_in) {
            ssize_t n = STEL__LIKELY(!pieces) ? stel__sys_recv(c->fd, buffer, bytes, flags | MSG_DONTWAIT)
                                              : receive_pieces(c, pieces, flags | MSG_DONTWAIT);
            if (STEL__LIKELY(n > 0)) {
                if (hints && (size_t)n < bytes) stel__store_relaxed(&c->slot->drained, mark.ready_in);
                return stel__call_end(c, n);
            }
            if (n != -EAGAIN || (flags & STEL__MSG_NEVER_WAITS)) return stel__call_end(c, n);
        }
        if (STEL__LIKELY(!stel__operates_on_slots(c->waiter))) {
            int rc = stel__call_wait(c, mark, POLLIN, 0);
            if (rc < 0) return rc;
            continue;
        }
        bool again;
        ssize_t n = receive_by_operation(c, buffer, bytes, pieces, flags, mark, &again);
        if (again) continue;
        if (n > 0 && hints && (size_t)n < bytes) stel__store_relaxed(&c->slot->drained, mark.ready_in);
        return n;
    }
}

static ssize_t transmit(stel__call *c, stel__cursor *from, int flags) {
    int count;
    const struct iovec *iov = stel__cursor_next(from, &count);
    if (count == 1) return stel__sys_send(c->fd, iov[0].iov_base, iov[0].iov_len, flags);
    struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count };
    return stel__sys_sendmsg(c->fd, &m, flags);
}

bool stel__socket_sent_all(stel__call *c, const stel__cursor *from) {
    if (STEL__LIKELY(from->done == from->total)) return true;
    if (stel__call_kind(c) != STEL__SLOT_PACKET) return false;
    /* A part of a message: either a protocol that we do not know, or the number has become a stream behind our back. */
    return stel__call_look_afresh(c) < 0 || stel__call_kind(c) == STEL__SLOT_PACKET;
}

/* Until all has been sent. mark: from before the first try, which came to n. */
STEL__NOINLINE static ssize_t send_the_rest(stel__call *c, stel__cursor *from, int flags, stel__slot_mark mark,
                                            ssize_t n) {
    for (;;) {
        if (n >= 0) {
            stel__cursor_advance(from, (size_t)n);
            if (stel__socket_sent_all(c, from)) return stel__call_end(c, (ssize_t)from->done);
        } else {
            if (n != -EAGAIN || (flags & MSG_DONTWAIT)) return from->done ? (ssize_t)from->done : stel__call_end(c, n);
            int rc = stel__call_wait(c, mark, POLLOUT, 0);
            if (rc < 0) return from->done ? (ssize_t)from->done : rc;
        }
        mark = stel__slot_look(c->slot);
        n = transmit(c, from, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

ssize_t stel__socket_out(stel__call *c, stel__cursor *from, int flags) {
    stel__slot_mark mark = stel__slot_look(c->slot);
    return send_the_rest(c, from, flags, mark, transmit(c, from, flags | MSG_DONTWAIT | MSG_NOSIGNAL));
}

ssize_t stel__socket_send(stel__call *c, const void *buffer, size_t bytes, int flags) {
    stel__slot_mark mark = stel__slot_look(c->slot);
    ssize_t n = stel__sys_send(c->fd, buffer, bytes, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    if (STEL__LIKELY(n == (ssize_t)bytes)) return stel__call_end(c, n);
    struct iovec piece = { (void *)(uintptr_t)buffer, bytes };
    stel__cursor from;
    (void)stel__cursor_begin(&from, &piece, 1); /* the caller has looked at its size */
    return send_the_rest(c, &from, flags, mark, n);
}

bool stel__socket_waits_for_all(const stel__call *c, int flags) {
    return (flags & MSG_WAITALL) && !(flags & (MSG_PEEK | STEL__MSG_NEVER_WAITS)) && stel__call_on_socket(c) &&
           stel__call_kind(c) != STEL__SLOT_PACKET;
}

ssize_t stel__socket_fill(stel__call *c, char *buffer, size_t done, size_t bytes, int flags) {
    do {
        ssize_t n = stel__socket_in(c, buffer + done, bytes - done, NULL, flags & ~MSG_WAITALL);
        if (n <= 0) return done ? (ssize_t)done : n;
        done += (size_t)n;
    } while (done < bytes);
    return (ssize_t)done;
}

ssize_t stel_recv(int fd, void *buffer, size_t bytes, int flags) {
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    if (rc < 0) return rc;
    if (STEL__UNLIKELY(bytes > SSIZE_MAX)) return -EINVAL;
    if (!stel__socket_waits_for_all(&c, flags)) return stel__socket_in(&c, buffer, bytes, NULL, flags);
    return stel__socket_fill(&c, buffer, 0, bytes, flags);
}

ssize_t stel_send(int fd, const void *buffer, size_t bytes, int flags) {
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    if (rc < 0) return rc;
    if (STEL__UNLIKELY(bytes > SSIZE_MAX)) return -EINVAL;
    return stel__socket_send(&c, buffer, bytes, flags);
}

/* ---- new sockets ---- */

static int made(int fd, unsigned facts) {
    int rc = stel__slot_made_by_us(fd, facts | STEL__SLOT_NONBLOCK);
    if (rc == 0) return fd;
    stel__sys_close(fd);
    return rc;
}

int stel_socket(int domain, int type, int protocol) {
    if (STEL__UNLIKELY(stel__io_forked())) return -EPERM;
    int fd = stel__sys_socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    if (fd < 0) return fd;
    unsigned facts = STEL__SLOT_PACKET;
    if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM) {
        bool tcp = (domain == AF_INET || domain == AF_INET6) && (protocol == 0 || protocol == IPPROTO_TCP);
        facts = tcp ? STEL__SLOT_TCP : STEL__SLOT_STREAM;
    }
    return made(fd, facts);
}

typedef struct accept_job {
    stel__job job;
    int fd, result;
    struct sockaddr *address;
    socklen_t *bytes;
} accept_job;

static void run_accept_job(stel__job *job) {
    accept_job *a = STEL__CONTAINER(job, accept_job, job);
    int ready = stel__ready_now(a->fd, POLLIN);
    if (ready == 0) ready = -EAGAIN;
    a->result = ready < 0 ? ready : stel__sys_accept4(a->fd, a->address, a->bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

/* -EAGAIN on a listener. On anything else that has nothing to say, nobody ever will come: what accept(2) says at once. */
static int why_nobody_comes(int fd) {
    int listens = 0;
    socklen_t length = sizeof listens;
    int rc = stel__sys_getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length);
    return rc < 0 ? rc : listens ? -EAGAIN : -EINVAL;
}

/* accept4(2) that says -EAGAIN when there is nothing, even on a listener that blocks: that one is asked first, and the
 * call made on the offload pool, as somebody else may take the connection in between. */
static int accept_once(stel__call *c, stel__slot_mark *mark, struct sockaddr *address, socklen_t *bytes) {
    if (STEL__LIKELY(stel__call_nonblocking(c, mark)))
        return stel__sys_accept4(c->fd, address, bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int ready = stel__ready_now(c->fd, POLLIN);
    if (ready == 0) ready = why_nobody_comes(c->fd);
    if (ready < 0) return ready;
    accept_job a = { .job = { .run = run_accept_job }, .fd = c->fd, .address = address, .bytes = bytes };
    int rc = stel__job_run_somehow(&a.job, c->waiter);
    return rc < 0 ? rc : a.result;
}

/* Out of something that others may give back. */
static bool is_shortage(int code) {
    return code == -EMFILE || code == -ENFILE || code == -ENOBUFS || code == -ENOMEM;
}

/* The connection failed before it was taken: accept(2) lists these. */
static bool is_stillborn(int code) {
    return code == -ECONNABORTED || code == -EPROTO || code == -ENETDOWN || code == -ENOPROTOOPT ||
           code == -EHOSTDOWN || code == -ENONET || code == -EHOSTUNREACH || code == -ENETUNREACH;
}

/* Nobody is there yet: the next one who comes, if the backend can bring him; else as accept_once. */
STEL__NOINLINE static int accept_later(stel__call *c, stel__slot_mark mark, struct sockaddr *address,
                                       socklen_t *bytes) {
    stel_operation op = {
        .code = STEL_OPERATION_ACCEPT, .address = address, .address2 = bytes, .flags = SOCK_CLOEXEC | SOCK_NONBLOCK
    };
    ssize_t rc = stel__call_operate(c, &op, mark, STEL__SLOT_ACCEPTOR);
    return rc == -EOPNOTSUPP ? -EAGAIN : (int)rc;
}

/* After a failed accept: 0 to try again, or what the call returns. */
static int after_failure(stel__call *c, stel__slot_mark mark, int code, int64_t *pause_ns) {
    static _Atomic unsigned said;
    if (code == -EAGAIN) {
        *pause_ns = STEL_MS(1);
        int rc = stel__call_wait(c, mark, POLLIN, STEL__SLOT_ACCEPTOR);
        return rc < 0 ? rc : 0;
    }
    if (is_shortage(code)) {
        stel__warn_once(&said, "accept: %s; backing off until there is room", stel_strerror(code));
        int rc = stel_sleep(*pause_ns);
        if (rc < 0) return rc;
        if ((*pause_ns *= 2) > STEL_MS(100)) *pause_ns = STEL_MS(100);
        return 0;
    }
    if (is_stillborn(code)) {
        stel__wait_spend(c->waiter);
        return 0;
    }
    return (int)stel__call_end(c, code);
}

int stel_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags) {
    if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) return -EINVAL;
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    int64_t pause_ns = STEL_MS(1);
    while (rc == 0) {
        if (stel_stopping()) return -ESHUTDOWN;
        stel__slot_mark mark = stel__slot_look(c.slot);
        int taken = accept_once(&c, &mark, address, bytes);
        if (taken == -EAGAIN) {
            taken = accept_later(&c, mark, address, bytes);
            if (taken == -ETIMEDOUT || taken == -ECANCELED) return taken; /* our own limits */
            if (taken == STEL__LOOK_AFRESH) continue;
        }
        if (taken >= 0) return (int)stel__call_end(&c, made(taken, stel__call_kind(&c)));
        rc = after_failure(&c, mark, taken, &pause_ns);
    }
    return rc;
}

int stel_accept(int fd, struct sockaddr *address, socklen_t *bytes) {
    return stel_accept4(fd, address, bytes, 0);
}

/* ---- connect ---- */

typedef struct connect_job {
    stel__job job;
    int fd, result;
    const struct sockaddr *address;
    socklen_t bytes;
} connect_job;

/* A socket that blocks and that we did not make: we may not set O_NONBLOCK, but its time limit for sending also limits
 * connect, which goes on by itself afterwards. The shortest limit is a tick of the kernel: hence the pool. */
static void run_connect_job(stel__job *job) {
    connect_job *j = STEL__CONTAINER(job, connect_job, job);
    struct timeval before = { 0, 0 }, shortest = { 0, 1 };
    socklen_t length = sizeof before;
    j->result = stel__sys_getsockopt(j->fd, SOL_SOCKET, SO_SNDTIMEO, &before, &length);
    if (j->result < 0) return;
    j->result = stel__sys_setsockopt(j->fd, SOL_SOCKET, SO_SNDTIMEO, &shortest, sizeof shortest);
    if (j->result < 0) return;
    j->result = stel__sys_connect(j->fd, j->address, j->bytes);
    (void)stel__sys_setsockopt(j->fd, SOL_SOCKET, SO_SNDTIMEO, &before, sizeof before);
}

static int connect_once(stel__call *c, const struct sockaddr *address, socklen_t bytes) {
    stel__slot_mark mark; /* nobody waits by it */
    if (stel__call_nonblocking(c, &mark) || !stel__call_on_socket(c) || stel__call_kind(c) == STEL__SLOT_PACKET)
        return stel__sys_connect(c->fd, address, bytes);
    connect_job j = { .job = { .run = run_connect_job }, .fd = c->fd, .address = address, .bytes = bytes };
    int rc = stel__job_run_somehow(&j.job, c->waiter);
    return rc < 0 ? rc : j.result;
}

/* It goes on by itself: wait for the outcome. */
static int connect_outcome(stel__call *c) {
    for (;;) {
        stel__slot_mark mark = stel__slot_look(c->slot);
        int ready = stel__ready_now(c->fd, POLLOUT);
        if (ready < 0) return (int)stel__call_end(c, ready);
        if (ready > 0) break;
        int rc = stel__call_wait(c, mark, POLLOUT, 0);
        if (rc < 0) return rc;
    }
    int error = 0;
    socklen_t length = sizeof error;
    int rc = stel__sys_getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    return (int)stel__call_end(c, rc < 0 ? rc : -error);
}

int stel_connect(int fd, const struct sockaddr *address, socklen_t bytes) {
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    if (rc < 0) return rc;
    for (int64_t pause_ns = STEL_MS(1);; pause_ns = pause_ns < STEL_MS(50) ? 2 * pause_ns : STEL_MS(100)) {
        rc = connect_once(&c, address, bytes);
        if (rc == -EINPROGRESS || rc == -EINTR) return connect_outcome(&c);
        /* A local listener whose queue is full; nothing tells when it no longer is. TCP says it when out of ports. */
        if (rc != -EAGAIN || stel__call_kind(&c) == STEL__SLOT_TCP) return (int)stel__call_end(&c, rc);
        rc = stel_sleep(pause_ns);
        if (rc < 0) return rc;
    }
}
