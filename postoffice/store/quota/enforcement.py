"""
Quota enforcement: removes the oldest mail to make room, and collects notices for owners.

Counting is in ``maildirsize``, the delivery of notices in ``notices``.  All functions
block, except ``QuotaEnforcement.told``.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock

from postoffice.model.address import Quota
from postoffice.model.errors import MaildropLocked
from postoffice.model.listing import Entry
from postoffice.store import expunge, fetch_log, files, maildir, names
from postoffice.store import vault as vaults
from postoffice.store.fetch_log import FetchRecord
from postoffice.store.journal.journal import Journal
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.quota.usage_file import Usage

#: The session's name, in the vault, of messages that were removed to make room.
MAKE_ROOM = "make-room"
#: A file in a maildrop: its mtime is that of the last notice, its content the level.
TOLD = "postoffice.told"
#: Seconds from one notice to the next.
A_DAY = 86400.0


@dataclass(frozen=True)
class Notice:
    """
    A notice for the owner of a maildrop.

    ``level`` is the per cent of the quota that was passed.  0: ``removed`` messages
    were removed to make room, with these ``uidls`` and ``octets``, and the vault
    was ``trimmed`` because of them.  ``owner`` is the account's address: if the
    account is renamed, its maildrop keeps the old name.
    """

    folder: str
    quota: Quota
    held: Usage
    level: int = 0
    removed: int = 0
    uidls: tuple[str, ...] = ()
    octets: int = 0
    trimmed: vaults.Trimmed = vaults.NOTHING
    owner: str = ""


@dataclass
class QuotaEnforcement:
    """
    What a commit does about quotas, besides counting.

    ``levels`` are per cents, ascending.  ``undelete``: messages that are removed to
    make room go into the vault, which may hold ``vault_limit`` octets (``vault.trim``).
    """

    journal: Journal | None
    sizes: MeasuredSizes
    undelete: bool = False
    levels: Sequence[int] = ()
    notices: deque[Notice] = field(default_factory=deque)
    vault_limit: int | None = None

    def make_room(
        self, folder: str, quota: Quota, held: Usage, more: Usage, owner: str = ""
    ) -> None:
        """
        Remove the oldest messages until ``more`` fits, those first that were fetched or seen.

        If a session holds the maildrop's lock, nothing is removed.  Raises
        TemporaryFailure, OSError.
        """
        if not more.messages:
            return  # it would not fit into an empty one
        try:
            lock = expunge.lock(self.journal, folder)
        except MaildropLocked:
            return
        try:
            snapshot = maildir.scan(folder, self.sizes)
            going = self._oldest(folder, snapshot.entries, quota, held, more)
            session, whole = MAKE_ROOM if self.undelete else "", snapshot.whole(going)
            trimmed = vaults.NOTHING
            if expunge.take_out(self.journal, lock, folder, whole, session):
                with suppress(OSError):  # the message has its room, and a sweep comes daily
                    trimmed = vaults.trim(folder, self.vault_limit)
        finally:
            os.close(lock)
        if going:
            uidls = tuple(entry.uidl for entry in going)
            octets = sum(entry.size for entry in going)
            notice = Notice(folder, quota, held, 0, len(going), uidls, octets, trimmed, owner)
            self.notices.append(notice)

    def _oldest(
        self, folder: str, entries: Sequence[Entry], quota: Quota, held: Usage, more: Usage
    ) -> list[Entry]:
        record = fetch_log.read(folder)
        going: list[Entry] = []
        octets, messages = held.octets + more.octets, held.messages + more.messages
        for entry in sorted(entries, key=lambda entry: not _was_read(entry, record)):
            if quota.holds(octets, messages):
                break
            going.append(entry)
            size = names.sizes_of(os.path.basename(entry.name)).file
            octets -= entry.size if size is None else size
            messages -= 1
        return going

    def filled(
        self, folder: str, quota: Quota, before: Usage, after: Usage, owner: str = ""
    ) -> None:
        """
        Add a notice if the usage, grown from ``before`` to ``after``, has passed a level.

        Also if it passed the level earlier, and the last notice was of a lower one (at
        most one notice a day is sent).  Raises OSError.
        """
        passed = [level for level in self.levels if level <= _at(quota, after)]
        if passed and (_at(quota, before) < passed[-1] or _told_of(folder) < passed[-1]):
            self.notices.append(Notice(folder, quota, after, level=passed[-1], owner=owner))

    def told(self) -> list[Notice]:
        """Take the notices that were added since the last call."""
        notices = []
        with suppress(IndexError):
            while True:
                notices.append(self.notices.popleft())
        return notices


def _was_read(entry: Entry, record: FetchRecord) -> bool:
    """Whether a device has fetched a message, or its Maildir flag says that it was seen."""
    return record.collected(entry.uidl) is not None or names.is_seen(entry.name)


def _at(quota: Quota, held: Usage) -> float:
    """How full a maildrop is, in per cent: of octets or messages, whichever is more."""
    parts = [0.0]
    if quota.octets:
        parts.append(100 * held.octets / quota.octets)
    if quota.messages:
        parts.append(100 * held.messages / quota.messages)
    return max(parts)


def _told_of(folder: str) -> int:
    """The level of the last notice to the owner."""
    try:
        with open(f"{folder}/{TOLD}", "rb") as file:
            return int(file.read(5))
    except (FileNotFoundError, ValueError):
        return 0


def is_due(folder: str, now: float, level: int) -> bool:
    """
    Whether the last notice is a day old; if so, record one now.  Raises TemporaryFailure.

    ``level``: that of the notice, or 0 if it is of another kind.
    """
    path = f"{folder}/{TOLD}"
    with files.failures(path):
        first = True
        try:
            fd = files.open_own(path, os.O_RDWR | os.O_EXCL)
        except FileExistsError:
            fd, first = files.open_own(path), False
        try:
            if not first and not _is_old(fd, now):
                return False
            if level:
                os.ftruncate(fd, 0)
                os.pwrite(fd, b"%d\n" % level, 0)
            os.utime(fd, (now, now))
        finally:
            os.close(fd)
        return True


def _is_old(fd: int, now: float) -> bool:
    """Whether a day has passed; true for one process only, which updates the time."""
    flock(fd, LOCK_EX)
    # abs: another process may have made the file after ``now``
    if abs(now - os.fstat(fd).st_mtime) < A_DAY:
        return False
    os.utime(fd, (now, now))
    return True
