"""What import and export share: options, files, groups of changes, and errors at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar, cast

import click

from postoffice.cli import records
from postoffice.cli.common import REFUSED, Answer, CommandContext, Refused, counted
from postoffice.cli.progress import Progress
from postoffice.cli.records import BadRecord, Record, Unreadable
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import ITransactions
from postoffice.model.errors import PostOfficeError, TemporaryFailure

T = TypeVar("T")

#: Records that are written in one transaction.
GROUP = 1000
#: Errors that are reported; beyond them only their number.
MOST = 1000


class _DryRun(Exception):
    """Undoes what a dry run has written."""


class Waits(Exception):
    """A record needs another one that may come later in the file; the text says which."""


@dataclass
class Outcome:
    """What an import has done; an error is a line and a text."""

    added: int = 0
    updated: int = 0
    failed: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)

    def fail(self, line: int, why: str) -> None:
        self.failed += 1
        if len(self.errors) < MOST:
            self.errors.append((line, why))

    def count(self, new: bool) -> None:
        if new:
            self.added += 1
        else:
            self.updated += 1


#: Saves a record; returns whether it is new.  Raises ValueError, PostOfficeError, Waits.
Save = Callable[[Record], Awaitable[bool]]


def import_file(
    context: CommandContext,
    path: str,
    form: str | None,
    columns: Sequence[str],
    saver: Callable[[Plugins, Settings], Save],
    dry_run: bool,
) -> Answer:
    """Import a file: each record that can be used, and a report about the others."""
    settings, outcome = context.settings(), Outcome()
    with _opened(path) as file, Progress("import", _size(file)) as progress:

        async def work(plugins: Plugins) -> None:
            together: Callable[[], AbstractContextManager[None]] = nullcontext
            if ITransactions.providedBy(plugins.register):
                together = cast(ITransactions, plugins.register).together
            elif dry_run:
                raise Refused("the directory of accounts cannot undo changes: no dry run")
            found = records.read(
                file, _form(path, form), columns, lambda done: progress.at(done, progress.length)
            )
            importing = _Import(saver(plugins, settings), outcome, together)
            with suppress(_DryRun), together() if dry_run else nullcontext():
                await importing.run(found, grouped=not dry_run)
                if dry_run:
                    raise _DryRun

        context.ask(work, settings)
    return _answer(path, outcome, dry_run)


class _Import:
    def __init__(
        self, save: Save, outcome: Outcome, together: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._save = save
        self._outcome = outcome
        self._together = together
        self._waiting: list[tuple[Record, str]] = []

    async def run(self, found: Iterable[Record | BadRecord], *, grouped: bool) -> None:
        """Save all records; those that wait for others after them, until no more can be saved."""
        rest = iter(found)
        while group := self._next(rest):
            with self._together() if grouped else nullcontext():
                for record in group:
                    await self._try(record)
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            with self._together() if grouped else nullcontext():
                for record, _ in waiting:
                    await self._try(record)
            if len(self._waiting) == len(waiting):
                break
        for record, why in self._waiting:
            self._outcome.fail(record.line, why)
        self._outcome.errors.sort()

    def _next(self, rest: Iterator[Record | BadRecord]) -> list[Record]:
        group: list[Record] = []
        try:
            for one in rest:
                if isinstance(one, Record):
                    group.append(one)
                    if len(group) == GROUP:
                        break
                else:
                    self._outcome.fail(one.line, str(one))
        except Unreadable as error:
            self._outcome.fail(error.line, f"{error}; the rest was not read")
        return group

    async def _try(self, record: Record) -> None:
        try:
            self._outcome.count(await self._save(record))
        except Waits as why:
            self._waiting.append((record, str(why)))
        except TemporaryFailure:
            raise  # the whole group is undone: this record could be half written
        except (ValueError, PostOfficeError, Refused) as error:
            self._outcome.fail(record.line, str(error))


def _answer(path: str, outcome: Outcome, dry_run: bool) -> Answer:
    errors = outcome.errors
    would = "would be " if dry_run else ""
    lines = [f"{path}:{line}: {why}" for line, why in errors]
    if outcome.failed > len(errors):
        lines.append(f"and {outcome.failed - len(errors)} more errors")
    lines.append(
        f"{path}: {outcome.added} {would}added, {outcome.updated} {would}updated, "
        f"{counted(outcome.failed, 'error')}"
    )
    data = {
        "file": path,
        "dry_run": dry_run,
        "added": outcome.added,
        "updated": outcome.updated,
        "failed": outcome.failed,
        "errors": [{"file": path, "line": line, "text": why} for line, why in errors],
    }
    return Answer(data, lines, REFUSED if outcome.failed else 0)


def export_file(
    context: CommandContext,
    path: str,
    form: str | None,
    columns: Sequence[str],
    everything: Callable[[Plugins], AsyncIterator[Mapping[str, object]]],
) -> Answer:
    """Write all records to a new file, or to the standard output."""
    settings, count = context.settings(), 0
    with _created(path) as octets, Progress("export") as progress:

        async def work(plugins: Plugins) -> None:
            nonlocal count
            text = records.text_of(octets)
            write = records.writer(text, _form(path, form), columns)
            async for record in everything(plugins):
                write(record)
                count += 1
                progress.step()
            text.flush()
            text.detach()

        context.ask(work, settings)
    if path == "-":
        raise click.exceptions.Exit(0)
    return Answer({"file": path, "records": count}, [f"{path}: {counted(count, 'record')}"])


def _form(path: str, form: str | None) -> str:
    """Return the format that was asked for, or the one that the file's name says."""
    return form or (records.JSONL if path.endswith((".jsonl", ".ndjson")) else records.CSV)


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise Refused(f"reading {path} failed: {error.strerror}") from error


@contextmanager
def _created(path: str) -> Iterator[BinaryIO]:
    """Create a file that only its owner can read; remove it if the export fails."""
    if path == "-":
        yield sys.stdout.buffer
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o600), "wb") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                with suppress(OSError):
                    os.unlink(path)
                raise
    except FileExistsError:
        raise Refused(f"{path} is there already; name a new file") from None
    except OSError as error:
        raise Refused(f"writing {path} failed: {error.strerror}") from error


def _size(file: BinaryIO) -> int | None:
    try:
        return os.fstat(file.fileno()).st_size or None
    except OSError:  # no file, such as a test's standard input
        return None


def transfer_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add FILE and --format, for import and export."""
    form = click.option(
        "--format",
        "form",
        type=click.Choice(records.FORMATS),
        help="The format, if the file's name does not end in .csv or .jsonl.",
    )
    return click.argument("file", default="-")(form(function))


def import_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add FILE, --format, --update and --dry-run."""
    update = click.option("--update", is_flag=True, help="Change those that exist already.")
    dry = click.option("--dry-run", is_flag=True, help="Only report what would be done.")
    return transfer_options(update(dry(function)))
