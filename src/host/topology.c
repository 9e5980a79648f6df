/* The machine's order: which CPU the i-th worker is bound to and which NUMA node it is on. Found out when somebody
 * asks, not before: hwloc's discovery takes a millisecond, and most programs bind nothing. Without hwloc (left out of
 * the build, or refused by the machine), the mask's own order and the nodes of sysfs serve. */
#include "host/machine.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct topology {
    int cpus, nodes; /* cpus 0: nothing is known */
    int *cpu, *node; /* for each CPU of the mask */
} topology;

static topology machine; /* fixed once `known` has run */
static pthread_once_t known = PTHREAD_ONCE_INIT;

/* Is this CPU in a list like "0-3,8,10-11"? */
static bool list_has(const char *list, int cpu) {
    while (*list) {
        char *end;
        long first = strtol(list, &end, 10), last = first;
        if (end == list) return false;
        if (*end == '-') last = strtol(end + 1, &end, 10);
        if (cpu >= first && cpu <= last) return true;
        if (*end != ',') return false;
        list = end + 1;
    }
    return false;
}

int stel__topology_sysfs(const char *root, int *cpus, int *nodes, int n) {
    int count = 0;
    char path[PATH_MAX];
    memset(nodes, 0, (size_t)n * sizeof *nodes);
    snprintf(path, sizeof path, "%s/sys/devices/system/node/has_cpu", root);
    char *with_cpus = stel__read_file(path);
    /* Node numbers may have gaps, and nodes may have no CPU of ours: count those that have one. */
    for (int node = 0; with_cpus && node < 1024; node++) {
        if (!list_has(with_cpus, node)) continue;
        snprintf(path, sizeof path, "%s/sys/devices/system/node/node%d/cpulist", root, node);
        char *list = stel__read_file(path);
        bool ours = false;
        for (int i = 0; list && i < n; i++) {
            if (!list_has(list, cpus[i])) continue;
            nodes[i] = count;
            ours = true;
        }
        if (ours) count++;
        stel__free(list);
    }
    stel__free(with_cpus);
    return count > 0 ? count : 1;
}

static void discover(void) {
    topology t = { 0 };
    t.cpus = stel__cpu_mask(&t.cpu);
    if (t.cpus <= 0) return;
    t.node = stel__alloc((size_t)t.cpus * sizeof *t.node);
    if (!t.node) {
        stel__free(t.cpu);
        return;
    }
#ifdef STELLANE_HAVE_HWLOC
    t.nodes = stel__topology_hwloc(t.cpu, t.node, t.cpus);
#endif
    if (t.nodes <= 0) t.nodes = stel__topology_sysfs("", t.cpu, t.node, t.cpus);
    machine = t;
}

int stel__cpu_bind(int i) {
    pthread_once(&known, discover);
    if (machine.cpus == 0) return -ENOSYS;
    if (i < 0) return -EINVAL;
    int cpu = machine.cpu[i % machine.cpus];
    size_t bytes = CPU_ALLOC_SIZE((size_t)cpu + 1);
    cpu_set_t *mask = stel__alloc(bytes);
    if (!mask) return -ENOMEM;
    CPU_SET_S((size_t)cpu, bytes, mask);
    int rc = stel__sys_sched_setaffinity(0, bytes, mask); /* 0: the calling thread */
    stel__free(mask);
    return rc;
}

int stel__node_count(void) {
    pthread_once(&known, discover);
    return machine.nodes > 0 ? machine.nodes : 1;
}

int stel__node_of_cpu(int i) {
    pthread_once(&known, discover);
    return machine.cpus > 0 && i >= 0 ? machine.node[i % machine.cpus] : 0;
}
