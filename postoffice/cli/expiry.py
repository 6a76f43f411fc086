"""``postoffice maildrop expire``: remove expired mail."""

from __future__ import annotations

from collections.abc import Sequence

import click

from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.output import counted, sized, table
from postoffice.cli.parameters import ADDRESS
from postoffice.cli.progress import Progress
from postoffice.daemon.build_parts import build_retention
from postoffice.daemon.expiry_job import ExpiryResult, ExpiryTarget, Retention
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Address
from postoffice.model.errors import MaildropLocked, PostOfficeError


@command("expire")
@click.argument("address", type=ADDRESS, required=False)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
async def expire(context: CommandContext, address: Address | None, dry_run: bool) -> Answer:
    """
    Remove expired mail of ADDRESS, or of all accounts.

    How long mail is kept is set for each account, its domain, or under `retention` in the
    configuration (see account show).  The daemon does this itself, once a day.  Nothing
    is removed during a POP3 session.

    With --json: dry_run, and maildrops: each with account, messages, octets (that were,
    or would be, removed), and why the maildrop was skipped, or null.
    """
    settings = context.settings()
    async with context.open(settings) as plugins:
        retention = build_retention(settings, plugins)
        if not retention.possible:
            raise Refused("mail stays in this store until somebody deletes it")
        found = []
        with Progress("looking at maildrops") as progress:
            targets = await _targets(plugins, retention, address)
            for target in targets:
                found.append(await _expire(retention, target, dry_run))
                progress.at(len(found), len(targets))
    data = [
        {
            "account": gone.target.account,
            "messages": gone.messages,
            "octets": gone.octets,
            "why": gone.why or None,
        }
        for gone in found
    ]
    return Answer({"dry_run": dry_run, "maildrops": data}, _lines(found, dry_run))


async def _targets(
    plugins: Plugins, retention: Retention, address: Address | None
) -> Sequence[ExpiryTarget]:
    if address is None:
        return await retention.targets()
    account = await plugins.find(address.normal)
    if account is None:
        raise Refused(f"there is no account {address.normal} here")
    target = await retention.target(account)
    return () if target.keep.forever else (target,)


async def _expire(retention: Retention, target: ExpiryTarget, dry: bool) -> ExpiryResult:
    try:
        return await retention.expire(target, dry=dry)
    except MaildropLocked:
        return ExpiryResult(target, why="a POP3 session is open")
    except PostOfficeError as error:
        return ExpiryResult(target, why=str(error))


def _lines(found: Sequence[ExpiryResult], dry: bool) -> list[str]:
    if not found:
        return ["all mail is kept for ever"]
    verb = "would be removed" if dry else "removed"
    rows: list[tuple[str, ...]] = [
        (gone.target.account, f"{counted(gone.messages, 'message')}, {sized(gone.octets)}, {verb}")
        if not gone.why
        else (gone.target.account, f"skipped: {gone.why}")
        for gone in found
        if gone.messages or gone.why
    ]
    messages = sum(gone.messages for gone in found)
    return [*table(rows), f"{counted(messages, 'message')} {verb}"] if rows else ["nothing is due"]
