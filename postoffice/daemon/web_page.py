"""The web page of the daemon: made only where the configuration has it, as it needs an extra."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.logger import globalLogPublisher

from postoffice.accounts.directories import Directories
from postoffice.config.endpoints import port_of
from postoffice.interfaces import Executor
from postoffice.util.reactor import IReactor

if TYPE_CHECKING:
    from postoffice.accounts.checker import Checker
    from postoffice.accounts.login_db import LoginRecords
    from postoffice.config.settings import Settings
    from postoffice.daemon.plugins import Plugins
    from postoffice.logs.files import LogSource
    from postoffice.queue.manager import QueueManager
    from postoffice.server.certificates import Certificates
    from postoffice.server.submission import Receptions
    from postoffice.web.activity import Activity
    from postoffice.web.administration import Administration
    from postoffice.web.context import WebState
    from postoffice.web.http_server import WebServer
    from postoffice.web.mail_programs import Access


class WebPage:
    """Makes the server of the page for each generation; sessions go on over reloads."""

    def __init__(
        self,
        state: str,
        executor: Executor,
        reactor: IReactor,
        plugins: Plugins,
        logins: LoginRecords,
    ) -> None:
        self._folder = state
        self._executor = executor
        self._reactor = reactor
        self._plugins = plugins
        self._logins = logins
        self._state: WebState | None = None
        self._activity: Activity | None = None
        self._sessions: Callable[[], Sequence[Mapping[str, Any]]] = list
        self._end_sessions: Callable[[str], int] = _none
        self._manager: Callable[[], QueueManager | None] = _nobody

    def make_server(
        self,
        settings: Settings,
        checker: Checker,
        certificates: Certificates | None,
        reception: Receptions,
    ) -> WebServer:
        """Make the server of a generation whose settings have ``web``."""
        from postoffice.server.letters import OutboundLetters
        from postoffice.web.context import WebContext, WebState
        from postoffice.web.http_server import WebServer
        from postoffice.web.site import make_application

        web = settings.web
        assert web is not None
        if self._state is None:
            self._state = WebState(self._folder, self._executor, self._reactor, time.time)
        context = WebContext(
            self._state,
            Directories(self._plugins.directories),
            checker.requestAvatarId,  # type: ignore[arg-type]  # a password's avatar is an Account
            self._logins.recording.note,
            self._logins.login_history,
            settings.hostname,
            web.hosts,
            self._plugins.store,
            _accesses(settings),
            float(settings.store.options.get("undelete") or 0),
            settings.default_quota,
            settings.postmaster_quota,
            settings.postmaster.normal,
            settings.mail_policy,
            self._administration(settings),
            web.address(),
            OutboundLetters(reception).send,
            settings.way_out,
            reception.limits,
            lambda: self._manager(),
            self._logins.recording.unwritten,
        )
        return WebServer(
            make_application(context),
            self._reactor,
            certificates=certificates if web.tls else None,
            proxies=web.proxies,
        )

    def _administration(self, settings: Settings) -> Administration:
        """Make what administrators work with."""
        from postoffice.doctor.dns_findings import check_dns, site_here
        from postoffice.doctor.quick_checks import quick_findings
        from postoffice.web.activity import Activity
        from postoffice.web.administration import Administration

        if self._activity is None:
            self._activity = Activity(time.time)
            globalLogPublisher.addObserver(self._activity)
        store = self._plugins.store
        return Administration(
            settings=settings,
            directories=self._plugins.directories,
            store=store,
            executor=self._executor,
            now=time.time,
            clock=self._reactor,
            site=site_here(settings),
            sessions=lambda: self._sessions(),
            end_sessions=lambda account: self._end_sessions(account),
            manager=lambda: self._manager(),
            check_domain=lambda domain: check_dns(self._reactor, settings, [domain]),
            quick_findings=lambda: quick_findings(settings, getattr(store, "path", "")),
            activity=self._activity,
            log=_log,
        )

    def attach(
        self,
        sessions: Callable[[], Sequence[Mapping[str, Any]]],
        end_sessions: Callable[[str], int],
        manager: Callable[[], QueueManager | None],
    ) -> None:
        """Tell where administrators find the open sessions, and the queue: they come later."""
        self._sessions, self._end_sessions, self._manager = sessions, end_sessions, manager

    async def start(self) -> None:
        """Open the database of the page, if there is a page.  Raises StartupError."""
        if self._state is not None:
            await self._state.start()

    async def stop(self) -> None:
        """Close the database."""
        if self._activity is not None:
            globalLogPublisher.removeObserver(self._activity)
            self._activity = None
        if self._state is not None:
            await self._state.stop()


def _accesses(settings: Settings) -> list[Access]:
    """Return where mail programs connect, by the configuration."""
    from postoffice.web.mail_programs import accesses

    ports = [
        (service, port)
        for service, ones in settings.listeners.items()
        for one in ones
        if (port := port_of(one.endpoint))
    ]
    return accesses(settings.hostname, ports, tls=bool(settings.tls.certificates))


def _none(_: str) -> int:
    return 0


def _nobody() -> None:
    return None


def _log() -> LogSource | None:
    """The log that this daemon writes, as far as it can be found; else the journal."""
    from postoffice.logs.files import PLACES, LogFiles, SystemdJournal

    for path in PLACES:
        if os.access(path, os.R_OK):
            return LogFiles([path])
    return (
        SystemdJournal() if "JOURNAL_STREAM" in os.environ and shutil.which("journalctl") else None
    )
