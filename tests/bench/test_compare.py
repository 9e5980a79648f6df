import io
import unittest

import sample
from harness.compare import Comparison
from harness.table import Table


def pair(before, after, **more):
    documents = [sample.make_document([sample.make_row(figures=figures, **more)]) for figures in (before, after)]
    return Comparison(*documents)


def text_of(comparison, everything=False):
    stream = io.StringIO()
    comparison.show(Table(stream), everything)
    return stream.getvalue()


class Changes(unittest.TestCase):
    def test_more_than_the_spread_of_both(self):
        found = pair({"stellane": [100.0, 101.0, 102.0]}, {"stellane": [120.0, 121.0, 122.0]})
        self.assertEqual(found.changes[0].mark, "worse")
        self.assertAlmostEqual(found.changes[0].share, 121 / 101 - 1)
        self.assertEqual(len(found.losses(10)), 1)
        self.assertEqual(found.losses(25), [])

    def test_within_the_spread(self):
        found = pair({"stellane": [90.0, 100.0, 110.0]}, {"stellane": [105.0, 115.0, 125.0]})
        self.assertEqual(found.changes[0].mark, "")
        self.assertEqual(found.losses(0), [])

    def test_more_is_better(self):
        found = pair({"stellane": [100.0, 101.0]}, {"stellane": [150.0, 151.0]}, better="more")
        self.assertEqual(found.changes[0].mark, "better")
        self.assertEqual(found.losses(0), [])

    def test_one_run_proves_nothing(self):
        self.assertEqual(pair({"stellane": [100.0]}, {"stellane": [200.0]}).changes[0].mark, "")

    def test_a_peers_loss_is_not_ours(self):
        found = pair({"go": [100.0, 101.0]}, {"go": [200.0, 201.0]})
        self.assertEqual(found.changes[0].mark, "worse")
        self.assertEqual(found.losses(0), [])

    def test_from_nothing(self):
        self.assertIn("from 0", text_of(pair({"stellane": [0.0, 0.0]}, {"stellane": [5.0, 5.0]})))


class Remarks(unittest.TestCase):
    def test_another_size_is_not_compared(self):
        rows = [sample.make_row(figures={"stellane": [v, v]}, params={"ops": ops}) for v, ops in ((1.0, 1), (5.0, 9))]
        found = Comparison(*(sample.make_document([row]) for row in rows))
        self.assertIn("OTHER SIZE, not compared: yield-2 (ops 9, was 1)", text_of(found))
        self.assertEqual(found.losses(0), [])

    def test_another_machine(self):
        before, after = sample.make_document([sample.make_row()]), sample.make_document([sample.make_row()])
        after["machine"]["kernel"] = "7.0"
        self.assertIn("OTHER MACHINE: the kernel: 7.0, was 6.1", text_of(Comparison(before, after)))

    def test_rows_of_one_only(self):
        found = Comparison(sample.make_document([sample.make_row("a")]), sample.make_document([sample.make_row("b")]))
        self.assertIn("Only in the first: a", text_of(found))
        self.assertIn("Only in the second: b", text_of(found))

    def test_disturbed_and_failed(self):
        failed = sample.make_row(figures={"go": [1.0, 1.0]}, cells={"stellane": {"status": "failed", "reason": "fell"}})
        text = text_of(Comparison(sample.make_document([sample.make_row(disturbed=True)]), sample.make_document([failed])))
        self.assertIn("The first was DISTURBED: yield-2", text)
        self.assertIn("FAILED now: yield-2, stellane", text)

    def test_drift_of_the_peers(self):
        names = ("stellane", "go", "boost", "pthread")
        found = pair({name: [100.0, 101.0] for name in names}, {name: [110.0, 111.1] for name in names})
        self.assertAlmostEqual(found.drift()[0], 0.1, places=3)
        self.assertEqual(found.drift()[1], 3)


class Shown(unittest.TestCase):
    def test_ours_always_others_when_they_changed(self):
        found = pair({"stellane": [1.0, 1.0], "go": [9.0, 9.0], "boost": [5.0, 5.0]},
                     {"stellane": [1.0, 1.0], "go": [9.0, 9.0], "boost": [7.0, 7.0]})
        self.assertIn("stellane", text_of(found))
        self.assertNotIn("  go ", text_of(found))
        self.assertIn("  boost ", text_of(found))
        self.assertIn("  go ", text_of(found, everything=True))

    def test_everything_with_itself(self):
        document = sample.everything()
        self.assertIn("0 figures better, 0 worse", text_of(Comparison(document, document), everything=True))


if __name__ == "__main__":
    unittest.main()
