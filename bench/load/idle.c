/* bench-load idle: the memory that an idle connection costs the server: when it has connected and never said a thing
 * (fresh), and after a request and its answer (used). The kernel's own memory for sockets is not part of it.
 *
 * The server has accepted all when it has answered the last one: they are accepted in order. Memory is read when it has
 * stopped changing, so that fibers which have yet to run, or to end a request, have done so. */
#include "../common/bench.h"
#include "load.h"
#include "server.h"
#include <sys/socket.h>
#include <time.h>

static uint64_t ask_once(int fd, uint64_t question) {
    uint64_t answer = ~question;
    struct timeval limit = { .tv_sec = 10 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (send(fd, &question, sizeof question, MSG_NOSIGNAL) != sizeof question ||
        recv(fd, &answer, sizeof answer, MSG_WAITALL) != sizeof answer || answer != question)
        bench_fail("no answer, or a wrong one");
    return 1;
}

/* The same three times in a row, 30 ms apart; after 3 s whatever it is then. */
static int64_t steady_memory(void) {
    static const struct timespec pause = { 0, 30000000 };
    int64_t last = server_memory();
    for (int same = 0, looks = 0; same < 3 && looks < 100; looks++) {
        nanosleep(&pause, NULL);
        int64_t now = server_memory();
        same = now == last ? same + 1 : 0;
        last = now;
    }
    return last;
}

void run_idle(void) {
    int n = bench_param_int("connections", 10000), port = bench_param_int("port", 0);
    int *fds = bench_alloc((size_t)n * sizeof *fds);
    uint64_t answered = 0;
    server_open(false);
    answered += ask_once(load_connect(port), 1); /* what the first one costs is not an idle one's */
    int64_t before = steady_memory();
    bench_start();
    for (int i = 0; i < n; i++)
        fds[i] = load_connect(port);
    answered += ask_once(fds[n - 1], 2);
    int64_t fresh = steady_memory();
    for (int i = 0; i < n; i++)
        answered += ask_once(fds[i], (uint64_t)i);
    int64_t used = steady_memory();
    bench_stop();
    bench_result("fresh", "B", (double)(fresh - before) / n, answered, n);
    bench_result("used", "B", (double)(used - before) / n, answered, n);
}
