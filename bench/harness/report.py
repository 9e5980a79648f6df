"""A result as one page of HTML: no script, nothing from outside, nothing that is not in the JSON file. First where we stand,
then a chart for each row, the curves, and what the figures are worth."""

import math
import os
import statistics
from html import escape

from . import charts
from .stats import BASELINES, best_peer, measured, times, verdict
from .table import expectations, figure, reasons, targets, warnings

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = ("stellane",)


def share_of(value):
    """A percentile's place on the axis: every nine is one step."""
    return -math.log10(1 - min(value, 0.99999))


def tag(name, body, style=""):
    return "<%s%s>%s</%s>" % (name, ' class="%s"' % style if style else "", body, name)


def rows_beside(document):
    """Rows with our figure and runtimes beside it, in the order of the table."""
    return [row for row in document["rows"] if row.get("layout") != "across" and row["metrics"]]


# ---- where we stand ----

def standing(document):
    """[(row, gain, mark, peer)] for the first figure of each row; gain: how many times better ours is than the best of the
    others."""
    found = []
    for row in rows_beside(document):
        metric = row["metrics"][0]
        ours = metric["runtimes"].get("stellane", {"status": "not run"})
        peer, cell = best_peer(metric)
        if ours["status"] != "ok" or cell is None:
            continue
        ratio, mark = verdict(ours, cell, metric["better"])
        if ratio:
            found.append((row, ratio if metric["better"] == "more" else 1 / ratio, mark, peer))
    return found


def against(document, peer):
    """The median of how many times better ours is than one peer, and in how many rows."""
    gains = []
    for row in rows_beside(document):
        metric = row["metrics"][0]
        ours, theirs = metric["runtimes"].get("stellane"), metric["runtimes"].get(peer)
        if ours and theirs and ours["status"] == theirs["status"] == "ok" and ours["median"] and theirs["median"]:
            ratio = ours["median"] / theirs["median"]
            gains.append(ratio if metric["better"] == "more" else 1 / ratio)
    return (statistics.median(gains), len(gains)) if gains else None


def tile(big, small, style=""):
    return '<div class="tile"><b class="%s">%s</b><small>%s</small></div>' % (style, escape(big), escape(small))


def where_we_stand(document):
    found = standing(document)
    if not found:
        return "<p>No row of this result has our figure and another's.</p>"
    marks = [mark for _, _, mark, _ in found]
    met, judged = targets(document)
    tiles = [tile("%d of %d" % (marks.count("better"), len(marks)), "rows in which ours is ahead of all other runtimes", "better"),
             tile("%d" % marks.count("even"), "level with the best of the others: within 5 % or the spread"),
             tile("%d" % marks.count("worse"), "behind the best of the others", "worse" if "worse" in marks else "")]
    if judged:
        tiles.append(tile("%d of %d" % (met, judged), "of our own targets met in this run"))
    go = against(document, "go")
    if go:
        tiles.append(tile("%s×" % times(max(go[0], 1 / go[0])), "%s than Go, in the median of the %d rows that both run" % (
            "better" if go[0] > 1 else "worse", go[1])))
    groups = {}
    for row, gain, mark, peer in found:
        groups.setdefault(row["group"], []).append((row["id"], gain, mark, peer))
    note = ("Each line is the first figure of a row: ours beside the <em>best</em> of the other runtimes in the same run, "
            "whoever that is. The floors (a raw loop, a bare switch) are left out here unless nobody else takes part; they are "
            "in the charts below.")
    return '<div class="tiles">%s</div><div class="card">%s</div><p class="soft">%s</p>' % (
        "".join(tiles), charts.standing(list(groups.values())), note)


# ---- rows ----

def chips(metrics):
    shown = [(t, m) for m in metrics for t in m["targets"]]
    body = "".join('<span class="chip %s">%s%s %s: %s</span>' % (
        {True: "better", False: "worse", None: ""}[t["met"]], escape(t["id"]),
        " " + escape(m["label"].strip()) if m is not metrics[0] else "", escape(t["text"]),
        {True: "met", False: "missed", None: "not judged"}[t["met"]]) for t, m in shown)
    return '<div class="chips">%s</div>' % body if body else ""


def head_of(metric):
    unit = ", " + metric["unit"] if metric["unit"] else ""
    return escape(metric["label"].strip() + unit)


def everything(row):
    """All figures of a row: a line a runtime."""
    metrics = row["metrics"] + row.get("costs", [])
    names = [name for name, _ in measured(row["metrics"][0], ours=None)]
    names += [name for name in row["metrics"][0]["runtimes"] if name not in names]
    lines = []
    for name in names:
        cells = []
        for metric in metrics:
            cell = metric["runtimes"].get(name)
            cells.append(tag("td", escape(figure(cell)) if cell else ""))
        lines.append('<tr class="%s"><td>%s</td>%s<td>%d</td></tr>' % (
            "ours" if name in OURS else "", escape(name), "".join(cells), len(row["runs"].get(name, ()))))
    head = "".join(tag("th", head_of(m)) for m in metrics)
    params = ", ".join("%s=%s" % item for item in row["params"].items())
    disturbed = '<p class="worse">Disturbed: %s.</p>' % escape(row["disturbed"]) if row["disturbed"] else ""
    return ('<details><summary>all figures, CPU time and memory</summary><div class="scroll"><table>'
            '<tr><th></th>%s<th>runs</th></tr>%s</table></div><p class="soft">%s, %s; %d worker%s</p>%s</details>' % (
                head, "".join(lines), escape(row["workload"]), escape(params or "no parameters"), row["workers"],
                "" if row["workers"] == 1 else "s", disturbed))


def beside_it(row):
    """The other figures of a row in few words: ours and the best of the others."""
    lines = []
    for metric in row["metrics"][1:]:
        ours = metric["runtimes"].get("stellane", {"status": "not run"})
        if ours["status"] != "ok":
            continue
        peer, cell = best_peer(metric)
        ratio, mark = verdict(ours, cell, metric["better"]) if cell else (None, None)
        beside = "%s %s" % (peer, figure(cell)) if cell else ""
        lines.append('<tr><td class="text">%s</td><td><b>%s</b></td><td>%s</td><td class="%s">%s</td></tr>' % (
            head_of(metric), escape(figure(ours)), escape(beside), mark or "", "%s %s" % (times(ratio), mark) if ratio else ""))
    return '<div class="scroll"><table>%s</table></div>' % "".join(lines) if lines else ""


def card(row):
    metric = row["metrics"][0]
    entries = measured(metric, ours=None)
    ours = metric["runtimes"].get("stellane", {}).get("median")
    # Of those that judge the figure itself, and not what is made of it.
    bound = next((t["bound"] for t in metric["targets"] if t.get("bound") is not None and t.get("value", ours) == ours), None)
    more = "more is better" if metric["better"] == "more" else "less is better"
    unit = "%s, %s%s" % (metric["unit"] or "a ratio", more, "; dashed: our target" if bound is not None else "")
    failed = [name for name, cell in metric["runtimes"].items() if cell["status"] == "failed"]
    if failed:
        unit += "; failed: " + ", ".join(failed)
    if row["disturbed"]:
        unit += "; disturbed"
    plot = charts.bars(entries, OURS, bound) if entries else '<p class="soft">Nobody ran it here.</p>'
    return '<section class="card" id="%s"><h3>%s</h3><div class="unit">%s</div>%s%s%s</section>' % (
        escape(row["id"]), escape(row.get("title") or metric["label"].strip()), escape(unit), chips(row["metrics"]), plot,
        beside_it(row) + everything(row))


def group_sections(document):
    parts = []
    for group, name in document["groups"].items():
        rows = [row for row in rows_beside(document) if row["group"] == group]
        if rows:
            parts.append("<h2>%s</h2><div class=\"cards\">%s</div>" % (escape(name), "".join(card(row) for row in rows)))
    return "".join(parts)


def across_section(document):
    """Rows whose runtimes are lines and whose metrics are columns."""
    parts = []
    for group, name in document["groups"].items():
        rows = [row for row in document["rows"] if row["group"] == group and row.get("layout") == "across"]
        if not rows:
            continue
        parts.append("<h2>%s</h2><div class=\"cards\">" % escape(name))
        for row in rows:
            metric = row["metrics"][0]
            entries = measured(metric, ours=None)
            plot = charts.bars(entries, (row["ours"],)) if entries else '<p class="soft">Nobody ran it here.</p>'
            parts.append('<section class="card" id="%s"><h3>%s</h3><div class="unit">%s, %s is better</div>%s%s%s</section>' % (
                escape(row["id"]), escape(row["title"]), escape(metric["label"]), escape(metric["better"]),
                chips(row["metrics"]), plot, everything(row)))
        parts.append("</div>")
    return "".join(parts)


# ---- curves ----

def log_axis(values):
    low, high = math.log10(min(values) * 0.8), math.log10(max(values) * 1.2)
    ticks = charts.log_ticks(low, high)
    return (lambda y: (math.log10(max(y, 1e-9)) - low) / (high - low)), [(t, charts.short(t)) for t in ticks]


def curve_card(row):
    curves = {name: [(share_of(s), v) for s, v in points if v > 0] for name, points in row["curves"].items()}
    if max(map(len, curves.values()), default=0) < 3:  # two points are no curve: they are in the row's own figures
        return ""
    order = sorted(curves, key=lambda name: (name not in OURS, curves[name][-1][1]))
    shares = sorted({s for points in row["curves"].values() for s, _ in points})
    first, last = share_of(shares[0]), share_of(shares[-1])
    y_at, y_ticks = log_axis([v for points in curves.values() for _, v in points])
    plot = charts.lines({name: curves[name] for name in order}, lambda x: (x - first) / ((last - first) or 1),
                        [(share_of(s), "p%g" % (100 * s)) for s in shares], y_at, y_ticks, OURS)
    return '<section class="card"><h3>%s</h3><div class="unit">us, log scale, less is better; every nine is one step to the ' \
           'right</div>%s</section>' % (escape("%s: %s" % (row["id"], row.get("title", ""))), plot)


def curve_section(document):
    cards = "".join(curve_card(row) for row in rows_beside(document) if row.get("curves"))
    return '<h2>Latency: median to tail</h2><div class="cards">%s</div>' % cards if cards else ""


def against_itself(rows, x_of, better):
    """{runtime: [(x, the figure as a multiple of its own in the first of the rows)]}; better: what is to grow, as less or more
    of the figure."""
    series = {}
    for row in sorted(rows, key=x_of):
        metric = row["metrics"][0]
        for name, cell in metric["runtimes"].items():
            if cell["status"] == "ok" and cell["median"]:
                value = cell["median"] if metric["better"] == better else 1 / cell["median"]
                series.setdefault(name, []).append((x_of(row), value))
    return {name: [(x, value / points[0][1]) for x, value in points] for name, points in series.items() if len(points) > 1}


def multiples(heading, unit, series, x_at, x_ticks, ideal, most_first):
    """A card with a line for each runtime; y: multiples of its own."""
    order = sorted(series, key=lambda n: (n not in OURS, series[n][-1][1] * (-1 if most_first else 1)))
    top = 1.1 * max(y for points in list(series.values()) + [ideal] for _, y in points)
    step = next((s for s in (0.25, 0.5, 1, 2, 5, 10, 50, 100, 1000) if top / s <= 6), top)
    ticks = [(step * i, "%g×" % (step * i)) for i in range(int(top / step) + 1)]
    plot = charts.lines({n: series[n] for n in order}, x_at, x_ticks, lambda y: y / top, ticks, OURS, ideal)
    return '<section class="card"><h3>%s</h3><div class="unit">%s</div>%s</section>' % (escape(heading), escape(unit), plot)


def scale_card(name, rows):
    series = against_itself(rows, lambda row: row["workers"], "more")
    workers = sorted({row["workers"] for row in rows})
    first, last = workers[0], workers[-1]
    if not series or first == last:
        return ""
    return multiples("%s scaling" % name, "work done in the same time, as multiples of its own with %d worker%s" % (
        first, "" if first == 1 else "s"), series, lambda x: (x - first) / (last - first), [(n, "%dw" % n) for n in workers],
        [(n, n / first) for n in workers], True)


def live(row):
    """How many fibers there are while it is measured."""
    return max(row["params"].get("live", 0), row["params"].get("fibers", 0), 1)


def growth_card(name, rows):
    series = against_itself(rows, live, "less")
    counts = sorted({live(row) for row in rows})
    if not series or len(counts) < 2:
        return ""
    first, last = math.log10(counts[0]), math.log10(counts[-1])
    unit = "cost of one, as multiples of its own with %s fibers; less is better, 1× is flat" % format(counts[0], ",")
    return multiples(name, unit, series, lambda x: (math.log10(x) - first) / (last - first), [(n, charts.short(n)) for n in counts],
                     [(n, 1.0) for n in counts], False)


def growth_section(document):
    groups = {}
    for row in rows_beside(document):
        if row["group"] == "growth":
            groups.setdefault(row["id"].rpartition("-")[0], []).append(row)
    cards = "".join(growth_card(name, rows) for name, rows in groups.items())
    return '<h2>Growth with the number of fibers</h2><div class="cards">%s</div>' % cards if cards else ""


def scale_section(document):
    groups = {}
    for row in rows_beside(document):
        if row.get("scale"):
            groups.setdefault(row["scale"], []).append(row)
    cards = "".join(scale_card(name, rows) for name, rows in groups.items())
    return ('<h2>Scaling over workers</h2><div class="cards">%s</div><p class="soft">Each runtime is compared with itself: a slow '
            "one may scale well.</p>" % cards) if cards else ""


# ---- what it is worth ----

def machine_section(document):
    m = document["machine"]
    shown = [("date", m["date"]), ("commit", m.get("commit") or "unknown"), ("CPU", m["cpu"]),
             ("CPUs", "%d%s, bound to %s%s" % (m["cpus"], ", virtual" if m.get("virtual") else "", m.get("bound_to", "?"),
                                               ", threads of one core" if m.get("smt_siblings") else "")),
             ("memory", "%.0f GiB" % (m.get("memory_bytes", 0) / 2**30)), ("kernel", "Linux " + m["kernel"]),
             ("distribution", m.get("distribution")), ("C library", m.get("libc")), ("compiler", m.get("compiler")),
             ("governor", m.get("governor")), ("huge pages", m.get("huge_pages")), ("vm.max_map_count", m.get("max_map_count")),
             ("load before", ", ".join("%.2f" % x for x in m.get("load_before", []))),
             ("others' share of a CPU", "%.1f %%, stolen %.1f %%" % (
                 100 * document.get("disturbance", {}).get("others", 0), 100 * document.get("disturbance", {}).get("steal", 0))),
             ("measured for", "%d s, %s run" % (document["seconds"], document["run"]))]
    versions = [(name, ("" if peer["available"] else "not installed: ") + peer["text"])
                for name, peer in document["peers"].items()]
    lines, peers = ("".join('<tr><td>%s</td><td class="text">%s</td></tr>' % (escape(k), escape(str(v)))
                            for k, v in pairs if v not in (None, "")) for pairs in (shown, versions))
    return ('<h2>The machine and the versions</h2><div class="cards">'
            '<div class="card scroll"><h3>Machine</h3><table>%s</table></div>'
            '<div class="card scroll"><h3>Runtimes</h3><table>%s</table></div></div>' % (lines, peers))


def absent_section(document):
    failures, absent = reasons(document)
    lines = [tag("p", escape(text), "worse") for text in failures]
    lines += ['<tr><td class="text">%s</td><td class="text">%s</td></tr>' % (escape(why), escape(", ".join(rows)))
              for why, rows in absent.items()]
    body = "".join(line for line in lines if line.startswith("<p"))
    table = "".join(line for line in lines if line.startswith("<tr"))
    if not lines:
        return ""
    return '<h2>Who did not take part, and why</h2><div class="card scroll">%s<table>%s</table></div>' % (body, table)


SHOWS = (
    "Each figure is the median of its repetitions; whiskers go from the least to the greatest of them. Runtimes took turns, "
    "so what drifts, drifts for all. A difference within 5 %, or within the spread of the two, is called level.",
    "Every driver is a process of its own, bound to its CPUs, warmed up, and proves by a checksum that it did the work.",
    "A log scale has no zero: there a figure is a dot, and what counts is the distance.",
)
SHOWS_NOT = (
    "One machine, in one hour. Absolute figures are this machine's; ratios travel better, and not always.",
    "The loopback, and a load generator on the same machine: no network card, no distance. An asterisk marks servers whose "
    "load generator had no CPU time to spare either.",
    "No machine with more cores than this one, and no NUMA.",
    "Small programs that do one thing again and again. What an application gains depends on what else it does.",
    "The drivers of the others were written with care, but by us. A better idiom for any of them is welcome.",
)


def worth_section(document):
    expected = [escape(text) for text in expectations(document)]
    more = "<p>What the design documents expected, not promised: %s.</p>" % ". ".join(expected) if expected else ""
    return "<h2>What this shows, and what it does not</h2><div class=\"cards\"><div class=\"card\"><h3>Shows</h3>%s%s</div>" \
           "<div class=\"card\"><h3>Does not show</h3>%s</div></div>" % (
               "".join(tag("p", escape(t)) for t in SHOWS), more, "".join(tag("p", escape(t)) for t in SHOWS_NOT))


def page(document):
    with open(os.path.join(HERE, "report.css"), encoding="utf-8") as f:
        style = f.read()
    m = document["machine"]
    subtitle = "%s run of %d rows, %s; commit %s; %s, %d CPUs, Linux %s" % (
        document["run"], len(document["rows"]), m["date"][:16].replace("T", " "), m.get("commit") or "unknown", m["cpu"],
        m["cpus"], m["kernel"])
    floors = ", ".join(name for name in BASELINES if name in document["peers"])
    parts = [where_we_stand(document), group_sections(document), curve_section(document), scale_section(document),
             growth_section(document), across_section(document), worth_section(document), machine_section(document),
             absent_section(document)]
    return "\n".join((
        "<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">', "<title>Stellane Fiber beside other runtimes</title>",
        "<style>%s</style></head><body>" % style,
        "<header><h1>Stellane Fiber beside other runtimes</h1><p class=\"soft\">%s</p>%s</header>" % (
            escape(subtitle), "".join(tag("div", escape(text), "warn") for text in warnings(document))),
        "<main>%s</main>" % "\n".join(parts),
        "<footer>Made by bench/run from its JSON result. %s</footer>" % (
            "Floors, no runtimes: %s." % escape(floors) if floors else ""),
        "</body></html>", ""))
