"""What the command asks of a store, besides keeping mail: maintenance, retention, backup."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from zope.interface import Attribute, Interface

from postoffice.model.address import Quota
from postoffice.model.listing import Entry
from postoffice.model.mail_policy import KeepTimes

#: Progress callback: called with the number of steps done, and the number of all steps.
Step = Callable[[int, int], object]


def no_progress(done: int, of: int) -> None:
    """A Step that reports nothing."""


@dataclass(frozen=True)
class MaildropUsage:
    """
    What a maildrop holds, and what its vault holds (the vault keeps removed mail for a while).

    ``oldest`` is when the oldest message arrived, ``login`` when a client last logged in:
    seconds since 1970, or None.
    """

    name: str
    messages: int
    octets: int
    oldest: float | None = None
    login: float | None = None
    vault_messages: int = 0
    vault_octets: int = 0


@dataclass(frozen=True)
class PurgeCriteria:
    """
    Which messages a purge removes.

    Messages older than so many seconds, messages larger than so many octets, and then the
    oldest of the rest until the maildrop is within ``quota``.
    """

    older_than: float | None = None
    larger_than: int | None = None
    quota: Quota | None = None


@dataclass(frozen=True)
class VaultSession:
    """The messages that one session removed from a maildrop and that can be restored."""

    session: str
    time: float
    messages: int
    octets: int


@dataclass(frozen=True)
class Finding:
    """A problem in a maildrop, and whether it was repaired."""

    path: str
    what: str
    mended: bool


class IMaildropMaintenance(Interface):
    """
    Optional interface of a store: maintenance by the ``postoffice`` command.

    Names are names of maildrops (``account.maildrop``). While a session holds a maildrop,
    a method that would change that maildrop raises MaildropLocked.
    """

    def holdings(step: Step | None = None) -> Awaitable[Sequence[MaildropUsage]]:
        """Return the usage of all maildrops, also of removed accounts; a step is one maildrop."""

    def strays() -> Awaitable[Sequence[Finding]]:
        """Return the files that lie where no account's maildrop can be."""

    def purge(
        name: str, which: PurgeCriteria, dry: bool, step: Step | None = None
    ) -> Awaitable[tuple[int, int]]:
        """
        Remove messages, or with ``dry`` only select them; return how many, and their octets.

        A step is one message.
        """

    def vault_sessions(name: str) -> Awaitable[Sequence[VaultSession]]:
        """Return the sessions whose removed messages can be restored, oldest first."""

    def undelete(name: str, session: str, since: float) -> Awaitable[int]:
        """
        Restore what one session removed, or if it is "" all that was removed since a time.

        Returns how many messages were restored. They keep their dates and UIDLs.
        """

    def verify(
        name: str, quota: Quota, repair: bool, step: Step | None = None
    ) -> Awaitable[Sequence[Finding]]:
        """
        Check all files of a maildrop; with ``repair`` also make the repairs that are safe.

        A step is one message.
        """


@dataclass(frozen=True)
class ImportSource:
    """
    A Maildir or mbox to import: its path, whose it was ("" to find out), Dovecot's UIDL format.

    ``uidls`` is the path of a table that ``doveadm fetch`` has made, or "".
    ``reuse_xuidl``: an X-UIDL field is the UIDL, as with Dovecot's ``pop3_reuse_xuidl``.
    ``age_real``: retention counts from the arrival at the old server, else from the import.
    ``dry``: nothing is imported, only counted.
    """

    path: str
    kind: str = ""
    uidl_format: str = ""
    age_real: bool = False
    dry: bool = False
    reuse_xuidl: bool = False
    uidls: str = ""


@dataclass
class ImportResult:
    """
    What an import did, or would do; ``octets`` are of the messages that it imported.

    ``kind`` is whose Maildir it was. ``there`` is how many were there already, or had been imported
    before; ``copied`` is how many could not be linked; ``left`` names those that cannot be served,
    and why. ``listed`` is what the old server has now: UIDLs, and the old names of files;
    ``removed`` is how many were removed here because the old server no longer has them.
    """

    kind: str
    messages: int = 0
    octets: int = 0
    there: int = 0
    copied: int = 0
    left: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    removed: int = 0
    listed: frozenset[str] = frozenset()


class IMaildropImport(Interface):
    """Optional interface of a store: ``postoffice maildrop import`` needs it."""

    def bring_in(
        name: str, source: ImportSource, step: Step | None = None
    ) -> Awaitable[ImportResult]:
        """
        Put the messages of a source into a maildrop, those that were not imported before.

        They keep their UIDLs, order, dates and flags. A step is one message. Raises
        MaildropLocked while a session holds the maildrop, CannotImport if there is no such
        source, TemporaryFailure: the next import goes on where this one stopped.
        """


@dataclass(frozen=True)
class ExportTarget:
    """
    Where a maildrop is exported to, and in which format: "maildir" or "mbox".

    ``below`` are the folders, and the name, below ``path``; they are made, and are never links.
    ``link``: make hard links instead of copies, where that is possible.
    ``dry``: nothing is exported, only counted.
    """

    path: str
    below: tuple[str, ...] = ()
    format: str = "maildir"
    link: bool = False
    dry: bool = False

    @property
    def name(self) -> str:
        """The path of the Maildir or mbox."""
        return "/".join((self.path, *self.below))


@dataclass
class ExportResult:
    """
    What an export did, or would do; ``octets`` are of the messages that it exported, as sent.

    ``there`` is how many had been exported before; ``linked`` is how many are hard links; ``left``
    names those that could not be exported, and why.
    """

    messages: int = 0
    octets: int = 0
    there: int = 0
    linked: int = 0
    left: list[str] = field(default_factory=list)


class IMaildropExport(Interface):
    """Optional interface of a store: ``postoffice maildrop export`` needs it."""

    def take_out(
        name: str, target: ExportTarget, step: Step | None = None
    ) -> Awaitable[ExportResult]:
        """
        Write the messages of a maildrop to a Maildir or mbox, those that it does not have yet.

        They keep their UIDLs, order, dates and flags. A step is one message. A session may
        hold the maildrop meanwhile. Raises CannotExport if the target is not for an export,
        TemporaryFailure: the next export goes on where this one stopped.
        """


class Piece(NamedTuple):
    """
    A file of a store: its name in the backup, ``DOMAIN/LOCALPART/…``, and its path on disk now.

    ``uidl`` is the UIDL if the file is a message; it never changes. ``empty`` means that
    the file has no content and only its time matters. ``aside``: recovery has set the message
    aside, so that it is not in its folder yet.
    """

    name: str
    path: str
    uidl: str = ""
    empty: bool = False
    aside: bool = False


class IStoreBackup(Interface):
    """Optional interface of a store of files: ``postoffice backup`` and ``restore`` need it."""

    path = Attribute("str: the folder of all maildrops")

    def settle() -> Awaitable[None]:
        """Wait until all accepted mail is visible in the folders. Raises TemporaryFailure."""

    def folder_of(name: str) -> str:
        """Return the folder of a maildrop, as ``DOMAIN/LOCALPART``."""

    def folders() -> Awaitable[Sequence[tuple[str, int]]]:
        """Return the folders of all maildrops, each with about how many files it has."""

    def pieces(folder: str) -> Awaitable[Sequence[Piece]]:
        """Return all files of a maildrop. Raises TemporaryFailure."""

    def find_again(piece: Piece) -> Piece | None:
        """Return where a message that has moved is now; None if the message is gone."""

    def removed() -> Iterator[Piece]:
        """Return the kept mail of removed accounts."""

    def staging(folder: str) -> Awaitable[str]:
        """Make a new folder for messages that will be restored into a maildrop; return its path."""

    def put_back(folder: str, staging: str) -> Awaitable[tuple[int, int]]:
        """
        Move the staged messages into the maildrop, except those that it already has.

        Returns how many were moved and how many were there already. Raises MaildropLocked
        while a session holds the maildrop.
        """


class IRetention(Interface):
    """
    Optional interface of a store: expire mail.

    Without it mail stays until somebody deletes it, and POP3 clients are told so (EXPIRE
    NEVER).
    """

    def collect(
        name: str, entries: Sequence[Entry], device: str, devices: frozenset[str] | None
    ) -> Awaitable[Sequence[Entry]]:
        """
        Record that a device has collected these messages; return those that now count as collected.

        ``device`` is as in ``Account.device``, ``devices`` as in ``KeepTimes``. The
        caller is the session that holds the lock of this maildrop. The record may get
        lost; mail then stays longer than set, and never goes early.
        """

    def expire(name: str, keep: KeepTimes, dry: bool) -> Awaitable[tuple[int, int]]:
        """
        Remove expired messages, or with ``dry`` only select them; return their number and octets.

        Raises MaildropLocked if there are expired messages and a session holds the
        maildrop.
        """
