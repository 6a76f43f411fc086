"""
Several processes on one store: python tests/faults/processes.py [--rounds N] [--logins N]

README.rst says what is asked.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from faults import locking, sharing  # noqa: E402
from faults.daemon import Daemon, add, furnish  # noqa: E402
from faults.finding import beside, found  # noqa: E402
from faults.ledger import Ledger, summary  # noqa: E402
from faults.table import seconds, table  # noqa: E402

from postoffice.model.address import Quota  # noqa: E402

NAMES = ("ann", "bob", "joe", "sue")
TIGHT = "tom"
#: Seconds; threats of locks: R5.
AT_ONCE, BEHIND_A_KILL = 0.2, 1.0


def share(durability: str, rounds: int, seed: int, folder: Path) -> sharing.Outcome:
    """Two daemons, so many rounds of each kind."""
    random, outcome = Random(f"{seed} {durability}"), sharing.Outcome()
    ledger = Ledger(atomic=durability == "journal")
    furnish(folder, durability, NAMES)
    add(folder, TIGHT, quota=Quota(0, sharing.ROOM, "defer"))
    daemons = [Daemon(folder).open() for _ in range(2)]
    try:
        for number in range(rounds):
            sharing.several_at_once(daemons, random.choice(NAMES), outcome)
            sharing.handed_over(folder, daemons, random.choice(NAMES), outcome, random)
            sharing.quotas(folder, daemons, TIGHT, outcome, random, kill=number % 2 == 0)
            sharing.killed_beside_another(folder, daemons, NAMES, ledger, outcome, random)
        for daemon in daemons:
            daemon.stop()
            outcome.problems += daemon.complaints()
        daemons = [Daemon(folder).open()]
        outcome.problems += ledger.check(found(daemons[0], NAMES))
        outcome.problems += beside(folder / "state" / "maildrops", (*NAMES, TIGHT))
        daemons[0].stop()
    finally:
        for daemon in daemons:
            daemon.kill()
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description="Several processes on one store.")
    parser.add_argument("--rounds", type=int, default=10, help="with two daemons, of each kind")
    parser.add_argument("--logins", type=int, default=5000, help="of processes that are killed")
    parser.add_argument("--seed", type=int, default=0, help="other moments")
    options = parser.parse_args()
    began = time.monotonic()
    shared, locked = {}, {}
    for durability in ("journal", "files"):
        with tempfile.TemporaryDirectory(prefix="processes-") as folder:
            shared[durability] = share(durability, options.rounds, options.seed, Path(folder))
        with tempfile.TemporaryDirectory(prefix="locks-") as folder:
            locked[durability] = locking.contend(
                Path(folder), durability, options.logins, Random(options.seed)
            )
    wrong = 0
    for durability, outcome in shared.items():
        slow = _slow(outcome)
        outcome.problems += slow
        lock = locked[durability]
        wrong += len(outcome.problems) + lock.two_holders + lock.stale
        if outcome.problems:
            print(f"{durability}:{summary(outcome.problems)}")
    both = [(shared[one], locked[one]) for one in shared]
    print(
        table(
            ["", *shared],
            [
                ("two daemons: logins", *(one.logins for one, _ in both)),
                ("  refused [IN-USE], median / worst, s", *(seconds(o.refusals) for o, _ in both)),
                ("  free behind QUIT or a lost link, s", *(seconds(o.released) for o, _ in both)),
                ("  free behind kill -9, s", *(seconds(o.released_by_kill) for o, _ in both)),
                ("  kills", *(one.kills for one, _ in both)),
                ("  quotas filled by both", *(one.quotas for one, _ in both)),
                ("  commands beside them", *(one.commands for one, _ in both)),
                ("four processes: logins", *(lock.tried for _, lock in both)),
                ("  got in", *(lock.got_in for _, lock in both)),
                ("  kills", *(lock.kills for _, lock in both)),
                ("  two holders, stale locks", *(k.two_holders + k.stale for _, k in both)),
                ("wrong", *(len(one.problems) for one, _ in both)),
            ],
        )
    )
    print(f"seed {options.seed}, {time.monotonic() - began:.0f} s: {wrong} wrong")
    return 1 if wrong else 0


def _slow(outcome: sharing.Outcome) -> list[str]:
    """What took longer than it may, unless the machine has more to do than it can."""
    if os.getloadavg()[0] > (os.cpu_count() or 1):
        return []
    problems = [f"[IN-USE] took {one:.2f} s" for one in outcome.refusals if one > AT_ONCE]
    slow = [one for one in outcome.released_by_kill if one > BEHIND_A_KILL]
    return problems + [f"a lock was free {one:.2f} s behind a kill" for one in slow]


if __name__ == "__main__":
    sys.exit(main())
