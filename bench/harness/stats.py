"""What is made of samples: median and spread, and what may be said of two of them."""

import statistics

from .catalogue import Target

SAME = 0.05  # ratios within this of 1 are a draw, or within the spread where that is larger
# No runtime but a floor: what the machine itself costs, or one part of it done by hand.
BASELINES = ("raw", "raw-spin", "raw-uring", "inline", "fcontext", "pool", "serial")


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


def times(ratio):
    return "%.2f" % ratio if ratio < 10 else number(ratio)


def summary(samples):
    """Median and spread: half of the distance between the extremes, as a share of the median."""
    median = statistics.median(samples)
    spread = (max(samples) - min(samples)) / 2 / abs(median) if median else 0.0
    return {"median": median, "spread": round(spread, 4), "samples": samples}


def verdict(ours, theirs, better):
    """Ratio, and better, worse or even: a ratio inside the noise is a draw."""
    if not theirs["median"] or not ours["median"]:
        return None, None
    ratio = ours["median"] / theirs["median"]
    noise = max(SAME, min(0.5, ours["spread"] + theirs["spread"]))
    gain = ratio if better == "more" else 1 / ratio
    return ratio, "better" if gain > 1 + noise else "worse" if gain < 1 / (1 + noise) else "even"


def judge(target, cells, whose="stellane", earlier=None):
    """{text, met, bound, value} of one target; met is None when it cannot be told. earlier: {row's id: its cells}."""
    t = Target(*target)

    def figure(runtime):
        median = cells.get(runtime, {}).get("median")
        if t.since is None or median is None:
            return median
        start = (earlier or {}).get(t.since, {}).get(runtime, {}).get("median")
        return median / start if start else None

    ours, bound, text = figure(whose), t.number, "%s %s" % (t.comparison, format(t.number, ",g"))
    if t.peer:
        theirs = figure(t.peer)
        bound = None if theirs is None else theirs + t.number if t.how == "+" else theirs * t.number
        text = "%s %s + %g" % (t.comparison, t.peer, t.number) if t.how == "+" else \
            "%s %g x %s" % (t.comparison, t.number, t.peer)
    met = None if ours is None or bound is None else ours <= bound if t.comparison == "<=" else ours >= bound
    if t.since:
        text = "x %s since %s %s" % (times(ours) if ours else "?", t.since, text)
    return {"id": t.id, "text": text, "met": met, "bound": bound, "value": ours}


def measured(metric, ours="stellane"):
    """The peers of a metric that have a figure, best first."""
    ok = [(name, cell) for name, cell in metric["runtimes"].items() if cell["status"] == "ok" and name != ours]
    return sorted(ok, key=lambda item: item[1]["median"], reverse=metric["better"] == "more")


def best_peer(metric, ours="stellane"):
    """The best of the runtimes beside ours; a baseline only where there is no other. (None, None): nobody."""
    peers = measured(metric, ours)
    return next((p for p in peers if p[0] not in BASELINES), peers[0] if peers else (None, None))
