"""
A message in the queue: its sender, its remote recipients, and what became of each.

The queue keeps it at the end of the message's file (``encode``).  What happens later is kept in
marks beside the file: which recipients are finished, and about which the sender was told of a
delay.  Marks are only ever added.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from typing import Self

#: The last octets of a queued file: the length of the JSON text before them, and its version.
_FOOTER = struct.Struct("!I8s")
_MAGIC = b"\r\npoq1\r\n"
FOOTER = _FOOTER.size
#: Who is told that what an account forwards for a stranger cannot be delivered.
SENDER, OWNER, DROP = FORWARD_FAILURES = ("sender", "owner", "drop")
#: Fields without a default, which are left out where they are empty.
_NEEDED = {"id": "", "sender": "", "came": 0.0}


class NotQueued(ValueError):
    """This is not the end of a queued message's file; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedRecipient:
    """
    One remote recipient.

    ``address`` is what RCPT names, without brackets.  ``original`` is the address that the
    sender wrote, where an alias or a forward of ours led from there to here, and else "".
    ``forwarder`` is the account that forwards, or "".  ``notify`` (NEVER, or a list such as
    "SUCCESS,FAILURE") and ``orcpt`` are the parameters of RFC 3461 §4.1, §4.2, as they came.
    """

    address: str
    original: str = ""
    forwarder: str = ""
    notify: str = ""
    orcpt: str = ""

    @property
    def domain(self) -> str:
        """The domain that the message is sent to."""
        return self.address.rpartition("@")[2]

    @property
    def shown(self) -> str:
        """The address as the sender knows it: the target of a forward is private."""
        return self.original or self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedMessage:
    """
    One message that waits.

    ``id`` is its name in the log, in its Received field and for the administrator.
    ``sender`` is the reverse-path, "" for ``<>``; ``login`` and ``device`` are who submitted it, or
    "".  ``came`` is Unix time.  The text is the first ``size`` octets of the file, without those
    of ``hole`` (offset, length): the Return-Path field, which only final delivery adds
    (RFC 5321 §4.4).  ``held`` says why the message is not sent now, or is "".  ``ret`` and
    ``envid`` are the parameters of RFC 3461 §4.3, §4.4.  ``utf8``: it was taken with SMTPUTF8;
    ``eight_bit``: with BODY=8BITMIME.

    ``done`` are the indexes of recipients that are finished, ``told`` of those about which the
    sender was told of a delay.
    """

    id: str
    sender: str
    recipients: tuple[QueuedRecipient, ...]
    came: float
    size: int = 0
    hole: tuple[int, int] = (0, 0)
    login: str = ""
    device: str = ""
    held: str = ""
    ret: str = ""
    envid: str = ""
    utf8: bool = False
    eight_bit: bool = False
    requiretls: bool = False
    done: frozenset[int] = field(default=frozenset())
    told: frozenset[int] = field(default=frozenset())

    @property
    def octets(self) -> int:
        """Octets of the text as it is sent."""
        return self.size - self.hole[1]

    @property
    def left(self) -> list[int]:
        """The indexes of the recipients that are not finished."""
        return [n for n in range(len(self.recipients)) if n not in self.done]

    def with_marks(self, done: Collection[int], told: Collection[int]) -> Self:
        """The message with more recipients finished or told."""
        return replace(self, done=self.done.union(done), told=self.told.union(told))

    def encode(self) -> bytes:
        """What stands in the file after the text."""
        kept = _fields_of(self, _KEPT)
        kept["to"] = [_fields_of(one, _OF_RECIPIENTS) for one in self.recipients]
        octets = json.dumps(kept, separators=(",", ":")).encode()
        return octets + _FOOTER.pack(len(octets), _MAGIC)

    @staticmethod
    def footer(end: bytes) -> int:
        """Octets of what ``encode`` made, given the last ``FOOTER`` octets.  Raises NotQueued."""
        try:
            length, magic = _FOOTER.unpack(end)
        except struct.error as error:
            raise NotQueued("too short for a queued message") from error
        if magic != _MAGIC:
            raise NotQueued("not a queued message, or only the beginning of one")
        return int(length) + FOOTER

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Read what ``encode`` made.  Raises NotQueued."""
        try:
            if cls.footer(octets[-FOOTER:]) != len(octets):
                raise NotQueued("the end of a queued message has another length than it says")
            kept = json.loads(octets[:-FOOTER])
            recipients = tuple(QueuedRecipient(**one) for one in kept.pop("to"))
            hole = tuple(kept.pop("hole", (0, 0)))
            return cls(recipients=recipients, hole=hole, **(_NEEDED | kept))
        except NotQueued:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise NotQueued(f"the end of a queued message cannot be read: {error}") from error


#: The fields that are kept, of a message and of its recipients.
_KEPT = [
    one.name for one in fields(QueuedMessage) if one.name not in ("recipients", "done", "told")
]
_OF_RECIPIENTS = [one.name for one in fields(QueuedRecipient)]


def _fields_of(one: object, names: Collection[str]) -> dict[str, object]:
    """Those fields that are not empty."""
    return {name: value for name in names if (value := getattr(one, name))}
