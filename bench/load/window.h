/* The measured part of an echo workload: the clocks at both ends, the latencies of what was answered, the report. */
#ifndef BENCH_LOAD_WINDOW_H
#define BENCH_LOAD_WINDOW_H

#include "../common/bench.h"
#include "server.h"

typedef struct window {
    int64_t wall, load;
    server_costs server;
} window;

/* What reading the server's clock costs itself falls outside of the window, at both ends. */
window window_begin(void);
window window_end(void);

/* Forget all latencies. */
void latencies_clear(void);
void latencies_add(int64_t ns);
uint64_t latencies_count(void);
int64_t latencies_sum(void);

/* What is reported of a window in which `answered` requests were answered: throughput, latencies, what both sides used.
 * load_share: of this process's CPU, how much it was busy. Returns the server's share of its CPUs. */
double window_report(const window *from, const window *to, uint64_t answered, double load_share, uint64_t checksum);
/* Who was the limit, as the harness reads it. */
void window_report_limit(const char *who);

#endif
