// timers, fairness, echo, wake-ups.
#include "asio.hpp"
#include "parked.hpp"
#include <boost/asio/posix/stream_descriptor.hpp>
#include <chrono>

namespace {

using std::chrono::nanoseconds;
using tcp = asio::ip::tcp;
using error = boost::system::error_code;

bench_histogram overshoots;
std::atomic<std::int64_t> window_start = INT64_MAX, window_end = INT64_MAX; // set when all have been started
std::atomic<std::int64_t> early;

template <class World> void sleeper(yield<World> y, std::uint64_t number) {
    asio::steady_timer timer(*context);
    for (std::uint64_t k = 0;; k++) {
        std::int64_t before = bench_now(), length = bench_sleep_length(number, k);
        if (before >= window_end) return;
        timer.expires_after(nanoseconds(length));
        timer.async_wait(y);
        std::int64_t overshoot = bench_now() - before - length;
        if (overshoot < 0) early++;
        if (before >= window_start) bench_histogram_add(&overshoots, overshoot);
    }
}

template <class World> void timers(yield<World> y) {
    int n = bench_param_int("fibers", 5000);
    std::vector<done<World>> all(static_cast<std::size_t>(n));
    beside<World> live(y, true);
    for (std::size_t i = 0; i < all.size(); i++)
        spawn<World>([&end = all[i], i](yield<World> y) {
            sleeper<World>(y, i);
            end.set();
        });
    std::int64_t from = bench_now() + 300000000, to = from + bench_param("run_ms", 1500) * 1000000;
    window_end = to;
    window_start = from;
    asio::steady_timer timer(*context);
    timer.expires_after(nanoseconds(from - bench_now()));
    timer.async_wait(y);
    bench_start();
    std::int64_t cpu = bench_cpu();
    timer.expires_after(nanoseconds(to - bench_now()));
    timer.async_wait(y);
    bench_stop();
    cpu = bench_cpu() - cpu;
    for (auto &end : all)
        end.wait(y);
    live.end(y);
    if (early) bench_fail("%lld sleeps ended early", static_cast<long long>(early));
    auto micros = [](std::int64_t ns) { return static_cast<double>(ns) / 1e3; };
    std::uint64_t count = bench_histogram_count(&overshoots);
    auto operations = static_cast<std::int64_t>(count);
    bench_result("p50", "us", micros(bench_histogram_at(&overshoots, 0.50)), count, operations);
    bench_result("p99", "us", micros(bench_histogram_at(&overshoots, 0.99)), count, operations);
    bench_result("cpu", "us", micros(cpu) / static_cast<double>(count), count, operations);
}

// ---- fairness ----

enum { warm_up, measured, over };
std::atomic<int> phase = warm_up;
bench_histogram lateness;

template <class World> void tick(yield<World> y, std::int64_t length) {
    asio::steady_timer timer(*context);
    for (std::int64_t now = bench_now(), end = now + length; now < end;) {
        std::int64_t intended = now + 1000000;
        timer.expires_after(nanoseconds(1000000));
        timer.async_wait(y);
        now = bench_now();
        if (now < intended) bench_fail("a sleep ended early");
        if (phase == measured) bench_histogram_add(&lateness, now - intended);
    }
}

// They start on whoever is free.
template <class World> void fairness(yield<World> y) {
    int n = bench_param_int("fibers", 1000);
    std::int64_t length = bench_param("run_ms", 1000) * 1000000, spin_ns = bench_param("spin_us", 0) * 1000;
    std::atomic<std::uint64_t> turns = 0;
    std::vector<done<World>> all(static_cast<std::size_t>(n));
    for (auto &end : all)
        asio::post(*context, [&, spin_ns] {
            spawn<World>([&, spin_ns](yield<World> y) {
                std::uint64_t mine = 0;
                for (int now; (now = phase.load(std::memory_order_relaxed)) != over;) {
                    bench_spin(spin_ns);
                    mine += now == measured;
                    asio::post(y);
                }
                turns += mine;
                end.set();
            });
        });
    tick<World>(y, length / 10);
    phase = measured;
    bench_start();
    tick<World>(y, length);
    bench_stop();
    phase = over;
    for (auto &end : all)
        end.wait(y);
    bench_fairness_results(&lateness, turns);
}

// ---- echo ----

template <class World> void serve(yield<World> y, tcp::socket socket) {
    char buffer[4096];
    error e;
    socket.set_option(tcp::no_delay(true), e);
    for (;;) {
        std::size_t n = socket.async_read_some(asio::buffer(buffer), y[e]);
        if (e) return;
        asio::async_write(socket, asio::buffer(buffer, n), y[e]);
        if (e) return;
    }
}

template <class World> void accept(yield<World> y) {
    tcp::acceptor acceptor(*context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    acceptor.listen(4096);
    bench_serve(acceptor.local_endpoint().port());
    for (;;) {
        tcp::socket socket(*context);
        error e;
        acceptor.async_accept(socket, y[e]);
        if (e) bench_fail("accept: %s", e.message().c_str());
        spawn<World>([s = std::move(socket)](yield<World> y) mutable { serve<World>(y, std::move(s)); });
    }
}

// ---- wake-ups ----

template <class World> void woken_by_pipe(yield<World> y) {
    asio::posix::stream_descriptor pipe(*context, bench_serve_pipe());
    std::int64_t stamp;
    for (;;) {
        error e;
        if (pipe.async_read_some(asio::buffer(&stamp, sizeof stamp), y[e]) == sizeof stamp) bench_woken(stamp);
        if (e) bench_fail("read: %s", e.message().c_str());
    }
}

} // namespace

void run_timers() {
    run_coroutine([](auto world, auto y) { timers<decltype(world)>(y); });
}

void run_fairness() {
    run_coroutine([](auto world, auto y) { fairness<decltype(world)>(y); });
}

void run_echo() {
    run_coroutine([](auto world, auto y) { accept<decltype(world)>(y); });
}

void run_wake() {
    run_coroutine([](auto world, auto y) { woken_by_pipe<decltype(world)>(y); });
}
