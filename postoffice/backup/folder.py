"""A backup as a folder of plain files; a second backup into it writes only what is new."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from postoffice.backup.manifest import (
    MANIFEST,
    PIECE,
    BackupError,
    Octets,
    read_manifest,
    split_name,
)
from postoffice.backup.name_index import NameIndex
from postoffice.backup.tar import WRITERS
from postoffice.backup.writer import check_owner
from postoffice.daemon.privileges import as_root
from postoffice.store.files import make_with_parents, open_plain, try_lock
from postoffice.store.journal.segments import sync_all
from postoffice.util.atomic_file import sync_folder

#: The file that marks a folder as a backup of ours, even if its first backup was interrupted.
MARK = "postoffice-backup"
_NEW = ".new"
_LIKE_A_FILE = re.compile(r"\.(tar\.\w+|zip|gz|bz2|xz|zst|7z)\Z")


class FolderTarget:
    """
    Writes into ``path``, which is new, empty, or an older backup.

    Files that change are written to a folder named by the time.  The old backup stays
    complete until the new manifest replaces the old one.  Raises BackupError, OSError.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._old = NameIndex()  # the files of the previous backup
        self._here = NameIndex()  # the files of this backup
        if not os.path.lexists(self._path):
            if _LIKE_A_FILE.search(self._path):
                raise BackupError("a file is written as " + ", ".join(WRITERS))
            os.mkdir(self._path, 0o700)
        elif not os.path.isdir(self._path):
            raise BackupError(
                "it is not a folder; the name of a file ends in " + ", ".join(WRITERS)
            )
        self._sync = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        check_owner(self._sync)
        self._lock = self._marked()
        os.fchmod(self._sync, 0o700)
        with suppress(FileNotFoundError, BackupError), open(f"{self._path}/{MANIFEST}", "rb") as it:
            for entry in read_manifest(it):
                if not entry.same:
                    said = json.dumps([entry.size, entry.mtime, entry.sha256])
                    self._old.set(entry.path, said)

    def _marked(self) -> int:
        """Return the mark, locked.  Raises BackupError if the folder holds anything else."""
        mark = f"{self._path}/{MARK}"
        if not os.path.lexists(mark) and os.listdir(self._path):
            raise BackupError("it holds something that is no backup: name an empty folder")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(mark, flags, 0o600)
        if not try_lock(fd):
            os.close(fd)
            raise BackupError("another backup into it is running")
        return fd

    def known(self, name: str, size: int, mtime: int) -> str | None:
        said = self._old.get(name)
        if said is None:
            return None
        was, when, digest = json.loads(said)
        if (was, when) != (size, mtime):
            return None
        with as_root():
            try:
                status = os.lstat(self._where(name))
            except OSError:
                return None
        if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (was, when):
            return None
        self._here.set(name, "")
        return str(digest)

    def add(self, name: str, size: int, mtime: int, octets: Octets) -> None:
        part = self._where(_NEW)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with as_root():
            with suppress(FileNotFoundError):
                os.unlink(part)
            fd = os.open(part, flags, 0o600)
        with open(fd, "wb") as file:
            while piece := octets.read(PIECE):
                file.write(piece)
            file.flush()
            with as_root():
                os.utime(fd, ns=(mtime, mtime))
        with as_root():
            make_with_parents(os.path.dirname(self._where(name)), sync=False)
            os.rename(part, self._where(name))
        self._here.set(name, "")

    def link(self, name: str, first: str) -> None:
        here, there = self._where(name), self._where(first)
        with as_root():
            make_with_parents(os.path.dirname(self._where(name)), sync=False)
            if not (os.path.lexists(here) and os.path.samefile(here, there)):
                part = self._where(_NEW)
                with suppress(FileNotFoundError):
                    os.unlink(part)
                try:
                    os.link(there, part)
                except OSError:  # a file system without links, or with too many
                    shutil.copy2(there, part)
                os.rename(part, here)
        self._here.set(name, "")

    def commit(self, manifest: IO[bytes]) -> None:
        self.add(MANIFEST + _NEW, 0, time.time_ns(), manifest)
        with as_root():
            sync_all(self._sync)
            os.rename(self._where(MANIFEST + _NEW), self._where(MANIFEST))
            sync_folder(self._path)
            self._remove_old()
        self._close()

    def abandon(self) -> None:
        with suppress(OSError), as_root():
            for name in (_NEW, MANIFEST + _NEW):
                with suppress(FileNotFoundError):
                    os.unlink(self._where(name))
        self._close()

    def _close(self) -> None:
        os.close(self._lock)
        os.close(self._sync)
        self._old.close()
        self._here.close()

    def _remove_old(self) -> None:
        """Remove files that are not in this backup, also those of an interrupted backup."""
        for root in ("mail", "files"):
            for folder, _, files in os.walk(self._where(root), topdown=False):
                for file in files:
                    path = f"{folder}/{file}"
                    if self._here.get(path[len(self._path) + 1 :]) is None:
                        os.unlink(path)
                with suppress(OSError):  # not empty
                    os.rmdir(folder)

    def _where(self, name: str) -> str:
        return f"{self._path}/{name}"


class FolderSource:
    """Reads the files that the manifest of a folder lists; does not follow links."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)
        self._read = 0
        self.size = 0
        if not os.path.isfile(f"{self._path}/{MANIFEST}"):
            raise BackupError(f"it has no {MANIFEST}: it is no backup, or its first was cut off")
        with open(f"{self._path}/{MANIFEST}", "rb") as manifest:
            self.size = sum(entry.size for entry in read_manifest(manifest))

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def read_so_far(self) -> int:
        return self._read

    def members(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        """See ``BackupSource``."""
        self._read = 0
        with as_root():
            manifest = open(f"{self._path}/{MANIFEST}", "rb")  # noqa: SIM115
        with manifest:
            for entry in read_manifest(manifest):
                if entry.same:
                    continue
                split_name(entry.path)
                fd = self._open(entry.path)
                with open(fd, "rb") as file:
                    yield entry.path, os.fstat(fd).st_size, file
                self._read += entry.size
            manifest.seek(0)
            yield MANIFEST, os.fstat(manifest.fileno()).st_size, manifest

    def _open(self, name: str) -> int:
        path = f"{self._path}/{name}"
        with as_root():
            return self._open_plain(name, path)

    def _open_plain(self, name: str, path: str) -> int:
        if os.path.realpath(os.path.dirname(path)) != os.path.dirname(path):
            raise BackupError(f"{name!r} in it is behind a link")
        try:
            return open_plain(path)[0]
        except OSError as error:
            raise BackupError(f"{name!r} is missing in it: {error.strerror}") from error
