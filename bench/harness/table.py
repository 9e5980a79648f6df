"""The terminal's view, out of a result (result.py): for each figure a line with ours, the best of the others and the named
peer, and below it the targets and everybody else, best first. 120 columns are enough, however many runtimes there are."""

import os
import shutil
import sys
import textwrap

from . import catalogue
from .stats import best_peer, measured, number, times, verdict

WIDTH = 120
LABEL, UNIT, CELL, PEER = 32, 6, 12, 33
LABEL_ACROSS, CELL_ACROSS, RATIO_ACROSS = 22, 9, 18
ROWS_NAMED = 4  # at most, where a reason below the table says for which rows it holds
STYLES = {"better": "\033[32m", "worse": "\033[31m", "bold": "\033[1m", "dim": "\033[2m"}
STATUS = {"failed": "FAILED", "not installed": "not inst.", "not run": "-", "not available": "-"}


def wants_colour(stream):
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def spread(cell):
    percent = round(100 * cell["spread"])
    return " ±%s%%" % (percent if percent < 100 else ">99") if percent >= 1 else ""


def limited(cell):
    return {"load": "*", "both": "*", "behind": "!"}.get(cell.get("limit"), "")


def figure(cell):
    return STATUS[cell["status"]] if cell["status"] != "ok" else number(cell["median"]) + limited(cell) + spread(cell)


def reasons(document):
    """([failures], {why a runtime is missing: [rows]})"""
    failures, absent = [], {}
    for row in document["rows"]:
        cells = row["metrics"][0]["runtimes"] if row["metrics"] else {}
        for runtime, cell in cells.items():
            why = cell.get("reason")
            if cell["status"] == "failed":
                failures.append("FAILED  %s, %s: %s" % (row["id"], runtime, why))
            elif cell["status"] == "not installed":
                absent.setdefault("%s is not installed: %s" % (runtime, why), [])
            elif cell["status"] == "not available":
                absent.setdefault("%s: not available: %s" % (runtime, why), []).append(row["id"])
            elif cell["status"] == "not run" and why != "not asked for":
                absent.setdefault("%s: %s" % (runtime, why), []).append(row["id"])
    return failures, absent


def hurried(document):
    """Rows that were measured fewer times than planned."""
    return [row["id"] for row in document["rows"]
            if any(len(samples) < row.get("repetitions", 0) for name, samples in row["runs"].items()
                   if samples and row["metrics"] and row["metrics"][0]["runtimes"].get(name, {}).get("status") == "ok")]


def expectations(document):
    by_id = {row["id"]: row for row in document["rows"]}
    for id, text, row, metric, words in catalogue.EXPECTATIONS:
        for m in by_id.get(row, {"metrics": ()})["metrics"]:
            cell = m["runtimes"].get("stellane", {})
            if m["metric"] == metric and cell.get("status") == "ok":
                yield "%s, %s; here: %s" % (id, text, words(cell["median"]))


def targets(document):
    """(met, all) of the targets that could be judged."""
    judged = [t["met"] for row in document["rows"] for m in row["metrics"] for t in m["targets"] if t["met"] is not None]
    return judged.count(True), len(judged)


class Table:
    """peers: who is shown beside ours in each line, instead of the best and the named one. costs: CPU time and peak
    memory, too."""

    def __init__(self, stream=sys.stdout, colour=None, width=None, peers=(), costs=False):
        self.stream, self.peers, self.costs = stream, tuple(peers), costs
        self.colour = wants_colour(stream) if colour is None else colour
        self.width = width or max(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns if stream.isatty() else WIDTH)
        self.group = None

    def paint(self, text, style):
        return STYLES[style] + text + "\033[0m" if self.colour and style in STYLES else text

    def say(self, text="", style=None):
        print(self.paint(text, style), file=self.stream, flush=True)

    def wrap(self, text, style, indent="    "):
        for line in textwrap.wrap(text, self.width - 2, initial_indent=indent, subsequent_indent=indent + "  ",
                                  break_long_words=False, break_on_hyphens=False):
            self.say(line, style)

    # ---- rows ----

    def row(self, result, title):
        """title: of its group."""
        across = result.get("layout") == "across"
        if result["group"] != self.group:
            self.group = result["group"]
            self.say()
            self.wrap(title, "bold", "")
            self.say(self.head_across(result) if across else self.head_line(), "dim")
        if across:
            self.row_across(result)
            return
        for i, metric in enumerate(result["metrics"] + (result.get("costs", []) if self.costs else [])):
            self.line(metric, i == 0)

    def head_line(self):
        shown = self.peers or ("best of the others", "named peer")
        line = "  " + "".ljust(LABEL + UNIT) + "stellane".rjust(CELL) + "".join("   " + name.ljust(PEER - 3) for name in shown)
        return line.rstrip()

    def beside(self, metric):
        """[(peer, its cell or None)] in the columns of a line."""
        if self.peers:
            return [(name, metric["runtimes"].get(name)) for name in self.peers]
        best, cell = best_peer(metric)
        named = metric["peer"]
        other = metric["runtimes"].get(named) if named not in (best, "stellane") else None
        return [(best, cell), (named, other if other and other["status"] != "not run" else None)]

    def peer(self, name, cell, ours, better):
        """One peer beside ours: its figure, and ours divided by it."""
        if cell is None:
            return " " * PEER
        text, mark = "   %s %s" % (name, figure(cell)), None
        if cell["status"] == "ok" and ours and ours["status"] == "ok":
            ratio, mark = verdict(ours, cell, better)
            if ratio is not None:
                text = text.ljust(PEER - 12) + " " + self.paint("%s %s" % (times(ratio), mark), mark)
        plain = len(text) if not self.colour or mark not in STYLES else len(text) - len(self.paint("", mark))
        return text + " " * (PEER - plain)

    def line(self, metric, main):
        cells = metric["runtimes"]
        ours = cells.get("stellane")
        name = metric["label"].ljust(LABEL - 1) + " " + metric["unit"]
        if len(name) > LABEL + UNIT:
            self.say("  " + name)
            name = ""
        text = "  " + name.ljust(LABEL + UNIT)
        text += self.paint((figure(ours) if ours else "").rjust(CELL), "bold")
        shown = self.beside(metric)
        text += "".join(self.peer(name, cell, ours, metric["better"]) for name, cell in shown)
        self.say(text.rstrip())
        self.rest(metric, {name for name, cell in shown if cell})

    def rest(self, metric, shown):
        """The targets, and those who have no column."""
        parts = [(self.target(t), self.target(t, plain=True)) for t in metric["targets"]]
        parts += [(self.paint(text, "dim"), text) for text in
                  ("%s %s" % (name, figure(cell)) for name, cell in measured(metric) if name not in shown)]
        parts += [(self.paint(text, "worse"), text) for text in
                  ("%s FAILED" % name for name, cell in metric["runtimes"].items() if cell["status"] == "failed"
                   and name not in shown | {"stellane"})]
        line, used = "", 0
        for painted, plain in parts:
            if used and used + 2 + len(plain) > self.width:
                self.say(line)
                line, used = "", 0
            before = "  " if used else "      "
            line, used = line + before + painted, used + len(before) + len(plain)
        if used:
            self.say(line)

    def target(self, target, plain=False):
        met = {True: "met", False: "missed", None: "?"}[target["met"]]
        style = {True: "better", False: "worse", None: None}[target["met"]]
        return "%s %s %s" % (target["id"], target["text"], met if plain else self.paint(met, style))

    # ---- rows whose runtimes are lines and whose metrics are columns: backends.Across ----

    def head_across(self, result):
        head = "  " + "".ljust(LABEL_ACROSS) + "".join(m["label"].rjust(CELL_ACROSS) for m in result["metrics"])
        return (head + "".join(("  x " + name).ljust(RATIO_ACROSS) for name in result["against"])).rstrip()

    def row_across(self, result):
        metrics = result["metrics"]
        self.say("  " + result["title"])
        for name, main in metrics[0]["runtimes"].items():
            cells = [m["runtimes"].get(name) for m in metrics]
            text = "    " + name.ljust(LABEL_ACROSS - 2)
            if main["status"] != "ok":
                self.say(text + figure(main).rjust(CELL_ACROSS))
                continue
            for i, cell in enumerate(cells):
                ok = cell and cell["status"] == "ok"
                text += (number(cell["median"]) + (limited(cell) if i == 0 else "") if ok else "-").rjust(CELL_ACROSS)
            for ratio, mark in main["against"].values():
                shown = "  %.2f %s" % (ratio, mark) if ratio is not None else ""
                text += self.paint(shown.ljust(RATIO_ACROSS), mark)
            self.say(text.rstrip())
            if name == result["ours"]:
                for t in (t for m in metrics for t in m["targets"]):
                    self.say("      " + self.target(t))

    # ---- above and below ----

    def head(self, document, rows):
        m = document["machine"]
        self.say("Stellane Fiber%s, %s run of %d rows, %s" % (
            " " + m["commit"] if m.get("commit") else "", document["run"], rows, m["date"]))
        self.wrap("%s, %d CPUs%s%s, %.0f GiB, Linux %s, %s, load before %.2f" % (
            m["cpu"], m["cpus"], " (virtual)" if m.get("virtual") else "",
            ", the first two of one core" if m.get("smt_siblings") else "", m.get("memory_bytes", 0) / 2**30, m["kernel"],
            m.get("compiler", "?"), m.get("load_before", [0])[0]), None, "")
        there = ["%s (%s)" % (name, peer["text"]) for name, peer in document["peers"].items() if peer["available"]]
        self.wrap("Runtimes: " + ", ".join(there), None, "")
        self.wrap("Medians ± half the range. 1w: one worker, bound to one CPU; 2w: two. Each ratio is ours divided by that "
                  "peer's, of the same run.", None, "")

    def foot(self, document):
        failures, absent = reasons(document)
        self.say()
        for text in failures:
            self.wrap(text, "worse", "")
        for text, rows in absent.items():
            more = " and %d more" % (len(rows) - ROWS_NAMED) if len(rows) > ROWS_NAMED else ""
            self.wrap("- %s%s" % (text, " [%s%s]" % (", ".join(rows[:ROWS_NAMED]), more) if rows else ""), "dim", "")
        for text in self.remarks(document):
            self.wrap(text, "dim", "")
        for text in warnings(document):
            self.wrap(text, "worse", "")
        met, judged = targets(document)
        self.say("%d of %d targets met, %d failures, %d s." % (met, judged, len(failures), document["seconds"]))

    def remarks(self, document):
        samples = [s for row in document["rows"] for runs in row["runs"].values() for s in runs]
        uncounted = {s["uncounted"] for s in samples if s.get("uncounted")}
        if uncounted:
            yield "System calls %s: %s" % ("were counted under strace, roughly" if any(s.get("strace") for s in samples)
                                           else "could not be counted", ", ".join(sorted(uncounted)))
        limits = {cell.get("limit") for row in document["rows"] for m in row["metrics"][:1] for cell in m["runtimes"].values()}
        if limits & {"load", "both"}:
            yield "* the load generator was at its limit too, or late itself: the server may be faster than this shows"
        if "behind" in limits:
            yield "! the server did not keep up with the rate: its latency grows for as long as one measures"
        expected = list(expectations(document))
        if expected:
            yield "What the design documents expected, not promised: " + ". ".join(expected) + "."


def warnings(document):
    """What whoever quotes a figure must know."""
    disturbed = [row["id"] for row in document["rows"] if row["disturbed"]]
    if disturbed:
        yield "DISTURBED: %s; while %s ran. Do not quote these figures." % (
            document["disturbed"] or "now and then somebody else used the machine",
            "every row" if len(disturbed) == len(document["rows"]) > 1 else ", ".join(disturbed))
    fewer = hurried(document)
    if document.get("interrupted"):
        yield "INTERRUPTED: not all rows were measured, and the last one not as often as planned."
    elif fewer:
        yield "%d rows were measured fewer times than planned, to end within five minutes." % len(fewer)
