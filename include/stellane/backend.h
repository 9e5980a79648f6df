/* stellane/backend.h: polling backends that users plug in.
 *
 * A backend tells which descriptors are ready (READINESS), or carries out operations and tells when they are complete
 * (COMPLETION), or both. It knows no fibers: it fills a batch of events and the library wakes whoever waits. "epoll" and
 * "io_uring" ship with the library, "libuv" as a module; stel_backend_register adds yours, and its name is then good for
 * stel_config.backend and STELLANE_RUNTIME_BACKEND. docs/backends.md is the guide, examples/custom_backend.c a whole one.
 *
 * Threads. The library never runs two wait() calls on one instance at a time, but they may come from different threads,
 * unless the backend says OWNED: then all of an instance's wait() and submit() calls come from one thread. Everything
 * else may be called from any thread at any time, also while a wait is on.
 * destroy is the last call, and nothing is armed for a fiber or submitted by then. None may call the library back, but for
 * stel_now(), and none may take longer than its system calls do: only wait blocks.
 *
 * Instances. poller_mode "dedicated" and "inline" make one, "per_worker" one for each worker. */
#ifndef STELLANE_BACKEND_H
#define STELLANE_BACKEND_H

#include <stellane/base.h>

STEL_BEGIN_DECLS

#define STEL_BACKEND_ABI 2

enum stel_backend_capabilities {
    STEL_BACKEND_READINESS = 1u << 0,  /* arm, disarm */
    STEL_BACKEND_COMPLETION = 1u << 1, /* submit, cancel */
    /* With READINESS: a registration is for one event. Each wait arms the descriptor with the events that are wanted then;
     * if one of them holds already, the event comes at once. Without ONESHOT a descriptor is armed once, for everything,
     * and each event is an edge. */
    STEL_BACKEND_ONESHOT = 1u << 2,
    /* With COMPLETION and without READINESS: see "Threads". Not for poller_mode "dedicated". */
    STEL_BACKEND_OWNED = 1u << 3
};
enum stel_backend_event_kind { STEL_EVENT_READY = 1, STEL_EVENT_COMPLETE = 2 };

typedef struct stel_backend_event {
    uint64_t token; /* as given to arm, or that of the operation */
    int32_t result; /* READY: poll(2) events that hold; COMPLETE: what the call returns, or a negative errno value */
    uint16_t kind;
    uint16_t flags; /* 0 */
} stel_backend_event;

/* What COMPLETION backends carry out: each means the system call of its name, and which fields count is said beside it.
 * None of them waits where it can be told not to: a socket or pipe that would make it wait is waited for. POLL is the one
 * that every COMPLETION backend without READINESS must know; a submit of any other may be refused. */
enum stel_operation_code {
    STEL_OPERATION_POLL = 1,  /* fd, flags: poll(2) events; level-triggered, once. Result: the events that hold */
    STEL_OPERATION_READV,     /* fd, address: struct iovec, length: how many, offset (-1: the file's position) */
    STEL_OPERATION_WRITEV,    /* the same. SIGPIPE is blocked by the library */
    STEL_OPERATION_RECV,      /* fd, address, length, flags: MSG_... */
    STEL_OPERATION_SEND,      /* the same */
    STEL_OPERATION_RECVMSG,   /* fd, address: struct msghdr, flags */
    STEL_OPERATION_SENDMSG,   /* the same */
    STEL_OPERATION_ACCEPT,    /* fd, address: struct sockaddr, address2: socklen_t, flags: SOCK_... */
    STEL_OPERATION_CONNECT,   /* fd, address: struct sockaddr, length */
    STEL_OPERATION_OPEN,      /* address: path, flags: O_..., mode */
    STEL_OPERATION_FSYNC,     /* fd */
    STEL_OPERATION_FDATASYNC, /* fd */
    STEL_OPERATION_STATX,     /* fd: directory, address: path, flags: AT_..., mode: STATX_..., address2: struct statx */
    STEL_OPERATION_UNLINK,    /* address: path, flags: 0 or AT_REMOVEDIR */
    STEL_OPERATION_RENAME,    /* address: old path, address2: new path, flags: RENAME_... */
    STEL_OPERATION_MKDIR,     /* address: path, mode */
    STEL_OPERATIONS           /* so many, and one */
};

/* Stays where it is until its COMPLETE event has been handed out; so does all that it points to. */
typedef struct stel_operation {
    uint16_t code;
    uint16_t reserved0;
    int32_t fd;
    uint32_t flags;
    uint32_t mode;
    void *address;
    void *address2;
    uint64_t length;
    int64_t offset;
    uint64_t token;      /* for the event */
    uint64_t backend[3]; /* the backend's own; 0 when submitted */
} stel_operation;

typedef struct stel_backend_ops {
    size_t size; /* sizeof(stel_backend_ops) */
    int abi;     /* STEL_BACKEND_ABI */
    unsigned capabilities;
    /* Can it be used on this machine? 0; or a negative errno value, with the reason in why as a part of a sentence. May be
     * NULL: always. why is filled on success as well: what was found. Called once a runtime is created, without locks. */
    int (*probe)(char *why, size_t bytes);
    int (*create)(void **instance, int batch); /* batch: how many events a wait is asked for; may be raised later */
    void (*destroy)(void *instance);
    /* Watch fd for events (poll(2)'s) and, whatever they are, hang-ups and errors, until disarm or close(2). 0; -EEXIST:
     * fd is watched already and its token stays (never said by ONESHOT backends: they replace what was armed); -EPERM:
     * this kind of file is never waited for; -EBADF: no descriptor; others as they come. */
    int (*arm)(void *instance, int fd, int events, uint64_t token);
    int (*disarm)(void *instance, int fd); /* 0, or -ENOENT: not armed */
    /* Begin an operation; it may be held back until the next wait. 0: a COMPLETE event will come. -EOPNOTSUPP: not one
     * that is known here; -EAGAIN, -ENOMEM: no room; then nothing has begun. */
    int (*submit)(void *instance, stel_operation *operation);
    /* Ask that a submitted operation be given up, as far as it can be: its event comes all the same, sooner, with the
     * result that it came to (-ECANCELED: nothing was done). At most once an operation. It may come when a wait has
     * handed out the event already and the library has not yet looked at it: then it must do nothing. The operation is
     * the backend's to touch until cancel returns, and not after that if its event was handed out. */
    void (*cancel)(void *instance, stel_operation *operation);
    /* Wait until an event, interrupt() or the point in time until (CLOCK_MONOTONIC; 0: do not wait; STEL_FOREVER), and
     * fill at most n events. Returns their count; 0 is no error. */
    int (*wait)(void *instance, stel_backend_event *events, int n, int64_t until);
    /* Make the wait that runs, or else the next one, return early. */
    void (*interrupt)(void *instance);
    /* Descriptors armed and operations submitted whose events have not been handed out. May be NULL. */
    size_t (*pending)(void *instance);
} stel_backend_ops;

/* Make a backend known by name (copied, at most 31 bytes); ops must live for ever.
 * Errors: -EINVAL (a member missing, an abi we do not know), -EEXIST, -ENOSPC (16 are registered), -EPERM (after fork). */
STEL_API STEL_MUST_CHECK int stel_backend_register(const char *name, const stel_backend_ops *ops);
/* Is it there? A module that is installed counts: it is loaded then. Whether it can be used here, its probe tells. */
STEL_API bool stel_backend_has(const char *name);
/* Fill at most n names; returns how many backends there are. The names live for ever. */
STEL_API size_t stel_backend_list(const char **names, size_t n);
/* Can it be used on this machine? 0, or what its probe says; the reason, in words, in why (cut to bytes, at most 256).
 * Errors: -EINVAL (NULL), -ENOENT (no such backend, and no such module), -ELIBBAD (a module that cannot be loaded), -EPERM
 * (after fork), and the probe's: for "io_uring" -ENOSYS and -EPERM where the kernel or a container forbids it, -EOPNOTSUPP
 * where operations are missing. */
STEL_API STEL_MUST_CHECK int stel_backend_probe(const char *name, char *why, size_t bytes);

/* Modules. A name that is not registered is looked for as stellane-backend-NAME.so (a-z, 0-9 and _ only): in the
 * directories of STELLANE_MODULE_PATH if that is set, else in the directory "stellane" beside the library. Such a file
 * links nothing of ours; it exports one function,
 *
 *     STEL_API const stel_backend_ops *stel_backend_module(const stel_module_host *host);
 *
 * which is called once and returns its table, or NULL if it cannot work with a host of that size and abi. It is never
 * unloaded then. host and what it points to live for ever. */
typedef struct stel_module_host {
    size_t size;                    /* of this struct, as the library has it */
    int abi;                        /* its STEL_BACKEND_ABI */
    int64_t (*now)(void);           /* stel_now */
    void (*warn)(const char *text); /* a line for people, on stderr; without a newline */
    void *(*alloc)(size_t bytes);   /* the library's memory (stel_set_allocator): zeroed, or NULL */
    void (*release)(void *p);
} stel_module_host;

STEL_END_DECLS
#endif
