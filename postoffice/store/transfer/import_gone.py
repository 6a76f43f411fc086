"""
Removes imported messages that the old server has no more.  It blocks.

Between two imports, owners fetch and delete mail at the old server.  If that mail stayed here,
they would fetch it a second time.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from postoffice.store import expunge, files, maildir, names
from postoffice.store.journal.journal import Journal
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.quota.notices import trim
from postoffice.store.transfer import import_record

#: What the vault calls the session that removes them.
SESSION = "import"


def remove_gone(
    folder: str,
    listed: Collection[str],
    journal: Journal,
    *,
    keep: bool,
    dry: bool,
    vault_limit: int | None = None,
) -> int:
    """
    Remove the messages that an import has recorded, and neither whose UIDL nor name is ``listed``.

    ``keep``: they go into the vault, which may hold ``vault_limit`` octets (``vault.trim``).
    Raises MaildropLocked while a session runs, TemporaryFailure.
    """
    with files.failures(folder):
        if not os.path.isdir(folder):
            return 0
        lock = expunge.lock(journal, folder)
        try:
            gone = _gone(folder, listed)
            snapshot = maildir.scan(folder, MeasuredSizes())
            going = [
                entry
                for entry in snapshot.entries
                if entry.uidl in gone and names.imported(os.path.basename(entry.name))
            ]
            if going and not dry:
                session = SESSION if keep else ""
                if expunge.take_out(journal, lock, folder, snapshot.whole(going), session):
                    trim(folder, vault_limit)
            return len(going)
        finally:
            os.close(lock)


def _gone(folder: str, listed: Collection[str]) -> set[str]:
    """The UIDLs of recorded messages that are not listed, and that no import has deleted there."""
    records = list(import_record.read(f"{folder}/{import_record.FILE}"))
    moved = {record.get("uidl") for record in records if import_record.MOVED in record}
    return {
        str(record.get("uidl"))
        for record in records
        if record.get("uidl") not in listed
        and record.get("name") not in listed
        and record.get("uidl") not in moved
    }
