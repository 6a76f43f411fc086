"""A directory in a text file that is kept by hand, and read again when it changes."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from postoffice.interfaces import Executor, IAccountListing, IAccountSettings, IAliasListing
from postoffice.model.address import Account, Quota
from postoffice.model.alias import Alias, Domain, Found
from postoffice.model.errors import StartupError
from postoffice.model.mail_policy import MailPolicy
from postoffice.util.shield import shield

#: Octets of such a file.
SIZE_MAXIMUM = 64 << 20
#: Seconds after the last write to a file that is written in place until it is read: an editor or
#: cp may still be writing.  A file that is renamed into place has another inode, and is read at
#: once (but for the rare one that gets the inode of the old one again).
QUIET = 1.0
#: Seconds for which clients wait for a new version.  If the last reading took longer, the old
#: version answers until the new one is read.
PATIENCE = 0.5
#: Device, inode, size, and times of the file.
Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class FileContents:
    """What a file says: the local domains, and accounts and aliases, by their names."""

    domains: Mapping[str, Domain]
    entries: Mapping[str, Account | Alias] = field(repr=False)

    @cached_property
    def account_settings(self) -> frozenset[tuple[Quota, MailPolicy]]:
        """The quota and the mail policy of all accounts, each pair once."""
        accounts = (one for one in self.entries.values() if isinstance(one, Account))
        return frozenset((one.quota, one.mail_policy) for one in accounts)


#: Parses a file: its path and its octets; runs on a thread.  Raises StartupError with one line for
#: each problem, which begins with the path and the number of the line.
Parse = Callable[[str, bytes], FileContents]


@implementer(IAccountListing, IAccountSettings, IAliasListing)
class FileDirectory:
    """
    The accounts in one file; nothing is written to it.

    Each question looks at the file's times, which costs one system call.  A new version that
    cannot be used is logged, and the last good one stays.  ``now`` returns the time of day.
    """

    log = Logger()

    def __init__(
        self, path: str, parse: Parse, executor: Executor, now: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._parse = parse
        self._executor = executor
        self._now = now
        self._contents = FileContents({}, {})
        self._stamp: Stamp | None = None
        self._reading: Deferred[None] | None = None
        self._slow = False  # whether the last reading took longer than clients should wait

    async def start(self) -> None:
        self._stamp, found = await self._executor.run(self._read)
        if isinstance(found, str):
            raise StartupError(found)
        self._contents = found

    async def stop(self) -> None:
        if self._reading is not None:
            await shield(self._reading)

    async def find(self, name: str) -> Account | None:
        entry = (await self._current()).entries.get(name)
        return entry if isinstance(entry, Account) else None

    async def serves(self, domain: str) -> bool:
        return domain in (await self._current()).domains

    async def domains(self) -> list[str]:
        return sorted((await self._current()).domains)

    async def each_account(self, domain: str | None = None) -> AsyncIterator[Account]:
        entries = (await self._current()).entries
        for name in sorted(entries):
            one = entries[name]
            if isinstance(one, Account) and domain in (None, name.rpartition("@")[2]):
                yield one

    async def aliases(
        self, domain: str | None = None, after: str = "", most: int = 1000
    ) -> list[Alias]:
        entries = (await self._current()).entries
        names = sorted(name for name in entries if name > after)
        found = (entries[name] for name in names if domain in (None, name.rpartition("@")[2]))
        return list(islice((one for one in found if isinstance(one, Alias)), most))

    def look_up(self, name: str) -> Found | Awaitable[Found]:
        if self._is_current():
            return _look_up(self._contents, name)
        return self._look_up(name)

    async def _look_up(self, name: str) -> Found:
        return _look_up(await self._current(), name)

    async def account_settings(self) -> frozenset[tuple[Quota, MailPolicy]]:
        return (await self._current()).account_settings

    async def _current(self) -> FileContents:
        """Return the contents of the file, or of its last good version."""
        if not self._is_current():
            if self._reading is None:
                reading = Deferred.fromCoroutine(self._read_again())
                if not reading.called:
                    self._reading = reading
            if self._reading is not None and not self._slow:
                await shield(self._reading)
        return self._contents

    def _is_current(self) -> bool:
        """
        Whether to keep the contents: the file is unchanged, or its new version is too recent.

        A version that was just written may be incomplete.
        """
        stamp = _stamp_of(self._path)
        if stamp == self._stamp:
            return True
        if stamp is None or self._stamp is None or stamp[:2] != self._stamp[:2]:
            return False
        return 0 <= self._now() - stamp[3] / 1e9 < QUIET

    async def _read_again(self) -> None:
        try:
            stamp, found = await self._executor.run(self._read)
            if stamp != _stamp_of(self._path):
                return  # changed meanwhile: the next question reads it again
            self._stamp = stamp
            if isinstance(found, str):
                for problem in found.splitlines():
                    self.log.error(
                        "reading {path} again failed, its last good version stays: {why}",
                        path=self._path,
                        why=problem,
                    )
                return
            self._contents = found
            self.log.info(
                "{path} has changed: {count} accounts and aliases",
                path=self._path,
                count=len(found.entries),
            )
        finally:
            self._reading = None

    def _read(self) -> tuple[Stamp | None, FileContents | str]:
        """Return the file's stamp, and its contents or the text of its problems.  It blocks."""
        stamp, began = _stamp_of(self._path), time.monotonic()
        try:
            return stamp, self._parse(self._path, _read_file(self._path))
        except OSError as error:
            return stamp, f"{self._path}: {error.strerror}"
        except StartupError as error:
            return stamp, str(error)
        finally:
            self._slow = time.monotonic() - began > PATIENCE


def _stamp_of(path: str) -> Stamp | None:
    """Return the stamp of the file; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
    )  # fmt: skip


def _read_file(path: str) -> bytes:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise StartupError(f"{path}: it is not a file")
    with open(path, "rb") as file:
        octets = file.read(SIZE_MAXIMUM + 1)
    if len(octets) > SIZE_MAXIMUM:
        raise StartupError(f"{path}: it is larger than {SIZE_MAXIMUM >> 20} MiB")
    return octets


def _look_up(contents: FileContents, name: str) -> Found:
    return Found(contents.domains.get(name.rpartition("@")[2]), contents.entries.get(name))
