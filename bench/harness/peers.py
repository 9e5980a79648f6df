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


def each(keys, entry=None):
    """The same entry for several rows or workloads."""
    return dict.fromkeys(keys, {} if entry is None else entry)


def large(reason, gib=8):
    """Only where there is time and memory."""
    return Not("%s: only with --full and %d GiB free" % (reason, gib), full=True, memory=gib * GIB)

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

TOKIO = {
    **each(FIBERS + ("timers", "echo", "wake", "start")),
    **each(("channel-apart", "wake-across"), Not("cannot place tasks")),
    **each(("parked-default", "idle-lean"), ONCE),
    **each(FILES, Not("a thread for each call on a file, as pool")),
}

BOOST = {
    **each(("yield", "spawn-join", "spawn-all", "tree", "channel", "mutex", "fairness", "timers", "start")),
    "skynet": large("3 seconds, and 3 GB of stacks"),
    "fib": Not("its first-in first-out order keeps most of the tree alive at once, more than 10 GB of stacks"),
    **each(("channel-apart", "wake-across"), Not("cannot place fibers")),
    **each(MILLION, large("its million stacks take 9 GB", 16)),
    "parked": large("without guards, and its million stacks take 9 GB", 16),
    "parked-default": ONCE,
    **each(FILES + ("echo", "wake"), Not("Boost.Fiber does no I/O")),
}

ASIO = {
    **each(("yield", "spawn-join", "spawn-all", "skynet", "fib", "tree", "channel", "mutex", "fairness", "timers", "echo",
            "wake", "start")),
    **each(("mutex-yield-1w", "mutex-yield-2w"), Not("has no mutex that may be held across a wait")),
    **each(("channel-apart", "wake-across"), Not("cannot place coroutines")),
    **each(MILLION, large("its million stacks take 6 GB")),
    "parked": large("without guards, and its million stacks take 6 GB"),
    **each(("parked-default", "idle-lean"), ONCE),
}

ST = {
    **each(("yield", "spawn-join", "spawn-all", "tree", "channel", "mutex", "fairness", "timers", "echo", "wake", "start")),
    "skynet": large("its first-in first-out order keeps most of the million stacks alive at once (5 GB)"),
    "fib": Not("its first-in first-out order keeps the whole tree alive at once, more than 10 GB of stacks"),
    **each(MILLION, large("a million stacks, 11 us each to make")),
    "parked": large("without guards, 11 us each to make"),
    **each(("echo-10000", "idle"), Not("waits with poll(2) and looks at all of them each time: minutes")),
    **each(("parked-default", "idle-lean"), ONCE),
}

CROWDED = Not("its scheduler looks at everyone that waits, again and again: minutes")
PTH = {
    **each(("mutex", "fairness", "echo", "wake", "start")),
    **each(GROWTH, CROWDED),
    "grow-turns-1k": {"ops": 200000},
    "yield": {"ops": 200000},
    "spawn-join": {"ops": 50000},
    "spawn-all": {"rounds": 1},
    "tree": {"leaves": 1000},
    "channel": {"ops": 10000},
    **each(("skynet", "fib", "parked", "mutex-yield-1w"), CROWDED),
    "timers": Not("its scheduler looks at everyone that sleeps, again and again: sleeps end most of a second late"),
    **each(("echo-10000", "idle"), Not("waits with select(2): 1,024 descriptors")),
    **each(("parked-default", "idle-lean"), ONCE),
}

ERLANG = {
    **each(("yield", "spawn-join", "spawn-all", "skynet", "fib", "channel", "fairness", "parked", "timers", "echo")),
    "start": {"times": 10},
    "tree": Not("its numbers outgrow 64 bits: the leaves would be about arithmetic"),
    "mutex": Not("processes share no memory that a mutex could guard"),
    **each(("channel-apart", "wake-across"), Not("cannot place processes")),
    "wake": Not("its library has no pipes"),
    **each(("parked-default", "idle-lean"), ONCE),
}

LIBUV = {
    **each(("timers", "echo", "wake", "start")),
    "wake-across": Not("callbacks: no fibers, no channels"),
    "idle-lean": ONCE,
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

POOL = {
    **each(FILES, {"pool": 1}),
    "file-cached": {"pool": 1, "rounds": 1},
}

ALONE = Not("no scheduler: nothing that waits, nothing beside it")
SERIAL = {
    **each(("spawn-join", "spawn-all", "skynet", "fib", "tree", "channel", "mutex")),
    **each(("mutex-yield-1w",) + GROWTH, ALONE),
}

FCONTEXT = {
    **each(("switch", "yield", "spawn-join", "skynet", "fib", "channel")),
    **each(("spawn-all", "mutex") + GROWTH, ALONE),
    "grow-turns-1k": {},
}

# ---- where somebody has built them: common/root.cmake ----

NO_IO = Not("does no I/O")
NOT_BESIDE = Not("its driver has no fibers that wait beside")
GUARDS = Not("its guards stop it at some 33,000 fibers")

ARGOBOTS = {
    **each(("yield", "spawn-join", "spawn-all", "skynet", "fib", "channel", "mutex", "parked", "start")),
    "parked-default": ONCE,
    **each(("timers", "echo"), Not("has neither I/O nor a sleep")),
    **each(GROWTH, NOT_BESIDE),
}

LIBFORK = {
    **each(("skynet", "fib", "start")),
    **each(("yield", "spawn-join", "spawn-all", "channel", "mutex", "parked", "timers", "echo"),
           Not("trees of forks and joins only")),
    **each(GROWTH, NOT_BESIDE),
}

PHOTON = {
    **each(("yield", "spawn-join", "spawn-all", "channel", "mutex", "timers", "echo", "start")),
    **each(("skynet", "fib"), Not("its first-in first-out order keeps most of the tree alive at once, 9 GB of stacks")),
    "channel-apart": Not("its driver places no fibers"),
    "parked": Not("its driver does not park: beyond some 33,000 its stacks lose their guards, without a word"),
    **each(GROWTH, NOT_BESIDE),
}

LIBDILL = {
    **each(("yield", "spawn-join", "spawn-all", "channel", "parked", "timers", "echo", "start")),
    "parked-default": ONCE,
    **each(("skynet", "fib"), Not("its order keeps most of the tree alive at once, and its guards stop it at some 33,000 "
                                  "fibers")),
    "mutex": Not("has none"),
    **each(GROWTH, NOT_BESIDE),
}

MARL = {
    **each(("spawn-join", "spawn-all", "skynet", "channel", "mutex", "start")),
    "fib": large("10 seconds, and 5 GB of stacks"),
    "yield": Not("has none"),
    **each(("mutex-yield-1w", "mutex-yield-2w"), Not("its mutex stops the thread: nothing may wait that holds it")),
    "channel-apart": Not("cannot place tasks"),
    "parked": Not("its driver does not park: tasks wait for each other only"),
    "timers": Not("has no sleep"),
    "echo": NO_IO,
    **each(GROWTH, NOT_BESIDE),
}

BTHREAD = {
    **each(("spawn-join", "spawn-all", "skynet", "fib", "channel", "mutex", "timers", "echo", "start")),
    "yield": Not("the newest runs first: a yield comes back to whoever yields"),
    "channel-apart": Not("cannot place fibers"),
    "parked": GUARDS,
    **each(GROWTH, NOT_BESIDE),
}

NECO = {
    **each(("yield", "spawn-join", "spawn-all", "skynet", "channel", "mutex", "timers", "echo", "start")),
    "fib": Not("its order keeps most of the tree alive at once, some 8 GB of stacks"),
    "parked": large("without guards"),
    "parked-default": ONCE,
    **each(GROWTH, NOT_BESIDE),
}

MAY = {
    **each(("yield", "spawn-join", "spawn-all", "channel", "mutex", "timers", "echo", "start")),
    **each(("skynet", "fib"), Not("its order keeps most of the tree alive at once, and its guards stop it at some 33,000 "
                                  "fibers")),
    "channel-apart": Not("cannot place coroutines"),
    "parked": GUARDS,
    **each(GROWTH, NOT_BESIDE),
}

# In the order of the table's columns.
TAKE_PART = {
    "stellane": STELLANE,
    "go": GO,
    "tokio": TOKIO,
    "boost": BOOST,
    "asio": ASIO,
    "st": ST,
    "pth": PTH,
    "erlang": ERLANG,
    "libuv": LIBUV,
    "argobots": ARGOBOTS,
    "libfork": LIBFORK,
    "photon": PHOTON,
    "libdill": LIBDILL,
    "marl": MARL,
    "bthread": BTHREAD,
    "may": MAY,
    "neco": NECO,
    "pthread": PTHREAD,
    "pool": POOL,
    "raw": {**each(("echo", "wake", "start")), "idle-lean": ONCE},
    "raw-uring": {**each(("echo", "wake")), "idle-lean": ONCE},
    "raw-spin": {"echo-1": {"spin_us": 50}},
    "inline": each(("switch",)),
    "fcontext": FCONTEXT,
    "serial": SERIAL,
}
RUNTIMES = tuple(TAKE_PART)
ONE_WORKER = ("st", "pth", "libdill", "neco", "fcontext", "serial")
# The quick run has no time for more; the others are run with --full, or when they or their rows are asked for.
QUICK = ("stellane", "go", "tokio", "boost", "st", "pthread", "pool", "raw", "raw-spin", "inline", "fcontext", "serial")


def of(id, workload, workers=1):
    """{runtime: parameters or Not} of a row."""
    entries = {runtime: table.get(id, table.get(workload)) for runtime, table in TAKE_PART.items()}
    if workers > 1:
        entries.update((runtime, Not("has one worker")) for runtime in ONE_WORKER if entries[runtime] is not None)
    return {runtime: entry for runtime, entry in entries.items() if entry is not None}
