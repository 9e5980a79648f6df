/* Spawning: from a request to a control block that may run. A plain spawn by a worker is a handful of stores
 * (spawn_fast); everything else, other schedulers, options, scopes, values to inherit, goes through spawn_as. The stack
 * is bound at the first run. */
#include "sched/worker.h"

/* The scheduler that a plain thread's stel_spawn goes to; the runtime room knows. pin keeps it alive until unpin. */
static struct {
    stel__sched *(*_Atomic pin)(void); /* NULL until there has been a runtime */
    void (*unpin)(stel__sched *s);
} fallback;

void stel__sched_set_default(stel__sched *(*pin)(void), void (*unpin)(stel__sched *s)) {
    fallback.unpin = unpin;
    stel__store_release(&fallback.pin, pin); /* pairs with spawn_slow: threads may try to spawn before */
}

/* What a fiber is to be, options and defaults resolved. By value: the plain spawn's is all constants to the compiler.
 */
typedef struct request {
    const char *name;
    unsigned flags, level, stack_class, pinned;
    const stel__child_request *child; /* to be spawned into a scope */
    int64_t start;                    /* not before this time */
    stel__fiber *heir_of;             /* the spawner, when it has values to pass on */
} request;

static int request_of(const stel__sched *s, const stel_spawn_options *o, request *r) {
    if (!stel__struct_fits(o, o->size, sizeof *o)) return -EINVAL;
    if (o->flags & ~(unsigned)(STEL_NO_MIGRATE | STEL_FP_ENVIRONMENT | STEL_BACKGROUND)) return -EINVAL;
    if (o->priority < STEL_PRIORITY_MOST_URGENT || o->priority > STEL_PRIORITY_LEAST_URGENT) return -EINVAL;
    if (o->stack_bytes) {
        int class = stel__stack_class(o->stack_bytes);
        if (class < 0) return class;
        r->stack_class = (unsigned)class;
    }
    if (o->place > 0) {
        if (o->place > s->worker_count) return -EINVAL;
        r->pinned = (unsigned)o->place;
    } else if (o->place < 0) {
        int node = -1 - o->place;
        if (node >= stel__node_count()) return -EINVAL;
        /* One node is everywhere; else the first worker that runs on it. */
        for (int i = 0; stel__node_count() > 1 && i < s->worker_count && !r->pinned; i++)
            if (stel__node_of_cpu(i) == node) r->pinned = (unsigned)i + 1;
    }
    r->name = o->name && *o->name ? o->name : NULL;
    r->flags = o->flags;
    r->level = (unsigned)(o->priority + STEL__LEVEL_NORMAL);
    return 0;
}

static inline bool needs_extras(const request *r) {
    return r->name || (r->flags & STEL_FP_ENVIRONMENT) || r->child || r->start || r->heir_of;
}

/* Everything that can fail comes first: a value that was inherited would have to be destroyed, and a child that was
 * announced to its scope must come to be. */
STEL__NOINLINE static int give_extras(stel__fiber *f, const request *r) {
    stel__extra *extra = stel__fiber_extra(f);
    if (!extra) return -ENOMEM;
    if (r->name) stel__fiber_set_name(f, r->name);
    extra->fp_words = stel__fp_save();
    extra->start = r->start;
    if (r->heir_of) {
        int rc = stel__locals_inherit(f, r->heir_of);
        if (rc < 0) return rc;
    }
    if (r->child) {
        stel__store_relaxed(&f->waiter.deadline, r->child->deadline);
        extra->child.scope = r->child->scope;
        extra->child.fiber = stel__fiber_handle(f, stel__load_relaxed(&f->life));
        r->child->scope->ops->born(r->child->scope, &extra->child);
    }
    return 0;
}

/* Everything of a fresh block but what makes it visible. */
static inline void fill(stel__fiber *f, stel__sched *s, int64_t now, request r, stel_fn *fn, void *arg, void *site) {
    f->at.arg = arg;
    f->stack = NULL;
    stel__store_relaxed(&f->fn, fn);
    stel__store_relaxed(&f->home, s);
    stel__store_relaxed(&f->spawn_site, site);
    stel__store_relaxed(&f->created, now);
    f->pinned = r.pinned & 0xfff;
    f->stack_class = r.stack_class & 0xf;
    stel__store_relaxed(&f->waiter.owner_bits, (uint8_t)(r.flags | r.level << STEL__LEVEL_SHIFT));
    stel__waiter_begin(&f->waiter);
    stel__store_relaxed(&f->queue.limit, STEL_FOREVER);
}

/* Counted before the fiber can run, and so before its end can be counted: see stel__sched_live. */
static inline void count_spawn(stel__sched *s, stel__worker *w, bool background) {
    if (STEL__LIKELY(w != NULL)) {
        stel__store_release(&w->counters.spawned, stel__load_relaxed(&w->counters.spawned) + 1);
        if (background)
            stel__store_release(&w->counters.spawned_background,
                                stel__load_relaxed(&w->counters.spawned_background) + 1);
    } else {
        stel__add_acq_rel(&s->spawned_outside, 1);
        if (background) stel__add_acq_rel(&s->spawned_outside_background, 1);
    }
}

/* The fiber comes to life: from here on its handle works, and it may run at once. */
static inline void publish(stel__fiber *f, stel__sched *s, stel__worker *w, stel_fiber *out, bool detached,
                           bool background) {
    uint64_t life = (stel__load_relaxed(&f->life) & ~STEL__INDEX_MASK) | STEL__LIFE_ALIVE;
    if (out) *out = stel__fiber_handle(f, life);
    if (detached) life |= STEL__LIFE_CLAIMED;
    stel__store_relaxed(&f->joiner, detached ? STEL__JOINER_DETACHED : STEL__JOINER_NONE);
    stel__store_release(&f->life, life); /* pairs with lookups by handle */
    count_spawn(s, w, background);
    stel__ready_spawned(w, f);
}

/* Why a spawn cannot be, apart from its arguments. */
STEL__COLD static int refusal(stel__sched *s, bool outside) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (outside && stel__load_acquire(&s->closed)) return -ESHUTDOWN; /* pairs with the release in stel__sched_close */
    unsigned most = stel__load_relaxed(&s->settings.max_fibers);      /* a setting: no partner */
    if (most && stel__sched_live(s) >= most) return -EAGAIN;
    return stel__load_relaxed(&s->starved_count) || stel__stack_starved() ? -ENOMEM : 0;
}

static inline bool may_refuse(const stel__sched *s) {
    return stel__load_relaxed(&s->settings.max_fibers) || stel__load_relaxed(&s->starved_count) ||
           stel__load_relaxed(&stel__forked);
}

/* The fiber that spawns, if it has values that its children inherit. */
static stel__fiber *testator(void) {
    if (!stel__load_relaxed(&stel__inherited_keys)) return NULL;
    stel__worker *w = stel__worker_self();
    stel__fiber *f = w ? stel__worker_current(w) : NULL;
    return f && f->extra && f->extra->locals ? f : NULL;
}

static int spawn_as(stel__sched *s, stel_fiber *out, request r, stel_fn *fn, void *arg, void *spawn_site) {
    stel__worker *w = stel__worker_self();
    if (w && w->sched != s) w = NULL;
    int rc = !w || may_refuse(s) ? refusal(s, !w) : 0;
    if (rc < 0) return rc;
    stel__free_blocks *blocks = w ? &w->blocks : NULL;
    stel__fiber *f = stel__block_get(blocks, &rc);
    if (!f) return rc;
    r.heir_of = testator();
    fill(f, s, w ? w->now : stel__clock_now(), r, fn, arg, spawn_site);
    if (needs_extras(&r) && (rc = give_extras(f, &r)) < 0) {
        if (f->extra) stel__fiber_extra_free(f);
        stel__block_put(blocks, f);
        return rc;
    }
    publish(f, s, w, out, !out || r.child, r.flags & STEL_BACKGROUND);
    return 0;
}

static inline request plain(const stel__sched *s) {
    return (request){ .level = STEL__LEVEL_NORMAL, .stack_class = stel__load_relaxed(&s->settings.stack_class) };
}

int stel__sched_spawn(stel__sched *s, stel_fiber *out, const stel_spawn_options *o, stel_fn *fn, void *arg,
                      void *spawn_site) {
    request r = plain(s);
    int rc = !fn ? -EINVAL : o ? request_of(s, o, &r) : 0;
    return rc < 0 ? rc : spawn_as(s, out, r, fn, arg, spawn_site);
}

/* Where the caller's spawns go: its own scheduler, or for a plain thread the oldest that runs, pinned (*pinned). */
static stel__sched *where(bool *pinned) {
    const stel__worker *w = stel__worker_self();
    *pinned = false;
    if (w) return w->sched;
    stel__sched *(*pin)(void) = stel__load_acquire(&fallback.pin); /* pairs with set_default */
    stel__sched *s = pin && !stel__load_relaxed(&stel__forked) ? pin() : NULL;
    *pinned = s != NULL;
    return s;
}

STEL__NOINLINE static int spawn_slow(stel_fiber *out, const stel_spawn_options *o, stel_fn *fn, void *arg, void *site) {
    bool pinned;
    stel__sched *s = where(&pinned);
    if (!s) return -EPERM;
    int rc = stel__sched_spawn(s, out, o, fn, arg, site);
    if (pinned) fallback.unpin(s);
    return rc;
}

int stel__sched_spawn_child(stel_fiber *out, const stel__child_request *c, stel_fn *fn, void *arg, void *site) {
    bool pinned = false;
    stel__sched *s = c->home ? c->home : where(&pinned);
    if (!s) return -EPERM;
    request r = plain(s);
    r.child = c;
    r.flags = c->background ? STEL_BACKGROUND : 0;
    int rc = spawn_as(s, out, r, fn, arg, site);
    if (pinned) fallback.unpin(s);
    return rc;
}

/* The plain spawn, by a worker that has a block at hand: the same steps without the questions. */
static inline int spawn_fast(stel_fiber *out, stel_fn *fn, void *arg, void *site) {
    stel__worker *w = stel__worker_self();
    if (STEL__UNLIKELY(!w || !fn || !w->blocks.head || may_refuse(w->sched) ||
                       stel__load_relaxed(&stel__inherited_keys)))
        return spawn_slow(out, NULL, fn, arg, site);
    stel__fiber *f = w->blocks.head;
    w->blocks.head = stel__load_relaxed(&f->queue.run_next);
    w->blocks.count--;
    fill(f, w->sched, w->now, plain(w->sched), fn, arg, site);
    publish(f, w->sched, w, out, !out, false);
    return 0;
}

int stel_spawn(stel_fiber *out, stel_fn *fn, void *arg) {
    return out ? spawn_fast(out, fn, arg, __builtin_return_address(0)) : -EINVAL;
}
int stel_spawn_with(stel_fiber *out, const stel_spawn_options *o, stel_fn *fn, void *arg) {
    return spawn_slow(out, o, fn, arg, __builtin_return_address(0));
}
int stel_go(stel_fn *fn, void *arg) {
    return spawn_fast(NULL, fn, arg, __builtin_return_address(0));
}

int stel_spawn_after(stel_fiber *out, int64_t delay_ns, stel_fn *fn, void *arg) {
    bool pinned;
    if (!fn) return -EINVAL;
    stel__sched *s = where(&pinned);
    if (!s) return -EPERM;
    request r = plain(s);
    r.start = stel_after(delay_ns);
    int rc = spawn_as(s, out, r, fn, arg, __builtin_return_address(0));
    if (pinned) fallback.unpin(s);
    return rc;
}
