/* A poller: one instance of a backend, and the loop that hands its events to the slots. wait and poll are called by one
 * thread at a time (sched sees to it); everything else from any. */
#include "poller/inside.h"
#include <string.h>

enum { BATCH_MAX = 4096 };

struct stel__poller {
    /* fixed after creation */
    const stel_backend_ops *ops;
    const char *name;
    void *instance;
    /* atomic */
    _Atomic int batch;      /* a setting: events to be taken in one poll; relaxed, obeyed sooner or later */
    _Atomic int registered; /* descriptors registered, as far as we know; a hint: whether polling makes sense */
    /* whoever waits or polls */
    _Atomic uint64_t polls; /* read by figures */
    /* whoever heals */
    uint32_t heal_cursor;
    /* whoever waits or polls */
    stel_backend_event *events;
    int room;
};

static stel__poller *(*poller_of_runtime)(stel_runtime *);

void stel__poller_set_lookup(stel__poller *(*of_runtime)(stel_runtime *)) {
    poller_of_runtime = of_runtime;
}

stel__poller *stel__poller_self(void) {
    stel_runtime *rt = stel_runtime_current();
    STEL__ASSERT(rt && poller_of_runtime);
    return poller_of_runtime(rt);
}

int stel__poller_create(stel__poller **out, const char *backend, int batch) {
    const char *name;
    if (!backend || !*backend || strcmp(backend, "auto") == 0) backend = "epoll";
    const stel_backend_ops *ops = stel__backend_find(backend, &name);
    if (!ops || !(ops->capabilities & STEL_BACKEND_READINESS) || batch < 1 || batch > BATCH_MAX) return -EINVAL;
    stel__poller *p = stel__alloc(sizeof *p);
    if (!p) return -ENOMEM;
    p->ops = ops;
    p->name = name;
    p->events = stel__alloc((size_t)batch * sizeof p->events[0]);
    p->room = batch;
    stel__poller_set_batch(p, batch);
    int rc = p->events ? ops->create(&p->instance, batch) : -ENOMEM;
    if (rc < 0) {
        stel__free(p->events);
        stel__free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void stel__poller_destroy(stel__poller *p) {
    if (!p) return;
    stel__slot_forget_poller(p);
    p->ops->destroy(p->instance);
    stel__free(p->events);
    stel__free(p);
}

const char *stel__poller_backend_name(const stel__poller *p) {
    return p->name;
}

uint64_t stel__poller_polls(const stel__poller *p) {
    return stel__load_relaxed(&p->polls); /* a figure */
}

int stel__poller_arm(stel__poller *p, int fd, uint64_t token) {
    return p->ops->arm(p->instance, fd, token);
}

int stel__poller_disarm(stel__poller *p, int fd) {
    return p->ops->disarm(p->instance, fd);
}

void stel__poller_registered(stel__poller *p, int n) {
    stel__add_relaxed(&p->registered, n); /* a hint, see armed */
}

void stel__poller_heal(stel__poller *p, int64_t now) {
    stel__slot_heal_some(p, &p->heal_cursor, now);
}

void stel__poller_set_batch(stel__poller *p, int batch) {
    STEL__ASSERT(batch >= 1 && batch <= BATCH_MAX);
    stel__store_relaxed(&p->batch, batch);
}

/* The batch was raised: more room, or without memory for it the batch that there is room for. */
STEL__COLD static int grow(stel__poller *p, int batch) {
    stel_backend_event *events = stel__alloc((size_t)batch * sizeof *events);
    if (!events) return p->room;
    stel__free(p->events);
    p->events = events;
    return p->room = batch;
}

static void take(stel__poller *p, int64_t until) {
    int batch = stel__load_relaxed(&p->batch);
    if (STEL__UNLIKELY(batch > p->room)) batch = grow(p, batch);
    int n = p->ops->wait(p->instance, p->events, batch, until);
    stel__count(&p->polls, 1);
    if (STEL__UNLIKELY(n < 0))
        stel__die("backend %s cannot wait any more: %s (was one of its descriptors closed?)", p->name,
                  stel_strerror(n));
    for (int i = 0; i < n; i++)
        if (p->events[i].kind == STEL_EVENT_READY) stel__slot_event(p->events[i].token, p->events[i].result);
}

static void hook_wait(void *context, int64_t until) {
    /* The backend's 0 means "do not wait", which a time that has passed means as well. */
    take(context, until < 0 ? 0 : until);
}

static void hook_poll(void *context) {
    take(context, 0);
}

static void hook_interrupt(void *context) {
    stel__poller *p = context;
    p->ops->interrupt(p->instance);
}

/* relaxed: whoever parks on a descriptor registers it first and is seen, at the latest, by the next poll of its own
 * worker; a poll too few or too many is no harm, as the blocking wait is never skipped. */
static bool hook_armed(void *context) {
    const stel__poller *p = context;
    return stel__load_relaxed(&p->registered) > 0;
}

stel__idle_hook stel__poller_hook(stel__poller *p) {
    return (stel__idle_hook){
        .context = p, .wait = hook_wait, .poll = hook_poll, .interrupt = hook_interrupt, .armed = hook_armed
    };
}
