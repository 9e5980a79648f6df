/* CPUs, quotas in made-up cgroup trees, nodes in made-up sysfs trees, binding, threads, clocks, fork. */
#include "host/fault.h"
#include "host/machine.h"
#include "in_child.h"
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <time.h>

static char root[64];

/* A file in the made-up tree, with its directories. */
static void put(const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = 0;
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *f = fopen(full, "w");
    FIBER_ASSERT(f);
    fputs(text, f);
    fclose(f);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

static void tree_begin(void) {
    snprintf(root, sizeof root, P_tmpdir "/stellane-test-XXXXXX");
    FIBER_ASSERT(mkdtemp(root));
}
static void tree_end(void) {
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#define V2_MOUNT "25 22 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
#define ROOT_FS  "22 1 8:1 / / rw - ext4 /dev/root rw\n"

START_TEST(no_cgroups) {
    tree_begin();
    ck_assert_int_eq(stel__cpu_quota(root), INT_MAX);
    put("/proc/self/cgroup", "");
    put("/proc/self/mountinfo", "");
    ck_assert_int_eq(stel__cpu_quota(root), INT_MAX);
    put("/proc/self/cgroup", "0::/a\n");
    put("/proc/self/mountinfo", "garbage\n\n1 2 3\n - \n");
    ck_assert_int_eq(stel__cpu_quota(root), INT_MAX);
    tree_end();
}
END_TEST

START_TEST(version_2) {
    tree_begin();
    put("/proc/self/cgroup", "0::/user.slice/app\n");
    put("/proc/self/mountinfo", ROOT_FS V2_MOUNT);
    ck_assert_int_eq(stel__cpu_quota(root), INT_MAX);
    put("/sys/fs/cgroup/user.slice/app/cpu.max", "max 100000\n");
    ck_assert_int_eq(stel__cpu_quota(root), INT_MAX);
    static const struct {
        const char *text;
        int cpus;
    } cases[] = {
        { "100000 100000\n", 1 },  { "150000 100000\n", 2 },  { "200000 100000\n", 2 },        { "200001 100000\n", 3 },
        { "1000 100000\n", 1 },    { "400000 50000\n", 8 },   { "nonsense\n", INT_MAX },       { "", INT_MAX },
        { "0 100000\n", INT_MAX }, { "100000 0\n", INT_MAX }, { "999999999999 1\n", INT_MAX },
    };
    for (size_t i = 0; i < STEL__COUNT_OF(cases); i++) {
        put("/sys/fs/cgroup/user.slice/app/cpu.max", cases[i].text);
        ck_assert_msg(stel__cpu_quota(root) == cases[i].cpus, "%s: %d", cases[i].text, stel__cpu_quota(root));
    }
    /* The smallest on the way up counts. */
    put("/sys/fs/cgroup/user.slice/app/cpu.max", "800000 100000\n");
    put("/sys/fs/cgroup/user.slice/cpu.max", "250000 100000\n");
    ck_assert_int_eq(stel__cpu_quota(root), 3);
    put("/sys/fs/cgroup/cpu.max", "100000 100000\n"); /* a container's own root has one */
    ck_assert_int_eq(stel__cpu_quota(root), 1);
    tree_end();
}
END_TEST

START_TEST(version_1) {
    tree_begin();
    put("/proc/self/cgroup", "5:memory:/m\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/x\n");
    put("/proc/self/mountinfo", ROOT_FS "30 25 0:26 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
                                        "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup "
                                        "rw,cpu,cpuacct\n");
    ck_assert_int_eq(stel__cpu_quota(root), INT_MAX);
    put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
    ck_assert_int_eq(stel__cpu_quota(root), INT_MAX);
    put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "350000\n");
    ck_assert_int_eq(stel__cpu_quota(root), 4);
    put("/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "100000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "50000\n");
    ck_assert_int_eq(stel__cpu_quota(root), 2);
    tree_end();
}
END_TEST

/* A container that sees only its own directory: the path the kernel tells is not below the mount. */
START_TEST(in_a_container) {
    tree_begin();
    put("/proc/self/cgroup", "4:cpu:/docker/abc\n0::/docker/abc\n");
    put("/proc/self/mountinfo", "31 25 0:27 /docker/abc /sys/fs/cgroup/cpu\\040here rw - cgroup cgroup rw,cpu\n"
                                "25 22 0:23 /../elsewhere /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/cpu here/cpu.cfs_quota_us", "500000\n");
    put("/sys/fs/cgroup/cpu here/cpu.cfs_period_us", "100000\n");
    ck_assert_int_eq(stel__cpu_quota(root), 5);
    put("/sys/fs/cgroup/unified/cpu.max", "300000 100000\n");
    ck_assert_int_eq(stel__cpu_quota(root), 3);
    tree_end();
}
END_TEST

/* Many mounts, as hosts of containers have. */
START_TEST(long_mount_lists) {
    tree_begin();
    size_t room = 400000, length = 0;
    char *text = malloc(room);
    ck_assert_ptr_nonnull(text);
    while (length < room - 300)
        length +=
            (size_t)snprintf(text + length, room - length, "99 22 0:50 / /var/lib/%zu rw - overlay o rw\n", length);
    strcpy(text + length, V2_MOUNT);
    put("/proc/self/mountinfo", text);
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/cpu.max", "700000 100000\n");
    ck_assert_int_eq(stel__cpu_quota(root), 7);
    free(text);
    tree_end();
}
END_TEST

START_TEST(nodes_of_sysfs) {
    tree_begin();
    int cpus[6] = { 0, 1, 4, 5, 8, 9 }, nodes[6];
    ck_assert_int_eq(stel__topology_sysfs(root, cpus, nodes, 6), 1);
    put("/sys/devices/system/node/has_cpu", "0,2-3\n");
    put("/sys/devices/system/node/node0/cpulist", "0-1,8-9\n");
    put("/sys/devices/system/node/node1/cpulist", "\n");
    put("/sys/devices/system/node/node2/cpulist", "2-3\n"); /* none of ours */
    put("/sys/devices/system/node/node3/cpulist", "4-7\n");
    ck_assert_int_eq(stel__topology_sysfs(root, cpus, nodes, 6), 2);
    static const int want[6] = { 0, 0, 1, 1, 0, 0 };
    ck_assert_mem_eq(nodes, want, sizeof want);
    tree_end();
}
END_TEST

START_TEST(the_mask) {
    int *mask, n = stel__cpu_mask(&mask);
    ck_assert_int_ge(n, 1);
    for (int i = 1; i < n; i++)
        ck_assert_int_gt(mask[i], mask[i - 1]);
    stel__free(mask);
    int count = stel__cpu_count();
    ck_assert_int_ge(count, 1);
    ck_assert_int_le(count, n);
    stel__fault_set(STEL__FAULT_SCHED_GETAFFINITY, 1, EPERM, false);
    ck_assert_int_eq(stel__cpu_count(), 1);
    /* A kernel with more CPUs than fit the first mask: ask with a larger one. */
    stel__fault_set(STEL__FAULT_SCHED_GETAFFINITY, 1, EINVAL, false);
    ck_assert_int_eq(stel__cpu_count(), count);
}
END_TEST

static void *bind_all(void *unused) {
    (void)unused;
    int *mask, n = stel__cpu_mask(&mask);
    FIBER_ASSERT(n >= 1);
    bool used[CPU_SETSIZE] = { false };
    for (int i = 0; i < 2 * n; i++) {
        FIBER_OK(stel__cpu_bind(i));
        cpu_set_t mine;
        FIBER_ASSERT_EQ(pthread_getaffinity_np(pthread_self(), sizeof mine, &mine), 0);
        FIBER_ASSERT_EQ(CPU_COUNT(&mine), 1);
        int cpu = sched_getcpu();
        FIBER_ASSERT(CPU_ISSET(cpu, &mine));
        FIBER_ASSERT_EQ(used[cpu], i >= n); /* all of them, then from the first again */
        used[cpu] = true;
        FIBER_ASSERT(stel__node_of_cpu(i) >= 0 && stel__node_of_cpu(i) < stel__node_count());
    }
    FIBER_ASSERT_EQ(stel__cpu_bind(-1), -EINVAL);
    stel__fault_set(STEL__FAULT_SCHED_SETAFFINITY, 1, EPERM, false);
    FIBER_ASSERT_EQ(stel__cpu_bind(0), -EPERM);
    stel__free(mask);
    return NULL;
}

START_TEST(binding) {
    pthread_t thread;
    ck_assert_int_eq(stel__thread_start(&thread, "binder", bind_all, NULL), 0);
    pthread_join(thread, NULL);
}
END_TEST

static _Atomic int thread_number;

static void *look_at_myself(void *arg) {
    char name[16];
    FIBER_ASSERT_EQ(pthread_getname_np(pthread_self(), name, sizeof name), 0);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    FIBER_ASSERT(sigismember(&mask, SIGINT) == 1 && sigismember(&mask, SIGUSR1) == 1);
    FIBER_ASSERT(sigismember(&mask, SIGCHLD) == 1 && sigismember(&mask, SIGPIPE) == 1);
    FIBER_ASSERT(sigismember(&mask, SIGSEGV) == 0 && sigismember(&mask, SIGBUS) == 0);
    FIBER_ASSERT(sigismember(&mask, SIGFPE) == 0 && sigismember(&mask, SIGABRT) == 0);
    stel__thread_timer_slack();
    stel__store_release(&thread_number, stel__thread_id()); /* pairs with the load in threads */
    volatile uint64_t work = 0;
    int64_t until = stel_after(STEL_MS(3));
    while (stel_now() < until)
        work = work + 1;
    FIBER_ASSERT(stel__clock_thread(pthread_self()) > 0);
    return arg;
}

START_TEST(threads) {
    pthread_t thread;
    void *result;
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    ck_assert_int_eq(stel__thread_start(&thread, "a name that is much too long", look_at_myself, &before), 0);
    EVENTUALLY(stel__load_acquire(&thread_number) != 0); /* pairs with the store in look_at_myself */
    ck_assert_int_ne(stel__load_acquire(&thread_number), stel__thread_id());
    ck_assert_int_eq(stel__thread_id(), getpid());
    pthread_join(thread, &result);
    ck_assert_ptr_eq(result, &before);
    stel__fault_set(STEL__FAULT_PTHREAD_CREATE, 1, EAGAIN, false);
    ck_assert_int_eq(stel__thread_start(&thread, "none", look_at_myself, NULL), -EAGAIN);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int s = 1; s < 65; s++)
        ck_assert_int_eq(sigismember(&before, s), sigismember(&after, s));
}
END_TEST

START_TEST(clocks) {
    int64_t a = stel__clock_now(), b = stel_now(), c = stel__clock_now();
    ck_assert(a <= b && b <= c && a > 0);
    int64_t wall = stel__clock_realtime(), seconds = (int64_t)time(NULL);
    ck_assert_int_le(llabs(wall / 1000000000 - seconds), 2);
}
END_TEST

static void is_a_child(void *wanted) {
    FIBER_ASSERT_EQ(stel__load_relaxed(&stel__forked), *(bool *)wanted);
}

START_TEST(forks_are_seen) {
    bool no = false, yes = true;
    in_child_ok(is_a_child, &no);
    stel__fork_watch();
    stel__fork_watch();
    ck_assert(!stel__load_relaxed(&stel__forked));
    in_child_ok(is_a_child, &yes);
    ck_assert(!stel__load_relaxed(&stel__forked));
}
END_TEST

TEST_MAIN("host/machine", no_cgroups, version_2, version_1, in_a_container, long_mount_lists, nodes_of_sysfs, the_mask,
          binding, threads, clocks, forks_are_seen)
