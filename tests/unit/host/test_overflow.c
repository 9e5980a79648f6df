/* Overflows are named, in a forked child each: stacks of 16 KiB to 1 MiB, small and large frames, handlers that were
 * there before, faults that are none of ours. */
#include "arch/arch.h"
#include "host/stack.h"
#include "in_child.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

static stel__stack_cache cache = { .limit = 8 };
static stel__stack *stack;
static stel__context home, fiber;

static void describe(int fd, const stel__stack *s, const void *address) {
    char text[128];
    int n = snprintf(text, sizeof text, "described %d %d\n", s == stack,
                     (uintptr_t)address < (uintptr_t)stel__stack_low(stack));
    FIBER_ASSERT(write(fd, text, (size_t)n) == n);
}

STEL__NOINLINE static int dig(int depth) {
    volatile char frame[200];
    frame[depth % 200] = (char)depth;
    int below = depth > 100000000 ? 0 : dig(depth + 1);
    return below + frame[depth % 200];
}

static stel__context_exit entry(void *word) {
    int (*digger)(int) = (int (*)(int))(uintptr_t)word;
    _exit(digger(0) & 1 ? 3 : 4);
}

static void no_core(void) {
    struct rlimit none = { 0, 0 };
    setrlimit(RLIMIT_CORE, &none);
}

STEL__NOINLINE static void run_on_stack(int class, int (*digger)(int)) {
    void *memory;
    no_core();
    stel__overflow_install(describe);
    FIBER_ASSERT_EQ(stel__overflow_enter_thread(&memory), 0);
    stack = stel__stack_get(&cache, class);
    stel__context_make(&fiber, stel__stack_top(stack), entry);
    stel__context_switch(&home, &fiber, (void *)(uintptr_t)digger);
}

static void overflow(void *class) {
    run_on_stack(*(int *)class, dig);
}

static void check_named(void (*fn)(void *), int class) {
    char text[4096], want[64];
    int status = in_child(fn, &class, text, sizeof text);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status 0x%x: %s", status, text);
    ck_assert_ptr_nonnull(strstr(text, "stellane: stack overflow: access to 0x"));
    snprintf(want, sizeof want, "in the guard of a stack of %zu KiB (0x",
             (stel__stack_class_bytes(class) - 4096) / 1024);
    ck_assert_msg(strstr(text, want) != NULL, "%s", text);
    ck_assert_msg(strstr(text, "described 1 1\n") != NULL, "%s", text);
}

START_TEST(small_frames) {
    for (int class = 0; class <= 6; class ++)
        check_named(overflow, class);
}
END_TEST

#ifndef STEL__SANITIZED /* whose code does not touch its frames in order */
/* Larger than the guard: safe because it is compiled to touch its pages in order. */
STEL__NOINLINE static int dig_large(int depth) {
    volatile char frame[12000];
    frame[depth % 200] = (char)depth;
    int below = depth > 100000000 ? 0 : dig_large(depth + 1);
    return below + frame[depth % 200];
}

static void overflow_large(void *class) {
    run_on_stack(*(int *)class, dig_large);
}

START_TEST(large_frames) {
#if (defined(__riscv) && (defined(__clang__) || __GNUC__ < 15)) || (defined(__aarch64__) && defined(__clang__))
    puts("large_frames: left out: for this machine the compiler does not probe frames page by page");
    return;
#endif
    for (int class = 2; class <= 6; class ++)
        check_named(overflow_large, class);
}
END_TEST
#else
START_TEST(large_frames) {}
END_TEST
#endif

/* ---- faults of others ---- */

static volatile int *volatile nowhere;
static char said[64];

static void old_handler(int number) {
    snprintf(said, sizeof said, "old handler %d\n", number);
    FIBER_ASSERT(write(2, said, strlen(said)) > 0);
    _exit(7);
}
static void old_action(int number, siginfo_t *info, void *context) {
    FIBER_ASSERT(context);
    snprintf(said, sizeof said, "old action %d %d\n", number, info->si_addr == (void *)nowhere);
    FIBER_ASSERT(write(2, said, strlen(said)) > 0);
    _exit(8);
}

static void fault(void *what) {
    struct sigaction before;
    memset(&before, 0, sizeof before);
    no_core();
    switch (*(int *)what) {
    case 1:
        before.sa_handler = old_handler;
        break;
    case 2:
        before.sa_sigaction = old_action;
        before.sa_flags = SA_SIGINFO;
        break;
    case 3:
    case 4:
        before.sa_handler = SIG_IGN;
        break;
    default:
        before.sa_handler = SIG_DFL;
    }
    sigaction(SIGSEGV, &before, NULL);
    void *memory;
    stel__overflow_install(describe);
    stel__overflow_install(describe); /* once is enough */
    FIBER_ASSERT_EQ(stel__overflow_enter_thread(&memory), 0);
    if (*(int *)what >= 4) {
        raise(SIGSEGV);
        _exit(9);
    }
    void *page;
    FIBER_ASSERT_EQ(stel__sys_mmap(&page, NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 0);
    nowhere = page;
    *nowhere = 1;
    _exit(10);
}

START_TEST(previous_handlers_are_chained_to) {
    char text[4096];
    static const struct {
        int what, status;
        const char *text;
    } cases[] = {
        { 0, SIGSEGV, "" },                 /* the default action */
        { 1, 7 << 8, "old handler 11\n" },  /* an old-style handler */
        { 2, 8 << 8, "old action 11 1\n" }, /* one that wants to know */
        { 3, SIGSEGV, "" },                 /* ignored: the kernel does not let one ignore one's own fault */
        { 4, 9 << 8, "" },                  /* but one that was sent */
        { 5, SIGSEGV, "" },                 /* sent, with the default action */
    };
    for (size_t i = 0; i < STEL__COUNT_OF(cases); i++) {
        int what = cases[i].what, status = in_child(fault, &what, text, sizeof text);
        /* Valgrind sees the fault as an error of the program and has an exit code for that. */
        bool same = (status & ~0x80) == cases[i].status || (WIFEXITED(status) && stel__sanitize_valgrind());
        ck_assert_msg(same, "case %d: 0x%x %s", what, status, text);
        ck_assert_str_eq(text, cases[i].text);
    }
}
END_TEST

START_TEST(signal_stacks_come_and_go) {
    stack_t before, during, after;
    void *memory;
    ck_assert_int_eq(sigaltstack(NULL, &before), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(stel__overflow_enter_thread(&memory), 0);
        sigaltstack(NULL, &during);
        ck_assert_uint_ge(during.ss_size, 16384);
        ck_assert_int_eq(during.ss_flags, 0);
        stel__overflow_leave_thread(memory);
        sigaltstack(NULL, &after);
        ck_assert_int_eq(after.ss_flags, before.ss_flags);
        if (!(before.ss_flags & SS_DISABLE)) ck_assert_ptr_eq(after.ss_sp, before.ss_sp);
    }
    stel__overflow_leave_thread(NULL);
}
END_TEST

START_TEST(a_system_call_finds_the_guard_too) {
    stack = stel__stack_get(&cache, 2);
    char *low = stel__stack_low(stack);
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    ck_assert_int_eq(stel__sys_read(ends[0], low - 1, 1), -EFAULT);
    ck_assert_ptr_eq(stel__stack_of_guard(low - 1), stack);
    stel__stack_put(&cache, stack);
}
END_TEST

TEST_MAIN("host/overflow", small_frames, large_frames, previous_handlers_are_chained_to, signal_stacks_come_and_go,
          a_system_call_finds_the_guard_too)
