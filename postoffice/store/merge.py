"""Merge: puts messages of a backup into a maildrop that is in use.  All functions block."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress

from postoffice.store import expunge, fetch_log, files, maildir
from postoffice.store.files import make_folder
from postoffice.store.journal.journal import Journal
from postoffice.store.journal.segments import sync_all
from postoffice.store.names import uidl_of_file
from postoffice.store.quota import maildirsize
from postoffice.store.transfer import import_record
from postoffice.util.atomic_file import sync_folder

#: Prefix of the folders in tmp to which a restore copies messages first.
STAGING = ".restore."


def staging(folder: str) -> str:
    """Make a staging folder, and remove those older than a day.  Raises TemporaryFailure."""
    with files.failures(folder):
        files.make(folder)
        for name in os.listdir(f"{folder}/tmp"):
            path = f"{folder}/tmp/{name}"
            if name.startswith(STAGING) and time.time() - os.stat(path).st_mtime > 86400:
                shutil.rmtree(path, ignore_errors=True)
        path = f"{folder}/tmp/{STAGING}{secrets.token_hex(8)}"
        make_folder(path)
        return path


def put_back(
    folder: str,
    staged: str,
    journal: Journal,
    *,
    again: bool = True,
    uidls: dict[str, str] | None = None,
) -> tuple[int, int]:
    """
    Rename the messages in ``staged`` into the maildrop.

    Returns how many were renamed, and how many were not, because the maildrop has
    their UIDL already.  ``again``: they count as newly arrived.  A record of imports in
    ``staged`` is added to that of the maildrop, before they are visible.  ``uidls``
    remembers the UIDLs of file names: a caller with several calls passes the same one, so that no
    name is parsed twice.  Raises MaildropLocked while a session runs, TemporaryFailure.
    """
    with files.failures(folder):
        with files.open_folder(staged) as fd:
            sync_all(fd)  # texts are durable before a client sees their names
        lock = expunge.lock(journal, folder)
        try:
            with journal.quiet():
                import_record.add_missing(folder, f"{staged}/{import_record.FILE}")
                back, there = _rename(folder, staged, {} if uidls is None else uidls)
            if again:
                fetch_log.came_back(folder, map(uidl_of_file, back), time.time())
            maildirsize.forget(folder)
        finally:
            os.close(lock)
        shutil.rmtree(staged, ignore_errors=True)
        return len(back), there


def _rename(folder: str, staged: str, uidls: dict[str, str]) -> tuple[list[str], int]:
    known = set(maildir.subpaths(folder, lambda name: _uidl_of(name, uidls)))
    back, there = [], 0
    for box in ("new", "cur"):
        names: list[str] = []
        with suppress(FileNotFoundError):
            names = os.listdir(f"{staged}/{box}")
        for name in names:
            uidl = _uidl_of(name, uidls)
            if uidl in known:
                there += 1
                continue
            os.rename(f"{staged}/{box}/{name}", f"{folder}/{box}/{name}")
            known.add(uidl)
            back.append(name)
    for box in ("new", "cur"):
        sync_folder(f"{folder}/{box}")
    return back, there


def _uidl_of(name: str, uidls: dict[str, str]) -> str:
    """The UIDL of a file; remembered in ``uidls``."""
    uidl = uidls.get(name)
    if uidl is None:
        uidl = uidls[name] = uidl_of_file(name)
    return uidl
