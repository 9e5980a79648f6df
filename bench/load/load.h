/* What the parts of the load generator share. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

/* A connection to the loopback, with TCP_NODELAY. */
int load_connect(int port);

void run_closed(void);
void run_open(void);
void run_idle(void);
void run_wake(void);

#endif
