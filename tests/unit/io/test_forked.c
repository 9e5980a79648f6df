/* After fork the child may exec or _exit: every call of this room says -EPERM there, and touches nothing of the parent's,
 * whatever was going on in the parent. */
#include "io_sides.h"
#include <netdb.h>
#include <sys/wait.h>

static int nothing(void *arg) {
    (void)arg;
    return 0;
}

static struct addrinfo *found;

/* In the child: the number of the first call that says anything else, or 0. */
static int first_that_dares(int fd, int other) {
    char byte = 0;
    size_t done;
    struct iovec iov = { &byte, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    struct sockaddr_storage address = { .ss_family = AF_INET };
    socklen_t length = sizeof address;
    sigset_t set;
    int status;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    const long codes[] = {
        stel_read(fd, &byte, 1),
        stel_write(fd, &byte, 1),
        stel_readv(fd, &iov, 1),
        stel_writev(fd, &iov, 1),
        stel_pread(fd, &byte, 1, 0),
        stel_pwrite(fd, &byte, 1, 0),
        stel_recv(fd, &byte, 1, 0),
        stel_send(fd, &byte, 1, 0),
        stel_recvfrom(fd, &byte, 1, 0, NULL, NULL),
        stel_sendto(fd, &byte, 1, 0, NULL, 0),
        stel_recvmsg(fd, &m, 0),
        stel_sendmsg(fd, &m, 0),
        stel_sendfile(fd, other, NULL, 1),
        stel_splice(other, NULL, fd, NULL, 1, 0),
        stel_accept(fd, NULL, NULL),
        stel_accept4(fd, (struct sockaddr *)&address, &length, 0),
        stel_connect(fd, (struct sockaddr *)&address, length),
        stel_socket(AF_INET, SOCK_STREAM, 0),
        stel_open("/dev/null", O_RDONLY, 0),
        stel_fsync(fd),
        stel_fdatasync(fd),
        stel_wait_fd(fd, POLLOUT),
        stel_poll(&p, 1, 0),
        stel_poll(&p, 1, -1),
        stel_fd_release(fd),
        stel_close(fd),
        stel_write_all(fd, &byte, 1, &done),
        stel_read_full(fd, &byte, 1, &done),
        stel_listen("127.0.0.1:0", 1),
        stel_dial("127.0.0.1:1"),
        stel_getaddrinfo("127.0.0.1", "1", NULL, &found),
        stel_waitpid(-1, &status, 0),
        stel_waitpid(-1, &status, WNOHANG),
        stel_sigcatch(&set),
        stel_sigwaitinfo(&set, NULL),
        stel_offload(NULL, nothing, NULL),
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i] != -EPERM) return (int)i + 1;
    return fcntl(fd, F_GETFD) < 0 ? 100 : 0; /* not closed either */
}

static int read_one(void *arg) {
    char byte = 0;
    return stel_read(*(int *)arg, &byte, 1) == 1 ? byte : -1;
}

static int fork_here(void *arg) {
    (void)arg;
    int fds[2], status;
    side reader;
    tcp_pair(fds);
    side_start(&reader, read_one, &fds[0]);
    AWAIT_PARKED(fds[0], 1);
    pid_t pid = fork();
    FIBER_ASSERT(pid >= 0);
    if (pid == 0) _exit(first_that_dares(fds[0], fds[1]));
    FIBER_ASSERT_EQ(waitpid(pid, &status, 0), pid);
    FIBER_ASSERT(WIFEXITED(status));
    FIBER_ASSERT_EQ(WEXITSTATUS(status), 0); /* else: the number of the call */
    FIBER_ASSERT_EQ(stel_write(fds[1], "p", 1), 1);
    FIBER_ASSERT_EQ(side_join(&reader), 'p');
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
    return 0;
}

/* In a process that has never had a runtime: each test has a process of its own. */
START_TEST(without_a_runtime) {
    fork_here(NULL);
}
END_TEST

START_TEST(every_call) {
    on_all_kinds(fork_here);
}
END_TEST

TEST_MAIN("io/forked", without_a_runtime, every_call)
