"""
The usage of a maildrop, counted in its file ``maildirsize`` (Maildir++).

The first line of the file is the quota that it was written for; each further
line adds or subtracts octets and messages.  Dovecot and Courier read and write
it, too.  It is derived from the maildrop and never synced: if it is missing, or
mail would be refused because of it, the maildrop is recounted.  What happens
over quota is in ``enforcement``.  All functions block, and raise OSError.

Locks (flock on folders of the maildrop):

- the maildrop's folder: exclusive, while maildirsize is read or appended to;
- ``new``: shared, from reserving space for a message until it is linked;
  exclusive while recounting, so that no message is counted twice or missed;
- ``tmp``: a gate, taken shared before ``new`` and exclusive by a recount, so that a
  recount is not starved by deliveries.

A batch that goes to several maildrops locks them in the order of their paths.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
from typing import NamedTuple

from postoffice.model.address import Quota
from postoffice.model.errors import MaildropFull, MaildropFullNow, PostOfficeError
from postoffice.store import drafts, names
from postoffice.store.files import open_folder, try_lock
from postoffice.store.quota.usage_file import (
    FILE,
    TO_READ,
    Usage,
    beginning,
    first_line,
    opened,
    parse,
    usage_for,
)
from postoffice.util.cache import Cache

#: Suffix of the new name of a directory that had the file's name.
ODD = ".odd."
#: Seconds for which mail may be refused because of our last recount, without another.
FRESH = 60
#: Seconds that a recount waits for messages that are reserved and not linked yet.
PATIENCE = 5.0
_TICK = 0.01
_OCTETS = re.compile(rb"[0-9]{1,18}S")


class Count(NamedTuple):
    """The usage in the file.  ``fresh``: from our own recount, unchanged since."""

    usage: Usage
    fresh: bool


def full(maildrop: str, quota: Quota, size: int, *, alone: bool = True) -> PostOfficeError:
    """
    The error for a message of ``size`` octets that is over a maildrop's quota.

    With ``over: make-room`` only a message that is larger than the whole quota is
    refused for good.  If it has other recipients (not ``alone``), the failure is
    temporary for all: when the sender tries again, each RCPT is answered by itself.
    """
    never = quota.over == "reject" or (quota.over == "make-room" and not quota.holds(size, 1))
    if never and alone:
        return MaildropFull(f"{maildrop}: over its quota")
    return MaildropFullNow(f"{maildrop}: over its quota")


def usage(folder: int, quota: Quota) -> Usage:
    """The usage of a maildrop, from its file; recounted if that is not valid."""
    count = _read(folder, quota) or recount(folder, quota)
    return count.usage


def has_room(folder: int, quota: Quota, more: Usage) -> tuple[bool, Usage]:
    """Whether ``more`` fits into a maildrop, and its usage; recounts before it says no."""
    count = _read(folder, quota) or recount(folder, quota)
    if not _fits(quota, count.usage, more) and not count.fresh:
        count = recount(folder, quota)
    return _fits(quota, count.usage, more), count.usage


@contextmanager
def reserving(folder: int) -> Iterator[None]:
    """Hold the shared lock: the caller reserves within it, and links or gives back within it."""
    with ExitStack() as new:
        with open_folder("tmp", folder) as gate:
            flock(gate, LOCK_SH)
            flock(new.enter_context(open_folder("new", folder)), LOCK_SH)
        yield


@contextmanager
def releasing(folder: int) -> Iterator[None]:
    """Hold the shared lock while messages are unlinked and subtracted; waits only for a recount."""
    with ExitStack() as new:
        with suppress(FileNotFoundError):
            flock(new.enter_context(open_folder("new", folder)), LOCK_SH)
        yield


def is_counted(folder: str) -> bool:
    """Whether a recount is under way, for which ``releasing`` would wait."""
    try:
        with open_folder(f"{folder}/new") as fd:
            flock(fd, LOCK_SH | LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


def reserve(
    folder: int, quota: Quota, sizes: Sequence[int], *, all_of_them: bool = False
) -> tuple[list[bool], Usage] | None:
    """
    Reserve space for messages of these sizes; return which fit, and the new usage.

    Call it within ``reserving``.  None: nothing was reserved, because a recount is
    needed first, or because with ``all_of_them`` not all fit.
    """
    with locked(folder), opened(folder) as fd:
        count = usage_for(beginning(fd), quota)
        if fd is None or count is None:
            return None
        held = count
        fits = []
        for size in sizes:
            fits.append(_fits(quota, held, Usage(size, 1)))
            if fits[-1]:
                held = Usage(held.octets + size, held.messages + 1)
        if all_of_them and not all(fits):
            return None
        _append(fd, held.less(count))
        return fits, held


def is_kept(folder: int) -> bool:
    """Whether the maildrop has a maildirsize."""
    try:
        os.stat(FILE, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def add(folder: int, octets: int, messages: int) -> None:
    """Add to the usage (or subtract, below 0), if there is a maildirsize."""
    with locked(folder), opened(folder) as fd:
        if fd is not None:
            _append(fd, Usage(octets, messages))


def recount(folder: int, quota: Quota) -> Count:
    """Count the maildrop's files, and write a new maildirsize."""
    with _at_rest(folder):
        held = _scan(folder)
        _ours.add(_write(folder, quota, held))
        return Count(held, True)


def audit(folder: int, quota: Quota) -> tuple[Usage, Usage] | None:
    """The usage in the file, and the counted one; None if the file is not valid for this quota."""
    with _at_rest(folder):
        count = _read(folder, quota)
        return None if count is None else (count.usage, _scan(folder))


@contextmanager
def _at_rest(folder: int) -> Iterator[None]:
    """Hold all locks exclusively: all reserved messages are linked, and no line is added."""
    with open_folder("tmp", folder) as gate, open_folder("new", folder) as new:
        until = time.monotonic() + PATIENCE
        for fd in (gate, new):
            while not try_lock(fd) and time.monotonic() < until:
                time.sleep(_TICK)
        with locked(folder):
            yield


def forget(folder: str) -> None:
    """Delete the maildirsize: the next reservation recounts."""
    try:
        os.unlink(f"{folder}/{FILE}")
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        _put_away(None, f"{folder}/{FILE}")


def _put_away(folder: int | None, path: str) -> None:
    """Rename a directory that has the file's name; ``verify`` reports it."""
    os.rename(path, f"{path}{ODD}{time.time_ns()}", src_dir_fd=folder, dst_dir_fd=folder)


def agrees(folder: str, messages: int, octets: int) -> bool:
    """
    Whether the maildirsize, if there is one, is right.

    ``octets`` is the size on the wire, mostly the same as that of the files; if it
    differs, the files are counted.
    """
    with open_folder(folder) as fd:
        if not is_kept(fd):
            return True
        with opened(fd, TO_READ) as file:
            held = parse(beginning(file))
        if held is None or held.messages != messages:
            return False
        return held.octets == octets or held == _scan(fd)


def usage_of(folder: str, quota: Quota) -> Usage | None:
    """The usage in the file; None if it is missing or not valid for this quota."""
    return usage_for(_beginning_of(folder), quota)


def octets_of(folder: str) -> int:
    """The octets of the quota in the first line; 0 if there is none."""
    words = _beginning_of(folder).partition(b"\n")[0].split(b",")
    return next((int(word[:-1]) for word in words if _OCTETS.fullmatch(word)), 0)


def _beginning_of(folder: str) -> bytes:
    """The octets of the file; empty if it cannot be read."""
    try:
        fd = os.open(f"{folder}/{FILE}", TO_READ)
    except OSError:
        return b""
    try:
        return beginning(fd)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _fits(quota: Quota, held: Usage, more: Usage) -> bool:
    return quota.holds(held.octets + more.octets, held.messages + more.messages)


@contextmanager
def locked(folder: int) -> Iterator[None]:
    flock(folder, LOCK_EX)
    try:
        yield
    finally:
        flock(folder, LOCK_UN)


def _read(folder: int, quota: Quota) -> Count | None:
    """The count in the file; None if it is missing or not valid."""
    with opened(folder, TO_READ) as fd:
        text = beginning(fd)
        status = None if fd is None else os.fstat(fd)
    held = usage_for(text, quota)
    if held is None:
        return None
    return Count(held, text.count(b"\n") == 2 and status is not None and status in _ours)


class _Ours:
    """
    The maildirsize files that this process wrote and no program changed since.

    Another program may count differently (subfolders, for example): before mail is
    refused because of its count, we recount.
    """

    LIMIT = 10_000

    def __init__(self) -> None:
        self._known: Cache[tuple[int, ...], bool] = Cache(self.LIMIT)

    def add(self, status: os.stat_result) -> None:
        """Remember a file that we have just written, for FRESH seconds."""
        self._known.set(self._look(status), True, FRESH)

    def __contains__(self, status: os.stat_result) -> bool:
        return self._look(status) in self._known

    def _look(self, status: os.stat_result) -> tuple[int, ...]:
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


_ours = _Ours()


def _append(fd: int, more: Usage) -> None:
    if more.octets or more.messages:
        os.write(fd, b"%d %d\n" % more)


def _write(folder: int, quota: Quota, held: Usage) -> os.stat_result:
    part = f"tmp/{names.new_name('quota')}"
    fd = drafts.create(part, folder)  # locked, so that no sweep takes it for a leftover
    try:
        os.write(fd, b"%s\n%d %d\n" % (first_line(quota), *held))
        try:
            os.rename(part, FILE, src_dir_fd=folder, dst_dir_fd=folder)
        except IsADirectoryError:
            _put_away(folder, FILE)
            os.rename(part, FILE, src_dir_fd=folder, dst_dir_fd=folder)
        return os.fstat(fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(part, dir_fd=folder)
        raise
    finally:
        os.close(fd)


def _scan(folder: int) -> Usage:
    """Count the files in new and cur, with the sizes in their names or their own."""
    octets = messages = 0
    for box in ("new", "cur"):
        with suppress(FileNotFoundError), open_folder(box, folder) as fd, os.scandir(fd) as items:
            for item in items:
                with suppress(OSError):
                    if item.name.startswith(".") or not item.is_file(follow_symlinks=False):
                        continue
                    octets += _size(item)
                    messages += 1
    return Usage(octets, messages)


def _size(item: os.DirEntry[str]) -> int:
    said = names.sizes_of(item.name).file
    return item.stat(follow_symlinks=False).st_size if said is None else said
