/* What hwloc knows of the machine: the one file that includes it. Workers take the CPUs core by core in hwloc's logical
 * order, which puts neighbours in caches next to each other; the second hardware threads of the cores come after all of
 * the first ones, so that fewer workers than CPUs get a core each.
 *
 * hwloc is not linked but loaded by whoever asks first: mapping and relocating it, and the two libraries that come with
 * it, would take a fifth of the time that a short program runs, and most bind nothing. It stays loaded. The note below
 * tells package tools of it (ELF notes of type "dlopen", as systemd's specification has them); where the library is
 * missing, or is another version than its headers, sysfs serves. */
#include "host/machine.h"
#include <dlfcn.h>
#include <hwloc.h>
#include <string.h>

#if HWLOC_API_VERSION < 0x20000 || HWLOC_API_VERSION >= 0x30000
#error "hwloc 2 is wanted: other versions have another SONAME"
#endif
#define SONAME "libhwloc.so.15"

__asm__(".pushsection .note.dlopen, \"a\"\n"
        ".balign 4\n"
        ".long 1f - 0f, 3f - 2f, 0x407c0c0a\n"
        "0: .asciz \"FDO\"\n"
        "1: .balign 4\n"
        "2: .asciz \"[{\\\"feature\\\":\\\"topology\\\",\\\"description\\\":\\\"order of CPUs and NUMA nodes\\\","
        "\\\"priority\\\":\\\"suggested\\\",\\\"soname\\\":[\\\"" SONAME "\\\"]}]\"\n"
        "3: .balign 4\n"
        ".popsection");

#define FUNCTIONS(DO)                                                                                                  \
    DO(topology_abi_check)                                                                                             \
    DO(topology_init) DO(topology_load) DO(topology_destroy) DO(get_type_depth) DO(get_obj_by_depth) DO(bitmap_isset)

/* By the names that hwloc gives them, without hwloc_. */
#define MEMBER(name) __typeof__(hwloc_##name) *name;
typedef struct library {
    FUNCTIONS(MEMBER)
} library;

typedef struct place {
    int cpu, thread, logical, node;
} place;

static bool find(void *handle, const char *name, void *function) {
    void *symbol = dlsym(handle, name);
    memcpy(function, &symbol, sizeof symbol); /* POSIX: they are alike; C has no cast for it */
    return symbol != NULL;
}

static bool load(library *l) {
    void *handle = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL);
    if (!handle) return false;
    bool all = true;
#define FIND(name) all = find(handle, "hwloc_" #name, &l->name) && all;
    FUNCTIONS(FIND)
    return all;
}

/* The n-th object of a type; NULL: there are no more. */
static hwloc_obj_t object(const library *l, hwloc_topology_t topology, hwloc_obj_type_t type, unsigned n) {
    return l->get_obj_by_depth(topology, l->get_type_depth(topology, type), n);
}

/* False: hwloc does not know the CPU. */
static bool locate(const library *l, hwloc_topology_t topology, place *p) {
    hwloc_obj_t unit, node;
    for (unsigned i = 0; (unit = object(l, topology, HWLOC_OBJ_PU, i)) != NULL; i++)
        if (unit->os_index == (unsigned)p->cpu) break;
    if (!unit) return false;
    const struct hwloc_obj *core = unit->parent;
    while (core && core->type != HWLOC_OBJ_CORE)
        core = core->parent;
    p->logical = (int)unit->logical_index;
    p->thread = core ? (int)unit->sibling_rank : 0;
    p->node = 0;
    for (unsigned i = 0; (node = object(l, topology, HWLOC_OBJ_NUMANODE, i)) != NULL; i++)
        if (node->cpuset && l->bitmap_isset(node->cpuset, (unsigned)p->cpu)) p->node = (int)node->logical_index;
    return true;
}

static bool before(const place *a, const place *b) {
    return a->thread != b->thread ? a->thread < b->thread : a->logical < b->logical;
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
    library l;
    int count = -ENOSYS;
    if (!load(&l)) return -ENOSYS;
    place *places = stel__alloc((size_t)n * sizeof *places);
    if (!places) return -ENOMEM;
    if (l.topology_init(&topology) < 0) {
        stel__free(places);
        return -ENOSYS;
    }
    if (l.topology_abi_check(topology) == 0 && l.topology_load(topology) == 0) {
        bool all = true;
        for (int i = 0; i < n && all; i++) {
            places[i].cpu = cpus[i];
            all = locate(&l, topology, &places[i]);
        }
        if (all) {
            sort(places, n);
            for (int i = 0; i < n; i++)
                cpus[i] = places[i].cpu;
            count = number_nodes(places, nodes, n);
        }
    }
    l.topology_destroy(topology);
    stel__free(places);
    return count;
}
