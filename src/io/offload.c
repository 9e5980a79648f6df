/* The offload pool: threads that make calls which really block, one process-wide pool for all runtimes and threads.
 *
 * Nouns. A *job* is a call to be made, with the ticket of the one who waits for it. The *bell* is a futex that idle
 * threads sleep on; its value counts the rings.
 *
 *   job's state  what is true                        edges out of it, all under the pool's lock
 *   QUEUED       on the queue                        thread, take: -> RUNNING
 *                                                    waiter, cut short: off the queue, the job is the waiter's again
 *                                                    submitter, no thread is left or can be made: -> REFUSED
 *   RUNNING      a thread is in job->run             thread, finished: -> DONE
 *                                                    waiter, cut short, dispose given: -> ABANDONED
 *   DONE         it has run; the job is the waiter's
 *   REFUSED      it will not run; the job is the waiter's
 *   ABANDONED    nobody waits                        thread, finished: disposes of it
 *
 * Invariants
 *   1. A job that is RUNNING and cannot be disposed of is waited for, whatever deadline or cancellation say: its memory
 *      and the caller's buffers are in use.
 *   2. A thread reads the ticket under the lock and wakes after giving it back; from then on the job may be gone.
 *   3. queued > 0 implies that a thread runs, is being started, or has been rung for; an idle thread goes to sleep with
 *      the bell's value read under the lock, under which submitters change it.
 *
 * Threads are started when more jobs are queued than threads are idle, up to a limit, and end after ten idle seconds.
 * At the end of the process the idle ones are joined; one that is in a call is left to the kernel. */
#include "host/host.h"
#include "io/io.h"
#include <limits.h>
#include <stellane/io.h>

enum { THREADS_MAX = 64, IDLE_SECONDS = 10 };
enum job_state { QUEUED, RUNNING, DONE, REFUSED, ABANDONED };
enum { WOKEN_DONE, WOKEN_REFUSED };

typedef struct pool_thread {
    pthread_t id;
    struct pool_thread *next_ended;
} pool_thread;

static struct {
    stel__futex bell; /* changed under the lock */
    stel__futex ends; /* threads that have ended */
    stel__lock lock;
    /* under the lock */
    stel__list queue;
    int queued, threads, idle, busy;
    bool stopping;
    pool_thread *ended; /* to be joined */
} pool;

static __thread bool in_pool;

/* ---- the threads ---- */

/* Under the lock, which is given back while it sleeps. false: ten seconds have passed. */
static bool idle(void) {
    uint32_t seen = stel__load_relaxed(&pool.bell);
    pool.idle++;
    stel__lock_give(&pool.lock);
    int rc = stel__futex_wait(&pool.bell, seen, stel__time_add(stel__clock_now(), STEL_SEC(IDLE_SECONDS)));
    stel__lock_take(&pool.lock);
    pool.idle--;
    return rc != -ETIMEDOUT;
}

/* Under the lock, which is given back while the job runs. */
static void run(stel__job *job) {
    job->state = RUNNING;
    pool.busy++;
    stel__lock_give(&pool.lock);
    job->run(job);
    stel__lock_take(&pool.lock);
    pool.busy--;
    stel__ticket ticket = job->ticket;
    bool abandoned = job->state == ABANDONED;
    job->state = DONE;
    stel__lock_give(&pool.lock);
    if (abandoned)
        job->dispose(job);
    else
        stel__wake(ticket, WOKEN_DONE);
    stel__lock_take(&pool.lock);
}

static void *pool_main(void *argument) {
    pool_thread *self = argument;
    in_pool = true;
    stel__lock_take(&pool.lock);
    for (bool more = true; more;) {
        stel__link *l = pool.stopping ? NULL : stel__list_pop_head(&pool.queue);
        if (l) {
            pool.queued--;
            run(STEL__CONTAINER(l, stel__job, link));
        } else if (pool.stopping) {
            more = false;
        } else {
            more = idle() || pool.queue.head;
        }
    }
    pool.threads--;
    self->next_ended = pool.ended;
    pool.ended = self;
    stel__lock_give(&pool.lock);
    stel__add_acq_rel(&pool.ends, 1); /* pool_end waits for it */
    stel__futex_wake(&pool.ends, INT_MAX);
    return NULL;
}

static void join_ended(void) {
    stel__lock_take(&pool.lock);
    pool_thread *t = pool.ended;
    pool.ended = NULL;
    stel__lock_give(&pool.lock);
    while (t) {
        pool_thread *next = t->next_ended;
        pthread_join(t->id, NULL);
        stel__free(t);
        t = next;
    }
}

/* pool.threads has been raised for it. */
static int start_thread(void) {
    stel__fork_watch(); /* there may be no runtime that has done so */
    pool_thread *t = stel__alloc(sizeof *t);
    int rc = t ? stel__thread_start(&t->id, "stel-offload", pool_main, t) : -ENOMEM;
    if (rc < 0) stel__free(t);
    return rc;
}

/* The end of the process (or of the library's stay in it). */
__attribute__((destructor)) static void pool_end(void) {
    if (stel__load_relaxed(&stel__forked)) return; /* the threads are the parent's */
    stel__lock_take(&pool.lock);
    pool.stopping = true;
    stel__add_relaxed(&pool.bell, 1); /* the lock orders it */
    for (;;) {
        uint32_t ends = stel__load_acquire(&pool.ends); /* pool_main's end */
        bool wait = pool.threads > pool.busy;
        stel__lock_give(&pool.lock);
        stel__futex_wake(&pool.bell, INT_MAX);
        if (!wait) break;
        (void)stel__futex_wait(&pool.ends, ends, STEL_FOREVER);
        stel__lock_take(&pool.lock);
    }
    join_ended();
}

/* ---- waiting for a job ---- */

/* A thread could not be started. If it was the only one, whoever is on the queue would wait for ever: tell them. */
static void start_failed(void) {
    stel__lock_take(&pool.lock);
    pool.threads--;
    while (pool.threads == 0 && pool.queue.head) {
        stel__job *job = STEL__CONTAINER(stel__list_pop_head(&pool.queue), stel__job, link);
        pool.queued--;
        job->state = REFUSED;
        stel__wake(job->ticket, WOKEN_REFUSED); /* the last touch: the job is its waiter's */
    }
    stel__lock_give(&pool.lock);
}

/* Put it on the queue and see to it that somebody takes it. */
static void submit(stel__job *job, stel__waiter *w) {
    stel__lock_take(&pool.lock);
    job->ticket = stel__wait_begin(w, STEL__WAIT_OFFLOAD);
    job->state = QUEUED;
    stel__list_push_tail(&pool.queue, &job->link);
    bool start = ++pool.queued > pool.idle && pool.threads < THREADS_MAX;
    bool ended = pool.ended != NULL;
    if (start)
        pool.threads++;
    else
        stel__add_relaxed(&pool.bell, 1); /* the lock orders it */
    stel__lock_give(&pool.lock);
    if (!start) stel__futex_wake(&pool.bell, 1);
    if (ended) join_ended();
    if (start && start_thread() < 0) start_failed();
}

/* The waiter was cut short with rc: what becomes of it. */
static int cut_short(stel__job *job, stel__waiter *w, int rc) {
    stel__lock_take(&pool.lock);
    int state = job->state;
    if (state == QUEUED) {
        stel__list_remove(&pool.queue, &job->link);
        pool.queued--;
    } else if (state == RUNNING && job->dispose) {
        job->state = ABANDONED;
    } else if (state == RUNNING) {
        job->ticket = stel__wait_begin(w, STEL__WAIT_OFFLOAD);
    }
    stel__lock_give(&pool.lock);
    if ((state == QUEUED || state == REFUSED) && job->dispose) job->dispose(job);
    if (state == RUNNING && !job->dispose) {
        (void)stel__wait_park(w, STEL__PARK_UNINTERRUPTIBLE);
        return 0;
    }
    return state == DONE ? 0 : rc;
}

int stel__job_run(stel__job *job, stel__waiter *w) {
    int rc = stel__load_relaxed(&stel__forked) ? -EPERM : stel__wait_check(w);
    if (rc == 0 && in_pool) {
        job->run(job); /* a call in a call: its thread blocks anyway, and another may not be to be had */
        return 0;
    }
    if (rc == 0) {
        submit(job, w);
        rc = stel__wait_park(w, 0);
        if (rc == WOKEN_DONE) return 0;
        if (rc < 0) return cut_short(job, w, rc);
        rc = -EAGAIN;
    }
    if (job->dispose) job->dispose(job);
    return rc;
}

int stel__job_run_somehow(stel__job *job, stel__waiter *w) {
    STEL__CHECK(!job->dispose);
    int rc = stel__waiter_is_thread(w) ? -EAGAIN : stel__job_run(job, w);
    if (rc != -EAGAIN) return rc;
    job->run(job);
    return 0;
}

void stel__job_run_to_end(stel__job *job, stel__waiter *w) {
    STEL__CHECK(!job->dispose);
    if (!stel__waiter_is_thread(w) && !in_pool && !stel__load_relaxed(&stel__forked)) {
        submit(job, w);
        if (stel__wait_park(w, STEL__PARK_UNINTERRUPTIBLE) == WOKEN_DONE) return;
    }
    job->run(job);
}

void stel__offload_figures_get(stel__offload_figures *out) {
    stel__lock_take(&pool.lock);
    *out = (stel__offload_figures){ .threads = pool.threads, .idle = pool.idle };
    stel__lock_give(&pool.lock);
}

/* ---- stel_offload ---- */

typedef struct user_job {
    stel__job job;
    int (*fn)(void *);
    void *argument;
    int result;
} user_job;

static void run_user_job(stel__job *job) {
    user_job *u = STEL__CONTAINER(job, user_job, job);
    u->result = u->fn(u->argument);
}

int stel_offload(int *result, int (*fn)(void *), void *arg) {
    if (!fn) return -EINVAL;
    if (stel__load_relaxed(&stel__forked)) return -EPERM; /* no partner: set before the child runs anything */
    stel__waiter *w = stel__waiter_self();
    if (!w) return -ENOMEM;
    user_job u = { .job = { .run = run_user_job }, .fn = fn, .argument = arg };
    int rc = stel__job_run(&u.job, w);
    if (rc < 0) return rc;
    if (result) *result = u.result;
    return 0;
}
