/* Dialling names, with a resolver of the test's own in getaddrinfo's place: it knows what each test needs. */
#include "io_sides.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>

static _Atomic int lists; /* given out and not freed */
static _Atomic bool gate_open;
static _Atomic int inside;

typedef struct entry {
    struct addrinfo info;
    struct sockaddr_in at;
} entry;

static struct addrinfo *push(struct addrinfo *rest, uint32_t address, const char *service) {
    entry *e = calloc(1, sizeof *e);
    e->at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(service)) };
    e->at.sin_addr.s_addr = htonl(address);
    e->info.ai_family = AF_INET;
    e->info.ai_socktype = SOCK_STREAM;
    e->info.ai_addr = (struct sockaddr *)&e->at;
    e->info.ai_addrlen = sizeof e->at;
    e->info.ai_next = rest;
    return &e->info;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    if (!hints || hints->ai_socktype != SOCK_STREAM) return EAI_BADFLAGS;
    if (strcmp(node, "nobody.test") == 0) return EAI_NONAME;
    if (strcmp(node, "slow.test") == 0) {
        inside++;
        while (!gate_open)
            usleep(1000);
        inside--;
    }
    struct addrinfo *list = push(NULL, INADDR_LOOPBACK, service); /* tried last */
    if (strcmp(node, "many.test") == 0) {
        list = push(list, INADDR_LOOPBACK + 2, service);
        list = push(list, INADDR_LOOPBACK + 1, service);
    }
    lists++;
    *out = list;
    return 0;
}

void freeaddrinfo(struct addrinfo *list) {
    if (list) lists--;
    while (list) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

static int dial_many(void *arg) {
    (void)arg;
    char address[64];
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 4));
    snprintf(address, sizeof address, "many.test:%d", tcp_port_of(listener));
    int fd = (int)FIBER_OK(stel_dial(address)); /* two refuse, the third takes it */
    FIBER_OK(stel_close(fd));
    FIBER_OK(stel_close(listener));
    FIBER_ASSERT_EQ(stel_dial(address), -ECONNREFUSED);
    FIBER_ASSERT_EQ(stel_dial("nobody.test:80"), STEL_EAI(EAI_NONAME));
    FIBER_ASSERT_EQ(lists, 0);
    return 0;
}

START_TEST(every_address) {
    int before = test_open_descriptors();
    on_all_kinds(dial_many);
    ck_assert_int_le(test_open_descriptors(), before + 1);
}
END_TEST

/* A resolver that does not come back costs nobody his deadline; what it finds in the end is freed. */
static int dial_slowly(void *arg) {
    (void)arg;
    gate_open = false;
    {
        STEL_TIMEOUT(STEL_MS(10));
        FIBER_ASSERT_EQ(stel_dial("slow.test:80"), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
    }
    gate_open = true;
    EVENTUALLY(inside == 0 && lists == 0);
    return 0;
}

START_TEST(slow_resolver) {
    on_all_kinds(dial_slowly);
}
END_TEST

TEST_MAIN("io/dial", every_address, slow_resolver)
