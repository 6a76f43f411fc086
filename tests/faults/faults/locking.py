"""Processes that log in to the same maildrops, again and again, and are killed."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from faults.daemon import DOMAIN
from faults.ledger import text_of
from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import MaildropLocked
from postoffice.store.maildir_store import CHECKPOINT_INTERVAL, MaildirStore
from postoffice.testing import ImmediateExecutor, finish

#: For each process: which maildrop it holds (0: none), whether it is to be killed, how often it
#: has tried and got in, what it found wrong, and its slowest refusal in microseconds.
_SLOT = struct.Struct("<6Q")
HOLDS, DOOMED, TRIED, GOT_IN, WRONG, SLOWEST = range(6)


@dataclass
class Outcome:
    """What many logins have come to."""

    tried: int = 0
    got_in: int = 0
    kills: int = 0
    two_holders: int = 0
    stale: int = 0
    slowest_refusal: float = 0.0  # seconds


class _Board:
    """What all processes see: a row of figures for each."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._octets = mmap.mmap(-1, processes * _SLOT.size)

    def get(self, process: int, column: int) -> int:
        at = process * _SLOT.size + 8 * column
        return int.from_bytes(self._octets[at : at + 8], "little")

    def set(self, process: int, column: int, value: int) -> None:
        at = process * _SLOT.size + 8 * column
        self._octets[at : at + 8] = value.to_bytes(8, "little")

    def add(self, process: int, column: int) -> None:
        self.set(process, column, self.get(process, column) + 1)

    def sum(self, column: int) -> int:
        return sum(self.get(process, column) for process in range(self.processes))

    def others_hold(self, me: int, maildrop: int) -> bool:
        """Another one that is not just being killed: who is has lost its lock, and cannot say."""
        return any(
            not self.get(other, DOOMED) and self.get(other, HOLDS) == maildrop  # in this order
            for other in range(self.processes)
            if other != me
        )


def contend(
    folder: Path, durability: str, logins: int, random: Random, processes: int = 4
) -> Outcome:
    """So many logins by these processes, of which one is killed every now and then."""
    names = ("ann", "bob")
    store = _store(folder, durability)
    for number in range(40):
        _post(store, names[number % len(names)], f"lock.{number}.300")
    finish(store.stop())
    board, outcome = _Board(processes), Outcome()
    children = [_begin(folder, durability, board, one, random.random()) for one in range(processes)]
    while board.sum(TRIED) < logins and not board.sum(WRONG):
        time.sleep(random.uniform(0, 0.02))
        one = random.randrange(processes)
        board.set(one, DOOMED, 1)
        os.kill(children[one], signal.SIGKILL)
        os.waitpid(children[one], 0)
        board.set(one, HOLDS, 0)
        board.set(one, DOOMED, 0)
        outcome.kills += 1
        children[one] = _begin(folder, durability, board, one, random.random())
    for one, child in enumerate(children):
        board.set(one, DOOMED, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    outcome.tried, outcome.got_in = board.sum(TRIED), board.sum(GOT_IN)
    outcome.two_holders = board.sum(WRONG)
    outcome.slowest_refusal = max(board.get(one, SLOWEST) for one in range(processes)) / 1e6
    store = _store(folder, durability)
    for name in names:
        try:
            _login(store, Clock(), name).release()
        except MaildropLocked:
            outcome.stale += 1
    finish(store.stop())
    return outcome


def _store(folder: Path, durability: str) -> MaildirStore:
    store = MaildirStore(
        str(folder / "store"),
        ImmediateExecutor(),
        hostname="h",
        clock=Clock(),
        durability=durability,
    )
    finish(store.start())
    return store


def _post(store: MaildirStore, name: str, token: str) -> None:
    address = f"{name}@{DOMAIN}"
    recipients = [Recipient(Address.parse(address), Account(address, address))]
    delivery = finish(store.begin(Envelope("id", Client(), recipients=recipients)))
    finish(delivery.write(text_of(token)))
    finish(delivery.commit())


def _login(store: MaildirStore, clock: Clock, name: str) -> object:
    """The maildrop, open; it waits where names are just going.  Raises MaildropLocked."""
    maildrop = store.maildrop(f"{name}@{DOMAIN}")
    opening = Deferred.fromCoroutine(maildrop.open())
    outcome: list[object] = []
    opening.addBoth(outcome.append)
    while not outcome:
        time.sleep(0.005)
        store._clock.advance(0.05)
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    maildrop.listing = outcome[0]  # type: ignore[attr-defined]
    return maildrop


def _begin(folder: Path, durability: str, board: _Board, me: int, seed: float) -> int:
    child = os.fork()
    if not child:
        try:
            _log_in_for_ever(_store(folder, durability), board, me, Random(seed))
        except BaseException:
            traceback.print_exc()
            board.add(me, WRONG)
        os._exit(1)
    return child


def _log_in_for_ever(store: MaildirStore, board: _Board, me: int, random: Random) -> None:
    names = ("ann", "bob")
    while True:
        which = random.randrange(len(names))
        began = time.monotonic()
        try:
            maildrop = _login(store, store._clock, names[which])
        except MaildropLocked:
            board.add(me, TRIED)
            took = int((time.monotonic() - began) * 1e6)
            board.set(me, SLOWEST, max(took, board.get(me, SLOWEST)))
            continue
        board.set(me, HOLDS, which + 1)
        board.add(me, TRIED)
        board.add(me, GOT_IN)
        if board.others_hold(me, which + 1):
            board.add(me, WRONG)
        time.sleep(random.choice((0, 0, 0.001)))
        entries = maildrop.listing.entries
        if entries and random.random() < 0.3:
            finish(maildrop.remove(entries[:1]))
            _post(store, names[which], f"again.{me}.{random.random()}.300")
        board.set(me, HOLDS, 0)
        with suppress(Exception):
            maildrop.release()
        if random.random() < 0.1:
            store._clock.advance(CHECKPOINT_INTERVAL)
