"""Charts as inline SVG. Every coordinate across is in per cent and every one down in pixels, so a chart takes the width
that it is given and its text and lines stay as they are; CSS (report.css) has the colours, for light and dark."""

import math
from html import escape

from .stats import BASELINES, number, times
from .table import limited

LOG_FROM = 12  # more than so many times between the least and the greatest: a log scale, and dots, because it has no zero
ROW_HEIGHT, AXIS_HEIGHT = 20, 20
LINES = 7  # of the curves of one chart have a colour of their own


def kind(name, ours):
    return "ours" if name in ours else "floor" if name in BASELINES else "peer"


def svg(height, body, extra=""):
    return '<svg width="100%%" height="%d"%s aria-hidden="true">%s</svg>' % (height, extra, "".join(body))


def line(x1, y1, x2, y2, style):
    return '<line x1="%.2f%%" y1="%.1f" x2="%.2f%%" y2="%.1f" class="%s"/>' % (x1, y1, x2, y2, style)


def text(x, y, what, style="", anchor="middle"):
    return '<text x="%.2f%%" y="%.1f" text-anchor="%s" class="%s">%s</text>' % (x, y, anchor, style, escape(what))


def short(value):
    """A number for an axis: no digits that say nothing."""
    return number(value) if value >= 1e4 else "%g" % float("%.3g" % value)


def log_ticks(low, high):
    """Between two powers of ten: the decades, or where there are few of them 1, 2 and 5 of each."""
    steps = (1,) if high - low > 3 else (1, 3) if high - low > 1.5 else (1, 2, 5)
    ticks = [m * 10.0 ** e for e in range(math.floor(low), math.ceil(high) + 1) for m in steps]
    return [t for t in ticks if low <= math.log10(t) <= high]


class Scale:
    """Where a value lies, in per cent of the width."""

    def __init__(self, values, include=()):
        positive = [v for v in values if v > 0]
        self.log = len(positive) == len(values) and max(positive) / min(positive) > LOG_FROM
        every = list(values) + [v for v in include if v > 0 or not self.log]
        if self.log:
            self.low, self.high = math.log10(min(every) * 0.8), math.log10(max(every) * 1.15)
        else:
            self.low, self.high = min(0.0, min(every)), max(every + [1e-9]) * 1.02

    def at(self, value):
        value = math.log10(max(value, 1e-12)) if self.log else value
        return 100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def ticks(self):
        if self.log:
            return log_ticks(self.low, self.high)
        step = 10 ** math.floor(math.log10(self.high))
        step = next(step * f for f in (0.2, 0.5, 1, 2) if self.high / (step * f) <= 5.5)
        return [step * i for i in range(int(self.high / step) + 1)]


def bars(entries, ours, bound=None):
    """entries: [(name, cell)], best first; a bar each with its spread, from the least to the greatest sample. bound: a
    target's line."""
    extremes = [v for _, cell in entries for v in (min(cell["samples"]), max(cell["samples"]))]
    scale = Scale(extremes + [cell["median"] for _, cell in entries], [bound] if bound is not None else [])
    grid = [line(scale.at(t), 0, scale.at(t), ROW_HEIGHT, "grid") for t in scale.ticks()]
    if bound is not None:
        grid.append(line(scale.at(bound), 0, scale.at(bound), ROW_HEIGHT, "bound"))
    rows = []
    for name, cell in entries:
        style, middle = kind(name, ours), ROW_HEIGHT / 2
        least, most = scale.at(min(cell["samples"])), scale.at(max(cell["samples"]))
        at = scale.at(cell["median"])
        body = list(grid)
        if scale.log:
            body.append('<circle cx="%.2f%%" cy="%d" r="5" class="mark %s"/>' % (at, middle, style))
        else:
            body.append('<rect x="0" y="3" width="%.2f%%" height="%d" rx="2" class="mark %s"/>' % (
                max(at, 0.3), ROW_HEIGHT - 6, style))
        if most - least > 0.3:
            body += [line(least, middle, most, middle, "whisker")]
            body += [line(x, middle - 4, x, middle + 4, "whisker") for x in (least, most)]
        spread = round(100 * cell["spread"])
        rows.append('<div class="name %s">%s</div><div class="plot">%s</div><div class="value %s">%s%s<i>%s</i></div>' % (
            style, escape(name), svg(ROW_HEIGHT, body), style, number(cell["median"]),
            limited(cell), " ±%d%%" % spread if spread else ""))
    axis = [text(scale.at(t), 13, short(t), "tick", "start" if scale.at(t) < 4 else "end" if scale.at(t) > 94 else "middle")
            for t in scale.ticks()]
    rows.append('<div class="name tick">%s</div><div class="plot">%s</div><div></div>' % (
        "log scale" if scale.log else "", svg(AXIS_HEIGHT, axis)))
    return '<div class="bars">%s</div>' % "".join(rows)


def standing(groups):
    """groups: [[(anchor, gain, mark, peer)]]: how many times better (gain > 1) or worse ours is than the best of the others,
    on a log scale with 1 in the middle."""
    gains = [gain for entries in groups for _, gain, _, _ in entries]
    reach = min(100.0, max([2.0] + [max(g, 1 / g) for g in gains]) ** 1.05)

    def at(gain):
        return 50 + 50 * max(-1.0, min(1.0, math.log(gain) / math.log(reach)))

    steps = [s for s in (2, 5, 10, 20, 50) if s <= reach]
    grid = [line(at(g), 0, at(g), ROW_HEIGHT, "grid") for s in steps for g in (s, 1 / s)]
    grid.append(line(50, 0, 50, ROW_HEIGHT, "zero"))
    rows = ['<div></div><div class="plot ends"><span class="worse">◀ worse</span>'
            '<span class="better">better ▶</span></div><div></div>']
    for entries in groups:
        for anchor, gain, mark, peer in entries:
            x = at(gain)
            body = grid + ['<rect x="%.2f%%" y="4" width="%.2f%%" height="%d" rx="2" class="gain %s"/>' % (
                min(50.0, x), max(abs(x - 50), 0.4), ROW_HEIGHT - 8, mark)]
            words = "level with" if mark == "even" else "%s× <i>%s than</i>" % (times(max(gain, 1 / gain)), mark)
            rows.append('<div class="name"><a href="#%s">%s</a></div><div class="plot">%s</div>'
                        '<div class="value %s">%s %s</div>' % (
                            escape(anchor), escape(anchor), svg(ROW_HEIGHT, body), mark, words, escape(peer)))
        rows.append('<div class="gap"></div>')
    axis = [text(at(g), 13, "%s%d×" % ("" if g >= 1 else "1/", s), "tick" if s == (2 if reach < 10 else 10) else "tick minor")
            for s in steps for g in (s, 1 / s)]
    axis.append(text(50, 13, "1", "tick"))
    rows.append('<div></div><div class="plot">%s</div><div></div>' % svg(AXIS_HEIGHT, axis))
    return '<div class="bars standing">%s</div>' % "".join(rows)


def lines(series, x_at, x_ticks, y_at, y_ticks, ours, ideal=()):
    """series: {name: [(x, y)]}, the ones that matter most first. x_at, y_at: from 0 to 1. Ticks: [(value, words)]."""
    height, left, right, top, bottom = 260, 9, 97, 10, 236

    def place(x, y):
        return left + (right - left) * x_at(x), bottom - (bottom - top) * min(1.0, max(0.0, y_at(y)))

    body = []
    for value, words in y_ticks:
        y = bottom - (bottom - top) * y_at(value)
        body += [line(left, y, right, y, "grid"), text(left - 1, y + 4, words, "tick", "end")]
    for value, words in x_ticks:
        x = left + (right - left) * x_at(value)
        body += [line(x, top, x, bottom, "grid"), text(x, bottom + 16, words, "tick")]

    def path(points, style, title=""):
        places = [place(x, y) for x, y in points]
        parts = [line(*a, *b, style) for a, b in zip(places, places[1:])]
        if title:
            parts += ['<circle cx="%.2f%%" cy="%.1f" r="3.5" class="%s"><title>%s: %s</title></circle>' % (
                *p, style, escape(title), number(y)) for p, (_, y) in zip(places, points)]
        return parts

    if ideal:
        body += path(ideal, "ideal")
    legend, shades = [], {}
    for name in series:
        others = sum(not style.startswith("line ours") for style in shades.values())
        shades[name] = "line ours" if name in ours else "line c%d" % others if others < LINES else "line rest"
    for name in reversed(list(series)):  # what matters most is drawn last, on top
        body += path(series[name], shades[name], name)
    legend = ['<span class="key"><b class="%s"></b>%s</span>' % (shades[name], escape(name)) for name in series]
    if ideal:
        legend.append('<span class="key"><b class="line ideal"></b>ideal</span>')
    return '<div class="chart">%s</div><div class="legend">%s</div>' % (svg(height, body), "".join(legend))
