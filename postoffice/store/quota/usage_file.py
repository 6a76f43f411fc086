"""The file ``maildirsize`` (Maildir++): its format, and how it is opened.  Blocking."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from postoffice.model.address import Quota

#: The file in a maildrop that has its usage.
FILE = "maildirsize"
#: The most octets of the file; a longer one is recounted (Maildir++).
LONGEST = 5120
#: Errors of open() if the file is missing, or not a regular file that we may read.
_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES)
TO_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_TO_APPEND = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Usage(NamedTuple):
    """The usage of a maildrop: octets of its files, and messages."""

    octets: int
    messages: int

    def less(self, other: Usage) -> Usage:
        """The difference."""
        return Usage(self.octets - other.octets, self.messages - other.messages)


def first_line(quota: Quota) -> bytes:
    """The quota as ``1000000S,1000C``, without what is not limited."""
    words = [f"{quota.octets}S"] if quota.octets else []
    if quota.messages:
        words.append(f"{quota.messages}C")
    return ",".join(words).encode()


@contextmanager
def opened(folder: int, flags: int = _TO_APPEND) -> Iterator[int | None]:
    """Open the file; None if it is missing or not a regular file."""
    try:
        fd = os.open(FILE, flags, dir_fd=folder)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def beginning(fd: int | None) -> bytes:
    """The file's octets, at most LONGEST + 1; empty if there is no file."""
    if fd is None:
        return b""
    try:
        return os.read(fd, LONGEST + 1)
    except (BlockingIOError, IsADirectoryError):
        return b""


def usage_for(text: bytes, quota: Quota) -> Usage | None:
    """The usage in a file that was written for this quota; None if it is not valid."""
    return parse(text) if text.partition(b"\n")[0] == first_line(quota) else None


def parse(text: bytes) -> Usage | None:
    """The sum of the lines after the first; None if the format is wrong."""
    if len(text) > LONGEST or not text.endswith(b"\n"):
        return None
    words = text.partition(b"\n")[2].split()
    if len(words) != 2 * (text.count(b"\n") - 1):
        return None
    try:
        held = Usage(sum(map(int, words[::2])), sum(map(int, words[1::2])))
    except ValueError:
        return None
    return held if held.octets >= 0 and held.messages >= 0 else None
