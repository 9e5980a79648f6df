import io
import unittest
from argparse import Namespace
from unittest import mock

import sample
from harness import machine, result, runner, suite
from harness.progress import Progress, duration
from harness.table import Table

BUILT = {name: {"available": True, "text": "1.0"} for name in ("stellane", "go", "boost")}


def options(**more):
    return Namespace(**{"full": False, "only": ["yield-2"], "runtime": [], "repetitions": 3, "build": "nowhere", **more})


class Run(unittest.TestCase):
    """The suite with drivers that are functions."""

    def setUp(self):
        self.calls, self.kept = [], []
        quiet = mock.patch.object(machine.Disturbance, "text", lambda self: "")
        quiet.start()
        self.addCleanup(quiet.stop)

    def drive(self, answer=lambda runtime, time: sample.run_of(10.0), built=None, **more):
        def driver(row, build, runtime, params, cpus):
            self.calls.append(runtime)
            return answer(runtime, self.calls.count(runtime))
        stream = io.StringIO()
        whole = suite.Suite(options(**more), built or BUILT, sample.MACHINE, Table(stream), Progress(io.StringIO()))
        rows = list(suite.choose(whole.options.only, whole.options.full, whole.options.runtime))
        with mock.patch.dict(runner.RUN, {"driver": driver}):
            whole.run(rows, lambda document: self.kept.append(document))
        result.check(whole.document())
        return whole, stream.getvalue()

    def cells(self, whole, row=0):
        return whole.document()["rows"][row]["metrics"][0]["runtimes"]

    def test_repetitions_take_turns_and_begin_with_another(self):
        self.drive()
        self.assertEqual(self.calls, ["stellane", "go", "boost", "go", "boost", "stellane", "boost", "stellane", "go"])

    def test_a_failure_costs_one_cell(self):
        def answer(runtime, time):
            if runtime == "go" and time == 2:
                raise runner.Failed("it fell")
            return sample.run_of(10.0)
        whole, text = self.drive(answer)
        self.assertEqual(self.calls.count("go"), 2)
        self.assertEqual(self.cells(whole)["go"], {"status": "failed", "reason": "it fell"})
        self.assertEqual(self.cells(whole)["stellane"]["samples"], [10.0] * 3)
        self.assertIn("FAILED  yield-2, go: it fell", text)

    def test_what_is_not_installed(self):
        whole, _ = self.drive(built={**BUILT, "go": {"available": False, "text": "no compiler"}})
        self.assertEqual(self.cells(whole)["go"], {"status": "not installed", "reason": "no compiler"})
        self.assertNotIn("go", self.calls)

    def test_only_those_asked_for(self):
        whole, _ = self.drive(runtime=["boost"])
        self.assertEqual(set(self.calls), {"stellane", "boost"})
        self.assertEqual(self.cells(whole)["go"]["reason"], "not asked for")

    def test_an_interrupted_row_keeps_what_it_has(self):
        def answer(runtime, time):
            if runtime == "boost":
                raise KeyboardInterrupt
            return sample.run_of(10.0)
        whole, text = self.drive(answer, only=["yield"])
        self.assertEqual([row["id"] for row in whole.document()["rows"]], ["yield-2"])
        self.assertEqual(self.cells(whole)["go"]["samples"], [10.0])
        self.assertEqual(self.cells(whole)["boost"]["reason"], "interrupted")
        self.assertTrue(self.kept[-1]["interrupted"])
        self.assertIn("INTERRUPTED", text)

    def test_interrupted_before_there_was_anything(self):
        def answer(runtime, time):
            raise KeyboardInterrupt
        self.assertEqual(self.drive(answer)[0].document()["rows"], [])

    def test_every_row_is_kept_when_it_is_done(self):
        self.drive(only=["yield"])
        self.assertEqual([len(document["rows"]) for document in self.kept], [1, 2])

    def test_everything_is_in_the_result(self):
        whole, _ = self.drive()
        row = whole.document()["rows"][0]
        self.assertEqual(len(row["runs"]["stellane"]), 3)
        self.assertEqual(set(row["runs"]["go"][0]["disturbance"]), {"others", "steal"})
        self.assertEqual([cost["metric"] for cost in row["costs"]], ["cost_cpu", "cost_memory"])
        self.assertAlmostEqual(row["costs"][0]["runtimes"]["go"]["median"], 9.9)


class Choice(unittest.TestCase):
    def test_every_row_can_be_asked_for_by_its_name(self):
        for row in suite.all_rows():
            self.assertIn(row.id, [chosen.id for chosen in suite.choose([row.id], False)])

    def test_names_are_unique(self):
        ids = [row.id for row in suite.all_rows()]
        self.assertEqual(len(ids), len(set(ids)))

    def test_every_group_has_a_title(self):
        self.assertFalse({row.group for row in suite.all_rows()} - set(suite.GROUPS))

    def test_the_quick_run_leaves_rows_out(self):
        quick, full = ([row.id for row in suite.choose([], f)] for f in (False, True))
        self.assertLess(set(quick), set(full))


class Curves(unittest.TestCase):
    def test_the_median_of_each_percentile(self):
        runs = {"go": [{"curve": [[0.5, v], [0.99, 10 * v]]} for v in (1.0, 3.0, 2.0)], "raw": [{}]}
        self.assertEqual(suite.curves(runs), {"go": [[0.5, 2.0], [0.99, 20.0]]})

    def test_out_of_the_lines_of_a_run(self):
        lines = {None: {}, "p50": {"value": 1.0}, "p99": {"value": 9.0}}
        self.assertEqual(runner.curve(lines), [[0.5, 1.0], [0.99, 9.0]])
        lines.update(latency_p50={"value": 2.0}, latency_p999={"value": 30.0})
        self.assertEqual(runner.curve(lines), [[0.5, 2.0], [0.999, 30.0]])
        self.assertEqual(runner.curve({None: {}, "time": {"value": 1.0}}), [])


class Rest(unittest.TestCase):
    """The progress line, by a clock that is set by hand."""

    def setUp(self):
        self.now, self.stream = 0.0, io.StringIO()
        self.progress = Progress(self.stream, lambda: self.now)
        self.row = Namespace(id="a")
        self.progress.plan({"a": 4, "b": 10})

    def step(self, seconds):
        self.progress.now(self.row, "go", 1, 2)
        self.now += seconds
        self.progress.done(self.row)

    def test_estimate(self):
        self.assertIsNone(self.progress.rest())
        self.step(2)
        self.step(4)
        self.assertAlmostEqual(self.progress.rest(), 2 * 3 + 10 * 3)
        self.progress.row_done(self.row)
        self.assertAlmostEqual(self.progress.rest(), 10 * 3)

    def test_without_a_terminal_a_line_now_and_then(self):
        for _ in range(8):
            self.step(5)
        self.assertEqual(len(self.stream.getvalue().splitlines()), 2)
        self.assertIn("[1/2] a: go, 1 of 2; 0:15, about 0:55 to go", self.stream.getvalue())

    def test_nobody_looks_any_more(self):
        self.progress.stream = open("/dev/null", encoding="utf-8")  # not for writing
        self.addCleanup(self.progress.stream.close)
        for _ in range(8):
            self.step(20)

    def test_durations(self):
        self.assertEqual([duration(s) for s in (0, 59.6, 61, 3600)], ["0:00", "1:00", "1:01", "1:00:00"])


class Disturbed(unittest.TestCase):
    def test_said_from_a_threshold_on(self):
        d = machine.Disturbance()
        d.add((0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.95))
        self.assertEqual(d.text(), "")
        d.add((1.0, 1.0, 0.0, 1.0), (2.0, 3.0, 0.1, 2.0))
        self.assertIn("other processes", d.text())
        self.assertIn("stolen", d.text())

    def test_too_short_to_tell(self):
        d = machine.Disturbance()
        d.add((0.0, 0.0, 0.0, 0.0), (0.1, 0.2, 0.1, 0.0))
        self.assertEqual(d.text(), "")


if __name__ == "__main__":
    unittest.main()
