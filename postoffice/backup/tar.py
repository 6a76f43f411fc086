"""A backup as one tar, compressed as its name says; it is written and read as a stream."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sys
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, cast

from postoffice.backup.manifest import MANIFEST, PIECE, BackupError, Octets
from postoffice.backup.writer import Hashed, check_owner
from postoffice.daemon.privileges import as_root
from postoffice.store.files import try_lock
from postoffice.util.atomic_file import sync_folder

_Stream = IO[bytes] | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile
#: The ending of a name, and what compresses such a file.
WRITERS: dict[str, Callable[[IO[bytes]], _Stream]] = {
    ".tar": lambda file: file,
    ".tar.gz": lambda file: gzip.GzipFile("", "wb", 6, file, 0),
    ".tgz": lambda file: gzip.GzipFile("", "wb", 6, file, 0),
    ".tar.bz2": lambda file: bz2.BZ2File(file, "wb"),
    ".tar.xz": lambda file: lzma.LZMAFile(file, "wb", preset=1),  # noqa: SIM115
}
_READERS: tuple[tuple[bytes, Callable[[IO[bytes]], _Stream]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file, mode="rb")),
    (b"BZh", lambda file: bz2.BZ2File(file, "rb")),
    (b"\xfd7zXZ\0", lambda file: lzma.LZMAFile(file, "rb")),  # noqa: SIM115
)
PART = ".part"
#: The most octets of an extended header, such as a long name.
HEADERS = 1 << 16


def is_tar(path: str) -> bool:
    """Whether a target of this name is a tar, and not a folder."""
    return path == "-" or any(path.endswith(suffix) for suffix in WRITERS)


class TarTarget:
    """
    Writes the file ``path``, under another name until it is complete; ``-`` is standard output.

    Only the user who runs the command may read it.  Raises BackupError, OSError.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._part = ""
        self._files = ExitStack()
        file: IO[bytes] = sys.stdout.buffer
        if path != "-":
            self._part = path + PART
            file = self._files.enter_context(_begin(self._part))
        self._file = file
        suffix = max((one for one in WRITERS if path.endswith(one)), key=len, default=".tar")
        self._packed = WRITERS[suffix](file)
        self._tar = tarfile.open(  # noqa: SIM115
            fileobj=self._packed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=PIECE
        )

    def known(self, name: str, size: int, mtime: int) -> str | None:
        return None

    def add(self, name: str, size: int, mtime: int, octets: Octets) -> None:
        if size <= PIECE:
            octets = io.BytesIO(_all(octets, size))
        elif isinstance(octets, Hashed):
            octets.fills = True  # part of it is written when reading fails
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size, mtime // 10**9, 0o600
        self._tar.addfile(info, cast(IO[bytes], octets))
        _forget_members(self._tar)

    def link(self, name: str, first: str) -> None:
        """Do nothing: the manifest has the link."""

    def commit(self, manifest: IO[bytes]) -> None:
        size = os.fstat(manifest.fileno()).st_size
        self.add(MANIFEST, size, time.time_ns(), manifest)
        self._tar.close()
        if self._packed is not self._file:
            self._packed.close()
        self._file.flush()
        if self._part:
            os.fsync(self._file.fileno())
            with as_root():
                os.rename(self._part, self._path)
                sync_folder(os.path.dirname(self._path) or ".")
            self._files.close()

    def abandon(self) -> None:
        if self._part:
            with suppress(OSError), as_root():
                os.unlink(self._part)
        with suppress(OSError):  # the disk is full, and the file has a buffer
            self._files.close()


def _all(octets: Octets, size: int) -> bytes:
    """Read all of a file before any of it is written."""
    found = bytearray()
    while len(found) < size and (piece := octets.read(size - len(found))):
        found += piece
    return bytes(found)


def _begin(part: str) -> IO[bytes]:
    """Open the incomplete file; overwrite what a killed backup has left."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(part, flags, 0o600)
    try:
        check_owner(fd)
        if not try_lock(fd):
            raise BackupError("another backup to it is running")
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return open(fd, "wb")


@contextmanager
def readable() -> Iterator[None]:
    """Turn the errors of an invalid, damaged or truncated tar into BackupError."""
    try:
        yield
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise BackupError(f"it is no tar, or is damaged: {error}") from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 raise it for damaged data
            raise BackupError(f"it is damaged: {error}") from error
        raise


class _Member(tarfile.TarInfo):
    """A member of a tar; refuses long extended headers, which tarfile reads into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) and self.size > HEADERS:
            raise BackupError(
                f"it is no backup of ours: a header of {self.size} octets is too large"
            )
        return super()._proc_member(tar)  # type: ignore[misc, no-any-return]


class TarSource:
    """Reads a tar from its beginning, as often as needed.  Raises BackupError, OSError."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115
        self.size = os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()

    def read_so_far(self) -> int:
        return self._file.tell()

    def members(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        """See ``BackupSource``."""
        self._file.seek(0)
        start = self._file.read(8)
        self._file.seek(0)
        packed = next((read for magic, read in _READERS if start.startswith(magic)), None)
        file = packed(self._file) if packed else self._file
        with tarfile.open(fileobj=file, mode="r|", bufsize=PIECE, tarinfo=_Member) as tar:
            yield from _members(tar)


def _forget_members(tar: tarfile.TarFile) -> None:
    """Free the list of members, which tarfile keeps for ever."""
    vars(tar)["members"] = []


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, int, IO[bytes]]]:
    while (member := tar.next()) is not None:
        _forget_members(tar)
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise BackupError(
                f"it is no backup of ours, or was changed: {member.name!r} in it is no plain file"
            )
        octets = tar.extractfile(member)
        assert octets is not None
        yield member.name, member.size, octets
