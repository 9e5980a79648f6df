/* Guards: what makes an overflow of a stack fault instead of reaching into its neighbour.
 *
 * The ladder. MADV_GUARD_INSTALL (Linux 6.13) puts a guard inside a mapping without splitting it, so a million of them
 * cost no entry in /proc/self/maps; process_madvise on ourselves installs a batch in one call, at half the price of one
 * madvise each. Older kernels, and locked memory everywhere, refuse: then mprotect, which costs two mappings a guard,
 * of vm.max_map_count in all, half of which we leave to the rest of the process: running out would break its malloc and
 * its threads. After that stacks have no guard but a canary, a page of a known pattern at the same place, looked at
 * when the stack is put back; they are counted (stacks_unguarded) and a line on stderr says so, once.
 *
 *     UNKNOWN -> BATCH | PROTECT    probe, once: which advice works is found out by behaviour, as qemu-user says yes to
 *                                   any: a guard is installed on a page and a system call is made to read it,
 *                                   futex(FUTEX_WAIT), which needs no descriptor and must say EFAULT
 *     BATCH   -> SINGLE             process_madvise is refused (seccomp, or a kernel that allows it less)
 *     SINGLE  -> PROTECT            madvise is refused (locked memory)
 *     PROTECT -> NONE               mprotect is refused, or our share of the map count is used up
 *
 * A step down is for good: the reasons do not go away, and asking again for each batch would cost what we save. Only a
 * lack of memory (-ENOMEM, -EAGAIN) on the upper two rungs is taken to be of the moment: that batch alone goes down.
 *
 * process_madvise wants a descriptor for the process. Linux 6.15 has a number that means "myself"; before, a pidfd is
 * opened for each batch and closed again, a microsecond for 64 guards: a descriptor kept open would be found by every
 * program that closes all of its descriptors, and its number would come to mean something else. */
#include "host/stack.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ADVICE_GUARD_INSTALL = 102, PIDFD_OF_MYSELF = -10001 };
enum { MAP_COUNT_DEFAULT = 65530 };
static const unsigned char canary_byte = 0xC5;

static _Atomic int rung = STEL__GUARD_UNKNOWN;
static _Atomic long protect_left; /* guards that mprotect may still make; set when the first of them is wanted */
static _Atomic unsigned unguarded_said;

enum stel__guard_rung stel__guard_rung_now(void) {
    return (enum stel__guard_rung)stel__load_relaxed(&rung);
}

/* From one rung to the next one down; nothing if somebody else has been here. */
static void step_down(int from) {
    int expected = from;
    (void)stel__cas_acq_rel(&rung, &expected, from + 1);
}

/* ---- advice in batches ---- */

static ssize_t advise_batch(const struct iovec *ranges, size_t n, int advice) {
    ssize_t rc = stel__sys_process_madvise(PIDFD_OF_MYSELF, ranges, n, advice, 0);
    if (rc != -EBADF) return rc;
    int pidfd = stel__sys_pidfd_open(getpid(), 0);
    if (pidfd < 0) return pidfd;
    rc = stel__sys_process_madvise(pidfd, ranges, n, advice, 0);
    (void)stel__sys_close(pidfd);
    return rc;
}

/* The result says in bytes how far it came; ranges that were done only in part are done again. */
static size_t ranges_in(const struct iovec *ranges, size_t n, size_t bytes) {
    size_t done = 0;
    while (done < n && ranges[done].iov_len <= bytes)
        bytes -= ranges[done++].iov_len;
    return done;
}

void stel__discard_many(const struct iovec *ranges, size_t n) {
    static _Atomic bool refused; /* before 6.13 this advice is not for process_madvise; a hint that saves a call */
    size_t done = 0;
    if (!stel__load_relaxed(&refused) && !stel__sanitize_valgrind()) {
        ssize_t rc = advise_batch(ranges, n, MADV_DONTNEED);
        if (rc > 0) done = ranges_in(ranges, n, (size_t)rc);
        if (rc == -EINVAL || rc == -EPERM || rc == -ENOSYS) stel__store_relaxed(&refused, true);
    }
    for (; done < n; done++)
        (void)stel__sys_madvise(ranges[done].iov_base, ranges[done].iov_len, MADV_DONTNEED);
}

/* ---- the rungs ---- */

static bool of_the_moment(ssize_t error) {
    return error == -ENOMEM || error == -EAGAIN;
}

/* Each rung takes the guards from done on and returns how many there are now. */
static size_t guard_batch(const struct iovec *guards, size_t n) {
    ssize_t rc = advise_batch(guards, n, ADVICE_GUARD_INSTALL);
    if (rc >= 0) return ranges_in(guards, n, (size_t)rc);
    /* No descriptor to be had is of the moment as well. */
    if (!of_the_moment(rc) && rc != -EMFILE && rc != -ENFILE) step_down(STEL__GUARD_BATCH);
    return 0;
}

static size_t guard_single(const struct iovec *guards, size_t n, size_t done) {
    for (; done < n; done++) {
        int rc = stel__sys_madvise(guards[done].iov_base, guards[done].iov_len, ADVICE_GUARD_INSTALL);
        if (rc < 0) {
            if (!of_the_moment(rc)) step_down(STEL__GUARD_SINGLE);
            break;
        }
    }
    return done;
}

static long map_count_max(void) {
    char text[32];
    int fd = stel__sys_open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return MAP_COUNT_DEFAULT;
    ssize_t n = stel__sys_read(fd, text, sizeof text - 1);
    (void)stel__sys_close(fd);
    if (n <= 0) return MAP_COUNT_DEFAULT;
    text[n] = 0;
    long count = strtol(text, NULL, 10);
    return count > 0 ? count : MAP_COUNT_DEFAULT;
}

static void share_map_count(void) {
    stel__store_relaxed(&protect_left, map_count_max() / 4); /* two mappings each: half of all */
}

static size_t guard_protect(const struct iovec *guards, size_t n, size_t done) {
    static pthread_once_t shared = PTHREAD_ONCE_INIT;
    pthread_once(&shared, share_map_count);
    for (; done < n; done++) {
        if (stel__add_relaxed(&protect_left, -1) <= 0 ||
            stel__sys_mprotect(guards[done].iov_base, guards[done].iov_len, PROT_NONE) < 0) {
            stel__add_relaxed(&protect_left, 1);
            step_down(STEL__GUARD_PROTECT);
            break;
        }
    }
    return done;
}

STEL__UNSANITIZED static void canary_write(void *page) {
    memset(page, canary_byte, STEL__PAGE);
}

/* The page next to the stack's lowest byte carries the pattern: an overflow writes there first. */
STEL__UNSANITIZED bool stel__guard_canary_whole(uintptr_t slot, size_t guard_bytes) {
    const unsigned char *page = (const unsigned char *)(slot + guard_bytes - STEL__PAGE);
    for (size_t i = 0; i < STEL__PAGE; i++)
        if (page[i] != canary_byte) return false;
    return true;
}

/* ---- which rung to begin with ---- */

/* Does the advice do what it says? On a page of its own. */
static bool probe(void) {
    void *pages = NULL;
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    if (stel__sys_mmap(&pages, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0)
        return false;
    bool works = false;
    if (stel__sys_madvise(pages, bytes, ADVICE_GUARD_INSTALL) == 0) {
        /* The word is not 1: without a guard this returns -EAGAIN at once. */
        works = stel__sys_futex(pages, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0) == -EFAULT;
    }
    (void)stel__sys_munmap(pages, bytes);
    return works;
}

static void choose_rung(void) {
    int found = probe() ? STEL__GUARD_BATCH : STEL__GUARD_PROTECT;
    if (found == STEL__GUARD_BATCH && stel__sanitize_valgrind()) found = STEL__GUARD_SINGLE; /* knows no other call */
    stel__store_release(&rung, found);                                                       /* pairs with guard_make */
}

uint64_t stel__guard_make(uintptr_t first_slot, size_t slot_bytes, uint32_t n, size_t guard_bytes,
                          struct iovec *guards) {
    static pthread_once_t chosen = PTHREAD_ONCE_INIT;
    STEL__ASSERT(n > 0 && n <= STEL__STACK_BATCH && guard_bytes > 0 && guard_bytes < slot_bytes);
    if (stel__load_acquire(&rung) == STEL__GUARD_UNKNOWN) pthread_once(&chosen, choose_rung);
    for (uint32_t i = 0; i < n; i++)
        guards[i] = (struct iovec){ (void *)(first_slot + i * slot_bytes), guard_bytes };
    int start = stel__load_acquire(&rung);
    size_t done = 0;
    if (start <= STEL__GUARD_BATCH) done = guard_batch(guards, n);
    if (done < n && start <= STEL__GUARD_SINGLE) done = guard_single(guards, n, done);
    if (done < n && start <= STEL__GUARD_PROTECT) done = guard_protect(guards, n, done);
    if (done == n) return 0;
    stel__warn_once(&unguarded_said, "stacks without guard pages from now on: the kernel refuses more; an overflow "
                                     "is seen only when the fiber ends");
    uint64_t without = 0;
    for (; done < n; done++) {
        canary_write((void *)(first_slot + done * slot_bytes + guard_bytes - STEL__PAGE));
        without |= UINT64_C(1) << done;
    }
    return without;
}
