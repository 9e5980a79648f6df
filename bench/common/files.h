/* files: the files that the workloads of files read and write, beside the drivers. */
#ifndef BENCH_FILES_H
#define BENCH_FILES_H

#include "bench.h"
#include <sys/types.h>

enum { BENCH_PAGE = 4096 };

/* The file that is read: `pages` pages (a power of two), each of which begins with its number. It is made by the first
 * driver that asks, and kept. flags: O_RDONLY, and O_DIRECT. */
int bench_file_open(int64_t pages, int flags);
/* Its pages out of memory; without O_DIRECT, none is read that was not asked for, unless sequential. */
void bench_file_drop(int fd, int sequential);
/* An empty file to be appended to, without a name. */
int bench_file_empty(void);
/* Each page once, in an order that looks like chance. */
static inline int64_t bench_file_page(int64_t i, int64_t pages) {
    return (int64_t)((uint64_t)i * UINT64_C(2654435761) & (uint64_t)(pages - 1));
}
/* The sum of the numbers that the pages in a buffer begin with. */
uint64_t bench_file_sum(const void *buffer, int64_t bytes);
/* Aligned for O_DIRECT, and touched. */
void *bench_file_buffer(int64_t bytes);

#endif
