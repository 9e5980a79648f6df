/* The table of settings: defaults, the environment, checks, messages, and structs of another age. */
#include "check_fiber.h"
#include "config/config.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What is written to stderr while it is on. */
static char said[8192];
static int saved_stderr, captured;
static void capture_begin(void) {
    FILE *f = tmpfile();
    ck_assert_ptr_nonnull(f);
    captured = dup(fileno(f));
    fclose(f);
    saved_stderr = dup(2);
    ck_assert_int_ge(dup2(captured, 2), 0);
}
static void capture_end(void) {
    ck_assert_int_ge(dup2(saved_stderr, 2), 0);
    close(saved_stderr);
    ssize_t n = pread(captured, said, sizeof said - 1, 0);
    ck_assert_int_ge((int)n, 0);
    said[n] = 0;
    close(captured);
}

static int count_lines(const char *text) {
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static int from_env(stel_config *c) {
    capture_begin();
    int rc = stel_config_from_env(c);
    capture_end();
    return rc;
}

static int adopt(stel_config *out, const stel_config *c) {
    capture_begin();
    int rc = stel__config_adopt(out, c);
    capture_end();
    return rc;
}

START_TEST(defaults) {
    stel_config c;
    memset(&c, 0xff, sizeof c);
    stel_config_init(&c);
    ck_assert_uint_eq(c.size, sizeof c);
    ck_assert_str_eq(c.backend, "auto");
    ck_assert_int_eq(c.worker_threads, 0);
    ck_assert_uint_eq(c.max_fibers, 16777216);
    ck_assert_int_eq(c.auto_shutdown, 0);
    ck_assert_int_eq(c.stop_timeout_ns, STEL_SEC(30));
    ck_assert_int_eq(c.enable_cpu_affinity, 0);
    ck_assert_uint_eq(c.stack_bytes, 0);
    ck_assert_int_eq(c.stack_guard_pages, 1);
    ck_assert_int_eq(c.stack_cache, 64);
    ck_assert_int_eq(c.io_batch, 32);
    ck_assert_int_eq(c.io_budget, 16);
    ck_assert_int_eq(c.stall_ns, STEL_MS(20));
    ck_assert_uint_eq(c.seed, 0);
}
END_TEST

/* Every variable is its key in capitals, or an alias; and every field of the struct has a key. */
START_TEST(names) {
    size_t n, covered = sizeof(size_t);
    const stel__key *k = stel__config_keys(&n);
    for (size_t i = 0; i < n; i++) {
        char name[64] = "STELLANE_";
        size_t at = strlen(name);
        for (const char *p = k[i].key; *p; p++)
            name[at++] = *p == '.' ? '_' : (char)toupper((unsigned char)*p);
        name[at] = 0;
        bool canonical = !strcmp(name, k[i].env) || (k[i].alias && !strcmp(name, k[i].alias));
        ck_assert_msg(canonical, "%s is %s", k[i].key, k[i].env);
        ck_assert_ptr_nonnull(k[i].doc);
        for (size_t j = 0; j < i; j++)
            ck_assert_uint_ne(k[i].offset, k[j].offset);
        covered += k[i].width;
    }
    ck_assert_uint_ge(covered + 16, sizeof(stel_config)); /* but for padding */
}
END_TEST

START_TEST(zero_is_default) {
    stel_config c = { .size = sizeof c }, out;
    ck_assert_int_eq(adopt(&out, &c), 0);
    stel_config_init(&c);
    ck_assert_int_eq(memcmp(&c, &out, sizeof c), 0);
    ck_assert_int_eq(adopt(&out, NULL), 0);
    ck_assert_int_eq(memcmp(&c, &out, sizeof c), 0);
}
END_TEST

START_TEST(environment_is_read) {
    stel_config c;
    stel_config_init(&c);
    setenv("STELLANE_RUNTIME_BACKEND", "epoll", 1);
    setenv("STELLANE_RUNTIME_WORKERS", "7", 1);
    setenv("STELLANE_RUNTIME_MAX_FIBERS", "1000", 1);
    setenv("STELLANE_RUNTIME_AUTO_SHUTDOWN", "false", 1);
    setenv("STELLANE_RUNTIME_STOP_TIMEOUT", "3m", 1);
    setenv("STELLANE_RUNTIME_ENABLE_CPU_AFFINITY", "yes", 1);
    setenv("STELLANE_RUNTIME_STACK_SIZE", "64KiB", 1);
    setenv("STELLANE_RUNTIME_STACK_GUARD_PAGES", "4", 1);
    setenv("STELLANE_RUNTIME_STACK_CACHE_PER_WORKER", "8", 1);
    setenv("STELLANE_RUNTIME_PERFORMANCE_IO_BATCH_SIZE", "128", 1);
    setenv("STELLANE_RUNTIME_PERFORMANCE_IO_BUDGET", "3", 1);
    setenv("STELLANE_RUNTIME_DEBUG_STALL", "off", 1);
    setenv("STELLANE_RUNTIME_SEED", "0xFFFFffffFFFFffff", 1);
    ck_assert_int_eq(from_env(&c), 0);
    ck_assert_str_eq(said, "");
    ck_assert_str_eq(c.backend, "epoll");
    ck_assert_int_eq(c.worker_threads, 7);
    ck_assert_uint_eq(c.max_fibers, 1000);
    ck_assert_int_eq(c.auto_shutdown, -1);
    ck_assert_int_eq(c.stop_timeout_ns, STEL_SEC(180));
    ck_assert_int_eq(c.enable_cpu_affinity, 1);
    ck_assert_uint_eq(c.stack_bytes, 65536);
    ck_assert_int_eq(c.stack_guard_pages, 4);
    ck_assert_int_eq(c.stack_cache, 8);
    ck_assert_int_eq(c.io_batch, 128);
    ck_assert_int_eq(c.io_budget, 3);
    ck_assert_int_eq(c.stall_ns, -1);
    ck_assert_uint_eq(c.seed, UINT64_MAX);
}
END_TEST

START_TEST(auto_and_empty) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = 5;
    c.stack_bytes = 8192;
    c.io_batch = 7;
    c.auto_shutdown = 1;
    setenv("STELLANE_RUNTIME_WORKERS", "auto", 1);
    setenv("STELLANE_RUNTIME_STACK_SIZE", "auto", 1);
    setenv("STELLANE_RUNTIME_MAX_FIBERS", "0", 1);
    setenv("STELLANE_RUNTIME_AUTO_SHUTDOWN", "auto", 1);
    setenv("STELLANE_RUNTIME_PERFORMANCE_IO_BATCH_SIZE", "", 1); /* as if it were not set */
    ck_assert_int_eq(from_env(&c), 0);
    ck_assert_str_eq(said, "");
    ck_assert_int_eq(c.worker_threads, 0);
    ck_assert_uint_eq(c.stack_bytes, 0);
    ck_assert_uint_eq(c.max_fibers, 16777216);
    ck_assert_int_eq(c.auto_shutdown, 0);
    ck_assert_int_eq(c.io_batch, 7);
}
END_TEST

START_TEST(all_mistakes_at_once) {
    stel_config c, before;
    stel_config_init(&c);
    before = c;
    setenv("STELLANE_RUNTIME_WORKERS", "0", 1);
    setenv("STELLANE_RUNTIME_STOP_TIMEOUT", "50", 1);
    setenv("STELLANE_RUNTIME_STACK_SIZE", "64KB", 1);
    setenv("STELLANE_RUNTIME_AUTO_SHUTDOWN", "perhaps", 1);
    setenv("STELLANE_RUNTIME_PERFORMANCE_IO_BATCH_SIZE", "12x", 1);
    setenv("STELLANE_RUNTIME_PERFORMANCE_IO_BUDGET", "5", 1); /* good, but nothing is changed */
    setenv("STELLANE_RUNTIME_BACKEND", "a-name-that-is-longer-than-any-may-be", 1);
    ck_assert_int_eq(from_env(&c), -EINVAL);
    ck_assert_int_eq(count_lines(said), 6);
    ck_assert_ptr_nonnull(strstr(said, "STELLANE_RUNTIME_WORKERS: error: \"0\" is out of range (auto or 1..1024); "
                                       "for one worker per CPU write \"auto\"\n"));
    ck_assert_ptr_nonnull(strstr(said, "STELLANE_RUNTIME_STOP_TIMEOUT: error: \"50\": a duration needs a unit"));
    ck_assert_ptr_nonnull(strstr(said, "STELLANE_RUNTIME_STACK_SIZE: error: \"64KB\" is not a size"));
    ck_assert_ptr_nonnull(strstr(said, "STELLANE_RUNTIME_AUTO_SHUTDOWN: error: \"perhaps\" is neither true nor false"));
    ck_assert_ptr_nonnull(strstr(said, "STELLANE_RUNTIME_PERFORMANCE_IO_BATCH_SIZE: error: \"12x\" is not a number"));
    ck_assert_ptr_nonnull(strstr(said, "STELLANE_RUNTIME_BACKEND: error: \"a-name-that-is-longer-than-any-may-be\" is "
                                       "too long (31 bytes at the most)"));
    ck_assert_int_eq(memcmp(&c, &before, sizeof c), 0);
}
END_TEST

START_TEST(unknown_variables) {
    stel_config c;
    stel_config_init(&c);
    setenv("STELLANE_RUNTIME_WORKRES", "3", 1);
    setenv("STELLANE_SOMETHING_ELSE_ENTIRELY", "3", 1);
    setenv("STELLANE_TEST_SEED", "3", 1); /* not ours to judge */
    setenv("STELLANEOUS", "3", 1);        /* not one of them at all */
    setenv("STELLANE_A_NAME_THAT_IS_SO_LONG_THAT_IT_DOES_NOT_FIT_INTO_ANY_BUFFER_OF_OURS_AT_ALL", "3", 1);
    ck_assert_int_eq(from_env(&c), 0);
    ck_assert_int_eq(count_lines(said), 3);
    ck_assert_ptr_nonnull(strstr(said, "STELLANE_RUNTIME_WORKRES: warning: no such setting; did you mean "
                                       "STELLANE_RUNTIME_WORKERS?\n"));
    ck_assert_ptr_nonnull(strstr(said, "STELLANE_SOMETHING_ELSE_ENTIRELY: warning: no such setting\n"));
    ck_assert_int_eq(c.worker_threads, 0);
}
END_TEST

START_TEST(alias) {
    stel_config c;
    stel_config_init(&c);
    setenv("STELLANE_RUNTIME_WORKER_THREADS", "3", 1);
    ck_assert_int_eq(from_env(&c), 0);
    ck_assert_int_eq(c.worker_threads, 3);
    setenv("STELLANE_RUNTIME_WORKERS", "3", 1);
    ck_assert_int_eq(from_env(&c), 0);
    setenv("STELLANE_RUNTIME_WORKERS", "4", 1);
    ck_assert_int_eq(from_env(&c), -EINVAL);
    ck_assert_ptr_nonnull(strstr(said, "STELLANE_RUNTIME_WORKER_THREADS"));
    ck_assert_int_eq(c.worker_threads, 3);
}
END_TEST

static const stel__key *key(const char *name) {
    size_t n;
    const stel__key *k = stel__config_keys(&n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(k[i].key, name)) return &k[i];
    ck_abort_msg("no key %s", name);
}

/* rc 0 and the value, or -EINVAL and some words. */
static void parses(const char *name, const char *text, int rc, int64_t value) {
    int64_t got = -77;
    char why[256] = "";
    ck_assert_msg(stel__config_parse(key(name), text, &got, why, sizeof why) == rc, "%s = %s: %s", name, text, why);
    if (rc == 0)
        ck_assert_msg(got == value, "%s = %s gives %lld", name, text, (long long)got);
    else
        ck_assert_msg(strstr(why, text) != NULL, "%s = %s: %s", name, text, why);
}

START_TEST(values) {
    const char *timeout = "runtime.stop_timeout", *size = "runtime.stack.size", *workers = "runtime.worker_threads";
    parses(timeout, "1ns", 0, 1);
    parses(timeout, "2us", 0, 2000);
    parses(timeout, "3ms", 0, 3000000);
    parses(timeout, "4s", 0, STEL_SEC(4));
    parses(timeout, "5m", 0, STEL_SEC(300));
    parses(timeout, "6h", 0, STEL_SEC(21600));
    parses(timeout, "0s", -EINVAL, 0);
    parses(timeout, "", -EINVAL, 0);
    parses(timeout, "s", -EINVAL, 0);
    parses(timeout, "-1s", -EINVAL, 0);
    parses(timeout, "1 s", -EINVAL, 0);
    parses(timeout, "1d", -EINVAL, 0);
    parses(timeout, "auto", -EINVAL, 0);
    parses(timeout, "off", -EINVAL, 0);
    parses(timeout, "9223372036s", 0, INT64_C(9223372036000000000));
    parses(timeout, "9223372037s", -EINVAL, 0);
    parses(timeout, "99999999999999999999999s", -EINVAL, 0);
    parses("runtime.debug.stall", "off", 0, -1);
    parses("runtime.debug.stall", "0ms", -EINVAL, 0);
    parses(size, "4096", 0, 4096);
    parses(size, "4096B", 0, 4096);
    parses(size, "1MiB", 0, 1 << 20);
    parses(size, "1GiB", 0, 1 << 30);
    parses(size, "2GiB", -EINVAL, 0);
    parses(size, "4095", -EINVAL, 0);
    parses(size, "17179869185GiB", -EINVAL, 0); /* one GiB, and 2 to the 64 */
    parses(workers, "1", 0, 1);
    parses(workers, "1024", 0, 1024);
    parses(workers, "1025", -EINVAL, 0);
    parses(workers, "-1", -EINVAL, 0);
    parses(workers, "0x10", -EINVAL, 0);
    parses(workers, " 1", -EINVAL, 0);
    parses("runtime.max_fibers", "0", 0, 0);
    parses("runtime.max_fibers", "16777217", -EINVAL, 0);
    parses("runtime.auto_shutdown", "on", 0, 1);
    parses("runtime.auto_shutdown", "no", 0, -1);
    parses("runtime.enable_cpu_affinity", "0", 0, 0);
    parses("runtime.enable_cpu_affinity", "auto", -EINVAL, 0);
    parses("runtime.seed", "18446744073709551615", 0, -1);
    parses("runtime.seed", "18446744073709551616", -EINVAL, 0);
    parses("runtime.seed", "0x", -EINVAL, 0);
    parses("runtime.seed", "1g", -EINVAL, 0);
}
END_TEST

START_TEST(fields_out_of_range) {
    stel_config c, out;
    stel_config_init(&c);
    c.worker_threads = 1025;
    c.stop_timeout_ns = -1;
    c.stack_guard_pages = 17;
    c.stack_bytes = SIZE_MAX;
    c.auto_shutdown = 2;
    c.enable_cpu_affinity = -1;
    c.stall_ns = -2;
    memset(c.backend, 'x', sizeof c.backend);
    ck_assert_int_eq(adopt(&out, &c), -EINVAL);
    ck_assert_int_eq(count_lines(said), 8);
    ck_assert_ptr_nonnull(strstr(said, "stel_config.worker_threads = 1025 is out of range (0 for the default, or "
                                       "1..1024)\n"));
    ck_assert_ptr_nonnull(strstr(said, "stel_config.stack_bytes = 18446744073709551615 is"));
    stel_config_init(&c);
    c.stall_ns = -1;
    c.auto_shutdown = -1;
    c.stop_timeout_ns = STEL_FOREVER;
    ck_assert_int_eq(adopt(&out, &c), 0);
    ck_assert_int_eq(out.stall_ns, -1);
    ck_assert_int_eq(out.auto_shutdown, -1);
}
END_TEST

START_TEST(smaller_struct) {
    /* A caller whose header ends after worker_threads; what lies behind its struct is not ours to read or write. */
    struct {
        stel_config c;
    } room;
    const size_t size = offsetof(stel_config, worker_threads) + sizeof(int);
    stel_config out;
    memset(&room, 0x55, sizeof room);
    stel_config_init_sized(&room.c, size);
    ck_assert_uint_eq(room.c.size, size);
    for (size_t i = size; i < sizeof room; i++)
        ck_assert_int_eq(((char *)&room)[i], 0x55);
    room.c.worker_threads = 3;
    ck_assert_int_eq(adopt(&out, &room.c), 0);
    ck_assert_uint_eq(out.size, sizeof out);
    ck_assert_int_eq(out.worker_threads, 3);
    ck_assert_int_eq(out.io_batch, 32);

    /* Half a field is none. */
    room.c.size = size - 2;
    ck_assert_int_eq(adopt(&out, &room.c), 0);
    ck_assert_int_eq(out.worker_threads, 0);

    room.c.size = size;
    setenv("STELLANE_RUNTIME_WORKERS", "9", 1);
    setenv("STELLANE_RUNTIME_PERFORMANCE_IO_BATCH_SIZE", "9", 1);
    ck_assert_int_eq(from_env(&room.c), 0);
    ck_assert_int_eq(room.c.worker_threads, 9);
    for (size_t i = size; i < sizeof room; i++)
        ck_assert_int_eq(((char *)&room)[i], 0x55);

    memset(&room, 0x55, sizeof room);
    ck_assert_int_eq(stel__config_hand_out(&out, &room.c, size), 0);
    ck_assert_uint_eq(room.c.size, size);
    for (size_t i = size; i < sizeof room; i++)
        ck_assert_int_eq(((char *)&room)[i], 0x55);
}
END_TEST

START_TEST(larger_struct) {
    struct {
        stel_config c;
        char newer[64];
    } room;
    stel_config out;
    memset(&room, 0x55, sizeof room);
    stel_config_init_sized(&room.c, sizeof room);
    ck_assert_uint_eq(room.c.size, sizeof room);
    for (size_t i = 0; i < sizeof room.newer; i++)
        ck_assert_int_eq(room.newer[i], 0);
    ck_assert_int_eq(adopt(&out, &room.c), 0);
    ck_assert_uint_eq(out.size, sizeof out);
    room.newer[63] = 1;
    ck_assert_int_eq(adopt(&out, &room.c), -EINVAL);
    ck_assert_int_eq(count_lines(said), 1);
    memset(&room, 0x55, sizeof room);
    ck_assert_int_eq(stel__config_hand_out(&out, &room.c, sizeof room), 0);
    ck_assert_uint_eq(room.c.size, sizeof room);
    ck_assert_int_eq(room.newer[63], 0);
}
END_TEST

START_TEST(no_struct) {
    stel_config c, out;
    memset(&c, 0, sizeof c);
    ck_assert_int_eq(stel_config_from_env(NULL), -EINVAL);
    ck_assert_int_eq(stel_config_from_env(&c), -EINVAL); /* size 0: never initialised */
    ck_assert_int_eq(adopt(&out, &c), -EINVAL);
    c.size = SIZE_MAX;
    ck_assert_int_eq(stel_config_from_env(&c), -EINVAL);
    ck_assert_int_eq(adopt(&out, &c), -EINVAL);
    ck_assert_int_eq(stel__config_hand_out(&out, NULL, sizeof out), -EINVAL);
    ck_assert_int_eq(stel__config_hand_out(&out, &c, 0), -EINVAL);
    stel_config_init_sized(NULL, sizeof c);
    c.worker_threads = 4;
    stel_config_init_sized(&c, 0); /* nothing it could write */
    ck_assert_int_eq(c.worker_threads, 4);
}
END_TEST

TEST_MAIN("config/config", defaults, names, zero_is_default, environment_is_read, auto_and_empty, all_mistakes_at_once,
          unknown_variables, alias, values, fields_out_of_range, smaller_struct, larger_struct, no_struct)
