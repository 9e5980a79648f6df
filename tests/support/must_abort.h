/* A call that must end the process: with SIGABRT, and a message on stderr. */
#ifndef MUST_ABORT_H
#define MUST_ABORT_H

#include "check_fiber.h"
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* fn, in a process of its own, must end with SIGABRT and say this on stderr. The caller must not have used the library
 * yet: after fork it works no more. */
static inline void must_abort(void (*fn)(void), const char *words) {
    int ends[2];
    char said[4096];
    size_t length = 0;
    ssize_t got;
    FIBER_ASSERT_EQ(pipe(ends), 0);
    pid_t child = fork();
    FIBER_ASSERT(child >= 0);
    if (child == 0) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        fn();
        _exit(0);
    }
    close(ends[1]);
    while (length < sizeof said - 1 && (got = read(ends[0], said + length, sizeof said - 1 - length)) > 0)
        length += (size_t)got;
    said[length] = '\0';
    close(ends[0]);
    int status = 0;
    FIBER_ASSERT_EQ(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
        FIBER_FAIL("no abort, status %#x; it said: %s", (unsigned)status, said);
    if (!strstr(said, words)) FIBER_FAIL("it aborted with '%s', not with '%s'", said, words);
}

#endif
