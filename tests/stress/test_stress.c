/* A million operations chosen at random, by fibers on eight workers and by plain threads, from one printed seed:
 * spawn, join, try_join, detach, cancel, shields, send, receive, select, close, sleep, locks, conditions, events,
 * waitgroups, park and unpark, yield, deadlines; scopes, tokens, read-write locks, semaphores, barriers, once and
 * fibers that begin later (acts_of_sync.h); streams, datagrams, poll, cancelled reads and signals (acts_of_io.h).
 *
 * What must come out: every wait that must end does (most have no time limit, so a lost wake is a hang); the elements
 * sent are those received or drained; what is counted under a lock is exact; every call says only what its contract
 * allows. The watchdog is for hangs only: it prints who is left, figures and seed, and aborts.
 *
 * Objects of two parties are freed the moment the contract allows it, while the other may still be on its way out of
 * the call that released them: AddressSanitizer sees a late touch.
 *
 * ctest: labels=slow timeout=300 */
#include "acts_of_io.h"
#include "acts_of_sync.h"
#include "random_world.h"
#include "runtime/runtime.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { ACTORS = 40, THREADS = 4, CONSUMERS = 3, OPERATIONS = 1000000 };

/* ---- what children do ---- */

static int child_counts(void *arg) {
    pair *p = arg;
    for (uint32_t i = 0; i < p->n; i++)
        stel_yield();
    return (int)p->n;
}

static int child_flags(void *arg) {
    pair *p = arg;
    maybe_yield(&p->child);
    stel_mutex_lock(p->lock);
    p->flag = true;
    if (p->kind)
        stel_cond_broadcast(p->cond);
    else
        stel_cond_signal(p->cond);
    stel_mutex_unlock(p->lock);
    return 0;
}

static int child_sets(void *arg) {
    pair *p = arg;
    maybe_yield(&p->child);
    stel_event_set(p->event);
    return 0;
}

static int child_is_done(void *arg) {
    pair *p = arg;
    maybe_yield(&p->child);
    stel_waitgroup_done(p->group);
    return 0;
}

static int child_sends(void *arg) {
    pair *p = arg;
    for (uint64_t i = 1; i <= p->n; i++) {
        FIBER_OK(stel_chan_send(p->chan, &i));
        if (below(&p->child, 4) == 0) maybe_yield(&p->child);
    }
    return stel_chan_close(p->chan);
}

static int child_parks(void *arg) {
    pair *p = arg;
    for (uint32_t i = 0; i < p->n; i++) {
        FIBER_OK(stel_park());
        FIBER_OK(stel_chan_send(p->chan, NULL));
    }
    return 0;
}

static int child_unparks(void *arg) {
    pair *p = arg;
    maybe_yield(&p->child);
    return stel_unpark(p->parent);
}

/* A wait that only a cancellation ends. */
static int child_waits_for_ever(void *arg) {
    pair *p = arg;
    uint64_t element = 0;
    stel_event never = STEL_EVENT_INIT;
    switch (p->kind) {
    case 0:
        return stel_sleep(STEL_FOREVER);
    case 1:
        return stel_park();
    case 2:
        return stel_event_wait(&never);
    case 3:
        return stel_chan_recv(NULL, &element);
    case 4:
        return stel_chan_recv(p->chan, &element);
    case 5: {
        stel_case cases[2] = { STEL_CASE_RECV(p->chan, &element), STEL_CASE_RECV(p->chan, &element) };
        return stel_select(cases, 2, 0);
    }
    case 6: {
        stel_mutex lock = STEL_MUTEX_INIT;
        stel_cond cond = STEL_COND_INIT;
        stel_mutex_lock(&lock);
        int rc = 0;
        while (rc == 0)
            rc = stel_cond_wait(&cond, &lock);
        stel_mutex_unlock(&lock);
        return rc;
    }
    default: {
        int rc;
        { /* hidden for a while, then it shows */
            STEL_SHIELD((int64_t)below(&p->child, 100000));
            rc = stel_event_wait(&never);
        }
        return rc;
    }
    }
}

/* ---- what a parent does with a child ---- */

static void act_spawn_join(actor *a) {
    pair p;
    pair_init(&p, a);
    p.n = below(a, 4);
    FIBER_ASSERT_EQ(join_somehow(a, spawn_somehow(a, child_counts, &p)), p.n);
}

static void act_cond(actor *a) {
    pair p;
    pair_init(&p, a);
    p.lock = zeroed(sizeof *p.lock);
    p.cond = zeroed(sizeof *p.cond);
    p.kind = below(a, 2);
    stel_fiber f = spawn_somehow(a, child_flags, &p);
    stel_mutex_lock(p.lock);
    while (!p.flag)
        FIBER_OK(stel_cond_wait(p.cond, p.lock));
    stel_mutex_unlock(p.lock);
    free(p.lock);
    free(p.cond);
    FIBER_ASSERT_EQ(join_somehow(a, f), 0);
}

static void act_event(actor *a) {
    pair p;
    pair_init(&p, a);
    p.event = zeroed(sizeof *p.event);
    stel_fiber f = spawn_somehow(a, child_sets, &p);
    if (below(a, 2)) maybe_yield(a);
    FIBER_OK(stel_event_wait(p.event));
    free(p.event);
    FIBER_ASSERT_EQ(join_somehow(a, f), 0);
}

static void act_waitgroup(actor *a) {
    enum { MOST = 4 };
    pair p[MOST];
    stel_fiber f[MOST];
    uint32_t n = 1 + below(a, MOST);
    stel_waitgroup *group = zeroed(sizeof *group);
    stel_waitgroup_add(group, (int)n);
    for (uint32_t i = 0; i < n; i++) {
        pair_init(&p[i], a);
        p[i].group = group;
        f[i] = spawn_somehow(a, child_is_done, &p[i]);
    }
    FIBER_OK(stel_waitgroup_wait(group));
    free(group);
    for (uint32_t i = 0; i < n; i++)
        FIBER_ASSERT_EQ(join_somehow(a, f[i]), 0);
}

static void act_stream(actor *a) {
    pair p;
    pair_init(&p, a);
    p.n = below(a, 12);
    FIBER_OK(stel_chan_create(&p.chan, sizeof(uint64_t), below(a, 4)));
    stel_fiber f = spawn_somehow(a, child_sends, &p);
    uint64_t element, sum = 0;
    int rc;
    while ((rc = stel_chan_recv(p.chan, &element)) == 0)
        sum += element;
    FIBER_ASSERT_EQ(rc, -EPIPE);
    FIBER_ASSERT_EQ(sum, (uint64_t)p.n * (p.n + 1) / 2);
    FIBER_ASSERT_EQ(join_somehow(a, f), 0);
    stel_chan_destroy(p.chan);
}

static void act_unpark(actor *a) {
    pair p;
    pair_init(&p, a);
    p.n = 1 + below(a, 3);
    FIBER_OK(stel_chan_create(&p.chan, 0, 0));
    stel_fiber f = spawn_somehow(a, child_parks, &p);
    for (uint32_t i = 0; i < p.n; i++) {
        FIBER_OK(stel_unpark(f));
        FIBER_OK(stel_chan_recv(p.chan, NULL));
    }
    FIBER_ASSERT_EQ(join_somehow(a, f), 0);
    FIBER_ASSERT_EQ(stel_unpark(f), -ESRCH);
    stel_chan_destroy(p.chan);
}

static void act_park(actor *a) {
    if (!stel_self()) {
        FIBER_ASSERT_EQ(stel_park(), -EPERM);
        return;
    }
    pair p;
    pair_init(&p, a);
    stel_fiber f = spawn_somehow(a, child_unparks, &p);
    FIBER_OK(stel_park());
    FIBER_ASSERT_EQ(join_somehow(a, f), 0);
}

static void act_cancel(actor *a) {
    pair p;
    pair_init(&p, a);
    p.kind = below(a, ENDLESS_KINDS);
    FIBER_OK(stel_chan_create(&p.chan, sizeof(uint64_t), 1));
    stel_fiber f = spawn_somehow(a, child_waits_for_ever, &p);
    maybe_yield(a);
    FIBER_ASSERT_EQ(stel_cancel(f), 0);
    if (below(a, 4) == 0) FIBER_ASSERT_EQ(stel_cancel(f), 0);
    FIBER_ASSERT_EQ(join_somehow(a, f), -ECANCELED);
    FIBER_ASSERT_EQ(stel_cancel(f), -ESRCH);
    stel_chan_destroy(p.chan);
}

/* ---- alone, or with whoever is there: also for those who may be cancelled ---- */

static void act_count(actor *a) {
    guarded *g = &a->world->locks[below(a, LOCKS)];
    if (below(a, 4) == 0) {
        if (stel_mutex_try_lock(&g->lock) < 0) return;
    } else {
        stel_mutex_lock(&g->lock);
    }
    uint64_t before = g->count;
    if (below(a, 16) == 0) maybe_yield(a);
    g->count = before + 1;
    stel_mutex_unlock(&g->lock);
    add(&g->expected, 1);
}

static stel_chan *borrow(actor *a) {
    slot *s = &a->world->slots[below(a, SLOTS)];
    stel_mutex_lock(&s->lock);
    stel_chan *c = stel_chan_retain(s->chan);
    stel_mutex_unlock(&s->lock);
    return c;
}

static uint64_t new_element(actor *a) {
    return 1 + below(a, 1000);
}

static void act_send(actor *a) {
    stel_chan *c = borrow(a);
    uint64_t element = new_element(a);
    int rc;
    if (below(a, 3) == 0) {
        rc = stel_chan_try_send(c, &element);
        FIBER_ASSERT(rc == 0 || rc == -EAGAIN || rc == -EPIPE);
    } else {
        STEL_TIMEOUT((int64_t)below(a, 300000));
        rc = stel_chan_send(c, &element);
        if (rc != -ETIMEDOUT) (void)went_well(a, rc, -EPIPE);
    }
    if (rc == 0) add(&a->world->sent, element);
    stel_chan_destroy(c);
}

static void act_receive(actor *a) {
    stel_chan *c = borrow(a);
    uint64_t element = 0;
    int rc;
    if (below(a, 3) == 0) {
        rc = stel_chan_try_recv(c, &element);
        FIBER_ASSERT(rc == 0 || rc == -EAGAIN || rc == -EPIPE);
    } else {
        STEL_TIMEOUT((int64_t)below(a, 300000));
        rc = stel_chan_recv(c, &element);
        if (rc != -ETIMEDOUT) (void)went_well(a, rc, -EPIPE);
    }
    if (rc == 0) add(&a->world->received, element);
    stel_chan_destroy(c);
}

static void act_select(actor *a) {
    stel_chan *c[SELECT_MOST];
    stel_case cases[SELECT_MOST];
    uint64_t element[SELECT_MOST];
    uint32_t n = 1 + below(a, SELECT_MOST);
    for (uint32_t i = 0; i < n; i++) {
        c[i] = borrow(a);
        element[i] = new_element(a);
        cases[i] = below(a, 2) ? STEL_CASE_SEND(c[i], &element[i]) : STEL_CASE_RECV(c[i], &element[i]);
    }
    STEL_TIMEOUT((int64_t)below(a, 300000));
    int rc = stel_select(cases, n, below(a, 4) ? 0 : STEL_SELECT_NOWAIT);
    if (rc != -ETIMEDOUT && went_well(a, rc, -EAGAIN)) {
        FIBER_ASSERT((uint32_t)rc < n);
        FIBER_ASSERT(cases[rc].result == 0 || cases[rc].result == -EPIPE);
        if (cases[rc].result == 0)
            add(cases[rc].op == STEL_CASE_OP_SEND ? &a->world->sent : &a->world->received, element[rc]);
    }
    for (uint32_t i = 0; i < n; i++)
        stel_chan_destroy(c[i]);
}

static stel_chan *new_channel(actor *a) {
    static const size_t capacities[] = { 0, 0, 1, 2, 16 };
    stel_chan *c = NULL;
    FIBER_OK(stel_chan_create(&c, sizeof(uint64_t), capacities[below(a, 5)]));
    return c;
}

/* Everything out of a closed channel; others may be at it, too. */
static void drain(world *w, stel_chan *c) {
    uint64_t element;
    int rc;
    while ((rc = stel_chan_try_recv(c, &element)) == 0)
        add(&w->received, element);
    FIBER_ASSERT_EQ(rc, -EPIPE);
    FIBER_ASSERT_EQ(stel_chan_len(c), 0);
}

static void act_close(actor *a) {
    slot *s = &a->world->slots[below(a, SLOTS)];
    stel_chan *fresh = new_channel(a);
    stel_mutex_lock(&s->lock);
    stel_chan *old = s->chan;
    s->chan = fresh;
    stel_mutex_unlock(&s->lock);
    FIBER_ASSERT_EQ(stel_chan_close(old), 0);
    drain(a->world, old);
    stel_chan_destroy(old);
}

static void act_sink(actor *a) {
    uint64_t element = new_element(a);
    if (went_well(a, stel_chan_send(a->world->sink, &element), 0)) add(&a->world->sunk, element);
}

static void act_sleep(actor *a) {
    int64_t length = (int64_t)below(a, 200000);
    if (below(a, 2)) {
        (void)went_well(a, stel_sleep(length), 0);
        return;
    }
    STEL_TIMEOUT((int64_t)below(a, 200000));
    int rc = stel_sleep(length);
    FIBER_ASSERT(rc != -ETIMEDOUT || stel_timed_out());
    if (rc != -ETIMEDOUT) (void)went_well(a, rc, 0);
}

static void act_yield(actor *a) {
    for (uint32_t i = below(a, 6); i > 0; i--)
        stel_yield();
}

/* Nobody comes: the limit ends it, and not before its time. */
static void act_deadline(actor *a) {
    stel_event never = STEL_EVENT_INIT;
    int64_t length = (int64_t)below(a, 200000), began = stel_now();
    STEL_TIMEOUT(length);
    int rc = stel_event_wait(&never);
    if (rc == -ETIMEDOUT) {
        FIBER_ASSERT(stel_timed_out());
        FIBER_ASSERT(stel_now() - began >= length);
    } else {
        FIBER_ASSERT(!went_well(a, rc, 0));
    }
}

typedef void act(actor *a);
static act *const alone[] = { act_count,  act_count,    act_send,  act_send,  act_receive, act_receive,
                              act_select, act_select,   act_close, act_sleep, act_yield,   act_sink,
                              act_sink,   act_deadline, act_shelf, act_shelf, act_permit,  act_scope };
enum { ALONE = sizeof alone / sizeof alone[0] };

static void act_alone(actor *a) {
    alone[below(a, ALONE)](a);
    add(&a->world->operations, 1);
}

/* Acts until it is cancelled; then it still has something to do. */
static int child_wanders(void *arg) {
    pair *p = arg;
    p->child.may_be_cancelled = true;
    while (!p->child.cancelled)
        act_alone(&p->child);
    FIBER_ASSERT(stel_cancelled());
    FIBER_ASSERT_EQ(stel_sleep(1), -ECANCELED); /* it stays so */
    STEL_SHIELD(STEL_SEC(3600));
    p->child.may_be_cancelled = false;
    act_sink(&p->child);
    return -ECANCELED;
}

static void act_wander(actor *a) {
    pair p;
    pair_init(&p, a);
    stel_fiber f = spawn_somehow(a, child_wanders, &p);
    for (uint32_t i = below(a, 4); i > 0; i--)
        act_alone(a);
    FIBER_ASSERT_EQ(stel_cancel(f), 0);
    FIBER_ASSERT_EQ(join_somehow(a, f), -ECANCELED);
}

static int child_is_forgotten(void *arg) {
    actor *a = arg;
    world *w = a->world;
    for (uint32_t i = below(a, 3); i > 0; i--)
        act_alone(a);
    free(a);
    stel_waitgroup_done(&w->detached);
    return 0;
}

static void act_detach(actor *a) {
    actor *child = zeroed(sizeof *child);
    child->world = a->world;
    child->random = (uint64_t)below(a, UINT32_MAX) << 16 | 1;
    stel_waitgroup_add(&a->world->detached, 1);
    if (below(a, 2)) {
        FIBER_OK(stel_go(child_is_forgotten, child));
        return;
    }
    stel_fiber f = spawn_somehow(a, child_is_forgotten, child);
    if (below(a, 2)) maybe_yield(a);
    FIBER_ASSERT_EQ(stel_detach(f), 0);
    FIBER_ASSERT_EQ(stel_detach(f), -ESRCH);
}

static act *const together[] = { act_spawn_join, act_spawn_join, act_cond,   act_event,  act_waitgroup, act_stream,
                                 act_unpark,     act_park,       act_cancel, act_cancel, act_wander,    act_detach,
                                 act_token,      act_later,      act_meet,   act_once };
/* These cost ten to a hundred times as much as the others. */
static act *const with_descriptors[] = { act_pipe, act_datagrams, act_poll, act_end_a_read, act_signal };
enum { TOGETHER = sizeof together / sizeof together[0] };
enum { WITH_DESCRIPTORS = sizeof with_descriptors / sizeof with_descriptors[0] };

static void act_at_random(actor *a) {
    if (below(a, 3)) {
        act_alone(a);
        return;
    }
    if (below(a, 32))
        together[below(a, TOGETHER)](a);
    else
        with_descriptors[below(a, WITH_DESCRIPTORS)](a);
    add(&a->world->operations, 1);
}

/* ---- all of them ---- */

typedef struct play {
    world world;
    actor actors[ACTORS + THREADS];
    uint64_t target;
    stel_waitgroup threads; /* plain threads that still act or consume */
    pthread_t acting[THREADS], consuming, watching;
    _Atomic(stel_runtime *) runtime;
    _Atomic bool over;
} play;
static play it;

static int actor_main(void *arg) {
    while (atomic_load_explicit(&it.world.operations, memory_order_relaxed) < it.target)
        act_at_random(arg);
    return 0;
}

static void *thread_main(void *arg) {
    (void)actor_main(arg);
    stel_waitgroup_done(&it.threads);
    return NULL;
}

static int consume(void *arg) {
    world *w = arg;
    uint64_t element;
    int rc;
    while ((rc = stel_chan_recv(w->sink, &element)) == 0)
        add(&w->swallowed, element);
    FIBER_ASSERT_EQ(rc, -EPIPE);
    return 0;
}

static void *consumer_thread(void *arg) {
    (void)consume(arg);
    stel_waitgroup_done(&it.threads);
    return NULL;
}

/* A hang guard: long without a single operation. */
static void *watchdog_main(void *arg) {
    uint64_t last = 0;
    const char *patience = getenv("CK_TIMEOUT_MULTIPLIER");
    int64_t most = STEL_SEC(40) * (patience && atoi(patience) > 0 ? atoi(patience) : 1), since = stel_now();
    while (!atomic_load(&it.over)) {
        check_fiber_nap();
        uint64_t now = atomic_load_explicit(&it.world.operations, memory_order_relaxed);
        if (now != last) since = stel_now();
        last = now;
        if (stel_now() - since < most) continue;
        fprintf(stderr, "nothing moves after %" PRIu64 " operations, seed %" PRIu64 "\n", now, test_seed());
        stel_runtime *rt = atomic_load(&it.runtime);
        stel_stats s;
        if (rt && stel_runtime_stats(rt, &s) == 0)
            fprintf(stderr,
                    "active %" PRIu64 " spawned %" PRIu64 " switches %" PRIu64 " steals %" PRIu64 " wakes %" PRIu64
                    " polls %" PRIu64 " timers %" PRIu64 "\n",
                    s.current_active_tasks, s.spawned, s.switches, s.steals, s.wakes_remote, s.polls, s.timers_fired);
        if (rt) stel__sched_report_survivors(stel__runtime_life(rt)->sched);
        abort();
    }
    return arg;
}

static void world_init(world *w, actor *a) {
    for (int i = 0; i < SLOTS; i++)
        w->slots[i].chan = new_channel(a);
    FIBER_OK(stel_chan_create(&w->sink, sizeof(uint64_t), 2));
    FIBER_OK(stel_sem_init(&w->permits.sem, PERMITS));
}

static void world_check(world *w) {
    for (int i = 0; i < SLOTS; i++) {
        FIBER_ASSERT_EQ(stel_chan_close(w->slots[i].chan), 0);
        drain(w, w->slots[i].chan);
        stel_chan_destroy(w->slots[i].chan);
    }
    stel_chan_destroy(w->sink);
    FIBER_ASSERT_EQ(w->received, w->sent);
    FIBER_ASSERT_EQ(w->swallowed, w->sunk);
    for (int i = 0; i < LOCKS; i++)
        FIBER_ASSERT_EQ(w->locks[i].count, w->locks[i].expected);
    for (int i = 0; i < LOCKS; i++)
        FIBER_ASSERT(w->shelves[i].left == w->shelves[i].right && w->shelves[i].left == w->shelves[i].expected);
    for (int i = 0; i < PERMITS; i++)
        FIBER_OK(stel_sem_try_acquire(&w->permits.sem));
    FIBER_ASSERT_EQ(stel_sem_try_acquire(&w->permits.sem), -EAGAIN);
    FIBER_ASSERT_EQ(w->signals_taken, w->signals_sent);
    FIBER_ASSERT(w->sent > 0 && w->sunk > 0 && w->locks[0].count > 0);
}

static int conduct(void *arg) {
    world *w = &it.world;
    stel_fiber fibers[ACTORS], consumers[CONSUMERS];
    (void)arg;
    atomic_store(&it.runtime, stel_runtime_current());
    uint64_t random = test_seed();
    for (int i = 0; i < ACTORS + THREADS; i++)
        it.actors[i] = (actor){ .world = w, .random = random + (uint64_t)i * UINT64_C(0x100000001b3) };
    world_init(w, &it.actors[0]);
    for (int i = 0; i < CONSUMERS; i++)
        FIBER_OK(stel_spawn(&consumers[i], consume, w));
    stel_waitgroup_add(&it.threads, THREADS);
    for (int i = 0; i < ACTORS; i++)
        FIBER_OK(stel_spawn(&fibers[i], actor_main, &it.actors[i]));
    for (int i = 0; i < THREADS; i++)
        FIBER_ASSERT_EQ(pthread_create(&it.acting[i], NULL, thread_main, &it.actors[ACTORS + i]), 0);
    for (int i = 0; i < ACTORS; i++)
        FIBER_ASSERT_EQ(stel_join(fibers[i], NULL), 0);
    FIBER_OK(stel_waitgroup_wait(&it.threads));
    FIBER_OK(stel_waitgroup_wait(&w->detached));
    stel_waitgroup_add(&it.threads, 1);
    FIBER_ASSERT_EQ(pthread_create(&it.consuming, NULL, consumer_thread, w), 0);
    FIBER_ASSERT_EQ(stel_chan_close(w->sink), 0);
    for (int i = 0; i < CONSUMERS; i++)
        FIBER_ASSERT_EQ(stel_join(consumers[i], NULL), 0);
    FIBER_OK(stel_waitgroup_wait(&it.threads));
    world_check(w);
    return 0;
}

START_TEST(random_operations) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = WORKERS;
    c.seed = test_seed();
    c.stall_ns = -1; /* eight workers on few processors: a fiber that is not on one is no stall */
    it.target = test_scale(OPERATIONS);
    signals_begin();
    ck_assert_int_eq(pthread_create(&it.watching, NULL, watchdog_main, NULL), 0);
    ck_assert_int_eq(run_in_runtime_with(&c, conduct, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(it.acting[i], NULL);
    pthread_join(it.consuming, NULL);
    atomic_store(&it.over, true);
    pthread_join(it.watching, NULL);
    printf("%" PRIu64 " operations, sum sent %" PRIu64 ", sunk %" PRIu64 "\n", (uint64_t)it.world.operations,
           (uint64_t)it.world.sent, (uint64_t)it.world.sunk);
}
END_TEST

TEST_MAIN("stress/random_operations", random_operations)
