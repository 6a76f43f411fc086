"""``postoffice maildrop import``: puts the mail of another server into maildrops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import cast

import click

from postoffice.cli import import_gone, pop3_import
from postoffice.cli.command import REFUSED, Answer, CommandContext, Refused, command
from postoffice.cli.import_gone import remove_gone_option, removed_words
from postoffice.cli.maildrop_list import named
from postoffice.cli.maildrop_sources import sources
from postoffice.cli.output import counted, problem_lines, reason, sized
from postoffice.cli.parameters import ADDRESS
from postoffice.cli.pop3_import import LiveImport, LiveOptions
from postoffice.cli.progress import Progress
from postoffice.cli.quotas import over_quota
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IMaildropImport, ImportResult, ImportSource
from postoffice.model.address import Address
from postoffice.model.errors import MaildropLocked, PostOfficeError

#: Whose Maildir it is, or the kind of an mbox; "maildir" lets the import find out.
KINDS = ("maildir", "dovecot", "courier", "qmail", "mbox", "mboxrd")


@dataclass
class _FileImport:
    """One maildrop of an import from files, with its result or error."""

    address: str
    source: ImportSource
    result: ImportResult | None = None
    error: str = ""

    @property
    def well(self) -> bool:
        return not self.error and self.result is not None and not self.result.left


@command("import")
@click.argument("address", type=ADDRESS, required=False)
@click.argument("source", required=False)
@click.option(
    "--from", "kind", type=click.Choice(KINDS), help="Whose Maildir, or which kind of mbox, it is."
)
@click.option("--uidl-format", default="", help="Dovecot's pop3_uidl_format, if it was changed.")
@click.option(
    "--reuse-xuidl", is_flag=True, help="Dovecot had pop3_reuse_xuidl: X-UIDL fields count."
)
@click.option("--uidls", metavar="FILE", help="A table of doveadm fetch about the mailbox.")
@click.option(
    "--age",
    type=click.Choice(("import", "real")),
    default="import",
    help="When retention begins to count: at the import, or at the old arrival.",
)
@click.option("--from-csv", metavar="FILE", help="Import many: a file with address and source.")
@click.option("--dry-run", is_flag=True, help="Only show what would be imported.")
@remove_gone_option
@pop3_import.live_options
async def import_(
    context: CommandContext,
    address: Address | None,
    source: str | None,
    kind: str | None,
    uidl_format: str,
    reuse_xuidl: bool,
    uidls: str | None,
    age: str,
    from_csv: str | None,
    dry_run: bool,
    remove_gone: bool,
    **live: object,
) -> Answer:
    """
    Import the mail of another server's Maildir or mbox.

    The messages of SOURCE, a Maildir or an mbox, are put into the maildrop of ADDRESS.
    They keep their UIDLs and their order, so that no mail program fetches one again; also
    their dates and flags.  UIDLs come from Dovecot's dovecot-uidlist, Courier's
    courierpop3dsizelist, the names of the files (qmail, vpopmail), or the X-UIDL fields of
    an mbox.  Where a Maildir is on the file system of the store, files are hard links;
    otherwise they are copied.  SOURCE is not changed.

    SOURCE may also be a POP3 server: pop3s://USER@HOST[:PORT], or pop3:// for TLS by
    STLS; without USER the address logs in.  Its certificate is verified.  Nothing is deleted
    there without --delete-after-verify.

    A second import adds only what is new, and finishes one that was interrupted.  The quota
    does not limit an import.  The command is refused during a POP3 session.

    Between two imports, owners fetch and delete mail at the old server.  With --remove-gone
    the last import removes that mail here too, so that they do not fetch it a second time;
    it can be restored (maildrop undelete).

    With --json: dry_run, and maildrops: each with address, source, kind, messages and octets
    (that were, or would be, imported), there (before), copied, left (what cannot be
    served), warnings, removed, and error or null; and deleted, if it is from a POP3 server.
    """
    if uidls is not None and from_csv is not None:
        raise click.UsageError("--uidls and --from-csv exclude one another: the file may say uidls")
    how = (uidl_format, age == "real", dry_run, reuse_xuidl, uidls or "")
    common = ImportSource("", _kind(kind), *how)
    options = LiveOptions.read(age_real=common.age_real, dry=dry_run, values=live)
    everything = list(_imports(common, options, address, source, from_csv))
    imports = [one for one in everything if isinstance(one, _FileImport)]
    lives = [one for one in everything if isinstance(one, LiveImport)]
    if options.watch and (remove_gone or not lives):
        why = "excludes --remove-gone" if lives else "is for POP3 servers"
        raise click.UsageError(f"--watch {why}")
    settings = context.settings()
    async with context.open(settings) as plugins:
        if not IMaildropImport.providedBy(plugins.store):
            raise Refused("a store of this kind does not support this command")
        with Progress("importing messages") as progress:
            for one in imports:
                await _run(plugins, settings, one, progress, gone=remove_gone)
            if lives:
                await pop3_import.run(plugins, settings, lives, options, progress, gone=remove_gone)
    drops = [*map(_data, imports), *map(pop3_import.data, lives)]
    lines = [line for one in imports for line in _lines(one)]
    lines += [line for one in lives for line in pop3_import.lines(one, dry=dry_run)]
    well = all(one.well for one in everything)
    return Answer({"dry_run": dry_run, "maildrops": drops}, lines, 0 if well else REFUSED)


def _kind(kind: str | None) -> str:
    return "" if kind in (None, "maildir") else str(kind)


def _imports(
    common: ImportSource,
    options: LiveOptions,
    address: Address | None,
    source: str | None,
    path: str | None,
) -> Iterator[_FileImport | LiveImport]:
    password = options.old.password()
    for one in sources(address, source, path, "ADDRESS and SOURCE"):
        with one.checked():
            said = one.password or password
            live = pop3_import.live_import(options, one.address, one.source, said)
        uidls = one.uidls or (common.uidls if path is None else "")
        yield live or _of_files(common, one.address, one.source, uidls)


def _of_files(common: ImportSource, address: Address, source: str, uidls: str) -> _FileImport:
    table = os.path.abspath(uidls) if uidls else ""
    where = replace(common, path=os.path.abspath(source), uidls=table)
    return _FileImport(address.normal, where)


async def _run(
    plugins: Plugins, settings: Settings, one: _FileImport, progress: Progress, *, gone: bool
) -> None:
    """Import one maildrop; keep its result or error."""
    before = progress.done
    try:
        drop = await named(plugins, settings, Address.parse(one.address))
        store = cast(IMaildropImport, plugins.store)
        one.result = await store.bring_in(
            drop.name, one.source, lambda done, of: progress.at(before + done, before + of)
        )
        if gone:
            await import_gone.remove_gone(plugins, drop.name, one.result, dry=one.source.dry)
        more = (one.result.messages, one.result.octets) if one.source.dry else (0, 0)
        one.result.warnings += await over_quota(plugins, drop, *more)
    except MaildropLocked:
        one.error = "a POP3 session is open; try again later"
    except (Refused, PostOfficeError) as error:
        one.error = reason(error)


def _lines(one: _FileImport) -> Iterator[str]:
    if one.result is None:
        yield f"{one.address}: import failed: {one.error}"
        return
    said, verb = one.result, "would be imported" if one.source.dry else "imported"
    copied = f" ({said.copied} by copy)" if said.copied else ""
    yield (
        f"{one.address}: {counted(said.messages, 'message')}, {sized(said.octets)}, {verb}{copied} "
        f"from {said.kind}; {said.there} were there before"
        f"{removed_words(said, dry=one.source.dry)}"
    )
    yield from (f"{one.address}: warning: {why}" for why in said.warnings)
    yield from problem_lines(one.address, "left", said.left, "cannot be served")


def _data(one: _FileImport) -> dict[str, object]:
    result = asdict(one.result or ImportResult(one.source.kind))
    del result["listed"]
    return {"address": one.address, "source": one.source.path, **result, "error": one.error or None}
