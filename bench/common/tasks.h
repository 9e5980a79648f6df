/* tasks: the workloads for runtimes whose fibers hand back no result when they are joined, in C or C++; those that do have
 * threads.h. Results go through the memory that a fiber was given. A driver defines these before it includes this file, as
 * functions that the compiler can put in place:
 *
 *   TASK_RETURNS, TASK_END                     what a fiber's function returns: void and nothing, or void * and NULL
 *   task                                       type: of a fiber's handle
 *   task task_spawn(TASK_RETURNS (*)(void *), void *)
 *   void task_join(task)
 *   void task_yield(void)
 *   task_mutex                                 type
 *   void task_mutex_init(task_mutex *), task_mutex_destroy(task_mutex *)
 *   void task_lock(task_mutex *), task_unlock(task_mutex *)
 *   task_channel                               type: of one element, which whoever sends it sees taken or waits for an
 *                                              answer to
 *   void task_channel_init(task_channel *)
 *   void task_send(task_channel *, uint64_t)
 *   uint64_t task_receive(task_channel *)
 *
 * A driver that has a better idiom for one of them than what is here defines TASK_SPAWN_NOW (spawn-join: a fiber that is
 * waited for at once). workloads/README.md says what they count. */
#ifndef BENCH_TASKS_H
#define BENCH_TASKS_H

#include "bench.h"

#ifndef TASK_SPAWN_NOW
#define TASK_SPAWN_NOW task_spawn
#endif

static inline task *tasks_alloc(int n) {
    return (task *)bench_alloc((size_t)n * sizeof(task));
}

/* ---- yield ---- */

typedef struct yielder {
    int each, done;
} yielder;

static TASK_RETURNS yield_many(void *arg) {
    yielder *self = (yielder *)arg;
    int i;
    for (i = 0; i < self->each; i++)
        task_yield();
    self->done = i;
    return TASK_END;
}

static inline uint64_t yield_round(task *tasks, yielder *yielders, int n, int each) {
    uint64_t done = 0;
    for (int i = 0; i < n; i++) {
        yielders[i].each = each;
        yielders[i].done = 0;
        tasks[i] = task_spawn(yield_many, &yielders[i]);
    }
    for (int i = 0; i < n; i++) {
        task_join(tasks[i]);
        done += (uint64_t)yielders[i].done;
    }
    return done;
}

static inline void yield_main(void) {
    int n = bench_param_int("fibers", 2), each = bench_param_int("ops", 1000000) / n;
    task *tasks = tasks_alloc(n);
    yielder *yielders = (yielder *)bench_alloc((size_t)n * sizeof(yielder));
    yield_round(tasks, yielders, n, each / 10 + 1);
    bench_start();
    uint64_t checksum = yield_round(tasks, yielders, n, each);
    bench_stop();
    bench_result_ns("time", checksum, (int64_t)each * n);
}

/* ---- spawn and join ---- */

typedef struct errand {
    int64_t number;
    int result;
} errand;

static TASK_RETURNS give_back(void *arg) {
    errand *self = (errand *)arg;
    self->result = (int)(self->number & 1023);
    return TASK_END;
}

static inline uint64_t spawn_join_round(int64_t n) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        errand e = { i, 0 };
        task_join(TASK_SPAWN_NOW(give_back, &e));
        sum += (uint64_t)e.result;
    }
    return sum;
}

static inline void spawn_join_main(void) {
    int64_t ops = bench_param("ops", 1000000);
    spawn_join_round(ops / 10);
    bench_start();
    uint64_t checksum = spawn_join_round(ops);
    bench_stop();
    bench_result_ns("time", checksum, ops);
}

static inline uint64_t spawn_all_round(task *tasks, errand *errands, int n) {
    uint64_t sum = 0;
    for (int i = 0; i < n; i++) {
        errands[i].number = i;
        errands[i].result = 0;
        tasks[i] = task_spawn(give_back, &errands[i]);
    }
    for (int i = 0; i < n; i++) {
        task_join(tasks[i]);
        sum += (uint64_t)errands[i].result;
    }
    return sum;
}

static inline void spawn_all_main(void) {
    int n = bench_param_int("fibers", 10000), rounds = bench_param_int("rounds", 20);
    task *tasks = tasks_alloc(n);
    errand *errands = (errand *)bench_alloc((size_t)n * sizeof(errand));
    uint64_t checksum = 0;
    spawn_all_round(tasks, errands, n);
    bench_start();
    for (int r = 0; r < rounds; r++)
        checksum += spawn_all_round(tasks, errands, n);
    bench_stop();
    bench_result_ns("time", checksum, (int64_t)n * rounds);
}

/* ---- skynet, fib ----
 * The first child is joined first: where the newest runs first, it runs last, and only one join of all has to wait. */

typedef struct node {
    uint64_t number, leaves, sum;
} node;

static TASK_RETURNS skynet(void *arg) {
    node *self = (node *)arg, child[10];
    task tasks[10];
    self->sum = self->number;
    if (self->leaves == 1) return TASK_END;
    for (unsigned i = 0; i < 10; i++) {
        child[i].leaves = self->leaves / 10;
        child[i].number = self->number + i * child[i].leaves;
        tasks[i] = task_spawn(skynet, &child[i]);
    }
    self->sum = 0;
    for (unsigned i = 0; i < 10; i++) {
        task_join(tasks[i]);
        self->sum += child[i].sum;
    }
    return TASK_END;
}

static inline void skynet_main(void) {
    node warm = { 0, 1000, 0 }, root = { 0, (uint64_t)bench_param("leaves", 1000000), 0 };
    skynet(&warm);
    bench_start();
    skynet(&root);
    int64_t wall = bench_stop();
    bench_result("time", "ms", (double)wall / 1e6, root.sum, (int64_t)root.leaves);
}

typedef struct call {
    int n;
    uint64_t result;
} call;

static TASK_RETURNS fib(void *arg) {
    call *self = (call *)arg;
    self->result = (uint64_t)self->n;
    if (self->n < 2) return TASK_END;
    call left = { self->n - 1, 0 }, right = { self->n - 2, 0 };
    task first = task_spawn(fib, &left), second = task_spawn(fib, &right);
    task_join(first);
    task_join(second);
    self->result = left.result + right.result;
    return TASK_END;
}

static inline void fib_main(void) {
    int n = bench_param_int("n", 30);
    call warm = { n / 2, 0 }, root = { n, 0 };
    fib(&warm);
    bench_start();
    fib(&root);
    int64_t wall = bench_stop();
    bench_result("time", "ms", (double)wall / 1e6, root.result, n);
}

/* ---- channel ---- */

typedef struct court {
    task_channel there, back;
    int64_t trips;
} court;

static TASK_RETURNS partner(void *arg) {
    court *c = (court *)arg;
    for (int64_t i = 0; i < c->trips; i++)
        task_send(&c->back, task_receive(&c->there) + 1);
    return TASK_END;
}

static inline uint64_t play(court *c, int64_t trips) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < trips; i++) {
        task_send(&c->there, (uint64_t)i);
        sum += task_receive(&c->back);
    }
    return sum;
}

/* spawn: for those that can place a fiber. */
static inline void play_with(task (*spawn)(TASK_RETURNS (*)(void *), void *)) {
    int64_t ops = bench_param("ops", 1000000);
    static court c;
    c.trips = ops + ops / 10;
    task_channel_init(&c.there);
    task_channel_init(&c.back);
    task other = spawn(partner, &c);
    play(&c, ops / 10);
    bench_start();
    uint64_t checksum = play(&c, ops);
    bench_stop();
    task_join(other);
    bench_result_ns("time", checksum, ops);
}

static inline void channel_main(void) {
    play_with(task_spawn);
}

/* ---- mutex ---- */

typedef struct shared {
    task_mutex mutex;
    uint64_t counter;
    int64_t each;
    int yield_every;
} shared;

static TASK_RETURNS contend(void *arg) {
    shared *s = (shared *)arg;
    int until_yield = s->yield_every;
    for (int64_t i = 0; i < s->each; i++) {
        task_lock(&s->mutex);
        s->counter++;
        if (s->yield_every && --until_yield == 0) {
            until_yield = s->yield_every;
            task_yield();
        }
        task_unlock(&s->mutex);
    }
    return TASK_END;
}

static inline uint64_t mutex_round(task *tasks, int n, int64_t each, int yield_every) {
    static shared s;
    s.counter = 0;
    s.each = each;
    s.yield_every = yield_every;
    task_mutex_init(&s.mutex);
    for (int i = 0; i < n; i++)
        tasks[i] = task_spawn(contend, &s);
    for (int i = 0; i < n; i++)
        task_join(tasks[i]);
    task_mutex_destroy(&s.mutex);
    return s.counter;
}

static inline void mutex_main(void) {
    int n = bench_param_int("fibers", 1000), yield_every = bench_param_int("yield_every", 0);
    int64_t each = bench_param("each", 1000);
    task *tasks = tasks_alloc(n);
    mutex_round(tasks, n, each / 10 + 1, yield_every);
    bench_start();
    uint64_t checksum = mutex_round(tasks, n, each, yield_every);
    bench_stop();
    bench_result_ns("time", checksum, each * n);
}

/* ---- start ---- */

static TASK_RETURNS nothing(void *arg) {
    (void)arg;
    return TASK_END;
}

static inline void start_main(void) {
    task_join(task_spawn(nothing, NULL));
}

#endif
