"""
The files of the queue: ``STORE/.queue``.

``messages`` and ``marks`` are, for the journal, maildrops like any other, with ``new`` and
``tmp``.  A message is one file: its text, then what ``QueuedMessage.encode`` made.  A mark
says, in JSON, which of a message's recipients are finished or told; its name begins with
that of the message.  ``aside`` has messages that were taken out of the queue, and ``intents`` is
for ``intents``.  All functions block.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from postoffice.interfaces import Finding
from postoffice.model.queued_message import FOOTER, NotQueued, QueuedMessage
from postoffice.store import files, names, set_aside
from postoffice.store.drafts import QueueRemoval
from postoffice.store.expunge import SharedTicket
from postoffice.store.files import failure, failures, make_folder, names_in, open_plain
from postoffice.store.journal.records import RemoveRecord
from postoffice.store.journal.segments import create
from postoffice.util.atomic_file import sync_folder

QUEUE = ".queue"
MESSAGES = f"{QUEUE}/messages"
MARKS = f"{QUEUE}/marks"
ASIDE = f"{QUEUE}/aside"
INTENTS = f"{QUEUE}/intents"
#: Between the name of a message and the rest in the name of a mark.
MARK = "~"
#: In ``aside``, why a message is there, and its marks.
WHY = ".why"
#: Octets that are read of the end of a file at first.
_END = 4096
#: Errors of one file, which is set aside; others concern all.
_ITS_OWN = (errno.EIO, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EINVAL, errno.ENXIO)


class UnreadableQueueFile(Exception):
    """A file in the queue cannot be read; it costs only itself."""


class Contents(NamedTuple):
    """What is in the queue: the size of each message's file, and the marks of each message."""

    sizes: dict[str, int]
    marks: dict[str, list[str]]


def prepare(store: str) -> None:
    """Make the folders that are missing.  Raises OSError."""
    for folder in (MESSAGES, MARKS):
        if not all(os.path.isdir(f"{store}/{folder}/{box}") for box in files.FOLDERS):
            files.make(f"{store}/{folder}")
    for folder in (ASIDE, INTENTS):
        if make_folder(f"{store}/{folder}"):
            sync_folder(f"{store}/{QUEUE}")


def contents(store: str) -> Contents:
    """
    List the queue; marks without a message are deleted.  Raises OSError.

    The marks are listed first: another process may take in a message meanwhile, and mark it.
    """
    there = _names(f"{store}/{MARKS}/new")
    sizes = {name: names.size_in(name) for name in listing(store)}
    waits = bool(set_aside.waiting(f"{store}/{MESSAGES}", "place"))  # its marks are needed later
    marks: dict[str, list[str]] = {}
    for mark in there:
        name = mark.rpartition(MARK)[0]
        if name in sizes:
            marks.setdefault(name, []).append(mark)
        elif not waits:  # written while the message was removed
            with suppress(OSError):
                os.unlink(f"{store}/{MARKS}/new/{mark}")
    return Contents(sizes, marks)


def listing(store: str) -> list[str]:
    """The names of all messages, oldest first.  Raises OSError."""
    folder = f"{store}/{MESSAGES}"
    hidden = set_aside.hidden(folder)
    there = _names(f"{folder}/new")
    if hidden:
        there = [name for name in there if names.uidl_of_file(name) not in hidden]
    return there


def path_of(store: str, name: str) -> str:
    """The file of a message."""
    return f"{store}/{MESSAGES}/new/{name}"


# -- reading -------------------------------------------------------------------


def read(store: str, name: str, marks: Iterable[str] = ()) -> QueuedMessage | None:
    """Read a message, with its marks; None if it is gone.  Raises UnreadableQueueFile, OSError."""
    try:
        fd, message = open_message(store, name)
    except FileNotFoundError:
        return None
    os.close(fd)
    for mark in marks:
        message = message.with_marks(*_read_mark(f"{store}/{MARKS}/new/{mark}"))
    return message


def open_message(store: str, name: str) -> tuple[int, QueuedMessage]:
    """
    Open a message's file, and read what stands behind its text.

    Raises UnreadableQueueFile, OSError.
    """
    try:
        fd, status = open_plain(path_of(store, name))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(error) from error
    try:
        return fd, _decode(fd, status.st_size)
    except OSError as error:
        os.close(fd)
        raise _unreadable(error) from error
    except NotQueued as error:
        os.close(fd)
        raise UnreadableQueueFile(str(error)) from error
    except BaseException:
        os.close(fd)
        raise


def _unreadable(error: OSError) -> Exception:
    return UnreadableQueueFile(str(error)) if error.errno in _ITS_OWN else error


def _decode(fd: int, size: int) -> QueuedMessage:
    end = os.pread(fd, _END, max(0, size - _END))
    length = QueuedMessage.footer(end[-FOOTER:])
    if length > len(end):
        if length > size:
            raise NotQueued("only the end of a queued message")
        end = os.pread(fd, length, size - length)
    message = QueuedMessage.decode(end[-length:])
    if message.size != size - length:
        raise NotQueued(f"the text has {size - length} octets, and should have {message.size}")
    return message


def _read_mark(path: str) -> tuple[Collection[int], Collection[int]]:
    """What a mark says; nothing if it cannot be read: rather repeat than lose."""
    with suppress(OSError, ValueError, KeyError, TypeError), open(path, "rb") as file:
        said = json.loads(file.read())
        return frozenset(map(int, said["done"])), frozenset(map(int, said["told"]))
    return (), ()


def mark_text(done: Collection[int], told: Collection[int]) -> bytes:
    """What a mark says."""
    return json.dumps({"done": sorted(done), "told": sorted(told)}).encode()


# -- removing ------------------------------------------------------------------


def removal_of(store: str, name: str, marks: Sequence[str]) -> QueueRemoval:
    """The removal of a message and its marks."""
    records: list[tuple[str, tuple[str, ...]]] = [(MESSAGES, (names.uidl_of_file(name),))]
    if marks:
        records.append((MARKS, tuple(map(names.uidl_of_file, marks))))
    paths = (path_of(store, name), *(f"{store}/{MARKS}/new/{mark}" for mark in marks))
    return QueueRemoval(RemoveRecord(tuple(records)), paths)


def carry_out_all(
    wanted: Sequence[tuple[QueueRemoval, SharedTicket | None]],
) -> list[Exception | None]:
    """
    Remove messages; for each, None or its error.

    Those with a ticket are committed: what cannot be unlinked now is unlinked by a checkpoint.
    The others are removed durably when it returns.
    """
    wrong: list[Exception | None] = []
    for removal, ticket in wanted:
        try:
            if ticket is not None:
                carry_out(removal)
            else:
                unlink_message(removal)
        except OSError as error:
            wrong.append(failure(removal.paths[0], error))
        else:
            wrong.append(None)
        if ticket is not None:
            ticket.done(applied=wrong[-1] is None)
            wrong[-1] = None
    durably = [
        removal.paths
        for (removal, ticket), why in zip(wanted, wrong, strict=True)
        if ticket is None and why is None
    ]
    with failures(QUEUE):
        sync_folders(paths[0] for paths in durably)
        unlink(mark for paths in durably for mark in paths[1:])
    return wrong


def carry_out(removal: QueueRemoval) -> None:
    """
    Unlink a message and its marks; the journal has the removal.

    Raises OSError; then it has left the queue all the same, and a checkpoint unlinks it.
    """
    try:
        unlink_message(removal)
    except OSError:
        removal.there = True
        raise
    unlink(removal.paths[1:])


def unlink_message(removal: QueueRemoval) -> None:
    """
    Unlink a message; its marks may follow when that is durable.

    If they went first, a crash could leave the message without them.  Raises OSError.
    """
    with suppress(FileNotFoundError):
        os.unlink(removal.paths[0])
        removal.there = True


def unlink(paths: Iterable[str]) -> None:
    """Unlink files; one that is gone is no error.  Raises OSError."""
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def sync_folders(paths: Iterable[str]) -> None:
    """Sync the folders of these files.  Raises OSError."""
    for folder in dict.fromkeys(map(os.path.dirname, paths)):
        sync_folder(folder)


# -- set aside -----------------------------------------------------------------


def keep_aside(store: str, name: str, removal: QueueRemoval, why: str) -> bool:
    """
    Keep a message, and what its marks say, in ``aside`` too, durably; False if it is gone.

    Raises TemporaryFailure.
    """
    source, target = path_of(store, name), f"{store}/{ASIDE}/{name}"
    with failures(source):
        done: set[int] = set()
        told: set[int] = set()
        prepare(store)
        for mark in removal.paths[1:]:
            finished, informed = _read_mark(mark)
            done.update(finished)
            told.update(informed)
        try:
            with suppress(FileExistsError):
                os.link(source, target, follow_symlinks=False)
        except FileNotFoundError:
            return False
        with suppress(OSError), open(target, "rb") as file:  # one that cannot be read goes too
            os.fsync(file.fileno())
        said = {"why": why, "done": sorted(done), "told": sorted(told)}
        create(target + WHY, [json.dumps(said).encode()])
        sync_folder(f"{store}/{ASIDE}")
    return True


def findings(store: str) -> list[Finding]:
    """What is wrong in the queue, for ``verify``."""
    found = []
    for name in _names(f"{store}/{ASIDE}"):
        if not name.endswith(WHY):
            path = f"{store}/{ASIDE}/{name}"
            what = f"a message of the queue, set aside{_why(path)}; it is not sent"
            found.append(Finding(path, what, False))
    for folder in (MESSAGES, MARKS):
        found += set_aside.findings(f"{store}/{folder}")
    for name in listing(store):
        try:
            read(store, name)
        except (UnreadableQueueFile, OSError) as error:
            what = f"a message of the queue that cannot be read: {error}"
            found.append(Finding(path_of(store, name), what, False))
    return found


def _why(path: str) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError), open(path + WHY, "rb") as file:
        return f": {json.loads(file.read())['why']}"
    return ""


def _names(folder: str) -> list[str]:
    """The names in a folder, the oldest message first."""
    return [name for name in names_in(folder) if not name.startswith(".")]
