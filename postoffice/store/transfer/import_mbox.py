"""
An mbox of another server: its messages in the order of the file, with the UIDLs that it gave.

All functions block.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

from postoffice.interfaces import ImportSource
from postoffice.model.errors import CannotImport
from postoffice.store import drafts, names
from postoffice.store.oddities import NotServed
from postoffice.store.text import PIECE, Normalizer, measure, pieces
from postoffice.store.transfer import import_uidls
from postoffice.store.transfer.doveadm_table import is_number
from postoffice.store.transfer.export_mbox import SUFFIX
from postoffice.store.transfer.import_folder import open_file
from postoffice.store.transfer.import_message import DistinctUIDLs, OldMessage, Staged, check_size
from postoffice.store.transfer.mbox import Unquoter
from postoffice.store.transfer.mbox_reader import Header, Messages, NotAnMbox, Span
from postoffice.store.transfer.text_digest import TextDigest

MBOX, MBOXRD = "mbox", "mboxrd"
KINDS = (MBOX, MBOXRD)
#: Flags of a Maildir, by the letters in Status and X-Status.
_FLAGS = {"R": "S", "A": "R", "F": "F", "D": "T", "T": "D"}

Make = Callable[[Mapping[str, str]], str]


@dataclass(frozen=True)
class MboxMessage(OldMessage):
    """A message in an mbox; ``box`` is where it belongs in a Maildir."""

    span: Span
    flags: str
    box: str


class OldMbox:
    """See ``OldMail``; the file is open."""

    def __init__(self, fd: int, source: ImportSource) -> None:
        self._fd = fd
        self.kind = source.kind
        if not self.kind:  # our own exports are mboxrd; of others we cannot know
            self.kind = MBOXRD if os.path.lexists(source.path + SUFFIX) else MBOX
        self._unquotes = self.kind == MBOXRD
        distinct, found = DistinctUIDLs(), Messages(fd)
        try:
            make = (
                import_uidls.uidl_format(source.uidl_format, MBOX) if source.uidl_format else None
            )
            messages = self._read(found, make, not make or source.reuse_xuidl)
            self.messages: list[OldMessage] = list(distinct.of(messages))
        except NotAnMbox:
            raise CannotImport(
                f"{source.path} is no mbox: it does not begin with a From line"
            ) from None
        except ValueError as why:
            raise CannotImport(str(why)) from why
        self.warnings = distinct.warnings
        if found.odd:
            self.warnings.append(
                f"{found.odd} lines look like the first of a message, but have no empty line "
                "before them: they are parts of the messages before"
            )

    def _read(self, found: Messages, make: Make | None, reuse: bool) -> Iterator[MboxMessage]:
        validity, seen = "", dict[str, int]()
        for number, span in enumerate(found):
            header = Header(self._fd, span)
            notes = {name.decode(): _text(value) for name, value in header.notes.items()}
            if number == 0:
                base = notes.get("x-imapbase") or notes.get("x-imap") or ""
                validity = base.partition(" ")[0]
                if "x-imap" in notes:
                    continue  # no message, but what a program notes of the whole mbox
            first = os.pread(self._fd, span.start - span.line, span.line)
            name = blake2b(first + header.text, digest_size=16).hexdigest()
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                name = f"{name}-{seen[name]}"
            uidl = notes.get("x-uidl", "") if reuse else ""
            if not uidl and make:
                uidl = _made(make, notes.get("x-uid", ""), validity, header.md5)
            status = notes.get("status", "")
            marks = status + notes.get("x-status", "")
            flags = "".join(sorted({_FLAGS[one] for one in marks if one in _FLAGS}))
            box = "cur" if flags or "O" in status else "new"
            size = span.end - span.start
            order = (0, number, "")
            yield MboxMessage(name, uidl, order, size, span.date, span, flags, box)

    def stage(self, message: OldMessage, staged: str, name: str) -> Staged:
        """See ``OldMail``: a copy, with CRLF line ends and without what programs have noted."""
        assert isinstance(message, MboxMessage)
        span = message.span
        check_size(message.size)
        if os.pread(self._fd, 5, span.line) != b"From ":
            raise NotServed("the mbox was changed meanwhile; import it again")
        part = f"{staged}/part"
        fd = drafts.create(part, locked=False)
        try:
            for octets in self._octets(span):
                drafts.write_all(fd, octets)
            os.lseek(fd, 0, os.SEEK_SET)
            measured, size = measure(fd), os.fstat(fd).st_size
            digest = TextDigest.of(pieces(fd, as_it_is=True))
            os.utime(fd, (message.arrived, message.arrived))
        finally:
            os.close(fd)
        place = names.with_right_sizes(f"{message.box}/{name},S=0,W=0", measured, size)
        flags = f":2,{message.flags}" if message.box == "cur" else ""
        os.rename(part, f"{staged}/{place}{flags}")
        return Staged(digest, True)

    def _octets(self, span: Span) -> Iterator[bytes]:
        lines, unquoter = Normalizer(), Unquoter()
        for octets in self._pieces(span):
            yield lines.feed(unquoter.feed(octets) if self._unquotes else octets)
        yield lines.feed(unquoter.end())
        yield lines.end()

    def _pieces(self, span: Span) -> Iterator[bytes]:
        header = Header(self._fd, span)
        yield header.text
        at = header.end
        while at < span.end and (octets := os.pread(self._fd, min(PIECE, span.end - at), at)):
            yield octets
            at += len(octets)
        if at < span.end:
            raise NotServed("the mbox was cut meanwhile; import it again")


@contextmanager
def opened(source: ImportSource) -> Iterator[OldMbox]:
    """Open an mbox and find its messages.  Raises CannotImport, OSError."""
    fd = open_file(source.path)
    try:
        yield OldMbox(fd, source)
    finally:
        os.close(fd)


def _made(make: Make, uid: str, validity: str, digest: str) -> str:
    """The UIDL by a format; "" if the mbox does not have what the format needs."""
    facts = {"md5": digest, "guid": digest}
    if is_number(uid):
        facts["uid"] = uid
    if is_number(validity):
        facts["uidvalidity"] = validity
    try:
        return make(facts)
    except KeyError:
        return ""


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace")
