"""What the administrators' pages work with; the daemon passes it as plain arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from postoffice.config.settings import Settings
from postoffice.doctor.findings import Finding
from postoffice.doctor.maildrop_owners import OwnedMaildrop, owners_of
from postoffice.doctor.public_site import PublicSite
from postoffice.interfaces import (
    Executor,
    IAccountDirectory,
    IAccountRegister,
    IMaildropMaintenance,
    IMailStore,
    MaildropUsage,
)
from postoffice.logs.files import LogSource
from postoffice.model.errors import PostOfficeError
from postoffice.queue.manager import QueueManager
from postoffice.web.activity import Activity

#: Seconds for which the findings of the overview, and the sizes of all maildrops, are kept.
FINDINGS_AGE, USAGE_AGE = 60.0, 600.0
#: Seconds for which a page waits until the maildrops are counted.
USAGE_PATIENCE = 2.0

log = Logger("postoffice")

#: One session, as the daemon describes it: id, service, account, client, tls, since, doing.
Described = Mapping[str, str | float]


@dataclass(frozen=True)
class MaildropTable:
    """The usage of all maildrops, and their owners, as they were at ``when`` (Unix time)."""

    when: float
    rows: Sequence[tuple[MaildropUsage, OwnedMaildrop]]


@dataclass
class Administration:
    """
    What administrators see and change, over the same functions as the ``postoffice`` command.

    ``sessions`` lists the open sessions, ``end_sessions`` ends those of an account and returns how
    many.  ``manager`` returns the queue manager, None if the daemon sends nothing.
    ``check_domain`` examines the DNS of a domain; ``quick_findings`` runs the checks that take a
    moment (it blocks).  ``log`` returns None if no log can be read.
    """

    settings: Settings
    directories: Sequence[IAccountDirectory]
    store: IMailStore
    executor: Executor
    now: Callable[[], float]
    clock: IReactorTime
    site: PublicSite
    sessions: Callable[[], Sequence[Described]]
    end_sessions: Callable[[str], int]
    manager: Callable[[], QueueManager | None]
    check_domain: Callable[[str], Awaitable[list[Finding]]]
    quick_findings: Callable[[], list[Finding]]
    activity: Activity
    log: Callable[[], LogSource | None]

    _findings: tuple[float, list[Finding]] | None = field(default=None, repr=False)
    _usage: MaildropTable | None = field(default=None, repr=False)
    _counting: bool = False

    @property
    def register(self) -> IAccountRegister | None:
        """The directory that can be written to: the one that the command edits."""
        for directory in self.directories:
            if IAccountRegister.providedBy(directory):
                return directory
        return None

    async def domains(self) -> list[str]:
        """Return all domains of the directories that can list them, sorted."""
        found: set[str] = set()
        for directory in self.directories:
            if hasattr(directory, "domains"):
                found.update(await directory.domains())
        return sorted(found)

    async def findings(self) -> list[Finding]:
        """Return the findings for the overview, at most a minute old."""
        if self._findings is None or self.now() - self._findings[0] > FINDINGS_AGE:
            self._findings = self.now(), await self.executor.run(self.quick_findings)
        return self._findings[1]

    async def usage(self, *, fresh: bool = False) -> MaildropTable | None:
        """
        Return the usage of all maildrops; None while they are counted for the first time.

        If counting takes longer than a page may wait, it goes on, and the last table is returned.
        """
        old = self._usage
        stale = old is None or fresh or self.now() - old.when > USAGE_AGE
        if stale and not self._counting and IMaildropMaintenance.providedBy(self.store):
            self._counting = True
            counting = Deferred.fromCoroutine(self._count_all())
            waiting: Deferred[None] = Deferred()
            later = self.clock.callLater(USAGE_PATIENCE, _fire, waiting)
            counting.addBoth(lambda _: _fire(waiting))
            await waiting
            if later.active():
                later.cancel()
        return self._usage

    async def _count_all(self) -> None:
        try:
            self._usage = await self._count()
        except PostOfficeError as error:
            log.warn("counting the maildrops failed: {why}", why=str(error))
        except Exception:
            log.failure("counting the maildrops failed")
        finally:
            self._counting = False

    async def _count(self) -> MaildropTable:
        usages = await cast(IMaildropMaintenance, self.store).holdings()
        names = [one.name for one in usages]
        drops = await owners_of(self.directories, self.settings, names)
        return MaildropTable(self.now(), list(zip(usages, drops, strict=True)))


def _fire(waiting: Deferred[None]) -> None:
    if not waiting.called:
        waiting.callback(None)
