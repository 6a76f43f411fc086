"""
The journal's format: batches of records, encoded to octets and decoded again.

A batch is written at once, and is valid as a whole or not at all.  It begins at
a multiple of ``BLOCK``, and zeros fill its last block.  A segment that is used
again holds old messages' text, in which a sender may have put a forged batch:
so each batch is signed with a key that no sender knows, and says its own
generation and offset.  Files and locks are in ``segments`` and ``journal``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest

BLOCK = 4096
_MAGIC = b"PostJrnl"
_VERSION = 1
#: magic, version, records, octets of records, generation, offset
_FIELDS = struct.Struct("<8sHxxIQQQ")
_DIGEST = 32
_HEADER = _FIELDS.size + 2 * _DIGEST
#: kind, octets of the head, octets of the text (of a large one: where it lies)
_RECORD = struct.Struct("<cxxxIQ")


@dataclass(frozen=True)
class PutRecord:
    """
    One message that is put into some maildrops, under one name.

    ``text`` None: its text of ``size`` octets is large, and in a synced file in
    the journal's folder ``large``, named by the part of ``name`` that never changes.
    """

    name: str
    maildrops: tuple[str, ...]
    text: bytes | None
    size: int


@dataclass(frozen=True)
class RemoveRecord:
    """
    Messages that are removed: ``names`` has, for each maildrop, their UIDLs.

    ``vault`` is the vault's folder for them; "": removed for good.
    """

    names: tuple[tuple[str, tuple[str, ...]], ...]
    vault: str = ""


Record = PutRecord | RemoveRecord


@dataclass(frozen=True)
class Batch:
    """A valid batch in a segment: ``count`` records in ``body``, octets ``offset`` to ``end``."""

    generation: int
    offset: int
    end: int
    count: int
    body: memoryview

    @property
    def start(self) -> int:
        """The offset of its body in the segment."""
        return self.offset + _HEADER

    @property
    def records(self) -> Iterator[Record]:
        """Its records, decoded."""
        return decode(self.body, self.count)

    @property
    def removals(self) -> Iterator[RemoveRecord]:
        """Its RemoveRecords; messages are skipped without decoding."""
        return removals(self.body, self.count)


def encode(key: bytes, generation: int, offset: int, records: Sequence[Record]) -> bytes:
    """The octets of a batch, to be written at ``offset``."""
    body = b"".join(map(_encode, records))
    fields = _FIELDS.pack(_MAGIC, _VERSION, len(records), len(body), generation, offset)
    digest = _sign(key, body)
    padding = bytes(-(_HEADER + len(body)) % BLOCK)
    return b"".join((fields, digest, _sign(key, fields + digest), body, padding))


def batches(key: bytes, octets: bytes, above: int) -> Iterator[Batch]:
    """All valid batches in a segment whose generation is later than ``above``, by offset."""
    view = memoryview(octets)
    offset = 0
    while offset + _HEADER <= len(view):
        batch = _decode(key, view, offset, above)
        if batch is None:
            offset += BLOCK
        else:
            yield batch
            offset = batch.end


def room_for(records: Sequence[Record]) -> int:
    """How many octets a batch of these records takes."""
    sizes = sum(_RECORD.size + len(_head(one)) + _text_size(one) for one in records)
    return -(-(_HEADER + sizes) // BLOCK) * BLOCK


def _sign(key: bytes, octets: bytes | memoryview) -> bytes:
    return blake2b(octets, key=key, digest_size=_DIGEST).digest()


def _decode(key: bytes, view: memoryview, offset: int, above: int) -> Batch | None:
    head = view[offset : offset + _HEADER]
    fields = head[: _FIELDS.size]
    magic, version, count, length, generation, place = _FIELDS.unpack(fields)
    if magic != _MAGIC or version != _VERSION or place != offset or generation <= above:
        return None
    start = offset + _HEADER
    if start + length > len(view):
        return None
    signed = head[: _FIELDS.size + _DIGEST]
    # the head first: a forged one must not make us read the rest, block by block
    if not compare_digest(_sign(key, signed), head[-_DIGEST:]):
        return None
    body = view[start : start + length]
    if not compare_digest(_sign(key, body), signed[_FIELDS.size :]):
        return None
    end = -(-(start + length) // BLOCK) * BLOCK
    return Batch(generation, offset, end, count, body)


def _encode(record: Record) -> bytes:
    head = _head(record)
    if isinstance(record, RemoveRecord):
        return _RECORD.pack(b"R", len(head), 0) + head
    if record.text is None:
        return _RECORD.pack(b"L", len(head), record.size) + head
    return b"".join((_RECORD.pack(b"P", len(head), len(record.text)), head, record.text))


def _text_size(record: Record) -> int:
    return len(record.text) if isinstance(record, PutRecord) and record.text is not None else 0


def _head(record: Record) -> bytes:
    """Names, separated by NUL, which no name contains; two NULs where a list ends."""
    if isinstance(record, PutRecord):
        words = [record.name, *record.maildrops]
    else:
        words = [record.vault]
        for maildrop, names in record.names:
            words += ["", maildrop, *names]
    return b"\0".join(map(os.fsencode, words))


def decode(body: memoryview | bytes, count: int) -> Iterator[Record]:
    """Decode the records of a batch."""
    at = 0
    for _ in range(count):
        kind, head_size, size = _RECORD.unpack_from(body, at)
        start = at + _RECORD.size
        at = start + head_size
        head = body[start:at]
        if kind == b"R":
            yield _removal(head)
            continue
        name, *maildrops = _words(head)
        text = None
        if kind == b"P":
            text = bytes(body[at : at + size])
            at += size
        yield PutRecord(name, tuple(maildrops), text, size)


def removals(body: memoryview | bytes, count: int) -> Iterator[RemoveRecord]:
    """Decode only the RemoveRecords of a batch; no text is copied."""
    at = 0
    for _ in range(count):
        kind, head_size, size = _RECORD.unpack_from(body, at)
        end = at + _RECORD.size + head_size
        if kind == b"R":
            yield _removal(body[at + _RECORD.size : end])
        at = end + (size if kind == b"P" else 0)


def _words(head: memoryview | bytes) -> list[str]:
    return os.fsdecode(bytes(head)).split("\0")


def _removal(head: memoryview | bytes) -> RemoveRecord:
    vault, *words = _words(head)
    return RemoveRecord(_lists(words), vault)


def _lists(words: list[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    lists: list[list[str]] = []
    for word in words:
        if not word:
            lists.append([])
        else:
            lists[-1].append(word)
    return tuple((one[0], tuple(one[1:])) for one in lists)
