/* operations: what tools/instructions counts the instructions of. Run under callgrind with --collect-atstart=no, as
 * `operations NAME COUNT`: an operation is done COUNT times, and only then, and only on the thread that does it, is
 * counting on. One worker, polling mode inline: no poller thread and no ticks, and next to nothing that depends on the clock.
 *
 * The fibers are warm: each has run, its stack is there, and queues have the room that they need. */
#include "arch/arch.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>
#include <string.h>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_TOGGLE_COLLECT exit(77) /* skipped, as tests are */
#endif

enum { WARM_UP = 1000 };

static int64_t count;

/* For calls that cannot fail here. */
static int must(int code) {
    if (code >= 0) return code;
    fprintf(stderr, "operations: %s\n", stel_strerror(code));
    exit(1);
}
#define MUST(call) must((int)(call))

/* Do it a few times, then `count` times with counting on. */
static void measure(void (*operation)(void *, int64_t), void *arg) {
    operation(arg, WARM_UP);
    CALLGRIND_TOGGLE_COLLECT;
    operation(arg, count);
    CALLGRIND_TOGGLE_COLLECT;
}

/* ---- switch: two bare contexts ---- */

static stel__context here, there;

__attribute__((noinline)) static void go(stel__context *from, stel__context *to) {
    stel__context_switch(from, to, to);
}

__attribute__((noreturn)) static void go_back(void) {
    for (;;)
        go(&there, &here);
}

static stel__context_exit entry(void *word) {
    (void)word;
    go_back();
}

static void switch_there_and_back(void *arg, int64_t n) {
    (void)arg;
    for (int64_t i = 0; i < n; i += 2)
        go(&here, &there);
}

static int do_switch(void *arg) {
    static _Alignas(64) char stack[65536];
    stel__context_make(&there, stack + sizeof stack, entry);
    measure(switch_there_and_back, arg);
    return 0;
}

/* ---- yield: two fibers in turn ---- */

static bool over;

static int yield_until_over(void *arg) {
    (void)arg;
    while (!over)
        stel_yield();
    return 0;
}

static void yield_in_turn(void *arg, int64_t n) {
    (void)arg;
    for (int64_t i = 0; i < n; i += 2)
        stel_yield();
}

static int do_yield(void *arg) {
    stel_fiber other;
    MUST(stel_spawn(&other, yield_until_over, NULL));
    measure(yield_in_turn, arg);
    over = true;
    return MUST(stel_join(other, NULL));
}

/* ---- spawn and join, one at a time ---- */

static int give_back(void *arg) {
    return (int)((uintptr_t)arg & 1023);
}

static void spawn_join(void *arg, int64_t n) {
    (void)arg;
    for (int64_t i = 0; i < n; i++) {
        stel_fiber f;
        int result;
        MUST(stel_spawn(&f, give_back, (void *)(uintptr_t)i));
        MUST(stel_join(f, &result));
        if (result != (int)(i & 1023)) abort();
    }
}

static int do_spawn_join(void *arg) {
    measure(spawn_join, arg);
    return 0;
}

/* ---- channel: a rendezvous there and one back ---- */

typedef struct court {
    stel_chan *there, *back;
} court;

static int partner(void *arg) {
    court *c = arg;
    uint64_t ball;
    while (stel_chan_recv(c->there, &ball) == 0)
        MUST(stel_chan_send(c->back, &ball));
    return 0;
}

static void play(void *arg, int64_t n) {
    court *c = arg;
    for (int64_t i = 0; i < n; i++) {
        uint64_t ball = (uint64_t)i;
        MUST(stel_chan_send(c->there, &ball));
        MUST(stel_chan_recv(c->back, &ball));
        if (ball != (uint64_t)i) abort();
    }
}

static int do_channel(void *arg) {
    court c;
    stel_fiber other;
    (void)arg;
    MUST(stel_chan_create(&c.there, sizeof(uint64_t), 0));
    MUST(stel_chan_create(&c.back, sizeof(uint64_t), 0));
    MUST(stel_spawn(&other, partner, &c));
    measure(play, &c);
    MUST(stel_chan_close(c.there));
    MUST(stel_join(other, NULL));
    stel_chan_destroy(c.there);
    stel_chan_destroy(c.back);
    return 0;
}

/* ---- mutex: nobody else wants it; two fibers that give way while they have it ---- */

static stel_mutex mutex = STEL_MUTEX_INIT;

static void lock_unlock(void *arg, int64_t n) {
    (void)arg;
    for (int64_t i = 0; i < n; i++) {
        stel_mutex_lock(&mutex);
        stel_mutex_unlock(&mutex);
    }
}

static int do_mutex(void *arg) {
    measure(lock_unlock, arg);
    return 0;
}

static void lock_yield_unlock(void *arg, int64_t n) {
    (void)arg;
    for (int64_t i = 0; i < n; i++) {
        stel_mutex_lock(&mutex);
        stel_yield();
        stel_mutex_unlock(&mutex);
    }
}

static int contend_until_over(void *arg) {
    while (!over)
        lock_yield_unlock(arg, 1);
    return 0;
}

static void contend(void *arg, int64_t n) {
    lock_yield_unlock(arg, n / 2);
}

static int do_mutex_contended(void *arg) {
    stel_fiber other;
    MUST(stel_spawn(&other, contend_until_over, arg));
    measure(contend, arg);
    over = true;
    return MUST(stel_join(other, NULL));
}

/* ---- park and wake: two fibers, each wakes the other and parks ---- */

static int wake_and_park(void *arg) {
    stel_fiber first = *(stel_fiber *)arg;
    for (;;) {
        MUST(stel_park());
        if (over) return 0;
        MUST(stel_unpark(first));
    }
}

static void wake_in_turn(void *arg, int64_t n) {
    stel_fiber other = *(stel_fiber *)arg;
    for (int64_t i = 0; i < n; i += 2) {
        MUST(stel_unpark(other));
        MUST(stel_park());
    }
}

static int do_park_wake(void *arg) {
    stel_fiber self = stel_self(), other;
    (void)arg;
    MUST(stel_spawn(&other, wake_and_park, &self));
    stel_yield();
    measure(wake_in_turn, &other);
    over = true;
    MUST(stel_unpark(other));
    return MUST(stel_join(other, NULL));
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        stel_fn *run;
    } table[] = {
        { "switch", do_switch },       { "yield", do_yield }, { "spawn-join", do_spawn_join },
        { "channel", do_channel },     { "mutex", do_mutex }, { "mutex-contended", do_mutex_contended },
        { "park-wake", do_park_wake },
    };
    count = argc == 3 ? strtoll(argv[2], NULL, 10) : 0;
    for (size_t i = 0; count > 0 && i < sizeof table / sizeof *table; i++) {
        stel_config config;
        stel_runtime *runtime;
        stel_fiber f;
        int result;
        if (strcmp(argv[1], table[i].name) != 0) continue;
        stel_config_init(&config);
        config.worker_threads = 1;
        config.poller_mode = STEL_POLLER_INLINE;
        config.seed = 1;
        config.stall_ns = -1;
        MUST(stel_runtime_create(&runtime, &config));
        MUST(stel_runtime_start(runtime));
        MUST(stel_runtime_spawn(runtime, &f, NULL, table[i].run, NULL));
        MUST(stel_join(f, &result));
        MUST(result);
        MUST(stel_runtime_stop(runtime, STEL_SEC(60)));
        MUST(stel_runtime_destroy(runtime));
        return 0;
    }
    fprintf(stderr, "usage: operations NAME COUNT\n");
    return 64;
}
