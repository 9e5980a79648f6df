/* chat_server: whoever connects says a name, and what one says all others read. `telnet` is client enough.
 *
 * The idea: nobody waits for the slowest. Each client has two fibers, one that reads its connection and one that writes
 * to it, and between the room and the writer a bounded channel. Who speaks only ever tries to send to the others: a
 * client whose channel is full, because it does not read, is cancelled and leaves, and the room goes on. Why a mutex
 * and not a read lock for the room: all clients shall see the lines in the same order.
 *
 *     cc chat_server.c $(pkg-config --cflags --libs stellane-fiber) -o chat_server
 *     ./chat_server 127.0.0.1:7000
 *
 * It prints its port and who comes and goes; a client sees
 *
 *     name? ada
 *     * ada is here (1 in the room)
 *     * bob is here (2 in the room)
 *     bob: hello
 *     * bob has left (1 in the room) */
#define _DEFAULT_SOURCE
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>
#include <string.h>

enum { NAME_BYTES = 16, INPUT_BYTES = 256, LINE_BYTES = INPUT_BYTES + 64, LINES_WAITING = 64, SEND_BUFFER = 16384 };

struct line {
    size_t bytes;
    char text[LINE_BYTES];
};

struct room {
    const char *address;
    stel_mutex lock;
    struct client *first; /* by lock, as what is marked so below */
    int count;
};

struct client {
    struct room *room;
    struct client *next; /* by lock */
    stel_fiber reader;   /* to be cancelled by the room */
    bool too_slow;       /* by lock */
    int fd;
    stel_chan *out;
    char name[NAME_BYTES];
    char input[INPUT_BYTES]; /* the reader's: received and not yet a line */
    size_t received;
};

/* A line to everybody in the room, in the order in which the lock is had. Never waits for a client. */
__attribute__((format(printf, 2, 3))) static void say(struct room *room, const char *format, ...) {
    struct line line;
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line.text, sizeof line.text - 1, format, arguments);
    va_end(arguments);
    if (n < 0) return;
    line.bytes = strlen(line.text);
    line.text[line.bytes++] = '\n';

    stel_mutex_lock(&room->lock);
    for (struct client *c = room->first; c; c = c->next) {
        if (c->too_slow || stel_chan_try_send(c->out, &line) == 0) continue;
        c->too_slow = true;
        stel_cancel(c->reader); /* its read fails now, and its scope cancels the writer */
    }
    stel_mutex_unlock(&room->lock);
}

/* How many are there then, or -EEXIST: the name is taken. */
static int enter(struct client *c) {
    struct room *room = c->room;
    stel_mutex_lock(&room->lock);
    int rc = 0;
    for (const struct client *other = room->first; other; other = other->next)
        if (strcmp(other->name, c->name) == 0) rc = -EEXIST;
    if (rc == 0) {
        c->next = room->first;
        room->first = c;
        rc = ++room->count;
    }
    stel_mutex_unlock(&room->lock);
    return rc;
}

static int leave(struct client *c) {
    struct room *room = c->room;
    stel_mutex_lock(&room->lock);
    struct client **link = &room->first;
    while (*link != c)
        link = &(*link)->next;
    *link = c->next;
    int left = --room->count;
    stel_mutex_unlock(&room->lock);
    return left; /* from here on nobody else knows c */
}

/* The next line without its end: its length, -ENODATA at the end of input. What does not fit is a line of its own. */
static ssize_t get_line(struct client *c, char text[INPUT_BYTES + 1]) {
    for (;;) {
        char *end = memchr(c->input, '\n', c->received);
        if (end || c->received == sizeof c->input) {
            size_t bytes = end ? (size_t)(end - c->input) : c->received, used = end ? bytes + 1 : bytes;
            memcpy(text, c->input, bytes);
            if (bytes > 0 && text[bytes - 1] == '\r') bytes--;
            text[bytes] = '\0';
            c->received -= used;
            memmove(c->input, c->input + used, c->received);
            return (ssize_t)bytes;
        }
        ssize_t n = stel_read(c->fd, c->input + c->received, sizeof c->input - c->received);
        if (n <= 0) return n < 0 ? n : -ENODATA;
        c->received += (size_t)n;
    }
}

/* Until the client has given a name that nobody has; how many are in the room then. */
static int introduce(struct client *c) {
    STEL_TIMEOUT(STEL_SEC(60));
    char text[INPUT_BYTES + 1];
    for (;;) {
        int rc = stel_write_all(c->fd, "name? ", 6, NULL);
        if (rc < 0) return rc;
        ssize_t n = get_line(c, text), letters = 0;
        if (n < 0) return (int)n;
        while (isalnum((unsigned char)text[letters]))
            letters++;
        if (n == 0 || n >= NAME_BYTES || letters < n) continue;
        memcpy(c->name, text, (size_t)n + 1);
        if ((rc = enter(c)) != -EEXIST) return rc;
    }
}

static int write_lines(void *arg) {
    struct client *c = arg;
    struct line line;
    int rc;
    while ((rc = stel_chan_recv(c->out, &line)) == 0)
        if ((rc = stel_write_all(c->fd, line.text, line.bytes, NULL)) < 0) return rc;
    return rc == -EPIPE ? 0 : rc; /* closed, and all is written */
}

static void converse(struct client *c) {
    char text[INPUT_BYTES + 1];
    int here = introduce(c);
    if (here < 0) return;
    {
        STEL_SCOPE(writer);
        int rc = stel_scope_spawn(&writer, write_lines, c);
        printf("%s is here\n", c->name);
        say(c->room, "* %s is here (%d in the room)", c->name, here);
        while (rc == 0 && get_line(c, text) >= 0) {
            say(c->room, "%s: %s", c->name, text);
            rc = stel_sleep(STEL_MS(2)); /* who pastes a book is held up, or everybody else would seem too slow */
        }
        here = leave(c);
        stel_chan_close(c->out);
        STEL_TIMEOUT(STEL_SEC(2)); /* for the last lines to one who has said all but still reads */
        if (stel_scope_join(&writer) < 0) printf("%s has not had the last lines\n", c->name);
    }
    const char *how = c->too_slow ? "was too slow" : "has left";
    printf("%s %s\n", c->name, how);
    say(c->room, "* %s %s (%d in the room)", c->name, how, here);
}

static int serve(void *arg) {
    struct client *c = arg;
    c->reader = stel_self();
    converse(c);
    stel_close(c->fd);
    stel_chan_destroy(c->out);
    free(c);
    return 0;
}

/* Takes fd: it belongs to the client's fiber, or is closed. */
static void welcome(struct room *room, int fd) {
    int bytes = SEND_BUFFER; /* small: who does not read is to be seen here, not to fill the kernel's memory first */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    struct client *c = calloc(1, sizeof *c);
    int rc = c ? stel_chan_create(&c->out, sizeof(struct line), LINES_WAITING) : -ENOMEM;
    if (rc == 0) {
        c->room = room;
        c->fd = fd;
        rc = stel_go(serve, c);
    }
    if (rc == 0) return;
    stel_close(fd);
    if (c) stel_chan_destroy(c->out);
    free(c);
}

static int app(void *arg) {
    struct room *room = arg;
    char where[STEL_ADDRESS_BYTES];
    int listener = stel_listen(room->address, 1024), fd;
    if (listener < 0) return listener;
    if (stel_local_address(listener, where, sizeof where) == 0) printf("listening on %s\n", where);
    while ((fd = stel_accept(listener, NULL, NULL)) >= 0)
        welcome(room, fd);
    stel_close(listener);
    return fd;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct room room = { argc > 1 ? argv[1] : "127.0.0.1:7000", STEL_MUTEX_INIT, NULL, 0 };
    int rc = stel_run(app, &room); /* returns when the last fiber has ended: none outlives the room */
    if (rc < 0) fprintf(stderr, "chat_server: %s\n", stel_strerror(rc));
    return rc < 0;
}
