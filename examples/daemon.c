/* daemon: a server that obeys signals and stops without dropping anybody in the middle of a request.
 *
 * The idea: signals are something a fiber waits for. Nothing happens in a handler: stel_sigcatch keeps the signals, a
 * background fiber takes them with stel_sigwaitinfo and may then lock, read files and print. One call, stel_shutdown, is the
 * whole graceful stop: accept returns -ESHUTDOWN, what is begun runs on for the grace, then it is cancelled, and stel_run
 * returns when the last fiber has ended.
 *   - SIGHUP reads the settings file again and prints the figures
 *   - SIGTERM, SIGINT: stop; a second one cuts the grace short
 *
 *     cc daemon.c $(pkg-config --cflags --libs stellane-fiber) -o daemon
 *     ./daemon 127.0.0.1:7000 greeting.txt 5000        the file's first line is the greeting; grace in milliseconds
 *
 * A client's line is answered with the greeting and the line; "wait 300 words" takes 300 ms first. It prints
 *
 *     listening on 127.0.0.1:7000
 *     greeting: hello; 3 visits, 12 requests, 0 cut off
 *     stopping
 *     stopped; 3 visits, 14 requests, 1 cut off */
#define _DEFAULT_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>
#include <string.h>

enum { LINE_BYTES = 256, GREETING_BYTES = 64 };

struct visitor {
    struct service *service;
    struct visitor *next; /* by the service's lock */
    int fd;
    char input[LINE_BYTES];
    size_t received;
};

struct service {
    const char *address, *settings; /* settings NULL: there is no file */
    int64_t grace_ns;
    sigset_t signals;
    stel_rwlock settings_lock; /* read for every request, written once a SIGHUP */
    char greeting[GREETING_BYTES];
    stel_mutex lock;
    struct visitor *visitors; /* by lock */
    _Atomic uint64_t visits, requests, cut_off;
};

static void print_figures(struct service *s, const char *when) {
    printf("%s; %" PRIu64 " visits, %" PRIu64 " requests, %" PRIu64 " cut off\n", when, atomic_load(&s->visits),
           atomic_load(&s->requests), atomic_load(&s->cut_off));
}

/* The first line of the settings file becomes the greeting; on failure all stays as it was. */
static int load_settings(struct service *s) {
    if (!s->settings) return 0;
    char text[GREETING_BYTES];
    int fd = stel_open(s->settings, O_RDONLY, 0);
    if (fd < 0) return fd;
    ssize_t n = stel_read(fd, text, sizeof text - 1);
    stel_close(fd);
    if (n < 0) return (int)n;
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    stel_rwlock_write_lock(&s->settings_lock);
    memcpy(s->greeting, text, sizeof text);
    stel_rwlock_write_unlock(&s->settings_lock);
    return 0;
}

/* ---- a visitor ---- */

static int answer(struct visitor *v, const char *line) {
    struct service *s = v->service;
    char text[GREETING_BYTES + LINE_BYTES + 2];
    int wait_ms;
    if (sscanf(line, "wait %d", &wait_ms) == 1) {
        int rc = stel_sleep(STEL_MS(wait_ms));
        if (rc < 0) return rc;
    }
    stel_rwlock_read_lock(&s->settings_lock);
    int n = snprintf(text, sizeof text, "%s %s\n", s->greeting, line);
    stel_rwlock_read_unlock(&s->settings_lock); /* not held while we wait for the visitor's network */
    atomic_fetch_add(&s->requests, 1);
    return stel_write_all(v->fd, text, (size_t)n, NULL);
}

/* Answers lines until the visitor goes, or the stop has closed its side of the conversation, or an error. */
static int converse(struct visitor *v) {
    char line[LINE_BYTES];
    for (;;) {
        char *end = memchr(v->input, '\n', v->received);
        if (end) {
            size_t bytes = (size_t)(end - v->input);
            memcpy(line, v->input, bytes);
            line[bytes] = '\0';
            v->received -= bytes + 1;
            memmove(v->input, end + 1, v->received);
            int rc = answer(v, line);
            if (rc < 0) return rc;
            continue;
        }
        if (v->received == sizeof v->input) return -EMSGSIZE;
        ssize_t n = stel_read(v->fd, v->input + v->received, sizeof v->input - v->received);
        if (n <= 0) return (int)n;
        v->received += (size_t)n;
    }
}

static void leave(struct visitor *v) {
    struct service *s = v->service;
    stel_mutex_lock(&s->lock);
    struct visitor **link = &s->visitors;
    while (*link != v)
        link = &(*link)->next;
    *link = v->next;
    stel_mutex_unlock(&s->lock);
    stel_close(v->fd);
    free(v);
}

static int serve(void *arg) {
    struct visitor *v = arg;
    int rc = converse(v);
    if (rc == -ECANCELED) atomic_fetch_add(&v->service->cut_off, 1);
    leave(v);
    return 0;
}

static void welcome(struct service *s, int fd) {
    struct visitor *v = calloc(1, sizeof *v);
    if (!v) {
        stel_close(fd);
        return;
    }
    v->service = s;
    v->fd = fd;
    stel_mutex_lock(&s->lock);
    v->next = s->visitors;
    s->visitors = v;
    stel_mutex_unlock(&s->lock);
    atomic_fetch_add(&s->visits, 1);
    if (stel_go(serve, v) < 0) leave(v);
}

/* Who waits for a visitor's next line need not wait out the grace: the end of input comes now, what has been received is
 * still answered. */
static void say_goodbye(struct service *s) {
    stel_mutex_lock(&s->lock);
    for (const struct visitor *v = s->visitors; v; v = v->next)
        shutdown(v->fd, SHUT_RD);
    stel_mutex_unlock(&s->lock);
}

/* ---- signals ---- */

/* A background fiber: it does not keep the program alive, and is cancelled when all the others have ended. */
static int obey_signals(void *arg) {
    struct service *s = arg;
    for (;;) {
        int signal = stel_sigwaitinfo(&s->signals, NULL);
        if (signal < 0) return signal == -ECANCELED ? 0 : signal;
        if (signal == SIGHUP) {
            char text[GREETING_BYTES + 16];
            int rc = load_settings(s);
            if (rc < 0) fprintf(stderr, "daemon: %s: %s\n", s->settings, stel_strerror(rc));
            snprintf(text, sizeof text, "greeting: %s", s->greeting); /* nobody else writes it */
            print_figures(s, text);
        } else {
            bool again = stel_stopping();
            printf(again ? "stopping now\n" : "stopping\n");
            stel_shutdown(again ? 0 : s->grace_ns);
        }
    }
}

/* ---- start and end ---- */

static int listen_and_say(const char *address) {
    char where[STEL_ADDRESS_BYTES];
    int listener = stel_listen(address, 1024);
    if (listener >= 0 && stel_local_address(listener, where, sizeof where) == 0) printf("listening on %s\n", where);
    return listener;
}

static int app(void *arg) {
    struct service *s = arg;
    stel_spawn_options options = STEL_SPAWN_OPTIONS_INIT;
    options.name = "signals";
    options.flags = STEL_BACKGROUND;
    sigemptyset(&s->signals);
    sigaddset(&s->signals, SIGHUP);
    sigaddset(&s->signals, SIGINT);
    sigaddset(&s->signals, SIGTERM);
    int rc = stel_sigcatch(&s->signals); /* first: from the first line that we print on, somebody may send us one */
    if (rc == 0) rc = load_settings(s);
    if (rc == 0) rc = stel_spawn_with(NULL, &options, obey_signals, s);
    int listener = rc < 0 ? rc : listen_and_say(s->address), fd;
    if (listener < 0) return listener;
    while ((fd = stel_accept(listener, NULL, NULL)) >= 0)
        welcome(s, fd);
    stel_close(listener); /* who comes from now on is refused, and may try the next machine */
    say_goodbye(s);
    return fd == -ESHUTDOWN ? 0 : fd;
}

int main(int argc, char **argv) {
    struct service s = { .address = argc > 1 ? argv[1] : "127.0.0.1:7000",
                         .settings = argc > 2 ? argv[2] : NULL,
                         .grace_ns = STEL_MS(argc > 3 ? atoi(argv[3]) : 5000),
                         .greeting = "hello" };
    if (s.grace_ns < 0 || argc > 4) {
        fprintf(stderr, "usage: daemon [address [settings-file [grace-ms]]]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    int rc = stel_run(app, &s);
    if (rc < 0)
        fprintf(stderr, "daemon: %s\n", stel_strerror(rc));
    else
        print_figures(&s, "stopped");
    return rc < 0;
}
