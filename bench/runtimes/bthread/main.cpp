// bench-bthread: the fibers of brpc. It has four workers at least, however few are asked for; here they share the one CPU
// or the two that the process is bound to, and with one CPU they are not woken for what was started. What is waited for at
// once is started with bthread_start_urgent, which runs it before the one that started it goes on. Stacks are the small
// ones (32 KiB), with guards, so parked ends at some 33,000.
//
// The newest runs first, and that is the one that has just yielded: yield lets nobody else run but by another worker.
//
// It has no channels: a rendezvous is a semaphore of its each way. The echo server waits with bthread_fd_wait.
#include "../../common/bench.h"
#include <bthread/bthread.h>
#include <bthread/unstable.h>
#include <cerrno>
#include <cstring>
#include <gflags/gflags.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(call) must((call), #call)

static void must(int code, const char *what) {
    if (code != 0) bench_fail("%s: %s", what, strerror(code < 0 ? errno : code));
}

// ---- what tasks.h asks for ----

#define TASK_RETURNS   void *
#define TASK_END       nullptr
#define TASK_SPAWN_NOW spawn_and_run

typedef bthread_t task;

// Workers are told of what was started when it is waited for, and only where there is a CPU for them.
static const bthread_attr_t quiet = BTHREAD_ATTR_SMALL | BTHREAD_NOSIGNAL;
static bool several;

static task task_spawn(void *(*fn)(void *), void *arg) {
    bthread_t thread;
    MUST(bthread_start_background(&thread, &quiet, fn, arg));
    return thread;
}

static task spawn_and_run(void *(*fn)(void *), void *arg) {
    bthread_t thread;
    MUST(bthread_start_urgent(&thread, &quiet, fn, arg));
    return thread;
}

static void task_join(task thread) {
    if (several) bthread_flush();
    MUST(bthread_join(thread, nullptr));
}

static void task_yield() {
    bthread_yield();
}

typedef bthread_mutex_t task_mutex;

static void task_mutex_init(task_mutex *mutex) {
    MUST(bthread_mutex_init(mutex, nullptr));
}

static void task_mutex_destroy(task_mutex *mutex) {
    MUST(bthread_mutex_destroy(mutex));
}

static void task_lock(task_mutex *mutex) {
    bthread_mutex_lock(mutex);
}

static void task_unlock(task_mutex *mutex) {
    bthread_mutex_unlock(mutex);
}

// The number lies beside the semaphore; nobody sends again before the answer.
struct task_channel {
    bthread_sem_t sent;
    std::uint64_t number;
};

static void task_channel_init(task_channel *c) {
    MUST(bthread_sem_init(&c->sent, 0));
}

static void task_send(task_channel *c, std::uint64_t number) {
    c->number = number;
    MUST(bthread_sem_post(&c->sent));
}

static std::uint64_t task_receive(task_channel *c) {
    MUST(bthread_sem_wait(&c->sent));
    return c->number;
}

static void task_sleep_until(std::int64_t ns) {
    std::int64_t left = ns - bench_now();
    if (left > 0) MUST(bthread_usleep(static_cast<std::uint64_t>(left + 999) / 1000));
}

#include "../../common/tasks.h"

#include "../../common/tasks_timers.h"

// ---- echo ----

// Whether it was worth waiting.
static bool wait_for(int fd, unsigned events) {
    return (errno == EAGAIN || errno == EINTR) && bthread_fd_wait(fd, events) == 0;
}

static void *serve(void *arg) {
    int fd = static_cast<int>(reinterpret_cast<std::intptr_t>(arg));
    char buffer[4096];
    for (;;) {
        ssize_t n = recv(fd, buffer, sizeof buffer, 0), sent = 0;
        if (n < 0 && wait_for(fd, EPOLLIN)) continue;
        while (sent < n) {
            ssize_t m = send(fd, buffer + sent, static_cast<std::size_t>(n - sent), MSG_NOSIGNAL);
            if (m < 0 && !wait_for(fd, EPOLLOUT)) break;
            if (m > 0) sent += m;
        }
        if (n <= 0 || sent < n) break;
    }
    bthread_close(fd);
    return nullptr;
}

static void echo_main() {
    int port, listener = bench_listen(&port, SOCK_NONBLOCK), one = 1;
    bench_serve(port);
    for (;;) {
        int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (!wait_for(listener, EPOLLIN)) bench_fail("accept: %s", strerror(errno));
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        task_spawn(serve, reinterpret_cast<void *>(static_cast<std::intptr_t>(fd)));
    }
}

// ---- the first bthread ----

static void set(const char *flag, const char *value) {
    if (google::SetCommandLineOption(flag, value).empty()) bench_fail("brpc does not take %s=%s", flag, value);
}

static void (*first)();

static void *run_first(void *) {
    first();
    return nullptr;
}

template <void (*fn)()> void run() {
    int workers = bench_param_int("workers", 1);
    several = workers > 1;
    set("parking_lot_no_signal_when_no_waiter", "true");
    set("task_group_runqueue_capacity", "16384"); // all that spawn-all makes
    bthread_setconcurrency(workers < BTHREAD_MIN_CONCURRENCY ? BTHREAD_MIN_CONCURRENCY : workers);
    first = fn;
    task main = task_spawn(run_first, nullptr);
    bthread_flush();
    task_join(main);
}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "spawn-join", run<spawn_join_main> }, { "spawn-all", run<spawn_all_main> },
        { "skynet", run<skynet_main> },         { "fib", run<fib_main> },
        { "channel", run<channel_main> },       { "mutex", run<mutex_main> },
        { "timers", run<timers_main> },         { "echo", run<echo_main> },
        { "start", run<start_main> },           { nullptr, nullptr },
    };
    return bench_main(argc, argv, "bthread", table);
}
