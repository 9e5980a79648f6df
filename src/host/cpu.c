/* How many CPUs are ours: the affinity mask (which cpusets shape too) and the quotas of the cgroups we are in.
 *
 * A quota is found where the kernel says that we are: /proc/self/cgroup gives our path in each hierarchy, and
 * /proc/self/mountinfo where that hierarchy is mounted and which of its directories the mount shows. The quota of every
 * directory from ours up to the mount counts, the smallest wins. Version 2 keeps "quota period" or "max period" in
 * cpu.max, version 1 two files, with -1 for no limit. In a container our path may not be visible below the mount (no
 * cgroup namespace, one directory mounted): then the mount itself is where we are. */
#include "host/machine.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CPUS_MAX = 1 << 20, FILE_BYTES_MAX = 16 << 20 };

char *stel__read_file(const char *path) {
    int fd = stel__sys_open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return NULL;
    size_t room = 4096, length = 0;
    char *text = stel__alloc(room);
    while (text) {
        ssize_t n = stel__sys_read(fd, text + length, room - length - 1);
        if (n == 0) break;
        if (n > 0) length += (size_t)n;
        char *larger = NULL;
        if (n > 0 && room < FILE_BYTES_MAX) {
            if (room - length > 1) continue;
            larger = stel__alloc(room * 2);
            if (larger) memcpy(larger, text, length);
            room *= 2;
        }
        stel__free(text);
        text = larger;
    }
    (void)stel__sys_close(fd);
    return text;
}

/* ---- quotas ---- */

typedef struct hierarchy {
    bool version2;
    char path[PATH_MAX]; /* ours in it */
} hierarchy;

static int ceiling(long long quota, long long period) {
    if (quota <= 0 || period <= 0) return INT_MAX;
    long long cpus = quota / period + (quota % period != 0);
    return cpus < INT_MAX ? (int)cpus : INT_MAX;
}

/* The quota that one directory sets. */
static int quota_of(const char *directory, bool version2) {
    char path[PATH_MAX + 32];
    int cpus = INT_MAX;
    snprintf(path, sizeof path, "%s/%s", directory, version2 ? "cpu.max" : "cpu.cfs_quota_us");
    char *quota = stel__read_file(path);
    if (!quota) return INT_MAX;
    if (version2) {
        char *rest;
        long long most = strtoll(quota, &rest, 10);
        if (rest != quota) cpus = ceiling(most, strtoll(rest, NULL, 10));
    } else {
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory);
        char *period = stel__read_file(path);
        if (period) cpus = ceiling(strtoll(quota, NULL, 10), strtoll(period, NULL, 10));
        stel__free(period);
    }
    stel__free(quota);
    return cpus;
}

/* From mount + path up to the mount. */
static int quota_upwards(const char *mount, const char *path, bool version2) {
    char directory[PATH_MAX];
    size_t bottom = strlen(mount);
    int n = snprintf(directory, sizeof directory, "%s%s", mount, path);
    if (n < 0 || (size_t)n >= sizeof directory) return INT_MAX;
    int least = INT_MAX;
    for (;;) {
        int cpus = quota_of(directory, version2);
        if (cpus < least) least = cpus;
        char *slash = strrchr(directory, '/');
        if (!slash || (size_t)(slash - directory) < bottom) return least;
        *slash = 0;
    }
}

/* Does the comma-separated list have this word? */
static bool has_word(const char *list, size_t length, const char *word) {
    size_t n = strlen(word);
    while (length > 0) {
        size_t part = 0;
        while (part < length && list[part] != ',')
            part++;
        if (part == n && memcmp(list, word, n) == 0) return true;
        size_t step = part < length ? part + 1 : part;
        list += step;
        length -= step;
    }
    return false;
}

/* Our path in the hierarchy of this version: lines are "number:controllers:path", version 2 is "0::path". */
static bool find_path(const char *cgroups, hierarchy *h) {
    for (const char *line = cgroups; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *controllers = strchr(line, ':');
        const char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) return false;
        size_t n = (size_t)(path - controllers - 1), length = strcspn(path + 1, "\n");
        bool ours = h->version2 ? strncmp(line, "0::", 3) == 0 : has_word(controllers + 1, n, "cpu");
        if (!ours || length >= sizeof h->path) continue;
        memcpy(h->path, path + 1, length);
        h->path[length] = 0;
        return true;
    }
    return false;
}

/* mountinfo writes blanks and the like as \040. In place. */
static void unescape(char *text) {
    char *to = text;
    for (char *from = text; *from;) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] && from[3]) {
            *to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to++ = *from++;
        }
    }
    *to = 0;
}

/* One line of mountinfo: id parent device directory-shown mount-point options [optional ...] - type source options.
 * Cut apart in place; false: not this hierarchy. */
static bool parse_mount(char *line, const hierarchy *h, char **shown, char **mount) {
    char *tail = strstr(line, " - "), *rest = NULL, *field = strtok_r(line, " ", &rest);
    if (!tail || !field) return false;
    tail += 3;
    for (int i = 0; i < 3 && field; i++)
        field = strtok_r(NULL, " ", &rest);
    *shown = field;
    *mount = strtok_r(NULL, " ", &rest);
    if (!*shown || !*mount || *mount > tail) return false;
    char *type = strtok_r(tail, " ", &rest);
    char *source = strtok_r(NULL, " ", &rest), *options = strtok_r(NULL, " ", &rest);
    if (!type || !source || !options || strcmp(type, h->version2 ? "cgroup2" : "cgroup") != 0) return false;
    if (!h->version2 && !has_word(options, strlen(options), "cpu")) return false;
    unescape(*shown);
    unescape(*mount);
    return true;
}

/* mounts is cut apart. */
static int quota_of_hierarchy(const char *root, const hierarchy *h, char *mounts) {
    char *rest = NULL, *shown, *mount, point[PATH_MAX];
    for (char *line = strtok_r(mounts, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (!parse_mount(line, h, &shown, &mount)) continue;
        const char *path = h->path;
        size_t n = strcmp(shown, "/") == 0 ? 0 : strlen(shown);
        if (strncmp(path, shown, n) == 0 && (path[n] == '/' || path[n] == 0))
            path += n;
        else
            path = ""; /* not visible from here */
        if (strcmp(path, "/") == 0) path = "";
        snprintf(point, sizeof point, "%s%s", root, mount);
        return quota_upwards(point, path, h->version2);
    }
    return INT_MAX;
}

/* What is read once is cut apart twice. */
static char *copy_of(const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = stel__alloc(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

int stel__cpu_quota(const char *root) {
    int least = INT_MAX;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    char *cgroups = stel__read_file(path);
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    char *mounts = cgroups ? stel__read_file(path) : NULL; /* a tenth of a millisecond's work for the kernel */
    for (int version = 2; version >= 1 && mounts; version--) {
        hierarchy h = { .version2 = version == 2 };
        if (!find_path(cgroups, &h)) continue;
        char *copy = copy_of(mounts);
        int cpus = copy ? quota_of_hierarchy(root, &h, copy) : INT_MAX;
        if (cpus < least) least = cpus;
        stel__free(copy);
    }
    stel__free(mounts);
    stel__free(cgroups);
    return least;
}

/* ---- the mask ---- */

static int list_mask(const cpu_set_t *mask, size_t bytes, int **out) {
    int n = CPU_COUNT_S(bytes, mask), found = 0;
    if (n <= 0) return -ENOENT;
    int *list = stel__alloc((size_t)n * sizeof *list);
    if (!list) return -ENOMEM;
    for (size_t cpu = 0; found < n; cpu++)
        if (CPU_ISSET_S(cpu, bytes, mask)) list[found++] = (int)cpu;
    *out = list;
    return n;
}

int stel__cpu_mask(int **out) {
    for (size_t cpus = 1024; cpus <= CPUS_MAX; cpus *= 2) {
        size_t bytes = CPU_ALLOC_SIZE(cpus);
        cpu_set_t *mask = stel__alloc(bytes);
        if (!mask) return -ENOMEM;
        /* The main thread's: the caller may be a worker that is bound already. */
        int rc = stel__sys_sched_getaffinity(getpid(), bytes, mask);
        if (rc >= 0) rc = list_mask(mask, bytes, out);
        stel__free(mask);
        if (rc != -EINVAL) return rc;
        /* The kernel has more CPUs than fit. */
    }
    return -EINVAL;
}

int stel__cpu_count(void) {
    int *mask, cpus = stel__cpu_mask(&mask);
    if (cpus > 0) stel__free(mask);
    if (cpus <= 1) return 1; /* a quota cannot make it less */
    int quota = stel__cpu_quota("");
    return quota < cpus ? quota : cpus;
}
