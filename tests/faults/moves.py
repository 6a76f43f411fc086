"""
Kill -9 of imports: python tests/faults/moves.py [--accounts N] [--messages N] [--rounds N]

README.rst says what is asked.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from faults.moving import Move  # noqa: E402
from faults.table import table  # noqa: E402


def campaign(move: Move, rounds: int) -> tuple[list[object], list[str]]:
    """Import once without a fault, once with kills; the row of figures, and what was wrong."""
    move.prepare()
    seconds = move.run()
    wrong = move.found()
    shutil.rmtree(move.folder / "state" / "maildrops")
    killed = [move.kill_at(there) for there in move.moments(rounds)]
    again = move.run()
    wrong += [f"after kills at {killed}: {why}" for why in move.found()]
    total = move.accounts * move.messages
    return [total, f"{seconds:.1f}", f"{total / seconds:.0f}", len(killed), f"{again:.1f}"], wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5, help="kills of each import")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--elsewhere", type=Path, default=Path("/dev/shm"), help="another disk")
    options = parser.parse_args()
    head = ("messages come by", "messages", "seconds", "a second", "kills", "seconds of the last")
    rows: list[Sequence[object]] = []
    wrong: list[str] = []
    for how, elsewhere in (("links", None), ("copies", options.elsewhere)):
        with (
            tempfile.TemporaryDirectory() as here,
            tempfile.TemporaryDirectory(dir=elsewhere) as there,
        ):
            source = None if elsewhere is None else Path(there)
            if source is not None and source.stat().st_dev == Path(here).stat().st_dev:
                print(f"no copies: {elsewhere} is on the disk of {here}")
                continue
            sizes = (options.accounts, options.messages, source, Random(options.seed))
            row, found = campaign(Move(Path(here), *sizes), options.rounds)
            rows.append([how, *row])
            wrong += found
    print(table(head, rows))
    print("\n".join(wrong) or "nothing twice, nothing missing, all in order")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
