/* bench-pthread: plain threads, 32 KiB of stack each, doing what the fibers do. Only where it makes sense: a tree of a
 * million threads or a million parked ones do not exist. */
#include "../../common/bench.h"
#include "files.h"
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef pthread_t thread;

static pthread_attr_t small_stack;

static inline void thread_spawn(thread *out, void *(*fn)(void *), void *arg) {
    int rc = pthread_create(out, &small_stack, fn, arg);
    if (rc != 0) bench_fail("pthread_create failed: %s", strerror(rc));
}

static inline void *thread_join(thread t) {
    void *result;
    if (pthread_join(t, &result) != 0) bench_fail("pthread_join failed");
    return result;
}

static inline void thread_yield(void) {
    sched_yield();
}

static inline void thread_sleep(int64_t ns) {
    struct timespec t = { ns / 1000000000, ns % 1000000000 };
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

typedef pthread_mutex_t mutex;

static inline void mutex_init(mutex *m) {
    if (pthread_mutex_init(m, NULL) != 0) bench_fail("pthread_mutex_init failed");
}

static inline void mutex_lock(mutex *m) {
    pthread_mutex_lock(m);
}

static inline void mutex_unlock(mutex *m) {
    pthread_mutex_unlock(m);
}

/* One element, handed over under a mutex. */
typedef struct channel {
    pthread_mutex_t mutex;
    pthread_cond_t sent, received;
    uint64_t element;
    bool full, closed;
} channel;

static inline void channel_init(channel *c) {
    *c = (channel){ .full = false };
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->sent, NULL);
    pthread_cond_init(&c->received, NULL);
}

static inline void channel_send(channel *c, uint64_t element) {
    pthread_mutex_lock(&c->mutex);
    c->element = element;
    c->full = true;
    pthread_cond_signal(&c->sent);
    while (c->full)
        pthread_cond_wait(&c->received, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
}

/* until: on CLOCK_REALTIME, as conditions have it; NULL: for as long as it takes. */
static inline bool channel_recv_until(channel *c, uint64_t *element, const struct timespec *until) {
    int rc = 0;
    pthread_mutex_lock(&c->mutex);
    while (!c->full && !c->closed && rc == 0)
        rc = until ? pthread_cond_timedwait(&c->sent, &c->mutex, until) : pthread_cond_wait(&c->sent, &c->mutex);
    bool got = c->full;
    *element = c->element;
    c->full = false;
    if (got) pthread_cond_signal(&c->received);
    pthread_mutex_unlock(&c->mutex);
    return got;
}

static inline bool channel_recv(channel *c, uint64_t *element) {
    return channel_recv_until(c, element, NULL);
}

static inline bool channel_recv_within(channel *c, uint64_t *element, int64_t ns) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    ns += until.tv_nsec;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    return channel_recv_until(c, element, &until);
}

static inline void channel_close(channel *c) {
    pthread_mutex_lock(&c->mutex);
    c->closed = true;
    pthread_cond_broadcast(&c->sent);
    pthread_mutex_unlock(&c->mutex);
}

#include "../../common/threads.h"

/* ---- echo: a thread a connection ---- */

static void *serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    char buffer[4096];
    ssize_t n;
    while ((n = recv(fd, buffer, sizeof buffer, 0)) > 0)
        if (send(fd, buffer, (size_t)n, MSG_NOSIGNAL) != n) break;
    close(fd);
    return NULL;
}

static void run_echo(void) {
    int port, listener = bench_listen(&port, 0), one = 1;
    bench_serve(port);
    for (;;) {
        thread t;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        thread_spawn(&t, serve, (void *)(intptr_t)fd);
        pthread_detach(t);
    }
}

/* ---- wake-ups ---- */

static void run_wake(void) {
    int fd = bench_serve_pipe();
    int64_t stamp;
    while (read(fd, &stamp, sizeof stamp) == sizeof stamp)
        bench_woken(stamp);
}

static void *woken_across(void *arg) {
    uint64_t stamp;
    bench_pin(1);
    while (channel_recv(&there, &stamp))
        bench_woken((int64_t)stamp);
    return arg;
}

static void run_wake_across(void) {
    int64_t n = bench_param("ops", 1000), warm = n / 10, gap_ns = bench_param("gap_us", 1000) * 1000;
    thread t;
    channel_init(&there);
    thread_spawn(&t, woken_across, NULL);
    bench_pin(0);
    for (int64_t i = -warm; i < n; i++) {
        thread_sleep(gap_ns);
        if (i == 0) bench_start();
        int64_t now = bench_now();
        channel_send(&there, (uint64_t)(i < 0 ? -now : now));
    }
    thread_sleep(gap_ns);
    bench_stop();
    channel_close(&there);
    thread_join(t);
    bench_wake_results();
}

static void run_start(void) {
    thread t;
    thread_spawn(&t, give_back, NULL);
    thread_join(t);
}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", run_yield },
        { "spawn-join", run_spawn_join },
        { "spawn-all", run_spawn_all },
        { "mutex", run_mutex },
        { "channel", run_channel },
        { "timers", run_timers },
        { "echo", run_echo },
        { "wake", run_wake },
        { "wake-across", run_wake_across },
        { "start", run_start },
        { "read", run_read },
        { "read-through", run_read_through },
        { "append", run_append },
        { "tree", run_tree },
        { "fairness", run_fairness },
        { NULL, NULL },
    };
    prctl(PR_SET_TIMERSLACK, 1L); /* of its threads too */
    pthread_attr_init(&small_stack);
    size_t stack_bytes = 32768 > PTHREAD_STACK_MIN ? 32768 : (size_t)PTHREAD_STACK_MIN;
    if (pthread_attr_setstacksize(&small_stack, stack_bytes) != 0) bench_fail("no small stacks");
    return bench_main(argc, argv, "pthread", table);
}
