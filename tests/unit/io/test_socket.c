/* recv, send, accept, connect, socket. */
#include "host/fault.h"
#include "io_sides.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/un.h>

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

/* ---- recv and send ---- */

static int send_in_pieces(void *arg) {
    int fd = *(int *)arg;
    for (int i = 0; i < 10; i++) {
        FIBER_ASSERT_EQ(stel_send(fd, "0123456789", 10, i < 9 ? MSG_MORE : 0), 10);
        FIBER_ASSERT(stel_sleep(STEL_MS(1)) == 0);
    }
    return 0;
}

static int flags(void *arg) {
    (void)arg;
    int fds[2];
    char buffer[128];
    side sender;
    tcp_pair(fds);
    FIBER_ASSERT_EQ(stel_recv(fds[1], buffer, 1, MSG_DONTWAIT), -EAGAIN);
    side_start(&sender, send_in_pieces, &fds[0]);
    FIBER_ASSERT_EQ(stel_recv(fds[1], buffer, 100, MSG_WAITALL), 100);
    FIBER_ASSERT_EQ(memcmp(buffer + 90, "0123456789", 10), 0);
    FIBER_ASSERT_EQ(side_join(&sender), 0);
    FIBER_ASSERT_EQ(stel_send(fds[0], "peek", 4, 0), 4);
    FIBER_ASSERT_EQ(stel_recv(fds[1], buffer, 128, MSG_PEEK), 4);
    FIBER_ASSERT_EQ(stel_recv(fds[1], buffer, 128, MSG_PEEK), 4);
    FIBER_ASSERT_EQ(stel_recv(fds[1], buffer, 128, 0), 4);
    /* A stream that ends in the middle. */
    FIBER_ASSERT_EQ(stel_send(fds[0], "abc", 3, 0), 3);
    FIBER_OK(stel_close(fds[0]));
    FIBER_ASSERT_EQ(stel_recv(fds[1], buffer, 100, MSG_WAITALL), 3);
    FIBER_ASSERT_EQ(stel_recv(fds[1], buffer, 100, MSG_WAITALL), 0);
    FIBER_OK(stel_close(fds[1]));
    int p[2];
    FIBER_ASSERT_EQ(pipe(p), 0);
    FIBER_ASSERT_EQ(stel_recv(p[0], buffer, 1, 0), -ENOTSOCK);
    FIBER_ASSERT_EQ(stel_send(p[1], buffer, 1, 0), -ENOTSOCK);
    FIBER_OK(stel_close(p[0]));
    FIBER_OK(stel_close(p[1]));
    return 0;
}

START_TEST(recv_and_send) {
    on_all_kinds(flags);
}
END_TEST

/* Messages are kept apart, empty ones too. */
static int messages(void *arg) {
    (void)arg;
    char buffer[16];
    int a = (int)FIBER_OK(stel_socket(AF_INET, SOCK_DGRAM, 0)), b = (int)FIBER_OK(stel_socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in at = loopback(0);
    FIBER_ASSERT_EQ(bind(b, (struct sockaddr *)&at, sizeof at), 0);
    at = loopback(tcp_port_of(b));
    FIBER_OK(stel_connect(a, (struct sockaddr *)&at, sizeof at));
    FIBER_ASSERT_EQ(stel_write(a, "long message", 12), 12);
    FIBER_ASSERT_EQ(stel_send(a, "", 0, 0), 0);
    FIBER_ASSERT_EQ(stel_write(a, "x", 1), 1);
    FIBER_ASSERT_EQ(stel_read(b, buffer, 4), 4);
    FIBER_ASSERT_EQ(stel_recv(b, buffer, 16, 0), 0);
    FIBER_ASSERT_EQ(stel_read(b, buffer, 16), 1);
    STEL_TIMEOUT(STEL_MS(10));
    FIBER_ASSERT_EQ(stel_read(b, buffer, 16), -ETIMEDOUT);
    FIBER_OK(stel_close(a));
    FIBER_OK(stel_close(b));
    return 0;
}

START_TEST(datagrams) {
    on_all_kinds(messages);
}
END_TEST

/* ---- socket and accept: what they make ---- */

static int made(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(stel_socket(12345, SOCK_STREAM, 0), -EAFNOSUPPORT);
    FIBER_ASSERT_EQ(stel_accept4(0, NULL, NULL, SOCK_RAW), -EINVAL);
    FIBER_ASSERT_EQ(stel_accept(-1, NULL, NULL), -EBADF);
    int fd = (int)FIBER_OK(stel_socket(AF_INET, SOCK_STREAM, 0));
    FIBER_ASSERT(fcntl(fd, F_GETFL) & O_NONBLOCK);
    FIBER_ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    FIBER_ASSERT_EQ(stel_accept(fd, NULL, NULL), -EINVAL); /* not listening */
    FIBER_OK(stel_close(fd));
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 4));
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%d", tcp_port_of(listener));
    int client = (int)FIBER_OK(stel_dial(address));
    struct sockaddr_in peer = { 0 };
    socklen_t bytes = sizeof peer;
    fd = (int)FIBER_OK(stel_accept4(listener, (struct sockaddr *)&peer, &bytes, SOCK_CLOEXEC));
    FIBER_ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    FIBER_ASSERT_EQ(bytes, sizeof peer);
    FIBER_ASSERT_EQ(ntohs(peer.sin_port), tcp_port_of(client));
    FIBER_OK(stel_close(fd));
    FIBER_OK(stel_close(client));
    STEL_TIMEOUT(STEL_MS(10));
    FIBER_ASSERT_EQ(stel_accept(listener, NULL, NULL), -ETIMEDOUT);
    FIBER_OK(stel_close(listener));
    return 0;
}

START_TEST(socket_and_accept) {
    on_all_kinds(made);
}
END_TEST

/* ---- listeners and sockets that block, as inherited ones do: they stay so ---- */

static int take_one(void *arg) {
    int fd = stel_accept(*(int *)arg, NULL, NULL);
    if (fd < 0) return fd;
    char byte;
    ssize_t n = stel_read(fd, &byte, 1);
    FIBER_OK(stel_close(fd));
    return n == 1 ? byte : -1;
}

static int inherited(void *arg) {
    (void)arg;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in at = loopback(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    FIBER_ASSERT_EQ(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    FIBER_ASSERT_EQ(listen(listener, 4), 0);
    at = loopback(tcp_port_of(listener));
    side acceptors[2];
    side_start(&acceptors[0], take_one, &listener);
    side_start(&acceptors[1], take_one, &listener);
    AWAIT_PARKED(listener, 2);
    for (int i = 0; i < 2; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct timeval limit = { 7, 0 }, after = { 0, 0 };
        socklen_t bytes = sizeof after;
        FIBER_ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
        FIBER_OK(stel_connect(fd, (struct sockaddr *)&at, sizeof at));
        FIBER_ASSERT_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
        FIBER_ASSERT_EQ(getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &after, &bytes), 0);
        FIBER_ASSERT_EQ(after.tv_sec, 7);
        FIBER_ASSERT_EQ(stel_write(fd, "k", 1), 1);
        FIBER_OK(stel_close(fd));
    }
    FIBER_ASSERT_EQ(side_join(&acceptors[0]), 'k');
    FIBER_ASSERT_EQ(side_join(&acceptors[1]), 'k');
    FIBER_ASSERT_EQ(fcntl(listener, F_GETFL) & O_NONBLOCK, 0);
    FIBER_OK(stel_close(listener));
    return 0;
}

START_TEST(blocking_ones) {
    on_all_kinds(inherited);
}
END_TEST

/* ---- connect ---- */

static int connects(void *arg) {
    (void)arg;
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 4));
    struct sockaddr_in at = loopback(tcp_port_of(listener));
    int fd = (int)FIBER_OK(stel_socket(AF_INET, SOCK_STREAM, 0));
    FIBER_OK(stel_connect(fd, (struct sockaddr *)&at, sizeof at));
    int again = stel_connect(fd, (struct sockaddr *)&at, sizeof at); /* Linux tells the first outcome once more */
    if (again == 0) again = stel_connect(fd, (struct sockaddr *)&at, sizeof at);
    FIBER_ASSERT_EQ(again, -EISCONN);
    FIBER_OK(stel_close(fd));
    FIBER_OK(stel_close(listener));
    /* Nobody listens there any more. */
    fd = (int)FIBER_OK(stel_socket(AF_INET, SOCK_STREAM, 0));
    FIBER_ASSERT_EQ(stel_connect(fd, (struct sockaddr *)&at, sizeof at), -ECONNREFUSED);
    FIBER_OK(stel_close(fd));
    FIBER_ASSERT_EQ(stel_connect(fd, (struct sockaddr *)&at, sizeof at), -EBADF);
    int p[2];
    FIBER_ASSERT_EQ(pipe(p), 0);
    FIBER_ASSERT_EQ(stel_connect(p[0], (struct sockaddr *)&at, sizeof at), -ENOTSOCK);
    FIBER_OK(stel_close(p[0]));
    FIBER_OK(stel_close(p[1]));
    return 0;
}

START_TEST(connecting) {
    on_all_kinds(connects);
}
END_TEST

/* A listener whose queue is full does not answer: connect is ended by the deadline, and cut short it leaves a number to
 * be closed. */
static int unanswered(void *arg) {
    (void)arg;
    enum { TRIES = 8 };
    int fds[TRIES], listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 0)), rc = 0, n = 0;
    struct sockaddr_in at = loopback(tcp_port_of(listener));
    STEL_TIMEOUT(STEL_MS(100));
    while (rc == 0 && n < TRIES) {
        fds[n] = (int)FIBER_OK(stel_socket(AF_INET, SOCK_STREAM, 0));
        rc = stel_connect(fds[n++], (struct sockaddr *)&at, sizeof at);
    }
    FIBER_ASSERT_EQ(rc, -ETIMEDOUT);
    FIBER_ASSERT(stel_timed_out());
    while (n > 0)
        FIBER_OK(stel_close(fds[--n]));
    FIBER_OK(stel_close(listener));
    return 0;
}

START_TEST(connect_deadline) {
    on_all_kinds(unanswered);
}
END_TEST

/* The kernel's ETIMEDOUT is not our deadline. */
static int peers_timeout(void *arg) {
    (void)arg;
    struct sockaddr_in at = loopback(9);
    int fd = (int)FIBER_OK(stel_socket(AF_INET, SOCK_STREAM, 0));
    {
        STEL_TIMEOUT(-STEL_SEC(1));
        FIBER_ASSERT_EQ(stel_wait_fd(fd, POLLIN), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
    }
    stel__fault_set(STEL__FAULT_CONNECT, 1, ETIMEDOUT, false);
    STEL_TIMEOUT(STEL_SEC(60));
    FIBER_ASSERT_EQ(stel_connect(fd, (struct sockaddr *)&at, sizeof at), -ETIMEDOUT);
    FIBER_ASSERT(!stel_timed_out());
    {
        STEL_TIMEOUT(-STEL_SEC(1));
        FIBER_ASSERT_EQ(stel_wait_fd(fd, POLLIN), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
    }
    stel__fault_set(STEL__FAULT_RECV, 1, ETIMEDOUT, false);
    char byte;
    FIBER_ASSERT_EQ(stel_read(fd, &byte, 1), -ETIMEDOUT);
    FIBER_ASSERT(!stel_timed_out());
    stel__fault_clear();
    FIBER_OK(stel_close(fd));
    return 0;
}

START_TEST(whose_timeout) {
    on_all_kinds(peers_timeout);
}
END_TEST

/* Local sockets: a full queue says EAGAIN at once, and connect waits nevertheless. */
static int connect_local(void *arg) {
    const struct sockaddr_un *at = arg;
    int fd = (int)FIBER_OK(stel_socket(AF_UNIX, SOCK_STREAM, 0));
    FIBER_OK(stel_connect(fd, (const struct sockaddr *)at, sizeof *at));
    char byte;
    ssize_t n = stel_read(fd, &byte, 1);
    FIBER_OK(stel_close(fd));
    return (int)n;
}

static int local_queue(void *arg) {
    (void)arg;
    enum { CLIENTS = 6 };
    char address[200];
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    snprintf(at.sun_path, sizeof at.sun_path, "/tmp/stel-test-%d-%d.sock", (int)getpid(), (int)(stel_now() % 1000000));
    snprintf(address, sizeof address, "unix:%s", at.sun_path);
    int listener = (int)FIBER_OK(stel_listen(address, 1));
    FIBER_ASSERT_EQ(stel_listen(address, 1), -EADDRINUSE);
    side clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        side_start(&clients[i], connect_local, &at);
    for (int i = 0; i < CLIENTS; i++) {
        int fd = (int)FIBER_OK(stel_accept(listener, NULL, NULL));
        FIBER_ASSERT_EQ(stel_write(fd, "!", 1), 1);
        FIBER_OK(stel_close(fd));
    }
    for (int i = 0; i < CLIENTS; i++)
        FIBER_ASSERT_EQ(side_join(&clients[i]), 1);
    FIBER_OK(stel_close(listener));
    FIBER_ASSERT_EQ(stel_dial(address), -ECONNREFUSED);
    FIBER_ASSERT_EQ(unlink(at.sun_path), 0);
    FIBER_ASSERT_EQ(stel_dial(address), -ENOENT);
    return 0;
}

START_TEST(local_sockets) {
    on_all_kinds(local_queue);
}
END_TEST

/* ---- accept when there is no room, and when the runtime stops ---- */

static int accept_through(void *arg) {
    int listener = *(int *)arg;
    return stel_accept(listener, NULL, NULL);
}

static int shortages(void *arg) {
    static const int errors[] = { EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPROTO, ENETUNREACH };
    (void)arg;
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 16));
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%d", tcp_port_of(listener));
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        int client = (int)FIBER_OK(stel_dial(address));
        stel__fault_set(STEL__FAULT_ACCEPT4, 1, errors[i], false);
        int fd = (int)FIBER_OK(stel_accept(listener, NULL, NULL));
        FIBER_OK(stel_close(fd));
        FIBER_OK(stel_close(client));
    }
    /* For as long as it lasts, until the deadline. */
    stel__fault_set(STEL__FAULT_ACCEPT4, 1, EMFILE, true);
    {
        STEL_TIMEOUT(STEL_MS(20));
        FIBER_ASSERT_EQ(stel_accept(listener, NULL, NULL), -ETIMEDOUT);
    }
    stel__fault_set(STEL__FAULT_ACCEPT4, 1, EACCES, false);
    FIBER_ASSERT_EQ(stel_accept(listener, NULL, NULL), -EACCES);
    stel__fault_clear();
    FIBER_OK(stel_close(listener));
    return 0;
}

START_TEST(accept_shortages) {
    on_all_kinds(shortages);
}
END_TEST

static int stop_under_acceptors(void *arg) {
    (void)arg;
    enum { ACCEPTORS = 5 };
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 16)), result;
    stel_fiber f[ACCEPTORS];
    for (int i = 0; i < ACCEPTORS; i++)
        FIBER_OK(stel_spawn(&f[i], accept_through, &listener));
    AWAIT_PARKED(listener, ACCEPTORS);
    FIBER_OK(stel_shutdown(STEL_SEC(60)));
    for (int i = 0; i < ACCEPTORS; i++) {
        FIBER_OK(stel_join(f[i], &result));
        FIBER_ASSERT_EQ(result, -ESHUTDOWN);
    }
    FIBER_ASSERT_EQ(stel_accept(listener, NULL, NULL), -ESHUTDOWN);
    FIBER_OK(stel_close(listener));
    return 0;
}

START_TEST(accept_and_stop) {
    ck_assert_int_eq(run_in_runtime(1, stop_under_acceptors, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, stop_under_acceptors, NULL), 0);
}
END_TEST

TEST_MAIN("io/socket", recv_and_send, datagrams, socket_and_accept, blocking_ones, connecting, connect_deadline,
          whose_timeout, local_sockets, accept_shortages, accept_and_stop)
