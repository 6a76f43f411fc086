"""
A ``dovecot-uidlist`` that is written: what makes Dovecot list the same messages as we do.

A line is ``UID [FIELDS…] :NAME``; its field P is the UIDL, and O the place in POP3's order.
Fields that are not ours stay as they are.  Pure.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from postoffice.store.transfer.doveadm_table import is_number
from postoffice.store.transfer.import_uidls import base_of

FILE = "dovecot-uidlist"


@dataclass
class UidListLine:
    """A message; ``fields`` has those other than P and O, as they were read."""

    uid: int
    name: str
    uidl: str | None = None
    place: int | None = None
    fields: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        words = [str(self.uid)]
        if self.uidl is not None:
            words.append(f"P{self.uidl}")
        if self.place is not None:
            words.append(f"O{self.place}")
        return " ".join([*words, *self.fields, f":{self.name}"])


class UidList:
    """The list of one Maildir; ``now``, in seconds, is the UIDVALIDITY of a new list."""

    def __init__(self, now: int) -> None:
        self._header = [f"V{now}", f"G{secrets.token_hex(16)}"]
        self._next = 1
        self._lines: list[UidListLine] = []
        self._by_uidl: dict[str, UidListLine] = {}

    @classmethod
    def parse(cls, text: str) -> UidList:
        """Read a list.  Raises ValueError if it is not one of version 3."""
        header, *lines = text.removesuffix("\n").split("\n")
        version, *words = header.split(" ")
        said = {word[:1]: word[1:] for word in words}
        if version != "3" or not all(is_number(said.get(one, "")) for one in "VN"):
            raise ValueError(f"its first line is not that of a {FILE}: {header[:80]!r}")
        made = cls(0)
        made._header = [word for word in words if word[:1] != "N"]
        for line in lines:
            if (read := _parsed(line)) is not None:
                made._add(read)
        made._next = max([int(said["N"]), *(one.uid + 1 for one in made._lines)])
        return made

    def _add(self, line: UidListLine) -> None:
        self._lines.append(line)
        if line.uidl is not None:
            self._by_uidl[line.uidl] = line

    def set(self, uidl: str, place: int, name: str) -> None:
        """Add a message; one that is there keeps its UID, and gets another place and name."""
        if (known := self._by_uidl.get(uidl)) is not None:
            known.place, known.name = place, name
            return
        self._add(UidListLine(self._next, name, uidl, place))
        self._next += 1

    def renumber(self, places: Iterable[tuple[str, int]]) -> None:
        """Give new places to messages, as far as they are there."""
        for uidl, place in places:
            if (known := self._by_uidl.get(uidl)) is not None:
                known.place = place

    def __str__(self) -> str:
        words = ["3", *self._header]
        words.insert(2, f"N{self._next}")
        lines = sorted(self._lines, key=lambda one: one.uid)
        return "\n".join([" ".join(words), *map(str, lines), ""])


def _parsed(text: str) -> UidListLine | None:
    uid, _, rest = text.partition(" ")
    words, colon, name = f" {rest}".partition(" :")
    if not (is_number(uid) and colon and base_of(name)):
        return None
    line = UidListLine(int(uid), name)
    for word in words.split():
        if word[0] == "P":
            line.uidl = word[1:]
        elif word[0] == "O" and is_number(word[1:]):
            line.place = int(word[1:])
        else:
            line.fields.append(word)
    return line
