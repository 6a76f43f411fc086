"""What was submitted for other servers, and what must have become of it when all has settled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock

from faults.ledger import Ledger
from faults.peer import LATER, REFUSED, Peer

_FAILED = re.compile(rb"^Final-Recipient: rfc822; ?(\S+)\r\nAction: failed\r\n", re.MULTILINE)


@dataclass
class _Submission:
    here: Sequence[str]
    elsewhere: Sequence[str]
    taken: bool = False


@dataclass
class Departures:
    """
    Knows which submissions were promised; clients write into it, on any thread.

    ``atomic``: what was not acknowledged is here and at the peer, or nowhere.  Otherwise what is
    here is at the peer.
    """

    ledger: Ledger
    peer: Peer
    atomic: bool
    taken: int = 0
    arrived: int = 0
    repeated: int = 0
    told: int = 0
    _open: dict[str, _Submission] = field(default_factory=dict)
    _left: set[tuple[str, int]] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def submitting(self, token: str, here: Sequence[str], elsewhere: Sequence[str]) -> None:
        """A message is submitted, and nobody has heard what becomes of it."""
        if here:
            self.ledger.posting(token, here)
        with self._lock:
            self._open[token] = _Submission(here, elsewhere)

    def submitted(self, token: str) -> None:
        """250."""
        with self._lock:
            submission = self._open[token]
            submission.taken = True
            self.taken += 1
        self.ledger.posted(token, *submission.here)

    def left(self, epoch: int, lines: Iterable[str]) -> None:
        """What the log of an epoch says has left the queue: it must not be sent again."""
        found = re.findall(r" left-queue .*?\bid=(\S+)", "".join(lines))
        self._left |= {(one, epoch) for one in found}

    def missing(self, letters: Sequence[bytes]) -> list[str]:
        """The refused recipients of which no letter tells yet."""
        told = _told(letters)
        return [
            address
            for token, one in self._open.items()
            if one.taken or token in self.peer.asked
            for address in one.elsewhere
            if address.startswith(REFUSED) and not told[address]
        ]

    def check(self, letters: Sequence[bytes]) -> list[str]:
        """What is wrong when the queue is empty; ``letters`` came to those who submitted."""
        told = _told(letters)
        with self._lock:
            problems = self.peer.problems[:]
            self.peer.problems.clear()
            for letter in letters:
                if not _FAILED.search(letter):
                    problems.append(f"a letter tells of nobody: {letter[:300]!r}")
            for token, one in self._open.items():
                problems += self._wrong(token, one, told)
            problems += [f"a letter about {address}, of whom none is due" for address in told]
            problems += [
                f"{token} was sent after all had settled"
                for token in self.peer.asked - self._open.keys()
                if "@" not in token
            ]
            self._open.clear()
            self.peer.asked.clear()
            self.peer.arrived.clear()
        return problems

    def _wrong(self, token: str, one: _Submission, told: Counter[str]) -> list[str]:
        there = token in self.peer.asked
        here = [self.ledger.has_been(name, token) for name in one.here]
        if one.taken and not there:
            return [f"{token} was taken, and never sent"]
        problems = []
        if any(here) and not there:
            problems.append(f"{token} is here, and was never sent")
        if self.atomic and there and not all(here):
            problems.append(f"{token} was sent, and is not here")
        for address in one.elsewhere if there else ():
            problems += self._of_one(address, told)
        return problems

    def _of_one(self, address: str, told: Counter[str]) -> list[str]:
        count, arrived = told.pop(address, 0), self.peer.arrived[address]
        due = address.startswith(REFUSED)
        self.arrived += bool(arrived)
        self.repeated += max(len(arrived) - 1, 0)
        self.told += count
        problems = []
        if count != due:
            problems.append(f"{count} letters tell of {address}")
        if bool(arrived) == due:
            problems.append(f"{address}: {len(arrived)} messages came")
        for before, after in pairwise(arrived):
            if not (before.cut or before.epoch < after.epoch):
                problems.append(f"{address}: sent again after 250")
            if any((after.id, epoch) in self._left for epoch in range(after.epoch)):
                problems.append(f"{address}: sent again after it had left the queue")
        return problems


def _told(letters: Iterable[bytes]) -> Counter[str]:
    return Counter(one.decode() for letter in letters for one in _FAILED.findall(letter))


def recipients(token: str, number: int, count: int) -> list[str]:
    """
    So many recipients elsewhere, on two domains, the first with this number.

    One of sixteen is refused (of too many, the sender would be suspected), and two come later.
    """
    kinds = {0: REFUSED, 5: LATER, 10: LATER}
    return [
        f"{kinds.get((number + at) % 16, 'accepted')}-{token}_{at}@there{at % 2}.example"
        for at in range(count)
    ]
