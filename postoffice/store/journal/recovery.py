"""
What the journal holds that is not retired, and how it gets in its place again.

It is for whoever holds the lock for appending: nothing comes meanwhile, so
every removal that there is, is known.  All functions block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, Protocol

from postoffice.store.journal.records import PutRecord, RemoveRecord, batches, decode
from postoffice.store.journal.segments import SEGMENTS


class Redo(Protocol):
    """
    Puts in its place what may not be there; each of its steps may be taken again.

    ``well``: the disk has not failed at any of them.
    """

    well: bool

    def __enter__(self) -> Redo:
        """It begins."""

    def __exit__(self, *why: object) -> None:
        """It ends, or was cut off."""

    def put(
        self, record: PutRecord, maildrops: Sequence[str], kept: Sequence[tuple[str, str]]
    ) -> None:
        """
        A message, for these of its maildrops; and for the vaults of those that it left.

        ``kept`` has such a maildrop, and which of its vaults.  Raises OSError.
        """

    def remove(self, removal: RemoveRecord) -> None:
        """What was removed.  Raises OSError."""

    def finish(self) -> None:
        """All is placed and removed.  Raises OSError."""


class MakeRedo(Protocol):
    """Begins a replay."""

    def __call__(self, large: str, *, anew: bool, synced: bool) -> Redo:
        """
        ``large``: the folder of large texts.

        ``anew``: what is there is not believed: it may be what a power cut left.
        ``synced``: each file and folder is synced, for a file system that has failed to.
        """


class _BatchLocation(NamedTuple):
    """Where a group lies that was found whole."""

    segment: int
    generation: int
    start: int
    size: int
    records: int


class PendingBatches:
    """
    The groups of later generations than ``checkpointed`` in these segments, which ``path_of``
    names.

    They are verified once, and read again when they are placed: memory holds
    one segment at most.  ``report`` is told of what is damaged.
    """

    def __init__(
        self,
        segments: Iterable[int],
        path_of: Callable[[int], str],
        key: bytes,
        checkpointed: int,
        report: Callable[[str, str], None],
    ) -> None:
        self.generations = [0] * SEGMENTS  # by segment, as in State
        self.counts = [0] * SEGMENTS
        self.removals: list[RemoveRecord] = []
        self.put_records = 0
        self._path_of = path_of
        self._report = report
        self._locations: list[_BatchLocation] = []
        for number in segments:
            self._scan(number, key, checkpointed)

    @property
    def batches(self) -> int:
        """How many there are."""
        return len(self._locations)

    def _scan(self, number: int, key: bytes, checkpointed: int) -> None:
        path = self._path_of(number)
        try:
            with open(path, "rb") as file:
                octets = file.read()
        except FileNotFoundError:
            return
        end = 0
        for batch in batches(key, octets, checkpointed):
            if batch.offset != end:
                self._report(
                    "error",
                    f"{path} is damaged between {end} and {batch.offset}: what was there cannot "
                    "be replayed",
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

    def messages(self, until: int) -> Iterator[tuple[int, PutRecord]]:
        """What is to be placed of the generations up to and with this; and of which each is."""
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
        Place what is of the generations up to and with this, and remove all that was removed.

        ``key_of`` says what of a message's name never changes.  Returns the keys of
        the large texts that are still needed, with the generation of each.
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
