/* The guardian: the poller thread, one a runtime. Idle workers do the polling themselves; the guardian is the guarantee
 * that nothing goes unseen when they are busy. It
 *   - ticks: every millisecond it lets sched look for unpolled descriptors, stuck wheels, backlogs and stalls;
 *   - heals descriptors that have been parked for long (poller.h);
 *   - gives the memory of unused stacks back;
 *   - drives a stop (stop.c).
 *
 * It must cost little when the workers do well by themselves: ticks that find them all moving come at 1, 2 and 4 ms (on a
 * machine with one CPU each tick interrupts a worker); one that was needed brings back 1 ms.
 *
 * It must cost nothing when nothing happens. Ticks that find every worker asleep come at 1, 2, 4, 8 and 16 ms; then the
 * guardian sleeps for good. Not longer, because a worker that wakes up in between does not wake the guardian, and a
 * fiber that holds it is to be noticed within stall_ns (20 ms); not shorter, because a worker that leaves sleep while
 * the guardian sleeps for good pays a futex wake, and this bounds them to one in 31 ms.
 *
 * "For good" has three exceptions, by the clock and not by ticking: descriptors are parked (healing goes on, 100 ms
 * apart at first, doubling to 1.6 s while no worker stirs: then only other threads can have closed a number); stacks
 * were used since the last scavenge (until two in a row found nothing); a stop is on.
 *
 * In poller mode inline it does not tick at all, and nobody wakes it for that: one loop is to be one loop. The chores and
 * the stop remain.
 *
 * Falling asleep, and the worker that leaves sleep at the same time:
 *
 *     guardian                                    worker
 *     seen = signal                               leaves sleep
 *     guard_sleep: announce, fence, look          fence (its own), look: is the guardian announced?
 *       at the workers; one awake: not asleep       if so, guard_needed: signal + 1, wake
 *     futex_wait(signal, seen)
 *
 * Either the worker's leaving is seen by the look, or the announcement is seen by the worker; in the second case signal
 * differs from seen, or the wake finds the guardian asleep. The announcement's pairing fence is sched's. */
#include "runtime/runtime.h"

enum { GATE_SHUT, GATE_OPEN, GATE_AWAY };

enum {
    TICK_NS = 1000000,
    TICK_MOVING_LAST_NS = 4 * TICK_NS,
    TICK_LAST_NS = 16 * TICK_NS,
    HEAL_NS = 100000000,
    HEAL_LAST_NS = 16 * HEAL_NS,
    SCAVENGE_NS = 1000000000,
    SCAVENGES_AFTER_WORK = 2
};

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Something happens in this runtime: everything at its shortest interval. */
static void stir(stel__guardian *g, int64_t now) {
    g->interval = TICK_NS;
    g->heal_every = HEAL_NS;
    g->heal_at = earlier(g->heal_at, now + HEAL_NS);
    if (!g->scavenges_due) g->scavenge_at = now + SCAVENGE_NS;
    g->scavenges_due = SCAVENGES_AFTER_WORK;
}

static void housekeeping(stel_runtime *rt, int64_t now) {
    stel__guardian *g = &rt->guardian;
    if (now >= g->heal_at) {
        stel__life *life = stel__runtime_life(rt);
        if (stel__pollers_armed(life->pollers)) stel__pollers_heal(life->pollers, now);
        g->heal_at = now + g->heal_every;
        if (g->heal_every < HEAL_LAST_NS) g->heal_every *= 2; /* a tick that finds work resets it */
    }
    if (g->scavenges_due && now >= g->scavenge_at) {
        size_t cleaned = stel__stack_scavenge();
        if (cleaned == 0) g->scavenges_due--;
        /* A full share: there is more, and a million stacks must not take half an hour. */
        g->scavenge_at = now + (cleaned == STEL__STACK_SCAVENGE_MAX ? TICK_NS : SCAVENGE_NS);
    }
}

/* Ticks and chores. Returns when there is something to do again. */
static int64_t keep_watch(stel_runtime *rt, int64_t now) {
    stel__guardian *g = &rt->guardian;
    stel__life *life = stel__runtime_life(rt);
    if (life->hook.first_only) {
        g->tick_at = STEL_FOREVER;
    } else if (now >= g->tick_at) {
        enum stel__tick found = stel__sched_tick(life->sched, now, TICK_NS);
        bool idle = found == STEL__TICK_ASLEEP;
        int64_t slower = earlier(2 * g->interval, TICK_MOVING_LAST_NS);
        if (!idle) stir(g, now);
        if (found == STEL__TICK_MOVING) g->interval = slower;
        g->tick_at = now + g->interval;
        if (idle && g->interval < TICK_LAST_NS) {
            g->interval *= 2;
        } else if (idle && stel__sched_guard_sleep(life->sched)) {
            g->asleep = true;
            g->tick_at = STEL_FOREVER;
        }
    }
    housekeeping(rt, now);
    int64_t until = g->tick_at;
    /* Whoever parks on a descriptor later than this look leaves sleep first, and wakes us. */
    if (stel__pollers_armed(life->pollers)) until = earlier(until, g->heal_at);
    if (g->scavenges_due) until = earlier(until, g->scavenge_at);
    return until;
}

static void watch(stel_runtime *rt) {
    stel__guardian *g = &rt->guardian;
    stir(g, stel__clock_now());
    for (;;) {
        uint32_t seen = stel__load_acquire(&rt->signal); /* pairs with the add in signal */
        int64_t now = stel__clock_now();
        int64_t until = stel__runtime_drive_stop(rt, now);
        if (g->over) return; /* not by the state: a restart may have changed it again */
        until = earlier(until, keep_watch(rt, now));
        if (until > now) (void)stel__futex_wait(&rt->signal, seen, until);
        if (stel__load_acquire(&rt->signal) == seen) continue; /* by the clock: if asleep for good, still so */
        if (g->asleep) {
            stel__sched_guard_awake(stel__runtime_life(rt)->sched);
            g->asleep = false;
        }
        now = stel__clock_now();
        stir(g, now);
        g->tick_at = earlier(g->tick_at, now + TICK_NS);
    }
}

static void *guardian_main(void *arg) {
    stel_runtime *rt = arg;
    stel__life *life = stel__runtime_life(rt);
    /* acquire: pairs with the release in open_gate */
    for (uint32_t gate; (gate = stel__load_acquire(&life->gate)) != GATE_OPEN;) {
        if (gate == GATE_AWAY) return NULL;
        (void)stel__futex_wait(&life->gate, GATE_SHUT, STEL_FOREVER);
    }
    watch(rt);
    return NULL;
}

int stel__guardian_start(stel_runtime *rt) {
    STEL__ASSERT(!rt->has_guardian);
    stel__store_relaxed(&stel__runtime_life(rt)->gate, GATE_SHUT);
    rt->guardian = (stel__guardian){ 0 };
    int rc = stel__thread_start(&rt->guardian_thread, "stel-guardian", guardian_main, rt);
    rt->has_guardian = rc == 0;
    return rc;
}

static void open_gate(stel_runtime *rt, uint32_t gate) {
    stel__life *life = stel__runtime_life(rt);
    stel__store_release(&life->gate, gate); /* pairs with guardian_main */
    stel__futex_wake(&life->gate, 1);
}

void stel__guardian_admit(stel_runtime *rt) {
    open_gate(rt, GATE_OPEN);
}

bool stel__guardian_admitted(const stel__life *life) {
    return stel__load_acquire(&life->gate) == GATE_OPEN; /* pairs with open_gate */
}

void stel__guardian_dismiss(stel_runtime *rt) {
    open_gate(rt, GATE_AWAY);
    stel__guardian_join(rt);
}

void stel__guardian_join(stel_runtime *rt) {
    if (rt->has_guardian) pthread_join(rt->guardian_thread, NULL);
    rt->has_guardian = false;
}

void stel__guardian_signal(stel_runtime *rt) {
    stel__add_seq_cst(&rt->signal, 1); /* pairs with the load in watch */
    stel__futex_wake(&rt->signal, 1);
}

void stel__guardian_needed(void *rt) {
    stel__guardian_signal(rt);
}
