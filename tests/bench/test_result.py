import errno
import json
import os
import tempfile
import unittest
from unittest import mock

import sample
from harness import result


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(folder.name, "a.json")

    def written(self, text):
        with open(self.path, "w", encoding="utf-8") as f:
            f.write(text)
        return self.path

    def test_what_was_saved_is_loaded(self):
        document = sample.everything()
        result.save(self.path, document)
        self.assertEqual(result.load(self.path), document)

    def test_a_full_disk_leaves_the_old_one(self):
        self.written("old")
        with mock.patch("os.fsync", side_effect=OSError(errno.ENOSPC, "No space left on device")):
            with self.assertRaisesRegex(result.Bad, "No space left"):
                result.save(self.path, {})
        with open(self.path, encoding="utf-8") as f:
            self.assertEqual(f.read(), "old")
        self.assertEqual(os.listdir(self.folder), ["a.json"])

    def test_an_interrupted_write_leaves_nothing(self):
        with mock.patch("os.replace", side_effect=KeyboardInterrupt), self.assertRaises(KeyboardInterrupt):
            result.save(self.path, {})
        self.assertEqual(os.listdir(self.folder), [])

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_device_is_written_to_and_stays(self):
        link = os.path.join(self.folder, "link")
        os.symlink("/dev/full", link)
        with self.assertRaisesRegex(result.Bad, "No space left"):
            result.write(link, "text")
        self.assertFalse(os.path.isfile("/dev/full"))

    def test_a_link_stays_a_link(self):
        link = os.path.join(self.folder, "link")
        os.symlink(self.path, link)
        result.write(link, "new")
        self.assertTrue(os.path.islink(link))
        with open(self.path, encoding="utf-8") as f:
            self.assertEqual(f.read(), "new")

    def test_places_that_cannot_be(self):
        for path in (self.folder, os.path.join(self.folder, "none", "a.json"), "/proc/none/a.json"):
            with self.assertRaises(result.Bad):
                result.check_place(path)
        result.check_place(self.path)
        self.assertEqual(os.listdir(self.folder), [])

    def test_what_is_no_result(self):
        for text in ("", "{", "[]", "3", "\x00\x01", "{}", '{"format": 1}', '{"format": 2}', "[" * 100000):
            with self.assertRaises(result.Bad, msg=text[:20]):
                result.load(self.written(text))
        with self.assertRaisesRegex(result.Bad, "cannot be read"):
            result.load(os.path.join(self.folder, "none"))

    def test_no_utf8(self):
        with open(self.path, "wb") as f:
            f.write(b"\xff\xfe{")
        with self.assertRaises(result.Bad):
            result.load(self.path)


class Format(unittest.TestCase):
    def test_each_member_that_readers_rely_on_is_asked_for(self):
        document = sample.make_document([sample.make_row()])
        result.check(document)
        places = [(lambda d: d, result.REQUIRED), (lambda d: d["rows"][0], result.REQUIRED_ROW),
                  (lambda d: d["rows"][0]["metrics"][0], result.REQUIRED_METRIC),
                  (lambda d: d["rows"][0]["metrics"][0]["runtimes"]["go"], result.REQUIRED_CELL["ok"])]
        for place, members in places:
            for name in members:
                for spoil in (lambda thing: thing.pop(name), lambda thing: thing.update({name: None})):
                    damaged = json.loads(json.dumps(document))
                    spoil(place(damaged))
                    with self.assertRaises(result.Bad, msg=name):
                        result.check(damaged)

    def test_unknown_states_and_formats(self):
        document = sample.make_document([sample.make_row()])
        document["rows"][0]["metrics"][0]["runtimes"]["go"]["status"] = "asleep"
        with self.assertRaisesRegex(result.Bad, "status"):
            result.check(document)
        with self.assertRaisesRegex(result.Bad, "format 99"):
            result.check({"format": 99})


if __name__ == "__main__":
    unittest.main()
