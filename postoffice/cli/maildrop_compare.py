"""``postoffice maildrop compare``: whether an import has brought all, as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, cast

import click

from postoffice.cli.command import REFUSED, Answer, CommandContext, Refused, command
from postoffice.cli.maildrop_list import named
from postoffice.cli.old_server import OldServerOptions, is_url, old_server_options
from postoffice.cli.output import counted
from postoffice.cli.parameters import ADDRESS
from postoffice.cli.progress import Progress
from postoffice.interfaces import IMaildropIntake, IMaildropReader, ImportedMessage
from postoffice.model.address import Address
from postoffice.moving.compare import Compared, Comparison
from postoffice.moving.comparison import EXPLAINED, KINDS, NEW, WRONG
from postoffice.moving.pop3_import import OldAccount
from postoffice.pop3.client_connection import POP3Failed
from postoffice.pop3.client_server import NotAServer
from postoffice.store.import_record import FILE, manifest

#: So many differences of each kind are shown; --json has all.
MOST = 20


@command("compare")
@click.argument("address", type=ADDRESS)
@click.option(
    "--against",
    metavar="URL|FILE",
    required=True,
    help="The old server, or the record of an import or export.",
)
@click.option("--full", is_flag=True, help="Compare whole texts, not only the headers.")
@old_server_options
async def compare(
    context: CommandContext, address: Address, against: str, full: bool, **old: Any
) -> Answer:
    """
    Compare a maildrop with the old server.

    It logs in at the old POP3 server (pop3s://USER@HOST[:PORT], as in `maildrop import`) and
    compares which messages are there, their order, UIDLs, sizes and headers (TOP), and
    with --full their texts.  The maildrop of ADDRESS is read from the store, so that it
    needs no password and no user waits; it is what a POP3 session would list.  Without the
    old server, compare with the record of an import or export: postoffice.imported.

    What differs is wrong; or explained, such as sizes that the old server counts with LF, a
    Status field, or a message that its owner has deleted here; or new since the import.  If
    anything is wrong, the exit code is 1.

    With --json: address, against, full, there and here (messages), same, wrong, explained
    and new (how many), warnings, and differences: each with kind, what, uidl and text.
    """
    account, record = _other_side(OldServerOptions(**old), address, against)
    settings = context.settings()
    async with context.open(settings) as plugins:
        store = plugins.store
        if not IMaildropIntake.providedBy(store):
            raise Refused("a store of this kind does not support this command")
        drop = await named(plugins, settings, address)
        reader = cast(IMaildropIntake, store).reader(drop.name)
        compared = _compare(reader, account, record, full)
    counts = {kind: len(compared.of_kind(kind)) for kind in KINDS}
    where = str(account.server) if account is not None else against
    data = {
        "address": address.normal,
        "against": against,
        "full": full,
        "there": compared.there,
        "here": compared.here,
        "same": compared.same,
        **counts,
        "warnings": compared.warnings,
        "differences": [one._asdict() for one in compared.differences],
    }
    lines = list(_lines(address.normal, where, compared, counts))
    return Answer(data, lines, REFUSED if counts[WRONG] else 0)


def _other_side(
    options: OldServerOptions, address: Address, against: str
) -> tuple[OldAccount | None, dict[str, ImportedMessage]]:
    """The account at the old server, or what a record says."""
    if is_url(against):
        try:
            return options.account(against, address.normal, options.password()), {}
        except NotAServer as why:
            raise Refused(str(why)) from why
    path = os.path.join(against, FILE) if os.path.isdir(against) else against
    try:
        with open(path, "rb"):
            record = manifest(path)
    except OSError as error:
        raise Refused(f"reading {path} failed: {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"reading {path} failed: it is not UTF-8") from error
    if not record:
        raise Refused(f"{path} is no record of an import: no line in it has n and uidl")
    return None, record


def _compare(
    reader: IMaildropReader,
    account: OldAccount | None,
    record: dict[str, ImportedMessage],
    full: bool,
) -> Compared:
    with Progress("comparing messages") as progress:
        comparison = Comparison(reader, full=full, step=progress.at)
        if account is None:
            return comparison.with_manifest(record)
        try:
            with account.connection() as connection:
                compared = comparison.with_server(connection.connect())
                connection.quit()
        except POP3Failed as failed:
            raise Refused(f"{account.server}: {failed}") from failed
        return compared


def _lines(name: str, where: str, compared: Compared, counts: dict[str, int]) -> Iterator[str]:
    yield (
        f"{name}: {counted(compared.there, 'message')} at {where}, {compared.here} here: "
        f"{compared.same} the same, {counts[WRONG]} wrong, {counts[EXPLAINED]} explained, "
        f"{counts[NEW]} new"
    )
    yield from (f"{name}: warning: {why}" for why in compared.warnings)
    for kind in KINDS:
        found = compared.of_kind(kind)
        yield from (f"{name}: {kind}: {one.uidl}: {one.text}" for one in found[:MOST])
        if len(found) > MOST:
            yield f"{name}: and {len(found) - MOST} more that are {kind}"
