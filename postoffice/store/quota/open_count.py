"""OpenCount: a maildirsize that stays open in a process that delivers often.  Blocking."""

from __future__ import annotations

import os
from fcntl import LOCK_SH, LOCK_UN, flock

from postoffice.model.address import Quota
from postoffice.store.files import FOLDER, identity
from postoffice.store.quota.maildirsize import locked
from postoffice.store.quota.usage_file import FILE, LONGEST, Usage, beginning, opened, usage_for


class OpenCount:
    """
    A maildirsize that stays open, for a process that delivers to the maildrop often.

    It does what ``reserving`` and ``reserve`` do, if all messages fit.  The usage
    is remembered while the file has the same inode and length.
    """

    def __init__(self, folder: int) -> None:
        """``folder``: a descriptor that stays open longer than this.  Raises OSError."""
        self._folder = folder
        self._file = -1
        self._look = (0, 0)  # its inode and its length when it was read
        self._held = Usage(0, 0)
        self._quota: Quota | None = None
        self._gate = os.open("tmp", FOLDER, dir_fd=folder)
        try:
            self._new = os.open("new", FOLDER, dir_fd=folder)
        except BaseException:
            os.close(self._gate)
            raise
        self._locked = [identity(os.fstat(fd)) for fd in (self._gate, self._new)]

    def is_in_place(self) -> bool:
        """Whether ``tmp`` and ``new`` are still the folders that we lock."""
        # no other folder has the identity of one that is open
        there = [identity(os.stat(name, dir_fd=self._folder)) for name in ("tmp", "new")]
        return there == self._locked

    def begin(self) -> None:
        """Take the shared lock: what is reserved is linked or given back before ``end``."""
        flock(self._gate, LOCK_SH)
        try:
            flock(self._new, LOCK_SH)
        finally:
            flock(self._gate, LOCK_UN)

    def end(self) -> None:
        """Release the shared lock."""
        flock(self._new, LOCK_UN)

    def reserve(self, quota: Quota, more: Usage) -> Usage | None:
        """Reserve space; return the new usage.  None: nothing reserved, use ``reserve``."""
        with locked(self._folder):
            try:
                status = os.stat(FILE, dir_fd=self._folder, follow_symlinks=False)
            except FileNotFoundError:
                return None
            look = status.st_ino, status.st_size
            if (look != self._look or quota != self._quota) and not self._read(quota, look):
                return None
            held = Usage(self._held.octets + more.octets, self._held.messages + more.messages)
            line = b"%d %d\n" % more
            if not quota.holds(*held) or look[1] + len(line) > LONGEST:
                return None
            self._quota = None  # not valid if the line is only written in part
            if os.write(self._file, line) < len(line):
                return None
            self._quota, self._look, self._held = quota, (look[0], look[1] + len(line)), held
            return held

    def _read(self, quota: Quota, look: tuple[int, int]) -> bool:
        """Read the file and keep it open.  False if it is not valid for this quota."""
        self._close_file()
        with opened(self._folder) as fd:
            held = usage_for(beginning(fd), quota)
            if fd is None or held is None:
                return False
            status = os.fstat(fd)
            if (status.st_ino, status.st_size) != look:
                return False
            self._file = os.dup(fd)
        self._look, self._held, self._quota = look, held, quota
        return True

    def _close_file(self) -> None:
        self._quota = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def close(self) -> None:
        """Close the file and the folders."""
        self._close_file()
        os.close(self._gate)
        os.close(self._new)
