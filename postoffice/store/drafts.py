"""Drafts: messages on their way, in files of their own that no client can see."""

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
from postoffice.store import names
from postoffice.store.files import MaildropRef, failures, sync_folder
from postoffice.store.text import growth
from postoffice.store.vault import PART
from postoffice.util.atomic_file import replacing

#: Why a maildrop may not have the same file, and gets a copy: it is on another file system, or the
#: file has too many names.
COPIED = (errno.EXDEV, errno.EMLINK)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(eq=False)
class Draft:
    """
    One message on its way to its maildrops, under one name.

    What is not written yet is in ``parts``.  The lock keeps apart what
    threads do with the file; ``dropped`` is set by anyone, and it goes no further.
    ``quotas`` are those of the maildrops that have one, ``owners`` whose they are: the accounts'
    addresses.
    ``apart``: what is wrong with one maildrop is no other's matter; it is told
    in ``missed``.  ``large`` is the folder for what goes to disk as it arrives,
    if that is not the first maildrop's ``tmp``.
    """

    refs: list[MaildropRef]
    name: str
    large: str = ""
    quotas: Mapping[MaildropRef, Quota] = field(default_factory=dict)
    owners: Mapping[MaildropRef, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    size: int = 0  # octets on disk
    tail: bytes = b""  # the last of them
    downgraded: int | None = None  # as in Entry, once all of it is written
    fd: int = -1
    folder: str = ""  # where it is written
    moved: bool = False  # out of there, or another's to remove
    text: bytes | None = None  # all of it, where it was small enough to stay in memory
    lock: Lock = field(default_factory=Lock)
    dropped: bool = False
    apart: bool = False
    missed: dict[MaildropRef, Exception] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where it is written; whoever sweeps leaves it alone while its lock is held."""
        return f"{self.folder or self.refs[0].path + '/tmp'}/{self.name}"

    @property
    def streamed(self) -> bool:
        """Whether it went to disk as it arrived."""
        return self.text is None

    @property
    def final_name(self) -> str:
        """What it is called in ``new``; its sizes are known once all of it is written."""
        return names.with_sizes(self.name, self.size, ends=self.ends, downgraded=self.downgraded)

    @property
    def ends(self) -> bool:
        """Whether its last line ends."""
        return self.tail in (b"", b"\r\n")


def append(draft: Draft, parts: Sequence[bytes]) -> None:
    """Write more of a text to its file; what fails is given up.  Raises TemporaryFailure."""
    with draft.lock, failures(draft.path):
        try:
            draft.folder = draft.folder or draft.large
            _append(draft, b"".join(parts))
        except BaseException:
            draft.dropped = True
            raise


def finish(draft: Draft) -> None:
    """Write what is left of a text.  Raises OSError."""
    with draft.lock:
        if not draft.dropped:
            data = b"".join(draft.parts)
            if draft.fd < 0:
                draft.text = data
            draft.parts.clear()
            _append(draft, data)
            draft.downgraded = _downgraded(draft)
    check(draft)


def _downgraded(draft: Draft) -> int | None:
    """Whoever lists it shall not have to look into it."""
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
    """Write all of it where the file is."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def create(path: str, dir_fd: int | None = None, *, locked: bool = True) -> int:
    """
    A new file that is locked: whoever sweeps may have taken it for a leftover before it was.

    Not ``locked`` where nobody can be there to sweep.
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
    """Octets that are on disk already.  Raises TemporaryFailure."""
    with draft.lock, failures(draft.path):
        check(draft)
        return os.pread(draft.fd, most, offset)


def prepend(draft: Draft, octets: bytes) -> None:
    """Put octets before what is on disk: in a new file.  Raises TemporaryFailure."""
    with draft.lock, failures(draft.path):
        check(draft)
        path = f"{draft.path}.longer"
        fd = create(path)
        try:
            copy_text(draft, fd, octets)
            os.fsync(draft.fd)  # what the disk could not take, only this file's syncs tell
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
    """What is on disk of a draft, into another file, behind some octets."""
    os.lseek(draft.fd, 0, os.SEEK_SET)
    with open(fd, "wb", closefd=False) as copy, open(draft.fd, "rb", closefd=False) as text:
        copy.write(before)
        shutil.copyfileobj(text, copy, 256 << 10)


def copy_file(path: str, fd: int) -> None:
    """A file, into another."""
    with open(fd, "wb", closefd=False) as copy, open(path, "rb") as text:
        shutil.copyfileobj(text, copy, 256 << 10)


def move(path: str, target: str, tmp: str) -> None:
    """
    Rename a file; to another file system, it gets there as a durable copy before the name goes.

    ``tmp`` is a folder of the target's file system, for a copy that is not whole yet.
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
    """A durable copy, under a name that may be there."""
    part = f"{tmp}/{PART}{os.path.basename(target)}"
    with suppress(FileNotFoundError):
        os.unlink(part)
    with replacing(target, part, create) as fd:
        copy_file(path, fd)
        os.utime(fd, ns=(os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns))


def drop(draft: Draft) -> None:
    """Forget a draft; its file goes.  Never fails, and may be called twice."""
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
    """Raises OSError if it was given up."""
    if draft.dropped:
        raise OSError(errno.ECANCELED, "the delivery was given up", draft.path)
