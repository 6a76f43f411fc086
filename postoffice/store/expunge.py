"""Removal by the journal: promised at once, all or none; the names go after that."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress

from postoffice.interfaces import Step
from postoffice.model.errors import NotAllRemoved, TemporaryFailure
from postoffice.model.listing import Entry
from postoffice.store import files, maildir, retry, set_aside
from postoffice.store import vault as vaults
from postoffice.store.files import failures, is_changing, set_changing
from postoffice.store.journal.journal import Journal, Ticket
from postoffice.store.journal.records import RemoveRecord
from postoffice.store.pace import Limit, TakesLong

#: How many names go before the client hears that they have; of more, it is only promised.
AT_ONCE = 100
#: How many are promised together, so that all of them go or none: they fit into a segment.
TOGETHER = 100_000
#: How many are promised together where nobody asked for all or none.
AT_A_TIME = 10_000


def lock(
    journal: Journal | None,
    folder: str,
    limit: Limit | None = None,
    report: set_aside.Report | None = None,
) -> int:
    """
    Take a maildrop's lock (``files.lock``), and let go what its last holder has promised.

    What is set aside and has to wait still is told by ``report``, or as the
    journal reports.  Raises MaildropLocked, MaildropChanging, TemporaryFailure; TakesLong where
    there is something to be done first that takes longer than ``limit``.
    """
    held = files.lock(folder)
    try:
        with failures(folder):
            changing = is_changing(held)
            if limit is not None and (changing or os.path.isdir(set_aside.home(folder))):
                raise TakesLong
            if changing:  # whoever was at it has died
                if journal is not None:
                    journal.checkpoint(now=True)
                set_changing(held, False)
        wrong = retry.retry(folder)
        report = report or (journal.report if journal is not None else None)
        if wrong and report is not None:
            report("error", f"{folder}: {wrong[0]}; what is set aside waits")
    except BaseException:
        os.close(held)
        raise
    return held


def are_few(entries: Sequence[Entry]) -> bool:
    """Whether their names go at once, behind one promise."""
    return 0 < len(entries) <= min(AT_ONCE, TOGETHER)


def remove(
    journal: Journal, lock: int, folder: str, entries: Sequence[Entry], vault: str
) -> Ticket | None:
    """
    Make it durable that these messages are gone, into ``vault`` if that is not empty.

    ``lock`` is the maildrop's, which is held until the names are gone: they
    are, or ``apply`` is called with what it returns.  Of more than ``TOGETHER``
    all but the last portion are gone by then.  Raises TemporaryFailure, and
    nothing is removed, or NotAllRemoved.
    """
    if not entries:
        return None
    last = (len(entries) - 1) // TOGETHER * TOGETHER
    gone = 0
    try:
        while gone < last:
            portion = entries[gone : gone + TOGETHER]
            ticket = _commit(journal, lock, folder, portion, vault)
            gone += len(portion)  # whatever becomes of their names now
            if ticket is not None:
                apply(journal, ticket, lock, folder, portion, vault)
        entries = entries[last:]
        ticket = _commit(journal, lock, folder, entries, vault)
    except TemporaryFailure as error:
        if gone:
            raise NotAllRemoved(str(error), gone) from error
        raise
    if ticket is None or len(entries) > AT_ONCE:
        return ticket
    with suppress(TemporaryFailure):  # it is promised: the journal tries again
        apply(journal, ticket, lock, folder, entries, vault)
    return None


def _commit(
    journal: Journal, lock: int, folder: str, entries: Sequence[Entry], vault: str
) -> Ticket | None:
    removal = begin(journal, lock, folder, entries, vault)
    return append(journal, lock, folder, removal)


def begin(
    journal: Journal, lock: int, folder: str, entries: Sequence[Entry], vault: str
) -> RemoveRecord:
    """
    What is to be appended, now that what can fail before that has not.

    The lock is marked.  Raises TemporaryFailure.
    """
    uidls = tuple(entry.uidl for entry in entries)
    with failures(folder):
        _look_ahead(folder, entries, vault)
        set_changing(lock, True)
    return RemoveRecord(((journal.maildrop(folder), uidls),), os.path.basename(vault))


def append(journal: Journal, lock: int, folder: str, removal: RemoveRecord) -> Ticket | None:
    """Promise it; raises TemporaryFailure, and nothing is removed."""
    with failures(folder):
        try:
            return journal.append(lambda: [removal])
        except BaseException:
            with suppress(OSError):  # whoever comes next finds that there is nothing to it
                set_changing(lock, False)
            raise


def _look_ahead(folder: str, entries: Sequence[Entry], vault: str) -> None:
    """What could keep the names from going is found out before it is promised.  Raises OSError."""
    for box in {entry.name.partition("/")[0] for entry in entries}:
        path = f"{folder}/{box}"
        if not os.access(path, os.W_OK | os.X_OK, effective_ids=True) and os.path.isdir(path):
            raise OSError(errno.EACCES, "names cannot be taken out of it", path)
    if vault:
        vaults.make(vault, sync=False)


def apply(
    journal: Journal, ticket: Ticket, lock: int, folder: str, entries: Sequence[Entry], vault: str
) -> None:
    """
    Let the last names of ``remove`` go.

    Raises TemporaryFailure where one does not; the journal tries again.
    """
    last = (len(entries) - 1) // TOGETHER * TOGETHER
    try:
        with failures(folder):
            those = entries[last:]
            apart = not files.is_on(folder, journal.device)  # the journal's sync does not reach it
            maildir.remove(folder, those, vault, sync=apart)
            set_aside.forget(folder, (one.uidl for one in those))
            set_changing(lock, False)
    except BaseException:
        journal.leave(ticket)
        raise
    journal.applied(ticket)


def take_out(
    journal: Journal | None,
    lock: int,
    folder: str,
    entries: Sequence[Entry],
    vault: str,
    step: Step | None = None,
) -> None:
    """
    Take messages out of a maildrop whose ``lock`` is held, into ``vault`` or for good ("").

    Durable when it returns; ``step`` hears how many are gone.  Raises TemporaryFailure.
    """
    if journal is None:
        maildir.remove(folder, entries, vault)
        return
    for first in range(0, len(entries), AT_A_TIME):
        those = entries[first : first + AT_A_TIME]
        ticket = remove(journal, lock, folder, those, vault)
        if ticket is not None:
            apply(journal, ticket, lock, folder, those, vault)
        if step is not None:
            step(first + len(those), len(entries))
