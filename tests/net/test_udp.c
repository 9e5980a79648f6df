/* A time server over UDP, IPv4 and IPv6: one socket served by several fibers, clients that are fibers and threads, a
 * client that gives up on an answer that never comes. */
#include "io_sides.h"
#include <arpa/inet.h>
#include <netinet/in.h>

enum { SERVERS = 3, CLIENTS = 20, QUESTIONS = 20 };

typedef struct service {
    int family, fd;
    struct sockaddr_storage at;
    socklen_t length;
    _Atomic long answered;
} service;

static void set_port(struct sockaddr_storage *a, int port) {
    uint16_t big = htons((uint16_t)port);
    memcpy((char *)a + 2, &big, sizeof big); /* at the same place in both families */
}

static bool service_open(service *s, int family) {
    memset(s, 0, sizeof *s);
    s->family = family;
    s->at.ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        ((struct sockaddr_in *)&s->at)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        s->length = sizeof(struct sockaddr_in);
    } else {
        ((struct sockaddr_in6 *)&s->at)->sin6_addr = in6addr_loopback;
        s->length = sizeof(struct sockaddr_in6);
    }
    s->fd = stel_socket(family, SOCK_DGRAM, 0);
    if (s->fd < 0) return false;
    if (bind(s->fd, (struct sockaddr *)&s->at, s->length) < 0) {
        FIBER_OK(stel_close(s->fd));
        return false;
    }
    set_port(&s->at, tcp_port_of(s->fd));
    return true;
}

/* "lost" is not answered; anything else comes back behind its length. */
static int serve(void *arg) {
    service *s = arg;
    char question[256], answer[300];
    for (;;) {
        struct sockaddr_storage from;
        socklen_t length = sizeof from;
        ssize_t n = stel_recvfrom(s->fd, question, sizeof question, 0, (struct sockaddr *)&from, &length);
        if (n < 0) return (int)n;
        if (n == 4 && memcmp(question, "lost", 4) == 0) continue;
        int bytes = snprintf(answer, sizeof answer, "%d:", (int)n);
        memcpy(answer + bytes, question, (size_t)n);
        FIBER_ASSERT_EQ(stel_sendto(s->fd, answer, (size_t)(bytes + n), 0, (struct sockaddr *)&from, length),
                        bytes + n);
        s->answered++;
    }
}

static int client(void *arg) {
    const service *s = arg;
    int fd = (int)FIBER_OK(stel_socket(s->family, SOCK_DGRAM, 0));
    FIBER_OK(stel_connect(fd, (const struct sockaddr *)&s->at, s->length));
    for (int i = 0; i < QUESTIONS; i++) {
        char question[256], answer[300], want[8];
        size_t n = (size_t)(i * 12); /* the first one is empty */
        memset(question, 'a' + i, sizeof question);
        int bytes = snprintf(want, sizeof want, "%d:", (int)n);
        ssize_t got = -ETIMEDOUT;
        while (got == -ETIMEDOUT) { /* UDP may lose what a queue has no room for: ask again */
            FIBER_ASSERT_EQ(stel_send(fd, question, n, 0), (ssize_t)n);
            STEL_TIMEOUT(STEL_SEC(2));
            got = stel_recvfrom(fd, answer, sizeof answer, 0, NULL, NULL);
        }
        FIBER_ASSERT_EQ(got, bytes + (ssize_t)n);
        FIBER_ASSERT_EQ(memcmp(answer, want, (size_t)bytes), 0);
        FIBER_ASSERT_EQ(memcmp(answer + bytes, question, n), 0);
    }
    FIBER_ASSERT_EQ(stel_send(fd, "lost", 4, 0), 4);
    STEL_TIMEOUT(STEL_MS(10));
    char byte;
    FIBER_ASSERT_EQ(stel_recv(fd, &byte, 1, 0), -ETIMEDOUT);
    FIBER_ASSERT(stel_timed_out());
    return stel_close(fd);
}

static void *client_thread(void *s) {
    return (void *)(intptr_t)client(s);
}

static int talk(void *arg) {
    service *s = arg;
    side servers[SERVERS], clients[CLIENTS];
    pthread_t threads[2];
    for (int i = 0; i < SERVERS; i++)
        side_start(&servers[i], serve, s);
    for (int i = 0; i < 2; i++)
        FIBER_ASSERT_EQ(pthread_create(&threads[i], NULL, client_thread, s), 0);
    for (int i = 0; i < CLIENTS; i++)
        side_start(&clients[i], client, s);
    for (int i = 0; i < CLIENTS; i++)
        FIBER_ASSERT_EQ(side_join(&clients[i]), 0);
    EVENTUALLY(s->answered >= (CLIENTS + 2) * QUESTIONS);
    for (int i = 0; i < 2; i++)
        FIBER_ASSERT_EQ(pthread_join(threads[i], NULL), 0);
    AWAIT_PARKED(s->fd, SERVERS);
    FIBER_OK(stel_close(s->fd));
    for (int i = 0; i < SERVERS; i++)
        FIBER_ASSERT_EQ(side_join(&servers[i]), -EBADF);
    return 0;
}

static void over(int family, const char *without) {
    for (int workers = 1; workers <= 2; workers++) {
        service s;
        if (!service_open(&s, family)) {
            printf("net/udp: left out because %s\n", without);
            return;
        }
        ck_assert_int_eq(run_in_runtime(workers, talk, &s), 0);
    }
}

START_TEST(ipv4) {
    over(AF_INET, "127.0.0.1 cannot be bound to");
}
END_TEST

START_TEST(ipv6) {
    over(AF_INET6, "::1 cannot be bound to: no IPv6 here");
}
END_TEST

TEST_MAIN("net/udp", ipv4, ipv6)
