// bench-libfork: libfork. Coroutines without stacks of their own, for trees of forks and joins; nothing else, so skynet and
// fib are all that it does. Its last call of a node is no fork but a call, which is its idiom. Workers that spin
// (busy_pool), which were faster here than those that sleep.
#include "../../common/bench.h"
#include <libfork.hpp>

namespace {

// ---- skynet ----

inline constexpr auto skynet = [](auto skynet, std::uint64_t number, std::uint64_t leaves) -> lf::task<std::uint64_t> {
    if (leaves == 1) co_return number;
    std::uint64_t sums[10], sum = 0, below = leaves / 10;
    for (unsigned i = 0; i < 9; i++)
        co_await lf::fork(&sums[i], skynet)(number + i * below, below);
    co_await lf::call(&sums[9], skynet)(number + 9 * below, below);
    co_await lf::join;
    for (std::uint64_t s : sums)
        sum += s;
    co_return sum;
};

void run_skynet() {
    auto leaves = static_cast<std::uint64_t>(bench_param("leaves", 1000000));
    lf::busy_pool pool(static_cast<std::size_t>(bench_param("workers", 1)));
    lf::sync_wait(pool, skynet, std::uint64_t{ 0 }, std::uint64_t{ 1000 });
    bench_start();
    std::uint64_t checksum = lf::sync_wait(pool, skynet, std::uint64_t{ 0 }, leaves);
    std::int64_t wall = bench_stop();
    bench_result("time", "ms", static_cast<double>(wall) / 1e6, checksum, static_cast<std::int64_t>(leaves));
}

// ---- fib ----

inline constexpr auto fib = [](auto fib, int n) -> lf::task<int> {
    if (n < 2) co_return n;
    int left, right;
    co_await lf::fork(&left, fib)(n - 1);
    co_await lf::call(&right, fib)(n - 2);
    co_await lf::join;
    co_return left + right;
};

void run_fib() {
    int n = bench_param_int("n", 30);
    lf::busy_pool pool(static_cast<std::size_t>(bench_param("workers", 1)));
    lf::sync_wait(pool, fib, n / 2);
    bench_start();
    int result = lf::sync_wait(pool, fib, n);
    std::int64_t wall = bench_stop();
    bench_result("time", "ms", static_cast<double>(wall) / 1e6, static_cast<std::uint64_t>(result), n);
}

// ---- start ----

inline constexpr auto nothing = [](auto) -> lf::task<> { co_return; };

void run_start() {
    lf::busy_pool pool(1);
    lf::sync_wait(pool, nothing);
}

} // namespace

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "skynet", run_skynet },
        { "fib", run_fib },
        { "start", run_start },
        { nullptr, nullptr },
    };
    return bench_main(argc, argv, "libfork", table);
}
