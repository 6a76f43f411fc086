"""What the log says of a message: its sender and recipients, within the length of a line."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.model.address import Address
from postoffice.model.envelope import Envelope, Recipient
from postoffice.model.log_event import portions

#: Octets of a log line for a message's long fields: recipients, Message-ID, names.
ROOM = 600


def addresses_of(envelope: Envelope, recipients: Sequence[Recipient], used: int) -> list[str]:
    """The addresses of recipients, in portions of a line; the first has ``used`` octets less."""
    room = ROOM - used - len(envelope.hello) - len(envelope.login)
    if len(recipients) == 1:
        to = path_text(recipients[0].address)
        if to.isascii() and to.isprintable() and len(to) < room // 2:
            return [to]
    return list(portions(dict.fromkeys(path_text(one.address) for one in recipients), room))


def path_text(address: Address | None) -> str:
    """An address in angle brackets; None is the null reverse-path."""
    return "<>" if address is None else f"<{address}>"


def without_parameters(path: str) -> str:
    """The path in a refused MAIL or RCPT, which may have no brackets, or no right form at all."""
    if "<" not in path:
        return path.partition(" ")[0]
    inside, closed, _ = path.partition("> ")
    return inside + ">" if closed else path
