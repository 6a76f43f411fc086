"""
Errors at every file operation in turn: python tests/faults/errors.py [--every N] [--action NAME]

README.rst says what is asked.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "crash"), str(HERE.parent.parent)]

from faults import tracing  # noqa: E402
from faults.actions import ACTIONS  # noqa: E402
from faults.exploring import explore  # noqa: E402
from faults.ledger import summary  # noqa: E402
from faults.table import table  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description="Errors at every file operation in turn.")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th case (1)")
    parser.add_argument("--action", choices=ACTIONS, help="this one only")
    parser.add_argument("--jobs", type=int, help="processes; as many as there are cores")
    parser.add_argument(
        "--strace", action="store_true", help="in the real daemon instead, by system call"
    )
    options = parser.parse_args()
    began = time.monotonic()
    cases, wrong = _traced() if options.strace else _explored(options)
    print(f"{cases} faults in {time.monotonic() - began:.0f} s: {wrong} wrong")
    return 1 if wrong else 0


def _explored(options: argparse.Namespace) -> tuple[int, int]:
    rows: list[tuple[object, ...]] = []
    cases = wrong = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        running = {
            (name, durability): pool.submit(explore, name, durability, every=options.every)
            for name in ([options.action] if options.action else ACTIONS)
            for durability in ACTIONS[name].durabilities
        }
        for (name, durability), future in running.items():
            outcome = future.result()
            rows.append((name, durability, outcome.calls, outcome.cases, len(outcome.wrong)))
            cases, wrong = cases + outcome.cases, wrong + len(outcome.wrong)
            for where, problems in outcome.wrong[:5]:
                print(f"{where}:{summary(problems)}", flush=True)
    print(table(["", "durability", "calls", "faults", "wrong"], rows))
    return cases, wrong


def _traced() -> tuple[int, int]:
    rows: list[tuple[object, ...]] = []
    wrong = 0
    for durability in ("journal", "files"):
        with tempfile.TemporaryDirectory(prefix="strace-") as folder:
            outcome = tracing.trace(Path(folder), durability)
        for call, (asked, refused) in outcome.calls.items():
            rows.append((call, durability, asked, refused))
        wrong += len(outcome.problems)
        if outcome.problems:
            print(f"{durability}:{summary(outcome.problems, 30)}", flush=True)
    print(table(["", "durability", "asked", "refused"], rows))
    return len(rows), wrong


if __name__ == "__main__":
    sys.exit(main())
