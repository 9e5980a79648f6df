/* Backends that are modules, for unit/poller/test_module.c: GOOD, and OLD (another abi), MUTE (without the function),
 * REFUSING (it does not want this host), INCOMPLETE (a table that lacks a function). */
#include <stdio.h>
#include <stellane/backend.h>

#ifndef MUTE
static const stel_module_host *host;

static int probe(char *why, size_t bytes) {
    void *memory = host->alloc(64);
    if (!memory || host->now() <= 0) return -EIO;
    host->release(memory);
    host->warn("the good module was asked");
    (void)snprintf(why, bytes, "host of abi %d", host->abi);
    return 0;
}

static int create(void **instance, int batch) {
    *instance = host->alloc((size_t)batch);
    return *instance ? 0 : -ENOMEM;
}

static void destroy(void *instance) {
    host->release(instance);
}

static int arm(void *instance, int fd, int events, uint64_t token) {
    (void)instance, (void)fd, (void)events, (void)token;
    return -EPERM;
}

static int disarm(void *instance, int fd) {
    (void)instance, (void)fd;
    return -ENOENT;
}

static void interrupt(void *instance) {
    (void)instance;
}

static int wait_for_nothing(void *instance, stel_backend_event *events, int n, int64_t until) {
    (void)instance, (void)events, (void)n, (void)until;
    return 0;
}

static stel_backend_ops ops = {
    .size = sizeof ops,
    .abi = STEL_BACKEND_ABI,
    .capabilities = STEL_BACKEND_READINESS,
    .probe = probe,
    .create = create,
    .destroy = destroy,
    .arm = arm,
    .disarm = disarm,
    .wait = wait_for_nothing,
    .interrupt = interrupt,
};

STEL_API const stel_backend_ops *stel_backend_module(const stel_module_host *given);
const stel_backend_ops *stel_backend_module(const stel_module_host *given) {
    host = given;
#if defined(OLD)
    ops.abi = STEL_BACKEND_ABI - 1;
#elif defined(INCOMPLETE)
    ops.disarm = NULL;
#elif defined(REFUSING)
    return NULL;
#endif
    return &ops;
}
#else
int used_by_nobody;
#endif
