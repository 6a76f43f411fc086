"""``postoffice queue``: what waits to be sent to other domains, and what to do with it."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import click

from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.options import with_options
from postoffice.cli.output import counted, iso, lasting, moment, sized, table
from postoffice.cli.parameters import ADDRESS, Parameter
from postoffice.cli.sessions import NotRunning, ask_daemon
from postoffice.daemon import privileges
from postoffice.interfaces import IMailQueue, IQueueStore
from postoffice.model.address import Address, normal_domain
from postoffice.model.config_values import read_duration
from postoffice.queue.due import PAGE
from postoffice.queue.pending_rows import PendingRows
from postoffice.queue.queue_db import QUEUE, QueueDB, Row
from postoffice.queue.selection import STATES, Selection, state_of

#: Seconds to wait for the daemon's answer.
PATIENCE = 600.0
#: Lines of the list, where no other limit is given.
LINES = 1000


T = TypeVar("T")

#: A domain, ours or not.
ANY_DOMAIN = Parameter("domain", normal_domain)
AGE = Parameter("duration", read_duration)


@click.group()
def queue() -> None:
    """Look at mail that waits for other domains, and change it."""


def selecting(function: Callable[..., T]) -> Callable[..., T]:
    """Add the arguments and options that select messages: the function gets ``selection``."""

    @functools.wraps(function)
    def run(
        *args: object,
        ids: tuple[str, ...],
        to: str | None,
        sender: str | None,
        login: str | None,
        state: str | None,
        older: float | None,
        **rest: object,
    ) -> T:
        before = time.time() - older if older else 0.0
        selection = Selection(
            ids=ids, to=to or "", sender=sender or "", login=login or "", state=state or "",
            before=before,
        )  # fmt: skip
        return function(*args, selection=selection, **rest)

    return with_options(
        run,
        click.argument("ids", metavar="[ID]...", nargs=-1),
        click.option("--to", metavar="WHO", help="To this address or domain."),
        click.option("--from", "sender", metavar="WHO", help='From this address or domain; "<>".'),
        click.option("--login", metavar="ADDRESS", help="Submitted by this account."),
        click.option("--state", type=click.Choice(STATES), help="In this state."),
        click.option("--older", type=AGE, help="That came at least so long ago, such as 1h."),
    )


@asynccontextmanager
async def queue_of(context: CommandContext) -> AsyncIterator[tuple[IMailQueue, QueueDB]]:
    """Provide the queue of the store, and its open database."""
    settings = context.settings()
    async with context.open(settings) as plugins:
        if not IQueueStore.providedBy(plugins.destination):
            raise Refused("the store of this configuration keeps no queue")
        with QueueDB(os.path.join(settings.state, QUEUE)).opened() as db:
            yield plugins.destination.queue, db


async def _rows(
    context: CommandContext, selection: Selection, most: int | None = None
) -> tuple[list[Row], int]:
    """
    Return at most ``most`` of the selected rows, and how many messages are selected.

    The daemon, or else this command, first writes the rows that the database lacks.
    """
    if _daemon_sends(context):
        settings = context.settings()
        privileges.become(settings.user, settings.state)
        with QueueDB(os.path.join(settings.state, QUEUE)).opened() as db:
            return db.select(*selection.sql(), most), db.count(*selection.sql())
    async with queue_of(context) as (held, db):
        await recover(context, held, db)
        return db.select(*selection.sql(), most), db.count(*selection.sql())


def ask_sender(context: CommandContext, do: str, **question: object) -> list[dict[str, Any]]:
    """
    Return the answer of the daemon that sends.

    Raises NotRunning if none does, and Refused with what it says if it refuses.
    """
    found = ask_daemon(context, {"command": "queue", "do": do, **question}, PATIENCE)
    failed = next((line for line in found if "failed" in line), None)
    if failed is None:
        return found
    if failed.get("sends") is False:
        raise NotRunning(str(failed["failed"]))
    words = (str(failed.get("code") or ""), str(failed.get("status") or ""), failed["failed"])
    raise Refused(" ".join(filter(None, words)))


def _daemon_sends(context: CommandContext) -> bool:
    """Whether a daemon sends; its database is complete then."""
    try:
        ask_sender(context, "note")
    except NotRunning:
        return False
    return True


async def recover(context: CommandContext, held: IMailQueue, db: QueueDB) -> None:
    """Write the rows of messages that the database lacks."""
    rows = PendingRows(db, context.executor)
    new = await rows.run(db.recover, await held.names())
    for start in range(0, len(new), PAGE):
        page = new[start : start + PAGE]
        for name, message in zip(page, await held.read(page), strict=True):
            if message is not None:
                rows.put(rows.unsent(name, message))
        await rows.run(int)


@command("list", queue)
@selecting
@click.option(
    "--limit", type=click.IntRange(1), default=LINES, show_default=True,
    help="The most lines; the total counts all messages that fit.",
)  # fmt: skip
async def list_queue(context: CommandContext, selection: Selection, limit: int) -> Answer:
    """
    List the messages that wait, the oldest first.

    Options select those that fit all of them.

    STATE is sending, waiting (for its next attempt), unreachable (its destination does not
    answer; it is probed, and then all its mail is sent), paused (its domain is), or held.

    With --json: messages: each with id, sender, login, recipients, octets, state, came, next,
    expires, attempts, reply, via, held; and total.
    """
    found, many = await _rows(context, selection, limit)
    rows = [("ID", "STATE", "AGE", "SIZE", "FROM", "TO", "LAST REPLY")]
    now = time.time()
    rows += [
        (
            row.id,
            state_of(row.next, row.held),
            lasting(max(0.0, now - row.came)),
            sized(row.octets),
            row.sender or "<>",
            some_of(row.recipients.split()),
            row.held or row.reply,
        )
        for row in found
    ]
    total = counted(many, "message")
    if len(found) == limit:
        total += f"; these are the oldest, --limit {many} shows all"
    lines = [*table(rows), "", total] if found else ["no message waits"]
    return Answer({"messages": [_data(row) for row in found], "total": many}, lines)


def some_of(recipients: Sequence[str]) -> str:
    more = len(recipients) - 1
    return f"{recipients[0]} and {more} more" if more > 0 else recipients[0]


def _data(row: Row) -> dict[str, object]:
    state = state_of(row.next, row.held)
    return {
        "id": row.id,
        "sender": row.sender,
        "login": row.login,
        "recipients": row.recipients.split(),
        "octets": row.octets,
        "state": state,
        "came": iso(row.came),
        "next": iso(row.next) if state == "waiting" else None,
        "expires": iso(row.expires),
        "attempts": row.attempts,
        "reply": " ".join(filter(None, (str(row.code or ""), row.status, row.reply))),
        "via": row.via,
        "held": row.held,
    }


@command("show", queue)
@click.argument("id")
async def show(context: CommandContext, id: str) -> Answer:  # noqa: A002
    """
    Show one message: recipients, attempts, the next attempt.

    ID is the message's id in the log and in its Received field.

    With --json: as in the list, for each destination: messages.
    """
    found, _ = await _rows(context, Selection(ids=(id,)))
    if not found:
        raise Refused(f"no message {id} waits; what became of it is in the log")
    first = found[0]
    lines = [
        f"id        {first.id}",
        f"from      <{first.sender}>" + (f" (submitted by {first.login})" if first.login else ""),
        f"size      {sized(first.octets)}",
        f"came      {moment(first.came)}",
        f"expires   {moment(first.expires)}",
    ]
    for row in found:
        data = _data(row)
        lines += ["", *(f"to        {one}" for one in row.recipients.split())]
        lines += [f"state     {data['state']}" + (f": {row.held}" if row.held else "")]
        lines += [f"attempts  {row.attempts}"]
        if row.last:
            lines += [f"last      {moment(row.last)}: {data['reply']}" + _via(row)]
        if data["next"]:
            lines += [f"next      {moment(max(row.next, time.time()))}"]
    return Answer({"messages": [_data(row) for row in found]}, lines)


def _via(row: Row) -> str:
    return f" ({row.via}, {row.phase})" if row.via else f" ({row.phase})"


@command("destinations", queue)
def destinations(context: CommandContext) -> Answer:
    """
    List where mail goes, how much waits, and which do not answer.

    With --json: destinations: each with destination, state (reachable, unreachable, paused,
    waiting), connections, waiting, probe (or null), reply.
    """
    found = ask_sender(context, "destinations")
    rows = [("DESTINATION", "STATE", "CONNECTIONS", "WAITING", "NEXT PROBE", "REPLY")]
    rows += [
        (
            one["destination"],
            one["state"],
            str(one["connections"]),
            str(one["waiting"]),
            moment(one["probe"]) if one["probe"] else "",
            one["reply"],
        )
        for one in found
    ]
    for one in found:
        one["probe"] = iso(one["probe"])
    return Answer({"destinations": found}, table(rows) if found else ["nothing waits"])


@command("test", queue)
@click.argument("address", type=ADDRESS)
@click.option("--from", "sender", metavar="ADDRESS", default="", help="The sender of the mail.")
def test(context: CommandContext, address: Address, sender: str) -> Answer:
    """
    Show how mail for ADDRESS would be sent.

    That is its route, the hosts, and their encryption.  Nothing is sent.

    With --json: address, route, destination, hosts: each with host, address, port, tls,
    implicit, lmtp.
    """
    [found] = ask_sender(context, "test", address=str(address), sender=sender)
    rows = [("HOST", "ADDRESS", "PORT", "TLS")]
    rows += [(one["host"], one["address"], str(one["port"]), one["tls"]) for one in found["hosts"]]
    lines = [f"route        {found['route']}", f"destination  {found['destination']}", ""]
    return Answer({"address": str(address), **found}, [*lines, *table(rows)])
