/* The seam: one function for each system call that the library makes. Arguments as in POSIX or the manual page; the
 * result is 0 or a count, or a negative errno value, and errno itself is read in there and nowhere else. They are out
 * of line on purpose: a caller that may move to another thread must not have the address of errno in a register. Each
 * can be made to fail by tests: see fault.h.
 *
 * EINTR: calls on data and files are repeated, as nobody could do anything else. It is returned by connect (which goes
 * on by itself: wait for POLLOUT), by ppoll, epoll_pwait2, io_uring_enter and futex (whoever waits looks again), and never
 * by close (on Linux the number is free by then). */
#ifndef STEL_HOST_SYS_H
#define STEL_HOST_SYS_H

#include <dirent.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

/* ---- data ---- */
ssize_t stel__sys_read(int fd, void *buf, size_t bytes);
ssize_t stel__sys_write(int fd, const void *buf, size_t bytes);
ssize_t stel__sys_readv(int fd, const struct iovec *iov, int count);
ssize_t stel__sys_writev(int fd, const struct iovec *iov, int count);
ssize_t stel__sys_pread(int fd, void *buf, size_t bytes, off_t offset);
ssize_t stel__sys_pwrite(int fd, const void *buf, size_t bytes, off_t offset);
ssize_t stel__sys_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t stel__sys_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t stel__sys_recv(int fd, void *buf, size_t bytes, int flags);
ssize_t stel__sys_send(int fd, const void *buf, size_t bytes, int flags);
ssize_t stel__sys_recvfrom(int fd, void *buf, size_t bytes, int flags, struct sockaddr *from, socklen_t *length);
ssize_t stel__sys_sendto(int fd, const void *buf, size_t bytes, int flags, const struct sockaddr *to, socklen_t length);
ssize_t stel__sys_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t stel__sys_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t stel__sys_sendfile(int out_fd, int in_fd, off_t *offset, size_t bytes);
ssize_t stel__sys_splice(int in_fd, off_t *in_offset, int out_fd, off_t *out_offset, size_t bytes, unsigned flags);

/* ---- sockets ---- */
int stel__sys_socket(int domain, int type, int protocol);
int stel__sys_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int stel__sys_connect(int fd, const struct sockaddr *address, socklen_t length);
int stel__sys_bind(int fd, const struct sockaddr *address, socklen_t length);
int stel__sys_listen(int fd, int backlog);
int stel__sys_getsockname(int fd, struct sockaddr *address, socklen_t *length);
int stel__sys_getpeername(int fd, struct sockaddr *address, socklen_t *length);
int stel__sys_getsockopt(int fd, int level, int option, void *value, socklen_t *length);
int stel__sys_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
int stel__sys_shutdown(int fd, int how);
/* The result is getaddrinfo's own: 0 or EAI_x. */
int stel__sys_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out);

/* ---- descriptors and files ---- */
int stel__sys_close(int fd);
int stel__sys_fcntl_getfl(int fd); /* the flags */
int stel__sys_fstat(int fd, struct stat *out);
off_t stel__sys_lseek(int fd, off_t offset, int whence);
int stel__sys_open(const char *path, int flags, mode_t mode);
int stel__sys_unlink(const char *path);
int stel__sys_stat(const char *path, struct stat *out);
int stel__sys_statx(int directory_fd, const char *path, int flags, unsigned mask, struct statx *out);
/* st_mode's kind of file, without a word to any server: fstat waits where a network file system has to ask. */
int stel__sys_kind(int fd, mode_t *kind);
int stel__sys_mkdir(const char *path, mode_t mode);
int stel__sys_rmdir(const char *path);
int stel__sys_rename(const char *path, const char *new_path);
int stel__sys_ftruncate(int fd, off_t bytes);
int stel__sys_fallocate(int fd, int mode, off_t offset, off_t bytes);
/* scandir(3): how many there are; the list is malloc's. */
int stel__sys_scandir(const char *path, struct dirent ***list, int (*filter)(const struct dirent *),
                      int (*compare)(const struct dirent **, const struct dirent **));
int stel__sys_fsync(int fd);
int stel__sys_fdatasync(int fd);

/* ---- waiting ---- */
int stel__sys_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask);
int stel__sys_eventfd(unsigned initial, int flags);
int stel__sys_timerfd_create(int clock, int flags);
int stel__sys_timerfd_settime(int fd, int flags, const struct itimerspec *value);
int stel__sys_epoll_create1(int flags);
int stel__sys_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
/* Nanoseconds where the kernel has epoll_pwait2 (5.11), else milliseconds, rounded up. timeout NULL: no limit. */
int stel__sys_epoll_pwait2(int epoll_fd, struct epoll_event *events, int count, const struct timespec *timeout,
                           const sigset_t *mask);
int stel__sys_futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout, uint32_t *other,
                    uint32_t value3);
/* The three calls of io_uring: src/poller/ring.c. parameters: struct io_uring_params. enter waits as epoll_pwait2 does. */
int stel__sys_io_uring_setup(unsigned entries, void *parameters);
int stel__sys_io_uring_enter(int fd, unsigned submit, unsigned complete_min, unsigned flags, const void *argument,
                             size_t bytes);
int stel__sys_io_uring_register(int fd, unsigned operation, void *argument, unsigned count);

/* ---- memory ---- */
int stel__sys_mmap(void **out, void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
int stel__sys_munmap(void *address, size_t bytes);
int stel__sys_mprotect(void *address, size_t bytes, int protection);
int stel__sys_madvise(void *address, size_t bytes, int advice);
ssize_t stel__sys_process_madvise(int pidfd, const struct iovec *iov, size_t count, int advice, unsigned flags);
enum { STEL__MEMBARRIER_NOW = 1 << 3, STEL__MEMBARRIER_REGISTER = 1 << 4 }; /* the kernel's PRIVATE_EXPEDITED */
int stel__sys_membarrier(int command);

/* ---- processes and threads ---- */
/* These three act on the calling thread and are not made to fail. */
int stel__sys_sigmask(int how, const sigset_t *set, sigset_t *previous);
int stel__sys_sigpending(sigset_t *set);
int stel__sys_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout);
int stel__sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int stel__sys_pidfd_open(pid_t pid, unsigned flags);
pid_t stel__sys_waitpid(pid_t pid, int *status, int options);
int stel__sys_waitid(idtype_t kind, id_t id, siginfo_t *info, int options);
int stel__sys_sigaction(int signal, const struct sigaction *action, struct sigaction *previous);
/* A signal with all that came with it, for one thread of this process. Async-signal-safe; errno stays what it was. */
int stel__sys_rt_tgsigqueueinfo(int thread_id, int signal, const siginfo_t *info);
pid_t stel__sys_getpid(void); /* these three are not made to fail, and are async-signal-safe too */
pid_t stel__sys_getpgrp(void);
void stel__sys_sched_yield(void);
int stel__sys_sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t *mask);
int stel__sys_sched_setaffinity(pid_t pid, size_t bytes, const cpu_set_t *mask);
int stel__sys_pthread_create(pthread_t *out, const pthread_attr_t *attributes, void *(*fn)(void *), void *arg);

#endif
