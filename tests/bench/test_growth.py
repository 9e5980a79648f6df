import unittest
from unittest import mock

import sample  # noqa: F401  (puts the harness on the path)
from harness import growth, runner, stats, suite
from harness.catalogue import Metric, Row, Target


def ok(median):
    return {"status": "ok", "median": median}


class Since(unittest.TestCase):
    earlier = {"small": {"stellane": ok(10.0), "raw": ok(8.0)}}

    def judge(self, target, **medians):
        return stats.judge(target, {name: ok(m) for name, m in medians.items()}, earlier=self.earlier)

    def test_what_ours_has_grown_by(self):
        target = Target("P18", "<=", 3, since="small")
        self.assertEqual(self.judge(target, stellane=29.0)["value"], 2.9)
        self.assertTrue(self.judge(target, stellane=29.0)["met"])
        self.assertFalse(self.judge(target, stellane=31.0)["met"])

    def test_beside_what_a_peer_has_grown_by(self):
        target = Target("P18", "<=", 1.15, "raw", since="small")
        self.assertTrue(self.judge(target, stellane=22.0, raw=16.0)["met"])
        self.assertFalse(self.judge(target, stellane=24.0, raw=16.0)["met"])

    def test_without_the_earlier_row_it_is_not_judged(self):
        self.assertIsNone(self.judge(Target("P18", "<=", 3, since="other"), stellane=10.0)["met"])
        self.assertIsNone(self.judge(Target("P18", "<=", 1.15, "go", since="small"), stellane=10.0)["met"])

    def test_every_row_that_a_target_or_an_efficiency_needs_comes_before_it(self):
        seen = set()
        for row in suite.all_rows():
            needed = {Target(*t).since for m in row.metrics for t in m.targets} - {None}
            needed |= {row.since} if row.workers > 1 and row.since else set()
            self.assertLessEqual(needed, seen)
            seen.add(row.id)


class Efficiency(unittest.TestCase):
    row = Row("wide", "scale", "tree", (Metric("time", "", "ns"), Metric("@efficiency", "", "%", "more")), workers=2,
              runtimes={"stellane": {}}, since="narrow")

    def result(self, narrow, wide):
        before = [{"id": "narrow", "metrics": [{"metric": "time", "runtimes": {"stellane": narrow}}]}]
        runs = {"stellane": [{"values": {"time": t}} for t in wide]}
        return suite.metric_result(self.row, self.row.metrics[1], {}, runs, before)["runtimes"]

    def test_of_what_one_worker_did(self):
        self.assertEqual(self.result(ok(100.0), [50.0, 100.0, 62.5])["stellane"]["samples"], [100.0, 50.0, 80.0])

    def test_nothing_where_one_worker_did_nothing(self):
        self.assertEqual(self.result({"status": "failed", "reason": ""}, [50.0]), {})


class Tree(unittest.TestCase):
    def test_the_sum_of_the_leaves(self):
        leaves = []
        for number in range(200):
            x = number % 64
            for _ in range(13):
                x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
                x ^= x >> 29
            leaves.append(x)
        self.assertEqual(growth.leaf_sum(200, 13), sum(leaves) % 2**64)

    def test_one_and_all_workers_in_the_quick_run(self):
        quick = [row.workers for row in growth.scale_rows(6) if not row.full_only]
        self.assertEqual(quick, [1, 6])
        self.assertEqual([row.workers for row in growth.scale_rows(6) if row.scale == "strong"], [1, 2, 4, 6])


class Rate(unittest.TestCase):
    def params(self, answers):
        row = next(row for row in suite.all_rows() if row.id == "open-50")
        whole = suite.Suite(mock.Mock(full=False, build="nowhere"), {}, {}, None, None)
        whole.cpus, whole.descriptors = [0, 1], 10000
        with mock.patch.object(runner, "run_served", side_effect=answers) as served:
            excuse, params = whole.row_excuse(row), whole.row_params(row)
            self.assertLessEqual(served.call_count, 3)
        return excuse, params["rate"]

    def test_a_share_of_the_best_that_the_raw_loop_did(self):
        answers = [{"values": {"throughput": t}} for t in (90000.0, 100000.0, 80000.0)]
        self.assertEqual(self.params(answers), ("", 50000))

    def test_an_excuse_when_there_is_no_raw_loop(self):
        excuse, rate = self.params(runner.Failed("no"))
        self.assertIn("raw loop", excuse)
        self.assertEqual(rate, 0)


if __name__ == "__main__":
    unittest.main()
