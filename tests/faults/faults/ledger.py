"""What clients were told, message by message, and what a post office must have of it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from threading import RLock
from typing import NamedTuple

_TOKEN = re.compile(rb"^Subject: (\S+)\r\n", re.MULTILINE)


class Stage(Enum):
    """How far a message has come, in one of its maildrops."""

    COMING = "coming"  # there or not
    THERE = "there"
    LEAVING = "leaving"  # there or not
    GONE = "gone"


class Held(NamedTuple):
    """A message as a client got it."""

    uidl: str
    text: bytes


#: Octets behind what is said in each line of a long text: few lines are made quickly.
_FILLING = "x" * 800


@lru_cache(maxsize=64)
def text_of(token: str) -> bytes:
    """
    A message's text, of as many octets as its token says behind its last dot, or a little more.

    A part of it shows whose it is, and where it belongs.
    """
    head = f"Subject: {token}\r\n\r\n"
    size = int(token.rpartition(".")[2]) - len(head)
    filling = _FILLING if size > 10 * len(_FILLING) else ""
    line = len(token) + len(filling) + 11
    lines = (f"{token} {number:7} {filling}\r\n" for number in range(size // line + 1))
    return (head + "".join(lines)).encode()


def token_of(text: bytes) -> str | None:
    """The token of a message; None: nobody has sent it."""
    found = _TOKEN.search(text)
    return found[1].decode() if found else None


def behind_the_trace(text: bytes) -> bytes:
    """What stands behind the fields that the post office has put before it."""
    at = text.find(b"\r\nSubject: ")
    return text if at < 0 or not text.startswith(b"Return-Path: ") else text[at + 2 :]


@dataclass
class Ledger:
    """
    Knows what was promised; its clients write into it, on any thread.

    ``atomic``: over a crash a message is in all its maildrops or in none, and
    so goes what one QUIT removes (the journal).
    """

    atomic: bool
    taken: int = 0  # by how many maildrops, in all
    gone: int = 0
    _stages: dict[str, dict[str, Stage]] = field(default_factory=lambda: defaultdict(dict))
    _uidls: dict[tuple[str, str], str] = field(default_factory=dict)
    _together: list[dict[str, Sequence[str]]] = field(default_factory=list)  # tokens, by maildrop
    _been: set[tuple[str, str]] = field(default_factory=set)  # was seen, or promised
    _lock: RLock = field(default_factory=RLock)

    def copy(self) -> Ledger:
        """Another, that hears other things from here on."""
        other = Ledger(self.atomic, self.taken, self.gone)
        for name, stages in self._stages.items():
            other._stages[name] = dict(stages)
        other._uidls, other._been = dict(self._uidls), set(self._been)
        other._together = list(self._together)
        return other

    # -- what clients do and hear ----------------------------------------------------

    def posting(self, token: str, maildrops: Iterable[str], *, apart: bool = False) -> None:
        """A message is sent, and nobody has heard what becomes of it; ``apart``: over LMTP."""
        with self._lock:
            for name in maildrops:
                self._stages[name][token] = Stage.COMING
            if not apart:
                self._together.append({name: [token] for name in maildrops})

    def posted(self, token: str, *maildrops: str) -> None:
        """250."""
        with self._lock:
            for name in maildrops:
                self.taken += 1
                self._been.add((name, token))
                if self._stages[name][token] is Stage.COMING:  # else it is collected already
                    self._stages[name][token] = Stage.THERE

    def seen(self, name: str, held: Held) -> str:
        """Its token; raises AssertionError where it is not what somebody sent there."""
        token = token_of(held.text)
        assert token, f"{name} has {len(held.text)} octets that nobody sent: {held.text[:60]!r}"
        with self._lock:
            stage = self._stages.get(name, {}).get(token)
            assert stage is not None, f"{name} has {token}, which nobody sent to it"
            sent = text_of(token)
            assert behind_the_trace(held.text) == sent, f"{name} has {token}, but not as it was"
            known = self._uidls.setdefault((name, token), held.uidl)
            assert known == held.uidl, f"{name} has {token} as {held.uidl}; it was {known}"
            assert stage is not Stage.GONE, f"{name} has {token}, which was gone"
            self._been.add((name, token))
            if stage is Stage.COMING:
                self._stages[name][token] = Stage.THERE
        return token

    def removing(self, name: str, tokens: Sequence[str]) -> None:
        """QUIT is said after DELE."""
        with self._lock:
            self._stages[name].update((token, Stage.LEAVING) for token in tokens)
            self._together.append({name: list(tokens)})

    def removed(self, name: str, tokens: Sequence[str]) -> None:
        """+OK."""
        with self._lock:
            self.gone += len(tokens)
            self._stages[name].update((token, Stage.GONE) for token in tokens)

    # -- what is there -----------------------------------------------------------------

    def names(self) -> list[str]:
        """The maildrops that anything was sent to."""
        return sorted(self._stages)

    def is_there(self, name: str, token: str) -> bool:
        """Whether it was there when that was looked at."""
        return self._stages[name].get(token) is Stage.THERE

    def has_been(self, name: str, token: str) -> bool:
        """Whether it was ever there, or promised to be."""
        return (name, token) in self._been

    def check(self, found: Mapping[str, Sequence[Held]], *, settled: bool = True) -> list[str]:
        """
        What is wrong with what lies in the maildrops, while nobody is at them.

        ``settled``: what was not told to anybody is decided now, and stays so.
        """
        problems: list[str] = []
        with self._lock:
            there = {
                name: self._tokens(name, found.get(name, ()), problems) for name in self._stages
            }
            if settled and self.atomic:
                problems += self._cut_in_the_middle(there)
            for name, tokens in there.items():
                problems += self._settle(name, tokens, settled)
            if settled:
                self._together.clear()
        return problems

    def _tokens(self, name: str, held: Sequence[Held], problems: list[str]) -> Counter[str]:
        tokens: Counter[str] = Counter()
        for one in held:
            try:
                tokens[self.seen(name, one)] += 1
            except AssertionError as wrong:
                problems.append(str(wrong))
        return tokens

    def _settle(self, name: str, tokens: Counter[str], settled: bool) -> list[str]:
        problems = []
        for token, stage in self._stages[name].items():
            count = tokens[token]
            if count > 1:
                problems.append(f"{name} has {token} {count} times")
            if stage is Stage.THERE and not count:
                problems.append(f"{name} has lost {token}")
            if settled:
                self._stages[name][token] = Stage.THERE if count else Stage.GONE
        return problems

    def _cut_in_the_middle(self, there: Mapping[str, Counter[str]]) -> list[str]:
        """Of what goes together, some is there and some is not."""
        problems = []
        for together in self._together:
            ones = [(name, token) for name, tokens in together.items() for token in tokens]
            leaving = [one for one in ones if self._stages[one[0]][one[1]] is Stage.LEAVING]
            if len(together) > 1:
                fates = {one in self._been for one in ones}
            else:
                fates = {bool(there[name][token]) for name, token in leaving}
            if len(fates) > 1:
                problems.append(f"one of these is there, another is not: {ones}")
        return problems


def summary(problems: Sequence[str], most: int = 8) -> str:
    """The first of them, a line each."""
    more = [f"... and {len(problems) - most} more"] if len(problems) > most else []
    return "".join(f"\n    {line}" for line in [*problems[:most], *more])
