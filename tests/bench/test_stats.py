import unittest

import sample  # noqa: F401  (puts the harness on the path)
from harness import stats


def cell(*samples):
    return {"status": "ok", **stats.summary(list(samples))}


class Numbers(unittest.TestCase):
    def test_three_digits_that_count(self):
        for value, text in ((0, "0"), (0.123, "0.12"), (9.999, "10.00"), (12.34, "12.3"), (123.4, "123"), (1234.5, "1234"),
                            (12345.6, "12,346"), (123456, "123k"), (2.5e6, "2.50M")):
            self.assertEqual(stats.number(value), text)

    def test_median_and_half_the_range(self):
        self.assertEqual(stats.summary([4.0, 1.0, 2.0]), {"median": 2.0, "spread": 0.75, "samples": [4.0, 1.0, 2.0]})
        self.assertEqual(stats.summary([0, 0])["spread"], 0.0)
        self.assertEqual(stats.summary([-2.0, -1.0, -4.0])["spread"], 0.75)


class Verdicts(unittest.TestCase):
    def test_less_is_better(self):
        self.assertEqual(stats.verdict(cell(10), cell(20), "less"), (0.5, "better"))
        self.assertEqual(stats.verdict(cell(20), cell(10), "less"), (2.0, "worse"))

    def test_more_is_better(self):
        self.assertEqual(stats.verdict(cell(10), cell(20), "more"), (0.5, "worse"))

    def test_a_difference_within_the_noise_is_a_draw(self):
        self.assertEqual(stats.verdict(cell(10.4), cell(10), "less")[1], "even")
        self.assertEqual(stats.verdict(cell(8, 10, 12), cell(10, 12, 14), "less")[1], "even")

    def test_nothing_is_said_of_a_ratio_to_nothing(self):
        self.assertEqual(stats.verdict(cell(10), cell(0), "less"), (None, None))


class Targets(unittest.TestCase):
    cells = {"stellane": {"median": 10.0}, "raw": {"median": 9.8}}

    def test_by_itself(self):
        self.assertTrue(stats.judge(("P1", "<=", 10), self.cells)["met"])
        self.assertFalse(stats.judge(("P1", ">=", 11), self.cells)["met"])

    def test_by_a_peer(self):
        self.assertFalse(stats.judge(("P2", "<=", 0.5, "raw"), self.cells)["met"])
        self.assertTrue(stats.judge(("P2", "<=", 0.3, "raw", "+"), self.cells)["met"])

    def test_without_figures_it_is_not_judged(self):
        self.assertIsNone(stats.judge(("P2", "<=", 0.5, "go"), self.cells)["met"])
        self.assertIsNone(stats.judge(("P2", "<=", 5), {})["met"])


class Best(unittest.TestCase):
    def metric(self, better="less", **medians):
        return {"better": better, "runtimes": {name.replace("_", "-"): cell(v) for name, v in medians.items()}}

    def test_the_best_other_runtime(self):
        self.assertEqual(stats.best_peer(self.metric(stellane=1, go=3, tokio=2))[0], "tokio")
        self.assertEqual(stats.best_peer(self.metric("more", stellane=1, go=3, tokio=2))[0], "go")

    def test_a_floor_only_where_there_is_nobody_else(self):
        self.assertEqual(stats.best_peer(self.metric(stellane=4, go=3, raw=2))[0], "go")
        self.assertEqual(stats.best_peer(self.metric(stellane=4, inline=3, fcontext=9))[0], "inline")
        self.assertEqual(stats.best_peer(self.metric(stellane=4)), (None, None))


if __name__ == "__main__":
    unittest.main()
