/* bench-touch: touch memory and give it back, just before a workload that needs gigabytes.
 *
 *   bench-touch run [mebibytes=5120] [limit_ms=8000]
 *
 * On a virtual machine the first touch of a page that the hypervisor has not backed yet costs several microseconds more
 * than that of a page it has, and it takes free pages back some seconds after they were freed. Without this the figure
 * for creating a million fibers would say which runtime came after another that had touched as much. Elsewhere it costs
 * a second and changes nothing. */
#include "../common/bench.h"
#include <sys/mman.h>

static void run(void) {
    size_t bytes = (size_t)bench_param("mebibytes", 5120) << 20, touched = 0;
    int64_t until = bench_now() + bench_param("limit_ms", 8000) * 1000000;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) bench_fail("no address space for %zu bytes", bytes);
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    bench_start();
    for (; touched < bytes && (touched % (1 << 20) != 0 || bench_now() < until); touched += 4096)
        memory[touched] = 1;
    bench_stop();
    bench_result_ns("page", (uint64_t)touched, (int64_t)(touched / 4096));
}

int main(int argc, char **argv) {
    static const bench_workload table[] = { { "run", run }, { NULL, NULL } };
    return bench_main(argc, argv, "touch", table);
}
