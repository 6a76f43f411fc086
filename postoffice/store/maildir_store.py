"""
The store of Maildirs, one folder for each maildrop: ``path/DOMAIN/LOCALPART``.

MaildirStore is what the daemon and the commands see of this package.  It holds
no algorithm: it builds the parts (batcher, journal, quotas, caches), runs their
blocking functions on the executor, and starts the rounds that checkpoint the
journal and sweep leftovers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from postoffice.interfaces import (
    ChildProcess,
    Executor,
    Finding,
    IDelivery,
    IMaildrop,
    IMaildropMaintenance,
    IMailStore,
    IQueueStore,
    IRetention,
    MaildropUsage,
    MakeChildProcess,
    PurgeCriteria,
    Step,
    VaultSession,
)
from postoffice.interfaces.maintenance import no_progress
from postoffice.model.address import Account, Quota
from postoffice.model.envelope import Envelope
from postoffice.model.errors import TemporaryFailure
from postoffice.model.listing import Entry
from postoffice.model.mail_policy import KeepTimes
from postoffice.store import (
    cleanup,
    files,
    maildir,
    maintenance,
    names,
    queue_files,
    retention,
    retry,
    set_aside,
)
from postoffice.store.batcher import (
    AREA,
    BATCHES,
    Batcher,
    Committer,
    ProcessCommitter,
    ThreadCommitter,
)
from postoffice.store.context import StoreContext
from postoffice.store.deliveries import Deliveries
from postoffice.store.delivery import MaildropCache
from postoffice.store.drafts import Draft
from postoffice.store.figures import StoreFigures
from postoffice.store.journal import filesystem
from postoffice.store.journal.journal import Journal
from postoffice.store.journal.redo import journal_of
from postoffice.store.journal.segments import SEGMENT
from postoffice.store.listing_cache import ListingCache, MeasuredSizes, Snapshot
from postoffice.store.mail_queue import MailQueue
from postoffice.store.mailbox import OpenMaildir
from postoffice.store.maildir_files import MaildirFiles
from postoffice.store.pace import Pace
from postoffice.store.quota.admission import Admission, FreeSpace
from postoffice.store.quota.enforcement import QuotaEnforcement
from postoffice.store.quota.maildirsize import full
from postoffice.store.quota.notices import QuotaNotices, removed
from postoffice.store.receiving_limit import ReceivingLimit
from postoffice.store.removal_commits import RemovalCommits
from postoffice.store.store_process import StoreProcess
from postoffice.store.sweep import SWEEP, Sweep
from postoffice.store.transfer.maildrop_reader import ReadListings
from postoffice.util.periodic import Periodic
from postoffice.util.shield import shield

#: Seconds between two checkpoints of the journal.
CHECKPOINT_INTERVAL = 2.0


@implementer(IMailStore, IQueueStore, IRetention, IMaildropMaintenance)
class MaildirStore(MaildirFiles):
    """
    The mail of all accounts, in Maildirs below ``path``.

    ``hostname`` is part of the file name of each message.  ``durability`` is
    "journal", "files", or "" for the best that the disk allows.  The vault keeps
    removed messages for ``undelete`` seconds, and at most ``undelete_size``
    octets of one maildrop (``vault.trim``).  ``levels`` are per cents of a quota:
    the owner of a maildrop gets a notice when it reaches one, with ``letter`` as
    its text, or our text if that is "".  Mail is refused while fewer than
    ``free_space`` octets are free on the disk, and while more than ``incoming``
    octets are being received.  ``queue`` is how many messages and octets the queue may hold, 0
    for any number (``MailQueue``).  ``child_process`` makes the store process, which
    commits batches under load; None: all batches are committed on threads.
    """

    log = Logger()

    def __init__(
        self,
        path: str,
        executor: Executor,
        *,
        hostname: str,
        clock: IReactorTime,
        durability: str = "",
        undelete: float = 0.0,
        undelete_size: int | None = None,
        levels: Sequence[int] = (),
        letter: str = "",
        segment: int = SEGMENT,
        free_space: int = 0,
        incoming: int = 0,
        child_process: MakeChildProcess | None = None,
        queue: tuple[int, int] = (0, 0),
    ) -> None:
        self.figures = StoreFigures()
        self._make_child_process = child_process
        self._store_process: ChildProcess[StoreProcess] | None = None
        self._segment = segment
        self._levels = sorted(levels)
        self._letter = letter
        self._path = path
        self._executor = executor
        self._hostname = hostname
        self._clock = clock
        self._wanted = durability
        self._journal = journal_of(path, self._report, segment)
        self._maildrops = MaildropCache(executor)
        self.queue = MailQueue(path, executor, self._maildrops, hostname, *queue)
        self._floor = FreeSpace(path, free_space, executor, clock.seconds)
        self._incoming = ReceivingLimit(incoming)
        self._sizes = MeasuredSizes()
        self._listings = ListingCache()
        self._read_listings = ReadListings()
        self._undelete = undelete
        self._vault_limit = undelete_size
        self._sweep = Sweep(path, executor, clock, undelete, undelete_size)
        self.figures.sweep = self._sweep
        failed = partial(self._failed, "sweeping the store failed")
        self._sweeping = Periodic(clock, SWEEP, self._sweep.run, failed)
        self._checkpointing = Periodic(
            clock, CHECKPOINT_INTERVAL, self._checkpoint, self._checkpoint_failed
        )

    def _report(self, level: str, text: str) -> None:
        self.log.emit(LogLevel.lookupByName(level), "{text}", text=text)

    async def start(self) -> None:
        durability = await self._executor.run(self._begin)
        journal = self._journal if durability == filesystem.JOURNAL else None
        enforcement = QuotaEnforcement(
            journal, self._sizes, bool(self._undelete), self._levels, vault_limit=self._vault_limit
        )
        self._notices = QuotaNotices(
            self._executor, enforcement, self.begin, self._hostname, self._letter
        )
        here = ThreadCommitter(self._executor, journal, enforcement)
        small = self._small_committer(durability, here, enforcement)
        clock = self._clock if journal else None
        self._batcher = Batcher(small, here, self._committed, self.queue.doubt, self.figures, clock)
        self._deliveries = Deliveries(
            self._path,
            self._executor,
            self._hostname,
            self._maildrops,
            self.queue,
            self._batcher,
            self._journal.large if journal else "",
            self._incoming,
            self._floor,
        )
        self._context = self._make_context(journal)
        pace = self._context.pace
        self._admission = Admission(self._executor, self._clock.seconds, pace)
        self.queue.start(self._context.commits, self._batcher, pace)
        if self._journal.active:
            self._checkpointing.start()
        self._sweeping.start(now=True)

    def _small_committer(
        self, durability: str, here: Committer, enforcement: QuotaEnforcement
    ) -> Committer:
        """What commits small messages: the store process, or ``here`` if there is none."""
        if self._make_child_process is None:
            return here
        self.figures.process = self._store_process = self._make_child_process(
            "store",
            StoreProcess,
            self._path,
            durability,
            bool(self._undelete),
            self._levels,
            self._segment,
            self._vault_limit,
            memory=BATCHES * AREA,
        )
        return ProcessCommitter(self._store_process, here, enforcement.notices, self._report)

    def _make_context(self, journal: Journal | None) -> StoreContext:
        return StoreContext(
            self._executor,
            self._sizes,
            self._listings,
            self._clock,
            Pace(self._clock.seconds, os.stat(self._path).st_dev),
            self._report,
            journal,
            RemovalCommits(self._executor, journal) if journal else None,
            self._undelete,
            self._vault_limit,
        )

    def _committed(self, drafts: Sequence[Draft]) -> None:
        self._notices.tell()
        for lead in drafts:
            for draft in (lead, *lead.beside):
                if draft.queued is not None:
                    if not lead.missed.keys() & set(draft.refs):
                        self.queue.came(draft)
                    continue
                for ref in draft.refs:
                    self._admission.came(ref.path, draft.size)
                    self._listings.changed(ref.path)

    def _begin(self) -> str:
        """Recover what the journal holds; return the durability that the store has."""
        files.prepare(self._path)
        with files.failures(self._path):
            durability, warning = filesystem.choose(self._path, self._wanted)
        if warning:
            self._report("warn", warning)
        with files.failures(self._path):
            began = time.monotonic()
            found = self._journal.open(durability, asked=bool(self._wanted))
            set_aside.adopt(self._path)
            retry.retry_all(self._path, self._report)
            self.queue.open()
        if found.batches:
            self._report(
                "info",
                f"recovered {found.put_records} messages and {found.removals} removals from the "
                f"journal after an unclean stop, in {time.monotonic() - began:.2f} s",
            )
        return self._journal.durability

    async def _checkpoint(self) -> bool:
        await self._executor.run(self._journal.checkpoint)
        self.figures.checkpoints += 1
        self.figures.checkpointed = time.time()
        await self.queue.look_for_doubted()
        return False

    def _checkpoint_failed(self, why: Failure) -> None:
        self.figures.checkpoints_failed += 1
        self._failed("checkpointing the journal failed, retrying", why)

    def _failed(self, what: str, why: Failure) -> None:
        if isinstance(why.value, (OSError, TemporaryFailure)):
            self.log.error("{what}: {error}", what=what, error=why.value)
        else:
            self.log.failure("{what}", what=what, failure=why)

    async def stop(self) -> None:
        if self._sweeping.running:
            await self._sweeping.stop(cancel=True)
            await self._batcher.finished()
            await self._notices.finished()
            await self.queue.stop()
            for removal in list(self._context.removals):
                await shield(removal)
        await self._checkpointing.stop()
        if self._store_process is not None:
            await self._store_process.stop()
        await self._executor.run(self._journal.close)

    async def begin(self, envelope: Envelope) -> IDelivery:
        return await self._deliveries.begin(envelope)

    async def admit(self, account: Account, size: int) -> None:
        await self._floor.check()
        quota = account.quota
        if quota.limited and not await self._admission.admits(
            self._folder(account.maildrop), quota, size
        ):
            raise full(account.maildrop, quota, size)

    def maildrop(self, name: str) -> IMaildrop:
        return OpenMaildir(self._folder(name), self._context)

    async def count(self, name: str) -> tuple[int, int]:
        return await self._executor.run(self._count, self._folder(name))

    def _count(self, folder: str) -> tuple[int, int]:
        if not os.path.isdir(folder):
            return 0, 0
        snapshot: Snapshot = maildir.scan(folder, self._sizes, self._listings.get(folder))
        return len(snapshot.entries), snapshot.entries.octets

    async def discard(self, name: str, keep: bool) -> str:
        try:
            return await self._executor.run(self._discard, names.folder_of(name), keep)
        finally:
            self._listings.forget(self._folder(name))
            self._read_listings.forget(self._folder(name))
            self._maildrops.forget(self._folder(name))

    def _discard(self, subpath: str, keep: bool) -> str:
        with files.failures(self._path):
            return cleanup.discard(self._path, subpath, keep, self._journal.quiet)

    async def holdings(self, step: Step | None = None) -> list[MaildropUsage]:
        return await self._executor.run(maintenance.holdings, self._path, step or no_progress)

    async def strays(self) -> list[Finding]:
        return await self._executor.run(self._strays)

    def _strays(self) -> list[Finding]:
        return maintenance.strays(self._path) + queue_files.findings(self._path)

    async def purge(
        self, name: str, which: PurgeCriteria, dry: bool, step: Step | None = None
    ) -> tuple[int, int]:
        keep, step = bool(self._undelete), step or no_progress
        purge = partial(
            maintenance.purge, keep=keep, dry=dry, vault_limit=self._vault_limit, step=step
        )
        return await self._executor.run(purge, self._folder(name), which, self._context.journal)

    async def vault_sessions(self, name: str) -> list[VaultSession]:
        return await self._executor.run(maintenance.kept, self._folder(name))

    async def undelete(self, name: str, session: str, since: float) -> int:
        return await self._executor.run(
            maintenance.bring_back, self._folder(name), session, since, self._journal
        )

    async def collect(
        self, name: str, entries: Sequence[Entry], device: str, devices: frozenset[str] | None
    ) -> Sequence[Entry]:
        return await self._executor.run(
            retention.collect, self._folder(name), entries, device, devices
        )

    async def expire(self, name: str, keep: KeepTimes, dry: bool) -> tuple[int, int]:
        return await self._executor.run(self._expire, name, keep, dry)

    def _expire(self, name: str, keep: KeepTimes, dry: bool) -> tuple[int, int]:
        journal, undelete = self._context.journal, bool(self._undelete)
        gone = retention.expire(
            self._folder(name),
            keep,
            journal,
            undelete=undelete,
            dry=dry,
            vault_limit=self._vault_limit,
        )
        octets = sum(entry.size for entry in gone)
        if gone and not dry:
            removed(name, "expired", [entry.uidl for entry in gone], octets)
        return len(gone), octets

    async def verify(
        self, name: str, quota: Quota, repair: bool, step: Step | None = None
    ) -> list[Finding]:
        look = partial(maintenance.verify, repair=repair, step=step or no_progress)
        return await self._executor.run(look, self._folder(name), quota)

    async def sweep(self) -> None:
        """Sweep now (``Sweep``)."""
        await self._sweep.run()
