/* See check_fiber.h. */
#include "check_fiber.h"

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int check_fiber_main(const char *(*why_not)(void), const char *title, const TTest **tests, size_t n) {
    const char *reason = why_not ? why_not() : NULL;
    if (reason) {
        printf("%s: skipped: %s\n", title, reason);
        return 77;
    }
    Suite *suite = suite_create(title);
    for (size_t i = 0; i < n; i++) { /* a case each, so that CK_RUN_CASE can pick one by name */
        TCase *tc = tcase_create(tests[i]->name);
        tcase_set_timeout(tc, 45); /* a hang guard: libcheck's own 4 s are too few for a busy machine */
        tcase_add_test(tc, tests[i]);
        suite_add_tcase(suite, tc);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    int run = srunner_ntests_run(runner);
    srunner_free(runner);
    /* Nothing run: a name in CK_RUN_CASE that does not exist must not look like success. */
    return failed || run == 0 ? 1 : 0;
}

/* ---- the whole suite on another backend ---- */

int __real_stel_runtime_create(stel_runtime **out, const stel_config *c);
int __wrap_stel_runtime_create(stel_runtime **out, const stel_config *c);
int __real_stel_runtime_update_config(stel_runtime *rt, const stel_config *c);
int __wrap_stel_runtime_update_config(stel_runtime *rt, const stel_config *c);

/* STELLANE_TEST_BACKEND and STELLANE_TEST_POLLER_MODE (1, 2, 3) apply to every runtime that a test makes and asks for
 * nothing of the kind. */
static const stel_config *chosen(stel_config *mine, const stel_config *c) {
    const char *backend = getenv("STELLANE_TEST_BACKEND"), *mode = getenv("STELLANE_TEST_POLLER_MODE");
    if ((!backend && !mode) || (c && c->size != sizeof *mine)) return c;
    stel_config_init(mine);
    if (c) *mine = *c;
    if (backend && (!mine->backend[0] || !strcmp(mine->backend, "auto")))
        snprintf(mine->backend, sizeof mine->backend, "%s", backend);
    if (mode && !mine->poller_mode) mine->poller_mode = atoi(mode);
    return mine;
}

int __wrap_stel_runtime_create(stel_runtime **out, const stel_config *c) {
    stel_config mine;
    return __real_stel_runtime_create(out, chosen(&mine, c));
}

/* What was made by the above must not be changed back by what the test believes to be in force. */
int __wrap_stel_runtime_update_config(stel_runtime *rt, const stel_config *c) {
    stel_config mine;
    return __real_stel_runtime_update_config(rt, c ? chosen(&mine, c) : NULL);
}

/* ---- assertions ---- */

static void say(const char *file, int line, const char *text) {
    char buffer[1024];
    const char *base = strrchr(file, '/');
    int n = snprintf(buffer, sizeof buffer, "%s:%d: %s\n", base ? base + 1 : file, line, text);
    if (n < 0) return;
    size_t bytes = (size_t)n < sizeof buffer ? (size_t)n : sizeof buffer - 1;
    if (write(STDERR_FILENO, buffer, bytes) < 0) return; /* nobody left to tell */
}

void check_fiber_fail(const char *file, int line, const char *format, ...) {
    char text[768];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    say(file, line, text);
    abort();
}

void check_fiber_eq(const char *file, int line, const char *have_text, const char *want_text, intmax_t have,
                    intmax_t want) {
    if (have == want) return;
    check_fiber_fail(file, line, "%s is %" PRIdMAX " (%s), not %s, which is %" PRIdMAX, have_text, have,
                     have < 0 && have > -30000 ? stel_strerror((int)have) : "a count", want_text, want);
}

intmax_t check_fiber_ok(const char *file, int line, const char *text, intmax_t code) {
    if (code < 0)
        check_fiber_fail(file, line, "%s is %" PRIdMAX ": %s", text, code,
                         code > -30000 ? stel_strerror((int)code) : "no code of ours");
    return code;
}

/* ---- a runtime for a test ---- */

int run_in_runtime_with(const stel_config *c, stel_fn *fn, void *arg) {
    stel_config config = *c;
    config.auto_shutdown = 1;
    stel_runtime *rt = NULL;
    stel_fiber first = 0;
    int result = 0;
    FIBER_OK(stel_runtime_create(&rt, &config));
    FIBER_OK(stel_runtime_spawn(rt, &first, NULL, fn, arg)); /* it waits for the start */
    FIBER_OK(stel_runtime_start(rt));
    FIBER_OK(stel_join(first, &result));
    FIBER_OK(stel_runtime_wait(rt));
    FIBER_OK(stel_runtime_destroy(rt));
    return result;
}

int run_in_runtime(int workers, stel_fn *fn, void *arg) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = workers;
    return run_in_runtime_with(&c, fn, arg);
}

/* ---- chance, scale, surroundings ---- */

static uint64_t seed;

static void choose_seed(void) {
    const char *given = getenv("STELLANE_TEST_SEED");
    if (given) {
        seed = strtoull(given, NULL, 0);
    } else {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        seed = ((uint64_t)t.tv_nsec << 24) ^ (uint64_t)t.tv_sec ^ ((uint64_t)getpid() << 44);
    }
    if (!seed) seed = 1;
    char text[96];
    snprintf(text, sizeof text, "STELLANE_TEST_SEED=%" PRIu64 " runs this again", seed);
    say(__FILE__, __LINE__, text);
}

uint64_t test_seed(void) {
    static pthread_once_t chosen = PTHREAD_ONCE_INIT; /* nothing in there waits: fibers may call it too */
    pthread_once(&chosen, choose_seed);
    return seed;
}

uint32_t test_random(uint64_t *state, uint32_t n) {
    /* splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): any state will do */
    uint64_t x = *state += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    x ^= x >> 31;
    return (uint32_t)(((x >> 32) * n) >> 32);
}

bool test_emulated(void) {
    return getenv("STELLANE_TEST_EMULATED") != NULL;
}

void test_forget_emulator(char *text) {
    for (char *line; test_emulated() && (line = strstr(text, "qemu: uncaught target signal"));) {
        const char *end = strchr(line, '\n');
        if (end)
            memmove(line, end + 1, strlen(end + 1) + 1);
        else
            *line = 0;
    }
}

uint64_t test_scale(uint64_t n) {
    const char *text = getenv("STELLANE_TEST_SCALE");
    double factor = text ? strtod(text, NULL) : 1;
    double scaled = factor > 0 ? (double)n * factor : (double)n;
    return scaled < 1 ? 1 : (uint64_t)scaled;
}

int test_open_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    if (!directory) check_fiber_fail(__FILE__, __LINE__, "/proc/self/fd cannot be read");
    int n = 0;
    for (const struct dirent *entry; (entry = readdir(directory));) {
        char to[64] = "";
        if (entry->d_name[0] == '.') continue;
        if (readlinkat(dirfd(directory), entry->d_name, to, sizeof to - 1) < 0) to[0] = 0;
        n += strcmp(to, "anon_inode:[timerfd]") != 0;
    }
    closedir(directory);
    return n - 1; /* without the directory's own */
}

int test_library_threads(void) {
    DIR *directory = opendir("/proc/self/task");
    if (!directory) check_fiber_fail(__FILE__, __LINE__, "/proc/self/task cannot be read");
    int n = 0;
    for (const struct dirent *entry; (entry = readdir(directory));) {
        char path[300], name[16] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *f = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (f && fgets(name, sizeof name, f)) n += !strncmp(name, "stel-", 5);
        if (f) fclose(f);
    }
    closedir(directory);
    return n;
}

void check_fiber_nap(void) {
    struct timespec millisecond = { 0, 1000000 };
    if (!stel_self() || stel_sleep(STEL_MS(1)) < 0) nanosleep(&millisecond, NULL);
}
