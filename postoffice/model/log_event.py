"""An event of the log: its level and fields, and its formatting as one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Octets of a line at most, without the time and the level before it (about 50 octets).
LINE = 960
#: Octets of one value at most; and of each value if the line would otherwise be too long.
VALUE, SHORT = 300, 44
#: Octets of addresses or UIDLs in one line; the others follow in further lines.
LIST = 640

#: Every field and its meaning.  Fields have this order in every line.
FIELDS = {
    "id": "the session, or the message: the session's id, a dot, and a number",
    "service": "the service, as in the configuration: smtp, submission, lmtp, pop3, …",
    "client": "the client's IP address, or local for a UNIX socket",
    "tls": "version and cipher; left out on a connection without TLS",
    "account": "the account whose password was right, or whose mail it is",
    "device": "the device of that account whose password it was",
    "maildrop": "the maildrop, by its name",
    "mechanism": "how the client logged in: a SASL mechanism, USER or APOP",
    "by": "the account of the person who did it on the web page",
    "what": "what was done",
    "user": "the name that a client tried to log in with; it is not verified",
    "policy": "the policy, as the configuration names it",
    "domain": "a domain of ours",
    "sender": "the reverse-path (MAIL FROM), in angle brackets",
    "author": "an address in the From field",
    "outcome": "taken (accepted) or refused; of a letter, what it says: failed, delayed or relayed",
    "recipient": "the address in RCPT TO",
    "recipients": "how many recipients the message has",
    "queued": "how many of them, the last ones, are in other domains: they wait in the queue",
    "to": "their addresses in angle brackets, with commas; those that do not fit follow in further "
    "lines",
    "message_id": "the Message-ID in the message's header",
    "size": "octets of the message as the client sent it",
    "uidl": "the UIDL of the message in the maildrop of every recipient",
    "messages": "how many messages",
    "octets": "how many octets",
    "percent": "the usage that was reached, in per cent of the quota",
    "uidls": "UIDLs, separated by commas; those that do not fit follow in further lines",
    "helo": "the name that the client gave (HELO, EHLO, LHLO)",
    "command": "the command; never a password, never what follows AUTH, PASS or APOP",
    "via": "the server of another domain, by its name and address",
    "reply": "the reply that the client got, or that another server gave",
    "phase": "where an attempt ended: connect, tls, greeting, hello, auth, mail, rcpt, data, end",
    "times": "seconds, with slashes",
    "age": "seconds since it came",
    "taken": "messages that were accepted",
    "retrieved": "messages that were sent completely (RETR)",
    "deleted": "messages that were deleted",
    "refused": "commands that were refused",
    "file": "a file in the maildrop",
    "opened": "listeners that were opened, with commas: service and address",
    "closed": "listeners that were closed, with commas; their sessions go on",
    "why": "the reason",
}


@dataclass(frozen=True)
class Event:
    """
    One kind of event; ``meaning`` is printed in the manual.

    ``level`` is the name of one of Twisted's levels.  A field without a value is omitted.
    """

    name: str
    level: str
    fields: tuple[str, ...]
    meaning: str

    def line(self, values: Mapping[str, object]) -> str:
        """The event as one line."""
        parts = [self.name]
        for field in self.fields:
            value = values.get(field)
            if value is not None and value != "":
                parts.append(f"{field}={value if type(value) is str else _text(value)}")
        line = " ".join(parts)
        if (  # the usual case: one check for all values
            len(line) <= LINE
            and line.count(" ") == len(parts) - 1
            and line.isascii()
            and line.isprintable()
            and '"' not in line
            and "\\" not in line
        ):
            return line
        line = self._line(values, VALUE)
        if len(line) > LINE // 4 and len(line.encode()) > LINE:
            line = self._line(values, SHORT)
        return line

    def values(self, values: Mapping[str, object]) -> dict[str, str | int | float]:
        """
        The fields that have a value, in their order, for a program (JSON).

        Numbers stay numbers; anything else is text, which is cut where ``line`` cuts it.
        """
        found: dict[str, str | int | float] = {}
        for field in self.fields:
            value = values.get(field)
            if value is not None and value != "":
                if type(value) in (int, float):
                    found[field] = value  # type: ignore[assignment]
                else:
                    text = value if isinstance(value, str) else _text(value)
                    found[field] = _cut(text, LIST if field in _LISTS else VALUE)
        return found

    def _line(self, values: Mapping[str, object], most: int) -> str:
        parts = [self.name]
        for field in self.fields:
            value = values.get(field)
            if value is not None and value != "":
                parts.append(f"{field}={shown(value, LIST if field in _LISTS else most)}")
        return " ".join(parts)


#: Fields that ``portions`` has cut already: they may be as long as LIST.
_LISTS = frozenset(("to", "uidls"))
#: All events by name, in the order of the manual.
EVENTS: dict[str, Event] = {}


def define(name: str, level: str, fields: str, meaning: str) -> Event:
    """Define an event; ``fields`` are the names of its fields, in the order of FIELDS."""
    assert name not in EVENTS, f"two events are called {name}"
    event = EVENTS[name] = Event(name, level, tuple(fields.split()), meaning)
    return event


def tell(log: object, event: Event, /, **fields: object) -> None:
    """Log an event with ``log``, a ``twisted.logger.Logger``; observers also get the fields."""
    line = event.line(fields)
    fields["line"], fields["event"] = line, event.name
    getattr(log, event.level)("{line}", **fields)


def tell_failure(log: Any, event: Event, failure: Any = None, /, **fields: object) -> None:
    """Log an event for a fault of ours, with its traceback."""
    log.failure("{line}", failure, line=event.line(fields), event=event.name, **fields)


# -- values ------------------------------------------------------------------

#: Text that needs no quotes: visible ASCII without quotes and backslashes.
_PLAIN = re.compile(r"[!#-\[\]-~]+\Z")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def shown(value: object, most: int = VALUE) -> str:
    """Format a value for a log line: one word, or quoted, and at most ``most`` octets."""
    text = value if isinstance(value, str) else _text(value)
    if len(text) <= most and _PLAIN.match(text):
        return text
    whole, escaped = _escaped(text, most)
    plain = escaped == text and " " not in text and text != ""
    return escaped if plain and whole else f'"{escaped}"'


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _escaped(text: str, most: int) -> tuple[bool, str]:
    """Escape a text; return also whether all of it fits into ``most`` octets."""
    out: list[str] = []
    for char in text[: most + 1]:
        said = _ESCAPES.get(char) or (char if char.isprintable() else _numbered(char))
        most -= 1 if char < "\x80" and len(said) == 1 else len(said.encode())
        if most < 0:
            return False, "".join([*out, "..."])
        out.append(said)
    return True, "".join(out)


def _cut(text: str, most: int) -> str:
    """Cut a text where ``_escaped`` cuts it; the characters themselves stay as they are."""
    if len(text) * 8 <= most or (len(text) <= most and _PLAIN.match(text)):
        return text
    for at, char in enumerate(text[: most + 1]):
        said = _ESCAPES.get(char) or (char if char.isprintable() else _numbered(char))
        most -= len(said.encode())
        if most < 0:
            return text[:at] + "..."
    return text


def _numbered(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def paths(addresses: Iterable[str], first: int = LIST) -> Iterator[str]:
    """Put addresses in angle brackets; join them as ``portions`` does."""
    return portions((f"<{one}>" for one in addresses), first)


def portions(words: Iterable[str], first: int = LIST) -> Iterator[str]:
    """
    Join words with commas, in portions that fit into a line.

    So many octets fit into the ``first`` line; its portion may be empty.
    """
    held: list[str] = []
    room, size = first, 0
    for word in words:
        plain = len(word) <= VALUE and _PLAIN.match(word)  # as most: ASCII without quotes
        octets = len(word) if plain else len(shown(word, VALUE).encode())
        if size + octets + 3 > room:
            yield ",".join(held)
            room, held, size = LIST, [], 0
        held.append(word)
        size += octets + 1
    yield ",".join(held)
