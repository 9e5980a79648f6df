/* io: blocking-style calls on descriptors, files and names, and the offload pool. What programs use is in
 * stellane/io.h; here is what other rooms may ask. */
#ifndef STEL_IO_H
#define STEL_IO_H

#include "base/base.h"
#include "sched/waiter.h"

/* ---- the offload pool (offload.c has the essay) ---- */

/* A call that blocks, to be run on a thread of the pool. The caller owns its memory; see stel__job_run. */
typedef struct stel__job {
    void (*run)(struct stel__job *job);
    /* NULL, or how to be rid of a job that nobody waits for any more: such a job may be left behind while it runs. */
    void (*dispose)(struct stel__job *job);
    /* the pool's */
    stel__link link;
    stel__ticket ticket;
    int state;
} stel__job;

/* Run it, and wait until it has run: 0. Errors: -ETIMEDOUT, -ECANCELED (cut short while it was queued, or, if it can be
 * disposed of, while it ran), -EAGAIN (no thread), -EPERM (after fork). After an error a job with a dispose function is
 * no longer the caller's; one without has not been run and will not be. */
int stel__job_run(stel__job *job, stel__waiter *w);
/* The same, but where the pool cannot be had the calling thread blocks instead; and plain threads always do. */
int stel__job_run_somehow(stel__job *job, stel__waiter *w);
/* The same, and nothing cuts it short: for the rest of a call that has begun. */
void stel__job_run_to_end(stel__job *job, stel__waiter *w);

typedef struct stel__offload_figures {
    int threads, idle;
} stel__offload_figures;
void stel__offload_figures_get(stel__offload_figures *out);

#endif
