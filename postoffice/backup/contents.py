"""
Writes the content of a backup, in this order: configuration, mail, databases and keys.

The accounts come last.  So if an account exists before and after the backup, the backup
has it with all mail that was accepted before the backup began.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import yaml

from postoffice import __version__
from postoffice.accounts.account_queries import keep_only
from postoffice.accounts.sealed_secrets import Seal
from postoffice.backup.manifest import AccountNames, BackupError, Header
from postoffice.backup.writer import BESIDE, SQLITE, BackupWriter
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.daemon.privileges import as_root
from postoffice.interfaces import IAccountListing, IStoreBackup, Piece
from postoffice.model.errors import TemporaryFailure

#: The most octets of a file that the configuration names.
NAMED_MAXIMUM = 64 << 20


@dataclass(frozen=True)
class BackupSelection:
    """Which maildrops: those of these addresses and domains, or all if there are none."""

    addresses: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        return not (self.addresses or self.domains)


@dataclass(frozen=True)
class Chosen:
    """Folders in the store with about how many files each has, the accounts, and their domains."""

    folders: Sequence[tuple[str, int]]
    addresses: Sequence[str] = ()
    domains: Sequence[str] = ()


def header(settings: Settings, which: BackupSelection, stamp: str, now: str) -> Header:
    """Return the first line of the manifest."""
    file = "" if settings.first_run else os.path.abspath(settings.source.file)
    header: Header = {
        "postoffice": __version__,
        "hostname": settings.hostname,
        "begun": now,
        "files": f"files/{stamp}",
        "whole": which.whole,
        "config": file,
        "state": settings.state,
        "accounts": _accounts(settings, which),
    }
    if not which.whole:
        header["maildrops"], header["domains"] = list(which.addresses), list(which.domains)
    return header


def _accounts(settings: Settings, which: BackupSelection) -> AccountNames:
    """Return the names in a backup of the accounts' database and of its key."""
    if (options := _options(settings)) is None:
        return {}
    if not which.whole:
        return {"database": "state/accounts.db", "key": "state/accounts.key"}
    return {
        "database": _name(settings, options["path"]),
        "key": _name(settings, options["key_file"]),
    }


def _options(settings: Settings) -> Mapping[str, str] | None:
    """Return the options of the accounts' database, if there is one."""
    return next((one.options for one in settings.accounts if one.maker.kind == "sqlite"), None)


def _name(settings: Settings, path: str) -> str:
    """Return the name in a backup of a file that may change."""
    roots = [("state", settings.state)]
    if not settings.first_run:
        roots.append(("config", os.path.dirname(os.path.abspath(settings.source.file))))
    for root, folder in roots:
        if path.startswith(f"{folder}/"):
            return f"{root}/{path[len(folder) + 1 :]}"
    return f"machine/{path.lstrip('/')}"


class Contents:
    """Writes a selection; ``files`` is the folder for files that may change."""

    def __init__(
        self, plugins: Plugins, settings: Settings, written: BackupWriter, files: str
    ) -> None:
        if not IStoreBackup.providedBy(plugins.store):
            raise BackupError("the store of this kind has no files that could be copied")
        self._plugins = plugins
        self._store = cast(IStoreBackup, plugins.store)
        self._settings = settings
        self._written = written
        self._files = files

    async def choose(self, which: BackupSelection) -> Chosen:
        """Return what to back up.  Raises BackupError if something does not exist."""
        await self._store.settle()
        folders = await self._store.folders()
        if which.whole:
            return Chosen(folders)
        wanted: set[str] = set()
        addresses, domains = set[str](), set(which.domains)
        there = {folder for folder, _ in folders}
        for address in which.addresses:
            account = await self._plugins.find(address)
            folder = self._store.folder_of(account.maildrop if account else address)
            if account is None and folder not in there:
                raise BackupError(f"there is neither an account {address} nor its maildrop")
            wanted.add(folder)
            if account is not None:
                addresses.add(account.address)
                domains.add(account.address.rpartition("@")[2])
        for domain in which.domains:
            here = os.path.dirname(self._store.folder_of(f"x@{domain}"))
            found = {one for one in there if os.path.dirname(one) == here}
            for directory in self._plugins.directories:
                if IAccountListing.providedBy(directory):
                    async for one in directory.each_account(domain):
                        addresses.add(one.address)
                        found.add(self._store.folder_of(one.maildrop))
                if await directory.serves(domain):
                    found.add("")
            if not found:
                raise BackupError(f"there is no domain {domain}, nor mail of it")
            wanted |= found
        chosen = [one for one in folders if one[0] in wanted]
        return Chosen(chosen, sorted(addresses), sorted(domains))

    async def write(self, chosen: Chosen, which: BackupSelection) -> None:
        """Write all of it."""
        if which.whole:
            self._write_configuration()
        for folder, _ in chosen.folders:
            try:
                pieces = await self._store.pieces(folder)
            except TemporaryFailure as error:
                self._written.complaints.append(str(error))
                continue
            names = {piece.name for piece in pieces}
            for piece in pieces:
                self._write_piece(piece, names)
        if which.whole:
            for piece in self._store.removed():
                self._written.message(f"mail/{piece.name}", piece.path)
            self._write_state()
        else:
            self._write_accounts(chosen)

    def _write_piece(self, piece: Piece, names: Container[str]) -> None:
        if piece.empty:
            with suppress(OSError):
                mtime = os.stat(piece.path).st_mtime_ns
                self._written.octets_of(f"{self._files}/mail/{piece.name}", b"", mtime)
        elif not piece.uidl:
            self._written.other(f"{self._files}/mail/{piece.name}", piece.path)
        elif not self._written.message(f"mail/{piece.name}", piece.path):
            again = self._store.find_again(piece)  # it was renamed or removed meanwhile
            if again is not None and again.name not in names:  # else it is a piece of its own
                self._written.message(f"mail/{again.name}", again.path)

    def _write_state(self) -> None:
        configuration = os.path.abspath(self._settings.source.file)
        for path in _state_files(self._settings.state, self._store.path):
            if path != configuration:
                self._other(_name(self._settings, path), path)

    def _other(self, name: str, path: str) -> None:
        self._written.other(f"{self._files}/{name}", path)

    def _write_configuration(self) -> None:
        if self._settings.first_run:
            return
        file = os.path.abspath(self._settings.source.file)
        inside = (f"{os.path.realpath(self._settings.state)}/", f"{self._store.path}/")
        with as_root():
            named = dict.fromkeys(_files_named_in(file, self._settings.state))
        self._write_named(file, f"config/{os.path.basename(file)}")  # also from the state folder
        for path in named:
            if path != file and not os.path.realpath(path).startswith(inside):
                self._write_named(path, _name(self._settings, path))

    def _write_named(self, path: str, name: str) -> None:
        """Read the file as root, because the user of the post office may not."""
        try:
            with as_root(), open(path, "rb") as file:
                octets, status = file.read(NAMED_MAXIMUM), os.fstat(file.fileno())
        except OSError as error:
            self._written.complaints.append(f"{path}: {error.strerror}")
            return
        if octets.startswith(SQLITE):
            self._other(name, path)
        else:
            self._written.octets_of(f"{self._files}/{name}", octets, status.st_mtime_ns)

    def _write_accounts(self, chosen: Chosen) -> None:
        """Write the rows of these accounts, with a key of their own for the shared secrets."""
        if (options := _options(self._settings)) is None:
            return
        with tempfile.TemporaryDirectory(prefix="postoffice-") as folder:
            key = f"{folder}/accounts.key"
            old, new = Seal(options["key_file"]), Seal(key)

            def change(database: sqlite3.Connection) -> None:
                for address in keep_only(database, chosen.addresses, chosen.domains, old, new):
                    self._written.complaints.append(f"{address}: its shared secret is unreadable")

            name = f"{self._files}/state/accounts"
            self._written.database(f"{name}.db", options["path"], change)
            if os.path.exists(key):
                self._other("state/accounts.key", key)


def _files_named_in(file: str, state: str) -> Iterator[str]:
    """Yield the files that a configuration names, anywhere in it."""
    with open(file, "rb") as text:
        tree = yaml.safe_load(text)
    for word in _words(tree):
        for base in (os.path.dirname(file), state):
            path = os.path.normpath(os.path.join(base, word.removeprefix("file:")))
            with suppress(OSError, ValueError):
                status = os.stat(path)
                if stat.S_ISREG(status.st_mode) and status.st_size <= NAMED_MAXIMUM:
                    yield path
                    break


def _words(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _words(value)
    elif isinstance(node, list):
        for value in node:
            yield from _words(value)


def _state_files(state: str, store: str) -> Iterator[str]:
    """Yield the plain files of the state folder, without mail and files of a running process."""
    for where, below, files in os.walk(state):
        below[:] = sorted(one for one in below if f"{where}/{one}" != store)
        for file in sorted(files):
            path = f"{where}/{file}"
            if file.endswith((*BESIDE, ".new", ".pid")):
                continue
            with suppress(OSError):
                if stat.S_ISREG(os.lstat(path).st_mode):
                    yield path
