"""
Intents: what is committed together where there is no journal (durability: files).

The end of a queued message and the letters about it are several files in several folders.
The intent, a file of its own, is synced first: it names them all.  A start completes what
was cut off if all letters are there, and takes back the letters if one is missing.
All functions block.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TypedDict

from postoffice.store import drafts, maildir, queue_files
from postoffice.store.drafts import Draft
from postoffice.store.files import Report, try_lock
from postoffice.store.journal.segments import create
from postoffice.store.names import uidl_of_file
from postoffice.util.atomic_file import sync_folder


class Intent(TypedDict):
    """What is in the file: paths in the store, and names."""

    letters: list[tuple[str, str]]  # the maildrop and the file name of each letter
    marks: list[tuple[str, str]]  # the file name and the text of each mark
    removed: list[str]  # the message and its marks, if the message leaves the queue


def write(draft: Draft) -> int:
    """
    Write down what is committed with a draft; return the open file, which is locked.

    Raises OSError.
    """
    folder = os.path.dirname(draft.intent)
    store = folder[: -len(queue_files.INTENTS) - 1]
    those = (draft, *draft.beside)
    said: Intent = {
        "letters": [
            (ref.path[len(store) + 1 :], one.final_name)
            for one in those
            for ref in one.refs
            if not _is_mark(one)
        ],
        "marks": [(one.final_name, (one.text or b"").decode()) for one in those if _is_mark(one)],
        "removed": [path[len(store) + 1 :] for path in draft.removal.paths]
        if draft.removal
        else [],
    }
    fd = drafts.create(draft.intent)
    try:
        drafts.write_all(fd, json.dumps(said).encode())
        os.fsync(fd)
        sync_folder(folder)
    except BaseException:
        forget(draft.intent)
        os.close(fd)
        raise
    return fd


def _is_mark(draft: Draft) -> bool:
    return draft.turn > 0


def forget(path: str) -> None:
    """Everything is done, or taken back.  Never fails: what is left changes nothing."""
    with suppress(OSError):
        os.unlink(path)


def settle(store: str, report: Report) -> None:
    """Complete, or take back, what a crash has cut off.  Raises OSError."""
    folder = f"{store}/{queue_files.INTENTS}"
    for name in sorted(os.listdir(folder)):
        path = f"{folder}/{name}"
        with open(path, "rb") as file:
            if not try_lock(file.fileno()):  # another process is at work
                continue
            try:
                said: Intent | None = json.loads(file.read())
            except ValueError:  # cut off while it was written: nothing else was done
                said = None
            if said is not None and not _is_done(store, said):
                _settle(store, said)
                report("info", f"settled {name}: letters about a message in the queue")
            forget(path)


def _is_done(store: str, said: Intent) -> bool:
    """Whether the last step was taken."""
    if said["removed"]:
        return not os.path.lexists(f"{store}/{said['removed'][0]}")
    marks = f"{store}/{queue_files.MARKS}/new"
    return all(os.path.lexists(f"{marks}/{name}") for name, _ in said["marks"])


def _settle(store: str, said: Intent) -> None:
    there: list[str] = []
    for maildrop, name in said["letters"]:
        subpath = maildir.subpaths(f"{store}/{maildrop}").get(uidl_of_file(name))
        there.append(f"{store}/{maildrop}/{subpath}" if subpath else "")
    if not all(there):
        found = [path for path in there if path]
        queue_files.unlink(found)
        queue_files.sync_folders(found)
        return
    queue_files.sync_folders(there)
    marks = f"{store}/{queue_files.MARKS}/new"
    for name, text in said["marks"]:
        create(f"{marks}/{name}", [text.encode()])
    removed = [f"{store}/{path}" for path in said["removed"]]
    for those in (removed[:1], removed[1:]):  # first the message, then its marks
        queue_files.unlink(those)
        queue_files.sync_folders(those)
