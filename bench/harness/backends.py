"""The rows of polling backends and modes: the same server on each of them, beside a raw epoll loop and a raw io_uring loop.
Here a line of the table is a backend and a mode, and a column a figure.

Which of them a server uses is in its environment; runner.py puts it there. A pair that the library refuses, or that
cannot be had on this machine, is not available, which is no failure."""

from dataclasses import dataclass

from .catalogue import Metric, Row

MODES = {
    "epoll": ("dedicated", "inline", "per_worker"),
    "io_uring": ("inline", "per_worker"),
    "libuv": ("dedicated", "inline", "per_worker"),
}
VARIANTS = tuple("%s/%s" % (backend, mode) for backend, modes in MODES.items() for mode in modes)
DEFAULT = "epoll/dedicated"  # what "auto" comes to: the one that the others are compared with, and that has the targets
QUICK = (DEFAULT, "io_uring/per_worker")

GROUPS = {
    "backends": "Polling backends: TCP echo, the server on one CPU, the load on another; 2w: both on both",
    "backends-idle": "Polling backends: memory of an idle connection, of 10,000",
    "backends-wake": "Polling backends: from the write to a pipe until the fiber that waited for it runs; the machine idle",
    "backends-chan": "Polling backends: from the send on a channel until the fiber that waited on the other worker runs",
}


@dataclass(frozen=True)
class Across(Row):
    """A row whose runtimes are lines and whose metrics are columns."""
    title: str = ""
    against: tuple = ()  # who the first metric is divided by
    ours: str = DEFAULT  # whose figures the targets judge


def environment(variant):
    backend, _, mode = variant.partition("/")
    return {"STELLANE_RUNTIME_BACKEND": backend, "STELLANE_RUNTIME_POLLER_MODE": mode} if mode else {}


COSTS = (Metric("server_cpu", "CPU us", ""), Metric("calls", "calls", ""), Metric("switches", "switches", ""))


def echo_row(connections, size, workers, whole):
    """Figures of one request."""
    places = "" if connections == 1 else "s", format(size, ","), ", 2w with the load" if workers == 2 else ""
    return Across(
        id="backends-%d-%s%s" % (connections, "4k" if size == 4096 else size, "-2w" if workers == 2 else ""),
        title="%s connection%s, %s bytes%s" % ((format(connections, ","),) + places), group="backends",
        workload="echo", kind="served", workers=workers, peer="raw", against=("raw", DEFAULT),
        runtimes=dict.fromkeys((VARIANTS if whole else QUICK) + ("raw", "raw-uring"), {}),
        params={"connections": connections, "bytes": size, "warm_ms": 200, "run_ms": 500, "count_ms": 80},
        full={"warm_ms": 300, "run_ms": 1000, "count_ms": 150}, full_repetitions=5,
        full_only=not (size == 64 and (connections, workers) in ((64, 1), (1000, 1), (64, 2))),
        metrics=(Metric("throughput", "req/s", "", "more"), Metric("p50", "p50 us", ""),
                 Metric("p99", "p99 us", "")) + COSTS)


def idle_row(id, title, lean, others):
    return Across(
        id=id, title=title, group="backends-idle", workload="echo", kind="served", load="idle", peer=DEFAULT,
        against=(DEFAULT,), runtimes={**{v: {"lean": lean} for v in VARIANTS}, **others},
        params={"connections": 10000}, full_only=True, full_repetitions=3,
        metrics=(Metric("fresh", "fresh B", ""), Metric("used", "used B", "")))


def wake_rows():
    """gap_us: between two, so that everybody has gone to sleep. CPU is the process's, so across two workers what the
    sender's sleeping costs is in it too."""
    pace = {"params": {"ops": 1000, "gap_us": 700}, "full": {"ops": 4000}, "full_only": True, "full_repetitions": 5}
    latency = (Metric("p50", "p50 us", ""), Metric("p99", "p99 us", ""))
    yield Across(
        id="backends-wake", title="1w, a pipe", group="backends-wake", workload="wake", kind="served", load="wake",
        peer="raw", against=("raw", DEFAULT), metrics=latency + COSTS,
        runtimes=dict.fromkeys(VARIANTS + ("raw", "raw-uring", "pthread"), {}), **pace)
    yield Across(
        id="backends-chan", title="2w, a channel", group="backends-chan", workload="wake-across", workers=2,
        peer="pthread", against=("pthread", DEFAULT), metrics=latency + (Metric("@cpu_us", "CPU us", ""),),
        runtimes=dict.fromkeys(VARIANTS + ("pthread",), {}), checksum=lambda p: p["ops"], **pace)


def rows(whole=True):
    """whole: every backend and mode; otherwise the two that the quick run compares."""
    for workers in (1, 2):
        for size in (64, 4096):
            for connections in (1, 64, 1000):
                yield echo_row(connections, size, workers, whole)
    yield idle_row("backends-idle", "a buffer of 4 KiB for each", 0, {"raw": {}, "raw-uring": {}})
    yield idle_row("backends-idle-lean", "waiting in stel_wait_fd, a buffer of 1 KiB afterwards", 1, {})
    yield from wake_rows()
