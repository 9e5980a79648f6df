/* embedded: a runtime inside a program that has threads and a main loop of its own.
 *
 * The idea: fibers and threads are peers. Here main is an event loop round poll(2), as a GUI or a game has one, and never
 * waits for anything else; a pthread has work to give away. It spawns fibers into the runtime, sends them jobs through
 * a channel (a full channel holds up the thread, as it would a fiber) and joins them. Results come back through a
 * second channel, and an eventfd, which any poll loop understands, tells main to look. The runtime's threads are its own:
 * main is never one of them.
 *
 *     cc embedded.c $(pkg-config --cflags --libs stellane-fiber) -pthread -o embedded && ./embedded
 *
 * It prints what came in and what main did meanwhile:
 *
 *     40 results, sum 22140
 *     main turned 58 times, the heart beat 11 times
 *     stopped */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { CONSUMERS = 4, JOBS = 40, TURN_MS = 10 };

struct result {
    uint64_t number, square;
};

struct program {
    stel_runtime *runtime;
    stel_chan *jobs, *results;
    int wake;       /* eventfd: there is something in results, or it was closed */
    uint64_t turns; /* main's */
    uint64_t beats; /* the heartbeat's; read when the runtime has stopped */
};

static int wake_main(const struct program *p) {
    uint64_t one = 1;
    ssize_t n = stel_write(p->wake, &one, sizeof one);
    return n < 0 ? (int)n : 0;
}

/* ---- fibers ---- */

static int consume(void *arg) {
    struct program *p = arg;
    struct result r;
    int rc;
    while ((rc = stel_chan_recv(p->jobs, &r.number)) == 0) {
        if ((rc = stel_sleep(STEL_MS(5))) < 0) break; /* a back end that takes its time */
        r.square = r.number * r.number;
        if ((rc = stel_chan_send(p->results, &r)) < 0 || (rc = wake_main(p)) < 0) break;
    }
    return rc == -EPIPE ? 0 : rc; /* no more jobs */
}

/* Something that would go on for ever: the stop cancels it. */
static int heartbeat(void *arg) {
    struct program *p = arg;
    while (stel_sleep(STEL_MS(5)) == 0)
        p->beats++;
    return 0;
}

/* ---- a thread of the program's own ---- */

static void *produce(void *arg) {
    struct program *p = arg;
    stel_fiber consumers[CONSUMERS];
    int started = 0, rc = 0;
    while (rc == 0 && started < CONSUMERS)
        if ((rc = stel_runtime_spawn(p->runtime, &consumers[started], NULL, consume, p)) == 0) started++;
    for (uint64_t number = 1; number <= JOBS && rc == 0; number++)
        rc = stel_chan_send(p->jobs, &number);
    stel_chan_close(p->jobs);
    for (int i = 0; i < started; i++) {
        int ended = 0, joined = stel_join(consumers[i], &ended);
        if (rc == 0) rc = joined < 0 ? joined : ended;
    }
    stel_chan_close(p->results);
    int woken = wake_main(p);
    return (void *)(intptr_t)(rc < 0 ? rc : woken);
}

/* ---- main ---- */

/* The main loop. Whatever else the program has to watch stands in the same poll. */
static int run_loop(struct program *p) {
    struct pollfd watched = { p->wake, POLLIN, 0 };
    uint64_t sum = 0, results = 0, count;
    int rc = -EAGAIN;
    while (rc == -EAGAIN) {
        int ready = poll(&watched, 1, TURN_MS);
        if (ready < 0 && errno != EINTR) return -errno;
        p->turns++; /* here a frame would be drawn */
        if (ready <= 0) continue;
        if (read(p->wake, &count, sizeof count) < 0) return -errno; /* first this, then the channel: no wake is lost */
        struct result r;
        while ((rc = stel_chan_try_recv(p->results, &r)) == 0) {
            sum += r.square;
            results++;
        }
    }
    printf("%" PRIu64 " results, sum %" PRIu64 "\n", results, sum);
    return rc == -EPIPE ? 0 : rc; /* closed and drained: all is done */
}

static int use(struct program *p) {
    pthread_t producer;
    void *produced;
    int rc = stel_runtime_spawn(p->runtime, NULL, NULL, heartbeat, p);
    if (rc < 0) return rc;
    if ((rc = pthread_create(&producer, NULL, produce, p)) != 0) return -rc;
    rc = run_loop(p);
    if (rc < 0) { /* nobody takes results any more: whoever would wait for that goes on with -EPIPE */
        stel_chan_close(p->jobs);
        stel_chan_close(p->results);
    }
    pthread_join(producer, &produced);
    return rc < 0 ? rc : (int)(intptr_t)produced;
}

int main(void) {
    struct program p = { .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    int rc = p.wake < 0 ? -errno : stel_chan_create(&p.jobs, sizeof(uint64_t), 4);
    if (rc == 0) rc = stel_chan_create(&p.results, sizeof(struct result), 16);
    if (rc == 0) rc = stel_runtime_create(&p.runtime, NULL);
    if (rc == 0) rc = stel_runtime_start(p.runtime);
    if (rc == 0) {
        rc = use(&p);
        int stopped = stel_runtime_stop(p.runtime, 0); /* no grace: nothing that matters is left */
        if (stopped < 0) {
            fprintf(stderr, "embedded: stop: %s\n", stel_strerror(stopped));
            return EXIT_FAILURE; /* there are fibers that use what would be put away below */
        }
        printf("main turned %" PRIu64 " times, the heart beat %" PRIu64 " times\n", p.turns, p.beats);
    }
    if (p.runtime && stel_runtime_destroy(p.runtime) == 0) printf("stopped\n");
    stel_chan_destroy(p.results);
    stel_chan_destroy(p.jobs);
    if (p.wake >= 0) stel_close(p.wake); /* not close: the library has waited on it, and forgets it so */
    if (rc < 0) fprintf(stderr, "embedded: %s\n", stel_strerror(rc));
    return rc < 0;
}
