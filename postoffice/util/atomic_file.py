"""Write files that appear complete or not at all, and durably.  Plain functions; they block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def replacing(
    path: str, part: str, create: Callable[[str], int], *, sync: bool = True
) -> Iterator[int]:
    """
    Write a file that is renamed to ``path`` when the block ends.

    ``create`` opens it under the name ``part``.  If the block or the rename fails,
    the file is removed.  Its octets are synced before the rename, unless ``sync`` is
    False; the caller syncs the folder to make the new name durable.
    """
    fd = create(part)
    try:
        yield fd
        if sync:
            os.fsync(fd)
        os.rename(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
    finally:
        os.close(fd)


def sync_folder(path: str, dir_fd: int | None = None) -> None:
    """Make the names in a folder durable.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
