/* bench-neco: neco, compiled with the driver from its one source file, as it is meant to be. Coroutines of one thread: a
 * spawned one runs at once, until it waits. Stacks of 128 KiB, which are the smallest that it takes. */
#include "../../common/bench.h"
#include <neco.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(call) must((call), #call)

static void must(int code, const char *what) {
    if (code != NECO_OK) bench_fail("%s: %s", what, neco_strerror(code));
}

/* ---- what tasks.h asks for ---- */

#define TASK_RETURNS void
#define TASK_END     /* nothing */

typedef int64_t task;

typedef struct entry {
    void (*fn)(void *);
} entry;

static void enter(int argc, void *argv[]) {
    entry e;
    (void)argc;
    memcpy(&e, &argv[0], sizeof e);
    e.fn(argv[1]);
}

static task task_spawn(void (*fn)(void *), void *arg) {
    MUST(neco_start(enter, 2, fn, arg));
    return neco_lastid();
}

/* One that has ended is not found. */
static void task_join(task id) {
    int code = neco_join(id);
    if (code != NECO_NOTFOUND) MUST(code);
}

static void task_yield(void) {
    neco_yield();
}

static void task_park(void) {
    MUST(neco_suspend());
}

static void task_unpark(task id) {
    MUST(neco_resume(id));
}

static void task_sleep_until(int64_t ns) {
    int64_t left = ns - bench_now();
    if (left > 0) MUST(neco_sleep(left));
}

typedef neco_mutex task_mutex;

static void task_mutex_init(task_mutex *mutex) {
    MUST(neco_mutex_init(mutex));
}

static void task_mutex_destroy(task_mutex *mutex) {
    (void)mutex;
}

static void task_lock(task_mutex *mutex) {
    neco_mutex_lock(mutex);
}

static void task_unlock(task_mutex *mutex) {
    neco_mutex_unlock(mutex);
}

typedef neco_chan *task_channel;

static void task_channel_init(task_channel *channel) {
    MUST(neco_chan_make(channel, sizeof(uint64_t), 0));
}

static void task_send(task_channel *channel, uint64_t number) {
    MUST(neco_chan_send(*channel, &number));
}

static uint64_t task_receive(task_channel *channel) {
    uint64_t number;
    MUST(neco_chan_recv(*channel, &number));
    return number;
}

#include "../../common/tasks.h"

#include "../../common/tasks_parked.h"
#include "../../common/tasks_timers.h"

/* ---- echo ---- */

static void serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    char buffer[4096];
    ssize_t n;
    while ((n = neco_read(fd, buffer, sizeof buffer)) > 0)
        if (neco_write(fd, buffer, (size_t)n) != n) break;
    close(fd);
}

static void echo_main(void) {
    int port, listener = bench_listen(&port, SOCK_NONBLOCK), one = 1, fd;
    bench_serve(port);
    while ((fd = neco_accept(listener, NULL, NULL)) >= 0) {
        neco_setnonblock(fd, true, NULL);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        task_spawn(serve, (void *)(intptr_t)fd);
    }
    bench_fail("accept: %s", neco_strerror(fd));
}

/* ---- the first coroutine ---- */

static void (*first)(void);

static void run_first(int argc, void *argv[]) {
    (void)argc;
    (void)argv;
    first();
}

static void run(void (*fn)(void)) {
    first = fn;
    int code = neco_start(run_first, 0);
    if (code != NECO_OK) bench_fail("neco_start: %s", neco_strerror(code));
}

#define RUN(name)                                                                                                      \
    static void run_##name(void) {                                                                                     \
        run(name##_main);                                                                                              \
    }

RUN(yield)
RUN(spawn_join)
RUN(spawn_all)
RUN(skynet)
RUN(fib)
RUN(channel)
RUN(mutex)
RUN(parked)
RUN(timers)
RUN(echo)
RUN(start)

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", run_yield },         { "spawn-join", run_spawn_join }, { "fib", run_fib },
        { "spawn-all", run_spawn_all }, { "skynet", run_skynet },         { "channel", run_channel },
        { "mutex", run_mutex },         { "parked", run_parked },         { "timers", run_timers },
        { "echo", run_echo },           { "start", run_start },           { NULL, NULL },
    };
    return bench_main(argc, argv, "neco", table);
}
