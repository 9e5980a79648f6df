#include "accept.h"
#include "../../common/bench.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>

static int the_listener, loop_count;
static void (*give_to)(int loop, int fd);

static void *accept_all(void *arg) {
    (void)arg;
    for (unsigned next = 0;; next++) {
        int one = 1, fd = accept4(the_listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        give_to((int)(next % (unsigned)loop_count), fd);
    }
    return NULL;
}

int accept_for(int loops, void (*give)(int loop, int fd)) {
    int port;
    pthread_t thread;
    the_listener = bench_listen(&port, 0);
    loop_count = loops;
    give_to = give;
    if (pthread_create(&thread, NULL, accept_all, NULL) != 0) bench_fail("no thread to accept");
    return port;
}
