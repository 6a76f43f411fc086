"""
OpenMaildir: one maildrop, opened by one session (IMaildrop).

It holds the maildrop's lock and listing, and reads small messages several at a time.  It
decides what runs on the reactor's thread (work that is known to be quick) and
what on an executor's.  Files are listed and read by ``maildir``, removed by
``expunge``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from postoffice.interfaces import Executor, IMaildrop, IText
from postoffice.model import log_events
from postoffice.model.errors import MaildropChanging, MaildropLocked, MessageGone
from postoffice.model.listing import Entries, Entry, Indexed, Listing
from postoffice.model.log_event import tell
from postoffice.store import expunge, files, maildir, names, oddities
from postoffice.store.context import StoreContext
from postoffice.store.listing_cache import Snapshot
from postoffice.store.oddities import OddFile
from postoffice.store.pace import Limit, TakesLong
from postoffice.store.quota import maildirsize
from postoffice.store.removal import Removal
from postoffice.store.text import pieces
from postoffice.util.shield import shield, start_work

log = Logger("postoffice")
T = TypeVar("T")

#: The most octets of a message that is read as a whole; of all that are read together.
SMALL = 64 << 10
AHEAD = 128 << 10
#: Seconds that a login waits while the session before still unlinks messages; between two tries.
PATIENCE = 20.0
TICK = 0.05

#: A maildrop before it is listed.
_NOTHING = Snapshot(Entries(), None)


@implementer(IMaildrop)
class OpenMaildir:
    """The mail of one account, for one session."""

    log = Logger()

    def __init__(self, folder: str, context: StoreContext) -> None:
        self._folder = folder
        self._context = context
        self._executor = context.executor
        self._sizes = context.sizes
        self._listings = context.listings
        self._lock = -1
        self._released = False
        self._removing = False
        self._snapshot = _NOTHING
        # the position after the last entry that was read: is the client fetching in order?
        self._next = 0

    async def open(self, login_delay: float = 0) -> Listing:
        self._released = False
        clock = self._context.clock
        until = clock.seconds() + PATIENCE
        remembered = self._listings.get(self._folder)
        while True:
            since = self._listings.moment
            try:
                self._lock, snapshot = await self._open_quickly(login_delay)
                break
            except MaildropChanging:
                if clock.seconds() > until:
                    raise
                await deferLater(clock, TICK)
        if remembered is not snapshot:
            self._listings.remember(self._folder, snapshot, since)
            self._tell(snapshot, () if remembered is None else remembered.odd)
        self._snapshot = snapshot
        return Listing(snapshot.entries)

    async def _open_quickly(self, login_delay: float) -> tuple[int, Snapshot]:
        """Open on this thread if that is quick, else on an executor's."""
        pace = self._context.pace
        if pace.may_stay(self._folder):
            with suppress(TakesLong), pace.short() as limit:
                return self._open(login_delay, limit)
        opening = start_work(self._executor.run(self._get_to_know_and_open, login_delay))
        return await shield(opening, _close_first)

    def _get_to_know_and_open(self, login_delay: float) -> tuple[int, Snapshot]:
        self._context.pace.get_to_know(self._folder)
        return self._open(login_delay)

    def _open(self, login_delay: float, limit: Limit | None = None) -> tuple[int, Snapshot]:
        try:
            lock = expunge.lock(self._context.journal, self._folder, limit, self._context.report)
        except MaildropLocked:  # LoginTooSoon goes first: such a login neither waits nor takes over
            files.check_delay(f"{self._folder}/{files.LOCK}", login_delay)
            raise
        try:
            files.check_delay(lock, login_delay)
            remembered = self._listings.get(self._folder)
            snapshot = maildir.scan(self._folder, self._sizes, remembered, limit)
            if limit is not None and snapshot.twins and snapshot is not remembered:
                raise TakesLong
            if snapshot.twins and snapshot is not remembered and self._part(snapshot):
                snapshot = maildir.scan(self._folder, self._sizes, snapshot)
            with suppress(OSError):  # the next count finds the difference
                if snapshot is not remembered and not maildirsize.agrees(
                    self._folder, snapshot.files, snapshot.entries.octets
                ):
                    maildirsize.forget(self._folder)
            with suppress(OSError):
                files.log_in(lock)
            return lock, snapshot
        except BaseException:
            os.close(lock)
            raise

    def _part(self, snapshot: Snapshot) -> int:
        return oddities.separate(self._folder, snapshot.entries, snapshot.twins)

    def _tell(self, snapshot: Snapshot, known: Sequence[OddFile]) -> None:
        """Log that files are not served, if any are new: one line, however many files."""
        if new := [one for one in snapshot.odd if one not in known]:
            facts = {"messages": len(snapshot.odd), "file": new[0].subpath, "why": new[0].why}
            maildrop = names.maildrop_of(self._folder)
            tell(log, log_events.ODD_FILES, maildrop=maildrop, **facts)

    async def fetch(self, entry: Entry) -> IText:
        position = entry.position if isinstance(entry, Indexed) else -2  # not from the listing
        if entry.size > SMALL:
            self._next = position + 1
            return await self._fetch_large(entry)
        wanted = [entry, *self._behind(entry, position)] if position == self._next else [entry]
        try:
            text, *following = self._read_quickly(wanted) or await self._executor.run(
                maildir.read_small, self._folder, wanted, self._sizes
            )
        except MessageGone as gone:
            raise self._forget_listing(gone) from gone
        self._next = position + 1 + len(following)
        return SmallText(text, following)

    async def _fetch_large(self, entry: Entry) -> IText:
        opening = start_work(
            self._executor.run(maildir.open_text, self._folder, entry, self._sizes)
        )
        try:
            fd, as_it_is = await shield(opening, _close_first)
        except MessageGone as gone:
            raise self._forget_listing(gone) from gone
        return LargeText(self._executor, fd, entry.size, as_it_is)

    def _forget_listing(self, gone: MessageGone) -> MessageGone:
        """Make the next login list the maildrop again, even if its folders look unchanged."""
        self._listings.forget(self._folder)
        return gone

    def _behind(self, entry: Entry, position: int) -> list[Entry]:
        """The small entries after this one that may be read ahead."""
        entries, room = self._snapshot.entries, AHEAD - entry.size
        behind = 0
        for size in entries.sizes[position + 1 : position + 100]:
            room -= size
            if size > SMALL or room < 0:
                break
            behind += 1
        return list(entries[position + 1 : position + 1 + behind])

    def _read_quickly(self, wanted: list[Entry]) -> list[bytes]:
        """Read the first messages on this thread, as many as can be read quickly; maybe none."""
        pace = self._context.pace
        if pace.may_stay(self._folder):
            with suppress(TakesLong), pace.short() as limit:
                return maildir.read_small(self._folder, wanted, self._sizes, limit)
        return []

    async def remove(self, entries: Sequence[Entry], session: str = "") -> None:
        self._removing = True
        self._listings.changed(self._folder)
        if not self._context.undelete:
            session = ""
        elif not session:
            session = secrets.token_hex(4)
        removal = Removal(self._context, self._folder, self._lock, session, self._let_go)
        under_way = Deferred.fromCoroutine(removal.run(self._snapshot.whole(entries)))
        self._context.removals.add(under_way)
        under_way.addBoth(lambda _: self._context.removals.discard(under_way))
        await shield(removal.known)

    def _let_go(self) -> None:
        """The removal is over: release the lock, if ``release`` was called meanwhile."""
        self._removing = False
        if self._released:
            self.release()

    def release(self) -> None:
        self._released = True
        if self._lock >= 0 and not self._removing:
            os.close(self._lock)
            self._lock = -1


@implementer(IText)
class SmallText:
    """A text that is in memory, and those that were read with it."""

    def __init__(self, octets: bytes, following: Sequence[bytes]) -> None:
        self.following = following
        self._octets = octets

    async def read(self) -> bytes:
        octets, self._octets = self._octets, b""
        return octets

    def close(self) -> None:
        self._octets = b""


@implementer(IText)
class LargeText:
    """A text that is read piece by piece, one piece ahead of the client."""

    def __init__(self, executor: Executor, fd: int, size: int, as_it_is: bool) -> None:
        self._executor = executor
        self._fd = fd
        self._left = size
        self._pieces = pieces(fd, as_it_is=as_it_is)
        self._reading = self._read()

    def _read(self) -> Deferred[bytes]:
        return start_work(self._executor.run(self._next_piece))

    def _next_piece(self) -> bytes:
        try:
            return next(self._pieces, b"")
        except OSError as error:
            raise MessageGone(f"reading on: {error}") from error

    async def read(self) -> bytes:
        piece = await shield(self._reading)
        self._left -= len(piece)
        if self._left < 0 or (self._left and not piece):
            raise MessageGone("a message changed while it was read")
        if piece:
            self._reading = self._read()
        return piece

    def close(self) -> None:
        if self._fd >= 0:
            close = _closing(self._fd)
            self._fd = -1
            self._reading.addBoth(close)  # not while a thread reads from it


def _closing(fd: int) -> Callable[[object], None]:
    return lambda _: os.close(fd)


def _close_first(opened: tuple[int, object]) -> None:
    os.close(opened[0])
