/* A debugger's backtrace from inside a fiber shows the fiber's own frames, and ends cleanly where the fiber began: from
 * a breakpoint in a running fiber, after a wait that changed the worker, and in one that was left by stel_exit's way.
 * Needs gdb and the permission to trace a child.
 *
 *     ctest: timeout=120 skip=tsan,valgrind,asan,qemu
 *     left out because gdb would look at the tool's process, not at ours */
#include "room.h"
#include <stdlib.h>

/* ---- the program that is looked at ---- */

__attribute__((noinline)) void backtrace_here(int where) {
    __asm__ volatile("" : : "r"(where) : "memory");
}

__attribute__((noinline)) static int inner(int where) {
    backtrace_here(where);
    stel_yield();
    FIBER_OK(stel_sleep(STEL_US(100)));
    backtrace_here(where + 1);
    return where;
}

__attribute__((noinline)) static int middle(int where) {
    volatile int kept = inner(where);
    return kept;
}

static int outermost(void *arg) {
    volatile int kept = middle((int)(intptr_t)arg);
    return kept;
}

static int destroyed_value;

static void destroy(void *value) {
    FIBER_ASSERT(value == &destroyed_value);
    backtrace_here(9);
}

static int leave_by_exit(void *arg) {
    stel_key key;
    (void)arg;
    FIBER_OK(stel_local_key(&key, destroy));
    FIBER_OK(stel_local_set(key, &destroyed_value));
    stel_exit(1);
}

static int looked_at(void *arg) {
    (void)arg;
    FIBER_ASSERT_EQ(join(spawn(outermost, (void *)1)), 1);
    FIBER_ASSERT_EQ(join(spawn(leave_by_exit, NULL)), 1);
    return 0;
}

/* ---- the look ---- */

static char self[4096];

/* gdb's output for the given commands, run on this program. NULL: it could not run it. */
static char *look(const char *commands) {
    static char text[1 << 16];
    char command[8192];
    snprintf(command, sizeof command,
             "gdb -nx -batch -ex 'set debuginfod enabled off' -ex 'set width 0' -ex 'set breakpoint pending on' %s "
             "--args '%s' --looked-at 2>&1 </dev/null",
             commands, self);
    FILE *p = popen(command, "r");
    FIBER_ASSERT(p);
    size_t n = fread(text, 1, sizeof text - 1, p);
    text[n] = 0;
    pclose(p);
    return text;
}

static const char *why_not(void) {
#ifdef STELLANE_CONTEXT_FCONTEXT
    return "where Boost's fcontext ends a backtrace is Boost's affair";
#endif
    if (access("/usr/bin/gdb", X_OK) != 0 && system("command -v gdb >/dev/null 2>&1") != 0)
        return "gdb is not installed";
    if (!strstr(look("-ex run"), "exited normally")) return "gdb cannot run a program here (no permission to trace?)";
    return NULL;
}

/* One backtrace: the frames in the order wanted, then where the fiber began, and nothing after it. */
static void check_backtrace(const char *text, const char *const *frames, size_t n) {
    const char *at = strstr(text, "#0 ");
    ck_assert_msg(at != NULL, "no backtrace: %s", text);
    const char *end = strstr(at, "stel__context_start");
    ck_assert_msg(end != NULL, "does not reach the start: %s", text);
    for (size_t i = 0; i < n; i++) {
        at = strstr(at, frames[i]);
        ck_assert_msg(at != NULL && at < end, "no %s: %s", frames[i], text);
    }
    const char *line_end = strchr(end, '\n'), *after = line_end ? strstr(line_end, "\n#") : NULL;
    const char *next = line_end ? strstr(line_end, "BACKTRACE-ENDS") : NULL;
    ck_assert_msg(next != NULL && (after == NULL || after > next), "goes on after the start: %s", text);
    ck_assert_ptr_null(strstr(text, "previous frame"));
    ck_assert_ptr_null(strstr(text, "?? ()"));
    ck_assert_ptr_null(strstr(text, "corrupt"));
}

#define STOP "-ex 'break backtrace_here' -ex run "
#define BT   "-ex bt -ex 'echo BACKTRACE-ENDS\\n' "

START_TEST(running) {
    static const char *const frames[] = { "backtrace_here", "inner", "middle", "outermost", "fiber_main" };
    check_backtrace(look(STOP BT), frames, 5);
}
END_TEST

START_TEST(after_a_wait) {
    static const char *const frames[] = { "backtrace_here", "inner", "middle", "outermost", "fiber_main" };
    check_backtrace(look(STOP "-ex continue " BT), frames, 5);
}
END_TEST

START_TEST(at_the_end) {
    static const char *const frames[] = { "backtrace_here", "destroy", "stel_exit", "leave_by_exit", "fiber_main" };
    check_backtrace(look(STOP "-ex continue -ex continue " BT), frames, 5);
}
END_TEST

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--looked-at") == 0) return run_in_runtime(2, looked_at, NULL);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) return 1;
    const TTest *tests[] = { running, after_a_wait, at_the_end };
    return check_fiber_main(why_not, "sched/backtrace", tests, sizeof tests / sizeof tests[0]);
}
