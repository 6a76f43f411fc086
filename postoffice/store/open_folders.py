"""Maildrops that stay open from one group of deliveries to the next."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from resource import RLIMIT_NOFILE, getrlimit
from threading import Lock

from postoffice.store.files import MaildropRef, identity
from postoffice.store.quota.maildirsize import OpenCount

#: Maildrops that stay open; each is four descriptors at most.
LIMIT = 200
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class OpenFolders:
    """
    Folders of maildrops, open; the least used ones are closed.

    For one group at a time.  A folder stays open only while its ``MaildropRef``
    says which one it is: who has another of the same name opens that.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[MaildropRef, int] = OrderedDict()
        self._counts: dict[MaildropRef, OpenCount] = {}

    def open(self, ref: MaildropRef) -> int:
        """The folder; raises OSError, also where another is in its place."""
        fd = self._open.get(ref)
        if fd is None:
            fd = os.open(ref.path, _FOLDER)
            if identity(os.fstat(fd)) != ref.identity:
                os.close(fd)
                raise was_taken_away(ref)
            self._open[ref] = fd
        self._open.move_to_end(ref)
        return fd

    def count(self, ref: MaildropRef) -> OpenCount:
        """What counts in it.  Raises OSError."""
        count = self._counts.get(ref)
        if count is not None and not count.is_in_place():
            self._counts.pop(ref).close()
            count = None
        if count is None:
            count = self._counts[ref] = OpenCount(self.open(ref))
        return count

    def forget(self, ref: MaildropRef) -> None:
        """Close one that is not in its place any more."""
        if (count := self._counts.pop(ref, None)) is not None:
            count.close()
        if (fd := self._open.pop(ref, None)) is not None:
            os.close(fd)

    def trim(self, most: int) -> None:
        """Keep so many open; no group is at work."""
        while len(self._open) > most:
            self.forget(next(iter(self._open)))


class FolderPool:
    """Open folders for groups that may be placed at the same time, each with its own."""

    def __init__(self, keep: int | None = None) -> None:
        """``keep`` is how many stay open behind a group: as many as the system allows easily."""
        if keep is None:
            keep = min(LIMIT, getrlimit(RLIMIT_NOFILE)[0] // 32)
        self._keep = keep
        self._free: list[OpenFolders] = []
        self._lock = Lock()

    @contextmanager
    def borrowed(self) -> Iterator[OpenFolders]:
        """For one group."""
        with self._lock:
            folders = self._free.pop() if self._free else OpenFolders()
        try:
            yield folders
        finally:
            folders.trim(self._keep)
            with self._lock:
                self._free.append(folders)

    def close(self) -> None:
        """Nothing is placed any more."""
        for folders in self._free:
            folders.trim(0)


def was_taken_away(ref: MaildropRef) -> OSError:
    """What is wrong where another folder, or none, is in a maildrop's place."""
    return OSError(errno.ESTALE, "the maildrop was taken away", ref.path)
