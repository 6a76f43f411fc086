"""Two real daemons over one store: a maildrop that is in use in one, and wanted in the other."""

from __future__ import annotations

import signal
import smtplib
from pathlib import Path

import pytest

CONFIGURATION = """\
hostname: mail.example.net
postmaster: postmaster@example.net
state: {state}
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]
  pop3: ["tcp:0:interface=127.0.0.1"]
  submission: []
  lmtp: []
pop3: {{in_use: wait, wait: 60}}
"""


@pytest.fixture
def daemons(start, tmp_path: Path):
    """Two, which share their state."""
    both = []
    for name in ("one", "another"):
        folder = tmp_path / name
        folder.mkdir()
        configuration = CONFIGURATION.format(state=tmp_path / "one" / "state")
        (folder / "postoffice.yaml").write_text(configuration)
        both.append(start(cwd=folder))
    return [daemon.open() for daemon in both]


def with_two_messages(daemon):
    account = daemon.new_account()
    with smtplib.SMTP("127.0.0.1", daemon.smtp) as client:
        for number in range(2):
            client.sendmail("a@example.org", [account.address], f"Subject: {number}\r\n\r\nx\r\n")
    return account


def log_in(raw, daemon, account):
    """A client that has said its name and its password, and has not heard yet what comes of it."""
    client = raw(daemon.pop3)
    assert client.hear()[0].startswith(b"+OK")
    assert client.ask(f"USER {account.address}".encode()).startswith(b"+OK")
    client.say(f"PASS {account.password}\r\n".encode())
    return client


def test_a_waiting_login_succeeds_when_the_other_session_ends(daemons, raw):
    one, another = daemons
    for how in ("quit", "reset", "killed"):
        account = with_two_messages(one)
        first = log_in(raw, one, account)
        assert first.hear()[0].startswith(b"+OK 2 messages")
        assert first.ask(b"DELE 1").startswith(b"+OK")
        with log_in(raw, another, account) as second:
            if how == "quit":
                assert first.ask(b"QUIT").startswith(b"+OK 1 deleted")
            elif how == "reset":
                first.reset()
            else:
                one.stop(signal.SIGKILL)
            left = 1 if how == "quit" else 2
            assert second.hear()[0].startswith(b"+OK %d messages" % left), how
            assert second.ask(b"QUIT").startswith(b"+OK 0 deleted")
    another.check()
