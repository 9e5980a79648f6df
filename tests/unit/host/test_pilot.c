/* Pilots: which of the two is armed for when, and that whoever gets none, or has lost one, goes on without. */
#include "host/fault.h"
#include "host/host.h"
#include "in_child.h"
#include <sys/timerfd.h>

enum { FAR_NS = 1000000000 };

/* Armed for this time, as the kernel sees it: what is left is between what was left before and after we asked. */
static void check_armed(int fd, int64_t at) {
    struct itimerspec left;
    int64_t before = stel__clock_now();
    ck_assert_int_eq(timerfd_gettime(fd, &left), 0);
    int64_t after = stel__clock_now(), ns = left.it_value.tv_sec * 1000000000 + left.it_value.tv_nsec;
    ck_assert_int_le(ns, at - before);
    ck_assert_int_ge(ns, at - after);
}

START_TEST(they_take_turns) {
    stel__pilots p = { 0 };
    int64_t start = stel__clock_now() + INT64_C(100) * FAR_NS;
    for (int i = 0; i < 6; i++) {
        int64_t until = start + (int64_t)i * FAR_NS, then = until + FAR_NS;
        stel__pilots_ahead(&p, until, then);
        ck_assert(p.made && !p.refused);
        check_armed(p.fd[i % 2], then);
        if (i > 0) check_armed(p.fd[1 - i % 2], until);
    }
    int fd[2] = { p.fd[0], p.fd[1] };
    stel__pilots_close(&p);
    stel__pilots_close(&p);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(stel__sys_close(fd[i]), -EBADF);
}
END_TEST

/* The second time has no pilot: it is a row of its own. */
START_TEST(a_row_begins_anew) {
    stel__pilots p = { 0 };
    int64_t now = stel__clock_now();
    stel__pilots_ahead(&p, now + FAR_NS, now + INT64_C(2) * FAR_NS);
    stel__pilots_ahead(&p, now + INT64_C(5) * FAR_NS, now + INT64_C(6) * FAR_NS);
    ck_assert(p.at[0] == now + INT64_C(6) * FAR_NS || p.at[1] == now + INT64_C(6) * FAR_NS);
    stel__pilots_close(&p);
}
END_TEST

START_TEST(none_to_be_had) {
    int lowest = stel__sys_eventfd(0, 0);
    ck_assert_int_eq(stel__sys_close(lowest), 0);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        stel__pilots p = { 0 };
        stel__fault_set(STEL__FAULT_TIMERFD_CREATE, nth, EMFILE, false);
        stel__pilots_ahead(&p, 1, 2);
        stel__fault_clear();
        ck_assert(p.refused && !p.made);
        stel__pilots_ahead(&p, 1, 2); /* it does not ask again */
        ck_assert(!p.made);
        stel__pilots_close(&p);
    }
    ck_assert_int_eq(stel__sys_eventfd(0, 0), lowest);
    stel__sys_close(lowest);
}
END_TEST

/* A program closed the descriptors, and the numbers are other files by now: they are left alone. */
START_TEST(somebody_closed_them) {
    stel__pilots p = { 0 };
    int64_t far = stel__clock_now() + FAR_NS;
    stel__pilots_ahead(&p, far, far + 1);
    int fd[2] = { p.fd[0], p.fd[1] };
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(stel__sys_close(fd[i]), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(stel__sys_eventfd(0, 0), fd[i]);
    stel__pilots_ahead(&p, far + 1, far + 2);
    ck_assert(p.refused);
    stel__pilots_close(&p);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(stel__sys_close(fd[i]), 0);
}
END_TEST

TEST_MAIN("host/pilot", they_take_turns, a_row_begins_anew, none_to_be_had, somebody_closed_them)
