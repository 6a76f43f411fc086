"""Which durability a store can have: what its file system and the system promise."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from typing import NamedTuple

from postoffice.model.errors import StartupError

JOURNAL = "journal"
FILES = "files"

#: Where the journal's promises hold, where they should, and where they are known not to.
SAFE = frozenset({"ext4", "xfs"})
UNTESTED = frozenset({"btrfs", "zfs", "bcachefs", "f2fs", "ext3", "ext2", "tmpfs", "ramfs"})
#: syncfs reports what failed (before, it said that all was well).
LINUX = (5, 17)

_MOUNTS = "/proc/self/mountinfo"


class _Mount(NamedTuple):
    number: str  # of its device
    path: str
    kind: str


def choose(path: str, wanted: str) -> tuple[str, str]:
    """
    ``wanted`` or, where that is "", the best that can be had; and a warning, or "".

    Where the journal is asked for, a maildrop on another file system gets no
    mail, and keeps nobody else from theirs.  Raises StartupError where the
    journal is asked for and cannot be right for the store.
    """
    if wanted == FILES:
        return FILES, ""
    kind, elsewhere = file_system(path), apart(path)
    if kind in SAFE and _linux() >= LINUX and not elsewhere:
        return JOURNAL, ""
    why = f"the store {path} is on {kind}"
    if elsewhere:
        why = f"{elsewhere} is on another file system than the store {path}"
    elif kind in SAFE:
        why = f"Linux {platform.release()} does not report what syncfs could not write"
    if not wanted:
        return FILES, f"{why}: durability: files is taken, which syncs each message by itself"
    if elsewhere and kind in SAFE | UNTESTED and _linux() >= LINUX:
        return JOURNAL, f"{why}: mail for it is refused; move it back, or take durability: files"
    if kind in UNTESTED and _linux() >= LINUX:
        return JOURNAL, f"{why}, where the journal was not tested against power cuts"
    raise StartupError(
        f"{why}, where durability: journal cannot keep what it promises; take durability: files, "
        "or put the whole store on ext4 or XFS"
    )


def apart(path: str) -> str:
    """
    A maildrop, or a domain, that is on another file system than the store; "" if none is.

    Other disks are not synced with the journal's.
    """
    device = _device(path)
    for domain in _subfolders(path):
        for folder in (domain, *_subfolders(domain)):
            if _device(folder) not in (device, None):
                return folder
    return ""


def _device(path: str) -> int | None:
    with suppress(OSError):  # a link to nowhere, or into a circle
        return os.stat(path).st_dev
    return None


def _subfolders(path: str) -> list[str]:
    """Links to folders are some, too; what we may not look at (lost+found) holds no mail."""
    with suppress(OSError), os.scandir(path) as items:
        return [item.path for item in items if not item.name.startswith(".") and _is_folder(item)]
    return []


def _is_folder(item: os.DirEntry[str]) -> bool:
    with suppress(OSError):
        return item.is_dir()
    return False


def _linux() -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    if platform.system() != "Linux" or found is None:
        return (0, 0)
    return int(found[1]), int(found[2])


def file_system(path: str) -> str:
    """The kind of file system that a folder is on, as Linux calls it; "unknown" elsewhere."""
    mounts = _mounts()
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = {mount.number: mount.kind for mount in mounts}
    if number in kinds:
        return kinds[number]
    real = os.path.realpath(path)  # btrfs and overlay give numbers that no mount has
    above = [mount for mount in reversed(mounts) if _is_below(real, mount.path)]
    return max(above, key=lambda mount: len(mount.path)).kind if above else "unknown"


def _mounts() -> list[_Mount]:
    """What is mounted; on the same place the later over the earlier (proc_pid_mountinfo(5))."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            # a name may hold whatever else others take for a blank or the end of a line
            lines = [line.rstrip("\n").split(" ") for line in file]
    except OSError:
        return []
    # behind six fields there are as many more as it takes, and a dash
    return [_Mount(words[2], _plain(words[4]), words[words.index("-", 6) + 1]) for words in lines]


def _is_below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")


def _plain(name: str) -> str:
    """A path as it is: mountinfo writes blanks and the like as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)
