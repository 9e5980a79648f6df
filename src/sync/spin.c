/* The slow way to a lock; see spin.h. */
#include "sync/spin.h"

enum { LOOKS_MAX = 60, SLEEP_MIN_NS = 20000, SLEEP_MAX_NS = 1000000 };

void stel__spin_slow(stel__spin *l) {
    if (stel__load_relaxed(&stel__forked)) return; /* as in host/lock.c */
    for (int64_t sleep_ns = SLEEP_MIN_NS;; sleep_ns = sleep_ns < SLEEP_MAX_NS / 2 ? 2 * sleep_ns : SLEEP_MAX_NS) {
        for (int i = 0; i < LOOKS_MAX; i++) {
            if (stel__load_relaxed(&l->word) == 0 && stel__spin_try(l)) return;
            stel__cpu_relax();
        }
        /* Nobody will wake us: what counts is the time. If the lock was given back before, the kernel sees it. */
        (void)stel__futex_wait(&l->word, 1, stel__clock_now() + sleep_ns);
    }
}
