"""What the log says of a message: its sender and recipients, within the length of a line."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger

from postoffice.accounts.address_resolution import RefusedAddress, Resolution
from postoffice.model import log_events
from postoffice.model.address import Account, Address
from postoffice.model.envelope import Envelope
from postoffice.model.errors import PostOfficeError
from postoffice.model.log_event import paths, portions, tell
from postoffice.model.queued_message import QueuedRecipient

log = Logger("postoffice")

#: Octets of a log line for a message's long fields: recipients, Message-ID, names.
ROOM = 600


def addresses_of(envelope: Envelope, paths: Sequence[str], used: int) -> list[str]:
    """The paths of recipients, in portions of a line; the first has ``used`` octets less."""
    room = ROOM - used - len(envelope.hello) - len(envelope.login)
    if len(paths) == 1:
        (to,) = paths
        if to.isascii() and to.isprintable() and len(to) < room // 2:
            return [to]
    return list(portions(dict.fromkeys(paths), room))


def paths_of(
    envelope: Envelope, outcomes: Sequence[PostOfficeError | None] | None = None
) -> list[str]:
    """
    Return the recipients in angle brackets, as the client named them.

    With ``outcomes``, only those that have the message; the last outcome is the queue's, if
    there are ``queued`` recipients.
    """
    local, queued = envelope.recipients, envelope.queued
    if outcomes is not None:
        local = [one for one, out in zip(local, outcomes, strict=False) if out is None]
        queued = queued if outcomes and outcomes[-1] is None else []
    paths = [path_text(one.address) for one in local]
    return paths + [f"<{one.shown}>" for one in queued]


def queued_among(paths: Sequence[str], envelope: Envelope) -> int | None:
    """Return how many of the paths in the log, the last ones, are only queued; None for none."""
    if not envelope.queued:
        return None
    local = {path_text(one.address) for one in envelope.recipients}
    return len({path for path in paths if path not in local}) or None


def path_text(address: Address | None) -> str:
    """An address in angle brackets; None is the null reverse-path."""
    return "<>" if address is None else f"<{address}>"


def without_parameters(path: str) -> str:
    """The path in a refused MAIL or RCPT, which may have no brackets, or no right form at all."""
    if "<" not in path:
        return path.partition(" ")[0]
    inside, closed, _ = path.partition("> ")
    return inside + ">" if closed else path


def log_followed(
    envelope: Envelope,
    given: Address,
    found: Resolution,
    takers: list[Account | QueuedRecipient],
    refused: list[RefusedAddress],
) -> None:
    """Log where an alias, a forward or a catch-all has led, and which targets take no mail."""
    recipient = f"<{given}>"
    if takers:
        for to in paths(one.address for one in takers):
            tell(log, log_events.RECIPIENT_FOLLOWED, id=envelope.id, recipient=recipient, to=to)
    for one in (*found.refused, *refused):
        why = one.reply.log_text
        tell(log, log_events.TARGET_REFUSED,
             id=envelope.id, recipient=recipient, user=one.address, why=why)  # fmt: skip
    if found.discarded:
        sender = "<>" if envelope.sender is None else f"<{envelope.sender}>"
        tell(log, log_events.MESSAGE_DISCARDED,
             id=envelope.id, sender=sender, recipient=recipient)  # fmt: skip


def log_kept_here(envelope: Envelope, targets: Sequence[QueuedRecipient]) -> None:
    """Log which targets elsewhere do not get a message, because it is marked as spam."""
    for one in targets:
        tell(log, log_events.TARGET_REFUSED, id=envelope.id, recipient=f"<{one.shown}>",
             user=one.address, why="marked as spam, not forwarded")  # fmt: skip
