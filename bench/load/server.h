/* What a server costs, seen from outside: the load generator reads it at both ends of its window. */
#ifndef BENCH_LOAD_SERVER_H
#define BENCH_LOAD_SERVER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct server_costs {
    int64_t cpu_ns;   /* of all its threads, those that have ended too */
    int64_t switches; /* context switches, voluntary or not, of the threads that live */
    int64_t calls;    /* system calls, once server_count_calls has said yes */
} server_costs;

/* The server is the process of the parameter pid. details: read switches and calls as well; only for servers of few
 * threads, because each is a file to be read. */
void server_open(bool details);
server_costs server_read(void);

/* Count its system calls from now on, by the kernel's own trace point: each becomes some 100 ns slower, but nobody is
 * stopped for it, so the server goes on working as it did. Says why not, and returns false, when that is not allowed here
 * (it takes root, or perf_event_paranoid -1, and a mounted tracefs). */
bool server_count_calls(void);

/* Write the results "switches" and "calls", of one operation. */
void server_report_switches(const server_costs *from, const server_costs *to, int64_t operations);
void server_report_calls(const server_costs *from, const server_costs *to, int64_t operations);

/* VmRSS + VmPTE. */
int64_t server_memory(void);

#endif
