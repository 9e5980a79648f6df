/* A connection of the echo workloads: one request under way at a time, each answer compared byte by byte. */
#ifndef BENCH_LOAD_CONNECTION_H
#define BENCH_LOAD_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

enum { CONNECTION_EVENTS = 256 };

typedef struct connection {
    int fd;
    bool waiting;   /* a request is under way */
    size_t got;     /* bytes of its answer */
    uint64_t count; /* requests sent */
    int64_t since;  /* what the latency of the one under way counts from */
} connection;

extern connection *connections; /* as many as the parameter connections says */
extern int connection_count;
extern uint64_t connection_requests; /* sent on all of them */

/* Connect them all; parameters connections, bytes, port. */
void connections_open(void);
/* Send the next request. */
void connection_send(connection *c, int64_t since);
/* Data arrived. Returns the time if that completed an answer, otherwise 0. */
int64_t connection_receive(connection *c);
/* What has arrived: connections in data.ptr; waits no longer than timeout_ms. */
int connections_poll(struct epoll_event events[CONNECTION_EVENTS], int timeout_ms);

#endif
