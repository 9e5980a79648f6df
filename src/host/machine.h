/* Inside host only: what cpu.c, topology.c and topology_hwloc.c share. */
#ifndef STEL_HOST_MACHINE_H
#define STEL_HOST_MACHINE_H

#include "host/host.h"

/* CPUs that the cgroups below root (normally "") allow, rounded up: INT_MAX when there is no limit. */
int stel__cpu_quota(const char *root);
/* The numbers of the CPUs that the process may run on, ascending, in memory to be freed; how many, or negative. */
int stel__cpu_mask(int **out);

/* A whole file with a 0 behind it, in memory to be freed; NULL when it cannot be read. */
char *stel__read_file(const char *path);

/* Sort n CPU numbers into the order in which workers take them, and say of each which NUMA node it is on (numbered from
 * 0 without gaps). Returns the number of nodes, or a negative value: it cannot tell. */
int stel__topology_hwloc(int *cpus, int *nodes, int n); /* topology_hwloc.c; only in builds with hwloc */
int stel__topology_sysfs(const char *root, int *cpus, int *nodes, int n); /* keeps the order as it is */

#endif
