"""
The folder of a Maildir at another server, held open.  All functions block.

Its owner may put links and pipes there, and change them while it is read.  So files are opened from
the open folders, and a link is followed only if it belongs to us, to root, or to the owner of its
target: otherwise a user could import the mail of others by a link to it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

from postoffice.model.errors import CannotImport
from postoffice.store.files import FOLDER, READ
from postoffice.store.transfer.import_uidls import base_of

BOXES = ("new", "cur")
#: How often a folder that changes while it is read is read.
READINGS = 5
_LINK = (errno.ELOOP, errno.ENOTDIR)


class OldFolder:
    """An open Maildir; a context manager.  Raises CannotImport, OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fds: dict[str, int] = {}

    def __enter__(self) -> Self:
        try:
            missing = BOXES[0]
            self._fds[""] = _walk(self.path)
            for missing in BOXES:
                self._fds[missing] = _open(missing, FOLDER, self._fds[""], f"{self.path}/{missing}")
        except (FileNotFoundError, NotADirectoryError):
            self.close()
            why = f"{self.path} is no Maildir: there is no folder {missing} in it"
            raise CannotImport(why) from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the folders."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def has(self, name: str) -> bool:
        """Return whether there is a file beside the messages."""
        with suppress(FileNotFoundError):
            os.stat(name, dir_fd=self._fds[""], follow_symlinks=False)
            return True
        return False

    def read(self, name: str, most: int) -> bytes:
        """The first octets of a file beside the messages.  Raises FileNotFoundError."""
        fd = _open(name, READ, self._fds[""], f"{self.path}/{name}")
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise CannotImport(f"{self.path}/{name} is not a regular file")
            return file.read(most)

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """
        The path (``new/NAME``, ``cur/NAME``) and status of each message.

        The other server may rename one while the folders are read, so that it is seen at neither
        place: then they are read again.
        """
        found: dict[str, tuple[str, os.stat_result]] = {}
        for _ in range(READINGS):
            before = self._changed()
            for subpath, status in self._scan():
                found[base_of(subpath.partition("/")[2])] = subpath, status  # one that moved: cur
            if self._changed() == before:
                break
        yield from found.values()

    def _changed(self) -> list[int]:
        return [os.fstat(self._fds[box]).st_mtime_ns for box in BOXES]

    def _scan(self) -> Iterator[tuple[str, os.stat_result]]:
        for box in BOXES:
            with os.scandir(self._fds[box]) as items:
                for item in items:
                    if item.name[0] != "." and item.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):
                            yield f"{box}/{item.name}", item.stat(follow_symlinks=False)

    def find_again(self, base: str) -> str | None:
        """Return where a message is after the old server has set a flag; None if it is gone."""
        files = (subpath for subpath, _ in self.files())
        return next((at for at in files if base_of(at.partition("/")[2]) == base), None)

    def open(self, subpath: str) -> tuple[int, os.stat_result]:
        """Open a message: a regular file."""
        box, _, name = subpath.partition("/")
        fd = os.open(name, READ, dir_fd=self._fds[box])
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "not a regular file", f"{self.path}/{subpath}")
        return fd, status

    def link(self, subpath: str, target: str) -> None:
        """Make a hard link to a message."""
        box, _, name = subpath.partition("/")
        os.link(name, target, src_dir_fd=self._fds[box], follow_symlinks=False)


def open_file(path: str) -> int:
    """Open a regular file; the folders on its path as above.  Raises CannotImport, OSError."""
    folder, name = os.path.split(os.path.abspath(path))
    inside = _walk(folder)
    try:
        fd = os.open(name, READ, dir_fd=inside)
    finally:
        os.close(inside)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def _walk(path: str) -> int:
    """Open a folder, from the root on."""
    fd, at = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), ""
    for name in filter(None, os.path.abspath(path).split("/")):
        at = f"{at}/{name}"
        try:
            inner = _open(name, os.O_PATH | os.O_DIRECTORY, fd, at)
        finally:
            os.close(fd)
        fd = inner
    return fd


def _open(name: str, flags: int, folder: int, path: str) -> int:
    """Open what has this name in an open folder; ``path`` is for error texts."""
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno not in _LINK:
            raise
        link = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISLNK(link.st_mode):
            raise
    fd = os.open(name, (flags & ~os.O_NOFOLLOW) | os.O_CLOEXEC, dir_fd=folder)
    owner = os.fstat(fd).st_uid
    if link.st_uid in (0, os.geteuid(), owner):
        return fd
    os.close(fd)
    raise CannotImport(
        f"{path} is a link of user {link.st_uid} to what belongs to user {owner}: nobody gets the "
        "mail of others by a link; give the path to which it leads"
    )
