/* A fiber that overflows its stack is named by the process that dies of it. */
#include "check_fiber.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *why_not(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return "sanitizers have reports of their own";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return "sanitizers have reports of their own";
#endif
#endif
    return NULL;
}

static __attribute__((noinline)) int dig(int depth) {
    volatile char frame[200];
    frame[depth % 200] = (char)depth;
    int below = depth > 100000000 ? 0 : dig(depth + 1);
    return below + frame[depth % 200];
}

static int digs(void *arg) {
    (void)arg;
    return dig(0) & 1;
}

static int spawns_digger(void *arg) {
    stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
    stel_fiber f;
    o.name = arg;
    o.stack_bytes = arg ? 40 << 10 : 0;
    FIBER_OK(stel_spawn_with(&f, &o, digs, NULL));
    return stel_join(f, NULL);
}

/* Runs it in a child; what the child wrote to stderr, and its status. */
static int in_child(void *name, char *text, size_t bytes) {
    int ends[2], status = -1;
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        dup2(ends[1], 2);
        _exit(stel_run(spawns_digger, name));
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t n; (n = read(ends[0], text + length, bytes - 1 - length)) > 0;)
        length += (size_t)n;
    text[length] = 0;
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

START_TEST(the_fiber_is_named) {
    char text[4096];
    char name[] = "digger";
    int status = in_child(name, text, sizeof text);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status 0x%x: %s", status, text);
    ck_assert_msg(strstr(text, "stack overflow") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "a stack of 60 KiB") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "\"digger\"") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "spawned at ") != NULL, "%s", text);
}
END_TEST

START_TEST(also_without_a_name) {
    char text[4096];
    int status = in_child(NULL, text, sizeof text);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status 0x%x: %s", status, text);
    ck_assert_msg(strstr(text, "a stack of 252 KiB") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "it is the stack of fiber 0x") != NULL, "%s", text);
}
END_TEST

TEST_MAIN_IF(why_not, "runtime/overflow", the_fiber_is_named, also_without_a_name)
