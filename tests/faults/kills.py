"""
Kill -9 of the real daemon, at random moments: python tests/faults/kills.py [--rounds N]

README.rst says what is asked.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from faults.backlog import lay_down  # noqa: E402
from faults.daemon import Daemon, furnish  # noqa: E402
from faults.departures import Departures  # noqa: E402
from faults.finding import aside, beside_soon, empty, found  # noqa: E402
from faults.ledger import Ledger, summary  # noqa: E402
from faults.load import SENDER, Load  # noqa: E402
from faults.peer import Peer  # noqa: E402
from faults.refusing import ELSEWHERE, FOLDER, MESSAGES, Refusing, cannot  # noqa: E402
from faults.settling import OUTBOUND, collect_letters, drain  # noqa: E402
from faults.table import seconds, table  # noqa: E402

NAMES = ("ann", "bob", "joe", "sue")


@dataclass
class Outcome:
    """What a campaign has come to."""

    durability: str
    ledger: Ledger
    departures: Departures
    kills: int = 0
    placers: int = 0
    while_starting: int = 0
    without_schedule: int = 0
    recovered: int = 0
    refusing: int = 0
    ready: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Campaign:
    """So many rounds: load, a kill, a start, and a look at everything."""

    def __init__(self, durability: str, seed: int, folder: Path) -> None:
        self._random = Random(f"{seed} {durability}")
        self._peer = Peer(Random(f"{seed} {durability} peer"))
        furnish(folder, durability, (*NAMES, SENDER), OUTBOUND.format(port=self._peer.port))
        atomic = durability == "journal"
        self._ledger = Ledger(atomic=atomic)
        self._departures = Departures(self._ledger, self._peer, atomic=atomic)
        self.outcome = Outcome(durability, self._ledger, self._departures)
        self._seed = seed
        self._folder = folder
        self._refusing = Refusing(folder / "state" / "maildrops", NAMES)
        self._ways = () if cannot(folder) else (MESSAGES, FOLDER, ELSEWHERE)
        self._daemon = Daemon(folder)

    def run(self, rounds: int) -> Outcome:
        """Whatever comes of it, no daemon is left."""
        with self._peer.running():
            return self._run(rounds)

    def _run(self, rounds: int) -> Outcome:
        try:
            self._daemon.open()
            for number in range(rounds):
                wrong = self._kill(number)
                wrong += self._look()
                if number == rounds - 1 or self._random.random() < 0.7:
                    wrong += self._settle()
                self.outcome.problems += [f"round {number}: {one}" for one in wrong]
                if wrong:
                    where = f"{self.outcome.durability}, round {number} (seed {self._seed})"
                    print(f"{where}:{summary(wrong)}", flush=True)
            self._daemon.stop()
        finally:
            self._daemon.kill()
            self._refusing.end()
            self._refusing.come_back()
            self.outcome.refusing = self._refusing.times
        self.outcome.problems += self._daemon.complaints()
        return self.outcome

    def _kill(self, number: int) -> list[str]:
        """In the middle of the load, and now and then at the start behind it; what was wrong."""
        random, outcome = self._random, self.outcome
        how = random.choice(self._ways) if self._ways and random.random() < 0.4 else ""
        if how == MESSAGES:
            self._refusing.begin(random, how)
        mark = f"{outcome.durability[0]}{number}"
        load = Load(
            self._ledger,
            NAMES,
            random,
            mark,
            fails=bool(self._ways),
            departures=self._departures,
        )
        load.begin([self._daemon])
        # mostly soon; sometimes when the journal has checkpointed what it held
        seconds = random.uniform(0, 3.0 if random.random() < 0.2 else 0.8)
        if random.random() < 0.4:  # first the process that places, alone
            time.sleep(seconds)
            outcome.placers += self._daemon.kill_placer()
            seconds = random.uniform(0, 0.4)
        time.sleep(seconds)
        self._end_daemon()
        load.end()
        outcome.kills += 1
        wrong = load.problems + self._daemon.complaints()
        if how == ELSEWHERE or self._refusing.moved:
            wrong += [] if self._daemon.all_gone() else ["a process outlives the daemon"]
        self._refusing.come_back()
        if how in (FOLDER, ELSEWHERE):
            self._refusing.begin(random, how)
        while random.random() < 0.2:
            self._daemon = Daemon(self._folder)
            time.sleep(random.uniform(0.3, 1.2))  # Python is imported, and it begins to start
            self._end_daemon()
            wrong += self._daemon.complaints()
            outcome.while_starting += 1
        if random.random() < 0.15:
            outcome.without_schedule += 1
            for path in (self._folder / "state").glob("queue.db*"):
                path.unlink()
        self._daemon = Daemon(self._folder)
        return wrong

    def _end_daemon(self) -> None:
        self._daemon.kill()
        self._departures.left(self._peer.epoch, self._daemon.lines)
        self._peer.next_epoch()

    def _settle(self) -> list[str]:
        """What is wrong with what was submitted, when all of it has left the queue."""
        if waiting := drain(self._folder):
            return [f"still in the queue: {waiting}"]
        letters = collect_letters(self._daemon, SENDER, self._departures.missing)
        return self._departures.check(letters)

    def _look(self) -> list[str]:
        """What is wrong then; some of what is there is collected."""
        daemon, outcome = self._daemon.open(), self.outcome
        outcome.ready.append(daemon.ready)
        if redo := daemon.said(r"recovered (\d+) messages"):
            outcome.recovered += int(redo[1])
        self._refusing.end()  # and each login carries out what was set aside
        held = found(daemon, NAMES)
        store = self._folder / "state" / "maildrops"
        wrong = self._ledger.check(held) + beside_soon(store, NAMES) + aside(store)
        wrong += self._refusing.left()
        part = self._random.choice((0.0, 0.5, 1.0))
        empty(daemon, self._ledger, held, self._random, part)
        return wrong


def ready_after(messages: int, folder: Path) -> tuple[float, float, float]:
    """
    How long a start takes that has so many messages to recover.

    Seconds from the launch of the process to the open door, of the recovery in
    it, and from launch to door where there is nothing to recover.
    """
    furnish(folder, "journal", NAMES)
    lay_down(str(folder / "state" / "maildrops"), NAMES, messages)
    daemon = Daemon(folder).open()
    redo = daemon.said(r"recovered (\d+) messages .* in ([\d.]+) s")
    assert redo, "there was nothing to recover"
    assert int(redo[1]) == messages, redo[0]
    assert sum(map(len, found(daemon, NAMES).values())) == messages
    daemon.stop()
    again = Daemon(folder).open()
    again.stop()
    return daemon.ready, float(redo[2]), again.ready


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill -9 of the daemon at random moments.")
    parser.add_argument("--rounds", type=int, default=20, help="of each durability (20)")
    parser.add_argument("--durability", choices=("journal", "files"), help="this one only")
    parser.add_argument("--seed", type=int, default=0, help="another load, and other moments")
    parser.add_argument("--recover", type=int, metavar="N", help="time a start that recovers N")
    parser.add_argument("--folder", help="where the stores are: on the disk that is meant")
    options = parser.parse_args()
    began = time.monotonic()
    outcomes = []
    for durability in [options.durability] if options.durability else ["journal", "files"]:
        with _folder(options.folder) as folder:
            if why := cannot(folder):
                print(f"no maildrop refuses: {why}")
            outcomes.append(Campaign(durability, options.seed, folder).run(options.rounds))
    print(_figures(outcomes))
    if options.recover:
        with _folder(options.folder) as folder:
            whole, redo, without = ready_after(options.recover, folder)
        print(
            f"a start with {options.recover} messages to recover: {whole:.2f} s until clients are "
            f"let in, {redo:.2f} s of them for the recovery; without any: {without:.2f} s"
        )
    wrong = sum(len(one.problems) for one in outcomes)
    print(f"seed {options.seed}, {time.monotonic() - began:.0f} s: {wrong} wrong")
    return 1 if wrong else 0


def _figures(outcomes: list[Outcome]) -> str:
    rows: list[tuple[str, Callable[[Outcome], object]]] = [
        ("kills under load", lambda one: one.kills),
        ("... and before of who places alone", lambda one: one.placers),
        ("kills while starting", lambda one: one.while_starting),
        ("copies acknowledged (250)", lambda one: one.ledger.taken),
        ("copies removed (+OK to QUIT)", lambda one: one.ledger.gone),
        ("submissions acknowledged", lambda one: one.departures.taken),
        ("... recipients elsewhere that got them", lambda one: one.departures.arrived),
        ("... once more, as 250 was lost", lambda one: one.departures.repeated),
        ("... refused there, and told to the sender", lambda one: one.departures.told),
        ("connections cut behind the dot", lambda one: one.departures.peer.cuts),
        ("starts without queue.db", lambda one: one.without_schedule),
        ("recovered by starts", lambda one: one.recovered),
        ("maildrops that refused meanwhile", lambda one: one.refusing),
        ("ready after the kill, median / worst, s", lambda one: seconds(one.ready)),
        ("lost, doubled, maimed, back again", lambda one: len(one.problems)),
    ]
    head = ["", *(one.durability for one in outcomes)]
    return table(head, [(title, *map(of, outcomes)) for title, of in rows])


@contextmanager
def _folder(above: str | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kills-", dir=above))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
