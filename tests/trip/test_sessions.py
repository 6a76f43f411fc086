"""The sessions of the real daemon, listed and ended by the command."""

from __future__ import annotations

import json
import poplib
import smtplib
import socket

import pytest

STRANGE = [
    b"\n",
    b"{}\n",
    b"[1]\n",
    b'"sessions"\n',
    b'{"command": "stop"}\n',
    b'{"command": []}\n',
    b"\xff\xfe\n",
    b"[" * 4000 + b"\n",
]


def data(done) -> dict:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def running(start, written):
    written()
    return start().open()


def test_sessions_are_listed_and_ended(running, command, tmp_path):
    running.domain("example.net")
    joe, ann = running.account("joe@example.net", "pw one"), running.account("ann@example.net", "x")
    assert (tmp_path / "state" / "control").stat().st_mode & 0o777 == 0o600
    stranger = smtplib.SMTP("127.0.0.1", running.smtp)
    clients = []
    for account in (joe, ann):
        client = poplib.POP3("127.0.0.1", running.pop3)
        client.user(account.address)
        client.pass_(account.password)
        clients.append(client)
    found = data(command("session", "list", "--json"))["sessions"]
    assert sorted((one["service"], one["account"], one["client"]) for one in found) == [
        ("pop3", "ann@example.net", "127.0.0.1"),
        ("pop3", "joe@example.net", "127.0.0.1"),
        ("smtp", "", "127.0.0.1"),
    ]
    assert {one["doing"] for one in found} == {"idle"}
    lines = command("session", "list").stdout.splitlines()
    assert lines[0].split() == ["SERVICE", "ACCOUNT", "CLIENT", "TLS", "SINCE", "DOING"]
    assert len(lines) == 6
    assert lines[-1] == "3 sessions"
    done = command("session", "end", "JOE@example.net", "--json")
    assert data(done) == {"account": "joe@example.net", "ended": 1}
    assert clients[0].file.readline().startswith(b"-ERR [SYS/TEMP]")
    assert clients[1].noop() == b"+OK"
    assert stranger.noop()[0] == 250
    again = poplib.POP3("127.0.0.1", running.pop3)
    again.user(joe.address)
    assert again.pass_(joe.password).startswith(b"+OK")
    assert command("session", "end", "nobody@example.net").stdout.startswith("0 sessions of ")
    for client in (*clients, again):
        client.close()
    stranger.close()


@pytest.mark.parametrize("left", [False, True])
def test_where_no_daemon_runs_that_is_said(written, command, tmp_path, left):
    written()
    (tmp_path / "state").mkdir(mode=0o700, exist_ok=True)
    if left:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "state" / "control"))
    for words in (("list",), ("end", "joe@example.net")):
        done = command("session", *words)
        assert done.returncode == 1
        assert "the daemon is not running" in done.stderr


def test_the_socket_of_a_daemon_that_was_killed_is_replaced(start, written, command):
    written()
    first = start().open()
    first.process.kill()
    first.process.wait()
    start().open()
    assert data(command("session", "list", "--json")) == {"sessions": []}


def test_strange_questions_are_answered_and_harm_nothing(running, command, tmp_path):
    for question in STRANGE:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "state" / "control"))
            client.sendall(question)
            answer = client.makefile("rb").read()
            assert b"error" in answer, question
    for garbage in (b"x" * 100_000, b""):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "state" / "control"))
            try:
                client.sendall(garbage)
            except OSError:
                continue
    assert data(command("session", "list", "--json")) == {"sessions": []}
    assert "Traceback" not in running.said


def logged_in(running, account, address=""):
    client = poplib.POP3("127.0.0.1", running.pop3)
    client.user(address or account.address)
    client.pass_(account.password)
    return client


def recipient(running, address):
    with smtplib.SMTP("127.0.0.1", running.smtp) as stranger:
        stranger.ehlo()
        stranger.mail("ann@example.org")
        return stranger.rcpt(address)


def test_a_disabled_account_is_out_at_once_until_enabled(running, command):
    joe = running.account("joe@example.net", "pw one")
    client = logged_in(running, joe)
    done = data(command("account", "disable", joe.address, "--json"))
    assert (done["changed"], done["ended"]) == (True, 1)
    assert client.file.readline().startswith(b"-ERR [SYS/TEMP]")
    client.close()
    with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\] this account is disabled"):
        logged_in(running, joe)
    running.wait_for(r"login-disabled .*service=pop3 client=127.0.0.1 .*user=joe@example.net")
    assert recipient(running, joe.address) == (550, b"5.2.1 This mailbox is disabled")
    data(command("account", "enable", joe.address, "--json"))
    assert recipient(running, joe.address)[0] == 250
    logged_in(running, joe).quit()


def test_a_renamed_account_finds_its_mail_by_the_new_name(running, command):
    joe = running.account("joe@example.net", "pw one")
    for _ in range(3):
        with smtplib.SMTP("127.0.0.1", running.smtp) as stranger:
            stranger.sendmail("ann@example.org", joe.address, "Subject: x\r\n\r\nx\r\n")
    client = logged_in(running, joe)
    before = client.uidl()[1]
    assert len(before) == 3
    done = data(command("account", "rename", joe.address, "jim@example.net", "--json"))
    assert done["ended"] == 1
    client.close()
    with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\]"):
        logged_in(running, joe)
    assert recipient(running, joe.address)[0] == 550
    stranger = running.account(joe.address, "pw two")
    assert recipient(running, joe.address)[0] == 250
    newcomers, renamed = (
        logged_in(running, stranger),
        logged_in(running, joe, "jim@example.net"),
    )
    assert (newcomers.uidl()[1], renamed.uidl()[1]) == ([], before)
    for one in (newcomers, renamed):
        one.quit()
