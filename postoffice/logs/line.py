"""Reads one line of the log: text, JSON, or a record of systemd's journal (``-o json``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from postoffice.model.log_events import EVENTS

#: Octets of a line at most; of a longer one the rest is not read.
LONGEST = 1 << 16
_TEXT = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)([+-]\d\d)(\d\d) \[([^\]#]*)#(\w+)\] ([a-z-]+)(?: |\Z)"
)
_FIELD = re.compile(r'([a-z_]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))(?: |\Z)')
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|(.))")
_ADDRESS = re.compile(r'<((?:"(?:[^"\\]|\\.)*"|[^<>"])*)>|([^,\s<>]+)')
_PLAIN = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True)
class Line:
    """
    One event of the log.

    ``time`` is Unix time.  ``fields`` have the values as they were before they were written, so
    they are hostile text: numbers are text, too.
    """

    time: float
    level: str
    event: str
    fields: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")

    @property
    def session(self) -> str:
        """The id of the session that the event belongs to."""
        return self["id"].partition(".")[0]


def parse(octets: bytes) -> Line | None:
    """Read a line; None if it is not one of the events, but a sentence or nothing of ours."""
    text = octets[:LONGEST].decode("utf-8", "backslashreplace").rstrip("\r\n")
    return _of_json(text) if text.startswith("{") else _of_text(text)


def _of_text(text: str) -> Line | None:
    head = _TEXT.match(text)
    if head is None:
        return None
    date, time, hours, minutes, _, level, event = head.groups()
    if event not in EVENTS:
        return None
    try:
        when = datetime.fromisoformat(f"{date}T{time}{hours}:{minutes}").timestamp()
    except (ValueError, OverflowError):
        return None
    known = EVENTS[event].fields
    fields: dict[str, str] = {}
    at = head.end()
    while (found := _FIELD.match(text, at)) is not None:
        name, quoted, plain = found.groups()
        if name in known:
            fields.setdefault(name, plain if quoted is None else _ESCAPE.sub(_unescaped, quoted))
        at = found.end()
    return Line(when, level, event, fields)


def _unescaped(found: re.Match[str]) -> str:
    octet, letter, char = found.groups()
    return _PLAIN.get(char, char) if char else chr(int(octet or letter, 16))


def _of_json(text: str) -> Line | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    if "MESSAGE" in said:
        return _of_journal(said["MESSAGE"])
    event, level, time = said.get("event"), said.get("level"), said.get("time")
    if not isinstance(event, str) or event not in EVENTS or not isinstance(time, str):
        return None
    try:
        when = datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError):
        return None
    known = EVENTS[event].fields
    fields = {name: str(said[name]) for name in known if isinstance(said.get(name), str | int)}
    return Line(when, str(level), event, fields)


def _of_journal(message: object) -> Line | None:
    """Return the line of a service; the journal has a list of octets if some are not text."""
    if isinstance(message, list):
        try:
            return parse(bytes(message))
        except (ValueError, TypeError):
            return None
    if not isinstance(message, str):
        return None
    return parse(message.encode("utf-8", "backslashreplace"))


def addresses(value: str) -> list[str]:
    """The addresses of a field, without their brackets; commas or spaces are between them."""
    return [inside or bare for inside, bare in _ADDRESS.findall(value) if inside or bare]
