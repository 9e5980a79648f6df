/* The contract of stellane/io.h, second part: connections, names, readiness, children, signals, offloaded calls. The
 * first is test_io.c. */
#include "ends.h"
#include <netdb.h>
#include <signal.h>
#include <stellane/io.h>

/* ---- connections ---- */

static int listener_on_loopback(int backlog) {
    return (int)OK(stel_listen("127.0.0.1:0", backlog));
}
static const char *address_of(int listener) {
    static char text[40];
    snprintf(text, sizeof text, "127.0.0.1:%d", port_of(listener));
    return text;
}
/* A plain client, which does not wait for being accepted. */
static int client_of(int listener) {
    struct sockaddr_in at = loopback(port_of(listener));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    EQ(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}
/* A listener whose queue is full: who connects to it waits. */
typedef struct full_listener {
    int fd, client[4], n;
} full_listener;
static full_listener full(void) {
    full_listener l = { .fd = listener_on_loopback(0) };
    struct sockaddr_in at = loopback(port_of(l.fd));
    int rc = 0;
    while (rc == 0 && l.n < 4) {
        l.client[l.n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        STEL_TIMEOUT(STEL_MS(30));
        rc = stel_connect(l.client[l.n++], (struct sockaddr *)&at, sizeof at);
    }
    EQ(rc, -ETIMEDOUT);
    return l;
}
static void full_close(full_listener *l) {
    for (int i = 0; i < l->n; i++)
        OK(stel_close(l->client[i]));
    OK(stel_close(l->fd));
}

static int accepts(void *arg) {
    return stel_accept(*(int *)arg, NULL, NULL);
}

/* stel_accept: a connection's descriptor, close-on-exec, and where it is from; backs off and tries again without means;
 * passes over what failed before; -ESHUTDOWN once the runtime stops; -EINVAL -ENOTSOCK -EBADF -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_accept) {
    static const int passing[] = { ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM };
    struct sockaddr_in from;
    socklen_t bytes = sizeof from;
    int listener = listener_on_loopback(16), file = file_with(""), unbound = socket(AF_INET, SOCK_STREAM, 0);
    obeys_limits(accepts, &listener);
    int client = client_of(listener), fd = (int)OK(stel_accept(listener, (struct sockaddr *)&from, &bytes));
    IS(has_flag(fd, F_GETFD, FD_CLOEXEC));
    EQ(ntohs(from.sin_port), port_of(client));
    OK(stel_close(fd));
    close(client);
    for (int i = 0; i < 5; i++) {
        client = client_of(listener);
        stel__fault_set(STEL__FAULT_ACCEPT4, 1, passing[i], false);
        OK(stel_close((int)OK(stel_accept(listener, NULL, NULL))));
        stel__fault_clear();
        close(client);
    }
    EQ(stel_accept(unbound, NULL, NULL), -EINVAL);
    EQ(stel_accept(file, NULL, NULL), -ENOTSOCK);
    EQ(stel_accept(-1, NULL, NULL), -EBADF);
    int other = listener_on_loopback(1);
    close_wakes(accepts, &other, other);
    if (stel_self()) {
        client = client_of(listener);
        OK(stel_shutdown(STEL_FOREVER));
        EQ(stel_accept(listener, NULL, NULL), -ESHUTDOWN); /* though somebody is there */
        close(client);
    }
    OK(stel_close(listener));
    OK(stel_close(file));
    OK(stel_close(unbound));
}

static int accept4s(void *arg) {
    return stel_accept4(*(int *)arg, NULL, NULL, 0);
}

/* stel_accept4: the same with flags: SOCK_NONBLOCK, SOCK_CLOEXEC; -EINVAL -EBADF -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_accept4) {
    int listener = listener_on_loopback(16);
    obeys_limits(accept4s, &listener);
    int client = client_of(listener);
    int fd = (int)OK(stel_accept4(listener, NULL, NULL, SOCK_NONBLOCK));
    IS(has_flag(fd, F_GETFL, O_NONBLOCK) && has_flag(fd, F_GETFD, FD_CLOEXEC)); /* as all that the library makes */
    OK(stel_close(fd));
    close(client);
    client = client_of(listener);
    fd = (int)OK(stel_accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    IS(has_flag(fd, F_GETFD, FD_CLOEXEC));
    OK(stel_close(fd));
    close(client);
    EQ(stel_accept4(listener, NULL, NULL, 1 << 30), -EINVAL);
    EQ(stel_accept4(-1, NULL, NULL, 0), -EBADF);
    close_wakes(accept4s, &listener, listener);
}

typedef struct connecting {
    struct sockaddr_in at;
    atomic_int fd; /* of the latest try */
} connecting;
static int connects(void *arg) {
    connecting *c = arg;
    c->fd = (int)OK(stel_socket(AF_INET, SOCK_STREAM, 0));
    int fd = c->fd, rc = stel_connect(fd, (struct sockaddr *)&c->at, sizeof c->at);
    if (rc != -EBADF) OK(stel_close(fd)); /* cut short: good for closing */
    return rc;
}

/* stel_connect: waits for the outcome; cut short, it leaves a descriptor to be closed; -ECONNREFUSED -EAFNOSUPPORT
 * -ENOTSOCK -EBADF -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_connect) {
    int listener = listener_on_loopback(16), file = file_with("");
    connecting c = { .at = loopback(port_of(listener)) };
    EQ(connects(&c), 0);
    OK(stel_close(listener));
    EQ(connects(&c), -ECONNREFUSED);
    EQ(stel_connect(file, (struct sockaddr *)&c.at, sizeof c.at), -ENOTSOCK);
    EQ(stel_connect(-1, (struct sockaddr *)&c.at, sizeof c.at), -EBADF);
    int fd = (int)OK(stel_socket(AF_INET, SOCK_STREAM, 0));
    c.at.sin_family = 250;
    EQ(stel_connect(fd, (struct sockaddr *)&c.at, sizeof c.at), -EAFNOSUPPORT);
    OK(stel_close(fd));
    OK(stel_close(file));
    full_listener l = full();
    c.at = loopback(port_of(l.fd));
    obeys_limits(connects, &c);
    atomic_store(&c.fd, -1);
    stel_fiber f = spawn(connects, &c);
    EVENTUALLY(atomic_load(&c.fd) >= 0 && parked_on(atomic_load(&c.fd)));
    EQ(stel_try_join(f, NULL), -EAGAIN);
    OK(stel_close(c.fd));
    EQ(join(f), -EBADF);
    full_close(&l);
}

/* stel_socket: non-blocking and close-on-exec; socket(2)'s errors. */
ON_BOTH(contract_stel_socket) {
    int fd = (int)OK(stel_socket(AF_INET, SOCK_STREAM, 0));
    IS(has_flag(fd, F_GETFD, FD_CLOEXEC) && has_flag(fd, F_GETFL, O_NONBLOCK));
    OK(stel_close(fd));
    EQ(stel_socket(AF_INET, 77, 0), -EINVAL);
    EQ(stel_socket(12345, SOCK_STREAM, 0), -EAFNOSUPPORT);
    stel__fault_set(STEL__FAULT_SOCKET, 1, EMFILE, false);
    EQ(stel_socket(AF_INET, SOCK_STREAM, 0), -EMFILE);
    stel__fault_clear();
}

/* ---- addresses ---- */

/* What both calls refuse alike. */
static void address_refusals(int (*tells)(int, char *, size_t), ends e) {
    char text[STEL_ADDRESS_BYTES];
    int file = file_with("");
    EQ(tells(e.fd[0], NULL, sizeof text), -EINVAL);
    EQ(tells(e.fd[0], text, 3), -ENOSPC);
    EQ(tells(-1, text, sizeof text), -EBADF);
    EQ(tells(file, text, sizeof text), -ENOTSOCK);
    stel__fault_set(STEL__FAULT_GETSOCKNAME, 1, ENOBUFS, true);
    if (tells == stel_local_address) EQ(tells(e.fd[0], text, sizeof text), -ENOBUFS);
    stel__fault_clear();
    OK(stel_close(file));
}

/* stel_local_address: the socket's own address, as stel_listen and stel_dial take it; -EINVAL -ENOSPC -EBADF -ENOTSOCK
 * -EAFNOSUPPORT -ENOBUFS. */
ON_BOTH(contract_stel_local_address) {
    char text[STEL_ADDRESS_BYTES], want[STEL_ADDRESS_BYTES];
    ends e = of_stream();
    int listener = listener_on_loopback(4);
    snprintf(want, sizeof want, "127.0.0.1:%d", port_of(listener));
    OK(stel_local_address(listener, text, sizeof text));
    EQ(strcmp(text, want), 0);
    int client = (int)OK(stel_dial(text)); /* the port that the kernel chose is learnt so */
    OK(stel_close(client));
    OK(stel_close(listener));
    OK(stel_local_address(e.fd[0], text, sizeof text));
    EQ(strcmp(text, "unix:"), 0); /* without a name */
    address_refusals(stel_local_address, e);
    int other = socket(AF_NETLINK, SOCK_RAW, 0);
    if (other >= 0) {
        EQ(stel_local_address(other, text, sizeof text), -EAFNOSUPPORT);
        close(other);
    }
    close_ends(e);
}

/* stel_peer_address: that of the socket at the other end; -ENOTCONN without one; -EINVAL -ENOSPC -EBADF -ENOTSOCK. */
ON_BOTH(contract_stel_peer_address) {
    char text[STEL_ADDRESS_BYTES], want[STEL_ADDRESS_BYTES];
    ends e = of_stream();
    int listener = listener_on_loopback(4);
    OK(stel_local_address(listener, want, sizeof want));
    int client = (int)OK(stel_dial(want));
    OK(stel_peer_address(client, text, sizeof text));
    EQ(strcmp(text, want), 0);
    EQ(stel_peer_address(listener, text, sizeof text), -ENOTCONN);
    address_refusals(stel_peer_address, e);
    OK(stel_close(client));
    OK(stel_close(listener));
    close_ends(e);
}

/* STEL_ADDRESS_BYTES: room for every address, the longest name of a local socket too. */
START_TEST(contract_STEL_ADDRESS_BYTES) {
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    char text[STEL_ADDRESS_BYTES];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memset(at.sun_path + 1, 'x', sizeof at.sun_path - 1); /* abstract, all bytes used */
    EQ(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    OK(stel_local_address(fd, text, sizeof text));
    EQ(strlen(text), strlen("unix:@") + sizeof at.sun_path - 1);
    OK(stel_close(fd));
}
END_TEST

/* ---- readiness ---- */

static int waits_fd(void *arg) {
    return stel_wait_fd(((ends *)arg)->fd[0], POLLIN);
}

/* stel_wait_fd: the events that hold, POLLHUP and POLLERR among them; takes nothing; -EINVAL -EPERM -EBADF -ETIMEDOUT
 * -ECANCELED. */
ON_BOTH(contract_stel_wait_fd) {
    ends e = of_stream();
    int file = file_with("x");
    obeys_limits(waits_fd, &e);
    EQ(stel_wait_fd(e.fd[0], POLLOUT), POLLOUT);
    EQ(write(e.fd[1], "x", 1), 1);
    EQ(stel_wait_fd(e.fd[0], POLLIN), POLLIN);
    EQ(stel_wait_fd(e.fd[0], POLLIN), POLLIN); /* still there */
    EQ(stel_wait_fd(e.fd[0], 0), -EINVAL);
    EQ(stel_wait_fd(file, POLLIN), -EPERM);
    EQ(stel_wait_fd(-1, POLLIN), -EBADF);
    OK(stel_close(e.fd[1]));
    IS(stel_wait_fd(e.fd[0], POLLIN) & POLLHUP);
    OK(stel_close(e.fd[0]));
    OK(stel_close(file));
    e = of_stream();
    close_wakes(waits_fd, &e, e.fd[0]);
    OK(stel_close(e.fd[1]));
}

static int polls(void *arg) {
    struct pollfd p[2] = { { .fd = ((ends *)arg)->fd[0], .events = POLLIN }, { .fd = -1 } };
    return stel_poll(p, 2, -1);
}

/* stel_poll: how many descriptors are ready, events in revents; 0 after timeout_ms; below 0 passed over, POLLNVAL for none,
 * files always ready; -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_poll) {
    ends a = of_pipe(), b = of_pipe();
    int file = file_with("x");
    struct pollfd p[] = { { .fd = a.fd[0], .events = POLLIN },
                          { .fd = -1, .events = POLLIN, .revents = 77 },
                          { .fd = b.fd[0], .events = POLLIN } };
    obeys_limits(polls, &a);
    EQ(stel_poll(p, 3, 0), 0);
    int64_t before = stel_now();
    EQ(stel_poll(p, 3, 3), 0);
    IS(stel_now() - before >= STEL_MS(3));
    EQ(write(b.fd[1], "x", 1), 1);
    EQ(stel_poll(p, 3, -1), 1);
    IS(p[0].revents == 0 && p[1].revents == 0 && p[2].revents == POLLIN);
    struct pollfd always = { .fd = file, .events = POLLIN }, none = { .fd = 12345, .events = POLLIN };
    EQ(stel_poll(&always, 1, -1), 1);
    EQ(stel_poll(&none, 1, -1), 1);
    EQ(none.revents, POLLNVAL);
    OK(stel_close(b.fd[1]));
    OK(stel_close(b.fd[0]));
    close_ends(a);
    OK(stel_close(file));
}

static int reads_one(void *arg) {
    char byte = 0;
    ssize_t n = stel_read(((ends *)arg)->fd[0], &byte, 1);
    return n == 1 ? byte : (int)n;
}

/* stel_fd_release: the library forgets a number that stays open; who waits on it looks again; -EBADF below 0. */
ON_BOTH(contract_stel_fd_release) {
    ends a = of_pipe(), b = of_pipe();
    stel_fiber f = spawn(reads_one, &a);
    AWAIT_PARKED(a.fd[0], 1);
    EQ(dup2_unseen(b.fd[0], a.fd[0]), a.fd[0]); /* the number is another file now */
    OK(stel_fd_release(a.fd[0]));
    EQ(write(b.fd[1], "b", 1), 1);
    EQ(join(f), 'b');
    EQ(write(b.fd[1], "c", 1), 1);
    EQ(reads_one(&a), 'c'); /* it stays open */
    EQ(stel_fd_release(-1), -EBADF);
    close_ends(a);
    close_ends(b);
}

/* ---- everything or an error ---- */

static int drains(void *arg) {
    static char sink[1 << 16];
    ssize_t n;
    int total = 0;
    while ((n = stel_read(*(int *)arg, sink, sizeof sink)) > 0)
        total += (int)n;
    return total;
}
static char much[1 << 20];
static int writes_all(void *arg) {
    return stel_write_all(((ends *)arg)->fd[1], much, sizeof much, NULL);
}

/* stel_write_all: 0 only when all bytes were moved; *done says how many, whatever is returned; -EPIPE -EBADF -ETIMEDOUT
 * -ECANCELED. */
ON_BOTH(contract_stel_write_all) {
    ends e = of_stream();
    size_t done = 0;
    stel_fiber reader = spawn(drains, &e.fd[0]);
    EQ(stel_write_all(e.fd[1], much, sizeof much, &done), 0);
    EQ(done, sizeof much);
    EQ(shutdown(e.fd[1], SHUT_WR), 0);
    EQ(join(reader), sizeof much);
    EQ(stel_write_all(e.fd[1], much, 10, &done), -EPIPE);
    EQ(done, 0);
    close_ends(e);
    e = of_stream();
    {
        STEL_TIMEOUT(STEL_MS(3));
        EQ(stel_write_all(e.fd[1], much, sizeof much, &done), -ETIMEDOUT);
        IS(done > 0 && done < sizeof much);
    }
    obeys_limits(writes_all, &e);
    close_wakes(writes_all, &e, e.fd[1]);
    OK(stel_close(e.fd[0]));
}

static int reads_full(void *arg) {
    char buffer[8];
    return stel_read_full(((ends *)arg)->fd[0], buffer, sizeof buffer, NULL);
}

/* stel_read_full: 0 only when all bytes were moved; *done says how many, whatever is returned; -ENODATA at the end, -EBADF
 * -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_read_full) {
    ends e = of_pipe();
    char buffer[8];
    size_t done = 0;
    stel_fiber f = spawn(reads_full, &e);
    for (int i = 0; i < 8; i++) { /* byte by byte */
        stel_yield();
        EQ(write(e.fd[1], "x", 1), 1);
    }
    EQ(join(f), 0);
    obeys_limits(reads_full, &e);
    EQ(write(e.fd[1], "abc", 3), 3);
    {
        STEL_TIMEOUT(STEL_MS(3));
        EQ(stel_read_full(e.fd[0], buffer, 8, &done), -ETIMEDOUT);
        EQ(done, 3);
    }
    EQ(write(e.fd[1], "abcde", 5), 5);
    OK(stel_close(e.fd[1]));
    EQ(stel_read_full(e.fd[0], buffer, 8, &done), -ENODATA);
    EQ(done, 5);
    OK(stel_close(e.fd[0]));
    e = of_pipe();
    close_wakes(reads_full, &e, e.fd[0]);
    OK(stel_close(e.fd[1]));
}

/* ---- names ---- */

/* stel_listen: a listening socket for "host:port" (numeric), "[v6]:port", ":port", "unix:path", close-on-exec, with
 * SO_REUSEADDR; -EINVAL -ENAMETOOLONG -EADDRINUSE and the like. */
ON_BOTH(contract_stel_listen) {
    char name[200], again[40];
    int on = 0, fd = listener_on_loopback(16);
    socklen_t bytes = sizeof on;
    EQ(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, &bytes), 0);
    IS(on && has_flag(fd, F_GETFD, FD_CLOEXEC));
    close(client_of(fd));
    snprintf(again, sizeof again, "%s", address_of(fd));
    EQ(stel_listen(again, 1), -EADDRINUSE);
    OK(stel_close(fd));
    OK(stel_close((int)OK(stel_listen(":0", 1))));
    fd = stel_listen("[::1]:0", 1);
    IS(fd >= 0 || fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT); /* machines without IPv6 */
    if (fd >= 0) OK(stel_close(fd));
    static const char *const wrong[] = { "", "1.2.3.4", "name:80", "127.0.0.1:99999", "unix:", "[::1:80" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        EQ(stel_listen(wrong[i], 1), -EINVAL);
    EQ(stel_listen(NULL, 1), -EINVAL);
    memset(name, 'x', sizeof name);
    memcpy(name, "unix:/", 6);
    name[sizeof name - 1] = 0;
    EQ(stel_listen(name, 1), -ENAMETOOLONG);
    snprintf(name, sizeof name, "unix:/tmp/stel-contract-%d.sock", (int)getpid());
    fd = (int)OK(stel_listen(name, 1));
    EQ(unlink(name + 5), 0);
    OK(stel_close(fd));
}

static int dials(void *arg) {
    int fd = stel_dial(arg);
    return fd < 0 ? fd : stel_close(fd);
}

/* stel_dial: a connected socket, close-on-exec; names are resolved, every address tried; -EINVAL -ENAMETOOLONG,
 * STEL_EAI(x), the last connect's error, -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_dial) {
    char name[64];
    struct addrinfo *found = NULL;
    int listener = listener_on_loopback(16), fd = (int)OK(stel_dial(address_of(listener)));
    IS(has_flag(fd, F_GETFD, FD_CLOEXEC));
    OK(stel_close(fd));
    snprintf(name, sizeof name, "localhost:%d",
             port_of(listener)); /* as a rule ::1 comes first, where nobody listens */
    if (stel_getaddrinfo("localhost", NULL, NULL, &found) == 0) {
        freeaddrinfo(found);
        EQ(dials(name), 0);
    }
    snprintf(name, sizeof name, "%s", address_of(listener));
    OK(stel_close(listener));
    EQ(dials(name), -ECONNREFUSED);
    snprintf(name, sizeof name, "unix:/tmp/stel-contract-%d.sock", (int)getpid());
    listener = (int)OK(stel_listen(name, 4));
    EQ(dials(name), 0);
    EQ(unlink(name + 5), 0);
    EQ(dials(name), -ENOENT);
    OK(stel_close(listener));
    EQ(stel_dial(NULL), -EINVAL);
    EQ(stel_dial("no port"), -EINVAL);
    char long_name[200];
    memset(long_name, 'x', sizeof long_name);
    memcpy(long_name, "unix:/", 6);
    long_name[sizeof long_name - 1] = 0;
    EQ(stel_dial(long_name), -ENAMETOOLONG);
    stel__fault_set(STEL__FAULT_GETADDRINFO, 1, EAI_AGAIN, false);
    EQ(stel_dial("stellane.invalid:80"), STEL_EAI(EAI_AGAIN));
    stel__fault_clear();
    full_listener l = full();
    snprintf(name, sizeof name, "%s", address_of(l.fd));
    obeys_limits(dials, name);
    full_close(&l);
}

static int resolves(void *arg) {
    struct addrinfo *found = NULL;
    int rc = stel_getaddrinfo("127.0.0.1", arg, NULL, &found);
    if (rc == 0) freeaddrinfo(found);
    return rc;
}

/* stel_getaddrinfo: getaddrinfo(3), without holding up a worker; STEL_EAI(x), -EINVAL -ETIMEDOUT -ECANCELED. */
ON_BOTH(contract_stel_getaddrinfo) {
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_family = AF_INET, .ai_socktype = SOCK_STREAM },
                    *found = NULL;
    OK(stel_getaddrinfo("127.0.0.1", "80", &hints, &found));
    EQ(((struct sockaddr_in *)found->ai_addr)->sin_port, htons(80));
    freeaddrinfo(found);
    EQ(stel_getaddrinfo("no number", NULL, &hints, &found), STEL_EAI(EAI_NONAME));
    EQ(stel_getaddrinfo("127.0.0.1", NULL, &hints, NULL), -EINVAL);
    stel__fault_set(STEL__FAULT_GETADDRINFO, 1, EAI_FAIL, false);
    EQ(resolves("80"), STEL_EAI(EAI_FAIL));
    stel__fault_clear();
    {
        STEL_TIMEOUT(LONG_PAST);
        EQ(resolves("80"), -ETIMEDOUT);
    }
    stel_fiber f = spawn(resolves, "80");
    OK(stel_cancel(f));
    int rc = join(f);
    IS(rc == -ECANCELED || (!stel_self() && rc == 0)); /* from a thread, it may have been done by then */
}

/* ---- children, signals ---- */

/* A child that ends with this code when a byte comes, or the end of the pipe. */
static pid_t child_that_ends(ends e, int code) {
    pid_t child = fork();
    IS(child >= 0);
    if (child == 0) {
        char byte;
        close(e.fd[1]);
        (void)!read(e.fd[0], &byte, 1);
        _exit(code);
    }
    return child;
}
static int waits_for_child(void *arg) {
    return stel_waitpid(*(pid_t *)arg, NULL, 0);
}

/* stel_waitpid: the child whose state changed, its status; WNOHANG: 0; cut short, nothing was taken; -ECHILD -EINVAL
 * -ESRCH -ETIMEDOUT -ECANCELED, -EAGAIN -ENOMEM when there is nothing to wait with. */
ON_BOTH(contract_stel_waitpid) {
    ends e = of_pipe();
    int status = 0;
    pid_t child = child_that_ends(e, 7);
    EQ(stel_waitpid(child, &status, WNOHANG), 0);
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    EQ(stel_waitpid(-1, &status, 0), -ENOMEM); /* any child: a thread waits for it */
    stel__fault_clear();
    stel__fault_set(STEL__FAULT_PTHREAD_CREATE, 1, EAGAIN, true);
    EQ(stel_waitpid(-1, &status, 0), -EAGAIN);
    stel__fault_clear();
    obeys_limits(waits_for_child, &child);
    OK(stel_close(e.fd[1]));
    EQ(stel_waitpid(child, &status, 0), child);
    IS(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    EQ(stel_waitpid(child, &status, 0), -ECHILD);
    EQ(stel_waitpid(-1, &status, 1 << 20), -EINVAL);
    EQ(stel_waitpid(INT32_MIN, &status, 0), -ESRCH);
    OK(stel_close(e.fd[0]));
}

static sigset_t set_of(int number) {
    sigset_t set;
    sigemptyset(&set);
    if (number) sigaddset(&set, number);
    return set;
}
static int sigcatch(int number) {
    sigset_t set = set_of(number);
    return stel_sigcatch(&set);
}
static int awaits(void *arg) {
    sigset_t set = set_of((int)(intptr_t)arg);
    return stel_sigwaitinfo(&set, NULL);
}
static void catch_after_fork(void) {
    EQ(sigcatch(SIGUSR1), -EPERM);
}

/* stel_sigcatch: from then on the signals are kept, from the first arrival, and do nothing else; -EINVAL -EAGAIN -ENOMEM
 * -EPERM. */
START_TEST(contract_stel_sigcatch) {
    static const int never[] = { SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, 0 };
    EQ(stel_sigcatch(NULL), -EINVAL);
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        EQ(sigcatch(never[i]), -EINVAL);
    for (int i = 0; i < 2; i++) {
        stel__fault_set(STEL__FAULT_PTHREAD_CREATE, 1, i ? EAGAIN : ENOMEM, true);
        EQ(sigcatch(SIGTERM), i ? -EAGAIN : -ENOMEM);
        stel__fault_clear();
    }
    OK(sigcatch(SIGTERM));
    EQ(kill(getpid(), SIGTERM), 0); /* it would end us */
    EQ(awaits(THE(SIGTERM)), SIGTERM);
    OK(sigcatch(SIGTERM));
    runtime(1);
    in_forked_child(catch_after_fork);
}
END_TEST

static void sigwaits(void) {
    siginfo_t info;
    sigset_t both = set_of(SIGUSR1), three, last = set_of(SIGRTMIN + 1);
    sigaddset(&both, SIGRTMIN);
    three = both;
    sigaddset(&three, SIGUSR2);
    EQ(stel_sigwaitinfo(&three, &info), -EINVAL); /* SIGUSR2 is never caught */
    EQ(stel_sigwaitinfo(NULL, &info), -EINVAL);
    OK(stel_sigcatch(&both));
    OK(stel_sigcatch(&last));
    EQ(stel_sigwaitinfo(&three, &info), -EINVAL);
    EQ(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 1 }), 0);
    EQ(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 2 }), 0);
    for (int i = 0; i < 2; i++) {
        EQ(kill(getpid(), SIGUSR1), 0);
        EQ(kill(getpid(), SIGRTMIN + 1), 0);
        EQ(awaits(THE(SIGRTMIN + 1)), SIGRTMIN + 1); /* the highest comes last: the others have been kept by now */
    }
    EQ(stel_sigwaitinfo(&both, &info), SIGUSR1); /* once: standard ones do not add up */
    EQ(info.si_pid, getpid());
    for (int i = 1; i <= 2; i++) {
        EQ(stel_sigwaitinfo(&both, &info), SIGRTMIN); /* real-time ones queue */
        EQ(info.si_value.sival_int, i);
    }
    obeys_limits(awaits, THE(SIGRTMIN));
    stel_fiber f[2] = { spawn(awaits, THE(SIGRTMIN)), spawn(awaits, THE(SIGRTMIN)) };
    check_fiber_nap();
    EQ(kill(getpid(), SIGRTMIN), 0);
    EVENTUALLY(stel_try_join(f[0], NULL) == 0 || (stel_try_join(f[1], NULL) == 0 && (f[1] = f[0])));
    check_fiber_nap();
    EQ(stel_try_join(f[1], NULL), -EAGAIN); /* each arrival to one of them */
    OK(stel_cancel(f[1]));
    EQ(join(f[1]), -ECANCELED);
}

/* stel_sigwaitinfo: a signal's number and what came with it; kept since it was caught; the lowest first; each arrival to
 * one waiter; -EINVAL for one that was not caught, -ETIMEDOUT -ECANCELED. */
START_TEST(contract_stel_sigwaitinfo) {
    sigset_t all;
    sigfillset(&all);
    EQ(pthread_sigmask(SIG_BLOCK, &all, NULL), 0); /* order is told where no thread lets them in */
    on_both(sigwaits);
}
END_TEST

/* ---- offloaded calls ---- */

static atomic_int begun, may_end;
static int adds_one(void *arg) {
    return atomic_fetch_add((atomic_int *)arg, 1) + 1;
}
static int blocks(void *arg) {
    (void)arg;
    atomic_fetch_add(&begun, 1);
    while (!atomic_load(&may_end))
        check_fiber_nap();
    return 42;
}
static int offloads(void *arg) {
    int result = -1;
    (void)arg;
    OK(stel_offload(&result, blocks, NULL));
    return result;
}
static int offload_of_cancelled(void *arg) {
    OK(stel_cancel(stel_self()));
    return stel_offload(NULL, adds_one, arg);
}
static int is_no_fiber(void *arg) {
    (void)arg;
    return stel_self() == 0;
}
static void offload_body(void) {
    static atomic_int n;
    int result = 0;
    atomic_store(&n, 0);
    OK(stel_offload(&result, adds_one, &n));
    EQ(result, 1);
    OK(stel_offload(NULL, adds_one, &n));
    EQ(atomic_load(&n), 2);
    OK(stel_offload(&result, is_no_fiber, NULL));
    EQ(result, 1);
    EQ(stel_offload(&result, NULL, NULL), -EINVAL);
    EQ(join(spawn(offload_of_cancelled, &n)), -ECANCELED); /* cut short while queued: not run */
    {
        STEL_TIMEOUT(LONG_PAST);
        EQ(stel_offload(NULL, adds_one, &n), -ETIMEDOUT);
    }
    EQ(atomic_load(&n), 2);
    atomic_store(&begun, 0);
    atomic_store(&may_end, 0);
    stel_fiber f = spawn(offloads, NULL);
    EVENTUALLY(atomic_load(&begun) == 1); /* others run meanwhile */
    OK(stel_cancel(f));
    EQ(stel_try_join(f, NULL), -EAGAIN);
    atomic_store(&may_end, 1);
    EQ(join(f), 42); /* not cut short once it runs */
}
static void offload_without_threads(void) {
    atomic_int n = 0;
    stel__fault_set(STEL__FAULT_PTHREAD_CREATE, 1, EAGAIN, true);
    EQ(stel_offload(NULL, adds_one, &n), -EAGAIN);
    stel__fault_clear();
    EQ(n, 0);
}
static int offload_without_memory(void *arg) {
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    int rc = stel_offload(NULL, adds_one, arg);
    stel__fault_clear();
    return rc;
}

/* stel_offload: fn on a thread of the pool; the worker runs others meanwhile; cut short only while queued, and then not
 * run; -EINVAL -EAGAIN -ENOMEM -ETIMEDOUT -ECANCELED. */
START_TEST(contract_stel_offload) {
    beside fresh; /* a thread's first wait needs memory */
    atomic_int n = 0;
    beside_start(&fresh, offload_without_memory, &n);
    EQ(beside_join(&fresh), -ENOMEM);
    EQ(n, 0);
    in_fiber(offload_without_threads);
    on_both(offload_body);
}
END_TEST

TEST_MAIN("contract/io_more", contract_stel_accept, contract_stel_accept4, contract_stel_connect, contract_stel_socket,
          contract_stel_local_address, contract_stel_peer_address, contract_STEL_ADDRESS_BYTES, contract_stel_wait_fd,
          contract_stel_poll, contract_stel_fd_release, contract_stel_write_all, contract_stel_read_full,
          contract_stel_listen, contract_stel_dial, contract_stel_getaddrinfo, contract_stel_waitpid,
          contract_stel_sigcatch, contract_stel_sigwaitinfo, contract_stel_offload)
