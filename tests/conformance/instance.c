/* What the checks of part "ops" share. */
#include "conformance.h"
#include <sys/eventfd.h>

void *fresh(int batch) {
    void *instance = NULL;
    FIBER_OK(it.ops->create(&instance, batch));
    return instance;
}

int gather(void *instance, gathered *g, int most, int64_t until) {
    FIBER_ASSERT(g->n + most <= GATHERED);
    int n = (int)FIBER_OK(it.ops->wait(instance, g->events + g->n, most, until));
    FIBER_ASSERT(n <= most);
    for (int i = 0; i < n; i++) {
        const stel_backend_event *e = &g->events[g->n + i];
        FIBER_ASSERT(e->kind == STEL_EVENT_READY || e->kind == STEL_EVENT_COMPLETE);
        FIBER_ASSERT_EQ(e->flags, 0);
    }
    g->n += n;
    return n;
}

void gather_until(void *instance, gathered *g, int n) {
    int64_t give_up = stel_after(STEL_SEC(45));
    while (g->n < n) {
        (void)gather(instance, g, n - g->n, give_up);
        FIBER_ASSERT(g->n >= n || stel_now() < give_up);
    }
}

int count_of(const gathered *g, uint64_t token, int32_t *result) {
    int n = 0;
    for (int i = 0; i < g->n; i++) {
        if (g->events[i].token != token) continue;
        n++;
        if (result) *result = g->events[i].result;
    }
    return n;
}

void gather_all(void *instance, gathered *g) {
    static uint64_t last = UINT64_C(0x7fffffff00000000);
    uint64_t token = last++;
    int fd = eventfd(1, EFD_CLOEXEC);
    FIBER_ASSERT(fd >= 0);
    FIBER_OK(it.ops->arm(instance, fd, POLLIN, token));
    int before = g->n;
    while (count_of(g, token, NULL) == 0)
        (void)gather(instance, g, 64, stel_after(STEL_SEC(45)));
    while (gather(instance, g, 64, 0) > 0)
        ;
    (void)it.ops->disarm(instance, fd);
    close(fd);
    for (int i = before; i < g->n;) { /* it is nobody's business */
        if (g->events[i].token == token)
            g->events[i] = g->events[--g->n];
        else
            i++;
    }
}
