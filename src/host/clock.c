/* Clocks. All three are read in user space by the kernel's shared page, so they are no system calls and cannot fail. */
#include "host/host.h"
#include <stellane/base.h>
#include <time.h>

static int64_t read_clock(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t) < 0) return 0; /* a thread's clock, and the thread has gone */
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t stel__clock_now(void) {
    return read_clock(CLOCK_MONOTONIC);
}

int64_t stel__clock_realtime(void) {
    return read_clock(CLOCK_REALTIME);
}

int64_t stel__clock_thread(pthread_t thread) {
    clockid_t clock;
    return pthread_getcpuclockid(thread, &clock) == 0 ? read_clock(clock) : 0;
}

int64_t stel_now(void) {
    return stel__clock_now();
}
