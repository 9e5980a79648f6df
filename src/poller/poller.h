/* poller: descriptors. A process-wide table of slots, one a descriptor number, in which waiters park until the number
 * is ready; backends (stellane/backend.h) that say which numbers are. Knows nothing of what runs.
 *
 *   pollers   one a runtime: an instance of a backend; sched's idle hook is made of it
 *   slots     slot.c has the essay: states, edges, the race between "would wait" and "parked" */
#ifndef STEL_POLLER_H
#define STEL_POLLER_H

#include "base/base.h"
#include "host/host.h"
#include "sched/sched.h"
#include <poll.h>
#include <stellane/backend.h>

typedef struct stel__poller stel__poller; /* one a runtime: an instance of a backend */

/* backend: a registered name, or "auto" (also NULL and ""). batch: events taken in one poll, 1 ... 4096.
 * Errors: -EINVAL (no such backend, or it cannot tell readiness), -ENOMEM, and what the backend says: -EMFILE and
 * -ENFILE when there are no descriptors for it. */
int stel__poller_create(stel__poller **out, const char *backend, int batch);
void stel__poller_set_batch(stel__poller *p, int batch); /* from the next poll on, if there is memory for it */
void stel__poller_destroy(stel__poller *p); /* its descriptors are re-registered elsewhere when waited for again */
const char *stel__poller_backend_name(const stel__poller *p);
stel__idle_hook stel__poller_hook(stel__poller *p); /* for sched */
/* Called about every 100 ms by the poller thread: register again what has been parked for long (numbers closed or
 * duplicated behind the library's back heal so). */
void stel__poller_heal(stel__poller *p, int64_t now);
uint64_t stel__poller_polls(const stel__poller *p);
/* The runtime of p stops: its fibers that wait in accept look again, and see stel_stopping(). Call it after that has
 * become true. */
void stel__poller_wake_acceptors(stel__poller *p);

/* The runtime of a fiber finds its poller through this; installed by the runtime room. */
void stel__poller_set_lookup(stel__poller *(*of_runtime)(stel_runtime *));

/* ---- slots ---- */

/* What is known of a number, found out once a life of it. The kind is in the low bits. */
enum stel__slot_facts {
    STEL__SLOT_UNKNOWN = 0,
    STEL__SLOT_TCP = 1,    /* stream, and a short read means that nothing was left */
    STEL__SLOT_STREAM = 2, /* any other stream socket */
    STEL__SLOT_PACKET = 3, /* a socket that keeps messages apart */
    STEL__SLOT_FILE = 4,   /* regular file, directory, block device: never waited for */
    STEL__SLOT_OTHER = 5,  /* pipes, ttys, eventfds and so on */
    STEL__SLOT_KIND = 7,
    STEL__SLOT_NONBLOCK = 1 << 3,      /* O_NONBLOCK was set when we looked (by us, if we made it) */
    STEL__SLOT_NO_NOWAIT_IN = 1 << 4,  /* RWF_NOWAIT is not understood for reading, */
    STEL__SLOT_NO_NOWAIT_OUT = 1 << 5, /* for writing */
    STEL__SLOT_NO_HINT = 1 << 6        /* a hang-up, an error or urgent data: short reads mean nothing from now on */
};

typedef struct stel__slot {
    /* read without the lock, written under it */
    _Atomic uint32_t generation; /* lives of the number that we know of */
    _Atomic uint32_t ready_in;   /* edges seen, for reading */
    _Atomic uint32_t ready_out;  /* and for writing */
    _Atomic uint32_t parked;     /* waiters on the list */
    _Atomic uint32_t facts;      /* also set by whoever finds them out, by or/and */
    /* hint, written by readers: what ready_in was before a read that left nothing (a stale one costs nothing) */
    _Atomic uint32_t drained;
    /* under the lock */
    stel__lock lock;
    uint32_t heal_due_ms;
    stel__list waiters;  /* of nodes; flags say for what they wait */
    stel__poller *armed; /* where the number is registered, as far as we know */
    uint16_t waits;      /* waits that were begun: how heal knows an old one */
    uint16_t heal_seen;
    uint8_t heal_step;
    bool strayed; /* an event came that carried an old life's token: what is registered may be that */
} STEL__ALIGNED(STEL__CACHE_LINE) stel__slot;

enum { STEL__SLOT_SEGMENT = 512, STEL__SLOT_SEGMENTS = 65536 };
extern _Atomic(stel__slot *) stel__slot_segments[STEL__SLOT_SEGMENTS];

/* The slot of fd, or NULL with *error set: -EBADF (no number), -EMFILE (33,554,432 or above), -ENOMEM. */
stel__slot *stel__slot_make(int fd, int *error);
static inline stel__slot *stel__slot_at(int fd, int *error) {
    unsigned n = (unsigned)fd;
    if (STEL__LIKELY(n < (unsigned)STEL__SLOT_SEGMENT * STEL__SLOT_SEGMENTS)) {
        stel__slot *segment = stel__load_acquire(&stel__slot_segments[n / STEL__SLOT_SEGMENT]); /* slot_make */
        if (STEL__LIKELY(segment != NULL)) return &segment[n % STEL__SLOT_SEGMENT];
    }
    return stel__slot_make(fd, error);
}

/* What a slot looked like before a system call that may say "would wait". */
typedef struct stel__slot_mark {
    uint32_t generation, ready_in, ready_out;
} stel__slot_mark;
static inline stel__slot_mark stel__slot_look(stel__slot *s) {
    /* acquire: pair with the stores of slot_event, made_by_us and close; the system call comes after. */
    stel__slot_mark m = { stel__load_acquire(&s->generation), stel__load_acquire(&s->ready_in),
                          stel__load_acquire(&s->ready_out) };
    return m;
}

/* ACCEPTOR: the stop of its runtime ends the wait. CHILD: it is shown as a wait for a child process. */
enum { STEL__SLOT_ACCEPTOR = 1, STEL__SLOT_CHILD = 2, STEL__SLOT_LOOK_AGAIN = 0x4000 };
/* Wait until fd is ready for one of events (POLLIN, POLLOUT, POLLPRI), unless it may have become so since mark was
 * taken. The events that held when it became ready, or STEL__SLOT_LOOK_AGAIN: whatever there is to do, try it again.
 * Errors: -EBADF (closed since), -EPERM (never waited for), -ETIMEDOUT, -ECANCELED, -ESHUTDOWN (an acceptor's, its
 * runtime stops), -ENOMEM, -ENOSPC (the user's limit of watched descriptors); a plain thread's also -EMFILE. */
int stel__slot_wait(stel__slot *s, int fd, stel__waiter *w, stel__slot_mark mark, short events, unsigned flags);

/* The number was just made by a call of ours: a new life with these facts. 0 or slot_make's errors. */
int stel__slot_made_by_us(int fd, unsigned facts);
/* Close fd, ending every wait on it with -EBADF. */
int stel__slot_close(int fd);
/* Find out the facts: 0 and *facts, or -EBADF and the like. */
int stel__slot_probe(stel__slot *s, int fd, unsigned *facts);
/* What we knew was wrong (the number changed behind our back): to be probed again. */
void stel__slot_forget(stel__slot *s);

/* Forget all that is known of fd, in the backend too; whoever waits on it looks again. 0, or -EBADF: no number. */
int stel__slot_release(int fd);

/* ---- many slots at once: see slot_many.c ---- */

typedef struct stel__slot_watch {
    stel__node node;
    stel__slot *slot; /* NULL: pass it over */
    stel__slot_mark mark;
    int fd;
    short events; /* as for poll(2); 0: hang-ups and errors only */
    bool listed, closed;
} stel__slot_watch;

/* Begin to watch fd: 0 or slot_at's errors. */
int stel__slot_watch_begin(stel__slot_watch *watch, int fd, short events);
/* Before the system call that may say that nothing is ready. */
void stel__slots_look(stel__slot_watch *watches, size_t n);
/* Wait until one of them may have become ready since slots_look. 0: look again; `closed` is set in those that were
 * closed since they were first looked at. Errors: -ETIMEDOUT (also at `until`), -ECANCELED, -ENOMEM, -ENOSPC; a plain
 * thread's also -EMFILE. room: n + 1 of them, for plain threads. */
int stel__slots_wait(stel__slot_watch *watches, size_t n, stel__waiter *w, int64_t until, struct pollfd *room);

#endif
