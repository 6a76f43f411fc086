"""postoffice trace: where is the mail that she sent at five past ten?"""

from __future__ import annotations

import gzip
import json
import time

import pytest

from postoffice.model.queued_message import QueuedMessage, QueuedRecipient
from postoffice.queue.pending_rows import PendingRows
from postoffice.queue.queue_db import QUEUE, QueueDB
from postoffice.testing import ImmediateExecutor
from tests.logs.test_story import LOG, Lines


@pytest.fixture
def log(office):
    """A log of two parts, in the folder of the office."""
    lines = Lines(LOG).octets
    (office / "twistd.log.1.gz").write_bytes(gzip.compress(b"\n".join(lines[:4]) + b"\n"))
    (office / "twistd.log").write_bytes(b"\n".join(lines[4:9]) + b"\n")
    return office


SINCE, UNTIL = "--since=2026-11-29T10:05:00+00:00", "--until=2026-11-29T10:05:03+00:00"


def test_where_is_the_mail_of_five_past_ten(run, log):
    said = run("trace", "ann@example.net", SINCE, UNTIL).output.splitlines()
    assert said[0] == "Message 18ec70cebb0.1"
    assert [line[-1] for line in said if line.startswith("  1")] == ["."] * 7
    assert said[said.index("  Now:") + 1 :] == [
        '    nobody@example.net: refused here ("550 5.1.1 unknown")',
        "    joe@example.net: in the maildrop",
        "    sue@example.net: in the maildrop",
        '    bob@example.org: sent to mx.example.org[192.0.2.9] ("250 2.0.0 ok")',
        '    eve@example.com: in the queue at mx.example.com[192.0.2.8] ("450 4.2.1 later")',
    ]


def test_what_waits_has_its_next_try(ask, log):
    eve = QueuedRecipient(address="eve@example.com")
    message = QueuedMessage(
        id="18ec70cebb0.1", sender="ann@example.net", recipients=(eve,), came=time.time()
    )
    with QueueDB(str(log / "state" / QUEUE)).opened() as db:
        [row] = PendingRows(db, ImmediateExecutor()).unsent("name", message)
        db.write([row._replace(next=1796000000.0)], [])
    [story] = ask("trace", "18ec70cebb0.1")["stories"]
    assert story["kind"] == "message"
    where = {one["recipient"]: one for one in story["where"]}
    assert where["eve@example.com"]["next_try"] == "2026-11-30T00:53:20+00:00"
    assert where["bob@example.org"]["state"] == "sent"
    assert story["events"][0]["event"] == "login"
    assert story["events"][0]["fields"]["account"] == "ann@example.net"


def test_nothing_found_and_no_log_are_refused(run, log):
    assert (
        "tells nothing of nobody@example.org" in run("trace", "nobody@example.org", status=1).output
    )
    assert "none.log cannot be read" in run("trace", "x", "--log", "none.log", status=1).output
    run("trace", "x", "--log", "twistd.log", "--journal", status=2)


def test_hostile_text_does_not_reach_the_terminal(run, log):
    line = (
        "2026-11-29T10:05:03+0000 [postoffice#info] message-taken id=18ec70cebb9.1 "
        'sender=<a@b.example> to=<c@d.example> helo="\\x1b[2J\\u202e" message_id="\x1b[2J"\n'
    )
    (log / "hostile.log").write_text(line + json.dumps({"MESSAGE": line}))
    said = run("trace", "18ec70cebb9.1", "--log", "hostile.log").output
    assert "\\x1b[2J\\u202e" in said
    assert all(one.isprintable() for one in said.splitlines())


def test_more_than_most_is_told(run, ask, log):
    assert "There is more" in run("trace", "ann@example.net", "--most", "1").output
    assert ask("trace", "ann@example.net", "--most", "1")["complete"] is False
