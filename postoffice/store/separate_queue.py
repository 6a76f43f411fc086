"""
A queue for a store that has none (a plugin's): it lies in a store of Maildirs of its own.

Two stores have no commit in common.  A message for both is committed to the queue first, and
nobody sends it before the maildrops have it; if they fail, it leaves the queue again.  A crash
in between leaves it in the queue, although the sender was not told so and sends it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from postoffice.interfaces import (
    Arrived,
    IDelivery,
    IDestination,
    IMailQueue,
    IMailStore,
    IQueuedDelivery,
    IQueueRepair,
    IQueueStore,
    IText,
)
from postoffice.model.address import Account
from postoffice.model.envelope import Envelope
from postoffice.model.errors import PostOfficeError
from postoffice.model.queued_message import QueuedMessage
from postoffice.store.delivery import MaildirDelivery
from postoffice.store.mail_queue import MailQueue, Watchers
from postoffice.store.maildir_store import MaildirStore
from postoffice.store.names import uidl_of_file
from postoffice.util.shield import shield

T = TypeVar("T")


@implementer(IDestination, IQueueStore)
class StoreWithQueue:
    """The maildrops of ``store``, and the queue of ``beside``, as one destination."""

    def __init__(self, store: IMailStore, beside: MaildirStore) -> None:
        self._store = store
        self._beside = beside
        self.queue = SeparateQueue(beside.queue)

    async def start(self) -> None:
        """Start the queue's store; the other was started."""
        await self._beside.start()

    async def stop(self) -> None:
        """Stop the queue's store."""
        await self._beside.stop()

    async def admit(self, account: Account, size: int) -> None:
        await self._store.admit(account, size)

    async def begin(self, envelope: Envelope) -> IDelivery:
        if not envelope.queued:
            return await self._store.begin(envelope)
        queued = await self._beside.begin(replace(envelope, recipients=[]))
        assert isinstance(queued, MaildirDelivery)
        if not envelope.recipients:
            return queued
        try:
            local = await self._store.begin(replace(envelope, queued=[]))
        except BaseException:
            queued.abort()
            raise
        return DeliveryToBoth(queued, local, self.queue)


@implementer(IMailQueue, IQueueRepair)
class SeparateQueue:
    """
    The queue: a message that is for maildrops too is told to nobody before these have it.

    Letters to maildrops of the other store are committed before what they report.
    """

    log = Logger()

    def __init__(self, queue: MailQueue) -> None:
        self._queue = queue
        self._watchers = Watchers()
        self._waiting: dict[str, tuple[str, QueuedMessage] | None] = {}
        self.names, self.read, self.text = queue.names, queue.read, queue.text
        self.set_aside, self.usage, self.limit = queue.set_aside, queue.usage, queue.limit
        self.repair = queue.repair
        queue.watch(self._came)

    def watch(self, arrived: Arrived) -> None:
        self._watchers.add(arrived)

    def _came(self, name: str, message: QueuedMessage) -> None:
        uidl = uidl_of_file(name)
        if uidl in self._waiting:
            self._waiting[uidl] = name, message
        else:
            self._watchers.tell(name, message)

    def wait_for(self, uidl: str) -> None:
        """Do not tell of this message before ``release``."""
        self._waiting[uidl] = None

    def release(self, uidl: str) -> None:
        """The maildrops have it, or it did not come into the queue."""
        came = self._waiting.pop(uidl)
        if came is not None:
            self._came(*came)

    async def take_back(self, uidl: str) -> None:
        """The maildrops do not have it: it leaves the queue."""
        came = self._waiting.pop(uidl)
        if came is not None:
            try:
                await self._queue.finish(came[0], (), whole=True)
            except PostOfficeError as error:
                self.log.error(
                    "{name} stays in the queue, although its delivery failed: {error}",
                    name=came[0],
                    error=error,
                )

    async def finish(
        self,
        name: str,
        done: Collection[int],
        told: Collection[int] = (),
        letters: Sequence[IDelivery] = (),
        *,
        whole: bool,
    ) -> None:
        ours = []
        for letter in letters:
            if isinstance(letter, DeliveryToBoth):
                await letter.local.commit()
                ours.append(letter.queued)
            elif isinstance(letter, MaildirDelivery):
                ours.append(letter)
            else:
                await letter.commit()
        await self._queue.finish(name, done, told, ours, whole=whole)


@implementer(IDelivery, IQueuedDelivery)
class DeliveryToBoth:
    """One message for the queue and for maildrops of another store."""

    def __init__(self, queued: MaildirDelivery, local: IDelivery, queue: SeparateQueue) -> None:
        self.queued = queued
        self.local = local
        self._queue = queue
        self._withdrawn = False

    @property
    def uidl(self) -> str:
        return getattr(self.local, "uidl", "")

    async def write(self, data: bytes) -> None:
        await self.queued.write(data)
        await self.local.write(data)

    def withdraw(self) -> None:
        self._withdrawn = True
        self.queued.abort()

    async def commit(self) -> None:
        if self._withdrawn:
            return await self.local.commit()
        return await shield(Deferred.fromCoroutine(self._commit(self.local.commit)))

    async def commit_each(self) -> list[PostOfficeError | None]:
        if self._withdrawn:
            return list(await self.local.commit_each())
        outcomes = await shield(Deferred.fromCoroutine(self._commit(self.local.commit_each)))
        return [*outcomes, None]

    async def _commit(self, commit: Callable[[], Awaitable[T]]) -> T:
        """Commit to the queue, then to the maildrops; only then the queue's message is told of."""
        uidl = self.queued.uidl
        self._queue.wait_for(uidl)
        try:
            await self.queued.commit()
        except BaseException:
            self._queue.release(uidl)
            self.local.abort()
            raise
        try:
            outcome = await commit()
        except BaseException:
            await self._queue.take_back(uidl)
            raise
        self._queue.release(uidl)
        return outcome

    async def text(self) -> IText:
        return await self.queued.text()

    async def prepend(self, fields: bytes) -> None:
        if not self._withdrawn:
            await self.queued.prepend(fields)
        await self.local.prepend(fields)

    def abort(self) -> None:
        self.queued.abort()
        self.local.abort()
