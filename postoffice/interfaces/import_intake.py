"""What importing from a server, and comparing with it, asks of a store."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from zope.interface import Interface

from postoffice.model.listing import Entry


class IncomingMessage(NamedTuple):
    """A message that an import writes: its UIDL and place here, and its name at the old server."""

    uidl: str
    place: int
    name: str


class ImportedMessage(NamedTuple):
    """
    What the manifest of an import says of a message: its place, and its size as sent.

    ``header`` and ``text`` are SHA-256 in hex of its header and of the whole, or "".
    """

    place: int
    size: int
    header: str = ""
    text: str = ""


class MessageDigest(Protocol):
    """SHA-256 in hex of a message's header and of the whole; its octets and lines as sent."""

    @property
    def header(self) -> str: ...
    @property
    def whole(self) -> str: ...
    @property
    def size(self) -> int: ...

    lines: int


class IImportWriter(Protocol):
    """
    Writes messages of another server into one maildrop.  Its methods block; one thread calls them.

    They raise TemporaryFailure.  ``waiting`` is how many messages ``commit`` will make visible and
    durable, ``octets`` how many octets they have.
    """

    waiting: int
    octets: int

    def open(self) -> None:
        """Begin.  Raises MaildropLocked while a session holds the maildrop."""

    def place_of(self, uidl: str, name: str) -> int | None:
        """Return the place of a message that was imported already, by its UIDL or its old name."""

    def begin(self, message: IncomingMessage) -> None:
        """Begin a message; one that did not end is dropped."""

    def write(self, octets: bytes) -> None:
        """Write the next octets of its text."""

    def end(self, arrived: float | None) -> MessageDigest | str:
        """
        End the message, which arrived then (seconds since 1970, None for now).

        Returns its digest, or why it cannot be served; then it is dropped.
        """

    def drop(self) -> None:
        """Drop the message that was begun."""

    def commit(self) -> tuple[int, int]:
        """
        Make what was written durable and visible; return how many were, and how many were there.

        Raises MaildropLocked while a session holds the maildrop: it may be called again.
        """

    def mark_moved(self, uidls: Collection[str]) -> None:
        """Record, durably, that these messages are deleted at the old server: they are here."""

    def close(self) -> None:
        """End, and drop what is not committed."""


class IMaildropReader(Protocol):
    """Reads one maildrop without a session.  Its methods block, and raise TemporaryFailure."""

    def entries(self) -> Sequence[Entry]:
        """Return what a session would list now."""

    def text(self, entry: Entry) -> Iterator[bytes]:
        """The octets of a message as they are sent.  Raises MessageGone."""

    def imported(self) -> Mapping[str, ImportedMessage]:
        """The manifest of all imports, by UIDL."""


class IMaildropIntake(Interface):
    """Optional interface of a store: import from a POP3 server, and comparison, need it."""

    def import_writer(name: str, age_real: bool) -> IImportWriter:
        """Write into a maildrop; ``age_real`` as in ``ImportSource``."""

    def reader(name: str) -> IMaildropReader:
        """Read a maildrop."""


class IImportMirror(Interface):
    """Optional interface of a store: ``maildrop import --remove-gone`` needs it."""

    def remove_gone(name: str, listed: Collection[str], dry: bool) -> Awaitable[int]:
        """
        Remove imported messages that the old server has no more; return how many.

        ``listed`` is as in ``ImportResult``. They can be restored as those that a session has
        deleted. ``dry``: only count them. Raises MaildropLocked while a session holds the
        maildrop, TemporaryFailure.
        """
