/* Operations on files, where the backend has none. Regular files are always "ready", so a backend that tells readiness is
 * no help with them; io_uring carries such calls out without a thread for each. So each poller has, from the first time
 * that it is asked for one, a ring beside its backend: submitted to by any worker, entered at once, and taken from when the
 * backend says that the ring's descriptor is readable. Where io_uring cannot be had there is none, and file.c in io goes
 * to the offload pool.
 *
 * Whether it can be had is found out once a process, and whether a poller has one once a poller: a shortage at that moment
 * (memory, descriptors) makes the pool do its work from then on, which is slower and no less right. */
#include "poller/inside.h"
#include <stdio.h>

typedef struct stel__files {
    void *instance;
} stel__files;

static const stel_backend_ops *const ops = &stel__io_uring_files_ops;
static stel__files none; /* what a poller has that is to have none */

static struct {
    pthread_once_t once;
    int code;
    char why[128];
} probed = { .once = PTHREAD_ONCE_INIT };

static void probe(void) {
    probed.code = ops->probe(probed.why, sizeof probed.why);
}

static bool can_be_had(void) {
    pthread_once(&probed.once, probe);
    return probed.code >= 0;
}

static int arm(stel__poller *p, const stel__files *f) {
    return stel__poller_arm(p, stel__io_uring_fd(f->instance), POLLIN, STEL__FILES_TOKEN);
}

STEL__COLD static stel__files *make(stel__poller *p) {
    stel__files *f = can_be_had() ? stel__alloc(sizeof *f) : NULL;
    if (!f) return NULL;
    if (ops->create(&f->instance, p->room) < 0) {
        stel__free(f);
        return NULL;
    }
    if (arm(p, f) == 0) return f;
    ops->destroy(f->instance);
    stel__free(f);
    return NULL;
}

stel__files *stel__files_of(stel__poller *p) {
    static stel__lock making;
    stel__files *f = stel__load_acquire(&p->files); /* pairs with the release below */
    if (STEL__UNLIKELY(!f)) {
        stel__lock_take(&making);
        f = stel__load_relaxed(&p->files);
        if (!f) {
            f = make(p);
            stel__store_release(&p->files, f ? f : &none);
        }
        stel__lock_give(&making);
    }
    return f == &none ? NULL : f;
}

int stel__files_submit(stel__files *f, stel_operation *op) {
    return ops->submit(f->instance, op);
}

void stel__files_take(stel__poller *p) {
    stel__files *f = stel__load_acquire(&p->files); /* as in files_of */
    int n;
    /* An edge may be told as soon as the descriptor is watched ("it can be written"). Completions come later. */
    if (!f || f == &none) return;
    do {
        n = ops->wait(f->instance, p->events, p->room, 0);
        for (int i = 0; i < n; i++) {
            stel__poller_watch(p, -1);
            stel__operation_complete(p->events[i].token, p->events[i].result);
        }
    } while (n == p->room);
    if (n < 0) stel__die("the ring for files cannot be read any more: %s", stel_strerror(n));
    if (stel__poller_can(p, STEL_BACKEND_ONESHOT) && arm(p, f) < 0)
        stel__die("the ring for files cannot be watched any more");
}

void stel__files_end(stel__poller *p) {
    stel__files *f = stel__load_relaxed(&p->files); /* nobody else is left */
    if (!f || f == &none) return;
    (void)stel__poller_disarm(p, stel__io_uring_fd(f->instance));
    ops->destroy(f->instance);
    stel__free(f);
}

const char *stel__files_reason(bool *can) {
    *can = can_be_had();
    return probed.why;
}
