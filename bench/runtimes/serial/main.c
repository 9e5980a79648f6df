/* bench-serial: no concurrency at all. Where a fiber would be spawned and joined, a function is called through a pointer that
 * the compiler knows nothing about; where there would be a mutex there is none. What the others take beyond this is what their
 * runtimes cost. */
#include "../../common/bench.h"

/* The compiler may not look through it. */
static uint64_t call(uint64_t (*fn)(uint64_t), uint64_t argument) {
    bench_keep(fn);
    return fn(argument);
}

/* ---- spawn and join ---- */

static uint64_t give_back(uint64_t i) {
    return i & 1023;
}

static uint64_t spawn_round(uint64_t n) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += call(give_back, i);
    return sum;
}

static void run_spawn_join(void) {
    int64_t ops = bench_param("ops", 1000000);
    spawn_round((uint64_t)ops / 10);
    bench_start();
    uint64_t checksum = spawn_round((uint64_t)ops);
    bench_stop();
    bench_result_ns("time", checksum, ops);
}

static void run_spawn_all(void) {
    int64_t n = bench_param("fibers", 10000), rounds = bench_param("rounds", 20);
    uint64_t checksum = 0;
    spawn_round((uint64_t)n);
    bench_start();
    for (int64_t r = 0; r < rounds; r++)
        checksum += spawn_round((uint64_t)n);
    bench_stop();
    bench_result_ns("time", checksum, n * rounds);
}

/* ---- skynet ---- */

typedef struct node {
    uint64_t number, leaves;
} node;

static uint64_t skynet(uint64_t argument) {
    const node *self = (const node *)(uintptr_t)argument;
    if (self->leaves == 1) return self->number;
    uint64_t leaves = self->leaves / 10, sum = 0;
    for (unsigned i = 0; i < 10; i++) {
        node child = { self->number + i * leaves, leaves };
        sum += call(skynet, (uint64_t)(uintptr_t)&child);
    }
    return sum;
}

static void run_skynet(void) {
    node warm = { 0, 1000 }, root = { 0, (uint64_t)bench_param("leaves", 1000000) };
    skynet((uint64_t)(uintptr_t)&warm);
    bench_start();
    uint64_t checksum = skynet((uint64_t)(uintptr_t)&root);
    int64_t wall = bench_stop();
    bench_result("time", "ms", (double)wall / 1e6, checksum, (int64_t)root.leaves);
}

/* ---- fib ---- */

static uint64_t fib(uint64_t n) {
    return n < 2 ? n : call(fib, n - 1) + call(fib, n - 2);
}

static void run_fib(void) {
    int64_t n = bench_param("n", 30);
    fib((uint64_t)n / 2);
    bench_start();
    uint64_t checksum = fib((uint64_t)n);
    int64_t wall = bench_stop();
    bench_result("time", "ms", (double)wall / 1e6, checksum, n);
}

/* ---- tree ---- */

typedef struct branch {
    int64_t first, count, steps;
} branch;

static uint64_t grow(uint64_t arg) {
    const branch *self = (const branch *)(uintptr_t)arg;
    if (self->count == 1) return bench_work((uint64_t)self->first, self->steps);
    int64_t half = self->count / 2;
    branch left = { self->first, half, self->steps }, right = { self->first + half, self->count - half, self->steps };
    return call(grow, (uint64_t)(uintptr_t)&left) + call(grow, (uint64_t)(uintptr_t)&right);
}

static void run_tree(void) {
    branch root = { 0, bench_param("leaves", 20000), bench_param("steps", 2000) }, warm = root;
    warm.count = warm.count / 10 + 1;
    grow((uint64_t)(uintptr_t)&warm);
    bench_start();
    uint64_t checksum = grow((uint64_t)(uintptr_t)&root);
    bench_stop();
    bench_result_ns("time", checksum, root.count);
}

/* ---- channel: the partner is called with the number and returns its answer ---- */

static uint64_t partner(uint64_t ball) {
    return ball + 1;
}

static uint64_t play(uint64_t trips) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < trips; i++)
        sum += call(partner, i);
    return sum;
}

static void run_channel(void) {
    int64_t ops = bench_param("ops", 1000000);
    play((uint64_t)ops / 10);
    bench_start();
    uint64_t checksum = play((uint64_t)ops);
    bench_stop();
    bench_result_ns("time", checksum, ops);
}

/* ---- mutex: the counter alone, in memory each time ---- */

static uint64_t count(int64_t sections) {
    volatile uint64_t counter = 0;
    for (int64_t i = 0; i < sections; i++)
        counter = counter + 1;
    return counter;
}

static void run_mutex(void) {
    int64_t n = bench_param("fibers", 1000) * bench_param("each", 1000);
    count(n / 10);
    bench_start();
    uint64_t checksum = count(n);
    bench_stop();
    bench_result_ns("time", checksum, n);
}

static void run_start(void) {}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "spawn-join", run_spawn_join },
        { "spawn-all", run_spawn_all },
        { "skynet", run_skynet },
        { "fib", run_fib },
        { "tree", run_tree },
        { "channel", run_channel },
        { "mutex", run_mutex },
        { "start", run_start },
        { NULL, NULL },
    };
    return bench_main(argc, argv, "serial", table);
}
