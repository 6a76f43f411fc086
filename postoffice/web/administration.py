"""What the administrators' pages work with: handed over by the daemon, as plain arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from postoffice.config.settings import Settings
from postoffice.doctor.findings import Finding
from postoffice.doctor.maildrop_owners import OwnedMaildrop, owners_of
from postoffice.doctor.site import Site
from postoffice.interfaces import (
    Executor,
    IAccountDirectory,
    IAccountRegister,
    IMaildropMaintenance,
    IMailStore,
    MaildropUsage,
)
from postoffice.logs.files import LogSource
from postoffice.queue.manager import QueueManager
from postoffice.web.activity import Activity

#: Seconds for which the findings of the overview, and the sizes of all maildrops, are kept.
FINDINGS_AGE, USAGE_AGE = 60.0, 600.0

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
    many.  ``manager`` is the queue's, None where nothing is sent.  ``check_domain`` examines the
    DNS of a domain, ``quick_findings`` what can be seen in a moment (it blocks).  ``log`` is None
    where no log can be read.
    """

    settings: Settings
    directories: Sequence[IAccountDirectory]
    store: IMailStore
    executor: Executor
    now: Callable[[], float]
    site: Site
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
        """All domains of the directories that can list them, sorted."""
        found: set[str] = set()
        for directory in self.directories:
            if hasattr(directory, "domains"):
                found.update(await directory.domains())
        return sorted(found)

    async def findings(self) -> list[Finding]:
        """The findings for the overview, at most a minute old."""
        if self._findings is None or self.now() - self._findings[0] > FINDINGS_AGE:
            self._findings = self.now(), await self.executor.run(self.quick_findings)
        return self._findings[1]

    async def usage(self, *, fresh: bool = False) -> MaildropTable | None:
        """
        The usage of all maildrops; None while they are counted for the first time.

        Counting takes a while: another page that asks meanwhile gets the last table.
        """
        old = self._usage
        stale = old is None or fresh or self.now() - old.when > USAGE_AGE
        if stale and not self._counting and IMaildropMaintenance.providedBy(self.store):
            self._counting = True
            try:
                self._usage = await self._count()
            finally:
                self._counting = False
        return self._usage

    async def _count(self) -> MaildropTable:
        usages = await cast(IMaildropMaintenance, self.store).holdings()
        names = [one.name for one in usages]
        drops = await owners_of(self.directories, self.settings, names)
        return MaildropTable(self.now(), list(zip(usages, drops, strict=True)))
