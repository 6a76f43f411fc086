"""Formats log events as JSON: one object a line, in ASCII, with the fields of the text."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from functools import lru_cache

from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure

from postoffice.daemon.log_format import is_noise, program
from postoffice.model.log_events import EVENTS

#: Characters of a traceback and of a sentence at most; of a longer one its end or its start stays.
TRACEBACK, SENTENCE = 32_000, 8_000
#: What each line may have before the fields of its event, in this order.
KEYS = ("time", "program", "level", "event", "message", "traceback")

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=str).encode


def json_of(event: LogEvent) -> str | None:
    """
    Format one event; None if it is one of Twisted's messages about a port.

    An event of ``model/log_events.py`` has its fields; any other has its sentence as
    ``message``.  A failure has its ``traceback``.  This never raises.
    """
    if is_noise(event):
        return None
    line: dict[str, object] = {"time": _time(event.get("log_time"))}
    namespace = event.get("log_namespace")
    line["program"] = program(namespace) if isinstance(namespace, str) else "-"
    line["level"] = getattr(event.get("log_level"), "name", "info")
    name = event.get("event")
    known = EVENTS.get(name) if isinstance(name, str) else None
    if known is not None:
        line["event"] = known.name
    else:
        sentence = formatEvent(event)
        if not sentence and "log_failure" not in event:
            return None
        line["message"] = sentence[:SENTENCE]
    if "log_failure" in event:
        line["traceback"] = _traceback(event["log_failure"])
    if known is not None:
        with suppress(Exception):  # a value that has no text: the rest is told
            line.update(known.values(event))
    try:
        return _encode(line) + "\n"
    except (ValueError, TypeError):  # NaN, which JSON does not have
        return _encode({key: str(value) for key, value in line.items()}) + "\n"


def _time(when: object) -> str | None:
    """The time in RFC 3339's form, with milliseconds and the zone of this machine."""
    if not isinstance(when, float | int):
        return None
    try:
        second = int(when)
        date, zone = _second(second)
    except (ValueError, OverflowError, OSError):
        return None
    return f"{date}.{int((when - second) * 1000):03d}{zone}"


@lru_cache(maxsize=2)
def _second(second: int) -> tuple[str, str]:
    text = datetime.fromtimestamp(second).astimezone().isoformat()
    return text[:19], text[19:]


def _traceback(failure: object) -> str:
    try:
        text = failure.getTraceback() if isinstance(failure, Failure) else str(failure)
    except Exception as error:
        return f"no traceback can be had: {error!r}"
    return text if len(text) <= TRACEBACK else "..." + text[-TRACEBACK:]
