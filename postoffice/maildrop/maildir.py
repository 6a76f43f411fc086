"""The store of Maildirs: ``path/DOMAIN/LOCALPART``."""

from __future__ import annotations

import os
import time

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from postoffice.envelope import Envelope
from postoffice.interfaces import IDelivery, IMaildrop, IMailStore, Workers
from postoffice.maildrop import clearing, contents, files, names
from postoffice.maildrop.collecting import Maildir
from postoffice.maildrop.drafts import Draft
from postoffice.maildrop.posting import MaildirDelivery, Places, Placing
from postoffice.maildrop.remembered import Listings, Sizes, Snapshot


@implementer(IMailStore)
class MaildirStore:
    """A folder of Maildirs; ``hostname`` stands in the names of messages."""

    log = Logger()

    def __init__(self, path: str, workers: Workers, *, hostname: str) -> None:
        self._path = path
        self._workers = workers
        self._hostname = hostname
        self._places = Places(workers)
        self._placing = Placing(workers)
        self._sizes = Sizes()
        self._listings = Listings()
        self._sweeping: Deferred[None] | None = None

    async def start(self) -> None:
        await self._workers.run(files.prepare, self._path)
        self._sweeping = Deferred.fromCoroutine(self.sweep())
        self._sweeping.addErrback(self._sweep_failed)

    async def stop(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._placing.finished()

    async def begin(self, envelope: Envelope) -> IDelivery:
        folders = [self._folder(one.account.maildrop) for one in envelope.recipients]
        unique = list(dict.fromkeys(folders))
        places = await self._places.find(unique)
        found = dict(zip(unique, places, strict=True))
        draft = Draft(places, names.new_name(self._hostname))
        return MaildirDelivery(
            self._workers, self._places, self._placing, draft, [found[one] for one in folders]
        )

    def maildrop(self, name: str) -> IMaildrop:
        return Maildir(self._folder(name), self._workers, self._sizes, self._listings)

    async def count(self, name: str) -> tuple[int, int]:
        return await self._workers.run(self._count, self._folder(name))

    def _count(self, folder: str) -> tuple[int, int]:
        if not os.path.isdir(folder):
            return 0, 0
        snapshot: Snapshot = contents.scan(folder, self._sizes, self._listings.get(folder))
        return len(snapshot.entries), sum(entry.size for entry in snapshot.entries)

    async def discard(self, name: str, keep: bool) -> str:
        place = names.folder_of(name)
        try:
            return await self._workers.run(clearing.discard, self._path, place, keep)
        finally:
            self._listings.forget(self._folder(name))
            self._places.forget(self._folder(name))

    def _folder(self, name: str) -> str:
        return f"{self._path}/{names.folder_of(name)}"

    async def sweep(self) -> None:
        """Clean up behind a crash, ours or another program's: gently, one maildrop at a time."""
        swept = 0
        for folder in await self._workers.run(clearing.maildrops, self._path):
            swept += await self._workers.run(clearing.sweep, folder, time.time())
        await self._workers.run(clearing.sweep_removed, self._path, time.time())
        if swept:
            self.log.info("swept {swept} leftovers out of the store", swept=swept)

    def _sweep_failed(self, why: Failure) -> None:
        if not isinstance(why.value, CancelledError):
            self.log.failure("sweeping the store", failure=why)
