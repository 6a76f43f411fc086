"""Deliveries into Maildirs: large ones go to disk as they arrive, small ones in groups."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from postoffice.errors import MaildropFullNow, PostOfficeError, TemporaryFailure
from postoffice.interfaces import IDelivery, IText, Workers
from postoffice.maildrop import drafts, files, groups
from postoffice.maildrop.drafts import Draft
from postoffice.maildrop.files import Place
from postoffice.maildrop.journal import Journal
from postoffice.maildrop.waiting import outcome_of, running
from postoffice.maildrop.warden import Warden

#: Octets of a text that are kept before they go to disk; there may be twice as many.
BUFFER = 256 << 10
#: Pieces of it up to so many octets are joined: each has an object of its own.
SMALL = 4096
#: How many small messages are placed by one call of a worker, and how many calls run at once:
#: more of them place no more messages, and cost more CPU each.
GROUP = 32
GROUP_SIZE = 4 << 20  # octets, or one message
GROUPS = 2
#: How many large ones are placed at once; each alone, nobody else waits for its sync.
LARGE = 4


class Places:
    """Where maildrops are that had mail lately: found once, not for every delivery."""

    #: How many are remembered.
    LIMIT = 20_000

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._known: OrderedDict[str, Place] = OrderedDict()

    async def find(self, folders: Sequence[str]) -> list[Place | TemporaryFailure]:
        """
        Where they are, or what is in the way; what is missing is made.

        A maildrop that was taken away, and may be there anew, is found anew: one
        look at a folder costs less than a trip to a worker, and waits for no disk.
        """
        missing = [folder for folder in folders if not files.is_there(self._known.get(folder))]
        wrong: dict[str, TemporaryFailure] = {}
        if missing:
            found = await self._workers.run(files.find, missing)
            for folder, outcome in zip(missing, found, strict=True):
                if isinstance(outcome, Place):
                    self._known[folder] = outcome
                else:
                    wrong[folder] = outcome
        places = [wrong.get(folder) or self._known[folder] for folder in folders]
        for folder in folders:
            if folder not in wrong:
                self._known.move_to_end(folder)
        while len(self._known) > self.LIMIT:
            self._known.popitem(last=False)
        return places

    def forget(self, folder: str) -> None:
        """Look again next time."""
        self._known.pop(folder, None)


_Waiting = tuple[Draft, Deferred[None]]


class _Queue:
    """Messages that wait, to be taken ``size`` at a time by ``most`` workers."""

    def __init__(self, size: int, most: int) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.groups = 0  # that are being placed
        self._size = size
        self._most = most

    def next_group(self) -> list[_Waiting]:
        """Those that go together now; none while all workers are at it."""
        if self.groups >= self._most or not self.waiting:
            return []
        self.groups += 1
        group: list[_Waiting] = []
        size = 0
        while self.waiting and len(group) < self._size and (not group or size < GROUP_SIZE):
            group.append(self.waiting.popleft())
            size += sum(map(len, group[-1][0].parts))
        return group


class Placing:
    """Messages that are whole wait here, and are placed together: the disk syncs once for many."""

    def __init__(
        self,
        workers: Workers,
        journal: Journal | None = None,
        warden: Warden | None = None,
        placed: Callable[[Sequence[Draft]], None] = lambda _: None,
    ) -> None:
        self._workers = workers
        self._journal = journal
        self._warden = warden
        self._placed = placed  # told of a group, before anybody hears of it
        self._small = _Queue(GROUP, GROUPS)
        self._large = _Queue(1, LARGE)
        self._idle: Deferred[None] | None = None

    def place(self, draft: Draft) -> Deferred[None]:
        """Place a message; given up in time, it is placed nowhere."""

        def given_up(_: Deferred[None]) -> None:
            draft.dropped = True

        placed: Deferred[None] = Deferred(given_up)
        queue = self._small if draft.fd < 0 else self._large
        queue.waiting.append((draft, placed))
        self._begin_groups(queue)
        return placed

    def finished(self) -> Deferred[None]:
        """Fires when no message waits any more."""
        if not self._busy():
            return succeed(None)
        self._idle = Deferred()
        return self._idle

    def _busy(self) -> int:
        return self._small.groups + self._large.groups

    def _begin_groups(self, queue: _Queue) -> None:
        while group := queue.next_group():
            Deferred.fromCoroutine(self._place(queue, group))

    async def _place(self, queue: _Queue, group: list[_Waiting]) -> None:
        outcomes: list[Exception | None]
        try:
            wanted = [draft for draft, _ in group]
            outcomes = await self._workers.run(groups.place, wanted, self._journal, self._warden)
        except Exception as bug:
            outcomes = [bug] * len(group)
        queue.groups -= 1
        self._begin_groups(queue)
        both = zip(group, outcomes, strict=True)
        self._placed([draft for (draft, _), outcome in both if outcome is None])
        for (_, placed), outcome in zip(group, outcomes, strict=True):
            if placed.called:  # given up
                continue
            if outcome is None:
                placed.callback(None)
            else:
                placed.errback(outcome)
        if self._idle is not None and not self._busy():
            idle, self._idle = self._idle, None
            idle.callback(None)


@implementer(IDelivery)
class MaildirDelivery:
    """One message on its way in."""

    def __init__(
        self,
        workers: Workers,
        places: Places,
        placing: Placing,
        draft: Draft,
        wanted: Sequence[Place | TemporaryFailure],
    ) -> None:
        self._wanted = wanted  # by each recipient
        self._workers = workers
        self._places = places
        self._placing = placing
        self._draft = draft
        self._buffered = 0
        self._writing: Deferred[None] | None = None  # the octets before, on their way to disk
        self._over = False

    async def write(self, data: bytes) -> None:
        parts = self._draft.parts
        if parts and len(parts[-1]) + len(data) <= SMALL:
            parts[-1] += data
        else:
            parts.append(data)
        self._buffered += len(data)
        if self._buffered >= BUFFER:
            await self._written()
            parts, self._draft.parts = self._draft.parts, []
            self._buffered = 0
            self._writing = running(self._workers.run(drafts.append, self._draft, parts))

    async def commit(self) -> None:
        for place in self._wanted:
            if isinstance(place, TemporaryFailure):
                raise place
        await self._commit()

    async def _commit(self) -> None:
        try:
            await self._written()
            self._over = True
            await self._placing.place(self._draft)
        except MaildropFullNow:
            raise
        except TemporaryFailure:
            for place in self._draft.places:  # they may have been taken away: look again next time
                self._places.forget(place.path)
            raise

    async def commit_each(self) -> list[PostOfficeError | None]:
        self._draft.apart = True
        await self._commit()
        missed = self._draft.missed
        for place in missed:
            self._places.forget(place.path)
        return [
            place
            if isinstance(place, TemporaryFailure)
            else _failure(missed[place])
            if place in missed
            else None
            for place in self._wanted
        ]

    async def text(self) -> IText:
        await self._written()
        return DraftText(self._workers, self._draft)

    async def prepend(self, fields: bytes) -> None:
        await self._written()
        if self._draft.fd < 0:
            self._draft.parts.insert(0, fields)
            self._buffered += len(fields)
        else:
            await self._workers.run(drafts.prepend, self._draft, fields)

    def abort(self) -> None:
        if self._over:
            return
        self._over = True
        self._draft.dropped = True
        if self._writing is not None:
            self._writing.addErrback(lambda _: None)
            running(self._workers.run(drafts.drop, self._draft))

    async def _written(self) -> None:
        """Wait for the octets before; what went wrong with them is raised."""
        if self._writing is not None:
            await outcome_of(self._writing)


def _failure(error: Exception) -> PostOfficeError:
    return error if isinstance(error, PostOfficeError) else TemporaryFailure(str(error))


@implementer(IText)
class DraftText:
    """What was written so far: first what is on disk, then what is in memory."""

    def __init__(self, workers: Workers, draft: Draft) -> None:
        self._workers = workers
        self._draft = draft
        self._offset = 0
        self._part = 0

    async def read(self) -> bytes:
        if self._offset < self._draft.size:
            octets = await self._workers.run(drafts.read, self._draft, self._offset, BUFFER)
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
