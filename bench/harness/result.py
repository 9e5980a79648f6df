"""The result of a run, as it is kept: one JSON object. bench/README.md describes it for those who read it; this file makes it,
writes it and reads it back."""

import json
import os
import tempfile

FORMAT = 2


class Bad(Exception):
    """A result that cannot be read or written; the text says why."""


def check_place(path):
    """Better before an hour of measuring than after it."""
    path = os.path.realpath(path)
    if os.path.isdir(path):
        raise Bad("%s is a directory" % path)
    if os.path.exists(path) and not os.path.isfile(path):
        return
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(path)):
            pass
    except OSError as e:
        raise Bad("nothing can be written in %s: %s" % (os.path.dirname(path), e.strerror)) from None


def write(path, text):
    """Beside it first: whoever reads path finds the old or the new text, and a full disk costs the new one only."""
    path, beside = os.path.realpath(path), None
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device: nothing to put in its place
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            return
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=os.path.dirname(path), delete=False,
                                         prefix=os.path.basename(path) + ".") as f:
            beside = f.name
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(beside, 0o666 & ~current_umask())
        os.replace(beside, path)
        beside = None
    except OSError as e:
        raise Bad("%s cannot be written: %s" % (path, e.strerror)) from None
    finally:
        if beside:
            os.unlink(beside)


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save(path, document):
    write(path, json.dumps(document, indent=1) + "\n")


REQUIRED = {"run": str, "machine": dict, "peers": dict, "groups": dict, "rows": list, "disturbed": str, "seconds": (int, float)}
REQUIRED_ROW = {"id": str, "group": str, "workers": int, "params": dict, "metrics": list, "runs": dict, "disturbed": str}
REQUIRED_METRIC = {"metric": str, "label": str, "unit": str, "better": str, "runtimes": dict, "targets": list}
REQUIRED_CELL = {"ok": {"median": (int, float), "spread": (int, float), "samples": list}}
STATES = ("ok", "failed", "not run", "not installed", "not available")


def demand(what, thing, members):
    if not isinstance(thing, dict):
        raise Bad("%s is no object" % what)
    for name, kind in members.items():
        if not isinstance(thing.get(name), kind):
            raise Bad("%s has no %s, or it is of the wrong kind" % (what, name))


def check(document):
    """Raises Bad unless everything is there that the readers below rely on."""
    if not isinstance(document, dict) or "format" not in document:
        raise Bad("no result of bench/run")
    if document["format"] != FORMAT:
        raise Bad("format %r; this bench/run reads format %d" % (document["format"], FORMAT))
    demand("the result", document, REQUIRED)
    demand("the machine", document["machine"], {"cpu": str, "cpus": int, "kernel": str, "date": str})
    for row in document["rows"]:
        demand("a row", row, REQUIRED_ROW)
        for metric in row["metrics"]:
            demand("a metric of %s" % row["id"], metric, REQUIRED_METRIC)
            for name, cell in metric["runtimes"].items():
                what = "%s, %s, %s" % (row["id"], metric["metric"], name)
                demand(what, cell, {"status": str})
                if cell["status"] not in STATES:
                    raise Bad("%s has an unknown status" % what)
                demand(what, cell, REQUIRED_CELL.get(cell["status"], {"reason": str}))


def load(path):
    try:
        with open(path, encoding="utf-8") as f:
            document = json.load(f)
    except OSError as e:
        raise Bad("%s cannot be read: %s" % (path, e.strerror)) from None
    except (ValueError, RecursionError) as e:
        raise Bad("%s is no JSON: %s" % (path, e)) from None
    try:
        check(document)
    except Bad as e:
        raise Bad("%s: %s" % (path, e)) from None
    return document
