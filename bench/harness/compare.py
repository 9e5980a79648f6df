"""Two results side by side: what has changed from the first to the second, and whether that is more than their noise."""

import statistics

from . import backends
from .stats import number

OURS = ("stellane",) + backends.VARIANTS
LEAST = 0.01  # less is not worth a word, even where the samples happen to agree
MACHINE = (("cpu", "the CPU"), ("cpus", "CPUs"), ("memory_bytes", "memory"), ("kernel", "the kernel"), ("compiler", "the compiler"))


class Change:
    """One figure of one runtime in both results."""

    def __init__(self, row, metric, runtime, before, after, same_size):
        self.row, self.metric, self.runtime, self.before, self.after = row, metric, runtime, before, after
        self.share = after["median"] / before["median"] - 1 if before["median"] else None
        self.noise = max(LEAST, before["spread"] + after["spread"])
        self.single = min(len(before["samples"]), len(after["samples"])) < 2
        self.comparable = same_size and self.share is not None
        # How much less is done in the same time, or how much more it takes: a loss is positive.
        gain = self.share if metric["better"] == "more" else -self.share if self.share is not None else None
        beyond = self.comparable and abs(self.share) > self.noise and not self.single
        self.loss = -gain if beyond else 0.0
        self.mark = "" if not beyond else "better" if gain > 0 else "worse"

    def text(self):
        if self.share is None:
            return "%s, from 0" % number(self.after["median"])
        if not self.comparable:
            return "other size"
        noise = "one run only" if self.single else "±%.1f%%" % (100 * self.noise)
        return "%+7.1f%%  (%s)%s" % (100 * self.share, noise, "  " + self.mark if self.mark else "")


class Comparison:
    def __init__(self, before, after):
        self.before, self.after = before, after
        self.changes, self.sizes = [], []
        old = {row["id"]: row for row in before["rows"]}
        new = {row["id"]: row for row in after["rows"]}
        self.gone = [id for id in old if id not in new]
        self.come = [id for id in new if id not in old]
        for id in new:
            if id in old:
                self.add_row(old[id], new[id])

    def add_row(self, old, new):
        same_size = old["params"] == new["params"] and old["workers"] == new["workers"]
        if not same_size:
            names = sorted(n for n in set(old["params"]) | set(new["params"]) if old["params"].get(n) != new["params"].get(n))
            self.sizes.append("%s (%s)" % (new["id"], ", ".join(
                "%s %s, was %s" % (n, new["params"].get(n), old["params"].get(n)) for n in names) or "workers"))
        metrics = {m["metric"]: m for m in old["metrics"]}
        for metric in new["metrics"]:
            cells = metrics.get(metric["metric"], {"runtimes": {}})["runtimes"]
            for runtime, cell in metric["runtimes"].items():
                before = cells.get(runtime, {"status": "not run"})
                if before["status"] == cell["status"] == "ok":
                    self.changes.append(Change(new, metric, runtime, before, cell, same_size))

    def losses(self, percent):
        """Those of ours that are worse by more than that."""
        return [c for c in self.changes if c.runtime in OURS and 100 * c.loss > percent]

    def failures(self):
        """What could be measured before and failed now."""
        old = {(row["id"], name) for row in self.before["rows"] for m in row["metrics"][:1]
               for name, cell in m["runtimes"].items() if cell["status"] == "ok"}
        return ["%s, %s" % (row["id"], name) for row in self.after["rows"] for m in row["metrics"][:1]
                for name, cell in m["runtimes"].items() if cell["status"] == "failed" and (row["id"], name) in old]

    def drift(self):
        """How much the peers have changed that are the same programs in both: the machine's doing, most likely."""
        same = {name for name, peer in self.after["peers"].items() if self.before["peers"].get(name) == peer}
        shares = [c.share if c.metric["better"] == "less" else 1 / (1 + c.share) - 1 for c in self.changes
                  if c.comparable and c.runtime in same and c.runtime not in OURS and c.share > -1
                  and c.metric is c.row["metrics"][0]]
        return (statistics.median(shares), len(shares)) if len(shares) >= 3 else None

    def remarks(self):
        a, b = self.before["machine"], self.after["machine"]
        differ = ["%s: %s, was %s" % (what, b.get(key), a.get(key)) for key, what in MACHINE if a.get(key) != b.get(key)]
        if differ:
            yield "OTHER MACHINE: %s. The changes are the machine's as well." % "; ".join(differ)
        if self.before["run"] != self.after["run"]:
            yield "One is a %s run, the other a %s one." % (self.before["run"], self.after["run"])
        if self.sizes:
            yield "OTHER SIZE, not compared: " + "; ".join(self.sizes)
        for name, document in (("first", self.before), ("second", self.after)):
            disturbed = [row["id"] for row in document["rows"] if row["disturbed"]]
            if disturbed:
                yield "The %s was DISTURBED: %s" % (name, ", ".join(disturbed))
        changed = ["%s: %s, was %s" % (name, peer["text"], self.before["peers"][name]["text"])
                   for name, peer in self.after["peers"].items() if name in self.before["peers"]
                   and self.before["peers"][name]["text"] != peer["text"]]
        if changed:
            yield "Other versions: " + "; ".join(changed)
        if self.failures():
            yield "FAILED now: " + "; ".join(self.failures())
        if self.gone:
            yield "Only in the first: " + ", ".join(self.gone)
        if self.come:
            yield "Only in the second: " + ", ".join(self.come)

    def show(self, table, everything, runtimes=()):
        """Ours always; of the peers what has changed by more than the noise, or everything."""
        for name, document in (("from", self.before), ("to  ", self.after)):
            m = document["machine"]
            table.say("%s %s, %s run, commit %s, %s" % (name, m["date"], document["run"], m.get("commit") or "unknown", m["cpu"]))
        for text in self.remarks():
            table.wrap(text, "worse" if text[:2].isupper() or "DISTURBED" in text else "dim", "")
        last = None
        for c in self.changes:
            if runtimes and c.runtime not in runtimes or not (everything or runtimes or c.mark or c.runtime in OURS):
                continue
            key = c.row["id"], c.metric["metric"]
            if key != last:
                last = key
                table.say()
                table.say("%s: %s%s" % (c.row["id"], c.metric["label"].strip(), " (%s)" % c.metric["unit"] if c.metric["unit"]
                                        else ""), "bold")
            text = "  %-20s%12s ->%12s   " % (c.runtime, number(c.before["median"]), number(c.after["median"]))
            table.say(text + table.paint(c.text(), c.mark))
        table.say()
        ours = [c for c in self.changes if c.runtime in OURS]
        marks = [c.mark for c in ours]
        table.say("Ours: %d figures better, %d worse, %d within the spread of both." % (
            marks.count("better"), marks.count("worse"), marks.count("")))
        drift = self.drift()
        if drift:
            table.say("The peers, which are the same programs in both, changed by %+.1f %% (median of %d figures): the machine's "
                      "doing." % (100 * drift[0], drift[1]))
