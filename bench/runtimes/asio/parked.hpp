// Many coroutines that are parked: the workload parked, and those that live beside what other workloads measure.
#ifndef BENCH_ASIO_PARKED_HPP
#define BENCH_ASIO_PARKED_HPP

#include "asio.hpp"
#include <memory>

template <class World> class gate {
    typename World::mutex lock;
    waiters<World> open;
    std::deque<asio::steady_timer> deadlines; // of those that wait no longer than an hour: to wake is to cancel

    void wait(yield<World> y) {
        lock.lock();
        open.wait(y, lock);
    }

    void wait_timed(yield<World> y) {
        boost::system::error_code e;
        lock.lock();
        asio::steady_timer &deadline = deadlines.emplace_back(*context, std::chrono::hours(1));
        lock.unlock();
        deadline.async_wait(y[e]);
        if (!e) bench_fail("a coroutine that waited was not woken");
    }

  public:
    std::atomic<std::int64_t> parked = 0, woken = 0;

    void park_all(yield<World> y, std::int64_t n, bool timed = false) {
        for (std::int64_t i = 0; i < n; i++)
            spawn<World>([this, timed](yield<World> y) {
                parked++;
                if (timed)
                    wait_timed(y);
                else
                    wait(y);
                woken++;
            });
        while (parked < n)
            asio::post(y);
    }

    // They are woken in the order in which they came.
    void wake_all(yield<World> y, std::int64_t n) {
        for (std::int64_t i = 0; i < n; i++) {
            lock.lock();
            if (deadlines.empty())
                open.wake_one();
            else
                deadlines[static_cast<std::size_t>(i)].cancel();
            lock.unlock();
            if (i % 256 == 255) asio::post(y);
        }
        while (woken < n)
            asio::post(y);
    }
};

// live=n: as many that wait beside what is measured.
template <class World> class beside {
    gate<World> all;
    std::int64_t count = bench_param("live", 0);

  public:
    explicit beside(yield<World> y, bool timed = false) { all.park_all(y, count, timed); }

    void end(yield<World> y) {
        if (all.woken != 0) bench_fail("coroutines that were to wait beside did not");
        all.wake_all(y, count);
    }
};

template <class World> void parked(yield<World> y) {
    std::int64_t n = bench_param("fibers", 1000000);
    gate<World> warm, g;
    warm.park_all(y, 1000);
    warm.wake_all(y, 1000);
    std::int64_t before = bench_memory();
    bench_start();
    g.park_all(y, n);
    std::int64_t create = bench_stop(), memory = bench_memory() - before, lines = bench_map_lines();
    bench_start();
    g.wake_all(y, n);
    std::int64_t wake = bench_stop();
    auto checksum = static_cast<std::uint64_t>(g.woken);
    auto each = [n](std::int64_t x) { return static_cast<double>(x) / static_cast<double>(n); };
    bench_result("bytes", "B", each(memory), checksum, n);
    bench_result("create", "ns", each(create), checksum, n);
    bench_result("wake", "ns", each(wake), checksum, n);
    bench_result("map_lines", "lines", static_cast<double>(lines), checksum, n);
    bench_result("unguarded", "stacks", static_cast<double>(n), checksum, n);
}

#endif
