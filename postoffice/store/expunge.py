"""
Expunge: messages removed from a maildrop through the journal, all of them or none.

The removal is committed to the journal first, and applied after that: the
files are unlinked or moved into the vault.  ``maildir.remove`` unlinks them;
the vault itself is in ``vault``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock

from postoffice.interfaces import Step
from postoffice.model.errors import NotAllRemoved, TemporaryFailure
from postoffice.model.listing import Entries, Entry, uidls_of
from postoffice.store import files, maildir, retry, set_aside
from postoffice.store import vault as vaults
from postoffice.store.files import failures, is_changing, set_changing
from postoffice.store.journal.journal import Journal, Ticket
from postoffice.store.journal.records import RemoveRecord
from postoffice.store.pace import Limit, TakesLong

#: Up to so many messages are unlinked before the client gets its reply; more are unlinked after it,
#: because the commit in the journal is enough for the reply.
AT_ONCE = 100
#: The most messages in one commit, which is all or none: their names fit into a segment.
TOGETHER = 100_000
#: The most messages in one commit where all or none is not required.
AT_A_TIME = 10_000


class SharedTicket:
    """The ticket of a commit with several removals, which are applied one by one."""

    def __init__(self, journal: Journal, ticket: Ticket, removals: int = 1) -> None:
        self.journal = journal
        self._ticket = ticket
        self._changing = Lock()  # guards:
        self._left = removals
        self._all_applied = True

    def done(self, *, applied: bool) -> None:
        """
        A removal is applied, or failed.

        After the last one the batch is applied, or left for a checkpoint to apply again.
        """
        with self._changing:
            self._left -= 1
            self._all_applied &= applied
            if self._left:
                return
        end = self.journal.applied if self._all_applied else self.journal.leave
        end(self._ticket)


def lock(
    journal: Journal | None,
    folder: str,
    limit: Limit | None = None,
    report: files.Report | None = None,
) -> int:
    """
    Take a maildrop's lock (``files.lock``), and apply a removal that its last holder left.

    Messages that are set aside are tried again; ``report`` (or the journal's)
    is told of those that still have to wait.  Raises MaildropLocked,
    MaildropChanging, TemporaryFailure; with a ``limit``, TakesLong if there is
    anything to apply or to try again.
    """
    held = files.lock(folder)
    try:
        with failures(folder):
            changing, aside = is_changing(held), os.path.isdir(set_aside.home(folder))
            if limit is not None and (changing or aside):
                raise TakesLong
            if changing:  # the process that applied a removal has died
                if journal is not None:
                    journal.checkpoint(now=True)
                set_changing(held, False)
        wrong = retry.retry(folder) if changing or aside else []
        report = report or (journal.report if journal is not None else None)
        if wrong and report is not None:
            report("error", f"{folder}: retrying what is set aside failed: {wrong[0]}")
    except BaseException:
        os.close(held)
        raise
    return held


def are_few(entries: Sequence[Entry]) -> bool:
    """Whether one commit holds them, and they are unlinked before the reply."""
    return 0 < len(entries) <= min(AT_ONCE, TOGETHER)


def ready_vault(journal: Journal | None, folder: str, session: str, *, near: bool = False) -> str:
    """
    Make the folder of ``session`` in a maildrop's vault; "" where the disk is full.

    ``near``: it is known that a checkpoint syncs that disk.  Raises OSError.
    """
    synced = near or (journal is not None and files.is_on(folder, journal.device))
    return vaults.ready(vaults.path_of(folder, session), sync=not synced)


def remove(
    journal: Journal, lock: int, folder: str, entries: Sequence[Entry], vault: str
) -> SharedTicket | None:
    """
    Commit the removal of these messages: into the folder ``vault``, or for good if that is "".

    The caller holds the maildrop's ``lock``.  If a Ticket is returned, the last
    ``TOGETHER`` messages at most are committed and not unlinked yet: call
    ``apply`` with the ticket, with the lock still held.  None: all are unlinked.
    Raises TemporaryFailure if nothing is removed, NotAllRemoved if some are.
    """
    if not entries:
        return None
    last = (len(entries) - 1) // TOGETHER * TOGETHER
    gone = 0
    try:
        while gone < last:
            portion = entries[gone : gone + TOGETHER]
            ticket = _commit(journal, lock, folder, portion, vault)
            gone += len(portion)  # committed: they are gone even if unlinking fails
            apply(ticket, lock, folder, portion, vault)
        entries = entries[last:] if last else entries
        ticket = _commit(journal, lock, folder, entries, vault)
    except TemporaryFailure as error:
        if gone:
            raise NotAllRemoved(str(error), gone) from error
        raise
    if len(entries) > AT_ONCE:
        return ticket
    with suppress(TemporaryFailure):  # it is committed: the next checkpoint tries again
        apply(ticket, lock, folder, entries, vault)
    return None


def _commit(
    journal: Journal, lock: int, folder: str, entries: Sequence[Entry], vault: str
) -> SharedTicket:
    removal = begin(journal, lock, folder, entries, vault)
    with failures(folder):
        try:
            ticket = journal.append(lambda: [removal])
        except BaseException:
            not_committed(lock)
            raise
    assert ticket is not None
    return SharedTicket(journal, ticket)


def begin(
    journal: Journal, lock: int, folder: str, entries: Sequence[Entry], vault: str
) -> RemoveRecord:
    """
    Check what could keep the messages from being unlinked, and make the record to append.

    Marks the lock as changing: the next login waits, or applies the removal.
    Raises TemporaryFailure.
    """
    uidls = tuple(uidls_of(entries))
    with failures(folder):
        _look_ahead(folder, entries)
        set_changing(lock, True)
    return RemoveRecord(((journal.maildrop(folder), uidls),), os.path.basename(vault))


def not_committed(lock: int) -> None:
    """The removal failed: take back the mark of ``begin``."""
    with suppress(OSError):  # if the mark stays, the next login finds nothing to apply
        set_changing(lock, False)


def _look_ahead(folder: str, entries: Sequence[Entry]) -> None:
    """Find out, before the commit, what could make unlinking fail.  Raises OSError."""
    names = entries.names() if isinstance(entries, Entries) else (one.name for one in entries)
    for box in {name.partition("/")[0] for name in names}:
        path = f"{folder}/{box}"
        if not os.access(path, os.W_OK | os.X_OK, effective_ids=True) and os.path.isdir(path):
            raise OSError(errno.EACCES, "no permission to remove files from it", path)


def apply(
    ticket: SharedTicket, lock: int, folder: str, entries: Sequence[Entry], vault: str
) -> None:
    """
    Unlink the messages that ``remove`` has committed and not unlinked.

    Raises TemporaryFailure if one cannot be unlinked; the next checkpoint tries again.
    """
    last = (len(entries) - 1) // TOGETHER * TOGETHER
    try:
        with failures(folder):
            those = entries[last:]
            apart = not files.is_on(folder, ticket.journal.device)  # no checkpoint syncs that disk
            maildir.remove(folder, those, vault, sync=apart)
            set_aside.forget(folder, (one.uidl for one in those))
            set_changing(lock, False)
    except BaseException:
        ticket.done(applied=False)
        raise
    ticket.done(applied=True)


def take_out(
    journal: Journal | None,
    lock: int,
    folder: str,
    entries: Sequence[Entry],
    session: str,
    step: Step | None = None,
) -> bool:
    """
    Remove messages without a session, with the maildrop's ``lock`` held.

    They go into the vault as those of ``session``, or for good if that is "".  The
    removal is durable when it returns.  ``step`` is called with how many of how many
    are removed.  Returns whether any are in the vault.  Raises TemporaryFailure, OSError.
    """
    vault = ready_vault(journal, folder, session) if session and entries else ""
    if journal is None:
        maildir.remove(folder, entries, vault)
        return bool(vault)
    for first in range(0, len(entries), AT_A_TIME):
        those = entries[first : first + AT_A_TIME]
        ticket = remove(journal, lock, folder, those, vault)
        if ticket is not None:
            apply(ticket, lock, folder, those, vault)
        if step is not None:
            step(first + len(those), len(entries))
    return bool(vault)
