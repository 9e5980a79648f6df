/* Part "ops": operations that the backend carries out. All waits and submits of an instance come from one thread here, as
 * an OWNED one wants it. */
#include "conformance.h"
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#define COMPLETION NOT_FOR(!has(STEL_BACKEND_COMPLETION), "no completions")

/* Submit; false: it is not one that this backend knows. */
static bool submit(void *e, stel_operation *op) {
    int rc = it.ops->submit(e, op);
    if (rc == -EOPNOTSUPP) return false;
    FIBER_OK(rc);
    return true;
}

static int32_t result_of(void *e, uint64_t token) {
    gathered g = { .n = 0 };
    int32_t result = 0;
    gather_until(e, &g, 1);
    FIBER_ASSERT_EQ(count_of(&g, token, &result), 1);
    FIBER_ASSERT_EQ(g.events[0].kind, STEL_EVENT_COMPLETE);
    return result;
}

/* Have it done. Ends the check when the backend does not know it. */
static int32_t operate(void *e, stel_operation op) {
    static uint64_t token = 1000;
    op.token = ++token;
    if (!submit(e, &op)) not_applicable("-EOPNOTSUPP");
    return result_of(e, op.token);
}

static void make_sockets(int fds[2]) {
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static void close_both(int fds[2]) {
    close(fds[0]);
    close(fds[1]);
}

static stel_operation poll_of(int fd, unsigned events, uint64_t token) {
    return (stel_operation){ .code = STEL_OPERATION_POLL, .fd = fd, .flags = events, .token = token };
}

RULE(poll_operation, "POLL completes with the events that hold, at once if they hold already; and once.") {
    COMPLETION;
    void *e = fresh(8);
    int fds[2];
    make_sockets(fds);
    stel_operation in = poll_of(fds[0], POLLIN, 7), out = poll_of(fds[0], POLLOUT, 8);
    if (!submit(e, &in)) {
        FIBER_ASSERT(has(STEL_BACKEND_READINESS)); /* else every backend knows it */
        not_applicable("-EOPNOTSUPP");
    }
    FIBER_ASSERT(submit(e, &out));
    FIBER_ASSERT_EQ(result_of(e, 8) & (POLLIN | POLLOUT), POLLOUT);
    FIBER_ASSERT_EQ(write(fds[1], "x", 1), 1);
    FIBER_ASSERT_EQ(result_of(e, 7) & POLLIN, POLLIN);
    FIBER_ASSERT_EQ(write(fds[1], "x", 1), 1);
    stel_operation again = poll_of(fds[0], POLLIN, 9);
    FIBER_ASSERT(submit(e, &again));
    FIBER_ASSERT_EQ(result_of(e, 9) & POLLIN, POLLIN);
    close(fds[1]);
    stel_operation end = poll_of(fds[0], POLLIN, 10);
    FIBER_ASSERT(submit(e, &end));
    FIBER_ASSERT(result_of(e, 10) & (POLLIN | POLLHUP | POLLRDHUP));
    it.ops->destroy(e);
    close(fds[0]);
}

RULE(unknown_operation, "An operation that is not known is refused with -EOPNOTSUPP, and nothing has begun.") {
    COMPLETION;
    void *e = fresh(8);
    stel_operation op = { .code = STEL_OPERATIONS + 100, .fd = -1, .token = 7 };
    FIBER_ASSERT_EQ(it.ops->submit(e, &op), -EOPNOTSUPP);
    gathered g = { .n = 0 };
    FIBER_ASSERT_EQ(gather(e, &g, 4, 0), 0);
    it.ops->destroy(e);
}

RULE(receive_and_send, "RECV and SEND move bytes; RECV waits for them, and tells the end as 0.") {
    COMPLETION;
    void *e = fresh(8);
    int fds[2];
    char buffer[16] = { 0 };
    make_sockets(fds);
    stel_operation receive = { .code = STEL_OPERATION_RECV, .fd = fds[0], .address = buffer, .length = 16, .token = 7 };
    if (!submit(e, &receive)) not_applicable("-EOPNOTSUPP");
    stel_operation send = { .code = STEL_OPERATION_SEND, .fd = fds[1], .address = "hello", .length = 5 };
    send.token = 8;
    if (!submit(e, &send)) not_applicable("-EOPNOTSUPP");
    gathered g = { .n = 0 };
    int32_t received = 0, sent = 0;
    gather_until(e, &g, 2);
    FIBER_ASSERT(count_of(&g, 7, &received) == 1 && count_of(&g, 8, &sent) == 1);
    FIBER_ASSERT(received == 5 && sent == 5 && !memcmp(buffer, "hello", 5));
    close(fds[1]);
    receive.backend[0] = receive.backend[1] = receive.backend[2] = 0;
    FIBER_ASSERT(submit(e, &receive));
    FIBER_ASSERT_EQ(result_of(e, 7), 0);
    it.ops->destroy(e);
    close(fds[0]);
}

RULE(messages, "RECVMSG and SENDMSG do, descriptors in them included.") {
    COMPLETION;
    void *e = fresh(8);
    int fds[2], carried[2];
    make_sockets(fds);
    make_sockets(carried);
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } out = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } }, in = { .bytes = { 0 } };
    memcpy(CMSG_DATA(&out.header), &carried[0], sizeof(int));
    char byte = 0;
    struct iovec from = { "x", 1 }, to = { &byte, 1 };
    struct msghdr send = { .msg_iov = &from, .msg_iovlen = 1, .msg_control = &out, .msg_controllen = sizeof out };
    struct msghdr receive = { .msg_iov = &to, .msg_iovlen = 1, .msg_control = &in, .msg_controllen = sizeof in };
    FIBER_ASSERT_EQ(operate(e, (stel_operation){ .code = STEL_OPERATION_SENDMSG, .fd = fds[0], .address = &send }), 1);
    FIBER_ASSERT_EQ(operate(e, (stel_operation){ .code = STEL_OPERATION_RECVMSG, .fd = fds[1], .address = &receive }),
                    1);
    int got;
    memcpy(&got, CMSG_DATA(&in.header), sizeof got);
    FIBER_ASSERT(byte == 'x' && write(got, "y", 1) == 1 && read(carried[1], &byte, 1) == 1 && byte == 'y');
    it.ops->destroy(e);
    close_both(fds);
    close_both(carried);
    close(got);
}

RULE(accept_and_connect,
     "ACCEPT waits for a connection and gives its descriptor and address; CONNECT makes one, or fails.") {
    COMPLETION;
    void *e = fresh(8);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, peer = { 0 };
    socklen_t bytes = sizeof a, peer_bytes = sizeof peer;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    FIBER_ASSERT_EQ(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    FIBER_ASSERT_EQ(listen(listener, 1), 0);
    FIBER_ASSERT_EQ(getsockname(listener, (struct sockaddr *)&a, &bytes), 0);
    stel_operation accept = { .code = STEL_OPERATION_ACCEPT, .fd = listener, .flags = SOCK_CLOEXEC, .token = 7 };
    accept.address = &peer;
    accept.address2 = &peer_bytes;
    if (!submit(e, &accept)) not_applicable("-EOPNOTSUPP");
    stel_operation connect = { .code = STEL_OPERATION_CONNECT, .fd = client, .address = &a, .length = sizeof a };
    connect.token = 8;
    if (!submit(e, &connect)) not_applicable("-EOPNOTSUPP");
    gathered g = { .n = 0 };
    int32_t fd = 0, connected = -1;
    gather_until(e, &g, 2);
    FIBER_ASSERT(count_of(&g, 7, &fd) == 1 && count_of(&g, 8, &connected) == 1);
    FIBER_ASSERT(connected == 0 && fd >= 0 && peer.sin_family == AF_INET && peer_bytes == sizeof peer);
    FIBER_ASSERT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(listener);
    close(client);
    client = socket(AF_INET, SOCK_STREAM, 0);
    stel_operation refused = { .code = STEL_OPERATION_CONNECT, .fd = client, .address = &a, .length = sizeof a };
    FIBER_ASSERT_EQ(operate(e, refused), -ECONNREFUSED);
    it.ops->destroy(e);
    close(client);
    close(fd);
}

static char *text(const char *directory, const char *name) {
    static char texts[4][64];
    static int i;
    char *t = texts[i++ % 4];
    snprintf(t, 64, "%s/%s", directory, name);
    return t;
}

RULE(files,
     "OPEN, WRITEV, READV, FSYNC, FDATASYNC, STATX, RENAME, UNLINK and MKDIR do what the calls of these names do.") {
    COMPLETION;
    void *e = fresh(8);
    char directory[] = "conformance-XXXXXX", buffer[8] = { 0 };
    FIBER_ASSERT(mkdtemp(directory) != NULL);
    char *inner = text(directory, "inner"), *a = text(directory, "a"), *b = text(directory, "b");
    struct statx st = { 0 };
    struct iovec out[2] = { { "he", 2 }, { "llo", 3 } }, in = { buffer, sizeof buffer };
    int fd = operate(
        e, (stel_operation){
               .code = STEL_OPERATION_OPEN, .address = a, .flags = O_RDWR | O_CREAT | O_CLOEXEC, .mode = 0600 });
    FIBER_ASSERT(fd >= 0);
    stel_operation write = { .code = STEL_OPERATION_WRITEV, .fd = fd, .address = out, .length = 2, .offset = 0 };
    FIBER_ASSERT_EQ(operate(e, write), 5);
    write.offset = -1; /* where the file is: at its beginning still */
    FIBER_ASSERT_EQ(operate(e, write), 5);
    FIBER_ASSERT_EQ(lseek(fd, 0, SEEK_CUR), 5);
    stel_operation read = { .code = STEL_OPERATION_READV, .fd = fd, .address = &in, .length = 1, .offset = 1 };
    FIBER_ASSERT(operate(e, read) == 4 && !memcmp(buffer, "ello", 4));
    FIBER_ASSERT_EQ(operate(e, (stel_operation){ .code = STEL_OPERATION_FSYNC, .fd = fd }), 0);
    FIBER_ASSERT_EQ(operate(e, (stel_operation){ .code = STEL_OPERATION_FDATASYNC, .fd = fd }), 0);
    stel_operation stat = { .code = STEL_OPERATION_STATX, .fd = AT_FDCWD, .address = a, .address2 = &st };
    stat.mode = STATX_BASIC_STATS;
    FIBER_ASSERT(operate(e, stat) == 0 && st.stx_size == 5);
    FIBER_ASSERT_EQ(operate(e, (stel_operation){ .code = STEL_OPERATION_RENAME, .address = a, .address2 = b }), 0);
    FIBER_ASSERT_EQ(operate(e, stat), -ENOENT);
    FIBER_ASSERT_EQ(operate(e, (stel_operation){ .code = STEL_OPERATION_UNLINK, .address = b }), 0);
    FIBER_ASSERT_EQ(operate(e, (stel_operation){ .code = STEL_OPERATION_UNLINK, .address = b }), -ENOENT);
    FIBER_ASSERT_EQ(operate(e, (stel_operation){ .code = STEL_OPERATION_MKDIR, .address = inner, .mode = 0700 }), 0);
    stel_operation away = { .code = STEL_OPERATION_UNLINK, .address = inner, .flags = AT_REMOVEDIR };
    FIBER_ASSERT_EQ(operate(e, away), 0);
    it.ops->destroy(e);
    close(fd);
    FIBER_ASSERT_EQ(rmdir(directory), 0);
}

RULE(cancelled_operation,
     "A cancelled operation that could not begin: one event, -ECANCELED, and its memory is the caller's.") {
    COMPLETION;
    void *e = fresh(8);
    int fds[2];
    char buffer[16] = { 0 };
    make_sockets(fds);
    stel_operation poll = poll_of(fds[0], POLLIN, 7);
    stel_operation receive = { .code = STEL_OPERATION_RECV, .fd = fds[0], .address = buffer, .length = 16, .token = 8 };
    gathered g = { .n = 0 };
    int32_t result = 0;
    bool polls = submit(e, &poll), receives = submit(e, &receive);
    (void)gather(e, &g, 4, 0); /* one of them has been handed to the kernel by now, if it was held back */
    FIBER_ASSERT_EQ(g.n, 0);
    if (polls) it.ops->cancel(e, &poll);
    if (receives) it.ops->cancel(e, &receive);
    gather_until(e, &g, polls + receives);
    FIBER_ASSERT(!polls || (count_of(&g, 7, &result) == 1 && result == -ECANCELED));
    FIBER_ASSERT(!receives || (count_of(&g, 8, &result) == 1 && result == -ECANCELED));
    FIBER_ASSERT_EQ(write(fds[1], "x", 1), 1);
    FIBER_ASSERT_EQ(gather(e, &g, 4, stel_after(STEL_MS(5))), 0);
    FIBER_ASSERT_EQ(buffer[0], 0); /* and what came later was not taken */
    it.ops->destroy(e);
    close_both(fds);
}

RULE(cancelled_at_once, "An operation cancelled before any wait has its event as well.") {
    COMPLETION;
    void *e = fresh(8);
    int fds[2];
    make_sockets(fds);
    for (uint64_t i = 0; i < 50; i++) {
        stel_operation poll = poll_of(fds[0], POLLIN, i);
        if (!submit(e, &poll)) not_applicable("-EOPNOTSUPP");
        it.ops->cancel(e, &poll);
        FIBER_ASSERT_EQ(result_of(e, i), -ECANCELED);
    }
    it.ops->destroy(e);
    close_both(fds);
}

typedef struct canceller {
    void *instance;
    _Atomic(stel_operation *) next; /* to be cancelled; NULL: taken */
    _Atomic bool enough;
} canceller;

static void *cancel_them(void *p) {
    canceller *c = p;
    while (!atomic_load(&c->enough)) {
        stel_operation *op = atomic_load(&c->next);
        if (!op) {
            sched_yield();
            continue;
        }
        it.ops->cancel(c->instance, op);
        atomic_store(&c->next, NULL);
    }
    return NULL;
}

RULE(cancelled_elsewhere, "Another thread may cancel while the owner waits: it ends the wait for that operation.") {
    COMPLETION;
    canceller c = { .instance = fresh(8) };
    pthread_t thread;
    int fds[2];
    make_sockets(fds);
    FIBER_ASSERT_EQ(pthread_create(&thread, NULL, cancel_them, &c), 0);
    int rounds = (int)test_scale(500);
    for (int i = 0; i < rounds; i++) {
        stel_operation poll = poll_of(fds[0], POLLIN, (uint64_t)i);
        if (!submit(c.instance, &poll)) break;
        atomic_store(&c.next, &poll);
        if (i % 2) FIBER_ASSERT_EQ(write(fds[1], "x", 1), 1); /* both at once: either may win */
        int32_t result = result_of(c.instance, (uint64_t)i);
        FIBER_ASSERT(result == -ECANCELED || (i % 2 && (result & POLLIN)));
        while (atomic_load(&c.next)) /* the operation is the backend's until cancel has returned */
            sched_yield();
        char byte;
        if (i % 2) FIBER_ASSERT_EQ(read(fds[0], &byte, 1), 1);
    }
    atomic_store(&c.enough, true);
    FIBER_ASSERT_EQ(pthread_join(thread, NULL), 0);
    it.ops->destroy(c.instance);
    close_both(fds);
}

RULE(many_operations,
     "Hundreds of operations at a time: each has its event, and one, however few are asked for at a time.") {
    COMPLETION;
    enum { MANY = 600 };
    static stel_operation all[MANY];
    static gathered g;
    void *e = fresh(8);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (int i = 0; i < MANY; i++) {
        all[i] = poll_of(fd, POLLIN, (uint64_t)i);
        int rc;
        while ((rc = it.ops->submit(e, &all[i])) == -EAGAIN)
            (void)gather(e, &g, 8, 0); /* no room: a wait hands over what was held back */
        if (rc == -EOPNOTSUPP) not_applicable("-EOPNOTSUPP");
        FIBER_OK(rc);
    }
    (void)gather(e, &g, 8, 0);
    FIBER_ASSERT_EQ(g.n, 0);
    if (it.ops->pending) FIBER_ASSERT_EQ(it.ops->pending(e), MANY);
    uint64_t one = 1;
    FIBER_ASSERT_EQ(write(fd, &one, sizeof one), (ssize_t)sizeof one);
    while (g.n < MANY)
        (void)gather(e, &g, 7, stel_after(STEL_SEC(45)));
    for (int i = 0; i < MANY; i++)
        FIBER_ASSERT_EQ(count_of(&g, (uint64_t)i, NULL), 1);
    if (it.ops->pending) FIBER_ASSERT_EQ(it.ops->pending(e), 0);
    it.ops->destroy(e);
    close(fd);
}

RULE(operations_given_back, "An instance that carried out operations gives back all it had.") {
    COMPLETION;
    int fds[2];
    make_sockets(fds);
    int descriptors = 0;
    for (int i = 0; i < 20; i++) {
        void *e = fresh(8);
        stel_operation out = poll_of(fds[0], POLLOUT, 7);
        if (submit(e, &out)) FIBER_ASSERT(result_of(e, 7) & POLLOUT);
        it.ops->destroy(e);
        if (i == 0) descriptors = test_open_descriptors();
        FIBER_ASSERT_EQ(test_open_descriptors(), descriptors);
    }
    close_both(fds);
}

const check *const ops_completion_checks[] = {
    &check_of_poll_operation,        &check_of_unknown_operation,
    &check_of_receive_and_send,      &check_of_messages,
    &check_of_accept_and_connect,    &check_of_files,
    &check_of_cancelled_operation,   &check_of_cancelled_at_once,
    &check_of_cancelled_elsewhere,   &check_of_many_operations,
    &check_of_operations_given_back, NULL,
};
