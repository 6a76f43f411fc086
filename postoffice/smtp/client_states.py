"""The states of an SMTP client's session, by their names, and what a state is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from postoffice.model.hop import PeerReply

#: What the session waits for: a reply to a command, our own next step, or TLS.
GREETING, EHLO, HELO, STARTTLS, AUTH = "greeting", "EHLO", "HELO", "STARTTLS", "AUTH"
MAIL, RCPT, DATA = "MAIL", "RCPT", "DATA"
END, LONE_DOT, RSET, QUIT = "end", "lone dot", "RSET", "QUIT"
HANDSHAKE, READY, TEXT, CLOSED = "handshake", "ready", "text", "closed"


class State(NamedTuple):
    """
    What a state means.

    ``phase`` is that of its replies; ``seconds`` is how long the server may take (RFC 5321
    §4.5.3.2), also to close its side at the end; 0 where we do not wait for it.  ``take`` takes a
    reply.
    """

    phase: str
    seconds: float
    take: Callable[[Any, PeerReply], None]
