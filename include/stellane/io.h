/* stellane/io.h: blocking-style I/O on any descriptor: sockets, pipes, eventfds, timerfds, ttys, regular files.
 *
 * POSIX arguments and meanings; what waits is the caller, not its thread, and what POSIX leaves in errno is returned
 * negated. Every call here may wait, obeys deadline and cancellation (-ETIMEDOUT, -ECANCELED), and may return what the
 * system call of its name returns, unless its text says otherwise. A descriptor that is closed under a wait: -EBADF.
 *
 * As on blocking descriptors, write and send return when everything is written; less only when they were cut short or
 * failed after a part (the count of that part is returned; the next call tells the error). No call raises SIGPIPE.
 * O_NONBLOCK is never set on descriptors that the library did not create. What it creates is close-on-exec.
 *
 * One fiber may read and another write the same descriptor; several may read it, each byte going to one of them.
 * Regular files never hold a worker: what is in memory is copied at once, for the rest the kernel's io_uring does the work
 * where it may be used, else a thread of the offload pool. Such a call is not cut short once it has begun; a read is
 * short only at the end of the file, or before an error, which the next one tells. docs/files.md is the guide. */
#ifndef STELLANE_IO_H
#define STELLANE_IO_H

#include <poll.h>
#include <signal.h>
#include <stellane/base.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* In strict ISO C mode <signal.h> leaves out the types that are named below; the C library has them apart. */
#if defined __has_include
#if __has_include(<bits/types/siginfo_t.h>)
#include <bits/types/siginfo_t.h>
#include <bits/types/sigset_t.h>
#endif
#endif

struct addrinfo;
struct dirent;
struct stat;

STEL_BEGIN_DECLS

STEL_API STEL_MUST_CHECK ssize_t stel_read(int fd, void *buffer, size_t bytes);
STEL_API STEL_MUST_CHECK ssize_t stel_write(int fd, const void *buffer, size_t bytes);
STEL_API STEL_MUST_CHECK ssize_t stel_readv(int fd, const struct iovec *iov, int count);
STEL_API STEL_MUST_CHECK ssize_t stel_writev(int fd, const struct iovec *iov, int count);
STEL_API STEL_MUST_CHECK ssize_t stel_pread(int fd, void *buffer, size_t bytes, off_t offset);
STEL_API STEL_MUST_CHECK ssize_t stel_pwrite(int fd, const void *buffer, size_t bytes, off_t offset);
STEL_API STEL_MUST_CHECK ssize_t stel_recv(int fd, void *buffer, size_t bytes, int flags);
STEL_API STEL_MUST_CHECK ssize_t stel_send(int fd, const void *buffer, size_t bytes, int flags);

/* Datagrams, addresses, ancillary data (descriptor passing: received descriptors are close-on-exec). A datagram goes or
 * comes as a whole; MSG_TRUNC is told as by the system call. On stream sockets sendto and sendmsg write everything, as
 * send does; ancillary data goes with the first part. MSG_DONTWAIT: -EAGAIN instead of waiting. */
STEL_API STEL_MUST_CHECK ssize_t stel_recvfrom(int fd, void *buffer, size_t bytes, int flags, struct sockaddr *from,
                                               socklen_t *length);
STEL_API STEL_MUST_CHECK ssize_t stel_sendto(int fd, const void *buffer, size_t bytes, int flags,
                                             const struct sockaddr *to, socklen_t length);
STEL_API STEL_MUST_CHECK ssize_t stel_recvmsg(int fd, struct msghdr *message, int flags);
STEL_API STEL_MUST_CHECK ssize_t stel_sendmsg(int fd, const struct msghdr *message, int flags);

/* From a file to a descriptor, and from or to a pipe, without copying through the caller. They move all `bytes`, less
 * only at the end of the input or when cut short; splice returns as soon as it has moved something, as splice(2) does.
 * offset NULL: the file's own position, which moves. */
STEL_API STEL_MUST_CHECK ssize_t stel_sendfile(int out_fd, int in_fd, off_t *offset, size_t bytes);
STEL_API STEL_MUST_CHECK ssize_t stel_splice(int in_fd, off_t *in_offset, int out_fd, off_t *out_offset, size_t bytes,
                                             unsigned flags);

/* accept waits for a connection and returns its descriptor, close-on-exec. When the process or the system is out of
 * descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM) it says so once on stderr, backs off and tries again, until
 * the caller is cut short; connections that failed before they were taken are passed over. -ESHUTDOWN once the
 * caller's runtime stops. accept4's flags: SOCK_NONBLOCK, SOCK_CLOEXEC. */
STEL_API STEL_MUST_CHECK int stel_accept(int fd, struct sockaddr *address, socklen_t *bytes);
STEL_API STEL_MUST_CHECK int stel_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags);

/* connect waits for the outcome; one that was cut short leaves a descriptor that is good only for closing. */
STEL_API STEL_MUST_CHECK int stel_connect(int fd, const struct sockaddr *address, socklen_t bytes);

/* socket(2), non-blocking and close-on-exec. Never waits. */
STEL_API STEL_MUST_CHECK int stel_socket(int domain, int type, int protocol);

/* open(2), close-on-exec. mode counts only with O_CREAT and O_TMPFILE. */
STEL_API STEL_MUST_CHECK int stel_open(const char *path, int flags, mode_t mode);
STEL_API STEL_MUST_CHECK int stel_fsync(int fd);
STEL_API STEL_MUST_CHECK int stel_fdatasync(int fd);

/* stat(2), fstat(2), mkdir(2), rmdir(2), unlink(2), rename(2), ftruncate(2) and fallocate(2), without holding a worker while
 * a disk or a network file system takes its time. Errors: -EINVAL (NULL), -ETIMEDOUT and -ECANCELED (nothing was done), and
 * the system call's. */
STEL_API STEL_MUST_CHECK int stel_stat(const char *path, struct stat *out);
STEL_API STEL_MUST_CHECK int stel_fstat(int fd, struct stat *out);
STEL_API STEL_MUST_CHECK int stel_mkdir(const char *path, mode_t mode);
STEL_API STEL_MUST_CHECK int stel_rmdir(const char *path);
STEL_API STEL_MUST_CHECK int stel_unlink(const char *path);
STEL_API STEL_MUST_CHECK int stel_rename(const char *path, const char *new_path);
STEL_API STEL_MUST_CHECK int stel_ftruncate(int fd, off_t bytes);
STEL_API STEL_MUST_CHECK int stel_fallocate(int fd, int mode, off_t offset, off_t bytes);

/* scandir(3): how many entries of the directory are in *list, which is allocated, as each entry is, with malloc(3).
 * filter (NULL: all) and compare (NULL: unsorted; alphasort(3)) run on a thread of the offload pool, and may call nothing
 * that needs a fiber. Errors: -EINVAL (path or list NULL), -ENOENT, -ENOTDIR, -ENOMEM, -ETIMEDOUT, -ECANCELED. */
STEL_API STEL_MUST_CHECK int stel_scandir(const char *path, struct dirent ***list, int (*filter)(const struct dirent *),
                                          int (*compare)(const struct dirent **, const struct dirent **));

/* Close fd, always (even after cancellation), and wake whoever waits on it with -EBADF. 0 or the error of close(2), the
 * descriptor being gone in either case. Never waits. */
STEL_API int stel_close(int fd);

/* Wait until fd is ready for one of events (POLLIN, POLLOUT, POLLPRI); the events that hold, POLLERR and POLLHUP among
 * them. Errors: -EINVAL (no events), -EPERM (a descriptor that cannot be waited on, such as a regular file), -EBADF. */
STEL_API STEL_MUST_CHECK int stel_wait_fd(int fd, short events);

/* poll(2): wait until one of the descriptors is ready, timeout_ms has passed (0 is returned) or the caller is cut short;
 * timeout_ms < 0: no limit of its own, 0: only look. How many have events in revents. Descriptors below 0 are passed
 * over; those that cannot be waited on are always ready. */
STEL_API STEL_MUST_CHECK int stel_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

/* The library forgets what it knows of fd, which stays open: whoever waits on it looks again. To be called before a
 * descriptor that was used here is closed or replaced by somebody else (a library, dup2, fclose); without it that is
 * noticed too, but later. Errors: -EBADF (fd < 0). Never waits. */
STEL_API int stel_fd_release(int fd);

/* Everything or an error: 0 only when all n bytes were moved; *done (unless NULL) says how many were, whatever is
 * returned. End of file before that: -ENODATA. */
STEL_API STEL_MUST_CHECK int stel_write_all(int fd, const void *buffer, size_t bytes, size_t *done);
STEL_API STEL_MUST_CHECK int stel_read_full(int fd, void *buffer, size_t bytes, size_t *done);

/* A listening socket: "127.0.0.1:8080", "[::1]:80", ":0" (every address, a port of the kernel's choice), or
 * "unix:/run/x.sock". TCP sockets get SO_REUSEADDR. Returns the descriptor. Never waits: the host must be numeric.
 * Errors: -EINVAL (not an address), -ENAMETOOLONG, and those of socket, bind and listen. */
STEL_API STEL_MUST_CHECK int stel_listen(const char *address, int backlog);

/* A connected socket to "host:port" or "unix:path"; the host is resolved on the offload pool and every address tried in
 * turn. Returns the descriptor. Errors: -EINVAL (not an address), -ENAMETOOLONG, STEL_EAI(x), the last
 * address's connect error. */
STEL_API STEL_MUST_CHECK int stel_dial(const char *address);

/* A socket's own address, and that of its peer, as text that stel_listen and stel_dial take: "127.0.0.1:7000",
 * "[::1]:80", "unix:/run/x.sock" ("unix:" for a socket without a name, "unix:@name" for an abstract one). The port that
 * the kernel chose for ":0" is learnt so. STEL_ADDRESS_BYTES always suffice. Never wait.
 * Errors: -EINVAL (text NULL), -ENOSPC (it does not fit), -EBADF, -ENOTSOCK, -ENOTCONN (no peer), -EAFNOSUPPORT (another
 * family), -ENOBUFS. */
enum { STEL_ADDRESS_BYTES = 128 };
STEL_API STEL_MUST_CHECK int stel_local_address(int fd, char *text, size_t bytes);
STEL_API STEL_MUST_CHECK int stel_peer_address(int fd, char *text, size_t bytes);

/* getaddrinfo(3) on the offload pool; free the result with freeaddrinfo(3). Errors: STEL_EAI(x),
 * -EINVAL (result NULL), -ETIMEDOUT, -ECANCELED. */
STEL_API STEL_MUST_CHECK int stel_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                                              struct addrinfo **result);

/* waitpid(2): the pid of the child whose state changed, or 0 with WNOHANG. A wait that was cut short has taken nothing.
 * Errors: -ECHILD, -EINVAL, -ESRCH (pid is INT_MIN), -ETIMEDOUT, -ECANCELED, -EAGAIN and -ENOMEM (nothing to wait with).
 */
STEL_API STEL_MUST_CHECK pid_t stel_waitpid(pid_t pid, int *status, int options);

/* Signals for the whole process. From sigcatch on, those in set are kept for stel_sigwaitinfo, whatever the masks of
 * threads say, and no longer do what they did; they are kept from the first arrival, with what their senders said.
 * Standard signals do not add up while one is pending; real-time signals queue, in order where every thread blocks them.
 * (One that was sent to a single thread which blocks it waits there, out of reach.) Errors: -EINVAL (set NULL or empty; a
 * signal that cannot be caught, or one that the process raises itself: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS,
 * SIGABRT), -EAGAIN and -ENOMEM (no thread), -EPERM (after fork). Never waits. */
STEL_API STEL_MUST_CHECK int stel_sigcatch(const sigset_t *set);

/* Wait for one of set (each caught before: else -EINVAL); its number, and in *info (unless NULL) what came with it. Each
 * arrival goes to one waiter; the lowest number first. */
STEL_API STEL_MUST_CHECK int stel_sigwaitinfo(const sigset_t *set, siginfo_t *info);

/* Run fn(arg) on a thread of the offload pool, for calls that really block, and wait until it has returned; *result
 * (unless NULL) is what it returned. Cut short only while it is queued; then fn was not and will not be run. fn may
 * call nothing that needs a fiber. Errors: -EINVAL (fn NULL), -EAGAIN (no thread could be made), -ENOMEM. */
STEL_API STEL_MUST_CHECK int stel_offload(int *result, int (*fn)(void *), void *arg);

STEL_END_DECLS
#endif
