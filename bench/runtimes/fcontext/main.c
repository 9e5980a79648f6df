/* bench-fcontext: bare contexts and stacks, without a scheduler: the program itself says who goes on. A context that is made
 * runs at once, on the stack that was freed last, and leaves for its maker when it ends; one that yields leaves for its
 * neighbour in a ring. What runtimes take beyond this they take for deciding, waiting, and keeping count. */
#include "../../common/bench.h"
#include <sys/mman.h>

enum { STACK_BYTES = 68 * 1024, STACKS_MAX = 16384 }; /* an odd number of pages: for the caches' sake */

typedef struct transfer {
    void *fcontext;
    void *data;
} transfer;
extern transfer jump_fcontext(void *to, void *data);
extern void *make_fcontext(void *stack_top, size_t bytes, void (*entry)(transfer));

/* Leave for another context. What travels is the place where the one that goes on stores where this one stopped. */
static inline void go(void **from, void *to) {
    transfer t = jump_fcontext(to, from);
    *(void **)t.data = t.fcontext;
}

/* ---- stacks ---- */

static char *stacks;
static int stacks_made, stacks_free;
static void *free_stack[STACKS_MAX];

/* Tops lie at varying offsets from page bounds for the same reason. */
static void *take_stack(void) {
    if (stacks_free > 0) return free_stack[--stacks_free];
    if (!stacks) {
        stacks = mmap(NULL, (size_t)STACKS_MAX * STACK_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED) bench_fail("no memory for stacks");
        madvise(stacks, (size_t)STACKS_MAX * STACK_BYTES, MADV_NOHUGEPAGE);
    }
    if (stacks_made == STACKS_MAX) bench_fail("too many stacks");
    stacks_made++;
    return stacks + (size_t)stacks_made * STACK_BYTES - (size_t)(stacks_made * 7 % 40) * 64;
}

static void give_stack(void *top) {
    free_stack[stacks_free++] = top;
}

/* ---- calls on a stack of their own ---- */

typedef uint64_t function(uint64_t);

typedef struct call {
    function *fn;
    uint64_t argument, result;
    void *caller, *callee;
} call;

static call *starting; /* what the context that is just being entered is for */

static void entry(transfer t) {
    call *c = starting;
    *(void **)t.data = t.fcontext;
    c->result = c->fn(c->argument);
    go(&c->callee, c->caller);
}

static uint64_t run(function *fn, uint64_t argument) {
    void *stack = take_stack();
    call c = { .fn = fn, .argument = argument };
    starting = &c;
    go(&c.caller, make_fcontext(stack, STACK_BYTES, entry));
    give_stack(stack);
    return c.result;
}

static uint64_t give_back(uint64_t i) {
    return i & 1023;
}

static uint64_t spawn_round(uint64_t n) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += run(give_back, i);
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

typedef struct node {
    uint64_t number, leaves;
} node;

static uint64_t skynet(uint64_t argument) {
    const node *self = (const node *)(uintptr_t)argument;
    if (self->leaves == 1) return self->number;
    uint64_t leaves = self->leaves / 10, sum = 0;
    for (unsigned i = 0; i < 10; i++) {
        node child = { self->number + i * leaves, leaves };
        sum += run(skynet, (uint64_t)(uintptr_t)&child);
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

static uint64_t fib(uint64_t n) {
    return n < 2 ? n : run(fib, n - 1) + run(fib, n - 2);
}

static void run_fib(void) {
    int64_t n = bench_param("n", 30);
    fib((uint64_t)n / 2);
    bench_start();
    uint64_t checksum = fib((uint64_t)n);
    int64_t wall = bench_stop();
    bench_result("time", "ms", (double)wall / 1e6, checksum, n);
}

/* ---- contexts that stay: a ring of them, and the one that made them ---- */

typedef struct member {
    void *at;
    struct member *next, *previous;
    int64_t each, done;
} member;

static void *maker;
static member *entered;

static void yielder(transfer t) {
    member *m = entered;
    *(void **)t.data = t.fcontext;
    go(&m->at, maker); /* until all have been made */
    for (; m->done < m->each; m->done++)
        go(&m->at, m->next->at);
    m->previous->next = m->next;
    m->next->previous = m->previous;
    go(&m->at, m->next == m ? maker : m->next->at);
}

static uint64_t yield_round(member *ring, int n, int64_t each) {
    uint64_t done = 0;
    void **tops = bench_alloc((size_t)n * sizeof *tops);
    for (int i = 0; i < n; i++) {
        ring[i] = (member){ .next = &ring[(i + 1) % n], .previous = &ring[(i + n - 1) % n], .each = each };
        tops[i] = take_stack();
        entered = &ring[i];
        go(&maker, make_fcontext(tops[i], STACK_BYTES, yielder));
    }
    go(&maker, ring[0].at);
    for (int i = 0; i < n; i++) {
        done += (uint64_t)ring[i].done;
        give_stack(tops[i]);
    }
    return done;
}

static void run_yield(void) {
    int n = bench_param_int("fibers", 2);
    int64_t each = bench_param("ops", 1000000) / n;
    member *ring = bench_alloc((size_t)n * sizeof *ring);
    yield_round(ring, n, each / 10 + 1);
    bench_start();
    uint64_t checksum = yield_round(ring, n, each);
    bench_stop();
    bench_result_ns("time", checksum, each * n);
}

/* ---- channel: the number is left where the partner looks, and the partner goes on ---- */

static struct {
    void *player, *partner;
    uint64_t ball;
} court;

static void partner(transfer t) {
    *(void **)t.data = t.fcontext;
    for (;;) {
        court.ball++;
        go(&court.partner, court.player);
    }
}

static uint64_t play(int64_t trips) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < trips; i++) {
        court.ball = (uint64_t)i;
        go(&court.player, court.partner);
        sum += court.ball;
    }
    return sum;
}

static void run_channel(void) {
    int64_t ops = bench_param("ops", 1000000);
    court.partner = make_fcontext(take_stack(), STACK_BYTES, partner);
    play(ops / 10 + 1);
    bench_start();
    uint64_t checksum = play(ops);
    bench_stop();
    bench_result_ns("time", checksum, ops);
}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", run_yield }, { "spawn-join", run_spawn_join }, { "skynet", run_skynet },
        { "fib", run_fib },     { "channel", run_channel },       { NULL, NULL },
    };
    return bench_main(argc, argv, "fcontext", table);
}
