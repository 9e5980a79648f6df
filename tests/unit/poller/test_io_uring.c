/* The io_uring backends through their tables: the ring that one thread owns, and the one for files that is shared. */
#include "check_fiber.h"
#include "host/fault.h"
#include "poller/inside.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const stel_backend_ops *const owned = &stel__io_uring_ops, *const shared = &stel__io_uring_files_ops;
static const stel_backend_ops *const both[2] = { &stel__io_uring_ops, &stel__io_uring_files_ops };

static const char *why_not(void) {
    static char why[128];
    return owned->probe(why, sizeof why) < 0 || shared->probe(why, sizeof why) < 0 ? why : NULL;
}

static void *fresh(const stel_backend_ops *ops, int batch) {
    void *u = NULL;
    FIBER_OK(ops->create(&u, batch));
    return u;
}

/* The next event; none of those that come without one (an interrupt, or no reason at all) may come for ever. */
static stel_backend_event next(const stel_backend_ops *ops, void *u) {
    stel_backend_event e;
    int n;
    while ((n = ops->wait(u, &e, 1, STEL_FOREVER)) == 0)
        ;
    FIBER_ASSERT_EQ(n, 1);
    FIBER_ASSERT_EQ(e.kind, STEL_EVENT_COMPLETE);
    FIBER_ASSERT_EQ(e.flags, 0);
    return e;
}

/* Nothing is left: no event, and nothing counted. */
static void nothing_left(const stel_backend_ops *ops, void *u) {
    stel_backend_event e;
    for (int i = 0; i < 3; i++)
        FIBER_ASSERT_EQ(ops->wait(u, &e, 1, 0), 0);
    FIBER_ASSERT_EQ(ops->pending(u), 0);
}

/* Submit one and wait for its end. */
static int32_t done(const stel_backend_ops *ops, void *u, stel_operation op) {
    static uint64_t token = 100;
    op.token = ++token;
    FIBER_ASSERT_EQ(ops->submit(u, &op), 0);
    FIBER_ASSERT_EQ(ops->pending(u), 1);
    stel_backend_event e = next(ops, u);
    FIBER_ASSERT_EQ(e.token, token);
    FIBER_ASSERT_EQ(ops->pending(u), 0);
    return e.result;
}
#define DONE(...) done(ops, u, (stel_operation){ __VA_ARGS__ })

static void files(const stel_backend_ops *ops) {
    void *u = fresh(ops, 8);
    char dir[] = "/tmp/stellane-test-XXXXXX", sub[64], one[80], two[80], a[3] = "abc", b[4] = "defg", got[16] = "";
    struct iovec out[2] = { { a, 3 }, { b, 4 } }, in[2] = { { got, 2 }, { got + 8, 8 } };
    struct statx st;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(sub, sizeof sub, "%s/sub", dir);
    snprintf(one, sizeof one, "%s/one", sub);
    snprintf(two, sizeof two, "%s/two", sub);
    ck_assert_int_eq(DONE(STEL_OPERATION_OPEN, .address = one, .flags = O_RDONLY), -ENOENT);
    ck_assert_int_eq(DONE(STEL_OPERATION_MKDIR, .address = sub, .mode = 0700), 0);
    ck_assert_int_eq(DONE(STEL_OPERATION_MKDIR, .address = sub, .mode = 0700), -EEXIST);
    int fd = DONE(STEL_OPERATION_OPEN, .address = one, .flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, .mode = 0640);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(DONE(STEL_OPERATION_WRITEV, .fd = fd, .address = out, .length = 2, .offset = 0), 7);
    ck_assert_int_eq(DONE(STEL_OPERATION_WRITEV, .fd = fd, .address = out, .length = 1, .offset = 7), 3);
    ck_assert_int_eq(DONE(STEL_OPERATION_FSYNC, .fd = fd), 0);
    ck_assert_int_eq(DONE(STEL_OPERATION_FDATASYNC, .fd = fd), 0);
    ck_assert_int_eq(DONE(STEL_OPERATION_READV, .fd = fd, .address = in, .length = 2, .offset = 1), 9);
    ck_assert_mem_eq(got, "bc", 2);
    ck_assert_mem_eq(got + 8, "defgabc", 7);
    for (int i = 0; i < 2; i++) { /* the file's position moves */
        ck_assert_int_eq(DONE(STEL_OPERATION_READV, .fd = fd, .address = in, .length = 1, .offset = -1), 2);
        ck_assert_mem_eq(got, i ? "cd" : "ab", 2);
    }
    ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 4);
    memset(&st, 0, sizeof st);
    ck_assert_int_eq(
        DONE(STEL_OPERATION_STATX, .fd = AT_FDCWD, .address = one, .mode = STATX_SIZE | STATX_MODE, .address2 = &st),
        0);
    ck_assert_uint_eq(st.stx_size, 10);
    ck_assert_int_eq(st.stx_mode & 0777, 0640);
    ck_assert_int_eq(DONE(STEL_OPERATION_STATX, .fd = fd, .address = "", .flags = AT_EMPTY_PATH, .mode = STATX_SIZE,
                          .address2 = &st),
                     0);
    ck_assert_int_eq(DONE(STEL_OPERATION_RENAME, .address = one, .address2 = two), 0);
    ck_assert_int_eq(DONE(STEL_OPERATION_UNLINK, .address = one), -ENOENT);
    ck_assert_int_eq(DONE(STEL_OPERATION_UNLINK, .address = two), 0);
    ck_assert_int_eq(DONE(STEL_OPERATION_UNLINK, .address = sub), -EISDIR);
    ck_assert_int_eq(DONE(STEL_OPERATION_UNLINK, .address = sub, .flags = AT_REMOVEDIR), 0);
    ck_assert_int_eq(chdir(dir), 0); /* paths that are not absolute begin there */
    ck_assert_int_eq(DONE(STEL_OPERATION_MKDIR, .address = "a", .mode = 0700), 0);
    ck_assert_int_eq(DONE(STEL_OPERATION_RENAME, .address = "a", .address2 = "b"), 0);
    ck_assert_int_eq(DONE(STEL_OPERATION_UNLINK, .address = "b", .flags = AT_REMOVEDIR), 0);
    ck_assert_int_eq(DONE(STEL_OPERATION_OPEN, .address = "a", .flags = O_RDONLY), -ENOENT);
    ck_assert_int_eq(chdir("/"), 0);
    close(fd);
    ck_assert_int_eq(DONE(STEL_OPERATION_FSYNC, .fd = fd), -EBADF);
    rmdir(dir);
    nothing_left(ops, u);
    ops->destroy(u);
}

static void sockets(const stel_backend_ops *ops, int flags) {
    void *u = fresh(ops, 8);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, from;
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | flags, 0), client = socket(AF_INET, SOCK_STREAM | flags, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, length) + listen(listener, 8), 0);
    getsockname(listener, (struct sockaddr *)&at, &length);
    stel_operation accept = { STEL_OPERATION_ACCEPT, .fd = listener, .address = &from,
                              .address2 = &length,   .token = 1,     .flags = SOCK_CLOEXEC };
    ck_assert_int_eq(ops->submit(u, &accept), 0); /* before there is anybody to accept */
    stel_backend_event e;
    ck_assert_int_eq(ops->wait(u, &e, 1, 0), 0);
    stel_operation connect = { STEL_OPERATION_CONNECT, .fd = client, .address = &at, .length = sizeof at, .token = 2 };
    ck_assert_int_eq(ops->submit(u, &connect), 0);
    int server = -1;
    for (int i = 0; i < 2; i++) {
        e = next(ops, u);
        if (e.token == 1)
            server = e.result;
        else
            ck_assert_int_eq(e.result, 0);
    }
    ck_assert_int_ge(server, 0);
    ck_assert_int_eq(fcntl(server, F_GETFD), FD_CLOEXEC);
    ck_assert_uint_eq(length, sizeof from);
    ck_assert_int_eq(from.sin_family, AF_INET);
    /* RECV that waits for its SEND, into the caller's memory. */
    char got[16] = "", word[] = "hello";
    stel_operation recv = { STEL_OPERATION_RECV, .fd = server, .address = got, .length = sizeof got, .token = 3 };
    ck_assert_int_eq(ops->submit(u, &recv), 0);
    ck_assert_int_eq(ops->wait(u, &e, 1, 0), 0);
    stel_operation send = { STEL_OPERATION_SEND, .fd = client,          .address = word,
                            .length = 5,         .flags = MSG_NOSIGNAL, .token = 4 };
    ck_assert_int_eq(ops->submit(u, &send), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(next(ops, u).result, 5);
    ck_assert_str_eq(got, "hello");
    struct iovec out = { word, 4 }, in = { got, sizeof got };
    struct msghdr give = { .msg_iov = &out, .msg_iovlen = 1 }, take = { .msg_iov = &in, .msg_iovlen = 1 };
    ck_assert_int_eq(DONE(STEL_OPERATION_SENDMSG, .fd = server, .address = &give, .flags = MSG_NOSIGNAL), 4);
    ck_assert_int_eq(DONE(STEL_OPERATION_POLL, .fd = client, .flags = POLLIN | POLLOUT), POLLIN | POLLOUT);
    ck_assert_int_eq(DONE(STEL_OPERATION_RECVMSG, .fd = client, .address = &take), 4);
    ck_assert_int_eq(DONE(STEL_OPERATION_RECV, .fd = client, .address = got, .length = 4, .flags = MSG_DONTWAIT),
                     -EAGAIN);
    close(client);
    ck_assert_int_eq(DONE(STEL_OPERATION_RECV, .fd = server, .address = got, .length = 4), 0);
    ck_assert(DONE(STEL_OPERATION_POLL, .fd = server, .flags = POLLIN) & POLLIN);
    while (DONE(STEL_OPERATION_SEND, .fd = server, .address = word, .length = 5, .flags = MSG_NOSIGNAL) == 5)
        ; /* until the reset has come */
    ck_assert_int_eq(DONE(STEL_OPERATION_SEND, .fd = server, .address = word, .length = 5, .flags = MSG_NOSIGNAL),
                     -EPIPE);
    close(server);
    close(listener);
    nothing_left(ops, u);
    ops->destroy(u);
}

START_TEST(every_operation) {
    for (int i = 0; i < 2; i++) {
        files(both[i]);
        sockets(both[i], 0);
        sockets(both[i], SOCK_NONBLOCK);
        void *u = fresh(both[i], 1);
        stel_operation none = { .code = 0 }, beyond = { .code = STEL_OPERATIONS };
        ck_assert_int_eq(both[i]->submit(u, &none), -EOPNOTSUPP);
        ck_assert_int_eq(both[i]->submit(u, &beyond), -EOPNOTSUPP);
        nothing_left(both[i], u);
        both[i]->destroy(u);
    }
}
END_TEST

typedef struct other {
    const stel_backend_ops *ops;
    void *u;
    stel_operation *op;
} other;

static void *interrupter(void *arg) {
    const other *o = arg;
    o->ops->interrupt(o->u);
    return NULL;
}

START_TEST(interrupts_and_time) {
    for (int k = 0; k < 2; k++) {
        other o = { .ops = both[k], .u = fresh(both[k], 4) };
        stel_backend_event events[4];
        pthread_t t;
        /* One that comes while nobody waits is for the next wait; also before the first. */
        for (int i = 0; i < 3; i++) {
            o.ops->interrupt(o.u);
            ck_assert_int_eq(o.ops->wait(o.u, events, 4, STEL_FOREVER), 0);
        }
        for (uint64_t i = 0; i < test_scale(200); i++) {
            ck_assert_int_eq(pthread_create(&t, NULL, interrupter, &o), 0);
            ck_assert_int_eq(o.ops->wait(o.u, events, 4, STEL_FOREVER), 0);
            pthread_join(t, NULL);
        }
        while (o.ops->wait(o.u, events, 4, 0) != 0)
            ;
        int64_t before = stel_now(), now;
        do /* each round ends by the clock, but for an interrupt that is left over */
            ck_assert_int_eq(o.ops->wait(o.u, events, 4, before + STEL_MS(10)), 0);
        while ((now = stel_now()) - before < STEL_MS(10) && now - before > STEL_MS(5));
        ck_assert_int_eq(o.ops->wait(o.u, events, 4, before), 0); /* passed already */
        before = stel_now();
        ck_assert_int_eq(o.ops->wait(o.u, events, 4, before + STEL_MS(10)), 0);
        ck_assert(stel_now() - before >= STEL_MS(10));
        for (int i = 0; i < 1000; i++)
            o.ops->interrupt(o.u); /* left over at the end */
        o.ops->destroy(o.u);
    }
}
END_TEST

/* An owner that never sleeps hears of ends as well. */
START_TEST(never_asleep) {
    for (int k = 0; k < 2; k++) {
        void *u = fresh(both[k], 4);
        stel_backend_event e;
        int fds[2];
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        stel_operation poll = { STEL_OPERATION_POLL, .fd = fds[0], .flags = POLLIN, .token = 9 };
        ck_assert_int_eq(both[k]->submit(u, &poll), 0);
        ck_assert_int_eq(both[k]->wait(u, &e, 1, 0), 0);
        ck_assert_int_eq(write(fds[1], "x", 1), 1);
        EVENTUALLY(both[k]->wait(u, &e, 1, 0) == 1);
        ck_assert_uint_eq(e.token, 9);
        nothing_left(both[k], u);
        close(fds[0]);
        close(fds[1]);
        both[k]->destroy(u);
    }
}
END_TEST

/* ---- cancelling ---- */

START_TEST(cancelled) {
    for (int k = 0; k < 2; k++) {
        const stel_backend_ops *ops = both[k];
        void *u = fresh(ops, 4);
        stel_backend_event e;
        int fds[2];
        char byte = 0;
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        for (int round = 0; round < 50; round++) {
            stel_operation recv = { STEL_OPERATION_RECV, .fd = fds[0], .address = &byte, .length = 1, .token = 7 };
            stel_operation poll = { STEL_OPERATION_POLL, .fd = fds[0], .flags = POLLIN, .token = 8 };
            stel_operation *op = round & 1 ? &recv : &poll;
            /* Before the kernel knows of it (an owned ring), and in flight. */
            ck_assert_int_eq(ops->submit(u, op), 0);
            if (round & 2) ck_assert_int_eq(ops->wait(u, &e, 1, 0), 0);
            ops->cancel(u, op);
            e = next(ops, u);
            ck_assert_uint_eq(e.token, op->token);
            ck_assert_int_eq(e.result, -ECANCELED);
            ops->cancel(u, op); /* it was handed out: nothing */
            nothing_left(ops, u);
        }
        /* Complete, and not handed out. Either result is true; there is one event. */
        for (int round = 0; round < 50; round++) {
            stel_operation polls[3];
            for (unsigned i = 0; i < 3; i++) {
                polls[i] = (stel_operation){ STEL_OPERATION_POLL, .fd = fds[0], .flags = POLLOUT, .token = i };
                ck_assert_int_eq(ops->submit(u, &polls[i]), 0);
            }
            uint64_t first = next(ops, u).token, second = (first + 1) % 3;
            ops->cancel(u, &polls[second]);
            unsigned seen = 1u << first;
            for (int i = 0; i < 2; i++) {
                e = next(ops, u);
                ck_assert(e.result == POLLOUT || (e.token == second && e.result == -ECANCELED));
                seen |= 1u << e.token;
            }
            ck_assert_uint_eq(seen, 7);
            nothing_left(ops, u);
        }
        ck_assert_int_eq(byte, 0);
        close(fds[0]);
        close(fds[1]);
        ops->destroy(u);
    }
}
END_TEST

/* It ends while its cancel has no entry yet, as there is no room for one: it leaves the inbox. */
START_TEST(cancelled_without_room) {
    enum { MOST = 200 };
    for (int k = 0; k < 2; k++) {
        const stel_backend_ops *ops = both[k];
        void *u = fresh(ops, 1);
        stel_backend_event e;
        stel_operation polls[2], many[MOST];
        int n = 0;
        for (unsigned i = 0; i < 2; i++) {
            polls[i] = (stel_operation){ STEL_OPERATION_POLL, .fd = -1, .token = i };
            ck_assert_int_eq(ops->submit(u, &polls[i]), 0);
        }
        uint64_t first = next(ops, u).token;
        stel__fault_set(STEL__FAULT_IO_URING_ENTER, 1, EAGAIN, true);
        do
            many[n] = (stel_operation){ STEL_OPERATION_POLL, .fd = -1, .token = 3 };
        while (ops->submit(u, &many[n]) == 0 && ++n < MOST);
        ck_assert_int_lt(n, MOST);
        ops->cancel(u, &polls[1 - first]);
        ck_assert_int_eq(ops->wait(u, &e, 1, 0), 1);
        ck_assert_uint_eq(e.token, 1 - first);
        ck_assert_int_eq(e.result, -EBADF);
        memset(polls, 0xa5, sizeof polls);
        stel__fault_clear();
        while (n-- > 0)
            ck_assert_uint_eq(next(ops, u).token, 3);
        nothing_left(ops, u);
        ops->destroy(u);
    }
}
END_TEST

/* A cancel's memory may be used again at once, also for an operation that is at the same address. */
START_TEST(same_address_again) {
    for (int k = 0; k < 2; k++) {
        const stel_backend_ops *ops = both[k];
        void *u = fresh(ops, 4);
        int fds[2];
        char byte;
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        for (uint64_t round = 0; round < test_scale(2000); round++) {
            stel_operation op = { STEL_OPERATION_RECV, .fd = fds[0], .address = &byte, .length = 1, .token = 1 };
            ck_assert_int_eq(write(fds[1], "x", 1), 1);
            ck_assert_int_eq(ops->submit(u, &op), 0);
            if (round & 1) ck_assert_int_eq(ops->wait(u, &(stel_backend_event){ 0 }, 0, 0), 0);
            ops->cancel(u, &op); /* most often too late */
            stel_backend_event e = next(ops, u);
            if (e.result == -ECANCELED) ck_assert_int_eq(read(fds[0], &byte, 1), 1);
            op = (stel_operation){ STEL_OPERATION_RECV, .fd = fds[0], .address = &byte, .length = 1, .token = 2 };
            ck_assert_int_eq(ops->submit(u, &op), 0);
            ck_assert_int_eq(ops->wait(u, &e, 1, 0), 0);
            ck_assert_int_eq(write(fds[1], "y", 1), 1);
            e = next(ops, u);
            ck_assert_uint_eq(e.token, 2);
            ck_assert_int_eq(e.result, 1);
            ck_assert_int_eq(byte, 'y');
        }
        nothing_left(ops, u);
        close(fds[0]);
        close(fds[1]);
        ops->destroy(u);
    }
}
END_TEST

static void *canceller(void *arg) {
    const other *o = arg;
    o->ops->cancel(o->u, o->op);
    return NULL;
}

START_TEST(cancelled_by_another_thread) {
    for (int k = 0; k < 2; k++) {
        int fds[2];
        char byte;
        pthread_t t;
        other o = { .ops = both[k], .u = fresh(both[k], 4) };
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        for (uint64_t i = 0; i < test_scale(200); i++) {
            stel_operation op = { STEL_OPERATION_RECV, .fd = fds[0], .address = &byte, .length = 1, .token = i };
            o.op = &op;
            ck_assert_int_eq(o.ops->submit(o.u, &op), 0);
            ck_assert_int_eq(pthread_create(&t, NULL, canceller, &o), 0);
            if (i & 1) pthread_join(t, NULL);
            stel_backend_event e = next(o.ops, o.u);
            ck_assert_int_eq(e.result, -ECANCELED);
            ck_assert_uint_eq(e.token, i);
            if (!(i & 1)) pthread_join(t, NULL);
        }
        nothing_left(o.ops, o.u);
        close(fds[0]);
        close(fds[1]);
        o.ops->destroy(o.u);
    }
}
END_TEST

/* Many operations at changing times, ended by their peers or cancelled, by this thread and by others; each ends once, one
 * that nobody cancelled is never -ECANCELED, and memory is used again at once. A slot's lock is what the library's is:
 * cancel is called under it for what is not done. The last slots' peers say nothing, however the threads are scheduled:
 * there it is always the cancellation that ends an operation; and the first one's has spoken before all begins. */
enum { SLOTS = 32, SILENT = 4, CANCELLERS = 2 };
typedef struct slot {
    stel__lock lock;
    bool on, asked;
    int fds[2];
    unsigned char byte;
    stel_operation op;
} slot;
typedef struct storm {
    const stel_backend_ops *ops;
    void *u;
    slot slots[SLOTS];
    _Atomic bool over;
    uint64_t began, ended, cancelled;
} storm;

static void cancel_some(storm *s, uint32_t which) {
    slot *l = &s->slots[which];
    stel__lock_take(&l->lock);
    if (l->on && !l->asked) {
        l->asked = true;
        s->ops->cancel(s->u, &l->op);
    }
    stel__lock_give(&l->lock);
}

static void *storm_canceller(void *arg) {
    storm *s = arg;
    uint64_t state = test_seed() ^ (uintptr_t)&state;
    while (!stel__load_acquire(&s->over)) {
        uint32_t which = test_random(&state, SLOTS);
        if (which < SLOTS - SILENT && test_random(&state, 4) == 0)
            (void)!send(s->slots[which].fds[1], "z", 1, MSG_DONTWAIT); /* full: as good */
        else
            cancel_some(s, which);
        if (test_random(&state, 8) == 0) sched_yield();
    }
    return NULL;
}

static void storm_begin(storm *s, slot *l) {
    stel__lock_take(&l->lock);
    memset(&l->op, 0, sizeof l->op);
    l->op.code = s->began % 3 ? STEL_OPERATION_RECV : STEL_OPERATION_POLL;
    l->op.fd = l->fds[0];
    l->op.token = (uintptr_t)l;
    l->byte = 0;
    if (l->op.code == STEL_OPERATION_RECV) {
        l->op.address = &l->byte;
        l->op.length = 1;
        l->op.flags = 0;
    } else {
        l->op.flags = POLLIN;
    }
    FIBER_ASSERT_EQ(s->ops->submit(s->u, &l->op), 0);
    l->asked = false;
    l->on = true; /* may be cancelled from now on */
    stel__lock_give(&l->lock);
    s->began++;
}

static void storm_take(storm *s, const stel_backend_event *e) {
    slot *l = (slot *)(uintptr_t)e->token;
    stel__lock_take(&l->lock);
    FIBER_ASSERT(l->on);
    l->on = false;
    if (e->result == -ECANCELED || e->result == -EINTR) {
        FIBER_ASSERT(l->asked);
        FIBER_ASSERT_EQ(l->byte, 0);
        s->cancelled++;
    } else if (l->op.code == STEL_OPERATION_RECV) {
        FIBER_ASSERT_EQ(e->result, 1);
        FIBER_ASSERT_EQ(l->byte, 'z');
    } else {
        FIBER_ASSERT_EQ(e->result, POLLIN);
    }
    memset(&l->op, 0xa5, sizeof l->op); /* whoever touches it now is wrong */
    l->byte = 0xa5;
    stel__lock_give(&l->lock);
    s->ended++;
}

static void storm_on(const stel_backend_ops *ops) {
    storm *s = calloc(1, sizeof *s);
    s->ops = ops;
    s->u = fresh(s->ops, 8);
    uint64_t rounds = test_scale(40000), state = test_seed();
    pthread_t t[CANCELLERS];
    stel_backend_event events[5];
    for (int i = 0; i < SLOTS; i++)
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s->slots[i].fds), 0);
    ck_assert_int_eq(send(s->slots[0].fds[1], "z", 1, MSG_DONTWAIT), 1);
    for (int i = 0; i < SLOTS; i++)
        storm_begin(s, &s->slots[i]);
    for (int i = 0; i < CANCELLERS; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, storm_canceller, s), 0);
    while (s->ended < rounds) {
        int n = s->ops->wait(s->u, events, 5, STEL_FOREVER);
        ck_assert_int_ge(n, 0);
        for (int i = 0; i < n; i++)
            storm_take(s, &events[i]);
        for (int i = 0; i < n; i++)
            storm_begin(s, (slot *)(uintptr_t)events[i].token);
        cancel_some(s, test_random(&state, SLOTS));
    }
    stel__store_release(&s->over, true);
    for (int i = 0; i < CANCELLERS; i++)
        pthread_join(t[i], NULL);
    for (uint32_t i = 0; i < SLOTS; i++)
        cancel_some(s, i);
    while (s->ended < s->began) {
        stel_backend_event e = next(s->ops, s->u);
        storm_take(s, &e);
    }
    nothing_left(s->ops, s->u);
    ck_assert_uint_gt(s->cancelled, 0);
    ck_assert_uint_lt(s->cancelled, s->ended);
    for (int i = 0; i < SLOTS; i++) {
        close(s->slots[i].fds[0]);
        close(s->slots[i].fds[1]);
    }
    s->ops->destroy(s->u);
    free(s);
}

START_TEST(storm_of_cancels) {
    storm_on(owned);
}
END_TEST

START_TEST(storm_of_cancels_shared) {
    storm_on(shared);
}
END_TEST

/* ---- more than there is room for ---- */

static void many_on(const stel_backend_ops *ops) {
    enum { MANY = 10000, BATCH = 7 };
    void *u = fresh(ops, 1);
    stel_operation *polls = calloc(MANY, sizeof *polls);
    unsigned char *seen = calloc(MANY, 1);
    stel_backend_event events[BATCH];
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (int ready = 0; ready < 2; ready++) { /* all of them at submission; all of them later, at the same time */
        for (unsigned i = 0; i < MANY; i++) {
            polls[i] =
                (stel_operation){ STEL_OPERATION_POLL, .fd = fds[0], .token = i, .flags = ready ? POLLIN : POLLOUT };
            ck_assert_int_eq(ops->submit(u, &polls[i]), 0);
        }
        ck_assert_uint_eq(ops->pending(u), MANY);
        ops->interrupt(u); /* its completion has no room either */
        if (ready) {
            ck_assert_int_eq(ops->wait(u, events, BATCH, 0), 0);
            ck_assert_int_eq(write(fds[1], "x", 1), 1);
        }
        memset(seen, 0, MANY);
        for (int got = 0; got < MANY;) {
            int n = ops->wait(u, events, BATCH, STEL_FOREVER);
            ck_assert_int_ge(n, 0);
            ck_assert_int_le(n, BATCH);
            for (int i = 0; i < n; i++) {
                ck_assert_int_eq(events[i].result, ready ? POLLIN : POLLOUT);
                ck_assert_int_eq(seen[events[i].token]++, 0);
            }
            got += n;
        }
        nothing_left(ops, u);
        ops->interrupt(u);
        ck_assert_int_eq(ops->wait(u, events, BATCH, STEL_FOREVER), 0);
    }
    close(fds[0]);
    close(fds[1]);
    free(polls);
    free(seen);
    ops->destroy(u);
}

START_TEST(many_at_once) {
    many_on(owned);
    many_on(shared);
}
END_TEST

/* ---- threads that share a ring ---- */

enum { READERS = 3, DEPTH = 8, BLOCK = 512, BLOCKS = 64 };
typedef struct reader {
    void *u;
    int fd;
    uint64_t left, state;
    _Atomic int under_way;
} reader;
typedef struct block {
    stel_operation op;
    struct iovec iov;
    reader *of;
    uint32_t number;
    unsigned char bytes[BLOCK];
} block;

static void *reading(void *arg) {
    reader *r = arg;
    while (r->left > 0) {
        if (stel__load_acquire(&r->under_way) == DEPTH) {
            sched_yield();
            continue;
        }
        block *b = malloc(sizeof *b);
        b->of = r;
        b->number = test_random(&r->state, BLOCKS);
        b->iov = (struct iovec){ b->bytes, BLOCK };
        b->op = (stel_operation){
            STEL_OPERATION_READV, .fd = r->fd, .address = &b->iov, .length = 1, .offset = (int64_t)b->number * BLOCK,
            .token = (uintptr_t)b
        };
        (void)stel__add_relaxed(&r->under_way, 1);
        FIBER_ASSERT_EQ(shared->submit(r->u, &b->op), 0);
        r->left--;
    }
    while (stel__load_acquire(&r->under_way) > 0)
        sched_yield(); /* a thread that ends takes with it what it began */
    return NULL;
}

START_TEST(shared_by_threads) {
    void *u = fresh(shared, 4);
    uint64_t each = test_scale(4000), got = 0;
    char path[] = "/tmp/stellane-test-XXXXXX";
    unsigned char bytes[BLOCK];
    int fd = mkstemp(path);
    for (int i = 0; i < BLOCKS; i++) {
        memset(bytes, i + 1, BLOCK);
        ck_assert_int_eq(write(fd, bytes, BLOCK), BLOCK);
    }
    unlink(path);
    reader readers[READERS];
    pthread_t t[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (reader){ .u = u, .fd = fd, .left = each, .state = test_seed() + i };
        ck_assert_int_eq(pthread_create(&t[i], NULL, reading, &readers[i]), 0);
    }
    /* As a poller does: asleep until the descriptor says that there is something, then all that there is. */
    while (got < each * READERS) {
        struct pollfd p = { .fd = stel__io_uring_fd(u), .events = POLLIN };
        stel_backend_event events[4];
        int n;
        ck_assert_int_eq(poll(&p, 1, 60000), 1);
        do {
            n = shared->wait(u, events, 4, 0);
            ck_assert_int_ge(n, 0);
            for (int i = 0; i < n; i++, got++) {
                block *b = (block *)(uintptr_t)events[i].token;
                ck_assert_int_eq(events[i].result, BLOCK);
                ck_assert_int_eq(b->bytes[0], (int)b->number + 1);
                ck_assert_int_eq(b->bytes[BLOCK - 1], (int)b->number + 1);
                (void)stel__sub_acq_rel(&b->of->under_way, 1);
                free(b);
            }
        } while (n == 4);
    }
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(t[i], NULL);
    nothing_left(shared, u);
    struct pollfd p = { .fd = stel__io_uring_fd(u), .events = POLLIN };
    ck_assert_int_eq(poll(&p, 1, 0), 0); /* nothing is left to be looked at */
    close(fd);
    shared->destroy(u);
}
END_TEST

/* A batch that is smaller than what is there: the descriptor says so again, for those that look once an edge. */
START_TEST(shared_small_batch) {
    void *u = fresh(shared, 1);
    stel_operation fsyncs[10];
    stel_backend_event e;
    unsigned seen = 0;
    for (unsigned i = 0; i < 10; i++) {
        fsyncs[i] = (stel_operation){ STEL_OPERATION_FSYNC, .fd = -1, .token = i };
        ck_assert_int_eq(shared->submit(u, &fsyncs[i]), 0);
    }
    for (int i = 0; i < 10; i++) {
        struct pollfd p = { .fd = stel__io_uring_fd(u), .events = POLLIN };
        ck_assert_int_eq(poll(&p, 1, 60000), 1);
        ck_assert_int_eq(shared->wait(u, &e, 1, 0), 1);
        ck_assert_int_eq(e.result, -EBADF);
        seen |= 1u << e.token;
    }
    ck_assert_uint_eq(seen, 0x3ff);
    nothing_left(shared, u);
    shared->destroy(u);
}
END_TEST

/* ---- failures ---- */

START_TEST(no_room) {
    static const struct {
        enum stel__fault_kind kind;
        uint64_t nth;
        int error, result_owned, result_shared;
    } faults[] = {
        { STEL__FAULT_ALLOC, 1, ENOMEM, -ENOMEM, -ENOMEM },
        { STEL__FAULT_EVENTFD, 1, EMFILE, -EMFILE, -EMFILE },
        { STEL__FAULT_IO_URING_SETUP, 1, ENFILE, -ENFILE, -ENFILE },
        { STEL__FAULT_IO_URING_SETUP, 1, EPERM, -EPERM, -EPERM },
        { STEL__FAULT_IO_URING_SETUP, 1, EINVAL, 0, 0 }, /* the next best flags */
        { STEL__FAULT_IO_URING_SETUP, 1, ENOMEM, 0, 0 }, /* a smaller one */
        { STEL__FAULT_MMAP, 1, ENOMEM, -ENOMEM, -ENOMEM },
        { STEL__FAULT_MMAP, 2, ENOMEM, -ENOMEM, -ENOMEM },
        { STEL__FAULT_IO_URING_REGISTER, 1, EPERM, -EPERM, -EPERM },
        { STEL__FAULT_IO_URING_REGISTER, 2, ENOMEM, 0, -ENOMEM }, /* an owned one is enabled later */
    };
    for (int k = 0; k < 2; k++) {
        void *u = NULL;
        int descriptors = test_open_descriptors();
        ck_assert_int_eq(both[k]->create(&u, 0), -EINVAL);
        for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
            int expected = k ? faults[i].result_shared : faults[i].result_owned;
            stel__fault_set(faults[i].kind, faults[i].nth, faults[i].error, false);
            ck_assert_int_eq(both[k]->create(&u, 32), expected);
            stel__fault_clear();
            if (expected == 0) {
                const stel_backend_ops *ops = both[k];
                ck_assert_int_eq(DONE(STEL_OPERATION_FSYNC, .fd = -1), -EBADF);
                both[k]->interrupt(u);
                stel_backend_event e;
                ck_assert_int_eq(both[k]->wait(u, &e, 1, STEL_FOREVER), 0);
                both[k]->destroy(u);
            }
            ck_assert_int_eq(test_open_descriptors(), descriptors);
        }
    }
}
END_TEST

START_TEST(submission_fails) {
    stel_backend_event e;
    for (int k = 0; k < 2; k++) {
        const stel_backend_ops *ops = both[k];
        static const int passing[] = { EAGAIN, EBUSY, ENOMEM, EINTR };
        for (size_t i = 0; i < 4; i++) {
            void *u = fresh(ops, 4);
            stel_operation op = { STEL_OPERATION_FSYNC, .fd = -1, .token = 5 };
            stel__fault_set(STEL__FAULT_IO_URING_ENTER, 1, passing[i], false);
            ck_assert_int_eq(ops->submit(u, &op), 0); /* it comes through later */
            if (k) {
                struct pollfd p = { .fd = stel__io_uring_fd(u), .events = POLLIN };
                ck_assert_int_eq(poll(&p, 1, 60000), 1);
            }
            e = next(ops, u);
            ck_assert_int_eq(e.result, -EBADF);
            ck_assert_uint_eq(stel__fault_calls(STEL__FAULT_IO_URING_ENTER) > 1, 1);
            stel__fault_clear();
            /* For long: a wait with an end comes to it. */
            op = (stel_operation){ STEL_OPERATION_FSYNC, .fd = -1, .token = 6 };
            stel__fault_set(STEL__FAULT_IO_URING_ENTER, 1, passing[i], true);
            ck_assert_int_eq(ops->submit(u, &op), 0);
            ck_assert_int_eq(ops->wait(u, &e, 1, stel_now() + STEL_MS(3)), 0);
            ck_assert_int_eq(ops->wait(u, &e, 1, 0), 0);
            stel__fault_clear();
            ck_assert_uint_eq(next(ops, u).token, 6);
            nothing_left(ops, u);
            ops->destroy(u);
        }
    }
    /* A queue that cannot be emptied is full; nothing has begun then. */
    for (int k = 0; k < 2; k++) {
        void *u = fresh(both[k], 1);
        stel_operation *many = calloc(200, sizeof *many);
        int n = 0, rc = 0;
        stel__fault_set(STEL__FAULT_IO_URING_ENTER, 1, EAGAIN, true);
        for (; n < 200 && rc == 0; n += rc == 0) {
            many[n] = (stel_operation){ STEL_OPERATION_POLL, .fd = -1, .token = 1 };
            rc = both[k]->submit(u, &many[n]);
        }
        ck_assert_int_eq(rc, -EAGAIN);
        ck_assert_int_ge(n, 60);
        ck_assert_uint_eq(both[k]->pending(u), (size_t)n);
        both[k]->cancel(u, &many[n / 2]); /* there is no entry for it either: it waits in the inbox */
        stel__fault_clear();
        while (n-- > 0)
            (void)next(both[k], u);
        nothing_left(both[k], u);
        both[k]->destroy(u);
        free(many);
    }
    /* What no wait gets over is told. */
    void *u = fresh(owned, 1);
    char why[256];
    bool disabled_first = owned->probe(why, sizeof why) == 0 && strstr(why, "single issuer");
    stel__fault_set(STEL__FAULT_IO_URING_REGISTER, 1, EPERM, false);
    ck_assert_int_eq(owned->wait(u, &e, 1, 0), disabled_first ? -EPERM : 0);
    stel__fault_clear();
    ck_assert_int_eq(owned->wait(u, &e, 1, 0), 0);
    stel__fault_set(STEL__FAULT_IO_URING_ENTER, 1, EBADF, false);
    ck_assert_int_eq(owned->wait(u, &e, 1, STEL_FOREVER), -EBADF);
    stel__fault_clear();
    owned->destroy(u);
}
END_TEST

/* ---- probing ---- */

START_TEST(probes) {
    char why[256], short_why[8];
    ck_assert_int_eq(owned->probe(why, sizeof why), 0);
    ck_assert_ptr_nonnull(strstr(why, "a ring a worker ("));
    ck_assert_int_eq(shared->probe(why, sizeof why), 0);
    ck_assert_ptr_nonnull(strstr(why, "a ring for files ("));
    ck_assert_ptr_nonnull(strstr(why, " operations"));
    ck_assert_int_eq(shared->probe(short_why, sizeof short_why), 0);
    ck_assert_uint_eq(strlen(short_why), sizeof short_why - 1);
    stel__fault_set(STEL__FAULT_IO_URING_REGISTER, 1, EINVAL, false);
    ck_assert_int_eq(owned->probe(why, sizeof why), -EOPNOTSUPP);
    ck_assert_ptr_nonnull(strstr(why, "too old"));
    stel__fault_set(STEL__FAULT_IO_URING_ENTER, 1, EPERM, false);
    ck_assert_int_eq(owned->probe(why, sizeof why), -EPERM);
    ck_assert_ptr_nonnull(strstr(why, "io_uring_enter: "));
    stel__fault_clear();
}
END_TEST

/* In a process of its own: io_uring_setup fails with error from now on. 0, or what is wrong. */
static int forbidden(int error, const char *words) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 425, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof code[0], code };
    char why[256];
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 77;
    for (int k = 0; k < 2; k++) {
        void *u;
        if (both[k]->probe(why, sizeof why) != -error) return 1;
        if (strcmp(why, words) != 0) return fprintf(stderr, "not as expected: %s\n", why), 2;
        if (both[k]->create(&u, 8) != -error) return 3;
    }
    return 0;
}

START_TEST(forbidden_by_a_filter) {
    static const struct {
        int error;
        const char *words;
    } table[] = {
        { EPERM, "io_uring_setup: operation not permitted (EPERM), by kernel.io_uring_disabled or a seccomp filter" },
        { ENOSYS, "io_uring_setup: not implemented by the kernel (ENOSYS), or forbidden by a seccomp filter" },
    };
    for (int i = 0; i < 2; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) _exit(forbidden(table[i].error, table[i].words));
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFEXITED(status));
        if (WEXITSTATUS(status) != 77) ck_assert_int_eq(WEXITSTATUS(status), 0); /* 77: no filters here */
    }
}
END_TEST

TEST_MAIN_IF(why_not, "poller/io_uring", every_operation, interrupts_and_time, never_asleep, cancelled,
             cancelled_without_room, same_address_again, cancelled_by_another_thread, storm_of_cancels,
             storm_of_cancels_shared, many_at_once, shared_by_threads, shared_small_batch, no_room, submission_fails,
             probes, forbidden_by_a_filter)
