"""The post office under ``twistd``: its service there, and its error messages."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger, globalLogPublisher
from twisted.python import usage
from twisted.python.failure import Failure

from postoffice.config import loader
from postoffice.daemon import pidfile, privileges
from postoffice.daemon.build import build, find_maker, try_endpoint
from postoffice.daemon.first_run import FirstRun, Terminal
from postoffice.daemon.lifecycle import PostOffice
from postoffice.daemon.signals import act_on_signals
from postoffice.model.errors import StartupError
from postoffice.util.process_tuning import poll_without_context, steady, tune
from postoffice.util.reactor import IReactor


def build_office(given: str | None, reactor: IReactor) -> PostOffice:
    """
    Build what this configuration file says, or the post office for trials if there is none.

    ``given`` is the option ``--config``.  Raises StartupError.
    """
    path = loader.find(given)
    if path is not None:
        return build(loader.load(path, find_maker, try_endpoint(reactor)), reactor)
    settings = loader.first_run(find_maker)
    office = build(settings, reactor)
    office.welcome = FirstRun(settings.postmaster, settings.state, Terminal(), settings.web)
    return office


def words(error: StartupError) -> str:
    """Say why the post office cannot open."""
    return f"The post office cannot open:\n{error}"


class TwistdService(Service):
    """
    The post office under twistd.

    If the post office cannot open, this writes the reason to the standard error of
    twistd's start, which a daemon no longer has.  The parent process that started the
    daemon waits until the post office is open.  ``twistd`` is twistd's options.
    """

    log = Logger()

    def __init__(self, office: PostOffice, twistd: usage.Options, reactor: IReactor) -> None:
        self._office = office
        self._twistd = twistd
        self._reactor = reactor
        self._pipe: int | None = None  # the pipe to the parent process that waits for the status
        self._stderr = _standard_error()
        self._remover: object = None

    def setServiceParent(self, parent: object) -> None:
        self._office.log_output.begin(parent, self._twistd)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        tune()
        steady(self._reactor)
        poll_without_context(self._reactor)
        act_on_signals(self._reactor, globalLogPublisher, self._reload)
        self._office.log_output.take_over(globalLogPublisher)
        self._arrange_pidfile_removal()
        self._or_exit(self._office.privilegedStartService)

    def _arrange_pidfile_removal(self) -> None:
        """Let a helper process remove the PID file, if root changes to another user."""
        settings = self._office.settings
        path = self._twistd.get("pidfile")
        if path and privileges.will_become(settings.user, settings.state):
            self._remover = pidfile.remove_at_the_end(path)
            self._twistd["pidfile"] = ""

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._or_exit(self._office.startService)
        opening = self._office.whenOpen()
        if not opening.called:  # a plugin waits for something that needs a running reactor
            self._pipe = self._twistd.pop("statusPipe", None)
        opening.addCallbacks(self._opened, self._failed)

    def _reload(self) -> None:
        """Reload the configuration; the log tells how it went."""
        self._office.reload().addErrback(lambda _: None)

    def _opened(self, _: None) -> None:
        self._tell_parent(b"0")
        if self._stderr >= 0:
            os.close(self._stderr)

    def _failed(self, failure: Failure) -> None:
        """The post office could not open: stop the running reactor, and exit with status 1."""
        if failure.check(CancelledError):  # type: ignore[no-untyped-call]
            return
        self._say(f"The post office cannot open:\n{failure.getErrorMessage()}")
        self._tell_parent(b"1 as said above")
        atexit.register(os._exit, 1)
        self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return self._office.stopService()

    def _or_exit(self, step: Callable[[], None]) -> None:
        """Take a step of the start; exit with its reason if it fails."""
        try:
            step()
        except StartupError as error:
            self._leave(words(error))

    def _leave(self, why: str) -> None:
        """Exit with status 1, and tell the waiting parent."""
        if self._twistd.get("logfile") or not self._twistd.get("nodaemon"):
            self.log.critical("{why}", why=why)
        self._say(why)
        self._pipe = self._twistd.pop("statusPipe", None)
        self._tell_parent(b"1 as said above")
        if self._twistd.get("pidfile"):
            with suppress(OSError):
                os.unlink(self._twistd["pidfile"])
        raise SystemExit(1)

    def _say(self, why: str) -> None:
        if self._stderr >= 0:
            os.write(self._stderr, f"{why}\n".encode())

    def _tell_parent(self, how: bytes) -> None:
        if self._pipe is not None:
            os.write(self._pipe, how)
            os.close(self._pipe)


def _standard_error() -> int:
    """Duplicate the current standard error, before it is redirected; -1 if there is none."""
    try:
        return os.dup(2)
    except OSError:
        return -1
