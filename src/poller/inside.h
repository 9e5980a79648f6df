/* What the files of the poller room share: backends by name, and what pollers and slots know of each other. */
#ifndef STEL_POLLER_INSIDE_H
#define STEL_POLLER_INSIDE_H

#include "poller/poller.h"

extern const stel_backend_ops stel__epoll_ops;

/* NULL: no such backend. The name given back lives for ever. */
const stel_backend_ops *stel__backend_find(const char *name, const char **its_name);

/* The poller of the calling fiber's runtime. */
stel__poller *stel__poller_self(void);
/* Register fd under token; 0, -EEXIST, -EPERM or another error. */
int stel__poller_arm(stel__poller *p, int fd, uint64_t token);
/* A registration has come into being (+1) or gone (-1). */
void stel__poller_registered(stel__poller *p, int n);

int stel__poller_disarm(stel__poller *p, int fd);

extern _Atomic int stel__slot_segments_end; /* segments from here on were never made */

/* What a node's flags say, besides the poll(2) events that it waits for. */
enum { STEL__NODE_QUEUED = 0x100, STEL__NODE_ACCEPTOR = 0x200, STEL__NODE_EVENTS = 0xff };
/* A waker's which, besides poll(2) events (below 0x4000) and STEL__SLOT_LOOK_AGAIN (the number is what it was). CHANGED:
 * it may be another file by now, and whoever waited is its reader or writer all the same. */
enum { STEL__SLOT_CLOSED = 0x4001, STEL__SLOT_CHANGED = 0x4002 };

/* Wakes that are owed: gathered under a slot's lock, paid after it. */
enum { STEL__WAKES_ROOM = 8 };
typedef struct stel__wakes {
    unsigned n;
    stel__ticket tickets[STEL__WAKES_ROOM];
    uint16_t which;
} stel__wakes;

/* Under s->lock: take off the waiters for whom chosen says so (NULL: all). */
void stel__slot_choose(stel__slot *s, stel__wakes *wakes, bool (*chosen)(const stel__node *, const void *),
                       const void *argument);
void stel__wakes_pay(stel__wakes *wakes);
/* Under s->lock. */
void stel__slot_enlist(stel__slot *s, stel__node *n, const stel__waiter *w, stel__poller *p, short events,
                       unsigned flags);
bool stel__slot_delist(stel__slot *s, stel__node *n); /* false: it was chosen, and n->which says why */
int stel__slot_arm(stel__slot *s, int fd, stel__poller *p);
void stel__slot_new_life(stel__slot *s, stel__wakes *wakes);
bool stel__slot_moved(const stel__slot *s, stel__slot_mark mark, short events);
static inline uint64_t stel__slot_token(const stel__slot *s, int fd) {
    return (uint64_t)stel__load_relaxed(&s->generation) << 32 | (uint32_t)fd; /* under the lock: no partner */
}

/* What a waiter that was woken with which is to return. */
int stel__slot_outcome(stel__slot *s, stel__slot_mark mark, int which);

/* A plain thread's way to wait: see slot_thread.c. */
int stel__slot_wait_thread(stel__slot *s, int fd, stel__waiter *w, stel__slot_mark mark, short events,
                           enum stel__reason reason);
int stel__thread_eventfd(void); /* the calling thread's own, or an error */
/* Asleep on fds, the last of which is the thread's eventfd, while the wait is PREPARED. 0: something has happened; or
 * an error, -ETIMEDOUT also at `until`. */
int stel__thread_sleep(stel__waiter *w, struct pollfd *fds, nfds_t n, int64_t until);
/* The end of such a wait, off all lists. code: what sleep said. A waker's which, or a negative code. */
int stel__thread_awake(stel__waiter *w, int wake_fd, int code);

/* A backend's event: poll(2) bits for the number and generation in token. */
void stel__slot_event(uint64_t token, int32_t events);
/* Look at some slots from *cursor on, and register again those of p that have been parked for long. */
void stel__slot_heal_some(stel__poller *p, uint32_t *cursor, int64_t now);
/* p goes away: no slot may name it any more. */
void stel__slot_forget_poller(stel__poller *p);

#endif
