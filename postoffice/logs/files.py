"""
Where lines of the log come from: files with their rotated older parts, and systemd's journal.

Reading blocks.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from postoffice.logs.line import LONGEST

#: Where the log is looked for, if nothing else is said.
PLACES = ("twistd.log", "/var/log/postoffice/postoffice.log", "/var/log/postoffice.log")
#: How names of rotated logs go on behind the name of the log (logrotate, twistd).
_ROTATED = re.compile(r"[.-][0-9][0-9_.-]*(?:\.(?:gz|bz2|xz))?\Z|\.(?:gz|bz2|xz)\Z")
_OPENERS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


class LogUnreadable(Exception):
    """A log cannot be read; the text says which, and why."""


class LogSource(Protocol):
    """The lines of a log, oldest first; it can be read again and again."""

    @property
    def name(self) -> str:
        """Its name for an administrator."""

    def lines(self, since: float = 0.0) -> Iterator[bytes]:
        """
        Each line; those before ``since`` (Unix time) may be left out.

        Of a line beyond ``LONGEST`` octets the rest is left out.  Raises LogUnreadable.
        """


class LogFiles:
    """
    Log files, each with its rotated older parts beside it, plain or compressed.

    ``twistd.log`` stands for ``twistd.log.2.gz``, ``twistd.log.1`` and ``twistd.log``, by the time
    of their last change.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = [Path(path) for path in paths]

    @property
    def name(self) -> str:
        return ", ".join(map(str, self._paths))

    def lines(self, since: float = 0.0) -> Iterator[bytes]:
        for path in self._parts(since):
            try:
                with _OPENERS.get(path.suffix, open)(path, "rb") as file:
                    yield from _lines_of(file)
            except FileNotFoundError:  # it was rotated away just now
                continue
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                why = getattr(error, "strerror", None) or str(error)
                raise LogUnreadable(f"{path} cannot be read: {why}") from error

    def _parts(self, since: float) -> list[Path]:
        """The files that may have lines from ``since`` on, oldest first."""
        found: dict[Path, tuple[float, int]] = {}
        for number, path in enumerate(self._paths):
            try:
                found[path] = (path.stat().st_mtime, number + 1)
                beside = list(path.parent.iterdir())
            except OSError as error:
                raise LogUnreadable(f"{path} cannot be read: {error.strerror}") from error
            for other in beside:
                if other.name.startswith(path.name) and _ROTATED.match(
                    other.name[len(path.name) :]
                ):
                    try:
                        found.setdefault(other, (other.stat().st_mtime, 0))
                    except FileNotFoundError:
                        continue
        return sorted((path for path in found if found[path][0] >= since), key=found.__getitem__)


def _lines_of(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(LONGEST):
        yield line
        while len(line) == LONGEST and not line.endswith(b"\n"):
            line = file.readline(LONGEST)


class SystemdJournal:
    """
    What a unit of systemd has written, by ``journalctl -o json``.

    ``more`` are further options of journalctl, such as ``--directory=DIR``.
    """

    def __init__(self, unit: str = "postoffice", more: Sequence[str] = ()) -> None:
        self._unit = unit
        self._more = list(more)

    @property
    def name(self) -> str:
        return f"the journal of {self._unit}"

    def lines(self, since: float = 0.0) -> Iterator[bytes]:
        words = ["journalctl", "--output=json", "--output-fields=MESSAGE", "--no-pager", "--quiet"]
        words += [f"--unit={self._unit}", *self._more]
        words += [f"--since=@{int(since)}"] if since > 0 else []
        environment = {**os.environ, "LC_ALL": "C"}
        try:
            process = subprocess.Popen(  # noqa: S603
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=environment,
            )  # fmt: skip
        except OSError as error:
            raise LogUnreadable(f"journalctl cannot be run: {error.strerror}") from error
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                yield from _lines_of(process.stdout)
                said = process.stderr.read(LONGEST).decode(errors="replace").strip()
                process.wait()
            except BaseException:
                process.kill()
                raise
        if process.returncode > 0:
            raise LogUnreadable(f"journalctl failed: {said.splitlines()[-1] if said else ''}")
