/* The fault seam: make the n-th system call or allocation of a kind fail, once or from then on.
 *
 *     stel__fault_set(STEL__FAULT_MMAP, 3, ENOMEM, false);      the third from now, once
 *     STELLANE_FAULT=mmap:3:ENOMEM,read:1+:EIO ./program        the same from outside; "+": that one and all later ones
 *
 * It is compiled in always: each wrapper of sys.c pays one relaxed load of a hidden flag and a branch that is never
 * taken. The environment is read at the first call (not in a program with raised privileges). */
#ifndef STEL_HOST_FAULT_H
#define STEL_HOST_FAULT_H

#include "base/base.h"

/* X(NAME, words in STELLANE_FAULT) */
#define STEL__FAULT_KINDS(X)                                                                                           \
    X(ALLOC, "alloc")                                                                                                  \
    X(READ, "read")                                                                                                    \
    X(WRITE, "write")                                                                                                  \
    X(READV, "readv")                                                                                                  \
    X(WRITEV, "writev")                                                                                                \
    X(PREAD, "pread")                                                                                                  \
    X(PWRITE, "pwrite")                                                                                                \
    X(PREADV2, "preadv2")                                                                                              \
    X(PWRITEV2, "pwritev2")                                                                                            \
    X(RECV, "recv")                                                                                                    \
    X(SEND, "send")                                                                                                    \
    X(RECVFROM, "recvfrom")                                                                                            \
    X(SENDTO, "sendto")                                                                                                \
    X(RECVMSG, "recvmsg")                                                                                              \
    X(SENDMSG, "sendmsg")                                                                                              \
    X(SENDFILE, "sendfile")                                                                                            \
    X(SPLICE, "splice")                                                                                                \
    X(ACCEPT4, "accept4")                                                                                              \
    X(CONNECT, "connect")                                                                                              \
    X(SOCKET, "socket")                                                                                                \
    X(BIND, "bind")                                                                                                    \
    X(LISTEN, "listen")                                                                                                \
    X(GETSOCKNAME, "getsockname")                                                                                      \
    X(GETPEERNAME, "getpeername")                                                                                      \
    X(GETSOCKOPT, "getsockopt")                                                                                        \
    X(SETSOCKOPT, "setsockopt")                                                                                        \
    X(SHUTDOWN, "shutdown")                                                                                            \
    X(CLOSE, "close")                                                                                                  \
    X(FCNTL, "fcntl")                                                                                                  \
    X(FSTAT, "fstat")                                                                                                  \
    X(LSEEK, "lseek")                                                                                                  \
    X(PPOLL, "ppoll")                                                                                                  \
    X(EVENTFD, "eventfd")                                                                                              \
    X(TIMERFD_CREATE, "timerfd_create")                                                                                \
    X(TIMERFD_SETTIME, "timerfd_settime")                                                                              \
    X(EPOLL_CREATE1, "epoll_create1")                                                                                  \
    X(EPOLL_CTL, "epoll_ctl")                                                                                          \
    X(EPOLL_PWAIT2, "epoll_pwait2")                                                                                    \
    X(EPOLL_PWAIT, "epoll_pwait")                                                                                      \
    X(OPEN, "open")                                                                                                    \
    X(FSYNC, "fsync")                                                                                                  \
    X(FDATASYNC, "fdatasync")                                                                                          \
    X(MMAP, "mmap")                                                                                                    \
    X(MUNMAP, "munmap")                                                                                                \
    X(MPROTECT, "mprotect")                                                                                            \
    X(MADVISE, "madvise")                                                                                              \
    X(PROCESS_MADVISE, "process_madvise")                                                                              \
    X(MEMBARRIER, "membarrier")                                                                                        \
    X(PRCTL, "prctl")                                                                                                  \
    X(PIDFD_OPEN, "pidfd_open")                                                                                        \
    X(WAITPID, "waitpid")                                                                                              \
    X(WAITID, "waitid")                                                                                                \
    X(SIGACTION, "sigaction")                                                                                          \
    X(TGSIGQUEUEINFO, "rt_tgsigqueueinfo")                                                                             \
    X(FUTEX, "futex")                                                                                                  \
    X(IO_URING_SETUP, "io_uring_setup")                                                                                \
    X(IO_URING_ENTER, "io_uring_enter")                                                                                \
    X(IO_URING_REGISTER, "io_uring_register")                                                                          \
    X(GETADDRINFO, "getaddrinfo")                                                                                      \
    X(SCHED_GETAFFINITY, "sched_getaffinity")                                                                          \
    X(SCHED_SETAFFINITY, "sched_setaffinity")                                                                          \
    X(PTHREAD_CREATE, "pthread_create")                                                                                \
    X(UNLINK, "unlink")                                                                                                \
    X(STATX, "statx")                                                                                                  \
    X(STAT, "stat")                                                                                                    \
    X(MKDIR, "mkdir")                                                                                                  \
    X(RMDIR, "rmdir")                                                                                                  \
    X(RENAME, "rename")                                                                                                \
    X(FTRUNCATE, "ftruncate")                                                                                          \
    X(FALLOCATE, "fallocate")                                                                                          \
    X(SCANDIR, "scandir")

#define STEL__FAULT_ENUM(name, words) STEL__FAULT_##name,
enum stel__fault_kind { STEL__FAULT_KINDS(STEL__FAULT_ENUM) STEL__FAULT_COUNT };
#undef STEL__FAULT_ENUM

/* 0: nothing is to fail. 1: ask. It starts as 1, for the environment has to be read. */
extern _Atomic unsigned stel__fault_on __attribute__((visibility("hidden")));
int stel__fault_ask(enum stel__fault_kind kind);

/* 0, or the errno value (for getaddrinfo: the EAI code) that this call is to fail with. */
static inline int stel__fault_hit(enum stel__fault_kind kind) {
    return STEL__LIKELY(!stel__load_relaxed(&stel__fault_on)) ? 0 : stel__fault_ask(kind);
}

/* For tests. The nth (1: the next) call of this kind fails with error; for_good: and every later one. */
void stel__fault_set(enum stel__fault_kind kind, uint64_t nth, int error, bool for_good);
void stel__fault_clear(void);                           /* nothing fails any more, counts are zero */
uint64_t stel__fault_calls(enum stel__fault_kind kind); /* calls since the last clear, while anything was set */
int stel__fault_parse(const char *rules);               /* as in STELLANE_FAULT: 0 or -EINVAL */

#endif
