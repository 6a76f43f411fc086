"""
MaildirDelivery: one message on its way into its maildrops (IDelivery).

A large text is written to its draft file as it arrives; a small one stays in
memory until the batcher commits it.  The commit itself is in ``commit``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred
from zope.interface import implementer

from postoffice.interfaces import Executor, IDelivery, IQueuedDelivery, IText
from postoffice.model.envelope import Envelope
from postoffice.model.errors import MaildropFullNow, NoSpace, PostOfficeError, TemporaryFailure
from postoffice.store import drafts, files, names
from postoffice.store.batcher import Batcher
from postoffice.store.drafts import Draft
from postoffice.store.files import MaildropRef
from postoffice.store.quota.admission import FreeSpace
from postoffice.store.receiving_limit import Reservation
from postoffice.util.cache import Cache
from postoffice.util.shield import shield, start_work

#: Octets of a text that are buffered before they are written to disk.  There may be twice as many:
#: the next ones are buffered while the last ones are written.
BUFFER = 256 << 10
#: Pieces of a text up to this size (octets) are joined, because each costs an object.
SMALL = 4096


class MaildropCache:
    """The maildrops that had mail lately, so that a delivery need not look each one up again."""

    #: How many are remembered.
    LIMIT = 20_000

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._known: Cache[str, MaildropRef] = Cache(self.LIMIT)

    async def find(self, folders: Sequence[str]) -> list[MaildropRef | TemporaryFailure]:
        """
        Find the maildrop of each folder, and make it if it is missing.

        Returns, for each folder, its MaildropRef or the failure.  A remembered
        maildrop is checked with one stat on this thread, which costs less than
        a call on a worker thread; one that was moved away is looked up again.
        """
        outcomes: dict[str, MaildropRef | TemporaryFailure] = {}
        for folder in folders:
            known = self._known.get(folder)
            if known is not None and files.is_there(known):
                outcomes[folder] = known
        if len(outcomes) < len(folders):
            missing = [folder for folder in folders if folder not in outcomes]
            found = await self._executor.run(files.find, missing)
            outcomes.update(zip(missing, found, strict=True))
            for folder, outcome in outcomes.items():  # others may have forgotten them meanwhile
                if isinstance(outcome, MaildropRef):
                    self._known.set(folder, outcome)
        return [outcomes[folder] for folder in folders]

    def forget(self, folder: str) -> None:
        """Look this maildrop up again at the next delivery."""
        self._known.pop(folder)


@implementer(IDelivery, IQueuedDelivery)
class MaildirDelivery:
    """
    One message on its way in.

    ``load`` counts the octets of its text until it is committed or aborted.
    ``floor`` refuses to write more of it when the disk is almost full.
    ``wanted`` has, for each recipient, the maildrop or why there is none; then the queue's
    place, if the message is for that too.
    """

    def __init__(
        self,
        executor: Executor,
        refs: MaildropCache,
        batcher: Batcher,
        draft: Draft,
        wanted: Sequence[MaildropRef | TemporaryFailure],
        load: Reservation,
        floor: FreeSpace,
        envelope: Envelope,
    ) -> None:
        self._envelope = envelope
        self._before = -1  # octets before the Return-Path field; -1: there is none
        self._load = load
        self._floor = floor
        self._wanted = wanted
        self._executor = executor
        self._maildrops = refs
        self._batcher = batcher
        self._draft = draft
        self._buffered = 0
        self._writing: Deferred[None] | None = None  # an executor writes the octets before
        self._over = False
        self._begun = False

    @property
    def uidl(self) -> str:
        return names.uidl_of_file(self._draft.name)

    async def write(self, data: bytes) -> None:
        try:
            self._load.add(len(data))
            await self._write(data)
        except NoSpace:  # free the space of what was written, for other messages
            self.abort()
            raise

    async def _write(self, data: bytes) -> None:
        parts = self._draft.parts
        if not self._begun:
            self._begun = True
            if self._envelope.queued and data.startswith(self._envelope.return_path):
                self._before = 0
        if parts and len(parts[-1]) + len(data) <= SMALL:
            parts[-1] += data
        else:
            parts.append(data)
        self._buffered += len(data)
        if self._buffered >= BUFFER:
            await self._floor.check()
            await self._written()
            parts, self._draft.parts = self._draft.parts, []
            self._buffered = 0
            self._writing = start_work(self._executor.run(drafts.append, self._draft, parts))

    async def commit(self) -> None:
        try:
            await self.complete()
            await self._batcher.commit(self._draft)
        except MaildropFullNow:
            raise
        except TemporaryFailure:
            for ref in self._draft.refs:  # one may have been moved away: look it up again
                self._maildrops.forget(ref.path)
            raise
        finally:
            self._load.drop()

    async def complete(self) -> list[Draft]:
        """The text is complete: the drafts to commit.  Raises TemporaryFailure."""
        for ref in self._wanted:
            if isinstance(ref, TemporaryFailure) and not self._draft.apart:
                raise ref
        await self._written()
        self._over = True
        if self._envelope.queued:
            self._seal(self._draft.beside[0] if self._draft.beside else self._draft)
        return [self._draft, *self._draft.beside]

    def _seal(self, draft: Draft) -> None:
        """Make what stands behind the text in the queue."""
        size = self._draft.size + sum(map(len, self._draft.parts))
        message = self._envelope.message(time.time(), size, max(0, self._before))
        draft.queued = message if self._before >= 0 else replace(message, hole=(0, 0))
        draft.trailer = draft.queued.encode()
        draft.final_name = names.with_size(draft.name, size + len(draft.trailer))

    def end(self) -> None:
        """Others committed the drafts that ``complete`` gave, or did not."""
        self._over = True
        self._load.drop()
        if self._writing is not None:
            self._writing.addErrback(lambda _: None)
        if self._draft.fd >= 0:
            start_work(self._executor.run(drafts.drop, self._draft))

    async def commit_each(self) -> list[PostOfficeError | None]:
        self._draft.apart = True
        await self.commit()
        missed = self._draft.missed
        for ref in missed:
            self._maildrops.forget(ref.path)
        return [
            ref
            if isinstance(ref, TemporaryFailure)
            else _failure(missed[ref])
            if ref in missed
            else None
            for ref in self._wanted
        ]

    async def text(self) -> IText:
        await self._written()
        return DraftText(self._executor, self._draft)

    async def prepend(self, fields: bytes) -> None:
        await self._written()
        if self._before >= 0:
            self._before += len(fields)
        if self._draft.fd < 0:
            self._draft.parts.insert(0, fields)
            self._buffered += len(fields)
        else:
            await self._executor.run(drafts.prepend, self._draft, fields)

    def withdraw(self) -> None:
        self._draft.beside.clear()
        self._wanted = self._wanted[:-1]

    def abort(self) -> None:
        if self._over:
            return
        self._over = True
        self._load.drop()
        self._draft.dropped = True
        if self._writing is not None:
            self._writing.addErrback(lambda _: None)
            start_work(self._executor.run(drafts.drop, self._draft))

    async def _written(self) -> None:
        """Wait until the octets before are written.  Raises what failed with them."""
        if self._writing is not None:
            await shield(self._writing)


def _failure(error: Exception) -> PostOfficeError:
    return error if isinstance(error, PostOfficeError) else TemporaryFailure(str(error))


@implementer(IText)
class DraftText:
    """The text that was written so far: first the part on disk, then the part in memory."""

    def __init__(self, executor: Executor, draft: Draft) -> None:
        self._executor = executor
        self._draft = draft
        self._offset = 0
        self._part = 0

    async def read(self) -> bytes:
        if self._offset < self._draft.size:
            octets = await self._executor.run(drafts.read, self._draft, self._offset, BUFFER)
            self._offset += len(octets)
            if octets:
                return octets
        while self._part < len(self._draft.parts):
            self._part += 1
            if octets := self._draft.parts[self._part - 1]:
                return octets
        return b""

    def close(self) -> None:
        self._part = len(self._draft.parts)
        self._offset = self._draft.size
