"""The records of an import, saved in groups, each one transaction; errors are kept for the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from postoffice.cli.addresses import look_alikes
from postoffice.cli.command import Refused
from postoffice.cli.record_files import BadRecord, Record, Unreadable, parsed
from postoffice.model.address import Address
from postoffice.model.errors import PostOfficeError, TemporaryFailure

#: Records that are written in one transaction.
GROUP = 1000
#: Errors that are reported; beyond them only their number.
MOST = 1000

#: A record's values, parsed.
Values = Mapping[str, object]


class Waits(Exception):
    """A record needs another one that may come later in the file; the text says which."""


class Saver(Protocol):
    """
    Saves the records of an import.

    Each group begins with ``begin`` and ends with ``flush``.
    """

    async def begin(self, group: Sequence[Values]) -> None:
        """Look up all that is needed for a group."""

    async def save(self, values: Values) -> bool:
        """Save a record; return whether it is new.  Raises ValueError, PostOfficeError, Waits."""

    async def flush(self) -> None:
        """Write what is saved and not written yet."""

    async def explain(self, waiting: Sequence[Values]) -> Sequence[str]:
        """Return why each of these waits even if all others are saved; "" if it does not."""


@dataclass
class Outcome:
    """The result of an import; errors and warnings have a line number and a text."""

    added: int = 0
    updated: int = 0
    failed: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)
    warnings: list[tuple[int, str]] = field(default_factory=list)

    def fail(self, line: int, why: str) -> None:
        self.failed += 1
        if len(self.errors) < MOST:
            self.errors.append((line, why))

    def count(self, new: bool) -> None:
        if new:
            self.added += 1
        else:
            self.updated += 1

    def warn(self, line: int, name: object) -> None:
        """Warn of a new name that may look like another one."""
        if isinstance(name, str | Address) and len(self.warnings) < MOST:
            self.warnings += [(line, why) for why in look_alikes(name)]


@dataclass(frozen=True)
class _Parsed:
    line: int
    values: Values


class Import:
    """
    One import, of records with the columns ``parsers``; the first column is their name.

    ``together`` provides the transaction of each group.
    """

    def __init__(
        self,
        saver: Saver,
        parsers: Mapping[str, Callable[[str], object]],
        outcome: Outcome,
        together: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._saver = saver
        self._parsers = parsers
        self._name = next(iter(parsers))
        self._outcome = outcome
        self._together = together
        self._waiting: list[tuple[_Parsed, str]] = []

    async def run(self, found: Iterable[Record | BadRecord]) -> None:
        """Save all records; try those that wait again, until no more of them can be saved."""
        await self._save_all(self._usable(found))
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            await self._save_all(record for record, _ in waiting)
            if len(self._waiting) == len(waiting):
                await self._give_up()
                break
        self._outcome.errors.sort()

    def _usable(self, found: Iterable[Record | BadRecord]) -> Iterator[_Parsed]:
        try:
            for one in found:
                try:
                    if isinstance(one, BadRecord):
                        raise one
                    values = parsed(one, self._parsers)
                    if self._name not in values:
                        raise BadRecord(one.line, f"there is no {self._name}")
                    yield _Parsed(one.line, values)
                except BadRecord as why:
                    if isinstance(why, Unreadable):
                        raise
                    self._outcome.fail(why.line, str(why))
        except Unreadable as error:
            self._outcome.fail(error.line, f"{error}; the rest was not read")

    async def _save_all(self, records: Iterator[_Parsed]) -> None:
        while group := list(islice(records, GROUP)):
            with self._together():
                await self._saver.begin([one.values for one in group])
                for record in group:
                    await self._try(record)
                await self._saver.flush()

    async def _try(self, record: _Parsed) -> None:
        try:
            new = await self._saver.save(record.values)
        except Waits as why:
            self._waiting.append((record, str(why)))
        except TemporaryFailure:
            raise  # the whole group is undone: this record could be half written
        except (ValueError, PostOfficeError, Refused) as error:
            self._outcome.fail(record.line, str(error))
        else:
            self._outcome.count(new)
            if new:
                self._outcome.warn(record.line, record.values[self._name])

    async def _give_up(self) -> None:
        """Report the records that still wait, for records that failed or for one another."""
        texts = await self._saver.explain([record.values for record, _ in self._waiting])
        for (record, why), text in zip(self._waiting, texts, strict=True):
            self._outcome.fail(record.line, text or why)
