/* The workloads of files; main.c has the others. */
#ifndef BENCH_PTHREAD_FILES_H
#define BENCH_PTHREAD_FILES_H

void run_read(void);
void run_read_through(void);
void run_append(void);

#endif
