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

import errno
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
from postoffice.store.files import identity
from postoffice.util.cache import Cache

#: The file in a maildrop that has its usage.
FILE = "maildirsize"
#: Suffix of the new name of a directory that had the file's name.
ODD = ".odd."
#: The most octets of the file; a longer one is recounted (Maildir++).
LONGEST = 5120
#: Seconds for which mail may be refused because of our last recount, without another.
FRESH = 60
#: Seconds that a recount waits for messages that are reserved and not linked yet.
PATIENCE = 5.0
_TICK = 0.01
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_OCTETS = re.compile(rb"[0-9]{1,18}S")
#: Errors of open() if the file is missing, or not a regular file that we may read.
_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES)


class Usage(NamedTuple):
    """The usage of a maildrop: octets of its files, and messages."""

    octets: int
    messages: int

    def less(self, other: Usage) -> Usage:
        """The difference."""
        return Usage(self.octets - other.octets, self.messages - other.messages)


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
        with _opened(folder, "tmp") as gate:
            flock(gate, LOCK_SH)
            flock(new.enter_context(_opened(folder, "new")), LOCK_SH)
        yield


@contextmanager
def releasing(folder: int) -> Iterator[None]:
    """Hold the shared lock while messages are unlinked and subtracted; waits only for a recount."""
    with ExitStack() as new:
        with suppress(FileNotFoundError):
            flock(new.enter_context(_opened(folder, "new")), LOCK_SH)
        yield


def is_counted(folder: str) -> bool:
    """Whether a recount is under way, for which ``releasing`` would wait."""
    with suppress(OSError):
        fd = os.open(f"{folder}/new", _FOLDER)
        try:
            flock(fd, LOCK_SH | LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False


@contextmanager
def _opened(folder: int, name: str) -> Iterator[int]:
    fd = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def reserve(
    folder: int, quota: Quota, sizes: Sequence[int], *, all_of_them: bool = False
) -> tuple[list[bool], Usage] | None:
    """
    Reserve space for messages of these sizes; return which fit, and the new usage.

    Call it within ``reserving``.  None: nothing was reserved, because a recount is
    needed first, or because with ``all_of_them`` not all fit.
    """
    with _alone(folder), _file(folder) as fd:
        count = _said(_beginning(fd), quota)
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


class OpenCount:
    """
    A maildirsize that stays open, for a process that delivers to the maildrop often.

    It does what ``reserving`` and ``reserve`` do, if all messages fit.  The usage
    is remembered while the file has the same inode and length.
    """

    def __init__(self, folder: int) -> None:
        """``folder``: a descriptor that stays open longer than this.  Raises OSError."""
        self._folder = folder
        self._file = -1
        self._look = (0, 0)  # its inode and its length when it was read
        self._held = Usage(0, 0)
        self._quota: Quota | None = None
        self._gate = os.open("tmp", _FOLDER, dir_fd=folder)
        try:
            self._new = os.open("new", _FOLDER, dir_fd=folder)
        except BaseException:
            os.close(self._gate)
            raise
        self._locked = [identity(os.fstat(fd)) for fd in (self._gate, self._new)]

    def is_in_place(self) -> bool:
        """Whether ``tmp`` and ``new`` are still the folders that we lock."""
        # no other folder has the identity of one that is open
        there = [identity(os.stat(name, dir_fd=self._folder)) for name in ("tmp", "new")]
        return there == self._locked

    def begin(self) -> None:
        """Take the shared lock: what is reserved is linked or given back before ``end``."""
        flock(self._gate, LOCK_SH)
        try:
            flock(self._new, LOCK_SH)
        finally:
            flock(self._gate, LOCK_UN)

    def end(self) -> None:
        """Release the shared lock."""
        flock(self._new, LOCK_UN)

    def reserve(self, quota: Quota, more: Usage) -> Usage | None:
        """Reserve space; return the new usage.  None: nothing reserved, use ``reserve``."""
        with _alone(self._folder):
            try:
                status = os.stat(FILE, dir_fd=self._folder, follow_symlinks=False)
            except FileNotFoundError:
                return None
            look = status.st_ino, status.st_size
            if (look != self._look or quota != self._quota) and not self._read(quota, look):
                return None
            held = Usage(self._held.octets + more.octets, self._held.messages + more.messages)
            line = b"%d %d\n" % more
            if not quota.holds(*held) or look[1] + len(line) > LONGEST:
                return None
            self._quota = None  # not valid if the line is only written in part
            if os.write(self._file, line) < len(line):
                return None
            self._quota, self._look, self._held = quota, (look[0], look[1] + len(line)), held
            return held

    def _read(self, quota: Quota, look: tuple[int, int]) -> bool:
        """Read the file and keep it open.  False if it is not valid for this quota."""
        self._close_file()
        with _file(self._folder) as fd:
            held = _said(_beginning(fd), quota)
            if fd is None or held is None:
                return False
            status = os.fstat(fd)
            if (status.st_ino, status.st_size) != look:
                return False
            self._file = os.dup(fd)
        self._look, self._held, self._quota = look, held, quota
        return True

    def _close_file(self) -> None:
        self._quota = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def close(self) -> None:
        """Close the file and the folders."""
        self._close_file()
        os.close(self._gate)
        os.close(self._new)


def is_kept(folder: int) -> bool:
    """Whether the maildrop has a maildirsize."""
    try:
        os.stat(FILE, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def add(folder: int, octets: int, messages: int) -> None:
    """Add to the usage (or subtract, below 0), if there is a maildirsize."""
    with _alone(folder), _file(folder) as fd:
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
    with _opened(folder, "tmp") as gate, _opened(folder, "new") as new:
        until = time.monotonic() + PATIENCE
        for fd in (gate, new):
            while not _try(fd) and time.monotonic() < until:
                time.sleep(_TICK)
        with _alone(folder):
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
    fd = os.open(folder, _FOLDER)
    try:
        if not is_kept(fd):
            return True
        with _file(fd, _LOOK) as file:
            held = _parse(_beginning(file))
        if held is None or held.messages != messages:
            return False
        return held.octets == octets or held == _scan(fd)
    finally:
        os.close(fd)


def octets_of(folder: str) -> int:
    """The octets of the quota in the first line; 0 if there is none."""
    try:
        fd = os.open(f"{folder}/{FILE}", _LOOK)
    except OSError:
        return 0
    try:
        words = _beginning(fd).partition(b"\n")[0].split(b",")
    except OSError:
        return 0
    finally:
        os.close(fd)
    return next((int(word[:-1]) for word in words if _OCTETS.fullmatch(word)), 0)


def _fits(quota: Quota, held: Usage, more: Usage) -> bool:
    return quota.holds(held.octets + more.octets, held.messages + more.messages)


@contextmanager
def _alone(folder: int) -> Iterator[None]:
    flock(folder, LOCK_EX)
    try:
        yield
    finally:
        flock(folder, LOCK_UN)


def _try(fd: int) -> bool:
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _first_line(quota: Quota) -> bytes:
    """The quota as ``1000000S,1000C``, without what is not limited."""
    words = [f"{quota.octets}S"] if quota.octets else []
    if quota.messages:
        words.append(f"{quota.messages}C")
    return ",".join(words).encode()


@contextmanager
def _file(folder: int, flags: int = _FILE) -> Iterator[int | None]:
    """Open the file; None if it is missing or not a regular file."""
    try:
        fd = os.open(FILE, flags, dir_fd=folder)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _beginning(fd: int | None) -> bytes:
    """The file's octets, at most LONGEST + 1; empty if there is no file."""
    if fd is None:
        return b""
    try:
        return os.read(fd, LONGEST + 1)
    except (BlockingIOError, IsADirectoryError):
        return b""


def _said(text: bytes, quota: Quota) -> Usage | None:
    """The usage in a file that was written for this quota; None if it is not valid."""
    return _parse(text) if text.partition(b"\n")[0] == _first_line(quota) else None


def _parse(text: bytes) -> Usage | None:
    """The sum of the lines after the first; None if the format is wrong."""
    if len(text) > LONGEST or not text.endswith(b"\n"):
        return None
    words = text.partition(b"\n")[2].split()
    if len(words) != 2 * (text.count(b"\n") - 1):
        return None
    try:
        held = Usage(sum(map(int, words[::2])), sum(map(int, words[1::2])))
    except ValueError:
        return None
    return held if held.octets >= 0 and held.messages >= 0 else None


def _read(folder: int, quota: Quota) -> Count | None:
    """The count in the file; None if it is missing or not valid."""
    with _file(folder, _LOOK) as fd:
        text = _beginning(fd)
        status = None if fd is None else os.fstat(fd)
    held = _said(text, quota)
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
        os.write(fd, b"%s\n%d %d\n" % (_first_line(quota), *held))
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
        try:
            fd = os.open(box, _FOLDER, dir_fd=folder)
        except FileNotFoundError:
            continue
        try:
            with os.scandir(fd) as items:
                for item in items:
                    with suppress(OSError):
                        if item.name.startswith(".") or not item.is_file(follow_symlinks=False):
                            continue
                        octets += _size(item)
                        messages += 1
        finally:
            os.close(fd)
    return Usage(octets, messages)


def _size(item: os.DirEntry[str]) -> int:
    said = names.sizes_of(item.name).file
    return item.stat(follow_symlinks=False).st_size if said is None else said
