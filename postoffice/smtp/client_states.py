"""The states of an SMTP client's session, by their names."""

from __future__ import annotations

#: What the session waits for: a reply to a command, our own next step, or TLS.
GREETING, EHLO, HELO, STARTTLS, AUTH = "greeting", "EHLO", "HELO", "STARTTLS", "AUTH"
MAIL, RCPT, DATA = "MAIL", "RCPT", "DATA"
END, LONE_DOT, RSET, QUIT = "end", "lone dot", "RSET", "QUIT"
HANDSHAKE, READY, TEXT, CLOSED = "handshake", "ready", "text", "closed"
