/* Backends of one's own: registering them, and a runtime that runs on one made of poll(2). */
#include "io_sides.h"
#include <errno.h>
#include <poll.h>
#include <stellane/backend.h>

/* ---- a backend: a table of descriptors, poll(2), and a pipe for interrupts ---- */

enum { MOST = 64 };
typedef struct table {
    pthread_mutex_t lock;
    int count, pipe[2], armed;
    struct pollfd fds[MOST];
    uint64_t tokens[MOST];
    short told[MOST]; /* what was ready at the last look: only what is new is an edge */
} table;

static table *latest;

static int table_create(void **instance, int batch) {
    (void)batch;
    table *t = calloc(1, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    if (pipe2(t->pipe, O_CLOEXEC | O_NONBLOCK) < 0) return -EMFILE;
    *instance = latest = t;
    return 0;
}

static void table_destroy(void *instance) {
    table *t = instance;
    close(t->pipe[0]);
    close(t->pipe[1]);
    free(t);
}

static void table_interrupt(void *instance) {
    table *t = instance;
    if (write(t->pipe[1], "i", 1) < 0) return; /* full: it will wake */
}

static int find(const table *t, int fd) {
    for (int i = 0; i < t->count; i++)
        if (t->fds[i].fd == fd) return i;
    return -1;
}

static int table_arm(void *instance, int fd, int events, uint64_t token) {
    table *t = instance;
    (void)events; /* edges of all of them */
    int rc = 0;
    pthread_mutex_lock(&t->lock);
    int at = find(t, fd);
    if (at >= 0 && t->tokens[at] == token) {
        rc = -EEXIST;
    } else if (at < 0 && t->count == MOST) {
        rc = -ENOSPC;
    } else {
        if (at < 0) at = t->count++;
        t->fds[at] = (struct pollfd){ .fd = fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP };
        t->tokens[at] = token;
        t->told[at] = 0;
        t->armed++;
    }
    pthread_mutex_unlock(&t->lock);
    table_interrupt(t);
    return rc;
}

static int table_disarm(void *instance, int fd) {
    table *t = instance;
    pthread_mutex_lock(&t->lock);
    int at = find(t, fd);
    if (at >= 0) {
        t->count--;
        t->fds[at] = t->fds[t->count];
        t->tokens[at] = t->tokens[t->count];
        t->told[at] = 0;
    }
    pthread_mutex_unlock(&t->lock);
    return at < 0 ? -ENOENT : 0;
}

/* Every half millisecond afresh: whether a byte that is there is an old one cannot be known, so each look is an edge. */
static int table_wait(void *instance, stel_backend_event *events, int n, int64_t until) {
    table *t = instance;
    int filled = 0;
    for (;;) {
        pthread_mutex_lock(&t->lock);
        struct pollfd own = { .fd = t->pipe[0], .events = POLLIN };
        (void)!poll(t->fds, (nfds_t)t->count, 0);
        for (int i = 0; i < t->count && filled < n; i++) {
            short now = t->fds[i].revents, news = (short)(now & ~POLLOUT) | (short)(now & ~t->told[i]);
            t->told[i] = now;
            if (news && !(now & POLLNVAL))
                events[filled++] =
                    (stel_backend_event){ .token = t->tokens[i], .result = now, .kind = STEL_EVENT_READY };
        }
        pthread_mutex_unlock(&t->lock);
        char bytes[64];
        if (poll(&own, 1, 0) > 0 && read(t->pipe[0], bytes, sizeof bytes) > 0) return filled;
        if (filled || until <= stel_now()) return filled;
        usleep(500);
    }
}

static int not_here(void *instance, stel_operation *operation) {
    (void)instance;
    (void)operation;
    return -EOPNOTSUPP;
}
static void nor_this(void *instance, stel_operation *operation) {
    (void)instance;
    (void)operation;
}

static const stel_backend_ops table_ops = {
    .size = sizeof(stel_backend_ops),
    .abi = STEL_BACKEND_ABI,
    .capabilities = STEL_BACKEND_READINESS,
    .create = table_create,
    .destroy = table_destroy,
    .arm = table_arm,
    .disarm = table_disarm,
    .wait = table_wait,
    .interrupt = table_interrupt,
};

/* ---- registering ---- */

START_TEST(registering) {
    stel_backend_ops o = table_ops;
    const char *names[20];
    ck_assert(stel_backend_has("epoll"));
    ck_assert(!stel_backend_has("table"));
    ck_assert(!stel_backend_has(NULL));
    ck_assert_uint_eq(stel_backend_list(names, 20), 2);
    ck_assert_str_eq(names[0], "epoll");
    ck_assert_str_eq(names[1], "io_uring");
    ck_assert_int_eq(stel_backend_register("table", &o), 0);
    ck_assert(stel_backend_has("table"));
    ck_assert_uint_eq(stel_backend_list(NULL, 0), 3);
    ck_assert_uint_eq(stel_backend_list(names, 20), 3);
    ck_assert_str_eq(names[2], "table");
    ck_assert_int_eq(stel_backend_register("table", &o), -EEXIST);
    ck_assert_int_eq(stel_backend_register("epoll", &o), -EEXIST);
    ck_assert_int_eq(stel_backend_register("auto", &o), -EINVAL);
    ck_assert_int_eq(stel_backend_register("", &o), -EINVAL);
    ck_assert_int_eq(stel_backend_register(NULL, &o), -EINVAL);
    ck_assert_int_eq(stel_backend_register("a", NULL), -EINVAL);
    ck_assert_int_eq(stel_backend_register("a name of 32 bytes, which is one", &o), -EINVAL);
    ck_assert_int_eq(stel_backend_register("a name of 31 bytes, which fits.", &o), 0);

#define REFUSED(change)                                                                                                \
    do {                                                                                                               \
        stel_backend_ops bad = table_ops;                                                                              \
        change;                                                                                                        \
        ck_assert_int_eq(stel_backend_register("bad", &bad), -EINVAL);                                                 \
    } while (0)
    REFUSED(bad.size = 8);
    REFUSED(bad.abi = 99);
    REFUSED(bad.capabilities = 0);
    REFUSED(bad.create = NULL);
    REFUSED(bad.destroy = NULL);
    REFUSED(bad.wait = NULL);
    REFUSED(bad.interrupt = NULL);
    REFUSED(bad.arm = NULL);
    REFUSED(bad.disarm = NULL);
    REFUSED(bad.capabilities = STEL_BACKEND_COMPLETION);
    REFUSED(bad.capabilities = STEL_BACKEND_ONESHOT);
    REFUSED(bad.capabilities |= STEL_BACKEND_OWNED);
    REFUSED(bad.capabilities |= 1u << 31);
    o.capabilities = STEL_BACKEND_COMPLETION;
    o.submit = not_here;
    o.cancel = nor_this;
    ck_assert_int_eq(stel_backend_register("completions", &o), 0);
    char name[16];
    for (size_t i = stel_backend_list(NULL, 0); i < 16; i++) {
        snprintf(name, sizeof name, "b%zu", i);
        ck_assert_int_eq(stel_backend_register(name, &o), 0);
    }
    ck_assert_int_eq(stel_backend_register("one more", &o), -ENOSPC);
}
END_TEST

/* ---- a runtime on it ---- */

static int echo(void *arg) {
    int fd = *(int *)arg;
    char buffer[64];
    ssize_t n;
    while ((n = stel_read(fd, buffer, sizeof buffer)) > 0)
        FIBER_OK(stel_write_all(fd, buffer, (size_t)n, NULL));
    return (int)n;
}

static int converse(void *arg) {
    (void)arg;
    int fds[2];
    side other;
    char byte;
    tcp_pair(fds);
    side_start(&other, echo, &fds[1]);
    for (int i = 0; i < 50; i++) {
        FIBER_ASSERT_EQ(stel_write(fds[0], "q", 1), 1);
        FIBER_ASSERT_EQ(stel_read(fds[0], &byte, 1), 1);
    }
    {
        STEL_TIMEOUT(STEL_MS(10));
        FIBER_ASSERT_EQ(stel_read(fds[0], &byte, 1), -ETIMEDOUT);
    }
    FIBER_ASSERT_EQ(shutdown(fds[0], SHUT_WR), 0);
    FIBER_ASSERT_EQ(side_join(&other), 0);
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
    FIBER_ASSERT(latest->armed > 0);
    return 0;
}

START_TEST(runs_on_it) {
    stel_config c;
    FIBER_OK(stel_backend_register("table", &table_ops));
    stel_config_init(&c);
    strcpy(c.backend, "table");
    for (c.worker_threads = 1; c.worker_threads <= 2; c.worker_threads++)
        ck_assert_int_eq(run_in_runtime_with(&c, converse, NULL), 0);
}
END_TEST

TEST_MAIN("poller/backend", registering, runs_on_it)
