/* A poller: one instance of a backend, and the loop that hands its events to slots and operations. take is called by one
 * thread at a time (sched sees to it); everything else from any. */
#include "poller/inside.h"

int stel__poller_init(stel__poller *p, stel__pollers *g, const stel_backend_ops *ops, int batch) {
    p->group = g;
    p->ops = ops;
    p->capabilities = ops->capabilities;
    p->events = stel__alloc((size_t)batch * sizeof p->events[0]);
    if (!p->events) return -ENOMEM;
    p->room = batch;
    int rc = ops->create(&p->instance, batch);
    if (rc < 0) {
        stel__free(p->events);
        p->events = NULL;
    }
    return rc;
}

void stel__poller_end(stel__poller *p) {
    if (!p->events) return;
    stel__slot_forget_poller(p);
    stel__files_end(p);
    p->ops->destroy(p->instance);
    stel__free(p->events);
}

int stel__poller_arm(stel__poller *p, int fd, short events, uint64_t token) {
    const short all = POLLIN | POLLOUT | POLLPRI | POLLRDHUP;
    return p->ops->arm(p->instance, fd, stel__poller_can(p, STEL_BACKEND_ONESHOT) ? events : all, token);
}

int stel__poller_disarm(stel__poller *p, int fd) {
    return p->ops->disarm(p->instance, fd);
}

/* The batch was raised: more room, or without memory for it the batch that there is room for. */
STEL__COLD static int grow(stel__poller *p, int batch) {
    stel_backend_event *events = stel__alloc((size_t)batch * sizeof *events);
    if (!events) return p->room;
    stel__free(p->events);
    p->events = events;
    return p->room = batch;
}

/* A thousand connections do not fit into the cache. What the events of a batch touch is fetched for all of them at once,
 * instead of one miss after the other. */
static void expect(const stel_backend_event *events, int n) {
    for (int i = 0; i < n; i++)
        if (events[i].kind == STEL_EVENT_READY) stel__slot_expect(events[i].token);
    for (int i = 0; i < n; i++)
        if (events[i].kind == STEL_EVENT_READY) stel__slot_expect_waiter(events[i].token);
}

void stel__poller_take(stel__poller *p, int batch, int64_t until) {
    if (STEL__UNLIKELY(batch > p->room)) batch = grow(p, batch);
    /* The backend's 0 means "do not wait", which a time that has passed means as well. */
    int n = p->ops->wait(p->instance, p->events, batch, until < 0 ? 0 : until);
    stel__count(&p->polls, 1);
    if (STEL__UNLIKELY(n < 0))
        stel__die("backend %s cannot wait any more: %s (was one of its descriptors closed?)",
                  stel__pollers_backend(p->group), stel_strerror(n));
    bool files = false;
    if (n > 1) expect(p->events, n);
    for (int i = 0; i < n; i++) {
        const stel_backend_event *e = &p->events[i];
        if (e->kind == STEL_EVENT_COMPLETE) {
            stel__poller_watch(p, -1);
            stel__operation_complete(e->token, e->result);
        } else if (STEL__UNLIKELY(e->token == STEL__FILES_TOKEN)) {
            files = true;
        } else {
            stel__slot_event(e->token, e->result);
        }
    }
    if (STEL__UNLIKELY(files)) stel__files_take(p); /* last, as it uses the same room */
}
