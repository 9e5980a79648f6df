/* Files by their names: stat, fstat, mkdir, rmdir, unlink, rename, scandir, ftruncate, fallocate; each against what the
 * plain call says. And an open that waits holds nobody up. */
#include "files.h"
#include <dirent.h>
#include <stdatomic.h>

static char directory[64];

/* Good until four more have been asked for. */
static const char *path_to(const char *name) {
    static char paths[4][512];
    static unsigned next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", directory, name);
    return p;
}

static void enter(void) {
    strcpy(directory, "/tmp/stel-directory-XXXXXX");
    FIBER_ASSERT(mkdtemp(directory) != NULL);
}

static void leave(void) {
    FIBER_OK(stel_rmdir(directory)); /* it is empty, or the test left something */
}

/* ---- names ---- */

static int names(void *arg) {
    struct stat st;
    (void)arg;
    enter();
    FIBER_OK(stel_mkdir(path_to("a"), 0750));
    FIBER_ASSERT_EQ(stat(path_to("a"), &st), 0);
    FIBER_ASSERT(S_ISDIR(st.st_mode));
    FIBER_ASSERT_EQ(st.st_mode & 0777 & ~0750, 0);
    FIBER_ASSERT_EQ(stel_mkdir(path_to("a"), 0750), -EEXIST);
    FIBER_ASSERT_EQ(stel_mkdir(path_to("b/c"), 0750), -ENOENT);
    int fd = (int)FIBER_OK(stel_open(path_to("a/file"), O_WRONLY | O_CREAT | O_EXCL, 0600));
    FIBER_OK(stel_close(fd));
    FIBER_ASSERT_EQ(stel_rmdir(path_to("a")), -ENOTEMPTY);
    FIBER_ASSERT_EQ(stel_rmdir(path_to("a/file")), -ENOTDIR);
    FIBER_ASSERT(stel_unlink(path_to("a")) < 0); /* EISDIR; POSIX has EPERM */
    FIBER_ASSERT_EQ(stel_rename(path_to("no"), path_to("b")), -ENOENT);
    FIBER_OK(stel_rename(path_to("a/file"), path_to("b")));
    FIBER_ASSERT_EQ(stat(path_to("a/file"), &st), -1);
    FIBER_OK(stel_rename(path_to("b"), path_to("b")));
    FIBER_ASSERT_EQ(stel_rename(path_to("a"), path_to("b")), -ENOTDIR);
    FIBER_OK(stel_unlink(path_to("b")));
    FIBER_ASSERT_EQ(stel_unlink(path_to("b")), -ENOENT);
    FIBER_OK(stel_rmdir(path_to("a")));
    FIBER_ASSERT_EQ(stel_rmdir(path_to("a")), -ENOENT);
    FIBER_ASSERT_EQ(stel_mkdir(NULL, 0700), -EINVAL);
    FIBER_ASSERT_EQ(stel_rmdir(NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_unlink(NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_rename(NULL, "b"), -EINVAL);
    FIBER_ASSERT_EQ(stel_rename("b", NULL), -EINVAL);
    if (!stel__sanitize_valgrind()) FIBER_ASSERT_EQ(stel_unlink((const char *)(uintptr_t)8), -EFAULT);
    leave();
    return 0;
}
BOTH_WAYS(made_and_removed, names)

/* ---- what a file is ---- */

#define SAME(field) FIBER_ASSERT_EQ(have.field, want.field)

static void compare(struct stat have, struct stat want) {
    SAME(st_dev);
    SAME(st_ino);
    SAME(st_mode);
    SAME(st_nlink);
    SAME(st_uid);
    SAME(st_gid);
    SAME(st_rdev);
    SAME(st_size);
    SAME(st_blksize);
    SAME(st_blocks);
    SAME(st_atim.tv_sec);
    SAME(st_atim.tv_nsec);
    SAME(st_mtim.tv_sec);
    SAME(st_mtim.tv_nsec);
    SAME(st_ctim.tv_sec);
    SAME(st_ctim.tv_nsec);
}

static int figures(void *arg) {
    struct stat have, want;
    (void)arg;
    enter();
    const char *file = path_to("file"), *link_to_it = path_to("link"),
               *paths[] = { "/", "/dev/null", directory, file, link_to_it };
    int fd = (int)FIBER_OK(stel_open(file, O_RDWR | O_CREAT, 0640)), sockets[2];
    FIBER_ASSERT_EQ(stel_write(fd, "12345", 5), 5);
    FIBER_OK(stel_fsync(fd)); /* its blocks are known by then */
    FIBER_ASSERT_EQ(symlink("file", link_to_it), 0);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        memset(&have, 0x55, sizeof have);
        FIBER_OK(stel_stat(paths[i], &have));
        FIBER_ASSERT_EQ(stat(paths[i], &want), 0);
        compare(have, want);
    }
    memset(&have, 0x55, sizeof have);
    FIBER_OK(stel_fstat(fd, &have));
    FIBER_ASSERT_EQ(fstat(fd, &want), 0);
    compare(have, want);
    FIBER_ASSERT_EQ(have.st_size, 5);
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    FIBER_OK(stel_fstat(sockets[0], &have));
    FIBER_ASSERT_EQ(fstat(sockets[0], &want), 0);
    compare(have, want);
    FIBER_OK(stel_close(sockets[0]));
    FIBER_OK(stel_close(sockets[1]));
    FIBER_OK(stel_unlink(link_to_it));
    FIBER_OK(stel_unlink(file));
    FIBER_OK(stel_close(fd));
    FIBER_ASSERT_EQ(stel_stat(file, &have), -ENOENT);
    FIBER_ASSERT_EQ(stel_stat("", &have), -ENOENT);
    FIBER_ASSERT_EQ(stel_stat("/dev/null/x", &have), -ENOTDIR);
    FIBER_ASSERT_EQ(stel_stat(NULL, &have), -EINVAL);
    FIBER_ASSERT_EQ(stel_stat("/", NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_fstat(fd, &have), -EBADF);
    FIBER_ASSERT_EQ(stel_fstat(-1, &have), -EBADF);
    FIBER_ASSERT_EQ(stel_fstat(AT_FDCWD, &have), -EBADF);
    FIBER_ASSERT_EQ(stel_fstat(fd, NULL), -EINVAL);
    leave();
    return 0;
}
BOTH_WAYS(as_stat_says, figures)

/* ---- how large it is ---- */

static int lengths(void *arg) {
    struct stat st;
    (void)arg;
    int fd = nameless_file(O_RDWR);
    FIBER_OK(stel_ftruncate(fd, 5000000000));
    FIBER_ASSERT_EQ(fstat(fd, &st), 0);
    FIBER_ASSERT_EQ(st.st_size, 5000000000);
    FIBER_OK(stel_ftruncate(fd, 10));
    FIBER_ASSERT_EQ(stel_ftruncate(fd, -1), -EINVAL);
    int rc = stel_fallocate(fd, 0, 0, 100000), plain = fallocate(fd, 0, 0, 100000) ? -errno : 0;
    FIBER_ASSERT_EQ(rc, plain); /* not every file system can */
    FIBER_ASSERT_EQ(fstat(fd, &st), 0);
    FIBER_ASSERT_EQ(st.st_size, rc == 0 ? 100000 : 10);
    FIBER_ASSERT_EQ(stel_fallocate(fd, 0, 0, 0), -EINVAL);
    FIBER_OK(stel_close(fd));
    FIBER_ASSERT_EQ(stel_ftruncate(fd, 0), -EBADF);
    FIBER_ASSERT_EQ(stel_fallocate(fd, 0, 0, 1), -EBADF);
    return 0;
}
BOTH_WAYS(cut_and_lengthened, lengths)

/* ---- lists ---- */

static int not_hidden(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static int listed(void *arg) {
    struct dirent **list;
    (void)arg;
    enter();
    FIBER_ASSERT_EQ(stel_scandir(directory, &list, not_hidden, alphasort), 0);
    free(list);
    for (int i = 0; i < 26; i++) {
        char name[2] = { (char)('a' + i * 7 % 26), 0 };
        FIBER_OK(stel_close((int)FIBER_OK(stel_open(path_to(name), O_WRONLY | O_CREAT, 0600))));
    }
    FIBER_ASSERT_EQ(stel_scandir(directory, &list, not_hidden, alphasort), 26);
    for (int i = 0; i < 26; i++) {
        FIBER_ASSERT_EQ(list[i]->d_name[0], 'a' + i);
        FIBER_OK(stel_unlink(path_to(list[i]->d_name)));
        free(list[i]);
    }
    free(list);
    int n = (int)FIBER_OK(stel_scandir(directory, &list, NULL, NULL));
    FIBER_ASSERT_EQ(n, 2); /* . and .. */
    free(list[0]);
    free(list[1]);
    free(list);
    leave();
    FIBER_ASSERT_EQ(stel_scandir(directory, &list, NULL, NULL), -ENOENT);
    FIBER_ASSERT_EQ(stel_scandir("/dev/null", &list, NULL, NULL), -ENOTDIR);
    FIBER_ASSERT_EQ(stel_scandir(NULL, &list, NULL, NULL), -EINVAL);
    FIBER_ASSERT_EQ(stel_scandir("/", NULL, NULL, NULL), -EINVAL);
    return 0;
}
BOTH_WAYS(as_ls_shows_it, listed)

/* ---- limits: nothing is begun ---- */

static int too_late(void *arg) {
    struct stat st;
    struct dirent **list;
    (void)arg;
    enter();
    int fd = nameless_file(O_RDWR);
    {
        STEL_TIMEOUT(-STEL_SEC(1));
        FIBER_ASSERT_EQ(stel_stat("/", &st), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_fstat(fd, &st), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_mkdir(path_to("a"), 0700), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_rmdir(directory), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_unlink(path_to("a")), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_rename(directory, path_to("a")), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_open(path_to("a"), O_WRONLY | O_CREAT, 0600), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_ftruncate(fd, 1), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_fallocate(fd, 0, 0, 1), -ETIMEDOUT);
        FIBER_ASSERT_EQ(stel_scandir("/", &list, NULL, NULL), -ETIMEDOUT);
        FIBER_ASSERT(stel_timed_out());
    }
    FIBER_ASSERT_EQ(fstat(fd, &st), 0);
    FIBER_ASSERT_EQ(st.st_size, 0);
    if (stel_self()) {
        FIBER_OK(stel_cancel(stel_self()));
        FIBER_ASSERT_EQ(stel_mkdir(path_to("a"), 0700), -ECANCELED);
        FIBER_ASSERT_EQ(stel_stat("/", &st), -ECANCELED);
        FIBER_ASSERT_EQ(stel_pread(fd, &st, 1, 0), -ECANCELED);
    }
    FIBER_ASSERT_EQ(rmdir(directory), 0);
    FIBER_OK(stel_close(fd));
    return 0;
}
BOTH_WAYS(limits, too_late)

/* ---- an open that waits ---- */

/* A lease makes open(2) wait until its holder gives the file up; that is how it is made certain, without a clock, that
 * opens are on while others run. Some by name only, some that cut the file: they go different ways. */
enum { OPENS = 6, TURNS = 500 };

typedef struct opens {
    char path[64];
    atomic_int opened, turns;
} opens;

static int open_leased(void *arg) {
    static atomic_int number;
    opens *o = arg;
    int fd = (int)FIBER_OK(stel_open(o->path, atomic_fetch_add(&number, 1) % 2 ? O_RDONLY : O_RDWR | O_TRUNC, 0));
    atomic_fetch_add(&o->opened, 1);
    return stel_close(fd);
}

static int echo(void *arg) {
    int fd = *(int *)arg;
    char byte;
    while (stel_read(fd, &byte, 1) == 1)
        FIBER_ASSERT_EQ(stel_write(fd, &byte, 1), 1);
    return stel_close(fd);
}

static int beside_opens(void *arg) {
    opens o = { .path = "/tmp/stel-lease-XXXXXX" };
    int fd = mkstemp(o.path), fds[2];
    (void)arg;
    FIBER_ASSERT(fd >= 0);
    FIBER_ASSERT(signal(SIGIO, SIG_IGN) != SIG_ERR);
    if (fcntl(fd, F_SETLEASE, F_WRLCK) == 0) { /* not every file system has leases */
        side openers[OPENS], other;
        for (int i = 0; i < OPENS; i++)
            side_start(&openers[i], open_leased, &o);
        EVENTUALLY(fcntl(fd, F_GETLEASE) != F_WRLCK); /* one of them waits for us, by now */
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        side_start(&other, echo, &fds[1]);
        for (int i = 0; i < TURNS; i++) {
            char byte = (char)i, back = 0;
            FIBER_ASSERT_EQ(stel_write(fds[0], &byte, 1), 1);
            FIBER_ASSERT_EQ(stel_read(fds[0], &back, 1), 1);
            FIBER_ASSERT_EQ(back, byte);
        }
        FIBER_ASSERT_EQ(atomic_load(&o.opened), 0);
        FIBER_ASSERT_EQ(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
        for (int i = 0; i < OPENS; i++)
            FIBER_ASSERT_EQ(side_join(&openers[i]), 0);
        FIBER_OK(stel_close(fds[0]));
        FIBER_ASSERT_EQ(side_join(&other), 0);
    }
    FIBER_OK(stel_unlink(o.path));
    FIBER_OK(stel_close(fd));
    return 0;
}
BOTH_WAYS(opens_that_wait, beside_opens)

/* A FIFO is opened when somebody opens its other end, and not before; through the door for those that create as well. */
static int open_other_end(void *arg) {
    int fd = (int)FIBER_OK(stel_open(arg, O_WRONLY, 0));
    FIBER_ASSERT_EQ(stel_write(fd, "x", 1), 1);
    return stel_close(fd);
}

static int fifos(void *arg) {
    (void)arg;
    enter();
    for (int create = 0; create < 2; create++) {
        const char *path = path_to("fifo");
        char byte = 0;
        side other;
        FIBER_ASSERT_EQ(mkfifo(path, 0600), 0);
        side_start(&other, open_other_end, (void *)(uintptr_t)path);
        int fd = (int)FIBER_OK(stel_open(path, O_RDONLY | (create ? O_CREAT : 0), 0600));
        FIBER_ASSERT_EQ(stel_read(fd, &byte, 1), 1); /* at once the end of the file, if nobody had been waited for */
        FIBER_ASSERT_EQ(byte, 'x');
        FIBER_ASSERT_EQ(side_join(&other), 0);
        FIBER_OK(stel_close(fd));
        FIBER_OK(stel_unlink(path));
    }
    leave();
    return 0;
}
BOTH_WAYS(both_ends_of_a_fifo, fifos)

TEST_MAIN("io/directory", made_and_removed, made_and_removed_without_rings, as_stat_says, as_stat_says_without_rings,
          cut_and_lengthened, cut_and_lengthened_without_rings, as_ls_shows_it, as_ls_shows_it_without_rings, limits,
          limits_without_rings, opens_that_wait, opens_that_wait_without_rings, both_ends_of_a_fifo,
          both_ends_of_a_fifo_without_rings)
