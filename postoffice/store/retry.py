"""
Retry what was set aside because it could not be applied to a maildrop.

A login, a start and ``verify --repair`` call it, with the maildrop's lock held.
The files themselves are in ``set_aside``.  All functions block.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from postoffice.model.errors import MaildropLocked, TemporaryFailure
from postoffice.model.listing import Entry
from postoffice.store import drafts, files, maildir, set_aside
from postoffice.store import vault as vaults
from postoffice.store.names import uidl_of_file
from postoffice.store.quota import maildirsize
from postoffice.util.atomic_file import sync_folder


def retry(folder: str) -> list[str]:
    """Apply what can be applied now; return the errors of the rest.  Raises nothing."""
    if not os.path.isdir(set_aside.home(folder)):
        return []
    wrong: list[str] = []
    for step in (_remove, _place, _keep):
        try:
            wrong += step(folder)
        except (OSError, TemporaryFailure) as error:
            wrong.append(str(error))
    with suppress(OSError):
        set_aside.tidy(folder)
    return wrong


def retry_all(store: str, report: files.Report) -> None:
    """Retry in all maildrops, and report what is still set aside."""
    for folder in set_aside.maildrops(store):
        try:
            with suppress(MaildropLocked):  # the next login will do it
                lock = files.lock(folder)
                try:
                    retry(folder)
                finally:
                    os.close(lock)
        except TemporaryFailure as error:
            report("error", f"{folder}: retrying what is set aside failed: {error}")
        with suppress(OSError):
            for one in set_aside.findings(folder):
                report("error", f"{folder}: {one.what}; see {one.path}")


def _remove(folder: str) -> Iterable[str]:
    for one in set_aside.removals(folder):
        there = _places(folder)
        entries = [Entry(uidl, 0, there[uidl]) for uidl in one.uidls if uidl in there]
        vault = f"{vaults.path_of(folder)}/{one.vault}" if one.vault else ""
        try:
            maildir.remove(folder, entries, vault)
        except TemporaryFailure as error:
            there = _places(folder)
            left = [uidl for uidl in one.uidls if uidl in there]
            if left and len(left) < len(one.uidls):
                set_aside.change(one, left)
            yield str(error)
        else:
            os.unlink(one.path)
            sync_folder(os.path.dirname(one.path))


def _places(folder: str) -> dict[str, str]:
    """The path of each message, by UIDL; empty if there is no maildrop.  Raises OSError."""
    return maildir.subpaths(folder) if os.path.lexists(folder) else {}


def _place(folder: str) -> Iterable[str]:
    paths = set_aside.waiting(folder, "place")
    if not paths:
        return
    files.make(folder)
    there = _places(folder)
    for path in paths:
        name = os.path.basename(path)
        target = f"{folder}/{there.get(uidl_of_file(name), f'new/{name}')}"
        try:
            drafts.move(path, target, os.path.dirname(target))
        except FileNotFoundError:
            if os.path.lexists(path):
                raise
        except OSError as error:
            yield f"{target}: {error}"
    maildirsize.forget(folder)
    for box in (f"{folder}/new", f"{folder}/cur", os.path.dirname(paths[0])):
        sync_folder(box)


def _keep(folder: str) -> Iterable[str]:
    for session in set_aside.sessions(folder):
        vault = f"{vaults.path_of(folder)}/{session}"
        vaults.make(vault, sync=True)
        there = {uidl_of_file(name): name for name in os.listdir(vault)}
        paths = set_aside.waiting(folder, f"keep/{session}")
        for path in paths:
            name = os.path.basename(path)
            try:
                target = f"{vault}/{there.get(uidl_of_file(name), name)}"
                drafts.move(path, target, os.path.dirname(vault))
            except OSError as error:
                yield f"{vault}: {error}"
        sync_folder(vault)
