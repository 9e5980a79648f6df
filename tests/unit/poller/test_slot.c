/* Slots from inside: what the calls on descriptors can reach by luck only. */
#include "io_sides.h"
#include "poller/inside.h"
#include <errno.h>

static stel__slot *slot_of(int fd) {
    int error = 0;
    stel__slot *s = stel__slot_at(fd, &error);
    if (!s) FIBER_FAIL("no slot: %s", stel_strerror(error));
    return s;
}

/* ---- an edge between the system call and the park ---- */

static int edge_in_between(void *arg) {
    (void)arg;
    int fds[2];
    tcp_pair(fds);
    stel__slot *s = slot_of(fds[1]);
    stel__waiter *w = stel__waiter_self();
    STEL_TIMEOUT(STEL_SEC(30)); /* it would hang, if wrong */
    uint64_t token = stel__slot_token(s, fds[1]);

    stel__slot_mark mark = stel__slot_look(s);
    stel__slot_event(token, POLLIN);
    FIBER_ASSERT_EQ(stel__slot_wait(s, fds[1], w, mark, POLLIN, 0), STEL__SLOT_LOOK_AGAIN);
    mark = stel__slot_look(s);
    stel__slot_event(token, POLLOUT);
    FIBER_ASSERT_EQ(stel__slot_wait(s, fds[1], w, mark, POLLOUT, 0), STEL__SLOT_LOOK_AGAIN);
    mark = stel__slot_look(s);
    stel__slot_event(token, POLLHUP);
    FIBER_ASSERT_EQ(stel__slot_wait(s, fds[1], w, mark, POLLIN, 0), STEL__SLOT_LOOK_AGAIN);
    FIBER_ASSERT_EQ(stel__slot_wait(s, fds[1], w, mark, POLLOUT, 0), STEL__SLOT_LOOK_AGAIN);
    FIBER_ASSERT_EQ(stel__slot_wait(s, fds[1], w, mark, POLLPRI, 0), STEL__SLOT_LOOK_AGAIN);

    /* A close in between, even if the number is in use again. */
    mark = stel__slot_look(s);
    FIBER_OK(stel_close(fds[1]));
    FIBER_ASSERT_EQ(stel__slot_wait(s, fds[1], w, mark, POLLIN, 0), -EBADF);
    int others[8], n = 0, fd;
    while ((fd = (int)FIBER_OK(stel_socket(AF_INET, SOCK_STREAM, 0))) != fds[1]) {
        FIBER_ASSERT(n < 8);
        others[n++] = fd;
    }
    FIBER_ASSERT_EQ(stel__slot_wait(s, fds[1], w, mark, POLLIN, 0), -EBADF);
    FIBER_ASSERT_EQ(stel__load_relaxed(&s->newest), 0);
    while (n > 0)
        FIBER_OK(stel_close(others[--n]));
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
    return 0;
}

START_TEST(between_call_and_park) {
    on_all_kinds(edge_in_between);
}
END_TEST

/* ---- woken in one life, run in the next ---- */

static int read_one(void *arg) {
    char byte;
    return (int)stel_read(*(int *)arg, &byte, 1);
}

static int next_life(void *arg) {
    (void)arg;
    char address[64], byte;
    int fds[2], listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 4));
    side reader;
    snprintf(address, sizeof address, "127.0.0.1:%d", tcp_port_of(listener));
    tcp_pair(fds);
    int client = (int)FIBER_OK(stel_dial(address));
    FIBER_ASSERT_EQ(stel_write(client, "n", 1), 1);
    side_start(&reader, read_one, &fds[0]);
    AWAIT_PARKED(fds[0], 1);
    /* With one worker the reader, now runnable, does not run before the number is another connection with a byte in
     * it; with two it may find nothing and wait again first. */
    stel__slot_event(stel__slot_token(slot_of(fds[0]), fds[0]), POLLIN);
    FIBER_OK(stel_close(fds[0]));
    FIBER_ASSERT_EQ(stel_accept(listener, NULL, NULL), fds[0]);
    FIBER_ASSERT_EQ(side_join(&reader), -EBADF);
    FIBER_ASSERT_EQ(stel_read(fds[0], &byte, 1), 1);
    FIBER_OK(stel_close(client));
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
    FIBER_OK(stel_close(listener));
    return 0;
}

START_TEST(woken_too_early) {
    ck_assert_int_eq(run_in_runtime(1, next_life, NULL), 0);
}
END_TEST

/* ---- many waiters at once: more than the waker's room ---- */

static int everybody(void *arg) {
    enum { WAITERS = 3 * STEL__WAKES_ROOM + 1 };
    (void)arg;
    int fds[2];
    side waiters[WAITERS];
    for (int round = 0; round < 2; round++) {
        tcp_pair(fds);
        for (int i = 0; i < WAITERS; i++)
            side_start(&waiters[i], read_one, &fds[0]);
        AWAIT_PARKED(fds[0], WAITERS);
        if (round == 0)
            FIBER_OK(stel_close(fds[0]));
        else
            FIBER_OK(stel_close(fds[1])); /* the end of the stream is everybody's */
        for (int i = 0; i < WAITERS; i++)
            FIBER_ASSERT_EQ(side_join(&waiters[i]), round == 0 ? -EBADF : 0);
        FIBER_OK(stel_close(fds[round == 0 ? 1 : 0]));
    }
    return 0;
}

START_TEST(many_waiters) {
    on_all_kinds(everybody);
}
END_TEST

/* ---- the table ---- */

START_TEST(numbers) {
    int error = 0;
    ck_assert_ptr_null(stel__slot_at(-1, &error));
    ck_assert_int_eq(error, -EBADF);
    ck_assert_ptr_null(stel__slot_at(INT32_MAX, &error));
    ck_assert_int_eq(error, -EBADF);
    stel__slot *a = slot_of(1000000), *b = slot_of(1000001);
    ck_assert_ptr_eq(b, a + 1);
    ck_assert_ptr_eq(a, slot_of(1000000));
    ck_assert_uint_eq((uintptr_t)a % STEL__CACHE_LINE, 0);
    char byte;
    ck_assert_int_eq(stel_read(1000000, &byte, 1), -EBADF);
}
END_TEST

TEST_MAIN("poller/slot", between_call_and_park, woken_too_early, many_waiters, numbers)
