"""Logs the outcomes of attempts."""

from __future__ import annotations

from collections.abc import Mapping

from postoffice.model import log_events
from postoffice.model.hop import PeerReply, Result
from postoffice.model.log_event import Event, paths, tell
from postoffice.model.queued_message import QueuedMessage
from postoffice.util.event_log import EventLogger

log = EventLogger("postoffice")


def log_replies(
    message: QueuedMessage,
    replies: Mapping[int, PeerReply],
    via: str,
    result: Result | None = None,
    *,
    event: Event | None = None,
) -> None:
    """
    Log the replies of an attempt, one line for all recipients that got the same reply.

    ``event`` is what follows, if that does not depend on the reply alone.
    """
    same: dict[PeerReply, list[str]] = {}
    for index, reply in replies.items():
        same.setdefault(reply, []).append(message.recipients[index].address)
    for reply, addresses in same.items():
        for to in paths(addresses):
            tell(
                log,
                event or _event_of(reply),
                id=message.id,
                tls=result.tls if result else "",
                to=to,
                via=via,
                reply=" ".join(filter(None, (str(reply.code or ""), reply.status, reply.text))),
                phase="" if reply.sent else reply.phase,
                times="/".join(f"{one:.2f}" for one in result.times) if result else "",
            )


def _event_of(reply: PeerReply) -> Event:
    if reply.sent:
        return log_events.RECIPIENT_SENT
    return log_events.RECIPIENT_BOUNCED if reply.permanent else log_events.RECIPIENT_DEFERRED
