/* Go's rules for channels (channel types, send statements, receive operator, close, length and capacity, for
 * statements) and of its memory model; see go_table.h. */
#include "go_table.h"

/* ---- the nil channel ---- */

static void nil_send(game *g) {
    uint64_t v = 1;
    player p;
    move m = { NULL, 1 };
    WAITS(stel_chan_send(NULL, &v));
    if (!g->partners_are_threads) { /* for ever: until it is cancelled */
        player_start_asleep(&p, g, STEL__WAIT_CHAN_SEND, send_move, &m);
        FIBER_OK(stel_cancel(p.fiber));
        FIBER_ASSERT_EQ(player_join(&p), -ECANCELED);
    }
}

static void nil_receive(game *g) {
    uint64_t v = 1;
    player p;
    move m = { NULL, 1 };
    WAITS(stel_chan_recv(NULL, &v));
    FIBER_ASSERT_EQ(v, 1);
    if (!g->partners_are_threads) {
        player_start_asleep(&p, g, STEL__WAIT_CHAN_RECV, receive_move, &m);
        FIBER_OK(stel_cancel(p.fiber));
        FIBER_ASSERT_EQ(player_join(&p), -ECANCELED);
    }
}

static void nil_close(game *g) {
    (void)g;
    FIBER_ASSERT_EQ(stel_chan_close(NULL), -EINVAL);
}

static void nil_length(game *g) {
    (void)g;
    FIBER_ASSERT_EQ(stel_chan_len(NULL), 0);
}

static void nil_select(game *g) {
    (void)g;
    uint64_t v = 1;
    stel_case cases[] = { STEL_CASE_SEND(NULL, &v), STEL_CASE_RECV(NULL, &v) };
    WAITS(stel_select(cases, 2, 0));
    FIBER_ASSERT_EQ(stel_select(cases, 2, STEL_SELECT_NOWAIT), -EAGAIN);
}

static void empty_select(game *g) {
    (void)g;
    WAITS(stel_select(NULL, 0, 0));
    FIBER_ASSERT_EQ(stel_select(NULL, 0, STEL_SELECT_NOWAIT), -EAGAIN);
}

static void nil_case(game *g) {
    (void)g;
    stel_chan *c = make(1);
    uint64_t v = 1, in = 0;
    for (int i = 0; i < 20; i++) {
        stel_case cases[] = { STEL_CASE_SEND(NULL, &v), STEL_CASE_SEND(c, &v), STEL_CASE_RECV(NULL, &in) };
        FIBER_ASSERT_EQ(stel_select(cases, 3, i % 2 ? STEL_SELECT_NOWAIT : 0), 1);
        FIBER_ASSERT_EQ(get(c), 1);
    }
    stel_chan_destroy(c);
}

/* ---- closed channels ---- */

static void closed_send(game *g) {
    (void)g;
    for (size_t capacity = 0; capacity <= 2; capacity++) {
        stel_chan *c = make(capacity);
        uint64_t v = 1;
        FIBER_OK(stel_chan_close(c));
        FIBER_ASSERT_EQ(stel_chan_send(c, &v), -EPIPE);
        FIBER_ASSERT_EQ(stel_chan_try_send(c, &v), -EPIPE);
        FIBER_ASSERT_EQ(stel_chan_len(c), 0);
        stel_chan_destroy(c);
    }
}

static void closed_close(game *g) {
    (void)g;
    stel_chan *c = make(0);
    FIBER_OK(stel_chan_close(c));
    FIBER_ASSERT_EQ(stel_chan_close(c), -EPIPE);
    FIBER_ASSERT_EQ(stel_chan_close(c), -EPIPE);
    stel_chan_destroy(c);
}

static void closed_receive(game *g) {
    (void)g;
    for (size_t capacity = 0; capacity <= 2; capacity++) {
        stel_chan *c = make(capacity);
        uint64_t v = 77;
        FIBER_OK(stel_chan_close(c));
        for (int i = 0; i < 3; i++) { /* any number of times */
            FIBER_ASSERT_EQ(stel_chan_recv(c, &v), -EPIPE);
            FIBER_ASSERT_EQ(stel_chan_try_recv(c, &v), -EPIPE);
        }
        FIBER_ASSERT_EQ(v, 77);
        stel_chan_destroy(c);
    }
}

static void closed_drain(game *g) {
    (void)g;
    stel_chan *c = make(3);
    uint64_t v = 0;
    for (uint64_t i = 1; i <= 3; i++)
        put(c, i);
    FIBER_OK(stel_chan_close(c));
    for (uint64_t i = 1; i <= 3; i++) {
        FIBER_ASSERT_EQ(stel_chan_len(c), 4 - i);
        FIBER_ASSERT_EQ(get(c), i);
    }
    FIBER_ASSERT_EQ(stel_chan_recv(c, &v), -EPIPE);
    FIBER_ASSERT_EQ(stel_chan_len(c), 0);
    stel_chan_destroy(c);
}

static void close_on_senders(game *g) {
    for (size_t capacity = 0; capacity <= 1; capacity++) {
        stel_chan *c = make(capacity);
        player p[2];
        move m[2] = { { c, 10 }, { c, 11 } };
        uint64_t v;
        if (capacity) put(c, 5);
        for (int i = 0; i < 2; i++)
            player_start_asleep(&p[i], g, STEL__WAIT_CHAN_SEND, send_move, &m[i]);
        FIBER_OK(stel_chan_close(c));
        for (int i = 0; i < 2; i++)
            FIBER_ASSERT_EQ(player_join(&p[i]), -EPIPE);
        if (capacity) FIBER_ASSERT_EQ(get(c), 5); /* what was in the ring stays, what waited does not come */
        FIBER_ASSERT_EQ(stel_chan_recv(c, &v), -EPIPE);
        stel_chan_destroy(c);
    }
}

static void close_on_receivers(game *g) {
    for (size_t capacity = 0; capacity <= 1; capacity++) {
        stel_chan *c = make(capacity);
        player p[3];
        move m[3];
        for (int i = 0; i < 3; i++) {
            m[i] = (move){ c, 77 };
            player_start_asleep(&p[i], g, STEL__WAIT_CHAN_RECV, receive_move, &m[i]);
        }
        FIBER_OK(stel_chan_close(c));
        for (int i = 0; i < 3; i++) {
            FIBER_ASSERT_EQ(player_join(&p[i]), -EPIPE);
            FIBER_ASSERT_EQ(m[i].v, 77);
        }
        stel_chan_destroy(c);
    }
}

static int send_1_to_5_and_close(void *arg) {
    for (uint64_t i = 1; i <= 5; i++)
        put(arg, i);
    return stel_chan_close(arg);
}

/* for v := range c */
static void range(game *g) {
    for (size_t capacity = 0; capacity <= 6; capacity += 2) {
        stel_chan *c = make(capacity);
        player p;
        uint64_t v, n = 0;
        int rc;
        player_start(&p, g, send_1_to_5_and_close, c);
        while ((rc = stel_chan_recv(c, &v)) == 0)
            FIBER_ASSERT_EQ(v, ++n);
        FIBER_ASSERT_EQ(rc, -EPIPE);
        FIBER_ASSERT_EQ(n, 5);
        FIBER_OK(player_join(&p));
        stel_chan_destroy(c);
    }
}

/* ---- channels without a buffer ---- */

static void send_waits(game *g) {
    stel_chan *c = make(0);
    player p;
    move m = { c, 42 };
    player_start_asleep(&p, g, STEL__WAIT_CHAN_SEND, send_move, &m);
    FIBER_ASSERT_EQ(stel_chan_len(c), 0); /* a sender that waits is not in the buffer */
    FIBER_ASSERT(!player_over(&p));
    FIBER_ASSERT_EQ(get(c), 42);
    FIBER_OK(player_join(&p));
    deserted(c);
    stel_chan_destroy(c);
}

static void receive_waits(game *g) {
    stel_chan *c = make(0);
    player p;
    move m = { c, 0 };
    player_start_asleep(&p, g, STEL__WAIT_CHAN_RECV, receive_move, &m);
    FIBER_ASSERT(!player_over(&p));
    put(c, 42);
    FIBER_OK(player_join(&p));
    FIBER_ASSERT_EQ(m.v, 42);
    deserted(c);
    stel_chan_destroy(c);
}

static void try_needs_a_partner(game *g) {
    stel_chan *c = make(0);
    player p;
    move m = { c, 42 };
    uint64_t v = 43;
    FIBER_ASSERT_EQ(stel_chan_try_send(c, &v), -EAGAIN);
    FIBER_ASSERT_EQ(stel_chan_try_recv(c, &v), -EAGAIN);
    player_start_asleep(&p, g, STEL__WAIT_CHAN_SEND, send_move, &m);
    FIBER_ASSERT_EQ(stel_chan_try_send(c, &v), -EAGAIN);
    FIBER_OK(stel_chan_try_recv(c, &v));
    FIBER_ASSERT_EQ(v, 42);
    FIBER_OK(player_join(&p));
    player_start_asleep(&p, g, STEL__WAIT_CHAN_RECV, receive_move, &m);
    FIBER_ASSERT_EQ(stel_chan_try_recv(c, &v), -EAGAIN);
    v = 44;
    FIBER_OK(stel_chan_try_send(c, &v));
    FIBER_OK(player_join(&p));
    FIBER_ASSERT_EQ(m.v, 44);
    stel_chan_destroy(c);
}

/* ---- channels with a buffer ---- */

static void fifo(game *g) {
    (void)g;
    stel_chan *c = make(4);
    for (uint64_t turn = 0; turn < 10; turn++) { /* around the ring */
        for (uint64_t i = 0; i < 3; i++)
            put(c, 10 * turn + i);
        for (uint64_t i = 0; i < 3; i++)
            FIBER_ASSERT_EQ(get(c), 10 * turn + i);
    }
    stel_chan_destroy(c);
}

static void capacity_and_length(game *g) {
    for (size_t capacity = 1; capacity <= 5; capacity++) {
        stel_chan *c = make(capacity);
        player p;
        move m = { c, 99 };
        for (size_t i = 0; i < capacity; i++) {
            FIBER_ASSERT_EQ(stel_chan_len(c), i);
            put(c, i);
        }
        FIBER_ASSERT_EQ(stel_chan_try_send(c, &m.v), -EAGAIN);
        WAITS(stel_chan_send(c, &m.v));
        player_start_asleep(&p, g, STEL__WAIT_CHAN_SEND, send_move, &m);
        FIBER_ASSERT_EQ(stel_chan_len(c), capacity);
        FIBER_ASSERT_EQ(get(c), 0);
        FIBER_OK(player_join(&p));
        FIBER_ASSERT_EQ(stel_chan_len(c), capacity); /* its element has joined the ring, at the end */
        for (size_t i = 1; i < capacity; i++)
            FIBER_ASSERT_EQ(get(c), i);
        FIBER_ASSERT_EQ(get(c), 99);
        deserted(c);
        stel_chan_destroy(c);
    }
}

static void copied(game *g) {
    stel_chan *c = make(1);
    player p;
    move m = { c, 0 };
    uint64_t v = 1;
    FIBER_OK(stel_chan_send(c, &v));
    v = 2;
    FIBER_ASSERT_EQ(get(c), 1);
    player_start_asleep(&p, g, STEL__WAIT_CHAN_RECV, receive_move, &m);
    FIBER_OK(stel_chan_send(c, &v));
    v = 3;
    FIBER_OK(player_join(&p));
    FIBER_ASSERT_EQ(m.v, 2);
    stel_chan_destroy(c);
}

static int receive_signal(void *c) {
    return stel_chan_recv(c, NULL);
}

static void zero_size(game *g) {
    stel_chan *c;
    player p;
    for (size_t capacity = 0; capacity <= 2; capacity += 2) {
        FIBER_OK(stel_chan_create(&c, 0, capacity));
        for (size_t i = 0; i < capacity; i++)
            FIBER_OK(stel_chan_try_send(c, NULL));
        FIBER_ASSERT_EQ(stel_chan_try_send(c, NULL), -EAGAIN); /* they count, though they weigh nothing */
        FIBER_ASSERT_EQ(stel_chan_len(c), capacity);
        for (size_t i = 0; i < capacity; i++)
            FIBER_OK(stel_chan_recv(c, NULL));
        FIBER_ASSERT_EQ(stel_chan_try_recv(c, NULL), -EAGAIN);
        player_start_asleep(&p, g, STEL__WAIT_CHAN_RECV, receive_signal, c);
        FIBER_OK(stel_chan_send(c, NULL));
        FIBER_OK(player_join(&p));
        stel_chan_destroy(c);
    }
}

static int reply_once(void *arg) {
    stel_chan *requests = arg, *reply;
    FIBER_OK(stel_chan_recv(requests, &reply));
    put(reply, 42);
    return 0;
}

static void channels_in_channels(game *g) {
    stel_chan *requests, *reply = make(0);
    player p;
    FIBER_OK(stel_chan_create(&requests, sizeof(stel_chan *), 0));
    player_start(&p, g, reply_once, requests);
    FIBER_OK(stel_chan_send(requests, &reply));
    FIBER_ASSERT_EQ(get(reply), 42);
    FIBER_OK(player_join(&p));
    stel_chan_destroy(requests);
    stel_chan_destroy(reply);
}

/* ---- who waits is served in order of arrival ---- */

static void receivers_in_order(game *g) {
    for (size_t capacity = 0; capacity <= 2; capacity += 2) {
        stel_chan *c = make(capacity);
        player p[4];
        move m[4];
        for (int i = 0; i < 4; i++) {
            m[i] = (move){ c, 77 };
            player_start_asleep(&p[i], g, STEL__WAIT_CHAN_RECV, receive_move, &m[i]);
        }
        for (uint64_t i = 0; i < 4; i++)
            put(c, i);
        for (uint64_t i = 0; i < 4; i++) {
            FIBER_OK(player_join(&p[i]));
            FIBER_ASSERT_EQ(m[i].v, i);
        }
        stel_chan_destroy(c);
    }
}

static void senders_in_order(game *g) {
    for (size_t capacity = 0; capacity <= 2; capacity += 2) {
        stel_chan *c = make(capacity);
        player p[4];
        move m[4];
        for (uint64_t i = 0; i < capacity; i++)
            put(c, i);
        for (uint64_t i = 0; i < 4; i++) {
            m[i] = (move){ c, capacity + i };
            player_start_asleep(&p[i], g, STEL__WAIT_CHAN_SEND, send_move, &m[i]);
        }
        for (uint64_t i = 0; i < capacity + 4; i++)
            FIBER_ASSERT_EQ(get(c), i);
        for (int i = 0; i < 4; i++)
            FIBER_OK(player_join(&p[i]));
        stel_chan_destroy(c);
    }
}

/* A select that waits has its place in the line of each of its channels. */
static void selectors_in_order(game *g) {
    stel_chan *c = make(0), *other = make(0);
    player p[3];
    move first = { c, 77 }, last = { c, 77 };
    uint64_t v = 77;
    choice s = { { STEL_CASE_RECV(other, &v), STEL_CASE_RECV(c, &v) }, 2 };
    player_start_asleep(&p[0], g, STEL__WAIT_CHAN_RECV, receive_move, &first);
    player_start_asleep(&p[1], g, STEL__WAIT_SELECT, select_move, &s);
    player_start_asleep(&p[2], g, STEL__WAIT_CHAN_RECV, receive_move, &last);
    for (uint64_t i = 0; i < 3; i++)
        put(c, i);
    FIBER_OK(player_join(&p[0]));
    FIBER_ASSERT_EQ(player_join(&p[1]), 1);
    FIBER_OK(player_join(&p[2]));
    FIBER_ASSERT_EQ(first.v, 0);
    FIBER_ASSERT_EQ(v, 1);
    FIBER_ASSERT_EQ(last.v, 2);
    deserted(other);
    stel_chan_destroy(c), stel_chan_destroy(other);
}

/* ---- the memory model: plain memory, which ThreadSanitizer watches ---- */

typedef struct scene {
    stel_chan *c, *back;
    uint64_t plain, also;
    uint64_t rounds;
} scene;

static int write_then_send(void *arg) {
    scene *s = arg;
    for (uint64_t i = 1; i <= s->rounds; i++) {
        s->plain = i;
        put(s->c, i);
        FIBER_ASSERT_EQ(get(s->back), i);
    }
    return 0;
}

/* A send comes before the receive that takes it. */
static void send_before_receive(game *g) {
    for (size_t capacity = 0; capacity <= 2; capacity += 2) {
        scene s = { .c = make(capacity), .back = make(capacity), .rounds = test_scale(200) };
        player p;
        player_start(&p, g, write_then_send, &s);
        for (uint64_t i = 1; i <= s.rounds; i++) {
            FIBER_ASSERT_EQ(get(s.c), i);
            FIBER_ASSERT_EQ(s.plain, i);
            put(s.back, i);
        }
        FIBER_OK(player_join(&p));
        stel_chan_destroy(s.c), stel_chan_destroy(s.back);
    }
}

static int write_then_receive(void *arg) {
    scene *s = arg;
    s->plain = 5;
    uint64_t v = get(s->c);
    return v == 1 ? 0 : -EBADMSG;
}

/* Without a buffer, a receive comes before the end of the send that it takes. */
static void receive_before_sent(game *g) {
    for (uint64_t round = test_scale(50); round > 0; round--) {
        scene s = { .c = make(0) };
        player p;
        player_start(&p, g, write_then_receive, &s);
        put(s.c, 1);
        FIBER_ASSERT_EQ(s.plain, 5);
        FIBER_OK(player_join(&p));
        stel_chan_destroy(s.c);
    }
}

static int work_with_permit(void *arg) {
    scene *s = arg;
    for (uint64_t i = 0; i < s->rounds; i++) {
        put(s->c, 1); /* a buffer of one as a lock */
        s->plain++;
        s->also++;
        FIBER_ASSERT_EQ(s->plain, s->also);
        (void)get(s->c);
    }
    return 0;
}

/* The k-th receive comes before the end of the k+C-th send. */
static void receive_before_later_send(game *g) {
    scene s = { .c = make(1), .rounds = test_scale(500) };
    player p[2];
    for (int i = 0; i < 2; i++)
        player_start(&p[i], g, work_with_permit, &s);
    FIBER_OK(work_with_permit(&s));
    for (int i = 0; i < 2; i++)
        FIBER_OK(player_join(&p[i]));
    FIBER_ASSERT_EQ(s.plain, 3 * s.rounds);
    stel_chan_destroy(s.c);
}

static int write_then_close(void *arg) {
    scene *s = arg;
    s->plain = 5;
    return stel_chan_close(s->c);
}

/* A close comes before a receive that returns because of it. */
static void close_before_receive(game *g) {
    for (uint64_t round = test_scale(50); round > 0; round--) {
        scene s = { .c = make(round % 2) };
        player p;
        uint64_t v;
        player_start(&p, g, write_then_close, &s);
        FIBER_ASSERT_EQ(stel_chan_recv(s.c, &v), -EPIPE);
        FIBER_ASSERT_EQ(s.plain, 5);
        FIBER_OK(player_join(&p));
        stel_chan_destroy(s.c);
    }
}

typedef struct many {
    stel_chan *c;
    uint64_t each;
    _Atomic uint64_t senders, sum, n;
} many;

static int send_many(void *arg) {
    many *m = arg;
    for (uint64_t i = 1; i <= m->each; i++)
        put(m->c, i);
    return atomic_fetch_sub(&m->senders, 1) == 1 ? stel_chan_close(m->c) : 0;
}

static int receive_many(void *arg) {
    many *m = arg;
    uint64_t v;
    while (stel_chan_recv(m->c, &v) == 0)
        atomic_fetch_add(&m->sum, v), atomic_fetch_add(&m->n, 1);
    return 0;
}

/* Any number may use one channel without further locks. */
static void no_further_locks(game *g) {
    for (size_t capacity = 0; capacity <= 2; capacity++) {
        many m = { .c = make(capacity), .each = test_scale(200) };
        player p[6];
        atomic_store(&m.senders, 3);
        for (int i = 0; i < 6; i++)
            player_start(&p[i], g, i % 2 ? send_many : receive_many, &m);
        for (int i = 0; i < 6; i++)
            FIBER_OK(player_join(&p[i]));
        FIBER_ASSERT_EQ(m.n, 3 * m.each);
        FIBER_ASSERT_EQ(m.sum, 3 * (m.each * (m.each + 1) / 2));
        stel_chan_destroy(m.c);
    }
}

/* ---- references: what Go's garbage collector does ---- */

static int receive_and_drop(void *arg) {
    move *m = arg;
    int rc = stel_chan_recv(m->c, &m->v);
    stel_chan_destroy(m->c);
    return rc;
}

static void destroyed_by_others(game *g) {
    stel_chan *c = make(2);
    player p;
    move m = { stel_chan_retain(c), 0 };
    player_start_asleep(&p, g, STEL__WAIT_CHAN_RECV, receive_and_drop, &m);
    stel_chan_retain(c);
    stel_chan_destroy(c); /* two are left: the partner's, which waits, and one of ours */
    put(c, 42);
    FIBER_OK(player_join(&p));
    FIBER_ASSERT_EQ(m.v, 42);
    put(c, 43);
    FIBER_ASSERT_EQ(stel_chan_len(c), 1);
    stel_chan_destroy(c); /* the last one, with an element in it */
}

static int send_and_drop(void *arg) {
    move *m = arg;
    put(m->c, m->v);
    stel_chan_destroy(m->c);
    return 0;
}

/* The one who receives may be the last, and free it while the sender is on its way out. */
static void the_last_frees(game *g) {
    for (uint64_t round = test_scale(100); round > 0; round--) {
        stel_chan *c = make(round % 2);
        player p;
        move m = { stel_chan_retain(c), round };
        player_start(&p, g, send_and_drop, &m);
        FIBER_ASSERT_EQ(get(c), round);
        stel_chan_destroy(c);
        FIBER_OK(player_join(&p));
    }
}

/* ---- the table ---- */

static const row nil_rows[] = {
    { "nil: a send waits for ever", nil_send },
    { "nil: a receive waits for ever", nil_receive },
    { "nil: close is an error", nil_close },
    { "nil: its length is 0", nil_length },
    { "nil: a select of nil cases waits for ever, with default takes it", nil_select },
    { "nil: a select without cases waits for ever, with default takes it", empty_select },
    { "nil: a nil case is never taken beside a ready one", nil_case },
};
static const row closed_rows[] = {
    { "closed: a send is an error", closed_send },
    { "closed: a second close is an error", closed_close },
    { "closed: a receive goes on at once, with the zero value", closed_receive },
    { "closed: what was sent before is received first", closed_drain },
    { "closed: senders that wait get an error, and send nothing", close_on_senders },
    { "closed: all receivers that wait go on", close_on_receivers },
    { "closed: range ends after the last element", range },
};
static const row plain_rows[] = {
    { "unbuffered: a send waits for a receiver", send_waits },
    { "unbuffered: a receive waits for a sender", receive_waits },
    { "unbuffered: without waiting only with a partner there", try_needs_a_partner },
    { "buffered: first in, first out", fifo },
    { "buffered: a send waits when capacity is reached; length", capacity_and_length },
    { "elements are copied when they are sent", copied },
    { "elements may have no size", zero_size },
    { "elements may be channels", channels_in_channels },
    { "order: receivers that wait are served as they came", receivers_in_order },
    { "order: senders that wait are served as they came", senders_in_order },
    { "order: selects that wait have their place in the line", selectors_in_order },
};
static const row memory_rows[] = {
    { "memory: a send comes before its receive", send_before_receive },
    { "memory: an unbuffered receive comes before the end of its send", receive_before_sent },
    { "memory: receive k comes before the end of send k + capacity", receive_before_later_send },
    { "memory: a close comes before the receive that sees it", close_before_receive },
    { "memory: any number of users need no other lock", no_further_locks },
    { "references: who holds one may use the channel", destroyed_by_others },
    { "references: the last one given back frees it", the_last_frees },
};
START_TEST(the_nil_channel) {
    PLAY(nil_rows);
}
END_TEST
START_TEST(closed_channels) {
    PLAY(closed_rows);
}
END_TEST
START_TEST(sending_and_receiving) {
    PLAY(plain_rows);
}
END_TEST
START_TEST(memory_and_references) {
    PLAY(memory_rows);
}
END_TEST

TEST_MAIN("sync/go_table", the_nil_channel, closed_channels, sending_and_receiving, memory_and_references)
