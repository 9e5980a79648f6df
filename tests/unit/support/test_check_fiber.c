/* The helpers that all other tests lean on: an assertion that cannot fail would make every one of them worthless. */
#include "check_fiber.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail_in_fiber(void *arg) {
    (void)arg;
    FIBER_ASSERT(1 + 1 == 3);
    return 0;
}
static int differ_in_fiber(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(-EINVAL, 0);
    return 0;
}
static int not_ok_in_fiber(void *arg) {
    (void)arg;
    FIBER_OK(stel_detach(stel_self() ^ (UINT64_C(1) << 60)));
    return 0;
}

/* Runs fn in a runtime of a child process; what the child said on stderr goes to `said`. Returns wait's status. */
static int in_child(stel_fn *fn, char *said, size_t bytes) {
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        _exit(run_in_runtime(1, fn, NULL) == 0 ? 0 : 1);
    }
    close(ends[1]);
    size_t have = 0;
    for (ssize_t n; have < bytes - 1 && (n = read(ends[0], said + have, bytes - 1 - have)) > 0;)
        have += (size_t)n;
    said[have] = 0;
    close(ends[0]);
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

static void ends_with_words(stel_fn *fn, const char *words) {
    char said[4096];
    int status = in_child(fn, said, sizeof said);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x, said: %s", (unsigned)status, said);
    ck_assert_msg(strstr(said, words) != NULL, "said: %s", said);
    ck_assert_msg(strstr(said, "test_check_fiber.c:") != NULL, "said: %s", said);
}

START_TEST(assertion_in_a_fiber_ends_the_process) {
    ends_with_words(fail_in_fiber, "1 + 1 == 3");
}
END_TEST

START_TEST(difference_shows_both_sides_and_the_error) {
    ends_with_words(differ_in_fiber, "-EINVAL is -22");
}
END_TEST

START_TEST(failed_call_is_shown_in_words) {
    ends_with_words(not_ok_in_fiber, stel_strerror(-ESRCH));
}
END_TEST

static int worker_count(void *arg) {
    (void)arg;
    stel_config c;
    stel_config_init(&c);
    FIBER_OK(stel_runtime_get_config(stel_runtime_current(), &c));
    return c.worker_threads;
}

START_TEST(runtime_has_the_workers_asked_for) {
    for (int n = 1; n <= 3; n++)
        ck_assert_int_eq(run_in_runtime(n, worker_count, NULL), n);
}
END_TEST

START_TEST(random_numbers_are_below_n_and_repeat) {
    uint64_t a = 5, b = 5, seen = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t x = test_random(&a, 7);
        ck_assert_uint_lt(x, 7);
        ck_assert_uint_eq(x, test_random(&b, 7));
        seen |= UINT64_C(1) << x;
    }
    ck_assert_uint_eq(seen, 0x7f);
}
END_TEST

START_TEST(scale_follows_the_environment) {
    setenv("STELLANE_TEST_SCALE", "0.1", 1);
    ck_assert_uint_eq(test_scale(1000), 100);
    ck_assert_uint_eq(test_scale(1), 1);
    setenv("STELLANE_TEST_SCALE", "nonsense", 1);
    ck_assert_uint_eq(test_scale(1000), 1000);
    unsetenv("STELLANE_TEST_SCALE");
    ck_assert_uint_eq(test_scale(1000), 1000);
}
END_TEST

START_TEST(descriptors_are_counted) {
    int before = test_open_descriptors();
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(test_open_descriptors(), before + 1);
    close(fd);
    ck_assert_int_eq(test_open_descriptors(), before);
}
END_TEST

TEST_MAIN("support/check_fiber", assertion_in_a_fiber_ends_the_process, difference_shows_both_sides_and_the_error,
          failed_call_is_shown_in_words, runtime_has_the_workers_asked_for, random_numbers_are_below_n_and_repeat,
          scale_follows_the_environment, descriptors_are_counted)
