"""The machine: what it is, and whether somebody else used it while we measured."""

import os
import platform
import subprocess
import time


def read(path, otherwise=""):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return otherwise


def cpu_model():
    for line in read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware", "uarch"):
            return value.strip()
    return platform.machine()


def memory_available():
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def max_map_count():
    return int(read("/proc/sys/vm/max_map_count", "65530"))


def commit(root):
    """The commit that is measured, with a + when the tree has changes; None outside of git."""
    try:
        def git(*arguments):
            return subprocess.run(("git", "-C", root) + arguments, capture_output=True, text=True, timeout=20,
                                  check=True).stdout.strip()
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def smt_siblings():
    """Are the first two CPUs, which the two workers get, threads of one core? None: the kernel does not say."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    text = read("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list" % cpus[0]).strip()
    if len(cpus) < 2 or not text:
        return None
    ranges = [part.split("-") for part in text.split(",")]
    return any(int(r[0]) <= cpus[1] <= int(r[-1]) for r in ranges)


def distribution():
    for line in read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return None


def describe(root, compiler):
    cpu = sorted(os.sched_getaffinity(0))
    return {
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "virtual": " hypervisor" in read("/proc/cpuinfo"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "distribution": distribution(),
        "libc": " ".join(platform.libc_ver()),
        "compiler": compiler,
        "bound_to": cpu[:2],
        "smt_siblings": smt_siblings(),
        "governor": read("/sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor" % cpu[0]).strip() or None,
        "huge_pages": read("/sys/kernel/mm/transparent_hugepage/enabled").strip() or None,
        "load_before": [round(x, 2) for x in os.getloadavg()],
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "max_map_count": max_map_count(),
        "commit": commit(root),
    }


class Disturbance:
    """CPU time that went elsewhere while we measured: to the hypervisor's other guests (steal) and to processes that are
    not ours. Both as shares of one CPU, summed up over all measured stretches."""

    # More than this and the run says so. The kernel's own threads account for some per cent.
    OTHERS_SHARE, STEAL_SHARE = 0.12, 0.03

    def __init__(self):
        self.wall = self.steal = self.others = 0.0

    @staticmethod
    def snapshot():
        fields = [int(x) for x in read("/proc/stat", "cpu 0 0 0 0 0 0 0 0").split("\n", 1)[0].split()[1:9]]
        tick = os.sysconf("SC_CLK_TCK")
        user, nice, system, idle, iowait, irq, softirq, steal = fields
        t = os.times()
        own = t.user + t.system + t.children_user + t.children_system
        return time.monotonic(), (user + nice + system + irq + softirq) / tick, steal / tick, own

    def add(self, before, after):
        wall, busy, steal, own = (b - a for a, b in zip(before, after))
        self.wall += wall
        self.steal += steal
        self.others += max(0.0, busy - own)

    def merge(self, other):
        self.wall += other.wall
        self.steal += other.steal
        self.others += other.others

    def shares(self):
        wall = self.wall or 1.0
        return {"others": round(self.others / wall, 3), "steal": round(self.steal / wall, 3)}

    def text(self):
        """What disturbed, or an empty string. Too short a stretch says nothing: the clock ticks every 10 ms."""
        shares, parts = self.shares(), []
        if self.wall < 0.3:
            return ""
        if shares["others"] > self.OTHERS_SHARE:
            parts.append("other processes used %.0f %% of a CPU" % (100 * shares["others"]))
        if shares["steal"] > self.STEAL_SHARE:
            parts.append("%.0f %% of a CPU was stolen by the hypervisor" % (100 * shares["steal"]))
        return " and ".join(parts)
