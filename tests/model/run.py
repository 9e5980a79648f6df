#!/usr/bin/env python3
"""tests/model/run.py MODEL.pml ... [--keep FOLDER]: check models with spin.

Each model's clean version must pass, searched exhaustively, in every scene; and each bug planted in it (-DBUG=n) must be
found. A model says in its comment what there is to run:

    scenes: 1 2 3
    bug 4 in 2: what was broken

Ends with 77, and a reason, when spin or a C compiler is missing."""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
MEMORY_MB = 1000
SECONDS = 300  # a hang guard: the largest search takes a twentieth of it
DEPTH = 400000
LINES_OF_TRAIL = 200


def plan(path):
    """[(scene, bug, what)] of a model: clean runs first."""
    text = path.read_text()
    scenes = re.search(r"^ \* scenes: ([\d ]+)$", text, re.M)
    runs = [(int(scene), 0, "clean") for scene in scenes.group(1).split()]
    for bug, scene, what in re.findall(r"^ \* bug (\d+) in (\d+): (.*?)(?: \*/)?$", text, re.M):
        runs.append((int(scene), int(bug), what))
    planted = {int(n) for n in re.findall(r"\bBUG (?:==|!=) (\d+)", text)}
    missing = planted ^ {bug for _, bug, _ in runs if bug}
    if missing:
        sys.exit(f"{path.name}: planted but not listed, or listed but not planted: bugs {sorted(missing)}")
    return runs


def call(command, folder):
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=SECONDS)
    return done.returncode, done.stdout


def search(path, scene, bug, folder):
    """(errors, states, memory in MB, the first complaint)"""
    code, said = call(["spin", "-a", f"-DSCENE={scene}", f"-DBUG={bug}", str(path)], folder)
    if code != 0 or not (folder / "pan.c").exists():
        sys.exit(f"{path.name}: spin says:\n{said}")
    # A model whose end is a statement of its own (timeout) checks it there.
    own_end = "timeout ->" in path.read_text()
    code, said = call(["cc", "-O1" if bug else "-O2", "-w", "-DSAFETY", "-DNOCLAIM", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}", "-o", "pan",
                       "pan.c"], folder)
    if code != 0:
        sys.exit(f"{path.name}: the verifier does not compile:\n{said}")
    code, said = call(["./pan", f"-m{DEPTH}", "-w24"] + (["-E"] if own_end else []), folder)
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"([\d.e+]+) states, stored", said)
    memory = re.search(r"([\d.]+)\s+total actual memory usage", said)
    complaint = re.search(r"^pan:1: (.*?)(?: \(at depth.*)?$", said, re.M)
    incomplete = re.search(r"max search depth too small|out of memory|reached -DMEMLIM|Search not completed", said)
    if not errors or not states or (incomplete and not complaint):
        sys.exit(f"{path.name}: the search was not completed:\n{said}")
    return int(errors.group(1)), int(float(states.group(1))), float(memory.group(1)), complaint and complaint.group(1)


def check(path, folder):
    bad = 0
    for scene, bug, what in plan(path):
        began = time.monotonic()
        errors, states, memory, complaint = search(path, scene, bug, folder)
        good = (errors == 0) == (bug == 0)
        bad += not good
        verdict = "passes" if errors == 0 else f"found: {complaint}"
        title = f"{path.stem} scene {scene}" + (f" bug {bug}" if bug else "")
        print(f"{'ok  ' if good else 'FAIL'} {title:26} {states:9,d} states {memory:5.0f} MB "
              f"{time.monotonic() - began:5.1f} s  {what}; {verdict}", flush=True)
        trail = list(folder.glob("*.trail"))
        if not good and errors:
            steps = call(["spin", "-t", "-p", "-g", f"-DSCENE={scene}", f"-DBUG={bug}", "-k", trail[0].name, str(path)],
                         folder)[1]
            print("\n".join(steps.splitlines()[-LINES_OF_TRAIL:]))
        for left in trail:
            left.unlink()
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path, default=sorted(HERE.glob("*.pml")))
    parser.add_argument("--keep", type=pathlib.Path, help="work here and leave everything")
    arguments = parser.parse_args()
    for tool in ("spin", "cc"):
        if not shutil.which(tool):
            print(f"skipped: there is no {tool} (Debian: apt install spin gcc)")
            return 77
    bad = 0
    for path in arguments.models:
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.keep or pathlib.Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            bad += check(path.resolve(), folder)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
