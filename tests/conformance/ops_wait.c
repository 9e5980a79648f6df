/* Part "ops": waiting, being interrupted, time, threads, and what an instance costs. */
#include "conformance.h"
#include "host/fault.h"
#include <malloc.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#define READINESS NOT_FOR(!has(STEL_BACKEND_READINESS), "no readiness")

static int arm(void *e, int fd, int events, uint64_t token) {
    const int all = POLLIN | POLLOUT | POLLPRI | POLLRDHUP;
    return it.ops->arm(e, fd, has(STEL_BACKEND_ONESHOT) ? events : all, token);
}

/* A wait that ends by itself brings nothing: nothing is armed. */
static void wait_for_nothing(void *e, int64_t until) {
    gathered g = { .n = 0 };
    FIBER_ASSERT_EQ(gather(e, &g, 4, until), 0);
}

RULE(no_wait, "0 means: do not wait. A time that has passed means that, too.") {
    void *e = fresh(4);
    int64_t before = stel_now();
    for (int i = 0; i < 100; i++) {
        wait_for_nothing(e, 0);
        wait_for_nothing(e, before);
        wait_for_nothing(e, 1);
    }
    it.ops->destroy(e);
}

RULE(until, "A wait for nothing ends when its time has come, and not before.") {
    void *e = fresh(4);
    for (int i = 0; i < 20; i++) {
        int64_t until = stel_after(STEL_US(1 + 250 * i));
        wait_for_nothing(e, until);
        FIBER_ASSERT(stel_now() >= until);
    }
    it.ops->destroy(e);
}

RULE(fine_time, "Time is not rounded up to milliseconds: a wait of 100 us can end within 600.") {
    void *e = fresh(4);
    int64_t give_up = stel_after(STEL_SEC(45)), took;
    do {
        int64_t begun = stel_now();
        wait_for_nothing(e, begun + STEL_US(100));
        took = stel_now() - begun;
        FIBER_ASSERT(stel_now() < give_up);
    } while (took > STEL_US(600)); /* the machine may be busy; it is not so for ever */
    it.ops->destroy(e);
}

RULE(interrupt_before, "An interrupt that comes while nobody waits is for the next wait, and for that alone.") {
    void *e = fresh(4);
    for (int i = 0; i < 20; i++) {
        it.ops->interrupt(e);
        if (i % 2) it.ops->interrupt(e); /* two are one */
        wait_for_nothing(e, STEL_FOREVER);
        int64_t until = stel_after(STEL_MS(1));
        wait_for_nothing(e, until);
        FIBER_ASSERT(stel_now() >= until);
    }
    it.ops->destroy(e);
}

typedef struct striker {
    void *instance;
    _Atomic int waits, strikes; /* begun; made */
    _Atomic bool enough;
} striker;

/* Strikes once for each wait, before or after it has begun. */
static void *strike(void *p) {
    striker *s = p;
    for (int i = 0; !atomic_load(&s->enough); i++) {
        while (atomic_load(&s->waits) == atomic_load(&s->strikes) && !atomic_load(&s->enough))
            sched_yield();
        if (i % 3 == 0) usleep(200); /* it waits by then, most likely; either way it has to end */
        atomic_fetch_add(&s->strikes, 1);
        it.ops->interrupt(s->instance);
    }
    return NULL;
}

RULE(interrupt_during, "An interrupt from another thread ends the wait that runs; none is lost.") {
    striker s = { .instance = fresh(4) };
    pthread_t thread;
    FIBER_ASSERT_EQ(pthread_create(&thread, NULL, strike, &s), 0);
    int rounds = (int)test_scale(2000);
    for (int i = 0; i < rounds; i++) {
        atomic_fetch_add(&s.waits, 1);
        do {
            wait_for_nothing(s.instance, STEL_FOREVER);
        } while (atomic_load(&s.strikes) < atomic_load(&s.waits)); /* it was ended by an earlier one */
    }
    atomic_store(&s.enough, true);
    FIBER_ASSERT_EQ(pthread_join(thread, NULL), 0);
    it.ops->destroy(s.instance);
}

RULE(events_and_interrupts, "An interrupt costs no event, and an event no interrupt.") {
    READINESS;
    void *e = fresh(4);
    for (uint64_t i = 0; i < 50; i++) {
        gathered g = { .n = 0 };
        int fd = eventfd(1, EFD_CLOEXEC);
        FIBER_OK(arm(e, fd, POLLIN, i));
        it.ops->interrupt(e);
        while (g.n == 0)
            (void)gather(e, &g, 4, STEL_FOREVER);
        FIBER_ASSERT_EQ(count_of(&g, i, NULL), 1);
        close(fd);
    }
    it.ops->destroy(e);
}

RULE(batch, "A wait brings as many events as are asked for at most, also more than the instance was made for.") {
    READINESS;
    enum { FDS = 100 };
    static gathered g;
    void *e = fresh(4);
    int fds[FDS];
    for (int i = 0; i < FDS; i++) {
        fds[i] = eventfd(1, EFD_CLOEXEC);
        FIBER_OK(arm(e, fds[i], POLLIN, (uint64_t)i));
    }
    for (int asked = 1; g.n < FDS; asked = asked * 2 + 1) /* gather looks that it is not more */
        FIBER_ASSERT(gather(e, &g, asked, stel_after(STEL_SEC(45))) >= 1);
    for (int i = 0; i < FDS; i++)
        FIBER_ASSERT_EQ(count_of(&g, (uint64_t)i, NULL), 1);
    it.ops->destroy(e);
    for (int i = 0; i < FDS; i++)
        close(fds[i]);
}

typedef struct turns {
    void *instance;
    pthread_mutex_t lock;
    int fd, left;
} turns;

static void *take_turns(void *p) {
    turns *t = p;
    for (bool more = true; more;) {
        FIBER_ASSERT_EQ(pthread_mutex_lock(&t->lock), 0);
        more = --t->left > 0;
        gathered g = { .n = 0 };
        uint64_t one = 1;
        FIBER_ASSERT_EQ(write(t->fd, &one, sizeof one), (ssize_t)sizeof one);
        if (has(STEL_BACKEND_ONESHOT)) FIBER_OK(arm(t->instance, t->fd, POLLIN, 7));
        do {
            gather_until(t->instance, &g, 1);
        } while (count_of(&g, 7, NULL) == 0);
        FIBER_ASSERT_EQ(read(t->fd, &one, sizeof one), (ssize_t)sizeof one);
        FIBER_ASSERT_EQ(pthread_mutex_unlock(&t->lock), 0);
    }
    return NULL;
}

RULE(waits_change_threads, "Waits may come from different threads, one at a time.") {
    READINESS;
    NOT_FOR(has(STEL_BACKEND_OWNED), "owned by one thread");
    turns t = { .instance = fresh(4), .lock = PTHREAD_MUTEX_INITIALIZER, .fd = eventfd(0, EFD_CLOEXEC), .left = 200 };
    pthread_t threads[3];
    if (!has(STEL_BACKEND_ONESHOT)) {
        FIBER_OK(arm(t.instance, t.fd, POLLIN, 7));
        gathered g = { .n = 0 };
        gather_until(t.instance, &g, 1); /* room to write */
    }
    for (int i = 0; i < 3; i++)
        FIBER_ASSERT_EQ(pthread_create(&threads[i], NULL, take_turns, &t), 0);
    for (int i = 0; i < 3; i++)
        FIBER_ASSERT_EQ(pthread_join(threads[i], NULL), 0);
    it.ops->destroy(t.instance);
    close(t.fd);
}

enum { ARMERS = 3 };
typedef struct armer {
    void *instance;
    uint64_t number;
    int rounds;
    _Atomic uint64_t told; /* rounds whose event has come */
} armer;

/* Arms and disarms what nobody waits for, and what is ready, while another thread waits. */
static void *arm_and_disarm(void *p) {
    armer *a = p;
    for (int i = 0; i < a->rounds; i++) {
        int idle[2], fd = eventfd(1, EFD_CLOEXEC);
        FIBER_ASSERT(pipe(idle) == 0 && fd >= 0);
        FIBER_OK(arm(a->instance, idle[0], POLLIN, 1000 + a->number));
        FIBER_OK(arm(a->instance, fd, POLLIN, a->number));
        if (i % 4 == 0) it.ops->interrupt(a->instance);
        FIBER_ASSERT_EQ(it.ops->disarm(a->instance, idle[0]), 0);
        EVENTUALLY(atomic_load(&a->told) > (uint64_t)i);
        (void)it.ops->disarm(a->instance, fd);
        close(idle[0]);
        close(idle[1]);
        close(fd);
    }
    return NULL;
}

RULE(arms_beside_a_wait, "Other threads arm, disarm and interrupt while a wait is on, and what they arm is told.") {
    READINESS;
    static armer all[ARMERS];
    static gathered g;
    pthread_t threads[ARMERS];
    void *e = fresh(8);
    int rounds = (int)test_scale(100);
    for (uint64_t i = 0; i < ARMERS; i++) {
        all[i] = (armer){ .instance = e, .number = i, .rounds = rounds };
        FIBER_ASSERT_EQ(pthread_create(&threads[i], NULL, arm_and_disarm, &all[i]), 0);
    }
    for (int missing = ARMERS; missing > 0;) {
        g.n = 0;
        (void)gather(e, &g, 8, stel_after(STEL_MS(20)));
        missing = 0;
        for (uint64_t i = 0; i < ARMERS; i++) {
            FIBER_ASSERT_EQ(count_of(&g, 1000 + i, NULL), 0);
            atomic_fetch_add(&all[i].told, (uint64_t)count_of(&g, i, NULL));
            missing += atomic_load(&all[i].told) < (uint64_t)rounds;
        }
    }
    for (int i = 0; i < ARMERS; i++)
        FIBER_ASSERT_EQ(pthread_join(threads[i], NULL), 0);
    it.ops->destroy(e);
}

static void nothing(int signal) {
    (void)signal;
}

static void *send_signals(void *p) {
    striker *s = p;
    while (!atomic_load(&s->enough)) {
        kill(getpid(), SIGUSR1);
        usleep(100);
    }
    return NULL;
}

RULE(signals, "A signal that interrupts a wait is no error.") {
    void *e = fresh(4);
    striker s = { .instance = e };
    struct sigaction action = { .sa_handler = nothing };
    sigset_t mask;
    pthread_t thread;
    FIBER_ASSERT_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    FIBER_ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &mask, NULL), 0); /* the thread's: they come to whoever waits */
    FIBER_ASSERT_EQ(pthread_create(&thread, NULL, send_signals, &s), 0);
    FIBER_ASSERT_EQ(pthread_sigmask(SIG_UNBLOCK, &mask, NULL), 0);
    for (int i = 0; i < 50; i++)
        wait_for_nothing(e, stel_after(STEL_MS(1))); /* it may end early */
    atomic_store(&s.enough, true);
    FIBER_ASSERT_EQ(pthread_join(thread, NULL), 0);
    it.ops->destroy(e);
}

/* ---- what it costs ---- */

/* The lowest limit at which there are just so many descriptors to be had. */
static void leave_descriptors(int n) {
    struct rlimit limit;
    int last = -1, fds[64];
    FIBER_ASSERT(n < 64);
    for (int i = 0; i < n; i++)
        last = fds[i] = dup(0);
    int next = dup(0);
    FIBER_ASSERT(next > last);
    FIBER_ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)next;
    FIBER_ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    close(next);
    for (int i = 0; i < n; i++)
        close(fds[i]);
}

RULE(no_descriptors_left, "Without descriptors for it create fails with -EMFILE, and leaves nothing behind.") {
    struct rlimit limit;
    void *e = NULL;
    FIBER_ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int made = 0;
    for (int left = 0; !made; left++) {
        leave_descriptors(left);
        int rc = it.ops->create(&e, 8);
        made = rc == 0;
        if (made) it.ops->destroy(e);
        FIBER_ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        FIBER_ASSERT(made || rc == -EMFILE);
        FIBER_ASSERT(left < 32);
    }
}

RULE(no_memory, "Without memory create fails with -ENOMEM, and leaves nothing behind.") {
    void *e = fresh(8); /* the first one may make what remains */
    it.ops->destroy(e);
    int descriptors = test_open_descriptors(), failed = 0;
    for (unsigned nth = 1; nth < 16; nth++) {
        stel__fault_set(STEL__FAULT_ALLOC, nth, ENOMEM, false);
        int rc = it.ops->create(&e, 8);
        stel__fault_clear();
        FIBER_ASSERT(rc == 0 || rc == -ENOMEM);
        if (rc == 0) it.ops->destroy(e);
        failed += rc != 0;
        FIBER_ASSERT_EQ(test_open_descriptors(), descriptors);
    }
    NOT_FOR(!failed, "its memory is not the library's");
}

static size_t in_use(void) {
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

RULE(all_given_back, "An instance that is destroyed gives its descriptors and its memory back, whatever is armed.") {
    for (int i = 0; i < 20; i++) { /* what the first ones leave for good, and what malloc keeps for the next */
        void *e = fresh(64);
        it.ops->destroy(e);
    }
    int descriptors = test_open_descriptors();
    size_t bytes = in_use();
    for (int i = 0; i < 200; i++) {
        void *e = fresh(64);
        it.ops->interrupt(e);
        it.ops->destroy(e);
    }
    FIBER_ASSERT_EQ(test_open_descriptors(), descriptors);
    FIBER_ASSERT(in_use() <= bytes + 8192); /* 40 bytes an instance would be seen */
}

RULE(destroyed_while_armed, "What is armed when an instance is destroyed does it no harm.") {
    READINESS;
    for (int i = 0; i < 10; i++) {
        void *e = fresh(8);
        int fds[2];
        FIBER_ASSERT_EQ(pipe(fds), 0);
        FIBER_OK(arm(e, fds[0], POLLIN, 7));
        FIBER_OK(arm(e, fds[1], POLLOUT, 8));
        if (i % 2) close(fds[0]);
        it.ops->destroy(e);
        if (!(i % 2)) close(fds[0]);
        close(fds[1]);
    }
}

RULE(pending_counts, "pending counts what is armed or submitted and has had no event.") {
    NOT_FOR(!it.ops->pending, "it does not count");
    NOT_FOR(!has(STEL_BACKEND_READINESS), "see the completions");
    void *e = fresh(8);
    gathered g = { .n = 0 };
    int fds[2];
    FIBER_ASSERT_EQ(pipe(fds), 0);
    FIBER_ASSERT_EQ(it.ops->pending(e), 0);
    FIBER_OK(arm(e, fds[0], POLLIN, 7));
    FIBER_ASSERT_EQ(it.ops->pending(e), 1);
    FIBER_ASSERT_EQ(write(fds[1], "x", 1), 1);
    gather_until(e, &g, 1);
    if (has(STEL_BACKEND_ONESHOT)) FIBER_ASSERT_EQ(it.ops->pending(e), 0);
    (void)it.ops->disarm(e, fds[0]);
    FIBER_ASSERT_EQ(it.ops->pending(e), 0);
    it.ops->destroy(e);
    close(fds[0]);
    close(fds[1]);
}

const check *const ops_wait_checks[] = {
    &check_of_no_wait,
    &check_of_until,
    &check_of_fine_time,
    &check_of_interrupt_before,
    &check_of_interrupt_during,
    &check_of_events_and_interrupts,
    &check_of_batch,
    &check_of_waits_change_threads,
    &check_of_arms_beside_a_wait,
    &check_of_signals,
    &check_of_no_descriptors_left,
    &check_of_no_memory,
    &check_of_all_given_back,
    &check_of_destroyed_while_armed,
    &check_of_pending_counts,
    NULL,
};
