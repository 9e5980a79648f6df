#include "files.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK_PAGES = 256 };

/* A path beside the driver: it is on a disk as a rule, which other places for files may not be. */
static void beside(char *path, size_t bytes, const char *name) {
    char self[3072];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) bench_fail("the driver does not find itself: %s", strerror(errno));
    self[n] = 0;
    *strrchr(self, '/') = 0;
    snprintf(path, bytes, "%s/%s", self, name);
}

void *bench_file_buffer(int64_t bytes) {
    void *buffer = aligned_alloc(BENCH_PAGE, (size_t)bytes);
    if (!buffer) bench_fail("no memory");
    memset(buffer, 1, (size_t)bytes);
    return buffer;
}

static void fill(int fd, int64_t pages) {
    char *chunk = bench_file_buffer(CHUNK_PAGES * BENCH_PAGE);
    for (int64_t i = 0; i < pages; i++) {
        uint64_t number = (uint64_t)i;
        memcpy(chunk + i % CHUNK_PAGES * BENCH_PAGE, &number, sizeof number);
        if ((i + 1) % CHUNK_PAGES && i + 1 < pages) continue;
        size_t bytes = (size_t)(i % CHUNK_PAGES + 1) * BENCH_PAGE;
        if (write(fd, chunk, bytes) != (ssize_t)bytes) bench_fail("the file cannot be written: %s", strerror(errno));
    }
    if (fsync(fd) != 0) bench_fail("fsync: %s", strerror(errno));
    free(chunk);
}

/* It gets its name when it is complete: a driver that is ended half-way leaves nothing that others would take for it. */
static void make(const char *path, int64_t pages) {
    char unfinished[4200];
    snprintf(unfinished, sizeof unfinished, "%s.%ld", path, (long)getpid());
    int fd = open(unfinished, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) bench_fail("%s cannot be made: %s", unfinished, strerror(errno));
    fill(fd, pages);
    close(fd);
    if (rename(unfinished, path) != 0) bench_fail("%s cannot be made: %s", path, strerror(errno));
}

int bench_file_open(int64_t pages, int flags) {
    char path[4096], name[64];
    struct stat st;
    snprintf(name, sizeof name, "bench-file-%lld", (long long)pages);
    beside(path, sizeof path, name);
    if (stat(path, &st) != 0 || st.st_size != pages * BENCH_PAGE) make(path, pages);
    return bench_must(open(path, flags | O_CLOEXEC), "open");
}

void bench_file_drop(int fd, int sequential) {
    posix_fadvise(fd, 0, 0, sequential ? POSIX_FADV_SEQUENTIAL : POSIX_FADV_RANDOM);
    int code = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (code != 0) bench_fail("posix_fadvise: %s", strerror(code));
}

int bench_file_empty(void) {
    char path[4096], name[64];
    snprintf(name, sizeof name, "bench-append-XXXXXX");
    beside(path, sizeof path, name);
    int fd = bench_must(mkostemp(path, O_APPEND | O_CLOEXEC), "mkostemp");
    unlink(path);
    return fd;
}

uint64_t bench_file_sum(const void *buffer, int64_t bytes) {
    uint64_t sum = 0, number;
    for (int64_t at = 0; at < bytes; at += BENCH_PAGE) {
        memcpy(&number, (const char *)buffer + at, sizeof number);
        sum += number;
    }
    return sum;
}
