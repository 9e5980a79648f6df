/* The narrow races between a waker that has chosen a waiter and the end of the waiter's time, made wide: the test plays
 * the waker itself, by the rules of src/sync/queue.h, and is so slow between choosing and waking that the wait always
 * times out in between. The waiter was chosen, so its call must succeed; and the late wake must hit nobody. */
#include "crew.h"
#include "sched/fiber.h"
#include "sync/chan.h"
#include "sync/queue.h"

/* How conditions, events and wait groups begin; asserted against their own files by what these tests find. */
typedef struct object {
    stel__spin lock;
    _Atomic uint32_t value;
    stel__list queue;
} object;

typedef struct waiting {
    void *object;
    int (*call)(void *o); /* the call that waits */
    _Atomic int chosen;   /* set under the object's lock, while the call is on */
    _Atomic int over;     /* the call that was chosen has returned */
} waiting;

/* ---- choose the first waiter, and let time pass ---- */

static void slow_waker(waiting *w, stel__spin *lock, stel__list *queue, void (*also)(stel__node *n, void *o)) {
    stel__node *n = NULL;
    stel__ticket ticket = 0;
    while (!n) {
        stel__spin_take(lock);
        if ((n = stel__queue_pop(queue)) != NULL) {
            ticket = stel__node_ticket(n);
            also(n, w->object);
            atomic_store(&w->chosen, 1);
        }
        stel__spin_give(lock);
        if (!n) check_fiber_nap();
    }
    EVENTUALLY(atomic_load(&w->over)); /* by its limit: nobody wakes it */
    FIBER_ASSERT(!stel__wake(ticket, STEL__WOKEN));
}

static int wait_until_chosen(void *arg) {
    waiting *w = arg;
    for (;;) {
        STEL_TIMEOUT(STEL_MS(5));
        int rc = w->call(w->object);
        if (atomic_load(&w->chosen)) { /* in this call, as between two of them nothing is queued */
            FIBER_ASSERT_EQ(rc, 0);
            atomic_store(&w->over, 1);
            return 0;
        }
        FIBER_ASSERT_EQ(rc, -ETIMEDOUT); /* the waker came too late: once more */
    }
}

static void run_both(void *o, int (*call)(void *o), stel_fn *waker) {
    for (int kind = 0; kind < CREW_KINDS; kind++) {
        waiting w = { .object = o, .call = call };
        crew_job jobs[] = { { wait_until_chosen, &w }, { waker, &w } };
        crew_run((enum crew_kind)kind, jobs, 2);
    }
}

/* ---- events, wait groups, conditions ---- */

static void nothing(stel__node *n, void *o) {
    (void)n, (void)o;
}

static void one_less(stel__node *n, void *o) {
    (void)n;
    stel__count(&((object *)o)->value, (uint32_t)-1); /* as stel_cond_signal counts */
}

static int choose_on_object(void *arg) {
    waiting *w = arg;
    object *o = w->object;
    slow_waker(w, &o->lock, &o->queue, nothing);
    return 0;
}

static int signal_slowly(void *arg) {
    waiting *w = arg;
    object *o = w->object;
    slow_waker(w, &o->lock, &o->queue, one_less);
    return 0;
}

static int wait_event(void *e) {
    return stel_event_wait(e);
}
static int wait_group(void *g) {
    return stel_waitgroup_wait(g);
}

static stel_mutex mutex;
static int wait_cond(void *c) {
    stel_mutex_lock(&mutex);
    int rc = stel_cond_wait(c, &mutex);
    stel_mutex_unlock(&mutex);
    return rc;
}

START_TEST(who_was_chosen_has_succeeded) {
    stel_event e = STEL_EVENT_INIT;
    stel_waitgroup g = STEL_WAITGROUP_INIT;
    stel_cond c = STEL_COND_INIT;
    stel_waitgroup_add(&g, 1);
    run_both(&e, wait_event, choose_on_object);
    run_both(&g, wait_group, choose_on_object);
    run_both(&c, wait_cond, signal_slowly);
}
END_TEST

/* ---- semaphores and barriers ---- */

/* As in their own files. */
typedef struct semaphore {
    _Atomic uint32_t word; /* bit 31: somebody waits */
    stel__spin lock;
    stel__list queue;
} semaphore;
typedef struct barrier {
    stel__spin lock;
    uint32_t needed, arrived, spare;
    stel__list queue;
} barrier;

static void the_last_waiter_goes(stel__node *n, void *o) {
    (void)n;
    stel__store_relaxed(&((semaphore *)o)->word, 0);
}

static void all_have_come(stel__node *n, void *o) {
    (void)n;
    ((barrier *)o)->arrived = 0;
}

static int release_slowly(void *arg) {
    waiting *w = arg;
    semaphore *s = w->object;
    slow_waker(w, &s->lock, &s->queue, the_last_waiter_goes);
    return 0;
}

static int meet_slowly(void *arg) {
    waiting *w = arg;
    barrier *b = w->object;
    slow_waker(w, &b->lock, &b->queue, all_have_come);
    return 0;
}

static int acquire(void *s) {
    return stel_sem_acquire(s);
}
static int meet(void *b) {
    return stel_barrier_wait(b);
}

START_TEST(a_permit_that_was_given_is_taken) {
    stel_sem s, fresh;
    FIBER_OK(stel_sem_init(&s, 0));
    FIBER_OK(stel_sem_init(&fresh, 0));
    run_both(&s, acquire, release_slowly);
    ck_assert_mem_eq(&s, &fresh, sizeof s);
}
END_TEST

START_TEST(a_meeting_that_took_place_has_taken_place) {
    stel_barrier b, fresh;
    FIBER_OK(stel_barrier_init(&b, 2));
    FIBER_OK(stel_barrier_init(&fresh, 2));
    run_both(&b, meet, meet_slowly);
    ck_assert_mem_eq(&b, &fresh, sizeof b);
}
END_TEST

/* ---- who finds the state it waits for returns only when the one who made it so is done with the object ---- */

static int find_it_done(void *arg) {
    waiting *w = arg;
    while (!atomic_load(&w->chosen))
        check_fiber_nap();
    FIBER_OK(w->call(w->object));
    atomic_store(&w->over, 1);
    return 0;
}

static int change_slowly(void *arg, uint32_t value) {
    waiting *w = arg;
    object *o = w->object;
    stel__spin_take(&o->lock);
    stel__store_release(&o->value, value);
    atomic_store(&w->chosen, 1);
    struct timespec nap = { 0, 10000000 };
    nanosleep(&nap, NULL); /* time for a mistake to show; whoever is right does not care how long it is */
    FIBER_ASSERT_EQ(atomic_load(&w->over), 0);
    stel__spin_give(&o->lock);
    EVENTUALLY(atomic_load(&w->over));
    return 0;
}

static int set_slowly(void *arg) {
    return change_slowly(arg, 1);
}

static int finish_slowly(void *arg) {
    return change_slowly(arg, 0);
}

static int poll_event(void *e) {
    FIBER_ASSERT(stel_event_is_set(e));
    return 0;
}

START_TEST(who_need_not_wait_lets_the_other_finish) {
    for (int kind = CREW_WORKERS; kind < CREW_KINDS; kind++) /* it blocks its worker */
        for (int i = 0; i < 3; i++) {
            object o = { .value = i == 2 };
            waiting w = { .object = &o, .call = i == 0 ? wait_event : i == 1 ? poll_event : wait_group };
            _Static_assert(sizeof(o) <= 32, "it is as large as what it stands for");
            crew_job jobs[] = { { i == 2 ? finish_slowly : set_slowly, &w }, { find_it_done, &w } };
            crew_run((enum crew_kind)kind, jobs, 2);
        }
}
END_TEST

/* ---- channels ---- */

static int receive_it(void *c) {
    uint64_t v = 0;
    int rc = stel_chan_recv(c, &v);
    FIBER_ASSERT_EQ(v, rc == 0 ? 42 : 0);
    return rc;
}

static int send_it(void *c) {
    uint64_t v = 43;
    return stel_chan_send(c, &v);
}

static void give_42(stel__node *n, void *arg) {
    (void)arg;
    *(uint64_t *)n->element = 42;
}

static void take_43(stel__node *n, void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(*(uint64_t *)n->element, 43);
}

static int send_slowly(void *arg) {
    waiting *w = arg;
    stel_chan *c = w->object;
    slow_waker(w, &c->lock, &c->receivers, give_42);
    return 0;
}

static int receive_slowly(void *arg) {
    waiting *w = arg;
    stel_chan *c = w->object;
    slow_waker(w, &c->lock, &c->senders, take_43);
    return 0;
}

START_TEST(an_element_that_was_handed_over_stays_so) {
    stel_chan *c;
    FIBER_OK(stel_chan_create(&c, 8, 0));
    run_both(c, receive_it, send_slowly);
    run_both(c, send_it, receive_slowly);
    stel_chan_destroy(c);
}
END_TEST

/* ---- a selector whose time is over, its nodes still queued: who comes then must pass it by ---- */

typedef struct late {
    stel_chan *c[2];
    _Atomic int caught, gone;
    bool sends;
} late;

static int select_with_limit(void *arg) {
    late *l = arg;
    uint64_t v[2] = { 7, 7 };
    int op = l->sends ? STEL_CASE_OP_SEND : STEL_CASE_OP_RECV;
    stel_case cases[] = { stel_case_of(op, l->c[0], &v[0]), stel_case_of(op, l->c[1], &v[1]) };
    while (!atomic_load(&l->caught)) {
        STEL_TIMEOUT(STEL_MS(5));
        FIBER_ASSERT_EQ(stel_select(cases, 2, 0), -ETIMEDOUT);
        FIBER_ASSERT_EQ(v[0], 7);
        FIBER_ASSERT_EQ(v[1], 7);
    }
    atomic_store(&l->gone, 1);
    return 0;
}

/* Holds one channel's lock from before the selector's time is over until after it, so that the selector cannot take its
 * node off; then does what send and receive do. */
static int come_late(void *arg) {
    late *l = arg;
    stel_chan *c = l->c[1];
    stel__list *queue = l->sends ? &c->senders : &c->receivers;
    stel__ticket wake = 0;
    uint64_t v = 1;
    stel__spin_take(&c->lock);
    while (!queue->head) {
        stel__spin_give(&c->lock);
        check_fiber_nap();
        stel__spin_take(&c->lock);
    }
    atomic_store(&l->caught, 1);
    const stel__waiter *selector = stel__waiter_at(stel__node_of(queue->head)->waiter);
    EVENTUALLY((stel__load_acquire(&selector->word) & STEL__WORD_STATE) == STEL__WORD_IDLE);
    int rc = l->sends ? stel__chan_take(c, &v, &wake) : stel__chan_put(c, &v, &wake);
    FIBER_ASSERT(!queue->head); /* dropped */
    stel__spin_give(&c->lock);
    FIBER_ASSERT_EQ(rc, -EAGAIN);
    FIBER_ASSERT_EQ(wake, 0);
    EVENTUALLY(atomic_load(&l->gone));
    return 0;
}

START_TEST(a_selector_that_has_lost_is_passed_by) {
    for (int sends = 0; sends <= 1; sends++) {
        late l = { .sends = sends };
        for (int i = 0; i < 2; i++)
            FIBER_OK(stel_chan_create(&l.c[i], 8, 0));
        crew_job jobs[] = { { select_with_limit, &l }, { come_late, &l } };
        crew_run(CREW_THREADS, jobs, 2);
        for (int i = 0; i < 2; i++)
            stel_chan_destroy(l.c[i]);
    }
}
END_TEST

TEST_MAIN("sync/chosen", who_was_chosen_has_succeeded, a_permit_that_was_given_is_taken,
          a_meeting_that_took_place_has_taken_place, who_need_not_wait_lets_the_other_finish,
          an_element_that_was_handed_over_stays_so, a_selector_that_has_lost_is_passed_by)
