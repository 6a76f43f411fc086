"""
Kill -9 of imports: python tests/faults/moves.py [--accounts N] [--messages N] [--rounds N]

README.rst says what is asked.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from faults.moving import LiveMove, Move  # noqa: E402
from faults.table import table  # noqa: E402

from tests.old_servers import Dovecot, running  # noqa: E402


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


def moves(options: argparse.Namespace) -> Iterator[tuple[str, Move]]:
    """What is moved, and how; one after another."""
    sizes = (options.accounts, options.messages)
    with tempfile.TemporaryDirectory() as here:
        yield "links", Move(Path(here), *sizes, random=Random(options.seed))
    with (
        tempfile.TemporaryDirectory() as here,
        tempfile.TemporaryDirectory(dir=options.elsewhere) as there,
    ):
        if os.stat(there).st_dev == os.stat(here).st_dev:
            print(f"no copies: {options.elsewhere} is on the disk of {here}")
        else:
            yield "copies", Move(Path(here), *sizes, Path(there), random=Random(options.seed))
    if os.geteuid() or not shutil.which("dovecot"):
        print("nothing over POP3: that needs root, and Debian's dovecot-pop3d")
        return
    with tempfile.TemporaryDirectory() as here, running(Dovecot) as server:
        yield "POP3", LiveMove(server, Path(here), *sizes, random=Random(options.seed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5, help="kills of each import")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--elsewhere", type=Path, default=Path("/dev/shm"), help="another disk")
    parser.add_argument("--only", help="links, copies or POP3")
    options = parser.parse_args()
    head = ("messages come by", "messages", "seconds", "a second", "kills", "seconds of the last")
    rows: list[Sequence[object]] = []
    wrong: list[str] = []
    for how, move in moves(options):
        if options.only in (None, how):
            row, found = campaign(move, options.rounds)
            rows.append([how, *row])
            wrong += found
    print(table(head, rows))
    print("\n".join(wrong) or "nothing twice, nothing missing, all in order")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
