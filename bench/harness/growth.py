"""The rows of more: more live fibers, more workers, more fibers that do not want to stop."""

from functools import lru_cache

from .catalogue import Metric, Row, Target, low_bits_sum, with_peers
from .peers import GIB

GROUPS = {
    "growth": "Growth: operations beside so many parked fibers, 1w; timers: beside so many that are set, an hour away",
    "scale": "Scaling: trees of fibers with some 3 us of work at each leaf; strong: the same tree, weak: so many leaves a worker",
    "fairness": "Fairness: how late a fiber that sleeps 1 ms is woken beside others that only yield, or spin before they do",
}
LIVE = ((1000, "1k"), (100000, "100k"), (1000000, "1M"))
LEAVES, STEPS = 20000, 2000


def growth_row(id, live, text, label, workload, params, metric="time", limit=3, **more):
    targets = (Target("P18", "<=", limit, since="grow-%s-1k" % id),) if live == 1000000 and limit else ()
    large = {"memory": 8 * GIB, "touch": 5 * GIB, "timeout": 180} if live == 1000000 else {}
    return Row(id="grow-%s-%s" % (id, text), group="growth", workload=workload, full_only=True, full_repetitions=3,
               params=params, metrics=(Metric(metric, label % text, "us" if metric == "cpu" else "ns", targets=targets),),
               **large, **more)


def growth_rows():
    for live, text in LIVE:
        yield growth_row("yield", live, text, "yield, 1,000 beside %s", "yield",
                         {"fibers": 1000, "ops": 5000000, "live": live}, checksum=lambda p: p["ops"] // 1000 * 1000)
    for live, text in LIVE:  # no target: each switch is to a stack that has long left the caches
        yield growth_row("turns", live, text, "yield, all of %s", "yield", {"fibers": live, "ops": 5000000}, limit=None,
                         checksum=lambda p: p["ops"] // p["fibers"] * p["fibers"])
    for live, text in LIVE:
        yield growth_row("spawn", live, text, "spawn + join beside %s", "spawn-join", {"ops": 1000000, "live": live},
                         checksum=lambda p: low_bits_sum(p["ops"]))
    for live, text in LIVE:
        yield growth_row("channel", live, text, "channel round trip beside %s", "channel", {"ops": 1000000, "live": live},
                         checksum=lambda p: p["ops"] * (p["ops"] + 1) // 2)
    for live, text in LIVE:
        yield growth_row("timers", live, text, "CPU a sleep, beside %s", "timers",
                         {"fibers": 5000, "run_ms": 1200, "live": live}, metric="cpu",
                         checksum=lambda p: p["fibers"] // 5, at_least=True)


# ---- workers ----

@lru_cache
def leaf(x, steps):
    for _ in range(steps):
        x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
        x ^= x >> 29
    return x


def leaf_sum(leaves, steps):
    """What the leaves of a tree add up to: there are 64 kinds."""
    return sum(len(range(kind, leaves, 64)) * leaf(kind, steps) for kind in range(64)) % 2**64


def scale_rows(cpus):
    """Over 1, 2, 4, ... workers, and as many as there are CPUs; quickly: one, and all."""
    counts = sorted({1 << i for i in range(cpus.bit_length())} | {cpus})
    for kind in ("strong", "weak"):
        for workers in counts:
            first = "scale-%s-1w" % kind
            metrics = [Metric("time", "%s, %dw: wall time a leaf" % (kind, workers), "ns")]
            if workers > 1:
                metrics.append(Metric("@efficiency", "  efficiency of a worker", "%", "more"))
            yield Row(id="scale-%s-%dw" % (kind, workers), group="scale", workload="tree", workers=workers, scale=kind,
                      since=first, metrics=tuple(metrics),
                      params={"leaves": LEAVES * (workers if kind == "weak" else 1), "steps": STEPS},
                      checksum=lambda p: leaf_sum(p["leaves"], p["steps"]), full_repetitions=7,
                      full_only=kind == "weak" or workers not in (1, cpus))


# ---- fibers that do not want to stop ----

def fairness_rows():
    for id, fibers, spin_us, words in (("yield", 1000, 0, "1,000 yield"), ("20us", 8, 20, "8 spin 20 us"),
                                       ("1ms", 8, 1000, "8 spin 1 ms")):
        for workers in (1, 2):
            yield Row(id="fair-%s-%dw" % (id, workers), group="fairness", workload="fairness", workers=workers,
                      params={"fibers": fibers, "spin_us": spin_us, "run_ms": 500}, full={"run_ms": 4000},
                      checksum=lambda p: p["run_ms"] // 250, at_least=True, repetitions=2, full_repetitions=5,
                      full_only=id == "20us" or workers == 2,
                      metrics=(Metric("p99", "%s, %dw: p99" % (words, workers), "us"),
                               Metric("p50", "  median", "us"), Metric("max", "  the worst", "us"),
                               Metric("turns", "  their turns", "/s", "more")))


def rows(cpus):
    yield from with_peers(growth_rows())
    yield from with_peers(scale_rows(cpus))
    yield from with_peers(fairness_rows())
