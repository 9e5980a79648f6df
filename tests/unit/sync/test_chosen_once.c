/* As test_chosen.c, for stel_once: a caller that a runner has chosen, and whose time runs out before the wake reaches
 * it. The queues are the process's, inside once.c, so that file is part of this program. */
#include "crew.h"
#include "sched/fiber.h"
#include "sync/once.c"

typedef struct waiting {
    once o;
    bool fails; /* the runner's fn */
    int ran;
    _Atomic int chosen, over;
} waiting;

static int run_now(void *arg) {
    waiting *w = arg;
    w->ran++;
    return 0;
}

static int wait_until_chosen(void *arg) {
    waiting *w = arg;
    for (;;) {
        STEL_TIMEOUT(STEL_MS(5));
        int rc = stel_once_call((stel_once *)&w->o, run_now, w);
        if (atomic_load(&w->chosen)) {
            FIBER_ASSERT_EQ(rc, 0);
            FIBER_ASSERT_EQ(w->ran, w->fails);
            FIBER_ASSERT_EQ(w->o.word, DONE);
            atomic_store(&w->over, 1);
            return 0;
        }
        FIBER_ASSERT_EQ(rc, -ETIMEDOUT);
    }
}

/* What end() does, with time between choosing and waking. */
static int end_slowly(void *arg) {
    waiting *w = arg;
    bucket *b = bucket_of(&w->o);
    stel__node *n = NULL;
    stel__ticket ticket = 0;
    while (!n) {
        stel__spin_take(&b->lock);
        if ((n = find(b->queue.head, &w->o)) != NULL) {
            ticket = stel__node_ticket(n);
            stel__queue_remove(&b->queue, n);
            if (w->fails) n->flags |= STEL__NODE_HANDOFF;
            stel__store_release(&w->o.word, w->fails ? RUNNING_OF(n->waiter) : DONE);
            atomic_store(&w->chosen, 1);
        }
        stel__spin_give(&b->lock);
        if (!n) check_fiber_nap();
    }
    EVENTUALLY(atomic_load(&w->over)); /* by its limit: nobody wakes it */
    FIBER_ASSERT(!stel__wake(ticket, STEL__WOKEN));
    return 0;
}

static void chosen(bool fails) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        waiting w = { .o.word = RUNNING_OF(0xFFFFFF), .fails = fails }; /* an index that nobody has */
        crew_job jobs[] = { { wait_until_chosen, &w }, { end_slowly, &w } };
        crew_run((enum crew_kind)kind, jobs, 2);
    }
}

START_TEST(who_is_told_that_it_is_done_has_succeeded) {
    chosen(false);
}
END_TEST

START_TEST(who_was_chosen_to_run_it_runs_it) {
    chosen(true);
}
END_TEST

TEST_MAIN("sync/chosen_once", who_is_told_that_it_is_done_has_succeeded, who_was_chosen_to_run_it_runs_it)
