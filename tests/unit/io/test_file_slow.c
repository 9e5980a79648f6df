/* Files that take long, and no worker does: on a file system where each call takes until the test says so (slow_files.h),
 * the one worker of a runtime runs other fibers; what has begun is not cut short.
 *
 * ctest: skip=qemu,valgrind
 *     left out because calls that hang in a file system hang all threads where they run one at a time */
#include "slow_files.h"

enum { CALLS = 7, TURNS = 500, PIECE = 5000 };
#define BIT(opcode) (UINT64_C(1) << (opcode))

static atomic_int finished;
static int file;

/* ---- other fibers run ---- */

static int one_call(void *arg) {
    unsigned char buffer[PIECE] = { 0 };
    struct stat st;
    switch ((intptr_t)arg) {
    case 0:
        FIBER_ASSERT_EQ(stel_read(file, buffer, PIECE), PIECE);
        check_bytes(buffer, PIECE, 0);
        break;
    case 1:
        FIBER_ASSERT_EQ(stel_pread(file, buffer, PIECE, 777), PIECE);
        check_bytes(buffer, PIECE, 777);
        break;
    case 2:
        FIBER_ASSERT_EQ(stel_pwrite(file, buffer, PIECE, 100000), PIECE);
        break;
    case 3:
        FIBER_OK(stel_fsync(file));
        break;
    case 4:
        FIBER_OK(stel_stat(slow.file, &st));
        FIBER_ASSERT_EQ(st.st_size, SLOW_FILE_BYTES);
        break;
    case 5:
        FIBER_OK(stel_fstat(file, &st));
        FIBER_ASSERT_EQ(st.st_size, SLOW_FILE_BYTES);
        break;
    default:
        FIBER_OK(stel_close((int)FIBER_OK(stel_open(slow.file, O_RDONLY, 0))));
    }
    atomic_fetch_add(&finished, 1);
    return 0;
}

static int echo(void *arg) {
    int fd = *(int *)arg;
    char byte;
    while (stel_read(fd, &byte, 1) == 1)
        FIBER_ASSERT_EQ(stel_write(fd, &byte, 1), 1);
    return stel_close(fd);
}

static void turns(int fd) {
    for (int i = 0; i < TURNS; i++) {
        char byte = (char)i, back = 0;
        FIBER_ASSERT_EQ(stel_write(fd, &byte, 1), 1);
        FIBER_ASSERT_EQ(stel_read(fd, &back, 1), 1);
        FIBER_ASSERT_EQ(back, byte);
    }
}

static int beside(void *arg) {
    int fds[2];
    side calls[CALLS], other;
    (void)arg;
    file = (int)FIBER_OK(stel_open(slow.file, O_RDWR, 0));
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    side_start(&other, echo, &fds[1]);
    slow_hold(BIT(FUSE_LOOKUP) | BIT(FUSE_GETATTR) | BIT(FUSE_OPEN) | BIT(FUSE_READ) | BIT(FUSE_WRITE) |
              BIT(FUSE_FSYNC));
    for (intptr_t i = 0; i < CALLS; i++)
        side_start(&calls[i], one_call, (void *)i);
    /* The writer and who asks how large the file is wait for each other, in the kernel, where names are looked up too. */
    EVENTUALLY(slow_held() >= 4);
    turns(fds[0]);
    FIBER_ASSERT_EQ(atomic_load(&finished), 0);
    slow_let_go();
    for (int i = 0; i < CALLS; i++)
        FIBER_ASSERT_EQ(side_join(&calls[i]), 0);
    FIBER_OK(stel_close(fds[0]));
    FIBER_ASSERT_EQ(side_join(&other), 0);
    FIBER_OK(stel_close(file));
    return 0;
}

/* ---- one position: who waits for its turn holds no worker either ---- */

static int read_a_piece(void *arg) {
    unsigned char buffer[PIECE];
    FIBER_ASSERT_EQ(stel_read(file, buffer, PIECE), PIECE);
    bool first = buffer[0] == byte_of(0) && buffer[1] == byte_of(1);
    check_bytes(buffer, PIECE, first ? 0 : PIECE);
    atomic_fetch_add(&finished, 1);
    (void)arg;
    return first;
}

static int in_turn(void *arg) {
    int fds[2];
    side a, b, other;
    (void)arg;
    file = (int)FIBER_OK(stel_open(slow.file, O_RDWR, 0));
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    side_start(&other, echo, &fds[1]);
    slow_hold(BIT(FUSE_READ));
    side_start(&a, read_a_piece, NULL);
    EVENTUALLY(slow_held() == 1);
    side_start(&b, read_a_piece, NULL);
    turns(fds[0]);
    FIBER_ASSERT_EQ(atomic_load(&finished), 0);
    slow_let_go();
    FIBER_ASSERT_EQ(side_join(&a) + side_join(&b), 1);
    FIBER_ASSERT_EQ(lseek(file, 0, SEEK_CUR), 2 * PIECE);
    FIBER_OK(stel_close(fds[0]));
    FIBER_ASSERT_EQ(side_join(&other), 0);
    FIBER_OK(stel_close(file));
    return 0;
}

/* ---- what has begun is not cut short ---- */

typedef struct limited {
    int call;
    atomic_bool over; /* the limit has passed, or the cancellation come */
    stel_fiber fiber;
} limited;

static int begun(void *arg) {
    limited *l = arg;
    unsigned char buffer[PIECE] = { 0 };
    STEL_TIMEOUT(l->call < 10 ? STEL_MS(20) : STEL_FOREVER);
    switch (l->call % 10) {
    case 0:
        FIBER_ASSERT_EQ(stel_pread(file, buffer, PIECE, 0), PIECE);
        check_bytes(buffer, PIECE, 0);
        break;
    case 1:
        FIBER_ASSERT_EQ(stel_pwrite(file, buffer, PIECE, 0), PIECE);
        break;
    default:
        FIBER_OK(stel_fsync(file));
    }
    FIBER_ASSERT(atomic_load(&l->over));
    FIBER_ASSERT_EQ(stel_pread(file, buffer, 1, 0), l->call < 10 ? -ETIMEDOUT : -ECANCELED);
    return 0;
}

static int to_the_end(void *arg) {
    static const int calls[] = { 0, 1, 2, 10, 11, 12 };
    (void)arg;
    file = (int)FIBER_OK(stel_open(slow.file, O_RDWR, 0));
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        limited l = { .call = calls[i] };
        slow_hold(BIT(FUSE_READ) | BIT(FUSE_WRITE) | BIT(FUSE_FSYNC));
        FIBER_OK(stel_spawn(&l.fiber, begun, &l));
        EVENTUALLY(slow_held() == 1);
        int64_t limit = stel_after(STEL_MS(25));
        if (l.call < 10)
            EVENTUALLY(stel_now() > limit);
        else
            FIBER_OK(stel_cancel(l.fiber));
        atomic_store(&l.over, true);
        slow_let_go();
        int result;
        FIBER_OK(stel_join(l.fiber, &result));
    }
    FIBER_OK(stel_close(file));
    return 0;
}

/* Found out in a process of its own, as it cannot be undone. */
static const char *why_not(void) {
    static char why[128];
    int ends[2];
    if (pipe(ends) != 0) return "no pipe";
    pid_t child = fork();
    if (child == 0) {
        const char *reason = slow_begin();
        if (reason)
            (void)!write(ends[1], reason, strlen(reason));
        else
            slow_end();
        _exit(0);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], why, sizeof why - 1);
    close(ends[0]);
    if (child > 0) (void)waitpid(child, NULL, 0);
    return n > 0 ? why : NULL;
}

static void with_slow_files(stel_fn *body, bool rings) {
    ck_assert_ptr_null(slow_begin());
    if (!rings) stel__fault_set(STEL__FAULT_IO_URING_SETUP, 1, ENOSYS, true);
    ck_assert_int_eq(run_in_runtime(1, body, NULL), 0);
    slow_end();
}

#define SLOW(name, body)                                                                                               \
    START_TEST(name) {                                                                                                 \
        with_slow_files(body, true);                                                                                   \
    }                                                                                                                  \
    END_TEST                                                                                                           \
    START_TEST(name##_without_rings) {                                                                                 \
        with_slow_files(body, false);                                                                                  \
    }                                                                                                                  \
    END_TEST

SLOW(others_run, beside)
SLOW(turns_hold_no_worker, in_turn)
SLOW(begun_calls_end, to_the_end)

TEST_MAIN_IF(why_not, "io/file_slow", others_run, others_run_without_rings, turns_hold_no_worker,
             turns_hold_no_worker_without_rings, begun_calls_end, begun_calls_end_without_rings)
