/* Run fn(arg) in a process of its own, for what can be tried once a process only, and for what ends it. */
#ifndef IN_CHILD_H
#define IN_CHILD_H

#include "check_fiber.h"
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The status as of waitpid; what it wrote to stderr goes to text. */
static inline int in_child(void (*fn)(void *), void *arg, char *text, size_t bytes) {
    int ends[2], status = 0;
    FIBER_ASSERT(pipe(ends) == 0);
    fflush(NULL);
    pid_t child = fork();
    FIBER_ASSERT(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        fn(arg);
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t n;
    while ((n = read(ends[0], text + length, bytes - 1 - length)) > 0)
        length += (size_t)n;
    text[length] = 0;
    test_forget_emulator(text);
    close(ends[0]);
    FIBER_ASSERT(waitpid(child, &status, 0) == child);
    return status;
}

/* It must come to its end; what it says is shown otherwise. */
static inline void in_child_ok(void (*fn)(void *), void *arg) {
    char text[8192];
    int status = in_child(fn, arg, text, sizeof text);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) FIBER_FAIL("status 0x%x, and it said: %s", status, text);
}

#endif
