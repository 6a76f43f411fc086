"""
Maintenance of maildrops for the ``postoffice`` command: usage, verify, purge, undelete.

Sweeps and discards are in ``cleanup``, the vault in ``vault``.  All functions block.
"""

from __future__ import annotations

import glob
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

from postoffice.interfaces import Finding, MaildropUsage, PurgeCriteria, Step, VaultSession
from postoffice.interfaces.maintenance import no_progress
from postoffice.model.address import Quota
from postoffice.model.errors import MaildropLocked, TemporaryFailure
from postoffice.model.listing import Entry
from postoffice.store import (
    cleanup,
    expunge,
    fetch_log,
    files,
    maildir,
    maildrop_folders,
    names,
    set_aside,
)
from postoffice.store import vault as vaults
from postoffice.store.journal.journal import UNREADABLE, Journal
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.names import Measured
from postoffice.store.oddities import NotServed, check_compression
from postoffice.store.quota import maildirsize, usage_file
from postoffice.store.quota.notices import trim
from postoffice.store.text import measure

#: The session's name, in the vault, of purged messages.
PURGE = "purge"
#: The text of findings about a folder that no account can have.
ASTRAY = "no client can fetch mail from it; rename it to DOMAIN/LOCALPART"
#: The text of a finding about segments that were put away.
KEPT = "check the disk, and remove the folder when nothing is missing"
#: Seconds after which a maildrop without new, cur or tmp is no longer being created.
JUST_MADE = 60


def holdings(store: str, step: Step = no_progress) -> list[MaildropUsage]:
    """The usage of each maildrop in the store, with or without an account."""
    folders = dict.fromkeys(maildrop_folders.maildrops(store) + set_aside.maildrops(store))
    found = []
    for number, folder in enumerate(folders, 1):
        if names.is_maildrop(folder):
            found.append(_holding(folder))
        step(number, len(folders))
    return found


def _holding(folder: str) -> MaildropUsage:
    octets = messages = 0
    oldest: float | None = None
    for entry, status in maildir.files_of(folder):
        octets += status.st_size
        messages += 1
        arrived = names.time_of(os.path.basename(entry), status.st_mtime)
        oldest = arrived if oldest is None else min(oldest, arrived)
    kept: list[VaultSession] = []
    with suppress(OSError):  # verify reports it
        kept = vaults.sessions(folder)
    return MaildropUsage(
        names.maildrop_of(folder),
        messages,
        octets,
        oldest,
        files.last_login(folder),
        sum(one.messages for one in kept),
        sum(one.octets for one in kept),
    )


def strays(store: str) -> list[Finding]:
    """Find folders that may hold mail, but whose names no account can have."""
    found = [
        Finding(folder, "segments of the journal that the disk failed to read; " + KEPT, False)
        for folder in sorted(glob.glob(f"{glob.escape(store)}/{files.JOURNAL}/{UNREADABLE}/*"))
    ]
    for domain in maildrop_folders.domains(store):
        if _looks_like_a_maildrop(domain):
            found.append(
                Finding(domain, "a maildrop that is in no domain's folder; " + ASTRAY, False)
            )
            continue
        for folder in maildrop_folders.maildrops_of(domain):
            if not names.is_maildrop(folder):
                found.append(
                    Finding(folder, "no account can have a folder of this name; " + ASTRAY, False)
                )
    return found


def _looks_like_a_maildrop(folder: str) -> bool:
    return any(os.path.isdir(f"{folder}/{box}") for box in ("new", "cur"))


def purge(
    folder: str,
    which: PurgeCriteria,
    journal: Journal | None,
    *,
    keep: bool,
    dry: bool,
    vault_limit: int | None = None,
    step: Step = no_progress,
) -> tuple[int, int]:
    """
    Remove messages; return how many, and their octets.  ``dry``: only count them.

    ``keep``: they go into the vault, which may hold ``vault_limit`` octets (``vault.trim``).
    Raises MaildropLocked while a session runs, TemporaryFailure.
    """
    with files.failures(folder):
        if not os.path.isdir(folder):
            return 0, 0
        lock = expunge.lock(journal, folder)
        try:
            snapshot = maildir.scan(folder, MeasuredSizes())
            going = _going(folder, snapshot.entries, which)
            sizes = [entry.size for entry in going]
            if not dry:
                session, whole = PURGE if keep else "", snapshot.whole(going)
                if expunge.take_out(journal, lock, folder, whole, session, step):
                    trim(folder, vault_limit)
            return len(going), sum(sizes)
        finally:
            os.close(lock)


def _going(folder: str, entries: Sequence[Entry], which: PurgeCriteria) -> list[Entry]:
    """Messages that are too old or too large, and the oldest until the rest fits the quota."""
    going: list[tuple[Entry, int]] = []
    staying: list[tuple[Entry, int]] = []
    now = time.time()
    for entry in entries:
        path = f"{folder}/{entry.name}"
        try:
            status = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            continue
        arrived = names.time_of(os.path.basename(path), status.st_mtime)
        old = which.older_than is not None and now - arrived > which.older_than
        large = which.larger_than is not None and status.st_size > which.larger_than
        (going if old or large else staying).append((entry, status.st_size))
    if which.quota is not None:
        octets, messages = sum(size for _, size in staying), len(staying)
        for entry, size in staying:
            if which.quota.holds(octets, messages):
                break
            going.append((entry, size))
            octets, messages = octets - size, messages - 1
    return [entry for entry, _ in going]


def kept(folder: str) -> list[VaultSession]:
    """The sessions whose messages can be brought back, oldest first.  Raises TemporaryFailure."""
    with files.failures(folder):
        return vaults.sessions(folder)


def bring_back(folder: str, session: str, since: float, journal: Journal) -> int:
    """
    Put back the messages that a session removed, or all since a time; return how many.

    Raises MaildropLocked while a session runs, TemporaryFailure.
    """
    with files.failures(folder):
        lock = expunge.lock(journal, folder)
        try:
            with journal.quiet():
                back = vaults.bring_back(folder, session, since)
            fetch_log.came_back(folder, map(names.uidl_of_file, back), time.time())
            return len(back)
        finally:
            os.close(lock)


def verify(folder: str, limit: Quota, *, repair: bool, step: Step = no_progress) -> list[Finding]:
    """Check each file of a maildrop; return what is wrong, and whether it was repaired."""
    found = check_set_aside(folder, repair)
    if not os.path.isdir(folder):
        if os.path.lexists(folder):
            found.append(Finding(folder, "no folder can be found there; it gets no mail", False))
        return found
    for look in (_folders, partial(_messages, step), _leftovers, partial(_quota, limit)):
        try:
            found += look(folder, repair)
        except OSError as error:
            found.append(_not_examined(folder, error))
    return found


def check_set_aside(folder: str, repair: bool) -> list[Finding]:
    """Report what is set aside; ``repair``: retry it, unless a session holds the lock."""
    mended: list[Finding] = []
    try:
        before = set_aside.counts(folder)
        if before and repair:
            with suppress(MaildropLocked, TemporaryFailure):
                os.close(expunge.lock(None, folder))  # taking the lock retries, as each login does
            for what in before.keys() - set_aside.counts(folder).keys():
                mended.append(Finding(set_aside.home(folder), f"{before[what]} {what}", True))
        return set_aside.findings(folder) + mended
    except OSError as error:
        return [_not_examined(folder, error)]


def _not_examined(folder: str, error: OSError) -> Finding:
    return Finding(error.filename or folder, f"it cannot be examined: {error.strerror}", False)


def _folders(folder: str, repair: bool) -> Iterator[Finding]:
    for box in files.FOLDERS:
        path = f"{folder}/{box}"
        if not os.path.isdir(path) and (repair or not _is_new(folder)):
            if repair:
                files.make(folder)
            yield Finding(path, "the folder is missing", repair)


def _is_new(folder: str) -> bool:
    """Whether another process may be creating the maildrop now."""
    return time.time() - os.stat(folder).st_mtime < JUST_MADE


def _messages(step: Step, folder: str, repair: bool) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    places: list[str] = []
    for box in ("new", "cur"):
        with suppress(FileNotFoundError):
            listed = sorted(os.listdir(f"{folder}/{box}"))
            places += [f"{box}/{name}" for name in listed if not name.startswith(".")]
    for number, subpath in enumerate(places, 1):
        yield from _message(folder, subpath, seen, repair)
        step(number, len(places))


def _message(folder: str, subpath: str, seen: dict[str, str], repair: bool) -> Iterator[Finding]:
    path = f"{folder}/{subpath}"
    try:
        size, measured = _measured(path)
    except FileNotFoundError:
        return  # fetched and removed meanwhile
    except NotServed as why:
        yield Finding(path, str(why), False)
        return
    except OSError as error:
        yield Finding(path, f"it cannot be read: {error.strerror}; it is not served", False)
        return
    uidl = names.uidl_of_file(os.path.basename(subpath))
    if uidl in seen:
        yield Finding(path, f"the same name as {seen[uidl]}; one of them is served", False)
        return
    seen[uidl] = subpath
    if wrong := _wrong_sizes(os.path.basename(subpath), size, measured):
        if repair:
            os.rename(path, f"{folder}/{names.with_right_sizes(subpath, measured, size)}")
        yield Finding(path, f"its name says {'; '.join(wrong)}", repair)


def _measured(path: str) -> tuple[int, Measured]:
    """Measure a message; return its octets in the file, too.  Raises NotServed, OSError."""
    if not stat.S_ISREG(os.stat(path, follow_symlinks=False).st_mode):
        raise NotServed("no regular file; it is not served")
    fd, status = files.open_plain(path)
    try:
        check_compression(fd)
        return status.st_size, measure(fd)
    finally:
        os.close(fd)


def _wrong_sizes(name: str, size: int, measured: Measured) -> list[str]:
    """What a file's name says of its sizes, where that is wrong."""
    said = names.sizes_of(name)
    wrong = [
        f"{letter}={told}, but {is_}"
        for letter, told, is_ in (("S", said.file, size), ("W", said.wire, measured.wire))
        if told is not None and told != is_
    ]
    believed = names.is_ours(name) and not said.outdated
    if believed and said.downgraded != measured.downgraded:
        wrong.append(f"{_downgraded(said.downgraded)}, but {_downgraded(measured.downgraded)}")
    return wrong


def _downgraded(size: int | None) -> str:
    return f"no {names.DOWNGRADED}=" if size is None else f"{names.DOWNGRADED}={size}"


def _leftovers(folder: str, repair: bool) -> Iterator[Finding]:
    look = cleanup.sweep if repair else cleanup.litter
    if found := look(folder, time.time()):
        yield Finding(f"{folder}/tmp", f"{found} leftovers of deliveries that failed", repair)


def _quota(limit: Quota, folder: str, repair: bool) -> Iterator[Finding]:
    path = f"{folder}/{usage_file.FILE}"
    if os.path.isdir(path) and not os.path.islink(path):
        if repair:
            maildirsize.forget(folder)
        yield Finding(path, "a folder, where a file counts what is in the maildrop", repair)
        return
    for name in sorted(os.listdir(folder)):
        if name.startswith(usage_file.FILE + maildirsize.ODD):
            what = "was in the place of maildirsize; nobody needs it"
            yield Finding(f"{folder}/{name}", what, False)
    if not limit.limited:
        return
    with suppress(FileNotFoundError), files.open_folder(folder) as fd:  # if not, it was reported
        if (audit := maildirsize.audit(fd, limit)) is None:
            return
        said, held = audit
        if said != held:
            if repair:
                maildirsize.recount(fd, limit)
            what = f"{said.octets} octets in {said.messages} messages"
            there = f"{held.octets} in {held.messages}"
            yield Finding(
                f"{folder}/{usage_file.FILE}", f"it counts {what}; there are {there}", repair
            )
