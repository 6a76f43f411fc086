"""A backup of the running daemon comes back on an empty machine: same mail, UIDLs, passwords."""

from __future__ import annotations

import json
import os
import poplib
import pwd
import signal
import smtplib
import sys
import tempfile
import threading
from pathlib import Path

import pytest

COMMAND = "from postoffice.cli import main; main(prog_name='postoffice')"
#: Seconds after which something will never happen.
NEVER = 60

JOE = "joe@example.net"
TEXT = "Subject: {0}\r\n\r\nThis is {0}\r\n"


def uidls(office, account) -> list[str]:
    """Of what lies in a maildrop; it stays there."""
    client = poplib.POP3("127.0.0.1", office.pop3, timeout=NEVER)
    client.user(account.address)
    client.pass_(account.password)
    found = [line.split()[1].decode() for line in client.uidl()[1]]
    client.quit()
    return found


def post(office, what: str, *accounts) -> None:
    with smtplib.SMTP("127.0.0.1", office.smtp, timeout=NEVER) as client:
        people = [one.address for one in accounts]
        client.sendmail("mary@example.com", people, TEXT.format(what))


def test_a_backup_comes_back_on_an_empty_machine(start, written, command, tmp_path):
    written()
    office = start().open()
    joe, ann = office.account("joe@example.net", "pw one"), office.account("ann@example.net", "x")
    for number in range(5):
        post(office, f"letter {number}", joe, ann)
    before = {one.address: uidls(office, one) for one in (joe, ann)}

    # while mail keeps coming in, and goes
    ended, posted = threading.Event(), threading.Event()

    def go_on() -> None:
        number = 0
        while not ended.is_set():
            post(office, f"later {number}", ann)
            number += 1
            posted.set()

    thread = threading.Thread(target=go_on)
    thread.start()
    assert posted.wait(NEVER)
    try:
        for target in ("b.tar.gz", "b"):
            done = command("backup", target, "--json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["complaints"] == []
    finally:
        ended.set()
        thread.join(NEVER)
    office.check()

    for target in ("b.tar.gz", "b"):
        machine = tmp_path / f"machine of {target}"
        machine.mkdir()
        place = ("--config", str(machine / "etc" / "postoffice.yaml"))
        done = command("restore", target, *place, "--state", str(machine / "var"))
        assert done.returncode == 0, done.stderr
        again = start("postoffice", *place, cwd=machine).open()
        assert uidls(again, joe) == before[joe.address]
        there = uidls(again, ann)
        assert there[:5] == before[ann.address]
        assert len(there) == len(set(there))
        again.folder = machine
        assert again.collect(joe)[0].endswith(b"\r\nThis is letter 0\r\n")
        post(again, "after", joe)
        assert len(uidls(again, joe)) == 1
        again.check()
        assert "recovered" not in again.said


def test_one_maildrop_comes_back_while_it_runs(start, written, command):
    written()
    office = start().open()
    joe = office.account("joe@example.net", "pw one")
    for number in range(3):
        post(office, f"letter {number}", joe)
    before = uidls(office, joe)
    assert command("backup", "b.tar").returncode == 0
    assert len(office.collect(joe)) == 3
    post(office, "later", joe)
    (later,) = uidls(office, joe)
    session = poplib.POP3("127.0.0.1", office.pop3, timeout=NEVER)
    session.user(joe.address)
    session.pass_(joe.password)
    refused = command("restore", "b.tar", "--maildrop", joe.address)
    assert refused.returncode == 1
    assert "a POP3 session holds it" in refused.stderr
    session.quit()
    done = command("restore", "b.tar", "--maildrop", joe.address, "--json")
    assert json.loads(done.stdout)["maildrops"][0]["messages"] == 3
    assert sorted(uidls(office, joe)) == sorted([*before, later])
    done = command("restore", "b.tar")
    assert done.returncode == 1
    assert "--force" in done.stderr
    done = command("restore", "b.tar", "--force")
    assert done.returncode == 1
    assert "runs on" in done.stderr
    office.check()


def test_a_backup_that_is_ended_leaves_nothing(start, written, command, launch, tmp_path):
    written()
    assert command("domain", "add", "example.net").returncode == 0
    assert command("account", "add", "joe@example.net", "--generate").returncode == 0
    drop = tmp_path / "state" / "maildrops" / "example.net" / "joe"
    for box in ("new", "cur", "tmp"):
        (drop / box).mkdir(parents=True)
    (drop / "new" / "1.one").write_bytes(b"one\r\n")
    held = (
        "from postoffice.backup.writer import BackupWriter\n"
        "def wait(*_):\n"
        "    print('copying', flush=True)\n"
        "    import signal; signal.pause()\n"
        "BackupWriter.message = wait\n"
    )
    with launch([sys.executable, "-c", held + COMMAND, "backup", "b.tar"], tmp_path) as backup:
        backup.wait_for("copying")
        os.kill(backup.pid, signal.SIGTERM)
        assert backup.end() == 1
    assert [name for name in os.listdir(tmp_path) if name.startswith("b.")] == []


@pytest.fixture
def passable():
    """A folder that every user can pass, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("form", ["b.tar.gz", "b"])
def test_root_keeps_the_backup_and_the_user_the_state(command, passable, form):
    """The state is read and written as its user; keys that root alone can read are in it."""

    def run(*words: str) -> str:
        done = command(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    user = pwd.getpwnam("nobody").pw_uid
    etc, state = passable / "etc", passable / "state"
    words = ("--hostname", "mail.example.net", "--tls-self-signed", "--user", "nobody")
    run("init", str(etc), "--state", str(state), *words)
    config = ("--config", str(etc / "postoffice.yaml"))
    run("domain", "add", "example.net", *config)
    run("account", "add", JOE, "--generate", *config)
    os.chown(etc / "tls" / "key.pem", 0, 0)
    os.chmod(etc / "tls" / "key.pem", 0o600)
    backups = passable / "backups"
    backups.mkdir(mode=0o700)
    for _ in range(2):
        run("backup", str(backups / form), *config)
    (backups / form).rename(backups / f"old-{form}")
    for path in (backups, *backups.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_mode & 0o077) == (0, 0), path
    assert {path.stat().st_uid for path in state.rglob("*")} == {user}
    there = ("--config", str(passable / "there" / "postoffice.yaml"))
    run("restore", str(backups / f"old-{form}"), *there, "--state", str(passable / "new"))
    for path in (passable / "new", *(passable / "new").rglob("*")):
        assert (path.stat().st_uid, path.stat().st_mode & 0o077) == (user, 0), path
    key = passable / "there" / "tls" / "key.pem"
    assert key.read_bytes() == (etc / "tls" / "key.pem").read_bytes()
    assert key.stat().st_mode & 0o027 == 0
    assert JOE in run("account", "list", *there)
    run("restore", str(backups / f"old-{form}"), "--maildrop", JOE, *there)
    assert {path.stat().st_uid for path in (passable / "new").rglob("*")} == {user}
