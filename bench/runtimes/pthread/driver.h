/* What the parts of this driver share. */
#ifndef BENCH_PTHREAD_DRIVER_H
#define BENCH_PTHREAD_DRIVER_H

#include <pthread.h>
#include <stdint.h>

/* A thread with a small stack, and its result. */
void spawn(pthread_t *out, void *(*fn)(void *), void *arg);
uintptr_t join(pthread_t t);

/* live=n: as many threads that wait beside what is measured. */
void live_begin(void);
void live_end(void);

void run_read(void);
void run_read_through(void);
void run_append(void);
void run_tree(void);
void run_fairness(void);

#endif
