"""
Formats log lines almost as Twisted does, in a third of the time.

A line names the program (postoffice or twisted), not the module.  Twisted's messages
about each port that opens and closes are left out.

The daemon writes a line for each session and each message.  For each event, Twisted asks
for the time zone and parses the format again, which is a tenth of the cost of a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

from twisted.logger import FileLogObserver, LogEvent, formatTime, textFileLogObserver

_FormatEvent = Callable[[LogEvent], str | None]
#: The name of the function with which Twisted's text observers format; each has its own copy.
_TWISTEDS = textFileLogObserver.__qualname__ + ".<locals>.formatEvent"
#: Twisted's messages about ports; the post office logs its addresses when it is open.
_NOISE = re.compile(r"\S.* starting on \S|\(.*Port .*Closed\)\Z")
#: Fields of an event that Twisted's own function must format.
_UNUSUAL = frozenset(("log_failure", "log_flattened", "log_system"))


def text_of(observer: FileLogObserver) -> _FormatEvent | None:
    """Return what formats text for an observer that Twisted made; None for any other observer."""
    # unpromised: if a later Twisted changes this, its own formatting stays in use
    theirs = observer.formatEvent
    return line_of(theirs) if getattr(theirs, "__qualname__", "") == _TWISTEDS else None


def line_of(theirs: _FormatEvent) -> _FormatEvent:
    """Return a fast formatting function; it calls ``theirs`` for unusual events."""
    second, said = -1, ""

    def line_of(event: LogEvent) -> str | None:
        nonlocal second, said
        with suppress(Exception):  # whatever fails here, ``theirs`` formats the event
            form, when = event["log_format"], event["log_time"]
            if type(form) is str and "()" not in form and _UNUSUAL.isdisjoint(event):
                if int(when) != second:
                    second, said = int(when), formatTime(when)
                text = event["line"] if form == "{line}" else form.format_map(event)
                text = text.replace("\n", "\n\t")
                if text:
                    source = f"{program(event['log_namespace'])}#{event['log_level'].name}"
                    return f"{said} [{source}] {text}\n"
        return None if is_noise(event) else theirs(_of_program(event))

    return line_of


@lru_cache(maxsize=256)
def program(namespace: str) -> str:
    """Return the first part of a namespace, if it is ours or Twisted's."""
    first = namespace.partition(".")[0]
    return first if first in ("postoffice", "twisted") else namespace


def _of_program(event: LogEvent) -> LogEvent:
    namespace = event.get("log_namespace")
    if not isinstance(namespace, str) or program(namespace) == namespace:
        return event
    return {**event, "log_namespace": program(namespace)}


def is_noise(event: LogEvent) -> bool:
    """Whether this is an old-style event of Twisted (``log.msg``) about a port."""
    message = event.get("message")
    if not isinstance(message, tuple) or len(message) != 1 or event.get("log_system") != "-":
        return False
    return isinstance(message[0], str) and _NOISE.match(message[0]) is not None
