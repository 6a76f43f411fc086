"""SIGHUP reopens the log file and reloads the configuration; SIGUSR1 reopens the log file."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from twisted.logger import FileLogObserver, Logger, LogPublisher
from twisted.python.logfile import BaseLogFile

from postoffice.util.reactor import IReactor

log = Logger()

#: Neither ends the process.
SIGNALS = (signal.SIGHUP, signal.SIGUSR1)


def act_on_signals(
    reactor: IReactor, publisher: LogPublisher, reload: Callable[[], object]
) -> None:
    """Handle these signals from now on.  Call it in the main thread."""

    def heard(number: int, _: object) -> None:
        reactor.callFromThread(act, signal.Signals(number))

    def act(received: signal.Signals) -> None:
        reopen(publisher)
        log.info("{name}: the log file is opened again", name=received.name)
        if received == signal.SIGHUP:
            reload()

    for number in SIGNALS:
        signal.signal(number, heard)


def reopen(publisher: LogPublisher) -> None:
    """Reopen the log files by their names, after somebody has renamed them (log rotation)."""
    # unpromised: if a later Twisted changes this, its log file is not reopened
    for observer in getattr(publisher, "_observers", ()):
        file = getattr(observer, "_outFile", None)
        if isinstance(observer, FileLogObserver) and isinstance(file, BaseLogFile):
            _reopen(file)


def _reopen(file: BaseLogFile) -> None:
    try:  # first: if the old file were closed and the new one failed to open, logging would end
        os.close(os.open(file.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))
    except OSError as error:
        log.error(
            "reopening the log file {path} failed: {why}; logging continues to the old file",
            path=file.path,
            why=error.strerror,
        )
    else:
        file.reopen()  # type: ignore[no-untyped-call]
