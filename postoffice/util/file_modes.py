"""
File permissions: checking access, and setting modes without following links.

Plain functions; they block.
"""

from __future__ import annotations

import os
import stat

#: O_PATH: closing such a descriptor does not release the process's locks on the file (fcntl(2)).
_NAMES = getattr(os, "O_PATH", 0)


def set_mode(path: str, mode: int, *, where: int = 0o777) -> None:
    """
    Set the mode of a file or a folder, if its bits under the mask ``where`` differ from ``mode``.

    Nothing is done to symbolic links, to files with several hard links, and to
    anything that is neither a file nor a folder.  Raises OSError.
    """
    if not (_is_plain(status := os.lstat(path)) and (status.st_mode ^ mode) & where):
        return
    if not _NAMES:  # this system can chmod without following links
        os.chmod(path, mode, follow_symlinks=False)
        return
    fd = os.open(path, _NAMES | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _is_plain(status := os.fstat(fd)) and (status.st_mode ^ mode) & where:
            os.chmod(f"/proc/self/fd/{fd}", mode)  # fchmod does not accept O_PATH descriptors
    finally:
        os.close(fd)


def _is_plain(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)


def may(path: str, what: int) -> bool:
    """Whether this process's effective user has this access (os.R_OK and the like)."""
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)
