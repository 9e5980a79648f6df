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
static int counted_arm(void *instance, int fd, uint64_t token) {
    atomic_fetch_add(&arms, 1);
    return stel__epoll_ops.arm(instance, fd, token);
}
static atomic_int in_wait;
static int counted_wait(void *instance, stel_backend_event *events, int n, int64_t until) {
    atomic_fetch_add(&waits, 1);
    EQ(atomic_fetch_add(&in_wait, 1), 0); /* one at a time */
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

static void register_after_fork(void) {
    static stel_backend_ops ops;
    ops = counted();
    EQ(stel_backend_register("late", &ops), -EPERM);
}

/* stel_backend_register: a runtime may be told to use it by name, and does; -EINVAL -EEXIST -ENOSPC. */
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
    for (int i = 2; i < 16; i++) {
        snprintf(name, sizeof name, "number %d", i);
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

static int nothing_submitted(void *instance, const void *operation, uint64_t token) {
    (void)instance, (void)operation, (void)token;
    return -ENOSYS;
}
static int nothing_cancelled(void *instance, uint64_t token) {
    (void)instance, (void)token;
    return -ENOSYS;
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

/* Events by a table of functions, as the header tells its users to make them. */
static stel_backend_event one_event(int fd, uint64_t token) {
    stel_backend_event e = { 0 };
    void *instance = NULL;
    OK(stel__epoll_ops.create(&instance, 8));
    OK(stel__epoll_ops.arm(instance, fd, token));
    EQ(stel__epoll_ops.arm(instance, fd, token + 1), -EEXIST); /* its token stays */
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
          contract_STEL_BACKEND_ABI, contract_STEL_BACKEND_READINESS, contract_STEL_BACKEND_COMPLETION,
          contract_STEL_EVENT_READY, contract_STEL_EVENT_COMPLETE)
