/* Cancel tokens: a flag and a bag of handles.
 *
 * The bag keeps numbers, not fibers: a fiber that ends takes nothing out of it, and a stale handle does no harm. So that a
 * token that lives as long as the program does not keep the handles of all fibers that ever were, the bag is swept
 * before it grows: what has ended is thrown out, and only if more than half is left does it get twice the room. So an
 * attach costs a constant, on average, and the bag is at most four times as large as the most that were alive.
 *
 * cancelled is set under the lock, before the bag is taken away to be cancelled outside it: an attach that comes later
 * sees it, one that came before is in the bag. */
#include "sync/queue.h"
#include <stellane/scope.h>
#include <string.h>

struct stel_cancel_token {
    _Atomic size_t references;
    _Atomic bool cancelled; /* set under the lock, read without */
    /* under the lock */
    stel__lock lock;
    stel_fiber *fibers;
    size_t count, room;
};

enum { ROOM_FIRST = 16 };

int stel_cancel_token_create(stel_cancel_token **out) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!out) return -EINVAL;
    stel_cancel_token *t = stel__alloc(sizeof *t);
    if (!t) return -ENOMEM;
    stel__store_relaxed(&t->references, 1);
    *out = t;
    return 0;
}

stel_cancel_token *stel_cancel_token_retain(stel_cancel_token *t) {
    if (t) stel__add_relaxed(&t->references, 1);
    return t;
}

void stel_cancel_token_release(stel_cancel_token *t) {
    if (!t || stel__sub_acq_rel(&t->references, 1) != 1) return; /* the last sees what the others did */
    stel__free(t->fibers);
    stel__free(t);
}

bool stel_cancel_token_cancelled(const stel_cancel_token *t) {
    return t && stel__load_acquire(&t->cancelled); /* pairs with the release in cancel */
}

int stel_cancel_token_cancel(stel_cancel_token *t) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!t) return -EINVAL;
    stel__lock_take(&t->lock);
    stel__store_release(&t->cancelled, true); /* pairs with stel_cancel_token_cancelled */
    stel_fiber *fibers = t->fibers;
    size_t count = t->count;
    t->fibers = NULL;
    t->count = t->room = 0;
    stel__lock_give(&t->lock);
    for (size_t i = 0; i < count; i++)
        (void)stel_cancel(fibers[i]); /* -ESRCH: it has ended */
    stel__free(fibers);
    return 0;
}

/* Under the lock: throw out those that have ended, and make room if that did not. */
static int make_room(stel_cancel_token *t) {
    size_t kept = 0;
    for (size_t i = 0; i < t->count; i++)
        if (stel_fiber_created(t->fibers[i]) != -ESRCH) t->fibers[kept++] = t->fibers[i];
    t->count = kept;
    if (t->room && kept <= t->room / 2) return 0;
    size_t room = t->room ? 2 * t->room : ROOM_FIRST;
    stel_fiber *fibers = stel__alloc(room * sizeof *fibers);
    if (!fibers) return kept < t->room ? 0 : -ENOMEM;
    if (kept) memcpy(fibers, t->fibers, kept * sizeof *fibers);
    stel__free(t->fibers);
    t->fibers = fibers;
    t->room = room;
    return 0;
}

int stel_cancel_token_attach(stel_cancel_token *t, stel_fiber f) {
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    if (!t) return -EINVAL;
    if (stel_fiber_created(f) == -ESRCH) return -ESRCH;
    stel__lock_take(&t->lock);
    bool cancelled = stel__load_relaxed(&t->cancelled);
    int rc = cancelled || t->count < t->room ? 0 : make_room(t);
    if (!cancelled && rc == 0) t->fibers[t->count++] = f;
    stel__lock_give(&t->lock);
    return cancelled ? stel_cancel(f) : rc;
}
