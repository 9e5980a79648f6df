/* Regular files, directories and block devices: never waited for by readiness. Reading tries the page cache first
 * (RWF_NOWAIT), and what is not there is read on the offload pool; writing, opening and syncing always go there. A
 * plain thread makes these calls itself. Once one has begun it is not cut short. */
#include "io/call.h"

typedef struct file_job {
    stel__job job;
    int fd;
    const struct iovec *iov;
    int count;
    off_t offset;
    ssize_t result;
    const char *path;
    int flags;
    mode_t mode;
} file_job;

static file_job *file_job_of(stel__job *job) {
    return STEL__CONTAINER(job, file_job, job);
}

static void run_read(stel__job *job) {
    file_job *f = file_job_of(job);
    if (f->offset < 0)
        f->result = stel__sys_readv(f->fd, f->iov, f->count);
    else if (f->count == 1)
        f->result = stel__sys_pread(f->fd, f->iov->iov_base, f->iov->iov_len, f->offset);
    else
        f->result = stel__sys_preadv2(f->fd, f->iov, f->count, f->offset, 0);
}

static void run_write(stel__job *job) {
    file_job *f = file_job_of(job);
    f->result = stel__write_quietly(f->fd, f->iov, f->count, f->offset, 0);
}

static void run_open(stel__job *job) {
    file_job *f = file_job_of(job);
    f->result = stel__sys_open(f->path, f->flags | O_CLOEXEC, f->mode);
}

static void run_fsync(stel__job *job) {
    file_job *f = file_job_of(job);
    f->result = stel__sys_fsync(f->fd);
}

static void run_fdatasync(stel__job *job) {
    file_job *f = file_job_of(job);
    f->result = stel__sys_fdatasync(f->fd);
}

/* -ETIMEDOUT and -ECANCELED of ours: it has not begun. */
static ssize_t run_job(stel__call *c, file_job *f, void (*run)(stel__job *)) {
    f->job = (stel__job){ .run = run };
    int rc = stel__job_run_somehow(&f->job, c->waiter);
    if (rc < 0) return rc;
    c->waited = true;
    return stel__call_end(c, f->result);
}

static off_t moved(off_t offset, const stel__cursor *by) {
    return offset < 0 ? offset : offset + (off_t)by->done;
}

/* What we know of the number may be out of date. If it has become a socket or the like, the call would block on the
 * pool with nothing to cut it short; asking costs a hundredth of going there. */
static bool still_a_file(stel__call *c) {
    struct stat st;
    if (stel__sys_fstat(c->fd, &st) < 0) return true; /* the call itself will say so */
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode)) return true;
    (void)stel__call_look_afresh(c);
    return false;
}

ssize_t stel__file_in(stel__call *c, stel__cursor *to, off_t offset) {
    int count;
    while (!(c->facts & STEL__SLOT_NO_NOWAIT_IN)) {
        const struct iovec *iov = stel__cursor_next(to, &count);
        ssize_t n = stel__sys_preadv2(c->fd, iov, count, moved(offset, to), RWF_NOWAIT);
        if (n == -EAGAIN) break;
        if (n == -EOPNOTSUPP || n == -ENOSYS) {
            stel__call_learn(c, STEL__SLOT_NO_NOWAIT_IN);
            break;
        }
        if (n < 0) return to->done ? (ssize_t)to->done : stel__call_end(c, n);
        stel__cursor_advance(to, (size_t)n);
        if (n == 0 || to->done == to->total) return stel__call_end(c, (ssize_t)to->done);
    }
    if (offset < 0 && !to->done && !still_a_file(c)) return STEL__FILE_NO_MORE;
    const struct iovec *iov = stel__cursor_next(to, &count);
    file_job f = { .fd = c->fd, .iov = iov, .count = count, .offset = moved(offset, to) };
    ssize_t n = run_job(c, &f, run_read);
    if (n < 0) return to->done ? (ssize_t)to->done : n;
    return (ssize_t)to->done + n;
}

ssize_t stel__file_out(stel__call *c, stel__cursor *from, off_t offset) {
    if (offset < 0 && !still_a_file(c)) return STEL__FILE_NO_MORE;
    do {
        int count;
        const struct iovec *iov = stel__cursor_next(from, &count);
        file_job f = { .fd = c->fd, .iov = iov, .count = count, .offset = moved(offset, from) };
        ssize_t n = run_job(c, &f, run_write);
        if (n < 0) return from->done ? (ssize_t)from->done : n;
        stel__cursor_advance(from, (size_t)n);
        if (n == 0) break;
    } while (from->done < from->total);
    return (ssize_t)from->done;
}

ssize_t stel_pread(int fd, void *buffer, size_t bytes, off_t offset) {
    stel__call c;
    stel__cursor to;
    struct iovec piece = { buffer, bytes };
    int rc = stel__call_begin(&c, fd);
    if (rc == 0) rc = offset < 0 ? -EINVAL : stel__cursor_begin(&to, &piece, 1);
    return rc < 0 ? rc : stel__file_in(&c, &to, offset);
}

ssize_t stel_pwrite(int fd, const void *buffer, size_t bytes, off_t offset) {
    stel__call c;
    stel__cursor from;
    struct iovec piece = { (void *)(uintptr_t)buffer, bytes };
    int rc = stel__call_begin(&c, fd);
    if (rc == 0) rc = offset < 0 ? -EINVAL : stel__cursor_begin(&from, &piece, 1);
    return rc < 0 ? rc : stel__file_out(&c, &from, offset);
}

int stel_open(const char *path, int flags, mode_t mode) {
    if (!path) return -EINVAL;
    if (stel__io_forked()) return -EPERM;
    stel__call c = { .waiter = stel__waiter_self(), .fd = -1 };
    if (!c.waiter) return -ENOMEM;
    int rc = stel__wait_check(c.waiter);
    if (rc < 0) return rc;
    file_job f = { .path = path, .flags = flags, .mode = mode };
    int fd = (int)run_job(&c, &f, run_open);
    if (fd < 0) return fd;
    rc = stel__slot_made_by_us(fd, STEL__SLOT_UNKNOWN);
    if (rc == 0) return fd;
    stel__sys_close(fd);
    return rc;
}

static int sync_with(int fd, void (*run)(stel__job *)) {
    stel__call c;
    int rc = stel__call_begin(&c, fd);
    if (rc < 0) return rc;
    file_job f = { .fd = fd };
    return (int)run_job(&c, &f, run);
}

int stel_fsync(int fd) {
    return sync_with(fd, run_fsync);
}

int stel_fdatasync(int fd) {
    return sync_with(fd, run_fdatasync);
}
