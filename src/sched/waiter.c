/* How a fiber, or a plain thread, sleeps and is woken. There is no other way: locks, channels, joins, sleeps and
 * descriptors are users of this file. waiter.h tells them how.
 *
 * Nouns. A *waiter* is what can sleep: it is part of a fiber's control block, or belongs to a thread. A *wait* is one
 * time that it sleeps; waits are numbered (sequence). A *ticket* is the name of one wait: sequence and waiter's index
 * in 64 bits. The waiter's *word* holds the sequence and the state of the wait that is on, and is changed only as
 * follows:
 *
 *   state      what is true                                edges out of it
 *   IDLE       not waiting; only the owner looks           owner, wait_begin: -> PREPARED, sequence + 1
 *   PREPARED   the owner still runs, and may be on the     owner, wait_drop: -> IDLE
 *              way to sleep; its nodes may be visible      waker, stel__wake: -> WOKEN; does nothing else
 *                                                          finish_park in worker.c (fiber), thread_park: -> PARKED
 *                                                          finish_park_unseen there, a join's own: the same
 *   PARKED     asleep; its context is saved; the flags     waker, stel__wake: -> WOKEN, and makes it runnable
 *              say what may end the wait besides an event  timer, stel__waiter_timer_fired: the same, cause TIMER
 *                                                          canceller or unparker, stel__waiter_interrupt: the same
 *                                                          timer, at the end of a shield: SHIELDED -> INTERRUPTIBLE
 *   WOKEN      somebody won; cause and `which` say who     owner, on its way out of the wait: -> IDLE
 *
 * Invariants
 *   1. Every edge out of PREPARED or PARKED is a compare-and-swap on the whole word: exactly one party wins a wait, and
 *      who names an old sequence loses. But one: of a wait whose ticket nobody has got yet PREPARED -> PARKED is a store.
 *   2. A fiber is made runnable exactly once a wait: by who takes it from PARKED to WOKEN, or, if it never got as far
 *      as PARKED, by the code after its switch that finds WOKEN.
 *   3. Timers and cancellations act on PARKED only. What comes earlier is found by finish_park, which looks again after
 *      its swap, or after a light fence whose heavy side is stel__waiter_interrupt's: see the sequences there. A timer that comes earlier is armed again for a moment later.
 *   4. Waiters are type-stable, so a late waker reads a live word and loses by invariant 1. Sequences are not reset
 *      when a control block goes to another fiber. 39 bits last 2^39 waits of one block; a waker would have to sleep
 *      through all of them to be taken for another.
 *   5. `limit` (fiber.h) is STEL_FOREVER unless a wait with a limit is on. The owner resets it before the next
 *      PREPARED, a release store, so a timer that reads a PARKED word of this wait reads this wait's limit.
 *
 * Ordering pairs: wait_begin's release store with wakers' acquire loads (limit, reason); the winning swap (acq_rel)
 * with the owner's acquire load on its way out (what the waker wrote before).
 *
 * Why tickets and not locks: a lock a waiter would order wakers too, but every wake would take two locks, and a timer
 * that fires on another worker would have to wait for the object's. Why one word: an earlier draft had cancellation in
 * a flag beside the state, and needed a fence on every park to order the two. */
#include "sched/worker.h"
#include <stdlib.h>

enum { TIMER_RETRY_NS = 20000 }; /* a timer that fired while the fiber was on its way to sleep */

static const char *const reason_names[STEL__WAIT_REASONS] = {
    [STEL__WAIT_NONE] = "nothing",
    [STEL__WAIT_SLEEP] = "sleep",
    [STEL__WAIT_PARK] = "park",
    [STEL__WAIT_JOIN] = "join",
    [STEL__WAIT_MUTEX] = "mutex",
    [STEL__WAIT_COND] = "condition",
    [STEL__WAIT_EVENT] = "event",
    [STEL__WAIT_WAITGROUP] = "waitgroup",
    [STEL__WAIT_CHAN_SEND] = "channel send",
    [STEL__WAIT_CHAN_RECV] = "channel receive",
    [STEL__WAIT_SELECT] = "select",
    [STEL__WAIT_FD_IN] = "descriptor to read",
    [STEL__WAIT_FD_OUT] = "descriptor to write",
    [STEL__WAIT_FD_ANY] = "descriptor",
    [STEL__WAIT_OFFLOAD] = "offloaded call",
    [STEL__WAIT_RUNTIME] = "runtime to stop",
    [STEL__WAIT_SCOPE] = "scope",
    [STEL__WAIT_READ_LOCK] = "read lock",
    [STEL__WAIT_WRITE_LOCK] = "write lock",
    [STEL__WAIT_SEM] = "semaphore",
    [STEL__WAIT_BARRIER] = "barrier",
    [STEL__WAIT_ONCE] = "once",
    [STEL__WAIT_POLL] = "poll",
    [STEL__WAIT_SIGNAL] = "signal",
    [STEL__WAIT_CHILD] = "child process",
    [STEL__WAIT_FILE] = "file",
};

const char *stel__reason_name(int reason) {
    return reason >= 0 && reason < STEL__WAIT_REASONS ? reason_names[reason] : "?";
}

/* ---- threads as waiters ---- */

typedef struct thread_waiter {
    stel__waiter waiter;
    stel__futex woken; /* 1 when a waker has been */
    _Atomic int eventfd;
    struct thread_waiter *next_free;
    stel__oracle oracle;
} thread_waiter;

enum { THREADS_MAX = 1 << 16 };
#define THREAD_BIT (UINT32_C(1) << STEL__INDEX_BITS)

static struct {
    stel__lock lock;
    _Atomic uint32_t count;
    thread_waiter *free; /* of threads that have ended */
    _Atomic(thread_waiter *) at[THREADS_MAX];
    pthread_key_t key; /* its destructor gives a thread's waiter back */
    bool key_made;
} threads;

static __thread thread_waiter *my_waiter __attribute__((tls_model("initial-exec")));

static void thread_ended(void *p) {
    thread_waiter *t = p;
    my_waiter = NULL;
    stel__lock_take(&threads.lock);
    t->next_free = threads.free;
    threads.free = t;
    stel__lock_give(&threads.lock);
}

/* Under threads.lock. */
static thread_waiter *thread_waiter_new(void) {
    uint32_t i = stel__load_relaxed(&threads.count);
    if (!threads.key_made && pthread_key_create(&threads.key, thread_ended) != 0) return NULL;
    threads.key_made = true;
    thread_waiter *t = threads.free;
    if (t) {
        threads.free = t->next_free;
        return t;
    }
    if (i == THREADS_MAX - 1 || !(t = stel__alloc_aligned(STEL__CACHE_LINE, sizeof *t))) return NULL;
    t->waiter.index = THREAD_BIT | i;
    stel__store_release(&threads.at[i], t); /* pairs with the acquire in stel__waiter_at */
    stel__store_relaxed(&threads.count, i + 1);
    return t;
}

STEL__COLD static stel__waiter *thread_waiter_self(void) {
    /* The child of a fork waits for nothing, and must not look for room in a table that was perhaps being changed. */
    static thread_waiter in_child = {
        .waiter = { .index = THREAD_BIT | (THREADS_MAX - 1), .deadline = STEL_FOREVER, .shield_until = INT64_MIN },
        .eventfd = -1
    };
    if (my_waiter) return &my_waiter->waiter;
    if (stel__load_relaxed(&stel__forked)) return &in_child.waiter; /* no partner: set before the child runs anything */
    stel__lock_take(&threads.lock);
    thread_waiter *t = thread_waiter_new();
    stel__lock_give(&threads.lock);
    if (!t) return NULL;
    stel__waiter_begin(&t->waiter);
    stel__store_relaxed(&t->eventfd, -1);
    stel__oracle_seed(&t->oracle, (uint64_t)stel__clock_now() ^ t->waiter.index);
    my_waiter = t;
    (void)pthread_setspecific(threads.key, t); /* without memory for it the waiter is not given back: a small leak */
    return &t->waiter;
}

static thread_waiter *thread_of(stel__waiter *w) {
    return STEL__CONTAINER(w, thread_waiter, waiter);
}

static void thread_wake(stel__waiter *w) {
    thread_waiter *t = thread_of(w);
    if (stel__load_relaxed(&stel__forked)) return; /* the eventfd is the parent's as well; no partner */
    int fd = stel__load_acquire(&t->eventfd);
    stel__store_release(&t->woken, 1);
    if (fd >= 0) {
        uint64_t one = 1;
        (void)stel__sys_write(fd, &one, sizeof one);
    } else {
        stel__futex_wake(&t->woken, 1);
    }
}

void stel__waiter_thread_eventfd(stel__waiter *w, int fd) {
    stel__store_release(&thread_of(w)->eventfd, fd);
}

/* ---- who waits ---- */

STEL__NOINLINE stel__waiter *stel__waiter_self(void) {
    __asm__ volatile(""); /* as in stel__worker_self: not to be taken for a pure function */
    const stel__worker *w = stel__worker_tls;
    stel__fiber *f = STEL__LIKELY(w != NULL) ? stel__worker_current(w) : NULL;
    return STEL__LIKELY(f != NULL) ? &f->waiter : thread_waiter_self();
}

stel__waiter *stel__waiter_at(uint32_t index) {
    if (index & THREAD_BIT) return &stel__load_acquire(&threads.at[index & ~THREAD_BIT])->waiter;
    return &stel__fiber_at(index)->waiter;
}

void stel__waiter_expect(uint32_t index) {
    if (!(index & THREAD_BIT)) stel__fiber_fetch(stel__fiber_at(index)); /* threads are not waited for by the dozen */
}

uint64_t stel__waiter_identity(const stel__waiter *w) {
    if (stel__waiter_is_thread(w)) return UINT64_C(1) << 63 | w->index;
    const stel__fiber *f = STEL__CONTAINER(w, stel__fiber, waiter);
    return stel__fiber_handle(f, stel__load_relaxed(&f->life));
}

stel__oracle *stel__oracle_self(void) {
    stel__worker *w = stel__worker_self();
    if (w) return &w->oracle;
    stel__waiter *t = thread_waiter_self();
    static stel__oracle nobody = { 1 }; /* a thread without memory for a waiter cannot wait anyway */
    return t ? &thread_of(t)->oracle : &nobody;
}

/* ---- limits ---- */

static bool cancelled(const stel__waiter *w) {
    if (stel__waiter_is_thread(w)) return stel__load_relaxed(&stel__forked); /* nothing else ends a thread's waits */
    return stel__load_relaxed(&STEL__CONTAINER(w, const stel__fiber, waiter)->life) & STEL__LIFE_CANCELLED;
}

/* The cached clock on a worker, the real one elsewhere. */
static int64_t now_cached(void) {
    stel__worker *w = stel__worker_self();
    return w ? w->now : stel__clock_now();
}

/* A deadline that was reported once has passed for good, whatever the cached clock of the next worker says: it is moved
 * to the beginning of time. The pop of its block puts the outer one back. */
int stel__waiter_deadline_passed(stel__waiter *w) {
    w->timed_out = 1;
    stel__store_relaxed(&w->deadline, INT64_MIN);
    return -ETIMEDOUT;
}

STEL__COLD static int check_failed(stel__waiter *w, int code) {
    w->timed_out = 0;
    if (code == -ETIMEDOUT) stel__waiter_deadline_passed(w);
    stel_yield();
    return code;
}

int stel__wait_check(stel__waiter *w) {
    bool is_cancelled = cancelled(w);
    int64_t deadline = stel__load_relaxed(&w->deadline);
    if (STEL__LIKELY(!is_cancelled && deadline == STEL_FOREVER)) return 0;
    if (stel__load_relaxed(&stel__forked)) return -EPERM; /* no partner: set before the child runs anything */
    int64_t now = now_cached();
    if (is_cancelled && stel__load_relaxed(&w->shield_until) <= now) return check_failed(w, -ECANCELED);
    return deadline <= now ? check_failed(w, -ETIMEDOUT) : 0;
}

STEL__COLD static stel__waiter *enter_slowly(int *error) {
    *error = -EPERM;
    if (stel__load_relaxed(&stel__forked)) return NULL; /* no partner: set before the child runs anything */
    stel__waiter *w = stel__waiter_self();
    *error = w ? stel__wait_check(w) : -ENOMEM;
    return *error < 0 ? NULL : w;
}

STEL__NOINLINE stel__waiter *stel__wait_enter(int *error) {
    __asm__ volatile("");                     /* as in stel__waiter_self */
    const stel__worker *w = stel__worker_tls; /* none in the child of a fork */
    stel__fiber *f = STEL__LIKELY(w != NULL) ? stel__worker_current(w) : NULL;
    if (STEL__LIKELY(f != NULL && !cancelled(&f->waiter) && stel__load_relaxed(&f->waiter.deadline) > w->now))
        return &f->waiter;
    return enter_slowly(error);
}

void stel__wait_spend(stel__waiter *w) {
    if (stel__waiter_is_thread(w)) return;
    stel__fiber *f = stel__fiber_of_waiter(w);
    if (STEL__LIKELY(++w->streak < stel__load_relaxed(&stel__fiber_home(f)->settings.io_budget))) return;
    w->streak = 0;
    stel_yield();
}

/* ---- one wait ---- */

stel__ticket stel__wait_begin(stel__waiter *w, enum stel__reason reason) {
    if (stel__waiter_is_thread(w)) stel__store_relaxed(&thread_of(w)->woken, 0);
    return stel__waiter_prepare(w, reason);
}

int stel__wait_drop(stel__waiter *w) {
    uint64_t word = stel__load_relaxed(&w->word);
    if ((word & STEL__WORD_STATE) == STEL__WORD_PREPARED &&
        stel__cas_acquire(&w->word, &word, word & STEL__WORD_SEQUENCE)) {
        stel__store_relaxed(&w->reason, STEL__WAIT_NONE);
        return -1;
    }
    return stel__waiter_outcome(w);
}

/* A thread's sleep ends by code unless somebody was faster. */
int stel__waiter_thread_finish(stel__waiter *w, int code) {
    uint64_t word = stel__load_acquire(&w->word);
    while ((word & STEL__WORD_STATE) != STEL__WORD_WOKEN) {
        uint64_t cause = code == -ECANCELED ? STEL__WORD_CAUSE_CANCEL : STEL__WORD_CAUSE_TIMER;
        uint64_t ended = (word & STEL__WORD_SEQUENCE) | STEL__WORD_WOKEN | cause;
        if (stel__cas_acq_rel(&w->word, &word, ended)) {
            int outcome = stel__waiter_outcome(w);
            w->timed_out = code == -ETIMEDOUT;
            return outcome == -ETIMEDOUT && code != -ETIMEDOUT ? code : outcome;
        }
    }
    /* A waker that won a PARKED word touches `woken` after its swap; nothing of it is on our stack, so no need to wait.
     */
    return stel__waiter_outcome(w);
}

static int thread_park(stel__waiter *w, int64_t limit) {
    thread_waiter *t = thread_of(w);
    uint64_t word = stel__load_relaxed(&w->word);
    uint64_t parked = (word & STEL__WORD_SEQUENCE) | STEL__WORD_PARKED;
    if ((word & STEL__WORD_STATE) != STEL__WORD_PREPARED || !stel__cas_seq_cst(&w->word, &word, parked))
        return stel__waiter_outcome(w);
    while ((stel__load_acquire(&w->word) & STEL__WORD_STATE) == STEL__WORD_PARKED) {
        /* `woken` may be an old waker's, late for the wait before: then look at the word once more. */
        int rc = stel__futex_wait(&t->woken, 0, limit);
        if (rc == -ETIMEDOUT) return stel__waiter_thread_finish(w, -ETIMEDOUT);
        if (rc == -EAGAIN && (stel__load_acquire(&w->word) & STEL__WORD_STATE) == STEL__WORD_PARKED)
            stel__xchg_seq_cst(&t->woken,
                               0); /* a barrier, too: whose 1 this erases, its swap of the word is seen next */
    }
    return stel__waiter_outcome(w);
}

static int fiber_park(stel__waiter *w, unsigned word_flags, int64_t limit) {
    stel__fiber *f = stel__fiber_of_waiter(w);
    stel__worker *worker = stel__worker_self();
    STEL__CHECK(worker && stel__worker_current(worker) == f);
    if (limit != STEL_FOREVER) stel__wheel_arm(&worker->wheel, stel__wheel_of, f, limit);
    stel__count(&worker->counters.parks, 1);
    if ((stel__load_relaxed(&w->word) & STEL__WORD_STATE) == STEL__WORD_PREPARED) {
        worker->park_flags = word_flags;
        stel__worker_leave(worker, STEL__AFTER_PARK);
    }
    if (limit == STEL_FOREVER) return stel__waiter_outcome(w);
    stel__store_relaxed(&f->queue.limit, STEL_FOREVER);
    int outcome = stel__waiter_outcome(w);
    if (outcome == -ETIMEDOUT) {
        /* The poller thread may have fired the timer: what the cached clock says must not contradict it. */
        worker = stel__worker_self();
        if (worker->now < limit) worker->now = limit;
    }
    return outcome;
}

static int park(stel__waiter *w, unsigned flags, unsigned word_flags, int64_t until) {
    int64_t limit = until;
    if (!(flags & STEL__PARK_UNINTERRUPTIBLE)) {
        int64_t deadline = stel__load_relaxed(&w->deadline), shield = stel__load_relaxed(&w->shield_until);
        if (deadline < limit) limit = deadline;
        if (stel__waiter_is_thread(w)) return thread_park(w, limit); /* never cancelled: no shield to watch */
        if (shield == INT64_MIN || shield <= now_cached()) {
            word_flags |= STEL__WORD_INTERRUPTIBLE; /* a shield whose time is over hides nothing */
        } else {
            /* A wait that ends by the clock anyway (sleep) looks at shield and cancellation itself, and goes on. */
            if (until == STEL_FOREVER) word_flags |= STEL__WORD_SHIELDED;
            if (shield < limit) limit = shield;
        }
    }
    return stel__waiter_is_thread(w) ? thread_park(w, limit) : fiber_park(w, word_flags, limit);
}

static int deadline_outcome(stel__waiter *w, int rc) {
    return STEL__UNLIKELY(rc == -ETIMEDOUT) ? stel__waiter_deadline_passed(w) : rc;
}

int stel__wait_park(stel__waiter *w, unsigned flags) {
    return deadline_outcome(w, park(w, flags, 0, STEL_FOREVER));
}
int stel__wait_park_until(stel__waiter *w, unsigned flags, int64_t until) {
    return park(w, flags, 0, until);
}
int stel__waiter_park_for_token(stel__waiter *w) {
    return deadline_outcome(w, park(w, 0, STEL__WORD_TOKEN, STEL_FOREVER));
}

/* ---- waking ---- */

stel__ticket stel__node_ticket(const stel__node *n) {
    /* The node is queued, so the wait it belongs to is the waiter's current one. */
    const stel__waiter *w = stel__waiter_at(n->waiter);
    return (stel__load_acquire(&w->word) & STEL__WORD_SEQUENCE) | n->waiter;
}

bool stel__wake(stel__ticket t, uint16_t which) {
    stel__waiter *w = stel__waiter_at((uint32_t)(t & STEL__WAITER_INDEX_MASK));
    uint64_t state = stel__waiter_win(w, t, which);
    if (state == STEL__WORD_IDLE) return false;
    if (!stel__waiter_is_thread(w)) {
        if (state == STEL__WORD_PARKED) stel__ready(stel__fiber_of_waiter(w));
    } else if (state == STEL__WORD_PARKED || stel__load_acquire(&thread_of(w)->eventfd) >= 0) {
        /* A thread that sleeps in ppoll never becomes PARKED; it waits for the write once it knows that it was woken. */
        thread_wake(w);
    }
    return true;
}

/* PARKED -> WOKEN for a cause of ours. */
static bool end_parked(stel__fiber *f, uint64_t word, uint64_t cause) {
    uint64_t woken = (word & STEL__WORD_SEQUENCE) | STEL__WORD_WOKEN | cause;
    if (!stel__cas_acq_rel(&f->waiter.word, &word, woken)) return false;
    stel__ready(f);
    return true;
}

void stel__waiter_recheck(stel__fiber *f, uint64_t parked) {
    uint64_t life = stel__load_seq_cst(&f->life);
    if ((life & STEL__LIFE_CANCELLED) && (parked & STEL__WORD_INTERRUPTIBLE))
        end_parked(f, parked, STEL__WORD_CAUSE_CANCEL);
    else if ((life & STEL__LIFE_TOKEN) && (parked & STEL__WORD_TOKEN))
        end_parked(f, parked, STEL__WORD_CAUSE_EVENT);
}

void stel__waiter_interrupt(stel__fiber *f, stel_fiber handle, uint64_t kind) {
    const stel__worker *here = stel__worker_self();
    bool nobody_else = here && here->sched->alone && here->sched == stel__fiber_home(f);
    /* Who does not sleep may be about to, with a light fence only: see finish_park_unseen. */
    if (kind == STEL__WORD_INTERRUPTIBLE && !nobody_else &&
        (stel__load_seq_cst(&f->waiter.word) & STEL__WORD_STATE) != STEL__WORD_PARKED)
        stel__fence_heavy();
    for (;;) {
        uint64_t word = stel__load_seq_cst(&f->waiter.word);
        if ((word & STEL__WORD_STATE) != STEL__WORD_PARKED || !(word & kind)) return;
        /* The word was read while the fiber of this handle lived, so the wait in it is not another fiber's. */
        if (!stel__same_generation(stel__load_seq_cst(&f->life), handle)) return;
        if (end_parked(f, word, kind == STEL__WORD_TOKEN ? STEL__WORD_CAUSE_EVENT : STEL__WORD_CAUSE_CANCEL)) return;
    }
}

int64_t stel__waiter_timer_fired(stel__fiber *f, int64_t now, unsigned *ended) {
    uint64_t word = stel__load_acquire(&f->waiter.word);
    if ((word & STEL__WORD_STATE) == STEL__WORD_PREPARED)
        return stel__load_relaxed(&f->queue.limit) == STEL_FOREVER ? STEL_FOREVER : now + TIMER_RETRY_NS;
    if ((word & STEL__WORD_STATE) != STEL__WORD_PARKED) return STEL_FOREVER;
    int64_t limit = stel__load_relaxed(&f->queue.limit);
    if (limit > now) return limit;
    int64_t deadline = stel__load_relaxed(&f->waiter.deadline);
    if ((word & STEL__WORD_SHIELDED) && stel__load_relaxed(&f->waiter.shield_until) <= now && deadline > now) {
        /* Not the deadline but the end of the shield: cancellation may end the wait from now on. */
        uint64_t bare = (word & ~(uint64_t)STEL__WORD_SHIELDED) | STEL__WORD_INTERRUPTIBLE;
        if (!stel__cas_seq_cst(&f->waiter.word, &word, bare)) return STEL_FOREVER;
        /* `limit` stays what it was: from the swap on f may be woken, and then the word is its run queue's. The timer
         * itself knows when it is to fire again. */
        stel__waiter_recheck(f, bare);
        return deadline;
    }
    *ended += end_parked(f, word, STEL__WORD_CAUSE_TIMER);
    return STEL_FOREVER;
}
