"""
Who may read a file: whether one may, and modes that are never set through a link.

Plain functions; they block.
"""

from __future__ import annotations

import os
import stat

#: A descriptor that only names a file: to close it is no reason to lose locks on it (close(2)).
_NAMES = getattr(os, "O_PATH", 0)


def set_mode(path: str, mode: int, *, where: int = 0o777) -> None:
    """
    Give a file or a folder of one name this mode, where it has another under the mask ``where``.

    Links, symbolic ones and files that have a second name, are left as they
    are, as is all that is neither.  Raises OSError.
    """
    if not _NAMES:  # here the system has a call that follows no link
        if _is_plain(status := os.lstat(path)) and (status.st_mode ^ mode) & where:
            os.chmod(path, mode, follow_symlinks=False)
        return
    fd = os.open(path, _NAMES | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _is_plain(status := os.fstat(fd)) and (status.st_mode ^ mode) & where:
            os.chmod(f"/proc/self/fd/{fd}", mode)  # fchmod takes no such descriptor
    finally:
        os.close(fd)


def _is_plain(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)


def may(path: str, what: int) -> bool:
    """Whether the user that this process acts for may do ``what`` (os.R_OK and the like)."""
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)
