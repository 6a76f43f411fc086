"""
The fetch log: which device has fetched which message, in ``postoffice.collected`` of a maildrop.

It has a line for each message and device, by the message's UIDL, which flags and
moves do not change.  Lines are appended without a sync: after a crash a lost or
damaged line is ignored, and the message is kept longer.  The writer holds the maildrop's
lock.  What expires because of it is decided in ``retention``.  All functions block.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from urllib.parse import quote, unquote

from postoffice.model.listing import Entry, uidls_of
from postoffice.model.mail_policy import LAPSE
from postoffice.store import names
from postoffice.store.drafts import create, write_all
from postoffice.store.files import open_own, open_plain
from postoffice.util.atomic_file import replacing, sync_folder

FILE = "postoffice.collected"
#: The most octets of the file; a larger one is ignored.
LONGEST = 64 << 20
#: So many removed messages may have lines before the file is rewritten.
SPARE = 1000
#: The device that stands for the account's own password.
OWN = ""
#: Kinds of lines.  COLLECTED: a device has fetched a message.  BACK: a message was brought back
#: from the vault.  SEEN: a device is active, though the lines of what it fetched were removed.
NO_UIDL = "-"
COLLECTED, BACK, SEEN = b"C", b"B", b"S"


@dataclass
class FetchRecord:
    """
    The fetch log of a maildrop, parsed.

    ``times``: by UIDL, when each device fetched the message.  ``back``: by UIDL, when
    it was brought back from the vault.  ``seen``: when each device last fetched anything.
    """

    times: dict[str, dict[str, float]] = field(default_factory=dict)
    back: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)

    def every(self, devices: frozenset[str] | None, now: float) -> frozenset[str] | None:
        """The devices that must have fetched a message (``KeepTimes``); None: any device."""
        if devices is None or (devices and now - self.seen.get(OWN, -LAPSE) > LAPSE):
            return devices
        return devices | {OWN}

    def collected(self, uidl: str, every: frozenset[str] | None = None) -> float | None:
        """
        When the last device of ``every`` fetched a message; if None, the first of any.

        Returns None if that has not happened, or not since it was brought back.
        """
        back = self.back.get(uidl, 0.0)
        had = {who: when for who, when in self.times.get(uidl, {}).items() if when > back}
        if every is None:
            return min(had.values(), default=None)
        return max(had[one] for one in every) if had.keys() >= every else None


def read(folder: str) -> FetchRecord:
    """Read the fetch log; empty if the file is missing or cannot be read."""
    return _parsed(_text(folder))


def add(
    folder: str,
    entries: Sequence[Entry],
    device: str,
    now: float,
    living: Callable[[], Iterable[Entry]],
) -> FetchRecord:
    """
    Record that a device fetched messages; return the whole log.

    ``living`` lists the maildrop: if too many lines are of other messages, the file is
    rewritten without them.  Raises OSError.
    """
    text = _text(folder)
    record = _parsed(text)
    lines = []
    for uidl in uidls_of(entries):
        known = record.times.setdefault(uidl, {})
        if known.get(device, 0.0) <= record.back.get(uidl, 0.0):
            known[device] = record.seen[device] = now
            lines.append(_line(COLLECTED, now, uidl, device))
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
    """Record that messages came back from the vault, as if newly arrived.  Raises OSError."""
    lines = [_line(BACK, now, uidl, OWN) for uidl in uidls]
    if lines:
        _append(folder, b"\n" + b"".join(lines), sync=True)


def rewrite(folder: str, record: FetchRecord, alive: Collection[str]) -> None:
    """Rewrite the file with the lines of messages in ``alive`` only.  Raises OSError."""
    lines = [
        _line(COLLECTED, when, uidl, device)
        for uidl, had in record.times.items()
        if uidl in alive
        for device, when in had.items()
    ]
    lines += [_line(BACK, when, uidl, OWN) for uidl, when in record.back.items() if uidl in alive]
    lines += [_line(SEEN, when, NO_UIDL, device) for device, when in record.seen.items()]
    part = f"{folder}/tmp/{names.new_name('collected')}.{secrets.token_hex(2)}"
    # create() locks the file, so that no sweep takes it for a leftover
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
    """Make a line: words and their digest, by which a damaged line is recognized."""
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
        device = quoted[1:].decode()
        if "%" in device:
            device = unquote(device, errors="surrogatepass")
        if kind == BACK:
            record.back[uidl] = when
            continue
        record.seen[device] = when
        if kind == COLLECTED:
            record.times.setdefault(uidl, {})[device] = when
    return record
