import re
import unittest
from html.parser import HTMLParser

import sample
from harness import charts, report

CLOSED = {"line", "circle", "rect"}  # where they end with />


class Balance(HTMLParser):
    """Every element that begins ends, in order; ids are there once."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        for key, value in attributes:
            assert value is not None, (name, key)
            if key == "id":
                self.ids.append(value)
            if key in ("href", "src"):
                self.links.append(value)
        if name != "meta":
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        assert name in CLOSED, name

    def handle_endtag(self, name):
        assert self.open and self.open.pop() == name, (name, self.getpos())

    def handle_data(self, data):
        self.text.append(data)


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.document = sample.everything()
        cls.page = report.page(cls.document)
        cls.parsed = Balance(cls.page)

    def test_it_is_well_formed(self):
        self.assertEqual(self.parsed.open, [])
        self.assertEqual(len(self.parsed.ids), len(set(self.parsed.ids)))

    def test_nothing_comes_from_outside(self):
        self.assertNotRegex(self.page, r"(?i)https?:|//[a-z]|@import|url\(|<script|<link|<img|<iframe|\bsrc=")
        self.assertTrue(all(link.startswith("#") and link[1:] in self.parsed.ids for link in self.parsed.links))

    def test_every_row_and_runtime_is_there(self):
        for row in self.document["rows"]:
            self.assertIn(row["id"], self.parsed.ids)
        for name in sample.MANY:
            self.assertIn('<div class="name %s">%s</div>' % ("ours" if name == "stellane" else "peer", name), self.page)

    def test_what_others_wrote_is_text(self):
        self.assertIn("it &lt;b&gt;fell&lt;/b&gt;", self.page)
        self.assertNotIn("<b>fell", self.page)

    def test_it_says_what_disturbed(self):
        self.assertIn("DISTURBED", self.page)
        self.assertNotIn("DISTURBED", report.page(sample.make_document([sample.make_row()])))

    def test_curves_and_scaling(self):
        self.assertIn("Latency: median to tail", self.page)
        self.assertIn("p99.9", self.page)
        self.assertIn("strong scaling", self.page)
        self.assertIn("multiples of its own with 1,000 fibers", self.page)

    def test_each_runtime_beside_itself(self):
        rows = [row for row in self.document["rows"] if row.get("scale")]
        found = report.against_itself(rows, lambda row: row["workers"], "more")
        self.assertEqual([(x, round(y, 6)) for x, y in found["stellane"]], [(1, 1), (2, 2), (4, 4)])
        self.assertEqual(set(found), set(sample.MANY[:6]))
        grown = [row for row in self.document["rows"] if row["group"] == "growth"]
        self.assertEqual([round(y, 3) for _, y in report.against_itself(grown, report.live, "less")["go"]], [1, 1.099, 1.998])

    def test_light_and_dark(self):
        self.assertIn("prefers-color-scheme: dark", self.page)

    def test_the_same_result_makes_the_same_page(self):
        self.assertEqual(report.page(self.document), self.page)

    def test_little_is_enough(self):
        nobody = {name: {"status": "not run", "reason": "needs 64 CPUs"} for name in ("stellane", "go")}
        odd = {"stellane": [0.0, 0.0], "go": [0.0, 5.0]}
        for rows in ([], [sample.make_row(figures={}, cells=nobody)], [sample.make_row(figures=odd)],
                     [sample.make_row(figures={"stellane": [-3.0, 2.0]})], [sample.make_across()]):
            self.assertEqual(Balance(report.page(sample.make_document(rows))).open, [])


class Standing(unittest.TestCase):
    def test_against_the_best_of_the_others(self):
        rows = [sample.make_row("a", {"stellane": [10.0], "go": [40.0], "tokio": [5.0]}),
                sample.make_row("b", {"stellane": [10.0], "go": [40.0]}, better="more"),
                sample.make_row("c", {"stellane": [10.0], "go": [10.1]}),
                sample.make_row("d", {"stellane": [10.0]})]
        found = report.standing(sample.make_document(rows))
        self.assertEqual([(row["id"], gain, mark, peer) for row, gain, mark, peer in found][:2],
                         [("a", 0.5, "worse", "tokio"), ("b", 0.25, "worse", "go")])
        self.assertEqual([mark for _, _, mark, _ in found], ["worse", "worse", "even"])


class Scales(unittest.TestCase):
    def test_bars_begin_at_zero(self):
        scale = charts.Scale([10.0, 50.0])
        self.assertFalse(scale.log)
        self.assertEqual(scale.at(0), 0)
        self.assertAlmostEqual(scale.at(50) / scale.at(10), 5)

    def test_dots_where_bars_would_vanish(self):
        scale = charts.Scale([1.0, 1000.0])
        self.assertTrue(scale.log)
        self.assertAlmostEqual(scale.at(10) - scale.at(1), scale.at(1000) - scale.at(100))
        self.assertIn("log scale", charts.bars([("a", {"median": 1.0, "spread": 0, "samples": [1.0]}),
                                                ("b", {"median": 1e3, "spread": 0, "samples": [1e3]})], ()))

    def test_nothing_leaves_the_chart(self):
        places = [float(x) for x in re.findall(r'[xc][x12]?="(-?[\d.]+)%"', report.page(sample.everything()))]
        self.assertTrue(places)
        self.assertTrue(all(-0.01 <= x <= 100.01 for x in places))


if __name__ == "__main__":
    unittest.main()
