/* What the files of the poller room share: backends by name, and what pollers, operations and slots know of each
 * other. */
#ifndef STEL_POLLER_INSIDE_H
#define STEL_POLLER_INSIDE_H

#include "poller/poller.h"

extern const stel_backend_ops stel__epoll_ops;
extern const stel_backend_ops stel__io_uring_ops;       /* a ring that one worker owns */
extern const stel_backend_ops stel__io_uring_files_ops; /* one that all share; not known by name */
int stel__io_uring_fd(void *instance);                  /* readable when there are events */

/* NULL: no such backend, and no such module. The name given back lives for ever. */
const stel_backend_ops *stel__backend_find(const char *name, const char **its_name);
bool stel__backend_is_registered(const char *name);
/* Load the module of a backend that is not registered, and register it. 0; -ENOENT: there is none; -ELIBBAD: it cannot be
 * used; -EPERM after a fork. The reason, in words, in why. */
int stel__module_load(const char *name, char *why, size_t bytes);

/* ---- one poller: poller.c ---- */

struct stel__poller {
    /* fixed after creation */
    stel__pollers *group;
    const stel_backend_ops *ops;
    unsigned capabilities; /* the backend's */
    void *instance;
    /* atomic */
    _Atomic int watched;    /* descriptors registered, as far as we know, and operations that are on: does polling make
                               sense? A hint */
    _Atomic uint64_t polls; /* counted by whoever waits or polls, read by figures */
    _Atomic(struct stel__files *) files; /* files.c: made when first asked for */
    /* whoever waits or polls */
    stel_backend_event *events;
    int room;
};

int stel__poller_init(stel__poller *p, stel__pollers *g, const stel_backend_ops *ops, int batch);
void stel__poller_end(stel__poller *p);
/* Wait until `until` (0: do not) for a batch of events, and hand them out. */
void stel__poller_take(stel__poller *p, int batch, int64_t until);
static inline bool stel__poller_can(const stel__poller *p, unsigned capability) {
    return (p->capabilities & capability) != 0;
}
/* Register fd for events under token; 0, -EEXIST, -EPERM or another error. */
int stel__poller_arm(stel__poller *p, int fd, short events, uint64_t token);
int stel__poller_disarm(stel__poller *p, int fd);
/* Something to be watched has come into being (+1) or gone (-1). */
static inline void stel__poller_watch(stel__poller *p, int n) {
    stel__add_relaxed(&p->watched, n); /* a hint */
}
static inline stel__pollers *stel__pollers_of(const stel__poller *p) {
    return p ? p->group : NULL;
}
/* The poller of the calling fiber's worker. */
static inline stel__poller *stel__poller_self(void) {
    return stel__sched_point();
}

/* ---- files.c: operations on files, where the backend has none ---- */
enum { STEL__FILES_TOKEN = 0xffffffff }; /* no slot's: a slot is a number that is not negative */
/* The ring beside p's backend, or NULL: there is none to be had. */
struct stel__files *stel__files_of(stel__poller *p);
int stel__files_submit(struct stel__files *f, stel_operation *op);
void stel__files_take(stel__poller *p); /* its descriptor was reported ready */
void stel__files_end(stel__poller *p);
const char *stel__files_reason(bool *can); /* can they be had, and why (not) */

/* ---- operation.c ---- */
void stel__operation_complete(uint64_t token, int32_t result); /* a backend's event */

/* ---- slots ---- */

extern _Atomic int stel__slot_segments_end; /* segments from here on were never made */

/* What a node's flags say, besides the poll(2) events that it waits for. OPERATION: it waits for one, not for an event. */
enum { STEL__NODE_QUEUED = 0x100, STEL__NODE_ACCEPTOR = 0x200, STEL__NODE_OPERATION = 0x400, STEL__NODE_EVENTS = 0xff };
/* A waker's which, besides poll(2) events (below 0x4000) and STEL__SLOT_LOOK_AGAIN (the number is what it was). CHANGED:
 * it may be another file by now, and whoever waited is its reader or writer all the same. HEAL: begin your operation
 * anew. COMPLETE: an operation is. */
enum {
    STEL__SLOT_CLOSED = 0x4001,
    STEL__SLOT_CHANGED = 0x4002,
    STEL__SLOT_HEAL = 0x4003,
    STEL__SLOT_COMPLETE = 0x4004
};

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
/* Under s->lock, for a fiber of g's runtime (NULL: a plain thread). flags: STEL__SLOT_..., and STEL__NODE_OPERATION. */
static inline void stel__slot_enlist(stel__slot *s, stel__node *n, const stel__waiter *w, stel__pollers *g,
                                     short events, unsigned flags) {
    /* What an operation waits for is the backend's affair: no event of a slot chooses it. */
    unsigned wanted = flags & STEL__NODE_OPERATION ? STEL__NODE_OPERATION : (unsigned)events & STEL__NODE_EVENTS;
    n->element = g;
    n->waiter = w->index;
    n->flags = (uint16_t)(STEL__NODE_QUEUED | wanted | (flags & STEL__SLOT_ACCEPTOR ? STEL__NODE_ACCEPTOR : 0u));
    stel__list_push_tail(&s->waiters, &n->link);
    stel__store_relaxed(&s->newest, w->index + 1); /* read without the lock, for hints */
    if (!(flags & STEL__SLOT_SAME_WAIT)) s->waits++;
}
bool stel__slot_delist(stel__slot *s, stel__node *n); /* false: it was chosen, and n->which says why */
/* Under s->lock: have the number watched for a fiber on p's worker that waits for events. 0 or an error. */
int stel__slot_watched(stel__slot *s, int fd, stel__poller *p, short events);
short stel__slot_wanted(const stel__slot *s); /* under s->lock: for which events do its waiters wait? */
void stel__slot_new_life(stel__slot *s, stel__wakes *wakes);
bool stel__slot_moved(const stel__slot *s, stel__slot_mark mark, short events);
static inline uint64_t stel__slot_token(const stel__slot *s, int fd) {
    return (uint64_t)stel__load_relaxed(&s->generation) << 32 | (uint32_t)fd; /* under the lock: no partner */
}

/* What a waiter that was woken with which is to return. */
int stel__slot_outcome(stel__slot *s, stel__slot_mark mark, int which);
/* Why a wait for events, or with these flags, is one. */
enum stel__reason stel__slot_reason(short events, unsigned flags);

/* A plain thread's way to wait: see slot_thread.c. */
int stel__slot_wait_thread(stel__slot *s, int fd, stel__waiter *w, stel__slot_mark mark, short events,
                           enum stel__reason reason);
int stel__thread_eventfd(void); /* the calling thread's own, or an error */
/* Asleep on fds, the last of which is the thread's eventfd, while the wait is PREPARED. 0: something has happened; or
 * an error, -ETIMEDOUT also at `until`. */
int stel__thread_sleep(stel__waiter *w, struct pollfd *fds, nfds_t n, int64_t until);
/* The end of such a wait, off all lists. code: what sleep said. A waker's which, or a negative code. */
int stel__thread_awake(stel__waiter *w, int wake_fd, int code);

/* On the lists of all watches that are not passed over, registered unless an operation or (p NULL) a thread waits: 0, STEL__SLOT_LOOK_AGAIN (do not
 * sleep) or an error; whatever it is, delist is owed. */
int stel__slots_enlist(stel__slot_watch *watches, size_t n, const stel__waiter *w, stel__poller *p, unsigned flags);
void stel__slots_delist(stel__slot_watch *watches, size_t n);
/* Many at once by operations: see operation.c. As stel__slots_wait. */
int stel__slots_operate(stel__slot_watch *watches, size_t n, stel__waiter *w, int64_t until);

/* A backend's event: poll(2) bits for the number and generation in token. Of many it is better to have first their slots
 * brought into the cache (expect), then their waiters. */
void stel__slot_event(uint64_t token, int32_t events);
void stel__slot_expect(uint64_t token);
void stel__slot_expect_waiter(uint64_t token);
/* Look at some slots from *cursor on, and register again those of g's that have been parked for long. */
void stel__slot_heal_some(stel__pollers *g, uint32_t *cursor, int64_t now);
/* p goes away: no slot may name it any more. */
void stel__slot_forget_poller(stel__poller *p);

#endif
