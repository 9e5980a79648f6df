/* bench-argobots: Argobots. One worker: a pool that nobody else uses, so without locks. Several: a pool each, and its own
 * scheduler that steals from the other's. Newest first (its RANDWS pool) or in turn (FIFO), whichever is faster for it.
 * Its stacks, of 16 KiB, have no guards.
 *
 * It has neither channels nor I/O nor a sleep. A rendezvous is an eventual each way, set and made ready again. */
#include "../../common/bench.h"
#include <abt.h>
#include <stdbool.h>

enum { MAX_WORKERS = 2 };

typedef enum order { IN_TURN, NEWEST_FIRST } order;

static int workers;
static ABT_pool pools[MAX_WORKERS];

#define MUST(call) must((call), #call)

static void must(int code, const char *what) {
    if (code != ABT_SUCCESS) bench_fail("%s: error %d", what, code);
}

/* ---- execution streams ---- */

/* apart: nobody takes fibers from another's pool. */
static void with_streams(order first, bool apart, void (*fn)(void)) {
    ABT_pool_kind kind = first == NEWEST_FIRST ? ABT_POOL_RANDWS : ABT_POOL_FIFO;
    ABT_xstream streams[MAX_WORKERS];
    workers = bench_param_int("workers", 1);
    if (workers < 1 || workers > MAX_WORKERS) bench_fail("at most %d workers", MAX_WORKERS);
    MUST(ABT_init(0, NULL));
    for (int i = 0; i < workers; i++)
        MUST(ABT_pool_create_basic(kind, workers == 1 ? ABT_POOL_ACCESS_PRIV : ABT_POOL_ACCESS_MPMC, ABT_TRUE,
                                   &pools[i]));
    int seen = apart ? 1 : workers;
    for (int i = 0; i < workers; i++) {
        ABT_pool in_reach[MAX_WORKERS] = { pools[i], pools[(i + 1) % workers] };
        ABT_sched_predef scheduler = seen > 1 ? ABT_SCHED_RANDWS : ABT_SCHED_BASIC;
        if (i == 0) {
            MUST(ABT_xstream_self(&streams[0]));
            MUST(ABT_xstream_set_main_sched_basic(streams[0], scheduler, seen, in_reach));
        } else {
            MUST(ABT_xstream_create_basic(scheduler, seen, in_reach, ABT_SCHED_CONFIG_NULL, &streams[i]));
        }
    }
    fn();
    for (int i = 1; i < workers; i++) {
        MUST(ABT_xstream_join(streams[i]));
        MUST(ABT_xstream_free(&streams[i]));
    }
    MUST(ABT_finalize());
}

/* ---- what tasks.h asks for ---- */

#define TASK_RETURNS   void
#define TASK_END       /* nothing */
#define TASK_SPAWN_NOW spawn_and_run

typedef ABT_thread task;

static ABT_pool own_pool(void) {
    int rank = 0;
    if (workers > 1) MUST(ABT_self_get_xstream_rank(&rank));
    return pools[rank];
}

static task task_spawn(void (*fn)(void *), void *arg) {
    ABT_thread thread;
    MUST(ABT_thread_create(own_pool(), fn, arg, ABT_THREAD_ATTR_NULL, &thread));
    return thread;
}

/* With several workers it runs at once, before anybody else can take it. */
static task spawn_and_run(void (*fn)(void *), void *arg) {
    ABT_thread thread;
    if (workers == 1) return task_spawn(fn, arg);
    MUST(ABT_thread_create_to(own_pool(), fn, arg, ABT_THREAD_ATTR_NULL, &thread));
    return thread;
}

static task spawn_apart(void (*fn)(void *), void *arg) {
    ABT_thread thread;
    MUST(ABT_thread_create(pools[1], fn, arg, ABT_THREAD_ATTR_NULL, &thread));
    return thread;
}

static void task_join(task thread) {
    MUST(ABT_thread_free(&thread));
}

static void task_yield(void) {
    ABT_self_yield();
}

static void task_park(void) {
    MUST(ABT_self_suspend());
}

static void task_unpark(task thread) {
    MUST(ABT_thread_resume(thread));
}

typedef ABT_mutex task_mutex;

static void task_mutex_init(task_mutex *mutex) {
    MUST(ABT_mutex_create(mutex));
}

static void task_mutex_destroy(task_mutex *mutex) {
    MUST(ABT_mutex_free(mutex));
}

static void task_lock(task_mutex *mutex) {
    ABT_mutex_lock(*mutex);
}

static void task_unlock(task_mutex *mutex) {
    ABT_mutex_unlock(*mutex);
}

typedef ABT_eventual task_channel;

static void task_channel_init(task_channel *eventual) {
    MUST(ABT_eventual_create(sizeof(uint64_t), eventual));
}

static void task_send(task_channel *eventual, uint64_t number) {
    MUST(ABT_eventual_set(*eventual, &number, sizeof number));
}

static uint64_t task_receive(task_channel *eventual) {
    void *value;
    MUST(ABT_eventual_wait(*eventual, &value));
    uint64_t number = *(uint64_t *)value;
    MUST(ABT_eventual_reset(*eventual));
    return number;
}

#include "../../common/tasks.h"

#include "../../common/tasks_parked.h"

static void channel_apart(void) {
    play_with(spawn_apart);
}

static void run_yield(void) {
    with_streams(IN_TURN, false, yield_main);
}

static void run_spawn_join(void) {
    with_streams(NEWEST_FIRST, false, spawn_join_main);
}

static void run_spawn_all(void) {
    with_streams(NEWEST_FIRST, false, spawn_all_main);
}

static void run_skynet(void) {
    with_streams(NEWEST_FIRST, false, skynet_main);
}

static void run_fib(void) {
    with_streams(NEWEST_FIRST, false, fib_main);
}

static void run_channel(void) {
    bool apart = bench_param("apart", 0);
    with_streams(IN_TURN, apart, apart ? channel_apart : channel_main);
}

static void run_mutex(void) {
    with_streams(bench_param("yield_every", 0) ? NEWEST_FIRST : IN_TURN, false, mutex_main);
}

static void run_parked(void) {
    with_streams(IN_TURN, false, parked_main);
}

static void run_start(void) {
    with_streams(IN_TURN, false, start_main);
}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", run_yield },   { "spawn-join", run_spawn_join },
        { "fib", run_fib },       { "spawn-all", run_spawn_all },
        { "skynet", run_skynet }, { "channel", run_channel },
        { "mutex", run_mutex },   { "parked", run_parked },
        { "start", run_start },   { NULL, NULL },
    };
    return bench_main(argc, argv, "argobots", table);
}
