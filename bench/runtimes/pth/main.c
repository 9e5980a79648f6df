/* bench-pth: GNU Pth, one worker: it has no more. Stacks of 64 KiB, without guards, as the library makes them. Whoever waits
 * is in a queue that its scheduler walks through whenever it has nothing else to do, and it waits for descriptors with
 * select(2); neither is meant for thousands. */
#include "../../common/bench.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pth.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef pth_t thread;

static pth_attr_t joinable, detached;

static inline void thread_spawn(thread *out, void *(*fn)(void *), void *arg) {
    *out = pth_spawn(joinable, fn, arg);
    if (!*out) bench_fail("pth_spawn failed: %s", strerror(errno));
}

static inline void *thread_join(thread t) {
    void *result;
    if (!pth_join(t, &result)) bench_fail("pth_join failed: %s", strerror(errno));
    return result;
}

static inline void thread_yield(void) {
    pth_yield(NULL);
}

/* Its clock counts microseconds, so a sleep may end early by less than one. */
static inline void thread_sleep(int64_t ns) {
    int64_t us = ns / 1000 + 1;
    pth_nap(pth_time((long)(us / 1000000), (long)(us % 1000000)));
}

typedef pth_mutex_t mutex;

static inline void mutex_init(mutex *m) {
    pth_mutex_init(m);
}

static inline void mutex_lock(mutex *m) {
    pth_mutex_acquire(m, FALSE, NULL);
}

static inline void mutex_unlock(mutex *m) {
    pth_mutex_release(m);
}

/* Threads are switched only where they wait; the mutex is there because its conditions ask for one. */
typedef struct channel {
    pth_mutex_t mutex;
    pth_cond_t sent, received;
    uint64_t element;
    bool full, closed;
} channel;

static inline void channel_init(channel *c) {
    c->full = c->closed = false;
    pth_mutex_init(&c->mutex);
    pth_cond_init(&c->sent);
    pth_cond_init(&c->received);
}

static inline void channel_send(channel *c, uint64_t element) {
    pth_mutex_acquire(&c->mutex, FALSE, NULL);
    c->element = element;
    c->full = true;
    pth_cond_notify(&c->sent, FALSE);
    while (c->full)
        pth_cond_await(&c->received, &c->mutex, NULL);
    pth_mutex_release(&c->mutex);
}

/* timeout: an event; NULL: for as long as it takes. */
static inline bool channel_recv_before(channel *c, uint64_t *element, pth_event_t timeout) {
    pth_mutex_acquire(&c->mutex, FALSE, NULL);
    while (!c->full && !c->closed && (!timeout || pth_event_status(timeout) == PTH_STATUS_PENDING))
        pth_cond_await(&c->sent, &c->mutex, timeout);
    bool got = c->full;
    *element = c->element;
    c->full = false;
    if (got) pth_cond_notify(&c->received, FALSE);
    pth_mutex_release(&c->mutex);
    return got;
}

static inline bool channel_recv(channel *c, uint64_t *element) {
    return channel_recv_before(c, element, NULL);
}

static inline bool channel_recv_within(channel *c, uint64_t *element, int64_t ns) {
    pth_event_t timeout = pth_event(PTH_EVENT_TIME, pth_timeout((long)(ns / 1000000000), (long)(ns / 1000 % 1000000)));
    bool got = channel_recv_before(c, element, timeout);
    pth_event_free(timeout, PTH_FREE_THIS);
    return got;
}

static inline void channel_close(channel *c) {
    pth_mutex_acquire(&c->mutex, FALSE, NULL);
    c->closed = true;
    pth_cond_notify(&c->sent, TRUE);
    pth_mutex_release(&c->mutex);
}

#include "../../common/threads.h"

/* ---- echo: a thread a connection ---- */

static void *serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    char buffer[4096];
    ssize_t n;
    while ((n = pth_read(fd, buffer, sizeof buffer)) > 0)
        if (pth_write(fd, buffer, (size_t)n) != n) break;
    close(fd);
    return NULL;
}

static void run_echo(void) {
    int port, listener = bench_listen(&port, 0), fd, one = 1;
    bench_serve(port);
    while ((fd = pth_accept(listener, NULL, NULL)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (!pth_spawn(detached, serve, (void *)(intptr_t)fd)) close(fd);
    }
    bench_fail("pth_accept failed: %s", strerror(errno));
}

/* ---- wake-ups ---- */

static void run_wake(void) {
    int fd = bench_serve_pipe();
    int64_t stamp;
    while (pth_read(fd, &stamp, sizeof stamp) == sizeof stamp)
        bench_woken(stamp);
}

static void run_start(void) {
    thread t;
    thread_spawn(&t, give_back, NULL);
    thread_join(t);
}

static pth_attr_t attributes(int wanted) {
    pth_attr_t a = pth_attr_new();
    if (!a || !pth_attr_set(a, PTH_ATTR_STACK_SIZE, 64 * 1024) || !pth_attr_set(a, PTH_ATTR_JOINABLE, wanted))
        bench_fail("pth_attr_set failed");
    return a;
}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", run_yield },   { "spawn-join", run_spawn_join },
        { "skynet", run_skynet }, { "spawn-all", run_spawn_all },
        { "fib", run_fib },       { "channel", run_channel },
        { "mutex", run_mutex },   { "timers", run_timers },
        { "echo", run_echo },     { "wake", run_wake },
        { "tree", run_tree },     { "fairness", run_fairness },
        { "start", run_start },   { NULL, NULL },
    };
    if (!pth_init()) bench_fail("pth_init failed");
    joinable = attributes(TRUE);
    detached = attributes(FALSE);
    return bench_main(argc, argv, "pth", table);
}
