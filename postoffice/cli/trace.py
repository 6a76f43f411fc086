"""``postoffice trace``: the story of a message or a session, from the log."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

import click

from postoffice.cli.command import Answer, CommandContext, Refused, command
from postoffice.cli.output import iso, moment
from postoffice.cli.parameters import TIME
from postoffice.config.source import ConfigurationError
from postoffice.daemon import privileges
from postoffice.logs.files import PLACES, LogFiles, LogSource, LogUnreadable, SystemdJournal
from postoffice.logs.sentences import sentence
from postoffice.logs.story import Story, find
from postoffice.logs.whereabouts import Whereabouts, whereabouts
from postoffice.model.errors import PostOfficeError
from postoffice.queue.queue_db import ACTIVE, PARKED, PAUSED, QUEUE, QueueDB, Row
from postoffice.queue.selection import Selection

#: The unit of systemd whose journal is read.
UNIT = "postoffice"


@command("trace")
@click.argument("what", metavar="ID|ADDRESS|MESSAGE-ID")
@click.option("--since", type=TIME, help="From this time on, such as '2026-01-31 10:00' or 2h.")
@click.option("--until", type=TIME, help="Up to this time.")
@click.option(
    "--log", "logs", metavar="FILE", multiple=True,
    help="The log, with its rotated parts beside it; may be given several times.",
)  # fmt: skip
@click.option("--journal", is_flag=True, help="Read the journal of systemd.")
@click.option("--unit", default=UNIT, show_default=True, help="The daemon's unit in the journal.")
@click.option(
    "--most", type=click.IntRange(1, 1000), default=20, show_default=True,
    help="How many messages and sessions at most.",
)  # fmt: skip
def trace(
    context: CommandContext,
    what: str,
    since: float | None,
    until: float | None,
    logs: tuple[str, ...],
    journal: bool,
    unit: str,
    most: int,
) -> Answer:
    """
    Tell the story of a message or session, up to now.

    What to look for is an id of the log (it is also in the Received field, and in the
    reply that accepted the message), a sender, recipient or account, a Message-ID, or a
    UIDL.  The log is twistd.log here, or /var/log/postoffice/postoffice.log, or else the
    journal; it may be text or JSON, and rotated and compressed.  Only what happened between
    --since and --until is looked for; its story is told to the end.

    With --json: stories, each with id, kind (message or session), events (time, event,
    text, fields) and where (recipient, state, time, via, reply, session, next_try);
    complete, whether there were no more than --most.
    """
    if logs and journal:
        raise click.UsageError("--log and --journal exclude one another")
    source = _source(logs, journal, unit)
    try:
        found = find(source, what, since or 0.0, until or 0.0, most)
    except LogUnreadable as error:
        raise Refused(str(error)) from None
    if not found.stories:
        raise Refused(f"{source.name} tells nothing of {what} in that time")
    waiting = _waiting(context, found.stories)
    lines: list[str] = []
    for story in found.stories:
        lines += ["", *_story_lines(story, waiting)] if lines else _story_lines(story, waiting)
    if found.more:
        lines += ["", f"There is more: narrow it by --since and --until, or by --most {most * 2}."]
    stories = [_as_object(story, waiting) for story in found.stories]
    return Answer({"stories": stories, "complete": not found.more}, lines)


def _source(logs: tuple[str, ...], journal: bool, unit: str) -> LogSource:
    """Return the log that is given, or else the first that exists.  Raises Refused."""
    if logs:
        return LogFiles(logs)
    if journal:
        return SystemdJournal(unit)
    for path in PLACES:
        if os.path.exists(path):
            return LogFiles([path])
    if shutil.which("journalctl"):
        return SystemdJournal(unit)
    raise Refused(f"there is no log at {', '.join(PLACES)}; name it with --log FILE")


def _waiting(context: CommandContext, stories: list[Story]) -> dict[str, list[Row]]:
    """Return the rows of messages that wait in the queue, by id; none if there is no queue."""
    ids = [
        story.id for story in stories if any(one.state == "queued" for one in whereabouts(story))
    ]
    rows: dict[str, list[Row]] = {}
    with suppress(ConfigurationError, PostOfficeError, OSError):
        settings = context.settings()
        path = os.path.join(settings.state, QUEUE)
        if ids and os.path.exists(path):
            privileges.become(settings.user, settings.state)
            with QueueDB(path).opened() as db:
                for row in db.select(*Selection(ids=tuple(ids)).sql(), None):
                    rows.setdefault(row.id, []).append(row)
    return rows


#: What a message without a time for its next attempt waits for.
_WAITS = {
    ACTIVE: "; it is being sent",
    PARKED: "; its server is unreachable",
    PAUSED: "; its domain is paused",
}


def _next_try(where: Whereabouts, rows: list[Row]) -> tuple[float | None, str]:
    """Return when a recipient in the queue is tried next (Unix time), and that in words."""
    if where.state != "queued":
        return None, ""
    for row in rows:
        if where.recipient.lower() in row.recipients.lower().split():
            if row.held:
                return None, "; it is held"
            if row.next < ACTIVE:
                return row.next, f"; the next try is at {moment(row.next)}"
            return None, _WAITS[row.next]
    return None, ""


def _story_lines(story: Story, waiting: Mapping[str, list[Row]]) -> list[str]:
    """Return a story in lines for people."""
    lines = [f"{'Message' if story.is_message else 'Session'} {story.id}"]
    day = ""
    for line in story.lines:
        when = datetime.fromtimestamp(line.time)
        if f"{when:%Y-%m-%d}" != day:
            day = f"{when:%Y-%m-%d}"
            lines.append(f"  {day}")
        lines.append(f"  {when:%H:%M:%S}  {sentence(line)}")
    if story.more:
        lines.append("  ...       There are more events.")
    where = whereabouts(story)
    if where:
        lines.append("  Now:")
    for one in where:
        _, words = _next_try(one, waiting.get(story.id, []))
        lines.append(f"    {one.text}{words}")
    return lines


def _as_object(story: Story, waiting: Mapping[str, list[Row]]) -> dict[str, object]:
    where = []
    for one in whereabouts(story):
        at, _ = _next_try(one, waiting.get(story.id, []))
        where.append({**vars(one), "time": iso(one.time), "next_try": iso(at)})
    events = [
        {
            "time": iso(line.time),
            "event": line.event,
            "text": sentence(line),
            "fields": dict(line.fields),
        }
        for line in story.lines
    ]
    kind = "message" if story.is_message else "session"
    return {"id": story.id, "kind": kind, "events": events, "where": where}
