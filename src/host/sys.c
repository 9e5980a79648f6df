/* The seam, one wrapper a system call: see sys.h. Calls that libc of this age may lack go through syscall(2) under
 * their number, which is the same on every machine for calls newer than 2019. */
#include "host/sys.h"
#include "base/base.h"
#include "host/fault.h"
#include "host/sanitize.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    NR_IO_URING_SETUP = 425,
    NR_IO_URING_ENTER = 426,
    NR_IO_URING_REGISTER = 427,
    NR_PIDFD_OPEN = 434,
    NR_PROCESS_MADVISE = 440,
    NR_EPOLL_PWAIT2 = 441
};

/* The bodies that most wrappers share. */
#define FAIL_IF_TOLD(kind)                                                                                             \
    do {                                                                                                               \
        int told = stel__fault_hit(STEL__FAULT_##kind);                                                                \
        if (STEL__UNLIKELY(told)) return -told;                                                                        \
    } while (0)
/* errno is the program's: what a call that fails leaves there is taken out as a code, and the old value put back. */
#define OR_CODE(result, before) ((result) < 0 ? take_errno(before) : (result))
static STEL__NOINLINE int take_errno(int before) {
    int code = -errno;
    errno = before;
    return code;
}
#define ONCE(type, kind, call)                                                                                         \
    do {                                                                                                               \
        FAIL_IF_TOLD(kind);                                                                                            \
        int before = errno;                                                                                            \
        type result = (call);                                                                                          \
        return OR_CODE(result, before);                                                                                \
    } while (0)
#define REPEAT(type, kind, call)                                                                                       \
    do {                                                                                                               \
        FAIL_IF_TOLD(kind);                                                                                            \
        int before = errno;                                                                                            \
        type result;                                                                                                   \
        do                                                                                                             \
            result = (call);                                                                                           \
        while (STEL__UNLIKELY(result < 0) && errno == EINTR);                                                          \
        return OR_CODE(result, before);                                                                                \
    } while (0)

/* ---- data ---- */

ssize_t stel__sys_read(int fd, void *buf, size_t bytes) {
    REPEAT(ssize_t, READ, read(fd, buf, bytes));
}

ssize_t stel__sys_write(int fd, const void *buf, size_t bytes) {
    REPEAT(ssize_t, WRITE, write(fd, buf, bytes));
}

ssize_t stel__sys_readv(int fd, const struct iovec *iov, int count) {
    REPEAT(ssize_t, READV, readv(fd, iov, count));
}

ssize_t stel__sys_writev(int fd, const struct iovec *iov, int count) {
    REPEAT(ssize_t, WRITEV, writev(fd, iov, count));
}

ssize_t stel__sys_pread(int fd, void *buf, size_t bytes, off_t offset) {
    REPEAT(ssize_t, PREAD, pread(fd, buf, bytes, offset));
}

ssize_t stel__sys_pwrite(int fd, const void *buf, size_t bytes, off_t offset) {
    REPEAT(ssize_t, PWRITE, pwrite(fd, buf, bytes, offset));
}

ssize_t stel__sys_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags) {
    REPEAT(ssize_t, PREADV2, preadv2(fd, iov, count, offset, flags));
}

ssize_t stel__sys_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags) {
    REPEAT(ssize_t, PWRITEV2, pwritev2(fd, iov, count, offset, flags));
}

/* The two calls that a busy server lives on. Never to wait, so not by libc's way, which prepares for the thread to be
 * cancelled in it; but sanitizers must see libc's. */
static ssize_t recv_plainly(int fd, void *buf, size_t bytes, int flags) {
#ifdef STEL__SANITIZED
    return recv(fd, buf, bytes, flags);
#else
    return syscall(SYS_recvfrom, fd, buf, bytes, flags, NULL, NULL);
#endif
}

static ssize_t send_plainly(int fd, const void *buf, size_t bytes, int flags) {
#ifdef STEL__SANITIZED
    return send(fd, buf, bytes, flags);
#else
    return syscall(SYS_sendto, fd, buf, bytes, flags, NULL, 0);
#endif
}

ssize_t stel__sys_recv(int fd, void *buf, size_t bytes, int flags) {
    REPEAT(ssize_t, RECV, recv_plainly(fd, buf, bytes, flags));
}

ssize_t stel__sys_send(int fd, const void *buf, size_t bytes, int flags) {
    REPEAT(ssize_t, SEND, send_plainly(fd, buf, bytes, flags));
}

ssize_t stel__sys_recvfrom(int fd, void *buf, size_t bytes, int flags, struct sockaddr *from, socklen_t *length) {
    REPEAT(ssize_t, RECVFROM, recvfrom(fd, buf, bytes, flags, from, length));
}

ssize_t stel__sys_sendto(int fd, const void *buf, size_t bytes, int flags, const struct sockaddr *to,
                         socklen_t length) {
    REPEAT(ssize_t, SENDTO, sendto(fd, buf, bytes, flags, to, length));
}

ssize_t stel__sys_recvmsg(int fd, struct msghdr *message, int flags) {
    REPEAT(ssize_t, RECVMSG, recvmsg(fd, message, flags));
}

ssize_t stel__sys_sendmsg(int fd, const struct msghdr *message, int flags) {
    REPEAT(ssize_t, SENDMSG, sendmsg(fd, message, flags));
}

ssize_t stel__sys_sendfile(int out_fd, int in_fd, off_t *offset, size_t bytes) {
    REPEAT(ssize_t, SENDFILE, sendfile(out_fd, in_fd, offset, bytes));
}

ssize_t stel__sys_splice(int in_fd, off_t *in_offset, int out_fd, off_t *out_offset, size_t bytes, unsigned flags) {
    REPEAT(ssize_t, SPLICE, splice(in_fd, in_offset, out_fd, out_offset, bytes, flags));
}

/* ---- sockets ---- */

int stel__sys_socket(int domain, int type, int protocol) {
    ONCE(int, SOCKET, socket(domain, type, protocol));
}

int stel__sys_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    REPEAT(int, ACCEPT4, accept4(fd, address, length, flags));
}

int stel__sys_connect(int fd, const struct sockaddr *address, socklen_t length) {
    ONCE(int, CONNECT, connect(fd, address, length));
}

int stel__sys_bind(int fd, const struct sockaddr *address, socklen_t length) {
    ONCE(int, BIND, bind(fd, address, length));
}

int stel__sys_listen(int fd, int backlog) {
    ONCE(int, LISTEN, listen(fd, backlog));
}

int stel__sys_getsockname(int fd, struct sockaddr *address, socklen_t *length) {
    ONCE(int, GETSOCKNAME, getsockname(fd, address, length));
}

int stel__sys_getpeername(int fd, struct sockaddr *address, socklen_t *length) {
    ONCE(int, GETPEERNAME, getpeername(fd, address, length));
}

int stel__sys_getsockopt(int fd, int level, int option, void *value, socklen_t *length) {
    ONCE(int, GETSOCKOPT, getsockopt(fd, level, option, value, length));
}

int stel__sys_setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
    ONCE(int, SETSOCKOPT, setsockopt(fd, level, option, value, length));
}

int stel__sys_shutdown(int fd, int how) {
    ONCE(int, SHUTDOWN, shutdown(fd, how));
}

int stel__sys_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    int told = stel__fault_hit(STEL__FAULT_GETADDRINFO);
    return STEL__UNLIKELY(told) ? told : getaddrinfo(node, service, hints, out);
}

/* ---- descriptors and files ---- */

int stel__sys_close(int fd) {
    /* A close that is told to fail still closes, as the kernel's do. */
    int told = stel__fault_hit(STEL__FAULT_CLOSE), before = errno;
    /* A close under somebody's wait is what stel_close is for; ThreadSanitizer takes it for a race with the call that the
     * waiter may just be making. */
    stel__sanitize_ignore_begin();
    int result = close(fd);
    stel__sanitize_ignore_end();
    result = OR_CODE(result, before);
    if (STEL__UNLIKELY(told)) return -told;
    return result == -EINTR ? 0 : result;
}

int stel__sys_fcntl_getfl(int fd) {
    ONCE(int, FCNTL, fcntl(fd, F_GETFL));
}

int stel__sys_fstat(int fd, struct stat *out) {
    ONCE(int, FSTAT, fstat(fd, out));
}

off_t stel__sys_lseek(int fd, off_t offset, int whence) {
    ONCE(off_t, LSEEK, lseek(fd, offset, whence));
}

int stel__sys_open(const char *path, int flags, mode_t mode) {
    REPEAT(int, OPEN, open(path, flags, mode));
}

int stel__sys_unlink(const char *path) {
    ONCE(int, UNLINK, unlink(path));
}

int stel__sys_stat(const char *path, struct stat *out) {
    REPEAT(int, STAT, stat(path, out));
}

int stel__sys_statx(int directory_fd, const char *path, int flags, unsigned mask, struct statx *out) {
    REPEAT(int, STATX, statx(directory_fd, path, flags, mask, out));
}

int stel__sys_kind(int fd, mode_t *kind) {
    struct statx st;
    struct stat old;
    int rc = stel__sys_statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st);
    if (rc == 0) *kind = st.stx_mode & S_IFMT;
    if (rc != -ENOSYS && rc != -EPERM) return rc;
    rc = stel__sys_fstat(fd, &old); /* a container that has never heard of statx */
    if (rc == 0) *kind = old.st_mode & S_IFMT;
    return rc;
}

int stel__sys_mkdir(const char *path, mode_t mode) {
    ONCE(int, MKDIR, mkdir(path, mode));
}

int stel__sys_rmdir(const char *path) {
    ONCE(int, RMDIR, rmdir(path));
}

int stel__sys_rename(const char *path, const char *new_path) {
    ONCE(int, RENAME, rename(path, new_path));
}

int stel__sys_ftruncate(int fd, off_t bytes) {
    REPEAT(int, FTRUNCATE, ftruncate(fd, bytes));
}

int stel__sys_fallocate(int fd, int mode, off_t offset, off_t bytes) {
    REPEAT(int, FALLOCATE, fallocate(fd, mode, offset, bytes));
}

int stel__sys_scandir(const char *path, struct dirent ***list, int (*filter)(const struct dirent *),
                      int (*compare)(const struct dirent **, const struct dirent **)) {
    ONCE(int, SCANDIR, scandir(path, list, filter, compare));
}

int stel__sys_fsync(int fd) {
    REPEAT(int, FSYNC, fsync(fd));
}

int stel__sys_fdatasync(int fd) {
    REPEAT(int, FDATASYNC, fdatasync(fd));
}

/* ---- waiting ---- */

int stel__sys_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
    ONCE(int, PPOLL, ppoll(fds, count, timeout, mask));
}

int stel__sys_eventfd(unsigned initial, int flags) {
    ONCE(int, EVENTFD, eventfd(initial, flags));
}

int stel__sys_timerfd_create(int clock, int flags) {
    ONCE(int, TIMERFD_CREATE, timerfd_create(clock, flags));
}

int stel__sys_timerfd_settime(int fd, int flags, const struct itimerspec *value) {
    ONCE(int, TIMERFD_SETTIME, timerfd_settime(fd, flags, value, NULL));
}

int stel__sys_epoll_create1(int flags) {
    ONCE(int, EPOLL_CREATE1, epoll_create1(flags));
}

int stel__sys_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event) {
    ONCE(int, EPOLL_CTL, epoll_ctl(epoll_fd, operation, fd, event));
}

/* Milliseconds that are not less than the timeout, so that nobody wakes before the time has come. */
static int timeout_ms(const struct timespec *timeout) {
    if (!timeout) return -1;
    if (timeout->tv_sec >= INT_MAX / 1000) return INT_MAX;
    return (int)(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000);
}

static int epoll_pwait_ms(int epoll_fd, struct epoll_event *events, int count, const struct timespec *timeout,
                          const sigset_t *mask) {
    ONCE(int, EPOLL_PWAIT, epoll_pwait(epoll_fd, events, count, timeout_ms(timeout), mask));
}

static int epoll_pwait_ns(int epoll_fd, struct epoll_event *events, int count, const struct timespec *timeout,
                          const sigset_t *mask) {
    ONCE(int, EPOLL_PWAIT2, (int)syscall(NR_EPOLL_PWAIT2, epoll_fd, events, count, timeout, mask, (size_t)(_NSIG / 8)));
}

int stel__sys_epoll_pwait2(int epoll_fd, struct epoll_event *events, int count, const struct timespec *timeout,
                           const sigset_t *mask) {
    /* Only a hint that saves a call: any order will do. */
    static _Atomic bool missing;
    if (!stel__load_relaxed(&missing) && !stel__sanitize_valgrind()) { /* Valgrind does not know this call either */
        int rc = epoll_pwait_ns(epoll_fd, events, count, timeout, mask);
        /* Old sandboxes say EPERM to calls that they do not know; epoll_wait itself never does. */
        if (STEL__LIKELY(rc != -ENOSYS && rc != -EPERM)) return rc;
        stel__store_relaxed(&missing, true);
    }
    return epoll_pwait_ms(epoll_fd, events, count, timeout, mask);
}

#ifdef STEL__TSAN
/* TSan keeps signals for later unless the thread is in a call that it knows, and a futex is none: a thread that sleeps
 * there for ever would never run its handlers. So it wakes now and then, and makes a call that TSan knows. Not the
 * library's own threads, which let no signals in. */
static int futex_in_slices(uint32_t *word, int operation, uint32_t value) {
    static const struct timespec slice = { 0, 20000000 };
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    bool ours = sigismember(&blocked, SIGTERM) > 0 && sigismember(&blocked, SIGWINCH) > 0;
    int before = errno;
    int result = (int)syscall(SYS_futex, word, operation, value, ours ? NULL : &slice, NULL, 0);
    int code = OR_CODE(result, before);
    if (!ours) usleep(0);
    return code == -ETIMEDOUT ? -EINTR : code;
}
#endif

int stel__sys_futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout, uint32_t *other,
                    uint32_t value3) {
    /* Waits may fail, wakes never do: the kernel's do not either, and nobody could make up for a lost one. */
    if ((operation & FUTEX_CMD_MASK) != FUTEX_WAKE) FAIL_IF_TOLD(FUTEX);
#ifdef STEL__TSAN
    if ((operation & FUTEX_CMD_MASK) == FUTEX_WAIT && !timeout) return futex_in_slices(word, operation, value);
#endif
    int before = errno;
    int result = (int)syscall(SYS_futex, word, operation, value, timeout, other, value3);
    return OR_CODE(result, before);
}

int stel__sys_io_uring_setup(unsigned entries, void *parameters) {
    ONCE(int, IO_URING_SETUP, (int)syscall(NR_IO_URING_SETUP, entries, parameters));
}

int stel__sys_io_uring_enter(int fd, unsigned submit, unsigned complete_min, unsigned flags, const void *argument,
                             size_t bytes) {
    ONCE(int, IO_URING_ENTER, (int)syscall(NR_IO_URING_ENTER, fd, submit, complete_min, flags, argument, bytes));
}

int stel__sys_io_uring_register(int fd, unsigned operation, void *argument, unsigned count) {
    ONCE(int, IO_URING_REGISTER, (int)syscall(NR_IO_URING_REGISTER, fd, operation, argument, count));
}

/* ---- memory ---- */

int stel__sys_mmap(void **out, void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    FAIL_IF_TOLD(MMAP);
    int before = errno;
    void *p = mmap(address, bytes, protection, flags, fd, offset);
    if (p == MAP_FAILED) return take_errno(before);
    *out = p;
    return 0;
}

int stel__sys_munmap(void *address, size_t bytes) {
    ONCE(int, MUNMAP, munmap(address, bytes));
}

int stel__sys_mprotect(void *address, size_t bytes, int protection) {
    ONCE(int, MPROTECT, mprotect(address, bytes, protection));
}

int stel__sys_madvise(void *address, size_t bytes, int advice) {
    REPEAT(int, MADVISE, madvise(address, bytes, advice));
}

ssize_t stel__sys_process_madvise(int pidfd, const struct iovec *iov, size_t count, int advice, unsigned flags) {
    REPEAT(ssize_t, PROCESS_MADVISE, syscall(NR_PROCESS_MADVISE, pidfd, iov, count, advice, flags));
}

int stel__sys_membarrier(int command) {
    ONCE(int, MEMBARRIER, (int)syscall(SYS_membarrier, command, 0, 0));
}

/* ---- processes and threads ---- */

int stel__sys_sigmask(int how, const sigset_t *set, sigset_t *previous) {
    return -pthread_sigmask(how, set, previous);
}

int stel__sys_sigpending(sigset_t *set) {
    int before = errno;
    int result = sigpending(set);
    return OR_CODE(result, before);
}

int stel__sys_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout) {
    int before = errno;
    int result = sigtimedwait(set, info, timeout);
    return OR_CODE(result, before);
}

int stel__sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    ONCE(int, PRCTL, prctl(option, a, b, c, d));
}

int stel__sys_pidfd_open(pid_t pid, unsigned flags) {
    if (stel__sanitize_valgrind()) return -ENOSYS; /* it does not know this call, and says so at length */
    ONCE(int, PIDFD_OPEN, (int)syscall(NR_PIDFD_OPEN, pid, flags));
}

pid_t stel__sys_waitpid(pid_t pid, int *status, int options) {
    REPEAT(pid_t, WAITPID, waitpid(pid, status, options));
}

int stel__sys_waitid(idtype_t kind, id_t id, siginfo_t *info, int options) {
    REPEAT(int, WAITID, waitid(kind, id, info, options));
}

int stel__sys_sigaction(int signal, const struct sigaction *action, struct sigaction *previous) {
    ONCE(int, SIGACTION, sigaction(signal, action, previous));
}

int stel__sys_rt_tgsigqueueinfo(int thread_id, int signal, const siginfo_t *info) {
    FAIL_IF_TOLD(TGSIGQUEUEINFO);
    int before = errno;
    int result = (int)syscall(SYS_rt_tgsigqueueinfo, getpid(), thread_id, signal, info);
    return OR_CODE(result, before);
}

pid_t stel__sys_getpid(void) {
    return getpid();
}

pid_t stel__sys_getpgrp(void) {
    return getpgrp();
}

void stel__sys_sched_yield(void) {
    (void)sched_yield(); /* it cannot fail, and so leaves errno alone */
}

int stel__sys_sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t *mask) {
    ONCE(int, SCHED_GETAFFINITY, sched_getaffinity(pid, bytes, mask));
}

int stel__sys_sched_setaffinity(pid_t pid, size_t bytes, const cpu_set_t *mask) {
    ONCE(int, SCHED_SETAFFINITY, sched_setaffinity(pid, bytes, mask));
}

int stel__sys_pthread_create(pthread_t *out, const pthread_attr_t *attributes, void *(*fn)(void *), void *arg) {
    FAIL_IF_TOLD(PTHREAD_CREATE);
    return -pthread_create(out, attributes, fn, arg);
}
