"""Results for the tests of the benchmarks' harness: made by the code that makes real ones, out of figures that are chosen.
Run by itself: writes one with everything in it as JSON to stdout."""

import json
import os
import sys

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))

from harness import backends, catalogue, machine, result, suite  # noqa: E402

MANY = ["stellane", "go"] + ["peer%02d" % i for i in range(18)]
MACHINE = {"cpu": "Abacus", "cpus": 2, "virtual": False, "memory_bytes": 1 << 34, "kernel": "6.1", "compiler": "GNU 12.2.0",
           "load_before": [0.0, 0.0, 0.0], "date": "2026-01-02T03:04:05+0000", "commit": "0123456789ab"}


def run_of(value, **more):
    """What one run of a driver found."""
    return {"values": value if isinstance(value, dict) else {"time": value}, "wall_ns": 1000000, "cpu_ns": 990000,
            "peak_rss_bytes": 5000000, "operations": 1000, "checksum": 1, "curve": [], **more}


def make_row(id="yield-2", figures=None, cells=None, targets=(), better="less", disturbed=False, params=None, **more):
    """figures: {runtime: [values of its runs]}; cells: those that have none."""
    figures = {"stellane": [10.0, 11.0, 12.0], "go": [40.0, 41.0, 42.0]} if figures is None else figures
    runs = {name: [v if isinstance(v, dict) else run_of(v) for v in values] for name, values in figures.items()}
    runtimes = dict.fromkeys(list(figures) + list(cells or {}), {})
    row = catalogue.Row(id=id, group=more.pop("group", "fibers"), workload="yield", runtimes=runtimes,
                        metrics=more.pop("metrics", (catalogue.Metric("time", id + ", 1w", "ns", better, targets),)))
    scale, workers = more.pop("scale", None), more.pop("workers", 1)
    disturbance = machine.Disturbance()
    disturbance.wall, disturbance.others = 1.0, 0.5 if disturbed else 0.0
    made = suite.row_result(row, params or {"ops": 1000}, max((len(v) for v in figures.values()), default=1), cells or {}, runs,
                            disturbance, [])
    return {**made, "workers": workers, **({"scale": scale} if scale else {}), **more}


def make_across():
    names = (backends.DEFAULT, "io_uring/per_worker", "raw")
    row = next(r for r in backends.rows(False))
    values = [{m.name: 10.0 + i for i, m in enumerate(row.metrics)} for _ in names]
    runs = {name: [run_of(v), run_of(v)] for name, v in zip(names, values)}
    cells = {name: {"status": "not available", "reason": "old kernel"} for name in row.runtimes if name not in names}
    return suite.row_result(row, row.params, 2, cells, runs, machine.Disturbance(), [])


def make_document(rows, **more):
    names = {name for row in rows for m in row["metrics"] for name in m["runtimes"]}
    document = {"format": result.FORMAT, "run": "quick", "interrupted": False, "only": [], "runtimes": [], "seconds": 12,
                "machine": MACHINE, "peers": {name: {"available": True, "text": name + " 1.0"} for name in sorted(names)},
                "disturbed": "", "disturbance": {"others": 0.0, "steal": 0.0},
                "groups": {row["group"]: suite.GROUPS[row["group"]] for row in rows}, "rows": rows, **more}
    return json.loads(json.dumps(document))  # as it comes back from a file


def spread_out(base, i):
    middle = base * (1 + 0.35 * i)
    return [middle * f for f in (0.97, 1.0, 1.05)]


def everything():
    """Twenty runtimes, latency curves, scaling, a row across, failures, a disturbed row."""
    rows = [make_row("yield-%d" % n, {name: spread_out(10.0 * n, i) for i, name in enumerate(MANY)},
                     targets=(("P2", "<=", 12), ("P2", "<=", 0.9, "go"))) for n in (1, 2)]
    rows.append(make_row("spawn-all", {name: spread_out(10.0 * 4 ** (i % 5), i) for i, name in enumerate(MANY)}, disturbed=True))
    rows.append(make_row("broken", {"stellane": [1.0], "go": [2.0]}, {"peer00": {"status": "failed", "reason": "it <b>fell</b>"},
                                                                       "peer01": {"status": "not installed", "reason": "gone"}}))
    shares = (0.5, 0.9, 0.99, 0.999)
    metrics = (catalogue.Metric("throughput", "64 connections", "req/s", "more", (("P11", ">=", 0.97, "raw"),)),
               catalogue.Metric("p99", "  latency, p99", "us"))
    echo = {name: [run_of({"throughput": 100e3 - 4e3 * i, "p99": 90.0 + 9 * i}, limit="load" if i == 0 else None,
                          curve=[[s, 20.0 * (1 + 0.2 * i) * 3 ** k] for k, s in enumerate(shares)])] * 3
            for i, name in enumerate(["stellane", "raw"] + MANY[1:])}
    rows.append(make_row("echo-64", echo, metrics=metrics, group="echo"))
    for workers in (1, 2, 4):
        rows.append(make_row("strong-%dw" % workers, {name: [100.0 / workers ** (1 - 0.05 * i)] * 3
                                                      for i, name in enumerate(MANY[:6])}, scale="strong", workers=workers))
    for live, text in ((1000, "1k"), (100000, "100k"), (1000000, "1M")):
        rows.append(make_row("grow-yield-" + text, {name: [10.0 * (1 + i * live / 1e6)] * 3 for i, name in enumerate(MANY[:3])},
                             group="growth", params={"fibers": 1000, "live": live}))
    rows.append(make_across())
    return make_document(rows, disturbed="other processes used 50 % of a CPU")


if __name__ == "__main__":
    json.dump(everything(), sys.stdout)
