/* The contract of stellane/chan.h: channels and select. */
#include "contract.h"

static stel_chan *channel(size_t element_bytes, size_t capacity) {
    stel_chan *c = NULL;
    OK(stel_chan_create(&c, element_bytes, capacity));
    return c;
}
static void put(stel_chan *c, int value) {
    OK(stel_chan_send(c, &value));
}
static int take(stel_chan *c) {
    int value = -1;
    OK(stel_chan_recv(c, &value));
    return value;
}
static int receives(void *arg) {
    int value = -1, rc = stel_chan_recv(arg, &value);
    return rc < 0 ? rc : value;
}
static int sends_7(void *arg) {
    int value = 7;
    return stel_chan_send(arg, &value);
}
static void let_them_wait(void) {
    for (int i = 0; i < 3; i++)
        stel_self() ? stel_yield() : check_fiber_nap();
}

/* stel_chan_create: a channel with one reference; elements of 0 bytes are signals; -EINVAL -ENOMEM. */
ON_BOTH(contract_stel_chan_create) {
    stel_chan *c = NULL;
    EQ(stel_chan_create(NULL, 1, 1), -EINVAL);
    EQ(stel_chan_create(&c, 65537, 1), -EINVAL);
    EQ(stel_chan_create(&c, 65536, SIZE_MAX / 4), -EINVAL);
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    EQ(stel_chan_create(&c, 8, 8), -ENOMEM);
    stel__fault_clear();
    IS(!c);
    c = channel(0, 1);
    OK(stel_chan_send(c, NULL));
    OK(stel_chan_recv(c, NULL));
    stel_chan_destroy(c);
    c = channel(65536, 1);
    stel_chan_destroy(c);
}

/* stel_chan_retain: one more reference, and the channel is returned; NULL is allowed. */
ON_BOTH(contract_stel_chan_retain) {
    stel_chan *c = channel(sizeof(int), 1);
    IS(stel_chan_retain(c) == c);
    stel_chan_destroy(c);
    put(c, 5); /* still there */
    EQ(take(c), 5);
    stel_chan_destroy(c);
    IS(stel_chan_retain(NULL) == NULL);
}

static void destroy_under_a_wait(void) {
    stel_chan *c = channel(sizeof(int), 0);
    stel_fiber f = spawn(receives, c);
    (void)f;
    let_them_wait();
    stel_chan_destroy(c); /* whoever waits must hold a reference */
}
static void destroys_under_a_wait(void) {
    in_fiber(destroy_under_a_wait);
}
static void destroys(void) {
    stel_chan_destroy(NULL);
    stel_chan *c = channel(sizeof(int), 4);
    put(c, 1);
    stel_chan_destroy(c); /* with what is in it: leak checkers see to it */
}

/* stel_chan_destroy: gives a reference back, the last frees the channel with what is in it; NULL is allowed; while
 * somebody waits on it, the last one aborts. */
START_TEST(contract_stel_chan_destroy) {
    must_abort(destroys_under_a_wait, "stel_chan_destroy");
    on_both(destroys);
}
END_TEST

/* stel_chan_send: copies in, in order; waits while full, rendezvous without capacity; -EPIPE -EINVAL -ETIMEDOUT
 * -ECANCELED, and nothing was sent. */
ON_BOTH(contract_stel_chan_send) {
    stel_chan *c = channel(sizeof(int), 2);
    put(c, 1);
    put(c, 2);
    obeys_limits(sends_7, c);
    EQ(stel_chan_send(c, NULL), -EINVAL);
    stel_fiber f = spawn(sends_7, c);
    let_them_wait();
    EQ(stel_try_join(f, NULL), -EAGAIN); /* full */
    EQ(take(c), 1);
    EQ(join(f), 0);
    EQ(take(c), 2);
    EQ(take(c), 7);
    EQ(stel_chan_len(c), 0);
    OK(stel_chan_close(c));
    EQ(sends_7(c), -EPIPE);
    stel_chan_destroy(c);
    c = channel(sizeof(int), 0);
    f = spawn(sends_7, c);
    let_them_wait();
    EQ(stel_try_join(f, NULL), -EAGAIN); /* returns when a receiver has it */
    EQ(take(c), 7);
    EQ(join(f), 0);
    obeys_limits(sends_7, NULL); /* Go's nil channel */
    stel_chan_destroy(c);
}

/* stel_chan_recv: copies out, in order; waits while empty; a closed one is drained, then -EPIPE; -EINVAL -ETIMEDOUT
 * -ECANCELED, and nothing was taken. */
ON_BOTH(contract_stel_chan_recv) {
    stel_chan *c = channel(sizeof(int), 2);
    obeys_limits(receives, c);
    stel_fiber f = spawn(receives, c);
    let_them_wait();
    EQ(stel_try_join(f, NULL), -EAGAIN);
    put(c, 1);
    EQ(join(f), 1);
    EQ(stel_chan_recv(c, NULL), -EINVAL);
    put(c, 2);
    put(c, 3);
    OK(stel_chan_close(c));
    EQ(take(c), 2);
    EQ(take(c), 3);
    EQ(receives(c), -EPIPE);
    stel_chan_destroy(c);
    obeys_limits(receives, NULL);
}

/* stel_chan_try_send: without waiting; -EAGAIN -EPIPE -EINVAL. */
ON_BOTH(contract_stel_chan_try_send) {
    stel_chan *c = channel(sizeof(int), 1), *meeting = channel(sizeof(int), 0);
    int value = 4;
    OK(stel_chan_try_send(c, &value));
    EQ(stel_chan_try_send(c, &value), -EAGAIN);
    EQ(stel_chan_try_send(c, NULL), -EINVAL);
    EQ(stel_chan_try_send(NULL, &value), -EINVAL);
    OK(stel_chan_close(c));
    EQ(stel_chan_try_send(c, &value), -EPIPE);
    EQ(stel_chan_try_send(meeting, &value), -EAGAIN);
    stel_fiber f = spawn(receives, meeting);
    EVENTUALLY(stel_chan_try_send(meeting, &value) == 0); /* once a receiver waits */
    EQ(join(f), 4);
    stel_chan_destroy(c);
    stel_chan_destroy(meeting);
}

/* stel_chan_try_recv: without waiting; -EAGAIN, drains, then -EPIPE; -EINVAL. */
ON_BOTH(contract_stel_chan_try_recv) {
    stel_chan *c = channel(sizeof(int), 1), *meeting = channel(sizeof(int), 0);
    int value = 4;
    EQ(stel_chan_try_recv(c, &value), -EAGAIN);
    EQ(stel_chan_try_recv(c, NULL), -EINVAL);
    EQ(stel_chan_try_recv(NULL, &value), -EINVAL);
    put(c, 6);
    OK(stel_chan_close(c));
    OK(stel_chan_try_recv(c, &value));
    EQ(value, 6);
    EQ(stel_chan_try_recv(c, &value), -EPIPE);
    EQ(stel_chan_try_recv(meeting, &value), -EAGAIN);
    stel_fiber f = spawn(sends_7, meeting);
    EVENTUALLY(stel_chan_try_recv(meeting, &value) == 0);
    EQ(value, 7);
    EQ(join(f), 0);
    stel_chan_destroy(c);
    stel_chan_destroy(meeting);
}

/* stel_chan_close: senders and receivers that wait get -EPIPE; the second time -EPIPE; -EINVAL. */
ON_BOTH(contract_stel_chan_close) {
    stel_chan *c = channel(sizeof(int), 0), *d = channel(sizeof(int), 0);
    stel_fiber sender = spawn(sends_7, c), receiver = spawn(receives, d);
    let_them_wait();
    OK(stel_chan_close(c));
    OK(stel_chan_close(d));
    EQ(join(sender), -EPIPE);
    EQ(join(receiver), -EPIPE);
    EQ(stel_chan_close(c), -EPIPE);
    EQ(stel_chan_close(NULL), -EINVAL);
    stel_chan_destroy(c);
    stel_chan_destroy(d);
}

/* stel_chan_len: how many elements are buffered; 0 for NULL. */
ON_BOTH(contract_stel_chan_len) {
    stel_chan *c = channel(sizeof(int), 3);
    EQ(stel_chan_len(c), 0);
    put(c, 1);
    put(c, 2);
    EQ(stel_chan_len(c), 2);
    EQ(take(c), 1);
    EQ(stel_chan_len(c), 1);
    EQ(stel_chan_len(NULL), 0);
    stel_chan_destroy(c);
}

static int selects_on(void *arg) {
    int value = -1;
    stel_case cases[] = { STEL_CASE_RECV(arg, &value), STEL_CASE_RECV(NULL, &value) };
    int rc = stel_select(cases, 2, 0);
    return rc < 0 ? rc : value;
}
static void select_fairly(void) {
    enum { ROUNDS = 400 };
    stel_chan *a = channel(sizeof(int), ROUNDS), *b = channel(sizeof(int), ROUNDS);
    int value, taken[2] = { 0, 0 };
    for (int i = 0; i < ROUNDS; i++) {
        put(a, 0);
        put(b, 1);
    }
    for (int i = 0; i < ROUNDS; i++) {
        stel_case cases[] = { STEL_CASE_RECV(a, &value), STEL_CASE_RECV(b, &value) };
        int index = stel_select(cases, 2, 0);
        EQ(index, value);
        taken[index]++;
    }
    IS(taken[0] > ROUNDS / 4 && taken[1] > ROUNDS / 4); /* by chance: never, in a lifetime of runs */
    stel_chan_destroy(a);
    stel_chan_destroy(b);
}
static void select_refuses(stel_chan *c) {
    static stel_case many[1025];
    int value;
    stel_case one = STEL_CASE_RECV(c, &value);
    EQ(stel_select(&one, 1, STEL_SELECT_NOWAIT), -EAGAIN);
    EQ(stel_select(NULL, 1, STEL_SELECT_NOWAIT), -EINVAL);
    EQ(stel_select(NULL, 0, STEL_SELECT_NOWAIT), -EAGAIN);
    EQ(stel_select(many, 1025, STEL_SELECT_NOWAIT), -EINVAL);
    EQ(stel_select(&one, 1, 1u << 1), -EINVAL);
    one.element = NULL;
    EQ(stel_select(&one, 1, 0), -EINVAL);
    one = STEL_CASE_RECV(c, &value);
    one.op = 0;
    EQ(stel_select(&one, 1, 0), -EINVAL);
}

/* stel_select: does one case that can go on and returns its index, fair among the ready; a closed channel is ready with
 * -EPIPE, a NULL one never; -EAGAIN -EINVAL -ETIMEDOUT -ECANCELED, and no case was done. */
ON_BOTH(contract_stel_select) {
    stel_chan *c = channel(sizeof(int), 0), *closed = channel(sizeof(int), 0);
    int value = 3;
    select_refuses(c);
    select_fairly();
    obeys_limits(selects_on, c);
    obeys_limits(selects_on, NULL);
    stel_fiber f = spawn(selects_on, c);
    let_them_wait();
    put(c, 9);
    EQ(join(f), 9);
    f = spawn(receives, c);
    stel_case both[] = { STEL_CASE_RECV(c, &value), STEL_CASE_SEND(c, &value) }; /* the same channel twice */
    EQ(stel_select(both, 2, 0), 1);
    EQ(both[1].result, 0);
    EQ(join(f), 3);
    OK(stel_chan_close(closed));
    stel_case cases[] = { STEL_CASE_RECV(c, &value), STEL_CASE_RECV(closed, &value), STEL_CASE_SEND(NULL, &value) };
    EQ(stel_select(cases, 3, 0), 1);
    EQ(cases[1].result, -EPIPE);
    stel_chan_destroy(c);
    stel_chan_destroy(closed);
}

/* STEL_CASE_SEND: a case that sends: an initialiser, and the right-hand side of an assignment. */
ON_BOTH(contract_STEL_CASE_SEND) {
    stel_chan *c = channel(sizeof(int), 1);
    const int value = 8;
    stel_case cases[] = { STEL_CASE_SEND(c, &value) };
    cases[0] = STEL_CASE_SEND(c, &value);
    EQ(stel_select(cases, 1, 0), 0);
    EQ(take(c), 8);
    stel_chan_destroy(c);
}

/* STEL_CASE_RECV: a case that receives: an initialiser, and the right-hand side of an assignment. */
ON_BOTH(contract_STEL_CASE_RECV) {
    stel_chan *c = channel(sizeof(int), 1);
    int value = 0;
    stel_case cases[] = { STEL_CASE_RECV(c, &value) };
    cases[0] = STEL_CASE_RECV(c, &value);
    put(c, 8);
    EQ(stel_select(cases, 1, 0), 0);
    EQ(value, 8);
    stel_chan_destroy(c);
}

/* stel_case_of: what both macros are made of: the members in their places, result 0, the library's room zero. */
START_TEST(contract_stel_case_of) {
    int value;
    stel_case c = stel_case_of(STEL_CASE_OP_RECV, NULL, &value), zero = { NULL, NULL, 0, 0, { 0 } };
    ck_assert_ptr_null(c.chan);
    ck_assert_ptr_eq(c.element, &value);
    ck_assert_int_eq(c.op, STEL_CASE_OP_RECV);
    ck_assert_int_eq(c.result, 0);
    ck_assert_mem_eq(c.reserved, zero.reserved, sizeof c.reserved);
}
END_TEST

/* STEL_CASE_OP_SEND: 1, what STEL_CASE_SEND puts into op: never the 0 of a forgotten one. */
START_TEST(contract_STEL_CASE_OP_SEND) {
    ck_assert_int_eq(STEL_CASE_OP_SEND, 1);
    ck_assert_int_eq((STEL_CASE_SEND(NULL, NULL).op), STEL_CASE_OP_SEND);
}
END_TEST

/* STEL_CASE_OP_RECV: 2, what STEL_CASE_RECV puts into op. */
START_TEST(contract_STEL_CASE_OP_RECV) {
    ck_assert_int_eq(STEL_CASE_OP_RECV, 2);
    ck_assert_int_eq((STEL_CASE_RECV(NULL, NULL).op), STEL_CASE_OP_RECV);
}
END_TEST

/* STEL_SELECT_NOWAIT: -EAGAIN at once when no case can go on, else the case is done. */
ON_BOTH(contract_STEL_SELECT_NOWAIT) {
    stel_chan *c = channel(sizeof(int), 1);
    int value = 0;
    stel_case one = STEL_CASE_RECV(c, &value);
    EQ(stel_select(&one, 1, STEL_SELECT_NOWAIT), -EAGAIN);
    put(c, 2);
    EQ(stel_select(&one, 1, STEL_SELECT_NOWAIT), 0);
    EQ(value, 2);
    stel_chan_destroy(c);
}

TEST_MAIN("contract/chan", contract_stel_chan_create, contract_stel_chan_retain, contract_stel_chan_destroy,
          contract_stel_chan_send, contract_stel_chan_recv, contract_stel_chan_try_send, contract_stel_chan_try_recv,
          contract_stel_chan_close, contract_stel_chan_len, contract_stel_select, contract_STEL_CASE_SEND,
          contract_STEL_CASE_RECV, contract_stel_case_of, contract_STEL_CASE_OP_SEND, contract_STEL_CASE_OP_RECV,
          contract_STEL_SELECT_NOWAIT)
