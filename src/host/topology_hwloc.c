/* What hwloc knows of the machine: the one file that includes it. Workers take the CPUs core by core in hwloc's logical
 * order, which puts neighbours in caches next to each other; the second hardware threads of the cores come after all of
 * the first ones, so that fewer workers than CPUs get a core each. */
#include "host/machine.h"
#include <hwloc.h>

typedef struct place {
    int cpu, thread, logical, node;
} place;

static bool before(const place *a, const place *b) {
    return a->thread != b->thread ? a->thread < b->thread : a->logical < b->logical;
}

/* False: hwloc does not know the CPU. */
static bool locate(hwloc_topology_t topology, place *p) {
    hwloc_obj_t unit = hwloc_get_pu_obj_by_os_index(topology, (unsigned)p->cpu);
    if (!unit) return false;
    hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, unit), node = NULL;
    p->logical = (int)unit->logical_index;
    p->thread = core ? (int)unit->sibling_rank : 0;
    p->node = 0;
    while ((node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != NULL)
        if (node->cpuset && hwloc_bitmap_isset(node->cpuset, (unsigned)p->cpu)) p->node = (int)node->logical_index;
    return true;
}

/* By insertion: a few hundred at most, and nearly sorted. */
static void sort(place *places, int n) {
    for (int i = 1; i < n; i++) {
        place p = places[i];
        int at = i;
        for (; at > 0 && before(&p, &places[at - 1]); at--)
            places[at] = places[at - 1];
        places[at] = p;
    }
}

/* Nodes in numbers without gaps, in the order of their first CPU: hwloc's may include nodes where we have none. */
static int number_nodes(const place *places, int *nodes, int n) {
    int count = 0;
    for (int i = 0; i < n; i++) {
        nodes[i] = count;
        for (int earlier = 0; earlier < i; earlier++) {
            if (places[earlier].node != places[i].node) continue;
            nodes[i] = nodes[earlier];
            break;
        }
        if (nodes[i] == count) count++;
    }
    return count;
}

int stel__topology_hwloc(int *cpus, int *nodes, int n) {
    hwloc_topology_t topology;
    int count = -ENOSYS;
    place *places = stel__alloc((size_t)n * sizeof *places);
    if (!places) return -ENOMEM;
    if (hwloc_topology_init(&topology) < 0) {
        stel__free(places);
        return -ENOSYS;
    }
    if (hwloc_topology_load(topology) == 0) {
        bool all = true;
        for (int i = 0; i < n && all; i++) {
            places[i].cpu = cpus[i];
            all = locate(topology, &places[i]);
        }
        if (all) {
            sort(places, n);
            for (int i = 0; i < n; i++)
                cpus[i] = places[i].cpu;
            count = number_nodes(places, nodes, n);
        }
    }
    hwloc_topology_destroy(topology);
    stel__free(places);
    return count;
}
