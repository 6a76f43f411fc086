"""``postoffice restore``: restore a whole backup on an empty machine, or single maildrops."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from functools import partial

import click

from postoffice.backup import restore_all, restore_maildrops
from postoffice.backup.contents import BackupSelection
from postoffice.backup.manifest import BackupError, ManifestSummary
from postoffice.backup.reader import Checked, check, source_of
from postoffice.cli.backup import ended_by_signals, failures, selection_options
from postoffice.cli.command import REFUSED, Answer, CommandContext, Refused, command
from postoffice.cli.output import counted, sized
from postoffice.cli.progress import Progress
from postoffice.daemon import privileges
from postoffice.daemon.plugin_makers import find_maker
from postoffice.daemon.plugins import Plugins
from postoffice.model.errors import MaildropLocked


@command("restore")
@click.argument("backup", metavar="FROM")
@selection_options(
    "Restore this maildrop into the existing post office", "Restore the maildrops of this domain"
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
    which: BackupSelection,
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
    if not which.whole and (state or force):
        raise click.UsageError("--state and --force are for a whole backup")
    with failures("restore", backup), ended_by_signals(), closing(source_of(backup)) as source:
        with Progress("check", source.size) as progress:
            summary, index = check(source, partial(progress.at, length=source.size))
        with closing(index):
            answer = _describe(backup, summary)
            if only_check:
                return Answer(answer.data, [*answer.lines, "it is whole"])
            found = Checked(source, index, summary)
            if which.whole:
                more = _restore_all(context, found, state, force)
            else:
                more = _restore_maildrops(context, found, which)
    return Answer({**answer.data, **more.data}, [*answer.lines, *more.lines], more.status)


def _describe(backup: str, summary: ManifestSummary) -> Answer:
    header, counts = summary.header, summary.counts
    data = {
        "backup": backup,
        "begun": header["begun"],
        "messages": counts["messages"],
        "octets": counts["octets"],
    }
    only = [*(header.get("maildrops") or ()), *(header.get("domains") or ())]
    of_whom = f" of {', '.join(only)}" if only else ""
    line = (
        f"{header['hostname']}{of_whom}, {header['begun']}, "
        f"{counted(counts['messages'], 'message')}, {sized(counts['octets'])}"
    )
    return Answer(data, [f"{backup}: {line}"])


def _restore_all(context: CommandContext, found: Checked, state: str | None, force: bool) -> Answer:
    if not found.summary.header["whole"]:
        raise BackupError("it holds some maildrops alone: name them with --maildrop or --domain")
    with restore_all.scratch_of(found, ("config", "machine")) as scratch:
        plan = restore_all.plan(scratch, found.summary.header, context.config, state, find_maker)
        restore_all.clear_destination(plan, force)
        with Progress("restore", found.source.size) as progress:
            step = partial(progress.at, length=found.source.size)
            files = restore_all.put_in_place(found, plan, step)
        written, complaints = restore_all.write_configuration(plan, scratch)
    data = {
        "configuration": plan.config,
        "state": plan.state,
        "files": files + len(written),
        "aside": plan.aside,
        "complaints": complaints,
    }
    lines = [f"restored to {plan.state}", *(f"{path} is written" for path in written)]
    lines += [f"what was there is {path} now" for path in plan.aside]
    lines += [f"warning: {complaint}" for complaint in complaints]
    return Answer(data, lines, REFUSED if complaints else 0)


#: What `restore` says about the account of a maildrop.
_ACCOUNT = {"added": "; the account is here again", "": "; no account has it", "there": ""}


def _restore_maildrops(context: CommandContext, found: Checked, which: BackupSelection) -> Answer:
    settings = context.settings()

    async def work(plugins: Plugins) -> list[restore_maildrops.RestoredMaildrop]:
        with Progress("restore", found.source.size) as progress:
            step = partial(progress.at, length=found.source.size)
            return await restore_maildrops.restore(plugins, found, which, step)

    try:
        with privileges.acting(privileges.owner_of(settings.user, settings.state)):
            done = context.ask(work, settings)
    except MaildropLocked:
        raise Refused("a POP3 session holds it; try again later") from None
    lines = [
        f"{one.maildrop}: {counted(one.messages, 'message')} brought back, {one.there} were "
        f"there{_ACCOUNT[one.account]}"
        for one in done
    ]
    return Answer({"maildrops": [asdict(one) for one in done]}, lines)
