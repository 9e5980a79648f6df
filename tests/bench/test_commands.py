"""bench/run as a program, with drivers that are shell scripts."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest

import sample
from harness import result

RUN = os.path.join(sample.ROOT, "bench", "run")
LINE = '{"workload":"yield","runtime":"x","metric":"time","value":%s,"unit":"ns","checksum":5000000,"operations":5000000,' \
       '"wall_ns":1000000,"cpu_ns":900000,"peak_rss_bytes":4000000}'


class Program(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        os.mkdir(os.path.join(self.folder, "bench"))
        self.json = os.path.join(self.folder, "bench.json")
        self.built({"stellane": {"available": True, "text": "0"}, "go": {"available": True, "text": "1"}, "_compiler": "cc"})
        self.driver("stellane", "echo '%s'" % LINE % "10")
        self.driver("go", "echo '%s'" % LINE % "40")

    def built(self, peers):
        with open(os.path.join(self.folder, "bench", "peers.json"), "w", encoding="utf-8") as f:
            f.write(peers if isinstance(peers, str) else json.dumps(peers))

    def driver(self, name, body):
        path = os.path.join(self.folder, "bench", "bench-" + name)
        with open(path, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\n" + body + "\n")
        os.chmod(path, stat.S_IRWXU)

    def run_it(self, *arguments, **more):
        return subprocess.run([sys.executable, "-B", RUN, *arguments], capture_output=True, text=True, timeout=60,
                              check=False, **more)

    def measure(self, *more):
        return self.run_it("--build", self.folder, "--only", "yield-2", "--repetitions", "2", *more)

    def saved(self, name="a.json", document=None):
        path = os.path.join(self.folder, name)
        result.save(path, document or sample.everything())
        return path


class Measuring(Program):
    def test_table_json_and_report(self):
        page = os.path.join(self.folder, "report.html")
        done = self.measure("--report", page)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("0.25 better", done.stdout)
        cells = result.load(self.json)["rows"][0]["metrics"][0]["runtimes"]
        self.assertEqual(cells["stellane"]["samples"], [10, 10])
        self.assertEqual(cells["boost"]["status"], "not installed")
        self.assertTrue(os.path.getsize(page) > 1000)

    def test_a_driver_that_fails_or_lies_or_is_not_there(self):
        for body, words in (("echo ouch >&2; exit 3", "exit status 3 (ouch)"), ("kill -SEGV $$", "SIGSEGV"),
                            ("echo '%s'" % LINE.replace("5000000", "4") % "1", "checksum 4"), ("echo hello", "no JSON"),
                            ("true", "no result"), ("echo '{\"error\": \"no memory\"}'; exit 1", "no memory"),
                            (None, "cannot be started")):
            if body is None:
                os.unlink(os.path.join(self.folder, "bench", "bench-go"))
            else:
                self.driver("go", body)
            done = self.measure()
            self.assertEqual(done.returncode, 1, body)
            self.assertIn("FAILED  yield-2, go: ", done.stdout)
            self.assertIn(words, " ".join(done.stdout.split()))

    def test_interrupted(self):
        """The first driver has run, the second waits to be killed."""
        here = os.path.join(self.folder, "here")
        self.driver("go", "touch %s; exec sleep 1000" % here)
        with subprocess.Popen([sys.executable, "-B", RUN, "--build", self.folder, "--only", "yield", "--json", self.json],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while not os.path.exists(here) and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn("INTERRUPTED", out)
        document = result.load(self.json)
        self.assertTrue(document["interrupted"])
        self.assertEqual(document["rows"][0]["metrics"][0]["runtimes"]["stellane"]["samples"], [10])

    def test_the_reader_of_the_table_goes_away(self):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run([sys.executable, "-B", RUN, "--build", self.folder, "--only", "yield-2"], stdout=writer,
                                  stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        finally:
            os.close(writer)
        self.assertEqual((done.returncode, done.stderr), (141, ""))

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_full_disk(self):
        done = self.measure("--json", "/dev/full")
        self.assertEqual(done.returncode, 1)
        self.assertIn("No space left", done.stderr)
        self.assertIn("0.25 better", done.stdout)


class Bad(Program):
    def test_arguments(self):
        for arguments, words in (("", "--build is needed"), ("--build x --only nothing", "nothing is called 'nothing'"),
                                 ("--build x --runtime nobody", "nobody"), ("--build x --columns nobody", "nobody"),
                                 ("--build x --repetitions 0", "1 to 1000"), ("--build x --repetitions x", "invalid"),
                                 ("--quick --full --build x", "not both"), ("compare a", "required"), ("report a", "required"),
                                 ("compare a b --fail-over -1", "percent"), ("compare a b --fail-over nan", "percent")):
            done = self.run_it(*arguments.split())
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(words, done.stderr)

    def test_builds(self):
        self.assertIn("configure it with", self.run_it("--build", self.folder + "/none").stderr)
        for text in ("{", "[]", "{}", '{"_compiler": 1, "go": 2}', '{"_compiler": "cc", "go": {"available": 1, "text": ""}}'):
            self.built(text)
            done = self.measure()
            self.assertEqual(done.returncode, 2, text)
            self.assertIn("is damaged", done.stderr)

    def test_results(self):
        path = os.path.join(self.folder, "bad.json")
        with open(path, "w", encoding="utf-8") as f:
            f.write("{")
        for arguments in (("show", path), ("report", path, "-o", path + ".html"), ("compare", path, path),
                          ("show", path + "none")):
            done = self.run_it(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertTrue(done.stderr.startswith("bench/run: "), done.stderr)
            self.assertNotIn("Traceback", done.stderr)
        self.assertFalse(os.path.exists(path + ".html"))

    def test_places_before_anything_is_measured(self):
        done = self.measure("--report", self.folder + "/none/a.html")
        self.assertEqual((done.returncode, done.stdout), (2, ""))


class Shown(Program):
    def test_list_show_report(self):
        self.assertIn("yield-2", self.run_it("--list").stdout)
        path = self.saved()
        self.assertIn("peer17", self.run_it("show", path, "--costs").stdout)
        self.assertEqual(self.run_it("report", path, "-o", path + ".html").returncode, 0)

    def test_compare(self):
        before = self.saved("a.json", sample.make_document([sample.make_row(figures={"stellane": [10.0, 10.1]})]))
        after = self.saved("b.json", sample.make_document([sample.make_row(figures={"stellane": [11.0, 11.1]})]))
        self.assertEqual(self.run_it("compare", before, after).returncode, 0)
        self.assertEqual(self.run_it("compare", before, after, "--fail-over", "5").returncode, 1)
        self.assertEqual(self.run_it("compare", before, after, "--fail-over", "15").returncode, 0)
        self.assertEqual(self.run_it("compare", after, before, "--fail-over", "0").returncode, 0)


if __name__ == "__main__":
    unittest.main()
