// bench-photon: Photon. A vCPU a worker; several steal from one another. Stacks of 64 KiB from its pool of each vCPU, and
// epoll. They have guards as long as the kernel has mappings for them, some 33,000; the others go without, and nobody is told.
// skynet and fib would need 9 GB: the order is first in, first out.
//
// Its semaphores are the shortest way for two fibers to wait for each other: a rendezvous is one each way. The echo server
// uses its calls on sockets, with an accepting fiber on each vCPU.
#include "../../common/bench.h"
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <photon/common/alog.h>
#include <photon/io/fd-events.h>
#include <photon/net/basic_socket.h>
#include <photon/photon.h>
#include <photon/thread/thread.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

// ---- what tasks.h asks for ----

#define TASK_RETURNS void *
#define TASK_END     nullptr

typedef photon::join_handle *task;

static constexpr std::uint64_t stack_bytes = 64 * 1024;
static std::uint64_t flags = photon::THREAD_JOINABLE;

static task task_spawn(void *(*fn)(void *), void *arg) {
    photon::thread *thread = photon::thread_create(fn, arg, stack_bytes, 0, flags);
    if (!thread) bench_fail("thread_create: %s", strerror(errno));
    return reinterpret_cast<task>(thread);
}

static void task_join(task handle) {
    photon::thread_join(handle);
}

static void task_yield() {
    photon::thread_yield();
}

// It waits at once: to yield a hundred times before, as it does by default, cost it ten times as much.
struct task_mutex : photon::mutex {
    task_mutex() : photon::mutex(0) {}
};

static void task_mutex_init(task_mutex *) {}

static void task_mutex_destroy(task_mutex *) {}

static void task_lock(task_mutex *mutex) {
    mutex->lock();
}

static void task_unlock(task_mutex *mutex) {
    mutex->unlock();
}

// The number lies beside the semaphore; nobody sends again before the answer.
struct task_channel {
    photon::semaphore sent;
    std::uint64_t number = 0;
};

static void task_channel_init(task_channel *) {}

static void task_send(task_channel *c, std::uint64_t number) {
    c->number = number;
    c->sent.signal(1);
}

static std::uint64_t task_receive(task_channel *c) {
    c->sent.wait(1);
    return c->number;
}

// Its clock is the one of its last poll, so a sleep may end early by what was done since.
static void task_sleep_until(std::int64_t ns) {
    std::int64_t left;
    while ((left = ns - bench_now()) > 0)
        photon::thread_usleep(static_cast<std::uint64_t>(left + 999) / 1000);
}

#include "../../common/tasks.h"

#include "../../common/tasks_timers.h"

// ---- echo ----

static void *serve(void *arg) {
    int fd = static_cast<int>(reinterpret_cast<std::intptr_t>(arg));
    char buffer[4096];
    ssize_t n;
    while ((n = photon::net::recv(fd, buffer, sizeof buffer, 0)) > 0)
        if (photon::net::send_n(fd, buffer, static_cast<std::size_t>(n), MSG_NOSIGNAL) != n) break;
    close(fd);
    return nullptr;
}

static int listener;

static void accept_all() {
    for (;;) {
        int one = 1;
        int fd = photon::net::accept(listener, nullptr, nullptr);
        if (fd < 0) bench_fail("accept: %s", strerror(errno));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        photon::thread_create(serve, reinterpret_cast<void *>(static_cast<std::intptr_t>(fd)), stack_bytes);
    }
}

static void accept_as_well(photon::semaphore *) {
    accept_all();
}

static void echo_main() {
    int port;
    listener = bench_listen(&port, SOCK_NONBLOCK);
    bench_serve(port);
    accept_all();
}

// ---- vCPUs ----

static void begin_vcpu() {
    int workers = bench_param_int("workers", 1);
    std::uint64_t stealing = photon::VCPU_ENABLE_ACTIVE_WORK_STEALING | photon::VCPU_ENABLE_PASSIVE_WORK_STEALING;
    if (photon::vcpu_init(workers > 1 ? stealing : 0) < 0 || photon::fd_events_init(photon::INIT_EVENT_EPOLL) < 0)
        bench_fail("no vCPU: %s", strerror(errno));
}

static void end_vcpu() {
    photon::fd_events_fini();
    photon::vcpu_fini();
}

// Run fn with `workers` vCPUs; the others do what they find.
template <void (*fn)(), void (*others)(photon::semaphore *)> void run() {
    int workers = bench_param_int("workers", 1);
    photon::semaphore over;
    std::vector<std::thread> threads;
    set_log_output(log_output_null);
    photon::use_pooled_stack_allocator();
    if (workers > 1) flags |= photon::THREAD_ENABLE_WORK_STEALING;
    begin_vcpu();
    for (int i = 1; i < workers; i++)
        threads.emplace_back([&] {
            begin_vcpu();
            others(&over);
            end_vcpu();
        });
    fn();
    over.signal(threads.size());
    for (auto &t : threads)
        t.join();
    end_vcpu();
}

static void steal(photon::semaphore *over) {
    over->wait(1);
}

template <void (*fn)()> void run_fibers() {
    run<fn, steal>();
}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", run_fibers<yield_main> },
        { "spawn-join", run_fibers<spawn_join_main> },
        { "spawn-all", run_fibers<spawn_all_main> },
        { "channel", run_fibers<channel_main> },
        { "mutex", run_fibers<mutex_main> },
        { "timers", run_fibers<timers_main> },
        { "echo", run<echo_main, accept_as_well> },
        { "start", run_fibers<start_main> },
        { nullptr, nullptr },
    };
    return bench_main(argc, argv, "photon", table);
}
