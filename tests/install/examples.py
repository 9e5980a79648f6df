#!/usr/bin/env python3
"""examples.py --work DIR (--prefix PREFIX | --library FILE [--link FLAG]...) [--cc CC] [--sanitize NAME] EXAMPLE

Builds one program of examples/ with nothing but what pkg-config says of the tree installed in PREFIX, runs it as its
users would, with real clients, and compares what it does and prints. With --library: against that static library of a
build tree, with the sanitizer that it was built with.

EXAMPLE "form": instead, every example compiles without a warning as C11 with gcc and with clang (those that are there),
has no frame that is too big for a fiber, opens with its idea, how to build it and what it prints, and stands in the
index.

Time limits here are hang guards, nothing else: no outcome hangs on how fast the machine is.
"""
import argparse
import atexit
import calendar
import contextlib
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
GUARD_SECONDS = 60
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
FRAME_BYTES = 32768  # an eighth of a fiber's stack
options = None
children = []


class Failure(Exception):
    pass


def expect(truth, *words):
    if not truth:
        raise Failure(" ".join(map(str, words)))


def hang_guard():
    """A function that is true until the time of the longest wait has passed, and raises then."""
    until = time.monotonic() + GUARD_SECONDS

    def guard():
        expect(time.monotonic() < until, "it goes on and on")
        return True
    return guard


# ---- programs ----

def pkg_config(*arguments):
    folder = next(iter(sorted(pathlib.Path(options.prefix).rglob("stellane-fiber.pc")))).parent
    environment = dict(os.environ, PKG_CONFIG_PATH=str(folder))
    return subprocess.run(["pkg-config", *arguments, "stellane-fiber"], env=environment, check=True, text=True,
                          capture_output=True).stdout.split()


def build(name):
    """The program's path and the environment it needs."""
    output = pathlib.Path(options.work) / name
    environment = dict(os.environ)
    if options.prefix:
        compile_flags, link_flags = pkg_config("--cflags"), pkg_config("--libs")
        environment["LD_LIBRARY_PATH"] = pkg_config("--variable=libdir")[0]
    else:
        compile_flags = [f"-I{ROOT / 'include'}", "-fstack-clash-protection"]
        link_flags = [options.library, *options.link]
    if options.sanitize:
        kind = "address,undefined" if options.sanitize == "address" else options.sanitize
        compile_flags += [f"-fsanitize={kind}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
        environment.setdefault("ASAN_OPTIONS", "abort_on_error=1:detect_stack_use_after_return=1")
        environment.setdefault("TSAN_OPTIONS", "halt_on_error=1")
    done = subprocess.run([options.cc, "-O2", "-g", *WARNINGS, *compile_flags, EXAMPLES / f"{name}.c", *link_flags,
                           "-pthread", "-o", output], text=True, capture_output=True)
    expect(done.returncode == 0, f"{name} does not build:\n{done.stderr}")
    return output, environment


class Program:
    """A running example: its lines as they come, its port if it says one."""

    def __init__(self, name, *arguments, more=(), **popen):
        path, environment = built(name)
        environment = environment | dict(more)
        self.name, self.lines, self.news = name, [], threading.Condition()
        self.ended = False
        self.errors_path = pathlib.Path(options.work) / f"{name}.{len(children)}.err"
        with open(self.errors_path, "wb") as errors:
            self.process = subprocess.Popen([path, *map(str, arguments)], stdout=subprocess.PIPE, stderr=errors,
                                            env=environment, stdin=subprocess.DEVNULL, **popen)
        children.append(self)
        atexit.register(self.kill)  # whatever happens here
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self):
        for line in self.process.stdout:
            with self.news:
                self.lines.append(line.decode().rstrip("\n"))
                self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()

    def errors(self):
        return self.errors_path.read_text(errors="replace")

    def line(self, pattern, count=1):
        """The match of the count-th line so far that has this pattern, as soon as there is one."""
        def found():
            matches = [m for m in map(re.compile(pattern).search, self.lines) if m]
            return matches[count - 1] if len(matches) >= count else None
        with self.news:
            self.news.wait_for(lambda: found() or self.ended, GUARD_SECONDS)
            match = found()
        expect(match, f"{self.name} does not print {pattern!r} ({count})")
        return match

    def port(self, number=1):
        return int(self.line(r"^listening on \S+:(\d+)$", number).group(1))

    def end(self, code=0):
        """Wait for its end and return what it has printed."""
        try:
            self.process.wait(GUARD_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} does not end") from None
        expect(self.process.returncode == code, f"{self.name}: exit code {self.process.returncode}, not {code}")
        with self.news:
            expect(self.news.wait_for(lambda: self.ended, GUARD_SECONDS), "somebody else holds its output open")
        return "\n".join(self.lines)

    def signal(self, number):
        self.process.send_signal(number)

    def alive(self):
        expect(self.process.poll() is None, f"{self.name} has ended by itself: {self.process.returncode}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


programs = {}


def built(name):
    if name not in programs:
        programs[name] = build(name)
    return programs[name]


def run(name, *arguments, code=0, **popen):
    """Run it to its end: what it printed on stdout, and on stderr."""
    program = Program(name, *arguments, **popen)
    return program.end(code), program.errors()


def usage_is_told(name, *arguments):
    out, err = run(name, *arguments, code=2)
    expect(not out and err.startswith(f"usage: {name}"), "no word on its use:", out, err)


# ---- peers ----

class Peer:
    """One end of a TCP connection."""

    def __init__(self, where, receive_buffer=None):
        if isinstance(where, socket.socket):
            self.socket = where
        else:
            self.socket = socket.socket()
            if receive_buffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.settimeout(GUARD_SECONDS)
            self.socket.connect(("127.0.0.1", where))
        self.socket.settimeout(GUARD_SECONDS)
        self.rest = b""

    def say(self, text):
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def _more(self):
        try:
            piece = self.socket.recv(65536)
        except ConnectionError:
            piece = b""
        except TimeoutError:
            raise Failure(f"silence after {self.rest[-200:]!r}") from None
        self.rest += piece
        return piece

    def line(self):
        """The next line, or None at the end."""
        while b"\n" not in self.rest:
            if not self._more():
                return None
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()

    def expect(self, *lines):
        for line in lines:
            got = self.line()
            expect(got == line, f"got {got!r}, not {line!r}")

    def prompt(self, text):
        while len(self.rest) < len(text) and self._more():
            pass
        expect(self.rest.decode().startswith(text), f"got {self.rest!r}, not {text!r}")
        self.rest = self.rest[len(text):]

    def all(self):
        """All up to the end of input."""
        while self._more():
            pass
        rest, self.rest = self.rest, b""
        return rest

    def is_closed(self):
        rest = self.all()
        expect(not rest, f"more came: {rest[:200]!r}")

    def done(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()

    def reset(self):
        """Close so that the other side is told of a broken connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Listener:
    """A server of ours; what it does with each connection stands in the tests."""

    def __init__(self, backlog=100):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(backlog)
        self.socket.settimeout(GUARD_SECONDS)
        self.port = self.socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def accept(self):
        return Peer(self.socket.accept()[0])

    def close(self):
        self.socket.close()


def closed_port():
    """An address where nobody listens: bound, so that nobody else gets it."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    atexit.register(holder.close)
    return f"127.0.0.1:{holder.getsockname()[1]}"


@contextlib.contextmanager
def at_once(*functions):
    """Run these beside the block; what they raise is raised at its end."""
    raised = []

    def guarded(function):
        try:
            function()
        except Exception as e:  # pylint: disable=broad-except
            raised.append(e)
    threads = [threading.Thread(target=guarded, args=(f,), daemon=True) for f in functions]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(GUARD_SECONDS)
        expect(raised or not thread.is_alive(), "a peer hangs")
    if raised:
        raise raised[0]


# ---- the examples ----

def test_countdown():
    out, _ = run("countdown")
    expect(len(re.findall(r"^task \d: done on worker \d+$", out, re.M)) == 10, out)
    expect(len(re.findall(r"^task \d: [1-5]$", out, re.M)) == 50, out)
    # At least what the sleeps take; how much longer is the machine's affair.
    expect(re.search(r"^10 tasks in ([5-9]\d\d|\d{4,}) ms$", out, re.M), out)


def test_stats():
    out, _ = run("stats")
    expect(re.search(r"^afterwards: backend \w+", out, re.M), out)
    expect(" 0 alive, 1000 ended, of these 10 failed" in out, out)


def test_pipeline():
    out, _ = run("pipeline")
    expect(out == "the sum of the first 1000 squares is 333833500", out)


def test_tcp_echo_server():
    server = Program("tcp_echo_server", "127.0.0.1:0")
    peers = [Peer(server.port()) for _ in range(50)]
    for i, peer in enumerate(peers):
        peer.say(f"line {i}\n" * 100)
    peers.pop().reset()
    for i, peer in enumerate(peers):
        peer.done()
        expect(peer.all() == f"line {i}\n".encode() * 100, "not what was said")
    server.alive()
    _, err = run("tcp_echo_server", f"127.0.0.1:{server.port()}", code=1)
    expect("in use" in err, err)


def test_tcp_client():
    server = Program("tcp_echo_server", "127.0.0.1:0")
    out, _ = run("tcp_client", f"127.0.0.1:{server.port()}", 200)
    expect(out.startswith("200 answered, 0 failed"), out)
    out, err = run("tcp_client", closed_port(), 3, code=1)
    expect(out.startswith("0 answered, 3 failed") and "refused" in err, out, err)
    usage_is_told("tcp_client", "127.0.0.1:1", "none")


def proxied(listener, proxy):
    """A connection through the proxy: the client's end and the back end's."""
    client = Peer(proxy.port())
    return client, listener.accept()


def test_tcp_proxy():
    back = Listener()
    proxy = Program("tcp_proxy", "127.0.0.1:0", back.address, GUARD_SECONDS * 1000, 1500, GUARD_SECONDS * 1000)

    # A half-close is passed on: the back end answers when it has read all there is.
    client, server = proxied(back, proxy)
    speech = os.urandom(1 << 20)
    with at_once(lambda: (client.say(speech), client.done())):
        heard = server.all()
    expect(heard == speech, "the speech has suffered on its way")
    with at_once(lambda: (server.say(heard[::-1]), server.close())):
        expect(client.all() == speech[::-1], "the answer has suffered on its way")
    proxy.line(r"^visit 1: 1048576 bytes there, 1048576 back, \d+ ms: done$")

    # A peer that breaks off: the other side hears of it at once.
    client, server = proxied(back, proxy)
    client.say("half a wor")
    server.prompt("half a wor")
    client.reset()
    server.is_closed()
    proxy.line(r"^visit 2: 10 bytes there, 0 back, \d+ ms: connection reset")
    client, server = proxied(back, proxy)
    server.reset()
    client.is_closed()
    proxy.line(r"^visit 3: .*: connection reset")

    # Many at once; a silent one among them and one who says little, but says it, for longer than the idle time.
    silent, silent_server = proxied(back, proxy)
    slow, slow_server = proxied(back, proxy)
    pairs = [proxied(back, proxy) for _ in range(20)]
    for i, (client, server) in enumerate(pairs):
        client.say(f"question {i}\n")
    for i, (client, server) in enumerate(pairs):
        server.say((server.line() or "") + "!\n")
        server.close()
        client.expect(f"question {i}!")
        client.is_closed()
    for _ in range(20):
        time.sleep(0.1)
        slow_server.say(".")
    slow_server.close()
    expect(slow.all() == b"." * 20, "cut off although it was not idle")
    slow.close()
    silent.is_closed()
    silent_server.is_closed()
    proxy.line(r"^visit 4: 0 bytes there, 0 back, (1[5-9]\d\d|[2-9]\d{3}|\d{5}) ms: idle for too long$")
    proxy.line(r"^visit 5: 0 bytes there, 20 back, \d+ ms: done$")
    proxy.alive()


def test_tcp_proxy_limits():
    back, full = Listener(), Listener(backlog=0)
    limits = (300, GUARD_SECONDS * 1000, 500)

    chatty = Program("tcp_proxy", "127.0.0.1:0", back.address, GUARD_SECONDS * 1000, *limits[1:])
    client, server = proxied(back, chatty)
    guard = hang_guard()
    try:
        while guard():  # never idle, never done
            client.say("and\n")
            server.say(server.line() + "\n")
            if client.line() is None:
                break
    except (ConnectionError, TypeError):
        pass
    chatty.line(r"^visit 1: .*: took too long$")

    # A queue that is full answers no more connections: these wait for what never comes.
    waiting = []
    for _ in range(4):
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(("127.0.0.1", full.port))
    deaf = Program("tcp_proxy", "127.0.0.1:0", full.address, *limits[:2], GUARD_SECONDS * 1000)
    Peer(deaf.port()).is_closed()
    deaf.line(r"^visit 1: 0 bytes there, 0 back, \d+ ms: no connection in time$")

    gone = Program("tcp_proxy", "127.0.0.1:0", closed_port())
    Peer(gone.port()).is_closed()
    gone.line(r"^visit 1: .* refused")
    usage_is_told("tcp_proxy", "127.0.0.1:0")
    usage_is_told("tcp_proxy", "127.0.0.1:0", "127.0.0.1:1", "soon")


def test_worker_pool():
    for workers in (2, 5):
        out, _ = run("worker_pool", workers)
        counts = re.findall(r"^job (\d+): (\d+) primes$", out, re.M)
        expect(sorted(int(job) for job, _ in counts) == list(range(1, 11)), out)
        expect(("1", "9592") in counts and "\n10 jobs done, 78498 primes\n" in out, out)
        expect(len(re.findall(r"^job 0: given up \(.*ECANCELED.*\) with \d+ primes$", out, re.M)) == 1, out)
        expect(f"\n{workers} workers ended, {workers} of them cancelled" in out, out)
    usage_is_told("worker_pool", 1)


def test_scatter_gather():
    own = Program("scatter_gather", 2000)  # ends below

    # Back ends of ours. In the second round each answers only when all three have been asked: so they were asked at
    # once. In the third the settings never come.
    values = {"user": "Grace", "settings": "bright", "preferences": "coffee"}
    back = {name: Listener() for name in values}
    together, order = threading.Barrier(3, timeout=GUARD_SECONDS), []

    def serve(name):
        for attempt in range(3):
            peer = back[name].accept()
            expect(re.fullmatch(rf"{name} \d+", peer.line()), "not the question")
            order.append(name)
            if attempt == 1:
                together.wait()
            if attempt < 2 or name != "settings":
                peer.say(values[name] + "\n")
            peer.is_closed()  # the late one's deadline ends it, too
            peer.close()
    with at_once(*(lambda name=name: serve(name) for name in values)):
        out, _ = run("scatter_gather", 2000, *(listener.address for listener in back.values()))
    expect(order[:3] == list(values), order)
    whole = r"user=Grace settings=bright preferences=coffee: success, \d+ ms"
    expect(re.fullmatch(rf"in order: {whole}\nin parallel: {whole}\nwhat there is: user=Grace settings=\? "
                        r"preferences=coffee: .*ETIMEDOUT.*, (2\d\d\d|[3-9]\d{3}|\d{5}) ms", out), out)

    out = own.end()
    expect(re.match(r"in order: user=Ada settings=dark preferences=tea: success, ([3-9]\d\d|\d{4,}) ms\n"
                    r"in parallel: user=Ada settings=dark preferences=tea: success, ([1-9]\d\d|\d{4,}) ms\n"
                    r"what there is: user=Ada settings=\? preferences=tea: .*ETIMEDOUT", out), out)


def test_scatter_gather_failure():
    # The settings' back end hangs up. All or nothing: the user, who would never answer in the second round, is given up
    # for that. What there is: the other two.
    user, settings, preferences = Listener(), Listener(), Listener()
    asked, hung_up = threading.Event(), threading.Event()

    def serve_user():
        for attempt in range(3):
            peer = user.accept()
            peer.line()
            if attempt == 1:
                asked.set()
            elif attempt == 2:
                expect(hung_up.wait(GUARD_SECONDS), "the settings were not asked for")
                time.sleep(0.1)  # were the failure to reach him, it would now
            if attempt != 1:
                peer.say("Grace\n")
            peer.is_closed()

    def serve_settings():
        for attempt in range(3):
            peer = settings.accept()
            expect(attempt != 1 or asked.wait(GUARD_SECONDS), "the user was not asked")
            peer.line()
            peer.close()
        hung_up.set()

    def serve_preferences():
        with contextlib.suppress(OSError):  # how often they are asked is a matter of luck
            while True:
                peer = preferences.accept()
                if peer.line() is not None:
                    peer.say("coffee\n")
    threading.Thread(target=serve_preferences, daemon=True).start()
    with at_once(serve_user, serve_settings):
        out, err = run("scatter_gather", GUARD_SECONDS * 1000, user.address, settings.address, preferences.address,
                       code=1)
    expect(re.fullmatch(r"in order: user=Grace settings=\? preferences=\?: .*ENODATA.*\n"
                        r"in parallel: user=\? settings=\? preferences=.*: .*ENODATA.*\n"
                        r"what there is: user=Grace settings=\? preferences=coffee: .*ENODATA.*", out), out)
    expect("ENODATA" in err, err)
    _, err = run("scatter_gather", GUARD_SECONDS * 1000, *[closed_port()] * 3, code=1)
    expect("refused" in err, err)
    usage_is_told("scatter_gather", 1000, "127.0.0.1:1")


def enter(server, name, count, others, **how):
    peer = Peer(server.port(), **how)
    peer.prompt("name? ")
    peer.say(name + "\n")
    for one in (peer, *others):
        one.expect(f"* {name} is here ({count} in the room)")
    return peer


def test_chat_server():
    server = Program("chat_server", "127.0.0.1:0")
    ada = enter(server, "ada", 1, [])
    bob = enter(server, "bob", 2, [ada])
    carl = Peer(server.port())
    for bad in ("ada\n", "\n", "not a name\n", "anamethatistoolong\r\n"):  # taken, none, two not allowed
        carl.prompt("name? ")
        carl.say(bad)
    carl.prompt("name? ")
    carl.say("car")
    carl.say("l\r\nhello\r\n")
    for one in (ada, bob, carl):
        one.expect("* carl is here (3 in the room)", "carl: hello")

    # Two speak at the same time: all hear the same, in the same order. Few enough that nobody can be taken for slow.
    for i in range(20):
        ada.say(f"{i}\n")
        bob.say(f"{i}\n")
    heard = [[one.line() for _ in range(40)] for one in (ada, bob, carl)]
    expect(heard[0] == heard[1] == heard[2], "heard in different orders")
    for name in ("ada", "bob"):
        expect([h for h in heard[0] if h.startswith(name)] == [f"{name}: {i}" for i in range(20)], heard[0])

    # Ways to go: with a last word, without a word, before having a name.
    carl.say("good bye\n")
    carl.done()
    carl.expect("carl: good bye")
    carl.is_closed()
    for one in (ada, bob):
        one.expect("carl: good bye", "* carl has left (2 in the room)")
    rude = enter(server, "rude", 3, [ada, bob])
    rude.reset()
    for one in (ada, bob):
        one.expect("* rude has left (2 in the room)")
    Peer(server.port()).close()

    # A line that is too long comes in pieces, and nothing is lost.
    ada.say("x" * 1000 + "\n")
    pieces = ""
    while len(pieces) < 1000:
        piece = bob.line()
        expect(piece.startswith("ada: ") and ada.line() == piece, piece)
        pieces += piece.removeprefix("ada: ")
    expect(pieces == "x" * 1000, pieces)

    # One does not read. The others talk on, each line only when the last one was heard; in the end the slow one goes.
    slow = enter(server, "slow", 3, [ada, bob], receive_buffer=4096)
    guard = hang_guard()
    for i in range(100000):
        guard()
        ada.say(f"{i:0200}\n")
        lines = [ada.line(), bob.line()]
        if lines[0] != f"ada: {i:0200}":
            break
    while "slow" not in lines[0]:  # the talk went on a little
        lines = [ada.line(), bob.line()]
    expect(lines == ["* slow was too slow (2 in the room)"] * 2, lines)
    slow.all()
    server.line("^slow was too slow$")
    ada.say("peace\n")
    for i in range(2):
        heard = (ada, bob)[i].line()
        while re.fullmatch(r"ada: 0*\d+", heard):
            heard = (ada, bob)[i].line()
        expect(heard == "ada: peace", heard)
    server.alive()


def fnv1a(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 % (1 << 64)
    return value


def test_digest():
    tree = pathlib.Path(options.work) / "digest-tree"
    shutil.rmtree(tree, ignore_errors=True)
    contents = {f"many/{i:03}": f"file {i}\n".encode() * i for i in range(300)}
    contents |= {"a": b"a", "empty": b"", "deep/er/and deeper/x\u00fc": os.urandom(200001), "many.c": b"by bytes"}
    for path, data in contents.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
    os.symlink("a", tree / "link")
    os.symlink("nowhere", tree / "dangling")
    os.mkfifo(tree / "pipe")
    expect(fnv1a(b"a") == 0xaf63dc4c8601ec8c, "the test's own sums are wrong")
    lines = {os.fsencode(tree / path): f"{fnv1a(data):016x}  {tree / path}" for path, data in contents.items()}
    right = [lines[path] for path in sorted(lines)]

    # With few descriptors and fibers: there could not be as many at once as there are files.
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    out, err = run("digest", tree, preexec_fn=few, more={"STELLANE_RUNTIME_MAX_FIBERS": "200"})
    expect(out.split("\n") == right and not err, "wrong digests", out[:300], err[:300])
    out, _ = run("digest", tree / "link", tree / "a")  # a link that is named is followed
    expect(out == f"af63dc4c8601ec8c  {tree / 'a'}\naf63dc4c8601ec8c  {tree / 'link'}", out)

    # What cannot be read is told of, and nothing else suffers.
    bad = ["/proc/self/mem", str(tree / "dangling"), str(tree / "none")]
    if os.geteuid() != 0:  # root may read all
        for path in ("a", "deep"):
            (tree / path).chmod(0)
            bad.append(str(tree / path))
        right = [line for line in right if not line.endswith("/a") and "/deep/" not in line]
    try:
        out, err = run("digest", *bad[:3], tree, code=1)
    finally:
        for path in ("a", "deep"):
            (tree / path).chmod(0o700)
    expect(out.split("\n") == right, "wrong digests", out[:300])
    told = err.splitlines()
    expect(sorted(line.split(": ")[1] for line in told) == sorted(bad), err)
    expect(all(re.search(r"\((ENOENT|EIO|EACCES)\)$", line) for line in told), err)
    shutil.rmtree(tree)
    usage_is_told("digest")


def test_embedded():
    out, _ = run("embedded")
    expect(re.fullmatch(r"40 results, sum 22140\nmain turned [1-9]\d* times, the heart beat \d+ times\nstopped", out),
           out)


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), GUARD_SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def test_daemon():
    settings = pathlib.Path(options.work) / "greeting.txt"
    settings.write_text("good day\n")
    daemon = Program("daemon", "127.0.0.1:0", settings, GUARD_SECONDS * 10000)
    port = daemon.port()

    # SIGHUP: what the file says now holds for the next request; without the file nothing changes.
    idle, busy, stuck = (Peer(port) for _ in range(3))
    for peer in (idle, busy, stuck):
        peer.say("world\n")
        peer.expect("good day world")
    settings.write_text("good night")
    daemon.signal(signal.SIGHUP)
    daemon.line(r"^greeting: good night; 3 visits, 3 requests, 0 cut off$")
    idle.say("world\nmoon\n")
    idle.expect("good night world", "good night moon")
    settings.unlink()
    daemon.signal(signal.SIGHUP)
    daemon.line(r"^greeting: good night; 3 visits, 5 requests, 0 cut off$")
    expect("greeting.txt: no such file" in daemon.errors(), daemon.errors())

    # SIGTERM in the middle of traffic: who only waits is let go, who was heard gets an answer, nobody new comes in.
    # The grace is longer than the test: the second signal cuts it short for him who would wait on.
    heard = [0] * 8
    talking = threading.Barrier(len(heard) + 1, timeout=GUARD_SECONDS)

    def talk(i):
        peer = Peer(port)
        with contextlib.suppress(ConnectionError):
            while True:
                peer.say(f"talk {heard[i]}\n")
                line = peer.line()
                if line is None:
                    break
                expect(line == f"good night talk {heard[i]}", line)
                heard[i] += 1
                if heard[i] == 3:
                    talking.wait()
    with at_once(*(lambda i=i: talk(i) for i in range(len(heard)))):
        talking.wait()
        stuck.say("wait 3600000\n")
        busy.say("wait 400 words\n")
        daemon.signal(signal.SIGTERM)
        idle.is_closed()
        busy.expect("good night wait 400 words")
        busy.is_closed()
    daemon.line("^stopping$")
    expect(refused(port), "it still takes visitors")
    daemon.alive()
    daemon.signal(signal.SIGTERM)
    stuck.is_closed()
    out = daemon.end()
    figures = re.search(r"\nstopping now\nstopped; 11 visits, (\d+) requests, 1 cut off$", out)
    expect(figures and int(figures.group(1)) >= 6 + sum(heard), out, sum(heard))


def test_daemon_grace():
    _, err = run("daemon", "127.0.0.1:0", "/nonexistent", code=1)  # at the start a missing file is an error
    expect("no such file" in err, err)
    usage_is_told("daemon", "127.0.0.1:0", "/dev/null", -1)
    daemon = Program("daemon", "127.0.0.1:0", "/dev/null", 300)
    stuck = Peer(daemon.port())
    stuck.say("words\nwait 3600000\n")
    stuck.expect(" words")
    daemon.signal(signal.SIGINT)
    stuck.is_closed()
    out = daemon.end()
    expect(out.endswith("\nstopping\nstopped; 1 visits, 1 requests, 1 cut off"), out)

    # When nobody is left the grace is over.
    daemon = Program("daemon", "127.0.0.1:0", "/dev/null", GUARD_SECONDS * 10000)
    quiet = Peer(daemon.port())
    quiet.say("words\n")
    quiet.expect(" words")
    daemon.signal(signal.SIGTERM)
    quiet.is_closed()
    expect(daemon.end().endswith("\nstopping\nstopped; 1 visits, 1 requests, 0 cut off"), daemon.lines)


def datagrams(host, port):
    peer = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    peer.settimeout(GUARD_SECONDS)
    peer.bind((host, 0))
    peer.connect(("::1" if ":" in host else "127.0.0.1", port))
    return peer


def test_udp_time_server():
    hosts = ["127.0.0.1", "::1"]
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        hosts.pop()  # no IPv6 here
    slow = Program("udp_time_server", 0, 5, 0.001, *hosts)  # no new token while the test lasts
    where = {slow.line(r"^listening on \[?(\S+?)\]?:\d+$", i + 1).group(1): i + 1 for i in range(len(hosts))}
    expect(sorted(where) == sorted(hosts), where)
    shape = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z\n")

    for host in hosts:
        peer = datagrams(host, slow.port(where[host]))
        before = time.time()
        peer.send(b"time?")
        answer = peer.recv(2000)
        expect(shape.fullmatch(answer), answer)
        told = time.strptime(answer.decode()[:19] + " UTC", "%Y-%m-%dT%H:%M:%S %Z")
        expect(int(before) <= calendar.timegm(told) <= time.time(), answer)
        for question in [b"", b"long" * 1000] + [b"again"] * 20:
            peer.send(question)
        if host == "127.0.0.1":  # another one is answered after all of these have been looked at: 5 were, in all
            other = datagrams("127.0.0.2", slow.port(where[host]))
            other.send(b"")
            expect(shape.fullmatch(other.recv(2000)), "another address suffers from the first one's haste")
            peer.setblocking(False)
            answers = 1
            with contextlib.suppress(BlockingIOError):
                while peer.recv(2000):
                    answers += 1
            expect(answers == 5, f"{answers} answers instead of 5")

    # Tokens come back, and who is gone when the answer comes is nobody's trouble.
    quick = Program("udp_time_server", 0, 1, 20, "127.0.0.1")
    gone = datagrams("127.0.0.3", quick.port())
    gone.send(b"")
    gone.close()
    peer = datagrams("127.0.0.1", quick.port())
    peer.settimeout(0.05)
    answers, guard = 0, hang_guard()
    while answers < 4 and guard():
        peer.send(b"")
        with contextlib.suppress(TimeoutError):
            answers += len(peer.recv(2000)) > 0
    quick.alive()
    _, err = run("udp_time_server", quick.port(), 1, 1, "127.0.0.1", code=1)
    expect("in use" in err, err)
    usage_is_told("udp_time_server", 0, 0)


def test_custom_backend():
    for mode, workers in (("", "2"), ("inline", "1"), ("per_worker", "2")):
        out, err = run("custom_backend", more={"STELLANE_RUNTIME_POLLER_MODE": mode, "STELLANE_RUNTIME_WORKERS": workers})
        expect(out == "backend poll is registered: poll(2), one list\n100 clients had 1000 lines echoed\n"
               "the runtime used backend poll", out)
        expect(not err, err)


# ---- form ----

def test_form():
    sources = sorted(EXAMPLES.glob("*.c"))
    compilers = [cc for cc in ("gcc", "clang") if shutil.which(cc)] or [options.cc]
    index = (EXAMPLES / "README.md").read_text()
    for source in sources:
        text = source.read_text()
        head = text.partition("*/")[0]
        name = source.stem
        expect(re.match(rf"/\* {name}: ", head), f"{name} does not open with its name and purpose")
        for part in ("The idea: ", f"cc {name}.c $(pkg-config --cflags --libs stellane-fiber)", "print"):
            expect(part in head, f"{name}: nothing in its first comment about: {part}")
        expect(f"({name}.c)" in index, f"{name} is not in the index")
        expect(f"test_{name}" in globals(), f"{name} has no test")
        flags = pkg_config("--cflags") if options.prefix else [f"-I{ROOT / 'include'}"]
        for cc in compilers:
            done = subprocess.run([cc, "-O2", *WARNINGS, f"-Wframe-larger-than={FRAME_BYTES}", *flags, "-c", source,
                                   "-o", "/dev/null"], text=True, capture_output=True)
            expect(done.returncode == 0, f"{name} with {cc}:\n{done.stderr}")
    for name in re.findall(r"\((\w+)\.c\)", index):
        expect((EXAMPLES / f"{name}.c").is_file(), f"the index knows a {name} that is not there")


def main():
    global options
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True)
    parser.add_argument("--prefix")
    parser.add_argument("--library")
    parser.add_argument("--link", action="append", default=[])
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--sanitize", choices=("address", "thread"))
    parser.add_argument("example")
    options = parser.parse_args()
    if bool(options.prefix) == bool(options.library):
        parser.error("one of --prefix and --library")
    pathlib.Path(options.work).mkdir(parents=True, exist_ok=True)
    tests = [test for name, test in globals().items() if re.fullmatch(rf"test_{options.example}(_\w+)?", name)]
    if not tests or f"test_{options.example}" not in globals():
        print(f"no test of {options.example}")
        return 1
    code = 0
    for test in tests:
        try:
            test()
        except (Failure, OSError) as failure:
            print(f"{test.__name__}: {failure}")
            code = 1
        for child in children:
            child.kill()
            if code:
                print(f"--- {child.name}, stdout\n" + "\n".join(child.lines[-50:]))
            if code or child.errors().count("ERROR: ") + child.errors().count("WARNING: "):
                print(f"--- {child.name}, stderr\n{child.errors()[-5000:]}")
        children.clear()
        if code:
            break
    return code


if __name__ == "__main__":
    sys.exit(main())
