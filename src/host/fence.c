/* A fence with a cheap side and a dear one.
 *
 * Two threads that each write one word and then read the other's need a full fence in between, both of them: a locked
 * instruction, 5 ns. Where one of them does so with every fiber and the other hardly ever, the other can do it for both:
 * membarrier(2) makes every CPU that runs a thread of this process pass a full fence before it returns. So a load of the
 * first thread either came before the call, and then its write is visible after it, or it comes later, and then it sees
 * what was written before the call. All that is left for the first thread is to keep the compiler from exchanging the two.
 * (The idea: Mathieu Desnoyers, Paul McKenney and others, "User-level implementations of read-copy update", 2012.)
 *
 * Where the call is refused both sides are full fences. That is found out before the first worker starts. A program may
 * forbid it to itself later (seccomp): then both sides are full fences from there on; and for the ones that are light and
 * on their way, the protection of a page is changed, which interrupts the other CPUs for the sake of their TLBs.
 * ThreadSanitizer knows nothing of all this, so there it is never used. */
#include "host/host.h"
#include <sys/mman.h>
#include <unistd.h>

_Atomic bool stel__fence_is_light;

static struct {
    stel__lock lock;
    bool known; /* under lock */
    void *page; /* fixed once known */
    size_t page_bytes;
} fence;

void stel__fence_init(void) {
#ifndef STEL__TSAN
    stel__lock_take(&fence.lock);
    if (!fence.known) {
        fence.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
        bool page = stel__sys_mmap(&fence.page, NULL, fence.page_bytes, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == 0;
        stel__store_relaxed(&stel__fence_is_light, page && stel__sys_membarrier(STEL__MEMBARRIER_REGISTER) == 0 &&
                                                       stel__sys_membarrier(STEL__MEMBARRIER_NOW) == 0);
        fence.known = true;
    }
    stel__lock_give(&fence.lock);
#endif
}

STEL__COLD static void refused(void) {
    stel__store_seq_cst(&stel__fence_is_light, false);
    stel__lock_take(&fence.lock);
    *(volatile char *)fence.page = 1; /* so that there is a translation to forget */
    (void)stel__sys_mprotect(fence.page, fence.page_bytes, PROT_READ);
    (void)stel__sys_mprotect(fence.page, fence.page_bytes, PROT_READ | PROT_WRITE);
    stel__lock_give(&fence.lock);
}

void stel__fence_heavy(void) {
    stel__fence_seq_cst();
    if (stel__load_relaxed(&stel__fence_is_light) && stel__sys_membarrier(STEL__MEMBARRIER_NOW) < 0) refused();
}
