"""Delivery: written in tmp, synced, linked into new, the folder synced; only then it is there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from threading import Lock

from postoffice.maildrop import names
from postoffice.maildrop.files import Place, failure, failures, identity, sync_folder

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: A maildrop that cannot have the same file gets a copy: it is on another file system, or the
#: file has too many names; or, where maildrops stand apart, the first of them is gone, with it.
_COPIED = (errno.EXDEV, errno.EMLINK)
_GONE = (errno.ESTALE, errno.ENOENT)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(eq=False)
class Draft:
    """
    One message on its way to its maildrops, under one name.

    What is not written yet is in ``parts``.  The lock keeps apart what
    threads do with the file; ``dropped`` is set by anyone, and it goes no further.
    ``apart``: what is wrong with one maildrop is no other's matter; it is told
    in ``missed``.
    """

    places: list[Place]
    name: str
    parts: list[bytes] = field(default_factory=list)
    size: int = 0  # octets on disk
    tail: bytes = b""  # the last of them
    fd: int = -1
    lock: Lock = field(default_factory=Lock)
    dropped: bool = False
    apart: bool = False
    missed: dict[Place, Exception] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where it is written; whoever sweeps leaves it alone while its lock is held."""
        return f"{self.places[0].path}/tmp/{self.name}"

    @property
    def final_name(self) -> str:
        """What it is called in ``new``; its sizes are known once all of it is written."""
        return names.with_sizes(self.name, self.size, ends=self.tail in (b"", b"\r\n"))


def append(draft: Draft, parts: Sequence[bytes]) -> None:
    """Write more of a text to its file; what fails is given up.  Raises TemporaryFailure."""
    with draft.lock, failures(draft.path):
        try:
            _append(draft, parts)
        except BaseException:
            draft.dropped = True
            raise


def _append(draft: Draft, parts: Sequence[bytes]) -> None:
    if draft.dropped:
        return
    if draft.fd < 0:
        draft.fd = _create(draft.path)
    data = b"".join(parts)
    draft.size += len(data)
    draft.tail = (draft.tail + data[-2:])[-2:]
    view = memoryview(data)
    while view:
        view = view[os.write(draft.fd, view) :]


def _create(path: str, dir_fd: int | None = None) -> int:
    """A new file that is locked: whoever sweeps may have taken it for a leftover before it was."""
    while True:
        fd = os.open(path, _CREATE, 0o600, dir_fd=dir_fd)
        try:
            os.fchmod(fd, 0o600)  # whatever the umask
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
        _not_dropped(draft)
        return os.pread(draft.fd, most, offset)


def prepend(draft: Draft, octets: bytes) -> None:
    """Put octets before what is on disk: in a new file.  Raises TemporaryFailure."""
    with draft.lock, failures(draft.path):
        _not_dropped(draft)
        path = f"{draft.path}.longer"
        fd = _create(path)
        try:
            _copy_text(draft, fd, octets)
            os.rename(path, draft.path)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                os.unlink(path)
            raise
        os.close(draft.fd)
        draft.fd = fd
        draft.size += len(octets)


def _copy_text(draft: Draft, fd: int, before: bytes = b"") -> None:
    """What is on disk of a draft, into another file, behind some octets."""
    os.lseek(draft.fd, 0, os.SEEK_SET)
    with open(fd, "wb", closefd=False) as copy, open(draft.fd, "rb", closefd=False) as text:
        copy.write(before)
        shutil.copyfileobj(text, copy, 256 << 10)


def drop(draft: Draft) -> None:
    """Forget a draft; its file goes.  Never fails, and may be called twice."""
    with draft.lock:
        draft.dropped = True
        draft.parts.clear()
        if draft.fd >= 0:
            with suppress(OSError):
                os.unlink(draft.path)
            os.close(draft.fd)
            draft.fd = -1


def place(drafts: Sequence[Draft]) -> list[Exception | None]:
    """
    Put messages into all their maildrops, durable when it returns; for each, what went wrong.

    One call for many messages: each folder is synced once for all of them.
    A message that went wrong is in none of its maildrops, unless they stand
    ``apart``: then it is in all but those that it ``missed``.

    Nothing is made here: a maildrop that is not the one that was found when
    the delivery began has been discarded since, and its sender tries again.
    Links go to the folders that were opened, wherever they are by now; one
    that was moved away meanwhile is found out after the sync, and undone.  So
    a message is in a maildrop before that is discarded, or not at all.
    """
    with _Group(drafts) as group:
        group.each(_write)
        group.each(_sync)
        group.each(group.link)
        group.settle()
    return group.outcomes()


def _write(draft: Draft) -> None:
    with draft.lock:
        if not draft.dropped:
            _append(draft, draft.parts)
            draft.parts.clear()
            _start_writing(draft.fd)
    _not_dropped(draft)


def _start_writing(fd: int) -> None:
    """Let the disk begin with this file while the next ones are written: groups gain a third."""
    if hasattr(os, "posix_fadvise"):  # Linux does so for what shall leave its memory
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync(draft: Draft) -> None:
    os.fsync(draft.fd)


def _not_dropped(draft: Draft) -> None:
    if draft.dropped:
        raise OSError(errno.ECANCELED, "the delivery was given up", draft.path)


class _Group:
    """Drafts that are placed together, and the maildrops they go to, opened."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self._drafts = drafts
        self._wrong: dict[Draft, Exception] = {}
        self._folders: dict[Place, int] = {}
        self._linked: list[tuple[Draft, Place]] = []

    def outcomes(self) -> list[Exception | None]:
        """What went wrong with each, if anything."""
        return [self._wrong.get(draft) for draft in self._drafts]

    def __enter__(self) -> _Group:
        return self

    def __exit__(self, *why: object) -> None:
        for draft, place in self._linked:
            if draft in self._wrong or place in draft.missed:
                with suppress(OSError):
                    os.unlink(f"new/{draft.final_name}", dir_fd=self._folders[place])
        for draft in self._drafts:
            drop(draft)
        for fd in self._folders.values():
            os.close(fd)

    def each(self, step: Callable[[Draft], None]) -> None:
        """Take one step with each that is still well; what goes wrong costs that one only."""
        for draft in self._drafts:
            if draft not in self._wrong:
                try:
                    step(draft)
                except OSError as error:
                    self._wrong[draft] = failure(draft.path, error)
                except Exception as error:  # a bug costs one message, not the group
                    self._wrong[draft] = error

    def link(self, draft: Draft) -> None:
        """One file, as many names as maildrops."""
        _not_dropped(draft)  # nobody waits for it any more: its sender will try again
        for place in draft.places:
            try:
                self._link(draft, place)
            except OSError as error:
                if not draft.apart:
                    raise
                draft.missed[place] = failure(place.path, error)
            else:
                self._linked.append((draft, place))

    def _link(self, draft: Draft, place: Place) -> None:
        fd = self._open(place)
        try:
            first = self._open(draft.places[0])
            target = f"new/{draft.final_name}"
            os.link(f"tmp/{draft.name}", target, src_dir_fd=first, dst_dir_fd=fd)
        except OSError as error:
            if error.errno not in _COPIED and not (draft.apart and error.errno in _GONE):
                raise
            _copy(draft, fd)

    def settle(self) -> None:
        """Make the new names durable, and see that the maildrops are still in their places."""
        gone: dict[Place, Exception] = {}
        for place in {place for _, place in self._linked}:
            try:
                sync_folder("new", dir_fd=self._folders[place])
                _is_there(place, os.stat(place.path))
            except OSError as error:
                gone[place] = failure(place.path, error)
        for draft, place in self._linked:
            if place in gone and draft.apart:
                draft.missed[place] = gone[place]
            elif place in gone:
                self._wrong.setdefault(draft, gone[place])

    def _open(self, place: Place) -> int:
        fd = self._folders.get(place)
        if fd is None:
            fd = os.open(place.path, _FOLDER)
            try:
                _is_there(place, os.fstat(fd))
            except BaseException:
                os.close(fd)
                raise
            self._folders[place] = fd
        return fd


def _is_there(place: Place, status: os.stat_result) -> None:
    if identity(status) != place.identity:
        raise OSError(errno.ESTALE, "the maildrop was taken away", place.path)


def _copy(draft: Draft, folder: int) -> None:
    """A file of its own for one maildrop."""
    path = f"tmp/{draft.name}"
    fd = _create(path, folder)
    try:
        _copy_text(draft, fd)
        os.fsync(fd)
        os.link(path, f"new/{draft.final_name}", src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with suppress(OSError):
            os.unlink(path, dir_fd=folder)
        os.close(fd)
