/* stellane/backend.h: polling backends that users plug in. EXPERIMENTAL until three very different ones live behind it.
 *
 * A backend tells which descriptors are ready (READY) or which operations are complete (COMPLETE). It knows no fibers:
 * it fills a batch of events and the library wakes whoever waits. The library serialises wait() calls (one at a time an
 * instance); arm, disarm, submit, cancel and interrupt may come from any thread at any time. */
#ifndef STELLANE_BACKEND_H
#define STELLANE_BACKEND_H

#include <stellane/base.h>

STEL_BEGIN_DECLS

#define STEL_BACKEND_ABI 1

enum stel_backend_capabilities {
    STEL_BACKEND_READINESS = 1u << 0, /* arm, disarm; events are edge-triggered */
    STEL_BACKEND_COMPLETION = 1u << 1 /* submit, cancel */
};
enum stel_backend_event_kind { STEL_EVENT_READY = 1, STEL_EVENT_COMPLETE = 2 };

typedef struct stel_backend_event {
    uint64_t token; /* as given to arm or submit */
    int32_t result; /* READY: poll(2) events that hold; COMPLETE: a count or a negative errno value */
    uint16_t kind;
    uint16_t flags;
} stel_backend_event;

typedef struct stel_backend_ops {
    size_t size; /* sizeof(stel_backend_ops) */
    int abi;     /* STEL_BACKEND_ABI */
    unsigned capabilities;
    int (*create)(void **instance, int batch); /* batch: how many events a wait is asked for; may be raised later */
    void (*destroy)(void *instance);
    /* Watch fd for POLLIN, POLLOUT, POLLPRI, POLLRDHUP and errors, edge-triggered, until disarm or close. 0; -EEXIST:
     * fd is watched already (its token stays); -EPERM: this kind of file is never waited for; other errors as they
     * come. */
    int (*arm)(void *instance, int fd, uint64_t token);
    int (*disarm)(void *instance, int fd);
    int (*submit)(void *instance, const void *operation, uint64_t token);
    int (*cancel)(void *instance, uint64_t token);
    /* Wait until an event, interrupt() or the point in time until (CLOCK_MONOTONIC; 0: do not wait; STEL_FOREVER), and
     * fill at most n events. Returns their count; 0 is no error. */
    int (*wait)(void *instance, stel_backend_event *events, int n, int64_t until);
    /* Make the wait that runs, or else the next one, return early. */
    void (*interrupt)(void *instance);
} stel_backend_ops;

/* Make a backend known by name (copied, at most 31 bytes); ops must live for ever. "epoll" ships with the library.
 * Errors: -EINVAL (a member missing, an abi we do not know), -EEXIST, -ENOSPC (16 are registered). */
STEL_API STEL_MUST_CHECK int stel_backend_register(const char *name, const stel_backend_ops *ops);
STEL_API bool stel_backend_has(const char *name);
/* Fill at most n names; returns how many backends there are. The names live for ever. */
STEL_API size_t stel_backend_list(const char **names, size_t n);

STEL_END_DECLS
#endif
