"""One run of the suite: which rows, who takes part in each, the repetitions in turn, and the result that becomes the JSON
file (result.py), the table (table.py) and the report (report.py)."""

import os
import statistics
import time
from dataclasses import replace

from . import backends, catalogue, growth, machine, peers, result, runner
from .stats import judge, summary, verdict

# The quick run must end within five minutes on a slow machine too: after so many seconds everything that is left is
# measured once only.
QUICK_SECONDS = 160
GROUPS = {**catalogue.GROUPS, **growth.GROUPS, **backends.GROUPS}


def all_rows(whole=True):
    """In the order of the table. whole: with every polling backend and mode."""
    yield from catalogue.rows(machine.max_map_count())
    yield from growth.rows(len(os.sched_getaffinity(0)))
    yield from backends.rows(whole)


def names(row):
    """What it is called by --only."""
    if isinstance(row, backends.Across):
        return row.id, row.group.split("-")[0]
    return row.id, row.group, row.workload


def title(row):
    return row.title if isinstance(row, backends.Across) else row.metrics[0].label.strip()


def choose(only, full, asked_runtimes=()):
    """The rows to run, each with the runtimes that it is to have."""
    across = any(name.startswith("backends") for name in only)
    for row in all_rows(full or across):
        asked_for = row.id in only or (across and isinstance(row, backends.Across))
        if row.full_only and not full and not asked_for:
            continue
        if only and not any(name in names(row) for name in only):
            continue
        if isinstance(row, backends.Across) or full or only:
            yield row
        else:  # a quick run of everything has no time for all
            yield replace(row, runtimes={name: entry for name, entry in row.runtimes.items()
                                         if name in peers.QUICK or name in asked_runtimes})


def costs(row, runs):
    """CPU time and memory beside the row's figures, as metrics of their own: what the runs of each runtime took."""
    time_metric = next((m for m in row.metrics if m.name in ("time", "wall")), None)
    shown = {m.name for m in row.metrics}
    cpu, memory = {}, {}
    for runtime, samples in runs.items():
        shares = [s["cpu_ns"] / s["wall_ns"] for s in samples if s.get("wall_ns") and "cpu_ns" in s]
        if time_metric and shares and len(shares) == len(samples):
            shares = [share * s["values"].get(time_metric.name, 0) for share, s in zip(shares, samples)]
        if shares:
            cpu[runtime] = {"status": "ok", **summary(shares)}
        peaks = [s["peak_rss_bytes"] / 1e6 for s in samples if s.get("peak_rss_bytes")]
        if peaks:
            memory[runtime] = {"status": "ok", **summary(peaks)}
    if cpu and not shown & {"@cpu_us", "@cpu_per_wall", "server_cpu", "cpu"}:
        label, unit = ("  CPU time", time_metric.unit) if time_metric else ("  CPU / wall", "")
        yield {"metric": "cost_cpu", "label": label, "unit": unit, "runtimes": cpu}
    if memory and "@peak_rss_mb" not in shown:
        yield {"metric": "cost_memory", "label": "  peak memory", "unit": "MB", "runtimes": memory}


def curves(runs):
    """{runtime: [[share, latency], ...]}: the median over the runs of each percentile."""
    found = {}
    for runtime, samples in runs.items():
        points = {}
        for sample in samples:
            for share, value in sample.get("curve", ()):
                points.setdefault(share, []).append(value)
        if len(points) > 1:
            found[runtime] = [[share, statistics.median(points[share])] for share in sorted(points)]
    return found


def compare(row, metrics):
    """Each line of a row that lies across, divided by each of those it is compared with."""
    for metric in metrics:
        ok = {name: cell for name, cell in metric["runtimes"].items() if cell["status"] == "ok"}
        for name, cell in ok.items():
            cell["against"] = {peer: verdict(cell, ok[peer], metric["better"]) if peer in ok and peer != name
                               else (None, None) for peer in row.against}
        metric["targets"] = [judge(t, ok, row.ours) for m in row.metrics if m.name == metric["metric"]
                             for t in m.targets]


def earlier_cells(results, metric):
    """{row's id: {runtime: cell}} of one metric."""
    return {r["id"]: m["runtimes"] for r in results for m in r["metrics"] if m["metric"] == metric}


def efficiencies(row, samples, first):
    """What a worker got done in each run, in per cent of what the one of an earlier row did. first: that row's cell."""
    alone = first.get("median") if first else None
    return [100 * alone / (row.workers * s["values"]["time"]) for s in samples] if alone else []


def metric_result(row, metric, cells, runs, results):
    shown, earlier = {}, earlier_cells(results, metric.name)
    for runtime in row.runtimes:
        if runtime in cells:
            shown[runtime] = cells[runtime]
            continue
        numbers = [s["values"][metric.name] for s in runs[runtime] if metric.name in s["values"]]
        if metric.name == "@efficiency":
            numbers = efficiencies(row, runs[runtime], earlier_cells(results, "time").get(row.since, {}).get(runtime))
        if numbers:
            limits = [s.get("limit") for s in runs[runtime]]
            shown[runtime] = {"status": "ok", **summary(numbers),
                              "limit": next((l for l in ("load", "both", "behind") if l in limits), None)}
    ok = {name: cell for name, cell in shown.items() if cell["status"] == "ok"}
    ratio = mark = None
    if "stellane" in ok and row.peer in ok:
        ratio, mark = verdict(ok["stellane"], ok[row.peer], metric.better)
    return {"metric": metric.name, "label": metric.label, "unit": metric.unit, "better": metric.better, "runtimes": shown,
            "peer": row.peer, "ratio": ratio, "verdict": mark, "targets": [judge(t, ok, earlier=earlier) for t in metric.targets]}


def row_result(row, params, planned, cells, runs, disturbance, results):
    """The row as it goes into the JSON file and the table. results: of the rows before it."""
    metrics = [metric_result(row, metric, cells, runs, results) for metric in row.metrics]
    more = {}
    if isinstance(row, backends.Across):
        compare(row, metrics)
        more = {"layout": "across", "ours": row.ours, "against": list(row.against)}
    if row.scale:
        more["scale"] = row.scale
    return {"id": row.id, "title": title(row), "group": row.group, "workload": row.workload, "workers": row.workers, **more,
            "params": params, "metrics": metrics,
            "costs": [{**cost, "better": "less", "peer": row.peer, "ratio": None, "verdict": None, "targets": []}
                      for cost in costs(row, runs)],
            "curves": curves(runs), "runs": runs, "repetitions": planned,
            "disturbed": disturbance.text(), "disturbance": disturbance.shares()}


class Suite:
    """options: as bench/run parses them. built: {runtime: {available, text}}."""

    def __init__(self, options, built, described, table, progress):
        self.options, self.peers, self.machine = options, built, described
        self.table, self.progress = table, progress
        self.cpus = sorted(os.sched_getaffinity(0))
        self.start = time.monotonic()
        self.results = []
        self.raw_rates = {}  # connections: requests a second
        self.disturbance = machine.Disturbance()
        self.interrupted = False

    def clock(self):
        return time.monotonic() - self.start

    def excuse(self, row, runtime):
        """Why this runtime does not run this row here, as a cell; None when it does."""
        entry = row.runtimes[runtime]
        if isinstance(entry, peers.Not):
            enough = entry.full and self.options.full and machine.memory_available() >= entry.memory
            if not enough:
                return {"status": "not run", "reason": entry.reason}
        peer = self.peers.get(runner.driver(runtime), {"available": False, "text": "not built"})
        if not peer["available"]:
            return {"status": "not installed", "reason": peer["text"]}
        if runner.driver(runtime) == "stellane" or not self.options.runtime or runtime in self.options.runtime:
            return None
        return {"status": "not run", "reason": "not asked for"}

    def row_excuse(self, row):
        """Why nobody runs this row here; an empty string when they do."""
        if row.workers > len(self.cpus):
            return "needs %d CPUs" % row.workers
        if row.memory and machine.memory_available() < row.memory:
            return "needs %d GiB of free memory" % (row.memory // peers.GIB)
        if row.params.get("connections", 0) + 64 > self.descriptors:
            return "needs %d descriptors" % (row.params["connections"] + 64)
        if "rate_percent" in row.params and len(self.cpus) < 2:
            return "needs a CPU for the load generator alone"
        if "rate_percent" in row.params and not self.raw_rate(row):
            return "takes a share of what the raw loop reaches, and that cannot be run"
        return ""

    def raw_rate(self, row):
        """Requests a second of the raw loop on as many connections, in a closed loop: the best of three, because what
        disturbs it only ever makes it slower. Measured when it is first asked for."""
        connections = row.params["connections"]
        if connections not in self.raw_rates:
            closed = replace(row, load="echo", metrics=(catalogue.Metric("throughput", "", "", "more"),))
            params = {"connections": connections, "warm_ms": 100, "run_ms": 300}
            try:
                found = [runner.run_served(closed, self.options.build, "raw", params, self.cpus[:2]) for _ in range(3)]
                self.raw_rates[connections] = max(f["values"]["throughput"] for f in found)
            except (runner.Failed, runner.Unavailable):
                self.raw_rates[connections] = 0
        return self.raw_rates[connections]

    def row_params(self, row):
        params = {**row.params, **(row.full if self.options.full else {})}
        if "rate_percent" in params:
            params["rate"] = round(self.raw_rate(row) * params["rate_percent"] / 100)
        return params

    def parameters(self, row, runtime):
        entry = row.runtimes[runtime]
        own = entry.params if isinstance(entry, peers.Not) else entry
        # What is a runtime's own (a hundredth of the operations) holds in the full run as well.
        return {**self.row_params(row), **own}

    def repetitions(self, row):
        return self.options.repetitions or (row.full_repetitions if self.options.full else row.repetitions)

    def take_part(self, row):
        """{runtime: cell} of those that do not, {runtime: []} of those that do."""
        excuse = self.row_excuse(row)
        cells = {}
        for runtime in row.runtimes:
            why_not = {"status": "not run", "reason": excuse} if excuse else self.excuse(row, runtime)
            if why_not:
                cells[runtime] = why_not
        return cells, {runtime: [] for runtime in row.runtimes if runtime not in cells}

    def measure(self, row, cells, runs, disturbance):
        """All repetitions of a row, the runtimes taking turns. Each begins with another runtime, so that none has the
        same one before it each time."""
        order = list(runs)
        for repetition in range(self.repetitions(row)):
            hurry = not self.options.full and not self.options.only
            if repetition and hurry and self.clock() > QUICK_SECONDS:
                break
            first = repetition % len(order) if order else 0
            for runtime in order[first:] + order[:first]:
                if runtime in cells:
                    continue
                self.progress.now(row, runtime, repetition + 1, self.repetitions(row))
                alone = machine.Disturbance()
                before = alone.snapshot()
                try:
                    found = runner.RUN[row.kind](row, self.options.build, runtime, self.parameters(row, runtime),
                                                 self.cpus[:max(2, row.workers)])
                    alone.add(before, alone.snapshot())
                    runs[runtime].append({**found, "disturbance": alone.shares()})
                except runner.Failed as e:
                    cells[runtime] = {"status": "failed", "reason": str(e)}
                except runner.Unavailable as e:
                    cells[runtime] = {"status": "not available", "reason": str(e)}
                disturbance.merge(alone)
                self.progress.done(row)

    def run_row(self, row):
        cells, runs = self.take_part(row)
        disturbance = machine.Disturbance()
        try:
            self.measure(row, cells, runs, disturbance)
        except KeyboardInterrupt:  # what there is of it is kept
            self.interrupted = True
            if not any(runs.values()):
                return None
            for runtime in runs:
                if not runs[runtime] and runtime not in cells:
                    cells[runtime] = {"status": "not run", "reason": "interrupted"}
        self.disturbance.merge(disturbance)
        return row_result(row, self.row_params(row), self.repetitions(row), cells, runs, disturbance, self.results)

    def run(self, rows, keep):
        """keep: called with the result so far, after each row."""
        self.descriptors = runner.raise_descriptor_limit()
        self.progress.plan({row.id: len(self.take_part(row)[1]) * self.repetitions(row) for row in rows})
        self.table.head(self.document(), len(rows))
        for row in rows:
            found = self.run_row(row)
            self.progress.row_done(row)
            if found:
                self.results.append(found)
                keep(self.document())
                self.table.row(found, GROUPS[row.group])
            if self.interrupted:
                break
        self.progress.end()
        self.table.foot(self.document())

    def document(self):
        """The whole result: bench/README.md describes it."""
        o = self.options
        return {"format": result.FORMAT, "run": "full" if o.full else "quick", "interrupted": self.interrupted,
                "only": o.only, "runtimes": o.runtime, "seconds": round(self.clock()), "machine": self.machine,
                "peers": self.peers, "disturbed": self.disturbance.text(), "disturbance": self.disturbance.shares(),
                "groups": {row["group"]: GROUPS[row["group"]] for row in self.results}, "rows": list(self.results)}
