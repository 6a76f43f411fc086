"""
Writes messages of another server into a maildrop as they arrive.  All functions block.

Messages become visible in groups, as in ``import_maildrop``: staged, made durable, renamed into
the maildrop, and recorded in ``postoffice.imported``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from shutil import rmtree

from postoffice.interfaces import IncomingMessage
from postoffice.store import drafts, expunge, merge, names
from postoffice.store.files import failures, make_folder
from postoffice.store.journal.journal import Journal
from postoffice.store.names import Measured
from postoffice.store.oddities import NotServed, check_compression
from postoffice.store.text import growth
from postoffice.store.transfer import import_record
from postoffice.store.transfer.import_record import KnownMessages, Line
from postoffice.store.transfer.text_digest import TextDigest
from postoffice.util.atomic_file import sync_folder


class ImportWriter:
    """
    See ``interfaces.IImportWriter``; one thread uses it.  All methods raise TemporaryFailure.

    ``age_real``: retention counts from the arrival at the old server, else from the import.
    """

    def __init__(self, folder: str, journal: Journal, hostname: str, *, age_real: bool) -> None:
        self._folder = folder
        self._journal = journal
        self._hostname = hostname
        self._age_real = age_real
        self._staged = ""
        self._lines: list[Line] = []
        self._fd = -1
        self._message = IncomingMessage("", 0, "")
        self._digest = TextDigest()
        self._uidls: dict[str, str] = {}  # of the files that a commit has seen, by name
        self._known = KnownMessages()
        self.waiting = 0
        self.octets = 0

    def open(self) -> None:
        with failures(self._folder):
            os.close(expunge.lock(self._journal, self._folder))  # refused now, not at the end
            self._known = import_record.known_messages(self._folder)

    def place_of(self, uidl: str, name: str) -> int | None:
        return self._known.find(uidl, name)

    def begin(self, message: IncomingMessage) -> None:
        with failures(self._folder):
            self.drop()
            if not self._staged:
                self._staged = merge.staging(self._folder)
                make_folder(f"{self._staged}/new")
            self._fd = drafts.create(f"{self._staged}/part", locked=False)
            self._message = message
            self._digest = TextDigest()

    def write(self, octets: bytes) -> None:
        with failures(self._folder):
            self._digest.feed(octets)
            drafts.write_all(self._fd, octets)

    def end(self, arrived: float | None) -> TextDigest | str:
        """See ``interfaces.IImportWriter``."""
        with failures(self._folder):
            self._digest.end()
            try:
                check_compression(self._fd)
            except NotServed as why:
                self.drop()
                return str(why)
            self._name(arrived)
            os.close(self._fd)
            self._fd = -1
        return self._digest

    def _name(self, arrived: float | None) -> None:
        """Give the draft the name that it will have, its times, and a line of the record."""
        message, digest = self._message, self._digest
        name = names.with_import(names.new_name(self._hostname), message.uidl, message.place)
        if arrived is not None:
            arrived = min(max(arrived, 0.0), time.time())
            os.utime(self._fd, (arrived, arrived))
            if self._age_real:
                name = f"{int(arrived)}.{name.partition('.')[2]}"
        more, size = growth(self._fd), os.fstat(self._fd).st_size
        measured = Measured(digest.size, digest.size + more if more else None)
        name = names.with_right_sizes(f"new/{name},S=0,W=0", measured, size)
        os.rename(f"{self._staged}/part", f"{self._staged}/{name}")
        self._lines.append(import_record.line_of(message.place, message.uidl, message.name, digest))
        self._known.add(message.uidl, message.name, message.place)
        self.waiting += 1
        self.octets += size

    def drop(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with suppress(OSError):
                os.unlink(f"{self._staged}/part")

    def commit(self) -> tuple[int, int]:
        self.drop()
        if not self._lines:
            return 0, 0
        with failures(self._folder):
            moved = merge.put_back(
                self._folder, self._staged, self._journal, again=False, uidls=self._uidls
            )
            self._staged = ""
            import_record.add(self._folder, self._lines)
            self._lines = []
            self.waiting = self.octets = 0
        return moved

    def mark_moved(self, uidls: Collection[str]) -> None:
        with failures(self._folder):
            for box in ("new", "cur"):  # another import may have renamed some, and not synced yet
                sync_folder(f"{self._folder}/{box}")
            import_record.mark_moved(self._folder, uidls)

    def close(self) -> None:
        self.drop()
        if self._staged:
            rmtree(self._staged, ignore_errors=True)
            self._staged = ""
