"""
An export to a Maildir, with a ``dovecot-uidlist`` that makes Dovecot list what we list.  Blocking.

Messages are staged in tmp and made durable.  Then, while ``dovecot-uidlist.lock`` keeps
Dovecot from looking, the list gets their UIDLs, and they are renamed into new and cur.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from shutil import rmtree

from postoffice.interfaces import ExportResult, ExportTarget
from postoffice.model.errors import CannotExport
from postoffice.store import drafts, names
from postoffice.store.files import FOLDER, FOLDERS
from postoffice.store.journal.segments import sync_all
from postoffice.store.transfer import export_record
from postoffice.store.transfer.export_folder import (
    FILE_FLAGS,
    check_owner,
    make_in,
    opened,
    replace_file,
)
from postoffice.store.transfer.export_message import MessageToExport, OpenMessage, UnreadableMessage
from postoffice.store.transfer.export_record import ExportRecord
from postoffice.store.transfer.export_uidlist import FILE, UidList
from postoffice.store.transfer.import_record import Line, line_of
from postoffice.store.transfer.import_uidls import base_of

RECORD = "postoffice.exported"
LOCK = f"{FILE}.lock"
#: Seconds after which a lock counts as that of a dead process, as Dovecot has it.
STALE = 120
#: What our own locks have in them.
_OURS = b"postoffice\n"
STAGING = ".export."
#: A longer list is not that of an export.
LONGEST = 1 << 30
_PLAIN = re.compile(r"[!-.0-9;-~]{1,150}\Z")  # without "/" and ":"


class MaildirTarget:
    """A Maildir that we have made; ``_folder`` is -1 in a dry run, if it is not there yet."""

    group = 5000
    sorts = True

    def __init__(self, target: ExportTarget, folder: int, record: ExportRecord) -> None:
        self._target = target
        self._folder = folder
        self._record = record
        self._list = UidList(int(time.time()))
        self._read: tuple[int, int] | None = None  # of which file, inode and time, the list is
        self._there: set[str] = set()
        self._boxes: dict[str, int] = {}

    @classmethod
    @contextmanager
    def opened(cls, target: ExportTarget) -> Iterator[MaildirTarget]:
        """Open the target, and make it if it is missing.  Raises CannotExport, OSError."""
        with opened(target.path, target.below, make=not target.dry) as folder:
            if folder is None:
                yield cls(target, -1, ExportRecord(-1, RECORD, []))
                return
            check_owner(folder, target.name)
            there = os.listdir(folder)
            if there and RECORD not in there:
                raise CannotExport(
                    f"{target.name} holds something that is no export: name a new folder"
                )
            if target.dry:
                lines = export_record.read(folder, RECORD) or []
                yield cls(target, folder, ExportRecord(folder, RECORD, lines))
                return
            with export_record.locked(folder, RECORD, target.name) as record:
                made = cls(target, folder, record)
                try:
                    made._prepare()
                    yield made
                finally:
                    for fd in made._boxes.values():
                        os.close(fd)

    def known(self) -> Mapping[str, int]:
        return self._record.places

    def renumber(self, places: Mapping[str, int]) -> None:
        with self._dovecot_waits():
            self._read_list()
            self._list.renumber(places.items())
            self._write_list()
        self._record.renumber(places)

    def _prepare(self) -> None:
        for name in FOLDERS:
            make_in(self._folder, name)
            self._boxes[name] = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=self._folder)
        for name in os.listdir(self._boxes["tmp"]):
            if name.startswith(STAGING):
                self._remove_staging(name)
        for box in ("new", "cur"):
            self._there.update(map(base_of, os.listdir(self._boxes[box])))
        self._read_list()

    def _read_list(self) -> None:
        """Read the list, if it is not the one that we have read or written last."""
        try:
            fd = os.open(FILE, os.O_RDONLY | FILE_FLAGS, dir_fd=self._folder)
        except FileNotFoundError:
            return
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if self._read == (status.st_ino, status.st_mtime_ns):
                return
            text = os.fsdecode(file.read(LONGEST))
        try:
            self._list = UidList.parse(text)
        except ValueError as why:
            raise CannotExport(f"{self._target.name}/{FILE}: {why}") from why

    def _write_list(self) -> None:
        replace_file(self._folder, FILE, os.fsencode(str(self._list)))
        status = os.stat(FILE, dir_fd=self._folder, follow_symlinks=False)
        self._read = status.st_ino, status.st_mtime_ns

    def add(self, messages: Sequence[MessageToExport], result: ExportResult) -> None:
        staging = f"{STAGING}{secrets.token_hex(8)}"
        os.mkdir(staging, 0o700, dir_fd=self._boxes["tmp"])
        fd = os.open(staging, FOLDER | os.O_NOFOLLOW, dir_fd=self._boxes["tmp"])
        try:
            staged = [one for one in (self._stage(fd, one, result) for one in messages) if one]
            sync_all(fd)  # texts are durable before anyone sees their names
            self._show(fd, staged)
            self._record.add([line for _, line in staged])
            result.messages += len(staged)
            result.octets += sum(int(line["size"]) for _, line in staged)
        finally:
            os.close(fd)
            self._remove_staging(staging)

    def _stage(
        self, staging: int, message: MessageToExport, result: ExportResult
    ) -> tuple[str, Line] | None:
        """Put a message into the staging folder; return its place in the Maildir, and its line."""
        try:
            found = message.open()
            if found is None:
                return None  # its owner has removed it
            with found:
                digest = found.digest()
                base = f"{_base(found)},S={found.status.st_size},W={digest.size}"
                name = f"{base}:2,{found.flags}" if found.is_old else base
                if self._target.link and _linked(found, staging, name):
                    result.linked += 1
                else:
                    _copy(found, staging, name)
        except UnreadableMessage as why:
            result.left.append(str(why))
            return None
        line = line_of(message.place, message.uidl, base, digest)
        return f"{'cur' if found.is_old else 'new'}/{name}", line

    def _show(self, staging: int, staged: Sequence[tuple[str, Line]]) -> None:
        """Rename staged messages into the Maildir, with their UIDLs in the list before that."""
        if not staged:
            return
        with self._dovecot_waits():
            self._read_list()
            for _, line in staged:
                self._list.set(str(line["uidl"]), int(line["n"]), str(line["name"]))
            self._write_list()
            for place, line in staged:
                if line["name"] not in self._there:  # else an export was killed after this step
                    box, name = place.split("/")
                    os.rename(name, name, src_dir_fd=staging, dst_dir_fd=self._boxes[box])
            for box in ("new", "cur"):
                os.fsync(self._boxes[box])

    @contextmanager
    def _dovecot_waits(self) -> Iterator[None]:
        """Hold the lock that Dovecot takes to give UIDs.  Raises CannotExport, OSError."""
        for _ in range(2):
            try:
                fd = drafts.create(LOCK, self._folder, locked=False)
                break
            except FileExistsError:
                self._remove_stale_lock()
        else:
            raise CannotExport(f"{self._target.name}/{LOCK} is there: Dovecot uses it; try again")
        try:
            with open(fd, "wb") as file:
                file.write(_OURS)
            yield
        finally:
            with suppress(FileNotFoundError):
                os.unlink(LOCK, dir_fd=self._folder)

    def _remove_stale_lock(self) -> None:
        """Remove a lock of Dovecot's that is old, or of an export that was killed."""
        with suppress(FileNotFoundError):
            fd = os.open(LOCK, os.O_RDONLY | FILE_FLAGS, dir_fd=self._folder)
            try:
                ours = os.read(fd, len(_OURS) + 1) == _OURS  # no other export is running
                old = time.time() - os.fstat(fd).st_mtime > STALE
            finally:
                os.close(fd)
            if ours or old:
                os.unlink(LOCK, dir_fd=self._folder)

    def _remove_staging(self, name: str) -> None:
        rmtree(name, ignore_errors=True, dir_fd=self._boxes["tmp"])


def _base(found: OpenMessage) -> str:
    """A name for a message: ours without our own fields, or a new one if it has odd octets."""
    base = names.without_import(names.unique_part(found.name))
    if _PLAIN.match(base) and not base.startswith("."):
        return base
    digest = blake2b(found.message.uidl.encode(), digest_size=12).hexdigest()
    return f"{max(int(found.arrived), 0)}.{digest}.export"


def _linked(found: OpenMessage, staging: int, name: str) -> bool:
    """Make a hard link to the file that is open; False if that is not possible."""
    try:
        os.link(found.path, name, dst_dir_fd=staging, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in drafts.NO_LINK:
            raise
        return False
    if os.path.samestat(os.stat(name, dir_fd=staging, follow_symlinks=False), found.status):
        return True
    os.unlink(name, dir_fd=staging)
    return False


def _copy(found: OpenMessage, staging: int, name: str) -> None:
    copy = drafts.create(name, staging, locked=False)
    try:
        drafts.copy_range(found.fd, copy, found.status.st_size)
        os.utime(copy, (found.arrived, found.arrived))
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        os.unlink(name, dir_fd=staging)
        raise UnreadableMessage(f"{found.subpath}: {error.strerror}") from error
    finally:
        os.close(copy)
