/* Accepting for the raw loops: on a thread of its own, which sleeps once all have connected; they go to the loops in
 * turn. */
#ifndef BENCH_RAW_ACCEPT_H
#define BENCH_RAW_ACCEPT_H

/* Begin to accept; give is called with each connection, on that thread. Returns the port. */
int accept_for(int loops, void (*give)(int loop, int fd));

#endif
