/* Go's rules for select statements; see go_table.h. */
#include "go_table.h"

/* ---- what is taken ---- */

static void select_ready(game *g) {
    stel_chan *c = make(0), *other = make(0);
    player p;
    move m = { c, 42 };
    uint64_t v = 0, out = 43;
    player_start_asleep(&p, g, STEL__WAIT_CHAN_SEND, send_move, &m);
    stel_case receive[] = { STEL_CASE_RECV(other, &out), STEL_CASE_RECV(c, &v) };
    FIBER_ASSERT_EQ(stel_select(receive, 2, 0), 1);
    FIBER_ASSERT_EQ(receive[1].result, 0);
    FIBER_ASSERT_EQ(v, 42);
    FIBER_OK(player_join(&p));
    player_start_asleep(&p, g, STEL__WAIT_CHAN_RECV, receive_move, &m);
    stel_case send[] = { STEL_CASE_SEND(c, &out), STEL_CASE_RECV(other, &v) };
    FIBER_ASSERT_EQ(stel_select(send, 2, 0), 0);
    FIBER_ASSERT_EQ(send[0].result, 0);
    FIBER_OK(player_join(&p));
    FIBER_ASSERT_EQ(m.v, 43);
    stel_chan_destroy(c), stel_chan_destroy(other);
}

static void select_default(game *g) {
    stel_chan *c = make(0), *full = make(1);
    player p;
    move m = { c, 42 };
    uint64_t v = 0;
    put(full, 1);
    stel_case cases[] = { STEL_CASE_RECV(c, &v), STEL_CASE_SEND(full, &v), STEL_CASE_RECV(NULL, &v) };
    FIBER_ASSERT_EQ(stel_select(cases, 3, STEL_SELECT_NOWAIT), -EAGAIN);
    player_start_asleep(&p, g, STEL__WAIT_CHAN_SEND, send_move, &m);
    for (int i = 0; i < 2; i++) /* never the default while a case is ready */
        FIBER_ASSERT_EQ(stel_select(cases, 3, STEL_SELECT_NOWAIT), i == 0 ? 0 : -EAGAIN);
    FIBER_ASSERT_EQ(v, 42);
    FIBER_OK(player_join(&p));
    stel_chan_destroy(c), stel_chan_destroy(full);
}

static void select_waits(game *g) {
    stel_chan *a = make(0), *b = make(0);
    player p;
    for (int which = 0; which < 2; which++) {
        uint64_t in = 0, out = 7;
        choice s = { { STEL_CASE_RECV(a, &in), STEL_CASE_SEND(b, &out) }, 2 };
        player_start_asleep(&p, g, STEL__WAIT_SELECT, select_move, &s);
        if (which == 0)
            put(a, 42);
        else
            FIBER_ASSERT_EQ(get(b), 7);
        FIBER_ASSERT_EQ(player_join(&p), which);
        FIBER_ASSERT_EQ(s.cases[which].result, 0);
        FIBER_ASSERT_EQ(in, which == 0 ? 42 : 0);
        deserted(a), deserted(b); /* the case that was not taken has left nothing behind */
    }
    stel_chan_destroy(a), stel_chan_destroy(b);
}

static void select_one_of_ready(game *g) {
    (void)g;
    stel_chan *a = make(1), *b = make(1), *c = make(1);
    for (int i = 0; i < 50; i++) {
        uint64_t in_a = 0, in_b = 0, out = 3;
        put(a, 1), put(b, 2);
        stel_case cases[] = { STEL_CASE_RECV(a, &in_a), STEL_CASE_RECV(b, &in_b), STEL_CASE_SEND(c, &out) };
        int rc = stel_select(cases, 3, i % 2 ? STEL_SELECT_NOWAIT : 0);
        FIBER_OK(rc);
        FIBER_ASSERT_EQ(stel_chan_len(a), rc == 0 ? 0 : 1);
        FIBER_ASSERT_EQ(stel_chan_len(b), rc == 1 ? 0 : 1);
        FIBER_ASSERT_EQ(stel_chan_len(c), rc == 2 ? 1 : 0);
        FIBER_ASSERT_EQ(in_a, rc == 0 ? 1 : 0);
        FIBER_ASSERT_EQ(in_b, rc == 1 ? 2 : 0);
        while (stel_chan_try_recv(a, &out) == 0 || stel_chan_try_recv(b, &out) == 0 || stel_chan_try_recv(c, &out) == 0)
            continue;
    }
    stel_chan_destroy(a), stel_chan_destroy(b), stel_chan_destroy(c);
}

static int evaluations;
static stel_chan *evaluate(stel_chan *c) {
    evaluations++;
    return c;
}
static void *evaluate_element(uint64_t *v) {
    evaluations += 10;
    return v;
}

static void operands_once(game *g) {
    (void)g;
    stel_chan *c = make(1);
    uint64_t v = 1;
    evaluations = 0;
    stel_case cases[] = { STEL_CASE_SEND(evaluate(c), evaluate_element(&v)),
                          STEL_CASE_RECV(evaluate(NULL), evaluate_element(&v)) };
    FIBER_ASSERT_EQ(evaluations, 22); /* also those of the case that is not taken */
    FIBER_ASSERT_EQ(stel_select(cases, 2, 0), 0);
    FIBER_ASSERT_EQ(evaluations, 22);
    stel_chan_destroy(c);
}

/* Pearson's chi-squared for n equally likely outcomes. */
static void uniform(const unsigned *counts, unsigned n, unsigned draws) {
    double expected = (double)draws / n, sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
    /* The sum has mean n - 1 and deviation sqrt(2 (n - 1)): at ten deviations it is not chance, and with the fixed seed
     * it is the same at every run. */
    double excess = sum - (n - 1);
    if (excess > 0 && excess * excess > 100.0 * 2 * (n - 1)) FIBER_FAIL("chi-squared is %.1f for %u ways", sum, n);
}

/* NOWAIT, as it never yields: one worker's oracle is used throughout, or this thread's. */
static void fairness(game *g) {
    (void)g;
    enum { WAYS = 5, DRAWS = 5000 };
    stel_chan *c[WAYS];
    stel_case cases[WAYS];
    unsigned counts[WAYS] = { 0 };
    uint64_t v = 1, out = 2;
    stel__oracle_seed(stel__oracle_self(), 20240229);
    for (int i = 0; i < WAYS; i++) { /* of all kinds: element there, room there, closed */
        c[i] = make(1);
        if (i % 2 == 0) FIBER_OK(stel_chan_try_send(c[i], &v));
        if (i == WAYS - 1) FIBER_OK(stel_chan_close(c[i]));
        if (i == WAYS - 1) FIBER_OK(stel_chan_try_recv(c[i], &v));
        cases[i] = i % 2 == 0 ? STEL_CASE_RECV(c[i], &v) : STEL_CASE_SEND(c[i], &out);
    }
    for (int n = 0; n < DRAWS; n++) {
        int i = stel_select(cases, WAYS, STEL_SELECT_NOWAIT);
        FIBER_OK(i);
        counts[i]++;
        FIBER_ASSERT_EQ(cases[i].result, i == WAYS - 1 ? -EPIPE : 0);
        if (i < WAYS - 1) FIBER_OK(i % 2 == 0 ? stel_chan_try_send(c[i], &v) : stel_chan_try_recv(c[i], &v));
    }
    uniform(counts, WAYS, DRAWS);
    for (int i = 0; i < WAYS; i++)
        stel_chan_destroy(c[i]);
}

static void several_cases_of_one(game *g) {
    stel_chan *c = make(4);
    unsigned counts[3] = { 0 };
    stel__oracle_seed(stel__oracle_self(), 20240229);
    for (int n = 0; n < 3000; n++) {
        uint64_t v[3] = { 77, 77, 77 }, one = 1, two = 2;
        FIBER_OK(stel_chan_try_send(c, &one));
        FIBER_OK(stel_chan_try_send(c, &two));
        stel_case cases[] = { STEL_CASE_RECV(c, &v[0]), STEL_CASE_RECV(c, &v[1]), STEL_CASE_RECV(c, &v[2]) };
        int rc = stel_select(cases, 3, STEL_SELECT_NOWAIT);
        FIBER_OK(rc);
        counts[rc]++;
        for (int i = 0; i < 3; i++)
            FIBER_ASSERT_EQ(v[i], i == rc ? 1 : 77);
        FIBER_ASSERT_EQ(stel_chan_len(c), 1);
        FIBER_OK(stel_chan_try_recv(c, &one));
        FIBER_ASSERT_EQ(one, 2);
    }
    uniform(counts, 3, 3000);
    /* And when it has to wait: one element is taken, by one of them. */
    player p;
    uint64_t v[2] = { 77, 77 };
    choice s = { { STEL_CASE_RECV(c, &v[0]), STEL_CASE_RECV(c, &v[1]) }, 2 };
    player_start_asleep(&p, g, STEL__WAIT_SELECT, select_move, &s);
    put(c, 1);
    put(c, 2);
    int rc = player_join(&p);
    FIBER_OK(rc);
    FIBER_ASSERT_EQ(v[rc], 1);
    FIBER_ASSERT_EQ(v[1 - rc], 77);
    FIBER_ASSERT_EQ(get(c), 2);
    deserted(c);
    stel_chan_destroy(c);
}

static void not_with_oneself(game *g) {
    (void)g;
    stel_chan *c = make(0);
    uint64_t in = 77, out = 1;
    stel_case cases[] = { STEL_CASE_SEND(c, &out), STEL_CASE_RECV(c, &in) };
    FIBER_ASSERT_EQ(stel_select(cases, 2, STEL_SELECT_NOWAIT), -EAGAIN);
    WAITS(stel_select(cases, 2, 0));
    FIBER_ASSERT_EQ(in, 77);
    deserted(c);
    stel_chan_destroy(c);
}

/* Two selectors, each ready to send and to receive on the same channel: one sends what the other receives. */
static void two_selectors(game *g) {
    stel_chan *c = make(0);
    for (uint64_t round = test_scale(100); round > 0; round--) {
        uint64_t in[2] = { 77, 77 }, out[2] = { 10, 11 };
        choice partner = { { STEL_CASE_SEND(c, &out[1]), STEL_CASE_RECV(c, &in[1]) }, 2 };
        stel_case mine[] = { STEL_CASE_SEND(c, &out[0]), STEL_CASE_RECV(c, &in[0]) };
        player p;
        player_start(&p, g, select_move, &partner);
        int here = stel_select(mine, 2, 0);
        int there = player_join(&p);
        FIBER_OK(here);
        FIBER_ASSERT_EQ(there, 1 - here);
        FIBER_ASSERT_EQ(in[0], here == 1 ? 11 : 77);
        FIBER_ASSERT_EQ(in[1], there == 1 ? 10 : 77);
    }
    deserted(c);
    stel_chan_destroy(c);
}

/* Two selectors on the same two channels, named in opposite orders. */
static void crossing_selectors(game *g) {
    stel_chan *a = make(0), *b = make(0);
    for (uint64_t round = test_scale(100); round > 0; round--) {
        uint64_t in[2] = { 77, 77 }, out[2] = { 10, 11 };
        choice partner = { { STEL_CASE_RECV(b, &in[1]), STEL_CASE_RECV(a, &in[0]) }, 2 };
        stel_case mine[] = { STEL_CASE_SEND(a, &out[0]), STEL_CASE_SEND(b, &out[1]) };
        player p;
        player_start(&p, g, select_move, &partner);
        int here = stel_select(mine, 2, 0);
        int there = player_join(&p);
        FIBER_OK(here);
        FIBER_ASSERT_EQ(there, 1 - here);
        FIBER_ASSERT_EQ(in[here], out[here]);
        FIBER_ASSERT_EQ(in[1 - here], 77);
    }
    deserted(a), deserted(b);
    stel_chan_destroy(a), stel_chan_destroy(b);
}

static void select_closed(game *g) {
    (void)g;
    stel_chan *closed = make(2), *empty = make(0);
    uint64_t v = 77;
    put(closed, 1);
    FIBER_OK(stel_chan_close(closed));
    stel_case receive[] = { STEL_CASE_RECV(empty, &v), STEL_CASE_RECV(closed, &v) };
    FIBER_ASSERT_EQ(stel_select(receive, 2, 0), 1); /* what is left first */
    FIBER_ASSERT_EQ(receive[1].result, 0);
    FIBER_ASSERT_EQ(v, 1);
    v = 77;
    for (int i = 0; i < 4; i++) {
        FIBER_ASSERT_EQ(stel_select(receive, 2, i % 2 ? STEL_SELECT_NOWAIT : 0), 1);
        FIBER_ASSERT_EQ(receive[1].result, -EPIPE);
        FIBER_ASSERT_EQ(v, 77);
    }
    stel_case send[] = { STEL_CASE_SEND(closed, &v), STEL_CASE_SEND(empty, &v) };
    for (int i = 0; i < 4; i++) {
        FIBER_ASSERT_EQ(stel_select(send, 2, i % 2 ? STEL_SELECT_NOWAIT : 0), 0);
        FIBER_ASSERT_EQ(send[0].result, -EPIPE);
    }
    FIBER_ASSERT_EQ(stel_select(send, 1, 0), 0); /* the only case */
    FIBER_ASSERT_EQ(send[0].result, -EPIPE);
    stel_chan_destroy(closed), stel_chan_destroy(empty);
}

static void close_on_selectors(game *g) {
    for (int sends = 0; sends <= 1; sends++) {
        stel_chan *c = make(0), *other = make(0);
        player p;
        uint64_t v = 77;
        choice s = { { STEL_CASE_RECV(other, &v), stel_case_of(sends ? STEL_CASE_OP_SEND : STEL_CASE_OP_RECV, c, &v) },
                     2 };
        player_start_asleep(&p, g, STEL__WAIT_SELECT, select_move, &s);
        FIBER_OK(stel_chan_close(c));
        FIBER_ASSERT_EQ(player_join(&p), 1);
        FIBER_ASSERT_EQ(s.cases[1].result, -EPIPE);
        FIBER_ASSERT_EQ(v, 77);
        deserted(other);
        stel_chan_destroy(c), stel_chan_destroy(other);
    }
}

/* case <-time.After(d) */
static void select_timeout(game *g) {
    (void)g;
    stel_chan *a = make(0), *full = make(1);
    uint64_t v = 77;
    put(full, 1);
    stel_case cases[] = { STEL_CASE_RECV(a, &v), STEL_CASE_SEND(full, &v) };
    WAITS(stel_select(cases, 2, 0));
    FIBER_ASSERT_EQ(v, 77);
    FIBER_ASSERT_EQ(get(full), 1);
    deserted(a), deserted(full);
    stel_chan_destroy(a), stel_chan_destroy(full);
}

/* ---- the table ---- */

static const row select_rows[] = {
    { "select: a ready case is taken", select_ready },
    { "select: default when no case is ready, and only then", select_default },
    { "select: without default it waits for the first partner", select_waits },
    { "select: exactly one of the ready cases is done", select_one_of_ready },
    { "select: operands are evaluated once, of all cases", operands_once },
    { "select: the ready cases are equally likely, closed ones too", fairness },
    { "select: several cases on one channel", several_cases_of_one },
    { "select: send and receive on one channel do not meet themselves", not_with_oneself },
    { "select: two selects meet on one channel", two_selectors },
    { "select: two selects meet on two channels", crossing_selectors },
    { "select: a case on a closed channel is ready, a send with an error", select_closed },
    { "select: a close wakes it", close_on_selectors },
    { "select: cut short it has done nothing", select_timeout },
};

START_TEST(selecting) {
    PLAY(select_rows);
}
END_TEST

TEST_MAIN("sync/go_select", selecting)
