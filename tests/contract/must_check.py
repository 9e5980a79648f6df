#!/usr/bin/env python3
"""Calls whose code must be seen carry STEL_MUST_CHECK: every wait, spawn and scope call.

Each function of the public headers is called for nothing in a small program; the compiler must warn of those that are
marked, and of no others; and all that wait, spawn or concern a scope must be among them. Usage: must_check.py CC INCLUDE
"""
import pathlib
import re
import subprocess
import sys
import tempfile

WAITS = """sleep sleep_until park join cond_wait event_wait waitgroup_wait sem_acquire barrier_wait once_call chan_send
chan_recv select scope_join runtime_wait runtime_stop runtime_restart read write readv writev pread pwrite recv send recvfrom
sendto recvmsg sendmsg sendfile splice accept accept4 connect open fsync fdatasync wait_fd poll write_all read_full dial
getaddrinfo waitpid sigwaitinfo offload run""".split()
SPAWNS = "spawn spawn_with spawn_after go runtime_spawn scope_spawn scope_open".split()


def declarations(include):
    """[(name, is it marked, arguments that compile)]"""
    for header in sorted((include / "stellane").glob("*.h")):
        text = re.sub(r"/\*.*?\*/", " ", header.read_text(), flags=re.S)
        text = re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", " ", text, flags=re.M)
        for piece in re.findall(r"\bSTEL_API\b([^;{]*);", text):
            name, arguments = re.search(r"\b(stel_\w+)\s*\((.*)\)\s*$", piece.strip(), flags=re.S).groups()
            pieces, depth = [""], 0
            for c in arguments:
                depth += (c == "(") - (c == ")")
                if c == "," and depth == 0:
                    pieces.append("")
                else:
                    pieces[-1] += c
            given = ["(stel_shield){ 0, 0 }" if re.match(r"\s*stel_shield\s+\w", p) else "0" for p in pieces]
            yield name, "STEL_MUST_CHECK" in piece, [] if arguments.strip() == "void" else given


def main():
    cc, include = sys.argv[1], pathlib.Path(sys.argv[2])
    known = list(declarations(include))
    lines = ["#include <stellane/stellane.h>", "#include <stellane/backend.h>", "void all(void);", "void all(void) {"]
    first = len(lines) + 1
    lines += [f"{name}({', '.join(given)});" for name, _, given in known] + ["}"]
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "all.c"
        source.write_text("\n".join(lines) + "\n")
        run = subprocess.run([cc, "-c", "-Wunused-result", "-I", include, source, "-o", source.with_suffix(".o")],
                             capture_output=True, text=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
    if run.returncode:
        sys.exit(run.stderr)
    warned = {known[int(line) - first][0] for line in re.findall(r"all\.c:(\d+):\d+: warning: .*unused-result", run.stderr)}
    wrong = [f"{name} is marked, and nobody is warned" for name, marked, _ in known if marked and name not in warned]
    wrong += [f"{name} warns, and is not marked" for name, marked, _ in known if not marked and name in warned]
    wrong += [f"stel_{name} must be marked with STEL_MUST_CHECK" for name in WAITS + SPAWNS if "stel_" + name not in warned]
    print("\n".join(wrong) or f"must_check: {len(warned)} of {len(known)} functions warn")
    return 1 if wrong else 0


sys.exit(main())
