"""What is written to the log, and how: the format and the level of the configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogPublisher,
    textFileLogObserver,
)
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

from postoffice.daemon.log_format import text_of
from postoffice.daemon.log_json import json_of

_Format = Callable[[LogEvent], str | None]


class LogOutput:
    """
    Formats what twistd's own observers write to files and to the standard output.

    Observers of others (``twistd --logger``, syslog) get every event, and format it themselves.
    """

    def __init__(self, form: str = "text", level: str = "info") -> None:
        self._observers: list[tuple[FileLogObserver, _Format]] = []
        self._form, self._level = form, level

    def take_over(self, publisher: LogPublisher) -> None:
        """Format for the observers that a publisher has by now."""
        for observer in getattr(publisher, "_observers", ()):
            self.add(observer)

    def add(self, observer: object) -> None:
        """Format for one observer, if it is one of Twisted's that writes text to a file."""
        if isinstance(observer, FileLogObserver) and (text := text_of(observer)) is not None:
            self._observers.append((observer, text))
            self._set(observer, text)

    def use(self, form: str, level: str) -> None:
        """Write in this format (text or json), and from this level, from now on."""
        self._form, self._level = form, level
        for observer, text in self._observers:
            self._set(observer, text)

    def begin(self, application: object, twistd: Mapping[str, object]) -> None:
        """
        Let even the first lines, which twistd itself writes, be JSON if the configuration says so.

        ``application`` is what twistd is about to run; ``twistd`` are its options.
        """
        if self._form != "json" or not isinstance(application, Componentized):
            return
        name, foreground = twistd.get("logfile"), twistd.get("nodaemon")
        if twistd.get("syslog") or twistd.get("logger") or (name == "-" and not foreground):
            return
        to_stdout = name == "-" or (foreground and not name)
        file = sys.stdout if to_stdout else LogFile.fromFullPath(name or "twistd.log")  # type: ignore[no-untyped-call]
        observer = textFileLogObserver(file)
        self.add(observer)
        application.setComponent(ILogObserver, observer)  # type: ignore[no-untyped-call]

    def _set(self, observer: FileLogObserver, text: _Format) -> None:
        chosen = json_of if self._form == "json" else text
        observer.formatEvent = _from_level(self._level, chosen)


def _from_level(name: str, form: _Format) -> _Format:
    """Leave out events below a level; an event without one is kept."""
    least = LogLevel.levelWithName(name)
    below = frozenset(level for level in LogLevel.iterconstants() if level < least)

    def formatted(event: LogEvent) -> str | None:
        return None if event.get("log_level") in below else form(event)

    return formatted
