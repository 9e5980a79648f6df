// What Boost.Asio's coroutines need beside Asio itself: a way to run them, and a place to wait that is not a socket. Both are
// made of asynchronous operations as Asio's documentation tells its users to make their own.
//
// Who runs where is a type, a world: alone has one thread and no locks at all; shared has several, and every coroutine its
// strand, without which two of them might resume it.
#ifndef BENCH_ASIO_HPP
#define BENCH_ASIO_HPP

#include "../../common/bench.h"
#include <atomic>
#include <boost/asio.hpp>
#include <boost/asio/spawn.hpp>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;

inline asio::io_context *context; // of the process

struct alone {
    using executor = asio::io_context::executor_type;
    struct mutex {
        void lock() {}
        void unlock() {}
    };
    static executor place() { return context->get_executor(); }
};

struct shared {
    using executor = asio::strand<asio::io_context::executor_type>;
    using mutex = std::mutex;
    static executor place() { return executor(context->get_executor()); }
};

template <class World> using completion = asio::executor_binder<void (*)(), typename World::executor>;
template <class World> using yield = asio::basic_yield_context<completion<World>>;

constexpr std::size_t stack_bytes = 64 * 1024;

// Start a coroutine: at once, inside of its parent, until it waits for the first time. That is Asio's way.
template <class World, class F> void spawn(F &&f) {
    asio::spawn(asio::bind_executor(World::place(), static_cast<void (*)()>([] {})), std::forward<F>(f),
                boost::coroutines::attributes(stack_bytes));
}

// Those that wait for something, the one that came first in front. Without a lock: its users have one.
template <class World> class waiters {
    using handler = asio::detail::coro_handler<completion<World>, void>;
    std::deque<handler> queue;

  public:
    bool empty() const { return queue.empty(); }

    // Park the coroutine of y. The lock is held, and released when it is in the queue; whoever wakes it meanwhile posts
    // it, to its strand where there are several threads, so it does not run before it has been switched away from.
    template <class Lock> void wait(yield<World> y, Lock &lock) {
        asio::async_initiate<yield<World>, void()>(
            [&](auto &&h) {
                queue.emplace_back(std::forward<decltype(h)>(h));
                lock.unlock();
            },
            y);
    }

    void wake_one() {
        handler h(std::move(queue.front()));
        queue.pop_front();
        asio::post(std::move(h));
    }
};

// To join: a coroutine that has not been waited for needs neither lock nor queue.
template <class World> class done {
    enum { nothing, waiting, over };
    using handler = asio::detail::coro_handler<completion<World>, void>;
    std::atomic<int> state = nothing;
    std::optional<handler> parked;

  public:
    void set() {
        if (state.exchange(over, std::memory_order_acq_rel) == waiting) asio::post(std::move(*parked));
    }

    void wait(yield<World> y) {
        if (state.load(std::memory_order_acquire) == over) return;
        asio::async_initiate<yield<World>, void()>(
            [this](auto &&h) {
                parked.emplace(std::forward<decltype(h)>(h));
                if (state.exchange(waiting, std::memory_order_acq_rel) == over) asio::post(std::move(*parked));
            },
            y);
    }
};

// Run f, whose first coroutine it spawns, with workers=N (1) threads until nothing is left to do.
template <class F> void run(F f) {
    int workers = bench_param_int("workers", 1);
    asio::io_context io(workers == 1 ? BOOST_ASIO_CONCURRENCY_HINT_UNSAFE : workers);
    std::vector<std::thread> threads;
    context = &io;
    if (workers == 1)
        f(alone());
    else
        f(shared());
    for (int i = 1; i < workers; i++)
        threads.emplace_back([&] { io.run(); });
    io.run();
    for (auto &t : threads)
        t.join();
}

// The usual case: f(world, y) is the first coroutine.
template <class F> void run_coroutine(F f) {
    run([&](auto world) {
        using world_type = decltype(world);
        asio::post(*context, [&f] { spawn<world_type>([&f](yield<world_type> y) { f(world_type(), y); }); });
    });
}

void run_timers();
void run_fairness();
void run_echo();
void run_wake();

#endif
