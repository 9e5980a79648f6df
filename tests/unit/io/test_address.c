/* stel_local_address and stel_peer_address: the text leads back to the same place. */
#include "check_fiber.h"
#include "host/fault.h"
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Listen, dial what local_address says of the listener, and look from both ends. */
static int there_and_back(void *arg) {
    char listens[STEL_ADDRESS_BYTES], here[STEL_ADDRESS_BYTES], there[STEL_ADDRESS_BYTES];
    int listener = (int)FIBER_OK(stel_listen(arg, 5));
    FIBER_OK(stel_local_address(listener, listens, sizeof listens));
    FIBER_ASSERT_EQ(stel_peer_address(listener, there, sizeof there), -ENOTCONN);
    int dialled = (int)FIBER_OK(stel_dial(listens)), accepted = (int)FIBER_OK(stel_accept(listener, NULL, NULL));
    FIBER_OK(stel_peer_address(dialled, there, sizeof there));
    FIBER_ASSERT(strcmp(there, listens) == 0);
    FIBER_OK(stel_local_address(dialled, here, sizeof here));
    FIBER_OK(stel_peer_address(accepted, there, sizeof there));
    FIBER_ASSERT(strcmp(there, here) == 0);
    for (size_t n = 0; n <= strlen(listens); n++)
        FIBER_ASSERT_EQ(stel_local_address(listener, there, n), -ENOSPC);
    FIBER_OK(stel_local_address(listener, there, strlen(listens) + 1));
    FIBER_OK(stel_close(dialled));
    FIBER_OK(stel_close(accepted));
    FIBER_OK(stel_close(listener));
    FIBER_ASSERT_EQ(stel_local_address(listener, there, sizeof there), -EBADF);
    return 0;
}

START_TEST(ipv4) {
    char text[] = "127.0.0.1:0";
    ck_assert_int_eq(run_in_runtime(1, there_and_back, text), 0);
}
END_TEST

START_TEST(ipv6) {
    char text[] = "[::1]:0";
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    if (fd < 0) {
        puts("not run: no IPv6 here");
        return;
    }
    close(fd);
    ck_assert_int_eq(run_in_runtime(1, there_and_back, text), 0);
}
END_TEST

START_TEST(local) {
    char path[] = "/tmp/stellane-address-XXXXXX", text[64];
    ck_assert_ptr_nonnull(mkdtemp(path));
    snprintf(text, sizeof text, "unix:%s/socket", path);
    ck_assert_int_eq(run_in_runtime(1, there_and_back, text), 0);
    ck_assert_int_eq(unlink(text + 5), 0);
    ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

START_TEST(names_that_are_none) {
    char text[STEL_ADDRESS_BYTES];
    int pair[2], pipes[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    ck_assert_int_eq(stel_local_address(pair[0], text, sizeof text), 0);
    ck_assert_str_eq(text, "unix:");
    ck_assert_int_eq(stel_peer_address(pair[0], text, sizeof text), 0);
    ck_assert_str_eq(text, "unix:");

    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un abstract = { .sun_family = AF_UNIX };
    memcpy(abstract.sun_path + 1, "stellane", 8);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&abstract, offsetof(struct sockaddr_un, sun_path) + 9), 0);
    ck_assert_int_eq(stel_local_address(fd, text, sizeof text), 0);
    ck_assert_str_eq(text, "unix:@stellane");

    memset(abstract.sun_path + 1, 'x', sizeof abstract.sun_path - 1); /* the longest */
    int longest = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(longest, (struct sockaddr *)&abstract, sizeof abstract), 0);
    ck_assert_int_eq(stel_local_address(longest, text, sizeof text), 0);
    ck_assert_uint_eq(strlen(text), 5 + sizeof abstract.sun_path);

    ck_assert_int_eq(pipe(pipes), 0);
    ck_assert_int_eq(stel_local_address(pipes[0], text, sizeof text), -ENOTSOCK);
    ck_assert_int_eq(stel_peer_address(pipes[0], text, sizeof text), -ENOTSOCK);
    ck_assert_int_eq(stel_local_address(-1, text, sizeof text), -EBADF);
    ck_assert_int_eq(stel_local_address(pair[0], NULL, 10), -EINVAL);
    ck_assert_int_eq(stel_peer_address(pair[0], NULL, 10), -EINVAL);
    stel__fault_set(STEL__FAULT_GETPEERNAME, 1, ENOBUFS, false);
    ck_assert_int_eq(stel_peer_address(pair[0], text, sizeof text), -ENOBUFS);
    stel__fault_clear();
    int netlink = socket(AF_NETLINK, SOCK_RAW, 0);
    if (netlink >= 0) ck_assert_int_eq(stel_local_address(netlink, text, sizeof text), -EAFNOSUPPORT);
}
END_TEST

TEST_MAIN("io/address", ipv4, ipv6, local, names_that_are_none)
