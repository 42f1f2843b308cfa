#!/usr/bin/env python3
"""compute-sanitizer's racecheck over a program, run again while it only loses track of asynchronous copies.

A hazard of ordinary accesses fails at once. Of bulk copies (cp.async.bulk without a tensor map) the tool now and then misses that one has
arrived: of equal runs beside each other one in four reports a page of the cache, the rest none, and it names the thread that issued the
copy, waited for its barrier and then read. A copy that nobody waits for is told in every run, so what counts is the places, with block and
threads, that TRIES runs have in common.

usage: racecheck.py NAME PROGRAM ARGUMENT..."""

import re
import shutil
import subprocess
import sys

from table import row

TRIES = 6
COPY = "invalid async operation synchronization"


def run(argv):
    """Exit status, ordinary hazards, hazards of copies: by kernel and address, block and thread."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    options = ["--tool", "racecheck", "--racecheck-report", "hazard", "--show-backtrace", "no", "--print-limit", "100000"]
    p = subprocess.run([tool, *options, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    plain, copies, kind, block = set(), set(), None, ""
    for line in p.stdout.splitlines():
        if "hazard detected" in line:
            kind = copies if COPY in line else plain
            block = m[1] if (m := re.search(r"block (\([\d, ]+\))", line)) else ""
        elif kind is not None and (m := re.search(r"(Read|Write) Thread (.*) at (\S+)", line)):
            kind.add(f"{m[1].lower()} at {m[3]}, block {block} thread {m[2]}")
    summary = next((line for line in p.stdout.splitlines() if "RACECHECK SUMMARY" in line), "")
    said = int(m[1]) if (m := re.search(r"SUMMARY: (\d+) hazards? displayed", summary)) else None
    if said is None or (said > 0) != bool(plain or copies):
        plain.add(f"not understood: {summary or p.stdout.strip()[-120:]}")
    return p.returncode, plain, copies


def main():
    name, argv, seen, common = sys.argv[1], sys.argv[2:], [], set()
    for n in range(TRIES):
        status, plain, copies = run(argv)
        common = common & copies if seen else copies
        if status or plain or not common:
            break
        seen.append(copies)
        print(f"run {n + 1}: {len(copies)} places of copies: {', '.join(sorted(copies))[:300]}", flush=True)
    ok = status == 0 and not plain and not common
    found = f"exit status {status}" if status else f"{sorted(plain)[0]}" if plain else f"{len(common)} places, copies only"
    text = (f"none that {len(seen) + 1} of at most {TRIES} runs share" if ok else found) + (
        f", {len(seen)} with arrived copies taken as under way" if seen else ""
    )
    row(f"compute-sanitizer racecheck, {name}", "no hazards", text[:120], ok)
    return 0 if ok else 1


sys.exit(main())
