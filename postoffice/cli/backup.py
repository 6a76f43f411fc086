"""
``postoffice backup``: a backup of accounts, keys, configuration and mail, while the daemon runs.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TypeVar

import click

from postoffice.backup.contents import BackupSelection, Contents, header
from postoffice.backup.folder import FolderTarget
from postoffice.backup.manifest import BackupError, Manifest
from postoffice.backup.tar import TarTarget, is_tar
from postoffice.backup.writer import BackupTarget, BackupWriter
from postoffice.cli.command import REFUSED, Answer, CommandContext, Refused, command
from postoffice.cli.options import with_options
from postoffice.cli.output import counted, iso, say, sized
from postoffice.cli.parameters import ADDRESS, DOMAIN
from postoffice.cli.progress import Progress
from postoffice.config.settings import Settings
from postoffice.daemon import privileges
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Address
from postoffice.store.files import FULL

T = TypeVar("T")


def selection_options(maildrop: str, domain: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Add --maildrop and --domain with these help texts; the function gets ``which``."""

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(function)
        def run(
            *args: object, maildrops: tuple[Address, ...], domains: tuple[str, ...], **rest: object
        ) -> T:
            names = tuple(one.normal for one in maildrops)
            return function(*args, which=BackupSelection(names, domains), **rest)

        more = "; may be given several times."
        return with_options(
            run,
            click.option(
                "--maildrop", "maildrops", metavar="ADDRESS", type=ADDRESS, multiple=True,
                help=maildrop + more,
            ),
            click.option(
                "--domain", "domains", type=DOMAIN, multiple=True, help=domain + more
            ),
        )  # fmt: skip

    return decorate


@command("backup")
@click.argument("target", metavar="FILE|DIR")
@selection_options(
    "Back up only this account and its mail",
    "Back up only the accounts of this domain and their mail",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing if nothing fails.")
def backup(context: CommandContext, target: str, which: BackupSelection, quiet: bool) -> Answer:
    """
    Back up accounts, configuration and mail to FILE or DIR.

    The keys are copied too.  The daemon may run meanwhile.  FILE ends in .tar, .tar.gz,
    .tar.bz2 or .tar.xz, and is written whole or not at all; - writes a tar to the
    standard output. Any other name is a folder: it is created, and a second backup into
    it copies new files and removes deleted ones.  Only you can read the result.

    The command reports each file that it cannot read, and copies all others; the exit
    code is then 1.

    With --json: backup, begun, messages, files, octets (in the whole backup), copied
    (files that were written), complaints.
    """
    settings = context.settings()
    begun = datetime.now(UTC)
    if target == "-" and sys.stdout.isatty():
        raise click.UsageError("a backup is not for a terminal: send it to a file or a program")
    with failures("backup", target), ended_by_signals(), Progress("backup") as progress:
        written = _back_up(context, settings, target, which, begun, progress)
    for complaint in written.complaints:
        say(f"not in the backup: {complaint}", err=True)
    counts = written.counts()
    data = {
        "backup": target,
        "begun": iso(begun.timestamp()),
        **counts,
        "copied": written.fresh,
        "complaints": written.complaints,
    }
    status = REFUSED if written.complaints else 0
    line = (
        f"{target}: {counted(counts['messages'], 'message')}, {sized(counts['octets'])} in "
        f"{counted(counts['files'], 'file')}; {counted(written.fresh, 'file')} copied"
    )
    if target == "-":  # the backup went to the standard output
        if not quiet:
            click.echo(line, err=True)
        raise click.exceptions.Exit(status)
    return Answer(data, [] if quiet else [line], status)


def _back_up(
    context: CommandContext,
    settings: Settings,
    path: str,
    which: BackupSelection,
    begun: datetime,
    progress: Progress,
) -> BackupWriter:
    stamp = f"{begun:%Y%m%dT%H%M%S%f}Z"
    target: BackupTarget = TarTarget(path) if is_tar(path) else FolderTarget(path)
    written: BackupWriter | None = None
    try:
        with tempfile.TemporaryFile() as spool:
            first = header(settings, which, stamp, str(iso(begun.timestamp())))
            manifest = Manifest(spool, first)
            written = BackupWriter(target, manifest, progress.step)
            write(context, settings, written, which, first["files"], progress)
            ended = iso(datetime.now(UTC).timestamp())
            target.commit(manifest.end({**written.counts(), "ended": ended}))
    except BaseException:
        target.abandon()
        raise
    finally:
        if written is not None:
            written.close()
    return written


def write(
    context: CommandContext,
    settings: Settings,
    written: BackupWriter,
    which: BackupSelection,
    files: str,
    progress: Progress,
) -> None:
    """Write the backup; read the post office as the user that it runs as."""

    async def work(plugins: Plugins) -> None:
        contents = Contents(plugins, settings, written, files)
        chosen = await contents.choose(which)
        progress.length = sum(number for _, number in chosen.folders)
        await contents.write(chosen, which)

    with privileges.acting(privileges.owner_of(settings.user, settings.state)):
        context.ask(work, settings)


@contextmanager
def failures(what: str, place: str) -> Iterator[None]:
    """Turn errors of the disk and of backups into Refused, with the reason."""
    try:
        yield
    except BackupError as error:
        raise Refused(f"{what} failed: {place}: {error}") from error
    except OSError as error:
        if error.errno in FULL:
            raise Refused(
                f"{what} failed: no space left on the disk of {place}, or on that of "
                f"{tempfile.gettempdir()}; nothing half done was left behind"
            ) from error
        file = os.fsdecode(error.filename) if error.filename else place
        raise Refused(f"{what} failed: {file}: {error.strerror or error}") from error


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command like Ctrl-C, so that it removes unfinished files."""
    before = {}

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with suppress(ValueError):  # not the main thread
        for one in (signal.SIGTERM, signal.SIGHUP):
            before[one] = signal.signal(one, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
