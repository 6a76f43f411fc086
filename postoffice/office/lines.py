"""
Log lines as Twisted writes them, in a third of the time.

A line is written for each session and each message.  Twisted's own way from an
event to a line of text asks for the time zone, and takes the format apart, each
time anew: a tenth of all that a message costs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from twisted.logger import FileLogObserver, LogEvent, LogPublisher, formatTime, textFileLogObserver

_FormatEvent = Callable[[LogEvent], str | None]
#: What Twisted's text observers format with, by name: it is made anew for each of them.
_TWISTEDS = textFileLogObserver.__qualname__ + ".<locals>.formatEvent"
#: What makes an event one that Twisted shall see to.
_UNUSUAL = frozenset(("log_failure", "log_flattened", "log_system"))


def quicken(publisher: LogPublisher) -> None:
    """Let those who write text to files for it be quicker about it; what they write is the same."""
    # unpromised: where Twisted has it otherwise one day, all stays as Twisted has it
    for observer in getattr(publisher, "_observers", ()):
        if isinstance(observer, FileLogObserver):
            theirs = observer.formatEvent
            if getattr(theirs, "__qualname__", "") == _TWISTEDS:
                observer.formatEvent = line_of(theirs)


def line_of(theirs: _FormatEvent) -> _FormatEvent:
    """The same as ``theirs``, which is asked where an event is not as most are."""
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
                    source = f"{event['log_namespace']}#{event['log_level'].name}"
                    return f"{said} [{source}] {text}\n"
        return theirs(event)

    return line_of
