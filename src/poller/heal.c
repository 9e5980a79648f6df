/* Walks over the slots: healing, the end of a poller, the end of accepting.
 *
 * Healing. close(2), dup2(2) or fclose(3) on a number behind our back takes it out of the epoll instance (or leaves the
 * old file in it) without a word, and a fiber parked on it would wait for ever. So whatever has been parked for more
 * than a while is registered again. -EEXIST: nothing has happened. Success: the number has become another file; its
 * waiters look again. -EBADF: it was closed; they are told so. Otherwise it has become something that cannot be waited
 * for; they look again.
 *
 * -EEXIST may also be said of a registration from an earlier life: a file that was waited on under this number, went
 * away while it lived on under another one, and has come back. Its events carry the old token and are dropped, and that
 * is noticed (strayed): then it is taken out and put in again.
 *
 * An operation that is on keeps the file with which it began: who waits for one for long is made to begin it anew, which
 * finds out by itself what the number means now.
 *
 * No clock is read when a waiter parks. A slot counts the waits that were begun on it; heal notes the count and when it
 * is due, and acts when it comes by later and nothing was begun since. The next visits to the same wait come after
 * twice the time each, so ten thousand idle connections cost a thousand system calls a second at the most and not a
 * hundred thousand. A call looks at a bounded number of slots, most of them in passing (one load). */
#include "poller/inside.h"

enum { LOOKS_A_CALL = 2048, REGISTRATIONS_A_CALL = 128 };
enum { FIRST_MS = 100, STEPS_MAX = 7 }; /* 100 ms, 200, ... 12.8 s */

/* Under the lock: register again; what is owed to the waiters is gathered in wakes. */
static void register_again(stel__slot *s, int fd, stel__wakes *wakes) {
    stel__poller *p = s->armed;
    short events = stel__slot_wanted(s);
    if (!events) return; /* operations only */
    int rc = stel__poller_arm(p, fd, events, stel__slot_token(s, fd));
    if (rc == -EEXIST && s->strayed) {
        s->strayed = false;
        (void)stel__poller_disarm(p, fd);
        rc = stel__poller_arm(p, fd, events, stel__slot_token(s, fd)) == 0 ? -EEXIST : rc; /* else: the next visit */
    }
    if (rc == -EEXIST || rc == -ENOMEM || rc == -ENOSPC) return;
    if (rc == 0 && stel__poller_can(p, STEL_BACKEND_ONESHOT)) return; /* whatever it is, it is watched now */
    wakes->which = rc == -EBADF ? STEL__SLOT_CLOSED : STEL__SLOT_CHANGED;
    stel__slot_new_life(s, wakes);
    /* The registration that was just made carries the life before this one: take it out, the next wait makes its own.
     */
    if (rc == 0) (void)stel__poller_disarm(p, fd);
}

static bool operates(const stel__node *n, const void *g) {
    return (n->flags & STEL__NODE_OPERATION) && n->element == g;
}

static bool any_operation(const stel__slot *s, const stel__pollers *g) {
    for (const stel__link *l = s->waiters.head; l; l = l->next)
        if (operates(STEL__CONTAINER(l, const stel__node, link), g)) return true;
    return false;
}

/* Returns true if it made a system call, or made somebody make one. */
static bool heal(stel__slot *s, int fd, stel__pollers *g, uint32_t now_ms) {
    bool asked = false;
    stel__wakes wakes = { .n = 0 }, anew = { .n = 0, .which = STEL__SLOT_HEAL };
    stel__lock_take(&s->lock);
    bool armed = s->armed && s->armed->group == g, operation = any_operation(s, g);
    if (!s->waiters.head || (!armed && !operation)) {
        s->heal_seen = s->waits;
    } else if (s->heal_seen != s->waits) {
        s->heal_seen = s->waits;
        s->heal_step = 0;
        s->heal_due_ms = now_ms + FIRST_MS;
    } else if ((int32_t)(now_ms - s->heal_due_ms) >= 0) {
        if (s->heal_step < STEPS_MAX) s->heal_step++;
        s->heal_due_ms = now_ms + ((uint32_t)FIRST_MS << s->heal_step);
        if (operation) stel__slot_choose(s, &anew, operates, g);
        if (armed) register_again(s, fd, &wakes);
        asked = true;
    }
    stel__lock_give(&s->lock);
    stel__wakes_pay(&anew);
    stel__wakes_pay(&wakes);
    return asked;
}

void stel__slot_heal_some(stel__pollers *g, uint32_t *cursor, int64_t now) {
    const uint32_t end = (uint32_t)stel__load_acquire(&stel__slot_segments_end) * STEL__SLOT_SEGMENT; /* slot_make */
    uint32_t now_ms = (uint32_t)(uint64_t)(now / 1000000), n = *cursor;
    int looks = LOOKS_A_CALL, asks = REGISTRATIONS_A_CALL;
    for (; looks > 0 && asks > 0; looks--) {
        if (n >= end) {
            n = 0;
            break;
        }
        stel__slot *segment = stel__load_acquire(&stel__slot_segments[n / STEL__SLOT_SEGMENT]); /* slot_make */
        if (!segment) {
            n = (n / STEL__SLOT_SEGMENT + 1) * STEL__SLOT_SEGMENT;
            continue;
        }
        stel__slot *s = &segment[n % STEL__SLOT_SEGMENT];
        /* relaxed: whoever parks at this moment is seen the next time */
        if (stel__load_relaxed(&s->newest) && heal(s, (int)n, g, now_ms)) asks--;
        n++;
    }
    *cursor = n;
}

/* fn for every slot there is, under its lock. */
static void for_every_slot(void (*fn)(stel__slot *s, void *whose, stel__wakes *wakes), void *whose) {
    int end = stel__load_acquire(&stel__slot_segments_end); /* slot_make */
    for (int i = 0; i < end; i++) {
        stel__slot *segment = stel__load_acquire(&stel__slot_segments[i]); /* slot_make */
        for (int k = 0; segment && k < STEL__SLOT_SEGMENT; k++) {
            stel__wakes wakes = { .n = 0, .which = STEL__SLOT_LOOK_AGAIN };
            stel__lock_take(&segment[k].lock);
            fn(&segment[k], whose, &wakes);
            stel__lock_give(&segment[k].lock);
            stel__wakes_pay(&wakes);
        }
    }
}

static void forget(stel__slot *s, void *p, stel__wakes *wakes) {
    if (s->armed != p) return;
    s->armed = NULL;
    stel__slot_choose(s, wakes, NULL, NULL); /* fibers of other runtimes: they register with their own */
}

void stel__slot_forget_poller(stel__poller *p) {
    for_every_slot(forget, p);
}

static bool is_acceptor_of(const stel__node *n, const void *g) {
    return (n->flags & STEL__NODE_ACCEPTOR) && n->element == g;
}

static void wake_acceptors(stel__slot *s, void *g, stel__wakes *wakes) {
    stel__slot_choose(s, wakes, is_acceptor_of, g);
}

void stel__pollers_wake_acceptors(stel__pollers *g) {
    for_every_slot(wake_acceptors, g);
}
