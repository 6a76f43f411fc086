"""
Recovery: the batches that no checkpoint covers are found, and applied again (redo).

The caller holds the append lock, or has the store alone: no batch is added
meanwhile, so all removals are known before the first message is put.  What
"apply" means in a Maildir is given by a Redo (``redo.MaildirRedo``).  All
functions block.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, Protocol

from postoffice.store.files import Report
from postoffice.store.journal.records import BLOCK, PutRecord, RemoveRecord, batches, decode
from postoffice.store.journal.segments import SEGMENTS


class Redo(Protocol):
    """
    Applies records that may be applied already: every step is idempotent.

    ``well``: no step has failed because of the disk.
    """

    well: bool

    def __enter__(self) -> Redo:
        """Begin."""

    def __exit__(self, *why: object) -> None:
        """End; after an exception, stop what is queued."""

    def put(
        self, record: PutRecord, maildrops: Sequence[str], kept: Sequence[tuple[str, str]]
    ) -> None:
        """
        Put a message into ``maildrops``, where it was not removed, and into vaults.

        ``kept`` has (maildrop, folder of its vault) where the message was removed
        into the vault.  Raises OSError.
        """

    def remove(self, removal: RemoveRecord) -> None:
        """Remove messages again.  Raises OSError."""

    def finish(self) -> None:
        """Complete the redo, after the last record.  Raises OSError."""


class MakeRedo(Protocol):
    """Makes a Redo."""

    def __call__(self, large: str, *, anew: bool, synced: bool) -> Redo:
        """
        Begin a redo; ``large`` is the folder of large texts.

        ``anew``: write files again that are there, as a power cut may have left them empty.
        ``synced``: sync each file and folder, because a sync of the file system failed.
        """


class _BatchLocation(NamedTuple):
    """Where a valid batch is."""

    segment: int
    generation: int
    start: int
    size: int
    records: int


class PendingBatches:
    """
    The batches in ``segments`` whose generation is later than ``checkpointed``.

    ``path_of`` gives the path of a segment.  Batches are verified once, here, and
    read again when they are applied: memory holds one segment at most.
    ``report`` is told of damage.  With ``tolerant``, blocks that the disk cannot
    read count as empty, and ``unreadable`` has the segments that have some;
    otherwise they raise OSError.
    """

    def __init__(
        self,
        segments: Iterable[int],
        path_of: Callable[[int], str],
        key: bytes,
        checkpointed: int,
        report: Report,
        *,
        tolerant: bool = False,
    ) -> None:
        self.unreadable: list[int] = []
        self.generations = [0] * SEGMENTS  # by segment, as in State
        self.counts = [0] * SEGMENTS
        self.removals: list[RemoveRecord] = []
        self.put_records = 0
        self._path_of = path_of
        self._report = report
        self._tolerant = tolerant
        self._locations: list[_BatchLocation] = []
        for number in segments:
            self._scan(number, key, checkpointed)

    @property
    def batches(self) -> int:
        """How many batches there are."""
        return len(self._locations)

    def _scan(self, number: int, key: bytes, checkpointed: int) -> None:
        path = self._path_of(number)
        try:
            octets = self._read(number, path)
        except FileNotFoundError:
            return
        end = 0
        for batch in batches(key, octets, checkpointed):
            if batch.offset != end:
                self._report(
                    "error",
                    f"{path} is damaged between {end} and {batch.offset}: recovering what was "
                    "there failed",
                )
            end = batch.end
            gone = list(batch.removals)
            self.removals += gone
            self.put_records += batch.count - len(gone)
            self.counts[number] += 1
            self.generations[number] = max(self.generations[number], batch.generation)
            location = _BatchLocation(
                number, batch.generation, batch.start, len(batch.body), batch.count
            )
            self._locations.append(location)

    def _read(self, number: int, path: str) -> bytes:
        """Read a segment.  Raises OSError."""
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                return os.pread(file.fileno(), size, 0)
            except OSError as error:
                if error.errno != errno.EIO or not self._tolerant:
                    raise
            blocks = [_read_block(file.fileno(), at) for at in range(0, size, BLOCK)]
        self.unreadable.append(number)
        self._report(
            "error",
            f"{path}: the disk failed to read {blocks.count(b'')} of {len(blocks)} blocks; "
            "messages that were in them are recovered only where they had been delivered already",
        )
        return b"".join(block.ljust(BLOCK, b"\0") for block in blocks)

    def sync(self) -> bool:
        """
        Sync the segments that were read; False if that failed.

        The process that appended the last batch may have been killed before its sync: what a
        client sees of that batch must not be lost in a power cut.
        """
        try:
            for number, count in enumerate(self.counts):
                if count:
                    with open(self._path_of(number), "rb") as file:
                        os.fdatasync(file.fileno())
        except OSError as error:
            self._report("error", f"syncing the journal's segments failed: {error}")
            return False
        return True

    def messages(self, until: int) -> Iterator[tuple[int, PutRecord]]:
        """The messages of all generations up to ``until``, inclusive, each with its generation."""
        wanted = (one for one in self._locations if one.generation <= until)
        for number, those in groupby(wanted, attrgetter("segment")):
            with open(self._path_of(number), "rb", buffering=0) as file:
                for location in those:
                    file.seek(location.start)
                    for record in decode(file.read(location.size), location.records):
                        if isinstance(record, PutRecord):
                            yield location.generation, record

    def redo(self, work: Redo, until: int, key_of: Callable[[str], str]) -> dict[str, int]:
        """
        Apply all generations up to ``until``, inclusive, and the removals of all generations.

        ``key_of`` gives the part of a message's name that never changes.  Returns
        the keys of the large texts that are still needed, with their generations.
        """
        gone = {
            (maildrop, name): removal.vault
            for removal in self.removals
            for maildrop, names in removal.names
            for name in names
        }
        large = {}
        with work:
            for generation, record in self.messages(until):
                key = key_of(record.name)
                if record.text is None:
                    large[key] = generation
                left = [one for one in record.maildrops if (one, key) not in gone]
                vaults = [(one, gone.get((one, key), "")) for one in record.maildrops]
                kept = [(one, vault) for one, vault in vaults if vault]
                if left or kept:
                    work.put(record, left, kept)
            for removal in self.removals:
                work.remove(removal)
            work.finish()
        return large


def _read_block(fd: int, offset: int) -> bytes:
    """Read one block of a segment; nothing if the disk cannot."""
    try:
        return os.pread(fd, BLOCK, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""
