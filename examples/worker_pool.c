/* worker_pool: a fixed number of fibers, fed by one channel, answering by another, stopped by a token.
 *
 * The idea: cancelling work that computes. A fiber that waits is cut short by its cancellation wherever it waits; one
 * that computes has to look for itself: stel_cancelled(), and stel_yield() so that others get their turn. One token
 * cancels the whole pool at once, however many there are in it and whatever each is doing. What must still be said
 * after a cancellation is said behind a shield.
 *
 * Here a job counts the primes of a range. Job 0 has no end: it is what the cancellation is for.
 *
 *     cc worker_pool.c $(pkg-config --cflags --libs stellane-fiber) -o worker_pool
 *     ./worker_pool 4                                    four fibers; at least two, as job 0 keeps one of them
 *
 * It prints the results as they come, and at the end how the fibers ended:
 *
 *     job 1: 9592 primes
 *     ...
 *     10 jobs done, 78498 primes
 *     job 0: given up (cancelled (ECANCELED)) with 78939 primes
 *     4 workers ended, 4 of them cancelled */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>

enum { JOBS = 10, RANGE = 100000, NUMBERS_A_TURN = 500, WORKERS_MAX = 64 };

struct job {
    int number;
    uint64_t from, to; /* to 0: without end */
};

struct result {
    int number, code;
    uint64_t primes;
};

struct pool {
    int workers;
    stel_chan *jobs, *results;
    stel_cancel_token *stop;
    stel_fiber fibers[WORKERS_MAX + 1]; /* the workers and, last, who feeds them */
};

static bool is_prime(uint64_t n) {
    if (n < 4) return n > 1;
    for (uint64_t d = 2; d <= n / d; d += d == 2 ? 1 : 2)
        if (n % d == 0) return false;
    return true;
}

static int count_primes(const struct job *job, uint64_t *primes) {
    for (uint64_t n = job->from; n != job->to; n++) {
        if (is_prime(n)) ++*primes;
        if (n % NUMBERS_A_TURN == 0) { /* often enough to be fair and to stop soon, seldom enough to cost nothing */
            if (stel_cancelled()) return -ECANCELED;
            stel_yield();
        }
    }
    return 0;
}

static int work(void *arg) {
    struct pool *pool = arg;
    struct job job;
    int rc;
    while ((rc = stel_chan_recv(pool->jobs, &job)) == 0) {
        struct result result = { job.number, 0, 0 };
        result.code = count_primes(&job, &result.primes);
        STEL_SHIELD(STEL_SEC(10)); /* or the send would be refused, and nobody would learn what became of the job */
        if ((rc = stel_chan_send(pool->results, &result)) < 0) break;
    }
    return rc; /* -ECANCELED: the only end there is here */
}

/* A fiber of its own: whoever sent the jobs and took the results in one loop would wait for itself. */
static int feed(void *arg) {
    struct pool *pool = arg;
    struct job job = { 0, 1, 0 };
    int rc = stel_chan_send(pool->jobs, &job);
    for (uint64_t i = 1; i <= JOBS && rc == 0; i++) {
        job = (struct job){ (int)i, (i - 1) * RANGE, i * RANGE };
        rc = stel_chan_send(pool->jobs, &job);
    }
    return rc;
}

static int start(struct pool *pool, int *started) {
    int rc = 0;
    for (int i = 0; i <= pool->workers && rc == 0; i++) {
        rc = stel_spawn(&pool->fibers[i], i < pool->workers ? work : feed, pool);
        if (rc < 0) break;
        ++*started;
        rc = stel_cancel_token_attach(pool->stop, pool->fibers[i]);
        if (rc == -ESRCH) rc = 0; /* has ended already */
    }
    return rc;
}

static int collect(struct pool *pool) {
    struct result result;
    uint64_t primes = 0;
    int rc = 0;
    for (int done = 0; done < JOBS && rc == 0; done++) {
        if ((rc = stel_chan_recv(pool->results, &result)) < 0) return rc;
        printf("job %d: %" PRIu64 " primes\n", result.number, result.primes);
        primes += result.primes;
        rc = result.code;
    }
    if (rc == 0) printf("%d jobs done, %" PRIu64 " primes\n", JOBS, primes);
    return rc;
}

static int app(void *arg) {
    struct pool *pool = arg;
    struct result result;
    int started = 0, cancelled = 0;
    int rc = start(pool, &started);
    if (rc == 0) rc = collect(pool);
    stel_cancel_token_cancel(pool->stop); /* also when something went wrong: nobody is left behind */
    for (int i = 0; i < started; i++) {
        int ended = 0, joined = stel_join(pool->fibers[i], &ended);
        if (rc == 0) rc = joined;
        if (i < pool->workers && ended == -ECANCELED) cancelled++;
    }
    while (stel_chan_try_recv(pool->results, &result) == 0)
        printf("job %d: given up (%s) with %" PRIu64 " primes\n", result.number, stel_strerror(result.code),
               result.primes);
    if (rc == 0) printf("%d workers ended, %d of them cancelled\n", pool->workers, cancelled);
    return rc;
}

int main(int argc, char **argv) {
    struct pool pool = { .workers = argc > 1 ? atoi(argv[1]) : 4 };
    if (pool.workers < 2 || pool.workers > WORKERS_MAX) {
        fprintf(stderr, "usage: worker_pool [workers, 2 to %d]\n", WORKERS_MAX);
        return 2;
    }
    int rc = stel_chan_create(&pool.jobs, sizeof(struct job), 2);
    /* Room for one result a worker: what is given up at the end finds its place although nobody receives any more. */
    if (rc == 0) rc = stel_chan_create(&pool.results, sizeof(struct result), (size_t)pool.workers);
    if (rc == 0) rc = stel_cancel_token_create(&pool.stop);
    if (rc == 0) rc = stel_run(app, &pool);
    if (rc < 0) fprintf(stderr, "worker_pool: %s\n", stel_strerror(rc));
    stel_cancel_token_release(pool.stop);
    stel_chan_destroy(pool.results);
    stel_chan_destroy(pool.jobs);
    return rc < 0;
}
