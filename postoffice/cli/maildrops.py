"""``postoffice maildrop``: purge, restore and check maildrops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TypeVar

import click

from postoffice.cli.command import REFUSED, Answer, CommandContext, Refused, command
from postoffice.cli.mail_policies import DURATION_TYPE
from postoffice.cli.maildrop_list import maintenance_of, named
from postoffice.cli.output import counted, iso, moment, sized, table
from postoffice.cli.parameters import ADDRESS, TIME
from postoffice.cli.progress import Progress
from postoffice.cli.quotas import SIZE_TYPE
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.doctor.maildrop_owners import OwnedMaildrop, owners_of
from postoffice.interfaces import Finding, IQueueRepair, PurgeCriteria, Step, VaultSession
from postoffice.model.address import Address, Quota
from postoffice.model.errors import MaildropLocked

T = TypeVar("T")


@click.group()
def maildrop() -> None:
    """Administer the maildrops, also those of removed accounts."""


@command("purge", maildrop)
@click.argument("address", type=ADDRESS)
@click.option(
    "--over-quota",
    is_flag=True,
    help="Remove the oldest messages, until the maildrop is within its quota.",
)
@click.option(
    "--older-than", type=DURATION_TYPE, help="Remove messages that are older, such as 90days."
)
@click.option(
    "--larger-than", type=SIZE_TYPE, help="Remove messages that are larger, such as 20MiB."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
async def purge(
    context: CommandContext,
    address: Address,
    over_quota: bool,
    older_than: float | None,
    larger_than: int | None,
    dry_run: bool,
) -> Answer:
    """
    Remove messages from the maildrop of ADDRESS.

    The account may be gone.  With several options, the messages that match any of them
    are removed.  The command is refused during a POP3 session.  Removed messages can be
    restored (maildrop undelete), for as long as store.undelete says.

    With --json: maildrop, messages and octets (that were, or would be, removed), dry_run.
    """
    if not over_quota and older_than is None and larger_than is None:
        raise click.UsageError(
            "say which messages to remove: --over-quota, --older-than, --larger-than"
        )
    settings = context.settings()

    async with _at_rest(context, settings, address) as plugins:
        drop = await named(plugins, settings, address)
        which = PurgeCriteria(older_than, larger_than, _quota(drop) if over_quota else None)
        with Progress("removing messages") as progress:
            maintenance = maintenance_of(plugins)
            messages, octets = await maintenance.purge(drop.name, which, dry_run, progress.at)
    data = {"maildrop": drop.name, "messages": messages, "octets": octets, "dry_run": dry_run}
    done = "would be removed" if dry_run else "removed"
    return Answer(data, [f"{drop.name}: {counted(messages, 'message')}, {sized(octets)}, {done}"])


def _quota(drop: OwnedMaildrop) -> Quota:
    if drop.quota is None:
        raise Refused(
            f"there is no account {drop.name} here, and so no quota; give --older-than or "
            "--larger-than"
        )
    return drop.quota


@command("undelete", maildrop)
@click.argument("address", type=ADDRESS)
@click.option("--session", metavar="ID", help="Restore what this session removed.")
@click.option(
    "--since", type=TIME, help="Restore all that was removed since this time, or so long ago."
)
async def undelete(
    context: CommandContext, address: Address, session: str | None, since: float | None
) -> Answer:
    """
    Restore deleted mail of ADDRESS, or list what is kept.

    Without an option it lists the sessions whose removed messages are still kept.  The
    log has the ids of sessions; purge, make-room, expire and import stand for removals by the
    post office itself.  A restored message has its old date and UIDL: a mail program that
    fetched it before may not fetch it again.  The command is refused during a POP3
    session.

    With --json: maildrop and messages (how many were restored); or maildrop and sessions,
    each with session, time, messages, octets.
    """
    if session is not None and since is not None:
        raise click.UsageError("--session and --since exclude one another")
    settings = context.settings()

    async with _at_rest(context, settings, address) as plugins:
        name = (await named(plugins, settings, address)).name
        maintenance, back = maintenance_of(plugins), 0
        kept = list(await maintenance.vault_sessions(name))
        if session is not None or since is not None:
            wanted = (session or "", since or 0.0)
            if any(wanted[0] in ("", one.session) and one.time >= wanted[1] for one in kept):
                back = await maintenance.undelete(name, *wanted)
    if session is None and since is None:
        return _kept(name, kept)
    if not back:
        what = f"of session {session}" if session is not None else f"since {moment(since or 0.0)}"
        raise Refused(f"{name}: nothing is kept {what}; postoffice maildrop undelete {name}")
    return Answer(
        {"maildrop": name, "messages": back}, [f"{name}: {counted(back, 'message')} brought back"]
    )


def _kept(name: str, kept: list[VaultSession]) -> Answer:
    rows = [("TIME", "SESSION", "MESSAGES", "SIZE")]
    rows += [(moment(one.time), one.session, str(one.messages), sized(one.octets)) for one in kept]
    sessions = [{**asdict(one), "time": iso(one.time)} for one in kept]
    lines = table(rows) if kept else [f"{name}: nothing is kept"]
    return Answer({"maildrop": name, "sessions": sessions}, lines)


@command("verify", maildrop)
@click.argument("address", type=ADDRESS, required=False)
@click.option("--repair", is_flag=True, help="Repair what is safe to repair.")
async def verify(context: CommandContext, address: Address | None, repair: bool) -> Answer:
    """
    Check the maildrop of ADDRESS, or all, for problems.

    It reads all messages, checks the sizes in file names, looks for files that cannot
    be read or are no messages and for leftovers of failed deliveries, and checks the
    quota counts.  It takes as long as reading all of the mail.  --repair corrects names
    and counts, creates missing folders and removes leftovers; it removes no message.
    It also retries what could not be put into a maildrop or into the queue before (set
    aside); what a running daemon has to send of this, it finds at its next start.
    The exit code is 1 if a problem was found and not repaired.

    Maildrops without an account are listed too, but are no problem.

    With --json: maildrops (how many were checked), findings, each with path, what,
    mended.
    """
    settings = context.settings()
    async with context.open(settings) as plugins:
        maintenance, found = maintenance_of(plugins), list[Finding]()
        drops, messages = await _to_verify(plugins, settings, address)
        if address is None:
            held = getattr(plugins.destination, "queue", None)
            if repair and IQueueRepair.providedBy(held):
                found += await held.repair()
            found += await maintenance.strays()
        with Progress("reading messages") as progress:
            for drop in drops:
                quota = drop.quota or settings.default_quota
                found += await maintenance.verify(
                    drop.name, quota, repair, _each(progress, messages)
                )
    count, ownerless = len(drops), [drop.name for drop in drops if drop.account is None]
    left = sum(not one.mended for one in found)
    lines = [f"{one.path}: {one.what}{' (mended)' if one.mended else ''}" for one in found]
    lines += [f"{name}: no account has this maildrop; nobody can collect" for name in ownerless]
    told_of_all = (counted(count, "maildrop"), counted(len(found), "finding"))
    lines.append(f"{': '.join(told_of_all)}, {len(found) - left} mended")
    data = {"maildrops": count, "findings": [asdict(one) for one in found]}
    return Answer(data, lines, REFUSED if left else 0)


async def _to_verify(
    plugins: Plugins, settings: Settings, address: Address | None
) -> tuple[list[OwnedMaildrop], int]:
    """Return the maildrops to check, and about how many messages they have (0: unknown)."""
    if address is not None:
        return [await named(plugins, settings, address)], 0
    with Progress("looking at maildrops") as progress:
        holdings = await maintenance_of(plugins).holdings(progress.at)
    drops = await owners_of(plugins.directories, settings, [one.name for one in holdings])
    return drops, sum(one.messages for one in holdings)


def _each(progress: Progress, messages: int) -> Step:
    """Return the progress callback for verifying one of several maildrops."""
    return lambda done, of: progress.at(progress.done + 1 if messages else done, messages or of)


@asynccontextmanager
async def _at_rest(
    context: CommandContext, settings: Settings, address: Address
) -> AsyncIterator[Plugins]:
    """Start the plugins; refuse if a session holds the maildrop."""
    try:
        async with context.open(settings) as plugins:
            yield plugins
    except MaildropLocked:
        raise Refused(f"a POP3 session holds {address.normal}; try again later") from None
