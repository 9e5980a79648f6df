/* recvfrom, sendto, recvmsg, sendmsg: datagrams, addresses, ancillary data. UDP, and local sockets of all three kinds. */
#include "host/fault.h"
#include "io_sides.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static int udp(struct sockaddr_in *at) {
    int fd = (int)FIBER_OK(stel_socket(AF_INET, SOCK_DGRAM, 0));
    *at = loopback(0);
    FIBER_ASSERT_EQ(bind(fd, (struct sockaddr *)at, sizeof *at), 0);
    *at = loopback(tcp_port_of(fd));
    return fd;
}

/* Descriptors that the library did not make, and that block. */
static void local_pair(int type, int fds[2]) {
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, type, 0, fds), 0);
}

static void close_both(int fds[2]) {
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
}

/* ---- UDP ---- */

static int receive_one(void *arg) {
    char byte;
    return (int)stel_recvfrom(*(int *)arg, &byte, 1, 0, NULL, NULL);
}

static int receive_message_one(void *arg) {
    char byte;
    struct iovec iov = { &byte, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    return (int)stel_recvmsg(*(int *)arg, &m, 0);
}

static int udp_talk(void *arg) {
    (void)arg;
    struct sockaddr_in a, b, from = { 0 };
    socklen_t bytes = sizeof from;
    char buffer[64];
    side waiter;
    int fd_a = udp(&a), fd_b = udp(&b);
    FIBER_ASSERT_EQ(stel_recvfrom(fd_b, buffer, 64, MSG_DONTWAIT, NULL, NULL), -EAGAIN);
    side_start(&waiter, receive_one, &fd_b);
    AWAIT_PARKED(fd_b, 1);
    FIBER_ASSERT_EQ(stel_sendto(fd_a, "x", 1, 0, (struct sockaddr *)&b, sizeof b), 1);
    FIBER_ASSERT_EQ(side_join(&waiter), 1);
    /* As a whole, with the sender's address; empty ones too. */
    FIBER_ASSERT_EQ(stel_sendto(fd_a, "long message", 12, 0, (struct sockaddr *)&b, sizeof b), 12);
    FIBER_ASSERT_EQ(stel_sendto(fd_a, "", 0, 0, (struct sockaddr *)&b, sizeof b), 0);
    FIBER_ASSERT_EQ(stel_sendto(fd_a, "truncated", 9, 0, (struct sockaddr *)&b, sizeof b), 9);
    FIBER_ASSERT_EQ(stel_recvfrom(fd_b, buffer, 64, MSG_PEEK, (struct sockaddr *)&from, &bytes), 12);
    FIBER_ASSERT_EQ(bytes, sizeof from);
    FIBER_ASSERT_EQ(from.sin_port, a.sin_port);
    FIBER_ASSERT_EQ(stel_recvfrom(fd_b, buffer, 4, 0, NULL, NULL), 4);
    FIBER_ASSERT_EQ(stel_recvfrom(fd_b, buffer, 64, 0, NULL, NULL), 0);
    FIBER_ASSERT_EQ(stel_recvfrom(fd_b, buffer, 4, MSG_TRUNC | MSG_WAITALL, NULL, NULL), 9);
    /* With sendmsg and recvmsg, from and into several pieces. */
    struct iovec out[2] = { { (char *)(uintptr_t) "hel", 3 }, { (char *)(uintptr_t) "lo", 2 } };
    struct iovec in[2] = { { buffer, 1 }, { buffer + 1, 3 } };
    struct msghdr m = { .msg_name = &b, .msg_namelen = sizeof b, .msg_iov = out, .msg_iovlen = 2 };
    FIBER_ASSERT_EQ(stel_sendmsg(fd_a, &m, 0), 5);
    m = (struct msghdr){ .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = in, .msg_iovlen = 2 };
    FIBER_ASSERT_EQ(stel_recvmsg(fd_b, &m, 0), 4);
    FIBER_ASSERT_EQ(memcmp(buffer, "hell", 4), 0);
    FIBER_ASSERT_EQ(m.msg_flags, MSG_TRUNC);
    FIBER_ASSERT_EQ(m.msg_namelen, sizeof from);
    FIBER_ASSERT_EQ(stel_recvmsg(fd_b, &m, MSG_DONTWAIT), -EAGAIN);
    FIBER_ASSERT_EQ(stel_recvmsg(fd_b, &m, MSG_ERRQUEUE), -EAGAIN); /* it never waits, as the system call does not */
    check_limits(receive_one, &fd_b);
    check_limits(receive_message_one, &fd_b);
    /* Closed under the wait. */
    side_start(&waiter, receive_message_one, &fd_b);
    AWAIT_PARKED(fd_b, 1);
    FIBER_OK(stel_close(fd_b));
    FIBER_ASSERT_EQ(side_join(&waiter), -EBADF);
    FIBER_OK(stel_close(fd_a));
    return 0;
}

START_TEST(udp_messages) {
    on_all_kinds(udp_talk);
}
END_TEST

static int wrong(void *arg) {
    (void)arg;
    int p[2];
    char byte = 0;
    struct sockaddr_in at;
    struct iovec iov = { &byte, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 }, many = { .msg_iov = &iov, .msg_iovlen = 5000 };
    FIBER_ASSERT_EQ(pipe(p), 0);
    FIBER_ASSERT_EQ(stel_recvfrom(p[0], &byte, 1, 0, NULL, NULL), -ENOTSOCK);
    FIBER_ASSERT_EQ(stel_sendto(p[1], &byte, 1, 0, NULL, 0), -ENOTSOCK);
    FIBER_ASSERT_EQ(stel_recvmsg(p[0], &m, 0), -ENOTSOCK);
    FIBER_ASSERT_EQ(stel_sendmsg(p[1], &m, 0), -ENOTSOCK);
    close_both(p);
    FIBER_ASSERT_EQ(stel_recvfrom(-1, &byte, 1, 0, NULL, NULL), -EBADF);
    FIBER_ASSERT_EQ(stel_sendto(-1, &byte, 1, 0, NULL, 0), -EBADF);
    FIBER_ASSERT_EQ(stel_recvmsg(-1, &m, 0), -EBADF);
    FIBER_ASSERT_EQ(stel_sendmsg(-1, &m, 0), -EBADF);
    FIBER_ASSERT_EQ(stel_recvmsg(0, NULL, 0), -EFAULT);
    FIBER_ASSERT_EQ(stel_sendmsg(0, NULL, 0), -EFAULT);
    int fd = udp(&at);
    FIBER_ASSERT_EQ(stel_sendto(fd, &byte, 1, 0, NULL, 0), -EDESTADDRREQ);
    FIBER_ASSERT_EQ(stel_sendmsg(fd, &many, 0), -EMSGSIZE);
    FIBER_ASSERT_EQ(stel_recvmsg(fd, &many, 0), -EMSGSIZE);
    static char huge[70000];
    FIBER_ASSERT_EQ(stel_sendto(fd, huge, sizeof huge, 0, (struct sockaddr *)&at, sizeof at), -EMSGSIZE);
    FIBER_OK(stel_close(fd));
    /* Nobody reads there any more: no SIGPIPE. */
    local_pair(SOCK_STREAM, p);
    FIBER_OK(stel_close(p[1]));
    FIBER_ASSERT_EQ(stel_sendto(p[0], &byte, 1, 0, NULL, 0), -EPIPE);
    FIBER_ASSERT_EQ(stel_sendmsg(p[0], &m, 0), -EPIPE);
    FIBER_OK(stel_close(p[0]));
    return 0;
}

START_TEST(errors) {
    on_all_kinds(wrong);
}
END_TEST

/* ---- local datagrams: a full queue ---- */

typedef struct flow {
    int from, to;
    const struct sockaddr_un *at; /* NULL: connected */
    int messages;
    size_t bytes;
} flow;

static int send_flow(void *arg) {
    const flow *f = arg;
    char *text = calloc(1, f->bytes);
    for (int i = 0; i < f->messages; i++) {
        memset(text, i, f->bytes);
        socklen_t length = f->at ? sizeof *f->at : 0;
        ssize_t n = stel_sendto(f->from, text, f->bytes, 0, (const struct sockaddr *)f->at, length);
        if (n < 0) {
            free(text);
            return (int)n;
        }
        FIBER_ASSERT_EQ(n, f->bytes);
    }
    free(text);
    return 0;
}

/* The receiver begins when the sender has to wait, and is slow now and then. */
static void receive_flow(const flow *f) {
    char *text = calloc(1, f->bytes);
    for (int i = 0; i < f->messages; i++) {
        if (i % 50 == 0) check_fiber_nap();
        FIBER_ASSERT_EQ(stel_recvfrom(f->to, text, f->bytes, 0, NULL, NULL), f->bytes);
        FIBER_ASSERT_EQ((unsigned char)text[0], i & 0xff);
        FIBER_ASSERT_EQ((unsigned char)text[f->bytes - 1], i & 0xff);
    }
    free(text);
}

static int full_queues(void *arg) {
    (void)arg;
    int fds[2];
    side sender;
    static const int types[] = { SOCK_DGRAM, SOCK_SEQPACKET };
    for (int t = 0; t < 2; t++) {
        local_pair(types[t], fds);
        flow f = { .from = fds[0], .to = fds[1], .messages = 300, .bytes = 10000 };
        side_start(&sender, send_flow, &f);
        AWAIT_PARKED(fds[0], 1);
        receive_flow(&f);
        FIBER_ASSERT_EQ(side_join(&sender), 0);
        f.messages = 1000;
        check_limits(send_flow, &f);
        close_both(fds);
    }
    return 0;
}

START_TEST(full_local_queues) {
    on_all_kinds(full_queues);
}
END_TEST

/* To an address, without being connected: poll says that it can be written although there is no room over there. */
static int addressed(void *arg) {
    (void)arg;
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    side sender;
    snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "stel-message-%d-%d", (int)getpid(), stel_self() ? 1 : 0);
    int to = socket(AF_UNIX, SOCK_DGRAM, 0), from = socket(AF_UNIX, SOCK_DGRAM, 0);
    FIBER_ASSERT_EQ(bind(to, (struct sockaddr *)&at, sizeof at), 0);
    flow f = { .from = from, .to = to, .at = &at, .messages = 200, .bytes = 100 };
    /* Somebody else has filled the queue, so that what is read makes no room in the sender's own buffer. */
    char byte = 'f';
    int filled = 0, filler = socket(AF_UNIX, SOCK_DGRAM, 0);
    while (stel_sendto(filler, &byte, 1, MSG_DONTWAIT, (struct sockaddr *)&at, sizeof at) == 1)
        filled++;
    FIBER_ASSERT(filled > 0);
    stel__fault_set(STEL__FAULT_SENDMSG, UINT64_C(1) << 40, EIO, false); /* counts them */
    int64_t before = stel_now();
    side_start(&sender, send_flow, &f);
    for (int i = 0; i < 30; i++)
        check_fiber_nap();
    /* It sleeps, it does not turn in circles. */
    FIBER_ASSERT((int64_t)stel__fault_calls(STEL__FAULT_SENDMSG) <= 20 + (stel_now() - before) / STEL_MS(1));
    stel__fault_clear();
    for (; filled > 0; filled--)
        FIBER_ASSERT_EQ(stel_recvfrom(to, &byte, 1, 0, NULL, NULL), 1);
    receive_flow(&f);
    FIBER_OK(stel_close(filler));
    FIBER_ASSERT_EQ(side_join(&sender), 0);
    check_limits(send_flow, &f);
    FIBER_ASSERT_EQ(stel_sendto(from, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&at, sizeof at), -EAGAIN);
    FIBER_OK(stel_close(from));
    FIBER_OK(stel_close(to));
    return 0;
}

START_TEST(full_queue_at_an_address) {
    on_all_kinds(addressed);
}
END_TEST

/* ---- streams ---- */

static int read_all(void *arg) {
    int fd = *(int *)arg, total = 0;
    char buffer[5000];
    ssize_t n;
    while ((n = stel_recvfrom(fd, buffer, sizeof buffer, 0, NULL, NULL)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            FIBER_ASSERT_EQ(buffer[i], (char)((total + i) % 251));
        total += (int)n;
        if (total / 5000 % 50 == 0) check_fiber_nap(); /* a slow peer */
    }
    return n < 0 ? (int)n : total;
}

static int send_in_two(void *arg) {
    int fd = *(int *)arg;
    FIBER_ASSERT_EQ(stel_sendto(fd, "01234", 5, 0, NULL, 0), 5);
    check_fiber_nap();
    FIBER_ASSERT_EQ(stel_sendto(fd, "56789", 5, 0, NULL, 0), 5);
    return 0;
}

static int streams(void *arg) {
    enum { BYTES = 3000000 };
    (void)arg;
    int fds[2];
    side other;
    char *data = malloc(BYTES);
    for (int i = 0; i < BYTES; i++)
        data[i] = (char)(i % 251);
    for (int tcp = 0; tcp < 2; tcp++) {
        char buffer[16] = { 0 };
        struct iovec pieces[2] = { { buffer, 3 }, { buffer + 3, 7 } };
        struct msghdr m = { .msg_iov = pieces, .msg_iovlen = 2 };
        if (tcp)
            tcp_pair(fds);
        else
            local_pair(SOCK_STREAM, fds);
        /* Everything, whatever the peer's pace; in pieces too. */
        side_start(&other, read_all, &fds[1]);
        FIBER_ASSERT_EQ(stel_sendto(fds[0], data, BYTES / 2, 0, NULL, 0), BYTES / 2);
        struct iovec halves[3] = { { data + BYTES / 2, 1 },
                                   { data + BYTES / 2 + 1, 0 },
                                   { data + BYTES / 2 + 1, BYTES / 2 - 1 } };
        struct msghdr all = { .msg_iov = halves, .msg_iovlen = 3 };
        FIBER_ASSERT_EQ(stel_sendmsg(fds[0], &all, 0), BYTES / 2);
        FIBER_ASSERT_EQ(shutdown(fds[0], SHUT_WR), 0);
        FIBER_ASSERT_EQ(side_join(&other), BYTES);
        /* A part, when it may not wait; and when it is cut short. */
        ssize_t n = stel_sendto(fds[1], data, BYTES, MSG_DONTWAIT, NULL, 0);
        FIBER_ASSERT(n > 0);
        for (int i = 0; n > 0 && i < 1000; i++) /* the kernel goes on making room for a while */
            n = stel_sendto(fds[1], data, BYTES, MSG_DONTWAIT, NULL, 0);
        FIBER_ASSERT_EQ(n, -EAGAIN);
        close_both(fds);
        /* MSG_WAITALL */
        if (tcp)
            tcp_pair(fds);
        else
            local_pair(SOCK_STREAM, fds);
        side_start(&other, send_in_two, &fds[0]);
        FIBER_ASSERT_EQ(stel_recvfrom(fds[1], buffer, 10, MSG_WAITALL, NULL, NULL), 10);
        FIBER_ASSERT_EQ(memcmp(buffer, "0123456789", 10), 0);
        FIBER_ASSERT_EQ(side_join(&other), 0);
        memset(buffer, 0, sizeof buffer);
        side_start(&other, send_in_two, &fds[0]);
        FIBER_ASSERT_EQ(stel_recvmsg(fds[1], &m, MSG_WAITALL), 10);
        FIBER_ASSERT_EQ(memcmp(buffer, "0123456789", 10), 0);
        FIBER_ASSERT_EQ(side_join(&other), 0);
        /* The end in the middle. */
        FIBER_ASSERT_EQ(stel_sendto(fds[0], "abc", 3, 0, NULL, 0), 3);
        FIBER_ASSERT_EQ(shutdown(fds[0], SHUT_WR), 0);
        FIBER_ASSERT_EQ(stel_recvmsg(fds[1], &m, MSG_WAITALL), 3);
        FIBER_ASSERT_EQ(stel_recvmsg(fds[1], &m, MSG_WAITALL), 0);
        close_both(fds);
    }
    free(data);
    return 0;
}

START_TEST(on_streams) {
    on_all_kinds(streams);
}
END_TEST

static int cut_in_the_middle(void *arg) {
    (void)arg;
    int fds[2];
    static char data[4 << 20];
    local_pair(SOCK_STREAM, fds);
    struct iovec iov = { data, sizeof data };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    STEL_TIMEOUT(STEL_MS(10));
    ssize_t n = stel_sendmsg(fds[0], &m, 0);
    FIBER_ASSERT(n > 0 && n < (ssize_t)sizeof data);
    FIBER_ASSERT_EQ(stel_sendmsg(fds[0], &m, 0), -ETIMEDOUT); /* the next call tells */
    FIBER_ASSERT_EQ(stel_sendto(fds[0], data, 1, 0, NULL, 0), -ETIMEDOUT);
    close_both(fds);
    return 0;
}

START_TEST(cut_short) {
    on_all_kinds(cut_in_the_middle);
}
END_TEST

/* The address of a fast open does its work once. Where the kernel does not do it, it is an ordinary connect. */
static int fast_open(void *arg) {
    (void)arg;
    char buffer[8];
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 4));
    struct sockaddr_in at = loopback(tcp_port_of(listener));
    for (int i = 0; i < 2; i++) {
        int fd = (int)FIBER_OK(stel_socket(AF_INET, SOCK_STREAM, 0));
        ssize_t n = stel_sendto(fd, "hello", 5, MSG_FASTOPEN, (struct sockaddr *)&at, sizeof at);
        if (n != -EOPNOTSUPP) { /* switched off */
            FIBER_ASSERT_EQ(n, 5);
            int peer = (int)FIBER_OK(stel_accept(listener, NULL, NULL));
            FIBER_OK(stel_read_full(peer, buffer, 5, NULL));
            FIBER_OK(stel_close(peer));
        }
        FIBER_OK(stel_close(fd));
    }
    FIBER_OK(stel_close(listener));
    return 0;
}

START_TEST(fast_opened) {
    on_all_kinds(fast_open);
}
END_TEST

/* ---- descriptors in messages ---- */

typedef union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(4 * sizeof(int))];
} control;

static void send_descriptors(int fd, const int *what, int n, const char *text, size_t bytes) {
    control c = { 0 };
    struct iovec iov = { (char *)(uintptr_t)text, bytes };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c };
    m.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
    c.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN((size_t)n * sizeof(int)),
                                 .cmsg_level = SOL_SOCKET,
                                 .cmsg_type = SCM_RIGHTS };
    memcpy(CMSG_DATA(&c.header), what, (size_t)n * sizeof(int));
    FIBER_ASSERT_EQ(stel_sendmsg(fd, &m, 0), bytes);
}

static ssize_t receive_descriptors(int fd, int *got, int n, char *text, size_t bytes, int flags) {
    control c = { 0 };
    struct iovec iov = { text, bytes };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c };
    ssize_t rc = stel_recvmsg(fd, &m, flags);
    if (rc < 0) return rc;
    FIBER_ASSERT_EQ(m.msg_flags & ~MSG_EOR, 0);
    for (int i = 0; i < n; i++)
        got[i] = -1;
    if (!m.msg_controllen) return rc;
    FIBER_ASSERT_EQ(c.header.cmsg_type, SCM_RIGHTS);
    FIBER_ASSERT_EQ(c.header.cmsg_len, CMSG_LEN((size_t)n * sizeof(int)));
    memcpy(got, CMSG_DATA(&c.header), (size_t)n * sizeof(int));
    return rc;
}

static int read_one(void *arg) {
    char byte = 0;
    ssize_t n = stel_read(*(int *)arg, &byte, 1);
    return n == 1 ? byte : (int)n;
}

static int passing(void *arg) {
    (void)arg;
    static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
    for (int t = 0; t < 3; t++) {
        int fds[2], p[2], got[2], old;
        char text[8];
        side reader;
        local_pair(types[t], fds);
        /* What was known of the number that the descriptor is going to have is wrong: it was a TCP socket whose reader
         * found nothing. */
        int tcp[2];
        tcp_pair(tcp);
        FIBER_ASSERT_EQ(stel_write(tcp[0], "x", 1), 1);
        FIBER_ASSERT_EQ(stel_read(tcp[1], text, 8), 1);
        FIBER_ASSERT_EQ(pipe(p), 0);
        FIBER_ASSERT_EQ(stel_write(p[1], "abc", 3), 3);
        send_descriptors(fds[0], p, 2, "two", 3);
        old = tcp[1];
        int error;
        uint32_t life = stel__load_relaxed(&stel__slot_at(old, &error)->generation);
        FIBER_ASSERT_EQ(close(tcp[1]), 0); /* behind the library's back */
        FIBER_ASSERT_EQ(receive_descriptors(fds[1], got, 2, text, 8, 0), 3);
        FIBER_ASSERT_EQ(got[0], old);
        FIBER_ASSERT(stel__load_relaxed(&stel__slot_at(old, &error)->generation) != life);
        FIBER_ASSERT(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
        FIBER_ASSERT(fcntl(got[1], F_GETFD) & FD_CLOEXEC);
        close_both(p);
        FIBER_ASSERT_EQ(stel_read(got[0], text, 8), 3);
        side_start(&reader, read_one, &got[0]);
        AWAIT_PARKED(got[0], 1);
        FIBER_ASSERT_EQ(stel_write(got[1], "!", 1), 1);
        FIBER_ASSERT_EQ(side_join(&reader), '!');
        close_both(got);
        FIBER_OK(stel_close(tcp[0]));
        close_both(fds);
    }
    return 0;
}

START_TEST(descriptor_passing) {
    int before = test_open_descriptors();
    on_all_kinds(passing);
    ck_assert_int_le(test_open_descriptors(), before + 1); /* this thread's eventfd */
}
END_TEST

typedef struct big_message {
    int fd, passed;
    const char *data;
    size_t bytes;
} big_message;

static int send_big(void *arg) {
    const big_message *b = arg;
    send_descriptors(b->fd, &b->passed, 1, b->data, b->bytes);
    return 0;
}

/* On a stream a message may go in many parts: the descriptor with the first, and once only. */
static int once_only(void *arg) {
    enum { BYTES = 2000000 };
    (void)arg;
    int fds[2], p[2], got, n_got = 0;
    side sender;
    char *data = calloc(1, BYTES), *back = malloc(BYTES);
    local_pair(SOCK_STREAM, fds);
    FIBER_ASSERT_EQ(pipe(p), 0);
    big_message b = { fds[0], p[0], data, BYTES };
    side_start(&sender, send_big, &b);
    size_t total = 0;
    while (total < BYTES) {
        total += (size_t)FIBER_OK(receive_descriptors(fds[1], &got, 1, back, BYTES - total, 0));
        if (got < 0) continue;
        n_got++;
        FIBER_OK(stel_close(got));
    }
    FIBER_ASSERT_EQ(n_got, 1);
    FIBER_ASSERT_EQ(side_join(&sender), 0);
    /* MSG_WAITALL ends where a descriptor came, as the kernel's does: after the bytes that it came with. */
    FIBER_ASSERT_EQ(stel_sendto(fds[0], "12", 2, 0, NULL, 0), 2);
    send_descriptors(fds[0], p, 1, "34", 2);
    FIBER_ASSERT_EQ(stel_sendto(fds[0], "56", 2, 0, NULL, 0), 2);
    FIBER_ASSERT_EQ(receive_descriptors(fds[1], &got, 1, back, 6, MSG_WAITALL), 4);
    FIBER_ASSERT_EQ(memcmp(back, "1234", 4), 0);
    FIBER_ASSERT(got >= 0);
    FIBER_OK(stel_close(got));
    FIBER_ASSERT_EQ(stel_recvfrom(fds[1], back, 6, 0, NULL, NULL), 2);
    close_both(p);
    close_both(fds);
    free(data);
    free(back);
    return 0;
}

START_TEST(descriptor_once) {
    int before = test_open_descriptors();
    on_all_kinds(once_only);
    ck_assert_int_le(test_open_descriptors(), before + 1);
}
END_TEST

/* ---- the kernel says no ---- */

static int told_to_fail(void *arg) {
    (void)arg;
    int fds[2];
    char byte = 0;
    struct iovec iov = { &byte, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    local_pair(SOCK_STREAM, fds);
    stel__fault_set(STEL__FAULT_RECVFROM, 1, ENOMEM, false);
    FIBER_ASSERT_EQ(stel_recvfrom(fds[0], &byte, 1, 0, NULL, NULL), -ENOMEM);
    stel__fault_set(STEL__FAULT_RECVMSG, 1, ENOBUFS, false);
    FIBER_ASSERT_EQ(stel_recvmsg(fds[0], &m, 0), -ENOBUFS);
    stel__fault_set(STEL__FAULT_SENDMSG, 1, ENOBUFS, false);
    FIBER_ASSERT_EQ(stel_sendmsg(fds[0], &m, 0), -ENOBUFS);
    stel__fault_set(STEL__FAULT_SENDMSG, 1, ENOMEM, false);
    FIBER_ASSERT_EQ(stel_sendto(fds[0], &byte, 1, 0, NULL, 0), -ENOMEM);
    /* A peer's time-out is not ours. */
    stel__fault_set(STEL__FAULT_SENDMSG, 1, ETIMEDOUT, false);
    FIBER_ASSERT_EQ(stel_sendmsg(fds[0], &m, 0), -ETIMEDOUT);
    FIBER_ASSERT(!stel_timed_out());
    stel__fault_clear();
    FIBER_ASSERT_EQ(stel_sendmsg(fds[0], &m, 0), 1);
    FIBER_ASSERT_EQ(stel_recvmsg(fds[1], &m, 0), 1);
    close_both(fds);
    return 0;
}

START_TEST(faults) {
    on_all_kinds(told_to_fail);
}
END_TEST

TEST_MAIN("io/message", udp_messages, errors, full_local_queues, full_queue_at_an_address, on_streams, cut_short,
          fast_opened, descriptor_passing, descriptor_once, faults)
