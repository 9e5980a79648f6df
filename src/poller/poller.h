/* poller: descriptors. A process-wide table of slots, one a descriptor number, in which waiters park until the number
 * is ready; backends (stellane/backend.h) that say which numbers are. Knows nothing of what runs.
 *
 *   pollers     those of one runtime: one instance of a backend for all workers or one each; sched's idle hook
 *   operations  what a backend does for a fiber that waits for its end
 *   slots       slot.c has the essay: states, edges, the race between "would wait" and "parked" */
#ifndef STEL_POLLER_H
#define STEL_POLLER_H

#include "base/base.h"
#include "host/host.h"
#include "sched/sched.h"
#include <poll.h>
#include <stellane/backend.h>

typedef struct stel__pollers stel__pollers; /* one a runtime: its pollers, and how they are used */
typedef struct stel__poller stel__poller;   /* an instance of a backend */

/* ---- the pollers of a runtime: pollers.c ---- */

typedef struct stel__pollers_options {
    const char *backend; /* a name, or "auto" (also NULL and "") */
    int mode;            /* STEL_POLLER_...; 0: what suits the backend */
    int workers;
    int batch; /* events taken in one poll, 1 ... 4096 */
} stel__pollers_options;

/* Errors: -EINVAL (no such backend, or a mode that it cannot be used in: after a line on stderr), -ENOMEM, and what the
 * backend says: -EMFILE and -ENFILE when there are no descriptors for it. A backend that this machine forbids is not an
 * error: another is used, and a line on stderr says why, once. */
int stel__pollers_create(stel__pollers **out, const stel__pollers_options *o);
void stel__pollers_destroy(stel__pollers *g); /* its descriptors are registered elsewhere when waited for again */
void stel__pollers_set_batch(stel__pollers *g, int batch); /* from the next poll on, if there is memory for it */
const char *stel__pollers_backend(const stel__pollers *g);
void stel__pollers_reason(const stel__pollers *g, char *text,
                          size_t bytes); /* why that one, and what files are done by */
int stel__pollers_mode(const stel__pollers *g);
stel__idle_hook stel__pollers_hook(stel__pollers *g); /* for sched */
bool stel__pollers_armed(const stel__pollers *g);     /* is anything waited for? A hint */
/* Called about every 100 ms by the poller thread: register again what has been parked for long (numbers closed or
 * duplicated behind the library's back heal so). */
void stel__pollers_heal(stel__pollers *g, int64_t now);
uint64_t stel__pollers_polls(const stel__pollers *g);
/* The runtime of g stops: its fibers that wait in accept look again, and see stel_stopping(). Call it after that has
 * become true. */
void stel__pollers_wake_acceptors(stel__pollers *g);

/* ---- operations: operation.c ---- */

/* Have op done for the calling fiber by whatever can (its worker's backend, or the runtime's ring for files), and wait
 * for its end whatever deadline and cancellation say. The result; -EOPNOTSUPP: nobody can (a plain thread hears that
 * always), and nothing was done. op's token and backend words are not the caller's. */
ssize_t stel__operate(stel_operation *op, stel__waiter *w, enum stel__reason reason);
/* Do the calling fiber's descriptors have operations, so that stel__slot_operate is worth a try? */
extern _Atomic bool stel__any_operates; /* a runtime's have, or had */
bool stel__this_one_operates(const stel__waiter *w);
static inline bool stel__operates_on_slots(const stel__waiter *w) {
    return STEL__UNLIKELY(stel__load_relaxed(&stel__any_operates)) && stel__this_one_operates(w); /* set before w ran */
}

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
    _Atomic uint32_t newest;     /* of the waiters on the list: 1 + its index; 0: there is none */
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
    uint8_t away; /* waits in a row by fibers of other workers than the one where it is registered */
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

/* ACCEPTOR: the stop of its runtime ends the wait. CHILD: it is shown as a wait for a child process. SAME_WAIT: goes on
 * with one that heal.c has seen already. */
enum { STEL__SLOT_ACCEPTOR = 1, STEL__SLOT_CHILD = 2, STEL__SLOT_SAME_WAIT = 4, STEL__SLOT_LOOK_AGAIN = 0x4000 };
/* Wait until fd is ready for one of events (POLLIN, POLLOUT, POLLPRI), unless it may have become so since mark was
 * taken. The events that held when it became ready, or STEL__SLOT_LOOK_AGAIN: whatever there is to do, try it again.
 * Errors: -EBADF (closed since), -EPERM (never waited for), -ETIMEDOUT, -ECANCELED, -ESHUTDOWN (an acceptor's, its
 * runtime stops), -ENOMEM, -ENOSPC (the user's limit of watched descriptors); a plain thread's also -EMFILE. */
int stel__slot_wait(stel__slot *s, int fd, stel__waiter *w, stel__slot_mark mark, short events, unsigned flags);

/* Have op done on fd, as stel__slot_wait waits: cut short by the caller's limits, a close, an acceptor's stop, and then
 * nothing was done. The result, errors as of slot_wait and the operation's own; -EOPNOTSUPP: nobody can, so wait for
 * readiness; STEL__LOOK_AFRESH: the number may have become another file; try again whatever there is to do. */
enum { STEL__LOOK_AFRESH = -100001 };
ssize_t stel__slot_operate(stel__slot *s, int fd, stel_operation *op, stel__waiter *w, stel__slot_mark mark,
                           unsigned flags);

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
