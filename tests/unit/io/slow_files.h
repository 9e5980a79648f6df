/* A file system in which the test says how long a call takes: a server of FUSE's protocol (linux/fuse.h) with one file,
 * "file", whose bytes are those of byte_of. Kinds of request that are held are not answered until they are let go. It
 * needs the right to mount, in a mount namespace of the test's own. The server is a process of its own, and ends with the
 * test: a process that serves itself cannot be killed while it waits for itself. */
#ifndef SLOW_FILES_H
#define SLOW_FILES_H

#include "files.h"
#include <linux/fuse.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { SLOW_FILE_BYTES = 1 << 20, SLOW_HELD_MAX = 64, SLOW_REQUEST_BYTES = 1 << 18, SLOW_NODE = 2 };

typedef struct slow_request {
    struct fuse_in_header head;
    uint64_t offset;
    uint32_t bytes;
} slow_request;

typedef struct slow_shared {
    _Atomic uint64_t holds; /* bits: opcodes */
    atomic_int held;
} slow_shared;

static struct {
    int fd;      /* the server's: /dev/fuse */
    int command; /* to the server: a byte lets all go; the end of the pipe is its own */
    pid_t server;
    slow_shared *shared;
    char mount[64], file[80];
} slow;

static inline void slow_reply(const struct fuse_in_header *to, int error, const void *data, size_t bytes) {
    struct fuse_out_header head = { .len = (uint32_t)(sizeof head + bytes), .error = error, .unique = to->unique };
    struct iovec iov[2] = { { &head, sizeof head }, { (void *)(uintptr_t)data, bytes } };
    (void)!writev(slow.fd, iov, 2); /* whoever asked may be gone */
}

static inline struct fuse_attr slow_attributes(uint64_t node) {
    bool file = node == SLOW_NODE;
    return (struct fuse_attr){ .ino = node,
                               .mode = file ? S_IFREG | 0600 : S_IFDIR | 0700,
                               .nlink = 1,
                               .size = file ? SLOW_FILE_BYTES : 0,
                               .uid = getuid(),
                               .gid = getgid(),
                               .blksize = 4096 };
}

static inline void slow_answer(const slow_request *r) {
    static unsigned char bytes[SLOW_REQUEST_BYTES];
    struct fuse_entry_out entry = { .nodeid = SLOW_NODE, .attr = slow_attributes(SLOW_NODE) };
    struct fuse_attr_out attributes = { .attr = slow_attributes(r->head.nodeid) };
    struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };
    struct fuse_write_out written = { .size = r->bytes };
    switch (r->head.opcode) {
    case FUSE_LOOKUP:
        slow_reply(&r->head, 0, &entry, sizeof entry);
        break;
    case FUSE_GETATTR:
        slow_reply(&r->head, 0, &attributes, sizeof attributes);
        break;
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        slow_reply(&r->head, 0, &opened, sizeof opened);
        break;
    case FUSE_WRITE:
        slow_reply(&r->head, 0, &written, sizeof written);
        break;
    case FUSE_READ: {
        uint64_t left = r->offset < SLOW_FILE_BYTES ? SLOW_FILE_BYTES - r->offset : 0;
        size_t n = r->bytes < left ? r->bytes : (size_t)left;
        fill_bytes(bytes, n, r->offset);
        slow_reply(&r->head, 0, bytes, n);
        break;
    }
    case FUSE_FSYNC:
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
        slow_reply(&r->head, 0, NULL, 0);
        break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        break;
    default:
        slow_reply(&r->head, -ENOSYS, NULL, 0);
    }
}

/* One request: false when the file system is gone. */
static inline bool slow_take(slow_request *held) {
    static char buffer[SLOW_REQUEST_BYTES];
    slow_request r;
    struct fuse_read_in what; /* fuse_write_in begins like it */
    ssize_t n = read(slow.fd, buffer, sizeof buffer);
    if (n < (ssize_t)sizeof r.head) return n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN);
    memcpy(&r.head, buffer, sizeof r.head);
    memcpy(&what, buffer + sizeof r.head, sizeof what);
    r.offset = what.offset;
    r.bytes = what.size;
    int count = atomic_load(&slow.shared->held);
    if (r.head.opcode == FUSE_INIT) {
        struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION,
                                      .minor = FUSE_KERNEL_MINOR_VERSION,
                                      .max_write = 65536,
                                      .max_readahead = 65536,
                                      .time_gran = 1 };
        slow_reply(&r.head, 0, &init, sizeof init);
    } else if (r.head.opcode < 64 && atomic_load(&slow.shared->holds) >> r.head.opcode & 1 && count < SLOW_HELD_MAX) {
        held[count] = r;
        atomic_store(&slow.shared->held, count + 1);
    } else {
        slow_answer(&r);
    }
    return true;
}

static inline void slow_serve(int commands) {
    static slow_request held[SLOW_HELD_MAX];
    struct pollfd fds[2] = { { .fd = slow.fd, .events = POLLIN }, { .fd = commands, .events = POLLIN } };
    for (;;) {
        char byte;
        if (poll(fds, 2, -1) < 0 && errno != EINTR) return;
        if (fds[1].revents) {
            if (read(commands, &byte, 1) != 1) return;
            for (int i = 0; i < atomic_load(&slow.shared->held); i++)
                slow_answer(&held[i]);
            atomic_store(&slow.shared->held, 0);
        }
        if (fds[0].revents && !slow_take(held)) return;
    }
}

/* From now on requests of these kinds (bits) wait. */
static inline void slow_hold(uint64_t opcodes) {
    atomic_store(&slow.shared->holds, opcodes);
}

/* How many do. */
static inline int slow_held(void) {
    return atomic_load(&slow.shared->held);
}

static inline void slow_let_go(void) {
    atomic_store(&slow.shared->holds, 0);
    FIBER_ASSERT_EQ(write(slow.command, "", 1), 1);
    EVENTUALLY(slow_held() == 0);
}

/* NULL, or why there can be no such file system here. For the calling process, and for good. */
static inline const char *slow_begin(void) {
    char options[128];
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", "", MS_REC | MS_PRIVATE, NULL) != 0) return "it may not mount";
    slow.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (slow.fd < 0) return "there is no /dev/fuse";
    strcpy(slow.mount, "/tmp/stel-slow-XXXXXX");
    if (!mkdtemp(slow.mount)) return "no directory can be made";
    snprintf(slow.file, sizeof slow.file, "%s/file", slow.mount);
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%d,group_id=%d", slow.fd, (int)getuid(),
             (int)getgid());
    if (mount("slow", slow.mount, "fuse", MS_NOSUID | MS_NODEV, options) != 0) {
        rmdir(slow.mount);
        return "FUSE may not be mounted";
    }
    int commands[2];
    FIBER_ASSERT_EQ(pipe(commands), 0);
    slow.shared = mmap(NULL, sizeof *slow.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    FIBER_ASSERT(slow.shared != MAP_FAILED);
    slow.server = fork();
    FIBER_ASSERT(slow.server >= 0);
    if (slow.server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(commands[1]);
        slow_serve(commands[0]);
        _exit(0);
    }
    close(commands[0]);
    close(slow.fd);
    slow.command = commands[1];
    return NULL;
}

static inline void slow_end(void) {
    FIBER_ASSERT_EQ(umount2(slow.mount, MNT_DETACH), 0);
    FIBER_ASSERT_EQ(rmdir(slow.mount), 0);
    close(slow.command);
    FIBER_ASSERT_EQ(waitpid(slow.server, NULL, 0), slow.server);
}

#endif
