/* What tests of fibers need beside libcheck.
 *
 * libcheck's ck_assert ends a test by longjmp or exit in the thread that runs it; inside a fiber or on a worker that is
 * wrong, as the frame to jump to is on another stack. There use FIBER_ASSERT and its relatives: they say what failed
 * and abort the process. libcheck runs each test in a process of its own (CK_FORK, on by default), so only that test
 * fails; with CK_FORK=no, in a debugger, the program stops right there.
 *
 * A test file looks like this:
 *
 *     #include "check_fiber.h"
 *
 *     static int body(void *arg) {
 *         FIBER_ASSERT_EQ(stel_sleep(STEL_MS(1)), 0);
 *         return 5;
 *     }
 *     START_TEST(sleeping) {
 *         ck_assert_int_eq(run_in_runtime(2, body, NULL), 5);
 *     }
 *     END_TEST
 *
 *     TEST_MAIN("sched/sleep", sleeping) */
#ifndef CHECK_FIBER_H
#define CHECK_FIBER_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <stellane/stellane.h>

/* main() of a test file. title: room/subject; then the names of its START_TESTs. */
#define TEST_MAIN(title, ...) TEST_MAIN_IF(NULL, title, __VA_ARGS__)

/* The same when the file may be impossible to run here: why_not() returns NULL, or the reason for skipping it all. */
#define TEST_MAIN_IF(why_not, title, ...)                                                                              \
    int main(void) {                                                                                                   \
        const TTest *tests[] = { __VA_ARGS__ };                                                                        \
        return check_fiber_main((why_not), (title), tests, sizeof tests / sizeof tests[0]);                            \
    }
int check_fiber_main(const char *(*why_not)(void), const char *title, const TTest **tests, size_t n);

/* Run fn(arg) as a fiber of a fresh runtime with that many workers (0: as many as CPUs), wait until it and all the
 * counted fibers that it spawned have ended, destroy the runtime, return fn's result. From plain threads. */
int run_in_runtime(int workers, stel_fn *fn, void *arg);
/* The same with settings of one's own; auto_shutdown is switched on in a copy. */
int run_in_runtime_with(const stel_config *c, stel_fn *fn, void *arg);

/* Assertions that work anywhere: in fibers, on workers, in threads, in forked children. */
#define FIBER_ASSERT(condition)     ((condition) ? (void)0 : check_fiber_fail(__FILE__, __LINE__, "%s", #condition))
#define FIBER_ASSERT_EQ(have, want) check_fiber_eq(__FILE__, __LINE__, #have, #want, (intmax_t)(have), (intmax_t)(want))
/* A call of the library that must succeed: the failure is shown in words. */
#define FIBER_OK(call)  check_fiber_ok(__FILE__, __LINE__, #call, (intmax_t)(call))
#define FIBER_FAIL(...) check_fiber_fail(__FILE__, __LINE__, __VA_ARGS__)

_Noreturn void check_fiber_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void check_fiber_eq(const char *file, int line, const char *have_text, const char *want_text, intmax_t have,
                    intmax_t want);
intmax_t check_fiber_ok(const char *file, int line, const char *text, intmax_t code);

/* The seed of this run: STELLANE_TEST_SEED, or a fresh one. Printed at the first call, so that a failure can be had
 * again. test_random is a generator for tests: a number below n from *state. */
uint64_t test_seed(void);
uint32_t test_random(uint64_t *state, uint32_t n);

/* Does an emulator (qemu-user) run this program: one for another machine than this? Programs cannot be started by their
 * path then, some calls are not as the kernel's, and of a process that dies by a signal the emulator says a line. */
bool test_emulated(void);
/* Takes such lines out of what a process said. */
void test_forget_emulator(char *text);

/* n scaled down for slow surroundings (sanitizers, Valgrind): n * STELLANE_TEST_SCALE, at least 1. */
uint64_t test_scale(uint64_t n);

/* How many descriptors the process has open: for tests that nothing leaks. Without timerfds: workers have theirs from when
 * timers come in crowds to their end (host/pilot.c). */
int test_open_descriptors(void);
/* How many threads of the library (workers, guardians; by their names) there are. A thread that was joined is counted a
 * moment longer: use it with EVENTUALLY. */
int test_library_threads(void);

/* Let time pass on a plain thread until condition() holds; fails the test when it does not within a minute. For things
 * that must come true by themselves, never for making a race unlikely. */
#define EVENTUALLY(condition)                                                                                          \
    do {                                                                                                               \
        int64_t give_up_ = stel_after(STEL_SEC(60));                                                                   \
        while (!(condition)) {                                                                                         \
            if (stel_now() > give_up_) FIBER_FAIL("not within a minute: %s", #condition);                              \
            check_fiber_nap();                                                                                         \
        }                                                                                                              \
    } while (0)
/* A millisecond: stel_sleep for fibers, nanosleep for threads; never cut short. */
void check_fiber_nap(void);

#endif
