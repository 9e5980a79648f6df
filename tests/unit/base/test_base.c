/* The oracle, saturating times, lines on stderr, and the way to die. */
#include "base/base.h"
#include "check_fiber.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

START_TEST(oracle_repeats_itself) {
    stel__oracle a, b, c;
    stel__oracle_seed(&a, 42);
    stel__oracle_seed(&b, 42);
    stel__oracle_seed(&c, 43);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = stel__oracle_next(&a);
        ck_assert_uint_eq(x, stel__oracle_next(&b));
        same += x == stel__oracle_next(&c);
    }
    ck_assert_int_eq(same, 0);
}
END_TEST

START_TEST(oracle_never_starts_from_zero) {
    /* The one seed that the mixing turns into zero: found by running it backwards. */
    static const uint64_t seeds[] = { 0, 1, UINT64_MAX, UINT64_C(0) - UINT64_C(0x9E3779B97F4A7C15) };
    for (size_t i = 0; i < STEL__COUNT_OF(seeds); i++) {
        stel__oracle o;
        stel__oracle_seed(&o, seeds[i]);
        ck_assert_uint_ne(o.state, 0);
        ck_assert_uint_ne(stel__oracle_next(&o), 0);
    }
}
END_TEST

START_TEST(oracle_is_fair) {
    enum { SIDES = 6, THROWS = 60000 };
    stel__oracle o;
    stel__oracle_seed(&o, 7);
    int count[SIDES] = { 0 };
    for (int i = 0; i < THROWS; i++) {
        uint32_t n = stel__oracle_below(&o, SIDES);
        ck_assert_uint_lt(n, SIDES);
        count[n]++;
    }
    for (int i = 0; i < SIDES; i++) {
        ck_assert_int_gt(count[i], THROWS / SIDES * 9 / 10);
        ck_assert_int_lt(count[i], THROWS / SIDES * 11 / 10);
    }
    for (int i = 0; i < 100; i++)
        ck_assert_uint_eq(stel__oracle_below(&o, 1), 0);
}
END_TEST

START_TEST(times_saturate) {
    ck_assert_int_eq(stel__time_add(5, 7), 12);
    ck_assert_int_eq(stel__time_add(5, -7), -2);
    ck_assert_int_eq(stel__time_add(1, STEL_FOREVER), STEL_FOREVER);
    ck_assert_int_eq(stel__time_add(STEL_FOREVER, 1), STEL_FOREVER);
    ck_assert_int_eq(stel__time_add(-2, INT64_MIN), INT64_MIN);
    ck_assert_int_eq(stel_after(STEL_FOREVER), STEL_FOREVER);
    int64_t before = stel_now(), then = stel_after(STEL_SEC(5)), after = stel_now();
    ck_assert_int_ge(then, before + STEL_SEC(5));
    ck_assert_int_le(then, after + STEL_SEC(5));
}
END_TEST

/* What fn writes to stderr, and how the process that runs it ends. */
static int stderr_of(void (*fn)(void), char *text, size_t bytes) {
    int ends[2], status;
    ck_assert_int_eq(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        fn();
        _exit(0);
    }
    ck_assert_int_gt(child, 0);
    close(ends[1]);
    size_t length = 0;
    ssize_t n;
    while ((n = read(ends[0], text + length, bytes - 1 - length)) > 0)
        length += (size_t)n;
    text[length] = 0;
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

static void dies(void) {
    stel__die("fiber %d has %s", 12, "lost its way");
}
static void asserts(void) {
    int one = 1;
    STEL__ASSERT(one == 1);
    STEL__ASSERT(one == 2);
}
static void warns(void) {
    static _Atomic unsigned said;
    char longer[3000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    errno = ENOENT;
    for (int i = 0; i < 3; i++)
        stel__warn_once(&said, "once %d", i);
    stel__warn("%s", longer);
    if (errno == ENOENT) stel__warn("done");
}

START_TEST(death_has_a_message) {
    char text[8192];
    int status = stderr_of(dies, text, sizeof text);
    test_forget_emulator(text);
    ck_assert_str_eq(text, "stellane: fiber 12 has lost its way\n");
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = stderr_of(asserts, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "test_base.c:"));
    ck_assert_ptr_nonnull(strstr(text, "one == 2 does not hold\n"));
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
END_TEST

START_TEST(warnings_are_lines) {
    char text[8192];
    int status = stderr_of(warns, text, sizeof text);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    static const char first[] = "stellane: once 0\nstellane: xxx";
    ck_assert_int_eq(strncmp(text, first, sizeof first - 1), 0);
    /* The long one is cut, and still ends its line. */
    const char *end = strchr(text + sizeof first, '\n');
    ck_assert_ptr_nonnull(end);
    ck_assert_int_lt(end - text, 1024 + (long)sizeof first);
    ck_assert_str_eq(end + 1, "stellane: done\n");
}
END_TEST

TEST_MAIN("base/base", oracle_repeats_itself, oracle_never_starts_from_zero, oracle_is_fair, times_saturate,
          death_has_a_message, warnings_are_lines)
