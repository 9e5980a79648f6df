/* What tests of files share. */
#ifndef FILES_H
#define FILES_H

#include "host/fault.h"
#include "host/sanitize.h"
#include "io_sides.h"
#include <errno.h>
#include <sys/stat.h>

/* Two tests of one body: with io_uring, where it can be had, and without. Whether it can is found out once a process, and
 * each test is one. */
#define BOTH_WAYS(name, body)                                                                                          \
    START_TEST(name) {                                                                                                 \
        on_all_kinds(body);                                                                                            \
    }                                                                                                                  \
    END_TEST                                                                                                           \
    START_TEST(name##_without_rings) {                                                                                 \
        stel__fault_set(STEL__FAULT_IO_URING_SETUP, 1, ENOSYS, true);                                                  \
        on_all_kinds(body);                                                                                            \
    }                                                                                                                  \
    END_TEST

/* A file without a name; -1: this file system has no O_DIRECT. (Not by mkstemp, whose descriptors ThreadSanitizer does
 * not know.) */
static inline int nameless_file(int flags) {
    static _Atomic unsigned number;
    char path[64];
    snprintf(path, sizeof path, "/tmp/stel-file-%ld-%u", (long)getpid(), number++);
    int fd = open(path, flags | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FIBER_ASSERT(fd >= 0 || (flags & O_DIRECT));
    FIBER_ASSERT(unlink(path) == 0 || fd < 0);
    return fd;
}

/* Out of memory, if it lies on a disk; and no reading ahead, so that each page is cold by itself. */
static inline void make_cold(int fd) {
    FIBER_ASSERT_EQ(fsync(fd), 0);
    (void)!posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    (void)!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* What byte i of a test file is. */
static inline unsigned char byte_of(size_t i) {
    return (unsigned char)(i * 13 + i / 777);
}
static inline void fill_bytes(unsigned char *to, size_t n, size_t from) {
    for (size_t i = 0; i < n; i++)
        to[i] = byte_of(from + i);
}
static inline void check_bytes(const unsigned char *have, size_t n, size_t from) {
    for (size_t i = 0; i < n; i++)
        if (have[i] != byte_of(from + i)) FIBER_FAIL("byte %zu of the file is wrong", from + i);
}

#endif
