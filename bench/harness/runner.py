"""Running drivers: each in a process of its own, bound to its CPUs, watched by a time limit; their result lines are
parsed and their checksums compared. A driver that fails costs its cell of the table, nothing more."""

import json
import os
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time

from . import backends, machine


class Failed(Exception):
    """A run that gave no figure; the text says why."""


class Unavailable(Exception):
    """Cannot be had here, or was never promised; the text says why."""


def raise_descriptor_limit():
    """A thousand connections need more descriptors than the usual soft limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def driver(runtime):
    """The driver of a runtime; several may share one."""
    return "stellane" if runtime in backends.VARIANTS else {"raw-spin": "raw", "pool": "stellane"}.get(runtime, runtime)


def binary(build, runtime, workload):
    name = driver(runtime)
    if workload == "switch":
        name = "switch-" + name
    return os.path.join(build, "bench", "bench-" + name)


class Process:
    """A started driver. stderr goes to a file so that it can never block it."""

    live = set()  # to be ended when we are interrupted

    def __init__(self, command, cpus, serve=False, runtime=""):
        self.name = os.path.basename(command[0])
        self.errors = tempfile.TemporaryFile()
        environment = {k: v for k, v in os.environ.items()
                       if not k.startswith(("STELLANE_", "GOMAXPROCS", "GODEBUG", "GOGC", "GOMEMLIMIT"))}
        environment.update(backends.environment(runtime))
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE if serve else subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=self.errors, env=environment, start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        except OSError as e:
            raise Failed("%s cannot be started: %s" % (self.name, e.strerror)) from None
        Process.live.add(self)

    def reason(self, what):
        """Why it failed: its last word on stderr, if there is one."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return "%s: %s%s" % (self.name, what, " (%s)" % lines[-1][:160] if lines else "")

    def first_line(self, timeout):
        """The first line of stdout; what follows it stays for finish()."""
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        line = self.process.stdout.readline() if ready else b""
        if not line.strip():
            what = "ended before it said anything" if ready else "said nothing for %d s" % timeout
            self.kill()
            raise Failed(self.reason(what))
        self.look_for_excuse(line.decode())
        return line.decode()

    def look_for_excuse(self, line):
        if line.startswith('{"unavailable"'):
            self.errors.seek(0)
            words = self.errors.read().decode(errors="replace").strip().splitlines()
            raise Unavailable("; ".join([json.loads(line)["unavailable"]] + [w[:160] for w in words[-1:]]))

    def finish(self, timeout):
        """Wait for the end; the text of stdout."""
        try:
            out, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(self.reason("did not end within %d s" % timeout)) from None
        Process.live.discard(self)
        text, status = out.decode(errors="replace"), self.process.returncode
        for line in text.splitlines():
            if line.startswith('{"error"'):
                raise Failed("%s: %s" % (self.name, json.loads(line)["error"]))
            self.look_for_excuse(line)
        if status < 0:
            raise Failed(self.reason("ended by signal %s" % signal.Signals(-status).name))
        if status > 0:
            raise Failed(self.reason("exit status %d" % status))
        return text

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        Process.live.discard(self)


def end_all():
    for process in list(Process.live):
        process.kill()


def arguments(workload, params):
    return [workload] + ["%s=%d" % item for item in sorted(params.items())]


def parse(text):
    """Result lines to {metric: line}; other lines' members (limit, port) are merged under None."""
    lines = {None: {}}
    for line in text.splitlines():
        try:
            data = json.loads(line)
        except ValueError:
            raise Failed("wrote a line that is no JSON: %r" % line[:80]) from None
        if "metric" in data:
            lines[data["metric"]] = data
        else:
            lines[None].update(data)
    return lines


def check(row, params, lines):
    """The proof that the work was done."""
    if row.checksum is None:
        return
    expected = row.checksum(params)
    for metric, line in lines.items():
        if metric is None:
            continue
        wrong = line["checksum"] < expected if row.at_least else line["checksum"] != expected
        if wrong:
            raise Failed("checksum %d instead of %s%d: the work was not done as described" %
                         (line["checksum"], "at least " if row.at_least else "", expected))


PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def curve(lines):
    """The latency curve of one run, as [share, us] pairs: metrics latency_p50 and its like, or else p50 and p99."""
    for prefix in ("latency_", ""):
        points = [[share, lines[prefix + name]["value"]] for name, share in PERCENTILES.items() if prefix + name in lines]
        if len(points) > 1:
            return points
    return []


def values(row, lines, found):
    """The figures that the row shows, out of the lines of one run."""
    figures = {}
    for metric in row.metrics:
        any_line = next((l for name, l in lines.items() if name is not None), None)
        if metric.name == "@peak_rss_mb" and any_line:
            figures[metric.name] = any_line["peak_rss_bytes"] / 1e6
        elif metric.name == "@cpu_per_wall" and any_line and any_line["wall_ns"]:
            figures[metric.name] = any_line["cpu_ns"] / any_line["wall_ns"]
        elif metric.name == "@cpu_us" and any_line:
            figures[metric.name] = any_line["cpu_ns"] / any_line["operations"] / 1e3
        elif metric.name in lines:
            figures[metric.name] = lines[metric.name]["value"]
    if not figures:
        raise Failed("wrote no result")
    found["values"] = figures
    found["curve"] = curve(lines)
    main = lines.get(row.metrics[0].name)
    if main and row.kind == "driver":
        found.update({k: main[k] for k in ("wall_ns", "cpu_ns", "peak_rss_bytes", "operations", "checksum")})
    return found


def run_driver(row, build, runtime, params, cpus):
    params = dict(params, workers=row.workers)
    if row.touch:
        toucher = os.path.join(build, "bench", "bench-touch")
        Process([toucher] + arguments("run", {"mebibytes": row.touch >> 20}), cpus[:1]).finish(row.timeout)
    process = Process([binary(build, runtime, row.workload)] + arguments(row.workload, params), cpus[:row.workers],
                      runtime=runtime)
    lines = parse(process.finish(row.timeout))
    check(row, params, lines)
    return values(row, lines, {})


def run_startup(row, build, runtime, params, cpus):
    starter = os.path.join(build, "bench", "bench-startup")
    process = Process([starter, "%d" % params["times"], binary(build, runtime, row.workload), row.workload], cpus[:1])
    lines = parse(process.finish(row.timeout))
    own = {"wall_ns": lines["wall"]["wall_ns"] / params["times"], "cpu_ns": lines["cpu_time"]["value"] * 1e6,
           "peak_rss_bytes": lines["peak_rss"]["value"], "least_ms": lines["least"]["value"]}
    return values(row, lines, own)


LOAD_PARAMETERS = ("connections", "warm_ms", "run_ms", "bytes", "count_ms", "ops", "gap_us", "rate")
# What servers call while they are being connected to: not a part of any request.
CONNECTING = ("accept", "accept4", "setsockopt", "getsockopt", "epoll_ctl", "fcntl", "getpeername", "getsockname", "fstat",
              "close", "mmap", "munmap", "mprotect", "madvise", "ioctl")


def count_by_strace(server, command, cpus, timeout):
    """System calls a request, where the load generator may not count them itself: roughly, because a process that is
    stopped at each call finds more requests waiting when it goes on. None without strace."""
    if not shutil.which("strace"):
        return None
    with tempfile.NamedTemporaryFile("r") as summary:
        tracer = Process(["strace", "-f", "-c", "-o", summary.name, "-p", "%d" % server.process.pid], cpus)
        try:
            until = time.monotonic() + 5
            while "TracerPid:\t0" in machine.read("/proc/%d/status" % server.process.pid):
                if time.monotonic() > until or tracer.process.poll() is not None:
                    return None
                time.sleep(0.02)
            lines = parse(Process(command, cpus).finish(timeout))
            tracer.process.send_signal(signal.SIGINT)
            tracer.process.wait(timeout)
        except (subprocess.TimeoutExpired, Failed):
            return None
        finally:
            tracer.kill()
        calls = 0
        for line in summary:
            words = line.split()
            if len(words) >= 5 and words[3].isdigit() and words[-1] not in CONNECTING + ("total",):
                calls += int(words[3])
        return calls / lines[None]["requests"] if lines[None].get("requests") else None


def complete(lines, end, found):
    """What the server itself found out, and its memory."""
    for name, line in end.items():
        if name not in (None, "server"):
            lines[name] = line
    if "server" in end:
        found["peak_rss_bytes"] = end["server"]["peak_rss_bytes"]
    main = lines.get("throughput")
    if main:
        found["operations"], found["checksum"] = main["operations"], main["checksum"]
    found.update({k: lines[k]["value"] for k in ("server_share", "load_share") if k in lines})
    found["limit"] = lines[None].get("limit")


def run_served(row, build, runtime, params, cpus):
    """A server on the first CPU (or on all), the load generator on the second (or on all)."""
    mine = {k: v for k, v in params.items() if k not in LOAD_PARAMETERS + ("rate_percent",)}
    theirs = {k: v for k, v in params.items() if k in LOAD_PARAMETERS}
    shared = row.workers > 1 or len(cpus) < 2
    here, there = (cpus, cpus) if shared else (cpus[:1], cpus[1:2])
    command = [binary(build, runtime, row.workload)] + arguments(row.workload, dict(mine, workers=row.workers))
    server, found = Process(command, here, serve=True, runtime=runtime), {}
    try:
        port = parse(server.first_line(10))[None].get("port")
        if not port:
            raise Failed("%s did not say its port" % server.name)
        theirs.update(port=port, pid=server.process.pid, workers=row.workers)
        load = [os.path.join(build, "bench", "bench-load")] + arguments(row.load, theirs)
        try:
            lines = parse(Process(load, there).finish(row.timeout))
        except Failed as e:
            if server.process.poll() is not None:
                server.finish(1)  # it may say itself what it is about
                raise Failed("%s; %s" % (e, server.reason("the server had ended"))) from None
            raise
        if "uncounted" in lines[None] and "throughput" in lines:
            found["uncounted"] = lines[None]["uncounted"]
            short = [a for a in load if not a.startswith(("run_ms", "count_ms"))] + ["run_ms=150", "count_ms=0"]
            calls = count_by_strace(server, short, there, row.timeout)
            if calls is not None:
                lines["calls"] = dict(lines["throughput"], value=calls)
                found["strace"] = True
        # Closing its stdin ends the server; its last lines have its peak memory and what it measured itself.
        end = parse(server.finish(15))
    finally:
        server.kill()
    complete(lines, end, found)
    return values(row, lines, found)


RUN = {"driver": run_driver, "echo": run_served, "served": run_served, "startup": run_startup}
