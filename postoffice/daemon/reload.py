"""Reload: a new configuration takes the place of the old one, or nothing changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from operator import attrgetter

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.accounts.attempts import Allowance
from postoffice.config.settings import Settings
from postoffice.config.source import ConfigurationError
from postoffice.daemon import preflight, privileges
from postoffice.daemon.build_plugins import separate_queue
from postoffice.daemon.generation import Core, Generation, next_generation
from postoffice.daemon.listeners import ListenerChange, Server
from postoffice.doctor.dead_ends import postmaster_trouble
from postoffice.model.errors import PostOfficeError

log = Logger("postoffice")

#: The keys that the store and the directories are made with: their change needs a restart.
RESTART = {
    "hostname": "hostname",
    "state": "state",
    "user": "user",
    "accounts": "accounts",
    "store": "store",
    "quota.warnings": "warnings",
    "quota.warning_text": "warning_text",
}


@dataclass(frozen=True)
class Reloaded:
    """The file that was read, the listeners that were opened and closed, and warnings."""

    configuration: str
    opened: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Generations:
    """
    The generation that serves new clients, and older ones whose sessions have not ended.

    A policy, checker or certificate is stopped when no generation has it any more.  ``send_by``
    lets mail for other domains be sent as a generation says.
    """

    def __init__(
        self,
        core: Core,
        first: Generation,
        read_again: Callable[[], Settings],
        send_by: Callable[[Generation], Awaitable[None]],
    ) -> None:
        self.current = first
        self.listeners = list(first.listeners)
        self._core = core
        self._read_again = read_again
        self._send_by = send_by
        self._old: list[Generation] = []
        self._retiring: set[Deferred[None]] = set()
        self._one_at_a_time = DeferredLock()

    @property
    def servers(self) -> list[Server]:
        """The factories of all sessions."""
        return [server for one in (self.current, *self._old) for server in one.servers]

    async def reload(self) -> Reloaded:
        """Read the configuration again.  Raises ConfigurationError, StartupError."""
        await self._one_at_a_time.acquire()
        try:
            return await self._reload()
        finally:
            self._one_at_a_time.release()

    async def close(self, patience: float) -> None:
        """End all sessions within so many seconds; stop what older generations have left."""
        closing = [Deferred.fromCoroutine(server.close(patience)) for server in self.servers]
        for closed in (*closing, *self._retiring):
            await closed

    async def close_listeners(self) -> None:
        """Close all ports, after a reload in progress."""
        await self._one_at_a_time.acquire()
        try:
            for listener in self.listeners:
                await listener.stop()
        finally:
            self._one_at_a_time.release()

    async def _reload(self) -> Reloaded:
        old = self.current
        settings = await self._core.threads.run(self._read_again)
        _refuse_restarts(old.settings, settings)
        if old.certificates is not None:
            await old.certificates.look()
        if settings == old.settings:
            return Reloaded(settings.source.file)
        await self._add_queue(settings)
        new = next_generation(self._core, settings, old)
        change = ListenerChange(self.listeners, new.listeners)
        closed = tuple(listener.name for listener in change.closed)
        try:
            await self._start(new, old)
            await change.open(settings.source, old.settings.source)
            try:
                await self._send_by(new)
            except BaseException:
                await change.undo(old.settings.source)
                raise
        except BaseException:
            await self._stop_unshared(new)
            raise
        self._old.append(old)
        self.current, self.listeners = new, [*change.commit(), *change.closed]
        try:
            await self._take_over(new, old)
            for listener in change.closed:
                await listener.stop()
                self.listeners.remove(listener)
        finally:
            self._retire_later(old)
        opened = tuple(listener.name for listener in change.opened)
        warnings = tuple(await self._warnings())
        return Reloaded(settings.source.file, opened, closed, warnings)

    async def _add_queue(self, settings: Settings) -> None:
        """
        If mail leaves from now on, and the store has no queue, make one beside it.

        It stays if the reload fails, or if no mail leaves later.  Raises StartupError.
        """
        plugins = self._core.plugins
        if plugins.separate_queue is None:
            beside = separate_queue(settings, plugins.store, self._core.context)
            if beside is not None:
                await plugins.add_queue(beside)

    async def _take_over(self, new: Generation, old: Generation) -> None:
        """Let a generation serve the clients that connect from now on."""
        apply_limits(self._core, new.settings)
        if new.certificates is not None and new.certificates is not old.certificates:
            await new.certificates.start()
        for server in new.servers:
            server.open()

    async def _start(self, new: Generation, old: Generation) -> None:
        """Start the parts that the old generation does not have.  Raises StartupError."""
        if new.certificates is not None and new.certificates is not old.certificates:
            await self._core.threads.run(new.certificates.load_now, old.certificates)
        await self._core.web_page.start()
        policies = zip(new.settings.policies, new.policies, strict=True)
        fresh = [(chosen, policy) for chosen, policy in policies if policy not in old.policies]
        await self._core.plugins.start_policies(fresh, self._core.clock)

    def _retire_later(self, old: Generation) -> None:
        """Stop what only an old generation has, when all its sessions have ended."""
        retiring = Deferred.fromCoroutine(self._retire(old))
        self._retiring.add(retiring)

        def retired(outcome: object) -> None:
            self._retiring.discard(retiring)
            if isinstance(outcome, Failure):
                log.failure("stopping parts of an old configuration failed", failure=outcome)

        retiring.addBoth(retired)

    async def _retire(self, old: Generation) -> None:
        for server in old.servers:
            await server.emptied()
        self._old.remove(old)
        await self._stop_unshared(old)

    async def _stop_unshared(self, gone: Generation) -> None:
        others = [self.current, *self._old]
        theirs = [policy for other in others for policy in other.policies]
        mine = [policy for policy in gone.policies if policy not in theirs]
        await self._core.plugins.stop_policies(mine, self._core.clock)
        if all(gone.checker is not other.checker for other in others):
            await gone.checker.stop()
        certificates = gone.certificates
        if certificates and all(certificates is not other.certificates for other in others):
            await certificates.stop()

    async def _warnings(self) -> list[str]:
        """What is odd about the new configuration; it is logged, too."""
        settings = self.current.settings
        warnings = preflight.key_warnings(settings.tls.certificates)
        try:
            missing = await postmaster_trouble(self._core.plugins.directories, settings.postmaster)
        except PostOfficeError as error:
            missing = f"looking for the postmaster's account failed: {error}"
        warnings += [missing] if missing else []
        for why in warnings:
            log.warn("{why}", why=why)
        return warnings


def _refuse_restarts(old: Settings, new: Settings) -> None:
    """Raise ConfigurationError if keys have changed whose change needs a restart."""
    changed = [key for key, of in RESTART.items() if attrgetter(of)(old) != attrgetter(of)(new)]
    if changed:
        why = "this key has changed, which needs a restart; nothing was reloaded"
        raise ConfigurationError(new.source.problem(key, why) for key in changed)


def apply_limits(core: Core, settings: Settings) -> None:
    """Set the limits that all generations share, within what the system allows."""
    limits, connections = settings.limits, core.connection_limits
    connections.total, connections.per_client = limits.connections, limits.connections_per_client
    enough = privileges.raise_open_files()
    if enough < connections.total:
        log.warn(
            "limits.connections is {asked}, but the system's limit of open files is enough "
            "for {enough} only: raise it (LimitNOFILE=, ulimit -n)",
            asked=connections.total,
            enough=enough,
        )
        connections.total = enough
    core.logins.allow(
        Allowance(*limits.wrong_passwords_per_account), Allowance(*limits.wrong_passwords)
    )
