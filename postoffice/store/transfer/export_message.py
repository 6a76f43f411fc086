"""A message of a maildrop that is exported: found, opened, and what is known of it.  Blocking."""

from __future__ import annotations

import os
from dataclasses import dataclass

from postoffice.model.listing import Entry
from postoffice.store import maildir, names
from postoffice.store.files import open_plain
from postoffice.store.text import PIECE
from postoffice.store.transfer.text_digest import TextDigest


class UnreadableMessage(Exception):
    """A message could not be read; the text says why."""


@dataclass(frozen=True)
class MessageToExport:
    """A message in the maildrop ``folder``, and its place in the target's order."""

    folder: str
    entry: Entry
    place: int

    @property
    def uidl(self) -> str:
        return self.entry.uidl

    def open(self) -> OpenMessage | None:
        """Open it, wherever it is now; None if it is gone.  Raises UnreadableMessage, OSError."""
        subpath: str | None = self.entry.name
        for _ in range(2):
            try:
                fd, status = open_plain(f"{self.folder}/{subpath}")
                return OpenMessage(self, str(subpath), fd, status)
            except FileNotFoundError:
                subpath = maildir.subpaths(self.folder).get(self.uidl)
                if subpath is None:
                    return None
            except OSError as error:
                raise UnreadableMessage(f"{subpath}: {error.strerror}") from error
        return None


@dataclass(frozen=True)
class OpenMessage:
    """An open message, with where it is in its maildrop; close it by ``with``."""

    message: MessageToExport
    subpath: str
    fd: int
    status: os.stat_result

    def __enter__(self) -> OpenMessage:
        return self

    def __exit__(self, *why: object) -> None:
        os.close(self.fd)

    @property
    def path(self) -> str:
        return f"{self.message.folder}/{self.subpath}"

    @property
    def name(self) -> str:
        return os.path.basename(self.subpath)

    @property
    def flags(self) -> str:
        """Its Maildir flags, in order."""
        return names.flags_of(self.name)

    @property
    def is_old(self) -> bool:
        """Whether a mail program has listed it before: in Maildirs, it is in cur."""
        return self.subpath.startswith("cur/")

    @property
    def arrived(self) -> float:
        """When it arrived, in seconds; if it was imported, at the old server."""
        written = self.status.st_mtime
        return written if names.imported(self.name) else names.time_of(self.name, written)

    def digest(self) -> TextDigest:
        """Read all of it; return the digest of what is sent.  Raises UnreadableMessage."""
        os.lseek(self.fd, 0, os.SEEK_SET)
        return TextDigest.of(iter(lambda: self.read(PIECE), b""))

    def read(self, most: int) -> bytes:
        """Read on.  Raises UnreadableMessage."""
        try:
            return os.read(self.fd, most)
        except OSError as error:
            raise UnreadableMessage(f"{self.subpath}: {error.strerror}") from error
