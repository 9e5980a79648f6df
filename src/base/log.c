/* Lines on stderr, and the way to die with one. Each line is made whole in a buffer and leaves in one write(2), so that
 * lines of several threads do not mix. The write is libc's own: base knows no seam, and a message about a failure must
 * not be made to fail. errno is left as it was. */
#include "base/base.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 1024 };

static void line(const char *format, va_list arguments) {
    static const char prefix[] = "stellane: ";
    int saved = errno;
    char text[LINE_BYTES_MAX];
    size_t length = sizeof prefix - 1;
    memcpy(text, prefix, length);
    size_t room = sizeof text - length - 1; /* one byte for the end of the line */
    int n = vsnprintf(text + length, room, format, arguments);
    if (n > 0) length += (size_t)n < room ? (size_t)n : room - 1;
    text[length++] = '\n';
    for (size_t done = 0; done < length;) {
        ssize_t rc = write(STDERR_FILENO, text + done, length - done);
        if (rc < 0 && errno == EINTR) continue;
        if (rc <= 0) break; /* nobody to tell */
        done += (size_t)rc;
    }
    errno = saved;
}

void stel__die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line(format, arguments);
    va_end(arguments);
    abort();
}

void stel__warn(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line(format, arguments);
    va_end(arguments);
}

void stel__warn_once(_Atomic unsigned *said, const char *format, ...) {
    /* Relaxed: only the count matters, the line carries everything else. */
    if (stel__load_relaxed(said) != 0 || stel__add_relaxed(said, 1) != 0) return;
    va_list arguments;
    va_start(arguments, format);
    line(format, arguments);
    va_end(arguments);
}
