"""``postoffice maildrop compare``: compares a maildrop with the old server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import click

from postoffice.cli.command import REFUSED, Answer, CommandContext, Refused, command
from postoffice.cli.maildrop_list import named
from postoffice.cli.maildrop_sources import MaildropSource, sources
from postoffice.cli.old_server_options import OldServerOptions, is_url, old_server_options
from postoffice.cli.output import counted, problem_lines, reason
from postoffice.cli.parameters import ADDRESS
from postoffice.cli.pop3_import import parallel_options
from postoffice.cli.progress import Progress
from postoffice.interfaces import IMaildropIntake, IMaildropReader, ImportedMessage
from postoffice.model.address import Address
from postoffice.model.errors import PostOfficeError
from postoffice.moving.comparison import Compared, Comparison
from postoffice.moving.comparison_rules import EXPLAINED, KINDS, NEW, WRONG
from postoffice.moving.old_server_sessions import OldAccount, OldSessions, Stop, Stopped
from postoffice.moving.parallel_imports import run_all
from postoffice.moving.patience import Patience
from postoffice.pop3.client_connection import POP3ClientConnection
from postoffice.store.transfer.import_record import FILE, manifest

#: So many differences of each kind are shown; --json has all.
MOST = 20


@dataclass
class _MaildropPair:
    """One maildrop to compare: the other side, and the result or the error."""

    address: str
    against: str
    account: OldAccount | None
    record: dict[str, ImportedMessage]
    compared: Compared = field(default_factory=lambda: Compared(0, 0))
    error: str = ""
    done: int = 0
    all: int = 0

    @property
    def counts(self) -> dict[str, int]:
        return {kind: len(self.compared.of_kind(kind)) for kind in KINDS}

    @property
    def well(self) -> bool:
        return not self.error and not self.counts[WRONG]


@command("compare")
@click.argument("address", type=ADDRESS, required=False)
@click.option(
    "--against", metavar="URL|FILE", help="The old server, or the record of an import or export."
)
@click.option("--full", is_flag=True, help="Compare whole texts, not only the headers.")
@click.option("--from-csv", metavar="FILE", help="Compare many: a file with address and source.")
@parallel_options
@old_server_options
async def compare(
    context: CommandContext,
    address: Address | None,
    against: str | None,
    full: bool,
    from_csv: str | None,
    parallel: int,
    patience: int,
    **old: Any,
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

    With --json: full, and maildrops: each with address, against, there and here (messages),
    same, wrong, explained and new (how many), warnings, differences (each with kind, what,
    uidl and text), and error or null.
    """
    options = OldServerOptions(**old)
    password = options.password()
    given = sources(address, against, from_csv, "ADDRESS and --against")
    every = [_other_side(options, password, one) for one in given]
    settings = context.settings()
    stop = Stop()
    async with context.open(settings) as plugins:
        store = plugins.store
        if not IMaildropIntake.providedBy(store):
            raise Refused("a store of this kind does not support this command")
        jobs = []
        for one in every:
            try:
                drop = await named(plugins, settings, Address.parse(one.address))
            except (Refused, PostOfficeError) as error:
                one.error = reason(error)
                continue
            reader = cast(IMaildropIntake, store).reader(drop.name)
            jobs.append(partial(_run, one, reader, full, Patience(patience), stop))
        with Progress("comparing messages") as progress:

            def step() -> None:
                progress.at(sum(one.done for one in every), sum(one.all for one in every))

            run_all(jobs, parallel, stop, step)
    data = {"full": full, "maildrops": [_data(one) for one in every]}
    lines = [line for one in every for line in _lines(one)]
    return Answer(data, lines, 0 if all(one.well for one in every) else REFUSED)


def _other_side(options: OldServerOptions, password: str, one: MaildropSource) -> _MaildropPair:
    """Return the pair with the account at the old server, or with a record.  Raises Refused."""
    name = one.address.normal
    if is_url(one.source):
        with one.checked():
            account = options.account(one.source, name, one.password or password)
        return _MaildropPair(name, one.source, account, {})
    path = os.path.join(one.source, FILE) if os.path.isdir(one.source) else one.source
    try:
        with open(path, "rb"):
            record = manifest(path)
    except OSError as error:
        raise Refused(f"reading {path} failed: {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"reading {path} failed: it is not UTF-8") from error
    if not record:
        raise Refused(f"{path} is no record of an import: no line in it has n and uidl")
    return _MaildropPair(name, one.source, None, record)


def _run(
    one: _MaildropPair, reader: IMaildropReader, full: bool, patience: Patience, stop: Stop
) -> None:
    """Compare one, on a thread of its own."""

    def step(done: int, of: int) -> None:
        one.done, one.all = done, of
        if stop.is_set:
            raise Stopped

    def work(connection: POP3ClientConnection) -> None:
        one.compared = Comparison(reader, full=full, step=step).with_server(connection)

    try:
        if one.account is None:
            comparison = Comparison(reader, full=full, step=step)
            one.compared = comparison.with_manifest(one.record)
        else:
            OldSessions(one.account, patience, stop, stop.wait).run(work)
    except Stopped:
        one.error = "it was stopped"
    except PostOfficeError as error:
        one.error = reason(error)


def _data(one: _MaildropPair) -> dict[str, object]:
    compared = one.compared
    return {
        "address": one.address,
        "against": one.against,
        "there": compared.there,
        "here": compared.here,
        "same": compared.same,
        **one.counts,
        "warnings": compared.warnings,
        "differences": [each._asdict() for each in compared.differences],
        "error": one.error or None,
    }


def _lines(one: _MaildropPair) -> Iterator[str]:
    name, compared, counts = one.address, one.compared, one.counts
    if one.error:
        yield f"{name}: comparison failed: {one.error}"
        return
    where = str(one.account.server) if one.account is not None else one.against
    yield (
        f"{name}: {counted(compared.there, 'message')} at {where}, {compared.here} here: "
        f"{compared.same} the same, {counts[WRONG]} wrong, {counts[EXPLAINED]} explained, "
        f"{counts[NEW]} new"
    )
    yield from (f"{name}: warning: {why}" for why in compared.warnings)
    for kind in KINDS:
        found = [f"{each.uidl}: {each.text}" for each in compared.of_kind(kind)]
        yield from problem_lines(name, kind, found, f"are {kind}", MOST)
