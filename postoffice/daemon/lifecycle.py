"""The post office as a service: opens its ports, changes its user, starts, and stops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.accounts.circuit_breaker import Unavailable
from postoffice.accounts.sealed_secrets import key
from postoffice.config.settings import Settings
from postoffice.config.source import ConfigurationError
from postoffice.daemon import preflight, privileges
from postoffice.daemon.control_socket import Answers, Control
from postoffice.daemon.expiry_job import ExpiryJob
from postoffice.daemon.generation import Core, Generation
from postoffice.daemon.live_sessions import Sessions
from postoffice.daemon.log_output import LogOutput
from postoffice.daemon.metrics_listener import MetricsListener
from postoffice.daemon.outbound import Outbound
from postoffice.daemon.plugins import Plugins
from postoffice.daemon.reload import Generations, Reloaded, apply_limits
from postoffice.daemon.systemd import Systemd
from postoffice.doctor.dead_ends import postmaster_trouble
from postoffice.model import log_events
from postoffice.model.errors import PostOfficeError, StartupError
from postoffice.model.log_event import tell, tell_failure

#: Seconds that sessions have to end when the post office stops.
PATIENCE = 30.0
#: The file, in the state folder, of the key from which unknown users get fake salts.
SALTS = "salts.key"


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

    log = Logger("postoffice")

    def __init__(self, core: Core, first: Generation, read_again: Callable[[], Settings]) -> None:
        self.plugins = core.plugins
        self.welcome: Welcome | None = None
        self.systemd = Systemd({}, core.reactor)
        self.log_output = LogOutput(first.settings.log.format, first.settings.log.level)
        self._core = core
        self._reactor = core.reactor
        self._outbound = Outbound(core)
        self._generations = Generations(core, first, read_again, self._use)
        self._monitoring = MetricsListener(
            core,
            lambda: self._generations.current,
            lambda: self._generations.servers,
            lambda: self._outbound.manager,
        )
        self._expiring = ExpiryJob(first.retention, core.clock)
        sessions = Sessions(lambda: self._generations.servers, core.reactor)
        core.web_page.attach(
            lambda: list(sessions.listed({})),
            lambda account: len(list(sessions.end({"account": account}))),
            lambda: self._outbound.manager,
        )
        commands: dict[str, Answers] = {
            **sessions.commands,
            "queue": self._outbound.answer,
            "reload": self._reload_asked,
        }
        self._control = Control(first.settings.state, core.reactor, commands)
        self._listening: list[Deferred[None]] | None = None
        self._opening: Deferred[None] | None = None
        self._working = False
        self._waiting: list[Deferred[None]] = []
        self._reloads: set[Deferred[Reloaded]] = set()
        self._outcome: object = self  # self means: not yet open, and not failed

    @property
    def settings(self) -> Settings:
        """The settings that hold for new clients."""
        return self._generations.current.settings

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Where each service listens."""
        found: dict[str, list[str]] = {}
        for listener in self._generations.listeners:
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
        apply_limits(self._core, self.settings)
        if self._generations.current.certificates is not None:
            self._generations.current.certificates.load_now()  # usually only root can read the keys
        self._listening = []
        for listener in self._generations.listeners:
            listening = Deferred.fromCoroutine(listener.listen(self.settings.source))
            self._listening.append(listening)
            self._fail_at_once(listening)
        privileges.become(self.settings.user, self.settings.state)
        privileges.warn(self.settings.user)
        for why in preflight.key_warnings(self.settings.tls.certificates):
            self.log.warn("{why}", why=why)

    def startService(self) -> None:
        if self._listening is None:
            self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]
        for executor in self._core.executors:
            executor.start()
        self._working = True
        opening = self._opening = Deferred.fromCoroutine(self._open())
        opening.addBoth(self._opened)
        if not self._reactor.running:
            self._turn_until(opening)
            self._fail_at_once(opening)

    async def _open(self) -> None:
        for listening in self._listening or ():
            await listening
        await self._monitoring.use(self.settings)
        await self.plugins.start(policies=True)
        self._core.leases.start()
        generation = self._generations.current
        generation.checker.fake_salts = await self._key()
        await self._core.logins.start()
        await self._core.web_page.start()
        if generation.certificates is not None:
            await generation.certificates.start()
        try:
            if self.welcome is not None:
                await self.welcome.prepare(self.plugins)
            await self._look_for_the_postmaster()
        except PostOfficeError as error:
            raise StartupError(str(error)) from error
        await self._outbound.use(generation)
        for server in self._generations.servers:
            server.open()
        self._expiring.start()
        self._control.start()
        self._monitoring.ready = True
        self.log.info("the post office is open: {where}", where=self._where())
        self.systemd.ready(f"open: {self._where()}")
        if self.welcome is not None:
            self.welcome.greet(self.addresses)

    def _where(self) -> str:
        """The addresses of all services, in words."""
        found = self.addresses.items()
        return ", ".join(f"{service} {' '.join(addresses)}" for service, addresses in found)

    async def _key(self) -> bytes:
        try:
            return await self.plugins.executor.run(key, os.path.join(self.settings.state, SALTS))
        except PostOfficeError as error:
            raise StartupError(str(error)) from error

    async def _look_for_the_postmaster(self) -> None:
        try:
            why = await postmaster_trouble(self.plugins.directories, self.settings.postmaster)
        except Unavailable as error:  # it may be back before the first mail
            why = f"looking for the postmaster's account failed: {error}"
        if why:
            self.log.warn("{why}", why=why)

    def _opened(self, outcome: object) -> object:
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
        for unfinished in (self._opening, *self._reloads):
            if unfinished is not None:
                unfinished.cancel()
        self.systemd.stopping()
        self._monitoring.ready = False
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        """Stop listening, let sessions finish, and stop all parts."""
        core, generations = self._core, self._generations
        await generations.close_listeners()
        await self._control.stop()
        core.leases.close()
        await generations.close(PATIENCE)
        await self._outbound.close()
        core.leases.stop()
        if generations.current.certificates is not None:
            await generations.current.certificates.stop()
        await generations.current.checker.stop()
        await core.first_imports.stop()
        await core.web_page.stop()
        await core.logins.stop()
        await self._expiring.stop()
        await self.plugins.stop()
        await self._monitoring.stop()
        self.systemd.stopped()
        if self._working:
            self._working = False
            for executor in core.executors:
                await executor.stop()
            self.log.info("the post office is closed")

    async def _use(self, generation: Generation) -> None:
        """Send, and show metrics, as a new generation says.  Raises StartupError."""
        await self._monitoring.use(generation.settings)
        await self._outbound.use(generation)

    # -- reload --------------------------------------------------------------------

    def reload(self) -> Deferred[Reloaded]:
        """
        Read the configuration again, and let it hold for all new sessions.

        If that fails, the old configuration stays; the failure is logged.  The Deferred
        fails with ConfigurationError or another StartupError.
        """
        reloading = Deferred.fromCoroutine(self._reload())
        self._reloads.add(reloading)

        def reloaded(outcome: object) -> object:
            self._reloads.discard(reloading)
            return outcome

        return reloading.addBoth(reloaded)

    async def _reload(self) -> Reloaded:
        try:
            done = await self._replace_configuration()
        except StartupError as error:
            for why in str(error).split("\n"):
                tell(self.log, log_events.RELOAD_FAILED, why=why)
            raise
        except CancelledError:
            raise StartupError("the post office is closing") from None
        except Exception as error:
            tell_failure(self.log, log_events.FAULT, why="reloading the configuration failed")
            raise StartupError("this is a bug: the log has its traceback") from error
        self._expiring.retention = self._generations.current.retention
        self.log_output.use(self.settings.log.format, self.settings.log.level)
        opened, closed = ", ".join(done.opened), ", ".join(done.closed)
        tell(self.log, log_events.RELOADED, opened=opened, closed=closed)
        return done

    async def _replace_configuration(self) -> Reloaded:
        if self._outcome is not None or not self.running:
            raise StartupError("the post office is not open")
        if self.settings.first_run:
            raise StartupError("there is no configuration file: this is a post office for trials")
        self.systemd.reloading()
        outcome = "the last reload failed; "
        try:
            done = await self._generations.reload()
            outcome = ""
            return done
        finally:
            if self.running:
                self.systemd.ready(f"{outcome}open: {self._where()}")

    async def _reload_asked(self, _: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
        """Answer the command ``reload`` of the control socket."""
        try:
            done = await self.reload()
        except ConfigurationError as error:
            return iter([{"problems": [vars(problem) for problem in error.problems]}])
        except StartupError as error:
            return iter([{"failed": str(error)}])
        return iter([vars(done)])

    # -- waiting -------------------------------------------------------------------

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
            any(executor.busy for executor in self._core.executors)
            or self._reactor.seconds() < until
        ):
            self._reactor.iterate(0.1)
