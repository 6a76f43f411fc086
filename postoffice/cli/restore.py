"""``postoffice restore``: restore a whole backup on an empty machine, or single maildrops."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import click

from postoffice.backup import part, whole
from postoffice.backup.checked import Source, check, source_of
from postoffice.backup.contents import Which
from postoffice.backup.entries import BackupError, Index, Told
from postoffice.cli.backup import ended_by_signals, failures
from postoffice.cli.common import (
    ADDRESS,
    DOMAIN,
    REFUSED,
    Answer,
    CommandContext,
    Refused,
    command,
    counted,
    sized,
)
from postoffice.cli.progress import Progress
from postoffice.daemon import privileges
from postoffice.daemon.build import find_maker
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Address
from postoffice.model.errors import MaildropLocked


@command("restore")
@click.argument("backup", metavar="FROM")
@click.option(
    "--maildrop",
    "maildrops",
    metavar="ADDRESS",
    type=ADDRESS,
    multiple=True,
    help="Restore this maildrop into the existing post office; may be given several times.",
)
@click.option(
    "--domain",
    "domains",
    type=DOMAIN,
    multiple=True,
    help="Restore the maildrops of this domain; may be given several times.",
)
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="The folder for the state, if not the old one; it is written to the configuration.",
)
@click.option("--force", is_flag=True, help="Rename existing files (NAME.before-restore-TIME).")
@click.option(
    "--check",
    "only_check",
    is_flag=True,
    help="Only read the backup, and report whether it is intact.",
)
def restore(
    context: CommandContext,
    backup: str,
    maildrops: tuple[Address, ...],
    domains: tuple[str, ...],
    state: str | None,
    force: bool,
    only_check: bool,
) -> Answer:
    """
    Restore a backup.

    FROM is the file or folder that `postoffice backup` has written.  The command reads
    and checks all of it before it writes anything.  A whole backup is restored to its old
    place, or to --config FILE and --state DIR; nothing may exist there, and no daemon may
    run.

    With --maildrop or --domain the command adds messages to the existing post office,
    also while it runs: the messages that are missing, with their dates and UIDLs.  An
    existing account is not changed; a removed one is restored with its passwords.

    With --json: backup, begun, messages, octets; for a whole backup: configuration,
    state, files, aside (what was renamed), complaints; else maildrops, each with
    maildrop, messages, there (how many already existed), account (added, there, or "").
    """
    which = Which(tuple(one.normal for one in maildrops), domains)
    if not which.whole and (state or force):
        raise click.UsageError("--state and --force are for a whole backup")
    with failures("restore", backup), ended_by_signals():
        source = source_of(backup)
        try:
            with Progress("check", source.size) as progress:
                told, index = check(source, partial(progress.at, length=source.size))
            try:
                data, lines = _told(backup, told)
                if only_check:
                    return Answer(data, [*lines, "it is whole"])
                if which.whole:
                    return _whole(context, source, index, told, state, force, (data, lines))
                return _part(context, source, index, told, which, (data, lines))
            finally:
                index.close()
        finally:
            source.close()


Answered = tuple[dict[str, Any], list[str]]


def _told(backup: str, told: Told) -> Answered:
    header, counts = told.header, told.counts
    data = {
        "backup": backup,
        "begun": header["begun"],
        "messages": counts["messages"],
        "octets": counts["octets"],
    }
    only = [*header.get("maildrops", ()), *header.get("domains", ())]
    of_whom = f" of {', '.join(only)}" if only else ""
    line = (
        f"{backup}: {header['hostname']}{of_whom}, {header['begun']}, "
        f"{counted(counts['messages'], 'message')}, {sized(counts['octets'])}"
    )
    return data, [line]


def _whole(
    context: CommandContext,
    source: Source,
    index: Index,
    told: Told,
    state: str | None,
    force: bool,
    answered: Answered,
) -> Answer:
    if not told.header["whole"]:
        raise BackupError("it holds some maildrops alone: name them with --maildrop or --domain")
    with whole.scratch_of(source, index, ("config", "machine")) as scratch:
        plan = whole.plan(scratch, told.header, context.config, state, find_maker)
        whole.see_to_the_place(plan, force)
        with Progress("restore", source.size) as progress:
            files = whole.put_in_place(
                source, index, plan, partial(progress.at, length=source.size)
            )
        written, complaints = whole.write_configuration(plan, scratch)
    data, lines = answered
    data |= {
        "configuration": plan.config,
        "state": plan.state,
        "files": files + len(written),
        "aside": plan.aside,
        "complaints": complaints,
    }
    lines = [*lines, f"restored to {plan.state}", *(f"{path} is written" for path in written)]
    lines += [f"what was there is {path} now" for path in plan.aside]
    lines += [f"warning: {complaint}" for complaint in complaints]
    return Answer(data, lines, REFUSED if complaints else 0)


def _part(
    context: CommandContext,
    source: Source,
    index: Index,
    told: Told,
    which: Which,
    answered: Answered,
) -> Answer:
    settings = context.settings()

    async def work(plugins: Plugins) -> list[part.PutBack]:
        with Progress("restore", source.size) as progress:
            step = partial(progress.at, length=source.size)
            return await part.put_back(plugins, source, index, told, which, step)

    who = None
    if privileges.is_root():
        who = privileges.identity(settings.user, settings.state)
    try:
        with privileges.acting(who):
            done = context.ask(work, settings)
    except MaildropLocked:
        raise Refused("somebody is collecting from it; try again when that is over") from None
    data, lines = answered
    data["maildrops"] = [asdict(one) for one in done]
    words = {"added": "; the account is here again", "": "; no account has it", "there": ""}
    lines = [
        *lines,
        *(
            f"{one.maildrop}: {counted(one.messages, 'message')} brought back, {one.there} were "
            f"there{words[one.account]}"
            for one in done
        ),
    ]
    return Answer(data, lines)
