/* Files: a thread for each reader and writer. */
#include "../../common/files.h"
#include "files.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 1 << 20 };

static int threads, rounds, file;
static int64_t pages;
static int *files;
static char *buffers;
static _Atomic uint64_t checksum;

static void all(void *(*fn)(void *)) {
    pthread_t *ids = bench_alloc((size_t)threads * sizeof *ids);
    for (intptr_t i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, fn, (void *)i) != 0) bench_fail("pthread_create failed");
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
}

static void *reader(void *arg) {
    int64_t me = (intptr_t)arg;
    char *buffer = buffers + me * BENCH_PAGE;
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++)
        for (int64_t i = me; i < pages; i += threads) {
            if (pread(file, buffer, BENCH_PAGE, bench_file_page(i, pages) * BENCH_PAGE) != BENCH_PAGE)
                bench_fail("a page cannot be read: %s", strerror(errno));
            sum += bench_file_sum(buffer, BENCH_PAGE);
        }
    checksum += sum;
    return NULL;
}

void run_read(void) {
    threads = bench_param_int("fibers", 64);
    pages = bench_param("pages", 8192);
    rounds = bench_param_int("rounds", 1);
    file = bench_file_open(pages, O_RDONLY | (bench_param_int("direct", 0) ? O_DIRECT : 0));
    buffers = bench_file_buffer((int64_t)threads * BENCH_PAGE);
    for (int run = 0; run < 2; run++) {
        if (bench_param_int("cold", 0)) bench_file_drop(file, 0);
        checksum = 0;
        bench_start();
        all(reader);
    }
    int64_t wall = bench_stop(), n = pages * rounds;
    bench_result("rate", "/s", (double)n * 1e9 / (double)wall, checksum, n);
}

void run_read_through(void) {
    pages = bench_param("pages", 8192);
    rounds = bench_param_int("rounds", 1);
    file = bench_file_open(pages, O_RDONLY);
    buffers = bench_file_buffer(CHUNK);
    for (int run = 0; run < 2; run++) {
        if (bench_param_int("cold", 0)) bench_file_drop(file, 1);
        checksum = 0;
        bench_start();
        for (int round = 0; round < rounds; round++) {
            ssize_t n;
            lseek(file, 0, SEEK_SET);
            while ((n = read(file, buffers, CHUNK)) > 0)
                checksum += bench_file_sum(buffers, n);
        }
    }
    int64_t wall = bench_stop(), bytes = pages * rounds * BENCH_PAGE;
    bench_result("rate", "MB/s", (double)bytes * 1e3 / (double)wall, checksum, bytes / CHUNK);
}

static void *appender(void *arg) {
    int64_t me = (intptr_t)arg;
    for (int round = 0; round < rounds; round++)
        if (write(files[me], buffers + me * BENCH_PAGE, BENCH_PAGE) != BENCH_PAGE || fsync(files[me]) != 0)
            bench_fail("a page cannot be appended: %s", strerror(errno));
    return NULL;
}

void run_append(void) {
    int of = bench_param_int("files", 1), all_rounds = bench_param_int("rounds", 50);
    threads = bench_param_int("fibers", 64);
    buffers = bench_file_buffer((int64_t)threads * BENCH_PAGE);
    files = bench_alloc((size_t)threads * sizeof *files);
    for (int i = 0; i < threads; i++)
        files[i] = i < of ? bench_file_empty() : files[i % of];
    rounds = all_rounds / 10 + 1;
    all(appender);
    rounds = all_rounds;
    for (int i = 0; i < of; i++)
        if (ftruncate(files[i], 0) != 0) bench_fail("ftruncate: %s", strerror(errno));
    bench_start();
    all(appender);
    int64_t wall = bench_stop(), n = (int64_t)rounds * threads;
    for (int i = 0; i < of; i++)
        checksum += (uint64_t)lseek(files[i], 0, SEEK_END) / BENCH_PAGE;
    bench_result("rate", "/s", (double)n * 1e9 / (double)wall, checksum, n);
}
