"""
Drafts: messages that are not committed yet, in files that no client can see.

Functions write, read, copy and drop a draft's file; all block.  ``commit``
gives the file its names in the maildrops.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from threading import Lock

from postoffice.model.address import Quota
from postoffice.model.queued_message import QueuedMessage
from postoffice.store import names
from postoffice.store.files import MaildropRef, failures
from postoffice.store.journal.records import RemoveRecord
from postoffice.store.text import growth
from postoffice.util.atomic_file import replacing, sync_folder

#: Errors of link() that a copy of the file avoids: the maildrop is on another file system, or the
#: file has too many names.
COPIED = (errno.EXDEV, errno.EMLINK)
#: The same for a file of another owner, which the kernel or a file system may not let us link.
NO_LINK = (*COPIED, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP)
#: Errors of copy_file_range() where the file system cannot do it.
_NO_RANGE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM)
#: Prefix of an unfinished copy of a message.
PART = ".part."
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class QueueRemoval:
    """
    A message that leaves the queue, with its marks: the record, and the paths of the files.

    ``there`` is whether the message was there when its file was unlinked.  ``committed``: a batch
    of messages has committed it too; then it is unlinked now, or by a checkpoint.
    """

    record: RemoveRecord
    paths: tuple[str, ...]
    there: bool = False
    committed: bool = False


@dataclass(eq=False, slots=True)
class Draft:
    """
    One message on its way to its maildrops, with the same file name in each.

    ``parts`` is the text that is not written yet.  The lock serializes what
    threads do with the file.  Any thread may set ``dropped``: then the message is
    not committed.  ``quotas`` has the quotas of those maildrops that have one,
    ``owners`` the addresses of their accounts.
    ``apart``: each maildrop succeeds or fails on its own, and ``missed`` says
    which failed; otherwise all succeed or none.  ``large`` is the folder for a
    text that is written as it arrives; "" is the first maildrop's ``tmp``.

    ``trailer`` stands behind the text in the queue: it is what ``queued`` encodes.
    ``original`` is the draft whose text this one has; it is finished first.
    ``beside`` are committed with this draft, all of them or none; if it is ``apart``, they
    fail with it, and it does not fail with them.  ``turn`` says which names are durable
    first, where each folder is synced.  ``removal`` is committed with it too, and ``intent`` is
    where this is written down first, where there is no journal.
    """

    refs: list[MaildropRef]
    name: str
    large: str = ""
    quotas: Mapping[MaildropRef, Quota] = field(default_factory=dict)
    owners: Mapping[MaildropRef, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    size: int = 0  # octets on disk
    tail: bytes = b""  # the last two octets written
    final_name: str = ""  # in ``new``; with its sizes, once all of it is written
    fd: int = -1
    folder: str = ""  # where it is written
    moved: bool = False  # renamed, or owned by the journal: drop() leaves the file
    text: bytes | None = None  # all of it, where it was small enough to stay in memory
    lock: Lock = field(default_factory=Lock)
    dropped: bool = False
    apart: bool = False
    missed: dict[MaildropRef, Exception] = field(default_factory=dict)
    trailer: bytes = b""
    queued: QueuedMessage | None = None
    original: Draft | None = None
    beside: list[Draft] = field(default_factory=list)
    turn: int = 0
    removal: QueueRemoval | None = None
    intent: str = ""

    @property
    def path(self) -> str:
        """The path of its file.  A sweep leaves the file alone while it is locked (flock)."""
        return f"{self.folder or self.refs[0].path + '/tmp'}/{self.name}"

    @property
    def streamed(self) -> bool:
        """Whether its text was written as it arrived, because it is large."""
        return self.text is None

    @property
    def ends(self) -> bool:
        """Whether its last line has a line end."""
        return self.tail in (b"", b"\r\n")


def append(draft: Draft, parts: Sequence[bytes]) -> None:
    """Write more of a text to its file.  Raises TemporaryFailure, and then the draft is dropped."""
    with draft.lock, failures(draft.path):
        try:
            draft.folder = draft.folder or draft.large
            _append(draft, b"".join(parts))
        except BaseException:
            draft.dropped = True
            raise


def finish(draft: Draft) -> None:
    """Write the rest of a text.  Raises OSError, also if the draft was dropped."""
    with draft.lock:
        if not draft.dropped:
            data = _rest(draft)
            if draft.fd < 0:
                draft.text = data
            draft.parts.clear()
            _append(draft, data)
            draft.final_name = draft.final_name or names.with_sizes(
                draft.name, draft.size, ends=draft.ends, downgraded=_downgraded(draft)
            )
    check(draft)


def _rest(draft: Draft) -> bytes:
    """The octets that are not written yet; a large text of the original is copied here."""
    original = draft.original
    if original is None:
        return b"".join((*draft.parts, draft.trailer))
    check(original)
    if original.text is not None:
        return original.text + draft.trailer
    draft.folder = draft.large
    draft.fd = create(draft.path)
    copy_range(original.fd, draft.fd, original.size)
    draft.size = original.size
    return draft.trailer


def _downgraded(draft: Draft) -> int | None:
    """The size of its downgraded form: in the name, it saves a listing from reading the file."""
    more = growth(draft.fd, draft.text)
    if not more:
        return None
    return draft.size + more if draft.ends else draft.size + more + 2


def _append(draft: Draft, data: bytes) -> None:
    if draft.dropped:
        return
    if draft.fd < 0:
        draft.fd = create(draft.path)
    draft.size += len(data)
    draft.tail = (draft.tail + data[-2:])[-2:]
    write_all(draft.fd, data)


def write_all(fd: int, data: bytes) -> None:
    """Write all octets at the file's position."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def create(path: str, dir_fd: int | None = None, *, locked: bool = True) -> int:
    """
    Create a file and lock it, so that no sweep takes it for a leftover.

    A sweep may remove it before it is locked: then another is created.  Without
    ``locked`` it is not locked: the caller knows that no sweep is running.
    """
    while True:
        fd = os.open(path, _CREATE, 0o600, dir_fd=dir_fd)
        try:
            os.fchmod(fd, 0o600)  # whatever the umask
            if not locked:
                return fd
            flock(fd, LOCK_EX)
            if os.fstat(fd).st_nlink:
                return fd
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                os.unlink(path, dir_fd=dir_fd)
            raise
        os.close(fd)


def read(draft: Draft, offset: int, most: int) -> bytes:
    """Read at most ``most`` octets that were written.  Raises TemporaryFailure."""
    with draft.lock, failures(draft.path):
        check(draft)
        return os.pread(draft.fd, most, offset)


def prepend(draft: Draft, octets: bytes) -> None:
    """Put octets before the text, by copying both to a new file.  Raises TemporaryFailure."""
    with draft.lock, failures(draft.path):
        check(draft)
        path = f"{draft.path}.longer"
        fd = create(path)
        try:
            copy_text(draft, fd, octets)
            # only a sync of the old file reports that its octets could not be written
            os.fsync(draft.fd)
            os.rename(path, draft.path)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                os.unlink(path)
            raise
        os.close(draft.fd)
        draft.fd = fd
        draft.size += len(octets)


def copy_text(draft: Draft, fd: int, before: bytes = b"") -> None:
    """Write ``before``, then the draft's text, to another file."""
    os.lseek(draft.fd, 0, os.SEEK_SET)
    with open(fd, "wb", closefd=False) as copy, open(draft.fd, "rb", closefd=False) as text:
        copy.write(before)
        shutil.copyfileobj(text, copy, 256 << 10)


def copy_range(source: int, target: int, size: int) -> None:
    """Copy the first octets of a file to the beginning of another, in the kernel if it can."""
    done = 0
    try:
        while done < size and (more := os.copy_file_range(source, target, size - done, done)):
            done += more
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise
    while done < size and (octets := os.pread(source, min(size - done, 256 << 10), done)):
        write_all(target, octets)
        done += len(octets)
    if done < size:
        raise OSError(errno.EIO, "a text became shorter while it was copied")


def copy_file(path: str, fd: int) -> None:
    """Copy a file's octets to another."""
    with open(fd, "wb", closefd=False) as copy, open(path, "rb") as text:
        shutil.copyfileobj(text, copy, 256 << 10)


def move(path: str, target: str, tmp: str) -> None:
    """
    Rename a file; to another file system: make a durable copy there, then unlink it here.

    ``tmp`` is a folder on the target's file system, for an unfinished copy.
    Raises OSError.
    """
    try:
        os.rename(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_over(path, target, tmp)
        for folder in dict.fromkeys((os.path.dirname(target), tmp)):
            sync_folder(folder)
        os.unlink(path)


def _copy_over(path: str, target: str, tmp: str) -> None:
    """Make a synced copy; it replaces a file at ``target``."""
    part = f"{tmp}/{PART}{os.path.basename(target)}"
    with suppress(FileNotFoundError):
        os.unlink(part)
    with replacing(target, part, create) as fd:
        copy_file(path, fd)
        os.utime(fd, ns=(os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns))


def drop(draft: Draft) -> None:
    """Give a draft up, and unlink its file unless it was moved.  Never fails, even twice."""
    with draft.lock:
        draft.dropped = True
        draft.parts.clear()
        if draft.fd >= 0:
            if not draft.moved:
                with suppress(OSError):
                    os.unlink(draft.path)
            os.close(draft.fd)
            draft.fd = -1


def check(draft: Draft) -> None:
    """Raises OSError if the draft was dropped."""
    if draft.dropped:
        raise OSError(errno.ECANCELED, "the delivery was aborted", draft.path)
