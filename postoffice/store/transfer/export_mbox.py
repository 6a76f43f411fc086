"""
An export to an mbox, of the kind mboxrd, with X-UIDL and Status fields.  Blocking.

The new messages are written behind a copy of what is there.  The record (``NAME.exported``)
then has them and the inode of the copy, and the copy gets the name; if an export is killed in
between, the next one renames it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from postoffice.interfaces import ExportResult, ExportTarget
from postoffice.model.errors import CannotExport
from postoffice.store import drafts
from postoffice.store.text import PIECE
from postoffice.store.transfer import export_record
from postoffice.store.transfer.export_folder import FILE_FLAGS, check_owner, opened, replace_file
from postoffice.store.transfer.export_message import MessageToExport, OpenMessage, UnreadableMessage
from postoffice.store.transfer.export_record import ExportRecord
from postoffice.store.transfer.import_record import Line, line_of
from postoffice.store.transfer.mbox import MboxText, from_line
from postoffice.util.atomic_file import sync_folder

#: What follows the name of an mbox in that of its record.
SUFFIX = ".exported"
_SENDER = re.compile(rb"(?:\A|\n)Return-Path:[ \t]*<([!-;=?-~]{1,256})>", re.I)
#: Status and X-Status, by flags of Maildirs.
_STATUS = {"R": b"A", "F": b"F", "T": b"D", "D": b"T"}


class MboxTarget:
    """An mbox that we have made, or that is not there yet."""

    group = 1 << 40  # all at once
    sorts = False

    def __init__(self, target: ExportTarget, folder: int, name: str, record: ExportRecord) -> None:
        self._target = target
        self._folder = folder
        self._name = name
        self._part = f".{name}.part"
        self._record = record

    @classmethod
    @contextmanager
    def opened(cls, target: ExportTarget) -> Iterator[MboxTarget]:
        """Open the folder of the target.  Raises CannotExport, OSError."""
        path, name = os.path.split(target.name)
        below = target.below[:-1]
        path = target.path if target.below else path
        record = name + SUFFIX
        with opened(path or "/", below, make=not target.dry) as folder:
            if folder is None:
                yield cls(target, -1, name, ExportRecord(-1, record, []))
                return
            there = set(os.listdir(folder))
            if name in there and record not in there:
                raise CannotExport(f"{target.name} is there, and no export: name a new file")
            if target.dry:
                lines = export_record.read(folder, record) if name in there else None
                yield cls(target, folder, name, ExportRecord(folder, record, lines or []))
                return
            with export_record.locked(folder, record, target.name) as locked:
                made = cls(target, folder, name, locked)
                made._finish_last()
                yield made

    def known(self) -> Mapping[str, int]:
        return self._record.places

    def renumber(self, places: Mapping[str, int]) -> None:
        """Nothing: the places of messages in an mbox do not change."""

    def _finish_last(self) -> None:
        """Rename what an export that was killed has recorded; begin anew if the mbox is gone."""
        with suppress(FileNotFoundError):
            status = os.stat(self._part, dir_fd=self._folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and status.st_ino == self._record.file:
                self._rename()
        try:
            os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            self._record.forget()
            replace_file(self._folder, self._name, b"")

    def _rename(self) -> None:
        os.rename(self._part, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        sync_folder(".", self._folder)

    def add(self, messages: Sequence[MessageToExport], result: ExportResult) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._part, dir_fd=self._folder)
        recorded = False
        fd = drafts.create(self._part, self._folder, locked=False)
        try:
            self._copy_old(fd)
            lines = [line for line in (_write(fd, one, result) for one in messages) if line]
            os.fsync(fd)
            recorded = True
            self._record.add_at_once(lines, os.fstat(fd).st_ino)
            self._rename()
        finally:
            os.close(fd)
            if not recorded:
                with suppress(OSError):
                    os.unlink(self._part, dir_fd=self._folder)
        result.messages += len(lines)
        result.octets += sum(int(line["size"]) for line in lines)

    def _copy_old(self, fd: int) -> None:
        try:
            old = os.open(self._name, os.O_RDONLY | FILE_FLAGS, dir_fd=self._folder)
        except FileNotFoundError:
            return
        try:
            check_owner(old, self._target.name)
            before = os.fstat(old)
            if not stat.S_ISREG(before.st_mode):
                raise CannotExport(f"{self._target.name} is no file: name a new one")
            drafts.copy_range(old, fd, before.st_size)
            if os.fstat(old).st_mtime_ns != before.st_mtime_ns:
                raise CannotExport(f"{self._target.name} was changed meanwhile; try again")
        finally:
            os.close(old)


def _write(fd: int, message: MessageToExport, result: ExportResult) -> Line | None:
    """Write a message behind the others; return its line, None if it cannot be read or is gone."""
    try:
        found = message.open()
        if found is None:
            return None
        with found:
            digest, begun = found.digest(), os.lseek(fd, 0, os.SEEK_CUR)
            try:
                _write_text(fd, found)
            except UnreadableMessage:
                os.ftruncate(fd, begun)
                os.lseek(fd, begun, os.SEEK_SET)
                raise
    except UnreadableMessage as why:
        result.left.append(str(why))
        return None
    return line_of(message.place, message.uidl, message.uidl, digest)


def _write_text(fd: int, found: OpenMessage) -> None:
    text = MboxText()
    os.lseek(found.fd, 0, os.SEEK_SET)
    first = found.read(PIECE)
    sender = _SENDER.search(first.partition(b"\n\n")[0].partition(b"\n\r\n")[0])
    fields = [b"X-UIDL: " + found.message.uidl.encode("ascii")]
    fields += [b"Status: " + (b"RO" if "S" in found.flags else b"O")] if found.is_old else []
    if marks := b"".join(mark for flag, mark in _STATUS.items() if flag in found.flags):
        fields.append(b"X-Status: " + marks)
    drafts.write_all(fd, from_line(sender[1] if sender else b"", found.arrived))
    drafts.write_all(fd, b"\n".join([*fields, b""]) + text.feed(first))
    while piece := found.read(PIECE):
        drafts.write_all(fd, text.feed(piece))
    drafts.write_all(fd, text.end())
