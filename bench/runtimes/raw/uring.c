/* bench-raw-uring: no runtime at all, and io_uring: the echo server as one ring a thread, by system calls of our own.
 *
 * A connection has one multishot receive for life, which takes its buffers from a ring that is shared with the kernel; each
 * message that arrives becomes a send out of that same buffer, and everything that was queued goes down with the next wait:
 * one system call for as many requests as are ready. Connections are registered descriptors, so is the ring's own.
 * Completions are only run when we ask for them (DEFER_TASKRUN): nothing interrupts the loop.
 *
 * Sends are told not to wait. They are carried out while they are submitted, so when a round's io_uring_enter has returned
 * its buffers are free, and a completion is written for those that failed only. That a send never has to wait is the
 * workload's doing: one message is under way on a connection. It is not taken for granted: one that would wait, or comes
 * out short, ends the process with an error. */
#include "../../common/bench.h"
#include "accept.h"
#include <errno.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES = 2048, COMPLETIONS = 8192, LOOPS_MAX = 64, FILES_MAX = 1 << 20 };
enum { BUFFERS = 2048, BUFFER_BYTES = 4096, GROUP = 0 };
enum { RECEIVED = 1, SENT, ARRIVED }; /* what a completion is of */

typedef struct ring {
    int fd, registered; /* registered: its number among the thread's registered rings, which is quicker to look up */
    /* Shared with the kernel. */
    unsigned *sq_tail, *cq_head, *cq_tail;
    struct io_uring_sqe *entries;
    struct io_uring_cqe *completions;
    struct io_uring_buf_ring *buffers;
    /* Ours. */
    unsigned sq_mask, cq_mask, queued;
    char *memory;         /* BUFFERS of BUFFER_BYTES */
    uint16_t buffer_tail; /* of the buffer ring, published when buffers were put back */
    uint16_t *used;       /* numbers of those whose sends were queued in this round */
    unsigned used_count;
    int arrivals[2]; /* a pipe: connections that were accepted for this loop */
    int arrived;     /* what was read from it */
} ring;

static ring rings[LOOPS_MAX];
static unsigned file_places; /* of a table of registered descriptors: as many as there can be */

static long io_uring(long number, long a, long b, long c, long d) {
    long rc = syscall(number, a, b, c, d, NULL, 0);
    return rc < 0 ? -errno : rc;
}

static void must(long rc, const char *what) {
    if (rc < 0) bench_fail("%s: %s", what, strerror((int)-rc));
}

/* ---- making one ---- */

static void *map(int fd, size_t bytes, off_t what) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);
    if (p == MAP_FAILED) bench_fail("cannot map a ring: %s", strerror(errno));
    return p;
}

static void map_queues(ring *r, const struct io_uring_params *p) {
    char *sq = map(r->fd, p->sq_off.array + p->sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
    char *cq = map(r->fd, p->cq_off.cqes + p->cq_entries * sizeof *r->completions, IORING_OFF_CQ_RING);
    unsigned *array = (unsigned *)(void *)(sq + p->sq_off.array);
    r->entries = map(r->fd, p->sq_entries * sizeof *r->entries, IORING_OFF_SQES);
    r->sq_tail = (unsigned *)(void *)(sq + p->sq_off.tail);
    r->cq_head = (unsigned *)(void *)(cq + p->cq_off.head);
    r->cq_tail = (unsigned *)(void *)(cq + p->cq_off.tail);
    r->completions = (struct io_uring_cqe *)(void *)(cq + p->cq_off.cqes);
    r->sq_mask = p->sq_entries - 1;
    r->cq_mask = p->cq_entries - 1;
    for (unsigned i = 0; i < p->sq_entries; i++)
        array[i] = i;
}

/* Put buffer number id back: the kernel sees it when the tail is published. */
static void put_back(ring *r, uint16_t id) {
    struct io_uring_buf *b = &r->buffers->bufs[r->buffer_tail++ & (BUFFERS - 1)];
    b->addr = (uintptr_t)(r->memory + (size_t)id * BUFFER_BYTES);
    b->len = BUFFER_BYTES;
    b->bid = id;
}

static void publish_buffers(ring *r) {
    __atomic_store_n(&r->buffers->tail, r->buffer_tail, __ATOMIC_RELEASE); /* the kernel takes what is below it */
}

static void register_all(ring *r) {
    struct io_uring_rsrc_register files = { .nr = file_places, .flags = IORING_RSRC_REGISTER_SPARSE };
    struct io_uring_buf_reg buffers = { .ring_entries = BUFFERS, .bgid = GROUP };
    r->memory = bench_alloc((size_t)BUFFERS * BUFFER_BYTES);
    r->buffers = bench_alloc(BUFFERS * sizeof(struct io_uring_buf));
    r->used = bench_alloc(BUFFERS * sizeof *r->used);
    buffers.ring_addr = (uintptr_t)r->buffers;
    must(io_uring(SYS_io_uring_register, r->fd, IORING_REGISTER_FILES2, (long)&files, sizeof files), "files");
    must(io_uring(SYS_io_uring_register, r->fd, IORING_REGISTER_PBUF_RING, (long)&buffers, 1), "buffer ring");
    for (unsigned i = 0; i < BUFFERS; i++)
        put_back(r, (uint16_t)i);
    publish_buffers(r);
}

/* By the thread that will use it: SINGLE_ISSUER holds the kernel to that. */
static void make_ring(ring *r) {
    struct io_uring_params p = { .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                          IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL,
                                 .cq_entries = COMPLETIONS };
    r->fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &p);
    if (r->fd < 0)
        bench_unavailable("io_uring cannot be had here: %s%s", strerror(errno),
                          errno == EINVAL ? " (before Linux 6.1)" : "");
    map_queues(r, &p);
    struct io_uring_rsrc_update self = { .offset = UINT32_MAX, .data = (unsigned)r->fd };
    if (io_uring(SYS_io_uring_register, r->fd, IORING_REGISTER_RING_FDS, (long)&self, 1) != 1) bench_fail("ring");
    r->registered = (int)self.offset;
}

/* ---- using it ---- */

static void enter(ring *r, unsigned wait_for) {
    unsigned n = r->queued;
    long rc;
    __atomic_store_n(r->sq_tail, *r->sq_tail + n, __ATOMIC_RELEASE); /* the kernel reads the entries below it */
    r->queued = 0;
    long flags = IORING_ENTER_REGISTERED_RING | (wait_for ? IORING_ENTER_GETEVENTS : 0);
    do {
        rc = io_uring(SYS_io_uring_enter, r->registered, n, wait_for, flags);
    } while (rc == -EINTR && n == 0);
    must(rc, "io_uring_enter");
    if (rc != (long)n) bench_fail("only %ld of %u operations were taken", rc, n);
    for (unsigned i = 0; i < r->used_count; i++) /* their sends are over */
        put_back(r, r->used[i]);
    if (r->used_count > 0) publish_buffers(r);
    r->used_count = 0;
}

static struct io_uring_sqe *entry(ring *r, unsigned char operation, int file, unsigned kind) {
    if (r->queued > r->sq_mask) enter(r, 0);
    struct io_uring_sqe *e = &r->entries[(*r->sq_tail + r->queued++) & r->sq_mask];
    memset(e, 0, sizeof *e);
    e->opcode = operation;
    e->fd = file;
    e->user_data = (uint64_t)kind << 32 | (unsigned)file;
    return e;
}

static void receive(ring *r, int file) {
    struct io_uring_sqe *e = entry(r, IORING_OP_RECV, file, RECEIVED);
    e->flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    e->ioprio = IORING_RECV_MULTISHOT;
    e->buf_group = GROUP;
}

static void send_back(ring *r, int file, uint16_t id, unsigned bytes) {
    struct io_uring_sqe *e = entry(r, IORING_OP_SEND, file, SENT);
    e->flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
    e->msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL; /* WAITALL: a short one is a failure */
    e->addr = (uintptr_t)(r->memory + (size_t)id * BUFFER_BYTES);
    e->len = bytes;
    r->used[r->used_count++] = id;
}

static void await_arrival(ring *r) {
    struct io_uring_sqe *e = entry(r, IORING_OP_READ, r->arrivals[0], ARRIVED);
    e->addr = (uintptr_t)&r->arrived;
    e->len = sizeof r->arrived;
    e->off = (uint64_t)-1;
}

/* Set place number `file` of the table of registered descriptors; -1 empties it. */
static void set_file(ring *r, int file, int fd) {
    struct io_uring_rsrc_update2 update = { .offset = (unsigned)file, .data = (uintptr_t)&fd, .nr = 1 };
    must(io_uring(SYS_io_uring_register, r->fd, IORING_REGISTER_FILES_UPDATE2, (long)&update, sizeof update), "file");
}

static void handle_received(ring *r, const struct io_uring_cqe *c, int file) {
    if (c->res == -EINVAL) bench_unavailable("no multishot receive (before Linux 6.0)");
    if (c->res > 0) send_back(r, file, (uint16_t)(c->flags >> IORING_CQE_BUFFER_SHIFT), (unsigned)c->res);
    if (c->flags & IORING_CQE_F_MORE) return;
    if (c->res > 0 || c->res == -ENOBUFS) {
        receive(r, file);
    } else {
        set_file(r, file, -1);
        close(file);
    }
}

static void handle(ring *r, const struct io_uring_cqe *c) {
    int file = (int)(uint32_t)c->user_data;
    switch (c->user_data >> 32) {
    case RECEIVED:
        handle_received(r, c, file);
        break;
    case SENT:
        if (c->res == -EAGAIN || c->res >= 0) bench_fail("a send would have had to wait");
        break; /* the connection has ended; so says its receive */
    case ARRIVED:
        if (c->res != sizeof r->arrived) bench_fail("no connection arrived: %d", c->res);
        set_file(r, r->arrived, r->arrived);
        receive(r, r->arrived);
        await_arrival(r);
        break;
    }
}

static void *loop(void *arg) {
    ring *r = arg;
    if (r->fd == 0) make_ring(r);
    register_all(r);
    await_arrival(r);
    for (;;) {
        enter(r, 1);
        unsigned head = *r->cq_head, tail = __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE); /* the kernel's release */
        for (; head != tail; head++)
            handle(r, &r->completions[head & r->cq_mask]);
        __atomic_store_n(r->cq_head, head, __ATOMIC_RELEASE); /* the kernel may write them again */
    }
    return NULL;
}

static void give(int number, int fd) {
    if (write(rings[number].arrivals[1], &fd, sizeof fd) != sizeof fd) close(fd);
}

static void run_echo(void) {
    pthread_t thread;
    struct rlimit descriptors;
    int loops = bench_param_int("workers", 1);
    if (loops < 1 || loops > LOOPS_MAX) bench_fail("workers out of range");
    if (getrlimit(RLIMIT_NOFILE, &descriptors) != 0) bench_fail("getrlimit: %s", strerror(errno));
    file_places = descriptors.rlim_cur < FILES_MAX ? (unsigned)descriptors.rlim_cur : FILES_MAX;
    make_ring(&rings[0]); /* first of all: says whether there are rings */
    for (int i = 0; i < loops; i++)
        if (pipe(rings[i].arrivals) != 0) bench_fail("pipe: %s", strerror(errno));
    for (int i = 1; i < loops; i++)
        if (pthread_create(&thread, NULL, loop, &rings[i]) != 0) bench_fail("no thread");
    bench_serve(accept_for(loops, give));
    loop(&rings[0]);
}

/* Woken by a pipe: one read after the other, each waited for. */
static void run_wake(void) {
    ring *r = &rings[0];
    int64_t stamp;
    make_ring(r);
    int fd = bench_serve_pipe();
    for (;;) {
        struct io_uring_sqe *e = entry(r, IORING_OP_READ, fd, ARRIVED);
        e->addr = (uintptr_t)&stamp;
        e->len = sizeof stamp;
        e->off = (uint64_t)-1;
        enter(r, 1);
        unsigned head = *r->cq_head;
        if (r->completions[head & r->cq_mask].res == sizeof stamp) bench_woken(stamp);
        __atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE); /* the kernel may write it again */
    }
}

int main(int argc, char **argv) {
    static const bench_workload table[] = { { "echo", run_echo }, { "wake", run_wake }, { NULL, NULL } };
    return bench_main(argc, argv, "raw-uring", table);
}
