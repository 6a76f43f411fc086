"""A state of a client's session, SMTP or POP3: one row of the table of its protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S")
R = TypeVar("R")


class ClientState(NamedTuple, Generic[S, R]):
    """
    What a state means, for a session of type ``S`` and replies of type ``R``.

    ``phase`` is that of its replies.  ``seconds`` is how long the server may take, also to close
    its side at the end; 0 where we do not wait for it.  ``take`` takes a reply.
    """

    phase: str
    seconds: float
    take: Callable[[S, R], None]
