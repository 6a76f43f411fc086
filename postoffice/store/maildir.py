"""
The files in a Maildir's new and cur: listed, opened, read and removed.

All functions block.  A size in a file name, or a remembered one, is checked
before a client is told it.  Nothing here knows the journal (``expunge``) or sessions
(``mailbox``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from postoffice.model.errors import MessageGone, NotAllRemoved
from postoffice.model.listing import Entries, Entry
from postoffice.protocol.downgrade import size_of_text
from postoffice.store import drafts, names, set_aside
from postoffice.store import vault as vaults
from postoffice.store.files import FULL, READ, failures, open_folder, open_plain
from postoffice.store.listing_cache import MeasuredSizes, Snapshot
from postoffice.store.names import Measured
from postoffice.store.oddities import NotServed, OddFile, check_compression
from postoffice.store.pace import Limit, TakesLong
from postoffice.store.quota import maildirsize
from postoffice.store.size_cache import SizeCache
from postoffice.store.text import measure, normal
from postoffice.util.atomic_file import sync_folder
from postoffice.util.file_times import is_settled

#: Up to so many new messages are added to the remembered listing; of more, all is listed again.
FEW = 1000


def scan(
    folder: str,
    sizes: MeasuredSizes,
    remembered: Snapshot | None = None,
    limit: Limit | None = None,
) -> Snapshot:
    """
    List a maildrop, or return ``remembered`` if its folders have not changed.

    A file that was listed under the same name is not opened again: reading it
    finds a wrong size.  Raises TemporaryFailure; TakesLong if it is not done
    within ``limit``.
    """
    known: dict[str, Entry] = {}
    with failures(folder):
        hidden = set_aside.hidden(folder)
        looks = _looks(folder)
        stamp = None if hidden else _stamp(looks)
        if remembered is not None and stamp is not None and remembered.stamp == stamp:
            return remembered
        if limit is not None:
            limit.look_at(looks)
        if remembered is not None and not hidden:
            if (caught_up := _catch_up(folder, remembered.entries, sizes, limit)) is not None:
                return Snapshot(caught_up, stamp if stamp == _stamp(_looks(folder)) else None)
            known = {entry.name: entry for entry in remembered.entries}
        found: dict[str, tuple[tuple[int, int, str], Entry]] = {}
        twins: dict[str, Entry] = {}
        odd: list[OddFile] = []
        sizes_on_disk = SizeCache(folder)
        # in this order: a file that moves to cur meanwhile is seen twice, not missed
        for box in ("new", "cur"):
            for item in _messages(f"{folder}/{box}"):
                entry = known.get(f"{box}/{item.name}")
                entry = entry or _entry(box, item, sizes, sizes_on_disk, odd, limit)
                if entry is None or entry.uidl in hidden:
                    continue
                twin = found.get(entry.uidl)
                if twin is not None:
                    lesser = max(entry, twin[1], key=lambda one: one.name)
                    twins[lesser.name] = lesser
                if twin is None or entry.name < twin[1].name:  # the name in cur is the later one
                    mtime = 0.0 if item.name[:1].isdigit() else _mtime(item)
                    found[entry.uidl] = (names.order_of(item.name, mtime), entry)
        sizes_on_disk.keep(len(found))
        entries = Entries(entry for _, entry in sorted(found.values()))
        stamp = stamp if stamp and stamp == _stamp(_looks(folder)) else None
        return Snapshot(entries, stamp, tuple(twins.values()), tuple(odd))


def _catch_up(
    folder: str, before: Entries, sizes: MeasuredSizes, limit: Limit | None
) -> Entries | None:
    """
    Update a remembered listing: messages may be gone, and at most FEW came after all others.

    None if more has changed: the caller lists all.  Known files cost no stat.
    """
    newest = os.path.basename(before[-1].name) if before else ""
    if not newest[:1].isdigit():
        return None
    # what is imported belongs before the others, and may have a twin: then all is listed again
    last = max(names.order_of(newest, 0)[:2], (0, 0))
    known = dict(zip(before.names(), range(len(before)), strict=True))
    fresh: list[tuple[tuple[int, int, str], Entry]] = []
    odd: list[OddFile] = []
    sizes_on_disk = SizeCache(folder)
    for box in ("new", "cur"):
        for item in _messages(f"{folder}/{box}"):
            if known.pop(f"{box}/{item.name}", None) is not None:
                continue
            order = names.order_of(item.name, 0)
            # A later time than all others: no twin among them.  A name without a time may have one.
            if len(fresh) == FEW or order[:2] <= last:
                return None
            entry = _entry(box, item, sizes, sizes_on_disk, odd, limit)
            if odd:
                return None
            if entry is not None:
                fresh.append((order, entry))
    if len({entry.uidl for _, entry in fresh}) < len(fresh):
        return None  # a file moved while we listed
    sizes_on_disk.keep(sys.maxsize)  # keep all sizes: those of known files were not asked for
    return before.changed(known.values(), (entry for _, entry in sorted(fresh)))


def _looks(folder: str) -> list[os.stat_result]:
    looks = []
    for box in ("new", "cur"):
        with suppress(FileNotFoundError):  # removed by another program: it counts as empty
            looks.append(os.stat(f"{folder}/{box}"))
    return looks


def _stamp(looks: Sequence[os.stat_result]) -> tuple[int, ...] | None:
    if not is_settled(*(look.st_mtime_ns for look in looks)):
        return None
    return tuple(fact for look in looks for fact in (look.st_ino, look.st_mtime_ns))


def _messages(path: str) -> Iterator[os.DirEntry[str]]:
    """The files that may be messages: regular ones that are not hidden."""
    with suppress(FileNotFoundError), os.scandir(path) as items:
        for item in items:
            if item.name[0] != "." and item.is_file(follow_symlinks=False):
                yield item


def _mtime(item: os.DirEntry[str]) -> float:
    with suppress(OSError):
        return item.stat(follow_symlinks=False).st_mtime
    return 0.0


def _entry(
    box: str,
    item: os.DirEntry[str],
    sizes: MeasuredSizes,
    sizes_on_disk: SizeCache,
    odd: list[OddFile],
    limit: Limit | None,
) -> Entry | None:
    """
    The entry of a file; its sizes are known, or in its name, or measured.

    None if the file is gone, or cannot be served: then it is added to ``odd``.
    """
    subpath = f"{box}/{item.name}"
    if limit is not None:
        limit.look()
    try:
        status = item.stat(follow_symlinks=False)
        measured = sizes.get(status)
        if measured is None and names.is_ours(item.name):
            measured = names.believable(names.sizes_of(item.name), status.st_size)
        measured = measured or sizes_on_disk.get(status)
        if measured is None:
            if limit is not None:
                raise TakesLong
            measured = _measure(item.path, sizes_on_disk)
    except FileNotFoundError:
        return None  # it is moving to cur, and is found there
    except OSError as error:
        odd.append(OddFile(subpath, f"it cannot be read: {error.strerror}"))
        return None
    except NotServed as why:
        odd.append(OddFile(subpath, str(why)))
        return None
    return Entry(names.uidl_of_file(item.name), measured.wire, subpath, measured.downgraded)


def _measure(path: str, sizes_on_disk: SizeCache) -> Measured:
    fd, status = open_plain(path)
    try:
        check_compression(fd)
        measured = measure(fd)
    finally:
        os.close(fd)
    sizes_on_disk.set(status, measured)
    return measured


def open_text(folder: str, entry: Entry, sizes: MeasuredSizes) -> tuple[int, bool]:
    """
    Open a message that will be sent in exactly ``entry.size`` octets.

    Returns its file, and whether the file can be sent as it is, without making
    CRLF line ends.  Raises MessageGone if the file is gone or has another size
    than was listed; the right size is remembered for the next listing.
    """
    try:
        fd, status = _find(folder, entry)
    except OSError as error:
        raise MessageGone(f"{folder}/{entry.name}: {error}") from error
    try:
        as_said = entry.downgraded is None and names.is_ours(os.path.basename(entry.name))
        if as_said and status.st_size == entry.size and _ends_in_crlf(fd, status.st_size):
            return fd, True
        measured = measure(fd)
        if measured.wire == entry.size and entry.downgraded in (None, measured.downgraded):
            # CRLF line ends only add octets: the same size means that nothing changes
            return fd, measured.wire == status.st_size
        sizes.set(status, measured)
        raise MessageGone(f"{folder}/{entry.name}: {measured.wire} octets, listed as {entry.size}")
    except OSError as error:
        os.close(fd)
        raise MessageGone(f"{folder}/{entry.name}: {error}") from error
    except BaseException:
        os.close(fd)
        raise


def _ends_in_crlf(fd: int, size: int) -> bool:
    return size == 0 or (size > 1 and os.pread(fd, 2, size - 2) == b"\r\n")


def _find(folder: str, entry: Entry) -> tuple[int, os.stat_result]:
    """Open a listed message, even if another program has renamed it (Maildir flags)."""
    try:
        return open_plain(f"{folder}/{entry.name}")
    except FileNotFoundError:
        subpath = subpaths(folder).get(entry.uidl)
        if subpath is None:
            raise
        return open_plain(f"{folder}/{subpath}")


def files_of(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """The path (``new/NAME``, ``cur/NAME``) and status of each file that may be a message."""
    for box in ("new", "cur"):
        with suppress(OSError):
            for item in _messages(f"{folder}/{box}"):
                with suppress(OSError):
                    yield f"{box}/{item.name}", item.stat(follow_symlinks=False)


def subpaths(folder: str, uidl_of: Callable[[str], str] = names.uidl_of_file) -> dict[str, str]:
    """The path below ``folder`` (``new/NAME``, ``cur/NAME``) of each message, by UIDL."""
    return {
        uidl_of(item.name): f"{box}/{item.name}"
        for box in ("new", "cur")
        for item in _messages(f"{folder}/{box}")
    }


def read_small(
    folder: str, entries: Sequence[Entry], sizes: MeasuredSizes, limit: Limit | None = None
) -> list[bytes]:
    """
    Read small messages as a whole, in the form in which they are sent.

    The list ends before a message that cannot be read; with a ``limit``, when time is over
    or before a message that has to be measured.  If that is the first, raises MessageGone or
    TakesLong.
    """
    texts: list[bytes] = []
    for entry in entries:
        if limit is not None and limit.passed:
            break
        try:
            texts.append(_read_small(folder, entry, sizes, limit))
        except (TakesLong, MessageGone):
            if not texts:
                raise
            break
        except OSError as error:
            if not texts:
                raise MessageGone(f"{folder}/{entry.name}: {error}") from error
            break
    return texts


def _read_as_it_is(path: str, entry: Entry) -> bytes | None:
    """The text of a file that has CRLF line ends and the size that was listed; None of others."""
    if entry.downgraded is not None:
        return None
    try:
        fd = os.open(path, READ)
    except FileNotFoundError:
        return None
    try:
        octets = os.read(fd, entry.size + 1)  # one octet more shows that the file is too long
    finally:
        os.close(fd)
    return octets if len(octets) == entry.size and normal(octets) is octets else None


def _read_small(folder: str, entry: Entry, sizes: MeasuredSizes, limit: Limit | None) -> bytes:
    as_it_is = _read_as_it_is(f"{folder}/{entry.name}", entry)
    if as_it_is is not None:
        return as_it_is
    if limit is not None and entry.downgraded is not None:
        raise TakesLong
    fd, status = _find(folder, entry)
    try:
        octets = os.read(fd, entry.size + 1)
        text = normal(octets)
        if len(octets) == status.st_size and len(text) == entry.size:
            right = entry.downgraded
            if right is None or size_of_text(text) == right:
                return text
        if limit is not None:
            raise TakesLong
        os.lseek(fd, 0, os.SEEK_SET)
        sizes.set(status, measure(fd))
    finally:
        os.close(fd)
    raise MessageGone(f"{folder}/{entry.name}: not the {entry.size} octets that were listed")


def remove(folder: str, entries: Sequence[Entry], vault: str = "", *, sync: bool = True) -> None:
    """
    Remove messages: into the folder ``vault``, or for good if that is "".

    ``sync``: the removal is durable when it returns.  A message that is gone
    already counts as removed; if one fails, the others are removed all the
    same.  Raises NotAllRemoved if some failed, or the sync did; TemporaryFailure
    if all failed.
    """
    with failures(folder):
        if not entries:
            return
        if vault:
            vaults.make(vault, sync=sync)
        with open_folder(folder) as fd, maildirsize.releasing(fd):
            gone, wrong, left = _take_all(folder, entries, vault)
            try:
                maildirsize.add(fd, -sum(gone.values()), -len(gone))
            except OSError:  # the messages are gone: count again
                maildirsize.forget(folder)
            if vault:
                vaults.count(folder, gone.values())
        if sync and gone:
            try:
                if vault:
                    sync_folder(vault)  # first: a crash may leave it in both places, not in none
                for box in {subpath.partition("/")[0] for subpath in gone}:
                    sync_folder(f"{folder}/{box}")
            except OSError as error:
                wrong = error
        if wrong is not None:
            raise NotAllRemoved(f"{folder}: {wrong}", len(entries) - left) from wrong


def _take_all(
    folder: str, entries: Sequence[Entry], vault: str
) -> tuple[dict[str, int], OSError | None, int]:
    """The path and octets of each removed file; the last error, and how many failed."""
    gone: dict[str, int] = {}
    wrong, left = None, 0
    now: dict[str, str] | None = None
    for entry in entries:
        subpath = entry.name
        try:
            try:
                gone[subpath] = _take(folder, subpath, vault)
            except FileNotFoundError:
                now = subpaths(folder) if now is None else now
                if entry.uidl in now:
                    subpath = now[entry.uidl]
                    gone[subpath] = _take(folder, subpath, vault)
        except FileNotFoundError:
            continue
        except OSError as error:
            wrong, left = error, left + 1
    return gone, wrong, left


def _take(folder: str, subpath: str, vault: str) -> int:
    """Unlink a message, or move it into the vault; return the octets of its file."""
    name = os.path.basename(subpath)
    path = f"{folder}/{subpath}"
    size = names.sizes_of(name).file
    if size is None:
        size = os.stat(path, follow_symlinks=False).st_size
    if vault:
        try:
            drafts.move(path, f"{vault}/{name}", os.path.dirname(vault))
            return size
        except OSError as error:
            if error.errno not in FULL:
                raise
            # the disk has no room for the new name: remove it for good
    os.unlink(path)
    return size
