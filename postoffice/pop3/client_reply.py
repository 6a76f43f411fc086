"""The replies of a POP3 server: +OK or -ERR, a response code, a text."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from postoffice.protocol.peer_text import printable

#: Phases: when a server said it, or when a connection failed.
CONNECT, GREETING, TLS, LOGIN, COMMAND, END = (
    "connect",
    "greeting",
    "tls",
    "login",
    "command",
    "end",
)
#: Response codes (RFC 2449 §8, RFC 3206).
AUTH, IN_USE, LOGIN_DELAY = "AUTH", "IN-USE", "LOGIN-DELAY"
TEMPORARY, PERMANENT = "SYS/TEMP", "SYS/PERM"
_NO_REPLY = "The server sent {!r}, which is no reply"
_LINE = re.compile(rb"(\+OK|-ERR)(?:[ \t]+(.*))?\Z", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(rb"\[([A-Z0-9/-]{1,40})\][ \t]*", re.IGNORECASE)


class NotAReply(ValueError):
    """The server sent something that is no reply; the message says what."""


@dataclass(frozen=True, slots=True)
class ClientReply:
    """
    A reply, or why there is none.

    ``ok`` is +OK.  ``code`` is the response code without its brackets, in capitals, or "".
    ``text`` is one printable line.  ``phase`` is one of CONNECT to END.  ``said`` is whether the
    server said it; if not, the text is ours.
    """

    ok: bool
    code: str
    text: str
    phase: str = COMMAND
    said: bool = True

    @property
    def wrong_password(self) -> bool:
        """Whether the server refuses this login and password (also: -ERR without a code)."""
        return self.said and self.phase == LOGIN and not self.ok and self.code in (AUTH, "")

    @property
    def temporary(self) -> bool:
        """Whether it makes sense to try again after some time, and nothing need be mended."""
        if self.ok or self.wrong_password or self.phase == TLS:
            return False
        return self.code in (IN_USE, LOGIN_DELAY, TEMPORARY, "")

    def __str__(self) -> str:
        return f"[{self.code}] {self.text}" if self.code and self.said else self.text


def failure(phase: str, text: str, code: str = "") -> ClientReply:
    """Return the reply that stands for a failed connection; PERMANENT if it would fail again."""
    return ClientReply(ok=False, code=code, text=text, phase=phase, said=False)


def read_reply(line: bytes, phase: str) -> ClientReply:
    """Read a line without its CRLF.  Raises NotAReply."""
    found = _LINE.match(line)
    if found is None:
        raise NotAReply(_NO_REPLY.format(printable(line[:80])))
    text = found[2] or b""
    code = _CODE.match(text)
    if code is not None:
        text = text[code.end() :]
    name = code[1].decode().upper() if code is not None else ""
    return ClientReply(found[1].upper() == b"+OK", name, printable(text), phase)


class Secrets:
    """Secrets that were sent to log in; they are hidden in texts of the server."""

    def __init__(self, password: str) -> None:
        self._sent = [password.encode("utf-8", "surrogateescape")]

    def add(self, response: bytes) -> bytes:
        """Also hide this response, which is returned."""
        self._sent.append(response)
        return response

    def read(self, line: bytes, phase: str) -> ClientReply:
        """Read a line as ``read_reply`` does.  Raises NotAReply."""
        try:
            answer = read_reply(line, phase)
        except NotAReply:
            for sent in filter(None, self._sent):
                line = line.replace(sent, b"***")
            raise NotAReply(_NO_REPLY.format(printable(line[:80]))) from None
        if answer.ok:
            return answer
        text = answer.text
        for shown in filter(None, map(printable, self._sent)):
            text = text.replace(shown, "***")
        return replace(answer, text=text)
