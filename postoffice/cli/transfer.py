"""What import and export share: options, files, and the report of what was done."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import BinaryIO, TypeVar, cast

import click

from postoffice.cli import record_files
from postoffice.cli.command import REFUSED, Answer, CommandContext, Refused
from postoffice.cli.import_groups import Import, Outcome, Saver
from postoffice.cli.output import counted
from postoffice.cli.progress import Progress
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import ITransactions

T = TypeVar("T")


class _DryRun(Exception):
    """Undoes what a dry run has written."""


def import_file(
    context: CommandContext,
    path: str,
    form: str | None,
    parsers: Mapping[str, Callable[[str], object]],
    saver: Callable[[Plugins, Settings], Saver],
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
            found = record_files.read(
                file,
                _form(path, form),
                tuple(parsers),
                lambda done: progress.at(done, progress.length),
            )
            whole, each = (together, nullcontext) if dry_run else (nullcontext, together)
            with suppress(_DryRun), whole():
                await Import(saver(plugins, settings), parsers, outcome, each).run(found)
                if dry_run:
                    raise _DryRun

        context.ask(work, settings)
    return _answer(path, outcome, dry_run)


def _answer(path: str, outcome: Outcome, dry_run: bool) -> Answer:
    errors = outcome.errors
    would = "would be " if dry_run else ""
    lines = [f"{path}:{line}: warning: {why}" for line, why in outcome.warnings]
    lines += [f"{path}:{line}: {why}" for line, why in errors]
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
        "errors": _data(path, errors),
        "warnings": _data(path, outcome.warnings),
    }
    return Answer(data, lines, REFUSED if outcome.failed else 0)


def _data(path: str, said: Sequence[tuple[int, str]]) -> list[dict[str, object]]:
    return [{"file": path, "line": line, "text": text} for line, text in said]


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
            text = record_files.text_of(octets)
            write = record_files.writer(text, _form(path, form), columns)
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
    return form or (
        record_files.JSONL if path.endswith((".jsonl", ".ndjson")) else record_files.CSV
    )


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
    except OSError:  # not a file, such as the standard input of a test
        return None


def transfer_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add FILE and --format, for import and export."""
    form = click.option(
        "--format",
        "form",
        type=click.Choice(record_files.FORMATS),
        help="The format, if the file's name does not end in .csv or .jsonl.",
    )
    return click.argument("file", default="-")(form(function))


def import_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add FILE, --format, --update and --dry-run."""
    update = click.option("--update", is_flag=True, help="Change those that exist already.")
    dry = click.option("--dry-run", is_flag=True, help="Only report what would be done.")
    return transfer_options(update(dry(function)))
