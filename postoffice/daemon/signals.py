"""Signals that others send a daemon by habit: SIGHUP and SIGUSR1 open the log file again."""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.logger import FileLogObserver, Logger, LogPublisher
from twisted.python.logfile import BaseLogFile

log = Logger()

#: Neither ends the process; both mean the same until a configuration can be read anew.
SIGNALS = (signal.SIGHUP, signal.SIGUSR1)


def hear(reactor: Any, publisher: LogPublisher) -> None:
    """From now on these signals are heard, and end nothing.  In the main thread."""

    def heard(number: int, _: object) -> None:
        reactor.callFromThread(_heard, signal.Signals(number).name, publisher)

    for number in SIGNALS:
        signal.signal(number, heard)


def _heard(name: str, publisher: LogPublisher) -> None:
    reopen(publisher)
    log.info(
        "{name}: the log file is opened again; the configuration is read by a restart only",
        name=name,
    )


def reopen(publisher: LogPublisher) -> None:
    """Open the log files again by their names, for whoever has moved them away."""
    # unpromised: where Twisted has it otherwise one day, its log file stays as it is
    for observer in getattr(publisher, "_observers", ()):
        file = getattr(observer, "_outFile", None)
        if isinstance(observer, FileLogObserver) and isinstance(file, BaseLogFile):
            _reopen(file)


def _reopen(file: Any) -> None:
    try:  # first: one that is closed and cannot be opened again would be the end of the log
        os.close(os.open(file.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))
    except OSError as error:
        log.error(
            "opening the log file {path} again failed: {why}; the old one is written on",
            path=file.path,
            why=error.strerror,
        )
    else:
        file.reopen()
