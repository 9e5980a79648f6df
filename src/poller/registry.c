/* Backends by name. A fixed table that only grows: names and tables of functions live for ever, so readers need the
 * lock only to see how many there are. A name that is not in it may be a module's: module.c. */
#include "poller/inside.h"
#include <string.h>

enum { BACKENDS_MAX = 16, NAME_BYTES = 32, WHY_BYTES = 256 };

struct backend {
    char name[NAME_BYTES];
    const stel_backend_ops *ops;
};

static stel__lock table_lock;
static struct backend table[BACKENDS_MAX] = { { "epoll", &stel__epoll_ops }, { "io_uring", &stel__io_uring_ops } };
static size_t table_count = 2;

/* Under table_lock. */
static const struct backend *find(const char *name) {
    for (size_t i = 0; i < table_count; i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

static bool complete(const stel_backend_ops *o) {
    const unsigned kinds = STEL_BACKEND_READINESS | STEL_BACKEND_COMPLETION;
    const unsigned known = kinds | STEL_BACKEND_ONESHOT | STEL_BACKEND_OWNED;
    if (!o || o->size < sizeof *o || o->abi != STEL_BACKEND_ABI) return false;
    if (!(o->capabilities & kinds) || (o->capabilities & ~known)) return false;
    if ((o->capabilities & STEL_BACKEND_ONESHOT) && !(o->capabilities & STEL_BACKEND_READINESS)) return false;
    if ((o->capabilities & STEL_BACKEND_OWNED) && (o->capabilities & kinds) != STEL_BACKEND_COMPLETION) return false;
    if (!o->create || !o->destroy || !o->wait || !o->interrupt) return false;
    if ((o->capabilities & STEL_BACKEND_READINESS) && (!o->arm || !o->disarm)) return false;
    if ((o->capabilities & STEL_BACKEND_COMPLETION) && (!o->submit || !o->cancel)) return false;
    return true;
}

int stel_backend_register(const char *name, const stel_backend_ops *ops) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!name || !*name || strlen(name) >= NAME_BYTES || strcmp(name, "auto") == 0 || !complete(ops)) return -EINVAL;
    int rc = 0;
    stel__lock_take(&table_lock);
    if (find(name)) {
        rc = -EEXIST;
    } else if (table_count == BACKENDS_MAX) {
        rc = -ENOSPC;
    } else {
        strcpy(table[table_count].name, name);
        table[table_count++].ops = ops;
    }
    stel__lock_give(&table_lock);
    return rc;
}

bool stel__backend_is_registered(const char *name) {
    stel__lock_take(&table_lock);
    bool found = find(name) != NULL;
    stel__lock_give(&table_lock);
    return found;
}

/* Registered, or to be had as a module; NULL: neither, *error is stel__module_load's, and the reason is in why. */
static const struct backend *look_up(const char *name, int *error, char *why, size_t bytes) {
    stel__lock_take(&table_lock);
    const struct backend *b = find(name);
    stel__lock_give(&table_lock);
    if (b) return b;
    *error = stel__module_load(name, why, bytes);
    if (*error < 0) return NULL;
    stel__lock_take(&table_lock);
    b = find(name);
    stel__lock_give(&table_lock);
    return b;
}

const stel_backend_ops *stel__backend_find(const char *name, const char **its_name) {
    char why[WHY_BYTES];
    int error;
    const struct backend *b = look_up(name, &error, why, sizeof why);
    if (!b) return NULL;
    *its_name = b->name;
    return b->ops;
}

int stel_backend_probe(const char *name, char *why, size_t bytes) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!name || !why || !bytes) return -EINVAL;
    *why = 0;
    int error;
    const struct backend *b = look_up(name, &error, why, bytes);
    if (!b) return error;
    return b->ops->probe ? b->ops->probe(why, bytes) : 0;
}

bool stel_backend_has(const char *name) {
    const char *its_name;
    return name && stel__backend_find(name, &its_name) != NULL;
}

size_t stel_backend_list(const char **names, size_t n) {
    stel__lock_take(&table_lock);
    size_t count = table_count;
    stel__lock_give(&table_lock);
    for (size_t i = 0; names && i < n && i < count; i++)
        names[i] = table[i].name;
    return count;
}
