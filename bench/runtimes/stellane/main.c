#include "driver.h"
#include <stdlib.h>
#include <string.h>

/* As MUST, for what the library may refuse: its message on stderr is the reason that the table shows. */
static void ask(int rc, const char *what) {
    if (rc < 0 && getenv("STELLANE_RUNTIME_BACKEND")) bench_unavailable("%s: %s", what, stel_strerror(rc));
    bench_must(rc, what);
}

/* Is it the backend, and the mode, that was asked for? */
static void check_backend(stel_runtime *runtime) {
    static const char *const modes[] = { "auto", "dedicated", "inline", "per_worker" };
    const char *backend = getenv("STELLANE_RUNTIME_BACKEND"), *mode = getenv("STELLANE_RUNTIME_POLLER_MODE");
    stel_stats stats;
    MUST(stel_runtime_stats(runtime, &stats));
    if (backend && strcmp(backend, stats.backend_type) != 0)
        bench_unavailable("%s is used: %s", stats.backend_type, stats.backend_reason);
    if (mode && strcmp(mode, modes[stats.poller_mode & 3]) != 0)
        bench_unavailable("%s is used instead", modes[stats.poller_mode & 3]);
}

void run_fibers(stel_fn *fn, void *arg) {
    stel_config config;
    stel_runtime *runtime;
    stel_config_init(&config);
    ask(stel_config_from_env(&config), "the settings");
    config.worker_threads = bench_param_int("workers", 1);
    ask(stel_runtime_create(&runtime, &config), "a runtime");
    ask(stel_runtime_start(runtime), "its start");
    check_backend(runtime);
    stel_fiber first;
    int result = 0;
    MUST(stel_runtime_spawn(runtime, &first, NULL, fn, arg));
    MUST(stel_join(first, &result));
    bench_must(result, "the first fiber");
    MUST(stel_runtime_stop(runtime, STEL_SEC(5)));
    MUST(stel_runtime_destroy(runtime));
}

static int return_at_once(void *arg) {
    (void)arg;
    return 0;
}

/* A program whose only fiber returns at once. */
static void run_start(void) {
    MUST(stel_run(return_at_once, NULL));
}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "yield", run_yield },   { "spawn-join", run_spawn_join },
        { "fib", run_fib },       { "spawn-all", run_spawn_all },
        { "skynet", run_skynet }, { "channel", run_channel },
        { "mutex", run_mutex },   { "parked", run_parked },
        { "timers", run_timers }, { "echo", run_echo },
        { "wake", run_wake },     { "wake-across", run_wake_across },
        { "start", run_start },   { "read", run_read },
        { "append", run_append }, { "read-through", run_read_through },
        { "tree", run_tree },     { "fairness", run_fairness },
        { NULL, NULL },
    };
    return bench_main(argc, argv, "stellane", table);
}
