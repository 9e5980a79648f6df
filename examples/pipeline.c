/* pipeline: three stages that know nothing of each other but the channels between them.
 *
 * The idea: share by handing over. numbers -> squares (four fibers) -> sum. A full channel holds up whoever fills it,
 * so a slow stage slows the ones before it and memory stays bounded; closing a channel tells the next stage that
 * nothing more will come: receive drains what is left and then returns -EPIPE.
 *
 *     cc pipeline.c $(pkg-config --cflags --libs stellane-fiber) -o pipeline && ./pipeline
 *
 * It prints: the sum of the first 1000 squares is 333833500 */
#include <errno.h>
#include <stdio.h>
#include <stellane/stellane.h>

enum { NUMBERS = 1000, SQUARERS = 4 };

struct pipeline {
    stel_chan *numbers, *squares;
    stel_waitgroup squarers; /* how many still write to squares */
};

static int count(void *arg) {
    struct pipeline *p = arg;
    int rc = 0;
    for (uint64_t i = 1; i <= NUMBERS && rc == 0; i++)
        rc = stel_chan_send(p->numbers, &i);
    stel_chan_close(p->numbers);
    return rc;
}

static int square(void *arg) {
    struct pipeline *p = arg;
    uint64_t n;
    int rc;
    while ((rc = stel_chan_recv(p->numbers, &n)) == 0) {
        n *= n;
        if ((rc = stel_chan_send(p->squares, &n)) < 0) break;
    }
    stel_waitgroup_done(&p->squarers);
    return rc == -EPIPE ? 0 : rc; /* closed and drained: the ordinary end */
}

/* squares has several writers: it is closed when the last of them has ended. */
static int close_squares(void *arg) {
    struct pipeline *p = arg;
    int rc = stel_waitgroup_wait(&p->squarers);
    stel_chan_close(p->squares);
    return rc;
}

static int app(void *arg) {
    struct pipeline *p = arg;
    uint64_t sum = 0, n;
    stel_fiber parts[SQUARERS + 2];
    int started = 0, rc, result;

    stel_waitgroup_add(&p->squarers, SQUARERS);
    rc = stel_spawn(&parts[started++], count, p);
    for (int i = 0; i < SQUARERS && rc == 0; i++)
        rc = stel_spawn(&parts[started++], square, p);
    if (rc == 0) rc = stel_spawn(&parts[started++], close_squares, p);
    if (rc < 0) { /* no fiber to be had: closed channels end the ones that there are */
        stel_chan_close(p->numbers);
        stel_chan_close(p->squares);
        return rc;
    }

    while ((rc = stel_chan_recv(p->squares, &n)) == 0)
        sum += n;
    rc = rc == -EPIPE ? 0 : rc;
    for (int i = 0; i < started; i++) {
        int joined = stel_join(parts[i], &result);
        if (rc == 0) rc = joined < 0 ? joined : result;
    }
    printf("the sum of the first %d squares is %llu\n", NUMBERS, (unsigned long long)sum);
    return rc;
}

int main(void) {
    struct pipeline p = { NULL, NULL, STEL_WAITGROUP_INIT };
    int rc = stel_chan_create(&p.numbers, sizeof(uint64_t), 16);
    if (rc == 0) rc = stel_chan_create(&p.squares, sizeof(uint64_t), 16);
    if (rc == 0) rc = stel_run(app, &p);
    if (rc < 0) fprintf(stderr, "pipeline: %s\n", stel_strerror(rc));
    stel_chan_destroy(p.numbers);
    stel_chan_destroy(p.squares);
    return rc < 0;
}
