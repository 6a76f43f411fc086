"""``postoffice maildrop export``: writes the mail of maildrops to Maildirs, or to mboxes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

import click

from postoffice.cli.command import REFUSED, Answer, CommandContext, Refused, command
from postoffice.cli.maildrop_list import maintenance_of, named
from postoffice.cli.output import counted, problem_lines, reason, sized
from postoffice.cli.parameters import ADDRESS, DOMAIN
from postoffice.cli.progress import Progress
from postoffice.config.settings import Settings
from postoffice.daemon import privileges
from postoffice.daemon.plugins import Plugins
from postoffice.doctor.maildrop_owners import OwnedMaildrop, owners_of
from postoffice.interfaces import ExportResult, ExportTarget, IMaildropExport, IStoreBackup
from postoffice.model.address import Address
from postoffice.model.errors import PostOfficeError

FORMATS = ("maildir", "mbox")


@dataclass
class _Export:
    """One maildrop of the export, with its result or error."""

    drop: OwnedMaildrop
    target: ExportTarget
    result: ExportResult | None = None
    error: str = ""

    @property
    def name(self) -> str:
        return self.drop.account or self.drop.name

    @property
    def well(self) -> bool:
        return not self.error and self.result is not None and not self.result.left


@command("export")
@click.argument("words", metavar="[ADDRESS] TARGET", nargs=-1, required=True)
@click.option("--domain", type=DOMAIN, help="Export all maildrops of this domain.")
@click.option("--all", "everything", is_flag=True, help="Export all maildrops.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="maildir", help="What to write."
)
@click.option("--link", is_flag=True, help="Make hard links instead of copies, if possible.")
@click.option("--dry-run", is_flag=True, help="Only show what would be exported.")
async def export(
    context: CommandContext,
    words: tuple[str, ...],
    domain: str | None,
    everything: bool,
    form: str,
    link: bool,
    dry_run: bool,
) -> Answer:
    """
    Export the mail of maildrops to Maildirs or mbox files.

    The mail of ADDRESS is written to TARGET: a new Maildir, or with --format mbox a new
    file.  With --domain or --all it is TARGET/DOMAIN/LOCALPART, or LOCALPART.mbox.  A
    Maildir has a dovecot-uidlist, with which Dovecot's POP3 server lists the same messages
    in the same order with the same UIDLs; an mbox has X-UIDL fields.  Dates and flags are
    kept.  A record, postoffice.exported or FILE.exported, says what was exported.

    A second export to TARGET adds only what is new, and finishes one that was interrupted.
    The daemon may run, and the maildrops may be in use.  The maildrops are not changed.

    With --json: dry_run, format, and maildrops: each with address, target, messages and
    octets (that were, or would be, exported), there (before), linked, left (what could not
    be exported), and error or null.
    """
    settings = context.settings()
    one, path = _words(words, domain, everything)
    target = ExportTarget(path, (), form, link, dry_run)
    if not dry_run and (form == "maildir" or one is None):
        _make_for(settings, target.path)
    async with context.open(settings) as plugins:
        if not IMaildropExport.providedBy(plugins.store):
            raise Refused("a store of this kind does not support this command")
        with Progress("exporting messages") as progress:
            if one is not None:
                exports = [_Export(await named(plugins, settings, one), target)]
            else:
                exports = await _of_many(plugins, settings, target, domain)
            for export in exports:
                await _run(plugins, export, progress)
    data = {"dry_run": dry_run, "format": form, "maildrops": [_data(one) for one in exports]}
    lines = [line for one in exports for line in _lines(one)] or ["no maildrops"]
    return Answer(data, lines, 0 if all(one.well for one in exports) else REFUSED)


def _words(
    words: Sequence[str], domain: str | None, everything: bool
) -> tuple[Address | None, str]:
    """Return the address, if one was given, and the whole path of the target."""
    many = everything or domain is not None
    if everything and domain is not None:
        raise click.UsageError("--all and --domain exclude one another")
    if len(words) != (1 if many else 2):
        raise click.UsageError("give ADDRESS and TARGET; or TARGET, and --domain or --all")
    if many:
        return None, os.path.abspath(words[0])
    return cast(Address, ADDRESS.convert(words[0], None, None)), os.path.abspath(words[1])


def _make_for(settings: Settings, path: str) -> None:
    """If this is root, make a new folder for the user that the post office runs as."""
    try:
        who = privileges.owner_of(settings.user, settings.state)
        if who is None or os.path.lexists(path):
            return
        os.mkdir(path, 0o700)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_uid == os.geteuid() and not os.listdir(fd):
                os.fchown(fd, who.uid, who.gid)
        finally:
            os.close(fd)
    except KeyError as error:
        raise Refused(f"there is no user {settings.user} on this machine") from error
    except OSError as error:
        raise Refused(f"making {path} failed: {error.strerror}") from error


async def _of_many(
    plugins: Plugins, settings: Settings, target: ExportTarget, domain: str | None
) -> list[_Export]:
    """Return the maildrops of a domain, or all, with those of removed accounts."""
    store = cast(IStoreBackup, plugins.store)
    found = [one.name for one in await maintenance_of(plugins).holdings()]
    exports = []
    for drop in await owners_of(plugins.directories, settings, found):
        name = drop.account or drop.name
        if domain is None or name.rpartition("@")[2] == domain:
            *above, local = store.folder_of(name).split("/")
            file = f"{local}.mbox" if target.format == "mbox" else local
            exports.append(_Export(drop, replace(target, below=(*above, file))))
    if domain is not None and not exports and domain not in await plugins.register.domains():
        raise Refused(f"there is no domain {domain} here, nor mail of it")
    return sorted(exports, key=lambda one: one.name)


async def _run(plugins: Plugins, one: _Export, progress: Progress) -> None:
    """Export one maildrop; keep its result or error."""
    before = progress.done
    try:
        one.result = await cast(IMaildropExport, plugins.store).take_out(
            one.drop.name,
            one.target,
            lambda done, of: progress.at(before + done, before + of),
        )
    except PostOfficeError as error:
        one.error = reason(error)


def _lines(one: _Export) -> Iterator[str]:
    if one.result is None:
        yield f"{one.name}: export failed: {one.error}"
        return
    said, verb = one.result, "would be exported" if one.target.dry else "exported"
    yield (
        f"{one.name}: {counted(said.messages, 'message')}, {sized(said.octets)}, {verb} to "
        f"{one.target.name}; {said.there} were there before"
    )
    yield from problem_lines(one.name, "left", said.left, "cannot be exported")


def _data(one: _Export) -> dict[str, object]:
    result = asdict(one.result or ExportResult())
    return {"address": one.name, "target": one.target.name, **result, "error": one.error or None}
