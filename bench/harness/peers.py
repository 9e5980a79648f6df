"""Who takes part where, and how: for each runtime, by the id of a row or else by its workload, the parameters that differ
from the row's own ({} when none do), or, as a Not, why it does not take part. Without an entry, a runtime has no business
in a row. catalogue.py has the rows; workloads/README.md says what each runtime does.

A peer that does fewer operations (a thread is a hundred times as slow as a fiber) is still comparable: what is shown is
always the figure of one operation.
"""

from dataclasses import dataclass, field

GIB = 1 << 30


@dataclass(frozen=True)
class Not:
    """A runtime that does not take part; full: not in the quick run, memory: only with so many bytes to spare."""
    reason: str
    full: bool = False
    memory: int = 0
    params: dict = field(default_factory=dict)


FIBERS = ("yield", "spawn-join", "spawn-all", "skynet", "fib", "tree", "channel", "mutex", "fairness", "parked")
FILES = ("read", "read-through", "append")
ONCE = Not("measured once, above")
# A million fibers beside what is measured, and a hundred thousand.
MILLION = tuple("grow-%s-1M" % what for what in ("yield", "turns", "spawn", "channel", "timers"))
CROWDS = MILLION + tuple(id.replace("1M", "100k") for id in MILLION)
GROWTH = CROWDS + tuple(id.replace("1M", "1k") for id in MILLION)
SCALE = ("scale-strong-2w", "scale-weak-2w")


def each(keys, entry=None):
    """The same entry for several rows or workloads."""
    return dict.fromkeys(keys, {} if entry is None else entry)


STELLANE = {
    **each(FIBERS + FILES + ("switch", "timers", "echo", "wake", "wake-across", "start")),
    "idle-lean": {"lean": 1},
    "parked-64k": {"stack_bytes": 65536 - 4096},
    "parked-default": {"stack_bytes": 0},
}

GO = {
    **each(FIBERS + ("timers", "echo", "wake", "start")),
    **each(("channel-apart", "wake-across"), Not("cannot place goroutines")),
    **each(("parked-default", "idle-lean"), ONCE),
    **each(FILES, Not("a thread for each call on a file, as pthread")),
}

BOOST = {
    **each(("yield", "spawn-join", "spawn-all", "tree", "channel", "mutex", "fairness", "timers", "start")),
    "skynet": Not("its first-in first-out order keeps most of the million stacks alive at once (9 GB, half a minute): "
                  "only with --full and 16 GiB free", full=True, memory=16 * GIB),
    "fib": Not("its first-in first-out order keeps the whole tree alive at once"),
    **each(("channel-apart", "wake-across"), Not("cannot place fibers")),
    **each(MILLION, Not("its million stacks take 9 GB: only with --full and 16 GiB free", full=True, memory=16 * GIB)),
    "parked": Not("without guards, and it takes 9 GB: only with --full and 16 GiB free", full=True, memory=16 * GIB),
    "parked-default": ONCE,
    **each(FILES + ("echo", "wake"), Not("Boost.Fiber does no I/O")),
}

PTHREAD = {
    "yield": {"ops": 200000},
    "spawn-join": {"ops": 10000},
    "spawn-all": {"rounds": 1},
    **each(("skynet", "fib", "parked"), Not("a million threads do not exist")),
    **each(("parked-default", "idle-lean"), ONCE),
    **each(CROWDS, Not("a hundred thousand threads do not exist")),
    "tree": {"leaves": 1000},
    "channel": {"ops": 10000},
    "mutex": {"each": 1000},
    **each(("mutex-yield-1w", "mutex-yield-2w"), {"each": 100}),
    "timers": Not("a sleep of a thread costs 14 us: 100,000 a second are more than a CPU"),
    **each(FILES + ("fairness", "echo", "wake", "wake-across", "start")),
}

TOKIO = {
    **each(FIBERS + ("timers", "echo", "start")),
    **dict.fromkeys(GROWTH + ("tree", "fairness")),
    "channel-apart": Not("cannot place tasks"),
    "parked-default": ONCE,
}

ONE_WORKER = Not("has one worker")
ST = {
    **each(("yield", "spawn-join", "spawn-all", "tree", "channel", "mutex", "fairness", "timers", "echo", "wake", "start")),
    **each(SCALE + ("fair-yield-2w", "fair-20us-2w", "fair-1ms-2w", "wake-across"), ONE_WORKER),
    **each(MILLION, Not("a million stacks, 11 us each to make: only with --full", full=True, memory=8 * GIB)),
    "idle-lean": ONCE,
    **each(("spawn-join-2w", "spawn-all-2w", "skynet-2w", "fib-2w", "channel-2w", "channel-apart", "mutex-2w",
            "mutex-yield-2w", "echo-64-2w"), ONE_WORKER),
    "skynet": Not("its first-in first-out order keeps most of the million stacks alive at once (5 GB): only with --full and "
                  "8 GiB free", full=True, memory=8 * GIB),
    "fib": Not("its first-in first-out order keeps the whole tree alive at once"),
    "parked": Not("without guards, 11 us each to make: only with --full", full=True, memory=8 * GIB),
    "parked-default": ONCE,
}

POOL = {
    **each(FILES, {"pool": 1}),
    "file-cached": {"pool": 1, "rounds": 1},
}

# In the order of the table's columns.
TAKE_PART = {
    "stellane": STELLANE,
    "go": GO,
    "tokio": TOKIO,
    "boost": BOOST,
    "st": ST,
    "pthread": PTHREAD,
    "pool": POOL,
    "raw": {**each(("echo", "wake", "start")), "idle-lean": ONCE},
    "raw-uring": {**each(("echo", "wake")), "idle-lean": ONCE},
    "raw-spin": {"echo-1": {"spin_us": 50}},
    "inline": each(("switch",)),
    "fcontext": each(("switch",)),
}
RUNTIMES = tuple(TAKE_PART)
# The quick run has no time for more; the others are run with --full, or when they or their rows are asked for.
QUICK = ("stellane", "go", "tokio", "boost", "st", "pthread", "pool", "raw", "raw-spin", "inline", "fcontext")


def of(id, workload):
    """{runtime: parameters or Not} of a row."""
    entries = {runtime: table.get(id, table.get(workload)) for runtime, table in TAKE_PART.items()}
    return {runtime: entry for runtime, entry in entries.items() if entry is not None}
