/* countdown: ten tasks on four workers, each counting down with a tick of 100 ms.
 *
 * The idea: state is local variables. With callbacks each task would be a struct with a step counter and a resume
 * function; here it is a loop with a sleep in it, and `left` survives the sleep because the stack does. Ten loops of
 * half a second take half a second together.
 *
 *     cc countdown.c $(pkg-config --cflags --libs stellane-fiber) -o countdown && ./countdown
 *
 * It prints the ticks of all ten, mixed, and how long it took:
 *
 *     task 3: 5
 *     ...
 *     task 3: done on worker 1
 *     10 tasks in 501 ms */
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>

enum { TASKS = 10, WORKERS = 4, TICKS = 5 };

static int count_down(void *arg) {
    int id = (int)(intptr_t)arg;
    for (int left = TICKS; left > 0; left--) {
        printf("task %d: %d\n", id, left);
        int rc = stel_sleep(STEL_MS(100));
        if (rc < 0) return rc;
    }
    printf("task %d: done on worker %d\n", id, stel_worker_id());
    return 0;
}

int main(void) {
    stel_config config;
    stel_config_init(&config);
    config.worker_threads = WORKERS;
    config.auto_shutdown = 1; /* stel_runtime_wait returns when no task is left */

    stel_runtime *runtime;
    int rc = stel_runtime_create(&runtime, &config);
    for (int id = 0; rc == 0 && id < TASKS; id++)
        rc = stel_runtime_spawn(runtime, NULL, NULL, count_down, (void *)(intptr_t)id);
    int64_t start = stel_now();
    if (rc == 0) rc = stel_runtime_start(runtime);
    if (rc == 0) rc = stel_runtime_wait(runtime);
    if (rc < 0) {
        fprintf(stderr, "countdown: %s\n", stel_strerror(rc));
        return EXIT_FAILURE; /* the process ends here: nothing has to be put away */
    }
    printf("%d tasks in %.0f ms\n", TASKS, (double)(stel_now() - start) / 1e6);
    return stel_runtime_destroy(runtime) < 0;
}
