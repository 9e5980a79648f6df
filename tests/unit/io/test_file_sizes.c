/* Regular files: every size, vector, offset and end; cold and warm, with O_DIRECT, and what cannot be. */
#include "files.h"
#include <limits.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { MEG = 1 << 20, BYTES = 3 * MEG + 12345 }; /* some pieces of what is copied in one go */

static int a_file_of_bytes(int flags) {
    int fd = nameless_file(O_RDWR | flags);
    unsigned char *data = malloc(BYTES);
    fill_bytes(data, BYTES, 0);
    FIBER_ASSERT_EQ(stel_write(fd, data, BYTES), BYTES);
    free(data);
    return fd;
}

/* ---- sizes ---- */

static void read_at(int fd, unsigned char *buffer, size_t bytes, size_t offset) {
    size_t there = offset >= BYTES ? 0 : BYTES - offset < bytes ? BYTES - offset : bytes;
    memset(buffer, 0, bytes);
    FIBER_ASSERT_EQ(stel_pread(fd, buffer, bytes, (off_t)offset), there);
    check_bytes(buffer, there, offset);
    FIBER_ASSERT_EQ(lseek(fd, (off_t)offset, SEEK_SET), offset);
    memset(buffer, 0, bytes);
    FIBER_ASSERT_EQ(stel_read(fd, buffer, bytes), there);
    check_bytes(buffer, there, offset);
    FIBER_ASSERT_EQ(lseek(fd, 0, SEEK_CUR), offset + there);
}

static int sizes(void *arg) {
    static const size_t some[] = { 0, 1, 4095, 4097, 65535, 65537, MEG, MEG + 1, BYTES, BYTES + 9 };
    static const size_t offsets[] = { 0, 4095, 100000, BYTES - 5000, BYTES, BYTES + MEG };
    int fd = a_file_of_bytes(0);
    unsigned char *buffer = malloc(BYTES + 9);
    (void)arg;
    for (int cold = 1; cold >= 0; cold--)
        for (size_t i = 0; i < sizeof some / sizeof *some; i++)
            for (size_t j = 0; j < sizeof offsets / sizeof *offsets; j++) {
                if (cold && (i + j) % 3 == 0) make_cold(fd); /* else a part of it is warm */
                read_at(fd, buffer, some[i], offsets[j]);
            }
    free(buffer);
    FIBER_OK(stel_close(fd));
    return 0;
}
BOTH_WAYS(all_sizes, sizes)

/* As many vectors as there may be, some of them empty, none of a round length. */
static int vectors(void *arg) {
    static struct iovec iov[IOV_MAX];
    unsigned char *data = malloc(BYTES), *back = calloc(1, BYTES);
    int fd = nameless_file(O_RDWR);
    size_t at = 0;
    (void)arg;
    fill_bytes(data, BYTES, 0);
    for (int i = 0; i < IOV_MAX; i++) {
        size_t bytes = i == IOV_MAX - 1 ? BYTES - at : i % 5 == 3 ? 0 : 3001;
        iov[i] = (struct iovec){ data + at, bytes };
        at += bytes;
    }
    FIBER_ASSERT_EQ(stel_writev(fd, iov, IOV_MAX), BYTES);
    FIBER_ASSERT_EQ(stel_writev(fd, iov, 0), 0);
    FIBER_ASSERT_EQ(stel_writev(fd, iov, IOV_MAX + 1), -EINVAL);
    for (int i = 0; i < IOV_MAX; i++)
        iov[i].iov_base = back + ((unsigned char *)iov[i].iov_base - data);
    for (int cold = 0; cold < 2; cold++) {
        if (cold) make_cold(fd);
        memset(back, 0, BYTES);
        FIBER_ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
        FIBER_ASSERT_EQ(stel_readv(fd, iov, IOV_MAX), BYTES);
        check_bytes(back, BYTES, 0);
        FIBER_ASSERT_EQ(stel_readv(fd, iov, IOV_MAX), 0);
    }
    FIBER_OK(stel_close(fd));
    free(data);
    free(back);
    return 0;
}
BOTH_WAYS(many_vectors, vectors)

/* Nothing was ever written there. */
static int holes(void *arg) {
    const off_t far = (off_t)1 << 40;
    unsigned char buffer[8192], zeros[8192] = { 0 };
    int fd = nameless_file(O_RDWR);
    (void)arg;
    FIBER_ASSERT_EQ(stel_pwrite(fd, "end", 3, far), 3);
    for (int cold = 0; cold < 2; cold++) {
        if (cold) make_cold(fd);
        FIBER_ASSERT_EQ(stel_pread(fd, buffer, sizeof buffer, far / 2 + 5), sizeof buffer);
        FIBER_ASSERT_EQ(memcmp(buffer, zeros, sizeof buffer), 0);
        FIBER_ASSERT_EQ(stel_pread(fd, buffer, sizeof buffer, far - 4096), 4099);
        FIBER_ASSERT_EQ(memcmp(buffer, zeros, 4096), 0);
        FIBER_ASSERT_EQ(memcmp(buffer + 4096, "end", 3), 0);
        FIBER_ASSERT_EQ(stel_pread(fd, buffer, 1, far + 3), 0);
    }
    FIBER_OK(stel_close(fd));
    return 0;
}
BOTH_WAYS(where_holes_are, holes)

/* ---- O_DIRECT ---- */

static int direct(void *arg) {
    enum { BLOCK = 4096, BLOCKS = 16 };
    unsigned char *buffer = aligned_alloc(BLOCK, BLOCKS * BLOCK);
    int fd = nameless_file(O_RDWR | O_DIRECT);
    (void)arg;
    if (fd >= 0) {
        fill_bytes(buffer, BLOCKS * BLOCK, 0);
        FIBER_ASSERT_EQ(stel_write(fd, buffer, BLOCKS * BLOCK / 2), BLOCKS * BLOCK / 2);
        FIBER_ASSERT_EQ(stel_pwrite(fd, buffer + BLOCKS * BLOCK / 2, BLOCKS * BLOCK / 2, BLOCKS * BLOCK / 2),
                        BLOCKS * BLOCK / 2);
        FIBER_OK(stel_ftruncate(fd, BLOCKS * BLOCK - 1000));
        for (int i = 0; i < 2 * BLOCKS; i++) {
            memset(buffer, 0, BLOCKS * BLOCK);
            FIBER_ASSERT_EQ(stel_pread(fd, buffer, BLOCK, i % BLOCKS * BLOCK),
                            i % BLOCKS == BLOCKS - 1 ? BLOCK - 1000 : BLOCK);
            check_bytes(buffer, BLOCK - 1000, (size_t)(i % BLOCKS * BLOCK));
        }
        FIBER_ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
        FIBER_ASSERT_EQ(stel_read(fd, buffer, BLOCKS * BLOCK), BLOCKS * BLOCK - 1000);
        check_bytes(buffer, BLOCKS * BLOCK - 1000, 0);
        /* Not aligned: as the file system says, and that is what the plain call hears. */
        ssize_t plain = pread(fd, buffer + 1, BLOCK, 1);
        FIBER_ASSERT_EQ(stel_pread(fd, buffer + 1, BLOCK, 1), plain < 0 ? -errno : plain);
        FIBER_OK(stel_close(fd));
    }
    free(buffer);
    return 0;
}
BOTH_WAYS(past_the_memory, direct)

/* ---- what cannot be ---- */

static int refused(void *arg) {
    char path[] = "/tmp/stel-file-XXXXXX", byte = 'x';
    int fd = mkstemp(path);
    (void)arg;
    FIBER_ASSERT(fd >= 0);
    int in = (int)FIBER_OK(stel_open(path, O_RDONLY, 0)), out = (int)FIBER_OK(stel_open(path, O_WRONLY, 0));
    int directory = (int)FIBER_OK(stel_open("/tmp", O_RDONLY, 0));
    FIBER_ASSERT_EQ(stel_open("/tmp", O_WRONLY, 0), -EISDIR);
    FIBER_ASSERT_EQ(stel_open(path, O_WRONLY | O_CREAT | O_EXCL, 0600), -EEXIST);
    for (int i = 0; i < 2; i++) { /* the second time what was learnt counts */
        FIBER_ASSERT_EQ(stel_write(in, &byte, 1), -EBADF);
        FIBER_ASSERT_EQ(stel_pwrite(in, &byte, 1, 0), -EBADF);
        FIBER_ASSERT_EQ(stel_read(out, &byte, 1), -EBADF);
        FIBER_ASSERT_EQ(stel_pread(out, &byte, 1, 0), -EBADF);
        FIBER_ASSERT_EQ(stel_read(directory, &byte, 1), -EISDIR);
        FIBER_ASSERT_EQ(stel_pread(directory, &byte, 1, 0), -EISDIR);
        bool told = stel__sanitize_valgrind(); /* that would say so, too, and fail the test for it */
        if (!told) FIBER_ASSERT_EQ(stel_pwrite(out, (void *)(uintptr_t)8, 1, 0), -EFAULT);
        FIBER_ASSERT_EQ(stel_pwrite(out, &byte, 1, 0), 1);
        if (!told) FIBER_ASSERT_EQ(stel_pread(in, (void *)(uintptr_t)8, 1, 0), -EFAULT);
        FIBER_ASSERT_EQ(stel_pwrite(out, &byte, 1, INT64_MAX), -EINVAL);
    }
    FIBER_OK(stel_fsync(directory)); /* the way to make a name last */
    FIBER_OK(stel_close(in));
    FIBER_OK(stel_close(out));
    FIBER_OK(stel_close(directory));
    FIBER_ASSERT_EQ(stel_read(in, &byte, 1), -EBADF);
    FIBER_ASSERT_EQ(stel_pwrite(in, &byte, 1, 0), -EBADF);
    FIBER_ASSERT_EQ(stel_fdatasync(in), -EBADF);
    FIBER_OK(stel_close(fd));
    FIBER_ASSERT_EQ(unlink(path), 0);
    return 0;
}
BOTH_WAYS(what_is_refused, refused)

/* A limit of the process stands for a full disk: what fits is written, and the next call tells. */
static int no_room(void *arg) {
    enum { ROOM = 100000 };
    unsigned char *data = malloc(2 * ROOM);
    (void)arg;
    fill_bytes(data, 2 * ROOM, 0);
    for (int append = 0; append < 2; append++) {
        int fd = nameless_file(O_RDWR | (append ? O_APPEND : 0));
        FIBER_ASSERT_EQ(stel_write(fd, data, 2 * ROOM), ROOM);
        FIBER_ASSERT_EQ(stel_write(fd, data, 1), -EFBIG);
        if (!append) {
            FIBER_ASSERT_EQ(stel_pwrite(fd, data + ROOM - 10, 100, ROOM - 10), 10);
            FIBER_ASSERT_EQ(stel_pwrite(fd, data, 100, ROOM), -EFBIG);
        }
        memset(data, 0, ROOM);
        FIBER_ASSERT_EQ(stel_pread(fd, data, 2 * ROOM, 0), ROOM);
        check_bytes(data, ROOM, 0);
        fill_bytes(data, ROOM, 0);
        FIBER_OK(stel_close(fd));
    }
    free(data);
    int full = open("/dev/full", O_WRONLY);
    FIBER_ASSERT_EQ(stel_write(full, "x", 1), -ENOSPC);
    FIBER_OK(stel_close(full));
    return 0;
}

static void limit_room(void) {
    struct rlimit limit = { 100000, 100000 };
    ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

START_TEST(full_disk) {
    limit_room();
    on_all_kinds(no_room);
}
END_TEST

START_TEST(full_disk_without_rings) {
    limit_room();
    stel__fault_set(STEL__FAULT_IO_URING_SETUP, 1, ENOSYS, true);
    on_all_kinds(no_room);
}
END_TEST

/* ---- the number is another file by now ---- */

/* Nothing but the call itself may wait, and a call with an offset must not take a byte. */
static int replaced(void *arg) {
    unsigned char *block = aligned_alloc(4096, 4096);
    char byte = 'x';
    (void)arg;
    for (int i = 0; i < 3; i++) {
        int fd = i == 0 ? nameless_file(O_RDWR | O_DIRECT) : nameless_file(O_RDWR | (i == 1 ? O_APPEND : 0)), p[2];
        if (fd < 0) continue; /* no O_DIRECT here */
        memset(block, 'f', 4096);
        FIBER_ASSERT_EQ(stel_write(fd, block, 4096), 4096);
        make_cold(fd);
        FIBER_ASSERT_EQ(stel_pread(fd, block, 4096, 0), 4096); /* all is known of it by now */
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
        FIBER_ASSERT_EQ(write(p[1], "ab", 2), 2);
        FIBER_ASSERT_EQ(dup2(p[0], fd), fd);
        FIBER_ASSERT_EQ(stel_pread(fd, block, 4096, 0), -ESPIPE);
        FIBER_ASSERT_EQ(stel_pwrite(fd, block, 4096, 0), -ESPIPE);
        FIBER_ASSERT_EQ(stel_read(fd, block, 4096), 2);
        FIBER_ASSERT_EQ(memcmp(block, "ab", 2), 0);
        {
            STEL_TIMEOUT(STEL_MS(5));
            FIBER_ASSERT_EQ(stel_read(fd, block, 4096), -ETIMEDOUT);
        }
        FIBER_ASSERT_EQ(stel_write(fd, "cd", 2), 2);
        FIBER_ASSERT_EQ(read(p[1], block, 4096), 2);
        FIBER_ASSERT_EQ(stel_fsync(fd), -EINVAL);
        FIBER_OK(stel_close(fd));
        FIBER_OK(stel_close(p[0]));
        FIBER_OK(stel_close(p[1]));
        /* A pipe that nobody reads: no signal. */
        fd = nameless_file(O_RDWR | (i == 1 ? O_APPEND : 0));
        FIBER_ASSERT_EQ(stel_write(fd, &byte, 1), 1);
        FIBER_ASSERT_EQ(pipe(p), 0);
        FIBER_ASSERT_EQ(dup2(p[1], fd), fd);
        FIBER_OK(stel_close(p[0]));
        FIBER_ASSERT_EQ(stel_write(fd, &byte, 1), -EPIPE);
        FIBER_OK(stel_close(p[1]));
        FIBER_OK(stel_close(fd));
    }
    free(block);
    return 0;
}
BOTH_WAYS(another_file, replaced)

TEST_MAIN("io/file_sizes", all_sizes, all_sizes_without_rings, many_vectors, many_vectors_without_rings,
          where_holes_are, where_holes_are_without_rings, past_the_memory, past_the_memory_without_rings,
          what_is_refused, what_is_refused_without_rings, full_disk, full_disk_without_rings, another_file,
          another_file_without_rings)
