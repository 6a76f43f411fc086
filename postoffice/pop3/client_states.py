"""The states of a POP3 client's session, by their names, and what a state is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from postoffice.pop3.client_reply import ClientReply

#: What the session waits for: a reply to a command, our own next step, or TLS.
GREETING, CAPA, STLS, USER, PASS, AUTH = "greeting", "CAPA", "STLS", "USER", "PASS", "AUTH"
COMMAND, TEXT, QUIT = "command", "text", "QUIT"
HANDSHAKE, READY, CLOSED = "handshake", "ready", "closed"


class State(NamedTuple):
    """
    What a state means.

    ``phase`` is that of its replies; ``seconds`` is how long the server may take, 0 where we do
    not wait for it.  ``take`` takes a reply.
    """

    phase: str
    seconds: float
    take: Callable[[Any, ClientReply], None]
