"""Maildrops that refuse: what the journal has for them is set aside, and comes later (rule 15)."""

from __future__ import annotations

import array
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from os import open as _open  # as it is, whatever a campaign makes of os.open
from pathlib import Path
from random import Random

from faults.daemon import DOMAIN

_GET, _SET, _IMMUTABLE = 0x80086601, 0x40086602, 0x10  # FS_IOC_GETFLAGS and so on

#: The ways: no message that is there can go; none can come; the maildrop is on another disk.
MESSAGES, FOLDER, ELSEWHERE = "messages", "folder", "elsewhere"


def is_immutable(path: str | Path) -> bool:
    """As ``lsattr`` shows it.  Raises OSError."""
    fd = _open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(fd, _GET, flags, True)
        return bool(flags[0] & _IMMUTABLE)
    finally:
        os.close(fd)


def make_immutable(path: str | Path, *, immutable: bool = True) -> None:
    """As ``chattr +i`` does it, or -i.  Raises OSError."""
    fd = _open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(fd, _GET, flags, True)
        flags[0] = flags[0] | _IMMUTABLE if immutable else flags[0] & ~_IMMUTABLE
        fcntl.ioctl(fd, _SET, flags)
    finally:
        os.close(fd)


def cannot(folder: Path) -> str:
    """Why no maildrop below this can be made to refuse; "" if it can."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        try:
            make_immutable(file.name)
            make_immutable(file.name, immutable=False)
        except OSError as error:
            return f"no file can be made immutable here ({error.strerror})"
    return ""


def messages(maildrop: Path) -> list[Path]:
    return [path for box in ("new", "cur") for path in (maildrop / box).glob("*")]


class Refusing:
    """One maildrop of a store that refuses for a while, or none; ``times``: how often one did."""

    def __init__(self, store: Path, names: Iterable[str]) -> None:
        self._maildrops = [store / DOMAIN / name for name in names]
        self._store = store
        self._far = ""  # where one is that was moved
        self._moved: Path | None = None
        self.times = 0

    @property
    def moved(self) -> bool:
        """Whether one is on another disk."""
        return self._moved is not None

    def begin(self, random: Random, how: str) -> None:
        """One of those that are there refuses; to move it nobody may serve it."""
        there = [one for one in self._maildrops if (one / "new").is_dir()]
        if not there:
            return
        chosen = random.choice(there)
        self.times += 1
        if how == MESSAGES:
            for path in messages(chosen):
                with suppress(FileNotFoundError):  # somebody has just collected it
                    make_immutable(path)
        elif how == FOLDER:
            make_immutable(chosen / "new")
        elif self._moved is None:
            self._far = tempfile.mkdtemp(prefix="elsewhere-", dir=_other_disk(self._store))
            shutil.copytree(chosen, f"{self._far}/maildrop", symlinks=True)
            shutil.rmtree(chosen)
            chosen.symlink_to(f"{self._far}/maildrop")
            self._moved = chosen

    def end(self) -> None:
        """
        Nothing is immutable any more.

        A message may have another name in tmp still, which no start could sweep then; it goes.
        """
        refused = [path for path in self._texts() if _is_refused(path)]
        for path in refused:
            make_immutable(path, immutable=False)
            path.unlink()
        for maildrop in self._maildrops:
            for path in (maildrop / "new", *messages(maildrop)):
                with suppress(FileNotFoundError):
                    make_immutable(path, immutable=False)

    def _texts(self) -> list[Path]:
        return [path for maildrop in self._maildrops for path in (maildrop / "tmp").glob("*")]

    def come_back(self) -> None:
        """What was moved is where it was; nobody may serve it."""
        if self._moved is not None:
            self._moved.unlink()
            shutil.copytree(f"{self._far}/maildrop", self._moved, symlinks=True)
            shutil.rmtree(self._far)
            self._moved = None

    def left(self) -> list[str]:
        """What still waits, although nothing refuses any more and everybody has logged in."""
        aside = self._store / ".journal" / "set-aside"
        return [f"still set aside: {path}" for path in aside.rglob("*") if path.is_file()]


def _is_refused(path: Path) -> bool:
    try:
        return is_immutable(path)
    except OSError:  # swept; or on a file system without such flags, where nothing was refused
        return False


def _other_disk(store: Path) -> str:
    """A folder on another file system than the store's."""
    device = os.stat(store).st_dev
    for folder in ("/dev/shm", tempfile.gettempdir(), os.getcwd()):
        if os.path.isdir(folder) and os.stat(folder).st_dev != device:
            return folder
    raise OSError("there is no second file system here")
