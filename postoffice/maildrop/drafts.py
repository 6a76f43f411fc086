"""Delivery: written in tmp, synced, linked into new, the folder synced; only then it is there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_NB, flock
from threading import Lock

from postoffice.errors import TemporaryFailure
from postoffice.maildrop import names
from postoffice.maildrop.files import failure, failures, make, sync_folder

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Draft:
    """
    One message on its way to its maildrops' folders, under one name.

    What is not written yet is in ``parts``.  The lock keeps apart what
    threads do with the file.
    """

    folders: list[str]
    name: str
    parts: list[bytes] = field(default_factory=list)
    size: int = 0  # octets on disk
    fd: int = -1
    lock: Lock = field(default_factory=Lock)
    dropped: bool = False

    @property
    def path(self) -> str:
        """Where it is written; whoever sweeps leaves it alone while its lock is held."""
        return f"{self.folders[0]}/tmp/{self.name}"


def append(draft: Draft, parts: Sequence[bytes]) -> None:
    """Write more of a text; a draft that fails is given up.  Raises TemporaryFailure."""
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
        draft.fd = _create(draft)
    data = b"".join(parts)
    draft.size += len(data)
    view = memoryview(data)
    while view:
        view = view[os.write(draft.fd, view) :]


def _create(draft: Draft) -> int:
    try:
        fd = os.open(draft.path, _CREATE, 0o600)
    except FileNotFoundError:
        make(draft.folders[0])
        fd = os.open(draft.path, _CREATE, 0o600)
    flock(fd, LOCK_EX | LOCK_NB)
    return fd


def drop(draft: Draft) -> None:
    """Forget a draft; its file goes.  Never fails, and may be called twice."""
    with draft.lock:
        draft.dropped = True
        draft.parts.clear()
        if draft.fd >= 0:
            os.close(draft.fd)
            draft.fd = -1
            with suppress(OSError):
                os.unlink(draft.path)


def place(drafts: Sequence[Draft], known: set[str]) -> list[Exception | None]:
    """
    Put messages into all their maildrops, durable when it returns; for each, what went wrong.

    One call for many messages: each folder is synced once for all of them.
    ``known`` are folders whose own names are known to be durable.
    """
    outcomes: list[Exception | None] = [None] * len(drafts)
    linked: list[list[str]] = [[] for _ in drafts]

    def each(step: Callable[[int, Draft], None]) -> None:
        for number, draft in enumerate(drafts):
            if outcomes[number] is None:
                try:
                    step(number, draft)
                except OSError as error:
                    outcomes[number] = failure(draft.name, error)
                except Exception as error:  # a bug costs one message, not the group
                    outcomes[number] = error

    each(lambda _, draft: _write(draft, known))
    each(lambda _, draft: os.fsync(draft.fd))
    each(lambda number, draft: _link(draft, linked[number]))
    unsynced = _sync_folders({os.path.dirname(path) for paths in linked for path in paths})
    for number, draft in enumerate(drafts):
        for path in linked[number]:
            outcomes[number] = outcomes[number] or unsynced.get(os.path.dirname(path))
        if outcomes[number] is not None:
            for path in linked[number]:
                with suppress(OSError):
                    os.unlink(path)
        drop(draft)
    return outcomes


def _write(draft: Draft, known: set[str]) -> None:
    for folder in draft.folders:
        if folder not in known:
            make(folder)
            known.add(folder)
    with draft.lock:
        if draft.dropped:
            raise OSError(errno.ECANCELED, "the delivery was given up", draft.path)
        _append(draft, draft.parts)
        draft.parts.clear()


def _link(draft: Draft, linked: list[str]) -> None:
    """One file, as many names as maildrops."""
    name = names.with_sizes(draft.name, draft.size)
    for folder in draft.folders:
        target = f"{folder}/new/{name}"
        try:
            os.link(draft.path, target)
        except OSError as error:
            if error.errno == errno.ENOENT:
                make(folder)  # somebody removed it; if it was the draft that went, this fails again
                os.link(draft.path, target)
            elif error.errno in (errno.EXDEV, errno.EMLINK):
                _copy(draft, folder, target)
            else:
                raise
        linked.append(target)


def _copy(draft: Draft, folder: str, target: str) -> None:
    """A maildrop on another file system gets a file of its own."""
    path = f"{folder}/tmp/{draft.name}"
    fd = os.open(path, _CREATE, 0o600)
    try:
        flock(fd, LOCK_EX | LOCK_NB)
        with open(draft.path, "rb") as source, open(fd, "wb", closefd=False) as copy:
            shutil.copyfileobj(source, copy)
        os.fsync(fd)
        os.link(path, target)
    finally:
        os.unlink(path)
        os.close(fd)


def _sync_folders(folders: Iterable[str]) -> dict[str, TemporaryFailure]:
    """Sync each; what went wrong, by folder."""
    wrong = {}
    for folder in folders:
        try:
            sync_folder(folder)
        except OSError as error:
            wrong[folder] = failure(folder, error)
    return wrong
