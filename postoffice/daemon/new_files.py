"""
Creates folders and files with a given owner and mode, whatever the umask; never overwrites.

The functions block.
"""

from __future__ import annotations

import os
from io import BufferedWriter

from postoffice.daemon.privileges import Identity


def folder(
    path: str, mode: int, owner: Identity | None = None, *, group_only: bool = False
) -> bool:
    """
    Create a folder, and its parents; return whether it is new.

    With ``group_only`` only the group is set, not the user.  Everybody may pass through
    the parents. Raises OSError.
    """
    above = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(above):
        folder(above, 0o755)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return False
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _set(fd, mode, owner, group_only)
    finally:
        os.close(fd)
    return True


def file(
    path: str, mode: int, owner: Identity | None = None, *, group_only: bool = False
) -> BufferedWriter:
    """Create a file and open it for writing; an existing file is not touched.  Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _set(fd, mode, owner, group_only)
    except BaseException:
        os.close(fd)
        os.unlink(path)
        raise
    return open(fd, "wb")


def give(path: str, owner: Identity) -> None:
    """Give an empty folder that root owns to ``owner``; leave any other.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid == 0 and not os.listdir(fd):
            _set(fd, 0o700, owner, False)
    finally:
        os.close(fd)


def _set(fd: int, mode: int, owner: Identity | None, group_only: bool) -> None:
    if owner is not None and os.geteuid() == 0:
        os.fchown(fd, -1 if group_only else owner.uid, owner.gid)
    os.fchmod(fd, mode)
