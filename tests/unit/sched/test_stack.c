/* Stacks as fibers use them: every byte that was asked for can be used, ordinary C code fits the default, and running
 * off the end is told by name. */
#include "room.h"
#include "sched/worker.h"
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>

static const stel__stack *stack_of_self(void) {
    return stel__worker_current(stel__worker_self())->stack;
}

static uintptr_t left(void) {
    return (uintptr_t)__builtin_frame_address(0) - (uintptr_t)stel__stack_low(stack_of_self());
}

/* ---- sizes ---- */

enum { COLOUR_MAX = 2112, FRAMES_ABOVE = 1024 };

static int measure(void *arg) {
    const size_t wanted = (uintptr_t)arg;
    const size_t here = left();
    FIBER_ASSERT(here + COLOUR_MAX + FRAMES_ABOVE >= wanted);
    FIBER_ASSERT(here <= stel__stack_class_bytes(stel__stack_class_of(stack_of_self())));
    FIBER_ASSERT((uintptr_t)stel__stack_top(stack_of_self()) % 64 == 0);
    return 1;
}

static int sizes(void *arg) {
    stel_config c = { 0 };
    FIBER_OK(stel_runtime_get_config(arg, &c));
    FIBER_ASSERT_EQ(join(spawn(measure, (void *)(uintptr_t)c.stack_bytes)), 1);
    static const size_t asked[] = { 1,      8192,   12288,  12289,   16384,   28672,   65536,
                                    100000, 262144, 500000, 1 << 20, 3 << 20, 8 << 20, 32 << 20 };
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        stel_spawn_options o = { .stack_bytes = asked[i] };
        FIBER_ASSERT_EQ(join(spawn_with(o, measure, (void *)(uintptr_t)asked[i])), 1);
    }
    return 0;
}

START_TEST(as_asked_for) {
    stel_runtime *rt = room_open(1);
    stel_fiber f;
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, sizes, rt), 0);
    ck_assert_int_eq(join(f), 0);
    room_close(rt);
}
END_TEST

/* The runtime's own size. */
START_TEST(as_configured) {
    static const size_t some[] = { 16384, 65536, 1 << 20 };
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        stel_config c = room_config(1);
        c.stack_bytes = some[i];
        ck_assert_int_eq(run_in_runtime_with(&c, measure, (void *)(uintptr_t)some[i]), 1);
    }
}
END_TEST

/* Down to the last few KiB, frame by frame; then the same stack for the next fiber. */
__attribute__((noinline)) static unsigned descend(uintptr_t spare, unsigned depth) {
    volatile unsigned char frame[256];
    for (unsigned i = 0; i < sizeof frame; i++)
        frame[i] = (unsigned char)(depth + i);
    unsigned deepest = left() > spare ? descend(spare, depth + 1) : depth;
    for (unsigned i = 0; i < sizeof frame; i++)
        FIBER_ASSERT_EQ(frame[i], (unsigned char)(depth + i));
    return deepest;
}

static int go_deep(void *arg) {
    (void)arg;
    stel_yield();
    unsigned depth = descend(6144, 0);
    stel_yield();
    return (int)depth;
}

static int recursions(void *arg) {
    (void)arg;
    for (int round = 0; round < 3; round++) {
        stel_fiber f[12];
        for (unsigned i = 0; i < 12; i++)
            f[i] = spawn_with((stel_spawn_options){ .stack_bytes = (size_t)32768 << i % 6 }, go_deep, NULL);
        for (unsigned i = 0; i < 12; i++)
            FIBER_ASSERT(join(f[i]) > 8);
    }
    FIBER_ASSERT(join(spawn(go_deep, NULL)) > 100);
    return 0;
}

START_TEST(deep_recursion) {
    ck_assert_int_eq(run_in_runtime(1, recursions, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, recursions, NULL), 0);
}
END_TEST

/* ---- ordinary code on the default ---- */

__attribute__((noinline)) static int big_frame(unsigned char with) {
    volatile unsigned char frame[160 * 1024];
    for (size_t i = 0; i < sizeof frame; i += 512)
        frame[i] = with;
    stel_yield();
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof frame; i += 512)
        sum += frame[i];
    return sum == sizeof frame / 512 * with;
}

static int use_libc(void *arg) {
    char text[8192], small[64];
    (void)arg;
    /* Long doubles, wide numbers and %n$ take printf's longest ways. */
    int n = snprintf(text, sizeof text, "%2$.4000Lf|%1$-2000d|%3$s", 7, 1.0L / 3, "end");
    FIBER_ASSERT(n > 6000 && strcmp(text + n - 3, "end") == 0);
    FIBER_ASSERT(snprintf(small, sizeof small, "%a %e %p", 1e300, 1e-300, (void *)text) > 0);
    double back = 0;
    FIBER_ASSERT_EQ(sscanf(text, "%lf", &back), 1);
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    int rc = getaddrinfo("localhost", "80", &hints, &list);
    FIBER_ASSERT(rc == 0 || rc == EAI_NONAME || rc == EAI_AGAIN || rc == EAI_SYSTEM);
    if (rc == 0) freeaddrinfo(list);
    FIBER_ASSERT_EQ(getaddrinfo("127.0.0.1", "80", &hints, &list), 0);
    freeaddrinfo(list);
    FIBER_ASSERT(big_frame(3)); /* what a handshake of OpenSSL takes, several times over */
    return 1;
}

static int everyday_code(void *arg) {
    stel_fiber f[8];
    (void)arg;
    for (int i = 0; i < 8; i++)
        f[i] = spawn(use_libc, NULL);
    for (int i = 0; i < 8; i++)
        FIBER_ASSERT_EQ(join(f[i]), 1);
    return 0;
}

START_TEST(ordinary_code) {
    ck_assert_int_eq(run_in_runtime(2, everyday_code, NULL), 0);
}
END_TEST

/* What is on a stack stays while others come and go. */
static int keep_a_pattern(void *arg) {
    volatile unsigned char mine[3000];
    unsigned char seed = (unsigned char)(uintptr_t)arg;
    for (size_t i = 0; i < sizeof mine; i++)
        mine[i] = (unsigned char)(i * seed);
    for (int round = 0; round < 20; round++) {
        if (round % 4)
            stel_yield();
        else
            FIBER_OK(stel_sleep(STEL_US(50)));
        for (size_t i = 0; i < sizeof mine; i++)
            FIBER_ASSERT_EQ(mine[i], (unsigned char)(i * seed));
    }
    return 0;
}

static int patterns(void *arg) {
    enum { CREW = 300 };
    static stel_fiber f[CREW];
    (void)arg;
    for (uintptr_t i = 0; i < CREW; i++)
        f[i] = i % 2 ? spawn(keep_a_pattern, (void *)i)
                     : spawn_with((stel_spawn_options){ .stack_bytes = 16384 }, keep_a_pattern, (void *)i);
    for (uintptr_t i = 0; i < CREW; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    return 0;
}

START_TEST(nobody_writes_to_it) {
    ck_assert_int_eq(run_in_runtime(1, patterns, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, patterns, NULL), 0);
}
END_TEST

/* ---- overflow ---- */

__attribute__((noinline)) static int bottomless(int n) {
    volatile char frame[512];
    frame[0] = (char)n;
    if (n < 0) return 0;
    return bottomless(n + 1) + frame[0];
}

static int fall(void *arg) {
    (void)arg;
    return bottomless(1);
}

static int spawn_falling(void *arg) {
    return join(spawn_with((stel_spawn_options){ .name = "deep diver", .stack_bytes = 60000 }, fall, arg));
}

static void overflow_small(void) {
    run_in_runtime(1, spawn_falling, NULL);
}

static int fall_at_default(void *arg) {
    FIBER_OK(stel_set_name("first of all"));
    return fall(arg);
}

static void overflow_default(void) {
    run_in_runtime(2, fall_at_default, NULL);
}

static void check_report(void (*child)(void), const char *name, const char *size) {
    char text[8192];
    int status = in_child(child, text, sizeof text);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status %x: %s", (unsigned)status, text);
    ck_assert_msg(strstr(text, "stack overflow") != NULL, "%s", text);
    ck_assert_msg(strstr(text, size) != NULL, "no \"%s\": %s", size, text);
    ck_assert_msg(strstr(text, name) != NULL, "no \"%s\": %s", name, text);
    ck_assert_msg(strstr(text, "spawned at") != NULL, "%s", text);
}

START_TEST(overflow_is_told_by_name) {
    check_report(overflow_small, "deep diver", " 60 KiB");
    check_report(overflow_default, "first of all", " 252 KiB");
}
END_TEST

/* A fault that is no overflow is not called one. */
static int wild_write(void *arg) {
    *(volatile char *)arg = 1;
    return 0;
}

static void wild(void) {
    run_in_runtime(1, wild_write, (void *)64);
}

START_TEST(other_faults) {
    char text[8192];
    int status = in_child(wild, text, sizeof text);
    ck_assert_msg(!WIFEXITED(status) || WEXITSTATUS(status) != 0, "%s", text);
    ck_assert_msg(strstr(text, "stellane: stack overflow") == NULL, "%s", text);
}
END_TEST

TEST_MAIN("sched/stack", as_asked_for, as_configured, deep_recursion, ordinary_code, nobody_writes_to_it,
          overflow_is_told_by_name, other_faults)
