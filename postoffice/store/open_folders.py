"""Folders of maildrops that stay open from one batch to the next, in a pool."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from resource import RLIMIT_NOFILE, getrlimit
from threading import Lock

from postoffice.store.files import FOLDER, MaildropRef, identity
from postoffice.store.quota.open_count import OpenCount

#: The most maildrops that stay open; each takes four descriptors at most.
LIMIT = 200


class OpenFolders:
    """
    Open folders of maildrops; the least recently used ones are closed.

    One batch uses it at a time.  The key is the MaildropRef, which has the
    folder's identity: a new maildrop of the same name is opened anew.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[MaildropRef, int] = OrderedDict()
        self._counts: dict[MaildropRef, OpenCount] = {}

    def open(self, ref: MaildropRef) -> int:
        """The folder's descriptor.  Raises OSError, also if another folder has taken its path."""
        fd = self._open.get(ref)
        if fd is None:
            fd = os.open(ref.path, FOLDER)
            if identity(os.fstat(fd)) != ref.identity:
                os.close(fd)
                raise was_taken_away(ref)
            self._open[ref] = fd
        self._open.move_to_end(ref)
        return fd

    def count(self, ref: MaildropRef) -> OpenCount:
        """The open maildirsize of a maildrop.  Raises OSError."""
        count = self._counts.get(ref)
        if count is not None and not count.is_in_place():
            self._counts.pop(ref).close()
            count = None
        if count is None:
            count = self._counts[ref] = OpenCount(self.open(ref))
        return count

    def forget(self, ref: MaildropRef) -> None:
        """Close a folder: its maildrop was moved away, or room is needed."""
        if (count := self._counts.pop(ref, None)) is not None:
            count.close()
        if (fd := self._open.pop(ref, None)) is not None:
            os.close(fd)

    def trim(self, most: int) -> None:
        """Keep at most ``most`` folders open.  No batch may use them meanwhile."""
        while len(self._open) > most:
            self.forget(next(iter(self._open)))


class FolderPool:
    """OpenFolders for batches that are committed at the same time: each borrows its own."""

    def __init__(self, keep: int | None = None) -> None:
        """``keep``: folders that stay open after a batch; None: as the descriptor limit allows."""
        if keep is None:
            keep = min(LIMIT, getrlimit(RLIMIT_NOFILE)[0] // 32)
        self._keep = keep
        self._free: list[OpenFolders] = []
        self._lock = Lock()

    @contextmanager
    def borrowed(self) -> Iterator[OpenFolders]:
        """Borrow OpenFolders for one batch."""
        with self._lock:
            folders = self._free.pop() if self._free else OpenFolders()
        try:
            yield folders
        finally:
            folders.trim(self._keep)
            with self._lock:
                self._free.append(folders)

    def close(self) -> None:
        """Close all folders; no batch may be under way."""
        for folders in self._free:
            folders.trim(0)


def was_taken_away(ref: MaildropRef) -> OSError:
    """The error where a maildrop's path leads to another folder, or to none."""
    return OSError(errno.ESTALE, "the maildrop was taken away", ref.path)
