import io
import os
import re
import unittest
from unittest import mock

import sample
from harness.table import WIDTH, Table, hurried, reasons, wants_colour


def shown(document, **options):
    stream = io.StringIO()
    table = Table(stream, **options)
    table.head(document, len(document["rows"]))
    for row in document["rows"]:
        table.row(row, document["groups"][row["group"]])
    table.foot(document)
    return stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Lines(unittest.TestCase):
    def test_twenty_runtimes_fit(self):
        text = shown(sample.everything(), colour=False, costs=True)
        self.assertLessEqual(max(map(len, text.splitlines())), WIDTH)
        for name in sample.MANY:
            self.assertIn(name, text)

    def test_colour_adds_nothing_but_colour(self):
        plain, coloured = (shown(sample.everything(), colour=c, width=WIDTH) for c in (False, True))
        self.assertEqual(re.sub("\033\\[[0-9]*m", "", coloured), plain)
        self.assertNotEqual(coloured, plain)
        self.assertNotIn("\033", plain)

    def test_no_trailing_space(self):
        self.assertFalse([line for line in shown(sample.everything(), colour=False).splitlines() if line != line.rstrip()])

    def test_ours_the_best_and_the_named(self):
        row = sample.make_row(figures={"stellane": [10.0], "go": [40.0], "tokio": [5.0], "boost": [100.0]})
        text = shown(sample.make_document([row]))
        self.assertRegex(text, r"10\.0   tokio 5\.00 +2\.00 worse +go 40\.0 +0\.25 better\n +boost 100")

    def test_those_asked_for(self):
        row = sample.make_row(figures={"stellane": [10.0], "go": [40.0], "tokio": [5.0], "boost": [100.0]})
        self.assertRegex(shown(sample.make_document([row]), peers=["boost"]),
                         r"10\.0   boost 100 +0\.10 better\n +tokio 5\.00  go 40")

    def test_a_long_label_has_a_line_of_its_own(self):
        lines = shown(sample.make_document([sample.make_row("a-row-with-a-name-that-fits-nowhere")])).splitlines()
        self.assertIn("  a-row-with-a-name-that-fits-nowhere, 1w ns", lines)
        self.assertRegex("\n".join(lines), r"\n {40} +11\.0 ±9%   go 41\.0")

    def test_targets(self):
        row = sample.make_row(targets=(("P1", "<=", 12), ("P2", "<=", 0.1, "go"), ("P3", "<=", 1, "tokio")))
        self.assertIn("P1 <= 12 met  P2 <= 0.1 x go missed  P3 <= 1 x tokio ?", shown(sample.make_document([row])))
        self.assertIn("1 of 2 targets met", shown(sample.make_document([row])))

    def test_a_row_that_nobody_ran(self):
        cells = {name: {"status": "not run", "reason": "needs 64 CPUs"} for name in ("stellane", "go")}
        self.assertIn("go: needs 64 CPUs [yield-2]", shown(sample.make_document([sample.make_row(figures={}, cells=cells)])))


class Below(unittest.TestCase):
    def test_reasons(self):
        failures, absent = reasons(sample.everything())
        self.assertEqual(failures, ["FAILED  broken, peer00: it <b>fell</b>"])
        self.assertIn("peer01 is not installed: gone", absent)

    def test_disturbed_and_interrupted(self):
        text = shown(sample.make_document([sample.make_row(disturbed=True)], interrupted=True))
        self.assertIn("DISTURBED", text)
        self.assertIn("INTERRUPTED", text)
        self.assertNotIn("DISTURBED", shown(sample.make_document([sample.make_row()])))

    def test_measured_fewer_times(self):
        row = sample.make_row()
        self.assertEqual(hurried(sample.make_document([row])), [])
        self.assertEqual(hurried(sample.make_document([{**row, "repetitions": 9}])), ["yield-2"])


class Colour(unittest.TestCase):
    def test_only_for_terminals_that_want_it(self):
        with mock.patch.dict(os.environ, {"TERM": "xterm"}):
            os.environ.pop("NO_COLOR", None)
            self.assertTrue(wants_colour(Terminal()))
            self.assertFalse(wants_colour(io.StringIO()))
            with mock.patch.dict(os.environ, {"NO_COLOR": "1"}):
                self.assertFalse(wants_colour(Terminal()))
            with mock.patch.dict(os.environ, {"TERM": "dumb"}):
                self.assertFalse(wants_colour(Terminal()))


if __name__ == "__main__":
    unittest.main()
