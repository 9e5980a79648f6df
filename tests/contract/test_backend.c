/* The contract of stellane/backend.h: backends that users plug in. */
#include "contract.h"
#include "poller/inside.h"
#include <stellane/backend.h>

/* Readiness as a user's backend would do it: epoll's functions, each counted. */
static atomic_int creates, destroys, arms, waits, interrupts;

static int counted_create(void **instance, int batch) {
    atomic_fetch_add(&creates, 1);
    IS(batch > 0);
    return stel__epoll_ops.create(instance, batch);
}
static void counted_destroy(void *instance) {
    atomic_fetch_add(&destroys, 1);
    stel__epoll_ops.destroy(instance);
}
static int counted_arm(void *instance, int fd, int events, uint64_t token) {
    atomic_fetch_add(&arms, 1);
    return stel__epoll_ops.arm(instance, fd, events, token);
}
static atomic_int in_wait;
static bool one_wait_at_a_time = true; /* of all instances */
static int counted_wait(void *instance, stel_backend_event *events, int n, int64_t until) {
    atomic_fetch_add(&waits, 1);
    int others = atomic_fetch_add(&in_wait, 1);
    IS(others == 0 || !one_wait_at_a_time);
    int got = stel__epoll_ops.wait(instance, events, n, until);
    atomic_fetch_sub(&in_wait, 1);
    IS(got <= n);
    return got;
}
static void counted_interrupt(void *instance) {
    atomic_fetch_add(&interrupts, 1);
    stel__epoll_ops.interrupt(instance);
}

static stel_backend_ops counted(void) {
    stel_backend_ops ops = stel__epoll_ops;
    ops.size = sizeof ops;
    ops.abi = STEL_BACKEND_ABI;
    ops.create = counted_create;
    ops.destroy = counted_destroy;
    ops.arm = counted_arm;
    ops.wait = counted_wait;
    ops.interrupt = counted_interrupt;
    return ops;
}

static int echo_through_a_pipe(void *arg) {
    int ends[2];
    char byte = 'x';
    (void)arg;
    EQ(pipe(ends), 0);
    {
        STEL_TIMEOUT(STEL_MS(3));
        EQ(stel_read(ends[0], &byte, 1), -ETIMEDOUT);
    }
    EQ(stel_write(ends[1], "y", 1), 1);
    EQ(stel_read(ends[0], &byte, 1), 1);
    OK(stel_close(ends[0]));
    OK(stel_close(ends[1]));
    return byte;
}

static int write_a_byte_later(void *arg) {
    OK(stel_sleep(STEL_MS(1)));
    EQ(stel_write(*(int *)arg, "l", 1), 1);
    return 0;
}

static void register_after_fork(void) {
    static stel_backend_ops ops;
    ops = counted();
    EQ(stel_backend_register("late", &ops), -EPERM);
}

/* stel_backend_register: a runtime may be told to use it by name, and does; -EINVAL -EEXIST -ENOSPC -EPERM. */
START_TEST(contract_stel_backend_register) {
    static stel_backend_ops ops, wrong;
    stel_config c;
    char name[40];
    ops = counted();
    OK(stel_backend_register("counted", &ops));
    EQ(stel_backend_register("counted", &ops), -EEXIST);
    EQ(stel_backend_register("epoll", &ops), -EEXIST);
    EQ(stel_backend_register(NULL, &ops), -EINVAL);
    EQ(stel_backend_register("", &ops), -EINVAL);
    EQ(stel_backend_register("none", NULL), -EINVAL);
    EQ(stel_backend_register("a name of thirty-two bytes, no less", &ops), -EINVAL);
    wrong = counted();
    wrong.arm = NULL;
    EQ(stel_backend_register("wrong", &wrong), -EINVAL);
    wrong = counted();
    wrong.abi = STEL_BACKEND_ABI + 1;
    EQ(stel_backend_register("wrong", &wrong), -EINVAL);
    wrong = counted();
    wrong.size = 8;
    EQ(stel_backend_register("wrong", &wrong), -EINVAL);
    stel_config_init(&c);
    c.worker_threads = 1;
    strcpy(c.backend, "counted");
    EQ(run_in_runtime_with(&c, echo_through_a_pipe, NULL), 'y');
    EQ(atomic_load(&creates), 1);
    EQ(atomic_load(&destroys), 1);
    IS(atomic_load(&arms) > 0 && atomic_load(&waits) > 0);
    for (size_t i = stel_backend_list(NULL, 0); i < 16; i++) {
        snprintf(name, sizeof name, "number %zu", i);
        OK(stel_backend_register(name, &ops));
    }
    EQ(stel_backend_register("one too many", &ops), -ENOSPC);
    in_forked_child(register_after_fork);
}
END_TEST

/* stel_backend_has: is it known by this name? */
START_TEST(contract_stel_backend_has) {
    static stel_backend_ops ops;
    ops = counted();
    IS(stel_backend_has("epoll"));
    IS(!stel_backend_has("counted"));
    OK(stel_backend_register("counted", &ops));
    IS(stel_backend_has("counted"));
    IS(!stel_backend_has(NULL));
}
END_TEST

/* stel_backend_list: fills at most n names, returns how many there are. */
START_TEST(contract_stel_backend_list) {
    static stel_backend_ops ops;
    const char *names[3] = { NULL, NULL, NULL };
    size_t before = stel_backend_list(NULL, 0);
    IS(before >= 1);
    ops = counted();
    OK(stel_backend_register("counted", &ops));
    EQ(stel_backend_list(names, 1), before + 1);
    IS(names[0] && !names[1]);
    EQ(stel_backend_list(names, 3), before + 1);
    bool found = false;
    for (size_t i = 0; i < 3; i++)
        found |= names[i] && !strcmp(names[i], "counted");
    IS(found);
}
END_TEST

static int says_no(char *why, size_t bytes) {
    snprintf(why, bytes, "the kernel of this test has none");
    return -ENOSYS;
}

static int says_too_little(char *why, size_t bytes) {
    snprintf(why, bytes, "an operation is missing");
    return -EOPNOTSUPP;
}

static void probe_after_fork(void) {
    char why[8];
    EQ(stel_backend_probe("epoll", why, sizeof why), -EPERM);
}

/* The directory of a module that is none: "stellane-backend-broken.so" is text. */
static void make_broken_module(char directory[32]) {
    char path[64];
    strcpy(directory, "contract-XXXXXX");
    IS(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/stellane-backend-broken.so", directory);
    FILE *file = fopen(path, "w");
    IS(file != NULL);
    fputs("not a module\n", file);
    EQ(fclose(file), 0);
    EQ(setenv("STELLANE_MODULE_PATH", directory, 1), 0);
}

/* stel_backend_probe: what the backend's own probe says, in words too (-ENOSYS and -EOPNOTSUPP of io_uring's are of that
 * kind); -ENOENT for none, -ELIBBAD for a module that cannot be loaded, -EINVAL, -EPERM after fork. */
START_TEST(contract_stel_backend_probe) {
    static stel_backend_ops no, little;
    char why[256], directory[32], path[64];
    EQ(stel_backend_probe(NULL, why, sizeof why), -EINVAL);
    EQ(stel_backend_probe("epoll", NULL, 1), -EINVAL);
    EQ(stel_backend_probe("epoll", why, 0), -EINVAL);
    OK(stel_backend_probe("epoll", why, sizeof why));
    no = little = counted();
    no.probe = says_no;
    little.probe = says_too_little;
    OK(stel_backend_register("no", &no));
    OK(stel_backend_register("little", &little));
    EQ(stel_backend_probe("no", why, sizeof why), -ENOSYS);
    IS(!strcmp(why, "the kernel of this test has none"));
    EQ(stel_backend_probe("no", why, 5), -ENOSYS);
    IS(!strcmp(why, "the "));
    EQ(stel_backend_probe("little", why, sizeof why), -EOPNOTSUPP);
    EQ(stel_backend_probe("nowhere", why, sizeof why), -ENOENT);
    IS(strstr(why, "stellane-backend-nowhere.so") != NULL);
    make_broken_module(directory);
    EQ(stel_backend_probe("broken", why, sizeof why), -ELIBBAD);
    IS(strstr(why, directory) != NULL);
    IS(!stel_backend_has("broken"));
    snprintf(path, sizeof path, "%s/stellane-backend-broken.so", directory);
    EQ(unlink(path), 0);
    EQ(rmdir(directory), 0);
    run_in_runtime(1, echo_through_a_pipe, NULL); /* the library is in use */
    in_forked_child(probe_after_fork);
}
END_TEST

/* STEL_BACKEND_ABI: what ops.abi must say: another number is refused. */
START_TEST(contract_STEL_BACKEND_ABI) {
    static stel_backend_ops ops;
    ops = counted();
    for (int abi = STEL_BACKEND_ABI - 1; abi <= STEL_BACKEND_ABI + 1; abi++) {
        ops.abi = abi;
        EQ(stel_backend_register("counted", &ops), abi == STEL_BACKEND_ABI ? 0 : -EINVAL);
    }
}
END_TEST

static int nothing_submitted(void *instance, stel_operation *operation) {
    (void)instance, (void)operation;
    return -EOPNOTSUPP;
}
static void nothing_cancelled(void *instance, stel_operation *operation) {
    (void)instance, (void)operation;
}

/* STEL_BACKEND_READINESS: it has arm and disarm; one of the two capabilities there must be. */
START_TEST(contract_STEL_BACKEND_READINESS) {
    static stel_backend_ops ops;
    ops = counted();
    ops.capabilities = STEL_BACKEND_READINESS;
    ops.disarm = NULL;
    EQ(stel_backend_register("counted", &ops), -EINVAL);
    ops = counted();
    ops.capabilities = 0;
    EQ(stel_backend_register("counted", &ops), -EINVAL);
    ops.capabilities = STEL_BACKEND_READINESS;
    OK(stel_backend_register("counted", &ops));
}
END_TEST

/* STEL_BACKEND_COMPLETION: it has submit and cancel. */
START_TEST(contract_STEL_BACKEND_COMPLETION) {
    static stel_backend_ops ops;
    ops = counted();
    ops.capabilities = STEL_BACKEND_READINESS | STEL_BACKEND_COMPLETION;
    ops.submit = NULL;
    ops.cancel = nothing_cancelled;
    EQ(stel_backend_register("counted", &ops), -EINVAL);
    ops.submit = nothing_submitted;
    OK(stel_backend_register("counted", &ops));
}
END_TEST

/* As epoll's functions, but for one event: what was told is disarmed by the teller. */
static int arm_once(void *instance, int fd, int wanted, uint64_t token) {
    IS((wanted & ~(POLLIN | POLLOUT | POLLPRI | POLLRDHUP)) == 0);
    atomic_fetch_add(&arms, 1);
    (void)stel__epoll_ops.disarm(instance, fd);
    return stel__epoll_ops.arm(instance, fd, wanted, token);
}
static int wait_once(void *instance, stel_backend_event *list, int n, int64_t until) {
    int got = stel__epoll_ops.wait(instance, list, n, until);
    for (int i = 0; i < got; i++) /* a token of the library has the number in its lower half */
        (void)stel__epoll_ops.disarm(instance, (int)(uint32_t)list[i].token);
    return got;
}

static int read_twice(void *arg) {
    int ends[2];
    char byte = 0;
    (void)arg;
    EQ(pipe(ends), 0);
    for (int i = 0; i < 2; i++) {
        stel_fiber f;
        OK(stel_spawn(&f, write_a_byte_later, &ends[1]));
        EQ(stel_read(ends[0], &byte, 1), 1);
        OK(stel_join(f, NULL));
    }
    OK(stel_close(ends[0]));
    OK(stel_close(ends[1]));
    return byte;
}

/* STEL_BACKEND_ONESHOT: a kind of readiness (alone it is refused): the library arms for each wait. */
START_TEST(contract_STEL_BACKEND_ONESHOT) {
    static stel_backend_ops ops;
    stel_config c;
    ops = counted();
    ops.capabilities = STEL_BACKEND_COMPLETION | STEL_BACKEND_ONESHOT;
    ops.submit = nothing_submitted;
    ops.cancel = nothing_cancelled;
    EQ(stel_backend_register("once", &ops), -EINVAL);
    ops.capabilities = STEL_BACKEND_READINESS | STEL_BACKEND_ONESHOT;
    ops.arm = arm_once;
    ops.wait = wait_once;
    OK(stel_backend_register("once", &ops));
    stel_config_init(&c);
    c.worker_threads = 1;
    strcpy(c.backend, "once");
    EQ(run_in_runtime_with(&c, read_twice, NULL), 'l');
    IS(atomic_load(&arms) >= 2);
}
END_TEST

/* STEL_BACKEND_OWNED: its instances belong to a worker each: such a backend is not for the mode "dedicated". */
START_TEST(contract_STEL_BACKEND_OWNED) {
    static stel_backend_ops ops;
    stel_runtime *rt = NULL;
    stel_config c;
    ops = counted();
    ops.capabilities = STEL_BACKEND_COMPLETION | STEL_BACKEND_OWNED;
    ops.submit = nothing_submitted;
    ops.cancel = nothing_cancelled;
    OK(stel_backend_register("owned", &ops));
    stel_config_init(&c);
    c.worker_threads = 2;
    strcpy(c.backend, "owned");
    c.poller_mode = STEL_POLLER_DEDICATED;
    EQ(stel_runtime_create(&rt, &c), -EINVAL);
    c.poller_mode = 0;
    OK(stel_runtime_create(&rt, &c));
    EQ(atomic_load(&creates), 2); /* one a worker */
    OK(stel_runtime_destroy(rt));
    EQ(atomic_load(&destroys), 2);
}
END_TEST

/* STEL_OPERATIONS: how many codes there are, and one; no backend knows it. */
START_TEST(contract_STEL_OPERATIONS) {
    char why[256];
    const char *name;
    IS(STEL_OPERATIONS > STEL_OPERATION_MKDIR && STEL_OPERATION_POLL == 1);
    if (stel_backend_probe("io_uring", why, sizeof why) < 0) return;
    const stel_backend_ops *ops = stel__backend_find("io_uring", &name);
    void *instance = NULL;
    OK(ops->create(&instance, 8));
    stel_operation op = { .code = STEL_OPERATIONS, .fd = -1 };
    EQ(ops->submit(instance, &op), -EOPNOTSUPP);
    ops->destroy(instance);
}
END_TEST

/* What the operations do is looked at by the conformance suite, by every backend that has them:
 * elsewhere: contract_STEL_OPERATION_POLL: tests/conformance/ops_completion.c (level-triggered, once; the events that hold)
 * elsewhere: contract_STEL_OPERATION_READV: tests/conformance/ops_completion.c (at an offset)
 * elsewhere: contract_STEL_OPERATION_WRITEV: tests/conformance/ops_completion.c (at an offset; -1: where the file is)
 * elsewhere: contract_STEL_OPERATION_RECV: tests/conformance/ops_completion.c (waits for bytes; 0 at the end)
 * elsewhere: contract_STEL_OPERATION_SEND: tests/conformance/ops_completion.c (the bytes arrive)
 * elsewhere: contract_STEL_OPERATION_RECVMSG: tests/conformance/ops_completion.c (a descriptor is received)
 * elsewhere: contract_STEL_OPERATION_SENDMSG: tests/conformance/ops_completion.c (a descriptor is sent)
 * elsewhere: contract_STEL_OPERATION_ACCEPT: tests/conformance/ops_completion.c (waits; descriptor and address)
 * elsewhere: contract_STEL_OPERATION_CONNECT: tests/conformance/ops_completion.c (connects; -ECONNREFUSED)
 * elsewhere: contract_STEL_OPERATION_OPEN: tests/conformance/ops_completion.c (a new file)
 * elsewhere: contract_STEL_OPERATION_FSYNC: tests/conformance/ops_completion.c (0)
 * elsewhere: contract_STEL_OPERATION_FDATASYNC: tests/conformance/ops_completion.c (0)
 * elsewhere: contract_STEL_OPERATION_STATX: tests/conformance/ops_completion.c (the size; -ENOENT)
 * elsewhere: contract_STEL_OPERATION_UNLINK: tests/conformance/ops_completion.c (a file, a directory; -ENOENT)
 * elsewhere: contract_STEL_OPERATION_RENAME: tests/conformance/ops_completion.c (the old name is gone, the new one there)
 * elsewhere: contract_STEL_OPERATION_MKDIR: tests/conformance/ops_completion.c (a directory) */

static int mode_in_use(void *arg) {
    stel_stats s;
    (void)arg;
    EQ(echo_through_a_pipe(NULL), 'y');
    OK(stel_runtime_stats(stel_runtime_current(), &s));
    return s.poller_mode;
}

static void run_in_mode(int mode, int workers, int instances) {
    static stel_backend_ops ops;
    stel_config c;
    ops = counted();
    OK(stel_backend_register("counted", &ops));
    stel_config_init(&c);
    c.worker_threads = workers;
    strcpy(c.backend, "counted");
    c.poller_mode = mode;
    EQ(run_in_runtime_with(&c, mode_in_use, NULL), mode);
    EQ(atomic_load(&creates), instances);
    EQ(atomic_load(&destroys), instances);
}

/* STEL_POLLER_DEDICATED: one instance for all workers; it is what a readiness backend gets when nothing is said. */
START_TEST(contract_STEL_POLLER_DEDICATED) {
    run_in_mode(STEL_POLLER_DEDICATED, 3, 1);
    EQ(run_in_runtime(2, mode_in_use, NULL), STEL_POLLER_DEDICATED);
}
END_TEST

/* STEL_POLLER_INLINE: one instance, for one worker. */
START_TEST(contract_STEL_POLLER_INLINE) {
    run_in_mode(STEL_POLLER_INLINE, 1, 1);
}
END_TEST

/* STEL_POLLER_PER_WORKER: an instance for each worker. */
START_TEST(contract_STEL_POLLER_PER_WORKER) {
    one_wait_at_a_time = false;
    run_in_mode(STEL_POLLER_PER_WORKER, 3, 3);
}
END_TEST

/* Events by a table of functions, as the header tells its users to make them. */
static stel_backend_event one_event(int fd, uint64_t token) {
    stel_backend_event e = { 0 };
    void *instance = NULL;
    OK(stel__epoll_ops.create(&instance, 8));
    OK(stel__epoll_ops.arm(instance, fd, POLLIN, token));
    EQ(stel__epoll_ops.arm(instance, fd, POLLIN, token + 1), -EEXIST); /* its token stays */
    EQ(stel__epoll_ops.wait(instance, &e, 1, stel_after(STEL_SEC(30))), 1);
    OK(stel__epoll_ops.disarm(instance, fd));
    stel__epoll_ops.interrupt(instance); /* the next wait returns early */
    stel_backend_event none;
    EQ(stel__epoll_ops.wait(instance, &none, 1, STEL_FOREVER), 0);
    stel__epoll_ops.destroy(instance);
    return e;
}

/* STEL_EVENT_READY: an event of this kind carries the token as armed and the poll(2) events that hold. */
START_TEST(contract_STEL_EVENT_READY) {
    int ends[2];
    EQ(pipe(ends), 0);
    EQ(write(ends[1], "x", 1), 1);
    stel_backend_event e = one_event(ends[0], 77);
    EQ(e.kind, STEL_EVENT_READY);
    EQ(e.token, 77);
    IS(e.result & POLLIN);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* STEL_EVENT_COMPLETE: the other kind: a number of its own, which fits an event's field. */
START_TEST(contract_STEL_EVENT_COMPLETE) {
    stel_backend_event e = { .kind = STEL_EVENT_COMPLETE, .result = -EIO };
    ck_assert_int_ne(e.kind, STEL_EVENT_READY);
    ck_assert_int_eq(e.kind, 2);
}
END_TEST

TEST_MAIN("contract/backend", contract_stel_backend_register, contract_stel_backend_has, contract_stel_backend_list,
          contract_stel_backend_probe, contract_STEL_BACKEND_ABI, contract_STEL_BACKEND_READINESS,
          contract_STEL_BACKEND_COMPLETION, contract_STEL_BACKEND_ONESHOT, contract_STEL_BACKEND_OWNED,
          contract_STEL_OPERATIONS, contract_STEL_POLLER_DEDICATED, contract_STEL_POLLER_INLINE,
          contract_STEL_POLLER_PER_WORKER, contract_STEL_EVENT_READY, contract_STEL_EVENT_COMPLETE)
