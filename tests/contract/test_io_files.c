/* The contract of stellane/io.h, third part: files by their names, and as a whole. The first is test_io.c. */
#include "contract.h"
#include <dirent.h>
#include <stellane/io.h>
#include <sys/stat.h>

/* Errors of a disk are made by the fault seam, which io_uring's are not. */
static void without_rings(void) {
    stel__fault_set(STEL__FAULT_IO_URING_SETUP, 1, ENOSYS, true);
}

static char at[64];
static const char *a_name(const char *what) {
    snprintf(at, sizeof at, "/tmp/stel-contract-%s-%d", what, (int)getpid());
    return at;
}
static const char *a_file(void) {
    int fd = open(a_name("file"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    IS(fd >= 0);
    EQ(write(fd, "12345", 5), 5);
    EQ(close(fd), 0);
    return at;
}

static int in_the_past(int (*call)(void)) {
    STEL_TIMEOUT(LONG_PAST);
    return call();
}
static int cancelled(void *arg) {
    OK(stel_cancel(stel_self()));
    return (*(int (**)(void))arg)();
}
/* Nothing is begun after a limit. */
static void obeys(int (*call)(void)) {
    EQ(in_the_past(call), -ETIMEDOUT);
    if (stel_self()) EQ(join(spawn(cancelled, &call)), -ECANCELED);
}

static struct stat st;
static struct dirent **list;
static int fd;
static int stats(void) {
    return stel_stat(at, &st);
}
static int fstats(void) {
    return stel_fstat(fd, &st);
}
static int makes(void) {
    return stel_mkdir(at, 0700);
}
static int removes(void) {
    return stel_rmdir(at);
}
static int unlinks(void) {
    return stel_unlink(at);
}
static int renames(void) {
    return stel_rename(at, "/tmp/stel-contract-never");
}
static int cuts(void) {
    return stel_ftruncate(fd, 0);
}
static int allocates(void) {
    return stel_fallocate(fd, 0, 0, 1);
}
static int lists(void) {
    return stel_scandir("/", &list, NULL, NULL);
}

/* stel_stat: what stat(2) says; -EINVAL (NULL) -ENOENT -ETIMEDOUT -ECANCELED; the disk's errors. */
ON_BOTH(contract_stel_stat) {
    struct stat want;
    without_rings();
    a_file();
    OK(stel_stat(at, &st));
    EQ(stat(at, &want), 0);
    EQ(st.st_ino, want.st_ino);
    EQ(st.st_size, 5);
    EQ(stel_stat(NULL, &st), -EINVAL);
    EQ(stel_stat(at, NULL), -EINVAL);
    stel__fault_set(STEL__FAULT_STAT, 1, EIO, false);
    EQ(stats(), -EIO);
    obeys(stats);
    EQ(unlink(at), 0);
    EQ(stats(), -ENOENT);
    stel__fault_clear();
}

/* stel_fstat: what fstat(2) says of a descriptor; -EINVAL (NULL) -EBADF -ETIMEDOUT -ECANCELED; the disk's errors. */
ON_BOTH(contract_stel_fstat) {
    without_rings();
    fd = open(a_file(), O_RDONLY);
    OK(fstats());
    EQ(st.st_size, 5);
    EQ(stel_fstat(fd, NULL), -EINVAL);
    EQ(stel_fstat(-1, &st), -EBADF);
    stel__fault_set(STEL__FAULT_FSTAT, 1, EIO, false);
    EQ(fstats(), -EIO);
    obeys(fstats);
    OK(stel_close(fd));
    EQ(fstats(), -EBADF);
    EQ(unlink(at), 0);
    stel__fault_clear();
}

/* stel_mkdir: mkdir(2); -EINVAL (NULL) -EEXIST -ETIMEDOUT -ECANCELED; the disk's errors. */
ON_BOTH(contract_stel_mkdir) {
    without_rings();
    umask(0);
    a_name("directory");
    obeys(makes);
    EQ(stat(at, &st), -1);
    stel__fault_set(STEL__FAULT_MKDIR, 1, ENOSPC, false);
    EQ(makes(), -ENOSPC);
    OK(makes());
    EQ(stat(at, &st), 0);
    EQ(st.st_mode, S_IFDIR | 0700);
    EQ(makes(), -EEXIST);
    EQ(stel_mkdir(NULL, 0700), -EINVAL);
    EQ(rmdir(at), 0);
    stel__fault_clear();
}

/* stel_rmdir: rmdir(2); -EINVAL (NULL) -ENOENT -ETIMEDOUT -ECANCELED; the disk's errors. */
ON_BOTH(contract_stel_rmdir) {
    without_rings();
    EQ(mkdir(a_name("directory"), 0700), 0);
    obeys(removes);
    stel__fault_set(STEL__FAULT_RMDIR, 1, EIO, false);
    EQ(removes(), -EIO);
    OK(removes());
    EQ(removes(), -ENOENT);
    EQ(stel_rmdir(NULL), -EINVAL);
    stel__fault_clear();
}

/* stel_unlink: unlink(2); -EINVAL (NULL) -ENOENT -ETIMEDOUT -ECANCELED; the disk's errors. */
ON_BOTH(contract_stel_unlink) {
    without_rings();
    a_file();
    obeys(unlinks);
    stel__fault_set(STEL__FAULT_UNLINK, 1, EIO, false);
    EQ(unlinks(), -EIO);
    OK(unlinks());
    EQ(unlinks(), -ENOENT);
    EQ(stel_unlink(NULL), -EINVAL);
    stel__fault_clear();
}

/* stel_rename: rename(2), which replaces what has the new name; -EINVAL (NULL) -ENOENT -ETIMEDOUT -ECANCELED; the disk's
 * errors. */
ON_BOTH(contract_stel_rename) {
    char new_name[80];
    without_rings();
    snprintf(new_name, sizeof new_name, "%s-new", a_file());
    EQ(close(open(new_name, O_WRONLY | O_CREAT, 0600)), 0);
    obeys(renames);
    stel__fault_set(STEL__FAULT_RENAME, 1, EIO, false);
    EQ(stel_rename(at, new_name), -EIO);
    OK(stel_rename(at, new_name));
    EQ(stel_rename(at, new_name), -ENOENT);
    EQ(stat(new_name, &st), 0);
    EQ(st.st_size, 5);
    EQ(stel_rename(NULL, new_name), -EINVAL);
    EQ(stel_rename(new_name, NULL), -EINVAL);
    EQ(unlink(new_name), 0);
    stel__fault_clear();
}

/* stel_ftruncate: ftruncate(2): shorter, and longer with zeros; -EINVAL (below 0) -EBADF -ETIMEDOUT -ECANCELED; the disk's
 * errors. */
ON_BOTH(contract_stel_ftruncate) {
    char bytes[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    fd = open(a_file(), O_RDWR);
    obeys(cuts);
    OK(stel_ftruncate(fd, 2));
    OK(stel_ftruncate(fd, 4));
    EQ(read(fd, bytes, 8), 4);
    EQ(memcmp(bytes, "12\0\0", 4), 0);
    EQ(stel_ftruncate(fd, -1), -EINVAL);
    stel__fault_set(STEL__FAULT_FTRUNCATE, 1, EIO, false);
    EQ(cuts(), -EIO);
    stel__fault_clear();
    OK(stel_close(fd));
    EQ(cuts(), -EBADF);
    EQ(unlink(at), 0);
}

/* stel_fallocate: fallocate(2), or -EOPNOTSUPP where the file system cannot; -EINVAL (no bytes) -EBADF -ETIMEDOUT
 * -ECANCELED; the disk's errors. */
ON_BOTH(contract_stel_fallocate) {
    fd = open(a_file(), O_RDWR);
    obeys(allocates);
    int rc = stel_fallocate(fd, 0, 0, 9000);
    IS(rc == 0 || rc == -EOPNOTSUPP);
    EQ(fstat(fd, &st), 0);
    EQ(st.st_size, rc == 0 ? 9000 : 5);
    EQ(stel_fallocate(fd, 0, 0, 0), -EINVAL);
    stel__fault_set(STEL__FAULT_FALLOCATE, 1, ENOSPC, false);
    EQ(allocates(), -ENOSPC);
    stel__fault_clear();
    OK(stel_close(fd));
    EQ(allocates(), -EBADF);
    EQ(unlink(at), 0);
}

static int only_files(const struct dirent *entry) {
    return strncmp(entry->d_name, "file", 4) == 0;
}

/* stel_scandir: scandir(3): how many, and the list, chosen and sorted; -EINVAL (NULL) -ENOENT -ENOTDIR -ENOMEM -ETIMEDOUT
 * -ECANCELED; the disk's errors. */
ON_BOTH(contract_stel_scandir) {
    static const char *const names[] = { "file2", "other", "file1" };
    char path[128];
    EQ(mkdir(a_name("list"), 0700), 0);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", at, names[i]);
        EQ(close(open(path, O_WRONLY | O_CREAT, 0600)), 0);
    }
    EQ(stel_scandir(at, &list, only_files, alphasort), 2);
    for (int i = 0; i < 2; i++) {
        EQ(list[i]->d_name[4], '1' + i);
        free(list[i]);
    }
    free(list);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", at, names[i]);
        EQ(unlink(path), 0);
    }
    EQ(rmdir(at), 0);
    EQ(stel_scandir(at, &list, NULL, NULL), -ENOENT);
    EQ(stel_scandir("/dev/null", &list, NULL, NULL), -ENOTDIR);
    EQ(stel_scandir(NULL, &list, NULL, NULL), -EINVAL);
    EQ(stel_scandir("/", NULL, NULL, NULL), -EINVAL);
    stel__fault_set(STEL__FAULT_SCANDIR, 1, ENOMEM, false);
    EQ(lists(), -ENOMEM);
    stel__fault_clear();
    obeys(lists);
}

TEST_MAIN("contract/io_files", contract_stel_stat, contract_stel_fstat, contract_stel_mkdir, contract_stel_rmdir,
          contract_stel_unlink, contract_stel_rename, contract_stel_ftruncate, contract_stel_fallocate,
          contract_stel_scandir)
