"""Retention: removes expired messages; ``fetch_log`` knows who fetched them.  Blocking."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

from postoffice.model.listing import Entry
from postoffice.model.mail_policy import KeepTimes
from postoffice.store import expunge, fetch_log, maildir, names
from postoffice.store.fetch_log import FetchRecord
from postoffice.store.files import failures
from postoffice.store.journal.journal import Journal
from postoffice.store.listing_cache import MeasuredSizes, Snapshot
from postoffice.store.quota.notices import trim

#: The session's name, in the vault, of expired messages.
EXPIRE = "expire"


def expire(
    folder: str,
    keep: KeepTimes,
    journal: Journal | None,
    *,
    undelete: bool,
    dry: bool,
    vault_limit: int | None = None,
) -> list[Entry]:
    """
    Remove the expired messages of a maildrop; return them.  ``dry``: only return them.

    ``undelete``: they go into the vault, which may hold ``vault_limit`` octets (``vault.trim``).
    It looks without the lock first, so that no login is refused if nothing has
    expired.  Raises MaildropLocked while a session holds the lock, TemporaryFailure.
    """
    with failures(folder):
        if keep.forever or not os.path.isdir(folder):
            return []
        going, _ = _due(folder, keep)
        if going and not dry:
            going = _take_out(folder, keep, journal, undelete, vault_limit)
        return going


def _take_out(
    folder: str, keep: KeepTimes, journal: Journal | None, undelete: bool, vault_limit: int | None
) -> list[Entry]:
    lock = expunge.lock(journal, folder)
    try:
        going, snapshot = _due(folder, keep)  # again: a session may have removed some
        session = EXPIRE if undelete else ""
        if expunge.take_out(journal, lock, folder, snapshot.whole(going), session):
            trim(folder, vault_limit)
        return going
    finally:
        os.close(lock)


def _due(folder: str, keep: KeepTimes) -> tuple[list[Entry], Snapshot]:
    record, now = fetch_log.read(folder), time.time()
    keep = replace(keep, devices=record.every(keep.devices, now))
    snapshot = maildir.scan(folder, MeasuredSizes())
    due = [one for one in snapshot.entries if _is_due(folder, one, record, keep, now)]
    return due, snapshot


def _is_due(folder: str, entry: Entry, record: FetchRecord, keep: KeepTimes, now: float) -> bool:
    if keep.collected is not None:
        when = record.collected(entry.uidl, keep.devices)
        if when is not None and now - when >= keep.collected:
            return True
    if keep.arrived is None or now - _named(entry) < keep.arrived:
        return False
    return now - _arrived(folder, entry, record) >= keep.arrived


def _named(entry: Entry) -> float:
    return names.time_of(os.path.basename(entry.name), 0.0)


def _arrived(folder: str, entry: Entry, record: FetchRecord) -> float:
    """When a message arrived: the latest of all times we know, so that it never expires early."""
    try:
        written = os.stat(f"{folder}/{entry.name}", follow_symlinks=False).st_mtime
    except FileNotFoundError:  # it is being moved: the next run looks again
        return float("inf")
    return max(_named(entry), written, record.back.get(entry.uidl, 0.0))


def collect(
    folder: str, entries: Sequence[Entry], device: str, devices: frozenset[str] | None
) -> Sequence[Entry]:
    """
    Record that a device fetched messages; return those that all ``devices`` have fetched.

    Raises TemporaryFailure.
    """

    def living() -> Sequence[Entry]:
        return maildir.scan(folder, MeasuredSizes()).entries

    with failures(folder):
        now = time.time()
        record = fetch_log.add(folder, entries, device, now, living)
        every = record.every(devices, now)
        if every is None:  # this device has fetched them
            return entries
        return [one for one in entries if record.collected(one.uidl, every) is not None]
