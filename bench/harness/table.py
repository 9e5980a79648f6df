"""The terminal's view: one line a metric, a column a runtime, ours first; ratio and target at the right."""

import statistics
import sys

LABEL, UNIT, CELL, RATIO = 34, 6, 12, 24
LABEL_ACROSS = 24
SAME = 0.05  # ratios within this of 1 are a draw, or within the spread where that is larger


def colours(stream):
    if not stream.isatty():
        return {"better": "", "worse": "", "bold": "", "dim": "", "end": ""}
    return {"better": "\033[32m", "worse": "\033[31m", "bold": "\033[1m", "dim": "\033[2m", "end": "\033[0m"}


def number(x):
    """Three digits that count, no exponent."""
    if x == 0:
        return "0"
    size = abs(x)
    if size >= 1e6:
        return "%.2fM" % (x / 1e6)
    if size >= 1e5:
        return "%.0fk" % (x / 1e3)
    if size >= 1e4:
        return format(int(round(x)), ",")
    return "%.0f" % x if size >= 100 else "%.1f" % x if size >= 10 else "%.2f" % x


def summary(samples):
    """Median and spread: half of the distance between the extremes, as a share of the median."""
    median = statistics.median(samples)
    spread = (max(samples) - min(samples)) / 2 / median if median else 0.0
    return {"median": median, "spread": round(spread, 4), "samples": samples}


def verdict(ours, theirs, better):
    """better, worse or even: a ratio inside the noise is a draw."""
    if not theirs["median"] or not ours["median"]:
        return None, None
    ratio = ours["median"] / theirs["median"]
    noise = max(SAME, min(0.5, ours["spread"] + theirs["spread"]))
    gain = ratio if better == "more" else 1 / ratio
    return ratio, "better" if gain > 1 + noise else "worse" if gain < 1 / (1 + noise) else "even"


def judge(target, cells, whose="stellane"):
    """{text, met} of one target; met is None when it cannot be told."""
    id, comparison, limit = target[:3]
    peer, how = (tuple(target[3:]) + (None, None))[:2]
    ours = cells.get(whose, {}).get("median")
    bound, text = limit, "%s %s" % (comparison, format(limit, ",g"))
    if peer:
        theirs = cells.get(peer, {}).get("median")
        bound = None if theirs is None else theirs + limit if how == "+" else theirs * limit
        text = "%s %s + %g" % (comparison, peer, limit) if how == "+" else "%s %g x %s" % (comparison, limit, peer)
    met = None if ours is None or bound is None else ours <= bound if comparison == "<=" else ours >= bound
    return {"id": id, "text": text, "met": met}


class Table:
    def __init__(self, stream=sys.stdout):
        self.stream = stream
        self.colour = colours(stream)

    def say(self, text="", style=None):
        if style:
            text = self.colour[style] + text + self.colour["end"]
        print(text, file=self.stream, flush=True)

    def group(self, title, runtimes):
        self.say()
        self.say(title, "bold")
        head = "".join(name.rjust(CELL) for name in runtimes)
        self.say("  " + "".ljust(LABEL + UNIT) + head + "  " + "ratio".ljust(RATIO) + "target", "dim")

    def cell(self, cell, main):
        if cell is None:
            return ""
        if cell["status"] == "ok":
            text = number(cell["median"])
            spread = round(100 * cell["spread"])
            if cell.get("limit") in ("load", "both") and main:
                text += "*"
            return text + (" ±%s%%" % (spread if spread < 100 else ">99") if spread >= 1 else "")
        return {"failed": "FAILED", "not installed": "not inst.", "not run": "-",
                "not available": "-"}[cell["status"]]

    def line(self, metric, runtimes, main):
        """metric: as in the JSON result."""
        cells = metric["runtimes"]
        text = "  " + metric["label"].ljust(LABEL) + metric["unit"].ljust(UNIT)
        for name in runtimes:
            text += self.cell(cells.get(name), main).rjust(CELL)
        ratio, mark, shown = metric["ratio"], metric["verdict"], ""
        if ratio is not None:
            shown = "%s x %s %s" % ("%.2f" % ratio if ratio < 10 else number(ratio), metric["peer"], mark)
        style = self.colour.get(mark, "") if mark in ("better", "worse") else ""
        text += "  " + style + shown.ljust(RATIO) + (self.colour["end"] if style else "")
        text += "".join(self.target(t) for t in metric["targets"])
        self.say(text.rstrip())

    def target(self, target):
        met = {True: "met", False: "missed", None: "?"}[target["met"]]
        style = {True: self.colour["better"], False: self.colour["worse"], None: ""}[target["met"]]
        return "%s %s %s%s%s  " % (target["id"], target["text"], style, met, self.colour["end"] if style else "")

    def row(self, result, runtimes):
        for i, metric in enumerate(result["metrics"]):
            self.line(metric, runtimes, i == 0)

    # Rows whose runtimes are lines and whose metrics are columns: backends.Across.

    def group_across(self, title, row):
        self.say()
        self.say(title, "bold")
        head = "".join(m.label.rjust(CELL) for m in row.metrics)
        head += "".join(("  x " + name).ljust(RATIO) for name in row.against)
        self.say("  " + "".ljust(LABEL_ACROSS) + head.rstrip(), "dim")

    def row_across(self, result):
        metrics, title = result["metrics"], result["title"]
        self.say("  " + title)
        for name in metrics[0]["runtimes"]:
            cells = [m["runtimes"].get(name) for m in metrics]
            text = "    " + name.ljust(LABEL_ACROSS - 2)
            if cells[0]["status"] != "ok":
                self.say(text + self.cell(cells[0], True).rjust(CELL))
                continue
            text += "".join(self.cell(cell or {"status": "not run"}, i == 0).rjust(CELL) for i, cell in enumerate(cells))
            for peer, (ratio, mark) in cells[0]["against"].items():
                shown = "  %.2f %s" % (ratio, mark) if ratio is not None else ""
                text += self.colour.get(mark, "") + shown.ljust(RATIO) + (self.colour["end"] if mark else "")
            if name == result["ours"]:
                text += "".join(self.target(t) for m in metrics for t in m["targets"])
            self.say(text.rstrip())


class Progress:
    """One line on stderr that is overwritten; without a terminal, a line a row."""

    def __init__(self, total, clock):
        self.total, self.clock, self.done = total, clock, 0
        self.live = sys.stderr.isatty()

    def now(self, what):
        if self.live:
            text = "[%d/%d] %s  %d s" % (self.done + 1, self.total, what, self.clock())
            print("\r\033[K" + text[:118], end="", file=sys.stderr, flush=True)

    def row_done(self, what):
        self.done += 1
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        else:
            print("[%d/%d] %s  %d s" % (self.done, self.total, what, self.clock()), file=sys.stderr, flush=True)
