/* Looking for events before sleeping (poller_spin_ns): it happens while it pays, never when it is turned off, and rests by
 * itself. Seen by the polls that are counted, not by the clock. */
#include "check_fiber.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { EXCHANGES = 300 };

typedef struct line {
    int there[2], back[2];
} line;

static int answer(void *arg) {
    line *l = arg;
    char byte;
    while (stel_read(l->there[0], &byte, 1) == 1)
        FIBER_ASSERT_EQ(stel_write(l->back[1], &byte, 1), 1);
    return 0;
}

static uint64_t polls_of(stel_runtime *rt) {
    stel_stats s;
    FIBER_OK(stel_runtime_stats(rt, &s));
    return s.polls;
}

/* So many exchanges between this thread and a fiber: how many polls they took. */
static uint64_t polls_taken(int64_t spin_ns, bool *rests) {
    stel_config c;
    stel_runtime *rt;
    stel_fiber f;
    line l;
    char byte = 'x';
    stel_config_init(&c);
    c.worker_threads = 1;
    c.poller_spin_ns = spin_ns;
    FIBER_ASSERT(pipe(l.there) == 0 && pipe(l.back) == 0);
    FIBER_OK(stel_runtime_create(&rt, &c));
    FIBER_OK(stel_runtime_start(rt));
    FIBER_OK(stel_runtime_spawn(rt, &f, NULL, answer, &l));
    uint64_t before = polls_of(rt);
    for (int i = 0; i < EXCHANGES; i++)
        FIBER_ASSERT(write(l.there[1], &byte, 1) == 1 && read(l.back[0], &byte, 1) == 1);
    uint64_t taken = polls_of(rt) - before;
    /* Nothing happens any more: it must sleep, and not look again and again. */
    EVENTUALLY((before = polls_of(rt), check_fiber_nap(), polls_of(rt) - before <= 2));
    *rests = true;
    close(l.there[1]);
    FIBER_OK(stel_join(f, NULL));
    FIBER_OK(stel_runtime_stop(rt, 0));
    FIBER_OK(stel_runtime_destroy(rt));
    close(l.there[0]);
    close(l.back[0]);
    close(l.back[1]);
    return taken;
}

START_TEST(looks_again_and_rests) {
    bool rests = false;
    /* A long look has many polls to each event, however busy the machine. The guardian has a few, too. */
    uint64_t most = 0;
    for (int i = 0; i < 50 && most < 2 * EXCHANGES; i++) {
        uint64_t n = polls_taken(STEL_MS(1), &rests);
        if (n > most) most = n;
    }
    ck_assert_uint_ge(most, 2 * EXCHANGES);
    ck_assert(rests);
}
END_TEST

START_TEST(sleeps_at_once_when_told_to) {
    bool rests = false;
    uint64_t polls = polls_taken(-1, &rests);
    ck_assert_uint_lt(polls, 2 * EXCHANGES); /* one for each event, and the guardian's */
    ck_assert(rests);
}
END_TEST

START_TEST(may_be_changed) {
    stel_config c;
    stel_runtime *rt;
    stel_config_init(&c);
    c.worker_threads = 1;
    ck_assert_int_eq(c.poller_spin_ns, STEL_US(50));
    ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    c.poller_spin_ns = -1;
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), 0);
    ck_assert_int_eq(stel_runtime_get_config(rt, &c), 0);
    ck_assert_int_eq(c.poller_spin_ns, -1);
    c.poller_spin_ns = STEL_SEC(1);
    ck_assert_int_eq(stel_runtime_update_config(rt, &c), -EINVAL);
    ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    ck_assert_int_eq(setenv("STELLANE_RUNTIME_POLLER_SPIN", "none", 1), 0);
    ck_assert_int_eq(stel_config_from_env(&c), 0);
    ck_assert_int_eq(c.poller_spin_ns, -1);
    ck_assert_int_eq(setenv("STELLANE_RUNTIME_POLLER_SPIN", "20us", 1), 0);
    ck_assert_int_eq(stel_config_from_env(&c), 0);
    ck_assert_int_eq(c.poller_spin_ns, STEL_US(20));
    ck_assert_int_eq(setenv("STELLANE_RUNTIME_POLLER_SPIN", "adaptive", 1), 0);
    ck_assert_int_eq(stel_config_from_env(&c), 0);
    ck_assert_int_eq(c.poller_spin_ns, STEL_US(50));
    ck_assert_int_eq(setenv("STELLANE_RUNTIME_POLLER_SPIN", "20", 1), 0);
    ck_assert_int_eq(stel_config_from_env(&c), -EINVAL);
}
END_TEST

TEST_MAIN("runtime/spin", looks_again_and_rests, sleeps_at_once_when_told_to, may_be_changed)
