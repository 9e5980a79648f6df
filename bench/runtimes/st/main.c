/* bench-st: State Threads, one worker: it has no more. Stacks of 64 KiB, without guards, as the library makes them; it keeps
 * those of threads that have ended. To yield is to sleep for no time, which goes through its poll; there is no other
 * way. It polls with epoll where it was built with it, which Debian's is not, otherwise with poll(2): of the two that
 * are left the one that knows of more than 1024 descriptors. */
#include "../../common/bench.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <st.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { STACK_BYTES = 64 * 1024 };

typedef st_thread_t thread;

static inline void thread_spawn(thread *out, void *(*fn)(void *), void *arg) {
    *out = st_thread_create(fn, arg, 1, STACK_BYTES);
    if (!*out) bench_fail("st_thread_create failed");
}

static inline void *thread_join(thread t) {
    void *result;
    if (st_thread_join(t, &result) != 0) bench_fail("st_thread_join failed");
    return result;
}

static inline void thread_yield(void) {
    st_usleep(0);
}

/* Its clock is the one of its last poll, so a sleep may end early by what the threads did since. */
static inline void thread_sleep(int64_t ns) {
    int64_t until = bench_now() + ns, left = ns;
    do
        st_usleep((st_utime_t)(left + 999) / 1000);
    while ((left = until - bench_now()) > 0);
}

typedef st_mutex_t mutex;

static inline void mutex_init(mutex *m) {
    if (!(*m = st_mutex_new())) bench_fail("st_mutex_new failed");
}

static inline void mutex_lock(mutex *m) {
    st_mutex_lock(*m);
}

static inline void mutex_unlock(mutex *m) {
    st_mutex_unlock(*m);
}

/* Threads are switched only where they wait, so there is nothing to lock. */
typedef struct channel {
    st_cond_t sent, received;
    uint64_t element;
    bool full, closed;
} channel;

static inline void channel_init(channel *c) {
    *c = (channel){ .sent = st_cond_new(), .received = st_cond_new() };
    if (!c->sent || !c->received) bench_fail("st_cond_new failed");
}

static inline void channel_send(channel *c, uint64_t element) {
    c->element = element;
    c->full = true;
    st_cond_signal(c->sent);
    while (c->full)
        st_cond_wait(c->received);
}

static inline bool channel_recv_before(channel *c, uint64_t *element, st_utime_t timeout) {
    while (!c->full) {
        if (c->closed || st_cond_timedwait(c->sent, timeout) != 0) return false;
    }
    *element = c->element;
    c->full = false;
    st_cond_signal(c->received);
    return true;
}

static inline bool channel_recv(channel *c, uint64_t *element) {
    return channel_recv_before(c, element, ST_UTIME_NO_TIMEOUT);
}

static inline bool channel_recv_within(channel *c, uint64_t *element, int64_t ns) {
    return channel_recv_before(c, element, (st_utime_t)ns / 1000);
}

static inline void channel_close(channel *c) {
    c->closed = true;
    st_cond_broadcast(c->sent);
}

static st_cond_t gate;

static inline void gate_init(void) {
    if (!(gate = st_cond_new())) bench_fail("st_cond_new failed");
}

static inline void gate_wait(void) {
    st_cond_wait(gate);
}

static inline void gate_open_one(void) {
    st_cond_signal(gate);
}

#include "../../common/threads.h"

#include "../../common/parked.h"

/* ---- echo: a thread a connection ---- */

static void *serve(void *arg) {
    st_netfd_t connection = arg;
    char buffer[4096];
    ssize_t n;
    while ((n = st_read(connection, buffer, sizeof buffer, ST_UTIME_NO_TIMEOUT)) > 0)
        if (st_write(connection, buffer, (size_t)n, ST_UTIME_NO_TIMEOUT) != n) break;
    st_netfd_close(connection);
    return NULL;
}

static void run_echo(void) {
    int port, fd = bench_listen(&port, 0), one = 1;
    st_netfd_t listener = st_netfd_open_socket(fd), connection;
    if (!listener) bench_fail("st_netfd_open_socket failed");
    bench_serve(port);
    while ((connection = st_accept(listener, NULL, NULL, ST_UTIME_NO_TIMEOUT)) != NULL) {
        setsockopt(st_netfd_fileno(connection), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (!st_thread_create(serve, connection, 0, STACK_BYTES)) st_netfd_close(connection);
    }
    bench_fail("st_accept failed: %s", strerror(errno));
}

/* ---- wake-ups ---- */

static void run_wake(void) {
    st_netfd_t pipe = st_netfd_open(bench_serve_pipe());
    int64_t stamp;
    if (!pipe) bench_fail("st_netfd_open failed");
    while (st_read(pipe, &stamp, sizeof stamp, ST_UTIME_NO_TIMEOUT) == sizeof stamp)
        bench_woken(stamp);
}

static void run_start(void) {
    thread t;
    thread_spawn(&t, give_back, NULL);
    thread_join(t);
}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", run_yield },   { "spawn-join", run_spawn_join },
        { "skynet", run_skynet }, { "spawn-all", run_spawn_all },
        { "fib", run_fib },       { "channel", run_channel },
        { "mutex", run_mutex },   { "parked", run_parked },
        { "timers", run_timers }, { "echo", run_echo },
        { "wake", run_wake },     { "start", run_start },
        { "tree", run_tree },     { "fairness", run_fairness },
        { NULL, NULL },
    };
    st_set_eventsys(ST_EVENTSYS_ALT);
    if (strcmp(st_get_eventsys_name(), "epoll") != 0) st_set_eventsys(ST_EVENTSYS_POLL);
    if (st_init() != 0) bench_fail("st_init failed");
    return bench_main(argc, argv, "st", table);
}
