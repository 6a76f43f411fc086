"""Mail goes when its time has come: which maildrops are looked at, and when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountRegister, IMaildropMaintenance, IRetention
from postoffice.model import log_events
from postoffice.model.address import Account
from postoffice.model.errors import MaildropLocked, PostOfficeError
from postoffice.model.log_events import tell, tell_failure
from postoffice.model.mail_policy import KeepTimes, MailPolicy

log = Logger("postoffice")

#: Seconds from one round to the next; from the start to the first one.
ROUND = 86400.0
FIRST = 900.0
#: Seconds between two maildrops, at most; and for a whole round, where there are many.
PAUSE = 1.0
SPREAD = 4 * 3600.0
#: How often a maildrop is tried, in one round, that somebody collects from.
TRIES = 3


@dataclass(frozen=True)
class ExpiryTarget:
    """A maildrop, and how long its mail is kept."""

    account: str
    maildrop: str
    keep: KeepTimes


@dataclass(frozen=True)
class ExpiryResult:
    """What went out of a maildrop, or would go; or why it was left alone."""

    target: ExpiryTarget
    messages: int = 0
    octets: int = 0
    why: str = ""


class Retention:
    """
    Which mail goes: ``serving`` is for all accounts that say nothing themselves.

    ``devices`` names those of an account.
    """

    def __init__(
        self,
        plugins: Plugins,
        serving: MailPolicy,
        devices: Callable[[Account], Awaitable[Collection[str]]],
    ) -> None:
        self._plugins = plugins
        self._serving = serving
        self._devices = devices

    @property
    def possible(self) -> bool:
        """Whether the store can do it."""
        return IRetention.providedBy(self._plugins.store)

    async def targets(self) -> list[ExpiryTarget]:
        """
        The maildrops of all accounts whose mail is not kept for ever.

        Accounts of a directory that cannot tell of all are found by their
        maildrops.  Raises PostOfficeError.
        """
        names: dict[str, None] = {}
        for directory in self._plugins.directories:
            if IAccountRegister.providedBy(directory):
                names.update(dict.fromkeys(one.address for one in await directory.accounts()))
            elif IMaildropMaintenance.providedBy(self._plugins.store):
                holdings = await cast(IMaildropMaintenance, self._plugins.store).holdings()
                names.update(dict.fromkeys(one.name for one in holdings))
        accounts = [await self._plugins.find(name) for name in names]
        targets = [await self.target(account) for account in accounts if account is not None]
        return [target for target in dict.fromkeys(targets) if not target.keep.forever]

    async def target(self, account: Account) -> ExpiryTarget:
        """One account's maildrop."""
        serving = account.serving.or_else(self._serving)
        devices = await self._devices(account) if serving.devices == "all" else ()
        return ExpiryTarget(account.address, account.maildrop, serving.kept(devices))

    async def expire(self, target: ExpiryTarget, *, dry: bool = False) -> ExpiryResult:
        """
        Let go what shall, or (``dry``) see what would.  Raises PostOfficeError.

        A round takes hours: what is said of the account by now is what holds,
        since its clients are told that (EXPIRE).
        """
        account = await self._plugins.find(target.account)
        if account is None:
            return ExpiryResult(target)
        target = await self.target(account)
        store = cast(IRetention, self._plugins.store)
        return ExpiryResult(target, *await store.expire(target.maildrop, target.keep, dry))


class ExpiryJob:
    """The daily round, gently: one maildrop after the other, and none that somebody is at."""

    def __init__(self, retention: Retention, clock: Any) -> None:
        self._retention = retention
        self._clock = clock
        self._loop = LoopingCall(self._begin)
        self._loop.clock = clock
        self._first: Any = None
        self._round: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """The first round begins in a while."""
        if self._retention.possible:
            self._first = self._clock.callLater(FIRST, self._loop.start, ROUND)

    async def stop(self) -> None:
        """No more rounds; what goes just now, goes."""
        self._stopped = True
        if self._first is not None and self._first.active():
            self._first.cancel()
        if self._loop.running:
            self._loop.stop()
        if self._pause is not None:
            self._pause.cancel()
        if self._round is not None:
            await self._round

    def _begin(self) -> Deferred[None]:
        self._round = Deferred.fromCoroutine(self.round())
        return self._round.addErrback(self._failed)

    async def round(self) -> None:
        """Look at all maildrops once; at those that somebody is at, once more later."""
        targets: Sequence[ExpiryTarget] = await self._retention.targets()
        pause = min(PAUSE, SPREAD / max(len(targets), 1))
        messages = octets = 0
        for _ in range(TRIES):
            locked = []
            for target in targets:
                try:
                    gone = await self._retention.expire(target)
                except MaildropLocked:
                    locked.append(target)
                except PostOfficeError as error:
                    why = str(error)
                    tell(log, log_events.EXPIRY_FAILED, account=target.account, why=why)
                else:
                    messages, octets = messages + gone.messages, octets + gone.octets
                    self._tell(gone)
                await self._rest(pause)
            targets = locked
        if messages:
            tell(log, log_events.MAIL_EXPIRED, messages=messages, octets=octets)

    async def _rest(self, seconds: float) -> None:
        if self._stopped:
            raise CancelledError
        self._pause = deferLater(self._clock, seconds)
        await self._pause

    def _tell(self, gone: ExpiryResult) -> None:
        if gone.messages:
            facts = {"messages": gone.messages, "octets": gone.octets}
            tell(log, log_events.MAIL_EXPIRED, account=gone.target.account, **facts)

    def _failed(self, why: Failure) -> None:
        if isinstance(why.value, PostOfficeError):
            tell(log, log_events.EXPIRY_FAILED, why=str(why.value))
        elif not isinstance(why.value, CancelledError):
            tell_failure(log, log_events.FAULT, why, why="removing expired mail failed")
