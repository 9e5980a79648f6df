/* The lock of this room's objects: like stel__lock, but giving it back is a plain store. Private to sync.
 *
 * An exchange costs 5-6 ns where a store is free, and a rendezvous round trip gives four locks back: a fifth of its
 * time. stel__lock needs the exchange to learn whether somebody sleeps; here nobody is woken. Who does not get the lock
 * looks for a microsecond or two, which is many times longer than it is ever held, unless its holder has lost the CPU;
 * then sleeps, for a little longer each time, and looks again. So the price is paid only where a holder was preempted,
 * and is at most a millisecond on top of that. Pure spinning would be wrong: a holder of a lower priority (SCHED_FIFO)
 * might never get the CPU back; sleeping leaves it to whoever it is.
 *
 * After the store that frees it, nothing is touched: what lives behind a lock may be freed by whoever held it last.
 *
 * Pairs: the store in give (release) with the swap of the next taker, or with a look that finds it free (acquire). */
#ifndef STEL_SYNC_SPIN_H
#define STEL_SYNC_SPIN_H

#include "host/host.h"

typedef struct stel__spin {
    stel__futex word; /* 0 free, 1 held */
} stel__spin;

void stel__spin_slow(stel__spin *l);

static inline bool stel__spin_try(stel__spin *l) {
    uint32_t free = 0;
    return stel__cas_acquire(&l->word, &free, 1);
}
static inline void stel__spin_take(stel__spin *l) {
    if (STEL__UNLIKELY(!stel__spin_try(l))) stel__spin_slow(l);
}
static inline void stel__spin_give(stel__spin *l) {
    STEL__CHECK(stel__load_relaxed(&l->word) == 1);
    stel__store_release(&l->word, 0);
}

/* Wait until whoever holds the lock has given it back. For a caller that knows of an event which the holder made while
 * holding it: that knowledge came by an acquire load or a wake, so the word read here is not older than the holder's
 * taking of the lock, and 0 means given since. Acquire: pairs with the store in give. */
static inline void stel__spin_pass(stel__spin *l) {
    if (STEL__UNLIKELY(stel__load_acquire(&l->word) != 0)) {
        stel__spin_take(l);
        stel__spin_give(l);
    }
}

#endif
