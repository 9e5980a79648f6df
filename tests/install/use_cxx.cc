// Fibers in C++17: exceptions are thrown, held in catch blocks and thrown again while their fibers wait, interleave and
// move between workers; deadlines, shields and scopes are closed by an exception that passes; an exception that leaves a
// fiber's function ends the program with a message (run with "escapes" as its argument).
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <stellane/stellane.h>
#include <string>
#include <vector>

namespace {

[[noreturn]] void fail(int line, const char *what) {
    std::fprintf(stderr, "use_cxx.cc:%d: %s does not hold\n", line, what);
    std::abort();
}
#define CHECK(x) ((x) ? (void)0 : fail(__LINE__, #x))
#define OK(call) CHECK((call) >= 0)

std::atomic<int> migrated{0}, handled{0};

// A wait of one kind or another; the fiber may go on on another worker.
void wait_somehow(unsigned n) {
    int before = stel_worker_id();
    if (n % 3 == 0)
        OK(stel_sleep(STEL_US(n % 200)));
    else
        stel_yield();
    if (stel_worker_id() != before) migrated++;
}

struct Failure : std::runtime_error {
    unsigned id;
    explicit Failure(unsigned i) : std::runtime_error("failure " + std::to_string(i)), id(i) {}
};

// Waits while an exception is on its way up through it.
struct WaitsWhileUnwound {
    unsigned n;
    ~WaitsWhileUnwound() {
        CHECK(std::uncaught_exceptions() == 1);
        wait_somehow(n);
        try { // another one, within the first
            throw static_cast<int>(n);
        } catch (int caught) {
            wait_somehow(n + 1);
            CHECK(caught == static_cast<int>(n));
        }
        CHECK(std::uncaught_exceptions() == 1);
    }
};

void inner(unsigned id, unsigned round) {
    CHECK(std::uncaught_exceptions() == 0);
    try {
        WaitsWhileUnwound w{id + round};
        throw Failure(id);
    } catch (const Failure &e) {
        for (unsigned i = 0; i < 3; i++) {
            wait_somehow(id + round + i);
            CHECK(e.id == id && e.what() == "failure " + std::to_string(id));
        }
        CHECK(std::uncaught_exceptions() == 0);
        throw; // the same: found by what the thread is told to have caught
    }
}

int thrower(void *arg) {
    unsigned id = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(arg));
    for (unsigned round = 0; round < 20; round++) {
        CHECK(!std::current_exception());
        try {
            inner(id, round);
            CHECK(false);
        } catch (const Failure &e) {
            std::exception_ptr kept = std::current_exception();
            wait_somehow(id * 7 + round);
            CHECK(e.id == id);
            try {
                std::rethrow_exception(kept);
            } catch (const std::runtime_error &again) {
                wait_somehow(round);
                CHECK(static_cast<const void *>(&again) == static_cast<const void *>(&e));
            }
            wait_somehow(round + 1);
            CHECK(std::current_exception() == kept);
        }
        CHECK(!std::current_exception());
        CHECK(std::uncaught_exceptions() == 0);
        handled++;
    }
    return 0;
}

// One that knows nothing of exceptions, in between: it must not see any.
int bystander(void *) {
    for (int i = 0; i < 200; i++) {
        CHECK(!std::current_exception());
        CHECK(std::uncaught_exceptions() == 0);
        stel_yield();
    }
    return 0;
}

// Ends out of a catch block, with everything it held.
int leaves_by_exit(void *) {
    try {
        throw 1;
    } catch (...) {
        stel_yield();
        stel_exit(5);
    }
}

int many(void *) {
    std::vector<stel_fiber> fibers(64);
    for (std::size_t i = 0; i < fibers.size(); i++) {
        stel_fn *fn = i % 8 == 6 ? bystander : i % 8 == 7 ? leaves_by_exit : thrower;
        OK(stel_spawn(&fibers[i], fn, reinterpret_cast<void *>(i)));
    }
    for (std::size_t i = 0; i < fibers.size(); i++) {
        int result = -1;
        OK(stel_join(fibers[i], &result));
        CHECK(result == (i % 8 == 7 ? 5 : 0));
    }
    return 0;
}

// Two on one worker: the second throws and catches while the first is in its catch block, and leaves later than it.
stel_event first_in = STEL_EVENT_INIT, second_in = STEL_EVENT_INIT, first_out = STEL_EVENT_INIT;

int first(void *) {
    try {
        try {
            throw Failure(1);
        } catch (const Failure &) {
            stel_event_set(&first_in);
            OK(stel_event_wait(&second_in));
            throw;
        }
    } catch (const Failure &e) {
        CHECK(e.id == 1);
    }
    stel_event_set(&first_out);
    return 0;
}
int second(void *) {
    OK(stel_event_wait(&first_in));
    CHECK(!std::current_exception());
    try {
        try {
            throw Failure(2);
        } catch (const Failure &) {
            stel_event_set(&second_in);
            OK(stel_event_wait(&first_out));
            throw;
        }
    } catch (const Failure &e) {
        CHECK(e.id == 2);
    }
    return 0;
}
int interleaved(void *) {
    stel_fiber a, b;
    OK(stel_spawn(&a, first, nullptr));
    OK(stel_spawn(&b, second, nullptr));
    OK(stel_join(a, nullptr));
    OK(stel_join(b, nullptr));
    return 0;
}

int sleeper(void *arg) {
    int rc = stel_sleep(STEL_FOREVER);
    *static_cast<int *>(arg) = rc;
    return rc;
}

// What C does by attributes when a block is left, an exception does too.
int cleanups(void *) {
    CHECK(stel_deadline() == STEL_FOREVER);
    try {
        STEL_TIMEOUT(STEL_MS(1));
        CHECK(stel_sleep(STEL_FOREVER) == -ETIMEDOUT);
        throw Failure(3);
    } catch (const Failure &) {
        CHECK(stel_deadline() == STEL_FOREVER);
    }
    OK(stel_cancel(stel_self()));
    CHECK(stel_sleep(0) == -ECANCELED);
    try {
        STEL_SHIELD(STEL_SEC(60));
        OK(stel_sleep(0));
        throw Failure(4);
    } catch (const Failure &) {
        CHECK(stel_sleep(0) == -ECANCELED);
    }
    return 0;
}
int scope(void *) {
    int outcome[2] = {0, 0};
    try {
        STEL_SCOPE(children);
        OK(stel_scope_spawn(&children, sleeper, &outcome[0]));
        OK(stel_scope_spawn(&children, sleeper, &outcome[1]));
        stel_yield();
        throw Failure(5);
    } catch (const Failure &e) {
        CHECK(e.id == 5);
        CHECK(outcome[0] == -ECANCELED && outcome[1] == -ECANCELED); // they have ended
    }
    return 0;
}
int selection(void *) {
    stel_chan *a, *b;
    int in = 7, out = 0;
    OK(stel_chan_create(&a, sizeof in, 1));
    OK(stel_chan_create(&b, sizeof in, 1));
    stel_case cases[] = {STEL_CASE_SEND(a, &in), STEL_CASE_RECV(b, &out)};
    CHECK(stel_select(cases, 2, 0) == 0);
    cases[0] = STEL_CASE_RECV(a, &out);
    CHECK(stel_select(cases, 2, STEL_SELECT_NOWAIT) == 0);
    CHECK(out == 7);
    stel_chan_destroy(a);
    stel_chan_destroy(b);
    return 0;
}

void run(int workers, stel_fn *fn) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = workers;
    c.auto_shutdown = 1;
    stel_runtime *rt = nullptr;
    stel_fiber f = 0;
    int result = -1;
    OK(stel_runtime_create(&rt, &c));
    OK(stel_runtime_spawn(rt, &f, nullptr, fn, nullptr));
    OK(stel_runtime_start(rt));
    OK(stel_join(f, &result));
    CHECK(result == 0);
    OK(stel_runtime_wait(rt));
    OK(stel_runtime_destroy(rt));
}

int escapes(void *) {
    throw std::runtime_error("nobody catches this");
}

} // namespace

int main(int argc, char **argv) {
    if (argc > 1 && !std::strcmp(argv[1], "escapes")) run(2, escapes);
    for (int workers : {1, 2, 4}) {
        run(workers, interleaved);
        first_in = second_in = first_out = STEL_EVENT_INIT;
        run(workers, many);
        run(workers, cleanups);
        run(workers, scope);
        run(workers, selection);
    }
    CHECK(handled == 3 * 48 * 20);
    std::printf("%d exceptions handled; fibers went on on another worker\n", handled.load());
    CHECK(migrated > 0);
    return 0;
}
