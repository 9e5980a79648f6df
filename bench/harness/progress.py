"""How far a long run is: one line on a terminal, overwritten; elsewhere a line now and then."""

import sys
import time

SELDOM_SECONDS = 15


def duration(seconds):
    seconds = int(seconds + 0.5)
    return "%d:%02d:%02d" % (seconds // 3600, seconds // 60 % 60, seconds % 60) if seconds >= 3600 else \
        "%d:%02d" % (seconds // 60, seconds % 60)


class Progress:
    def __init__(self, stream=sys.stderr, clock=time.monotonic):
        self.stream, self.clock = stream, clock
        self.live = stream.isatty()
        self.began = self.said = clock()
        self.left = {}  # row: runs to go
        self.took = {}  # row: [runs, seconds]
        self.rows_done = self.rows = 0
        self.run_began = self.began

    def plan(self, runs):
        """{row's id: how many runs it is}"""
        self.left, self.rows = dict(runs), len(runs)

    def rest(self):
        """Seconds, or None while there is nothing to go by. Rows that have not been measured yet are taken to be like
        those that were."""
        runs = sum(n for n, _ in self.took.values())
        if runs < 2:
            return None
        average = sum(s for _, s in self.took.values()) / runs
        rest = 0.0
        for id, n in self.left.items():
            done, seconds = self.took.get(id, (0, 0.0))
            rest += n * (seconds / done if done else average)
        return rest

    def say(self, text):
        try:
            print(text, end="" if self.live else "\n", file=self.stream, flush=True)
        except OSError:
            self.live = False  # nobody looks any more

    def now(self, row, runtime, repetition, repetitions):
        now = self.run_began = self.clock()
        if not self.live and now - self.said < SELDOM_SECONDS:
            return
        self.said = now
        rest = self.rest()
        text = "[%d/%d] %s: %s, %d of %d; %s, %s to go" % (
            self.rows_done + 1, self.rows, row.id, runtime, repetition, repetitions, duration(now - self.began),
            "about " + duration(rest) if rest is not None else "?")
        self.say("\r\033[K" + text[:118] if self.live else text)

    def done(self, row):
        runs, seconds = self.took.get(row.id, (0, 0.0))
        self.took[row.id] = (runs + 1, seconds + self.clock() - self.run_began)
        self.left[row.id] = max(0, self.left.get(row.id, 0) - 1)

    def row_done(self, row):
        self.left[row.id] = 0
        self.rows_done += 1
        self.end()

    def end(self):
        if self.live:
            self.say("\r\033[K")
