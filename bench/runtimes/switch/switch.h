/* The workload switch, without its switch: stacks, contexts in a ring, and the call chain. Each variant (ours, inline,
 * fcontext) is a source file that says what a context is and how to leave one for another:
 *
 *   typedef ... context;
 *   static void context_make(context *c, void *stack_top);       it begins in context_body(c)
 *   void context_go(context *from, context *to);
 *
 * and then includes this file, which gives the program its main(). It is a program a variant, so that none shares code
 * with another.
 *
 * Every context loops over the same chain of calls: it descends `depth` distinct functions, at the bottom switches to the
 * next context of the ring, and when somebody switches back returns through all of them, to descend again. Real fibers
 * do that: they wait deep inside a library and return to their loops. The functions are distinct and not one that calls
 * itself, because the CPU predicts returns from a stack of addresses: with one function all of the addresses would be the
 * same and a stack out of step would go unnoticed. The chain's calls and returns are part of the figure (1.5 ns or so a
 * level); they are the same for every variant. */
#include "../../common/bench.h"
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

typedef struct task {
    context at;
    struct task *next;
    uint64_t sum;
} task;

/* What all contexts share. Not static: a compiler that sees every use of a static variable concludes that context_go,
 * which does not mention it, leaves it alone, and keeps it in a register meanwhile. */
typedef struct shared {
    int64_t left; /* switches to go */
    context main_at;
    void (*chain)(task *);
} shared;
extern shared bench_switch;
shared bench_switch;

/* gcc may make copies of a function for its callers even so; clang never does. */
#ifdef __clang__
#define BENCH_FRAME __attribute__((noinline)) static
#else
#define BENCH_FRAME __attribute__((noinline, noclone)) static
#endif

/* The bottom of the chain: one level of call depth. */
BENCH_FRAME void level_1(task *t) {
    t->sum++;
    task *to = t->next;
    if (--bench_switch.left <= 0)
        context_go(&t->at, &bench_switch.main_at);
    else
        context_go(&t->at, &to->at);
    t->sum++;
}
#define LEVEL(n, below)                                                                                                \
    BENCH_FRAME void level_##n(task *t) {                                                                              \
        t->sum++;                                                                                                      \
        below(t);                                                                                                      \
        t->sum++;                                                                                                      \
    }
LEVEL(2, level_1)
LEVEL(3, level_2)
LEVEL(4, level_3)
LEVEL(5, level_4)
LEVEL(6, level_5)
LEVEL(7, level_6)
LEVEL(8, level_7)

__attribute__((noreturn)) static void context_body(context *c) {
    task *t = (task *)(void *)c; /* at is its first member */
    for (;;)
        bench_switch.chain(t);
}

/* Stacks in one mapping, tops at varying offsets from page bounds so that they do not all fall into the same cache
 * sets. */
static task *make_ring(int n) {
    const size_t slot = 16384;
    char *stacks = mmap(NULL, (size_t)n * slot, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stacks == MAP_FAILED) bench_fail("no memory for stacks");
    madvise(stacks, (size_t)n * slot, MADV_NOHUGEPAGE); /* as real ones */
    task *ring = bench_alloc((size_t)n * sizeof *ring);
    for (int i = 0; i < n; i++) {
        ring[i].next = &ring[(i + 1) % n];
        context_make(&ring[i].at, stacks + (size_t)(i + 1) * slot - (size_t)(i * 7 % 40) * 64);
    }
    return ring;
}

static void run_switch(void) {
    static void (*const chains[])(task *) = { level_1, level_2, level_3, level_4, level_5, level_6, level_7, level_8 };
    int n = bench_param_int("fibers", 2), depth = bench_param_int("depth", 4);
    int64_t ops = bench_param("ops", 10000000);
    if (n < 2 || depth < 1 || depth > 8) bench_fail("fibers or depth out of range");
    bench_switch.chain = chains[depth - 1];
    task *ring = make_ring(n);
    bench_switch.left = ops / 10 + n; /* warm-up: each has run */
    context_go(&bench_switch.main_at, &ring[0].at);
    uint64_t before = 0, after = 0;
    for (int i = 0; i < n; i++)
        before += ring[i].sum;
    bench_switch.left = ops;
    task *first = &ring[(ops / 10 + n - 1) % n]; /* who came back to us goes on */
    bench_start();
    context_go(&bench_switch.main_at, &first->at);
    bench_stop();
    for (int i = 0; i < n; i++)
        after += ring[i].sum;
    bench_result_ns("time", after - before, ops);
}

int main(int argc, char **argv) {
    static const bench_workload table[] = { { "switch", run_switch }, { NULL, NULL } };
    return bench_main(argc, argv, VARIANT, table);
}
