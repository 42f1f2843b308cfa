#!/usr/bin/env python3
"""Stands in for ccc on a machine without a compiler. `compile` gives the artifact that was compiled beforehand of the same config.json with
the same options. With CCC_REAL in the environment it is the other half: it compiles with that program and keeps the artifact.
"""

import hashlib
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
KEPT = os.path.join(HERE, "..", "..", "artifacts")
NOT_IN_KEY, FILES = {"-o", "--cache-dir"}, {"--quantize-scales"}  # of a file, its content is in the key


def main(argv):
    if argv[:1] != ["compile"] or len(argv) < 2:
        sys.exit(
            f"ccc: '{' '.join(argv[:1])}' needs a compiler; here are artifacts alone that were compiled beforehand"
        )
    model, options, given, i = argv[1], [], {}, 2
    while i < len(argv):
        if argv[i] in NOT_IN_KEY:
            given[argv[i]] = argv[i + 1]
        elif argv[i] in FILES:
            with open(argv[i + 1]) as f:
                options.append(argv[i] + " " + f.read())
        else:
            options.append(" ".join(argv[i : i + 2]))
        i += 1 if argv[i].startswith("-O") else 2
    with open(os.path.join(model, "config.json"), "rb") as f:
        name = hashlib.sha256(f.read() + "\0".join(["", *sorted(options)]).encode()).hexdigest()[:24] + ".ccart"
    kept = os.path.join(KEPT, name)
    if "CCC_REAL" in os.environ:
        if subprocess.run([os.environ["CCC_REAL"], *argv]).returncode:
            sys.exit(1)
        os.makedirs(KEPT, exist_ok=True)
        shutil.copy(given["-o"], kept)
    elif not os.path.exists(kept):
        sys.exit(f"ccc: {model} with {' '.join(options)} was not compiled beforehand (artifacts/{name})")
    else:
        shutil.copy(kept, given["-o"])


main(sys.argv[1:])
