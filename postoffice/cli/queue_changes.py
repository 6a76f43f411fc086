"""``postoffice queue``: retry, hold, release, remove, bounce, pause and resume what waits."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import click

from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.confirmation import on_a_terminal
from postoffice.cli.output import counted
from postoffice.cli.progress import Progress
from postoffice.cli.queue import (
    ANY_DOMAIN,
    ask_sender,
    queue,
    queue_of,
    recover,
    selecting,
    some_of,
)
from postoffice.cli.sessions import NotRunning
from postoffice.queue.admin import QueueAdmin
from postoffice.queue.pauses import ALL, Pauses
from postoffice.queue.pending_rows import PendingRows
from postoffice.queue.queue_db import Row
from postoffice.queue.selection import Selection

#: Ids of messages in one question.
IDS = 100
#: What changes messages if no daemon runs.
Offline = Callable[[QueueAdmin, Selection], Awaitable[list[Row]]]


def _check_selection(selection: Selection, everything: bool, doing: str) -> None:
    """Raises UsageError unless messages are selected, or all by --all; asks before it does all."""
    if everything == (selection != Selection()):
        raise click.UsageError("give IDs or options that select messages, or --all alone")
    if everything and on_a_terminal():
        click.confirm(f"{doing} all messages that wait?", err=True, abort=True)


async def _change(
    context: CommandContext,
    do: str,
    selection: Selection,
    offline: Offline | None,
    done: str,
    **more: object,
) -> Answer:
    """Let the daemon change messages; if none runs, change them here."""
    changed: list[tuple[str, list[str]]] = []
    try:
        with Progress(f"{do} messages") as progress:
            for part in _parts(selection):
                for line in _answers(context, do, part, more):
                    changed.append((line["id"], line["recipients"]))
                    progress.step()
    except NotRunning as error:
        if offline is None:
            raise Refused(f"{error}; this needs a daemon that sends") from None
        async with queue_of(context) as (held, db):
            await recover(context, held, db)
            rows = PendingRows(db, context.executor)
            changed = [
                (row.id, row.recipients.split())
                for row in await offline(QueueAdmin(held, db, rows), selection)
            ]
            await rows.run(int)
    if not changed:
        raise Refused("no message was changed: none fits that waits and is not being sent now")
    ids = list(dict.fromkeys(one for one, _ in changed))
    lines = [f"{one} {done}: {some_of(to)}" for one, to in changed[:20]]
    lines += [f"... {counted(len(ids), 'message')} {done}"] if len(changed) > 20 else []
    data = [{"id": one, "recipients": to} for one, to in changed]
    return Answer({"messages": data, "changed": len(ids)}, lines)


def _answers(
    context: CommandContext, do: str, selection: Selection, more: Mapping[str, object]
) -> Iterator[dict[str, Any]]:
    """Yield the recipients that the daemon has changed; it changes many messages in portions."""
    after: str | None = selection.after
    while after is not None:
        part, after = replace(selection, after=after), None
        for line in ask_sender(context, do, **part.write(), **more):
            if "after" in line:
                after = line["after"]
            else:
                yield line


def _parts(selection: Selection) -> Iterable[Selection]:
    """Return the selection in parts that fit into one question."""
    ids = selection.ids
    if not ids:
        return [selection]
    return [replace(selection, ids=ids[start : start + IDS]) for start in range(0, len(ids), IDS)]


EVERYTHING = click.option("--all", "everything", is_flag=True, help="All messages that wait.")


@command("retry", queue)
@selecting
@EVERYTHING
async def retry(context: CommandContext, selection: Selection, everything: bool) -> Answer:
    """
    Try messages again at once.

    They are tried also where the destination did not answer.  Messages that are held are
    left alone.

    With --json: messages: each with id and recipients; and changed, how many.
    """
    _check_selection(selection, everything, "Retry")
    return await _change(context, "retry", selection, QueueAdmin.retry, "is tried again")


@command("hold", queue)
@selecting
@EVERYTHING
@click.option("--why", metavar="TEXT", help="The reason, which the list shows.")
async def hold(
    context: CommandContext, selection: Selection, everything: bool, why: str | None
) -> Answer:
    """
    Do not send messages until they are released.

    Meanwhile they do not expire.

    With --json: messages: each with id and recipients; and changed, how many.
    """
    _check_selection(selection, everything, "Hold")
    reason = why or "by an administrator"

    def offline(admin: QueueAdmin, those: Selection) -> Awaitable[list[Row]]:
        return admin.hold(those, reason)

    return await _change(context, "hold", selection, offline, "is held", why=reason)


@command("release", queue)
@selecting
@EVERYTHING
async def release(context: CommandContext, selection: Selection, everything: bool) -> Answer:
    """
    Send messages that are held.

    With --json: messages: each with id and recipients; and changed, how many.
    """
    _check_selection(selection, everything, "Release")
    return await _change(context, "release", selection, QueueAdmin.release, "is released")


@command("remove", queue)
@selecting
@EVERYTHING
async def remove(context: CommandContext, selection: Selection, everything: bool) -> Answer:
    """
    Remove messages; their senders are not told.

    To tell the senders, use bounce.  A message that is being sent at this moment stays.

    With --json: messages: each with id and recipients; and changed, how many.
    """
    _check_selection(selection, everything, "Remove")
    return await _change(context, "remove", selection, _remove_all, "is removed")


async def _remove_all(admin: QueueAdmin, selection: Selection) -> list[Row]:
    """Remove messages in portions; no daemon runs."""
    removed: list[Row] = []
    while True:
        portion, after = await admin.portion(selection)
        removed += await admin.remove(portion)
        if not after:
            return removed
        selection = replace(selection, after=after)


@command("bounce", queue)
@selecting
@EVERYTHING
async def bounce(context: CommandContext, selection: Selection, everything: bool) -> Answer:
    """
    Return messages to their senders.

    The letter says that an administrator did it.

    With --json: messages: each with id and recipients; and changed, how many.
    """
    _check_selection(selection, everything, "Return")
    return await _change(context, "bounce", selection, None, "is returned to its sender")


def _which_domain(domain: str | None, everything: bool) -> str:
    if (domain is None) != everything:
        raise click.UsageError("give a DOMAIN, or --all")
    return domain or ALL


ALL_DOMAINS = click.option("--all", "everything", is_flag=True, help="All domains.")


@command("pause", queue)
@click.argument("domain", type=ANY_DOMAIN, required=False)
@ALL_DOMAINS
async def pause(context: CommandContext, domain: str | None, everything: bool) -> Answer:
    """
    Send nothing to DOMAIN until it is resumed.

    Its mail waits, and expires as usual.  What is being sent at this moment is sent.

    With --json: domain.
    """
    which = _which_domain(domain, everything)
    await _pausing(context, "pause", which)
    lines = [f"{domain or 'every domain'} is paused; to go on: postoffice queue resume "
             f"{domain or '--all'}"]  # fmt: skip
    return Answer({"domain": which}, lines)


@command("resume", queue)
@click.argument("domain", type=ANY_DOMAIN, required=False)
@ALL_DOMAINS
async def resume(context: CommandContext, domain: str | None, everything: bool) -> Answer:
    """
    Send to DOMAIN again.

    With --json: domain.
    """
    which = _which_domain(domain, everything)
    if not await _pausing(context, "resume", which):
        raise Refused(f"{domain or 'every domain'} is not paused")
    return Answer({"domain": which}, [f"{domain or 'every domain'} is resumed"])


async def _pausing(context: CommandContext, do: str, domain: str) -> bool:
    """Pause or resume, in the database if no daemon sends; False if it was not paused."""
    try:
        answer = ask_sender(context, do, domain=domain)
        return bool(not answer or answer[0]["resumed"])
    except NotRunning:
        async with queue_of(context) as (_, db):
            pauses = Pauses(db, PendingRows(db, context.executor))
            if do == "resume":
                return await pauses.resume(domain, time.time())
            await pauses.pause(domain, time.time())
            return True
