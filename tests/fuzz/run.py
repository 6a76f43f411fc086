"""
Fuzz one target, or all: tests/fuzz/run.py [TARGET] [--seconds N]

The targets are smtp, pop3, pop3-client, proxy, sasl, message, client, dns and mta-sts.

--runs N plays as many inputs, the same ones each time, and --input FILE... these files once.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent


def targets() -> dict[str, Callable[[bytes], None]]:
    sys.path.insert(0, str(HERE))
    from playing import TARGETS, without_lots

    without_lots()
    return TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", help="one of the targets; all, if none is given")
    parser.add_argument("--seconds", type=int, default=10, help="how long for each (10)")
    parser.add_argument("--runs", type=int, help="so many inputs of each, always the same")
    parser.add_argument("--input", type=Path, nargs="+", help="play these files, and nothing else")
    options = parser.parse_args()
    if options.target is None:
        for name in targets():
            print(f"--- {name}", flush=True)
            words = [sys.executable, __file__, name, *_length(options)]
            done = subprocess.run(words, check=False, env=os.environ | {"PYTHONHASHSEED": "0"})
            if done.returncode:
                return done.returncode
        return 0
    if options.input:
        for file in options.input:
            targets()[options.target](file.read_bytes())
        return 0
    import atheris

    with atheris.instrument_imports(include=["postoffice"]):  # the rest would take a minute
        known = targets()
    if options.target not in known:
        parser.error(f"no target {options.target}, only: {', '.join(known)}")
    seeds = HERE / "seeds" / options.target
    with tempfile.TemporaryDirectory() as found:
        if options.runs:
            length = ["-seed=1", f"-runs={options.runs}"]
        else:
            seed = random.randrange(1, 1 << 31)
            print(f"seed {seed}", flush=True)
            length = [f"-seed={seed}", f"-max_total_time={options.seconds}"]
        words = [
            sys.argv[0],
            *length,
            "-max_len=2000",
            "-timeout=10",
            "-verbosity=0",
            "-print_final_stats=1",
            f"-dict={HERE / 'words.dict'}",
            found,
            *([str(seeds)] if seeds.is_dir() else []),
        ]
        atheris.Setup(words, known[options.target])
        atheris.Fuzz()
    return 0


def _length(options: argparse.Namespace) -> list[str]:
    return ["--runs", str(options.runs)] if options.runs else ["--seconds", str(options.seconds)]


if __name__ == "__main__":
    sys.exit(main())
