"""
MailQueue: the queue of a store of Maildirs (IMailQueue).

A message comes into it with a delivery (``delivery``).  The files, and all that blocks, are in
``queue_files``; how a commit takes the messages of several places together is in ``batch``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from postoffice.interfaces import (
    Arrived,
    Executor,
    Finding,
    IDelivery,
    IMailQueue,
    IQueueRepair,
    IText,
)
from postoffice.model.envelope import Envelope
from postoffice.model.errors import MessageGone, NoSpace, TemporaryFailure
from postoffice.model.queued_message import QueuedMessage
from postoffice.store import files, intents, maintenance, names, queue_files
from postoffice.store.batcher import Batcher
from postoffice.store.delivery import MaildirDelivery, MaildropCache
from postoffice.store.drafts import Draft, QueueRemoval
from postoffice.store.expunge import SharedTicket
from postoffice.store.files import MaildropRef
from postoffice.store.pace import Pace
from postoffice.store.queue_files import UnreadableQueueFile
from postoffice.store.queued_text import PIECE, QueuedText, read_piece
from postoffice.store.removal_commits import RemovalCommits
from postoffice.util.batched_calls import BatchedCalls
from postoffice.util.shield import shield, start_work

#: The most messages that are read at once, and the most whose files are unlinked at once.
PAGE = 500
TOGETHER = 64
#: How often a message is looked for that may have been committed.
LOOKS = 3
#: Octets of a file that is read on the reactor's thread, if the disk is quick.
SMALL = 64 << 10


class Watchers:
    """Functions that are called with each new message; if one fails, the others are called too."""

    log = Logger()

    def __init__(self) -> None:
        self._all: list[Arrived] = []
        self.add = self._all.append

    def tell(self, name: str, message: QueuedMessage) -> None:
        """Tell them of a message."""
        for arrived in self._all:
            try:
                arrived(name, message)
            except Exception:
                self.log.failure(
                    "passing on a new message of the queue failed; the next start finds it"
                )


@implementer(IMailQueue, IQueueRepair)
class MailQueue:
    """
    The queue of the store at ``store``.

    It holds at most ``messages`` messages and ``octets`` octets; 0: any number.  Letters of
    our own come in even if it is full, as without them it could not become empty.
    """

    log = Logger()

    def __init__(
        self,
        store: str,
        executor: Executor,
        maildrops: MaildropCache,
        hostname: str,
        messages: int = 0,
        octets: int = 0,
    ) -> None:
        self._store = store
        self._executor = executor
        self._maildrops = maildrops
        self._hostname = hostname
        self._limit = messages, octets
        self._messages = self._octets = 0
        self._marks: dict[str, list[str]] = {}
        self._near = True  # its folder is on the store's file system
        self._watchers = Watchers()
        self._doubted: dict[str, tuple[QueuedMessage, int]] = {}
        self._removals = BatchedCalls(executor, self._remove_all, TOGETHER)

    # -- for the store ---------------------------------------------------------

    def open(self) -> None:
        """Settle what a crash has cut off, and count.  Blocks.  Raises OSError."""
        if not os.path.isdir(f"{self._store}/{queue_files.QUEUE}"):
            return
        queue_files.prepare(self._store)
        folder = f"{self._store}/{queue_files.MESSAGES}"
        self._near = files.is_on(folder, os.stat(self._store).st_dev)
        intents.settle(self._store, self._report)
        sizes, self._marks = queue_files.contents(self._store)
        self._messages, self._octets = len(sizes), sum(sizes.values())

    def _report(self, level: str, text: str) -> None:
        self.log.emit(LogLevel.lookupByName(level), "{text}", text=text)

    def start(self, commits: RemovalCommits | None, batcher: Batcher, pace: Pace) -> None:
        """The store has begun; with a journal, ``commits`` commits removals."""
        self._pace = pace
        self._commits = commits
        self._batcher = batcher

    async def stop(self) -> None:
        """Wait for the removals that are under way."""
        await self._removals.idle()

    def limit(self, messages: int, octets: int) -> None:
        """Hold so many messages and octets at most; 0: any number."""
        self._limit = messages, octets

    def admit(self, envelope: Envelope) -> None:
        """Raises NoSpace if the queue is full."""
        if envelope.sender is None and envelope.client.local:
            return
        for held, most, what in zip(
            (self._messages, self._octets), self._limit, ("messages", "octets"), strict=True
        ):
            if most and held >= most:
                raise NoSpace(f"refused: the queue is full: it holds {held} {what} of {most}")

    async def place(self) -> MaildropRef:
        """Where a message for the queue is put.  Raises TemporaryFailure."""
        return await self._find(queue_files.MESSAGES)

    async def _find(self, folder: str) -> MaildropRef:
        [found] = await self._maildrops.find([f"{self._store}/{folder}"])
        if isinstance(found, TemporaryFailure):
            raise found
        return found

    def came(self, draft: Draft) -> None:
        """A draft was committed to the queue."""
        assert draft.queued is not None
        self._came(draft.final_name, draft.queued)

    def _came(self, name: str, message: QueuedMessage) -> None:
        self._messages += 1
        self._octets += names.size_in(name)
        self._watchers.tell(name, message)

    def doubt(self, drafts: Sequence[Draft]) -> None:
        """Nobody knows whether these were committed, as the process that did it has died."""
        for draft in (one for lead in drafts for one in (lead, *lead.beside)):
            if draft.queued is not None:
                self._doubted[draft.final_name] = draft.queued, LOOKS
        if self._doubted and self._commits is None:  # no checkpoint will come
            start_work(self.look_for_doubted()).addErrback(self._look_failed)

    def _look_failed(self, why: Failure) -> None:
        self.log.failure("looking for messages in the queue failed; the next start finds them", why)

    async def look_for_doubted(self) -> None:
        """Look whether messages came into the queue after all; a checkpoint may apply them."""
        if self._doubted:
            there = await self._executor.run(self._which_are_there, list(self._doubted))
            for name, (message, looks) in list(self._doubted.items()):
                if name in there or looks == 1:
                    del self._doubted[name]
                else:
                    self._doubted[name] = message, looks - 1
                if name in there:
                    self._came(name, message)

    def _which_are_there(self, names: Sequence[str]) -> set[str]:
        paths = {name: queue_files.path_of(self._store, name) for name in names}
        return {name for name, path in paths.items() if os.path.exists(path)}

    # -- IMailQueue ------------------------------------------------------------

    def watch(self, arrived: Arrived) -> None:
        self._watchers.add(arrived)

    async def names(self) -> list[str]:
        return await self._executor.run(self._names)

    def _names(self) -> list[str]:
        with files.failures(self._store):
            return queue_files.listing(self._store)

    async def read(self, names: Sequence[str]) -> list[QueuedMessage | None]:
        found: list[QueuedMessage | None] = []
        for start in range(0, len(names), PAGE):
            page = names[start : start + PAGE]
            marks = [tuple(self._marks.get(name, ())) for name in page]
            read = await self._executor.run(self._read, page, marks)
            for name, one in zip(page, read, strict=True):
                if isinstance(one, UnreadableQueueFile):
                    await self._give_up(name, one)
                    one = None
                found.append(one)
        return found

    def _read(
        self, page: Sequence[str], marks: Sequence[Sequence[str]]
    ) -> list[QueuedMessage | UnreadableQueueFile | None]:
        found: list[QueuedMessage | UnreadableQueueFile | None] = []
        with files.failures(self._store):
            for name, its in zip(page, marks, strict=True):
                try:
                    found.append(queue_files.read(self._store, name, its))
                except UnreadableQueueFile as why:
                    found.append(why)
        return found

    async def _give_up(self, name: str, why: UnreadableQueueFile) -> None:
        try:
            await self.set_aside(name, str(why))
        except TemporaryFailure as error:
            self.log.error("setting {name} aside failed: {error}", name=name, error=error)

    async def text(self, name: str) -> IText:
        if self._near and self._pace.quick and 0 < names.size_in(name) <= SMALL:
            with self._pace.short():
                opened = self._open(name)
        else:
            opening = start_work(self._executor.run(self._open, name))
            opened = await shield(opening, _close)
        return QueuedText(self._executor, *opened)

    def _open(self, name: str) -> tuple[int, bytes, list[tuple[int, int]]]:
        """
        Open a message's file; read its first piece, and say which octets are left.

        The file is closed, -1, if none are.
        """
        with files.failures(name):
            try:
                fd, message = queue_files.open_message(self._store, name)
            except (FileNotFoundError, UnreadableQueueFile) as error:
                raise MessageGone(f"{name} is not in the queue: {error}") from error
            try:
                start, length = message.hole
                first, left = read_piece(fd, [(0, start), (start + length, message.size)])
                while left and len(first) < PIECE:
                    more, left = read_piece(fd, left)
                    first += more
                if not left:
                    os.close(fd)
                    fd = -1
            except BaseException:
                os.close(fd)
                raise
        return fd, first, left

    async def finish(
        self,
        name: str,
        done: Collection[int],
        told: Collection[int] = (),
        letters: Sequence[IDelivery] = (),
        *,
        whole: bool,
    ) -> None:
        begun = [letter for letter in letters if isinstance(letter, MaildirDelivery)]
        if len(begun) < len(letters):
            raise TypeError("a letter was begun elsewhere")
        if whole and not begun:
            finishing = self._remove_sent(name)
        else:
            finishing = self._finish(name, done, told, begun, whole=whole)
        await shield(Deferred.fromCoroutine(finishing))

    async def _remove_sent(self, name: str) -> None:
        """Remove a message: with a batch that comes in, or with others that go."""
        removal = self._removal(name)
        if self._commits is None or not await self._batcher.remove_too(removal):
            await self._removals.add(removal)
        self._gone(name, removal)

    async def _finish(
        self,
        name: str,
        done: Collection[int],
        told: Collection[int],
        letters: Sequence[MaildirDelivery],
        *,
        whole: bool,
    ) -> None:
        """Commit letters, and the removal or a mark, all or nothing."""
        try:
            group = [draft for letter in letters for draft in await letter.complete()]
            removal = self._removal(name) if whole else None
            mark = None if whole else await self._mark(name, done, told)
            group += [mark] if mark is not None else []
            lead, *others = group
            lead.beside, lead.removal = others, removal
            if letters and self._commits is None:
                lead.intent = await self._intent()
            await self._batcher.commit(lead)
        finally:
            for letter in letters:
                letter.end()
        if mark is not None:
            self._marks.setdefault(name, []).append(mark.final_name)
        if removal is not None:
            self._gone(name, removal)

    def _removal(self, name: str) -> QueueRemoval:
        return queue_files.removal_of(self._store, name, self._marks.get(name, ()))

    def _gone(self, name: str, removal: QueueRemoval) -> None:
        self._marks.pop(name, None)
        if removal.there:
            self._messages -= 1
            self._octets -= names.size_in(name)

    def _remove_all(self, removals: Sequence[QueueRemoval]) -> list[Exception | None]:
        """Remove messages: commit, and unlink; for each, None or its error."""
        tickets: Sequence[SharedTicket | None] = [None] * len(removals)
        if self._commits is not None:
            with files.failures(queue_files.QUEUE):
                tickets = self._commits.commit_all([one.record for one in removals])
        return queue_files.carry_out_all(list(zip(removals, tickets, strict=True)))

    async def _mark(self, name: str, done: Collection[int], told: Collection[int]) -> Draft:
        mark = f"{name}{queue_files.MARK}{secrets.token_hex(4)}"
        text = queue_files.mark_text(done, told)
        place = await self._find(queue_files.MARKS)
        return Draft([place], mark, parts=[text], final_name=mark, turn=1)

    async def _intent(self) -> str:
        """The path of a new intent."""
        await self._executor.run(self._prepare)
        return f"{self._store}/{queue_files.INTENTS}/{names.new_name(self._hostname)}"

    def _prepare(self) -> None:
        with files.failures(self._store):
            queue_files.prepare(self._store)

    async def set_aside(self, name: str, why: str) -> None:
        await shield(Deferred.fromCoroutine(self._set_aside(name, why)))

    async def _set_aside(self, name: str, why: str) -> None:
        removal = self._removal(name)
        run = self._executor.run
        if await run(queue_files.keep_aside, self._store, name, removal, why):
            await self._removals.add(removal)
            self._gone(name, removal)
            self.log.error(
                "{name} was taken out of the queue, and set aside: {why}", name=name, why=why
            )

    async def repair(self) -> list[Finding]:
        folders = (queue_files.MESSAGES, queue_files.MARKS)
        paths = [f"{self._store}/{folder}" for folder in folders]
        check, run = maintenance.check_set_aside, self._executor.run
        return [one for path in paths for one in await run(check, path, True) if one.mended]

    async def usage(self) -> tuple[int, int]:
        return self._messages, self._octets


def _close(opened: tuple[int, bytes, list[tuple[int, int]]]) -> None:
    if opened[0] >= 0:
        os.close(opened[0])
