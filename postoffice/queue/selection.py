"""Which messages of the queue an administrator means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Self

from postoffice.queue.queue_db import ACTIVE, NEXT_IN_STATE, in_domain, like, word

#: The states of a message, as an administrator sees them.
STATES = ("sending", "waiting", "unreachable", "paused", "held")
_OF_STATE = {
    "waiting": f"held = '' AND next < {ACTIVE!r}",
    "held": "held != ''",
    **{state: f"held = '' AND next = {at!r}" for state, at in NEXT_IN_STATE.items()},
}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """
    Messages that match all fields that are set; if none is, all messages.

    ``ids`` are those in the log.  ``to`` and ``sender`` are addresses or domains; ``before`` is
    Unix time.  A portion of a selection begins after the message ``after`` and ends with ``until``
    (names in the queue).
    """

    ids: tuple[str, ...] = ()
    to: str = ""
    sender: str = ""
    login: str = ""
    state: str = ""
    before: float = 0.0
    after: str = ""
    until: str = ""

    @classmethod
    def read(cls, data: Mapping[str, object]) -> Self:
        """Read what ``write`` made.  Raises ValueError."""
        known = {one.name for one in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        ids = values.pop("ids", ())
        if not isinstance(ids, (list, tuple)) or values.get("state", "") not in ("", *STATES):
            raise ValueError("not a selection of messages")
        return cls(ids=tuple(map(str, ids)), **values)  # type: ignore[arg-type]

    def write(self) -> dict[str, object]:
        """The selection as JSON can carry it."""
        return {name: value for name, value in asdict(self).items() if value}

    def sql(self) -> tuple[str, list[object]]:
        """The condition on rows of ``queue.db``, and its values."""
        terms: list[str] = ["1"]
        values: list[object] = []
        if self.ids:
            terms.append(f"id IN ({', '.join('?' * len(self.ids))})")
            values += self.ids
        if "@" in self.to:
            terms.append("instr(' ' || lower(recipients) || ' ', ?) > 0")
            values.append(f" {word(self.to.lower())} ")
        elif self.to:
            which, ends = in_domain(self.to.lower())
            terms.append(which)
            values += ends
        if self.sender == "<>":
            terms.append("sender = ''")
        elif self.sender:
            terms.append("lower(sender) LIKE ? ESCAPE '\\'")
            values.append(("" if "@" in self.sender else "%@") + like(self.sender.lower()))
        if self.login:
            terms.append("login = ?")
            values.append(self.login)
        if self.state:
            terms.append(f"({_OF_STATE[self.state]})")
        if self.before:
            terms.append("came <= ?")
            values.append(self.before)
        if self.after:
            terms.append("name > ?")
            values.append(self.after)
        if self.until:
            terms.append("name <= ?")
            values.append(self.until)
        return " AND ".join(terms), values


def state_of(next_at: float, held: str) -> str:
    """The state of a row, by its time and why it is held."""
    if held:
        return "held"
    return next((state for state, at in NEXT_IN_STATE.items() if at == next_at), "waiting")
