"""The post office as a service: opens its ports, changes its user, starts, and stops."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.accounts.checker import Checker
from postoffice.accounts.login_db import LoginRecords
from postoffice.accounts.sealed_secrets import key
from postoffice.config.settings import Settings
from postoffice.daemon import preflight, privileges
from postoffice.daemon.control import Control
from postoffice.daemon.executor import ThreadExecutor
from postoffice.daemon.expiry_job import ExpiryJob
from postoffice.daemon.live_sessions import Sessions
from postoffice.daemon.plugins import Plugins
from postoffice.model.errors import PostOfficeError, StartupError
from postoffice.server.certificates import Certificates
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.factory import ServerFactory
from postoffice.server.leases import Leases

#: Seconds that sessions have to end when the post office stops.
PATIENCE = 30.0
#: The file, in the state folder, of the key from which unknown users get fake salts.
SALTS = "salts.key"


@dataclass
class Listener:
    """One endpoint of a service; ``text`` is the endpoint as in the configuration."""

    service: str
    text: str
    endpoint: IStreamServerEndpoint
    factory: ServerFactory
    port: IListeningPort | None = None

    @property
    def address(self) -> str:
        """The address where clients connect: ``127.0.0.1:2525``, ``[::]:25``, a path."""
        host: Any = self.port.getHost() if self.port is not None else None
        if isinstance(host, UNIXAddress):
            return str(host.name, "utf-8", "replace") if host.name else ""
        if not hasattr(host, "port"):
            return self.text
        return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"


class Welcome(Protocol):
    """What to do when there is no configuration yet."""

    async def prepare(self, plugins: Plugins) -> None: ...
    def greet(self, addresses: Mapping[str, Sequence[str]]) -> None: ...


class PostOffice(Service):
    """
    The whole post office.

    ``privilegedStartService`` opens the ports and changes the user; then ``startService``
    starts the accounts and the store.  No client is served before that.  If it cannot
    open, it raises a StartupError: at once if the reactor does not run yet, otherwise
    ``whenOpen()`` fails with it.
    """

    log = Logger()

    def __init__(
        self,
        settings: Settings,
        plugins: Plugins,
        listeners: Sequence[Listener],
        connection_limits: ConnectionLimits,
        threads: Sequence[ThreadExecutor],
        certificates: Certificates | None,
        checker: Checker,
        leases: Leases,
        logins: LoginRecords,
        reactor: Any,
        expiring: ExpiryJob,
    ) -> None:
        self.settings = settings
        self.plugins = plugins
        self.welcome: Welcome | None = None
        self._listeners = listeners
        for listener in listeners:
            listener.factory.starting = True
        self._connection_limits = connection_limits
        self._threads = threads
        self._certificates = certificates
        self._checker = checker
        self._leases = leases
        self._logins = logins
        self._reactor = reactor
        self._expiring = expiring
        sessions = Sessions([listener.factory for listener in listeners], reactor)
        self._control = Control(settings.state, reactor, sessions.commands)
        self._listening: list[Deferred[None]] | None = None
        self._opening: Deferred[None] | None = None
        self._working = False
        self._waiting: list[Deferred[None]] = []
        self._outcome: object = self  # self means: not yet open, and not failed

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Where each service listens."""
        found: dict[str, list[str]] = {}
        for listener in self._listeners:
            found.setdefault(listener.service, []).append(listener.address)
        return found

    def whenOpen(self) -> Deferred[None]:
        """Return a Deferred that fires when clients are served, or fails with the startup error."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        self._tell()
        return waiting

    # -- opening -------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self.log.info("the configuration is {file}", file=self.settings.source.file)
        self._limit()
        if self._certificates is not None:
            self._certificates.load_now()  # usually only root can read the keys
        self._listening = []
        for listener in self._listeners:
            listening = Deferred.fromCoroutine(self._listen(listener))
            self._listening.append(listening)
            self._fail_at_once(listening)
        privileges.become(self.settings.user, self.settings.state)
        privileges.warn(self.settings.user)
        for why in preflight.of_the_keys(self.settings.tls.certificates):
            self.log.warn("{why}", why=why)

    def startService(self) -> None:
        if self._listening is None:
            self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]
        for executor in self._threads:
            executor.start()
        self._working = True
        opening = self._opening = Deferred.fromCoroutine(self._open())
        opening.addBoth(self._opened)
        if not self._reactor.running:
            self._turn_until(opening)
            self._fail_at_once(opening)

    def _limit(self) -> None:
        enough = privileges.raise_open_files()
        if enough < self._connection_limits.total:
            self.log.warn(
                "limits.connections is {asked}, but the system's limit of open files is enough "
                "for {enough} only: raise it (LimitNOFILE=, ulimit -n)",
                asked=self._connection_limits.total,
                enough=enough,
            )
            self._connection_limits.total = enough

    async def _listen(self, listener: Listener) -> None:
        try:
            listener.port = await listener.endpoint.listen(listener.factory)
        except CannotListenError as error:
            why: object = getattr(error.socketError, "strerror", None) or error.socketError
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        else:
            return
        where = self.settings.source.problem(f"listeners.{listener.service}", "")
        place = f" ({where.file}:{where.line})" if where.line else ""
        raise StartupError(f"{listener.service} cannot listen on {listener.text}{place}: {why}")

    async def _open(self) -> None:
        for listening in self._listening or ():
            await listening
        await self.plugins.start(policies=True)
        self._leases.start()
        self._checker.fake_salts = await self._key()
        await self._logins.start()
        if self._certificates is not None:
            await self._certificates.start()
        try:
            if self.welcome is not None:
                await self.welcome.prepare(self.plugins)
            await self._look_for_the_postmaster()
        except PostOfficeError as error:
            raise StartupError(str(error)) from error
        for listener in self._listeners:
            listener.factory.open()
        self._expiring.start()
        self._control.start()
        where = ", ".join(
            f"{service} {' '.join(addresses)}" for service, addresses in self.addresses.items()
        )
        self.log.info("the post office is open: {where}", where=where)
        if self.welcome is not None:
            self.welcome.greet(self.addresses)

    async def _key(self) -> bytes:
        try:
            return await self.plugins.executor.run(key, os.path.join(self.settings.state, SALTS))
        except PostOfficeError as error:
            raise StartupError(str(error)) from error

    async def _look_for_the_postmaster(self) -> None:
        why = await preflight.of_the_postmaster(self.plugins, self.settings.postmaster)
        if why:
            self.log.warn("{why}", why=why)

    def _opened(self, outcome: Any) -> Any:
        self._outcome = outcome
        self._tell()
        if isinstance(outcome, Failure):
            if not self._reactor.running:
                return outcome
            if outcome.check(StartupError):  # type: ignore[no-untyped-call]
                self.log.critical("the post office cannot open: {why}", why=outcome.value)
            elif not outcome.check(CancelledError):  # type: ignore[no-untyped-call]
                self.log.failure("the post office cannot open: this is a bug", outcome)
        return None

    def _tell(self) -> None:
        if self._outcome is not self:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(self._outcome)  # type: ignore[arg-type]

    # -- closing -------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        if self._opening is not None:
            self._opening.cancel()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        """Stop listening, let sessions finish, and stop all parts."""
        for listener in self._listeners:
            await self._stop_listening(listener)
        await self._control.stop()
        self._leases.close()
        factories = {listener.factory for listener in self._listeners}
        closing = [Deferred.fromCoroutine(factory.close(PATIENCE)) for factory in factories]
        for closed in closing:
            await closed
        self._leases.stop()
        if self._certificates is not None:
            await self._certificates.stop()
        await self._checker.stop()
        await self._logins.stop()
        await self._expiring.stop()
        await self.plugins.stop()
        if self._working:
            self._working = False
            for executor in self._threads:
                await executor.stop()
            self.log.info("the post office is closed")

    async def _stop_listening(self, listener: Listener) -> None:
        where, port, listener.port = listener.address, listener.port, None
        try:
            if port is not None:
                await _maybe(port.stopListening())
        except OSError as error:
            # Root created this UNIX socket where the daemon's user may not remove it.  The next
            # start by root removes it.
            self.log.warn(
                "removing the socket {where} failed: {why}", where=where, why=error.strerror
            )

    def _fail_at_once(self, step: Deferred[None]) -> None:
        """If a startup step has already failed, close what is open, and raise the error."""
        failures: list[Failure] = []
        if isinstance(getattr(step, "result", None), Failure):
            step.addErrback(failures.append)
            closing = Deferred.fromCoroutine(self._close())
            if not self._reactor.running:
                self._turn_until(closing, PATIENCE)
            failures[0].raiseException()

    def _turn_until(self, done: Deferred[None], patience: float = 0.0) -> None:
        """
        Run the reactor, which has not started yet, until ``done`` has fired.

        ``patience`` is how many seconds to wait for things other than our threads: some
        parts of a reactor, such as its own threads, work only when it runs.
        """
        until = self._reactor.seconds() + patience
        while not done.called and (
            any(executor.busy for executor in self._threads) or self._reactor.seconds() < until
        ):
            self._reactor.iterate(0.1)


async def _maybe(stopped: Any) -> None:
    """Wait if it is a Deferred."""
    if isinstance(stopped, Deferred):
        await stopped
