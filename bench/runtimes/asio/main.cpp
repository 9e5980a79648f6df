// bench-asio: Boost.Asio with stackful coroutines. One worker: its context without locks. Several: threads that all run the
// context, a strand for each coroutine. Stacks of 64 KiB from malloc, without guards, as asio::spawn makes them; malloc is told
// to keep what has been freed. A spawned coroutine runs at once, inside of its parent, until it waits: so one that never
// waits never leaves the first worker.
#include "asio.hpp"
#include "parked.hpp"
#include <malloc.h>

namespace {

// ---- yield ----

template <class World> std::uint64_t yield_round(yield<World> y, int n, int each) {
    std::uint64_t total = 0;
    std::vector<done<World>> all(static_cast<std::size_t>(n));
    for (auto &end : all)
        spawn<World>([&end, &total, each](yield<World> y) {
            int k = 0;
            for (; k < each; k++)
                asio::post(y);
            total += static_cast<std::uint64_t>(k);
            end.set();
        });
    for (auto &end : all)
        end.wait(y);
    return total;
}

void run_yield() {
    run_coroutine([](auto world, auto y) {
        int n = bench_param_int("fibers", 2), each = bench_param_int("ops", 1000000) / n;
        beside<decltype(world)> live(y);
        yield_round<decltype(world)>(y, n, each / 10 + 1);
        bench_start();
        std::uint64_t checksum = yield_round<decltype(world)>(y, n, each);
        bench_stop();
        live.end(y);
        bench_result_ns("time", checksum, static_cast<std::int64_t>(each) * n);
    });
}

// ---- spawn and join ----

template <class World> std::uint64_t spawn_join_round(yield<World> y, std::int64_t n) {
    std::uint64_t sum = 0;
    for (std::int64_t i = 0; i < n; i++) {
        done<World> end;
        std::uint64_t result = 0;
        spawn<World>([&, i](yield<World>) {
            result = static_cast<std::uint64_t>(i & 1023);
            end.set();
        });
        end.wait(y);
        sum += result;
    }
    return sum;
}

void run_spawn_join() {
    run_coroutine([](auto world, auto y) {
        std::int64_t ops = bench_param("ops", 1000000);
        beside<decltype(world)> live(y);
        spawn_join_round<decltype(world)>(y, ops / 10);
        bench_start();
        std::uint64_t checksum = spawn_join_round<decltype(world)>(y, ops);
        bench_stop();
        live.end(y);
        bench_result_ns("time", checksum, ops);
    });
}

template <class World> struct child {
    done<World> end;
    std::uint64_t result = 0;
};

template <class World> std::uint64_t spawn_all_round(yield<World> y, std::size_t n) {
    std::uint64_t sum = 0;
    std::vector<child<World>> all(n);
    for (std::size_t i = 0; i < n; i++)
        spawn<World>([&self = all[i], i](yield<World>) {
            self.result = i & 1023;
            self.end.set();
        });
    for (auto &one : all) {
        one.end.wait(y);
        sum += one.result;
    }
    return sum;
}

void run_spawn_all() {
    run_coroutine([](auto world, auto y) {
        int n = bench_param_int("fibers", 10000), rounds = bench_param_int("rounds", 20);
        std::uint64_t checksum = 0;
        spawn_all_round<decltype(world)>(y, static_cast<std::size_t>(n));
        bench_start();
        for (int r = 0; r < rounds; r++)
            checksum += spawn_all_round<decltype(world)>(y, static_cast<std::size_t>(n));
        bench_stop();
        bench_result_ns("time", checksum, static_cast<std::int64_t>(n) * rounds);
    });
}

// ---- skynet ----

template <class World> std::uint64_t skynet(yield<World> y, std::uint64_t number, std::uint64_t leaves) {
    if (leaves == 1) return number;
    child<World> children[10];
    std::uint64_t sum = 0;
    leaves /= 10;
    for (unsigned i = 0; i < 10; i++)
        spawn<World>([&self = children[i], number = number + i * leaves, leaves](yield<World> y) {
            self.result = skynet<World>(y, number, leaves);
            self.end.set();
        });
    for (auto &one : children) {
        one.end.wait(y);
        sum += one.result;
    }
    return sum;
}

void run_skynet() {
    run_coroutine([](auto world, auto y) {
        std::int64_t leaves = bench_param("leaves", 1000000);
        skynet<decltype(world)>(y, 0, 1000);
        bench_start();
        std::uint64_t checksum = skynet<decltype(world)>(y, 0, static_cast<std::uint64_t>(leaves));
        std::int64_t wall = bench_stop();
        bench_result("time", "ms", static_cast<double>(wall) / 1e6, checksum, leaves);
    });
}

// ---- fib ----

template <class World> std::uint64_t fib(yield<World> y, unsigned n) {
    if (n < 2) return n;
    child<World> left, right;
    auto call = [](child<World> &self, unsigned n) {
        spawn<World>([&self, n](yield<World> y) {
            self.result = fib<World>(y, n);
            self.end.set();
        });
    };
    call(left, n - 1);
    call(right, n - 2);
    right.end.wait(y);
    left.end.wait(y);
    return left.result + right.result;
}

void run_fib() {
    run_coroutine([](auto world, auto y) {
        unsigned n = static_cast<unsigned>(bench_param_int("n", 30));
        fib<decltype(world)>(y, n / 2);
        bench_start();
        std::uint64_t checksum = fib<decltype(world)>(y, n);
        std::int64_t wall = bench_stop();
        bench_result("time", "ms", static_cast<double>(wall) / 1e6, checksum, n);
    });
}

// ---- tree ----

template <class World> std::uint64_t tree(yield<World> y, std::int64_t first, std::int64_t count, std::int64_t steps) {
    if (count == 1) return bench_work(static_cast<std::uint64_t>(first), steps);
    child<World> left, right;
    auto grow = [steps](child<World> &self, std::int64_t first, std::int64_t count) {
        auto start = [&self, first, count, steps] {
            spawn<World>([&self, first, count, steps](yield<World> y) {
                self.result = tree<World>(y, first, count, steps);
                self.end.set();
            });
        };
        if constexpr (std::is_same_v<World, alone>)
            start();
        else
            asio::post(*context, start); // there is enough work in it for whoever is free
    };
    grow(left, first, count / 2);
    grow(right, first + count / 2, count - count / 2);
    right.end.wait(y);
    left.end.wait(y);
    return left.result + right.result;
}

void run_tree() {
    run_coroutine([](auto world, auto y) {
        std::int64_t leaves = bench_param("leaves", 20000), steps = bench_param("steps", 2000);
        tree<decltype(world)>(y, 0, leaves / 10 + 1, steps);
        bench_start();
        std::uint64_t checksum = tree<decltype(world)>(y, 0, leaves, steps);
        bench_stop();
        bench_result_ns("time", checksum, leaves);
    });
}

// ---- channel: Asio of this version has none; this is one of a sender and a receiver ----

template <class World> class channel {
    typename World::mutex lock;
    waiters<World> sender, receiver;
    const std::uint64_t *offered = nullptr;
    std::uint64_t *wanted = nullptr;
    bool closed = false;

  public:
    void send(yield<World> y, std::uint64_t element) {
        lock.lock();
        if (wanted) {
            *std::exchange(wanted, nullptr) = element;
            receiver.wake_one();
            lock.unlock();
        } else {
            offered = &element;
            sender.wait(y, lock);
        }
    }

    bool recv(yield<World> y, std::uint64_t &element) {
        lock.lock();
        if (offered) {
            element = *std::exchange(offered, nullptr);
            sender.wake_one();
            lock.unlock();
        } else if (closed) {
            lock.unlock();
            return false;
        } else {
            wanted = &element;
            receiver.wait(y, lock);
            return !(closed && wanted == &element);
        }
        return true;
    }

    void close() {
        lock.lock();
        closed = true;
        if (wanted) receiver.wake_one();
        lock.unlock();
    }
};

template <class World>
std::uint64_t play(yield<World> y, channel<World> &there, channel<World> &back, std::int64_t trips) {
    std::uint64_t sum = 0, ball = 0;
    for (std::int64_t i = 0; i < trips; i++) {
        there.send(y, static_cast<std::uint64_t>(i));
        if (back.recv(y, ball)) sum += ball;
    }
    return sum;
}

void run_channel() {
    run_coroutine([](auto world, auto y) {
        using world_type = decltype(world);
        std::int64_t ops = bench_param("ops", 1000000);
        channel<world_type> there, back;
        done<world_type> end;
        spawn<world_type>([&](yield<world_type> y) {
            std::uint64_t ball;
            while (there.recv(y, ball))
                back.send(y, ball + 1);
            end.set();
        });
        beside<world_type> live(y);
        play<world_type>(y, there, back, ops / 10);
        bench_start();
        std::uint64_t checksum = play<world_type>(y, there, back, ops);
        bench_stop();
        live.end(y);
        there.close();
        end.wait(y);
        bench_result_ns("time", checksum, ops);
    });
}

// ---- mutex: the standard library's, as nothing waits while it is held; each coroutine starts on whoever is free ----

template <class World> std::uint64_t mutex_round(yield<World> y, int n, int each) {
    std::mutex mutex;
    std::uint64_t counter = 0;
    std::vector<done<World>> all(static_cast<std::size_t>(n));
    for (auto &end : all)
        asio::post(*context, [&, each] {
            spawn<World>([&, each](yield<World>) {
                for (int k = 0; k < each; k++) {
                    std::lock_guard<std::mutex> lock(mutex);
                    counter++;
                }
                end.set();
            });
        });
    for (auto &end : all)
        end.wait(y);
    return counter;
}

void run_mutex() {
    if (bench_param("yield_every", 0)) bench_fail("Asio has no mutex that may be held across a wait");
    run_coroutine([](auto world, auto y) {
        int n = bench_param_int("fibers", 1000), each = bench_param_int("each", 1000);
        mutex_round<decltype(world)>(y, n, each / 10 + 1);
        bench_start();
        std::uint64_t checksum = mutex_round<decltype(world)>(y, n, each);
        bench_stop();
        bench_result_ns("time", checksum, static_cast<std::int64_t>(each) * n);
    });
}

// ---- many parked: on one worker ----

void run_parked() {
    if (bench_param("workers", 1) != 1) bench_fail("parked is for one worker");
    run_coroutine([](auto world, auto y) { parked<decltype(world)>(y); });
}

void run_start() {
    run_coroutine([](auto, auto) {});
}

} // namespace

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", run_yield },   { "spawn-join", run_spawn_join },
        { "skynet", run_skynet }, { "spawn-all", run_spawn_all },
        { "fib", run_fib },       { "channel", run_channel },
        { "tree", run_tree },     { "fairness", run_fairness },
        { "mutex", run_mutex },   { "parked", run_parked },
        { "timers", run_timers }, { "echo", run_echo },
        { "wake", run_wake },     { "start", run_start },
        { nullptr, nullptr },
    };
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 1 << 20);
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    return bench_main(argc, argv, "asio", table);
}
