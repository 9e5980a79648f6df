/* The pollers of a runtime: which backend, how many instances of it, and what sched sees of them.
 *
 * Modes
 *   dedicated   one instance. Workers that have nothing to do take turns to wait on it; the runtime's poller thread looks
 *               when none of them has for a while
 *   inline      one instance, waited on by the first worker only, and no poller thread looks: a loop
 *   per worker  an instance for each, which it waits on when it has nothing to do
 *
 * Which backend. "auto" is epoll, with io_uring for files (files.c): where measured, a ring a worker serves connections no
 * faster on one CPU and with longer tails on two, as its completions can be had by its own worker only; see decisions.md.
 * A backend that is asked for by name and forbidden on this machine gives way to epoll. Either is put into words, which
 * statistics show. */
#include "poller/inside.h"
#include <stdio.h>
#include <string.h>

enum { BATCH_MAX = 4096, REASON_BYTES = 256 };

struct stel__pollers {
    const char *backend;
    int mode;
    _Atomic int batch; /* a setting; relaxed, obeyed sooner or later */
    char reason[REASON_BYTES];
    uint32_t heal_cursor; /* whoever heals */
    int count;
    stel__poller at[];
};

/* ---- the choice ---- */

typedef struct choice {
    const char *name;
    const stel_backend_ops *ops;
    int mode;
    char why[REASON_BYTES];
} choice;

static int unusable(const char *name, const char *why) {
    stel__warn("backend \"%s\" cannot be used: %s", name, why);
    return -EINVAL;
}

static void choose_epoll(choice *c) {
    c->ops = stel__backend_find("epoll", &c->name);
}

/* By name. A probe that says no: epoll instead. */
static int choose_named(choice *c, const char *name) {
    char found[REASON_BYTES - 96] = "";
    c->ops = stel__backend_find(name, &c->name);
    if (!c->ops) return -EINVAL;
    int rc = c->ops->probe ? c->ops->probe(found, sizeof found) : 0;
    if (rc >= 0) {
        (void)snprintf(c->why, sizeof c->why, "asked for%s%s", *found ? "; " : "", found);
        return 0;
    }
    if (rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM) return rc; /* a shortage is no prohibition */
    static _Atomic unsigned said;
    (void)snprintf(c->why, sizeof c->why, "\"%.31s\" was asked for, but cannot be used here: %s", name,
                   *found ? found : stel_strerror(rc));
    stel__warn_once(&said, "using epoll: backend %s", c->why);
    choose_epoll(c);
    return 0;
}

static int settle_mode(choice *c, int mode, int workers) {
    bool owned = (c->ops->capabilities & STEL_BACKEND_OWNED) != 0;
    c->mode = mode ? mode : owned ? STEL_POLLER_PER_WORKER : STEL_POLLER_DEDICATED;
    if (!owned) return 0;
    if (c->mode == STEL_POLLER_DEDICATED)
        return unusable(c->name, "its instances belong to one worker each: poller.mode must be per_worker or inline");
    if (c->mode == STEL_POLLER_INLINE && workers > 1)
        return unusable(c->name, "poller.mode inline is for one worker, as its instance belongs to that");
    return 0;
}

static int choose(choice *c, const stel__pollers_options *o) {
    *c = (choice){ .name = NULL };
    int rc = 0;
    if (!o->backend || !*o->backend || strcmp(o->backend, "auto") == 0) {
        choose_epoll(c);
        (void)snprintf(c->why, sizeof c->why,
                       "auto: epoll for descriptors, as a ring can be read by its own worker only, and answers late "
                       "while others are free");
    } else {
        rc = choose_named(c, o->backend);
    }
    return rc < 0 ? rc : settle_mode(c, o->mode, o->workers);
}

/* ---- life ---- */

int stel__pollers_create(stel__pollers **out, const stel__pollers_options *o) {
    choice c;
    if (o->batch < 1 || o->batch > BATCH_MAX || o->workers < 1) return -EINVAL;
    int rc = choose(&c, o);
    if (rc < 0) return rc;
    int count = c.mode == STEL_POLLER_PER_WORKER ? o->workers : 1;
    stel__pollers *g = stel__alloc_aligned(STEL__CACHE_LINE, sizeof *g + sizeof g->at[0] * (size_t)count);
    if (!g) return -ENOMEM;
    g->backend = c.name;
    g->mode = c.mode;
    memcpy(g->reason, c.why, sizeof g->reason);
    stel__pollers_set_batch(g, o->batch);
    if (c.ops->capabilities & STEL_BACKEND_COMPLETION) stel__store_relaxed(&stel__any_operates, true);
    for (; g->count < count; g->count++) {
        rc = stel__poller_init(&g->at[g->count], g, c.ops, o->batch);
        if (rc < 0) {
            stel__pollers_destroy(g);
            return rc;
        }
    }
    *out = g;
    return 0;
}

void stel__pollers_destroy(stel__pollers *g) {
    if (!g) return;
    for (int i = 0; i < g->count; i++)
        stel__poller_end(&g->at[i]);
    stel__free(g);
}

/* ---- questions ---- */

const char *stel__pollers_backend(const stel__pollers *g) {
    return g->backend;
}

void stel__pollers_reason(const stel__pollers *g, char *text, size_t bytes) {
    bool ring = false;
    bool own = stel__poller_can(&g->at[0], STEL_BACKEND_COMPLETION);
    const char *why = own ? "" : stel__files_reason(&ring);
    (void)snprintf(text, bytes, "%s; files: %s%s%s%s", g->reason,
                   own    ? "the same"
                   : ring ? "io_uring"
                          : "offload pool",
                   *why ? " (" : "", why, *why ? ")" : "");
}

int stel__pollers_mode(const stel__pollers *g) {
    return g->mode;
}

uint64_t stel__pollers_polls(const stel__pollers *g) {
    uint64_t sum = 0;
    for (int i = 0; i < g->count; i++)
        sum += stel__load_relaxed(&g->at[i].polls); /* a figure */
    return sum;
}

/* relaxed: whoever waits is watched first and is seen, at the latest, by the next poll of its own worker; a poll too few or
 * too many is no harm, as the blocking wait is never skipped. */
static bool poller_armed(const stel__poller *p) {
    return stel__load_relaxed(&p->watched) > 0;
}

bool stel__pollers_armed(const stel__pollers *g) {
    for (int i = 0; i < g->count; i++)
        if (poller_armed(&g->at[i])) return true;
    return false;
}

void stel__pollers_set_batch(stel__pollers *g, int batch) {
    STEL__ASSERT(batch >= 1 && batch <= BATCH_MAX);
    stel__store_relaxed(&g->batch, batch);
}

void stel__pollers_heal(stel__pollers *g, int64_t now) {
    stel__slot_heal_some(g, &g->heal_cursor, now);
}

/* ---- for sched ---- */

static void hook_wait(void *context, int64_t until) {
    stel__poller *p = context;
    stel__poller_take(p, stel__load_relaxed(&p->group->batch), until);
}

static void hook_poll(void *context) {
    hook_wait(context, 0);
}

static void hook_interrupt(void *context) {
    stel__poller *p = context;
    p->ops->interrupt(p->instance);
}

static bool hook_armed(void *context) {
    return poller_armed(context);
}

static void *hook_context(void *context, int i) {
    stel__pollers *g = context;
    return &g->at[i];
}

stel__idle_hook stel__pollers_hook(stel__pollers *g) {
    return (stel__idle_hook){ .context = g,
                              .points = g->count,
                              .first_only = g->mode == STEL_POLLER_INLINE,
                              .owned = (g->at[0].ops->capabilities & STEL_BACKEND_OWNED) != 0,
                              .point = hook_context,
                              .wait = hook_wait,
                              .poll = hook_poll,
                              .interrupt = hook_interrupt,
                              .armed = hook_armed };
}
