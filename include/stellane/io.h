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
 * Regular files are read and written on the offload pool, and such a call is not cut short once it has begun. */
#ifndef STELLANE_IO_H
#define STELLANE_IO_H

#include <poll.h>
#include <stellane/base.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct addrinfo;

STEL_BEGIN_DECLS

STEL_API STEL_MUST_CHECK ssize_t stel_read(int fd, void *buffer, size_t bytes);
STEL_API STEL_MUST_CHECK ssize_t stel_write(int fd, const void *buffer, size_t bytes);
STEL_API STEL_MUST_CHECK ssize_t stel_readv(int fd, const struct iovec *iov, int count);
STEL_API STEL_MUST_CHECK ssize_t stel_writev(int fd, const struct iovec *iov, int count);
STEL_API STEL_MUST_CHECK ssize_t stel_pread(int fd, void *buffer, size_t bytes, off_t offset);
STEL_API STEL_MUST_CHECK ssize_t stel_pwrite(int fd, const void *buffer, size_t bytes, off_t offset);
STEL_API STEL_MUST_CHECK ssize_t stel_recv(int fd, void *buffer, size_t bytes, int flags);
STEL_API STEL_MUST_CHECK ssize_t stel_send(int fd, const void *buffer, size_t bytes, int flags);

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

/* open(2), on the offload pool; close-on-exec. mode counts only with O_CREAT. */
STEL_API STEL_MUST_CHECK int stel_open(const char *path, int flags, mode_t mode);
STEL_API STEL_MUST_CHECK int stel_fsync(int fd);
STEL_API STEL_MUST_CHECK int stel_fdatasync(int fd);

/* Close fd, always (even after cancellation), and wake whoever waits on it with -EBADF. 0 or the error of close(2), the
 * descriptor being gone in either case. Never waits. */
STEL_API int stel_close(int fd);

/* Wait until fd is ready for one of events (POLLIN, POLLOUT, POLLPRI); the events that hold, POLLERR and POLLHUP among
 * them. Errors: -EINVAL (no events), -EPERM (a descriptor that cannot be waited on, such as a regular file), -EBADF. */
STEL_API STEL_MUST_CHECK int stel_wait_fd(int fd, short events);

/* Everything or an error: 0 only when all n bytes were moved; *done (unless NULL) says how many were, whatever is
 * returned. End of file before that: -ENODATA. */
STEL_API STEL_MUST_CHECK int stel_write_all(int fd, const void *buffer, size_t bytes, size_t *done);
STEL_API STEL_MUST_CHECK int stel_read_full(int fd, void *buffer, size_t bytes, size_t *done);

/* A listening socket: "127.0.0.1:8080", "[::1]:80", ":0" (every address, a port of the kernel's choice), or
 * "unix:/run/x.sock". TCP sockets get SO_REUSEADDR. Returns the descriptor. Never waits: the host must be numeric.
 * Errors: -EINVAL (not an address), -ENAMETOOLONG, and those of socket, bind and listen. */
STEL_API STEL_MUST_CHECK int stel_listen(const char *address, int backlog);

/* A connected socket to "host:port" or "unix:path"; the host is resolved on the offload pool and every address tried in
 * turn. Returns the descriptor. Errors: -EINVAL, STEL_EAI(x), the last address's connect error. */
STEL_API STEL_MUST_CHECK int stel_dial(const char *address);

/* getaddrinfo(3) on the offload pool; free the result with freeaddrinfo(3). 0 or STEL_EAI(x). */
STEL_API STEL_MUST_CHECK int stel_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                                              struct addrinfo **result);

/* Run fn(arg) on a thread of the offload pool, for calls that really block, and wait until it has returned; *result
 * (unless NULL) is what it returned. Cut short only while it is queued; then fn was not and will not be run. fn may
 * call nothing that needs a fiber. Errors: -EINVAL (fn NULL), -EAGAIN (no thread could be made), -ENOMEM. */
STEL_API STEL_MUST_CHECK int stel_offload(int *result, int (*fn)(void *), void *arg);

STEL_END_DECLS
#endif
