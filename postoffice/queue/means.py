"""What a configuration says about sending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from postoffice.interfaces.relay import Letters, Relay
from postoffice.outbound.schedule import Lifetimes


def _unheard(login: str, sent: int, refused: int) -> None:
    """Nobody wants to know how many recipients were refused."""


@dataclass(frozen=True)
class Means:
    """
    What a configuration says about sending.

    ``most`` and ``all_connections`` are the connections to one site, and to all.  ``refused``
    is told of the login of a message, and how many of its recipients were sent and refused.
    """

    relay: Relay
    letters: Letters
    lifetimes: Lifetimes
    most: int = 10
    all_connections: int = 100
    refused: Callable[[str, int, int], None] = _unheard
