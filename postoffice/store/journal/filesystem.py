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

#: File systems on which the journal keeps its promises, and on which that was not tested.
SAFE = frozenset({"ext4", "xfs"})
UNTESTED = frozenset({"btrfs", "zfs", "bcachefs", "f2fs", "ext3", "ext2", "tmpfs", "ramfs"})
#: From this version on, syncfs reports failed writes; earlier ones report success.
LINUX = (5, 17)

_MOUNTS = "/proc/self/mountinfo"


class _Mount(NamedTuple):
    number: str  # of its device
    path: str
    kind: str


def choose(path: str, wanted: str) -> tuple[str, str]:
    """
    Return the durability to use, and a warning, or "".

    It is ``wanted``, or, if that is "", the best that the file system allows.  If the
    journal is wanted, a maildrop on another file system gets no mail, and all others do.
    Raises StartupError if the journal is wanted and cannot work for this store.
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
        why = f"Linux {platform.release()} does not report failed writes of syncfs"
    if not wanted:
        return FILES, f"{why}: using durability: files, which syncs each message separately"
    if elsewhere and kind in SAFE | UNTESTED and _linux() >= LINUX:
        return JOURNAL, f"{why}: mail for it is refused; move it back, or use durability: files"
    if kind in UNTESTED and _linux() >= LINUX:
        return JOURNAL, f"{why}, where the journal was not tested against power failures"
    raise StartupError(
        f"{why}, where durability: journal cannot keep its promises; use durability: files, "
        "or put the whole store on ext4 or XFS"
    )


def apart(path: str) -> str:
    """
    Return a maildrop or a domain on another file system than the store; "" if there is none.

    A sync of the journal's file system does not sync that one.
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
    """List the subfolders, links included; none of a folder that we may not read (lost+found)."""
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
    """List the mounts; of two on the same path the later one counts (proc_pid_mountinfo(5))."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            # only these separate: a name may contain other kinds of spaces and line ends
            lines = [line.rstrip("\n").split(" ") for line in file]
    except OSError:
        return []
    # after six fields come optional ones, and a dash
    return [_Mount(words[2], _plain(words[4]), words[words.index("-", 6) + 1]) for words in lines]


def _is_below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")


def _plain(name: str) -> str:
    """Decode a path: mountinfo writes spaces and the like as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)
