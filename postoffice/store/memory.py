"""A store in memory, for tests, first tries and embedding.  Nothing is kept when it stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import count

from zope.interface import implementer

from postoffice.interfaces import (
    IDelivery,
    IMaildrop,
    IMailStore,
    IQueuedDelivery,
    IQueueStore,
    IRetention,
    IText,
)
from postoffice.model.address import Account, Quota
from postoffice.model.envelope import Envelope
from postoffice.model.errors import LoginTooSoon, MaildropLocked, MessageGone, PostOfficeError
from postoffice.model.listing import Entry, Listing
from postoffice.model.mail_policy import KeepTimes
from postoffice.protocol.downgrade import size_of_text
from postoffice.store.memory_queue import MemoryQueue
from postoffice.store.quota.maildirsize import full
from postoffice.store.text import Normalizer


class _Drop:
    """One maildrop: texts by UIDL, and whether a session holds it."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}
        self.came: dict[str, float] = {}
        self.collected: dict[str, dict[str, float]] = {}
        self.downgraded: dict[str, int] = {}  # of those that need it, as in Entry
        self.seen: set[str] = set()
        self.locked = False
        self.login = 0.0

    def time_collected(self, uidl: str, devices: frozenset[str] | None) -> float | None:
        """When the last of ``devices`` (None: the first of any) fetched a message, or None."""
        had = self.collected.get(uidl, {})
        if devices is None:
            return min(had.values(), default=None)
        every = devices | {""} if "" in self.seen or not devices else devices
        return max(had[one] for one in every) if had.keys() >= every else None

    def is_due(self, uidl: str, keep: KeepTimes, now: float) -> bool:
        """Whether a message has expired."""
        if keep.arrived is not None and now - self.came[uidl] >= keep.arrived:
            return True
        collected = self.time_collected(uidl, keep.devices)
        return (
            keep.collected is not None
            and collected is not None
            and now - collected >= keep.collected
        )

    def remove(self, uidls: Sequence[str]) -> None:
        """Remove messages; one that is gone already counts as removed."""
        for uidl in uidls:
            self.texts.pop(uidl, None)
            self.came.pop(uidl, None)
            self.collected.pop(uidl, None)
            self.downgraded.pop(uidl, None)


@implementer(IMailStore, IQueueStore, IRetention)
class MemoryStore:
    """
    Maildrops in dictionaries, and a queue for at most ``queued`` messages, 0 for any number.

    ``now`` returns the seconds since 1970.
    """

    def __init__(self, now: Callable[[], float] = time.time, queued: int = 0) -> None:
        self.now = now
        self.queue = MemoryQueue(MemoryText, queued)
        self._drops: dict[str, _Drop] = {}
        self._numbers = count(1)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self._drops.clear()

    async def begin(self, envelope: Envelope) -> IDelivery:
        if envelope.queued:
            self.queue.admit(envelope)
        return MemoryDelivery(self, envelope)

    async def admit(self, account: Account, size: int) -> None:
        messages, octets = await self.count(account.maildrop)
        if account.quota.over == "make-room":
            octets = messages = 0  # they go
        if not account.quota.holds(octets + size, messages + 1):
            raise full(account.maildrop, account.quota, size)

    def maildrop(self, name: str) -> IMaildrop:
        return MemoryMaildrop(self, name)

    async def count(self, name: str) -> tuple[int, int]:
        texts = self._drops[name].texts if name in self._drops else {}
        return len(texts), sum(map(len, texts.values()))

    async def discard(self, name: str, keep: bool) -> str:
        drop = self._drops.get(name)
        if drop is None:
            return ""
        if drop.locked:
            raise MaildropLocked
        del self._drops[name]
        if not keep:
            return ""
        aside = f"{name}, removed {next(self._numbers)}"
        self._drops[aside] = drop
        return aside

    async def collect(
        self, name: str, entries: Sequence[Entry], device: str, devices: frozenset[str] | None
    ) -> list[Entry]:
        drop = self.drop(name)
        drop.seen.add(device)
        for entry in entries:
            drop.collected.setdefault(entry.uidl, {}).setdefault(device, self.now())
        return [one for one in entries if drop.time_collected(one.uidl, devices) is not None]

    async def expire(self, name: str, keep: KeepTimes, dry: bool) -> tuple[int, int]:
        drop = self.drop(name)
        going = [uidl for uidl in drop.texts if drop.is_due(uidl, keep, self.now())]
        octets = sum(len(drop.texts[uidl]) for uidl in going)
        if going and not dry:
            if drop.locked:
                raise MaildropLocked
            drop.remove(going)
        return len(going), octets

    def drop(self, name: str) -> _Drop:
        """The maildrop of this name, made when first needed."""
        return self._drops.setdefault(name, _Drop())

    def new_uidl(self) -> str:
        """A UIDL that was never used."""
        return f"memory-{next(self._numbers)}"


@implementer(IDelivery, IQueuedDelivery)
class MemoryDelivery:
    """One message on its way in."""

    def __init__(self, store: MemoryStore, envelope: Envelope) -> None:
        self._store = store
        self._envelope = envelope
        self._accounts = [one.account for one in envelope.recipients]
        self._before = 0
        self._parts: list[bytes] = []
        self.uidl = ""

    async def write(self, data: bytes) -> None:
        self._parts.append(data)

    async def commit(self) -> None:
        text = self._text()
        for account in self._accounts:
            if not self._fits(account, text):
                alone = len({one.maildrop for one in self._accounts}) == 1
                raise full(account.maildrop, account.quota, len(text), alone=alone)
        self._post(text, self._accounts)

    async def commit_each(self) -> list[PostOfficeError | None]:
        text = self._text()
        fitting = [one for one in self._accounts if self._fits(one, text)]
        self._post(text, fitting)
        outcomes: list[PostOfficeError | None] = [
            None if one in fitting else full(one.maildrop, one.quota, len(text))
            for one in self._accounts
        ]
        return [*outcomes, None] if self._envelope.queued else outcomes

    def _text(self) -> bytes:
        normalizer = Normalizer()
        return b"".join([*map(normalizer.feed, self._parts), normalizer.end()])

    def _fits(self, account: Account, text: bytes) -> bool:
        drop, quota = self._store.drop(account.maildrop), account.quota
        if quota.over == "make-room" and not drop.locked and quota.holds(len(text), 1):
            while not self._has_room(drop, quota, len(text)):
                del drop.texts[next(iter(drop.texts))]
        return self._has_room(drop, quota, len(text))

    def _has_room(self, drop: _Drop, quota: Quota, size: int) -> bool:
        held = sum(map(len, drop.texts.values()))
        return quota.holds(held + size, len(drop.texts) + 1)

    def _post(self, text: bytes, accounts: Sequence[Account]) -> None:
        uidl = self.uidl = self._store.new_uidl()
        downgraded = size_of_text(text)
        for account in accounts:
            drop = self._store.drop(account.maildrop)
            drop.texts[uidl], drop.came[uidl] = text, self._store.now()
            if downgraded is not None:
                drop.downgraded[uidl] = downgraded
        if self._envelope.queued:
            self._store.queue.put(self._envelope, text, self._before, self._store.now())

    async def text(self) -> IText:
        return MemoryText(b"".join(self._parts))

    async def prepend(self, fields: bytes) -> None:
        self._parts.insert(0, fields)
        self._before += len(fields)

    def withdraw(self) -> None:
        """The envelope says so, too."""

    def abort(self) -> None:
        self._parts.clear()


@implementer(IMaildrop)
class MemoryMaildrop:
    """One maildrop, for one session."""

    def __init__(self, store: MemoryStore, name: str) -> None:
        self._drop = store.drop(name)
        self._now = store.now
        self._holds = False

    async def open(self, login_delay: float = 0) -> Listing:
        if 0 <= self._now() - self._drop.login < login_delay:
            raise LoginTooSoon
        if self._drop.locked:
            raise MaildropLocked
        self._drop.login = self._now()
        self._drop.locked = self._holds = True
        downgraded = self._drop.downgraded
        return Listing(
            tuple(
                Entry(uidl, len(text), downgraded=downgraded.get(uidl))
                for uidl, text in self._drop.texts.items()
            )
        )

    async def fetch(self, entry: Entry) -> IText:
        if entry.uidl not in self._drop.texts:
            raise MessageGone(entry.uidl)
        return MemoryText(self._drop.texts[entry.uidl])

    async def remove(self, entries: Sequence[Entry], session: str = "") -> None:
        self._drop.remove([entry.uidl for entry in entries])

    def release(self) -> None:
        if self._holds:
            self._drop.locked = self._holds = False


@implementer(IText)
class MemoryText:
    """A text in memory, read in one piece."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    async def read(self) -> bytes:
        text, self._text = self._text, b""
        return text

    def close(self) -> None:
        self._text = b""
