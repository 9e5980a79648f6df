/* yield, spawn and join one by one, spawn many and join all, skynet, fib, tree: workloads/README.md says what they count. */
#include "driver.h"
#include <stdlib.h>

/* ---- yield ---- */

static int yielder(void *arg) {
    int n = *(const int *)arg, i;
    for (i = 0; i < n; i++)
        stel_yield();
    return i;
}

static uint64_t yield_round(stel_fiber *fibers, int n, int each) {
    uint64_t done = 0;
    for (int i = 0; i < n; i++)
        MUST(stel_spawn(&fibers[i], yielder, &each));
    for (int i = 0; i < n; i++) {
        int count;
        MUST(stel_join(fibers[i], &count));
        done += (uint64_t)count;
    }
    return done;
}

static int yield_main(void *arg) {
    int n = bench_param_int("fibers", 2), each = bench_param_int("ops", 1000000) / n;
    stel_fiber *fibers = bench_alloc((size_t)n * sizeof *fibers);
    (void)arg;
    live_begin(false);
    yield_round(fibers, n, each / 10 + 1);
    bench_start();
    uint64_t checksum = yield_round(fibers, n, each);
    bench_stop();
    live_end();
    bench_result_ns("time", checksum, (int64_t)each * n);
    return 0;
}

void run_yield(void) {
    run_fibers(yield_main, NULL);
}

/* ---- spawn and join ---- */

static int give_back(void *arg) {
    return (int)((uintptr_t)arg & 1023);
}

static uint64_t spawn_join_round(int64_t n) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        stel_fiber f;
        int result;
        MUST(stel_spawn(&f, give_back, (void *)(uintptr_t)i));
        MUST(stel_join(f, &result));
        sum += (uint64_t)result;
    }
    return sum;
}

static int spawn_join_main(void *arg) {
    int64_t ops = bench_param("ops", 1000000);
    (void)arg;
    live_begin(false);
    spawn_join_round(ops / 10);
    bench_start();
    uint64_t checksum = spawn_join_round(ops);
    bench_stop();
    live_end();
    bench_result_ns("time", checksum, ops);
    return 0;
}

void run_spawn_join(void) {
    run_fibers(spawn_join_main, NULL);
}

static uint64_t spawn_all_round(stel_fiber *fibers, int n) {
    uint64_t sum = 0;
    for (int i = 0; i < n; i++)
        MUST(stel_spawn(&fibers[i], give_back, (void *)(uintptr_t)i));
    for (int i = 0; i < n; i++) {
        int result;
        MUST(stel_join(fibers[i], &result));
        sum += (uint64_t)result;
    }
    return sum;
}

static int spawn_all_main(void *arg) {
    int n = bench_param_int("fibers", 10000), rounds = bench_param_int("rounds", 20);
    stel_fiber *fibers = bench_alloc((size_t)n * sizeof *fibers);
    uint64_t checksum = 0;
    (void)arg;
    spawn_all_round(fibers, n);
    bench_start();
    for (int r = 0; r < rounds; r++)
        checksum += spawn_all_round(fibers, n);
    bench_stop();
    bench_result_ns("time", checksum, (int64_t)n * rounds);
    return 0;
}

void run_spawn_all(void) {
    run_fibers(spawn_all_main, NULL);
}

/* ---- skynet: a tree of fibers, ten children a node; the leaves' numbers are summed up ---- */

typedef struct node {
    uint64_t number, sum;
    uint64_t leaves;
} node;

static int skynet(void *arg) {
    node *self = arg;
    if (self->leaves == 1) {
        self->sum = self->number;
        return 0;
    }
    node child[10];
    stel_fiber fibers[10];
    uint64_t leaves = self->leaves / 10;
    for (unsigned i = 0; i < 10; i++) {
        child[i] = (node){ self->number + i * leaves, 0, leaves };
        MUST(stel_spawn(&fibers[i], skynet, &child[i]));
    }
    self->sum = 0;
    for (unsigned i = 0; i < 10; i++) {
        MUST(stel_join(fibers[i], NULL));
        self->sum += child[i].sum;
    }
    return 0;
}

static int skynet_main(void *arg) {
    (void)arg;
    node warm = { 0, 0, 1000 }, root = { 0, 0, (uint64_t)bench_param("leaves", 1000000) };
    MUST(skynet(&warm));
    bench_start();
    MUST(skynet(&root));
    int64_t wall = bench_stop();
    bench_result("time", "ms", (double)wall / 1e6, root.sum, (int64_t)root.leaves);
    return 0;
}

void run_skynet(void) {
    run_fibers(skynet_main, NULL);
}

/* ---- fib: every call a fiber ---- */

static int fib(void *arg) {
    int n = (int)(intptr_t)arg, a, b;
    if (n < 2) return n;
    stel_fiber left;
    MUST(stel_spawn(&left, fib, (void *)(intptr_t)(n - 1)));
    stel_fiber right;
    MUST(stel_spawn(&right, fib, (void *)(intptr_t)(n - 2)));
    MUST(stel_join(right, &b));
    MUST(stel_join(left, &a));
    return a + b;
}

static int fib_main(void *arg) {
    int n = bench_param_int("n", 30);
    (void)arg;
    fib((void *)(intptr_t)(n / 2));
    bench_start();
    int result = fib((void *)(intptr_t)n);
    int64_t wall = bench_stop();
    bench_result("time", "ms", (double)wall / 1e6, (uint64_t)result, n);
    return 0;
}

void run_fib(void) {
    run_fibers(fib_main, NULL);
}

/* ---- tree: work at the leaves ---- */

static int64_t steps;

typedef struct branch {
    int64_t first, count; /* its leaves */
    uint64_t sum;
} branch;

static int grow(void *arg) {
    branch *self = arg;
    if (self->count == 1) {
        self->sum = bench_work((uint64_t)self->first, steps);
        return 0;
    }
    int64_t half = self->count / 2;
    branch left = { self->first, half, 0 }, right = { self->first + half, self->count - half, 0 };
    stel_fiber a, b;
    MUST(stel_spawn(&a, grow, &left));
    MUST(stel_spawn(&b, grow, &right));
    MUST(stel_join(b, NULL));
    MUST(stel_join(a, NULL));
    self->sum = left.sum + right.sum;
    return 0;
}

static int tree_main(void *arg) {
    int64_t leaves = bench_param("leaves", 20000);
    branch warm = { 0, leaves / 10 + 1, 0 }, root = { 0, leaves, 0 };
    (void)arg;
    steps = bench_param("steps", 2000);
    MUST(grow(&warm));
    bench_start();
    MUST(grow(&root));
    bench_stop();
    bench_result_ns("time", root.sum, leaves);
    return 0;
}

void run_tree(void) {
    run_fibers(tree_main, NULL);
}
