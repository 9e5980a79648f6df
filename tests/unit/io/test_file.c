/* Regular files: open, read, write, pread, pwrite, fsync, fdatasync. */
#include "host/fault.h"
#include "io_sides.h"
#include <errno.h>
#include <sys/stat.h>

enum { BYTES = 300000 };

static unsigned char byte_at(size_t i) {
    return (unsigned char)(i * 13 + i / 777);
}

static int round_trip(void *arg) {
    (void)arg;
    char path[] = "/tmp/stel-file-XXXXXX";
    int fd = mkstemp(path);
    FIBER_ASSERT(fd >= 0);
    FIBER_OK(stel_close(fd));
    FIBER_ASSERT_EQ(unlink(path), 0);
    FIBER_ASSERT_EQ(stel_open(path, O_RDWR, 0), -ENOENT);
    FIBER_ASSERT_EQ(stel_open(NULL, O_RDWR, 0), -EINVAL);

    fd = (int)FIBER_OK(stel_open(path, O_RDWR | O_CREAT | O_EXCL, 0640));
    FIBER_ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    FIBER_ASSERT_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    struct stat st;
    FIBER_ASSERT_EQ(stat(path, &st), 0);
    FIBER_ASSERT_EQ(st.st_mode & 0637 & ~0640, 0);
    unsigned char *data = malloc(BYTES), *back = calloc(2, BYTES); /* room to ask for more than there is */
    for (size_t i = 0; i < BYTES; i++)
        data[i] = byte_at(i);
    struct iovec iov[3] = { { data, 100000 }, { data + 100000, 0 }, { data + 100000, 50000 } };
    FIBER_ASSERT_EQ(stel_writev(fd, iov, 3), 150000);
    FIBER_OK(stel_write_all(fd, data + 150000, BYTES - 150001, NULL));
    FIBER_ASSERT_EQ(stel_pwrite(fd, data + BYTES - 1, 1, BYTES - 1), 1);
    FIBER_OK(stel_fsync(fd));
    FIBER_OK(stel_fdatasync(fd));

    FIBER_ASSERT_EQ(stel_pread(fd, back, 10, BYTES), 0);
    FIBER_ASSERT_EQ(stel_pread(fd, back, 10, BYTES - 4), 4);
    FIBER_ASSERT_EQ(memcmp(back, data + BYTES - 4, 4), 0);
    FIBER_ASSERT_EQ(stel_pread(fd, back, 10, -1), -EINVAL);
    FIBER_ASSERT_EQ(stel_pwrite(fd, back, 10, -1), -EINVAL);
    FIBER_ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
    iov[0].iov_base = back;
    iov[1].iov_base = iov[2].iov_base = back + 100000;
    FIBER_ASSERT_EQ(stel_readv(fd, iov, 3), 150000);
    size_t done;
    FIBER_ASSERT_EQ(stel_read_full(fd, back + 150000, BYTES, &done), -ENODATA);
    FIBER_ASSERT_EQ(done, BYTES - 150000);
    FIBER_ASSERT_EQ(memcmp(back, data, BYTES), 0);
    FIBER_ASSERT_EQ(stel_read(fd, back, 1), 0);
    FIBER_OK(stel_close(fd));
    FIBER_ASSERT_EQ(stel_fsync(fd), -EBADF);
    FIBER_ASSERT_EQ(stel_pread(fd, back, 1, 0), -EBADF);

    /* Past the page cache: opened anew after its pages were dropped, if the file system does that. */
    fd = (int)FIBER_OK(stel_open(path, O_RDONLY, 0));
    (void)!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    FIBER_ASSERT_EQ(stel_read(fd, back, BYTES), BYTES);
    FIBER_ASSERT_EQ(memcmp(back, data, BYTES), 0);
    FIBER_ASSERT_EQ(stel_write(fd, data, 1), -EBADF);
    FIBER_OK(stel_close(fd));
    int dir = (int)FIBER_OK(stel_open("/tmp", O_RDONLY | O_DIRECTORY, 0));
    FIBER_ASSERT_EQ(stel_read(dir, back, 1), -EISDIR);
    FIBER_OK(stel_close(dir));
    int p[2];
    FIBER_ASSERT_EQ(pipe(p), 0);
    FIBER_ASSERT_EQ(stel_pread(p[0], back, 1, 0), -ESPIPE);
    FIBER_ASSERT_EQ(stel_pwrite(p[1], back, 1, 0), -ESPIPE);
    FIBER_ASSERT_EQ(stel_fsync(p[1]), -EINVAL);
    FIBER_OK(stel_close(p[0]));
    FIBER_OK(stel_close(p[1]));
    free(data);
    free(back);
    FIBER_ASSERT_EQ(unlink(path), 0);
    return 0;
}

START_TEST(files) {
    on_all_kinds(round_trip);
}
END_TEST

/* The kernel forbids io_uring: the pool does it all. */
START_TEST(files_without_rings) {
    stel__fault_set(STEL__FAULT_IO_URING_SETUP, 1, EPERM, true);
    on_all_kinds(round_trip);
}
END_TEST

/* Nothing in the page cache; no RWF_NOWAIT at all; no threads for the pool. */
START_TEST(files_the_hard_way) {
    stel__fault_set(STEL__FAULT_PREADV2, 1, EAGAIN, true);
    on_all_kinds(round_trip);
    stel__fault_clear();
    stel__fault_set(STEL__FAULT_PREADV2, 1, EOPNOTSUPP, true);
    on_all_kinds(round_trip);
    stel__fault_clear();
}
END_TEST

static int without_threads(void *arg) {
    stel__fault_set(STEL__FAULT_PTHREAD_CREATE, 1, EAGAIN, true);
    int rc = round_trip(arg);
    stel__fault_clear();
    return rc;
}

START_TEST(files_without_a_pool) {
    on_all_kinds(without_threads);
}
END_TEST

/* A limit that has passed: nothing is begun. */
static int too_late(void *arg) {
    (void)arg;
    char byte;
    int fd = (int)FIBER_OK(stel_open("/proc/self/exe", O_RDONLY, 0));
    {
        STEL_TIMEOUT(-STEL_SEC(1));
        FIBER_ASSERT_EQ(stel_open("/proc/self/exe", O_RDONLY, 0), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_read(fd, &byte, 1), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_pread(fd, &byte, 1, 0), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_fsync(fd), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
    }
    FIBER_ASSERT_EQ(stel_read(fd, &byte, 1), 1);
    FIBER_ASSERT_EQ(byte, 0x7f);
    FIBER_OK(stel_close(fd));
    return 0;
}

START_TEST(deadline) {
    on_all_kinds(too_late);
}
END_TEST

TEST_MAIN("io/file", files, files_without_rings, files_the_hard_way, files_without_a_pool, deadline)
