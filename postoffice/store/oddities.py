"""Files in a Maildir that cannot be served, and twins: files with the same UIDL.  Blocking."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from postoffice.model.listing import Entry
from postoffice.store.files import open_plain

#: How compressed files begin (Dovecot's zlib plugin writes them).
_COMPRESSED = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bzip2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "lz4": re.compile(rb"\x04\x22\x4d\x18|Dovecot-LZ4\r\x2a\x9b\xc5"),
}
#: Octets of two files that are compared at a time.
_PIECE = 64 << 10


@dataclass(frozen=True)
class OddFile:
    """A file in a Maildir that is not served, and why."""

    subpath: str
    why: str


class NotServed(Exception):
    """A file cannot be served; the text says why."""


def check_compression(fd: int) -> None:
    """Raises NotServed if a file is compressed: a client could not read it."""
    beginning = os.pread(fd, 16, 0)
    for name, magic in _COMPRESSED.items():
        if magic.match(beginning):
            raise NotServed(f"compressed ({name}); it is not served until it is decompressed")


def with_twins(entries: Sequence[Entry], twins: Sequence[Entry]) -> Sequence[Entry]:
    """Entries to remove, with all other files of the same messages, which would be listed next."""
    if not twins:
        return entries
    going = {entry.uidl for entry in entries}
    return [*entries, *(twin for twin in twins if twin.uidl in going)]


def separate(folder: str, entries: Sequence[Entry], twins: Sequence[Entry]) -> int:
    """
    Rename each twin that holds another message, so that it gets a UIDL; return how many.

    Twins whose names and octets differ are different messages.  Otherwise it is one
    message, which another program has copied or moved.  The caller holds the
    maildrop's lock.
    """
    served = {twin.uidl: "" for twin in twins}
    for entry in entries:
        if entry.uidl in served:
            served[entry.uidl] = entry.name
    separated = 0
    for twin in twins:
        if _base(served[twin.uidl]) == _base(twin.name):
            continue
        with suppress(OSError):  # it was moved, or we may not read or rename it
            if not _is_same(f"{folder}/{served[twin.uidl]}", f"{folder}/{twin.name}"):
                os.rename(f"{folder}/{twin.name}", f"{folder}/{_with_random_part(twin.name)}")
                separated += 1
    return separated


def _base(subpath: str) -> str:
    return subpath.rpartition("/")[2].partition(":")[0]


def _with_random_part(subpath: str) -> str:
    """A new name: the time stays, and a new random part after a comma makes the UIDL unique."""
    name, colon, flags = subpath.partition(":")
    return f"{name},R={secrets.token_hex(4)}{colon}{flags}"


def _is_same(one: str, other: str) -> bool:
    first, first_status = open_plain(one)
    try:
        second, second_status = open_plain(other)
        try:
            if os.path.samestat(first_status, second_status):
                return True
            if first_status.st_size != second_status.st_size:
                return False
            while piece := os.read(first, _PIECE):
                if piece != os.read(second, len(piece)):
                    return False
            return True
        finally:
            os.close(second)
    finally:
        os.close(first)
