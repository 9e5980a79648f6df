"""The command line of bench/run."""

import argparse
import json
import os
import sys

from . import backends, compare, machine, peers, report, result, runner, suite
from .progress import Progress
from .table import Table, reasons


def split(texts):
    return [name for text in texts for name in text.split(",") if name]


def check_names(parser, option, given, known):
    for name in given:
        if name not in known:
            parser.error("%s: nothing is called %r; there are %s" % (option, name, ", ".join(sorted(known))))


def number_of(text):
    value = int(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError("from 1 to 1000")
    return value


def add_view(parser):
    parser.add_argument("--columns", metavar="NAMES", action="append", default=[],
                        help="the peers beside ours, instead of the best and the named one")
    parser.add_argument("--costs", action="store_true", help="CPU time and peak memory of each row, too")


def parse_run(arguments):
    p = argparse.ArgumentParser(prog="bench/run", description="Run the benchmarks of a build and print the table.",
                                epilog="Also: bench/run show|report|compare --help")
    p.add_argument("--build", help="the build directory (configured with STELLANE_BUILD_BENCH=ON)")
    p.add_argument("--quick", action="store_true", help="under five minutes (the default)")
    p.add_argument("--full", action="store_true", help="larger sizes, more repetitions, every row")
    p.add_argument("--json", metavar="FILE", help="where the figures go (default: DIR/bench.json)")
    p.add_argument("--report", metavar="FILE", help="a page with charts, too")
    p.add_argument("--only", metavar="NAME", action="append", default=[], help="rows, groups or workloads; see --list")
    p.add_argument("--runtime", metavar="NAME", action="append", default=[], help="only these beside ours")
    p.add_argument("--repetitions", metavar="N", type=number_of, default=0, help="of every row")
    p.add_argument("--list", action="store_true", help="name the rows and end")
    add_view(p)
    o = p.parse_args(arguments)
    o.only, o.runtime, o.columns = split(o.only), split(o.runtime), split(o.columns)
    runtimes = set(peers.RUNTIMES) | set(backends.VARIANTS) | {"raw-uring"}
    check_names(p, "--only", o.only, {name for row in suite.all_rows() for name in suite.names(row)})
    check_names(p, "--runtime", o.runtime, runtimes)
    check_names(p, "--columns", o.columns, runtimes)
    if o.quick and o.full:
        p.error("--quick or --full, not both")
    if not o.build and not o.list:
        p.error("--build is needed")
    return o


def list_rows():
    for row in suite.all_rows():
        print("%-20s %-13s %s%s" % (row.id, row.group, suite.title(row), "  (--full)" if row.full_only else ""))
    return 0


def read_built(build):
    """What the build found: {runtime: {available, text}} and the compiler."""
    path = os.path.join(build, "bench", "peers.json")
    try:
        with open(path, encoding="utf-8") as f:
            built = json.load(f)
        compiler = built.pop("_compiler")
        if not all(isinstance(p["available"], bool) and isinstance(p["text"], str) for p in built.values()):
            raise ValueError("not as the build writes it")
        return built, compiler
    except FileNotFoundError:
        raise result.Bad("no benchmarks in %s: configure it with -DSTELLANE_BUILD_BENCH=ON and build" % build) from None
    except OSError as e:
        raise result.Bad("%s: %s" % (path, e.strerror)) from None
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise result.Bad("%s is damaged (%s): configure the build again" % (path, e)) from None


class Keeper:
    """Keeps the result after each row. A disk that is full now may not be later: it is said once, and tried again."""

    def __init__(self, path):
        self.path, self.trouble = path, None

    def __call__(self, document):
        before = self.trouble
        try:
            result.save(self.path, document)
            self.trouble = None
        except result.Bad as e:
            self.trouble = str(e)
            if not before:
                print("bench/run: %s" % e, file=sys.stderr)


def run(arguments, root):
    o = parse_run(arguments)
    if o.list:
        return list_rows()
    built, compiler = read_built(o.build)
    path = o.json or os.path.join(o.build, "bench.json")
    for place in filter(None, (path, o.report)):
        result.check_place(place)
    keeper = Keeper(path)
    described = machine.describe(root, compiler)
    whole = suite.Suite(o, built, described, Table(peers=o.columns, costs=o.costs), Progress())
    try:
        whole.run(list(suite.choose(o.only, o.full, o.runtime)), keeper)
    finally:
        runner.end_all()
        if whole.results:
            keeper(whole.document())
    if whole.results and not keeper.trouble:
        print("Figures: %s" % path)
    if o.report and whole.results:
        result.write(o.report, report.page(whole.document()))
        print("Report: %s" % o.report)
    if whole.interrupted:
        return 130
    return 1 if reasons(whole.document())[0] or keeper.trouble else 0


def show(arguments, _):
    p = argparse.ArgumentParser(prog="bench/run show", description="Print the table of a result.")
    p.add_argument("result", metavar="RESULT.json")
    add_view(p)
    o = p.parse_args(arguments)
    document = result.load(o.result)
    table = Table(peers=split(o.columns), costs=o.costs)
    table.head(document, len(document["rows"]))
    for row in document["rows"]:
        table.row(row, document["groups"].get(row["group"], row["group"]))
    table.foot(document)
    return 0


def make_report(arguments, _):
    p = argparse.ArgumentParser(prog="bench/run report", description="Make the page with the charts of a result.")
    p.add_argument("result", metavar="RESULT.json")
    p.add_argument("-o", "--output", metavar="FILE", required=True)
    o = p.parse_args(arguments)
    result.write(o.output, report.page(result.load(o.result)))
    return 0


def make_comparison(arguments, _):
    p = argparse.ArgumentParser(prog="bench/run compare", description="What has changed from one result to another.")
    p.add_argument("before", metavar="A.json")
    p.add_argument("after", metavar="B.json")
    p.add_argument("--all", action="store_true", help="the peers' figures that did not change, too")
    p.add_argument("--runtime", metavar="NAME", action="append", default=[], help="only these")
    p.add_argument("--fail-over", metavar="PERCENT", type=float,
                   help="exit status 1 when one of ours is worse by more than that, and by more than the spread")
    o = p.parse_args(arguments)
    if o.fail_over is not None and not 0 <= o.fail_over < float("inf"):
        p.error("--fail-over: a share in percent, 0 or more")
    changes = compare.Comparison(result.load(o.before), result.load(o.after))
    changes.show(Table(), o.all, split(o.runtime))
    return 1 if o.fail_over is not None and changes.losses(o.fail_over) else 0


COMMANDS = {"show": show, "report": make_report, "compare": make_comparison}


def main(arguments, root):
    command = COMMANDS.get(arguments[0]) if arguments else None
    return command(arguments[1:], root) if command else run(arguments, root)
