"""What lies in a Maildir: listed, read and removed; nothing is believed before it was looked at."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from postoffice.model.errors import MessageGone, NotAllRemoved
from postoffice.model.listing import Entries, Entry
from postoffice.protocol.downgrade import size_of_text
from postoffice.store import drafts, names, set_aside
from postoffice.store import vault as vaults
from postoffice.store.files import FULL, failures, open_plain, sync_folder
from postoffice.store.listing_cache import MeasuredSizes, Snapshot
from postoffice.store.names import Measured
from postoffice.store.oddities import NotServed, OddFile, see_to_compression
from postoffice.store.pace import Limit, TakesLong
from postoffice.store.quota import maildirsize
from postoffice.store.size_cache import SizeCache
from postoffice.store.text import measure, normal

#: A directory's time must be this old to tell changes apart, in nanoseconds.
SETTLED = 20_000_000
#: And this old where its time may be whole seconds (ext4 with small inodes, NFS), or two (FAT).
SETTLED_COARSE = 2_000_000_000
COARSE = 1_000_000_000
#: Messages that have come since a maildrop was listed last, of which no fuss is made.
FEW = 1000


def scan(
    folder: str,
    sizes: MeasuredSizes,
    remembered: Snapshot | None = None,
    limit: Limit | None = None,
) -> Snapshot:
    """
    List a maildrop, or find that what is remembered still holds.  Raises TemporaryFailure.

    A file that was listed under the same name is not looked at again: whoever
    reads it will see.  Raises TakesLong where that is not done within ``limit``.
    """
    known: dict[str, Entry] = {}
    with failures(folder):
        hidden = set_aside.hidden(folder)
        stamp = None if hidden else _stamp(folder)
        if remembered is not None and stamp is not None and remembered.stamp == stamp:
            return remembered
        if limit is not None:
            limit.look_at(f"{folder}/new", f"{folder}/cur")
        if remembered is not None and not hidden:
            if (caught_up := _catch_up(folder, remembered.entries, sizes, limit)) is not None:
                return Snapshot(caught_up, stamp if stamp == _stamp(folder) else None)
            known = {entry.name: entry for entry in remembered.entries}
        found: dict[str, tuple[tuple[int, int, str], Entry]] = {}
        twins: dict[str, Entry] = {}
        odd: list[OddFile] = []
        sizes_on_disk = SizeCache(folder)
        for box in ("new", "cur"):  # what moves on meanwhile is seen twice, and not missed
            for item in _messages(f"{folder}/{box}"):
                entry = known.get(f"{box}/{item.name}")
                entry = entry or _entry(box, item, sizes, sizes_on_disk, odd, limit)
                if entry is None:
                    continue
                if entry.uidl in hidden:
                    continue
                twin = found.get(entry.uidl)
                if twin is not None:
                    lesser = max(entry, twin[1], key=lambda one: one.name)
                    twins[lesser.name] = lesser
                if twin is None or entry.name < twin[1].name:  # where it was last: in cur
                    mtime = 0.0 if item.name[:1].isdigit() else _mtime(item)
                    found[entry.uidl] = (names.order_of(item.name, mtime), entry)
        sizes_on_disk.keep(len(found))
        entries = Entries(entry for _, entry in sorted(found.values()))
        stamp = stamp if stamp and stamp == _stamp(folder) else None
        return Snapshot(entries, stamp, tuple(twins.values()), tuple(odd))


def _catch_up(
    folder: str, before: Entries, sizes: MeasuredSizes, limit: Limit | None
) -> Entries | None:
    """
    What is there now, where only few have come since, all behind the others, and any have gone.

    None where it is not so simple.  The others cost a look at their names.
    """
    newest = os.path.basename(before[-1].name) if before else ""
    if not newest[:1].isdigit():
        return None
    last = names.order_of(newest, 0)
    known = dict(zip(before.names(), range(len(before)), strict=True))
    fresh: list[tuple[tuple[int, int, str], Entry]] = []
    odd: list[OddFile] = []
    sizes_on_disk = SizeCache(folder)
    for box in ("new", "cur"):
        for item in _messages(f"{folder}/{box}"):
            if known.pop(f"{box}/{item.name}", None) is not None:
                continue
            order = names.order_of(item.name, 0)
            # What is later than all has no twin among them.  A name that tells no time is not.
            if len(fresh) == FEW or order[:2] <= last[:2]:
                return None
            entry = _entry(box, item, sizes, sizes_on_disk, odd, limit)
            if odd:
                return None
            if entry is not None:
                fresh.append((order, entry))
    if len({entry.uidl for _, entry in fresh}) < len(fresh):
        return None  # one moved while we looked
    sizes_on_disk.keep(sys.maxsize)  # and all that was noted before: of the others nobody asked
    return before.changed(known.values(), (entry for _, entry in sorted(fresh)))


def _stamp(folder: str) -> tuple[int, ...] | None:
    looks = []
    for box in ("new", "cur"):
        with suppress(FileNotFoundError):  # somebody removed it: nothing is in it
            looks.append(os.stat(f"{folder}/{box}"))
    now = time.time_ns()
    if not all(_is_settled(look.st_mtime_ns, now) for look in looks):
        return None
    return tuple(fact for look in looks for fact in (look.st_ino, look.st_mtime_ns))


def _is_settled(changed: int, now: int) -> bool:
    """Whether a folder that changes from now on gets another time than this one."""
    return now - changed >= (SETTLED if changed % COARSE else SETTLED_COARSE)


def _messages(path: str) -> Iterator[os.DirEntry[str]]:
    """What may be a message: a regular file that is not hidden."""
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
    """The entry of a file, its sizes known, read off its name, or measured; None: see ``odd``."""
    subpath = f"{box}/{item.name}"
    if limit is not None:
        limit.look()
    try:
        status = item.stat(follow_symlinks=False)
        measured = sizes.get(status)
        if measured is None and names.is_ours(item.name):
            measured = _believable(names.sizes_of(item.name), status.st_size)
        measured = measured or sizes_on_disk.get(status)
        if measured is None:
            if limit is not None:
                raise TakesLong
            measured = _measure(item.path, sizes_on_disk)
    except FileNotFoundError:
        return None  # it moves just now, and is found there
    except OSError as error:
        odd.append(OddFile(subpath, f"it cannot be read: {error.strerror}"))
        return None
    except NotServed as why:
        odd.append(OddFile(subpath, str(why)))
        return None
    uidl = names.uidl_of_file(item.name)
    return Entry(uidl, measured.wire, subpath, measured.downgraded)


def _believable(said: names.Sizes, size: int) -> Measured | None:
    """The sizes that a name of ours says, if a file of ``size`` octets can have them."""
    if said.file != size or said.wire is None or said.outdated:
        return None
    most = 2 * size + 2  # each octet could be an LF, or the last line have none
    return Measured(said.wire, said.downgraded) if size <= said.wire <= most else None


def _measure(path: str, sizes_on_disk: SizeCache) -> Measured:
    fd, status = open_plain(path)
    try:
        see_to_compression(fd)
        measured = measure(fd)
    finally:
        os.close(fd)
    sizes_on_disk.set(status, measured)
    return measured


def open_text(folder: str, entry: Entry, sizes: MeasuredSizes) -> tuple[int, bool]:
    """
    Open a message that will be sent in exactly ``entry.size`` octets: its file, and if as it is.

    Raises MessageGone if it is not there, or is not what was listed; its
    right size is remembered for the next listing.
    """
    try:
        fd, status = _find(folder, entry)
    except OSError as error:
        raise MessageGone(f"{folder}/{entry.name}: {error}") from error
    try:
        ours = names.is_ours(os.path.basename(entry.name))
        as_said = ours and entry.downgraded is None
        if as_said and status.st_size == entry.size and _ends_in_crlf(fd, status.st_size):
            return fd, True
        measured = measure(fd)
        if _is_as_listed(measured, entry):
            # making line ends adds octets, or changes nothing
            return fd, measured.wire == status.st_size
        sizes.set(status, measured)
        raise MessageGone(f"{folder}/{entry.name}: {measured.wire} octets, listed as {entry.size}")
    except OSError as error:
        os.close(fd)
        raise MessageGone(f"{folder}/{entry.name}: {error}") from error
    except BaseException:
        os.close(fd)
        raise


def _is_as_listed(measured: Measured, entry: Entry) -> bool:
    """Whether a client will get as many octets as it was told, whichever form it gets."""
    return measured.wire == entry.size and entry.downgraded in (None, measured.downgraded)


def _ends_in_crlf(fd: int, size: int) -> bool:
    return size == 0 or (size > 1 and os.pread(fd, 2, size - 2) == b"\r\n")


def _find(folder: str, entry: Entry) -> tuple[int, os.stat_result]:
    """Open a listed message, also where another program has renamed it since (flags)."""
    try:
        return open_plain(f"{folder}/{entry.name}")
    except FileNotFoundError:
        subpath = subpaths(folder).get(entry.uidl)
        if subpath is None:
            raise
        return open_plain(f"{folder}/{subpath}")


def files_of(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Each file that is, or could be, a message, by its place."""
    for box in ("new", "cur"):
        with suppress(OSError):
            for item in _messages(f"{folder}/{box}"):
                with suppress(OSError):
                    yield f"{box}/{item.name}", item.stat(follow_symlinks=False)


def subpaths(folder: str) -> dict[str, str]:
    """Where each message is now, by UIDL."""
    return {
        names.uidl_of_file(item.name): f"{box}/{item.name}"
        for box in ("new", "cur")
        for item in _messages(f"{folder}/{box}")
    }


def read_small(
    folder: str, entries: Sequence[Entry], sizes: MeasuredSizes, limit: Limit | None = None
) -> list[bytes | MessageGone]:
    """
    Small messages, whole, as they are sent; for each, what went wrong.

    Of those that are not read within ``limit``, the last are left out.  Raises
    TakesLong where the first has to be measured.
    """
    texts: list[bytes | MessageGone] = []
    for entry in entries:
        if limit is not None and limit.passed:
            break
        try:
            texts.append(_read_small(folder, entry, sizes, limit))
        except TakesLong:
            if not texts:
                raise
            break
        except MessageGone as gone:
            texts.append(gone)
        except OSError as error:
            texts.append(MessageGone(f"{folder}/{entry.name}: {error}"))
    return texts


def _read_small(folder: str, entry: Entry, sizes: MeasuredSizes, limit: Limit | None) -> bytes:
    if limit is not None and entry.downgraded is not None:
        raise TakesLong
    fd, status = _find(folder, entry)
    try:
        octets = os.read(fd, entry.size + 1)  # one more would be one too many
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
    Take messages out of a maildrop, durably (``sync``): into the folder ``vault``, or for good.

    What is gone already is removed; all that can be removed is.  Raises
    NotAllRemoved if some could not, or if it is not durable; TemporaryFailure
    if none could.
    """
    with failures(folder):
        if not entries:
            return
        if vault:
            vaults.make(vault, sync=sync)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with maildirsize.releasing(fd):
                gone, wrong, left = _take_all(folder, entries, vault)
                try:
                    maildirsize.add(fd, -sum(gone.values()), -len(gone))
                except OSError:  # they are gone all the same
                    maildirsize.forget(folder)
                if vault:
                    vaults.count(folder, gone.values())
        finally:
            os.close(fd)
        if sync and gone:
            try:
                if vault:
                    sync_folder(vault)  # in both places rather than in none
                for box in {subpath.partition("/")[0] for subpath in gone}:
                    sync_folder(f"{folder}/{box}")
            except OSError as error:
                wrong = error
        if wrong is not None:
            raise NotAllRemoved(f"{folder}: {wrong}", len(entries) - left) from wrong


def _take_all(
    folder: str, entries: Sequence[Entry], vault: str
) -> tuple[dict[str, int], OSError | None, int]:
    """Where each was and how many octets it had; what went wrong last, and with how many."""
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
    """Take one out; how many octets its file had."""
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
                raise  # else there is no room for its name, and it goes for good
    os.unlink(path)
    return size
