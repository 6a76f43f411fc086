"""The states of a POP3 client's session, by their names."""

from __future__ import annotations

#: What the session waits for: a reply to a command, our own next step, or TLS.
GREETING, CAPA, STLS, USER, PASS, AUTH = "greeting", "CAPA", "STLS", "USER", "PASS", "AUTH"
COMMAND, TEXT, QUIT = "command", "text", "QUIT"
HANDSHAKE, READY, CLOSED = "handshake", "ready", "closed"
