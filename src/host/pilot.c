/* Pilots: kernel timers that run ahead of a thread's sleeps.
 *
 * The earliest timer of a CPU is the one that its timer hardware is set to, and setting that is what a short sleep costs:
 * on a virtual machine a write to it leaves the guest (5 us on ours, and 14 to 28 until the sleeper runs). A thread that
 * sleeps until T1, then until T2, has it set twice a sleep: by the sleep, which brings a timer earlier than all others, and
 * by the interrupt, which finds nothing left but the kernel's tick, far off. A timer for T2 that is armed before the sleep
 * until T1 saves one of the two: it is not the earliest, so arming it sets nothing; the interrupt of T1 then sets the
 * hardware to T2; and the sleep until T2 brings a timer that is no earlier than the pilot's. So of two pilots one stands at
 * the end of the sleep to come and the other is armed for the end of the next. Nobody ever waits for them: the sleep has
 * its own timeout, which the same interrupt finds expired.
 *
 * Measured, a row of sleeps of 46 us, CPU time each: futex 17-22 us, with pilots 9.5-10; epoll_pwait2 16-18 and 9.4.
 * Right for sleeps that follow one another at times known beforehand, where wake_time in sched has them; a pilot for a
 * sleep that does not come costs an interrupt. They are descriptors, as a POSIX timer that notifies nobody is not armed at
 * all by the kernel; whoever gets none, sleeps without. */
#include "host/host.h"
#include <sys/timerfd.h>

static bool make(stel__pilots *p) {
    for (int i = 0; i < 2; i++) {
        p->fd[i] = stel__sys_timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (p->fd[i] >= 0) continue;
        if (i == 1) (void)stel__sys_close(p->fd[0]);
        p->refused = true;
        return false;
    }
    p->made = true;
    return true;
}

void stel__pilots_ahead(stel__pilots *p, int64_t until, int64_t then) {
    if (p->refused || (!p->made && !make(p))) return;
    int free = p->at[0] == until; /* 0, or 1 when 0 is what this sleep ends by */
    struct itimerspec at = { .it_value = { .tv_sec = then / 1000000000, .tv_nsec = then % 1000000000 } };
    p->at[free] = then;
    /* Refused if somebody has closed the descriptor and the number means something else by now: then it is not ours. */
    if (stel__sys_timerfd_settime(p->fd[free], TFD_TIMER_ABSTIME, &at) < 0) *p = (stel__pilots){ .refused = true };
}

void stel__pilots_close(stel__pilots *p) {
    if (p->made)
        for (int i = 0; i < 2; i++)
            (void)stel__sys_close(p->fd[i]);
    *p = (stel__pilots){ 0 };
}
