"""
Who has collected what, in the file ``postoffice.collected`` of a maildrop.

It has a line for each message and device; by the message's UIDL, which no
flag and no move changes.  Lines are added, not synced: a line that a crash
takes away, or damages, is none, and mail stays longer.  Whoever writes holds
the maildrop's lock.  All functions block.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from urllib.parse import quote, unquote

from postoffice.model.listing import Entry
from postoffice.model.mail_policy import LAPSE
from postoffice.store import names
from postoffice.store.drafts import create, write_all
from postoffice.store.files import open_own, open_plain, sync_folder
from postoffice.util.atomic_file import replacing

FILE = "postoffice.collected"
#: Octets of a file that is believed.
LONGEST = 64 << 20
#: Lines of messages that are gone, before the file is written anew.
SPARE = 1000
#: The account's own password, among devices.
OWN = ""
#: What a line tells: a device has collected a message; a message came back out of the vault; a
#: device has collected something, of which no line tells any more.
NO_UIDL = "-"
COLLECTED, BACK, SEEN = b"C", b"B", b"S"


@dataclass
class FetchRecord:
    """
    What is known of a maildrop: by UIDL when each device had it, and when it came back.

    ``seen`` are all devices that have ever collected something.
    """

    times: dict[str, dict[str, float]] = field(default_factory=dict)
    back: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)

    def every(self, devices: frozenset[str] | None, now: float) -> frozenset[str] | None:
        """Who must have a message for it to count as collected (``KeepTimes``); None: anybody."""
        if devices is None or (devices and now - self.seen.get(OWN, -LAPSE) > LAPSE):
            return devices
        return devices | {OWN}

    def collected(self, uidl: str, every: frozenset[str] | None = None) -> float | None:
        """
        When a message was collected: by the last of these, or (None) the first of all.

        None: not yet, or not since it was brought back.
        """
        back = self.back.get(uidl, 0.0)
        had = {who: when for who, when in self.times.get(uidl, {}).items() if when > back}
        if every is None:
            return min(had.values(), default=None)
        return max(had[one] for one in every) if had.keys() >= every else None


def read(folder: str) -> FetchRecord:
    """What is known; nothing where the file is missing or cannot be read."""
    return _parsed(_text(folder))


def add(
    folder: str,
    entries: Sequence[Entry],
    device: str,
    now: float,
    living: Callable[[], Iterable[Entry]],
) -> FetchRecord:
    """
    A device has collected these; what is known then.

    ``living`` tells of all that lie there: lines of others go when they are
    many.  Raises OSError.
    """
    text = _text(folder)
    record = _parsed(text)
    lines = []
    for entry in entries:
        known = record.times.setdefault(entry.uidl, {})
        if known.get(device, 0.0) <= record.back.get(entry.uidl, 0.0):
            known[device] = record.seen[device] = now
            lines.append(_line(COLLECTED, now, entry.uidl, device))
    if lines:
        if text and not text.endswith(b"\n"):  # a crash has cut its last line
            lines.insert(0, b"\n")
        _append(folder, b"".join(lines))
    if len(record.times) > SPARE:
        alive = {entry.uidl for entry in living()}
        if len(record.times.keys() - alive) > max(SPARE, len(alive)):
            rewrite(folder, record, alive)
    return record


def came_back(folder: str, uidls: Iterable[str], now: float) -> None:
    """These were brought back from the vault: as if they had just come.  Raises OSError."""
    lines = [_line(BACK, now, uidl, OWN) for uidl in uidls]
    if lines:
        _append(folder, b"\n" + b"".join(lines), sync=True)


def rewrite(folder: str, record: FetchRecord, alive: Collection[str]) -> None:
    """Only what is known of those that are there.  Raises OSError."""
    lines = [
        _line(COLLECTED, when, uidl, device)
        for uidl, had in record.times.items()
        if uidl in alive
        for device, when in had.items()
    ]
    lines += [_line(BACK, when, uidl, OWN) for uidl, when in record.back.items() if uidl in alive]
    lines += [_line(SEEN, when, NO_UIDL, device) for device, when in record.seen.items()]
    part = f"{folder}/tmp/{names.new_name('collected')}.{secrets.token_hex(2)}"
    # A draft is locked: nobody takes it for a leftover.
    with replacing(f"{folder}/{FILE}", part, create) as fd:
        write_all(fd, b"".join(lines))


def _append(folder: str, octets: bytes, *, sync: bool = False) -> None:
    fd = open_own(f"{folder}/{FILE}", os.O_WRONLY | os.O_APPEND)
    try:
        write_all(fd, octets)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
    if sync:
        sync_folder(folder)


def _text(folder: str) -> bytes:
    try:
        fd, status = open_plain(f"{folder}/{FILE}")
    except OSError:
        return b""
    try:
        return os.read(fd, status.st_size) if status.st_size <= LONGEST else b""
    finally:
        os.close(fd)


def _line(kind: bytes, when: float, uidl: str, device: str) -> bytes:
    """Words without spaces, and their digest: what a crash has left of a line is none."""
    words = b"%s %r %s =%s" % (kind, float(when), uidl.encode(), _quoted(device))
    return b"%s %s\n" % (words, _digest(words))


def _quoted(device: str) -> bytes:
    return quote(device.encode("utf-8", "surrogatepass"), safe="").encode()


def _digest(words: bytes) -> bytes:
    return blake2b(words, digest_size=4).hexdigest().encode()


def _parsed(text: bytes) -> FetchRecord:
    record = FetchRecord()
    for line in text.split(b"\n")[:-1]:
        words, _, digest = line.rpartition(b" ")
        if digest != _digest(words):
            continue
        kind, time, name, quoted = words.split(b" ")
        uidl, when = name.decode(), float(time)
        device = unquote(quoted[1:].decode(), errors="surrogatepass")
        if kind == BACK:
            record.back[uidl] = when
            continue
        record.seen[device] = when
        if kind == COLLECTED:
            record.times.setdefault(uidl, {})[device] = when
    return record
