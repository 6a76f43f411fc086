"""
Log lines nearly as Twisted writes them, in a third of the time.

A line says which program it is of (postoffice or twisted), not which of its modules;
what Twisted says of each port that opens and closes is left out.

A line is written for each session and each message.  Twisted's own way from an
event to a line of text asks for the time zone, and takes the format apart, each
time anew: a tenth of all that a message costs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from twisted.logger import FileLogObserver, LogEvent, LogPublisher, formatTime, textFileLogObserver

_FormatEvent = Callable[[LogEvent], str | None]
#: What Twisted's text observers format with, by name: it is made anew for each of them.
_TWISTEDS = textFileLogObserver.__qualname__ + ".<locals>.formatEvent"
#: What Twisted says of ports; where they are is told when the post office is open.
_NOISE = re.compile(r"\S.* starting on \S|\(.*Port .*Closed\)\Z")
#: What makes an event one that Twisted shall see to.
_UNUSUAL = frozenset(("log_failure", "log_flattened", "log_system"))


def quicken(publisher: LogPublisher) -> None:
    """Let those who write text to files for it be quicker about it."""
    # unpromised: where Twisted has it otherwise one day, all stays as Twisted has it
    for observer in getattr(publisher, "_observers", ()):
        if isinstance(observer, FileLogObserver):
            theirs = observer.formatEvent
            if getattr(theirs, "__qualname__", "") == _TWISTEDS:
                observer.formatEvent = line_of(theirs)


def line_of(theirs: _FormatEvent) -> _FormatEvent:
    """As ``theirs``, which is asked where an event is not as most are."""
    second, said = -1, ""

    def line_of(event: LogEvent) -> str | None:
        nonlocal second, said
        with suppress(Exception):  # whatever it is, they know how to say it
            form, when = event["log_format"], event["log_time"]
            if type(form) is str and "()" not in form and _UNUSUAL.isdisjoint(event):
                if int(when) != second:
                    second, said = int(when), formatTime(when)
                text = form.format_map(event).replace("\n", "\n\t")
                if text:
                    source = f"{_program(event['log_namespace'])}#{event['log_level'].name}"
                    return f"{said} [{source}] {text}\n"
        return None if _is_noise(event) else theirs(_of_program(event))

    return line_of


def _program(namespace: str) -> str:
    """The first part of a namespace, if it is ours or Twisted's."""
    first = namespace.partition(".")[0]
    return first if first in ("postoffice", "twisted") else namespace


def _of_program(event: LogEvent) -> LogEvent:
    namespace = event.get("log_namespace")
    if not isinstance(namespace, str) or _program(namespace) == namespace:
        return event
    return {**event, "log_namespace": _program(namespace)}


def _is_noise(event: LogEvent) -> bool:
    """Whether it is an event of Twisted's old kind (``log.msg``) that says nothing to anybody."""
    message = event.get("message")
    if not isinstance(message, tuple) or len(message) != 1 or event.get("log_system") != "-":
        return False
    return isinstance(message[0], str) and _NOISE.match(message[0]) is not None
