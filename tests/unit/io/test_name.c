/* Addresses and names: listen, dial, getaddrinfo. */
#include "host/fault.h"
#include "io_sides.h"
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>

static int bad_addresses(void *arg) {
    static const char *const bad[] = { "",       "127.0.0.1",  "127.0.0.1:",    "127.0.0.1:65536", "127.0.0.1:-1",
                                       ":",      "::1:80",     "[::1]",         "[::1]80",         "[]:80",
                                       "unix:",  "[::1:80",    "127.0.0.1:8 0", "1.2.3:80",        "localhost:80",
                                       "a.b:80", "1.2.3.4:80x" };
    (void)arg;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (stel_listen(bad[i], 1) != -EINVAL) FIBER_FAIL("listen on \"%s\"", bad[i]);
    static const char *const bad_to_dial[] = {
        "", "127.0.0.1", "127.0.0.1:", ":80", "::1:80", "[::1]", "[]:80", "unix:"
    };
    for (size_t i = 0; i < sizeof bad_to_dial / sizeof bad_to_dial[0]; i++)
        if (stel_dial(bad_to_dial[i]) != -EINVAL) FIBER_FAIL("dial \"%s\"", bad_to_dial[i]);
    FIBER_ASSERT_EQ(stel_listen(NULL, 1), -EINVAL);
    FIBER_ASSERT_EQ(stel_dial(NULL), -EINVAL);
    char longer[2000] = "unix:";
    memset(longer + 5, 'x', 200);
    FIBER_ASSERT_EQ(stel_listen(longer, 1), -ENAMETOOLONG);
    FIBER_ASSERT_EQ(stel_dial(longer), -ENAMETOOLONG);
    memset(longer, 'x', sizeof longer - 4);
    strcpy(longer + sizeof longer - 4, ":80");
    FIBER_ASSERT_EQ(stel_dial(longer), -ENAMETOOLONG);
    return 0;
}

START_TEST(not_an_address) {
    on_all_kinds(bad_addresses);
}
END_TEST

static void meet(const char *listen_at, const char *dial_format) {
    char address[256], byte;
    int listener = stel_listen(listen_at, 4);
    if (listener == -EAFNOSUPPORT || listener == -EADDRNOTAVAIL) return; /* no IPv6 here */
    FIBER_OK(listener);
    snprintf(address, sizeof address, dial_format, tcp_port_of(listener));
    int a = (int)FIBER_OK(stel_dial(address)), b = (int)FIBER_OK(stel_accept(listener, NULL, NULL));
    FIBER_ASSERT_EQ(stel_write(a, "1", 1), 1);
    FIBER_ASSERT_EQ(stel_read(b, &byte, 1), 1);
    FIBER_OK(stel_close(a));
    FIBER_OK(stel_close(b));
    FIBER_OK(stel_close(listener));
}

static int meetings(void *arg) {
    (void)arg;
    meet("127.0.0.1:0", "127.0.0.1:%d");
    meet("[::1]:0", "[::1]:%d");
    meet(":0", "127.0.0.1:%d");
    meet("0.0.0.0:0", "localhost:%d");
    meet(":0", "localhost:%d");
    /* A port that is taken; an address that is not ours. */
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 4));
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%d", tcp_port_of(listener));
    FIBER_ASSERT_EQ(stel_listen(address, 4), -EADDRINUSE);
    FIBER_ASSERT_EQ(stel_listen("192.0.2.1:0", 4), -EADDRNOTAVAIL);
    FIBER_OK(stel_close(listener));
    FIBER_ASSERT_EQ(stel_dial(address), -ECONNREFUSED);
    return 0;
}

START_TEST(listen_and_dial) {
    on_all_kinds(meetings);
}
END_TEST

static int names(void *arg) {
    (void)arg;
    struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST }, *found;
    FIBER_OK(stel_getaddrinfo("127.0.0.1", "80", &hints, &found));
    FIBER_ASSERT_EQ(((struct sockaddr_in *)(void *)found->ai_addr)->sin_port, htons(80));
    freeaddrinfo(found);
    FIBER_OK(stel_getaddrinfo("localhost", NULL, NULL, &found));
    freeaddrinfo(found);
    FIBER_ASSERT_EQ(stel_getaddrinfo("no digits", "80", &hints, &found), STEL_EAI(EAI_NONAME));
    FIBER_ASSERT_EQ(stel_getaddrinfo(NULL, NULL, &hints, &found), STEL_EAI(EAI_NONAME));
    hints.ai_family = 12345;
    FIBER_ASSERT_EQ(stel_getaddrinfo("127.0.0.1", "80", &hints, &found), STEL_EAI(EAI_FAMILY));
    FIBER_ASSERT_EQ(stel_getaddrinfo("a", "80", NULL, NULL), -EINVAL);
    stel__fault_set(STEL__FAULT_GETADDRINFO, 1, EAI_AGAIN, false);
    FIBER_ASSERT_EQ(stel_dial("stellane.invalid:80"), STEL_EAI(EAI_AGAIN));
    stel__fault_clear();
    STEL_TIMEOUT(-STEL_SEC(1));
    FIBER_ASSERT_EQ(stel_getaddrinfo("localhost", NULL, NULL, &found), -ETIMEDOUT);
    return 0;
}

START_TEST(resolving) {
    on_all_kinds(names);
}
END_TEST

TEST_MAIN("io/name", not_an_address, listen_and_dial, resolving)
