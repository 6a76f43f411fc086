"""All maildrops in one SQLite file: a small store, to learn from."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import partial
from hashlib import sha256

from zope.interface import implementer

from postoffice.interfaces import IDelivery, IMaildrop, IMailStore, IText
from postoffice.model.errors import (
    LoginTooSoon,
    MaildropFullNow,
    MaildropLocked,
    MessageGone,
    TemporaryFailure,
)
from postoffice.model.listing import Entry, Listing
from postoffice.protocol.downgrade import size_of

PIECE = 256 << 10
TABLES = """
create table if not exists text (
    id integer primary key,
    octets blob not null,
    downgraded integer  -- octets for clients without UTF-8, where they get others
);
create table if not exists letter (
    id integer primary key autoincrement,  -- never used again: it is the UIDL
    maildrop text not null,
    text integer not null references text
);
create index if not exists letter_maildrop on letter (maildrop);
create index if not exists letter_text on letter (text);
"""


class Shelf:
    """The file: plain blocking functions, called on any thread."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._turn = threading.Lock()

    def open(self) -> None:
        with self._failures():
            os.makedirs(self.path + ".locks", mode=0o700, exist_ok=True)
            self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            self._db.executescript("pragma synchronous = full;" + TABLES)

    def close(self) -> None:
        self._db.close()

    def lock(self, maildrop: str):
        """The maildrop's lock: an open file, free again when it is closed or its holder dies."""
        name = sha256(maildrop.encode()).hexdigest()  # a name of theirs is never a path of ours
        with self._failures():
            file = open(f"{self.path}.locks/{name}", "a+")
            try:
                flock(file, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                file.close()
                raise MaildropLocked from None
            return file

    def log_in(self, lock, delay: float) -> None:
        """The lock's file has the time of the last login."""
        with self._failures():
            lock.seek(0)
            if 0 <= time.time() - float(lock.read() or 0) < delay:
                raise LoginTooSoon
            lock.truncate(0)
            lock.write(f"{time.time()}")
            lock.flush()

    def list(self, maildrop: str) -> list[Entry]:
        query = """
            select letter.id, length(octets), '', downgraded
            from letter join text on text.id = letter.text
            where maildrop = ? order by letter.id
        """
        with self._failures(), self._turn:
            return [Entry(str(n), *facts) for n, *facts in self._db.execute(query, (maildrop,))]

    def write(self, draft, data: bytes) -> None:
        with self._failures():
            draft.write(data)

    def add(self, draft, size: int, maildrops: list[str]) -> None:
        """One text, as many letters as maildrops; all or none, and durable."""
        with self._transaction() as db:
            draft.seek(0)
            downgraded = size_of(iter(partial(draft.read, PIECE), b""))
            insert = "insert into text (octets, downgraded) values (zeroblob(?), ?)"
            text = db.execute(insert, (size, downgraded)).lastrowid
            draft.seek(0)
            with db.blobopen("text", "octets", text) as blob:
                while piece := draft.read(PIECE):
                    blob.write(piece)
            db.executemany(
                "insert into letter (maildrop, text) values (?, ?)",
                [(maildrop, text) for maildrop in maildrops],
            )

    def read(self, entry: Entry, offset: int) -> bytes:
        query = """
            select substr(octets, ?, ?) from text
            where id = (select text from letter where id = ?) and length(octets) = ?
        """
        with self._failures(), self._turn:
            facts = (offset + 1, PIECE, int(entry.uidl), entry.size)
            row = self._db.execute(query, facts).fetchone()
        if row is None:
            raise MessageGone(f"letter {entry.uidl}")
        return row[0]

    def remove(self, uidls: list[str]) -> None:
        with self._transaction() as db:
            db.executemany("delete from letter where id = ?", [(int(uidl),) for uidl in uidls])
            db.execute("delete from text where id not in (select text from letter)")

    def rename(self, maildrop: str, other: str) -> None:
        with self._transaction() as db:
            db.execute("update letter set maildrop = ? where maildrop = ?", (other, maildrop))

    @contextmanager
    def _transaction(self):
        with self._failures(), self._turn:
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                self._db.rollback()
                raise

    @contextmanager
    def _failures(self):
        """Whatever the disk says means: later."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise TemporaryFailure(f"{self.path}: {error}") from error


@implementer(IMailStore)
class ShelfStore:
    """Nothing here waits for the disk but to take a lock: the workers do that."""

    def __init__(self, path, executor):
        self.shelf = Shelf(path)
        self.run = executor.run

    async def start(self):
        await self.run(self.shelf.open)

    async def stop(self):
        await self.run(self.shelf.close)

    async def begin(self, envelope):
        names = sorted({recipient.account.maildrop for recipient in envelope.recipients})
        return ShelfDelivery(self, names, len(envelope.recipients))

    async def admit(self, account, size):
        messages, octets = await self.count(account.maildrop)
        if not account.quota.holds(octets + size, messages + 1):
            raise MaildropFullNow(f"{account.maildrop}: over its quota")

    def maildrop(self, name):
        return ShelfMaildrop(self, name)

    async def count(self, name):
        entries = await self.run(self.shelf.list, name)
        return len(entries), sum(entry.size for entry in entries)

    async def discard(self, name, keep):
        lock = self.shelf.lock(name)
        try:
            aside = f"{name} removed {time.time_ns()}"
            await self.run(self.shelf.rename, name, aside)  # from here on it is empty
            entries = await self.run(self.shelf.list, aside)
            if keep and entries:
                return f"{self.shelf.path}, maildrop {aside!r}"
            await self.run(self.shelf.remove, [entry.uidl for entry in entries])
            return ""
        finally:
            lock.close()


@implementer(IDelivery)
class ShelfDelivery:
    def __init__(self, store, names, recipients):
        self.store = store
        self.names = names
        self.recipients = recipients
        self.size = 0
        self.draft = tempfile.SpooledTemporaryFile(PIECE)

    async def write(self, data):
        self.size += len(data)
        await self.store.run(self.store.shelf.write, self.draft, data)

    async def commit(self):
        await self.store.run(self.store.shelf.add, self.draft, self.size, self.names)

    async def commit_each(self):  # one transaction: all have it, or this raises
        await self.commit()
        return [None] * self.recipients

    async def text(self):
        return DraftText(self)

    async def prepend(self, fields):
        draft, self.draft = self.draft, tempfile.SpooledTemporaryFile(PIECE)
        self.size = 0
        await self.write(fields)
        with draft:
            draft.seek(0)
            while piece := await self.store.run(draft.read, PIECE):
                await self.write(piece)

    def abort(self):
        self.draft.close()


@implementer(IText)
class DraftText:
    def __init__(self, delivery):
        self.delivery = delivery
        self.delivery.draft.seek(0)

    async def read(self):
        return await self.delivery.store.run(self.delivery.draft.read, PIECE)

    def close(self):
        self.delivery.draft.seek(0, os.SEEK_END)


@implementer(IMaildrop)
class ShelfMaildrop:
    def __init__(self, store, name):
        self.store = store
        self.name = name
        self.lock = None

    async def open(self, login_delay=0):
        self.lock = self.store.shelf.lock(self.name)
        try:
            listing = Listing(await self.store.run(self.store.shelf.list, self.name))
            self.store.shelf.log_in(self.lock, login_delay)
            return listing
        except BaseException:  # cancelled, too: the client has gone, and so must the lock
            self.release()
            raise

    async def fetch(self, entry):
        text = ShelfText(self.store, entry)
        text.ahead = await text.read()  # raises MessageGone before anything was promised
        return text

    async def remove(self, entries, session=""):
        await self.store.run(self.store.shelf.remove, [entry.uidl for entry in entries])

    def release(self):
        if self.lock is not None:
            self.lock.close()
            self.lock = None


@implementer(IText)
class ShelfText:
    def __init__(self, store, entry):
        self.store = store
        self.entry = entry
        self.offset = 0
        self.ahead = b""

    async def read(self):
        if self.ahead:
            piece, self.ahead = self.ahead, b""
            return piece
        if self.offset == self.entry.size:
            return b""
        piece = await self.store.run(self.store.shelf.read, self.entry, self.offset)
        self.offset += len(piece)
        return piece

    def close(self):
        self.ahead = b""
