"""tools/instructions, with a valgrind that is a shell script."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

import sample

NAMES = ("switch", "yield", "spawn-join", "channel", "mutex", "mutex-contended", "park-wake")


class Guard(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = folder.name
        for name in ("tools", "bench/instructions", "build/instructions", "bin"):
            os.makedirs(os.path.join(self.root, name))
        self.tool = shutil.copy(os.path.join(sample.ROOT, "tools", "instructions"), os.path.join(self.root, "tools"))
        self.baseline = os.path.join(self.root, "bench", "instructions", "baseline.json")
        self.write("build/instructions/build.txt", "cc 1, abacus\n/bin/true\n")
        self.count(2000000)
        self.run_it("--update", "--reason", "The first.")

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.root, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)

    def count(self, collected, status=0):
        """What the tool is told that every operation has taken."""
        self.write("bin/valgrind", "#!/bin/sh\necho '==1== Collected : %d' >&2\nexit %d\n" % (collected, status), stat.S_IRWXU)

    def run_it(self, *arguments, path=None):
        where = os.path.join(self.root, "bin") + ":/usr/bin:/bin" if path is None else path
        return subprocess.run([sys.executable, "-B", self.tool, "--build", os.path.join(self.root, "build"), *arguments],
                              env={"PATH": where}, capture_output=True, text=True, timeout=60, check=False)

    def kept(self):
        with open(self.baseline, encoding="utf-8") as f:
            return json.load(f)

    def test_as_before(self):
        self.assertEqual(self.kept()["operations"], dict.fromkeys(NAMES, 100.0))
        self.assertEqual(self.run_it().returncode, 0)

    def test_a_little_is_nothing(self):
        for collected in (2058000, 1942000):
            self.count(collected)
            self.assertEqual(self.run_it().returncode, 0)

    def test_grown_or_shrunk(self):
        for collected, word in ((2062000, "GROWN"), (1938000, "SHRUNK")):
            self.count(collected)
            done = self.run_it()
            self.assertEqual(done.returncode, 1)
            self.assertIn(word, done.stdout)

    def test_an_update_needs_its_reason_and_keeps_it(self):
        self.count(4000000)
        for arguments in (("--update",), ("--update", "--reason", " "), ("--reason", "why")):
            self.assertEqual(self.run_it(*arguments).returncode, 2)
        self.assertEqual(self.kept()["operations"]["yield"], 100.0)
        self.assertEqual(self.run_it("--update", "--reason", "Twice the features.").returncode, 0)
        self.assertEqual(self.kept()["operations"]["yield"], 200.0)
        self.assertEqual([entry["reason"] for entry in self.kept()["history"]], ["The first.", "Twice the features."])
        self.assertEqual(self.kept()["history"][1]["changed"]["yield"], [100.0, 200.0])

    def test_another_compiler(self):
        self.write("build/instructions/build.txt", "cc 2, abacus\n/bin/true\n")
        for arguments in ((), ("--update", "--reason", "new")):
            done = self.run_it(*arguments)
            self.assertEqual(done.returncode, 77)
            self.assertIn("skipped: the baseline is of [cc 1, abacus], this is [cc 2, abacus]", done.stdout)
        self.assertEqual(self.run_it("--update", "--reason", "new", "--other-build").returncode, 0)
        self.assertEqual(self.kept()["build"], "cc 2, abacus")

    def test_skipped_without_valgrind_or_its_headers(self):
        self.assertIn("no valgrind", self.run_it(path="/none").stdout)
        self.count(0, 77)
        done = self.run_it()
        self.assertEqual(done.returncode, 77)
        self.assertIn("headers", done.stdout)

    def test_what_cannot_be_counted_is_no_success(self):
        for collected, status in ((0, 0), (2000000, 1)):
            self.count(collected, status)
            self.assertEqual(self.run_it().returncode, 2)
        self.count(2000000)
        os.unlink(os.path.join(self.root, "build", "instructions", "build.txt"))
        self.assertIn("configure it", self.run_it().stderr)

    def test_a_damaged_baseline(self):
        for text in ("", "{", "[]", "{}", '{"operations": {"yield": "many"}}'):
            self.write("bench/instructions/baseline.json", text)
            done = self.run_it()
            self.assertEqual(done.returncode, 2, text)
            self.assertIn("is damaged", done.stderr)


if __name__ == "__main__":
    unittest.main()
