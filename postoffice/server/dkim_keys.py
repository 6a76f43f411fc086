"""The keys that sign by DKIM: a folder for each domain, with a file for each key."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from twisted.logger import Logger

from postoffice.model import log_events
from postoffice.model.log_event import tell
from postoffice.outbound.dkim import KINDS, NotAKey, SigningKey, new_key, read_key
from postoffice.util.atomic_file import replacing, sync_folder

#: The folder in the state folder, and in a domain's folder the list of its keys.
FOLDER, LIST = "dkim", "keys.json"
#: What a key is for: its record is not in the DNS yet; it signs; it has signed.
WAITING, ACTIVE, OLD = "waiting", "active", "old"

log = Logger("postoffice")


@dataclass(frozen=True)
class KeyEntry:
    """One key of a domain; ``since`` is when its state began (Unix time)."""

    selector: str
    kind: str
    state: str
    since: float


class DKIMKeys:
    """The keys in the folder ``state``; its functions block, and raise OSError."""

    def __init__(self, state: str) -> None:
        self._folder = os.path.join(state, FOLDER)
        self._read: dict[str, tuple[object, list[SigningKey]]] = {}

    def signing(self, domain: str) -> list[SigningKey]:
        """Return the keys that sign for a domain; none if they cannot be read, which is logged."""
        if domain.startswith("["):
            return []
        try:
            status = os.stat(self._file(domain, LIST))
        except FileNotFoundError:
            return []
        except OSError as error:
            tell(log, log_events.NOT_SIGNED, domain=domain, why=error)
            return []
        stamp = status.st_ino, status.st_mtime_ns
        known = self._read.get(domain)
        if known is None or known[0] != stamp:
            try:
                active = [one for one in self.entries(domain) if one.state == ACTIVE]
                known = stamp, [self.key(domain, one.selector) for one in active]
            except (OSError, NotAKey) as error:
                tell(log, log_events.NOT_SIGNED, domain=domain, why=error)
                known = stamp, []
            self._read[domain] = known
        return known[1]

    def domains(self) -> list[str]:
        """The domains that have keys."""
        with suppress(FileNotFoundError):
            return sorted(one for one in os.listdir(self._folder) if self.entries(one))
        return []

    def entries(self, domain: str) -> list[KeyEntry]:
        """The keys of a domain, the oldest first.  Raises NotAKey if the list cannot be read."""
        try:
            with open(self._file(domain, LIST), "rb") as file:
                return [KeyEntry(**one) for one in json.load(file)["keys"]]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError) as error:
            raise NotAKey(f"{self._file(domain, LIST)} cannot be read: {error}") from error

    def key(self, domain: str, selector: str) -> SigningKey:
        """Read a key.  Raises NotAKey."""
        path = self._file(domain, f"{selector}.key")
        try:
            with open(path, "rb") as file:
                return read_key(domain, selector, file.read())
        except NotAKey as error:
            raise NotAKey(f"{path}: {error}") from error

    def add(self, domain: str, now: float) -> list[KeyEntry]:
        """Make a key of each kind, which wait for their records."""
        for folder in (self._folder, os.path.join(self._folder, domain)):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        entries = self.entries(domain)
        made = []
        for kind in KINDS:
            selector = _unused(f"{datetime.fromtimestamp(now, UTC):%Y%m%d}-{kind}", entries)
            self._write(domain, f"{selector}.key", new_key(kind))
            made.append(KeyEntry(selector, kind, WAITING, now))
        self._save(domain, [*entries, *made])
        return made

    def activate(self, domain: str, selectors: Iterable[str], now: float) -> None:
        """Let keys sign that have waited; those of the same kind that signed so far are old."""
        new = [one for one in self.entries(domain) if one.selector in set(selectors)]
        kinds = {one.kind for one in new}
        entries = []
        for one in self.entries(domain):
            if one in new:
                one = replace(one, state=ACTIVE, since=now)
            elif one.state == ACTIVE and one.kind in kinds:
                one = replace(one, state=OLD, since=now)
            entries.append(one)
        self._save(domain, entries)

    def remove(self, domain: str, selectors: Iterable[str]) -> None:
        """Delete keys."""
        gone = set(selectors)
        self._save(domain, [one for one in self.entries(domain) if one.selector not in gone])
        for selector in gone:
            with suppress(FileNotFoundError):
                os.unlink(self._file(domain, f"{selector}.key"))

    def _save(self, domain: str, entries: list[KeyEntry]) -> None:
        text = json.dumps({"keys": [asdict(one) for one in entries]}, indent=1)
        self._write(domain, LIST, f"{text}\n".encode())

    def _write(self, domain: str, name: str, octets: bytes) -> None:
        path = self._file(domain, name)
        with replacing(path, f"{path}.new", _create) as fd:
            os.write(fd, octets)
        sync_folder(os.path.dirname(path))

    def _file(self, domain: str, name: str) -> str:
        return os.path.join(self._folder, domain, name)


def _create(path: str) -> int:
    return os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )


def _unused(name: str, entries: list[KeyEntry]) -> str:
    taken = {one.selector for one in entries}
    names = [name, *(f"{name}-{number}" for number in range(2, 100))]
    return next(one for one in names if one not in taken)
