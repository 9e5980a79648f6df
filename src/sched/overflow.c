/* Whose stack has overflowed: the last lines of a process. Called in the handler of SIGSEGV on the thread's signal stack,
 * so it takes no lock of ours. It does use dladdr (stel__symbol), whose lock is recursive, and snprintf without
 * anything that allocates: not sanctioned by POSIX, but the process ends here in any case, and a name is worth much. */
#include "sched/worker.h"
#include <inttypes.h>
#include <stdio.h>

/* The running fiber, nearly always; else somebody has reached into another fiber's stack. */
static const stel__fiber *owner_of(const stel__stack *s) {
    stel__worker *w = stel__worker_self();
    const stel__fiber *f = w ? stel__worker_current(w) : NULL;
    if (f && f->stack == s) return f;
    for (uint32_t i = 0, n = stel__table_size(); i < n; i++) {
        f = stel__fiber_at(i);
        if ((stel__load_acquire(&f->life) & STEL__LIFE_ALIVE) && f->stack == s) return f;
    }
    return NULL;
}

void stel__sched_describe_overflow(int fd, const stel__stack *s, const void *address) {
    char line[512], entry[STEL__SYMBOL_BYTES], site[STEL__SYMBOL_BYTES];
    const stel__fiber *f = owner_of(s);
    (void)address;
    if (!f) return;
    stel_fiber handle = stel__fiber_handle(f, stel__load_acquire(&f->life));
    stel__symbol(entry, (void *)(uintptr_t)stel__load_relaxed(&f->fn));
    stel__symbol(site, stel__load_relaxed(&f->spawn_site));
    int n = snprintf(line, sizeof line,
                     "stellane: it is the stack of fiber %#" PRIx64 " \"%.31s\" (entry %s, spawned at %s); "
                     "more: stack_bytes in stel_spawn_options, STELLANE_RUNTIME_STACK_SIZE for all\n",
                     handle, f->extra ? f->extra->name : "", entry, site);
    if (n > 0) (void)stel__sys_write(fd, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}
