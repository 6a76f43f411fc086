"""
Errors at every file operation in turn: python tests/faults/errors.py [--every N] [--action NAME]

README.rst says what is asked.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "crash"), str(HERE.parent.parent)]

from faults.actions import ACTIONS  # noqa: E402
from faults.layer import SHORT, Call, Fault  # noqa: E402
from faults.ledger import summary  # noqa: E402
from faults.scene import Scene  # noqa: E402
from faults.table import table  # noqa: E402


@dataclass
class Outcome:
    """What the faults in one action have come to."""

    calls: int = 0
    cases: int = 0
    wrong: list[tuple[str, list[str]]] = field(default_factory=list)


def explore(name: str, durability: str, every: int, folder: str = "") -> Outcome:
    """
    Play an action once for each of its calls and each error that it can have.

    Once with the error in this call alone, and once with it in all that
    follow, until the client has its reply.  Of all these cases ``every`` one
    is played.
    """
    action = ACTIONS[name]
    outcome = Outcome()
    with _folder() as place:

        def play(number: int, fault: Fault | None) -> list[Call]:
            scene = Scene(f"{place}/{number}", action.kind(durability))
            try:
                scene.furnish()
                action.before(scene)
                calls = scene.play(action.act, fault)
            finally:
                scene.close()
                shutil.rmtree(f"{place}/{number}")
            if scene.problems:
                met = fault and fault.met
                outcome.wrong.append((f"{name}, {durability}: {fault} {met}", scene.problems))
            return calls

        calls = play(0, None)
        outcome.calls = len(calls)
        cases = [
            Fault(number, kind, lasting)
            for number, call in enumerate(calls, 1)
            for kind in call.faults
            for lasting in ((False,) if kind == SHORT else (False, True))
        ]
        for number, fault in enumerate(cases[len(name) % every :: every], 1):
            play(number, fault)
            outcome.cases += 1
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description="Errors at every file operation in turn.")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th case (1)")
    parser.add_argument("--action", choices=ACTIONS, help="this one only")
    parser.add_argument("--jobs", type=int, help="processes; as many as there are cores")
    options = parser.parse_args()
    began = time.monotonic()
    rows: list[tuple[object, ...]] = []
    wrong = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        running = {
            (name, durability): pool.submit(explore, name, durability, options.every)
            for name in ([options.action] if options.action else ACTIONS)
            for durability in ACTIONS[name].durabilities
        }
        for (name, durability), future in running.items():
            outcome = future.result()
            rows.append((name, durability, outcome.calls, outcome.cases, len(outcome.wrong)))
            wrong += len(outcome.wrong)
            for where, problems in outcome.wrong[:5]:
                print(f"{where}:{summary(problems)}", flush=True)
    cases = sum(int(str(row[3])) for row in rows)
    print(table(["", "durability", "calls", "faults", "wrong"], rows))
    print(f"{cases} faults in {time.monotonic() - began:.0f} s: {wrong} wrong")
    return 1 if wrong else 0


@contextmanager
def _folder() -> Iterator[str]:
    """In memory, where there is such a place: nothing is synced anyway."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="errors-", dir=where)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
