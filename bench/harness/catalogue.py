"""What the suite runs: one Row a workload and size, what is shown of it, and the targets. workloads/README.md describes each
workload, peers.py says who takes part; here are only sizes and figures. growth.py has the rows of more: live fibers, workers,
fibers that do not want to stop."""

import os
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from . import peers
from .peers import GIB


class Target(NamedTuple):
    """What we aim at; a plain tuple will do. Without a peer the number stands for itself; with one it is a factor of that
    peer's figure in the same run, or, with how == "+", that figure plus the number. since: an earlier row; ours, and the
    peer's, is what the figure has grown by from there to here."""
    id: str  # of TARGETS
    comparison: str
    number: float
    peer: str = None
    how: str = None
    since: str = None


@dataclass(frozen=True)
class Metric:
    """One line of the table. name is the driver's metric, or @peak_rss_mb, @cpu_per_wall or @cpu_us of any of them, or
    @efficiency: what a worker gets done, in per cent of what the one of row.since did."""
    name: str
    label: str
    unit: str
    better: str = "less"  # or "more"
    targets: tuple = ()


@dataclass(frozen=True)
class Row:
    id: str
    group: str
    workload: str
    metrics: tuple
    runtimes: dict = field(default_factory=dict)  # filled in by rows()
    peer: str = "go"
    workers: int = 1
    params: dict = field(default_factory=dict)
    full: dict = field(default_factory=dict)  # parameters of the full run
    checksum: object = None  # of the parameters; None: the driver's own checks are all there is
    at_least: bool = False  # the checksum is a lower bound
    kind: str = "driver"  # or "echo", "served", "startup"
    load: str = "echo"  # what the load generator does for a server
    repetitions: int = 3
    full_repetitions: int = 9
    full_only: bool = False
    memory: int = 0  # bytes that must be free
    touch: int = 0  # bytes to touch and give back before each run: load/touch.c says why
    timeout: int = 60
    scale: str = ""  # "strong" or "weak": a point of a curve over workers
    since: str = ""  # the row of one worker, for @efficiency


GROUPS = {
    "switch": "Context switch by itself, in a chain of calls",
    "fibers": "Fibers",
    "sharing": "Sharing",
    "parked": "A million fibers parked, then woken",
    "timers": "Timers: 5,000 fibers, 100,000 sleeps a second",
    "echo": "TCP echo of 64 bytes: the server on one CPU, the load generator on another; 2w: both on both",
    "open": "TCP echo, open loop, 64 connections: so many requests a second, whatever the server does; latency from when "
            "each was intended",
    "idle": "Memory of an idle connection, of 10,000: fresh, and after a request each",
    "wake": "Wake-up: from the write to a pipe, or the send on a channel, until who waited runs; the machine idle",
    "files": "Files: 64 fibers, on the disk that the drivers lie on; pool: each call on the offload pool",
    "start": "Start-up: a whole process whose only fiber returns at once",
}


def low_bits_sum(n):
    """The sum of i & 1023 for i below n."""
    whole, rest = divmod(n, 1024)
    return whole * (1023 * 1024 // 2) + rest * (rest - 1) // 2


def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def switch_rows():
    for depth in (1, 4, 8):
        for fibers in (2, 1000):
            targets = ()
            if depth == 4 and fibers == 1000:
                targets = (("P1", "<=", 9), ("P1", "<=", 0.25, "fcontext"))
            yield Row(id="switch-d%d-%d" % (depth, fibers), group="switch", workload="switch", peer="fcontext",
                      params={"depth": depth, "fibers": fibers, "ops": 3000000}, full={"ops": 20000000},
                      checksum=lambda p: 2 * p["depth"] * p["ops"],
                      metrics=(Metric("time", "depth %d, %s contexts" % (depth, format(fibers, ",")), "ns",
                                      targets=targets),))


def yield_rows():
    for fibers, target in ((2, 12), (1000, 13)):
        yield Row(id="yield-%d" % fibers, group="fibers", workload="yield",
                  params={"fibers": fibers, "ops": 5000000}, full={"ops": 20000000},
                  checksum=lambda p: p["ops"] // p["fibers"] * p["fibers"],
                  metrics=(Metric("time", "yield, %s fibers, 1w" % format(fibers, ","), "ns",
                                  targets=(("P2", "<=", target),)),))


def spawn_rows():
    for workers, target in ((1, 40), (2, 90)):
        yield Row(id="spawn-join-%dw" % workers, group="fibers", workload="spawn-join", workers=workers,
                  params={"ops": 1000000}, full={"ops": 5000000},
                  checksum=lambda p: low_bits_sum(p["ops"]),
                  metrics=(Metric("time", "spawn + join one by one, %dw" % workers, "ns",
                                  targets=(("P3", "<=", target),)),))
    for workers in (1, 2):
        yield Row(id="spawn-all-%dw" % workers, group="fibers", workload="spawn-all", workers=workers,
                  params={"fibers": 10000, "rounds": 30}, full={"rounds": 200},
                  checksum=lambda p: p["rounds"] * low_bits_sum(p["fibers"]),
                  metrics=(Metric("time", "spawn 10k, join all, %dw" % workers, "ns", targets=(("P4", "<=", 120),)),))


def tree_rows():
    for workers, target in ((1, 40), (2, 25)):
        yield Row(id="skynet-%dw" % workers, group="fibers", workload="skynet", workers=workers,
                  params={"leaves": 1000000}, checksum=lambda p: p["leaves"] * (p["leaves"] - 1) // 2,
                  full_repetitions=5, timeout=180,
                  metrics=(Metric("time", "skynet, 1M leaves, %dw" % workers, "ms", targets=(("P5", "<=", target),)),
                           Metric("@peak_rss_mb", "  peak memory", "MB", targets=(("P5", "<=", 16),))))
    for workers, target in ((1, 70), (2, 40)):
        yield Row(id="fib-%dw" % workers, group="fibers", workload="fib", workers=workers,
                  params={"n": 30}, checksum=lambda p: fibonacci(p["n"]), full_repetitions=5, full_only=True,
                  metrics=(Metric("time", "fib(30), each call a fiber, %dw" % workers, "ms",
                                  targets=(("P6", "<=", target),)),))


def sharing_rows():
    for workers, target in ((1, 50), (2, 180)):
        metrics = [Metric("time", "channel round trip, %dw" % workers, "ns", targets=(("P7", "<=", target),))]
        if workers == 2:
            metrics.append(Metric("@cpu_per_wall", "  CPU / wall", "", targets=()))
        yield Row(id="channel-%dw" % workers, group="sharing", workload="channel", workers=workers,
                  params={"ops": 1000000}, full={"ops": 5000000},
                  checksum=lambda p: p["ops"] * (p["ops"] + 1) // 2, metrics=tuple(metrics))
    yield Row(id="channel-apart", group="sharing", workload="channel", workers=2, peer="pthread",
              params={"ops": 50000, "apart": 1}, full={"ops": 500000},
              checksum=lambda p: p["ops"] * (p["ops"] + 1) // 2,
              metrics=(Metric("time", "  forced onto two workers", "ns"),))
    for yield_every, targets in ((0, (7, 12)), (10, (45, 65))):
        for workers, target in zip((1, 2), targets):
            label = "  yield inside one in ten, %dw" if yield_every else "mutex, 1000 x 1000, %dw"
            yield Row(id="mutex-%s%dw" % ("yield-" if yield_every else "", workers), group="sharing",
                      workload="mutex", workers=workers,
                      params={"fibers": 1000, "each": 1000, "yield_every": yield_every},
                      full={"each": 5000}, checksum=lambda p: p["fibers"] * p["each"],
                      metrics=(Metric("time", label % workers, "ns", targets=(("P8", "<=", target),)),))


def parked_rows(max_map_count):
    for id, name, target in (("64k", "64 KiB", 4450), ("default", "default", 4850)):
        yield Row(id="parked-%s" % id, group="parked", workload="parked",
                  params={"fibers": 1000000}, checksum=lambda p: p["fibers"], repetitions=1, full_repetitions=3,
                  memory=8 * GIB, touch=5 * GIB, timeout=180,
                  metrics=(Metric("bytes", "%s stacks: bytes a fiber" % name, "B", targets=(("P9", "<=", target),)),
                           Metric("create", "  create one", "ns", targets=(("P9", "<=", 2500),)),
                           Metric("wake", "  wake one, until it has ended", "ns", targets=(("P9", "<=", 240),)),
                           Metric("map_lines", "  lines in /proc/self/maps", "", targets=(("P9", "<=", max_map_count),)),
                           Metric("unguarded", "  stacks without a guard", "", targets=(("P9", "<=", 0),))))


def timer_rows():
    yield Row(id="timers", group="timers", workload="timers",
              params={"fibers": 5000, "run_ms": 1200}, full={"run_ms": 5000},
              checksum=lambda p: p["fibers"] // 5, at_least=True, full_repetitions=5,
              metrics=(Metric("p50", "overshoot, median", "us", targets=(("P10", "<=", 25),)),
                       Metric("p99", "overshoot, p99", "us", targets=(("P10", "<=", 85),)),
                       Metric("cpu", "CPU a sleep", "us", targets=(("P10", "<=", 1.0),))))


def echo_rows():
    growth = (Target("P18", "<=", 1.15, "raw", since="echo-64"),)
    for id, connections, workers, targets in (
            ("echo-1", 1, 1, ((("P13", ">=", 40000),), (), ())),
            ("echo-64", 64, 1, ((("P11", ">=", 0.97, "raw"),), (), (("P11", "<=", 0.3, "raw", "+"),))),
            ("echo-1000", 1000, 1, ((("P12", ">=", 0.95, "raw"),), (("P12", "<=", 1.5, "raw"),), growth)),
            ("echo-10000", 10000, 1, ((), (), growth)),
            ("echo-64-2w", 64, 2, ((("P14", ">=", 1.24, "raw"),), (), ()))):
        where = ", 2w with the load" if workers == 2 else ""
        label = "%s connection%s%s" % (format(connections, ","), "" if connections == 1 else "s", where)
        yield Row(id=id, group="echo", workload="echo", kind="echo", workers=workers, peer="raw",
                  params={"connections": connections, "warm_ms": 150, "run_ms": 450},
                  full={"warm_ms": 500, "run_ms": 3000}, full_repetitions=7, full_only=connections == 10000,
                  metrics=(Metric("throughput", label, "req/s", "more", targets[0]),
                           Metric("p50", "  latency, median", "us"),
                           Metric("p99", "  latency, p99", "us", targets=targets[1]),
                           Metric("server_cpu", "  server CPU a request", "us", targets=targets[2])))


def open_rows():
    """Shares of what the raw loop reaches in the closed one: the same rate for everybody, on a slow machine too. At a quarter
    nobody is short of CPU time: it is the latency of the way through the runtime. A half nearly everybody reaches. Four
    fifths takes a runtime that costs little: a server that stays behind is marked."""
    for percent in (25, 50, 80):
        yield Row(id="open-%d" % percent, group="open", workload="echo", kind="served", load="open", peer="raw",
                  params={"connections": 64, "rate_percent": percent, "warm_ms": 200, "run_ms": 600},
                  full={"warm_ms": 500, "run_ms": 3000}, full_repetitions=5, full_only=percent != 50,
                  metrics=(Metric("latency_p50", "%d %% of raw's rate, median" % percent, "us"),
                           Metric("latency_p90", "  p90", "us"), Metric("latency_p99", "  p99", "us"),
                           Metric("latency_p999", "  p99.9", "us"), Metric("latency_max", "  the worst", "us"),
                           Metric("server_cpu", "  server CPU a request", "us")))


def idle_rows():
    for id, label, targets in (
            ("idle", "4 KiB each", (("P15", "<=", 9100),)),
            ("idle-lean", "lean, 1 KiB when needed", (("P15", "<=", 4900),))):
        yield Row(id=id, group="idle", workload="echo", kind="served", load="idle", params={"connections": 10000},
                  repetitions=1, full_repetitions=3, timeout=180,
                  metrics=(Metric("used", label + ", used", "B", targets=targets),
                           Metric("fresh", "  fresh", "B", targets=targets)))


def wake_rows():
    """gap_us: so that everybody sleeps in between."""
    pace = {"params": {"ops": 500, "gap_us": 700}, "full": {"ops": 4000}, "group": "wake", "full_repetitions": 5}
    yield Row(id="wake-pipe", workload="wake", kind="served", load="wake", peer="raw", **pace,
              metrics=(Metric("p50", "a pipe, 1w, median", "us"), Metric("p99", "  p99", "us"),
                       Metric("server_cpu", "  CPU a wake-up", "us")))
    yield Row(id="wake-across", workload="wake-across", workers=2, peer="pthread", checksum=lambda p: p["ops"], **pace,
              metrics=(Metric("p50", "a channel, 2w, median", "us"), Metric("p99", "  p99", "us"),
                       Metric("@cpu_us", "  CPU a wake-up, and a sleep", "us")))


# ---- files ----

def file_row(id, label, workload, checksum, params, workers=1, unit="/s", target=None, full=None):
    targets = (("F1", ">=", target, "pool"),) if target else ()
    return Row(id=id, group="files", workload=workload, workers=workers, peer="pool",
               params=params, full=full or {}, checksum=checksum,
               metrics=(Metric("rate", label, unit, "more", targets), Metric("@cpu_us", "  CPU each", "us")))


def file_rows():
    pages = lambda p: p.get("rounds", 1) * p["pages"] * (p["pages"] - 1) // 2
    appended = lambda p: p["fibers"] * p["rounds"]
    random = {"pages": 8192, "fibers": 64}
    larger = {"pages": 65536}
    yield file_row("file-cached", "4 KiB random reads, cached", "read", pages, dict(random, rounds=4))
    yield file_row("file-cold", "4 KiB random reads, cold", "read", pages, dict(random, cold=1), target=1.5, full=larger)
    yield file_row("file-direct", "4 KiB random reads, O_DIRECT", "read", pages, dict(random, direct=1), target=1.5,
                   full=larger)
    yield file_row("file-through", "1 MiB reads, one after the other, cold", "read-through", pages,
                   {"pages": 16384, "cold": 1}, unit="MB/s", full=larger)
    yield file_row("file-append", "4 KiB appends, each fsync'd, one file, 2w", "append", appended,
                   {"fibers": 64, "rounds": 25, "files": 1}, workers=2, target=1.5, full={"rounds": 200})
    yield file_row("file-append-own", "  a file each, 2w", "append", appended, {"fibers": 64, "rounds": 25, "files": 64},
                   workers=2, full={"rounds": 200})


def start_rows():
    yield Row(id="start", group="start", workload="start", kind="startup", peer="pthread",
              params={"times": 30}, full={"times": 200},
              metrics=(Metric("wall", "wall time", "ms", targets=(("P17", "<=", 1.5),)),))


def rows(max_map_count=65530):
    """All rows, in the order of the table."""
    for part in (switch_rows(), yield_rows(), spawn_rows(), tree_rows(), sharing_rows(), parked_rows(max_map_count),
                 timer_rows(), echo_rows(), open_rows(), idle_rows(), wake_rows(), file_rows(), start_rows()):
        yield from with_peers(part)


def with_peers(part):
    for row in part:
        yield replace(row, runtimes=peers.of(row.id, row.workload, row.workers))


# What the source documents expected of the design. Printed beside our figures, not promised, not our targets.
EXPECTATIONS = (
    ("E26", "spawn 500,000 fibers a second (on 4 workers)", "spawn-all-2w", "time",
     lambda ns: "%s a second on 2" % format(int(1e9 / ns), ",")),
    ("E27", "a context switch in 200 ns", "yield-1000", "time", lambda ns: "%.1f ns (yield, 1,000 fibers)" % ns),
    ("E28", "stealing near-linear up to 4 workers", "scale-strong-2w", "@efficiency",
     lambda percent: "%.0f %% of linear on 2" % percent),
    ("E29", "timers precise to 5-10 ms", "timers", "p99", lambda us: "%.3f ms (p99)" % (us / 1000)),
    ("E30", "less than 100 bytes a task, which has no stack", "parked-64k", "bytes",
     lambda b: "%s a fiber, a touched page of its stack and %.0f more" % (format(round(b), ","),
                                                                         b - os.sysconf("SC_PAGE_SIZE"))),
)
