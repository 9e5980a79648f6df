/* Descriptors for the tests of the contract's I/O: two ends of something, blocking and not made by the library unless
 * said otherwise, and what every call on them obeys. */
#ifndef ENDS_H
#define ENDS_H

#include "contract.h"
#include "io_sides.h"
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

/* What is written to [1] is read from [0]. */
typedef struct ends {
    int fd[2];
} ends;

static UNUSED ends of_pipe(void) {
    ends e;
    EQ(pipe(e.fd), 0);
    return e;
}
static UNUSED ends of_stream(void) {
    ends e;
    EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, e.fd), 0);
    return e;
}
static UNUSED ends of_datagrams(void) {
    ends e;
    EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, e.fd), 0);
    return e;
}
static UNUSED void close_ends(ends e) {
    for (int i = 0; i < 2; i++)
        OK(stel_close(e.fd[i]));
}

/* A regular file with these bytes. */
static UNUSED int file_with(const char *text) {
    int fd = memfd_create("contract", MFD_CLOEXEC);
    IS(fd >= 0);
    EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    EQ(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* Until no byte fits into a socket any more. */
static UNUSED void fill(int fd) {
    static char many[4096];
    for (size_t n = sizeof many; n > 0; n = n > 1 ? 1 : 0)
        while (send(fd, many, n, MSG_DONTWAIT) > 0)
            continue;
}

static UNUSED struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}
static UNUSED int port_of(int fd) {
    struct sockaddr_in at;
    socklen_t bytes = sizeof at;
    EQ(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    return ntohs(at.sin_port);
}

/* Does it have these flags? close-on-exec: F_GETFD, FD_CLOEXEC; non-blocking: F_GETFL, O_NONBLOCK. */
static UNUSED bool has_flag(int fd, int command, int flag) {
    int flags = fcntl(fd, command);
    IS(flags >= 0);
    return flags & flag;
}

/* Behind the library's back, and past libc, so that ThreadSanitizer does not see what it would rightly call a race. */
static UNUSED int close_unseen(int fd) {
    return (int)syscall(SYS_close, fd);
}
static UNUSED int dup2_unseen(int from, int to) {
    return (int)syscall(SYS_dup3, from, to, 0);
}

/* A read of the end [0] of `e`, and so on: calls that would wait, for obeys_limits and close_wakes. */
typedef struct io_call {
    ends e;
    char buffer[16];
} io_call;

/* call(arg) waits on fd; it is closed: -EBADF. */
static UNUSED void close_wakes(stel_fn *call, void *arg, int fd) {
    stel_fiber f = spawn(call, arg);
    AWAIT_PARKED(fd, 1);
    EQ(stel_try_join(f, NULL), -EAGAIN);
    OK(stel_close(fd));
    EQ(join(f), -EBADF);
}

#endif
