/* For tests of races: a thread that acts near a chosen moment, and how many rounds of that there is time for. */
#ifndef DUEL_H
#define DUEL_H

#include "check_fiber.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ---- how often: a number of rounds, fewer where they take long ---- */

enum { CPU_MS = 800, WALL_MS = 3000 };

typedef struct budget {
    uint64_t left;
    int64_t wall, cpu; /* until when */
} budget;

static inline int64_t cpu_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return STEL_SEC(t.tv_sec) + t.tv_nsec;
}

static inline budget rounds(uint64_t n) {
    return (budget){ test_scale(n), stel_after(STEL_MS(WALL_MS)), cpu_time() + STEL_MS(CPU_MS) };
}
static inline bool go_on(budget *b) {
    if (!b->left || (b->left % 8 == 0 && (stel_now() > b->wall || cpu_time() > b->cpu))) return false;
    b->left--;
    return true;
}

/* ---- a duel: a thread that acts when its moment has come ----
 *
 * It stumbles at times: a signal stops it for a moment somewhere in the middle of what it does, and the other side gets
 * far ahead. So does the worker of a fiber that has a duel, if the fiber stays there. And that fiber is not alone on its
 * workers: they stay awake, so that timers are exact and what is ready can be stolen. */

typedef struct stumbling_block {
    timer_t timer;
    int64_t latency; /* how late its signal is as a rule; 0: there is none */
} stumbling_block;

typedef struct duel {
    pthread_t thread;
    void (*act)(void *arg);
    void *arg;
    uint64_t random;
    _Atomic int64_t at; /* 0: nothing to do */
    _Atomic bool over;
    stel_fiber restless[2];
    stumbling_block worker;
} duel;

static inline int is_restless(void *stop) {
    while (!atomic_load((_Atomic bool *)stop))
        stel_yield();
    return 0;
}

enum { STUMBLE_NS = 30000, STUMBLES_ABOUT_NS = 900, SAMPLES = 31, SOON_NS = 30000 };

static _Thread_local volatile int64_t stumbled_at;

static inline void stumble(int signal) {
    (void)signal;
    stumbled_at = stel_now();
    while (stel_now() < stumbled_at + STUMBLE_NS) {
    }
}

static inline void trip_at(const stumbling_block *b, int64_t when) {
    struct itimerspec t = { .it_value = { when / 1000000000, when % 1000000000 } };
    (void)timer_settime(b->timer, TIMER_ABSTIME, &t, NULL);
}

static inline int ascending(const void *a, const void *b) {
    return (*(const int64_t *)a > *(const int64_t *)b) - (*(const int64_t *)a < *(const int64_t *)b);
}

/* A timer whose signal comes to this thread. */
static inline stumbling_block place_stumbling_block(void) {
    struct sigaction action = { .sa_handler = stumble, .sa_flags = SA_RESTART };
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
    stumbling_block b = { .latency = 0 };
    int64_t late[SAMPLES];
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &ours, NULL); /* workers block it */
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    if (sigaction(SIGUSR1, &action, NULL) < 0 || timer_create(CLOCK_MONOTONIC, &event, &b.timer) < 0) return b;
    for (int i = 0; i < SAMPLES; i++) {
        int64_t when = stel_now() + 10000, give_up = when + STEL_MS(5);
        stumbled_at = 0;
        trip_at(&b, when);
        while (!stumbled_at && stel_now() < give_up) {
        }
        late[i] = (stumbled_at ? stumbled_at : stel_now()) - when;
    }
    qsort(late, SAMPLES, sizeof late[0], ascending);
    b.latency = late[SAMPLES / 4] < SOON_NS ? late[SAMPLES / 4] : 0; /* under some tools signals are held back */
    if (!b.latency) timer_delete(b.timer);
    return b;
}

static inline void *duel_thread(void *p) {
    duel *d = p;
    uint64_t random = test_seed() ^ 77;
    stumbling_block block = place_stumbling_block();
    for (uint64_t looks = 0; !atomic_load(&d->over); looks++) {
        int64_t at = atomic_load(&d->at), now = stel_now();
        if (!at || at - now > SOON_NS) {
            if (looks % 64 == 0) sched_yield(); /* fewer CPUs than threads: let the others come to the moment */
            continue;
        }
        if (block.latency && at - now > block.latency && test_random(&random, 4))
            trip_at(&block, at - block.latency + (int64_t)test_random(&random, STUMBLES_ABOUT_NS));
        while (stel_now() < at) {
        }
        d->act(d->arg);
        atomic_store(&d->at, 0);
    }
    if (block.latency) timer_delete(block.timer);
    return NULL;
}

/* stays: the caller is a fiber that does not change its worker, as it is bound or there is only one. */
static inline void duel_begin(duel *d, void (*act)(void *arg), bool stays) {
    *d = (duel){ .act = act, .random = test_seed() };
    FIBER_ASSERT_EQ(pthread_create(&d->thread, NULL, duel_thread, d), 0);
    if (!stel_self()) return;
    for (int i = 0; i < 2; i++)
        FIBER_OK(stel_spawn(&d->restless[i], is_restless, (void *)&d->over));
    if (stays) d->worker = place_stumbling_block();
}

/* In after_ns, or up to spread_ns earlier or later, act(arg). Now or never again before duel_await. */
static inline void duel_challenge(duel *d, void *arg, int64_t after_ns, uint32_t spread_ns) {
    int64_t nominal = stel_now() + after_ns;
    d->arg = arg;
    atomic_store(&d->at, nominal - spread_ns + (int64_t)test_random(&d->random, 2 * spread_ns + 1));
    if (d->worker.latency && test_random(&d->random, 2))
        trip_at(&d->worker, nominal - d->worker.latency + (int64_t)test_random(&d->random, STUMBLES_ABOUT_NS) -
                                STUMBLES_ABOUT_NS * 2 / 3); /* mostly before the other side acts */
}

/* The other side of it: go on up to spread_ns before or after that moment. */
static inline void until_about(int64_t at, uint64_t *random, uint32_t spread_ns) {
    at += (int64_t)test_random(random, 2 * spread_ns + 1) - spread_ns;
    while (stel_now() < at) {
    }
}

static inline void duel_await(duel *d) {
    for (int looks = 1; atomic_load(&d->at); looks++) {
        stel_yield();
        if (looks % 16 == 0) sched_yield();
    }
}

static inline void duel_end(duel *d) {
    if (d->worker.latency) timer_delete(d->worker.timer);
    atomic_store(&d->over, true);
    for (int i = 0; i < 2; i++)
        if (d->restless[i]) FIBER_OK(stel_join(d->restless[i], NULL));
    pthread_join(d->thread, NULL);
}

/* Run fn as a fiber that does not change its worker; its argument is not NULL. */
static inline int run_bound(int workers, stel_fn *fn) {
    stel_config c;
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    stel_runtime *rt = NULL;
    stel_fiber f;
    int result;
    stel_config_init(&c);
    c.worker_threads = workers;
    c.auto_shutdown = 1;
    o.place = STEL_WORKER(0);
    FIBER_OK(stel_runtime_create(&rt, &c));
    FIBER_OK(stel_runtime_spawn(rt, &f, &o, fn, &o));
    FIBER_OK(stel_runtime_start(rt));
    FIBER_OK(stel_join(f, &result));
    FIBER_OK(stel_runtime_wait(rt));
    FIBER_OK(stel_runtime_destroy(rt));
    return result;
}

#endif
