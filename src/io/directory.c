/* Files by their names: opened, asked after, made, renamed, removed, listed; and what changes a file as a whole. None of
 * these has a form that does not wait, as a name may have to be looked up on a disk or in a network. So each is one
 * operation, where there are operations, or one call on the offload pool, or the call itself on a plain thread. Limits are
 * looked at before it begins, and not after.
 *
 * Opening is different. io_uring tries it on the worker first, with O_NONBLOCK, as if that said nothing about the file; but
 * a FIFO is then open though nobody is at its other end, a terminal does not wait for its carrier, and the try itself waits
 * where a network file system is asked. Only what creates or cuts a file is left alone by that, and only such goes there. */
#include "io/file.h"
#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* One call of any of these. */
typedef struct name_job {
    stel__file_job f;
    const char *path, *new_path;
    int fd, flags;
    mode_t mode;
    off_t offset, bytes;
    struct stat *stat;
    struct dirent ***list;
    int (*filter)(const struct dirent *);
    int (*compare)(const struct dirent **, const struct dirent **);
} name_job;

static name_job *job_of(stel__file_job *f) {
    return STEL__CONTAINER(f, name_job, f);
}

/* The caller's waiter, or why it may not call. */
static stel__waiter *begin(int *error) {
    *error = stel__io_forked() ? -EPERM : 0;
    stel__waiter *w = *error ? NULL : stel__waiter_self();
    if (!w && !*error) *error = -ENOMEM;
    if (w) *error = stel__wait_check(w);
    return *error ? NULL : w;
}

static int done_by(name_job *j, ssize_t (*call)(stel__file_job *), stel_operation *op) {
    int error;
    stel__waiter *w = begin(&error);
    if (!w) return error;
    j->f.call = call;
    ssize_t n = stel__file_do(w, op, &j->f, false);
    if (n == -ETIMEDOUT && stel__wait_check(w) == 0) w->timed_out = 0; /* the file system's, not our deadline */
    return (int)n;
}

/* ---- names ---- */

static ssize_t call_open(stel__file_job *f) {
    return stel__sys_open(job_of(f)->path, job_of(f)->flags | O_CLOEXEC, job_of(f)->mode);
}

int stel_open(const char *path, int flags, mode_t mode) {
    name_job j = { .path = path, .flags = flags, .mode = mode };
    stel_operation op = { .code = STEL_OPERATION_OPEN, .address = (void *)(uintptr_t)path, .mode = mode };
    op.flags = (uint32_t)(flags | O_CLOEXEC);
    if (!path) return -EINVAL;
    bool changes = (flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE;
    int fd = done_by(&j, call_open, changes ? &op : NULL);
    if (fd < 0) return fd;
    int rc = stel__slot_made_by_us(fd, STEL__SLOT_UNKNOWN);
    if (rc == 0) return fd;
    stel__sys_close(fd);
    return rc;
}

static ssize_t call_unlink(stel__file_job *f) {
    return stel__sys_unlink(job_of(f)->path);
}

static ssize_t call_rmdir(stel__file_job *f) {
    return stel__sys_rmdir(job_of(f)->path);
}

static int removed_by(const char *path, ssize_t (*call)(stel__file_job *), uint32_t flags) {
    name_job j = { .path = path };
    stel_operation op = { .code = STEL_OPERATION_UNLINK, .address = (void *)(uintptr_t)path, .flags = flags };
    return path ? done_by(&j, call, &op) : -EINVAL;
}

int stel_unlink(const char *path) {
    return removed_by(path, call_unlink, 0);
}

int stel_rmdir(const char *path) {
    return removed_by(path, call_rmdir, AT_REMOVEDIR);
}

static ssize_t call_mkdir(stel__file_job *f) {
    return stel__sys_mkdir(job_of(f)->path, job_of(f)->mode);
}

int stel_mkdir(const char *path, mode_t mode) {
    name_job j = { .path = path, .mode = mode };
    stel_operation op = { .code = STEL_OPERATION_MKDIR, .address = (void *)(uintptr_t)path, .mode = mode };
    return path ? done_by(&j, call_mkdir, &op) : -EINVAL;
}

static ssize_t call_rename(stel__file_job *f) {
    return stel__sys_rename(job_of(f)->path, job_of(f)->new_path);
}

int stel_rename(const char *path, const char *new_path) {
    name_job j = { .path = path, .new_path = new_path };
    stel_operation op = { .code = STEL_OPERATION_RENAME, .address = (void *)(uintptr_t)path };
    op.address2 = (void *)(uintptr_t)new_path;
    return path && new_path ? done_by(&j, call_rename, &op) : -EINVAL;
}

static ssize_t call_scandir(stel__file_job *f) {
    const name_job *j = job_of(f);
    return stel__sys_scandir(j->path, j->list, j->filter, j->compare);
}

int stel_scandir(const char *path, struct dirent ***list, int (*filter)(const struct dirent *),
                 int (*compare)(const struct dirent **, const struct dirent **)) {
    name_job j = { .path = path, .list = list, .filter = filter, .compare = compare };
    return path && list ? done_by(&j, call_scandir, NULL) : -EINVAL;
}

/* ---- what a file is ---- */

static void stat_of(struct stat *out, const struct statx *in) {
    *out = (struct stat){ .st_dev = makedev(in->stx_dev_major, in->stx_dev_minor) };
    out->st_ino = in->stx_ino;
    out->st_mode = in->stx_mode;
    out->st_nlink = in->stx_nlink;
    out->st_uid = in->stx_uid;
    out->st_gid = in->stx_gid;
    out->st_rdev = makedev(in->stx_rdev_major, in->stx_rdev_minor);
    out->st_size = (off_t)in->stx_size;
    out->st_blksize = (blksize_t)in->stx_blksize;
    out->st_blocks = (blkcnt_t)in->stx_blocks;
    out->st_atim = (struct timespec){ in->stx_atime.tv_sec, in->stx_atime.tv_nsec };
    out->st_mtim = (struct timespec){ in->stx_mtime.tv_sec, in->stx_mtime.tv_nsec };
    out->st_ctim = (struct timespec){ in->stx_ctime.tv_sec, in->stx_ctime.tv_nsec };
}

static ssize_t call_stat(stel__file_job *f) {
    return stel__sys_stat(job_of(f)->path, job_of(f)->stat);
}

static ssize_t call_fstat(stel__file_job *f) {
    return stel__sys_fstat(job_of(f)->fd, job_of(f)->stat);
}

static int stat_by(name_job *j, ssize_t (*call)(stel__file_job *), int fd, const char *path, int flags) {
    struct statx x = { .stx_mask = 0 };
    stel_operation op = { .code = STEL_OPERATION_STATX, .fd = fd, .address = (void *)(uintptr_t)path, .address2 = &x };
    op.flags = (uint32_t)flags;
    op.mode = STATX_BASIC_STATS;
    int rc = done_by(j, call, &op);
    if (rc == 0 && x.stx_mask) stat_of(j->stat, &x);
    return rc;
}

int stel_stat(const char *path, struct stat *out) {
    name_job j = { .path = path, .stat = out };
    return path && out ? stat_by(&j, call_stat, AT_FDCWD, path, 0) : -EINVAL;
}

int stel_fstat(int fd, struct stat *out) {
    name_job j = { .fd = fd, .stat = out };
    if (!out) return -EINVAL;
    return fd < 0 ? -EBADF : stat_by(&j, call_fstat, fd, "", AT_EMPTY_PATH);
}

/* ---- how large it is ---- */

static ssize_t call_ftruncate(stel__file_job *f) {
    return stel__sys_ftruncate(job_of(f)->fd, job_of(f)->bytes);
}

int stel_ftruncate(int fd, off_t bytes) {
    name_job j = { .fd = fd, .bytes = bytes };
    return done_by(&j, call_ftruncate, NULL);
}

static ssize_t call_fallocate(stel__file_job *f) {
    const name_job *j = job_of(f);
    return stel__sys_fallocate(j->fd, j->flags, j->offset, j->bytes);
}

int stel_fallocate(int fd, int mode, off_t offset, off_t bytes) {
    name_job j = { .fd = fd, .flags = mode, .offset = offset, .bytes = bytes };
    return done_by(&j, call_fallocate, NULL);
}
