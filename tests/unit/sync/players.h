/* Tests that need their partners at certain places: a player is a fiber or a plain thread that one starts, waits for
 * until it sleeps in a certain call, and joins; whoever does so may be either of them, too. mixtures() runs a test in
 * all four combinations. */
#ifndef PLAYERS_H
#define PLAYERS_H

#include "crew.h"
#include "sched/fiber.h"

typedef struct game {
    stel_runtime *rt;
    bool self_is_thread, partners_are_threads;
    const void *arg;
    void (*play)(struct game *g);
} game;

typedef struct player {
    game *game;
    stel_fn *fn;
    void *arg;
    stel_fiber fiber;
    pthread_t thread;
    _Atomic(stel__waiter *) waiter;
    stel_event over;
    int result;
} player;

static UNUSED int player_body(void *arg) {
    player *p = arg;
    atomic_store(&p->waiter, stel__waiter_self());
    p->result = p->fn(p->arg);
    stel_event_set(&p->over);
    return 0;
}

static UNUSED void *player_thread(void *arg) {
    (void)player_body(arg);
    return NULL;
}

static UNUSED void player_start_as(player *p, game *g, bool thread, stel_fn *fn, void *arg) {
    *p = (player){ .game = g, .fn = fn, .arg = arg };
    if (thread)
        FIBER_ASSERT_EQ(pthread_create(&p->thread, NULL, player_thread, p), 0);
    else
        FIBER_OK(stel_runtime_spawn(g->rt, &p->fiber, NULL, player_body, p));
}

/* A partner, of the kind that this mixture has. */
static UNUSED void player_start(player *p, game *g, stel_fn *fn, void *arg) {
    player_start_as(p, g, g->partners_are_threads, fn, arg);
}

/* Until it sleeps for this reason. */
static UNUSED void player_asleep(player *p, int reason) {
    const stel__waiter *w;
    while (!(w = atomic_load(&p->waiter)))
        stel_yield();
    for (int i = 0; i < 100; i++) /* as a rule it does not take a millisecond */
        if ((stel__load_acquire(&w->word) & STEL__WORD_STATE) == STEL__WORD_PARKED)
            break;
        else
            stel_yield();
    EVENTUALLY((stel__load_acquire(&w->word) & STEL__WORD_STATE) == STEL__WORD_PARKED &&
               stel__load_relaxed(&w->reason) == reason);
}

static UNUSED void player_start_asleep(player *p, game *g, int reason, stel_fn *fn, void *arg) {
    player_start(p, g, fn, arg);
    player_asleep(p, reason);
}

/* Has its function returned? Only true is news for long. */
static UNUSED bool player_over(player *p) {
    return stel_event_is_set(&p->over);
}

static UNUSED int player_join(player *p) {
    FIBER_OK(stel_event_wait(&p->over)); /* pthread_join would block a worker */
    if (p->fiber)
        FIBER_OK(stel_join(p->fiber, NULL));
    else
        FIBER_ASSERT_EQ(pthread_join(p->thread, NULL), 0);
    return p->result;
}

static UNUSED const char *mixture_name(const game *g) {
    static const char *const names[] = { "fiber-fiber", "fiber-thread", "thread-fiber", "thread-thread" };
    return names[2 * g->self_is_thread + g->partners_are_threads];
}

static UNUSED int mixture_body(void *arg) {
    game *g = arg;
    g->play(g);
    return 0;
}

/* Play it with fibers, with threads, and as either against the other. */
static UNUSED void mixtures(void (*play)(game *g), const void *arg) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = 2;
    game g = { .play = play, .arg = arg };
    FIBER_OK(stel_runtime_create(&g.rt, &c));
    FIBER_OK(stel_runtime_start(g.rt));
    for (int kind = 0; kind < 4; kind++) {
        player self;
        g.self_is_thread = kind / 2;
        g.partners_are_threads = kind % 2;
        player_start_as(&self, &g, g.self_is_thread, mixture_body, &g);
        FIBER_OK(player_join(&self));
    }
    FIBER_OK(stel_runtime_stop(g.rt, 0));
    FIBER_OK(stel_runtime_destroy(g.rt));
}

#endif
