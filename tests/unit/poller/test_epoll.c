/* The epoll backend through its table, and pollers without descriptors. */
#include "check_fiber.h"
#include "host/fault.h"
#include "poller/inside.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static const stel_backend_ops *const ops = &stel__epoll_ops;

enum { ALL = POLLIN | POLLOUT | POLLPRI | POLLRDHUP };

static int create(stel__pollers **p, const char *backend, int batch) {
    const stel__pollers_options o = { .backend = backend, .workers = 1, .batch = batch };
    return stel__pollers_create(p, &o);
}

static void *fresh(int batch) {
    void *e = NULL;
    FIBER_OK(ops->create(&e, batch));
    return e;
}

START_TEST(edges) {
    void *e = fresh(8);
    stel_backend_event events[8];
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    ck_assert_int_eq(ops->wait(e, events, 8, 0), 0);
    ck_assert_int_eq(ops->arm(e, fds[0], ALL, 77), 0);
    ck_assert_int_eq(ops->arm(e, fds[0], ALL, 78), -EEXIST);
    /* What is ready when it is armed is told; once. */
    ck_assert_int_eq(ops->wait(e, events, 8, STEL_FOREVER), 1);
    ck_assert_uint_eq(events[0].token, 77);
    ck_assert_int_eq(events[0].kind, STEL_EVENT_READY);
    ck_assert_int_eq(events[0].result, POLLOUT);
    ck_assert_int_eq(ops->wait(e, events, 8, 0), 0);
    ck_assert_int_eq(write(fds[1], "a", 1), 1);
    ck_assert_int_eq(ops->wait(e, events, 8, STEL_FOREVER), 1);
    ck_assert_int_eq(events[0].result, POLLIN | POLLOUT);
    ck_assert_int_eq(ops->wait(e, events, 8, 0), 0);
    ck_assert_int_eq(write(fds[1], "b", 1), 1); /* another edge, though nothing was read */
    ck_assert_int_eq(ops->wait(e, events, 8, 0), 1);
    close(fds[1]);
    ck_assert_int_eq(ops->wait(e, events, 8, 0), 1);
    ck_assert(events[0].result & POLLRDHUP);
    ck_assert_int_eq(ops->disarm(e, fds[0]), 0);
    ck_assert_int_eq(ops->disarm(e, fds[0]), -ENOENT);
    close(fds[0]);
    ck_assert_int_eq(ops->arm(e, fds[0], ALL, 1), -EBADF);
    int file = open("/proc/self/exe", O_RDONLY);
    ck_assert_int_eq(ops->arm(e, file, ALL, 1), -EPERM);
    close(file);
    ops->destroy(e);
}
END_TEST

START_TEST(batches) {
    enum { PAIRS = 10 };
    void *e = fresh(4);
    stel_backend_event events[PAIRS];
    int fds[PAIRS][2];
    unsigned seen = 0;
    for (unsigned i = 0; i < PAIRS; i++) {
        ck_assert_int_eq(pipe(fds[i]), 0);
        ck_assert_int_eq(ops->arm(e, fds[i][0], ALL, i), 0);
        ck_assert_int_eq(write(fds[i][1], "x", 1), 1);
    }
    for (int n; (n = ops->wait(e, events, 4, 0)) > 0;) {
        ck_assert_int_le(n, 4);
        for (int i = 0; i < n; i++)
            seen |= 1u << events[i].token;
    }
    ck_assert_uint_eq(seen, (1u << PAIRS) - 1);
    for (unsigned i = 0; i < PAIRS; i++)
        ck_assert_int_eq(write(fds[i][1], "x", 1), 1);
    /* More than it was made for: it grows; without memory for that it gives what it has room for. */
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, false);
    ck_assert_int_eq(ops->wait(e, events, PAIRS, 0), 4);
    stel__fault_clear();
    ck_assert_int_eq(ops->wait(e, events, PAIRS, 0), PAIRS - 4);
    ops->destroy(e);
}
END_TEST

static void *interrupter(void *e) {
    ops->interrupt(e);
    return NULL;
}

START_TEST(interrupts_and_time) {
    void *e = fresh(4);
    stel_backend_event events[4];
    pthread_t t;
    /* One that comes while nobody waits is for the next wait. */
    ops->interrupt(e);
    ck_assert_int_eq(ops->wait(e, events, 4, STEL_FOREVER), 0);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(pthread_create(&t, NULL, interrupter, e), 0);
        ck_assert_int_eq(ops->wait(e, events, 4, STEL_FOREVER), 0);
        pthread_join(t, NULL);
    }
    int64_t before = stel_now();
    ck_assert_int_eq(ops->wait(e, events, 4, before + STEL_MS(10)), 0);
    ck_assert(stel_now() - before >= STEL_MS(10));
    ck_assert_int_eq(ops->wait(e, events, 4, before), 0); /* passed already */
    ops->destroy(e);
}
END_TEST

START_TEST(no_room) {
    stel__pollers *p = NULL;
    stel__fault_set(STEL__FAULT_EPOLL_CREATE1, 1, EMFILE, false);
    ck_assert_int_eq(create(&p, "epoll", 32), -EMFILE);
    stel__fault_set(STEL__FAULT_EVENTFD, 1, ENFILE, false);
    ck_assert_int_eq(create(&p, "auto", 32), -ENFILE);
    stel__fault_set(STEL__FAULT_EPOLL_CTL, 1, ENOSPC, false);
    ck_assert_int_eq(create(&p, NULL, 32), -ENOSPC);
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, false);
    ck_assert_int_eq(create(&p, NULL, 32), -ENOMEM);
    stel__fault_set(STEL__FAULT_ALLOC, 2, ENOMEM, false);
    ck_assert_int_eq(create(&p, NULL, 32), -ENOMEM);
    stel__fault_clear();
    ck_assert_int_eq(create(&p, "no such thing", 32), -EINVAL);
    ck_assert_int_eq(create(&p, NULL, 0), -EINVAL);
    ck_assert_int_eq(create(&p, NULL, 1000000), -EINVAL);
    ck_assert_ptr_null(p);
    int descriptors = test_open_descriptors();
    ck_assert_int_eq(create(&p, "", 32), 0);
    ck_assert_str_eq(stel__pollers_backend(p), "epoll");
    ck_assert_int_eq(test_open_descriptors(), descriptors + 2);
    stel__pollers_destroy(p);
    ck_assert_int_eq(test_open_descriptors(), descriptors);
}
END_TEST

TEST_MAIN("poller/epoll", edges, batches, interrupts_and_time, no_room)
