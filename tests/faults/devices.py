"""
The real daemon on a disk that fails: python tests/faults/devices.py [--rounds N] [--kind NAME]

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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from faults.daemon import Daemon, furnish  # noqa: E402
from faults.device import (  # noqa: E402
    APPLIED,
    FAILS,
    FULL,
    LIES,
    LOSES_CACHE,
    TEARS,
    TEXTS,
    WELL,
    Device,
    device,
    missing,
)
from faults.finding import found  # noqa: E402
from faults.ledger import Ledger, summary  # noqa: E402
from faults.load import Load  # noqa: E402
from faults.table import table  # noqa: E402

from tests import processes  # noqa: E402

NAMES = ("ann", "bob", "joe", "sue")


class Kind(NamedTuple):
    """
    What is wrong with a disk, how often, and where ``only``, as Device has it.

    Unless it is ``promised`` that nothing is lost then, that is only counted.
    """

    what: str
    share: float = 1.0
    only: str = ""
    promised: bool = True


KINDS = {
    "well": Kind(WELL),
    "texts fail": Kind(FAILS, only=TEXTS),
    "some texts fail": Kind(FAILS, 0.3, TEXTS),
    "some texts are torn": Kind(TEARS, 0.3, TEXTS),
    "no room for texts": Kind(FULL, 0.5, TEXTS),
    "what is applied fails": Kind(FAILS, 0.5, APPLIED),
    "what is applied is torn": Kind(TEARS, 0.5, APPLIED),
    "flushes lose the cache": Kind(LOSES_CACHE, 0.3, promised=False),
    "all writes fail": Kind(FAILS),
    "some writes are torn": Kind(TEARS, 0.2, promised=False),
    "it lies": Kind(LIES, 0.3, promised=False),
}


@dataclass
class Outcome:
    """What a campaign has come to."""

    kind: str
    durability: str
    ledger: Ledger
    cuts: int = 0
    faults: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """How much of that is against what is promised."""
        return len(self.problems) if KINDS[self.kind].promised else 0


class Campaign:
    """So many rounds: load, a disk that fails for a while, a power cut, and a look."""

    def __init__(self, kind: str, durability: str, seed: int, disk: Device) -> None:
        self._folder = disk.root / "office"
        self._folder.mkdir()
        furnish(self._folder, durability, NAMES)
        os.sync()  # accounts and configuration are on the disk before it fails
        self._random = Random(f"{seed} {durability} {kind}")
        self._seed, self._kind, self._disk = seed, KINDS[kind], disk
        self._ledger = Ledger(atomic=durability == "journal")
        self.outcome = Outcome(kind, durability, self._ledger)
        self._daemon = Daemon(self._folder, popen=processes.Popen)

    def run(self, rounds: int) -> Outcome:
        """Whatever comes of it, no daemon is left."""
        outcome = self.outcome
        try:
            self._daemon.open()
            for number in range(rounds):
                wrong = self._round(number)
                outcome.problems += [f"round {number}: {one}" for one in wrong]
                if wrong:
                    where = f"{outcome.kind}, {outcome.durability}, round {number}"
                    print(f"{where} (seed {self._seed}):{summary(wrong)}", flush=True)
        finally:
            self._daemon.kill()
        return outcome

    def _round(self, number: int) -> list[str]:
        random, outcome = self._random, self.outcome
        load = Load(self._ledger, NAMES, random, f"m{number}", fails=True)
        load.begin([self._daemon])
        time.sleep(random.uniform(0.1, 1.0))
        self._disk.be(self._kind.what, share=self._kind.share, only=self._kind.only)
        time.sleep(random.choice((0.2, 1.0, 2.5)))
        outcome.faults += self._disk.be(WELL)
        time.sleep(random.choice((0, 0.5, 3.0)))  # the journal may be checkpointed meanwhile
        self._daemon.kill()
        self._disk.hold()  # whoever was told anything was told before
        load.end()
        wrong = load.problems + self._daemon.complaints()
        self._disk.cut_power()
        outcome.cuts += 1
        self._daemon = Daemon(self._folder, popen=processes.Popen)
        return wrong + self._ledger.check(found(self._daemon.open(), NAMES))


def main() -> int:
    parser = argparse.ArgumentParser(description="The real daemon on a disk that fails.")
    parser.add_argument("--rounds", type=int, default=10, help="of each kind and durability (10)")
    parser.add_argument("--kind", choices=KINDS, help="what is wrong with the disk; all in turn")
    parser.add_argument("--durability", choices=("journal", "files"), help="this one only")
    parser.add_argument("--seed", type=int, default=0, help="another load, and other moments")
    options = parser.parse_args()
    if why := missing():
        print(f"skipped: {why}")
        return 0
    began = time.monotonic()
    outcomes = [
        play(kind, durability, options.seed, options.rounds)
        for kind in ([options.kind] if options.kind else KINDS)
        for durability in ([options.durability] if options.durability else ["journal", "files"])
    ]
    print(_figures(outcomes))
    wrong = sum(one.wrong for one in outcomes)
    print(f"seed {options.seed}, {time.monotonic() - began:.0f} s: {wrong} wrong")
    return 1 if wrong else 0


def play(kind: str, durability: str, seed: int, rounds: int) -> Outcome:
    """One campaign, on a disk of its own."""
    with _folder() as folder, device(folder, f"{seed} {kind} {durability}") as disk:
        return Campaign(kind, durability, seed, disk).run(rounds)


def _figures(outcomes: list[Outcome]) -> str:
    head = ["", "durability", "faults", "power cuts", "acknowledged", "removed", "lost or changed"]
    return table(
        head,
        [
            (o.kind, o.durability, o.faults, o.cuts, o.ledger.taken, o.ledger.gone, len(o.problems))
            for o in outcomes
        ],
    )


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="devices-", dir="/dev/shm"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
