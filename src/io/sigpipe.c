/* Writing without SIGPIPE. Sockets have MSG_NOSIGNAL. For everything else the kernel has RWF_NOSIGNAL since 6.18;
 * before that the signal is blocked in the calling thread while it writes, and taken back if the write raised it: it is
 * sent to the thread itself, so nobody else can have it. If one was pending already it stays, as signals do not queue.
 * sendfile and splice know no such flag at all: they always go that way. */
#include "io/call.h"

enum { RWF_NO_SIGNAL = 0x100 }; /* libc may be older than the kernel */

static _Atomic bool kernel_is_old;

static ssize_t write_plainly(int fd, const struct iovec *iov, int count, off_t offset, int rwf_flags) {
    if (rwf_flags) return stel__sys_pwritev2(fd, iov, count, offset, rwf_flags);
    if (offset >= 0 && count == 1) return stel__sys_pwrite(fd, iov->iov_base, iov->iov_len, offset);
    if (offset >= 0) return stel__sys_pwritev2(fd, iov, count, offset, 0);
    return stel__sys_writev(fd, iov, count);
}

void stel__sigpipe_hold(stel__sigpipe *s) {
    sigset_t sigpipe, pending;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    sigemptyset(&pending);
    (void)stel__sys_sigpending(&pending);
    s->was_pending = sigismember(&pending, SIGPIPE) > 0;
    if (stel__sys_sigmask(SIG_BLOCK, &sigpipe, &s->before) < 0) sigemptyset(&s->before);
}

void stel__sigpipe_release(const stel__sigpipe *s, bool maybe_raised) {
    sigset_t sigpipe;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    if (maybe_raised && !s->was_pending) {
        struct timespec no_time = { 0, 0 };
        while (stel__sys_sigtimedwait(&sigpipe, NULL, &no_time) == -EINTR)
            ;
    }
    if (!sigismember(&s->before, SIGPIPE)) (void)stel__sys_sigmask(SIG_UNBLOCK, &sigpipe, NULL);
}

static ssize_t write_with_the_signal_blocked(int fd, const struct iovec *iov, int count, off_t offset, int rwf_flags) {
    stel__sigpipe held;
    stel__sigpipe_hold(&held);
    ssize_t n = write_plainly(fd, iov, count, offset, rwf_flags);
    stel__sigpipe_release(&held, n == -EPIPE);
    return n;
}

ssize_t stel__write_quietly(int fd, const struct iovec *iov, int count, off_t offset, int rwf_flags) {
    if (!stel__load_relaxed(&kernel_is_old)) { /* no partner: a cached fact */
        ssize_t n = stel__sys_pwritev2(fd, iov, count, offset, rwf_flags | RWF_NO_SIGNAL);
        if (n != -EOPNOTSUPP && n != -ENOSYS) return n;
        /* Which of the flags? If none of the others is at fault, it is ours. */
        n = write_with_the_signal_blocked(fd, iov, count, offset, rwf_flags);
        if (n != -EOPNOTSUPP && n != -ENOSYS) stel__store_relaxed(&kernel_is_old, true);
        return n;
    }
    return write_with_the_signal_blocked(fd, iov, count, offset, rwf_flags);
}
