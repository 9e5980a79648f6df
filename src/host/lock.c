/* The futex, and the internal lock made of it: three states in one word (Drepper, "Futexes are tricky", 2011, the
 * second mutex). 0 free; 1 held and nobody sleeps; 2 held and somebody may sleep.
 *
 *     0 -> 1   stel__lock_take, stel__lock_try, no contention
 *     * -> 2   lock_slow, before it sleeps, and whenever it wakes (others may still sleep)
 *     1 -> 0   stel__lock_give
 *     2 -> 0   stel__lock_give, which then wakes one sleeper
 *
 * No wake is lost: a sleeper sleeps only while the word is 2, checked by the kernel, and whoever takes a 2 away wakes.
 * A thread that takes the lock out of lock_slow leaves 2 behind although it may be the last one: one wake too many, for
 * nobody, is the price for keeping no count.
 *
 * Sections under this lock are a few dozen instructions, so it pays to look a few times before going to sleep, except
 * when somebody sleeps already: then there are more who want it than can have it.
 *
 * Pairs: the exchange in give (release) with the compare-and-swap or exchange of the next taker (acquire). */
#include "host/host.h"
#include <linux/futex.h>

enum { SPINS_MAX = 60 }; /* 1-3 us, a quarter of what sleeping and being woken costs */

int stel__futex_wait(stel__futex *f, uint32_t expected, int64_t until) {
    if (until == STEL_FOREVER)
        return stel__sys_futex((uint32_t *)(void *)f, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
    if (until < 0) until = 0;
    struct timespec t = { .tv_sec = until / 1000000000, .tv_nsec = until % 1000000000 };
    /* WAIT_BITSET takes a point in time, of CLOCK_MONOTONIC. */
    return stel__sys_futex((uint32_t *)(void *)f, FUTEX_WAIT_BITSET_PRIVATE, expected, &t, NULL,
                           FUTEX_BITSET_MATCH_ANY);
}

void stel__futex_wake(stel__futex *f, int n) {
    (void)stel__sys_futex((uint32_t *)(void *)f, FUTEX_WAKE_PRIVATE, (uint32_t)n, NULL, NULL, 0);
}

void stel__lock_slow(stel__lock *l) {
    /* In the child of a fork its holder may be gone. Nobody else is there either, so it is as good as ours. */
    if (stel__load_relaxed(&stel__forked)) return;
    for (int i = 0; i < SPINS_MAX; i++) {
        uint32_t seen = stel__load_relaxed(&l->word);
        if (seen == 2) break;
        if (seen == 0 && stel__lock_try(l)) return;
        stel__cpu_relax();
    }
    while (stel__xchg_acquire(&l->word, 2) != 0) /* pairs with stel__lock_give */
        (void)stel__futex_wait(&l->word, 2, STEL_FOREVER);
}

void stel__unlock_slow(stel__lock *l) {
    stel__futex_wake(&l->word, 1);
}
