/* Files, in blocking style. pool=1: the same by the offload pool, as one would do without files in the library. */
#include "../../common/files.h"
#include "driver.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { CHUNK = 1 << 20 };

static int fibers, rounds, by_pool, file;
static int64_t pages;
static int *files;
static char *buffers;
static _Atomic uint64_t checksum;

typedef struct request {
    int fd;
    char *buffer;
    int64_t at;
} request;

/* ---- random reads ---- */

static int pread_there(void *arg) {
    const request *r = arg;
    return (int)pread(r->fd, r->buffer, BENCH_PAGE, r->at);
}

static int read_page(request *r) {
    int result;
    if (!by_pool) return (int)stel_pread(r->fd, r->buffer, BENCH_PAGE, r->at);
    MUST(stel_offload(&result, pread_there, r));
    return result;
}

static int reader(void *arg) {
    int64_t me = (intptr_t)arg;
    request r = { .fd = file, .buffer = buffers + me * BENCH_PAGE };
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++)
        for (int64_t i = me; i < pages; i += fibers) {
            r.at = bench_file_page(i, pages) * BENCH_PAGE;
            if (read_page(&r) != BENCH_PAGE) bench_fail("a page cannot be read");
            sum += bench_file_sum(r.buffer, BENCH_PAGE);
        }
    checksum += sum;
    return 0;
}

static void all(stel_fn *fn) {
    STEL_SCOPE(s);
    for (intptr_t i = 0; i < fibers; i++)
        MUST(stel_scope_spawn(&s, fn, (void *)i));
    MUST(stel_scope_join(&s));
}

static int read_all(void *arg) {
    int cold = bench_param_int("cold", 0);
    (void)arg;
    for (int run = 0; run < 2; run++) {
        if (cold) bench_file_drop(file, 0);
        checksum = 0;
        bench_start();
        all(reader);
    }
    int64_t wall = bench_stop(), n = pages * rounds;
    bench_result("rate", "/s", (double)n * 1e9 / (double)wall, checksum, n);
    return 0;
}

void run_read(void) {
    fibers = bench_param_int("fibers", 64);
    pages = bench_param("pages", 8192);
    rounds = bench_param_int("rounds", 1);
    by_pool = bench_param_int("pool", 0);
    file = bench_file_open(pages, O_RDONLY | (bench_param_int("direct", 0) ? O_DIRECT : 0));
    buffers = bench_file_buffer((int64_t)fibers * BENCH_PAGE);
    run_fibers(read_all, NULL);
}

/* ---- one after the other ---- */

static int read_there(void *arg) {
    const request *r = arg;
    return (int)read(r->fd, r->buffer, CHUNK);
}

static int read_through(void *arg) {
    int cold = bench_param_int("cold", 0);
    (void)arg;
    for (int run = 0; run < 2; run++) {
        if (cold) bench_file_drop(file, 1);
        checksum = 0;
        bench_start();
        for (int round = 0; round < rounds; round++) {
            request r = { .fd = file, .buffer = buffers };
            int n;
            lseek(file, 0, SEEK_SET);
            do {
                if (!by_pool)
                    n = (int)stel_read(file, buffers, CHUNK);
                else
                    MUST(stel_offload(&n, read_there, &r));
                checksum += bench_file_sum(buffers, MUST(n));
            } while (n > 0);
        }
    }
    int64_t wall = bench_stop(), bytes = pages * rounds * BENCH_PAGE;
    bench_result("rate", "MB/s", (double)bytes * 1e3 / (double)wall, checksum, bytes / CHUNK);
    return 0;
}

void run_read_through(void) {
    pages = bench_param("pages", 8192);
    rounds = bench_param_int("rounds", 1);
    by_pool = bench_param_int("pool", 0);
    file = bench_file_open(pages, O_RDONLY);
    buffers = bench_file_buffer(CHUNK);
    run_fibers(read_through, NULL);
}

/* ---- appends, each on the disk before the next ---- */

/* Each call by itself, as who has a pool for what blocks makes them. */
static int append_there(void *arg) {
    const request *r = arg;
    return write(r->fd, r->buffer, BENCH_PAGE) == BENCH_PAGE ? 0 : -EIO;
}
static int sync_there(void *arg) {
    const request *r = arg;
    return fsync(r->fd) == 0 ? 0 : -EIO;
}

static int appender(void *arg) {
    int64_t me = (intptr_t)arg;
    request r = { .fd = files[me], .buffer = buffers + me * BENCH_PAGE };
    for (int round = 0; round < rounds; round++) {
        int rc = 0;
        if (by_pool) {
            MUST(stel_offload(&rc, append_there, &r));
            if (rc == 0) MUST(stel_offload(&rc, sync_there, &r));
        } else {
            rc = stel_write_all(r.fd, r.buffer, BENCH_PAGE, NULL);
            if (rc == 0) rc = stel_fsync(r.fd);
        }
        if (rc < 0) bench_fail("a page cannot be appended: %s", stel_strerror(rc));
    }
    return 0;
}

static int append_all(void *arg) {
    int of = bench_param_int("files", 1), all_rounds = rounds;
    (void)arg;
    rounds = rounds / 10 + 1;
    all(appender);
    rounds = all_rounds;
    for (int i = 0; i < of; i++)
        MUST(ftruncate(files[i], 0));
    bench_start();
    all(appender);
    int64_t wall = bench_stop(), n = (int64_t)rounds * fibers;
    for (int i = 0; i < of; i++)
        checksum += (uint64_t)lseek(files[i], 0, SEEK_END) / BENCH_PAGE;
    bench_result("rate", "/s", (double)n * 1e9 / (double)wall, checksum, n);
    return 0;
}

void run_append(void) {
    int of = bench_param_int("files", 1);
    fibers = bench_param_int("fibers", 64);
    rounds = bench_param_int("rounds", 50);
    by_pool = bench_param_int("pool", 0);
    buffers = bench_file_buffer((int64_t)fibers * BENCH_PAGE);
    files = bench_alloc((size_t)fibers * sizeof *files);
    for (int i = 0; i < fibers; i++)
        files[i] = i < of ? bench_file_empty() : files[i % of];
    run_fibers(append_all, NULL);
}
