/* io_budget: a fiber whose calls never have to wait makes room for the others all the same. One worker: without the budget
 * the busy fiber would never leave it, and the test would hang. */
#include "check_fiber.h"
#include <sys/socket.h>

static _Atomic int others_ran;

static int other(void *arg) {
    (void)arg;
    others_ran = 1;
    return 0;
}

static int busy(void *arg) {
    int pair[2];
    char byte = 0;
    (void)arg;
    FIBER_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    others_ran = 0;
    FIBER_OK(stel_go(other, NULL));
    while (!others_ran) {
        FIBER_ASSERT_EQ(stel_send(pair[0], &byte, 1, 0), 1);
        FIBER_ASSERT_EQ(stel_recv(pair[1], &byte, 1, 0), 1); /* it is there already */
    }
    FIBER_OK(stel_close(pair[0]));
    FIBER_OK(stel_close(pair[1]));
    return 0;
}

START_TEST(makes_room) {
    ck_assert_int_eq(run_in_runtime(1, busy, NULL), 0);
}
END_TEST

TEST_MAIN("io/budget", makes_room)
