/* Every macro of the public headers is used once, as C11 and as C++17: what only a use can show to be wrong. */
#include <errno.h>
#include <stellane/stellane.h>

#include <stellane/backend.h>

static stel_mutex mutex = STEL_MUTEX_INIT;
static stel_cond cond = STEL_COND_INIT;
static stel_event event = STEL_EVENT_INIT;
static stel_waitgroup group = STEL_WAITGROUP_INIT;

static int use_all(void *arg) {
    stel_chan *chan = NULL;
    int element = 1;
    stel_spawn_options options = STEL_SPAWN_OPTIONS_INIT;
    stel_config config;
    stel_stats stats;
    stel_worker_stats worker;
    stel_runtime *rt = (stel_runtime *)arg;
    options.place = STEL_WORKER(1) + STEL_NODE(0) + STEL_ANYWHERE;
    options.flags = STEL_NO_MIGRATE | STEL_FP_ENVIRONMENT | STEL_BACKGROUND;
    stel_config_init(&config);
    {
        STEL_TIMEOUT(STEL_SEC(1) + STEL_MS(1) + STEL_US(1));
        STEL_SHIELD(STEL_SEC(1));
        stel_mutex_lock(&mutex);
        stel_cond_signal(&cond);
        stel_mutex_unlock(&mutex);
        stel_event_set(&event);
        stel_waitgroup_add(&group, 0);
    }
    stel_case cases[] = { STEL_CASE_SEND(chan, &element), STEL_CASE_RECV(chan, &element) };
    cases[0] = STEL_CASE_RECV(chan, &element);
    if (stel_select(cases, 2, STEL_SELECT_NOWAIT) != -EAGAIN) return 1;
    if (stel_runtime_get_config(rt, &config) < 0) return 2;
    if (stel_runtime_stats(rt, &stats) < 0) return 3;
    if (stel_runtime_worker_stats(rt, 0, &worker) < 0) return 4;
    return STEL_EAI(-2) == -20002 && options.size && stel_after(STEL_FOREVER) == STEL_FOREVER ? 0 : 5;
}

int main(void) {
    stel_runtime *rt = NULL;
    stel_fiber fiber = 0;
    int result = 0;
    if (stel_runtime_create(&rt, NULL) < 0 || stel_runtime_start(rt) < 0) return 10;
    if (stel_runtime_spawn(rt, &fiber, NULL, use_all, rt) < 0 || stel_join(fiber, &result) < 0) return 11;
    if (stel_runtime_stop(rt, 0) < 0 || stel_runtime_destroy(rt) < 0) return 12;
    return result;
}
