"""What the queue manager gets from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from postoffice.interfaces.relay import Letters, Relay
from postoffice.model.hop import PeerReply
from postoffice.outbound.schedule import Lifetimes
from postoffice.queue.shares import QueueShares


def _tell_nobody(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class QueueContext:
    """
    How the queue manager sends, as one configuration says; a reload gives another one.

    ``most`` and ``all_connections`` are the most connections to one site, and to all.  ``refused``
    is called with the login of a message, how many of its recipients got it, and how many were
    refused; ``login_refused`` with the name of a smarthost that refuses our login, and its reply.
    ``shares`` counts what accounts have in the queue.
    """

    relay: Relay
    letters: Letters
    lifetimes: Lifetimes
    most: int = 10
    all_connections: int = 100
    refused: Callable[[str, int, int], None] = _tell_nobody
    login_refused: Callable[[str, PeerReply], None] = _tell_nobody
    shares: QueueShares = field(default_factory=QueueShares)
