/* bench-load: the other side of the workloads of servers, a process of its own on a CPU of its own.
 *
 *   bench-load echo port=N pid=N [connections=64] [bytes=64] [warm_ms=300] [run_ms=1000] [spin_us=0] [workers=1]
 *                   [count_ms=0]                                                                     closed.c
 *   bench-load open port=N pid=N rate=N [connections=64] [bytes=64] [warm_ms=300] [run_ms=1000]      open.c
 *   bench-load idle port=N pid=N [connections=10000]                                                 idle.c
 *   bench-load wake port=N pid=N [ops=1000] [gap_us=1000]                                            wake.c */
#include "load.h"
#include "../common/bench.h"

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "echo", run_closed }, { "open", run_open }, { "idle", run_idle }, { "wake", run_wake }, { NULL, NULL }
    };
    return bench_main(argc, argv, "load", table);
}
