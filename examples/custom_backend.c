/* custom_backend: a polling backend of one's own, over poll(2), and fibers that run on it.
 *
 * The idea: the library asks a backend which descriptors are ready, and nothing else. Here is a whole one: eight functions
 * and a table, registered under a name that settings may then use. It is not a fast one, as poll(2) looks at every
 * descriptor each time, but it is complete, and made of nothing that is not in every Unix.
 *
 * It is of the kind STEL_BACKEND_ONESHOT: a descriptor is armed for one event, for what somebody waits for now, and is
 * forgotten with that event. That suits poll(2): what nobody waits for is not in the list. (epoll's way, armed once and
 * each event an edge, would be hard to do with poll: it tells what is, not what has changed.)
 *
 *     cc custom_backend.c $(pkg-config --cflags --libs stellane-fiber) -o custom_backend && ./custom_backend
 *
 * It prints
 *
 *     backend poll is registered: poll(2), one list
 *     100 clients had 1000 lines echoed
 *     the runtime used backend poll
 *
 * How a backend is tried out: docs/backends.md. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* ppoll */
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <stellane/backend.h>
#include <stellane/stellane.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the backend ----
 *
 * What is armed stands in two arrays side by side, without holes: `fds`, which is as poll(2) wants it, and `armed`. place
 * says where in them a descriptor number is. Whoever waits takes a copy of both and polls that, without the lock, so that
 * others can arm and disarm meanwhile; an arm wakes it, as the list that the kernel has is an old one then. What the kernel
 * says is checked against the arrays afterwards: `serial` tells whether a number was armed anew meanwhile. */
struct armed {
    uint64_t token;
    uint64_t serial; /* of this arm */
};

struct poller {
    pthread_mutex_t lock; /* over all of the first block */
    struct pollfd *fds;
    struct armed *armed;
    int count, room;
    int *place; /* by descriptor number; -1: not armed */
    int places;
    uint64_t serial;
    bool waiting, interrupted;

    /* whoever waits: one thread at a time */
    struct pollfd *fds_now; /* the copy; one more than armed_now, for wake_fd */
    struct armed *armed_now;
    int room_now;

    int wake_fd; /* fixed */
};

/* Room for at least n elements of size bytes in *array, which has *room, -1: no memory. The first one is kept as it is. */
static int grow(void *array, size_t bytes, int room, int n) {
    void *old, *bigger;
    memcpy(&old, array, sizeof old);
    if (n <= room) return 0;
    bigger = realloc(old, bytes * (size_t)n);
    if (!bigger) return -1;
    memcpy(array, &bigger, sizeof bigger);
    return 0;
}

static int next_size(int room, int n) {
    while (room < n)
        room = room ? room * 2 : 64;
    return room;
}

static void destroy_poller(void *instance) {
    struct poller *p = instance;
    if (p->wake_fd >= 0) close(p->wake_fd);
    pthread_mutex_destroy(&p->lock);
    free(p->fds);
    free(p->armed);
    free(p->place);
    free(p->fds_now);
    free(p->armed_now);
    free(p);
}

static int create_poller(void **instance, int batch) {
    (void)batch; /* how many events will be asked for: nothing here depends on it */
    struct poller *p = calloc(1, sizeof *p);
    if (!p) return -ENOMEM;
    pthread_mutex_init(&p->lock, NULL);
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake_fd < 0) {
        int code = -errno; /* backends never switch fibers, so errno may be read in them */
        destroy_poller(p);
        return code;
    }
    *instance = p;
    return 0;
}

/* Under the lock: make the wait that runs return from the kernel. */
static void wake(struct poller *p) {
    uint64_t one = 1;
    if (p->waiting && write(p->wake_fd, &one, sizeof one) < 0) abort(); /* it cannot fail but by a bug */
}

/* Under the lock: where fd is, or -1. */
static int find(const struct poller *p, int fd) {
    return fd >= 0 && fd < p->places ? p->place[fd] : -1;
}

/* Under the lock: room for one more, whose number is fd. */
static int make_room(struct poller *p, int fd) {
    int places = next_size(p->places, fd + 1), room = next_size(p->room, p->count + 1);
    if (grow(&p->place, sizeof p->place[0], p->places, places)) return -ENOMEM;
    while (p->places < places)
        p->place[p->places++] = -1;
    if (grow(&p->fds, sizeof p->fds[0], p->room, room)) return -ENOMEM;
    if (grow(&p->armed, sizeof p->armed[0], p->room, room)) return -ENOMEM;
    p->room = room;
    return 0;
}

/* Under the lock: the last one takes the place of the one that goes. */
static void forget(struct poller *p, int at) {
    int last = --p->count;
    p->place[p->fds[at].fd] = -1;
    if (at == last) return;
    p->fds[at] = p->fds[last];
    p->armed[at] = p->armed[last];
    p->place[p->fds[at].fd] = at;
}

/* Any thread, also while another one waits. */
static int arm(void *instance, int fd, int events, uint64_t token) {
    struct poller *p = instance;
    struct stat st;
    if (fstat(fd, &st) < 0) return -errno;
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) return -EPERM; /* always ready, says poll: not to be waited for */
    pthread_mutex_lock(&p->lock);
    int at = find(p, fd), rc = 0;
    if (at < 0) {
        rc = make_room(p, fd);
        if (rc == 0) at = p->place[fd] = p->count++;
    }
    if (rc == 0) {
        p->fds[at] = (struct pollfd){ .fd = fd, .events = (short)events };
        p->armed[at] = (struct armed){ .token = token, .serial = ++p->serial };
        wake(p);
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

static int disarm(void *instance, int fd) {
    struct poller *p = instance;
    pthread_mutex_lock(&p->lock);
    int at = find(p, fd);
    if (at >= 0) forget(p, at);
    pthread_mutex_unlock(&p->lock);
    return at >= 0 ? 0 : -ENOENT;
}

static void interrupt(void *instance) {
    struct poller *p = instance;
    pthread_mutex_lock(&p->lock);
    p->interrupted = true; /* for the wait that runs, or else for the next one */
    wake(p);
    pthread_mutex_unlock(&p->lock);
}

static size_t pending(void *instance) {
    struct poller *p = instance;
    pthread_mutex_lock(&p->lock);
    size_t count = (size_t)p->count;
    pthread_mutex_unlock(&p->lock);
    return count;
}

/* Under the lock: take the copy. How many there are, or -ENOMEM. */
static int begin_wait(struct poller *p) {
    if (p->room_now <= p->count) {
        int room = next_size(p->room_now, p->count + 1);
        if (grow(&p->fds_now, sizeof p->fds_now[0], p->room_now, room)) return -ENOMEM;
        if (grow(&p->armed_now, sizeof p->armed_now[0], p->room_now, room)) return -ENOMEM;
        p->room_now = room;
    }
    if (p->count) {
        memcpy(p->fds_now, p->fds, sizeof p->fds[0] * (size_t)p->count);
        memcpy(p->armed_now, p->armed, sizeof p->armed[0] * (size_t)p->count);
    }
    p->fds_now[p->count] = (struct pollfd){ .fd = p->wake_fd, .events = POLLIN };
    p->waiting = true;
    return p->count;
}

/* Under the lock: of what the kernel said, what still holds. What finds no room among the n stays armed and is told the
 * next time: poll(2) repeats itself. */
static int end_wait(struct poller *p, int count, stel_backend_event *events, int n) {
    int filled = 0;
    uint64_t drain;
    p->waiting = false;
    if (p->fds_now[count].revents && read(p->wake_fd, &drain, sizeof drain) < 0 && errno != EAGAIN) abort();
    for (int i = 0; i < count && filled < n; i++) {
        const struct pollfd *now = &p->fds_now[i];
        int at = now->revents ? find(p, now->fd) : -1;
        if (at < 0 || p->armed[at].serial != p->armed_now[i].serial) continue;
        uint64_t token = p->armed[at].token;
        forget(p, at); /* one event for each arm; or the number was closed, which ends the watch without one */
        if (now->revents & POLLNVAL) continue;
        events[filled++] = (stel_backend_event){ .token = token, .result = now->revents, .kind = STEL_EVENT_READY };
    }
    return filled;
}

/* The time from now to until, for ppoll. */
static struct timespec time_to(int64_t until) {
    int64_t ns = until > 0 ? until - stel_now() : 0;
    if (ns < 0) ns = 0;
    return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };
}

/* One round in the kernel. *done: there are events, somebody interrupted, or the time has come. */
static int wait_once(struct poller *p, stel_backend_event *events, int n, int64_t until, bool *done) {
    pthread_mutex_lock(&p->lock);
    if (p->interrupted) until = 0;
    int count = begin_wait(p);
    pthread_mutex_unlock(&p->lock);
    if (count < 0) return count;

    struct timespec length = time_to(until);
    int rc = ppoll(p->fds_now, (nfds_t)count + 1, until == STEL_FOREVER ? NULL : &length, NULL);
    int code = rc < 0 ? -errno : 0;

    pthread_mutex_lock(&p->lock);
    for (int i = 0; rc < 0 && i <= count; i++)
        p->fds_now[i].revents = 0; /* it said nothing of them */
    int filled = end_wait(p, count, events, n);
    *done = filled > 0 || p->interrupted || rc == 0;
    if (*done) p->interrupted = false;
    pthread_mutex_unlock(&p->lock);
    return code < 0 && code != -EINTR ? code : filled;
}

static int wait_for_events(void *instance, stel_backend_event *events, int n, int64_t until) {
    bool done = false;
    int filled = 0;
    while (!done && filled >= 0)
        filled = wait_once(instance, events, n, until, &done); /* again: an arm woke us, the list is a new one */
    return filled;
}

/* Is it usable on this machine? Always; the words are for people. */
static int probe(char *why, size_t bytes) {
    snprintf(why, bytes, "poll(2), one list");
    return 0;
}

const stel_backend_ops poll_backend = {
    .size = sizeof poll_backend,
    .abi = STEL_BACKEND_ABI,
    .capabilities = STEL_BACKEND_READINESS | STEL_BACKEND_ONESHOT,
    .probe = probe,
    .create = create_poller,
    .destroy = destroy_poller,
    .arm = arm,
    .disarm = disarm,
    .wait = wait_for_events,
    .interrupt = interrupt,
    .pending = pending,
};

/* ---- a program that uses it ---- */
#ifndef STELLANE_EXAMPLE_NO_MAIN /* the library's own tests take the backend alone */

enum { CLIENTS = 100, LINES = 10 };

static void die(const char *what, int code) {
    if (code >= 0) return;
    fprintf(stderr, "custom_backend: %s: %s\n", what, stel_strerror(code));
    exit(EXIT_FAILURE);
}

static int echo(void *arg) {
    int fd = (int)(intptr_t)arg;
    char buffer[256];
    ssize_t n;
    while ((n = stel_read(fd, buffer, sizeof buffer)) > 0)
        if (stel_write_all(fd, buffer, (size_t)n, NULL) < 0) break;
    return stel_close(fd);
}

static int serve(void *arg) {
    int fd;
    while ((fd = stel_accept((int)(intptr_t)arg, NULL, NULL)) >= 0)
        if (stel_go(echo, (void *)(intptr_t)fd) < 0) stel_close(fd);
    return 0; /* closed: there are no more clients */
}

static int talk(void *arg) {
    char line[32], back[32];
    int fd = stel_dial(arg), same = 0;
    if (fd < 0) return fd;
    for (int i = 0; i < LINES; i++) {
        size_t length = (size_t)snprintf(line, sizeof line, "line %d of %" PRIx64 "\n", i, (uint64_t)stel_self());
        int rc = stel_write_all(fd, line, length, NULL);
        if (rc == 0) rc = stel_read_full(fd, back, length, NULL);
        if (rc < 0) break;
        same += memcmp(line, back, length) == 0;
    }
    stel_close(fd);
    return same;
}

static int app(void *arg) {
    (void)arg;
    char address[64];
    stel_fiber clients[CLIENTS], server;
    int listener = stel_listen("127.0.0.1:0", CLIENTS), echoed = 0;
    die("listen", listener);
    die("address", stel_local_address(listener, address, sizeof address));
    die("spawn", stel_spawn(&server, serve, (void *)(intptr_t)listener));
    for (int i = 0; i < CLIENTS; i++)
        die("spawn", stel_spawn(&clients[i], talk, address));
    for (int i = 0; i < CLIENTS; i++) {
        int same = 0;
        die("join", stel_join(clients[i], &same));
        die("client", same);
        echoed += same;
    }
    die("close", stel_close(listener)); /* wakes the server, which waits in accept */
    die("join", stel_join(server, NULL));
    printf("%d clients had %d lines echoed\n", CLIENTS, echoed);
    return echoed == CLIENTS * LINES ? 0 : -EIO;
}

int main(void) {
    char why[128];
    die("register", stel_backend_register("poll", &poll_backend));
    die("probe", stel_backend_probe("poll", why, sizeof why));
    printf("backend poll is registered: %s\n", why);

    stel_config config;
    stel_config_init(&config);
    die("environment", stel_config_from_env(&config));
    strcpy(config.backend, "poll");
    config.auto_shutdown = 1; /* stop when all fibers have ended */
    stel_runtime *runtime;
    stel_stats stats;
    stel_fiber first;
    int result = 0;
    die("create", stel_runtime_create(&runtime, &config));
    die("spawn", stel_runtime_spawn(runtime, &first, NULL, app, NULL));
    die("start", stel_runtime_start(runtime));
    die("join", stel_join(first, &result));
    die("stats", stel_runtime_stats(runtime, &stats));
    printf("the runtime used backend %s\n", stats.backend_type);
    die("wait", stel_runtime_wait(runtime));
    die("destroy", stel_runtime_destroy(runtime));
    return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
#endif
