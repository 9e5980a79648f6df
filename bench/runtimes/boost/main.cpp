// bench-boost: Boost.Fiber. One worker: its default scheduler (round robin). Several: its work stealing scheduler,
// suspending when idle. Stacks come from a cache of our own that hands out the one used last: of its own allocators the
// pool is not thread-safe and touches every stack when it grows, and malloc gives freed stacks back to the kernel; both
// cost it up to ten times as much. No guard pages: with its protected stacks it stops at some 33,000 fibers.
//
// Boost.Fiber does no I/O, so there is no echo here.
#include "../../common/bench.h"
#include <algorithm>
#include <atomic>
#include <boost/fiber/all.hpp>
#include <chrono>
#include <memory>
#include <mutex>
#include <sys/mman.h>
#include <thread>
#include <utility>
#include <vector>

namespace fibers = boost::fibers;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

namespace {

constexpr std::size_t stack_bytes = 68 * 1024; // an odd number of pages: the tops fall into different cache sets
bool many_workers;

// Stacks in chunks of 256, free ones on a list under a spin lock that is taken only when there are several workers.
struct stack_cache {
    struct link {
        link *next;
    };
    static inline link *head = nullptr;
    static inline std::atomic_flag busy = ATOMIC_FLAG_INIT;

    static void lock() {
        while (many_workers && busy.test_and_set(std::memory_order_acquire))
            ;
    }
    static void unlock() {
        if (many_workers) busy.clear(std::memory_order_release);
    }

    // The free list's links are the topmost words of the stacks: of a page that is touched anyway. A new chunk's stacks
    // are handed out one after the other, so that none is touched early.
    boost::context::stack_context allocate() {
        static char *fresh = nullptr;
        static std::size_t left = 0;
        boost::context::stack_context s;
        s.size = stack_bytes;
        lock();
        if (head) {
            s.sp = head + 1;
            head = head->next;
        } else {
            if (left == 0) {
                left = 256;
                void *chunk = mmap(nullptr, left * stack_bytes, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                if (chunk == MAP_FAILED) bench_fail("no memory for stacks");
                fresh = static_cast<char *>(chunk);
            }
            left--;
            fresh += stack_bytes;
            s.sp = fresh;
        }
        unlock();
        return s;
    }

    void deallocate(boost::context::stack_context &s) noexcept {
        link *l = static_cast<link *>(s.sp) - 1;
        lock();
        l->next = head;
        head = l;
        unlock();
    }
};

// dispatch: it runs at once, before who spawned it. That is faster where one is waited for at once, and takes less memory
// where a tree is spawned; it is much slower where many are spawned.
template <typename F> fibers::fiber spawn(F &&f, fibers::launch policy = fibers::launch::post) {
    return fibers::fiber(policy, std::allocator_arg, stack_cache(), std::forward<F>(f));
}

// Run f with `workers` threads that share the fibers.
void with_workers(void (*f)()) {
    auto workers = static_cast<std::uint32_t>(bench_param_int("workers", 1));
    many_workers = workers > 1;
    if (!many_workers) return f();
    fibers::mutex mutex;
    fibers::condition_variable_any over;
    bool done = false;
    std::vector<std::thread> threads;
    for (std::uint32_t i = 1; i < workers; i++)
        threads.emplace_back([&] {
            fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(workers, true);
            std::unique_lock<fibers::mutex> lock(mutex);
            over.wait(lock, [&] { return done; });
        });
    fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(workers, true);
    f();
    {
        std::unique_lock<fibers::mutex> lock(mutex);
        done = true;
    }
    over.notify_all();
    for (auto &t : threads)
        t.join();
}

// ---- many parked ----

// On one worker, so there is nothing to lock, and a real lock would cost a second page of each stack.
struct no_lock {
    void lock() {}
    void unlock() {}
};

struct gate {
    fibers::condition_variable_any open;
    bool timed = false; // their wait has a deadline, an hour away
    std::int64_t parked = 0, woken = 0;
    std::vector<fibers::fiber> all;

    // Start n fibers that each wait to be notified.
    void park_all(std::size_t n) {
        for (std::size_t i = 0; i < n; i++) {
            all.push_back(spawn([this] {
                no_lock none;
                parked++;
                if (timed) {
                    if (open.wait_for(none, std::chrono::hours(1)) == fibers::cv_status::timeout) return;
                } else {
                    open.wait(none);
                }
                woken++;
            }));
            if (i % 128 == 127) boost::this_fiber::yield();
        }
        while (parked < static_cast<std::int64_t>(n))
            boost::this_fiber::yield();
    }

    // They are woken in the order in which they came.
    void wake_all() {
        for (std::size_t done = 0; done < all.size();) {
            std::size_t end = std::min(all.size(), done + 256);
            for (std::size_t i = done; i < end; i++)
                open.notify_one();
            for (; done < end; done++)
                all[done].join();
        }
    }
};

// live=n: as many that wait beside what is measured.
struct beside : gate {
    explicit beside(bool timed_ = false) {
        timed = timed_;
        park_all(static_cast<std::size_t>(bench_param("live", 0)));
    }
    void end() {
        if (woken != 0) bench_fail("fibers that were to wait beside did not");
        wake_all();
        if (woken != parked) bench_fail("fibers that waited beside were not woken");
    }
};

void parked_main() {
    auto n = static_cast<std::size_t>(bench_param("fibers", 1000000));
    auto warm = std::make_unique<gate>();
    warm->park_all(1000);
    warm->wake_all();
    warm.reset();
    gate g;
    g.all.resize(n); // its pages are not the fibers'
    g.all.clear();
    std::int64_t before = bench_memory();
    bench_start();
    g.park_all(n);
    std::int64_t create = bench_stop(), memory = bench_memory() - before, lines = bench_map_lines();
    bench_start();
    g.wake_all();
    std::int64_t wake = bench_stop(), operations = static_cast<std::int64_t>(n);
    auto checksum = static_cast<std::uint64_t>(g.woken);
    auto each = [operations](std::int64_t x) { return static_cast<double>(x) / static_cast<double>(operations); };
    bench_result("bytes", "B", each(memory), checksum, operations);
    bench_result("create", "ns", each(create), checksum, operations);
    bench_result("wake", "ns", each(wake), checksum, operations);
    bench_result("map_lines", "lines", static_cast<double>(lines), checksum, operations);
    bench_result("unguarded", "stacks", static_cast<double>(operations), checksum, operations);
}

// ---- yield ----

std::uint64_t yield_round(int n, int each) {
    std::vector<fibers::fiber> all;
    std::vector<int> counts(static_cast<std::size_t>(n));
    for (int i = 0; i < n; i++)
        all.push_back(spawn([each, &count = counts[static_cast<std::size_t>(i)]] {
            int k = 0;
            for (; k < each; k++)
                boost::this_fiber::yield();
            count = k;
        }));
    std::uint64_t done = 0;
    for (std::size_t i = 0; i < all.size(); i++) {
        all[i].join();
        done += static_cast<std::uint64_t>(counts[i]);
    }
    return done;
}

void yield_main() {
    int n = bench_param_int("fibers", 2), each = bench_param_int("ops", 1000000) / n;
    beside live;
    yield_round(n, each / 10 + 1);
    bench_start();
    std::uint64_t checksum = yield_round(n, each);
    bench_stop();
    live.end();
    bench_result_ns("time", checksum, static_cast<std::int64_t>(each) * n);
}

// ---- spawn and join ----

std::uint64_t spawn_join_round(std::int64_t n) {
    std::uint64_t sum = 0;
    for (std::int64_t i = 0; i < n; i++) {
        int result = 0;
        spawn([i, &result] { result = static_cast<int>(i & 1023); }, fibers::launch::dispatch).join();
        sum += static_cast<std::uint64_t>(result);
    }
    return sum;
}

void spawn_join_main() {
    std::int64_t ops = bench_param("ops", 1000000);
    beside live;
    spawn_join_round(ops / 10);
    bench_start();
    std::uint64_t checksum = spawn_join_round(ops);
    bench_stop();
    live.end();
    bench_result_ns("time", checksum, ops);
}

std::uint64_t spawn_all_round(std::vector<fibers::fiber> &all, std::vector<int> &results) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < all.size(); i++)
        all[i] = spawn([i, &results] { results[i] = static_cast<int>(i & 1023); });
    for (std::size_t i = 0; i < all.size(); i++) {
        all[i].join();
        sum += static_cast<std::uint64_t>(results[i]);
        results[i] = 0;
    }
    return sum;
}

void spawn_all_main() {
    int n = bench_param_int("fibers", 10000), rounds = bench_param_int("rounds", 20);
    std::vector<fibers::fiber> all(static_cast<std::size_t>(n));
    std::vector<int> results(static_cast<std::size_t>(n));
    std::uint64_t checksum = 0;
    spawn_all_round(all, results);
    bench_start();
    for (int r = 0; r < rounds; r++)
        checksum += spawn_all_round(all, results);
    bench_stop();
    bench_result_ns("time", checksum, static_cast<std::int64_t>(n) * rounds);
}

// ---- skynet ----

std::uint64_t skynet(std::uint64_t number, std::uint64_t leaves) {
    if (leaves == 1) return number;
    std::uint64_t sums[10], sum = 0;
    fibers::fiber children[10];
    for (unsigned i = 0; i < 10; i++)
        children[i] = spawn([&sums, i, number, leaves] { sums[i] = skynet(number + i * (leaves / 10), leaves / 10); },
                            fibers::launch::dispatch);
    for (unsigned i = 0; i < 10; i++) {
        children[i].join();
        sum += sums[i];
    }
    return sum;
}

void skynet_main() {
    std::int64_t leaves = bench_param("leaves", 1000000);
    skynet(0, 1000);
    bench_start();
    std::uint64_t checksum = skynet(0, static_cast<std::uint64_t>(leaves));
    std::int64_t wall = bench_stop();
    bench_result("time", "ms", static_cast<double>(wall) / 1e6, checksum, leaves);
}

// ---- tree ----

std::uint64_t tree(std::int64_t first, std::int64_t count, std::int64_t steps) {
    if (count == 1) return bench_work(static_cast<std::uint64_t>(first), steps);
    std::uint64_t left = 0, right = 0;
    std::int64_t half = count / 2;
    fibers::fiber a = spawn([&] { left = tree(first, half, steps); });
    fibers::fiber b = spawn([&] { right = tree(first + half, count - half, steps); });
    a.join();
    b.join();
    return left + right;
}

void tree_main() {
    std::int64_t leaves = bench_param("leaves", 20000), steps = bench_param("steps", 2000);
    tree(0, leaves / 10 + 1, steps);
    bench_start();
    std::uint64_t checksum = tree(0, leaves, steps);
    bench_stop();
    bench_result_ns("time", checksum, leaves);
}

// ---- channel ----

using channel = fibers::unbuffered_channel<std::uint64_t>;

std::uint64_t play(channel &there, channel &back, std::int64_t trips) {
    std::uint64_t sum = 0;
    for (std::int64_t i = 0; i < trips; i++) {
        there.push(static_cast<std::uint64_t>(i));
        sum += back.value_pop();
    }
    return sum;
}

void channel_main() {
    std::int64_t ops = bench_param("ops", 1000000);
    channel there, back;
    fibers::fiber partner = spawn([&] {
        std::uint64_t ball;
        while (there.pop(ball) == fibers::channel_op_status::success)
            back.push(ball + 1);
    });
    beside live;
    play(there, back, ops / 10);
    bench_start();
    std::uint64_t checksum = play(there, back, ops);
    bench_stop();
    live.end();
    there.close();
    partner.join();
    bench_result_ns("time", checksum, ops);
}

// ---- mutex ----

std::uint64_t mutex_round(int n, int each, int yield_every) {
    fibers::mutex mutex;
    std::uint64_t counter = 0;
    std::vector<fibers::fiber> all;
    for (int i = 0; i < n; i++)
        all.push_back(spawn([&] {
            int until_yield = yield_every;
            for (int k = 0; k < each; k++) {
                std::unique_lock<fibers::mutex> lock(mutex);
                counter++;
                if (yield_every && --until_yield == 0) {
                    until_yield = yield_every;
                    boost::this_fiber::yield();
                }
            }
        }));
    for (auto &f : all)
        f.join();
    return counter;
}

void mutex_main() {
    int n = bench_param_int("fibers", 1000), each = bench_param_int("each", 1000);
    int yield_every = bench_param_int("yield_every", 0);
    mutex_round(n, each / 10 + 1, yield_every);
    bench_start();
    std::uint64_t checksum = mutex_round(n, each, yield_every);
    bench_stop();
    bench_result_ns("time", checksum, static_cast<std::int64_t>(each) * n);
}

// ---- timers ----

bench_histogram overshoots;

void timers_main() {
    int n = bench_param_int("fibers", 5000);
    std::int64_t from = INT64_MAX, to = INT64_MAX; // the window: set when all have been spawned
    std::int64_t sleeps = 0, early = 0;
    std::vector<fibers::fiber> all;
    beside live(true);
    for (int i = 0; i < n; i++)
        all.push_back(spawn([&, i] {
            for (std::uint64_t k = 0;; k++) {
                std::int64_t before = bench_now(), length = bench_sleep_length(static_cast<std::uint64_t>(i), k);
                if (before >= to) return;
                boost::this_fiber::sleep_for(nanoseconds(length));
                std::int64_t overshoot = bench_now() - before - length;
                if (overshoot < 0) early++;
                if (before < from) continue;
                bench_histogram_add(&overshoots, overshoot);
                sleeps++;
            }
        }));
    from = bench_now() + 300000000;
    to = from + bench_param("run_ms", 1500) * 1000000;
    auto sleep_until = [](std::int64_t when) {
        boost::this_fiber::sleep_until(steady_clock::time_point(nanoseconds(when)));
    };
    sleep_until(from);
    bench_start();
    std::int64_t cpu = bench_cpu();
    sleep_until(to);
    bench_stop();
    cpu = bench_cpu() - cpu;
    for (auto &f : all)
        f.join();
    live.end();
    if (early) bench_fail("%lld sleeps ended early", static_cast<long long>(early));
    auto count = static_cast<std::uint64_t>(sleeps);
    auto micros = [](std::int64_t ns) { return static_cast<double>(ns) / 1e3; };
    bench_result("p50", "us", micros(bench_histogram_at(&overshoots, 0.50)), count, sleeps);
    bench_result("p99", "us", micros(bench_histogram_at(&overshoots, 0.99)), count, sleeps);
    bench_result("cpu", "us", micros(cpu) / static_cast<double>(sleeps), count, sleeps);
}

// ---- fairness ----

enum { warm_up, measured, over };

void fairness_main() {
    int n = bench_param_int("fibers", 1000);
    std::int64_t run_ns = bench_param("run_ms", 1000) * 1000000, spin_ns = bench_param("spin_us", 0) * 1000;
    std::atomic<int> phase{warm_up};
    std::atomic<std::uint64_t> turns{0};
    static bench_histogram lateness;
    std::vector<fibers::fiber> all;
    for (int i = 0; i < n; i++)
        all.push_back(spawn([&] {
            std::uint64_t mine = 0;
            for (int now; (now = phase.load(std::memory_order_relaxed)) != over;) {
                bench_spin(spin_ns);
                mine += now == measured;
                boost::this_fiber::yield();
            }
            turns += mine;
        }));
    auto tick = [&](std::int64_t length) {
        for (std::int64_t now = bench_now(), end = now + length; now < end;) {
            std::int64_t intended = now + 1000000;
            boost::this_fiber::sleep_for(nanoseconds(1000000));
            now = bench_now();
            if (now < intended) bench_fail("a sleep ended early");
            if (phase == measured) bench_histogram_add(&lateness, now - intended);
        }
    };
    tick(run_ns / 10);
    phase = measured;
    bench_start();
    tick(run_ns);
    bench_stop();
    phase = over;
    for (auto &f : all)
        f.join();
    bench_fairness_results(&lateness, turns);
}

void start_main() {
    spawn([] {}).join();
}

} // namespace

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", [] { with_workers(yield_main); } },         { "spawn-join", [] { with_workers(spawn_join_main); } },
        { "spawn-all", [] { with_workers(spawn_all_main); } }, { "skynet", [] { with_workers(skynet_main); } },
        { "channel", [] { with_workers(channel_main); } },     { "mutex", [] { with_workers(mutex_main); } },
        { "parked", [] { with_workers(parked_main); } },       { "timers", [] { with_workers(timers_main); } },
        { "start", [] { with_workers(start_main); } },         { "tree", [] { with_workers(tree_main); } },
        { "fairness", [] { with_workers(fairness_main); } },   { nullptr, nullptr },
    };
    return bench_main(argc, argv, "boost", table);
}
