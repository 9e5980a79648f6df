/* What few fibers have: names, priorities changed on the way, fiber-local values. Kept in an `extra` that is made when
 * it is first needed. Names and open scopes (child.c) are read by strangers, so these, and an extra's end, are under a
 * lock (stel__extra_lock); the values are their fiber's own. */
#include "sched/worker.h"
#include <string.h>

enum { KEYS_MAX = 64, DESTRUCTOR_ROUNDS = 4 };

static struct {
    stel__lock lock;
    _Atomic unsigned count;
    void (*destructor[KEYS_MAX])(void *); /* these two: fixed once count has passed them */
    void *(*inherit[KEYS_MAX])(void *);
} keys;
_Atomic unsigned stel__inherited_keys;

stel__extra *stel__fiber_extra(stel__fiber *f) {
    if (f->extra) return f->extra;
    stel__extra *extra = stel__alloc(sizeof *extra);
    if (!extra) return NULL;
    stel__lock_take(stel__extra_lock(f));
    f->extra = extra;
    stel__lock_give(stel__extra_lock(f));
    return extra;
}

void stel__fiber_extra_free(stel__fiber *f) {
    stel__extra *extra = f->extra;
    stel__lock_take(stel__extra_lock(f));
    f->extra = NULL;
    stel__lock_give(stel__extra_lock(f));
    stel__free(extra->locals);
    stel__free(extra);
}

void stel__fiber_set_name(stel__fiber *f, const char *name) {
    size_t n = strnlen(name, sizeof f->extra->name - 1);
    stel__lock_take(stel__extra_lock(f));
    memcpy(f->extra->name, name, n);
    f->extra->name[n] = 0;
    stel__lock_give(stel__extra_lock(f));
}

static stel__fiber *fiber_self(void) {
    stel__worker *w = stel__worker_self();
    return w ? stel__worker_current(w) : NULL;
}

/* Is this still the fiber of the handle? */
static bool lives(const stel__fiber *f, stel_fiber handle) {
    uint64_t life = stel__load_acquire(&f->life);
    return stel__same_generation(life, handle) && (life & STEL__LIFE_ALIVE);
}

int stel_fiber_name(stel_fiber handle, char *name, size_t bytes) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!name || !bytes) return -EINVAL;
    stel__fiber *f = stel__fiber_find(handle);
    if (!f) return -ESRCH;
    name[0] = 0;
    stel__lock_take(stel__extra_lock(f));
    bool alive = lives(f, handle);
    if (alive && f->extra) {
        size_t n = strnlen(f->extra->name, bytes - 1);
        memcpy(name, f->extra->name, n);
        name[n] = 0;
    }
    stel__lock_give(stel__extra_lock(f));
    return alive ? 0 : -ESRCH;
}

int64_t stel_fiber_created(stel_fiber handle) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    const stel__fiber *f = stel__fiber_find(handle);
    if (!f || !lives(f, handle)) return -ESRCH;
    int64_t created = stel__load_relaxed(&f->created);
    return lives(f, handle) ? created : -ESRCH;
}

int stel_fiber_priority(stel_fiber handle, int *out) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!out) return -EINVAL;
    const stel__fiber *f = stel__fiber_find(handle);
    if (!f || !lives(f, handle)) return -ESRCH;
    *out = (int)stel__fiber_level(f) - STEL__LEVEL_NORMAL;
    return lives(f, handle) ? 0 : -ESRCH;
}

int stel_set_name(const char *name) {
    stel__fiber *f = fiber_self();
    if (!f) return -EPERM;
    if (!f->extra && (!name || !*name)) return 0;
    if (!stel__fiber_extra(f)) return -ENOMEM;
    stel__fiber_set_name(f, name ? name : "");
    return 0;
}

int stel_set_priority(int priority) {
    stel__fiber *f = fiber_self();
    if (priority < STEL_PRIORITY_MOST_URGENT || priority > STEL_PRIORITY_LEAST_URGENT) return -EINVAL;
    if (!f) return -EPERM;
    unsigned level = (unsigned)(priority + STEL__LEVEL_NORMAL);
    stel__store_relaxed(&f->waiter.owner_bits, (uint8_t)(stel__fiber_flags(f) | level << STEL__LEVEL_SHIFT));
    return 0;
}

/* ---- values ---- */

static int key_make(stel_key *out, void *(*inherit)(void *), void (*destructor)(void *)) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    stel__lock_take(&keys.lock);
    unsigned n = stel__load_relaxed(&keys.count);
    if (n < KEYS_MAX) {
        keys.destructor[n] = destructor;
        keys.inherit[n] = inherit;
        stel__store_release(&keys.count, n + 1); /* pairs with the acquire in set, inherit and destroy */
        if (inherit) stel__add_relaxed(&stel__inherited_keys, 1);
        *out = n;
    }
    stel__lock_give(&keys.lock);
    return n < KEYS_MAX ? 0 : -EAGAIN;
}

int stel_local_key(stel_key *out, void (*destructor)(void *)) {
    return out ? key_make(out, NULL, destructor) : -EINVAL;
}

int stel_local_key_inherited(stel_key *out, void *(*inherit)(void *), void (*destructor)(void *)) {
    return out && inherit ? key_make(out, inherit, destructor) : -EINVAL;
}

int stel__locals_inherit(stel__fiber *child, const stel__fiber *parent) {
    void **from = parent->extra->locals, **to = NULL;
    for (unsigned key = 0, n = stel__load_acquire(&keys.count); key < n; key++) {
        if (!from[key] || !keys.inherit[key]) continue;
        if (!to && !(to = child->extra->locals = stel__alloc(KEYS_MAX * sizeof *to))) return -ENOMEM;
        to[key] = keys.inherit[key](from[key]);
    }
    return 0;
}

void *stel_local_get(stel_key key) {
    stel__fiber *f = fiber_self();
    return f && f->extra && f->extra->locals && key < KEYS_MAX ? f->extra->locals[key] : NULL;
}

int stel_local_set(stel_key key, void *value) {
    if (key >= stel__load_acquire(&keys.count)) return -EINVAL;
    stel__fiber *f = fiber_self();
    if (!f) return -EPERM;
    stel__extra *extra = stel__fiber_extra(f);
    if (!extra) return -ENOMEM;
    if (!extra->locals && !(extra->locals = stel__alloc(KEYS_MAX * sizeof *extra->locals))) return -ENOMEM;
    extra->locals[key] = value;
    return 0;
}

/* One round over all values. true: some destructor ran, and may have set values anew. */
static bool destroy_round(void **locals) {
    bool ran = false;
    unsigned n = stel__load_acquire(&keys.count);
    for (unsigned key = 0; key < n; key++) {
        void *value = locals[key];
        locals[key] = NULL;
        if (!value || !keys.destructor[key]) continue;
        keys.destructor[key](value);
        ran = true;
    }
    return ran;
}

void stel__locals_destroy(stel__fiber *f) {
    for (int round = 0; round < DESTRUCTOR_ROUNDS && f->extra && f->extra->locals; round++)
        if (!destroy_round(f->extra->locals)) return;
}
