/* The contract of stellane/io.h, first part: reading and writing, sockets, files. The second is test_io_more.c. */
#include "ends.h"

enum { MUCH = 1 << 20 }; /* more than fits into a socket or a pipe */

/* Reads until the end; how much. */
static int drains(void *arg) {
    static char sink[1 << 16];
    int total = 0;
    ssize_t n;
    while ((n = stel_read(*(int *)arg, sink, sizeof sink)) > 0)
        total += (int)n;
    return n < 0 ? (int)n : total;
}
static char much[MUCH];

/* ---- bytes ---- */

static int reads(void *arg) {
    io_call *c = arg;
    return (int)stel_read(c->e.fd[0], c->buffer, sizeof c->buffer);
}

/* stel_read: what there is, waits while there is nothing, 0 at the end; read(2)'s errors, -ETIMEDOUT -ECANCELED, -EBADF
 * when it is closed under the wait. */
ON_BOTH(contract_stel_read) {
    io_call c = { .e = of_pipe() };
    obeys_limits(reads, &c);
    EQ(write(c.e.fd[1], "abc", 3), 3);
    EQ(reads(&c), 3);
    EQ(memcmp(c.buffer, "abc", 3), 0);
    EQ(stel_read(c.e.fd[1], c.buffer, 1), -EBADF); /* not open for that */
    EQ(stel_read(-1, c.buffer, 1), -EBADF);
    close_wakes(reads, &c, c.e.fd[0]);
    OK(stel_close(c.e.fd[1]));
    c.e = of_stream();
    OK(stel_close(c.e.fd[1]));
    EQ(reads(&c), 0);
    OK(stel_close(c.e.fd[0]));
}

static int writes(void *arg) {
    return (int)stel_write(((io_call *)arg)->e.fd[1], "x", 1);
}
static ssize_t writes_much(int fd) {
    STEL_TIMEOUT(STEL_MS(3));
    ssize_t n = stel_write(fd, much, sizeof much);
    if (n > 0) EQ(stel_write(fd, much, sizeof much), -ETIMEDOUT); /* the next call tells the error */
    return n;
}

/* stel_write: returns when everything is written, less only when cut short after a part, and the next call says why;
 * -EPIPE without a signal; write(2)'s errors, -ETIMEDOUT -ECANCELED -EBADF. */
ON_BOTH(contract_stel_write) {
    io_call c = { .e = of_stream() };
    stel_fiber reader = spawn(drains, &c.e.fd[0]);
    EQ(stel_write(c.e.fd[1], much, sizeof much), MUCH);
    EQ(shutdown(c.e.fd[1], SHUT_WR), 0);
    EQ(join(reader), MUCH);
    EQ(writes(&c), -EPIPE);
    close_ends(c.e);
    c.e = of_stream();
    ssize_t part = writes_much(c.e.fd[1]);
    IS(part > 0 && part < MUCH);
    obeys_limits(writes, &c);
    close_wakes(writes, &c, c.e.fd[1]);
    OK(stel_close(c.e.fd[0]));
    EQ(stel_write(-1, "x", 1), -EBADF);
}

static int readvs(void *arg) {
    io_call *c = arg;
    struct iovec iov[] = { { c->buffer, 2 }, { NULL, 0 }, { c->buffer + 2, 3 } };
    return (int)stel_readv(c->e.fd[0], iov, 3);
}

/* stel_readv: as stel_read, into several pieces; -EINVAL. */
ON_BOTH(contract_stel_readv) {
    io_call c = { .e = of_pipe() };
    struct iovec iov = { c.buffer, 1 };
    obeys_limits(readvs, &c);
    EQ(write(c.e.fd[1], "abcdefg", 7), 7);
    EQ(readvs(&c), 5);
    EQ(memcmp(c.buffer, "abcde", 5), 0);
    EQ(readvs(&c), 2);
    EQ(stel_readv(c.e.fd[0], &iov, -1), -EINVAL);
    EQ(stel_readv(-1, &iov, 1), -EBADF);
    close_wakes(readvs, &c, c.e.fd[0]);
    OK(stel_close(c.e.fd[1]));
}

static int writevs(void *arg) {
    struct iovec iov[] = { { much, MUCH / 2 }, { NULL, 0 }, { much, MUCH / 2 } };
    return (int)stel_writev(((io_call *)arg)->e.fd[1], iov, 3);
}

/* stel_writev: as stel_write, from several pieces, all of them; -EINVAL. */
ON_BOTH(contract_stel_writev) {
    io_call c = { .e = of_pipe() };
    struct iovec iov = { much, 1 };
    stel_fiber reader = spawn(drains, &c.e.fd[0]);
    EQ(writevs(&c), MUCH);
    OK(stel_close(c.e.fd[1]));
    EQ(join(reader), MUCH);
    OK(stel_close(c.e.fd[0]));
    c.e = of_stream();
    EQ(stel_writev(c.e.fd[1], &iov, -1), -EINVAL);
    EQ(stel_writev(-1, &iov, 1), -EBADF);
    fill(c.e.fd[1]);
    obeys_limits(writevs, &c);
    close_wakes(writevs, &c, c.e.fd[1]);
    OK(stel_close(c.e.fd[0]));
}

/* stel_pread: from a place in a file, whose position stays; pread(2)'s errors: -ESPIPE -EINVAL -EBADF. */
ON_BOTH(contract_stel_pread) {
    char buffer[8];
    int fd = file_with("0123456789");
    ends e = of_pipe();
    EQ(stel_pread(fd, buffer, 4, 3), 4);
    EQ(memcmp(buffer, "3456", 4), 0);
    EQ(stel_pread(fd, buffer, 8, 8), 2);
    EQ(stel_pread(fd, buffer, 8, 10), 0);
    EQ(lseek(fd, 0, SEEK_CUR), 0);
    EQ(stel_pread(e.fd[0], buffer, 1, 0), -ESPIPE);
    EQ(stel_pread(fd, buffer, 1, -1), -EINVAL);
    EQ(stel_pread(-1, buffer, 1, 0), -EBADF);
    STEL_TIMEOUT(LONG_PAST);
    EQ(stel_pread(fd, buffer, 1, 0), -ETIMEDOUT);
    close_ends(e);
    OK(stel_close(fd));
}

/* stel_pwrite: to a place in a file, whose position stays; pwrite(2)'s errors: -ESPIPE -EINVAL -EBADF. */
ON_BOTH(contract_stel_pwrite) {
    char buffer[8];
    int fd = file_with("0123456789");
    ends e = of_pipe();
    EQ(stel_pwrite(fd, "ab", 2, 4), 2);
    EQ(lseek(fd, 0, SEEK_CUR), 0);
    EQ(pread(fd, buffer, 4, 3), 4);
    EQ(memcmp(buffer, "3ab6", 4), 0);
    EQ(stel_pwrite(e.fd[1], "x", 1, 0), -ESPIPE);
    EQ(stel_pwrite(fd, "x", 1, -1), -EINVAL);
    EQ(stel_pwrite(-1, "x", 1, 0), -EBADF);
    STEL_TIMEOUT(LONG_PAST);
    EQ(stel_pwrite(fd, "x", 1, 0), -ETIMEDOUT);
    close_ends(e);
    OK(stel_close(fd));
}

static int recvs(void *arg) {
    io_call *c = arg;
    return (int)stel_recv(c->e.fd[0], c->buffer, sizeof c->buffer, 0);
}

/* stel_recv: recv(2) with its flags; MSG_DONTWAIT: -EAGAIN; 0 at the end; -ENOTSOCK -EBADF -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_recv) {
    io_call c = { .e = of_stream() };
    int fd = file_with("");
    obeys_limits(recvs, &c);
    EQ(stel_recv(c.e.fd[0], c.buffer, 1, MSG_DONTWAIT), -EAGAIN);
    EQ(send(c.e.fd[1], "abc", 3, 0), 3);
    EQ(stel_recv(c.e.fd[0], c.buffer, 2, MSG_PEEK), 2);
    EQ(recvs(&c), 3);
    EQ(stel_recv(fd, c.buffer, 1, 0), -ENOTSOCK);
    EQ(stel_recv(-1, c.buffer, 1, 0), -EBADF);
    close_wakes(recvs, &c, c.e.fd[0]);
    OK(stel_close(c.e.fd[1]));
    OK(stel_close(fd));
}

static int sends(void *arg) {
    return (int)stel_send(((io_call *)arg)->e.fd[1], much, sizeof much, 0);
}

/* stel_send: everything, as stel_write; MSG_DONTWAIT: what fits, or -EAGAIN; -EPIPE -ENOTSOCK -EBADF -ETIMEDOUT
 * -ECANCELED. */
ON_BOTH(contract_stel_send) {
    io_call c = { .e = of_stream() };
    int fd = file_with("");
    stel_fiber reader = spawn(drains, &c.e.fd[0]);
    EQ(sends(&c), MUCH);
    EQ(shutdown(c.e.fd[1], SHUT_WR), 0);
    EQ(join(reader), MUCH);
    EQ(sends(&c), -EPIPE);
    close_ends(c.e);
    c.e = of_stream();
    fill(c.e.fd[1]);
    EQ(stel_send(c.e.fd[1], "x", 1, MSG_DONTWAIT), -EAGAIN);
    EQ(stel_send(fd, "x", 1, 0), -ENOTSOCK);
    EQ(stel_send(-1, "x", 1, 0), -EBADF);
    obeys_limits(sends, &c);
    close_wakes(sends, &c, c.e.fd[1]);
    OK(stel_close(c.e.fd[0]));
    OK(stel_close(fd));
}

/* ---- datagrams ---- */

/* Two sockets on 127.0.0.1 that are not connected. */
static ends of_udp(struct sockaddr_in *at) {
    ends e;
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in any = loopback(0);
        e.fd[i] = socket(AF_INET, SOCK_DGRAM, 0);
        EQ(bind(e.fd[i], (struct sockaddr *)&any, sizeof any), 0);
        at[i] = loopback(port_of(e.fd[i]));
    }
    return e;
}

static int recvfroms(void *arg) {
    io_call *c = arg;
    return (int)stel_recvfrom(c->e.fd[0], c->buffer, sizeof c->buffer, 0, NULL, NULL);
}

/* stel_recvfrom: a datagram as a whole, and who sent it; MSG_TRUNC: its true length; MSG_DONTWAIT: -EAGAIN; -ENOTSOCK
 * -EBADF -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_recvfrom) {
    struct sockaddr_in at[2], from;
    socklen_t length = sizeof from;
    io_call c = { .e = of_udp(at) };
    obeys_limits(recvfroms, &c);
    EQ(stel_recvfrom(c.e.fd[0], c.buffer, 4, MSG_DONTWAIT, NULL, NULL), -EAGAIN);
    for (int i = 0; i < 2; i++)
        EQ(sendto(c.e.fd[1], "abcdef", 6, 0, (struct sockaddr *)&at[0], sizeof at[0]), 6);
    EQ(stel_recvfrom(c.e.fd[0], c.buffer, 4, MSG_TRUNC, (struct sockaddr *)&from, &length), 6);
    EQ(memcmp(c.buffer, "abcd", 5), 0);
    EQ(length, sizeof from);
    EQ(from.sin_port, at[1].sin_port);
    EQ(recvfroms(&c), 6); /* the rest of the first is gone: this is the second */
    EQ(stel_recvfrom(-1, c.buffer, 1, 0, NULL, NULL), -EBADF);
    int fd = file_with("");
    EQ(stel_recvfrom(fd, c.buffer, 1, 0, NULL, NULL), -ENOTSOCK);
    OK(stel_close(fd));
    close_wakes(recvfroms, &c, c.e.fd[0]);
    OK(stel_close(c.e.fd[1]));
}

static int sendtos(void *arg) {
    return (int)stel_sendto(((io_call *)arg)->e.fd[1], much, sizeof much, 0, NULL, 0);
}

/* stel_sendto: a datagram as a whole to an address, on a stream everything; -EMSGSIZE -EDESTADDRREQ -ENOTSOCK -EBADF
 * -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_sendto) {
    struct sockaddr_in at[2];
    char buffer[16];
    io_call c = { .e = of_udp(at) };
    EQ(stel_sendto(c.e.fd[1], "abcdef", 6, 0, (struct sockaddr *)&at[0], sizeof at[0]), 6);
    EQ(recv(c.e.fd[0], buffer, sizeof buffer, 0), 6);
    EQ(stel_sendto(c.e.fd[1], much, 70000, 0, (struct sockaddr *)&at[0], sizeof at[0]), -EMSGSIZE);
    EQ(stel_sendto(c.e.fd[1], "x", 1, 0, NULL, 0), -EDESTADDRREQ);
    EQ(stel_sendto(-1, "x", 1, 0, NULL, 0), -EBADF);
    close_ends(c.e);
    c.e = of_stream();
    stel_fiber reader = spawn(drains, &c.e.fd[0]);
    EQ(sendtos(&c), MUCH);
    OK(stel_close(c.e.fd[1]));
    EQ(join(reader), MUCH);
    OK(stel_close(c.e.fd[0]));
    c.e = of_stream();
    fill(c.e.fd[1]);
    obeys_limits(sendtos, &c);
    close_wakes(sendtos, &c, c.e.fd[1]);
    OK(stel_close(c.e.fd[0]));
    int fd = file_with("");
    EQ(stel_sendto(fd, "x", 1, 0, NULL, 0), -ENOTSOCK);
    OK(stel_close(fd));
}

/* A message of one byte with room for one descriptor. */
typedef struct parcel {
    struct msghdr message;
    struct iovec iov;
    char byte;
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(int))];
} parcel;

static void parcel_init(parcel *p) {
    memset(p, 0, sizeof *p);
    p->byte = 'p';
    p->iov = (struct iovec){ &p->byte, 1 };
    p->message.msg_iov = &p->iov;
    p->message.msg_iovlen = 1;
    p->message.msg_control = p->room;
    p->message.msg_controllen = sizeof p->room;
}
static void parcel_put(parcel *p, int fd) {
    struct cmsghdr *h = CMSG_FIRSTHDR(&p->message);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
}
static int parcel_take(parcel *p) {
    int fd = -1;
    struct cmsghdr *h = CMSG_FIRSTHDR(&p->message);
    IS(h && h->cmsg_type == SCM_RIGHTS);
    memcpy(&fd, CMSG_DATA(h), sizeof fd);
    return fd;
}

static int recvmsgs(void *arg) {
    io_call *c = arg;
    parcel p;
    parcel_init(&p);
    return (int)stel_recvmsg(c->e.fd[0], &p.message, 0);
}

/* stel_recvmsg: with ancillary data; descriptors that come are close-on-exec; -EAGAIN by MSG_DONTWAIT, -ENOTSOCK -EBADF
 * -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_recvmsg) {
    io_call c = { .e = of_stream() };
    parcel out, in;
    int fd = file_with("in the parcel"), came;
    obeys_limits(recvmsgs, &c);
    parcel_init(&out);
    parcel_put(&out, fd);
    parcel_init(&in);
    EQ(stel_recvmsg(c.e.fd[0], &in.message, MSG_DONTWAIT), -EAGAIN);
    EQ(sendmsg(c.e.fd[1], &out.message, 0), 1);
    EQ(stel_recvmsg(c.e.fd[0], &in.message, 0), 1);
    EQ(in.byte, 'p');
    came = parcel_take(&in);
    IS(came != fd && has_flag(came, F_GETFD, FD_CLOEXEC));
    EQ(stel_pread(came, c.buffer, 16, 0), 13);
    OK(stel_close(came));
    EQ(stel_recvmsg(fd, &in.message, 0), -ENOTSOCK);
    EQ(stel_recvmsg(-1, &in.message, 0), -EBADF);
    close_wakes(recvmsgs, &c, c.e.fd[0]);
    OK(stel_close(c.e.fd[1]));
    OK(stel_close(fd));
}

static int sendmsgs(void *arg) {
    struct iovec iov[2] = { { much, MUCH / 2 }, { much, MUCH / 2 } };
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
    return (int)stel_sendmsg(((io_call *)arg)->e.fd[1], &m, 0);
}

/* stel_sendmsg: everything, ancillary data with the first part; -EAGAIN by MSG_DONTWAIT, -ENOTSOCK -EBADF -ETIMEDOUT
 * -ECANCELED. */
ON_BOTH(contract_stel_sendmsg) {
    io_call c = { .e = of_stream() };
    parcel out, in;
    int fd = file_with("");
    parcel_init(&out);
    parcel_put(&out, fd);
    EQ(stel_sendmsg(c.e.fd[1], &out.message, 0), 1);
    parcel_init(&in);
    EQ(recvmsg(c.e.fd[0], &in.message, 0), 1);
    EQ(close(parcel_take(&in)), 0);
    EQ(stel_sendmsg(fd, &out.message, 0), -ENOTSOCK);
    EQ(stel_sendmsg(-1, &out.message, 0), -EBADF);
    stel_fiber reader = spawn(drains, &c.e.fd[0]);
    EQ(sendmsgs(&c), MUCH);
    OK(stel_close(c.e.fd[1]));
    EQ(join(reader), MUCH);
    OK(stel_close(c.e.fd[0]));
    c.e = of_stream();
    fill(c.e.fd[1]);
    EQ(stel_sendmsg(c.e.fd[1], &out.message, MSG_DONTWAIT), -EAGAIN);
    obeys_limits(sendmsgs, &c);
    close_wakes(sendmsgs, &c, c.e.fd[1]);
    OK(stel_close(c.e.fd[0]));
    OK(stel_close(fd));
}

/* ---- from descriptor to descriptor ---- */

static int large_file(void) {
    int fd = file_with("");
    EQ(write(fd, much, sizeof much), MUCH);
    EQ(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

typedef struct sending {
    io_call c;
    int file;
} sending;
static int sendfiles(void *arg) {
    sending *s = arg;
    off_t at = 0;
    return (int)stel_sendfile(s->c.e.fd[1], s->file, &at, MUCH);
}

/* stel_sendfile: all bytes of a file, less only at its end; offset, or the file's own position, moves; -EBADF -EINVAL
 * -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_sendfile) {
    sending s = { .file = large_file() };
    off_t at = MUCH - 3;
    s.c.e = of_stream();
    stel_fiber reader = spawn(drains, &s.c.e.fd[0]);
    EQ(stel_sendfile(s.c.e.fd[1], s.file, NULL, MUCH), MUCH);
    EQ(lseek(s.file, 0, SEEK_CUR), MUCH);
    EQ(stel_sendfile(s.c.e.fd[1], s.file, &at, 10), 3);
    EQ(at, MUCH);
    EQ(stel_sendfile(s.c.e.fd[1], s.file, &at, 10), 0);
    OK(stel_close(s.c.e.fd[1]));
    EQ(join(reader), MUCH + 3);
    OK(stel_close(s.c.e.fd[0]));
    s.c.e = of_stream();
    EQ(stel_sendfile(-1, s.file, NULL, 1), -EBADF);
    EQ(stel_sendfile(s.c.e.fd[1], -1, NULL, 1), -EBADF);
    fill(s.c.e.fd[1]);
    obeys_limits(sendfiles, &s);
    close_wakes(sendfiles, &s, s.c.e.fd[1]);
    OK(stel_close(s.c.e.fd[0]));
    OK(stel_close(s.file));
}

typedef struct splicing {
    ends from, to;
} splicing;
static int splices(void *arg) {
    splicing *s = arg;
    return (int)stel_splice(s->from.fd[0], NULL, s->to.fd[1], NULL, 1000, 0);
}

/* stel_splice: from or to a pipe; returns as soon as it has moved something; 0 at the end; -EINVAL -EBADF -ETIMEDOUT
 * -ECANCELED. */
ON_BOTH(contract_stel_splice) {
    splicing s = { of_pipe(), of_stream() };
    char buffer[16];
    off_t at = 2;
    int fd = file_with("0123456789");
    obeys_limits(splices, &s);
    EQ(write(s.from.fd[1], "abc", 3), 3);
    EQ(splices(&s), 3);
    EQ(read(s.to.fd[0], buffer, sizeof buffer), 3);
    EQ(stel_splice(fd, &at, s.from.fd[1], NULL, 5, 0), 5);
    EQ(at, 7);
    EQ(read(s.from.fd[0], buffer, sizeof buffer), 5);
    EQ(memcmp(buffer, "23456", 5), 0);
    EQ(stel_splice(s.to.fd[0], NULL, s.to.fd[1], NULL, 1, 0), -EINVAL); /* no pipe */
    EQ(stel_splice(-1, NULL, s.from.fd[1], NULL, 1, 0), -EBADF);
    close_wakes(splices, &s, s.from.fd[0]);
    OK(stel_close(s.from.fd[1]));
    s.from = of_pipe();
    OK(stel_close(s.from.fd[1]));
    EQ(splices(&s), 0);
    OK(stel_close(s.from.fd[0]));
    close_ends(s.to);
    OK(stel_close(fd));
}

/* ---- files ---- */

static char path[64];
static const char *a_path(void) {
    snprintf(path, sizeof path, "/tmp/stel-contract-%d", (int)getpid());
    return path;
}

/* stel_open: open(2) with mode at its place; close-on-exec; -ENOENT -EEXIST -ETIMEDOUT. */
ON_BOTH(contract_stel_open) {
    struct stat st;
    umask(0);
    int fd = (int)OK(stel_open(a_path(), O_RDWR | O_CREAT | O_EXCL, 0640));
    IS(has_flag(fd, F_GETFD, FD_CLOEXEC));
    EQ(fstat(fd, &st), 0);
    EQ(st.st_mode & 0777, 0640);
    EQ(stel_open(path, O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
    OK(stel_close(fd));
    EQ(unlink(path), 0);
    EQ(stel_open(path, O_RDONLY, 0), -ENOENT);
    STEL_TIMEOUT(LONG_PAST);
    EQ(stel_open("/", O_RDONLY, 0), -ETIMEDOUT);
}

/* stel_fsync: a file's data and metadata are on the disk; -EINVAL for what cannot be, -EBADF -ETIMEDOUT; the disk's
 * errors. */
ON_BOTH(contract_stel_fsync) {
    stel__fault_set(STEL__FAULT_IO_URING_SETUP, 1, ENOSYS, true); /* it knows nothing of the seam's errors */
    ends e = of_pipe();
    int fd = file_with("x");
    OK(stel_fsync(fd));
    EQ(stel_fsync(e.fd[0]), -EINVAL);
    EQ(stel_fsync(-1), -EBADF);
    stel__fault_set(STEL__FAULT_FSYNC, 1, EIO, false);
    EQ(stel_fsync(fd), -EIO);
    stel__fault_clear();
    STEL_TIMEOUT(LONG_PAST);
    EQ(stel_fsync(fd), -ETIMEDOUT);
    close_ends(e);
    OK(stel_close(fd));
}

/* stel_fdatasync: a file's data are on the disk; -EINVAL for what cannot be, -EBADF -ETIMEDOUT; the disk's errors. */
ON_BOTH(contract_stel_fdatasync) {
    stel__fault_set(STEL__FAULT_IO_URING_SETUP, 1, ENOSYS, true); /* as above */
    ends e = of_pipe();
    int fd = file_with("x");
    OK(stel_fdatasync(fd));
    EQ(stel_fdatasync(e.fd[0]), -EINVAL);
    EQ(stel_fdatasync(-1), -EBADF);
    stel__fault_set(STEL__FAULT_FDATASYNC, 1, EIO, false);
    EQ(stel_fdatasync(fd), -EIO);
    stel__fault_clear();
    STEL_TIMEOUT(LONG_PAST);
    EQ(stel_fdatasync(fd), -ETIMEDOUT);
    close_ends(e);
    OK(stel_close(fd));
}

static int closes_cancelled(void *arg) {
    OK(stel_cancel(stel_self()));
    return stel_close(*(int *)arg);
}

/* stel_close: always closes, after cancellation too, and whatever the kernel says; wakes whoever waits with -EBADF. */
ON_BOTH(contract_stel_close) {
    io_call c = { .e = of_pipe() };
    close_wakes(reads, &c, c.e.fd[0]); /* a reader, and a writer: */
    OK(stel_close(c.e.fd[1]));
    c.e = of_stream();
    fill(c.e.fd[1]);
    close_wakes(writes, &c, c.e.fd[1]);
    EQ(join(spawn(closes_cancelled, &c.e.fd[0])), 0);
    EQ(fcntl(c.e.fd[0], F_GETFD), -1);
    EQ(stel_close(c.e.fd[0]), -EBADF);
    EQ(stel_close(-1), -EBADF);
    int fd = file_with("");
    stel__fault_set(STEL__FAULT_CLOSE, 1, EIO,
                    false); /* the seam fails it without closing: only the code is looked at */
    EQ(stel_close(fd), -EIO);
    stel__fault_clear();
    close(fd);
}

TEST_MAIN("contract/io", contract_stel_read, contract_stel_write, contract_stel_readv, contract_stel_writev,
          contract_stel_pread, contract_stel_pwrite, contract_stel_recv, contract_stel_send, contract_stel_recvfrom,
          contract_stel_sendto, contract_stel_recvmsg, contract_stel_sendmsg, contract_stel_sendfile,
          contract_stel_splice, contract_stel_open, contract_stel_fsync, contract_stel_fdatasync, contract_stel_close)
