// bench-marl: marl. Tasks that may wait; their stacks are of 64 KiB, without guards, instead of 1 MiB.
//
// A task hands back no result and is waited for with a WaitGroup or an Event. A rendezvous is an Event of its each way. Its
// mutex is the C++ library's: it stops the thread, so nothing may wait while it holds one, and neither can a task yield.
#include "../../common/bench.h"
#include <marl/event.h>
#include <marl/mutex.h>
#include <marl/scheduler.h>
#include <marl/waitgroup.h>
#include <vector>

namespace {

// One worker is the calling thread itself. Several are threads of marl's, and fn is a task of theirs.
template <void (*fn)()> void run() {
    int workers = bench_param_int("workers", 1);
    marl::Scheduler::Config config;
    config.setWorkerThreadCount(workers > 1 ? workers : 0).setFiberStackSize(64 * 1024);
    marl::Scheduler scheduler(config);
    scheduler.bind();
    if (workers > 1) {
        marl::WaitGroup over(1);
        marl::schedule([over] {
            fn();
            over.done();
        });
        over.wait();
    } else {
        fn();
    }
    marl::Scheduler::unbind();
}

// ---- spawn and join ----

std::uint64_t spawn_join_round(std::int64_t n) {
    std::uint64_t sum = 0;
    for (std::int64_t i = 0; i < n; i++) {
        marl::WaitGroup done(1);
        int result = 0;
        marl::schedule([&result, i, done] {
            result = static_cast<int>(i & 1023);
            done.done();
        });
        done.wait();
        sum += static_cast<std::uint64_t>(result);
    }
    return sum;
}

void spawn_join_main() {
    std::int64_t ops = bench_param("ops", 1000000);
    spawn_join_round(ops / 10);
    bench_start();
    std::uint64_t checksum = spawn_join_round(ops);
    bench_stop();
    bench_result_ns("time", checksum, ops);
}

std::uint64_t spawn_all_round(std::vector<int> &results) {
    std::uint64_t sum = 0;
    marl::WaitGroup done(static_cast<unsigned>(results.size()));
    for (std::size_t i = 0; i < results.size(); i++)
        marl::schedule([&results, i, done] {
            results[i] = static_cast<int>(i & 1023);
            done.done();
        });
    done.wait();
    for (int &result : results) {
        sum += static_cast<std::uint64_t>(result);
        result = 0;
    }
    return sum;
}

void spawn_all_main() {
    int n = bench_param_int("fibers", 10000), rounds = bench_param_int("rounds", 20);
    std::vector<int> results(static_cast<std::size_t>(n));
    std::uint64_t checksum = 0;
    spawn_all_round(results);
    bench_start();
    for (int r = 0; r < rounds; r++)
        checksum += spawn_all_round(results);
    bench_stop();
    bench_result_ns("time", checksum, static_cast<std::int64_t>(n) * rounds);
}

// ---- channel ----

// The number lies beside the event; nobody sends again before the answer.
struct channel {
    marl::Event sent{ marl::Event::Mode::Auto };
    std::uint64_t number = 0;

    void send(std::uint64_t n) {
        number = n;
        sent.signal();
    }
    std::uint64_t receive() {
        sent.wait();
        return number;
    }
};

std::uint64_t play(channel &there, channel &back, std::int64_t trips) {
    std::uint64_t sum = 0;
    for (std::int64_t i = 0; i < trips; i++) {
        there.send(static_cast<std::uint64_t>(i));
        sum += back.receive();
    }
    return sum;
}

void channel_main() {
    std::int64_t ops = bench_param("ops", 1000000);
    channel there, back;
    marl::WaitGroup over(1);
    marl::schedule([&there, &back, ops, over] {
        for (std::int64_t i = 0; i < ops + ops / 10; i++)
            back.send(there.receive() + 1);
        over.done();
    });
    play(there, back, ops / 10);
    bench_start();
    std::uint64_t checksum = play(there, back, ops);
    bench_stop();
    over.wait();
    bench_result_ns("time", checksum, ops);
}

// ---- mutex ----

std::uint64_t mutex_round(int n, int each) {
    marl::mutex mutex;
    std::uint64_t counter = 0;
    marl::WaitGroup done(static_cast<unsigned>(n));
    for (int i = 0; i < n; i++)
        marl::schedule([&mutex, &counter, each, done] {
            for (int k = 0; k < each; k++) {
                marl::lock lock(mutex);
                counter++;
            }
            done.done();
        });
    done.wait();
    return counter;
}

void mutex_main() {
    int n = bench_param_int("fibers", 1000), each = bench_param_int("each", 1000);
    mutex_round(n, each / 10 + 1);
    bench_start();
    std::uint64_t checksum = mutex_round(n, each);
    bench_stop();
    bench_result_ns("time", checksum, static_cast<std::int64_t>(each) * n);
}

// ---- skynet, fib ----

void skynet(std::uint64_t number, std::uint64_t leaves, std::uint64_t *sum) {
    *sum = number;
    if (leaves == 1) return;
    std::uint64_t sums[10], below = leaves / 10;
    marl::WaitGroup done(10);
    for (unsigned i = 0; i < 10; i++)
        marl::schedule([&sums, i, number, below, done] {
            skynet(number + i * below, below, &sums[i]);
            done.done();
        });
    done.wait();
    *sum = 0;
    for (std::uint64_t s : sums)
        *sum += s;
}

void skynet_main() {
    std::uint64_t leaves = static_cast<std::uint64_t>(bench_param("leaves", 1000000)), sum;
    skynet(0, 1000, &sum);
    bench_start();
    skynet(0, leaves, &sum);
    std::int64_t wall = bench_stop();
    bench_result("time", "ms", static_cast<double>(wall) / 1e6, sum, static_cast<std::int64_t>(leaves));
}

void fib(int n, int *result) {
    *result = n;
    if (n < 2) return;
    int left, right;
    marl::WaitGroup done(2);
    marl::schedule([&left, n, done] {
        fib(n - 1, &left);
        done.done();
    });
    marl::schedule([&right, n, done] {
        fib(n - 2, &right);
        done.done();
    });
    done.wait();
    *result = left + right;
}

void fib_main() {
    int n = bench_param_int("n", 30), result;
    fib(n / 2, &result);
    bench_start();
    fib(n, &result);
    std::int64_t wall = bench_stop();
    bench_result("time", "ms", static_cast<double>(wall) / 1e6, static_cast<std::uint64_t>(result), n);
}

// ---- start ----

void start_main() {
    marl::WaitGroup done(1);
    marl::schedule([done] { done.done(); });
    done.wait();
}

} // namespace

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "spawn-join", run<spawn_join_main> }, { "spawn-all", run<spawn_all_main> },
        { "skynet", run<skynet_main> },         { "fib", run<fib_main> },
        { "channel", run<channel_main> },       { "mutex", run<mutex_main> },
        { "start", run<start_main> },           { nullptr, nullptr },
    };
    return bench_main(argc, argv, "marl", table);
}
