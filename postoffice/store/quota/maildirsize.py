"""
What a maildrop may hold, and holds: counted in its ``maildirsize`` (Maildir++).

The first line of that file is the quota that it was made for; each further
one adds to, or takes from, what is there.  Dovecot and Courier read and write
it, too.  It is derived from the maildrop and never synced: who finds it
missing, or about to turn mail away, counts anew.  All functions block, and
raise OSError.

Locks keep several processes exact.  Whoever reads and adds a line holds
the maildrop's folder.  Whoever has added the line of a message and has not
placed it yet shares ``new``; whoever counts anew has that alone, so that no
message is counted twice or not at all.  Those who come to place wait behind
him, at ``tmp``, or he would wait for ever where many deliver.  Who takes
part in several maildrops takes them in the order of their names.
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
from postoffice.util.cache import Cache

#: The file in a maildrop that counts what is in it.
FILE = "maildirsize"
#: Behind that name: a directory that was in its place.
ODD = ".odd."
#: Octets of it that are read; Maildir++ has it counted anew when it is longer.
LONGEST = 5120
#: Seconds for which a count of nothing but itself is believed before mail is turned away.
FRESH = 60
#: Seconds that a count waits for messages that are just being placed; they should be by then.
PATIENCE = 5.0
_TICK = 0.01
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_OCTETS = re.compile(rb"[0-9]{1,18}S")
#: Errors of opening it that say that it is not there, or no file of ours.
_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES)


class Usage(NamedTuple):
    """What a maildrop holds: octets of its files, and messages."""

    octets: int
    messages: int

    def less(self, other: Usage) -> Usage:
        """What is left without that."""
        return Usage(self.octets - other.octets, self.messages - other.messages)


class Count(NamedTuple):
    """What the file says, and whether that was counted just now and not added up."""

    usage: Usage
    fresh: bool


def full(maildrop: str, quota: Quota, size: int, *, alone: bool = True) -> PostOfficeError:
    """
    What to say of a message of that size that does not fit.

    Where room is made, only what is too large by itself is refused for good.
    Where it has other recipients (not ``alone``) it is later for all: by the
    time that the sender names them again, each of them has an answer of his own.
    """
    never = quota.over == "reject" or (quota.over == "make-room" and not quota.holds(size, 1))
    if never and alone:
        return MaildropFull(f"{maildrop}: over its quota")
    return MaildropFullNow(f"{maildrop}: over its quota")


def usage(folder: int, quota: Quota) -> Usage:
    """What a maildrop holds, as far as it is known; counted if it is not."""
    count = _read(folder, quota) or recount(folder, quota)
    return count.usage


def has_room(folder: int, quota: Quota, more: Usage) -> tuple[bool, Usage]:
    """Whether so much more fits into a maildrop, and what it holds."""
    count = _read(folder, quota) or recount(folder, quota)
    if not _fits(quota, count.usage, more) and not count.fresh:
        count = recount(folder, quota)
    return _fits(quota, count.usage, more), count.usage


@contextmanager
def reserving(folder: int) -> Iterator[None]:
    """Messages that are reserved within this are placed within this, or given back."""
    with ExitStack() as new:
        with _opened(folder, "tmp") as gate:
            flock(gate, LOCK_SH)
            flock(new.enter_context(_opened(folder, "new")), LOCK_SH)
        yield


@contextmanager
def releasing(folder: int) -> Iterator[None]:
    """Messages that go within this are counted as gone within this; it does not wait for long."""
    with ExitStack() as new:
        with suppress(FileNotFoundError):
            flock(new.enter_context(_opened(folder, "new")), LOCK_SH)
        yield


def is_counted(folder: str) -> bool:
    """Whether somebody counts just now what is there: ``removing`` would wait for that."""
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
    Take room for messages of these sizes, each if it fits; and what is held then.

    Called within ``placing``.  None: first somebody must count; or not
    ``all_of_them`` fit, and nothing was taken.
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
    A maildrop's count that stays open, for who places there again and again.

    As ``placing`` and ``reserve``, where all fits, and where nobody is in the
    way or has made the file anew: what it said is remembered as long as it is
    the same file, and as long.
    """

    def __init__(self, folder: int) -> None:
        """``folder`` is open, and stays so.  Raises OSError."""
        self._folder = folder
        self._file = -1
        self._look = (0, 0)  # which file it was, and how long
        self._held = Usage(0, 0)
        self._quota: Quota | None = None
        self._gate = os.open("tmp", _FOLDER, dir_fd=folder)
        try:
            self._new = os.open("new", _FOLDER, dir_fd=folder)
        except BaseException:
            os.close(self._gate)
            raise

    def is_in_place(self) -> bool:
        """Whether who counts would still lock the same folders; nobody has made them anew."""
        return all(
            os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=self._folder))
            for name, fd in (("tmp", self._gate), ("new", self._new))
        )

    def begin(self) -> None:
        """Messages that are reserved from now on are placed before ``end``, or given back."""
        flock(self._gate, LOCK_SH)
        try:
            flock(self._new, LOCK_SH)
        finally:
            flock(self._gate, LOCK_UN)

    def end(self) -> None:
        """All is placed."""
        flock(self._new, LOCK_UN)

    def reserve(self, quota: Quota, more: Usage) -> Usage | None:
        """Take room; what is held then.  None: it is not to be had in this way."""
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
            self._quota = None  # a line that is not written whole is no count
            if os.write(self._file, line) < len(line):
                return None
            self._quota, self._look, self._held = quota, (look[0], look[1] + len(line)), held
            return held

    def _read(self, quota: Quota, look: tuple[int, int]) -> bool:
        """Whether what it says can be believed; then it is known, and open."""
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
        """It is needed no more."""
        self._close_file()
        os.close(self._gate)
        os.close(self._new)


def is_kept(folder: int) -> bool:
    """Whether anybody counts."""
    try:
        os.stat(FILE, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def add(folder: int, octets: int, messages: int) -> None:
    """Count what has come, or (less than 0) gone, if anybody counts."""
    with _alone(folder), _file(folder) as fd:
        if fd is not None:
            _append(fd, Usage(octets, messages))


def recount(folder: int, quota: Quota) -> Count:
    """Count what is there, and begin the file anew."""
    with _at_rest(folder):
        held = _scan(folder)
        _ours.add(_write(folder, quota, held))
        return Count(held, True)


def audit(folder: int, quota: Quota) -> tuple[Usage, Usage] | None:
    """What the file says, and what is there; None where it says nothing for this quota."""
    with _at_rest(folder):
        count = _read(folder, quota)
        return None if count is None else (count.usage, _scan(folder))


@contextmanager
def _at_rest(folder: int) -> Iterator[None]:
    """Nobody adds a line, and all that was reserved is in its place."""
    with _opened(folder, "tmp") as gate, _opened(folder, "new") as new:
        until = time.monotonic() + PATIENCE
        for fd in (gate, new):
            while not _try(fd) and time.monotonic() < until:
                time.sleep(_TICK)
        with _alone(folder):
            yield


def forget(folder: str) -> None:
    """Whoever asks next counts."""
    try:
        os.unlink(f"{folder}/{FILE}")
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        _put_away(None, f"{folder}/{FILE}")


def _put_away(folder: int | None, path: str) -> None:
    """A directory is in the place of the file: it gets another name, and verify tells of it."""
    os.rename(path, f"{path}{ODD}{time.time_ns()}", src_dir_fd=folder, dst_dir_fd=folder)


def agrees(folder: str, messages: int, octets: int) -> bool:
    """
    Whether the file, if there is one, counts what is there.

    ``octets`` are those on the wire, which are the files' own more often than not.
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
    """The octets of the quota that a maildrop was last counted for; 0 where nothing says so."""
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
    """``1000000S,1000C``; what is not limited is left out."""
    words = [f"{quota.octets}S"] if quota.octets else []
    if quota.messages:
        words.append(f"{quota.messages}C")
    return ",".join(words).encode()


@contextmanager
def _file(folder: int, flags: int = _FILE) -> Iterator[int | None]:
    """The file, open; None where there is none, or another program's something."""
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
    """What the file says; one octet more where it is too long, and nothing where there is none."""
    if fd is None:
        return b""
    try:
        return os.read(fd, LONGEST + 1)
    except (BlockingIOError, IsADirectoryError):
        return b""


def _said(text: bytes, quota: Quota) -> Usage | None:
    """What a file that was made for this quota says; None where it cannot be believed."""
    return _parse(text) if text.partition(b"\n")[0] == _first_line(quota) else None


def _parse(text: bytes) -> Usage | None:
    """What the lines behind the first come to; None for what is no such file."""
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
    """What the file says; None where it is missing, or cannot be believed."""
    with _file(folder, _LOOK) as fd:
        text = _beginning(fd)
        status = None if fd is None else os.fstat(fd)
    held = _said(text, quota)
    if held is None:
        return None
    return Count(held, text.count(b"\n") == 2 and status is not None and status in _ours)


class _Ours:
    """
    Counts of this process that nobody has changed since, for a while.

    Another program may count what we do not: it is believed until mail would
    be turned away for it, and never then.
    """

    LIMIT = 10_000

    def __init__(self) -> None:
        self._known: Cache[tuple[int, ...], bool] = Cache(self.LIMIT)

    def add(self, status: os.stat_result) -> None:
        """This file was written just now."""
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
    fd = drafts.create(part, folder)  # locked: nobody takes it for a leftover
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
    """What lies in the maildrop: sizes as the names say, or the files."""
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
