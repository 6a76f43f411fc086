"""Examines the queue: what is held, what waits for long, which destinations are dead."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from postoffice.doctor.findings import Finding, Report
from postoffice.model.errors import StartupError
from postoffice.queue.queue_db import QUEUE, QueueDB
from postoffice.queue.selection import Selection

#: Seconds after which mail has waited for long; the share of the queue that is nearly full.
LONG, MUCH = 86400.0, 0.8
#: Destinations that are named.
SHOWN = 10


def check_queue(state: str, most: int, now: float | None = None) -> list[Finding]:
    """Examine the queue, which may hold ``most`` messages.  It blocks.  ``now`` is Unix time."""
    report = Report("queue")
    path = os.path.join(state, QUEUE)
    if not os.path.exists(path):
        report.ok("nothing waits")
        return report.findings
    before = (time.time() if now is None else now) - LONG
    try:
        with QueueDB(path).opened() as db:
            waiting = db.count(*Selection().sql())
            held = db.count(*Selection(state="held").sql())
            old = db.count(*Selection(before=before).sql())
    except StartupError as error:
        report.error(str(error), "see docs/troubleshooting.rst", where=path)
        return report.findings
    if held:
        report.warning(
            f"{held} messages are held until somebody decides",
            "postoffice queue list --state held, then queue release or queue remove",
        )
    if old > held:
        report.note(
            f"{old} of {waiting} messages wait for more than a day",
            "postoffice queue list --older 1d shows them with the last reply",
        )
    if waiting >= MUCH * most:
        report.warning(
            f"{waiting} messages wait, and at most {most} may: beyond that, mail to other "
            "domains is refused",
            "postoffice queue destinations shows where it waits",
        )
    if not report.findings:
        report.ok(f"{waiting} messages wait" if waiting else "nothing waits")
    return report.findings


def check_destinations(destinations: Iterable[Mapping[str, object]]) -> list[Finding]:
    """Examine the destinations, as the running daemon describes them."""
    report = Report("queue")
    dead = [one for one in destinations if one.get("state") in ("unreachable", "paused")]
    for one in dead[:SHOWN]:
        name = str(one["destination"])
        if one["state"] == "paused":
            report.note(
                f"sending to {name} is paused: {one['waiting']} messages wait",
                f"postoffice queue resume {name}",
            )
            continue
        probe, reply = one.get("probe"), one.get("reply")
        when = f"; the next try is at {_time(probe)}" if isinstance(probe, int | float) else ""
        report.warning(
            f"{name} cannot be reached: {one['waiting']} messages wait{when}"
            + (f" ({reply})" if reply else ""),
            "look whether it is down for all; postoffice queue retry tries at once",
        )
    if len(dead) > SHOWN:
        report.note(f"{len(dead) - SHOWN} more destinations are unreachable or paused")
    return report.findings


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M} UTC"
