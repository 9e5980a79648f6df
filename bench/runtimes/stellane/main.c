#include "driver.h"

void run_fibers(stel_fn *fn, void *arg) {
    stel_config config;
    stel_runtime *runtime;
    stel_config_init(&config);
    config.worker_threads = bench_param_int("workers", 1);
    MUST(stel_runtime_create(&runtime, &config));
    MUST(stel_runtime_start(runtime));
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
        { "yield", run_yield },         { "spawn-join", run_spawn_join }, { "fib", run_fib },
        { "spawn-all", run_spawn_all }, { "skynet", run_skynet },         { "channel", run_channel },
        { "mutex", run_mutex },         { "parked", run_parked },         { "timers", run_timers },
        { "echo", run_echo },           { "start", run_start },           { NULL, NULL },
    };
    return bench_main(argc, argv, "stellane", table);
}
