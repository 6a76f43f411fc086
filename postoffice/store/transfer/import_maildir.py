"""A Maildir of another server: its messages in the order and with the UIDLs that it shows."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from postoffice.interfaces import ImportSource
from postoffice.model.errors import CannotImport
from postoffice.store import drafts, names
from postoffice.store.oddities import NotServed, check_compression
from postoffice.store.text import PIECE, measure, pieces
from postoffice.store.transfer import doveadm_table, import_uidls
from postoffice.store.transfer.doveadm_table import Row
from postoffice.store.transfer.import_folder import OldFolder
from postoffice.store.transfer.import_message import (
    DistinctUIDLs,
    OldMessage,
    Staged,
    check_size,
)
from postoffice.store.transfer.import_uidls import OldName, OldNames, base_of
from postoffice.store.transfer.mbox_reader import Header, Span
from postoffice.store.transfer.text_digest import TextDigest

DOVECOT, COURIER, QMAIL = "dovecot", "courier", "qmail"
#: The file by which a server's Maildir is recognized.
LISTS = {DOVECOT: "dovecot-uidlist", COURIER: "courierpop3dsizelist"}
#: The most octets of such a file: enough for a million messages.
LONGEST = 256 << 20
#: The most lines of it, because each takes memory.
LINES = 2_000_000


@dataclass(frozen=True)
class OldMaildir:
    """See ``OldMail``; the folder is open."""

    folder: OldFolder
    kind: str
    messages: list[OldMessage]
    warnings: list[str]

    def stage(self, message: OldMessage, staged: str, name: str) -> Staged | None:
        """See ``OldMail``: a hard link, or a copy where that is not possible."""
        subpath: str | None = message.subpath
        for _ in range(2):
            with suppress(FileNotFoundError):
                return _stage(self.folder, str(subpath), staged, name)
            subpath = self.folder.find_again(message.base)
            if subpath is None:
                return None
        raise NotServed("the old server renames it again and again")


@contextmanager
def opened(source: ImportSource) -> Iterator[OldMaildir]:
    """Open a Maildir and read its names, not its messages.  Raises CannotImport, OSError."""
    with OldFolder(source.path) as folder:
        yield _read(folder, source)


def _read(folder: OldFolder, source: ImportSource) -> OldMaildir:
    kind = source.kind or next((one for one in LISTS if folder.has(LISTS[one])), QMAIL)
    distinct = DistinctUIDLs()
    table = _table(source, kind, distinct.warnings) if source.uidls else {}
    old = _list(folder, kind, source.uidl_format, table)
    if old.damaged:
        distinct.warnings.append(f"{old.damaged} lines of {LISTS[kind]} cannot be read")
    if old.missing:
        distinct.warnings.append(f"{old.missing} messages in {source.uidls} are not in the Maildir")
    found = _messages(folder, kind, old, distinct.warnings)
    messages = {one.base: one for one in found}  # one that moved is in cur
    if kind == DOVECOT and source.reuse_xuidl:
        messages = {base: _with_xuidl(folder, one, old) for base, one in messages.items()}
    ordered = sorted(messages.values(), key=lambda one: one.order)
    return OldMaildir(folder, kind, list(distinct.of(ordered)), distinct.warnings)


def _table(source: ImportSource, kind: str, warnings: list[str]) -> Mapping[int, Row]:
    """Read what doveadm said of the mailbox.  Raises CannotImport."""
    if kind != DOVECOT:
        raise CannotImport(
            f"{source.path} is no Maildir of Dovecot: only that has a table of UIDLs"
        )
    try:
        with open(source.uidls, encoding="utf-8", errors="surrogateescape") as file:
            table = doveadm_table.parse(file.read(LONGEST))
    except ValueError as why:
        raise CannotImport(f"{source.uidls}: {why}") from why
    except OSError as error:
        raise CannotImport(f"reading {source.uidls} failed: {error.strerror}") from error
    if table.damaged:
        warnings.append(f"{table.damaged} lines of {source.uidls} cannot be read")
    return table.rows


def _with_xuidl(folder: OldFolder, message: OldMessage, old: OldNames) -> OldMessage:
    """The message with the UIDL of its X-UIDL field, if it has one and no UIDL of its own."""
    known = old.names.get(message.base)
    if known is None or known.own:
        return message
    with suppress(OSError):  # it was moved, or cannot be read: ``stage`` reports that
        fd, status = folder.open(message.subpath)
        try:
            header = Header(fd, Span(0, 0, status.st_size, 0))
        finally:
            os.close(fd)
        uidl = header.notes.get(b"x-uidl", b"").decode("ascii", "replace")
        return replace(message, uidl=uidl or message.uidl)
    return message


def _list(folder: OldFolder, kind: str, form: str, table: Mapping[int, Row]) -> OldNames:
    name = LISTS.get(kind)
    if name is None or (kind == COURIER and not folder.has(name)):
        return OldNames({})
    try:
        text = os.fsdecode(folder.read(name, LONGEST))
        if text.count("\n") > LINES:
            raise ValueError(f"it has more than {LINES} lines")
        if kind == COURIER:
            return import_uidls.courier(text)
        return import_uidls.dovecot(text, form or import_uidls.UIDL_FORMAT, table)
    except FileNotFoundError:
        raise CannotImport(f"{folder.path} has no {name}, which has the UIDLs") from None
    except ValueError as why:
        raise CannotImport(f"{folder.path}/{name}: {why}") from why


def _messages(
    folder: OldFolder, kind: str, old: OldNames, warnings: list[str]
) -> Iterator[OldMessage]:
    differ = 0
    for subpath, status in folder.files():
        base, written = base_of(os.path.basename(subpath)), status.st_mtime
        known = old.names.get(base)
        arrived = written if kind == DOVECOT else names.time_of(base, written)
        if kind == DOVECOT:  # one without a UID is newer than all that have one
            name = known or OldName("", (2, int(names.time_of(base, written))))
            uidl, (first, second), arrived = name.uidl, name.order, name.received or arrived
            wire = names.sizes_of(base).wire
            differ += None not in (name.size, wire) and name.size != wire
        elif kind == COURIER:
            uidl = known.uidl if known else "" if old.names else import_uidls.courier_uidl(base)
            first, second = 0, import_uidls.number_before(base)
        else:
            uidl, first, second = base, 0, int(written)
        yield OldMessage(subpath, uidl, (first, second, base), status.st_size, arrived)
    if differ:
        warnings.append(f"{differ} of the messages have another size than the table says")


def _stage(folder: OldFolder, subpath: str, staged: str, name: str) -> Staged:
    """Link or copy a message under its new name."""
    try:
        fd, status = folder.open(subpath)
    except PermissionError as error:
        raise NotServed("it cannot be read: " + os.strerror(errno.EACCES)) from error
    try:
        check_size(status.st_size)
        check_compression(fd)
        measured = measure(fd)
        digest = TextDigest.of(pieces(fd, as_it_is=True))
        box = subpath.partition("/")[0]
        place = names.with_right_sizes(f"{box}/{name},S=0,W=0", measured, status.st_size)
        target = f"{staged}/{place}"
        if box == "cur":
            target += f":2,{names.flags_of(subpath)}"
        copied = not _linked(folder, subpath, target, status)
        if copied:
            _copy(fd, target, status)
    finally:
        os.close(fd)
    return Staged(digest, copied)


def _linked(folder: OldFolder, subpath: str, target: str, status: os.stat_result) -> bool:
    """Make a hard link to the file of this status; False if that is not possible."""
    try:
        folder.link(subpath, target)
    except OSError as error:
        if error.errno not in drafts.NO_LINK:
            raise
        return False
    if os.path.samestat(os.stat(target, follow_symlinks=False), status):
        return True
    os.unlink(target)  # another file has taken its place since it was opened
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), subpath)


def _copy(fd: int, target: str, status: os.stat_result) -> None:
    os.lseek(fd, 0, os.SEEK_SET)
    copy = drafts.create(target, locked=False)
    try:
        for octets in iter(partial(os.read, fd, PIECE), b""):
            drafts.write_all(copy, octets)
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(copy)
