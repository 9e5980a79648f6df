/* Go's channels as a table: one row for each rule of the language specification and of the memory model that our
 * channels promise to keep. Where Go panics we return -EPIPE, or -EINVAL for the nil channel; where Go waits for ever
 * our calls wait until they are cut short; Go's default is STEL_SELECT_NOWAIT.
 *
 * Each row is played in four mixtures: the player and its partners being fibers or plain threads. When one fails, or
 * does not come to an end, its name is on stderr. test_go_table.c has the rows about channels, test_go_select.c those
 * about select. */
#ifndef GO_TABLE_H
#define GO_TABLE_H

#include "players.h"
#include <signal.h>

/* ---- moves ---- */

typedef struct move {
    stel_chan *c;
    uint64_t v;
} move;

static UNUSED int send_move(void *arg) {
    move *m = arg;
    return stel_chan_send(m->c, &m->v);
}

static UNUSED int receive_move(void *arg) {
    move *m = arg;
    return stel_chan_recv(m->c, &m->v);
}

typedef struct choice {
    stel_case cases[4];
    size_t n;
} choice;

static UNUSED int select_move(void *arg) {
    choice *s = arg;
    return stel_select(s->cases, s->n, 0);
}

static UNUSED stel_chan *make(size_t capacity) {
    stel_chan *c;
    FIBER_OK(stel_chan_create(&c, sizeof(uint64_t), capacity));
    return c;
}

static UNUSED void put(stel_chan *c, uint64_t v) {
    FIBER_OK(stel_chan_send(c, &v));
}

static UNUSED uint64_t get(stel_chan *c) {
    uint64_t v = 0;
    FIBER_OK(stel_chan_recv(c, &v));
    return v;
}

/* Nobody waits at either end. */
static UNUSED void deserted(stel_chan *c) {
    uint64_t v = 0;
    FIBER_ASSERT_EQ(stel_chan_len(c), 0);
    FIBER_ASSERT_EQ(stel_chan_try_recv(c, &v), -EAGAIN);
    if (stel_chan_try_send(c, &v) == 0) FIBER_OK(stel_chan_try_recv(c, &v)); /* into the ring, and no further */
}

/* The call has to be cut short. */
#define WAITS(call)                                                                                                    \
    do {                                                                                                               \
        STEL_TIMEOUT(STEL_MS(1));                                                                                      \
        FIBER_ASSERT_EQ(call, -ETIMEDOUT);                                                                             \
    } while (0)

/* ---- rows, and how they are played ---- */

typedef struct row {
    const char *rule;
    void (*play)(game *g);
} row;

static const row *volatile current;
static const char *volatile current_mixture = "";

static UNUSED void say_row(int signal_number) {
    static const char *texts[7];
    texts[0] = signal_number == SIGALRM ? "does not end: \"" : "fails: \"";
    texts[1] = current ? current->rule : "no row";
    texts[2] = "\", ";
    texts[3] = current_mixture;
    texts[4] = "\n";
    for (int i = 0; i < 5; i++)
        if (write(STDERR_FILENO, texts[i], strlen(texts[i])) < 0) break;
    if (signal_number == SIGALRM) _exit(1);
}

static UNUSED void play_row(game *g) {
    current_mixture = mixture_name(g);
    current->play(g);
}

static UNUSED void play(const row *rows, size_t n) {
    struct sigaction action = { .sa_handler = say_row, .sa_flags = (int)SA_RESETHAND };
    sigaction(SIGABRT, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    alarm(40); /* before libcheck's own guard, which does not know the row */
    for (size_t i = 0; i < n; i++) {
        current = &rows[i];
        mixtures(play_row, NULL);
    }
    alarm(0);
}

#define PLAY(rows) play((rows), sizeof(rows) / sizeof(rows)[0])

#endif
